//! What a row needs of a database: a clock, and to be written only if nobody wrote it since it was read.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// One row of a store that all replicas reach. Each method is one transaction of one statement.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// The row.
    async fn read(&self) -> Result<Read, Unreachable>;

    /// When the gate last closed, as it was last written.
    async fn glance(&self) -> Result<Option<Duration>, Unreachable>;

    /// Writes the row unless it has another version by now. After an error it may have been written all the same.
    async fn write(&self, row: Written) -> Result<bool, Unreachable>;
}

/// The row as it was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// The store's clock.
    pub now: Duration,
    /// Counts how often it was written; 0 while there is none.
    pub version: u64,
    /// What `Row::to_text` made.
    pub text: Option<String>,
}

/// The row as it is to be written.
#[derive(Debug, Clone)]
pub struct Written {
    /// What was read.
    pub version: u64,
    /// What `Row::to_text` made.
    pub text: String,
    /// For glances.
    pub closed_at: Option<Duration>,
}

/// The store gives no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
#[error("the store of the shared rate limit does not answer: {0}")]
pub struct Unreachable(pub String);

/// A row in the memory of this process, for one that is all replicas at once.
#[derive(Debug, Default)]
pub struct InMemory {
    row: Mutex<(u64, Option<String>, Option<Duration>)>,
    start: Option<Instant>,
}

impl InMemory {
    /// With a clock that begins now.
    pub fn new() -> Self {
        Self { start: Some(Instant::now()), ..Self::default() }
    }

    /// The row; `now` is the store's clock.
    pub fn read_at(&self, now: Duration) -> Read {
        let (version, text, _) = self.row().clone();
        Read { now, version, text }
    }

    /// When the gate last closed.
    pub fn closed_at(&self) -> Option<Duration> {
        self.row().2
    }

    /// Writes the row unless it has another version by now.
    pub fn write_now(&self, written: Written) -> bool {
        let mut row = self.row();
        let is_as_read = row.0 == written.version;
        if is_as_read {
            *row = (written.version + 1, Some(written.text), written.closed_at);
        }
        is_as_read
    }

    fn row(&self) -> MutexGuard<'_, (u64, Option<String>, Option<Duration>)> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Store for InMemory {
    async fn read(&self) -> Result<Read, Unreachable> {
        Ok(self.read_at(self.start.map_or(Duration::ZERO, |start| start.elapsed())))
    }

    async fn glance(&self) -> Result<Option<Duration>, Unreachable> {
        Ok(self.closed_at())
    }

    async fn write(&self, row: Written) -> Result<bool, Unreachable> {
        Ok(self.write_now(row))
    }
}
