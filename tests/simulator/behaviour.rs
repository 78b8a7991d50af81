//! What the contract says beyond the shapes: overwriting, patching, batches, renames, references, the traps.

use crate::harness::PROJECT;
use crate::harness::World;
use crate::harness::fixture;
use crate::harness::names;
use descope_gitops::simulator::Options;
use serde_json::Value;
use serde_json::json;

async fn with_fixture() -> World {
    let world = World::new().await;
    world.set_state(&fixture()).await;
    world
}

#[tokio::test]
async fn a_new_project_has_its_built_ins_and_ids_follow_from_the_seed() {
    let world = World::new().await;
    let other = World::new().await;
    let seeded = World::with(Options { seed: 1, ..Options::default() }).await;

    let permissions = world.get("/v1/mgmt/permission/all").await.ok();
    let roles = world.get("/v1/mgmt/role/all").await.ok();

    assert_eq!(names(&permissions["permissions"]), ["Impersonate", "User Admin", "SSO Admin"]);
    assert!(permissions["permissions"].as_array().unwrap().iter().all(|one| one["systemDefault"] == true));
    assert_eq!(names(&roles["roles"]), ["Tenant Admin"]);
    assert_eq!(roles, other.get("/v1/mgmt/role/all").await.ok());
    assert_ne!(roles, seeded.get("/v1/mgmt/role/all").await.ok());
    let id = world.post("tenant/create", json!({ "name": "Acme" })).await.ok()["id"].clone();
    assert!(id.as_str().unwrap().starts_with("T2") && id.as_str().unwrap().len() == 28, "{id}");
}

#[tokio::test]
async fn unset_fields_are_present_as_zero_values_and_older_tenants_lack_four_fields() {
    let world = World::new().await;
    world.post("tenant/create", json!({ "id": "root", "name": "Root" })).await.ok();
    let create = json!({ "id": "acme", "name": "Acme", "parent": "root", "federatedAppIds": ["app"] });
    world.post("tenant/create", create).await.ok();

    let acme = world.get("/v1/mgmt/tenant?id=acme").await.ok();

    assert_eq!((&acme["selfProvisioningDomains"], &acme["disabled"]), (&json!([]), &json!(false)));
    assert_eq!((&acme["parent"], &acme["federatedAppIds"]), (&json!("root"), &json!(["app"])));
    assert_eq!((&acme["defaultRoles"], &acme["successors"]), (&json!([]), &json!([])));
    let root = world.get("/v1/mgmt/tenant?id=root").await.ok();
    assert_eq!((&root["parent"], &root["successors"]), (&json!(""), &json!(["acme"])));
    world.switch(json!({ "olderTenants": true })).await;
    let acme = world.get("/v1/mgmt/tenant?id=acme").await.ok();
    for field in ["parent", "successors", "federatedAppIds", "defaultRoles"] {
        assert!(acme.get(field).is_none(), "{acme}");
    }
    let stored = &world.state().await["tenants"][1];
    assert_eq!((&stored["parent"], &stored["federatedAppIds"]), (&json!("root"), &json!(["app"])));
}

#[tokio::test]
async fn an_update_overwrites_and_a_patch_changes_only_what_is_present() {
    let world = with_fixture().await;
    let acme = async || world.get("/v1/mgmt/tenant?id=acme").await.ok();

    world
        .send("PATCH", "/v1/mgmt/tenant/patch", json!({ "id": "acme", "name": "Acme Inc", "customAttributes": null }))
        .await
        .ok();
    let patched = acme().await;
    world.post("tenant/update", json!({ "id": "acme", "name": "Acme Inc" })).await.ok();
    let updated = acme().await;

    assert_eq!((&patched["name"], &patched["disabled"]), (&json!("Acme Inc"), &json!(true)));
    assert_eq!(patched["customAttributes"], json!({ "plan": "gold", "seats": 1 }));
    assert_eq!((&updated["disabled"], &updated["customAttributes"]), (&json!(false), &json!({})));
    assert_eq!(updated["defaultRoles"], json!(["Editor"]));
}

