//! More than one replica on one database: one writes, the others stand by and take over. Nothing is doubled and nothing lost.

use crate::clock::library;
use crate::harness::KEY;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::creates;
use crate::harness::missing;
use crate::harness::permission;
use crate::page::browser;
use crate::page::end;
use crate::postgres::Postgres;
use crate::terms;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

const LONGEST: Duration = Duration::from_secs(60);

/// A lease that does not end while a test lasts.
pub const NEVER: &str = "10m";

/// The same config, repo and database for all of them.
pub struct Replicas {
    pub world: World,
    pub running: Vec<Replica>,
    http: reqwest::Client,
}

pub struct Replica {
    pub process: Process,
    pub url: String,
}

impl Replicas {
    /// Where a lease is lost by slowness now and then, which must not matter.
    pub async fn new(server: &Postgres, simulator: &[&str]) -> Self {
        Self::with(server, "2s", simulator).await
    }

    /// With this `lease.life`.
    pub async fn with(server: &Postgres, life: &str, simulator: &[&str]) -> Self {
        let simulator = ["--rate-limit=none"].iter().chain(simulator).map(|flag| (*flag).to_owned()).collect();
        let state = format!(
            "state: {{ url: {{ env: BLACKBOX_DATABASE }}, fingerprintKey: {{ env: BLACKBOX_FINGERPRINTS }}, \
             lease: {{ life: {life}, renew: 500ms }} }}"
        );
        let top = vec![state, "requestTimeout: 2s".to_owned()];
        let mut world = World::with(Setup { simulator, top, ..Setup::default() }).await;
        world.environment = vec![
            ("BLACKBOX_DATABASE".to_owned(), server.database()),
            ("BLACKBOX_FINGERPRINTS".to_owned(), "0123456789abcdef".repeat(4)),
        ];
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { world, running: Vec::new(), http }
    }

    pub async fn start(&mut self) -> usize {
        self.start_as(Process::start(self.world.command(&["run"]))).await
    }

    /// One whose clock is so far off.
    pub fn with_clock(&self, library: &Path, offset: &str) -> Command {
        let mut command = self.world.command(&["run"]);
        command.env("LD_PRELOAD", library).env("FAKETIME", offset);
        for setting in ["FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
            command.env(setting, "1");
        }
        command
    }

    pub async fn start_as(&mut self, process: Process) -> usize {
        let line = process.wait_for_line("the address", |line| line.contains("\"listening\"")).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        let url = format!("http://{}", line["address"].as_str().unwrap());
        self.running.push(Replica { process, url });
        self.running.len() - 1
    }

