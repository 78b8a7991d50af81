//! The main job: a project becomes equal to the repo and stays so.

use crate::harness::PROJECT;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::write_some;
use serde_json::json;

#[tokio::test]
async fn a_fresh_project_converges_in_the_fewest_writes_and_then_nothing_is_sent() {
    let mut world = World::new().await;
    write_some(&world, 3, 2, 4);

    world.converge().await;

    let writes: Vec<String> = world.writes().await.into_iter().map(|(line, _)| line).collect();
    let batches = ["POST /v1/mgmt/permission/create/batch", "POST /v1/mgmt/role/create/batch"];
    let creates = ["POST /v1/mgmt/tenant/create"; 4];
    assert_eq!(writes, [&batches[..], &creates[..]].concat());
    assert!(world.entity("tenants", "t3").await.is_some());
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_field_that_the_yaml_leaves_out_survives_every_update() {
    let mut world = World::new().await;
    world
        .set_live(json!({
            "permissions": [{ "name": "p", "description": "live" }],
            "roles": [{ "name": "r", "description": "live", "permissionNames": ["p"], "private": true }],
            "tenants": [{ "id": "t", "name": "Old", "selfProvisioningDomains": ["live.example"],
                          "customAttributes": { "plan": "gold" }, "disabled": true }],
        }))
        .await;
    world.edit_live("roles/r", json!({ "somethingNew": 7 })).await;
    world.write("all.yaml", "roles:\n  - { name: r, default: true }\ntenants:\n  - { id: t, name: New }\n");

    world.converge().await;

    let role = world.entity("roles", "r").await.unwrap();
    assert_eq!(
        (&role["default"], &role["description"], &role["private"]),
        (&json!(true), &json!("live"), &json!(true))
    );
    assert_eq!((&role["permissionNames"], &role["somethingNew"]), (&json!(["p"]), &json!(7)));
    let tenant = world.entity("tenants", "t").await.unwrap();
    assert_eq!((&tenant["name"], &tenant["disabled"]), (&json!("New"), &json!(true)));
    assert_eq!(tenant["selfProvisioningDomains"], json!(["live.example"]));
    assert_eq!(tenant["customAttributes"], json!({ "plan": "gold" }));
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn drift_heals_at_the_interval() {
    let mut world = World::with(Setup { interval: "300ms", ..Setup::default() }).await;
    write_some(&world, 2, 1, 1);
    world.converge().await;

    world.edit_live("permissions/p1", json!({ "description": "somebody was here" })).await;

    world
        .until("healed", async |world| {
            world.entity("permissions", "p1").await.unwrap()["description"] == "permission 1"
        })
        .await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.project().await["name"], "default", "{PROJECT}");
}
