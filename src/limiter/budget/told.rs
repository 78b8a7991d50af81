//! What answers say of the limit, once it has proved true.
//!
//! It is believed from when it was seen to count down with our own requests, and no longer when it stands still or rises for no
//! reason. What is left tells how many the others sent. One of ours goes if, by the most that they lately sent, there is
//! enough left for them at any time until what is in use comes back.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::limiter::machine::count;
use crate::limiter::quota::Quota;
use crate::limiter::shared::times;

/// Believed from so many steps down on, and never more firmly than after so many.
const BELIEVED: u32 = 3;
const FIRMLY: u32 = 8;

/// Before anything is known of the others they are taken to use this share of the limit.
const BEFORE: f64 = 0.7;

/// Whatever they use, as much is ours.
const OURS: f64 = 0.15;

/// The others' requests come at random: so many deviations above the mean are left to them, and where one of ours
/// would show how many they were, a little less.
const DEVIATIONS: f64 = 4.0;
const DEVIATIONS_TO_LOOK: f64 = 2.0;

/// What the others sent in this part of a window is their rate.
const RATE: u32 = 4;

/// After that part of a window others have hardly come.
const SOON: u32 = 8;

/// What they sent since we last looked came evenly.
const PARTS: u32 = 4;

/// Others who were there are likely to come again: of the most that they sent, half is expected after so long.
const HALF_FORGOTTEN: Duration = Duration::from_secs(600);

/// Where windows slide, it is looked ahead at so many times within one, soon more often than later.
const TIMES: u32 = 16;

/// A reset is rounded up to whole seconds.
const ROUNDED: Duration = Duration::from_secs(1);

/// What is seen of us may be so much off: requests overtake one another.
const SLACK: f64 = 2.0;
const SLACK_SHARE: f64 = 0.02;

/// Where little is left, one of ours finds out how much after this part of a window.
const LOOKS: u32 = 32;

/// What answers said last, and what was sent.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    last: Option<Last>,
    steps: u32,
    /// When ours were sent, and when the others were noticed and how many.
    #[serde(with = "times")]
    ours: VecDeque<Duration>,
    others: VecDeque<(Duration, f64)>,
    /// Requests of others per second, at the most, lately.
    most: f64,
    seen: bool,
    noticed_at: Duration,
    came: f64,
    came_since: Duration,
    /// An answer took so long at most, lately.
    lag: Duration,
    /// Everything in use came back at once, or earlier than one window after it was sent.
    rolls: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Last {
    quota: Quota,
    limit: f64,
    window: Duration,
    sent: Duration,
    at: Duration,
    /// When there is more.
    until: Duration,
}

/// Whether one more may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Room {
    /// Nothing is said, or nothing that is believed.
    Unknown,
    /// There is room.
    Some,
    /// One finds out, once no other is under way.
    Look,
    /// Not before then.
    None(Duration),
}

impl Told {
    /// One of ours goes.
    pub fn sends(&mut self, window: Duration, now: Duration) {
        let window = self.last.map_or(window, |last| last.window);
        while self.ours.front().is_some_and(|&at| at + window * 2 <= now) {
            self.ours.pop_front();
        }
        self.ours.push_back(now);
    }

    /// One that was to be sent then was not, or was refused.
    pub fn uncounted(&mut self, sent: Duration) {
        if let Some(last) = self.ours.partition_point(|&at| at <= sent).checked_sub(1) {
            self.ours.remove(last);
        }
    }