    pub async fn ask(&self, replica: usize, path: &str) -> Option<(u16, String)> {
        let request = self.http.request(Method::GET, format!("{}{path}", self.running[replica].url)).bearer_auth(TOKEN);
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// What comes of an order, once it has: another replica may be the one that carries it out.
    pub async fn post(&self, replica: usize, path: &str) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.running[replica].url)).bearer_auth(TOKEN);
        let answer = request.timeout(LONGEST).send().await.unwrap();
        let code = answer.status().as_u16();
        (code, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    /// Ends a replica in order and leaves calls open, by kind, name and action, as if it had been killed with them under way.
    async fn end_with_open(&mut self, server: &Postgres, replica: usize, calls: &[(&str, &str, &str)]) {
        let mut gone = self.running.remove(replica);
        gone.process.signal(Signal::TERM);
        gone.process.ended().await;
        for (kind, name, action) in calls {
            let open = format!(
                "INSERT INTO intent (project, kind, tenant, name, action, digest, begun_at)
                 SELECT id, '{kind}', '', '{name}', '{action}', ''::bytea,
                        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
                 FROM project"
            );
            server.sql(&self.database(), &open);
        }
    }

    pub async fn project(&self, replica: usize) -> Option<Value> {
        let (_, text) = self.ask(replica, "/api/v1/status").await?;
        let status: Value = serde_json::from_str(&text).ok()?;
        Some(status["projects"][0].clone())
    }

    pub async fn is_holder(&self, replica: usize) -> bool {
        self.project(replica).await.is_some_and(|project| project["lease"]["isMine"] == true)
    }

    /// The one that writes, once there is one.
    pub async fn holder(&self) -> usize {
        let started = Instant::now();
        loop {
            for replica in 0..self.running.len() {
                if self.is_holder(replica).await {
                    return replica;
                }
            }
            assert!(started.elapsed() < LONGEST, "nobody holds the lease: {}", self.tails());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self).await {
            assert!(started.elapsed() < LONGEST, "not {what}: {}", self.tails());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn converge(&self) {
        self.converge_by(|_| true).await;
    }

    /// By a holder that has seen the files with so many resources.
    pub async fn converge_on(&self, resources: usize) {
        self.converge_by(|project| project["desired"]["resources"] == resources).await;
    }

    pub async fn converge_by(&self, is_it: impl Fn(&Value) -> bool) {
        self.until("converged", async |all| {
            for replica in 0..all.running.len() {
                let Some(project) = all.project(replica).await else { continue };
                if project["lease"]["isMine"] == true && project["converged"] == true && is_it(&project) {
                    return true;
                }
            }
            false
        })
        .await;
    }

    pub async fn kill(&mut self, replica: usize) {
        let mut dead = self.running.remove(replica);
        dead.process.signal(Signal::KILL);
        dead.process.ended().await;
    }

    /// Where they keep their state.
    pub fn database(&self) -> String {
        self.world.environment[0].1.rsplit_once('/').unwrap().1.to_owned()
    }

    /// Until whoever holds the lease has renewed it for so long. It is to stay where it is.
    pub async fn keep_their_lease_for(&self, server: &Postgres, time: Duration) {
        let lease = || {
            let row = server.sql(&self.database(), "SELECT term, expires FROM lease");
            let (term, expires) = row.split_once('|').unwrap();
            (term.to_owned(), Duration::from_millis(expires.parse().unwrap()))
        };
        let (term, expires) = lease();
        self.until("renewed", async |_| lease().1 >= expires + time).await;
        assert_eq!(lease().0, term, "the lease went to another: {}", self.tails());
    }

    pub fn tails(&self) -> String {
        self.running.iter().map(|replica| replica.process.tail(30) + "\n---\n").collect()
    }

    /// What the simulator got for each resource that was created: how often, and with success.
    pub async fn assert_nothing_doubled(&self, created: usize) {
        let creates = creates(&self.world.log().await);
        let done: BTreeMap<_, _> = creates.iter().map(|(key, (done, _))| (key, done)).collect();
        assert_eq!(done.len(), created, "{creates:?}");
        assert!(done.values().all(|done| **done == 1), "{creates:?}");
    }
}

pub fn permissions(count: usize) -> String {
    let lines: String = (0..count).map(|n| format!("  - {{ name: p{n}, description: d }}\n")).collect();
    format!("permissions:\n{lines}")
}

#[tokio::test]
async fn one_writes_and_the_other_is_ready_and_stands_by() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, NEVER, &[]).await;
    all.world.write("some.yaml", &permissions(5));
    all.start().await;
    all.converge().await;
    let other = all.start().await;

    all.until("ready", async |all| all.ask(other, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    all.world.write("more.yaml", &permission("more", "d"));
    all.until("created", async |all| all.world.entity("permissions", "more").await.is_some()).await;
    all.converge().await;

    assert!(all.is_holder(0).await && !all.is_holder(other).await);
    let (_, metrics) = all.ask(other, "/metrics").await.unwrap();
    assert!(metrics.contains("descope_gitops_lease_held{project=\"default\"} 0"), "{metrics}");
    let shown = all.project(other).await.unwrap();
    assert!(shown["lease"]["holder"].is_string() && shown["lease"]["term"] == 1, "{shown}");
    // Neither its log nor `healthz` leaves open what it is up to.
    let holder = shown["lease"]["holder"].as_str().unwrap();
    let said =
        |line: &str| line.contains("another replica holds the lease: this one stands by") && line.contains(holder);
    all.running[other].process.wait_for_line("that it stands by", said).await;
    assert!(!all.running[0].process.said("this one stands by"));
    all.until("well", async |all| {
        let Some((_, health)) = all.ask(other, "/healthz").await else { return false };
        let health: Value = serde_json::from_str(&health).unwrap();
        let descope = health["components"].as_array().unwrap().iter().find(|one| one["name"] == "descope").unwrap();
        health["status"] == "ok" && descope["reason"] == "stands by for another replica"
    })
    .await;
    all.assert_nothing_doubled(6).await;
    assert!(!all.tails().contains(KEY), "a secret in the log");
}

#[tokio::test]
async fn a_stop_hands_over_and_no_lease_has_to_end_for_it() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, NEVER, &[]).await;
    all.world.write("some.yaml", &permissions(5));
    all.start().await;
    all.converge().await;
    all.start().await;

    let mut stopped = all.running.remove(0);
    stopped.process.signal(Signal::TERM);
    assert!(stopped.process.ended().await.success());

    all.holder().await;

    all.world.write("more.yaml", &permission("more", "d"));
    all.until("created", async |all| all.world.entity("permissions", "more").await.is_some()).await;
    all.converge().await;
    all.assert_nothing_doubled(6).await;
}

