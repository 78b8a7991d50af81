//! Third-party (inbound) applications. v1 and v2 share the stored application and know some fields each alone; the secret is shown
//! by create and rotate.

use super::secrets;
use super::stored;
use super::stored::PLAIN;
use super::stored::Stored;
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

const PLACE: Shelf<Entity> = Shelf::new("inboundApps");
/// What stands where the request leaves it empty.
const LOGIN_PAGE: &str = "https://api.example.invalid/login/default";

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, prefix: "TP", ..PLAIN };

const BEARER: &[Field] = &[field("issuers", Content::Map)];
const SHARED: &[Field] = &[
    field("description", Content::Text),
    field("logo", Content::Text),
    field("loginPageUrl", Content::Text),
    field("approvedCallbackUrls", Content::Set),
    field("permissionsScopes", Content::Things),
    field("jwtBearerSettings", Content::Nested(BEARER)),
    field("customAttributes", Content::Map),
    field("forcePkce", Content::Flag),
    field("defaultAudience", Content::OneOf(&["projectId", "clientId"])),
    field("clientId", Content::Text).computed(),
];
const SESSION: &[Field] = &[
    field("enabled", Content::Flag),
    field("userTemplateId", Content::Text),
    field("keyTemplateId", Content::Text),
    field("refreshTokenExpiration", Content::Number),
    field("refreshTokenExpirationUnit", Content::Text),
    field("sessionTokenExpiration", Content::Number),
    field("sessionTokenExpirationUnit", Content::Text),
    field("keySessionTokenExpiration", Content::Number),
    field("keySessionTokenExpirationUnit", Content::Text),
];
const V1: &[Field] = &[
    field("attributesScopes", Content::Things),
    field("connectionsScopes", Content::Things),
    field("sessionSettings", Content::Nested(SESSION)),
    field("audienceWhitelist", Content::Set),
    field("forceAddAllAuthorizationInfo", Content::Flag),
    field("nonConfidentialClient", Content::Flag).create_only(),
    field("logoUrl", Content::Text),
    field("dynamic", Content::Flag).computed(),
    field("status", Content::Text).computed(),
];
const V2: &[Field] = &[
    field("scopeClaimMapping", Content::Items),
    field("clientType", Content::OneOf(&["confidential", "public"])),
    field("forceDpop", Content::Flag),
];
/// Which calls a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// Its own fields, and those that only the other one knows.
    fn fields(self) -> (&'static [Field], &'static [Field]) {
        match self {
            Self::One => (V1, V2),
            Self::Two => (V2, V1),
        }
    }
}

/// Taken by the create call of v1, answered by none.
const OTHERS: &[Field] = &[
    field("consentFlowId", Content::Text).create_only(),
    field("clientSecret", Content::Text).secret(),
    field("secrets", Content::Items).computed(),
];

const ROUTES: &[Route] = &[
    write("POST", "/v1/mgmt/thirdparty/app/create", |call| create(call, Version::One)),
    write("POST", "/v2/mgmt/thirdparty/app/create", |call| create(call, Version::Two)),
    write("POST", "/v1/mgmt/thirdparty/app/update", |call| update(call, Version::One, true)),
    write("POST", "/v2/mgmt/thirdparty/app/update", |call| update(call, Version::Two, true)),
    write("POST", "/v1/mgmt/thirdparty/app/patch", |call| update(call, Version::One, false)),
    write("POST", "/v2/mgmt/thirdparty/app/patch", |call| update(call, Version::Two, false)),
    read("GET", "/v1/mgmt/thirdparty/app/load", |call| load(call, answer_v1)),
    read("GET", "/v2/mgmt/thirdparty/app/load", |call| load(call, answer_v2)),
    read("GET", "/v1/mgmt/thirdparty/apps/load", |call| {
        let (page, limit) = (number(call.optional("page")), number(call.optional("limit")));
        let (apps, _) = page_of(call, page, limit, answer_v1);
        Ok(view::bytes(&Keyed("apps", apps)))
    }),
    read("POST", "/v2/mgmt/thirdparty/apps/load", |call| {
        let (page, limit) = (call.body.integer("page")?, call.body.integer("limit")?);
        call.ends()?;
        let (apps, total) = page_of(call, page.unwrap_or_default(), limit.unwrap_or_default(), answer_v2);
        Ok(view::bytes(&json!({ "apps": apps, "total": total })))
    }),
    write("POST", "/v1/mgmt/thirdparty/app/delete", |call| stored::delete(call, PLACE, "application")),
    write("POST", "/v1/mgmt/thirdparty/app/delete/batch", |call| stored::delete_batch(call, PLACE, "application")),
    read("GET", "/v1/mgmt/thirdparty/app/secret", |call| {
        let row = stored::late(call, PLACE, "application", call.parameter("id")?)?;
        Ok(view::bytes(&Keyed("cleartext", row.text("clientSecret"))))
    }),
    write("POST", "/v1/mgmt/thirdparty/app/rotate", |call| secrets::rotate(call, PLACE)),
    write("POST", "/v1/mgmt/thirdparty/app/secret/add", |call| secrets::add(call, PLACE, "id")),
    write("POST", "/v1/mgmt/thirdparty/app/secret/revoke", |call| secrets::revoke(call, PLACE, "id")),
];

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_default()
}

