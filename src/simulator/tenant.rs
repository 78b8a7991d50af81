//! The tenant calls.

use super::api::Call;
use super::fields::Document;
use super::fields::Fields;
use super::options::DeleteAbsent;
use super::options::PatchAttributes;
use super::options::PatchEmptyList;
use super::options::RenameCollision;
use super::refusal::Refusal;
use super::view;
use super::view::Depth;
use super::view::Keyed;
use super::view::View;
use super::world::Tenant;
use super::world::World;
use super::world::auth_type;
use serde_json::Value;
use serde_json::json;

/// What the settings call writes and nothing else does.
enum Setting {
    Flag(&'static str),
    Number(&'static str),
    Unit(&'static str),
}

const SETTINGS: &[Setting] = &[
    Setting::Flag("enabled"),
    Setting::Number("refreshTokenExpiration"),
    Setting::Unit("refreshTokenExpirationUnit"),
    Setting::Number("sessionTokenExpiration"),
    Setting::Unit("sessionTokenExpirationUnit"),
    Setting::Number("stepupTokenExpiration"),
    Setting::Unit("stepupTokenExpirationUnit"),
    Setting::Flag("enableInactivity"),
    Setting::Number("inactivityTime"),
    Setting::Unit("inactivityTimeUnit"),
    Setting::Flag("JITDisabled"),
];
const SUITE: &str = "ssoSetupSuiteSettings";
const UNITS: &[&str] = &["", "minutes", "hours", "days", "weeks"];

/// `tenant/all`.
pub fn all(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    call.ends()?;
    Ok(call.listed("tenants", |world| &world.tenants, |_| true))
}

/// `tenant?id=`.
pub fn load(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenant = find(call.world, call.parameter("id")?)?.1;
    Ok(view::bytes(&View { world: call.world, row: &tenant, depth: Depth::of(call.switches) }))
}

/// `tenant/search`: a tenant is found when every filter that is given fits.
pub fn search(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let ids = call.body.texts("tenantIds")?.unwrap_or_default();
    let names = call.body.texts("tenantNames")?.unwrap_or_default();
    let domains = call.body.texts("tenantSelfProvisioningDomains")?.unwrap_or_default();
    let attributes = call.body.object("customAttributes")?.unwrap_or_default();
    let auth = call.body.text("authType")?.unwrap_or_default();
    let parent = call.body.text("parentTenantId")?.unwrap_or_default();
    call.ends()?;
    let shown = |tenant: &Tenant| {
        (ids.is_empty() || ids.contains(&tenant.id))
            && (names.is_empty() || names.contains(&tenant.name))
            && (domains.is_empty() || tenant.self_provisioning_domains.iter().any(|domain| domains.contains(domain)))
            && attributes.iter().all(|(name, value)| tenant.custom_attributes.get(name) == Some(value))
            && (auth.is_empty() || auth == auth_type(tenant))
            && (parent.is_empty() || parent == tenant.parent)
    };
    Ok(call.listed("tenants", |world| &world.tenants, shown))
}

/// `tenant/create`.
pub fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let id = fields.text("id")?.unwrap_or_default();
    let parent = fields.text("parent")?.unwrap_or_default();
    let mut tenant = Tenant { id, parent, ..Tenant::default() };
    let name = fields.required("name")?;
    overwrite(call, &mut tenant, &mut fields)?;
    fields.end(call.switches)?;
    if call.world.tenants.by_id(&tenant.id).is_some() {
        return Err(Refusal::Exists(format!("tenant {} already exists", tenant.id)));
    }
    if call.switches.unique_tenant_names && call.world.tenants.by_name("", &name).is_some() {
        return Err(Refusal::Exists(format!("a tenant with the name {name} already exists")));
    }
    if !tenant.parent.is_empty() && call.world.tenants.by_id(&tenant.parent).is_none() {
        return Err(Refusal::NotFound(format!("tenant {} not found", tenant.parent)));
    }
    tenant.name = name;
    if tenant.id.is_empty() {
        tenant.id = call.world.new_id("T2");
    }
    tenant.created_time = call.world.new_time();
    let answer = view::bytes(&Keyed("id", &tenant.id));
    call.world.tenants.insert(tenant);
    Ok(answer)
}

/// `tenant/update`: what is left out becomes its zero value.
pub fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut tenant) = find(call.world, &fields.required("id")?)?;
    let name = fields.required("name")?;
    overwrite(call, &mut tenant, &mut fields)?;
    tenant.extra = fields.extra(&tenant.extra, call.switches)?;
    rename(call, number, &mut tenant, name)?;
    call.world.tenants.replace(number, tenant);
    Ok(Call::nothing())
}

