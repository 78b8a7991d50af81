//! The ids that Descope gave to what we own. They live here and not in the files: a name leads to one of them, and of two
//! that bear it, the id tells which is ours.

use super::Error;
use super::project::ProjectState;
use super::project::key;
use super::project::tenant;
use super::sql;
use super::sql::Tx;
use super::sql::values;
use crate::resource;
use crate::resource::Key;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

impl ProjectState {
    /// Of everything owned of which it is known.
    pub fn server_ids(&self) -> Result<HashMap<Key, Arc<str>>, Error> {
        let sql = "SELECT kind, tenant, name, server_id FROM owned WHERE project = ? AND server_id IS NOT NULL";
        self.read(|connection, id| {
            let rows: Vec<_> = connection.rows(sql, &values![id], |row| Ok(key(row)?.zip(row.text("server_id")?)))?;
            Ok(rows.into_iter().flatten().map(|(key, id)| (key, Arc::from(id))).collect())
        })
    }

    /// Of this one.
    pub fn server_id(&self, key: &Key) -> Result<Option<Arc<str>>, Error> {
        let sql = "SELECT server_id FROM owned WHERE project = ? AND kind = ? AND tenant = ? AND name = ?
                   AND server_id IS NOT NULL";
        self.read(|connection, id| {
            let row = values![id, key.kind, tenant(key), key.name];
            Ok(connection.first(sql, &row, |row| row.text("server_id"))?.flatten().map(Arc::from))
        })
    }

    /// Notes what a look showed of what is owned.
    pub fn note_ids<'a>(&self, ids: impl IntoIterator<Item = (&'a Key, &'a Arc<str>)>) -> Result<(), Error> {
        let sql = "UPDATE owned SET server_id = ? WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
        self.write(|transaction, project| {
            transaction
                .each(sql, ids.into_iter().map(|(key, id)| values![id, project, key.kind, tenant(key), key.name]))
        })
    }
}

/// The ids of what was made just now: whatever bears the name with another one is not it.
pub(super) fn note_new(transaction: &Tx<'_>, project: i64, ids: &[(Key, Arc<str>)]) -> sql::Result<()> {
    let sql = "UPDATE owned SET server_id = ?, incarnation = ?
               WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
    for (key, id) in ids {
        let Some(field) = resource::kind(key.kind).and_then(|kind| kind.spec().identity.server_id) else { continue };
        let incarnation = json!({ field: **id }).to_string().into_bytes();
        transaction.execute(sql, &values![id, incarnation, project, key.kind, tenant(key), key.name])?;
    }
    Ok(())
}
