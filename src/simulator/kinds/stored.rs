//! A kind whose entities are documents: what all of them have in common, so that a kind says only what it has alone.

use super::Kind;
use super::Target;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::entity::Entity;
use crate::simulator::fields::Document;
use crate::simulator::fields::Fields;
use crate::simulator::refusal::Refusal;
use crate::simulator::state::merge;
use crate::simulator::table::Table;
use crate::simulator::view;
use crate::simulator::world::AnyTable;
use crate::simulator::world::Shelf;
use crate::simulator::world::World;
use serde_json::Value;
use serde_json::json;

/// A kind of documents.
#[derive(Debug)]
pub struct Stored {
    /// Where they are.
    pub place: Shelf<Entity>,
    /// Its calls.
    pub routes: &'static [Route],
    /// What identifies one.
    pub key: Key,
    /// How ids that the server chooses begin.
    pub prefix: &'static str,
    /// Fields of requests that the log hides.
    pub secrets: &'static [&'static str],
    /// What a new project has.
    pub start: &'static [fn(&mut World)],
    /// Where roles are named: a path through the fields, `[]` for every item of a list.
    pub roles: &'static [&'static str],
}

/// What identifies an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Its id.
    Id,
    /// Its name.
    Name,
    /// Its tenant, of which each has one; the project, an empty one.
    Tenant,
    /// Its tenant and its id.
    InTenant,
    /// Nothing: there is one.
    One,
}

/// As most kinds are.
pub const PLAIN: Stored =
    Stored { place: Shelf::new(""), routes: &[], key: Key::Id, prefix: "", secrets: &[], start: &[], roles: &[] };

impl Kind for Stored {
    fn name(&self) -> &'static str {
        self.place.kind()
    }

    fn routes(&self) -> &'static [Route] {
        self.routes
    }

    fn table(&self) -> Option<Box<dyn AnyTable>> {
        Some(Box::new(Table::<Entity>::default()))
    }

    fn key(&self) -> &'static str {
        match self.key {
            Key::Id | Key::InTenant => "id",
            Key::Name => "name",
            Key::Tenant => "tenantId",
            Key::One => "key",
        }
    }

    fn start(&self, world: &mut World) {
        for start in self.start {
            start(world);
        }
    }

    fn put(&self, world: &mut World, mut fields: Fields) -> Result<(), Refusal> {
        let id = fields.text("id")?.unwrap_or_default();
        // Elsewhere it is a field like others.
        let is_of_tenant = matches!(self.key, Key::Tenant | Key::InTenant);
        let tenant = if is_of_tenant { fields.text("tenantId")?.unwrap_or_default() } else { String::new() };
        let name = fields.text("name")?.unwrap_or_default();
        fields.take("key");
        let number = self.number(world, &tenant, &id, &name);
        let mut row = number.and_then(|number| world.table(self.place).copy(number)).unwrap_or_default();
        if !name.is_empty() {
            row.name = name;
        }
        if !id.is_empty() {
            row.id = id;
        }
        row.tenant = tenant;
        if self.key == Key::InTenant {
            row.name.clone_from(&row.id);
        }
        if row.id.is_empty() && self.key == Key::Id {
            row.id = world.new_id(self.prefix);
        }
        merge(&mut row.fields, fields.rest());
        world.table_mut(self.place).put_row(number, row);
        Ok(())
    }

    fn remove(&self, world: &mut World, tenant: &str, key: &str) -> Result<(), Refusal> {
        let number = self.number(world, if self.key == Key::Tenant { key } else { tenant }, key, key);
        let number = number.ok_or_else(|| Refusal::absent(self.name(), key))?;
        world.table_mut(self.place).remove(number);
        Ok(())
    }

    fn refers(&self, world: &World, target: &Target) -> bool {
        target.kind == super::roles::SHELF.kind()
            && world.table(self.place).iter().any(|(_, row)| {
                let mut fields = row.fields.clone();
                self.roles.iter().any(|path| relink(&mut fields, path, &row.tenant, target, None))
            })
    }

    /// Documents of a tenant go with it, and so does what names it inside; names of roles follow.
    fn follow(&self, world: &mut World, target: &Target, new_name: Option<&str>) {
        if target.kind == super::tenants::SHELF.kind() && new_name.is_none() {
            for number in world.table(self.place).of_tenant(&target.id) {
                world.table_mut(self.place).remove(number);
            }
            if self.roles.iter().any(|path| path.starts_with("keyTenants")) {
                self.change(world, &target.id, |row| {
                    if let Some(Value::Array(keys)) = row.fields.get_mut("keyTenants") {
                        keys.retain(|key| key["tenantId"] != json!(target.id));
                    }
                });
            }
        }
        if target.kind == super::roles::SHELF.kind() && !self.roles.is_empty() {
            self.change(world, &target.name, |row| {
                let tenant = row.tenant.clone();
                for path in self.roles {
                    relink(&mut row.fields, path, &tenant, target, new_name);
                }
            });
        }
    }

    fn secrets(&self) -> &'static [&'static str] {
        self.secrets
    }
}

