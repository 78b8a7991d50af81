//! An overwriting call carries what was seen, so it must not have been seen long ago.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::json;

fn role(description: &str) -> String {
    format!("roles:\n  - {{ name: r, description: {description} }}\n")
}

async fn with_role(setup: Setup) -> World {
    let mut world = World::with(setup).await;
    world.write("roles.yaml", &role("one"));
    world.write("permissions.yaml", "permissions:\n  - name: p\n  - name: q\n");
    world.converge().await;
    world
}

/// The update of the description took permissions back that somebody gave meanwhile.
#[tokio::test]
async fn what_failed_and_waited_is_looked_at_again_before_it_overwrites() {
    let retry = "retry: { maxAttempts: 1, initialBackoff: 2s, maxBackoff: 2s }".to_owned();
    let world = with_role(Setup { top: vec![retry], ..Setup::default() }).await;
    let fail = json!({ "match": { "path": "/v1/mgmt/role/update", "times": 1 }, "fault": "status", "status": 503 });
    world.faults(json!([fail])).await;
    world.write("roles.yaml", &role("two"));
    world.until("it waits", async |world| world.has_problem("roles", "r", "retrying").await).await;

    world.edit_live("roles/r", json!({ "permissionNames": ["p", "q"] })).await;
    world.until("written", async |world| world.entity("roles", "r").await.unwrap()["description"] == "two").await;

    assert_eq!(world.entity("roles", "r").await.unwrap()["permissionNames"], json!(["p", "q"]));
}

#[tokio::test]
async fn what_waited_at_the_gate_for_longer_than_the_interval_is_looked_at_again_before_it_overwrites() {
    let limit = "rateLimit: { limit: 100/4s, lockout: 4s }".to_owned();
    let world = with_role(Setup { interval: "1s", top: vec![limit], ..Setup::default() }).await;
    let refuse = json!({ "match": { "path": "/v1/mgmt/role/update", "times": 1 }, "fault": "status", "status": 429,
        "headers": { "retry-after": "4" } });
    world.faults(json!([refuse])).await;
    world.write("roles.yaml", &role("two"));
    world.until("refused", async |world| world.log().await.iter().any(|entry| entry["status"] == 429)).await;

    world.edit_live("roles/r", json!({ "permissionNames": ["p", "q"] })).await;
    world.until("written", async |world| world.entity("roles", "r").await.unwrap()["description"] == "two").await;

    assert_eq!(world.entity("roles", "r").await.unwrap()["permissionNames"], json!(["p", "q"]));
}

/// A look that waits for the rate limit and a write that waits after it would look for ever.
#[tokio::test]
async fn at_a_full_budget_looks_do_not_keep_the_writes_from_going_out() {
    let top = vec!["rateLimit: { limit: 6/3s, lockout: 3s }".to_owned(), "concurrency: 8".to_owned()];
    let simulator = vec!["--rate-limit=6/3s".to_owned(), "--lockout=3s".to_owned()];
    let mut world = World::with(Setup { simulator, interval: "1s", top, ..Setup::default() }).await;
    let roles = |text: &str| {
        let attributes = |n| format!("  - {{ id: t{n}, name: T {n}, customAttributes: {{ plan: {text} }} }}\n");
        format!("tenants:\n{}", (0..12).map(attributes).collect::<String>())
    };
    world.write("tenants.yaml", &roles("one"));
    world.converge().await;

    world.write("tenants.yaml", &roles("two"));
    world
        .until("all written", async |world| {
            let live = world.live().await;
            live["tenants"].as_array().unwrap().iter().all(|tenant| tenant["customAttributes"]["plan"] == "two")
        })
        .await;

    let log = world.log().await;
    let since = log.iter().position(|entry| entry["method"] == "PATCH").unwrap();
    let of = |method: &str| log[since..].iter().filter(|entry| entry["method"] == method).count();
    assert_eq!(of("PATCH"), 12, "each is written once");
    assert!(of("GET") <= 24, "one look serves all that wait: {}", of("GET"));
}
