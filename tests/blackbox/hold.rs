//! What does not go ahead by itself: first contact, lists that shrank, policies, and what is not ours.

use crate::harness::PROJECT;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::write_some;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

fn filled() -> Value {
    json!({
        "permissions": [{ "name": "p0", "description": "live" }, { "name": "mine", "description": "" }],
        "tenants": [{ "id": "t0", "name": "Live" }],
    })
}

fn with_project(lines: &[&str]) -> Setup {
    Setup { project: lines.iter().map(|line| (*line).to_owned()).collect(), ..Setup::default() }
}

#[tokio::test]
async fn the_first_contact_with_a_filled_project_is_held_whole_until_apply_releases_it() {
    let mut world = World::with(with_project(&[])).await;
    world.set_live(filled()).await;
    write_some(&world, 2, 1, 1);

    world.start().await;
    world.until("held", async |world| world.project().await["held"] != Value::Null).await;
    world.assert_nothing_left().await;

    let project = world.project().await;
    let held = &project["held"];
    assert_eq!((&held["reason"], &held["changes"], &held["deletes"]), (&json!("first_contact"), &json!(4), &json!(0)));
    let fingerprint = held["fingerprint"].as_str().unwrap().to_owned();
    assert!(!fingerprint.is_empty() && project["converged"] == false && project["lastPass"]["result"] == "held");
    assert_eq!(world.metric("held_changes{project=\"default\",reason=\"first_contact\"}").await, Some(4.0));
    assert_eq!(world.metric("guard_trips_total{project=\"default\",reason=\"first_contact\"}").await, Some(1.0));
    assert!(world.writes().await.is_empty());

    // Still held after a restart, under the same fingerprint.
    world.stop().await;
    world.start().await;
    world.until("held", async |world| world.project().await["held"]["fingerprint"] == *fingerprint).await;
    world.stop().await;
    let plan = world.run_json(&["plan", "-o", "json"], 0).await;
    assert_eq!(plan["projects"][0]["fingerprint"], fingerprint);
    assert!(world.writes().await.is_empty());

    let applied = world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    assert_eq!(applied["totals"], json!({ "ok": 4, "failed": 0, "blocked": 0, "held": 0 }));
    world.converge().await;
    assert_eq!(world.entity("permissions", "p0").await.unwrap()["description"], "permission 0");
    assert!(world.entity("permissions", "mine").await.is_some());
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_fingerprint_releases_the_first_contact_and_a_wrong_one_is_an_error() {
    let world = World::with(with_project(&[])).await;
    world.set_live(filled()).await;
    write_some(&world, 2, 1, 1);
    let plan = world.run_json(&["plan", "-o", "json"], 0).await;
    let fingerprint = plan["projects"][0]["fingerprint"].as_str().unwrap();

    let wrong = world.run(&["apply", "--approve", "0123456789abcdef"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no plan has the fingerprint 0123456789abcdef"));
    // What it covers has changed since.
    world.edit_live("permissions/p0", json!({ "description": "somebody was here" })).await;
    assert_eq!(world.run(&["apply", "--approve", fingerprint]).await.status.code(), Some(1));
    assert!(world.writes().await.is_empty());

    let plan = world.run_json(&["plan", "-o", "json"], 0).await;
    let fingerprint = plan["projects"][0]["fingerprint"].as_str().unwrap();
    assert_eq!(world.run(&["apply", "--approve", fingerprint]).await.status.code(), Some(0));
    assert_eq!(world.run(&["apply", "--approve", fingerprint]).await.status.code(), Some(1), "used");
}

/// It was held as a first contact again with every commit, for the refused kind kept it from ever being known.
#[tokio::test]
async fn a_kind_that_is_refused_for_good_does_not_hold_the_first_contact_again() {
    let mut world = World::with(Setup { interval: "300ms", ..with_project(&[]) }).await;
    world.set_live(filled()).await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/*" }, "fault": "status", "status": 403 }])).await;
    write_some(&world, 2, 1, 1);
    world.start().await;
    world.until("held", async |world| world.project().await["held"]["reason"] == "first_contact").await;
    let held = world.project().await["held"].clone();
    assert!(world.writes().await.is_empty(), "what is refused may hold anything");

    let order = format!("/api/v1/approve?plan={}", held["fingerprint"].as_str().unwrap());
    assert_eq!(world.ask(Method::POST, &order).await.0, 200);
    world.until("approved", async |world| world.entity("permissions", "p1").await.is_some()).await;
    write_some(&world, 5, 1, 1);
    world.until("the next commit", async |world| world.entity("permissions", "p4").await.is_some()).await;

    assert_eq!(world.project().await["held"], Value::Null);
    assert!(world.has_problem("roles", "", "parked").await);
}

#[tokio::test]
async fn an_empty_project_is_no_first_contact_to_hold() {
    let mut world = World::with(with_project(&[])).await;
    write_some(&world, 2, 1, 1);

    world.converge().await;

    assert_eq!(world.project().await["held"], Value::Null);
}

#[tokio::test]
async fn a_list_that_is_suddenly_empty_holds_its_kind_until_it_is_whole_again() {
    let mut world = World::new().await;
    let live: Vec<_> =
        (0..12).map(|n| json!({ "name": format!("p{n}"), "description": format!("permission {n}") })).collect();
    world.set_live(json!({ "permissions": live })).await;
    write_some(&world, 12, 0, 0);
    world.converge().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/permission/all" }, "fault": "empty_list" }])).await;
    let seq = world.newest_seq().await;

    write_some(&world, 13, 0, 1);
    world.until("held", async |world| world.project().await["held"]["reason"] == "observation_shrank").await;
    world.until("the rest goes on", async |world| world.entity("tenants", "t0").await.is_some()).await;

    let looks = world.requests_since(seq).await;
    let looks = looks.iter().filter(|entry| entry["path"] == "/v1/mgmt/permission/all").count();
    assert_eq!(looks, 2, "one fresh read, and no more");
    assert_eq!(world.project().await["held"]["changes"], 13);
    assert_eq!(world.metric("held_changes{project=\"default\",reason=\"observation_shrank\"}").await, Some(13.0));
    assert_eq!(world.metric("guard_trips_total{project=\"default\",reason=\"observation_shrank\"}").await, Some(1.0));
    world.assert_nothing_left().await;
    assert!(world.writes().await.iter().all(|(line, _)| !line.contains("permission")), "creates included");
    assert_eq!(world.metric("guard_trips_total{project=\"default\",reason=\"observation_shrank\"}").await, Some(1.0));

    world.faults(json!([])).await;
    world.pass().await;
    world.converge_on(14).await;
    assert_eq!(world.metric("held_changes{project=\"default\",reason=\"observation_shrank\"}").await, Some(0.0));
    let creates: Vec<_> = world.writes().await.into_iter().filter(|(line, _)| line.contains("permission")).collect();
    assert_eq!(creates.len(), 1, "p12 alone: {creates:?}");
    world.assert_nothing_left().await;

    // Half of a list is no list either, and a real loss needs a person.
    world.faults(json!([{ "match": { "path": "/v1/mgmt/permission/all" }, "fault": "truncated_list" }])).await;
    world.pass().await;
    world.until("held", async |world| world.project().await["held"]["reason"] == "observation_shrank").await;
    // In one step: a pass that sees some of it gone would believe it.
    world
        .set_live(json!({ "permissions": [{ "name": "p12", "description": "permission 12" }],
                          "tenants": [{ "id": "t0", "name": "Tenant 0" }] }))
        .await;
    world.faults(json!([])).await;
    let writes = world.writes().await.len();
    world.pass().await;
    world.until("held", async |world| world.project().await["held"]["changes"] == 12).await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    // A plan beside the daemon reads its state, so it knows what is owned.
    let plan = world.run_json(&["plan", "-o", "json"], 0).await;
    assert_eq!(plan["projects"][0]["held"]["fingerprint"], fingerprint, "{plan}");
    world.stop().await;
    let held = world.run_json(&["apply", "--auto-approve", "-o", "json"], 4).await;
    assert_eq!(held["totals"], json!({ "ok": 0, "failed": 0, "blocked": 0, "held": 12 }));
    assert_eq!(held["projects"][0]["changes"][0]["result"], "held");
    assert_eq!(world.writes().await.len(), writes, "--auto-approve releases no guard");
    assert_eq!(world.run(&["apply", "--approve", "ffffffffffffffff"]).await.status.code(), Some(1));
    assert_eq!(world.run(&["apply", "--approve", &fingerprint]).await.status.code(), Some(0));
    world.converge().await;
    assert!(world.entity("permissions", "p11").await.is_some());
}

#[tokio::test]
async fn each_policy_permits_what_it_says() {
    for (policy, creates, updates) in [("observe", 0, 0), ("create-only", 1, 0), ("upsert-only", 1, 1)] {
        let mut world = World::with(with_project(&["firstContact: apply", &format!("policy: {policy}")])).await;
        world.set_live(filled()).await;
        write_some(&world, 2, 0, 0);

        world.converge().await;
        world.assert_nothing_left().await;

        let writes = world.writes().await;
        let count = |what: &str| writes.iter().filter(|(line, _)| line.contains(what)).count();
        assert_eq!((count("create"), count("update"), writes.len()), (creates, updates, creates + updates), "{policy}");
        assert_eq!(world.project().await["policy"], policy);
        assert_eq!(world.project().await["held"], Value::Null, "nobody can approve what the policy forbids");
    }
}

#[tokio::test]
async fn a_rename_keeps_ids_and_references_and_is_inert_afterwards() {
    let mut world = World::new().await;
    world
        .set_live(json!({
            "permissions": [{ "name": "old-p", "description": "kept" }],
            "roles": [{ "name": "old-r", "description": "kept", "permissionNames": ["old-p"] },
                      { "name": "elsewhere", "permissionNames": ["old-p"] }],
            "tenants": [{ "id": "t", "name": "T", "defaultRoles": ["old-r"] }],
        }))
        .await;
    let id = async |world: &World, kind, name| world.entity(kind, name).await.unwrap()["id"].clone();
    let ids = (id(&world, "permissions", "old-p").await, id(&world, "roles", "old-r").await);
    world.write(
        "all.yaml",
        "permissions:\n  - { name: new-p, renamedFrom: old-p, protected: true }\n\
         roles:\n  - { name: new-r, renamedFrom: old-r, permissionNames: [new-p] }\n\
         tenants:\n  - { id: t, name: T, defaultRoles: [new-r] }\n",
    );

    world.converge().await;

    assert_eq!((id(&world, "permissions", "new-p").await, id(&world, "roles", "new-r").await), ids);
    assert_eq!(world.entity("roles", "elsewhere").await.unwrap()["permissionNames"], json!(["new-p"]));
    assert_eq!(world.entity("roles", "new-r").await.unwrap()["description"], "kept");
    assert_eq!(world.entity("tenants", "t").await.unwrap()["defaultRoles"], json!(["new-r"]));
    assert_eq!((world.entity("permissions", "old-p").await, world.entity("roles", "old-r").await), (None, None));
    let writes: Vec<String> = world.writes().await.into_iter().map(|(line, _)| line).collect();
    assert_eq!(writes, ["POST /v1/mgmt/permission/update", "POST /v1/mgmt/role/update"], "references follow by id");
    world.assert_nothing_left().await;
    world.stop().await;
    world.converge().await;
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn what_is_not_declared_is_listed_and_what_is_built_in_is_not_ours() {
    let mut world = World::new().await;
    world
        .set_live(json!({
            "permissions": [{ "name": "stray" }],
            "roles": [{ "name": "Tenant Admin", "description": "built in" }, { "name": "stray" },
                      { "name": "stray", "tenantId": "t0" }],
            "tenants": [{ "id": "t0", "name": "Tenant 0" }, { "id": "stray", "name": "Stray" }],
        }))
        .await;
    let before = world.live().await;
    let system: Vec<String> = before["permissions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|permission| permission["systemDefault"] == true)
        .map(|permission| permission["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(!system.is_empty());
    write_some(&world, 1, 1, 1);
    world.write(
        "built-in.yaml",
        &format!(
            "permissions:\n  - {{ name: {:?}, description: mine now }}\nroles:\n  - {{ name: Tenant Admin, description: mine now }}\n",
            system[0]
        ),
    );

    world.start().await;
    world.until("done", async |world| world.entity("roles", "r0").await.is_some()).await;
    world.assert_nothing_left().await;

    assert_eq!(world.project().await["undeclared"], 4);
    let plan: Value = serde_json::from_str(&world.ask(reqwest::Method::GET, "/api/v1/plan").await.1).unwrap();
    let undeclared = |kind: &str, id: &str| json!({ "kind": kind, "id": id });
    assert_eq!(
        plan["projects"][0]["undeclared"],
        json!([
            undeclared("permissions", "stray"),
            undeclared("roles", "stray"),
            undeclared("roles", "t0/stray"),
            undeclared("tenants", "stray")
        ]),
        "{PROJECT}"
    );
    assert_eq!(world.metric("undeclared_resources{kind=\"roles\",project=\"default\"}").await, Some(2.0));
    let writes = world.writes().await;
    assert_eq!(writes.len(), 2, "p0 and r0: {writes:?}");
    assert_eq!(world.entity("roles", "Tenant Admin").await.unwrap()["description"], "built in");
    for (kind, name) in [("permissions", "stray"), ("roles", "stray"), ("tenants", "stray")] {
        assert!(world.entity(kind, name).await.is_some());
    }

    // Leaving the YAML deletes nothing either while no policy prunes.
    world.remove("roles.yaml");
    world.until("undeclared", async |world| world.project().await["undeclared"] == 5).await;
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_rename_that_fails_for_a_while_does_not_look_like_a_loss() {
    let mut world = World::new().await;
    let live: Vec<_> = (0..12).map(|n| json!({ "name": format!("old{n}") })).collect();
    world.set_live(json!({ "permissions": live })).await;
    let renames: String = (0..12).map(|n| format!("  - {{ name: new{n}, renamedFrom: old{n} }}\n")).collect();
    world.write("permissions.yaml", &format!("permissions:\n{renames}"));
    world
        .faults(json!([{ "match": { "path": "/v1/mgmt/permission/update*" }, "fault": "status", "status": 503 }]))
        .await;
    world.start().await;
    world.until("failing", async |world| world.has_problem("permissions", "new0", "retrying").await).await;

    world.pass().await;
    world.pass().await;
    assert_eq!(world.project().await["held"], Value::Null);
    world.kill().await;
    world.faults(json!([])).await;

    world.converge().await;
    assert!(world.entity("permissions", "new11").await.is_some());
    assert_eq!(world.project().await["undeclared"], 0);
}

/// The flags were noted only for what could be seen, so that a list which failed at the wrong moment lost them.
#[tokio::test]
async fn what_was_declared_last_counts_though_nothing_could_be_observed_then() {
    let guards = "guards: { maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s }";
    let mut world = World::with(with_project(&["firstContact: apply", "policy: sync", guards])).await;
    world.write("stays.yaml", "roles:\n  - name: stays\ntenants:\n  - { id: stays, name: S }\n");
    world.write("more.yaml", "roles:\n  - name: kept\ntenants:\n  - { id: goes, name: G, cascadeDelete: true }\n");
    world.converge().await;

    world.faults(json!([{ "match": { "method": "GET" }, "fault": "status", "status": 503 }])).await;
    let before = world.project().await["desired"]["revision"].clone();
    world.write("more.yaml", "roles:\n  - { name: kept, protected: true }\ntenants:\n  - { id: goes, name: G }\n");
    world.until("read", async |world| world.project().await["desired"]["revision"] != before).await;
    world.fresh_pass().await;
    world.remove("more.yaml");
    world.until("gone", async |world| world.project().await["desired"]["resources"] == 2).await;
    world.fresh_pass().await;
    world.faults(json!([])).await;

    world.until("deleted", async |world| world.entity("tenants", "goes").await.is_none()).await;
    world.until("idle", async |world| world.is_converged().await).await;
    assert!(world.entity("roles", "kept").await.is_some(), "it was protected when it was last declared");
    let writes = world.writes().await;
    let (_, body) = writes.iter().find(|(line, _)| line.contains("tenant/delete")).unwrap();
    assert_ne!(body["cascade"], true, "nobody said so when it was last declared");
}

/// The pass went on with what it had read before its look, and deleted what had been declared again meanwhile.
#[tokio::test]
async fn what_is_declared_again_during_the_look_is_not_deleted() {
    let guards = "guards: { maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s }";
    let mut world = World::with(with_project(&["firstContact: apply", "policy: sync", guards])).await;
    world.write("stays.yaml", "roles:\n  - name: stays\n");
    let more = "roles:\n  - name: more\n";
    world.write("more.yaml", more);
    world.converge().await;

    world.sim(Method::PUT, "options", Some(json!({ "latency": "1500ms" }))).await;
    world.remove("more.yaml");
    world.until("looking", async |world| world.metric("api_requests_in_flight").await == Some(1.0)).await;
    world.write("more.yaml", more);
    world.sim(Method::PUT, "options", Some(json!({ "latency": "0s" }))).await;

    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    let writes = world.writes().await;
    assert!(writes.iter().all(|(line, _)| !line.contains("delete")), "{writes:#?}");
    world.remove("more.yaml");
    world.until("deleted in the end", async |world| world.entity("roles", "more").await.is_none()).await;
}
