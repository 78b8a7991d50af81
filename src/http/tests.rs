use super::*;
use crate::state::Place;
use crate::telemetry::status::Level;
use crate::telemetry::status::Readiness;
use axum::body::Body;
use axum::http::StatusCode;
use serde_json::Value;
use serde_json::json;
use std::future::ready;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::ServiceExt;

const TOKEN: &str = "a-token-nobody-guesses";

struct World {
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    reconciled: Arc<Mutex<Vec<&'static str>>>,
}

impl World {
    fn new() -> Self {
        Self {
            metrics: Arc::new(Metrics::new()),
            board: Arc::new(Board::new(Duration::from_secs(60), &[("one", "upsert-only"), ("two", "observe")])),
            reconciled: Arc::default(),
        }
    }

    fn served(&self, token: Option<&str>) -> Served {
        let control = |name: &'static str| {
            let reconciled = Arc::clone(&self.reconciled);
            let control: Control = Box::new(move |order, _| {
                Box::pin(ready(match order {
                    Order::Reconcile | Order::Retry => {
                        reconciled.lock().unwrap().push(name);
                        Answer::Done(Ordered::default())
                    }
                    Order::Approve("held") if name == "two" => {
                        Answer::Done(Ordered { approved: Some(3), ..Ordered::default() })
                    }
                    Order::Approve(_) => Answer::Stale,
                    Order::Suspend(wait, _) => {
                        Answer::Done(Ordered { warning: Some(format!("{} s", wait.as_secs())), ..Ordered::default() })
                    }
                    Order::Resume(_) => Answer::Failed("the disk is full".to_owned()),
                }))
            });
            (String::from(name), control)
        };
        let board = Arc::clone(&self.board);
        Served {
            metrics: Arc::clone(&self.metrics),
            board: Arc::clone(&self.board),
            refresh: Box::new(move || board.project("one", |project| project.undeclared = 7)),
            plan: Box::new(|to| to.write_all(br#"{"formatVersion":1,"projects":[]}"#)),
            window: Box::new(|wanted| format!("{{\"limit\":{}}}", wanted.limit)),
            history: History::new(Place::Directory("nowhere".into()), BTreeMap::new()),
            controls: ["one", "two"].map(control).into(),
            token: token.map(Into::into),
        }
    }

    fn router(&self, token: Option<&str>, loopback: bool) -> Router {
        router(Arc::new(self.served(token)), &Arc::new(Feed::new(CancellationToken::new())), loopback)
    }
}

async fn ask(router: &Router, method: &str, path: &str, authorization: Option<&str>) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    send(router, request.body(Body::empty()).unwrap()).await
}

async fn send(router: &Router, request: Request) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8(body.to_vec()).unwrap().into()))
}

#[tokio::test]
async fn who_may_ask_for_what() {
    let right = format!("Bearer {TOKEN}");
    let lower = format!("bearer {TOKEN}");
    let basic = format!("Basic {TOKEN}");
    let reads = ["/api/v1/status", "/api/v1/plan", "/api/v1/plan?limit=1", "/api/v1/problems"];
    let open = ["/", "/page/main.js", "/livez", "/healthz", "/metrics"];
    // token configured, on loopback, what is sent; answers to open routes, reads, posts
    for (token, loopback, sent, expected) in [
        (false, true, None, [200, 200, 404]),
        (false, true, Some(right.as_str()), [200, 200, 404]),
        (false, false, None, [200, 404, 404]),
        (false, false, Some(right.as_str()), [200, 404, 404]),
        (true, true, None, [200, 200, 401]),
        (true, true, Some("Bearer wrong"), [200, 200, 401]),
        (true, true, Some(right.as_str()), [200, 200, 202]),
        (true, false, None, [200, 401, 401]),
        (true, false, Some("Bearer wrong"), [200, 401, 401]),
        (true, false, Some("Bearer "), [200, 401, 401]),
        (true, false, Some(TOKEN), [200, 401, 401]),
        (true, false, Some(basic.as_str()), [200, 401, 401]),
        (true, false, Some(right.as_str()), [200, 200, 202]),
        (true, false, Some(lower.as_str()), [200, 200, 202]),
    ] {
        let world = World::new();
        let router = world.router(token.then_some(TOKEN), loopback);
        let case = format!("token {token}, loopback {loopback}, sent {sent:?}");

        for path in open {
            assert_eq!(ask(&router, "GET", path, sent).await.0, expected[0], "{case}: {path}");
        }
        for path in reads {
            assert_eq!(ask(&router, "GET", path, sent).await.0, expected[1], "{case}: {path}");
        }
        assert_eq!(ask(&router, "POST", "/api/v1/reconcile", sent).await.0, expected[2], "{case}");
        let ran = world.reconciled.lock().unwrap().len();
        assert_eq!(ran, if expected[2] == 202 { 2 } else { 0 }, "{case}");
    }
}

