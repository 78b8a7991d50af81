//! What we put into files: a secret that Descope showed once may be overwritten by its successor, and nothing else.

use super::Digest;
use super::Error;
use super::project::ProjectState;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;
use rusqlite::params;

impl ProjectState {
    /// Fingerprint of the secret that we put into this file.
    pub fn kept(&self, path: &str) -> Result<Option<Digest>, Error> {
        let sql = "SELECT digest FROM secret_file WHERE project = ? AND path = ?";
        self.read(|connection, id| {
            // One that is no digest is that of nothing.
            let digest = |row: &rusqlite::Row<'_>| Ok(row.get(0).ok());
            Ok(connection.prepare_cached(sql)?.query_row(params![id, path], digest).optional()?.flatten())
        })
    }
}

pub(super) fn note(transaction: &Transaction<'_>, project: i64, kept: &[(String, Digest)]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO secret_file (project, path, digest) VALUES (?, ?, ?)
               ON CONFLICT DO UPDATE SET digest = excluded.digest";
    let mut statement = transaction.prepare_cached(sql)?;
    kept.iter().try_for_each(|(path, digest)| statement.execute(params![project, path, digest]).map(drop))
}
