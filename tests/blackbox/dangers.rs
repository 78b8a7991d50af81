//! What lowers protection or locks people out waits for an approval, part by part.

use crate::guards::approve;
use crate::guards::held;
use crate::guards::plan;
use crate::guards::reason;
use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

const BEFORE: &str = "\
roles: [{ name: r }]
tenants:
  - { id: acme, name: Acme, enforceSSO: true }
  - { id: globex, name: Globex, disabled: false, defaultRoles: [] }
passwordSettings: { enabled: true, minLength: 12, lowercase: true, lock: true, lockAttempts: 3 }
ssoApplications:
  - id: app
    type: oidc
    name: App
    clientType: confidential
    approvedRedirectUrls: ['https://a.example/cb', 'https://b.example/cb', 'https://c.example/cb']
";

/// What becomes of the file above, the kind that changes, why that is held, and what the plan says.
const CASES: [(&str, &str, &str, &str, &str); 8] = [
    ("enforceSSO: true", "enforceSSO: false", "tenants", "weakening", "enforceSSO is turned off"),
    ("disabled: false", "disabled: true", "tenants", "lockout", "disabled is turned on"),
    ("minLength: 12", "minLength: 8", "passwordSettings", "weakening", "minLength goes down from 12 to 8"),
    ("lockAttempts: 3", "lockAttempts: 9", "passwordSettings", "weakening", "lockAttempts goes up from 3 to 9"),
    ("lowercase: true", "lowercase: false", "passwordSettings", "weakening", "lowercase is turned off"),
    ("confidential", "public", "ssoApplications", "weakening", "clientType becomes public"),
    (
        "'https://c.example/cb'",
        "'https://c.example/cb', 'https://*.example/cb'",
        "ssoApplications",
        "weakening",
        "gains the wildcard",
    ),
    (", 'https://b.example/cb', 'https://c.example/cb'", "", "ssoApplications", "lockout", "2 of 3 entries"),
];

async fn world(guards: &str) -> World {
    let project = vec!["firstContact: apply".to_owned(), format!("guards: {{ {guards} }}")];
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    world.write("a.yaml", BEFORE);
    // What a create brings is a warning.
    world.converge().await;
    // So that SSO can be enforced anew.
    world.edit_live("tenants/acme", json!({ "authType": "saml" })).await;
    world
}

async fn warnings(world: &World) -> String {
    plan(world).await["warnings"].to_string()
}

/// The fields that the files declare.
async fn live(world: &World) -> Value {
    let live = world.live().await;
    let fields = |kind: &str, names: &[&str]| -> Vec<Value> {
        let rows = live[kind].as_array().unwrap();
        rows.iter().map(|row| names.iter().map(|name| row[*name].clone()).collect()).collect()
    };
    let app = world.entity("ssoApplications", "app").await.unwrap().to_string();
    let has = ["\"public\"", "https://b.example/cb", "https://c.example/cb", "https://*.example/cb"]
        .map(|it| app.contains(it));
    json!([
        fields("tenants", &["id", "enforceSSO", "disabled"]),
        fields("passwordSettings", &["minLength", "lowercase", "lockAttempts"]),
        has
    ])
}

#[tokio::test]
async fn what_lowers_protection_or_locks_people_out_waits_and_an_approval_lets_it_go() {
    let world = world("deleteAfter: 0s").await;
    let before = live(&world).await;
    for (from, to, kind, hold, what) in CASES {
        world.write("a.yaml", &BEFORE.replace(from, to));
        world.fresh_pass().await;
        let fingerprint = held(&world, hold).await;
        let plan = plan(&world).await;
        let change = plan["changes"].as_array().unwrap().iter().find(|change| change["kind"] == kind).unwrap().clone();
        assert_eq!(change["held"], hold, "{to}");
        assert!(change["why"].as_str().unwrap().contains(what), "{to}: {change}");
        assert_eq!(live(&world).await, before, "{to}");
        assert_eq!(world.metric(&format!("held_changes{{project=\"default\",reason=\"{hold}\"}}")).await, Some(1.0));
        assert_eq!(approve(&world, &fingerprint).await, 200);
        world.until("applied", async |world| live(world).await != before && world.is_converged().await).await;
        // The other way needs nobody, where it is not bad as well.
        world.write("a.yaml", BEFORE);
        world.fresh_pass().await;
        if reason(&world, kind, "app").await.as_deref() == Some("lockout") {
            let fingerprint = held(&world, "lockout").await;
            assert_eq!(approve(&world, &fingerprint).await, 200);
        }
        world.until("back", async |world| live(world).await == before && world.is_converged().await).await;
    }
}

