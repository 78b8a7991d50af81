//! The project itself: its name and tags, cloning and snapshots. The answers about other projects are made up.

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
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("project");

/// The kind.
pub const KIND: Stored = Stored { place: PLACE, routes: ROUTES, key: Key::One, secrets: &["inputSecrets"], ..PLAIN };

const ROUTES: &[Route] = &[
    read("POST", "/v1/mgmt/projects/list", |call| {
        call.ends()?;
        let row = stored::single_late(call, PLACE, "");
        let tags = row.fields.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
        let tags = call.look().mixed(tags);
        let project = json!({ "id": call.project, "name": row.name, "environment": row.text("environment"), "tags": tags, "tag": "" });
        Ok(view::bytes(&json!({ "projects": [project] })))
    }),
    project_write("POST", "/v1/mgmt/project/update/name", |call| {
        let name = call.body.required("name")?;
        call.ends()?;
        change(call, |row| row.name = name);
        Ok(Call::nothing())
    }),
    project_write("POST", "/v1/mgmt/project/update/tags", |call| {
        let tags = call.body.texts("tags")?.unwrap_or_default();
        call.ends()?;
        change(call, |row| row.set("tags", tags));
        Ok(Call::nothing())
    }),
    write("POST", "/v1/mgmt/project/clone", |call| {
        let name = call.body.required("name")?;
        let environment = call.body.text("environment")?.unwrap_or_default();
        let tags = call.body.texts("tags")?.unwrap_or_default();
        call.ends()?;
        let id = call.world.new_id("P2");
        Ok(view::bytes(&json!({ "projectId": id, "projectName": name, "environment": environment, "tags": tags })))
    }),
    write("POST", "/v1/mgmt/project/delete", |call| {
        call.ends()?;
        let message = "Cannot delete the last project".to_owned();
        Err(Refusal::Coded { status: 400, code: "E073008", message })
    }),
    read("POST", "/v1/mgmt/project/snapshot/export", |call| {
        call.body.text("format")?;
        call.ends()?;
        if call.switches.free_plan {
            let message = "Feature is not available in the current plan".to_owned();
            return Err(Refusal::Coded { status: 403, code: "E111703", message });
        }
        let row = stored::single_late(call, PLACE, "");
        let files =
            json!({ "project.json": { "name": row.name }, "flows/sign-in/metadata.json": {}, "attributes.json": {} });
        Ok(view::bytes(&json!({ "files": files })))
    }),
    read("POST", "/v1/mgmt/project/snapshot/validate", |call| {
        snapshot(call)?;
        let missing = json!({ "connectors": [], "oauthProviders": [], "outboundApps": [] });
        Ok(view::bytes(&json!({ "ok": true, "failures": [], "missingSecrets": missing })))
    }),
    project_write("POST", "/v1/mgmt/project/snapshot/import", |call| {
        snapshot(call)?;
        Ok(Call::nothing())
    }),
];

/// What a snapshot says is not applied here.
fn snapshot(call: &mut Call<'_>) -> Result<(), Refusal> {
    call.body.object("files")?;
    call.body.object("inputSecrets")?;
    call.body.texts("excludes")?;
    call.ends()
}

fn change(call: &mut Call<'_>, change: impl FnOnce(&mut Entity)) {
    let (number, mut row) = stored::single(call.world, PLACE, "");
    change(&mut row);
    call.world.table_mut(PLACE).put_row(number, row);
}
