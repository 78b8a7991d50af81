//! What answers say of the limit, once it has proved true.
//!
//! It is believed from when it was seen to count down with our own requests, and no longer when it stands still or rises for no
//! reason. Then what is left is shared: as much as the others are likely to need until there is more is theirs.

use std::time::Duration;

use crate::limiter::quota::Quota;

/// Believed from so many steps down on, and never more firmly than after so many.
const BELIEVED: u32 = 3;
const FIRMLY: u32 = 8;

/// Before anything is known of the others they are taken to use this share; whatever they use, as much is ours.
const LIKELY: f64 = 0.25;

/// The others' requests come at random: so many deviations above the mean are left to them, and where one of ours
/// would show how many they were, a little less.
const DEVIATIONS: f64 = 3.0;
const DEVIATIONS_TO_LOOK: f64 = 2.0;

/// Where windows slide, what comes back next may be theirs: their needs are looked at for half a window ahead.
const AHEAD: u32 = 2;

/// A reset that comes sooner than this part of a window is that of a window that slides.
const SLIDES: u32 = 8;

/// A reset is rounded up to whole seconds.
const ROUNDED: Duration = Duration::from_secs(1);

/// What is seen of us may be so much off: requests overtake one another.
const SLACK: f64 = 2.0;

/// Where little is left, one of ours finds out how much so often until there is more.
const LOOKS: u32 = 8;

/// The last of what answers said.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: Option<Last>,
    steps: u32,
    /// Requests of others per second, and before this window.
    others: f64,
    others_before: f64,
}

/// What we know of ourselves when an answer arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ours {
    /// When the request was sent.
    pub sent: Duration,
    /// The window, as we believe.
    pub window: Duration,
    /// When the server's window began, by the answer, and how many of ours it holds.
    pub begun: Duration,
    pub held: f64,
    /// How many others of ours are under way: they may have been counted or not.
    pub in_flight: usize,
    /// When the next slot of ours comes back.
    pub returns: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    quota: Quota,
    sent: Duration,
    at: Duration,
    /// When there is more.
    until: Duration,
    /// So far ahead the others' needs are looked at, at least.
    ahead: Duration,
    /// When the next slot of ours comes back.
    returns: Duration,
    /// Ours that the window held.
    held: f64,
    /// Ours that were admitted since.
    admitted: f64,
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
    /// When the server's window began.
    pub fn begun(quota: Quota, now: Duration, window: Duration) -> Duration {
        (now + quota.reset).saturating_sub(quota.window.unwrap_or(window) + ROUNDED)
    }

    /// An answer.
    pub fn heard(&mut self, quota: Quota, ours: Ours, now: Duration) {
        if self.last.is_some_and(|last| ours.sent < last.sent) {
            return; // overtaken
        }
        let window = quota.window.unwrap_or(ours.window);
        // What says more is not taken at its word: then one of ours finds out.
        let until = now + quota.reset.min(ours.window * 2);
        let limit = quota.limit.unwrap_or_default();
        let others = (limit - quota.remaining - ours.held).max(0.0);
        match self.last {
            Some(last) if now + ROUNDED < last.until && now < last.returns => {
                self.compare(last, quota, others, window, now);
            }
            Some(last) if now >= last.until => self.others_before = self.others,
            Some(_) => {}
            None => {
                self.others_before = LIKELY * limit / window.as_secs_f64();
                self.others = self.others_before;
            }
        }
        let elapsed = now.saturating_sub(ours.begun);
        if ours.in_flight == 0 {
            let (elapsed, before) = (elapsed.as_secs_f64(), window.as_secs_f64() / 4.0);
            self.others = (others + self.others_before * before) / (elapsed + before);
            self.others = self.others.min(limit / 2.0 / window.as_secs_f64());
        }
        let slides = until < now + window / SLIDES;
        let returns = if slides { ours.returns.saturating_sub(now).min(window) } else { Duration::ZERO };
        let ahead = returns.max(window / AHEAD);
        let Ours { sent, returns, held, .. } = ours;
        self.last = Some(Last { quota, sent, at: now, until, ahead, returns, held, admitted: 0.0 });
    }

    /// Nothing of ours came back since the last answer: it must have counted down.
    fn compare(&mut self, last: Last, quota: Quota, others: f64, window: Duration, now: Duration) {
        let filled = quota.limit.unwrap_or_default() * now.saturating_sub(last.at).as_secs_f64() / window.as_secs_f64();
        let slack = SLACK + others + filled;
        let was = last.quota.remaining;
        if quota.remaining > was - last.admitted + slack || last.admitted > was + slack {
            self.steps = 0;
        } else if quota.remaining < was {
            self.steps = (self.steps + 1).min(FIRMLY);
        } else if others < 1.0 {
            self.steps = self.steps.saturating_sub(2);
        }
    }

    /// A request that was sent then was admitted.
    pub fn admitted(&mut self, sent: Duration) {
        if let Some(last) = self.last.as_mut().filter(|last| sent > last.at) {
            last.admitted += 1.0;
        }
    }

    /// A refusal. Whether the others explain it, of whom the answers tell.
    pub fn explains_refusal(&mut self) -> bool {
        let is_believed = self.steps >= BELIEVED;
        self.steps /= 2;
        is_believed
    }

    /// What was said last, if it is believed.
    pub fn quota(&self) -> Option<Quota> {
        self.last.filter(|_| self.steps >= BELIEVED).map(|last| last.quota)
    }

    /// Whether one more may go beside those in flight.
    pub fn room(&self, now: Duration, in_flight: f64) -> Room {
        let Some(last) = self.last.filter(|_| self.steps >= BELIEVED) else { return Room::Unknown };
        if now >= last.until {
            return Room::Look;
        }
        let needs = |time: Duration, deviations: f64| {
            let mean = self.others * time.as_secs_f64();
            mean + deviations * mean.sqrt()
        };
        let left = last.quota.remaining - in_flight;
        let ahead = |from: Duration| last.until.saturating_sub(from).max(last.ahead);
        let limit = last.quota.limit.unwrap_or_default();
        let is_ours = last.held + in_flight < limit * LIKELY && left >= limit * LIKELY / 2.0;
        if is_ours || left - needs(ahead(last.at), DEVIATIONS) >= 1.0 {
            return Room::Some;
        }
        let look = last.at + last.until.saturating_sub(last.at) / LOOKS;
        if now < look {
            return Room::None(look);
        }
        let gone = needs(now.saturating_sub(last.at), 0.0);
        if left - gone - needs(ahead(now), DEVIATIONS_TO_LOOK) >= 1.0 { Room::Look } else { Room::None(last.until) }
    }
}
