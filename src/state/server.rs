//! The state in `PostgreSQL`, shared by replicas.
//!
//! A statement goes unnamed with the types of its values, in one round trip, so that a pooler that lends a connection for a
//! transaction may stand between. Nothing waits for the server for ever: a connection that is silent for too long is given
//! up, and what was under way counts as not written. Whoever calls blocks meanwhile, aside of what is answered at once.

use super::Error;
use super::clock::STEP;
use super::clock::steady;
use super::lease::Tenures;
use super::project::from_millis;
use super::project::to_millis;
use super::revision::Checkouts;
use super::sql;
use super::sql::Tx;
use super::sql::Value;
use crate::aside::aside;
use crate::telemetry::clock;
use crate::telemetry::repeats::Spell;
use futures_util::future::join_all;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_postgres::Row;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::IsNull;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::to_sql_checked;

mod address;
pub(super) mod schema;

pub use address::Address;
pub use address::BadAddress;

/// Why the server did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// What it said, or the network.
    #[error("{}", told(.0))]
    Refused(#[from] tokio_postgres::Error),
    /// Nothing was heard of it.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// Somebody else writes this project, or may.
    #[error("the lease is not held")]
    NotHeld,
    /// Nobody knows whether it was done.
    #[error("it did not come to its end; this is a defect")]
    Unfinished,
    /// It was migrated by a newer release.
    #[error(
        "the tables have version {found}, this descope-gitops knows up to {known}; run the release that migrated them, or a \
         newer one; to go back to this one, stop all replicas and restore the database as it was before"
    )]
    Newer {
        /// Theirs.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Something else has its tables there.
    #[error("{0}, and not by descope-gitops; name an empty database, or one that it has used")]
    Strange(String),
}

impl ServerError {
    /// May the same succeed though nobody changes anything?
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Refused(error) => error.as_db_error().is_none_or(|said| {
                // Connections, resources, an operator who stops it, and timeouts; and one that was demoted to be read only, which is
                // another server's address soon.
                let code = said.code().code();
                ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25006"
            }),
            Self::Silent(_) => true,
            Self::NotHeld | Self::Unfinished | Self::Newer { .. } | Self::Strange(_) => false,
        }
    }

    /// Is the connection of no use any more?
    fn is_end(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_closed() || error.as_db_error().is_none_or(|_| self.is_outage()),
            Self::Silent(_) => true,
            Self::NotHeld | Self::Unfinished | Self::Newer { .. } | Self::Strange(_) => false,
        }
    }
}

/// The driver's own message says only in which step it failed.
fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
    }
}

/// A connection.
pub(super) struct Session {
    runtime: Handle,
    client: Client,
    /// For one answer.
    patience: Duration,
    /// A statement went out that names what is owned, and not to read it.
    wrote_owned: AtomicBool,
    /// By how many milliseconds its clock is ahead of that of this machine, as of the newest transaction; 0 where both are right
    /// within a second.
    ahead: AtomicI64,
}

impl Session {
    fn wait<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, ServerError> {
        let answer = async { tokio::time::timeout(self.patience, answer).await };
        match self.runtime.block_on(answer) {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ServerError::Silent(self.patience)),
        }
    }

    /// What may write what is owned is remembered, whatever becomes of it.
    fn mark(&self, sql: &str) {
        if sql.contains("owned") && !sql.trim_start().starts_with("SELECT") {
            self.wrote_owned.store(true, Ordering::Relaxed);
        }
    }

    pub fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed)
    }

    pub fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, ServerError> {
        self.mark(sql);
        self.wait(self.client.query_typed(&numbered(sql), &typed(values)))
    }

    pub fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, ServerError> {
        self.mark(sql);
        let rows = self.wait(self.client.execute_typed(&numbered(sql), &typed(values)))?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// All go out before the first is answered: it takes the time of one round trip.
    pub fn each(&self, sql: &str, rows: &[Vec<Value<'_>>]) -> Result<(), ServerError> {
        self.mark(sql);
        let sql = numbered(sql);
        let send = async |row: &Vec<Value<'_>>| self.client.execute_typed(&sql, &typed(row)).await;
        let answers = self.wait(async { Ok(join_all(rows.iter().map(send)).await) })?;
        answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }

    /// Statements without values.
    fn batch(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, ServerError> {
        self.mark(sql);
        self.wait(self.client.simple_query(sql))
    }

    /// Begins a transaction. What time it is there.
    fn begin(&self, kind: &str) -> Result<i64, ServerError> {
        // Set for this transaction alone: the next one may have another connection. A process that was stopped in the middle
        // of one must not keep others from taking over.
        let patience = self.patience.as_millis();
        let idle = (self.patience / 2).max(Duration::from_secs(1)).as_millis();
        let sql = format!(
            "BEGIN {kind}; SET LOCAL statement_timeout = {patience}; SET LOCAL idle_in_transaction_session_timeout = {idle};
             SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now"
        );
        let answers = self.batch(&sql)?;
        let now = answers.iter().find_map(|answer| {
            let SimpleQueryMessage::Row(row) = answer else { return None };
            row.get("now")?.parse().ok()
        });
        now.ok_or(ServerError::Silent(self.patience))
    }
}

/// `$1` for the first `?`, and so on; `?1` is `$1` wherever it stands. No statement has one in a text.
fn numbered(sql: &str) -> String {
    let mut numbered = String::with_capacity(sql.len() + 16);
    let mut characters = sql.chars().peekable();
    let mut count = 0;
    while let Some(character) = characters.next() {
        if character != '?' {
            numbered.push(character);
            continue;
        }
        numbered.push('$');
        if !characters.peek().is_some_and(char::is_ascii_digit) {
            count += 1;
            numbered.push_str(&count.to_string());
        }
    }
    numbered
}

fn typed<'a>(values: &'a [Value<'_>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let form = |value: &Value<'_>| match value {
        // It is what the column is.
        Value::Null => Type::UNKNOWN,
        Value::Integer(_) => Type::INT8,
        Value::Text(_) => Type::TEXT,
        Value::Blob(_) => Type::BYTEA,
    };
    values.iter().map(|value| (value as &(dyn ToSql + Sync), form(value))).collect()
}

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) => number.to_sql(ty, out),
            // No text there holds one.
            Self::Text(text) if text.contains('\0') => text.replace('\0', "\u{fffd}").to_sql(ty, out),
            Self::Text(text) => text.as_ref().to_sql(ty, out),
            Self::Blob(bytes) => bytes.as_ref().to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(not(test))]
