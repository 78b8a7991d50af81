//! What somebody else changed: told apart from what a commit changed, put back, put back later, or only reported.

use crate::guards::plan;
use crate::guards::reason;
use crate::harness::Setup;
use crate::harness::World;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

const ROLES: &str = "permissions: [{ name: p }, { name: q }]\nroles:\n  - { name: r, description: ours, permissionNames: [p] }\n  - { name: s, description: ours }\n";

/// With these rules for drift.
async fn world(rules: &str) -> World {
    World::with(Setup { project: project(rules), ..Setup::default() }).await
}

fn project(rules: &str) -> Vec<String> {
    vec!["firstContact: apply".to_owned(), format!("drift: {rules}")]
}

async fn role(world: &World, name: &str, field: &str) -> Value {
    world.entity("roles", name).await.map_or(Value::Null, |role| role[field].clone())
}

/// Waits until it is reported, and says how.
async fn drifted(world: &World, kind: &str, id: &str) -> Value {
    let find = async |world: &World| {
        let project = world.project().await;
        let all = project["drift"]["resources"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["kind"] == kind && one["id"] == id && !one["held"].is_null())
    };
    world.until("reported", async |world| find(world).await.is_some()).await;
    find(world).await.unwrap()
}

#[tokio::test]
async fn what_is_only_reported_stays_and_other_writes_carry_it() {
    let mut world = world("{ mode: report }").await;
    world.write("a.yaml", ROLES);
    world.converge().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.pass().await;

    let drift = drifted(&world, "roles", "r").await;
    assert_eq!(
        (&drift["held"], &drift["until"], &drift["fields"]),
        (&json!("drift_reported"), &Value::Null, &json!(["description"]))
    );
    let project = world.project().await;
    assert_eq!((&project["converged"], &project["notConvergedBecause"]), (&json!(false), &json!("drift_reported")));
    let wait = &project["waits"][0];
    assert_eq!((&wait["kind"], &wait["id"], &wait["until"]), (&json!("roles"), &json!("r"), &Value::Null));
    assert!(wait["why"].as_str().unwrap().starts_with("drift_reported: somebody else changed it"), "{wait}");
    assert!(wait["since"].is_string(), "{wait}");
    let hold = &plan(&world).await["holds"][0];
    assert_eq!(
        (&hold["reason"], &hold["approvable"], &hold["changes"]),
        (&json!("drift_reported"), &json!(false), &json!(1))
    );
    assert_eq!(world.metric("drifted_resources{kind=\"roles\",project=\"default\"}").await, Some(1.0));
    assert_eq!(world.metric("held_changes{project=\"default\",reason=\"drift_reported\"}").await, Some(1.0));
    assert_eq!(world.metric("converged{project=\"default\"}").await, Some(0.0));
    world.assert_nothing_left().await;

    // A commit that changes another field of it overwrites the whole role: with what is live.
    world.write("a.yaml", &ROLES.replace("permissionNames: [p]", "permissionNames: [p, q]"));
    world.until("written", async |world| role(world, "r", "permissionNames").await == json!(["p", "q"])).await;
    assert_eq!(role(&world, "r", "description").await, "theirs");
    drifted(&world, "roles", "r").await;

    // One that changes the same field is a change like any other.
    world.write(
        "a.yaml",
        &ROLES.replace("description: ours, permissionNames: [p]", "description: newer, permissionNames: [p, q]"),
    );
    world.until("written", async |world| role(world, "r", "description").await == "newer").await;
    world.until("at rest", async |world| world.is_converged().await).await;
    assert_eq!(world.project().await["drift"]["total"], 0);
}

#[tokio::test]
async fn files_that_say_what_is_live_end_it_and_so_does_whoever_puts_it_back() {
    let mut world = world("{ mode: report }").await;
    world.write("a.yaml", ROLES);
    world.converge().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.edit_live("roles/s", json!({ "description": "theirs" })).await;
    world.pass().await;
    drifted(&world, "roles", "s").await;
    let before = world.writes().await.len();

    world.edit_live("roles/s", json!({ "description": "ours" })).await;
    world.write("a.yaml", &ROLES.replacen("ours", "theirs", 1));

    world.until("at rest", async |world| world.is_converged().await).await;
    assert_eq!(world.project().await["drift"]["total"], 0);
    assert_eq!(world.writes().await.len(), before);
    // From here on that is what the files say.
    world.edit_live("roles/r", json!({ "description": "theirs again" })).await;
    world.pass().await;
    assert_eq!(drifted(&world, "roles", "r").await["fields"], json!(["description"]));
}

