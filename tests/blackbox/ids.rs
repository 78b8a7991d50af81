//! What Descope knows by ids of its own: found by name, told apart by the id, which the state keeps.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

const STAYS: &str = "lists:\n  - { name: stays, type: texts, data: [] }\n";
const BOTH: &str = "lists:\n  - { name: stays, type: texts, data: [] }\n  - { name: a, type: texts, data: [x] }\n";

async fn world() -> World {
    let project =
        ["firstContact: apply", "policy: sync", "guards: { maxDeletes: 10, maxDeletePercent: off, deleteAfter: 0s }"];
    let setup = Setup { project: project.map(str::to_owned).to_vec(), ..Setup::default() };
    let mut world = World::with(setup).await;
    world.write("a.yaml", BOTH);
    world.converge().await;
    world
}

async fn lists(world: &World) -> Vec<(String, String)> {
    let live = world.live().await;
    let text = |list: &Value, field: &str| list[field].as_str().unwrap().to_owned();
    let lists = live["lists"].as_array().unwrap().iter();
    lists.map(|list| (text(list, "id"), text(list, "name"))).collect()
}

async fn id_of(world: &World, name: &str) -> String {
    lists(world).await.into_iter().find(|(_, it)| it == name).unwrap().0
}

/// Puts another one of the same name beside it.
async fn add_twin(world: &World, name: &str) {
    let mut live = world.live().await;
    let twin = json!({ "id": "LTtwin", "name": name, "type": "texts", "data": ["mine"] });
    live["lists"].as_array_mut().unwrap().push(twin);
    world.set_live(live).await;
}

/// A second one was created beside it.
#[tokio::test]
async fn what_somebody_else_renames_gets_its_name_back_and_keeps_its_id() {
    let mut world = world().await;
    let id = id_of(&world, "a").await;
    let is_back = async |world: &World| lists(world).await.contains(&(id.clone(), "a".to_owned()));

    for _ in 0..2 {
        world.edit_live(&format!("lists/{id}"), json!({ "name": "elsewhere" })).await;
        world.pass().await;
        world.until("renamed back", is_back).await;
        // The id is in the state, not in somebody's memory.
        world.kill().await;
        world.start().await;
        world.until("converged", async |world| world.is_converged().await).await;
    }

    assert_eq!(lists(&world).await.len(), 2);
    assert_eq!(world.entity("lists", "a").await.unwrap()["data"], json!(["x"]));
}

#[tokio::test]
async fn two_of_one_name_wait_for_the_id_in_the_files() {
    let world = world().await;
    let id = id_of(&world, "a").await;
    add_twin(&world, "a").await;
    world.pass().await;
    world.until("parked", async |world| world.has_problem("lists", "a", "parked").await).await;
    let message = world.problem("lists", "a").await.unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&id) && message.contains("LTtwin") && message.contains("write `id: ID`"), "{message}");
    let before = world.writes().await.len();

    world.write("a.yaml", &BOTH.replace("name: a,", "name: a, id: LTtwin,"));
    world
        .until("the one that is meant", async |world| {
            let live = world.live().await;
            live["lists"].as_array().unwrap().iter().all(|list| list["name"] != "a" || list["data"] == json!(["x"]))
        })
        .await;

    let writes = world.writes().await;
    assert_eq!(writes.len(), before + 1, "{writes:?}");
    assert_eq!(writes[before].1["id"], "LTtwin");
    world.until("converged", async |world| world.is_converged().await).await;
}

/// Whatever bore the name was deleted.
#[tokio::test]
async fn only_what_is_ours_by_its_id_is_deleted() {
    let world = world().await;
    let id = id_of(&world, "a").await;
    add_twin(&world, "a").await;

    world.write("a.yaml", STAYS);
    world.until("ours gone", async |world| !lists(world).await.iter().any(|(it, _)| *it == id)).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.pass().await;
    world.pass().await;

    let left: Vec<String> = lists(&world).await.into_iter().map(|(_, name)| name).collect();
    assert_eq!(left, ["stays", "a"], "of somebody else");
}

#[tokio::test]
async fn what_somebody_else_made_under_the_name_is_not_deleted() {
    let world = world().await;
    let id = id_of(&world, "a").await;
    world.write("b.yaml", "lists:\n  - { name: b, type: texts, data: [] }\n");
    world.converge_on(3).await;
    world.delete_live(&format!("lists/{id}")).await;
    add_twin(&world, "a").await;

    world.write("a.yaml", STAYS);
    world.converge_on(2).await;
    world.pass().await;
    world.pass().await;

    assert!(lists(&world).await.contains(&("LTtwin".to_owned(), "a".to_owned())));
    assert!(world.is_converged().await);
}
