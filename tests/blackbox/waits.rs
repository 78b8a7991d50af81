//! What is not at rest says why, since when and until when.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

fn role(description: &str) -> String {
    format!("roles:\n  - {{ name: r, description: {description} }}\n")
}

/// The row of a resource.
async fn wait(world: &World, kind: &str, id: &str) -> Option<Value> {
    let waits = world.project().await["waits"].as_array().unwrap().clone();
    waits.into_iter().find(|wait| wait["kind"] == kind && wait["id"] == id)
}

/// The row of a resource, once it says this.
async fn wait_for(world: &World, kind: &str, id: &str, why: &str) -> Value {
    let says = |wait: &Value| wait["why"].as_str().unwrap().starts_with(why);
    world.until(why, async |world| wait(world, kind, id).await.is_some_and(|wait| says(&wait))).await;
    let wait = wait(world, kind, id).await.unwrap();
    assert!(wait["since"].is_string(), "{wait}");
    wait
}

/// What waits says so in the status, in the plan and where the page looks, in JSON and in words.
async fn told_everywhere(world: &World, kind: &str, id: &str, why: &str) -> Value {
    let row = wait_for(world, kind, id, why).await;
    let url = world.daemon_url().await;
    let row_in = |waits: &Value| {
        let rows = waits.as_array().unwrap().iter().filter(|wait| wait["kind"] == kind && wait["id"] == id);
        rows.cloned().collect::<Vec<Value>>()
    };
    let plan = world.run_json(&["plan", "-o", "json", "--url", &url], 0).await;
    let window = world.ask(reqwest::Method::GET, &format!("/api/v1/plan?kind={kind}&id={id}")).await.1;
    for document in [plan, serde_json::from_str(&window).unwrap()] {
        let project = &document["projects"][0];
        let rows = row_in(&project["waits"]);
        assert_eq!(rows.len(), 1, "{document:#}");
        let time = |row: &Value, name: &str| humantime::parse_rfc3339(row[name].as_str()?).ok();
        assert_eq!((&rows[0]["why"], time(&rows[0], "until").is_some()), (&row["why"], time(&row, "until").is_some()));
        assert!(time(&rows[0], "since").is_some(), "{document:#}");
        let word = why.trim_end_matches(": ");
        assert!(project["waitCounts"][word].as_u64().unwrap() >= 1, "{document:#}");
    }
    let name = format!("{kind}/{id}");
    let word = why.trim_end_matches(": ");
    for (args, is_plan) in [(["plan", "--url", &url], true), (["status", "--url", &url], false)] {
        let text = String::from_utf8(world.run(&args).await.stdout).unwrap();
        // The status tells a problem as one.
        let says = |line: &str| {
            let is_named = line.contains(&name) || line.contains(" and ") && line.contains(" more");
            is_named && (line.contains(word) || word == "backoff" && line.contains("retrying"))
        };
        assert!(text.lines().any(says), "{name} {word}: {text}");
        assert!(!is_plan || row["until"].is_null() || text.contains("20"), "{text}");
    }
    row
}

async fn nothing_waits(world: &mut World) {
    world.converge().await;
    let project = world.project().await;
    assert_eq!((&project["waits"], &project["waitCounts"]), (&json!([]), &json!({})));
}

async fn switch(world: &World, options: Value) {
    world.sim(reqwest::Method::PUT, "options", Some(options)).await;
}

