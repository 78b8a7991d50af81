//! What the limiter learned, in a form that outlives the daemon.
//!
//! A restart in the middle of a window or a lockout costs nothing and trips nothing. A record that cannot be right
//! (damaged, too old) is dropped in whole or in part: starting from the documented limit is always safe
//! enough.

use std::time::Duration;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use crate::limiter::Settings;
use crate::limiter::machine::Machine;

/// What was learned is forgotten after so long: neighbours and plans change.
const STALE: f64 = 24.0 * 3600.0;

/// Clocks are set by so much in passing; more, and the times of the record mean nothing.
const CLOCK_ERROR: f64 = 2.0;

/// What a run that was killed may have sent after it last wrote this, it sent within so many seconds.
const UNSEEN: f64 = 5.0;

/// The record. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// When it was written.
    pub saved_at: f64,
    /// The setting it was learned under: requests and seconds.
    pub limit: Option<(f64, f64)>,
    /// Requests a window may hold, as learned.
    pub n: Option<f64>,
    /// The window in seconds, as learned; `None`: as documented.
    pub window: Option<f64>,
    /// Whether the limit turned out to be a rate.
    pub paced: bool,
    /// Requests per second, as learned by the other algorithm.
    pub rate: Option<f64>,
    /// Seconds that refusals turned out to last at least.
    pub floor: f64,
    /// When the gate opens, while it is closed.
    pub paused_until: Option<f64>,
    /// Times of replies that still hold a slot.
    pub done: Vec<f64>,
    /// Requests were under way or about to be: unless a later record says otherwise, more were sent than this knows.
    pub busy: bool,
}

impl Memory {
    pub(crate) fn of(machine: &Machine, settings: &Settings, busy: bool, now: Duration, clock: SystemTime) -> Self {
        let saved_at = unix(clock);
        let wall = |at: Duration| saved_at + at.as_secs_f64() - now.as_secs_f64();
        let memory = Self {
            saved_at,
            limit: documented(settings),
            floor: machine.gate().floor().as_secs_f64(),
            paused_until: machine.gate().paused_until().map(wall),
            busy,
            ..Self::default()
        };
        match machine {
            Machine::Budget(budget) => Self {
                n: budget.limit(),
                window: budget.learned_window().map(|window| window.as_secs_f64()),
                paced: budget.is_paced(),
                done: budget.taken(now).map(wall).collect(),
                ..memory
            },
            Machine::Adaptive(adaptive) => Self { rate: Some(adaptive.status().current_rate), ..memory },
        }
    }

    pub(crate) fn restore(self, machine: &mut Machine, settings: &Settings, clock: SystemTime, now: Duration) {
        let clock = unix(clock);
        // Set back since, the clock does not tell how long ago this was: it counts as of now.
        let clock = if clock < self.saved_at - CLOCK_ERROR { self.saved_at } else { clock };
        let age = clock - self.saved_at;
        if !age.is_finite() || age >= STALE {
            tracing::info!("what was learned about the rate limit is out of date: starting from the documented limit");
            return;
        }
        // A pause that no server would ask for is a damaged record.
        let sane = |&until: &f64| until.is_finite() && (until - self.saved_at).abs() < STALE;
        let ours = |at: f64| Duration::try_from_secs_f64(now.as_secs_f64() + (at - clock)).unwrap_or(now);
        let until = self.paused_until.filter(sane).map(ours);
        let floor = Duration::try_from_secs_f64(self.floor).unwrap_or_default();
        let learned = |n: Option<f64>| n.filter(|n| n.is_finite() && *n > 0.0 && self.limit == documented(settings));
        match machine {
            Machine::Budget(budget) => {
                let mut done: Vec<Duration> =
                    self.done.iter().copied().filter(|&at| at <= clock + CLOCK_ERROR && sane(&at)).map(ours).collect();
                done.sort_unstable();
                let window = learned(self.window).filter(|window| *window < STALE);
                if let Some(window) = window.and_then(|window| Duration::try_from_secs_f64(window).ok()) {
                    budget.restore_window(window);
                }
                budget.restore(learned(self.n), self.paced, done, now);
                if self.busy {
                    budget.assume_spent(ours((self.saved_at + UNSEEN).min(clock)));
                }
                budget.gate_mut().restore(until, floor);
            }
            Machine::Adaptive(adaptive) => adaptive.restore(learned(self.rate), until, floor),
        }
    }
}

fn documented(settings: &Settings) -> Option<(f64, f64)> {
    settings.limit.map(|(n, window)| (n, window.as_secs_f64()))
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
