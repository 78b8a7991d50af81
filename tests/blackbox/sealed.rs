//! A sentinel in every field of every kind that holds a secret, and in what Descope shows once: no byte that leaves the
//! process has it, whatever goes wrong with the call that carries it.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::read;
use crate::notifications::Receiver;
use descope_gitops::resource;
use descope_gitops::resource::Field;
use descope_gitops::resource::Shape;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

/// Where a secret can be declared: the kind and the names of the fields down to it, and the variable below.
const FIELDS: &[(&str, &str)] = &[
    ("tenants.sso.saml.spEncryptionKey", "ENCRYPTION_SECRET"),
    ("tenants.sso.saml.spSignKey", "SIGN_SECRET"),
    ("tenants.sso.oidc.clientSecret", "TENANT_SECRET"),
    ("ssoApplications.clientSecret", "APPLICATION_SECRET"),
    ("outboundApps.clientSecret", "OUTBOUND_SECRET"),
];

/// Of that which can be set only when the resource is created.
const AT_CREATION: &str = "APPLICATION_SECRET";

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

/// The calls that carry one. The last is made when the value is another one.
const CALLS: [&str; 5] = [
    "/v1/mgmt/sso/saml",
    "/v1/mgmt/sso/oidc",
    "/v1/mgmt/sso/idp/app/oidc/create",
    "/v1/mgmt/outbound/app/create",
    "/v1/mgmt/outbound/app/update",
];

/// Those whose answer carries one.
const SHOWING: [&str; 2] = ["/v2/mgmt/thirdparty/app/create", "/v1/mgmt/accesskey/create"];

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
    let mut world = World::with(Setup { interval: "1s", ..Setup::default() }).await;
    fs::create_dir(world.path("secrets")).unwrap();
    let secrets = format!("secrets: {{ env: ['*_SECRET'], dir: {} }}", world.path("secrets").display());
    world.reconfigure(|setup| {
        setup.project.extend([secrets, "policy: sync".to_owned()]);
        setup.top.push("log: { format: json, level: trace }".to_owned());
    });
    world.environment = FIELDS.iter().map(|(_, name)| ((*name).to_owned(), sentinel(name))).collect();
    world.write("a.yaml", FILES);
    world
}

/// From the next start on every secret that can be changed is another one.
fn other_values(world: &mut World) {
    for (name, value) in &mut world.environment {
        if name.ends_with("_SECRET") && name != AT_CREATION {
            *value += "-other";
        }
    }
}

/// The first of these calls by each path meets this.
async fn meet(world: &World, paths: &[&str], fate: &Value) {
    let rule = |path: &&str| {
        let mut rule = json!({ "match": { "path": path, "times": 1 } });
        rule.as_object_mut().unwrap().extend(fate.as_object().unwrap().clone());
        rule
    };
    world.faults(paths.iter().map(rule).collect()).await;
}

/// Descope quotes every secret there is.
fn refused_in_words(world: &World) -> Value {
    let quoted: String = world.environment.iter().map(|(_, value)| format!("{value} ")).collect();
    json!({ "fault": "status", "status": 400, "body": { "errorCode": "E011003", "errorMessage": quoted } })
}

/// Converges; what is parked gets a fresh try after each pass.
async fn converge_for_all_that(world: &World) {
    let tried = Cell::new(0);
    world
        .until("converged for all that", async |world| {
            let passes = world.passes().await;
            if passes > tried.get() && world.project().await["problems"] != json!([]) {
                tried.set(passes);
                world.daemon().signal(Signal::HUP);
            }
            world.is_converged().await
        })
        .await;
}

