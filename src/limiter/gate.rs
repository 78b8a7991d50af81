//! The gate: one 429 closes it for everybody, one trial request opens it again.
//!
//! A pause is what the server said and a little more, and never shorter than the floor: what it took the last time the
//! server's word was too short.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::limiter::machine::Decision;
use crate::limiter::machine::Slot;
use crate::limiter::machine::SlotKind;
use crate::limiter::machine::seconds;

/// No pause is longer because we guessed; a server may still ask for more.
const LONGEST_GUESS: Duration = Duration::from_secs(600);

/// Where neither the server nor the settings say how long a refusal lasts.
const SHORTEST_GUESS: Duration = Duration::from_secs(1);

/// Where the documented lockout is nothing but a guess, a header that was too short was not shorter than by this factor.
const TOO_SHORT: u32 = 5;

/// What a 429 was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The trial was refused: the pause was too short.
    Trial,
    /// The trial was refused, and it may have been about the window and not about the pause.
    Early,
    /// Sent before the gate closed: the same event once more.
    SameBurst,
    /// A new event, to learn from.
    New,
}

/// Open, closed, or trying.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Gate {
    backoff: Duration,
    sure: bool,
    until: Duration,
    closed_at: Option<Duration>,
    pause: Duration,
    said: Duration,
    floor: Duration,
    trial: bool,
    trial_out: bool,
    /// Of this event.
    trials_refused: u32,
    /// What the last refusal said.
    told: Option<Duration>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl Gate {
    /// An open gate; `backoff` is the documented lockout.
    pub fn new(backoff: Duration) -> Self {
        let zero = Duration::ZERO;
        Self {
            backoff,
            sure: true,
            until: zero,
            closed_at: None,
            pause: backoff,
            said: backoff,
            floor: zero,
            trial: false,
            trial_out: false,
            trials_refused: 0,
            told: None,
        }
    }

    /// Nothing is documented, so `backoff` is a guess as well.
    #[must_use]
    pub(crate) fn unsure(self) -> Self {
        Self { sure: false, ..self }
    }

    /// Takes up what an earlier run learned.
    pub fn restore(&mut self, until: Option<Duration>, floor: Duration) {
        self.floor = floor.min(LONGEST_GUESS);
        self.pause = self.pause.max(self.floor);
        if let Some(until) = until {
            (self.until, self.trial) = (until, true);
        }
    }

    /// Whether nothing but a trial may be sent.
    pub fn is_closed(&self) -> bool {
        self.trial
    }

    /// When the trial may go, while the gate is closed.
    pub fn paused_until(&self) -> Option<Duration> {
        self.trial.then_some(self.until)
    }

    /// When it last closed: whatever had leave to go by then belongs to the same event.
    pub(crate) fn closed_at(&self) -> Option<Duration> {
        self.closed_at
    }

    /// How long refusals turned out to last at least.
    pub fn floor(&self) -> Duration {
        self.floor
    }

    /// How long the last refusal lasts by all that we know, without what is added for safety.
    pub(crate) fn said(&self) -> Duration {
        self.said
    }

    /// Whether the last refusal said how long it lasts.
    pub(crate) fn was_told(&self) -> bool {
        self.told.is_some()
    }

    /// How long the next refusal is likely to last.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// What to wait for, while it is closed.
    pub(crate) fn blocks(&self, now: Duration) -> Option<Decision> {
        if now < self.until {
            Some(Decision::WaitUntil(self.until))
        } else if self.trial && self.trial_out {
            Some(Decision::WaitForReply)
        } else {
            None
        }
    }

    /// The kind of a request that is sent now; a trial when the gate is closed.
    pub(crate) fn send(&mut self, kind: SlotKind) -> SlotKind {
        if !self.trial {
            return kind;
        }
        self.trial_out = true;
        SlotKind::Trial
    }

    /// An answer that was not a 429: the trial opens the gate.
    pub(crate) fn answered(&mut self, slot: &Slot) {
        if slot.kind == SlotKind::Trial {
            (self.trial, self.trial_out) = (false, false);
            if self.backoff.is_zero() {
                // Where nothing locks, the next wait is another one.
                self.floor = Duration::ZERO;
                self.pause = self.said.max(SHORTEST_GUESS).min(self.pause);
            }
        }
    }

    /// No answer: somebody else has to try.
    pub(crate) fn unanswered(&mut self, slot: &Slot) {
        if slot.kind == SlotKind::Trial {
            self.trial_out = false;
        }
    }

    /// A 429. `early`: it may be about the window and not about the pause.
    pub(crate) fn refused(&mut self, slot: &Slot, early: bool, said: Option<Duration>, now: Duration) -> Refusal {
        if slot.kind == SlotKind::Trial {
            if early && said.is_none_or(|said| padded(said) > self.pause) {
                self.close(said, now);
                return Refusal::Early;
            }
            let backoff = if self.sure { self.backoff } else { self.backoff.min(self.pause * TOO_SHORT) };
            let longer = match (said, self.closed_at) {
                // Something else may have come in between. Twice is no accident.
                (Some(said), Some(closed_at)) if self.trials_refused == 0 => now.saturating_sub(closed_at) + said,
                _ => self.pause * 2,
            };
            self.floor = longer.max(self.floor).max(backoff).max(SHORTEST_GUESS).min(LONGEST_GUESS);
            self.close(said, now);
            self.trials_refused += 1;
            return Refusal::Trial;
        }
        if self.trial || self.closed_at.is_some_and(|closed_at| slot.sent <= closed_at) {
            // A server that extends its lockout at every refusal means the last of them.
            if let (true, Some(said)) = (self.trial, said) {
                self.until = self.until.max(now + padded(said).max(self.floor));
            }
            return Refusal::SameBurst;
        }
        self.close(said, now);
        self.trials_refused = 0;
        Refusal::New
    }

    fn close(&mut self, said: Option<Duration>, now: Duration) {
        self.pause = match said {
            Some(said) => padded(said).max(self.floor),
            None => [self.floor, self.backoff].into_iter().find(|guess| !guess.is_zero()).unwrap_or(SHORTEST_GUESS),
        };
        self.told = said;
        self.said = said.map_or(self.pause, |said| said.max(self.floor));
        (self.until, self.closed_at) = (now + self.pause, Some(now));
        (self.trial, self.trial_out) = (true, false);
    }
}

