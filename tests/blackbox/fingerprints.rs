//! Fingerprints of what cannot be read back end with what they speak of.

use crate::harness::World;
use serde_json::json;

async fn patches(world: &World) -> usize {
    world.writes().await.iter().filter(|(line, _)| line == "PATCH /v1/mgmt/tenant/patch").count()
}

async fn world() -> World {
    let world = World::new().await;
    world.sim(reqwest::Method::PUT, "options", Some(json!({ "olderTenants": true }))).await;
    world
}

fn tenant(more: &str) -> String {
    format!("tenants:\n  - {{ id: acme, name: Acme{more} }}\n")
}

/// It said "sent": nothing was sent to the new one, and everything was converged.
#[tokio::test]
async fn of_a_resource_that_was_made_anew_nothing_was_sent() {
    let mut world = world().await;
    world.write("tenants.yaml", &tenant(", federatedAppIds: [app]"));
    world.converge().await;
    world.fresh_pass().await;
    let before = patches(&world).await;
    world.fresh_pass().await;
    assert_eq!(patches(&world).await, before, "it is known");

    let live = json!({ "id": "acme", "name": "Acme", "createdTime": 1_234_567 });
    world.set_live(json!({ "tenants": [live] })).await;
    world.fresh_pass().await;
    world.until("sent", async |world| patches(world).await == before + 1).await;
    world.until("converged", async |world| world.is_converged().await).await;
    let tenant = world.entity("tenants", "acme").await.unwrap();
    assert_eq!(tenant["federatedAppIds"], json!(["app"]), "{tenant}");
}

#[tokio::test]
async fn of_a_line_that_left_the_files_nothing_is_known_when_it_comes_back() {
    let mut world = world().await;
    world.write("tenants.yaml", &tenant(", federatedAppIds: [app]"));
    world.converge().await;
    world.write("tenants.yaml", &tenant(""));
    world.fresh_pass().await;
    world.edit_live("tenants/acme", json!({ "federatedAppIds": [] })).await;
    let before = patches(&world).await;

    world.write("tenants.yaml", &tenant(", federatedAppIds: [app]"));
    world.until("sent", async |world| patches(world).await == before + 1).await;
    assert_eq!(world.entity("tenants", "acme").await.unwrap()["federatedAppIds"], json!(["app"]));
}

/// It was called unverified, since somebody else had created it.
#[tokio::test]
async fn a_parent_that_comes_after_our_own_create_is_refused() {
    let mut world = world().await;
    world.write("tenants.yaml", &tenant(""));
    world.converge().await;

    world.write("tenants.yaml", &(tenant(", parent: top") + "  - { id: top, name: Top }\n"));
    world.until("refused", async |world| world.has_problem("tenants", "acme", "parked").await).await;

    let problem = world.problem("tenants", "acme").await.unwrap();
    assert!(problem["message"].as_str().unwrap().contains("parent can be set only when"), "{problem}");
}
