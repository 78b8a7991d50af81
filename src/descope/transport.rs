//! One HTTP request and its answer; the seam that unit tests replace.

use async_trait::async_trait;
use hyper::body::Body;
use hyper::body::Bytes;
use hyper::body::Frame;
use hyper::body::SizeHint;
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;
use url::Host;
use url::Url;

/// Bytes that buy the rest of a long answer one more second: a slow link brings a list, a peer that dawdles does not
/// hold us for ever.
const SLOWEST: u64 = 64 << 10;

/// Of a refusal only the message matters.
const LARGEST_REFUSAL: usize = 1 << 20;

/// A connection that takes longer will hardly come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Shorter than what servers and proxies commonly grant an idle connection: a create on one that they are closing
/// would be lost half-way.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The text of a refusal is worth no longer wait: its status has decided.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

/// For so long after a request that was not answered each one takes a connection of its own. What closed that one, a
/// gateway or a firewall on the way, would close the next that is used again.
const DISTRUST: Duration = Duration::from_secs(300);

/// What is sent. Its headers hold the management key, marked sensitive.
pub struct Request {
    /// GET, POST, PATCH.
    pub method: Method,
    /// The whole address.
    pub url: Url,
    /// All but those that the transport sets.
    pub headers: HeaderMap,
    /// JSON.
    pub body: Option<Vec<u8>>,
}

/// Without the headers.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// What came back, whole.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// All of them.
    pub headers: HeaderMap,
    /// Cut off where it belongs to a refusal and is long, slow or broken; empty where nobody asks for it.
    pub body: Vec<u8>,
}

/// Why there is no answer. The texts come from the network stack and name no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection: nothing was sent.
    #[error("{0}")]
    Connect(String),
    /// The network gave up waiting after the request was sent.
    #[error("{0}")]
    Timeout(String),
    /// The connection ended before the whole answer was there.
    #[error("{0}")]
    Reset(String),
    /// The answer is longer than we take; in bytes.
    #[error("an answer of more than {} KiB", .0 >> 10)]
    TooLarge(usize),
}

/// Sends one request; no retry, no redirect.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends it and reads the answer, which must have begun by `deadline`; what has come of a long one buys time for the
    /// rest. Dropped half-way, the request may have been sent.
    async fn send(&self, request: Request, deadline: Instant) -> Result<Response, TransportError>;
}

/// The real network.
#[derive(Debug, Clone)]
pub struct Network {
    /// Uses connections again.
    sharing: reqwest::Client,
    /// Takes a new one for each request.
    fresh: reqwest::Client,
    distrust: Arc<Distrust>,
    largest_answer: usize,
}

/// Until when no connection is used again.
#[derive(Debug, Default)]
struct Distrust(Mutex<Option<Instant>>);

impl Distrust {
    fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|until| Instant::now() >= until)
    }

    fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now().checked_add(DISTRUST);
    }
}

/// Begins the distrust unless told that there was an answer, also where nobody waited for its end.
struct Unanswered<'a>(Option<&'a Distrust>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(distrust) = self.0 {
            distrust.begin();
        }
    }
}

impl Network {
    /// For calls to the host of `base_url`. Errs where the system has no usable root certificates.
    ///
    /// Takes answers of `largest_answer` bytes at most, unpacked.
    ///
    /// Proxies are taken from the environment as usual, but never for a loopback address: nobody else's proxy should
    /// see what is meant for this machine.
    pub fn to(base_url: &Url, largest_answer: usize) -> Result<Self, TransportError> {
        install_tls();
        let client = |idle| Self::client(base_url, idle);
        let (sharing, fresh) = (client(usize::MAX)?, client(0)?);
        Ok(Self { sharing, fresh, distrust: Arc::default(), largest_answer })
    }

    /// `idle`: how many connections are kept for later.
    fn client(base_url: &Url, idle: usize) -> Result<reqwest::Client, TransportError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("descope-gitops/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // Each attempt takes a permit of the limiter: none may happen behind its back.
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(idle)
            .pool_idle_timeout(IDLE_TIMEOUT);
        if is_loopback(base_url) {
            builder = builder.no_proxy();
        }
        if base_url.scheme() == "http" {
            // Without TLS there is no need for root certificates, which a bare container lacks.
            builder = builder.tls_certs_only([]);
        }
        builder.build().map_err(|error| TransportError::Connect(chain(&error)))
    }
}

