//! What the daemon serves, to whom, and that the shapes are the documented ones.

use crate::harness::KEY;
use crate::harness::PROJECT;
use crate::harness::Setup;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::write_some;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

const OPEN: [&str; 4] = ["/livez", "/readyz", "/healthz", "/metrics"];
const READS: [&str; 2] = ["/api/v1/status", "/api/v1/plan"];

#[tokio::test]
async fn who_may_ask_for_what_depends_on_the_address_and_the_token() {
    let mut world = World::new().await;
    write_some(&world, 1, 0, 0);
    let somebody = [None, Some("wrong"), Some(TOKEN)];
    // Of nobody, of a wrong token, of the right one: what reads and posts answer.
    for (listen, token, reads, posts) in [
        ("127.0.0.1:0", true, [200, 200, 200], [401, 401, 202]),
        ("127.0.0.1:0", false, [200, 200, 200], [404, 404, 404]),
        ("0.0.0.0:0", true, [401, 401, 200], [401, 401, 202]),
        ("0.0.0.0:0", false, [404, 404, 404], [404, 404, 404]),
    ] {
        let token = if token { ", token: { env: BLACKBOX_TOKEN }" } else { "" };
        world.reconfigure(|setup| setup.top = vec![format!("http: {{ listen: '{listen}'{token} }}")]);
        world.start().await;
        world.until("ready", async |world| world.open("/readyz").await.0 == 200).await;

        for path in OPEN {
            assert_eq!(world.open(path).await.0, 200, "{listen}{token} {path}");
        }
        for (given, (read, posted)) in somebody.into_iter().zip(reads.into_iter().zip(posts)) {
            for path in READS {
                let answer = world.ask_as(given, Method::GET, path, String::new()).await;
                assert_eq!(answer.0, read, "{listen}{token} {path} {given:?}: {}", answer.1);
            }
            let answer = world.ask_as(given, Method::POST, "/api/v1/reconcile", String::new()).await;
            assert_eq!(answer.0, posted, "{listen}{token} {given:?}: {}", answer.1);
        }
        assert!(world.stop().await.success());
    }
}

#[tokio::test]
async fn refusals_have_a_status_and_a_json_body() {
    let mut world = World::new().await;
    world.start().await;

    for (method, path, body, status) in [
        (Method::GET, "/nothing", 0, 404),
        (Method::GET, "/api/v1/nothing", 0, 404),
        (Method::GET, "/api/v1/reconcile", 0, 405),
        (Method::POST, "/livez", 0, 405),
        (Method::POST, "/api/v1/status", 0, 405),
        (Method::POST, "/api/v1/reconcile?project=nobody", 0, 404),
        (Method::POST, "/api/v1/reconcile?projekt=default", 0, 400),
        (Method::POST, "/api/v1/reconcile", 64 * 1024, 202),
        (Method::POST, "/api/v1/reconcile", 64 * 1024 + 1, 413),
        (Method::POST, "/api/v1/reconcile?project=default", 0, 202),
    ] {
        let answer = world.ask_as(Some(TOKEN), method.clone(), path, "x".repeat(body)).await;

        assert_eq!(answer.0, status, "{method} {path}: {}", answer.1);
        let json: Value = serde_json::from_str(&answer.1).unwrap();
        assert!(json["error"].is_string() || status == 202, "{method} {path}: {json}");
    }
}

#[tokio::test]
async fn open_answers_hold_no_ids_and_no_messages() {
    let mut world = World::new().await;
    world.write("all.yaml", "tenants:\n  - { id: zz-tenant, name: zz-name }\npermissions: [{ name: zz-permission }]\n");
    let body = json!({ "errorCode": "E1", "errorDescription": "zz-description", "message": "zz-message" });
    world.faults(json!([{ "match": { "item": "zz-tenant" }, "fault": "status", "status": 400, "body": body }])).await;
    world.start().await;
    world.until("parked", async |world| world.project().await["problems"][0]["state"] == "parked").await;
    world.write("broken.yaml", "zz-key: []\n");
    world.until("invalid", async |world| world.project().await["desired"]["valid"] == false).await;

    let status = world.open("/api/v1/status").await.1;
    for word in ["zz-tenant", "zz-description", "zz-key"] {
        assert!(status.contains(word), "not even the status says {word}: {status}");
    }
    for path in OPEN {
        let (_, text) = world.open(path).await;
        for word in ["zz-", PROJECT, KEY, TOKEN, "broken.yaml"] {
            assert!(!text.contains(word), "{path} says {word}: {text}");
        }
    }
}

