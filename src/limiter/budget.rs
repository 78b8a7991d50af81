//! The window budget: what the documentation allows is spent as a budget, not as a rate.
//!
//! A request takes one of `n` slots when it is sent and gives it back one window after its reply. Whatever the latency,
//! the order or the phase of the server's windows, that cannot break a rule of `n` requests per window, and it needs
//! neither pacing nor a safety margin. A 429 closes one gate for all; one trial opens it again. What a refusal
//! teaches depends on what we were doing: probing (the ceiling is measured), bursting (is the limit smaller, or is it a
//! rate? the next window tests it), or pacing (others are there: make room).
//!
//! Probing costs a lockout when it fails, so it is paid for out of a purse that fills slowly.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::limiter::Outcome;
use crate::limiter::Settings;
use crate::limiter::Shape;
use crate::limiter::gate::Gate;
use crate::limiter::gate::Refusal;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Slot;
use crate::limiter::machine::SlotKind;
use crate::limiter::machine::count;
use crate::limiter::machine::seconds;
use crate::limiter::pace::Pace;

/// Pacing leaves this much for the error of two clocks.
const PACED_SHARE: f64 = 0.98;

/// A late turn may be made up for once.
const PACED_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// The window where none is documented: what rate limits are most often counted in.
const USUAL_WINDOW: Duration = Duration::from_secs(60);

/// Seconds of pause that probing may cost: at first, earned per second, and at most.
const PURSE: (f64, f64, f64) = (3.0, 0.02, 90.0);

/// A neighbour who left is noticed after so long: the way back up then takes [`STEPS`] windows.
const HOLD: Duration = Duration::from_secs(600);

/// The first steps of the way back up after a cut; the next one is all the rest.
const STEPS: [f64; 2] = [1.3, 1.6];

/// A guess that the limit is a rate is doubted after so long without a refusal.
const CALM: Duration = Duration::from_secs(1800);
const LONGEST_CALM: Duration = Duration::from_secs(24 * 3600);

/// A chunk of a probe is at most this share of the budget: what is in flight at the refusal is refused as well.
const CHUNK_SHARE: f64 = 1.0 / 16.0;

const GAP: Duration = Duration::from_secs(120);
const LONGEST_GAP: Duration = Duration::from_secs(3600);
const LONGEST_GAP_WITHOUT_LOCKOUT: Duration = Duration::from_secs(240);

/// The state; one event is O(1) amortised.
#[derive(Debug)]
pub struct Budget {
    window: Duration,
    backoff: Duration,
    ceiling: f64,
    prior: f64,
    reserve: f64,
    n: f64,
    in_flight: usize,
    /// Times of replies, oldest first; the first `old` of them no longer hold a slot.
    done: VecDeque<Duration>,
    old: usize,
    last_answer: Duration,
    gate: Gate,
    paced: bool,
    pace: Pace,
    suspect: Option<Suspect>,
    run: Option<Run>,
    purse: f64,
    purse_at: Duration,
    next_probe: Duration,
    gap: Duration,
    recover_at: Duration,
    calm: Duration,
    paced_since: Option<Duration>,
    event_at: Option<Duration>,
    late: f64,
    why: &'static str,
}

/// A refusal in the middle of a burst: is the limit smaller than we thought, or is it a rate?
#[derive(Debug, Clone, Copy)]
struct Suspect {
    n: f64,
    seen: f64,
    landed: f64,
}

/// A probe under way.
#[derive(Debug, Clone, Copy)]
struct Run {
    from: f64,
    chunk: f64,
    out: f64,
    landed: f64,
    since: Duration,
    factor: f64,
    ramp: bool,
}

