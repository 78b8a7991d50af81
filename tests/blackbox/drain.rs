//! Power cuts and a hostile network in the middle of a drain: the end is exactly the desired state, and the audit
//! trail says what really happened.

use crate::harness::PROJECT;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Worlds at a time: they mostly wait.
const AT_ONCE: u64 = 4;

/// Two states of a repo, some 60 changes and every call apart, there and back again. What is deleted and created together
/// in a kind that has a rename is held, so each drain does one of both.
fn sides(seed: u64) -> [Counts; 2] {
    let tenants = [0..14, 4..26];
    let (permissions, roles) =
        if seed.is_multiple_of(2) { ([0..16, 0..34], [0..26, 7..26]) } else { ([0..26, 6..26], [0..8, 0..28]) };
    let [(before, old), (after, new)] = [(0, "old"), (1, "new")];
    let counts = |n: usize, text| Counts {
        permissions: permissions[n].clone(),
        roles: roles[n].clone(),
        tenants: tenants[n].clone(),
        text,
    };
    [counts(before, old), counts(after, new)]
}

struct Counts {
    permissions: Range<usize>,
    roles: Range<usize>,
    tenants: Range<usize>,
    text: &'static str,
}

fn setup(seed: u64) -> Setup {
    Setup {
        simulator: ["--rate-limit=none", "--latency=8ms", &format!("--seed={seed}")].map(str::to_owned).to_vec(),
        project: vec![
            "firstContact: apply".to_owned(),
            "policy: sync".to_owned(),
            "guards: { maxDeletes: 1000, maxDeletePercent: off, deleteAfter: 0s }".to_owned(),
        ],
        top: vec![
            "retry: { maxAttempts: 2, initialBackoff: 10ms, maxBackoff: 50ms }".to_owned(),
            "requestTimeout: 1s".to_owned(),
            "concurrency: 3".to_owned(),
        ],
        ..Setup::default()
    }
}

fn declare(world: &World, counts: &Counts) {
    let Counts { permissions, roles, tenants, text } = counts;
    let list = |kind: &str, range: &Range<usize>, item: &dyn Fn(usize) -> String| {
        world.write(&format!("{kind}.yaml"), &(format!("{kind}:\n") + &range.clone().map(item).collect::<String>()));
    };
    // Every third changes with the text.
    let text = |n: usize| if n.is_multiple_of(3) { text } else { "same" };
    list("permissions", permissions, &|n| format!("  - {{ name: p{n}, description: {} }}\n", text(n)));
    list("roles", roles, &|n| {
        format!("  - {{ name: r{n}, description: {}, permissionNames: [p{}] }}\n", text(n), 6 + n % 10)
    });
    list("tenants", tenants, &|n| {
        let default = if n.is_multiple_of(4) { ", defaultRoles: [r7]" } else { "" };
        format!("  - {{ id: t{n}, name: \"{} {n}\"{default} }}\n", text(n))
    });
}

/// What the files say, in the words of the simulator.
fn wanted(counts: &Counts) -> BTreeSet<String> {
    let text = |n: usize| if n.is_multiple_of(3) { counts.text } else { "same" };
    let permissions = counts.permissions.clone().map(|n| format!("permission p{n} {}", text(n)));
    let roles = counts.roles.clone().map(|n| format!("role r{n} {} [\"p{}\"]", text(n), 6 + n % 10));
    let tenants = counts
        .tenants
        .clone()
        .map(|n| format!("tenant t{n} {} {n} {}", text(n), if n.is_multiple_of(4) { "[\"r7\"]" } else { "[]" }));
    permissions.chain(roles).chain(tenants).collect()
}

/// What is there of it.
async fn found(world: &World) -> Vec<String> {
    let live = world.live().await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| if value.is_null() { "[]".to_owned() } else { value.to_string() };
    let all = |kind: &str| live[kind].as_array().unwrap().clone();
    let is_ours = |entity: &Value| entity["systemDefault"] != true && entity["name"] != "Tenant Admin";
    let permissions = all("permissions").into_iter().filter(is_ours);
    let permissions = permissions.map(|p| format!("permission {} {}", text(&p["name"]), text(&p["description"])));
    let roles = all("roles").into_iter().filter(is_ours);
    let roles =
        roles.map(|r| format!("role {} {} {}", text(&r["name"]), text(&r["description"]), list(&r["permissionNames"])));
    let tenants = all("tenants").into_iter();
    let tenants =
        tenants.map(|t| format!("tenant {} {} {}", text(&t["id"]), text(&t["name"]), list(&t["defaultRoles"])));
    permissions.chain(roles).chain(tenants).collect()
}

