//! A refused key pauses the project; a refused kind parks alone.

use crate::harness::KEY;
use crate::harness::PROJECT;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::creates;
use crate::harness::write_some;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::fs;

async fn descope_health(world: &World) -> Value {
    let health: Value = serde_json::from_str(&world.ask(Method::GET, "/healthz").await.1).unwrap();
    let components = health["components"].as_array().unwrap();
    components.iter().find(|component| component["name"] == "descope").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_refused_key_pauses_the_project_until_it_works_again() {
    let simulator = vec!["--rate-limit=none".to_owned(), format!("--management-key={KEY}")];
    let mut world = World::with(Setup { simulator, interval: "300ms", ..Setup::default() }).await;
    let (key_file, api) = (world.path("key"), world.api.clone());
    fs::write(&key_file, "K2wrong\n").unwrap();
    world.reconfigure(|setup| {
        setup.top.push(format!(
            "projects:\n  - name: default\n    projectId: {PROJECT}\n    managementKey: {{ file: {} }}\n    baseUrl: {api}\n    firstContact: apply",
            key_file.display()
        ));
    });
    write_some(&world, 2, 2, 2);

    world.start().await;
    world.until("paused", async |world| descope_health(world).await["reason"] == "management key refused").await;

    assert_eq!(descope_health(&world).await["status"], "failing");
    assert_eq!(world.ask(Method::GET, "/livez").await.0, 200);
    assert_eq!(world.ask(Method::GET, "/readyz").await.0, 503, "never observed");
    let (seq, passes) = (world.newest_seq().await, world.passes().await);
    world.until("five intervals", async |world| world.passes().await >= passes + 5).await;
    let (asked, since) = (world.requests_since(seq).await.len() as u64, world.passes().await - passes);
    assert!(asked >= 4 && asked <= since + 1, "{asked} requests in {since} intervals");

    fs::write(&key_file, KEY).unwrap();
    world.converge_on(6).await;
    assert_eq!(descope_health(&world).await["status"], "ok");
    assert_eq!(world.ask(Method::GET, "/readyz").await.0, 200);

    // Revoked while everything is in sync: reported at once, and not ready only after three intervals.
    world.sim(Method::PUT, "options", Some(json!({ "managementKey": "K2rotated" }))).await;
    world.until("paused again", async |world| descope_health(world).await["status"] == "failing").await;
    assert!(!world.is_converged().await);
    world.until("not ready", async |world| world.ask(Method::GET, "/readyz").await.0 == 503).await;
    world.write("more.yaml", "permissions:\n  - { name: more }\n");
    fs::write(&key_file, "K2rotated").unwrap();
    world.converge_on(7).await;
    assert_eq!(world.ask(Method::GET, "/readyz").await.0, 200);
}

/// A key that was rotated waited for the next interval: an hour here.
#[tokio::test]
async fn a_key_file_that_changed_is_tried_at_once() {
    let simulator = vec!["--rate-limit=none".to_owned(), format!("--management-key={KEY}")];
    let mut world = World::with(Setup { simulator, ..Setup::default() }).await;
    let (key_file, api) = (world.path("key"), world.api.clone());
    fs::write(&key_file, "K2wrong\n").unwrap();
    world.reconfigure(|setup| {
        setup.top.push(format!(
            "projects:\n  - name: default\n    projectId: {PROJECT}\n    managementKey: {{ file: {} }}\n    baseUrl: {api}\n    firstContact: apply",
            key_file.display()
        ));
    });
    write_some(&world, 2, 2, 2);
    world.start().await;
    world.until("paused", async |world| descope_health(world).await["reason"] == "management key refused").await;
    let seq = world.newest_seq().await;

    // The same key written anew, and one half-way through being replaced, are no news.
    fs::write(&key_file, "K2wrong").unwrap();
    fs::write(&key_file, "").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(world.requests_since(seq).await, Vec::<Value>::new());
    fs::write(&key_file, KEY).unwrap();
    world.converge_on(6).await;

    // Refused for one kind alone.
    let refuse = json!({ "match": { "path": "/v1/mgmt/permission/create*" }, "fault": "status", "status": 403 });
    world.faults(json!([refuse])).await;
    world.write("more.yaml", "permissions:\n  - { name: more }\n");
    world.until("parked", async |world| world.has_problem("permissions", "more", "parked").await).await;
    world.faults(json!([])).await;
    world.sim(Method::PUT, "options", Some(json!({ "managementKey": "K2rotated" }))).await;
    fs::write(&key_file, "K2rotated").unwrap();
    world.converge_on(7).await;
}

#[tokio::test]
async fn a_key_refused_in_the_middle_of_a_drain_loses_no_change() {
    let mut world = World::with(Setup { interval: "300ms", ..Setup::default() }).await;
    write_some(&world, 3, 3, 20);
    let refuse = json!({ "match": { "path": "/v1/mgmt/tenant/create", "nth": 5, "times": 3 }, "fault": "status", "status": 401 });
    world.faults(json!([refuse])).await;

    world.converge().await;

    assert!(world.daemon().said("the project is paused"));
    let creates = creates(&world.log().await);
    assert_eq!(creates.len(), 26);
    assert!(creates.values().all(|counts| *counts == (1, 0)), "{creates:?}");
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_kind_that_is_forbidden_parks_alone() {
    let mut world = World::with(Setup { interval: "300ms", ..Setup::default() }).await;
    write_some(&world, 2, 2, 2);
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/*" }, "fault": "status", "status": 403 }])).await;

    world.start().await;
    world.until("the others done", async |world| world.entity("tenants", "t1").await.is_some()).await;
    world.until("roles parked", async |world| world.has_problem("roles", "", "parked").await).await;

    let problem = world.problem("roles", "").await.unwrap();
    assert!(problem["message"].as_str().unwrap().contains("/v1/mgmt/role/all"), "{problem}");
    assert_eq!(descope_health(&world).await["status"], "degraded");
    assert!(world.entity("permissions", "p1").await.is_some());
    world.faults(json!([])).await;
    world.converge_on(6).await;
}

#[tokio::test]
async fn a_kind_that_may_be_read_but_not_written_parks_with_the_message() {
    let mut world = World::new().await;
    write_some(&world, 2, 2, 2);
    let body = json!({ "errorCode": "E011001", "errorMessage": "not part of your plan" });
    let refuse =
        json!({ "match": { "path": "/v1/mgmt/tenant/create" }, "fault": "status", "status": 403, "body": body });
    world.faults(json!([refuse])).await;

    world.start().await;
    world
        .until("both parked", async |world| {
            world.has_problem("tenants", "t0", "parked").await && world.has_problem("tenants", "t1", "parked").await
        })
        .await;
    world.until("the rest done", async |world| world.entity("roles", "r1").await.is_some()).await;

    let message = world.problem("tenants", "t0").await.unwrap()["message"].clone();
    assert!(message.as_str().unwrap().contains("not part of your plan"), "{message}");
    assert_eq!(descope_health(&world).await["status"], "ok", "not the whole project");
}

#[tokio::test]
async fn everything_forbidden_pauses_the_project() {
    let mut world = World::with(Setup { interval: "300ms", ..Setup::default() }).await;
    write_some(&world, 2, 2, 2);
    world.faults(json!([{ "fault": "status", "status": 403 }])).await;

    world.start().await;
    world.until("paused", async |world| descope_health(world).await["status"] == "failing").await;
    let (seq, passes) = (world.newest_seq().await, world.passes().await);
    world.until("four intervals", async |world| world.passes().await >= passes + 4).await;
    let (asked, since) = (world.requests_since(seq).await.len() as u64, world.passes().await - passes);
    assert!(asked >= 3 && asked <= since + 1, "{asked} requests in {since} intervals");

    world.faults(json!([])).await;
    world.converge_on(6).await;
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_commit_to_a_paused_project_is_loaded_and_asks_nothing() {
    let mut world = World::new().await;
    write_some(&world, 2, 0, 0);
    world.faults(json!([{ "match": { "path": "/v1/mgmt/permission/all" }, "fault": "status", "status": 401 }])).await;
    world.start().await;
    world.until("paused", async |world| descope_health(world).await["status"] == "failing").await;
    let seq = world.newest_seq().await;

    for resources in 3..6 {
        write_some(&world, resources, 0, 0);
        world.until("loaded", async |world| world.project().await["desired"]["resources"] == resources).await;
    }
    assert!(world.requests_since(seq).await.is_empty(), "one probe per interval, and the interval is an hour");

    world.daemon().signal(Signal::HUP);
    world.until("one probe", async |world| world.requests_since(seq).await.len() == 1).await;
    assert_eq!(descope_health(&world).await["status"], "failing");
    world.faults(json!([])).await;
    world.daemon().signal(Signal::HUP);
    world.converge_on(5).await;
    world.assert_nothing_left().await;
}

/// A pause is a set of reasons: the one that ends first lets nothing go.
#[tokio::test]
async fn a_suspended_project_whose_key_is_refused_goes_on_once_both_are_over() {
    for suspension_ends_first in [true, false] {
        let mut world = World::new().await;
        write_some(&world, 2, 0, 0);
        world.converge().await;
        world
            .faults(json!([{ "match": { "path": "/v1/mgmt/permission/all" }, "fault": "status", "status": 401 }]))
            .await;
        assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=1h").await.0, 200);
        world.until("paused", async |world| descope_health(world).await["status"] == "failing").await;
        write_some(&world, 3, 0, 0);
        world.until("loaded", async |world| world.project().await["desired"]["resources"] == 3).await;

        if suspension_ends_first {
            assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);
        } else {
            world.faults(json!([])).await;
        }
        world.fresh_pass().await;
        assert!(world.entity("permissions", "p2").await.is_none(), "{suspension_ends_first}: one reason is left");
        assert!(!world.is_converged().await);

        world.faults(json!([])).await;
        assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);
        world.converge_on(3).await;
        world.assert_nothing_left().await;
    }
}
