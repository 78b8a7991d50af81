//! Kinds and resources that are only observed for a while, in a project that goes on.

use super::Error;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::text;
use super::project::to_millis;
use super::sql::values;
use std::time::SystemTime;

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
    /// On whose behalf; empty where that is not known.
    pub by: String,
}

impl ProjectState {
    /// All that is not over.
    pub fn suspensions(&self, now: SystemTime) -> Result<Vec<Suspended>, Error> {
        self.read(|connection, id| {
            let sql = "SELECT kind, resource, since, until, ordered_by FROM suspended WHERE project = ? AND until > ?
                       ORDER BY kind, resource";
            connection.rows(sql, &values![id, to_millis(now)], |row| {
                Ok(Suspended {
                    kind: text(row, "kind")?,
                    id: Some(text(row, "resource")?).filter(|id| !id.is_empty()),
                    since: from_millis(row.integer("since")?),
                    until: from_millis(row.integer("until")?),
                    by: text(row, "ordered_by")?,
                })
            })
        })
    }

    /// Suspends it until then, on behalf of `by`; again moves the end, and is from then on by whoever said that. What is over is
    /// forgotten.
    pub fn suspend_part(&self, kind: &str, id: Option<&str>, until: SystemTime, by: &str) -> Result<(), Error> {
        self.write_by_clock(|transaction, project, now| {
            let sql = "DELETE FROM suspended WHERE project = ? AND until <= ?";
            transaction.execute(sql, &values![project, to_millis(now)])?;
            let sql =
                "INSERT INTO suspended (project, kind, resource, since, until, ordered_by) VALUES (?, ?, ?, ?, ?, ?)
                       ON CONFLICT (project, kind, resource)
                       DO UPDATE SET until = excluded.until, ordered_by = excluded.ordered_by";
            let row = values![project, kind, id.unwrap_or_default(), to_millis(now), to_millis(until), by];
            transaction.execute(sql, &row).map(drop)
        })
    }

    /// Ends it. Was there one?
    pub fn resume_part(&self, kind: &str, id: Option<&str>) -> Result<bool, Error> {
        self.write_by_clock(|transaction, project, now| {
            let sql = "DELETE FROM suspended WHERE project = ? AND kind = ? AND resource = ? RETURNING until";
            let row = values![project, kind, id.unwrap_or_default()];
            let until = transaction.first(sql, &row, |row| row.integer("until"))?;
            Ok(until.is_some_and(|until| until > to_millis(now)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use std::time::Duration;

    #[test]
    fn a_part_is_suspended_until_its_end_or_until_it_is_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let project = State::open(dir.path()).unwrap().project("h", "p", "o");
        let (now, hour) = (project.now(), Duration::from_secs(3600));
        let told = |at: SystemTime| {
            let all = project.suspensions(at).unwrap();
            let line = |one: Suspended| format!("{} {} by {}", one.kind, one.id.unwrap_or_default(), one.by);
            all.into_iter().map(line).collect::<Vec<_>>()
        };
        project.suspend_part("tenants", Some("acme"), now + hour, "a").unwrap();
        project.suspend_part("roles", None, now + hour, "a").unwrap();
        project.suspend_part("roles", None, now + 2 * hour, "b").unwrap();

        assert_eq!(told(now), ["roles  by b", "tenants acme by a"]);
        assert_eq!(told(now + hour), ["roles  by b"]);
        assert!(!project.resume_part("tenants", None).unwrap());
        assert!(project.resume_part("tenants", Some("acme")).unwrap());
        assert_eq!(told(now), ["roles  by b"]);
    }
}
