//! Secrets of applications: one that comes with it, further ones by name.

use super::stored;
use crate::simulator::api::Call;
use crate::simulator::entity::Entity;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;

/// A new secret in place of the old one.
pub fn rotate(call: &mut Call<'_>, place: Shelf<Entity>) -> Result<Vec<u8>, Refusal> {
    let (number, mut row) = stored::by_id(call.world, place, "application", &call.body.required("id")?)?;
    call.ends()?;
    let secret = call.world.new_id("secret");
    row.set("clientSecret", secret.as_str());
    call.world.table_mut(place).replace(number, row);
    Ok(view::bytes(&Keyed("cleartext", secret)))
}

/// One more secret; `key` is how the request calls the application's id.
pub fn add(call: &mut Call<'_>, place: Shelf<Entity>, key: &str) -> Result<Vec<u8>, Refusal> {
    let (number, mut row) = stored::by_id(call.world, place, "application", &call.body.required(key)?)?;
    let name = call.body.required("name")?;
    let expires = call.body.integer("expireTime")?.unwrap_or_default();
    call.ends()?;
    let (id, secret, time) = (call.world.new_id("SEC"), call.world.new_id("secret"), call.world.new_time());
    let meta = json!({ "id": id, "name": name, "status": "active", "expireTime": expires, "createdTime": time });
    let mut secrets = of(&row);
    secrets.push(meta.clone());
    row.set("secrets", secrets);
    call.world.table_mut(place).replace(number, row);
    Ok(view::bytes(&json!({ "meta": meta, "cleartext": secret })))
}

/// One secret less; answers those that are left.
pub fn revoke(call: &mut Call<'_>, place: Shelf<Entity>, key: &str) -> Result<Vec<u8>, Refusal> {
    let (number, mut row) = stored::by_id(call.world, place, "application", &call.body.required(key)?)?;
    let name = call.body.required("name")?;
    call.ends()?;
    let mut secrets = of(&row);
    secrets.retain(|secret| secret["name"] != json!(name));
    row.set("secrets", secrets.clone());
    call.world.table_mut(place).replace(number, row);
    Ok(view::bytes(&Keyed("secrets", secrets)))
}

fn of(row: &Entity) -> Vec<Value> {
    row.fields.get("secrets").and_then(Value::as_array).cloned().unwrap_or_default()
}
