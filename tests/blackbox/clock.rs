//! The clock of the machine is set while the daemon waits for something: what has to pass is time, not the clock.
//!
//! The daemon alone sees the faked clock; its monotonic clock, the simulator and the test go on as they are.

use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::missing;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::process::Command;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// What the daemon takes for the time.
struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    fn new(world: &World) -> Option<Self> {
        let Some(library) = library() else {
            missing("no libfaketime: nobody sets the clock");
            return None;
        };
        let clock = Self { library, file: world.path("clock") };
        clock.set("+0");
        Some(clock)
    }

    /// Ahead of the real time by so much, or behind it: `+2d`.
    fn set(&self, offset: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, offset.to_owned() + "\n").unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    fn command(&self, world: &World, args: &[&str]) -> Command {
        let mut command = world.command(args);
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        for setting in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
            command.env(setting, "1");
        }
        command
    }

    async fn start(&self, world: &mut World) {
        world.daemon = Some(Process::start(self.command(world, &["run"])));
        world.daemon_url().await;
    }

    /// Do daemons believe it? The newest pass says when it was.
    async fn is_believed(&self, world: &World, days: i64) -> bool {
        let finished = world.project().await["lastPass"]["finishedAt"].as_str().unwrap_or_default().to_owned();
        let Ok(finished) = humantime::parse_rfc3339(&finished) else { return false };
        let seconds = |time: std::time::SystemTime| {
            i64::try_from(time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
        };
        let ahead = seconds(finished) - seconds(std::time::SystemTime::now());
        (ahead - days * 86_400).abs() < 3600
    }

    /// Sets it, and lets the daemon look at everything with it.
    async fn jump(&self, world: &World, days: i64) {
        self.set(&format!("{days:+}d"));
        look(world).await;
        world.until(&format!("seen {days} days from now"), async |world| self.is_believed(world, days).await).await;
        look(world).await;
    }
}

/// A pass that began after this call, by no clock: one may be under way, and the second to end is not that one.
async fn look(world: &World) {
    world.pass().await;
    world.pass().await;
}

