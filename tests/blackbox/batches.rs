//! Batches that are refused: whole, as Descope documents it, or with a part that took effect all the same.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::write_some;
use serde_json::Value;
use serde_json::json;

async fn world(guards: &str, options: Value) -> World {
    let project = ["firstContact: apply", "policy: sync", &format!("guards: {{ deleteAfter: 0s, {guards} }}")];
    let world = World::with(Setup { project: project.map(str::to_owned).to_vec(), ..Setup::default() }).await;
    world.sim(reqwest::Method::PUT, "options", Some(options)).await;
    world
}

fn roles(names: &[&str]) -> String {
    names.iter().fold("roles:\n".to_owned(), |text, name| text + &format!("  - {name}\n"))
}

/// Every row: `action id: outcome`, and in parentheses what a batch has to do with it.
async fn trail(world: &World) -> Vec<String> {
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let note = if text("message").contains("with its batch") { " (batch)" } else { "" };
        format!("{} {}: {}{note}", text("action"), text("id"), text("outcome"))
    };
    let mut rows: Vec<String> = world.told(&[]).await.iter().map(row).collect();
    rows.sort();
    rows
}

/// They were told as failed, and owned as if somebody else had made them.
#[tokio::test]
async fn creates_that_took_effect_in_a_refused_batch_are_ours() {
    let mut world = world("maxDeletes: 9", json!({ "batch": "partial" })).await;
    world.write("roles.yaml", &roles(&["name: a", "{ name: b, permissionNames: [nope] }", "name: c"]));
    world.start().await;
    world.until("parked", async |world| world.has_problem("roles", "b", "parked").await).await;
    world.pass().await;

    assert_eq!(trail(&world).await, ["create a: ok (batch)", "create b: failed", "create c: ok (batch)"]);
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    let created =
        "SELECT group_concat(name, ' ') FROM (SELECT name FROM owned WHERE created_at NOT NULL ORDER BY name)";
    assert_eq!(state.query_row(created, [], |row| row.get::<_, String>(0)).unwrap(), "a c");
    let open: i64 = state.query_row("SELECT count(*) FROM intent", [], |row| row.get(0)).unwrap();
    assert_eq!(open, 0, "the fate of each is told");
    assert!(world.entity("roles", "b").await.is_none());
}

/// None of them counted, so that the guard never closed.
#[tokio::test]
async fn deletes_that_took_effect_in_a_refused_batch_count() {
    let options = json!({ "batch": "partial", "deleteUsed": "error" });
    let mut world = world("maxDeletes: 4, maxDeletePercent: off", options).await;
    let names = ["name: r0", "name: r1", "name: r2", "name: r3", "name: r4", "name: r5", "name: r6"];
    world.write("roles.yaml", &roles(&names));
    world.converge().await;
    world.edit_live("tenants/foreign", json!({ "name": "F", "defaultRoles": ["r0"] })).await;

    world.write("roles.yaml", &roles(&names[4..]));
    world.until("r0 parked", async |world| world.has_problem("roles", "r0", "parked").await).await;
    world.until("the others gone", async |world| world.entity("roles", "r3").await.is_none()).await;
    let deletes: Vec<String> = trail(&world).await.into_iter().filter(|row| row.starts_with("delete")).collect();
    let expected = ["delete r0: failed", "delete r1: ok (batch)", "delete r2: ok (batch)", "delete r3: ok (batch)"];
    assert_eq!(deletes, expected);
    // One is declared again, two more leave: with three that are gone they are one too many.
    world.write("roles.yaml", &roles(&["name: r0", "name: r6"]));
    world.until("held", async |world| world.project().await["held"]["deletes"] == 2).await;

    world.fresh_pass().await;
    assert!(world.entity("roles", "r4").await.is_some() && world.entity("roles", "r5").await.is_some());
}

/// Requests for the list of roles between the first and the last write of roles.
async fn looks_between_writes(world: &World) -> usize {
    let log = world.log().await;
    let paths: Vec<&str> = log.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    let is_write = |path: &&str| path.starts_with("/v1/mgmt/role/create");
    let (first, last) = (paths.iter().position(is_write).unwrap(), paths.iter().rposition(is_write).unwrap());
    paths[first..=last].iter().filter(|path| **path == "/v1/mgmt/role/all").count()
}

#[tokio::test]
async fn a_batch_that_is_refused_as_a_whole_costs_one_look_for_each_split_and_a_refused_kind_none() {
    for (status, looks) in [(400, 3), (403, 0)] {
        let mut world = world("maxDeletes: 9", json!({})).await;
        world.reconfigure(|setup| setup.top.push("concurrency: 1".to_owned()));
        let matching = if status == 400 {
            json!({ "path": "/v1/mgmt/role/create*", "item": "r7" })
        } else {
            json!({ "path": "/v1/mgmt/role/create*" })
        };
        world.faults(json!([{ "match": matching, "fault": "status", "status": status }])).await;
        let names: Vec<String> = (0..8).map(|n| format!("name: r{n}")).collect();
        world.write("roles.yaml", &roles(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        world.start().await;
        world.until("parked", async |world| world.has_problem("roles", "r7", "parked").await).await;
        world.until("idle", async |world| world.status().await["queue"]["inFlight"] == 0).await;

        assert_eq!(looks_between_writes(&world).await, looks, "{status}");
        let expected = if status == 400 { 7 } else { 0 };
        let landed = world.live().await["roles"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|role| role["name"] != "Tenant Admin")
            .count();
        assert_eq!(landed, expected, "{status}");
    }
}

/// A hundred fit into a call.
#[tokio::test]
async fn two_hundred_permissions_and_roles_need_no_more_than_six_writes() {
    let mut world = World::new().await;
    write_some(&world, 200, 200, 0);
    world.converge().await;

    let writes = world.writes().await;
    assert!(writes.len() <= 6, "{}", writes.len());
    assert!(world.live().await["roles"].as_array().unwrap().len() >= 200);
}
