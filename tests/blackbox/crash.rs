//! The daemon ends in the middle of its work, gently or not, and starts again.

use crate::harness::PROJECT;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::creates;
use crate::harness::write_some;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::time::Duration;
use tokio::time::Instant;

/// Of permissions, roles and tenants ten to create and ten to update or rename: 60 changes.
async fn sixty_changes(world: &World) {
    // The first five are renamed.
    let old_name = |kind: &str, n: usize| if n < 5 { format!("old-{kind}{n}") } else { format!("{kind}{n}") };
    let old = |n: usize| json!({ "name": old_name("p", n), "description": "old" });
    let old_role = |n: usize| json!({ "name": old_name("r", n), "permissionNames": ["old-p0"] });
    let old_tenant = |n: usize| json!({ "id": format!("t{n}"), "name": format!("Old {n}") });
    let list = |item: &dyn Fn(usize) -> serde_json::Value| (0..10).map(item).collect::<Vec<_>>();
    world.set_live(json!({ "permissions": list(&old), "roles": list(&old_role), "tenants": list(&old_tenant) })).await;
    write_some(world, 20, 20, 20);
    for (file, kind) in [("permissions.yaml", "p"), ("roles.yaml", "r")] {
        let text = crate::harness::read(&world.path("repo").join(file));
        let renamed = (0..5).fold(text, |text, n| {
            text.replace(&format!("name: {kind}{n},"), &format!("name: {kind}{n}, renamedFrom: old-{kind}{n},"))
        });
        world.write(file, &renamed);
    }
}

async fn assert_equal_to_the_repo(world: &World, run: u64) {
    let live = world.live().await;
    let count = |kind: &str, field: &str, prefix: &str| {
        let all = live[kind].as_array().unwrap().iter();
        all.filter(|entity| entity[field].as_str().unwrap().starts_with(prefix)).count()
    };
    assert_eq!(count("permissions", "description", "permission "), 20, "run {run}");
    assert_eq!(count("tenants", "name", "Tenant "), 20, "run {run}");
    assert_eq!(count("permissions", "name", "old-") + count("roles", "name", "old-"), 0, "run {run}");
    for n in 0..20 {
        let name = format!("r{n}");
        let mut roles = live["roles"].as_array().unwrap().iter().filter(|role| role["name"] == name);
        assert_eq!(roles.next().unwrap()["permissionNames"], json!([format!("p{n}")]), "run {run}");
        assert_eq!(roles.next(), None, "run {run}");
    }
}

/// Kills at instants that the seed draws, and looks at what the next start makes of it.
async fn kill_and_restart(runs: std::ops::Range<u64>) {
    let simulator = vec!["--rate-limit=none".to_owned(), "--latency=25ms:0.5".to_owned()];
    let mut world = World::with(Setup { simulator, ..Setup::default() }).await;
    let mut interrupted = 0;
    for run in runs {
        fs::remove_dir_all(world.path("state")).ok();
        sixty_changes(&world).await;
        world.sim(Method::DELETE, "log", None).await;
        let mut rng = fastrand::Rng::with_seed(run);
        let mut kills = 0;
        for _ in 0..rng.usize(1..=2) {
            let (asked, written) = (world.log().await.len(), world.writes().await.len());
            world.start().await;
            // Some at any instant of the start, some once it asks, some in the middle of the drain: on a busy machine each takes its time.
            let at_most = match rng.u8(0..3) {
                0 => 350,
                1 => {
                    world.until("asking", async |world| world.log().await.len() > asked).await;
                    350
                }
                _ => {
                    let is_done = async |world: &World| world.is_converged().await;
                    world
                        .until("writing", async |world| {
                            world.writes().await.len() > written || written > 0 && is_done(world).await
                        })
                        .await;
                    100
                }
            };
            tokio::time::sleep(Duration::from_millis(rng.u64(0..at_most))).await;
            world.kill().await;
            kills += 1;
        }
        let written = world.writes().await.len();
        interrupted += usize::from(written > 0 && written < 32);

        world.converge().await;

        let log = world.log().await;
        for (key, (created, refused)) in creates(&log) {
            assert!(created <= 1, "run {run}: {key} was created {created} times");
            // A request that was under way at the kill may land after the next start has looked.
            assert!(refused <= kills, "run {run}: {key} was refused {refused} times");
        }
        assert_equal_to_the_repo(&world, run).await;
        world.assert_nothing_left().await;
        world.stop().await;
    }
    assert!(interrupted >= 3, "only {interrupted} runs were interrupted in the middle of the drain");
}

#[tokio::test]
async fn killed_at_any_instant_it_converges_after_the_restart_without_duplicates() {
    kill_and_restart(0..10).await;
}

#[tokio::test]
async fn killed_at_other_instants_it_converges_as_well() {
    kill_and_restart(10..20).await;
}

