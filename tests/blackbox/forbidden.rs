//! What the plan or the key does not permit parks its kind alone, whatever kind it is: the rest goes on, the status says why
//! and what to do, and it comes back by itself once it is permitted.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

/// A resource, the files that declare it, and the calls that write and read it.
struct Case {
    name: &'static str,
    kind: &'static str,
    yaml: &'static str,
    document: (&'static str, &'static str),
    writes: &'static str,
    reads: &'static [&'static str],
}

const NONE: (&str, &str) = ("none.txt", "");

/// Method and path of the write and of the reads; a read that is refused without harm is not among them.
#[rustfmt::skip]
const CASES: &[Case] = &[
    case("user_attributes", "userAttributes", "userAttributes: [{ name: x, type: string }]", "POST /v1/mgmt/user/customattribute/create", &["GET /v1/mgmt/user/customattributes"]),
    case("sso_application_attributes", "ssoApplicationAttributes", "ssoApplicationAttributes: [{ name: x, type: string }]", "POST /v1/mgmt/sso/idp/app/customattribute/create", &["GET /v1/mgmt/sso/idp/app/customattributes"]),
    case("tenant_attributes", "tenantAttributes", "tenantAttributes: [{ name: x, type: string }]", "POST /v1/mgmt/tenant/attribute", &["GET /v1/mgmt/tenant/attribute"]),
    case("access_key_attributes", "accessKeyAttributes", "accessKeyAttributes: [{ name: x, type: string }]", "POST /v1/mgmt/accesskey/attribute", &["GET /v1/mgmt/accesskey/attribute"]),
    case("permissions", "permissions", "permissions: [{ name: x }]", "POST /v1/mgmt/permission/create*", &["GET /v1/mgmt/permission/all"]),
    case("roles", "roles", "roles: [{ name: x }]", "POST /v1/mgmt/role/create*", &["GET /v1/mgmt/role/all"]),
    case("lists", "lists", "lists: [{ name: x, type: texts }]", "POST /v1/mgmt/list", &["GET /v1/mgmt/list/all"]),
    case("jwt_templates", "jwtTemplates", "jwtTemplates: [{ name: x, type: user, template: { a: '1' } }]", "POST /v1/mgmt/jwt/templates/create", &["POST /v1/mgmt/jwt/templates/list"]),
    case("tenants", "tenants", "tenants: [{ id: x, name: X }]", "POST /v1/mgmt/tenant/create", &["GET /v1/mgmt/tenant/all"]),
    case("default_roles", "tenants", "roles: [{ name: R }]\ntenants: [{ id: x, name: X, defaultRoles: [R] }]", "POST /v1/mgmt/tenant/updateDefaultRoles", &[]),
    case("tenant_settings", "tenants", "tenants: [{ id: x, name: X, settings: { enabled: true } }]", "POST /v1/mgmt/tenant/settings", &["GET /v1/mgmt/tenant/settings"]),
    case("tenant_passwords", "tenants", "tenants: [{ id: x, name: X, passwordSettings: { enabled: true, minLength: 12, anyLetter: true, disallowEmailMatch: true, disallowedCharacters: x } }]", "POST /v1/mgmt/password/settings", &["GET /v1/mgmt/password/settings"]),
    case("tenant_sso", "tenants", "tenants: [{ id: x, name: X, sso: [{ domains: [x.example], saml: { idpUrl: u, entityId: e, idpCert: c } }] }]", "POST /v1/mgmt/sso/saml", &["GET /v2/mgmt/sso/settings/all"]),
    case("tenant_enforced", "tenants", "tenants: [{ id: x, name: X, enforceSSO: true, sso: [{ domains: [x.example], saml: { idpUrl: u, entityId: e, idpCert: c } }] }]", "PATCH /v1/mgmt/tenant/patch", &[]),
    case("password_settings", "passwordSettings", "passwordSettings: { enabled: true, minLength: 12 }", "POST /v2/mgmt/password/settings", &["GET /v2/mgmt/password/settings"]),
    case("sso_applications", "ssoApplications", "ssoApplications: [{ id: x, type: oidc, name: X }]", "POST /v1/mgmt/sso/idp/app/oidc/create", &["GET /v1/mgmt/sso/idp/apps/load"]),
    case("inbound_apps", "inboundApps", "inboundApps: [{ name: x, secretFile: x.secret }]", "POST /v2/mgmt/thirdparty/app/create", &["POST /v2/mgmt/thirdparty/apps/load"]),
    case("outbound_apps", "outboundApps", "outboundApps: [{ id: x, name: X }]", "POST /v1/mgmt/outbound/app/create", &["GET /v1/mgmt/outbound/apps"]),
    case("access_keys", "accessKeys", "accessKeys: [{ name: x, secretFile: x.key }]", "POST /v1/mgmt/accesskey/create", &["POST /v1/mgmt/accesskey/search"]),
    case("scope_claim_mapping", "scopeClaimMapping", "scopeClaimMapping: [{ scope: s, claims: { a: '1' } }]", "POST /v1/mgmt/scopeClaimMapping/set", &["POST /v1/mgmt/scopeClaimMapping/get"]),
    Case { document: ("d.json", r#"{ "contents": { "start": "1" } }"#), ..case("flows", "flows", "flows: [{ id: x, file: d.json }]", "POST /v2/mgmt/flow/import", &["POST /v1/mgmt/flow/list", "POST /v2/mgmt/flow/export"]) },
    Case { document: ("d.json", r#"{ "styles": { "light": { "primary": "blue" } } }"#), ..case("theme", "theme", "theme: { file: d.json }", "POST /v2/mgmt/theme/import", &["POST /v2/mgmt/theme/export"]) },
    Case { document: ("d.fga", "model AuthZ 1.0\n\ntype user\n"), ..case("fga_schema", "fgaSchema", "fgaSchema: { file: d.fga }", "POST /v1/mgmt/fga/schema", &["GET /v1/mgmt/fga/schema"]) },
    // A key of the project may not list projects: that is the usual case, and no refusal.
    case("project", "project", "project: { name: X }", "POST /v1/mgmt/project/update/name", &[]),
];

const fn case(
    name: &'static str,
    kind: &'static str,
    yaml: &'static str,
    writes: &'static str,
    reads: &'static [&'static str],
) -> Case {
    Case { name, kind, yaml, document: NONE, writes, reads }
}

macro_rules! each_parks_alone {
    ($($name:ident),+) => {
        const TESTED: &[&str] = &[$(stringify!($name)),+];
        $(
            #[tokio::test]
            async fn $name() {
                parks_alone(stringify!($name)).await;
            }
        )+
    };
}

each_parks_alone!(
    user_attributes,
    sso_application_attributes,
    tenant_attributes,
    access_key_attributes,
    permissions,
    roles,
    lists,
    jwt_templates,
    tenants,
    default_roles,
    tenant_settings,
    tenant_passwords,
    tenant_sso,
    tenant_enforced,
    password_settings,
    sso_applications,
    inbound_apps,
    outbound_apps,
    access_keys,
    scope_claim_mapping,
    flows,
    theme,
    fga_schema,
    project
);

#[test]
fn every_kind_and_part_has_a_case() {
    assert_eq!(CASES.iter().map(|case| case.name).collect::<Vec<_>>(), TESTED);
    for kind in descope_gitops::resource::ALL {
        let cases = CASES.iter().filter(|case| case.kind == kind.name()).count();
        // Both parts of the project and of a key are refused the same way.
        let parts = if kind.name() == "tenants" { kind.spec().parts.len() } else { 1 };
        assert_eq!(cases, parts, "{}", kind.name());
    }
}

fn refusal(calls: &[&str]) -> Value {
    let body = json!({ "errorCode": "E111703", "errorDescription": "Feature is not part of the plan" });
    let rule = |call: &&str| {
        let (method, path) = call.split_once(' ').unwrap();
        json!({ "match": { "method": method, "path": path }, "fault": "status", "status": 403, "body": body })
    };
    calls.iter().map(rule).collect()
}

/// Why, and what to do.
fn says_it(message: &Value) -> bool {
    let message = message.as_str().unwrap_or_default();
    ["does not permit", "Feature is not part of the plan", "give the key that right"]
        .iter()
        .all(|part| message.contains(part))
}

async fn is_parked(world: &World, kind: &str) -> bool {
    let problems = world.project().await["problems"].clone();
    let mut own = problems.as_array().into_iter().flatten().filter(|problem| problem["kind"] == kind);
    own.any(|problem| problem["state"] == "parked" && says_it(&problem["message"]))
}

/// The same of a part that a call of its own reads: what it needs waits.
async fn waits_to_be_seen(world: &World, kind: &str) -> bool {
    let waits = world.project().await["waits"].clone();
    waits.as_array().into_iter().flatten().any(|wait| wait["kind"] == kind && says_it(&wait["why"]))
}

/// What a kind of its own makes of it: another one goes on.
async fn the_rest_goes_on(world: &World, own: &str, turn: &str) {
    let (kind, id) = if own == "lists" { ("permissions", "rest") } else { ("lists", "rest") };
    let rest = if own == "lists" {
        format!("permissions: [{{ name: rest, description: {turn} }}]")
    } else {
        format!("lists: [{{ name: rest, type: texts, description: {turn} }}]")
    };
    world.write("rest.yaml", &rest);
    world
        .until("the rest", async |world| world.entity(kind, id).await.is_some_and(|rest| rest["description"] == turn))
        .await;
}

async fn parks_alone(name: &str) {
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let mut world = World::with(Setup { interval: "500ms", ..Setup::default() }).await;
    std::fs::create_dir(world.path("secrets")).unwrap();
    let secrets = format!("secrets: {{ dir: {} }}", world.path("secrets").display());
    world.reconfigure(|setup| setup.project.push(secrets));
    world.faults(refusal(&[case.writes])).await;
    world.write("a.yaml", case.yaml);
    world.write(case.document.0, case.document.1);
    world.start().await;
    world.until("parked", async |world| is_parked(world, case.kind).await).await;
    the_rest_goes_on(&world, case.kind, "one").await;
    assert!(!world.is_converged().await);
    world.until("told why", async |world| world.project().await["notConvergedBecause"] == "parked").await;
    // It is asked again, and not over and over.
    let (asked, passes) = (world.writes().await.len(), world.passes().await);
    world.until("four more passes", async |world| world.passes().await >= passes + 4).await;
    let (asked, passes) = (world.writes().await.len() - asked, world.passes().await - passes);
    assert!(asked as u64 <= passes + 1, "{asked} in {passes} passes");
    world.until("parked again", async |world| is_parked(world, case.kind).await).await;

    world.faults(json!([])).await;
    world.until("made once it is permitted", async |world| world.is_converged().await).await;

    if case.reads.is_empty() {
        return;
    }
    world.faults(refusal(case.reads)).await;
    let is_told = async |world: &World| is_parked(world, case.kind).await || waits_to_be_seen(world, case.kind).await;
    world.until("not to be seen", is_told).await;
    the_rest_goes_on(&world, case.kind, "two").await;
    assert!(!world.is_converged().await);
    let before = world.writes().await.len();
    world.pass().await;
    assert_eq!(world.writes().await.len(), before, "what cannot be seen is not made again");

    world.faults(json!([])).await;
    world.until("seen once it is permitted", async |world| world.is_converged().await).await;
    assert_eq!(world.writes().await.len(), before);
}
