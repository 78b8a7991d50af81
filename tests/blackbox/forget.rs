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

/// So is every one from now on.
async fn cut_off(world: &World, keep: usize) {
    world.faults(json!([{ "match": { "path": LIST }, "fault": "truncated_list", "keep": keep }])).await;
}

/// Makes everything missing look as if it had been so for long.
pub fn age(world: &World, by: u64) {
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    state.execute(&format!("UPDATE missing SET since = since - {by}"), []).unwrap();
}

pub const TWO_MINUTES: u64 = 2 * 60 * 1000;
const AN_HOUR: u64 = 60 * 60 * 1000;

/// Until the files say this, and a look was made for them.
async fn planned(world: &World, names: &[&str]) {
    declare(world, names);
    world.until("loaded", async |world| world.project().await["desired"]["resources"] == names.len()).await;
    world.pass().await;
}

async fn waits(world: &World) -> Vec<(String, String)> {
    let project = world.project().await;
    let wait = |wait: &Value| {
        let word = wait["why"].as_str().unwrap().split(':').next().unwrap().to_owned();
        (wait["id"].as_str().unwrap().to_owned(), word)
    };
    project["waits"].as_array().unwrap().iter().map(wait).collect()
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

/// It was owned no more as soon as one look lacked it, and was never deleted.
#[tokio::test]
async fn what_leaves_the_files_while_the_list_lacks_it_is_deleted_once_the_list_is_whole() {
    for is_restarted in [false, true] {
        let mut world = adopted(&["stays", "a"], OPEN).await;
        cut_off(&world, 1).await;
        planned(&world, &["stays"]).await;

        world.pass().await;
        assert_eq!(waits(&world).await, [("a".to_owned(), "unconfirmed".to_owned())]);
        assert_eq!(world.project().await["notConvergedBecause"], "unconfirmed");
        if is_restarted {
            world.stop().await;
            world.start().await;
        }
        world.faults(json!([])).await;
        world.pass().await;

        world.until("gone", async |world| !is_there(world, "a").await).await;
        world.until("converged", async |world| world.is_converged().await).await;
        assert_eq!(world.project().await["undeclared"], 0);
    }
}

/// Thirty of forty stayed for ever, and the status said that all was in sync.
#[tokio::test]
async fn a_list_that_lacks_much_of_what_leaves_the_files_is_not_believed() {
    let names = ["stays", "a", "b", "c", "d", "e", "f", "g"];
    let mut world = adopted(&names, OPEN).await;
    cut_off(&world, 1).await;
    planned(&world, &["stays"]).await;
    world.stop().await;
    age(&world, TWO_MINUTES);
    world.start().await;
    world.until("doubted", async |world| world.project().await["notConvergedBecause"] == "held").await;
    let apart = world.run_json(&["plan", "-o", "json", "--exit-code"], 2).await;
    let warning =
        "Descope's list of roles lacks 7 that this daemon owns; nothing of roles is changed until that is approved";
    assert_eq!(apart["projects"][0]["warnings"][0], warning, "{apart}");

    world.faults(json!([])).await;
    world.pass().await;

    for name in &names[1..] {
        world.until(&format!("{name} is gone"), async |world| !is_there(world, name).await).await;
    }
    world.until("converged", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn a_loss_of_much_is_believed_once_it_is_approved_or_old() {
    for is_approved in [true, false] {
        let mut world = adopted(&["stays", "a", "b", "c", "d", "e"], OPEN).await;
        for name in ["a", "b", "c", "d", "e"] {
            world.delete_live(&format!("roles/{name}")).await;
        }
        planned(&world, &["stays", "new"]).await;
        world.until("held", async |world| world.project().await["held"]["reason"] == "observation_shrank").await;
        if is_approved {
            let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
            assert_eq!(world.ask(reqwest::Method::POST, &format!("/api/v1/approve?plan={fingerprint}")).await.0, 200);
        } else {
            world.stop().await;
            age(&world, AN_HOUR);
            world.start().await;
        }
        world.until("made", async |world| is_there(world, "new").await).await;
        world.until("converged", async |world| world.is_converged().await).await;
        world.edit_live("roles/a", json!({ "description": "another one" })).await;
        world.pass().await;
        world.assert_nothing_left().await;
        assert_eq!(world.project().await["undeclared"], 1);
    }
}

/// One run after the other, as in CI.
#[tokio::test(flavor = "multi_thread")]
async fn apply_forgets_nothing_for_one_list_either() {
    let mut world = adopted(&["stays", "a", "b", "c", "d", "e"], OPEN).await;
    world.stop().await;
    let apply = async |world: &World, code: i32| {
        world.run_json(&["apply", "--auto-approve", "-o", "json"], code).await["projects"][0].clone()
    };
    cut_off(&world, 5).await;
    declare(&world, &["stays", "a", "b", "c", "d"]);
    let told = apply(&world, 0).await;
    assert!(told["warnings"][0].as_str().unwrap().contains("lacks 1 that left the YAML (e)"), "{told}");
    world.faults(json!([])).await;
    apply(&world, 0).await;
    assert!(!is_there(&world, "e").await);

    cut_off(&world, 1).await;
    declare(&world, &["stays"]);
    apply(&world, 4).await;
    world.faults(json!([])).await;
    apply(&world, 0).await;
    for name in ["a", "b", "c", "d"] {
        assert!(!is_there(&world, name).await, "{name}");
    }
}

/// It was made a second time under its new name, and the first one was nobody's.
#[tokio::test]
async fn a_rename_waits_for_what_the_list_lacks() {
    let world = adopted(&["stays", "old"], OPEN).await;
    cut_off(&world, 1).await;
    world.write("roles.yaml", "roles:\n  - { name: stays }\n  - { name: new, renamedFrom: old, description: old }\n");
    world.until("waits", async |world| world.project().await["notConvergedBecause"] == "unconfirmed").await;
    world.pass().await;
    assert!(world.writes().await.is_empty());

    world.faults(json!([])).await;
    world.until("renamed", async |world| is_there(world, "new").await).await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert!(!is_there(&world, "old").await);
    assert_eq!(world.writes().await.len(), 1);
}

/// The permission went first, under the role that nobody saw.
#[tokio::test]
async fn what_the_list_lacks_may_still_refer_to_what_is_to_go() {
    let mut world = adopted(&["stays", "a"], OPEN).await;
    world.set_live(json!({
        "permissions": [{ "name": "p" }, { "name": "q" }],
        "roles": [{ "name": "stays", "description": "stays" }, { "name": "a", "description": "a", "permissionNames": ["p"] }],
    })).await;
    world.write("permissions.yaml", "permissions: [{ name: p }, { name: q }]\n");
    world.until("owned", async |world| world.project().await["desired"]["resources"] == 4).await;
    world.pass().await;
    world.stop().await;
    cut_off(&world, 1).await;
    declare(&world, &["stays"]);
    world.write("permissions.yaml", "permissions: [{ name: q }]\n");
    world.start().await;
    world.until("looked", async |world| world.passes().await > 0).await;
    world.pass().await;
    assert_eq!(crate::guards::reason(&world, "permissions", "p").await.as_deref(), Some("blocked"));
    assert_eq!(world.writes().await, []);

    world.faults(json!([])).await;
    world.pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert!(!is_there(&world, "a").await && world.entity("permissions", "p").await.is_none());
}

/// Once both sides have lost it, it is nobody's: what appears under its name later is not deleted.
#[tokio::test]
async fn what_is_really_gone_is_forgotten() {
    let mut world = adopted(&["stays", "gone"], "maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s").await;
    declare(&world, &["stays"]);
    world.until("held", async |world| world.project().await["held"]["deletes"] == 1).await;

    world.delete_live("roles/gone").await;
    world.pass().await;
    world.stop().await;
    age(&world, TWO_MINUTES);
    world.start().await;
    world.until("converged", async |world| world.is_converged().await).await;
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
