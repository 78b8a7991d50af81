//! How fast we may call Descope: permits, one shared gate, and what the answers teach.
//!
//! One limiter stands before each API host, because Descope counts by the caller's address. The deciding is done by a
//! state machine without clock or I/O ([`machine`]); this file makes it a thing to await: a queue per priority, of
//! which only the first in line asks, and everybody else sleeps.
//!
//! A permit is a slot. Dropped before [`Permit::sending`] it goes back at once; dropped afterwards it stays taken for a
//! window, because Descope may have counted the request.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::limiter::machine::Decision;
use crate::limiter::machine::Machine;
use crate::limiter::machine::Slot;
use crate::limiter::memory::Memory;
use crate::limiter::quota::Quota;
use crate::limiter::shared::desk::Desk;
use crate::limiter::source::Source;
use crate::limiter::status::Report;
use crate::telemetry::clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::LimiterStatus;
use crate::telemetry::status::rfc3339;

pub mod adaptive;
pub mod budget;
pub mod gate;
pub mod machine;
pub mod memory;
mod minutes;
mod pace;
pub mod quota;
pub mod shared;
mod source;
pub mod status;

/// Waiting changes that may go before a waiting observation, until one observation goes first.
const CHANGES_PER_OBSERVATION: u32 = 4;

/// The machine's time when the limiter starts: late enough for what happened before a restart to have a time as well.
const ORIGIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// What became of a request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Any answer but 429; the server counted it.
    Answered,
    /// 429. `retry_after` as the answer gave it, already as a time from now.
    Throttled {
        /// `None` where the header was missing or unreadable.
        retry_after: Option<Duration>,
    },
    /// No answer, after it was sent; the server may have counted it.
    Failed,
}

/// Who asks: what a commit changed goes before looking around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Writes, and reads that a write waits for.
    Change,
    /// Background observation.
    Observation,
    /// What is looked at in rotation: it goes when nothing else waits.
    Rotation,
}

/// How the limit is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// Spends and learns the budget of a window.
    Budget,
    /// A rate that rises with successes and falls with refusals.
    Adaptive,
}

/// How the budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pacing {
    /// At once, until the server turns out to be a token bucket.
    Auto,
    /// Evenly from the start.
    Paced,
}

/// `rateLimit` of the config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How the limit is found.
    pub algorithm: Algorithm,
    /// Requests per window as documented; `None`: no limit is known, free until the first 429.
    pub limit: Option<(f64, Duration)>,
    /// How long a refusal lasts where the answer does not say; zero where nothing locks.
    pub lockout: Duration,
    /// Share of the limit left to other callers, 0 to 1.
    pub reserve: f64,
    /// Whether to look for more than `limit`. The way back up to it after a cut is always taken.
    pub probe: bool,
    /// How the budget is spent.
    pub shape: Pacing,
    /// Used with [`Algorithm::Adaptive`].
    pub adaptive: AdaptiveSettings,
}

/// `rateLimit.adaptive` of the config; rates in requests per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveSettings {
    /// Rate at the start.
    pub initial_rate: f64,
    /// No rate is lower; above 0.
    pub min_rate: f64,
    /// No rate is higher.
    pub max_rate: f64,
    /// The rate is multiplied by this at every 429.
    pub decrease_factor: f64,
    /// The rate is multiplied by this after `success_threshold` successes on end.
    pub increase_factor: f64,
    /// Successes on end that raise the rate.
    pub success_threshold: u32,
}

/// What Descope documents, all of it for us.
impl Default for Settings {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Budget,
            limit: Some((100.0, Duration::from_secs(60))),
            lockout: Duration::from_secs(60),
            reserve: 0.0,
            probe: false,
            shape: Pacing::Auto,
            adaptive: AdaptiveSettings::default(),
        }
    }
}

/// The original design's numbers.
impl Default for AdaptiveSettings {
    fn default() -> Self {
        Self {
            initial_rate: 10.0,
            min_rate: 1.0,
            max_rate: 100.0,
            decrease_factor: 0.5,
            increase_factor: 1.1,
            success_threshold: 50,
        }
    }
}

/// Hands out permits. Clones share everything.
#[derive(Debug, Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    start: Instant,
    state: Mutex<State>,
    /// First come, first served; whoever holds the lane is first in line.
    lanes: [tokio::sync::Mutex<()>; 3],
    wake: Notify,
    /// Something to do for whoever keeps a shared budget.
    work: Notify,
    changes: watch::Sender<()>,
    /// Whether the last record says that requests are under way; `None` where nobody keeps records.
    kept_busy: watch::Sender<Option<bool>>,
    /// The store of a shared budget answers too slowly for requests to go.
    slow: AtomicBool,
}

