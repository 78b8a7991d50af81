//! Waiting longer after each failure: exponential, jittered, bounded; pure.

use std::time::Duration;

/// `retry` of the config: within one call, and between tries of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Tries within one call, the first included; at least 1.
    pub max_attempts: u32,
    /// Wait after the first failure.
    pub initial: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row (from 1): `initial` doubled each time up to `max`, of which
    /// `random` (0 to 1) takes off up to a half, so that failures that came together do not come back together.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.initial.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.max).mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: Backoff =
        Backoff { max_attempts: 5, initial: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn doubles_from_the_initial_wait_up_to_the_longest() {
        let waits: Vec<u64> = (1..=8).map(|n| ORIGINAL.delay(n, 0.0).as_secs()).collect();

        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn jitter_takes_off_half_at_the_most() {
        assert_eq!(ORIGINAL.delay(3, 1.0), Duration::from_secs(2));
        assert_eq!(ORIGINAL.delay(3, 0.5), Duration::from_secs(3));
    }

    #[test]
    fn no_number_of_failures_overflows() {
        assert_eq!(ORIGINAL.delay(u32::MAX, 0.0), Duration::from_secs(60));
        assert_eq!(ORIGINAL.delay(0, 0.0), Duration::from_secs(1));
    }
}
