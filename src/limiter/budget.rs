//! The window budget: what the documentation allows is spent as a budget, not as a rate.
//!
//! A request takes one of `n` slots when it is sent and gives it back one window after its reply. Whatever the latency,
//! the order or the phase of the server's windows, that cannot break a rule of `n` requests per window, and it needs
//! neither pacing nor a safety margin. A 429 closes one gate for all; one trial opens it again.
//!
//! What a refusal teaches (`budget/learn.rs`) depends on what we were doing:
//!
//! - *probing* above what we knew: the limit is measured;
//! - where nothing locks and the window is in doubt, what goes through until the next one is the rate (`budget/measure.rs`);
//! - *bursting* and refused early: the limit is smaller, or it is a rate (a token bucket). The next window tells:
//!   a part of the burst, then evenly spaced requests. Refused at the same count: a smaller limit. Not refused: a rate;
//! - *bursting* and refused late, or *pacing*: others use the limit too, so make room.
//!
//! There are two ways up (`budget/grow.rs`). Above the documented limit a refusal would hurt for nothing, so a probe is paid for
//! out of a purse that fills slowly, and only goes out right after a burst, when we would have to wait anyway. Below it,
//! after a cut, the way back up is taken within ten minutes whether it is paid for or not, sooner where lockouts are short: the
//! neighbour may have left, and there the sooner the more is lost. A neighbour who is still there, or comes again, takes us back at once to
//! what held before. What a probe found is taken back by one refusal, for a window may have begun just then. The way back is taken in one burst; where that met a wall, evenly spaced from then on, because a rate refuses every burst.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::limiter::Outcome;
use crate::limiter::Pacing;
use crate::limiter::Settings;
use crate::limiter::budget::measure::Measurement;
use crate::limiter::budget::told::Room;
use crate::limiter::budget::told::Told;
use crate::limiter::budget::window::whole;
use crate::limiter::gate::Gate;
use crate::limiter::gate::Refusal;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Slot;
use crate::limiter::machine::SlotKind;
use crate::limiter::machine::count;
use crate::limiter::machine::seconds;
use crate::limiter::pace::Pace;
use crate::limiter::quota::Quota;
use crate::limiter::shared;
use crate::limiter::shared::infinite;
use crate::limiter::shared::times;

mod grow;
mod learn;
mod measure;
mod told;
mod window;

/// Pacing leaves this much for the error of two clocks.
const PACED_SHARE: f64 = 0.98;

/// A late turn may be made up for once.
const PACED_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// The window where none is documented: what rate limits are most often counted in.
const USUAL_WINDOW: Duration = Duration::from_secs(60);

/// Replies are remembered for so many windows.
const KEPT: u32 = 8;

/// A guess that the limit is a rate is doubted after so long without a refusal.
const CALM: Duration = Duration::from_secs(1800);
/// The state; one event is O(1) amortised.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    window: Duration,
    /// The window by the documentation.
    documented: Duration,
    backoff: Duration,
    reserve: f64,
    /// What we may use at most, ever.
    #[serde(with = "infinite")]
    ceiling: f64,
    /// What we may use by the documentation; the way back up ends there.
    #[serde(with = "infinite")]
    prior: f64,
    /// What we may use.
    #[serde(with = "infinite")]
    n: f64,
    in_flight: usize,
    /// Times of replies, oldest first; the first `old` of them no longer hold a slot, which their times tell whoever reads them.
    #[serde(with = "times")]
    done: VecDeque<Duration>,
    #[serde(skip)]
    old: usize,
    /// Times of refusals within the window. They hold no slot, but with them we never send more than the ceiling.
    #[serde(with = "times")]
    refused: VecDeque<Duration>,
    last_answer: Duration,
    /// When the first slot came back of a budget that was all in use, and the burst began that we are in.
    burst_at: Duration,
    gate: Gate,
    pace: Pace,
    paced: Option<Paced>,
    calm: Duration,
    suspect: Option<Suspect>,
    /// Others were noticed; until then a refusal is taken for theirs.
    crowded_until: Duration,
    /// After a pause among others, one goes ahead: the neighbours may have tripped the limit meanwhile.
    scout: bool,
    run: Option<Run>,
    purse: f64,
    purse_at: Duration,
    gap: Duration,
    /// The first probe since the last find that found nothing.
    in_vain_since: Option<Duration>,
    /// What was known before a probe found a little more: where a window began just then, it was luck.
    before_find: Option<f64>,
    /// What held among others before the way back up.
    held: Option<f64>,
    next_probe: Duration,
    recover_at: Duration,
    /// How many times longer than usual the way back up waits: others who stayed are likely to stay.
    patience: f64,
    measurement: Measurement,
    wall: Wall,
    /// Bursts met a wall on the way back up: it is walked at an even pace, which passes where the limit is a rate.
    even_way_up: bool,
    event_at: Option<Duration>,
    /// What a reply adds to `n` whose request was admitted before the refusal we learned from.
    late: f64,
    /// The trial after a refusal may go before a slot comes back: it finds out whether the window is shorter.
    early: bool,
    opened_at: Option<Duration>,
    told: Told,
    /// When the last trial came through.
    reopened: Duration,
    #[serde(skip, default = "shared::learned_elsewhere")]
    why: &'static str,
}

