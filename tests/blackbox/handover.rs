//! Names and domains that one tenant gives up and another one wants.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::json;

fn tenants(names: &[String]) -> String {
    let item = |(n, name): (usize, &String)| format!("  - {{ id: t{n:02}, name: {name} }}\n");
    format!("tenants:\n{}", names.iter().enumerate().map(item).collect::<String>())
}

/// Most of them were refused and stayed parked.
#[tokio::test]
async fn twelve_tenants_hand_on_their_names() {
    let mut world = World::new().await;
    let names: Vec<String> = (0..13).map(|n| format!("Name {n}")).collect();
    world.write("tenants.yaml", &tenants(&names[..12]));
    world.converge().await;

    world.write("tenants.yaml", &tenants(&names[1..]));
    world
        .until("all have their new names", async |world| {
            let live = world.live().await;
            let name = |n: usize| {
                live["tenants"].as_array().unwrap().iter().find(|t| t["id"] == format!("t{n:02}")).map(|t| &t["name"])
            };
            (0..12).all(|n| name(n).is_some_and(|name| *name == names[n + 1]))
        })
        .await;
    world.converge().await;
    let patches = world.writes().await.iter().filter(|(line, _)| line.starts_with("PATCH")).count();
    assert_eq!(patches, 12, "who frees a name goes first");
}

#[tokio::test]
async fn two_that_swap_are_a_problem_that_names_both() {
    let mut world = World::new().await;
    let names = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<String>>();
    world.write("tenants.yaml", &tenants(&names(&["A", "B", "C"])));
    world.converge().await;
    let before = world.writes().await.len();

    world.write("tenants.yaml", &tenants(&names(&["B", "A", "D"])));
    world.until("C became D", async |world| world.entity("tenants", "t02").await.unwrap()["name"] == "D").await;
    world.until("both told", async |world| world.project().await["problems"].as_array().unwrap().len() == 2).await;

    for (id, other) in [("t00", "tenants/t01"), ("t01", "tenants/t00")] {
        let problem = world.problem("tenants", id).await.unwrap();
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains(other) && message.contains(&format!("tenants/{id}")), "{message}");
        assert_eq!(problem["state"], "parked");
    }
    assert!(!world.is_converged().await);
    assert_eq!(world.writes().await.len(), before + 1, "nothing is sent that cannot be done");
    world.write("tenants.yaml", &tenants(&names(&["X", "A", "D"])));
    world.converge().await;
}

/// It stayed parked until its own declaration changed.
#[tokio::test]
async fn what_was_refused_for_another_resource_is_tried_again_when_that_changes() {
    let mut world = World::new().await;
    let names = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<String>>();
    world.write("tenants.yaml", &tenants(&names(&["A", "B"])));
    world.converge().await;
    // The second is nobody's by now, and keeps its name.
    world.write("tenants.yaml", &tenants(&names(&["B"])));
    world.until("refused", async |world| world.has_problem("tenants", "t00", "parked").await).await;
    let writes = world.writes().await.len();
    world.fresh_pass().await;
    assert_eq!(world.writes().await.len(), writes);

    world.edit_live("tenants/t01", json!({ "name": "C" })).await;
    world.fresh_pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.entity("tenants", "t00").await.unwrap()["name"], "B");
}

fn syncing() -> Setup {
    let guards = "guards: { deleteAfter: 0s, maxDeletes: 100, maxDeletePercent: 100 }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    Setup { project, ..Setup::default() }
}

/// Deletes run last, so the update was refused before the name was free, and stayed parked until the next interval.
#[tokio::test]
async fn an_update_that_wants_the_name_of_what_the_same_drain_deletes_follows_it() {
    let mut world = World::with(syncing()).await;
    world.write("tenants.yaml", "tenants:\n  - { id: old, name: Acme }\n  - { id: new, name: Acme 2 }\n");
    world.converge().await;

    world.write("tenants.yaml", "tenants:\n  - { id: new, name: Acme }\n");
    world.until("handed on", async |world| world.entity("tenants", "new").await.unwrap()["name"] == "Acme").await;

    world.converge().await;
    assert!(world.entity("tenants", "old").await.is_none());
}

/// Descope did not know yet that the role had let go: the delete was refused, and stayed parked until the next interval.
#[tokio::test]
async fn a_delete_that_is_refused_though_its_obstacle_just_fell_is_tried_again() {
    let mut world = World::with(syncing()).await;
    world.write("permissions.yaml", "permissions:\n  - { name: p }\n  - { name: q }\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [p, q] }\n");
    world.converge().await;
    let body = json!({ "errorCode": "E011003", "errorMessage": "p is still in use" });
    let late = json!({ "match": { "path": "/v1/mgmt/permission/delete", "times": 1 }, "fault": "status", "status": 400, "body": body });
    world.faults(json!([late])).await;

    world.write("permissions.yaml", "permissions:\n  - { name: q }\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [q] }\n");
    world.until("deleted", async |world| world.entity("permissions", "p").await.is_none()).await;

    world.converge().await;
    let deletes = world.writes().await.iter().filter(|(line, _)| line.contains("permission/delete")).count();
    assert_eq!(deletes, 2);
}