#[tokio::test]
async fn whether_an_empty_list_in_a_patch_clears_is_a_switch() {
    let world = with_fixture().await;
    let patch = json!({ "id": "acme", "selfProvisioningDomains": [] });

    world.switch(json!({ "patchEmptyList": "ignored" })).await;
    world.send("PATCH", "/v1/mgmt/tenant/patch", patch.clone()).await.ok();
    let ignored = world.state().await["tenants"][0]["selfProvisioningDomains"].clone();
    world.switch(json!({ "patchEmptyList": "clears" })).await;
    world.send("PATCH", "/v1/mgmt/tenant/patch", patch).await.ok();
    let cleared = world.state().await["tenants"][0]["selfProvisioningDomains"].clone();

    assert_eq!((ignored, cleared), (json!(["acme.com"]), json!([])));
}

#[tokio::test]
async fn attributes_in_a_patch_replace_or_merge_and_must_be_defined_when_a_list_is_given() {
    let world = with_fixture().await;
    let patch = async |attributes: Value| {
        let body = json!({ "id": "acme", "customAttributes": attributes });
        world.send("PATCH", "/v1/mgmt/tenant/patch", body).await.status.as_u16()
    };
    let stored = async || world.state().await["tenants"][0]["customAttributes"].clone();

    world.switch(json!({ "patchAttributes": "merge" })).await;
    assert_eq!(patch(json!({ "seats": null, "tags": ["a"] })).await, 200);
    assert_eq!(stored().await, json!({ "plan": "gold", "tags": ["a"] }));
    world.switch(json!({ "patchAttributes": "replace", "tenantAttributes": ["seats"] })).await;
    assert_eq!(patch(json!({ "seats": 7 })).await, 200);
    assert_eq!(patch(json!({ "plan": "gold" })).await, 400);
    assert_eq!(stored().await, json!({ "seats": 7 }));
}

#[tokio::test]
async fn names_that_are_taken_or_unknown_can_be_let_through() {
    let world = with_fixture().await;
    world
        .switch(json!({ "renameCollision": "ignore", "unknownPermission": "ignore", "uniqueTenantNames": false }))
        .await;

    let update = json!({ "name": "Editor", "newName": "Viewer", "permissionNames": ["nobody", "doc:read"] });
    world.post("role/update", update).await.ok();
    world.post("permission/update", json!({ "name": "a", "newName": "c", "description": "new" })).await.ok();
    world.post("tenant/create", json!({ "id": "second", "name": "Acme Corp" })).await.ok();

    let state = world.state().await;
    assert_eq!(
        (&state["roles"][3]["name"], &state["roles"][3]["permissionNames"]),
        (&json!("Editor"), &json!(["doc:read"]))
    );
    assert_eq!(
        (&state["permissions"][6]["name"], &state["permissions"][6]["description"]),
        (&json!("a"), &json!("new"))
    );
    assert_eq!(names(&state["tenants"]), ["Acme Corp", "Globex", "Acme Corp"]);
}

#[tokio::test]
async fn tenants_and_roles_are_found_by_every_filter() {
    let world = with_fixture().await;
    let tenants = [
        (json!({}), 2),
        (json!({ "tenantIds": ["globex", "nobody"] }), 1),
        (json!({ "tenantNames": ["Acme Corp"], "tenantIds": ["globex"] }), 0),
        (json!({ "tenantSelfProvisioningDomains": ["acme.com"] }), 1),
        (json!({ "customAttributes": { "plan": "gold" } }), 1),
        (json!({ "customAttributes": { "plan": "silver" } }), 0),
        (json!({ "authType": "none" }), 2),
        (json!({ "parentTenantId": "acme" }), 1),
    ];
    let roles = [
        (json!({}), 11),
        (json!({ "tenantIds": ["acme"] }), 2),
        (json!({ "tenantIds": ["acme"], "includeProjectRoles": true }), 11),
        (json!({ "roleNameLike": "EDIT" }), 1),
        (json!({ "permissionNames": ["doc:read"] }), 1),
        (json!({ "roleIds": ["ROL2aaa", "ROL2bbb"], "roleNames": ["r1"] }), 1),
    ];

    for (kind, cases) in [("tenant", tenants.to_vec()), ("role", roles.to_vec())] {
        for (filter, expected) in cases {
            let answer = world.post(&format!("{kind}/search"), filter.clone()).await.ok();
            assert_eq!(answer[format!("{kind}s")].as_array().unwrap().len(), expected, "{kind} {filter}");
        }
    }
}