/// All of a large plan stood in memory as text, as often as it was asked for.
#[tokio::test]
async fn a_plan_is_written_out_as_it_is_taken_and_what_breaks_off_does_not_look_whole() {
    static CHUNK: [u8; 1 << 16] = [b' '; 1 << 16];
    let written = Arc::new(AtomicUsize::new(0));
    let plan = |chunks: usize, end: fn() -> io::Result<()>| {
        let written = Arc::clone(&written);
        written.store(0, Ordering::Relaxed);
        let plan = move |to: &mut dyn io::Write| {
            for _ in 0..chunks {
                to.write_all(&CHUNK)?;
                written.fetch_add(1, Ordering::Relaxed);
            }
            end()
        };
        let served = Served { plan: Box::new(plan), ..World::new().served(None) };
        router(Arc::new(served), &Arc::new(Feed::new(CancellationToken::new())), true)
    };
    let ask = |router: Router| async move {
        let request = Request::builder().uri("/api/v1/plan").body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap().into_body()
    };

    let body = ask(plan(1000, || Ok(()))).await;
    assert!(written.load(Ordering::Relaxed) < 10, "nobody takes it yet");
    assert_eq!(axum::body::to_bytes(body, usize::MAX).await.unwrap().len(), 1000 * CHUNK.len());
    let ends: [fn() -> io::Result<()>; 2] = [|| Err(io::Error::other("broken")), || panic!("as a defect does")];
    for end in ends {
        let body = ask(plan(3, end)).await;
        assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
    }
    // Who goes away in the middle keeps no thread.
    let router = plan(1000, || Ok(()));
    for _ in 0..40 {
        drop(ask(router.clone()).await);
    }
}

#[tokio::test]
async fn a_name_that_is_not_this_machines_closes_the_open_reads() {
    // A page in a browser here can have its own name resolve to 127.0.0.1, and a proxy here can pass strangers on.
    let right = format!("Bearer {TOKEN}");
    for (host, sent, with_token, without) in [
        ("127.0.0.1:8080", None, 200, 200),
        ("[::1]:8080", None, 200, 200),
        ("localhost", None, 200, 200),
        ("LocalHost:8080", None, 200, 200),
        ("192.0.2.7:8080", None, 200, 200),
        ("gitops.example:8080", None, 401, 404),
        ("localhost.example", None, 401, 404),
        ("gitops.example", Some(right.as_str()), 200, 404),
    ] {
        for (token, expected) in [(Some(TOKEN), with_token), (None, without)] {
            let mut request = Request::get("/api/v1/status").header("host", host);
            if let Some(value) = sent {
                request = request.header("authorization", value);
            }
            let router = World::new().router(token, true);

            let (status, _) = send(&router, request.body(Body::empty()).unwrap()).await;

            assert_eq!(status, expected, "{host}, token {}", token.is_some());
        }
    }
}

