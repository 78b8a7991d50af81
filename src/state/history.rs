//! What happened: every pass, and every change that was attempted. Bounded by count and age.

use super::Error;
use super::State;
use super::browse::of_resource;
use super::project::LAST;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::number;
use super::project::optional_text;
use super::project::tenant;
use super::project::text;
use super::project::to_millis;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::Value;
use super::sql::values;
use crate::resource::Action;
use crate::resource::Key;
use std::time::Duration;
use std::time::SystemTime;

/// Older rows go, but not the newest: old is what a clock says, and it may be wrong by years.
const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How many of the newest rows of a project stay.
struct Kept {
    /// However old they are.
    least: i64,
    /// However young they are.
    most: i64,
}

/// Half a year of passes every five minutes would be 50,000.
const PASSES: Kept = Kept { least: 1_000, most: 10_000 };
/// At the most several complete drains of a large project.
const ATTEMPTS: Kept = Kept { least: 10_000, most: 500_000 };

/// How the message of an interim row begins for a call that could not be sent; no other message does. Such a row gives way
/// to that of any later try.
pub(super) const NOT_SENT: &str = "not sent: ";

/// One finished pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassRow {
    /// When it began.
    pub started_at: SystemTime,
    /// When it ended.
    pub finished_at: SystemTime,
    /// What set it off.
    pub trigger: String,
    /// Of the desired state; empty where none was in force.
    pub revision: String,
    /// As the metric says it.
    pub result: String,
    /// Planned.
    pub changes: usize,
    /// Could newer files than those not be used?
    pub is_invalid: bool,
}

/// Why a change is attempted: what the audit trail says of it, whatever becomes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occasion {
    /// What set off the pass that planned it.
    pub trigger: String,
    /// Of the desired state.
    pub revision: String,
    /// That the files were checked out from.
    pub commit: Option<String>,
    /// Where the YAML declares it, with the line.
    pub place: Option<(String, u32)>,
    /// JSON of the changed fields, secrets masked.
    pub fields: String,
    /// Which try, from 1.
    pub attempt: u32,
}

/// One change that was attempted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When the attempt ended.
    pub at: SystemTime,
    /// Why it was made.
    pub occasion: Occasion,
    /// The resource.
    pub key: Key,
    /// `create`, `update`, `rename` or `delete`.
    pub action: String,
    /// `ok`, `failed` or `unknown`.
    pub outcome: String,
    /// The API's, where it refused.
    pub message: String,
    /// The resource is tried again: the row of that takes the place of this one.
    pub is_interim: bool,
    /// Of the attempt.
    pub duration: Duration,
}

/// Which rows of the audit trail to show.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// With this identity: `NAME` or `TENANT/NAME`. With a kind, orders about that resource, too.
    pub id: Option<String>,
    /// Not before.
    pub since: Option<SystemTime>,
}

/// One row of the audit trail, with its project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The API host.
    pub host: String,
    /// Descope's id of the project.
    pub project_id: String,
    /// Whose claim.
    pub owner: String,
    /// `roles`.
    pub kind: String,
    /// `NAME` or `TENANT/NAME`.
    pub id: String,
    /// When.
    pub at: SystemTime,
    /// What set it off.
    pub trigger: String,
    /// Of the desired state.
    pub revision: String,
    /// That the files were checked out from.
    pub commit: Option<String>,
    /// Where the YAML declares it.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// What was done.
    pub action: String,
    /// JSON: what became different; of an order what it was about.
    pub fields: String,
    /// From 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: String,
    /// Why.
    pub message: String,
    /// Who changed what it put back, where that is known.
    pub actor: Option<String>,
    /// Milliseconds.
    pub duration_ms: u64,
}

