//! What the product's limiter is compared with, each rebuilt in the least that makes it what it is.

use std::collections::VecDeque;
use std::time::Duration;

use descope_gitops::limiter::Outcome;

use crate::scenario::Documented;
use crate::scenario::seconds;

/// A client-side limiter.
pub trait Rival {
    /// May one be sent now, or when?
    fn acquire(&mut self, now: Duration) -> Result<(), Duration>;

    /// What came of one.
    fn reply(&mut self, outcome: Outcome, now: Duration);
}

/// The original design without a shared gate.
pub struct Original {
    rate: f64,
    successes: u32,
    next: Duration,
}

impl Default for Original {
    fn default() -> Self {
        Self { rate: 10.0, successes: 0, next: Duration::ZERO }
    }
}

impl Rival for Original {
    fn acquire(&mut self, now: Duration) -> Result<(), Duration> {
        if now < self.next {
            return Err(self.next);
        }
        self.next = now + seconds(1.0 / self.rate);
        Ok(())
    }

    fn reply(&mut self, outcome: Outcome, _now: Duration) {
        match outcome {
            Outcome::Answered => {
                self.successes += 1;
                if self.successes >= 50 {
                    (self.rate, self.successes) = ((self.rate * 1.1).min(100.0), 0);
                }
            }
            Outcome::Throttled { .. } => (self.rate, self.successes) = ((self.rate * 0.5).max(1.0), 0),
            Outcome::Failed => {}
        }
    }
}

/// Nobody sends before the time that a 429 named, or a second after it.
#[derive(Default)]
struct Pause(Duration);

impl Pause {
    fn refused(&mut self, outcome: Outcome, now: Duration) {
        if let Outcome::Throttled { retry_after } = outcome {
            self.0 = self.0.max(now + retry_after.unwrap_or(Duration::from_secs(1)));
        }
    }

    fn blocks(&self, now: Duration) -> Result<(), Duration> {
        if now < self.0 { Err(self.0) } else { Ok(()) }
    }
}

/// Client-side throttling as large services describe it: no more requests than twice what was accepted in the last two
/// minutes, and a few; what is over is not sent. With a shared pause until `Retry-After`.
#[derive(Default)]
pub struct Share {
    sent: VecDeque<Duration>,
    accepted: VecDeque<Duration>,
    pause: Pause,
}

impl Share {
    const MEMORY: Duration = Duration::from_secs(120);
    const FACTOR: usize = 2;
    const FEW: usize = 10;
    const LATER: Duration = Duration::from_secs(1);
}

impl Rival for Share {
    fn acquire(&mut self, now: Duration) -> Result<(), Duration> {
        self.pause.blocks(now)?;
        for times in [&mut self.sent, &mut self.accepted] {
            while times.front().is_some_and(|&at| at + Self::MEMORY <= now) {
                times.pop_front();
            }
        }
        if self.sent.len() >= Self::FACTOR * self.accepted.len() + Self::FEW {
            return Err(now + Self::LATER);
        }
        self.sent.push_back(now);
        Ok(())
    }

    fn reply(&mut self, outcome: Outcome, now: Duration) {
        self.pause.refused(outcome, now);
        if outcome == Outcome::Answered {
            self.accepted.push_back(now);
        }
    }
}

/// The adaptive token bucket of arXiv 2510.04516: every request, a repeated one too, takes a token; a success adds a little to the
/// rate at which tokens come, a refusal takes a share of it, and `Retry-After` is waited for.
pub struct Aimd {
    rate: f64,
    step: f64,
    tokens: f64,
    at: Duration,
    cut_at: Option<Duration>,
    pause: Pause,
}

impl Aimd {
    const STORED: f64 = 10.0;
    const CUT: f64 = 0.5;

    /// Starts at the documented rate, which is more than the paper's clients know.
    pub fn new(documented: &Documented) -> Self {
        let rate = documented.n / documented.window_s;
        let zero = Duration::ZERO;
        // A hundred successes add the documented rate once.
        Self { rate, step: rate / 100.0, tokens: Self::STORED, at: zero, cut_at: None, pause: Pause::default() }
    }
}

impl Rival for Aimd {
    fn acquire(&mut self, now: Duration) -> Result<(), Duration> {
        self.pause.blocks(now)?;
        let earned = now.saturating_sub(self.at).as_secs_f64() * self.rate;
        (self.tokens, self.at) = ((self.tokens + earned).min(Self::STORED), now);
        if self.tokens < 1.0 {
            return Err(now + seconds((1.0 - self.tokens) / self.rate) + Duration::from_millis(1));
        }
        self.tokens -= 1.0;
        Ok(())
    }

    fn reply(&mut self, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Answered => self.rate += self.step,
            Outcome::Throttled { .. } => {
                // What was under way together is one event.
                if self.cut_at.is_none_or(|cut| now > cut + Duration::from_secs(1)) {
                    self.rate = (self.rate * Self::CUT).max(self.step);
                    self.cut_at = Some(now);
                }
            }
            Outcome::Failed => {}
        }
        self.pause.refused(outcome, now);
    }
}
