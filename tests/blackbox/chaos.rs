//! Replicas work through one change of the files after the other, and each time something happens to them, to the database
//! or to what is between: nothing is doubled, nothing is lost, and nobody writes into the term of another.

use crate::clock::library;
use crate::harness::Process;
use crate::harness::missing;
use crate::link::Link;
use crate::link::Weather;
use crate::postgres::Postgres;
use crate::replicas::Replicas;
use crate::terms;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Of each generation so many are created, and as many of the one before are renamed.
const EACH: usize = 26;

/// Of the one before that, so many are deleted. The others stay for good.
const DELETED: usize = 8;

/// By id and action, how often.
type Counts = BTreeMap<(String, String), usize>;

struct Storm {
    all: Replicas,
    /// To the database, of the replica that was started as that.
    links: Vec<Link>,
    database: String,
    generation: usize,
    random: fastrand::Rng,
}

impl Storm {
    async fn begin(server: &Postgres, seed: u64) -> Self {
        Self::with_life(server, seed, "2s").await
    }

    /// Two replicas that have converged on the first generations.
    async fn with_life(server: &Postgres, seed: u64, life: &str) -> Self {
        let mut all = Replicas::with(server, life, &["--latency=30ms"]).await;
        all.world.reconfigure(|setup| {
            setup.top.retain(|line| !line.starts_with("requestTimeout"));
            // Of an update, too, one call is one request.
            let retry = "retry: { maxAttempts: 1, initialBackoff: 20ms, maxBackoff: 200ms }";
            setup.top.extend(["requestTimeout: 1s", "concurrency: 3", retry].map(str::to_owned));
            let guards = "guards: { maxDeletes: 1000, maxDeletePercent: off, deleteAfter: 0s }";
            setup.project.extend(["policy: sync", guards].map(str::to_owned));
        });
        let database = all.database();
        let random = fastrand::Rng::with_seed(seed);
        let mut storm = Self { all, links: Vec::new(), database, generation: 1, random };
        storm.declare();
        storm.start(server).await;
        terms::note(server, &storm.database);
        storm.start(server).await;
        storm.settled(server).await;
        storm
    }

    /// One more, over a link of its own.
    async fn start(&mut self, server: &Postgres) {
        let link = Link::to(server.port());
        let url = format!("postgres://postgres@127.0.0.1:{}/{}", link.port(), self.database);
        let mut command = self.all.world.command(&["run"]);
        command.env("BLACKBOX_DATABASE", url);
        self.all.start_as(Process::start(command)).await;
        self.links.push(link);
    }

    fn declare(&self) {
        let mut text = "tenants:\n".to_owned();
        for (id, name) in self.expected() {
            writeln!(text, "  - {{ id: {id}, name: {name} }}").unwrap();
        }
        self.all.world.write("tenants.yaml", &text);
    }

    /// Names of what is to be there, by id.
    fn expected(&self) -> BTreeMap<String, String> {
        let of = |generation: usize, word, from| {
            (from..EACH).map(move |n| (format!("t{generation}x{n}"), format!("{word} {generation} {n}")))
        };
        let oldest = (0..self.generation - 1).flat_map(|generation| of(generation, "Old", DELETED));
        oldest.chain(of(self.generation - 1, "Old", 0)).chain(of(self.generation, "New", 0)).collect()
    }

    /// The next generation is declared, and its drain is somewhere.
    async fn drain(&mut self) {
        let before = self.all.world.newest_seq().await;
        self.generation += 1;
        self.declare();
        let is_at_work = async |all: &Replicas| {
            let log = all.world.log().await;
            log.iter().any(|entry| entry["seq"].as_u64() > Some(before) && entry["method"] != "GET")
        };
        self.all.until("at work", is_at_work).await;
        self.pause(0..500).await;
    }

