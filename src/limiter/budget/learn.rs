//! What an answer teaches, and what a refusal does.

use std::time::Duration;

use crate::limiter::budget::Budget;
use crate::limiter::budget::Paced;
use crate::limiter::budget::Run;
use crate::limiter::budget::Step;
use crate::limiter::budget::Suspect;
use crate::limiter::budget::Wall;
use crate::limiter::budget::grow;
use crate::limiter::budget::period;
use crate::limiter::machine::Slot;
use crate::limiter::machine::SlotKind;
use crate::limiter::quota::Quota;

/// What is left to us when others use the limit too; a little less than was, so that they have room to vary.
const CUT: f64 = 0.85;

/// The same where nothing locks: a refusal costs its own request and no more, and what we leave and they do not use is lost.
const CUT_WITHOUT_LOCKOUT: f64 = 0.97;

/// The same where the way back up just failed: what was admitted then was more than is left on other days.
const FAILED_CUT: f64 = 0.7;

/// What held among others before the way back up is left to us again when they are; not less than this share of what was admitted.
const LEAST_HELD: f64 = 0.5;

/// A find of more than this is one.
pub(super) const A_FIND: f64 = 1.1;

/// Where a window began in the middle of a probe, it found at most so much more than there is.
const LUCK: f64 = 2.05;

/// Two counts this near to each other are the same.
pub(super) const SAME: f64 = 0.85;

/// In the first burst of all there is no earlier one that could be in its way: only this much of the budget is all of it.
const SAME_AT_FIRST: f64 = 0.95;

/// A limit this far below the documented one may be the burst of a bucket that neighbours keep empty.
const LIKE_A_BURST: f64 = 0.3;

/// A guess that the limit is a rate is as good as tested after so many windows without a refusal.
const HELD: u32 = 5;

/// So many go through by chance, where a window began just then.
const BY_CHANCE: f64 = 3.0;

/// From then on each of them goes so much sooner, until the bucket is empty again.
const NEARER: f64 = 0.7;

/// After a way back up that failed, the next one waits so much longer, up to so many times; after a refusal that came while
/// nothing was tried, less again: somebody came who may leave.
const PATIENCE_GROWS: f64 = 2.0;
const MOST_PATIENCE: f64 = 6.0;

/// Probes that find nothing go on at the shortest distance for so many times that distance. From then on each next one waits
/// so much longer, because a lockout hurts others as well.
const TRIES: f64 = 5.0;
const GAP_GROWS: f64 = 4.0;
const LONGEST_GAP: Duration = Duration::from_secs(3600);

/// A chunk of a probe is at most this share of the budget: what is in flight at the refusal is refused as well.
const CHUNK_SHARE: f64 = 1.0 / 24.0;

impl Budget {
    pub(super) fn admitted_one(&mut self, slot: &Slot, now: Duration) {
        if self.event_at.is_some_and(|event| slot.sent <= event) {
            self.n = (self.n + self.late).min(self.ceiling);
            if let (Some(suspect), true) = (&mut self.suspect, self.late > 0.0) {
                suspect.seen += 1.0;
            }
        }
        match (slot.kind, &mut self.run, &mut self.suspect) {
            (SlotKind::Probe, Some(Run { from, step: Step::Chunk { size, out, landed } }), _) => {
                *landed += 1.0;
                if *landed >= *size {
                    if *from < self.prior {
                        self.held = Some(*from);
                    }
                    // The way back up ends where the documentation does.
                    let bound = if *from < self.prior { self.prior } else { self.ceiling };
                    self.n = (self.n + *size).min(bound);
                    // The more there is, the bolder; not on the way back up, where a wall may be met.
                    let found = if *from < self.prior { 0.0 } else { self.n - *from };
                    *size = (*size * 2.0).min((self.n * CHUNK_SHARE).max(found / 4.0).floor().max(1.0));
                    (*out, *landed) = (0.0, 0.0);
                    self.why = "more was admitted than the limit known so far";
                    if self.n >= bound {
                        self.run = None;
                    }
                }
            }
            (SlotKind::Probe, Some(Run { step: Step::Beyond { landed, gap, .. }, .. }), _) => {
                *landed += 1.0;
                if *landed >= BY_CHANCE {
                    *gap = gap.mul_f64(NEARER);
                }
            }
            (SlotKind::PaceTest, _, Some(suspect)) => {
                suspect.landed += 1.0;
                if suspect.landed >= (suspect.seen - self.n) + (0.1 * suspect.n).max(5.0) {
                    self.n = suspect.n;
                    self.suspect = None;
                    self.set_paced(Some(Paced::Known(now)));
                    self.why = "the limit is a rate: evenly spaced requests went through where a burst did not";
                }
            }
            (SlotKind::Probe | SlotKind::PaceTest | SlotKind::Plain | SlotKind::Trial, _, _) => {}
        }
    }

