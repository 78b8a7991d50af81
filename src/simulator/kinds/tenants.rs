//! Tenants: the customers of the project's owner.

use super::Kind;
use super::Target;
use super::roles;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::read;
use crate::simulator::api::write;
use crate::simulator::fields::Document;
use crate::simulator::fields::Fields;
use crate::simulator::options::DeleteParent;
use crate::simulator::options::PatchAttributes;
use crate::simulator::options::PatchEmptyList;
use crate::simulator::options::RenameCollision;
use crate::simulator::refusal::Refusal;
use crate::simulator::state::merge;
use crate::simulator::state::set;
use crate::simulator::table::Row;
use crate::simulator::table::Table;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::view::Look;
use crate::simulator::view::Shown;
use crate::simulator::world::AnyTable;
use crate::simulator::world::Shelf;
use crate::simulator::world::World;
use serde::ser::SerializeMap;
use serde_json::Value;
use std::sync::Arc;

/// Where they are.
pub const SHELF: Shelf<Tenant> = Shelf::new("tenants");

const ROUTES: &[Route] = &[
    read("GET", "/v1/mgmt/tenant", load),
    read("GET", "/v1/mgmt/tenant/all", all),
    read("POST", "/v1/mgmt/tenant/search", search),
    write("POST", "/v1/mgmt/tenant/create", create),
    write("POST", "/v1/mgmt/tenant/update", update),
    write("PATCH", "/v1/mgmt/tenant/patch", patch),
    write("POST", "/v1/mgmt/tenant/delete", delete),
    write("POST", "/v1/mgmt/tenant/updateDefaultRoles", update_default_roles),
    write("POST", "/v2/mgmt/tenant/adminlinks/sso/generate", generate_link),
    write("POST", "/v1/mgmt/tenant/adminlinks/sso/revoke", revoke_link),
];

/// The kind.
#[derive(Debug)]
pub struct Tenants;

/// A tenant.
#[derive(Debug, Clone, Default)]
pub struct Tenant {
    pub id: String,
    pub name: String,
    pub self_provisioning_domains: Vec<String>,
    pub custom_attributes: Document,
    pub auth_type: String,
    pub domains: Vec<String>,
    pub created_time: i64,
    pub enforce_sso: bool,
    pub enforce_sso_exclusions: Vec<String>,
    pub federated_app_ids: Vec<String>,
    pub disabled: bool,
    pub role_inheritance: String,
    pub parent: String,
    /// Numbers of roles.
    pub default_roles: Vec<u64>,
    pub extra: Document,
}

impl Row for Tenant {
    fn id(&self) -> &str {
        &self.id
    }
    fn tenant(&self) -> &'static str {
        ""
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn group(&self) -> Option<&str> {
        Some(self.parent.as_str()).filter(|parent| !parent.is_empty())
    }
    fn claims(&self) -> Vec<String> {
        let own = self.self_provisioning_domains.iter().map(|domain| claim("self-provisioning", domain));
        own.chain(self.domains.iter().map(|domain| claim("SSO", domain))).collect()
    }
}

fn claim(sort: &str, domain: &str) -> String {
    format!("{sort} domain {}", domain.trim().to_lowercase())
}

impl Shown for Tenant {
    fn write<M: SerializeMap>(&self, look: &Look<'_>, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("selfProvisioningDomains", &look.mixed(self.self_provisioning_domains.iter().collect()))?;
        map.serialize_entry("customAttributes", &self.custom_attributes)?;
        map.serialize_entry("authType", self.auth_type())?;
        map.serialize_entry("domains", &look.mixed(self.domains.iter().collect()))?;
        map.serialize_entry("createdTime", &self.created_time)?;
        map.serialize_entry("enforceSSO", &self.enforce_sso)?;
        map.serialize_entry("enforceSSOExclusions", &look.mixed(self.enforce_sso_exclusions.iter().collect()))?;
        map.serialize_entry("disabled", &self.disabled)?;
        map.serialize_entry("roleInheritance", &self.role_inheritance)?;
        if look.all || !look.switches.older_tenants {
            let roles = look.world.table(roles::SHELF);
            let names =
                self.default_roles.iter().filter_map(|&number| roles.get(number)).map(|role| role.name.as_str());
            map.serialize_entry("defaultRoles", &look.mixed(names.collect()))?;
            map.serialize_entry("parent", &self.parent)?;
            map.serialize_entry("federatedAppIds", &look.mixed(self.federated_app_ids.iter().collect()))?;
        }
        if !look.all && !look.switches.older_tenants {
            map.serialize_entry("successors", &look.mixed(self.successors(look)))?;
        }
        Ok(())
    }
    fn extra(&self) -> &Document {
        &self.extra
    }
}