/// Kills whoever holds the lease at instants all over a drain, again and again.
async fn kills(seed: u64, times: usize) {
    let Some(server) = Postgres::start() else { return };
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = Replicas::new(server, &["--latency=40ms"]).await;
    all.world.reconfigure(|setup| {
        // One call is one request.
        let retry = "retry: { maxAttempts: 1, initialBackoff: 20ms, maxBackoff: 200ms }";
        setup.top.extend(["concurrency: 2", retry].map(str::to_owned));
    });
    all.start().await;
    let database = all.database();
    terms::note(server, &database);
    all.start().await;
    all.world.write("some.yaml", &permissions(60));
    for _ in 0..times {
        let holder = all.holder().await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..600))).await;
        all.kill(holder).await;
        all.start().await;
    }
    all.converge_on(60).await;

    all.assert_nothing_doubled(60).await;
    let live = all.world.live().await;
    let names = live["permissions"].as_array().unwrap().iter().filter(|one| one["description"] == "d").count();
    assert_eq!(names, 60);
    // What was in flight when its sender died is looked at once it must have timed out.
    let is_told = |trail: &[Value], n: usize| {
        let name = format!("p{n}");
        trail.iter().filter(|row| row["id"] == *name && row["outcome"] == "ok").count()
    };
    all.until("told", async |all| {
        let trail = all.world.told(&[]).await;
        (0..60).all(|n| is_told(&trail, n) > 0)
    })
    .await;
    let trail = all.world.told(&[]).await;
    assert!((0..60).all(|n| is_told(&trail, n) == 1), "{trail:?}");
    let log = all.world.log().await;
    let arrived: Vec<(&str, f64)> = log.iter().flat_map(writes_of_permissions).collect();
    assert!(arrived.len() >= 60, "{arrived:?}");
    terms::check(server, &database, &arrived);
}

