//! Every recorded request of the families that exist is taken, and its dialects mean the same.

use crate::harness::PROJECT;
use crate::harness::World;
use crate::harness::fixture;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

const FAMILIES: [&str; 4] = ["tenant", "permission", "role", "license"];

fn read(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/contract/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn vectors() -> Vec<Value> {
    let vectors = read("requests.json");
    let vectors: Vec<Value> =
        vectors.into_iter().filter(|vector| FAMILIES.contains(&vector["family"].as_str().unwrap())).collect();
    assert!(vectors.len() > 60, "only {} recorded requests found", vectors.len());
    vectors
}

/// The entities that a body names: itself, or the items of its batch.
fn entities(body: &Value) -> Vec<Map<String, Value>> {
    let batch = ["permissions", "roles"].into_iter().find_map(|list| body.get(list)?.as_array());
    match batch {
        Some(items) => items.iter().filter_map(Value::as_object).cloned().collect(),
        None => body.as_object().cloned().into_iter().collect(),
    }
}

fn text<'a>(entity: &'a Map<String, Value>, field: &str) -> &'a str {
    entity.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn same(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    (text(a, "name") == text(b, "name") && text(a, "tenantId") == text(b, "tenantId"))
        || (!text(a, "id").is_empty() && text(a, "id") == text(b, "id"))
}

fn list_of(family: &str) -> String {
    format!("{family}s")
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
    if !operation.starts_with("create") {
        return state;
    }
    let made = entities(&vector["request"]["body"]);
    let list = state[list_of(vector["family"].as_str().unwrap())].as_array_mut().unwrap();
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

#[tokio::test]
async fn every_recorded_request_is_taken_and_logged_as_it_was_sent() {
    let world = World::new().await;

    for vector in vectors() {
        replay(&world, &vector, body(&vector)).await;

        let log = world.log().await;
        let entry = log.last().unwrap();
        assert_eq!(entry["project"], PROJECT);
        for field in ["method", "path", "query", "body"] {
            assert_eq!(entry[field], vector["request"][field], "{} of {}", field, vector["name"]);
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
        let state = replay(&world, &vector, body(&vector)).await;
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
        if vector["operation"] == "patch" {
            continue;
        }
        let state = replay(&world, &vector, body(&vector)).await;
        for drop in [Value::is_null as fn(&Value) -> bool, is_zero] {
            let dialect = without(body(&vector), drop);
            assert_eq!(state, replay(&world, &vector, &dialect).await, "{} as {dialect}", vector["name"]);
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
        let state = replay(&world, &vector, body(&vector)).await;
        let family = vector["family"].as_str().unwrap();
        for mut sent in entities(body(&vector)) {
            if let Some(new_name) = sent.remove("newName") {
                sent.insert("name".to_owned(), new_name);
            }
            let list = state[list_of(family)].as_array().unwrap();
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
async fn answers_have_the_recorded_shapes() {
    let world = World::new().await;
    let requests = vectors();
    let mut checked = BTreeSet::new();

    for sample in read("responses.json") {
        let endpoint = sample["endpoint"].as_str().unwrap();
        let path = endpoint.split('?').next().unwrap();
        let of = |vector: &&Value| {
            let request = &vector["request"];
            format!("{} {}", request["method"].as_str().unwrap(), request["path"].as_str().unwrap()) == path
        };
        for vector in requests.iter().filter(of) {
            world.set_state(&before(vector)).await;
            let mut path = vector["request"]["path"].as_str().unwrap().to_owned();
            if let Some(id) = vector["request"]["query"].get("id") {
                path = format!("{path}?id={}", id.as_str().unwrap());
            }
            let method = vector["request"]["method"].as_str().unwrap();
            let answer = world.send(method, &path, body(vector).clone()).await.ok();
            assert_eq!(shape(&sample["body"]), shape(&answer), "{}", vector["name"]);
            checked.insert(endpoint.to_owned());
        }
    }

    assert!(checked.len() >= 20, "{checked:?}");
}

/// Keys and types; of a list its first item. Values, and whether a list or map has any, are not shape.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let open = |name: &str| name == "customAttributes";
            let shown = fields.iter().map(|(name, value)| {
                let shape = if open(name) { Value::String("map".to_owned()) } else { shape(value) };
                (name.clone(), shape)
            });
            Value::Object(shown.collect())
        }
        Value::Array(items) => match items.iter().find(|item| item.is_object()) {
            Some(item) => Value::Array(vec![shape(item)]),
            None => Value::String("list".to_owned()),
        },
        Value::String(_) => Value::String("text".to_owned()),
        Value::Number(_) => Value::String("number".to_owned()),
        Value::Bool(_) => Value::String("flag".to_owned()),
        Value::Null => Value::Null,
    }
}
