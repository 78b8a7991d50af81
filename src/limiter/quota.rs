//! What an answer said of the limit in its headers.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

/// `RateLimit` and its older brothers, as one answer gave them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// Requests per window, where it was said.
    pub limit: Option<f64>,
    /// The window, where it was said.
    pub window: Option<Duration>,
    /// Requests left after this one.
    pub remaining: f64,
    /// Time from now until there are more.
    pub reset: Duration,
}