#[async_trait]
impl Transport for Network {
    async fn send(&self, request: Request, deadline: Instant) -> Result<Response, TransportError> {
        let client = if self.distrust.is_over() { &self.sharing } else { &self.fresh };
        let mut builder = client.request(request.method, request.url).headers(request.headers);
        if let Some(body) = request.body {
            builder = builder.body(reqwest::Body::wrap(Timely { body: Some(body.into()), deadline }));
        }
        let mut unanswered = Unanswered(Some(&self.distrust));
        let answer = async {
            let mut response = by(deadline, builder.send()).await?;
            let status = response.status();
            let headers = std::mem::take(response.headers_mut());
            let body = if status.is_success() {
                whole(&mut response, deadline, self.largest_answer).await?
            } else if is_told_by_its_status(status) {
                Vec::new()
            } else {
                beginning(&mut response, deadline).await
            };
            Ok(Response { status: status.as_u16(), headers, body })
        }
        .await;
        // What was not sent says nothing of connections.
        if matches!(answer, Ok(_) | Err(TransportError::Connect(_))) {
            unanswered.0 = None;
        }
        answer
    }
}

/// The body of a request, which is asked for when its connection is there and right before it goes out. Where that took too
/// long, be it that this process was stopped meanwhile, nothing goes out: whoever waited has given up.
struct Timely {
    body: Option<Bytes>,
    deadline: Instant,
}

impl Body for Timely {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(body) = self.body.take() else { return Poll::Ready(None) };
        if Instant::now() >= self.deadline {
            return Poll::Ready(Some(Err(TransportError::Timeout("no connection in time".to_owned()))));
        }
        Poll::Ready(Some(Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}

/// Nobody reads the text of these.
fn is_told_by_its_status(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::UNAUTHORIZED) || status.is_redirection()
}

async fn by<T>(deadline: Instant, work: impl Future<Output = reqwest::Result<T>>) -> Result<T, TransportError> {
    let late = |_| TransportError::Timeout("no answer in time".to_owned());
    tokio::time::timeout_at(deadline, work).await.map_err(late)?.map_err(classified)
}

async fn whole(response: &mut reqwest::Response, deadline: Instant, largest: usize) -> Result<Vec<u8>, TransportError> {
    let too_large = || TransportError::TooLarge(largest);
    // Not told where the answer is packed.
    let told = response.content_length().map(usize::try_from);
    let told = told.transpose().map_err(|_| too_large())?.unwrap_or_default();
    if told > largest {
        return Err(too_large());
    }
    let mut body = Vec::new();
    body.try_reserve_exact(told).map_err(|_| too_large())?;
    while let Some(chunk) = by(deadline + bought_by(body.len()), response.chunk()).await? {
        if body.len() + chunk.len() > largest {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn bought_by(bytes: usize) -> Duration {
    Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX) / SLOWEST)
}

/// As much of the text of a refusal as comes soon.
async fn beginning(response: &mut reqwest::Response, deadline: Instant) -> Vec<u8> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            if body.len() + chunk.len() > LARGEST_REFUSAL {
                return;
            }
            body.extend_from_slice(&chunk);
        }
    };
    // Whoever waits for all of it must not run out of time first.
    tokio::time::timeout(REFUSAL_PATIENCE.min(left / 2), read).await.unwrap_or_default();
    body
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn classified(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    let text = chain(&error);
    if error.is_connect() {
        TransportError::Connect(text)
    } else if error.is_timeout() {
        TransportError::Timeout(text)
    } else {
        TransportError::Reset(text)
    }
}

/// The innermost cause: what stands around it says only that a request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Chooses what TLS is computed with; needed once before any HTTP client is built.
pub fn install_tls() {
    // Fails only where another part installed it first, which serves as well.
    rustls::crypto::ring::default_provider().install_default().ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognised_by_address_not_by_look() {
        let cases = [
            ("http://127.0.0.1:80", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("https://127.0.0.1.example.com", false),
            ("https://api.descope.com", false),
        ];
        for (url, expected) in cases {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn space_is_reserved_for_as_much_as_an_answer_says_it_holds() {
        let answer = |text: &'static str| reqwest::Response::from(http::Response::new(text));
        let soon = Instant::now() + Duration::from_secs(60);

        let body = whole(&mut answer("abc"), soon, 3).await.unwrap();

        // A vector that grows makes room for eight.
        assert_eq!((&*body, body.capacity()), (&b"abc"[..], 3));
        assert!(matches!(whole(&mut answer("abcd"), soon, 3).await, Err(TransportError::TooLarge(3))));
    }

    #[test]
    fn a_request_prints_without_its_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer P2:K2secret".parse().unwrap());
        let url = Url::parse("http://localhost/v1/mgmt/role/all").unwrap();

        let text = format!("{:?}", Request { method: Method::GET, url, headers, body: None });

        assert_eq!(text, "GET http://localhost/v1/mgmt/role/all");
    }
}