    /// What the answer said to a request that was sent then; `window` is what we believe. `beside`: so many others of
    /// ours are under way, which may have been counted or not.
    pub fn heard(&mut self, quota: Quota, sent: Duration, beside: usize, window: Duration, now: Duration) {
        if let Some(last) = self.last.as_mut().filter(|last| sent < last.sent) {
            // Overtaken; or was the other?
            last.quota.remaining = last.quota.remaining.min(quota.remaining);
            return;
        }
        let alone = beside == 0;
        self.lag = now.saturating_sub(sent).max(self.lag * 15 / 16);
        // What says more is not taken at its word: then one of ours finds out.
        let until = now + quota.reset.min(window * 2);
        let window = quota.window.unwrap_or(window);
        let slid = self.held(sent, window);
        let limit = quota.limit.unwrap_or_else(|| quota.remaining + count(slid));
        let is_next = self.last.is_some_and(|last| now >= last.until);
        if let Some(last) = self.last {
            let faded = 0.5_f64.powf(now.saturating_sub(last.at).as_secs_f64() / HALF_FORGOTTEN.as_secs_f64());
            self.most *= faded;
        } else {
            self.most = BEFORE * limit / window.as_secs_f64();
            self.noticed_at = now;
            self.came_since = now;
        }
        let slack = SLACK + SLACK_SHARE * limit;
        if alone && count(slid) > slack {
            let came_back = quota.remaining > limit - count(slid) + slack;
            match self.last {
                // What is in use then comes back one by one, or all of it.
                Some(last) if is_next && now < last.until + window / SOON => {
                    self.rolls = came_back && until > last.until + window / 2;
                }
                Some(_) | None => self.rolls |= came_back,
            }
        }
        // How long ago the first of those was sent that count.
        let age = if self.rolls { window.saturating_sub(until.saturating_sub(now + ROUNDED)) } else { window };
        let others = (limit - quota.remaining - count(self.held(sent, age))).max(0.0);
        if let Some(last) = self.last
            && !is_next
            && now + ROUNDED < last.until
        {
            let ours = count(self.ours_between(last.sent, sent));
            self.compare(last, quota, others, ours, beside, now);
        }
        if alone {
            self.notice(others, age, now, limit, window);
        }
        self.last = Some(Last { quota, limit, window, sent, at: now, until });
    }

    /// Sent before a restart.
    pub fn restore(&mut self, sent: &VecDeque<Duration>) {
        self.ours.clone_from(sent);
    }

    /// So many of the others' are counted that were sent in the time of that length.
    fn notice(&mut self, others: f64, age: Duration, now: Duration, limit: f64, window: Duration) {
        while self.others.front().is_some_and(|&(at, _)| at + window <= now) {
            self.others.pop_front();
        }
        let old = self.others.partition_point(|&(at, _)| at + age <= now);
        let known: f64 = self.others.iter().skip(old).map(|&(_, count)| count).sum();
        let new = (others - known).max(0.0);
        // They came at any time since we last looked.
        let since = self.noticed_at.max(now.saturating_sub(age));
        for part in (1..=PARTS).filter(|_| new > 0.0) {
            self.others.push_back((since + now.saturating_sub(since) * part / PARTS, new / f64::from(PARTS)));
        }
        // Some came back earlier than we thought.
        let mut gone = (known - others).max(0.0);
        for (_, count) in self.others.iter_mut().skip(old) {
            let less = gone.min(*count);
            *count -= less;
            gone -= less;
        }
        if self.noticed_at.is_zero() {
            (self.came, self.came_since) = (0.0, now);
        } else {
            self.came += new;
        }
        self.noticed_at = now;
        let time = now.saturating_sub(self.came_since);
        if !self.seen {
            // More is unlikely, when so few came in that time.
            let unlikely = self.came + DEVIATIONS * self.came.sqrt() + DEVIATIONS;
            self.most = self.most.min(unlikely / time.as_secs_f64());
        }
        if time >= window / RATE && (self.came >= 1.0 || self.seen) {
            self.rate(self.came, time, limit, window);
            (self.came, self.came_since) = (0.0, now);
        }
    }

    /// Nothing came back since the last answer: it must have counted down.
    fn compare(&mut self, last: Last, quota: Quota, others: f64, ours: f64, beside: usize, now: Duration) {
        if !self.rolls && self.back_between(last.at, now, last.window) > 0.0 {
            return;
        }
        let filled = last.limit * now.saturating_sub(last.at).as_secs_f64() / last.window.as_secs_f64();
        let slack = SLACK + others + count(beside) + filled;
        let was = last.quota.remaining;
        if quota.remaining > was - ours + slack || ours > was + slack {
            self.steps = 0;
        } else if quota.remaining < was {
            self.steps = (self.steps + 1).min(FIRMLY);
        } else {
            self.steps = self.steps.saturating_sub(2);
        }
    }

