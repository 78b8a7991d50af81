//! What can go wrong with the state, worded for the operator.

use super::server::ServerError;
use super::sql::SqlError;
use rusqlite::ErrorCode;
use std::io;
use std::path::PathBuf;

/// Why the state cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no directory, and none can be made.
    #[error("cannot create the state directory {}; create it for this user, or name another with --state", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be written.
    #[error("cannot write {}; give this user write access to the state directory, or name another with --state", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its file system has no locks, or will not give this one.
    #[error("cannot lock {}; the state directory must be on a file system with file locks", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One writer at a time.
    #[error("another descope-gitops uses the state directory {}; ask the running daemon to do it, or stop it first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a newer release.
    #[error(
        "{} has version {found}, this descope-gitops knows up to {known}; run the release that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// Only read, so not migrated.
    #[error("{} has version {found}, this descope-gitops needs {known}; start the daemon of this release once", path.display())]
    Older {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// Two names for one file.
    #[error(
        "{} is a link, or a file with a second name: whoever uses it by the other would write the same database; give each \
         state directory a state.db of its own, copied while no daemon runs",
        path.display()
    )]
    NotAlone {
        /// The database.
        path: PathBuf,
    },
    /// A part of what was to be put there.
    #[error(
        "{} has none of the tables of a state: a copy or a backup that is not complete, or another database; put the whole \
         one there (state.db with its state.db-wal), or remove it to begin without history and ownership",
        path.display()
    )]
    NoTables {
        /// The database.
        path: PathBuf,
    },
    /// A part of what was to be put there.
    #[error(
        "{} is a copy that did not come to its end; repeat `state copy` into this directory, or remove it",
        path.display()
    )]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// Only read, so not moved aside.
    #[error("{} is damaged; the daemon moves it aside at its next start and begins afresh", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        source: rusqlite::Error,
    },
    /// A file cannot be read or moved.
    #[error("cannot use {}; let this user read and write what is in the state directory", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database of `state.url` cannot be used.
    #[error("cannot use the database of state.url: {0}")]
    Server(ServerError),
    /// It has fingerprints of another key.
    #[error(
        "state.fingerprintKey is not the key that the fingerprints in this database were made with; give every replica the \
         one it was begun with"
    )]
    OtherKey,
    /// Anything else that the database says.
    #[error("cannot use the database {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Why one read or write of the state failed. The file holds what it held before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space, or a quota.
    #[error("the disk of the state directory is full")]
    Full(#[source] rusqlite::Error),
    /// The file cannot be written.
    #[error("the state directory cannot be written")]
    ReadOnly(#[source] rusqlite::Error),
    /// The disk does not answer as it should.
    #[error("the disk of the state directory fails")]
    Disk(#[source] rusqlite::Error),
    /// The file is not what was written.
    #[error("the state database is damaged; a restart moves it aside and begins afresh")]
    Damaged(#[source] rusqlite::Error),
    /// What is written would be lost with this process.
    #[error(
        "the state database was removed or replaced while it was in use; put it back, or restart to go on with what is there"
    )]
    Gone,
    /// Nobody knows whether it was written.
    #[error("a write of the state did not come to its end; this is a defect")]
    Unfinished,
    /// Anything else that the database says.
    #[error("the state database refused")]
    Database(#[source] rusqlite::Error),
    /// The server of the database does not answer, or not in time.
    #[error("the database of state.url does not answer: {0}")]
    Unreachable(ServerError),
    /// Anything else that it says.
    #[error("the database of state.url refused: {0}")]
    Server(ServerError),
    /// Only the holder of a lease writes.
    #[error("the lease of this project is not held by this replica; the one that holds it goes on")]
    NotHeld,
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::File(error) => error.into(),
            SqlError::Server(error) => error.into(),
        }
    }
}

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::NotHeld => Self::NotHeld,
            ServerError::Silent(_) => Self::Unreachable(error),
            ServerError::Refused(_) if error.is_outage() => Self::Unreachable(error),
            ServerError::Refused(_) | ServerError::Unfinished | ServerError::Newer { .. } | ServerError::Strange(_) => {
                Self::Server(error)
            }
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) {
            return Self::Damaged(error);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(error),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Self::Disk(error),
            _ => Self::Database(error),
        }
    }
}

/// Is the content of the file broken, as opposed to the disk below it?
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
