//! The metrics: every name and label of the table, values that agree with what was done, and nothing private.

use crate::harness::KEY;
use crate::harness::PROJECT;
use crate::harness::Setup;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::missing;
use crate::harness::write_some;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Name without prefix, type, labels.
const TABLE: &[(&str, &str, &[&str])] = &[
    ("build_info", "gauge", &["revision", "version"]),
    ("source_events_total", "counter", &["trigger"]),
    ("source_loads_total", "counter", &["result"]),
    ("source_load_duration_seconds", "histogram", &[]),
    ("desired_resources", "gauge", &["kind", "project"]),
    ("desired_valid", "gauge", &["project"]),
    ("passes_total", "counter", &["project", "result", "trigger"]),
    ("pass_duration_seconds", "histogram", &["phase", "project"]),
    ("last_attempt_timestamp_seconds", "gauge", &["project"]),
    ("last_whole_pass_timestamp_seconds", "gauge", &["project"]),
    ("last_success_timestamp_seconds", "gauge", &["project"]),
    ("converged", "gauge", &["project"]),
    ("not_converged", "gauge", &["project", "reason"]),
    ("suspended", "gauge", &["project"]),
    ("suspended_parts", "gauge", &["kind", "project"]),
    ("convergence_duration_seconds", "histogram", &["project"]),
    ("plan_changes", "gauge", &["action", "kind", "project"]),
    ("observation_age_seconds", "gauge", &["kind", "project"]),
    ("observation_interval_seconds", "gauge", &["project"]),
    ("drifted_resources", "gauge", &["kind", "project"]),
    ("undeclared_resources", "gauge", &["kind", "project"]),
    ("contested_resources", "gauge", &["kind", "project"]),
    ("held_changes", "gauge", &["project", "reason"]),
    ("guard_trips_total", "counter", &["project", "reason"]),
    ("changes_total", "counter", &["action", "kind", "project", "result"]),
    ("change_duration_seconds", "histogram", &["action", "kind"]),
    ("queue_depth", "gauge", &["state"]),
    ("queue_adds_total", "counter", &["reason"]),
    ("queue_wait_seconds", "histogram", &[]),
    ("limiter_rate_requests_per_second", "gauge", &["host"]),
    ("limiter_budget_requests", "gauge", &["host"]),
    ("limiter_budget_used_requests", "gauge", &["host"]),
    ("limiter_paused_until_timestamp_seconds", "gauge", &["host"]),
    ("limiter_throttled_total", "counter", &["host"]),
    ("limiter_wait_seconds", "histogram", &[]),
    ("api_requests_total", "counter", &["code", "operation"]),
    ("api_request_duration_seconds", "histogram", &["operation"]),
    ("api_requests_in_flight", "gauge", &[]),
    ("api_retries_total", "counter", &["operation", "reason"]),
    ("http_requests_total", "counter", &["code", "method", "route"]),
    ("notifications_total", "counter", &["result", "type"]),
    ("log_lines_dropped_total", "counter", &[]),
    ("state_writable", "gauge", &[]),
];

/// One line of the exposition.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn samples(text: &str) -> Vec<Sample> {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap();
        let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
        let labels = pairs.map(|pair| pair.trim_end_matches('"').split_once("=\"").unwrap());
        Sample {
            name: name.strip_prefix("descope_gitops_").unwrap_or(name).to_owned(),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            value: value.parse().unwrap(),
        }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

async fn scrape(world: &World) -> Vec<Sample> {
    samples(&world.open("/metrics").await.1)
}

/// The sum over all series that have these labels.
async fn sum(world: &World, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |sample: &&Sample| {
        sample.name == name && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
    };
    let all = scrape(world).await;
    let found: Vec<f64> = all.iter().filter(fits).map(|sample| sample.value).collect();
    assert!(!found.is_empty(), "no {name} {labels:?}");
    found.iter().sum()
}

#[track_caller]
fn assert_is(value: f64, expected: u32) {
    assert!((value - f64::from(expected)).abs() < f64::EPSILON, "{value} rather than {expected}");
}

