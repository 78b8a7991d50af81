//! What the guards remember: absences, deletes, approvals, and the suspension of a project.

use super::Error;
use super::OpenIntent;
use super::intent;
use super::project::Inventory;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::key;
use super::project::tenant;
use super::project::text;
use super::project::to_millis;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::values;
use crate::resource;
use crate::resource::Key;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

/// Deletes older than this no longer count.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What happened to one kind in the trailing 24 hours, since the last approval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lately {
    /// Deletes done without an approval.
    pub deleted: usize,
    /// Owned resources of now that were created since.
    pub created: usize,
    /// Of the deleted, those that had been created since as well.
    pub passing: usize,
    /// How many more were owned at some moment since than at the beginning.
    pub rise: usize,
}

/// What the guards measure by.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// When that was.
    pub now: SystemTime,
    /// Everything owned.
    pub owned: Arc<Inventory>,
    /// As [`ProjectState::absences`].
    pub absent: BTreeMap<Key, SystemTime>,
    /// As [`ProjectState::missing`].
    pub missing: BTreeMap<Key, SystemTime>,
    /// Calls under way, or of which nobody knows how they ended.
    pub open: Vec<OpenIntent>,
    /// By kind.
    pub lately: BTreeMap<&'static str, Lately>,
}

impl Ledger {
    /// Of a state that cannot be read, or of none.
    pub fn none() -> Self {
        let (owned, absent, missing, open, lately) = Default::default();
        Self { now: SystemTime::now(), owned, absent, missing, open, lately }
    }
}

impl ProjectState {
    /// Notes which owned resources this load lacks, and forgets the absence of the others. Since when each has been
    /// absent; a time in the future, after the clock was set back, counts from now.
    pub fn note_absent(&self, absent: &BTreeSet<Key>, now: SystemTime) -> Result<BTreeMap<Key, SystemTime>, Error> {
        self.note_since("absent", &self.absences()?, absent, now)
    }

    /// The same of what no list shows, of the owned resources that no file declares.
    pub fn note_missing(&self, missing: &BTreeSet<Key>, now: SystemTime) -> Result<BTreeMap<Key, SystemTime>, Error> {
        self.note_since("missing", &self.missing()?, missing, now)
    }

    fn note_since(
        &self,
        table: &'static str,
        before: &BTreeMap<Key, SystemTime>,
        keys: &BTreeSet<Key>,
        now: SystemTime,
    ) -> Result<BTreeMap<Key, SystemTime>, Error> {
        let since = |key: &Key| before.get(key).copied().filter(|since| *since <= now).unwrap_or(now);
        let after: BTreeMap<Key, SystemTime> = keys.iter().map(|key| (key.clone(), since(key))).collect();
        if after != *before {
            self.write(|transaction, id| {
                transaction.execute(&format!("DELETE FROM {table} WHERE project = ?"), &values![id])?;
                let sql = format!("INSERT INTO {table} (project, kind, tenant, name, since) VALUES (?, ?, ?, ?, ?)");
                transaction.each(
                    &sql,
                    after.iter().map(|(key, since)| values![id, key.kind, tenant(key), key.name, to_millis(*since)]),
                )
            })?;
        }
        Ok(after)
    }

    /// What [`ProjectState::note_absent`] noted last.
    pub fn absences(&self) -> Result<BTreeMap<Key, SystemTime>, Error> {
        self.read(|connection, id| since(connection, id, "absent"))
    }

    /// What [`ProjectState::note_missing`] noted last.
    pub fn missing(&self) -> Result<BTreeMap<Key, SystemTime>, Error> {
        self.read(|connection, id| since(connection, id, "missing"))
    }

