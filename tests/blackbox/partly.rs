//! A kind, or one resource, that is only observed for a while.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::permission;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

async fn order(world: &World, path: &str) -> Value {
    let (status, body) = world.ask(Method::POST, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn files(description: &str) -> String {
    format!(
        "permissions: [{{ name: p, description: {description} }}]\nroles: [{{ name: r, description: {description} }}]\n\
         tenants: [{{ id: acme, name: {description} }}, {{ id: globex, name: {description} of globex }}]\n"
    )
}

async fn is_live(world: &World, kind: &str, name: &str, field: &str, value: &str) -> bool {
    world.entity(kind, name).await.is_some_and(|live| live[field] == value)
}

/// What was planned and taken off the queue counted as carried out, so that it differed by somebody else's doing: where drift is
/// only reported, it was never sent again.
#[tokio::test]
async fn what_was_suspended_before_it_was_sent_is_no_drift_afterwards() {
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.project.push("drift: { mode: report }".to_owned()));
    world.write("a.yaml", &files("old"));
    world.converge().await;
    world.faults(json!([{ "match": { "method": "POST" }, "fault": "status", "status": 500 }])).await;
    world.write("a.yaml", &(files("new") + "lists: [{ name: made, type: texts, data: [a] }]\n"));
    world.until("refused for now", async |world| world.has_problem("permissions", "p", "retrying").await).await;
    world.until("refused for now", async |world| world.has_problem("lists", "made", "retrying").await).await;
    for kind in ["permissions", "lists"] {
        order(&world, &format!("/api/v1/suspend?for=1h&kind={kind}")).await;
    }
    world.faults(json!([])).await;
    for _ in 0..2 {
        world.pass().await;
    }

    for kind in ["permissions", "lists"] {
        order(&world, &format!("/api/v1/resume?kind={kind}")).await;
    }

    world.until("converged", async |world| world.is_converged().await).await;
    assert!(is_live(&world, "permissions", "p", "description", "new").await);
    assert!(world.entity("lists", "made").await.is_some());
}

#[tokio::test]
async fn a_suspended_part_waits_over_a_restart_while_the_rest_goes_on() {
    let mut world = World::new().await;
    world.write("a.yaml", &files("old"));
    world.converge().await;
    let answer = order(&world, "/api/v1/suspend?for=2h&target=tenants/acme").await;
    assert_eq!((&answer["part"], &answer["warning"]), (&json!("tenants/acme"), &Value::Null));
    order(&world, "/api/v1/suspend?for=1h&kind=roles").await;
    world.write("a.yaml", &files("new"));
    let rest = async |world: &World| {
        is_live(world, "permissions", "p", "description", "new").await
            && is_live(world, "tenants", "globex", "name", "new of globex").await
    };
    world.until("the rest", rest).await;
    world.stop().await;
    world.start().await;
    world.fresh_pass().await;

    let project = world.project().await;
    let parts = project["suspensions"].as_array().unwrap();
    let told: Vec<_> = parts.iter().map(|part| (part["kind"].as_str().unwrap(), part["id"].as_str())).collect();
    assert_eq!(told, [("roles", None), ("tenants", Some("acme"))]);
    assert!(parts.iter().all(|part| part["since"].is_string() && part["until"].is_string()));
    assert_eq!((&project["notConvergedBecause"], &project["suspendedUntil"]), (&json!("suspended"), &Value::Null));
    assert_eq!(project["counts"]["suspended"], 2);
    let wait = project["waits"].as_array().unwrap().iter().find(|wait| wait["id"] == "acme").unwrap().clone();
    assert!(wait["why"] == "suspended: by 127.0.0.1" && wait["until"] == parts[1]["until"], "{wait}");
    assert_eq!(world.metric("suspended_parts{kind=\"tenants\",project=\"default\"}").await, Some(1.0));
    assert_eq!(world.metric("suspended{project=\"default\"}").await, Some(0.0));
    assert!(
        is_live(&world, "tenants", "acme", "name", "old").await
            && is_live(&world, "roles", "r", "description", "old").await
    );
    // What somebody else does to it is seen, and not healed.
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.assert_nothing_left().await;

    let url = world.daemon_url().await;
    let text = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let resumed = text(world.run(&["resume", "--url", &url]).await);
    assert!(resumed.contains("but for roles, tenants/acme"), "{resumed}");
    let status = text(world.run(&["status", "--url", &url]).await);
    assert!(status.contains("suspended: tenants/acme by 127.0.0.1 since "), "{status}");
    text(world.run(&["resume", "--url", &url, "--kind", "roles"]).await);
    world.until("resumed", async |world| is_live(world, "roles", "r", "description", "new").await).await;
    assert!(is_live(&world, "tenants", "acme", "name", "old").await);
    text(world.run(&["resume", "--url", &url, "--target", "tenants/acme"]).await);
    world
        .until("all of it", async |world| {
            is_live(world, "tenants", "acme", "name", "new").await && world.is_converged().await
        })
        .await;
    let rows = world.run_json(&["audit", "-o", "json"], 0).await.to_string();
    assert!(rows.contains("tenants/acme for 2h, until "), "{rows}");
}

#[tokio::test]
async fn it_ends_by_itself() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "old"));
    world.converge().await;
    order(&world, "/api/v1/suspend?for=2s&kind=permissions").await;
    world.write("a.yaml", &permission("p", "new"));
    world.until("it waits", async |world| world.project().await["notConvergedBecause"] == "suspended").await;
    world.until_live("p", "new").await;
    world
        .until("over", async |world| world.project().await["suspensions"] == json!([]) && world.is_converged().await)
        .await;
}