#[tokio::test]
async fn every_metric_of_the_table_is_there_with_its_labels_and_nothing_private() {
    let mut world = World::new().await;
    write_some(&world, 2, 1, 1);
    world.write("zz.yaml", "tenants: [{ id: zz-tenant, name: zz-name }]\n");
    world.write("details.yaml", "tenants: [{ id: zz-details, name: zz-details, settings: { enabled: true } }]\n");
    let body = json!({ "errorCode": "E1", "errorDescription": "zz-description", "message": "zz-message" });
    world
        .faults(json!([
            { "match": { "item": "zz-tenant" }, "fault": "status", "status": 400, "body": body },
            { "match": { "method": "GET", "path": "/v1/mgmt/role/all", "times": 1 }, "fault": "status", "status": 503 },
        ]))
        .await;
    world.start().await;
    world.until("parked", async |world| world.project().await["problems"][0]["state"] == "parked").await;
    world.until("the rest is there", async |world| world.entity("roles", "r0").await.is_some()).await;
    world.until("details", async |world| world.entity("tenants", "zz-details").await.is_some()).await;
    world.pass().await;
    let is_looked_at = async |world: &World| world.open("/metrics").await.1.contains("observation_age_seconds{");
    world.until("the details are looked at", is_looked_at).await;
    world.ask(Method::GET, "/zz-path").await;

    let text = world.open("/metrics").await.1;
    let samples = samples(&text);

    for (name, form, labels) in TABLE {
        assert!(text.contains(&format!("# TYPE descope_gitops_{name} {form}\n")), "no {form} {name}");
        assert!(text.contains(&format!("# HELP descope_gitops_{name} ")), "no help for {name}");
        let series = if *form == "histogram" { format!("{name}_count") } else { (*name).to_owned() };
        let mut of_name = samples.iter().filter(|sample| sample.name == series).peekable();
        assert!(of_name.peek().is_some(), "no series of {name}");
        for sample in of_name {
            let found: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(found, *labels, "{name}");
        }
    }
    let known: BTreeSet<String> = TABLE
        .iter()
        .flat_map(|(name, ..)| ["", "_bucket", "_count", "_sum"].map(|end| format!("{name}{end}")))
        .collect();
    for Sample { name, .. } in &samples {
        assert!(known.contains(name) || name.starts_with("process_"), "{name} is not in the table");
    }
    for name in ["process_open_fds", "process_resident_memory_bytes", "process_start_time_seconds"] {
        assert!(samples.iter().any(|sample| sample.name == name && sample.value > 0.0), "no {name}");
    }
    assert!(samples.iter().any(|sample| sample.name == "process_cpu_seconds_total"));
    for word in ["zz-", PROJECT, KEY, TOKEN, "t0", "p1"] {
        let is_there = |sample: &&Sample| sample.labels.values().any(|value| value.contains(word));
        assert!(!samples.iter().any(|sample| is_there(&sample)), "a label has {word}: {text}");
        assert!(word.len() < 3 || !text.contains(word), "{word}: {text}");
    }
    check_with_promtool(&text);
}

