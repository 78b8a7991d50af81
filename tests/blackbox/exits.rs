//! How each command ends, for each way it can end: what scripts and CI systems read.

use crate::harness::World;
use serde_json::json;
use std::fs;

async fn code(world: &World, args: &[&str]) -> i32 {
    world.run(args).await.status.code().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_files_and_project() {
    let mut world = World::new().await;
    let out = world.path("out");
    let out = out.to_str().unwrap();
    world.write(
        "a.yaml",
        "roles:\n  - { name: A }\n  - { name: B, permissionNames: [p] }\npermissions: [{ name: p }]\n",
    );

    assert_eq!(code(&world, &["validate"]).await, 0);
    assert_eq!(code(&world, &["plan"]).await, 0);
    assert_eq!(code(&world, &["plan", "--exit-code"]).await, 2);
    assert_eq!(code(&world, &["apply"]).await, 64, "nobody is there to say yes");
    assert_eq!(code(&world, &["apply", "--auto-approve", "-o", "xml"]).await, 64);
    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 0);
    assert_eq!(code(&world, &["plan", "--exit-code"]).await, 0);
    assert_eq!(code(&world, &["audit"]).await, 0);
    assert_eq!(code(&world, &["audit", "--since", "5M"]).await, 64);
    assert_eq!(code(&world, &["export", "--dir", out, "--verify"]).await, 0);
    assert_eq!(code(&world, &["export", "--dir", out]).await, 1, "there are files");
    assert_eq!(code(&world, &["export"]).await, 64);
    assert_eq!(code(&world, &["export", "--dir", out, "--update", out]).await, 64);
    assert_eq!(code(&world, &["export", "--update", out]).await, 0);

    // One is refused, the other lands.
    world.faults(json!([{ "fault": "status", "status": 400, "match": { "item": "C" } }])).await;
    world.write("b.yaml", "roles: [{ name: C }, { name: D }]\n");
    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 5);
    world.faults(json!([])).await;
    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 0);

    // A whole kind leaves: held, and nothing else is to be done.
    world.reconfigure(|setup| setup.project = vec!["firstContact: apply".to_owned(), "policy: sync".to_owned()]);
    world.write("b.yaml", "roles: [{ name: C, description: x }]\n");
    fs::write(world.path("repo/a.yaml"), "permissions: []\nroles: [{ name: A }, { name: B }]\n").unwrap();
    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 4);

    world.write("b.yaml", "rols: []\n");
    for args in [&["validate"][..], &["plan"], &["plan", "--exit-code"], &["apply", "--auto-approve"]] {
        assert_eq!(code(&world, args).await, 3, "{args:?}");
    }
    assert_eq!(code(&world, &["export", "--update", world.path("repo").to_str().unwrap()]).await, 3);
    world.remove("b.yaml");
    world.faults(json!([{ "fault": "status", "status": 400, "match": { "path": "/v1/mgmt/role/all" } }])).await;
    assert_eq!(code(&world, &["plan"]).await, 1);
    assert_eq!(code(&world, &["export", "--dir", &format!("{out}2")]).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_talk_to_a_daemon() {
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.project = Vec::new());
    world.set_live(json!({ "roles": [{ "name": "A", "description": "live" }] })).await;
    world.write("a.yaml", "roles: [{ name: A, description: ours }]\n");
    for args in [
        &["status"][..],
        &["plan"],
        &["approve", "00"],
        &["reconcile"],
        &["suspend", "--for", "1h"],
        &["resume"],
        &["healthcheck"],
    ] {
        let args = [args, &["--url", "http://127.0.0.1:1"]].concat();
        assert_eq!(code(&world, &args).await, 1, "nobody listens: {args:?}");
    }
    world.start().await;
    world.until("the first contact is held", async |world| !world.project().await["held"].is_null()).await;
    let url = world.daemon_url().await;
    let ends = async |world: &World, args: &[&str]| code(world, &[args, &["--url", &url]].concat()).await;

    assert_eq!(ends(&world, &["status"]).await, 0);
    assert_eq!(ends(&world, &["status", "--exit-code"]).await, 2);
    for command in ["status", "reconcile", "resume"] {
        assert_eq!(ends(&world, &[command, "--project", "nobody"]).await, 64, "{command}");
    }
    assert_eq!(ends(&world, &["plan"]).await, 0);
    assert_eq!(ends(&world, &["plan", "--exit-code"]).await, 2);
    assert_eq!(ends(&world, &["healthcheck"]).await, 0);
    assert_eq!(ends(&world, &["approve", "0000000000000000"]).await, 1);
    for wait in ["1M", "8d", "0s"] {
        assert_eq!(ends(&world, &["suspend", "--for", wait]).await, 64, "{wait}");
    }
    assert_eq!(ends(&world, &["suspend", "--for", "1h"]).await, 0);
    assert_eq!(ends(&world, &["resume"]).await, 0);
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(ends(&world, &["approve", &fingerprint]).await, 0);
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(ends(&world, &["status", "--exit-code"]).await, 0);
    assert_eq!(ends(&world, &["plan", "--exit-code"]).await, 0);
    assert_eq!(ends(&world, &["reconcile"]).await, 0);
}

/// All of these ended with 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_typo_is_no_success_and_what_the_policy_holds_is_held() {
    let mut world = World::new().await;
    world.write("a.yaml", "roles: [{ name: A }]\n");
    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 0);

    for args in [&["plan"][..], &["plan", "--exit-code"], &["apply", "--auto-approve"]] {
        assert_eq!(code(&world, &[args, &["--target", "roles/a"]].concat()).await, 64, "{args:?}");
        assert_eq!(code(&world, &[args, &["--target", "roles/A"]].concat()).await, 0, "{args:?}");
    }
    assert_eq!(code(&world, &["audit", "--kind", "rols"]).await, 64);
    assert_eq!(code(&world, &["--log-level", "wran", "plan"]).await, 64);
    assert_eq!(code(&world, &["--log-level", "warn,hyper=debug", "plan"]).await, 0);

    world.reconfigure(|setup| setup.project = vec!["policy: observe".to_owned(), "firstContact: apply".to_owned()]);
    world.write("b.yaml", "permissions: [{ name: p }]\n");
    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 4);

    // What ships with Descope.
    world.write("b.yaml", "ssoApplications: [{ id: descope-default-oidc, name: Changed, type: oidc }]\n");
    assert_eq!(code(&world, &["validate"]).await, 3);
}

/// It was 1, as if nothing had been done.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_of_a_resource_is_done_in_part_though_the_rest_of_it_fails() {
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.project.push("secrets: { env: ['SSO_*'] }".to_owned()));
    let file = |name: &str| {
        format!(
            "tenants: [{{ id: acme, name: {name}, sso: [{{ domains: [a.example], oidc: {{ name: o, clientId: c, clientSecret: {{ env: \
             SSO_SECRET }}, userAttrMapping: {{}}, userDataUrl: 'https://o.example/' }} }}] }}]\n"
        )
    };
    world.write("a.yaml", &file("Acme"));

    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 5, "the tenant was made, its secret is not set");
    assert!(world.entity("tenants", "acme").await.is_some());
    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 1, "nothing more was done");
    world.write("a.yaml", &file("New"));
    assert_eq!(code(&world, &["apply", "--auto-approve"]).await, 5, "it has its new name");
}
