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
async fn what_goes_ahead_is_not_told_to_wait() {
    let mut world = world("deleteAfter: 0s").await;
    world.stop().await;
    world.write("a.yaml", &BEFORE.replace("disabled: false, defaultRoles: []", "disabled: true, defaultRoles: [r]"));
    for format in ["text", "markdown"] {
        let plan = world.run(&["plan", "-o", format]).await;
        let plan = String::from_utf8(plan.stdout).unwrap();
        let halves: Vec<&str> = plan.lines().filter(|line| line.contains("tenants/globex")).collect();
        let held = |line: &&&str| line.contains("held: lockout");
        assert_eq!(halves.iter().filter(held).count(), 1, "{plan}");
        assert!(plan.contains("defaultRoles") && !plan.contains("waits: "), "{plan}");
    }
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

/// What of it is dangerous, beyond the above.
const MORE: &str = "\
passwordSettings: { enabled: true }
tenants:
  - id: acme
    name: Acme
    selfProvisioningDomains: [acme.example]
    enforceSSOExclusions: [ann@acme.example]
    settings: { enabled: true, enableInactivity: true, inactivityTime: 30, inactivityTimeUnit: minutes, JITDisabled: true, refreshTokenExpiration: 4, refreshTokenExpirationUnit: weeks, stepupTokenExpiration: 5, stepupTokenExpirationUnit: minutes }
    sso:
      - ssoId: main
        domains: [acme.example]
        redirectUrl: https://acme.example/after
        saml: { idpUrl: 'https://idp.acme.example/sso', entityId: acme, idpCert: CERT, disableSignRequest: false }
  - id: globex
    name: Globex
    passwordSettings: { enabled: false, minLength: 12 }
    sso: [{ ssoId: main, domains: [globex.example], saml: { idpMetadataUrl: 'https://idp.globex.example/metadata' } }]
  - { id: initech, name: Initech, passwordSettings: { anyLetter: true, disallowEmailMatch: true, disallowedCharacters: '<>', minLength: 12, enabled: true } }
ssoApplications:
  - id: portal
    type: oidc
    name: Portal
    enabled: true
    forceAuthentication: true
    forcePkce: true
    clientCredentialsDisabled: true
    authorizationCodeDisabled: false
    approvedRedirectUrls: ['https://a.example/cb']
  - { id: wiki, type: saml, name: Wiki, entityId: e, acsUrl: 'https://wiki.example/acs', certificate: c, defaultSignatureAlgorithm: sha256 }
accessKeys:
  - { name: ci, secretFile: ci.key, permittedIps: [10.0.0.1] }
  - { name: old, secretFile: old.key, status: inactive }
permissions: [{ name: p }]
userAttributes: [{ name: plan, type: string, viewPermissions: [p], editPermissions: [p] }]
inboundApps:
  - { name: partner, secretFile: partner.key, approvedCallbackUrls: ['https://p.example/a', 'https://p.example/b'], forcePkce: true }
outboundApps: [{ id: calendar, name: Calendar, pkce: true, defaultRedirectUrl: 'https://calendar.example/cb' }]
jwtTemplates: [{ name: members, type: user, template: { a: '1' }, enforceIssuer: true }]
";

/// What becomes of the file, why that is held, and what the plan says.
const BROTHERS: [(&str, &str, &str, &str); 35] = [
    ("anyLetter: true", "anyLetter: false", "weakening", "passwordSettings.anyLetter is turned off"),
    ("disallowEmailMatch: true", "disallowEmailMatch: false", "weakening", "disallowEmailMatch is turned off"),
    ("disallowedCharacters: '<>'", "disallowedCharacters: ''", "weakening", "disallowedCharacters is emptied"),
    ("inactivityTime: 30", "inactivityTime: 45", "weakening", "inactivityTime goes up from 30 minutes to 45 minutes"),
    ("inactivityTimeUnit: minutes", "inactivityTimeUnit: hours", "weakening", "from 30 minutes to 30 hours"),
    (
        "refreshTokenExpiration: 4",
        "refreshTokenExpiration: 5",
        "weakening",
        "refreshTokenExpiration goes up from 4 weeks",
    ),
    ("stepupTokenExpirationUnit: minutes", "stepupTokenExpirationUnit: days", "weakening", "from 5 minutes to 5 days"),
    ("status: inactive", "status: active", "weakening", "status becomes active"),
    ("Algorithm: sha256", "Algorithm: ''", "weakening", "defaultSignatureAlgorithm is emptied"),
    ("viewPermissions: [p]", "viewPermissions: []", "weakening", "viewPermissions is emptied"),
    ("editPermissions: [p]", "editPermissions: []", "weakening", "editPermissions is emptied"),
    ("[10.0.0.1]", "[]", "weakening", "permittedIps is emptied"),
    ("[10.0.0.1]", "[10.0.0.1, 0.0.0.0/0]", "weakening", "permittedIps gains the wildcard 0.0.0.0/0"),
    ("/b'], forcePkce: true", "/b'], forcePkce: false", "weakening", "forcePkce is turned off"),
    (
        "'https://p.example/a', 'https://p.example/b'",
        "'https://p.example/c'",
        "lockout",
        "2 of 2 entries of approvedCallbackUrls go",
    ),
    ("passwordSettings: { enabled: true }", "passwordSettings: { enabled: false }", "lockout", "enabled is turned off"),
    ("[acme.example]\n    enf", "[acme.example, '*.example']\n    enf", "weakening", "the wildcard *.example"),
    ("[ann@acme.example]", "[ann@acme.example, bob@acme.example]", "weakening", "gains bob@acme.example"),
    ("enableInactivity: true", "enableInactivity: false", "weakening", "settings.enableInactivity is turned off"),
    ("JITDisabled: true", "JITDisabled: false", "weakening", "settings.JITDisabled is turned off"),
    ("        saml:", "        authType: none\n        saml:", "weakening", "sso[main].authType becomes none"),
    ("/after", "/*", "weakening", "sso[main].redirectUrl gains the wildcard"),
    ("idpCert: CERT", "idpCert: ''", "weakening", "sso[main].saml.idpCert is emptied"),
    ("SignRequest: false", "SignRequest: true", "weakening", "sso[main].saml.disableSignRequest is turned on"),
    (
        "domains: [globex.example], ",
        "domains: [globex.example], authType: none, ",
        "weakening",
        "sso[main].authType was the way to log in, and passwordSettings.enabled is off",
    ),
    (
        "minLength: 12, enabled: true",
        "minLength: 12, enabled: false",
        "lockout",
        "authType names no other way to log in",
    ),
    ("    enabled: true\n", "    enabled: false\n", "lockout", "enabled is turned off"),
    ("forceAuthentication: true", "forceAuthentication: false", "weakening", "forceAuthentication is turned off"),
    ("forcePkce: true", "forcePkce: false", "weakening", "forcePkce is turned off"),
    ("CredentialsDisabled: true", "CredentialsDisabled: false", "weakening", "clientCredentialsDisabled is turned off"),
    ("CodeDisabled: false", "CodeDisabled: true", "lockout", "authorizationCodeDisabled is turned on"),
    ("certificate: c", "certificate: ''", "weakening", "certificate is emptied"),
    ("pkce: true", "pkce: false", "weakening", "pkce is turned off"),
    ("calendar.example/cb", "*.example/cb", "weakening", "defaultRedirectUrl gains the wildcard"),
    ("enforceIssuer: true", "enforceIssuer: false", "weakening", "enforceIssuer is turned off"),
];

/// Until a change is held for one of these reasons, and the plan says this of it.
async fn until_held_for(world: &World, reasons: &[&str], why: &str) {
    world
        .until(&format!("held: {why}"), async |world| {
            let is_held = |change: &Value| reasons.iter().any(|reason| change["held"] == *reason);
            let is_it = |change: &Value| change["why"].as_str().is_some_and(|said| said.contains(why));
            plan(world).await["changes"].as_array().unwrap().iter().any(|change| is_held(change) && is_it(change))
        })
        .await;
}

#[tokio::test]
async fn every_switch_of_its_kind_waits_and_nothing_of_it_is_sent() {
    let mut world = World::with(Setup::default()).await;
    let secrets = world.path("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    let project = vec!["firstContact: apply".to_owned(), format!("secrets: {{ dir: {} }}", secrets.display())];
    world.reconfigure(|setup| setup.project = project);
    world.write("a.yaml", MORE);
    world.converge().await;
    world.assert_nothing_left().await;
    let before = world.writes().await.len();
    for (from, to, hold, what) in BROTHERS {
        let after = MORE.replace(from, to);
        assert!(after != MORE, "{from}");
        world.write("a.yaml", &after);
        world.fresh_pass().await;
        // What a call would reset is told first, and an approval of that is for both.
        until_held_for(&world, &[hold, "would_reset"], what).await;
    }
    world.write("a.yaml", MORE);
    world.fresh_pass().await;
    world.assert_nothing_left().await;
    assert_eq!(world.writes().await.len(), before);
}

/// An address of each sort that people are sent to.
const ADDRESSES: &str = "\
ssoApplications:
  - { id: s, name: S, type: saml, acsUrl: 'https://s.example/acs', errorRedirectURL: 'https://s.example/error' }
  - { id: w, name: W, type: wsfed, replyUrl: 'https://w.example/reply', errorRedirectUrl: 'https://w.example/error' }
outboundApps: [{ id: o, name: O, callbackDomain: o.example, defaultRedirectUrl: 'https://o.example/cb' }]
";

/// They were sent: a wildcard in an address that no list holds, and the only one emptied.
#[tokio::test]
async fn an_address_that_becomes_a_wildcard_or_goes_waits() {
    let mut world = World::with(Setup { project: vec!["firstContact: apply".to_owned()], ..Setup::default() }).await;
    world.write("a.yaml", ADDRESSES);
    world.converge().await;
    let before = world.writes().await.len();
    for (from, to, hold, what) in [
        ("https://s.example/error", "https://*.example/error", "weakening", "errorRedirectURL gains the wildcard"),
        ("https://w.example/error", "https://*.example/error", "weakening", "errorRedirectUrl gains the wildcard"),
        ("callbackDomain: o.example", "callbackDomain: '*.example'", "weakening", "callbackDomain gains the wildcard"),
        ("https://s.example/acs", "", "lockout", "acsUrl is emptied"),
        ("https://w.example/reply", "", "lockout", "replyUrl is emptied"),
        ("https://o.example/cb", "", "lockout", "defaultRedirectUrl is emptied"),
    ] {
        world.write("a.yaml", &ADDRESSES.replace(from, to));
        world.fresh_pass().await;
        until_held_for(&world, &[hold], what).await;
    }
    assert_eq!(world.writes().await.len(), before);
}

/// Weakening was allowed, and with SSO off and enforced nobody got in.
#[tokio::test]
async fn sso_that_is_enforced_is_not_switched_off_though_weakening_is_let_go() {
    let file = |more: &str| {
        format!(
            "tenants:\n  - id: acme\n    name: Acme\n    enforceSSO: true\n    sso:\n      - {{ ssoId: main, domains: [acme.example],\
             {more} saml: {{ idpMetadataUrl: 'https://idp.example/metadata' }} }}\n"
        )
    };
    let project = vec!["firstContact: apply".to_owned(), "guards: { weakening: warn }".to_owned()];
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    world.write("a.yaml", &file(""));
    world.converge().await;
    let before = world.writes().await.len();
    let off = [file(" authType: none,"), file("") + "    settings: { authType: none }\n"];
    for text in &off {
        world.write("a.yaml", text);
        world.fresh_pass().await;
        held(&world, "lockout").await;
        let told = plan(&world).await["changes"].to_string();
        assert!(told.contains("was the way to log in, and enforceSSO stays on"), "{told}");
    }
    assert_eq!(world.writes().await.len(), before);

    // What is no longer enforced locks nobody out.
    world.write("a.yaml", &off[0].replace("enforceSSO: true", "enforceSSO: false"));
    world.until("off", async |world| world.entity("tenants", "acme").await.unwrap()["authType"] == "none").await;
    world.until("at rest", async |world| world.is_converged().await).await;
}

/// Nothing happened, and nothing was said.
#[tokio::test]
async fn an_sso_configuration_that_leaves_the_list_stays_and_is_told() {
    let of = |id: &str| {
        format!("{{ ssoId: {id}, domains: [acme.example], saml: {{ idpMetadataUrl: 'https://{id}.example/m' }} }}")
    };
    let file = |items: &str| format!("tenants: [{{ id: acme, name: Acme, sso: [{items}] }}]\n");
    let mut world = World::with(Setup { project: vec!["firstContact: apply".to_owned()], ..Setup::default() }).await;
    world.write("a.yaml", &file(&format!("{}, {}", of("one"), of("two"))));
    world.converge().await;
    assert!(!warnings(&world).await.contains("left as it is"));
    let before = world.writes().await.len();
    for (items, left) in [(of("one"), "sso[two] is live"), (String::new(), "sso[one], sso[two] is live")] {
        world.write("a.yaml", &file(&items));
        world.until(left, async |world| warnings(world).await.contains(left)).await;
        // One of several that says so is an error.
        let told = warnings(&world).await;
        assert!(told.contains("declare all of its configurations, each with `authType: none`"), "{told}");
    }
    assert_eq!(world.writes().await.len(), before);
}
