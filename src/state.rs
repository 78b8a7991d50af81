//! What outlives a restart: who owns what, calls whose outcome is not known yet, fingerprints, what the limiter learned.
//!
//! One `SQLite` file in a directory that one process writes. Losing it is safe: nothing is deleted before it is owned
//! again. All methods stand for one short transaction, and what they wrote is on the disk when they return. Most block for
//! it; what every change of a drain writes is waited for, and goes to the disk together with others.

use crate::telemetry::clock::now as shown_now;
use crate::telemetry::repeats::Failures;
use crate::telemetry::status::rfc3339;
use file::FileStore;
use fingerprint::FingerprintKey;
use serde_json::Value;
use server::Server;
use sql::Tx;
use sql::values;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
#[cfg(test)]
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;

/// Failures of writes that lie no further apart are of one cause.
const SPELL: Duration = Duration::from_secs(60);

/// After so long without one it may be over: a full disk lets a small write through now and then.
const TOLD_AFTER: Duration = Duration::from_secs(5);

mod age;
mod applied;
mod browse;
mod clock;
mod contact;
mod copy;
mod effect;
mod egress;
mod error;
mod fight;
mod file;
mod fingerprint;
mod guard;
mod history;
mod ids;
mod incarnation;
mod intent;
mod lease;
mod mirror;
mod open;
mod place;
mod project;
mod relay;
mod revision;
mod schema;
mod secret_file;
mod server;
mod sql;
mod standings;
mod suspension;
mod sweep;
mod together;
mod told;
mod volume;

pub use age::Commit;
pub use applied::Landed;
pub use applied::Values;
pub use browse::GapView;
pub use browse::ORDERS;
pub use browse::PassView;
pub use browse::Window;
pub use copy::Counts;
pub use copy::to_database;
pub use copy::to_directory;
pub use copy::to_other_directory;
pub use effect::DELETED;
pub use effect::Written;
pub use egress::Egress;
pub use error::Error;
pub use error::OpenError;
pub use fight::Reversion;
pub use fingerprint::ByField;
pub use fingerprint::Digest;
pub use fingerprint::Fingerprints;
pub use guard::Covered;
pub use guard::Lately;
pub use guard::Ledger;
pub use guard::Load;
pub use guard::Suspension;
pub use history::Attempt;
pub use history::AuditFilter;
pub use history::AuditRow;
pub use history::Occasion;
pub use history::PassRow;
pub use incarnation::Incarnation;
pub use incarnation::Outlived;
pub use incarnation::ReadBack;
pub use intent::Along;
pub use intent::Ending;
pub use intent::Intent;
pub use intent::IntentId;
pub use intent::OpenIntent;
pub use intent::Remembered;
pub use intent::Settled;
pub use lease::Claim;
pub use lease::Holding;
pub use lease::Leases;
pub use lease::Tenure;
pub use mirror::Shown;
pub use place::BadSetting;
pub use place::Place;
pub use place::Shared as SharedPlace;
pub use project::Inventory;
pub use project::Owned;
pub use project::OwnedAs;
pub use project::ProjectState;
pub use project::of_kind;
pub use relay::Fate;
pub use relay::Relay;
pub use relay::Taken;
pub use revision::Aside;
pub use revision::Standing;
pub use server::Address;
pub use server::BadAddress;
pub use standings::ReplicaStanding;
pub use standings::Standings;
pub use suspension::Suspended;
pub use told::Told;

const DATABASE: &str = "state.db";
const KEY: &str = "fingerprint.key";

/// The state of this process. Cheap to clone; all clones are one connection.
#[derive(Clone)]
pub struct State {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    together: together::Together,
    /// Locked after the connection.
    inventories: project::Inventories,
    key: Arc<FingerprintKey>,
    was_reset: bool,
    /// The newest write failed.
    is_failing: AtomicBool,
    spell: Mutex<Option<Trouble>>,
    /// Of reads and writes.
    failures: AtomicU64,
    /// What the log says of them.
    told: Failures,
}

/// Writes that failed, of one cause.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// When it began.
    since: SystemTime,
    /// When the newest one did.
    newest: Instant,
    /// The trail says that it lacks what was until then.
    is_told: bool,
}

impl Trouble {
    /// From when to when something may be missing.
    fn gap(&self) -> (SystemTime, SystemTime) {
        (self.since, shown_now().checked_sub(self.newest.elapsed()).unwrap_or(self.since))
    }
}