impl ProjectState {
    /// Adds a pass to the history, and lets the oldest go; its number.
    pub fn note_pass(&self, pass: &PassRow) -> Result<i64, Error> {
        self.write(|transaction, id| {
            let sql = "INSERT INTO pass (project, started_at, finished_at, trigger, revision, result, changes, invalid)
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id";
            let changes = i64::try_from(pass.changes).unwrap_or(i64::MAX);
            let (started_at, finished_at) = (transaction.time(pass.started_at), transaction.time(pass.finished_at));
            let row = values![
                id,
                started_at,
                finished_at,
                pass.trigger,
                pass.revision,
                pass.result,
                changes,
                pass.is_invalid
            ];
            let number = transaction.first(sql, &row, |row| row.integer("id"))?.unwrap_or_default();
            let old = transaction.time(pass.finished_at.checked_sub(KEPT_FOR).unwrap_or(SystemTime::UNIX_EPOCH));
            for (table, time, kept) in [("pass", "finished_at", PASSES), ("audit", "at", ATTEMPTS)] {
                let beyond = |most| {
                    format!("id <= (SELECT id FROM {table} WHERE project = ?1 ORDER BY id DESC LIMIT 1 OFFSET {most})")
                };
                let (too_many, spared) = (beyond(kept.most), beyond(kept.least));
                let sql = format!("DELETE FROM {table} WHERE project = ?1 AND {too_many}");
                transaction.execute(&sql, &values![id])?;
                // A plus hides a column from the planner: by time it finds the few, by project it would read them all.
                let sql = format!("DELETE FROM {table} WHERE +project = ?1 AND {time} < ?2 AND +{spared}");
                transaction.execute(&sql, &values![id, old])?;
            }
            Ok(number)
        })
    }

    /// What came of it became known; nothing happens where its row is there no more.
    pub fn amend_pass(&self, number: i64, result: &str) -> Result<(), Error> {
        let sql = "UPDATE pass SET result = ? WHERE id = ? AND project = ?";
        self.write(|transaction, id| transaction.execute(sql, &values![result, number, id]).map(drop))
    }

    /// What was refused with its batch is not tried apart after all, so that what its row says stays.
    pub fn not_tried_apart(&self, keys: &[&Key]) -> Result<(), Error> {
        let sql = "UPDATE audit SET interim = 0 WHERE project = ? AND kind = ? AND tenant = ? AND name = ?
                   AND interim = 1 AND substr(message, 1, 10) <> 'not sent: '";
        self.write(|transaction, id| {
            transaction.each(sql, keys.iter().map(|key| values![id, key.kind, tenant(key), key.name]))
        })
    }
}

/// Among the fields of a change: somebody else had set it, and no commit.
const DRIFT: &str = r#""drift":true"#;

/// A row of the audit trail, as part of a transaction; its number.
pub(super) fn add(transaction: &Tx<'_>, id: i64, attempt: &Attempt) -> sql::Result<i64> {
    let key = &attempt.key;
    let sql = "DELETE FROM audit WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND interim = 1
               AND (revision = ? AND attempt = ? OR action = ? AND substr(message, 1, 10) = 'not sent: ') RETURNING id";
    let Occasion { revision, attempt: number, .. } = &attempt.occasion;
    let row = values![id, key.kind, tenant(key), key.name, revision, number, attempt.action];
    let replaced: Vec<i64> = transaction.rows(sql, &row, |row| row.integer("id"))?;
    let sql =
        "INSERT INTO audit (project, at, trigger, revision, source_commit, file, line, kind, tenant, name, action,
               fields, attempt, outcome, message, interim, duration_ms)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id";
    let Occasion { trigger, revision, commit, place, fields, attempt: number } = &attempt.occasion;
    let (file, line) = place.clone().unzip();
    let row = values![
        id,
        transaction.time(attempt.at),
        trigger,
        revision,
        commit,
        file,
        line,
        key.kind,
        tenant(key),
        key.name,
        attempt.action,
        fields,
        number,
        attempt.outcome,
        attempt.message,
        attempt.is_interim,
        i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX)
    ];
    let row = transaction.first(sql, &row, |row| row.integer("id"))?.unwrap_or_default();
    if fields.contains(DRIFT) {
        // Who did what it puts back is known by then, or is noted once it is.
        let sql =
            "UPDATE audit SET actor = (SELECT min(actor) FROM drifted WHERE project = ?1 AND kind = ?2 AND tenant = ?3
                       AND name = ?4 AND actor IS NOT NULL AND ?5 LIKE '%' || path || '%') WHERE id = ?6";
        transaction.execute(sql, &values![id, key.kind, tenant(key), key.name, fields, row])?;
    }
    for replaced in replaced {
        transaction.execute("UPDATE intent SET audit = ? WHERE audit = ?", &values![row, replaced])?;
    }
    Ok(row)
}

