//! Names and domains that one tenant gives up and another one wants.

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
