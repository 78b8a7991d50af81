//! Kinds and resources that are only observed for a while, in a project that goes on.

use super::Error;
use super::browse::note_order;
use super::guard::postpone;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::text;
use super::project::to_millis;
use super::sql;
use super::sql::Tx;
use super::sql::values;
use crate::telemetry::status::rfc3339;
use std::fmt;
use std::time::Duration;
use std::time::SystemTime;

/// What happened by itself, in the place of who gives an order.
pub(super) const TIME: &str = "time";

/// A kind, or one resource of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspended {
    /// The YAML key.
    pub kind: String,
    /// The identity; `None` for all of the kind.
    pub id: Option<String>,
    /// Since when.
    pub since: SystemTime,
    /// It ends by itself.
    pub until: SystemTime,
    /// How long that was from then on when it was read.
    pub left: Duration,
    /// On whose behalf; empty where that is not known.
    pub by: String,
}

/// A suspension that was over when its time came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// The YAML key; `None` for all of the project.
    pub kind: Option<String>,
    /// The identity; `None` for all of the kind.
    pub id: Option<String>,
    /// When it ended.
    pub at: SystemTime,
    /// On whose behalf it was; empty where that is not known.
    pub by: String,
}

/// Forgets what is over by now; each leaves a row in the audit trail.
fn end(transaction: &Tx<'_>, project: i64, now: SystemTime) -> sql::Result<Vec<Ended>> {
    let due = values![project, to_millis(now)];
    let sql = "SELECT suspended_until, suspended_by FROM project WHERE id = ? AND suspended_until <= ?";
    let whole = transaction.first(sql, &due, |row| {
        let (at, by) = (from_millis(row.integer("suspended_until")?), text(row, "suspended_by")?);
        Ok(Ended { kind: None, id: None, at, by })
    })?;
    let sql = "UPDATE project SET suspended_until = NULL WHERE id = ? AND suspended_until <= ?";
    transaction.execute(sql, &due)?;
    let sql = "DELETE FROM suspended WHERE project = ? AND until <= ? RETURNING kind, resource, until, ordered_by";
    let mut ended: Vec<Ended> = transaction.rows(sql, &due, |row| {
        Ok(Ended {
            kind: Some(text(row, "kind")?),
            id: Some(text(row, "resource")?).filter(|id| !id.is_empty()),
            at: from_millis(row.integer("until")?),
            by: text(row, "ordered_by")?,
        })
    })?;
    ended.extend(whole);
    ended.sort();
    for one in &ended {
        let row = ["interval", TIME, "resume", "ok", &one.to_string()];
        note_order(transaction, project, row, one.about().as_slice())?;
    }
    Ok(ended)
}

impl Ended {
    /// `KIND` or `KIND/ID`; nothing where it is the whole project.
    fn about(&self) -> Option<String> {
        let kind = self.kind.as_ref()?;
        Some(self.id.as_ref().map_or_else(|| kind.clone(), |id| format!("{kind}/{id}")))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = &self.kind {
            let id = self.id.as_ref().map_or_else(String::new, |id| format!("/{id}"));
            write!(f, "{kind}{id}: ")?;
        }
        let by = if self.by.is_empty() { String::new() } else { format!(" by {}", self.by) };
        write!(f, "the suspension{by} ended by itself at {}", rfc3339(self.at))
    }
}

impl ProjectState {
    /// Takes back what is over: from then on the project, or the part of it, goes on. Whoever writes the project does so, once.
    pub fn end_suspensions(&self) -> Result<Vec<Ended>, Error> {
        let is_due = self.read_by_clock(|connection, id, now| {
            let sql = "SELECT id FROM project WHERE id = ?1 AND suspended_until <= ?2
                       UNION ALL SELECT project FROM suspended WHERE project = ?1 AND until <= ?2";
            connection.first(sql, &values![id, to_millis(now)], |row| row.integer("id"))
        })?;
        if is_due.is_none() {
            return Ok(Vec::new());
        }
        self.write_by_clock(end)
    }

    /// All that is not over.
    pub fn suspensions(&self) -> Result<Vec<Suspended>, Error> {
        self.read_by_clock(suspensions)
    }

    /// Suspends it for so long, on behalf of `by`; again moves the end, and is from then on by whoever said that. What is over is
    /// forgotten. When it ends.
    pub fn suspend_part(&self, kind: &str, id: Option<&str>, wait: Duration, by: &str) -> Result<SystemTime, Error> {
        self.write_by_clock(|transaction, project, now| {
            suspend(transaction, project, (kind, id), (now, now + wait), by)?;
            postpone(transaction, project, now)?;
            Ok(now + wait)
        })
    }