/// Prometheus's own opinion, where its tool is at hand.
fn check_with_promtool(text: &str) {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-tools/prometheus/usr/bin/promtool");
    let tool = if unpacked.exists() { unpacked } else { "promtool".into() };
    let piped = Command::new(&tool).args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = piped else {
        return missing("no promtool: the metrics are not checked");
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_counts_are_what_was_done() {
    let mut world = World::new().await;
    write_some(&world, 3, 2, 4);
    world.set_live(json!({ "tenants": [{ "id": "t0", "name": "Old" }, { "id": "other", "name": "Other" }] })).await;
    world
        .faults(json!([
            { "match": { "method": "GET", "path": "/v1/mgmt/role/all", "times": 1 }, "fault": "status", "status": 503 },
            { "match": { "item": "t3", "times": 1 }, "fault": "status", "status": 502 },
        ]))
        .await;

    world.converge().await;
    world.pass().await;
    world.converge().await;

    for (kind, count, undeclared) in [("permissions", 3, 0), ("roles", 2, 0), ("tenants", 4, 1)] {
        let of = [("project", "default"), ("kind", kind)];
        assert_is(sum(&world, "desired_resources", &of).await, count);
        // What every new project brings along is not declared, and is not ours to count as missing either.
        if kind == "tenants" {
            assert_is(sum(&world, "undeclared_resources", &of).await, undeclared);
        }
        assert_is(sum(&world, "drifted_resources", &of).await, 0);
        assert_is(sum(&world, "plan_changes", &of).await, 0);
    }
    for (kind, action, result, count) in [
        ("permissions", "create", "ok", 3),
        ("roles", "create", "ok", 2),
        ("tenants", "create", "ok", 3),
        ("tenants", "update", "ok", 1),
        ("tenants", "create", "failed", 1),
    ] {
        let labels = [("project", "default"), ("kind", kind), ("action", action), ("result", result)];
        assert_is(sum(&world, "changes_total", &labels).await, count);
    }
    assert_is(sum(&world, "changes_total", &[]).await, 10);
    assert_is(sum(&world, "passes_total", &[("trigger", "startup"), ("result", "applied")]).await, 1);
    assert_is(sum(&world, "passes_total", &[("trigger", "api"), ("result", "noop")]).await, 1);
    assert_is(sum(&world, "source_events_total", &[("trigger", "startup")]).await, 1);
    assert_is(sum(&world, "source_events_total", &[("trigger", "api")]).await, 1);
    assert_is(sum(&world, "source_loads_total", &[("result", "changed")]).await, 1);
    assert_is(sum(&world, "queue_depth", &[]).await, 0);
    assert_is(sum(&world, "queue_adds_total", &[("reason", "retry")]).await, 1);
    assert_is(sum(&world, "converged", &[("project", "default")]).await, 1);
    assert_is(sum(&world, "desired_valid", &[]).await, 1);
    assert_is(sum(&world, "convergence_duration_seconds_count", &[]).await, 1);
    let retried = [("operation", "GET /v1/mgmt/role/all"), ("reason", "status")];
    assert_is(sum(&world, "api_retries_total", &retried).await, 1);
    assert_is(sum(&world, "api_requests_in_flight", &[]).await, 0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for name in ["last_attempt_timestamp_seconds", "last_success_timestamp_seconds"] {
        let age = now - sum(&world, name, &[("project", "default")]).await;
        assert!((-1.0..120.0).contains(&age), "{name}: {age}");
    }
}

/// The daemon's counts of calls by operation and code, without those that never came.
async fn counted(world: &World) -> BTreeMap<(String, String), u64> {
    let all =
        scrape(world).await.into_iter().filter(|sample| sample.name == "api_requests_total" && sample.value > 0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
    all.map(|sample| ((sample.labels["operation"].clone(), sample.labels["code"].clone()), sample.value as u64))
        .collect()
}

/// The other side's.
async fn received(world: &World) -> BTreeMap<(String, String), u64> {
    let stats = world.sim(Method::GET, "stats", None).await;
    let by_code = |(operation, codes): (&String, &Value)| {
        let codes = codes.as_object().unwrap().clone();
        codes.into_iter().map(|(code, count)| ((operation.clone(), code), count.as_u64().unwrap())).collect::<Vec<_>>()
    };
    stats["operations"].as_object().unwrap().iter().flat_map(by_code).collect()
}

#[tokio::test]
async fn requests_are_counted_as_the_other_side_counts_them() {
    let simulator = ["--rate-limit=12/1s", "--lockout=1s"].map(str::to_owned).to_vec();
    // The window is known, the number is not.
    let top = vec!["rateLimit: { limit: 40/1s, lockout: 1s }".to_owned()];
    let mut world = World::with(Setup { simulator, top, ..Setup::default() }).await;
    write_some(&world, 2, 2, 25);
    world
        .faults(json!([
            { "match": { "item": "t3", "times": 2 }, "fault": "status", "status": 503 },
            { "match": { "item": "t4", "times": 1 }, "fault": "html200" },
            { "match": { "item": "t5" }, "fault": "status", "status": 400 },
        ]))
        .await;
    world.start().await;
    world.until("all but one", async |world| world.project().await["problems"][0]["state"] == "parked").await;
    world
        .until("all but one", async |world| {
            let live = world.live().await;
            live["tenants"].as_array().is_some_and(|tenants| tenants.len() == 24)
        })
        .await;
    world.until("settled", async |world| sum(world, "queue_depth", &[]).await < 1.5).await;
    world.until("quiet", async |world| sum(world, "api_requests_in_flight", &[]).await < 0.5).await;

    let (mut counted, received) = (counted(&world).await, received(&world).await);
    // The page with status 200 is counted as what it is.
    let create = |code: &str| ("POST /v1/mgmt/tenant/create".to_owned(), code.to_owned());
    assert_eq!(counted.remove(&create("malformed")), Some(1));
    *counted.entry(create("200")).or_default() += 1;
    assert_eq!(counted, received);
    let throttled: u64 = received.iter().filter(|((_, code), _)| code == "429").map(|(_, count)| count).sum();
    assert!(throttled > 0, "the limit was never hit");
    assert_is(sum(&world, "limiter_throttled_total", &[]).await, u32::try_from(throttled).unwrap());
    assert_eq!(world.status().await["limiters"][0]["throttledTotal"], throttled);
    assert_is(sum(&world, "converged", &[]).await, 0);
    assert_is(sum(&world, "queue_depth", &[("state", "parked")]).await, 1);
}

#[tokio::test]
async fn drift_is_counted_until_it_is_healed() {
    let mut world = World::new().await;
    write_some(&world, 2, 0, 3);
    world.converge().await;
    world.faults(json!([{ "match": { "item": "t1" }, "fault": "status", "status": 400 }])).await;
    world.edit_live("tenants/t1", json!({ "name": "Somebody was here" })).await;

    world.pass().await;

    world.until("parked", async |world| world.project().await["problems"][0]["state"] == "parked").await;
    assert_is(sum(&world, "drifted_resources", &[("kind", "tenants")]).await, 1);
    assert_is(sum(&world, "drifted_resources", &[]).await, 1);
    assert_is(sum(&world, "plan_changes", &[("kind", "tenants"), ("action", "update")]).await, 1);
    assert_is(sum(&world, "changes_total", &[("action", "update"), ("result", "failed")]).await, 1);
    world.until("told", async |world| sum(world, "converged", &[]).await < 0.5).await;

    // It stayed up until the next look, an hour later: so the write takes its time, and no look has an end after it began.
    world.faults(json!([{ "match": { "item": "t1" }, "fault": "delay", "delay": "4s" }])).await;
    world.daemon().signal(Signal::HUP);
    let is_sent = async |world: &World| world.status().await["queue"]["inFlight"] == 1;
    world
        .until("planned, and on its way", async |world| world.passes_by("signal").await == 1 && is_sent(world).await)
        .await;
    world.faults(json!([{ "fault": "hang" }])).await;
    let passes = world.passes().await;
    assert_is(sum(&world, "drifted_resources", &[]).await, 1);
    assert!(is_sent(&world).await, "no look can have begun after it");

    world.until("put back", async |world| sum(world, "drifted_resources", &[]).await < 0.5).await;
    let seen = world.passes().await;
    assert_eq!(seen, passes, "no other look was needed: {}", world.daemon().tail(60));
    assert_is(sum(&world, "changes_total", &[("result", "ok"), ("action", "update")]).await, 1);
    world.faults(json!([])).await;
    world.converge().await;
    assert_is(sum(&world, "changes_total", &[("action", "update"), ("result", "ok")]).await, 1);
    assert_is(sum(&world, "converged", &[]).await, 1);
    assert_is(sum(&world, "convergence_duration_seconds_count", &[]).await, 1);
}

#[tokio::test]
async fn held_changes_are_counted_by_their_guard() {
    let mut world = World::with(Setup { project: vec!["firstContact: hold".to_owned()], ..Setup::default() }).await;
    world.set_live(json!({ "tenants": [{ "id": "t0", "name": "Live" }] })).await;
    write_some(&world, 0, 0, 3);
    world.start().await;
    world.until("held", async |world| world.project().await["held"].is_object()).await;
    world.pass().await;

    let labels = [("project", "default"), ("reason", "first_contact")];
    assert_is(sum(&world, "held_changes", &labels).await, 3);
    assert_is(sum(&world, "guard_trips_total", &labels).await, 1);
    assert_is(sum(&world, "passes_total", &[("result", "held")]).await, 2);
    assert_is(sum(&world, "converged", &[]).await, 0);
    assert_is(sum(&world, "changes_total", &[]).await, 0);
}

#[tokio::test]
async fn a_broken_repo_is_no_success_though_the_last_good_state_is_upheld() {
    let mut world = World::new().await;
    write_some(&world, 2, 0, 1);
    world.converge().await;
    world.write("broken.yaml", "tenants: [");
    world.until("told", async |world| sum(world, "desired_valid", &[]).await < 0.5).await;
    let success = sum(&world, "last_success_timestamp_seconds", &[]).await;
    world.edit_live("tenants/t0", json!({ "name": "Somebody was here" })).await;

    world.pass().await;

    world.until("healed", async |world| world.entity("tenants", "t0").await.unwrap()["name"] == "Tenant 0").await;
    assert!((sum(&world, "last_success_timestamp_seconds", &[]).await - success).abs() < f64::EPSILON);
    assert!(sum(&world, "last_attempt_timestamp_seconds", &[]).await > success);
    assert!(sum(&world, "source_loads_total", &[("result", "invalid")]).await > 0.5);
    assert_is(sum(&world, "desired_resources", &[]).await, 3);

    world.remove("broken.yaml");
    world.until("told", async |world| sum(world, "desired_valid", &[]).await > 0.5).await;
    world.until("a success", async |world| sum(world, "last_success_timestamp_seconds", &[]).await > success).await;
}

/// A pass was told as a success when it had planned, with nearly all of it still to go, and so was one whose changes were refused.
#[tokio::test]
async fn a_success_is_when_the_project_equals_its_files_and_not_when_that_is_planned() {
    let mut world = World::new().await;
    write_some(&world, 0, 0, 3);
    world.faults(json!([{ "match": { "item": "t1" }, "fault": "status", "status": 400 }])).await;
    world.start().await;
    let has_parked = async |world: &World| world.project().await["problems"][0]["state"] == "parked";
    world.until("all but one", has_parked).await;
    world.pass().await;
    let whole = sum(&world, "last_whole_pass_timestamp_seconds", &[]).await;
    assert!(whole > 0.5, "it loaded and observed everything");
    assert_is(sum(&world, "last_success_timestamp_seconds", &[]).await, 0);
    assert!(world.project().await["lastSuccessAt"].is_null(), "{}", world.project().await);

    world.faults(json!([])).await;
    world.daemon().signal(Signal::HUP);
    world.until("converged", async |world| world.is_converged().await).await;
    let success = sum(&world, "last_success_timestamp_seconds", &[]).await;
    assert!(success > whole, "{success} {whole}");
    // Each pass that finds it so says so anew.
    world.pass().await;
    assert!(sum(&world, "last_success_timestamp_seconds", &[]).await > success);

    let said = world.project().await["lastSuccessAt"].clone();
    let applied = world.project().await["applied"].clone();
    world.faults(json!([{ "match": { "item": "t1" }, "fault": "status", "status": 400 }])).await;
    world.edit_live("tenants/t1", json!({ "name": "Somebody was here" })).await;
    world.pass().await;
    world.until("refused", has_parked).await;
    assert_eq!(world.project().await["lastSuccessAt"], said);
    // What the last run knew.
    world.kill().await;
    world.end_simulator().await;
    world.start().await;
    world.until("looked", async |world| !world.project().await["lastPass"].is_null()).await;
    let project = world.project().await;
    let at = |time: &Value| humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    let far = at(&project["lastSuccessAt"]).duration_since(at(&said)).unwrap_or_else(|error| error.duration());
    assert!(far < std::time::Duration::from_millis(100), "{said} {project}");
    assert_eq!(project["applied"]["revision"], applied["revision"]);
}

/// The age was written at each look alone: where looks ended, it stayed as young as it was, and for ever where nothing of the
/// kind was declared any more.
#[tokio::test]
async fn the_age_of_an_observation_grows_while_nobody_looks_and_leaves_with_the_declaration() {
    let mut world = World::new().await;
    world.source_at("repo", "debounce: 50ms, interval: 1h, deepInterval: 6h");
    world.write("a.yaml", "tenants: [{ id: a, name: A, settings: { enabled: true } }, { id: b, name: B }]\n");
    world.converge().await;
    world.fresh_pass().await;
    let of_tenants = [("project", "default"), ("kind", "tenants")];
    assert_is(sum(&world, "observation_interval_seconds", &of_tenants[..1]).await, 6 * 3600);
    let age = sum(&world, "observation_age_seconds", &of_tenants).await;
    let is_older = async |world: &World| sum(world, "observation_age_seconds", &of_tenants).await > age;
    world.until("older", is_older).await;
    let details = |project: &Value| {
        let kinds = project["kinds"].as_array().unwrap();
        kinds.iter().find(|kind| kind["kind"] == "tenants").unwrap()["details"].clone()
    };
    let shown = details(&world.project().await);
    assert_eq!((&shown["parts"], &shown["unread"]), (&json!(1), &json!(0)), "{shown}");
    assert!(shown["oldestAt"].is_string(), "{shown}");

    world.write("a.yaml", "tenants: [{ id: a, name: A }, { id: b, name: B }]\n");
    let has_none = async |world: &World| !world.open("/metrics").await.1.contains("observation_age_seconds{");
    world.until("no age", has_none).await;
    assert!(details(&world.project().await).is_null());
}
