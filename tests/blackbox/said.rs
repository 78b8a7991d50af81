//! What is said of passes, holds and orders is true, and the same wherever it is said.

use crate::guards::sync;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::permission;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

async fn post(world: &World, path: &str) -> Value {
    let (status, body) = world.ask(Method::POST, path).await;
    assert!((200..300).contains(&status), "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn passes(world: &World) -> Vec<Value> {
    let (status, body) = world.ask(Method::GET, "/api/v1/history?of=passes").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["passes"].as_array().unwrap().clone()
}

/// How often a pass came to this, by what set it off.
async fn counted(world: &World, result: &str, trigger: &str) -> Option<f64> {
    let labels = format!("project=\"default\",result=\"{result}\",trigger=\"{trigger}\"");
    world.metric(&format!("passes_total{{{labels}}}")).await
}

/// Each kind had a line of its own, in `plan` as well, and nothing said that it was the project.
#[tokio::test]
async fn what_makes_all_lists_fail_is_one_line_of_the_status_and_of_the_plan() {
    let mut world = World::new().await;
    world.write("a.yaml", "permissions: [{ name: p }]\nroles: [{ name: r }]\ntenants: [{ id: t, name: T }]\n");
    world.converge().await;
    let url = world.daemon_url().await;
    let lines = async |world: &World, command: &str, cause: &str| -> Vec<String> {
        let output = world.run(&[command, "--url", &url]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.contains(cause)).map(str::to_owned).collect()
    };
    for (status, cause) in [(401, "refused the management key"), (500, "could not answer")] {
        world.faults(json!([{ "fault": "status", "status": status }])).await;
        world.pass().await;
        let is_out = async |world: &World| !world.project().await["problems"].as_array().unwrap().is_empty();
        world.until("not observed", is_out).await;

        for command in ["status", "plan"] {
            let found = lines(&world, command, cause).await;
            assert_eq!(found.len(), 1, "{command} {status}: {found:?}");
            // The refusal is the project's.
            let kinds = found[0].contains("permissions, roles and tenants");
            assert_eq!(kinds, (command, status) != ("status", 401), "{found:?}");
        }
        let refused = world.project().await["refusedBecause"].clone();
        assert_eq!(refused.as_str().is_some_and(|text| text.contains(cause)), status == 401, "{refused}");
        world.faults(json!([])).await;
        world.pass().await;
        world.until("at rest", async |world| world.is_converged().await).await;
        assert_eq!(world.project().await["refusedBecause"], Value::Null);
    }
}

/// The history alone told it; log, status and counter said that it was applied.
#[tokio::test]
async fn a_pass_whose_only_write_was_refused_was_not_applied_wherever_that_is_said() {
    let top = vec!["log: { format: json, level: info }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    world.write("a.yaml", &permission("good", "one"));
    world.converge().await;
    let refused = json!([{ "match": { "path": "/v1/mgmt/permission/update" }, "fault": "status", "status": 400 }]);
    world.faults(refused).await;

    world.write("a.yaml", &permission("good", "two"));
    world.until("refused", async |world| world.has_problem("permissions", "good", "parked").await).await;
    world.until("said", async |world| world.project().await["lastPass"]["result"] == "partial").await;

    assert_eq!(passes(&world).await[0]["result"], "partial");
    let lines: Vec<Value> = world.daemon().lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let finished = lines.iter().filter(|line| line["message"] == "pass finished");
    let results: Vec<&str> = finished.map(|line| line["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["applied", "partial"]);
}

/// One pass is open at a time: the next one ends it, and so does the end of the daemon.
#[tokio::test]
async fn a_pass_whose_writes_take_long_has_its_line_when_the_next_one_comes_or_the_daemon_ends() {
    let top = vec!["log: { format: json, level: info }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    world.write("a.yaml", &permission("p", "one"));
    world.converge().await;
    let slow = json!([{ "match": { "path": "/v1/mgmt/permission/update" }, "fault": "delay", "delay": "60s" }]);
    world.faults(slow).await;
    world.write("a.yaml", &permission("p", "two"));
    let is_planned = async |world: &World| world.project().await["lastPass"]["trigger"] == "watch";
    world.until("planned", is_planned).await;

    assert_eq!(counted(&world, "applied", "watch").await, Some(1.0), "a counter counts what was planned");
    world.pass().await;
    let (_, lines) = world.stop_and_read().await;

    let lines: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let finished = lines.iter().filter(|line| line["message"] == "pass finished");
    let told: Vec<&str> = finished
        .map(|line| {
            let spans = line["spans"].as_array().unwrap();
            spans.iter().find_map(|span| span["trigger"].as_str()).unwrap()
        })
        .collect();
    assert_eq!(told, ["startup", "watch", "api"]);
}

#[tokio::test]
async fn while_newer_files_are_invalid_history_and_status_say_so_at_once() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "one"));
    world.converge().await;
    let before = world.project().await["lastPass"].clone();
    let slow = json!([{ "match": { "path": "/v1/mgmt/permission/all" }, "fault": "delay", "delay": "15s" }]);
    world.faults(slow).await;

    world.write("broken.yaml", "permissions: [");
    world.until("told", async |world| world.project().await["desired"]["valid"] == false).await;

    let project = world.project().await;
    assert_eq!(project["lastPass"], before, "the look is not over");
    assert_eq!(world.metric("desired_valid{project=\"default\"}").await, Some(0.0));
    world.faults(json!([])).await;
    world.until("over", async |world| world.project().await["lastPass"]["trigger"] == "watch").await;
    let rows = passes(&world).await;
    assert_eq!((&rows[0]["newestInvalid"], &rows[0]["result"]), (&json!(true), &json!("partial")), "{rows:#?}");
    assert_eq!(rows[0]["revision"], rows.last().unwrap()["revision"], "it is of the last good ones");
    assert_eq!(rows.last().unwrap()["newestInvalid"], false);
}

/// `approve` said that the changes go ahead, and they did not.
#[tokio::test]
async fn an_approval_during_a_suspension_says_when_the_changes_go_ahead() {
    let mut world = World::with(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("a.yaml", "permissions: [{ name: stays }, { name: goes }]\nroles: [{ name: stays }, { name: goes }]\n");
    world.converge().await;
    world.write("a.yaml", "permissions: [{ name: stays }]\nroles: [{ name: stays }, { name: goes }]\n");
    let fingerprint = crate::guards::held(&world, "max_deletes").await;
    let until = post(&world, "/api/v1/suspend?for=2h").await["suspendedUntil"].clone();

    let said = world.run(&["approve", &fingerprint, "--url", &world.daemon_url().await]).await;

    let expected = format!(
        "1 change of default is approved, and goes ahead when the suspension ends: {}\n",
        until.as_str().unwrap()
    );
    assert_eq!(String::from_utf8_lossy(&said.stdout), expected, "{said:?}");
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "operator"], 0).await;
    let told = trail["changes"].as_array().unwrap().last().unwrap()["message"].as_str().unwrap().to_owned();
    let expected = format!(
        "{fingerprint}: 1 change, put off by a suspension until {}; asked by 127.0.0.1",
        until.as_str().unwrap()
    );
    assert_eq!(told, expected);
    world.fresh_pass().await;
    assert_eq!(world.project().await["lastPass"]["result"], "noop", "nothing is applied while it only observes");
    assert!(world.entity("permissions", "goes").await.is_some());
    post(&world, "/api/v1/resume").await;
    world.until("gone", async |world| world.entity("permissions", "goes").await.is_none()).await;

    // Of a part, and of two of which one is suspended.
    world.until("at rest", async |world| world.is_converged().await).await;
    world.write("a.yaml", "permissions: [{ name: stays }]\nroles: [{ name: stays }]\n");
    let fingerprint = crate::guards::held(&world, "max_deletes").await;
    let until = post(&world, "/api/v1/suspend?for=2h&kind=roles").await["suspendedUntil"].clone();
    let answer = post(&world, &format!("/api/v1/approve?plan={fingerprint}")).await;
    assert_eq!((&answer["waitsUntil"], &answer["warning"]), (&until, &Value::Null));
}

/// Who it was stood in the audit trail alone, and with one daemon not even there.
#[tokio::test]
async fn who_suspended_something_is_told_with_it() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "one"));
    world.converge().await;
    post(&world, "/api/v1/suspend?for=2h&kind=permissions").await;
    world.write("a.yaml", &permission("p", "two"));
    let is_put_off = async |world: &World| world.project().await["notConvergedBecause"] == "suspended";
    world.until("put off", is_put_off).await;

    let project = world.project().await;
    assert_eq!(project["suspensions"][0]["by"], "127.0.0.1");
    assert_eq!(project["suspendedBy"], Value::Null);
    let daemon = world.daemon_url().await;
    let text = async |args: &[&str]| String::from_utf8(world.run(args).await.stdout).unwrap();
    let said = text(&["status", "--url", &daemon]).await;
    assert!(said.contains("  suspended: permissions by 127.0.0.1 since 20"), "{said}");
    let said = text(&["plan", "--url", &daemon]).await;
    assert!(said.contains("with all of permissions, by 127.0.0.1"), "{said}");
    let plan = crate::guards::plan(&world).await;
    assert_eq!(plan["changes"][0]["why"], "with all of permissions, by 127.0.0.1");
    post(&world, "/api/v1/suspend?for=1h").await;
    assert_eq!(world.project().await["suspendedBy"], "127.0.0.1");
    let said = text(&["status", "--url", &daemon]).await;
    assert!(said.contains("  suspended by 127.0.0.1 until 20"), "{said}");
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "operator"], 0).await;
    let told = trail["changes"].as_array().unwrap().iter().map(|row| row["message"].as_str().unwrap().to_owned());
    assert!(told.into_iter().all(|message| message.ends_with("; asked by 127.0.0.1")), "{trail}");
}
