//! Whose a project is: the entry of the config that the state knows it under, by name and path, and the installation, by host and
//! owner.

use crate::guards::approve;
use crate::guards::exists;
use crate::guards::held;
use crate::guards::is_gone;
use crate::harness::PROJECT;
use crate::harness::World;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

const OTHER: &str = "P2blackboxprojectxxxxxxxxx2";
const OPEN: &str = "guards: { maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s }";

/// An entry with `policy: sync`, guards that let all pass at once, and these lines.
fn entry(api: &str, (name, id, path): (&str, &str, &str), lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "  - name: {name}\n    projectId: {id}\n    managementKey: {{ env: BLACKBOX_KEY }}\n    baseUrl: {api}\n    path: {path}\n    \
         policy: sync\n    {OPEN}\n{lines}"
    )
}

fn configure(world: &mut World, entries: &[(&str, &str, &str)], lines: &[&str]) {
    let api = world.api.clone();
    let entries: String = entries.iter().map(|one| entry(&api, *one, lines)).collect();
    world.reconfigure(|setup| setup.top = vec![format!("projects:\n{entries}")]);
}

async fn projects(world: &World) -> Vec<Value> {
    world.status().await["projects"].as_array().unwrap().clone()
}

async fn converge(world: &mut World) {
    world.start().await;
    world
        .until("converged", async |world| projects(world).await.iter().all(|project| project["converged"] == true))
        .await;
}

async fn live_in(world: &World, project: &str, kind: &str, name: &str) -> bool {
    let live = world.sim(Method::GET, &format!("state?project={project}"), None).await;
    live[kind].as_array().is_some_and(|all| all.iter().any(|entity| entity["name"] == name))
}

/// What is remembered as owned, and by which entry.
fn owned(world: &World) -> (Vec<String>, Vec<String>) {
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    let all = |sql: &str| -> Vec<String> {
        let mut rows = state.prepare(sql).unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let owned = all(
        "SELECT project_id || ' ' || kind || '/' || name FROM owned JOIN project ON project.id = project ORDER BY 1",
    );
    (owned, all("SELECT project_id || ' ' || entry FROM project ORDER BY 1"))
}

const ROLES: &str = "roles:\n  - { name: r, description: r }\n  - name: gone\n";

/// Both were converged at once: the empty plan counted as the contact, and the next commit to one went to the other's project.
#[tokio::test]
async fn swapped_project_ids_whose_files_say_the_same_are_held_until_somebody_approves() {
    let mut world = World::new().await;
    let (right, wrong) =
        ([("one", PROJECT, "one"), ("two", OTHER, "two")], [("one", OTHER, "one"), ("two", PROJECT, "two")]);
    for name in ["one", "two"] {
        world.write(&format!("{name}/all.yaml"), ROLES);
    }
    configure(&mut world, &right, &[]);
    converge(&mut world).await;
    world.stop().await;
    let (before, writes) = (owned(&world), world.writes().await.len());

    configure(&mut world, &wrong, &[]);
    let told = world.run_json(&["plan", "-o", "json", "--exit-code"], 2).await;
    let fingerprint = told["projects"][0]["fingerprint"].as_str().unwrap().to_owned();
    world.start().await;
    world
        .until("both held", async |world| {
            projects(world).await.iter().all(|project| project["held"]["reason"] == "first_contact")
        })
        .await;
    for project in projects(&world).await {
        assert_eq!((&project["converged"], &project["notConvergedBecause"]), (&json!(false), &json!("held")));
        assert_eq!(project["held"]["changes"], 0);
        let hold = &project["holds"][0];
        assert_eq!((&hold["approvable"], &hold["stopsProject"]), (&json!(true), &json!(true)), "{hold}");
        assert!(hold["why"].as_str().unwrap().contains("under another entry of the config"), "{hold}");
    }
    assert_eq!(world.metric("held_changes{project=\"one\",reason=\"first_contact\"}").await, Some(1.0));
    assert_eq!(projects(&world).await[0]["held"]["fingerprint"], json!(fingerprint));
    world.write("one/all.yaml", "roles:\n  - { name: r, description: other }\n  - name: new\n");
    world.until("seen", async |world| projects(world).await[0]["held"]["changes"] == 2).await;
    assert_eq!(approve(&world, &fingerprint).await, 409, "that was of other files");
    world.stop().await;
    assert_eq!((owned(&world), world.writes().await.len()), (before.clone(), writes));

    // As if nothing had happened.
    world.write("one/all.yaml", ROLES);
    configure(&mut world, &right, &[]);
    converge(&mut world).await;
    world.write("one/all.yaml", "roles:\n  - { name: r, description: r }\n");
    is_gone(&world, "roles", "gone").await;
    world.write("one/all.yaml", ROLES);
    world.until("again", async |world| exists(world, "roles", "gone").await).await;
    world.until("at rest", async |world| projects(world).await.iter().all(|one| one["converged"] == true)).await;
    world.stop().await;

    // Where it is meant.
    configure(&mut world, &wrong, &[]);
    let told = world.run_json(&["plan", "-o", "json"], 0).await;
    let fingerprint = told["projects"][0]["fingerprint"].as_str().unwrap();
    let applied = world.run_json(&["apply", "-o", "json", "--approve", fingerprint], 4).await;
    assert_eq!(
        (&applied["projects"][0]["held"], &applied["projects"][1]["held"]["changes"]),
        (&Value::Null, &json!(0))
    );
    world.run_json(&["apply", "-o", "json", "--auto-approve"], 0).await;
    assert_eq!(owned(&world).1, [format!("{PROJECT} two\ntwo"), format!("{OTHER} one\none")]);
    world.run_json(&["plan", "-o", "json", "--exit-code"], 0).await;
}

/// Whose files were part of what lives there took the project over, and what the other one owned was forgotten.
#[tokio::test]
async fn a_renamed_entry_whose_files_lost_something_owns_what_it_owned() {
    let mut world = World::new().await;
    let (old, new) = ([("one", PROJECT, ".")], [("uno", PROJECT, ".")]);
    let full = format!("{ROLES}tenants:\n  - {{ id: t, name: T }}\n");
    world.write("all.yaml", &full);
    configure(&mut world, &old, &[]);
    converge(&mut world).await;
    world.stop().await;
    let (before, writes) = (owned(&world), world.writes().await.len());

    world.write("all.yaml", "roles:\n  - { name: r, description: r }\n");
    configure(&mut world, &new, &[]);
    world.start().await;
    held(&world, "first_contact,kind_emptied").await;
    assert_eq!(world.project().await["held"]["deletes"], 2);
    world.pass().await;
    world.stop().await;
    assert_eq!((owned(&world), world.writes().await.len()), (before, writes));

    configure(&mut world, &old, &[]);
    world.start().await;
    is_gone(&world, "roles", "gone").await;
    held(&world, "kind_emptied").await;
    assert!(exists(&world, "tenants", "t").await);
    world.stop().await;

    configure(&mut world, &new, &[]);
    world.start().await;
    let fingerprint = held(&world, "first_contact,kind_emptied").await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "tenants", "t").await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.stop().await;
    assert_eq!(owned(&world).1, [format!("{PROJECT} uno\n")]);
}