/// `tenant/patch`: only what is present changes.
pub fn patch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut tenant) = find(call.world, &fields.required("id")?)?;
    let clears = call.switches.patch_empty_list == PatchEmptyList::Clears;
    let list = |field: &mut Vec<String>, value: Option<Vec<String>>| {
        if let Some(value) = value.filter(|value| clears || !value.is_empty()) {
            *field = value;
        }
    };
    let name = fields.text("name")?;
    list(&mut tenant.self_provisioning_domains, fields.texts("selfProvisioningDomains")?);
    list(&mut tenant.enforce_sso_exclusions, fields.texts("enforceSSOExclusions")?);
    list(&mut tenant.federated_app_ids, fields.texts("federatedAppIds")?);
    if let Some(enforce) = fields.flag("enforceSSO")? {
        tenant.enforce_sso = enforce;
    }
    if let Some(disabled) = fields.flag("disabled")? {
        tenant.disabled = disabled;
    }
    if let Some(inheritance) = fields.text("roleInheritance")? {
        tenant.role_inheritance = inheritance;
    }
    if let Some(auth) = fields.text("authType")?.filter(|auth| !auth.is_empty()) {
        tenant.auth_type = auth;
    }
    if let Some(attributes) = fields.object("customAttributes")? {
        if call.switches.patch_attributes == PatchAttributes::Replace {
            tenant.custom_attributes.clear();
        }
        merge_attributes(call, &mut tenant, attributes)?;
    }
    checked(&tenant)?;
    let extra = fields.extra(&tenant.extra, call.switches)?;
    tenant.extra.extend(extra);
    match name {
        Some(name) if name.is_empty() => return Err(Refusal::required("name")),
        Some(name) => rename(call, number, &mut tenant, name)?,
        None => {}
    }
    call.world.tenants.replace(number, tenant);
    Ok(Call::nothing())
}

/// `tenant/delete`. `cascade` concerns users, which nobody has here; the tenant's roles go in any case.
pub fn delete(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let id = call.body.required("id")?;
    call.body.flag("cascade")?;
    call.ends()?;
    match find(call.world, &id) {
        Ok((number, _)) => remove(call.world, number),
        Err(_) if call.switches.delete_absent == DeleteAbsent::Success => {}
        Err(absent) => return Err(absent),
    }
    Ok(Call::nothing())
}

/// `tenant/settings?id=`.
pub fn settings(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenant = find(call.world, call.parameter("id")?)?.1;
    let mut answer = Document::new();
    for setting in SETTINGS {
        let (name, zero) = match setting {
            Setting::Flag(name) => (name, json!(false)),
            Setting::Number(name) => (name, json!(0)),
            Setting::Unit(name) => (name, json!("")),
        };
        answer.insert((*name).to_owned(), tenant.settings.get(*name).cloned().unwrap_or(zero));
    }
    let off = json!({ "saml": false, "oidc": false, "scim": false, "ssoDomains": false, "groupMapping": false });
    let suite = json!({ "enabled": false, "styleId": "", "disabledFeatures": off });
    answer.insert(SUITE.to_owned(), tenant.settings.get(SUITE).cloned().unwrap_or(suite));
    answer.insert("authType".to_owned(), json!(auth_type(&tenant)));
    answer.insert("domains".to_owned(), json!(tenant.domains));
    answer.insert("selfProvisioningDomains".to_owned(), json!(tenant.self_provisioning_domains));
    Ok(view::bytes(&answer))
}

/// `tenant/settings`: overwrites what every SDK sends, and keeps what only one of them knows when it is left out.
pub fn set_settings(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut tenant) = find(call.world, &fields.required("tenantId")?)?;
    tenant.self_provisioning_domains = fields.texts("selfProvisioningDomains")?.unwrap_or_default();
    tenant.domains = fields.texts("domains")?.unwrap_or_default();
    if let Some(auth) = fields.text("authType")?.filter(|auth| !auth.is_empty()) {
        tenant.auth_type = auth;
    }
    let mut settings = Document::new();
    for setting in SETTINGS {
        let (name, value) = match setting {
            Setting::Flag(name) => (name, json!(fields.flag(name)?.unwrap_or_default())),
            Setting::Number(name) => (name, json!(fields.integer(name)?.unwrap_or_default())),
            Setting::Unit(name) => (name, json!(unit(&mut fields, name)?)),
        };
        settings.insert((*name).to_owned(), value);
    }
    if let Some(suite) = fields.object(SUITE)?.map(Value::Object).or_else(|| tenant.settings.remove(SUITE)) {
        settings.insert(SUITE.to_owned(), suite);
    }
    tenant.settings = settings;
    tenant.enforce_sso = fields.flag("enforceSSO")?.unwrap_or(tenant.enforce_sso);
    if let Some(exclusions) = fields.texts("enforceSSOExclusions")? {
        tenant.enforce_sso_exclusions = exclusions;
    }
    if let Some(apps) = fields.texts("federatedAppIds")? {
        tenant.federated_app_ids = apps;
    }
    fields.end(call.switches)?;
    checked(&tenant)?;
    call.world.tenants.replace(number, tenant);
    Ok(Call::nothing())
}

