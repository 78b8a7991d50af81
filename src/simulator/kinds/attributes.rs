//! Definitions of custom attributes: of users, tenants, access keys and SSO applications. They are stored in the words of
//! the SDK calls (types are numbers, options have labels); the `/attribute` calls say the same in another dialect.

use super::stored::Key;
use super::stored::PLAIN;
use super::stored::Stored;
use crate::simulator::api::Call;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::entity;
use crate::simulator::entity::Content;
use crate::simulator::entity::Entity;
use crate::simulator::entity::Field;
use crate::simulator::entity::field;
use crate::simulator::fields::Document;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::view::Look;
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;

const USERS: Shelf<Entity> = Shelf::new("userAttributes");
const TENANTS: Shelf<Entity> = Shelf::new("tenantAttributes");
const ACCESS_KEYS: Shelf<Entity> = Shelf::new("accessKeyAttributes");
const APPLICATIONS: Shelf<Entity> = Shelf::new("ssoApplicationAttributes");

/// Those of users.
pub const OF_USERS: Stored = Stored {
    place: USERS,
    key: Key::Name,
    routes: &[
        read("GET", "/v1/mgmt/user/customattributes", |call| all(call, USERS, true)),
        project_write("POST", "/v1/mgmt/user/customattribute/create", |call| create(call, USERS)),
        project_write("POST", "/v1/mgmt/user/customattribute/delete", |call| delete(call, USERS)),
        read("GET", "/v1/mgmt/user/attribute", |call| load_one(call, USERS)),
        project_write("POST", "/v1/mgmt/user/attribute", |call| put_one(call, USERS)),
        project_write("DELETE", "/v1/mgmt/user/attribute", |call| delete_one(call, USERS)),
    ],
    ..PLAIN
};

/// Those of tenants.
pub const OF_TENANTS: Stored = Stored {
    place: TENANTS,
    key: Key::Name,
    routes: &[
        read("GET", "/v1/mgmt/tenant/attribute", |call| load_one(call, TENANTS)),
        project_write("POST", "/v1/mgmt/tenant/attribute", |call| put_one(call, TENANTS)),
        project_write("DELETE", "/v1/mgmt/tenant/attribute", |call| delete_one(call, TENANTS)),
    ],
    ..PLAIN
};

/// Those of access keys.
pub const OF_ACCESS_KEYS: Stored = Stored {
    place: ACCESS_KEYS,
    key: Key::Name,
    routes: &[
        read("GET", "/v1/mgmt/accesskey/attribute", |call| load_one(call, ACCESS_KEYS)),
        project_write("POST", "/v1/mgmt/accesskey/attribute", |call| put_one(call, ACCESS_KEYS)),
        project_write("DELETE", "/v1/mgmt/accesskey/attribute", |call| delete_one(call, ACCESS_KEYS)),
    ],
    ..PLAIN
};

/// Those of SSO applications.
pub const OF_APPLICATIONS: Stored = Stored {
    place: APPLICATIONS,
    key: Key::Name,
    routes: &[
        read("GET", "/v1/mgmt/sso/idp/app/customattributes", |call| all(call, APPLICATIONS, false)),
        project_write("POST", "/v1/mgmt/sso/idp/app/customattribute/create", |call| create(call, APPLICATIONS)),
        project_write("POST", "/v1/mgmt/sso/idp/app/customattribute/delete", |call| delete(call, APPLICATIONS)),
    ],
    ..PLAIN
};

const FIELDS: &[Field] = &[
    field("displayName", Content::Text),
    field("type", Content::Number),
    field("options", Content::Things),
    field("defaultValue", Content::Any),
    field("viewPermissions", Content::Set),
    field("editPermissions", Content::Set),
];

/// In the order of the numbers 1 to 7.
const TYPES: [&str; 7] = ["string", "number", "boolean", "singleselect", "multiselect", "date", "monthday"];

fn answer(look: &Look<'_>, row: &Entity) -> Document {
    let mut answer = entity::shown(&row.fields, FIELDS, look);
    answer.insert("name".to_owned(), json!(row.name));
    answer
}

fn all(call: &mut Call<'_>, place: Shelf<Entity>, has_total: bool) -> Result<Vec<u8>, Refusal> {
    call.ends()?;
    let rows = call.rows(place, |_| true);
    let look = call.look();
    let mut list = json!({ "data": rows.iter().map(|row| answer(&look, row)).collect::<Vec<_>>() });
    if has_total {
        // A 64-bit integer, which the gateway writes as text.
        list["total"] = json!(rows.len().to_string());
    }
    Ok(view::bytes(&list))
}

/// The full set after a change; a delayed reader sees it too.
fn after(call: &mut Call<'_>, place: Shelf<Entity>) -> Vec<u8> {
    let look = call.look();
    let rows = look.world.table(place).iter().map(|(_, row)| answer(&look, row));
    view::bytes(&view::Keyed("data", rows.collect::<Vec<_>>()))
}

