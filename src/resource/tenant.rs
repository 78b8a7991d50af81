//! `tenants`: the customers of the project's owner, and the roles their users start with.

use super::Document;
use super::Key;
use super::fold;
use super::kind::Kind;
use super::kind::single;
use super::kind::unsendable;
use super::kind::with;
use super::password_settings;
use super::risk::Risk;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::InTenant;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Spec;
use super::spec::Verbs;
use super::twins;
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
use serde_json::Value;

mod answer;
mod passwords;
mod settings;
mod sso;

pub use sso::BROUGHT_BY;

/// As it stands in the state.
const DEFAULT_ROLES: &str = "defaultRoles";

/// As it stands in the state, and in the YAML.
const ENFORCED: &str = "enforceSSO";

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
                Field::domains("selfProvisioningDomains").exclusive().risks(&[Risk::WeakerWildcard]),
                Field::attributes("customAttributes", "tenantAttributes"),
                Field::set("enforceSSOExclusions").risks(&[Risk::WeakerMore]),
                Field::references("federatedAppIds", "ssoApplications", InTenant::No).maybe_returned(),
                Field::flag("disabled").risks(&[Risk::LocksOn]),
                Field::one_of("roleInheritance", &["", "none", "userOnly"]),
                Field::reference("parent", "tenants").at_creation(),
                Field::set("successors").computed(),
                Field::integer("createdTime", 0, i64::MAX).computed(),
                // The calls of the settings and of SSO own these two.
                Field::text("authType").computed().tells_of(sso::NAME),
                Field::domains("domains").computed().exclusive(),
            ],
        },
        settings::PART,
        // The calls of roles must come first.
        Part {
            name: DEFAULT_ROLES,
            read: Read::List,
            how: How::Overwrite,
            fields: &[Field::references("defaultRoles", "roles", InTenant::Own).maybe_returned()],
        },
        passwords::PART,
        sso::PART,
        // Whom it sends to SSO needs a configuration there, and there is none before the tenant is.
        Part {
            name: ENFORCED,
            read: Read::List,
            how: How::Patch,
            fields: &[Field::flag(ENFORCED)
                .risks(&[Risk::WeakerOff, Risk::LocksOnWithout("authType")])
                .relies(true, sso::BROUGHT_BY)],
        },
    ],
    verbs: Verbs { cascade: true, ..Verbs::ALL },
    check,
    complete,
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
        Call::list(route!(GET "/v1/mgmt/tenant/all"), "tenants", "id")
    }

    async fn send(
        &self,
        client: &Client,
        part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let id = Name::new(&item.key.name)?;
        if let (sso::NAME, Write::Overwrite { body, .. }) = (part.name, item.write) {
            let calls = sso::calls(id, body, item.live, item.changed);
            if calls.is_empty() {
                // What sends nothing is never done.
                return Err(unsendable(item));
            }
            for call in calls {
                client.write(&call).await?;
            }
            return Ok(Vec::new());
        }
        let with_id = |body: &Document| with(body, "id", id.as_str());
        let call = match (part.name, item.write) {
            (MAIN, Write::Create(body)) => Call::create(route!(POST "/v1/mgmt/tenant/create"), with_id(body)),
            (MAIN | ENFORCED, Write::Patch(body)) => Call::update(route!(PATCH "/v1/mgmt/tenant/patch"), with_id(body)),
            (MAIN, Write::Overwrite { body, .. }) => Call::update(route!(POST "/v1/mgmt/tenant/update"), with_id(body)),
            (MAIN, Write::Delete { cascade }) => {
                Call::delete(deletion!(POST "/v1/mgmt/tenant/delete"), "id", id).with("cascade", *cascade)
            }
            (DEFAULT_ROLES, Write::Overwrite { body, .. }) => {
                Call::update(route!(POST "/v1/mgmt/tenant/updateDefaultRoles"), with_id(body))
            }
            (settings::NAME, Write::Overwrite { body, .. }) => settings::write(id, body),
            (passwords::NAME, Write::Overwrite { body, .. }) => passwords::write(id, body),
            _ => return Err(unsendable(item)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }

    async fn read(
        &self,
        client: &Client,
        part: &'static Part,
        key: &Key,
        _id: Option<&str>,
    ) -> Result<Option<Document>, Error> {
        let id = Name::new(&key.name)?;
        match part.name {
            settings::NAME => settings::read(client, id).await.map(Some),
            passwords::NAME => passwords::read(client, id).await.map(Some),
            sso::NAME => sso::read(client, id).await.map(Some),
            _ => Ok(None),
        }
    }

    fn calls(&self, part: &Part, write: &Write, live: Option<&Document>, changed: &[String]) -> usize {
        match (part.name, write, Name::new("-")) {
            (sso::NAME, Write::Overwrite { body, .. }, Ok(any)) => sso::calls(any, body, live, changed).len(),
            _ => 1,
        }
    }
}

fn check(declared: &Document) -> Vec<(&'static str, String)> {
    let object = |name: &str| declared.get(name).and_then(Value::as_object);
    let mut found = Vec::new();
    if let Some(settings) = object(settings::NAME) {
        found.extend(settings::check(settings).into_iter().map(|message| (settings::NAME, message)));
    }
    if let Some(rules) = object(passwords::NAME) {
        let wrong = password_settings::check(rules).into_iter();
        found.extend(wrong.map(|(field, message)| (passwords::NAME, format!("{field} {message}"))));
    }
    found.extend(sso::check(declared).into_iter().map(|message| (sso::NAME, message)));
    found.extend(torn(declared).map(|message| (settings::NAME, message)));
    found
}

/// What another call of the tenant writes as well, with the place in the settings first.
const TWINS: [(&str, &str); 3] = [
    ("selfProvisioningDomains", "selfProvisioningDomains"),
    ("domains", "sso[].domains"),
    ("authType", "sso[].authType"),
];

fn complete(declared: &mut Document) {
    sso::complete(declared);
    if !declared.get(settings::NAME).and_then(Value::as_object).is_some_and(is_cleared) {
        return;
    }
    // `null` for all of them is no word on what is said elsewhere.
    let said = TWINS.map(|(field, path)| (field, twins::at(declared, path).is_some_and(|value| !fold::is_zero(value))));
    if let Some(Value::Object(settings)) = declared.get_mut(settings::NAME) {
        said.iter().filter(|(_, is_said)| *is_said).for_each(|(field, _)| drop(settings.remove(*field)));
    }
}

/// Do the files say `null` for all of them?
fn is_cleared(settings: &Document) -> bool {
    settings.len() > TWINS.len() && settings.values().all(is_nothing)
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(|inside| inside.values().all(is_nothing))
}

/// What two calls write has to be one value.
fn torn(declared: &Document) -> Option<String> {
    let settings = declared.get(settings::NAME)?.as_object().filter(|settings| !is_cleared(settings))?;
    let is_torn = |field: &str, path: &str| {
        let other = twins::at(declared, path);
        settings.get(field).zip(other).is_some_and(|(one, other)| one != other)
    };
    let (field, path) = TWINS.into_iter().find(|(field, path)| is_torn(field, path))?;
    Some(format!(
        "{field} differs from `{path}` of the same tenant, and both write one value; write it once, or the same"
    ))
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
        let key = Key::new("tenants", "sub");

        assert_eq!(Tenants.references(&key, &tenant, Some(MAIN)), [Key::new("tenants", "acme")]);
        assert_eq!(
            Tenants.references(&key, &tenant, Some(DEFAULT_ROLES)),
            [Key::new("roles", "Member"), Key::in_tenant("roles", "sub", "Member")]
        );
    }

    /// `null` for all settings is no word on what another call of the tenant writes.
    #[test]
    fn settings_that_are_cleared_leave_alone_what_is_said_elsewhere() {
        let tenant = |settings: Value| {
            let Value::Object(mut tenant) = json!({
                "id": "acme", "selfProvisioningDomains": ["a.example"], "settings": settings,
            }) else {
                panic!("an object");
            };
            let is_torn = torn(&tenant).is_some();
            complete(&mut tenant);
            (is_torn, tenant["settings"].as_object().unwrap().contains_key("selfProvisioningDomains"))
        };
        let cleared = json!({ "selfProvisioningDomains": null, "domains": null, "authType": null, "enabled": null });
        let mut other = cleared.clone();
        other["enabled"] = json!(true);

        assert_eq!(tenant(cleared), (false, false));
        assert_eq!(tenant(other), (true, true), "that is said twice");
    }

    #[test]
    fn a_tenant_without_a_parent_refers_to_nothing() {
        let Value::Object(tenant) = json!({ "id": "acme", "parent": "" }) else { panic!("an object") };

        assert!(Tenants.references(&Key::new("tenants", "acme"), &tenant, Some(MAIN)).is_empty());
    }
}
