//! The budget over loopback and in real time, beside what the bench predicts of the same numbers.
//!
//! The table is `benches/scenarios-live.yaml`. What is asserted are counts: a loaded machine is slow, but it must not make
//! the daemon send into a lockout. Run with `--nocapture` to see the times.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::creates;
use crate::harness::write_some;
use crate::scenario;
use crate::scenario::Header;
use crate::scenario::Scenario;
use crate::scenario::ServerKind;
use crate::world::Outcomes;
use crate::world::Who;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;
use tokio::task::JoinSet;

/// What is in flight when a refusal arrives may still reach the server: one request for each of the other workers.
const IN_FLIGHT: usize = 7;

/// And it takes no longer than this to get there.
const ON_THE_WAY_MS: u64 = 700;

/// Runs in virtual time behind a prediction.
const DRAWS: u64 = 9;

fn scenarios() -> Vec<Scenario> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/scenarios-live.yaml");
    scenario::load(&path).unwrap()
}

fn scenario(name: &str) -> Scenario {
    scenarios().into_iter().find(|scenario| scenario.name == name).unwrap()
}

/// The simulator and the config of a scenario.
fn setup(scenario: &Scenario) -> Setup {
    let (server, documented) = (&scenario.server, &scenario.documented);
    let kind = match server.kind {
        ServerKind::FixedWindow => "fixed-window",
        ServerKind::SlidingLog => "sliding-log",
        ServerKind::SlidingCounter => "sliding-counter",
        ServerKind::TokenBucket => "token-bucket",
    };
    let header = match server.retry_after {
        Header::Seconds => "seconds",
        Header::Floor => "floor",
        Header::Absent => "absent",
        Header::Short => "short",
        Header::Date => "date",
    };
    let mut simulator = vec![
        format!("--rate-limit={}/{}s", server.n, server.window_s),
        format!("--lockout={}s", server.lockout_s),
        format!("--limit-kind={kind}"),
        format!("--retry-after={header}"),
        format!("--clock-skew={}", server.clock_skew_s),
    ];
    simulator.extend(server.extending.then(|| "--extending-lockout".to_owned()));
    simulator.extend(server.burst.map(|burst| format!("--burst={burst}")));
    simulator.extend(scenario.background.as_ref().map(|others| format!("--background={}", others.rate_per_s)));
    let limit = format!(
        "rateLimit: {{ limit: {}/{}s, lockout: {}s, reserve: 0%, probe: {} }}",
        documented.n, documented.window_s, documented.lockout_s, scenario.probe
    );
    Setup { simulator, top: vec![limit], ..Setup::default() }
}

async fn world_of(scenario: &Scenario) -> World {
    let world = World::with(setup(scenario)).await;
    // One request finds them missing.
    write_some(&world, 0, 0, scenario.load.tasks() - 1);
    world
}

/// One run, as the simulator saw it.
struct Live {
    requests: usize,
    seconds: f64,
    refused: usize,
    events: usize,
    in_lockout: usize,
}

async fn live(scenario: &Scenario) -> Live {
    let mut world = world_of(scenario).await;
    world.start().await;
    world.until("begun", async |world| !world.requests_since(0).await.is_empty()).await;
    let first = time(&world.requests_since(0).await[0]);
    for (at_s, n) in scenario.steps.clone() {
        let due = (first + ms(at_s)).saturating_sub(unix_ms());
        tokio::time::sleep(Duration::from_millis(due)).await;
        world.sim(Method::PUT, "rate-limit", Some(json!({ "n": n }))).await;
    }
    world.until("converged", async |world| world.is_converged().await).await;
    assert_all_there(&world, scenario).await;
    let log = world.requests_since(0).await;
    assert_nothing_into_a_known_lockout(&scenario.name, &world, &log);
    if !scenario.probe {
        assert_within_the_limit(scenario, &log);
    }
    let last_write = log.iter().filter(|entry| entry["effect"] == true).map(time).max().unwrap();
    let throttled = |entry: &&Value| entry["status"] == 429;
    Live {
        requests: log.len(),
        #[allow(clippy::cast_precision_loss, reason = "a minute at most")]
        seconds: (last_write - time(&log[0])) as f64 / 1000.0,
        refused: log.iter().filter(throttled).count(),
        events: closings(&world).len(),
        in_lockout: log.iter().filter(|entry| entry["inLockout"] == true).count(),
    }
}

