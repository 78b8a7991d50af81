//! Fields that somebody else turned back after we had set them, each time.

use super::Digest;
use super::Error;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::key;
use super::project::tenant;
use super::project::text;
use super::project::to_millis;
use super::sql::values;
use crate::resource::Key;
use std::time::SystemTime;

/// One field, turned back once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reversion {
    /// The resource.
    pub key: Key,
    /// The field.
    pub path: String,
    /// Fingerprint of what the files say.
    pub declared: Digest,
    /// Fingerprint of what was there instead.
    pub live: Digest,
    /// When a look showed it.
    pub at: SystemTime,
}

impl ProjectState {
    /// All that are remembered, oldest first.
    pub fn reversions(&self) -> Result<Vec<Reversion>, Error> {
        self.read(|connection, id| {
            let sql = "SELECT kind, tenant, name, path, declared, live, at FROM reverted WHERE project = ? ORDER BY at";
            let rows: Vec<_> = connection.rows(sql, &values![id], |row| {
                // A damaged row says nothing.
                let digests = row.digest("declared")?.zip(row.digest("live")?);
                let (path, at) = (text(row, "path")?, from_millis(row.integer("at")?));
                Ok(key(row)?.zip(digests).map(|(key, (declared, live))| Reversion { key, path, declared, live, at }))
            })?;
            Ok(rows.into_iter().flatten().collect())
        })
    }

    /// Remembers more of them, and forgets what is older than `from`.
    pub fn note_reversions(&self, reversions: &[Reversion], from: SystemTime) -> Result<(), Error> {
        self.write(|transaction, id| {
            let sql = "DELETE FROM reverted WHERE project = ? AND at < ?";
            transaction.execute(sql, &values![id, to_millis(from)])?;
            let sql = "INSERT INTO reverted (project, kind, tenant, name, path, declared, live, at)
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            transaction.each(
                sql,
                reversions.iter().map(|reversion| {
                    let Reversion { key, path, declared, live, at } = reversion;
                    values![id, key.kind, tenant(key), key.name, path, declared, live, to_millis(*at)]
                }),
            )
        })
    }

    /// What stands there instead of what was turned back last is another value since: that is no more often.
    pub fn move_reversions(&self, moved: &[Reversion]) -> Result<(), Error> {
        self.write(|transaction, id| {
            let sql = "UPDATE reverted SET live = ?1, at = ?2
                       WHERE project = ?3 AND kind = ?4 AND tenant = ?5 AND name = ?6 AND path = ?7 AND declared = ?8
                       AND at = (SELECT max(at) FROM reverted WHERE project = ?3 AND kind = ?4 AND tenant = ?5 AND name = ?6
                                 AND path = ?7 AND declared = ?8)";
            transaction.each(
                sql,
                moved.iter().map(|reversion| {
                    let Reversion { key, path, declared, live, at } = reversion;
                    values![live, to_millis(*at), id, key.kind, tenant(key), key.name, path, declared]
                }),
            )
        })
    }

    /// Forgets all of these resources.
    pub fn forget_reversions(&self, keys: &[&Key]) -> Result<(), Error> {
        self.write(|transaction, id| {
            let sql = "DELETE FROM reverted WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
            transaction.each(sql, keys.iter().map(|key| values![id, key.kind, tenant(key), key.name]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use std::time::Duration;

    #[test]
    fn reversions_are_remembered_for_as_long_as_they_count() {
        let dir = tempfile::tempdir().unwrap();
        let project = State::open(dir.path()).unwrap().project("h", "p", "o");
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        let one = |name: &str, seconds: u64| Reversion {
            key: Key::new("roles", name),
            path: "description".to_owned(),
            declared: [1; 32],
            live: [2; 32],
            at: at(seconds),
        };
        project.note_reversions(&[one("a", 10), one("b", 5)], at(0)).unwrap();
        project.note_reversions(&[one("a", 20)], at(6)).unwrap();

        assert_eq!(project.reversions().unwrap(), [one("a", 10), one("a", 20)]);
        let moved = Reversion { live: [3; 32], ..one("a", 30) };
        project.move_reversions(&[moved.clone(), Reversion { declared: [9; 32], ..one("a", 40) }]).unwrap();
        assert_eq!(project.reversions().unwrap(), [one("a", 10), moved]);
        project.forget_reversions(&[&Key::new("roles", "a")]).unwrap();
        assert_eq!(project.reversions().unwrap(), []);
    }
}