impl Budget {
    /// Believes the settings.
    pub fn new(settings: &Settings) -> Self {
        let (limit, window) = settings.limit.unwrap_or((f64::INFINITY, USUAL_WINDOW));
        let n = (limit * (1.0 - settings.reserve)).max(1.0);
        let paced = settings.shape == Shape::Paced && n.is_finite();
        Self {
            window,
            backoff: settings.lockout,
            ceiling: if settings.probe || n.is_infinite() { f64::INFINITY } else { n },
            prior: n,
            reserve: settings.reserve,
            n,
            in_flight: 0,
            done: VecDeque::new(),
            old: 0,
            last_answer: Duration::ZERO,
            gate: Gate::new(settings.lockout),
            paced,
            pace: Pace::new(period(window, n), PACED_BURST),
            suspect: None,
            run: None,
            purse: PURSE.0,
            purse_at: Duration::ZERO,
            next_probe: Duration::ZERO,
            gap: GAP,
            recover_at: Duration::ZERO,
            calm: CALM,
            paced_since: None,
            event_at: None,
            late: 0.0,
            why: "nothing learned yet",
        }
    }

    pub(crate) fn acquire(&mut self, now: Duration) -> Decision {
        if let Some(wait) = self.gate.blocks(now) {
            return wait;
        }
        let used = count(self.used(now));
        if !self.gate.is_closed() {
            self.recover(now);
        }
        if used < 1.0 || used + 1.0 <= self.n {
            if !self.paced && used + 1.0 <= self.n && self.run.is_some_and(|run| !run.ramp) {
                // The window rolled by itself.
                self.run = None;
            }
            return self.send(SlotKind::Plain, now);
        }
        if used + 1.0 <= self.ceiling {
            if let (Some(suspect), false) = (self.suspect, self.paced) {
                let due = self.last_answer + period(self.window, suspect.n);
                return match (self.in_flight, now >= due) {
                    (0, true) => self.send(SlotKind::PaceTest, now),
                    (0, false) => Decision::WaitUntil(due.min(self.slot_returns())),
                    _ => Decision::WaitForReply,
                };
            }
            if !self.paced && !self.gate.is_closed() && self.may_probe(now) {
                return self.send(SlotKind::Probe, now);
            }
        }
        if self.done.len() > self.old { Decision::WaitUntil(self.slot_returns()) } else { Decision::WaitForReply }
    }

    pub(crate) fn cancel(&mut self, slot: &Slot, _now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.gate.unanswered(slot);
        if let (SlotKind::Probe, Some(run)) = (slot.kind, &mut self.run) {
            run.out -= 1.0;
        }
    }