/// Why requests are evenly spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Paced {
    /// It was tested, or configured; since then.
    Known(Duration),
    /// It explains a refusal; since then.
    Guessed(Duration),
}

/// A refusal in the middle of a burst: is the limit smaller than we thought, or is it a rate?
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Suspect {
    n: f64,
    seen: f64,
    landed: f64,
}

/// What refused a burst where no limit was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Wall {
    /// It may be that of a bucket.
    InDoubt,
    Settled,
}

/// The way up, under way.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Run {
    from: f64,
    step: Step,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Step {
    /// So many at the end of a burst; whole, they count, and the next chunk is bigger.
    Chunk { size: f64, out: f64, landed: f64 },
    /// A bigger budget, since then.
    Window { since: Duration, number: usize },
    /// Spaced requests after a whole burst, ever nearer: a window refuses the first of them, a bucket has filled a little.
    Beyond { since: Duration, landed: f64, gap: Duration },
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

impl Budget {
    /// Believes the settings.
    pub fn new(settings: &Settings) -> Self {
        let (limit, window) = settings.limit.unwrap_or((f64::INFINITY, USUAL_WINDOW));
        let window = window.max(Duration::from_millis(1));
        let n = (limit * (1.0 - settings.reserve)).max(1.0);
        let zero = Duration::ZERO;
        Self {
            window,
            documented: window,
            backoff: settings.lockout,
            reserve: settings.reserve,
            ceiling: if settings.probe || n.is_infinite() { f64::INFINITY } else { n },
            prior: n,
            n,
            in_flight: 0,
            done: VecDeque::new(),
            old: 0,
            refused: VecDeque::new(),
            last_answer: zero,
            burst_at: zero,
            gate: if settings.limit.is_some() {
                Gate::new(settings.lockout)
            } else {
                Gate::new(settings.lockout).unsure()
            },
            pace: Pace::new(period(window, n), PACED_BURST),
            paced: (settings.shape == Pacing::Paced && n.is_finite()).then_some(Paced::Known(zero)),
            calm: CALM,
            suspect: None,
            crowded_until: zero,
            scout: false,
            run: None,
            purse: grow::PURSE_AT_START,
            purse_at: zero,
            gap: grow::shortest_gap(window, settings.lockout),
            in_vain_since: None,
            before_find: None,
            held: None,
            next_probe: zero,
            recover_at: zero,
            patience: 1.0,
            measurement: Measurement::NotYet,
            wall: Wall::Settled,
            even_way_up: false,
            event_at: None,
            late: 0.0,
            early: true,
            opened_at: None,
            told: Told::default(),
            reopened: zero,
            why: "nothing learned yet",
        }
    }

    /// Takes up the window that an earlier run learned, before the rest.
    pub(crate) fn restore_window(&mut self, window: Duration) {
        // A shorter one than documented is for those who may exceed what is documented.
        if window > self.window || self.ceiling.is_infinite() {
            self.set_window(window, Duration::ZERO);
        }
    }

    /// The window, where it is another than documented.
    pub(crate) fn learned_window(&self) -> Option<Duration> {
        (self.window != self.documented).then_some(self.window)
    }

    /// Takes up what an earlier run learned. `done` in order.
    pub fn restore(&mut self, n: Option<f64>, paced: bool, done: Vec<Duration>, now: Duration) {
        if let Some(n) = n {
            self.n = n.clamp(1.0, self.ceiling);
            if self.prior.is_infinite() {
                self.prior = self.n;
            }
            if paced && self.paced.is_none() {
                self.paced = Some(Paced::Guessed(now));
            }
            self.pace.set_period(period(self.window, self.n));
            self.recover_at = self.holds(false, now);
        }
        self.last_answer = done.last().copied().unwrap_or_default();
        self.done = done.into();
        self.told.restore(&self.done);
        self.purse_at = now;
    }

    /// Every slot that was free or came back until then counts as taken then.
    pub(crate) fn assume_spent(&mut self, until: Duration) {
        let back = self.done.partition_point(|&at| at + self.window <= until);
        self.done.drain(..back);
        while self.n.is_finite() && count(self.done.len()) + 1.0 <= self.n {
            self.done.push_back(until);
        }
        self.done.make_contiguous().sort_unstable();
    }

    pub(crate) fn acquire(&mut self, now: Duration) -> Decision {
        if let Some(wait) = self.gate.blocks(now) {
            return wait;
        }
        if self.scout && self.in_flight > 0 {
            return Decision::WaitForReply;
        }
        let used = count(self.used(now));
        if !self.gate.is_closed() {
            self.grow(now);
        }
        if let Some(&refused) = self.refused.front()
            && used + count(self.refused.len()) + 1.0 > self.ceiling
        {
            return Decision::WaitUntil(self.slot_returns().min(refused + self.window));
        }
        if !self.gate.is_closed()
            && let Some(decision) = self.as_told(now)
        {
            return decision;
        }
        let early = self.gate.is_closed() && self.may_open_early();
        if let Some(measure) = self.measuring(now) {
            return if measure.has_turn(self.in_flight) {
                self.send(SlotKind::Plain, now)
            } else {
                Decision::WaitForReply
            };
        }
        if self.has_enough_in_flight(used, now) {
            return Decision::WaitForReply;
        }
        if used + 1.0 <= self.n || used < 1.0 || early {
            // A slot came back by itself: the burst at whose end we probed is over. Where it found something, the
            // probe goes on at the end of the next.
            match &mut self.run {
                Some(Run { from, step: Step::Chunk { out, landed, .. } }) if self.n > 1.2 * *from => {
                    (*out, *landed) = (0.0, 0.0);
                }
                Some(Run { from, step: Step::Chunk { .. } | Step::Beyond { .. } }) => {
                    self.before_find = (*from >= self.prior && self.n > *from).then_some(*from);
                    self.run = None;
                }
                Some(Run { step: Step::Window { .. }, .. }) | None => {}
            }
            return self.send(SlotKind::Plain, now);
        }
        if used + 1.0 <= self.ceiling && self.paced.is_none() {
            if let Some(suspect) = self.suspect {
                let due = self.last_answer + period(self.window, suspect.n);
                return match (self.in_flight, now >= due) {
                    (0, true) => self.send(SlotKind::PaceTest, now),
                    (0, false) => Decision::WaitUntil(due.min(self.slot_returns())),
                    _ => Decision::WaitForReply,
                };
            }
            if let Some(due) = self.beyond() {
                return match (self.in_flight, now >= due) {
                    (0, true) => {
                        self.goes_beyond();
                        self.send(SlotKind::Probe, now)
                    }
                    (0, false) => Decision::WaitUntil(due.min(self.slot_returns())),
                    _ => Decision::WaitForReply,
                };
            }
            if !self.gate.is_closed() && self.may_probe(now) {
                return self.send(SlotKind::Probe, now);
            }
        }
        if self.done.len() > self.old { Decision::WaitUntil(self.slot_returns()) } else { Decision::WaitForReply }
    }

    fn send(&mut self, kind: SlotKind, now: Duration) -> Decision {
        if self.paced.is_some()
            && let Err(due) = self.pace.turn(now)
        {
            return Decision::WaitUntil(due);
        }
        let after_a_wait = self.in_flight == 0 && self.paced.is_none() && now >= self.last_answer + self.window / 4;
        self.scout = after_a_wait && now < self.crowded_until;
        if after_a_wait && count(self.done.len() - self.old) >= learn::SAME * self.n {
            self.burst_at = now;
        }
        self.in_flight += 1;
        self.told.sends(self.window, now);
        Decision::Send(Slot { sent: now, kind: self.gate.send(kind) })
    }

    /// One whose slot was given back for lost was on its way after all.
    pub(crate) fn found(&mut self) {
        self.in_flight += 1;
    }

    pub(crate) fn cancel(&mut self, slot: &Slot) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.gate.unanswered(slot);
        self.told.uncounted(slot.sent);
        if let (SlotKind::Probe, Some(Run { step: Step::Chunk { out, .. }, .. })) = (slot.kind, &mut self.run) {
            *out -= 1.0;
        }
    }

    pub(crate) fn reply(&mut self, slot: &Slot, outcome: Outcome, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Throttled { retry_after } => {
                self.told.uncounted(slot.sent);
                if self.ceiling.is_finite() {
                    self.refused.push_back(now);
                }
                let would_wait = self.would_wait(now);
                let early = slot.is_trial() && self.is_over(now);
                match self.gate.refused(slot, early, retry_after, now) {
                    Refusal::New => self.learn(slot.kind, would_wait, now),
                    Refusal::Early => self.early = false,
                    Refusal::Trial | Refusal::SameBurst => {}
                }
            }
            Outcome::Failed => {
                self.gate.unanswered(slot);
                self.done.push_back(now);
                if matches!(self.run, Some(Run { step: Step::Chunk { .. }, .. })) && slot.kind == SlotKind::Probe {
                    self.run = None;
                }
            }
            Outcome::Answered => {
                if slot.is_trial()
                    && !matches!(self.measurement, Measurement::UnderWay(_))
                    && self.may_open_early()
                    && self.is_over(now)
                {
                    self.opens_early(now);
                }
                if slot.is_trial() {
                    self.reopened = now;
                }
                self.gate.answered(slot);
                self.done.push_back(now);
                self.last_answer = now;
                if let Measurement::UnderWay(measure) = &mut self.measurement {
                    measure.admitted(slot);
                }
                self.admitted_one(slot, now);
            }
        }
    }

    /// What an answer said of the limit, before its reply.
    pub(crate) fn told(&mut self, slot: &Slot, quota: Quota, now: Duration) {
        self.told.heard(quota, slot.sent, self.in_flight.saturating_sub(1), self.window, now);
        if let Some(quota) = self.told.quota() {
            self.believe(quota, now);
        }
    }

    /// What is said of the limit, where it is believed: wait, or send without asking what we know ourselves.
    fn as_told(&mut self, now: Duration) -> Option<Decision> {
        match self.told.room(self.in_flight, now) {
            Room::Unknown => None,
            Room::None(_) | Room::Look if self.in_flight > 0 => Some(Decision::WaitForReply),
            Room::None(until) => Some(Decision::WaitUntil(until)),
            Room::Some | Room::Look => self.ceiling.is_infinite().then(|| self.send(SlotKind::Plain, now)),
        }
    }

    fn set_paced(&mut self, paced: Option<Paced>) {
        self.paced = paced;
        self.pace.set_period(period(self.window, self.n));
    }

    /// Whether one more is more than we may use.
    fn is_over(&mut self, now: Duration) -> bool {
        count(self.used(now)) + 1.0 > self.n
    }

    /// Slots in use.
    pub(crate) fn used(&mut self, now: Duration) -> usize {
        while self.done.get(self.old).is_some_and(|&at| at + self.window <= now) {
            self.old += 1;
        }
        // Kept longer, because a refusal counts back from the latest reply, and the window may be longer than we thought.
        while self.old > 0 && self.done.front().is_some_and(|&at| at + self.window * KEPT <= now) {
            self.done.pop_front();
            self.old -= 1;
        }
        while self.refused.front().is_some_and(|&at| at + self.window <= now) {
            self.refused.pop_front();
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

    /// Replies of the last burst before the gate closed and opened again.
    fn admitted_at_once(&self) -> f64 {
        let before = |time: Duration| self.done.partition_point(|&at| at < time);
        count(before(self.reopened).saturating_sub(before(self.burst_at)))
    }

    /// When the slots in use were taken, but for those of requests in flight.
    pub(crate) fn taken(&self, now: Duration) -> impl Iterator<Item = Duration> {
        self.done.iter().skip(self.old).copied().filter(move |&at| at + self.window > now)
    }

    /// About when the last of so many requests goes, if nothing is refused and nobody else sends; `None` while no limit is known.
    pub(crate) fn due(&mut self, requests: usize, now: Duration) -> Option<Duration> {
        let n = whole(self.limit()?);
        let opens = self.gate.paused_until().unwrap_or(now).max(now);
        let Some(last) = requests.checked_sub(1) else { return Some(now) };
        if self.paced.is_some() {
            return Some(opens + period(self.window, self.n).mul_f64(count(requests)));
        }
        let used = self.used(now);
        // When a slot is free: each is used again one window after that.
        let free = std::iter::repeat_n(now, n.saturating_sub(used))
            .chain(self.done.iter().skip(self.old).map(|&at| at + self.window))
            .chain(std::iter::repeat_n(now + self.window, self.in_flight));
        let free: Vec<Duration> = free.skip(used.saturating_sub(n)).map(|at| at.max(opens)).collect();
        let due = *free.get(last % n)? + self.window * u32::try_from(last / n).ok()?;
        let Some((back, whole_again)) = self.way_back().map(|(back, n)| (back.max(opens), whole(n))) else {
            return Some(due);
        };
        let windows = |since: Duration| 1 + back.saturating_sub(since).as_nanos() / self.window.as_nanos().max(1);
        let gone: u128 = free.iter().filter(|&&at| at <= back).map(|&at| windows(at)).sum();
        let later = u128::try_from(last).ok()?.saturating_sub(gone) / u128::try_from(whole_again).ok()?;
        Some(due.min(back + self.window * u32::try_from(later).ok()?))
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn set_in_flight(&mut self, in_flight: usize) {
        self.in_flight = in_flight;
    }

    /// Whether requests are evenly spaced.
    pub fn is_paced(&self) -> bool {
        self.paced.is_some()
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn gate_mut(&mut self) -> &mut Gate {
        &mut self.gate
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
