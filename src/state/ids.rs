//! The ids that Descope gave to what we own. They live here and not in the files: a name leads to one of them, and of two
//! that bear it, the id tells which is ours.

use super::Error;
use super::project::ProjectState;
use super::project::key;
use super::project::tenant;
use super::project::text;
use crate::resource;
use crate::resource::Key;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;
use rusqlite::params;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

impl ProjectState {
    /// Of everything owned of which it is known.
    pub fn server_ids(&self) -> Result<HashMap<Key, Arc<str>>, Error> {
        let sql = "SELECT kind, tenant, name, server_id FROM owned WHERE project = ? AND server_id IS NOT NULL";
        self.read(|connection, id| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([id], |row| {
                let id = text(row, "server_id")?;
                Ok(key(row)?.map(|key| (key, Arc::from(id))))
            })?;
            rows.filter_map(Result::transpose).collect()
        })
    }

    /// Of this one.
    pub fn server_id(&self, key: &Key) -> Result<Option<Arc<str>>, Error> {
        let sql = "SELECT server_id FROM owned WHERE project = ? AND kind = ? AND tenant = ? AND name = ?
                   AND server_id IS NOT NULL";
        self.read(|connection, id| {
            let row = params![id, key.kind, tenant(key), key.name];
            let found = connection.prepare_cached(sql)?.query_row(row, |row| text(row, "server_id")).optional()?;
            Ok(found.map(Arc::from))
        })
    }

    /// Notes what a look showed of what is owned.
    pub fn note_ids<'a>(&self, ids: impl IntoIterator<Item = (&'a Key, &'a Arc<str>)>) -> Result<(), Error> {
        let sql = "UPDATE owned SET server_id = ? WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
        self.write(|transaction, project| {
            let mut statement = transaction.prepare_cached(sql)?;
            ids.into_iter().try_for_each(|(key, id)| {
                statement.execute(params![id, project, key.kind, tenant(key), key.name]).map(drop)
            })
        })
    }
}

/// The ids of what was made just now: whatever bears the name with another one is not it.
pub(super) fn note_new(transaction: &Transaction<'_>, project: i64, ids: &[(Key, Arc<str>)]) -> rusqlite::Result<()> {
    let sql = "UPDATE owned SET server_id = ?, incarnation = ?
               WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
    let mut statement = transaction.prepare_cached(sql)?;
    for (key, id) in ids {
        let Some(field) = resource::kind(key.kind).and_then(|kind| kind.spec().identity.server_id) else { continue };
        let incarnation = json!({ field: **id }).to_string().into_bytes();
        statement.execute(params![id, incarnation, project, key.kind, tenant(key), key.name])?;
    }
    Ok(())
}
