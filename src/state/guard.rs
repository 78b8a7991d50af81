//! What the guards remember: absences, deletes, approvals, and the suspension of a project.

use super::Error;
use super::OpenIntent;
use super::Reversion;
use super::applied;
use super::browse::note_order;
use super::fight;
use super::intent;
use super::project;
use super::project::Inventory;
use super::project::OwnedAs;
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
use super::suspension;
use crate::moment::Moment;
use crate::resource;
use crate::resource::Key;
use crate::telemetry::status::rfc3339;
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
    pub moment: Moment,
    /// Everything owned.
    pub owned: Arc<Inventory>,
    /// Since when they have been absent from the files.
    pub absent: BTreeMap<Key, SystemTime>,
    /// Since when no list has shown them, of those that no file declares.
    pub missing: BTreeMap<Key, SystemTime>,
    /// Calls under way, or of which nobody knows how they ended.
    pub open: Vec<OpenIntent>,
    /// By kind.
    pub lately: BTreeMap<&'static str, Lately>,
    /// As [`ProjectState::approved`].
    pub approved: BTreeSet<String>,
    /// What was turned back, oldest first, each with the look that showed it.
    pub reversions: Vec<(Reversion, SystemTime)>,
    /// All drift that is known, by resource and path, since the first look that showed it.
    pub drifted: BTreeMap<(Key, String), SystemTime>,
}

impl Ledger {
    /// Of a state that cannot be read, or of none.
    pub fn none() -> Self {
        let (owned, absent, missing, open, lately) = Default::default();
        let (approved, reversions, drifted) = Default::default();
        let moment = Moment { at: SystemTime::now(), set: 0 };
        Self { moment, owned, absent, missing, open, lately, approved, reversions, drifted }
    }
}

/// What a load says of what is owned.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// What it says otherwise than before.
    pub owned: &'a [(Key, OwnedAs)],
    /// What it lacks.
    pub absent: &'a BTreeSet<Key>,
    /// As [`ProjectState::note_missing`].
    pub missing: &'a BTreeSet<Key>,
}

/// That a project only observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspension {
    /// It ends by itself.
    pub until: SystemTime,
    /// How long that was from then on when it was read.
    pub left: Duration,
}

/// A change that an approval lets go ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// The YAML key; empty where it is about the project as a whole.
    pub kind: &'static str,
    /// `KIND/ID`; empty likewise.
    pub resource: String,
}

impl From<&'static str> for Covered {
    fn from(kind: &'static str) -> Self {
        Self { kind, resource: String::new() }
    }
}

/// What was approved together, and is not done though the approval is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// When it was approved.
    pub given: SystemTime,
    /// Since when that counts no more, by its time; `None` where something else differs now.
    pub expired: Option<SystemTime>,
    /// Of what, as `KIND/ID`.
    pub resources: Vec<String>,
}

impl Unused {
    /// In words, for an operator.
    pub fn told(&self) -> String {
        let changes = self.resources.len();
        let (plural, is) = if changes == 1 { ("", "is") } else { ("s", "are") };
        let of = format!("{changes} change{plural} approved at {} {is} not done", rfc3339(self.given));
        match self.expired {
            Some(at) => format!("{of}: the approval was good until {}", rfc3339(at)),
            None => format!("{of}: the approval is void, as what was approved is not what differs now"),
        }
    }

    /// What became of the order.
    fn outcome(&self) -> &'static str {
        if self.expired.is_some() { "failed" } else { "superseded" }
    }
}

impl ProjectState {
    /// Notes what a load says of what is owned, all of it as of one moment, and nothing where that is known.
    pub fn note_load(&self, load: &Load<'_>) -> Result<(), Error> {
        let Load { owned, absent, missing } = *load;
        let noted = [("absent", absent), ("missing", missing)];
        if owned.is_empty() && self.is_noted(&noted)? {
            return Ok(());
        }
        self.write_by_clock(|transaction, id, now| {
            owned.iter().try_for_each(|(key, owned)| project::own(transaction, id, key, &owned.at(now)))?;
            noted.iter().try_for_each(|(table, keys)| note_since(transaction, id, table, keys, now))
        })
    }

