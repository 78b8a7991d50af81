//! Every recorded request of the families that exist is taken, and its dialects mean the same.

use crate::harness::Answer;
use crate::harness::PROJECT;
use crate::harness::World;
use crate::harness::fixture;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Families whose calls nobody here needs.
const UNSPOKEN: [&str; 4] = ["engine", "management_key", "outbound_scim", "user"];

/// Where the entities of a family are in a state.
const LISTS: [(&str, &str); 9] = [
    ("tenant", "tenants"),
    ("permission", "permissions"),
    ("role", "roles"),
    ("list", "lists"),
    ("jwt_template", "jwtTemplates"),
    ("sso_application", "ssoApplications"),
    ("third_party_application", "inboundApps"),
    ("outbound_application", "outboundApps"),
    ("access_key", "accessKeys"),
];

fn read(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/contract/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn vectors() -> Vec<Value> {
    let is_spoken = |vector: &Value| !UNSPOKEN.contains(&vector["family"].as_str().unwrap());
    let vectors: Vec<Value> = read("requests.json").into_iter().filter(is_spoken).collect();
    assert!(vectors.len() > 200, "only {} recorded requests found", vectors.len());
    vectors
}

/// The entities that a body names: itself, what it wraps, or the items of its batch.
fn entities(body: &Value) -> Vec<Map<String, Value>> {
    let batch = ["permissions", "roles", "lists"].into_iter().find_map(|list| body.get(list)?.as_array());
    let mut wrapped = ["template", "app"].into_iter().filter_map(|name| body.get(name)?.as_object());
    match (batch, wrapped.find(|inner| inner.contains_key("name"))) {
        (Some(items), _) => items.iter().filter_map(Value::as_object).cloned().collect(),
        (None, Some(inner)) => vec![inner.clone()],
        (None, None) => body.as_object().cloned().into_iter().collect(),
    }
}

fn text<'a>(entity: &'a Map<String, Value>, field: &str) -> &'a str {
    entity.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn same(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    (text(a, "name") == text(b, "name") && text(a, "tenantId") == text(b, "tenantId"))
        || (!text(a, "id").is_empty() && text(a, "id") == text(b, "id"))
}

fn list_of(family: &str) -> Option<&'static str> {
    LISTS.iter().find(|(name, _)| *name == family).map(|(_, list)| *list)
}

/// The fixture, less what the request creates and whatever refers to that.
fn before(vector: &Value) -> Value {
    let mut state = fixture();
    let operation = vector["operation"].as_str().unwrap();
    if operation == "delete" {
        // A tenant with sub-tenants stays.
        for tenant in state["tenants"].as_array_mut().unwrap() {
            tenant["parent"] = Value::from("");
        }
    }
    if vector["family"] == "access_key" {
        state["roles"].as_array_mut().unwrap().push(serde_json::json!({ "name": "R" }));
    }
    if operation == "new" {
        state["sso"].as_array_mut().unwrap().pop();
    }
    let Some(list) = list_of(vector["family"].as_str().unwrap()).filter(|_| operation.starts_with("create")) else {
        return state;
    };
    let made = entities(&vector["request"]["body"]);
    let list = state[list].as_array_mut().unwrap();
    list.retain(|item| !made.iter().any(|new| same(new, item.as_object().unwrap())));
    let gone = |list: &Value, name: &Value| !list.as_array().unwrap().iter().any(|item| item["name"] == *name);
    let (permissions, roles) = (state["permissions"].clone(), state["roles"].clone());
    for role in state["roles"].as_array_mut().unwrap() {
        if let Some(names) = role.get_mut("permissionNames").and_then(Value::as_array_mut) {
            names.retain(|name| !gone(&permissions, name));
        }
    }
    for tenant in state["tenants"].as_array_mut().unwrap() {
        if let Some(names) = tenant.get_mut("defaultRoles").and_then(Value::as_array_mut) {
            names.retain(|name| !gone(&roles, name));
        }
    }
    state
}

/// Sends a recorded request with all its headers to a fresh fixture; answers the state afterwards.
async fn replay(world: &World, vector: &Value, body: &Value) -> Value {
    world.set_state(&before(vector)).await;
    let request = &vector["request"];
    let mut url = url::Url::parse(&world.url(request["path"].as_str().unwrap())).unwrap();
    for (name, value) in request["query"].as_object().unwrap() {
        url.query_pairs_mut().append_pair(name, value.as_str().unwrap());
    }
    let method = reqwest::Method::from_bytes(request["method"].as_str().unwrap().as_bytes()).unwrap();
    let mut sent = world.client.request(method, url);
    for (name, value) in vector["headers"].as_object().unwrap() {
        sent = sent.header(name, value.as_str().unwrap());
    }
    if !body.is_null() {
        sent = sent.body(body.to_string());
    }
    let response = sent.send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{}: {text}", vector["name"]);
    world.state().await
}