#[tokio::test]
async fn what_was_refused_stays_told_while_it_is_suspended() {
    let mut world = World::new().await;
    world.faults(json!([{ "match": { "item": "p" }, "fault": "status", "status": 400 }])).await;
    world.write("a.yaml", &permission("p", "new"));
    world.start().await;
    world.until("parked", async |world| world.has_problem("permissions", "p", "parked").await).await;
    order(&world, "/api/v1/suspend?for=1h&target=permissions/p").await;
    world.fresh_pass().await;

    let project = world.project().await;
    assert_eq!(project["suspensions"][0]["id"], "p");
    assert!(world.has_problem("permissions", "p", "parked").await, "{project}");
    assert_eq!(project["notConvergedBecause"], "parked");
    world.faults(json!([])).await;
    order(&world, "/api/v1/resume?target=permissions/p").await;
    world
        .until("done", async |world| world.is_converged().await && world.problem("permissions", "p").await.is_none())
        .await;
}

/// What was taken off the queue looked done, and what waited for it went out until the next pass had looked.
#[tokio::test]
async fn what_waits_for_a_suspended_part_does_not_go_out_for_want_of_it() {
    let guards = "guards: { deleteAfter: 0s, maxDeletes: 10, maxDeletePercent: 100 }".to_owned();
    let project = vec!["firstContact: apply".to_owned(), "policy: sync".to_owned(), guards];
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    world.write("r.yaml", "roles: [{ name: r, permissionNames: [p, q] }]\n");
    world.write("p.yaml", "permissions: [{ name: p }, { name: q }]\n");
    world.converge().await;
    let refused = json!({ "match": { "path": "/v1/mgmt/role/update" }, "fault": "status", "status": 500 });
    let slow = json!({ "match": { "path": "/v1/mgmt/role/all" }, "fault": "delay", "delay": "3s" });
    world.faults(json!([refused])).await;
    world.write("r.yaml", "roles: [{ name: r, permissionNames: [q] }]\n");
    world.write("p.yaml", "permissions: [{ name: q }]\n");
    world.until("it fails", async |world| world.has_problem("roles", "r", "retrying").await).await;
    world.faults(json!([refused, slow])).await;
    let passes = world.passes().await;

    order(&world, "/api/v1/suspend?for=1h&kind=roles").await;
    world.until("a pass", async |world| world.passes().await > passes).await;
    world.until("at rest", async |world| world.status().await["queue"]["inFlight"] == 0).await;

    let project = world.project().await;
    assert!(world.entity("permissions", "p").await.is_some(), "{project}");
    assert!(world.writes().await.iter().all(|(line, _)| !line.ends_with("/permission/delete")));
    world.faults(json!([])).await;
    order(&world, "/api/v1/resume?kind=roles").await;
    world.until("deleted", async |world| world.entity("permissions", "p").await.is_none()).await;
    assert_eq!(world.entity("roles", "r").await.unwrap()["permissionNames"], json!(["q"]));
}

#[tokio::test]
async fn an_order_that_means_nothing_is_refused_or_said() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "new"));
    world.converge().await;
    for (query, what) in [
        ("for=1h&kind=tenant", "no such kind"),
        ("for=1h&target=tenants", "target must be KIND/ID"),
        ("for=1h&target=tenants/", "target must be KIND/ID"),
        ("for=1h&kind=tenants&target=tenants/acme", "not both"),
        ("for=8d&kind=tenants", "at most 7d"),
        ("kind=tenants", "write ?for=2h"),
    ] {
        let (status, body) = world.ask(Method::POST, &format!("/api/v1/suspend?{query}")).await;
        assert!(status == 400 && body.contains(what), "{query}: {status} {body}");
    }
    let typo = order(&world, "/api/v1/suspend?for=1h&target=permissions/q").await;
    assert!(typo["warning"].as_str().unwrap().contains("is the name right?"), "{typo}");
    let never = order(&world, "/api/v1/resume?kind=roles").await;
    assert!(never["warning"].as_str().unwrap().contains("was not suspended by itself"), "{never}");
}
