//! The client on real sockets: what the network does to a request, and where the management key goes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test that goes wrong panics")]

use descope_gitops::backoff::Backoff;
use descope_gitops::descope::Call;
use descope_gitops::descope::Client;
use descope_gitops::descope::Error;
use descope_gitops::descope::Settings;
use descope_gitops::descope::call::Route;
use descope_gitops::descope::transport::Network;
use descope_gitops::descope::transport::Request;
use descope_gitops::descope::transport::Transport;
use descope_gitops::limiter;
use descope_gitops::limiter::Limiter;
use descope_gitops::resource;
use descope_gitops::telemetry::metrics::Metrics;
use descope_gitops::telemetry::redact::Redactor;
use secrecy::SecretString;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

const KEY: &str = "K2secret";
/// Bytes of an answer.
const LARGEST: usize = 256 << 10;
/// More would follow, and never comes.
const OPEN: &str = "\0more\0";
const ROLES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"roles\":[]}";

/// A server that answers each connection after the license call with the next of these texts, byte for byte, and
/// closes it. After a text that ends with [`OPEN`], which is not sent, the connection stays open; an empty one is no answer.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Server {
    async fn answering(answers: &[&str]) -> Self {
        Self::answering_bytes(answers.iter().map(|answer| answer.as_bytes().to_vec()).collect()).await
    }

    async fn answering_bytes(mut answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        answers.reverse();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                if request.split(' ').nth(1).unwrap().ends_with("/v1/mgmt/license") {
                    stream
                        .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                        .await
                        .unwrap();
                    continue;
                }
                seen.lock().unwrap().push(request);
                let answer = answers.pop().expect("a request too many");
                // Fails where the client has read enough.
                let stays_open = answer.is_empty() || answer.ends_with(OPEN.as_bytes());
                stream.write_all(answer.strip_suffix(OPEN.as_bytes()).unwrap_or(&answer)).await.ok();
                if stays_open {
                    open.push(stream);
                }
            }
        });
        Self { address, requests, _task: task }
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.address)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        text.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&text);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(n > 0, "cut off: {text}");
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if body.len() >= length.parse().unwrap() {
            return text.into_owned();
        }
    }
}

fn client(url: &Url, attempts: u32) -> Client {
    let metrics = Arc::new(Metrics::new());
    let settings = Settings {
        project_id: "P2abc".to_owned(),
        base_url: url.clone(),
        request_timeout: Duration::from_millis(500),
        retry: Backoff { max_attempts: attempts, initial: Duration::from_millis(10), max: Duration::from_millis(10) },
        redactor: Redactor::new(),
    };
    let limits = limiter::Settings { limit: None, lockout: Duration::ZERO, ..limiter::Settings::default() };
    let limiter = Limiter::new("127.0.0.1", limits, None, Arc::clone(&metrics));
    let key = Arc::new(|| Ok(SecretString::from(KEY)));
    Client::new(settings, key, Arc::new(Network::to(url, LARGEST).unwrap()), limiter, metrics, CancellationToken::new())
}

fn list() -> Call {
    resource::kind("roles").unwrap().listing()
}

fn create() -> Call {
    let (method, path) = (reqwest::Method::POST, "/v1/mgmt/tenant/create");
    Call::create(Route { method, path, operation: "POST /v1/mgmt/tenant/create" }, serde_json::Map::new())
}

#[tokio::test]
async fn a_refused_connection_is_repeated_and_reported_as_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);

    let error = client(&url, 2).write(&create()).await.unwrap_err();

    assert!(error.to_string().starts_with("cannot reach 127.0.0.1: Connection refused"), "{error}");
    assert!(!error.may_have_taken_effect());
}