#[tokio::test]
async fn sigterm_in_a_drain_ends_within_seconds_and_leaves_nothing_half_known() {
    let simulator = vec!["--rate-limit=none".to_owned(), "--latency=150ms".to_owned()];
    let top = vec!["concurrency: 2".to_owned()];
    let mut world = World::with(Setup { simulator, top, ..Setup::default() }).await;
    write_some(&world, 2, 2, 30);
    world.start().await;
    world.until("in the middle", async |world| world.live().await["tenants"].as_array().unwrap().len() >= 5).await;

    let start = Instant::now();
    let status = world.stop().await;

    assert_eq!(status.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let seq = world.newest_seq().await;
    let so_far = creates(&world.log().await);
    assert!(so_far.len() < 30, "it stopped in the middle: {}", so_far.len());
    assert!(so_far.values().all(|counts| *counts == (1, 0)), "what was under way was finished: {so_far:?}");
    world.converge().await;
    let creates = creates(&world.log().await);
    assert_eq!(creates.len(), 34);
    assert!(creates.values().all(|counts| *counts == (1, 0)), "{creates:?}");
    assert!(world.newest_seq().await > seq);
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let mut world = World::new().await;
    write_some(&world, 0, 0, 1);
    world.reconfigure(|setup| setup.top.push("requestTimeout: 50s".to_owned()));
    world.faults(json!([{ "match": { "path": "/v1/mgmt/tenant/create" }, "fault": "hang" }])).await;
    world.start().await;
    world.until("hanging", async |world| !world.writes().await.is_empty()).await;

    world.daemon().signal(Signal::TERM);
    world.until("stopping", async |world| world.daemon().said("a second signal stops at once")).await;
    let start = Instant::now();
    world.daemon().signal(Signal::TERM);
    let status = world.wait_for_end().await;

    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(1), "the hanging call was not waited for");
}

async fn twelve_adopted(world: &mut World) {
    let live: Vec<_> =
        (0..12).map(|n| json!({ "name": format!("p{n}"), "description": format!("permission {n}") })).collect();
    world.set_live(json!({ "permissions": live })).await;
    write_some(world, 12, 0, 0);
    world.converge().await;
    assert!(world.writes().await.is_empty());
}

#[tokio::test]
async fn ownership_outlives_a_restart() {
    let mut world = World::new().await;
    twelve_adopted(&mut world).await;
    world.kill().await;

    world.set_live(json!({})).await;
    world.start().await;

    world.until("held", async |world| world.project().await["held"]["reason"] == "observation_shrank").await;
    assert!(world.writes().await.is_empty(), "what it owned is missing: that is not believed");
}

#[tokio::test]
async fn a_corrupt_database_is_moved_aside_and_said() {
    let mut world = World::new().await;
    twelve_adopted(&mut world).await;
    world.stop().await;
    for file in ["state.db-wal", "state.db-shm"] {
        fs::remove_file(world.path("state").join(file)).ok();
    }
    fs::write(world.path("state/state.db"), "this was a database once, and it is none any more\n".repeat(200)).unwrap();

    world.converge().await;

    assert!(world.daemon().said("the state database is damaged: moved aside"));
    let aside = |name: &str| name.starts_with("state.db.corrupt-");
    let names: Vec<String> = fs::read_dir(world.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().any(|name| aside(name)), "{names:?}");
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_had_is_a_clear_start_error() {
    let mut world = World::new().await;
    fs::write(world.path("file"), "").unwrap();
    let below_a_file = world.path("file/state");
    world.reconfigure(|setup| setup.top.push(format!("state: {{ path: {} }}", below_a_file.display())));

    let output = world.run(&["run"]).await;

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot create the state directory"), "{stderr}");
    assert!(stderr.contains(&below_a_file.display().to_string()), "{stderr}");
    assert!(world.log().await.is_empty());
}

#[tokio::test]
async fn one_daemon_per_state_directory() {
    let mut world = World::new().await;
    write_some(&world, 1, 0, 0);
    world.converge().await;

    let second = world.run(&["run"]).await;
    let apply = world.run(&["apply", "--auto-approve"]).await;

    for output in [second, apply] {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("another descope-gitops uses the state directory"), "{stderr}");
        assert!(stderr.contains("ask the running daemon to do it, or stop it first"), "{stderr}");
    }
    world.assert_nothing_left().await;
    world.kill().await;
    world.converge().await;
}

#[tokio::test]
async fn a_daemon_that_cannot_listen_says_so() {
    let mut world = World::new().await;
    world.start().await;
    let address = world.daemon_url().await.replace("http://", "");
    let other = world.path("other-state");
    let mut command = world.command(&["run", "--listen", &address, "--state"]);
    command.arg(other);
    let second = Process::start(command);

    second.wait_for_line("the reason", |line| line.contains(&address) && line.contains("\"ERROR\"")).await;
    assert!(!second.said("panicked"), "{PROJECT}");
}
