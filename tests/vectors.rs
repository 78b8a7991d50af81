//! What the client really sends, compared with the requests recorded from the official SDKs.
//!
//! Every vector of the managed families is either driven through the client or listed with the reason why the daemon
//! never makes that call.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test that goes wrong panics")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Request;
use axum::http::StatusCode;
use descope_gitops::backoff::Backoff;
use descope_gitops::descope::Call;
use descope_gitops::descope::Client;
use descope_gitops::descope::Document;
use descope_gitops::descope::Settings;
use descope_gitops::descope::transport::Network;
use descope_gitops::limiter;
use descope_gitops::limiter::Limiter;
use descope_gitops::resource::Item;
use descope_gitops::resource::Key;
use descope_gitops::resource::MAIN;
use descope_gitops::resource::Write;
use descope_gitops::resource::kind;
use descope_gitops::telemetry::metrics::Metrics;
use descope_gitops::telemetry::redact::Redactor;
use nonempty::NonEmpty;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

const FAMILIES: [&str; 9] =
    ["tenant", "permission", "role", "license", "flow", "theme", "fga", "authz", "jwt_template"];

/// Headers that do not depend on the SDK.
const STABLE_HEADERS: [&str; 4] = ["authorization", "content-type", "x-descope-project-id", "x-descope-license"];

const SERVER_ID: &str = "a declared tenant always has an id: the server never chooses one";
const ONE_TENANT: &str = "tenants are observed by the list of all, which tells absent from broken";
const SEARCH: &str = "everything is observed by the list of all";
const SETTINGS: &str = "tenant settings are no part of these kinds";
const SSO_LINK: &str = "links for tenant admins are handed out by people";
const ONE_ITEM: &str = "one item takes the single endpoint";
const BY_ID: &str = "roles and permissions are addressed by name: a server id says nothing to a reader of the YAML";
const V1: &str = "documents of v1 and v2 are not interchangeable: only v2 is spoken";
const DATA: &str = "relations are data of the project, and no configuration";
const OLDER: &str = "an older form of the schema, of which only the delete is needed";
const LIBRARY: &str = "a template of the library becomes one of the repo by hand";

const NEVER_SENT: [(&str, &str); 35] = [
    ("py-tenant-create-name-only", SERVER_ID),
    ("node-tenant-create", SERVER_ID),
    ("go-tenant-create-min", SERVER_ID),
    ("py-tenant-load", ONE_TENANT),
    ("node-tenant-load", ONE_TENANT),
    ("py-tenant-search-all-empty", SEARCH),
    ("py-tenant-search-filters", SEARCH),
    ("py-role-search-by-name", SEARCH),
    ("node-role-search", SEARCH),
    ("py-tenant-settings-get", SETTINGS),
    ("py-tenant-settings-update-session", SETTINGS),
    ("node-tenant-settings-update", SETTINGS),
    ("go-tenant-settings-update", SETTINGS),
    ("py-tenant-sso-link-generate", SSO_LINK),
    ("py-tenant-sso-link-revoke", SSO_LINK),
    ("py-permission-update-by-id", BY_ID),
    ("node-permission-update-with-id", BY_ID),
    ("py-permission-update-batch", BY_ID),
    ("py-role-update-by-id", BY_ID),
    ("py-role-update-batch", BY_ID),
    ("node-role-update-batch", BY_ID),
    ("py-role-delete-batch-ids", BY_ID),
    ("go-permission-delete-batch", ONE_ITEM),
    ("py-flow-export-v1", V1),
    ("node-flow-export-v1", V1),
    ("py-flow-import-v1", V1),
    ("py-theme-export-v1", V1),
    ("py-theme-import-v1", V1),
    ("node-theme-export-v1", V1),
    ("node-theme-import-v1", V1),
    ("py-fga-relations-create", DATA),
    ("py-authz-schema-load", OLDER),
    ("node-jwttpl-load", SEARCH),
    ("node-jwttpl-library-list", LIBRARY),
    ("node-jwttpl-library-apply", LIBRARY),
];

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

#[tokio::test]
async fn the_client_sends_what_the_sdks_send() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("contract/requests.json")).unwrap();
    let vectors: Vec<_> = vectors.into_iter().filter(|v| FAMILIES.contains(&&*v.family)).collect();
    let names: BTreeSet<_> = vectors.iter().map(|v| &*v.name).collect();
    let never_sent = BTreeMap::from(NEVER_SENT);
    for name in never_sent.keys() {
        assert!(names.contains(name), "{name} is no recorded vector");
    }

    let mut driven = 0;
    for vector in vectors.iter().filter(|v| !never_sent.contains_key(&*v.name)) {
        let server = Recorder::start().await;
        drive(&server.client(&vector.headers), vector).await;

        let (found, headers) = server.last();
        assert_eq!(normal(found), normal(vector.request.clone()), "{}", vector.name);
        // Some SDKs name the content type of a GET and some do not; we do.
        let is_bare_get = vector.request.method == "GET" && !vector.headers.contains_key("content-type");
        for name in STABLE_HEADERS.into_iter().filter(|name| !(is_bare_get && *name == "content-type")) {
            assert_eq!(headers.get(name), vector.headers.get(name), "{}: {name}", vector.name);
        }
        driven += 1;
    }
    assert_eq!(driven + never_sent.len(), names.len());
}