fn body(vector: &Value) -> &Value {
    &vector["request"]["body"]
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// The body without the fields that `drop` names, in it and in the items of its batch.
fn without(body: &Value, drop: fn(&Value) -> bool) -> Value {
    match body {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !drop(value));
            Value::Object(kept.map(|(name, value)| (name.clone(), without(value, drop))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| without(item, drop)).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => body.clone(),
    }
}

/// As the log shows a body.
fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "clientSecret" && !value.is_null() {
                    *value = Value::from("(secret)");
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A state in which null, absent and zero are one.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), pruned(value)));
            Value::Object(fields.filter(|(_, value)| !is_zero(value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[test]
fn every_recorded_family_is_spoken_but_those_that_are_named() {
    let families: BTreeSet<String> =
        read("requests.json").iter().map(|vector| vector["family"].as_str().unwrap().to_owned()).collect();
    let silent: Vec<&String> = families.iter().filter(|family| UNSPOKEN.contains(&family.as_str())).collect();

    assert_eq!((families.len(), silent.len()), (24, UNSPOKEN.len()), "{families:?}");
}

#[tokio::test]
async fn every_recorded_request_is_taken_and_logged_as_it_was_sent() {
    let world = World::new().await;

    for vector in vectors() {
        replay(&world, &vector, body(&vector)).await;

        let log = world.log().await;
        let entry = log.last().unwrap();
        assert_eq!(entry["project"], PROJECT);
        let mut request = vector["request"].clone();
        hide(&mut request["body"]);
        for field in ["method", "path", "query", "body"] {
            assert_eq!(entry[field], request[field], "{} of {}", field, vector["name"]);
        }
    }
}

#[tokio::test]
async fn dialects_of_one_operation_reach_the_same_state() {
    let world = World::new().await;
    let mut states: BTreeMap<String, Value> = BTreeMap::new();
    let mut compared = 0;

    for vector in vectors() {
        let operation = format!("{} {} {}", vector["family"], vector["operation"], vector["args"]);
        let state = pruned(&replay(&world, &vector, body(&vector)).await);
        if let Some(first) = states.get(&operation) {
            compared += 1;
            assert_eq!(*first, state, "{}", vector["name"]);
        }
        states.insert(operation, state);
    }

    assert!(compared >= 8, "only {compared} pairs");
}

#[tokio::test]
async fn null_absent_and_zero_mean_the_same_for_every_call_that_does_not_patch() {
    let world = World::new().await;

    for vector in vectors() {
        // What is present there is meant, zero or not.
        if vector["operation"] == "patch" || (vector["family"] == "access_key" && vector["operation"] == "update") {
            continue;
        }
        let state = pruned(&replay(&world, &vector, body(&vector)).await);
        for drop in [Value::is_null as fn(&Value) -> bool, is_zero] {
            let dialect = without(body(&vector), drop);
            assert_eq!(state, pruned(&replay(&world, &vector, &dialect).await), "{} as {dialect}", vector["name"]);
        }
    }
}

#[tokio::test]
async fn what_a_request_says_is_what_is_stored_and_the_rest_is_zero() {
    let world = World::new().await;
    let mut checked = 0;

    for vector in vectors() {
        let operation = vector["operation"].as_str().unwrap();
        if !["create", "create_batch", "update", "update_batch"].contains(&operation) {
            continue;
        }
        let family = vector["family"].as_str().unwrap();
        // Those that are documents are looked at below.
        if !["tenant", "permission", "role"].contains(&family) {
            continue;
        }
        let state = replay(&world, &vector, body(&vector)).await;
        for mut sent in entities(body(&vector)) {
            if let Some(new_name) = sent.remove("newName") {
                sent.insert("name".to_owned(), new_name);
            }
            let list = state[list_of(family).unwrap()].as_array().unwrap();
            let stored = list.iter().map(|item| item.as_object().unwrap()).find(|item| same(&sent, item)).unwrap();
            let computed =
                ["id", "createdTime", "systemDefault", "authType", "defaultRoles", "parent", "settings", "domains"];
            for (name, value) in stored.iter().filter(|(name, _)| !computed.contains(&name.as_str())) {
                let said = sent.get(name).filter(|said| !is_zero(said));
                assert!(
                    said == Some(value) || (said.is_none() && is_zero(value)),
                    "{}: {name} is {value}",
                    vector["name"]
                );
                checked += 1;
            }
        }
    }

    assert!(checked > 150, "only {checked} fields");
}

#[tokio::test]
async fn what_a_request_says_of_a_document_is_stored() {
    let world = World::new().await;
    let mut checked = 0;

    for vector in vectors() {
        let (family, operation) = (vector["family"].as_str().unwrap(), vector["operation"].as_str().unwrap());
        let writes = ["create", "update", "patch", "import"].iter().any(|verb| operation.starts_with(verb));
        let Some(list) = list_of(family).filter(|list| writes && !["tenants", "permissions", "roles"].contains(list))
        else {
            continue;
        };
        let state = replay(&world, &vector, body(&vector)).await;
        for sent in entities(body(&vector)) {
            let is_meant = |item: &&Value| {
                let item = item.as_object().unwrap();
                if text(&sent, "id").is_empty() {
                    text(item, "name") == text(&sent, "name")
                } else {
                    text(item, "id") == text(&sent, "id")
                }
            };
            let stored = state[list].as_array().unwrap().iter().rfind(is_meant);
            let stored = stored.unwrap_or_else(|| panic!("{} is not in {}", vector["name"], state[list]));
            for (name, value) in sent.iter().filter(|(_, value)| !is_zero(value)) {
                assert_eq!(pruned(&stored[name]), pruned(value), "{}: {name}", vector["name"]);
                checked += 1;
            }
        }
    }

    assert!(checked > 150, "only {checked} fields");
}

/// Samples of calls that nobody here needs, and of an older version of one.
fn is_unspoken(path: &str) -> bool {
    let parts =
        ["/user", "/engine", "/managementkey", "/outbound/scim", "/sso/xaa", "/infra", "/fga/check", "oauthtoken"];
    let spoken = ["/user/customattribute", "/user/attribute"];
    path == "/v1/mgmt/sso/settings"
        || (parts.iter().any(|part| path.contains(part)) && !spoken.iter().any(|part| path.contains(part)))
}

#[tokio::test]
async fn answers_have_the_recorded_shapes() {
    let world = World::new().await;
    let requests = vectors();
    let (mut checked, mut open, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());

    for sample in read("responses.json") {
        let endpoint = sample["endpoint"].as_str().unwrap();
        let Some((method, target)) = endpoint.split_once(' ').filter(|_| sample["status"] == 200) else { continue };
        let path = target.split('?').next().unwrap();
        if is_unspoken(path) {
            continue;
        }
        let of = |vector: &&Value| vector["request"]["method"] == method && vector["request"]["path"] == path;
        for vector in requests.iter().filter(of) {
            world.set_state(&before(vector)).await;
            let mut sent = target.to_owned();
            let query: Vec<String> = vector["request"]["query"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()))
                .collect();
            if !query.is_empty() && !target.contains('?') {
                sent = format!("{path}?{}", query.join("&"));
            }
            let answer = world.send(method, &sent, body(vector).clone()).await;
            let place = format!("{endpoint} of {}", vector["name"]);
            compare(&sample["body"], &answer, &place, &mut wrong);
            checked.insert(endpoint.to_owned());
        }
        // A sample of a read that no SDK was recorded with can be asked for all the same.
        if !checked.contains(endpoint) && method == "GET" {
            world.set_state(&fixture()).await;
            compare(&sample["body"], &world.get(target).await, endpoint, &mut wrong);
            checked.insert(endpoint.to_owned());
        }
        if !checked.contains(endpoint) {
            open.insert(endpoint.to_owned());
        }
    }

    assert!(wrong.is_empty(), "{wrong:#?}");
    // What no SDK was recorded with and is no read.
    assert!(checked.len() >= 100, "{} asked for; not: {open:#?}", checked.len());
}

fn compare(sample: &Value, answer: &Answer, place: &str, wrong: &mut Vec<String>) {
    if answer.status == 200 {
        fits(sample, &answer.json(), place, wrong);
    } else {
        wrong.push(format!("{place}: {} {}", answer.status, answer.text));
    }
}

/// The same keys and types all the way down; of lists the first items, where both have some. What stands in an open map, and
/// what a sample leaves null, may be anything.
fn fits(sample: &Value, answer: &Value, place: &str, wrong: &mut Vec<String>) {
    match (sample, answer) {
        (Value::Object(sample), Value::Object(answer)) => {
            let keys = |fields: &Map<String, Value>| fields.keys().cloned().collect::<BTreeSet<_>>();
            let (expected, found) = (keys(sample), keys(answer));
            if expected != found {
                wrong.push(format!("{place}: not {:?}", expected.symmetric_difference(&found).collect::<Vec<_>>()));
            }
            for (name, value) in sample.iter().filter(|(name, _)| !OPEN.contains(&name.as_str())) {
                fits(value, answer.get(name).unwrap_or(&Value::Null), &format!("{place}.{name}"), wrong);
            }
        }
        (Value::Array(sample), Value::Array(answer)) => {
            if let (Some(sample), Some(answer)) = (sample.first(), answer.first()) {
                fits(sample, answer, &format!("{place}[0]"), wrong);
            }
        }
        (Value::Null, _) => {}
        (sample, answer) if std::mem::discriminant(sample) == std::mem::discriminant(answer) => {}
        (_, answer) => wrong.push(format!("{place} is {answer}")),
    }
}

/// Maps with any keys.
const OPEN: [&str; 13] = [
    "customAttributes",
    "customClaims",
    "template",
    "data",
    "claims",
    "styles",
    "files",
    "dsl",
    "cssTemplate",
    "fgaMappings",
    "htmlTemplate",
    "issuers",
    "contents",
];
