//! Replicas behind one address spend one rate limit together.

use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::postgres::Postgres;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;
use tokio::time::Instant;

/// Of the limit.
const N: u32 = 40;
const WINDOW: Duration = Duration::from_secs(4);

const LONGEST: Duration = Duration::from_secs(120);

const PROJECTS: usize = 10;

/// The same config over the same repo and database, so many times.
struct Replicas {
    world: World,
    running: Vec<(Process, String)>,
    http: reqwest::Client,
}

fn id(n: usize) -> String {
    format!("P2blackboxprojectnumberxxx{n}")
}

impl Replicas {
    async fn start(server: &Postgres, count: usize) -> Self {
        let window = WINDOW.as_secs();
        let simulator =
            [format!("--rate-limit={N}/{window}s"), format!("--lockout={window}s"), "--latency=20ms".to_owned()];
        let mut world = World::with(Setup { simulator: simulator.to_vec(), ..Setup::default() }).await;
        let mut projects = "projects:".to_owned();
        for n in 0..PROJECTS {
            let (id, api) = (id(n), &world.api);
            write!(
                projects,
                "\n  - {{ name: p{n}, projectId: {id}, managementKey: {{ env: BLACKBOX_KEY }}, baseUrl: '{api}', \
                 path: p{n}, firstContact: apply }}"
            )
            .unwrap();
        }
        let state = "state: { url: { env: BLACKBOX_DATABASE }, fingerprintKey: { env: BLACKBOX_FINGERPRINTS }, \
                     lease: { life: 6s, renew: 1s } }";
        let limit = format!("rateLimit: {{ limit: {N}/{window}s, lockout: {window}s, reserve: 0%, egress: office }}");
        world.reconfigure(|setup| setup.top = vec![projects, state.to_owned(), limit]);
        world.environment = vec![
            ("BLACKBOX_DATABASE".to_owned(), server.database()),
            ("BLACKBOX_FINGERPRINTS".to_owned(), "0123456789abcdef".repeat(4)),
        ];
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        let mut all = Self { world, running: Vec::new(), http };
        for n in 0..PROJECTS {
            all.declare(n, 0);
        }
        for _ in 0..count {
            let process = Process::start(all.world.command(&["run"]));
            let line = process.wait_for_line("the address", |line| line.contains("\"listening\"")).await;
            let line: Value = serde_json::from_str(&line).unwrap();
            let url = format!("http://{}", line["address"].as_str().unwrap());
            all.running.push((process, url));
        }
        all
    }

    fn declare(&self, project: usize, tenants: usize) {
        let mut text = "permissions: [{ name: p }]\ntenants:\n".to_owned();
        for tenant in 0..tenants {
            writeln!(text, "  - {{ id: t{tenant}, name: Tenant {tenant} }}").unwrap();
        }
        let text = if tenants == 0 { "permissions: [{ name: p }]\n" } else { &text };
        self.world.write(&format!("p{project}/all.yaml"), text);
    }

    async fn status(&self, replica: usize) -> Option<Value> {
        let request = self.http.get(format!("{}/api/v1/status", self.running[replica].1)).bearer_auth(TOKEN);
        serde_json::from_str(&request.send().await.ok()?.text().await.ok()?).ok()
    }

    /// Projects that a replica holds.
    async fn held(&self, replica: usize) -> Vec<String> {
        let Some(status) = self.status(replica).await else { return Vec::new() };
        let projects = status["projects"].as_array().unwrap().iter();
        let held = projects.filter(|project| project["lease"]["isMine"] == true);
        held.map(|project| project["name"].as_str().unwrap().to_owned()).collect()
    }

