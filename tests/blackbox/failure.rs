//! Calls that fail: what is refused parks alone, what is lost is not doubled, what is nonsense is no answer.

use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::creates;
use crate::harness::write_some;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

const LOST: [&str; 6] = ["reset_after", "hang", "html200", "malformed_json", "redirect", "status"];

#[tokio::test]
async fn a_refused_resource_parks_alone_and_what_depends_on_it_waits() {
    let mut world = World::new().await;
    write_some(&world, 6, 6, 4);
    let refuse = |body: Value| json!({ "match": { "body": body }, "fault": "status", "status": 400 });
    let p2 = refuse(json!({ "name": "p2", "description": "permission 2" }));
    let r3 = refuse(json!({ "name": "r3", "permissionNames": ["p3"] }));
    let t1 = refuse(json!({ "id": "t1" }));
    world.faults(json!([p2, r3, t1])).await;

    world.start().await;
    world
        .until("everything else done", async |world| {
            let problems = world.project().await["problems"].as_array().map_or(0, Vec::len);
            problems == 4
                && world.entity("roles", "r5").await.is_some()
                && world.entity("tenants", "t3").await.is_some()
        })
        .await;

    for (kind, id, line) in [("permissions", "p2", 4), ("roles", "r3", 5), ("tenants", "t1", 3)] {
        let problem = world.problem(kind, id).await.unwrap();
        assert_eq!(problem["state"], "parked", "{problem}");
        assert!(problem["message"].as_str().unwrap().contains("refused by a rule of the simulator"), "{problem}");
        assert_eq!((&problem["file"], &problem["line"]), (&json!(format!("{kind}.yaml")), &json!(line)));
        assert_eq!(world.entity(kind, id).await, None);
    }
    let blocked = world.problem("roles", "r2").await.unwrap();
    assert_eq!(blocked["state"], "blocked");
    assert_eq!(blocked["message"], "waits for permissions/p2, which is parked");
    for (kind, ids) in [("permissions", "p0 p1 p3 p4 p5"), ("roles", "r0 r1 r4 r5"), ("tenants", "t0 t2 t3")] {
        for id in ids.split(' ') {
            assert!(world.entity(kind, id).await.is_some(), "{kind}/{id}");
        }
    }
    assert_eq!(world.metric("queue_depth{state=\"parked\"}").await, Some(3.0));
    assert_eq!(world.metric("queue_depth{state=\"blocked\"}").await, Some(1.0));

    // Another pass over the same tries none of them. The first one may: what r3 refers to is there by now.
    for (text, may_write) in [("permissions: []\n", true), ("roles: []\n", false)] {
        let (writes, passes) = (world.writes().await.len(), world.passes().await);
        world.write("unrelated.yaml", text);
        world.until("a pass", async |world| world.passes().await > passes).await;
        world.until("parked", async |world| world.has_problem("roles", "r3", "parked").await).await;
        let now = world.writes().await;
        assert!(may_write || now.len() == writes, "unexpected: {:#?}", &now[writes..]);
    }

    // SIGHUP tries each again, whatever it depends on.
    world.faults(json!([p2, r3])).await;
    world.daemon().signal(Signal::HUP);
    world.until("t1 let go", async |world| world.entity("tenants", "t1").await.is_some()).await;
    world.until("the others refused again", async |world| world.has_problem("roles", "r3", "parked").await).await;

    // So does another declaration, each alone.
    let text = crate::harness::read(&world.path("repo/permissions.yaml"));
    world.write("permissions.yaml", &text.replace("description: permission 2 }", "description: better }"));
    world.until("r2 follows p2", async |world| world.entity("roles", "r2").await.is_some()).await;
    assert!(world.has_problem("roles", "r3", "parked").await);
    let text = crate::harness::read(&world.path("repo/roles.yaml"));
    world.write("roles.yaml", &text.replace("[p3]", "[p4]"));
    world.converge_on(16).await;
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn reconcile_retry_tries_what_was_refused_and_reconcile_alone_does_not() {
    let mut world = World::new().await;
    write_some(&world, 2, 0, 2);
    let refused = json!([{ "match": { "path": "/v1/mgmt/tenant/*", "item": "t0" }, "fault": "status", "status": 400 }]);
    world.faults(refused).await;
    world.start().await;
    world.until("parked", async |world| world.has_problem("tenants", "t0", "parked").await).await;
    world.faults(json!([])).await;
    let url = world.daemon_url().await;
    let run = async |world: &World, more: &[&str]| {
        let args = [&["reconcile", "--url", url.as_str(), "--project", "default"][..], more].concat();
        let output = world.run(&args).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };

    let passes = world.passes().await;
    run(&world, &[]).await;
    world.until("a pass", async |world| world.passes().await > passes).await;
    world.assert_nothing_left().await;
    assert!(world.has_problem("tenants", "t0", "parked").await);

    run(&world, &["--retry"]).await;
    world.converge_on(4).await;
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "operator"], 0).await;
    let last = trail["changes"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["action"], &last["message"]),
        (&json!("reconcile"), &json!("what was refused, too; asked by 127.0.0.1"))
    );
    let told = world.run(&["audit", "--kind", "operator"]).await;
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("(api, try 1") && !told.contains("(api ,"), "{told}");
}

