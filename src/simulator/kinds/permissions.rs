//! Permissions: what roles grant.

use super::Kind;
use super::Target;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::fields::Document;
use crate::simulator::fields::Fields;
use crate::simulator::options::EmptyDelete;
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
use serde_json::json;

/// Where they are.
pub const SHELF: Shelf<Permission> = Shelf::new("permissions");
/// Permissions that every project has and nobody may change.
pub const SYSTEM: [&str; 3] = ["Impersonate", "User Admin", "SSO Admin"];

const ROUTES: &[Route] = &[
    read("GET", "/v1/mgmt/permission/all", all),
    project_write("POST", "/v1/mgmt/permission/create", create),
    project_write("POST", "/v1/mgmt/permission/create/batch", create_batch),
    project_write("POST", "/v1/mgmt/permission/update", update),
    project_write("POST", "/v1/mgmt/permission/update/batch", update_batch),
    project_write("POST", "/v1/mgmt/permission/delete", delete),
    project_write("POST", "/v1/mgmt/permission/delete/batch", delete_batch),
];

/// The kind.
#[derive(Debug)]
pub struct Permissions;

/// A permission.
#[derive(Debug, Clone, Default)]
pub struct Permission {
    pub id: String,
    pub name: String,
    pub description: String,
    pub system_default: bool,
    pub extra: Document,
}

impl Row for Permission {
    fn id(&self) -> &str {
        &self.id
    }
    fn tenant(&self) -> &'static str {
        ""
    }
    fn name(&self) -> &str {
        &self.name
    }
}

impl Shown for Permission {
    fn write<M: SerializeMap>(&self, _: &Look<'_>, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("description", &self.description)?;
        map.serialize_entry("systemDefault", &self.system_default)
    }
    fn extra(&self) -> &Document {
        &self.extra
    }
}

impl Kind for Permissions {
    fn name(&self) -> &'static str {
        SHELF.kind()
    }

    fn routes(&self) -> &'static [Route] {
        ROUTES
    }

    fn table(&self) -> Option<Box<dyn AnyTable>> {
        Some(Box::new(Table::<Permission>::default()))
    }

    fn complete(&self, world: &mut World) {
        for name in SYSTEM {
            if world.table(SHELF).by_name("", name).is_none() {
                let id = world.new_id("PERM");
                let permission =
                    Permission { id, name: name.to_owned(), system_default: true, ..Permission::default() };
                world.table_mut(SHELF).insert(permission);
            }
        }
    }

    fn put(&self, world: &mut World, mut fields: Fields) -> Result<(), Refusal> {
        let name = fields.required("name")?;
        let number = world.table(SHELF).by_name("", &name);
        let mut row = number.and_then(|number| world.table(SHELF).copy(number)).unwrap_or_default();
        row.name = name;
        set(&mut row.id, fields.text("id")?);
        set(&mut row.description, fields.text("description")?);
        set(&mut row.system_default, fields.flag("systemDefault")?);
        merge(&mut row.extra, fields.rest());
        if row.id.is_empty() {
            row.id = world.new_id("PERM");
        }
        world.table_mut(SHELF).put_row(number, row);
        Ok(())
    }

    fn remove(&self, world: &mut World, _: &str, key: &str) -> Result<(), Refusal> {
        let number = world.table(SHELF).by_name("", key).ok_or_else(|| Refusal::absent("permission", key))?;
        if let Some(row) = world.table(SHELF).copy(number) {
            remove(world, &target(number, &row));
        }
        Ok(())
    }
}

/// `permission/all`.
pub fn all(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    call.ends()?;
    let list = call.listed("permissions", SHELF, |_| true);
    if !call.switches.app_entries {
        return Ok(list);
    }
    let named = call.world.table(SHELF).iter().map(|(_, row)| &row.name).find(|name| !SYSTEM.contains(&name.as_str()));
    let entries = named.into_iter().map(String::as_str).chain(["app:use"]).enumerate();
    let entries = entries.map(|(at, name)| json!({ "id": format!("PERMapp{at}"), "name": name, "description": "of an application", "systemDefault": false, "appId": "app" }));
    Ok(with_entries(&list, "permissions", entries))
}

