//! `plan` and `apply` as CI runs them.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::write_some;
use serde_json::Value;
use serde_json::json;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn writes(world: &World) -> u64 {
    world.stats().await["writes"].as_u64().unwrap()
}

/// Those that count, unlike the question for the rate limit.
async fn reads(world: &World) -> u64 {
    let log = world.log().await;
    log.iter().filter(|entry| entry["method"] == "GET" && entry["path"] != "/v1/mgmt/license").count() as u64
}

/// What the plan says applying costs, and what it then costs.
async fn forecast_holds(world: &World, shape: &str) -> u64 {
    let before = writes(world).await;
    let reads_before = reads(world).await;
    let plan = world.run_json(&["plan", "-o", "json"], 0).await;
    for output in ["text", "markdown"] {
        assert_eq!(world.run(&["plan", "-o", output]).await.status.code(), Some(0));
    }
    assert_eq!(writes(world).await, before, "{shape}: a plan writes nothing");
    // One look each.
    let looked = (reads(world).await - reads_before) / 3;
    let reads_before = reads(world).await;
    let applied = world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    let sent = writes(world).await - before;
    assert_eq!(plan["projects"][0]["forecast"]["requests"], sent, "{shape}: {plan:#}");
    assert_eq!(applied["projects"][0]["forecast"], plan["projects"][0]["forecast"], "{shape}");
    let (forecast, read) = (&plan["projects"][0]["forecast"]["reads"], reads(world).await - reads_before);
    assert!(
        read > 0 && read == looked && *forecast == read,
        "{shape}: {forecast}, applied by {read}, planned by {looked}"
    );
    let after = world.run_json(&["plan", "--exit-code", "-o", "json"], 0).await;
    assert_eq!(after["projects"][0]["changes"], json!([]), "{shape}");
    assert_eq!(after["projects"][0]["forecast"], json!({ "requests": 0, "reads": read, "seconds": 0 }), "{shape}");
    sent
}

#[tokio::test]
async fn the_forecast_is_the_number_of_writes_that_applying_sends() {
    let world = World::with(Setup { project: Vec::new(), ..Setup::default() }).await;
    world
        .set_live(json!({ "permissions": [{ "name": "there" }], "tenants": [{ "id": "there", "name": "There" }] }))
        .await;
    write_some(&world, 5, 4, 3);
    world.write(
        "more.yaml",
        "roles:\n  - { name: in-t0, tenantId: t0, permissionNames: [p1] }\n  - { name: in-t1, tenantId: t1 }\n\
         tenants:\n  - { id: d0, name: D 0, defaultRoles: [r0, r1] }\n  - { id: d1, name: D 1, defaultRoles: [r1] }\n\
         \x20 - { id: child, name: Child, parent: d0 }\n",
    );
    let fresh = forecast_holds(&world, "a first contact").await;
    // Permissions, project roles, tenant roles: one batch each; a call per tenant, and per list of default roles.
    assert_eq!(fresh, 3 + 6 + 2);

    world.write(
        "permissions.yaml",
        "permissions:\n  - { name: p0, description: new }\n  - { name: renamed, renamedFrom: p1 }\n\
         \x20 - { name: p2, description: '' }\n  - { name: p3 }\n  - { name: p4 }\n  - { name: p5 }\n",
    );
    world.write(
        "roles.yaml",
        "roles:\n  - { name: r0, permissionNames: [p0, renamed] }\n  - { name: r1, permissionNames: [renamed] }\n\
         \x20 - { name: r9, renamedFrom: r2, default: true }\n  - { name: r3 }\n  - { name: new, permissionNames: [p5] }\n",
    );
    world.write(
        "tenants.yaml",
        "tenants:\n  - { id: t0, name: Zero, selfProvisioningDomains: [zero.example] }\n\
         \x20 - { id: t1, name: Tenant 1, defaultRoles: [r9] }\n  - { id: t2, name: Two, roleInheritance: none }\n",
    );
    world.write(
        "more.yaml",
        "roles:\n  - { name: in-t0, tenantId: t0, permissionNames: [renamed], description: new }\n\
         \x20 - { name: in-t1, tenantId: t1, private: true }\n\
         tenants:\n  - { id: d0, name: D 0, defaultRoles: [r0, r1] }\n  - { id: d1, name: D 1, defaultRoles: [] }\n\
         \x20 - { id: child, name: Child, parent: d0 }\n",
    );
    forecast_holds(&world, "creates, updates and renames").await;

    world.write("tenants.yaml", "tenants:\n  - { id: t0, name: Zero, selfProvisioningDomains: [] }\n");
    assert_eq!(forecast_holds(&world, "a cleared list").await, 1);
}

