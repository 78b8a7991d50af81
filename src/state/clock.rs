//! What was noted counts by the time that passes, whatever the clock of the machine is set to.
//!
//! Times are kept as the clock showed them. When it is set while we run, they all move along by as much: what waited
//! has waited no longer and no shorter. Over a restart only a clock that was set back shows. Then, and where a clock that
//! was behind at the start is put right, the doubt goes to the side that changes less: a suspension may last longer, an
//! approval ends the earlier.

use super::Error;
use super::project::from_millis;
use super::project::to_millis;
use rusqlite::Connection;
use rusqlite::TransactionBehavior;
use std::time::Duration;
use std::time::SystemTime;

/// Milliseconds. Less is how a clock is kept right in passing.
pub(super) const STEP: i64 = 1000;

/// Every time that something is compared with. History is what the clock said.
const TIMES: [(&str, &str); 15] = [
    ("absent", "since"),
    ("missing", "since"),
    ("drifted", "since"),
    ("held", "since"),
    ("deletion", "at"),
    ("deletion", "created_at"),
    ("approval", "at"),
    ("approved", "expires"),
    ("approved", "given"),
    ("intent", "begun_at"),
    ("owned", "created_at"),
    ("project", "suspended_until"),
    ("reverted", "at"),
    ("suspended", "since"),
    ("suspended", "until"),
];

/// Those of them that are in the future, until they come; no other is ever ahead of the clock.
const ENDS: [(&str, &str); 3] = [("approved", "expires"), ("project", "suspended_until"), ("suspended", "until")];

/// The clock of the machine beside one that nobody sets.
#[derive(Debug)]
pub(super) struct Clock {
    wall: SystemTime,
    steady: Duration,
    /// When this run began, by the clock as it is set now.
    began: SystemTime,
    /// By how many milliseconds it was set since.
    pub set: i64,
    /// What a test has set it ahead by.
    #[cfg(test)]
    ahead: Duration,
}

impl Clock {
    /// From now on.
    pub fn start() -> Self {
        let wall = SystemTime::now();
        Self {
            wall,
            steady: steady(),
            began: wall,
            set: 0,
            #[cfg(test)]
            ahead: Duration::ZERO,
        }
    }

    /// The time. Where the clock was set since the last call, what was noted is moved along first; while that cannot be
    /// written, the time is what it would be without.
    pub fn follow(&mut self, connection: &mut Connection) -> Result<SystemTime, (SystemTime, Error)> {
        let (wall, steady) = (SystemTime::now(), steady());
        #[cfg(test)]
        let wall = wall + self.ahead;
        let expected = self.wall + steady.saturating_sub(self.steady);
        let step = to_millis(wall) - to_millis(expected);
        if step.abs() >= STEP {
            shift(connection, step, to_millis(self.began)).map_err(|error| (expected, error.into()))?;
            self.began = from_millis(to_millis(self.began).saturating_add(step));
            self.set = self.set.saturating_add(step);
            tracing::warn!(
                seconds = step / 1000,
                "the clock of this machine was set; what waits goes on waiting as long"
            );
        }
        (self.wall, self.steady) = (wall, steady);
        Ok(wall)
    }
}

/// Time since some moment. A machine that sleeps goes on ageing, and the clock of timers stands still meanwhile: in the
/// morning its own would look set ahead.
#[cfg(target_os = "linux")]
pub(super) fn steady() -> Duration {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(since_boot).unwrap_or_default()
}

/// Time since the first call; sleep may look like a clock that was set ahead.
#[cfg(not(target_os = "linux"))]
pub(super) fn steady() -> Duration {
    static START: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(tokio::time::Instant::now).elapsed()
}

