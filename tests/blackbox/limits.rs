//! The rate limit: nobody runs into it on purpose, and a refusal stops everybody until it is over.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::creates;
use crate::harness::permission;
use crate::harness::write_some;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

fn limited(simulator: &[&str], rate_limit: &str) -> Setup {
    Setup {
        simulator: simulator.iter().map(|flag| (*flag).to_owned()).collect(),
        top: vec![format!("rateLimit: {rate_limit}")],
        ..Setup::default()
    }
}

#[tokio::test]
async fn the_budget_drains_sixty_tenants_without_a_refusal() {
    let setup = limited(&["--rate-limit=20/2s", "--lockout=2s"], "{ limit: 20/2s, lockout: 2s, reserve: 0% }");
    let mut world = World::with(setup).await;
    write_some(&world, 0, 0, 60);

    world.start().await;
    world.until("spending", async |world| world.status().await["limiters"][0]["used"].as_f64() > Some(5.0)).await;
    world.converge().await;

    let stats = world.stats().await;
    assert_eq!((&stats["throttled"], &stats["duringLockout"]), (&json!(0), &json!(0)), "{stats}");
    let limiter = &world.status().await["limiters"][0];
    assert_eq!(limiter["algorithm"], "budget");
    assert_eq!((&limiter["budget"], &limiter["throttledTotal"]), (&json!(20.0), &json!(0)), "{limiter}");
    assert_eq!(limiter["pausedUntil"], Value::Null);
    let host = limiter["host"].as_str().unwrap();
    for (series, value) in [
        ("limiter_rate_requests_per_second", 10.0),
        ("limiter_budget_requests", 20.0),
        ("limiter_throttled_total", 0.0),
        ("limiter_paused_until_timestamp_seconds", 0.0),
    ] {
        assert_eq!(world.metric(&format!("{series}{{host=\"{host}\"}}")).await, Some(value), "{series}");
    }
    assert!(world.metric(&format!("limiter_budget_used_requests{{host=\"{host}\"}}")).await.is_some());
    assert!(world.metric("limiter_wait_seconds_count").await.unwrap() >= 61.0);
    let failed = "changes_total{action=\"create\",kind=\"tenants\",project=\"default\",result=\"failed\"}";
    assert_eq!(world.metric(failed).await.unwrap_or_default(), 0.0);
}

#[tokio::test]
async fn the_adaptive_algorithm_drains_them_too_and_a_refusal_costs_no_attempt() {
    let setup = limited(
        &["--rate-limit=20/2s", "--lockout=1s"],
        "{ algorithm: adaptive, limit: 20/2s, lockout: 1s, adaptive: { initialRate: 30, minRate: 1, maxRate: 60 } }",
    );
    let mut world = World::with(setup).await;
    write_some(&world, 0, 0, 60);

    world.converge().await;

    let stats = world.stats().await;
    let throttled = stats["throttled"].as_u64().unwrap();
    assert!((1..=30).contains(&throttled), "{stats}");
    // What was in flight when the gate closed, no more.
    assert!(stats["duringLockout"].as_u64().unwrap() <= 8 * throttled.min(4), "{stats}");
    let status = world.status().await;
    let limiter = &status["limiters"][0];
    assert_eq!((&limiter["algorithm"], &limiter["budget"]), (&json!("adaptive"), &Value::Null), "{limiter}");
    assert_eq!(limiter["throttledTotal"], throttled);
    let adaptive = &limiter["adaptive"];
    assert_eq!((&adaptive["minRate"], &adaptive["maxRate"]), (&json!(1.0), &json!(60.0)));
    assert!(adaptive["currentRate"].as_f64().unwrap() < 30.0 && adaptive["successCount"].is_u64(), "{adaptive}");
    assert_eq!(limiter["requestsPerSecond"], adaptive["currentRate"]);
    let failed = "changes_total{action=\"create\",kind=\"tenants\",project=\"default\",result=\"failed\"}";
    assert_eq!(world.metric(failed).await.unwrap_or_default(), 0.0);
    assert_eq!(world.metric("queue_adds_total{reason=\"retry\"}").await.unwrap_or_default(), 0.0);
    let throttled = "api_retries_total{operation=\"POST /v1/mgmt/tenant/create\",reason=\"throttled\"}";
    assert!(world.metric(throttled).await.unwrap() >= 1.0);
    let creates = creates(&world.log().await);
    assert!(creates.len() == 60 && creates.values().all(|counts| *counts == (1, 0)));
}

#[tokio::test]
async fn a_lockout_outlives_a_kill_and_is_respected_by_sighup() {
    // More than there is, so it runs into a refusal.
    let setup = limited(&["--rate-limit=10/1s", "--lockout=3s"], "{ limit: 100/1s, lockout: 3s }");
    let mut world = World::with(setup).await;
    write_some(&world, 0, 0, 30);
    world.start().await;
    world.until("locked out", async |world| world.status().await["limiters"][0]["pausedUntil"].is_string()).await;
    world.until("written down", async |world| crate::budget::is_pause_written(world)).await;
    world.kill().await;

    let seq = crate::budget::quiet_seq(&world).await;
    assert!(world.stats().await["throttled"].as_u64().unwrap() > 0);
    world.start().await;
    world.until("knows of it", async |world| world.status().await["limiters"][0]["pausedUntil"].is_string()).await;
    for _ in 0..3 {
        world.daemon().signal(Signal::HUP);
    }
    world
        .until("asked to look again", async |world| {
            world.metric("source_events_total{trigger=\"signal\"}").await.unwrap_or_default() >= 1.0
        })
        .await;
    assert_eq!(world.ask(Method::GET, "/livez").await.0, 200, "waiting at the gate is alive");
    let early: Vec<Value> =
        world.requests_since(seq).await.into_iter().filter(|entry| entry["inLockout"] == true).collect();
    assert!(early.is_empty(), "nobody sends meanwhile: {early:?}");
    world.until("over", async |world| !world.requests_since(seq).await.is_empty()).await;
    let first = world.requests_since(seq).await[0].clone();
    assert_eq!(first["inLockout"], false, "{first}");

    world.converge_on(30).await;
    let creates = creates(&world.log().await);
    assert!(creates.len() == 30 && creates.values().all(|counts| *counts == (1, 0)), "{creates:?}");
}

