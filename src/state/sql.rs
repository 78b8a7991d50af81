//! What both databases are asked in: one text, values, rows. Where their dialects differ, the difference lives here.
//!
//! The statements of the methods are in the words that both understand: `?` for a value, `ON CONFLICT (columns)`, names of
//! tables before columns that a conflict leaves in doubt, `RETURNING`. Truths are 0 and 1, times are milliseconds since 1970.

use super::Digest;
use super::Error;
use super::project::to_millis;
use super::server::ServerError;
use super::server::Session;
use rusqlite::Connection;
use rusqlite::params_from_iter;
use rusqlite::types::ToSqlOutput;
use rusqlite::types::ValueRef;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

/// Why one statement did nothing.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// As `SQLite` says it.
    #[error(transparent)]
    File(#[from] rusqlite::Error),
    /// As `PostgreSQL` says it.
    #[error(transparent)]
    Server(#[from] ServerError),
}

pub(super) type Result<T> = std::result::Result<T, SqlError>;

/// What stands for a `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'v> {
    Null,
    Integer(i64),
    Text(Cow<'v, str>),
    Blob(Cow<'v, [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What can stand for a `?`.
pub(super) trait Bind<'v> {
    fn bind(self) -> Value<'v>;
}

impl<'v, T: ?Sized> Bind<'v> for &&'v T
where
    &'v T: Bind<'v>,
{
    fn bind(self) -> Value<'v> {
        (*self).bind()
    }
}

impl<'a, 'v, T> Bind<'v> for &'a Option<T>
where
    &'a T: Bind<'v>,
{
    fn bind(self) -> Value<'v> {
        self.as_ref().map_or(Value::Null, Bind::bind)
    }
}

impl<'v> Bind<'v> for &Value<'v> {
    fn bind(self) -> Value<'v> {
        self.clone()
    }
}

impl<'v> Bind<'v> for &i64 {
    fn bind(self) -> Value<'v> {
        Value::Integer(*self)
    }
}

impl<'v> Bind<'v> for &u32 {
    fn bind(self) -> Value<'v> {
        Value::Integer(i64::from(*self))
    }
}

impl<'v> Bind<'v> for &bool {
    fn bind(self) -> Value<'v> {
        Value::Integer(i64::from(*self))
    }
}

impl<'v> Bind<'v> for &'v str {
    fn bind(self) -> Value<'v> {
        Value::Text(self.into())
    }
}

impl<'v> Bind<'v> for &'v String {
    fn bind(self) -> Value<'v> {
        self.as_str().bind()
    }
}

impl<'v> Bind<'v> for &'v Arc<str> {
    fn bind(self) -> Value<'v> {
        (&**self).bind()
    }
}

impl<'v> Bind<'v> for &'v Cow<'_, str> {
    fn bind(self) -> Value<'v> {
        (&**self).bind()
    }
}

impl<'v> Bind<'v> for &'v Vec<u8> {
    fn bind(self) -> Value<'v> {
        Value::Blob(self.into())
    }
}

impl<'v> Bind<'v> for &'v Digest {
    fn bind(self) -> Value<'v> {
        Value::Blob(self.as_slice().into())
    }
}

/// One value for each `?`.
macro_rules! values {
    ($($value:expr),* $(,)?) => { [$($crate::state::sql::Bind::bind(&$value)),*] };
}
pub(super) use values;

/// A column by its name, or by its place in what was selected.
pub(super) trait Column: rusqlite::RowIndex + tokio_postgres::row::RowIndex + std::fmt::Display + Copy {}
impl<C: rusqlite::RowIndex + tokio_postgres::row::RowIndex + std::fmt::Display + Copy> Column for C {}

/// One row of an answer.
pub(super) enum Row<'r> {
    File(&'r rusqlite::Row<'r>),
    Server(&'r tokio_postgres::Row),
}

impl Row<'_> {
    /// A number; an error where there is none.
    pub fn integer(&self, column: impl Column) -> Result<i64> {
        match self {
            Self::File(row) => Ok(row.get(column)?),
            Self::Server(row) => Ok(row.try_get(column).map_err(ServerError::from)?),
        }
    }

    /// The same where there may be none.
    pub fn optional(&self, column: impl Column) -> Result<Option<i64>> {
        match self {
            Self::File(row) => Ok(row.get(column)?),
            Self::Server(row) => Ok(row.try_get(column).map_err(ServerError::from)?),
        }
    }

    pub fn is(&self, column: impl Column) -> Result<bool> {
        Ok(self.integer(column)? != 0)
    }

    /// Whatever stands there, as text; `None` where nothing does.
    pub fn text(&self, column: impl Column) -> Result<Option<String>> {
        match self {
            Self::File(row) => {
                let bytes = row.get_ref(column)?.as_bytes_or_null().map_err(rusqlite::Error::from)?;
                Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            }
            Self::Server(row) => Ok(row.try_get(column).map_err(ServerError::from)?),
        }
    }

    /// `None` also for what is no text.
    pub fn str(&self, column: impl Column) -> Result<Option<&str>> {
        match self {
            Self::File(row) => Ok(row.get_ref(column)?.as_str().ok()),
            Self::Server(row) => Ok(row.try_get(column).map_err(ServerError::from)?),
        }
    }

    /// `None` also for what is no bytes.
    pub fn bytes(&self, column: impl Column) -> Result<Option<&[u8]>> {
        match self {
            Self::File(row) => Ok(row.get_ref(column)?.as_bytes().ok()),
            Self::Server(row) => Ok(row.try_get(column).map_err(ServerError::from)?),
        }
    }

    /// `None` also for one that is no digest.
    pub fn digest(&self, column: impl Column) -> Result<Option<Digest>> {
        Ok(self.bytes(column)?.and_then(|bytes| bytes.try_into().ok()))
    }
}