    /// A new refusal. `would_wait`: seconds that we would have had to wait anyway.
    pub(super) fn learn(&mut self, kind: SlotKind, would_wait: f64, now: Duration) {
        if self.told.explains_refusal(now) {
            // Others were quicker: answers tell how much they need.
            self.event_at = Some(now);
            return;
        }
        if self.should_measure(would_wait) {
            self.measures(now);
            return;
        }
        if self.n.is_finite()
            && !matches!(self.paced, Some(Paced::Known(_)))
            && self.fit_window(now)
            && self.run.is_none()
        {
            self.suspect = None;
            self.event_at = Some(now);
            self.next_probe = now + self.gap;
            return;
        }
        if self.is_window_in_doubt(now) && self.admitted() >= SAME * self.n && self.run.is_none() {
            self.event_at = Some(now);
            return;
        }
        if self.doubts_documented_window() {
            self.event_at = Some(now);
            return;
        }
        let is_first = self.n.is_infinite();
        if is_first {
            self.guess_window(now);
        }
        let admitted = self.admitted().max(1.0);
        let run = self.run.take();
        let suspect = self.suspect.take();
        self.late = 0.0;
        let mut met_again = false;
        if is_first {
            self.n = (admitted * (1.0 - self.reserve)).max(1.0);
            self.prior = self.n;
            self.late = 1.0;
            if self.backoff.is_zero() {
                self.measures(now);
            }
            self.wall = if self.backoff.is_zero() { Wall::Settled } else { Wall::InDoubt };
            self.why = "no limit was known; a refusal measured it";
        } else if let Some(run) = run {
            self.learn_from_run(run, admitted, would_wait, now);
        } else if let Some(paced) = self.paced {
            let held = match paced {
                Paced::Known(_) => true,
                Paced::Guessed(since) => now >= since + self.window * HELD,
            };
            let far_less = admitted < self.n / 2.0;
            // Tested only just: what a window admits at this pace is not known yet.
            let untold = matches!(paced, Paced::Known(since) if now < since + self.window);
            self.make_room(if untold { self.n } else { admitted }, now);
            if !held && far_less {
                // Of a burst no more is admitted than there is; at this pace a window may have begun meanwhile.
                let at_once = self.admitted_at_once();
                let is_of_two = (A_FIND * at_once..LUCK * at_once).contains(&admitted);
                self.n = if is_of_two { at_once } else { admitted };
                self.set_paced(None);
            } else if !held && !self.backoff.is_zero() {
                // It was only a guess, and evenly spaced requests were refused as well. Bursts cost less then: the
                // lockout passes while we would wait anyway.
                self.set_paced(None);
            }
        } else if let Some(suspect) = suspect {
            if kind == SlotKind::PaceTest && admitted >= SAME * suspect.seen {
                self.n = admitted;
                self.late = 1.0;
                self.even_way_up |= admitted < LIKE_A_BURST * suspect.n;
                self.why = "refused twice at the same count: this is the limit";
            } else {
                self.n = suspect.n;
                self.set_paced(Some(Paced::Guessed(now)));
                self.why = "refused at no fixed count: trying evenly spaced requests";
            }
        } else if now < self.crowded_until {
            self.make_room(admitted, now);
            met_again = true;
        } else if let Some(before) = self.luck(admitted) {
            self.n = before;
            self.gap = self.longer_gap();
            self.why = "refused right after a probe had found a little more: that was luck";
        } else if admitted >= if self.burst_at.is_zero() { SAME_AT_FIRST } else { SAME } * self.n {
            self.set_paced(Some(Paced::Guessed(now)));
            self.why = "refused though the limit was kept: trying evenly spaced requests";
        } else {
            self.suspect = Some(Suspect { n: self.n, seen: admitted, landed: 0.0 });
            self.n = 0.9 * admitted;
            self.late = 0.9;
            self.why = "refused in the middle of a burst: the next one shows whether the limit is smaller or a rate";
        }
        self.n = self.n.max(1.0);
        self.pace.set_period(period(self.window, self.n));
        self.event_at = Some(now);
        // The first measure may be a stray refusal's: it is doubted at once.
        self.next_probe = if is_first { now } else { now + self.gap };
        self.recover_at = self.holds(met_again, now);
    }

