//! What is remembered of one project on behalf of one config repo.

use super::DELETED;
use super::Digest;
use super::Error;
use super::Fingerprints;
use super::ReadBack;
use super::Remembered;
use super::State;
use super::Store;
use super::browse;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::Version;
use super::sql::values;
use crate::resource;
use crate::resource::Key;
use crate::resource::remember::ALONG;
use crate::telemetry::repeats::Failures;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;

/// A resource of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owned {
    /// When the daemon created it, or it came back into the files since; `None` for one that was there before and got
    /// declared.
    pub created_at: Option<SystemTime>,
    /// As last declared: never deleted.
    pub protected: bool,
    /// As last declared: a delete takes along what hangs on it.
    pub cascade_delete: bool,
}

impl Owned {
    /// The same, to be noted again.
    pub fn again(self) -> OwnedAs {
        OwnedAs { protected: self.protected, cascade_delete: self.cascade_delete, is_new: false }
    }
}

/// What is to be noted of a resource of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnedAs {
    /// As [`Owned::protected`].
    pub protected: bool,
    /// As [`Owned::cascade_delete`].
    pub cascade_delete: bool,
    /// It counts as created now; else that stays as it is.
    pub is_new: bool,
}

impl OwnedAs {
    pub(super) fn at(self, now: SystemTime) -> Owned {
        let Self { protected, cascade_delete, is_new } = self;
        Owned { created_at: is_new.then_some(now), protected, cascade_delete }
    }
}

/// The state of one (host, project id, owner). Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProjectState {
    pub(super) state: State,
    pub(super) host: Arc<str>,
    pub(super) project_id: Arc<str>,
    pub(super) owner: Arc<str>,
}

impl ProjectState {
    /// Host, Descope's id, owner.
    pub fn claim(&self) -> (String, String, String) {
        (self.host.to_string(), self.project_id.to_string(), self.owner.to_string())
    }

    /// Has this project been in contact with this repo before?
    pub fn is_known(&self) -> Result<bool, Error> {
        let sql = "SELECT known FROM project WHERE host = ? AND project_id = ? AND owner = ?";
        self.read(|connection, _| {
            let row = values![self.host, self.project_id, self.owner];
            Ok(connection.first(sql, &row, |row| row.is("known"))?.unwrap_or(false))
        })
    }

    /// From now on [`ProjectState::is_known`].
    pub fn mark_known(&self) -> Result<(), Error> {
        self.write(|transaction, id| {
            transaction.execute("UPDATE project SET known = 1 WHERE id = ?", &values![id])?;
            Ok(())
        })
    }

    /// As [`State::is_failing`] says.
    pub fn is_failing(&self) -> bool {
        self.state.is_failing()
    }

    /// Everything owned.
    pub fn inventory(&self) -> Result<Arc<Inventory>, Error> {
        self.read(|connection, id| self.inventory_of(connection, id))
    }

    /// The same, read with what else is asked.
    pub(super) fn inventory_of(&self, connection: &Tx<'_>, id: i64) -> sql::Result<Arc<Inventory>> {
        let version = connection.version_of_owned()?.or_else(|| self.version_while_held());
        self.state.shared.inventories.get(connection, id, version)
    }

    /// Whoever holds a project is alone in writing it, so that what it read stays true until it writes itself.
    fn version_while_held(&self) -> Option<Version> {
        let Store::Server(server) = &self.state.shared.store else { return None };
        let tenure = self.tenure()?;
        Some((server.writes_of_owned(), tenure.term, to_millis(tenure.since)))
    }

    /// Adds to the inventory, or updates it, all or nothing.
    pub fn note_owned(&self, resources: &[(Key, OwnedAs)]) -> Result<(), Error> {
        self.write_by_clock(|transaction, id, now| {
            resources.iter().try_for_each(|(key, owned)| own(transaction, id, key, &owned.at(now)))
        })
    }

    /// The same as of then. A known time of creation stays.
    #[cfg(test)]
    pub fn own(&self, resources: &[(Key, Owned)]) -> Result<(), Error> {
        self.write(|transaction, id| resources.iter().try_for_each(|(key, owned)| own(transaction, id, key, owned)))
    }