    async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self).await {
            assert!(started.elapsed() < LONGEST, "not {what}: {}", self.tails());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every project is held, and not all by one.
    async fn spread(&self) {
        self.until("spread", async |all| {
            let mut held = Vec::new();
            for replica in 0..all.running.len() {
                held.push(all.held(replica).await.len());
            }
            held.iter().sum::<usize>() == PROJECTS && held.iter().all(|held| *held < PROJECTS)
        })
        .await;
    }

    async fn tenants(&self, project: usize) -> usize {
        let live = self.world.sim(Method::GET, &format!("state?project={}", id(project)), None).await;
        live["tenants"].as_array().map_or(0, Vec::len)
    }

    fn tails(&self) -> String {
        self.running.iter().map(|(process, _)| process.tail(30) + "\n---\n").collect()
    }

    /// What counts for the limit, from `from` on.
    async fn calls(&self, from: usize) -> Vec<Value> {
        let log = self.world.log().await;
        let is_exempt = |entry: &Value| entry["path"].as_str().is_some_and(|path| path.contains("license"));
        log.into_iter().skip(from).filter(|entry| !is_exempt(entry)).collect()
    }
}

fn time(entry: &Value) -> u64 {
    entry["time"].as_u64().unwrap()
}

/// How long one that knows the limit takes for so many calls.
fn ideal(calls: usize) -> Duration {
    WINDOW * (u32::try_from(calls).unwrap().div_ceil(N) - 1)
}

/// All calls, and how many were refused.
fn refused(calls: &[Value]) -> usize {
    calls.iter().filter(|call| call["status"] == 429).count()
}

#[tokio::test]
async fn three_replicas_with_ten_projects_share_the_limit_and_trip_it_once_at_most() {
    let Some(server) = Postgres::start() else { return };
    let all = Replicas::start(server, 3).await;
    all.spread().await;
    // What they looked at so far is forgotten by the simulator.
    tokio::time::sleep(WINDOW + Duration::from_secs(1)).await;
    let before = all.world.log().await.len();

    let counts: Vec<usize> = (0..PROJECTS).map(|n| if n == 0 { 50 } else { 4 }).collect();
    for (project, &count) in counts.iter().enumerate() {
        all.declare(project, count);
    }
    all.until("all created", async |all| {
        for (project, &count) in counts.iter().enumerate() {
            if all.tenants(project).await < count {
                return false;
            }
        }
        true
    })
    .await;

    let calls = all.calls(before).await;
    let done = calls.iter().rposition(|call| call["effect"] == true).unwrap();
    let took = Duration::from_millis(time(&calls[done]) - time(&calls[0]));
    assert!(refused(&calls) <= 1, "{} of {} refused", refused(&calls), calls.len());
    for (project, &count) in counts.iter().enumerate() {
        assert_eq!(all.tenants(project).await, count);
    }
    // 0.96 on an idle machine; a fixed third of the limit for each would be 0.5. On a busy one it says nothing.
    let share = ideal(done + 1).as_secs_f64() / took.as_secs_f64();
    eprintln!("{} calls in {took:?}, {share:.2} of the ideal speed", done + 1);
}

#[tokio::test]
async fn a_replica_that_is_killed_in_a_window_trips_nothing_and_its_slots_come_back() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::start(server, 2).await;
    all.spread().await;
    for project in 0..PROJECTS {
        all.declare(project, 6);
    }
    let sum = async |all: &Replicas| {
        let mut sum = 0;
        for project in 0..PROJECTS {
            sum += all.tenants(project).await;
        }
        sum
    };
    all.until("half of it", async |all| sum(all).await >= PROJECTS * 3).await;

    let (mut killed, _) = all.running.remove(0);
    killed.signal(Signal::KILL);
    killed.ended().await;

    all.until("all created", async |all| sum(all).await == PROJECTS * 6).await;
    let calls = all.calls(0).await;
    assert_eq!(refused(&calls), 0, "of {}", calls.len());
    let status = all.status(0).await.unwrap();
    assert_eq!(status["limiters"][0]["throttledTotal"], 0, "{status}");
    // Until the dead one's slots are back, and then not a slot less than before.
    all.until("unused again", async |all| {
        all.status(0).await.is_some_and(|status| status["limiters"][0]["used"].as_u64() < Some(8))
    })
    .await;
}