    /// Ends it. Was there one?
    pub fn resume_part(&self, kind: &str, id: Option<&str>) -> Result<bool, Error> {
        self.write_by_clock(|transaction, project, now| {
            end(transaction, project, now)?;
            let sql = "DELETE FROM suspended WHERE project = ? AND kind = ? AND resource = ? RETURNING until";
            let row = values![project, kind, id.unwrap_or_default()];
            let was_there = transaction.first(sql, &row, |row| row.integer("until"))?.is_some();
            postpone(transaction, project, now)?;
            Ok(was_there)
        })
    }
}

fn suspensions(connection: &Tx<'_>, project: i64, now: SystemTime) -> sql::Result<Vec<Suspended>> {
    let sql = "SELECT kind, resource, since, until, ordered_by FROM suspended WHERE project = ? AND until > ?
               ORDER BY kind, resource";
    connection.rows(sql, &values![project, to_millis(now)], |row| {
        let until = from_millis(row.integer("until")?);
        Ok(Suspended {
            kind: text(row, "kind")?,
            id: Some(text(row, "resource")?).filter(|id| !id.is_empty()),
            since: from_millis(row.integer("since")?),
            until,
            left: until.duration_since(now).unwrap_or_default(),
            by: text(row, "ordered_by")?,
        })
    })
}

fn suspend(
    transaction: &Tx<'_>,
    project: i64,
    (kind, id): (&str, Option<&str>),
    (now, until): (SystemTime, SystemTime),
    by: &str,
) -> sql::Result<()> {
    end(transaction, project, now)?;
    let sql = "INSERT INTO suspended (project, kind, resource, since, until, ordered_by) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (project, kind, resource)
               DO UPDATE SET until = excluded.until, ordered_by = excluded.ordered_by";
    let row = values![project, kind, id.unwrap_or_default(), to_millis(now), to_millis(until), by];
    transaction.execute(sql, &row).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn a_part_is_suspended_until_its_end_or_until_it_is_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let project = State::open(dir.path()).unwrap().project("h", "p", "o");
        let (now, hour) = (project.now(), Duration::from_secs(3600));
        let told = |at: SystemTime| {
            let all = project.read(|connection, id| suspensions(connection, id, at)).unwrap();
            let line = |one: Suspended| format!("{} {} by {}", one.kind, one.id.unwrap_or_default(), one.by);
            all.into_iter().map(line).collect::<Vec<_>>()
        };
        project.suspend_part("tenants", Some("acme"), hour, "a").unwrap();
        project.suspend_part("roles", None, hour, "a").unwrap();
        project.suspend_part("roles", None, 2 * hour, "b").unwrap();

        assert_eq!(told(now), ["roles  by b", "tenants acme by a"]);
        assert_eq!(told(now + hour + hour / 2), ["roles  by b"]);
        assert!(!project.resume_part("tenants", None).unwrap());
        assert!(project.resume_part("tenants", Some("acme")).unwrap());
        assert_eq!(told(now), ["roles  by b"]);
    }

    /// Nothing told that it had ended, and when.
    #[test]
    fn what_ends_by_itself_leaves_a_row_for_each_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("h", "p", "o");
        let now = project.now();
        let past = now - Duration::from_secs(60);
        let roles = |transaction: &Tx<'_>, id| suspend(transaction, id, ("roles", None), (now, past), "a");
        project.write(roles).unwrap();
        project.suspend_part("tenants", Some("acme"), Duration::from_secs(3600), "a").unwrap();
        project.suspend_until(past, "b");
        let rows = || {
            let window = crate::state::Window { limit: 9, ..crate::state::Window::default() };
            let rows = state.changes(&window).unwrap();
            rows.into_iter().map(|(_, row)| format!("{}: {}", row.action, row.message)).collect::<Vec<_>>()
        };
        // The next order of a part finds the other one over.
        let roles = format!("resume: roles: the suspension by a ended by itself at {}", rfc3339(past));
        assert_eq!(rows(), std::slice::from_ref(&roles));

        let ended = project.end_suspensions().unwrap();

        assert_eq!(ended, [Ended { kind: None, id: None, at: ended[0].at, by: "b".to_owned() }]);
        let whole = format!("resume: the suspension by b ended by itself at {}", rfc3339(past));
        assert_eq!(rows(), [whole, roles]);
        assert_eq!(project.end_suspensions().unwrap(), []);
        assert_eq!(rows().len(), 2);
        assert_eq!(project.suspensions().unwrap().len(), 1);
    }
}