#[tokio::test]
async fn a_failed_tls_handshake_never_sends_the_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    if let Err(error) = Network::to(&url, LARGEST) {
        // A machine without root certificates does not get as far as a handshake.
        assert!(error.to_string().contains("CA certificates"), "{error}");
        return;
    }
    let mut server = JoinSet::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let bytes = heard.clone();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).await.unwrap();
            bytes.lock().unwrap().extend_from_slice(&buffer[..n]);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });

    let error = client(&url, 1).write(&create()).await.unwrap_err();

    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(!heard.lock().unwrap().windows(KEY.len()).any(|window| window == KEY.as_bytes()));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"roles\"";
    let server = Server::answering(&[half, ROLES]).await;

    let roles = client(&server.url(), 2).list(&list()).await;

    assert_eq!(roles, Ok(Vec::new()));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_create_whose_answer_breaks_off_is_not_sent_again() {
    let server = Server::answering(&["HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{"]).await;

    let error = client(&server.url(), 5).write(&create()).await.unwrap_err();

    assert!(matches!(error, Error::Reset { .. }) && error.may_have_taken_effect(), "{error:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn silence_is_a_time_out() {
    let server = Server::answering(&[""]).await;

    let error = client(&server.url(), 5).write(&create()).await.unwrap_err();

    assert_eq!(error.to_string(), "Descope did not answer POST /v1/mgmt/tenant/create within 0.5 s");
    assert!(error.may_have_taken_effect());
}

#[tokio::test]
async fn a_list_whose_rest_does_not_come_is_a_time_out() {
    let stuck = format!("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{{{OPEN}");
    let server = Server::answering(&[&stuck]).await;

    let error = client(&server.url(), 1).list(&list()).await.unwrap_err();

    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

/// Of so many bytes.
fn list_of_roles(bytes: usize) -> String {
    format!("{{\"roles\":[]{}}}", " ".repeat(bytes - 12))
}

/// A list over a slow link ran into the time-out of a small call.
#[tokio::test]
async fn what_has_come_of_a_long_list_buys_time_for_the_rest() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (mut server, have_timed_out) = (JoinSet::new(), Arc::new(Notify::new()));
    let rest_may_come = Arc::clone(&have_timed_out);
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if read_request(&mut stream).await.contains("/v1/mgmt/license") {
                stream.write_all(ROLES.as_bytes()).await.unwrap();
                continue;
            }
            let list = list_of_roles(LARGEST);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGEST}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let (first, rest) = list.as_bytes().split_at(LARGEST - 1);
            stream.write_all(first).await.unwrap();
            rest_may_come.notified().await;
            stream.write_all(rest).await.unwrap();
        }
    });

    let silent = Server::answering(&["", ""]).await;
    let (client, small, list) = (client(&url, 1), client(&silent.url(), 1), list());
    let small_calls = async {
        for _ in 0..2 {
            assert!(matches!(small.write(&create()).await, Err(Error::Timeout { .. })));
        }
        have_timed_out.notify_one();
    };
    let (roles, ()) = tokio::join!(client.list(&list), small_calls);

    assert_eq!(roles, Ok(Vec::new()));
}

