//! Carries a state from a directory into a database that replicas share, back, or into another directory: every row that has to
//! survive, and the key of its fingerprints.
//!
//! The source stays as it is, and the target has everything or nothing. Nobody writes either side meanwhile, but for a daemon
//! on a directory that is copied into another.

use super::Address;
use super::BadAddress;
use super::DATABASE;
use super::Digest;
use super::Error;
use super::KEY;
use super::OpenError;
use super::egress::CLASS;
use super::file::FileStore;
use super::fingerprint::FingerprintKey;
use super::lease::NOW;
use super::open;
use super::project::from_millis;
use super::server::Server;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::Value;
use super::sql::values;
use crate::config::EGRESS;
use crate::config::LEASE_LIFE;
use crate::limiter::memory::Memory;
use crate::limiter::shared::row::Row as SharedRow;
use secrecy::SecretString;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

/// What is carried, each after what it refers to.
const CARRIED: &[&str] = &[
    "project",
    "revision",
    "owned",
    "renamed",
    "sent",
    "written",
    "applied",
    "contacted",
    "secret_file",
    "intent",
    "approved",
    "approval",
    "deletion",
    "absent",
    "missing",
    "drifted",
    "reverted",
    "held",
    "suspended",
    "told",
    "pass",
    "audit",
    "limiter",
];

/// What only replicas need, and make anew: who holds what and was seen last, what they hand to one another, which volume they
/// share. `egress` is carried as what one process knows of the rate limit; the key of the fingerprints by itself.
#[cfg(test)]
const LEFT: &[&str] =
    &["lease", "replica", "checkout", "ordered", "shown", "volume", "egress", "fingerprint_key", "schema_version"];

/// Their numbers go on after the newest.
const NUMBERED: [&str; 5] = ["project", "revision", "intent", "pass", "audit"];

/// A large table takes a while.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Why nothing was carried.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A side cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A side failed on the way. What was there before is there.
    #[error("nothing was copied: {0}")]
    State(#[from] Error),
    /// The URL of the database.
    #[error("the URL of the database {0}")]
    Url(BadAddress),
    /// The key of the fingerprints.
    #[error("the key of the fingerprints must be 64 hexadecimal digits, as in state.fingerprintKey")]
    Key,
    /// There is nothing to carry.
    #[error("no state in {}: name the directory of a daemon that has run", .0.display())]
    NoDirectory(PathBuf),
    /// What was fingerprinted could not be compared any more, and would be sent once more without a word.
    #[error(
        "{} has no {KEY}, or a damaged one, and no other fits its fingerprints: nothing was copied; put back the one that \
         belongs to its {DATABASE}; where that is lost, start the daemon there once, which sends what cannot be read back once \
         more, and copy then",
        .0.display()
    )]
    NoKey(PathBuf),
    /// Something else lives there, as the files of a repo.
    #[error("{} has {name}, which is no part of a state; name an empty directory", dir.display())]
    NotOurs {
        /// The target.
        dir: PathBuf,
        /// What is there.
        name: String,
    },
    /// There is nothing to carry.
    #[error("no state in the database: name one that replicas have used as state.url")]
    NoTables,
    /// Somebody writes.
    #[error(
        "the replica {holder} holds project {project} in this database until {until}: stop all replicas, wait until the \
         lease is over, and try again"
    )]
    Held {
        /// By name.
        holder: String,
        /// Descope's id.
        project: String,
        /// RFC 3339, by the clock of the database.
        until: String,
    },
    /// The target has a state already.
    #[error(
        "the {place} is not empty: its table {table} has rows, which would be mixed with others; name an empty {place}"
    )]
    NotEmpty {
        /// `directory` or `database`.
        place: &'static str,
        /// The first that is not.
        table: &'static str,
    },
    /// Fingerprints of one key say nothing to another.
    #[error(
        "the key that was given is not the one that the fingerprints were made with: nothing was copied; give the one of \
         state.fingerprintKey, which for a directory is in {KEY}"
    )]
    OtherKey,
    /// The target has another key.
    #[error("{} is another key than the one that the fingerprints were made with; name an empty directory", .0.display())]
    KeyThere(PathBuf),
    /// The target has a state whose key is lost.
    #[error("{} has a {DATABASE} and no {KEY}; name an empty directory", .0.display())]
    NoKeyThere(PathBuf),
}