    /// Between everybody and the database.
    fn weather(&self, weather: Weather) {
        for link in &self.links {
            link.set(weather);
        }
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(millis))).await;
    }

    /// Everything is as declared, said to be so, and told in the trail just as it happened.
    async fn settled(&self, server: &Postgres) {
        let expected = self.expected();
        self.all
            .until("as declared", async |all| {
                let live = all.world.live().await;
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let tenants = live["tenants"].as_array().cloned().unwrap_or_default();
                let there: Vec<_> = tenants.iter().map(|one| (text(&one["id"]), text(&one["name"]))).collect();
                there.len() == expected.len() && there.into_iter().collect::<BTreeMap<_, _>>() == expected
            })
            .await;
        self.all.converge_on(expected.len()).await;
        // What was in flight when its sender died is looked at once it must have timed out.
        self.all.until("told", async |_| server.sql(&self.database, "SELECT count(*) FROM intent") == "0").await;
        let log = self.all.world.log().await;
        let calls: Vec<(String, String, f64, bool)> = log.iter().filter_map(call).collect();
        let mut done = Counts::new();
        for (id, action, ..) in calls.iter().filter(|(.., is_effective)| *is_effective) {
            *done.entry((id.clone(), action.clone())).or_default() += 1;
        }
        assert!(done.values().all(|times| *times == 1), "doubled: {done:?}");
        let drains = self.generation - 1;
        assert_eq!(done.len(), 2 * EACH + drains * (2 * EACH + DELETED), "{done:?}");
        let mut told = Counts::new();
        let trail = server.sql(&self.database, "SELECT name, action, outcome, term FROM audit ORDER BY id");
        let mut terms = BTreeMap::<&str, u64>::new();
        for row in trail.lines() {
            let columns: Vec<&str> = row.split('|').collect();
            let [id, action, outcome, term] = columns[..] else { panic!("{row}") };
            // An update that is sent again before a look could tell.
            assert!(outcome != "unknown" || action == "update", "{row} of {trail}");
            if outcome == "ok" {
                *told.entry((id.to_owned(), action.to_owned())).or_default() += 1;
            }
            let before = terms.insert(id, term.parse().unwrap());
            assert!(before <= Some(terms[id]), "{id} is told under an older term after a newer one: {trail}");
        }
        assert_eq!(told, done, "the trail, and what happened: {}", self.all.tails());
        let arrived: Vec<(&str, f64)> = calls.iter().map(|(id, _, at, _)| (id.as_str(), *at)).collect();
        terms::check(server, &self.database, &arrived);
    }
}

/// Whose it is, what it does, when it came, and whether it changed something; `None` for one that does not write.
fn call(entry: &Value) -> Option<(String, String, f64, bool)> {
    let action = match entry["path"].as_str().unwrap().strip_prefix("/v1/mgmt/tenant/")? {
        action @ ("create" | "delete") => action,
        "patch" | "update" => "update",
        "all" => return None,
        other => panic!("{other}"),
    };
    let id = entry["body"]["id"].as_str().unwrap().to_owned();
    Some((id, action.to_owned(), entry["time"].as_f64().unwrap(), entry["effect"] == true))
}

/// In each of so many drains, `hit` does its harm.
async fn storm(server: &Postgres, seed: u64, times: usize, hit: impl AsyncFn(&mut Storm)) {
    let mut storm = Storm::begin(server, seed).await;
    for _ in 0..times {
        storm.drain().await;
        hit(&mut storm).await;
        storm.settled(server).await;
    }
}