    /// What the guards measure by, at one moment: no outcome of a call is in one part of it and not in another.
    /// Nor is the clock set in between.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        self.read_at_once(|snapshot, id, now| {
            Ok(Ledger {
                now,
                owned: self.inventory_of(snapshot, id)?,
                absent: since(snapshot, id, "absent")?,
                missing: since(snapshot, id, "missing")?,
                open: intent::open_intents(snapshot, id)?,
                lately: lately(snapshot, id, now)?,
            })
        })
    }

    /// Lets changes go ahead until `expires`, and starts counting the deletes of their kinds anew. Each digest comes with
    /// the kind of its change.
    pub fn approve(
        &self,
        changes: &BTreeMap<String, &'static str>,
        now: SystemTime,
        expires: SystemTime,
    ) -> Result<(), Error> {
        self.write(|transaction, id| {
            let sql = "INSERT INTO approved (project, digest, kind, expires, given, lasts) VALUES (?, ?, ?, ?, ?, ?)
                       ON CONFLICT (project, digest) DO UPDATE SET expires = excluded.expires, given = excluded.given,
                           lasts = excluded.lasts";
            let (given, expires) = (to_millis(now), to_millis(expires));
            transaction.each(
                sql,
                changes.iter().map(|(digest, kind)| values![id, digest, *kind, expires, given, expires - given]),
            )?;
            let sql = "INSERT INTO approval (project, kind, at) VALUES (?, ?, ?)
                       ON CONFLICT (project, kind) DO UPDATE SET at = excluded.at";
            for kind in changes.values().collect::<BTreeSet<_>>() {
                transaction.execute(sql, &values![id, kind, to_millis(now)])?;
            }
            Ok(())
        })
    }

    /// Digests of the changes that may go ahead.
    pub fn approved(&self, now: SystemTime) -> Result<BTreeSet<String>, Error> {
        self.read(|connection, id| {
            let sql = "SELECT digest FROM approved WHERE project = ? AND expires > ?";
            connection.rows(sql, &values![id, to_millis(now)], |row| text(row, "digest"))
        })
    }

    /// Forgets approvals whose time is over or whose changes are no longer planned, as they are different now. Of the
    /// kinds that are `unknown`, nobody can tell. What is under way by one uses it up when it is done.
    pub fn keep_approvals(
        &self,
        planned: &BTreeSet<String>,
        unknown: &BTreeSet<&str>,
        now: SystemTime,
    ) -> Result<(), Error> {
        let known: Vec<(String, String, i64)> = self.read(|connection, id| {
            let sql = "SELECT digest, kind, expires FROM approved WHERE project = ?";
            connection
                .rows(sql, &values![id], |row| Ok((text(row, "digest")?, text(row, "kind")?, row.integer("expires")?)))
        })?;
        // One of an older release does not say of which kind it is.
        let is_unknown = |kind: &str| unknown.contains(kind) || kind.is_empty() && !unknown.is_empty();
        let is_void = |(digest, kind, expires): &(String, String, i64)| {
            *expires <= to_millis(now) || !planned.contains(digest) && !is_unknown(kind)
        };
        let void: Vec<String> = known.into_iter().filter(is_void).map(|(digest, ..)| digest).collect();
        if void.is_empty() {
            return Ok(());
        }
        self.write(|transaction, id| {
            let sql = "DELETE FROM approved WHERE project = ?1 AND digest = ?2
                       AND NOT EXISTS (SELECT 1 FROM intent WHERE project = ?1 AND approval = ?2)";
            transaction.each(sql, void.iter().map(|digest| values![id, digest]))
        })
    }

    /// Until when the project only observes; `None` where it does not, or no longer.
    pub fn suspended_until(&self, now: SystemTime) -> Result<Option<SystemTime>, Error> {
        self.read(|connection, id| {
            let sql = "SELECT suspended_until FROM project WHERE id = ?";
            let until = connection.first(sql, &values![id], |row| row.optional("suspended_until"))?;
            Ok(until.flatten().map(from_millis).filter(|until| *until > now))
        })
    }

    /// On whose behalf it was suspended last; empty where that is not known.
    pub fn suspended_by(&self) -> Result<String, Error> {
        self.read(|connection, id| {
            let sql = "SELECT suspended_by FROM project WHERE id = ?";
            Ok(connection.first(sql, &values![id], |row| text(row, "suspended_by"))?.unwrap_or_default())
        })
    }

    /// Suspends until then, on behalf of `by`; `None` resumes.
    pub fn suspend(&self, until: Option<SystemTime>, by: &str) -> Result<(), Error> {
        self.write(|transaction, id| {
            let sql = "UPDATE project SET suspended_until = ?, suspended_by = ? WHERE id = ?";
            transaction.execute(sql, &values![until.map(to_millis), by, id])?;
            Ok(())
        })
    }
}

