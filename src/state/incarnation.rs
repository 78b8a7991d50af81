//! Which of those that bore its name a resource is. A fingerprint of what was sent to one says nothing of the next.

use super::Digest;
use super::Error;
use super::project::ProjectState;
use super::project::forget_sent;
use super::project::key;
use super::project::reset_sent;
use super::project::set_seen;
use super::project::tenant;
use super::sql::Value;
use super::sql::values;
use crate::resource::Document;
use crate::resource::Key;
use std::collections::HashMap;

/// A big document as a look showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// Whose.
    pub key: Key,
    /// The field that holds it.
    pub field: &'static str,
    /// Fingerprint of what is declared, and was sent or found.
    pub sent: Digest,
    /// Fingerprint of what Descope made of it.
    pub seen: Digest,
}

/// What tells a resource from another one of its name ([`Kind::incarnation`]), packed: each of a large project has one.
///
/// [`Kind::incarnation`]: crate::resource::Kind::incarnation
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incarnation(Box<[u8]>);

impl Incarnation {
    /// Packs it.
    pub fn of(document: &Document) -> Self {
        Self(serde_json::to_vec(document).unwrap_or_default().into())
    }

    /// Unpacks it. A damaged one is as good as none.
    pub fn read(&self) -> Document {
        serde_json::from_slice(&self.0).unwrap_or_default()
    }
}

/// What a look says of fingerprints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlived {
    /// What is seen of resources by now.
    pub seen: Vec<(Key, Incarnation)>,
    /// Of those, made anew since their fingerprints were noted.
    pub anew: Vec<Key>,
    /// Fields that are declared no more, nested ones by their path.
    pub left: Vec<(Key, String)>,
    /// Big documents that were read for the first time since they were written, or are as they are declared.
    pub read_back: Vec<ReadBack>,
}

impl ProjectState {
    /// As last seen, of every owned resource with fingerprints; empty where it was not seen since.
    pub fn incarnations(&self) -> Result<HashMap<Key, Incarnation>, Error> {
        let sql = "SELECT kind, tenant, name, incarnation FROM owned WHERE project = ?1 AND EXISTS (
                   SELECT 1 FROM sent WHERE sent.project = ?1 AND sent.kind = owned.kind AND sent.tenant = owned.tenant
                   AND sent.name = owned.name)";
        self.read(|connection, id| {
            let mut seen = HashMap::new();
            connection.rows::<(), ()>(sql, &values![id], |row| {
                let one = row.bytes("incarnation")?.map(|bytes| Incarnation(bytes.into())).unwrap_or_default();
                seen.extend(key(row)?.map(|key| (key, one)));
                Ok(())
            })?;
            Ok(seen)
        })
    }

    /// Forgets fingerprints that outlived what they speak of, and notes what is there by now.
    pub fn outlive(&self, outlived: &Outlived) -> Result<(), Error> {
        if *outlived == Outlived::default() {
            return Ok(());
        }
        let sql = "UPDATE owned SET incarnation = ? WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
        self.write(|transaction, id| {
            for key in &outlived.anew {
                forget_sent(transaction, id, key)?;
            }
            reset_sent(transaction, id, &outlived.left)?;
            set_seen(transaction, id, &outlived.read_back)?;
            transaction.each(
                sql,
                outlived.seen.iter().map(|(key, seen)| {
                    let bytes = Value::Blob(seen.0.to_vec().into());
                    values![bytes, id, key.kind, tenant(key), key.name]
                }),
            )
        })
    }
}
