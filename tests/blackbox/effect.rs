//! Answered is not done: what Descope says it wrote and does not keep, and reads that lag behind writes.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

async fn updates(world: &World) -> usize {
    world.writes().await.iter().filter(|(line, _)| line == "POST /v1/mgmt/role/update").count()
}

fn role(description: &str) -> String {
    format!("roles:\n  - {{ name: r, description: {description} }}\n")
}

/// It was sent with each pass for ever, told as drift, and everything was converged.
#[tokio::test]
async fn a_write_that_is_answered_twice_and_not_kept_is_a_problem_and_not_sent_again() {
    let mut world = World::new().await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/update" }, "fault": "empty200" }])).await;
    world.write("roles.yaml", &role("two"));
    world.until("sent", async |world| updates(world).await == 1).await;

    world.fresh_pass().await;
    assert!(!world.is_converged().await, "what the list shows is not what is declared");
    world.until("a problem", async |world| world.has_problem("roles", "r", "parked").await).await;

    let problem = world.problem("roles", "r").await.unwrap();
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains(r#"description: sent "two", Descope keeps "one""#), "{message}");
    assert_eq!((&problem["file"], &problem["line"]), (&json!("roles.yaml"), &json!(2)));
    assert_eq!(updates(&world).await, 2);
    world.fresh_pass().await;
    world.fresh_pass().await;
    assert!(!world.is_converged().await);

    // Nor by the next start, or by another command.
    world.stop().await;
    let apply = world.run(&["apply", "--auto-approve"]).await;
    assert_eq!(apply.status.code(), Some(5), "{apply:?}");
    assert!(String::from_utf8_lossy(&apply.stdout).contains("Descope keeps"), "{apply:?}");
    world.start().await;
    world.until("a problem again", async |world| world.has_problem("roles", "r", "parked").await).await;
    assert_eq!(updates(&world).await, 2);

    // Each side that changes is worth another try.
    world.edit_live("roles/r", json!({ "description": "other" })).await;
    world.fresh_pass().await;
    world.until("sent", async |world| updates(world).await == 3).await;
    world.faults(json!([])).await;
    world.write("roles.yaml", &role("three"));
    world.until("kept", async |world| world.entity("roles", "r").await.unwrap()["description"] == "three").await;
    world.converge().await;
    assert_eq!(world.project().await["problems"], json!([]));
}

/// `apply` said `ok` and ended with 0, each time.
#[tokio::test]
async fn apply_ends_with_5_where_what_it_sent_is_not_kept() {
    let world = World::new().await;
    world.write("roles.yaml", &role("one"));
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(0));
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/update" }, "fault": "empty200" }])).await;
    world.write("roles.yaml", &role("two"));

    let codes = [0, 5, 5];
    for code in codes {
        let apply = world.run_json(&["apply", "--auto-approve", "-o", "json"], code).await;
        let refused = apply["projects"][0]["refused"].as_array().map_or(0, Vec::len);
        assert_eq!(refused, usize::from(code == 5), "{apply:#}");
    }
    assert_eq!(updates(&world).await, 2);
}

/// A role that somebody changes back again and again is healed each time, as long as our value was seen in between.
#[tokio::test]
async fn drift_that_comes_back_is_healed_each_time() {
    let mut world = World::new().await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    for round in 1..=4 {
        world.edit_live("roles/r", json!({ "description": "drifted" })).await;
        world.fresh_pass().await;
        world.until("healed", async |world| updates(world).await == round).await;
        world.fresh_pass().await;
        world.until("converged", async |world| world.is_converged().await).await;
    }
    assert_eq!(world.project().await["problems"], Value::Array(Vec::new()));
}

async fn switch(world: &World, options: Value) {
    world.sim(reqwest::Method::PUT, "options", Some(options)).await;
}

