//! Nothing is deleted before, or from under, what refers to it.

use crate::guards::approve;
use crate::guards::exists;
use crate::guards::held;
use crate::guards::is_gone;
use crate::guards::plan;
use crate::guards::reason;
use crate::guards::sent;
use crate::guards::sync;
use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

/// Guards that let everything pass at once, but for these.
fn open(more: &str) -> String {
    format!("maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s{more}")
}

fn permissions(names: &[&str]) -> String {
    names.iter().fold("permissions:\n".to_owned(), |text, name| text + &format!("  - name: {name}\n"))
}

/// Ten roles of which each has these permissions.
fn ten_roles(names: &str) -> String {
    (0..10).fold("roles:\n".to_owned(), |text, n| text + &format!("  - {{ name: r{n}, permissionNames: [{names}] }}\n"))
}

async fn grants(world: &World, role: &str) -> Value {
    world.entity("roles", role).await.unwrap()["permissionNames"].clone()
}

async fn warnings(world: &World) -> String {
    plan(world).await["warnings"].to_string()
}

/// One hold of the plan.
async fn hold(world: &World, reason: &str) -> Value {
    let holds = plan(world).await["holds"].as_array().unwrap().clone();
    holds.into_iter().find(|hold| hold["reason"] == reason).unwrap_or(Value::Null)
}

async fn waits(world: &World, kind: &str, id: &str) -> Option<Value> {
    let waits = world.project().await["waits"].as_array().unwrap().clone();
    waits.into_iter().find(|wait| wait["kind"] == kind && wait["id"] == id)
}

/// The updates were held, the permission was deleted, and all roles lost it live.
#[tokio::test]
async fn a_permission_stays_while_the_updates_that_let_go_of_it_are_held() {
    let mut world = World::with(sync(&open(", maxChangePercent: 10"))).await;
    world.write("permissions.yaml", &permissions(&["p", "q"]));
    world.write("roles.yaml", &ten_roles("p, q"));
    world.converge().await;

    world.write("permissions.yaml", &permissions(&["q"]));
    world.write("roles.yaml", &ten_roles("q"));
    let fingerprint = held(&world, "max_change_percent").await;
    world.assert_nothing_left().await;

    assert_eq!(grants(&world, "r0").await, json!(["p", "q"]));
    assert_eq!(reason(&world, "permissions", "p").await.as_deref(), Some("blocked"));
    assert!(warnings(&world).await.contains("permissions/p waits until it is let go by roles/r0 (max_change_percent)"));
    let status = world.project().await;
    assert_eq!((&status["converged"], &status["notConvergedBecause"]), (&json!(false), &json!("held")));
    assert!(waits(&world, "permissions", "p").await.unwrap()["why"].as_str().unwrap().contains("roles/r0"));
    let hold = hold(&world, "max_change_percent").await;
    assert_eq!((&hold["approvable"], &hold["changes"]), (&json!(true), &json!(10)));
    assert!(hold["since"].is_string() && hold["endsWith"].as_str().unwrap().contains("approval"), "{hold}");
    assert_eq!(status["holds"], plan(&world).await["holds"]);

    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "permissions", "p").await;
    let lines: Vec<String> = world.writes().await.into_iter().map(|(line, _)| line).collect();
    assert!(lines.last().unwrap().contains("permission/delete"), "{lines:?}");
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.project().await["notConvergedBecause"], Value::Null);
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn what_declared_roles_default_roles_and_children_name_is_held_with_file_and_line() {
    let mut world = World::with(sync(&open(""))).await;
    world.write("permissions.yaml", &permissions(&["p", "q"]));
    world.write("roles.yaml", "roles:\n  - { name: holder, permissionNames: [p] }\n  - name: default\n");
    let tenants = "  - { id: child, name: C, parent: top, defaultRoles: [default] }\n  - { id: top, name: T }\n";
    world.write("tenants.yaml", &format!("tenants:\n{tenants}"));
    world.converge().await;

    world.write("permissions.yaml", &permissions(&["q"]));
    world.write("roles.yaml", "roles:\n  - { name: holder, permissionNames: [p] }\n");
    world.write("tenants.yaml", &format!("tenants:\n{}", tenants.lines().next().unwrap()));
    for (kind, id) in [("permissions", "p"), ("roles", "default"), ("tenants", "top")] {
        world
            .until(&format!("{id} held"), async |world| {
                reason(world, kind, id).await.as_deref() == Some("still_referenced")
            })
            .await;
    }
    world.until("told", async |world| waits(world, "tenants", "top").await.is_some()).await;
    world.assert_nothing_left().await;

    assert!(exists(&world, "permissions", "p").await && exists(&world, "roles", "default").await);
    let said = warnings(&world).await;
    for by in ["roles/holder (roles.yaml:2)", "tenants/child (tenants.yaml:2)"] {
        assert!(said.contains(by), "{by}: {said}");
    }
    let status = world.project().await;
    assert_eq!((&status["held"], &status["converged"]), (&Value::Null, &json!(false)), "nobody can approve it");
    assert_eq!(hold(&world, "still_referenced").await["approvable"], false);
    assert_eq!(world.metric("held_changes{project=\"default\",reason=\"still_referenced\"}").await, Some(3.0));

    world.write("roles.yaml", "roles:\n  - name: holder\n    permissionNames: []\n");
    is_gone(&world, "permissions", "p").await;
    assert!(exists(&world, "roles", "default").await, "the child still names it");
}