    pub(crate) fn reply(&mut self, slot: &Slot, outcome: Outcome, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Throttled { retry_after } => self.throttled(slot, retry_after, now),
            Outcome::Failed => {
                self.gate.unanswered(slot);
                self.done.push_back(now);
            }
            Outcome::Answered => {
                self.gate.answered(slot);
                self.done.push_back(now);
                self.last_answer = now;
                self.landed(slot);
            }
        }
    }

    fn landed(&mut self, slot: &Slot) {
        if self.event_at.is_some_and(|event| slot.sent <= event) {
            // Admitted before the refusal that we already counted.
            self.n += self.late;
        }
        match slot.kind {
            SlotKind::Probe => {
                if let Some(run) = &mut self.run {
                    run.landed += 1.0;
                    if run.landed >= run.chunk {
                        self.n += run.chunk;
                        let chunk = (run.chunk * 2.0).min((self.n * CHUNK_SHARE).floor().max(1.0));
                        *run = Run { chunk, out: 0.0, landed: 0.0, ..*run };
                        self.why = "more than the known limit was admitted";
                    }
                }
            }
            SlotKind::PaceTest => {
                if let Some(suspect) = &mut self.suspect {
                    suspect.landed += 1.0;
                    if suspect.landed >= (suspect.seen - self.n) + (0.1 * suspect.n).max(5.0) {
                        self.n = suspect.n;
                        self.suspect = None;
                        self.set_paced(true, None);
                        self.why = "it is a rate: evenly spaced requests go through where a burst did not";
                    }
                }
            }
            SlotKind::Plain | SlotKind::Trial => {}
        }
    }

    fn throttled(&mut self, slot: &Slot, said: Option<Duration>, now: Duration) {
        let guess = self.would_wait(now);
        if self.gate.refused(slot, said, now) != Refusal::New {
            return;
        }
        let admitted = self.admitted().max(1.0);
        let run = self.run.take();
        self.late = 0.0;
        if self.n.is_infinite() {
            self.why = "no limit was known; a refusal measured it";
            self.n = admitted * (1.0 - self.reserve);
        } else if let Some(run) = run.filter(|run| run.ramp && run.from < self.prior) {
            self.why = "refused on the way back up: others still use the limit";
            self.n = run.from.min(admitted);
        } else if let Some(run) = run {
            self.purse -= (self.gate.pause().as_secs_f64() - guess).max(1.0);
            self.why = "a probe measured the limit";
            if self.paced {
                self.n = run.from.max(0.8 * self.n);
            } else {
                self.n = (admitted * (1.0 - self.reserve)).max(run.from.min(admitted));
                self.late = 1.0;
            }
            self.gap = if admitted < 1.1 * run.from {
                let longest = if self.backoff.is_zero() { LONGEST_GAP_WITHOUT_LOCKOUT } else { LONGEST_GAP };
                (self.gap * 2).min(longest)
            } else {
                GAP
            };
        } else if self.paced && admitted < self.n / 2.0 {
            self.n = admitted;
            self.set_paced(false, None);
        } else if self.paced {
            self.n = 0.85 * admitted.min(self.n);
        } else if let Some(suspect) = self.suspect.take() {
            if slot.kind == SlotKind::PaceTest && admitted >= 0.85 * suspect.seen {
                if (admitted - suspect.seen).abs() <= (0.02 * admitted).max(1.0) {
                    // The same count twice is no neighbour.
                    self.prior = admitted;
                }
                self.n = admitted;
                self.late = 1.0;
            } else {
                self.set_paced(true, Some(now));
                self.n = suspect.n;
            }
        } else if admitted >= 0.85 * self.n {
            self.set_paced(true, Some(now));
        } else {
            self.suspect = Some(Suspect { n: self.n, seen: admitted, landed: 0.0 });
            self.n = 0.9 * admitted;
            self.late = 0.9;
        }
        self.n = self.n.max(1.0);
        self.pace.set_period(period(self.window, self.n));
        self.event_at = Some(now);
        self.next_probe = now + self.gap;
        self.recover_at = now + HOLD.saturating_sub(self.window * 3).max(self.window * 2);
    }

    fn may_probe(&mut self, now: Duration) -> bool {
        if let Some(run) = &mut self.run {
            if !run.ramp && run.out < run.chunk {
                run.out += 1.0;
                return true;
            }
            return false;
        }
        self.earn(now);
        let cost = self.gate.pause().as_secs_f64() + 1.0 - self.would_wait(now);
        if self.in_flight > 0 || now < self.next_probe || self.purse < cost.max(1.0) {
            return false;
        }
        self.run = Some(Run { from: self.n, chunk: 1.0, out: 1.0, landed: 0.0, since: now, factor: 1.0, ramp: false });
        true
    }

    /// The way back up after a cut: the documented limit counts for more the longer ago the cut was. Above it, only
    /// pacing needs this: bursts probe at their end.
    fn recover(&mut self, now: Duration) {
        if self.paced
            && self.n >= self.prior
            && self.paced_since.is_some_and(|since| now >= self.event_at.unwrap_or(since).max(since) + self.calm)
        {
            self.calm = (self.calm * 2).min(LONGEST_CALM);
            self.why = "no refusal for long: bursts are tried again";
            self.set_paced(false, None);
        }
        let bound = if self.n < self.prior {
            self.prior
        } else if self.paced {
            self.ceiling
        } else {
            return;
        };
        if self.n >= bound || self.suspect.is_some() {
            return;
        }
        let below = self.n < self.prior;
        let (start, factor) = match self.run {
            Some(run) => (run.ramp && now >= run.since + self.window, run.factor),
            None if below => (now >= self.recover_at, STEPS[0]),
            None => {
                self.earn(now);
                (now >= self.next_probe && self.purse > self.gate.pause().as_secs_f64() + 1.0, 1.1)
            }
        };
        if start && (below || self.admitted() >= 0.85 * self.n) {
            let from = self.run.map_or(self.n, |run| run.from);
            let next = match below {
                false => factor,
                true if self.run.is_none() => STEPS[1],
                true => f64::INFINITY,
            };
            self.run = Some(Run { from, chunk: 0.0, out: 0.0, landed: 0.0, since: now, factor: next, ramp: true });
            self.n = (self.n * factor).min(bound);
            self.why = "nothing was refused for a while";
            self.pace.set_period(period(self.window, self.n));
            if below && self.n >= self.prior {
                self.run = None;
            }
        }
    }

    fn send(&mut self, kind: SlotKind, now: Duration) -> Decision {
        if self.paced
            && let Err(due) = self.pace.turn(now)
        {
            return Decision::WaitUntil(due);
        }
        self.in_flight += 1;
        Decision::Send(Slot { sent: now, kind: self.gate.send(kind) })
    }

    /// `since`: only guessed, at that time.
    fn set_paced(&mut self, paced: bool, since: Option<Duration>) {
        (self.paced, self.paced_since) = (paced, since);
        self.pace.set_period(period(self.window, self.n));
    }

    /// Slots in use.
    pub(crate) fn used(&mut self, now: Duration) -> usize {
        while self.done.get(self.old).is_some_and(|&at| at + self.window <= now) {
            self.old += 1;
        }
        while self.done.front().is_some_and(|&at| at + self.window * 2 <= now) {
            self.done.pop_front();
            self.old -= 1;
        }
        self.in_flight + self.done.len() - self.old
    }

    fn slot_returns(&self) -> Duration {
        self.done.get(self.old).map_or(Duration::MAX, |&at| at + self.window)
    }

    /// Seconds until a slot returns by itself.
    fn would_wait(&self, now: Duration) -> f64 {
        self.done.get(self.old).map_or(0.0, |&at| (at + self.window).saturating_sub(now).as_secs_f64())
    }

    /// Replies in the window that ended with the latest.
    fn admitted(&self) -> f64 {
        let Some(&last) = self.done.back() else { return 0.0 };
        count(self.done.len() - self.done.partition_point(|&at| at + self.window <= last))
    }

    fn earn(&mut self, now: Duration) {
        self.purse = (self.purse + PURSE.1 * now.saturating_sub(self.purse_at).as_secs_f64()).min(PURSE.2);
        self.purse_at = now;
    }

    /// Takes up what an earlier run learned. `done` in order.
    pub fn restore(&mut self, n: Option<f64>, paced: bool, done: Vec<Duration>, now: Duration) {
        if let Some(n) = n {
            self.n = n.clamp(1.0, self.ceiling.max(1.0));
            self.set_paced(self.paced || paced, None);
        }
        self.last_answer = done.last().copied().unwrap_or_default();
        self.done = done.into();
        self.purse_at = now;
    }

    /// When the slots in use were taken: in flight means now.
    pub(crate) fn taken(&self, now: Duration) -> impl Iterator<Item = Duration> {
        let replied = self.done.iter().skip(self.old).copied().filter(move |&at| at + self.window > now);
        replied.chain(std::iter::repeat_n(now, self.in_flight))
    }

    /// Whether requests are spaced evenly.
    pub fn is_paced(&self) -> bool {
        self.paced
    }

    pub(crate) fn gate_mut(&mut self) -> &mut Gate {
        &mut self.gate
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn why(&self) -> &'static str {
        self.why
    }

    pub(crate) fn limit(&self) -> Option<f64> {
        self.n.is_finite().then_some(self.n)
    }

    pub(crate) fn rate(&self) -> Option<f64> {
        self.limit().map(|n| n / self.window.as_secs_f64())
    }
}

fn period(window: Duration, n: f64) -> Duration {
    seconds(window.as_secs_f64() / (PACED_SHARE * n))
}
