//! What must not go along: what lives in a tenant, what a guard keeps, and what is somebody else's.

use crate::harness::Setup;
use crate::harness::World;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

fn project(lines: &[&str]) -> Setup {
    Setup { project: lines.iter().map(|line| (*line).to_owned()).collect(), ..Setup::default() }
}

async fn exists(world: &World, kind: &str, name: &str) -> bool {
    world.entity(kind, name).await.is_some()
}

async fn plan(world: &World) -> Value {
    let text = world.ask(Method::GET, "/api/v1/plan").await.1;
    serde_json::from_str::<Value>(&text).unwrap()["projects"][0].clone()
}

/// `kind/id: reason` of everything that is held.
fn held(plan: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("free").to_owned();
    let changes = plan["changes"].as_array().unwrap().iter();
    changes.map(|c| format!("{}/{}: {}", text(&c["kind"]), text(&c["id"]), text(&c["held"]))).collect()
}

/// Roles over `maxDeletes` and a protected one were deleted with their tenant.
#[tokio::test]
async fn a_tenant_takes_nothing_along_that_is_held_or_protected() {
    let guards = "guards: { maxDeletes: { default: 1, tenants: 5 }, maxDeletePercent: 100, deleteAfter: 0s }";
    let mut world = World::with(project(&["firstContact: apply", "policy: sync", guards])).await;
    // Made by the tenant.
    let custom = json!([{ "name": "Custom", "tenantId": "acme" }]);
    world.set_live(json!({ "tenants": [{ "id": "acme", "name": "A" }], "roles": custom })).await;
    let tenants = |more: &str| format!("tenants:\n  - {{ id: keep, name: K }}\n{more}");
    let roles = |more: &str| format!("roles:\n  - {{ name: Stays }}\n{more}");
    let acme = "  - { id: acme, name: A }\n";
    world.write("tenants.yaml", &tenants(&(acme.to_owned() + "  - { id: safe, name: S }\n")));
    let lines = "  - { name: M1, tenantId: acme }\n  - { name: M2, tenantId: acme }\n  - { name: Owner, tenantId: safe, protected: true }\n";
    world.write("roles.yaml", &roles(lines));
    world.converge().await;

    world.write("tenants.yaml", &tenants(""));
    world.write("roles.yaml", &roles(""));
    world.until("held", async |world| world.project().await["held"]["deletes"] == 3).await;

    let seen = plan(&world).await;
    assert_eq!(held(&seen), ["roles/acme/M1: max_deletes", "roles/acme/M2: max_deletes", "tenants/acme: max_deletes"]);
    let said = seen["warnings"].to_string();
    assert!(said.contains("tenants/safe left the YAML and stays: roles/safe/Owner"), "{said}");
    assert!(said.contains("deleting tenants/acme takes roles/acme/Custom along"), "{said}");
    assert!(!seen["undeclared"].to_string().contains("acme/Custom"), "{}", seen["undeclared"]);
    let order = format!("/api/v1/approve?plan={}", seen["fingerprint"].as_str().unwrap());
    assert_eq!(world.ask(Method::POST, &order).await.0, 200);
    world.until("acme is gone", async |world| !exists(world, "tenants", "acme").await).await;
    let audit = world.run_json(&["audit", "-o", "json"], 0).await.to_string();
    for id in ["acme/M1", "acme/M2"] {
        assert!(audit.contains(&format!("\"id\":\"{id}\"")), "{id} has a row of its own: {audit}");
    }
    assert!(exists(&world, "tenants", "safe").await && exists(&world, "roles", "Owner").await);
}

