//! Who changed what drifted, where Descope's own audit trail tells.

use crate::guards::plan;
use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

async fn world(rules: &str) -> World {
    let project = vec!["firstContact: apply".to_owned(), format!("drift: {rules}")];
    World::with(Setup { project, ..Setup::default() }).await
}

async fn searches(world: &World) -> usize {
    world.log().await.iter().filter(|entry| entry["path"].as_str().unwrap().ends_with("/audit/search")).count()
}

/// The only drift that is shown, once there is one.
async fn drifted(world: &World) -> Value {
    world.until("drift", async |world| world.project().await["drift"]["total"] == 1).await;
    world.project().await["drift"]["resources"][0].clone()
}

#[tokio::test]
async fn status_and_plan_say_who_and_how_with_one_question_and_none_where_nothing_drifted() {
    let mut world = world("{ mode: report }").await;
    world.write("a.yaml", "roles: [{ name: r, description: ours }]\n");
    world.converge().await;
    world.pass().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    assert_eq!(searches(&world).await, 0, "nothing drifted");

    world.pass().await;

    world.until("told", async |world| drifted(world).await["actor"].is_string()).await;
    let actor = drifted(&world).await["actor"].as_str().unwrap().to_owned();
    assert!(actor.starts_with("console@example.com (U2console) through console, Desktop at 20"), "{actor}");
    assert_eq!(plan(&world).await["changes"][0]["drift"]["actor"], json!(actor));
    let text = world.run(&["plan"]).await;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&format!("held: drift_reported ({actor} changed it; first seen to differ ")), "{text}");
    assert_eq!(text.matches(&actor).count(), 1, "{text}");
    world.pass().await;
    assert_eq!(searches(&world).await, 1, "it is known");
    world.stop().await;
    world.start().await;
    assert_eq!(drifted(&world).await["actor"], json!(actor), "after a restart, too");
}

/// Of what was changed once more, it went on telling who did it first, and when.
#[tokio::test]
async fn of_what_was_changed_again_it_is_told_who_did_that() {
    let mut world = world("{ mode: report }").await;
    world.write("a.yaml", "roles: [{ name: r, description: ours }]\n");
    world.converge().await;
    let mut told = Value::Null;
    for value in ["theirs", "other"] {
        // The event of the edit before is of another second.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let before = std::time::SystemTime::now();
        world.edit_live("roles/r", json!({ "description": value })).await;
        world.fresh_pass().await;
        world
            .until("told anew", async |world| {
                let actor = drifted(world).await["actor"].clone();
                actor.is_string() && actor != told
            })
            .await;
        told = drifted(&world).await["actor"].clone();
        assert!(moment(told.as_str().unwrap()) + std::time::Duration::from_secs(1) > before, "{value}: {told}");
        assert_eq!(plan(&world).await["changes"][0]["fields"][0]["from"], value);
    }
    // What is there is another edit's than the one that is known, whoever looks.
    world.stop().await;
    world.edit_live("roles/r", json!({ "description": "third" })).await;
    let text = world.run(&["plan"]).await;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("held: drift_reported (somebody else changed it, first seen "), "{text}");
}

/// When it was, of an actor as it is told.
pub fn moment(actor: &str) -> std::time::SystemTime {
    let text = actor.rsplit(" at ").next().and_then(|rest| rest.split(' ').next()).unwrap();
    humantime::parse_rfc3339(text).unwrap()
}

#[tokio::test]
async fn what_was_put_back_says_in_the_audit_trail_who_it_was() {
    let mut world = world("{ mode: heal }").await;
    world.write("a.yaml", "roles: [{ name: r, description: ours }]\n");
    world.converge().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.pass().await;

    world
        .until("told", async |world| {
            world.told(&["--id", "r"]).await.last().is_some_and(|row| row["actor"].is_string())
        })
        .await;

    // With two projects the story of one resource was mixed with that of its namesake.
    let line = world.daemon().wait_for_line("who did it", |line| line.contains("says who did it")).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    for field in ["project", "pass", "revision"] {
        assert!(line["spans"][0][field].is_string(), "{field}: {line}");
    }

    let told = world.told(&["--id", "r"]).await;
    assert_eq!((told.len(), &told[0]["actor"]), (2, &Value::Null), "our create was nobody's drift: {told:#?}");
    // Whether or not anybody could be asked.
    let is_drift = |row: &Value| row["fields"].as_array().unwrap().iter().any(|field| field["drift"] == true);
    assert!(!is_drift(&told[0]) && is_drift(&told[1]), "{told:#?}");
}

