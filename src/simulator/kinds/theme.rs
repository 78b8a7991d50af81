//! The theme. A v2 import merges by style; a v1 import replaces the whole.

use super::flows;
use super::stored;
use super::stored::Key;
use super::stored::PLAIN;
use super::stored::Stored;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::entity::Entity;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::world::Shelf;
use crate::simulator::world::World;
use serde_json::Value;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("theme");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, key: Key::One, start: &[start], ..PLAIN };

const ROUTES: &[Route] = &[
    read("POST", "/v2/mgmt/theme/export", |call| {
        call.ends()?;
        let row = stored::single_late(call, PLACE, "");
        let look = call.look();
        let or = |name: &str| row.fields.get(name).cloned().unwrap_or(json!({}));
        let mut theme = json!({ "styles": or("styles"), "componentsVersion": flows::components(&look), "references": or("references") });
        if look.switches.reformats {
            flows::trim(&mut theme);
        }
        Ok(view::bytes(&Keyed("theme", theme)))
    }),
    project_write("POST", "/v2/mgmt/theme/import", import_v2),
    read("POST", "/v1/mgmt/theme/export", |call| {
        call.ends()?;
        let row = stored::single_late(call, PLACE, "");
        Ok(view::bytes(&Keyed("theme", v1(&row))))
    }),
    project_write("POST", "/v1/mgmt/theme/import", import_v1),
];

fn start(world: &mut World) {
    let mut row = Entity::default();
    row.set("styles", json!({ "light": {}, "dark": {} }));
    world.table_mut(PLACE).insert(row);
}

fn v1(row: &Entity) -> Value {
    json!({ "id": row.text("themeId"), "cssTemplate": row.fields.get("cssTemplate").cloned().unwrap_or(json!({})) })
}

fn import_v2(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut theme = call.body.object("theme")?.ok_or_else(|| Refusal::required("theme"))?;
    call.ends()?;
    let (number, mut row) = stored::single(call.world, PLACE, "");
    let mut styles = row.fields.get("styles").and_then(Value::as_object).cloned().unwrap_or_default();
    if call.switches.theme_replaces {
        styles.clear();
    }
    match theme.remove("styles") {
        Some(Value::Object(given)) => styles.extend(given),
        Some(Value::Null) | None => {}
        Some(_) => return Err(Refusal::Malformed("styles must be an object".to_owned())),
    }
    row.set("styles", styles);
    if let Some(references) = theme.remove("references") {
        row.set("references", references);
    }
    call.world.table_mut(PLACE).put_row(number, row);
    Ok(Call::nothing())
}

fn import_v1(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut theme = crate::simulator::fields::Fields::new(call.body.object("theme")?.unwrap_or_default());
    call.ends()?;
    let (number, mut row) = stored::single(call.world, PLACE, "");
    row.set("themeId", theme.text("id")?.unwrap_or_default());
    row.set("cssTemplate", theme.object("cssTemplate")?.unwrap_or_default());
    theme.end(call.switches)?;
    let answer = v1(&row);
    call.world.table_mut(PLACE).put_row(number, row);
    Ok(view::bytes(&Keyed("theme", answer)))
}