#[tokio::test]
async fn errors_about_what_is_absent_have_the_status_code_and_body_that_the_switches_say() {
    let world = with_fixture().await;
    let load = async || world.get("/v1/mgmt/tenant?id=nobody").await;

    let by_default = load().await;
    world.switch(json!({ "notFoundStatus": 404, "notFoundCode": "E099999" })).await;
    let switched = load().await;
    world.switch(json!({ "emptyErrors": true })).await;
    let empty = load().await;

    assert_eq!((by_default.status.as_u16(), &by_default.json()["errorCode"]), (400, &json!("E112202")));
    assert_eq!(by_default.json()["errorMessage"], "tenant nobody not found");
    assert_eq!((switched.status.as_u16(), &switched.json()["errorCode"]), (404, &json!("E099999")));
    assert_eq!((empty.status.as_u16(), empty.text.as_str()), (404, ""));
}

#[tokio::test]
async fn a_round_trip_takes_at_least_its_latency() {
    let world = World::new().await;
    world.switch(json!({ "latency": "60ms" })).await;
    let start = tokio::time::Instant::now();

    world.get("/v1/mgmt/license").await.ok();

    assert!(start.elapsed() >= std::time::Duration::from_millis(60));
}

#[tokio::test]
async fn one_bad_item_leaves_a_batch_unapplied_unless_switched_to_partial() {
    let world = with_fixture().await;
    let batch = json!({ "roles": [{ "name": "New 1" }, { "name": "Bad", "permissionNames": ["nobody"] }, { "name": "New 2" }] });
    let before = world.state().await;

    let atomic = world.post("role/create/batch", batch.clone()).await;
    assert_eq!(atomic.status, 400);
    assert_eq!(atomic.json()["errorMessage"], "permission nobody not found");
    assert_eq!(world.state().await, before);

    world.switch(json!({ "batch": "partial" })).await;
    assert_eq!(world.post("role/create/batch", batch).await.status, 400);
    assert_eq!(world.role_names().await[11..], ["New 1", "New 2"]);
}

#[tokio::test]
async fn a_batch_of_roles_answers_them_with_ids_in_order() {
    let world = with_fixture().await;

    let answer = world.post("role/create/batch", json!({ "roles": [{ "name": "z" }, { "name": "y" }] })).await.ok();

    assert_eq!(names(&answer["roles"]), ["z", "y"]);
    assert!(answer["roles"][0]["id"].as_str().unwrap().starts_with("ROL"));
}

#[tokio::test]
async fn a_batch_delete_of_roles_without_an_effective_filter_deletes_every_role() {
    let bodies = [json!({}), Value::Null, json!({ "roleNames": [], "roleIds": null }), json!({ "names": ["Editor"] })];
    for body in bodies {
        let world = with_fixture().await;

        world.post("role/delete/batch", body.clone()).await.ok();

        assert_eq!(world.role_names().await, [""; 0], "{body}");
        assert_eq!(world.state().await["tenants"][0]["defaultRoles"], json!([]));
    }
    let world = with_fixture().await;
    world.switch(json!({ "emptyRoleDelete": "error" })).await;
    assert_eq!(world.post("role/delete/batch", json!({})).await.status, 400);
}

