//! `permissions`: what roles grant, by name.

use super::Document;
use super::Field;
use super::Key;
use super::Kind;
use super::Part;
use super::Rule;
use super::Shape;
use super::Write;
use super::each;
use super::overwriting;
use super::unsendable;
use super::with;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;

const FIELDS: &[Field] = &[
    Field { name: "name", shape: Shape::Name, rule: Rule::Identity },
    Field { name: "description", shape: Shape::Text, rule: Rule::Plain },
];

/// No source tells how many the API takes; a batch is one transaction, so it stays small enough to be split.
const BATCH: usize = 100;

/// The kind.
#[derive(Debug)]
pub struct Permissions;

#[async_trait]
impl Kind for Permissions {
    fn name(&self) -> &'static str {
        "permissions"
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn computed(&self) -> &'static [&'static str] {
        &["id", "systemDefault"]
    }

    fn has_rename(&self) -> bool {
        true
    }

    fn is_builtin(&self, live: &Document, _builtin_roles: &[String]) -> bool {
        live.get("systemDefault") == Some(&Value::Bool(true))
    }

    fn key(&self, live: &Document) -> Option<Key> {
        let name = live.get("name")?.as_str().filter(|name| !name.is_empty())?;
        Some(Key::new(self.name(), name))
    }

    fn references(&self, _document: &Document, _part: Part) -> Vec<Key> {
        Vec::new()
    }

    fn batch_size(&self, write: &Write) -> usize {
        match write {
            Write::Create(_) | Write::Overwrite { .. } | Write::Delete { .. } => BATCH,
            Write::Patch(_) | Write::DefaultRoles(_) => 1,
        }
    }

    async fn list(&self, client: &Client) -> Result<Vec<Document>, Error> {
        client.list(&Call::list_permissions()).await
    }

    async fn send(&self, client: &Client, writes: &NonEmpty<(&Key, &Write)>) -> Result<(), Error> {
        let call = match writes.head.1 {
            Write::Create(_) => Call::create_permissions(&each(writes, |key, write| {
                let Write::Create(body) = write else { return Err(unsendable(key, write)) };
                Ok(with(body, "name", &key.name))
            })?),
            Write::Overwrite { .. } => Call::update_permissions(&each(writes, overwriting)?),
            Write::Delete { .. } => Call::delete_permissions(&each(writes, |key, write| {
                let Write::Delete { .. } = write else { return Err(unsendable(key, write)) };
                Name::new(&key.name)
            })?),
            write @ (Write::Patch(_) | Write::DefaultRoles(_)) => return Err(unsendable(writes.head.0, write)),
        };
        client.write(&call).await.map(drop)
    }
}
