//! A field that somebody else turns back again and again is not set again and again.

use crate::guards::approve;
use crate::guards::held;
use crate::harness::World;
use serde_json::json;

/// Somebody turns it back, after a look has shown it as declared. To another value each time: for some seconds after our
/// write, the one from before proves nothing.
pub async fn turn_back(world: &World, to: &str) {
    world.until("ours", async |world| world.entity("roles", "r").await.unwrap()["description"] == "ours").await;
    world.until("at rest", async |world| world.is_converged().await).await;
    world.fresh_pass().await;
    world.edit_live("roles/r", json!({ "description": to })).await;
    world.fresh_pass().await;
}

#[tokio::test]
async fn the_fifth_time_the_resource_is_left_alone_with_both_values_told() {
    let mut world = World::new().await;
    world
        .write("a.yaml", "permissions: [{ name: p }]\nroles: [{ name: r, description: ours, permissionNames: [p] }]\n");
    world.converge().await;
    for n in 0..4 {
        turn_back(&world, &format!("theirs {n}")).await;
    }
    // The fourth is healed like those before it.
    turn_back(&world, "theirs").await;

    let fingerprint = held(&world, "contested").await;
    let project = world.project().await;
    let contested = &project["contested"][0];
    assert_eq!(
        (&contested["kind"], &contested["id"], &contested["path"]),
        (&json!("roles"), &json!("r"), &json!("description"))
    );
    assert_eq!(
        (&contested["declared"], &contested["live"], &contested["times"]),
        (&json!("\"ours\""), &json!("\"theirs\""), &json!(5))
    );
    assert_eq!(project["holds"][0]["until"], contested["until"]);
    assert_eq!(world.metric("contested_resources{kind=\"roles\",project=\"default\"}").await, Some(1.0));
    world.assert_nothing_left().await;
    assert_eq!(world.entity("roles", "r").await.unwrap()["description"], "theirs");

    if let Some(browser) = crate::page::browser() {
        let release = format!("approve {fingerprint}");
        let expect = ["roles/r is turned back again and again", "\"theirs\"", release.as_str()];
        let never = ["It is put back", "it is put back", "held for approval", "changed in Descope though no file was"];
        let look = json!({ "name": "contested", "expect": expect, "never": never });
        let page = browser.start_at(&(world.daemon_url().await + "/"), &world, "look", &look);
        crate::page::end(page, "contested").await;
    }

    // Known after a restart, and over by an approval.
    world.stop().await;
    world.start().await;
    assert_eq!(held(&world, "contested").await, fingerprint);
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world
        .until("set once more", async |world| world.entity("roles", "r").await.unwrap()["description"] == "ours")
        .await;
    world
        .until("at rest", async |world| world.is_converged().await && world.project().await["contested"] == json!([]))
        .await;
    turn_back(&world, "theirs anew").await;
    world
        .until("healed: the count began anew", async |world| {
            world.entity("roles", "r").await.unwrap()["description"] == "ours"
        })
        .await;
}

#[tokio::test]
async fn a_commit_is_no_fight() {
    let mut world = World::new().await;
    world.write("a.yaml", "roles: [{ name: r, description: ours }]\n");
    world.converge().await;
    for n in 0..4 {
        turn_back(&world, &format!("theirs {n}")).await;
    }
    world.until("ours", async |world| world.entity("roles", "r").await.unwrap()["description"] == "ours").await;
    world.write("a.yaml", "roles: [{ name: r, description: newer }]\n");
    world.until("newer", async |world| world.entity("roles", "r").await.unwrap()["description"] == "newer").await;
    world.until("at rest", async |world| world.is_converged().await).await;
    world.fresh_pass().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.fresh_pass().await;
    world.until("healed", async |world| world.entity("roles", "r").await.unwrap()["description"] == "newer").await;
}
