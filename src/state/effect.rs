//! What was written and answered, until a look shows it: so that a write which Descope answers without keeping what it
//! carries is not sent for ever.

use super::Digest;
use super::Error;
use super::Settled;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::key;
use super::project::number;
use super::project::tenant;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::values;
use crate::resource::Action;
use crate::resource::Key;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The path of a delete: none of a field.
pub const DELETED: &str = "";

/// One field of a write that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The resource.
    pub key: Key,
    /// The field.
    pub path: String,
    /// Fingerprint of what was sent.
    pub sent: Digest,
    /// Fingerprint of what was there before.
    pub before: Digest,
}

/// What is known of the writes of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Fingerprint of what was sent last.
    pub sent: Digest,
    /// Fingerprint of what was there before that.
    pub before: Digest,
    /// How often this was sent and answered, with no look in between that showed it.
    pub times: u32,
}

impl ProjectState {
    /// What no look has shown yet of the last write of this field.
    pub fn effect(&self, key: &Key, path: &str) -> Result<Option<Effect>, Error> {
        let sql = "SELECT sent, before, times FROM written
                   WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND path = ?";
        self.read(|connection, id| {
            let row = values![id, key.kind, tenant(key), key.name, path];
            Ok(connection.first(sql, &row, effect)?.flatten())
        })
    }

    /// Deletes that were answered, and that no look has shown yet.
    pub fn deletes_in_doubt(&self) -> Result<BTreeMap<Key, Effect>, Error> {
        let sql = "SELECT kind, tenant, name, sent, before, times FROM written WHERE project = ? AND path = ?";
        self.read(|connection, id| {
            let rows: Vec<_> = connection.rows(sql, &values![id, DELETED], |row| Ok(key(row)?.zip(effect(row)?)))?;
            Ok(rows.into_iter().flatten().collect())
        })
    }

    /// When a delete of this resource was answered last, as far as the audit trail tells.
    pub fn deleted_at(&self, key: &Key) -> Result<Option<SystemTime>, Error> {
        let sql =
            "SELECT max(at) AS at FROM audit WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND action = ?
                   AND outcome = ?";
        self.read(|connection, id| {
            let (action, outcome) = (Action::Delete.as_str(), Settled::Done.outcome());
            let row = values![id, key.kind, tenant(key), key.name, action, outcome];
            Ok(connection.first(sql, &row, |row| row.optional("at"))?.flatten().map(from_millis))
        })
    }

    /// Forgets the writes of all resources that a look showed as they were sent; `open` are the others.
    pub fn keep_effects(&self, open: impl Fn(&Key) -> bool) -> Result<(), Error> {
        self.forget_but("written", open)
    }
}

/// A damaged row says nothing.
fn effect(row: &Row<'_>) -> sql::Result<Option<Effect>> {
    let times = number(row, "times")?;
    let digests = row.digest("sent")?.zip(row.digest("before")?);
    Ok(digests.map(|(sent, before)| Effect { sent, before, times }))
}

/// Notes writes that were answered. Those that were sent before, as often as now, count. True where there is one.
pub(super) fn note(transaction: &Tx<'_>, id: i64, written: &[Written]) -> sql::Result<bool> {
    let sql = "INSERT INTO written (project, kind, tenant, name, path, sent, before, times)
               VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (project, kind, tenant, name, path) DO UPDATE SET
                   times = CASE WHEN written.sent = excluded.sent THEN written.times + 1 ELSE 1 END,
                   sent = excluded.sent, before = excluded.before RETURNING times";
    let mut is_repeated = false;
    for Written { key, path, sent, before } in written {
        let row = values![id, key.kind, tenant(key), key.name, path, sent, before];
        is_repeated |= transaction.first(sql, &row, |row| number::<u32>(row, "times"))?.is_some_and(|times| times > 1);
    }
    Ok(is_repeated)
}