/// At the start: what is ahead of the clock was noted before somebody set it back. The newest of it counts as of now, what is
/// suspended lasts as long from there, and nobody knows how old an approval is. What is not ahead stays as it is: a clock that
/// was ahead for one run makes nothing look as if it had waited.
pub(super) fn catch_up(connection: &mut Connection, now: SystemTime) -> rusqlite::Result<()> {
    let now = to_millis(now);
    let past = || TIMES.iter().filter(|time| !ENDS.contains(time));
    let newest: Vec<String> =
        past().map(|(table, column)| format!("SELECT max({column}) AS at FROM {table}")).collect();
    let sql = format!("SELECT max(at) FROM ({})", newest.join(" UNION ALL "));
    let newest: Option<i64> = connection.query_row(&sql, [], |row| row.get(0))?;
    let Some(back) = newest.map(|at| now - at).filter(|back| *back <= -STEP) else { return Ok(()) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("DELETE FROM approved", [])?;
    for (table, column) in past() {
        let sql = format!("UPDATE {table} SET {column} = max({column} + ?1, 0) WHERE {column} > ?2");
        transaction.execute(&sql, [back, now])?;
    }
    for (table, column) in ENDS {
        transaction.execute(&format!("UPDATE {table} SET {column} = max({column} + ?, 0)"), [back])?;
    }
    transaction.commit()?;
    tracing::warn!(
        newest = %humantime::format_rfc3339_seconds(from_millis(newest.unwrap_or_default())),
        "the clock of this machine was set back since the last run; what waited goes on from then, and approvals are void"
    );
    Ok(())
}

/// Moves everything along. Was the clock behind when this run `began`, and right before, then an approval of before needs
/// no moving; was it behind all the time, it ends too early, and is given again.
fn shift(connection: &mut Connection, step: i64, began: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let earlier = if step > 0 { began } else { i64::MIN };
    for (table, column) in TIMES.iter().filter(|(table, _)| *table != "approved") {
        transaction.execute(&format!("UPDATE {table} SET {column} = max({column} + ?, 0)"), [step])?;
    }
    let sql = "UPDATE approved SET expires = max(expires + ?1, 0), given = max(given + ?1, 0) WHERE given >= ?2";
    transaction.execute(sql, [step, earlier])?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;
    use crate::resource::Action;
    use crate::resource::Key;
    use crate::state::Lately;
    use crate::state::Load;
    use crate::state::Owned;
    use crate::state::OwnedAs;
    use crate::state::ProjectState;
    use crate::state::Reversion;
    use crate::state::State;
    use crate::state::guard;
    use crate::state::sql::values;
    use crate::state::tests::intent;
    use crate::state::tests::wait;
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    fn project() -> (tempfile::TempDir, ProjectState) {
        let dir = tempfile::tempdir().unwrap();
        let project = State::open(dir.path()).unwrap().project("api.example.com", "P1", "default");
        (dir, project)
    }

    fn set(project: &ProjectState, by: impl Fn(SystemTime) -> SystemTime) {
        // As if the clock had shown something else before.
        let mut clock = project.state.file().clock.lock().unwrap();
        (clock.wall, clock.began) = (by(clock.wall), by(clock.began));
    }

    /// Sets it two days ahead, or back again.
    fn turn(project: &ProjectState) {
        let mut clock = project.state.file().clock.lock().unwrap();
        clock.ahead = if clock.ahead.is_zero() { DAYS } else { Duration::ZERO };
    }

    fn lately(project: &ProjectState, now: SystemTime) -> Lately {
        project.read(|connection, id| guard::lately(connection, id, now)).unwrap()["roles"]
    }

    fn note_deletion(project: &ProjectState, at: SystemTime) {
        let key = Key::new("roles", "gone");
        project.write(|transaction, id| guard::count_deletion(transaction, id, &key, at)).unwrap();
    }

    const DAYS: Duration = Duration::from_secs(2 * 24 * 60 * 60);

    #[test]
    fn what_was_noted_moves_with_the_clock() {
        for is_ahead in [true, false] {
            let (_dir, project) = project();
            let now = project.state.now();
            let key = Key::new("roles", "a");
            let minute = Duration::from_secs(60);
            project.suspend_until(now + minute, "");
            project.note_absent_at(&BTreeSet::from([key.clone()]), now - minute);
            note_deletion(&project, now - minute);
            project.own(&[(key.clone(), Owned { created_at: Some(now - minute), ..Owned::default() })]).unwrap();
            project.approve_at(&BTreeMap::from([("digest".to_owned(), "tenants".into())]), now, now + minute);
            wait(project.begin([intent(Action::Delete, &key)])).unwrap();

            // It showed two days less, so it was set ahead; and the other way round.
            set(&project, |wall| if is_ahead { wall - DAYS } else { wall + DAYS });
            let after = project.state.now();

            let moved = |time: SystemTime| if is_ahead { time + DAYS } else { time - DAYS };
            let near = |a: SystemTime, b: SystemTime| {
                a.duration_since(b).or_else(|error| Ok::<_, ()>(error.duration())).unwrap() < Duration::from_secs(5)
            };
            assert!(near(project.open_intents().unwrap()[0].begun_at, moved(now)));
            assert!(near(project.absences().unwrap()[&key], moved(now - minute)));
            let until = project.suspended_at(SystemTime::UNIX_EPOCH).unwrap();
            assert!(near(until, moved(now + minute)));
            assert_eq!(lately(&project, moved(after)), Lately { deleted: 1, created: 1, passing: 0, rise: 1 });
            assert_eq!(project.approved_at(moved(now)).len(), 1);
            assert!(project.approved_at(moved(now + minute * 2)).is_empty());
        }
    }

    /// A clock that was behind at the start and put right after it made approvals of before last longer.
    #[test]
    fn a_clock_put_right_after_the_start_does_not_lengthen_an_approval_of_before() {
        let (dir, before) = project();
        let approve = |project: &ProjectState, digest: &str, now| {
            let minute = Duration::from_secs(60);
            project.approve_at(&BTreeMap::from([(digest.to_owned(), "tenants".into())]), now, now + minute);
        };
        let then = SystemTime::now() - Duration::from_secs(30);
        approve(&before, "before", then);
        drop(before);
        let project = State::open(dir.path()).unwrap().project("api.example.com", "P1", "default");
        let behind = |wall| wall - Duration::from_secs(20);
        approve(&project, "since", behind(SystemTime::now()));
        set(&project, behind);

        let now = project.state.now();

        assert_eq!(project.approved_at(now).len(), 2);
        let since = BTreeSet::from(["since".to_owned()]);
        assert_eq!(project.approved_at(then + Duration::from_secs(60)), since, "a minute after the first");
        assert_eq!(project.approved_at(now + Duration::from_secs(59)), since, "moved with the clock");
    }

    #[test]
    fn no_time_but_that_of_history_is_left_behind() {
        let (_dir, project) = project();
        let connection = project.state.connection();
        let sql = "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
                   WHERE t.type = 'table' AND t.name NOT IN ('pass', 'audit', 'revision') AND c.type = 'INTEGER'
                   AND (c.name IN ('at', 'since', 'expires', 'given') OR c.name GLOB '*_at' OR c.name GLOB '*until')";
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let columns: BTreeSet<(String, String)> = columns.map(Result::unwrap).collect();

        let moved = TIMES.iter().map(|(table, column)| ((*table).to_owned(), (*column).to_owned())).collect();
        assert_eq!(columns, moved);
    }

    #[test]
    fn a_clock_that_is_kept_right_in_passing_moves_nothing() {
        let (_dir, project) = project();
        let now = project.state.now();
        project.suspend(DAYS, "").unwrap();
        let before = project.suspended_at(now);

        for _ in 0..5 {
            set(&project, |wall| wall - Duration::from_millis(400));
            project.state.now();
        }

        assert_eq!(project.suspended_at(now), before);
    }

    /// As in a sleep, the clock of timers and the time that passes differ.
    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn what_was_noted_waits_by_the_time_of_the_machine_and_not_by_that_of_timers() {
        let (_dir, project) = project();
        let now = project.state.now();
        project.suspend(DAYS, "").unwrap();
        let before = project.suspended_at(now);

        tokio::time::advance(DAYS).await;
        project.state.now();

        assert_eq!(project.suspended_at(now), before);
    }

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// Something of all that waits and all that ends, noted by a clock that showed this.
    fn note_all(dir: &std::path::Path, then: SystemTime) {
        let project = State::open(dir).unwrap().project("api.example.com", "P1", "default");
        let (earlier, key) = (then - HOUR / 2, Key::new("roles", "a"));
        project.suspend_until(then + HOUR, "");
        let sql = "INSERT INTO suspended (project, kind, resource, since, until) VALUES (?, 'tenants', '', ?, ?)";
        let row = |id: i64| values![id, to_millis(earlier), to_millis(then + HOUR)];
        project.write(|transaction, id| transaction.execute(sql, &row(id)).map(drop)).unwrap();
        project.approve_at(&BTreeMap::from([("digest".to_owned(), "tenants".into())]), then, then + HOUR);
        project.note_absent_at(&BTreeSet::from([key.clone()]), earlier);
        let held = "INSERT INTO held (project, reason, since) VALUES (?, 'max_deletes', ?)";
        project.write(|transaction, id| transaction.execute(held, &values![id, to_millis(earlier)]).map(drop)).unwrap();
        let drift = BTreeMap::from([((key.clone(), "description".to_owned()), (earlier, [1; 32]))]);
        project.note_drifted(&drift, Moment::default(), |_| false).unwrap();
        note_deletion(&project, earlier);
        let path = "description".to_owned();
        let reversion = Reversion { key: key.clone(), path, declared: [1; 32], live: [2; 32] };
        project.note_reversions_at(&[reversion], earlier, DAYS);
        project.own(&[(key, Owned { created_at: Some(earlier), ..Owned::default() })]).unwrap();
    }

    /// A suspension that was made a moment ago ended when the clock was set back by more than a suspension may last.
    #[test]
    fn whatever_the_clock_was_set_back_by_what_was_suspended_stays_so_and_what_waits_waits_on() {
        if project().1.is_shared() {
            return;
        }
        let day = HOUR * 24;
        for (back, was_ahead_for_a_run) in
            [HOUR * 2, day * 6, day * 8, day * 10, day * 30, day * 400, day * 1100, day * 2_000_000]
                .into_iter()
                .flat_map(|back| [(back, false), (back, true)])
        {
            let dir = tempfile::tempdir().unwrap();
            let (now, note) = (SystemTime::now(), Key::new("roles", "late"));
            if was_ahead_for_a_run {
                note_all(dir.path(), now);
                let ahead = State::open(dir.path()).unwrap().project("api.example.com", "P1", "default");
                let absent = BTreeSet::from([note.clone(), Key::new("roles", "a")]);
                ahead.note_absent_at(&absent, now + back);
            } else {
                note_all(dir.path(), now + back);
            }

            let project = State::open(dir.path()).unwrap().project("api.example.com", "P1", "default");

            let now = SystemTime::now();
            let about = |age: Duration| now - age - HOUR / 10..=now - age + HOUR / 10;
            let said = format!("{back:?} {was_ahead_for_a_run}");
            // It was over by the clock of the run between.
            if !was_ahead_for_a_run {
                let lasts = now + HOUR / 2..now + HOUR * 2;
                assert!(lasts.contains(&project.suspended_at(now).expect(&said)), "{said}");
                assert!(lasts.contains(&project.suspensions().unwrap()[0].until), "{said}");
            }
            assert!(project.approved_at(now).is_empty(), "{said}");
            let absent = project.absences().unwrap();
            assert!(about(HOUR / 2).contains(&absent[&Key::new("roles", "a")]), "{said} {absent:?}");
            assert!(absent.get(&note).is_none_or(|since| about(Duration::ZERO).contains(since)), "{said} {absent:?}");
            assert!(project.held_since().unwrap().values().all(|since| *since <= now), "{said}");
            let counted = lately(&project, now);
            assert_eq!((counted.deleted, counted.created), (1, 1), "{said}");
            let (_, at) = project.ledger().unwrap().reversions[0];
            assert!(at > now - HOUR && at <= now, "{said}");
        }
    }

    /// An approval that is older than all else that was noted is none that ends later than it was given for.
    #[test]
    fn no_approval_outlasts_its_time_by_a_clock_that_nothing_tells_of() {
        if project().1.is_shared() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        note_all(dir.path(), SystemTime::now());
        let sql = "UPDATE approved SET expires = expires + 7200000";
        Connection::open(dir.path().join("state.db")).unwrap().execute(sql, []).unwrap();

        let project = State::open(dir.path()).unwrap().project("api.example.com", "P1", "default");

        assert!(project.approved_at(SystemTime::now()).is_empty());
    }

    #[test]
    fn at_the_start_nothing_is_ahead_of_the_clock() {
        let (dir, ahead) = project();
        let now = SystemTime::now();
        let key = Key::new("roles", "a");
        note_deletion(&ahead, now + DAYS - Duration::from_secs(7));
        ahead.approve_at(&BTreeMap::from([("digest".to_owned(), "tenants".into())]), now + DAYS, now + DAYS * 2);
        ahead.own(&[(key.clone(), Owned { created_at: Some(now - DAYS), ..Owned::default() })]).unwrap();
        drop(ahead);

        let project = State::open(dir.path()).unwrap().project("api.example.com", "P1", "default");

        let now = SystemTime::now();
        assert!(project.approved_at(now).is_empty());
        let deleted = |now| lately(&project, now).deleted;
        assert_eq!(deleted(now), 1);
        assert!(project.inventory().unwrap()[&key].created_at.unwrap() < now - DAYS);
        let almost_a_day = Duration::from_secs(24 * 60 * 60 - 60);
        assert_eq!(deleted(now + almost_a_day), 1);
        assert_eq!(deleted(now + almost_a_day + Duration::from_secs(60)), 0);
    }

    fn role(name: &str) -> Key {
        Key::new("roles", name)
    }

    fn note_absent(project: &ProjectState, names: &[&str]) {
        let (absent, missing) = (names.iter().map(|name| role(name)).collect(), BTreeSet::new());
        project.note_load(&Load { owned: &[], absent: &absent, missing: &missing }).unwrap();
    }

    /// Writes, as of now, something of all that is written with a time.
    fn note_now(project: &ProjectState) {
        let (a, b) = (BTreeSet::from([role("a")]), BTreeSet::from([role("b")]));
        let anew = [(role("c"), OwnedAs { is_new: true, ..OwnedAs::default() })];
        project.note_load(&Load { owned: &anew, absent: &a, missing: &b }).unwrap();
        project.note_held(&BTreeSet::from(["max_deletes"])).unwrap();
        project.approve(&BTreeMap::from([("digest".to_owned(), "tenants".into())]), HOUR).unwrap();
        project.suspend(HOUR, "").unwrap();
        project.suspend_part("roles", None, HOUR, "").unwrap();
        let path = "description".to_owned();
        let reversion = Reversion { key: role("a"), path, declared: [1; 32], live: [2; 32] };
        project.note_reversions(&[reversion], HOUR).unwrap();
        wait(project.begin([intent(Action::Create, &role("d"))])).unwrap();
    }

    /// The one who took the time wrote it later, when another one had moved along all that was there already: a delete that was
    /// to wait for two days was due at once.
    #[test]
    fn what_is_written_is_of_the_clock_of_what_is_there() {
        for is_ahead in [true, false] {
            let (_dir, project) = project();
            // The first to see the new clock is whoever writes.
            set(&project, |wall| if is_ahead { wall - DAYS } else { wall + DAYS });

            note_now(&project);

            let now = SystemTime::now();
            let is_now = |at: SystemTime| (now - HOUR / 60..=now).contains(&at);
            let is_in_an_hour = |at: SystemTime| is_now(at - HOUR);
            let ledger = project.ledger().unwrap();
            assert!(is_now(ledger.absent[&role("a")]) && is_now(ledger.missing[&role("b")]));
            assert!(is_now(ledger.owned[&role("c")].created_at.unwrap()) && is_now(ledger.reversions[0].1));
            assert!(is_now(project.held_since().unwrap()["max_deletes"]) && is_now(ledger.open[0].begun_at));
            assert!(is_in_an_hour(project.suspension().unwrap().unwrap().until));
            let part = project.suspensions().unwrap().remove(0);
            assert!(is_in_an_hour(part.until) && is_now(part.since) && part.left > HOUR / 2);
            // It lasts from the end of the suspension.
            assert_eq!((ledger.approved.len(), project.approved_at(now + HOUR * 3).len()), (1, 0));
            project
                .write(|transaction, id| {
                    let sql = "SELECT expires FROM approved WHERE project = ?";
                    let expires = transaction.first(sql, &values![id], |row| row.integer("expires"))?;
                    assert!(is_in_an_hour(from_millis(expires.unwrap()) - HOUR));
                    Ok(())
                })
                .unwrap();
        }
    }

    /// What is compared is of one moment, whoever follows the clock meanwhile.
    #[test]
    fn what_is_noted_and_asked_while_another_one_follows_the_clock_is_never_older_or_younger_than_it_is() {
        let (_dir, project) = project();
        let is_over = AtomicBool::new(false);
        project.suspend(HOUR, "").unwrap();
        project.suspend_part("roles", None, HOUR, "").unwrap();
        project.approve(&BTreeMap::from([("over".to_owned(), "tenants".into())]), Duration::ZERO).unwrap();
        project.approve(&BTreeMap::from([("digest".to_owned(), "tenants".into())]), HOUR).unwrap();

        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    turn(&project);
                    project.state.now();
                    std::thread::yield_now();
                }
            });
            let check = || {
                for round in 0..100 {
                    note_absent(&project, if round % 2 == 0 { &["a"] } else { &["b"] });
                    let ledger = project.ledger().unwrap();
                    for since in ledger.absent.values() {
                        let age = ledger.moment.at.duration_since(*since);
                        assert!(age.as_ref().is_ok_and(|age| *age < HOUR), "{round}: {age:?}");
                    }
                    assert!(project.absent_for().unwrap().values().all(|age| *age < HOUR), "{round}");
                    let left = project.suspension().unwrap().expect("suspended").left;
                    let part = project.suspensions().unwrap()[0].left;
                    for left in [left, part] {
                        assert!(left > HOUR / 2 && left <= HOUR, "{round}: {left:?}");
                    }
                    let approved = BTreeSet::from(["digest".to_owned()]);
                    assert_eq!((&ledger.approved, &project.approved().unwrap()), (&approved, &approved), "{round}");
                    let planned = BTreeSet::from(["over".to_owned(), "digest".to_owned()]);
                    project.keep_approvals(&planned, &BTreeSet::new(), &|_| false).unwrap();
                    assert_eq!(project.end_suspensions().unwrap(), [], "{round}");
                }
            };
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
            is_over.store(true, Ordering::Relaxed);
            checked.unwrap();
        });
    }

    /// A drift that had to be an hour old was put back at once.
    #[test]
    fn what_a_plan_found_out_before_the_clock_was_set_is_noted_as_of_then_by_the_new_one() {
        for is_ahead in [true, false] {
            let (_dir, project) = project();
            if !is_ahead {
                turn(&project);
            }
            let moment = project.ledger().unwrap().moment;
            let drift = BTreeMap::from([((role("a"), "description".to_owned()), (moment.at, [1; 32]))]);
            turn(&project);
            project.state.now();

            project.note_drifted(&drift, moment, |_| false).unwrap();

            let ledger = project.ledger().unwrap();
            let since = *ledger.drifted.values().next().unwrap();
            assert!(ledger.moment.at.duration_since(since).is_ok_and(|age| age < HOUR / 60), "{is_ahead}: {since:?}");
        }
    }
}
