//! The power goes between a call and its outcome: what the next start knows of it.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

/// `policy: sync` with guards that let everything pass at once, and one call at a time.
fn sync() -> Setup {
    let guards = "guards: { maxDeletes: 100, maxDeletePercent: 100, deleteAfter: 0s }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    Setup { project, top: vec!["requestTimeout: 50s".to_owned()], ..Setup::default() }
}

/// Calls of this path take effect and are not answered while the world lasts.
async fn swallow_answers(world: &World, path: &str) {
    world.faults(json!([{ "match": { "path": path }, "fault": "delay", "delay": "50s", "effect": true }])).await;
}

async fn trail(world: &World, kind: &str, id: &str) -> Vec<Value> {
    let trail = world.run_json(&["audit", "-o", "json", "--kind", kind, "--id", id], 0).await;
    trail["changes"].as_array().unwrap().clone()
}

async fn is_there(world: &World, kind: &str, name: &str) -> bool {
    world.entity(kind, name).await.is_some()
}

/// It forgot that the role was protected, and deleted it once it had left the files.
#[tokio::test]
async fn what_a_create_declared_outlives_a_power_cut_before_its_answer() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    world.converge().await;
    swallow_answers(&world, "/v1/mgmt/role/create*").await;
    world.write("more.yaml", "roles:\n  - name: plain\n  - { name: kept, description: precious, protected: true }\n");
    world.until("created", async |world| is_there(world, "roles", "kept").await).await;
    let revision = world.project().await["desired"]["revision"].clone();
    world.kill().await;
    world.remove("more.yaml");
    world.faults(json!([])).await;

    world.start().await;
    world.until("pruned", async |world| !is_there(world, "roles", "plain").await).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;

    assert!(is_there(&world, "roles", "kept").await, "protected");
    let rows = trail(&world, "roles", "kept").await;
    assert_eq!(rows.len(), 1, "{rows:#?}");
    let row = &rows[0];
    assert_eq!((&row["action"], &row["outcome"]), (&json!("create"), &json!("ok")), "{row}");
    assert_eq!((&row["trigger"], &row["revision"]), (&json!("watch"), &revision), "{row}");
    assert_eq!((&row["file"], &row["line"]), (&json!("more.yaml"), &json!(3)), "{row}");
    let field = json!({ "path": "description", "from": null, "to": "precious" });
    assert!(row["fields"].as_array().unwrap().contains(&field), "{row}");
    let actions: Vec<Value> =
        trail(&world, "roles", "plain").await.into_iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions, ["create", "delete"]);
}

/// Nothing else of that kind was declared or owned, so nobody asked for it any more.
#[tokio::test]
async fn the_only_resource_of_its_kind_is_owned_though_the_power_went_before_the_answer() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    world.converge().await;
    swallow_answers(&world, "/v1/mgmt/tenant/create").await;
    world.write("tenants.yaml", "tenants:\n  - { id: t, name: T }\n");
    world.until("created", async |world| is_there(world, "tenants", "t").await).await;
    world.kill().await;
    world.remove("tenants.yaml");
    world.faults(json!([])).await;

    world.start().await;

    let is_held = async |world: &World| world.project().await["held"]["reason"] == "kind_emptied";
    world.until("owned, so held", is_held).await;
    assert_eq!(trail(&world, "tenants", "t").await[0]["outcome"], "ok");
}