#[tokio::test]
async fn a_batch_delete_of_permissions_without_a_filter_is_refused_unless_switched() {
    let world = with_fixture().await;
    assert_eq!(world.post("permission/delete/batch", json!({ "names": [] })).await.status, 400);

    world.switch(json!({ "emptyPermissionDelete": "deletesAll" })).await;
    world.post("permission/delete/batch", json!({})).await.ok();

    assert_eq!(names(&world.state().await["permissions"]), ["Impersonate", "User Admin", "SSO Admin"]);
}

#[tokio::test]
async fn a_rename_keeps_the_id_and_every_reference() {
    let world = with_fixture().await;
    let id = |state: &Value| state["roles"][3]["id"].clone();
    let before = id(&world.state().await);

    world.post("permission/update", json!({ "name": "doc:write", "newName": "doc:edit" })).await.ok();
    let update = json!({ "name": "Editor", "newName": "Author", "permissionNames": ["doc:edit", "SSO Admin"] });
    world.post("role/update", update).await.ok();

    let state = world.state().await;
    assert_eq!(id(&state), before);
    assert_eq!(state["roles"][3]["permissionNames"], json!(["doc:edit", "SSO Admin"]));
    assert_eq!(state["tenants"][0]["defaultRoles"], json!(["Author"]));
}

#[tokio::test]
async fn a_taken_name_is_refused_on_create_and_on_rename() {
    let world = with_fixture().await;
    let table = [
        ("permission/create", json!({ "name": "doc:read" })),
        ("permission/update", json!({ "name": "doc:write", "newName": "doc:read" })),
        ("role/create", json!({ "name": "Editor" })),
        ("role/update", json!({ "name": "Editor", "newName": "Viewer" })),
        ("tenant/create", json!({ "id": "acme", "name": "Other" })),
        ("tenant/create", json!({ "id": "other", "name": "Acme Corp" })),
        ("tenant/update", json!({ "id": "globex", "name": "Acme Corp" })),
    ];
    let before = world.state().await;
    for (call, body) in table.clone() {
        let answer = world.post(call, body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["errorCode"]), (400, &json!("E011003")), "{call}");
        assert!(answer.json()["errorMessage"].as_str().unwrap().contains("already exists"), "{call}");
    }
    world.switch(json!({ "existsStatus": 409, "existsCode": "E012345" })).await;
    for (call, body) in table {
        let answer = world.post(call, body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["errorCode"]), (409, &json!("E012345")), "{call}");
    }
    assert_eq!(world.state().await, before);
}

#[tokio::test]
async fn the_same_role_name_lives_in_the_project_and_in_several_tenants() {
    let world = with_fixture().await;

    world.post("role/create", json!({ "name": "Owner" })).await.ok();
    world.post("role/create", json!({ "name": "Owner", "tenantId": "globex" })).await.ok();
    world.post("role/delete", json!({ "name": "Owner", "tenantId": "acme" })).await.ok();

    let answer = world.post("role/search", json!({ "roleNames": ["Owner"] })).await.ok();
    let tenants: Vec<&str> =
        answer["roles"].as_array().unwrap().iter().map(|role| role["tenantId"].as_str().unwrap()).collect();
    assert_eq!(tenants, ["", "globex"]);
    assert_eq!(world.post("role/create", json!({ "name": "x", "tenantId": "nobody" })).await.status, 400);
}

#[tokio::test]
async fn deleting_what_is_referred_to_takes_the_reference_or_is_refused() {
    let world = with_fixture().await;

    world.switch(json!({ "deleteUsed": "error" })).await;
    assert_eq!(world.post("permission/delete", json!({ "name": "doc:write" })).await.status, 400);
    assert_eq!(world.post("role/delete", json!({ "name": "Editor" })).await.status, 400);

    world.switch(json!({ "deleteUsed": "unlink" })).await;
    world.post("permission/delete", json!({ "name": "doc:write" })).await.ok();
    assert_eq!(world.state().await["roles"][3]["permissionNames"], json!([]));
    world.post("role/delete", json!({ "name": "Editor" })).await.ok();
    assert_eq!(world.state().await["tenants"][0]["defaultRoles"], json!([]));
}

