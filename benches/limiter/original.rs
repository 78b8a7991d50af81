//! The original design without a shared gate: what the known algorithms are compared with.

use std::time::Duration;

use descope_gitops::limiter::Outcome;

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

impl Original {
    pub fn acquire(&mut self, now: Duration) -> Result<(), Duration> {
        if now < self.next {
            return Err(self.next);
        }
        self.next = now + Duration::from_secs_f64(1.0 / self.rate);
        Ok(())
    }

    pub fn reply(&mut self, outcome: Outcome) {
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