/// It was told "failed", and the call that came second was counted as the one that worked.
#[tokio::test]
async fn a_create_that_arrives_after_the_next_start_has_looked_is_still_ours() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    world.converge().await;
    // It waits in the network while the daemon ends and starts again.
    let late = json!({ "match": { "path": "/v1/mgmt/role/create", "times": 1 }, "fault": "hang" });
    world.faults(json!([late])).await;
    world.write("roles.yaml", "roles:\n  - name: a\n  - { name: late, protected: true }\n");
    world.until("sent", async |world| world.writes().await.len() == 2).await;
    world.kill().await;
    world.faults(json!([])).await;
    // The next start sees nothing of it, and the create that it sends is refused: the late one is there by then.
    let refused =
        json!({ "match": { "path": "/v1/mgmt/role/create" }, "fault": "status", "status": 400, "delay": "2s" });
    world.faults(json!([refused])).await;
    world.start().await;
    world.until("sent again", async |world| world.writes().await.len() == 3).await;
    world.edit_live("roles/late", json!({ "description": "" })).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    world.until("left", async |world| world.project().await["undeclared"] == 1).await;

    let rows = trail(&world, "roles", "late").await;
    let outcomes: Vec<&Value> = rows.iter().map(|row| &row["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "ok"], "{rows:#?}");
    world.assert_nothing_left().await;
    assert!(is_there(&world, "roles", "late").await, "owned, and protected");
}

/// It was deleted: what its new name declares was not known by the old one, under which it is still owned.
#[tokio::test]
async fn what_a_rename_declares_counts_before_it_is_done() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - name: a\n  - name: old\n  - name: plain\n");
    world.converge().await;
    assert_eq!(world.ask(reqwest::Method::POST, "/api/v1/suspend?for=1h").await.0, 200);
    let renames = "roles:\n  - name: a\n  - { name: new, renamedFrom: old, protected: true }\n";
    world.write("roles.yaml", renames);
    world.until("planned", async |world| world.project().await["lastPass"]["changes"] == 2).await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    world.until("left", async |world| world.project().await["undeclared"] == 1).await;
    assert_eq!(world.ask(reqwest::Method::POST, "/api/v1/resume").await.0, 200);

    world.until("pruned", async |world| !is_there(world, "roles", "plain").await).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    assert!(is_there(&world, "roles", "old").await, "protected");
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_counts_for_the_guards_and_only_once() {
    let mut world = World::with(sync()).await;
    world.reconfigure(|setup| {
        setup.project[2] = "guards: { maxDeletes: 2, maxDeletePercent: 100, deleteAfter: 0s }".to_owned();
    });
    let roles =
        |names: &[&str]| names.iter().fold("roles:\n".to_owned(), |text, name| text + &format!("  - name: {name}\n"));
    world.write("roles.yaml", &roles(&["a", "b", "c", "d", "e"]));
    world.converge().await;
    swallow_answers(&world, "/v1/mgmt/role/delete").await;
    world.write("roles.yaml", &roles(&["a", "b", "c", "d"]));
    world.until("deleted", async |world| !is_there(world, "roles", "e").await).await;
    world.kill().await;
    world.faults(json!([])).await;

    world.start().await;
    world.until("converged", async |world| world.is_converged().await).await;
    let rows = trail(&world, "roles", "e").await;
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert_eq!((&rows[1]["action"], &rows[1]["outcome"]), (&json!("delete"), &json!("ok")));
    // One of two is left.
    world.write("roles.yaml", &roles(&["a", "b", "c"]));
    world.until("the second", async |world| !is_there(world, "roles", "d").await).await;
    world.write("roles.yaml", &roles(&["a", "b"]));
    world.until("held", async |world| world.project().await["held"]["reason"] == "max_deletes").await;
    world.assert_nothing_left().await;
    assert!(is_there(&world, "roles", "c").await);
}

/// It was called done, because the newer files want something else by now.
#[tokio::test]
async fn an_update_that_was_cut_off_before_it_took_effect_is_not_called_done() {
    let mut world = World::with(sync()).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: one }\n");
    world.converge().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/update" }, "fault": "hang" }])).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n");
    world.until("sent", async |world| world.writes().await.len() == 2).await;
    world.kill().await;
    world.faults(json!([])).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: three }\n");

    world.start().await;
    world.until("three", async |world| world.entity("roles", "a").await.unwrap()["description"] == "three").await;
    world.until("converged", async |world| world.is_converged().await).await;

    let rows = trail(&world, "roles", "a").await;
    let done = rows.iter().filter(|row| row["action"] == "update" && row["outcome"] == "ok").count();
    assert_eq!(done, 1, "{rows:#?}");
    assert_eq!(rows.last().unwrap()["outcome"], "ok", "{rows:#?}");
}

/// An approval was good for whatever looked the same until it expired.
#[tokio::test]
async fn an_approval_is_used_up_once_its_change_is_done() {
    let mut world = World::with(sync()).await;
    world.reconfigure(|setup| setup.project[2] = "guards: { maxChangePercent: 40 }".to_owned());
    let roles = |description: &str| {
        (0..6).fold("roles:\n".to_owned(), |text, n| {
            text + &format!("  - {{ name: r{n}, description: {description} }}\n")
        })
    };
    world.write("roles.yaml", &roles("old"));
    world.converge().await;
    world.write("roles.yaml", &roles("new"));
    let is_held = async |world: &World| world.project().await["held"]["reason"] == "max_change_percent";
    world.until("held", is_held).await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    let approve = format!("/api/v1/approve?plan={fingerprint}");
    assert_eq!(world.ask(reqwest::Method::POST, &approve).await.0, 200);
    world.until("converged", async |world| world.is_converged().await).await;
    let writes = world.writes().await.len();

    // No pass looks in between.
    for n in 0..6 {
        world.edit_live(&format!("roles/r{n}"), json!({ "description": "old" })).await;
    }
    world.pass().await;
    world.until("held again", is_held).await;
    world.assert_nothing_left().await;

    assert_eq!(world.writes().await.len(), writes);
}