fn runtime() -> Handle {
    Handle::current()
}

#[cfg(test)]
fn runtime() -> Handle {
    super::testing::runtime()
}

/// The database of `state.url`.
pub(super) struct Server {
    runtime: Handle,
    address: Address,
    patience: Duration,
    /// A replica that was not heard of for so long runs no more.
    pub life: Duration,
    session: Mutex<Option<Session>>,
    /// What time it is there, and when that was told.
    clock: Mutex<Option<(i64, Duration)>>,
    /// Nobody could tell what time it is there.
    timeless: Spell,
    /// Turns at the connection that may have written what is owned.
    writes_of_owned: AtomicI64,
    /// What this process holds.
    pub tenures: Tenures,
    /// What it has loaded.
    pub checkouts: Checkouts,
    /// This process, by an id that no other has.
    pub holder: Arc<str>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Connects when it is first asked. Waits for an answer so long.
    pub fn new(address: Address, patience: Duration, life: Duration) -> Self {
        Self {
            runtime: runtime(),
            address,
            patience,
            life,
            session: Mutex::new(None),
            clock: Mutex::new(None),
            timeless: Spell::default(),
            writes_of_owned: AtomicI64::new(0),
            tenures: Tenures::default(),
            checkouts: Checkouts::default(),
            holder: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)).into(),
        }
    }

    /// How often this process may have written what is owned. Its connection serves one at a time, so that nothing is read
    /// between a write and its being counted.
    pub fn writes_of_owned(&self) -> i64 {
        self.writes_of_owned.load(Ordering::Relaxed)
    }

    /// Brings the tables to the version that this release writes.
    pub fn migrate(&self) -> Result<(), ServerError> {
        self.with(&mut schema::migrate)
    }

    /// Did somebody migrate?
    pub fn has_tables(&self) -> Result<bool, ServerError> {
        let mut version = 0;
        self.with(&mut |session| {
            version = schema::version(session)?;
            Ok(())
        })?;
        Ok(version > 0)
    }

    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on the connection, which is made where there is none.
    fn with(&self, work: &mut dyn FnMut(&Session) -> Result<(), ServerError>) -> Result<(), ServerError> {
        aside(|| {
            let mut session = self.session();
            if session.as_ref().is_some_and(|session| session.client.is_closed()) {
                *session = None;
            }
            let connected = match &mut *session {
                Some(session) => session,
                none => none.insert(self.address.connect(&self.runtime, self.patience)?),
            };
            let done = work(connected);
            if connected.wrote_owned.swap(false, Ordering::Relaxed) {
                self.writes_of_owned.fetch_add(1, Ordering::Relaxed);
            }
            if done.as_ref().is_err_and(ServerError::is_end) {
                *session = None;
            }
            done
        })
    }

    /// Runs `work` in one transaction, with the time as it is there.
    pub fn transact(&self, work: sql::Work<'_>) -> Result<(), Error> {
        self.in_transaction("COMMIT", "", work)
    }

    /// The same to read, all of one moment.
    pub fn read_at_once(&self, work: sql::Work<'_>) -> Result<(), Error> {
        self.in_transaction("ROLLBACK", "ISOLATION LEVEL REPEATABLE READ READ ONLY", work)
    }

    fn in_transaction(&self, end: &str, kind: &str, work: sql::Work<'_>) -> Result<(), Error> {
        let mut refused = None;
        self.with(&mut |session| {
            let asked = steady();
            let now = session.begin(kind)?;
            *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, asked));
            let ahead = now - to_millis(SystemTime::now());
            let ahead = if ahead.abs() < STEP { 0 } else { ahead };
            session.ahead.store(ahead, Ordering::Relaxed);
            clock::follow(ahead);
            match work(&Tx::Server(session), from_millis(now)) {
                Ok(()) => session.batch(end).map(drop),
                Err(sql::SqlError::Server(error)) if error.is_end() => Err(error),
                Err(error) => {
                    refused = Some(error);
                    session.batch("ROLLBACK").map(drop)
                }
            }
        })?;
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Each statement for itself.
    pub fn read(&self, work: sql::Work<'_>) -> Result<(), Error> {
        let (now, mut refused) = (self.now(), None);
        self.with(&mut |session| match work(&Tx::Server(session), now) {
            Ok(()) => Ok(()),
            Err(sql::SqlError::Server(error)) => Err(error),
            Err(error) => {
                refused = Some(error);
                Ok(())
            }
        })?;
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The time there, as it was told last and has passed since.
    pub fn now(&self) -> SystemTime {
        let known = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, asked)) = known {
            self.timeless.over();
            return from_millis(then) + steady().saturating_sub(asked);
        }
        sql::once(|_, now| Ok(now), |work| self.read_at_once(work)).unwrap_or_else(|error: Error| {
            if let Some(times) = self.timeless.met() {
                tracing::error!(%error, times, "cannot ask the database for the time; this machine's counts");
            }
            SystemTime::now()
        })
    }
}
