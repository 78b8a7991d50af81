//! A sentinel in every field of every kind that holds a secret, and in what Descope shows once: no byte that leaves the
//! process has it, whatever goes wrong with the call that carries it.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::read;
use descope_gitops::resource;
use descope_gitops::resource::Field;
use descope_gitops::resource::Shape;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;

/// Where a secret can be declared: the kind and the names of the fields down to it, and the variable below.
const FIELDS: &[(&str, &str)] = &[
    ("tenants.sso.saml.spEncryptionKey", "ENCRYPTION_SECRET"),
    ("tenants.sso.saml.spSignKey", "SIGN_SECRET"),
    ("tenants.sso.oidc.clientSecret", "TENANT_SECRET"),
    ("ssoApplications.clientSecret", "APPLICATION_SECRET"),
    ("outboundApps.clientSecret", "OUTBOUND_SECRET"),
];

/// Of these Descope shows a secret when one is made.
const SHOWN: &[&str] = &["inboundApps", "accessKeys"];

const FILES: &str = "
tenants:
  - id: t
    name: T
    sso:
      - { ssoId: s, domains: [t.example], saml: { idpUrl: u, entityId: e, idpCert: c, spEncryptionKey: { env: ENCRYPTION_SECRET }, spSignKey: { env: SIGN_SECRET } } }
      - { ssoId: o, domains: [t.example], oidc: { clientId: c, userDataUrl: u, userAttrMapping: {}, clientSecret: { env: TENANT_SECRET } } }
ssoApplications:
  - { id: a, type: oidc, name: A, clientType: confidential, clientSecret: { env: APPLICATION_SECRET } }
outboundApps:
  - { id: o, name: O, clientId: c, clientSecret: { env: OUTBOUND_SECRET } }
inboundApps:
  - { name: i, secretFile: i.secret }
accessKeys:
  - { name: k, secretFile: k.key }
";

/// The calls that carry one.
const CALLS: [&str; 5] = [
    "/v1/mgmt/sso/saml",
    "/v1/mgmt/sso/oidc",
    "/v1/mgmt/sso/idp/app/oidc/create",
    "/v1/mgmt/outbound/app/create",
    "/v1/mgmt/outbound/app/update",
];

fn sentinel(variable: &str) -> String {
    format!("sentinel-{}-{}", variable.to_lowercase(), "5f1d")
}

fn collect(path: &str, fields: &[Field], found: &mut BTreeSet<String>) {
    for field in fields {
        let path = format!("{path}.{}", field.name);
        inside(&path, field.shape, found);
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "no other shape holds a field")]
fn inside(path: &str, shape: Shape, found: &mut BTreeSet<String>) {
    match shape {
        Shape::Secret => {
            found.insert(path.to_owned());
        }
        Shape::Object(fields) | Shape::Items { fields, .. } => collect(path, fields, found),
        Shape::List(shape) | Shape::Map(shape) => inside(path, *shape, found),
        _ => {}
    }
}

#[test]
fn every_secret_field_of_every_kind_has_its_sentinel() {
    let mut found = BTreeSet::new();
    for kind in resource::ALL {
        kind.spec().parts.iter().for_each(|part| collect(kind.name(), part.fields, &mut found));
    }
    let shown: Vec<&str> =
        resource::ALL.iter().filter(|kind| kind.spec().shows_secret).map(|kind| kind.name()).collect();

    assert_eq!(found, FIELDS.iter().map(|(path, _)| (*path).to_owned()).collect());
    assert_eq!(shown, SHOWN);
    for (path, variable) in FIELDS {
        let field = path.rsplit('.').next().unwrap();
        assert!(FILES.contains(&format!("{field}: {{ env: {variable} }}")), "{path}");
    }
}

async fn world() -> World {
    let mut world = World::with(Setup { interval: "300ms", ..Setup::default() }).await;
    fs::create_dir(world.path("secrets")).unwrap();
    let secrets = format!("secrets: {{ env: ['*_SECRET'], dir: {} }}", world.path("secrets").display());
    world.reconfigure(|setup| {
        setup.project.extend([secrets, "policy: sync".to_owned()]);
        setup.top.push("log: { format: json, level: trace }".to_owned());
    });
    world.environment = FIELDS.iter().map(|(_, name)| ((*name).to_owned(), sentinel(name))).collect();
    world
}

