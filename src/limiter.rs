//! How fast we may call Descope: permits, one shared gate, and what the answers teach.

use std::time::Duration;

/// What became of a request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Any answer but 429; the server counted it.
    Answered,
    /// 429. `retry_after` as the answer gave it, already as a time from now.
    Throttled {
        /// `None` where the header was missing or unreadable.
        retry_after: Option<Duration>,
    },
    /// No answer, after it was sent; the server may have counted it.
    Failed,
}

/// Who asks: what a commit changed goes before looking around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Writes, and reads that a write waits for.
    Change,
    /// Background observation.
    Observation,
}

pub mod adaptive;
pub mod budget;