    /// A refusal. Whether the others explain it, of whom the answers tell.
    pub fn explains_refusal(&mut self, now: Duration) -> bool {
        let believed = self.believed();
        self.steps /= 2;
        if let Some(last) = believed {
            // They used up what was left.
            let time = now.saturating_sub(last.at);
            if time >= last.window / TIMES {
                let came = (last.quota.remaining - self.ours_since(last)).max(0.0);
                self.rate(came, time, last.limit, last.window);
            }
        }
        // Until the next answer they may have been locked out as well.
        self.noticed_at = Duration::ZERO;
        believed.is_some()
    }

    /// So many of the others' came in that time.
    fn rate(&mut self, came: f64, time: Duration, limit: f64, window: Duration) {
        let most = (1.0 - OURS) * limit / window.as_secs_f64();
        self.seen |= came >= 1.0;
        self.most = self.most.max(came / time.as_secs_f64()).min(most);
    }

    /// What was said last, if it is believed.
    pub fn quota(&self) -> Option<Quota> {
        self.believed().map(|last| last.quota)
    }

    fn believed(&self) -> Option<Last> {
        self.last.filter(|_| self.steps >= BELIEVED)
    }

    /// Whether one more may go beside those in flight.
    pub fn room(&self, in_flight: usize, now: Duration) -> Room {
        let Some(last) = self.believed() else { return Room::Unknown };
        if self.rolls && now >= last.until {
            return Room::Look;
        }
        let left = last.quota.remaining - count(in_flight);
        let is_ours = count(self.held(now, last.window)) < last.limit * OURS && left >= last.limit * OURS / 2.0;
        // What will be left then for one of ours, if the others come as they did when they came most.
        let spare = |then: Duration, deviations: f64| {
            let mean = self.most * (then.saturating_sub(last.at) + self.lag).as_secs_f64();
            let back = if self.rolls { 0.0 } else { self.back_between(last.at, then, last.window) };
            left + back - mean - deviations * mean.sqrt()
        };
        let is_enough = if self.rolls {
            spare(last.until, DEVIATIONS) >= 1.0
        } else {
            let then = |time: u32| now + last.window * (time * time) / (TIMES * TIMES);
            (0..TIMES).all(|time| spare(then(time), DEVIATIONS) >= 1.0)
        };
        let look = last.at + last.window / LOOKS;
        if is_ours || is_enough {
            Room::Some
        } else if now < look {
            Room::None(look)
        } else if now >= last.at + last.window || spare(now, DEVIATIONS_TO_LOOK) >= 1.0 {
            Room::Look
        } else {
            let next = now + last.window / LOOKS;
            Room::None(if self.rolls { next.min(last.until) } else { next })
        }
    }

    /// What was sent a window before, by anybody.
    fn back_between(&self, from: Duration, to: Duration, window: Duration) -> f64 {
        let window = window + self.lag;
        let is_back = |at: Duration| from < at + window && at + window <= to;
        let others = self.others.iter().filter(|&&(at, _)| is_back(at)).map(|&(_, count)| count);
        let gone = |then: Duration| self.ours.partition_point(|&at| at + window <= then);
        count(gone(to) - gone(from)) + others.sum::<f64>()
    }

    /// Ours that were sent until then and not longer before it than that.
    fn held(&self, until: Duration, age: Duration) -> usize {
        let sent = self.ours.partition_point(|&at| at <= until);
        sent - self.ours.partition_point(|&at| at + age <= until).min(sent)
    }

    fn ours_since(&self, last: Last) -> f64 {
        count(self.ours.len() - self.ours.partition_point(|&at| at <= last.sent))
    }

    fn ours_between(&self, after: Duration, until: Duration) -> usize {
        self.ours.partition_point(|&at| at <= until) - self.ours.partition_point(|&at| at <= after)
    }
}
