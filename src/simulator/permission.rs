//! The permission calls.

use super::api::Call;
use super::fields::Fields;
use super::options::DeleteAbsent;
use super::options::DeleteUsed;
use super::options::EmptyDelete;
use super::options::RenameCollision;
use super::refusal::Refusal;
use super::world::Permission;
use super::world::World;
use serde_json::json;

/// `permission/all`.
pub fn all(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    call.ends()?;
    Ok(call.listed("permissions", |world| &world.permissions, |_| true))
}

/// `permission/create`.
pub fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let fields = std::mem::take(&mut call.body);
    create_one(call, fields).map(|_| Call::nothing())
}

/// `permission/create/batch`.
pub fn create_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("permissions")?;
    call.ends()?;
    call.each(items, create_one).map(|_| Call::nothing())
}

/// `permission/update`.
pub fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let fields = std::mem::take(&mut call.body);
    update_one(call, fields).map(|_| Call::nothing())
}

/// `permission/update/batch`.
pub fn update_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("permissions")?;
    call.ends()?;
    call.each(items, update_one).map(|_| Call::nothing())
}

/// `permission/delete`.
pub fn delete(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let (name, id) = (call.body.text("name")?.unwrap_or_default(), call.body.text("id")?.unwrap_or_default());
    call.ends()?;
    delete_one(call, &name, &id)?;
    Ok(Call::nothing())
}

/// `permission/delete/batch`.
pub fn delete_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let names = call.body.texts("names")?.unwrap_or_default();
    let ids = call.body.texts("ids")?.unwrap_or_default();
    call.ends()?;
    if names.is_empty() && ids.is_empty() {
        match call.switches.empty_permission_delete {
            EmptyDelete::Error => return Err(Refusal::Invalid("The names or the ids field is required".to_owned())),
            EmptyDelete::Nothing => return Ok(Call::nothing()),
            EmptyDelete::DeletesAll => {
                let rows = call.world.permissions.iter().filter(|(_, row)| !row.system_default);
                for number in rows.map(|(number, _)| number).collect::<Vec<_>>() {
                    remove(call.world, number);
                }
            }
        }
    }
    let by_name = names.into_iter().map(|name| ("name", name));
    let items = by_name.chain(ids.into_iter().map(|id| ("id", id)));
    let items = items.map(|(key, value)| Fields::new([(key.to_owned(), json!(value))].into_iter().collect()));
    call.each(items.collect(), |call, mut fields| {
        let (name, id) = (fields.text("name")?.unwrap_or_default(), fields.text("id")?.unwrap_or_default());
        delete_one(call, &name, &id).map(|()| 0)
    })?;
    Ok(Call::nothing())
}

fn create_one(call: &mut Call<'_>, mut fields: Fields) -> Result<u64, Refusal> {
    let name = fields.required("name")?;
    let description = fields.text("description")?.unwrap_or_default();
    fields.end(call.switches)?;
    if call.world.permissions.by_name("", &name).is_some() {
        return Err(Refusal::Exists(format!("permission {name} already exists")));
    }
    let id = call.world.new_id("PERM");
    Ok(call.world.permissions.insert(Permission { id, name, description, ..Permission::default() }))
}

fn update_one(call: &mut Call<'_>, mut fields: Fields) -> Result<u64, Refusal> {
    let (name, id) = (fields.text("name")?.unwrap_or_default(), fields.text("id")?.unwrap_or_default());
    let number = find(call.world, &name, &id)?.ok_or_else(|| absent(&name, &id))?;
    let row = call.world.permissions.get(number).ok_or_else(|| absent(&name, &id))?;
    let mut row = Permission::clone(row);
    changeable(&row)?;
    let new_name = fields.required("newName")?;
    // What is left out becomes empty.
    row.description = fields.text("description")?.unwrap_or_default();
    row.extra = fields.extra(&row.extra, call.switches)?;
    if call.world.permissions.by_name("", &new_name).is_none_or(|taken| taken == number) {
        row.name = new_name;
    } else if call.switches.rename_collision == RenameCollision::Error {
        return Err(Refusal::Exists(format!("permission {new_name} already exists")));
    }
    call.world.permissions.replace(number, row);
    Ok(number)
}

fn delete_one(call: &mut Call<'_>, name: &str, id: &str) -> Result<(), Refusal> {
    let Some(number) = find(call.world, name, id)? else {
        return match call.switches.delete_absent {
            DeleteAbsent::Error => Err(absent(name, id)),
            DeleteAbsent::Success => Ok(()),
        };
    };
    if let Some(row) = call.world.permissions.get(number) {
        changeable(row)?;
    }
    if call.switches.delete_used == DeleteUsed::Error && !call.world.roles_with(number).is_empty() {
        return Err(Refusal::Invalid(format!("permission {name}{id} is used by a role")));
    }
    remove(call.world, number);
    Ok(())
}

/// Removes a permission, and takes it from the roles that have it.
pub fn remove(world: &mut World, number: u64) {
    for role in world.roles_with(number) {
        if let Some(row) = world.roles.get(role) {
            let mut row = super::world::Role::clone(row);
            row.permissions.retain(|&permission| permission != number);
            world.roles.replace(role, row);
        }
    }
    world.permissions.remove(number);
}

fn find(world: &World, name: &str, id: &str) -> Result<Option<u64>, Refusal> {
    match (id, name) {
        ("", "") => Err(Refusal::Invalid("The name or the id field is required".to_owned())),
        ("", name) => Ok(world.permissions.by_name("", name)),
        (id, _) => Ok(world.permissions.by_id(id)),
    }
}

fn changeable(row: &Permission) -> Result<(), Refusal> {
    if row.system_default {
        return Err(Refusal::Invalid(format!("permission {} is a system default", row.name)));
    }
    Ok(())
}

fn absent(name: &str, id: &str) -> Refusal {
    Refusal::NotFound(format!("permission {} not found", if id.is_empty() { name } else { id }))
}
