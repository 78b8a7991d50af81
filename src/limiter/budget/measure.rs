//! How much goes through from one refusal to the next, where a refusal costs nothing but its own request.
//!
//! A 429 says when there is room again. From that time to the next such time the server admits exactly what it allows, whether
//! it counts in windows or fills a bucket. So once, where the window is in doubt, requests go without asking our own count.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::limiter::budget::Budget;
use crate::limiter::budget::Paced;
use crate::limiter::budget::USUAL_WINDOW;
use crate::limiter::budget::learn::A_FIND;
use crate::limiter::budget::learn::SAME;
use crate::limiter::budget::window::A_MOMENT;
use crate::limiter::budget::window::MORE;
use crate::limiter::machine::Slot;
use crate::limiter::machine::count;
use crate::limiter::machine::seconds;

/// So many refusals are enough to measure by, where little goes through between two.
const REFUSALS: u32 = 4;

/// Whole seconds in `Retry-After` make a window look a little shorter than it is.
const PAD: f64 = 1.01;

/// Whether the window was measured: once is enough.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Measurement {
    NotYet,
    UnderWay(Measure),
    Done,
}

/// What goes through, counted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Measure {
    /// The refusal that began it.
    begun: Duration,
    /// When there was room again after it.
    since: Duration,
    /// Since then.
    admitted: f64,
    /// Since the last refusal.
    landed: f64,
    refusals: u32,
}

impl Measure {
    pub(super) fn admitted(&mut self, slot: &Slot) {
        if slot.sent > self.begun {
            self.admitted += 1.0;
            self.landed += 1.0;
        }
    }

    /// Not all at once: what is in flight at the next refusal is refused as well.
    pub(super) fn has_turn(&self, in_flight: usize) -> bool {
        count(in_flight) <= self.landed
    }
}

impl Budget {
    /// The one under way. It ends where nothing is asked for, since what was not sent was not admitted.
    pub(super) fn measuring(&mut self, now: Duration) -> Option<Measure> {
        let Measurement::UnderWay(measure) = self.measurement else { return None };
        let idle_at = self.last_answer + self.window.max(USUAL_WINDOW);
        if now >= idle_at.max(measure.since + USUAL_WINDOW) {
            self.measurement = Measurement::NotYet;
            return None;
        }
        Some(measure)
    }

    /// Whether this refusal contradicts the window, or its wait is worth a few more refusals.
    pub(super) fn should_measure(&self, would_wait: f64) -> bool {
        let said = self.gate.said();
        let is_sooner = said.as_secs_f64() < SAME * would_wait;
        let is_worth_it = self.window > USUAL_WINDOW || said * A_MOMENT < self.window;
        let is_off = is_sooner && is_worth_it || said > self.window.mul_f64(MORE);
        match self.measurement {
            Measurement::UnderWay(_) => true,
            Measurement::Done => false,
            Measurement::NotYet => {
                let may_be = self.backoff.is_zero() && self.ceiling.is_infinite() && self.paced.is_none();
                // More than the documentation, and refused again: a window may have begun while that was found.
                let is_doubtful =
                    self.run.is_none() && self.n > A_FIND * self.prior && self.admitted() >= SAME * self.n;
                self.n.is_finite() && may_be && self.gate.was_told() && (is_off || is_doubtful)
            }
        }
    }

    /// A refusal begins a measurement, counts for it, or ends it.
    pub(super) fn measures(&mut self, now: Duration) {
        (self.suspect, self.run) = (None, None);
        self.event_at = Some(now);
        let opens = now + self.gate.said();
        let Measurement::UnderWay(measure) = &mut self.measurement else {
            let measure = Measure { begun: now, since: opens, admitted: 0.0, landed: 0.0, refusals: 0 };
            self.measurement = Measurement::UnderWay(measure);
            return;
        };
        measure.refusals += 1;
        measure.landed = 0.0;
        let Measure { since, admitted, refusals, .. } = *measure;
        if admitted < self.n / 2.0 && refusals < REFUSALS {
            return;
        }
        self.measurement = Measurement::Done;
        // All at once up to the first refusal is a window's size; a little at a time is a rate.
        let is_size = refusals == 1;
        let n = if is_size { admitted } else { self.n };
        self.late = if is_size { 1.0 } else { 0.0 };
        self.n = (n * (1.0 - self.reserve)).max(1.0);
        self.prior = self.n;
        let took = opens.saturating_sub(since).as_secs_f64();
        self.set_window(seconds(PAD * took * n / admitted.max(1.0)), now);
        self.set_paced((!is_size).then_some(Paced::Known(now)));
        self.next_probe = now + self.gap;
        self.why = "measured from one refusal to the next";
    }
}