impl Stored {
    /// Changes every row that has this text somewhere.
    fn change(&self, world: &mut World, text: &str, change: impl Fn(&mut Entity)) {
        let has = |fields: &Document| fields.values().any(|value| mentions(value, text));
        let rows = world.table(self.place).iter().filter(|(_, row)| has(&row.fields));
        for (number, mut row) in rows.map(|(number, row)| (number, Entity::clone(row))).collect::<Vec<_>>() {
            let before = row.fields.clone();
            change(&mut row);
            if row.fields != before {
                world.table_mut(self.place).replace(number, row);
            }
        }
    }

    fn number(&self, world: &World, tenant: &str, id: &str, name: &str) -> Option<u64> {
        let table = world.table(self.place);
        match self.key {
            Key::Id => table.by_id(id),
            Key::Name => table.by_name("", name),
            Key::Tenant => table.of_tenant(tenant).first().copied(),
            Key::InTenant => in_tenant(world, self.place, tenant, id),
            Key::One => table.iter().next().map(|(number, _)| number),
        }
    }
}

/// The entity of a tenant with this id.
pub fn in_tenant(world: &World, place: Shelf<Entity>, tenant: &str, id: &str) -> Option<u64> {
    let table = world.table(place);
    let mut of_tenant = table.of_tenant(tenant).into_iter();
    of_tenant.find(|&number| table.get(number).is_some_and(|row| row.id == id))
}

fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own == text,
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Renames a role wherever the path leads, or takes it away; says whether it was there.
fn relink(fields: &mut Document, path: &str, tenant: &str, role: &Target, new_name: Option<&str>) -> bool {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let (name, many) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
    let Some(value) = fields.get_mut(name) else { return false };
    let of_role = |value: &Value| value.as_str() == Some(&role.name);
    match (value, rest) {
        (Value::Object(object), Some(rest)) => relink(object, rest, tenant, role, new_name),
        (Value::Array(items), Some(rest)) if many => {
            let mut found = false;
            items.retain_mut(|item| {
                let Value::Object(item) = item else { return true };
                let tenant = item.get("tenantId").and_then(Value::as_str).unwrap_or(tenant).to_owned();
                let here = relink(item, rest, &tenant, role, new_name);
                found |= here;
                // An item that is about one role goes with it.
                !(here && new_name.is_none() && matches!(rest, "roleName" | "name"))
            });
            found
        }
        (Value::Array(names), None) if is_meant(tenant, role) => {
            let found = names.iter().any(of_role);
            match new_name {
                Some(new_name) => {
                    names.iter_mut().filter(|name| of_role(name)).for_each(|name| *name = json!(new_name));
                }
                None => names.retain(|name| !of_role(name)),
            }
            found
        }
        (value @ Value::String(_), None) if is_meant(tenant, role) && of_role(value) => {
            *value = json!(new_name.unwrap_or_default());
            true
        }
        _ => false,
    }
}