/// As long as it is the same, nothing of what is owned was written.
pub(super) type Version = (i64, i64, i64);

/// The database counts for itself, so that no statement can forget to. In memory, and of one connection.
const COUNT_OWNED: &str = "
    PRAGMA temp_store = MEMORY;
    CREATE TEMP TABLE owned_writes (n INTEGER NOT NULL) STRICT;
    INSERT INTO owned_writes VALUES (0);
    CREATE TEMP TRIGGER owned_insert AFTER INSERT ON main.owned BEGIN UPDATE owned_writes SET n = n + 1; END;
    CREATE TEMP TRIGGER owned_update AFTER UPDATE OF project, kind, tenant, name, created_at, protected, cascade_delete
        ON main.owned BEGIN UPDATE owned_writes SET n = n + 1; END;
    CREATE TEMP TRIGGER owned_delete AFTER DELETE ON main.owned BEGIN UPDATE owned_writes SET n = n + 1; END;
";

/// From now on [`Tx::version_of_owned`] sees what is written here.
pub(super) fn count_owned(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(COUNT_OWNED)
}

/// Statements that are on their way to a server at a time, where there are many of one kind.
const AT_A_TIME: usize = 500;

fn execute(statement: &mut rusqlite::Statement<'_>, values: &[Value<'_>]) -> Result<()> {
    statement.execute(params_from_iter(values))?;
    Ok(())
}

/// Either database, in a transaction or not.
pub(super) enum Tx<'t> {
    File(&'t Connection),
    Server(&'t Session),
}

/// What is done in a transaction, called once. One copy of the code around it serves everybody.
pub(super) type Work<'w> = &'w mut dyn FnMut(&Tx<'_>, SystemTime) -> Result<()>;

/// Has `run` do `work`, and gives what came of it.
pub(super) fn once<T>(
    work: impl FnOnce(&Tx<'_>, SystemTime) -> Result<T>,
    run: impl FnOnce(Work<'_>) -> std::result::Result<(), Error>,
) -> std::result::Result<T, Error> {
    let (mut work, mut result) = (Some(work), None);
    run(&mut |transaction, now| {
        if let Some(work) = work.take() {
            result = Some(work(transaction, now)?);
        }
        Ok(())
    })?;
    result.ok_or(Error::Unfinished)
}

impl Tx<'_> {
    /// What history says of a moment, in milliseconds since 1970: by the clock of the database that replicas share; in a directory
    /// by that of this machine, as it is set.
    pub fn time(&self, at: SystemTime) -> i64 {
        match self {
            Self::File(_) => to_millis(at),
            Self::Server(session) => to_millis(at) + session.ahead(),
        }
    }

    /// How many rows it was about.
    pub fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize> {
        match self {
            Self::File(connection) => Ok(connection.prepare_cached(sql)?.execute(params_from_iter(values))?),
            Self::Server(session) => Ok(session.execute(sql, values)?),
        }
    }

    /// The same statement with the values of each of `rows`, however many.
    pub fn each<'v, V: AsRef<[Value<'v>]> + Into<Vec<Value<'v>>>>(
        &self,
        sql: &str,
        rows: impl IntoIterator<Item = V>,
    ) -> Result<()> {
        let mut rows = rows.into_iter();
        match self {
            Self::File(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                rows.try_for_each(|row| execute(&mut statement, row.as_ref()))
            }
            Self::Server(session) => loop {
                let some: Vec<Vec<Value<'v>>> = rows.by_ref().take(AT_A_TIME).map(Into::into).collect();
                if some.is_empty() {
                    return Ok(());
                }
                session.each(sql, &some)?;
            },
        }
    }

    /// What `read` makes of every row.
    pub fn rows<T, C: FromIterator<T>>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<C> {
        let mut rows = Vec::new();
        self.visit(sql, values, &mut |row| {
            rows.push(read(row)?);
            Ok(true)
        })?;
        Ok(rows.into_iter().collect())
    }

    /// What `read` makes of the first row.
    pub fn first<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let (mut read, mut first) = (Some(read), None);
        self.visit(sql, values, &mut |row| {
            if let Some(read) = read.take() {
                first = Some(read(row)?);
            }
            Ok(false)
        })?;
        Ok(first)
    }

    /// Shows rows until one is enough.
    fn visit(&self, sql: &str, values: &[Value<'_>], show: &mut dyn FnMut(&Row<'_>) -> Result<bool>) -> Result<()> {
        match self {
            Self::File(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query(params_from_iter(values))?;
                while let Some(row) = rows.next()? {
                    if !show(&Row::File(row))? {
                        break;
                    }
                }
            }
            Self::Server(session) => {
                for row in &session.query(sql, values)? {
                    if !show(&Row::Server(row))? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Is there a row?
    pub fn exists(&self, sql: &str, values: &[Value<'_>]) -> Result<bool> {
        Ok(self.first(sql, values, |_| Ok(()))?.is_some())
    }

    /// Of a file: rows that this connection has written, and whether another one has written anything. `None` where the
    /// connection alone cannot tell.
    pub fn version_of_owned(&self) -> Result<Option<Version>> {
        match self {
            Self::File(connection) => {
                let by_others = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
                // Whoever only reads counts nothing.
                let is_reader = connection.is_readonly(rusqlite::MAIN_DB)?;
                let count = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
                let by_us = if is_reader { 0 } else { count("SELECT n FROM temp.owned_writes")? };
                Ok(Some((by_us, by_others, 0)))
            }
            Self::Server(_) => Ok(None),
        }
    }
}
