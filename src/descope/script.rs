//! A transport that plays a script, for unit tests on a paused clock.

#![allow(clippy::missing_panics_doc, reason = "a test that goes wrong panics")]

use super::Call;
use super::Client;
use super::Document;
use super::Settings;
use super::call::route;
use super::transport::Request;
use super::transport::Response;
use super::transport::Transport;
use super::transport::TransportError;
use crate::backoff::Backoff;
use crate::limiter;
use crate::limiter::Limiter;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use async_trait::async_trait;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

/// The management key of every scripted client.
pub const KEY: &str = "K2secret";

/// What happens to one request.
#[derive(Debug, Clone)]
pub enum Step {
    /// An answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// Name and value.
        headers: Vec<(&'static str, &'static str)>,
        /// The body.
        body: String,
    },
    /// The network fails.
    Fail(TransportError),
    /// No answer, ever.
    Hang,
}

/// A list of things that may be a tenant's.
pub fn list_roles() -> Call {
    Call::list_in_tenants(route!(GET "/v1/mgmt/role/all"), "roles", "name", "tenantId")
}

/// A list of things with an id.
pub fn list_tenants() -> Call {
    Call::list(route!(GET "/v1/mgmt/tenant/all"), "tenants", "id")
}

/// 200 with this body.
pub fn ok(body: &Value) -> Step {
    status(200, &body.to_string())
}

/// An answer without headers.
pub fn status(status: u16, body: &str) -> Step {
    Step::Answer { status, headers: Vec::new(), body: body.to_owned() }
}

/// 429 with this `Retry-After`.
pub fn throttled(retry_after: &'static str) -> Step {
    Step::Answer { status: 429, headers: vec![("retry-after", retry_after)], body: String::new() }
}

/// The connection is refused.
pub fn refused() -> Step {
    Step::Fail(TransportError::Connect("connection refused".to_owned()))
}

/// The connection breaks.
pub fn reset() -> Step {
    Step::Fail(TransportError::Reset("connection reset".to_owned()))
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST /v1/mgmt/role/create`.
    pub line: String,
    /// `null` where there was none.
    pub body: Value,
    /// All of them.
    pub headers: HeaderMap,
    /// When.
    pub at: Instant,
}

/// Plays its steps in order; the license call is answered with `tier2` beside the script.
pub struct Script {
    steps: Mutex<VecDeque<Step>>,
    license: Mutex<Step>,
    received: Mutex<Vec<Received>>,
    /// Of every client.
    pub metrics: Arc<Metrics>,
    /// Of every client.
    pub shutdown: CancellationToken,
    /// Of every client.
    pub redactor: Redactor,
}

impl Script {
    /// A transport that fails the test when more is asked of it.
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::new(steps.into_iter().collect()),
            license: Mutex::new(status(200, r#"{"rateLimitTier":"tier2"}"#)),
            received: Mutex::default(),
            metrics: Arc::new(Metrics::new()),
            shutdown: CancellationToken::new(),
            redactor: Redactor::new(),
        })
    }

    /// What the license call meets.
    pub fn license(&self, step: Step) {
        *self.license.lock().unwrap() = step;
    }

    /// A client with the original retry: 5 attempts, 1, 2, 4, 8 s.
    pub fn client(self: &Arc<Self>) -> Client {
        self.client_with_key(|| Ok(SecretString::from(KEY)))
    }

    /// A client whose key comes from `key`.
    pub fn client_with_key(
        self: &Arc<Self>,
        key: impl Fn() -> Result<SecretString, String> + Send + Sync + 'static,
    ) -> Client {
        let settings = Settings {
            project_id: "P2abc".to_owned(),
            base_url: Url::parse("https://api.example.com/").unwrap(),
            request_timeout: Duration::from_secs(30),
            retry: Backoff { max_attempts: 5, initial: Duration::from_secs(1), max: Duration::from_secs(60) },
            redactor: self.redactor.clone(),
        };
        let transport: Arc<dyn Transport> = self.clone();
        let limiter = Limiter::new("api.example.com", free(), None, self.metrics.clone());
        Client::new(settings, Arc::new(key), transport, limiter, self.metrics.clone(), self.shutdown.clone())
    }

    /// What arrived, the license call left out.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().iter().filter(|r| !is_license(&r.line)).cloned().collect()
    }

    /// How often the license was asked for.
    pub fn handshakes(&self) -> usize {
        self.received.lock().unwrap().iter().filter(|r| is_license(&r.line)).count()
    }

    /// Was every step played?
    pub fn is_done(&self) -> bool {
        self.steps.lock().unwrap().is_empty()
    }
}

/// No limit until the first 429.
fn free() -> limiter::Settings {
    limiter::Settings { limit: None, ..limiter::Settings::default() }
}

fn is_license(line: &str) -> bool {
    line == "GET /v1/mgmt/license"
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Request, deadline: Instant) -> Result<Response, TransportError> {
        let url = &request.url;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let line = format!("{} {}{query}", request.method, url.path());
        let body = request.body.map_or(Value::Null, |body| serde_json::from_slice(&body).unwrap());
        let received = Received { line: line.clone(), body, headers: request.headers, at: Instant::now() };
        self.received.lock().unwrap().push(received);
        let step = if is_license(&line) {
            self.license.lock().unwrap().clone()
        } else {
            let next = self.steps.lock().unwrap().pop_front();
            next.unwrap_or_else(|| panic!("{line} is not in the script"))
        };
        match step {
            Step::Answer { status, headers, body } => {
                let headers = headers
                    .iter()
                    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
                Ok(Response { status, headers: headers.collect(), body: body.into_bytes() })
            }
            Step::Fail(error) => Err(error),
            Step::Hang => {
                tokio::time::sleep_until(deadline).await;
                Err(TransportError::Timeout("nobody answers".to_owned()))
            }
        }
    }
}

/// An object literal as a document.
pub fn document(value: Value) -> Document {
    let Value::Object(document) = value else { panic!("not an object: {value}") };
    document
}
