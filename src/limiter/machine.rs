//! What both algorithms have in common: the questions they answer and the slot a request holds. No clock, no I/O.
//!
//! Times are counted from an origin that the caller chooses and never go back.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::limiter::Algorithm;
use crate::limiter::Outcome;
use crate::limiter::Settings;
use crate::limiter::adaptive::Adaptive;
use crate::limiter::budget::Budget;
use crate::limiter::gate::Gate;
use crate::limiter::quota::Quota;

/// May a request be sent now?
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes; the slot is taken. Give it back with `cancel` or `reply`.
    Send(Slot),
    /// Ask again then, or after the next reply.
    WaitUntil(Duration),
    /// Ask again after the next reply.
    WaitForReply,
}

/// The slot of one request, from the decision to its reply.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is not given back is lost"]
pub struct Slot {
    /// When it was sent; replies to requests sent before a refusal belong to the same burst.
    pub sent: Duration,
    /// Why it could be sent.
    pub(crate) kind: SlotKind,
}

impl Slot {
    /// Whether it finds out if the gate may open.
    pub fn is_trial(&self) -> bool {
        self.kind == SlotKind::Trial
    }
}

/// Why a request could be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SlotKind {
    /// Within what we believe the limit to be.
    Plain,
    /// The one that finds out whether the gate may open.
    Trial,
    /// Above what we believe, to find out whether there is more.
    Probe,
    /// At an even pace, to find out whether the limit is a rate.
    PaceTest,
}

/// Either algorithm, with the gate that both share.
#[derive(Debug, Serialize, Deserialize)]
pub enum Machine {
    /// The default.
    Budget(Box<Budget>),
    /// The original design.
    Adaptive(Box<Adaptive>),
}

impl Machine {
    /// A machine that has learned nothing.
    pub fn new(settings: &Settings) -> Self {
        match settings.algorithm {
            Algorithm::Budget => Self::Budget(Box::new(Budget::new(settings))),
            Algorithm::Adaptive => Self::Adaptive(Box::new(Adaptive::new(settings))),
        }
    }

    /// Asks for a slot.
    pub fn acquire(&mut self, now: Duration) -> Decision {
        match self {
            Self::Budget(budget) => budget.acquire(now),
            Self::Adaptive(adaptive) => adaptive.acquire(now),
        }
    }

    /// The request was not sent after all.
    #[allow(clippy::needless_pass_by_value, reason = "a slot is given back once")]
    pub fn cancel(&mut self, slot: Slot) {
        match self {
            Self::Budget(budget) => budget.cancel(&slot),
            Self::Adaptive(adaptive) => adaptive.cancel(&slot),
        }
    }

    /// What the answer said of the limit, where it was not a refusal; call it before `reply`.
    pub fn told(&mut self, slot: &Slot, quota: Quota, now: Duration) {
        match self {
            Self::Budget(budget) => budget.told(slot, quota, now),
            Self::Adaptive(_) => {}
        }
    }

    /// What became of the request.
    #[allow(clippy::needless_pass_by_value, reason = "a slot is given back once")]
    pub fn reply(&mut self, slot: Slot, outcome: Outcome, now: Duration) {
        match self {
            Self::Budget(budget) => budget.reply(&slot, outcome, now),
            Self::Adaptive(adaptive) => adaptive.reply(&slot, outcome, now),
        }
    }

    /// A request whose slot was given back for lost was on its way after all: its reply follows.
    pub(crate) fn found(&mut self) {
        match self {
            Self::Budget(budget) => budget.found(),
            Self::Adaptive(adaptive) => adaptive.found(),
        }
    }

    /// Whether requests are evenly spaced.
    pub(crate) fn is_paced(&self) -> bool {
        match self {
            Self::Budget(budget) => budget.is_paced(),
            Self::Adaptive(_) => true,
        }
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        match self {
            Self::Budget(budget) => budget.gate(),
            Self::Adaptive(adaptive) => adaptive.gate(),
        }
    }

    /// Requests per second, `None` while no limit is known.
    pub fn rate(&self) -> Option<f64> {
        match self {
            Self::Budget(budget) => budget.rate(),
            Self::Adaptive(adaptive) => Some(adaptive.status().current_rate),
        }
    }

    /// Requests a window may hold, where there is such a number.
    pub fn budget(&self) -> Option<f64> {
        match self {
            Self::Budget(budget) => budget.limit(),
            Self::Adaptive(_) => None,
        }
    }

    /// After a cut: when the way back up is over at the latest, and the budget then.
    pub(crate) fn way_back(&self) -> Option<(Duration, f64)> {
        match self {
            Self::Budget(budget) => budget.way_back(),
            Self::Adaptive(_) => None,
        }
    }

    /// About when the last of so many requests goes, if nothing is refused and nobody else sends; `None` while no limit is known.
    pub(crate) fn due(&mut self, requests: usize, now: Duration) -> Option<Duration> {
        match self {
            Self::Budget(budget) => budget.due(requests, now),
            Self::Adaptive(adaptive) => {
                let opens = adaptive.gate().paused_until().unwrap_or(now).max(now);
                Some(opens + seconds(count(requests) / adaptive.status().current_rate))
            }
        }
    }

    /// Slots in use.
    pub fn used(&mut self, now: Duration) -> usize {
        match self {
            Self::Budget(budget) => budget.used(now),
            Self::Adaptive(adaptive) => adaptive.in_flight(),
        }
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> usize {
        match self {
            Self::Budget(budget) => budget.in_flight(),
            Self::Adaptive(adaptive) => adaptive.in_flight(),
        }
    }

    /// So many are: a row that somebody else changed may count others than its replicas hold.
    pub(crate) fn set_in_flight(&mut self, in_flight: usize) {
        match self {
            Self::Budget(budget) => budget.set_in_flight(in_flight),
            Self::Adaptive(adaptive) => adaptive.set_in_flight(in_flight),
        }
    }

    /// Why the limit last changed, for the log.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Budget(budget) => budget.why(),
            Self::Adaptive(adaptive) => adaptive.why(),
        }
    }
}

/// Seconds as a duration: nothing negative, and a century at the most.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.clamp(0.0, 3.2e9)).unwrap_or(Duration::ZERO)
}

#[allow(clippy::cast_precision_loss, reason = "counts of requests")]
pub(crate) fn count(value: usize) -> f64 {
    value as f64
}
