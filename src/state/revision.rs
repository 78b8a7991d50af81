//! The revisions of the files that were in force, in their order, where replicas share the state: so that one whose checkout
//! stands still turns nobody's work back.

use super::Error;
use super::project::ProjectState;
use super::project::to_millis;
use super::sql::values;

/// So many are told apart: more commits than a checkout can lag behind unnoticed.
const KEPT: i64 = 1000;

impl ProjectState {
    /// Notes that this revision is about to be in force. False where it was before, and a newer one has been since: unless this
    /// process saw its own files move to it from the newest one (`from`), which is somebody's intent.
    pub fn note_revision(&self, revision: &str, from: Option<&str>) -> Result<bool, Error> {
        if !self.is_shared() {
            return Ok(true);
        }
        self.write_by_clock(|transaction, id, now| {
            let sql = "SELECT revision FROM revision WHERE project = ? ORDER BY id DESC LIMIT 1";
            let newest = transaction.first(sql, &values![id], |row| row.text("revision"))?.flatten();
            if newest.as_deref() == Some(revision) {
                return Ok(true);
            }
            let sql = "SELECT 1 FROM revision WHERE project = ? AND revision = ?";
            let was_in_force = transaction.exists(sql, &values![id, revision])?;
            if was_in_force && from != newest.as_deref() {
                return Ok(false);
            }
            let sql = "INSERT INTO revision (project, revision, at) VALUES (?, ?, ?)";
            transaction.execute(sql, &values![id, revision, to_millis(now)])?;
            let sql =
                "DELETE FROM revision WHERE project = ? AND id < (SELECT max(id) - ? FROM revision WHERE project = ?)";
            transaction.execute(sql, &values![id, KEPT, id])?;
            Ok(true)
        })
    }
}
