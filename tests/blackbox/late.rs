//! Calls that land when nobody wants them any more: the files moved on while they were under way.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

/// A project whose lists lag behind. A call of this path answers long after that: a look in between does not see it.
async fn lagging(path: &str, fault: Value) -> World {
    let mut world = World::with(Setup {
        project: ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s }"].map(str::to_owned).to_vec(),
        ..Setup::default()
    })
    .await;
    world.write("roles.yaml", &roles("  - { name: x, description: one }\n"));
    world.converge().await;
    world.sim(reqwest::Method::PUT, "options", Some(json!({ "readDelay": "2s" }))).await;
    let mut rule = json!({ "match": { "path": path, "times": 1 }, "delay": "3500ms" });
    rule.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
    world.faults(json!([rule])).await;
    world
}

fn roles(more: &str) -> String {
    format!("roles:\n  - name: other\n{more}")
}

/// Declares something, and something else once the call for it is under way.
async fn change_twice(world: &World, first: &str, then: &str) {
    let before = world.effects().await;
    world.write("roles.yaml", &roles(first));
    world.until("the call under way", async |world| world.effects().await > before).await;
    let revision = async |world: &World| world.project().await["desired"]["revision"].clone();
    let first = revision(world).await;
    world.write("roles.yaml", &roles(then));
    world.until("a look at what was declared then", async |world| revision(world).await != first).await;
    world.until("converged", async |world| world.is_converged().await).await;
}

impl World {
    /// Calls that changed something.
    async fn effects(&self) -> usize {
        self.log().await.iter().filter(|entry| entry["effect"] == true).count()
    }
}

/// The project was called converged though the old value had come back.
#[tokio::test]
async fn an_update_that_lands_after_the_files_went_back_is_put_back() {
    for fault in [json!({ "fault": "delay" }), json!({ "fault": "status", "status": 503, "effect": true })] {
        let world = lagging("/v1/mgmt/role/update*", fault).await;

        change_twice(&world, "  - { name: x, description: two }\n", "  - { name: x, description: one }\n").await;

        assert_eq!(world.entity("roles", "x").await.unwrap()["description"], "one");
    }
}

/// It was missing until the next interval.
#[tokio::test]
async fn what_a_late_delete_takes_though_it_is_declared_again_is_created_again() {
    let world = lagging("/v1/mgmt/role/delete*", json!({ "fault": "delay" })).await;

    change_twice(&world, "", "  - { name: x, description: one }\n").await;

    assert!(world.entity("roles", "x").await.is_some());
}

/// It stayed until the next interval.
#[tokio::test]
async fn what_a_late_create_leaves_though_it_left_the_files_is_deleted_again() {
    for fault in [json!({ "fault": "delay" }), json!({ "fault": "reset_after" })] {
        let world = lagging("/v1/mgmt/role/create*", fault).await;
        let x = "  - { name: x, description: one }\n";

        change_twice(&world, &format!("{x}  - name: late\n"), x).await;

        world.until("deleted", async |world| world.entity("roles", "late").await.is_none()).await;
    }
}

/// It went out when the rate limit let it go, for what had been approved a minute before.
#[tokio::test]
async fn an_approved_delete_that_waited_for_the_rate_limit_looks_again_before_it_is_sent() {
    let mut world = World::with(Setup {
        interval: "1s",
        project: ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s }"].map(str::to_owned).to_vec(),
        top: vec!["rateLimit: { limit: 40/1s, lockout: 3s }".to_owned()],
        ..Setup::default()
    })
    .await;
    world.write("tenants.yaml", "tenants:\n  - { id: a, name: A }\n  - { id: b, name: B }\n");
    world.converge().await;
    world.write("tenants.yaml", "tenants:\n  - { id: b, name: B }\n");
    world.until("held", async |world| world.project().await["held"]["deletes"] == 1).await;
    world
        .faults(
            json!([{ "match": { "path": "/v1/mgmt/tenant/delete", "times": 1 }, "fault": "status", "status": 429 }]),
        )
        .await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    let approval = format!("/api/v1/approve?plan={fingerprint}");
    assert_eq!(world.ask(reqwest::Method::POST, &approval).await.0, 200);
    let throttled = async |world: &World| world.log().await.iter().any(|entry| entry["status"] == 429);
    world.until("the gate closed", throttled).await;

    world.edit_live("tenants/a", json!({ "name": "in use again" })).await;
    world
        .until("held anew", async |world| {
            let held = world.project().await["held"]["fingerprint"].clone();
            held.is_string() && held != fingerprint.as_str()
        })
        .await;

    assert!(world.entity("tenants", "a").await.is_some());
    let sent = world.writes().await.iter().filter(|(line, _)| line.contains("tenant/delete")).count();
    assert_eq!(sent, 1, "only the one that was throttled");
}