fn packed(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let body = packed.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

#[tokio::test]
async fn a_list_may_come_packed() {
    let server = Server::answering_bytes(vec![packed(&list_of_roles(LARGEST / 2))]).await;

    let roles = client(&server.url(), 1).list(&list()).await;

    assert_eq!(roles, Ok(Vec::new()));
    assert!(server.requests()[0].contains("accept-encoding: gzip\r\n"), "{:?}", server.requests());
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_one_error_and_not_asked_for_again() {
    let long = list_of_roles(LARGEST + 1);
    let told = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{OPEN}", LARGEST + 1);
    let untold = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{long}");
    for answer in [told.into_bytes(), untold.into_bytes(), packed(&list_of_roles(2 * LARGEST))] {
        let server = Server::answering_bytes(vec![answer]).await;

        let error = client(&server.url(), 5).list(&list()).await.unwrap_err();

        let expected = "GET /v1/mgmt/role/all gave an answer of more than 256 KiB, the most that `maxAnswerMiB` lets in; \
                        raise it if the project is that large";
        assert_eq!(error.to_string(), expected);
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_refusal_whose_body_breaks_off_still_counts_by_its_status() {
    let throttled = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 500\r\n\r\n{\"errorCode\"";
    let created = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let server = Server::answering(&[throttled, created]).await;

    let answer = client(&server.url(), 1).write(&create()).await;

    assert_eq!(answer, Ok(serde_json::Map::new()));
    assert_eq!(server.requests().len(), 2, "a 429 took no effect and costs no attempt");
}

/// It counted as a time-out: `Retry-After` was lost, and requests went on into the lockout.
#[tokio::test]
async fn the_head_of_a_refusal_decides_though_its_body_never_ends() {
    let throttled = format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 500\r\n\r\n{{{OPEN}");
    let chunked = format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n{OPEN}"
    );
    let created = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let server = Server::answering(&[&throttled, &chunked, created]).await;

    let answer = client(&server.url(), 1).write(&create()).await;

    assert_eq!(answer, Ok(serde_json::Map::new()));
    assert_eq!(server.requests().len(), 3, "a 429 took no effect and costs no attempt");
    for (status, is_it) in [
        ("401 Unauthorized", (|error| matches!(error, Error::Unauthorized { .. })) as fn(&Error) -> bool),
        ("403 Forbidden", |error| matches!(error, Error::Forbidden { .. })),
        ("400 Bad Request", |error| matches!(error, Error::Rejected { status: 400, .. })),
        ("503 Service Unavailable", |error| matches!(error, Error::Unavailable { status: 503, .. })),
        ("307 Temporary Redirect", |error| matches!(error, Error::Undocumented { .. })),
    ] {
        let endless = format!("HTTP/1.1 {status}\r\ncontent-length: 500\r\n\r\nno{OPEN}");
        let error = client(&Server::answering(&[&endless]).await.url(), 1).write(&create()).await.unwrap_err();
        assert!(is_it(&error), "{status}: {error:?}");
    }
}

/// A gateway that lets a connection be used once, says nothing of it, and cuts it off at the next request.
async fn once_only() -> (Url, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let is_license = read_request(&mut stream).await.contains("/v1/mgmt/license");
                let open = ROLES.replace("connection: close\r\n", "");
                stream.write_all(if is_license { ROLES } else { &open }.as_bytes()).await.unwrap();
                let mut more = [0; 1];
                stream.read_exact(&mut more).await.ok();
            });
        }
    });
    (url, task)
}

/// The look between two tries of a create left a connection behind, which broke under the next one: no create ever got
/// through.
#[tokio::test]
async fn after_a_request_without_an_answer_no_connection_is_used_again() {
    let (url, _gateway) = once_only().await;
    let client = client(&url, 1);
    client.list(&list()).await.unwrap();

    let first = client.write(&create()).await;
    client.list(&list()).await.unwrap();
    let second = client.write(&create()).await;

    assert!(matches!(first, Err(Error::Reset { .. })), "the connection was used again: {first:?}");
    assert!(second.is_ok(), "{second:?}");
    assert!(client.write(&create()).await.is_ok());
}

#[tokio::test]
async fn of_a_long_refusal_only_the_beginning_is_read() {
    let long = "no ".repeat(1 << 20);
    let refused =
        format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{long}", long.len());
    let server = Server::answering(&[&refused]).await;

    let error = client(&server.url(), 1).write(&create()).await.unwrap_err();

    let Error::Rejected { status: 400, message, .. } = error else { panic!("{error:?}") };
    assert_eq!(message, "no ".repeat(100) + "…");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::answering(&[]).await;
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}steal\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        elsewhere.url()
    );
    let server = Server::answering(&[&redirect, &redirect]).await;

    let error = client(&server.url(), 2).list(&list()).await.unwrap_err();

    let expected = format!(
        "the answer to GET /v1/mgmt/role/all is not one that Descope documents: a redirect to {}steal (status 307); \
         redirects are not followed, so check baseUrl",
        elsewhere.url()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_path_of_the_base_url_stays_in_front() {
    let server = Server::answering(&[ROLES]).await;

    client(&server.url().join("descope/").unwrap(), 1).list(&list()).await.unwrap();

    assert!(server.requests()[0].starts_with("GET /descope/v1/mgmt/role/all HTTP/1.1\r\n"), "{:?}", server.requests());
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_key_is_sent_and_not_logged_even_at_trace_level() {
    let refused = "HTTP/1.1 400 Bad Request\r\ncontent-length: 34\r\nconnection: close\r\n\r\n{\"errorMessage\":\"Bearer K2secret\"}\n";
    let server = Server::answering(&[ROLES, refused]).await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With a single subscriber, a callsite that another test's thread reaches first asks that thread alone, which has none, and is
    // off for all.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);

    let client = client(&server.url(), 1);
    client.list(&list()).await.unwrap();
    let error = client.write(&create()).await.unwrap_err();
    tracing::error!(%error, ?error, ?client, "what a worker would log");
    drop(guard);

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(server.requests().iter().all(|request| request.contains("authorization: Bearer P2abc:K2secret\r\n")));
    assert!(log.contains("GET /v1/mgmt/role/all") && log.contains("(secret)"), "{log}");
    assert!(!log.contains(KEY), "{log}");
}

/// A process that was stopped between its connecting and its sending sent when it went on, however late that was: into the
/// term of whoever had taken its work over.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "everything of this process stands still")]
async fn what_is_held_up_on_the_way_to_its_connection_is_not_sent_any_more() {
    let mut held_up = 0;
    // It stands still one step later each time, until the request is on its way before.
    for steps in 0..200 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let network = Network::to(&url, LARGEST).unwrap();
        let (method, headers, body) =
            (reqwest::Method::POST, reqwest::header::HeaderMap::new(), Some(b"{\"some\":1}".to_vec()));
        let deadline = tokio::time::Instant::now() + Duration::from_millis(100);

        let stop = async {
            for _ in 0..steps {
                tokio::task::yield_now().await;
            }
            let accepted = listener.accept().ok().map(|(stream, _)| stream);
            let has_come = accepted.as_ref().is_some_and(|stream| {
                stream.set_nonblocking(true).unwrap();
                stream.peek(&mut [0]).is_ok_and(|count| count > 0)
            });
            if !has_come {
                std::thread::sleep(Duration::from_millis(150));
            }
            (accepted, has_come)
        };
        let (sent, (accepted, has_come)) =
            tokio::join!(network.send(Request { method, url, headers, body }, deadline), stop);
        drop(network);
        if has_come {
            break;
        }

        held_up += 1;
        assert!(sent.is_err());
        let Some(mut stream) = accepted.or_else(|| Some(listener.accept().ok()?.0)) else { continue };
        stream.set_nonblocking(false).unwrap();
        let mut arrived = Vec::new();
        tokio::task::spawn_blocking(move || {
            std::io::Read::read_to_end(&mut stream, &mut arrived).unwrap();
            assert_eq!(String::from_utf8_lossy(&arrived), "", "after {steps} steps");
        })
        .await
        .unwrap();
    }
    assert!(held_up > 1);
}
