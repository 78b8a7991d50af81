//! The audit trail of the project: events that were posted, found by the filters of a search.

use super::stored::PLAIN;
use super::stored::Stored;
use super::tenants;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::read;
use crate::simulator::api::write;
use crate::simulator::entity::Entity;
use crate::simulator::fields::Document;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::world::Shelf;
use crate::simulator::world::World;
use serde_json::Value;
use serde_json::json;
use std::time::SystemTime;

const PLACE: Shelf<Entity> = Shelf::new("audit");
/// The most that one page holds.
const PAGE: usize = 1000;

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, prefix: "AU", ..PLAIN };

const ROUTES: &[Route] =
    &[read("POST", "/v1/mgmt/audit/search", search), write("POST", "/v1/mgmt/audit/event", create)];

fn create(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut row = Entity::default();
    for name in ["action", "actorId", "type"] {
        let text = call.body.required(name)?;
        row.set(name, text);
    }
    let tenant = call.body.required("tenantId")?;
    row.set("tenants", json!([tenant]));
    row.set("userId", call.body.text("userId")?.unwrap_or_default());
    row.set("data", call.body.object("data")?.unwrap_or_default());
    call.ends()?;
    if !["info", "warn", "error"].contains(&row.text("type")) {
        return Err(Refusal::Invalid("type must be info, warn or error".to_owned()));
    }
    tenants::number(call.world, &tenant)?;
    row.id = call.world.new_id(KIND.prefix);
    row.name.clone_from(&row.id);
    let time = call.world.new_time() * 1000;
    row.set("occurred", time);
    call.world.table_mut(PLACE).insert(row);
    Ok(Call::nothing())
}

/// So many are kept.
const MOST: usize = 5000;
/// What of a request names what it is about; nothing else of it is told.
const NAMES: [&str; 6] = ["name", "id", "newName", "tenantId", "ssoId", "flowId"];

/// A call changed something.
pub fn note_call(world: &mut World, path: &str, body: &[u8], actor: &str) {
    let mut words: Vec<&str> = path.split('/').skip_while(|word| *word != "mgmt").skip(1).collect();
    let verb = match words.last() {
        Some(&("create" | "import")) => "Created",
        Some(&("delete" | "deleteAll")) => "Deleted",
        Some(_) | None => "Modified",
    };
    if matches!(words.last(), Some(&("create" | "update" | "patch" | "delete" | "set" | "batch" | "import"))) {
        words.pop();
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = |item: &Value| {
        let pairs = NAMES.iter().filter_map(|name| Some(((*name).to_owned(), item.get(*name)?.clone())));
        Value::Object(pairs.filter(|(_, value)| value.is_string()).collect())
    };
    let lists = body.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_array());
    let items: Vec<Value> =
        lists.flatten().map(|item| if item.is_string() { item.clone() } else { named(item) }).collect();
    let tenant = body.get("tenantId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let data = json!({ "of": named(&body), "items": items });
    note(world, &format!("{}{verb}", capitals(&words)), json!({ "actorId": actor, "data": data }), &tenant);
}

/// Somebody changed something in the console.
pub fn note_edit(world: &mut World, kind: &str, verb: &str, tenant: &str, key: &str) {
    let action = format!("{}{verb}", capitals(&[kind.trim_end_matches('s')]));
    let tenant = if kind == "tenants" { key } else { tenant };
    let told = json!({
        "actorId": "U2console", "externalIds": ["console@example.com"], "method": "console", "device": "Desktop",
        "data": { "name": key },
    });
    note(world, &action, told, tenant);
}

fn capitals(words: &[&str]) -> String {
    let capital = |word: &&str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    words.iter().map(capital).collect()
}

fn note(world: &mut World, action: &str, told: Value, tenant: &str) {
    let Value::Object(mut row) = told else { return };
    row.insert("action".to_owned(), action.into());
    row.insert("type".to_owned(), "info".into());
    row.insert("tenants".to_owned(), if tenant.is_empty() { json!([]) } else { json!([tenant]) });
    row.insert("occurred".to_owned(), now().into());
    world.trail.push_back(row);
    if world.trail.len() > MOST {
        world.trail.pop_front();
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An event is found when every filter that is given fits.
fn search(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut any_of = Vec::new();
    for (list, field) in [("userIds", "userId"), ("actions", "action"), ("tenants", "tenants")] {
        any_of.push((field, call.body.texts(list)?.unwrap_or_default()));
    }
    let excluded = call.body.texts("excludedActions")?.unwrap_or_default();
    for (list, field) in [
        ("devices", "device"),
        ("methods", "method"),
        ("geos", "geo"),
        ("remoteAddresses", "remoteAddress"),
        ("externalIds", "externalIds"),
    ] {
        any_of.push((field, call.body.texts(list)?.unwrap_or_default()));
    }
    let (from, to) = (call.body.integer("from")?.unwrap_or_default(), call.body.integer("to")?.unwrap_or_default());
    let no_tenants = call.body.flag("noTenants")?.unwrap_or_default();
    let text = call.body.text("text")?.unwrap_or_default().to_lowercase();
    let size = call.body.integer("size")?.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let page = call.body.integer("page")?.and_then(|page| usize::try_from(page).ok()).unwrap_or_default();
    call.ends()?;
    let has = |row: &Document, field: &str, wanted: &[String]| {
        let value = row.get(field).cloned().unwrap_or_default();
        let own = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        wanted.is_empty() || own.iter().any(|one| wanted.iter().any(|text| one == text))
    };
    let is_found = |row: &Document| {
        let occurred = row.get("occurred").and_then(Value::as_i64).unwrap_or_default();
        any_of.iter().all(|(field, wanted)| has(row, field, wanted))
            && (excluded.is_empty() || !has(row, "action", &excluded))
            && occurred >= from
            && (to == 0 || occurred <= to)
            && (!no_tenants || row.get("tenants").is_none_or(|all| all.as_array().is_none_or(Vec::is_empty)))
            && Value::Object(row.clone()).to_string().to_lowercase().contains(&text)
    };
    let posted = call.rows(PLACE, |row| is_found(&row.fields));
    let done: Vec<Document> = call.world.trail.iter().rev().filter(|row| is_found(row)).cloned().collect();
    let rows: Vec<Document> = done.into_iter().chain(posted.iter().map(|row| row.fields.clone())).collect();
    let size = size.unwrap_or(PAGE).min(PAGE);
    let shown = rows.iter().skip(page.saturating_mul(size)).take(size).map(|row| {
        let or = |name: &str, zero: Value| row.get(name).cloned().unwrap_or(zero);
        let occurred = or("occurred", json!(0)).to_string();
        let text = |name: &str| or(name, json!(""));
        json!({
            "projectId": call.project, "userId": text("userId"), "action": text("action"), "type": text("type"),
            "actorId": text("actorId"), "occurred": occurred, "device": text("device"), "method": text("method"),
            "geo": text("geo"), "remoteAddress": text("remoteAddress"), "externalIds": or("externalIds", json!([])),
            "tenants": or("tenants", json!([])), "data": or("data", json!({})),
        })
    });
    Ok(view::bytes(&json!({ "audits": shown.collect::<Vec<_>>(), "total": rows.len() })))
}
