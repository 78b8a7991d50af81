//! What we put into files: a secret that Descope showed once may be overwritten by its successor, and nothing else.

use super::Digest;
use super::Error;
use super::project::ProjectState;
use super::sql;
use super::sql::Tx;
use super::sql::values;

impl ProjectState {
    /// Fingerprint of the secret that we put into this file.
    pub fn kept(&self, path: &str) -> Result<Option<Digest>, Error> {
        let sql = "SELECT digest FROM secret_file WHERE project = ? AND path = ?";
        // One that is no digest is that of nothing.
        self.read(|connection, id| Ok(connection.first(sql, &values![id, path], |row| row.digest("digest"))?.flatten()))
    }

    /// The paths of all that were kept.
    pub fn all_kept(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT path FROM secret_file WHERE project = ? ORDER BY path";
        self.read(|connection, id| connection.rows(sql, &values![id], |row| Ok(row.text("path")?.unwrap_or_default())))
    }

    /// Did another project of this state have a secret put into this file?
    pub fn is_kept_by_another(&self, path: &str) -> Result<bool, Error> {
        let sql = "SELECT digest FROM secret_file WHERE project <> ? AND path = ?";
        self.read(|connection, id| Ok(connection.first(sql, &values![id, path], |row| row.digest("digest"))?.is_some()))
    }
}

pub(super) fn note(transaction: &Tx<'_>, project: i64, kept: &[(String, Digest)]) -> sql::Result<()> {
    let sql = "INSERT INTO secret_file (project, path, digest) VALUES (?, ?, ?)
               ON CONFLICT (project, path) DO UPDATE SET digest = excluded.digest";
    transaction.each(sql, kept.iter().map(|(path, digest)| values![project, path, digest]))
}