fn since(connection: &Tx<'_>, id: i64, table: &str) -> sql::Result<BTreeMap<Key, SystemTime>> {
    let sql = format!("SELECT kind, tenant, name, since FROM {table} WHERE project = ?");
    let read = |row: &Row<'_>| Ok(key(row)?.zip(Some(from_millis(row.integer("since")?))));
    let rows: Vec<_> = connection.rows(&sql, &values![id], read)?;
    Ok(rows.into_iter().flatten().collect())
}

pub(super) fn lately(connection: &Tx<'_>, id: i64, now: SystemTime) -> sql::Result<BTreeMap<&'static str, Lately>> {
    let day_ago = to_millis(now.checked_sub(DAY).unwrap_or(SystemTime::UNIX_EPOCH));
    let approved = "SELECT at FROM approval WHERE project = ? AND kind = ?";
    let deleted = "SELECT count(*) AS n FROM deletion WHERE project = ? AND kind = ? AND at > ?";
    let created = "SELECT count(*) AS n FROM owned WHERE project = ? AND kind = ? AND created_at > ?";
    let count = |sql: &str, kind: &str, since: i64| -> sql::Result<usize> {
        let count = connection.first(sql, &values![id, kind, since], |row| row.integer("n"))?;
        Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or_default())
    };
    let mut lately = BTreeMap::new();
    for kind in resource::ALL.iter().map(|kind| kind.name()) {
        let approval = connection.first(approved, &values![id, kind], |row| row.integer("at"))?;
        // One of the future is of a clock that was set back since.
        let since = approval.filter(|at| *at <= to_millis(now)).unwrap_or(day_ago).max(day_ago);
        let (deleted, created) = (count(deleted, kind, since)?, count(created, kind, since)?);
        let (passing, rise) = if deleted == 0 { (0, created) } else { ups_and_downs(connection, id, kind, since)? };
        lately.insert(kind, Lately { deleted, created, passing, rise });
    }
    Ok(lately)
}

/// What was created and deleted since, and how many more there were at most than at the beginning.
fn ups_and_downs(connection: &Tx<'_>, id: i64, kind: &str, since: i64) -> sql::Result<(usize, usize)> {
    let owned = "SELECT created_at AS at FROM owned WHERE project = ? AND kind = ? AND created_at > ?";
    let deleted = "SELECT created_at, at FROM deletion WHERE project = ? AND kind = ? AND at > ?";
    let mut ups: Vec<i64> = connection.rows(owned, &values![id, kind, since], |row| row.integer("at"))?;
    let read = |row: &Row<'_>| Ok((row.optional("created_at")?, row.integer("at")?));
    let downs: Vec<(Option<i64>, i64)> = connection.rows(deleted, &values![id, kind, since], read)?;
    let passing: Vec<i64> = downs.iter().filter_map(|(created, _)| created.filter(|at| *at > since)).collect();
    ups.extend(&passing);
    // Of one moment, what comes goes before what leaves.
    let steps = ups.into_iter().map(|at| (at, 0)).chain(downs.iter().map(|(_, at)| (*at, 1)));
    let (mut level, mut most) = (0_i64, 0_i64);
    let mut steps: Vec<(i64, u8)> = steps.collect();
    steps.sort_unstable();
    for (_, step) in steps {
        level += if step == 0 { 1 } else { -1 };
        most = most.max(level);
    }
    Ok((passing.len(), usize::try_from(most).unwrap_or_default()))
}

/// An approval is for one time. What was approved together with it may take longer than an approval lasts to go through
/// the rate limit, so what is left lasts anew from each change that is done.
pub(super) fn use_approval(transaction: &Tx<'_>, id: i64, digest: &str, now: SystemTime) -> sql::Result<()> {
    let sql = "DELETE FROM approved WHERE project = ? AND digest = ? RETURNING given, lasts, expires";
    let read = |row: &Row<'_>| Ok((row.integer("given")?, row.integer("lasts")?, row.integer("expires")?));
    let Some((given, lasts, expires)) = transaction.first(sql, &values![id, digest], read)? else { return Ok(()) };
    let now = to_millis(now);
    // What was approved together ends together. Not with each of thousands of changes: there is time until half of it
    // has passed.
    if expires >= now.saturating_add(lasts / 2) {
        return Ok(());
    }
    let sql = "UPDATE approved SET expires = ? WHERE project = ? AND given = ? AND expires > ?";
    transaction.execute(sql, &values![now.saturating_add(lasts), id, given, now]).map(drop)
}

