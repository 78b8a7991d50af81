//! The contents of a world as a document: what `/_sim/state` answers and takes.

use super::fields::Document;
use super::fields::Fields;
use super::refusal::Refusal;
use super::table::Row;
use super::table::Table;
use super::view::Depth;
use super::view::View;
use super::world::World;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;

/// Everything in a world, including what the API never returns.
#[derive(Debug)]
pub struct Contents<'a>(pub &'a World);

impl Serialize for Contents<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("permissions", &rows(self.0, &self.0.permissions))?;
        map.serialize_entry("roles", &rows(self.0, &self.0.roles))?;
        map.serialize_entry("tenants", &rows(self.0, &self.0.tenants))?;
        map.end()
    }
}

fn rows<'a, T: Row>(world: &'a World, table: &'a Table<T>) -> Vec<View<'a, T>> {
    table.iter().map(|(_, row)| View { world, row: &**row, depth: Depth::All }).collect()
}

/// A world with these contents. A list that is left out is what a new project has; system permissions are always there.
pub fn read(document: Document, seed: u64) -> Result<World, Refusal> {
    let mut world = World::empty(seed);
    let start = world.mark();
    let given = |name: &str| document.get(name).is_some_and(|list| !list.is_null());
    let (has_permissions, has_roles) = (given("permissions"), given("roles"));
    let mut fields = Fields::new(document);
    if !has_permissions {
        world.add_system_permissions();
    }
    for item in fields.items("permissions")? {
        put_permission(&mut world, item)?;
    }
    world.add_system_permissions();
    if !has_roles {
        world.add_builtin_role();
    }
    for item in fields.items("roles")? {
        put_role(&mut world, item)?;
    }
    for item in fields.items("tenants")? {
        put_tenant(&mut world, item)?;
    }
    if let Some(unknown) = fields.rest().keys().next() {
        return Err(Refusal::Invalid(format!("a state has permissions, roles and tenants, no {unknown}")));
    }
    world.settle(start);
    Ok(world)
}

/// Merges fields into the entity that the document identifies, or adds it. Errs without having changed anything.
pub fn put(world: &mut World, kind: &str, fields: Fields) -> Result<(), Refusal> {
    match kind {
        "permissions" => put_permission(world, fields),
        "roles" => put_role(world, fields),
        "tenants" => put_tenant(world, fields),
        _ => Err(Refusal::NoSuchCall),
    }
}

/// Removes an entity, whoever refers to it; a tenant takes its roles along.
pub fn delete(world: &mut World, kind: &str, tenant: &str, key: &str) -> Result<(), Refusal> {
    let absent = || Refusal::NotFound(format!("{kind} {key} not found"));
    match kind {
        "permissions" => {
            let number = world.permissions.by_name("", key).ok_or_else(absent)?;
            super::permission::remove(world, number);
        }
        "roles" => {
            let number = world.roles.by_name(tenant, key).ok_or_else(absent)?;
            super::role::remove(world, number);
        }
        "tenants" => {
            let number = world.tenants.by_id(key).ok_or_else(absent)?;
            super::tenant::remove(world, number);
        }
        _ => return Err(Refusal::NoSuchCall),
    }
    Ok(())
}

fn put_permission(world: &mut World, mut fields: Fields) -> Result<(), Refusal> {
    let name = fields.required("name")?;
    let number = world.permissions.by_name("", &name);
    let mut row =
        number.and_then(|number| world.permissions.get(number)).map(|row| (**row).clone()).unwrap_or_default();
    row.name = name;
    set(&mut row.id, fields.text("id")?);
    set(&mut row.description, fields.text("description")?);
    set(&mut row.system_default, fields.flag("systemDefault")?);
    merge(&mut row.extra, fields.rest());
    if row.id.is_empty() {
        row.id = world.new_id("PERM");
    }
    match number {
        Some(number) => world.permissions.replace(number, row),
        None => drop(world.permissions.insert(row)),
    }
    Ok(())
}

