//! Roles, of the project and of tenants.

use super::Kind;
use super::Target;
use super::permissions;
use super::permissions::with_entries;
use super::tenants;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::fields::Document;
use crate::simulator::fields::Fields;
use crate::simulator::options::EmptyDelete;
use crate::simulator::options::RenameCollision;
use crate::simulator::options::UnknownPermission;
use crate::simulator::refusal::Refusal;
use crate::simulator::state::merge;
use crate::simulator::state::set;
use crate::simulator::table::Row;
use crate::simulator::table::Table;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::view::Look;
use crate::simulator::view::Shown;
use crate::simulator::view::View;
use crate::simulator::world::AnyTable;
use crate::simulator::world::Shelf;
use crate::simulator::world::World;
use serde::ser::SerializeMap;
use serde_json::json;

/// Where they are.
pub const SHELF: Shelf<Role> = Shelf::new("roles");
/// The role that every project starts with.
const BUILTIN: &str = "Tenant Admin";

const ROUTES: &[Route] = &[
    read("GET", "/v1/mgmt/role/all", all),
    read("POST", "/v1/mgmt/role/search", search),
    project_write("POST", "/v1/mgmt/role/create", create),
    project_write("POST", "/v1/mgmt/role/create/batch", create_batch),
    project_write("POST", "/v1/mgmt/role/update", update),
    project_write("POST", "/v1/mgmt/role/update/batch", update_batch),
    project_write("POST", "/v1/mgmt/role/delete", delete),
    project_write("POST", "/v1/mgmt/role/delete/batch", delete_batch),
];

/// The kind.
#[derive(Debug)]
pub struct Roles;

/// A role of the project (`tenant` empty) or of a tenant.
#[derive(Debug, Clone, Default)]
pub struct Role {
    pub id: String,
    pub name: String,
    pub tenant: String,
    pub description: String,
    /// Numbers of permissions.
    pub permissions: Vec<u64>,
    pub created_time: i64,
    pub default: bool,
    pub private: bool,
    pub extra: Document,
}

impl Row for Role {
    fn id(&self) -> &str {
        &self.id
    }
    fn tenant(&self) -> &str {
        &self.tenant
    }
    fn name(&self) -> &str {
        &self.name
    }
}

impl Shown for Role {
    fn write<M: SerializeMap>(&self, look: &Look<'_>, map: &mut M) -> Result<(), M::Error> {
        let permissions = look.world.table(permissions::SHELF);
        let names = self.permissions.iter().filter_map(|&number| permissions.get(number)).map(|row| row.name.as_str());
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("description", &self.description)?;
        map.serialize_entry("permissionNames", &look.mixed(names.collect()))?;
        map.serialize_entry("createdTime", &self.created_time)?;
        map.serialize_entry("tenantId", &self.tenant)?;
        map.serialize_entry("default", &self.default)?;
        map.serialize_entry("private", &self.private)
    }
    fn extra(&self) -> &Document {
        &self.extra
    }
}

