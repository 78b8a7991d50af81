//! The files of the state directory: made, locked, and moved aside when broken.

use super::OpenError;
use super::clock;
use super::error::is_damage;
use super::schema;
use super::sql;
use super::sweep;
use rusqlite::Connection;
use rusqlite::ErrorCode;
use rusqlite::OpenFlags;
use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

/// Readers beside the daemon hold the file for moments at the most.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes us the one writer of a directory until it is dropped.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough while a process that is just being started still shares the open file.
        self.0.unlock().unwrap_or_default();
    }
}

/// Makes the directory and takes its lock.
pub(super) fn lock(dir: &Path) -> Result<Lock, OpenError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| OpenError::Directory { path: dir.to_owned(), source })?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| OpenError::Unwritable { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Lock { path, source }),
    }
}

/// Opens the database for writing, migrated. True where a broken one had to be moved aside.
pub(super) fn database(path: &Path) -> Result<(Connection, bool), OpenError> {
    let existed = path.exists();
    if existed && fs::metadata(path).is_ok_and(|found| found.len() == 0) {
        // SQLite would take it for a new database.
        move_aside(path, "it is empty")?;
        return create(path).map(|connection| (connection, true));
    }
    match create(path) {
        Err(OpenError::Database { source, .. }) if existed && is_damage(&source) => {
            move_aside(path, &source.to_string())?;
            create(path).map(|connection| (connection, true))
        }
        result => result.map(|connection| (connection, false)),
    }
}

fn create(path: &Path) -> Result<Connection, OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
    // SQLite makes and removes files beside this one, if not now (a process that was killed left them) then later.
    let dir = path.parent().unwrap_or(Path::new("."));
    let all = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, dir, all, AtFlags::EACCESS).map_err(|errno| unwritable(errno.into()))?;
    // SQLite gives its side files the mode of this one.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(unwritable)?;
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::Unwritable { path: path.to_owned(), source: io::Error::other(source) }
        }
        _ => OpenError::Database { path: path.to_owned(), source },
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    match check_version(&connection, path) {
        Err(OpenError::Database { source, .. }) => return Err(failed(source)),
        version => version?,
    };
    prepare(&mut connection).map_err(failed)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(verdict),
        ));
    }
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // An intent has to be on the disk before its call is sent: the next start relies on it, power cut included.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    schema::migrate(connection)?;
    let now = SystemTime::now();
    sweep::sweep(connection, sweep::ABSURD, now)?;
    clock::catch_up(connection, now)?;
    sweep::sweep(connection, sweep::TOO_LONG, now)?;
    sql::count_owned(connection)
}

/// Opens the database for reading; `None` where there is none. Makes no file and takes no lock that a writer minds.
pub(super) fn read_only(path: &Path) -> Result<Option<Connection>, OpenError> {
    match fs::metadata(path) {
        Ok(found) if found.len() == 0 => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::File { path: path.to_owned(), source }),
    }
    let failed = |source: rusqlite::Error| {
        if is_damage(&source) {
            OpenError::Damaged { path: path.to_owned(), source }
        } else {
            OpenError::Database { path: path.to_owned(), source }
        }
    };
    // Without a log beside it nobody has it open, and it is complete in itself. SQLite would still make the side
    // files, which needs a writable directory, unless told that the file does not change.
    let mode = if side_file(path, "-wal").exists() { "mode=ro" } else { "mode=ro&immutable=1" };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("file:{}?{mode}", escaped(path)), flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    match check_version(&connection, path) {
        Ok(0) => Ok(None),
        Ok(found) if found < schema::VERSION => {
            Err(OpenError::Older { path: path.to_owned(), found, known: schema::VERSION })
        }
        Ok(_) => Ok(Some(connection)),
        Err(OpenError::Database { source, .. }) => Err(failed(source)),
        Err(error) => Err(error),
    }
}

/// Tells files apart, whatever their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// Which file stands there; `None` where none can be seen.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|found| Identity { device: found.dev(), inode: found.ino() })
}

/// What cannot be compared any more, as its key is lost.
pub(super) fn forget_fingerprints(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let forgotten = connection.execute("DELETE FROM secret_file", []);
    let forgotten = forgotten.and_then(|_| connection.execute("DELETE FROM sent", []));
    let forgotten = forgotten.map_err(|source| OpenError::Database { path: path.to_owned(), source })?;
    if forgotten > 0 {
        tracing::error!(
            fields = forgotten,
            "the fingerprint key was lost: what cannot be read back counts as never sent; restore it with state.db"
        );
    }
    Ok(())
}

fn check_version(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let found = schema::version(connection).map_err(|source| OpenError::Database { path: path.to_owned(), source })?;
    if found > schema::VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: schema::VERSION });
    }
    Ok(found)
}

/// Keeps a broken database for whoever wants to look into it.
fn move_aside(path: &Path, why: &str) -> Result<(), OpenError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = side_file(path, &format!(".corrupt-{now}"));
    for side in ["", "-wal", "-shm"] {
        let from = side_file(path, side);
        match fs::rename(&from, side_file(&aside, side)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::File { path: from, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    tracing::error!(
        path = %path.display(),
        moved_to = %aside.display(),
        why,
        "the state database is damaged: moved aside, starting without history, ownership and fingerprints"
    );
    Ok(())
}

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A path as part of a `file:` URI.
fn escaped(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut uri, byte| {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            _ => write!(uri, "%{byte:02x}").unwrap_or_default(),
        }
        uri
    })
}
