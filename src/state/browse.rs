//! Windows on the history: the newest passes and changes that match, newest first. And what operators ordered.

use super::AuditRow;
use super::Error;
use super::State;
use super::history::audit_row;
use super::project::LAST;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::number;
use super::project::text;
use super::project::to_millis;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::Value;
use super::sql::values;
use super::suspension;
use crate::telemetry::status::rfc3339;
use std::time::SystemTime;

/// The kind under which the audit trail has what operators ordered; no kind of the YAML is called so.
pub const ORDERS: &str = "operator";

/// The action of what is no order: from so long before it on, not everything is in the trail.
const GAP: &str = "gap";

/// An order names so many of what it is about; an approval may release a whole project.
const MOST_ABOUT: usize = 100;

/// Which rows to show.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// Of this project: host, Descope's id, owner.
    pub project: Option<(String, String, String)>,
    /// Of this kind; changes only.
    pub kind: Option<String>,
    /// With this identity: `NAME` or `TENANT/NAME`; changes only. With a kind, orders about that resource, too.
    pub id: Option<String>,
    /// The result of a pass, or the outcome of a change.
    pub outcome: Option<String>,
    /// Of revisions, or commits, that begin so.
    pub revision: Option<String>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Older than the row with this number.
    pub before: Option<i64>,
    /// How many at the most.
    pub limit: usize,
}

/// One pass of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassView {
    /// Its number: a larger one is newer.
    pub number: i64,
    /// Host, Descope's id, owner.
    pub project: (String, String, String),
    /// When it began.
    pub started_at: SystemTime,
    /// When it ended.
    pub finished_at: SystemTime,
    /// What set it off.
    pub trigger: String,
    /// Of the desired state.
    pub revision: String,
    /// As the metric says it.
    pub result: String,
    /// Planned.
    pub changes: u64,
    /// Attempted for its revision from its beginning to that of the next, or to a time of which not all could be written down.
    pub writes: u64,
    /// Of those, without success.
    pub failed_writes: u64,
    /// Could newer files than those of the revision not be used?
    pub is_invalid: bool,
}

/// A time of which not everything could be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapView {
    /// Host, Descope's id, owner.
    pub project: (String, String, String),
    /// From then on.
    pub since: SystemTime,
    /// Until then.
    pub until: SystemTime,
}

/// One row of the audit trail with its number: a larger one is newer.
pub type Numbered = (i64, AuditRow);

/// What the history says of the time before a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastPasses {
    /// When nothing differed last: the end of a pass that found it so, or of what one set off.
    pub success_at: Option<SystemTime>,
    /// The newest revision with which nothing differed, and when.
    pub in_sync: Option<(String, SystemTime)>,
    /// Of that revision, where something was written for it.
    pub commit: Option<String>,
}

/// The conditions of a query, with their values.
struct Conditions {
    sql: String,
    values: Vec<Value<'static>>,
}

impl Conditions {
    fn of(window: &Window, table: &str, time: &str, outcome: &str) -> Self {
        let mut conditions =
            Self { sql: format!("{table}.{time} BETWEEN 0 AND ?"), values: vec![Value::Integer(LAST)] };
        if let Some((host, project_id, owner)) = &window.project {
            conditions.and("host = ?", host.clone());
            conditions.and("project_id = ?", project_id.clone());
            conditions.and("owner = ?", owner.clone());
        }
        match &window.outcome {
            // What was held besides is not what matters of it.
            Some(wanted) if table == "pass" && wanted == PARTIAL => {
                conditions.and(&format!("({outcome} = ? OR result = 'held' AND {})", has_failed()), wanted.clone());
            }
            Some(wanted) if table == "audit" => {
                conditions.and(&format!("({outcome} = ? OR {})", is_gap()), wanted.clone());
            }
            Some(wanted) => conditions.and(&format!("{outcome} = ?"), wanted.clone()),
            None => {}
        }
        if let Some(revision) = &window.revision {
            // Or of a commit that begins so: by that people know them. Of a pass it is known by what was written for its files.
            let begins = |column: &str| format!("substr({column}, 1, length(?)) = ?");
            let commit = if table == "audit" {
                format!("{} OR {}", begins("source_commit"), is_gap())
            } else {
                let named = begins("audit.source_commit");
                format!(
                    "revision IN (SELECT audit.revision FROM audit WHERE audit.project = {table}.project AND {named})"
                )
            };
            let begins = begins("revision");
            conditions.and(&format!("({begins} OR {commit})"), revision.clone());
            conditions.values.extend(std::iter::repeat_n(Value::from(revision.clone()), 3));
        }
        if let Some(since) = window.since {
            conditions.and(&format!("{table}.{time} >= ?"), to_millis(since));
        }
        if let Some(before) = window.before {
            conditions.and(&format!("{table}.id < ?"), before);
        }
        conditions
    }