#[derive(Debug)]
struct State {
    source: Source,
    report: Report,
    waiting: [usize; 3],
    /// When the first in line asked.
    asked: [Option<Instant>; 3],
    changes_in_a_row: u32,
}

impl Limiter {
    /// A limiter for one host. A memory that is stale, damaged or of another setting counts for as much as still holds.
    pub fn new(host: &str, settings: Settings, memory: Option<Memory>, metrics: Arc<Metrics>) -> Self {
        let mut machine = Machine::new(&settings);
        if let Some(memory) = memory {
            memory.restore(&mut machine, &settings, SystemTime::now(), ORIGIN);
        }
        Self::of(host, settings, Source::Own(machine), metrics)
    }

    /// A limiter for one host whose budget is shared with other replicas: nothing goes while nobody calls [`Limiter::serve`].
    /// No two replicas, and no two lives of one, have the same name.
    pub fn shared(host: &str, settings: Settings, name: String, metrics: Arc<Metrics>) -> Self {
        let source = Source::Shared(Box::new(Desk::new(name, settings.clone())));
        Self::of(host, settings, source, metrics)
    }

    fn of(host: &str, settings: Settings, source: Source, metrics: Arc<Metrics>) -> Self {
        let report = Report::new(host, metrics, source.machine());
        let state = State { source, report, waiting: [0; 3], asked: [None; 3], changes_in_a_row: 0 };
        let limiter = Self {
            shared: Arc::new(Shared {
                settings,
                start: Instant::now(),
                state: Mutex::new(state),
                lanes: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
                wake: Notify::new(),
                work: Notify::new(),
                changes: watch::Sender::new(()),
                kept_busy: watch::Sender::new(None),
                slow: AtomicBool::new(false),
            }),
        };
        limiter.shared.change(|_, _| ());
        limiter
    }

    /// Waits until a request may be sent. May be dropped at any time: the place in the queue is lost, nothing else.
    pub async fn acquire(&self, priority: Priority) -> Permit {
        let asked = Instant::now();
        let shared = &self.shared;
        let waiting = Waiting::new(shared, priority);
        let first_in_line = shared.lanes[lane(priority)].lock().await;
        loop {
            // Made before asking, so that nothing that happens in between is missed.
            let woken = shared.wake.notified();
            match shared.ask(priority, asked) {
                Decision::Send(slot) => {
                    drop((first_in_line, waiting));
                    let permit = Permit { shared: shared.clone(), slot: Some(slot), sent: false, told: None };
                    // Killed right after it was sent, the next start has to know that something was.
                    drop(shared.kept_busy.subscribe().wait_for(|kept| *kept != Some(false)).await);
                    shared.state().report.waited(asked.elapsed());
                    return permit;
                }
                Decision::WaitForReply => woken.await,
                Decision::WaitUntil(due) => {
                    let due = shared.start + due.saturating_sub(ORIGIN);
                    tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
            }
        }
    }

    /// What the status page and the metrics show; brings the gauges up to date as well.
    pub fn status(&self) -> LimiterStatus {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let State { source, report, waiting, .. } = &mut *state;
        let is_waited_for = waiting[lane(Priority::Change)] + waiting[lane(Priority::Observation)] > 0;
        let (machine, at) = source.view(now);
        report.update(machine, at, SystemTime::now());
        LimiterStatus {
            free_at: is_waited_for.then(|| free_at(machine, at)).flatten(),
            ..report.status(machine, at, clock::now())
        }
    }

    /// About how long it is until the last of so many requests goes, if nothing is refused and nobody else sends; `None` while no
    /// limit is known.
    pub fn due(&self, requests: usize) -> Option<Duration> {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let (machine, at) = state.source.view(now);
        machine.due(requests, at).map(|due| due.saturating_sub(at))
    }

    /// Does the store of a shared budget answer too slowly for requests to go?
    pub fn is_slow(&self) -> bool {
        self.shared.slow.load(Ordering::Relaxed)
    }

    /// What to keep for the next start.
    pub fn memory(&self) -> Memory {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let busy = state.is_busy();
        if !busy {
            self.shared.kept_busy.send_if_modified(|kept| std::mem::replace(kept, kept.map(|_| false)) == Some(true));
        }
        let (machine, at) = state.source.view(now);
        Memory::of(machine, &self.shared.settings, busy, at, SystemTime::now())
    }

    /// From now on, and until [`Limiter::forget`], nothing is sent before a record says that something may be.
    pub fn keep(&self) {
        self.shared.kept_busy.send_replace(Some(false));
    }

    /// This was written down, or could not be.
    pub fn kept(&self, memory: &Memory) {
        if memory.busy {
            self.shared.kept_busy.send_replace(Some(true));
        }
    }

    /// Nobody writes anything down any more.
    pub fn forget(&self) {
        self.shared.kept_busy.send_replace(None);
    }

    /// Wakes when [`Limiter::memory`] has changed: with every request, so while it is busy save a few times a second.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }
}

impl Shared {
    fn now(&self) -> Duration {
        ORIGIN + self.start.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, priority: Priority, asked: Instant) -> Decision {
        let mut state = self.state();
        state.asked[lane(priority)] = Some(asked);
        if state.turn() != Some(priority) {
            return Decision::WaitForReply; // or for the other priority to go or to give up
        }
        let now = self.now();
        let decision = state.source.acquire(now);
        self.work.notify_one();
        if matches!(decision, Decision::Send(_)) {
            let overtakes = priority == Priority::Change && state.waiting[lane(Priority::Observation)] > 0;
            state.changes_in_a_row = if overtakes { state.changes_in_a_row + 1 } else { 0 };
            let State { source, report, .. } = &mut *state;
            let (machine, at) = source.view(now);
            report.update(machine, at, SystemTime::now());
            self.changes.send_replace(());
        }
        decision
    }

