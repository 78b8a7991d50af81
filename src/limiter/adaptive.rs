//! The original design: a rate that halves at every 429 and grows by a tenth after fifty successes on end.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::limiter::AdaptiveSettings;
use crate::limiter::Outcome;
use crate::limiter::Settings;
use crate::limiter::gate::Gate;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Slot;
use crate::limiter::machine::SlotKind;
use crate::limiter::machine::seconds;
use crate::limiter::pace::Pace;
use crate::limiter::shared;
use crate::telemetry::status::AdaptiveStatus;

/// The rate, and the gate in front of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Adaptive {
    settings: AdaptiveSettings,
    gate: Gate,
    rate: f64,
    successes: u32,
    pace: Pace,
    in_flight: usize,
    #[serde(skip, default = "shared::learned_elsewhere")]
    why: &'static str,
}

impl Adaptive {
    /// Starts at the initial rate.
    pub fn new(settings: &Settings) -> Self {
        let rate = settings.adaptive.initial_rate;
        Self {
            settings: settings.adaptive,
            gate: Gate::new(settings.lockout),
            rate,
            successes: 0,
            // More than one would be a new burst at every change of rate.
            pace: Pace::new(seconds(1.0 / rate), NonZeroU32::MIN),
            in_flight: 0,
            why: "nothing learned yet",
        }
    }

    /// Takes up what an earlier run learned.
    pub fn restore(&mut self, rate: Option<f64>, until: Option<Duration>, floor: Duration) {
        self.gate.restore(until, floor);
        if let Some(rate) = rate {
            self.set_rate(rate);
        }
    }

    pub(crate) fn acquire(&mut self, now: Duration) -> Decision {
        if let Some(wait) = self.gate.blocks(now) {
            return wait;
        }
        if let Err(due) = self.pace.turn(now) {
            return Decision::WaitUntil(due);
        }
        self.in_flight += 1;
        Decision::Send(Slot { sent: now, kind: self.gate.send(SlotKind::Plain) })
    }

    /// One whose slot was given back for lost was on its way after all.
    pub(crate) fn found(&mut self) {
        self.in_flight += 1;
    }

    pub(crate) fn cancel(&mut self, slot: &Slot) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.gate.unanswered(slot);
    }

    pub(crate) fn reply(&mut self, slot: &Slot, outcome: Outcome, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Answered => {
                self.gate.answered(slot);
                self.successes += 1;
                if self.successes >= self.settings.success_threshold {
                    self.why = "many requests in a row were answered";
                    self.set_rate(self.rate * self.settings.increase_factor);
                }
            }
            Outcome::Failed => self.gate.unanswered(slot),
            Outcome::Throttled { retry_after } => {
                // The rate falls with each of them, as it always did; only the pause is shared.
                self.gate.refused(slot, false, retry_after, now);
                self.why = "Descope refused a request with 429";
                self.set_rate(self.rate * self.settings.decrease_factor);
            }
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn set_in_flight(&mut self, in_flight: usize) {
        self.in_flight = in_flight;
    }

    pub(crate) fn why(&self) -> &'static str {
        self.why
    }

    /// The statistics.
    pub fn status(&self) -> AdaptiveStatus {
        AdaptiveStatus {
            current_rate: self.rate,
            min_rate: self.settings.min_rate,
            max_rate: self.settings.max_rate,
            success_count: self.successes,
        }
    }

    fn set_rate(&mut self, rate: f64) {
        self.successes = 0;
        self.rate = rate.clamp(self.settings.min_rate, self.settings.max_rate.max(self.settings.min_rate));
        self.pace.set_period(seconds(1.0 / self.rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn adaptive() -> Adaptive {
        Adaptive::new(&Settings::default())
    }

    fn send(adaptive: &mut Adaptive, now: Duration) -> Slot {
        let Decision::Send(slot) = adaptive.acquire(now) else { panic!("expected to send") };
        slot
    }

    #[test]
    fn calls_are_spaced_by_the_rate() {
        let mut adaptive = adaptive();

        let _first = send(&mut adaptive, START);

        assert_eq!(adaptive.acquire(START), Decision::WaitUntil(START + Duration::from_millis(100)));
    }

    #[test]
    fn the_rate_halves_at_a_429_and_its_success_count_starts_anew() {
        let mut adaptive = adaptive();
        let slot = send(&mut adaptive, START);
        adaptive.reply(&slot, Outcome::Answered, START);
        let slot = send(&mut adaptive, START + Duration::from_secs(1));
        assert_eq!(adaptive.status().success_count, 1);

        adaptive.reply(&slot, Outcome::Throttled { retry_after: None }, START + Duration::from_secs(1));

        assert_eq!((adaptive.status().current_rate, adaptive.status().success_count), (5.0, 0));
    }

    #[test]
    fn the_rate_grows_after_fifty_successes_on_end_and_stays_between_its_bounds() {
        let mut adaptive = adaptive();
        let mut now = START;
        for _ in 0..50 {
            let slot = send(&mut adaptive, now);
            adaptive.reply(&slot, Outcome::Answered, now);
            now += Duration::from_secs(1);
        }
        assert!((adaptive.status().current_rate - 11.0).abs() < 1e-9);

        for _ in 0..5000 {
            let slot = send(&mut adaptive, now);
            adaptive.reply(&slot, Outcome::Answered, now);
            now += Duration::from_secs(1);
        }
        assert!((adaptive.status().current_rate - 100.0).abs() < 1e-9);

        for _ in 0..20 {
            now += Duration::from_secs(120);
            let slot = send(&mut adaptive, now);
            adaptive.reply(&slot, Outcome::Throttled { retry_after: None }, now);
            now += Duration::from_secs(1200);
        }
        assert!((adaptive.status().current_rate - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_429_closes_the_gate_and_one_trial_opens_it() {
        let mut adaptive = adaptive();
        let slot = send(&mut adaptive, START);
        adaptive.reply(&slot, Outcome::Throttled { retry_after: Some(Duration::from_secs(20)) }, START);
        let opens = START + Duration::from_secs(21);
        assert_eq!(adaptive.acquire(START), Decision::WaitUntil(opens));

        let trial = send(&mut adaptive, opens);
        assert_eq!(adaptive.acquire(opens + Duration::from_secs(5)), Decision::WaitForReply);
        adaptive.reply(&trial, Outcome::Answered, opens + Duration::from_secs(5));

        assert!(!adaptive.gate().is_closed());
    }
}