/// `kind/id action`, how often.
type Tally = BTreeMap<String, usize>;

/// What took effect, by the simulator's log.
fn effects(log: &[Value]) -> Tally {
    let mut tally = Tally::new();
    for entry in log.iter().filter(|entry| entry["effect"] == true) {
        let path: Vec<&str> = entry["path"].as_str().unwrap().trim_start_matches("/v1/mgmt/").split('/').collect();
        let (kind, action) = (path[0], path[1]);
        let action = match action {
            "create" | "delete" => action,
            _ => "update",
        };
        let body = &entry["body"];
        let list = ["permissions", "roles", "names", "roleNames"].iter().find_map(|name| body[*name].as_array());
        for item in list.cloned().unwrap_or_else(|| vec![body.clone()]) {
            let id = if kind == "tenant" { &item["id"] } else { &item["name"] };
            let id = item.as_str().or(id.as_str()).unwrap_or_else(|| panic!("{entry}"));
            *tally.entry(format!("{kind}s/{id} {action}")).or_default() += 1;
        }
    }
    tally
}

/// The rows of the audit trail from the nth on, as `kind/id action outcome`.
async fn trail(world: &World, from: usize) -> Vec<String> {
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        format!("{}/{} {} {}", text("kind"), text("id"), text("action"), text("outcome"))
    };
    world.told(&[]).await.iter().skip(from).map(row).collect()
}

/// Everything that a drain has to do.
fn planned(before: &Counts, after: &Counts) -> BTreeSet<String> {
    let changes = |kind: &str, letter: &str, old: &Range<usize>, new: &Range<usize>| {
        let name = |n: usize, action: &str| format!("{kind}/{letter}{n} {action}");
        let gone = old.clone().filter(|n| !new.contains(n)).map(|n| name(n, "delete"));
        let made = new.clone().filter(|n| !old.contains(n)).map(|n| name(n, "create"));
        let kept = new.clone().filter(|n| old.contains(n) && n.is_multiple_of(3)).map(|n| name(n, "update"));
        gone.chain(made).chain(kept).collect::<BTreeSet<_>>()
    };
    let mut planned = changes("permissions", "p", &before.permissions, &after.permissions);
    planned.append(&mut changes("roles", "r", &before.roles, &after.roles));
    planned.append(&mut changes("tenants", "t", &before.tenants, &after.tenants));
    // Default roles take a call of their own.
    let with_defaults = after.tenants.clone().filter(|n| !before.tenants.contains(n) && n.is_multiple_of(4));
    planned.extend(with_defaults.map(|n| format!("tenants/t{n} update")));
    planned
}

/// The end of every drain: the desired state, each change made and told once, and none beside the plan. How many rows the
/// trail has by now.
async fn check(world: &World, seed: u64, [before, after]: [&Counts; 2], tries: usize, told: usize) -> usize {
    world.until("converged", async |world| world.is_converged().await).await;
    world.pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    let found = found(world).await;
    assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), wanted(after), "seed {seed}");
    assert_eq!(found.len(), wanted(after).len(), "seed {seed}: nothing twice");
    let (effects, trail) = (effects(&world.log().await), trail(world, told).await);
    let planned = planned(before, after);
    assert_eq!(effects.keys().cloned().collect::<BTreeSet<_>>(), planned, "seed {seed}: nothing lost, nothing else");
    for (change, times) in &effects {
        let rows = trail.iter().filter(|row| row.rsplit_once(' ').unwrap().0 == change).count();
        let done = trail.iter().filter(|row| **row == format!("{change} ok")).count();
        // An update may be sent twice, which does nothing more; a row may stand for both tries of one call, and where a look
        // told of the first before the second was sent, both worked.
        let is_update = change.ends_with("update");
        let is_once = *times == 1 || is_update && *times <= rows * tries;
        let is_told = done == 1 || is_update && (1..=*times).contains(&done);
        assert!(is_once && is_told, "seed {seed}: {change} took effect {times} times: {trail:#?}");
    }
    for row in &trail {
        let (change, outcome) = row.rsplit_once(' ').unwrap();
        assert!(planned.contains(change), "seed {seed}: the trail has {row}, which nobody planned");
        assert!(["ok", "failed", "unknown"].contains(&outcome), "seed {seed}: {row}");
    }
    told + trail.len()
}