    /// What was created no longer ago than that, as far as it is known when.
    pub fn created_within(&self, age: Duration) -> Result<BTreeSet<Key>, Error> {
        self.read_by_clock(|connection, id, now| {
            let sql = "SELECT kind, tenant, name FROM owned WHERE project = ? AND created_at > ? AND created_at < ?";
            let (now, age) = (to_millis(now), i64::try_from(age.as_millis()).unwrap_or(LAST));
            // A little ahead of the clock is recent as well.
            let row = values![id, now.saturating_sub(age), now.saturating_add(age)];
            Ok(connection.rows::<_, Vec<_>>(sql, &row, key)?.into_iter().flatten().collect())
        })
    }

    /// Takes out of the inventory, with the fingerprints of what was sent, all or nothing.
    pub fn disown(&self, keys: &[Key]) -> Result<(), Error> {
        self.write(|transaction, id| keys.iter().try_for_each(|key| disown(transaction, id, key)))
    }

    /// Forgets what a table knows of the resources that are not `kept`.
    pub(super) fn forget_but(&self, table: &str, kept: impl Fn(&Key) -> bool) -> Result<(), Error> {
        let sql = format!("SELECT DISTINCT kind, tenant, name FROM {table} WHERE project = ?");
        let gone: Vec<Key> = self.read(|connection, id| {
            let rows: Vec<_> = connection.rows(&sql, &values![id], |row| Ok(key(row)?.filter(|key| !kept(key))))?;
            Ok(rows.into_iter().flatten().collect())
        })?;
        if gone.is_empty() {
            return Ok(());
        }
        let sql = format!("DELETE FROM {table} WHERE project = ? AND kind = ? AND tenant = ? AND name = ?");
        self.write(|transaction, id| {
            transaction.each(&sql, gone.iter().map(|key| values![id, key.kind, tenant(key), key.name]))
        })
    }

    /// Was this rename done by us, and seen to be?
    pub fn was_renamed(&self, old: &Key, new: &Key) -> Result<bool, Error> {
        let sql =
            "SELECT 1 FROM renamed WHERE project = ? AND kind = ? AND tenant = ? AND old = ? AND new = ? AND seen <> 0";
        self.read(|connection, id| connection.exists(sql, &values![id, new.kind, tenant(new), old.name, new.name]))
    }

    /// What a look shows of renames (old, new) that were answered: these took effect, and of those both names are there, so
    /// that it was somebody else who made the new one.
    pub fn note_renames(&self, done: &[(Key, Key)], undone: &[(Key, Key)]) -> Result<(), Error> {
        let of_one = "WHERE project = ? AND kind = ? AND tenant = ? AND old = ? AND new = ? AND seen = 0";
        let (see, forget) = (format!("UPDATE renamed SET seen = 1 {of_one}"), format!("DELETE FROM renamed {of_one}"));
        let open = "SELECT 1 FROM renamed WHERE project = ? AND seen = 0";
        if !self.read(|connection, id| connection.exists(open, &values![id]))? {
            return Ok(());
        }
        self.write(|transaction, id| {
            for (old, new) in done {
                let row = values![id, new.kind, tenant(new), old.name, new.name];
                transaction.execute(&see, &row)?;
            }
            for (old, new) in undone {
                let row = values![id, new.kind, tenant(new), old.name, new.name];
                if transaction.execute(&forget, &row)? > 0 {
                    take_along(transaction, id, &new.name, old)?;
                }
            }
            Ok(())
        })
    }

    /// Fingerprint of what was last sent for a field that cannot be read back.
    #[cfg(test)]
    pub fn sent_digest(&self, key: &Key, field: &str) -> Result<Option<Digest>, Error> {
        let sql = "SELECT digest FROM sent WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND field = ?";
        self.read(|connection, id| {
            let row = values![id, key.kind, tenant(key), key.name, field];
            Ok(connection.first(sql, &row, |row| row.digest("digest"))?.flatten())
        })
    }

    /// Every fingerprint of what was last sent, by resource and field; none where their key is lost.
    pub fn sent_digests(&self) -> Result<Fingerprints, Error> {
        if self.state.shared.key.is_passing() {
            return Ok(HashMap::new());
        }
        self.read(|connection, id| {
            let sql = "SELECT kind, tenant, name, field, digest FROM sent WHERE project = ?";
            by_field(connection, id, sql)
        })
    }