fn create(call: &mut Call<'_>, place: Shelf<Entity>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("attributes")?.unwrap_or_default();
    call.ends()?;
    for mut fields in items {
        let name = fields.required("name")?;
        let mut given = Document::new();
        entity::create(&mut given, FIELDS, &mut fields, call.switches)?;
        // Python's helper sends it.
        fields.flag("required")?;
        fields.end(call.switches)?;
        store(call, place, name, given)?;
    }
    Ok(after(call, place))
}

fn delete(call: &mut Call<'_>, place: Shelf<Entity>) -> Result<Vec<u8>, Refusal> {
    let names = call.body.texts("names")?.unwrap_or_default();
    call.ends()?;
    for name in names {
        match call.world.table(place).by_name("", &name) {
            Some(number) => call.world.table_mut(place).remove(number),
            None => call.absent(Refusal::absent("attribute", &name))?,
        }
    }
    Ok(after(call, place))
}

/// Adds a definition or changes one; its type stays.
fn store(call: &mut Call<'_>, place: Shelf<Entity>, name: String, given: Document) -> Result<(), Refusal> {
    let number = call.world.table(place).by_name("", &name);
    let mut row = number.and_then(|number| call.world.table(place).copy(number)).unwrap_or_default();
    let sort = given.get("type").cloned().or_else(|| row.fields.get("type").cloned()).unwrap_or(json!(1));
    if !sort.as_u64().is_some_and(|sort| (1..=TYPES.len() as u64).contains(&sort)) {
        return Err(Refusal::Invalid(format!("attribute {name} has a type that does not exist")));
    }
    if row.fields.get("type").is_some_and(|before| *before != sort) {
        return Err(Refusal::Invalid(format!("the type of attribute {name} cannot change")));
    }
    row.name = name;
    row.fields.extend(given);
    row.set("type", sort);
    call.world.table_mut(place).put_row(number, row);
    Ok(())
}

fn load_one(call: &mut Call<'_>, place: Shelf<Entity>) -> Result<Vec<u8>, Refusal> {
    let name = call.parameter("name")?;
    let number = call.world.table(place).by_name("", name);
    let row = number.and_then(|number| call.loaded(place, number)).ok_or_else(|| Refusal::absent("attribute", name))?;
    let look = call.look();
    let sort = row.fields.get("type").and_then(Value::as_u64).and_then(|sort| usize::try_from(sort).ok()).unwrap_or(1);
    let options = row.fields.get("options").and_then(Value::as_array);
    let options = options.map(|options| options.iter().map(|one| one["value"].clone()).collect());
    let list = |items: Option<Vec<Value>>| items.map(|items| look.mixed(items));
    // Unset ones of users are empty, of the others null.
    let none = (place.kind() == USERS.kind()).then(Vec::new);
    let permissions = |field: &str| list(row.fields.get(field).and_then(Value::as_array).cloned().or(none.clone()));
    let answer = json!({
        "name": row.name, "displayName": row.text("displayName"), "type": TYPES.get(sort - 1), "options": list(options),
        "viewPermissions": permissions("viewPermissions"), "editPermissions": permissions("editPermissions"),
    });
    Ok(view::bytes(&answer))
}

/// An upsert: lists that are null or left out stay, empty ones clear.
fn put_one(call: &mut Call<'_>, place: Shelf<Entity>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let name = fields.required("name")?;
    let mut given = Document::new();
    if let Some(display) = fields.text("displayName")? {
        given.insert("displayName".to_owned(), json!(display));
    }
    if let Some(sort) = fields.text("type")? {
        let number = TYPES.iter().position(|one| *one == sort).map(|at| at + 1);
        let number = number.ok_or_else(|| Refusal::Invalid(format!("{sort} is no type of an attribute")))?;
        given.insert("type".to_owned(), json!(number));
    }
    if let Some(options) = fields.texts("options")? {
        let options = options.into_iter().map(|one| json!({ "value": one, "label": one }));
        given.insert("options".to_owned(), options.collect());
    }
    for list in ["viewPermissions", "editPermissions"] {
        if let Some(names) = fields.texts(list)? {
            if place.kind() == TENANTS.kind() && list == "editPermissions" {
                return Err(Refusal::Invalid("attributes of tenants have no editPermissions".to_owned()));
            }
            given.insert(list.to_owned(), json!(names));
        }
    }
    fields.end(call.switches)?;
    store(call, place, name, given)?;
    Ok(Call::nothing())
}

/// Nothing happens where there is none.
fn delete_one(call: &mut Call<'_>, place: Shelf<Entity>) -> Result<Vec<u8>, Refusal> {
    if let Some(number) = call.world.table(place).by_name("", call.parameter("name")?) {
        call.world.table_mut(place).remove(number);
    }
    Ok(Call::nothing())
}