impl Tenant {
    /// `none` until something else is set.
    pub fn auth_type(&self) -> &str {
        if self.auth_type.is_empty() { "none" } else { &self.auth_type }
    }

    /// The ids of its sub-tenants.
    fn successors<'a>(&self, look: &Look<'a>) -> Vec<&'a str> {
        let table = look.world.table(SHELF);
        let mut ids: Vec<&str> = Vec::new();
        let mut parents = vec![self.id.as_str()];
        while let Some(parent) = parents.pop() {
            let children = table.members(parent).into_iter().filter_map(|number| table.get(number));
            for child in children.filter(|child| child.id != self.id).map(|child| child.id.as_str()) {
                if !ids.contains(&child) {
                    ids.push(child);
                    parents.extend(look.switches.all_successors.then_some(child));
                }
            }
        }
        ids
    }
}

impl Kind for Tenants {
    fn name(&self) -> &'static str {
        SHELF.kind()
    }

    fn routes(&self) -> &'static [Route] {
        ROUTES
    }

    fn table(&self) -> Option<Box<dyn AnyTable>> {
        Some(Box::new(Table::<Tenant>::default()))
    }

    fn key(&self) -> &'static str {
        "id"
    }

    fn put(&self, world: &mut World, mut fields: Fields) -> Result<(), Refusal> {
        let id = fields.required("id")?;
        let number = world.table(SHELF).by_id(&id);
        let mut row = number.and_then(|number| world.table(SHELF).copy(number)).unwrap_or_default();
        set(&mut row.name, fields.text("name")?);
        if row.name.is_empty() {
            row.name.clone_from(&id);
        }
        row.id = id;
        set(&mut row.self_provisioning_domains, fields.texts("selfProvisioningDomains")?);
        set(&mut row.custom_attributes, fields.object("customAttributes")?);
        set(&mut row.auth_type, fields.text("authType")?);
        set(&mut row.domains, fields.texts("domains")?);
        set(&mut row.created_time, fields.integer("createdTime")?);
        set(&mut row.enforce_sso, fields.flag("enforceSSO")?);
        set(&mut row.enforce_sso_exclusions, fields.texts("enforceSSOExclusions")?);
        set(&mut row.federated_app_ids, fields.texts("federatedAppIds")?);
        set(&mut row.disabled, fields.flag("disabled")?);
        set(&mut row.role_inheritance, fields.text("roleInheritance")?);
        set(&mut row.parent, fields.text("parent")?);
        if let Some(names) = fields.texts("defaultRoles")? {
            let find = |name: String| {
                let found = world.table(roles::SHELF).by_name("", &name);
                found.ok_or_else(|| Refusal::Invalid(format!("role {name} not found")))
            };
            row.default_roles = names.into_iter().map(find).collect::<Result<_, _>>()?;
        }
        merge(&mut row.extra, fields.rest());
        if row.created_time == 0 {
            row.created_time = world.new_time();
        }
        world.table_mut(SHELF).put_row(number, row);
        Ok(())
    }

    fn remove(&self, world: &mut World, _: &str, key: &str) -> Result<(), Refusal> {
        let number = number(world, key)?;
        remove(world, number);
        Ok(())
    }

    fn refers(&self, world: &World, target: &Target) -> bool {
        !holders(world, target).is_empty()
    }

    /// Roles are known by number, so a new name changes nothing.
    fn follow(&self, world: &mut World, target: &Target, new_name: Option<&str>) {
        if new_name.is_some() {
            return;
        }
        for tenant in holders(world, target) {
            if let Some(mut row) = world.table(SHELF).copy(tenant) {
                row.default_roles.retain(|&role| role != target.number);
                world.table_mut(SHELF).replace(tenant, row);
            }
        }
    }
}

