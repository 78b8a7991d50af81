//! What outlives a restart: who owns what, calls whose outcome is not known yet, fingerprints, what the limiter learned.
//!
//! One `SQLite` file in a directory that one process writes. Losing it is safe: nothing is deleted before it is owned
//! again. All methods stand for one short transaction, and what they wrote is on the disk when they return. Most block for
//! it; what every change of a drain writes is waited for, and goes to the disk together with others.

use fingerprint::FingerprintKey;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;
use rusqlite::TransactionBehavior;
use serde_json::Value;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

mod applied;
mod browse;
mod clock;
mod contact;
mod effect;
mod error;
mod fight;
mod fingerprint;
mod guard;
mod history;
mod ids;
mod incarnation;
mod intent;
mod open;
mod project;
mod schema;
mod secret_file;
mod suspension;
mod sweep;
mod together;
mod told;

pub use applied::Landed;
pub use applied::Values;
pub use browse::PassView;
pub use browse::Window;
pub use effect::DELETED;
pub use effect::Written;
pub use error::Error;
pub use error::OpenError;
pub use fight::Reversion;
pub use fingerprint::Digest;
pub use guard::Lately;
pub use guard::Ledger;
pub use history::Attempt;
pub use history::AuditFilter;
pub use history::AuditRow;
pub use history::Occasion;
pub use history::PassRow;
pub use incarnation::Outlived;
pub use incarnation::ReadBack;
pub use intent::Ending;
pub use intent::Intent;
pub use intent::IntentId;
pub use intent::OpenIntent;
pub use intent::Remembered;
pub use intent::Settled;
pub use project::Owned;
pub use project::ProjectState;
pub use suspension::Suspended;
pub use told::Told;

const DATABASE: &str = "state.db";
const KEY: &str = "fingerprint.key";

/// The state directory. Cheap to clone; all clones are one connection.
#[derive(Clone)]
pub struct State {
    shared: Arc<Shared>,
}

struct Shared {
    connection: Mutex<Connection>,
    /// Locked after the connection.
    clock: Mutex<clock::Clock>,
    together: together::Together,
    /// Locked after the connection.
    inventories: project::Inventories,
    key: FingerprintKey,
    was_reset: bool,
    /// The newest write failed.
    is_failing: AtomicBool,
    /// What was opened for writing, and where.
    file: Option<(PathBuf, Option<open::Identity>)>,
    /// `None` for a reader. The connection above is closed before it is let go.
    lock: Option<open::Lock>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("was_reset", &self.shared.was_reset).finish_non_exhaustive()
    }
}

