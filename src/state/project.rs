//! What is remembered of one project on behalf of one config repo.

use super::Attempt;
use super::Digest;
use super::Error;
use super::State;
use super::history;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;
use rusqlite::params;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

/// A resource of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owned {
    /// When the daemon created it; `None` for one that was there before and got declared.
    pub created_at: Option<SystemTime>,
    /// As last declared: never deleted.
    pub protected: bool,
    /// As last declared: a delete takes along what hangs on it.
    pub cascade_delete: bool,
}

/// A call that must not be sent twice, noted before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// What it is about; for a rename, the new name.
    pub key: Key,
    /// What it does.
    pub action: Action,
    /// For a rename, the old name.
    pub from: Option<Arc<str>>,
    /// Fingerprint of what is sent.
    pub digest: Digest,
}

/// Names a noted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(i64);

/// A call that may have been sent, and of which nobody knows what became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIntent {
    /// To settle it with.
    pub id: IntentId,
    /// The call.
    pub intent: Intent,
    /// When it was noted.
    pub begun_at: SystemTime,
}

/// What became of a noted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect. The inventory follows: a created resource is owned, a deleted one is not, a renamed one has
    /// its new name.
    Done,
    /// It had no effect.
    NotDone,
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
    /// Has this project been in contact with this repo before?
    pub fn is_known(&self) -> Result<bool, Error> {
        let sql = "SELECT known FROM project WHERE host = ? AND project_id = ? AND owner = ?";
        self.read(|connection, _| {
            let known = connection
                .prepare_cached(sql)?
                .query_row(params![self.host, self.project_id, self.owner], |row| row.get(0))
                .optional()?;
            Ok(known.unwrap_or(false))
        })
    }

    /// From now on [`ProjectState::is_known`].
    pub fn mark_known(&self) -> Result<(), Error> {
        self.write(|transaction, id| {
            transaction.execute("UPDATE project SET known = 1 WHERE id = ?", [id])?;
            Ok(())
        })
    }

    /// Everything owned.
    pub fn inventory(&self) -> Result<BTreeMap<Key, Owned>, Error> {
        let sql = "SELECT kind, tenant, name, created_at, protected, cascade_delete FROM owned WHERE project = ?";
        self.read(|connection, id| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([id], |row| {
                let owned = Owned {
                    created_at: row.get::<_, Option<i64>>(3)?.map(from_millis),
                    protected: row.get(4)?,
                    cascade_delete: row.get(5)?,
                };
                Ok(key(row)?.map(|key| (key, owned)))
            })?;
            rows.filter_map(Result::transpose).collect()
        })
    }

    /// Adds to the inventory, or updates it, all or nothing. A known time of creation stays.
    pub fn own(&self, resources: &[(Key, Owned)]) -> Result<(), Error> {
        self.write(|transaction, id| resources.iter().try_for_each(|(key, owned)| own(transaction, id, key, owned)))
    }

    /// Adds what was just created, all or nothing: nothing of what was sent to an older resource of that name is
    /// true of it.
    pub fn created(&self, resources: &[(Key, Owned)]) -> Result<(), Error> {
        self.write(|transaction, id| {
            resources.iter().try_for_each(|(key, owned)| {
                forget_sent(transaction, id, key)?;
                own(transaction, id, key, owned)
            })
        })
    }

    /// Takes out of the inventory, with the fingerprints of what was sent, all or nothing.
    pub fn disown(&self, keys: &[Key]) -> Result<(), Error> {
        self.write(|transaction, id| keys.iter().try_for_each(|key| disown(transaction, id, key)))
    }

    /// Notes a rename that is done; what is known of the resource moves along.
    pub fn renamed(&self, old: &Key, new: &Key) -> Result<(), Error> {
        self.write(|transaction, id| rename(transaction, id, &old.name, new))
    }

    /// Was this rename done by us?
    pub fn was_renamed(&self, old: &Key, new: &Key) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM renamed WHERE project = ? AND kind = ? AND tenant = ? AND old = ? AND new = ?";
        self.read(|connection, id| {
            connection.prepare_cached(sql)?.exists(params![id, new.kind, tenant(new), old.name, new.name])
        })
    }

    /// Notes calls before they are sent, all or nothing. The ids are in the order of `intents`.
    pub fn begin(&self, intents: &[Intent]) -> Result<Vec<IntentId>, Error> {
        let sql = "INSERT INTO intent (project, kind, tenant, name, action, from_name, digest, begun_at)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let now = to_millis(SystemTime::now());
        self.write(|transaction, id| {
            let mut statement = transaction.prepare_cached(sql)?;
            let insert = |intent: &Intent| {
                let Intent { key, action, from, digest } = intent;
                let row = params![id, key.kind, tenant(key), key.name, action.as_str(), from, digest, now];
                statement.insert(row).map(IntentId)
            };
            intents.iter().map(insert).collect()
        })
    }

    /// Notes what became of calls, what follows for the inventory, and their rows of the audit trail, all or nothing: a
    /// kill leaves either open calls or their outcome.
    pub fn settle(&self, ids: &[IntentId], settled: Settled, attempts: &[Attempt]) -> Result<(), Error> {
        let now = SystemTime::now();
        self.write(|transaction, project| {
            for id in ids {
                settle(transaction, project, *id, settled, now)?;
            }
            history::add(transaction, project, attempts)
        })
    }

    /// The same for one call, unless somebody else did so before; then false.
    pub fn settle_one(&self, id: IntentId, settled: Settled, attempt: &Attempt) -> Result<bool, Error> {
        let now = SystemTime::now();
        self.write(|transaction, project| {
            let is_news = settle(transaction, project, id, settled, now)?;
            if is_news {
                history::add(transaction, project, std::slice::from_ref(attempt))?;
            }
            Ok(is_news)
        })
    }

    /// Forgets every open call of these resources: a later look or call settled what they are. The row is added where
    /// there was such a call.
    pub fn forget_intents(&self, settled: &[(Key, Option<Attempt>)]) -> Result<(), Error> {
        let sql = "DELETE FROM intent WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
        self.write(|transaction, id| {
            for (key, attempt) in settled {
                let mut statement = transaction.prepare_cached(sql)?;
                let open = statement.execute(params![id, key.kind, tenant(key), key.name])?;
                if let Some(attempt) = attempt.as_ref().filter(|_| open > 0) {
                    history::add(transaction, id, std::slice::from_ref(attempt))?;
                }
            }
            Ok(())
        })
    }

    /// Calls that were noted and not settled, oldest first: after a start, those that a kill cut off.
    pub fn open_intents(&self) -> Result<Vec<OpenIntent>, Error> {
        self.read(|connection, id| {
            let mut statement = connection.prepare_cached("SELECT * FROM intent WHERE project = ? ORDER BY id")?;
            statement.query_map([id], open_intent)?.filter_map(Result::transpose).collect()
        })
    }

    /// Fingerprint of what was last sent for a field that cannot be read back.
    #[cfg(test)]
    pub fn sent_digest(&self, key: &Key, field: &str) -> Result<Option<Digest>, Error> {
        let sql = "SELECT digest FROM sent WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND field = ?";
        self.read(|connection, id| {
            connection
                .prepare_cached(sql)?
                .query_row(params![id, key.kind, tenant(key), key.name, field], |row| row.get(0))
                .optional()
        })
    }

    /// Every fingerprint of what was last sent, by resource and field.
    pub fn sent_digests(&self) -> Result<HashMap<Key, BTreeMap<String, Digest>>, Error> {
        self.read(|connection, id| {
            let sql = "SELECT kind, tenant, name, field, digest FROM sent WHERE project = ?";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([id])?;
            let mut digests: HashMap<Key, BTreeMap<String, Digest>> = HashMap::new();
            while let Some(row) = rows.next()? {
                if let Some(key) = key(row)? {
                    digests.entry(key).or_default().insert(row.get("field")?, row.get("digest")?);
                }
            }
            Ok(digests)
        })
    }

    /// Notes what was sent for fields that cannot be read back, all or nothing.
    pub fn set_sent(&self, sent: &[(Key, &str, Digest)]) -> Result<(), Error> {
        let sql = "INSERT INTO sent (project, kind, tenant, name, field, digest) VALUES (?, ?, ?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET digest = excluded.digest";
        self.write(|transaction, id| {
            let mut statement = transaction.prepare_cached(sql)?;
            for (key, field, digest) in sent {
                statement.execute(params![id, key.kind, tenant(key), key.name, field, digest])?;
            }
            Ok(())
        })
    }

    /// See [`State::now`].
    pub fn now(&self) -> SystemTime {
        self.state.now()
    }

    /// See [`State::fingerprint`].
    pub fn fingerprint(&self, value: &Value) -> Digest {
        self.state.fingerprint(value)
    }

    /// Runs `work` with the id of this project's row, or one that no row has.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T>) -> Result<T, Error> {
        let connection = self.state.connection();
        let id = self.id(&connection)?.unwrap_or(-1);
        Ok(work(&connection, id)?)
    }

    /// Runs `work` in one transaction, with the id of this project's row.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.state.noted(self.transact(work))
    }

    fn transact<T>(&self, work: impl FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<T>) -> Result<T, Error> {
        let mut connection = self.state.connection();
        // What is written now is of the clock as it is now; so must be what is there.
        self.state.follow_clock(&mut connection).map_err(|(_, error)| error)?;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let id = if let Some(id) = self.id(&transaction)? {
            id
        } else {
            transaction
                .prepare_cached("INSERT INTO project (host, project_id, owner) VALUES (?, ?, ?)")?
                .insert(params![self.host, self.project_id, self.owner])?
        };
        let result = work(&transaction, id)?;
        transaction.commit()?;
        Ok(result)
    }

    fn id(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection
            .prepare_cached("SELECT id FROM project WHERE host = ? AND project_id = ? AND owner = ?")?
            .query_row(params![self.host, self.project_id, self.owner], |row| row.get(0))
            .optional()
    }
}

