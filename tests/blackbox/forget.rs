//! Nothing is forgotten because one list lacks it, and nothing is called done that nobody can tell.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

const LIST: &str = "/v1/mgmt/role/all";

/// Roles that were there before, declared and so owned: no young age excuses their absence from a list.
async fn adopted(names: &[&str], guards: &str) -> World {
    let project = ["firstContact: apply".to_owned(), "policy: sync".to_owned(), format!("guards: {{ {guards} }}")];
    let top = ["requestTimeout: 50s", "retry: { maxAttempts: 1, initialBackoff: 100ms, maxBackoff: 100ms }"];
    let mut world =
        World::with(Setup { project: project.to_vec(), top: top.map(str::to_owned).to_vec(), ..Setup::default() })
            .await;
    let live: Vec<Value> = names.iter().map(|name| json!({ "name": name, "description": name })).collect();
    world.set_live(json!({ "roles": live })).await;
    declare(&world, names);
    world.converge().await;
    assert!(world.writes().await.is_empty());
    world
}

const OPEN: &str = "maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s";

fn declare(world: &World, names: &[&str]) {
    let roles = names.iter().map(|name| format!("  - {{ name: {name}, description: {name} }}\n"));
    world.write("roles.yaml", &format!("roles:\n{}", roles.collect::<String>()));
}

/// The next list of roles is cut off after as many.
fn cut_off_once(keep: usize) -> Value {
    json!({ "match": { "path": LIST, "times": 1 }, "fault": "truncated_list", "keep": keep })
}

async fn is_there(world: &World, name: &str) -> bool {
    world.entity("roles", name).await.is_some()
}

async fn outcomes(world: &World, name: &str) -> Vec<Value> {
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "roles", "--id", name], 0).await;
    trail["changes"].as_array().unwrap().iter().map(|row| row["outcome"].clone()).collect()
}

/// What had left the YAML and was missing from one list was owned no more, so that it was never pruned.
#[tokio::test]
async fn held_deletes_survive_a_list_that_lacks_them() {
    let names = ["stays", "a", "b", "c", "d", "e", "f"];
    let world = adopted(&names, "maxDeletes: 3, maxDeletePercent: 100, deleteAfter: 0s").await;
    declare(&world, &["stays"]);
    world.until("held", async |world| world.project().await["held"]["deletes"] == 6).await;

    world.faults(json!([cut_off_once(1)])).await;
    world.pass().await;
    world.pass().await;

    assert_eq!(world.project().await["undeclared"], 0, "all of it is still ours");
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    let approve = format!("/api/v1/approve?plan={fingerprint}");
    assert_eq!(world.ask(reqwest::Method::POST, &approve).await.0, 200);
    for name in &names[1..] {
        world.until(&format!("{name} is gone"), async |world| !is_there(world, name).await).await;
    }
    world.until("converged", async |world| world.is_converged().await).await;
    assert!(is_there(&world, "stays").await);
}

/// Once both sides have lost it, it is nobody's: what appears under its name later is not deleted.
#[tokio::test]
async fn what_is_really_gone_is_forgotten() {
    let world = adopted(&["stays", "gone"], "maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s").await;
    declare(&world, &["stays"]);
    world.until("held", async |world| world.project().await["held"]["deletes"] == 1).await;

    world.delete_live("roles/gone").await;
    world.pass().await;
    world.edit_live("roles/gone", json!({ "description": "another one" })).await;
    world.pass().await;

    assert!(world.project().await["held"].is_null());
    assert_eq!(world.project().await["undeclared"], 1);
    world.assert_nothing_left().await;
}

/// The list that a worker looks at before it tries again said that it was done.
#[tokio::test]
async fn a_delete_without_an_answer_is_not_done_because_one_list_lacks_it() {
    let world = adopted(&["stays", "a", "b"], OPEN).await;
    let unavailable = json!({ "match": { "path": "/v1/mgmt/role/delete*" }, "fault": "status", "status": 503 });
    world.faults(json!([unavailable])).await;
    declare(&world, &["stays", "a"]);
    world.until("tried", async |world| !world.writes().await.is_empty()).await;

    world.faults(json!([cut_off_once(1)])).await;

    world.until("gone", async |world| !is_there(world, "b").await).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    assert_eq!(outcomes(&world, "b").await.last(), Some(&json!("ok")));
    assert_eq!(world.project().await["undeclared"], 0);
}

/// The first list after a power cut said so.
#[tokio::test]
async fn a_delete_that_was_cut_off_is_not_done_because_one_list_lacks_it() {
    let mut world = adopted(&["stays", "a", "b"], OPEN).await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/delete*" }, "fault": "hang" }])).await;
    declare(&world, &["stays", "a"]);
    world.until("sent", async |world| !world.writes().await.is_empty()).await;
    world.kill().await;

    world.faults(json!([cut_off_once(1)])).await;
    world.start().await;

    world.until("gone", async |world| !is_there(world, "b").await).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    assert_eq!(outcomes(&world, "b").await, ["failed", "ok"]);
}

/// It was called done: it was no longer what it had been, and the call that was planned next was another one.
#[tokio::test]
async fn an_update_that_was_cut_off_before_somebody_else_wrote_is_called_neither_done_nor_failed() {
    let mut world = adopted(&["a"], OPEN).await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/update" }, "fault": "hang" }])).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: new }\n");
    world.until("sent", async |world| !world.writes().await.is_empty()).await;
    world.kill().await;

    world.faults(json!([])).await;
    world.edit_live("roles/a", json!({ "default": true })).await;
    world.start().await;

    world.until("new", async |world| world.entity("roles", "a").await.unwrap()["description"] == "new").await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(outcomes(&world, "a").await, ["unknown", "ok"]);
    assert_eq!(world.entity("roles", "a").await.unwrap()["default"], true, "not ours to change");
}

#[tokio::test]
async fn an_update_that_was_cut_off_after_it_took_effect_is_called_done() {
    let mut world = adopted(&["a"], OPEN).await;
    let lost = json!({ "match": { "path": "/v1/mgmt/role/update" }, "fault": "delay", "delay": "50s", "effect": true });
    world.faults(json!([lost])).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: new }\n");
    world.until("new", async |world| world.entity("roles", "a").await.unwrap()["description"] == "new").await;
    world.kill().await;

    world.faults(json!([])).await;
    world.edit_live("roles/a", json!({ "default": true })).await;
    world.start().await;

    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(outcomes(&world, "a").await, ["ok"]);
    world.assert_nothing_left().await;
}
