//! What the settings call of a tenant writes and nothing else does. Domains and authentication belong to the tenant
//! as well, and are written there.

use super::stored;
use super::stored::Key;
use super::stored::PLAIN;
use super::stored::Stored;
use super::tenants;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::read;
use crate::simulator::api::write;
use crate::simulator::entity;
use crate::simulator::entity::Content;
use crate::simulator::entity::Entity;
use crate::simulator::entity::Field;
use crate::simulator::entity::field;
use crate::simulator::fields::Document;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("tenantSettings");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, key: Key::Tenant, ..PLAIN };

const UNIT: Content = Content::OneOf(&["seconds", "minutes", "hours", "days", "weeks"]);
const FEATURES: &[Field] = &[
    field("saml", Content::Flag),
    field("oidc", Content::Flag),
    field("scim", Content::Flag),
    field("ssoDomains", Content::Flag),
    field("groupMapping", Content::Flag),
];
const SUITE: &[Field] = &[
    field("enabled", Content::Flag),
    field("styleId", Content::Text),
    field("disabledFeatures", Content::Nested(FEATURES)),
];
const FIELDS: &[Field] = &[
    field("enabled", Content::Flag),
    field("refreshTokenExpiration", Content::Number),
    field("refreshTokenExpirationUnit", UNIT),
    field("sessionTokenExpiration", Content::Number),
    field("sessionTokenExpirationUnit", UNIT),
    field("stepupTokenExpiration", Content::Number),
    field("stepupTokenExpirationUnit", UNIT),
    field("enableInactivity", Content::Flag),
    field("inactivityTime", Content::Number),
    field("inactivityTimeUnit", UNIT),
    field("JITDisabled", Content::Flag),
    // Only one of the SDKs knows it.
    field("ssoSetupSuiteSettings", Content::Nested(SUITE)).keeps(),
];

const ROUTES: &[Route] =
    &[read("GET", "/v1/mgmt/tenant/settings", get), write("POST", "/v1/mgmt/tenant/settings", set)];

fn get(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenant = tenants::late(call, call.parameter("id")?)?;
    let row = stored::single_late(call, PLACE, &tenant.id);
    let look = call.look();
    let mut answer = entity::shown(&row.fields, FIELDS, &look);
    answer.insert("authType".to_owned(), json!(tenant.auth_type()));
    answer.insert("domains".to_owned(), json!(look.mixed(tenant.domains.clone())));
    let domains = look.mixed(tenant.self_provisioning_domains.clone());
    answer.insert("selfProvisioningDomains".to_owned(), json!(domains));
    Ok(view::bytes(&answer))
}

fn set(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut tenant) = tenants::find(call.world, &fields.required("tenantId")?)?;
    tenant.self_provisioning_domains = fields.texts("selfProvisioningDomains")?.unwrap_or_default();
    tenant.domains = fields.texts("domains")?.unwrap_or_default();
    if let Some(auth) = fields.text("authType")?.filter(|auth| !auth.is_empty()) {
        tenant.auth_type = auth;
    }
    tenant.enforce_sso = fields.flag("enforceSSO")?.unwrap_or(tenant.enforce_sso);
    if let Some(exclusions) = fields.texts("enforceSSOExclusions")? {
        tenant.enforce_sso_exclusions = exclusions;
    }
    if let Some(apps) = fields.texts("federatedAppIds")? {
        tenant.federated_app_ids = apps;
    }
    let (at, mut row) = stored::single(call.world, PLACE, &tenant.id);
    entity::overwrite(&mut row.fields, FIELDS, &mut fields, call.switches)?;
    if call.switches.checks_session_tokens {
        check(&row.fields)?;
    }
    tenants::check(call, Some(number), &tenant)?;
    call.world.table_mut(tenants::SHELF).replace(number, tenant);
    call.world.table_mut(PLACE).put_row(at, row);
    Ok(Call::nothing())
}

/// A session lasts at least three minutes, and not longer than the refresh token.
fn check(settings: &Document) -> Result<(), Refusal> {
    let seconds = |name: &str| {
        let unit = match settings.get(&format!("{name}Unit")).and_then(Value::as_str) {
            Some("minutes") => 60,
            Some("hours") => 3600,
            Some("days") => 86_400,
            Some("weeks") => 604_800,
            Some(_) | None => 1,
        };
        settings.get(name).and_then(Value::as_i64).unwrap_or_default() * unit
    };
    let (session, refresh) = (seconds("sessionTokenExpiration"), seconds("refreshTokenExpiration"));
    if session != 0 && session < 180 {
        return Err(Refusal::Invalid("sessionTokenExpiration must be at least 3 minutes".to_owned()));
    }
    if refresh != 0 && session > refresh {
        return Err(Refusal::Invalid("sessionTokenExpiration must not exceed refreshTokenExpiration".to_owned()));
    }
    Ok(())
}