/// The outcome of a row became known. False where the row is there no more.
pub(super) fn amend(transaction: &Tx<'_>, row: i64, outcome: &str, message: &str) -> sql::Result<bool> {
    let sql = "UPDATE audit SET outcome = ?, message = ?, interim = 0 WHERE id = ?";
    Ok(transaction.execute(sql, &values![outcome, message, row])? > 0)
}

/// What was tried again and could not be sent turned out to be decided already.
pub(super) fn forget_unsent(transaction: &Tx<'_>, id: i64, key: &Key, action: Action) -> sql::Result<()> {
    let sql = "DELETE FROM audit WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND action = ?
               AND interim = 1 AND substr(message, 1, 10) = 'not sent: '";
    let row = values![id, key.kind, tenant(key), key.name, action.as_str()];
    transaction.execute(sql, &row).map(drop)
}

impl State {
    /// The audit trail of all projects, oldest first.
    pub fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, Error> {
        let mut sql = "SELECT audit.*, host, project_id, owner FROM audit JOIN project ON project.id = audit.project
                       WHERE at BETWEEN 0 AND ?"
            .to_owned();
        let mut values = vec![Value::Integer(LAST)];
        let (condition, mut wanted) = of_resource(filter.kind.as_ref(), filter.id.as_ref());
        sql += &condition;
        values.append(&mut wanted);
        if let Some(since) = filter.since {
            sql += " AND at >= ?";
            values.push(Value::Integer(to_millis(since)));
        }
        sql += " ORDER BY audit.id";
        let untimely = "SELECT count(*) AS n FROM audit WHERE at NOT BETWEEN 0 AND ?";
        self.read(|connection| {
            let untimely = connection.first(untimely, &values![LAST], |row| row.integer("n"))?.unwrap_or_default();
            if untimely > 0 {
                tracing::warn!(
                    rows = untimely,
                    "the audit trail has rows with times that cannot be right; they are left out"
                );
            }
            connection.rows(&sql, &values, audit_row)
        })
    }
}

