//! The event stream, the history, and windows on the plan: what the page is made of.

use crate::harness::Setup;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::permission;
use crate::harness::write_some;
use reqwest::Method;
use reqwest::Response;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// Longer than any event takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream that somebody listens to.
struct Listener {
    response: Response,
    text: String,
}

impl Listener {
    async fn open(world: &World) -> Self {
        let response = ask(world, Some(TOKEN)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        Self { response, text: String::new() }
    }

    /// The next event's document; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
                let document = data.join("\n");
                self.text = String::from(rest);
                if !document.is_empty() {
                    let document = serde_json::from_str(&document).unwrap();
                    crate::outputs::check("event", &document);
                    return Some(document);
                }
                continue;
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("an event").unwrap_or_default()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {what}"));
            if is_it(&event["projects"][0]) {
                return event;
            }
        }
    }
}

async fn ask(world: &World, token: Option<&str>) -> Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(world.daemon_url().await + "/api/v1/events");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn events_arrive_on_change_and_each_is_whole() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "first"));
    world.start().await;
    let mut listener = Listener::open(&world).await;

    let event = listener.until("converged", |project| project["converged"] == true).await;
    assert_eq!((&event["formatVersion"], &event["canOrder"]), (&json!(1), &json!(true)));
    assert!(humantime::parse_rfc3339(event["at"].as_str().unwrap()).is_ok());
    let project = &event["projects"][0];
    assert_eq!((&project["name"], &project["counts"]["inSync"]), (&json!("default"), &json!(1)));
    assert_eq!(project["applied"]["revision"], project["desired"]["revision"]);
    assert!(project["lastSuccessAt"].is_string() && project["nextPassAt"].is_string(), "{project}");
    assert!(event["components"].as_array().unwrap().iter().any(|component| component["name"] == "descope"));
    assert_eq!(event["limiters"][0]["throttledByMinute"].as_array().unwrap().len(), 60);

    world.write("b.yaml", &permission("q", "second"));
    listener.until("the new one", |project| project["counts"]["inSync"] == 2).await;
    world.write("b.yaml", "permissions: [{ nme: q }]\n");
    let event = listener.until("invalid", |project| project["desired"]["valid"] == false).await;
    assert_eq!(
        event["projects"][0]["errorsTotal"].as_u64().unwrap(),
        event["projects"][0]["desired"]["errors"].as_array().unwrap().len() as u64
    );
}

#[tokio::test]
async fn a_restart_ends_the_stream_at_once_and_the_next_one_begins_with_all_there_is() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "first"));
    world.converge().await;
    world.pass().await;
    let mut listener = Listener::open(&world).await;
    let before = listener.until("converged", |project| project["converged"] == true).await;

    assert!(timeout(Duration::from_secs(20), world.stop()).await.expect("streams do not hold up the end").success());
    while listener.next().await.is_some() {}
    world.end_simulator().await;
    world.start().await;

    // Nothing can be looked at any more; what the last run knew is known.
    let first = Listener::open(&world).await.next().await.unwrap();
    assert_ne!(first["startedAt"], Value::Null);
    let project = &first["projects"][0];
    assert_eq!(project["converged"], false);
    assert_eq!(project["applied"]["revision"], before["projects"][0]["applied"]["revision"]);
    assert!(project["lastSuccessAt"].is_string(), "{project}");
}