/// A server that takes blanks off: one write per pass for ever.
#[tokio::test]
async fn a_text_that_descope_trims_is_a_problem_and_validate_warns_of_it() {
    let mut world = World::new().await;
    switch(&world, json!({ "normalizes": true })).await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;

    world.write("roles.yaml", &role("' two '"));
    world.until("sent", async |world| updates(world).await == 1).await;
    world.fresh_pass().await;
    world.until("a problem", async |world| world.has_problem("roles", "r", "parked").await).await;

    let message = world.problem("roles", "r").await.unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(r#"description: sent " two ", Descope keeps "two""#), "{message}");
    world.fresh_pass().await;
    assert_eq!(updates(&world).await, 2);
    assert!(!world.is_converged().await);
    world.write("tenants.yaml", "tenants:\n  - { id: t, name: T, selfProvisioningDomains: [Example.com] }\n");
    let validate = world.run(&["validate"]).await;
    let said = String::from_utf8_lossy(&validate.stdout).into_owned() + &String::from_utf8_lossy(&validate.stderr);
    assert!(said.contains("begins or ends with a blank") && said.contains("not in lower case"), "{said}");
    assert_eq!(validate.status.code(), Some(0));
}

/// An update whose list shows the old value for some seconds was sent again and again.
#[tokio::test]
async fn a_list_that_lags_behind_a_write_sends_nothing_again() {
    let mut world = World::new().await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    switch(&world, json!({ "readDelay": "4s" })).await;
    world.write("roles.yaml", &role("two"));
    world.until("sent", async |world| updates(world).await == 1).await;

    world.fresh_pass().await;
    assert!(!world.is_converged().await, "unconfirmed");
    world.fresh_pass().await;
    let (passes, seq) = (world.passes().await, world.newest_seq().await);
    world.until("confirmed", async |world| world.is_converged().await).await;

    assert_eq!(updates(&world).await, 1);
    assert_eq!(world.passes().await, passes, "by a look");
    let paths: Vec<Value> = world.requests_since(seq).await.iter().map(|entry| entry["path"].clone()).collect();
    assert_eq!(paths, [json!("/v1/mgmt/role/all")], "at that kind alone");
}

/// The new name was created a second time, or renamed once more, because the list had the old one.
#[tokio::test]
async fn a_list_that_lags_behind_a_rename_sends_nothing_again() {
    let mut world = World::new().await;
    world.write("permissions.yaml", "permissions:\n  - { name: old, description: one }\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [old] }\n");
    world.converge().await;
    switch(&world, json!({ "readDelay": "4s" })).await;
    let before = world.writes().await.len();
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [new] }\n");
    world.write("permissions.yaml", "permissions:\n  - { name: new, renamedFrom: old, description: two }\n");
    world.until("renamed", async |world| world.entity("permissions", "new").await.is_some()).await;

    world.fresh_pass().await;
    assert!(!world.is_converged().await, "unconfirmed");
    assert_eq!(world.project().await["notConvergedBecause"], "unconfirmed");
    world.until("confirmed", async |world| world.is_converged().await).await;

    let writes = world.writes().await;
    assert_eq!(writes.len(), before + 1, "{:#?}", &writes[before..]);
    assert_eq!(world.entity("roles", "r").await.unwrap()["permissionNames"], json!(["new"]));
    world.fresh_pass().await;
    assert!(world.is_converged().await);
    assert_eq!(world.writes().await.len(), before + 1);
}

fn syncing() -> Setup {
    let guards = "guards: { deleteAfter: 0s, maxDeletes: 100, maxDeletePercent: 100 }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    Setup { project, ..Setup::default() }
}

/// The list still had what was deleted a moment ago, so that its new declaration counted as carried out.
#[tokio::test]
async fn what_is_declared_again_right_after_its_delete_is_created_though_the_list_lags() {
    let mut world = World::with(syncing()).await;
    let both = "permissions:\n  - { name: p, description: one }\n  - { name: q }\n";
    world.write("permissions.yaml", both);
    world.converge().await;
    switch(&world, json!({ "readDelay": "4s" })).await;
    let before = world.writes().await.len();
    world.write("permissions.yaml", "permissions:\n  - { name: q }\n");
    world.until("deleted", async |world| world.entity("permissions", "p").await.is_none()).await;

    world.write("permissions.yaml", both);
    world.until("created", async |world| world.entity("permissions", "p").await.is_some()).await;
    world.fresh_pass().await;
    world.converge_on(2).await;
    world.fresh_pass().await;

    let lines: Vec<String> = world.writes().await.drain(before..).map(|(line, _)| line).collect();
    assert_eq!(lines, ["POST /v1/mgmt/permission/delete", "POST /v1/mgmt/permission/create"]);
}

/// It was nobody's then, `undeclared`, and everything was converged.
#[tokio::test]
async fn a_delete_that_is_answered_twice_without_effect_is_a_problem() {
    let mut world = World::with(syncing()).await;
    world.write("roles.yaml", "roles:\n  - { name: r, description: one }\n  - { name: stays }\n");
    world.converge().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/delete" }, "fault": "empty200" }])).await;
    let deletes = async |world: &World| {
        world.writes().await.iter().filter(|(line, _)| line == "POST /v1/mgmt/role/delete").count()
    };
    world.write("roles.yaml", "roles:\n  - { name: stays }\n");
    world.until("sent", async |world| deletes(world).await == 1).await;

    world.fresh_pass().await;
    assert!(!world.is_converged().await, "the list has it still, which proves nothing yet");
    world.until("a problem", async |world| world.has_problem("roles", "r", "parked").await).await;

    let problem = world.problem("roles", "r").await.unwrap();
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains("was deleted twice, each time answered as done, and is there as it was"), "{message}");
    assert_eq!((&problem["file"], &problem["line"]), (&Value::Null, &Value::Null));
    assert_eq!(deletes(&world).await, 2);
    assert!(!world.is_converged().await);
    // Nor does another process forget.
    world.stop().await;
    let plan = world.run(&["plan"]).await;
    assert!(String::from_utf8_lossy(&plan.stdout).contains("x roles/r: was deleted twice"), "{plan:?}");
    world.start().await;
    world.until("a problem again", async |world| world.has_problem("roles", "r", "parked").await).await;
    assert_eq!(deletes(&world).await, 2);

    // What it is by now is somebody else's.
    world.edit_live("roles/r", json!({ "description": "two" })).await;
    world.fresh_pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.project().await["undeclared"], 1);
    assert_eq!(deletes(&world).await, 2);
}