#[tokio::test]
async fn deleting_a_tenant_takes_its_roles_along() {
    let world = with_fixture().await;

    assert_eq!(world.post("tenant/delete", json!({ "id": "acme", "cascade": false })).await.status, 400);
    world.switch(json!({ "deleteParent": "orphan" })).await;
    world.post("tenant/delete", json!({ "id": "acme", "cascade": false })).await.ok();

    let state = world.state().await;
    assert_eq!(names(&state["tenants"]), ["Globex"]);
    assert_eq!(state["tenants"][0]["parent"], "");
    assert!(state["roles"].as_array().unwrap().iter().all(|role| role["tenantId"] == ""));
}

#[tokio::test]
async fn deleting_something_absent_is_an_error_unless_switched() {
    let world = with_fixture().await;
    let table = [
        ("permission/delete", json!({ "name": "nobody" })),
        ("permission/delete/batch", json!({ "names": ["doc:read", "nobody"] })),
        ("role/delete", json!({ "name": "nobody" })),
        ("role/delete/batch", json!({ "roleNames": ["nobody", "Editor"] })),
        ("tenant/delete", json!({ "id": "nobody" })),
    ];
    let before = world.state().await;
    for (call, body) in table.clone() {
        assert_eq!(world.post(call, body).await.status, 400, "{call}");
    }
    assert_eq!(world.state().await, before);

    world.switch(json!({ "deleteAbsent": "success" })).await;
    for (call, body) in table {
        world.post(call, body).await.ok();
    }
    let state = world.state().await;
    assert!(!names(&state["permissions"]).contains(&"doc:read".to_owned()));
    assert!(!names(&state["roles"]).contains(&"Editor".to_owned()));
}

#[tokio::test]
async fn the_built_in_role_can_be_neither_updated_nor_deleted_unless_switched() {
    let world = with_fixture().await;
    let id = world.state().await["roles"][0]["id"].clone();
    let table = [
        ("role/update", json!({ "name": "Tenant Admin", "newName": "Tenant Admin" })),
        ("role/update/batch", json!({ "roles": [{ "id": id, "newName": "Other" }] })),
        ("role/delete", json!({ "name": "Tenant Admin" })),
        ("role/delete/batch", json!({ "roleNames": ["Tenant Admin"] })),
    ];
    for (call, body) in table.clone() {
        let answer = world.post(call, body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["errorCode"]), (400, &json!("E024214")), "{call}");
        assert!(answer.json()["errorMessage"].as_str().unwrap().contains("version conflict"), "{call}");
    }
    world.switch(json!({ "protectedBuiltIns": false })).await;
    let (call, body) = table[0].clone();
    world.post(call, body).await.ok();
}

#[tokio::test]
async fn a_domain_that_another_tenant_holds_is_refused_unless_switched() {
    let world = with_fixture().await;
    let create = json!({ "id": "new", "name": "New", "selfProvisioningDomains": ["ACME.com"] });
    let patch = json!({ "id": "globex", "selfProvisioningDomains": ["globex.com", "acme.com"] });

    let refused = world.post("tenant/create", create.clone()).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["errorCode"]), (400, &json!("E011003")));
    assert!(refused.json()["errorMessage"].as_str().unwrap().contains("domain acme.com"), "{}", refused.text);
    assert_eq!(world.send("PATCH", "/v1/mgmt/tenant/patch", patch.clone()).await.status, 400);
    world.switch(json!({ "sharedDomains": true })).await;
    world.send("PATCH", "/v1/mgmt/tenant/patch", patch).await.ok();
    world.post("tenant/create", create).await.ok();
}