/// Rows by table, in the order in which they were carried.
pub type Counts = Vec<(&'static str, usize)>;

/// From a directory that no daemon uses into a database. `key`: of `state.fingerprintKey`, checked where it is given.
pub fn to_database(dir: &Path, url: &SecretString, key: Option<&SecretString>) -> Result<Counts, CopyError> {
    if !dir.join(DATABASE).exists() {
        return Err(CopyError::NoDirectory(dir.to_owned()));
    }
    // Let go after all else.
    let _lock = open::lock(dir)?;
    let mark = key_of(dir, key)?.mark();
    // Not the file: of what opening a state changes, nothing belongs into one that stays as it is.
    let file = FileStore::to_read(open::in_memory(&dir.join(DATABASE))?);
    let server = server(url)?;
    server.migrate().map_err(OpenError::Server)?;
    let done = in_file(&file, |from| {
        Ok(on_server(&server, |to, now| {
            if let Err(refused) = free(to)?.and_then(|()| empty(to, "database")) {
                return Ok(Err(refused));
            }
            to.execute("DELETE FROM fingerprint_key", &[])?;
            to.execute("INSERT INTO fingerprint_key (one, digest) VALUES (1, ?)", &values![mark])?;
            let counts = carry(from, from, to)?;
            for table in NUMBERED {
                let sql = format!(
                    "SELECT setval(pg_get_serial_sequence('{table}', 'id'), coalesce(max(id), 1), max(id) IS NOT NULL)
                     FROM {table}"
                );
                to.exists(&sql, &[])?;
            }
            teach_replicas(to, now)?;
            Ok(Ok(counts))
        }))
    })?;
    done?
}

/// From a directory into one without a state, as it is now: a daemon may go on using it. `key` as for [`to_database`].
pub fn to_other_directory(from: &Path, key: Option<&SecretString>, to: &Path) -> Result<Counts, CopyError> {
    if !from.join(DATABASE).exists() {
        return Err(CopyError::NoDirectory(from.to_owned()));
    }
    let key = key_of(from, key)?;
    into_directory(&key, to, |new| {
        open::write_copy(&from.join(DATABASE), new)?;
        let copy = FileStore::to_read(open::reader(new)?);
        let count = |table: &'static str| {
            let sql = format!("SELECT count(*) AS n FROM {table}");
            let rows = |tx: &Tx<'_>| Ok(tx.first(&sql, &[], |row| row.integer("n"))?.unwrap_or_default());
            let count = sql::once(|tx, _| rows(tx), |work| copy.read(work))?;
            Ok((table, usize::try_from(count).unwrap_or_default()))
        };
        CARRIED.iter().map(|table| count(table)).collect()
    })
}

/// The key of the fingerprints of a directory, which has to be this one.
fn key_of(dir: &Path, expected: Option<&SecretString>) -> Result<FingerprintKey, CopyError> {
    let expected = expected.map(|key| FingerprintKey::of_setting(key).ok_or(CopyError::Key)).transpose()?;
    let key = FingerprintKey::read(&dir.join(KEY))?.ok_or_else(|| CopyError::NoKey(dir.to_owned()))?;
    if expected.is_some_and(|expected| expected.mark() != key.mark()) {
        return Err(CopyError::OtherKey);
    }
    Ok(key)
}