    /// Something happened that may let the first in line go.
    fn change(&self, event: impl FnOnce(&mut State, Duration)) {
        let now = self.now();
        let mut state = self.state();
        event(&mut state, now);
        let State { source, report, .. } = &mut *state;
        let (machine, at) = source.view(now);
        report.update(machine, at, SystemTime::now());
        drop(state);
        self.changes.send_replace(());
        self.wake.notify_waiters();
        self.work.notify_one();
    }
}

impl State {
    /// Whether requests are under way, or go as soon as they may.
    fn is_busy(&self) -> bool {
        let machine = self.source.machine();
        machine.in_flight() > 0 || (self.waiting != [0; 3] && !machine.gate().is_closed())
    }

    /// Whose turn it is: changes first, but one observation after so many of them.
    fn turn(&self) -> Option<Priority> {
        let [changes, observations, rotation] = self.waiting;
        match (changes > 0, observations > 0) {
            (false, false) => (rotation > 0).then_some(Priority::Rotation),
            (true, true) if self.changes_in_a_row >= CHANGES_PER_OBSERVATION => Some(Priority::Observation),
            (true, _) => Some(Priority::Change),
            (false, true) => Some(Priority::Observation),
        }
    }
}

/// When one more request may be sent, where none may now though the gate is open.
fn free_at(machine: &mut Machine, now: Duration) -> Option<String> {
    let free = machine.due(1, now).filter(|due| *due > now && !machine.gate().is_closed())?;
    Some(rfc3339(clock::now() + free.saturating_sub(now)))
}

fn lane(priority: Priority) -> usize {
    match priority {
        Priority::Change => 0,
        Priority::Observation => 1,
        Priority::Rotation => 2,
    }
}

/// Somebody waits, until this is dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    lane: usize,
}

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared, priority: Priority) -> Self {
        let lane = lane(priority);
        shared.state().waiting[lane] += 1;
        Self { shared, lane }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.waiting[self.lane] -= 1;
        drop(state);
        self.shared.wake.notify_waiters();
    }
}

/// Leave to send one request.
#[derive(Debug)]
#[must_use = "a permit that is dropped was not used"]
pub struct Permit {
    shared: Arc<Shared>,
    slot: Option<Slot>,
    sent: bool,
    told: Option<Quota>,
}

impl Permit {
    /// Call it right before the request goes out.
    pub fn sending(&mut self) {
        self.sent = true;
        if let Some(slot) = &mut self.slot {
            let now = self.shared.now();
            self.shared.state().source.sending(slot, now);
        }
    }

    /// False when the gate closed after this permit was given: drop it and ask again.
    pub fn is_current(&self) -> bool {
        let state = self.shared.state();
        self.slot.as_ref().is_some_and(|slot| state.source.is_current(slot, self.shared.now()))
    }

    /// What the answer said of the limit, before `finish`.
    pub fn told(&mut self, quota: Quota) {
        self.told = Some(quota);
    }

    /// What became of the request.
    pub fn finish(mut self, outcome: Outcome) {
        if !self.sent {
            self.sending();
        }
        self.give_back(outcome);
    }

    fn give_back(&mut self, outcome: Outcome) {
        let Some(slot) = self.slot.take() else { return };
        let (sent, told) = (self.sent, self.told);
        self.shared.change(|state, now| {
            if matches!(outcome, Outcome::Throttled { .. }) {
                state.report.throttled(now);
            }
            // Locked out, an answer says nothing of what is left.
            if let (Outcome::Answered, Some(quota)) = (outcome, told) {
                state.source.told(&slot, quota, now);
            }
            if sent {
                state.report.answered(now);
                state.source.reply(slot, outcome, now);
            } else {
                state.source.cancel(slot, now);
            }
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(Outcome::Failed);
    }
}

#[cfg(test)]
mod tests;