#[tokio::test]
async fn the_part_is_held_and_the_rest_goes_ahead() {
    let world = world("deleteAfter: 0s").await;
    let after = BEFORE.replace("disabled: false, defaultRoles: []", "disabled: true, defaultRoles: [r]");
    world.write("a.yaml", &after.replace("name: Acme", "name: New"));
    world
        .until("the rest", async |world| {
            let (acme, globex) =
                (world.entity("tenants", "acme").await.unwrap(), world.entity("tenants", "globex").await.unwrap());
            acme["name"] == "New" && globex["defaultRoles"] == json!(["r"])
        })
        .await;
    world.fresh_pass().await;
    held(&world, "lockout").await;
    assert_eq!(world.entity("tenants", "globex").await.unwrap()["disabled"], false);
}

#[tokio::test]
async fn sso_is_enforced_once_there_is_a_configuration() {
    let world = world("deleteAfter: 0s").await;
    let after = BEFORE.replace("name: Globex,", "name: Globex, enforceSSO: true,");
    world.write("a.yaml", &after);
    world.fresh_pass().await;
    held(&world, "lockout").await;
    // Somebody configures it: the hold ends by itself.
    world.edit_live("tenants/globex", json!({ "authType": "saml" })).await;
    world.fresh_pass().await;
    world.until("enforced", async |world| world.entity("tenants", "globex").await.unwrap()["enforceSSO"] == true).await;
    world.until("at rest", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn drift_that_protects_is_not_healed_away_unasked() {
    let world = world("deleteAfter: 0s").await;
    world.edit_live("passwordSettings/", json!({ "minLength": 20 })).await;
    world.fresh_pass().await;
    held(&world, "weakening").await;
    assert_eq!(world.live().await["passwordSettings"][0]["minLength"], 20);
    assert_eq!(world.project().await["converged"], false);
}

#[tokio::test]
async fn a_guard_warns_or_is_silent_where_the_config_says_so() {
    let mut world = world("weakening: warn, lockout: off").await;
    world
        .write("a.yaml", &BEFORE.replace("minLength: 12", "minLength: 8").replace("disabled: false", "disabled: true"));
    world
        .until("applied", async |world| {
            world.live().await["passwordSettings"][0]["minLength"] == 8
                && world.entity("tenants", "globex").await.unwrap()["disabled"] == true
        })
        .await;
    world.stop().await;

    // What the daemon would say: the same files against the older live side.
    world.edit_live("passwordSettings/", json!({ "minLength": 12 })).await;
    let report = world.run_json(&["plan", "-o", "json"], 0).await;
    let warnings = report["projects"][0]["warnings"].to_string();
    assert!(warnings.contains("minLength goes down from 12 to 8") && !warnings.contains("disabled"), "{warnings}");

    world.reconfigure(|setup| setup.project[1] = "guards: { weakening: maybe }".to_owned());
    let output = world.run(&["plan"]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("projects[0].guards.weakening must be hold or warn or off, not `maybe`"), "{text}");
}

#[tokio::test]
async fn what_a_create_brings_is_a_warning() {
    let world = world("deleteAfter: 0s").await;
    let more = BEFORE.replace("passwordSettings:", "  - { id: new, name: New, disabled: true }\npasswordSettings:");
    world.write("a.yaml", &more);
    world
        .until("told", async |world| {
            warnings(world).await.contains("tenants/new may lock people out: disabled is turned on")
        })
        .await;
    world.until("created", async |world| world.entity("tenants", "new").await.is_some()).await;
    world.until("at rest", async |world| world.is_converged().await).await;
}