#[tokio::test]
async fn the_handshake_is_the_recorded_license_call_without_the_tier() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("contract/requests.json")).unwrap();
    let vector = vectors.iter().find(|v| v.name == "py-license-get").unwrap();
    let server = Recorder::start().await;

    server.client(&vector.headers).read(&Call::list_roles()).await.unwrap();

    let received = server.received.lock().unwrap();
    let [(handshake, headers), (list, _)] = &received[..] else { panic!("{received:?}") };
    assert_eq!((handshake, &*list.path), (&vector.request, "/v1/mgmt/role/all"));
    assert!(!headers.contains_key("x-descope-license"));
    assert_eq!(headers["authorization"], vector.headers["authorization"]);
}

/// Makes the call that a vector describes, the way the daemon makes it.
async fn drive(client: &Client, vector: &Vector) {
    let args = &vector.args;
    let (family, operation) = (&*vector.family, &*vector.operation);
    if (family, operation) == ("license", "get") {
        client.read(&Call::license()).await.unwrap();
        return;
    }
    if drive_document(client, vector).await {
        return;
    }
    let kind = kind(&format!("{family}s")).unwrap();
    let kind_name = kind.name();
    let text = |name: &str| args[name].as_str().unwrap();
    let id = || Key::new(kind_name, text("id"));
    let key_of = |item: &Document| kind.key(item).unwrap();
    let delete = Write::Delete { cascade: args.get("cascade") == Some(&Value::Bool(true)) };
    let mut part = MAIN;
    let writes: Vec<(Key, Write)> = match (family, operation) {
        (_, "load_all") => {
            assert_eq!(kind.list(client).await.unwrap(), Vec::<Document>::new(), "{}", vector.name);
            return;
        }
        ("tenant", "create") => vec![(id(), Write::Create(fields(args)))],
        ("tenant", "patch") => vec![(id(), Write::Patch(fields(args)))],
        ("tenant", "update") => vec![(id(), Write::Overwrite { from: text("id").into(), body: fields(args) })],
        ("tenant", "delete") => vec![(id(), delete)],
        ("tenant", "update_default_roles") => {
            let id = text("tenant_id");
            let body = Document::from_iter([("defaultRoles".to_owned(), args["role_names"].clone())]);
            part = "defaultRoles";
            vec![(Key::new("tenants", id), Write::Overwrite { from: id.into(), body })]
        }
        (_, "create") => vec![(key_of(&fields(args)), Write::Create(fields(args)))],
        (_, "create_batch") => {
            let items = args[kind_name].as_array().unwrap();
            let items = items.iter().map(|item| fields(item.as_object().unwrap()));
            items.map(|item| (key_of(&item), Write::Create(item))).collect()
        }
        (_, "update") => {
            let key = Key::new(kind_name, text("new_name"));
            vec![(key, Write::Overwrite { from: text("name").into(), body: fields(args) })]
        }
        (_, "delete") => vec![(Key::new(kind_name, text("name")), delete)],
        (_, "delete_batch") => {
            let names = args.get("names").or(args.get("roles")).unwrap().as_array().unwrap();
            names.iter().map(|name| (Key::new(kind_name, name.as_str().unwrap()), delete.clone())).collect()
        }
        _ => panic!("{} is neither driven nor listed as never sent", vector.name),
    };
    let items = writes.iter().map(|(key, write)| Item::new(key, None, write));
    let items = NonEmpty::from_vec(items.collect()).unwrap();
    assert!(items.len() <= kind.batch_size(part, items.head.write));
    kind.send(client, kind.spec().part(part).unwrap(), &items).await.unwrap();
}

