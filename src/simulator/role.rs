//! The role calls.

use super::api::Call;
use super::fields::Fields;
use super::options::DeleteAbsent;
use super::options::DeleteUsed;
use super::options::EmptyDelete;
use super::options::RenameCollision;
use super::options::UnknownPermission;
use super::refusal::Refusal;
use super::view;
use super::view::Depth;
use super::view::Keyed;
use super::view::View;
use super::world::Role;
use super::world::Tenant;
use super::world::World;
use serde_json::json;

/// `role/all`: those of the project and of all tenants.
pub fn all(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    call.ends()?;
    Ok(call.listed("roles", |world| &world.roles, |_| true))
}

/// `role/search`: a role is found when every filter that is given fits.
pub fn search(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenants = call.body.texts("tenantIds")?.unwrap_or_default();
    let names = call.body.texts("roleNames")?.unwrap_or_default();
    let like = call.body.text("roleNameLike")?.unwrap_or_default().to_lowercase();
    let permissions = call.body.texts("permissionNames")?.unwrap_or_default();
    let ids = call.body.texts("roleIds")?.unwrap_or_default();
    let with_project = call.body.flag("includeProjectRoles")?.unwrap_or_default();
    call.ends()?;
    let wanted: Vec<u64> = permissions.iter().filter_map(|name| call.world.permissions.by_name("", name)).collect();
    let shown = |role: &Role| {
        (tenants.is_empty() || tenants.contains(&role.tenant) || (with_project && role.tenant.is_empty()))
            && (names.is_empty() || names.contains(&role.name))
            && (ids.is_empty() || ids.contains(&role.id))
            && role.name.to_lowercase().contains(&like)
            && (permissions.is_empty() || role.permissions.iter().any(|number| wanted.contains(number)))
    };
    Ok(call.listed("roles", |world| &world.roles, shown))
}

/// `role/create`.
pub fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let fields = std::mem::take(&mut call.body);
    create_one(call, fields).map(|_| Call::nothing())
}

/// `role/create/batch`.
pub fn create_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("roles")?;
    call.ends()?;
    let made = call.each(items, create_one)?;
    Ok(views(call.world, &made))
}

/// `role/update`.
pub fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let fields = std::mem::take(&mut call.body);
    update_one(call, fields).map(|_| Call::nothing())
}

/// `role/update/batch`.
pub fn update_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("roles")?;
    call.ends()?;
    let changed = call.each(items, update_one)?;
    Ok(views(call.world, &changed))
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
                let roles = call.world.roles.iter().filter(|(_, role)| tenant.is_empty() || role.tenant == tenant);
                for number in roles.map(|(number, _)| number).collect::<Vec<_>>() {
                    remove(call.world, number);
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
    if !role.tenant.is_empty() && call.world.tenants.by_id(&role.tenant).is_none() {
        return Err(Refusal::NotFound(format!("tenant {} not found", role.tenant)));
    }
    if call.world.roles.by_name(&role.tenant, &role.name).is_some() {
        return Err(Refusal::Exists(format!("role {} already exists", role.name)));
    }
    (role.id, role.created_time) = (call.world.new_id("ROL"), call.world.new_time());
    Ok(call.world.roles.insert(role))
}

fn update_one(call: &mut Call<'_>, mut fields: Fields) -> Result<u64, Refusal> {
    let (number, mut role) = find(call.world, &mut fields)??;
    let new_name = fields.required("newName")?;
    overwrite(call, &mut role, &mut fields)?;
    role.extra = fields.extra(&role.extra, call.switches)?;
    if call.world.roles.by_name(&role.tenant, &new_name).is_none_or(|taken| taken == number) {
        role.name = new_name;
    } else if call.switches.rename_collision == RenameCollision::Error {
        return Err(Refusal::Exists(format!("role {new_name} already exists")));
    }
    call.world.roles.replace(number, role);
    Ok(number)
}

/// What is left out becomes its zero value.
fn overwrite(call: &Call<'_>, role: &mut Role, fields: &mut Fields) -> Result<(), Refusal> {
    role.description = fields.text("description")?.unwrap_or_default();
    role.default = fields.flag("default")?.unwrap_or_default();
    role.private = fields.flag("private")?.unwrap_or_default();
    role.permissions.clear();
    for name in fields.texts("permissionNames")?.unwrap_or_default() {
        match call.world.permissions.by_name("", &name) {
            Some(number) if role.permissions.contains(&number) => {}
            Some(number) => role.permissions.push(number),
            None if call.switches.unknown_permission == UnknownPermission::Ignore => {}
            None => return Err(Refusal::NotFound(format!("permission {name} not found"))),
        }
    }
    Ok(())
}

fn delete_one(call: &mut Call<'_>, mut fields: Fields) -> Result<u64, Refusal> {
    let found = find(call.world, &mut fields)?;
    fields.end(call.switches)?;
    let (number, role) = match found {
        Ok(found) => found,
        Err(_) if call.switches.delete_absent == DeleteAbsent::Success => return Ok(0),
        Err(absent) => return Err(absent),
    };
    if call.switches.delete_used == DeleteUsed::Error && !call.world.tenants_with(number).is_empty() {
        return Err(Refusal::Invalid(format!("role {} is a default of a tenant", role.name)));
    }
    remove(call.world, number);
    Ok(number)
}

/// Removes a role, and takes it from the tenants that have it as a default.
pub fn remove(world: &mut World, number: u64) {
    // Only project roles can be defaults.
    let of_project = world.roles.get(number).is_some_and(|role| role.tenant.is_empty());
    let tenants = if of_project { world.tenants_with(number) } else { Vec::new() };
    for tenant in tenants {
        if let Some(row) = world.tenants.get(tenant) {
            let mut row = Tenant::clone(row);
            row.default_roles.retain(|&role| role != number);
            world.tenants.replace(tenant, row);
        }
    }
    world.roles.remove(number);
}

/// The role that `id`, or else `name` and `tenantId`, means. The inner error says that there is none.
fn find(world: &World, fields: &mut Fields) -> Result<Result<(u64, Role), Refusal>, Refusal> {
    let (name, id) = (fields.text("name")?.unwrap_or_default(), fields.text("id")?.unwrap_or_default());
    let tenant = fields.text("tenantId")?.unwrap_or_default();
    let number = match (id.as_str(), name.as_str()) {
        ("", "") => return Err(Refusal::Invalid("The name or the id field is required".to_owned())),
        ("", name) => world.roles.by_name(&tenant, name),
        (id, _) => world.roles.by_id(id),
    };
    let found = number.and_then(|number| world.roles.get(number).map(|role| (number, Role::clone(role))));
    let asked = if id.is_empty() { name } else { id };
    Ok(found.ok_or_else(|| Refusal::NotFound(format!("role {asked} not found"))))
}

fn views(world: &World, numbers: &[u64]) -> Vec<u8> {
    let roles = numbers.iter().filter_map(|&number| world.roles.get(number));
    let views: Vec<_> = roles.map(|role| View { world, row: &**role, depth: Depth::Answered }).collect();
    view::bytes(&Keyed("roles", views))
}
