//! `tenants`: the customers of the project's owner, and the roles their users start with.

use super::Document;
use super::Field;
use super::Key;
use super::Kind;
use super::Part;
use super::Rule;
use super::Shape;
use super::Write;
use super::strings;
use super::unsendable;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;

const FIELDS: &[Field] = &[
    Field { name: "id", shape: Shape::Name, rule: Rule::Identity },
    Field { name: "name", shape: Shape::Name, rule: Rule::Required },
    Field { name: "selfProvisioningDomains", shape: Shape::Set, rule: Rule::Plain },
    Field { name: "customAttributes", shape: Shape::Attributes, rule: Rule::Plain },
    Field { name: "enforceSSO", shape: Shape::Flag, rule: Rule::Plain },
    Field { name: "enforceSSOExclusions", shape: Shape::Set, rule: Rule::Plain },
    Field { name: "federatedAppIds", shape: Shape::Set, rule: Rule::Unreadable },
    Field { name: "disabled", shape: Shape::Flag, rule: Rule::Plain },
    Field { name: "roleInheritance", shape: Shape::OneOf(&["", "none", "userOnly"]), rule: Rule::Plain },
    Field { name: "parent", shape: Shape::Text, rule: Rule::CreateOnly },
    Field { name: "defaultRoles", shape: Shape::Set, rule: Rule::Part(Part::DefaultRoles) },
];

/// The kind.
#[derive(Debug)]
pub struct Tenants;

#[async_trait]
impl Kind for Tenants {
    fn name(&self) -> &'static str {
        "tenants"
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    /// `authType` and `domains` belong to the settings and SSO calls, `defaultRoles` to its own, and `parent` to the
    /// create call alone.
    fn computed(&self) -> &'static [&'static str] {
        &["createdTime", "authType", "domains", "defaultRoles", "parent"]
    }

    fn has_patch(&self) -> bool {
        true
    }

    fn has_cascade(&self) -> bool {
        true
    }

    fn key(&self, live: &Document) -> Option<Key> {
        let id = live.get("id")?.as_str().filter(|id| !id.is_empty())?;
        Some(Key::new(self.name(), id))
    }

    fn references(&self, document: &Document, part: Part) -> Vec<Key> {
        let text = |field| document.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        match part {
            Part::Main => text("parent").map(|parent| Key::new(self.name(), parent)).into_iter().collect(),
            Part::DefaultRoles => {
                let of_project = strings(document, "defaultRoles").map(|role| Key::new("roles", role));
                let own = text("id").into_iter().flat_map(|tenant| {
                    strings(document, "defaultRoles").map(move |role| Key::in_tenant("roles", tenant, role))
                });
                of_project.chain(own).collect()
            }
        }
    }

    fn batch_size(&self, _write: &Write) -> usize {
        1
    }

    async fn list(&self, client: &Client) -> Result<Vec<Document>, Error> {
        client.list(&Call::list_tenants()).await
    }

    async fn send(&self, client: &Client, writes: &NonEmpty<(&Key, &Write)>) -> Result<(), Error> {
        let (key, write) = writes.head;
        if let Some((key, write)) = writes.tail().first() {
            return Err(unsendable(key, write));
        }
        let id = Name::new(&key.name)?;
        let call = match write {
            Write::Create(body) => Call::create_tenant(id, body),
            Write::Patch(body) => Call::patch_tenant(id, body),
            Write::Overwrite { body, .. } => Call::update_tenant(id, body),
            Write::DefaultRoles(roles) => Call::set_default_roles(id, roles),
            Write::Delete { cascade } => Call::delete_tenant(id, *cascade),
        };
        client.write(&call).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_part_refers_to_what_it_needs() {
        let Value::Object(tenant) = json!({ "id": "sub", "parent": "acme", "defaultRoles": ["Member"] }) else {
            panic!("an object");
        };

        assert_eq!(Tenants.references(&tenant, Part::Main), [Key::new("tenants", "acme")]);
        assert_eq!(
            Tenants.references(&tenant, Part::DefaultRoles),
            [Key::new("roles", "Member"), Key::in_tenant("roles", "sub", "Member")]
        );
    }

    #[test]
    fn a_tenant_without_a_parent_refers_to_nothing() {
        let Value::Object(tenant) = json!({ "id": "acme", "parent": "" }) else { panic!("an object") };

        assert!(Tenants.references(&tenant, Part::Main).is_empty());
    }
}