impl Kind for Roles {
    fn name(&self) -> &'static str {
        SHELF.kind()
    }

    fn routes(&self) -> &'static [Route] {
        ROUTES
    }

    fn table(&self) -> Option<Box<dyn AnyTable>> {
        Some(Box::new(Table::<Role>::default()))
    }

    fn start(&self, world: &mut World) {
        let system = world.table(permissions::SHELF);
        let granted = permissions::SYSTEM[1..].iter().filter_map(|name| system.by_name("", name)).collect();
        let (id, created_time) = (world.new_id("ROL"), world.new_time());
        let role = Role { id, name: BUILTIN.to_owned(), permissions: granted, created_time, ..Role::default() };
        world.table_mut(SHELF).insert(role);
    }

    fn put(&self, world: &mut World, mut fields: Fields) -> Result<(), Refusal> {
        let (name, tenant) = (fields.required("name")?, fields.text("tenantId")?.unwrap_or_default());
        let number = world.table(SHELF).by_name(&tenant, &name);
        let mut row = number.and_then(|number| world.table(SHELF).copy(number)).unwrap_or_default();
        (row.name, row.tenant) = (name, tenant);
        set(&mut row.id, fields.text("id")?);
        set(&mut row.description, fields.text("description")?);
        set(&mut row.default, fields.flag("default")?);
        set(&mut row.private, fields.flag("private")?);
        set(&mut row.created_time, fields.integer("createdTime")?);
        if let Some(names) = fields.texts("permissionNames")? {
            let find = |name: String| {
                let found = world.table(permissions::SHELF).by_name("", &name);
                found.ok_or_else(|| Refusal::Invalid(format!("permission {name} not found")))
            };
            row.permissions = names.into_iter().map(find).collect::<Result<_, _>>()?;
        }
        merge(&mut row.extra, fields.rest());
        if row.id.is_empty() {
            row.id = world.new_id("ROL");
        }
        if row.created_time == 0 {
            row.created_time = world.new_time();
        }
        world.table_mut(SHELF).put_row(number, row);
        Ok(())
    }

    fn remove(&self, world: &mut World, tenant: &str, key: &str) -> Result<(), Refusal> {
        let number = world.table(SHELF).by_name(tenant, key).ok_or_else(|| Refusal::absent("role", key))?;
        remove_number(world, number);
        Ok(())
    }

    fn refers(&self, world: &World, target: &Target) -> bool {
        !holders(world, target).is_empty()
    }

    /// Permissions are known by number, so a new name changes nothing. A tenant takes its roles along.
    fn follow(&self, world: &mut World, target: &Target, new_name: Option<&str>) {
        if new_name.is_some() {
            return;
        }
        for role in holders(world, target) {
            if let Some(mut row) = world.table(SHELF).copy(role) {
                row.permissions.retain(|&permission| permission != target.number);
                world.table_mut(SHELF).replace(role, row);
            }
        }
        if target.kind == tenants::SHELF.kind() {
            for role in world.table(SHELF).of_tenant(&target.id) {
                remove_number(world, role);
            }
        }
    }
}

/// `role/all`: those of the project and of all tenants.
pub fn all(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    call.ends()?;
    let list = call.listed("roles", SHELF, |_| true);
    if !call.switches.app_entries {
        return Ok(list);
    }
    let named =
        call.world.table(SHELF).iter().map(|(_, row)| row).find(|row| row.tenant.is_empty() && row.name != BUILTIN);
    let entries = named.map(|row| row.name.as_str()).into_iter().chain(["App User"]).enumerate();
    let entries = entries.map(|(at, name)| {
        json!({
            "id": format!("ROLapp{at}"), "name": name, "description": "of an application", "permissionNames": [],
            "createdTime": 0, "tenantId": "", "default": false, "private": false, "appId": "app",
        })
    });
    Ok(with_entries(&list, "roles", entries))
}

/// `role/search`: a role is found when every filter that is given fits.
pub fn search(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenants = call.body.texts("tenantIds")?.unwrap_or_default();
    let names = call.body.texts("roleNames")?.unwrap_or_default();
    let like = call.body.text("roleNameLike")?.unwrap_or_default().to_lowercase();
    let permissions = call.body.texts("permissionNames")?.unwrap_or_default();
    let ids = call.body.texts("roleIds")?.unwrap_or_default();
    let with_project = call.body.flag("includeProjectRoles")?.unwrap_or_default();
    let text = call.body.text("text")?.unwrap_or_default().to_lowercase();
    call.body.take("sort");
    call.ends()?;
    let wanted: Vec<u64> =
        permissions.iter().filter_map(|name| call.world.table(permissions::SHELF).by_name("", name)).collect();
    let shown = |role: &Role| {
        (tenants.is_empty() || tenants.contains(&role.tenant) || (with_project && role.tenant.is_empty()))
            && (names.is_empty() || names.contains(&role.name))
            && (ids.is_empty() || ids.contains(&role.id))
            && role.name.to_lowercase().contains(&like)
            && [&role.name, &role.description].iter().any(|field| field.to_lowercase().contains(&text))
            && (permissions.is_empty() || role.permissions.iter().any(|number| wanted.contains(number)))
    };
    Ok(call.listed("roles", SHELF, shown))
}