/// What sets the clock of a process that is started with it, without another one around it that would have to be ended as well.
pub fn library() -> Option<PathBuf> {
    let roots = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    roots.map(|root| root.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

/// Days from now, one after the other.
const JUMPS: [&[i64]; 4] = [&[2], &[-2], &[2, 0], &[-2, 0]];

/// Every case at the same time, each in a world of its own: they mostly wait.
async fn at_once<T>(cases: impl IntoIterator<Item = T>, run: impl AsyncFn(T)) {
    let mut runs: Vec<_> = cases.into_iter().map(|case| Box::pin(run(case))).collect();
    std::future::poll_fn(|context| {
        runs.retain_mut(|run| run.as_mut().poll(context).is_pending());
        if runs.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn sync(guards: &str) -> Setup {
    let project = ["firstContact: apply", "policy: sync", &format!("guards: {{ {guards} }}")].map(str::to_owned);
    Setup { project: project.to_vec(), ..Setup::default() }
}

fn roles(names: &[&str]) -> String {
    names.iter().fold("roles:\n".to_owned(), |text, name| text + &format!("  - name: {name}\n"))
}

/// A world whose daemon has made these roles, and by which clock it goes; `None` where nobody can set that.
async fn in_sync(setup: Setup, names: &[&str]) -> Option<(World, Clock)> {
    let mut world = World::with(setup).await;
    let clock = Clock::new(&world)?;
    world.write("roles.yaml", &roles(names));
    clock.start(&mut world).await;
    world.converge().await;
    Some((world, clock))
}

/// Declares these roles, and waits until that was read. Since when they stand there.
async fn declare(world: &World, names: &[&str]) -> Instant {
    let since = Instant::now();
    world.write("roles.yaml", &roles(names));
    world.until("read", async |world| world.project().await["desired"]["resources"] == names.len()).await;
    since
}

async fn exists(world: &World, role: &str) -> bool {
    world.entity("roles", role).await.is_some()
}

async fn held(world: &World, reason: &str) -> String {
    world.until(reason, async |world| world.project().await["held"]["reason"] == reason).await;
    world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned()
}

async fn approve(world: &World, fingerprint: &str) -> u16 {
    world.ask(Method::POST, &format!("/api/v1/approve?plan={fingerprint}")).await.0
}

#[tokio::test]
async fn a_delete_that_waits_is_neither_hurried_nor_forgotten() {
    at_once(JUMPS, async |jumps| {
        let Some((world, clock)) =
            in_sync(sync("maxDeletes: 10, maxDeletePercent: 100, deleteAfter: 4s"), &["a", "b"]).await
        else {
            return;
        };
        let left = declare(&world, &["a"]).await;

        for days in jumps {
            clock.jump(&world, *days).await;
            let early = !exists(&world, "b").await && left.elapsed() < Duration::from_secs(4);
            assert!(!early, "{jumps:?}: deleted after {:?}", left.elapsed());
        }
        world.until("deleted", async |world| !exists(world, "b").await).await;

        assert!(left.elapsed() >= Duration::from_secs(4), "{jumps:?}: {:?}", left.elapsed());
        world.until("converged", async |world| world.is_converged().await).await;
    })
    .await;
}

/// Before the restart the wait counted by one clock, after it by another.
#[tokio::test]
async fn a_delete_that_waits_over_a_restart_counts_from_then_where_the_clock_was_set_back() {
    let Some((mut world, clock)) =
        in_sync(sync("maxDeletes: 10, maxDeletePercent: 100, deleteAfter: 4s"), &["a", "b"]).await
    else {
        return;
    };
    let left = declare(&world, &["a"]).await;
    clock.jump(&world, 2).await;
    assert!(exists(&world, "b").await || left.elapsed() > Duration::from_secs(4));
    world.stop().await;
    clock.set("+0");
    let restarted = Instant::now();
    clock.start(&mut world).await;

    world.until("deleted", async |world| !exists(world, "b").await).await;

    assert!(restarted.elapsed() >= Duration::from_secs(4), "{:?}", restarted.elapsed());
}

#[tokio::test]
async fn a_suspension_lasts_as_long_as_was_asked_for() {
    at_once(JUMPS, async |jumps| {
        let Some((world, clock)) = in_sync(Setup::default(), &["a"]).await else { return };
        let suspended = Instant::now();
        assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=4s").await.0, 200);
        declare(&world, &["a", "b"]).await;

        for days in jumps {
            clock.jump(&world, *days).await;
            let early = exists(&world, "b").await && suspended.elapsed() < Duration::from_secs(4);
            assert!(!early, "{jumps:?}: created after {:?}", suspended.elapsed());
        }
        world.until("created", async |world| exists(world, "b").await).await;

        assert!(suspended.elapsed() >= Duration::from_secs(4), "{jumps:?}: {:?}", suspended.elapsed());
        world.until("converged", async |world| world.is_converged().await).await;
        assert_eq!(world.project().await["suspendedUntil"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn an_approval_holds_for_its_time_and_no_longer() {
    at_once(JUMPS, async |jumps| {
        let guards = "maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s, approvalExpiry: 20s";
        let Some((world, clock)) = in_sync(sync(guards), &["a", "b", "c"]).await else { return };
        let forbidden = json!([{ "match": { "path": "/v1/mgmt/role/delete*" }, "fault": "status", "status": 503 }]);
        world.faults(forbidden.clone()).await;
        world.write("roles.yaml", &roles(&["a", "b"]));
        let fingerprint = held(&world, "max_deletes").await;
        let approved = Instant::now();
        assert_eq!(approve(&world, &fingerprint).await, 200);
        for days in jumps {
            clock.jump(&world, *days).await;
        }
        assert!(approved.elapsed() < Duration::from_secs(20), "too slow a machine for this test");
        assert_eq!(world.project().await["held"], Value::Null, "{jumps:?}: void early");
        // It cannot be used in time.
        world
            .until("held again", async |world| {
                look(world).await;
                world.project().await["held"]["reason"] == "max_deletes"
            })
            .await;
        assert!(approved.elapsed() >= Duration::from_secs(20), "{jumps:?}: {:?}", approved.elapsed());
        world.faults(json!([])).await;
        world.assert_nothing_left().await;
        assert!(exists(&world, "c").await, "{jumps:?}");
    })
    .await;
}

#[tokio::test]
async fn an_approval_of_before_the_clock_was_set_back_is_void_after_a_restart() {
    let Some((mut world, clock)) =
        in_sync(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s"), &["a", "b"]).await
    else {
        return;
    };
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/delete*" }, "fault": "status", "status": 503 }])).await;
    world.write("roles.yaml", &roles(&["a"]));
    let fingerprint = held(&world, "max_deletes").await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("not held", async |world| world.project().await["held"].is_null()).await;
    world.stop().await;
    clock.set("-2d");
    world.faults(json!([])).await;
    clock.start(&mut world).await;

    let again = held(&world, "max_deletes").await;
    world.assert_nothing_left().await;
    assert!(exists(&world, "b").await);
    assert_eq!(approve(&world, &again).await, 200);
    world.until("deleted", async |world| !exists(world, "b").await).await;
}

#[tokio::test]
async fn deletes_of_the_last_day_count_whatever_the_clock_said_and_not_for_ever() {
    let cases = [(0, &[2][..]), (0, &[-2]), (0, &[2, 0]), (2, &[0]), (-2, &[0]), (2, &[0, 2])];
    at_once(cases, async |(first, jumps)| {
        let case = format!("deleted at {first} days, then {jumps:?}");
        let Some((mut world, clock)) =
            in_sync(sync("maxDeletes: 2, maxDeletePercent: 100, deleteAfter: 0s"), &["a", "b", "c", "d"]).await
        else {
            return;
        };
        clock.jump(&world, first).await;
        world.write("roles.yaml", &roles(&["a", "b"]));
        world.until("deleted", async |world| !exists(world, "c").await && !exists(world, "d").await).await;

        for days in jumps {
            clock.jump(&world, *days).await;
        }
        world.write("roles.yaml", &roles(&["a"]));
        held(&world, "max_deletes").await;
        world.assert_nothing_left().await;
        // A kill and a restart change nothing.
        world.kill().await;
        clock.start(&mut world).await;
        held(&world, "max_deletes").await;
        world.stop().await;

        // A day and an hour later, as nobody but the clock can tell.
        clock.set(&format!("{:+}h", jumps.last().unwrap() * 24 + 25));
        clock.start(&mut world).await;
        world.until(&case, async |world| !exists(world, "b").await).await;
    })
    .await;
}

/// Set back while nothing ran, the clock must not hide for days what is known from before.
#[tokio::test]
async fn deletes_noted_by_a_clock_that_is_set_back_over_a_restart_count_a_day_from_then() {
    let mut world = World::with(sync("maxDeletes: 2, maxDeletePercent: 100, deleteAfter: 0s")).await;
    let Some(clock) = Clock::new(&world) else { return };
    clock.set("+300d");
    world.write("roles.yaml", &roles(&["a", "b", "c", "d"]));
    clock.start(&mut world).await;
    world.converge().await;
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.until("deleted", async |world| !exists(world, "c").await && !exists(world, "d").await).await;
    world.stop().await;
    clock.set("+0");
    clock.start(&mut world).await;

    world.write("roles.yaml", &roles(&["a"]));
    held(&world, "max_deletes").await;
    world.assert_nothing_left().await;
    world.stop().await;
    clock.set("+25h");
    clock.start(&mut world).await;
    world.until("no longer", async |world| !exists(world, "b").await).await;
}

/// What was just created looked days old, so a list that lagged behind proved that it was not there.
#[tokio::test]
async fn what_was_just_created_is_not_created_again_while_lists_lag_behind() {
    at_once(JUMPS, async |jumps| {
        let mut world = World::new().await;
        let Some(clock) = Clock::new(&world) else { return };
        world.sim(Method::PUT, "options", Some(json!({ "readDelay": "10s" }))).await;
        world.write("roles.yaml", &roles(&["a", "b"]));
        clock.start(&mut world).await;
        world.until("created", async |world| exists(world, "b").await).await;
        let created = Instant::now();

        for days in jumps {
            clock.jump(&world, *days).await;
        }
        assert!(created.elapsed() < Duration::from_secs(9), "too slow a machine for this test");
        world.until("converged", async |world| world.is_converged().await).await;

        let creates = crate::harness::creates(&world.log().await);
        assert_eq!(creates.len(), 2, "{jumps:?}");
        assert!(creates.values().all(|counts| *counts == (1, 0)), "{jumps:?}: {creates:?}");
    })
    .await;
}

#[tokio::test]
async fn nothing_goes_into_a_lockout_whatever_the_clock_says() {
    at_once(
        [(&[2][..], false), (&[-2], false), (&[2, 0], false), (&[-2], true)],
        async |(jumps, restarts): (&[i64], bool)| {
            let case = format!("{jumps:?}, restarts: {restarts}");
            let mut setup = Setup {
                // A window with an end would let through what happens to lie on both sides of it.
                simulator: ["--rate-limit=10/4s", "--lockout=6s", "--limit-kind=sliding-log"]
                    .map(str::to_owned)
                    .to_vec(),
                top: vec!["rateLimit: { limit: 40/4s, lockout: 6s, reserve: 0% }".to_owned()],
                ..Setup::default()
            };
            setup.project.push("policy: sync".to_owned());
            let mut world = World::with(setup).await;
            let Some(clock) = Clock::new(&world) else { return };
            crate::harness::write_some(&world, 0, 0, 15);
            clock.start(&mut world).await;
            world
                .until("locked out", async |world| world.status().await["limiters"][0]["pausedUntil"].is_string())
                .await;
            world.until("written down", async |world| crate::budget::is_pause_written(world)).await;
            let before = crate::budget::quiet_seq(&world).await;

            for days in jumps {
                clock.set(&format!("{days:+}d"));
                world.daemon().signal(rustix::process::Signal::HUP);
                if restarts {
                    world.kill().await;
                    clock.start(&mut world).await;
                } else {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
            world.until("all there", async |world| world.is_converged().await).await;

            let since = world.requests_since(before).await;
            let late = since.iter().filter(|entry| entry["inLockout"] == true).count();
            assert_eq!(late, 0, "{case}: {since:#?}");
            let creates = crate::harness::creates(&world.log().await);
            assert!(creates.len() == 15 && creates.values().all(|counts| counts.0 == 1), "{case}: {creates:?}");
        },
    )
    .await;
}

/// The look began by one clock and ended by another.
#[tokio::test]
async fn a_clock_that_is_set_during_a_look_hurries_no_delete_and_doubles_no_create() {
    at_once(JUMPS, async |jumps| {
        let mut world = World::with(sync("maxDeletes: 10, maxDeletePercent: 100, deleteAfter: 9s")).await;
        let Some(clock) = Clock::new(&world) else { return };
        world.write("roles.yaml", &roles(&["a", "b"]));
        clock.start(&mut world).await;
        world.converge().await;
        // Lists do not show for a while what was just created.
        world.sim(Method::PUT, "options", Some(json!({ "readDelay": "8s" }))).await;
        let left = Instant::now();
        world.write("roles.yaml", &roles(&["a"]));
        world.write("permissions.yaml", "permissions:\n  - name: p\n");
        world.until("created", async |world| world.entity("permissions", "p").await.is_some()).await;
        let slow = json!([
            { "match": { "path": "/v1/mgmt/role/all" }, "fault": "delay", "delay": "500ms" },
            { "match": { "path": "/v1/mgmt/permission/all" }, "fault": "delay", "delay": "500ms" }]);
        world.faults(slow).await;

        for days in jumps {
            let passes = world.passes_by("api").await;
            assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
            world.until("looking", async |world| world.metric("api_requests_in_flight").await > Some(0.0)).await;
            clock.set(&format!("{days:+}d"));
            world.until("looked", async |world| world.passes_by("api").await > passes).await;
            world.until("believed", async |world| clock.is_believed(world, *days).await).await;
            let early = !exists(&world, "b").await && left.elapsed() < Duration::from_secs(9);
            assert!(!early, "{jumps:?}: deleted after {:?}", left.elapsed());
        }
        assert!(left.elapsed() < Duration::from_secs(9), "too slow a machine for this test");
        world.faults(json!([])).await;
        world.until("deleted", async |world| !exists(world, "b").await).await;

        assert!(left.elapsed() >= Duration::from_secs(9), "{jumps:?}: {:?}", left.elapsed());
        world.until("converged", async |world| world.is_converged().await).await;
        let creates = crate::harness::creates(&world.log().await);
        assert_eq!(creates.len(), 3, "{jumps:?}");
        assert!(creates.values().all(|counts| *counts == (1, 0)), "{jumps:?}: {creates:?}");
    })
    .await;
}
