//! Every kind goes the same way: made from its file, left alone, healed field by field, changed, and deleted.

use crate::guards::held;
use crate::guards::plan;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::read;
use serde_json::Value;
use serde_json::json;

mod ids;
mod killed;
mod tenants;

/// One resource of a kind, and what can happen to it.
struct Case {
    /// Of its test.
    name: &'static str,
    /// Files of the config repo.
    files: &'static [(&'static str, &'static str)],
    /// What it is called in the simulator's state.
    live: &'static str,
    /// Fields changed behind the daemon's back, each alone.
    drifts: Vec<Value>,
    /// Fields that no file declares; nothing the daemon does may change them.
    undeclared: Value,
    /// The file after its resource left, where the kind can lose one: another stays.
    without: Option<&'static str>,
}

const LISTS: &str = "
lists:
  - { name: stays, type: texts, data: [] }
  - { name: blocked, type: texts, description: words, data: [spam, scam] }
";

const SCOPES: &str = "
scopeClaimMapping:
  - { scope: profile, description: who, claims: { name: '{{user.name}}' } }
  - { scope: email, claims: { mail: '{{user.email}}' } }
";

const USER_ATTRIBUTES: &str = "
userAttributes:
  - { name: stays, type: string }
  - { name: plan, type: singleselect, displayName: Plan, options: [{ value: free, label: free }, { value: pro, label: pro }], viewPermissions: [User Admin] }
";

const APPLICATION_ATTRIBUTES: &str = "
ssoApplicationAttributes:
  - { name: stays, type: string }
  - { name: team, type: singleselect, displayName: Team, options: [{ value: a, label: The first }], editPermissions: [User Admin] }
";

const PASSWORDS: &str = "
passwordSettings: { enabled: true, minLength: 12, lowercase: true, lock: true, lockAttempts: 5, anyLetter: true }
";

const SSO_APPLICATIONS: &str = "
roles:
  - { name: Reader }
ssoApplications:
  - { id: stays, type: wsfed, name: Stays, realm: r, replyUrl: 'https://stays.example/r' }
  - id: portal
    type: oidc
    name: Portal
    description: d
    enabled: true
    clientType: confidential
    approvedRedirectUrls: ['https://a.example/cb', 'https://b.example/cb']
    forcePkce: true
    clientSecret: { env: PORTAL_SECRET }
  - id: wiki
    type: saml
    name: Wiki
    entityId: e
    acsUrl: https://wiki.example/acs
    certificate: c
    groupsMapping: [{ name: g, filterType: roles, roles: [{ name: Reader }] }]
";

const OUTBOUND: &str = "
outboundApps:
  - { id: stays, name: Stays }
  - id: calendar
    name: Calendar
    description: d
    clientId: c
    clientSecret: { env: CALENDAR_SECRET }
    authorizationUrl: https://calendar.example/a
    authorizationUrlParams: [{ key: audience, value: api }]
    defaultScopes: [a, b]
    pkce: true
";

const FLOWS: &str = "
roles:
  - { name: Reader }
flows:
  - { id: stays, file: flows/stays.json }
  - { id: welcome, file: flows/welcome.json }
";

const WELCOME: &str = r#"{
  "metadata": { "name": "Welcome", "componentsVersion": "1.2.3" }, "contents": { "start": "0" },
  "screens": [{ "screenId": "0", "interactions": [] }], "references": { "roles": ["Reader"] }
}"#;

const TEMPLATES: &str = "
jwtTemplates:
  - { name: stays, type: user, template: { a: '1' } }
  - { name: members, type: user, description: d, template: { tenant: '{{tenant.id}}' }, authSchema: tenantOnly, addJti: true }
";

const THEME: &str = r#"{ "styles": { "light": { "primary": "blue" } }, "componentsVersion": "1.2.3" }"#;

const SCHEMA: &str = "model AuthZ 1.0\n\ntype user\n\ntype doc\n  relation owner: user\n";

/// A resource without more than that.
fn case(
    name: &'static str,
    live: &'static str,
    files: &'static [(&'static str, &'static str)],
    drifts: Vec<Value>,
) -> Case {
    Case { name, files, live, drifts, undeclared: Value::Null, without: None }
}