/// `role/create`.
pub fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let fields = std::mem::take(&mut call.body);
    create_one(call, fields).map(|number| one(call, number))
}

/// `role/create/batch`.
pub fn create_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("roles")?.unwrap_or_default();
    call.ends()?;
    let made = call.each(items, create_one)?;
    Ok(views(call, &made))
}

/// `role/update`.
pub fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let fields = std::mem::take(&mut call.body);
    update_one(call, fields).map(|number| one(call, number))
}

/// `role/update/batch`.
pub fn update_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("roles")?.unwrap_or_default();
    call.ends()?;
    let changed = call.each(items, update_one)?;
    Ok(views(call, &changed))
}

/// `role/delete`.
pub fn delete(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let fields = std::mem::take(&mut call.body);
    delete_one(call, fields)?;
    Ok(Call::nothing())
}

/// `role/delete/batch`. The trap: with no effective filter every role goes, and a key that the call does not know is
/// no filter, whatever the switches say about unknown fields.
pub fn delete_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let names = call.body.texts("roleNames")?.unwrap_or_default();
    let ids = call.body.texts("roleIds")?.unwrap_or_default();
    let tenant = call.body.text("tenantId")?.unwrap_or_default();
    if names.is_empty() && ids.is_empty() {
        match call.switches.empty_role_delete {
            EmptyDelete::Error => return Err(Refusal::Invalid("The roleNames field is required".to_owned())),
            EmptyDelete::Nothing => {}
            EmptyDelete::DeletesAll => {
                let roles = call.world.table(SHELF).iter();
                let roles = roles.filter(|(_, role)| tenant.is_empty() || role.tenant == tenant);
                for number in roles.map(|(number, _)| number).collect::<Vec<_>>() {
                    remove_number(call.world, number);
                }
            }
        }
        return Ok(Call::nothing());
    }
    let by_name = names.into_iter().map(|name| json!({ "name": name, "tenantId": tenant }));
    let items = by_name.chain(ids.into_iter().map(|id| json!({ "id": id })));
    let items = items.filter_map(|item| item.as_object().cloned()).map(Fields::new);
    call.each(items.collect(), delete_one)?;
    Ok(Call::nothing())
}

fn create_one(call: &mut Call<'_>, mut fields: Fields) -> Result<u64, Refusal> {
    let name = fields.required("name")?;
    let tenant = fields.text("tenantId")?.unwrap_or_default();
    let mut role = Role { name, tenant, ..Role::default() };
    overwrite(call, &mut role, &mut fields)?;
    fields.end(call.switches)?;
    if !role.tenant.is_empty() {
        tenants::number(call.world, &role.tenant)?;
    }
    if call.world.table(SHELF).by_name(&role.tenant, &role.name).is_some() {
        return Err(Refusal::Exists(format!("role {} already exists", role.name)));
    }
    (role.id, role.created_time) = (call.world.new_id("ROL"), call.world.new_time());
    Ok(call.world.table_mut(SHELF).insert(role))
}

fn update_one(call: &mut Call<'_>, mut fields: Fields) -> Result<u64, Refusal> {
    let (number, mut role) = find(call.world, &mut fields)??;
    changeable(call, &role)?;
    let before = target(number, &role);
    let new_name = fields.required("newName")?;
    overwrite(call, &mut role, &mut fields)?;
    role.extra = fields.extra(&role.extra, call.switches)?;
    if call.world.table(SHELF).by_name(&role.tenant, &new_name).is_none_or(|taken| taken == number) {
        role.name = new_name;
    } else if call.switches.rename_collision == RenameCollision::Error {
        return Err(Refusal::Exists(format!("role {new_name} already exists")));
    }
    super::renamed(call.world, &before, &role.name);
    call.world.table_mut(SHELF).replace(number, role);
    Ok(number)
}

