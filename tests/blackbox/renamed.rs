//! Names that are taken where nobody saw it: whichever way Descope answers such a rename, whoever bears the name stays as it
//! is, and what was to be renamed stays ours.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

async fn world(collision: &str) -> World {
    let policy = "guards: { deleteAfter: 0s, maxDeletes: 100, maxDeletePercent: off }";
    World::with(Setup {
        simulator: vec!["--rate-limit=none".into(), format!("--set=renameCollision={collision}")],
        project: vec!["policy: sync".into(), "firstContact: apply".into(), policy.into()],
        ..Setup::default()
    })
    .await
}

async fn message(world: &World, kind: &str, id: &str) -> String {
    let problem = world.problem(kind, id).await.unwrap_or_default();
    problem["message"].as_str().unwrap_or_default().to_owned()
}

async fn renames(world: &World) -> usize {
    world.writes().await.iter().filter(|(_, body)| body["name"] == "a" && body["newName"] == "taken").count()
}

/// Answered and not done, it counted as done: what bears the name was overwritten, and what was to be renamed was left alone
/// with everybody who has it.
async fn whoever_bears_the_name_is_left_alone(collision: &str, kind: &str, singular: &str) {
    let mut world = world(collision).await;
    world.write("a.yaml", &format!("{kind}: [{{ name: a, description: one }}]\n"));
    world.converge().await;
    let before = world.entity(kind, "a").await.unwrap();
    let listed = world.live().await[kind].as_array().unwrap().len();
    let taken = json!({ "id": "X1", "name": "taken", "description": "of another" });
    let mut live = world.live().await;
    live[kind].as_array_mut().unwrap().push(taken.clone());
    world.set_live(live).await;
    let path = format!("/v1/mgmt/{singular}/all");
    world.faults(json!([{ "match": { "path": path }, "fault": "truncated_list", "keep": listed }])).await;
    let renamed = format!("{kind}: [{{ name: taken, renamedFrom: a, description: two }}]\n");
    world.write("a.yaml", &renamed);
    world.until("sent", async |world| renames(world).await > 0).await;

    world.faults(json!([])).await;
    world.fresh_pass().await;
    let is_told = async |world: &World| message(world, kind, "taken").await.contains("both");
    world.until("told", is_told).await;
    world.fresh_pass().await;

    let rival = world.entity(kind, "taken").await.unwrap();
    assert_eq!((&rival["id"], &rival["description"]), (&json!("X1"), &json!("of another")));
    assert_eq!(world.entity(kind, "a").await.unwrap()["id"], before["id"]);
    assert!(!world.is_converged().await);
    // The look after it came before or after the list was whole.
    assert!(renames(&world).await <= 2);
    // Nor is it forgotten whose it is.
    world.delete_live(&format!("{kind}/taken")).await;
    world.fresh_pass().await;
    world.until("renamed", async |world| world.entity(kind, "a").await.is_none()).await;
    world.until("converged", async |world| world.is_converged().await).await;
    let after = world.entity(kind, "taken").await.unwrap();
    assert_eq!((&after["id"], &after["description"]), (&before["id"], &json!("two")));
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_permission_of_that_name_is_left_alone_where_the_rename_is_refused() {
    whoever_bears_the_name_is_left_alone("error", "permissions", "permission").await;
}

#[tokio::test]
async fn a_permission_of_that_name_is_left_alone_where_the_rename_is_ignored() {
    whoever_bears_the_name_is_left_alone("ignore", "permissions", "permission").await;
}

#[tokio::test]
async fn a_role_of_that_name_is_left_alone_where_the_rename_is_refused() {
    whoever_bears_the_name_is_left_alone("error", "roles", "role").await;
}

#[tokio::test]
async fn a_role_of_that_name_is_left_alone_where_the_rename_is_ignored() {
    whoever_bears_the_name_is_left_alone("ignore", "roles", "role").await;
}

async fn a_name_that_another_tenant_has_is_a_problem(collision: &str, told: &str) {
    let mut world = world(collision).await;
    // Of a tenant whose name is its id as well, it was never told.
    world.write("a.yaml", "tenants: [{ id: taken, name: T }]\n");
    world.converge().await;
    world.edit_live("tenants/other", json!({ "name": "taken" })).await;
    world.write("a.yaml", "tenants: [{ id: taken, name: taken }]\n");
    let updates =
        async |world: &World| world.writes().await.iter().filter(|(line, _)| line.contains("/tenant/patch")).count();
    world.until("sent", async |world| updates(world).await > 0).await;
    world.fresh_pass().await;
    let is_told = async |world: &World| message(world, "tenants", "taken").await.contains(told);
    world.until(told, is_told).await;
    let sent = updates(&world).await;
    world.fresh_pass().await;
    world.fresh_pass().await;

    assert_eq!(updates(&world).await, sent);
    assert!(!world.is_converged().await);
    assert_eq!(world.entity("tenants", "other").await.unwrap()["name"], "taken");
}

#[tokio::test]
async fn a_name_that_another_tenant_has_is_a_problem_where_it_is_refused() {
    a_name_that_another_tenant_has_is_a_problem("error", "already exists").await;
}

#[tokio::test]
async fn a_name_that_another_tenant_has_is_a_problem_where_it_is_ignored() {
    a_name_that_another_tenant_has_is_a_problem("ignore", "Descope keeps").await;
}

/// The new name was made beside the old one.
#[tokio::test]
async fn a_rename_that_is_answered_and_not_done_is_sent_once_more_and_then_a_problem() {
    let mut world = world("error").await;
    world.write("a.yaml", "roles: [{ name: a }]\n");
    world.converge().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/update" }, "fault": "empty200" }])).await;
    world.write("a.yaml", "roles: [{ name: taken, renamedFrom: a }]\n");
    world.until("sent", async |world| renames(world).await == 1).await;
    world.fresh_pass().await;
    world.until("a problem", async |world| world.has_problem("roles", "taken", "parked").await).await;

    let told = message(&world, "roles", "taken").await;
    assert!(told.contains("answered"), "{told}");
    assert_eq!(renames(&world).await, 2);
    let creates = world.writes().await.iter().filter(|(line, _)| line.contains("/role/create")).count();
    assert_eq!(creates, 1);
    world.fresh_pass().await;
    assert!(!world.is_converged().await);
    assert_eq!(renames(&world).await, 2);

    world.faults(json!([])).await;
    world.write("a.yaml", "roles: [{ name: taken, renamedFrom: a, description: two }]\n");
    world.until("renamed", async |world| world.entity("roles", "taken").await.is_some()).await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.project().await["problems"], Value::Array(Vec::new()));
}

