//! A state directory that cannot be written, at the start and under a running daemon.

use crate::harness::Process;
use crate::harness::World;
use crate::harness::missing;
use rustix::process::Signal;
use rustix::process::geteuid;
use serde_json::Value;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::process::Output;

/// Root writes where the mode forbids it, unless it gives up its capabilities.
const UNPRIVILEGED: [&str; 3] = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];

pub fn unprivileged(world: &World, args: &[&str]) -> Command {
    if geteuid().is_root() { world.command_under(&UNPRIVILEGED, args) } else { world.command(args) }
}

pub fn can_be_unprivileged() -> bool {
    if !geteuid().is_root() {
        return true;
    }
    let dropped = Command::new(UNPRIVILEGED[0]).args(&UNPRIVILEGED[1..]).arg("true").output();
    let is_possible = dropped.is_ok_and(|output| output.status.success());
    if !is_possible {
        missing("no setpriv: root is not kept out of a read-only directory");
    }
    is_possible
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// It does not start, and says so in one line that names the place and the way out.
fn assert_one_clear_error(output: &Output, case: &str, place: &Path, remedy: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{case}: {stderr}");
    let said: Vec<&str> = stderr.lines().collect();
    assert_eq!(said.len(), 1, "{case}: {stderr}");
    let is_of_a_log = said[0].starts_with('{') && said[0].contains("the daemon ends with an error");
    assert!(said[0].starts_with("descope-gitops: ") || is_of_a_log, "{case}: {stderr}");
    assert!(said[0].contains(remedy), "{case}: {stderr}");
    assert!(said[0].contains(&place.display().to_string()), "{case}: {stderr}");
}

async fn healthz_of_the_state(world: &World) -> Value {
    let health: Value = serde_json::from_str(&world.open("/healthz").await.1).unwrap();
    let components = health["components"].as_array().unwrap();
    components.iter().find(|component| component["name"] == "state").unwrap().clone()
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_is_one_clear_start_error() {
    if !can_be_unprivileged() {
        return;
    }
    let mut world = World::new().await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    world.converge().await;
    assert!(world.stop().await.success());
    assert!(!world.path("state/state.db-wal").exists(), "it was closed");
    assert_refused_but_read(&world).await;

    // What a killed one left lies there to be used, and could not be removed later.
    world.converge().await;
    world.kill().await;
    assert!(world.path("state/state.db-wal").exists(), "it was not closed");
    assert_refused_but_read(&world).await;

    world.converge().await;
    world.assert_nothing_left().await;
}

async fn assert_refused_but_read(world: &World) {
    let state = world.path("state");
    let [database, key, lock] = ["state.db", "fingerprint.key", "lock"].map(|name| state.join(name));
    let elsewhere = world.path("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    let seq = world.newest_seq().await;

    let write = "give this user write access to the state directory";
    let cases = [
        ("read-only directory", &state, 0o500, &database, write),
        ("closed directory", &state, 0o000, &lock, write),
        ("read-only database", &database, 0o400, &database, write),
        ("unreadable database", &database, 0o000, &database, write),
        ("read-only lock", &lock, 0o400, &lock, write),
        ("unreadable key", &key, 0o000, &key, "let this user read"),
    ];
    for (case, path, mode, place, remedy) in cases {
        let before = fs::metadata(path).unwrap().permissions();
        set_mode(path, mode);
        for command in [&["run"][..], &["apply", "--auto-approve"]] {
            let output = World::end_of(unprivileged(world, command)).await;
            assert_one_clear_error(&output, case, place, remedy);
        }
        fs::set_permissions(path, before).unwrap();
    }
    set_mode(&elsewhere, 0o500);
    let inside = elsewhere.join("state");
    let output = World::end_of(unprivileged(world, &["run", "--state", inside.to_str().unwrap()])).await;
    assert_one_clear_error(&output, "no directory", &inside, "name another with --state");
    set_mode(&elsewhere, 0o700);
    assert_eq!(world.requests_since(seq).await, [] as [Value; 0], "nothing was asked without a state");

    // Whoever only looks needs no more than to read.
    set_mode(&state, 0o500);
    for command in [&["plan"][..], &["audit"]] {
        let output = World::end_of(unprivileged(world, command)).await;
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    set_mode(&state, 0o700);
}

/// The files are open by then: what the mode forbids is to make new ones.
#[tokio::test]
async fn a_directory_that_loses_its_write_bit_under_the_daemon_costs_nothing() {
    if !can_be_unprivileged() {
        return;
    }
    let mut world = World::new().await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    world.daemon = Some(Process::start(unprivileged(&world, &["run"])));
    world.converge().await;
    set_mode(&world.path("state"), 0o500);

    world.write("more.yaml", "roles:\n  - name: b\n");
    world.converge_on(2).await;
    let trail = world.run_json(&["audit", "-o", "json", "--id", "b"], 0).await;
    assert_eq!(trail["changes"][0]["outcome"], "ok");
    assert_eq!(healthz_of_the_state(&world).await["status"], "ok");
    world.kill().await;

    // The next start would have to make files.
    set_mode(&world.path("state"), 0o700);
    world.daemon = Some(Process::start(unprivileged(&world, &["run"])));
    world.converge().await;
    world.assert_nothing_left().await;
}

/// What a file system does that went read-only because of an error: files that are open stay open, and every write to
/// them fails. No mount option does that on purpose, so the calls are made to fail.
struct ReadOnly(Process);

impl ReadOnly {
    async fn begin(world: &World) -> Option<Self> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null"]);
        strace.args(["-e", "trace=write,pwrite64,ftruncate,fsync,fdatasync", "-e"]);
        strace.arg("inject=write,pwrite64,ftruncate:error=EROFS");
        for file in ["state.db", "state.db-wal", "state.db-shm", "state.db-journal"] {
            strace.arg("-P").arg(world.path("state").join(file));
        }
        strace.arg("-p").arg(world.daemon().id().to_string());
        let found = Command::new("strace").arg("-V").output();
        if !found.is_ok_and(|output| output.status.success()) {
            missing("no strace: no write is made to fail");
            return None;
        }
        let mut strace = Process::start(strace);
        // Attached to every thread, or refused.
        let threads = format!("/proc/{}/task", world.daemon().id());
        let is_traced = |thread: fs::DirEntry| {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        while !fs::read_dir(&threads).unwrap().all(|thread| is_traced(thread.unwrap())) {
            if strace.has_ended() {
                eprintln!("skipped: this kernel lets nobody trace: {}", strace.tail(3));
                return None;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Some(Self(strace))
    }

    async fn end(mut self) {
        self.0.signal(Signal::TERM);
        self.0.ended().await;
    }
}

#[tokio::test]
async fn a_disk_that_turns_read_only_stops_creates_and_deletes_loudly_until_it_can_be_written_again() {
    let mut world = World::with(crate::durability::sync()).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: one }\n  - name: b\n");
    world.converge().await;
    assert_eq!(healthz_of_the_state(&world).await["status"], "ok");
    let Some(read_only) = ReadOnly::begin(&world).await else { return };

    world.write("permissions.yaml", "permissions:\n  - name: new\n");
    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n");
    world.until("updated", async |world| world.entity("roles", "a").await.unwrap()["description"] == "two").await;
    world.until("retrying", async |world| world.has_problem("permissions", "new", "retrying").await).await;
    world.pass().await;
    world.pass().await;
    assert!(world.entity("permissions", "new").await.is_none());
    assert!(world.entity("roles", "b").await.is_some());
    // Said everywhere.
    let problem = world.problem("permissions", "new").await.unwrap();
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains("nothing is created, renamed or deleted meanwhile"), "{problem}");
    assert!(message.contains("the disk of the state directory fails"), "{problem}");
    let health = healthz_of_the_state(&world).await;
    assert_eq!((&health["status"], &health["reason"]), (&"degraded".into(), &"cannot be written".into()), "{health}");
    assert_eq!(world.metric("converged{project=\"default\"}").await, Some(0.0));
    assert_eq!(world.metric("state_writable").await, Some(0.0));
    assert!(world.daemon().said("nothing is created, renamed or deleted meanwhile"), "{}", world.daemon().tail(20));
    assert!(world.daemon().said("cannot write down what left the files; nothing is deleted"));
    assert_eq!(world.open("/livez").await.0, 200, "a restart would not mend it");

    read_only.end().await;
    world.until("created", async |world| world.entity("permissions", "new").await.is_some()).await;
    world.pass().await;
    world.until("deleted", async |world| world.entity("roles", "b").await.is_none()).await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(healthz_of_the_state(&world).await["status"], "ok");
    assert_eq!(world.metric("state_writable").await, Some(1.0));
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "permissions"], 0).await;
    assert_eq!(trail["changes"].as_array().unwrap().last().unwrap()["outcome"], "ok");
    assert!(world.stop().await.success());
    world.converge().await;
    world.assert_nothing_left().await;
}