/// What is left out becomes its zero value.
fn overwrite(call: &Call<'_>, role: &mut Role, fields: &mut Fields) -> Result<(), Refusal> {
    role.description = fields.text("description")?.unwrap_or_default();
    role.default = fields.flag("default")?.unwrap_or_default();
    role.private = fields.flag("private")?.unwrap_or_default();
    role.permissions.clear();
    for name in fields.texts("permissionNames")?.unwrap_or_default() {
        match call.world.table(permissions::SHELF).by_name("", &name) {
            Some(number) if role.permissions.contains(&number) => {}
            Some(number) => role.permissions.push(number),
            None if call.switches.unknown_permission == UnknownPermission::Ignore => {}
            None => return Err(Refusal::absent("permission", &name)),
        }
    }
    Ok(())
}

fn delete_one(call: &mut Call<'_>, mut fields: Fields) -> Result<u64, Refusal> {
    let found = find(call.world, &mut fields)?;
    fields.end(call.switches)?;
    let (number, role) = match found {
        Ok(found) => found,
        Err(refusal) => return call.absent(refusal).map(|()| 0),
    };
    changeable(call, &role)?;
    call.remove(&target(number, &role), remove)?;
    Ok(number)
}

/// The built-in role can be read and nothing else; the words are those of the service, which mislead.
fn changeable(call: &Call<'_>, role: &Role) -> Result<(), Refusal> {
    if call.switches.protected_built_ins && role.name == BUILTIN && role.tenant.is_empty() {
        let message = "the role was not saved: version conflict".to_owned();
        return Err(Refusal::Coded { status: 400, code: "E024214", message });
    }
    Ok(())
}

/// Removes a role, and takes it from whatever names it.
fn remove(world: &mut World, target: &Target) {
    super::let_go(world, target);
    world.table_mut(SHELF).remove(target.number);
}

fn remove_number(world: &mut World, number: u64) {
    if let Some(row) = world.table(SHELF).copy(number) {
        remove(world, &target(number, &row));
    }
}

fn target(number: u64, row: &Role) -> Target {
    Target { kind: SHELF.kind(), number, id: row.id.clone(), tenant: row.tenant.clone(), name: row.name.clone() }
}

/// The roles that have this permission.
fn holders(world: &World, target: &Target) -> Vec<u64> {
    if target.kind != permissions::SHELF.kind() {
        return Vec::new();
    }
    let roles = world.table(SHELF).iter().filter(|(_, role)| role.permissions.contains(&target.number));
    roles.map(|(number, _)| number).collect()
}

/// The role that `id`, or else `name` and `tenantId`, means. The inner error says that there is none.
fn find(world: &World, fields: &mut Fields) -> Result<Result<(u64, Role), Refusal>, Refusal> {
    let (name, id) = (fields.text("name")?.unwrap_or_default(), fields.text("id")?.unwrap_or_default());
    let tenant = fields.text("tenantId")?.unwrap_or_default();
    let number = match (id.as_str(), name.as_str()) {
        ("", "") => return Err(Refusal::Invalid("The name or the id field is required".to_owned())),
        ("", name) => world.table(SHELF).by_name(&tenant, name),
        (id, _) => world.table(SHELF).by_id(id),
    };
    let found = number.and_then(|number| Some((number, world.table(SHELF).copy(number)?)));
    Ok(found.ok_or_else(|| Refusal::absent("role", if id.is_empty() { &name } else { &id })))
}

fn one(call: &mut Call<'_>, number: u64) -> Vec<u8> {
    call.world.table(SHELF).copy(number).map(|role| call.shown(&role)).unwrap_or_default()
}

fn views(call: &mut Call<'_>, numbers: &[u64]) -> Vec<u8> {
    let roles: Vec<_> = numbers.iter().filter_map(|&number| call.world.table(SHELF).copy(number)).collect();
    let look = call.look();
    let views: Vec<_> = roles.iter().map(|row| View { look: &look, row }).collect();
    view::bytes(&Keyed("roles", views))
}
