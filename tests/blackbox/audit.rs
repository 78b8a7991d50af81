//! What the audit trail answers, and what the other commands say of a running daemon.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

#[tokio::test]
async fn the_trail_says_what_was_changed_where_when_why_and_how_it_ended() {
    let mut world = World::new().await;
    world.write(
        "all.yaml",
        "permissions:\n  - name: p\nroles:\n  - { name: a, description: one }\ntenants:\n  - { id: t, name: T }\n",
    );
    world.converge().await;
    world.write(
        "all.yaml",
        "permissions:\n  - name: p\nroles:\n  - { name: a, description: two }\ntenants:\n  - { id: t, name: T }\n",
    );
    world.until("two", async |world| world.entity("roles", "a").await.unwrap()["description"] == "two").await;
    world
        .faults(json!([{ "match": { "path": "/v1/mgmt/tenant/*", "item": "refused" }, "fault": "status", "status": 400,
        "body": { "errorCode": "E1", "errorMessage": "no such luck" } }]))
        .await;
    world.write("more.yaml", "tenants:\n  - { id: refused, name: R }\n");
    world.until("parked", async |world| world.project().await["problems"][0]["state"] == "parked").await;

    let roles = world.told(&["--kind", "roles", "--id", "a"]).await;
    assert_eq!(roles.iter().map(|row| row["action"].as_str().unwrap()).collect::<Vec<_>>(), ["create", "update"]);
    let update = &roles[1];
    assert_eq!(update["fields"], json!([{ "path": "description", "from": "one", "to": "two" }]));
    assert_eq!((&update["file"], &update["line"], &update["outcome"]), (&json!("all.yaml"), &json!(4), &json!("ok")));
    assert_eq!((&update["trigger"], &update["attempt"]), (&json!("watch"), &json!(1)));
    assert_ne!(update["revision"], roles[0]["revision"]);
    assert_eq!(
        update["revision"],
        world.project().await["desired"]["revision"]
            .clone()
            .as_str()
            .map_or(Value::Null, |_| update["revision"].clone())
    );
    let refused = world.told(&["--id", "refused"]).await;
    assert_eq!(refused[0]["outcome"], "failed");
    assert!(refused[0]["message"].as_str().unwrap().contains("no such luck"), "{refused:?}");
    assert_eq!(world.told(&["--since", "1h"]).await.len(), 5);
    assert!(world.told(&["--since", "2099-01-01T00:00:00Z"]).await.is_empty());
    assert_eq!(world.run(&["audit", "--since", "yesterday"]).await.status.code(), Some(64));
    let text = String::from_utf8(world.run(&["audit", "--kind", "roles"]).await.stdout).unwrap();
    assert!(text.lines().nth(1).unwrap().contains("ok update roles/a [description]"), "{text}");
    assert!(text.contains("all.yaml:4"), "{text}");
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    let passes = |result: &str| {
        let sql = "SELECT count(*) FROM pass WHERE result = ?";
        state.query_row(sql, [result], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(passes("applied"), 2);
    assert!(passes("partial") >= 1, "what was refused was not applied");
}

#[tokio::test]
async fn commands_ask_the_running_daemon() {
    let mut world = World::new().await;
    world.write("all.yaml", "roles:\n  - name: a\n");
    world.converge().await;
    let url = world.daemon_url().await;
    let ask = async |args: &[&str]| world.run(&[args, &["--url", &url]].concat()).await;

    let status: Value = serde_json::from_slice(&ask(&["status", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(status["projects"][0]["converged"], true);
    let text = String::from_utf8(ask(&["status"]).await.stdout).unwrap();
    assert!(text.contains("at rest") && text.contains("1 of 1"), "{text}");
    world.edit_live("roles/a", json!({ "description": "drift" })).await;
    world.write("all.yaml", "roles:\n  - { name: a, description: b }\n");
    world.until("healed", async |world| world.entity("roles", "a").await.unwrap()["description"] == "b").await;
    let before = world.passes().await;
    assert_eq!(ask(&["reconcile"]).await.status.code(), Some(0));
    world.until("a pass", async |world| world.passes().await > before).await;
    let plan: Value = serde_json::from_slice(&ask(&["plan", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(plan["projects"][0]["changes"], json!([]));
    assert_eq!(ask(&["reconcile", "--project", "nobody"]).await.status.code(), Some(64));
    assert_eq!(world.run(&["status", "--url", "http://127.0.0.1:1"]).await.status.code(), Some(1));
}

/// Every row of one kind: `action id: outcome`.
async fn told(world: &World, kind: &str) -> Vec<String> {
    let row = |row: Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        format!("{} {}: {}", text("action"), text("id"), text("outcome"))
    };
    let mut rows: Vec<String> = world.told(&["--kind", kind]).await.into_iter().map(row).collect();
    rows.sort();
    rows
}

/// Each had a row for the batch and one for every part of it.
#[tokio::test]
async fn a_batch_that_is_split_has_one_row_for_each_change() {
    let mut world = World::new().await;
    world
        .faults(json!([{ "match": { "path": "/v1/mgmt/role/create*", "item": "r2" }, "fault": "status", "status": 400,
        "body": { "errorMessage": "no such luck" } }]))
        .await;
    world.write("roles.yaml", &(0..5).fold("roles:\n".to_owned(), |text, n| text + &format!("  - name: r{n}\n")));
    world.start().await;
    world.until("parked", async |world| world.has_problem("roles", "r2", "parked").await).await;
    world.until("the others", async |world| world.entity("roles", "r4").await.is_some()).await;
    world.assert_nothing_left().await;

    let expected = ["create r0: ok", "create r1: ok", "create r2: failed", "create r3: ok", "create r4: ok"];
    assert_eq!(told(&world, "roles").await, expected);
}

/// What was blocked after three refusals was told as refused.
#[tokio::test]
async fn what_was_never_sent_has_no_row() {
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.top.push("concurrency: 1".to_owned()));
    world
        .faults(json!([
            { "match": { "path": "/v1/mgmt/tenant/create" }, "fault": "status", "status": 403 },
            { "match": { "path": "/v1/mgmt/role/create*" }, "fault": "status", "status": 403 },
        ]))
        .await;
    world.write("roles.yaml", &(0..8).fold("roles:\n".to_owned(), |text, n| text + &format!("  - name: r{n}\n")));
    world.write(
        "tenants.yaml",
        &(0..6).fold("tenants:\n".to_owned(), |text, n| text + &format!("  - {{ id: t{n}, name: T }}\n")),
    );
    world.start().await;
    world.until("all parked", async |world| world.project().await["problems"].as_array().unwrap().len() == 14).await;

    let tenants: Vec<String> = world
        .writes()
        .await
        .into_iter()
        .filter(|(line, _)| line.contains("tenant"))
        .map(|(_, body)| body["id"].to_string())
        .collect();
    assert_eq!(tenants.len(), 3);
    let expected: Vec<String> = tenants.iter().map(|id| format!("create {}: failed", id.trim_matches('"'))).collect();
    assert_eq!(told(&world, "tenants").await, expected);
    // All of them were in the batch, though not all in a smaller call.
    assert_eq!(told(&world, "roles").await, (0..8).map(|n| format!("create r{n}: failed")).collect::<Vec<_>>());
}

/// During an outage the trail said nothing, and afterwards only that it had worked.
#[tokio::test]
async fn what_cannot_be_sent_has_one_row_that_gives_way_to_the_next_try() {
    let mut world = World::new().await;
    let text = |description: &str| format!("roles:\n  - {{ name: a, description: {description} }}\n");
    world.write("roles.yaml", &text("one"));
    world.converge().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/update*" }, "fault": "status", "status": 503 }])).await;
    world.write("roles.yaml", &text("two"));
    world.until("retrying", async |world| world.has_problem("roles", "a", "retrying").await).await;

    world.end_simulator().await;

    let not_sent = async |world: &World| -> Vec<Value> {
        let is_it = |row: &Value| row["message"].as_str().unwrap().starts_with("not sent: cannot reach ");
        world.told(&["--id", "a"]).await.into_iter().filter(is_it).collect()
    };
    world.until("told", async |world| !not_sent(world).await.is_empty()).await;
    let first = not_sent(&world).await[0]["attempt"].as_u64().unwrap();
    world
        .until("told anew", async |world| not_sent(world).await.iter().any(|row| row["attempt"].as_u64() > Some(first)))
        .await;
    let told = not_sent(&world).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["outcome"], &told[0]["action"]), (&json!("failed"), &json!("update")));
    assert!(world.told(&["--id", "a"]).await.iter().any(|row| row["message"].as_str().unwrap().contains("503")));
}

/// Between a create whose answer is lost and the look that finds it, the tries that could not look have one row, which goes
/// with them.
#[tokio::test]
async fn what_waits_for_a_look_is_told_until_it_is_found_done() {
    let mut world = World::with(Setup { top: vec!["requestTimeout: 2s".into()], ..Setup::default() }).await;
    world.write("tenants.yaml", "tenants:\n  - { id: s, name: S }\n");
    world.converge().await;
    let lost = json!({ "match": { "path": "/v1/mgmt/tenant/create" }, "fault": "hang", "effect": true });
    let blind = json!({ "match": { "path": "/v1/mgmt/tenant/all" }, "fault": "status", "status": 503 });
    world.faults(json!([lost.clone()])).await;
    world.write("tenants.yaml", "tenants:\n  - { id: s, name: S }\n  - { id: t, name: T }\n");
    world.until("created", async |world| world.entity("tenants", "t").await.is_some()).await;
    world.faults(json!([lost, blind])).await;

    let messages = async |world: &World| -> Vec<String> {
        let rows = world.told(&["--id", "t"]).await;
        rows.iter().map(|row| row["message"].as_str().unwrap().to_owned()).collect()
    };
    let is_told = async |world: &World| messages(world).await.last().is_some_and(|last| last.starts_with("not sent: "));
    world.until("told", is_told).await;
    assert_eq!(messages(&world).await.len(), 2);
    world.faults(json!([])).await;
    world.until("converged", async |world| world.is_converged().await).await;

    assert_eq!(told(&world, "tenants").await, ["create s: ok", "create t: ok"]);
}

/// README and schema said "secrets masked", and the trail stored what it was given.
#[tokio::test]
async fn the_trail_masks_secrets_and_shortens_what_is_long() {
    const SECRET: &str = "sentinel-of-an-application";
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.project.push("secrets: { env: ['APP_*'] }".to_owned()));
    world.environment = vec![("APP_SECRET".to_owned(), SECRET.to_owned())];
    let long = "x".repeat(5000);
    world.write(
        "a.yaml",
        &format!(
            "outboundApps:\n  - {{ id: calendar, name: Calendar, clientId: c, clientSecret: {{ env: APP_SECRET }} }}\n\
             roles:\n  - {{ name: r, description: {long} }}\n"
        ),
    );
    world.converge().await;

    let made = world.told(&["--kind", "outboundApps"]).await;
    let field = |row: &Value, path: &str| {
        row["fields"].as_array().unwrap().iter().find(|field| field["path"] == path).cloned().unwrap_or_default()
    };
    assert_eq!(field(&made[0], "clientSecret"), json!({ "path": "clientSecret", "from": null, "to": "(secret)" }));
    assert_eq!(field(&made[0], "clientId")["to"], "c");
    let told = world.told(&["--kind", "roles"]).await;
    let described = field(&told[0], "description");
    assert!(described["to"]["digest"].is_string() && described["to"]["size"].as_u64() >= Some(5000), "{described}");

    world.stop().await;
    for file in std::fs::read_dir(world.path("state")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    }
}