#[tokio::test]
async fn sighup_ends_an_apply_in_order() {
    let simulator = vec!["--rate-limit=none".to_owned(), "--latency=50ms".to_owned()];
    let top = vec!["concurrency: 2".to_owned(), "rateLimit: { limit: null }".to_owned()];
    let world = World::with(Setup { simulator, top, ..Setup::default() }).await;
    // More than go out while a slow machine looks once.
    write_some(&world, 0, 0, 2000);
    let mut process = Process::start(world.command(&["apply", "--auto-approve"]));
    world.until("half-way", async |world| world.entity("tenants", "t1").await.is_some()).await;
    process.signal(Signal::HUP);
    let status = process.ended().await;

    assert_eq!(status.code(), Some(5), "{}", process.tail(20));
    assert!(process.said("stopped before everything was applied; run it again to go on"), "{}", process.tail(20));
    let made = world.live().await["tenants"].as_array().unwrap().len();
    let known = world.run_json(&["audit", "-o", "json", "--kind", "tenants"], 0).await;
    let is_done = |row: &&Value| row["action"] == "create" && row["outcome"] == "ok";
    let known = known["changes"].as_array().unwrap().iter().filter(is_done).count();
    assert!(made < 2000 && known == made, "{made} made, {known} known");
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_not_doubled() {
    let mut world = World::with(Setup { top: vec!["requestTimeout: 400ms".into()], ..Setup::default() }).await;
    world.start().await;
    let mut expected = 0;
    for (round, fault) in LOST.iter().enumerate() {
        let lose = |kind: &str| {
            let path = format!("/v1/mgmt/{kind}/create*");
            json!({ "match": { "path": path, "times": 1 }, "fault": fault, "status": null, "effect": true })
        };
        world.faults(json!([lose("permission"), lose("role"), lose("tenant")])).await;
        let list = |item: &dyn Fn(usize) -> String| (0..2).map(item).collect::<String>();
        world.write(
            &format!("{fault}.yaml"),
            &format!(
                "permissions:\n{}roles:\n{}tenants:\n{}",
                list(&|n| format!("  - {{ name: p{round}-{n}, description: d }}\n")),
                list(&|n| format!("  - {{ name: r{round}-{n}, permissionNames: [p{round}-{n}] }}\n")),
                list(&|n| format!("  - {{ id: t{round}-{n}, name: T {round} {n} }}\n")),
            ),
        );
        expected += 6;
        world.converge_on(expected).await;
        let met = world.log().await.iter().filter(|entry| entry["fault"] == *fault).count();
        assert_eq!(met, 3, "{fault} was met by each kind");
    }

    let creates = creates(&world.log().await);

    assert_eq!(creates.len(), expected, "{creates:?}");
    for (key, counts) in creates {
        assert_eq!(counts, (1, 0), "{key}: created and refused so often");
    }
    world.faults(json!([])).await;
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_rename_whose_answer_is_lost_is_not_sent_again() {
    let mut world = World::with(Setup { top: vec!["requestTimeout: 400ms".into()], ..Setup::default() }).await;
    world.write("all.yaml", "permissions:\n  - { name: p }\nroles:\n  - { name: r, permissionNames: [p] }\n");
    world.converge().await;
    let role_id = world.entity("roles", "r").await.unwrap()["id"].clone();
    let (mut permission, mut role) = ("p".to_owned(), "r".to_owned());
    for fault in LOST {
        let lose = |kind: &str| {
            let path = format!("/v1/mgmt/{kind}/update*");
            json!({ "match": { "path": path, "times": 1 }, "fault": fault, "effect": true })
        };
        world.faults(json!([lose("permission"), lose("role")])).await;
        let seq = world.newest_seq().await;
        let (new_permission, new_role) = (format!("p-{fault}"), format!("r-{fault}"));
        world.write(
            "all.yaml",
            &format!(
                "permissions:\n  - {{ name: {new_permission}, renamedFrom: {permission} }}\n\
                 roles:\n  - {{ name: {new_role}, renamedFrom: {role}, permissionNames: [{new_permission}] }}\n"
            ),
        );
        world.until("renamed", async |world| world.entity("roles", &new_role).await.is_some()).await;
        world.until("converged", async |world| world.is_converged().await).await;

        assert_eq!(world.entity("permissions", &permission).await, None);
        let renamed = world.entity("roles", &new_role).await.unwrap();
        assert_eq!((&renamed["id"], &renamed["permissionNames"]), (&role_id, &json!([new_permission])), "{fault}");
        let sent = world.requests_since(seq).await;
        let refused = sent.iter().filter(|entry| entry["status"] == 400).count();
        let effects = sent.iter().filter(|entry| entry["effect"] == true).count();
        assert_eq!((refused, effects), (0, 2), "{fault}: {sent:#?}");
        (permission, role) = (new_permission, new_role);
    }
    world.faults(json!([])).await;
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn already_exists_is_believed_only_when_a_fresh_look_shows_it() {
    let mut world = World::new().await;
    world.write("all.yaml", "tenants:\n  - { id: ghost, name: Ghost }\n  - { id: taken, name: Taken }\n");
    let body = json!({ "errorCode": "E011003", "errorMessage": "the tenant already exists" });
    let refuse = |id: &str, effect: bool| json!({ "match": { "item": id }, "fault": "status", "status": 400, "body": body, "effect": effect });
    world.faults(json!([refuse("ghost", false), refuse("taken", true)])).await;

    world.start().await;
    world.until("parked", async |world| world.has_problem("tenants", "ghost", "parked").await).await;
    world.until("adopted", async |world| world.project().await["problems"].as_array().unwrap().len() == 1).await;

    let problem = world.problem("tenants", "ghost").await.unwrap();
    assert!(problem["message"].as_str().unwrap().contains("the tenant already exists"), "{problem}");
    let log = world.log().await;
    let create = log.iter().rposition(|entry| entry["path"] == "/v1/mgmt/tenant/create").unwrap();
    assert!(log[create..].iter().any(|entry| entry["path"] == "/v1/mgmt/tenant/all"), "looked again before parking");
    world.faults(json!([])).await;
    world.daemon().signal(rustix::process::Signal::HUP);
    world.converge_on(2).await;
}

#[tokio::test]
async fn an_answer_of_another_form_is_never_a_list_and_heals_when_it_ends() {
    let mut world = World::with(Setup { top: vec!["requestTimeout: 400ms".into()], ..Setup::default() }).await;
    write_some(&world, 2, 2, 2);
    world.converge().await;
    let mut resources = 6;
    let faults = ["html200", "empty200", "malformed_json", "reset_after", "reset_before", "redirect", "status", "hang"];
    for fault in faults {
        world.faults(json!([{ "match": { "path": "/v1/mgmt/role/all" }, "fault": fault }])).await;
        world.write(
            &format!("{fault}.yaml"),
            &format!("permissions:\n  - {{ name: p-{fault} }}\nroles:\n  - {{ name: r-{fault}, permissionNames: [p-{fault}] }}\n"),
        );
        world
            .until("the rest goes on", async |world| world.entity("permissions", &format!("p-{fault}")).await.is_some())
            .await;
        world.until("the kind is retried", async |world| world.has_problem("roles", "", "retrying").await).await;
        assert!(!world.is_converged().await, "{fault}");
        assert_eq!(world.entity("roles", &format!("r-{fault}")).await, None);

        world.faults(json!([])).await;

        resources += 2;
        world.converge_on(resources).await;
        assert!(world.entity("roles", &format!("r-{fault}")).await.is_some(), "{fault}");
    }
    let log = world.log().await;
    assert!(log.iter().all(|entry| entry["path"] != "/v1/mgmt/redirected"), "a redirect is never followed");
    assert!(creates(&log).values().all(|counts| *counts == (1, 0)));
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn html_for_an_update_is_no_success() {
    let top = vec!["retry: { maxAttempts: 2, initialBackoff: 1s, maxBackoff: 1s }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    write_some(&world, 1, 0, 1);
    world.converge().await;
    world.faults(json!([{ "match": { "method": "PATCH" }, "fault": "html200" }])).await;

    world.write("tenants.yaml", "tenants:\n  - { id: t0, name: Renamed }\n");
    world.until("retrying", async |world| world.has_problem("tenants", "t0", "retrying").await).await;
    let problem = world.problem("tenants", "t0").await.unwrap();
    assert!(problem["attempts"].as_u64().unwrap() >= 1, "{problem}");
    assert!(problem["message"].as_str().unwrap().contains("an HTML page"), "{problem}");
    world
        .until("a next try is scheduled", async |world| {
            world.problem("tenants", "t0").await.unwrap()["nextAttemptAt"].is_string()
        })
        .await;
    assert!(!world.is_converged().await);

    world.faults(json!([])).await;
    world.converge_on(2).await;
    assert_eq!(world.entity("tenants", "t0").await.unwrap()["name"], "Renamed");
}

#[tokio::test]
async fn failing_updates_are_repeated_within_the_call_then_requeued_and_never_lost() {
    let mut world = World::new().await;
    write_some(&world, 2, 2, 2);
    world.converge().await;
    let fail = |path: &str, fault: &str, status: u16, times: u64| json!({ "match": { "path": path, "times": times }, "fault": fault, "status": status });
    world
        .faults(json!([
            fail("/v1/mgmt/tenant/patch", "status", 503, 2),
            fail("/v1/mgmt/permission/update*", "status", 520, 1),
            fail("/v1/mgmt/role/update*", "reset_before", 503, 12),
        ]))
        .await;

    world.write(
        "permissions.yaml",
        "permissions:\n  - { name: p0, description: new }\n  - { name: p1, description: permission 1 }\n",
    );
    world.write("roles.yaml", "roles:\n  - { name: r0, description: new, permissionNames: [p0] }\n  - { name: r1 }\n");
    world.write("tenants.yaml", "tenants:\n  - { id: t0, name: New }\n  - { id: t1, name: Tenant 1 }\n");
    world
        .until("all written", async |world| {
            let new = async |kind, name, field| world.entity(kind, name).await.unwrap()[field] == json!("new");
            new("permissions", "p0", "description").await
                && new("roles", "r0", "description").await
                && world.entity("tenants", "t0").await.unwrap()["name"] == "New"
        })
        .await;
    world.until("converged", async |world| world.is_converged().await).await;

    let retries = async |operation: &str, reason: &str| {
        let series = format!("api_retries_total{{operation=\"{operation}\",reason=\"{reason}\"}}");
        world.metric(&series).await.unwrap_or_default()
    };
    assert!((retries("PATCH /v1/mgmt/tenant/patch", "status").await - 2.0).abs() < 0.1);
    assert!((retries("POST /v1/mgmt/permission/update", "status").await - 1.0).abs() < 0.1);
    assert!(
        retries("POST /v1/mgmt/role/update", "connect").await >= 4.0,
        "{}",
        world.ask(reqwest::Method::GET, "/metrics").await.1
    );
    assert!(world.metric("queue_adds_total{reason=\"retry\"}").await.unwrap() >= 1.0);
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn with_every_fifth_call_failing_the_project_still_becomes_exactly_the_desired_state() {
    for seed in [1, 20] {
        let simulator = vec!["--rate-limit=none".to_owned(), "--fault-rate=0.2".to_owned(), format!("--seed={seed}")];
        let mut world = World::with(Setup { simulator, ..Setup::default() }).await;
        let before = world.live().await;
        write_some(&world, 20, 20, 20);

        world.converge().await;

        let live = world.live().await;
        let new = |kind: &str| live[kind].as_array().unwrap().len() - before[kind].as_array().map_or(0, Vec::len);
        assert_eq!((new("permissions"), new("roles"), new("tenants")), (20, 20, 20), "seed {seed}");
        for n in 0..20 {
            let permission = world.entity("permissions", &format!("p{n}")).await.unwrap();
            assert_eq!(permission["description"], format!("permission {n}"));
            let role = world.entity("roles", &format!("r{n}")).await.unwrap();
            assert_eq!(role["permissionNames"], json!([format!("p{n}")]));
            assert_eq!(world.entity("tenants", &format!("t{n}")).await.unwrap()["name"], format!("Tenant {n}"));
        }
        assert!(world.stats().await["faults"].as_u64().unwrap() > 3, "seed {seed}");
        world.sim(reqwest::Method::PUT, "options", Some(json!({ "faultRate": 0.0 }))).await;
        world.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn a_list_that_lags_behind_does_not_make_it_create_twice() {
    let mut world = World::with(Setup { interval: "200ms", ..Setup::default() }).await;
    world.sim(reqwest::Method::PUT, "options", Some(json!({ "readDelay": "2s" }))).await;
    write_some(&world, 4, 4, 4);

    world.start().await;
    world.until("created", async |world| world.entity("tenants", "t3").await.is_some()).await;
    let passes = world.passes().await;
    world.until("passes that see none of it", async |world| world.passes().await > passes + 3).await;
    world.converge().await;

    let creates = creates(&world.log().await);
    assert_eq!(creates.len(), 12);
    assert!(creates.values().all(|counts| *counts == (1, 0)), "{creates:?}");
    assert!(world.stats().await["writes"].as_u64().unwrap() == 6, "two batches and four tenants");
}

#[tokio::test]
async fn what_is_parked_is_forgotten_when_it_leaves_the_yaml() {
    let mut world = World::new().await;
    write_some(&world, 1, 1, 2);
    world.faults(json!([{ "match": { "item": "t1" }, "fault": "status", "status": 400 }])).await;
    world.start().await;
    world.until("parked", async |world| world.has_problem("tenants", "t1", "parked").await).await;
    assert!(!world.is_converged().await);

    write_some(&world, 1, 1, 1);

    world.converge_on(3).await;
    assert_eq!(world.project().await["problems"], json!([]));
    assert_eq!(world.metric("queue_depth{state=\"parked\"}").await, Some(0.0));
}

/// Each try may still take effect, so each was kept for the next one to ask about: over a thousand in three minutes.
#[tokio::test]
async fn tries_of_a_create_that_nobody_answers_do_not_pile_up() {
    let mut world = World::new().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/tenant/create*" }, "fault": "status", "status": 500 }])).await;
    world.write("tenants.yaml", "tenants:\n  - { id: t, name: T }\n");
    world.start().await;
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    let open = |which: &str| -> i64 {
        state.query_row(&format!("SELECT count(*) FROM intent WHERE {which}"), [], |row| row.get(0)).unwrap()
    };
    world.until("tried some times", async |_| open("true") >= 5).await;
    // As if they had been sent long ago.
    assert!(state.execute("UPDATE intent SET begun_at = 1", []).unwrap() >= 5);

    world
        .until("settled", async |world| {
            world.fresh_pass().await;
            open("begun_at = 1") <= 1
        })
        .await;

    world.faults(json!([])).await;
    world.until("created", async |world| world.is_converged().await).await;
    world.until("nothing open", async |_| open("true") == 0).await;
    let owned: i64 = state.query_row("SELECT count(*) FROM owned", [], |row| row.get(0)).unwrap();
    assert_eq!(owned, 1);
}