/// Held by a guard, the holder's own delete no longer stood in the way of the permission's.
#[tokio::test]
async fn what_is_deleted_together_is_held_together() {
    let mut world =
        World::with(sync("maxDeletes: { default: 100, roles: 0 }, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("permissions.yaml", &permissions(&["p", "q"]));
    world.write("roles.yaml", "roles:\n  - name: stays\n  - { name: holder, permissionNames: [p] }\n");
    world.converge().await;

    world.write("permissions.yaml", &permissions(&["q"]));
    world.write("roles.yaml", "roles:\n  - name: stays\n");
    let fingerprint = held(&world, "max_deletes").await;
    world.assert_nothing_left().await;
    assert_eq!(grants(&world, "holder").await, json!(["p"]));

    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "permissions", "p").await;
    assert!(!exists(&world, "roles", "holder").await);
}

/// The list of roles did not answer, so nothing of theirs was planned, and the permission went.
#[tokio::test]
async fn what_may_be_referred_to_by_something_unseen_waits_for_an_approval() {
    let mut world = World::with(sync(&open(""))).await;
    world.write("permissions.yaml", &permissions(&["p", "q"]));
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [p] }\n");
    world.converge().await;
    let list = "/v1/mgmt/role/all";
    world.faults(json!([{ "match": { "path": list }, "fault": "status", "status": 503 }])).await;

    world.write("permissions.yaml", &permissions(&["q"]));
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [] }\n");
    held(&world, "still_referenced").await;
    assert!(warnings(&world).await.contains("permissions/p may still be referred to: roles cannot be seen"));
    assert_eq!(world.project().await["notConvergedBecause"], "unobserved");
    world.assert_nothing_left().await;
    assert_eq!(grants(&world, "r").await, json!(["p"]));

    world.faults(json!([])).await;
    is_gone(&world, "permissions", "p").await;
    let lines: Vec<String> = world.writes().await.into_iter().map(|(line, _)| line).collect();
    let at = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
    assert!(at("role/update") < at("permission/delete"), "{lines:?}");
}

/// Roles held as their list shrank were not updated, and the permission went all the same.
#[tokio::test]
async fn a_list_that_shrank_lets_go_of_nothing() {
    let mut world = World::with(sync(&open(", maxMissing: 1"))).await;
    world.write("permissions.yaml", &permissions(&["p", "q"]));
    world.write("roles.yaml", &ten_roles("p"));
    world.converge().await;
    world.stop().await;
    crate::guards::age(&world);
    world.start().await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/all" }, "fault": "truncated_list", "keep": 1 }])).await;

    world.write("permissions.yaml", &permissions(&["q"]));
    world.write("roles.yaml", &ten_roles("q"));
    held(&world, "observation_shrank").await;
    world.assert_nothing_left().await;

    assert!(exists(&world, "permissions", "p").await);
    assert_eq!(grants(&world, "r9").await, json!(["p"]));
    world.faults(json!([])).await;
    world.pass().await;
    is_gone(&world, "permissions", "p").await;
}

