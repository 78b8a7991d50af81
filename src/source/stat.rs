//! The signature of a file: how to know that it did not change without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use std::time::SystemTime;

/// What the file system says about a file. Equal means unchanged, once the file is older than the clock's tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub len: u64,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, i64),
    ctime: (i64, i64),
    ino: u64,
    dev: u64,
}

impl Stat {
    /// What these metadata say.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
            ino: metadata.ino(),
            dev: metadata.dev(),
        }
    }

    /// The modification time as git's index keeps it.
    pub fn mtime_32(&self) -> (u32, u32) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "git keeps the low 32 bits")]
        let truncated = (self.mtime.0 as u32, self.mtime.1 as u32);
        truncated
    }

    /// How long a file must have stood still before its times prove anything: a write within one tick of the file
    /// system's clock leaves them as they are.
    pub fn tick(&self, quiet: Duration) -> Duration {
        // File systems that keep whole seconds show no nanoseconds; FAT counts in twos.
        if self.ctime.1 == 0 { quiet.max(Duration::from_secs(2)) } else { quiet }
    }

    /// Do its times prove anything yet?
    pub fn is_older_than_its_tick(&self, now: SystemTime, quiet: Duration) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.ctime.0), u32::try_from(self.ctime.1)) else { return true };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        now.duration_since(changed).is_ok_and(|age| age > self.tick(quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_prove_something_once_they_are_older_than_the_clocks_tick() {
        let quiet = Duration::from_millis(50);
        let stat = |seconds, nanos| Stat { len: 0, mtime: (0, 0), ctime: (seconds, nanos), ino: 0, dev: 0 };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(100_500);
        for (stat, expected) in [
            (stat(100, 400_000_000), true),
            (stat(100, 470_000_000), false),
            (stat(100, 600_000_000), false), // in the future: another clock
            (stat(100, 0), false),           // whole seconds: a coarse clock
            (stat(99, 0), false),
            (stat(98, 0), true),
            (stat(-1, 0), true),
        ] {
            assert_eq!(stat.is_older_than_its_tick(now, quiet), expected, "{stat:?}");
        }
    }
}
