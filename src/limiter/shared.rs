//! One budget for several replicas behind one address.
//!
//! Descope counts by address, so replicas that leave through the same one share one row of a store. The row *is* the limiter: the
//! same machine that one process has for itself, with its slots, its gate and all that it learned. A replica changes it in short
//! transactions, and none of them decides anything that the machine does not decide:
//!
//! - A **turn** ([`row::Row::turn`]) tells what became of the replica's requests and asks for a block of slots: about a tenth of the limit,
//!   less near the end of it, none that somebody needs who waits longer. The slots of a block are in use from then on. The replica
//!   spends them without asking again, at the times that come with them, and gives back what it does not need.
//! - A **glance** reads when the gate last closed. There is none older than [`desk::FRESH`] when a request goes. Leave to send that
//!   was given before the gate closed is void, and calls already out belong to the event that closed it: one comparison
//!   says both.
//!
//! A replica holds its slots for as long as it keeps taking turns, and a little longer ([`row::LIFE`]); it stops sending well before that. Then
//! they count as sent, and come back one window later: a replica that dies costs its block for so long, and no more.
//!
//! All times in the row are the store's. A replica measures what it does by its own clock that never goes back, and places it by
//! when it last read the store's. Transactions are of one statement: the row is written if nobody wrote it since it was read, so
//! a replica that stands still in the middle of one holds up nobody. One whose outcome is unknown is recognised in the row by
//! its number ([`row::Row::last_turn`]).

use std::time::Duration;

mod clerk;
pub mod desk;
pub mod row;
pub mod store;

/// What a replica says that did not learn it itself.
pub(crate) fn learned_elsewhere() -> &'static str {
    "another replica learned it"
}

/// A number that may be infinite, which JSON has no word for.
pub(crate) mod infinite {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
    }
}

/// Times in order, many of them equal: nanoseconds since the one before, and how often.
pub(crate) mod times {
    use std::collections::VecDeque;
    use std::time::Duration;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;

    /// A row that says there were more is damaged.
    const MOST: usize = 10_000_000;

    pub fn serialize<S: Serializer>(times: &VecDeque<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut before = Duration::ZERO;
        let mut runs: Vec<(u64, usize)> = Vec::new();
        for &at in times {
            let since = super::nanos(at.saturating_sub(before));
            match runs.last_mut() {
                Some((_, count)) if since == 0 => *count += 1,
                Some(_) | None => runs.push((since, 1)),
            }
            before = before.max(at);
        }
        serializer.collect_seq(runs)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VecDeque<Duration>, D::Error> {
        let mut at = Duration::ZERO;
        let mut times = VecDeque::new();
        for (since, count) in Vec::<(u64, usize)>::deserialize(deserializer)? {
            at = at.checked_add(Duration::from_nanos(since)).ok_or_else(|| D::Error::custom("a time out of range"))?;
            if times.len().saturating_add(count) > MOST {
                return Err(D::Error::custom("too many times"));
            }
            times.extend(std::iter::repeat_n(at, count));
        }
        Ok(times)
    }
}

/// Five centuries are enough.
pub(crate) fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