/// From a database whose replicas have stopped into a directory without a state. `key` is that of `state.fingerprintKey`.
pub fn to_directory(url: &SecretString, key: &SecretString, dir: &Path) -> Result<Counts, CopyError> {
    let key = FingerprintKey::of_setting(key).ok_or(CopyError::Key)?;
    let server = server(url)?;
    if !server.has_tables().map_err(OpenError::Server)? {
        return Err(CopyError::NoTables);
    }
    server.migrate().map_err(OpenError::Server)?;
    on_server(&server, |from, _| {
        if let Err(refused) = free(from)? {
            return Ok(Err(refused));
        }
        let mark: Option<Digest> =
            from.first("SELECT digest FROM fingerprint_key", &[], |row| row.digest("digest"))?.flatten();
        if mark.is_some_and(|mark| mark != key.mark()) {
            return Ok(Err(CopyError::OtherKey));
        }
        Ok(into_directory(&key, dir, |new| {
            let (connection, _) = open::database(new)?;
            let file = FileStore::to_read(connection);
            let counts = in_file(&file, |to| {
                let counts = carry(from, to, to)?;
                teach_one(from, to)?;
                Ok(counts)
            })?;
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            file.connection().query_row(checkpoint, [], |_| Ok(())).map_err(Error::from)?;
            Ok(counts)
        }))
    })?
}

/// Has `write` make the database beside its place, which it takes when it is complete.
fn into_directory(
    key: &FingerprintKey,
    dir: &Path,
    write: impl FnOnce(&Path) -> Result<Counts, CopyError>,
) -> Result<Counts, CopyError> {
    if let Some(name) = stranger(dir)? {
        return Err(CopyError::NotOurs { dir: dir.to_owned(), name });
    }
    // Let go after all else.
    let _lock = open::lock(dir)?;
    let (path, database) = (dir.join(KEY), dir.join(DATABASE));
    let new = open::unfinished(&database);
    // What another copy left.
    open::remove(&new)?;
    match FingerprintKey::read(&path)? {
        Some(there) if there.mark() == key.mark() => {}
        None if !database.exists() => key.keep(&path)?,
        Some(_) => return Err(CopyError::KeyThere(path)),
        None => return Err(CopyError::NoKeyThere(dir.to_owned())),
    }
    if let Some(there) = open::read_only(&database)? {
        in_file(&FileStore::to_read(there), |there| Ok(empty(there, "directory")))??;
    }
    let counts = write(&new).inspect_err(|_| open::remove(&new).unwrap_or_default())?;
    open::put_in_place(&database)?;
    Ok(counts)
}