    fn and(&mut self, condition: &str, value: impl Into<Value<'static>>) {
        self.sql += " AND ";
        self.sql += condition;
        self.values.push(value.into());
    }

    fn of_resource(&mut self, kind: Option<&String>, id: Option<&String>) {
        let (condition, mut values) = of_resource(kind, id);
        self.sql += &condition;
        self.values.append(&mut values);
    }

    fn limited(mut self, select: &str, table: &str, limit: usize) -> (String, Vec<Value<'static>>) {
        self.values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        (format!("{select} WHERE {} ORDER BY {table}.id DESC LIMIT ?", self.sql), self.values)
    }
}

impl State {
    /// The newest passes that match, newest first.
    pub fn passes(&self, window: &Window) -> Result<Vec<PassView>, Error> {
        let select = format!(
            "SELECT pass.*, host, project_id, owner, {} AS ended FROM pass JOIN project ON project.id = pass.project",
            end()
        );
        let (sql, values) =
            Conditions::of(window, "pass", "finished_at", &result()).limited(&select, "pass", window.limit);
        self.read(|connection| {
            let rows: Vec<(PassView, i64, i64)> = connection
                .rows(&sql, &values, |row| Ok((pass(row)?, row.integer("project")?, row.integer("ended")?)))?;
            let count = |(mut pass, project, until): (PassView, i64, i64)| {
                (pass.writes, pass.failed_writes) = writes(connection, &pass, project, until)?;
                let is_of_older = pass.is_invalid && [NOOP, APPLIED].contains(&&*pass.result);
                if is_of_older || pass.result == APPLIED && pass.failed_writes > 0 {
                    PARTIAL.clone_into(&mut pass.result);
                }
                Ok(pass)
            };
            rows.into_iter().map(count).collect()
        })
    }

    /// The newest times that not everything could be written down of, newest first: of the project of the window, and not before it.
    pub fn gaps(&self, window: &Window) -> Result<Vec<GapView>, Error> {
        let Window { project, since, .. } = window.clone();
        let mut conditions = Conditions::of(&Window { project, since, ..Window::default() }, "audit", "at", "outcome");
        conditions.and("kind = ?", ORDERS.to_owned());
        conditions.and("action = ?", GAP.to_owned());
        let select =
            "SELECT at, duration_ms, host, project_id, owner FROM audit JOIN project ON project.id = audit.project";
        let (sql, values) = conditions.limited(select, "audit", window.limit);
        self.read(|connection| {
            connection.rows(&sql, &values, |row| {
                let (until, lasted) = (row.integer("at")?, row.integer("duration_ms")?);
                Ok(GapView {
                    project: (text(row, "host")?, text(row, "project_id")?, text(row, "owner")?),
                    since: from_millis(until.saturating_sub(lasted)),
                    until: from_millis(until),
                })
            })
        })
    }

    /// The newest changes that match, newest first.
    pub fn changes(&self, window: &Window) -> Result<Vec<Numbered>, Error> {
        let mut conditions = Conditions::of(window, "audit", "at", "outcome");
        conditions.of_resource(window.kind.as_ref(), window.id.as_ref());
        let select = "SELECT audit.*, host, project_id, owner FROM audit JOIN project ON project.id = audit.project";
        let (sql, values) = conditions.limited(select, "audit", window.limit);
        self.read(|connection| connection.rows(&sql, &values, |row| Ok((row.integer("id")?, audit_row(row)?))))
    }
}

