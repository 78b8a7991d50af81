//! The state in a file of a directory: one connection, one writer.

use super::Error;
use super::clock::Clock;
use super::open;
use super::sql;
use super::sql::Tx;
use crate::telemetry::repeats::Spell;
use rusqlite::Connection;
use rusqlite::TransactionBehavior;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::SystemTime;

pub(super) struct FileStore {
    connection: Mutex<Connection>,
    /// Locked after the connection.
    pub clock: Mutex<Clock>,
    unset: Spell,
    /// What was opened for writing, and where.
    file: Option<(PathBuf, Option<open::Identity>)>,
    /// `None` for a reader. The connection above is closed before it is let go.
    lock: Option<open::Lock>,
}

impl FileStore {
    /// Written by this process alone, which has its `lock`.
    pub fn to_write(path: PathBuf, connection: Connection, lock: open::Lock) -> Self {
        let file = open::identity(&path);
        Self { file: Some((path, file)), lock: Some(lock), ..Self::to_read(connection) }
    }

    pub fn to_read(connection: Connection) -> Self {
        let (connection, clock) = (Mutex::new(connection), Mutex::new(Clock::start()));
        Self { connection, clock, unset: Spell::default(), file: None, lock: None }
    }

    /// Is what was opened still what stands there?
    fn check_file(&self) -> Result<(), Error> {
        let is_there = |(path, file): &(PathBuf, Option<open::Identity>)| open::identity(path) == *file;
        if self.file.as_ref().is_none_or(is_there) { Ok(()) } else { Err(Error::Gone) }
    }

    /// As [`open::Lock::note`], where it is written.
    pub fn note_gap(&self, gap: Option<(SystemTime, SystemTime)>) {
        if let Some(lock) = &self.lock {
            lock.note(gap);
        }
    }

    /// As [`open::Lock::noted`].
    pub fn noted_gap(&self) -> Option<(SystemTime, SystemTime)> {
        self.lock.as_ref()?.noted()
    }

    /// Runs `work` in one transaction, with the time that what is there counts by.
    pub fn transact(&self, work: sql::Work<'_>) -> Result<(), Error> {
        self.check_file()?;
        let mut connection = self.connection();
        let now = self.follow_clock(&mut connection).map_err(|(_, error)| error)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        work(&Tx::File(&transaction), now)?;
        transaction.commit()?;
        Ok(())
    }

    /// The same to read, each statement for itself.
    pub fn read(&self, work: sql::Work<'_>) -> Result<(), Error> {
        let mut connection = self.connection();
        let now = self.time(&mut connection);
        Ok(work(&Tx::File(&connection), now)?)
    }

    /// The same of one moment.
    pub fn read_at_once(&self, work: sql::Work<'_>) -> Result<(), Error> {
        let mut connection = self.connection();
        let now = self.time(&mut connection);
        // Against a daemon beside this process, whose writes the lock on the connection does not stop.
        let snapshot = connection.unchecked_transaction()?;
        Ok(work(&Tx::File(&snapshot), now)?)
    }

    pub fn now(&self) -> SystemTime {
        self.time(&mut self.connection())
    }

    /// The same where the state is open already; as long as it is, nothing that is read or written moves along.
    fn time(&self, connection: &mut Connection) -> SystemTime {
        self.follow_clock(connection).inspect(|_| self.unset.over()).unwrap_or_else(|(time, error)| {
            if let Some(times) = self.unset.met() {
                let what = "the clock was set, and the state cannot be written; it counts as it was";
                tracing::error!(%error, times, "{what}");
            }
            time
        })
    }

    /// By how many milliseconds the clock was set since the start. Stays as it is while something is read or written.
    pub fn set(&self) -> i64 {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).set
    }

    fn follow_clock(&self, connection: &mut Connection) -> Result<SystemTime, (SystemTime, Error)> {
        if self.lock.is_none() {
            return Ok(SystemTime::now());
        }
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).follow(connection)
    }

    pub fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