impl State {
    /// Opens the directory as its one writer; makes and migrates what is needed. A damaged database is moved aside
    /// ([`State::was_reset`]); a newer one is left alone and an error.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let lock = open::lock(dir)?;
        let (connection, was_reset) = open::database(&dir.join(DATABASE))?;
        let path = dir.join(KEY);
        let key = if let Some(key) = FingerprintKey::read(&path)? {
            key
        } else {
            // In this order: a power cut in between leaves nothing of the old key to compare with.
            open::forget_fingerprints(&connection, &dir.join(DATABASE))?;
            FingerprintKey::make(&path)?
        };
        let path = dir.join(DATABASE);
        let file = open::identity(&path);
        Ok(Self::of(connection, key, was_reset, Some((path, file)), Some(lock)))
    }

    /// Opens the directory to look at it, beside a daemon or not; writes nothing, and every write is an error.
    /// `None` where there is no state.
    pub fn open_read_only(dir: &Path) -> Result<Option<Self>, OpenError> {
        let Some(connection) = open::read_only(&dir.join(DATABASE))? else { return Ok(None) };
        let path = dir.join(KEY);
        let key = FingerprintKey::read(&path)?.map_or_else(|| FingerprintKey::passing(&path), Ok)?;
        Ok(Some(Self::of(connection, key, false, None, None)))
    }

    fn of(
        connection: Connection,
        key: FingerprintKey,
        was_reset: bool,
        file: Option<(PathBuf, Option<open::Identity>)>,
        lock: Option<open::Lock>,
    ) -> Self {
        let (connection, clock) = (Mutex::new(connection), Mutex::new(clock::Clock::start()));
        Self {
            shared: Arc::new(Shared {
                connection,
                clock,
                together: together::Together::default(),
                inventories: project::Inventories::default(),
                key,
                was_reset,
                is_failing: AtomicBool::new(false),
                file,
                lock,
            }),
        }
    }

    /// Was a damaged database moved aside just now?
    pub fn was_reset(&self) -> bool {
        self.shared.was_reset
    }

    /// Did the newest write fail? Until one succeeds, nothing is created, renamed or deleted.
    pub fn is_failing(&self) -> bool {
        self.shared.is_failing.load(Ordering::Relaxed)
    }

    /// Is what was opened still what stands there?
    fn check_file(&self) -> Result<(), Error> {
        let is_there = |(path, file): &(PathBuf, Option<open::Identity>)| open::identity(path) == *file;
        if self.shared.file.as_ref().is_none_or(is_there) { Ok(()) } else { Err(Error::Gone) }
    }

    /// Runs `work` in one transaction, with the time that what is there counts by.
    fn transact<T>(&self, work: impl FnOnce(&Transaction<'_>, SystemTime) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.check_file()?;
        let mut connection = self.connection();
        let now = self.follow_clock(&mut connection).map_err(|(_, error)| error)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction, now)?;
        transaction.commit()?;
        Ok(result)
    }

    fn noted<T>(&self, written: Result<T, Error>) -> Result<T, Error> {
        self.shared.is_failing.store(written.is_err(), Ordering::Relaxed);
        written
    }

    /// What is remembered of one project on behalf of `owner`.
    pub fn project(&self, host: &str, project_id: &str, owner: &str) -> ProjectState {
        ProjectState { state: self.clone(), host: host.into(), project_id: project_id.into(), owner: owner.into() }
    }

    /// A keyed fingerprint: equal values have equal ones, and without the key it tells nothing about the value.
    pub fn fingerprint(&self, value: &Value) -> Digest {
        self.shared.key.digest(value)
    }

    /// What [`State::set_limiter_memory`] noted for an API host.
    pub fn limiter_memory(&self, host: &str) -> Result<Option<String>, Error> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT memory FROM limiter WHERE host = ?")?;
        Ok(statement.query_row([host], |row| project::text(row, "memory")).optional()?)
    }

    /// Notes what the limiter learned about an API host.
    pub fn set_limiter_memory(&self, host: &str, memory: &str) -> Result<(), Error> {
        let sql = "INSERT INTO limiter (host, memory) VALUES (?, ?) ON CONFLICT DO UPDATE SET memory = excluded.memory";
        let write = || {
            self.check_file()?;
            Ok(self.connection().prepare_cached(sql)?.execute([host, memory]).map(drop)?)
        };
        self.noted(write())
    }

    /// The time to compare what was noted with: by it, what waits has waited for as long as it really did.
    pub fn now(&self) -> SystemTime {
        self.time(&mut self.connection())
    }

    /// The same where the state is open already; as long as it is, nothing that is read or written moves along.
    fn time(&self, connection: &mut Connection) -> SystemTime {
        self.follow_clock(connection).unwrap_or_else(|(time, error)| {
            tracing::error!(%error, "the clock was set, and the state cannot be written; it counts as it was");
            time
        })
    }

    fn follow_clock(&self, connection: &mut Connection) -> Result<SystemTime, (SystemTime, Error)> {
        if self.shared.lock.is_none() {
            return Ok(SystemTime::now());
        }
        self.shared.clock.lock().unwrap_or_else(PoisonError::into_inner).follow(connection)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