/// What this pass set off until then, and how much of that failed. Its own alone: passes of which there is no row, for want of a
/// state that could be written, and what they wrote come after what is missing began.
fn writes(connection: &Tx<'_>, pass: &PassView, project: i64, until: i64) -> sql::Result<(u64, u64)> {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE kind <> '{ORDERS}' AND revision = ?) AS tried,
             count(*) FILTER (WHERE kind <> '{ORDERS}' AND revision = ? AND outcome <> 'ok') AS failed,
             min(at - duration_ms) FILTER (WHERE kind = '{ORDERS}' AND action = '{GAP}') AS missing
         FROM audit WHERE at >= ? AND at < ? AND +project = ?"
    );
    let count = |until: i64| -> sql::Result<(i64, i64, Option<i64>)> {
        let row = values![pass.revision, pass.revision, to_millis(pass.started_at), until, project];
        let read = |row: &Row<'_>| Ok((row.integer("tried")?, row.integer("failed")?, row.optional("missing")?));
        Ok(connection.first(&sql, &row, read)?.unwrap_or_default())
    };
    let (mut tried, mut failed, missing) = count(until)?;
    if let Some(since) = missing {
        (tried, failed, _) = count(since)?;
    }
    Ok((tried.unsigned_abs(), failed.unsigned_abs()))
}

/// How a pass went that found nothing to do.
const NOOP: &str = "noop";
/// How one went that set off everything it planned.
const APPLIED: &str = "applied";
/// How it went after all where some of that failed.
const PARTIAL: &str = "partial";

/// What [`State::passes`] says of a pass, for conditions.
fn result() -> String {
    format!(
        "CASE WHEN invalid = 1 AND result IN ('{NOOP}', '{APPLIED}') OR result = '{APPLIED}' AND {} THEN '{PARTIAL}' ELSE result END",
        has_failed()
    )
}

/// Did something fail that the pass set off?
fn has_failed() -> String {
    format!("EXISTS (SELECT 1 {} AND outcome <> 'ok')", set_off())
}

/// Was everything written that differed, and nothing else was left? A pass that was cut short has written less.
fn is_done() -> String {
    let written = format!("(SELECT count(*) {} AND outcome = 'ok')", set_off());
    format!("result = '{APPLIED}' AND NOT {} AND changes <= {written}", has_failed())
}

/// What a pass set off, as far as it was attempted before the next one began.
fn set_off() -> String {
    format!(
        "FROM audit WHERE at >= pass.started_at AND at < {} AND +audit.project = pass.project
         AND audit.revision = pass.revision AND kind <> '{ORDERS}'",
        end()
    )
}

/// When the next pass began.
fn end() -> String {
    format!(
        "COALESCE((SELECT min(next.started_at) FROM pass AS next WHERE next.project = pass.project AND next.id > pass.id
             AND next.id <= pass.id + 1000), {LAST})"
    )
}

fn pass(row: &Row<'_>) -> sql::Result<PassView> {
    Ok(PassView {
        number: row.integer("id")?,
        project: (text(row, "host")?, text(row, "project_id")?, text(row, "owner")?),
        started_at: from_millis(row.integer("started_at")?),
        finished_at: from_millis(row.integer("finished_at")?),
        trigger: text(row, "trigger")?,
        revision: text(row, "revision")?,
        result: text(row, "result")?,
        changes: number(row, "changes")?,
        writes: 0,
        failed_writes: 0,
        is_invalid: row.is("invalid")?,
    })
}

/// Is it a time of which not everything is in the trail? What may be missing may be of anything.
fn is_gap() -> String {
    format!("audit.kind = '{ORDERS}' AND audit.action = '{GAP}'")
}

