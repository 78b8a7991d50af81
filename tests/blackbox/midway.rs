//! Minds change in the middle of a drain: an operator suspends it, or the files say something else while calls wait
//! for the rate limit or for an answer.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::creates;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

fn sync(top: &[&str]) -> Setup {
    let guards = "guards: { maxDeletes: 100, maxDeletePercent: off, deleteAfter: 0s }";
    Setup {
        project: ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec(),
        top: top.iter().map(ToString::to_string).collect(),
        ..Setup::default()
    }
}

fn tenants(of: impl Iterator<Item = usize>, text: &str) -> String {
    of.fold("tenants:\n".to_owned(), |all, n| all + &format!("  - {{ id: t{n}, name: \"{text} {n}\" }}\n"))
}

async fn is_idle(world: &World) -> bool {
    world.status().await["queue"]["inFlight"] == 0
}

/// Ids of the tenants of these calls, of those alone that changed something.
fn touched(log: &[Value], path: &str) -> Vec<String> {
    let of_path = log.iter().filter(|entry| entry["path"] == path && entry["effect"] == true);
    let mut ids: Vec<String> = of_path.map(|entry| entry["body"]["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

async fn order(world: &World, args: &[&str]) {
    let output = world.run(&[args, &["--url", &world.daemon_url().await]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Passes go on and see what is left; nothing of it is sent.
async fn assert_only_looks(world: &World) {
    let (writes, seq) = (world.writes().await.len(), world.newest_seq().await);
    for _ in 0..3 {
        world.fresh_pass().await;
    }
    // The first of the passes may have begun before.
    assert!(world.requests_since(seq).await.len() >= 2, "it looks");
    assert_eq!(world.writes().await.len(), writes);
    let project = world.project().await;
    assert!(project["suspendedUntil"].is_string(), "{project}");
    assert!(project["lastPass"]["changes"].as_u64().unwrap() > 10, "{project}");
    assert_eq!(project["converged"], false);
}

async fn suspended_in_a_drain(simulator: &str, limit: &str) {
    let setup = sync(&[limit, "concurrency: 2"]);
    let simulator = vec!["--rate-limit=none".to_owned(), simulator.to_owned()];
    let mut world = World::with(Setup { simulator, ..setup }).await;
    world.write("tenants.yaml", &tenants(0..10, "old"));
    world.converge().await;
    world.sim(Method::DELETE, "log", None).await;

    world.write("tenants.yaml", &tenants(5..40, "new"));
    world.until("in the middle", async |world| world.writes().await.len() >= 5).await;
    order(&world, &["suspend", "--for", "1h"]).await;
    let sent = world.writes().await.len();
    world.until("answered", is_idle).await;
    let more = world.writes().await.len() - sent;
    assert!(more <= 2, "{more} calls landed after the answer, of two workers");
    assert!(sent + more < 30, "all but done at the time: {sent}");
    assert_only_looks(&world).await;
    world.kill().await;
    world.start().await;
    world.until("looked", async |world| world.passes().await > 0).await;
    assert_only_looks(&world).await;

    order(&world, &["resume"]).await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert!(world.project().await["suspendedUntil"].is_null());
    world.assert_nothing_left().await;
    let log = world.log().await;
    let creates = creates(&log);
    assert!(creates.len() == 30 && creates.values().all(|counts| *counts == (1, 0)), "{creates:?}");
    assert_eq!(touched(&log, "/v1/mgmt/tenant/delete"), ["t0", "t1", "t2", "t3", "t4"]);
    assert_eq!(touched(&log, "/v1/mgmt/tenant/patch"), ["t5", "t6", "t7", "t8", "t9"]);
    let live = world.live().await["tenants"].as_array().unwrap().clone();
    assert!(live.iter().all(|tenant| tenant["name"].as_str().unwrap().starts_with("new ")), "{live:?}");
    assert_eq!(live.len(), 35);
}

#[tokio::test]
async fn a_suspension_lets_the_calls_in_flight_end_and_nothing_follow_them() {
    suspended_in_a_drain("--latency=150ms", "rateLimit: { limit: null }").await;
}

/// With those that wait for the rate limit, which is where a worker spends most of a drain.
#[tokio::test]
async fn a_suspension_reaches_the_calls_that_wait_for_the_rate_limit() {
    suspended_in_a_drain("--latency=0ms", "rateLimit: { limit: 12/2s, reserve: 0% }").await;
}

/// Shuts the gate before the nth call of this path, for a while in which files can be edited.
async fn shut_the_gate(world: &World, path: &str, nth: u64) {
    let throttled = json!({ "match": { "path": path, "nth": nth, "times": 1 }, "fault": "status", "status": 429,
        "headers": { "Retry-After": "10" } });
    world.faults(json!([throttled])).await;
}

async fn is_shut(world: &World) -> bool {
    world.status().await["limiters"][0]["pausedUntil"].is_string()
}

/// Three workers, each of which waits before the gate with a call.
async fn until_all_wait(world: &World) {
    world
        .until("waiting before the gate", async |world| {
            is_shut(world).await && world.status().await["queue"]["inFlight"] == 3
        })
        .await;
}

/// Writes these files, and waits until they are in force, while the gate is still shut.
async fn declare_meanwhile(world: &World, tenants: &str) {
    let loads = async |world: &World| world.metric("source_loads_total{result=\"changed\"}").await;
    let before = loads(world).await;
    world.write("tenants.yaml", tenants);
    world.until("loaded", async |world| loads(world).await > before).await;
    assert!(is_shut(world).await, "too slow a machine for this test");
}

fn three_workers() -> Setup {
    sync(&["rateLimit: { limit: 1000/10s }", "concurrency: 3"])
}

/// One of them was sent already, and refused by the rate limit; the others never were.
#[tokio::test]
async fn deletes_that_wait_for_the_rate_limit_are_not_sent_once_the_files_declare_the_resource_again() {
    let mut world = World::with(three_workers()).await;
    world.write("tenants.yaml", &tenants(0..9, "tenant"));
    world.converge().await;
    world.assert_nothing_left().await;
    shut_the_gate(&world, "/v1/mgmt/tenant/delete", 2).await;

    world.write("tenants.yaml", &tenants(0..1, "tenant"));
    until_all_wait(&world).await;
    let deleted = touched(&world.log().await, "/v1/mgmt/tenant/delete");
    assert!((1..=4).contains(&deleted.len()), "{deleted:?}");
    declare_meanwhile(&world, &tenants(0..7, "tenant")).await;

    world.until("the rest", async |world| world.live().await["tenants"].as_array().unwrap().len() == 7).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    let log = world.log().await;
    let mut expected = [deleted.clone(), vec!["t7".to_owned(), "t8".to_owned()]].concat();
    expected.sort();
    assert_eq!(touched(&log, "/v1/mgmt/tenant/delete"), expected);
    for (tenant, counts) in creates(&log) {
        let times = 1 + usize::from(deleted.iter().any(|id| tenant == format!("tenant//{id}")));
        assert_eq!(counts, (times, 0), "{tenant}: only what was deleted is created again");
    }
}

/// An overwriting update rests on what was seen; what was seen before an own write is not trusted.
#[tokio::test]
async fn an_update_planned_while_another_was_in_flight_looks_again_and_keeps_what_somebody_else_changed() {
    let mut world = World::new().await;
    let role = |description: &str| format!("roles:\n  - {{ name: r, description: {description} }}\n");
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    world.assert_nothing_left().await;
    let slow = json!({ "match": { "path": "/v1/mgmt/role/update", "times": 1 }, "fault": "delay", "delay": "3s" });
    world.faults(json!([slow])).await;

    world.write("roles.yaml", &role("two"));
    world.until("in flight", async |world| world.writes().await.len() == 2).await;
    let passes = world.passes_by("watch").await;
    world.write("roles.yaml", &role("three"));
    world.until("planned", async |world| world.passes_by("watch").await > passes).await;
    assert_eq!(world.project().await["lastPass"]["changes"], 1);
    world.edit_live("roles/r", json!({ "private": true, "somethingNew": 7 })).await;
    let edited = world.newest_seq().await;
    let queue = world.status().await["queue"].clone();
    assert_eq!(queue["inFlight"], 1, "too slow a machine for this test");

    world.until("three", async |world| world.entity("roles", "r").await.unwrap()["description"] == "three").await;
    world.until("converged", async |world| world.is_converged().await).await;
    let role = world.entity("roles", "r").await.unwrap();
    assert_eq!((&role["private"], &role["somethingNew"]), (&json!(true), &json!(7)), "{role}");
    let later: Vec<Value> = world.requests_since(edited).await;
    let is_update = |entry: &&Value| entry["path"] == "/v1/mgmt/role/update";
    assert_eq!(later[0]["path"], "/v1/mgmt/role/all", "{later:#?}");
    assert_eq!(later.iter().filter(is_update).count(), 1, "{later:#?}");
    world.assert_nothing_left().await;
}

/// The call was under way, so it could not be taken back: its resource is looked at again when it has ended.
#[tokio::test]
async fn what_is_created_after_it_left_the_files_is_deleted_before_the_next_interval() {
    let mut world = World::with(sync(&[])).await;
    world.write("tenants.yaml", &tenants(0..1, "tenant"));
    world.converge().await;
    world.assert_nothing_left().await;
    let slow = json!({ "match": { "path": "/v1/mgmt/tenant/create" }, "fault": "delay", "delay": "2s" });
    world.faults(json!([slow])).await;

    world.write("tenants.yaml", &tenants(0..2, "tenant"));
    world.until("in flight", async |world| world.entity("tenants", "t1").await.is_some()).await;
    let passes = world.passes_by("watch").await;
    world.write("tenants.yaml", &tenants(0..1, "tenant"));
    world.until("planned", async |world| world.passes_by("watch").await > passes).await;
    assert!(!is_idle(&world).await, "too slow a machine for this test");

    world.until("deleted", async |world| world.entity("tenants", "t1").await.is_none()).await;
    world.until("converged", async |world| world.is_converged().await).await;
}

/// The look in between saw what had been there before, which is what the files say.
#[tokio::test]
async fn an_update_that_lands_after_the_files_went_back_is_taken_back_before_the_next_interval() {
    let mut world = World::new().await;
    world.write("tenants.yaml", &tenants(0..1, "one"));
    world.converge().await;
    world.assert_nothing_left().await;
    let name = async |world: &World| world.entity("tenants", "t0").await.unwrap()["name"].clone();

    // Of the request alone that is sent now; half of it passes before it takes effect.
    let latency = async |time: &str| world.sim(Method::PUT, "options", Some(json!({ "latency": time }))).await;
    let slow = json!({ "match": { "path": "/v1/mgmt/tenant/all", "times": 1 }, "fault": "delay", "delay": "1s" });
    world.faults(json!([slow])).await;
    world.write("tenants.yaml", &tenants(0..1, "two"));
    world.until("looking", async |world| world.metric("api_requests_in_flight").await == Some(1.0)).await;
    latency("4s").await;
    world.until("in flight", async |world| world.status().await["queue"]["inFlight"] == 1).await;
    world.until("sent", async |world| world.metric("api_requests_in_flight").await == Some(1.0)).await;
    latency("0s").await;
    let passes = world.passes_by("watch").await;
    world.write("tenants.yaml", &tenants(0..1, "one"));
    world.until("planned", async |world| world.passes_by("watch").await > passes).await;
    assert_eq!(name(&world).await, "one 0", "too slow a machine for this test");

    world.until("landed", async |world| name(world).await == "two 0").await;
    world.until("taken back", async |world| name(world).await == "one 0").await;
    world.until("converged", async |world| world.is_converged().await).await;
}

/// A pass that waits for the rate limit as well does not read the files meanwhile.
#[tokio::test]
async fn deletes_that_wait_beside_a_pass_are_not_sent_once_the_files_declare_the_resource_again() {
    let mut world = World::with(three_workers()).await;
    world.write("tenants.yaml", &tenants(0..9, "tenant"));
    world.converge().await;
    world.assert_nothing_left().await;
    shut_the_gate(&world, "/v1/mgmt/tenant/delete", 2).await;

    world.write("tenants.yaml", &tenants(0..1, "tenant"));
    until_all_wait(&world).await;
    let deleted = touched(&world.log().await, "/v1/mgmt/tenant/delete");
    let loads = async |world: &World| world.metric("source_loads_total{result=\"unchanged\"}").await;
    let before = loads(&world).await;
    assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
    world.until("in a pass", async |world| loads(world).await > before).await;
    world.write("tenants.yaml", &tenants(0..9, "tenant"));
    let seen = async |world: &World| world.metric("source_events_total{trigger=\"watch\"}").await;
    world.until("seen", async |world| seen(world).await >= Some(2.0)).await;
    assert!(is_shut(&world).await, "too slow a machine for this test");

    world.until("all there", async |world| world.live().await["tenants"].as_array().unwrap().len() == 9).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    assert_eq!(touched(&world.log().await, "/v1/mgmt/tenant/delete"), deleted);
}

#[tokio::test]
async fn an_update_that_waits_for_the_rate_limit_is_not_sent_once_the_files_say_something_newer() {
    let mut world = World::with(three_workers()).await;
    world.write("tenants.yaml", &tenants(0..9, "one"));
    world.converge().await;
    world.assert_nothing_left().await;
    shut_the_gate(&world, "/v1/mgmt/tenant/patch", 2).await;

    world.write("tenants.yaml", &tenants(0..9, "two"));
    until_all_wait(&world).await;
    let sent = world.writes().await.len();
    declare_meanwhile(&world, &tenants(0..9, "three")).await;

    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    let writes = world.writes().await.split_off(sent);
    assert_eq!(writes.len(), 9);
    let names: Vec<&str> = writes.iter().filter_map(|(_, body)| body["name"].as_str()).collect();
    assert!(names.iter().all(|name| name.starts_with("three ")), "{names:?}");
}

#[tokio::test]
async fn a_create_that_waits_for_the_rate_limit_is_not_sent_once_it_left_the_files() {
    let mut world = World::with(three_workers()).await;
    world.write("tenants.yaml", &tenants(0..1, "tenant"));
    world.converge().await;
    world.assert_nothing_left().await;
    shut_the_gate(&world, "/v1/mgmt/tenant/create", 2).await;

    world.write("tenants.yaml", &tenants(0..9, "tenant"));
    until_all_wait(&world).await;
    let sent = touched(&world.log().await, "/v1/mgmt/tenant/create");
    declare_meanwhile(&world, &tenants(0..1, "tenant")).await;

    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    assert_eq!(touched(&world.log().await, "/v1/mgmt/tenant/create"), sent);
}

/// It was neither owned nor missed when the look began, and nobody looked again when its delete was due.
#[tokio::test]
async fn what_becomes_owned_during_the_look_and_is_not_declared_is_deleted_before_the_next_interval() {
    let mut world = World::with(sync(&[])).await;
    world.reconfigure(|setup| setup.top.push("requestTimeout: 20s".to_owned()));
    world.write("tenants.yaml", &tenants(0..1, "tenant"));
    world.converge().await;
    world.assert_nothing_left().await;
    let slow = |path: &str, delay: &str| json!({ "match": { "path": path }, "fault": "delay", "delay": delay });
    world.faults(json!([slow("/v1/mgmt/tenant/create", "4s")])).await;

    world.write("tenants.yaml", &tenants(0..2, "tenant"));
    world.until("in flight", async |world| world.entity("tenants", "t1").await.is_some()).await;
    world.faults(json!([slow("/v1/mgmt/tenant/all", "10s")])).await;
    let passes = world.passes_by("watch").await;
    world.write("tenants.yaml", &tenants(0..1, "tenant"));
    world.until("looking", async |world| world.metric("api_requests_in_flight").await == Some(2.0)).await;
    world.faults(json!([])).await;
    world.until("created", is_idle).await;
    assert_eq!(world.passes_by("watch").await, passes, "too slow a machine for this test");

    world.until("deleted", async |world| world.entity("tenants", "t1").await.is_none()).await;
    world.until("converged", async |world| world.is_converged().await).await;
}

/// What was once in sync counted as such for good, so its way back into the files looked like somebody else's deed.
#[tokio::test]
async fn what_left_the_files_and_comes_back_is_no_drift() {
    let mut world = World::with(sync(&[])).await;
    world.write("tenants.yaml", &tenants(0..2, "tenant"));
    world.converge().await;
    world.assert_nothing_left().await;

    world.write("tenants.yaml", &tenants(0..1, "tenant"));
    world.until("deleted", async |world| world.entity("tenants", "t1").await.is_none()).await;
    world.assert_nothing_left().await;
    world.write("tenants.yaml", &tenants(0..2, "tenant"));
    world.until("back", async |world| world.entity("tenants", "t1").await.is_some()).await;
    world.until("converged", async |world| world.is_converged().await).await;

    assert!(!world.daemon().said("drift: changed in Descope"), "{}", world.daemon().tail(20));
}