/// `permission/create`.
pub fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let fields = std::mem::take(&mut call.body);
    create_one(call, fields).map(|_| Call::nothing())
}

/// `permission/create/batch`.
pub fn create_batch(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("permissions")?.unwrap_or_default();
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
    let items = call.body.items("permissions")?.unwrap_or_default();
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
                let rows = call.world.table(SHELF).iter().filter(|(_, row)| !row.system_default);
                for target in rows.map(|(number, row)| target(number, row)).collect::<Vec<_>>() {
                    remove(call.world, &target);
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
    if call.world.table(SHELF).by_name("", &name).is_some() {
        return Err(Refusal::Exists(format!("permission {name} already exists")));
    }
    let id = call.world.new_id("PERM");
    Ok(call.world.table_mut(SHELF).insert(Permission { id, name, description, ..Permission::default() }))
}

fn update_one(call: &mut Call<'_>, mut fields: Fields) -> Result<u64, Refusal> {
    let (name, id) = (fields.text("name")?.unwrap_or_default(), fields.text("id")?.unwrap_or_default());
    let number = find(call.world, &name, &id)?.ok_or_else(|| absent(&name, &id))?;
    let mut row = call.world.table(SHELF).copy(number).ok_or_else(|| absent(&name, &id))?;
    changeable(&row)?;
    let before = target(number, &row);
    let new_name = fields.required("newName")?;
    // What is left out becomes empty.
    row.description = fields.text("description")?.unwrap_or_default();
    row.extra = fields.extra(&row.extra, call.switches)?;
    if call.world.table(SHELF).by_name("", &new_name).is_none_or(|taken| taken == number) {
        row.name = new_name;
    } else if call.switches.rename_collision == RenameCollision::Error {
        return Err(Refusal::Exists(format!("permission {new_name} already exists")));
    }
    super::renamed(call.world, &before, &row.name);
    call.world.table_mut(SHELF).replace(number, row);
    Ok(number)
}

fn delete_one(call: &mut Call<'_>, name: &str, id: &str) -> Result<(), Refusal> {
    let found = find(call.world, name, id)?.and_then(|number| Some((number, call.world.table(SHELF).copy(number)?)));
    let Some((number, row)) = found else { return call.absent(absent(name, id)) };
    changeable(&row)?;
    call.remove(&target(number, &row), remove)
}

/// Removes a permission, and takes it from whatever has it.
fn remove(world: &mut World, target: &Target) {
    super::let_go(world, target);
    world.table_mut(SHELF).remove(target.number);
}

fn target(number: u64, row: &Permission) -> Target {
    Target { kind: SHELF.kind(), number, id: row.id.clone(), tenant: String::new(), name: row.name.clone() }
}

fn find(world: &World, name: &str, id: &str) -> Result<Option<u64>, Refusal> {
    match (id, name) {
        ("", "") => Err(Refusal::Invalid("The name or the id field is required".to_owned())),
        ("", name) => Ok(world.table(SHELF).by_name("", name)),
        (id, _) => Ok(world.table(SHELF).by_id(id)),
    }
}

fn changeable(row: &Permission) -> Result<(), Refusal> {
    if row.system_default {
        return Err(Refusal::Invalid(format!("permission {} is a system default", row.name)));
    }
    Ok(())
}

fn absent(name: &str, id: &str) -> Refusal {
    Refusal::absent("permission", if id.is_empty() { name } else { id })
}

/// A list answer with more entries at its end.
pub fn with_entries(list: &[u8], key: &'static str, entries: impl Iterator<Item = Value>) -> Vec<u8> {
    let mut list: Value = serde_json::from_slice(list).unwrap_or_default();
    if let Some(items) = list.get_mut(key).and_then(Value::as_array_mut) {
        items.extend(entries);
    }
    view::bytes(&Keyed(key, &list[key]))
}
