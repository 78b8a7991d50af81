//! What is deleted, what is held, and how an operator lets it go ahead.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::permission;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// `policy: sync` with these guards.
pub fn sync(guards: &str) -> Setup {
    let project = ["firstContact: apply".to_owned(), "policy: sync".to_owned(), format!("guards: {{ {guards} }}")];
    Setup { project: project.to_vec(), ..Setup::default() }
}

/// Guards that let everything pass at once.
const OPEN: &str = "maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s";

fn roles(names: &[&str]) -> String {
    names
        .iter()
        .fold("roles:\n".to_owned(), |text, name| text + &format!("  - {{ name: {name}, description: {name} }}\n"))
}

fn tenants(names: &[&str]) -> String {
    names.iter().fold("tenants:\n".to_owned(), |text, name| text + &format!("  - {{ id: {name}, name: {name} }}\n"))
}

pub async fn exists(world: &World, kind: &str, name: &str) -> bool {
    world.entity(kind, name).await.is_some()
}

pub async fn is_gone(world: &World, kind: &str, name: &str) {
    world.until(&format!("{kind}/{name} is gone"), async |world| !exists(world, kind, name).await).await;
}

/// Waits until something is held for this reason; the fingerprint.
pub async fn held(world: &World, reason: &str) -> String {
    world.until(&format!("held: {reason}"), async |world| world.project().await["held"]["reason"] == reason).await;
    world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned()
}

pub async fn approve(world: &World, fingerprint: &str) -> u16 {
    world.ask(Method::POST, &format!("/api/v1/approve?plan={fingerprint}")).await.0
}

pub async fn plan(world: &World) -> Value {
    let text = world.ask(Method::GET, "/api/v1/plan").await.1;
    serde_json::from_str::<Value>(&text).unwrap()["projects"][0].clone()
}

/// Why a change waits; `None` where it does not, or is not planned.
pub async fn reason(world: &World, kind: &str, id: &str) -> Option<String> {
    let plan = plan(world).await;
    let changes = plan["changes"].as_array().unwrap();
    let change = changes.iter().find(|change| change["kind"] == kind && change["id"] == id)?;
    change["held"].as_str().map(str::to_owned)
}

/// Bodies of the writes to this path.
pub async fn sent(world: &World, path: &str) -> Vec<Value> {
    world.writes().await.into_iter().filter(|(line, _)| line.contains(path)).map(|(_, body)| body).collect()
}