/// It began anew with a restart and with another commit; the notification kept the true one.
#[tokio::test]
async fn what_is_refused_is_so_since_the_first_time_over_another_commit_and_a_restart() {
    let mut world = World::new().await;
    let refuse = |path: &str| json!([{ "match": { "path": path }, "fault": "status", "status": 400 }]);
    world.faults(refuse("/v1/mgmt/role/create")).await;
    world.write("roles.yaml", &role("one"));
    world.start().await;
    let first = wait_for(&world, "roles", "r", "parked").await["since"].clone();
    let began = humantime::parse_rfc3339(first.as_str().unwrap()).unwrap();
    let passes = async |seconds: u64| {
        let later = began + std::time::Duration::from_secs(seconds);
        world.until("a later second", async |_| std::time::SystemTime::now() > later).await;
    };
    passes(2).await;

    world.write("roles.yaml", &role("two"));
    let is_planned = async |world: &World| {
        let project = world.project().await;
        let revision = &project["desired"]["revision"];
        project["lastPass"]["trigger"] == "watch" && project["plannedRevision"] == *revision
    };
    world.until("planned", is_planned).await;
    assert_eq!(wait_for(&world, "roles", "r", "parked").await["since"], first);
    world.stop().await;
    world.start().await;
    assert_eq!(wait_for(&world, "roles", "r", "parked").await["since"], first);
    let plan = world.run_json(&["plan", "-o", "json", "--url", &world.daemon_url().await], 0).await;
    assert_eq!(plan["projects"][0]["waits"][0]["since"], first);

    // Done in between, it is another time.
    world.faults(json!([])).await;
    assert_eq!(world.ask(reqwest::Method::POST, "/api/v1/reconcile?retry=true").await.0, 202);
    world.until("at rest", async |world| world.is_converged().await).await;
    world.faults(refuse("/v1/mgmt/role/update")).await;
    world.write("roles.yaml", &role("three"));
    assert!(wait_for(&world, "roles", "r", "parked").await["since"].as_str() > first.as_str());
}

