//! Power cuts and a hostile network in the middle of a drain: the end is exactly the desired state, and the audit
//! trail says what really happened.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// Worlds at a time: they mostly wait.
const AT_ONCE: u64 = 4;

/// Before and after one drain of some 60 changes, with every call. What is deleted and created together in a kind that
/// has a rename is held, so each drain does one of both.
fn drain(seed: u64) -> (Counts, Counts) {
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
    (counts(before, old), counts(after, new))
}

struct Counts {
    permissions: std::ops::Range<usize>,
    roles: std::ops::Range<usize>,
    tenants: std::ops::Range<usize>,
    text: &'static str,
}

fn setup(seed: u64) -> Setup {
    Setup {
        simulator: ["--rate-limit=none", "--latency=8ms", &format!("--seed={seed}")].map(str::to_owned).to_vec(),
        project: vec![
            "firstContact: apply".to_owned(),
            "policy: sync".to_owned(),
            "guards: { maxDeletes: 1000, maxDeletePercent: 100, deleteAfter: 0s }".to_owned(),
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
    let list = |kind: &str, range: &std::ops::Range<usize>, item: &dyn Fn(usize) -> String| {
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

/// What the audit trail calls done.
async fn audited(world: &World) -> Tally {
    let trail = world.run_json(&["audit", "-o", "json"], 0).await;
    let mut tally = Tally::new();
    for row in trail["changes"].as_array().unwrap().iter().filter(|row| row["outcome"] == "ok") {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        *tally.entry(format!("{}/{} {}", text("kind"), text("id"), text("action"))).or_default() += 1;
    }
    tally
}

/// The end of every run: the desired state, nothing twice, and a trail that matches.
async fn check(world: &World, seed: u64) {
    world.until("converged", async |world| world.is_converged().await).await;
    world.pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    let (before, after) = drain(seed);
    let found = found(world).await;
    assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), wanted(&after), "seed {seed}");
    assert_eq!(found.len(), wanted(&after).len(), "seed {seed}: nothing twice");
    let (effects, audited) = (effects(&world.log().await), audited(world).await);
    for (change, times) in &effects {
        let rows = audited.get(change).copied().unwrap_or_default();
        // An update may be sent twice; what it does the second time is nothing.
        let matches = if change.ends_with("update") { rows > 0 } else { rows == *times && *times == 1 };
        assert!(matches, "seed {seed}: {change} took effect {times} times, the trail has {rows}");
    }
    for change in audited.keys() {
        assert!(effects.contains_key(change), "seed {seed}: the trail has {change}, which never took effect");
    }
    let left = |kind: &str, before: &std::ops::Range<usize>, after: &std::ops::Range<usize>, letter: &str| {
        let gone = before.clone().filter(|n| !after.contains(n));
        gone.map(|n| format!("{kind}/{letter}{n} delete")).collect::<BTreeSet<_>>()
    };
    let mut planned = left("permissions", &before.permissions, &after.permissions, "p");
    planned.extend(left("roles", &before.roles, &after.roles, "r"));
    planned.extend(left("tenants", &before.tenants, &after.tenants, "t"));
    let deleted: BTreeSet<String> = effects.keys().filter(|change| change.ends_with("delete")).cloned().collect();
    assert_eq!(deleted, planned, "seed {seed}: no delete beyond the plan");
}

/// A world before its drain, the daemon stopped, the files changed already.
async fn prepared(seed: u64) -> World {
    let mut world = World::with(setup(seed)).await;
    let (before, after) = drain(seed);
    declare(&world, &before);
    world.converge().await;
    world.pass().await;
    world.stop().await;
    declare(&world, &after);
    world
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

/// The same drain again for each kill: the worlds are reused, so that 100 kills need 20 worlds.
const KILLS: u64 = 5;

async fn killed(seed: u64) {
    let mut world = prepared(seed).await;
    let mut draw = draws(seed);
    for _ in 0..KILLS {
        let writes = world.writes().await.len();
        world.daemon = Some(crate::harness::Process::start(world.command(&["run"])));
        // Half of them at any instant of the start, half of them once it writes.
        if draw().is_multiple_of(2) {
            world.until("writing", async |world| world.writes().await.len() > writes || said_converged(world)).await;
        } else {
            let _ = world.daemon_url().await;
        }
        tokio::time::sleep(Duration::from_micros(draw() % 60_000)).await;
        world.kill().await;
    }
    world.start().await;
    check(&world, seed).await;
}

fn said_converged(world: &World) -> bool {
    world.daemon().said("the project equals the config repo")
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
    in_parallel(0..20, killed);
}

async fn through_faults(seed: u64) {
    let mut world = prepared(seed).await;
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
    check(&world, seed).await;
}

#[test]
fn twenty_drains_through_a_network_that_fails_every_fifth_request() {
    in_parallel(100..120, through_faults);
}