/// It went on as drift until the next look, minutes later.
#[tokio::test]
async fn drift_that_was_put_back_is_none_any_more() {
    let mut world = world("{ minAge: 6s }").await;
    world.write("a.yaml", ROLES);
    world.converge().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.pass().await;
    drifted(&world, "roles", "r").await;

    world.until("put back", async |world| role(world, "r", "description").await == "ours").await;
    // The next look is an hour away.
    world.until("told", async |world| world.project().await["drift"]["total"] == 0).await;
}

#[tokio::test]
async fn its_age_counts_from_the_first_look_and_survives_a_restart() {
    let mut world = world("{ minAge: 1h }").await;
    world.write("a.yaml", ROLES);
    world.converge().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.pass().await;
    let drift = drifted(&world, "roles", "r").await;
    let wait = world.project().await["waits"][0].clone();
    assert_eq!(wait["until"], drift["until"]);
    assert!(wait["until"].is_string(), "{wait}");

    world.stop().await;
    world.start().await;

    let again = drifted(&world, "roles", "r").await;
    assert_eq!((&again["since"], &again["until"]), (&drift["since"], &drift["until"]));
    assert_eq!(world.project().await["waits"][0]["since"], wait["since"]);
    assert_eq!(world.project().await["notConvergedBecause"], "drift_reported");
    world.assert_nothing_left().await;

    // Another config: what it says is judged by what is known.
    world.stop().await;
    world.reconfigure(|setup| setup.project = project("{ minAge: 1ms }"));
    world.start().await;
    world.until("put back", async |world| role(world, "r", "description").await == "ours").await;
    world.until("at rest", async |world| world.is_converged().await).await;
}

/// "Put back then" was said of a time at which a suspension that lasted longer kept it as it was.
#[tokio::test]
async fn what_is_too_young_and_suspended_for_longer_is_put_back_when_the_suspension_ends() {
    let mut world = world("{ minAge: 1h }").await;
    world.write("a.yaml", ROLES);
    world.converge().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.pass().await;
    let young = drifted(&world, "roles", "r").await["until"].clone();
    let is_told = async |world: &World, until: &Value, end: &str| {
        let (project, plan) = (world.project().await, plan(world).await);
        let change = &plan["changes"][0];
        let times = [
            &project["drift"]["resources"][0]["until"],
            &project["waits"][0]["until"],
            &project["holds"][0]["until"],
            &plan["holds"][0]["until"],
            &change["until"],
        ];
        let why = format!("it is left as it is until {}{end}, and then put back", until.as_str().unwrap());
        let said = |text: &Value| text.as_str().is_some_and(|text| text.contains(&why));
        times.into_iter().all(|time| time == until) && said(&change["why"]) && said(&project["waits"][0]["why"])
    };
    world.until("told", async |world| is_told(world, &young, "").await).await;

    for part in ["", "&kind=roles", "&target=roles/r"] {
        // The shorter one changes nothing.
        for (wait, is_longer) in [("30m", false), ("2h", true)] {
            let (code, said) = world.ask(Method::POST, &format!("/api/v1/suspend?for={wait}{part}")).await;
            assert_eq!(code, 200, "{said}");
            let said: Value = serde_json::from_str(&said).unwrap();
            let (until, end) =
                if is_longer { (&said["suspendedUntil"], ", when the suspension ends") } else { (&young, "") };
            world.pass().await;
            world.until(&format!("told {wait}{part}"), async |world| is_told(world, until, end).await).await;
            let hold = world.project().await["holds"][0].clone();
            assert_eq!(hold["endsWith"].as_str().unwrap().contains("the end of the suspension"), is_longer, "{hold}");
        }
        assert_eq!(world.ask(Method::POST, &format!("/api/v1/resume?{}", part.trim_start_matches('&'))).await.0, 200);
        world.until("young again", async |world| is_told(world, &young, "").await).await;
    }
}

