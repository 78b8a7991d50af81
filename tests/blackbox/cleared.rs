//! What `null` means: it clears, or the files are wrong. Nothing that was not sent is told as done.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

const SAML: &str = "saml: { idpUrl: 'https://i.example/', entityId: e, idpCert: C, attributeMapping: { email: mail } }";

fn tenant(more: &str) -> String {
    format!("tenants:\n  - id: acme\n    name: Acme\n    {more}\n")
}

async fn world() -> World {
    let project = ["firstContact: apply", "guards: { weakening: warn, lockout: warn }"].map(str::to_owned).to_vec();
    World::with(Setup { project, ..Setup::default() }).await
}

async fn apply(world: &World) -> Value {
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await["projects"][0]["changes"].clone()
}

/// It was planned, told and audited as done in every run, and nothing was sent.
#[tokio::test]
async fn what_no_call_can_clear_is_an_error_and_an_empty_list_of_it_a_remark() {
    let world = world().await;
    world.write("a.yaml", &tenant(&format!("sso: [{{ domains: [a.example], {SAML} }}]")));
    assert_eq!(apply(&world).await.as_array().unwrap().len(), 1);
    for (more, field) in [
        ("sso: null".to_owned(), "sso"),
        (format!("sso: [{{ {SAML}, oidc: null }}]"), "sso[].oidc"),
        (format!("sso: [{{ authType: null, {SAML} }}]"), "sso[].authType"),
        ("settings: { authType: null }".to_owned(), "settings.authType"),
    ] {
        world.write("a.yaml", &tenant(&more));
        let found = world.run_json(&["validate", "-o", "json"], 3).await;
        assert_eq!(found["errors"][0]["field"], field, "{found}");
        assert_eq!(found["errors"].as_array().unwrap().len(), 1, "{found}");
    }

    world.write("a.yaml", &tenant("sso: []"));
    let found = world.run_json(&["validate", "-o", "json"], 0).await;
    let message = found["warnings"][0]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("manages nothing: a configuration is never deleted"), "{found}");
    assert_eq!(apply(&world).await, json!([]));
}

/// It was sent in every run, and called what somebody else had changed.
#[tokio::test]
async fn a_mapping_that_is_cleared_is_cleared_once() {
    let world = world().await;
    let sso = format!("sso: [{{ domains: [a.example], {SAML} }}]");
    world.write(
        "a.yaml",
        &tenant(&format!(
            "settings: {{ enabled: true, inactivityTime: 7, inactivityTimeUnit: days }}\n    passwordSettings: {{ minLength: \
             9, enabled: true }}\n    defaultRoles: []\n    {sso}"
        )),
    );
    assert_eq!(apply(&world).await.as_array().unwrap().len(), 1);
    for (more, calls) in [
        ("settings: null", vec!["POST /v1/mgmt/tenant/settings"]),
        ("passwordSettings: null", vec!["POST /v1/mgmt/password/settings"]),
        ("settings: { ssoSetupSuiteSettings: null }", vec![]),
        ("defaultRoles: null", vec![]),
        ("customAttributes: null", vec![]),
    ] {
        let before = world.writes().await.len();
        world.write("a.yaml", &tenant(more));
        assert_eq!(apply(&world).await.as_array().unwrap().len(), calls.len(), "{more}");
        let sent: Vec<String> = world.writes().await[before..].iter().map(|(line, _)| line.clone()).collect();
        assert_eq!(sent, calls, "{more}");
        assert_eq!(apply(&world).await, json!([]), "{more}");
    }
    let acme = world.entity("tenants", "acme").await.unwrap();
    assert_eq!(acme["authType"], "saml", "a choice with a word for nothing is cleared by that word: {acme}");

    world.write(
        "a.yaml",
        &tenant("sso: [{ saml: { idpUrl: 'https://i.example/', entityId: e, idpCert: C, attributeMapping: null } }]"),
    );
    assert_eq!(apply(&world).await.as_array().unwrap().len(), 1);
    assert_eq!(apply(&world).await, json!([]));
}

/// It was told as done, nothing was sent, and the next run wanted to switch passwords off.
#[tokio::test]
async fn what_a_new_tenant_takes_over_from_the_project_is_written_where_it_is_declared_as_empty() {
    for (rules, is_on) in
        [("null", false), ("{ enabled: false, lowercase: false }", false), ("{ lowercase: false }", true)]
    {
        let world = world().await;
        world.edit_live("passwordSettings/", json!({ "enabled": true, "minLength": 9, "lowercase": true })).await;
        world.write("a.yaml", &tenant(&format!("passwordSettings: {rules}")));
        assert_eq!(apply(&world).await.as_array().unwrap().len(), 1);
        let sent = world.writes().await;
        let lines: Vec<&str> = sent.iter().map(|(line, _)| line.as_str()).collect();
        assert_eq!(lines, ["POST /v1/mgmt/tenant/create", "POST /v1/mgmt/password/settings"], "{rules}");
        let is = |name: &str, is_on: bool| sent[1].1.get(name).is_some_and(|value| *value == true) == is_on;
        assert!(is("enabled", is_on) && is("lowercase", false), "{rules}: {}", sent[1].1);
        assert_eq!(apply(&world).await, json!([]), "{rules}");
    }
}

/// It was an error that named domains which nobody had written there.
#[tokio::test]
async fn null_for_all_settings_is_no_word_on_what_is_said_elsewhere() {
    let world = world().await;
    let sso = format!("sso: [{{ domains: [a.example], {SAML} }}]");
    world.write("a.yaml", &tenant(&format!("selfProvisioningDomains: [b.example]\n    {sso}")));
    apply(&world).await;
    world.write("a.yaml", &tenant(&format!("settings: null\n    selfProvisioningDomains: [b.example]\n    {sso}")));
    apply(&world).await;
    let acme = world.entity("tenants", "acme").await.unwrap();
    assert_eq!((&acme["domains"], &acme["selfProvisioningDomains"]), (&json!(["a.example"]), &json!(["b.example"])));
    assert_eq!(apply(&world).await, json!([]));
    world.write("a.yaml", &tenant(&format!("settings: {{ domains: [] }}\n    {sso}")));
    let refused = world.run(&["validate"]).await;
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("domains differs from"));
}