/// Where it lies.
enum Store {
    File(Box<FileStore>),
    Server(Box<Server>),
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
        #[cfg(test)]
        if let Some(state) = testing::on_a_server(dir) {
            return Ok(state);
        }
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
        let store = FileStore::to_write(dir.join(DATABASE), connection, lock);
        let state = Self::of(Store::File(Box::new(store)), Arc::new(key), was_reset);
        state.recall_gap();
        Ok(state)
    }

    /// Opens the directory to look at it, beside a daemon or not; writes nothing, and every write is an error.
    /// `None` where there is no state.
    pub fn open_read_only(dir: &Path) -> Result<Option<Self>, OpenError> {
        let Some(connection) = open::read_only(&dir.join(DATABASE))? else { return Ok(None) };
        let path = dir.join(KEY);
        let key = FingerprintKey::read(&path)?.map_or_else(|| FingerprintKey::passing(&path), Ok)?;
        Ok(Some(Self::of(Store::File(Box::new(FileStore::to_read(connection))), Arc::new(key), false)))
    }

    fn of(store: Store, key: Arc<FingerprintKey>, was_reset: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                together: together::Together::default(),
                inventories: project::Inventories::default(),
                key,
                was_reset,
                is_failing: AtomicBool::new(false),
                spell: Mutex::new(None),
                failures: AtomicU64::new(0),
                told: Failures::default(),
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

    /// Since when that lasts. On a full disk one write or the other still finds room, which ends nothing.
    pub fn failing_since(&self) -> Option<SystemTime> {
        self.trouble().map(|trouble| trouble.since).filter(|_| self.is_failing())
    }

    fn trouble(&self) -> Option<Trouble> {
        *self.shared.spell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it is to be told what was not written down. Not while it lasts, nor where a database serves several: nothing is sent
    /// without that.
    fn gap_due_at(&self) -> Option<Instant> {
        let trouble = self.trouble().filter(|trouble| !trouble.is_told && !self.is_failing() && !self.is_shared())?;
        Some(trouble.newest + TOLD_AFTER)
    }

    /// What it was, once that is due.
    fn untold_gap(&self) -> Option<Trouble> {
        self.gap_due_at().filter(|due| *due <= Instant::now()).and_then(|_| self.trouble())
    }

    /// Before the end of the daemon, which is the last to know what could not be written down: now or never.
    pub fn tell_gap(&self) {
        let Some(trouble) = self.trouble().filter(|trouble| !trouble.is_told && !self.is_shared()) else { return };
        match self.write(|transaction| browse::note_gap(transaction, trouble.gap())) {
            Ok(()) => self.told_gap(&trouble),
            Err(error) => {
                let since = rfc3339(trouble.since);
                tracing::error!(%error, since, "the state cannot be written: what the history lacks is told by the next start that can write it");
            }
        }
    }

    /// What the last run could not write down, and could not tell either: there was no room until its end.
    fn recall_gap(&self) {
        let Store::File(file) = &self.shared.store else { return };
        let Some(gap) = file.noted_gap() else { return };
        // Where there still is none, it lasts since then.
        let trouble = Trouble { since: gap.0, newest: Instant::now(), is_told: false };
        *self.shared.spell.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        if self.write(|transaction| browse::note_gap(transaction, gap)).is_ok() {
            self.told_gap(&trouble);
        }
    }

    /// It stands in the trail, unless it went on meanwhile.
    fn told_gap(&self, told: &Trouble) {
        let mut spell = self.shared.spell.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(trouble) = spell.as_mut().filter(|trouble| trouble.newest == told.newest) else { return };
        trouble.is_told = true;
        if let Store::File(file) = &self.shared.store {
            file.note_gap(None);
        }
    }

    /// Is it shared by replicas?
    pub fn is_shared(&self) -> bool {
        matches!(self.shared.store, Store::Server(_))
    }

    /// Runs `work` in one transaction, with the time that what is there counts by.
    fn transact<T>(&self, work: impl FnOnce(&Tx<'_>, SystemTime) -> sql::Result<T>) -> Result<T, Error> {
        sql::once(work, |work| match &self.shared.store {
            Store::File(file) => file.transact(work),
            Store::Server(server) => server.transact(work),
        })
    }

    /// The same for what concerns no single project.
    fn write<T>(&self, work: impl FnOnce(&Tx<'_>) -> sql::Result<T>) -> Result<T, Error> {
        self.noted(self.transact(|transaction, _| work(transaction)))
    }

    fn read<T>(&self, work: impl FnOnce(&Tx<'_>) -> sql::Result<T>) -> Result<T, Error> {
        self.read_by_clock(|connection, _| work(connection))
    }

    fn read_by_clock<T>(&self, work: impl FnOnce(&Tx<'_>, SystemTime) -> sql::Result<T>) -> Result<T, Error> {
        let read = sql::once(work, |work| match &self.shared.store {
            Store::File(file) => file.read(work),
            Store::Server(server) => server.read(work),
        });
        self.counted(read)
    }

    fn read_at_once<T>(&self, work: impl FnOnce(&Tx<'_>, SystemTime) -> sql::Result<T>) -> Result<T, Error> {
        let read = sql::once(work, |work| match &self.shared.store {
            Store::File(file) => file.read_at_once(work),
            Store::Server(server) => server.read_at_once(work),
        });
        self.counted(read)
    }

    /// How many reads and writes have failed. Where it is more than it was, something is not known or not noted.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    fn counted<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        // What another replica is to write is no failure of the state.
        if outcome.as_ref().is_err_and(|error| !matches!(error, Error::NotHeld)) {
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    fn noted<T>(&self, written: Result<T, Error>) -> Result<T, Error> {
        // What another replica is to write is no failure of the state.
        let is_failing = written.as_ref().is_err_and(|error| !matches!(error, Error::NotHeld));
        if is_failing {
            let mut spell = self.shared.spell.lock().unwrap_or_else(PoisonError::into_inner);
            let lasts = |trouble: &Trouble| self.is_failing() || trouble.newest.elapsed() < SPELL;
            let since = spell.filter(lasts).map_or_else(shown_now, |trouble| trouble.since);
            *spell = Some(Trouble { since, newest: Instant::now(), is_told: false });
            if let Store::File(file) = &self.shared.store {
                file.note_gap(Some((since, shown_now())));
            }
        }
        self.shared.is_failing.store(is_failing, Ordering::Relaxed);
        self.counted(written)
    }

    /// What is remembered of one project on behalf of `owner`.
    pub fn project(&self, host: &str, project_id: &str, owner: &str) -> ProjectState {
        let project =
            ProjectState { state: self.clone(), host: host.into(), project_id: project_id.into(), owner: owner.into() };
        #[cfg(test)]
        testing::hold(&project);
        project
    }

    /// A keyed fingerprint: equal values have equal ones, and without the key it tells nothing about the value.
    pub fn fingerprint(&self, value: &Value) -> Digest {
        self.shared.key.digest(value)
    }

    /// What [`State::set_limiter_memory`] noted for an API host.
    pub fn limiter_memory(&self, host: &str) -> Result<Option<String>, Error> {
        let sql = "SELECT memory FROM limiter WHERE host = ?";
        Ok(self.read(|connection| connection.first(sql, &values![host], |row| row.text("memory")))?.flatten())
    }

    /// Notes what the limiter learned about an API host.
    pub fn set_limiter_memory(&self, host: &str, memory: &str) -> Result<(), Error> {
        let sql = "INSERT INTO limiter (host, memory) VALUES (?, ?)
                   ON CONFLICT (host) DO UPDATE SET memory = excluded.memory";
        self.write(|transaction| transaction.execute(sql, &values![host, memory]).map(drop))
    }

    /// By how much the clock was set since the start: to be asked within a transaction, or a read.
    fn set(&self) -> i64 {
        match &self.shared.store {
            Store::File(file) => file.set(),
            // Nobody sets the clock of this machine for what is there.
            Store::Server(_) => 0,
        }
    }

    /// The time to compare what was noted with: by it, what waits has waited for as long as it really did. No method takes
    /// it: by the time that something is written or compared, another clock may count. They ask for it where they do that.
    pub fn now(&self) -> SystemTime {
        match &self.shared.store {
            Store::File(file) => file.now(),
            Store::Server(server) => server.now(),
        }
    }

    #[cfg(test)]
    fn file(&self) -> &FileStore {
        match &self.shared.store {
            Store::File(file) => file,
            Store::Server(_) => panic!("it is on a server"),
        }
    }

    #[cfg(test)]
    fn connection(&self) -> MutexGuard<'_, rusqlite::Connection> {
        self.file().connection()
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