/// "Next pass in 6m" was said while one was under way, and waited for the gate.
#[tokio::test]
async fn a_look_that_waits_for_the_gate_is_told_with_when_that_opens() {
    let top = vec!["rateLimit: { limit: 1000/4s, lockout: 5s }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    assert_eq!(world.project().await["look"], Value::Null);
    let refuse = json!({ "match": { "path": "/v1/mgmt/role/all", "times": 1 }, "fault": "status", "status": 429,
        "headers": { "retry-after": "9" } });
    world.faults(json!([refuse])).await;

    assert_eq!(world.ask(reqwest::Method::POST, "/api/v1/reconcile").await.0, 202);

    let waits = async |world: &World| {
        let status = world.status().await;
        let until = &status["limiters"][0]["pausedUntil"];
        let look = &status["projects"][0]["look"];
        until.is_string() && look["until"] == *until && look["since"].is_string()
    };
    world.until("waits", waits).await;
    let url = world.daemon_url().await;
    let text = String::from_utf8(world.run(&["status", "--url", &url]).await.stdout).unwrap();
    let line =
        text.lines().find(|line| line.contains("a pass is under way, looking at Descope since")).unwrap_or(&text);
    assert!(line.contains("; it waits for Descope's rate limit, which opens in "), "{line}");
    assert!(!text.contains("next pass"), "{text}");
    world.until("over", async |world| world.project().await["look"].is_null()).await;
    world.until("at rest", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn what_waits_at_the_gate_is_told_in_part_and_counted_as_a_whole() {
    let top = vec!["rateLimit: { limit: 1000/4s, lockout: 5s }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    let refuse = json!({ "match": { "path": "/v1/mgmt/tenant/create", "times": 1 }, "fault": "status", "status": 429,
        "headers": { "retry-after": "5" } });
    world.faults(json!([refuse])).await;
    let tenant = |n| format!("  - {{ id: t{n}, name: T {n}, defaultRoles: [r] }}\n");
    world.write("tenants.yaml", &format!("tenants:\n{}", (0..150).map(tenant).collect::<String>()));
    world.write("roles.yaml", &role("one"));
    world.start().await;
    world.until("at the gate", async |world| world.project().await["waitCounts"]["gate"].is_u64()).await;

    let project = world.project().await;

    let waits = project["waits"].as_array().unwrap();
    let at_gate = waits.iter().find(|wait| wait["why"].as_str().unwrap().starts_with("gate: ")).unwrap();
    assert!(at_gate["since"].is_string() && at_gate["until"].is_string(), "{at_gate}");
    assert!(waits.len() <= 100, "{}", waits.len());
    let total: u64 = project["waitCounts"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert!(total >= 150, "{}", project["waitCounts"]);
    assert_eq!(project["converged"], false);
    world.until("converged", async |world| world.is_converged().await).await;
    nothing_waits(&mut world).await;
}

#[tokio::test]
async fn what_failed_what_was_refused_and_what_depends_on_it_say_so() {
    let retry = "retry: { maxAttempts: 1, initialBackoff: 60s, maxBackoff: 60s }".to_owned();
    let mut world = World::with(Setup { top: vec![retry], ..Setup::default() }).await;
    let fault = |body: Value, status: u16| json!({ "match": { "body": body }, "fault": "status", "status": status });
    world.faults(json!([fault(json!({ "name": "p" }), 400), fault(json!({ "id": "t" }), 503)])).await;
    world.write("permissions.yaml", "permissions:\n  - name: p\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [p] }\n");
    world.write("tenants.yaml", "tenants:\n  - { id: t, name: T }\n");
    world.start().await;

    let parked = told_everywhere(&world, "permissions", "p", "parked: ").await;
    let dependency = wait_for(&world, "roles", "r", "dependency: ").await;
    let plan = world.run_json(&["plan", "-o", "json", "--url", &world.daemon_url().await], 0).await;
    let rows = plan["projects"][0]["waits"].as_array().unwrap().clone();
    assert!(rows.iter().any(|row| row["id"] == "r" && row["why"] == dependency["why"]), "{plan:#}");
    let backoff = told_everywhere(&world, "tenants", "t", "backoff: ").await;

    assert!(parked["why"].as_str().unwrap().contains("refused by a rule of the simulator"), "{parked}");
    assert!(dependency["why"].as_str().unwrap().contains("permissions/p, which is parked"), "{dependency}");
    assert!(parked["until"].is_null() && dependency["until"].is_null());
    assert!(backoff["until"].is_string(), "{backoff}");
}

#[tokio::test]
async fn what_descope_does_not_show_yet_is_unconfirmed() {
    let mut world = World::new().await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    switch(&world, json!({ "readDelay": "5s" })).await;

    world.write("roles.yaml", &(role("two") + "  - name: fresh\n"));
    world.until("made", async |world| world.entity("roles", "fresh").await.is_some()).await;
    world.fresh_pass().await;

    let update = told_everywhere(&world, "roles", "r", "unconfirmed: ").await;
    let create = wait_for(&world, "roles", "fresh", "unconfirmed: ").await;
    assert!(update["until"].is_string() && create["until"].is_string(), "{update} {create}");
    assert_eq!(world.project().await["notConvergedBecause"], "unconfirmed");
    world.until("shown", async |world| world.is_converged().await || wait(world, "roles", "r").await.is_none()).await;
    world.fresh_pass().await;
    nothing_waits(&mut world).await;
}

/// The rows were those of the last pass until the next one ended, which waited at the gate itself.
#[tokio::test]
async fn what_is_told_of_the_gate_is_true_while_a_pass_waits_at_it() {
    let top = vec!["rateLimit: { limit: 1000/4s, lockout: 8s }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    world.write("roles.yaml", &role("one"));
    world.converge().await;
    let park = json!({ "match": { "path": "/v1/mgmt/role/update" }, "fault": "status", "status": 503 });
    world.faults(json!([park])).await;
    world.write("roles.yaml", &role("two"));
    world.until("tried", async |world| world.has_problem("roles", "r", "retrying").await).await;
    let refuse = json!({ "fault": "status", "status": 429, "headers": { "retry-after": "8" } });
    world.faults(json!([refuse])).await;
    world.until("closed", async |world| world.status().await["limiters"][0]["pausedUntil"].is_string()).await;
    assert_eq!(world.ask(reqwest::Method::POST, "/api/v1/reconcile").await.0, 202);

    let row = told_everywhere(&world, "roles", "r", "gate: ").await;
    assert!(row["until"].is_string(), "{row}");
    assert_eq!(world.project().await["waitCounts"]["budget"], Value::Null);
    world.faults(json!([])).await;
    nothing_waits(&mut world).await;
}

/// A guard's hold was told by its word and a count alone.
#[tokio::test]
async fn what_a_guard_the_policy_or_time_holds_says_so_resource_by_resource() {
    let project = vec![
        "policy: sync".to_owned(),
        "firstContact: apply".to_owned(),
        "guards: { deleteAfter: 10m, maxDeletes: { default: 10 } }".to_owned(),
    ];
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    world.write("a.yaml", "roles:\n  - name: r\n  - name: gone\n");
    world.write("p.yaml", "passwordSettings: { minLength: 12 }\n");
    world.converge().await;
    world.write("p.yaml", "passwordSettings: { minLength: 6 }\n");
    world.write("a.yaml", "roles:\n  - name: r\n");

    let guard = told_everywhere(&world, "passwordSettings", "passwordSettings", "weakening: ").await;
    let time = told_everywhere(&world, "roles", "gone", "delete_after").await;

    assert!(guard["until"].is_null(), "{guard}");
    assert!(time["until"].is_string(), "{time}");
    let text = String::from_utf8(world.run(&["plan", "--url", &world.daemon_url().await]).await.stdout).unwrap();
    let until = time["until"].as_str().unwrap();
    assert!(text.lines().any(|line| line.contains("- roles/gone") && line.contains(until)), "{text}");
}

#[tokio::test]
async fn what_the_policy_forbids_waits_for_another_policy_though_the_project_is_at_rest() {
    let project = vec!["policy: create-only".to_owned(), "firstContact: apply".to_owned()];
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    world.write("a.yaml", &role("one"));
    world.converge().await;
    world.write("a.yaml", &role("two"));

    let row = told_everywhere(&world, "roles", "r", "policy: ").await;

    assert!(row["until"].is_null() && row["why"].as_str().unwrap().contains("`policy`"), "{row}");
    assert!(world.is_converged().await);
}

#[tokio::test]
async fn what_waits_for_the_budget_or_for_its_turn_to_be_read_says_so() {
    let mut world = World::new().await;
    let tenants = |more: &str| {
        (0..30).fold("tenants:\n".to_owned(), |all, n| all + &format!("  - {{ id: t{n}, name: T {n}{more} }}\n"))
    };
    world.write("tenants.yaml", &tenants(""));
    // With a memory of its own: the daemon begins with a full budget.
    let elsewhere = world.path("elsewhere").display().to_string();
    assert_eq!(world.run(&["apply", "--auto-approve", "--state", &elsewhere]).await.status.code(), Some(0));
    world.reconfigure(|setup| setup.top = vec!["rateLimit: { limit: 3/60s, reserve: 0% }".to_owned()]);
    world.write("tenants.yaml", &tenants(", settings: { enabled: true }"));
    world.write("roles.yaml", &(0..30).fold("roles:\n".to_owned(), |all, n| all + &format!("  - name: r{n}\n")));
    world.start().await;

    told_everywhere(&world, "roles", "r29", "budget: ").await;
    let is_unread = |wait: &&Value| wait["why"].as_str().unwrap().starts_with("rotation: ");
    let waits = world.project().await["waits"].as_array().unwrap().clone();
    let unread = waits.iter().rfind(is_unread).unwrap_or_else(|| panic!("{waits:#?}"));
    told_everywhere(&world, "tenants", unread["id"].as_str().unwrap(), "rotation: ").await;
}

/// Each part of the tenant had a row of its own that said the same.
#[tokio::test]
async fn what_two_calls_of_a_resource_wait_for_is_told_once() {
    let mut world = World::new().await;
    let refused = json!([{ "match": { "path": "/v1/mgmt/role/create*" }, "fault": "status", "status": 400 }]);
    world.faults(refused).await;
    world.write(
        "a.yaml",
        "roles: [{ name: r }]\ntenants: [{ id: acme, name: Acme, defaultRoles: [r], sso: [{ domains: [a.example], saml: { \
         idpMetadataUrl: 'https://i.example/m', defaultSSORoles: [r] } }] }]\n",
    );
    world.start().await;
    world.until("blocked", async |world| world.has_problem("tenants", "acme", "blocked").await).await;
    world.until("idle", async |world| world.status().await["queue"]["ready"] == 0).await;
    let project = world.project().await;
    let of_acme =
        |rows: &Value| rows.as_array().unwrap().iter().filter(|row| row["id"] == "acme").cloned().collect::<Vec<_>>();
    let problems = of_acme(&project["problems"]);
    assert_eq!(problems.len(), 1, "{project}");
    assert_eq!(problems[0]["message"], "waits for roles/r, which is parked");
    assert_eq!((of_acme(&project["waits"]).len(), &project["waitCounts"]["dependency"]), (1, &json!(1)), "{project}");
    let plan = world.run(&["plan", "--url", &world.daemon_url().await]).await;
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(!text.contains("tenants/acme, tenants/acme"), "{text}");
}

/// The alert on what is parked did not see it, for nothing of it was on the queue.
#[tokio::test]
async fn what_the_plan_refuses_by_itself_counts_as_parked() {
    let mut world = World::new().await;
    world.write("a.yaml", "permissions: [{ name: p }]\naccessKeys: [{ name: ci }]\n");
    world.start().await;
    world.until("refused", async |world| world.has_problem("accessKeys", "ci", "parked").await).await;
    let parked = async |world: &World| world.metric("queue_depth{state=\"parked\"}").await;
    world.until("counted", async |world| parked(world).await == Some(1.0)).await;
    assert_eq!(world.status().await["queue"]["parked"], 1);
    world.write("a.yaml", "permissions: [{ name: p }]\n");
    world.until("at rest", async |world| world.is_converged().await).await;
    world.until("counted", async |world| parked(world).await == Some(0.0)).await;
}

/// It was tried again when somebody asked for it by hand.
#[tokio::test]
async fn what_names_something_of_a_kind_that_nobody_declares_follows_when_that_is_there() {
    let mut world = World::new().await;
    world.write("a.yaml", "roles: [{ name: r, permissionNames: [theirs] }]\n");
    world.start().await;
    world.until("refused", async |world| world.has_problem("roles", "r", "parked").await).await;
    assert!(world.problem("roles", "r").await.unwrap()["nextAttemptAt"].is_string());
    world.edit_live("permissions/theirs", json!({})).await;
    world
        .until("there", async |world| {
            // Like the interval, and unlike a retry that somebody asks for.
            world.fresh_pass().await;
            world.is_converged().await
        })
        .await;
    assert_eq!(world.entity("roles", "r").await.unwrap()["permissionNames"], json!(["theirs"]));
}

/// It was said to wait for the rate limit.
#[tokio::test]
async fn what_waits_while_calls_hang_says_so() {
    let top = vec!["concurrency: 2".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    let slow = json!([{ "match": { "path": "/v1/mgmt/tenant/create", "times": 4 }, "fault": "delay", "delay": "4s" }]);
    world.faults(slow).await;
    let tenants: String = (0..6).map(|n| format!("  - {{ id: t{n}, name: T{n} }}\n")).collect();
    world.write("a.yaml", &format!("tenants:\n{tenants}"));
    world.start().await;
    let row = wait_for(&world, "tenants", "t5", "answer: ").await;
    assert!(row["why"].as_str().unwrap().contains("`concurrency`"), "{row}");
    assert_eq!(world.project().await["waitCounts"]["budget"], Value::Null);
    nothing_waits(&mut world).await;
}

/// It went by an even rate: what did not fit into this window was to be done in it.
#[tokio::test]
async fn a_drain_is_told_to_be_done_when_its_last_call_may_go() {
    let top = vec!["rateLimit: { limit: 20/30s }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    let tenants = (0..60).fold("tenants:\n".to_owned(), |text, n| text + &format!("  - {{ id: t{n}, name: T {n} }}\n"));
    world.write("tenants.yaml", &tenants);
    world.start().await;
    world
        .until("the budget is spent", async |world| {
            let status = world.status().await;
            let limiter = &status["limiters"][0];
            let is_spent = limiter["used"].as_f64() == limiter["budget"].as_f64();
            is_spent && status["projects"][0]["progress"]["left"].as_u64().is_some_and(|left| left < 48)
        })
        .await;

    let progress = &world.project().await["progress"];
    let [left, seconds] = ["left", "secondsLeft"].map(|name| progress[name].as_u64().unwrap());
    // 18 a window, what is kept back for others taken off.
    let whole_windows = (left - 1) / 18;
    assert!(left > 36 && (whole_windows * 30..=whole_windows * 30 + 31).contains(&seconds), "{progress}");
}
