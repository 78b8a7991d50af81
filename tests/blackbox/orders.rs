//! Orders that are given to a replica which does not hold the project: the one that does carries them out, once. And what is
//! shown there is what the holder says.

use crate::guards::sync;
use crate::harness::KEY;
use crate::harness::TOKEN;
use crate::harness::permission;
use crate::page::browser;
use crate::page::end;
use crate::page::step;
use crate::postgres::Postgres;
use crate::replicas::NEVER;
use crate::replicas::Replicas;
use crate::replicas::permissions;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

const HOLDS_DELETES: &str = "maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s, approvalExpiry";

/// A holder at rest, which owns so many permissions, and one that stands by.
async fn two(server: &Postgres, life: &str, approvals: &str, count: usize) -> (Replicas, usize) {
    let mut all = Replicas::with(server, life, &[]).await;
    all.world.reconfigure(|setup| setup.project = sync(&format!("{HOLDS_DELETES}: {approvals}")).project);
    all.world.write("some.yaml", &permissions(count));
    all.start().await;
    all.converge_on(count).await;
    let other = all.start().await;
    all.until("ready", async |all| all.ask(other, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    (all, other)
}

/// What an approval has to name, as `replica` says.
async fn held(all: &Replicas, replica: usize) -> String {
    all.until("held", async |all| {
        all.project(replica).await.is_some_and(|project| project["held"]["reason"] == "max_deletes")
    })
    .await;
    all.project(replica).await.unwrap()["held"]["fingerprint"].as_str().unwrap().to_owned()
}

async fn exists(all: &Replicas, name: &str) -> bool {
    all.world.entity("permissions", name).await.is_some()
}

/// Passes of the holder that this set off.
async fn passes(all: &Replicas, trigger: &str) -> u64 {
    let text = all.ask(0, "/metrics").await.unwrap().1;
    let trigger = format!("trigger=\"{trigger}\"");
    let is_it = |line: &&str| line.contains("passes_total") && line.contains(&trigger);
    text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn audit(all: &Replicas) -> Vec<Value> {
    let trail = all.world.run_json(&["audit", "-o", "json", "--kind", "operator"], 0).await;
    trail["changes"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_approval_at_the_standby_releases_what_the_holder_holds_and_does_so_once() {
    let Some(server) = Postgres::start() else { return };
    let (all, other) = two(server, NEVER, "1h", 5).await;
    all.world.write("some.yaml", &permissions(2));
    let plan = held(&all, 0).await;
    let approve = format!("/api/v1/approve?plan={plan}");

    let (code, said) = all.post(other, "/api/v1/approve?plan=another").await;
    assert_eq!(code, 409, "{said}");
    let (first, second) = tokio::join!(all.post(other, &approve), all.post(other, &approve));

    let mut codes = [first.0, second.0];
    codes.sort_unstable();
    assert_eq!(codes, [200, 409], "{first:?} {second:?}");
    let done = if first.0 == 200 { first.1 } else { second.1 };
    assert_eq!(done, json!({ "projects": ["default"], "approved": 3 }));
    for replica in [0, other] {
        assert_eq!(all.post(replica, &approve).await.0, 409, "it was used");
    }
    all.until("deleted", async |all| !exists(all, "p2").await && !exists(all, "p3").await && !exists(all, "p4").await)
        .await;
    assert!(all.is_holder(0).await && exists(&all, "p0").await);
    let trail = audit(&all).await;
    let approvals: Vec<&Value> = trail.iter().filter(|row| row["action"] == "approve").collect();
    assert_eq!(approvals.len(), 1, "{trail:?}");
    assert_eq!(approvals[0]["about"], json!(["permissions/p2", "permissions/p3", "permissions/p4"]));
    let of_one = all.world.run_json(&["audit", "-o", "json", "--kind", "permissions", "--id", "p3"], 0).await;
    let told: Vec<&Value> = of_one["changes"].as_array().unwrap().iter().map(|row| &row["action"]).collect();
    assert_eq!(told, ["create", "approve", "delete"]);
    let (name, told) = (format!("/{}", all.running[other].process.id()), approvals[0]["message"].as_str().unwrap());
    assert!(told.starts_with(&format!("{plan}: 3 changes; asked by 127.0.0.1 at ")), "{told}");
    assert!(told.ends_with(&name), "{told}, not {name}");
}

/// The next one deletes by an approval of before, and not by one that is over.
#[tokio::test]
async fn an_approval_expires_though_the_holder_changes_in_between() {
    let Some(server) = Postgres::start() else { return };
    let (mut all, other) = two(server, NEVER, "3s", 3).await;
    let path = "/v1/mgmt/permission/delete*";
    all.world.faults(json!([{ "match": { "path": path }, "fault": "status", "status": 503 }])).await;
    all.world.write("some.yaml", &permissions(2));
    let plan = held(&all, 0).await;

    assert_eq!(all.post(other, &format!("/api/v1/approve?plan={plan}")).await.0, 200);
    all.until("tried", async |all| all.world.writes().await.iter().any(|(line, _)| line.contains("permission/delete")))
        .await;
    let mut gone = all.running.remove(0);
    gone.process.signal(Signal::TERM);
    gone.process.ended().await;
    all.until("taken over", async |all| all.is_holder(0).await).await;
    let database = all.database();
    let valid = "SELECT count(*) FROM approved WHERE expires > extract(epoch FROM clock_timestamp()) * 1000";
    all.until("over", async |_| server.sql(&database, valid) == "0").await;
    assert_eq!(all.post(0, "/api/v1/reconcile").await.0, 202);
    // What a pass released goes on until another one holds it.
    held(&all, 0).await;
    all.until("at rest", async |all| all.project(0).await.is_some_and(|project| project["counts"]["held"] == 1)).await;
    let before = all.world.writes().await.len();
    all.world.faults(json!([])).await;
    assert_eq!(all.post(0, "/api/v1/reconcile").await.0, 202);
    held(&all, 0).await;

    let tried = |(line, _): &(String, Value)| line.contains("permission/delete");
    assert!(!all.world.writes().await[before..].iter().any(tried), "an approval that was over");
    assert!(exists(&all, "p2").await);
}

#[tokio::test]
async fn suspend_reconcile_and_resume_at_the_standby_act() {
    let Some(server) = Postgres::start() else { return };
    let (all, other) = two(server, NEVER, "1h", 2).await;

    let (code, said) = all.post(other, "/api/v1/suspend?for=1h").await;
    assert!(code == 200 && said["suspendedUntil"].is_string(), "{code} {said}");
    all.world.write("more.yaml", &permission("more", "d"));
    all.until("planned", async |all| all.project(0).await.is_some_and(|project| project["counts"]["suspended"] == 1))
        .await;
    assert!(!exists(&all, "more").await);
    let before = passes(&all, "api").await;
    let (code, said) = all.post(other, "/api/v1/reconcile").await;
    assert_eq!((code, &said["projects"]), (202, &json!(["default"])));
    all.until("a pass", async |all| passes(all, "api").await > before).await;
    assert!(!exists(&all, "more").await);

    let (code, said) = all.post(other, "/api/v1/suspend?for=1h&kind=roles").await;
    assert_eq!((code, &said["part"]), (200, &json!("roles")));
    let (code, said) = all.post(other, "/api/v1/resume").await;
    assert_eq!(
        (code, &said["stillSuspended"], said.get("suspendedUntil")),
        (200, &json!(["roles"]), Some(&Value::Null))
    );
    all.until("created", async |all| exists(all, "more").await).await;
    let orders: Vec<String> = audit(&all).await.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect();
    assert_eq!(orders, ["suspend", "reconcile", "suspend", "resume"]);
}

#[tokio::test]
async fn a_suspension_that_ends_by_itself_leaves_one_row_however_many_replicas_there_are() {
    let Some(server) = Postgres::start() else { return };
    let (all, other) = two(server, NEVER, "1h", 2).await;

    let (code, said) = all.post(other, "/api/v1/suspend?for=2s").await;
    assert!(code == 200 && said["suspendedUntil"].is_string(), "{code} {said}");
    let (code, said) = all.post(0, "/api/v1/suspend?for=2s&kind=roles").await;
    assert_eq!((code, &said["part"]), (200, &json!("roles")));

    let ends = async || {
        let is_end = |row: &Value| row["action"] == "resume";
        audit(&all).await.into_iter().filter(is_end).count()
    };
    all.until("both over", async |_| ends().await >= 2).await;
    let before = passes(&all, "api").await;
    for asked in [0, other] {
        assert_eq!(all.post(asked, "/api/v1/reconcile").await.0, 202);
    }
    all.until("another pass", async |all| passes(all, "api").await > before).await;
    assert_eq!(ends().await, 2);
}

/// What is to stop changes must not be lost because the holder died a moment ago.
#[tokio::test]
async fn an_order_waits_for_whoever_takes_over() {
    let Some(server) = Postgres::start() else { return };
    let (mut all, _) = two(server, "6s", "1h", 2).await;

    all.kill(0).await;
    let (code, said) = all.post(0, "/api/v1/suspend?for=1h").await;
    assert!(code == 200 && said["suspendedUntil"].is_string(), "{code} {said}");

    all.until("taken over", async |all| all.is_holder(0).await).await;
    all.world.write("more.yaml", &permission("more", "d"));
    all.until("planned", async |all| all.project(0).await.is_some_and(|project| project["counts"]["suspended"] == 1))
        .await;
    assert!(!exists(&all, "more").await);
}

#[tokio::test]
async fn without_the_database_a_standby_says_that_no_order_gets_through() {
    let Some(server) = Postgres::fresh() else { return };
    let (all, other) = two(&server, NEVER, "1h", 1).await;

    server.kill();
    let (code, said) = all.post(other, "/api/v1/suspend?for=1h").await;

    let told = said["error"].as_str().unwrap();
    assert!(
        code == 503
            && told.contains("no order reaches the replica that writes default")
            && told.contains("the database of state.url"),
        "{code} {told}"
    );
    let url = all.running[other].url.clone();
    let asked = all.world.run(&["suspend", "--for", "1h", "--url", &url]).await;
    let told = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(
        asked.status.code() == Some(1) && told.contains("no order reaches the replica that writes default"),
        "{told}"
    );
}

/// A project without what is of the replica that was asked.
fn of_project(mut project: Value) -> Value {
    project["lease"].take();
    project["checkouts"].take();
    for cut in ["errorsTotal", "problemsTotal"] {
        project.as_object_mut().unwrap().remove(cut);
    }
    project
}

async fn plan(all: &Replicas, replica: usize, query: &str) -> Value {
    let (code, text) = all.ask(replica, &format!("/api/v1/plan{query}")).await.unwrap();
    assert_eq!(code, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["projects"][0].clone()
}

#[tokio::test]
async fn a_standby_shows_what_the_holder_says_with_its_age_and_the_next_holder_its_own() {
    let Some(server) = Postgres::start() else { return };
    let (mut all, other) = two(server, "6s", "1h", 5).await;
    all.world.write("some.yaml", &permissions(2));
    held(&all, 0).await;

    held(&all, other).await;
    all.until("the same", async |all| {
        let (here, there) = (all.project(0).await.unwrap(), all.project(other).await.unwrap());
        of_project(here) == of_project(there)
    })
    .await;
    let (here, there) = (all.project(0).await.unwrap(), all.project(other).await.unwrap());
    let lease = &there["lease"];
    assert!(here["lease"]["statusOf"].is_null() && here["lease"]["statusAgeSeconds"].is_null(), "{here:#}");
    assert_eq!((&lease["isMine"], &lease["holder"]), (&json!(false), &here["lease"]["holder"]));
    assert_eq!(lease["statusOf"], here["lease"]["holder"]);
    assert!(lease["statusAgeSeconds"].as_u64().unwrap() < 60 && lease["statusAt"].is_string(), "{lease}");
    for query in ["", "?kind=permissions&held=true"] {
        let (here, there) = (plan(&all, 0, query).await, plan(&all, other, query).await);
        assert_eq!(there["changes"].as_array().unwrap().len(), 3, "{there:#}");
        assert_eq!(there, here, "{query}");
    }
    let url = all.running[other].url.clone();
    let shown = all.world.run(&["status", "--url", &url]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let who = here["lease"]["holder"].as_str().unwrap();
    assert!(shown.contains(&format!("written by the replica {who}; this is what {who} said ")), "{shown}");
    assert!(shown.contains("held: 3 by max_deletes"), "{shown}");
    let database = all.database();
    let left = server.sql(&database, "SELECT said FROM shown");
    assert!(left.contains("max_deletes"), "{left}");
    assert!(!left.contains(KEY) && !left.contains(TOKEN), "a secret in the database");

    all.kill(0).await;
    all.until("older", async |all| {
        all.project(0).await.is_some_and(|project| project["lease"]["statusAgeSeconds"].as_u64() > Some(2))
    })
    .await;
    all.until("taken over", async |all| all.is_holder(0).await).await;
    held(&all, 0).await;
    let own = all.project(0).await.unwrap();
    assert!(own["lease"]["statusOf"].is_null(), "{own:#}");
    assert_eq!(plan(&all, 0, "").await["changes"].as_array().unwrap().len(), 3);
    let third = all.start().await;
    held(&all, third).await;
    let of = all.project(third).await.unwrap()["lease"]["statusOf"].clone();
    assert_eq!(of, own["lease"]["holder"]);
    let plan = held(&all, third).await;
    assert_eq!(all.post(third, &format!("/api/v1/approve?plan={plan}")).await.0, 200);
    all.until("deleted", async |all| !exists(all, "p2").await && !exists(all, "p4").await).await;
}

#[tokio::test]
async fn the_page_of_a_standby_shows_what_the_holder_says_takes_orders_and_is_right_after_a_take_over() {
    let Some(browser) = browser() else { return };
    let Some(server) = Postgres::start() else { return };
    let (mut all, other) = two(server, "6s", "1h", 5).await;
    all.world.write("some.yaml", &permissions(2));
    let plan = held(&all, 0).await;
    held(&all, other).await;
    let holder = all.project(0).await.unwrap()["lease"]["holder"].as_str().unwrap().to_owned();
    let url = all.running[other].url.clone() + "/";
    let said = format!("Written by the replica {holder}; this is what {holder} said");
    let expect = [&*said, "3 changes held for approval", &*format!("descope-gitops approve {plan}")];

    let page = browser.start_at(&url, &all.world, "standby", &json!({ "token": TOKEN, "expect": expect }));
    page.wait_for_line("the take-over", |line| line == "step kill the holder").await;
    all.kill(0).await;
    all.until("taken over", async |all| all.is_holder(0).await).await;
    step(&all.world, &page, "kill the holder", async || ()).await;

    end(page, "standby").await;
}
