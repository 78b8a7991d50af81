//! `tenants`: the customers of the project's owner, and the roles their users start with.

use super::kind::Kind;
use super::kind::single;
use super::kind::unsendable;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::InTenant;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Shape;
use super::spec::Spec;
use super::spec::Verbs;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use async_trait::async_trait;
use nonempty::NonEmpty;

/// As it stands in the state.
const DEFAULT_ROLES: &str = "defaultRoles";

static SPEC: Spec = Spec {
    name: "tenants",
    identity: Identity::many("id"),
    parts: &[
        Part {
            name: MAIN,
            read: Read::List,
            how: How::Patch,
            fields: &[
                Field::name("id"),
                Field::name("name").required().exclusive(),
                Field::domains("selfProvisioningDomains").exclusive(),
                Field::of("customAttributes", Shape::Attributes),
                Field::flag("enforceSSO"),
                Field::set("enforceSSOExclusions"),
                Field::set("federatedAppIds").maybe_returned(),
                Field::flag("disabled"),
                Field::one_of("roleInheritance", &["", "none", "userOnly"]),
                Field::reference("parent", "tenants").at_creation(),
                Field::set("successors").computed(),
                Field::integer("createdTime", 0, i64::MAX).computed(),
                // The calls of the settings and of SSO own these two.
                Field::text("authType").computed(),
                Field::set("domains").computed(),
            ],
        },
        // The calls of roles must come first.
        Part {
            name: DEFAULT_ROLES,
            read: Read::List,
            how: How::Overwrite,
            fields: &[Field::references("defaultRoles", "roles", InTenant::Own).maybe_returned()],
        },
    ],
    verbs: Verbs { cascade: true, ..Verbs::ALL },
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct Tenants;

#[async_trait]
impl Kind for Tenants {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list_tenants()
    }

    async fn send(
        &self,
        client: &Client,
        part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let id = Name::new(&item.key.name)?;
        let call = match (part.name, item.write) {
            (MAIN, Write::Create(body)) => Call::create_tenant(id, body),
            (MAIN, Write::Patch(body)) => Call::patch_tenant(id, body),
            (MAIN, Write::Overwrite { body, .. }) => Call::update_tenant(id, body),
            (MAIN, Write::Delete { cascade }) => Call::delete_tenant(id, *cascade),
            (DEFAULT_ROLES, Write::Overwrite { body, .. }) => Call::set_default_roles(id, body),
            _ => return Err(unsendable(item)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Key;
    use serde_json::Value;
    use serde_json::json;

    #[test]
    fn each_part_refers_to_what_it_needs() {
        let Value::Object(tenant) = json!({ "id": "sub", "parent": "acme", "defaultRoles": ["Member"] }) else {
            panic!("an object");
        };
        let key = Key::new("tenants", "sub");

        assert_eq!(Tenants.references(&key, &tenant, Some(MAIN)), [Key::new("tenants", "acme")]);
        assert_eq!(
            Tenants.references(&key, &tenant, Some(DEFAULT_ROLES)),
            [Key::new("roles", "Member"), Key::in_tenant("roles", "sub", "Member")]
        );
    }

    #[test]
    fn a_tenant_without_a_parent_refers_to_nothing() {
        let Value::Object(tenant) = json!({ "id": "acme", "parent": "" }) else { panic!("an object") };

        assert!(Tenants.references(&Key::new("tenants", "acme"), &tenant, Some(MAIN)).is_empty());
    }
}
