//! Outbound applications. The client secret is never answered, and an update without it keeps it.

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

const PLACE: Shelf<Entity> = Shelf::new("outboundApps");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, prefix: "OA", ..PLAIN };

const FIELDS: &[Field] = &[
    field("description", Content::Text),
    field("logo", Content::Text),
    field("templateId", Content::Text),
    field("clientId", Content::Text),
    field("clientSecret", Content::Text).secret(),
    field("discoveryUrl", Content::Text),
    field("authorizationUrl", Content::Text),
    field("authorizationUrlParams", Content::Items),
    field("tokenUrl", Content::Text),
    field("tokenUrlParams", Content::Items),
    field("revocationUrl", Content::Text),
    field("defaultScopes", Content::Set),
    field("defaultRedirectUrl", Content::Text),
    field("callbackDomain", Content::Text),
    field("pkce", Content::Flag),
    field("accessType", Content::OneOf(&["offline", "online"])),
    field("prompt", Content::Set),
    field("useDcr", Content::Flag),
    field("dcrUrl", Content::Text),
    field("appType", Content::OneOf(&["oauth", "apikey"])).keeps(),
    field("tenantId", Content::Text).create_only(),
];

const ROUTES: &[Route] = &[
    project_write("POST", "/v1/mgmt/outbound/app/create", |call| {
        let fields = std::mem::take(&mut call.body);
        create(call, fields)
    }),
    project_write("POST", "/v1/mgmt/outbound/app/create/bytemplate", by_template),
    project_write("POST", "/v1/mgmt/outbound/app/update", update),
    project_write("POST", "/v1/mgmt/outbound/app/delete", |call| stored::delete(call, PLACE, "application")),
    read("GET", "/v1/mgmt/outbound/app/{id}", |call| {
        let row = stored::late(call, PLACE, "application", call.parameter("id")?)?;
        Ok(keyed(call, &row))
    }),
    read("GET", "/v1/mgmt/outbound/apps", |call| {
        call.ends()?;
        Ok(stored::listed(call, PLACE, "apps", answer))
    }),
];

fn answer(look: &Look<'_>, row: &Entity) -> Document {
    let mut answer = entity::shown(&row.fields, FIELDS, look);
    answer.insert("id".to_owned(), json!(row.id));
    answer.insert("name".to_owned(), json!(row.name));
    if answer["appType"] == "" {
        answer.insert("appType".to_owned(), json!("oauth"));
    }
    answer
}

fn keyed(call: &mut Call<'_>, row: &Entity) -> Vec<u8> {
    let app = answer(&call.look(), row);
    view::bytes(&Keyed("app", app))
}

/// One SDK calls the name of a parameter `name`, the others `key`.
fn settle_params(row: &mut Entity) {
    for list in ["authorizationUrlParams", "tokenUrlParams"] {
        for item in row.fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(item) = item.as_object_mut()
                && let Some(name) = item.remove("name")
            {
                item.insert("key".to_owned(), name);
            }
        }
    }
}

fn create(call: &mut Call<'_>, mut fields: Fields) -> Result<Vec<u8>, Refusal> {
    let id = fields.text("id")?.unwrap_or_default();
    let name = fields.required("name")?;
    let mut row = Entity { id, name, ..Entity::default() };
    entity::create(&mut row.fields, FIELDS, &mut fields, call.switches)?;
    fields.end(call.switches)?;
    settle_params(&mut row);
    if !row.id.is_empty() && call.world.table(PLACE).by_id(&row.id).is_some() {
        return Err(Refusal::Exists(format!("application {} already exists", row.id)));
    }
    if row.id.is_empty() {
        row.id = call.world.new_id(KIND.prefix);
    }
    call.world.table_mut(PLACE).insert(row.clone());
    Ok(keyed(call, &row))
}

/// The template itself is not known here: what overrides it is all there is.
fn by_template(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let mut all = fields.object("overrides")?.unwrap_or_default();
    all.extend(fields.rest());
    all.entry("name").or_insert_with(|| json!("from a template"));
    create(call, Fields::new(all))
}

fn update(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let app = call.body.object("app")?.ok_or_else(|| Refusal::required("app"))?;
    call.ends()?;
    let mut fields = Fields::new(app);
    let (number, mut row) = stored::by_id(call.world, PLACE, "application", &fields.required("id")?)?;
    row.name = fields.required("name")?;
    entity::overwrite(&mut row.fields, FIELDS, &mut fields, call.switches)?;
    settle_params(&mut row);
    call.world.table_mut(PLACE).replace(number, row.clone());
    Ok(keyed(call, &row))
}
