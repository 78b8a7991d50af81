//! `roles`: of the project, or of one tenant.

use super::Document;
use super::Key;
use super::kind::Kind;
use super::kind::creating;
use super::kind::each;
use super::kind::overwriting;
use super::kind::unsendable;
use super::spec::Builtin;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::InTenant;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Spec;
use super::spec::Verbs;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;

static SPEC: Spec = Spec {
    name: "roles",
    identity: Identity::many("name").in_tenant("tenantId"),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[
            Field::name("name").at_most(100),
            Field::name("tenantId"),
            Field::text("description").at_most(1024),
            Field::references("permissionNames", "permissions", InTenant::No),
            Field::flag("default"),
            Field::flag("private"),
            Field::text("id").computed(),
            Field::integer("createdTime", 0, i64::MAX).computed(),
        ],
    }],
    // No source tells how many the API takes; a batch is one transaction, so it stays small enough to be split.
    verbs: Verbs { rename: true, batch: 100, ..Verbs::ALL },
    builtin: Builtin::Named,
    foreign: Some("appId"),
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct Roles;

#[async_trait]
impl Kind for Roles {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list_in_tenants(route!(GET "/v1/mgmt/role/all"), "roles", "name", "tenantId")
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let Item { key: head, write, .. } = items.head;
        let call = match write {
            Write::Create(_) => {
                let bodies = each(items, |item| Ok(in_tenant(item.key, creating(item)?)))?;
                let (one, many) = (route!(POST "/v1/mgmt/role/create"), route!(POST "/v1/mgmt/role/create/batch"));
                Call::create_all(one, many, "roles", &bodies)
            }
            Write::Overwrite { .. } => {
                let bodies = each(items, |item| Ok(in_tenant(item.key, overwriting(item)?)))?;
                let (one, many) = (route!(POST "/v1/mgmt/role/update"), route!(POST "/v1/mgmt/role/update/batch"));
                Call::update_all(one, many, "roles", &bodies)
            }
            Write::Delete { .. } => {
                // One call for each tenant.
                let names = each(items, |item| match item.write {
                    Write::Delete { .. } if item.key.tenant == head.tenant => Name::new(&item.key.name),
                    Write::Delete { .. } | Write::Create(_) | Write::Overwrite { .. } | Write::Patch(_) => {
                        Err(unsendable(item))
                    }
                })?;
                let (one, many) =
                    (deletion!(POST "/v1/mgmt/role/delete"), deletion!(POST "/v1/mgmt/role/delete/batch"));
                let call = Call::delete_all(one, many, "roleNames", &names);
                match head.tenant.as_deref() {
                    Some(tenant) => call.with("tenantId", Name::new(tenant)?.as_str()),
                    None => call,
                }
            }
            Write::Patch(_) => return Err(unsendable(&items.head)),
        };
        client.write(&call).await.map(|_| Vec::new())
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
    use serde_json::Value;
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

        let found = Roles.references(&Key::in_tenant("roles", "t", "a"), &role, Some(MAIN));

        let expected = [Key::new("permissions", "p"), Key::new("permissions", "q"), Key::new("tenants", "t")];
        assert_eq!(found, expected);
    }
}