/// `tenant/updateDefaultRoles`: replaces the list; project roles only.
pub fn update_default_roles(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let (number, mut tenant) = find(call.world, &call.body.required("id")?)?;
    let names = call.body.texts("defaultRoles")?.unwrap_or_default();
    call.ends()?;
    tenant.default_roles.clear();
    for name in names {
        let found = call.world.roles.by_name("", &name);
        let role = found.ok_or_else(|| Refusal::NotFound(format!("role {name} not found")))?;
        if !tenant.default_roles.contains(&role) {
            tenant.default_roles.push(role);
        }
    }
    call.world.tenants.replace(number, tenant);
    Ok(Call::nothing())
}

/// `tenant/adminlinks/sso/generate`.
pub fn generate_link(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    find(call.world, &call.body.required("tenantId")?)?;
    call.body.integer("expireTime")?;
    for name in ["ssoId", "email", "templateId", "actorId"] {
        call.body.text(name)?;
    }
    call.ends()?;
    Ok(view::bytes(&Keyed("adminSSOConfigurationLink", "https://example.invalid/sso-setup?token=x")))
}

/// `tenant/adminlinks/sso/revoke`.
pub fn revoke_link(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    find(call.world, &call.body.required("tenantId")?)?;
    call.body.text("ssoId")?;
    call.ends()?;
    Ok(Call::nothing())
}

/// Removes a tenant with its roles.
pub fn remove(world: &mut World, number: u64) {
    if let Some(id) = world.tenants.get(number).map(|tenant| tenant.id.clone()) {
        for role in world.roles.of_tenant(&id) {
            super::role::remove(world, role);
        }
    }
    world.tenants.remove(number);
}

fn find(world: &World, id: &str) -> Result<(u64, Tenant), Refusal> {
    let number = world.tenants.by_id(id);
    let found = number.and_then(|number| world.tenants.get(number).map(|tenant| (number, Tenant::clone(tenant))));
    found.ok_or_else(|| Refusal::NotFound(format!("tenant {id} not found")))
}

fn rename(call: &Call<'_>, number: u64, tenant: &mut Tenant, name: String) -> Result<(), Refusal> {
    let taken = call.world.tenants.by_name("", &name).is_some_and(|taken| taken != number);
    if !taken || !call.switches.unique_tenant_names {
        tenant.name = name;
    } else if call.switches.rename_collision == RenameCollision::Error {
        return Err(Refusal::Exists(format!("a tenant with the name {name} already exists")));
    }
    Ok(())
}

/// Every field but identity, name and parent.
fn overwrite(call: &Call<'_>, tenant: &mut Tenant, fields: &mut Fields) -> Result<(), Refusal> {
    tenant.self_provisioning_domains = fields.texts("selfProvisioningDomains")?.unwrap_or_default();
    tenant.enforce_sso = fields.flag("enforceSSO")?.unwrap_or_default();
    tenant.enforce_sso_exclusions = fields.texts("enforceSSOExclusions")?.unwrap_or_default();
    tenant.federated_app_ids = fields.texts("federatedAppIds")?.unwrap_or_default();
    tenant.disabled = fields.flag("disabled")?.unwrap_or_default();
    tenant.role_inheritance = fields.text("roleInheritance")?.unwrap_or_default();
    tenant.custom_attributes.clear();
    let attributes = fields.object("customAttributes")?.unwrap_or_default();
    merge_attributes(call, tenant, attributes)?;
    checked(tenant)
}

fn merge_attributes(call: &Call<'_>, tenant: &mut Tenant, attributes: Document) -> Result<(), Refusal> {
    for (name, value) in attributes {
        if call.switches.tenant_attributes.as_ref().is_some_and(|defined| !defined.contains(&name)) {
            return Err(Refusal::Invalid(format!("custom attribute {name} is not defined")));
        }
        match value {
            Value::Null => drop(tenant.custom_attributes.remove(&name)),
            Value::Object(_) => return Err(Refusal::Malformed(format!("custom attribute {name} cannot be an object"))),
            Value::Array(items) if !items.iter().all(Value::is_string) => {
                return Err(Refusal::Malformed(format!("custom attribute {name} must be a list of strings")));
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                tenant.custom_attributes.insert(name, value);
            }
        }
    }
    Ok(())
}

fn checked(tenant: &Tenant) -> Result<(), Refusal> {
    if !["", "none", "userOnly"].contains(&tenant.role_inheritance.as_str()) {
        return Err(Refusal::Invalid("roleInheritance must be none or userOnly".to_owned()));
    }
    if !["", "none", "saml", "oidc"].contains(&tenant.auth_type.as_str()) {
        return Err(Refusal::Invalid("authType must be none, saml or oidc".to_owned()));
    }
    Ok(())
}

/// A unit of time; empty where none was set.
fn unit(fields: &mut Fields, name: &str) -> Result<String, Refusal> {
    let unit = fields.text(name)?.unwrap_or_default();
    if UNITS.contains(&unit.as_str()) {
        return Ok(unit);
    }
    Err(Refusal::Invalid(format!("{name} must be minutes, hours, days or weeks")))
}
