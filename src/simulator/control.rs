//! `/_sim`: looking at the simulator and changing it.

use super::exchange::Request;
use super::exchange::Store;
use super::fault::Rule;
use super::fields::Document;
use super::fields::Fields;
use super::gate::Limit;
use super::kinds::audit;
use super::refusal::Refusal;
use super::reply::Reply;
use super::state;
use super::view::bytes;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// Everything below this is ours and no call of the API.
pub const PREFIX: &str = "/_sim";

/// Answers a request of our own. Mistakes are 400 with a message, so a test reads what it did wrong.
pub fn answer(memory: &mut Store, now: Duration, request: &Request) -> Reply {
    match run(memory, now, request) {
        Ok(body) => Reply::of_json(200, body),
        Err(Refusal::NoSuchCall) => Reply::json(404, &json!({ "error": "no such thing under /_sim" })),
        Err(Refusal::NotFound(message, _)) => Reply::json(404, &json!({ "error": message })),
        Err(Refusal::Bare(status)) => Reply::text(status, ""),
        Err(Refusal::BadKey) => Reply::text(401, ""),
        Err(
            Refusal::Malformed(message)
            | Refusal::Invalid(message)
            | Refusal::Exists(message)
            | Refusal::Coded { message, .. },
        ) => Reply::json(400, &json!({ "error": message })),
    }
}

fn run(memory: &mut Store, now: Duration, request: &Request) -> Result<Vec<u8>, Refusal> {
    let path = request.path.strip_prefix(PREFIX).unwrap_or_default();
    match (request.method.as_str(), path) {
        ("GET", "/log") => {
            let since = match parameter(request, "since") {
                Some(since) => since.parse().map_err(|_| Refusal::Invalid("since is not a number".to_owned()))?,
                None => 0,
            };
            Ok(memory.log.entries(since))
        }
        ("DELETE", "/log") => {
            memory.log.clear();
            Ok(bytes(&json!({})))
        }
        ("GET", "/stats") => Ok(bytes(&memory.log.stats(memory.gate.background()))),
        ("DELETE", "/stats") => {
            memory.log.reset_counts();
            Ok(bytes(&json!({})))
        }
        ("GET", "/options") => Ok(bytes(&memory.switches)),
        ("PUT", "/options") => {
            memory.switches = memory.switches.with(object(request)?).map_err(Refusal::Invalid)?;
            Ok(bytes(&memory.switches))
        }
        ("GET", "/faults") => Ok(bytes(&memory.faults)),
        ("PUT", "/faults") => {
            memory.faults = parsed::<Vec<Rule>>(&request.body)?;
            Ok(bytes(&memory.faults))
        }
        ("DELETE", "/faults") => {
            memory.faults.clear();
            Ok(bytes(&json!([])))
        }
        ("GET", "/rate-limit") => Ok(bytes(&memory.gate.limit())),
        ("PUT", "/rate-limit") => set_limit(memory, now, request).map(|limit| bytes(&limit)),
        ("GET", "/state") => {
            if let Some(project) = parameter(request, "project") {
                return Ok(state::write(memory.world(project)));
            }
            let worlds = memory.worlds.iter().map(|(id, world)| [&bytes(id)[..], b":", &state::write(world)].concat());
            Ok([&b"{\"projects\":{"[..], &worlds.collect::<Vec<_>>().join(&b","[..]), b"}}"].concat())
        }
        ("PUT", "/state") => put_state(memory, request).map(|()| bytes(&json!({}))),
        (method, path) => edit(memory, method, path, request).map(|()| bytes(&json!({}))),
    }
}

fn set_limit(memory: &mut Store, now: Duration, request: &Request) -> Result<Value, Refusal> {
    let limit = match parsed::<Option<Document>>(&request.body)? {
        None => None,
        Some(change) => {
            let current = json!(memory.gate.limit().cloned().unwrap_or_default());
            let mut all = current.as_object().cloned().unwrap_or_default();
            all.extend(change);
            let limit: Limit = parsed(Value::Object(all).to_string().as_bytes())?;
            limit.check().map_err(Refusal::Invalid)?;
            Some(limit)
        }
    };
    memory.gate.set(now, limit);
    Ok(json!(memory.gate.limit()))
}

/// With `project` that world, without it those that the body names.
fn put_state(memory: &mut Store, request: &Request) -> Result<(), Refusal> {
    let mut document = object(request)?;
    let projects = match (parameter(request, "project"), document.remove("projects")) {
        (Some(project), None) => [(project.to_owned(), Value::Object(document))].into_iter().collect(),
        (None, Some(Value::Object(projects))) if document.is_empty() => projects,
        (_, _) => return Err(Refusal::Invalid("give ?project=ID, or { \"projects\": { ID: ... } }".to_owned())),
    };
    fill(memory, projects)
}

/// Replaces the contents of these projects; of all or of none.
pub fn fill(memory: &mut Store, projects: Document) -> Result<(), Refusal> {
    let mut worlds = Vec::new();
    for (project, world) in projects {
        let Value::Object(world) = world else { return Err(Refusal::Malformed("a state is an object".to_owned())) };
        let world = state::read(world, memory.seed ^ super::hash(&project))?;
        worlds.push((project, world));
    }
    memory.worlds.extend(worlds);
    Ok(())
}

/// `PUT|DELETE /state/KIND/KEY`.
fn edit(memory: &mut Store, method: &str, path: &str, request: &Request) -> Result<(), Refusal> {
    let (kind, key) = path.strip_prefix("/state/").and_then(|rest| rest.split_once('/')).ok_or(Refusal::NoSuchCall)?;
    let key = percent_decode_str(key).decode_utf8().map_err(|_| Refusal::Malformed("a key is UTF-8".to_owned()))?;
    let tenant = parameter(request, "tenant").unwrap_or_default();
    let only = memory.worlds.keys().next().filter(|_| memory.worlds.len() == 1).cloned();
    let project = parameter(request, "project").map(str::to_owned).or(only);
    let project =
        project.ok_or_else(|| Refusal::Invalid("more or less than one project: give ?project=ID".to_owned()))?;
    let kind = state::kind(kind)?;
    let world = memory.world(&project);
    let mark = world.mark();
    let verb = if method == "DELETE" { "Deleted" } else { "Modified" };
    audit::note_edit(world, kind.name(), verb, tenant, &key);
    match method {
        "PUT" => {
            let mut fields = object(request)?;
            fields.insert(kind.key().to_owned(), json!(key));
            if !tenant.is_empty() {
                fields.insert("tenantId".to_owned(), json!(tenant));
            }
            kind.put(world, Fields::new(fields))?;
        }
        "DELETE" => kind.remove(world, tenant, &key)?,
        _ => return Err(Refusal::NoSuchCall),
    }
    world.settle(&mark);
    Ok(())
}

fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn object(request: &Request) -> Result<Document, Refusal> {
    parsed(&request.body)
}

fn parsed<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::Invalid(error.to_string()))
}