#[tokio::test]
async fn role_calls_answer_the_role_and_an_update_of_computed_fields_is_refused_by_name() {
    let world = with_fixture().await;

    let made = world.post("role/create", json!({ "name": "New", "permissionNames": ["doc:read"] })).await.ok();
    let changed = world.post("role/update", json!({ "name": "New", "newName": "Newer" })).await.ok();
    let refused = world.post("tenant/update", json!({ "id": "acme", "name": "Acme", "successors": [] })).await;

    assert!(
        made["id"].as_str().unwrap().starts_with("ROL") && made["permissionNames"] == json!(["doc:read"]),
        "{made}"
    );
    assert_eq!((&changed["id"], &changed["name"]), (&made["id"], &json!("Newer")));
    assert_eq!((refused.status.as_u16(), &refused.json()["errorCode"]), (400, &json!("E011003")));
    assert!(refused.json()["errorMessage"].as_str().unwrap().contains("\"successors\""), "{}", refused.text);
}

#[tokio::test]
async fn elements_inside_documents_can_come_in_another_order_at_each_read() {
    let world = with_fixture().await;
    let domains: Vec<String> = (0..12).map(|i| format!("{i}.example.com")).collect();
    let create = json!({ "id": "many", "name": "Many", "selfProvisioningDomains": domains });
    world.post("tenant/create", create).await.ok();
    world.switch(json!({ "shuffledElements": true })).await;
    let read = async || world.get("/v1/mgmt/tenant?id=many").await.ok()["selfProvisioningDomains"].clone();

    let (first, second) = (read().await, read().await);

    assert_ne!(first, second);
    let mut sorted: Vec<String> = serde_json::from_value(first).unwrap();
    sorted.sort_by_key(|domain| domain.split('.').next().unwrap().parse::<u32>().unwrap());
    assert_eq!(sorted, domains);
}

#[tokio::test]
async fn what_is_stored_can_be_trimmed_and_in_lower_case() {
    let world = with_fixture().await;
    world.switch(json!({ "normalizes": true })).await;

    let create = json!({ "id": "new", "name": " New Co ", "selfProvisioningDomains": ["NEW.Example.com "] });
    world.post("tenant/create", create).await.ok();

    let new = world.get("/v1/mgmt/tenant?id=new").await.ok();
    assert_eq!((&new["name"], &new["selfProvisioningDomains"]), (&json!("New Co"), &json!(["new.example.com"])));
}

#[tokio::test]
async fn successors_can_be_all_of_them_and_the_tree_can_go_at_once() {
    let world = with_fixture().await;
    world.post("tenant/create", json!({ "id": "lab", "name": "Lab", "parent": "globex" })).await.ok();
    let acme = async || world.get("/v1/mgmt/tenant?id=acme").await.ok()["successors"].clone();
    assert_eq!(acme().await, json!(["globex"]));
    world.switch(json!({ "allSuccessors": true, "deleteParent": "cascade" })).await;
    assert_eq!(acme().await, json!(["globex", "lab"]));

    world.post("tenant/delete", json!({ "id": "acme" })).await.ok();

    assert_eq!(names(&world.state().await["tenants"]), [""; 0]);
}

#[tokio::test]
async fn entries_of_an_application_are_listed_beside_the_projects_own_when_switched() {
    let world = with_fixture().await;
    world.switch(json!({ "appEntries": true })).await;

    for (call, key, twin) in [("role/all", "roles", "Member"), ("permission/all", "permissions", "first")] {
        let list = world.get(&format!("/v1/mgmt/{call}")).await.ok();
        let entries = list[key].as_array().unwrap();
        let of_app: Vec<&Value> = entries.iter().filter(|entry| entry.get("appId").is_some()).collect();
        assert_eq!(of_app.len(), 2, "{list}");
        assert_eq!(of_app[0]["name"], twin);
        assert_eq!(entries.iter().filter(|entry| entry["name"] == twin).count(), 2);
    }
}

#[tokio::test]
async fn a_new_project_can_refuse_its_key_for_a_while() {
    let world = World::new().await;
    world.switch(json!({ "newProjectRefuses": "300ms" })).await;

    let first = world.get("/v1/mgmt/tenant/all").await;
    tokio::time::sleep(std::time::Duration::from_millis(320)).await;

    assert_eq!((first.status.as_u16(), &first.json()["errorCode"]), (403, &json!("E111009")));
    world.get("/v1/mgmt/tenant/all").await.ok();
}