/// Further conditions of rows of the audit trail: of this kind, with this identity. Of one resource with what was ordered about
/// it, or about its kind.
pub(super) fn of_resource(kind: Option<&String>, id: Option<&String>) -> (String, Vec<Value<'static>>) {
    const IS_KIND: &str = "kind = ?";
    const IS_CALLED: &str = "CASE tenant WHEN '' THEN name ELSE tenant || '/' || name END = ?";
    match (kind, id) {
        (None, None) => (String::new(), Vec::new()),
        (Some(kind), None) => (format!(" AND ({IS_KIND} OR {})", is_gap()), vec![kind.clone().into()]),
        (None, Some(id)) => (format!(" AND ({IS_CALLED} OR {})", is_gap()), vec![id.clone().into()]),
        (Some(kind), Some(id)) => {
            // The list begins with a comma here, so that each of it does; a comma and a quotation mark within a name are told apart
            // by the backslash between them.
            let list = "',' || substr(fields, 2)";
            let names = format!("replace({list}, ?, '') <> {list}");
            let ordered = format!("kind = '{ORDERS}' AND ({names} OR {names})");
            let sql = format!(" AND ({IS_KIND} AND {IS_CALLED} OR {ordered} OR {})", is_gap());
            let item = |name: &str| format!(",{}", serde_json::Value::from(name)).into();
            let (whole, one) = (item(kind), item(&format!("{kind}/{id}")));
            (sql, vec![kind.clone().into(), id.clone().into(), whole, one])
        }
    }
}

/// Notes what set it off, who did it, what it was, and what became of it, in a word and in words; and the kinds (`KIND`) and
/// resources (`KIND/ID`) that it is about. The number of its row.
pub(super) fn note_order(transaction: &Tx<'_>, id: i64, row: [&str; 5], about: &[String]) -> sql::Result<i64> {
    let now = transaction.time(SystemTime::now());
    let [trigger, by, order, outcome, message] = row;
    let about = serde_json::Value::from(about.get(..MOST_ABOUT).unwrap_or(about)).to_string();
    let sql = "INSERT INTO audit (project, at, trigger, revision, kind, tenant, name, action, fields, attempt,
                   outcome, message, interim, duration_ms)
               VALUES (?, ?, ?, '', ?, '', ?, ?, ?, 1, ?, ?, 0, 0) RETURNING id";
    let row = values![id, now, trigger, ORDERS, by, order, about, outcome, message];
    Ok(transaction.first(sql, &row, |row| row.integer("id"))?.unwrap_or_default())
}

/// In the trail of each project: what happened from then to then may be missing in it. Takes the place of one that began at the same
/// time.
pub(super) fn note_gap(transaction: &Tx<'_>, (since, until): (SystemTime, SystemTime)) -> sql::Result<()> {
    let projects: Vec<i64> = transaction.rows("SELECT id FROM project", &[], |row| row.integer("id"))?;
    let (began, ended) = (transaction.time(since), transaction.time(until).max(transaction.time(since)));
    let (since, until) = (rfc3339(since), rfc3339(until));
    let message = format!(
        "the state could not always be written from {since} to {until}: what was sent and ordered meanwhile is not all in this trail"
    );
    projects.into_iter().try_for_each(|id| {
        // It was over, and was not.
        let same = format!(
            "DELETE FROM audit WHERE project = ? AND kind = '{ORDERS}' AND action = '{GAP}' AND at - duration_ms = ?"
        );
        transaction.execute(&same, &values![id, began])?;
        let row = note_order(transaction, id, ["interval", suspension::TIME, GAP, "unknown", &message], &[])?;
        transaction
            .execute("UPDATE audit SET at = ?, duration_ms = ? WHERE id = ?", &values![ended, ended - began, row])
            .map(drop)
    })
}

impl ProjectState {
    /// Notes what an operator ordered and what became of it, in the audit trail. `about`: kinds and resources, where it was not
    /// about the whole project.
    pub fn note_order(&self, order: &str, outcome: &str, message: &str, about: &[String]) -> Result<(), Error> {
        let row = ["api", "api", order, outcome, message];
        self.write(|transaction, id| note_order(transaction, id, row, about).map(drop))
    }