/// Ownership is learned under `observe`; with the change to `sync`, more deletes than `maxDeletes` went as a first contact.
#[tokio::test]
async fn auto_approve_lets_the_first_contact_go_ahead_and_no_delete_over_a_limit() {
    let guards = "guards: { maxDeletes: 2, maxDeletePercent: 100, deleteAfter: 0s }";
    let mut world = World::with(project(&["policy: observe", guards])).await;
    let names: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
    let live: Vec<Value> = names.iter().map(|name| json!({ "name": name, "description": "live" })).collect();
    world.set_live(json!({ "roles": live })).await;
    let roles = |names: &[String]| {
        let line = |name: &String| format!("  - name: {name}\n");
        format!("roles:\n  - {{ name: r0, description: wanted }}\n{}", names.iter().map(line).collect::<String>())
    };
    world.write("roles.yaml", &roles(&names[1..]));
    world.start().await;
    world.until("seen", async |world| world.project().await["lastPass"]["result"] == "noop").await;
    world.stop().await;
    world.reconfigure(|setup| setup.project[0] = "policy: sync".to_owned());
    world.write("roles.yaml", &roles(&names[1..4]));

    let applied = world.run_json(&["apply", "--auto-approve", "-o", "json"], 4).await;

    assert_eq!(applied["totals"], json!({ "ok": 1, "failed": 0, "blocked": 0, "held": 4 }));
    assert_eq!(applied["projects"][0]["held"]["reason"], "max_deletes");
    assert_eq!(world.entity("roles", "r0").await.unwrap()["description"], "wanted");
    assert!(exists(&world, "roles", "r7").await);
    // Once let go, it is over: the next create asks nobody.
    world.write("more.yaml", "permissions:\n  - name: p\n");
    world.start().await;
    world.until("created", async |world| exists(world, "permissions", "p").await).await;
    world.until("held", async |world| world.project().await["held"]["reason"] == "max_deletes").await;
}

/// One drifted field, which the policy does not touch, had every create held as a first contact.
#[tokio::test]
async fn create_only_holds_the_first_contact_once() {
    let mut world = World::with(project(&["policy: create-only"])).await;
    world.set_live(json!({ "roles": [{ "name": "a", "description": "live" }] })).await;
    let roles = |more: &str| format!("roles:\n  - {{ name: a, description: other }}\n{more}");
    world.write("roles.yaml", &roles("  - name: b\n"));
    world.start().await;
    world.until("held", async |world| world.project().await["held"]["reason"] == "first_contact").await;
    let seen = plan(&world).await;
    let order = format!("/api/v1/approve?plan={}", seen["fingerprint"].as_str().unwrap());
    assert_eq!(world.ask(Method::POST, &order).await.0, 200);
    world.until("created", async |world| exists(world, "roles", "b").await).await;

    world.write("roles.yaml", &roles("  - name: b\n  - name: c\n"));
    world.until("the next create", async |world| exists(world, "roles", "c").await).await;
}

/// The line stays in the YAML: once the new name was missing, somebody else's role of the old name was renamed.
#[tokio::test]
async fn a_rename_that_is_done_touches_nobody_who_has_the_old_name_now() {
    let mut world = World::with(project(&["firstContact: apply"])).await;
    // Adopted: what the daemon made a moment ago is waited for where a list lacks it.
    world.set_live(json!({ "roles": [{ "name": "Writer", "description": "ours" }] })).await;
    world.write("roles.yaml", "roles:\n  - name: Writer\n");
    world.converge().await;
    world.write("roles.yaml", "roles:\n  - name: Editor\n    renamedFrom: Writer\n    description: edits\n");
    world.until("renamed", async |world| exists(world, "roles", "Editor").await && world.is_converged().await).await;
    assert!(!exists(&world, "roles", "Writer").await);

    world.set_live(json!({ "roles": [{ "name": "Writer", "description": "foreign" }] })).await;
    assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);

    world.until("made anew", async |world| exists(world, "roles", "Editor").await).await;
    assert_eq!(world.entity("roles", "Writer").await.unwrap()["description"], "foreign");
}

/// The rollback made the new one look older than the old one's leaving, which was then deleted without asking.
#[tokio::test]
async fn what_may_be_a_rename_still_may_after_a_rollback_and_a_roll_forward() {
    let guards = "guards: { maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 1h }";
    let mut world = World::with(project(&["firstContact: apply", "policy: sync", guards])).await;
    let roles = |name: &str| format!("roles:\n  - name: stays\n  - name: {name}\n");
    world.write("roles.yaml", &roles("old"));
    world.converge().await;

    for (declared, held_back) in
        [("new", "roles/old: maybe_rename"), ("old", "roles/new: maybe_rename"), ("new", "roles/old: maybe_rename")]
    {
        world.write("roles.yaml", &roles(declared));
        world.until(declared, async |world| exists(world, "roles", declared).await).await;
        world.until(held_back, async |world| held(&plan(world).await) == [held_back]).await;
    }
}
