//! Records that cannot be right, as a bad disk or a careless hand leaves them: put out of the way before anything rests on
//! them, and said. Where a record stood for caution, caution stays.

use super::project::LAST;
use super::project::to_millis;
use rusqlite::Connection;
use rusqlite::TransactionBehavior;
use rusqlite::named_params;
use std::time::Duration;
use std::time::SystemTime;

/// Nothing asks for a longer suspension.
const LONGEST_SUSPENSION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Clocks differ by so much in passing.
const SLACK: Duration = Duration::from_secs(60 * 60);

/// No approval is meant to last as long.
const YEAR: i64 = 366 * 24 * 60 * 60 * 1000;

/// What happens to a record that cannot be right.
#[derive(Debug)]
enum Remedy {
    /// It goes.
    Drop,
    /// The column gets this value: what it guards against may have been a moment ago.
    Set(&'static str),
}

#[derive(Debug)]
pub(super) struct Rule {
    table: &'static str,
    /// Whether it cannot be right. `:last`, `:now`, `:year` and `:suspension` are times and spans in milliseconds.
    if_so: &'static str,
    remedy: Remedy,
}

const fn rule(table: &'static str, if_so: &'static str, remedy: Remedy) -> Rule {
    Rule { table, if_so, remedy }
}

/// What no clock shows. It goes before anything moves with the clock.
pub(super) const ABSURD: &[Rule] = &[
    rule("owned", "created_at IS NOT NULL AND created_at NOT BETWEEN 0 AND :last", Remedy::Set("created_at = NULL")),
    rule("absent", "since NOT BETWEEN 0 AND :last", Remedy::Drop),
    rule("missing", "since NOT BETWEEN 0 AND :last", Remedy::Drop),
    rule("drifted", "since NOT BETWEEN 0 AND :last", Remedy::Drop),
    rule("held", "since NOT BETWEEN 0 AND :last", Remedy::Drop),
    rule("deletion", "at NOT BETWEEN 0 AND :last", Remedy::Set("at = :now")),
    rule("deletion", "created_at IS NOT NULL AND created_at NOT BETWEEN 0 AND :last", Remedy::Set("created_at = NULL")),
    rule("approval", "at NOT BETWEEN 0 AND :last", Remedy::Drop),
    rule(
        "approved",
        "expires NOT BETWEEN 0 AND :last OR given NOT BETWEEN 0 AND :last OR lasts NOT BETWEEN 0 AND :year",
        Remedy::Drop,
    ),
    rule("intent", "begun_at NOT BETWEEN 0 AND :last", Remedy::Set("begun_at = :now")),
    rule(
        "project",
        "suspended_until IS NOT NULL AND suspended_until NOT BETWEEN 0 AND :last",
        Remedy::Set("suspended_until = :last"),
    ),
    rule("reverted", "at NOT BETWEEN 0 AND :last", Remedy::Drop),
    rule("suspended", "since NOT BETWEEN 0 AND :last", Remedy::Set("since = :now")),
    rule("suspended", "until NOT BETWEEN 0 AND :last", Remedy::Set("until = :last")),
    rule("pass", "started_at NOT BETWEEN 0 AND :last OR finished_at NOT BETWEEN 0 AND :last", Remedy::Drop),
    rule("audit", "at NOT BETWEEN 0 AND :last", Remedy::Drop),
];

/// What ends later than it can, once everything counts by the clock as it is now: before, a clock that was set back makes all
/// of it look so.
pub(super) const TOO_LONG: &[Rule] = &[
    rule("project", "suspended_until > :suspension", Remedy::Set("suspended_until = :suspension")),
    rule("suspended", "until > :suspension", Remedy::Set("until = :suspension")),
    // It lasts from the end of what suspends it.
    rule(
        "approved",
        "lasts > 0 AND expires > lasts + 1000 + max(:now,
             coalesce((SELECT suspended_until FROM project WHERE id = approved.project), 0),
             coalesce((SELECT max(until) FROM suspended
                 WHERE suspended.project = approved.project AND suspended.kind = approved.kind), 0))",
        Remedy::Drop,
    ),
];

