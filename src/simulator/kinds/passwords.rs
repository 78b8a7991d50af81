//! Password settings, of the project and of tenants. The v1 call overwrites everything; of the newer fields it answers
//! some, and the v2 call, for the project alone, reads and writes all.

use super::stored;
use super::stored::Key;
use super::stored::PLAIN;
use super::stored::Stored;
use super::tenants;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::entity;
use crate::simulator::entity::Content;
use crate::simulator::entity::Entity;
use crate::simulator::entity::Field;
use crate::simulator::entity::field;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::world::Shelf;
use crate::simulator::world::World;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("passwordSettings");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, key: Key::Tenant, start: &[start], ..PLAIN };

/// What every SDK sends.
const OLDER: &[Field] = &[
    field("enabled", Content::Flag),
    field("minLength", Content::Number),
    field("lowercase", Content::Flag),
    field("uppercase", Content::Flag),
    field("number", Content::Flag),
    field("nonAlphanumeric", Content::Flag),
    field("expiration", Content::Flag),
    field("expirationWeeks", Content::Number),
    field("reuse", Content::Flag),
    field("reuseAmount", Content::Number),
    field("lock", Content::Flag),
    field("lockAttempts", Content::Number),
];
const NEWER: &[Field] = &[
    field("tempLock", Content::Flag),
    field("tempLockAttempts", Content::Number),
    field("tempLockDuration", Content::Number),
    field("enablePasswordStrength", Content::Flag),
    field("passwordStrengthScore", Content::Number),
];
/// The v1 call takes them and does not answer them.
const HIDDEN: &[Field] = &[
    field("anyLetter", Content::Flag),
    field("disallowEmailMatch", Content::Flag),
    field("disallowedCharacters", Content::Text),
];
const PROJECT_ONLY: &[Field] = &[
    field("maskError", Content::Flag),
    field("emailConnectorId", Content::Text),
    field("emailTemplateId", Content::Text),
];

const ROUTES: &[Route] = &[
    read("GET", "/v1/mgmt/password/settings", |call| {
        let mut tables = vec![OLDER, NEWER];
        if call.switches.password_answers_all {
            tables.push(HIDDEN);
        }
        get(call, call.optional("tenantId"), &tables)
    }),
    project_write("POST", "/v1/mgmt/password/settings", |call| set(call, &[])),
    read("GET", "/v2/mgmt/password/settings", |call| {
        v2(call)?;
        get(call, "", &[OLDER, NEWER, HIDDEN, PROJECT_ONLY])
    }),
    project_write("POST", "/v2/mgmt/password/settings", |call| {
        v2(call)?;
        set(call, PROJECT_ONLY)
    }),
];

fn start(world: &mut World) {
    let mut row = Entity::default();
    for flag in ["enabled", "lowercase", "uppercase", "number", "nonAlphanumeric", "lock"] {
        row.set(flag, true);
    }
    row.set("minLength", 8);
    row.set("lockAttempts", 5);
    world.table_mut(PLACE).insert(row);
}

fn v2(call: &Call<'_>) -> Result<(), Refusal> {
    if call.switches.password_v2 { Ok(()) } else { Err(Refusal::NoSuchCall) }
}

/// A tenant without settings of its own answers those of the project.
fn get(call: &mut Call<'_>, tenant: &str, tables: &[&[Field]]) -> Result<Vec<u8>, Refusal> {
    if !tenant.is_empty() {
        tenants::number(call.world, tenant)?;
    }
    let own = stored::single_late(call, PLACE, tenant);
    let row = if own.fields.is_empty() { stored::single_late(call, PLACE, "") } else { own };
    let look = call.look();
    let mut answer = json!({ "tenantId": tenant });
    for field in tables.iter().flat_map(|table| table.iter()) {
        let shown = entity::shown(&row.fields, std::slice::from_ref(field), &look);
        if let (Some(answer), Some(value)) = (answer.as_object_mut(), shown.get(field.name())) {
            answer.insert(field.name().to_owned(), value.clone());
        }
    }
    Ok(view::bytes(&answer))
}

fn set(call: &mut Call<'_>, more: &[Field]) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let tenant = fields.text("tenantId")?.unwrap_or_default();
    if !tenant.is_empty() {
        tenants::number(call.world, &tenant)?;
    }
    let (number, mut row) = stored::single(call.world, PLACE, &tenant);
    entity::reset(&mut row.fields, OLDER);
    entity::reset(&mut row.fields, more);
    if !call.switches.password_keeps_newer {
        entity::reset(&mut row.fields, NEWER);
        entity::reset(&mut row.fields, HIDDEN);
    }
    for table in [OLDER, NEWER, HIDDEN, more] {
        entity::patch(&mut row.fields, table, &mut fields, call.switches)?;
    }
    fields.end(call.switches)?;
    // A full overwrite may leave nothing that is set; the settings are the tenant's own all the same.
    if !row.fields.contains_key("enabled") {
        row.set("enabled", false);
    }
    call.world.table_mut(PLACE).put_row(number, row);
    Ok(Call::nothing())
}