/// The same of kinds that are documents. False for any other.
async fn drive_document(client: &Client, vector: &Vector) -> bool {
    let args = &vector.args;
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let template = args.get("template").and_then(Value::as_object);
    let (name, key, id) = match &*vector.family {
        "flow" => {
            let ids = args.get("flow_ids").and_then(|ids| ids[0].as_str());
            ("flows", text("flow_id").or(ids).map(|id| Key::new("flows", id)), None)
        }
        "theme" => ("theme", Some(Key::only("theme")), None),
        "fga" => ("fgaSchema", Some(Key::only("fgaSchema")), None),
        "jwt_template" => {
            let id = text("id").or_else(|| template?.get("id")?.as_str());
            let name = template.and_then(|template| template["name"].as_str()).unwrap_or("x");
            ("jwtTemplates", Some(Key::new("jwtTemplates", name)), id)
        }
        _ => return false,
    };
    let kind = kind(name).unwrap();
    let main = kind.spec().main();
    let content = args.get("flow").or(args.get("schema")).cloned();
    let body = content.map(|content| Document::from_iter([("file".to_owned(), content)]));
    let body = body.or_else(|| template.cloned()).unwrap_or_default();
    let write = match &*vector.operation {
        "list" | "load_schema" => {
            kind.list(client).await.unwrap();
            return true;
        }
        // The theme is its own list; the answer of a recorder has no flow in it.
        "export" if name == "theme" => {
            kind.list(client).await.unwrap();
            return true;
        }
        "export" => {
            kind.read(client, main, &key.unwrap(), None).await.unwrap_err();
            return true;
        }
        "dryrun" => {
            kind.preview(client, &Document::new(), &body).await.unwrap();
            return true;
        }
        "create" => Write::Create(body),
        "import" | "save_schema" | "update" => Write::Overwrite { from: key.as_ref().unwrap().name.clone(), body },
        "delete" => Write::Delete { cascade: false },
        _ => panic!("{} is neither driven nor listed as never sent", vector.name),
    };
    let item = Item { key: &key.unwrap(), id, write: &write, live: None, changed: &[] };
    kind.send(client, main, &NonEmpty::new(item)).await.unwrap();
    true
}

/// The neutral names of a vector's arguments as the API's own.
fn fields(args: &Document) -> Document {
    let wire = |name: &str| match name {
        "enforce_sso" => "enforceSSO".to_owned(),
        "enforce_sso_exclusions" => "enforceSSOExclusions".to_owned(),
        snake => {
            let mut words = snake.split('_');
            let first = words.next().unwrap_or_default().to_owned();
            words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
        }
    };
    args.iter().map(|(name, value)| (wire(name), value.clone())).collect()
}

/// As the contract compares: null is absent, and so is zero, except where a patch makes presence meaningful.
fn normal(mut request: Recorded) -> Recorded {
    let is_patch = request.method == "PATCH";
    request.body = folded(request.body, is_patch);
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

type Received = Arc<Mutex<Vec<(Recorded, BTreeMap<String, String>)>>>;

/// An HTTP server on loopback that remembers what it gets.
struct Recorder {
    url: Url,
    received: Received,
    _server: JoinSet<()>,
}

impl Recorder {
    async fn start() -> Self {
        let received = Received::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(record).with_state(received.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, received, _server: server }
    }

    /// A client for the project and key of a vector.
    fn client(&self, headers: &BTreeMap<String, String>) -> Client {
        let credentials = headers["authorization"].strip_prefix("Bearer ").unwrap();
        let (project_id, key) = credentials.split_once(':').unwrap();
        let metrics = Arc::new(Metrics::new());
        let settings = Settings {
            project_id: project_id.to_owned(),
            base_url: self.url.clone(),
            request_timeout: Duration::from_secs(10),
            retry: Backoff { max_attempts: 1, initial: Duration::from_secs(1), max: Duration::from_secs(1) },
            redactor: Redactor::new(),
        };
        let key = key.to_owned();
        let key = Arc::new(move || Ok(SecretString::from(key.clone())));
        let transport = Arc::new(Network::to(&self.url, 1 << 20).unwrap());
        Client::new(settings, key, transport, free(&metrics), metrics, CancellationToken::new())
    }

    fn last(&self) -> (Recorded, BTreeMap<String, String>) {
        self.received.lock().unwrap().last().unwrap().clone()
    }
}

async fn record(State(received): State<Received>, request: Request<axum::body::Body>) -> (StatusCode, String) {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let path = parts.uri.path().to_owned();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let recorded = Recorded { method: parts.method.to_string(), path: path.clone(), query, body };
    received.lock().unwrap().push((recorded, headers.collect()));
    let answer = match path.rsplit_once('/').unwrap() {
        ("/v1/mgmt", "license") => json!({ "rateLimitTier": "tier2" }),
        ("/v1/mgmt/flow", "list") => json!({ "flows": [] }),
        ("/v1/mgmt/jwt/templates", "list") => json!({ "templates": [] }),
        (list, "all") => json!({ format!("{}s", list.rsplit_once('/').unwrap().1): [] }),
        _ => json!({}),
    };
    (StatusCode::OK, answer.to_string())
}

/// A limiter that knows no limit.
fn free(metrics: &Arc<Metrics>) -> Limiter {
    let settings = limiter::Settings { limit: None, ..limiter::Settings::default() };
    Limiter::new("127.0.0.1", settings, None, Arc::clone(metrics))
}
