//! `roles`: of the project, or of one tenant.

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
use super::strings;
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
    Field { name: "tenantId", shape: Shape::Name, rule: Rule::Tenant },
    Field { name: "description", shape: Shape::Text, rule: Rule::Plain },
    Field { name: "permissionNames", shape: Shape::Set, rule: Rule::Plain },
    Field { name: "default", shape: Shape::Flag, rule: Rule::Plain },
    Field { name: "private", shape: Shape::Flag, rule: Rule::Plain },
];

/// No source tells how many the API takes; a batch is one transaction, so it stays small enough to be split.
const BATCH: usize = 100;

/// The kind.
#[derive(Debug)]
pub struct Roles;

#[async_trait]
impl Kind for Roles {
    fn name(&self) -> &'static str {
        "roles"
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn computed(&self) -> &'static [&'static str] {
        &["id", "createdTime"]
    }

    fn has_rename(&self) -> bool {
        true
    }

    /// The API marks none, so they are known by name; a tenant's own role is never one.
    fn is_builtin(&self, live: &Document, builtin_roles: &[String]) -> bool {
        self.key(live).is_some_and(|key| key.tenant.is_none() && builtin_roles.iter().any(|name| **name == *key.name))
    }

    fn key(&self, live: &Document) -> Option<Key> {
        let name = live.get("name")?.as_str().filter(|name| !name.is_empty())?;
        match live.get("tenantId") {
            None | Some(Value::Null) => Some(Key::new(self.name(), name)),
            Some(Value::String(tenant)) if tenant.is_empty() => Some(Key::new(self.name(), name)),
            Some(Value::String(tenant)) => Some(Key::in_tenant(self.name(), tenant, name)),
            // Taken for a project role, the wrong one would be changed.
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => None,
        }
    }

    fn references(&self, document: &Document, part: Part) -> Vec<Key> {
        match part {
            Part::Main => {
                let tenant = document.get("tenantId").and_then(Value::as_str).filter(|tenant| !tenant.is_empty());
                let permissions = strings(document, "permissionNames").map(|name| Key::new("permissions", name));
                permissions.chain(tenant.map(|tenant| Key::new("tenants", tenant))).collect()
            }
            Part::DefaultRoles => Vec::new(),
        }
    }

    fn batch_size(&self, write: &Write) -> usize {
        match write {
            Write::Create(_) | Write::Overwrite { .. } | Write::Delete { .. } => BATCH,
            Write::Patch(_) | Write::DefaultRoles(_) => 1,
        }
    }

    async fn list(&self, client: &Client) -> Result<Vec<Document>, Error> {
        client.list(&Call::list_roles()).await
    }

    async fn send(&self, client: &Client, writes: &NonEmpty<(&Key, &Write)>) -> Result<(), Error> {
        let (head, write) = writes.head;
        let call = match write {
            Write::Create(_) => Call::create_roles(&each(writes, |key, write| {
                let Write::Create(body) = write else { return Err(unsendable(key, write)) };
                Ok(in_tenant(key, with(body, "name", &key.name)))
            })?),
            Write::Overwrite { .. } => {
                Call::update_roles(&each(writes, |key, write| Ok(in_tenant(key, overwriting(key, write)?)))?)
            }
            Write::Delete { .. } => {
                let names = each(writes, |key, write| match write {
                    Write::Delete { .. } if key.tenant == head.tenant => Name::new(&key.name),
                    Write::Delete { .. }
                    | Write::Create(_)
                    | Write::Overwrite { .. }
                    | Write::Patch(_)
                    | Write::DefaultRoles(_) => Err(unsendable(key, write)),
                })?;
                Call::delete_roles(head.tenant.as_deref().map(Name::new).transpose()?, &names)
            }
            Write::Patch(_) | Write::DefaultRoles(_) => return Err(unsendable(head, write)),
        };
        client.write(&call).await.map(drop)
    }
}

/// A role is addressed by name and tenant, whatever the document says.
fn in_tenant(key: &Key, mut body: Document) -> Document {
    body.remove("tenantId");
    body.extend(key.tenant.as_deref().map(|tenant| ("tenantId".to_owned(), tenant.into())));
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(value: Value) -> Document {
        let Value::Object(document) = value else { panic!("not an object: {value}") };
        document
    }

    #[test]
    fn the_key_holds_the_tenant_and_unreadable_ones_have_none() {
        let key = |value| Roles.key(&document(value));

        assert_eq!(key(json!({ "name": "a" })), Some(Key::new("roles", "a")));
        assert_eq!(key(json!({ "name": "a", "tenantId": "" })), Some(Key::new("roles", "a")));
        assert_eq!(key(json!({ "name": "a", "tenantId": null })), Some(Key::new("roles", "a")));
        assert_eq!(key(json!({ "name": "a", "tenantId": "t" })), Some(Key::in_tenant("roles", "t", "a")));
        assert_eq!(key(json!({ "name": "a", "tenantId": 7 })), None);
        assert_eq!(key(json!({ "name": "" })), None);
        assert_eq!(key(json!({})), None);
    }

    #[test]
    fn a_builtin_role_is_known_by_name_and_never_a_tenants_own() {
        let builtin = ["Tenant Admin".to_owned()];

        assert!(Roles.is_builtin(&document(json!({ "name": "Tenant Admin", "tenantId": "" })), &builtin));
        assert!(!Roles.is_builtin(&document(json!({ "name": "Tenant Admin", "tenantId": "t" })), &builtin));
        assert!(!Roles.is_builtin(&document(json!({ "name": "tenant admin" })), &builtin));
    }

    #[test]
    fn it_refers_to_its_permissions_and_its_tenant() {
        let role = document(json!({ "name": "a", "tenantId": "t", "permissionNames": ["p", "q"] }));

        let found = Roles.references(&role, Part::Main);

        let expected = [Key::new("permissions", "p"), Key::new("permissions", "q"), Key::new("tenants", "t")];
        assert_eq!(found, expected);
    }
}
