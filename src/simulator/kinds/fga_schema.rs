//! The FGA schema: one text, saved as a whole. What a text defines is read line by line, as far as a dry run needs it.

use super::stored;
use super::stored::Key;
use super::stored::PLAIN;
use super::stored::Stored;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::api::write;
use crate::simulator::entity::Entity;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

const PLACE: Shelf<Entity> = Shelf::new("fgaSchema");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, key: Key::One, ..PLAIN };

const ROUTES: &[Route] = &[
    read("GET", "/v1/mgmt/fga/schema", |call| {
        let row = stored::single_late(call, PLACE, "");
        let mut dsl = row.text("dsl").to_owned();
        if call.switches.reformats {
            // As a formatter would: no trailing blanks, no empty lines, two blanks for each step.
            dsl = dsl
                .lines()
                .map(str::trim_end)
                .filter(|line| !line.is_empty())
                .fold(String::new(), |text, line| text + line + "\n");
        }
        Ok(view::bytes(&json!({ "dsl": dsl, "schema": { "conditions": [] }, "version": row.text("version") })))
    }),
    project_write("POST", "/v1/mgmt/fga/schema", save),
    read("POST", "/v1/mgmt/fga/schema/dryrun", dry_run),
    project_write("POST", "/v1/mgmt/authz/schema/delete", |call| {
        call.ends()?;
        if let (Some(number), _) = stored::single(call.world, PLACE, "") {
            call.world.table_mut(PLACE).remove(number);
        }
        Ok(Call::nothing())
    }),
    read("POST", "/v1/mgmt/authz/schema/load", |call| {
        call.ends()?;
        let row = stored::single_late(call, PLACE, "");
        let (types, relations) = defined(row.text("dsl"));
        let namespaces = types.iter().map(|name| {
            let own =
                relations.iter().filter_map(|relation| relation.strip_prefix(&format!("{name}#")).map(str::to_owned));
            json!({ "name": name, "relationDefinitions": own.map(|name| json!({ "name": name })).collect::<Vec<_>>() })
        });
        Ok(view::bytes(&json!({ "schema": { "name": "", "namespaces": namespaces.collect::<Vec<_>>() } })))
    }),
    write("POST", "/v1/mgmt/fga/relations", |call| relations(call, true)),
    write("POST", "/v1/mgmt/fga/relations/delete", |call| relations(call, false)),
    write("DELETE", "/v1/mgmt/fga/relations", |call| {
        let (number, mut row) = stored::single(call.world, PLACE, "");
        row.fields.remove("relations");
        call.world.table_mut(PLACE).put_row(number, row);
        Ok(Call::nothing())
    }),
];

/// Types, and relations and permissions as `type#name`.
fn defined(dsl: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut types, mut relations) = (BTreeSet::new(), BTreeSet::new());
    let mut of = String::new();
    for line in dsl.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("type ") {
            name.trim().clone_into(&mut of);
            types.insert(of.clone());
        } else if let Some(rest) = line.strip_prefix("relation ").or_else(|| line.strip_prefix("permission ")) {
            relations.insert(format!("{of}#{}", rest.split(':').next().unwrap_or_default().trim()));
        }
    }
    (types, relations)
}

fn checked(call: &mut Call<'_>) -> Result<String, Refusal> {
    let dsl = call.body.required("dsl")?;
    call.ends()?;
    if !dsl.trim_start().starts_with("model AuthZ 1.0") {
        return Err(Refusal::Invalid("the schema must begin with model AuthZ 1.0".to_owned()));
    }
    let known = ["model ", "type ", "relation ", "permission ", "condition ", "//", "#", "}"];
    let unknown =
        dsl.lines().map(str::trim).find(|line| !line.is_empty() && !known.iter().any(|word| line.starts_with(word)));
    match unknown {
        Some(line) if !dsl.contains("condition ") => {
            Err(Refusal::Invalid(format!("the schema cannot be read at: {line}")))
        }
        Some(_) | None => Ok(dsl),
    }
}

fn save(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let dsl = checked(call)?;
    let (number, mut row) = stored::single(call.world, PLACE, "");
    if row.text("dsl") != dsl {
        let version = call.world.new_uuid();
        row.set("version", version);
        row.set("dsl", dsl);
        call.world.table_mut(PLACE).put_row(number, row);
    }
    Ok(Call::nothing())
}

fn dry_run(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let dsl = checked(call)?;
    let row = stored::single_late(call, PLACE, "");
    let (before, after) = (defined(row.text("dsl")), defined(&dsl));
    let types: Vec<_> = before.0.difference(&after.0).collect();
    let relations: Vec<_> = before.1.difference(&after.1).collect();
    let preview = json!({
        "hasDeletes": !types.is_empty() || !relations.is_empty(), "relations": relations, "types": types,
    });
    Ok(view::bytes(&Keyed("deletesPreview", preview)))
}

fn relations(call: &mut Call<'_>, adds: bool) -> Result<Vec<u8>, Refusal> {
    let given: Vec<Value> =
        call.body.items("tuples")?.unwrap_or_default().into_iter().map(|one| Value::Object(one.rest())).collect();
    call.ends()?;
    let (number, mut row) = stored::single(call.world, PLACE, "");
    let mut all = row.fields.get("relations").and_then(Value::as_array).cloned().unwrap_or_default();
    all.retain(|one| !given.contains(one));
    if adds {
        all.extend(given);
    }
    row.set("relations", all);
    call.world.table_mut(PLACE).put_row(number, row);
    Ok(Call::nothing())
}