/// A role of the project may be named anywhere, one of a tenant only in what belongs to it.
fn is_meant(tenant: &str, role: &Target) -> bool {
    role.tenant.is_empty() || role.tenant == tenant
}

/// The row with this id, to be changed and put back.
pub fn by_id(world: &World, place: Shelf<Entity>, what: &str, id: &str) -> Result<(u64, Entity), Refusal> {
    let table = world.table(place);
    let found = table.by_id(id).and_then(|number| Some((number, table.copy(number)?)));
    found.ok_or_else(|| Refusal::absent(what, id))
}

/// The one row of a kind that has one, or one for each tenant; a new one where nothing was written yet.
pub fn single(world: &World, place: Shelf<Entity>, tenant: &str) -> (Option<u64>, Entity) {
    let table = world.table(place);
    let number = table.of_tenant(tenant).first().copied();
    let row = number.and_then(|number| table.copy(number));
    (number, row.unwrap_or_else(|| Entity { tenant: tenant.to_owned(), ..Entity::default() }))
}

/// The same for a read, as late as the switches say.
pub fn single_late(call: &Call<'_>, place: Shelf<Entity>, tenant: &str) -> Entity {
    let (number, _) = single(call.world, place, tenant);
    let row = number.and_then(|number| call.loaded(place, number)).map(|row| Entity::clone(&row));
    row.unwrap_or_else(|| Entity { tenant: tenant.to_owned(), ..Entity::default() })
}

/// One of the kind with this id, as late as the switches say.
pub fn late(call: &Call<'_>, place: Shelf<Entity>, what: &str, id: &str) -> Result<Entity, Refusal> {
    let number = call.world.table(place).by_id(id);
    let row = number.and_then(|number| call.loaded(place, number)).map(|row| Entity::clone(&row));
    row.ok_or_else(|| Refusal::absent(what, id))
}

/// Refuses a name that another one has.
pub fn free_name(world: &World, place: Shelf<Entity>, what: &str, name: &str, own: Option<u64>) -> Result<(), Refusal> {
    match world.table(place).by_name("", name) {
        Some(taken) if Some(taken) != own => Err(Refusal::Exists(format!("{what} {name} already exists"))),
        Some(_) | None => Ok(()),
    }
}

/// Deletes the one that `id` in the body names.
pub fn delete(call: &mut Call<'_>, place: Shelf<Entity>, what: &str) -> Result<Vec<u8>, Refusal> {
    let id = call.body.required("id")?;
    call.ends()?;
    delete_id(call, place, what, &id).map(|()| Call::nothing())
}

/// Deletes those that `ids` in the body names.
pub fn delete_batch(call: &mut Call<'_>, place: Shelf<Entity>, what: &str) -> Result<Vec<u8>, Refusal> {
    let ids = call.body.texts("ids")?.unwrap_or_default();
    call.ends()?;
    if ids.is_empty() {
        return Err(Refusal::required("ids"));
    }
    for id in ids {
        delete_id(call, place, what, &id)?;
    }
    Ok(Call::nothing())
}

fn delete_id(call: &mut Call<'_>, place: Shelf<Entity>, what: &str, id: &str) -> Result<(), Refusal> {
    match by_id(call.world, place, what, id) {
        Ok((number, _)) => call.world.table_mut(place).remove(number),
        Err(refusal) => call.absent(refusal)?,
    }
    Ok(())
}

/// A list answer made of documents.
pub fn listed(
    call: &mut Call<'_>,
    place: Shelf<Entity>,
    key: &'static str,
    answer: fn(&view::Look<'_>, &Entity) -> Document,
) -> Vec<u8> {
    let rows = call.rows(place, |_| true);
    let look = call.look();
    view::bytes(&view::Keyed(key, rows.iter().map(|row| answer(&look, row)).collect::<Vec<_>>()))
}
