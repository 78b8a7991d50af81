//! Descope's side of a project of any size: the list of tenants is made up while it is sent, and of what is written only the names are
//! kept. A simulator of a million tenants would need more memory than what is measured.

use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Tenants that are made at a time.
const AT_A_TIME: usize = 2_000;
/// Of a write.
const LARGEST_BODY: usize = 1 << 20;

/// Serves on threads of its own until it is dropped.
pub struct Listed {
    /// Where.
    pub address: String,
    _runtime: Runtime,
}

/// What is asked and told.
#[derive(Default)]
struct Project {
    tenants: usize,
    /// Those that were written.
    names: Mutex<HashMap<String, Value>>,
    requests: AtomicU64,
    writes: AtomicU64,
}

impl Listed {
    /// Of so many tenants.
    pub fn new(tenants: usize) -> io::Result<Self> {
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?.to_string();
        let project = Arc::new(Project { tenants, ..Project::default() });
        let router = Router::new().fallback(answer).with_state(project);
        #[allow(clippy::disallowed_methods, reason = "it ends with the runtime")]
        runtime.spawn(async { axum::serve(listener, router).await });
        Ok(Self { address, _runtime: runtime })
    }
}

async fn answer(State(project): State<Arc<Project>>, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/_sim/stats" {
        let (requests, writes) = (project.requests.load(Ordering::Relaxed), project.writes.load(Ordering::Relaxed));
        return json_of(Body::from(json!({ "requests": requests, "writes": writes }).to_string()));
    }
    project.requests.fetch_add(1, Ordering::Relaxed);
    if path.ends_with("/tenant/all") {
        return json_of(project.list());
    }
    if request.method() != Method::GET {
        project.writes.fetch_add(1, Ordering::Relaxed);
        let body = to_bytes(request.into_body(), LARGEST_BODY).await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let (Some(id), Some(name)) = (body["id"].as_str(), body.get("name")) {
            let mut names = project.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.insert(id.to_owned(), name.clone());
        }
    }
    json_of(Body::from("{}"))
}

fn json_of(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

impl Project {
    fn list(&self) -> Body {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = self.tenants;
        let some = move |from: usize| (from..all.min(from + AT_A_TIME)).map(|n| tenant(n, &names)).collect::<String>();
        let parts = (0..all).step_by(AT_A_TIME).map(some);
        let whole = [r#"{"tenants":["#.to_owned()].into_iter().chain(parts).chain(["]}".to_owned()]);
        Body::from_stream(stream::iter(whole.map(|part| Ok::<_, Infallible>(Bytes::from(part)))))
    }
}

/// As Descope shows it, all fields included; with a comma before it where it is not the first.
fn tenant(n: usize, names: &HashMap<String, Value>) -> String {
    let id = format!("tenant-{n:07}");
    let name = names.get(&id).map_or_else(|| format!(r#""Tenant {n} (gold)""#), Value::to_string);
    let mut text = String::from(if n == 0 { "" } else { "," });
    let written = write!(
        text,
        r#"{{"id":"{id}","name":{name},"selfProvisioningDomains":["t{n}.example.com"],"customAttributes":{{}},"authType":"none","domains":[],"createdTime":1726067549,"enforceSSO":true,"enforceSSOExclusions":[],"disabled":false,"roleInheritance":"","defaultRoles":[],"parent":"","federatedAppIds":[],"successors":[]}}"#
    );
    // Writing to a text cannot fail.
    written.unwrap_or_default();
    text
}
