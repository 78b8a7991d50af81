//! The state directory under attack: full, read-only, damaged, lost, of a newer release.

use crate::harness::PROJECT;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use reqwest::Method;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::prlimit;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub fn sync() -> Setup {
    let guards = "guards: { maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    Setup { project, ..Setup::default() }
}

fn roles(names: &[&str]) -> String {
    names.iter().fold("roles:\n".to_owned(), |text, name| text + &format!("  - name: {name}\n"))
}

/// The daemon, which from `limit` on may write no file beyond so many bytes: what a full disk or a quota does.
pub fn start_limited(world: &mut World) {
    // Ignored, so that the write fails instead.
    let limited = world.command_under(&["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""], &["run"]);
    world.daemon = Some(Process::start(limited));
}

pub fn limit(world: &World, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(world.daemon().pid()), Resource::Fsize, limit).unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_creates_and_deletes_loudly_while_updates_go_on_until_there_is_room() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: one }\n  - name: b\n");
    start_limited(&mut world);
    world.converge().await;
    limit(&world, Some(4096));

    world.write("permissions.yaml", "permissions:\n  - name: new\n");
    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n");
    world.until("updated", async |world| world.entity("roles", "a").await.unwrap()["description"] == "two").await;
    world.until("said", async |world| world.daemon().said("nothing is created, renamed or deleted meanwhile")).await;
    world.pass().await;
    world.pass().await;
    assert!(world.entity("permissions", "new").await.is_none());
    assert!(world.entity("roles", "b").await.is_some());
    assert!(!world.is_converged().await);
    assert!(world.daemon().said("the disk of the state directory"), "{}", world.daemon().tail(20));

    limit(&world, None);
    world.until("created", async |world| world.entity("permissions", "new").await.is_some()).await;
    world.pass().await;
    world.until("deleted", async |world| world.entity("roles", "b").await.is_none()).await;
    world.until("converged", async |world| world.is_converged().await).await;
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "permissions"], 0).await;
    assert_eq!(trail["changes"].as_array().unwrap().last().unwrap()["outcome"], "ok");
}

/// Whoever made room and restarted at once had a history that looked whole.
#[tokio::test]
async fn a_history_with_a_gap_says_so_after_a_restart_too() {
    says_what_it_lacks(async |world| {
        limit(world, None);
        world.stop().await;
    })
    .await;
}

/// It came a minute later at the soonest, and with whatever was written next.
#[tokio::test]
async fn a_history_with_a_gap_says_so_soon_after_there_is_room() {
    says_what_it_lacks(async |world| {
        limit(world, None);
        world.pass().await;
        let is_told = async |world: &World| {
            let (_, body) = world.ask(Method::GET, "/api/v1/history?of=passes").await;
            serde_json::from_str::<Value>(&body).unwrap()["gaps"].as_array().unwrap().len() == 1
        };
        world.until("told", is_told).await;
        world.stop().await;
    })
    .await;
}

/// What was known of it was gone with the process.
#[tokio::test]
async fn a_history_with_a_gap_says_so_though_there_was_no_room_until_the_end() {
    says_what_it_lacks(async |world| {
        world.stop().await;
    })
    .await;
    says_what_it_lacks(async |world| world.kill().await).await;
}

/// `ends` is how the daemon ends, after a time in which the disk was full.
async fn says_what_it_lacks(ends: impl AsyncFnOnce(&mut World)) {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: one }\n");
    start_limited(&mut world);
    world.converge().await;
    limit(&world, Some(4096));
    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n");
    world.until("updated", async |world| world.entity("roles", "a").await.unwrap()["description"] == "two").await;
    world.until("said", async |world| world.daemon().said("cannot write the state; updates go on without it")).await;

    ends(&mut world).await;
    world.start().await;

    world.converge().await;
    let trail = world.run_json(&["audit", "-o", "json"], 0).await;
    let gaps: Vec<&Value> = trail["changes"].as_array().unwrap().iter().filter(|row| row["action"] == "gap").collect();
    assert_eq!(gaps.len(), 1, "{trail}");
    let (_, body) = world.ask(Method::GET, "/api/v1/history?of=passes").await;
    let passes: Value = serde_json::from_str(&body).unwrap();
    let [gap] = passes["gaps"].as_array().unwrap().as_slice() else { panic!("{passes}") };
    assert_eq!((&gap["project"], &gap["until"]), (&json!("default"), &gaps[0]["at"]), "{passes}");
    assert!(gap["since"].as_str() <= gap["until"].as_str(), "{passes}");
    if let Some(browser) = crate::page::browser() {
        let expect =
            ["not whole", "until then not everything could be written down: passes and writes may be missing here."];
        let look = json!({ "name": "gap", "expect": expect, "human": true });
        let page = browser.start_at(&(world.daemon_url().await + "/"), &world, "look", &look);
        crate::page::end(page, "gap").await;
    }
    let (_, body) = world.ask(Method::GET, "/api/v1/history?of=passes&outcome=failed").await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["gaps"], passes["gaps"], "{body}");
    // What may be missing may be of anything.
    for narrow in ["kind=roles&id=a", "kind=roles", "id=a", "outcome=ok", "revision=abc"] {
        let (_, body) = world.ask(Method::GET, &format!("/api/v1/history?of=changes&{narrow}")).await;
        let rows: Value = serde_json::from_str(&body).unwrap();
        let is_gap = |row: &&Value| row["action"] == "gap";
        assert_eq!(rows["changes"].as_array().unwrap().iter().filter(is_gap).count(), 1, "{narrow}: {body}");
    }
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "roles", "--id", "a"], 0).await;
    assert!(trail["changes"].as_array().unwrap().iter().any(|row| row["action"] == "gap"), "{trail}");
    if let Some(browser) = crate::page::browser() {
        let look = json!({ "name": "of-one", "hash": "#/default/roles/a", "expect": ["a newer one may be missing"], "human": true, "in": "#resource" });
        let page = browser.start_at(&(world.daemon_url().await + "/"), &world, "look", &look);
        crate::page::end(page, "of-one").await;
    }
}