/// Once a list had lagged for longer than it is given, the delete was sent again, refused as not found, and stayed parked
/// until the next pass.
#[tokio::test]
async fn a_delete_that_is_repeated_because_the_list_lags_for_long_is_done_once_the_list_follows() {
    let mut world = World::with(syncing()).await;
    let roles = "roles:\n  - { name: r }\n  - { name: stays }\n";
    world.write("roles.yaml", roles);
    world.converge().await;
    switch(&world, json!({ "readDelay": "13s" })).await;
    world.write("roles.yaml", "roles:\n  - { name: stays }\n");
    world.until("deleted", async |world| world.entity("roles", "r").await.is_none()).await;
    let deletes = async |world: &World| {
        world.writes().await.iter().filter(|(line, _)| line == "POST /v1/mgmt/role/delete").count()
    };
    assert_eq!(deletes(&world).await, 1);
    world.fresh_pass().await;
    assert!(!world.is_converged().await, "unconfirmed");
    world.until("sent again", async |world| deletes(world).await >= 2).await;

    world.converge_on(1).await;

    let project = world.project().await;
    assert_eq!((&project["problems"], &project["undeclared"]), (&json!([]), &json!(0)), "{project:#}");
}

/// Somebody was quicker: it was parked as refused though it is gone.
#[tokio::test]
async fn a_delete_of_what_somebody_else_deleted_meanwhile_is_done() {
    let mut world = World::with(syncing()).await;
    world.write("roles.yaml", "roles:\n  - { name: r }\n  - { name: stays }\n");
    world.converge().await;
    let refused = json!({ "errorCode": "E1", "errorMessage": "not found" });
    let fault = json!({ "fault": "status", "status": 400, "body": refused, "effect": true, "match": { "path": "/v1/mgmt/role/delete" } });
    world.faults(json!([fault])).await;
    world.write("roles.yaml", "roles:\n  - { name: stays }\n");

    // Not everything that is refused and in no list is gone.
    world.until("seen", async |world| world.project().await["notConvergedBecause"] == "unconfirmed").await;
    assert_eq!(world.project().await["problems"], json!([]));
    world.stop().await;
    crate::guards::age(&world);
    crate::forget::age(&world, crate::forget::TWO_MINUTES);
    world.start().await;
    world.converge_on(1).await;
    assert_eq!(world.project().await["problems"], json!([]));
}

/// The same of a rename: the old name was renamed again, or the new one made a second time, and refused.
#[tokio::test]
async fn a_rename_that_a_list_lags_behind_for_long_is_done_once_the_list_follows() {
    let mut world = World::new().await;
    world.write("permissions.yaml", "permissions:\n  - { name: old, description: one }\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [old] }\n");
    world.converge().await;
    switch(&world, json!({ "readDelay": "13s" })).await;
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [new] }\n");
    world.write("permissions.yaml", "permissions:\n  - { name: new, renamedFrom: old, description: one }\n");
    world.until("renamed", async |world| world.entity("permissions", "new").await.is_some()).await;
    world.fresh_pass().await;
    assert!(!world.is_converged().await, "unconfirmed");

    world.converge_on(2).await;

    assert_eq!(world.project().await["problems"], json!([]));
    assert_eq!(world.entity("roles", "r").await.unwrap()["permissionNames"], json!(["new"]));
    assert!(world.entity("permissions", "old").await.is_none());
}

/// And of an update: it is written again, which changes nothing, and is no problem.
#[tokio::test]
async fn an_update_that_a_list_lags_behind_for_long_is_done_once_the_list_follows() {
    let mut world = World::new().await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    switch(&world, json!({ "readDelay": "13s" })).await;
    world.write("roles.yaml", &role("two"));
    world.until("sent", async |world| updates(world).await >= 1).await;
    world.fresh_pass().await;
    assert!(!world.is_converged().await, "unconfirmed");

    world.converge_on(1).await;

    assert_eq!(world.project().await["problems"], json!([]));
}
