//! What is seen for the first time is looked at by somebody before anything of it is changed.

use crate::guards::approve;
use crate::guards::held;
use crate::guards::plan;
use crate::harness::PROJECT;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::permission;
use serde_json::Value;
use serde_json::json;
use std::fs;

/// `firstContact: hold`, with these lines beside it.
fn hold(lines: &[&str]) -> Setup {
    let lines = [&["firstContact: hold"], lines].concat();
    Setup { project: lines.iter().map(|line| (*line).to_owned()).collect(), ..Setup::default() }
}

async fn described(world: &World, kind: &str, name: &str) -> Value {
    world.entity(kind, name).await.unwrap()["description"].clone()
}

/// Starting to manage roles whose file was stale reverted what was live.
#[tokio::test]
async fn a_kind_declared_for_the_first_time_changes_nothing_live_before_somebody_looked() {
    let mut world = World::with(hold(&[])).await;
    world.write("permissions.yaml", &permission("p", "d"));
    world.converge().await;
    world.edit_live("roles/live", json!({ "description": "live" })).await;

    world.write("roles.yaml", "roles:\n  - { name: live, description: stale }\n  - name: new\n");
    let fingerprint = held(&world, "first_contact").await;
    world.until("creates go ahead", async |world| world.entity("roles", "new").await.is_some()).await;
    world.write("permissions.yaml", &permission("p", "d2"));
    world.until("known kinds too", async |world| described(world, "permissions", "p").await == "d2").await;
    world.assert_nothing_left().await;

    assert_eq!(described(&world, "roles", "live").await, "live");
    let status = world.project().await;
    assert_eq!((&status["converged"], &status["held"]["changes"]), (&json!(false), &json!(1)));
    world.stop().await;
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 4).await;
    assert_eq!(described(&world, "roles", "live").await, "live", "that is for whole projects");
    world.start().await;
    held(&world, "first_contact").await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("let go", async |world| described(world, "roles", "live").await == "stale").await;
    world.until("converged", async |world| world.is_converged().await).await;

    // Once is once: what follows is a change like any other.
    world.edit_live("roles/other", json!({ "description": "live" })).await;
    world.write(
        "roles.yaml",
        "roles:\n  - { name: live, description: next }\n  - { name: other, description: mine }\n  - name: new\n",
    );
    world.until("changed", async |world| described(world, "roles", "other").await == "mine").await;
    world.until("converged", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn a_part_declared_for_the_first_time_is_held_alone() {
    let mut world = World::with(hold(&[])).await;
    world.write("tenants.yaml", "roles:\n  - name: r\n  - name: live\ntenants:\n  - { id: t, name: T }\n");
    world.converge().await;
    world.edit_live("tenants/t", json!({ "name": "T", "defaultRoles": ["live"] })).await;

    world.write(
        "tenants.yaml",
        "roles:\n  - name: r\n  - name: live\ntenants:\n  - { id: t, name: T2, defaultRoles: [r] }\n",
    );
    held(&world, "first_contact").await;
    world.until("the rest", async |world| world.entity("tenants", "t").await.unwrap()["name"] == "T2").await;
    world.assert_nothing_left().await;
    // What it covers is what is there now.
    let fingerprint = held(&world, "first_contact").await;

    assert_eq!(world.entity("tenants", "t").await.unwrap()["defaultRoles"], json!(["live"]));
    let fields = plan(&world).await["changes"][0]["fields"].clone();
    assert_eq!(fields.as_array().unwrap().len(), 1, "{fields}");
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world
        .until("the part", async |world| world.entity("tenants", "t").await.unwrap()["defaultRoles"] == json!(["r"]))
        .await;
    world.until("converged", async |world| world.is_converged().await).await;
}

/// It was known as soon as the others were let go, so that its first answer changed what was live.
#[tokio::test]
async fn a_kind_that_was_refused_at_the_first_contact_is_known_only_once_it_answered() {
    let mut world = World::with(hold(&[])).await;
    world
        .set_live(json!({ "permissions": [{ "name": "p", "description": "live" }],
                           "roles": [{ "name": "r", "description": "live" }] }))
        .await;
    let refused = json!([{ "match": { "path": "/v1/mgmt/role/*" }, "fault": "status", "status": 403 }]);
    world.faults(refused).await;
    world.write("permissions.yaml", &permission("p", "mine"));
    world.write("roles.yaml", "roles:\n  - { name: r, description: mine }\n");
    world.start().await;
    let fingerprint = held(&world, "first_contact").await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("let go", async |world| described(world, "permissions", "p").await == "mine").await;

    world.faults(json!([])).await;
    world.pass().await;
    let fingerprint = held(&world, "first_contact").await;
    world.assert_nothing_left().await;

    assert_eq!(described(&world, "roles", "r").await, "live");
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("let go", async |world| described(world, "roles", "r").await == "mine").await;
}

#[tokio::test]
async fn first_contact_apply_covers_kinds_and_parts() {
    let mut world = World::new().await;
    world.write("permissions.yaml", &permission("p", "d"));
    world.converge().await;
    world.edit_live("roles/live", json!({ "description": "live" })).await;

    world.write("roles.yaml", "roles:\n  - { name: live, description: mine }\n");

    world.until("changed", async |world| described(world, "roles", "live").await == "mine").await;
}

/// Each wrote the other's project.
#[tokio::test]
async fn two_entries_whose_project_ids_were_swapped_change_nothing() {
    const OTHER: &str = "P2blackboxprojectxxxxxxxxx2";
    let mut world = World::new().await;
    let entries = |first: &str, second: &str, api: &str| {
        let entry = |name: &str, id: &str| {
            format!(
                "  - name: {name}\n    projectId: {id}\n    managementKey: {{ env: BLACKBOX_KEY }}\n    baseUrl: {api}\n    \
                 path: {name}\n    policy: sync\n    guards: {{ maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s }}\n"
            )
        };
        format!("projects:\n{}{}", entry("one", first), entry("two", second))
    };
    let api = world.api.clone();
    let set = |world: &mut World, first: &str, second: &str| {
        let text = entries(first, second, &api);
        world.reconfigure(|setup| setup.top = vec![text]);
    };
    for name in ["one", "two"] {
        world.write(
            &format!("{name}/all.yaml"),
            &format!("roles:\n  - {{ name: shared, description: {name} }}\n  - name: {name}\n"),
        );
    }
    let are = async |world: &World, converged: bool| {
        let projects = world.status().await["projects"].as_array().unwrap().clone();
        projects.iter().all(|project| project["converged"] == converged)
    };
    set(&mut world, PROJECT, OTHER);
    world.start().await;
    world.until("both", async |world| are(world, true).await).await;
    world.stop().await;
    let writes = world.writes().await.len();

    set(&mut world, OTHER, PROJECT);
    world.start().await;
    world
        .until("both held", async |world| {
            let projects = world.status().await["projects"].as_array().unwrap().clone();
            projects.iter().all(|project| project["held"]["reason"] == "first_contact")
        })
        .await;
    world.pass().await;
    let warnings = plan(&world).await["warnings"].to_string();
    assert!(
        warnings.contains("under another entry of the config (one, path one)") || warnings.contains("(two, path two)"),
        "{warnings}"
    );
    assert_eq!(world.writes().await.len(), writes);
    let changes = plan(&world).await["changes"].clone();
    assert!(changes.as_array().unwrap().iter().all(|change| change["action"] != "delete"), "{changes}");
    world.stop().await;

    set(&mut world, PROJECT, OTHER);
    world.start().await;
    world.until("as before", async |world| are(world, true).await).await;
    world.remove("one/all.yaml");
    world.write("one/all.yaml", "roles:\n  - { name: shared, description: one }\n");
    world.until("still owned", async |world| world.entity("roles", "one").await.is_none()).await;
}

/// The state of an older release; `tests/blackbox/fixtures/README.md` says how it was written.
fn old_state(world: &World) {
    fs::create_dir(world.path("state")).unwrap();
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/fixtures/state-4");
    for file in ["state.db", "fingerprint.key"] {
        fs::copy(fixture.join(file), world.path("state").join(file)).unwrap();
    }
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    state.execute("UPDATE project SET host = ?", [world.api.trim_start_matches("http://")]).unwrap();
}

#[tokio::test]
async fn a_state_of_the_release_before_holds_nothing_it_owns_and_changes_nothing_new() {
    let mut world = World::with(hold(&["policy: sync", "guards: { maxDeletePercent: 100, deleteAfter: 0s }"])).await;
    old_state(&world);
    world
        .set_live(json!({
            "permissions": [{ "name": "p", "description": "d" }],
            "roles": [{ "name": "r", "description": "live", "permissionNames": ["p"] }, { "name": "gone" }, { "name": "member" }],
            "tenants": [{ "id": "sent", "name": "S", "defaultRoles": [] },
                        { "id": "adopted", "name": "A", "defaultRoles": ["r"] }],
        }))
        .await;
    world.write(
        "all.yaml",
        "permissions:\n  - { name: p, description: d }\n\
         roles:\n  - { name: r, description: mine, permissionNames: [p] }\n  - name: member\n\
         tenants:\n  - { id: sent, name: S, defaultRoles: [member] }\n  - { id: adopted, name: A2, defaultRoles: [member] }\n",
    );

    world.start().await;
    // What it owns goes on as before: drift is healed, what left the files goes, what it sent is sent again.
    world.until("healed", async |world| described(world, "roles", "r").await == "mine").await;
    world.until("deleted", async |world| world.entity("roles", "gone").await.is_none()).await;
    let defaults = async |world: &World, id: &str| world.entity("tenants", id).await.unwrap()["defaultRoles"].clone();
    world.until("sent before", async |world| defaults(world, "sent").await == json!(["member"])).await;
    world.until("renamed", async |world| world.entity("tenants", "adopted").await.unwrap()["name"] == "A2").await;
    // What it never sent is looked at once.
    held(&world, "first_contact").await;
    world.assert_nothing_left().await;
    let fingerprint = held(&world, "first_contact").await;
    assert_eq!(world.project().await["held"]["changes"], 1);
    assert_eq!(defaults(&world, "adopted").await, json!(["r"]));

    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("let go", async |world| defaults(world, "adopted").await == json!(["member"])).await;
    world.until("converged", async |world| world.is_converged().await).await;
}

/// It parked the tenant for a difference that the release before had never looked at.
#[tokio::test]
async fn a_parent_that_differs_after_an_upgrade_is_held_once_and_parks_only_then() {
    let mut world = World::with(hold(&[])).await;
    old_state(&world);
    world
        .set_live(json!({
            "permissions": [{ "name": "p", "description": "d" }],
            "roles": [{ "name": "r", "description": "mine", "permissionNames": ["p"] }, { "name": "member" }],
            "tenants": [{ "id": "sent", "name": "S", "defaultRoles": ["member"] },
                        { "id": "adopted", "name": "A", "parent": "sent" }, { "id": "other", "name": "O" }],
        }))
        .await;
    let declare = |name: &str| {
        world.write(
            "all.yaml",
            &format!(
                "permissions:\n  - {{ name: p, description: d }}\n\
                 roles:\n  - {{ name: r, description: mine, permissionNames: [p] }}\n  - name: member\n\
                 tenants:\n  - {{ id: sent, name: S, defaultRoles: [member] }}\n  - {{ id: adopted, name: {name}, parent: other }}\n"
            ),
        );
    };
    declare("A2");
    let name = async |world: &World| world.entity("tenants", "adopted").await.unwrap()["name"].clone();
    world.start().await;

    held(&world, "first_contact").await;
    world.until("what it compared before goes ahead", async |world| name(world).await == "A2").await;
    world.fresh_pass().await;
    world.fresh_pass().await;
    let project = world.project().await;
    assert_eq!((&project["problems"], &project["held"]["changes"]), (&json!([]), &json!(1)));
    assert_eq!(project["notConvergedBecause"], "held");
    let shown = plan(&world).await;
    let change = shown["changes"].as_array().unwrap().iter().find(|change| change["id"] == "adopted").unwrap();
    assert_eq!(change["fields"], json!([{ "path": "parent", "from": "sent", "to": "other" }]));

    let fingerprint = held(&world, "first_contact").await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("parked", async |world| world.has_problem("tenants", "adopted", "parked").await).await;
    let problem = world.problem("tenants", "adopted").await.unwrap();
    assert!(problem["message"].as_str().unwrap().contains("parent can be set only when"), "{problem}");
    world.fresh_pass().await;
    let project = world.project().await;
    assert_eq!((&project["held"], &project["notConvergedBecause"]), (&Value::Null, &json!("parked")));
    world.edit_live("tenants/adopted", json!({ "parent": "other" })).await;
    world.fresh_pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
}

async fn renames_of_the_project(world: &World) -> usize {
    world.writes().await.iter().filter(|(line, _)| line.contains("/project/update/")).count()
}

/// Its name and tags were taken for empty, and written over in the first pass.
#[tokio::test]
async fn a_project_whose_name_the_key_does_not_show_is_not_renamed_before_somebody_looked() {
    for is_known in [false, true] {
        let mut world = World::with(hold(&[])).await;
        let refused =
            json!({ "match": { "path": "/v1/mgmt/projects/list" }, "fault": "status", "status": 403, "body": {} });
        world.faults(json!([refused])).await;
        if is_known {
            world.write("permissions.yaml", &permission("p", "d"));
            world.converge().await;
        }

        world.write("project.yaml", "project: { name: Renamed, tags: [] }\n");
        if !is_known {
            world.start().await;
        }
        let fingerprint = held(&world, "first_contact").await;
        world.assert_nothing_left().await;

        assert_eq!(renames_of_the_project(&world).await, 0);
        assert_eq!(approve(&world, &fingerprint).await, 200);
        world.until("converged", async |world| world.is_converged().await).await;
        assert!(renames_of_the_project(&world).await > 0);
        let sent = renames_of_the_project(&world).await;
        world.fresh_pass().await;
        assert_eq!(renames_of_the_project(&world).await, sent, "what was sent is known from then on");
    }
}