/// It failed as a whole, and the changes that it was to stop went on.
#[tokio::test]
async fn a_suspension_holds_on_a_full_disk_and_survives_a_restart_once_there_is_room() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: one }\n");
    start_limited(&mut world);
    world.converge().await;
    limit(&world, Some(4096));
    let writes = world.writes().await.len();
    let url = world.daemon_url().await;

    let output = world.run(&["suspend", "--for", "1h", "--url", &url]).await;
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("it ends with the daemon while it cannot be written down"), "{stderr}");
    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n");
    world.until("planned", async |world| world.project().await["lastPass"]["changes"] == 1).await;
    world.pass().await;
    assert_eq!(world.writes().await.len(), writes);
    assert!(world.project().await["suspendedUntil"].is_string());

    limit(&world, None);
    world.until("written down", async |world| world.daemon().said("the suspension is written down now")).await;
    world.kill().await;
    world.start().await;
    world.until("planned", async |world| world.project().await["lastPass"]["changes"] == 1).await;
    assert!(world.project().await["suspendedUntil"].is_string());
    world.pass().await;
    assert_eq!(world.writes().await.len(), writes);
    assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);
    world.until("updated", async |world| world.entity("roles", "a").await.unwrap()["description"] == "two").await;
}

/// Creates and deletes went on, and what was noted of them was lost with the process.
#[tokio::test]
async fn a_state_that_is_taken_away_under_the_daemon_stops_creates_and_deletes_until_it_is_back() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: one }\n");
    world.converge().await;
    fs::rename(world.path("state/state.db"), world.path("state/away")).unwrap();

    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n  - name: new\n");
    world.until("updated", async |world| world.entity("roles", "a").await.unwrap()["description"] == "two").await;
    world.until("said", async |world| world.daemon().said("was removed or replaced while it was in use")).await;
    let is_degraded = async |world: &World| {
        let health: Value = serde_json::from_str(&world.open("/healthz").await.1).unwrap();
        let mut components = health["components"].as_array().unwrap().iter();
        components.any(|component| component["name"] == "state" && component["status"] == "degraded")
    };
    world.until("degraded", is_degraded).await;
    assert!(world.entity("roles", "new").await.is_none());

    fs::rename(world.path("state/away"), world.path("state/state.db")).unwrap();
    world.until("created", async |world| world.entity("roles", "new").await.is_some()).await;
    world.until("converged", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn a_suspension_that_was_never_written_down_can_be_taken_back() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: one }\n");
    start_limited(&mut world);
    world.converge().await;
    limit(&world, Some(4096));
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=1h").await.0, 200);
    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n");
    world.until("planned", async |world| world.project().await["lastPass"]["changes"] == 1).await;

    assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);

    world.until("updated", async |world| world.entity("roles", "a").await.unwrap()["description"] == "two").await;
    assert!(world.project().await["suspendedUntil"].is_null());
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_is_a_start_error() {
    let world = World::new().await;
    world.write("roles.yaml", &roles(&["a"]));
    fs::write(world.path("state"), "a file").unwrap();
    let output = world.run(&["run"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("state"), "{output:?}");
}

#[tokio::test]
async fn a_newer_state_is_refused_and_left_alone() {
    let mut world = World::new().await;
    world.write("roles.yaml", &roles(&["a"]));
    world.converge().await;
    world.stop().await;
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    state.execute_batch("PRAGMA user_version = 1000; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(state);
    let before = fs::read(world.path("state/state.db")).unwrap();

    for command in ["run", "plan", "audit"] {
        let output = world.run(&[command]).await;
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("version 1000"), "{command}: {output:?}");
    }
    assert!(fs::read(world.path("state/state.db")).unwrap() == before);
}

#[tokio::test]
async fn a_damaged_state_is_moved_aside_and_nothing_is_pruned_until_it_is_owned_again() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("overwritten", |bytes| bytes.iter_mut().for_each(|byte| *byte = 0x5a)),
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2 + 100)),
        ("emptied", Vec::clear),
        ("scribbled", |bytes| bytes[4096..8192].fill(0xff)),
    ];
    for (name, damage) in damages {
        let mut world = World::with(sync()).await;
        world.write("roles.yaml", &roles(&["a", "b", "c"]));
        world.converge().await;
        world.stop().await;
        let path = world.path("state/state.db");
        // A process may end before its log is written back, and a whole log mends the file beside it.
        let state = rusqlite::Connection::open(&path).unwrap();
        state.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        state.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        world.write("roles.yaml", &roles(&["a", "b"]));

        world.start().await;
        world.until("passed", async |world| world.passes().await > 0).await;
        assert!(world.daemon().said("the state database is damaged"), "{name}: {}", world.daemon().tail(20));
        assert!(
            fs::read_dir(world.path("state"))
                .unwrap()
                .any(|file| { file.unwrap().file_name().to_string_lossy().contains(".corrupt-") })
        );
        world.until("converged", async |world| world.is_converged().await).await;
        world.assert_nothing_left().await;
        assert_eq!(world.project().await["undeclared"], 1, "{name}");
        assert!(world.entity("roles", "c").await.is_some(), "{name}");

        world.write("roles.yaml", &roles(&["a"]));
        world.until("owned again", async |world| world.entity("roles", "b").await.is_none()).await;
        assert!(world.entity("roles", "c").await.is_some(), "{name}");
    }
}