    /// Notes what no list shows, of the owned resources that no file declares, and forgets what else was noted so.
    pub fn note_missing(&self, missing: &BTreeSet<Key>) -> Result<(), Error> {
        if self.is_noted(&[("missing", missing)])? {
            return Ok(());
        }
        self.write_by_clock(|transaction, id, now| note_since(transaction, id, "missing", missing, now))
    }

    fn is_noted(&self, all: &[(&'static str, &BTreeSet<Key>)]) -> Result<bool, Error> {
        self.read_by_clock(|connection, id, now| {
            for (table, keys) in all {
                let before = since(connection, id, table)?;
                if !before.keys().eq(*keys) || before.values().any(|since| *since > now) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Since when each of the owned resources has been absent from the files, as [`ProjectState::note_load`] noted last.
    #[cfg(test)]
    pub fn absences(&self) -> Result<BTreeMap<Key, SystemTime>, Error> {
        self.read(|connection, id| since(connection, id, "absent"))
    }

    /// For how long.
    pub fn absent_for(&self) -> Result<BTreeMap<Key, Duration>, Error> {
        self.read_by_clock(|connection, id, now| {
            let age = |since: SystemTime| now.duration_since(since).unwrap_or_default();
            Ok(since(connection, id, "absent")?.into_iter().map(|(key, since)| (key, age(since))).collect())
        })
    }

    /// What [`ProjectState::note_missing`] noted last.
    pub fn missing(&self) -> Result<BTreeSet<Key>, Error> {
        self.read(|connection, id| Ok(since(connection, id, "missing")?.into_keys().collect()))
    }

    /// What the guards measure by, at one moment: no outcome of a call is in one part of it and not in another.
    /// Nor is the clock set in between.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        self.read_at_once(|snapshot, id, now| {
            Ok(Ledger {
                moment: Moment { at: now, set: self.state.set() },
                owned: self.inventory_of(snapshot, id)?,
                absent: since(snapshot, id, "absent")?,
                missing: since(snapshot, id, "missing")?,
                open: intent::open_intents(snapshot, id)?,
                lately: lately(snapshot, id, now)?,
                approved: approved(snapshot, id, now)?,
                reversions: fight::reversions(snapshot, id)?,
                drifted: applied::drifted(snapshot, id)?,
            })
        })
    }

    /// Lets changes go ahead for so long, by their digests, and starts counting the deletes of their kinds anew. While they are
    /// suspended none of that time passes.
    pub fn approve(&self, changes: &BTreeMap<String, Covered>, lasts: Duration) -> Result<(), Error> {
        self.write_by_clock(|transaction, id, now| {
            approve(transaction, id, changes, now, now + lasts)?;
            postpone(transaction, id, now)
        })
    }

    /// Those of these changes that may go ahead, or might until a moment ago, may from now on for as long as when they were approved.
    pub fn renew_approvals(&self, digests: &BTreeSet<&str>) -> Result<(), Error> {
        if digests.is_empty() {
            return Ok(());
        }
        let sql = "UPDATE approved SET expires = ?1 + lasts WHERE project = ?2 AND digest = ?3 AND lasts > 0
                   AND expires < ?1 + lasts";
        self.write_by_clock(|transaction, id, now| {
            transaction.each(sql, digests.iter().map(|digest| values![to_millis(now), id, *digest]))
        })
    }

    /// How many changes that may go ahead are not done yet: of all, of a kind, or of one resource (`KIND/ID`) of it.
    pub fn approved_of(&self, kind: Option<&str>, resource: Option<&str>) -> Result<usize, Error> {
        self.read_by_clock(|connection, id, now| {
            let sql = "SELECT kind, resource FROM approved WHERE project = ? AND expires > ?";
            let read = |row: &Row<'_>| Ok((text(row, "kind")?, text(row, "resource")?));
            let all: Vec<(String, String)> = connection.rows(sql, &values![id, to_millis(now)], read)?;
            let is_it = |(of, what): &&(String, String)| {
                kind.is_none_or(|kind| kind == of) && resource.is_none_or(|resource| resource == what)
            };
            Ok(all.iter().filter(is_it).count())
        })
    }

    /// Digests of the changes that may go ahead.
    pub fn approved(&self) -> Result<BTreeSet<String>, Error> {
        self.read_by_clock(approved)
    }

    /// Forgets approvals whose time is over or whose changes are no longer planned, as they are different now. Of the
    /// kinds that are `unknown`, nobody can tell. What is under way by one uses it up when it is done. What is forgotten
    /// without use leaves a row in the audit trail, but for what goes ahead without it (`KIND/ID`).
    pub fn keep_approvals(
        &self,
        planned: &BTreeSet<String>,
        unknown: &BTreeSet<&str>,
        goes_ahead: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Unused>, Error> {
        if self.read_by_clock(|connection, id, now| void(connection, id, planned, unknown, now))?.is_empty() {
            return Ok(Vec::new());
        }
        self.write_by_clock(|transaction, id, now| {
            let mut unused = keep_approvals(transaction, id, planned, unknown, now)?;
            unused.retain_mut(|one| {
                one.resources.retain(|resource| !goes_ahead(resource));
                !one.resources.is_empty()
            });
            for one in &unused {
                let row = ["interval", suspension::TIME, "lapse", one.outcome(), &one.told()];
                note_order(transaction, id, row, &one.resources)?;
            }
            Ok(unused)
        })
    }

    /// Forgets all that is not under way: a run that is over used what it could.
    pub fn drop_approvals(&self) -> Result<(), Error> {
        self.write_by_clock(|transaction, id, now| {
            keep_approvals(transaction, id, &BTreeSet::new(), &BTreeSet::new(), now).map(drop)
        })
    }

    /// Does the project only observe? `None` where it does not, or no longer.
    pub fn suspension(&self) -> Result<Option<Suspension>, Error> {
        self.read_by_clock(suspension)
    }

    /// On whose behalf it was suspended last; empty where that is not known.
    pub fn suspended_by(&self) -> Result<String, Error> {
        self.read(|connection, id| {
            let sql = "SELECT suspended_by FROM project WHERE id = ?";
            Ok(connection.first(sql, &values![id], |row| text(row, "suspended_by"))?.unwrap_or_default())
        })
    }

    /// Suspends it for so long, on behalf of `by`. When that ends.
    pub fn suspend(&self, wait: Duration, by: &str) -> Result<SystemTime, Error> {
        self.write_by_clock(|transaction, id, now| {
            suspend(transaction, id, Some(now + wait), by)?;
            postpone(transaction, id, now)?;
            Ok(now + wait)
        })
    }

    /// Ends that.
    pub fn resume(&self) -> Result<(), Error> {
        self.write_by_clock(|transaction, id, now| {
            suspend(transaction, id, None, "")?;
            postpone(transaction, id, now)
        })
    }
}

/// Makes these the ones that are noted. Since when each is, where it was noted before, stays; a time in the future, after
/// the clock was set back, counts from now.
fn note_since(transaction: &Tx<'_>, id: i64, table: &str, keys: &BTreeSet<Key>, now: SystemTime) -> sql::Result<()> {
    let before = since(transaction, id, table)?;
    let since = |key: &Key| before.get(key).copied().filter(|since| *since <= now).unwrap_or(now);
    let after: BTreeMap<Key, SystemTime> = keys.iter().map(|key| (key.clone(), since(key))).collect();
    if after == before {
        return Ok(());
    }
    transaction.execute(&format!("DELETE FROM {table} WHERE project = ?"), &values![id])?;
    let sql = format!("INSERT INTO {table} (project, kind, tenant, name, since) VALUES (?, ?, ?, ?, ?)");
    transaction
        .each(&sql, after.iter().map(|(key, since)| values![id, key.kind, tenant(key), key.name, to_millis(*since)]))
}

fn approve(
    transaction: &Tx<'_>,
    id: i64,
    changes: &BTreeMap<String, Covered>,
    now: SystemTime,
    expires: SystemTime,
) -> sql::Result<()> {
    let sql =
        "INSERT INTO approved (project, digest, kind, resource, expires, given, lasts) VALUES (?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (project, digest) DO UPDATE SET expires = excluded.expires, given = excluded.given,
                   lasts = excluded.lasts, resource = excluded.resource";
    let (given, expires) = (to_millis(now), to_millis(expires));
    let lasts = expires - given;
    transaction.each(
        sql,
        changes.iter().map(|(digest, of)| values![id, digest, of.kind, of.resource.as_str(), expires, given, lasts]),
    )?;
    let sql = "INSERT INTO approval (project, kind, at) VALUES (?, ?, ?)
               ON CONFLICT (project, kind) DO UPDATE SET at = excluded.at";
    for kind in changes.values().map(|of| of.kind).collect::<BTreeSet<_>>() {
        transaction.execute(sql, &values![id, kind, given])?;
    }
    Ok(())
}

fn approved(connection: &Tx<'_>, id: i64, now: SystemTime) -> sql::Result<BTreeSet<String>> {
    let sql = "SELECT digest FROM approved WHERE project = ? AND expires > ?";
    connection.rows(sql, &values![id, to_millis(now)], |row| text(row, "digest"))
}

/// What is approved and suspended lasts from the end of that: it was to go ahead then. By the order that moves or ends a
/// suspension, of the project or of something of the kind, so do all of its approvals that are not over.
pub(super) fn postpone(transaction: &Tx<'_>, id: i64, now: SystemTime) -> sql::Result<()> {
    let read = |row: &Row<'_>| text(row, "kind");
    let kinds: BTreeSet<String> =
        transaction.rows("SELECT DISTINCT kind FROM approved WHERE project = ?", &values![id], read)?;
    let now = to_millis(now);
    for kind in kinds {
        let sql = "SELECT max(until) AS until FROM (
                       SELECT suspended_until AS until FROM project WHERE id = ?1
                       UNION ALL SELECT until FROM suspended WHERE project = ?1 AND kind = ?2) AS ends";
        let until = transaction.first(sql, &values![id, kind.as_str()], |row| row.optional("until"))?.flatten();
        let begins = until.unwrap_or(now).max(now);
        // Where nothing is suspended any more it lasts no longer than it would from now on.
        let sql = "UPDATE approved SET expires = ?1 + lasts WHERE project = ?2 AND kind = ?3 AND lasts > 0
                   AND expires > ?4 AND (?1 > ?4 OR expires > ?4 + lasts)";
        transaction.execute(sql, &values![begins, id, kind.as_str(), now])?;
    }
    Ok(())
}

/// An approval that counts no more: its digest, when it was given, when it ended by its time, and of what it is.
type Void = (String, i64, Option<i64>, String);

fn void(
    connection: &Tx<'_>,
    id: i64,
    planned: &BTreeSet<String>,
    unknown: &BTreeSet<&str>,
    now: SystemTime,
) -> sql::Result<Vec<Void>> {
    let sql = "SELECT digest, kind, resource, given, expires FROM approved WHERE project = ?";
    // One of an older release does not say of which kind it is.
    let is_unknown = |kind: &str| unknown.contains(kind) || kind.is_empty() && !unknown.is_empty();
    let read = |row: &Row<'_>| {
        let (digest, kind, end) = (text(row, "digest")?, text(row, "kind")?, row.integer("expires")?);
        let ended = (end <= to_millis(now)).then_some(end);
        let is_void = ended.is_some() || !planned.contains(&digest) && !is_unknown(&kind);
        Ok(is_void.then_some((digest, row.integer("given")?, ended, text(row, "resource")?)))
    };
    let known: Vec<Option<Void>> = connection.rows(sql, &values![id], read)?;
    Ok(known.into_iter().flatten().collect())
}

fn keep_approvals(
    transaction: &Tx<'_>,
    id: i64,
    planned: &BTreeSet<String>,
    unknown: &BTreeSet<&str>,
    now: SystemTime,
) -> sql::Result<Vec<Unused>> {
    let sql = "DELETE FROM approved WHERE project = ?1 AND digest = ?2
               AND NOT EXISTS (SELECT 1 FROM intent WHERE project = ?1 AND approval = ?2) RETURNING digest";
    let mut unused: BTreeMap<(i64, Option<i64>), Vec<String>> = BTreeMap::new();
    for (digest, given, expired, resource) in void(transaction, id, planned, unknown, now)? {
        let is_over = transaction.first(sql, &values![id, digest.as_str()], |row| text(row, "digest"))?.is_some();
        // That another entry gets the project is used at once, and nobody knows of what one of an older release was.
        if is_over && !resource.is_empty() {
            unused.entry((given, expired)).or_default().push(resource);
        }
    }
    let told = unused.into_iter().map(|((given, expired), mut resources)| {
        resources.sort();
        resources.dedup();
        Unused { given: from_millis(given), expired: expired.map(from_millis), resources }
    });
    Ok(told.collect())
}

fn suspension(connection: &Tx<'_>, id: i64, now: SystemTime) -> sql::Result<Option<Suspension>> {
    let sql = "SELECT suspended_until FROM project WHERE id = ?";
    let until = connection.first(sql, &values![id], |row| row.optional("suspended_until"))?;
    let until = until.flatten().map(from_millis).filter(|until| *until > now);
    Ok(until.map(|until| Suspension { until, left: until.duration_since(now).unwrap_or_default() }))
}

fn suspend(transaction: &Tx<'_>, id: i64, until: Option<SystemTime>, by: &str) -> sql::Result<()> {
    let sql = "UPDATE project SET suspended_until = ?, suspended_by = ? WHERE id = ?";
    transaction.execute(sql, &values![until.map(to_millis), by, id]).map(drop)
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

/// The same as of a time that a test says.
#[cfg(test)]
impl ProjectState {
    pub fn note_absent_at(&self, absent: &BTreeSet<Key>, now: SystemTime) {
        self.write(|transaction, id| note_since(transaction, id, "absent", absent, now)).unwrap();
    }

    pub fn note_missing_at(&self, missing: &BTreeSet<Key>, now: SystemTime) {
        self.write(|transaction, id| note_since(transaction, id, "missing", missing, now)).unwrap();
    }

    pub fn approve_at(&self, changes: &BTreeMap<String, Covered>, now: SystemTime, expires: SystemTime) {
        self.write(|transaction, id| approve(transaction, id, changes, now, expires)).unwrap();
    }

    pub fn approved_at(&self, now: SystemTime) -> BTreeSet<String> {
        self.read(|connection, id| approved(connection, id, now)).unwrap()
    }

    pub fn suspend_until(&self, until: SystemTime, by: &str) {
        self.write(|transaction, id| suspend(transaction, id, Some(until), by)).unwrap();
    }

    pub fn suspended_at(&self, now: SystemTime) -> Option<SystemTime> {
        self.read(|connection, id| suspension(connection, id, now)).unwrap().map(|suspension| suspension.until)
    }
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

    fn of(kind: &'static str, texts: &[&str]) -> BTreeMap<String, Covered> {
        let covered = |text: &&str| Covered { kind, resource: format!("{kind}/{text}") };
        texts.iter().map(|text| ((*text).to_owned(), covered(text))).collect()
    }

    fn keys(names: &[&str]) -> BTreeSet<Key> {
        names.iter().map(|name| Key::new("roles", name)).collect()
    }

    #[test]
    fn an_absence_counts_from_the_first_load_that_lacked_it_and_ends_with_the_first_that_has_it() {
        let (_dir, project) = project();

        project.note_absent_at(&keys(&["a", "b"]), at(0));
        project.note_absent_at(&keys(&["a"]), at(60));
        let later = project.absences().unwrap();
        project.note_absent_at(&keys(&["a", "b"]), at(90));

        assert_eq!(later, BTreeMap::from([(Key::new("roles", "a"), at(0))]));
        let again = project.absences().unwrap();
        assert_eq!((again[&Key::new("roles", "a")], again[&Key::new("roles", "b")]), (at(0), at(90)));
    }

    #[test]
    fn a_clock_that_was_set_back_starts_the_wait_anew() {
        let (_dir, project) = project();
        project.note_absent_at(&keys(&["a"]), at(1000));

        project.note_absent_at(&keys(&["a"]), at(10));

        assert_eq!(project.absences().unwrap()[&Key::new("roles", "a")], at(10));
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
        project.note_absent_at(&keys(&["a", "b"]), at(0));

        project.note_missing_at(&keys(&["a"]), at(10));
        project.note_missing_at(&keys(&["a", "c"]), at(20));

        let later = BTreeMap::from([(Key::new("roles", "a"), at(10)), (Key::new("roles", "c"), at(20))]);
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
        project.approve_at(&of("roles", &["held"]), at(25), at(100));
        assert_eq!(lately(at(30)), Lately { deleted: 0, created: 0, passing: 0, rise: 0 });
        assert_eq!(lately_at(&project, at(30))["permissions"].deleted, 1);
    }

    fn keep(project: &ProjectState, planned: &BTreeSet<String>, unknown: &BTreeSet<&str>, second: u64) {
        project.write(|transaction, id| keep_approvals(transaction, id, planned, unknown, at(second))).unwrap();
    }

    #[test]
    fn an_approval_ends_with_time_or_with_its_change() {
        let (_dir, project) = project();
        project.approve_at(&of("roles", &["one", "two"]), at(0), at(60));

        assert_eq!(project.approved_at(at(59)), digests(&["one", "two"]));
        assert!(project.approved_at(at(60)).is_empty());
        keep(&project, &digests(&["two"]), &BTreeSet::new(), 1);
        assert_eq!(project.approved_at(at(2)), digests(&["two"]));
    }

    #[test]
    fn an_approval_of_a_kind_that_did_not_answer_stands_and_those_of_the_others_end_with_their_changes() {
        let (_dir, project) = project();
        let unknown = BTreeSet::from(["roles"]);
        project.approve_at(&of("roles", &["of a role"]), at(0), at(60));
        project.approve_at(&of("tenants", &["of a tenant"]), at(0), at(60));
        project.approve_at(&of("", &["of an older release"]), at(0), at(60));

        keep(&project, &BTreeSet::new(), &unknown, 1);

        assert_eq!(project.approved_at(at(2)), digests(&["of a role", "of an older release"]));
        keep(&project, &BTreeSet::new(), &unknown, 60);
        assert!(project.approved_at(at(2)).is_empty(), "their time is over");
    }

    #[test]
    fn an_approval_is_used_up_with_its_change_and_what_it_covers_besides_lasts_anew() {
        let (_dir, project) = project();
        let used = |digest: &str, second| {
            project.write(|transaction, id| use_approval(transaction, id, digest, at(second))).unwrap();
        };
        project.approve_at(&of("roles", &["one", "two", "three"]), at(0), at(60));
        project.approve_at(&of("roles", &["other"]), at(1), at(61));

        used("one", 10);
        assert_eq!(project.approved_at(at(59)).len(), 3, "used up");
        assert_eq!(project.approved_at(at(60)), digests(&["other"]), "not yet worth it");
        used("two", 50);
        assert_eq!(project.approved_at(at(62)), digests(&["three"]), "three alone goes on");
        assert!(project.approved_at(at(110)).is_empty());
        used("unknown", 51);
    }

    /// It was over before what it was for could go ahead, and had been promised for the end of the suspension.
    #[test]
    fn an_approval_lasts_from_the_end_of_what_is_suspended_and_no_longer() {
        let (_dir, project) = project();
        let (now, hour, second) = (project.now(), Duration::from_secs(3600), Duration::from_secs(1));
        let ends = |digest: &str| -> Duration {
            let sql = "SELECT digest, expires FROM approved WHERE project = ?";
            let read = |row: &Row<'_>| Ok((text(row, "digest")?, row.integer("expires")?));
            let all: BTreeMap<String, i64> =
                project.read(|connection, id| connection.rows(sql, &values![id], read)).unwrap();
            let end = from_millis(all[digest]).duration_since(now).unwrap();
            // To the hour: the clock goes on meanwhile.
            hour * u32::try_from((end + second * 60).as_secs() / 3600).unwrap()
        };
        let both = || (ends("role") / 3600, ends("tenant") / 3600);
        let hours = |role, tenant| (second * role, second * tenant);
        project.approve(&of("roles", &["role"]), hour).unwrap();
        project.approve_at(&of("roles", &["over"]), now - hour * 2, now - hour);

        project.suspend(hour * 2, "").unwrap();
        project.approve(&of("tenants", &["tenant"]), hour).unwrap();
        assert_eq!(both(), hours(3, 3), "before it or during it");
        assert!(!project.approved().unwrap().contains("over"));
        project.suspend(hour * 4, "").unwrap();
        assert_eq!(both(), hours(5, 5), "longer");
        project.suspend_part("roles", Some("role"), hour * 6, "").unwrap();
        assert_eq!(both(), hours(7, 5), "the last end counts");
        project.resume().unwrap();
        assert_eq!(both(), hours(7, 1));
        project.resume_part("roles", Some("role")).unwrap();
        assert_eq!(both(), hours(1, 1), "no longer than from now on");
        project.approve_at(&of("roles", &["role"]), now - hour / 2, now + hour / 2);
        project.resume().unwrap();
        assert_eq!(ends("role"), Duration::ZERO, "nothing was suspended");
    }

    /// Nothing told that it was over, and that what it was for was not done.
    #[test]
    fn an_approval_that_ends_without_use_leaves_a_row_and_one_that_is_not_needed_any_more_none() {
        let (_dir, project) = project();
        let now = project.now();
        let (minute, ago) = (Duration::from_secs(60), now - Duration::from_secs(120));
        project.approve_at(&of("roles", &["a", "b"]), ago, ago + minute);
        project.approve_at(&of("tenants", &["void", "free", "kept"]), now, now + minute);
        let planned = digests(&["a", "kept"]);

        let unused =
            project.keep_approvals(&planned, &BTreeSet::new(), &|resource| resource == "tenants/free").unwrap();

        let told: Vec<(String, Vec<String>)> = unused.iter().map(|one| (one.told(), one.resources.clone())).collect();
        let lasted = format!(
            "2 changes approved at {} are not done: the approval was good until {}",
            rfc3339(ago),
            rfc3339(ago + minute)
        );
        let void = format!(
            "1 change approved at {} is not done: the approval is void, as what was approved is not what differs now",
            rfc3339(now)
        );
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (late, of_void) = ((lasted, named(&["roles/a", "roles/b"])), (void, named(&["tenants/void"])));
        assert_eq!(told, [late, of_void]);
        let window = crate::state::Window { limit: 9, ..crate::state::Window::default() };
        let rows = project.state.changes(&window).unwrap();
        let rows: Vec<(String, String, String)> =
            rows.into_iter().map(|(_, row)| (row.action, row.outcome, row.message)).collect();
        let row = |outcome: &str, told: &str| ("lapse".to_owned(), outcome.to_owned(), told.to_owned());
        assert_eq!(rows, [row("superseded", &told[1].0), row("failed", &told[0].0)]);
        assert_eq!(project.approved().unwrap(), digests(&["kept"]));
        assert_eq!(project.keep_approvals(&planned, &BTreeSet::new(), &|_| false).unwrap(), []);
    }

    #[test]
    fn a_suspension_ends_by_itself_or_by_hand() {
        let (_dir, project) = project();
        assert_eq!(project.suspended_at(at(0)), None);

        project.suspend_until(at(60), "");
        assert_eq!(project.suspended_at(at(59)), Some(at(60)));
        assert_eq!(project.suspended_at(at(60)), None);
        project.resume().unwrap();
        assert_eq!(project.suspended_at(at(1)), None);
    }
}