#[tokio::test]
async fn a_default_role_stays_while_the_tenants_that_name_it_are_held() {
    let mut world = World::with(sync(&open(", maxChangePercent: 10"))).await;
    let tenants = |roles: &str| {
        (0..6).fold("tenants:\n".to_owned(), |text, n| {
            text + &format!("  - {{ id: t{n}, name: T{n}, defaultRoles: [{roles}] }}\n")
        })
    };
    world.write("roles.yaml", "roles:\n  - name: stays\n  - name: default\n");
    world.write("tenants.yaml", &tenants("default"));
    world.converge().await;

    world.write("roles.yaml", "roles:\n  - name: stays\n");
    world.write("tenants.yaml", &tenants("stays"));
    let fingerprint = held(&world, "max_change_percent").await;
    world.assert_nothing_left().await;
    assert_eq!(reason(&world, "roles", "default").await.as_deref(), Some("blocked"));
    assert_eq!(world.entity("tenants", "t0").await.unwrap()["defaultRoles"], json!(["default"]));

    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "roles", "default").await;
    assert_eq!(world.entity("tenants", "t0").await.unwrap()["defaultRoles"], json!(["stays"]));
}

/// A tenant and a role in it with the name of a default role refer to one another: they waited for one another, and the log warned of it.
#[tokio::test]
async fn a_tenant_its_own_default_role_and_its_permission_leave_together() {
    let mut world = World::with(sync(&open(""))).await;
    world.write(
        "stays.yaml",
        "permissions:\n  - name: q\nroles:\n  - name: stays\ntenants:\n  - { id: stays, name: S }\n",
    );
    world.write(
        "goes.yaml",
        "permissions:\n  - name: p\nroles:\n  - { name: own, tenantId: t, permissionNames: [p] }\n  \
         - { name: own, permissionNames: [p] }\ntenants:\n  - { id: t, name: T, defaultRoles: [own] }\n",
    );
    world.converge().await;

    world.remove("goes.yaml");
    is_gone(&world, "permissions", "p").await;

    world.until("converged", async |world| world.is_converged().await).await;
    assert!(!exists(&world, "tenants", "t").await && !exists(&world, "roles", "own").await);
    assert!(!world.daemon().said("wait for one another"));
    let deletes: Vec<String> =
        world.writes().await.into_iter().map(|(line, _)| line).filter(|line| line.contains("delete")).collect();
    let kinds: Vec<&str> = deletes.iter().map(|line| line.split('/').nth(3).unwrap()).collect();
    assert_eq!(kinds, ["role", "tenant", "role", "permission"]);
}

/// The delete of the old tenant waited for the create of the new one, which waited for its domain.
#[tokio::test]
async fn a_tenant_that_gives_up_a_name_goes_before_the_one_that_is_refused_for_it() {
    let mut world = World::with(sync("maxDeletes: { tenants: 0 }, maxDeletePercent: 100, deleteAfter: 0s")).await;
    let tenant = |id: &str| {
        format!(
            "tenants:\n  - {{ id: stays, name: S }}\n  - {{ id: {id}, name: Acme, selfProvisioningDomains: [a.com] }}\n"
        )
    };
    world.write("tenants.yaml", &tenant("acme"));
    world.converge().await;

    world.write("tenants.yaml", &tenant("acme2"));
    let fingerprint = held(&world, "max_deletes").await;
    assert_eq!(reason(&world, "tenants", "acme2").await.as_deref(), Some("blocked"), "it would be refused");
    assert!(exists(&world, "tenants", "acme").await);
    assert_eq!(approve(&world, &fingerprint).await, 200);

    is_gone(&world, "tenants", "acme").await;
    world.until("the heir", async |world| exists(world, "tenants", "acme2").await).await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(sent(&world, "/tenant/delete").await.len(), 1);
}

