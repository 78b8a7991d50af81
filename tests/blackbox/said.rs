//! What is said of passes, holds and orders is true, and the same wherever it is said.

use crate::guards::sync;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::permission;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;

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

/// It was promised for the end of the suspension, and lapsed before without a word.
#[tokio::test]
async fn an_approval_in_a_suspension_is_good_when_that_ends_however_long_it_takes() {
    let mut world =
        World::with(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s, approvalExpiry: 500ms")).await;
    world.write("a.yaml", "permissions: [{ name: stays }, { name: first }, { name: second }]\n");
    world.converge().await;
    let is_long_ago = async |world: &World, since: Instant| {
        world.until("longer than it lasts", async |_| since.elapsed() > Duration::from_secs(2)).await;
        world.fresh_pass().await;
    };
    world.write("a.yaml", "permissions: [{ name: stays }, { name: second }]\n");
    let fingerprint = crate::guards::held(&world, "max_deletes").await;
    post(&world, "/api/v1/suspend?for=2h").await;
    post(&world, &format!("/api/v1/approve?plan={fingerprint}")).await;
    is_long_ago(&world, Instant::now()).await;
    assert_eq!(world.project().await["held"], Value::Null, "it is approved");
    // Who makes it longer is told.
    let longer = post(&world, "/api/v1/suspend?for=3h").await;
    let along = "1 approved change, not done yet, goes ahead when the suspension ends";
    assert_eq!(longer["warning"], along);
    assert_eq!(post(&world, "/api/v1/suspend?for=3h&kind=permissions").await["warning"], along);
    assert_eq!(post(&world, "/api/v1/suspend?for=3h&target=permissions/first").await["warning"], along);
    assert_eq!(post(&world, "/api/v1/suspend?for=3h&kind=roles").await["warning"], Value::Null);
    assert!(world.entity("permissions", "first").await.is_some());
    post(&world, "/api/v1/resume").await;
    world.fresh_pass().await;
    let waits = world.project().await["waits"].to_string();
    assert!(waits.contains("by 127.0.0.1; it is approved, and goes ahead then"), "{waits}");
    assert!(!waits.contains("maxDeletes"), "that holds it no more: {waits}");
    for path in ["resume?kind=permissions", "resume?target=permissions/first"] {
        post(&world, &format!("/api/v1/{path}")).await;
    }
    world.until("gone", async |world| world.entity("permissions", "first").await.is_none()).await;

    // One that could not be used in its time is told as that.
    let refused = json!([{ "match": { "path": "/v1/mgmt/permission/delete" }, "fault": "status", "status": 400 }]);
    world.faults(refused).await;
    world.write("a.yaml", "permissions: [{ name: stays }]\n");
    let fingerprint = crate::guards::held(&world, "max_deletes").await;
    post(&world, &format!("/api/v1/approve?plan={fingerprint}")).await;
    is_long_ago(&world, Instant::now()).await;
    assert_eq!(crate::guards::held(&world, "max_deletes").await, fingerprint);
    world.until("told", async |world| !lapse(world).await.is_null()).await;
    let row = lapse(&world).await;
    assert_eq!((&row["outcome"], &row["about"]), (&json!("failed"), &json!(["permissions/second"])), "{row}");
    let message = row["message"].as_str().unwrap();
    assert!(
        message.starts_with("1 change approved at 20")
            && message.contains(" is not done: the approval was good until 20"),
        "{row}"
    );
    let told = "an approval is over, and what it was for is not done";
    world.daemon().wait_for_line("told", |line| line.contains(told) && line.contains("permissions/second")).await;
}

/// Deletes go last: that they were let go ahead was forgotten before their turn came.
#[tokio::test]
async fn an_approval_is_good_until_the_turn_of_its_changes_comes() {
    let mut world =
        World::with(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s, approvalExpiry: 500ms")).await;
    world.write("a.yaml", "permissions: [{ name: stays }, { name: goes }]\n");
    world.converge().await;
    let create =
        |fault: Value| json!([{ "match": { "path": "/v1/mgmt/permission/create" }, "fault": fault, "delay": "6s" }]);
    world.faults(create(json!("delay"))).await;
    let slow = json!([{ "match": { "path": "/v1/mgmt/permission/update" }, "fault": "delay", "delay": "6s" }]);
    world.faults(slow).await;
    world.write("a.yaml", "permissions: [{ name: stays, description: other }]\n");
    let fingerprint = crate::guards::held(&world, "max_deletes").await;
    post(&world, &format!("/api/v1/approve?plan={fingerprint}")).await;
    let approved = Instant::now();
    let is_over = async |world: &World| {
        world.fresh_pass().await;
        approved.elapsed() > Duration::from_secs(2)
    };
    world.until("over", is_over).await;
    assert!(world.entity("permissions", "goes").await.is_some(), "its turn has not come");
    assert_eq!(world.project().await["held"], Value::Null);

    world.until("at rest", async |world| world.is_converged().await).await;

    assert!(world.entity("permissions", "goes").await.is_none());
    assert_eq!(lapse(&world).await, Value::Null);
}

/// The newest row of an approval that ended without use.
async fn lapse(world: &World) -> Value {
    orders(world).await.into_iter().rev().find(|row| row["action"] == "lapse").unwrap_or_default()
}

async fn orders(world: &World) -> Vec<Value> {
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "operator"], 0).await;
    trail["changes"].as_array().unwrap().clone()
}

