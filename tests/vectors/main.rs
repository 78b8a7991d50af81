//! What the client really sends, compared with the requests recorded from the official SDKs.
//!
//! Every vector of the managed families is either driven through the client or listed with the reason why the daemon
//! never makes that call.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test that goes wrong panics")]

mod drive;
mod never_sent;
mod recorder;

use crate::drive::CHOSEN;
use crate::drive::drive;
use crate::recorder::Recorder;
use descope_gitops::descope::Document;
use descope_gitops::resource;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Headers that do not depend on the SDK.
const STABLE_HEADERS: [&str; 4] = ["authorization", "content-type", "x-descope-project-id", "x-descope-license"];

/// What our request says beside, or otherwise, and where in the body: the server never chooses the id of what is declared;
/// nobody writes a display name; and an empty list of default roles counts only where it is said to.
const OURS: [(&str, &str, &str); 11] = [
    ("py-tenant-create-name-only", "/id", CHOSEN),
    ("node-tenant-create", "/id", CHOSEN),
    ("go-tenant-create-min", "/id", CHOSEN),
    ("py-ssoapp-oidc-create", "/id", CHOSEN),
    ("py-ssoapp-saml-create-manual", "/id", CHOSEN),
    ("node-ssoapp-oidc-create", "/id", CHOSEN),
    ("node-ssoapp-saml-create", "/id", CHOSEN),
    ("go-ssoapp-oidc-create-confidential", "/id", CHOSEN),
    ("py-outapp-create-min", "/id", CHOSEN),
    ("go-outapp-create", "/id", CHOSEN),
    ("py-sso-new", "/displayName", "okta"),
];

/// Of a call that keeps what it leaves out, zero is a value.
const KEEPS_ZERO: [&str; 3] = ["/v1/mgmt/accesskey/update", "/v1/mgmt/tenant/patch", "/v2/mgmt/thirdparty/app/patch"];

#[derive(Debug, Deserialize)]
struct Vector {
    name: String,
    family: String,
    operation: String,
    args: Document,
    request: Recorded,
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Recorded {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    body: Value,
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../contract/requests.json")).unwrap();
    let is_managed = |vector: &Vector| !never_sent::FAMILIES.contains(&&*vector.family);
    vectors.into_iter().filter(is_managed).collect()
}

#[tokio::test]
async fn the_client_sends_what_the_sdks_send() {
    let vectors = vectors();
    let names: BTreeSet<_> = vectors.iter().map(|v| &*v.name).collect();
    let never_sent: BTreeMap<_, _> = never_sent::VECTORS.iter().copied().collect();
    let ours: BTreeSet<_> = OURS.iter().map(|(name, ..)| *name).collect();
    for name in never_sent.keys().chain(&ours) {
        assert!(names.contains(name), "{name} is no recorded vector");
    }

    let (mut driven, mut wrong) = (0, Vec::new());
    for vector in vectors.iter().filter(|v| !never_sent.contains_key(&*v.name)) {
        let server = Recorder::start().await;
        drive(&server.client(&vector.headers), vector).await;

        let (mut found, headers) = server.sent(&vector.request.path);
        let mut expected = vector.request.clone();
        for (_, place, value) in OURS.iter().filter(|(name, ..)| *name == vector.name) {
            assert_eq!(found.body.pointer(place), Some(&json!(value)), "{}: {place}", vector.name);
            for request in [&mut found, &mut expected] {
                request.body.as_object_mut().unwrap().remove(&place[1..]);
            }
        }
        if let Some(settings) = found.body.get_mut("settings").and_then(Value::as_object_mut)
            && settings.contains_key("defaultSSORoles")
        {
            assert_eq!(settings.remove("replaceDefaultSSORoles"), Some(json!(true)), "{}", vector.name);
        }
        if normal(found.clone()) != normal(expected.clone()) {
            wrong.push(format!("{}\n  sent     {found:?}\n  recorded {expected:?}", vector.name));
        }
        // Some SDKs name the content type of a GET and some do not; we do.
        let is_bare_get = vector.request.method == "GET" && !vector.headers.contains_key("content-type");
        for name in STABLE_HEADERS.into_iter().filter(|name| !(is_bare_get && *name == "content-type")) {
            assert_eq!(headers.get(name), vector.headers.get(name), "{}: {name}", vector.name);
        }
        driven += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(driven + never_sent.len(), names.len());
}

#[tokio::test]
async fn the_handshake_is_the_recorded_license_call_without_the_tier() {
    let vectors = vectors();
    let vector = vectors.iter().find(|v| v.name == "py-license-get").unwrap();
    let server = Recorder::start().await;

    server.client(&vector.headers).list(&resource::kind("roles").unwrap().listing()).await.unwrap();

    let received = server.received.lock().unwrap();
    let [(handshake, headers), (list, _)] = &received[..] else { panic!("{received:?}") };
    assert_eq!((handshake, &*list.path), (&vector.request, "/v1/mgmt/role/all"));
    assert!(!headers.contains_key("x-descope-license"));
    assert_eq!(headers["authorization"], vector.headers["authorization"]);
}

/// As the contract compares: null is absent, and so is zero, except where presence means something.
fn normal(mut request: Recorded) -> Recorded {
    let keeps_zero = KEEPS_ZERO.contains(&&*request.path);
    request.body = folded(request.body, keeps_zero);
    // A question without arguments may have an empty body or none.
    if request.body == json!({}) {
        request.body = Value::Null;
    }
    request
}

fn folded(value: Value, keeps_zero: bool) -> Value {
    match value {
        Value::Object(object) => {
            let fields = object.into_iter().map(|(name, value)| (name, folded(value, keeps_zero)));
            Value::Object(fields.filter(|(_, v)| !v.is_null() && (keeps_zero || !is_zero(v))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(|item| folded(item, keeps_zero)).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

fn is_zero(value: &Value) -> bool {
    [json!(""), json!(false), json!(0), json!([]), json!({})].contains(value)
}