#[tokio::test]
async fn a_commit_in_the_middle_of_a_drain_takes_effect_at_once() {
    let setup = limited(&["--rate-limit=none"], "{ limit: 10/1s, reserve: 0% }");
    let mut world = World::with(setup).await;
    write_some(&world, 0, 0, 60);
    world.start().await;
    world.until("in the middle", async |world| world.entity("tenants", "t10").await.is_some()).await;

    let seq = world.newest_seq().await;
    let new: String = (0..5).map(|n| format!("  - {{ id: u{n}, name: New {n} }}\n")).collect();
    world.write("tenants.yaml", &format!("tenants:\n{new}"));
    world.converge_on(5).await;

    let sent = world.requests_since(seq).await;
    let ids: Vec<&str> = sent.iter().filter_map(|entry| entry["body"]["id"].as_str()).collect();
    let first_new = ids.iter().position(|id| id.starts_with('u')).unwrap();
    let stale = ids.iter().filter(|id| id.starts_with('t')).count();
    // Those that were sent while the file was read, and those in flight.
    assert!(stale <= 25, "{ids:?}");
    assert!(ids[first_new..].iter().filter(|id| id.starts_with('t')).count() <= 8, "{ids:?}");
    assert_eq!(ids.iter().filter(|id| id.starts_with('u')).count(), 5);
    let creates = creates(&world.log().await);
    assert!(creates.len() < 50, "{}", creates.len());
    let all = |entry: &Value| entry["status"] == 200;
    assert!(sent.iter().all(all), "{sent:?}");
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn without_a_limit_the_rate_is_infinite_and_null() {
    let mut world = World::with(limited(&["--rate-limit=none"], "{ limit: null }")).await;
    write_some(&world, 2, 2, 30);

    world.converge().await;

    let limiter = world.status().await["limiters"][0].clone();
    assert_eq!((&limiter["requestsPerSecond"], &limiter["budget"]), (&Value::Null, &Value::Null), "{limiter}");
    let host = world.api.trim_start_matches("http://").to_owned();
    let text = world.ask(Method::GET, "/metrics").await.1;
    let series = format!("descope_gitops_limiter_rate_requests_per_second{{host=\"{host}\"}} +Inf");
    assert!(text.contains(&series), "{series}: {text}");
}

/// "Looking at Descope since 41s ago", and nothing was asked: others had used all there was.
#[tokio::test]
async fn a_look_that_waits_for_the_budget_says_so_and_when_there_is_more() {
    let mut world = World::with(limited(&["--rate-limit=none"], "{ limit: 3/60s, reserve: 0% }")).await;
    world.write("a.yaml", &permission("p", "one"));
    world.start().await;
    world.until("made", async |world| world.entity("permissions", "p").await.is_some()).await;

    let waits = async |world: &World| {
        world.ask(Method::POST, "/api/v1/reconcile").await;
        world.project().await["look"]["freeAt"].is_string()
    };
    world.until("waits", waits).await;

    let look = world.project().await["look"].clone();
    assert_eq!(look["until"], Value::Null, "nothing was refused: {look}");
    let output = world.run(&["status", "--url", &world.daemon_url().await]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("; it waits for the rate budget, all of which is in use: more in "), "{text}");
}

/// What it said at first was over, nothing moved, and no end was told any more.
#[tokio::test]
async fn while_the_last_of_a_drain_takes_longer_than_was_told_its_end_is_told_anew() {
    let mut world = World::with(limited(&["--rate-limit=none"], "{ limit: 1000/60s }")).await;
    world.write("a.yaml", &permission("p", "one"));
    world.converge().await;
    let slow = json!([{ "match": { "path": "/v1/mgmt/permission/update" }, "fault": "delay", "delay": "60s" }]);
    world.faults(slow).await;
    world.write("a.yaml", &permission("p", "two"));
    let end = async |world: &World| world.project().await["progress"]["endsAt"].as_str().map(str::to_owned);
    world.until("told", async |world| end(world).await.is_some()).await;
    let first = humantime::parse_rfc3339(&end(&world).await.unwrap()).unwrap();

    let seen = RefCell::new(BTreeSet::new());
    let is_later = async |world: &World| {
        let later = humantime::parse_rfc3339(&end(world).await.unwrap()).unwrap();
        seen.borrow_mut().insert(later);
        later > first + Duration::from_secs(12)
    };
    world.until("told anew", is_later).await;
    // What else is told of meanwhile is less than half of that.
    assert!(seen.borrow().len() > 7, "{seen:?}");

    let output = world.run(&["status", "--url", &world.daemon_url().await]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("under way: 1 of 1 changes left, "), "{text}");
}