/// It was offered without a word, went ahead as far as its answer said, and nothing was sent or noted.
#[tokio::test]
async fn what_is_held_of_older_files_is_told_as_that_and_approved_as_far_as_newer_ones_want_it() {
    let mut world = World::with(sync("maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s")).await;
    world.write("a.yaml", "permissions: [{ name: stays }, { name: goes }]\n");
    world.converge().await;
    world.write("a.yaml", "permissions: [{ name: stays }]\n");
    let fingerprint = crate::guards::held(&world, "max_deletes").await;
    let slow = json!([{ "match": { "path": "/v1/mgmt/permission/all" }, "fault": "delay", "delay": "60s" }]);
    world.faults(slow).await;
    world.write("a.yaml", "permissions: [{ name: stays }, { name: goes }]\n");
    let is_newer = async |world: &World| {
        let project = world.project().await;
        project["desired"]["revision"] != project["plannedRevision"]
    };
    world.until("not compared", is_newer).await;
    let url = world.daemon_url().await;
    let text = String::from_utf8(world.run(&["status", "--url", &url]).await.stdout).unwrap();
    let release = "to release (1 delete, of the older files: what the newer ones do not want is not done): `";
    assert!(text.contains(release), "{text}");
    if let Some(browser) = crate::page::browser() {
        let older = "are not compared with Descope yet, and what they do not want is not done.";
        let look = json!({ "name": "older", "expect": ["It is of older files: the newest (", older], "human": true });
        let page = browser.start_at(&(url.clone() + "/"), &world, "look", &look);
        crate::page::end(page, "older").await;
    }

    let said = world.run(&["approve", &fingerprint, "--url", &url]).await;

    let newer = world.project().await["desired"]["revision"].as_str().unwrap()[..12].to_owned();
    let expected = format!(
        "1 change of default is approved, and goes ahead as far as the newer files ({newer}), which are not compared with \
         Descope yet, want it\n"
    );
    assert_eq!(String::from_utf8_lossy(&said.stdout), expected, "{said:?}");
    // Nobody is asked for what is approved.
    let project = world.project().await;
    assert_eq!((&project["held"], &project["holds"][0]["approvable"]), (&Value::Null, &json!(false)), "{project}");
    let ends = "ends with the next look at Descope: it is approved";
    world
        .until("told where it waits", async |world| {
            world.project().await["waits"][0]["why"].as_str().is_some_and(|why| why.ends_with(ends))
        })
        .await;
    let (_, body) = world.ask(Method::GET, "/api/v1/plan?limit=5").await;
    assert!(body.contains(&ends[10..]), "{body}");
    let text = String::from_utf8(world.run(&["status", "--url", &url]).await.stdout).unwrap();
    assert!(text.contains("ends with the next look at Descope: it is approved"), "{text}");
    assert!(!text.contains("to release"), "{text}");
    let message = orders(&world).await.last().unwrap()["message"].clone();
    let want = format!("1 change, as far as newer files ({newer}), not compared yet, want it; asked by 127.0.0.1");
    assert!(message.as_str().unwrap().ends_with(&want), "{message}");
    world.faults(json!([])).await;
    world.until("at rest", async |world| !is_newer(world).await && world.is_converged().await).await;
    assert!(world.entity("permissions", "goes").await.is_some());
    world.until("told", async |world| !lapse(world).await.is_null()).await;
    let row = lapse(&world).await;
    assert_eq!((&row["outcome"], &row["about"]), (&json!("superseded"), &json!(["permissions/goes"])), "{row}");
}

/// The page began to count anew, and `status` did not count at all.
#[tokio::test]
async fn since_when_descope_refuses_a_project_outlives_a_restart() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "one"));
    world.converge().await;
    world.faults(json!([{ "fault": "status", "status": 401 }])).await;
    world.pass().await;
    let since = async |world: &World| world.project().await["refusedSince"].as_str().map(str::to_owned);
    world.until("refused", async |world| since(world).await.is_some()).await;
    let before = since(&world).await.unwrap();
    // What differs nobody knows: a script that waits for no differences waits.
    let plan = world.run(&["plan", "--url", &world.daemon_url().await, "--exit-code"]).await;
    let said = String::from_utf8(plan.stdout).unwrap();
    assert!(said.contains("nothing to change in what could be observed"), "{said}");
    assert_eq!(plan.status.code(), Some(2), "{said}");
    let second = humantime::parse_rfc3339(&before).unwrap() + Duration::from_secs(2);
    world.until("another second", async |_| SystemTime::now() > second).await;

    world.stop().await;
    world.start().await;

    world.until("refused again", async |world| since(world).await.is_some()).await;
    assert_eq!(since(&world).await.as_deref(), Some(&*before));
    let components = world.status().await["components"].clone();
    let is_it = |it: &&Value| it["name"] == "descope" && it["status"] == "failing";
    assert_eq!(components.as_array().unwrap().iter().find(is_it).unwrap()["since"], *before, "{components}");
    let output = world.run(&["status", "--url", &world.daemon_url().await]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.contains("REFUSED: ") && line.contains("s ago; nothing is sent")), "{text}");

    world.faults(json!([])).await;
    world.pass().await;
    world.until("at rest", async |world| world.is_converged().await).await;
    assert_eq!(since(&world).await, None);
}