fn component<'a>(health: &'a Value, name: &str) -> &'a Value {
    health["components"].as_array().unwrap().iter().find(|component| component["name"] == name).unwrap_or(&Value::Null)
}

async fn health(world: &World) -> (u16, Value) {
    let (status, text) = world.open("/healthz").await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_daemon_that_cannot_reach_descope_is_alive_and_not_ready() {
    let top = vec!["requestTimeout: 200ms".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    write_some(&world, 1, 0, 0);
    world.faults(json!([{ "match": { "method": "GET" }, "fault": "hang" }])).await;
    world.start().await;

    world.until("asked", async |world| !world.log().await.is_empty()).await;
    assert_eq!(world.open("/livez").await.0, 200);
    let (status, text) = world.open("/readyz").await;
    assert_eq!(status, 503, "{text}");
    let reason = serde_json::from_str::<Value>(&text).unwrap()["projects"][0].clone();
    assert_eq!(reason["project"], "default");
    assert!(reason["reason"].is_string(), "{text}");
    let (_, starting) = health(&world).await;
    for name in ["source", "descope", "limiter"] {
        assert!(component(&starting, name)["status"].is_string(), "{name} of {starting}");
    }
    assert_eq!(starting["status"], "starting");
    world.until("told", async |world| component(&health(world).await.1, "descope")["status"] == "failing").await;
    let (status, failing) = health(&world).await;
    assert_eq!((status, &failing["status"]), (503, &json!("failing")));
    assert_eq!(component(&failing, "descope")["reason"], "cannot be observed");
    assert_eq!(component(&failing, "source")["status"], "ok");
    assert_eq!(world.open("/livez").await.0, 200);

    world.faults(json!([])).await;

    world.until("ready", async |world| world.open("/readyz").await.0 == 200).await;
    world.converge().await;
    let (status, healthy) = health(&world).await;
    assert_eq!((status, &healthy["status"]), (200, &json!("ok")), "{healthy}");
}

#[tokio::test]
async fn a_closed_gate_is_no_sickness_and_does_not_delay_the_end() {
    let simulator = ["--rate-limit=6/1h", "--lockout=1h"].map(str::to_owned).to_vec();
    let mut world = World::with(Setup { simulator, ..Setup::default() }).await;
    write_some(&world, 0, 0, 20);
    world.start().await;
    world.until("throttled", async |world| world.status().await["limiters"][0]["pausedUntil"].is_string()).await;

    // The first pass is told right after its changes went out.
    world.until("ready", async |world| world.open("/readyz").await.0 == 200).await;
    assert_eq!(world.open("/livez").await.0, 200);
    let (status, health) = health(&world).await;
    assert_eq!(status, 200, "{health}");
    let limiter = component(&health, "limiter");
    assert_eq!((&limiter["status"], &limiter["reason"]), (&json!("degraded"), &json!("waiting for the rate limit")));
    let host = world.api.strip_prefix("http://").unwrap().to_owned();
    let until = world.metric(&format!("limiter_paused_until_timestamp_seconds{{host=\"{host}\"}}")).await.unwrap();
    assert!(until > 1.6e9, "{until}");
    assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
    world.daemon().signal(rustix::process::Signal::HUP);
    // What was on its way when the gate closed arrives.
    world.until("answered", async |world| world.metric("api_requests_in_flight").await == Some(0.0)).await;
    let sent = world.log().await.len();
    let start = tokio::time::Instant::now();
    assert!(world.stop().await.success());
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    assert_eq!(world.log().await.len(), sent, "something was sent while the gate was closed");
}

/// Every field must be there, of its type; `?` after a type permits null.
fn assert_fields(what: &str, object: &Value, fields: &[(&str, &str)]) {
    for (name, form) in fields {
        let value = object.get(name).unwrap_or_else(|| panic!("{what} lacks {name}: {object}"));
        let (form, is_optional) = form.strip_suffix('?').map_or((*form, false), |form| (form, true));
        let fits = match form {
            "text" => value.is_string(),
            "bool" => value.is_boolean(),
            "count" => value.is_u64(),
            "number" => value.is_number(),
            "list" => value.is_array(),
            "object" => value.is_object(),
            "any" => true,
            "time" => value.as_str().is_some_and(|text| {
                text.ends_with('Z') && text.len() >= "2026-01-01T00:00:00Z".len() && &text[10..11] == "T"
            }),
            other => panic!("no type {other}"),
        };
        assert!(fits || is_optional && value.is_null(), "{what}.{name} should be {form}: {value}");
    }
}

const STATUS: &[(&str, &str)] = &[
    ("formatVersion", "count"),
    ("version", "text"),
    ("startedAt", "time"),
    ("projects", "list"),
    ("queue", "object"),
    ("limiters", "list"),
];
const STATUS_PROJECT: &[(&str, &str)] = &[
    ("name", "text"),
    ("policy", "text"),
    ("converged", "bool"),
    ("suspendedUntil", "time?"),
    ("desired", "object"),
    ("held", "object?"),
    ("lastPass", "object?"),
    ("undeclared", "count"),
    ("problems", "list"),
];
const STATUS_DESIRED: &[(&str, &str)] = &[
    ("valid", "bool"),
    ("revision", "text?"),
    ("commit", "text?"),
    ("loadedAt", "time?"),
    ("resources", "count"),
    ("errors", "list"),
];
const STATUS_ERROR: &[(&str, &str)] = &[("file", "text"), ("line", "count"), ("message", "text")];
const HELD: &[(&str, &str)] =
    &[("fingerprint", "text"), ("reason", "text"), ("changes", "count"), ("deletes", "count")];
const LAST_PASS: &[(&str, &str)] =
    &[("trigger", "text"), ("startedAt", "time"), ("finishedAt", "time"), ("result", "text"), ("changes", "count")];
const PROBLEM: &[(&str, &str)] = &[
    ("kind", "text"),
    ("id", "text"),
    ("state", "text"),
    ("message", "text"),
    ("attempts", "count"),
    ("nextAttemptAt", "time?"),
    ("file", "text?"),
    ("line", "count?"),
];
const QUEUE: &[(&str, &str)] = &[("ready", "count"), ("delayed", "count"), ("inFlight", "count")];
const LIMITER: &[(&str, &str)] = &[
    ("host", "text"),
    ("algorithm", "text"),
    ("requestsPerSecond", "number?"),
    ("budget", "number?"),
    ("used", "number?"),
    ("pausedUntil", "time?"),
    ("throttledTotal", "count"),
    ("adaptive", "object?"),
];
const ADAPTIVE: &[(&str, &str)] =
    &[("currentRate", "number"), ("minRate", "number"), ("maxRate", "number"), ("successCount", "count")];

#[tokio::test]
async fn the_status_has_the_documented_shape() {
    let top = vec!["rateLimit: { algorithm: adaptive }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    world.set_live(json!({ "tenants": [{ "id": "other", "name": "Other" }] })).await;
    world.write("all.yaml", "tenants:\n  - { id: bad, name: Bad }\n  - { id: late, name: Late }\n");
    world
        .faults(json!([
            { "match": { "item": "bad" }, "fault": "status", "status": 400 },
            { "match": { "item": "late", "method": "POST" }, "fault": "status", "status": 503 },
        ]))
        .await;
    world.start().await;
    world
        .until("in trouble", async |world| {
            let problems = world.project().await["problems"].clone();
            problems[0]["state"] == "parked" && problems[1]["state"] == "retrying"
        })
        .await;
    world.write("broken.yaml", "permissions:\n  - { nam: x }\n");
    world.until("invalid", async |world| world.project().await["desired"]["valid"] == false).await;

    let status = world.status().await;

    assert_eq!(status["formatVersion"], 1);
    assert_fields("status", &status, STATUS);
    assert_fields("queue", &status["queue"], QUEUE);
    assert_fields("limiter", &status["limiters"][0], LIMITER);
    assert_fields("adaptive", &status["limiters"][0]["adaptive"], ADAPTIVE);
    assert_eq!(status["limiters"][0]["algorithm"], "adaptive");
    let project = &status["projects"][0];
    assert_fields("project", project, STATUS_PROJECT);
    assert_eq!((&project["policy"], &project["undeclared"]), (&json!("upsert-only"), &json!(1)));
    assert_eq!((&project["converged"], &project["held"]), (&json!(false), &Value::Null));
    assert_fields("desired", &project["desired"], STATUS_DESIRED);
    assert_eq!(project["desired"]["resources"], 2, "the last good one");
    let error = &project["desired"]["errors"][0];
    assert_fields("error", error, STATUS_ERROR);
    assert_eq!((&error["file"], &error["line"]), (&json!("broken.yaml"), &json!(2)));
    assert_fields("lastPass", &project["lastPass"], LAST_PASS);
    assert!(["startup", "watch"].contains(&project["lastPass"]["trigger"].as_str().unwrap()));
    for problem in project["problems"].as_array().unwrap() {
        assert_fields("problem", problem, PROBLEM);
        assert_eq!((&problem["kind"], &problem["file"]), (&json!("tenants"), &json!("all.yaml")));
        assert_eq!(problem["line"], if problem["id"] == "bad" { 2 } else { 3 });
        // A try that is under way has no next one either.
        assert!(problem["nextAttemptAt"].is_null() || problem["state"] == "retrying", "{problem}");
    }
}

const PLAN_PROJECT: &[(&str, &str)] = &[
    ("name", "text"),
    ("fingerprint", "text"),
    ("held", "object?"),
    ("warnings", "list"),
    ("changes", "list"),
    ("undeclared", "list"),
    ("forecast", "object"),
];
const CHANGE: &[(&str, &str)] = &[
    ("kind", "text"),
    ("id", "text"),
    ("action", "text"),
    ("held", "text?"),
    ("fields", "list"),
    ("file", "text?"),
    ("line", "count?"),
];

#[tokio::test]
async fn the_plan_of_the_daemon_is_that_of_the_command_while_all_of_it_is_held() {
    let project = vec!["firstContact: hold".to_owned()];
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    let tenants = json!([{ "id": "t0", "name": "Live" }, { "id": "other", "name": "Other" }]);
    world.set_live(json!({ "tenants": tenants })).await;
    write_some(&world, 1, 1, 2);
    world.start().await;
    world.until("held", async |world| world.project().await["held"].is_object()).await;

    let (status, text) = world.open("/api/v1/plan").await;
    let served: Value = serde_json::from_str(&text).unwrap();

    assert_eq!((status, &served["formatVersion"]), (200, &json!(1)));
    let project = &served["projects"][0];
    assert_fields("project", project, PLAN_PROJECT);
    assert_fields("held", &project["held"], HELD);
    assert_eq!(project["held"]["reason"], "first_contact");
    assert_fields(
        "forecast",
        &project["forecast"],
        &[("requests", "count"), ("reads", "count"), ("seconds", "number")],
    );
    assert_eq!(project["forecast"]["requests"], 4);
    assert_eq!(project["undeclared"], json!([{ "kind": "tenants", "id": "other" }]));
    assert_eq!(project["changes"].as_array().unwrap().len(), 4);
    for change in project["changes"].as_array().unwrap() {
        assert_fields("change", change, CHANGE);
        assert_eq!(change["held"], "first_contact");
        for field in change["fields"].as_array().unwrap() {
            assert_fields("field", field, &[("path", "text"), ("from", "any"), ("to", "any")]);
        }
    }
    assert_eq!(served, world.run_json(&["plan", "-o", "json"], 0).await);
    let held = world.project().await["held"].clone();
    assert_fields("held", &held, HELD);
    assert_eq!(held, project["held"], "the status names the same fingerprint");
    assert_eq!(world.writes().await, []);
}

/// It went on showing what had been done, until the next pass.
#[tokio::test]
async fn the_plan_of_the_daemon_shows_what_is_left_to_do() {
    let mut world = World::new().await;
    write_some(&world, 2, 1, 2);
    world.write("bad.yaml", "tenants:\n  - { id: bad, name: Bad }\n");
    world.faults(json!([{ "match": { "item": "bad" }, "fault": "status", "status": 400 }])).await;
    world.start().await;
    world.until("parked", async |world| world.project().await["problems"][0]["state"] == "parked").await;
    world.until("settled", async |world| world.entity("tenants", "t1").await.is_some()).await;

    let plan = async |world: &World| {
        let text = world.open("/api/v1/plan").await.1;
        serde_json::from_str::<Value>(&text).unwrap()["projects"][0].clone()
    };
    world.until("done but for one", async |world| plan(world).await["changes"].as_array().unwrap().len() == 1).await;
    let left = plan(&world).await;
    assert_eq!((&left["changes"][0]["id"], &left["forecast"]["requests"]), (&json!("bad"), &json!(1)));

    world.faults(json!([])).await;
    world.daemon().signal(rustix::process::Signal::HUP);
    world.converge().await;

    let left = plan(&world).await;
    assert_eq!((&left["changes"], &left["forecast"]["requests"]), (&json!([]), &json!(0)));
}
