//! Fields that somebody else turned back after we had set them, each time.

use super::Digest;
use super::Error;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::key;
use super::project::tenant;
use super::project::text;
use super::project::to_millis;
use super::sql;
use super::sql::Tx;
use super::sql::values;
use crate::resource::Key;
use std::time::Duration;
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
}

impl ProjectState {
    /// Remembers more of them, as of now, and forgets what is older than `window`.
    pub fn note_reversions(&self, reversions: &[Reversion], window: Duration) -> Result<(), Error> {
        self.write_by_clock(|transaction, id, now| note(transaction, id, reversions, now, window))
    }

    /// What stands there instead of what was turned back last is another value since now: that is no more often.
    pub fn move_reversions(&self, moved: &[Reversion]) -> Result<(), Error> {
        self.write_by_clock(|transaction, id, now| move_last(transaction, id, moved, now))
    }

    /// Forgets all of these resources.
    pub fn forget_reversions(&self, keys: &[&Key]) -> Result<(), Error> {
        self.write(|transaction, id| {
            let sql = "DELETE FROM reverted WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
            transaction.each(sql, keys.iter().map(|key| values![id, key.kind, tenant(key), key.name]))
        })
    }
}

/// All that are remembered, oldest first, each with the time of the look that showed it.
pub(super) fn reversions(connection: &Tx<'_>, id: i64) -> sql::Result<Vec<(Reversion, SystemTime)>> {
    let sql = "SELECT kind, tenant, name, path, declared, live, at FROM reverted WHERE project = ? ORDER BY at";
    let rows: Vec<_> = connection.rows(sql, &values![id], |row| {
        // A damaged row says nothing.
        let digests = row.digest("declared")?.zip(row.digest("live")?);
        let (path, at) = (text(row, "path")?, from_millis(row.integer("at")?));
        Ok(key(row)?.zip(digests).map(|(key, (declared, live))| (Reversion { key, path, declared, live }, at)))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

fn note(transaction: &Tx<'_>, id: i64, reversions: &[Reversion], now: SystemTime, window: Duration) -> sql::Result<()> {
    let from = now.checked_sub(window).unwrap_or(SystemTime::UNIX_EPOCH);
    let sql = "DELETE FROM reverted WHERE project = ? AND at < ?";
    transaction.execute(sql, &values![id, to_millis(from)])?;
    let sql = "INSERT INTO reverted (project, kind, tenant, name, path, declared, live, at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    transaction.each(
        sql,
        reversions.iter().map(|Reversion { key, path, declared, live }| {
            values![id, key.kind, tenant(key), key.name, path, declared, live, to_millis(now)]
        }),
    )
}

fn move_last(transaction: &Tx<'_>, id: i64, moved: &[Reversion], now: SystemTime) -> sql::Result<()> {
    let sql = "UPDATE reverted SET live = ?1, at = ?2
               WHERE project = ?3 AND kind = ?4 AND tenant = ?5 AND name = ?6 AND path = ?7 AND declared = ?8
               AND at = (SELECT max(at) FROM reverted WHERE project = ?3 AND kind = ?4 AND tenant = ?5 AND name = ?6
                         AND path = ?7 AND declared = ?8)";
    transaction.each(
        sql,
        moved.iter().map(|Reversion { key, path, declared, live }| {
            values![live, to_millis(now), id, key.kind, tenant(key), key.name, path, declared]
        }),
    )
}

/// The same as of a time that a test says.
#[cfg(test)]
impl ProjectState {
    pub fn note_reversions_at(&self, reversions: &[Reversion], now: SystemTime, window: Duration) {
        self.write(|transaction, id| note(transaction, id, reversions, now, window)).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn reversions_are_remembered_for_as_long_as_they_count() {
        let dir = tempfile::tempdir().unwrap();
        let project = State::open(dir.path()).unwrap().project("h", "p", "o");
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        let one = |name: &str| Reversion {
            key: Key::new("roles", name),
            path: "description".to_owned(),
            declared: [1; 32],
            live: [2; 32],
        };
        let known = || project.ledger().unwrap().reversions;
        let window = Duration::from_secs(14);
        project.note_reversions_at(&[one("b")], at(5), window);
        project.note_reversions_at(&[one("a")], at(10), window);
        project.note_reversions_at(&[one("a")], at(20), window);

        assert_eq!(known(), [(one("a"), at(10)), (one("a"), at(20))]);
        let moved = [Reversion { live: [3; 32], ..one("a") }, Reversion { declared: [9; 32], ..one("a") }];
        project.write(|transaction, id| move_last(transaction, id, &moved, at(30))).unwrap();
        assert_eq!(known(), [(one("a"), at(10)), (moved[0].clone(), at(30))]);
        project.forget_reversions(&[&Key::new("roles", "a")]).unwrap();
        assert_eq!(known(), []);
    }
}
