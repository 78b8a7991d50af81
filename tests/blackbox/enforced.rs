//! A way in is there before it is the only one, and goes after it was.

use crate::guards::approve;
use crate::guards::held;
use crate::guards::plan;
use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

const SSO: &str = "sso: [{ domains: [a.example], saml: { idpMetadataUrl: 'https://i.example/m' } }]";

async fn world(project: &[&str]) -> World {
    let project = project.iter().map(ToString::to_string).collect();
    World::with(Setup { project, ..Setup::default() }).await
}

fn tenant(more: &str) -> String {
    format!("tenants: [{{ id: acme, name: Acme, {more} }}]\n")
}

/// The calls of a run, each by the end of its path; what a patch of the tenant says in its place.
async fn sent_since(world: &World, before: usize) -> Vec<String> {
    let word = |(line, body): &(String, Value)| match body.get("enforceSSO") {
        Some(position) => format!("enforceSSO {position}"),
        None => line.rsplit('/').next().unwrap().to_owned(),
    };
    world.writes().await[before..].iter().map(word).collect()
}

async fn apply(world: &World, code: i32) -> Value {
    world.run_json(&["apply", "--auto-approve", "-o", "json"], code).await["projects"][0].clone()
}

/// It was held for a lock-out, or sent first.
#[tokio::test(flavor = "multi_thread")]
async fn sso_that_comes_with_its_configuration_is_enforced_after_it() {
    for before in [None, Some("enforceSSO: false"), Some("disabled: false")] {
        let world = world(&["firstContact: apply"]).await;
        if let Some(more) = before {
            world.write("a.yaml", &tenant(more));
            apply(&world, 0).await;
        }
        let written = world.writes().await.len();
        world.write("a.yaml", &tenant(&format!("enforceSSO: true, {SSO}")));

        let told = apply(&world, 0).await;

        assert_eq!(told["warnings"], json!([]), "{told}");
        let expected = ["create", "metadata", "enforceSSO true"];
        assert_eq!(sent_since(&world, written).await, expected[usize::from(before.is_some())..]);
        assert_eq!(apply(&world, 0).await["changes"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sso_is_not_enforced_where_its_configuration_is_refused() {
    let world = world(&["firstContact: apply"]).await;
    world.write("a.yaml", &tenant("disabled: false"));
    apply(&world, 0).await;
    world.write("a.yaml", &tenant(&format!("enforceSSO: true, {SSO}")));
    let refusals = [("status", 400, "status 400"), ("status", 500, "status 500"), ("reset_before", 500, "connection")];
    for (fault, status, said) in refusals {
        let rule = json!({ "match": { "path": "/v1/mgmt/sso/saml/metadata" }, "fault": fault, "status": status });
        world.faults(json!([rule])).await;
        let told = apply(&world, 1).await;
        let message = told["changes"][0]["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
    assert_ne!(world.entity("tenants", "acme").await.unwrap()["enforceSSO"], true);
    world.faults(json!([])).await;
    apply(&world, 0).await;
    assert_eq!(world.entity("tenants", "acme").await.unwrap()["enforceSSO"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn sso_is_not_enforced_while_its_configuration_is_held() {
    let mut world = world(&[]).await;
    world.set_live(json!({ "tenants": [{ "id": "acme", "name": "Acme", "createdTime": 7 }] })).await;
    world.edit_live("tenants/acme", json!({ "selfProvisioningDomains": [] })).await;
    world.write("a.yaml", &tenant("disabled: false"));
    apply(&world, 0).await;
    let written = world.writes().await.len();
    let roles = "roles: [{ name: Viewer }]\n";
    world.write("a.yaml", &(tenant(&format!("enforceSSO: true, {SSO}")) + roles));
    world.start().await;
    let fingerprint = held(&world, "first_contact").await;
    world.until("the rest", async |world| world.entity("roles", "Viewer").await.is_some()).await;
    world.fresh_pass().await;
    let plan = plan(&world).await;
    let blocked = plan["changes"].as_array().unwrap().iter().find(|change| change["held"] == "blocked").unwrap();
    assert_eq!(blocked["fields"][0]["path"], "enforceSSO");
    let why = blocked["why"].as_str().unwrap();
    assert_eq!(why, "waits: with enforceSSO in the same files it waits for its sso (first_contact)");
    assert_eq!(sent_since(&world, written).await, ["create"]);

    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("all of it", async |world| world.is_converged().await).await;
    assert_eq!(sent_since(&world, written).await, ["create", "metadata", "enforceSSO true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_the_only_way_in_goes_after_that_is_said() {
    let world = world(&["firstContact: apply", "guards: { weakening: warn }"]).await;
    world.write("a.yaml", &tenant(&format!("enforceSSO: true, {SSO}")));
    apply(&world, 0).await;
    let written = world.writes().await.len();
    let off = SSO.replace("saml:", "authType: none, saml:");
    world.write("a.yaml", &tenant(&format!("enforceSSO: false, {off}")));
    world.faults(json!([{ "match": { "path": "/v1/mgmt/tenant/patch" }, "fault": "status", "status": 400 }])).await;
    apply(&world, 1).await;
    assert_eq!(world.entity("tenants", "acme").await.unwrap()["authType"], "saml", "it is still enforced");
    world.faults(json!([])).await;
    apply(&world, 0).await;
    let sent = sent_since(&world, written).await;
    assert_eq!(sent[sent.len() - 2..], ["enforceSSO false", "authtype"]);
}

/// The call in between was held, and nothing waited for SSO any more.
#[tokio::test(flavor = "multi_thread")]
async fn sso_is_not_enforced_before_it_is_there_though_a_call_in_between_is_held() {
    let world = world(&["firstContact: apply"]).await;
    world.write("a.yaml", &tenant("passwordSettings: { enabled: true, minLength: 9, anyLetter: true }"));
    apply(&world, 0).await;
    world
        .faults(json!([{ "match": { "path": "/v1/mgmt/sso/saml/metadata" }, "fault": "status", "status": 400 }]))
        .await;
    let more = format!("enforceSSO: true, {SSO}, passwordSettings: {{ enabled: false }}");
    world.write("a.yaml", &tenant(&more));
    let told = apply(&world, 1).await;
    let has = |change: &Value, held: &Value, path: &str| change["held"] == *held && change["fields"][0]["path"] == path;
    let is_held = |change: &Value| has(change, &json!("would_reset"), "passwordSettings.enabled");
    assert!(told["changes"].as_array().unwrap().iter().any(is_held), "{told}");
    assert_ne!(world.entity("tenants", "acme").await.unwrap()["enforceSSO"], true);
}

/// It was held: SSO was not there yet.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_switched_off_after_sso_is_on() {
    let world = world(&["firstContact: apply"]).await;
    let passwords = |enabled: bool| {
        format!(
            "passwordSettings: {{ enabled: {enabled}, minLength: 9, anyLetter: true, disallowEmailMatch: true, \
             disallowedCharacters: x }}"
        )
    };
    world.write("a.yaml", &tenant(&passwords(true)));
    apply(&world, 0).await;
    let written = world.writes().await.len();
    world.write("a.yaml", &tenant(&format!("{}, {SSO}", passwords(false))));
    apply(&world, 0).await;
    assert_eq!(sent_since(&world, written).await, ["metadata", "settings"]);
}

/// It was made with `enforceSSO: true`, and stayed so without a way in.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_is_not_enforced_before_its_sso_is_there_whatever_comes_in_between() {
    for policy in ["create-only", "sync"] {
        let world = world(&[&format!("policy: {policy}")]).await;
        world.write("a.yaml", &tenant(&format!("enforceSSO: true, {SSO}")));
        let told = world.run_json(&["plan", "-o", "json"], 0).await["projects"][0].clone();
        assert_eq!((&told["forecast"]["requests"], &told["warnings"]), (&json!(3), &json!([])), "{told}");
        let changes = told["changes"].as_array().unwrap();
        let shows = |path: &str| changes[0]["fields"].as_array().unwrap().iter().any(|field| field["path"] == path);
        assert!(changes.len() == 1 && changes[0]["action"] == "create" && shows("enforceSSO"), "{told}");
        let refuse = |path: &str| json!([{ "match": { "path": path }, "fault": "status", "status": 400 }]);
        world.faults(refuse("/v1/mgmt/sso/saml/metadata")).await;
        world.run_json(&["apply", "--auto-approve", "-o", "json"], 5).await;
        assert_eq!(sent_since(&world, 0).await, ["create", "metadata"], "{policy}");
        assert_ne!(world.entity("tenants", "acme").await.unwrap()["enforceSSO"], true);
        world.faults(refuse("/v1/mgmt/tenant/patch")).await;
        apply(&world, 5).await;
        assert_ne!(world.entity("tenants", "acme").await.unwrap()["enforceSSO"], true);
        world.faults(json!([])).await;
        apply(&world, 0).await;
        let sent = sent_since(&world, 0).await;
        assert_eq!(sent[2..], ["metadata", "enforceSSO true", "enforceSSO true"], "{policy}");
        assert_eq!(world.entity("tenants", "acme").await.unwrap()["enforceSSO"], true);
        assert_eq!(apply(&world, 0).await["changes"], json!([]));
    }
}

/// It was a call of its own for each of ten thousand tenants.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_whose_files_bring_no_way_in_is_made_by_one_call_and_enforced_by_it() {
    let world = world(&[]).await;
    world.write("a.yaml", &tenant("enforceSSO: true, settings: { enabled: true }"));
    let told = world.run_json(&["plan", "-o", "json"], 0).await["projects"][0].clone();
    assert_eq!(told["forecast"]["requests"], 2, "{told}");
    apply(&world, 0).await;
    assert_eq!(sent_since(&world, 0).await, ["enforceSSO true", "settings"]);
    let row = world.run_json(&["audit", "-o", "json", "--kind", "tenants"], 0).await["changes"][0].clone();
    assert!(row["action"] == "create" && row["fields"].to_string().contains("enforceSSO"), "{row}");
    assert_eq!(apply(&world, 0).await["changes"], json!([]));
    assert_eq!(world.writes().await.len(), 2);
}

/// The call of SSO was left out for want of its secret, and SSO was enforced all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_is_not_enforced_while_its_sso_lacks_a_secret() {
    let mut world = world(&["firstContact: apply", "secrets: { env: [OIDC_SECRET] }"]).await;
    let oidc = "oidc: { clientId: c, clientSecret: { env: OIDC_SECRET }, userDataUrl: 'https://u.example', userAttrMapping: {} }";
    world.write("a.yaml", &tenant(&format!("enforceSSO: true, sso: [{{ domains: [a.example], {oidc} }}]")));
    let told = world.run_json(&["apply", "--auto-approve", "-o", "json"], 5).await["projects"][0].clone();
    assert!(told["warnings"].to_string().contains("tenants/acme: enforceSSO waits for sso"), "{told}");
    assert_eq!(sent_since(&world, 0).await, ["create"]);
    world.environment.push(("OIDC_SECRET".to_owned(), "hunter2".to_owned()));
    apply(&world, 0).await;
    assert_eq!(sent_since(&world, 1).await, ["oidc", "enforceSSO true"]);
}