/// Two roles, and a tenant with fields that cannot be read back: its answers are of the older shape.
async fn in_sync_and_stopped(world: &mut World) {
    let tenants =
        "tenants:\n  - { id: parent, name: P }\n  - { id: t, name: T, parent: parent, federatedAppIds: [app1] }\n";
    world.sim(reqwest::Method::PUT, "options", Some(json!({ "olderTenants": true }))).await;
    world.write("tenants.yaml", tenants);
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.converge().await;
    world.assert_nothing_left().await;
    world.stop().await;
}

#[tokio::test]
async fn a_lost_state_costs_ownership_and_fingerprints_and_says_so() {
    let mut world = World::with(sync()).await;
    in_sync_and_stopped(&mut world).await;
    fs::remove_dir_all(world.path("state")).unwrap();
    world.write("roles.yaml", &roles(&["a"]));
    let before = world.writes().await.len();

    world.start().await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;

    let writes = world.writes().await.split_off(before);
    assert_eq!(writes.len(), 1, "{writes:#?}");
    assert_eq!(writes[0].1["federatedAppIds"], json!(["app1"]));
    assert!(world.entity("roles", "b").await.is_some());
    let (_, plan) = world.ask(reqwest::Method::GET, "/api/v1/plan").await;
    assert!(plan.contains("unverified"), "{plan}");
    assert!(plan.contains(r#"{"kind":"roles","id":"b"}"#), "{plan}");
}

/// Everything compared with the new key looked changed: a parent that "cannot change" parked its tenant for good.
#[tokio::test]
async fn a_lost_key_costs_fingerprints_alone() {
    for damage in ["gone", "short"] {
        let mut world = World::with(sync()).await;
        in_sync_and_stopped(&mut world).await;
        let key = world.path("state/fingerprint.key");
        if damage == "gone" {
            fs::remove_file(&key).unwrap();
        } else {
            fs::write(&key, damage).unwrap();
        }
        world.write("roles.yaml", &roles(&["a"]));
        let before = world.writes().await.len();

        let plan = String::from_utf8(world.run(&["plan", "-o", "json"]).await.stdout).unwrap();
        assert!(plan.contains("unverified") && !plan.contains("delete the resource"), "{damage}: {plan}");
        world.start().await;
        world.until("converged", async |world| world.is_converged().await).await;
        world.assert_nothing_left().await;

        let writes = world.writes().await.split_off(before);
        let mut paths: Vec<&str> = writes.iter().map(|(line, _)| &**line).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["PATCH /v1/mgmt/tenant/patch", "POST /v1/mgmt/role/delete"], "{damage}: {writes:#?}");
        assert!(world.daemon().said("the fingerprint key was lost"), "{damage}");
    }
}

#[tokio::test]
async fn one_directory_has_one_writer_and_private_files() {
    let mut world = World::new().await;
    world.write("roles.yaml", &roles(&["a"]));
    world.converge().await;
    let output = world.run(&["run"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another descope-gitops"), "{output:?}");
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(1));
    for file in fs::read_dir(world.path("state")).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
    assert!(world.live().await.to_string().contains("\"a\""), "{PROJECT}");
}

/// An observation that is older than the interval is not trusted to build an overwriting update on.
#[tokio::test]
async fn an_update_that_waited_is_planned_again_where_the_resource_moved_meanwhile() {
    let mut world = World::with(Setup { interval: "1s", ..Setup::default() }).await;
    world.write("permissions.yaml", "permissions:\n  - name: p\n");
    world.write("roles.yaml", "roles:\n  - { name: r, description: one }\n");
    world.converge().await;
    // The permission is written first, and takes longer than an observation is trusted for.
    world
        .faults(
            json!([{ "match": { "path": "/v1/mgmt/permission/update*", "times": 1 }, "fault": "delay", "delay": "3s" },
        { "match": { "path": "/v1/mgmt/permission/all" }, "fault": "delay", "delay": "4s" }]),
        )
        .await;
    world.write("permissions.yaml", "permissions:\n  - { name: p, description: new }\n");
    world.write("roles.yaml", "roles:\n  - { name: r, description: two, permissionNames: [p] }\n");
    world
        .until("the first write", async |world| {
            world.writes().await.iter().any(|(line, _)| line.contains("permission/update"))
        })
        .await;
    world.edit_live("roles/r", json!({ "private": true, "somethingNew": 7 })).await;
    world.faults(json!([])).await;

    world.until("updated", async |world| world.entity("roles", "r").await.unwrap()["description"] == "two").await;

    let role = world.entity("roles", "r").await.unwrap();
    assert_eq!((&role["private"], &role["somethingNew"]), (&json!(true), &json!(7)), "{role}");
    for (line, body) in world.writes().await.iter().filter(|(line, _)| line.contains("role/update")) {
        assert!(body.to_string().contains("somethingNew"), "{line} {body}");
    }
}

/// A time beyond the year 9999 made `run`, `apply` and `audit` panic at every start; a learned limit of a ten-thousandth of
/// a request was believed, and nothing was sent for days.
#[tokio::test]
async fn records_that_cannot_be_right_are_dropped_and_said_and_nothing_panics() {
    let mut world = World::with(sync()).await;
    world.reconfigure(|setup| setup.top.push("rateLimit: { limit: 100/60s }".to_owned()));
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.converge().await;
    world.write("roles.yaml", &roles(&["a"]));
    world.until("deleted", async |world| world.entity("roles", "b").await.is_none()).await;
    world.stop().await;
    let absurd = 300_000_000_000_000_i64;
    {
        let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
        let times = [
            ("audit", "at"),
            ("pass", "finished_at"),
            ("owned", "created_at"),
            ("deletion", "at"),
            ("project", "suspended_until"),
        ];
        for (table, column) in times {
            assert!(state.execute(&format!("UPDATE {table} SET {column} = {absurd}"), []).unwrap() > 0, "{table}");
        }
        let memory: String = state.query_row("SELECT memory FROM limiter", [], |row| row.get(0)).unwrap();
        let mut memory: Value = serde_json::from_str(&memory).unwrap();
        memory["n"] = json!(0.0001);
        memory["floor"] = json!(1e12);
        state.execute("UPDATE limiter SET memory = ?", [memory.to_string()]).unwrap();
    }

    let audit = world.run(&["audit", "-o", "json"]).await;
    assert!(audit.status.success(), "{audit:?}");
    world.start().await;
    // Suspended until nobody knows when is still suspended, and for a time that can be waited for.
    world.until("suspended", async |world| world.project().await["suspendedUntil"].is_string()).await;
    assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);
    world.write("roles.yaml", &roles(&["a", "c"]));
    world.until("created", async |world| world.entity("roles", "c").await.is_some()).await;
    assert!(world.daemon().said("times that cannot be right"), "{}", world.daemon().tail(30));
    assert!(world.daemon().said("that part is dropped"), "{}", world.daemon().tail(30));
    assert!(!world.daemon().said("panicked"), "{}", world.daemon().tail(30));
    world.stop().await;
    let apply = world.run(&["apply", "--auto-approve"]).await;
    assert_eq!(apply.status.code(), Some(0), "{apply:?}");
    let audit = world.run(&["audit"]).await;
    assert!(audit.status.success() && String::from_utf8_lossy(&audit.stdout).contains("roles/c"), "{audit:?}");
}
