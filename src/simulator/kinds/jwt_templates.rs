//! JWT templates. A body must be an object whose strings close every `{{` that they open.

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

const PLACE: Shelf<Entity> = Shelf::new("jwtTemplates");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, prefix: "JT", ..PLAIN };

const FIELDS: &[Field] = &[
    field("description", Content::Text),
    field("template", Content::Map),
    field("source", Content::Text),
    field("tags", Content::Set),
    field("authSchema", Content::OneOf(&["default", "tenantOnly", "none"])),
    field("type", Content::OneOf(&["user", "key"])),
    field("conformanceIssuer", Content::Flag),
    field("autoDCT", Content::Flag),
    field("enforceIssuer", Content::Flag),
    field("emptyClaimPolicy", Content::OneOf(&["none", "nil", "delete"])),
    field("overrideSubject", Content::Flag),
    field("issuerType", Content::Text),
    field("omitCustomClaimsFromDSR", Content::Flag),
    field("addJti", Content::Flag),
    field("excludePermissions", Content::Flag),
];

const ROUTES: &[Route] = &[
    project_write("POST", "/v1/mgmt/jwt/templates/create", create),
    project_write("POST", "/v1/mgmt/jwt/templates/update", update),
    project_write("POST", "/v1/mgmt/jwt/templates/delete", |call| stored::delete(call, PLACE, "template")),
    read("POST", "/v1/mgmt/jwt/templates/list", |call| {
        call.ends()?;
        Ok(stored::listed(call, PLACE, "templates", answer))
    }),
    read("POST", "/v1/mgmt/jwt/templates/load", |call| {
        let id = call.body.required("id")?;
        call.ends()?;
        let row = stored::late(call, PLACE, "template", &id)?;
        Ok(keyed(call, "template", &row))
    }),
    read("POST", "/v1/mgmt/jwt/templates/validate", |call| {
        call.body.text("id")?;
        let template = call.body.object("template")?.unwrap_or_default();
        call.ends()?;
        let issues = issues(&Value::Object(template));
        Ok(view::bytes(&json!({ "valid": issues.is_empty(), "issues": issues })))
    }),
    read("POST", "/v1/mgmt/jwt/templates/library/list", |call| {
        call.ends()?;
        let entries = [library(&call.look())];
        Ok(view::bytes(&Keyed("entries", entries)))
    }),
    read("POST", "/v1/mgmt/jwt/templates/library/load", |call| {
        call.body.take("id");
        call.body.take("libraryEntryId");
        call.ends()?;
        let entry = library(&call.look());
        Ok(view::bytes(&Keyed("entry", entry)))
    }),
    project_write("POST", "/v1/mgmt/jwt/templates/library/apply", apply),
];

fn answer(look: &Look<'_>, row: &Entity) -> Document {
    let mut answer = entity::shown(&row.fields, FIELDS, look);
    answer.insert("id".to_owned(), json!(row.id));
    answer.insert("name".to_owned(), json!(row.name));
    answer
}

fn keyed(call: &mut Call<'_>, key: &'static str, row: &Entity) -> Vec<u8> {
    let answer = answer(&call.look(), row);
    view::bytes(&Keyed(key, answer))
}

/// The library has one entry.
fn entry() -> Entity {
    let mut entry = Entity { id: "lib1".to_owned(), name: "Default".to_owned(), ..Entity::default() };
    entry.set("template", json!({ "tenant": "{{tenant.id}}" }));
    entry.set("type", "user");
    entry
}

fn library(look: &Look<'_>) -> Document {
    let mut answer = answer(look, &entry());
    answer.remove("source");
    for (name, value) in [("experimental", json!(false)), ("logoLight", json!("")), ("logoDark", json!(""))] {
        answer.insert(name.to_owned(), value);
    }
    answer
}

fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = Fields::new(call.body.object("template")?.ok_or_else(|| Refusal::required("template"))?);
    call.ends()?;
    let name = fields.required("name")?;
    fields.text("id")?;
    let mut row = Entity { name, ..Entity::default() };
    entity::create(&mut row.fields, FIELDS, &mut fields, call.switches)?;
    fields.end(call.switches)?;
    add(call, row)
}

fn add(call: &mut Call<'_>, mut row: Entity) -> Result<Vec<u8>, Refusal> {
    check(&row)?;
    stored::free_name(call.world, PLACE, "template", &row.name, None)?;
    row.id = call.world.new_id(KIND.prefix);
    call.world.table_mut(PLACE).insert(row.clone());
    Ok(keyed(call, "template", &row))
}

fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = Fields::new(call.body.object("template")?.ok_or_else(|| Refusal::required("template"))?);
    call.ends()?;
    let (number, mut row) = stored::by_id(call.world, PLACE, "template", &fields.required("id")?)?;
    row.name = fields.required("name")?;
    entity::overwrite(&mut row.fields, FIELDS, &mut fields, call.switches)?;
    check(&row)?;
    stored::free_name(call.world, PLACE, "template", &row.name, Some(number))?;
    call.world.table_mut(PLACE).replace(number, row.clone());
    Ok(keyed(call, "template", &row))
}

fn apply(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    call.body.required("libraryEntryId")?;
    let mut row = entry();
    if let Some(name) = call.body.text("nameOverride")?.filter(|name| !name.is_empty()) {
        row.name = name;
    }
    if let Some(description) = call.body.text("descriptionOverride")? {
        row.set("description", description);
    }
    if let Some(tags) = call.body.texts("tagsOverride")? {
        row.set("tags", tags);
    }
    if let Some(template) = call.body.object("templateOverride")? {
        row.set("template", template);
    }
    call.ends()?;
    add(call, row)
}

fn check(row: &Entity) -> Result<(), Refusal> {
    let template = row.fields.get("template").cloned().unwrap_or(json!({}));
    match issues(&template).first() {
        Some(issue) => Err(Refusal::Invalid(format!("template {}: {}", row.name, issue["message"]))),
        None => Ok(()),
    }
}

fn issues(template: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    walk(template, "template", &mut found);
    found
}

fn walk(value: &Value, path: &str, found: &mut Vec<Value>) {
    match value {
        Value::String(text) if text.matches("{{").count() != text.matches("}}").count() => found.push(json!({
            "field": path, "code": "invalid", "message": format!("{path} opens braces that it does not close"),
            "hint": "write {{name}}",
        })),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| walk(value, &format!("{path}.{name}"), found)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