#[tokio::test]
async fn it_is_put_back_when_it_is_old_enough_without_another_reason_to_look() {
    let mut world = world("{ default: { mode: report }, roles: { mode: heal, minAge: 6s } }").await;
    world.write("a.yaml", ROLES);
    world.converge().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.edit_live("permissions/p", json!({ "description": "theirs" })).await;
    world.pass().await;
    drifted(&world, "roles", "r").await;
    assert_eq!(role(&world, "r", "description").await, "theirs");

    world.until("put back", async |world| role(world, "r", "description").await == "ours").await;

    let told = world.told(&["--kind", "roles", "--id", "r"]).await;
    assert_eq!(told.last().unwrap()["action"], "update");
    // Nobody declared the description of the permission.
    world.until("at rest", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn what_somebody_deleted_is_not_made_anew_and_what_needs_it_waits() {
    let mut world = world("{ mode: report }").await;
    // What was made a moment ago a list may lack.
    world.set_live(json!({ "permissions": [{ "name": "p" }] })).await;
    world.write("a.yaml", ROLES);
    world.converge().await;
    world.edit_live("roles/r", json!({ "permissionNames": [] })).await;
    world.delete_live("permissions/p").await;
    world.pass().await;
    assert_eq!(drifted(&world, "permissions", "p").await["isDeleted"], true);
    world.assert_nothing_left().await;

    // A commit that needs it does not bring it back.
    world.write(
        "a.yaml",
        &format!("{ROLES}  - {{ name: t, permissionNames: [p] }}\n  - {{ name: u, permissionNames: [q] }}\n"),
    );
    world.until("the other one is there", async |world| world.entity("roles", "u").await.is_some()).await;
    world.until("it waits", async |world| reason(world, "roles", "t").await.as_deref() == Some("drift_reported")).await;
    let changes = plan(&world).await["changes"].clone();
    let waits = changes.as_array().unwrap().iter().find(|change| change["id"] == "t").unwrap();
    assert_eq!(waits["why"], "needs permissions/p, which somebody else deleted");
    assert_eq!(world.entity("permissions", "p").await, None);

    // Left out of the files, it is nobody's any more.
    world.write(
        "a.yaml",
        "permissions: [{ name: q }]\nroles:\n  - { name: r, description: ours, permissionNames: [] }\n",
    );
    world.until("at rest", async |world| world.is_converged().await).await;
    // Back in the files it is new.
    world.write(
        "a.yaml",
        "permissions: [{ name: q }, { name: p }]\nroles:\n  - { name: r, description: ours, permissionNames: [] }\n",
    );
    world.until("made", async |world| world.entity("permissions", "p").await.is_some()).await;
}

#[tokio::test]
async fn inside_of_a_resource_each_entry_is_told_apart() {
    let mut world = world("{ mode: report }").await;
    let tenant = |name: &str, seats: u32| {
        format!(
            "tenants: [{{ id: a, name: {name}, customAttributes: {{ plan: gold, seats: {seats} }}, settings: {{ enabled: true }} }}]\n"
        )
    };
    world.write("a.yaml", "tenantAttributes: [{ name: plan, type: string }, { name: seats, type: number }]\n");
    world.write("t.yaml", &tenant("A", 5));
    world.converge().await;
    world.edit_live("tenants/a", json!({ "customAttributes": { "plan": "lead", "seats": 5, "other": true } })).await;
    world.pass().await;
    assert_eq!(drifted(&world, "tenants", "a").await["fields"], json!(["customAttributes.plan"]));
    world.assert_nothing_left().await;

    world.write("t.yaml", &tenant("B", 6));

    world.until("written", async |world| world.entity("tenants", "a").await.unwrap()["name"] == "B").await;
    let live = world.entity("tenants", "a").await.unwrap();
    assert_eq!(live["customAttributes"], json!({ "plan": "lead", "seats": 6, "other": true }));
    world
        .until("nothing else is left", async |world| world.project().await["notConvergedBecause"] == "drift_reported")
        .await;
}

#[tokio::test]
async fn one_shot_commands_keep_to_the_rules_and_tell_them() {
    let world = world("{ mode: report }").await;
    world.write("a.yaml", ROLES);
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(0));
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(0), "nothing drifted");
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    let before = world.writes().await.len();

    let plan = world.run(&["plan", "--exit-code"]).await;
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert_eq!(plan.status.code(), Some(2), "{text}");
    assert!(text.contains("held: drift_reported (somebody else changed it, first seen "), "{text}");
    assert!(text.contains("`drift.mode: heal` (to put it back)"), "{text}");
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(4));
    assert_eq!(world.writes().await.len(), before);

    // The files changed it: that goes ahead.
    world.write("a.yaml", &ROLES.replacen("ours", "newer", 1));
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(0));
    assert_eq!(role(&world, "r", "description").await, "newer");
}

#[tokio::test]
async fn between_runs_of_apply_the_age_is_kept() {
    let mut world = world("{ minAge: 1h }").await;
    world.write("a.yaml", ROLES);
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(0));
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(4));
    tokio::time::sleep(Duration::from_millis(1100)).await;

    world.reconfigure(|setup| setup.project = project("{ minAge: 1s }"));

    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(0));
    assert_eq!(role(&world, "r", "description").await, "ours");
}

#[tokio::test]
async fn a_commit_made_while_nothing_ran_is_told_apart_from_what_somebody_did_meanwhile() {
    let mut world = world("{ mode: report }").await;
    world.write("a.yaml", ROLES);
    world.converge().await;
    world.kill().await;
    world.edit_live("roles/r", json!({ "description": "theirs" })).await;
    world.write("a.yaml", &ROLES.replace("name: s, description: ours", "name: s, description: newer"));

    world.start().await;

    world.until("the commit is done", async |world| role(world, "s", "description").await == "newer").await;
    assert_eq!(drifted(&world, "roles", "r").await["fields"], json!(["description"]));
    world.assert_nothing_left().await;
}
