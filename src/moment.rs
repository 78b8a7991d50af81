//! A time that is kept for a while.

use std::time::Duration;
use std::time::SystemTime;

/// A time of the clock as it was set when that was read: what is noted of it later moves along with the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time.
    pub at: SystemTime,
    /// By how many milliseconds the clock had been set until then.
    pub set: i64,
}

impl Default for Moment {
    fn default() -> Self {
        Self { at: SystemTime::UNIX_EPOCH, set: 0 }
    }
}

impl Moment {
    /// How long from then to a time of the same clock; nothing where that is past.
    pub fn until(self, time: SystemTime) -> Duration {
        time.duration_since(self.at).unwrap_or_default()
    }
}