#[tokio::test]
async fn the_plan_has_the_documented_form_and_the_same_bytes_twice() {
    let world = World::with(Setup { project: Vec::new(), ..Setup::default() }).await;
    world
        .set_live(json!({
            "permissions": [{ "name": "p0", "description": "live" }, { "name": "stray" }],
            "tenants": [{ "id": "t0", "name": "Tenant 0" }],
        }))
        .await;
    write_some(&world, 2, 1, 1);

    let (one, two) = (world.run(&["plan", "-o", "json"]).await, world.run(&["plan", "-o", "json"]).await);

    assert_eq!(one.stdout, two.stdout);
    let plan: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!((keys(&plan), &plan["formatVersion"]), (vec!["formatVersion", "projects"], &json!(1)));
    let project = &plan["projects"][0];
    for key in ["name", "fingerprint", "held", "warnings", "changes", "undeclared", "forecast"] {
        assert!(project.get(key).is_some(), "{key}");
    }
    assert_eq!(project["undeclared"], json!([{ "kind": "permissions", "id": "stray" }]));
    let held = &project["held"];
    assert_eq!(keys(held), ["changes", "deletes", "fingerprint", "reason"]);
    assert_eq!((&held["reason"], &held["changes"]), (&json!("first_contact"), &json!(3)));
    assert_eq!(held["fingerprint"], project["fingerprint"]);
    let find = |id: &str| project["changes"].as_array().unwrap().iter().find(|change| change["id"] == id).unwrap();
    assert_eq!(
        *find("p0"),
        json!({
            "kind": "permissions", "id": "p0", "action": "update", "held": "first_contact",
            "fields": [{ "path": "description", "from": "live", "to": "permission 0" }],
            "file": "permissions.yaml", "line": 2,
        })
    );
    assert_eq!(
        (&find("p1")["action"], &find("r0")["action"], &find("r0")["file"]),
        (&json!("create"), &json!("create"), &json!("roles.yaml"))
    );
    assert_eq!(keys(&project["forecast"]), ["reads", "requests", "seconds"]);
    let markdown = world.run(&["plan", "-o", "markdown"]).await.stdout;
    let markdown = String::from_utf8(markdown).unwrap();
    assert!(markdown.contains("p0") && markdown.contains("permissions.yaml:2"), "{markdown}");
    let text = String::from_utf8(world.run(&["plan"]).await.stdout).unwrap();
    assert!(text.contains("3 write and 3 read requests, about 0 s"), "{text}");
    assert!(
        text.contains("description: \"live\" -> \"permission 0\"") && text.contains("permissions.yaml:2"),
        "{text}"
    );
    assert_eq!(writes(&world).await, 0);
}