fn answer_v1(look: &Look<'_>, row: &Entity) -> Document {
    let mut answer = answer(look, row, Version::One);
    for scope in answer.get_mut("permissionsScopes").and_then(Value::as_array_mut).into_iter().flatten() {
        if scope["optional"].is_null() {
            scope["optional"] = json!(false);
        }
    }
    answer
}

fn answer_v2(look: &Look<'_>, row: &Entity) -> Document {
    answer(look, row, Version::Two)
}

/// With the fields of one version, without those that only the other one knows.
fn answer(look: &Look<'_>, row: &Entity, version: Version) -> Document {
    let (_, other) = version.fields();
    let mut answer = entity::shown(&row.fields, &table_of(version), look);
    for field in other.iter().chain(OTHERS) {
        answer.remove(field.name());
    }
    answer.insert("id".to_owned(), json!(row.id));
    answer.insert("name".to_owned(), json!(row.name));
    if answer["loginPageUrl"] == "" && !look.switches.empty_login_page {
        answer.insert("loginPageUrl".to_owned(), json!(LOGIN_PAGE));
    }
    answer
}

/// The other version's fields are known too: an overwrite without them resets them.
fn table_of(version: Version) -> Vec<Field> {
    let (own, other) = version.fields();
    SHARED.iter().chain(own).chain(other).chain(OTHERS).copied().collect()
}

fn create(call: &mut Call<'_>, version: Version) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let name = fields.required("name")?;
    // Go's type has it; what it does is not known.
    fields.text("id")?;
    let mut row = Entity { name, ..Entity::default() };
    let table: Vec<Field> = SHARED.iter().chain(version.fields().0).chain(OTHERS).copied().collect();
    entity::create(&mut row.fields, &table, &mut fields, call.switches)?;
    fields.end(call.switches)?;
    stored::free_name(call.world, PLACE, "application", &row.name, None)?;
    row.id = call.world.new_id(KIND.prefix);
    let (client, secret) = (call.world.new_id("C2"), call.world.new_id("secret"));
    row.set("clientId", client.as_str());
    row.set("clientSecret", secret.as_str());
    let mut answer = json!({ "id": row.id, "cleartext": secret });
    if version == Version::One {
        answer["clientId"] = json!(client);
    }
    call.world.table_mut(PLACE).insert(row);
    Ok(view::bytes(&answer))
}

/// Overwrites, or changes what is given: a patch writes every key that it is given, zero values included.
fn update(call: &mut Call<'_>, version: Version, overwrites: bool) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut row) = stored::by_id(call.world, PLACE, "application", &fields.required("id")?)?;
    row.name = match fields.text("name")? {
        Some(name) if !name.is_empty() => name,
        None if !overwrites => row.name,
        Some(_) | None => return Err(Refusal::required("name")),
    };
    let table = table_of(version);
    if overwrites {
        entity::overwrite(&mut row.fields, &table, &mut fields, call.switches)?;
    } else {
        entity::patch(&mut row.fields, &table, &mut fields, call.switches)?;
        fields.end(call.switches)?;
    }
    stored::free_name(call.world, PLACE, "application", &row.name, Some(number))?;
    call.world.table_mut(PLACE).replace(number, row);
    Ok(Call::nothing())
}

fn load(call: &mut Call<'_>, answer: fn(&Look<'_>, &Entity) -> Document) -> Result<Vec<u8>, Refusal> {
    let client = call.optional("clientId");
    let row = if client.is_empty() {
        stored::late(call, PLACE, "application", call.parameter("id")?)?
    } else {
        let found = call.rows(PLACE, |row| row.text("clientId") == client).into_iter().next();
        found.map(|row| Entity::clone(&row)).ok_or_else(|| Refusal::absent("application", client))?
    };
    let app = answer(&call.look(), &row);
    Ok(view::bytes(&app))
}

/// Pages count from 0; a limit of 0 is the server's own.
fn page_of(
    call: &mut Call<'_>,
    page: i64,
    limit: i64,
    answer: fn(&Look<'_>, &Entity) -> Document,
) -> (Vec<Document>, usize) {
    let rows = call.rows(PLACE, |_| true);
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(call.switches.inbound_page_size);
    let skip = usize::try_from(page).unwrap_or_default().saturating_mul(limit);
    let look = call.look();
    (rows.iter().skip(skip).take(limit).map(|row| answer(&look, row)).collect(), rows.len())
}
