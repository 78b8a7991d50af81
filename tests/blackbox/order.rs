//! The API answers in whatever order it likes, and that is no difference.

use crate::harness::Setup;
use crate::harness::World;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

fn shuffling(project: &[&str]) -> Setup {
    let mut setup = Setup { project: project.iter().map(|line| (*line).to_owned()).collect(), ..Setup::default() };
    setup.simulator.extend(["--set".to_owned(), "shuffledElements=true".to_owned()]);
    setup
}

const MANY: [&str; 8] = ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"];

fn live() -> Value {
    let permissions: Vec<Value> = MANY.iter().map(|name| json!({ "name": name, "description": "" })).collect();
    json!({
        "permissions": permissions,
        "roles": [{ "name": "r", "description": "live", "permissionNames": MANY }],
        "tenants": [{ "id": "t", "name": "live", "selfProvisioningDomains": ["a.com", "b.com", "c.com", "d.com", "e.com"] }],
    })
}

/// Each answer was another body, so that an approval never took hold.
#[tokio::test]
async fn an_approval_holds_whatever_the_order_of_the_next_answer() {
    let mut world = World::with(shuffling(&[])).await;
    world.set_live(live()).await;
    world.write("a.yaml", "roles:\n- {name: r, description: ours}\ntenants:\n- {id: t, name: Ours}\n");
    world.start().await;
    world.until("held", async |world| world.project().await["held"] != Value::Null).await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        world.fresh_pass().await;
        assert_eq!(world.project().await["held"]["fingerprint"], *fingerprint);
    }

    assert_eq!(world.ask(Method::POST, &format!("/api/v1/approve?plan={fingerprint}")).await.0, 200);

    world.until("approved", async |world| world.entity("roles", "r").await.unwrap()["description"] == "ours").await;
    world.until("approved", async |world| world.entity("tenants", "t").await.unwrap()["name"] == "Ours").await;
    world.until("converged", async |world| world.is_converged().await).await;
    let role = world.entity("roles", "r").await.unwrap();
    assert_eq!(role["permissionNames"].as_array().unwrap().len(), MANY.len(), "nothing undeclared was lost");
}

/// Every pass made another cause of it, and it was sent again each time.
#[tokio::test]
async fn a_parked_write_is_not_sent_again_for_the_order_of_an_answer() {
    let mut world = World::with(shuffling(&["firstContact: apply"])).await;
    world.set_live(live()).await;
    world.write("a.yaml", "roles:\n- {name: r, description: ours}\n");
    let refused = json!([{ "match": { "body": { "name": "r" } }, "fault": "status", "status": 400 }]);
    world.faults(refused).await;
    world.start().await;
    world.until("parked", async |world| world.has_problem("roles", "r", "parked").await).await;
    let writes = world.writes().await.len();

    for _ in 0..5 {
        world.fresh_pass().await;
    }

    assert_eq!(world.writes().await.len(), writes);
}