/// A world that equals its repo, and how many rows its trail has.
async fn prepared(seed: u64, counts: &Counts) -> (World, usize) {
    let mut world = World::with(setup(seed)).await;
    let told = prepare(&mut world, counts).await;
    (world, told)
}

async fn prepare(world: &mut World, counts: &Counts) -> usize {
    declare(world, counts);
    world.converge().await;
    world.assert_nothing_left().await;
    forget(world).await;
    trail(world, 0).await.len()
}

/// What the simulator tells from now on is of the next drain.
async fn forget(world: &World) {
    world.sim(Method::DELETE, "log", None).await;
    world.sim(Method::DELETE, "stats", None).await;
}

/// Deterministic draws.
fn draws(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}

/// A drain for each kill: the worlds are used there and back again, so that 100 drains need 20 worlds.
const DRAINS: u64 = 5;

/// How much had been done when the daemon was killed for the first time, of how much.
type Progress = (usize, usize);

async fn killed(seed: u64, progress: &Mutex<Vec<Progress>>) {
    let sides = sides(seed);
    let (mut world, mut told) = prepared(seed, &sides[0]).await;
    let mut draw = draws(seed + 1);
    for n in 0..DRAINS {
        let (before, after) = if n.is_multiple_of(2) { (&sides[0], &sides[1]) } else { (&sides[1], &sides[0]) };
        // Half of the drains begin while it runs, half of them when it starts; and some of those end before it writes.
        let is_running = draw().is_multiple_of(2);
        if !is_running {
            world.stop().await;
        }
        declare(&world, after);
        if is_running {
            kill_after(&mut world, 1 + draw() % CALLS, draw()).await;
        } else {
            world.daemon = Some(Process::start(world.command(&["run"])));
            let calls = if draw().is_multiple_of(4) { 0 } else { 1 + draw() % CALLS };
            kill_after(&mut world, calls, draw()).await;
        }
        let so_far = effects(&world.log().await).values().sum();
        progress.lock().unwrap().push((so_far, planned(before, after).len()));
        if draw().is_multiple_of(4) {
            world.daemon = Some(Process::start(world.command(&["run"])));
            kill_after(&mut world, 1 + draw() % 4, draw()).await;
        }
        world.start().await;
        told = check(&world, seed, [before, after], 1, told).await;
        forget(&world).await;
    }
}

/// No drain takes fewer.
const CALLS: u64 = 22;

/// At some instant after its next so many writes, or when it has nothing left to do; after none, of its start.
async fn kill_after(world: &mut World, calls: u64, draw: u64) {
    let writes = async |world: &World| world.stats().await["writes"].as_u64().unwrap();
    let enough = writes(world).await + calls;
    let said = world.daemon().lines().len();
    let start = Instant::now();
    while writes(world).await < enough {
        if world.daemon().lines()[said..].iter().any(|line| line.contains("the project equals the config repo")) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it writes nothing: {}", world.daemon().tail(20));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_micros(draw % if calls == 0 { 60_000 } else { 12_000 })).await;
    world.kill().await;
}

/// Each seed on a runtime of its own, so many at a time.
fn in_parallel(seeds: std::ops::Range<u64>, run: impl AsyncFn(u64) + Sync) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    runtime.block_on(run(seed));
                }
            });
        }
    });
}

#[test]
fn a_hundred_power_cuts_lose_nothing_and_double_nothing() {
    let progress = Mutex::new(Vec::new());
    in_parallel(0..20, async |seed| killed(seed, &progress).await);
    let progress = progress.into_inner().unwrap();
    assert_eq!(progress.len(), 100);
    assert!(progress.iter().all(|(_, planned)| (50..=70).contains(planned)), "{progress:?}");
    let interrupted = progress.iter().filter(|(done, planned)| *done > 0 && done < planned).count();
    let early = progress.iter().filter(|(done, _)| *done == 0).count();
    assert!(interrupted >= 70, "only {interrupted} drains were cut off in the middle: {progress:?}");
    assert!(early >= 5, "only {early} drains were cut off before their first change: {progress:?}");
}

