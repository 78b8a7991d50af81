//! A server that takes whatever it gets, and remembers it.

use crate::Recorded;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Request;
use axum::http::StatusCode;
use descope_gitops::backoff::Backoff;
use descope_gitops::descope::Client;
use descope_gitops::descope::Settings;
use descope_gitops::descope::transport::Network;
use descope_gitops::limiter;
use descope_gitops::limiter::Limiter;
use descope_gitops::telemetry::metrics::Metrics;
use descope_gitops::telemetry::redact::Redactor;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

const NEWER_PASSWORDS: &str = "/v2/mgmt/password/settings";

/// Where answers have what was asked for: nothing is there.
const LISTS: [&str; 11] = [
    "apps",
    "data",
    "flows",
    "keys",
    "lists",
    "permissions",
    "projects",
    "roles",
    "SSOSettings",
    "templates",
    "tenants",
];

pub type Received = Arc<Mutex<Vec<(Recorded, BTreeMap<String, String>)>>>;

/// An HTTP server on loopback that remembers what it gets.
pub struct Recorder {
    url: Url,
    pub received: Received,
    _server: JoinSet<()>,
}

impl Recorder {
    pub async fn start() -> Self {
        let received = Received::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(record).with_state(received.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, received, _server: server }
    }

    /// A client for the project and key of a vector.
    pub fn client(&self, headers: &BTreeMap<String, String>) -> Client {
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

    /// The last request to this path, or to any.
    pub fn sent(&self, path: &str) -> (Recorded, BTreeMap<String, String>) {
        let received = self.received.lock().unwrap();
        received.iter().rfind(|(request, _)| request.path == path).or(received.last()).unwrap().clone()
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
    // No SDK was recorded with it: what the daemon asks where it is refused is compared.
    let status = if path == NEWER_PASSWORDS { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let mut answer = json!({ "rateLimitTier": "tier2", "total": 0 });
    for list in LISTS {
        answer[list] = json!([]);
    }
    (status, answer.to_string())
}

/// A limiter that knows no limit.
fn free(metrics: &Arc<Metrics>) -> Limiter {
    let settings = limiter::Settings { limit: None, ..limiter::Settings::default() };
    Limiter::new("127.0.0.1", settings, None, Arc::clone(metrics))
}
