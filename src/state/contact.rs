//! Which contacts were let go ahead, under which entry of the config, and since when something waits.

use super::Error;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::to_millis;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::values;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::SystemTime;

impl ProjectState {
    /// The entry of the config that this project is known under; `None` before the first one, and where an older release
    /// wrote all there is.
    pub fn entry(&self) -> Result<Option<String>, Error> {
        self.read(|connection, id| {
            let sql = "SELECT entry FROM project WHERE id = ?";
            // What is no text is another entry's: then somebody has to look.
            Ok(connection.first(sql, &values![id], |row| row.text("entry"))?.flatten())
        })
    }

    /// Those that other projects are known under.
    pub fn entries_elsewhere(&self) -> Result<Vec<String>, Error> {
        self.read(|connection, _| {
            let sql = "SELECT entry FROM project WHERE project_id <> ? AND entry IS NOT NULL";
            let rows: Vec<Option<String>> = connection.rows(sql, &values![self.project_id], |row| row.text("entry"))?;
            Ok(rows.into_iter().flatten().collect())
        })
    }

    /// By host and owner, as what else the state knows the same project of Descope, as long as this installation was not in
    /// contact with it, or, in a file, which nobody else writes, was not the last one to look at it.
    pub fn other_installations(&self) -> Result<Vec<(String, String)>, Error> {
        let is_new = !self.is_known()?;
        let is_shared = self.state.is_shared();
        self.read(|connection, id| {
            let last = "coalesce((SELECT max(finished_at) FROM pass WHERE pass.project";
            let sql = format!(
                "SELECT host, owner, {last} = project.id), 0) AS theirs, {last} = ?), 0) AS ours
                 FROM project WHERE project_id = ? AND id <> ? ORDER BY host, owner"
            );
            let claim = |row: &Row<'_>| {
                let is_later = row.integer("theirs")? > row.integer("ours")? && !is_shared;
                let claim = row.text("host")?.zip(row.text("owner")?);
                Ok(claim.filter(|_| is_later || is_new))
            };
            let rows: Vec<Option<(String, String)>> =
                connection.rows(&sql, &values![id, self.project_id, id], claim)?;
            Ok(rows.into_iter().flatten().collect())
        })
    }

    /// It is known under this entry from now on. What is owned stays so.
    pub fn bind(&self, entry: &str) -> Result<(), Error> {
        self.write(|transaction, id| {
            transaction.execute("UPDATE project SET entry = ? WHERE id = ?", &values![entry, id])?;
            Ok(())
        })
    }

    /// The same where it was known under another one, whose files say nothing of these: what was owned is so no more.
    pub fn take_over(&self, entry: &str) -> Result<(), Error> {
        self.write(|transaction, id| {
            for table in ["owned", "renamed", "absent", "missing", "deletion", "contacted"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE project = ?"), &values![id])?;
            }
            transaction.execute("UPDATE project SET entry = ? WHERE id = ?", &values![entry, id]).map(drop)
        })
    }

    /// Fields, by kind, of which everything was let go ahead once, or was in sync.
    pub fn contacted(&self) -> Result<BTreeSet<(String, String)>, Error> {
        self.read(|connection, id| {
            let sql = "SELECT kind, field FROM contacted WHERE project = ?";
            let rows: Vec<_> =
                connection.rows(sql, &values![id], |row| Ok(text(row, "kind")?.zip(text(row, "field")?)))?;
            Ok(rows.into_iter().flatten().collect())
        })
    }

    /// Adds to them.
    pub fn note_contacted(&self, fields: &[(&str, &str)]) -> Result<(), Error> {
        if fields.is_empty() {
            return Ok(());
        }
        self.write(|transaction, id| {
            let sql = "INSERT INTO contacted (project, kind, field) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
            transaction.each(sql, fields.iter().map(|(kind, field)| values![id, kind, field]))
        })
    }

    /// Since when something waits, by reason, as [`ProjectState::note_held`] noted last.
    pub fn held_since(&self) -> Result<BTreeMap<String, SystemTime>, Error> {
        self.read(held_since)
    }

    /// Notes for which reasons something waits now, and forgets the others. Since when.
    pub fn note_held(&self, reasons: &BTreeSet<&str>) -> Result<BTreeMap<String, SystemTime>, Error> {
        let before = self.held_since()?;
        if before.keys().map(String::as_str).eq(reasons.iter().copied()) {
            return Ok(before);
        }
        self.write_by_clock(|transaction, id, now| note_held(transaction, id, reasons, now))
    }
}