/// Up to a second more: headers are rounded, and the server counts from when it answered.
fn padded(said: Duration) -> Duration {
    said.saturating_add(seconds((said.as_secs_f64() * 0.1).clamp(0.05, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn sent(at: Duration) -> Slot {
        Slot { sent: at, kind: SlotKind::Plain }
    }

    #[test]
    fn a_pause_is_a_little_longer_than_the_server_said_and_documented_where_it_said_nothing() {
        for (said, backoff, pause) in
            [(Some(s(60)), s(0), 61.0), (Some(s(2)), s(0), 2.2), (None, s(60), 60.0), (None, s(0), 1.0)]
        {
            let mut gate = Gate::new(backoff);

            assert_eq!(gate.refused(&sent(s(99)), false, said, s(100)), Refusal::New);

            assert_eq!(gate.paused_until(), Some(s(100) + Duration::from_secs_f64(pause)));
        }
    }

    #[test]
    fn a_burst_of_429s_is_one_event_and_the_longest_wait_counts() {
        let mut gate = Gate::new(s(60));
        assert_eq!(gate.refused(&sent(s(99)), false, Some(s(30)), s(100)), Refusal::New);

        assert_eq!(gate.refused(&sent(s(99)), false, Some(s(30)), s(110)), Refusal::SameBurst);
        assert_eq!(gate.refused(&sent(s(99)), false, None, s(111)), Refusal::SameBurst);

        assert_eq!(gate.paused_until(), Some(s(141)));
    }

    #[test]
    fn a_header_that_is_too_short_wastes_one_trial_and_is_not_believed_again() {
        let mut gate = Gate::new(s(60));
        gate.refused(&sent(s(99)), false, Some(s(12)), s(100));
        let trial = Slot { sent: s(114), kind: gate.send(SlotKind::Plain) };
        assert!(trial.is_trial());

        assert_eq!(gate.refused(&trial, false, Some(s(12)), s(115)), Refusal::Trial);
        assert_eq!(gate.paused_until(), Some(s(175)));
        let trial = Slot { sent: s(175), kind: gate.send(SlotKind::Plain) };
        gate.answered(&trial);
        gate.refused(&sent(s(200)), false, Some(s(12)), s(201));

        assert_eq!((gate.paused_until(), gate.floor()), (Some(s(261)), s(60)));
    }

    #[test]
    fn what_came_in_between_lengthens_a_wait_by_as_much_as_was_said_and_only_twice_is_no_accident() {
        let mut gate = Gate::new(s(0));
        gate.refused(&sent(s(99)), false, Some(s(58)), s(100));
        let trial = Slot { sent: s(159), kind: gate.send(SlotKind::Plain) };
        gate.refused(&trial, false, Some(s(1)), s(159));
        assert_eq!(gate.floor(), s(60));

        let trial = Slot { sent: s(220), kind: gate.send(SlotKind::Plain) };
        gate.refused(&trial, false, Some(s(1)), s(220));

        assert_eq!(gate.floor(), s(120));
    }

    #[test]
    fn where_nothing_locks_a_wait_is_forgotten_when_it_is_over_and_where_something_does_it_is_kept() {
        for (backoff, floor, pause) in [(s(0), s(0), s(1)), (s(4), s(4), s(4))] {
            let mut gate = Gate::new(backoff);
            gate.refused(&sent(s(99)), false, None, s(100));
            for refused in [true, false] {
                let now = gate.paused_until().unwrap();
                let trial = Slot { sent: now, kind: gate.send(SlotKind::Plain) };
                if refused {
                    gate.refused(&trial, false, Some(s(2)), now);
                } else {
                    gate.answered(&trial);
                }
            }

            assert_eq!(gate.floor(), if backoff.is_zero() { floor } else { floor.max(s(6)) });
            gate.refused(&sent(s(300)), false, None, s(300));

            assert_eq!(gate.paused_until(), Some(s(300) + if backoff.is_zero() { pause } else { s(6) }));
        }
    }

    #[test]
    fn guesses_double_up_to_ten_minutes() {
        let mut gate = Gate::new(s(0));
        let mut now = s(100);
        gate.refused(&sent(now), false, None, now);
        for _ in 0..20 {
            now = gate.paused_until().unwrap();
            let trial = Slot { sent: now, kind: gate.send(SlotKind::Plain) };
            gate.refused(&trial, false, None, now);
        }

        assert_eq!(gate.floor(), s(600));
    }
}