fn own(transaction: &Transaction<'_>, id: i64, key: &Key, owned: &Owned) -> rusqlite::Result<()> {
    let sql = "INSERT INTO owned (project, kind, tenant, name, created_at, protected, cascade_delete)
               VALUES (?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET created_at = coalesce(excluded.created_at, created_at),
                   protected = excluded.protected, cascade_delete = excluded.cascade_delete";
    let created_at = owned.created_at.map(to_millis);
    let row = params![id, key.kind, tenant(key), key.name, created_at, owned.protected, owned.cascade_delete];
    transaction.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// A resource that was created anew has nothing of what was sent to the old one.
fn forget_sent(transaction: &Transaction<'_>, id: i64, key: &Key) -> rusqlite::Result<()> {
    let sql = "DELETE FROM sent WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
    transaction.prepare_cached(sql)?.execute(params![id, key.kind, tenant(key), key.name]).map(drop)
}

fn disown(transaction: &Transaction<'_>, id: i64, key: &Key) -> rusqlite::Result<()> {
    for table in ["owned", "sent"] {
        let sql = format!("DELETE FROM {table} WHERE project = ? AND kind = ? AND tenant = ? AND name = ?");
        transaction.prepare_cached(&sql)?.execute(params![id, key.kind, tenant(key), key.name])?;
    }
    Ok(())
}

fn rename(transaction: &Transaction<'_>, id: i64, old: &str, new: &Key) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO renamed (project, kind, tenant, old, new) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![id, new.kind, tenant(new), old, new.name])?;
    for table in ["owned", "sent"] {
        let sql = format!(
            "UPDATE OR REPLACE {table} SET name = ? WHERE project = ? AND kind = ? AND tenant = ? AND name = ?"
        );
        transaction.prepare_cached(&sql)?.execute(params![new.name, id, new.kind, tenant(new), old])?;
    }
    Ok(())
}

/// False where the call was settled before.
fn settle(
    transaction: &Transaction<'_>,
    project: i64,
    id: IntentId,
    settled: Settled,
    now: SystemTime,
) -> rusqlite::Result<bool> {
    let mut statement = transaction.prepare_cached("DELETE FROM intent WHERE id = ? AND project = ? RETURNING *")?;
    let intent = statement.query_row(params![id.0, project], open_intent).optional()?;
    let is_news = intent.is_some();
    if let (Some(OpenIntent { intent, begun_at, .. }), Settled::Done) = (intent.flatten(), settled) {
        follow(transaction, project, &intent, begun_at, now)?;
    }
    Ok(is_news)
}

/// Does the inventory have this resource as created since then?
fn was_created(
    transaction: &Transaction<'_>,
    id: i64,
    intent: &Intent,
    begun_at: SystemTime,
) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM owned WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND created_at >= ?";
    let key = &intent.key;
    transaction.prepare_cached(sql)?.exists(params![id, key.kind, tenant(key), key.name, to_millis(begun_at)])
}

/// What a call that took effect means for the inventory.
fn follow(
    transaction: &Transaction<'_>,
    id: i64,
    intent: &Intent,
    begun_at: SystemTime,
    now: SystemTime,
) -> rusqlite::Result<()> {
    match (intent.action, &intent.from) {
        // Noted already, with more than is known here.
        (Action::Create, _) if was_created(transaction, id, intent, begun_at)? => Ok(()),
        (Action::Create, _) => {
            // What was declared about it meanwhile stays.
            let sql = "INSERT INTO owned (project, kind, tenant, name, created_at, protected, cascade_delete)
                       VALUES (?, ?, ?, ?, ?, 0, 0) ON CONFLICT DO UPDATE SET created_at = excluded.created_at";
            let key = &intent.key;
            transaction.prepare_cached(sql)?.execute(params![id, key.kind, tenant(key), key.name, to_millis(now)])?;
            forget_sent(transaction, id, key)
        }
        (Action::Delete, _) => disown(transaction, id, &intent.key),
        (Action::Rename, Some(from)) => rename(transaction, id, from, &intent.key),
        (Action::Rename, None) | (Action::Update, _) => Ok(()),
    }
}

/// `None` for a row that this release does not understand.
fn open_intent(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<OpenIntent>> {
    let word: String = row.get("action")?;
    let actions = [Action::Create, Action::Update, Action::Rename, Action::Delete];
    let Some(action) = actions.into_iter().find(|action| action.as_str() == word) else { return Ok(None) };
    let Some(key) = key(row)? else { return Ok(None) };
    Ok(Some(OpenIntent {
        id: IntentId(row.get("id")?),
        intent: Intent { key, action, from: row.get("from_name")?, digest: row.get("digest")? },
        begun_at: from_millis(row.get("begun_at")?),
    }))
}

/// `None` for a kind that this release does not know: its rows wait for one that does.
pub(super) fn key(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Key>> {
    let kind = row.get_ref("kind")?.as_str()?;
    let Some(kind) = resource::kind(kind) else { return Ok(None) };
    let tenant = row.get_ref("tenant")?.as_str()?;
    let name = row.get_ref("name")?.as_str()?;
    Ok(Some(Key {
        kind: kind.name(),
        tenant: if tenant.is_empty() { None } else { Some(tenant.into()) },
        name: name.into(),
    }))
}

pub(super) fn tenant(key: &Key) -> &str {
    key.tenant.as_deref().unwrap_or_default()
}

pub(super) fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
