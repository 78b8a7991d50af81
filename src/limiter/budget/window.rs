//! How long the window is: as documented, until answers say otherwise.
//!
//! A window that is too short shows in a refusal far below the size: it is longer, if the size fits a longer one. One that is too
//! long shows when the trial after a refusal is admitted though by our count nothing has come back yet.

use std::time::Duration;

use crate::limiter::budget::Budget;
use crate::limiter::budget::grow;
use crate::limiter::budget::learn::SAME;
use crate::limiter::budget::period;
use crate::limiter::machine::count;

/// A window holds no more than its size and this.
pub(super) const MORE: f64 = 1.15;

/// A window that would be less longer than this is the same.
const LONGER: f64 = 1.1;

/// A wait of less than this part of a window is a moment.
pub(super) const A_MOMENT: u32 = 16;

/// No window is longer than this because refusals look like it; a documented one may be.
const LONGEST: Duration = Duration::from_secs(600);

/// A trial that is admitted after less than this part of a window.
const MUCH_TOO_EARLY: u32 = 3;

impl Budget {
    /// A refusal: is the window longer than we thought? Then so it becomes.
    pub(super) fn fit_window(&mut self, now: Duration) -> bool {
        // Where the documented limit is kept in any case nothing would make it shorter again.
        let Some(longer) = self.longer_window(now).filter(|_| self.ceiling.is_infinite()) else { return false };
        self.n = self.size();
        self.set_window(longer, now);
        self.set_paced(None);
        self.why = "refused long before the limit: its window is longer";
        true
    }

    /// What was admitted since the gate last opened is as much as the size, but over more than a window.
    fn longer_window(&mut self, now: Duration) -> Option<Duration> {
        let since_opened = self.done.partition_point(|&at| at < self.reopened);
        let admitted = self.done.len() - since_opened;
        let n = self.size();
        if count(admitted) < SAME * n {
            return None;
        }
        let first = self.done.len() - admitted.min(whole(n));
        let since = now.saturating_sub(*self.done.get(first)?);
        let said = self.gate.said();
        // Over a longer time than that it is only that little was asked for.
        if since > said.max(if self.backoff.is_zero() { self.window } else { Duration::ZERO }) {
            return None;
        }
        let window = if self.backoff.is_zero() {
            since + said
        } else if since > self.window {
            said
        } else {
            return None;
        };
        let longer = if self.window == self.documented { LONGER } else { 1.0 };
        (window > self.window.mul_f64(longer) && self.most_in(since_opened, window) <= MORE * n).then_some(window)
    }

    /// The first refusal where no limit was known: the window is likely to be what the server has us wait for.
    pub(super) fn guess_window(&mut self, now: Duration) {
        let pause = self.gate.said();
        let first = self.done.partition_point(|&at| at + self.window <= now);
        let since = self.done.get(first).map_or(Duration::ZERO, |&at| now.saturating_sub(at));
        self.set_window(if self.backoff.is_zero() { since + pause } else { pause.min(self.window) }, now);
    }

    /// The first refusal of all, though the limit was kept, and over sooner than the window: before others are blamed, the trial
    /// shows whether the documented window is too long.
    pub(super) fn doubts_documented_window(&self) -> bool {
        self.event_at.is_none()
            && self.ceiling.is_infinite()
            && self.n.is_finite()
            && self.run.is_none()
            && self.paced.is_none()
            && self.admitted() >= SAME * self.n
            && self.gate.said() < self.window.mul_f64(SAME)
    }

    /// What was believed before others were taken for the cause.
    fn size(&self) -> f64 {
        if self.paced.is_some() { self.n.max(self.prior) } else { self.n }
    }

    /// Replies that a window of this length held at most.
    fn most_in(&self, from: usize, window: Duration) -> f64 {
        let (mut first, mut most) = (from, 0);
        for (last, &at) in self.done.iter().enumerate().skip(from) {
            while self.done[first] + window <= at {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        count(most)
    }

    /// Whether the trial may go before a slot comes back by our count.
    pub(super) fn may_open_early(&self) -> bool {
        // A bucket has one more after a moment, which says nothing of a window.
        let is_rate = self.paced.is_some()
            || (self.suspect.is_some() && self.backoff.is_zero())
            || self.gate.said() * A_MOMENT < self.window;
        self.early && self.ceiling.is_infinite() && !is_rate
    }

    /// Whether it opened earlier than it should less than a window ago.
    pub(super) fn is_window_in_doubt(&self, now: Duration) -> bool {
        self.may_open_early()
            && self.opened_at.is_some_and(|opened| now.saturating_sub(opened) < self.window.mul_f64(SAME))
    }

    /// The trial came through though by our count nothing has come back yet. Windows may begin at other times than we
    /// thought; much too early, or twice within a window, it is shorter.
    pub(super) fn opens_early(&mut self, now: Duration) {
        let (Some(&first), Some(refused)) = (self.done.get(self.old), self.event_at) else { return };
        let first = self.opened_at.map_or(first, |opened| opened.max(first));
        let twice = self.opened_at.is_some_and(|opened| now.saturating_sub(opened) < self.window.mul_f64(SAME));
        self.opened_at = Some(now);
        let (held, since) = (refused.saturating_sub(first), now.saturating_sub(first));
        // Where nothing locks, the end of a fixed window opens at any time, and finding out costs next to nothing.
        let much = !self.backoff.is_zero() && since < self.window / MUCH_TOO_EARLY;
        if twice || much {
            let said = self.gate.said();
            let shorter = if self.backoff.is_zero() || said < held { since } else { said.min(since) };
            self.set_window(shorter, now);
            self.why = "admitted long before a slot came back: the window is shorter";
        } else if since < self.window.mul_f64(SAME) {
            self.next_probe = now;
        }
        // What was sent in less time than we waited since is all back: at once where windows are fixed, or as fast as it was sent.
        let back = if now.saturating_sub(refused) >= held { refused } else { first };
        self.done.drain(..self.done.partition_point(|&at| at <= back));
        self.old = 0;
    }

    pub(super) fn set_window(&mut self, window: Duration, now: Duration) {
        let is_much_shorter = window < self.window / 2;
        self.window = window.clamp(Duration::from_millis(1), LONGEST.max(self.documented));
        self.old = 0;
        self.early = true;
        self.gap = grow::shortest_gap(self.window, self.backoff);
        if is_much_shorter {
            self.next_probe = self.next_probe.min(now + self.gap);
        }
        self.used(now);
        self.pace.set_period(period(self.window, self.n));
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
pub(super) fn whole(n: f64) -> usize {
    n.floor().max(1.0) as usize
}
