//! `--kind`, `--target` and `--since`: less than everything, and nothing else by the way.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::git;
use serde_json::Value;
use serde_json::json;

fn shown(report: &Value) -> Vec<String> {
    let changes = report["projects"][0]["changes"].as_array().unwrap().iter();
    changes
        .map(|c| {
            format!("{} {}/{}", c["action"].as_str().unwrap(), c["kind"].as_str().unwrap(), c["id"].as_str().unwrap())
        })
        .collect()
}

const FILES: &str = "
permissions: [{ name: p }, { name: q }]
roles: [{ name: Editor, permissionNames: [p] }, { name: Owner }]
tenants: [{ id: acme, name: Acme }]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_target_comes_with_what_it_needs_and_nothing_else() {
    let world = World::with(Setup { project: Vec::new(), ..Setup::default() }).await;
    world.set_live(json!({ "roles": [{ "name": "Clicked" }], "permissions": [], "tenants": [] })).await;
    world.write("a.yaml", FILES);

    let target = world.run_json(&["plan", "-o", "json", "--target", "roles/Editor"], 0).await;
    let kind = world.run_json(&["plan", "-o", "json", "--kind", "tenants"], 0).await;
    assert_eq!(shown(&target), ["create permissions/p", "create roles/Editor"]);
    assert_eq!(shown(&kind), ["create tenants/acme"]);
    assert_eq!(target["projects"][0]["undeclared"], json!([]));

    let applied = world.run_json(&["apply", "--auto-approve", "-o", "json", "--target", "roles/Editor"], 0).await;
    assert_eq!(applied["totals"]["ok"], 2, "{applied}");
    let sent: Vec<String> = world.writes().await.into_iter().map(|(line, _)| line).collect();
    assert_eq!(sent.len(), 2, "{sent:?}");
    let rest = world.run_json(&["plan", "-o", "json"], 0).await;
    assert_eq!(rest["projects"][0]["held"]["reason"], "first_contact", "a part of it ends no first contact: {rest}");
    assert_eq!(world.run(&["plan", "--target", "rolls/x"]).await.status.code(), Some(64));
    assert_eq!(world.run(&["apply", "--auto-approve", "--target", "roles"]).await.status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_target_by_name_is_deleted() {
    let project = ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s }"].map(str::to_owned).to_vec();
    let world = World::with(Setup { project, ..Setup::default() }).await;
    world.write("a.yaml", "roles: [{ name: a }, { name: b }, { name: stays }]\n");
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    world.write("a.yaml", "roles: [{ name: stays }]\n");

    let kind = world.run_json(&["apply", "--auto-approve", "-o", "json", "--kind", "roles"], 0).await;
    assert_eq!(shown(&kind), Vec::<String>::new());
    // An absence that nobody noted is none yet.
    let noted = world.run(&["apply", "--auto-approve", "--target", "roles/stays"]).await;
    assert_eq!(noted.status.code(), Some(0));
    assert!(world.entity("roles", "a").await.is_some() && world.entity("roles", "b").await.is_some());

    let all = world.run_json(&["plan", "-o", "json"], 0).await;
    assert_eq!(shown(&all), ["delete roles/a", "delete roles/b"]);
    let one = world.run_json(&["plan", "-o", "json", "--target", "roles/b"], 0).await;
    assert_eq!(shown(&one), ["delete roles/b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn since_a_revision_only_what_the_files_say_differently_is_planned() {
    let project = ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s }"].map(str::to_owned).to_vec();
    let world = World::with(Setup { project, ..Setup::default() }).await;
    let repo = world.path("repo");
    world.write("a.yaml", "roles: [{ name: a, description: one }, { name: b }, { name: gone }]\n");
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-q", "-m", "one"]);
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    world.edit_live("roles/b", json!({ "description": "drifted" })).await;
    world.write("a.yaml", "roles: [{ name: a, description: two }, { name: b, description: '' }]\n");
    git(&repo, &["commit", "-q", "-am", "two"]);
    world.write("a.yaml", "roles: [{ name: a, description: three }, { name: b, description: '' }, { name: c }]\n");
    git(&repo, &["commit", "-q", "-am", "three"]);

    let since = async |revision: &str| shown(&world.run_json(&["plan", "-o", "json", "--since", revision], 0).await);

    assert_eq!(since("HEAD~1").await, ["update roles/a", "create roles/c"]);
    let all = since("HEAD~2").await;
    assert!(
        all.contains(&"update roles/b".to_owned()) && all.iter().any(|line| line.ends_with("roles/gone")),
        "{all:?}"
    );
    assert_eq!(since("HEAD").await, Vec::<String>::new());
    assert_eq!(world.run(&["plan", "--since", "nowhere"]).await.status.code(), Some(64));
    assert_eq!(world.run(&["plan", "--since", "--output=x"]).await.status.code(), Some(64));
}

/// The plan said "held", `apply` deleted it, and `apply --target` never did.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_time_to_wait_for_one_load_is_enough_for_plan_and_apply_alike() {
    let project = ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s }"].map(str::to_owned).to_vec();
    let world = World::with(Setup { project, ..Setup::default() }).await;
    world.write("a.yaml", "roles: [{ name: a }, { name: b }, { name: stays }]\n");
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    world.write("a.yaml", "roles: [{ name: stays }]\n");

    let plan = world.run_json(&["plan", "-o", "json"], 0).await;
    assert_eq!(shown(&plan), ["delete roles/a", "delete roles/b"]);
    assert_eq!(plan["projects"][0]["changes"][0]["held"], Value::Null, "{plan}");
    world.run_json(&["apply", "--auto-approve", "-o", "json", "--target", "roles/a"], 0).await;
    assert!(world.entity("roles", "a").await.is_none() && world.entity("roles", "b").await.is_some());
}

/// It said that time would end the wait, and noted nothing that time could count from.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_is_named_goes_once_it_was_absent_for_long_enough() {
    let project = ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 1s }"].map(str::to_owned).to_vec();
    let world = World::with(Setup { project, ..Setup::default() }).await;
    let roles = |names: &str| format!("roles: [{names}]\n");
    world.write("a.yaml", &roles("{ name: a }, { name: b }, { name: stays }"));
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    world.write("a.yaml", &roles("{ name: stays }"));
    let named = ["apply", "--auto-approve", "--target", "roles/a"];

    let first = world.run(&named).await;
    let text = String::from_utf8(first.stdout).unwrap();
    assert_eq!(first.status.code(), Some(4), "{text}");
    assert!(text.contains("held delete roles/a: delete_after; apply again after 20"), "{text}");
    world.until("deleted", async |world| world.run(&named).await.status.code() == Some(0)).await;

    assert!(world.entity("roles", "a").await.is_none());
    let rest = world.run_json(&["plan", "-o", "json"], 0).await;
    assert_eq!(rest["projects"][0]["changes"][0]["held"], "delete_after", "of the other one nothing was noted: {rest}");
    assert_eq!(rest["projects"][0]["changes"][0]["until"], json!(null), "{rest}");
    // What comes back is not absent any more, whatever that run is about.
    for target in ["roles/b", "roles/stays"] {
        world.run(&["apply", "--auto-approve", "--target", "roles/b"]).await;
        world.write("a.yaml", &roles("{ name: b }, { name: stays }"));
        world.run_json(&["apply", "--auto-approve", "--target", target, "-o", "json"], 0).await;
        world.write("a.yaml", &roles("{ name: stays }"));
        let again = world.run_json(&["plan", "-o", "json"], 0).await;
        assert_eq!(again["projects"][0]["changes"][0]["until"], json!(null), "{target}: {again}");
    }
}