    /// Of big documents, what Descope made of what was sent: fingerprints by field, where they were read back since.
    pub fn seen_digests(&self) -> Result<Fingerprints, Error> {
        if self.state.shared.key.is_passing() {
            return Ok(HashMap::new());
        }
        self.read(|connection, id| {
            let sql =
                "SELECT kind, tenant, name, field, seen AS digest FROM sent WHERE project = ? AND seen IS NOT NULL";
            by_field(connection, id, sql)
        })
    }

    /// Notes what was sent for fields that cannot be read back, all or nothing.
    #[cfg(test)]
    pub fn set_sent(&self, sent: &[Remembered]) -> Result<(), Error> {
        self.write(|transaction, id| set_sent(transaction, id, sent))
    }

    /// See [`State::now`].
    pub fn now(&self) -> SystemTime {
        self.state.now()
    }

    /// See [`State::failures`].
    pub fn failures(&self) -> u64 {
        self.state.failures()
    }

    /// What came of it. Where it failed, the log says what cannot be done and why, ever more seldom while it does.
    pub fn or_error<T, E: Display>(&self, result: Result<T, E>, what: &'static str) -> Option<T> {
        self.or_told(result, what, |error, times| tracing::error!(%error, times, "{what}"))
    }

    /// The same of what heals by itself.
    pub fn or_warn<T, E: Display>(&self, result: Result<T, E>, what: &'static str) -> Option<T> {
        self.or_told(result, what, |error, times| tracing::warn!(%error, times, "{what}"))
    }

    /// What of this project was met, and is told ever more seldom.
    pub fn told(&self) -> &Failures {
        &self.state.shared.told
    }

    fn or_told<T, E: Display>(&self, result: Result<T, E>, what: &str, tell: impl FnOnce(&str, u64)) -> Option<T> {
        let place = (what, &self.host, &self.project_id, &self.owner);
        match result {
            Ok(it) => {
                self.told().over(place);
                Some(it)
            }
            Err(error) => {
                let error = error.to_string();
                if let Some(times) = self.told().met(place, &error) {
                    tell(&error, times);
                }
                None
            }
        }
    }

    /// See [`State::fingerprint`].
    pub fn fingerprint(&self, value: &Value) -> Digest {
        self.state.fingerprint(value)
    }

    /// The same of a secret.
    pub fn fingerprint_secret(&self, secret: &SecretString) -> Digest {
        self.state.fingerprint(&Value::from(secret.expose_secret()))
    }