#[tokio::test]
async fn refusals_are_json() {
    let world = World::new();
    let (open, guarded) = (world.router(None, false), world.router(Some(TOKEN), false));

    for (router, method, path, status, error) in [
        (&open, "GET", "/nowhere", 404, "not found"),
        (&open, "POST", "/livez", 405, "method not allowed"),
        (&open, "GET", "/api/v1/status", 404, "not available: no http.token is configured"),
        (&guarded, "GET", "/api/v1/status", 401, "the token is missing or wrong"),
        (&guarded, "DELETE", "/api/v1/reconcile", 405, "method not allowed"),
    ] {
        let (answer, body) = ask(router, method, path, None).await;

        assert_eq!((answer.as_u16(), body), (status, json!({ "error": error })), "{method} {path}");
    }
    let request = Request::builder().uri("/api/v1/plan").body(Body::empty()).unwrap();
    let response = guarded.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn approvals_and_suspensions_say_what_they_did_or_why_not() {
    let router = World::new().router(Some("token"), true);
    let post = async |path: &str| ask(&router, "POST", path, Some("Bearer token")).await;

    let approved = post("/api/v1/approve?plan=held").await;
    assert_eq!(approved, (StatusCode::OK, json!({ "approved": 3, "projects": ["two"] })));
    assert_eq!(post("/api/v1/approve?plan=other").await.0, StatusCode::CONFLICT);
    assert_eq!(post("/api/v1/approve?plan=held&project=one").await.0, StatusCode::CONFLICT);
    assert_eq!(post("/api/v1/approve").await.0, StatusCode::BAD_REQUEST);
    let suspended = post("/api/v1/suspend?for=2h&project=one").await;
    assert_eq!(suspended, (StatusCode::OK, json!({ "warning": "7200 s", "projects": ["one"] })));
    for path in ["/api/v1/suspend", "/api/v1/suspend?for=8d", "/api/v1/suspend?for=0s", "/api/v1/suspend?for=long"] {
        assert_eq!(post(path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(post("/api/v1/suspend?for=7d").await.0, StatusCode::OK);
    let failed = post("/api/v1/resume").await;
    assert_eq!(failed, (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": "the disk is full" })));
    for path in ["/api/v1/approve?plan=held", "/api/v1/suspend?for=2h", "/api/v1/resume"] {
        assert_eq!(ask(&router, "POST", path, None).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn reconcile_takes_one_project_or_all() {
    let world = World::new();
    let router = world.router(Some(TOKEN), false);
    let right = format!("Bearer {TOKEN}");
    let post = |path: &'static str| ask(&router, "POST", path, Some(&right));

    assert_eq!(post("/api/v1/reconcile?project=two").await, (StatusCode::ACCEPTED, json!({ "projects": ["two"] })));
    assert_eq!(post("/api/v1/reconcile").await, (StatusCode::ACCEPTED, json!({ "projects": ["one", "two"] })));
    assert_eq!(
        post("/api/v1/reconcile?project=three").await,
        (StatusCode::NOT_FOUND, json!({ "error": "no such project" }))
    );
    for path in ["/api/v1/reconcile?projects=two", "/api/v1/reconcile?project=one&project=two"] {
        assert_eq!(post(path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(*world.reconciled.lock().unwrap(), ["two", "one", "two"]);
}

#[tokio::test]
async fn status_and_plan_are_fresh() {
    let world = World::new();
    let router = world.router(None, true);

    let (_, status) = ask(&router, "GET", "/api/v1/status", None).await;
    let (_, plan) = ask(&router, "GET", "/api/v1/plan", None).await;

    assert_eq!(status["projects"][0]["undeclared"], 7);
    assert_eq!(plan, json!({ "formatVersion": 1, "projects": [] }));
}

#[tokio::test]
async fn probes_say_which_project_and_why_and_no_more() {
    let world = World::new();
    let router = world.router(None, false);
    let ready = Readiness { desired_loaded: true, observed: true, ..Readiness::default() };

    world.board.project("one", |project| project.readiness = ready);
    assert_eq!(
        ask(&router, "GET", "/readyz", None).await,
        (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "status": "not ready", "projects": [{ "project": "two", "reason": "desired state not loaded" }] })
        )
    );
    world.board.project("two", |project| project.readiness = ready);
    assert_eq!(ask(&router, "GET", "/readyz", None).await, (StatusCode::OK, json!({ "status": "ready" })));

    let (status, health) = ask(&router, "GET", "/healthz", None).await;
    assert_eq!((status, &health["status"]), (StatusCode::OK, &json!("starting")));
    world.board.component("descope", Some("one"), Level::Failing, Some("unauthorized"));
    let (status, health) = ask(&router, "GET", "/healthz", None).await;
    assert_eq!((status, &health["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("failing")));
    assert_eq!(health["components"][0]["reason"], "unauthorized");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_loop_is_not_alive() {
    let world = World::new();
    let router = world.router(None, false);
    let pulse = world.board.pulse();
    tokio::time::advance(Duration::from_secs(61)).await;

    assert_eq!(ask(&router, "GET", "/livez", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    pulse.beat();
    assert_eq!(ask(&router, "GET", "/livez", None).await, (StatusCode::OK, json!({ "status": "ok" })));
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused() {
    let world = World::new();
    let router = world.router(Some(TOKEN), false);
    for (size, expected) in [(0, 202), (64 * 1024, 202), (64 * 1024 + 1, 413), (3 * 1024 * 1024, 413)] {
        let request = Request::post("/api/v1/reconcile")
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Body::from(vec![b'x'; size]))
            .unwrap();

        assert_eq!(send(&router, request).await.0, expected, "{size}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_known_methods_only() {
    let world = World::new();
    let router = world.router(None, false);

    for (method, path) in
        [("GET", "/livez"), ("GET", "/secret-1"), ("GET", "/secret-2"), ("BREW", "/livez"), ("GET", "/api/v1/plan")]
    {
        ask(&router, method, path, None).await;
    }

    let text = world.metrics.render();
    for line in [
        r#"descope_gitops_http_requests_total{code="200",method="GET",route="/livez"} 1"#,
        r#"descope_gitops_http_requests_total{code="404",method="GET",route="other"} 2"#,
        r#"descope_gitops_http_requests_total{code="405",method="other",route="/livez"} 1"#,
        r#"descope_gitops_http_requests_total{code="404",method="GET",route="/api/v1/plan"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains("secret"));
}

/// A real server; the returned token stops it, the set joins it.
async fn serve(world: &World) -> (SocketAddr, CancellationToken, JoinSet<()>) {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (address, shutdown, mut set) = (server.address(), CancellationToken::new(), JoinSet::new());
    set.spawn(server.run(world.served(None), shutdown.clone()));
    (address, shutdown, set)
}

#[tokio::test]
async fn serves_over_a_socket_and_stops_though_a_peer_says_nothing() {
    let world = World::new();
    let (address, shutdown, mut set) = serve(&world).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(r#"{"status":"ok"}"#), "{answer}");

    let asked = Instant::now();
    shutdown.cancel();
    set.join_next().await.unwrap().unwrap();

    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_an_error_at_once() {
    let world = World::new();
    let (address, ..) = serve(&world).await;

    let error = Server::bind(address).await.unwrap_err();

    let message = format!("cannot listen on {address}; choose another address with --listen or http.listen");
    assert_eq!(error.to_string(), message);
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_outlives_a_request_but_not_for_ever_though_its_peer_says_nothing() {
    let (mut peer, ours) = tokio::io::duplex(64 * 1024);
    let mut set = JoinSet::new();
    set.spawn(connection(ours, None, World::new().router(None, true), Lasting::default(), CancellationToken::new()));
    let start = Instant::now();
    peer.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();

    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();

    assert_eq!(start.elapsed(), DEADLINE + events::LIFE);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("event: status\n"), "{answer}");
    // Something every ten seconds, so that a listener knows that it is connected.
    assert!(answer.matches("\n:").count() > 60, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dawdles_is_cut_off() {
    let body = "POST /api/v1/reconcile HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n";
    // The last one sends all there is to send, and never takes the answer, which is more than the pipe holds.
    for sent_at_once in ["", body, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let (mut peer, ours) = tokio::io::duplex(256);
        let mut set = JoinSet::new();
        set.spawn(connection(
            ours,
            None,
            World::new().router(None, false),
            Lasting::default(),
            CancellationToken::new(),
        ));
        let start = Instant::now();
        let dawdle = async {
            peer.write_all(sent_at_once.as_bytes()).await.unwrap();
            // One more byte every ten seconds, well within any time-out between two reads.
            while peer.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            std::future::pending::<()>().await;
        };

        tokio::select! {
            _ = set.join_next() => {}
            () = dawdle => {}
        }

        assert_eq!(start.elapsed(), DEADLINE, "{sent_at_once}");
    }
}
