//! Kinds for tests of this module: shaped like the real ones, without their calls.

use crate::descope::Client;
use crate::descope::Error;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::Rule;
use crate::resource::Shape;
use crate::resource::Write;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;

/// The kinds of the tests, in the order of creation.
pub const KINDS: &[&dyn Kind] = &[&PERMISSIONS, &ROLES, &TENANTS];

const fn field(name: &'static str, shape: Shape, rule: Rule) -> Field {
    Field { name, shape, rule }
}

struct Sample {
    name: &'static str,
    fields: &'static [Field],
    renames: bool,
    cascades: bool,
}

const PERMISSIONS: Sample = Sample {
    name: "permissions",
    fields: &[field("name", Shape::Name, Rule::Identity), field("description", Shape::Text, Rule::Plain)],
    renames: true,
    cascades: false,
};

const ROLES: Sample = Sample {
    name: "roles",
    fields: &[
        field("tenantId", Shape::Text, Rule::Tenant),
        field("name", Shape::Name, Rule::Identity),
        field("description", Shape::Text, Rule::Plain),
        field("permissionNames", Shape::Set, Rule::Plain),
        field("default", Shape::Flag, Rule::Plain),
        field("private", Shape::Flag, Rule::Plain),
    ],
    renames: true,
    cascades: false,
};

const TENANTS: Sample = Sample {
    name: "tenants",
    fields: &[
        field("id", Shape::Name, Rule::Identity),
        field("name", Shape::Name, Rule::Required),
        field("selfProvisioningDomains", Shape::Set, Rule::Plain),
        field("customAttributes", Shape::Attributes, Rule::Plain),
        field("enforceSSO", Shape::Flag, Rule::Plain),
        field("federatedAppIds", Shape::Set, Rule::Unreadable),
        field("disabled", Shape::Flag, Rule::Plain),
        field("roleInheritance", Shape::OneOf(&["", "none", "userOnly"]), Rule::Plain),
        field("parent", Shape::Text, Rule::CreateOnly),
        field("defaultRoles", Shape::Set, Rule::Part(Part::DefaultRoles)),
    ],
    renames: false,
    cascades: true,
};

#[async_trait]
impl Kind for Sample {
    fn name(&self) -> &'static str {
        self.name
    }
    fn fields(&self) -> &'static [Field] {
        self.fields
    }
    fn computed(&self) -> &'static [&'static str] {
        &[]
    }
    fn has_rename(&self) -> bool {
        self.renames
    }
    fn has_cascade(&self) -> bool {
        self.cascades
    }
    fn key(&self, _live: &Document) -> Option<Key> {
        None
    }
    fn references(&self, document: &Document, part: Part) -> Vec<Key> {
        let names = |field: &str, kind: &'static str| {
            let items = document.get(field).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(|name| Key::new(kind, name)).collect::<Vec<_>>()
        };
        match part {
            Part::Main => {
                let mut keys = names("permissionNames", "permissions");
                let parent = document.get("parent").and_then(Value::as_str).filter(|parent| !parent.is_empty());
                keys.extend(parent.map(|parent| Key::new("tenants", parent)));
                keys
            }
            Part::DefaultRoles => names("defaultRoles", "roles"),
        }
    }
    fn batch_size(&self, _write: &Write) -> usize {
        1
    }
    async fn list(&self, _client: &Client) -> Result<Vec<Document>, Error> {
        Ok(Vec::new())
    }
    async fn send(&self, _client: &Client, _writes: &NonEmpty<(&Key, &Write)>) -> Result<(), Error> {
        Ok(())
    }
}