    /// Runs `work` with the id of this project's row, or one that no row has.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Tx<'_>, i64) -> sql::Result<T>) -> Result<T, Error> {
        self.state.read(|connection| work(connection, self.id(connection)?.unwrap_or(-1)))
    }

    /// The same, with the time that what is read counts by.
    pub(super) fn read_by_clock<T>(
        &self,
        work: impl FnOnce(&Tx<'_>, i64, SystemTime) -> sql::Result<T>,
    ) -> Result<T, Error> {
        self.state.read_by_clock(|connection, now| work(connection, self.id(connection)?.unwrap_or(-1), now))
    }

    /// The same of one moment, whoever writes meanwhile.
    pub(super) fn read_at_once<T>(
        &self,
        work: impl FnOnce(&Tx<'_>, i64, SystemTime) -> sql::Result<T>,
    ) -> Result<T, Error> {
        self.state.read_at_once(|connection, now| work(connection, self.id(connection)?.unwrap_or(-1), now))
    }

    /// Runs `work` in one transaction, with the id of this project's row.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Tx<'_>, i64) -> sql::Result<T>) -> Result<T, Error> {
        self.write_by_clock(|transaction, id, _| work(transaction, id))
    }

    /// The same, with the time that what is there counts by: what is written has to be of the same clock.
    pub(super) fn write_by_clock<T>(
        &self,
        work: impl FnOnce(&Tx<'_>, i64, SystemTime) -> sql::Result<T>,
    ) -> Result<T, Error> {
        let gap = self.state.untold_gap();
        let written = self.state.transact(|transaction, now| {
            let id = self.id_to_write(transaction)?;
            if let Some(gap) = gap {
                browse::note_gap(transaction, gap.gap())?;
            }
            work(transaction, id, now)
        });
        if let (Some(gap), Ok(_)) = (gap, &written) {
            self.state.told_gap(&gap);
        }
        self.state.noted(written)
    }

    /// When what could not be written down is to be told, unless something is written by then; `None` where there is nothing.
    pub fn gap_due_at(&self) -> Option<Instant> {
        self.state.gap_due_at()
    }

    /// Tells it.
    pub fn tell_gap(&self) -> Result<(), Error> {
        if self.state.untold_gap().is_none() { Ok(()) } else { self.write(|_, _| Ok(())) }
    }

    /// The id of this project's row, which is there from then on.
    pub(super) fn id_to_write(&self, transaction: &Tx<'_>) -> sql::Result<i64> {
        self.check_tenure(transaction)?;
        if let Some(id) = self.id(transaction)? {
            return Ok(id);
        }
        let sql = "INSERT INTO project (host, project_id, owner) VALUES (?, ?, ?) RETURNING id";
        let row = values![self.host, self.project_id, self.owner];
        Ok(transaction.first(sql, &row, |row| row.integer("id"))?.unwrap_or_default())
    }

    fn id(&self, connection: &Tx<'_>) -> sql::Result<Option<i64>> {
        let sql = "SELECT id FROM project WHERE host = ? AND project_id = ? AND owner = ?";
        connection.first(sql, &values![self.host, self.project_id, self.owner], |row| row.integer("id"))
    }
}

/// What is owned of one project.
pub type Inventory = BTreeMap<Key, Owned>;

/// What is owned of one kind.
pub fn of_kind<'i>(owned: &'i Inventory, kind: &'static str) -> impl Iterator<Item = &'i Key> {
    // No key comes before one without a name.
    owned.range(Key::new(kind, "")..).map(|(key, _)| key).take_while(move |key| key.kind == kind)
}

/// What was read last of each project: it is large, asked for several times in a pass, and seldom another.
#[derive(Default)]
pub(super) struct Inventories(Mutex<HashMap<i64, (Version, Arc<Inventory>)>>);

impl Inventories {
    /// Read anew only where something of it may have been written since.
    fn get(&self, connection: &Tx<'_>, id: i64, version: Option<Version>) -> sql::Result<Arc<Inventory>> {
        let Some(version) = version else { return Ok(Arc::new(inventory(connection, id)?)) };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, inventory)) = known.get(&id).filter(|(of, _)| *of == version) {
            return Ok(Arc::clone(inventory));
        }
        // Two at a time are too many.
        known.remove(&id);
        let inventory = Arc::new(inventory(connection, id)?);
        known.insert(id, (version, Arc::clone(&inventory)));
        Ok(inventory)
    }
}

fn inventory(connection: &Tx<'_>, id: i64) -> sql::Result<Inventory> {
    let sql = "SELECT kind, tenant, name, created_at, protected, cascade_delete FROM owned WHERE project = ?";
    let mut inventory = Inventory::new();
    connection.rows::<(), ()>(sql, &values![id], |row| {
        let owned =
            Owned { created_at: row.optional(3)?.map(from_millis), protected: row.is(4)?, cascade_delete: row.is(5)? };
        inventory.extend(key(row)?.map(|key| (key, owned)));
        Ok(())
    })?;
    Ok(inventory)
}

fn by_field(connection: &Tx<'_>, id: i64, sql: &str) -> sql::Result<Fingerprints> {
    let mut digests = Fingerprints::new();
    // The same few, again and again.
    let mut paths: HashSet<Arc<str>> = HashSet::new();
    connection.rows::<(), ()>(sql, &values![id], |row| {
        if let Some((key, digest)) = key(row)?.zip(row.digest("digest")?) {
            let path: Arc<str> = text(row, "field")?.into();
            if !paths.contains(&path) {
                paths.insert(Arc::clone(&path));
            }
            digests.entry(key).or_default().add(paths.get(&path).map_or(path.clone(), Arc::clone), digest);
        }
        Ok(())
    })?;
    Ok(digests)
}

