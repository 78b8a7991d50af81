//! What the API gives in an answer and refuses in a request: left out, and sent once more.

use crate::harness::World;
use serde_json::Value;
use serde_json::json;

struct Case {
    file: &'static str,
    changed: &'static str,
    live: &'static str,
    /// What Descope begins to answer.
    more: Value,
    /// In the log.
    field: &'static str,
    path: &'static str,
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            file: "roles:\n  - { name: r, description: one }\n",
            changed: "roles:\n  - { name: r, description: two }\n",
            live: "roles/r",
            more: json!({ "later": { "of": 1 } }),
            field: "later",
            path: "/v1/mgmt/role/update",
        },
        Case {
            file: "permissions:\n  - { name: p, description: one }\n",
            changed: "permissions:\n  - { name: p, description: two }\n",
            live: "permissions/p",
            more: json!({ "later": 1 }),
            field: "later",
            path: "/v1/mgmt/permission/update",
        },
    ]
}

/// It was refused and parked for good: for every resource of the kind, once Descope answered one field more.
#[tokio::test]
async fn a_field_that_is_answered_and_refused_by_name_is_left_out_and_said_once() {
    for Case { file, changed, live, more, field, path } in cases() {
        let mut world = World::new().await;
        world.write("a.yaml", file);
        world.converge().await;
        world.edit_live(live, more).await;
        let body = json!({ "errorCode": "E011003", "errorMessage": "Request is malformed: unknown field \"later\"" });
        world.fresh_pass().await;
        let before = world.writes().await.len();
        let refuse = json!({ "match": { "path": path, "method": "POST", "times": 1 }, "fault": "status", "status": 400, "body": body });
        world.faults(json!([refuse])).await;

        world.write("a.yaml", changed);
        world.until("changed", async |world| world.is_converged().await && world.writes().await.len() > before).await;
        world.converge().await;

        let sent: Vec<Value> = world.writes().await.drain(before..).map(|(_, body)| body).collect();
        let has_field: Vec<bool> = sent.iter().map(|body| body.to_string().contains("\"later\"")).collect();
        assert_eq!(has_field, [true, false], "{live}: {sent:#?}");
        // Remembered: the next one goes without at once.
        world.write("a.yaml", file);
        world.until("changed back", async |world| world.writes().await.len() == before + 3).await;
        world.converge().await;
        let sent = world.writes().await.pop().unwrap().1;
        assert!(!sent.to_string().contains("later"), "{live}: {sent}");
        let lines = world.daemon().lines();
        let said = lines.iter().filter(|line| line.contains("takes it in no request"));
        let said: Vec<&String> = said.collect();
        assert!(said.len() == 1 && said[0].contains(&format!("\"field\":\"{field}\"")), "{said:?}");
    }
}