#[tokio::test]
async fn one_tenant_deleted_by_hand_is_made_again_and_freezes_none() {
    let mut world = World::with(sync("maxDeletes: { tenants: 0 }, deleteAfter: 0s")).await;
    let tenants = "tenants:\n  - { id: a, name: A }\n  - { id: b, name: B }\n";
    world.write("tenants.yaml", tenants);
    world.converge().await;
    world.stop().await;
    crate::guards::age(&world);
    world.delete_live("tenants/a").await;
    world.start().await;

    world.until("made again", async |world| exists(world, "tenants", "a").await).await;

    world.write("tenants.yaml", &tenants.replace("name: B", "name: B2"));
    world.until("changed", async |world| world.entity("tenants", "b").await.unwrap()["name"] == "B2").await;
    world.until("converged", async |world| world.is_converged().await).await;
}

/// Both were deleted: nobody knew that their names are references.
#[tokio::test]
async fn what_a_tenant_declares_by_value_is_not_deleted() {
    let mut world = World::with(sync(&open(""))).await;
    let tenants = "tenants:\n  - { id: t, name: T, federatedAppIds: [s], customAttributes: { at: x } }\n";
    let file = |apps: &str, attributes: &str| {
        format!(
            "ssoApplications: [{{ id: kept, name: K, type: saml }}{apps}]\ntenantAttributes: [{{ name: kept, type: string }}{attributes}]\n"
        )
    };
    world.write("a.yaml", &file(", { id: s, name: S, type: saml }", ", { name: at, type: string }"));
    world.write("t.yaml", tenants);
    world.converge().await;

    world.write("a.yaml", &file("", ""));
    for (kind, id) in [("ssoApplications", "s"), ("tenantAttributes", "at")] {
        world
            .until(&format!("{id} held"), async |world| {
                reason(world, kind, id).await.as_deref() == Some("still_referenced")
            })
            .await;
    }
    assert_eq!(hold(&world, "still_referenced").await["approvable"], false);
    assert!(warnings(&world).await.contains("tenants/t (t.yaml:2)"));
    world.assert_nothing_left().await;

    // Both are let go of, and go.
    world.write("t.yaml", "tenants:\n  - { id: t, name: T, federatedAppIds: [], customAttributes: { at: null } }\n");
    is_gone(&world, "ssoApplications", "s").await;
    is_gone(&world, "tenantAttributes", "at").await;
}

/// Tenants of which the first has SSO whose settings are `saml` besides.
fn with_sso(saml: Option<&str>) -> String {
    let sso = saml.map_or_else(String::new, |more| {
        format!(", sso: [{{ saml: {{ idpUrl: \"https://idp.example.com\", entityId: e, idpCert: c, disableSignRequest: false{more} }} }}]")
    });
    format!("tenants:\n  - {{ id: t, name: T{sso} }}\n  - {{ id: plain, name: Plain }}\n")
}

const MAPPED: &str = ", defaultSSORoles: [x], roleMappings: [{ roleName: y, groups: [g] }]";

async fn writes_of_roles(world: &World) -> usize {
    world.writes().await.iter().filter(|(line, _)| line.contains("/role/delete")).count()
}

/// No file declared SSO any more, nobody looked at it, and it lost the roles that its groups are mapped to.
#[tokio::test]
async fn a_role_that_sso_out_of_sight_may_map_to_waits_for_an_approval() {
    let mut world = World::with(sync(&open(""))).await;
    world.write("roles.yaml", "roles:\n  - name: r\n  - name: x\n  - name: y\n");
    world.write("tenants.yaml", &with_sso(Some(MAPPED)));
    world.converge().await;

    world.write("roles.yaml", "roles:\n  - name: r\n");
    world.write("tenants.yaml", &with_sso(None));
    let fingerprint = held(&world, "still_referenced").await;
    world.until("both", async |world| plan(world).await["held"]["changes"] == json!(2)).await;
    world.assert_nothing_left().await;

    assert_eq!(writes_of_roles(&world).await, 0);
    let said = warnings(&world).await;
    assert!(said.contains("roles/x may still be referred to: sso of tenants/t cannot be seen"), "{said}");
    assert!(!said.contains("plain"), "that one has none: {said}");
    let fingerprint = plan(&world).await["fingerprint"].as_str().unwrap_or(&fingerprint).to_owned();
    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "roles", "x").await;
    is_gone(&world, "roles", "y").await;
}

