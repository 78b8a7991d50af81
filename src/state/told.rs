//! What receivers of notifications were told and not yet told the end of, so that a restart tells nothing twice and every
//! end.

use super::Error;
use super::State;
use super::project::text;
use rusqlite::params;

/// One thing that a receiver was told, or may have been.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// Of the config; empty for what concerns all projects.
    pub project: String,
    /// What sort of thing.
    pub event: String,
    /// Which of them.
    pub subject: String,
    /// RFC 3339: since when.
    pub since: String,
    /// Did the receiver say that it got it? Otherwise a try was begun.
    pub is_sure: bool,
}

impl State {
    /// All that this receiver was told.
    pub fn told(&self, receiver: &str) -> Result<Vec<Told>, Error> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached("SELECT project, event, subject, since, sure FROM told WHERE receiver = ?")?;
        let rows = statement.query_map([receiver], |row| {
            Ok(Told {
                project: text(row, "project")?,
                event: text(row, "event")?,
                subject: text(row, "subject")?,
                since: text(row, "since")?,
                is_sure: row.get("sure").unwrap_or(false),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes what this receiver is being told, or was, all or nothing.
    pub fn note_told(&self, receiver: &str, told: &[Told]) -> Result<(), Error> {
        let sql = "INSERT INTO told (receiver, project, event, subject, since, sure) VALUES (?, ?, ?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET sure = excluded.sure";
        self.change_told(sql, told, |statement, one| {
            statement.execute(params![receiver, one.project, one.event, one.subject, one.since, one.is_sure])
        })
    }

    /// Forgets what this receiver was told the end of, all or nothing.
    pub fn forget_told(&self, receiver: &str, told: &[Told]) -> Result<(), Error> {
        let sql = "DELETE FROM told WHERE receiver = ? AND project = ? AND event = ? AND subject = ?";
        self.change_told(sql, told, |statement, one| {
            statement.execute(params![receiver, one.project, one.event, one.subject])
        })
    }

    /// Forgets all that was told to others than these.
    pub fn keep_receivers(&self, receivers: &[&str]) -> Result<(), Error> {
        let known: Vec<String> = {
            let connection = self.connection();
            let mut statement = connection.prepare_cached("SELECT DISTINCT receiver FROM told")?;
            let rows = statement.query_map([], |row| text(row, "receiver"))?;
            rows.collect::<Result<_, _>>()?
        };
        let gone: Vec<&String> = known.iter().filter(|name| !receivers.contains(&name.as_str())).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let write = || {
            self.check_file()?;
            let connection = self.connection();
            let mut statement = connection.prepare_cached("DELETE FROM told WHERE receiver = ?")?;
            gone.iter().try_for_each(|name| statement.execute([name]).map(drop))?;
            Ok(())
        };
        self.noted(write())
    }

    fn change_told(
        &self,
        sql: &str,
        told: &[Told],
        execute: impl Fn(&mut rusqlite::CachedStatement<'_>, &Told) -> rusqlite::Result<usize>,
    ) -> Result<(), Error> {
        let write = || {
            self.check_file()?;
            let mut connection = self.connection();
            let transaction = connection.transaction()?;
            let mut statement = transaction.prepare_cached(sql)?;
            told.iter().try_for_each(|one| execute(&mut statement, one).map(drop))?;
            drop(statement);
            Ok(transaction.commit()?)
        };
        self.noted(write())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_known_after_a_restart_by_receiver_until_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let one = |subject: &str, is_sure| Told {
            project: "p".to_owned(),
            event: "held".to_owned(),
            subject: subject.to_owned(),
            since: "2026-01-01T00:00:00Z".to_owned(),
            is_sure,
        };
        state.note_told("webhook A", &[one("a", false), one("b", false)]).unwrap();
        state.note_told("webhook A", &[one("a", true)]).unwrap();
        state.note_told("slack B", &[one("a", true)]).unwrap();
        drop(state);

        let state = State::open(dir.path()).unwrap();
        let mut told = state.told("webhook A").unwrap();
        told.sort();
        assert_eq!(told, [one("a", true), one("b", false)]);
        state.forget_told("webhook A", &[one("a", true)]).unwrap();
        assert_eq!(state.told("webhook A").unwrap(), [one("b", false)]);
        state.keep_receivers(&["webhook A"]).unwrap();
        assert_eq!((state.told("webhook A").unwrap().len(), state.told("slack B").unwrap()), (1, vec![]));
    }
}
