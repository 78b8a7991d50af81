//! What is committed while the daemon waits to look at Descope counts at once.

use crate::harness::Setup;
use crate::harness::World;
use reqwest::Method;
use serde_json::json;

fn sync() -> Setup {
    let guards = "guards: { maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    let top = vec!["rateLimit: { limit: 1000/4s }".to_owned()];
    Setup { project, top, ..Setup::default() }
}

const BOTH: &str = "roles:\n  - { name: a, description: one }\n  - { name: x, description: one }\n";

async fn loads(world: &World) -> f64 {
    let mut sum = 0.0;
    for result in ["changed", "unchanged", "invalid", "io_error"] {
        sum += world.metric(&format!("source_loads_total{{result=\"{result}\"}}")).await.unwrap();
    }
    sum
}

/// The call of `path` that `second` leads to is refused, so that it waits at the closed gate, and so does a pass that
/// looks. Then comes `third`. What was written to this path after the gate opened and everything came to rest.
async fn written_though_taken_back(path: &str, first: &str, second: &str, third: &str) -> (World, usize) {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", first);
    world.converge().await;
    let refused = json!({ "match": { "path": path, "times": 1 }, "fault": "status", "status": 429, "headers": { "retry-after": "4" } });
    world.faults(json!([refused])).await;
    world.write("roles.yaml", second);
    let count = async |world: &World| world.writes().await.iter().filter(|(line, _)| line.ends_with(path)).count();
    world.until("refused", async |world| count(world).await == 1).await;
    world.until("at rest", async |world| world.project().await["lastPass"]["trigger"] == "watch").await;

    let (before, passes) = (loads(&world).await, world.passes().await);
    assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
    world.until("a pass begins", async |world| loads(world).await > before).await;
    world.write("roles.yaml", third);
    world.until("passed", async |world| world.passes().await > passes).await;
    world.pass().await;

    let idle = async |world: &World| world.status().await["queue"]["inFlight"] == 0;
    world.until("idle", idle).await;
    let times = count(&world).await;
    (world, times)
}

#[tokio::test]
async fn a_delete_at_the_gate_is_not_sent_once_the_files_cannot_be_used() {
    let second = "roles:\n  - { name: a, description: one }\n";
    let (world, times) = written_though_taken_back("/v1/mgmt/role/delete", BOTH, second, "roles:\n  - [broken\n").await;

    assert_eq!(times, 1, "the refused one");
    assert!(world.entity("roles", "x").await.is_some());
    world.write("roles.yaml", second);
    world.until("deleted", async |world| world.entity("roles", "x").await.is_none()).await;
}

#[tokio::test]
async fn a_kind_that_is_declared_while_the_daemon_looks_is_looked_at_as_well() {
    let second = BOTH.replace("x, description: one", "x, description: two");
    let third = format!("{second}permissions:\n  - name: p\n");
    let (world, times) = written_though_taken_back("/v1/mgmt/role/update", BOTH, &second, &third).await;

    assert_eq!(times, 2, "the refused one and its repetition");
    world.until("converged", async |world| world.is_converged().await).await;
    assert!(world.entity("permissions", "p").await.is_some());
}

/// Its own delete was behind it, and was not looked at again: the tenant would have taken the role along.
#[tokio::test]
async fn a_tenant_at_the_gate_is_not_deleted_once_a_role_in_it_is_declared_again() {
    let second = "roles:\n  - { name: a, description: one }\n  - { name: x, description: one }\n";
    let first = format!(
        "{second}  - {{ name: own, tenantId: t }}\ntenants:\n  - {{ id: t, name: T }}\n  - {{ id: u, name: U }}\n"
    );
    let third = format!("{second}  - {{ name: own, tenantId: t }}\ntenants:\n  - {{ id: u, name: U }}\n");
    let second = format!("{second}tenants:\n  - {{ id: u, name: U }}\n");
    let (world, times) = written_though_taken_back("/v1/mgmt/tenant/delete", &first, &second, &third).await;

    assert_eq!(times, 1, "the refused one");
    world.until("there again", async |world| world.entity("roles", "own").await.is_some()).await;
    assert!(world.entity("tenants", "t").await.is_some());
}

/// What was taken off the queue counted as done: what refers to it was sent without it, refused, and parked for good.
#[tokio::test]
async fn what_refers_to_a_create_that_is_declared_otherwise_waits_for_the_new_one() {
    let permission = |text: &str| format!("permissions:\n  - {{ name: p, description: {text} }}\n");
    let role = "  - { name: r, description: one, permissionNames: [p] }\n";
    let second = format!("{BOTH}{role}{}", permission("one"));
    let third = format!("{BOTH}{role}{}", permission("two"));
    let (world, times) = written_though_taken_back("/v1/mgmt/permission/create", BOTH, &second, &third).await;

    assert_eq!(times, 2, "the refused one, and the new one");
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.entity("permissions", "p").await.unwrap()["description"], "two");
    assert_eq!(world.entity("roles", "r").await.unwrap()["permissionNames"], json!(["p"]));
    let refused = world.log().await.iter().filter(|entry| entry["status"] == 400).count();
    assert_eq!(refused, 0, "nothing was sent too early");
}
