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

    told_with_who_fights(&world).await;

    if let Some(browser) = crate::page::browser() {
        let release = format!("approve {fingerprint}");
        let who = "console@example.com (U2console)";
        let expect = ["roles/r is turned back again and again", "\"theirs\"", who, release.as_str()];
        let never = [
            "It is put back",
            "it is put back",
            "held for approval",
            "changed in Descope though no file was",
            "somebody else",
            "ind out who",
        ];
        let look = json!({ "name": "contested", "expect": expect, "never": never, "opened": true, "human": true });
        let page = browser.start_at(&(world.daemon_url().await + "/"), &world, "look", &look);
        crate::page::end(page, "contested").await;
        let expect = ["roles/r in default", "description was turned back 5 times since", who];
        let once = ["was turned back"];
        let look = json!({ "name": "contested-resource", "hash": "#/default/roles/r", "expect": expect, "never": never, "human": true, "once": once, "in": "#resource" });
        let page = browser.start_at(&(world.daemon_url().await + "/"), &world, "look", &look);
        crate::page::end(page, "contested-resource").await;
    }

    // What is not ours becomes something else that is not: nothing was turned back once more.
    world.edit_live("roles/r", json!({ "description": "theirs, too" })).await;
    world.fresh_pass().await;
    let fingerprint = held(&world, "contested").await;
    let contested = &world.project().await["contested"][0];
    assert_eq!((&contested["live"], &contested["times"]), (&json!("\"theirs, too\""), &json!(5)));
    world.fresh_pass().await;
    assert_eq!(world.project().await["contested"][0]["times"], 5);

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

/// Plan and page said "somebody else" and "find out who", though status and notification knew.
async fn told_with_who_fights(world: &World) {
    world.until("told", async |world| world.project().await["contested"][0]["actor"].is_string()).await;
    let project = world.project().await;
    let actor = project["contested"][0]["actor"].as_str().unwrap().to_owned();
    let known = format!("the files say \"ours\", {actor} sets \"theirs\"");
    let plan = crate::guards::plan(world).await;
    let change = &plan["changes"][0];
    assert!(change["why"].as_str().unwrap().contains(&known), "{change}");
    let wait = project["waits"][0]["why"].as_str().unwrap();
    assert!(wait.contains(&known), "{wait}");
    let url = world.daemon_url().await;
    for command in ["plan", "status"] {
        let text = String::from_utf8(world.run(&[command, "--url", &url]).await.stdout).unwrap();
        assert!(text.contains(&format!("{actor} sets \"theirs\"")), "{command}: {text}");
        assert!(!text.contains("somebody else") && !text.contains("find out who"), "{command}: {text}");
        let times = if command == "plan" { "was turned back" } else { "contested: roles/r" };
        assert_eq!(text.matches(times).count(), 1, "{command}: {text}");
    }
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