fn time(entry: &Value) -> u64 {
    entry["time"].as_u64().unwrap()
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

fn ms(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_millis()).unwrap()
}

/// Nothing lost, nothing doubled, nothing given up.
async fn assert_all_there(world: &World, scenario: &Scenario) {
    let tenants = scenario.load.tasks() - 1;
    let creates = creates(&world.log().await);
    assert_eq!(creates.len(), tenants, "{}", scenario.name);
    assert!(creates.values().all(|counts| *counts == (1, 0)), "{}: {creates:?}", scenario.name);
    let live = world.live().await["tenants"].as_array().unwrap().len();
    assert_eq!(live, tenants, "{}", scenario.name);
    let failed = "changes_total{action=\"create\",kind=\"tenants\",project=\"default\",result=\"failed\"}";
    assert_eq!(world.metric(failed).await.unwrap_or_default(), 0.0, "{}", scenario.name);
}

/// When the daemon's gate closed, and when it would open: Unix milliseconds.
fn closings(world: &World) -> Vec<(u64, u64)> {
    let lines = world.daemon().lines();
    let closed = lines.iter().filter(|line| line.contains("Descope's rate limit was hit"));
    closed
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let at = humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
            let at = u64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap();
            (at, at + ms((line["seconds"].as_f64().unwrap() - 0.1).max(0.0)))
        })
        .collect()
}

fn assert_nothing_into_a_known_lockout(name: &str, world: &World, log: &[Value]) {
    for (closed, opens) in closings(world) {
        let late: Vec<u64> = log.iter().map(time).filter(|&at| at > closed && at < opens).collect();
        assert!(late.len() <= IN_FLIGHT, "{name}: closed at {closed}, sent at {late:?}");
        assert!(late.iter().all(|&at| at < closed + ON_THE_WAY_MS), "{name}: closed at {closed}, sent at {late:?}");
    }
}

/// No trailing window holds more sends than configured, whatever the server would take.
fn assert_within_the_limit(scenario: &Scenario, log: &[Value]) {
    // Times are cut to milliseconds.
    let window = ms(scenario.documented.window_s) - 2;
    let times: Vec<u64> = log.iter().map(time).collect();
    let held = |&last: &u64| times.iter().filter(|&&at| at <= last && at + window > last).count();
    let most = times.iter().map(held).max().unwrap();
    #[allow(clippy::cast_precision_loss, reason = "a count of requests")]
    let most = most as f64;
    assert!(most <= scenario.documented.n, "{}: {most} in a window", scenario.name);
}

fn virtual_runs(scenario: &Scenario, who: Who) -> Vec<Outcomes> {
    (1..=DRAWS).map(|seed| crate::world::World::new(scenario, who, seed).run(Duration::from_secs(3600))).collect()
}

fn mean(runs: &[Outcomes], of: impl Fn(&Outcomes) -> f64) -> f64 {
    runs.iter().map(of).sum::<f64>() / crate::world::count(runs.len())
}

/// One line of the table.
fn line(scenario: &Scenario, live: &Live) -> String {
    let (ideal, predicted) = (virtual_runs(scenario, Who::Oracle), virtual_runs(scenario, Who::Budget));
    format!(
        "{:<26} {:>8} {:>8.1} {:>8.1} {:>10.1} {:>6} {:>7} {:>9} {:>15.1}",
        scenario.name,
        live.requests,
        live.seconds,
        mean(&ideal, |run| run.makespan),
        mean(&predicted, |run| run.makespan),
        live.refused,
        live.events,
        live.in_lockout,
        mean(&predicted, |run| crate::world::count(run.throttled)),
    )
}

fn print(lines: &[String]) {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<26} {:>8} {:>8} {:>8} {:>10} {:>6} {:>7} {:>9} {:>15}",
        "scenario", "requests", "seconds", "ideal", "predicted", "429s", "events", "in lockout", "429s predicted"
    )
    .unwrap();
    for line in lines {
        writeln!(out, "{line}").unwrap();
    }
}

/// Runs these at once, each with a simulator of its own.
async fn run(names: &[&str]) -> Vec<(Scenario, Live)> {
    let mut runs = JoinSet::new();
    for name in names {
        let scenario = scenario(name);
        runs.spawn(async move {
            let live = live(&scenario).await;
            (scenario, live)
        });
    }
    let done = runs.join_all().await;
    print(&done.iter().map(|(scenario, live)| line(scenario, live)).collect::<Vec<_>>());
    done
}