/// What the daemon serves, said and keeps.
async fn everything(world: &World) -> String {
    let mut all = String::new();
    for path in ["/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/plan", "/"] {
        all += &world.ask(Method::GET, path).await.1;
    }
    all += &world.daemon().lines().join("\n");
    for file in fs::read_dir(world.path("state")).unwrap() {
        all += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }
    all
}

fn said(output: &std::process::Output) -> String {
    [&output.stdout[..], &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// What Descope showed of the keys and applications, as it lies in their files.
fn shown_once(world: &World) -> Vec<String> {
    ["i.secret", "k.key"].iter().map(|file| read(&world.path("secrets").join(file)).trim().to_owned()).collect()
}

#[tokio::test]
async fn no_secret_of_any_kind_leaves_the_process_whatever_becomes_of_its_call() {
    let mut world = world().await;
    // Each call meets all of it: refused with what it was sent, over the limit, refused in words, and cut off.
    let quoted: String = FIELDS.iter().map(|(_, name)| format!("{} ", sentinel(name))).collect();
    let rules = CALLS.iter().flat_map(|path| {
        let rule = |more: Value| {
            let mut rule = json!({ "match": { "path": path, "times": 1 } });
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rule
        };
        let body = json!({ "errorCode": "E011003", "errorMessage": &quoted });
        [
            rule(json!({ "fault": "echo_request" })),
            rule(json!({ "fault": "status", "status": 429, "headers": { "retry-after": "1" } })),
            rule(json!({ "fault": "status", "status": 400, "body": body })),
            rule(json!({ "fault": "reset_after" })),
        ]
    });
    world.faults(rules.collect()).await;
    world.write("a.yaml", FILES);
    world.start().await;
    world.until("refused", async |world| world.project().await["problems"] != json!([])).await;
    let mut all = everything(&world).await;
    world
        .until("converged for all that", async |world| {
            world.daemon().signal(Signal::HUP);
            world.is_converged().await
        })
        .await;
    all += &everything(&world).await;

    // Another value of each is news, and again its call fails first.
    world.stop().await;
    let other: Vec<(String, String)> =
        world.environment.iter().map(|(name, value)| (name.clone(), format!("{value}-other"))).collect();
    world.environment = other;
    world.start().await;
    world.until("sent once more", async |world| world.is_converged().await).await;
    all += &everything(&world).await;
    let out = world.path("exported");
    let out = out.to_str().unwrap();
    for args in [
        &["plan"][..],
        &["plan", "-o", "json"],
        &["plan", "-o", "markdown"],
        &["validate", "-o", "json"],
        &["audit"],
        &["audit", "-o", "json"],
        &["export", "--dir", out],
    ] {
        all += &said(&world.run(&[args, &["--log-level", "trace"]].concat()).await);
    }
    for file in fs::read_dir(out).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        all += &read(&file);
    }
    let (_, lines) = world.stop_and_read().await;
    all += &lines.join("\n");

    assert!(all.contains("\"TRACE\"") && all.contains("(secret)"), "there was nothing to leak from");
    let sent = world.log().await.iter().map(Value::to_string).collect::<String>();
    for path in CALLS.iter().filter(|path| !path.ends_with("update")) {
        assert!(sent.contains(path), "nothing was sent by {path}");
    }
    let mut secrets = shown_once(&world);
    assert!(secrets.iter().all(|secret| !secret.is_empty()));
    secrets.extend(FIELDS.iter().map(|(_, name)| sentinel(name)));
    for secret in secrets {
        let at = all.find(&secret);
        let before = at.map(|at| String::from_utf8_lossy(&all.as_bytes()[at.saturating_sub(300)..at]).into_owned());
        assert_eq!(before, None, "{secret} leaks");
    }
}
