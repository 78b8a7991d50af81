//! How fast we may call Descope: permits, one shared gate, and what the answers teach.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

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

/// Only the shared gate.
#[derive(Debug, Clone)]
pub struct Limiter {
    gate: Arc<watch::Sender<Option<Instant>>>,
}

impl Limiter {
    /// An open gate.
    pub fn open() -> Self {
        Self { gate: Arc::new(watch::Sender::new(None)) }
    }

    /// Waits until the gate is open.
    pub async fn acquire(&self, _priority: Priority) -> Permit {
        loop {
            let until = *self.gate.borrow();
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                Some(_) | None => return Permit { gate: Arc::clone(&self.gate) },
            }
        }
    }
}

/// Leave to send one request.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<watch::Sender<Option<Instant>>>,
}

impl Permit {
    /// The request goes out now.
    pub fn sending(&mut self) {}

    /// What became of it.
    pub fn finish(self, outcome: Outcome) {
        if let Outcome::Throttled { retry_after } = outcome {
            self.gate.send_replace(Some(Instant::now() + retry_after.unwrap_or(Duration::from_secs(60))));
        }
    }
}

pub mod adaptive;
pub mod budget;