/// Kinds that are a big document each.
fn documents() -> Vec<Case> {
    vec![
        Case {
            without: Some("roles: [{ name: Reader }]\nflows: [{ id: stays, file: flows/stays.json }]"),
            ..case(
                "flows",
                "flows/welcome",
                &[
                    ("a.yaml", FLOWS),
                    ("flows/stays.json", r#"{ "contents": { "start": "1" } }"#),
                    ("flows/welcome.json", WELCOME),
                ],
                vec![
                    json!({ "v2": { "metadata": { "name": "Welcome" }, "contents": { "start": "9" }, "screens": [] } }),
                ],
            )
        },
        Case {
            undeclared: json!({ "styles": { "light": { "primary": "blue" }, "dark": { "x": 1 }, "brand-light": { "y": 1 } } }),
            ..case(
                "theme",
                "theme/",
                &[("a.yaml", "theme: { file: theme.json }"), ("theme.json", THEME)],
                vec![
                    json!({ "styles": { "light": { "primary": "red" }, "dark": { "x": 1 }, "brand-light": { "y": 1 } } }),
                ],
            )
        },
        Case {
            undeclared: json!({ "enforceIssuer": true, "tags": ["x"] }),
            without: Some("jwtTemplates: [{ name: stays, type: user, template: { a: '1' } }]"),
            ..case(
                "jwt_templates",
                "jwtTemplates/members",
                &[("a.yaml", TEMPLATES)],
                vec![
                    json!({ "template": { "tenant": "x" } }),
                    json!({ "description": "x" }),
                    json!({ "authSchema": "none" }),
                    json!({ "addJti": false }),
                ],
            )
        },
        case(
            "fga_schema",
            "fgaSchema/",
            &[("a.yaml", "fgaSchema: { file: schema.fga }"), ("schema.fga", SCHEMA)],
            vec![json!({ "dsl": "model AuthZ 1.0\n\ntype user\n" })],
        ),
    ]
}

fn cases() -> Vec<Case> {
    let mut all = ids::cases();
    all.extend(vec![
        Case {
            without: Some("lists: [{ name: stays, type: texts, data: [] }]"),
            ..case(
                "lists",
                "lists/blocked",
                &[("a.yaml", LISTS)],
                vec![json!({ "description": "x" }), json!({ "data": ["spam"] })],
            )
        },
        case("scope_claim_mapping", "scopeClaimMapping/", &[("a.yaml", SCOPES)], vec![json!({ "mappings": [] })]),
        Case {
            without: Some("userAttributes: [{ name: stays, type: string }]"),
            ..case(
                "user_attributes",
                "userAttributes/plan",
                &[("a.yaml", USER_ATTRIBUTES)],
                vec![json!({ "displayName": "x" }), json!({ "viewPermissions": [] })],
            )
        },
        Case {
            without: Some("ssoApplicationAttributes: [{ name: stays, type: string }]"),
            ..case(
                "sso_application_attributes",
                "ssoApplicationAttributes/team",
                &[("a.yaml", APPLICATION_ATTRIBUTES)],
                vec![json!({ "displayName": "x" }), json!({ "editPermissions": [] }), json!({ "options": [] })],
            )
        },
        Case {
            undeclared: json!({ "reuse": true, "reuseAmount": 7, "disallowedCharacters": "<>" }),
            ..case(
                "password_settings",
                "passwordSettings/",
                &[("a.yaml", PASSWORDS)],
                vec![json!({ "minLength": 8 }), json!({ "lowercase": false }), json!({ "anyLetter": false })],
            )
        },
        Case {
            undeclared: json!({ "logo": "https://portal.example/logo", "backChannelLogoutUrl": "https://l.example" }),
            without: Some(
                "roles: [{ name: Reader }]\nssoApplications: [{ id: stays, type: wsfed, name: Stays, realm: r, replyUrl: 'https://stays.example/r' }]",
            ),
            ..case(
                "sso_applications",
                "ssoApplications/portal",
                &[("a.yaml", SSO_APPLICATIONS)],
                vec![
                    json!({ "name": "x" }),
                    json!({ "description": "" }),
                    json!({ "enabled": false }),
                    json!({ "approvedRedirectUrls": ["https://a.example/cb"] }),
                    json!({ "forcePkce": false }),
                ],
            )
        },
        Case {
            undeclared: json!({ "logo": "https://calendar.example/logo" }),
            without: Some("outboundApps: [{ id: stays, name: Stays }]"),
            ..case(
                "outbound_apps",
                "outboundApps/calendar",
                &[("a.yaml", OUTBOUND)],
                vec![
                    json!({ "name": "x" }),
                    json!({ "authorizationUrlParams": [] }),
                    json!({ "defaultScopes": ["a"] }),
                    json!({ "pkce": false }),
                ],
            )
        },
    ]);
    all.extend(tenants::cases());
    all
}

/// What the server counts by itself.
const COUNTS: [&str; 2] = ["version", "writes"];

const SECRETS: [(&str, &str); 4] = [
    ("PORTAL_SECRET", "sentinel-portal"),
    ("CALENDAR_SECRET", "sentinel-calendar"),
    ("ACME_KEY_SECRET", "sentinel-key"),
    ("ACME_OIDC_SECRET", "sentinel-oidc"),
];

async fn world() -> World {
    world_where(&[]).await
}

/// With these switches of the simulator.
async fn world_where(switches: &[&str]) -> World {
    let mut setup = Setup::default();
    setup.simulator.extend(switches.iter().map(|switch| format!("--set={switch}")));
    let mut world = World::with(setup).await;
    let secrets = world.path("secrets");
    std::fs::create_dir(&secrets).unwrap();
    let project = [
        "firstContact: apply".to_owned(),
        "policy: sync".to_owned(),
        format!("secrets: {{ env: ['*_SECRET'], dir: {} }}", secrets.display()),
        "guards: { maxDeletes: 100, maxDeletePercent: off, deleteAfter: 0s, weakening: warn }".to_owned(),
    ];
    world.reconfigure(|setup| {
        setup.project = project.to_vec();
        // What was refused and may name something that no look shows is not tried again meanwhile.
        setup.top.push("retry: { initialBackoff: 20ms, maxBackoff: 60s }".to_owned());
    });
    world.environment = SECRETS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    world
}

/// Where it stands in what the simulator holds; `KIND/ID`, or `KIND/` for the one of the project.
fn place(state: &Value, what: &str) -> Option<(String, usize)> {
    let (kind, id) = what.split_once('/').unwrap();
    let is_it = |one: &Value| {
        let names = [&one["id"], &one["name"], &one["tenantId"]];
        if id.is_empty() { names[2].as_str().is_none_or(str::is_empty) } else { names.contains(&&Value::from(id)) }
    };
    Some((kind.to_owned(), state[kind].as_array()?.iter().position(is_it)?))
}

async fn live(world: &World, what: &str) -> Option<Value> {
    let state = world.live().await;
    let (kind, at) = place(&state, what)?;
    Some(state[&kind][at].clone())
}

/// What a document says: unset and empty are one to the API.
fn meaning(value: &Value) -> Value {
    let is_empty =
        |value: &Value| [json!(null), json!(""), json!([]), json!({}), json!(false), json!(0)].contains(value);
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), meaning(value)))
            .filter(|(_, value)| !is_empty(value))
            .collect(),
        Value::Array(items) => items.iter().map(meaning).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Is all that was there there still? What a fresh one answers unset may be set to that inside of an object by now.