/// Stops the holder for longer than its lease lasts, and lets it go on while another one holds it.
async fn holder_sleeps(seed: u64, times: usize) {
    let Some(server) = Postgres::start() else { return };
    storm(server, seed, times, async |storm| {
        let holder = storm.all.holder().await;
        storm.all.running[holder].process.signal(Signal::STOP);
        storm.all.until("taken over", async |all| all.is_holder(1 - holder).await).await;
        storm.pause(0..1500).await;
        storm.all.running[holder].process.signal(Signal::CONT);
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_sleeps_through_its_lease_writes_into_no_other_1() {
    holder_sleeps(11, 3).await;
}

#[tokio::test]
async fn a_holder_that_sleeps_through_its_lease_writes_into_no_other_2() {
    holder_sleeps(12, 2).await;
}

/// Stops all of the server's processes, for shorter and for longer than a lease lasts.
async fn database_sleeps(seed: u64, times: usize) {
    let Some(server) = Postgres::fresh() else { return };
    storm(&server, seed, times, async |storm| {
        server.signal(Signal::STOP);
        storm.pause(200..4000).await;
        server.signal(Signal::CONT);
    })
    .await;
}

#[tokio::test]
async fn a_database_that_sleeps_loses_and_doubles_nothing_1() {
    database_sleeps(21, 3).await;
}

#[tokio::test]
async fn a_database_that_sleeps_loses_and_doubles_nothing_2() {
    database_sleeps(22, 2).await;
}

/// Kills the server, and starts it again at once or when leases are over.
async fn database_dies(seed: u64, times: usize) {
    let Some(server) = Postgres::fresh() else { return };
    storm(&server, seed, times, async |storm| {
        server.kill();
        storm.pause(0..3000).await;
        server.run();
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_killed_and_started_again_loses_and_doubles_nothing_1() {
    database_dies(31, 3).await;
}

#[tokio::test]
async fn a_database_that_is_killed_and_started_again_loses_and_doubles_nothing_2() {
    database_dies(32, 2).await;
}

/// For a while the way to the database is bad for all of them.
async fn bad_way(seed: u64, weathers: &[Weather]) {
    let Some(server) = Postgres::start() else { return };
    let left = std::cell::RefCell::new(weathers.iter());
    storm(server, seed, weathers.len(), async |storm| {
        let weather = *left.borrow_mut().next().unwrap();
        storm.weather(weather);
        storm.pause(1000..4000).await;
        storm.weather(Weather::Fair);
    })
    .await;
}

fn slow(millis: u64) -> Weather {
    Weather::Slow(Duration::from_millis(millis))
}

#[tokio::test]
async fn a_database_that_is_slow_loses_and_doubles_nothing_1() {
    bad_way(41, &[slow(30), slow(100), slow(300)]).await;
}

#[tokio::test]
async fn a_database_that_is_slow_loses_and_doubles_nothing_2() {
    bad_way(42, &[slow(900), slow(2500)]).await;
}

#[tokio::test]
async fn a_way_that_loses_connections_loses_and_doubles_nothing_1() {
    bad_way(51, &[Weather::Lossy(200), Weather::Lossy(50), Weather::Lossy(10)]).await;
}

#[tokio::test]
async fn a_way_that_loses_connections_loses_and_doubles_nothing_2() {
    bad_way(52, &[Weather::Lossy(4), Weather::Silent]).await;
}

/// The holder alone does not reach the database any more; the other takes over.
async fn holder_is_cut_off(seed: u64, times: usize, weather: Weather) {
    let Some(server) = Postgres::start() else { return };
    storm(server, seed, times, async |storm| {
        let holder = storm.all.holder().await;
        storm.links[holder].set(weather);
        storm.all.until("taken over", async |all| all.is_holder(1 - holder).await).await;
        storm.pause(0..1500).await;
        storm.links[holder].set(Weather::Fair);
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_is_cut_off_hands_over_1() {
    holder_is_cut_off(61, 3, Weather::Cut).await;
}

#[tokio::test]
async fn a_holder_that_is_cut_off_hands_over_2() {
    holder_is_cut_off(62, 2, Weather::Cut).await;
}

#[tokio::test]
async fn a_holder_that_hears_nothing_hands_over_1() {
    holder_is_cut_off(63, 3, Weather::Silent).await;
}

#[tokio::test]
async fn a_holder_that_hears_nothing_hands_over_2() {
    holder_is_cut_off(64, 2, Weather::Silent).await;
}

/// One clock is two minutes ahead and one two behind, and whoever holds is killed and comes back.
async fn clocks_differ(seed: u64, times: usize) {
    let Some(server) = Postgres::start() else { return };
    let Some(library) = library() else { return missing("no libfaketime: no clock is set") };
    let mut storm = Storm::begin(server, seed).await;
    for offset in ["+120s", "-120s"] {
        storm.all.kill(0).await;
        let process = Process::start(storm.all.with_clock(&library, offset));
        storm.all.start_as(process).await;
    }
    storm.settled(server).await;
    for time in 0..times {
        storm.drain().await;
        let holder = storm.all.holder().await;
        storm.all.kill(holder).await;
        let process = Process::start(storm.all.with_clock(&library, ["+120s", "-120s"][time % 2]));
        storm.all.start_as(process).await;
        storm.settled(server).await;
    }
}

#[tokio::test]
async fn clocks_that_differ_lose_and_double_nothing_1() {
    clocks_differ(71, 3).await;
}

#[tokio::test]
async fn clocks_that_differ_lose_and_double_nothing_2() {
    clocks_differ(72, 2).await;
}
