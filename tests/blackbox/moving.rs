//! The state moves from a directory into a database and back, and the work goes on where it was.

use crate::harness::KEY;
use crate::harness::World;
use crate::harness::permission;
use crate::postgres::Postgres;
use crate::replicas::NEVER;
use crate::replicas::Replicas;
use crate::replicas::permissions;
use rustix::process::Signal;
use std::fmt::Write;
use std::fs;
use std::process::Output;

async fn copy(all: &Replicas, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = all.world.run(&[&["state", "copy"], args].concat()).await;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

async fn stop(all: &mut Replicas) {
    let mut gone = all.running.remove(0);
    gone.process.signal(Signal::TERM);
    assert!(gone.process.ended().await.success());
}

#[tokio::test]
async fn a_state_moves_into_a_database_and_back_and_nothing_is_done_again() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, NEVER, &[]).await;
    let shared = |all: &mut Replicas, is_shared: bool| {
        all.world.reconfigure(|setup| {
            let line = setup.top.iter().position(|line| line.contains("BLACKBOX_DATABASE")).unwrap();
            let text = setup.top[line].trim_start_matches("# ").to_owned();
            setup.top[line] = if is_shared { text } else { format!("# {text}") };
        });
    };
    shared(&mut all, false);
    all.world.write("some.yaml", &permissions(4));
    all.world.converge().await;
    let state = all.world.path("state").to_str().unwrap().to_owned();
    let into = ["--from", &state, "--to-env", "BLACKBOX_DATABASE", "--key-env", "BLACKBOX_FINGERPRINTS"];

    let (code, _, said) = copy(&all, &into).await;
    assert!(code == Some(1) && said.contains("another descope-gitops uses the state directory"), "{said}");
    all.world.stop().await;
    let (code, _, said) = copy(&all, &into).await;
    assert!(code == Some(1) && said.contains("the key that was given is not the one"), "{said}");
    let mut hex = String::new();
    fs::read(all.world.path("state/fingerprint.key"))
        .unwrap()
        .iter()
        .for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    all.world.environment[1].1.clone_from(&hex);
    let (code, told, said) = copy(&all, &into).await;
    assert!(code == Some(0) && told.contains("4 owned") && told.contains("4 audit"), "{told}{said}");
    assert!(!told.contains(&hex) && !told.contains(KEY), "a secret");
    let (code, _, said) = copy(&all, &into).await;
    assert!(code == Some(1) && said.contains("the database is not empty: its table project has rows, which would be mixed with others; name an empty database"), "{said}");

    shared(&mut all, true);
    all.start().await;
    all.converge_on(4).await;
    all.world.write("some.yaml", &permissions(5));
    all.converge_on(5).await;
    let back = all.world.path("back").to_str().unwrap().to_owned();
    let home = ["--from-env", "BLACKBOX_DATABASE", "--to", &back, "--key-env", "BLACKBOX_FINGERPRINTS"];
    let (code, _, said) = copy(&all, &home).await;
    assert!(code == Some(1) && said.contains("holds project") && said.contains("stop all replicas"), "{said}");
    stop(&mut all).await;
    let (code, told, said) = copy(&all, &home).await;
    assert!(code == Some(0) && told.contains("5 owned") && told.contains("5 audit"), "{told}{said}");

    shared(&mut all, false);
    fs::rename(&state, all.world.path("before")).unwrap();
    fs::rename(&back, &state).unwrap();
    all.world.converge().await;
    assert_eq!(all.world.told(&[]).await.len(), 5);
    all.assert_nothing_doubled(5).await;
    for wrong in [&["--from", &state][..], &["--from-env", "BLACKBOX_DATABASE", "--to", &back], &into[..2], &[]] {
        assert_eq!(copy(&all, wrong).await.0, Some(64), "{wrong:?}");
    }
    let (code, _, said) = copy(&all, &["--from", &state, "--to-env", "NOWHERE"]).await;
    assert!(code == Some(64) && said.contains("--to-env: the environment variable NOWHERE is not set"), "{said}");
}

#[tokio::test]
async fn a_backup_that_was_made_beside_the_daemon_is_restored_though_that_was_killed() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("before", "first"));
    world.converge().await;
    let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
    let (state, backup, left) = (path("state"), path("backup"), path("left"));
    let copy = async |world: &World, from: &str, to: &str| {
        let ran = world.run(&["state", "copy", "--from", from, "--to", to]).await;
        (ran.status.code(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
    };

    let (code, said) = copy(&world, &state, &backup).await;
    assert!(code == Some(0) && said.contains("1 owned"), "{said}");
    world.write("b.yaml", &permission("after", "first"));
    world.until_live("after", "first").await;
    world.kill().await;
    assert!(world.path("state/state.db-wal").exists());
    let (code, said) = copy(&world, &backup, &state).await;
    assert!(code == Some(1) && said.contains("is not empty"), "{said}");
    fs::rename(&state, &left).unwrap();
    let (code, said) = copy(&world, &backup, &state).await;
    assert!(code == Some(0) && said.contains("1 owned"), "{said}");

    world.remove("b.yaml");
    world.converge().await;
    assert!(world.entity("permissions", "after").await.is_some(), "made after the backup, so not known to be ours");
    assert_eq!(world.told(&[]).await.len(), 1);
}