/// The tenants for which this role is a default; only roles of the project can be.
fn holders(world: &World, target: &Target) -> Vec<u64> {
    if target.kind != roles::SHELF.kind() || !target.tenant.is_empty() {
        return Vec::new();
    }
    let tenants = world.table(SHELF).iter().filter(|(_, tenant)| tenant.default_roles.contains(&target.number));
    tenants.map(|(number, _)| number).collect()
}

/// The number of the tenant with this id.
pub fn number(world: &World, id: &str) -> Result<u64, Refusal> {
    let absent = || Refusal::NotFound(format!("tenant {id} not found"), "E112202");
    world.table(SHELF).by_id(id).ok_or_else(absent)
}

/// `tenant/all`.
pub fn all(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    call.ends()?;
    Ok(call.listed("tenants", SHELF, |_| true))
}

/// `tenant?id=`.
pub fn load(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenant = late(call, call.parameter("id")?)?;
    Ok(call.shown(&*tenant))
}

/// `tenant/search`: a tenant is found when every filter that is given fits.
pub fn search(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let ids = call.body.texts("tenantIds")?.unwrap_or_default();
    let names = call.body.texts("tenantNames")?.unwrap_or_default();
    let domains = call.body.texts("tenantSelfProvisioningDomains")?.unwrap_or_default();
    let sso_domains = call.body.texts("tenantSSODomains")?.unwrap_or_default();
    let top_only = call.body.flag("topLevelOnly")?.unwrap_or_default();
    let attributes = call.body.object("customAttributes")?.unwrap_or_default();
    let auth = call.body.text("authType")?.unwrap_or_default();
    let parent = call.body.text("parentTenantId")?.unwrap_or_default();
    call.ends()?;
    let shown = |tenant: &Tenant| {
        (ids.is_empty() || ids.contains(&tenant.id))
            && (names.is_empty() || names.contains(&tenant.name))
            && (domains.is_empty() || tenant.self_provisioning_domains.iter().any(|domain| domains.contains(domain)))
            && (sso_domains.is_empty() || tenant.domains.iter().any(|domain| sso_domains.contains(domain)))
            && (!top_only || tenant.parent.is_empty())
            && attributes.iter().all(|(name, value)| tenant.custom_attributes.get(name) == Some(value))
            && (auth.is_empty() || auth == tenant.auth_type())
            && (parent.is_empty() || parent == tenant.parent)
    };
    Ok(call.listed("tenants", SHELF, shown))
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
    if call.world.table(SHELF).by_id(&tenant.id).is_some() {
        return Err(Refusal::Exists(format!("tenant {} already exists", tenant.id)));
    }
    if call.switches.unique_tenant_names && call.world.table(SHELF).by_name("", &name).is_some() {
        return Err(Refusal::Exists(format!("a tenant with the name {name} already exists")));
    }
    if !tenant.parent.is_empty() {
        self::number(call.world, &tenant.parent)?;
    }
    free(call, None, &tenant)?;
    tenant.name = name;
    if tenant.id.is_empty() {
        tenant.id = call.world.new_id("T2");
    }
    tenant.created_time = call.world.new_time();
    let answer = view::bytes(&Keyed("id", &tenant.id));
    call.world.table_mut(SHELF).insert(tenant);
    Ok(answer)
}

/// `tenant/update`: what is left out becomes its zero value.
pub fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut tenant) = find(call.world, &fields.required("id")?)?;
    let name = fields.required("name")?;
    overwrite(call, &mut tenant, &mut fields)?;
    tenant.extra = fields.extra(&tenant.extra, call.switches)?;
    free(call, Some(number), &tenant)?;
    rename(call, number, &mut tenant, name)?;
    call.world.table_mut(SHELF).replace(number, tenant);
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
    free(call, Some(number), &tenant)?;
    let extra = fields.extra(&tenant.extra, call.switches)?;
    tenant.extra.extend(extra);
    match name {
        Some(name) if name.is_empty() => return Err(Refusal::required("name")),
        Some(name) => rename(call, number, &mut tenant, name)?,
        None => {}
    }
    call.world.table_mut(SHELF).replace(number, tenant);
    Ok(Call::nothing())
}