#[tokio::test]
async fn of_two_writes_at_once_the_later_one_can_meet_a_version_conflict() {
    let world = with_fixture().await;
    world.switch(json!({ "versionConflicts": true, "latency": "200ms" })).await;

    let (first, second) = tokio::join!(
        world.post("permission/create", json!({ "name": "one" })),
        world.post("permission/create", json!({ "name": "two" })),
    );

    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    world.post("permission/create", json!({ "name": "three" })).await.ok();
}

#[tokio::test]
async fn system_permissions_cannot_be_changed_but_can_be_given() {
    let world = with_fixture().await;

    let update = world.post("permission/update", json!({ "name": "User Admin", "newName": "x" })).await;
    let delete = world.post("permission/delete/batch", json!({ "names": ["doc:read", "Impersonate"] })).await;
    world.post("role/create", json!({ "name": "x", "permissionNames": ["Impersonate"] })).await.ok();

    assert_eq!((update.status.as_u16(), delete.status.as_u16()), (400, 400));
    assert!(names(&world.state().await["permissions"]).contains(&"doc:read".to_owned()));
}

#[tokio::test]
async fn unknown_and_mistyped_fields_are_refused_or_ignored() {
    let world = with_fixture().await;
    let unknown = json!({ "name": "new", "colour": "red" });

    let refused = world.post("permission/create", unknown.clone()).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["errorCode"]), (400, &json!("E011003")));
    let mistyped = world.post("permission/create", json!({ "name": 7 })).await;
    assert_eq!((mistyped.status.as_u16(), &mistyped.json()["errorCode"]), (400, &json!("E011001")));
    let missing = world.post("permission/create", json!({ "name": "" })).await;
    assert_eq!(missing.json()["errorMessage"], "The name field is required");

    world.switch(json!({ "unknownFields": "ignore" })).await;
    world.post("permission/create", unknown).await.ok();
}

#[tokio::test]
async fn stored_unknown_fields_are_listed_taken_back_and_lost_when_an_update_leaves_them_out() {
    let world = with_fixture().await;
    let region = async || world.get("/v1/mgmt/tenant/all").await.ok()["tenants"][0]["region"].clone();

    world.put("state/tenants/acme", json!({ "region": "eu" })).await;
    assert_eq!(region().await, "eu");
    world.post("tenant/update", json!({ "id": "acme", "name": "Acme", "region": "eu" })).await.ok();
    assert_eq!(region().await, "eu");
    world.send("PATCH", "/v1/mgmt/tenant/patch", json!({ "id": "acme", "disabled": true })).await.ok();
    assert_eq!(region().await, "eu");

    world.post("tenant/update", json!({ "id": "acme", "name": "Acme" })).await.ok();
    assert_eq!(region().await, Value::Null);
}

#[tokio::test]
async fn entities_can_be_edited_and_removed_from_outside() {
    let world = with_fixture().await;

    world.put("state/roles/a%2Fb?tenant=acme", json!({ "permissionNames": ["doc:read"] })).await;
    world.put("state/permissions/doc:read", json!({ "description": "changed live" })).await;
    world.send("DELETE", "/_sim/state/tenants/globex", Value::Null).await.ok();
    let absent = world.send("DELETE", "/_sim/state/tenants/globex", Value::Null).await;

    let state = world.state().await;
    assert_eq!(state["roles"][11]["name"], "a/b");
    assert_eq!(state["roles"][11]["tenantId"], "acme");
    assert_eq!(state["permissions"][2]["description"], "changed live");
    assert_eq!(names(&state["tenants"]), ["Acme Corp"]);
    assert_eq!(absent.status, 404);
}