/// The rest was held again in the middle, once the hour was over.
#[tokio::test]
async fn what_was_approved_together_stays_approved_while_it_drains() {
    let mut world = World::with(sync()).await;
    world.reconfigure(|setup| {
        setup.project[2] =
            "guards: { maxDeletes: 0, maxDeletePercent: 100, deleteAfter: 0s, approvalExpiry: 2s }".to_owned();
        setup.top.push("concurrency: 1".to_owned());
    });
    let tenants =
        |n: usize| (0..n).fold("tenants:\n".to_owned(), |text, n| text + &format!("  - {{ id: t{n}, name: T{n} }}\n"));
    world.write("tenants.yaml", &tenants(9));
    world.converge().await;
    let slow = json!({ "match": { "path": "/v1/mgmt/tenant/delete" }, "fault": "delay", "delay": "600ms" });
    world.faults(json!([slow])).await;
    world.write("tenants.yaml", &tenants(1));
    world.until("held", async |world| world.project().await["held"]["deletes"] == 8).await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    let approved = tokio::time::Instant::now();
    let approve = format!("/api/v1/approve?plan={fingerprint}");
    assert_eq!(world.ask(reqwest::Method::POST, &approve).await.0, 200);
    world.until("released", async |world| world.project().await["held"].is_null()).await;

    let is_done =
        async |world: &World| !is_there(world, "tenants", "t8").await && !is_there(world, "tenants", "t1").await;
    while !is_done(&world).await {
        world.pass().await;
        assert!(world.project().await["held"].is_null(), "after {:?}", approved.elapsed());
    }
    world.until("converged", async |world| world.is_converged().await).await;

    assert!(approved.elapsed().as_secs() >= 4, "{:?}", approved.elapsed());
    assert!(is_there(&world, "tenants", "t0").await);
}

fn roles(n: usize) -> String {
    (0..n).fold("roles:\n".to_owned(), |text, n| text + &format!("  - name: r{n}\n"))
}

async fn six_roles_of_which_two_may_go() -> World {
    let mut setup = sync();
    "guards: { maxDeletes: 2, maxDeletePercent: 100, deleteAfter: 0s }".clone_into(&mut setup.project[2]);
    let mut world = World::with(setup).await;
    world.write("roles.yaml", &roles(6));
    world.converge().await;
    world
}

/// The guards counted before the look what the plan counted after it, so what was deleted in between went uncounted.
#[tokio::test]
async fn what_is_deleted_while_a_pass_looks_counts_for_the_guards() {
    let world = six_roles_of_which_two_may_go().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/delete*" }, "fault": "delay", "delay": "1500ms" }])).await;
    world.write("roles.yaml", &roles(4));
    world.until("under way", async |world| !is_there(world, "roles", "r5").await).await;
    // The next look begins before the answer to the deletes and ends after it.
    world
        .faults(json!([{ "match": { "path": "/v1/mgmt/role/all", "times": 1 }, "fault": "delay", "delay": "4s" }]))
        .await;

    world.write("roles.yaml", &roles(3));

    world.until("held", async |world| world.project().await["held"]["reason"] == "max_deletes").await;
    assert!(is_there(&world, "roles", "r3").await);
    world.assert_nothing_left().await;
}

/// What had taken effect and was not answered yet counted neither as planned nor as done.
#[tokio::test]
async fn a_delete_without_an_answer_counts_for_the_guards_beside_it_and_after_a_power_cut() {
    let mut world = six_roles_of_which_two_may_go().await;
    swallow_answers(&world, "/v1/mgmt/role/delete*").await;
    world.write("roles.yaml", &roles(4));
    world.until("under way", async |world| !is_there(world, "roles", "r5").await).await;
    let is_held = async |world: &World| world.project().await["held"]["reason"] == "max_deletes";

    world.write("roles.yaml", &roles(3));
    world.until("held beside it", is_held).await;
    world.kill().await;
    world.faults(json!([])).await;
    world.start().await;

    world.until("held after it", is_held).await;
    world.assert_nothing_left().await;
    assert!(is_there(&world, "roles", "r3").await);
    assert_eq!(trail(&world, "roles", "r5").await.last().unwrap()["outcome"], "ok");
}
