//! What the probes judge by. They are open to everybody, so reasons come from closed sets: no ids, no messages.

use schemars::JsonSchema;
use serde::Serialize;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

/// How often [`Pulse::during`] looks in.
const BEAT: Duration = Duration::from_secs(5);
/// A loop silent for this long is stuck: far above what loading the largest repo may keep a thread busy.
const SILENCE: Duration = Duration::from_secs(60);

/// How a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Not known yet.
    Starting,
    /// Works with less, or heals by itself.
    Degraded,
    /// A person has to act.
    Failing,
}

/// One entry of `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// `source`, `descope`, `state`, ...
    pub name: &'static str,
    /// Where there is one per project.
    pub project: Option<String>,
    /// How it is.
    pub status: Level,
    /// Of a closed set, `unauthorized`.
    pub reason: Option<&'static str>,
    /// RFC 3339: for how long it has been so.
    pub since: String,
}

/// `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The worst of the components.
    pub status: Level,
    /// In the order in which they first spoke.
    pub components: Vec<Component>,
}

impl Health {
    /// Sums up.
    pub fn of(components: Vec<Component>) -> Self {
        let status = components.iter().map(|component| component.status).max().unwrap_or(Level::Starting);
        Self { status, components }
    }
}

/// What has to hold before a project is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A valid desired state is in force.
    pub desired_loaded: bool,
    /// The live project was seen once.
    pub observed: bool,
    /// Since when every pass failed; `None` after one that did not.
    pub failing_since: Option<Instant>,
    /// Another replica writes it: what is loaded is all that this one has to have.
    pub stands_by: bool,
    /// Why it was not, where that is known.
    pub unobserved_because: Option<&'static str>,
}

impl Readiness {
    /// Call it after each pass.
    pub fn passed(&mut self, failed: bool, now: Instant) {
        self.failing_since = if failed { self.failing_since.or(Some(now)) } else { None };
    }

    /// Why the project is not ready. One bad pass is no reason to leave the load balancer: three in a row are.
    pub fn reason(&self, now: Instant, interval: Duration) -> Option<&'static str> {
        if !self.desired_loaded {
            return Some("desired state not loaded");
        }
        if self.stands_by {
            return None;
        }
        if !self.observed {
            return Some(self.unobserved_because.unwrap_or("not observed yet"));
        }
        let failing = self.failing_since.is_some_and(|since| now - since > interval.saturating_mul(3));
        failing.then_some("failing for more than three intervals")
    }
}

/// Why a project is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotReady {
    /// Its name in the config.
    pub project: String,
    /// Of a closed set.
    pub reason: &'static str,
}

/// The heartbeat of one loop.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// The loop has turned.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Beats for as long as `work` is waiting, however long: a closed gate is no sickness. A thread that never comes
    /// back from `work` is, and falls silent.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = beats.tick() => self.beat(),
            }
        }
    }

    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now - *self.0.lock().unwrap_or_else(PoisonError::into_inner) <= SILENCE
    }
}
