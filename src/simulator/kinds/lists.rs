//! Lists of texts, addresses or JSON that flows read.

use super::stored;
use super::stored::PLAIN;
use super::stored::Stored;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::entity;
use crate::simulator::entity::Content;
use crate::simulator::entity::Entity;
use crate::simulator::entity::Field;
use crate::simulator::entity::field;
use crate::simulator::fields::Document;
use crate::simulator::fields::Fields;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::view::Look;
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("lists");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, prefix: "L2", ..PLAIN };

const FIELDS: &[Field] = &[
    field("description", Content::Text),
    field("type", Content::OneOf(&["texts", "ips", "json"])),
    // Never shuffled: its order may mean something.
    field("data", Content::Any),
];

const ROUTES: &[Route] = &[
    read("GET", "/v1/mgmt/list/all", |call| {
        call.ends()?;
        Ok(stored::listed(call, PLACE, "lists", answer))
    }),
    read("GET", "/v1/mgmt/list", |call| {
        query_form(call)?;
        load(call)
    }),
    read("GET", "/v1/mgmt/list/name", |call| {
        query_form(call)?;
        load_by_name(call)
    }),
    read("GET", "/v1/mgmt/list/{id}", load),
    read("GET", "/v1/mgmt/list/name/{name}", load_by_name),
    project_write("POST", "/v1/mgmt/list", create),
    project_write("POST", "/v1/mgmt/list/update", update),
    project_write("POST", "/v1/mgmt/list/delete", |call| stored::delete(call, PLACE, "list")),
    project_write("POST", "/v1/mgmt/list/import", import),
    project_write("POST", "/v1/mgmt/list/clear", clear),
    project_write("POST", "/v1/mgmt/list/ip/add", |call| edit(call, "ips", true)),
    project_write("POST", "/v1/mgmt/list/ip/remove", |call| edit(call, "ips", false)),
    project_write("POST", "/v1/mgmt/list/text/add", |call| edit(call, "texts", true)),
    project_write("POST", "/v1/mgmt/list/text/remove", |call| edit(call, "texts", false)),
    read("POST", "/v1/mgmt/list/ip/check", |call| check(call, "ip", "ips")),
    read("POST", "/v1/mgmt/list/text/check", |call| check(call, "text", "texts")),
];

fn answer(look: &Look<'_>, row: &Entity) -> Document {
    let mut answer = entity::shown(&row.fields, FIELDS, look);
    answer.insert("id".to_owned(), json!(row.id));
    answer.insert("name".to_owned(), json!(row.name));
    if answer["data"].is_null() {
        answer.insert("data".to_owned(), empty(row.text("type")));
    }
    answer
}

fn empty(sort: &str) -> Value {
    if sort == "json" { json!({}) } else { json!([]) }
}

fn answered(call: &mut Call<'_>, row: &Entity) -> Vec<u8> {
    let list = answer(&call.look(), row);
    view::bytes(&Keyed("list", list))
}

/// The description of the API knows the form with the path alone.
fn query_form(call: &Call<'_>) -> Result<(), Refusal> {
    if call.switches.list_query_form { Ok(()) } else { Err(Refusal::NoSuchCall) }
}

fn load(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let row = stored::late(call, PLACE, "list", call.parameter("id")?)?;
    Ok(answered(call, &row))
}

fn load_by_name(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let name = call.parameter("name")?;
    let number = call.world.table(PLACE).by_name("", name);
    let row = number.and_then(|number| call.loaded(PLACE, number)).ok_or_else(|| Refusal::absent("list", name))?;
    Ok(answered(call, &row))
}

fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let name = fields.required("name")?;
    let mut row = Entity { name, ..Entity::default() };
    overwrite(call, &mut row, fields)?;
    stored::free_name(call.world, PLACE, "list", &row.name, None)?;
    row.id = call.world.new_id("L2");
    call.world.table_mut(PLACE).insert(row.clone());
    Ok(answered(call, &row))
}

fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut row) = stored::by_id(call.world, PLACE, "list", &fields.required("id")?)?;
    row.name = fields.required("name")?;
    overwrite(call, &mut row, fields)?;
    stored::free_name(call.world, PLACE, "list", &row.name, Some(number))?;
    call.world.table_mut(PLACE).replace(number, row.clone());
    Ok(answered(call, &row))
}

/// Creates or updates by id; lists that it does not mention stay.
fn import(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("lists")?.unwrap_or_default();
    call.ends()?;
    for mut fields in items {
        let id = fields.required("id")?;
        let number = call.world.table(PLACE).by_id(&id);
        let mut row = number.and_then(|number| call.world.table(PLACE).copy(number)).unwrap_or_default();
        row.id = id;
        row.name = fields.required("name")?;
        overwrite(call, &mut row, fields)?;
        stored::free_name(call.world, PLACE, "list", &row.name, number)?;
        call.world.table_mut(PLACE).put_row(number, row);
    }
    Ok(Call::nothing())
}

fn overwrite(call: &Call<'_>, row: &mut Entity, mut fields: Fields) -> Result<(), Refusal> {
    entity::overwrite(&mut row.fields, FIELDS, &mut fields, call.switches)?;
    let sort = row.text("type").to_owned();
    if sort.is_empty() {
        return Err(Refusal::required("type"));
    }
    match row.fields.get("data") {
        None => row.set("data", empty(&sort)),
        Some(Value::Object(_)) if sort == "json" => {}
        Some(data) if sort != "json" => drop(entity::texts(data, "data")?),
        Some(_) => return Err(Refusal::Invalid("the data of a list of the type json is an object".to_owned())),
    }
    Ok(())
}

fn clear(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let (number, mut row) = stored::by_id(call.world, PLACE, "list", &call.body.required("id")?)?;
    call.ends()?;
    let none = empty(row.text("type"));
    row.set("data", none);
    call.world.table_mut(PLACE).replace(number, row);
    Ok(Call::nothing())
}

/// Adds at the end what is not there yet, or removes what is; the rest keeps its order.
fn edit(call: &mut Call<'_>, sort: &'static str, adds: bool) -> Result<Vec<u8>, Refusal> {
    let (number, mut row) = stored::by_id(call.world, PLACE, "list", &call.body.required("id")?)?;
    let given = call.body.texts(sort)?.unwrap_or_default();
    call.ends()?;
    if row.text("type") != sort {
        return Err(Refusal::Invalid(format!("list {} is not of the type {sort}", row.name)));
    }
    let mut data = entity::texts(row.fields.get("data").unwrap_or(&json!([])), "data")?;
    if adds {
        for text in given {
            if !data.contains(&text) {
                data.push(text);
            }
        }
    } else {
        data.retain(|text| !given.contains(text));
    }
    row.set("data", data);
    call.world.table_mut(PLACE).replace(number, row);
    Ok(Call::nothing())
}

/// One, any, or all of them are in the list. Addresses are compared as they are written.
fn check(call: &mut Call<'_>, one: &str, many: &str) -> Result<Vec<u8>, Refusal> {
    let id = call.body.required("id")?;
    let row = stored::late(call, PLACE, "list", &id)?;
    let asked: Vec<String> =
        call.body.text(one)?.into_iter().chain(call.body.texts(many)?.unwrap_or_default()).collect();
    let all = call.body.flag("matchAll")?.unwrap_or_default();
    call.ends()?;
    let data = entity::texts(row.fields.get("data").unwrap_or(&json!([])), "data")?;
    let exists =
        if all { asked.iter().all(|text| data.contains(text)) } else { asked.iter().any(|text| data.contains(text)) };
    Ok(view::bytes(&Keyed("exists", exists)))
}