#[tokio::test]
async fn exit_codes_of_plan() {
    let world = World::new().await;
    write_some(&world, 2, 1, 1);
    let code = async |args: &[&str]| world.run(args).await.status.code().unwrap();

    assert_eq!(code(&["plan"]).await, 0);
    assert_eq!(code(&["plan", "--exit-code"]).await, 2);
    assert_eq!(code(&["plan", "--no-such-flag"]).await, 64);
    assert_eq!(code(&["plan", "--project", "nobody"]).await, 64);
    assert_eq!(code(&["apply", "--auto-approve"]).await, 0);
    assert_eq!(code(&["plan", "--exit-code"]).await, 0);
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/all" }, "fault": "html200" }])).await;
    assert_eq!(code(&["plan", "--exit-code"]).await, 1, "one kind cannot be observed");
    world.faults(json!([{ "match": { "method": "GET" }, "fault": "status", "status": 401 }])).await;
    let output = world.run(&["plan"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("permissions, roles and tenants could not be observed and are left alone"), "{text}");
    world.faults(json!([])).await;
    world.write("broken.yaml", "roles:\n  - { name: x, permisionNames: [a] }\n");
    let output = world.run(&["plan", "--exit-code"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("broken.yaml:2"), "{stderr}");
    assert_eq!(code(&["apply", "--auto-approve"]).await, 3);
    let writes: Vec<String> = world.writes().await.into_iter().map(|(line, _)| line).collect();
    assert_eq!(writes.len(), 3, "{writes:?}");
}

#[tokio::test]
async fn apply_says_what_became_of_each_change() {
    let world = World::with(Setup { project: Vec::new(), ..Setup::default() }).await;
    write_some(&world, 3, 3, 2);
    let asks = world.run(&["apply"]).await;
    assert_eq!(asks.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&asks.stderr).contains("--auto-approve"));
    assert!(world.log().await.is_empty());
    let refuse = |item: &str| json!({ "match": { "body": { "name": item } }, "fault": "status", "status": 400 });
    world.faults(json!([refuse("p1"), refuse("Tenant 1")])).await;

    let partly = world.run_json(&["apply", "--auto-approve", "-o", "json"], 5).await;

    assert_eq!(partly["formatVersion"], 1);
    assert_eq!(partly["totals"], json!({ "ok": 5, "failed": 2, "blocked": 1, "held": 0 }));
    let changes = partly["projects"][0]["changes"].as_array().unwrap();
    let find = |id: &str| changes.iter().find(|change| change["id"] == id).unwrap();
    assert_eq!(keys(find("p0")), ["action", "fields", "file", "held", "id", "kind", "line", "message", "result"]);
    assert_eq!((&find("p0")["result"], &find("p0")["message"]), (&json!("ok"), &Value::Null));
    assert_eq!(find("p1")["result"], "failed");
    assert!(find("p1")["message"].as_str().unwrap().contains("refused by a rule"), "{}", find("p1"));
    assert_eq!(find("r1")["result"], "blocked");
    assert!(find("r1")["message"].as_str().unwrap().contains("permissions/p1"), "{}", find("r1"));
    assert_eq!(find("t1")["result"], "failed");

    // The rest lands at the next run; nothing is sent twice.
    world.faults(json!([])).await;
    let rest = world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    assert_eq!(rest["totals"], json!({ "ok": 3, "failed": 0, "blocked": 0, "held": 0 }));
    assert!(crate::harness::creates(&world.log().await).values().all(|(created, _)| *created == 1));

    // Nothing at all went through.
    write_some(&world, 3, 3, 3);
    world.faults(json!([{ "match": { "path": "/v1/mgmt/tenant/create" }, "fault": "status", "status": 503 }])).await;
    let failed = world.run_json(&["apply", "--auto-approve", "-o", "json"], 1).await;
    assert_eq!(failed["totals"]["failed"], 1);
    world.faults(json!([{ "fault": "status", "status": 401 }])).await;
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn a_plan_beside_a_running_daemon_only_reads() {
    let mut world = World::new().await;
    write_some(&world, 2, 2, 2);
    world.converge().await;
    write_some(&world, 3, 2, 2);
    world.converge_on(7).await;

    let plan = world.run_json(&["plan", "--exit-code", "-o", "json"], 0).await;

    assert_eq!(plan["projects"][0]["changes"], json!([]));
    let output = world.run(&["plan"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("no state here"), "{stderr}");
    world.assert_nothing_left().await;
}