async fn through_faults(seed: u64) {
    let [before, after] = sides(seed);
    let (mut world, told) = prepared(seed, &before).await;
    world.stop().await;
    declare(&world, &after);
    let faults = [
        json!({ "match": {}, "fault": "reset_before" }),
        json!({ "match": {}, "fault": "reset_after" }),
        json!({ "match": {}, "fault": "hang" }),
        json!({ "match": {}, "fault": "status", "status": 503 }),
        json!({ "match": {}, "fault": "status", "status": 502, "effect": true }),
        json!({ "match": {}, "fault": "malformed_json" }),
        json!({ "match": {}, "fault": "empty200", "effect": true }),
    ];
    // One kind at a fifth of all requests, or all of them together at that.
    let which = usize::try_from(seed).unwrap() % (faults.len() + 1);
    let chosen = faults.get(which).map_or(&faults[..], std::slice::from_ref);
    let rate = 0.2 / f64::from(u32::try_from(chosen.len()).unwrap());
    let rules = chosen.iter().cloned().map(|mut rule| {
        rule["rate"] = json!(rate);
        rule
    });
    world.faults(rules.collect()).await;
    world.start().await;
    world.until("almost there", async |world| world.is_converged().await).await;
    world.faults(json!([])).await;
    check(&world, seed, [&before, &after], 2, told).await;
}

#[test]
fn twenty_drains_through_a_network_that_fails_every_fifth_request() {
    in_parallel(100..120, through_faults);
}

/// A way to the simulator that can be cut: who tries meanwhile is refused.
struct Way {
    address: SocketAddr,
    to: SocketAddr,
    is_open: Option<JoinSet<()>>,
    /// Nobody else gets the address while it is cut.
    _reserved: TcpSocket,
}

impl Way {
    fn to(api: &str) -> Self {
        let reserved = Self::socket("127.0.0.1:0".parse().unwrap());
        let to = api.trim_start_matches("http://").parse().unwrap();
        let mut way = Self { address: reserved.local_addr().unwrap(), to, is_open: None, _reserved: reserved };
        way.open();
        way
    }

    fn socket(address: SocketAddr) -> TcpSocket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        socket
    }

    fn open(&mut self) {
        let (listener, to) = (Self::socket(self.address).listen(64).unwrap(), self.to);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                connections.spawn(async move {
                    let Ok(mut to) = TcpStream::connect(to).await else { return };
                    // Either end may close at any time.
                    tokio::io::copy_bidirectional(&mut from, &mut to).await.ok();
                });
            }
        });
        self.is_open = Some(tasks);
    }

    async fn cut(&mut self) {
        self.is_open.take().unwrap().shutdown().await;
    }
}

async fn through_an_outage(seed: u64, progress: &Mutex<Vec<Progress>>) {
    let [before, after] = sides(seed);
    let mut world = World::with(setup(seed)).await;
    let mut way = Way::to(&world.api);
    world.reconfigure(|setup| {
        let Setup { project, top, .. } = setup;
        top.push(format!(
            "projects:\n  - name: default\n    projectId: {PROJECT}\n    managementKey: {{ env: BLACKBOX_KEY }}\n    \
             baseUrl: http://{}\n    {}",
            way.address,
            project.join("\n    ")
        ));
    });
    let told = prepare(&mut world, &before).await;
    declare(&world, &after);
    let calls = 1 + draws(seed)() % CALLS;
    world.until("in the middle", async |world| world.stats().await["writes"].as_u64().unwrap() >= calls).await;
    way.cut().await;
    let so_far = effects(&world.log().await).values().sum();
    progress.lock().unwrap().push((so_far, planned(&before, &after).len()));
    let seq = world.newest_seq().await;
    let retrying = async |world: &World| {
        let problems = world.project().await["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().any(|problem| problem["attempts"].as_u64() >= Some(5))
    };
    world.until("tried for long", retrying).await;
    world.fresh_pass().await;
    assert_eq!(world.project().await["lastPass"]["result"], "failed");
    assert!(!world.is_converged().await);
    // What was on its way may have arrived.
    assert!(world.requests_since(seq).await.len() <= 3);
    way.open();
    check(&world, seed, [&before, &after], 2, told).await;
    let failed = trail(&world, told).await.iter().filter(|row| row.ends_with(" failed")).count();
    let most = 3 * before.permissions.len().max(after.roles.len());
    assert!(failed <= most, "seed {seed}: {failed} rows for what could not be sent");
}

#[test]
fn eight_drains_through_an_outage() {
    let progress = Mutex::new(Vec::new());
    in_parallel(200..208, async |seed| through_an_outage(seed, &progress).await);
    let progress = progress.into_inner().unwrap();
    let interrupted = progress.iter().filter(|(done, planned)| *done > 0 && done < planned).count();
    assert!(interrupted >= 6, "only {interrupted} drains were cut off in the middle: {progress:?}");
}