/// Whose they are, and when they came.
fn writes_of_permissions(entry: &Value) -> Vec<(&str, f64)> {
    let path = entry["path"].as_str().unwrap().strip_prefix("/v1/mgmt/permission/");
    if path.is_none_or(|action| action == "all") {
        return Vec::new();
    }
    let body = &entry["body"];
    let all = body["permissions"].as_array().map_or(std::slice::from_ref(body), Vec::as_slice);
    all.iter().map(|one| (one["name"].as_str().unwrap(), entry["time"].as_f64().unwrap())).collect()
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_1() {
    kills(1, 5).await;
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_2() {
    kills(2, 5).await;
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_3() {
    kills(3, 5).await;
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_4() {
    kills(4, 5).await;
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_5() {
    kills(5, 5).await;
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_6() {
    kills(6, 5).await;
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_7() {
    kills(7, 5).await;
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_8() {
    kills(8, 5).await;
}

/// Calls of a holder that is gone may still arrive: what they are about is left alone for a while, and that is no convergence.
#[tokio::test]
async fn what_a_holder_before_may_still_send_is_no_convergence() {
    let Some(server) = Postgres::start() else { return };
    // Files that nobody knows wait for so long, which is less than what may still be sent.
    let mut all = Replicas::with(server, "4s", &[]).await;
    all.world.reconfigure(|setup| setup.top.push("requestTimeout: 10s".to_owned()));
    all.world.reconfigure(|setup| setup.top.retain(|line| line != "requestTimeout: 2s"));
    all.world.write("some.yaml", &permissions(1));
    let first = all.start().await;
    all.converge_on(1).await;
    let open = ["p1", "p2", "p3", "p4"].map(|name| ("permissions", name, "create"));
    all.end_with_open(server, first, &open).await;
    all.world.write("some.yaml", &permissions(5));

    let next = all.start().await;

    let (left_alone, told) = (Cell::new(0), Cell::new(0));
    all.until("all there", async |all| {
        let project = all.project(next).await.unwrap_or_default();
        let live = all.world.live().await;
        let live = live["permissions"].as_array().unwrap().iter().filter(|one| one["description"] == "d").count();
        let has_passed = project["lease"]["isMine"] == true && !project["lastPass"].is_null();
        assert!(live == 5 || project["converged"] != true, "{live}: {project:#}");
        let waits = project["waits"].as_array().cloned().unwrap_or_default();
        let is_told =
            |wait: &&Value| wait["why"].as_str().unwrap().starts_with("handover: ") && wait["until"].is_string();
        told.set(told.get().max(waits.iter().filter(is_told).count()));
        left_alone.set(left_alone.get() + u32::from(has_passed && live == 1));
        live == 5
    })
    .await;
    assert!(left_alone.get() > 0, "nothing was left alone");
    assert_eq!(told.get(), 4, "each is told with its cause and its end");
    all.converge_on(5).await;
    all.assert_nothing_doubled(5).await;
}

/// What was left alone counted as sent with the next look, and then as taken out again by somebody else.
#[tokio::test]
async fn what_was_left_alone_at_a_handover_is_no_drift_and_is_made() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, "2s", &[]).await;
    all.world.reconfigure(|setup| {
        setup.interval = "1s";
        setup.project.push("drift: { mode: report }".to_owned());
        setup.top.retain(|line| line != "requestTimeout: 2s");
        setup.top.push("requestTimeout: 10s".to_owned());
    });
    all.world.write("some.yaml", &permissions(1));
    let first = all.start().await;
    all.converge_on(1).await;
    all.end_with_open(server, first, &[("permissions", "p1", "create")]).await;
    all.world.write("some.yaml", &permissions(2));

    let next = all.start().await;

    let passes = Cell::new(BTreeSet::new());
    all.until("left alone by several passes", async |all| {
        let project = all.project(next).await.unwrap_or_default();
        let waits = project["waits"].as_array().cloned().unwrap_or_default();
        let is_left_alone = waits.iter().any(|wait| wait["why"].as_str().unwrap().starts_with("handover: "));
        let mut seen = passes.take();
        if is_left_alone {
            seen.insert(project["lastPass"]["finishedAt"].to_string());
        }
        let count = seen.len();
        passes.set(seen);
        count > 2
    })
    .await;
    all.converge_on(2).await;
    all.assert_nothing_doubled(2).await;
}

/// The fence looked at the new name, and the open call was at the old one: the update arrived after the rename and turned it
/// back, what a create made then was a second one, and nobody ever said what became of either.
#[tokio::test]
async fn a_rename_waits_for_what_may_still_be_sent_under_the_old_name() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, "4s", &[]).await;
    all.world.reconfigure(|setup| setup.top.push("requestTimeout: 10s".to_owned()));
    all.world.reconfigure(|setup| setup.top.retain(|line| line != "requestTimeout: 2s"));
    let list = |name: &str, data: &str| format!("lists:\n  - {{ name: {name}, type: texts, data: [{data}] }}\n");
    all.world.write("list.yaml", &list("L", "a"));
    all.world.write("some.yaml", &permissions(1));
    let first = all.start().await;
    all.converge_on(2).await;
    all.end_with_open(server, first, &[("lists", "L", "update"), ("permissions", "New", "create")]).await;
    let written = all.world.newest_seq().await;
    all.world.write("list.yaml", &list("L2, renamedFrom: L", "c"));
    all.world.write("some.yaml", &format!("{}  - {{ name: Newer, renamedFrom: New }}\n", permissions(2)));

    let next = all.start().await;

    all.until("what has nothing to do with it", async |all| all.world.entity("permissions", "p1").await.is_some())
        .await;
    let is_about_them = |entry: &&Value| ["L", "New"].iter().any(|name| entry["body"].to_string().contains(name));
    let sent = all.world.requests_since(written).await;
    assert_eq!(sent.iter().filter(|entry| entry["effect"] == true).find(is_about_them), None);
    all.until("told", async |all| {
        let waits = all.project(next).await.unwrap_or_default()["waits"].to_string();
        waits.contains("\"L2\"") && waits.contains("\"Newer\"")
    })
    .await;
    // Now they arrive.
    let mut live = all.world.live().await;
    live["lists"][0]["data"] = serde_json::json!(["b"]);
    live["permissions"].as_array_mut().unwrap().push(serde_json::json!({ "name": "New", "description": "" }));
    all.world.set_live(live).await;
    all.converge_on(4).await;
    assert_eq!(all.world.entity("lists", "L2").await.unwrap()["data"], serde_json::json!(["c"]));
    assert!(all.world.entity("lists", "L").await.is_none());
    assert!(all.world.entity("permissions", "New").await.is_none(), "it was renamed, and not made a second time");
    assert_eq!(server.sql(&all.database(), "SELECT count(*) FROM intent").trim(), "0");
    let trail = "SELECT outcome, action, name FROM audit WHERE name IN ('L', 'L2', 'New', 'Newer') ORDER BY 1, 2, 3";
    let expected = "ok|create|L\nok|create|New\nok|rename|L2\nok|rename|Newer\nunknown|update|L";
    assert_eq!(server.sql(&all.database(), trail).trim(), expected);
}

/// One that is stopped for longer than its lease lasts wakes up as the holder that it is no more.
#[tokio::test]
async fn a_holder_that_slept_through_its_lease_sends_nothing_more() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, "6s", &["--latency=40ms"]).await;
    all.world.reconfigure(|setup| setup.top.push("concurrency: 2".to_owned()));
    all.start().await;
    all.holder().await;
    let other = all.start().await;
    all.world.write("some.yaml", &permissions(60));
    all.until("at work", async |all| all.world.live().await["permissions"].as_array().is_some_and(|all| all.len() > 5))
        .await;

    all.running[0].process.signal(Signal::STOP);
    all.until("taken over", async |all| all.is_holder(other).await).await;
    all.until("done", async |all| {
        let live = all.world.live().await;
        live["permissions"]
            .as_array()
            .is_some_and(|all| all.iter().filter(|one| one["description"] == "d").count() == 60)
    })
    .await;
    all.running[0].process.signal(Signal::CONT);
    all.converge().await;

    all.assert_nothing_doubled(60).await;
    all.until("it knows", async |all| all.project(0).await.is_some_and(|project| project["lease"]["isMine"] == false))
        .await;
    assert!(all.is_holder(other).await);
}

#[tokio::test]
async fn without_the_database_nothing_is_written_and_it_goes_on_when_it_answers_again() {
    let Some(server) = Postgres::fresh() else { return };
    let mut all = Replicas::new(&server, &[]).await;
    all.world.write("some.yaml", &permissions(5));
    all.start().await;
    all.converge().await;

    server.kill();
    all.until("said", async |all| {
        let health = all.ask(0, "/healthz").await;
        health.is_some_and(|(_, text)| text.contains("the database of state.url does not answer"))
    })
    .await;
    all.until("not held", async |all| !all.is_holder(0).await).await;
    // Nobody is said to hold it, in any place.
    let shown = all.project(0).await.unwrap();
    let holders = shown["checkouts"]["replicas"].as_array().unwrap().iter().filter(|one| one["isHolder"] == true);
    assert!(shown["lease"]["holder"].is_null() && holders.count() == 0, "{shown:#}");
    let (_, health) = all.ask(0, "/healthz").await.unwrap();
    assert!(!health.contains("stands by for another replica"), "{health}");
    let before = all.world.newest_seq().await;
    all.world.write("more.yaml", &permission("more", "d"));
    all.until("loaded", async |all| all.project(0).await.is_some_and(|project| project["desired"]["resources"] == 6))
        .await;
    assert_eq!(all.world.newest_seq().await, before, "nothing was sent");
    assert!(all.ask(0, "/livez").await.is_some_and(|(code, _)| code == 200));
    server.run();

    all.until("created", async |all| all.world.entity("permissions", "more").await.is_some()).await;
    all.converge().await;
    all.assert_nothing_doubled(6).await;
}

/// The one that stood by went on to say that all was well at the other, whose lease had ended by any clock.
#[tokio::test]
async fn without_the_database_no_replica_says_who_holds_a_project_or_that_it_is_in_sync() {
    let Some(server) = Postgres::fresh() else { return };
    let mut all = Replicas::new(&server, &[]).await;
    all.world.environment.push(("HOOK_URL".to_owned(), "http://127.0.0.1:9/".to_owned()));
    all.world.reconfigure(|setup| {
        setup.top.push("notifications: [{ type: webhook, url: { env: HOOK_URL }, on: [held, recovered] }]".to_owned());
    });
    all.world.write("some.yaml", &permissions(3));
    all.start().await;
    all.converge_on(3).await;
    let other = all.start().await;
    all.until("heard", async |all| {
        all.project(other).await.is_some_and(|it| it["lease"]["statusOf"].is_string() && it["converged"] == true)
    })
    .await;

    server.kill();

    for replica in [0, other] {
        all.until("not known", async |all| {
            all.project(replica).await.is_some_and(|it| it["lease"]["unknownSince"].is_string())
        })
        .await;
        let shown = all.project(replica).await.unwrap();
        let holders = shown["checkouts"]["replicas"].as_array().unwrap().iter().filter(|one| one["isHolder"] == true);
        assert!(shown["lease"]["holder"].is_null() && holders.count() == 0, "{shown:#}");
        all.until("one cause", async |all| {
            let Some((_, health)) = all.ask(replica, "/healthz").await else { return false };
            let health: Value = serde_json::from_str(&health).unwrap();
            let components = health["components"].as_array().unwrap().iter();
            let unwell: Vec<&Value> = components.filter(|one| one["status"] == "degraded").collect();
            assert!(!health.to_string().contains("stands by for another replica"), "{health}");
            unwell.len() == 1 && unwell[0]["reason"] == "the database of state.url does not answer"
        })
        .await;
        let (_, metrics) = all.ask(replica, "/metrics").await.unwrap();
        for line in ["lease_held{project=\"default\"} 0\n", "state_writable 0\n"] {
            assert!(metrics.contains(&format!("descope_gitops_{line}")), "{line}: {metrics}");
        }
        let url = all.running[replica].url.clone();
        let output = all.world.run(&["status", "--exit-code", "--url", &url]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("NOT KNOWN: the database of state.url does not answer  ? of 3"), "{said}");
        assert!(said.contains("NOT KNOWN WHICH REPLICA HOLDS IT"), "{said}");
        assert!(!said.contains("nothing is known of it here"), "{said}");
        assert!(!said.contains("written by") && output.status.code() == Some(2), "{:?}: {said}", output.status);
    }
    let of_receiver =
        |line: &str| line.contains("cannot read what a receiver was told") && line.contains("\"times\":1");
    all.running[other].process.wait_for_line("what cannot be read", of_receiver).await;
    if let Some(browser) = browser() {
        for replica in [0, other] {
            let url = all.running[replica].url.clone() + "/";
            let expect = ["Not known: the database of state.url does not answer", "is not known."];
            let more = json!({ "expect": expect, "never": ["In sync", "3 in sync", "Written by", "nothing is known of it here"], "name": format!("silent-{replica}") });
            end(browser.start_at(&url, &all.world, "look", &more), "look").await;
        }
    }
    server.run();

    all.converge().await;
    all.until("known again", async |all| {
        all.project(other)
            .await
            .is_some_and(|it| it["lease"]["holder"].is_string() && it["lease"]["unknownSince"].is_null())
    })
    .await;
}

/// As while an address still leads to a server that was demoted: who connected then holds on to nothing.
#[tokio::test]
async fn a_server_that_became_read_only_is_left_for_the_one_that_writes() {
    let Some(server) = Postgres::fresh() else { return };
    let mut all = Replicas::new(&server, &[]).await;
    all.world.write("some.yaml", &permissions(3));
    all.start().await;
    all.converge().await;
    let url = all.world.environment[0].1.clone();
    let database = url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();

    server.sql("postgres", &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
    let ends = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
    server.sql("postgres", &ends);
    all.until("not held", async |all| !all.is_holder(0).await).await;
    all.world.write("more.yaml", &permission("more", "d"));
    server.sql("postgres", &format!("ALTER DATABASE {database} RESET default_transaction_read_only"));

    all.until("created", async |all| all.world.entity("permissions", "more").await.is_some()).await;
    all.converge().await;
    all.assert_nothing_doubled(4).await;
}

/// By a clock that is two minutes behind, the lease was said to be held two minutes longer than it was.
#[tokio::test]
async fn a_clock_that_is_behind_makes_no_lease_longer() {
    let Some(server) = Postgres::fresh() else { return };
    let Some(library) = library() else { return missing("no libfaketime: no clock is set") };
    let mut all = Replicas::new(&server, &[]).await;
    all.world.write("some.yaml", &permissions(1));
    let behind = Process::start(all.with_clock(&library, "-120s"));
    all.start_as(behind).await;
    all.converge().await;
    let says =
        async |all: &Replicas, line: &str| all.ask(0, "/metrics").await.is_some_and(|(_, text)| text.contains(line));
    assert!(says(&all, "descope_gitops_lease_held{project=\"default\"} 1").await);

    server.kill();

    all.until("said", async |all| says(all, "descope_gitops_lease_held{project=\"default\"} 0").await).await;
    assert!(!all.is_holder(0).await);
}

#[tokio::test]
async fn replicas_that_are_started_at_once_on_an_empty_database_share_it() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, NEVER, &[]).await;
    all.world.write("some.yaml", &permissions(5));

    let started: Vec<Process> = (0..5).map(|_| Process::start(all.world.command(&["run"]))).collect();
    for process in started {
        all.start_as(process).await;
    }

    all.converge_on(5).await;
    for replica in 0..5 {
        all.until("ready", async |all| all.ask(replica, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    }
    all.assert_nothing_doubled(5).await;
}

#[tokio::test]
async fn a_replica_that_is_older_than_the_tables_gives_its_lease_back_and_says_what_to_do() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, NEVER, &[]).await;
    all.world.write("some.yaml", &permissions(5));
    all.start().await;
    all.converge_on(5).await;
    let database = all.database();

    // As a newer release does.
    server.sql(&database, "INSERT INTO schema_version (version) VALUES (1000)");

    let advice = "a newer release migrated the database of state.url; run that one here as well";
    all.until("said", async |all| all.ask(0, "/healthz").await.is_some_and(|(_, text)| text.contains(advice))).await;
    assert!(!all.is_holder(0).await);
    let free = "SELECT bool_and(expires <= extract(epoch FROM clock_timestamp()) * 1000) FROM lease";
    assert_eq!(server.sql(&database, free), "t", "a newer one may begin at once");
    let before = all.world.newest_seq().await;
    all.world.write("more.yaml", &permission("more", "d"));
    all.until("loaded", async |all| all.project(0).await.is_some_and(|project| project["desired"]["resources"] == 6))
        .await;
    assert!(!all.is_holder(0).await);
    assert_eq!(all.world.newest_seq().await, before, "nothing was sent");
    let lines = all.running[0].process.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("a newer release migrated")).count(), 1, "{lines:?}");
    // One more of the older release does not start: one that was ready would have a roll-out replace those that work.
    let output = all.world.run(&["run"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    let advice = "run the release that migrated them, or a newer one; to go back to this one, stop all replicas";
    assert!(!output.status.success() && said.contains(advice), "{said}");
    assert_eq!(all.world.newest_seq().await, before, "nothing was sent");

    server.sql(&database, "DELETE FROM schema_version WHERE version = 1000");
    all.converge_on(6).await;
    all.assert_nothing_doubled(6).await;
}

/// Times in the database are the database's.
#[tokio::test]
async fn clocks_that_differ_by_minutes_change_nothing() {
    let Some(server) = Postgres::start() else { return };
    let Some(library) = library() else { return missing("no libfaketime: no clock is set") };
    let mut all = Replicas::with(server, "10s", &[]).await;
    all.world.write("some.yaml", &permissions(5));
    let ahead = Process::start(all.with_clock(&library, "+120s"));
    all.start_as(ahead).await;
    all.converge().await;
    let behind = Process::start(all.with_clock(&library, "-120s"));
    let behind = all.start_as(behind).await;

    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!all.is_holder(behind).await, "a clock took the lease away");
    }
    let mut gone = all.running.remove(0);
    gone.process.signal(Signal::TERM);
    gone.process.ended().await;
    all.world.write("more.yaml", &permission("more", "d"));
    all.until("created", async |all| all.world.entity("permissions", "more").await.is_some()).await;

    all.assert_nothing_doubled(6).await;
    // What came later has the later time, whoever wrote it.
    all.converge().await;
    let trail = all.world.run_json(&["audit", "-o", "json"], 0).await;
    let times: Vec<&str> = trail["changes"].as_array().unwrap().iter().map(|row| row["at"].as_str().unwrap()).collect();
    assert!(times.len() == 6 && times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn a_checkout_that_stands_still_turns_nothing_back_and_a_rollback_of_all_is_followed() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    let stale = all.world.path("stale");
    std::fs::create_dir(&stale).unwrap();
    std::fs::write(stale.join("p.yaml"), permission("p", "old")).unwrap();
    all.world.write("p.yaml", &permission("p", "old"));
    all.start().await;
    all.converge().await;
    all.world.write("p.yaml", &permission("p", "new"));
    all.until("new", async |all| {
        all.world.entity("permissions", "p").await.is_some_and(|one| one["description"] == "new")
    })
    .await;
    let behind = Process::start(all.world.command(&["--source", stale.to_str().unwrap(), "run"]));
    let behind = all.start_as(behind).await;
    all.until("ready", async |all| all.ask(behind, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    let before = all.world.writes().await.len();

    all.kill(0).await;
    all.until("said", async |all| {
        all.project(0).await.is_some_and(|project| project["notConvergedBecause"] == "stale_revision")
    })
    .await;

    assert_eq!(all.world.writes().await.len(), before, "{}", all.tails());
    // With the others goes the one that did see the files move: that is somebody's intent.
    let fresh = all.start().await;
    all.until("taken over", async |all| all.is_holder(fresh).await).await;
    all.world.write("p.yaml", &permission("p", "old"));
    all.until("rolled back", async |all| {
        all.world.entity("permissions", "p").await.is_some_and(|one| one["description"] == "old")
    })
    .await;
}