    /// What the last run knew of its passes.
    pub fn last_passes(&self) -> Result<LastPasses, Error> {
        let newest = |more: &str| {
            format!(
                "SELECT revision, finished_at, CASE result WHEN '{APPLIED}' THEN (SELECT max(at) {}) END AS written_at FROM pass
                 WHERE project = ? AND (result = '{NOOP}' AND changes = 0 OR {}) {more}
                 AND finished_at BETWEEN 0 AND ? ORDER BY id DESC LIMIT 1",
                set_off(),
                is_done()
            )
        };
        // While newer files cannot be used, nobody can say that nothing differs from them.
        let (equal, success) = (newest(""), newest("AND invalid = 0"));
        let named = "SELECT source_commit FROM audit WHERE project = ? AND revision = ? AND source_commit IS NOT NULL
                     ORDER BY id DESC LIMIT 1";
        self.read(|connection, id| {
            let success_at = connection.first(&success, &values![id, LAST], |row| {
                let (finished_at, written_at) = (row.integer("finished_at")?, row.optional("written_at")?);
                Ok(from_millis(written_at.unwrap_or_default().max(finished_at)))
            })?;
            let in_sync = connection.first(&equal, &values![id, LAST], |row| {
                Ok((text(row, "revision")?, from_millis(row.integer("finished_at")?)))
            })?;
            let commit = in_sync.as_ref().map(|(revision, _)| {
                connection.first(named, &values![id, revision.clone()], |row| text(row, "source_commit"))
            });
            Ok(LastPasses { success_at, in_sync, commit: commit.transpose()?.flatten() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::PassRow;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn row(second: u64, result: &str, revision: &str) -> PassRow {
        PassRow {
            started_at: at(second),
            finished_at: at(second + 1),
            trigger: "interval".to_owned(),
            revision: revision.to_owned(),
            result: result.to_owned(),
            changes: if result == "noop" { 0 } else { 2 },
            is_invalid: result == "partial",
        }
    }

    fn write(project: &ProjectState, second: u64, revision: &str, outcome: &str) {
        let sql = "INSERT INTO audit (project, at, trigger, revision, kind, tenant, name, action, fields, attempt,
                       outcome, message, duration_ms)
                   VALUES (?, ?, 'watch', ?, 'roles', 't', 'a', 'update', '[]', 1, ?, '', 3)";
        project
            .write(|transaction, id| {
                let row = values![id, to_millis(at(second)), revision, outcome];
                transaction.execute(sql, &row).map(drop)
            })
            .unwrap();
    }

    #[test]
    fn passes_come_newest_first_with_what_they_wrote_and_in_windows() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let (one, two) =
            (state.project("api.example.com", "P1", "default"), state.project("api.example.com", "P2", "x"));
        for (second, result) in [(0, "applied"), (10, "noop"), (20, "failed")] {
            one.note_pass(&row(second, result, "abcdef")).unwrap();
        }
        two.note_pass(&row(5, "held", "other")).unwrap();
        for (second, outcome) in [(2, "ok"), (3, "failed"), (12, "ok")] {
            write(&one, second, "abcdef", outcome);
        }
        one.note_order("reconcile", "ok", "", &[]).unwrap();
        let found = |window: Window| -> Vec<(String, u64, u64)> {
            let passes = state.passes(&window).unwrap();
            passes.into_iter().map(|pass| (pass.result, pass.writes, pass.failed_writes)).collect()
        };
        let usual = Window { limit: 10, ..Window::default() };
        let of = |result: &str, writes, failed| (result.to_owned(), writes, failed);

        assert_eq!(found(usual.clone()), [of("held", 0, 0), of("failed", 0, 0), of("noop", 1, 0), of("partial", 2, 1)]);
        let with = |outcome: &str| Window { outcome: Some(outcome.to_owned()), ..usual.clone() };
        assert_eq!(found(with("partial")), [of("partial", 2, 1)]);
        assert_eq!(found(with("applied")), []);
        // Held, and something failed: whoever looks for what failed finds it.
        write(&two, 7, "other", "failed");
        assert_eq!(found(with("partial")), [of("held", 1, 1), of("partial", 2, 1)]);
        assert_eq!(found(with("held")), [of("held", 1, 1)]);
        let project = Some(("api.example.com".to_owned(), "P2".to_owned(), "x".to_owned()));
        assert_eq!(found(Window { project, ..usual.clone() }), [of("held", 1, 1)]);
        assert_eq!(found(Window { outcome: Some("noop".to_owned()), ..usual.clone() }), [of("noop", 1, 0)]);
        assert_eq!(found(Window { revision: Some("abc".to_owned()), since: Some(at(20)), ..usual.clone() }).len(), 1);
        // People know revisions by their commits.
        let by = |revision: &str| Window { revision: Some(revision.to_owned()), ..usual.clone() };
        let changed = |window: &Window| state.changes(window).unwrap().len();
        let all = changed(&usual);
        assert_eq!((found(by("788975e")).len(), changed(&by("788975e")), all > 0), (0, 0, true));
        let of = state.passes(&usual).unwrap().last().unwrap().revision.clone();
        let sql = "UPDATE audit SET source_commit = '788975e', revision = ?";
        one.write(|tx, _| tx.execute(sql, &values![of.clone()]).map(drop)).unwrap();
        assert_eq!((found(by("78897")), changed(&by("78897"))), (found(by(&of)), all));
        assert!(!found(by(&of)).is_empty());
        let newest = state.passes(&Window { limit: 2, ..usual.clone() }).unwrap();
        let older = state.passes(&Window { before: Some(newest[1].number), ..usual }).unwrap();
        assert_eq!(older.iter().map(|pass| pass.result.as_str()).collect::<Vec<_>>(), ["noop", "partial"]);
        let last = one.last_passes().unwrap();
        // The write of second 12 is none that it planned.
        assert_eq!((last.success_at, last.in_sync), (Some(at(11)), Some(("abcdef".to_owned(), at(11)))));
    }

    /// It was not known after a restart, and a replica with older files said that those were the applied ones.
    #[test]
    fn what_was_written_as_a_whole_is_what_the_project_last_equalled() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        let applied = || project.last_passes().unwrap().in_sync.map(|(revision, _)| revision);
        let success = || project.last_passes().unwrap().success_at;
        project.note_pass(&row(0, "noop", "first")).unwrap();
        project.note_pass(&row(10, "applied", "second")).unwrap();
        write(&project, 12, "second", "ok");
        assert_eq!((applied().as_deref(), success()), (Some("first"), Some(at(1))), "one of two");
        write(&project, 13, "second", "ok");
        assert_eq!(
            (applied().as_deref(), success()),
            (Some("second"), Some(at(13))),
            "when the last of it was written"
        );
        project.note_pass(&row(20, "held", "third")).unwrap();
        project.note_pass(&row(30, "applied", "fourth")).unwrap();
        for (second, outcome) in [(31, "ok"), (32, "failed"), (33, "ok")] {
            write(&project, second, "fourth", outcome);
        }
        assert_eq!(applied().as_deref(), Some("second"));
        // Of the last good files, while newer ones cannot be used.
        project.note_pass(&PassRow { is_invalid: true, changes: 1, ..row(40, "applied", "fifth") }).unwrap();
        write(&project, 41, "fifth", "ok");
        assert_eq!((applied().as_deref(), success()), (Some("fifth"), Some(at(13))));
        let window = Window { limit: 1, ..Window::default() };
        let newest = |outcome: Option<&str>| {
            let window = Window { outcome: outcome.map(str::to_owned), ..window.clone() };
            state.passes(&window).unwrap().into_iter().map(|pass| (pass.revision, pass.result)).next()
        };
        let expected = Some(("fifth".to_owned(), "partial".to_owned()));
        assert_eq!((newest(None), newest(Some("partial"))), (expected.clone(), expected));
    }

    /// The last pass that could be noted on a full disk was said to have written what others wrote later, for another revision.
    #[test]
    fn what_was_written_while_passes_could_not_be_noted_is_of_no_pass_that_was() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        project.note_pass(&row(0, "applied", "first")).unwrap();
        project.note_pass(&row(20, "failed", "first")).unwrap();
        project.note_pass(&row(200, "applied", "second")).unwrap();
        for (second, revision) in
            [(1, "first"), (2, "first"), (21, "first"), (110, "first"), (120, "second"), (201, "second")]
        {
            write(&project, second, revision, "ok");
        }
        let counts = || {
            let passes = state.passes(&Window { limit: 10, ..Window::default() }).unwrap();
            passes.into_iter().map(|pass| pass.writes).collect::<Vec<_>>()
        };

        assert_eq!(counts(), [1, 2, 2], "of its own revision");
        project.write(|transaction, _| note_gap(transaction, (at(22), at(130)))).unwrap();
        assert_eq!(counts(), [1, 1, 2], "before others are missing");
    }

    #[test]
    fn changes_and_orders_are_found_by_resource_and_outcome() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        write(&project, 1, "abc", "ok");
        write(&project, 2, "abc", "failed");
        project.note_order("suspend", "ok", "until noon", &[]).unwrap();
        let found = |window: Window| -> Vec<(String, String)> {
            let rows = state.changes(&Window { limit: 10, ..window }).unwrap();
            rows.into_iter().map(|(_, row)| (row.action, row.outcome)).collect()
        };
        let of = |action: &str, outcome: &str| (action.to_owned(), outcome.to_owned());

        assert_eq!(found(Window::default()), [of("suspend", "ok"), of("update", "failed"), of("update", "ok")]);
        assert_eq!(found(Window { kind: Some(ORDERS.to_owned()), ..Window::default() }), [of("suspend", "ok")]);
        let role = Window { id: Some("t/a".to_owned()), outcome: Some("failed".to_owned()), ..Window::default() };
        assert_eq!(found(role), [of("update", "failed")]);
    }