fn is_kept(made: &Value, now: &Value) -> bool {
    match (made, now) {
        (Value::Object(made), Value::Object(_)) => made.iter().all(|(name, value)| is_kept(value, &now[name])),
        (made, now) => meaning(made) == meaning(now),
    }
}

/// Changes fields of it behind the daemon's back.
async fn edit(world: &World, what: &str, fields: &Value) {
    let mut state = world.live().await;
    let (kind, at) = place(&state, what).unwrap_or_else(|| panic!("no {what}"));
    merge(&mut state[&kind][at], fields);
    world.set_live(state).await;
}

/// What is an object on both sides is changed inside.
fn merge(into: &mut Value, fields: &Value) {
    match (into, fields) {
        (Value::Object(into), Value::Object(fields)) => {
            for (name, value) in fields {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value.clone(),
    }
}

/// One test a case, so that they fail apart.
macro_rules! each_goes_the_way {
    ($($name:ident),+) => {$(
        #[tokio::test]
        async fn $name() {
            goes_the_way(stringify!($name)).await;
        }
    )+};
}

each_goes_the_way!(
    lists,
    scope_claim_mapping,
    user_attributes,
    sso_application_attributes,
    password_settings,
    sso_applications,
    outbound_apps,
    flows,
    theme,
    fga_schema,
    tenant_settings,
    tenant_passwords,
    tenant_sso_saml,
    tenant_sso_metadata,
    tenant_sso_oidc,
    tenant_sso_whole,
    jwt_templates,
    access_keys,
    access_keys_of_tenants,
    inbound_apps,
    tenant_attributes,
    access_key_attributes,
    project
);

fn of(name: &str) -> Case {
    let mut cases = cases().into_iter().chain(documents());
    cases.find(|case| case.name == name).expect("a case of that name")
}

async fn goes_the_way(name: &str) {
    goes_the_way_where(name, &[], &[]).await;
}

/// The same with these switches of the simulator, less the drifts of fields that they hide.
pub async fn goes_the_way_where(name: &str, switches: &[&str], hidden: &[&str]) {
    let mut case = of(name);
    case.drifts.retain(|drift| !drift.as_object().unwrap().keys().any(|field| hidden.contains(&field.as_str())));
    {
        let mut world = world_where(switches).await;
        for (file, text) in case.files {
            world.write(file, text);
        }
        world.converge().await;
        world.assert_nothing_left().await;
        if !case.undeclared.is_null() {
            edit(&world, case.live, &case.undeclared).await;
            world.assert_nothing_left().await;
        }
        let made = live(&world, case.live).await.unwrap_or_else(|| panic!("no {}", case.live));

        for drift in &case.drifts {
            let before = world.writes().await.len();
            edit(&world, case.live, drift).await;
            world.pass().await;
            let fields: Vec<&String> = drift.as_object().unwrap().keys().collect();
            let is_healed = async |world: &World| {
                let now = live(world, case.live).await.unwrap();
                fields.iter().all(|field| is_kept(&made[*field], &now[*field]))
            };
            world.until(&format!("healed of {drift}"), is_healed).await;
            world.until("converged again", async |world| world.is_converged().await).await;
            let now = live(&world, case.live).await.unwrap();
            for (field, value) in
                made.as_object().unwrap().iter().filter(|(field, _)| !COUNTS.contains(&field.as_str()))
            {
                let is_same = is_kept(value, &now[field]);
                assert!(is_same, "{} {drift}: {field} became {}", case.live, now[field]);
            }
            let writes = world.writes().await;
            let sent: Vec<&String> = writes[before..].iter().map(|(line, _)| line).collect();
            assert_eq!(sent.len(), 1, "{} {drift}: {sent:?}", case.live);
        }

        if let Some(rest) = case.without {
            world.write("a.yaml", rest);
            world.until("gone", async |world| live(world, case.live).await.is_none()).await;
            world.until("converged without it", async |world| world.is_converged().await).await;
            world.assert_nothing_left().await;
            let (file, text) = case.files[0];
            world.write(file, text);
            world.until("made again", async |world| live(world, case.live).await.is_some()).await;
            world.until("converged with it", async |world| world.is_converged().await).await;
            world.assert_nothing_left().await;
        }
        let said = world.daemon().lines().join("\n") + &world.status().await.to_string();
        assert!(!said.contains("sentinel-"), "{}: a secret was told", case.live);
        let secrets = std::fs::read_dir(world.path("secrets")).unwrap().map(|file| read(&file.unwrap().path()));
        for secret in secrets.filter(|secret| !secret.is_empty()) {
            assert!(!said.contains(secret.trim()), "{}: a secret that was shown once was told", case.live);
        }
    }
}

/// The same once more, for what holds a change back and for what goes wrong with one.
macro_rules! each_stands_firm {
    ($($name:ident),+) => { mod firm { $(
        #[tokio::test]
        async fn $name() {
            super::stands_firm(stringify!($name)).await;
        }
    )+ } };
}

each_stands_firm!(
    lists,
    scope_claim_mapping,
    user_attributes,
    sso_application_attributes,
    password_settings,
    sso_applications,
    outbound_apps,
    flows,
    theme,
    fga_schema,
    tenant_settings,
    tenant_passwords,
    tenant_sso_saml,
    tenant_sso_oidc,
    jwt_templates,
    access_keys,
    inbound_apps,
    tenant_attributes,
    access_key_attributes
);

fn set_policy(world: &mut World, policy: &str) {
    world.reconfigure(|setup| {
        for line in setup.project.iter_mut().filter(|line| line.starts_with("policy:")) {
            *line = format!("policy: {policy}");
        }
    });
}

/// The text with `protected: true` on the item of this identity.
fn protected(text: &str, id: &str) -> String {
    let of = |field: &str| text.contains(&format!("{field}: {id}")).then(|| format!("{field}: {id}"));
    let item = of("id").or_else(|| of("name")).unwrap();
    let end = if text.contains(&format!("{item},")) { ", protected: true" } else { "\n    protected: true" };
    text.replace(&item, &format!("{item}{end}"))
}

/// What the files call what the simulator calls that.
fn declared_as(live: &str) -> (&str, &str) {
    match live.split_once('/').unwrap() {
        ("tenantSettings" | "sso", _) | ("passwordSettings", "acme") => ("tenants", "acme"),
        (kind, "") => (kind, kind),
        found => found,
    }
}

async fn stands_firm(name: &str) {
    let case = of(name);
    let (kind, id) = declared_as(case.live);
    // Another one each time: what was there right before our write proves nothing for a while.
    let drift = |turn: usize| &case.drifts[turn % case.drifts.len()];
    let mut world = world().await;
    for (file, text) in case.files {
        world.write(file, text);
    }
    world.converge().await;
    if !case.undeclared.is_null() {
        edit(&world, case.live, &case.undeclared).await;
    }
    let made = live(&world, case.live).await.unwrap();
    let is_healed = async |world: &World| {
        let Some(now) = live(world, case.live).await else { return false };
        let mut fields = case.drifts.iter().flat_map(|drift| drift.as_object().unwrap().keys());
        fields.all(|field| is_kept(&made[field], &now[field]))
    };

    // A policy that only creates tells what differs, and leaves it.
    world.stop().await;
    set_policy(&mut world, "create-only");
    world.start().await;
    edit(&world, case.live, drift(0)).await;
    world.pass().await;
    world
        .until("told", async |world| {
            let changes = plan(world).await["changes"].clone();
            changes.as_array().unwrap().iter().any(|change| change["kind"] == kind && change["held"] == "policy")
        })
        .await;
    world.assert_nothing_left().await;
    assert!(!is_healed(&world).await);
    world.stop().await;
    set_policy(&mut world, "sync");
    let before = world.writes().await.len();
    world.start().await;
    world.until("healed once it may", &is_healed).await;
    world.until("converged", async |world| world.is_converged().await).await;
    let line = world.writes().await[before].0.clone();
    let (method, path) = line.split_once(' ').unwrap();

    // A refused one parks alone.
    let refusal =
        json!({ "errorCode": "E011003", "errorDescription": "Request is invalid", "errorMessage": "not today" });
    world
        .faults(
            json!([{ "match": { "method": method, "path": path }, "fault": "status", "status": 400, "body": refusal }]),
        )
        .await;
    edit(&world, case.live, drift(1)).await;
    world.write("z.yaml", "permissions: [{ name: other }]");
    world.pass().await;
    world.until("parked", async |world| world.has_problem(kind, id, "parked").await).await;
    world.until("the rest", async |world| world.entity("permissions", "other").await.is_some()).await;
    world.assert_nothing_left().await;
    world.faults(json!([])).await;
    world.daemon().signal(rustix::process::Signal::HUP);
    world.until("healed once it is taken", &is_healed).await;
    world.until("converged again", async |world| world.is_converged().await).await;

    // A power cut beside a write: it is sent once more at the most.
    let before = world.writes().await.len();
    edit(&world, case.live, drift(2)).await;
    assert_eq!(world.ask(reqwest::Method::POST, "/api/v1/reconcile").await.0, 202);
    world.until("sent", async |world| world.writes().await.len() > before).await;
    world.kill().await;
    world.converge().await;
    world.assert_nothing_left().await;
    assert!(is_healed(&world).await && world.writes().await.len() <= before + 2);

    let Some(rest) = case.without else { return };
    // Protected, it stays, whatever becomes of its line; and more deletes than a guard lets through wait.
    let (file, text) = case.files[0];
    world.write(file, &protected(text, id));
    world.converge().await;
    world.pass().await;
    world.write(file, rest);
    // What else the file had goes.
    world
        .until("undeclared", async |world| {
            let project = world.project().await;
            project["undeclared"] != 0 && project["converged"] == true
        })
        .await;
    world.assert_nothing_left().await;
    assert!(live(&world, case.live).await.is_some());
    world.write(file, &protected(text, id).replace("protected: true", "protected: false"));
    world.pass().await;
    world.stop().await;
    world.reconfigure(|setup| {
        for line in setup.project.iter_mut().filter(|line| line.starts_with("guards:")) {
            "guards: { maxDeletes: 0, maxDeletePercent: off, deleteAfter: 0s, weakening: warn }".clone_into(line);
        }
    });
    world.converge().await;
    world.write(file, rest);
    held(&world, "max_deletes").await;
    world.assert_nothing_left().await;
    assert!(live(&world, case.live).await.is_some());
}