#[tokio::test]
async fn settings_share_their_domains_with_the_tenant_and_keep_what_they_do_not_overwrite() {
    let world = with_fixture().await;
    world.put("state/tenants/acme", json!({ "enforceSSO": true })).await;
    let settings = json!({
        "tenantId": "acme", "selfProvisioningDomains": ["acme.com"], "authType": "oidc", "enabled": true,
        "refreshTokenExpiration": 4, "refreshTokenExpirationUnit": "weeks", "ssoSetupSuiteSettings": { "enabled": true },
    });

    world.post("tenant/settings", settings).await.ok();
    world.post("tenant/settings", json!({ "tenantId": "acme", "enabled": true })).await.ok();

    let read = world.get("/v1/mgmt/tenant/settings?id=acme").await.ok();
    let acme = world.get("/v1/mgmt/tenant?id=acme").await.ok();
    assert_eq!((&read["refreshTokenExpiration"], &read["enabled"]), (&json!(0), &json!(true)));
    assert_eq!(read["ssoSetupSuiteSettings"]["enabled"], true);
    assert_eq!((&acme["selfProvisioningDomains"], &acme["authType"]), (&json!([]), &json!("oidc")));
    assert_eq!(acme["enforceSSO"], true);
    let wrong = json!({ "tenantId": "acme", "sessionTokenExpirationUnit": "years" });
    assert_eq!(world.post("tenant/settings", wrong).await.status, 400);
}

#[tokio::test]
async fn projects_are_worlds_apart() {
    let world = with_fixture().await;
    let other = world.client.get(world.url("/v1/mgmt/tenant/all")).header("authorization", "Bearer P2other:K2x");

    let answer = other.send().await.unwrap().text().await.unwrap();

    assert_eq!(answer, r#"{"tenants":[]}"#);
    assert_eq!(world.state().await["tenants"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/_sim/state").await.ok()["projects"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_bad_key_is_401_without_json_and_an_unknown_call_404() {
    let world = World::new().await;
    world.switch(json!({ "managementKey": "K2right" })).await;

    let wrong = world.get("/v1/mgmt/tenant/all").await;
    let none = world.client.get(world.url("/v1/mgmt/tenant/all")).send().await.unwrap();
    let right = world.client.get(world.url("/v1/mgmt/tenant/all")).header("authorization", "Bearer P2:K2right");

    assert_eq!((wrong.status.as_u16(), wrong.text.as_str()), (401, ""));
    assert_eq!(none.status(), 401);
    assert_eq!(right.send().await.unwrap().status(), 200);
    world.switch(json!({ "managementKey": null })).await;
    assert_eq!(world.get("/v1/mgmt/flow/all").await.status, 404);
    assert_eq!(world.get("/v1/mgmt/tenant/create").await.status, 404);
}

#[tokio::test]
async fn lists_can_be_late_and_shuffled() {
    let world = with_fixture().await;
    world.switch(json!({ "readDelay": "1h" })).await;
    world.post("tenant/create", json!({ "id": "new", "name": "New" })).await.ok();
    let late = names(&world.get("/v1/mgmt/tenant/all").await.ok()["tenants"]);
    assert_eq!(world.get("/v1/mgmt/tenant?id=new").await.status, 400);
    world.switch(json!({ "readDelay": "0s", "listOrder": "shuffled" })).await;

    let mut shuffled = world.get("/v1/mgmt/role/all").await.ok()["roles"].as_array().unwrap().clone();

    assert_eq!(late, ["Acme Corp", "Globex"]);
    let by_creation = world.state().await["roles"].as_array().unwrap().clone();
    assert_ne!(shuffled, by_creation);
    shuffled.sort_by_key(|role| by_creation.iter().position(|other| other == role));
    assert_eq!(shuffled, by_creation);
}

#[tokio::test]
async fn a_mistake_in_a_state_is_said_and_changes_nothing() {
    let world = with_fixture().await;
    let before = world.state().await;
    let bad = json!({ "roles": [{ "name": "x", "permissionNames": ["nobody"] }] });

    let answer = world.send("PUT", &format!("/_sim/state?project={PROJECT}"), bad).await;

    assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (400, &json!("permission nobody not found")));
    assert_eq!(world.state().await, before);
}