/// What the daemon serves and keeps.
async fn everything(world: &World) -> String {
    let mut all = String::new();
    for path in ["/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/plan", "/"] {
        all += &world.ask(Method::GET, path).await.1;
    }
    for file in fs::read_dir(world.path("state")).unwrap() {
        all += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }
    all
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// What it logged to its end.
async fn logged(world: &mut World) -> String {
    world.stop_and_read().await.1.join("\n")
}

/// What Descope showed of the keys and applications, as it lies in their files.
fn shown_once(world: &World) -> Vec<String> {
    let files = ["i.secret", "k.key"].iter();
    let shown: Vec<String> = files.map(|file| read(&world.path("secrets").join(file)).trim().to_owned()).collect();
    assert!(shown.iter().all(|secret| !secret.is_empty()), "nothing was shown");
    shown
}

/// None of the fields' secrets is in there, and none of the others.
fn assert_sealed(all: &str, others: Vec<String>) {
    let secrets = FIELDS.iter().map(|(_, name)| sentinel(name)).chain(others);
    for secret in secrets {
        let at = all.find(&secret);
        let before = at.map(|at| String::from_utf8_lossy(&all.as_bytes()[at.saturating_sub(300)..at]).into_owned());
        assert_eq!(before, None, "{secret} leaks");
    }
}

/// Every call that carries a secret meets this, once.
async fn is_sealed_when_its_call_meets(fate: impl Fn(&World) -> Value) {
    let mut world = world().await;
    let (first, updated) = (&CALLS[..4], CALLS[4]);
    meet(&world, first, &fate(&world)).await;
    world.start().await;
    converge_for_all_that(&world).await;
    let mut all = everything(&world).await;
    all += &logged(&mut world).await;

    // Another value of each is news.
    other_values(&mut world);
    meet(&world, &[updated], &fate(&world)).await;
    world.start().await;
    let is_updated = async |world: &World| {
        let log = world.log().await;
        log.iter().filter(|call| call["path"] == updated).any(|call| call["effect"] == true)
    };
    converge_for_all_that(&world).await;
    world.until("sent anew", is_updated).await;
    converge_for_all_that(&world).await;
    all += &everything(&world).await;
    all += &logged(&mut world).await;

    assert!(all.contains("\"TRACE\""), "there was nothing to leak from");
    let log = world.log().await;
    for path in CALLS {
        let met = log.iter().any(|call| call["path"] == path && !call["fault"].is_null());
        assert!(met, "{path} went well");
    }
    assert_sealed(&all, shown_once(&world));
}

#[tokio::test]
async fn no_secret_leaves_the_process_where_its_call_is_refused_and_quoted() {
    is_sealed_when_its_call_meets(|_| json!({ "fault": "echo_request" })).await;
}

#[tokio::test]
async fn no_secret_leaves_the_process_where_its_call_is_refused_in_words() {
    is_sealed_when_its_call_meets(refused_in_words).await;
}

#[tokio::test]
async fn no_secret_leaves_the_process_where_its_call_is_over_the_limit() {
    let fate = json!({ "fault": "status", "status": 429, "headers": { "retry-after": "0" } });
    is_sealed_when_its_call_meets(|_| fate.clone()).await;
}

#[tokio::test]
async fn no_secret_leaves_the_process_where_its_call_is_cut_off() {
    is_sealed_when_its_call_meets(|_| json!({ "fault": "reset_after" })).await;
}

#[tokio::test]
async fn no_secret_that_is_shown_once_leaves_the_process_where_its_answer_cannot_be_read() {
    for fault in ["malformed_json", "short_body", "reset_after"] {
        let mut world = world().await;
        meet(&world, &SHOWING, &json!({ "fault": fault, "effect": true })).await;
        world.start().await;
        world
            .until("both parked", async |world| {
                let problems = world.project().await["problems"].as_array().unwrap().clone();
                SHOWN.iter().all(|kind| problems.iter().any(|one| one["kind"] == *kind && one["state"] == "parked"))
            })
            .await;
        let live = world.live().await;
        let mut all = everything(&world).await;
        all += &logged(&mut world).await;

        let made = |kind: &&str| live[kind].as_array().unwrap().clone();
        let secrets: Vec<String> = SHOWN
            .iter()
            .flat_map(made)
            .map(|one| one["cleartext"].as_str().or(one["clientSecret"].as_str()).unwrap().to_owned())
            .collect();
        assert_eq!(secrets.len(), 2, "{fault}");
        assert_sealed(&all, secrets);
    }
}

#[tokio::test]
async fn no_command_tells_a_secret() {
    let mut world = world().await;
    world.converge().await;
    other_values(&mut world);
    let out = world.path("exported");
    let out = out.to_str().unwrap();
    let mut all = String::new();
    for args in [
        &["plan"][..],
        &["plan", "-o", "json"],
        &["plan", "-o", "markdown"],
        &["validate", "-o", "json"],
        &["audit"],
        &["audit", "-o", "json"],
        &["export", "--dir", out],
    ] {
        all += &text(&world.run(&[args, &["--log-level", "trace"]].concat()).await);
    }
    for file in fs::read_dir(out).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        all += &read(&file);
    }

    assert!(all.contains("TRACE") && all.contains("(secret)"), "there was nothing to leak from");
    assert_sealed(&all, shown_once(&world));
}

#[tokio::test]
async fn no_receiver_of_notifications_is_told_a_secret() {
    let mut world = world().await;
    let Some(receiver) = Receiver::start(&world).await else { return };
    world.environment.push(("HOOK_URL".to_owned(), receiver.url.clone() + "/hook"));
    world.environment.push(("SLACK_URL".to_owned(), receiver.url.clone() + "/slack"));
    world.reconfigure(|setup| {
        let hook = "{ type: webhook, url: { env: HOOK_URL }, on: [failing] }";
        let slack = "{ type: slack, url: { env: SLACK_URL }, on: [failing] }";
        setup.top.push(format!("notifications: [{hook}, {slack}]"));
    });
    world.converge().await;
    let shown = shown_once(&world);

    // Refused in words that quote all of them, those that Descope showed a moment ago too.
    let known = world.environment.iter().map(|(_, value)| value).chain(&shown);
    let quoted = known.map(String::as_str).collect::<Vec<_>>().join(" ");
    let body = json!({ "errorCode": "E011003", "errorMessage": quoted });
    meet(&world, &CALLS[4..], &json!({ "fault": "status", "status": 400, "body": body })).await;
    world.write("a.yaml", &FILES.replace("name: O,", "name: Other,"));
    let is_told = |sink: &str| {
        let told = receiver.requests().into_iter().filter(|request| request["url"] == sink);
        told.map(|request| request["body"].to_string()).any(|body| body.contains("(secret) (secret)"))
    };
    world.until("told", async |_| ["/hook", "/slack"].into_iter().all(is_told)).await;

    let all: String = receiver.requests().iter().map(Value::to_string).collect();
    assert_sealed(&(all + &logged(&mut world).await), shown);
}
