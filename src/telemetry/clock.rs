//! The clock of everything that is shown: where replicas share the state that of its database, so that what two of them say can be
//! compared; else the clock of this machine.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// Milliseconds by which it is ahead of this machine's. A process has one database, or none.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// From now on it is so many milliseconds ahead of this machine's clock.
pub fn follow(ahead: i64) {
    AHEAD.store(ahead, Ordering::Relaxed);
}

/// The time to show.
pub fn now() -> SystemTime {
    of(SystemTime::now(), AHEAD.load(Ordering::Relaxed))
}

fn of(here: SystemTime, ahead: i64) -> SystemTime {
    let by = Duration::from_millis(ahead.unsigned_abs());
    let there = if ahead < 0 { here.checked_sub(by) } else { here.checked_add(by) };
    there.unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_far_ahead_or_behind_as_the_database_is() {
        let here = SystemTime::UNIX_EPOCH + Duration::from_secs(10);

        for (ahead, there) in [(0, 10_000), (2_000, 12_000), (-2_000, 8_000)] {
            assert_eq!(of(here, ahead), SystemTime::UNIX_EPOCH + Duration::from_millis(there), "{ahead}");
        }
    }
}