/// The answer was written beside what was put back before it came, and beside nothing that was later.
#[tokio::test]
async fn what_is_put_back_after_it_was_known_who_it_was_says_so_too() {
    let mut world = world("{ mode: heal, minAge: 6s }").await;
    world.write("a.yaml", "roles: [{ name: r, description: ours }]\n");
    world.converge().await;
    world.pass().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.fresh_pass().await;
    world.until("told", async |world| drifted(world).await["actor"].is_string()).await;
    let why = plan(&world).await["changes"][0]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("; it is left as it is until 20") && why.ends_with(", and then put back"), "{why}");
    world.until("put back", async |world| world.entity("roles", "r").await.unwrap()["description"] == "ours").await;
    world.until("noted", async |world| world.told(&["--id", "r"]).await.len() == 2).await;

    // At once: it was "somebody else" until the next look.
    let at_once = world.told(&["--id", "r"]).await;
    world.until("at rest", async |world| world.is_converged().await).await;
    world.fresh_pass().await;

    let told = world.told(&["--id", "r"]).await;
    assert_eq!(told, at_once);
    assert_eq!((told.len(), &told[0]["actor"]), (2, &Value::Null), "{told:#?}");
    assert!(told[1]["actor"].as_str().is_some_and(|actor| actor.starts_with("console@example.com")), "{told:#?}");
}

/// Somebody used a key, perhaps ours.
#[tokio::test]
async fn what_a_key_did_around_our_own_write_names_nobody() {
    let mut world = world("{ mode: report }").await;
    world.write("a.yaml", "roles: [{ name: r, description: ours }]\n");
    world.converge().await;
    let call = "/v1/mgmt/role/update";
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(format!("{}{call}", world.api));
    let key = format!("{}:{}", crate::harness::PROJECT, crate::harness::KEY);
    let body = json!({ "name": "r", "newName": "r", "description": "theirs" });
    let answer = request.bearer_auth(key).header("content-type", "application/json").body(body.to_string());
    assert!(answer.send().await.unwrap().status().is_success());
    // Until a list that shows it proves something.
    world.fresh_pass().await;
    drifted(&world).await;

    world.until("asked", async |world| searches(world).await == 1).await;
    world.pass().await;

    assert_eq!(drifted(&world).await["actor"], Value::Null);
}

#[tokio::test]
async fn a_trail_that_refuses_or_answers_nonsense_is_silence() {
    for fault in [
        json!({ "status": 403, "body": { "errorCode": "E1", "errorMessage": "no" } }),
        json!({ "status": 404, "body": {} }),
        json!({ "status": 200, "body": { "audits": { "a": 1 } } }),
        json!({ "status": 200, "body": { "audits": [1, null, { "occurred": "soon" }, { "occurred": "99999999999999999999" }] } }),
    ] {
        let mut world = world("{ mode: report }").await;
        world.write("a.yaml", "roles: [{ name: r, description: ours }]\n");
        world.converge().await;
        let mut rule = json!({ "match": { "path": "/v1/mgmt/audit/search" }, "fault": "status" });
        rule.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
        world.faults(json!([rule])).await;
        world.edit_live("roles/r", json!({ "description": "theirs" })).await;
        world.pass().await;
        world.until("asked", async |world| searches(world).await > 0).await;
        world.pass().await;

        let project = world.project().await;
        assert_eq!(drifted(&world).await["actor"], Value::Null);
        assert_eq!((&project["problems"], &project["notConvergedBecause"]), (&json!([]), &json!("drift_reported")));
    }
}