fn put_role(world: &mut World, mut fields: Fields) -> Result<(), Refusal> {
    let (name, tenant) = (fields.required("name")?, fields.text("tenantId")?.unwrap_or_default());
    let number = world.roles.by_name(&tenant, &name);
    let mut row = number.and_then(|number| world.roles.get(number)).map(|row| (**row).clone()).unwrap_or_default();
    (row.name, row.tenant) = (name, tenant);
    set(&mut row.id, fields.text("id")?);
    set(&mut row.description, fields.text("description")?);
    set(&mut row.default, fields.flag("default")?);
    set(&mut row.private, fields.flag("private")?);
    set(&mut row.created_time, fields.integer("createdTime")?);
    if let Some(names) = fields.texts("permissionNames")? {
        let find = |name: String| {
            world.permissions.by_name("", &name).ok_or_else(|| Refusal::Invalid(format!("permission {name} not found")))
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
    match number {
        Some(number) => world.roles.replace(number, row),
        None => drop(world.roles.insert(row)),
    }
    Ok(())
}

fn put_tenant(world: &mut World, mut fields: Fields) -> Result<(), Refusal> {
    let id = fields.required("id")?;
    let number = world.tenants.by_id(&id);
    let mut row = number.and_then(|number| world.tenants.get(number)).map(|row| (**row).clone()).unwrap_or_default();
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
    set(&mut row.settings, fields.object("settings")?);
    if let Some(names) = fields.texts("defaultRoles")? {
        let find = |name: String| {
            world.roles.by_name("", &name).ok_or_else(|| Refusal::Invalid(format!("role {name} not found")))
        };
        row.default_roles = names.into_iter().map(find).collect::<Result<_, _>>()?;
    }
    merge(&mut row.extra, fields.rest());
    if row.created_time == 0 {
        row.created_time = world.new_time();
    }
    match number {
        Some(number) => world.tenants.replace(number, row),
        None => drop(world.tenants.insert(row)),
    }
    Ok(())
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Null takes an extra field away.
fn merge(extra: &mut Document, changes: Document) {
    for (name, value) in changes {
        if value.is_null() {
            extra.remove(&name);
        } else {
            extra.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    fn write(world: &World) -> Value {
        json!(Contents(world))
    }

    fn document(value: &Value) -> Document {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let given = document(&json!({
            "permissions": [{ "name": "doc:read", "note": "ours" }],
            "roles": [{ "name": "Editor", "permissionNames": ["doc:read", "SSO Admin"] }, { "name": "Owner", "tenantId": "acme" }],
            "tenants": [{ "id": "acme", "parent": "root", "federatedAppIds": ["a"], "defaultRoles": ["Editor"], "region": "eu" }],
        }));
        let first = write(&read(given, 1).unwrap());

        let second = write(&read(document(&first), 2).unwrap());

        assert_eq!(first, second);
        assert_eq!(first["tenants"][0]["region"], "eu");
        assert_eq!(first["tenants"][0]["parent"], "root");
    }

    #[test]
    fn a_list_left_out_is_that_of_a_new_project_and_an_empty_one_is_empty() {
        let new = write(&read(document(&json!({})), 1).unwrap());
        let none = write(&read(document(&json!({ "permissions": [], "roles": [] })), 1).unwrap());

        assert_eq!(new, write(&World::new(1)));
        assert_eq!(none["roles"], json!([]));
        assert_eq!(none["permissions"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn merging_changes_what_is_given_and_null_removes_an_extra_field() {
        let mut world = World::new(1);
        let fields = |value: Value| Fields::new(document(&value));
        put(&mut world, "tenants", fields(json!({ "id": "acme", "name": "Acme", "region": "eu", "tier": 1 }))).unwrap();

        put(&mut world, "tenants", fields(json!({ "id": "acme", "disabled": true, "tier": null }))).unwrap();

        let acme = &write(&world)["tenants"][0];
        assert_eq!((&acme["name"], &acme["disabled"], &acme["region"]), (&json!("Acme"), &json!(true), &json!("eu")));
        assert!(acme.get("tier").is_none());
    }
}
