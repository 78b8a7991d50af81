//! Flows: opaque documents. v1 and v2 write documents of different shapes; each is stored, and answered in its own version.

use super::stored;
use super::stored::PLAIN;
use super::stored::Stored;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::api::write;
use crate::simulator::entity::Entity;
use crate::simulator::fields::Document;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::view::Look;
use crate::simulator::world::Shelf;
use crate::simulator::world::World;
use serde_json::Value;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("flows");
/// What every project has and nobody may delete.
const STOCK: [(&str, &str); 4] =
    [("sign-up-or-in", "Sign up or in"), ("sign-up", "Sign up"), ("sign-in", "Sign in"), ("step-up", "Step up")];
/// How often the components of flows and theme were written is counted from here.
const COMPONENTS: &str = "2.0.";

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, start: &[start], ..PLAIN };

const ROUTES: &[Route] = &[
    read("POST", "/v1/mgmt/flow/list", list),
    read("POST", "/v2/mgmt/flow/export", export_v2),
    project_write("POST", "/v2/mgmt/flow/import", import_v2),
    read("POST", "/v1/mgmt/flow/export", |call| {
        let id = call.body.required("flowId")?;
        call.ends()?;
        let row = stored::late(call, PLACE, "flow", &id)?;
        Ok(view::bytes(&answer_v1(&row)))
    }),
    project_write("POST", "/v1/mgmt/flow/import", import_v1),
    project_write("POST", "/v1/mgmt/flow/delete", |call| {
        let ids = call.body.texts("ids")?.unwrap_or_default();
        call.ends()?;
        ids.iter().try_for_each(|id| delete(call, id))?;
        Ok(Call::nothing())
    }),
    write("POST", "/v1/mgmt/flow/run", |call| {
        let id = call.body.required("flowId")?;
        stored::by_id(call.world, PLACE, "flow", &id)?;
        Ok(view::bytes(&json!({ "output": {} })))
    }),
    read("GET", "/v1/mgmt/flow", |call| {
        let row = stored::late(call, PLACE, "flow", call.parameter("id")?)?;
        let flow = flow_v2(&call.look(), &row);
        Ok(view::bytes(&flow))
    }),
    project_write("POST", "/v1/mgmt/flow", |call| {
        let flow = std::mem::take(&mut call.body).rest();
        store_v2(call, flow)
    }),
    project_write("DELETE", "/v1/mgmt/flow", |call| {
        let id = call.parameter("id")?;
        delete(call, id)?;
        Ok(Call::nothing())
    }),
];

fn start(world: &mut World) {
    for (id, name) in STOCK {
        let mut row = Entity { id: id.to_owned(), name: id.to_owned(), ..Entity::default() };
        row.set("v2", json!({ "metadata": { "name": name }, "contents": {}, "screens": [{ "screenId": "0", "interactions": [] }] }));
        world.table_mut(PLACE).insert(row);
    }
}

fn part(row: &Entity, version: &str) -> Value {
    row.fields.get(version).cloned().unwrap_or(json!({}))
}

/// The metadata of the document that was written last.
fn metadata(row: &Entity) -> Value {
    match row.fields.get("v2") {
        Some(flow) => flow["metadata"].clone(),
        None => part(row, "v1")["flow"].clone(),
    }
}

fn list(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let ids = call.body.texts("ids")?.unwrap_or_default();
    call.ends()?;
    let rows = call.rows(PLACE, |row| ids.is_empty() || ids.contains(&row.id));
    let items = rows.iter().map(|row| {
        let about = metadata(row);
        let or = |name: &str, zero: Value| if about[name].is_null() { zero } else { about[name].clone() };
        let version = if call.switches.flow_versions { row.fields.get("writes").and_then(Value::as_i64).unwrap_or(1) } else { 0 };
        let stamp = |text: String| if call.switches.flow_versions { text } else { String::new() };
        json!({
            "id": row.id, "name": or("name", json!(row.id)), "description": or("description", json!("")),
            "disabled": or("disabled", json!(false)), "version": version, "etag": stamp(format!("etag-{}-{version}", row.id)),
            "modifiedTime": stamp(format!("2026-01-01T00:00:{:02}Z", version % 60)), "fingerprint": or("fingerprint", json!(false)),
            "widget": or("widget", json!(false)), "management": or("management", json!(false)), "translate": false,
            "translateConnectorID": "", "translateSourceLang": "", "translateTargetLangs": [],
        })
    });
    let flows: Vec<_> = items.collect();
    Ok(view::bytes(&json!({ "total": flows.len(), "flows": flows })))
}

/// As it was imported, with what the server adds: defaults of the metadata, the version of the components.
fn flow_v2(look: &Look<'_>, row: &Entity) -> Value {
    let mut flow = part(row, "v2");
    let defaults = [
        ("name", json!(row.id)),
        ("description", json!("")),
        ("disabled", json!(false)),
        ("fingerprint", json!(false)),
        ("widget", json!(false)),
        ("translation", json!({ "enabled": false, "connectorId": "", "sourceLanguage": "", "targetLanguages": [] })),
        ("sharedInteractions", json!([])),
        ("management", json!(false)),
    ];
    for (name, value) in defaults {
        if flow["metadata"][name].is_null() {
            flow["metadata"][name] = value;
        }
    }
    flow["metadata"]["componentsVersion"] = json!(components(look));
    flow["flowId"] = json!(row.id);
    for (name, zero) in [("contents", json!({})), ("screens", json!([])), ("references", json!({}))] {
        if flow[name].is_null() {
            flow[name] = zero;
        }
    }
    if look.switches.reformats {
        flow["metadata"]["modifiedBy"] = json!("");
        trim(&mut flow);
    }
    flow
}