fn note_held(
    transaction: &Tx<'_>,
    id: i64,
    reasons: &BTreeSet<&str>,
    now: SystemTime,
) -> sql::Result<BTreeMap<String, SystemTime>> {
    let before = held_since(transaction, id)?;
    // As it will be read.
    let now = from_millis(to_millis(now));
    let since = |reason: &&str| before.get(*reason).copied().unwrap_or(now);
    let after: BTreeMap<String, SystemTime> =
        reasons.iter().map(|reason| ((*reason).to_owned(), since(reason))).collect();
    transaction.execute("DELETE FROM held WHERE project = ?", &values![id])?;
    let sql = "INSERT INTO held (project, reason, since) VALUES (?, ?, ?)";
    transaction.each(sql, after.iter().map(|(reason, since)| values![id, reason, to_millis(*since)]))?;
    Ok(after)
}

fn held_since(connection: &Tx<'_>, id: i64) -> sql::Result<BTreeMap<String, SystemTime>> {
    let sql = "SELECT reason, since FROM held WHERE project = ?";
    let read = |row: &Row<'_>| Ok(text(row, "reason")?.zip(Some(from_millis(row.integer("since")?))));
    let rows: Vec<_> = connection.rows(sql, &values![id], read)?;
    Ok(rows.into_iter().flatten().collect())
}

/// `None` for what is no text: such a record says nothing.
fn text(row: &Row<'_>, column: &str) -> sql::Result<Option<String>> {
    Ok(row.str(column)?.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Key;
    use crate::state::Owned;
    use crate::state::State;
    use std::time::Duration;

    fn project() -> (tempfile::TempDir, ProjectState) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        (dir, project)
    }

    #[test]
    fn a_wait_counts_from_its_first_pass_and_ends_with_its_reason() {
        let (_dir, project) = project();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let note = |reasons: &[&str], seconds| {
            let reasons = reasons.iter().copied().collect();
            project.write(|transaction, id| note_held(transaction, id, &reasons, at(seconds))).unwrap()
        };

        note(&["max_deletes"], 10);
        let both = note(&["max_deletes", "delete_after"], 20);
        note(&["delete_after"], 30);
        let again = note(&["max_deletes", "delete_after"], 40);

        assert_eq!((both["max_deletes"], both["delete_after"]), (at(10), at(20)));
        assert_eq!((again["max_deletes"], again["delete_after"]), (at(40), at(20)));
        assert_eq!(project.held_since().unwrap(), again);
    }

    #[test]
    fn another_entry_takes_over_the_project_and_nothing_of_what_was_owned() {
        let (_dir, project) = project();
        project.own(&[(Key::new("roles", "r"), Owned::default())]).unwrap();
        project.mark_known().unwrap();
        project.bind("one").unwrap();
        project.note_contacted(&[("roles", "name")]).unwrap();
        assert_eq!(project.entry().unwrap().as_deref(), Some("one"));
        assert_eq!(project.contacted().unwrap(), [("roles".to_owned(), "name".to_owned())].into());

        project.take_over("two").unwrap();

        assert_eq!(project.entry().unwrap().as_deref(), Some("two"));
        assert!(project.inventory().unwrap().is_empty() && project.contacted().unwrap().is_empty());
    }
}
