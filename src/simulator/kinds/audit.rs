//! The audit trail of the project: events that were posted, found by the filters of a search.

use super::stored::PLAIN;
use super::stored::Stored;
use super::tenants;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::read;
use crate::simulator::api::write;
use crate::simulator::entity::Entity;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;

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

/// An event is found when every filter that is given fits.
fn search(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut any_of = Vec::new();
    for (list, field) in [("userIds", "userId"), ("actions", "action"), ("tenants", "tenants")] {
        any_of.push((field, call.body.texts(list)?.unwrap_or_default()));
    }
    let excluded = call.body.texts("excludedActions")?.unwrap_or_default();
    // Events that are posted have none of these, so a filter finds nothing.
    let mut others = false;
    for list in ["devices", "methods", "geos", "remoteAddresses", "externalIds"] {
        others |= !call.body.texts(list)?.unwrap_or_default().is_empty();
    }
    let (from, to) = (call.body.integer("from")?.unwrap_or_default(), call.body.integer("to")?.unwrap_or_default());
    let no_tenants = call.body.flag("noTenants")?.unwrap_or_default();
    let text = call.body.text("text")?.unwrap_or_default().to_lowercase();
    let size = call.body.integer("size")?.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let page = call.body.integer("page")?.and_then(|page| usize::try_from(page).ok()).unwrap_or_default();
    call.ends()?;
    let has = |row: &Entity, field: &str, wanted: &[String]| {
        let value = row.fields.get(field).cloned().unwrap_or_default();
        let own = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        wanted.is_empty() || own.iter().any(|one| wanted.iter().any(|text| one == text))
    };
    let rows = call.rows(PLACE, |row| {
        let occurred = row.fields.get("occurred").and_then(Value::as_i64).unwrap_or_default();
        !others
            && any_of.iter().all(|(field, wanted)| has(row, field, wanted))
            && (excluded.is_empty() || !has(row, "action", &excluded))
            && occurred >= from
            && (to == 0 || occurred <= to)
            && (!no_tenants || !has(row, "tenants", &[]))
            && Value::Object(row.fields.clone()).to_string().to_lowercase().contains(&text)
    });
    let size = size.unwrap_or(PAGE).min(PAGE);
    let shown = rows.iter().skip(page.saturating_mul(size)).take(size).map(|row| {
        let or = |name: &str, zero: Value| row.fields.get(name).cloned().unwrap_or(zero);
        let occurred = or("occurred", json!(0)).to_string();
        json!({
            "projectId": call.project, "userId": or("userId", json!("")), "action": or("action", json!("")),
            "type": or("type", json!("")), "actorId": or("actorId", json!("")), "occurred": occurred, "device": "",
            "method": "", "geo": "", "remoteAddress": "", "externalIds": [], "tenants": or("tenants", json!([])),
            "data": or("data", json!({})),
        })
    });
    Ok(view::bytes(&json!({ "audits": shown.collect::<Vec<_>>(), "total": rows.len() })))
}