/// Applies these rules, in one transaction.
pub(super) fn sweep(connection: &mut Connection, rules: &[Rule], now: SystemTime) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let until = to_millis(now + LONGEST_SUSPENSION + SLACK);
    for Rule { table, if_so, remedy } in rules {
        let (sql, became) = match remedy {
            Remedy::Drop => (format!("DELETE FROM {table} WHERE {if_so}"), "dropped"),
            Remedy::Set(value) => {
                (format!("UPDATE {table} SET {value} WHERE {if_so}"), "replaced by the cautious value")
            }
        };
        let mut statement = transaction.prepare(&sql)?;
        for (name, value) in named_params! {
            ":last": LAST, ":now": to_millis(now), ":year": YEAR, ":suspension": until,
        } {
            // A rule names only what it needs.
            if let Some(index) = statement.parameter_index(name)? {
                statement.raw_bind_parameter(index, value)?;
            }
        }
        let records = statement.raw_execute()?;
        if records > 0 {
            tracing::warn!(table, records, became, "the state had records with times that cannot be right");
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;
    use crate::resource::Action;
    use crate::resource::Key;
    use crate::state::AuditFilter;
    use crate::state::Ending;
    use crate::state::Owned;
    use crate::state::PassRow;
    use crate::state::ProjectState;
    use crate::state::Reversion;
    use crate::state::Settled;
    use crate::state::State;
    use crate::state::Told;
    use crate::state::Written;
    use crate::state::tests::intent;
    use crate::state::tests::wait;
    use rusqlite::types::Value;
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::path::Path;
    use tempfile::TempDir;

    fn project(dir: &Path) -> ProjectState {
        State::open(dir).unwrap().project("api.example.com", "P1", "default")
    }

    /// Something in each table.
    fn filled() -> TempDir {
        let dir = TempDir::new().unwrap();
        let project = project(dir.path());
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let key = Key::in_tenant("roles", "t", "a");
        project.own(&[(key.clone(), Owned { created_at: Some(now), ..Owned::default() })]).unwrap();
        project.note_absent_at(&BTreeSet::from([key.clone()]), now);
        project.note_missing_at(&BTreeSet::from([key.clone()]), now);
        project.suspend(hour, "").unwrap();
        project.bind("default\n.").unwrap();
        project.note_contacted(&[("roles", "name")]).unwrap();
        project.note_held(&BTreeSet::from(["max_deletes"])).unwrap();
        project.approve(&BTreeMap::from([("digest".to_owned(), "roles".into())]), hour).unwrap();
        project.set_sent(&[(key.clone(), "secret".into(), [7; 32])]).unwrap();
        let ids = wait(project.begin([intent(Action::Delete, &key), intent(Action::Create, &key)])).unwrap();
        let (path, sent, before) = ("description".to_owned(), [7; 32], [8; 32]);
        let written = vec![Written { key: key.clone(), path, sent, before }];
        let ending = Ending::of(Settled::Done, "", Duration::ZERO);
        let kept = vec![("a.key".to_owned(), [7; 32])];
        wait(project.settle(&ids[..1], Ending { kept, ..ending.clone() })).unwrap();
        project.own(&[(key.clone(), Owned { created_at: Some(now), ..Owned::default() })]).unwrap();
        project.set_sent(&[(key.clone(), "secret".into(), [7; 32])]).unwrap();
        let mut rename = intent(Action::Rename, &key);
        rename.from = Some("b".into());
        wait(project.note_calls([rename], ending.clone())).unwrap();
        project.set_sent(&[(key.clone(), "secret".into(), [7; 32])]).unwrap();
        wait(project.note_calls([], Ending { written, ..ending })).unwrap();
        let row = PassRow {
            started_at: now,
            finished_at: now,
            trigger: "watch".to_owned(),
            revision: "abc".to_owned(),
            result: "noop".to_owned(),
            changes: 0,
            is_invalid: false,
        };
        project.note_pass(&row).unwrap();
        project.state.set_limiter_memory("api.example.com", "{}").unwrap();
        project.suspend_part("roles", Some("a"), hour, "").unwrap();
        let path = "description".to_owned();
        let reversion = Reversion { key: key.clone(), path, declared: [1; 32], live: [2; 32] };
        project.note_reversions(&[reversion], hour).unwrap();
        let told = Told {
            project: "p".to_owned(),
            event: "held".to_owned(),
            subject: "policy".to_owned(),
            since: "2026-01-01T00:00:00Z".to_owned(),
            is_sure: true,
            what: String::new(),
            fingerprint: String::new(),
        };
        project.state.note_told("slack SLACK", &[told]).unwrap();
        let values = vec![("description".to_owned(), serde_json::json!("ours"))];
        project.note_applied([(&key, values)].into_iter()).unwrap();
        let drift = BTreeMap::from([((key, "description".to_owned()), (now, [1; 32]))]);
        project.note_drifted(&drift, Moment::default(), |_| false).unwrap();
        project.note_in_force(&"abc".into(), None).unwrap();
        dir
    }

    /// Everything that is ever read.
    fn read_all(project: &ProjectState) {
        project.is_known().unwrap();
        project.inventory().unwrap();
        project.absences().unwrap();
        project.missing().unwrap();
        project.entry().unwrap();
        project.contacted().unwrap();
        project.held_since().unwrap();
        project.ledger().unwrap();
        project.sent_digests().unwrap();
        project.server_ids().unwrap();
        project.kept("a.key").unwrap();
        project.effect(&Key::in_tenant("roles", "t", "a"), "description").unwrap();
        project.keep_effects(|_| true).unwrap();
        project.approved().unwrap();
        project.suspension().unwrap();
        project.keep_approvals(&BTreeSet::new(), &BTreeSet::new(), &|_| false).unwrap();
        for open in project.open_intents().unwrap() {
            let ending = Ending::of(Settled::NotDone, "", Duration::ZERO);
            assert!(crate::telemetry::status::rfc3339(open.begun_at).len() == 20);
            project.settle_open(&open, &ending).unwrap();
        }
        for row in project.state.audit(&AuditFilter::default()).unwrap() {
            assert!(row.at <= SystemTime::UNIX_EPOCH + Duration::from_millis(LAST.unsigned_abs()));
        }
        project.state.limiter_memory("api.example.com").unwrap();
        project.suspensions().unwrap();
        project.absent_for().unwrap();
        project.created_within(Duration::from_secs(60)).unwrap();
        project.applied(&Key::in_tenant("roles", "t", "a")).unwrap();
        project.actors().unwrap();
        project.keep_applied(|_| true).unwrap();
        project.note_in_force(&"abc".into(), None).unwrap();
        project.state.told("slack SLACK").unwrap();
        project.state.keep_receivers(&[]).unwrap();
    }

    /// A time beyond the year 9999 made `run`, `apply` and `audit` panic at every start.
    #[test]
    fn whatever_stands_in_a_column_is_read_or_dropped() {
        let original = filled();
        let columns: Vec<(String, String, String)> = {
            let state = State::open(original.path()).unwrap();
            let connection = state.connection();
            let sql = "SELECT t.name, c.name, c.type FROM sqlite_schema t JOIN pragma_table_info(t.name) c
                       WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND c.name NOT IN ('id', 'project')";
            let mut statement = connection.prepare(sql).unwrap();
            let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
            found.map(Result::unwrap).collect()
        };
        assert!(columns.len() > 50, "{columns:?}");
        let numbers = [i64::MAX, i64::MIN, LAST + 1].map(Value::Integer);
        let blobs = [vec![], vec![1; 31]].map(Value::Blob);
        let texts = [vec![], vec![0xff, 0xfe]].map(Value::Blob);
        for (table, column, form) in columns {
            let (values, placeholder): (Vec<Value>, _) = match form.as_str() {
                "INTEGER" => (numbers.to_vec(), "?"),
                "BLOB" => (blobs.to_vec(), "?"),
                _ => (texts.to_vec(), "CAST(? AS TEXT)"),
            };
            for value in values {
                let dir = TempDir::new().unwrap();
                for file in ["state.db", "fingerprint.key"] {
                    std::fs::copy(original.path().join(file), dir.path().join(file)).unwrap();
                }
                let connection = Connection::open(dir.path().join("state.db")).unwrap();
                let sql = format!("UPDATE {table} SET {column} = {placeholder}");
                assert!(connection.execute(&sql, [&value]).unwrap() > 0, "{table} is empty");
                drop(connection);

                let beside = State::open_read_only(dir.path()).unwrap().unwrap();
                beside.audit(&AuditFilter::default()).unwrap();
                drop(beside);
                read_all(&project(dir.path()));
            }
        }
    }

    fn with(sql: &str) -> (TempDir, ProjectState) {
        let dir = filled();
        Connection::open(dir.path().join("state.db")).unwrap().execute_batch(sql).unwrap();
        let project = project(dir.path());
        (dir, project)
    }

    #[test]
    fn what_stood_for_caution_stands_for_it_as_of_now() {
        let absurd = 300_000_000_000_000_i64;
        let (_dir, project) = with(&format!(
            "UPDATE intent SET begun_at = {absurd}; UPDATE deletion SET at = {absurd}; UPDATE owned SET created_at = -1;
             UPDATE project SET suspended_until = {absurd}; UPDATE absent SET since = {absurd};
             UPDATE approved SET expires = {absurd};"
        ));
        let now = project.now();

        let ledger = project.ledger().unwrap();

        assert!(
            now.duration_since(ledger.open[0].begun_at).is_ok_and(|age| age < SLACK),
            "it may have been sent just now"
        );
        assert_eq!(ledger.lately["roles"].deleted, 1, "still counted");
        assert!(ledger.owned.values().all(|owned| owned.created_at.is_none()));
        let until = project.suspended_at(now).unwrap();
        assert!(until > now && until <= now + LONGEST_SUSPENSION + SLACK, "suspended, and not for ever");
        assert!(ledger.absent.is_empty(), "the wait begins anew");
        assert!(project.approved().unwrap().is_empty());
    }

    #[test]
    fn what_can_be_right_stays() {
        let dir = filled();
        let before = project(dir.path()).ledger().unwrap();

        let after = project(dir.path()).ledger().unwrap();

        assert_eq!((before.owned, before.absent, before.open), (after.owned, after.absent, after.open));
        assert_eq!(project(dir.path()).approved().unwrap().len(), 1);
    }
}