pub(super) fn audit_row(row: &Row<'_>) -> sql::Result<AuditRow> {
    let (tenant, name) = (text(row, "tenant")?, text(row, "name")?);
    Ok(AuditRow {
        host: text(row, "host")?,
        project_id: text(row, "project_id")?,
        owner: text(row, "owner")?,
        kind: text(row, "kind")?,
        id: if tenant.is_empty() { name } else { format!("{tenant}/{name}") },
        at: from_millis(row.integer("at")?),
        trigger: text(row, "trigger")?,
        revision: text(row, "revision")?,
        commit: optional_text(row, "source_commit")?,
        file: optional_text(row, "file")?,
        line: row.optional("line")?.and_then(|line| u32::try_from(line).ok()),
        action: text(row, "action")?,
        fields: text(row, "fields")?,
        attempt: number(row, "attempt")?,
        outcome: text(row, "outcome")?,
        message: text(row, "message")?,
        actor: optional_text(row, "actor")?,
        duration_ms: number(row, "duration_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn attempt(key: Key, second: u64) -> Attempt {
        Attempt {
            at: at(second),
            occasion: Occasion { place: Some(("roles.yaml".to_owned(), 3)), ..Occasion::default() },
            key,
            action: "create".to_owned(),
            outcome: "ok".to_owned(),
            message: String::new(),
            is_interim: false,
            duration: Duration::from_millis(12),
        }
    }

    fn note(project: &ProjectState, rows: &[Attempt]) {
        project.write(|transaction, id| rows.iter().try_for_each(|row| add(transaction, id, row).map(drop))).unwrap();
    }

    #[test]
    fn the_trail_answers_by_kind_identity_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        let keys = [Key::new("roles", "a"), Key::in_tenant("roles", "t", "a"), Key::new("tenants", "t")];
        let rows: Vec<Attempt> = keys.iter().cloned().zip(0..).map(|(key, second)| attempt(key, second)).collect();
        note(&project, &rows);
        let ids = |filter: AuditFilter| -> Vec<String> {
            state.audit(&filter).unwrap().into_iter().map(|row| format!("{}/{}", row.kind, row.id)).collect()
        };

        assert_eq!(ids(AuditFilter::default()), ["roles/a", "roles/t/a", "tenants/t"]);
        assert_eq!(
            ids(AuditFilter { kind: Some("roles".to_owned()), ..AuditFilter::default() }),
            ["roles/a", "roles/t/a"]
        );
        assert_eq!(ids(AuditFilter { id: Some("t/a".to_owned()), ..AuditFilter::default() }), ["roles/t/a"]);
        assert_eq!(ids(AuditFilter { since: Some(at(2)), ..AuditFilter::default() }), ["tenants/t"]);
        let row = state.audit(&AuditFilter::default()).unwrap().remove(0);
        assert_eq!((row.file.as_deref(), row.line, row.duration_ms), (Some("roles.yaml"), Some(3), 12));
    }

    #[test]
    fn history_is_bounded_by_count_and_age() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        let pass = |second: u64| PassRow {
            started_at: at(second),
            finished_at: at(second),
            trigger: "interval".to_owned(),
            revision: "abc".to_owned(),
            result: "noop".to_owned(),
            changes: 0,
            is_invalid: false,
        };
        let counted = |table: &str| -> (i64, i64) {
            let sql = format!("SELECT count(*), coalesce(min(id), 0) FROM {table}");
            state.connection().query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
        };
        let fill = |rows: i64, second: u64| {
            let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
            let passes = "INSERT INTO pass (project, started_at, finished_at, trigger, revision, result, changes)
                          SELECT 1, ?2, ?2, 'watch', '', 'noop', 0 FROM n";
            let attempts =
                "INSERT INTO audit (project, at, trigger, revision, kind, tenant, name, action, fields, attempt,
                            outcome, message, duration_ms)
                            SELECT 1, ?2, 'watch', '', 'roles', '', 'a', 'update', '[]', 1, 'ok', '', 0 FROM n";
            for sql in [passes, attempts] {
                state.connection().execute(&format!("{numbers} {sql}"), [rows, to_millis(at(second))]).unwrap();
            }
        };
        project.note_pass(&pass(0)).unwrap();
        fill(ATTEMPTS.least + 99, 0);

        project.note_pass(&pass(KEPT_FOR.as_secs())).unwrap();
        assert_eq!(counted("audit"), (ATTEMPTS.least + 99, 1), "not yet older");
        let ((_, first), much_later) = (counted("pass"), KEPT_FOR.as_secs() + 10);
        project.note_pass(&pass(much_later)).unwrap();

        // Whether the clock is right or far ahead nobody knows: the newest stay.
        assert_eq!(counted("audit"), (ATTEMPTS.least, 100));
        assert_eq!(counted("pass").0, PASSES.least);
        assert!(counted("pass").1 > first);
        fill(PASSES.most + 100, much_later);
        project.note_pass(&pass(much_later)).unwrap();
        assert_eq!(counted("pass").0, PASSES.most);
    }

    /// Two hours between two, and every sixth has something to do.
    #[test]
    fn a_year_of_passes_takes_no_more_room_than_what_is_kept_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        // The disk is not what is tested.
        state.connection().pragma_update(None, "synchronous", "OFF").unwrap();
        let project = state.project("api.example.com", "P1", "default");
        let number = |sql: &str| -> i64 { state.connection().query_row(sql, [], |row| row.get(0)).unwrap() };
        let mut most = 0;
        for hour in (0..365 * 24).step_by(2) {
            let now = at(hour * 3600);
            if hour % 12 == 0 {
                let rows: Vec<Attempt> =
                    (0..40).map(|n| Attempt { at: now, ..attempt(Key::new("tenants", &format!("t{n}")), 0) }).collect();
                note(&project, &rows);
            }
            let (started_at, finished_at) = (now, now);
            let [trigger, revision, result] = ["interval", "abc", "noop"].map(str::to_owned);
            project
                .note_pass(&PassRow {
                    started_at,
                    finished_at,
                    trigger,
                    revision,
                    result,
                    changes: 0,
                    is_invalid: false,
                })
                .unwrap();
            if hour == 365 * 12 {
                most = number("PRAGMA page_count");
            }
        }

        let kept = i64::try_from(KEPT_FOR.as_secs() / 7200).unwrap();
        assert_eq!(number("SELECT count(*) FROM pass"), kept + 1);
        assert_eq!(number("SELECT count(*) FROM audit"), ATTEMPTS.least);
        assert_eq!(number("SELECT max(id) FROM pass"), 365 * 12, "each has a number of its own");
        let pages = number("PRAGMA page_count");
        assert!(pages <= most + most / 20, "{pages} pages after a year, {most} after half of it");
    }
}
