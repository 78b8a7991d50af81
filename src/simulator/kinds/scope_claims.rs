//! Which claims a scope brings, in order: on equal claim names the later entry wins.

use super::stored;
use super::stored::Key;
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
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::world::Shelf;
use serde_json::Value;

const PLACE: Shelf<Entity> = Shelf::new("scopeClaimMapping");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, key: Key::One, ..PLAIN };

const FIELDS: &[Field] =
    &[field("scope", Content::Text), field("claims", Content::Map), field("description", Content::Text)];

const ROUTES: &[Route] = &[
    read("POST", "/v1/mgmt/scopeClaimMapping/get", |call| {
        call.ends()?;
        let row = stored::single_late(call, PLACE, "");
        let look = call.look();
        let mappings = row.fields.get("mappings").and_then(Value::as_array).cloned().unwrap_or_default();
        let shown = mappings.iter().filter_map(Value::as_object).map(|one| entity::shown(one, FIELDS, &look));
        Ok(view::bytes(&Keyed("mappings", shown.collect::<Vec<_>>())))
    }),
    project_write("POST", "/v1/mgmt/scopeClaimMapping/set", set),
    project_write("POST", "/v1/mgmt/scopeClaimMapping/delete", |call| {
        call.ends()?;
        if let (Some(number), _) = stored::single(call.world, PLACE, "") {
            call.world.table_mut(PLACE).remove(number);
        }
        Ok(Call::nothing())
    }),
];

fn set(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let items = call.body.items("mappings")?.unwrap_or_default();
    call.ends()?;
    let mut mappings = Vec::new();
    for mut fields in items {
        let mut mapping = Document::new();
        entity::create(&mut mapping, FIELDS, &mut fields, call.switches)?;
        fields.end(call.switches)?;
        if mapping.get("scope").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(Refusal::required("scope"));
        }
        mappings.push(Value::Object(mapping));
    }
    let (number, mut row) = stored::single(call.world, PLACE, "");
    row.set("mappings", mappings);
    call.world.table_mut(PLACE).put_row(number, row);
    Ok(Call::nothing())
}