pub(super) fn own(transaction: &Tx<'_>, id: i64, key: &Key, owned: &Owned) -> sql::Result<()> {
    let sql = "INSERT INTO owned (project, kind, tenant, name, created_at, protected, cascade_delete)
               VALUES (?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (project, kind, tenant, name) DO UPDATE SET
                   created_at = coalesce(excluded.created_at, owned.created_at),
                   protected = excluded.protected, cascade_delete = excluded.cascade_delete";
    let created_at = owned.created_at.map(to_millis);
    let row = values![id, key.kind, tenant(key), key.name, created_at, owned.protected, owned.cascade_delete];
    transaction.execute(sql, &row)?;
    Ok(())
}

/// The same for one that was just created; what was declared about it meanwhile stays.
pub(super) fn own_created(transaction: &Tx<'_>, id: i64, key: &Key, owned: &Owned) -> sql::Result<()> {
    let sql = "INSERT INTO owned (project, kind, tenant, name, created_at, protected, cascade_delete)
               VALUES (?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (project, kind, tenant, name) DO UPDATE SET
                   created_at = excluded.created_at, incarnation = NULL, server_id = NULL";
    let created_at = owned.created_at.map(to_millis);
    let row = values![id, key.kind, tenant(key), key.name, created_at, owned.protected, owned.cascade_delete];
    transaction.execute(sql, &row).map(drop)
}

/// Notes what was sent for fields that cannot be read back.
pub(super) fn set_sent(transaction: &Tx<'_>, id: i64, sent: &[Remembered]) -> sql::Result<()> {
    let sql = "INSERT INTO sent (project, kind, tenant, name, field, digest) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (project, kind, tenant, name, field) DO UPDATE SET digest = excluded.digest, seen = NULL";
    transaction
        .each(sql, sent.iter().map(|(key, field, digest)| values![id, key.kind, tenant(key), key.name, field, digest]))
}

/// What Descope made of a big document: sent, or found as it is declared.
pub(super) fn set_seen(transaction: &Tx<'_>, id: i64, seen: &[ReadBack]) -> sql::Result<()> {
    let sql = "INSERT INTO sent (project, kind, tenant, name, field, digest, seen) VALUES (?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (project, kind, tenant, name, field) DO UPDATE SET digest = excluded.digest, seen = excluded.seen";
    transaction.each(
        sql,
        seen.iter().map(|ReadBack { key, field, sent, seen }| {
            values![id, key.kind, tenant(key), key.name, *field, sent, seen]
        }),
    )
}

/// What was sent is there no more.
pub(super) fn reset_sent(transaction: &Tx<'_>, id: i64, reset: &[(Key, impl AsRef<str>)]) -> sql::Result<()> {
    let sql = "DELETE FROM sent WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND field = ?";
    transaction.each(sql, reset.iter().map(|(key, field)| values![id, key.kind, tenant(key), key.name, field.as_ref()]))
}

/// A resource that was created anew has nothing of what was sent to the old one.
pub(super) fn forget_sent(transaction: &Tx<'_>, id: i64, key: &Key) -> sql::Result<()> {
    for table in ["sent", "written"] {
        let sql = format!("DELETE FROM {table} WHERE project = ? AND kind = ? AND tenant = ? AND name = ?");
        transaction.execute(&sql, &values![id, key.kind, tenant(key), key.name])?;
    }
    Ok(())
}

/// The same where we created it: what was noted of that create stays.
pub(super) fn forget_sent_before(transaction: &Tx<'_>, id: i64, key: &Key) -> sql::Result<()> {
    for (table, but) in [("sent", format!("AND field NOT LIKE '%{ALONG}'")), ("written", String::new())] {
        let sql = format!("DELETE FROM {table} WHERE project = ? AND kind = ? AND tenant = ? AND name = ? {but}");
        transaction.execute(&sql, &values![id, key.kind, tenant(key), key.name])?;
    }
    Ok(())
}

/// Notes what the other calls of creates have to write, in place of what was noted of earlier creates of the same.
pub(super) fn set_along(transaction: &Tx<'_>, id: i64, along: &[(Key, Vec<Remembered>)]) -> sql::Result<()> {
    let sql = format!(
        "DELETE FROM sent WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND field LIKE '%{ALONG}'"
    );
    transaction.each(&sql, along.iter().map(|(key, _)| values![id, key.kind, tenant(key), key.name]))?;
    along.iter().try_for_each(|(_, along)| set_sent(transaction, id, along))
}

/// Whether a delete took effect is still to be seen.
pub(super) fn disown(transaction: &Tx<'_>, id: i64, key: &Key) -> sql::Result<()> {
    for table in ["owned", "sent", "written", "applied", "drifted"] {
        let but = if table == "written" { format!("AND path <> '{DELETED}'") } else { String::new() };
        let sql = format!("DELETE FROM {table} WHERE project = ? AND kind = ? AND tenant = ? AND name = ? {but}");
        transaction.execute(&sql, &values![id, key.kind, tenant(key), key.name])?;
    }
    Ok(())
}

pub(super) fn rename(transaction: &Tx<'_>, id: i64, old: &str, new: &Key) -> sql::Result<()> {
    let sql = "INSERT INTO renamed (project, kind, tenant, old, new, seen) VALUES (?, ?, ?, ?, ?, 0)
               ON CONFLICT (project, kind, tenant, old, new) DO UPDATE SET seen = 0";
    transaction.execute(sql, &values![id, new.kind, tenant(new), old, new.name])?;
    take_along(transaction, id, old, new)
}

/// What is known by the old name speaks of the new one.
fn take_along(transaction: &Tx<'_>, id: i64, old: &str, new: &Key) -> sql::Result<()> {
    for (table, within) in [("owned", ""), ("sent", "field"), ("written", "path"), ("applied", ""), ("drifted", "path")]
    {
        // What is known by both is what was known by the old one.
        let same = if within.is_empty() { String::new() } else { format!("AND old.{within} = {table}.{within}") };
        let sql = format!(
            "DELETE FROM {table} WHERE project = ?1 AND kind = ?2 AND tenant = ?3 AND name = ?4 AND EXISTS (
             SELECT 1 FROM {table} AS old WHERE old.project = ?1 AND old.kind = ?2 AND old.tenant = ?3 AND old.name = ?5
             {same})"
        );
        transaction.execute(&sql, &values![id, new.kind, tenant(new), new.name, old])?;
        let sql = format!("UPDATE {table} SET name = ? WHERE project = ? AND kind = ? AND tenant = ? AND name = ?");
        transaction.execute(&sql, &values![new.name, id, new.kind, tenant(new), old])?;
    }
    Ok(())
}

/// `None` for a kind that this release does not know: its rows wait for one that does. The same for a name that is no
/// text: nothing bears it.
pub(super) fn key(row: &Row<'_>) -> sql::Result<Option<Key>> {
    let (kind, tenant, name) = (row.str("kind")?, row.str("tenant")?, row.str("name")?);
    let (Some(kind), Some(tenant), Some(name)) = (kind, tenant, name) else { return Ok(None) };
    let Some(kind) = resource::kind(kind).filter(|_| !name.is_empty()) else { return Ok(None) };
    Ok(Some(Key {
        kind: kind.name(),
        tenant: if tenant.is_empty() { None } else { Some(tenant.into()) },
        name: name.into(),
    }))
}

pub(super) fn tenant(key: &Key) -> &str {
    key.tenant.as_deref().unwrap_or_default()
}

/// Whatever stands there, as text.
pub(super) fn text(row: &Row<'_>, column: &str) -> sql::Result<String> {
    Ok(optional_text(row, column)?.unwrap_or_default())
}

/// The same where there may be none.
pub(super) fn optional_text(row: &Row<'_>, column: &str) -> sql::Result<Option<String>> {
    row.text(column)
}

/// A number, or 0 for one that cannot be it.
pub(super) fn number<T: TryFrom<i64> + Default>(row: &Row<'_>, column: &str) -> sql::Result<T> {
    Ok(row.optional(column)?.and_then(|number| T::try_from(number).ok()).unwrap_or_default())
}

/// The last moment that RFC 3339 can write.
pub(super) const LAST: i64 = 253_402_300_799_999;

pub(super) fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(LAST).min(LAST)
}

pub(super) fn from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis.min(LAST)).unwrap_or_default())
}
