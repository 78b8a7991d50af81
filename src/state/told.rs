//! What receivers of notifications were told and not yet told the end of, so that a restart tells nothing twice and every
//! end.

use super::Error;
use super::State;
use super::project::text;
use super::sql::values;

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
    /// What exactly it was told of; empty where that cannot become something else, or is not known.
    pub what: String,
    /// What it was told that an approval names; empty where none ends it, or it is not known.
    pub fingerprint: String,
}

impl State {
    /// All that this receiver was told.
    pub fn told(&self, receiver: &str) -> Result<Vec<Told>, Error> {
        let sql = "SELECT project, event, subject, since, sure, what, fingerprint FROM told WHERE receiver = ?";
        self.read(|connection| {
            connection.rows(sql, &values![receiver], |row| {
                Ok(Told {
                    project: text(row, "project")?,
                    event: text(row, "event")?,
                    subject: text(row, "subject")?,
                    since: text(row, "since")?,
                    is_sure: row.is("sure").unwrap_or(false),
                    what: text(row, "what")?,
                    fingerprint: text(row, "fingerprint")?,
                })
            })
        })
    }

    /// Notes what this receiver is being told, or was, all or nothing.
    pub fn note_told(&self, receiver: &str, told: &[Told]) -> Result<(), Error> {
        let sql = "INSERT INTO told (receiver, project, event, subject, since, sure, what, fingerprint)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                   ON CONFLICT (receiver, project, event, subject)
                   DO UPDATE SET since = excluded.since, sure = excluded.sure, what = excluded.what,
                       fingerprint = excluded.fingerprint";
        self.write(|transaction| {
            transaction.each(
                sql,
                told.iter().map(|one| {
                    let Told { project, event, subject, since, is_sure, what, fingerprint } = one;
                    values![receiver, project, event, subject, since, is_sure, what, fingerprint]
                }),
            )
        })
    }

    /// Forgets what this receiver was told the end of, all or nothing.
    pub fn forget_told(&self, receiver: &str, told: &[Told]) -> Result<(), Error> {
        let sql = "DELETE FROM told WHERE receiver = ? AND project = ? AND event = ? AND subject = ?";
        self.write(|transaction| {
            transaction.each(sql, told.iter().map(|one| values![receiver, one.project, one.event, one.subject]))
        })
    }

    /// Forgets all that was told to others than these.
    pub fn keep_receivers(&self, receivers: &[&str]) -> Result<(), Error> {
        let sql = "SELECT DISTINCT receiver FROM told";
        let known: Vec<String> = self.read(|connection| connection.rows(sql, &[], |row| text(row, "receiver")))?;
        let gone: Vec<&String> = known.iter().filter(|name| !receivers.contains(&name.as_str())).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let sql = "DELETE FROM told WHERE receiver = ?";
        self.write(|transaction| transaction.each(sql, gone.iter().map(|name| values![name])))
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
            what: format!("what {subject} was"),
            fingerprint: String::new(),
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