/// `tenant/delete`. `cascade` concerns users, which nobody has here; the tenant's roles go in any case.
pub fn delete(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let id = call.body.required("id")?;
    call.body.flag("cascade")?;
    call.ends()?;
    let number = match self::number(call.world, &id) {
        Ok(number) => number,
        Err(refusal) => return call.absent(refusal).map(|()| Call::nothing()),
    };
    let children = call.world.table(SHELF).members(&id);
    if !children.is_empty() && call.switches.delete_parent == DeleteParent::Error {
        return Err(Refusal::Invalid(format!("tenant {id} has sub-tenants")));
    }
    if call.switches.delete_parent == DeleteParent::Cascade {
        remove_below(call.world, &id);
    }
    for child in call.world.table(SHELF).members(&id) {
        if let Some(mut row) = call.world.table(SHELF).copy(child) {
            row.parent.clear();
            call.world.table_mut(SHELF).replace(child, row);
        }
    }
    remove(call.world, number);
    Ok(Call::nothing())
}

/// `tenant/updateDefaultRoles`: replaces the list; project roles only.
pub fn update_default_roles(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let (number, mut tenant) = find(call.world, &call.body.required("id")?)?;
    let names = call.body.texts("defaultRoles")?.unwrap_or_default();
    call.ends()?;
    tenant.default_roles.clear();
    for name in names {
        let found = call.world.table(roles::SHELF).by_name("", &name);
        let role = found.ok_or_else(|| Refusal::absent("role", &name))?;
        if !tenant.default_roles.contains(&role) {
            tenant.default_roles.push(role);
        }
    }
    call.world.table_mut(SHELF).replace(number, tenant);
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

/// Removes a tenant with everything that is its own.
fn remove(world: &mut World, number: u64) {
    if let Some(row) = world.table(SHELF).copy(number) {
        let target = Target { kind: SHELF.kind(), number, id: row.id, tenant: String::new(), name: row.name };
        super::let_go(world, &target);
        world.table_mut(SHELF).remove(number);
    }
}

/// Removes the tenants below this one.
fn remove_below(world: &mut World, id: &str) {
    for child in world.table(SHELF).members(id) {
        if let Some(row) = world.table(SHELF).copy(child) {
            remove(world, child);
            remove_below(world, &row.id);
        }
    }
}

/// The tenant of a read, as late as the switches say.
pub fn late(call: &Call<'_>, id: &str) -> Result<Arc<Tenant>, Refusal> {
    let found = call.loaded(SHELF, number(call.world, id)?);
    found.ok_or_else(|| Refusal::NotFound(format!("tenant {id} not found"), "E112202"))
}

/// The tenant with this id, to be changed and put back.
pub fn find(world: &World, id: &str) -> Result<(u64, Tenant), Refusal> {
    let number = number(world, id)?;
    let row = world.table(SHELF).copy(number);
    row.map(|row| (number, row)).ok_or_else(|| Refusal::absent("tenant", id))
}

/// What a call of another family writes of a tenant must be as good as what its own calls write.
pub fn check(call: &Call<'_>, number: Option<u64>, tenant: &Tenant) -> Result<(), Refusal> {
    checked(tenant)?;
    free(call, number, tenant)
}

/// No other tenant may hold its domains.
fn free(call: &Call<'_>, number: Option<u64>, tenant: &Tenant) -> Result<(), Refusal> {
    if call.switches.shared_domains {
        return Ok(());
    }
    let before = number.and_then(|number| call.world.table(SHELF).get(number)).map(|row| row.claims());
    let before = before.unwrap_or_default();
    for claim in tenant.claims().into_iter().filter(|claim| !before.contains(claim)) {
        if call.world.table(SHELF).holders(&claim).into_iter().any(|holder| Some(holder) != number) {
            return Err(Refusal::Invalid(format!("{claim} is already in use by another tenant")));
        }
    }
    Ok(())
}

fn rename(call: &Call<'_>, number: u64, tenant: &mut Tenant, name: String) -> Result<(), Refusal> {
    let taken = call.world.table(SHELF).by_name("", &name).is_some_and(|taken| taken != number);
    if !taken || !call.switches.unique_tenant_names {
        tenant.name = name;
    } else if call.switches.rename_collision == RenameCollision::Error {
        return Err(Refusal::Exists(format!("a tenant with the name {name} already exists")));
    }
    Ok(())
}

/// Every field but identity, name and parent.
fn overwrite(call: &Call<'_>, tenant: &mut Tenant, fields: &mut Fields) -> Result<(), Refusal> {
    // An overwrite resets this one too.
    tenant.auth_type = fields.text("authType")?.unwrap_or_default();
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