#[tokio::test]
async fn a_role_that_no_sso_can_map_to_goes_without_asking() {
    let mut world = World::with(sync(&open(""))).await;
    world.write("roles.yaml", "roles:\n  - name: r\n  - name: x\n  - name: y\n");
    world.write("tenants.yaml", &with_sso(Some(MAPPED)));
    world.converge().await;

    // One that is looked at and lets go, and one whose tenant goes as well.
    world.write("roles.yaml", "roles:\n  - name: r\n  - name: y\n");
    world.write("tenants.yaml", &with_sso(Some(", defaultSSORoles: []")));
    is_gone(&world, "roles", "x").await;
    world.write("roles.yaml", "roles:\n  - name: r\n");
    world.write("tenants.yaml", "tenants:\n  - { id: plain, name: Plain }\n");
    is_gone(&world, "roles", "y").await;

    world.until("converged", async |world| world.is_converged().await).await;
    assert!(!exists(&world, "tenants", "t").await);
}

/// What the YAML leaves out stays, so that nothing was about to let go, and the delete waited for a change that never was.
#[tokio::test]
async fn a_role_that_a_declaration_no_longer_mentions_is_still_that_of_the_tenant() {
    let mut world = World::with(sync(&open(""))).await;
    world.write("roles.yaml", "roles:\n  - name: r\n  - name: x\n");
    world.write("tenants.yaml", &with_sso(Some(", defaultSSORoles: [x]")));
    world.converge().await;

    world.write("roles.yaml", "roles:\n  - name: r\n");
    world.write("tenants.yaml", &with_sso(Some("")));
    let fingerprint = held(&world, "still_referenced").await;
    world.assert_nothing_left().await;

    assert_eq!(writes_of_roles(&world).await, 0);
    assert_eq!(hold(&world, "still_referenced").await["approvable"], true);
    let said = warnings(&world).await;
    assert!(said.contains("roles/x is still referred to by tenants/t, which would lose it"), "{said}");
    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "roles", "x").await;
    world.until("converged", async |world| world.is_converged().await).await;
}

/// It was deleted under the mapping that fills it.
#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_an_sso_mapping_fills_is_referred_to() {
    let project =
        ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s, maxDeletes: 9, maxDeletePercent: 100 }"];
    let project = project.map(str::to_owned).to_vec();
    let world = World::with(Setup { project, ..Setup::default() }).await;
    let file = |attributes: &str, mapping: &str| {
        format!(
            "userAttributes: [{{ name: stays, type: string }}{attributes}]\ntenants: [{{ id: acme, name: Acme, sso: [{{ domains: \
             [a.example], saml: {{ idpMetadataUrl: 'https://i.example/m', attributeMapping: {{ customAttributes: {mapping} }} }} }}] \
             }}]\n"
        )
    };
    world.write("a.yaml", &file(", { name: team, type: string }", "{ team: groups }"));
    let told = world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    assert_eq!(told["totals"]["ok"], 3, "{told}");
    world.write("a.yaml", &file("", "{ team: groups }"));
    let told = world.run_json(&["apply", "--auto-approve", "-o", "json"], 4).await;
    let held = &told["projects"][0]["changes"][0];
    assert_eq!((&held["id"], &held["held"]), (&json!("team"), &json!("still_referenced")), "{told}");

    world.write("a.yaml", &file("", "{ team: null }"));
    let told = world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    assert_eq!(told["totals"]["ok"], 2, "{told}");
    let paths: Vec<String> = world.writes().await.into_iter().map(|(line, _)| line).collect();
    assert!(paths.last().unwrap().contains("attribute"), "{paths:?}");
}