/// Counts a delete that nobody approved, of something that is still owned.
pub(super) fn count_deletion(transaction: &Tx<'_>, id: i64, key: &Key, now: SystemTime) -> sql::Result<()> {
    let old = to_millis(now.checked_sub(DAY).unwrap_or(SystemTime::UNIX_EPOCH));
    transaction.execute("DELETE FROM deletion WHERE project = ? AND at < ?", &values![id, old])?;
    let sql = "SELECT created_at FROM owned WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
    let row = values![id, key.kind, tenant(key), key.name];
    let created_at = transaction.first(sql, &row, |row| row.optional("created_at"))?.flatten();
    let sql = "INSERT INTO deletion (project, kind, at, created_at) VALUES (?, ?, ?, ?)";
    transaction.execute(sql, &values![id, key.kind, to_millis(now), created_at]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Owned;
    use crate::state::State;

    fn project() -> (tempfile::TempDir, ProjectState) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("api.example.com", "P1", "default");
        (dir, project)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn digests(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn of(kind: &'static str, texts: &[&str]) -> BTreeMap<String, &'static str> {
        texts.iter().map(|text| ((*text).to_owned(), kind)).collect()
    }

    fn keys(names: &[&str]) -> BTreeSet<Key> {
        names.iter().map(|name| Key::new("roles", name)).collect()
    }

    #[test]
    fn an_absence_counts_from_the_first_load_that_lacked_it_and_ends_with_the_first_that_has_it() {
        let (_dir, project) = project();

        project.note_absent(&keys(&["a", "b"]), at(0)).unwrap();
        let later = project.note_absent(&keys(&["a"]), at(60)).unwrap();
        let again = project.note_absent(&keys(&["a", "b"]), at(90)).unwrap();

        assert_eq!(later, BTreeMap::from([(Key::new("roles", "a"), at(0))]));
        assert_eq!(again[&Key::new("roles", "b")], at(90));
        assert_eq!(project.absences().unwrap(), again);
    }

    #[test]
    fn a_clock_that_was_set_back_starts_the_wait_anew() {
        let (_dir, project) = project();
        project.note_absent(&keys(&["a"]), at(1000)).unwrap();

        let after = project.note_absent(&keys(&["a"]), at(10)).unwrap();

        assert_eq!(after[&Key::new("roles", "a")], at(10));
    }

    fn lately_at(project: &ProjectState, now: SystemTime) -> BTreeMap<&'static str, Lately> {
        project.read(|connection, id| lately(connection, id, now)).unwrap()
    }

    /// Each was taken for one more that had been owned at the same time.
    #[test]
    fn what_came_and_went_was_not_owned_all_at_once() {
        let (_dir, project) = project();
        let owned = |created_at| Owned { created_at, ..Owned::default() };
        project.own(&[(Key::new("roles", "old"), owned(None)), (Key::new("roles", "older"), owned(None))]).unwrap();
        for second in [10, 20, 30] {
            let key = Key::new("roles", "passing");
            project.own(&[(key.clone(), owned(Some(at(second))))]).unwrap();
            project.write(|transaction, id| count_deletion(transaction, id, &key, at(second + 5))).unwrap();
            project.disown(&[key]).unwrap();
        }
        let key = Key::new("roles", "old");
        project.write(|transaction, id| count_deletion(transaction, id, &key, at(40))).unwrap();
        project.disown(&[key]).unwrap();

        assert_eq!(lately_at(&project, at(50))["roles"], Lately { deleted: 4, created: 0, passing: 3, rise: 1 });
        let later = lately_at(&project, at(DAY.as_secs() + 20))["roles"];
        assert_eq!(later, Lately { deleted: 3, created: 0, passing: 1, rise: 0 });
    }

    #[test]
    fn what_is_missing_counts_from_the_first_look_and_apart_from_what_is_absent() {
        let (_dir, project) = project();
        project.note_absent(&keys(&["a", "b"]), at(0)).unwrap();

        project.note_missing(&keys(&["a"]), at(10)).unwrap();
        let later = project.note_missing(&keys(&["a", "c"]), at(20)).unwrap();

        assert_eq!(later, BTreeMap::from([(Key::new("roles", "a"), at(10)), (Key::new("roles", "c"), at(20))]));
        assert_eq!(project.ledger().unwrap().missing, later);
        assert_eq!(project.absences().unwrap().len(), 2);
    }

    #[test]
    fn deletes_count_for_a_day_or_until_an_approval() {
        let (_dir, project) = project();
        let day = DAY.as_secs();
        project.own(&[(Key::new("roles", "new"), Owned { created_at: Some(at(20)), ..Owned::default() })]).unwrap();
        let delete = |kind, second| {
            let key = Key::new(kind, "gone");
            project.write(|transaction, id| count_deletion(transaction, id, &key, at(second))).unwrap();
        };
        for second in [0, 10, 20] {
            delete("roles", second);
        }
        delete("permissions", 20);
        let lately = |now| lately_at(&project, now)["roles"];

        assert_eq!(lately(at(30)), Lately { deleted: 3, created: 1, passing: 0, rise: 0 });
        assert_eq!(lately(at(day + 15)), Lately { deleted: 1, created: 1, passing: 0, rise: 1 });
        project.approve(&of("roles", &["held"]), at(25), at(100)).unwrap();
        assert_eq!(lately(at(30)), Lately { deleted: 0, created: 0, passing: 0, rise: 0 });
        assert_eq!(lately_at(&project, at(30))["permissions"].deleted, 1);
    }

    #[test]
    fn an_approval_ends_with_time_or_with_its_change() {
        let (_dir, project) = project();
        project.approve(&of("roles", &["one", "two"]), at(0), at(60)).unwrap();

        assert_eq!(project.approved(at(59)).unwrap(), digests(&["one", "two"]));
        assert!(project.approved(at(60)).unwrap().is_empty());
        project.keep_approvals(&digests(&["two"]), &BTreeSet::new(), at(1)).unwrap();
        assert_eq!(project.approved(at(2)).unwrap(), digests(&["two"]));
    }

    #[test]
    fn an_approval_of_a_kind_that_did_not_answer_stands_and_those_of_the_others_end_with_their_changes() {
        let (_dir, project) = project();
        let unknown = BTreeSet::from(["roles"]);
        project.approve(&of("roles", &["of a role"]), at(0), at(60)).unwrap();
        project.approve(&of("tenants", &["of a tenant"]), at(0), at(60)).unwrap();
        project.approve(&of("", &["of an older release"]), at(0), at(60)).unwrap();

        project.keep_approvals(&BTreeSet::new(), &unknown, at(1)).unwrap();

        assert_eq!(project.approved(at(2)).unwrap(), digests(&["of a role", "of an older release"]));
        project.keep_approvals(&BTreeSet::new(), &unknown, at(60)).unwrap();
        assert!(project.approved(at(2)).unwrap().is_empty(), "their time is over");
    }

    #[test]
    fn an_approval_is_used_up_with_its_change_and_what_it_covers_besides_lasts_anew() {
        let (_dir, project) = project();
        let used = |digest: &str, second| {
            project.write(|transaction, id| use_approval(transaction, id, digest, at(second))).unwrap();
        };
        project.approve(&of("roles", &["one", "two", "three"]), at(0), at(60)).unwrap();
        project.approve(&of("roles", &["other"]), at(1), at(61)).unwrap();

        used("one", 10);
        assert_eq!(project.approved(at(59)).unwrap().len(), 3, "used up");
        assert_eq!(project.approved(at(60)).unwrap(), digests(&["other"]), "not yet worth it");
        used("two", 50);
        assert_eq!(project.approved(at(62)).unwrap(), digests(&["three"]), "three alone goes on");
        assert!(project.approved(at(110)).unwrap().is_empty());
        used("unknown", 51);
    }

    #[test]
    fn a_suspension_ends_by_itself_or_by_hand() {
        let (_dir, project) = project();
        assert_eq!(project.suspended_until(at(0)).unwrap(), None);

        project.suspend(Some(at(60)), "").unwrap();
        assert_eq!(project.suspended_until(at(59)).unwrap(), Some(at(60)));
        assert_eq!(project.suspended_until(at(60)).unwrap(), None);
        project.suspend(None, "").unwrap();
        assert_eq!(project.suspended_until(at(1)).unwrap(), None);
    }
}
