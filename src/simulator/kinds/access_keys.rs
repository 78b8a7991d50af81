//! Access keys. The cleartext is shown by create and rotate, once; `/_sim/state` shows it to tests.

use super::roles;
use super::stored;
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
use crate::simulator::view::Keyed;
use crate::simulator::view::Look;
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("accessKeys");

/// The kind.
pub const KIND: Stored =
    Stored { place: PLACE, routes: ROUTES, prefix: "K2", roles: &["roleNames", "keyTenants[].roleNames"], ..PLAIN };

const FIELDS: &[Field] = &[
    field("description", Content::Text).keeps(),
    field("expireTime", Content::Number).create_only(),
    field("boundUserId", Content::Text).computed(),
    field("roleNames", Content::Set).keeps(),
    field("keyTenants", Content::Things).keeps(),
    field("customClaims", Content::Map).keeps(),
    field("customAttributes", Content::Map).keeps(),
    field("permittedIps", Content::Set).keeps(),
    field("status", Content::Text).computed(),
    field("createdTime", Content::Number).computed(),
    field("createdBy", Content::Text).computed(),
    field("clientId", Content::Text).computed(),
    field("editable", Content::Flag).computed(),
    field("cleartext", Content::Text).secret(),
];

const ROUTES: &[Route] = &[
    write("POST", "/v1/mgmt/accesskey/create", create),
    read("GET", "/v1/mgmt/accesskey", |call| {
        let row = stored::late(call, PLACE, "access key", call.parameter("id")?)?;
        Ok(keyed(call, &row))
    }),
    read("POST", "/v1/mgmt/accesskey/search", search),
    write("POST", "/v1/mgmt/accesskey/update", update),
    write("POST", "/v1/mgmt/accesskey/rotate", rotate),
    write("POST", "/v1/mgmt/accesskey/activate", |call| one(call, "active")),
    write("POST", "/v1/mgmt/accesskey/activate/batch", |call| batch(call, "active")),
    write("POST", "/v1/mgmt/accesskey/deactivate", |call| one(call, "inactive")),
    write("POST", "/v1/mgmt/accesskey/deactivate/batch", |call| batch(call, "inactive")),
    write("POST", "/v1/mgmt/accesskey/delete", |call| stored::delete(call, PLACE, "access key")),
    write("POST", "/v1/mgmt/accesskey/delete/batch", |call| stored::delete_batch(call, PLACE, "access key")),
];

fn answer(look: &Look<'_>, row: &Entity) -> Document {
    let mut key = entity::shown(&row.fields, FIELDS, look);
    key.insert("id".to_owned(), json!(row.id));
    key.insert("name".to_owned(), json!(row.name));
    if look.switches.empty_key_roles {
        key.insert("roleNames".to_owned(), json!([]));
        key.insert("keyTenants".to_owned(), json!([]));
    }
    for tenant in key.get_mut("keyTenants").and_then(Value::as_array_mut).into_iter().flatten() {
        let id = tenant["tenantId"].as_str().unwrap_or_default();
        let table = look.world.table(tenants::SHELF);
        let name = table.by_id(id).and_then(|number| table.get(number)).map(|row| row.name.clone());
        tenant["tenantName"] = json!(name.unwrap_or_default());
        if let Some(names) = tenant["roleNames"].as_array().cloned() {
            tenant["roleNames"] = Value::Array(look.mixed(names));
        }
    }
    key
}

fn keyed(call: &mut Call<'_>, row: &Entity) -> Vec<u8> {
    let key = answer(&call.look(), row);
    view::bytes(&Keyed("key", key))
}

fn with_cleartext(call: &mut Call<'_>, row: &Entity) -> Vec<u8> {
    let key = answer(&call.look(), row);
    view::bytes(&json!({ "cleartext": row.text("cleartext"), "key": key }))
}

fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let name = fields.required("name")?;
    let user = fields.text("userId")?.unwrap_or_default();
    let mut row = Entity { name, ..Entity::default() };
    entity::create(&mut row.fields, FIELDS, &mut fields, call.switches)?;
    fields.end(call.switches)?;
    check(call, &mut row)?;
    row.id = call.world.new_id("K2");
    let (time, cleartext, client) = (call.world.new_time(), call.world.new_id("K2secret"), call.world.new_id("C2"));
    for (name, value) in [("boundUserId", json!(user)), ("status", json!("active")), ("createdTime", json!(time))] {
        row.set(name, value);
    }
    row.set("createdBy", "U2admin");
    row.set("clientId", client);
    row.set("editable", true);
    row.set("cleartext", cleartext);
    call.world.table_mut(PLACE).insert(row.clone());
    Ok(with_cleartext(call, &row))
}

fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut row) = stored::by_id(call.world, PLACE, "access key", &fields.required("id")?)?;
    row.name = fields.required("name")?;
    entity::overwrite(&mut row.fields, FIELDS, &mut fields, call.switches)?;
    check(call, &mut row)?;
    call.world.table_mut(PLACE).replace(number, row.clone());
    Ok(keyed(call, &row))
}

/// Roles and tenants must exist. Of a tenant only its id and roles are stored.
fn check(call: &Call<'_>, row: &mut Entity) -> Result<(), Refusal> {
    let table = call.world.table(roles::SHELF);
    let exists = |tenant: &str, name: &Value| {
        let name = name.as_str().unwrap_or_default();
        let found = table.by_name(tenant, name).or_else(|| table.by_name("", name));
        found.map(drop).ok_or_else(|| Refusal::absent("role", name))
    };
    for name in row.fields.get("roleNames").and_then(Value::as_array).into_iter().flatten() {
        exists("", name)?;
    }
    for key in row.fields.get_mut("keyTenants").and_then(Value::as_array_mut).into_iter().flatten() {
        let tenant = key["tenantId"].as_str().unwrap_or_default().to_owned();
        tenants::number(call.world, &tenant)?;
        let names = key["roleNames"].as_array().cloned().unwrap_or_default();
        for name in &names {
            exists(&tenant, name)?;
        }
        *key = json!({ "tenantId": tenant, "roleNames": names });
    }
    Ok(())
}

fn search(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenants = call.body.texts("tenantIds")?.unwrap_or_default();
    let bound = call.body.text("boundUserId")?.unwrap_or_default();
    let creator = call.body.text("creatingUser")?.unwrap_or_default();
    let attributes = call.body.object("customAttributes")?.unwrap_or_default();
    let text = call.body.text("text")?.unwrap_or_default().to_lowercase();
    call.body.take("sort");
    call.ends()?;
    let is_found = |row: &Entity| {
        let of = row.fields.get("keyTenants").and_then(Value::as_array);
        let mut of = of.into_iter().flatten().filter_map(|key| key["tenantId"].as_str());
        (tenants.is_empty() || of.any(|id| tenants.iter().any(|tenant| tenant == id)))
            && (bound.is_empty() || row.text("boundUserId") == bound)
            && (creator.is_empty() || row.text("createdBy") == creator)
            && attributes.iter().all(|(name, value)| row.fields["customAttributes"].get(name) == Some(value))
            && (row.name.to_lowercase().contains(&text) || row.text("description").to_lowercase().contains(&text))
    };
    let rows = call.rows(PLACE, is_found);
    let look = call.look();
    Ok(view::bytes(&Keyed("keys", rows.iter().map(|row| answer(&look, row)).collect::<Vec<_>>())))
}

fn rotate(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let (number, mut row) = stored::by_id(call.world, PLACE, "access key", &call.body.required("id")?)?;
    call.ends()?;
    let cleartext = call.world.new_id("K2secret");
    row.set("cleartext", cleartext);
    call.world.table_mut(PLACE).replace(number, row.clone());
    Ok(with_cleartext(call, &row))
}

fn one(call: &mut Call<'_>, status: &str) -> Result<Vec<u8>, Refusal> {
    let id = call.body.required("id")?;
    call.ends()?;
    set_status(call, &id, status)
}

fn batch(call: &mut Call<'_>, status: &str) -> Result<Vec<u8>, Refusal> {
    let ids = call.body.texts("ids")?.unwrap_or_default();
    call.ends()?;
    for id in ids {
        set_status(call, &id, status)?;
    }
    Ok(Call::nothing())
}

fn set_status(call: &mut Call<'_>, id: &str, status: &str) -> Result<Vec<u8>, Refusal> {
    let (number, mut row) = stored::by_id(call.world, PLACE, "access key", id)?;
    row.set("status", status);
    call.world.table_mut(PLACE).replace(number, row);
    Ok(Call::nothing())
}
