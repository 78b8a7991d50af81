//! Settings of the project have one writer at a time, and a conflict with somebody else is no refusal.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::json;

const SETTINGS: &str = "
passwordSettings: { enabled: true, minLength: 12 }
scopeClaimMapping:
  - { scope: profile, claims: { name: '{{user.name}}' } }
theme: { file: theme.json }
fgaSchema: { file: schema.fga }
project: { name: Production, tags: [eu] }
userAttributes:
  - { name: plan, type: string }
  - { name: seats, type: number }
jwtTemplates:
  - { name: members, type: user, template: { tenant: '{{tenant.id}}' } }
flows:
  - { id: welcome, file: flow.json }
  - { id: invite, file: flow.json }
";

async fn world(switches: &[&str]) -> World {
    let mut simulator = vec!["--rate-limit=none".to_owned()];
    simulator.extend(switches.iter().map(|switch| (*switch).to_owned()));
    let project = vec!["firstContact: apply".to_owned(), "policy: sync".to_owned()];
    let world = World::with(Setup { simulator, project, ..Setup::default() }).await;
    world.write("theme.json", r#"{ "styles": { "light": { "primary": "blue" } } }"#);
    world.write("flow.json", r#"{ "contents": { "start": "1" } }"#);
    world.write("schema.fga", "model AuthZ 1.0\n\ntype user\n");
    world.write("a.yaml", SETTINGS);
    world
}

#[tokio::test]
async fn settings_of_the_project_have_one_writer_at_a_time() {
    let mut world = world(&["--set=versionConflicts=true", "--latency=20ms"]).await;

    world.converge().await;

    let refused: Vec<_> = world.log().await.into_iter().filter(|entry| entry["status"] == 400).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(world.writes().await.len() >= 10);
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_conflict_with_somebody_else_is_tried_again() {
    let mut world = world(&[]).await;
    for (code, words) in [("E111604", "theme version conflict"), ("E011003", "Version conflict")] {
        let body = json!({ "errorCode": code, "errorDescription": "Conflict", "errorMessage": words });
        let at = |path: &str| {
            json!({ "match": { "method": "POST", "path": path, "times": 2 }, "fault": "status",
            "status": 400, "body": body })
        };
        world.faults(json!([at("/v2/mgmt/theme/import"), at("/v1/mgmt/user/customattribute/create")])).await;
        let before = world.writes().await.len();

        if world.daemon.is_none() {
            world.converge().await;
        } else {
            world.write("theme.json", r#"{ "styles": { "light": { "primary": "green" } } }"#);
            world.write("a.yaml", &(SETTINGS.to_owned() + "permissions: [{ name: other }]\n"));
            world.until("sent in the end", async |world| world.entity("permissions", "other").await.is_some()).await;
            world.until("converged", async |world| world.is_converged().await).await;
        }

        let sent = world.writes().await.split_off(before);
        let imports = sent.iter().filter(|(line, _)| line == "POST /v2/mgmt/theme/import").count();
        assert_eq!(imports, 3, "{sent:?}");
    }
}
