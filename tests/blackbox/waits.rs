//! What is not at rest says why, since when and until when.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

fn role(description: &str) -> String {
    format!("roles:\n  - {{ name: r, description: {description} }}\n")
}

/// The row of a resource.
async fn wait(world: &World, kind: &str, id: &str) -> Option<Value> {
    let waits = world.project().await["waits"].as_array().unwrap().clone();
    waits.into_iter().find(|wait| wait["kind"] == kind && wait["id"] == id)
}

/// The row of a resource, once it says this.
async fn wait_for(world: &World, kind: &str, id: &str, why: &str) -> Value {
    let says = |wait: &Value| wait["why"].as_str().unwrap().starts_with(why);
    world.until(why, async |world| wait(world, kind, id).await.is_some_and(|wait| says(&wait))).await;
    let wait = wait(world, kind, id).await.unwrap();
    assert!(wait["since"].is_string(), "{wait}");
    wait
}

async fn nothing_waits(world: &mut World) {
    world.converge().await;
    let project = world.project().await;
    assert_eq!((&project["waits"], &project["waitCounts"]), (&json!([]), &json!({})));
}

async fn switch(world: &World, options: Value) {
    world.sim(reqwest::Method::PUT, "options", Some(options)).await;
}

#[tokio::test]
async fn what_waits_at_the_gate_is_told_in_part_and_counted_as_a_whole() {
    let top = vec!["rateLimit: { limit: 1000/60s, lockout: 5s }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    let refuse = json!({ "match": { "path": "/v1/mgmt/tenant/create", "times": 1 }, "fault": "status", "status": 429,
        "headers": { "retry-after": "5" } });
    world.faults(json!([refuse])).await;
    let tenant = |n| format!("  - {{ id: t{n}, name: T {n}, defaultRoles: [r] }}\n");
    world.write("tenants.yaml", &format!("tenants:\n{}", (0..150).map(tenant).collect::<String>()));
    world.write("roles.yaml", &role("one"));
    world.start().await;
    world.until("at the gate", async |world| world.project().await["waitCounts"]["gate"].is_u64()).await;

    let project = world.project().await;

    let waits = project["waits"].as_array().unwrap();
    let at_gate = waits.iter().find(|wait| wait["why"].as_str().unwrap().starts_with("gate: ")).unwrap();
    assert!(at_gate["since"].is_string() && at_gate["until"].is_string(), "{at_gate}");
    assert!(waits.len() <= 100, "{}", waits.len());
    let total: u64 = project["waitCounts"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert!(total >= 150, "{}", project["waitCounts"]);
    assert_eq!(project["converged"], false);
    world.until("converged", async |world| world.is_converged().await).await;
    nothing_waits(&mut world).await;
}

#[tokio::test]
async fn what_failed_what_was_refused_and_what_depends_on_it_say_so() {
    let retry = "retry: { maxAttempts: 1, initialBackoff: 60s, maxBackoff: 60s }".to_owned();
    let mut world = World::with(Setup { top: vec![retry], ..Setup::default() }).await;
    let fault = |body: Value, status: u16| json!({ "match": { "body": body }, "fault": "status", "status": status });
    world.faults(json!([fault(json!({ "name": "p" }), 400), fault(json!({ "id": "t" }), 503)])).await;
    world.write("permissions.yaml", "permissions:\n  - name: p\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [p] }\n");
    world.write("tenants.yaml", "tenants:\n  - { id: t, name: T }\n");
    world.start().await;

    let parked = wait_for(&world, "permissions", "p", "parked: ").await;
    let dependency = wait_for(&world, "roles", "r", "dependency: ").await;
    let backoff = wait_for(&world, "tenants", "t", "backoff: ").await;

    assert!(parked["why"].as_str().unwrap().contains("refused by a rule of the simulator"), "{parked}");
    assert!(dependency["why"].as_str().unwrap().contains("permissions/p, which is parked"), "{dependency}");
    assert!(parked["until"].is_null() && dependency["until"].is_null());
    assert!(backoff["until"].is_string(), "{backoff}");
}

#[tokio::test]
async fn what_descope_does_not_show_yet_is_unconfirmed() {
    let mut world = World::new().await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    switch(&world, json!({ "readDelay": "5s" })).await;

    world.write("roles.yaml", &(role("two") + "  - name: fresh\n"));
    world.until("made", async |world| world.entity("roles", "fresh").await.is_some()).await;
    world.fresh_pass().await;

    let update = wait_for(&world, "roles", "r", "unconfirmed: ").await;
    let create = wait_for(&world, "roles", "fresh", "unconfirmed: ").await;
    assert!(update["until"].is_string() && create["until"].is_string(), "{update} {create}");
    assert_eq!(world.project().await["notConvergedBecause"], "unconfirmed");
    world.until("shown", async |world| world.is_converged().await || wait(world, "roles", "r").await.is_none()).await;
    world.fresh_pass().await;
    nothing_waits(&mut world).await;
}

/// The rows were those of the last pass until the next one ended, which waited at the gate itself.
#[tokio::test]
async fn what_is_told_of_the_gate_is_true_while_a_pass_waits_at_it() {
    let top = vec!["rateLimit: { limit: 1000/60s, lockout: 8s }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    let park = json!({ "match": { "path": "/v1/mgmt/role/update" }, "fault": "status", "status": 503 });
    world.faults(json!([park])).await;
    world.write("roles.yaml", &role("two"));
    world.until("tried", async |world| world.has_problem("roles", "r", "retrying").await).await;
    let refuse = json!({ "fault": "status", "status": 429, "headers": { "retry-after": "8" } });
    world.faults(json!([refuse])).await;
    world.until("closed", async |world| world.status().await["limiters"][0]["pausedUntil"].is_string()).await;
    assert_eq!(world.ask(reqwest::Method::POST, "/api/v1/reconcile").await.0, 202);

    let row = wait_for(&world, "roles", "r", "gate: ").await;
    assert!(row["until"].is_string(), "{row}");
    assert_eq!(world.project().await["waitCounts"]["budget"], Value::Null);
    world.faults(json!([])).await;
    nothing_waits(&mut world).await;
}