#[tokio::test]
async fn events_need_what_the_status_needs() {
    let mut world = World::new().await;
    for (listen, with_token, expected) in [
        ("127.0.0.1:0", true, [200, 200, 200]),
        ("127.0.0.1:0", false, [200, 200, 200]),
        ("0.0.0.0:0", true, [401, 401, 200]),
        ("0.0.0.0:0", false, [404, 404, 404]),
    ] {
        let token = if with_token { ", token: { env: BLACKBOX_TOKEN }" } else { "" };
        world.reconfigure(|setup| setup.top = vec![format!("http: {{ listen: '{listen}'{token} }}")]);
        world.start().await;
        for (given, expected) in [None, Some("wrong"), Some(TOKEN)].into_iter().zip(expected) {
            assert_eq!(ask(&world, given).await.status(), expected, "{listen}{token} {given:?}");
            for path in ["/api/v1/history", "/api/v1/problems"] {
                let answer = world.ask_as(given, Method::GET, path, String::new()).await;
                assert_eq!(answer.0, expected, "{path} {listen}{token} {given:?}: {}", answer.1);
            }
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn streams_are_bounded_and_those_that_are_closed_make_room() {
    let mut world = World::new().await;
    world.start().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(Listener::open(&world).await);
    }

    let refused = ask(&world, Some(TOKEN)).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("too many event streams"));
    assert_eq!(world.open("/livez").await.0, 200);

    open.clear();
    world.until("room", async |world| ask(world, Some(TOKEN)).await.status() == 200).await;
}

async fn history(world: &World, query: &str) -> Value {
    let (status, text) = world.ask(Method::GET, &format!("/api/v1/history?{query}")).await;
    assert_eq!(status, 200, "{query}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn words<'a>(rows: &'a Value, field: &str) -> Vec<&'a str> {
    rows.as_array().unwrap().iter().map(|row| row[field].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_history_has_passes_changes_and_orders_newest_first() {
    let mut world = World::new().await;
    write_some(&world, 1, 1, 0);
    world.converge().await;
    let revision = world.project().await["desired"]["revision"].as_str().unwrap().to_owned();
    world.pass().await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=2h").await.0, 200);
    assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);
    assert_eq!(world.ask(Method::POST, "/api/v1/approve?plan=none").await.0, 409);

    let passes = history(&world, "project=default&outcome=applied").await["passes"].clone();
    assert_eq!(words(&passes, "trigger"), ["startup"]);
    assert_eq!((&passes[0]["writes"], &passes[0]["failedWrites"]), (&json!(2), &json!(0)), "{passes}");
    assert_eq!(passes[0]["revision"], *revision);
    assert!(passes[0]["durationMs"].is_u64());

    let changes = history(&world, "of=changes&kind=roles").await["changes"].clone();
    assert_eq!(words(&changes, "id"), ["r0"]);
    assert_eq!((&changes[0]["action"], &changes[0]["outcome"]), (&json!("create"), &json!("ok")));
    let orders = history(&world, "of=changes&kind=operator").await["changes"].clone();
    assert_eq!(words(&orders, "action"), ["resume", "suspend", "reconcile"]);
    let said = words(&orders, "message");
    assert!(said[1].starts_with("for 2h, until 2"), "{said:?}");
    // The command says the same.
    let audit = world.run_json(&["audit", "-o", "json", "--kind", "operator"], 0).await;
    assert_eq!(words(&audit["changes"], "action"), ["reconcile", "suspend", "resume"]);

    let newest = history(&world, "limit=1").await;
    let older = history(&world, &format!("limit=200&before={}", newest["older"])).await;
    assert!(newest["passes"][0]["number"].as_i64() > older["passes"][0]["number"].as_i64());
    assert_eq!(older["older"], Value::Null);
    assert!(words(&history(&world, "revision=nosuch").await["passes"], "result").is_empty());
    assert_eq!(
        history(&world, &format!("of=changes&revision={}", &revision[..8])).await["changes"].as_array().unwrap().len(),
        2
    );
    for query in ["of=all", "project=nobody", "kind=roles", "since=yesterday", "projekt=default"] {
        let (status, text) = world.ask(Method::GET, &format!("/api/v1/history?{query}")).await;
        assert!(status == 400 || status == 404, "{query}: {status} {text}");
        assert!(text.contains("error"), "{text}");
    }
}

/// They were found by whoever looked through all orders, and by the page of the resource not at all.
#[tokio::test]
async fn what_was_ordered_about_a_resource_is_in_its_history() {
    let guards = "policy: sync\n    guards: { deleteAfter: 0s, maxDeletes: 0 }".to_owned();
    let mut world =
        World::with(Setup { project: vec!["firstContact: apply".to_owned(), guards], ..Setup::default() }).await;
    world.write("a.yaml", "permissions: [{ name: keep }, { name: goes }, { name: also }]\n");
    world.converge().await;
    for order in [
        "suspend?for=2h&target=permissions/goes",
        "resume?target=permissions/goes",
        "suspend?for=1s&kind=permissions",
        "reconcile",
    ] {
        assert!(world.ask(Method::POST, &format!("/api/v1/{order}")).await.0 < 300, "{order}");
    }
    world.until("over", async |world| world.project().await["suspensions"].as_array().is_some_and(Vec::is_empty)).await;
    world.write("a.yaml", "permissions: [{ name: keep }, { name: also }]\n");
    world.until("held", async |world| world.project().await["held"].is_object()).await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(Method::POST, &format!("/api/v1/approve?plan={fingerprint}")).await.0, 200);
    world.until("deleted", async |world| world.entity("permissions", "goes").await.is_none()).await;
    let of = async |world: &World, id: &str| {
        history(world, &format!("of=changes&kind=permissions&id={id}")).await["changes"].clone()
    };
    world.until("written down", async |world| of(world, "goes").await[0]["action"] == "delete").await;

    let goes = of(&world, "goes").await;
    assert_eq!(words(&goes, "action"), ["delete", "approve", "resume", "suspend", "resume", "suspend", "create"]);
    let about: Vec<&Value> = goes.as_array().unwrap().iter().map(|row| &row["about"]).collect();
    let (whole, one) = (json!(["permissions"]), json!(["permissions/goes"]));
    assert_eq!(about, [&Value::Null, &one, &whole, &whole, &one, &one, &Value::Null]);
    assert_eq!((&goes[2]["id"], &goes[1]["fields"]), (&json!("time"), &json!([])), "{goes}");
    assert_eq!(words(&of(&world, "also").await, "action"), ["resume", "suspend", "create"]);
    let audit = world.run_json(&["audit", "-o", "json", "--kind", "permissions", "--id", "goes"], 0).await;
    assert_eq!(words(&audit["changes"], "action").len(), 7);
    let orders = history(&world, "of=changes&kind=operator").await["changes"].clone();
    assert_eq!(orders.as_array().unwrap().len(), 6, "{orders}");
}

/// Its link said that nothing is known of it.
#[tokio::test]
async fn a_resource_that_is_in_sync_is_known_with_its_place() {
    let mut world = World::new().await;
    world.write(
        "sub/a.yaml",
        "tenants: [{ id: t, name: T }]\nroles:\n  - { name: r, tenantId: t }\n  - { name: a/b }\n",
    );
    world.converge().await;
    world.pass().await;
    let known = async |world: &World, kind: &str, id: &str| -> Value {
        let (status, text) = world.ask(Method::GET, &format!("/api/v1/plan?kind={kind}&id={id}")).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["projects"][0]["resource"].clone()
    };
    let at =
        |line: u32, in_sync: bool| json!({ "declared": true, "file": "sub/a.yaml", "line": line, "inSync": in_sync });
    let none = json!({ "declared": false, "file": null, "line": null, "inSync": false });

    for (kind, id, expected) in [
        ("tenants", "t", at(1, true)),
        ("roles", "t/r", at(3, true)),
        ("roles", "a/b", at(4, true)),
        ("roles", "r", none.clone()),
        ("nothing", "r", none),
    ] {
        assert_eq!(known(&world, kind, id).await, expected, "{kind}/{id}");
    }
    assert_eq!(known(&world, "roles", "a/b&project=nobody").await, Value::Null);
    let (_, whole) = world.ask(Method::GET, "/api/v1/plan?kind=roles").await;
    assert!(!whole.contains("\"resource\""), "{whole}");

    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=1h").await.0, 200);
    world.edit_live("tenants/t", json!({ "name": "Theirs" })).await;
    world.fresh_pass().await;
    assert_eq!(known(&world, "tenants", "t").await, at(1, false));
    assert_eq!(known(&world, "roles", "t/r").await, at(3, true));
}

#[tokio::test]
async fn a_window_on_the_plan_has_counts_of_all_and_rows_of_some() {
    let mut world = World::with(Setup { project: vec!["policy: observe".to_owned()], ..Setup::default() }).await;
    write_some(&world, 0, 0, 120);
    world.start().await;
    world.until("planned", async |world| world.project().await["lastPass"].is_object()).await;
    let window = async |query: &str| -> Value {
        let (status, text) = world.ask(Method::GET, &format!("/api/v1/plan?{query}")).await;
        assert_eq!(status, 200, "{query}: {text}");
        serde_json::from_str(&text).unwrap()
    };

    let first = window("limit=50").await;
    assert_eq!((&first["matching"], &first["projects"][0]["changesTotal"]), (&json!(120), &json!(120)));
    assert_eq!(first["projects"][0]["changes"].as_array().unwrap().len(), 50);
    assert_eq!(window("limit=50&offset=100").await["projects"][0]["changes"].as_array().unwrap().len(), 20);
    let one = window("kind=tenants&id=t17").await;
    assert_eq!((&one["matching"], &one["projects"][0]["changes"][0]["id"]), (&json!(1), &json!("t17")));
    assert_eq!(window("q=T11").await["matching"], 11);
    assert_eq!(window("held=false").await["matching"], 0);
    assert_eq!(world.ask(Method::GET, "/api/v1/plan?limt=50").await.0, 400);
    let counts = &world.project().await["counts"];
    assert_eq!((&counts["waiting"], &counts["inSync"]), (&json!(120), &json!(0)), "{counts}");
}

#[tokio::test]
async fn each_resource_counts_once_and_where_it_stands() {
    let mut world = World::new().await;
    write_some(&world, 2, 0, 3);
    world
        .faults(json!([
            { "match": { "path": "/v1/mgmt/tenant/*", "item": "t0" }, "fault": "status", "status": 400,
              "body": { "errorCode": "E1", "errorMessage": "no" } },
            { "match": { "path": "/v1/mgmt/tenant/*", "item": "t1" }, "fault": "status", "status": 503 },
        ]))
        .await;
    world.start().await;

    world
        .until("counted", async |world| {
            let counts = &world.project().await["counts"];
            counts["inSync"] == 3 && counts["parked"] == 1 && counts["retrying"] == 1 && counts["changing"] == 0
        })
        .await;
    let parked = world.ask(Method::GET, "/api/v1/problems?state=parked").await.1;
    let parked: Value = serde_json::from_str(&parked).unwrap();
    assert_eq!((&parked["total"], &parked["problems"][0]["id"]), (&json!(1), &json!("t0")));
    assert_eq!(parked["problems"][0]["project"], "default");

    // What only waits for the end of a suspension has not failed, and is not on its way.
    world.faults(json!([])).await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=1h").await.0, 200);
    world.write("more.yaml", "tenants:\n  - { id: late, name: Late }\n");
    world.until("suspended", async |world| world.project().await["counts"]["suspended"] == 1).await;
}

/// It was `applied` at each interval, and the passes sent nothing.
#[tokio::test]
async fn a_pass_that_sends_nothing_of_what_was_refused_is_not_applied() {
    let mut world = World::new().await;
    world.write("a.yaml", "roles: [{ name: r, permissionNames: [nope] }]\n");
    world.start().await;
    world.until("parked", async |world| world.has_problem("roles", "r", "parked").await).await;
    world.pass().await;
    world.until("told", async |world| world.project().await["lastPass"]["result"] == "partial").await;
}