/// Something in there that no state has.
fn stranger(dir: &Path) -> Result<Option<String>, CopyError> {
    let failed = |source| OpenError::File { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let is_ours = name.starts_with(DATABASE) || name.starts_with(KEY) || ["lock", "lost+found"].contains(&&*name);
        if !is_ours {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// All of `work`, or nothing.
fn on_server<T>(server: &Server, work: impl FnOnce(&Tx<'_>, SystemTime) -> sql::Result<T>) -> Result<T, Error> {
    sql::once(work, |work| server.transact(work))
}

fn in_file<T>(file: &FileStore, work: impl FnOnce(&Tx<'_>) -> sql::Result<T>) -> Result<T, Error> {
    sql::once(|transaction, _| work(transaction), |work| file.transact(work))
}

fn server(url: &SecretString) -> Result<Server, CopyError> {
    Ok(Server::new(Address::parse(url).map_err(CopyError::Url)?, PATIENCE, LEASE_LIFE))
}

/// Nobody holds a project there, and nobody will before this transaction is over.
fn free(server: &Tx<'_>) -> sql::Result<Result<(), CopyError>> {
    server.execute("LOCK TABLE lease IN EXCLUSIVE MODE", &[])?;
    let sql = format!(
        "SELECT coalesce(replica.name, lease.holder) AS holder, lease.project_id, lease.expires FROM lease
         LEFT JOIN replica ON replica.id = lease.holder WHERE lease.expires > {NOW} ORDER BY lease.project_id LIMIT 1"
    );
    let held = server.first(&sql, &[], |row| {
        let text = |column| Ok::<_, sql::SqlError>(row.text(column)?.unwrap_or_default());
        let until = humantime::format_rfc3339_seconds(from_millis(row.integer("expires")?)).to_string();
        Ok(CopyError::Held { holder: text("holder")?, project: text("project_id")?, until })
    })?;
    Ok(held.map_or(Ok(()), Err))
}

/// Nothing would be mixed with what is carried.
fn empty(to: &Tx<'_>, place: &'static str) -> Result<(), CopyError> {
    for table in CARRIED {
        if to.exists(&format!("SELECT 1 FROM {table} LIMIT 1"), &[]).map_err(Error::from)? {
            return Err(CopyError::NotEmpty { place, table });
        }
    }
    Ok(())
}

/// Every row of every table, in the columns that the file has.
fn carry(from: &Tx<'_>, file: &Tx<'_>, to: &Tx<'_>) -> sql::Result<Counts> {
    let mut counts = Counts::new();
    for table in CARRIED {
        let columns: Vec<(String, String)> =
            file.rows(&format!("SELECT name, type FROM pragma_table_info('{table}')"), &[], |row| {
                Ok((row.text("name")?.unwrap_or_default(), row.text("type")?.unwrap_or_default()))
            })?;
        let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let (names, marks) = (names.join(", "), vec!["?"; columns.len()].join(", "));
        let read = |row: &Row<'_>| {
            columns.iter().enumerate().map(|(at, (_, form))| value(row, at, form)).collect::<sql::Result<Vec<_>>>()
        };
        let rows: Vec<Vec<Value<'static>>> = from.rows(&format!("SELECT {names} FROM {table}"), &[], read)?;
        let count = rows.len();
        to.each(&format!("INSERT INTO {table} ({names}) VALUES ({marks})"), rows)?;
        counts.push((table, count));
    }
    Ok(counts)
}

fn value(row: &Row<'_>, at: usize, form: &str) -> sql::Result<Value<'static>> {
    let value = match form {
        "INTEGER" => row.optional(at)?.map(Value::Integer),
        "BLOB" => row.bytes(at)?.map(|bytes| Value::Blob(Cow::Owned(bytes.to_vec()))),
        _ => row.text(at)?.map(|text| Value::Text(Cow::Owned(text))),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// Replicas begin with what one process had learned of the rate limit.
fn teach_replicas(to: &Tx<'_>, now: SystemTime) -> sql::Result<()> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    to.execute("DELETE FROM egress", &[])?;
    let known: Vec<(String, String)> = to.rows("SELECT host, memory FROM limiter", &[], |row| {
        Ok((row.text("host")?.unwrap_or_default(), row.text("memory")?.unwrap_or_default()))
    })?;
    for (host, memory) in known {
        let Ok(memory) = serde_json::from_str::<Memory>(&memory) else { continue };
        let row = SharedRow::of_memory(memory, now);
        let closed_at = row.closed_at().map(|at| i64::try_from(at.as_nanos()).unwrap_or(i64::MAX));
        let sql = "INSERT INTO egress (host, egress, class, version, closed_at, row) VALUES (?, ?, ?, 1, ?, ?)";
        to.execute(sql, &values![host, EGRESS, CLASS, closed_at, row.to_text()])?;
    }
    Ok(())
}

/// One process begins with what the replicas have learned since.
fn teach_one(from: &Tx<'_>, to: &Tx<'_>) -> sql::Result<()> {
    // Of several addresses, one is like another to a process that leaves through its own.
    let sql = "SELECT host, row FROM egress WHERE version > 1 ORDER BY egress DESC";
    let known: BTreeMap<String, String> =
        from.rows(sql, &[], |row| Ok((row.text("host")?.unwrap_or_default(), row.text("row")?.unwrap_or_default())))?;
    for (host, row) in known {
        let Some(memory) = SharedRow::memory_of(&row).and_then(|memory| serde_json::to_string(&memory).ok()) else {
            continue;
        };
        let sql = "INSERT INTO limiter (host, memory) VALUES (?, ?)
                   ON CONFLICT (host) DO UPDATE SET memory = excluded.memory";
        to.execute(sql, &values![host, memory])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Leases;
    use crate::state::Place;
    use crate::state::SharedPlace;
    use crate::state::Standing;
    use crate::state::State;
    use crate::state::testing;
    use rusqlite::Connection;
    use rusqlite::params_from_iter;
    use rusqlite::types::Value as Cell;
    use std::collections::BTreeSet;
    use std::fmt::Write;

    type Rows = BTreeMap<String, Vec<Vec<Cell>>>;

    fn tables(connection: &Connection) -> Vec<String> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Rows in every table and every column that there is, and others with nothing where nothing may stand.
    fn fill(dir: &Path) {
        drop(State::open(dir).unwrap());
        let connection = Connection::open(dir.join(DATABASE)).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        for table in tables(&connection) {
            let mut statement = connection.prepare(&format!("PRAGMA table_info({table})")).unwrap();
            let columns = statement
                .query_map([], |row| Ok((row.get("name")?, row.get("type")?, row.get("notnull")?, row.get("pk")?)))
                .unwrap();
            let columns: Vec<(String, String, bool, i64)> = columns.map(Result::unwrap).collect();
            for n in 1..=3_i64 {
                let cell = |at: usize, (name, form, must, key): &(String, String, bool, i64)| match form.as_str() {
                    _ if n == 2 && !must && *key == 0 => Cell::Null,
                    _ if name == "project" && form == "INTEGER" => Cell::Integer(n.min(2)),
                    "INTEGER" => Cell::Integer(n * 7 + i64::try_from(at).unwrap() * i64::from(*key == 0)),
                    "BLOB" => Cell::Blob(vec![u8::try_from(n).unwrap(); 32]),
                    _ => Cell::Text(format!("{table} {name} 'ä' {n}")),
                };
                let mut row: Vec<Cell> = columns.iter().enumerate().map(|(at, column)| cell(at, column)).collect();
                if table == "project" {
                    row[0] = Cell::Integer(n);
                }
                let marks = vec!["?"; row.len()].join(", ");
                connection.execute(&format!("INSERT INTO {table} VALUES ({marks})"), params_from_iter(row)).unwrap();
            }
        }
    }

    fn dump(dir: &Path) -> Rows {
        let connection = Connection::open(dir.join(DATABASE)).unwrap();
        let of_table = |table: String| {
            let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let width = statement.column_count();
            let read = |row: &rusqlite::Row<'_>| (0..width).map(|at| row.get(at)).collect::<Result<Vec<Cell>, _>>();
            let mut rows: Vec<Vec<Cell>> = statement.query_map([], read).unwrap().map(Result::unwrap).collect();
            rows.sort_by_key(|row| format!("{row:?}"));
            (table, rows)
        };
        tables(&connection).into_iter().map(of_table).collect()
    }

    fn key(dir: &Path) -> SecretString {
        let mut hex = String::new();
        fs::read(dir.join(KEY)).unwrap().iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
        hex.into()
    }

    fn on(url: &SecretString, sql: &str) -> Option<i64> {
        on_server(&server(url).unwrap(), |tx, _| tx.first(sql, &[], |row| row.optional(0))).unwrap().flatten()
    }

    #[test]
    fn no_table_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(dir.path()).unwrap());
        let there: BTreeSet<String> =
            tables(&Connection::open(dir.path().join(DATABASE)).unwrap()).into_iter().collect();
        let carried: BTreeSet<String> = CARRIED.iter().map(|table| (*table).to_owned()).collect();
        assert_eq!(there, carried, "carry it, or say why not");

        let Some(url) = testing::database() else { return };
        let server = server(&url).unwrap();
        server.migrate().unwrap();
        let sql = "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = current_schema()";
        let there: BTreeSet<String> =
            on_server(&server, |tx, _| tx.rows(sql, &[], |row| Ok(row.text("name")?.unwrap()))).unwrap();
        let known = carried.into_iter().chain(LEFT.iter().map(|table| (*table).to_owned())).collect();
        assert_eq!(there, known, "carry it, or say why not");
    }

    #[test]
    fn a_state_is_the_same_row_by_row_when_it_comes_back_from_a_database() {
        let Some(url) = testing::database() else { return };
        let (here, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(here.path());
        let before = dump(here.path());
        assert!(before.values().all(|rows| rows.len() == 3), "a table without rows proves nothing");

        let file = fs::read(here.path().join(DATABASE)).unwrap();
        let there = to_database(here.path(), &url, Some(&key(here.path()))).unwrap();
        assert_eq!(fs::read(here.path().join(DATABASE)).unwrap(), file, "not even read to be written");
        assert_eq!(there, CARRIED.iter().map(|table| (*table, 3)).collect::<Counts>());
        assert_eq!(on(&url, "SELECT nextval(pg_get_serial_sequence('audit', 'id'))"), Some(22), "after the newest");
        let target = back.path().join("state");
        let counts = to_directory(&url, &key(here.path()), &target).unwrap();

        assert_eq!(counts, there);
        assert_eq!(dump(&target), before);
        assert_eq!(dump(here.path()), before, "the source stays");
        assert_eq!(fs::read(target.join(KEY)).unwrap(), fs::read(here.path().join(KEY)).unwrap());
    }

    #[test]
    fn what_would_mix_states_or_lose_some_is_refused() {
        let Some(url) = testing::database() else { return };
        let (here, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let other: SecretString = "ab".repeat(32).into();
        let empty = |url| on(url, "SELECT count(*) FROM project") == Some(0);
        assert!(matches!(to_database(here.path(), &url, None), Err(CopyError::NoDirectory(_))));
        assert!(matches!(to_directory(&url, &other, back.path()), Err(CopyError::NoTables)));
        fill(here.path());
        let key = key(here.path());

        assert!(matches!(to_database(here.path(), &url, Some(&other)), Err(CopyError::OtherKey)));
        let daemon = State::open(here.path()).unwrap();
        assert!(matches!(to_database(here.path(), &url, None), Err(CopyError::Open(OpenError::InUse { .. }))));
        drop(daemon);
        server(&url).unwrap().migrate().unwrap();
        let hold = "INSERT INTO lease (host, project_id, owner, holder, term, since, expires, before)
                    VALUES ('h', 'P1', 'o', 'abc', 1, 0, 99999999999999, 0) RETURNING term";
        on(&url, hold);
        let refused = to_database(here.path(), &url, None).unwrap_err().to_string();
        assert!(refused.starts_with("the replica abc holds project P1 in this database until "), "{refused}");
        assert!(empty(&url), "half done");
        let refused = to_directory(&url, &key, back.path()).unwrap_err();
        assert!(matches!(refused, CopyError::Held { .. }), "{refused}");
        on(&url, "UPDATE lease SET expires = 1 RETURNING term");

        to_database(here.path(), &url, None).unwrap();
        let refused = to_database(here.path(), &url, None).unwrap_err().to_string();
        assert!(refused.starts_with("the database is not empty: its table project has rows"), "{refused}");
        assert!(matches!(to_directory(&url, &other, back.path()), Err(CopyError::OtherKey)));
        assert_eq!(fs::read_dir(back.path()).unwrap().count(), 0, "nothing was made");
        let refused = to_directory(&url, &key, here.path()).unwrap_err().to_string();
        assert!(refused.starts_with("the directory is not empty: its table project has rows"), "{refused}");
        assert!(refused.ends_with("; name an empty directory"), "{refused}");
        let (another, keyless) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&another, &keyless] {
            drop(State::open(dir.path()).unwrap());
        }
        fs::remove_file(keyless.path().join(KEY)).unwrap();
        let refused = to_directory(&url, &key, another.path()).unwrap_err().to_string();
        assert!(refused.contains(" is another key than the one that the fingerprints were made with"), "{refused}");
        let refused = to_directory(&url, &key, keyless.path()).unwrap_err().to_string();
        assert!(refused.ends_with(" has a state.db and no fingerprint.key; name an empty directory"), "{refused}");
    }

    /// It deleted all fingerprints of the source and gave it a new key.
    #[test]
    fn a_source_that_lacks_its_key_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let (given, kept) = (key(dir.path()), fs::read(dir.path().join(KEY)).unwrap());
        let nowhere: SecretString = "postgres://nobody@127.0.0.1:1/none".into();
        let other = dir.path().join("other");
        let file = || fs::read(dir.path().join(DATABASE)).unwrap();
        let before = file();
        for damaged in [None, Some(&kept[..20])] {
            fs::remove_file(dir.path().join(KEY)).unwrap();
            if let Some(damaged) = damaged {
                fs::write(dir.path().join(KEY), damaged).unwrap();
            }
            for key in [None, Some(&given)] {
                assert!(matches!(to_database(dir.path(), &nowhere, key), Err(CopyError::NoKey(_))));
                assert!(matches!(to_other_directory(dir.path(), key, &other), Err(CopyError::NoKey(_))));
            }
            assert_eq!(file(), before);
            assert_eq!(fs::read(dir.path().join(KEY)).ok().as_deref(), damaged);
            fs::write(dir.path().join(KEY), &kept).unwrap();
        }
        assert!(!other.exists());

        assert!(matches!(to_database(dir.path(), &nowhere, Some(&given)), Err(CopyError::Open(OpenError::Server(_)))));
        assert_eq!(file(), before);
    }

    #[test]
    fn a_directory_is_copied_into_another_beside_its_daemon_with_what_is_in_its_log() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = there.path().join("backup");
        fill(here.path());
        let daemon = State::open(here.path()).unwrap();
        daemon.project("h", "p", "o").mark_known().unwrap();
        assert!(here.path().join("state.db-wal").exists());

        let counts = to_other_directory(here.path(), None, &target).unwrap();

        assert_eq!(counts[0], ("project", 4));
        daemon.project("h", "another", "o").mark_known().unwrap();
        drop(daemon);
        let (copied, mut names) = (dump(&target), Vec::new());
        names.extend(fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        names.sort();
        assert_eq!(names, ["fingerprint.key", "lock", "state.db"]);
        assert_eq!((copied["project"].len(), copied["audit"].len()), (4, 3));
        assert_eq!(dump(here.path())["project"].len(), 5, "later, and of the daemon alone");
        assert!(!State::open(&target).unwrap().was_reset());
        assert_eq!(fs::read(target.join(KEY)).unwrap(), fs::read(here.path().join(KEY)).unwrap());
    }

    /// A checkout that stood still and was the first to start on a carried state turned back what was in force.
    #[test]
    fn which_files_were_in_force_goes_along() {
        let Some(url) = testing::database() else { return };
        let dir = tempfile::tempdir().unwrap();
        let alone = State::open(dir.path()).unwrap();
        for revision in ["old", "new", "new"] {
            alone.project("h", "p", "o").note_in_force(&revision.into(), None).unwrap();
        }
        drop(alone);

        let counts = to_database(dir.path(), &url, None).unwrap();

        assert!(counts.contains(&("revision", 2)), "{counts:?}");
        let shared = SharedPlace::new(&url, &key(dir.path()), LEASE_LIFE, LEASE_LIFE / 4).unwrap();
        let place = Place::Database(Box::new(shared));
        let state = State::open_at(&place).unwrap();
        let mut leases = Leases::of(&state, &place, "one").unwrap();
        leases.turn(&[("h".to_owned(), "p".to_owned(), "o".to_owned())], &|_| false).unwrap();
        let project = state.project("h", "p", "o");
        let stands_on = |revision: &str| {
            project.loaded(&revision.into(), None);
            project.stand().unwrap()
        };
        assert_eq!((stands_on("old"), stands_on("new")), (Standing::Behind, Standing::Newest));
    }

    /// A log that a killed daemon left beside a database that is not its own any more wins over it.
    #[test]
    fn what_another_database_left_behind_and_a_copy_that_was_cut_off_are_replaced() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(here.path());
        fs::copy(here.path().join(KEY), there.path().join(KEY)).unwrap();
        for left in ["state.db-wal", "state.db-shm", "state.db.new", "state.db.new-wal"] {
            fs::write(there.path().join(left), [b'x'; 5000]).unwrap();
        }
        assert!(matches!(State::open(there.path()), Err(OpenError::Unfinished { .. })));

        to_other_directory(here.path(), Some(&key(here.path())), there.path()).unwrap();

        assert_eq!(dump(there.path()), dump(here.path()));
        assert!(!State::open(there.path()).unwrap().was_reset());
        let again = to_other_directory(here.path(), None, there.path()).unwrap_err();
        assert!(matches!(again, CopyError::NotEmpty { .. }), "{again}");
    }

    #[test]
    fn a_directory_with_files_of_something_else_gets_no_state() {
        let (here, repo) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(State::open(here.path()).unwrap());
        fs::write(repo.path().join("roles.yaml"), "").unwrap();

        let refused = to_other_directory(here.path(), None, repo.path()).unwrap_err().to_string();

        let expected =
            format!("{} has roles.yaml, which is no part of a state; name an empty directory", repo.path().display());
        assert_eq!(refused, expected);
        assert_eq!(fs::read_dir(repo.path()).unwrap().count(), 1, "nothing was made");
    }

    #[test]
    fn a_database_with_tables_of_something_else_is_said_to_have_them() {
        let Some(url) = testing::database() else { return };
        let here = tempfile::tempdir().unwrap();
        fill(here.path());
        on_server(&server(&url).unwrap(), |tx, _| tx.execute("CREATE TABLE audit (theirs text)", &[])).unwrap();

        let refused = to_database(here.path(), &url, None).unwrap_err().to_string();

        assert_eq!(
            refused,
            "cannot use the database of state.url: relation \"audit\" already exists, and not by descope-gitops; name an \
             empty database, or one that it has used"
        );
    }

    /// One row that cannot be written at its end, and nothing of it is there.
    #[test]
    fn what_fails_on_the_way_leaves_the_target_empty() {
        let Some(url) = testing::database() else { return };
        let here = tempfile::tempdir().unwrap();
        fill(here.path());
        server(&url).unwrap().migrate().unwrap();
        let sql = "ALTER TABLE limiter ADD CONSTRAINT never CHECK (host = '')";
        on_server(&server(&url).unwrap(), |tx, _| tx.execute(sql, &[])).unwrap();

        let refused = to_database(here.path(), &url, None).unwrap_err().to_string();

        assert!(refused.starts_with("nothing was copied: the database of state.url refused: "), "{refused}");
        assert_eq!(on(&url, "SELECT count(*) FROM project"), Some(0));
        assert_eq!(on(&url, "SELECT count(*) FROM audit"), Some(0));
    }

    #[test]
    fn what_was_learned_of_the_rate_limit_goes_along_in_the_form_of_the_other_side() {
        let Some(url) = testing::database() else { return };
        let (here, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let learned = |n| Memory {
            saved_at: now.as_secs_f64(),
            limit: Some((100.0, 60.0)),
            n: Some(n),
            window: Some(45.0),
            ..Memory::default()
        };
        let state = State::open(here.path()).unwrap();
        state.set_limiter_memory("api.descope.com", &serde_json::to_string(&learned(42.0)).unwrap()).unwrap();
        drop(state);

        to_database(here.path(), &url, None).unwrap();
        let sql = "SELECT row FROM egress WHERE egress = 'default'";
        let row = on_server(&server(&url).unwrap(), |tx, _| tx.first(sql, &[], |row| row.text("row")));
        let row = row.unwrap().flatten().unwrap();
        let there = SharedRow::memory_of(&row).unwrap();
        assert_eq!((there.n, there.window, there.limit), (Some(42.0), Some(45.0), Some((100.0, 60.0))));

        // The replicas learned better.
        let text = SharedRow::of_memory(learned(77.0), now).to_text();
        let sql = "UPDATE egress SET version = 2, row = ?";
        on_server(&server(&url).unwrap(), |tx, _| tx.execute(sql, &values![text])).unwrap();
        to_directory(&url, &key(here.path()), back.path()).unwrap();
        let memory = State::open(back.path()).unwrap().limiter_memory("api.descope.com").unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Memory>(&memory).unwrap().n, Some(77.0));
    }
}
