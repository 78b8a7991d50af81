//! The files of the state directory: made, locked, and moved aside when broken.

use super::OpenError;
use super::clock;
use super::error::is_damage;
use super::project::from_millis;
use super::project::to_millis;
use super::schema;
use super::sql;
use super::sweep;
use rusqlite::Connection;
use rusqlite::ErrorCode;
use rusqlite::OpenFlags;
use rusqlite::backup::Backup;
use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use std::ffi::c_int;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

/// Readers beside the daemon hold the file for moments at the most.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes us the one writer of a directory until it is dropped. What is written in its file is for the next one.
pub(super) struct Lock(File);

/// Two times in milliseconds. A note of one length takes no more room than the one before.
const NOTE: usize = 2 * NUMBER + 2;
const NUMBER: usize = 20;

impl Lock {
    /// Notes from when to when the state could not be written, and so nothing of that stands there; or that it is told. Goes on a
    /// full disk as well. Where even that fails, the next run knows nothing of it.
    pub fn note(&self, gap: Option<(SystemTime, SystemTime)>) {
        let number = |time: SystemTime| format!("{:>NUMBER$}", to_millis(time));
        let text = gap.map_or_else(
            || format!("{:NUMBER$} {:NUMBER$}\n", "", ""),
            |(since, until)| format!("{} {}\n", number(since), number(until)),
        );
        self.0.write_all_at(text.as_bytes(), 0).unwrap_or_default();
    }

    /// What the last run noted, and did not come to tell.
    pub fn noted(&self) -> Option<(SystemTime, SystemTime)> {
        let mut text = [0; NOTE];
        self.0.read_exact_at(&mut text, 0).ok()?;
        let mut times = std::str::from_utf8(&text).ok()?.split_whitespace().map(str::parse);
        let (since, until) = (times.next()?.ok()?, times.next()?.ok()?);
        Some((from_millis(since), from_millis(until)))
    }

    /// Takes the room for a note, while there is some.
    fn make_room(&self) {
        if self.0.metadata().is_ok_and(|file| file.len() < NOTE as u64) {
            self.note(None);
        }
    }
}

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
        .map_err(|source| OpenError::Directory { path: dir.to_owned(), source: nowhere(dir).unwrap_or(source) })?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| OpenError::Unwritable { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => {
            let lock = Lock(file);
            lock.make_room();
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Lock { path, source }),
    }
}

/// Of a link that leads nowhere the system says that it exists.
fn nowhere(dir: &Path) -> Option<io::Error> {
    let is_link = fs::symlink_metadata(dir).is_ok_and(|found| found.is_symlink());
    (is_link && !dir.exists()).then(|| io::Error::other("it is a link to a directory that does not exist"))
}