/// The version of the components: it stays, or every write of a flow or theme raises it.
pub fn components(look: &Look<'_>) -> String {
    let writes: i64 = look.world.table(PLACE).iter().map(|(_, row)| written(row)).sum();
    if look.switches.components_rise { format!("{COMPONENTS}{writes}") } else { format!("{COMPONENTS}0") }
}

fn written(row: &Entity) -> i64 {
    row.fields.get("writes").and_then(Value::as_i64).unwrap_or_default()
}

/// Texts lose their outer blanks, as after a pass through another program.
pub fn trim(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.trim().to_owned(),
        Value::Array(items) => items.iter_mut().for_each(trim),
        Value::Object(fields) => fields.values_mut().for_each(trim),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn export_v2(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let id = call.body.required("flowId")?;
    call.ends()?;
    let row = stored::late(call, PLACE, "flow", &id)?;
    let flow = flow_v2(&call.look(), &row);
    Ok(view::bytes(&Keyed("flow", flow)))
}

/// The id in the request wins over the one in the document.
fn import_v2(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut flow = call.body.object("flow")?.ok_or_else(|| Refusal::required("flow"))?;
    call.body.flag("skipRender")?;
    call.body.text("changelog")?;
    if let Some(id) = call.body.text("flowId")?.filter(|id| !id.is_empty()) {
        flow.insert("flowId".to_owned(), json!(id));
    }
    call.ends()?;
    store_v2(call, flow)
}

fn store_v2(call: &mut Call<'_>, mut flow: Document) -> Result<Vec<u8>, Refusal> {
    let id = flow.remove("flowId").and_then(|id| id.as_str().map(str::to_owned)).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Refusal::required("flowId"))?;
    known_roles(call.world, &Value::Object(flow.clone()))?;
    if let Some(metadata) = flow.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("componentsVersion");
    }
    let (number, mut row) = found(call.world, &id);
    let writes = written(&row) + 1;
    row.fields = Document::new();
    row.set("v2", flow);
    row.set("writes", writes);
    call.world.table_mut(PLACE).put_row(number, row);
    Ok(Call::nothing())
}

/// `references.roles` of a document names roles that must exist.
fn known_roles(world: &World, flow: &Value) -> Result<(), Refusal> {
    for role in flow["references"]["roles"].as_array().into_iter().flatten() {
        let name = role.as_str().or_else(|| role["name"].as_str()).unwrap_or_default();
        if world.table(super::roles::SHELF).by_name("", name).is_none() {
            let message = format!("unknown role reference {name}");
            return Err(Refusal::Coded { status: 400, code: "E113009", message });
        }
    }
    Ok(())
}

fn found(world: &World, id: &str) -> (Option<u64>, Entity) {
    let number = world.table(PLACE).by_id(id);
    let row = number.and_then(|number| world.table(PLACE).copy(number));
    (number, row.unwrap_or_else(|| Entity { id: id.to_owned(), name: id.to_owned(), ..Entity::default() }))
}

fn answer_v1(row: &Entity) -> Value {
    let (stored, about) = (part(row, "v1"), metadata(row));
    let mut flow = stored["flow"].clone();
    if flow.is_null() {
        flow = json!({});
    }
    for (name, zero) in
        [("name", json!(row.id)), ("description", json!("")), ("disabled", json!(false)), ("dsl", json!({}))]
    {
        if flow[name].is_null() {
            flow[name] = if about[name].is_null() { zero } else { about[name].clone() };
        }
    }
    flow["id"] = json!(row.id);
    flow["etag"] = json!("");
    let mut screens = stored["screens"].as_array().cloned().unwrap_or_default();
    if row.fields.get("v1").is_none() {
        screens.push(json!({ "id": "0" }));
    }
    for screen in &mut screens {
        screen["flowId"] = json!(row.id);
        for (name, zero) in [("inputs", json!([])), ("interactions", json!([])), ("htmlTemplate", json!({}))] {
            if screen[name].is_null() {
                screen[name] = zero;
            }
        }
    }
    json!({ "flow": flow, "screens": screens })
}

fn import_v1(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let id = call.body.required("flowId")?;
    let flow = call.body.object("flow")?.ok_or_else(|| Refusal::required("flow"))?;
    let screens = call.body.take("screens").unwrap_or(json!([]));
    call.ends()?;
    let (number, mut row) = found(call.world, &id);
    let writes = written(&row) + 1;
    row.fields = Document::new();
    row.set("v1", json!({ "flow": flow, "screens": screens }));
    row.set("writes", writes);
    call.world.table_mut(PLACE).put_row(number, row.clone());
    Ok(view::bytes(&answer_v1(&row)))
}

fn delete(call: &mut Call<'_>, id: &str) -> Result<(), Refusal> {
    if call.switches.protected_built_ins && STOCK.iter().any(|(stock, _)| *stock == id) {
        return Err(Refusal::Invalid(format!("flow {id} is protected")));
    }
    match stored::by_id(call.world, PLACE, "flow", id) {
        Ok((number, _)) => call.world.table_mut(PLACE).remove(number),
        Err(refusal) => call.absent(refusal)?,
    }
    Ok(())
}