/// What had left the files with the restart that renamed the entry stayed for ever.
#[tokio::test]
async fn with_first_contact_apply_a_renamed_entry_goes_on_as_under_its_old_name() {
    let mut world = World::new().await;
    world.write("a/all.yaml", &format!("{ROLES}tenants:\n  - {{ id: t, name: T }}\n"));
    configure(&mut world, &[("one", PROJECT, "a")], &["firstContact: apply"]);
    converge(&mut world).await;
    world.stop().await;

    world.remove("a/all.yaml");
    world.write("b/all.yaml", "roles:\n  - { name: r, description: r }\n");
    configure(&mut world, &[("one", PROJECT, "b")], &["firstContact: apply"]);
    world.start().await;
    is_gone(&world, "roles", "gone").await;
    let fingerprint = held(&world, "kind_emptied").await;
    assert!(exists(&world, "tenants", "t").await);
    assert!(world.daemon().said("from now on it is this one's"));
    assert_eq!(approve(&world, &fingerprint).await, 200);
    is_gone(&world, "tenants", "t").await;
    world.until("converged", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn with_first_contact_apply_swapped_project_ids_delete_nothing_of_what_the_other_owned() {
    let mut world = World::new().await;
    for name in ["one", "two"] {
        world.write(&format!("{name}/all.yaml"), &format!("roles:\n  - name: {name}\n"));
    }
    configure(&mut world, &[("one", PROJECT, "one"), ("two", OTHER, "two")], &["firstContact: apply"]);
    converge(&mut world).await;
    world.stop().await;

    configure(&mut world, &[("one", OTHER, "one"), ("two", PROJECT, "two")], &["firstContact: apply"]);
    world.start().await;
    for (project, name) in [(OTHER, "one"), (PROJECT, "two")] {
        world.until("taken over", async |world| live_in(world, project, "roles", name).await).await;
    }
    world.until("at rest", async |world| projects(world).await.iter().all(|one| one["converged"] == true)).await;
    world.assert_nothing_left().await;
    assert!(live_in(&world, PROJECT, "roles", "one").await && live_in(&world, OTHER, "roles", "two").await);
    assert!(projects(&world).await.iter().all(|project| project["undeclared"] == 1));
    assert!(world.daemon().said("is owned no more"));
}

/// Suspensions and ownership were gone without a word.
#[tokio::test]
async fn another_spelling_of_the_host_and_another_owner_are_other_installations_and_the_start_says_so() {
    const WORDS: &str = "which is another installation";
    let mut world = World::new().await;
    world.write("all.yaml", ROLES);
    let set = |world: &mut World, host: &str, owner: &str| {
        let api = world.api.replace("127.0.0.1", host);
        let entry = entry(&api, ("one", PROJECT, "."), &[&format!("owner: {owner}"), "firstContact: apply"]);
        world.reconfigure(|setup| setup.top = vec![format!("projects:\n{entry}")]);
    };
    set(&mut world, "127.0.0.1", "us");
    converge(&mut world).await;
    assert!(!world.daemon().said(WORDS));
    world.stop().await;

    set(&mut world, "localhost", "us");
    converge(&mut world).await;
    let here = world.api.trim_start_matches("http://").to_owned();
    let there = here.replace("127.0.0.1", "localhost");
    let told = format!("at {here} with owner us; it is now at {there} with owner us, {WORDS}");
    assert!(world.daemon().said(&told), "{}", world.daemon().tail(20));
    assert_eq!(world.daemon().lines().iter().filter(|line| line.contains(WORDS)).count(), 1);
    world.stop().await;
    converge(&mut world).await;
    assert!(!world.daemon().said(WORDS), "it was said");
    world.stop().await;

    set(&mut world, "localhost", "them");
    converge(&mut world).await;
    assert!(world.daemon().said(&format!("at {there} with owner us; it is now at {there} with owner them, {WORDS}")));
    world.stop().await;
    // And back.
    set(&mut world, "127.0.0.1", "us");
    converge(&mut world).await;
    assert!(world.daemon().said(&format!("at {there} with owner them; it is now at {here} with owner us, {WORDS}")));
}