    fn learn_from_run(&mut self, run: Run, admitted: f64, would_wait: f64, now: Duration) {
        if let Step::Beyond { since, landed, .. } = run.step {
            self.wall = Wall::Settled;
            if landed >= BY_CHANCE {
                let rate = landed / now.saturating_sub(since).as_secs_f64();
                self.n = (rate * self.window.as_secs_f64() * (1.0 - self.reserve)).max(run.from);
                self.prior = self.n;
                self.set_paced(Some(Paced::Known(now)));
                self.why = "spaced requests went through after a burst that was all: the limit is a rate";
            } else {
                self.n = run.from;
            }
            return;
        }
        if run.from < self.prior {
            self.n = match run.step {
                Step::Chunk { .. } | Step::Beyond { .. } => run.from.max(FAILED_CUT * admitted).min(admitted),
                Step::Window { .. } => run.from.min(admitted),
            };
            if self.even_way_up && matches!(self.paced, Some(Paced::Guessed(_))) && !self.backoff.is_zero() {
                self.set_paced(None);
            }
            self.even_way_up = true;
            self.held = None;
            self.patience = (self.patience * PATIENCE_GROWS).min(MOST_PATIENCE);
            self.crowded_until = now + grow::HOLD * 2;
            self.why = "refused on the way back up: others still use the limit";
            return;
        }
        if matches!(run.step, Step::Chunk { .. }) && (A_FIND * run.from..LUCK * run.from).contains(&admitted) {
            self.before_find = Some(run.from);
        }
        self.purse -= (self.gate.pause().as_secs_f64() - would_wait).max(1.0);
        match run.step {
            Step::Chunk { .. } | Step::Beyond { .. } => {
                self.n = (admitted * (1.0 - self.reserve)).max(run.from.min(admitted));
                self.late = 1.0;
            }
            Step::Window { .. } => self.n = run.from.max(0.8 * self.n),
        }
        let found = admitted >= A_FIND * run.from.max(self.prior);
        let since = *self.in_vain_since.get_or_insert(now);
        if found && admitted >= LUCK * run.from {
            self.in_vain_since = Some(now);
        }
        let shortest = grow::shortest_gap(self.window, self.backoff);
        self.gap = if found || now <= since + shortest.mul_f64(TRIES) { shortest } else { self.longer_gap() };
        self.why = "a probe measured the limit";
    }

    /// Answers have proved to tell the limit.
    pub(super) fn believe(&mut self, quota: Quota, now: Duration) {
        let n = quota.limit.map_or(self.n, |limit| (limit * (1.0 - self.reserve)).max(1.0)).min(self.ceiling);
        let window = quota.window.filter(|_| self.ceiling.is_infinite()).unwrap_or(self.window);
        if self.n.total_cmp(&n).is_eq() && window == self.window {
            return;
        }
        self.n = n;
        if self.prior.is_infinite() {
            self.prior = n;
        }
        (self.suspect, self.run) = (None, None);
        self.set_window(window, now);
        self.set_paced(None);
        self.why = "answers tell the limit, and proved to be right";
    }

    /// What was known before the last find, if that explains a refusal.
    fn luck(&mut self, admitted: f64) -> Option<f64> {
        let before = self.before_find.take()?;
        if self.n > LUCK * before || admitted < SAME * before {
            return None;
        }
        // That may have been luck as well.
        self.before_find = (before > self.prior).then_some(self.prior);
        Some(before)
    }

    fn longer_gap(&self) -> Duration {
        let shortest = grow::shortest_gap(self.window, self.backoff);
        let longest = if self.backoff.is_zero() { shortest } else { LONGEST_GAP.max(shortest) };
        self.gap.mul_f64(GAP_GROWS).min(longest)
    }

    fn make_room(&mut self, admitted: f64, now: Duration) {
        let least = LEAST_HELD * admitted;
        self.n = if self.backoff.is_zero() { CUT_WITHOUT_LOCKOUT } else { CUT } * admitted.min(self.n);
        // They are back, or never left, and so is what held then.
        if let Some(held) = self.held.take()
            && !self.backoff.is_zero()
        {
            self.n = self.n.min(held.max(least));
        }
        self.patience = (self.patience / PATIENCE_GROWS).max(1.0);
        self.crowded_until = now + grow::HOLD * 2;
        self.why = "refused though the limit was kept: others use it too";
    }
}