#[tokio::test]
async fn sync_deletes_what_it_owns_and_what_left_the_files_and_nothing_else() {
    let mut world = World::with(sync(OPEN)).await;
    world
        .set_live(json!({
            "permissions": [{ "name": "foreign" }],
            "roles": [{ "name": "foreign" }, { "name": "Tenant Admin" }],
            "tenants": [{ "id": "foreign", "name": "Foreign" }],
        }))
        .await;
    world.write("permissions.yaml", "permissions:\n  - name: p0\n  - name: p1\n");
    world.write(
        "roles.yaml",
        "roles:\n  - { name: stays, permissionNames: [p0] }\n  - { name: goes, permissionNames: [p1] }\n  \
         - { name: kept, protected: true }\n  - { name: freed, protected: true }\n",
    );
    world.write(
        "tenants.yaml",
        "tenants:\n  - { id: stays, name: S }\n  - { id: goes, name: G }\n  - { id: cascades, name: C, cascadeDelete: true }\n  \
         - { id: reconsidered, name: R, cascadeDelete: true }\n",
    );
    world.converge().await;
    // What was declared last counts.
    world.write(
        "roles.yaml",
        "roles:\n  - { name: stays, permissionNames: [p0] }\n  - { name: goes, permissionNames: [p1] }\n  \
         - { name: kept, protected: true }\n  - { name: freed, protected: false }\n",
    );
    world.write(
        "tenants.yaml",
        "tenants:\n  - { id: stays, name: S }\n  - { id: goes, name: G }\n  - { id: cascades, name: C, cascadeDelete: true }\n  \
         - { id: reconsidered, name: R2 }\n",
    );
    world
        .until("the new name", async |world| world.entity("tenants", "reconsidered").await.unwrap()["name"] == "R2")
        .await;
    world.pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    let before = world.writes().await.len();

    world.write("permissions.yaml", "permissions:\n  - { name: p0, description: new }\n");
    world.write("roles.yaml", "roles:\n  - { name: stays, permissionNames: [p0], description: new }\n");
    world.write("tenants.yaml", "tenants:\n  - { id: stays, name: S2 }\n  - { id: comes, name: N }\n");
    is_gone(&world, "permissions", "p1").await;
    world.until("converged", async |world| world.is_converged().await).await;

    for (kind, name) in [
        ("roles", "goes"),
        ("roles", "freed"),
        ("tenants", "goes"),
        ("tenants", "cascades"),
        ("tenants", "reconsidered"),
    ] {
        assert!(!exists(&world, kind, name).await, "{kind}/{name}");
    }
    for (kind, name) in [
        ("permissions", "foreign"),
        ("roles", "foreign"),
        ("tenants", "foreign"),
        ("roles", "Tenant Admin"),
        ("roles", "kept"),
        ("roles", "stays"),
        ("permissions", "p0"),
        ("tenants", "stays"),
        ("tenants", "comes"),
    ] {
        assert!(exists(&world, kind, name).await, "{kind}/{name}");
    }
    let after: Vec<(String, Value)> = world.writes().await.split_off(before);
    let first_delete = after.iter().position(|(line, _)| line.contains("delete")).unwrap();
    assert!(after[first_delete..].iter().all(|(line, _)| line.contains("delete")), "deletes run last: {after:#?}");
    let mut kinds: Vec<&str> = after[first_delete..].iter().map(|(line, _)| line.split('/').nth(3).unwrap()).collect();
    kinds.dedup();
    assert_eq!(kinds, ["tenant", "role", "permission"], "in reverse");
    for body in sent(&world, "/tenant/delete").await {
        assert_eq!(body["cascade"] == true, body["id"] == "cascades", "{body}");
    }
    let undeclared = plan(&world).await["undeclared"].clone();
    assert!(undeclared.as_array().unwrap().contains(&json!({ "kind": "roles", "id": "kept" })), "{undeclared}");
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_delete_waits_for_its_time_and_never_comes_for_what_returns() {
    let mut world = World::with(sync("maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 1500ms")).await;
    world.write("roles.yaml", &roles(&["a", "b", "c"]));
    world.converge().await;
    world.write("roles.yaml", &roles(&["a", "c"]));
    world.until("b waits", async |world| reason(world, "roles", "b").await.as_deref() == Some("delete_after")).await;
    world.write("roles.yaml", &roles(&["a", "b", "c"]));
    world
        .until("b is back", async |world| reason(world, "roles", "b").await.is_none() && world.is_converged().await)
        .await;

    let left = Instant::now();
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.until("c waits", async |world| reason(world, "roles", "c").await.as_deref() == Some("delete_after")).await;
    // The plan shows a little before the status.
    world.until("not converged", async |world| !world.is_converged().await).await;
    is_gone(&world, "roles", "c").await;

    assert!(left.elapsed() >= Duration::from_millis(1500), "{:?}", left.elapsed());
    assert!(exists(&world, "roles", "b").await);
    assert_eq!(sent(&world, "/role/delete").await.len(), 1);
}

#[tokio::test]
async fn what_may_never_be_deleted_does_not_hurry_what_waits() {
    let mut world = World::with(sync("maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 1s")).await;
    world.write("roles.yaml", "roles:\n  - name: a\n  - { name: kept, protected: true }\n  - name: c\n");
    world.converge().await;
    world.write("roles.yaml", "roles:\n  - name: a\n  - name: c\n");
    world.until("undeclared", async |world| world.project().await["undeclared"] == 1).await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // longer than the wait of the other one

    let before = world.passes().await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    is_gone(&world, "roles", "c").await;

    assert!(world.passes().await - before <= 4, "{} passes for one delete", world.passes().await - before);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_no_second_look_for_a_delete() {
    let mut world = World::with(sync("maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 1s")).await;
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.converge().await;
    world.write("roles.yaml", &roles(&["a"]));
    world.until("b waits", async |world| reason(world, "roles", "b").await.as_deref() == Some("delete_after")).await;
    world.write("more.yaml", "roles:\n  - { name: b, description: b\n");
    world.until("invalid", async |world| world.project().await["desired"]["valid"] == false).await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // the time is over
    world.assert_nothing_left().await;
    assert!(exists(&world, "roles", "b").await);

    world.remove("more.yaml");
    is_gone(&world, "roles", "b").await;
}

#[tokio::test]
async fn what_looks_like_a_rename_stays_held_after_the_new_one_is_there() {
    let mut world = World::with(sync(OPEN)).await;
    world.write("roles.yaml", &roles(&["a", "old"]));
    world.converge().await;

    world.write("roles.yaml", &roles(&["a", "new"]));
    world.until("new", async |world| exists(world, "roles", "new").await).await;
    let warning = plan(&world).await["warnings"].to_string();
    world.pass().await;
    world.pass().await;
    assert_eq!(reason(&world, "roles", "old").await.as_deref(), Some("maybe_rename"));
    assert!(exists(&world, "roles", "old").await);
    assert!(warning.contains("renamedFrom: OLD"), "{warning}");
    assert!(plan(&world).await["warnings"].to_string().contains("renamedFrom: OLD"));
    // Both exist by now.
    let ends = world.project().await["holds"][0]["endsWith"].clone();
    assert_eq!(ends, "an approval, or files that declare the old one again");

    let fingerprint = held(&world, "maybe_rename").await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "roles", "old").await;
}

/// The line that cannot be followed ended the absence, which then began anew, after the create.
#[tokio::test]
async fn what_looks_like_a_rename_stays_held_after_a_rename_that_could_not_be_done() {
    let mut world = World::with(sync(OPEN)).await;
    world.write("roles.yaml", &roles(&["a", "old"]));
    world.converge().await;
    world.write("roles.yaml", &roles(&["a", "new"]));
    world.until("new", async |world| exists(world, "roles", "new").await).await;
    world.until("held", async |world| reason(world, "roles", "old").await.as_deref() == Some("maybe_rename")).await;

    world.write("roles.yaml", "roles:\n  - name: a\n  - name: new\n    renamedFrom: old\n");
    world.until("refused", async |world| world.has_problem("roles", "new", "parked").await).await;
    world.write("roles.yaml", &roles(&["a", "new"]));

    world.until("no more", async |world| world.project().await["problems"] == json!([])).await;
    world.pass().await;
    assert_eq!(reason(&world, "roles", "old").await.as_deref(), Some("maybe_rename"));
    assert!(exists(&world, "roles", "old").await);
}

#[tokio::test]
async fn the_plan_says_what_hangs_on_what_is_deleted() {
    let mut world = World::with(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("permissions.yaml", "permissions:\n  - name: kept\n  - name: used\n");
    world.write("roles.yaml", "roles:\n  - name: kept\n  - name: default\n");
    world.write("tenants.yaml", &tenants(&["kept"]));
    world.converge().await;
    world.edit_live("roles/foreign", json!({ "permissionNames": ["used"] })).await;
    world.edit_live("tenants/foreign", json!({ "name": "F", "defaultRoles": ["default"] })).await;

    world.write("permissions.yaml", "permissions:\n  - name: kept\n");
    world.write("roles.yaml", "roles:\n  - name: kept\n");
    world.until("both", async |world| world.project().await["held"]["deletes"] == 2).await;

    let warnings = plan(&world).await["warnings"].to_string();
    assert!(warnings.contains("deleting permissions/used takes it away from roles/foreign"), "{warnings}");
    assert!(warnings.contains("deleting roles/default takes it away from tenants/foreign"), "{warnings}");
    world.delete_live("roles/foreign").await;
    world.pass().await;
    assert!(!plan(&world).await["warnings"].to_string().contains("roles/foreign"));
}

#[tokio::test]
async fn more_deletes_than_allowed_are_held_and_the_rest_goes_on() {
    let mut world =
        World::with(sync("maxDeletes: { default: 2, tenants: 0 }, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("roles.yaml", &roles(&["a", "b", "c", "d"]));
    world.write("tenants.yaml", &tenants(&["t0", "t1", "t2"]));
    world.write("permissions.yaml", "permissions:\n  - name: p0\n  - name: p1\n");
    world.converge().await;

    world.write("roles.yaml", "roles:\n  - { name: a, description: changed }\n");
    world.write("tenants.yaml", &tenants(&["t0", "t1"]));
    world.write("permissions.yaml", "permissions:\n  - name: p0\n");
    is_gone(&world, "permissions", "p1").await;
    let fingerprint = held(&world, "max_deletes").await;

    world.until("updated", async |world| world.entity("roles", "a").await.unwrap()["description"] == "changed").await;
    let status = world.project().await;
    assert_eq!((&status["held"]["changes"], &status["held"]["deletes"]), (&json!(4), &json!(4)));
    assert_eq!(status["converged"], false);
    assert_eq!(world.metric("held_changes{project=\"default\",reason=\"max_deletes\"}").await, Some(4.0));
    assert_eq!(world.metric("guard_trips_total{project=\"default\",reason=\"max_deletes\"}").await, Some(1.0));
    world.pass().await;
    assert_eq!(world.metric("guard_trips_total{project=\"default\",reason=\"max_deletes\"}").await, Some(1.0));
    let command = format!("descope-gitops approve {fingerprint}");
    assert_eq!(world.daemon().lines().iter().filter(|line| line.contains(&command)).count(), 1, "one line");
    let beside = world.run_json(&["plan", "-o", "json"], 0).await;
    assert_eq!(beside["projects"][0]["fingerprint"], fingerprint, "a plan beside the daemon sees the same");
    let text = String::from_utf8(world.run(&["plan"]).await.stdout).unwrap();
    assert!(text.contains("max_deletes") && text.contains(&fingerprint), "{text}");

    let url = world.daemon_url().await;
    let output = world.run(&["approve", &fingerprint, "--url", &url]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    world.until("converged", async |world| world.is_converged().await).await;
    for name in ["b", "c", "d"] {
        assert!(!exists(&world, "roles", name).await, "{name}");
    }
    assert!(!exists(&world, "tenants", "t2").await);
    assert_eq!(approve(&world, &fingerprint).await, 409, "single use");
    assert_eq!(world.run(&["approve", &fingerprint, "--url", &url]).await.status.code(), Some(1));
    assert!(sent(&world, "/tenant/delete").await.iter().all(|body| body["cascade"] != true));
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn deletes_of_the_last_day_count_until_an_approval() {
    let mut world = World::with(sync("maxDeletes: 2, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("roles.yaml", &roles(&["a", "b", "c", "d", "e", "f"]));
    world.converge().await;
    world.write("roles.yaml", &roles(&["a", "b", "c", "d"]));
    is_gone(&world, "roles", "f").await;
    world.stop().await;
    world.start().await;

    world.write("roles.yaml", &roles(&["a", "b", "c"]));
    let fingerprint = held(&world, "max_deletes").await;
    assert!(exists(&world, "roles", "d").await);
    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "roles", "d").await;

    world.write("roles.yaml", &roles(&["a"]));
    is_gone(&world, "roles", "b").await;
    assert!(!exists(&world, "roles", "c").await, "counted anew since the approval");
}

#[tokio::test]
async fn a_share_of_what_is_owned_counts_from_five_on() {
    let mut world = World::with(sync("maxDeletes: 100, maxDeletePercent: 20, deleteAfter: 0s")).await;
    world.write("roles.yaml", &roles(&["a", "b", "c", "d", "e"]));
    world.write("permissions.yaml", "permissions:\n  - name: p0\n  - name: p1\n  - name: p2\n  - name: p3\n");
    world.converge().await;

    world.write("permissions.yaml", "permissions:\n  - name: p0\n");
    world.write("roles.yaml", &roles(&["a", "b", "c"]));
    is_gone(&world, "permissions", "p3").await;
    held(&world, "max_delete_percent").await;
    assert!(exists(&world, "roles", "e").await);

    world.write("roles.yaml", &roles(&["a", "b", "c", "d"]));
    is_gone(&world, "roles", "e").await;
    // Measured against what was owned when the day began: two of five.
    world.write("roles.yaml", &roles(&["a", "b", "c"]));
    held(&world, "max_delete_percent").await;
    assert!(exists(&world, "roles", "d").await);
}

#[tokio::test]
async fn emptying_a_kind_needs_approval_named_or_not() {
    let mut world = World::with(sync(OPEN)).await;
    world.write("roles.yaml", &roles(&["a"]));
    world.write("permissions.yaml", "permissions:\n  - name: p0\n");
    world.write("tenants.yaml", &tenants(&["t"]));
    world.converge().await;

    world.write("roles.yaml", "roles: []\n");
    world.remove("permissions.yaml");
    let fingerprint = held(&world, "kind_emptied").await;
    world.until("both", async |world| world.project().await["held"]["deletes"] == 2).await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().map_or(fingerprint, str::to_owned);
    world.assert_nothing_left().await;

    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "permissions", "p0").await;
    assert!(!exists(&world, "roles", "a").await);
    assert!(exists(&world, "tenants", "t").await);
}

/// A share of what had come and gone in a day was held, where never more than three were owned at a time.
#[tokio::test]
async fn a_share_says_nothing_of_a_kind_that_never_owned_five() {
    let mut world = World::with(sync("deleteAfter: 0s")).await;
    world.write("roles.yaml", &roles(&["stays", "too"]));
    world.converge().await;
    for name in ["a", "b", "c", "d"] {
        world.write("roles.yaml", &roles(&["stays", "too", name]));
        world.until("there", async |world| exists(world, "roles", name).await).await;
        world.until("converged", async |world| world.is_converged().await).await;
        world.write("roles.yaml", &roles(&["stays", "too"]));
        world.until("gone", async |world| !exists(world, "roles", name).await).await;
        world.until("converged", async |world| world.is_converged().await).await;
    }
}

#[tokio::test]
async fn a_list_that_lacks_too_much_holds_its_kind() {
    let mut world = World::with(sync("maxMissing: 2, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("roles.yaml", &roles(&["a", "b", "c", "d"]));
    world.converge().await;
    // What was created a moment ago may be missing in a list; a daemon that starts later knows that this is older.
    world.stop().await;
    age(&world);
    world.start().await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/all" }, "fault": "truncated_list", "keep": 1 }])).await;

    world.write("permissions.yaml", "permissions:\n  - name: p0\n");
    held(&world, "observation_shrank").await;
    world.until("the rest", async |world| exists(world, "permissions", "p0").await).await;
    assert!(sent(&world, "/role/create").await.len() == 1, "only the first");

    world.faults(json!([])).await;
    world.pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
}

/// Makes everything owned look as if it was created long ago.
pub fn age(world: &World) {
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    state.execute("UPDATE owned SET created_at = created_at - 3600000 WHERE created_at IS NOT NULL", []).unwrap();
}

#[tokio::test]
async fn a_mass_update_is_held_where_the_config_says_so() {
    let mut world = World::with(sync("maxChangePercent: 40")).await;
    let roles = |description: &str, n: usize| {
        let role =
            |i: usize| format!("  - {{ name: r{i}, description: {} }}\n", if i < n { description } else { "old" });
        "roles:\n".to_owned() + &(0..6).map(role).collect::<String>()
    };
    world.write("roles.yaml", &roles("old", 0));
    world.converge().await;

    world.write("roles.yaml", &roles("new", 2));
    world.until("two", async |world| world.entity("roles", "r1").await.unwrap()["description"] == "new").await;
    world.write("roles.yaml", &roles("newer", 6));
    let fingerprint = held(&world, "max_change_percent").await;
    world.assert_nothing_left().await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("six", async |world| world.entity("roles", "r5").await.unwrap()["description"] == "newer").await;
}

#[tokio::test]
async fn an_approval_is_void_once_what_it_covers_changes_and_ends_by_itself() {
    let guards = "maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s, approvalExpiry: 1s";
    let mut world = World::with(sync(guards)).await;
    world.write("roles.yaml", &roles(&["a", "b", "c"]));
    world.converge().await;
    world.write("roles.yaml", &roles(&["a", "b"]));
    let first = held(&world, "max_deletes").await;

    // The live resource changes behind the daemon's back: the approval does not cover what is there now.
    world.edit_live("roles/c", json!({ "description": "somebody needs it" })).await;
    assert_eq!(approve(&world, &first).await, 200);
    world
        .until("held again", async |world| {
            let held = world.project().await["held"].clone();
            held["fingerprint"].is_string() && held["fingerprint"] != *first
        })
        .await;
    assert!(exists(&world, "roles", "c").await);
    let second = held(&world, "max_deletes").await;
    assert_eq!(world.daemon().lines().iter().filter(|line| line.contains(&format!("approve {second}"))).count(), 1);

    // The files change: another fingerprint.
    world.write("roles.yaml", &roles(&["a"]));
    world.until("two", async |world| world.project().await["held"]["deletes"] == 2).await;
    assert_eq!(approve(&world, &first).await, 409);
    assert_eq!(approve(&world, &second).await, 409);
    let third = held(&world, "max_deletes").await;

    // An approval that cannot be used in time is none.
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/delete*" }, "fault": "status", "status": 503 }])).await;
    assert_eq!(approve(&world, &third).await, 200);
    world.until("tried", async |world| !sent(world, "/role/delete").await.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // it expires
    world.pass().await;
    held(&world, "max_deletes").await;
    world.faults(json!([])).await;
    world.assert_nothing_left().await;
    assert!(exists(&world, "roles", "b").await && exists(&world, "roles", "c").await);
}

/// While any kind did not answer, no approval was void: what had changed and changed back was deleted by the old one.
#[tokio::test]
async fn an_approval_is_void_though_another_kind_does_not_answer() {
    let mut world = World::with(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.write("permissions.yaml", &permission("p", "d"));
    world.converge().await;
    world.write("roles.yaml", &roles(&["a"]));
    let first = held(&world, "max_deletes").await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=1h").await.0, 200);
    assert_eq!(approve(&world, &first).await, 200);
    world.until("released", async |world| reason(world, "roles", "b").await.is_none()).await;

    let list = "/v1/mgmt/permission/all";
    world.faults(json!([{ "match": { "path": list }, "fault": "status", "status": 503 }])).await;
    world.edit_live("roles/b", json!({ "description": "somebody needs it" })).await;
    world.pass().await;
    world.until("held again", async |world| reason(world, "roles", "b").await.is_some()).await;
    world.edit_live("roles/b", json!({ "description": "b" })).await;
    world.pass().await;
    world.until("as it was", async |world| world.project().await["held"]["fingerprint"] == *first).await;
    world.faults(json!([])).await;
    assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);

    world.until("goes on", async |world| world.project().await["suspendedUntil"].is_null()).await;
    world.pass().await;
    assert_eq!(held(&world, "max_deletes").await, first);
    world.assert_nothing_left().await;
    assert!(exists(&world, "roles", "b").await);
}

#[tokio::test]
async fn an_approved_delete_that_fails_for_a_while_still_goes_ahead() {
    let mut world = World::with(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.converge().await;
    world.write("roles.yaml", &roles(&["a"]));
    let fingerprint = held(&world, "max_deletes").await;

    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/delete*" }, "fault": "status", "status": 503 }])).await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("tried twice", async |world| sent(world, "/role/delete").await.len() >= 2).await;
    // A kind that cannot be observed meanwhile does not void it either.
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role*" }, "fault": "status", "status": 503 }])).await;
    world.pass().await;
    world.stop().await;
    world.faults(json!([])).await;
    world.start().await;

    is_gone(&world, "roles", "b").await;
    world.until("converged", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn an_approval_does_not_hurry_a_delete() {
    let mut world = World::with(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 2s")).await;
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.converge().await;
    let left = Instant::now();
    world.write("roles.yaml", &roles(&["a"]));
    let fingerprint = held(&world, "max_deletes").await;

    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "roles", "b").await;

    assert!(left.elapsed() >= Duration::from_secs(2), "{:?}", left.elapsed());
}

#[tokio::test]
async fn apply_releases_a_held_plan_by_its_fingerprint_and_the_guards_count_anew() {
    let mut world = World::with(sync("maxDeletes: 1, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("roles.yaml", &roles(&["a", "b", "c", "d"]));
    world.converge().await;
    world.stop().await;
    world.write("roles.yaml", &roles(&["a", "b"]));

    let plan = world.run_json(&["apply", "--auto-approve", "-o", "json"], 4).await;
    let since = |plan: &Value| plan["projects"][0]["holds"][0]["since"].clone();
    assert!(since(&plan).is_string(), "it was told where a daemon had run with that hold: {plan}");
    assert_eq!(since(&world.run_json(&["plan", "-o", "json"], 0).await), since(&plan));
    let fingerprint = plan["projects"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert!(exists(&world, "roles", "d").await, "no flag but the fingerprint releases a guard");
    assert_eq!(world.run(&["apply", "--approve", "0123456789abcdef"]).await.status.code(), Some(1));
    world.run_json(&["apply", "--approve", &fingerprint, "-o", "json"], 0).await;
    assert!(!exists(&world, "roles", "c").await && !exists(&world, "roles", "d").await);

    world.write("roles.yaml", &roles(&["a"]));
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    assert!(!exists(&world, "roles", "b").await);
}

#[tokio::test]
async fn a_suspended_project_only_observes_also_after_a_restart_and_until_it_is_resumed() {
    let mut world = World::new().await;
    world.write("roles.yaml", &roles(&["a"]));
    world.converge().await;
    world.assert_nothing_left().await;
    let url = world.daemon_url().await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=8d").await.0, 400);
    let output = world.run(&["suspend", "--for", "2h", "--url", &url]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    world.edit_live("roles/a", json!({ "description": "drift" })).await;
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.until("reported", async |world| plan(world).await["changes"].as_array().unwrap().len() == 2).await;
    world.daemon().signal(Signal::HUP);
    world.pass().await;
    assert!(world.project().await["suspendedUntil"].is_string());
    assert_eq!(world.metric("suspended{project=\"default\"}").await, Some(1.0));
    assert_eq!(world.metric("drifted_resources{kind=\"roles\",project=\"default\"}").await, Some(1.0));
    world.stop().await;
    world.start().await;
    world.until("reported again", async |world| world.project().await["lastPass"]["changes"] == 2).await;
    world.daemon().signal(Signal::HUP);
    world.pass().await;
    assert_eq!(world.writes().await.len(), 1, "nothing since the first create");
    assert!(!world.is_converged().await);

    let url = world.daemon_url().await;
    assert_eq!(world.run(&["resume", "--url", &url]).await.status.code(), Some(0));
    world.until("converged", async |world| world.is_converged().await).await;
    assert!(world.project().await["suspendedUntil"].is_null());
    assert_eq!(world.metric("suspended{project=\"default\"}").await, Some(0.0));
}

#[tokio::test]
async fn a_suspension_ends_by_itself() {
    let mut world = World::new().await;
    world.write("roles.yaml", &roles(&["a"]));
    world.converge().await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=2s").await.0, 200);
    let suspended = Instant::now();
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.until("planned", async |world| !plan(world).await["changes"].as_array().unwrap().is_empty()).await;

    world.until("created", async |world| exists(world, "roles", "b").await).await;
    world.until("converged", async |world| world.is_converged().await).await;

    assert!(suspended.elapsed() >= Duration::from_millis(1900), "{:?}", suspended.elapsed());
    assert!(exists(&world, "roles", "b").await);
}

/// Nothing told that it was over, nor since when, and no metric when that would be.
#[tokio::test]
async fn the_end_of_a_suspension_is_in_the_metrics_ahead_and_in_trail_and_log_once_it_came() {
    let mut world = World::new().await;
    world.write("roles.yaml", &roles(&["a"]));
    world.converge().await;
    let series = |kind: &str| format!("suspended_until_timestamp_seconds{{kind=\"{kind}\",project=\"default\"}}");
    assert_eq!(world.metric(&series("")).await, None);
    let suspend = async |world: &World, wait: &str| {
        let mut ends = Vec::new();
        for part in ["", "&kind=roles", "&target=tenants/acme"] {
            let (code, said) = world.ask(Method::POST, &format!("/api/v1/suspend?for={wait}{part}")).await;
            assert_eq!(code, 200, "{said}");
            let said: Value = serde_json::from_str(&said).unwrap();
            ends.push(said["suspendedUntil"].as_str().unwrap().to_owned());
        }
        ends
    };
    let ends = suspend(&world, "1h").await;
    world.until("all of them", async |world| world.metric(&series("tenants")).await.is_some()).await;
    for (kind, end) in ["", "roles", "tenants"].into_iter().zip(&ends) {
        let seconds = humantime::parse_rfc3339(end).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(world.metric(&series(kind)).await.map(|end| end.to_string()), Some(seconds.to_string()), "{kind}");
    }

    // The end is moved, and comes.
    let ends = suspend(&world, "2s").await;
    let trail = async |world: &World| {
        let trail = world.run_json(&["audit", "-o", "json", "--kind", "operator"], 0).await;
        let is_end = |row: &&Value| row["action"] == "resume";
        let rows: Vec<Value> = trail["changes"].as_array().unwrap().iter().filter(is_end).cloned().collect();
        rows
    };
    world.until("all over", async |world| trail(world).await.len() == 3).await;
    let told: Vec<String> = trail(&world).await.iter().map(|row| row["message"].as_str().unwrap().to_owned()).collect();
    for (part, end) in ["", "roles: ", "tenants/acme: "].into_iter().zip(&ends) {
        let row = format!("{part}the suspension by 127.0.0.1 ended by itself at {end}");
        assert!(told.contains(&row), "{row}: {told:?}");
    }
    let lines = world.daemon().lines();
    let is_end = |line: &&String| line.contains("resumed by itself: the suspension is over");
    assert_eq!(lines.iter().filter(is_end).count(), 3, "{lines:#?}");
    world.until("no end ahead", async |world| world.metric(&series("")).await.is_none()).await;
    world.fresh_pass().await;
    assert_eq!(trail(&world).await.len(), 3);
    assert_eq!(world.metric(&series("roles")).await, None);
}

#[tokio::test]
async fn two_owners_share_a_project_and_leave_one_another_alone() {
    let mut first = World::with(sync(OPEN)).await;
    let mut second = World::with(sync(OPEN)).await;
    second.api = first.api.clone();
    for (world, owner) in [(&mut first, "one"), (&mut second, "two")] {
        world.reconfigure(|setup| setup.project.push(format!("owner: {owner}")));
    }
    first.write("roles.yaml", &roles(&["a", "b"]));
    second.write("roles.yaml", &roles(&["x", "y"]));
    first.converge().await;
    second.converge().await;
    first.fresh_pass().await;
    assert_eq!(first.project().await["undeclared"], 2);

    second.write("roles.yaml", &roles(&["x"]));
    is_gone(&first, "roles", "y").await;
    second.assert_nothing_left().await;
    first.assert_nothing_left().await;

    for name in ["a", "b", "x"] {
        assert!(exists(&first, "roles", name).await, "{name}");
    }
}

/// It counted as a hundred: what went, came back and was to go once more was held.
#[tokio::test]
async fn a_share_that_is_off_holds_nothing() {
    let mut world = World::with(sync("maxDeletes: 100, maxDeletePercent: off, deleteAfter: 0s")).await;
    let (few, all) = (["a", "b", "c"], ["a", "b", "c", "d", "e", "f"]);
    world.write("roles.yaml", &roles(&all));
    world.converge().await;
    // Not of today, so that it counts as owned from the start.
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    state.execute("UPDATE owned SET created_at = NULL", []).unwrap();

    for _ in 0..3 {
        world.write("roles.yaml", &roles(&few));
        is_gone(&world, "roles", "f").await;
        world.write("roles.yaml", &roles(&all));
        world.until("back", async |world| exists(world, "roles", "f").await).await;
    }
    world.until("converged", async |world| world.is_converged().await).await;
}
