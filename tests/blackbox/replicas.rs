//! More than one replica on one database: one writes, the others stand by and take over. Nothing is doubled and nothing lost.

use crate::harness::KEY;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::creates;
use crate::harness::permission;
use crate::postgres::Postgres;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

const LONGEST: Duration = Duration::from_secs(60);

/// The same config, repo and database for all of them.
struct Replicas {
    world: World,
    running: Vec<Replica>,
    http: reqwest::Client,
}

struct Replica {
    process: Process,
    url: String,
}

impl Replicas {
    async fn new(server: &Postgres, simulator: &[&str]) -> Self {
        Self::at(&server.database(), simulator).await
    }

    async fn at(url: &str, simulator: &[&str]) -> Self {
        let simulator = ["--rate-limit=none"].iter().chain(simulator).map(|flag| (*flag).to_owned()).collect();
        let state = "state: { url: { env: BLACKBOX_DATABASE }, fingerprintKey: { env: BLACKBOX_FINGERPRINTS }, \
                     lease: { life: 2s, renew: 500ms } }";
        let top = vec![state.to_owned(), "requestTimeout: 2s".to_owned()];
        let mut world = World::with(Setup { simulator, top, ..Setup::default() }).await;
        world.environment = vec![
            ("BLACKBOX_DATABASE".to_owned(), url.to_owned()),
            ("BLACKBOX_FINGERPRINTS".to_owned(), "0123456789abcdef".repeat(4)),
        ];
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { world, running: Vec::new(), http }
    }

    async fn start(&mut self) -> usize {
        self.start_as(Process::start(self.world.command(&["run"]))).await
    }

    async fn start_as(&mut self, process: Process) -> usize {
        let line = process.wait_for_line("the address", |line| line.contains("\"listening\"")).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        let url = format!("http://{}", line["address"].as_str().unwrap());
        self.running.push(Replica { process, url });
        self.running.len() - 1
    }

    async fn ask(&self, replica: usize, path: &str) -> Option<(u16, String)> {
        let request = self.http.request(Method::GET, format!("{}{path}", self.running[replica].url)).bearer_auth(TOKEN);
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn project(&self, replica: usize) -> Option<Value> {
        let (_, text) = self.ask(replica, "/api/v1/status").await?;
        let status: Value = serde_json::from_str(&text).ok()?;
        Some(status["projects"][0].clone())
    }

    async fn is_holder(&self, replica: usize) -> bool {
        self.project(replica).await.is_some_and(|project| project["lease"]["isMine"] == true)
    }

    /// The one that writes, once there is one.
    async fn holder(&self) -> usize {
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

    async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self).await {
            assert!(started.elapsed() < LONGEST, "not {what}: {}", self.tails());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn converge(&self) {
        self.until("converged", async |all| {
            for replica in 0..all.running.len() {
                let Some(project) = all.project(replica).await else { continue };
                if project["lease"]["isMine"] == true && project["converged"] == true {
                    return true;
                }
            }
            false
        })
        .await;
    }

    async fn kill(&mut self, replica: usize) {
        let mut dead = self.running.remove(replica);
        dead.process.signal(Signal::KILL);
        dead.process.ended().await;
    }

    fn tails(&self) -> String {
        self.running.iter().map(|replica| replica.process.tail(30) + "\n---\n").collect()
    }

    /// What the simulator got for each resource that was created: how often, and with success.
    async fn assert_nothing_doubled(&self, created: usize) {
        let creates = creates(&self.world.log().await);
        let done: BTreeMap<_, _> = creates.iter().map(|(key, (done, _))| (key, done)).collect();
        assert_eq!(done.len(), created, "{creates:?}");
        assert!(done.values().all(|done| **done == 1), "{creates:?}");
    }
}

fn permissions(count: usize) -> String {
    let lines: String = (0..count).map(|n| format!("  - {{ name: p{n}, description: d }}\n")).collect();
    format!("permissions:\n{lines}")
}

#[tokio::test]
async fn one_writes_and_the_other_is_ready_and_stands_by() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
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
    all.assert_nothing_doubled(6).await;
    assert!(!all.tails().contains(KEY), "a secret in the log");
}

#[tokio::test]
async fn a_stop_hands_over_within_seconds() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    all.world.write("some.yaml", &permissions(5));
    all.start().await;
    all.converge().await;
    all.start().await;

    let mut stopped = all.running.remove(0);
    stopped.process.signal(Signal::TERM);
    assert!(stopped.process.ended().await.success());
    let since = Instant::now();
    all.holder().await;

    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
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
    all.world.reconfigure(|setup| setup.top.push("concurrency: 2".to_owned()));
    all.start().await;
    all.start().await;
    all.world.write("some.yaml", &permissions(60));
    for _ in 0..times {
        let holder = all.holder().await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..600))).await;
        all.kill(holder).await;
        all.start().await;
    }
    all.converge().await;

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
}

#[tokio::test]
async fn kills_at_any_instant_lose_and_double_nothing_1() {
    kills(1, 4).await;
}