/// While the list did not show yet what is to be renamed, the new name was created beside it.
#[tokio::test]
async fn what_was_created_a_moment_ago_is_renamed_once_the_list_shows_it() {
    let mut world = world("error").await;
    std::fs::create_dir(world.path("secrets")).unwrap();
    let secrets = format!("secrets: {{ dir: {} }}", world.path("secrets").display());
    world.reconfigure(|setup| setup.project.push(secrets));
    let files = |name: &str, more: &str| {
        format!(
            "accessKeys: [{{ name: {name}, secretFile: k{more} }}]\nlists: [{{ name: {name}, type: texts, data: [x]{more} }}]\n\
             inboundApps: [{{ name: {name}, secretFile: i{more} }}]\n"
        )
    };
    world.write("a.yaml", &files("a", ""));
    world.converge().await;
    world.sim(reqwest::Method::PUT, "options", Some(json!({ "readDelay": "3s" }))).await;
    let seq = world.newest_seq().await;
    world.write("a.yaml", &files("b", ", renamedFrom: a"));
    let writes = async |world: &World| {
        let log = world.requests_since(seq).await;
        log.into_iter()
            .filter(|call| call["effect"] == true)
            .map(|call| json!([call["path"], call["body"]]))
            .collect::<Vec<_>>()
    };
    world.until("sent", async |world| writes(world).await.len() >= 3).await;
    for _ in 0..3 {
        world.fresh_pass().await;
        assert_eq!(world.project().await["problems"], json!([]));
    }

    world.until("converged", async |world| world.is_converged().await).await;

    assert_eq!(writes(&world).await.len(), 3, "{:?}", writes(&world).await);
}