    /// Nobody saw on the page of a resource that it was suspended, or that somebody had approved what was done to it.
    #[test]
    fn the_history_of_a_resource_has_what_was_ordered_about_it_or_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        let many: Vec<String> = (0..=MOST_ABOUT).map(|n| format!("tenants/{n}")).collect();
        write(&project, 1, "abc", "ok");
        for (order, about) in [
            ("suspend", vec!["roles/t/a".to_owned()]),
            ("approve", vec!["tenants/t".to_owned(), "roles/t/a".to_owned()]),
            ("kind", vec!["roles".to_owned()]),
            (
                "other",
                vec!["roles/t/ab".to_owned(), "roles/T/a".to_owned(), "x,\"roles/t/a".to_owned(), "role".to_owned()],
            ),
            ("reconcile", Vec::new()),
            ("many", many),
        ] {
            project.note_order(order, "ok", "", &about).unwrap();
        }
        let found = |kind: &str, id: &str| -> Vec<String> {
            let (kind, id) = (Some(kind.to_owned()), Some(id.to_owned()));
            let rows = state.changes(&Window { kind: kind.clone(), id: id.clone(), limit: 10, ..Window::default() });
            let rows: Vec<String> = rows.unwrap().into_iter().map(|(_, row)| row.action).collect();
            let filter = crate::state::AuditFilter { kind, id, since: None };
            let trail = state.audit(&filter).unwrap().into_iter().rev().map(|row| row.action);
            assert_eq!(trail.collect::<Vec<_>>(), rows);
            rows
        };

        assert_eq!(found("roles", "t/a"), ["kind", "approve", "suspend", "update"]);
        assert_eq!(found("tenants", "t"), ["approve"]);
        assert_eq!(found("tenants", "99"), ["many"]);
        assert_eq!(found("tenants", "100").len(), 0, "what it names is bounded");
        assert_eq!(found("x,\"roles", "t/a"), ["other"]);
    }
}