#[tokio::test]
async fn with_the_right_limit_three_hundred_tenants_take_as_many_windows_as_they_must_and_no_refusal() {
    for (scenario, live) in run(&["right-sliding", "right-fixed", "right-without-lockout"]).await {
        let name = &scenario.name;
        assert_eq!((live.refused, live.events, live.in_lockout), (0, 0, 0), "{name}");
        // One list and one create each, no more.
        assert_eq!(live.requests, 301, "{name}");
        // Seven windows have to pass before the last of 301 may go; twice as many is a machine out of breath.
        assert!((13.9..28.0).contains(&live.seconds), "{name}: {} s", live.seconds);
    }
}

#[tokio::test]
async fn whatever_the_server_does_nothing_goes_into_a_known_lockout_and_nothing_is_lost() {
    let names: Vec<String> =
        scenarios().into_iter().map(|scenario| scenario.name).filter(|name| !name.starts_with("right-")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (scenario, live) in run(&names).await {
        match scenario.name.as_str() {
            "too-low" => assert_eq!((live.refused, live.requests), (0, 161)),
            // Slow enough, a burst is no faster than the bucket fills.
            "too-low-probing" | "background" | "bucket" => {}
            name => {
                // Beside all the others a busy disk, which every change waits for, may keep it below the limit.
                let live = if live.refused == 0 { run(&[name]).await.remove(0).1 } else { live };
                assert!(live.refused >= 1, "{name}: never refused");
                assert!(live.events >= 1, "{name}: refused, and nothing said so");
            }
        }
    }
}

#[tokio::test]
async fn restarts_in_the_middle_of_a_window_cost_no_refusal() {
    let scenario = scenario("right-sliding");
    let mut world = world_of(&scenario).await;
    let written = async |world: &World| world.stats().await["applied"].as_u64().unwrap();
    for (restart, least) in [15, 55, 100, 150, 200].into_iter().enumerate() {
        world.start().await;
        world.until("under way", async |world| written(world).await >= least).await;
        if restart % 2 == 0 {
            world.kill().await;
        } else {
            assert!(world.stop().await.success());
        }
        assert!(written(&world).await < 300, "restarted in the middle");
    }
    world.converge().await;

    let stats = world.stats().await;
    assert_eq!((&stats["throttled"], &stats["duringLockout"]), (&json!(0), &json!(0)), "{stats}");
    assert_within_the_limit(&scenario, &world.requests_since(0).await);
    let creates = creates(&world.log().await);
    assert!(creates.len() == 300 && creates.values().all(|counts| counts.0 == 1), "{creates:?}");
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_lockout_waits_for_its_end() {
    let mut runs = JoinSet::new();
    for is_killed in [true, false] {
        runs.spawn(async move {
            let scenario = scenario("too-high-header-missing");
            let mut world = world_of(&scenario).await;
            world.start().await;
            world
                .until("locked out", async |world| world.status().await["limiters"][0]["pausedUntil"].is_string())
                .await;
            if is_killed {
                // Until the record has reached the disk, which takes milliseconds, a power cut costs one more refusal.
                world.until("written down", async |world| is_pause_written(world)).await;
                world.kill().await;
            } else {
                assert!(world.stop().await.success());
            }
            let seq = quiet_seq(&world).await;
            world.converge().await;
            let first = world.requests_since(seq).await[0].clone();
            let said: Vec<String> =
                world.daemon().lines().into_iter().filter(|line| line.contains("rate limit")).take(3).collect();
            let what = format!("killed: {is_killed}, {first}, {said:#?}");
            assert_eq!((&first["inLockout"], &first["status"]), (&json!(false), &json!(200)), "{what}");
            assert_all_there(&world, &scenario).await;
        });
    }
    runs.join_all().await;
}

/// Would the next start know of the lockout?
pub fn is_pause_written(world: &World) -> bool {
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    let memory: String = state.query_row("SELECT memory FROM limiter", [], |row| row.get(0)).unwrap();
    serde_json::from_str::<Value>(&memory).unwrap()["pausedUntil"].is_number()
}

/// The newest request, once nothing more arrives: what a killed daemon had sent may still be on its way.
pub async fn quiet_seq(world: &World) -> u64 {
    loop {
        let seq = world.newest_seq().await;
        // Longer than the latency of these scenarios.
        tokio::time::sleep(Duration::from_millis(250)).await;
        if world.newest_seq().await == seq {
            return seq;
        }
    }
}