/// Opens the database for writing, migrated. True where a broken one had to be moved aside.
pub(super) fn database(path: &Path) -> Result<(Connection, bool), OpenError> {
    check_alone(path)?;
    check_finished(path)?;
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
    let version = match check_version(&connection, path) {
        Err(OpenError::Database { source, .. }) => return Err(failed(source)),
        version => version?,
    };
    if version == 0 {
        check_new(&connection, path)?;
    }
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

/// The lock is on the directory: of a file that has a place in another one too, there would be two writers.
fn check_alone(path: &Path) -> Result<(), OpenError> {
    match fs::symlink_metadata(path) {
        // Some file systems do not count names, and say 0.
        Ok(found) if found.is_file() && found.nlink() <= 1 => Ok(()),
        Ok(_) => Err(OpenError::NotAlone { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(OpenError::File { path: path.to_owned(), source }),
    }
}

/// Nobody knows what else a copy that was cut off would have brought.
fn check_finished(path: &Path) -> Result<(), OpenError> {
    let unfinished = unfinished(path);
    if unfinished.exists() { Err(OpenError::Unfinished { path: unfinished }) } else { Ok(()) }
}

/// Where a copy is written before it takes its place.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    side_file(path, ".new")
}

/// A database without our tables is that of a start that was cut off, before it made a key, and of nothing else.
fn check_new(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let is_empty = fs::metadata(path).is_ok_and(|found| found.len() == 0);
    let has_key = path.with_file_name(super::KEY).exists();
    let is_blank = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let is_blank = is_blank.map_err(|source| OpenError::Database { path: path.to_owned(), source })? == 0;
    if is_empty {
        return Ok(());
    }
    if has_key || !is_blank {
        return Err(OpenError::NoTables { path: path.to_owned() });
    }
    tracing::warn!(
        path = %path.display(),
        "the state database has no tables, as one whose first start was cut off: starting without history and ownership"
    );
    Ok(())
}

/// Removes the database and what `SQLite` keeps beside it.
pub(super) fn remove(path: &Path) -> Result<(), OpenError> {
    for side in ["", "-wal", "-shm", "-journal"] {
        let path = side_file(path, side);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(OpenError::File { path, source }),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Lets a database that is complete take its place, and nothing else in place of what was there. Nobody has either open.
pub(super) fn put_in_place(path: &Path) -> Result<(), OpenError> {
    remove(path)?;
    let failed = |source| OpenError::Unwritable { path: path.to_owned(), source };
    fs::rename(unfinished(path), path).map_err(failed)?;
    File::open(path.parent().unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// The database as it is now, in memory, migrated and put right: whatever comes of it, the file stays as it is.
pub(super) fn in_memory(path: &Path) -> Result<Connection, OpenError> {
    check_finished(path)?;
    let failed = |source| broken(path, source);
    let source = reader(path)?;
    let mut copy = Connection::open_in_memory().map_err(failed)?;
    Backup::new(&source, &mut copy)
        .and_then(|backup| backup.run_to_completion(c_int::MAX, Duration::ZERO, None))
        .map_err(failed)?;
    if check_version(&copy, path)? == 0 {
        return Err(OpenError::NoTables { path: path.to_owned() });
    }
    prepare(&mut copy).map_err(failed)?;
    Ok(copy)
}

/// Writes the database as it is now to `to`, beside whoever writes.
pub(super) fn write_copy(path: &Path, to: &Path) -> Result<(), OpenError> {
    let source = read_only(path)?.ok_or_else(|| OpenError::NoTables { path: path.to_owned() })?;
    let unwritable = |source| OpenError::Unwritable { path: to.to_owned(), source };
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(to).map_err(unwritable)?;
    source
        .execute("VACUUM INTO CAST(? AS TEXT)", [to.as_os_str().as_encoded_bytes()])
        .map_err(|source| broken(path, source))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(unwritable)
}

fn broken(path: &Path, source: rusqlite::Error) -> OpenError {
    if is_damage(&source) {
        OpenError::Damaged { path: path.to_owned(), source }
    } else {
        OpenError::Database { path: path.to_owned(), source }
    }
}

/// Opens the database for reading; `None` where there is none. Makes no file and takes no lock that a writer minds.
pub(super) fn read_only(path: &Path) -> Result<Option<Connection>, OpenError> {
    check_finished(path)?;
    match fs::metadata(path) {
        Ok(found) if found.len() == 0 => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::File { path: path.to_owned(), source }),
    }
    let connection = reader(path)?;
    match check_version(&connection, path) {
        Ok(0) if path.with_file_name(super::KEY).exists() => Err(OpenError::NoTables { path: path.to_owned() }),
        Ok(0) => Ok(None),
        Ok(found) if found < schema::VERSION => {
            Err(OpenError::Older { path: path.to_owned(), found, known: schema::VERSION })
        }
        Ok(_) => Ok(Some(connection)),
        Err(OpenError::Database { source, .. }) => Err(broken(path, source)),
        Err(error) => Err(error),
    }
}

pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| broken(path, source);
    // Without a log beside it nobody has it open, and it is complete in itself. SQLite would still make the side
    // files, which needs a writable directory, unless told that the file does not change.
    let mode = if side_file(path, "-wal").exists() { "mode=ro" } else { "mode=ro&immutable=1" };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("file:{}?{mode}", escaped(path)), flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(connection)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use tempfile::TempDir;

    const DATABASE: &str = "state.db";
    const KEY: &str = "fingerprint.key";

    fn refused(dir: &Path) -> String {
        State::open(dir).unwrap_err().to_string().replace(dir.to_str().unwrap(), "DIR")
    }

    #[test]
    fn a_database_with_a_second_name_gets_no_second_writer() {
        let (one, by_link, by_name) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        let daemon = State::open(one.path()).unwrap();
        std::os::unix::fs::symlink(one.path().join(DATABASE), by_link.path().join(DATABASE)).unwrap();

        assert!(refused(by_link.path()).starts_with("DIR/state.db is a link, or a file with a second name: "));
        fs::hard_link(one.path().join(DATABASE), by_name.path().join(DATABASE)).unwrap();
        assert!(refused(by_name.path()).starts_with("DIR/state.db is a link, or a file with a second name: "));
        drop(daemon);
        fs::remove_file(by_name.path().join(DATABASE)).unwrap();
        assert!(!State::open(one.path()).unwrap().was_reset());
    }

    /// Blank, in the journal mode of ours: what a copy of `state.db` without its `state.db-wal` is.
    fn blank(dir: &Path) {
        let blank = Connection::open(dir.join(DATABASE)).unwrap();
        blank.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        drop(blank);
        assert!(fs::metadata(dir.join(DATABASE)).unwrap().len() > 0);
    }

    #[test]
    fn a_part_of_a_state_is_no_new_installation() {
        let dir = TempDir::new().unwrap();
        blank(dir.path());
        fs::write(dir.path().join(KEY), [7; 32]).unwrap();
        let before = fs::read(dir.path().join(DATABASE)).unwrap();

        assert!(refused(dir.path()).starts_with("DIR/state.db has none of the tables of a state: "));
        let looked = State::open_read_only(dir.path()).unwrap_err().to_string();
        assert!(looked.contains("has none of the tables of a state: "), "{looked}");
        assert_eq!(fs::read(dir.path().join(DATABASE)).unwrap(), before);

        let foreign = TempDir::new().unwrap();
        Connection::open(foreign.path().join(DATABASE)).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
        assert!(refused(foreign.path()).starts_with("DIR/state.db has none of the tables of a state: "));
    }

    /// Killed at its first start between one file and the next.
    #[test]
    fn a_first_start_that_was_cut_off_is_begun_again() {
        let dir = TempDir::new().unwrap();
        blank(dir.path());

        assert!(State::open_read_only(dir.path()).unwrap().is_none());
        assert!(!State::open(dir.path()).unwrap().was_reset());
    }

    #[test]
    fn a_copy_that_was_cut_off_is_named() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("state.db.new"), "half").unwrap();

        let expected = "DIR/state.db.new is a copy that did not come to its end; repeat `state copy` into this directory, \
                        or remove it";
        assert_eq!(refused(dir.path()), expected);
        assert!(State::open_read_only(dir.path()).is_err());
        fs::remove_file(dir.path().join("state.db.new")).unwrap();
        State::open(dir.path()).unwrap();
    }

    #[test]
    fn a_link_that_leads_nowhere_is_said_to_be_one() {
        let dir = TempDir::new().unwrap();
        let link = dir.path().join("state");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();

        let refused = State::open(&link).unwrap_err();

        let why = std::error::Error::source(&refused).unwrap().to_string();
        assert_eq!(why, "it is a link to a directory that does not exist");
    }
}
