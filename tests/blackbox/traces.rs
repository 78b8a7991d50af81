//! Traces, as a collector gets them: it reads the protobuf of what arrives.

use crate::harness::KEY;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::git;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::routing::post;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

/// What arrived, as it was.
type Arrived = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A collector, as long as the last of these is kept; its address.
async fn collector() -> (String, Arrived, JoinSet<()>) {
    let arrived = Arrived::default();
    let kept = Arc::clone(&arrived);
    let take = async move |headers: HeaderMap, body: Bytes| {
        let body = if headers.get("content-encoding").is_some_and(|how| how == "gzip") {
            let mut whole = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut whole).unwrap();
            whole.into()
        } else {
            body
        };
        kept.lock().unwrap().push((headers, body));
        StatusCode::OK
    };
    let router = axum::Router::new().route("/v1/traces", post(take));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (format!("http://{address}"), arrived, serving)
}

fn spans(arrived: &Arrived) -> Vec<Span> {
    let requests = arrived.lock().unwrap().clone();
    let requests = requests.iter().map(|(_, body)| ExportTraceServiceRequest::decode(body.clone()).unwrap());
    let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    if let Any::StringValue(text) = value {
        return Some(text);
    }
    if let Any::IntValue(number) = value { Some(number.to_string()) } else { Some(format!("{value:?}")) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ask_for(world: &mut World, variables: &[(&str, &str)]) {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    world.environment.extend(variables);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_pass_observation_change_and_call_and_the_log_names_the_trace() {
    let (endpoint, arrived, _serving) = collector().await;
    let mut world = World::new().await;
    ask_for(
        &mut world,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=zz-key-of-the-collector"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_SERVICE_NAME", "gitops-of-the-test"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ],
    );
    world.write("a.yaml", "tenants: [{ id: acme, name: Acme }]\n");
    let repo = world.path("repo");
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "one"]);
    let commit = git(&repo, &["rev-parse", "HEAD"]);
    world.converge().await;
    let has = |name: &str| spans(&arrived).iter().any(|span| span.name == name);
    world.until("a change arrived", async |_| has("change")).await;
    world.until("a pass is over before the next one begins", async |_| has("pass")).await;
    let (status, log) = world.stop_and_read().await;
    assert!(status.success());

    let all = spans(&arrived);
    let named = |name: &str| all.iter().filter(|span| span.name == name).collect::<Vec<&Span>>();
    let (passes, changes) = (named("pass"), named("change"));
    let of_startup = passes.iter().find(|pass| attribute(pass, "trigger").as_deref() == Some("startup")).unwrap();
    assert_eq!(attribute(of_startup, "project").as_deref(), Some("default"));
    assert_eq!(attribute(of_startup, "result").as_deref(), Some("applied"));
    let observation = named("observation").into_iter().find(|span| span.parent_span_id == of_startup.span_id);
    let observation = observation.expect("the pass has an observation");
    let is_call_of = |span: &&&Span, parent: &Span| span.parent_span_id == parent.span_id;
    let calls = named("call");
    let look = calls.iter().find(|call| is_call_of(call, observation)).expect("the observation has calls");
    assert_eq!(attribute(look, "code").as_deref(), Some("200"));
    let change = changes.iter().find(|change| attribute(change, "kind").as_deref() == Some("tenants")).unwrap();
    let write = calls.iter().find(|call| is_call_of(call, change)).expect("the change has a call");
    assert_eq!(attribute(write, "operation").as_deref(), Some("POST /v1/mgmt/tenant/create"));
    // To the commit, and to the pass that planned it.
    assert!(commit.starts_with(&attribute(change, "commit").unwrap()), "{commit}");
    assert_eq!(attribute(change, "action").as_deref(), Some("create"));
    assert_eq!(change.links[0].span_id, of_startup.span_id);
    assert_eq!(change.links[0].attributes[0].key, "commit");

    let line = log.iter().find(|line| line.contains("\"pass finished\"") && line.contains("startup")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["spans"][0]["trace_id"], hex(&of_startup.trace_id), "{line}");

    let requests = arrived.lock().unwrap().clone();
    let (headers, body) = &requests[0];
    assert_eq!(headers["x-api-key"], "zz-key-of-the-collector");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["content-encoding"], "gzip");
    let resource = ExportTraceServiceRequest::decode(body.clone()).unwrap().resource_spans[0].resource.clone().unwrap();
    let service = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
    assert_eq!(service.value.clone().unwrap().value, Some(Any::StringValue("gitops-of-the-test".to_owned())));
    for secret in [KEY, TOKEN, "zz-key-of-the-collector"] {
        let is_told = |(_, body): &(HeaderMap, Bytes)| String::from_utf8_lossy(body).contains(secret);
        assert!(!requests.iter().any(is_told), "{secret} in a span");
        assert!(!log.iter().any(|line| line.contains(secret)), "{secret} in the log");
    }
    // No message leaves by this way.
    assert!(all.iter().all(|span| span.events.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_has_the_status_of_an_error_and_what_went_well_has_none() {
    let (endpoint, arrived, _serving) = collector().await;
    let mut world = World::new().await;
    ask_for(&mut world, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")]);
    let fault = serde_json::json!([{ "match": { "method": "POST", "path": "/v1/mgmt/role/create" }, "fault": "status", "status": 400 }]);
    world.faults(fault).await;
    world.write("a.yaml", "tenants: [{ id: acme, name: Acme }]\nroles: [{ name: bad }]\n");
    world.start().await;
    world.until("refused", async |world| world.has_problem("roles", "bad", "parked").await).await;
    world.until("made", async |world| world.entity("tenants", "acme").await.is_some()).await;
    assert!(world.stop().await.success());

    let all = spans(&arrived);
    let told = |name: &str, of: &str, value: &str| {
        let mut found: Vec<String> = Vec::new();
        for span in all.iter().filter(|span| span.name == name && attribute(span, of).as_deref() == Some(value)) {
            let result = attribute(span, if name == "call" { "code" } else { "result" }).unwrap_or_default();
            let status = span.status.clone().unwrap_or_default();
            found.push(format!("{result}, status {} {}", status.code, status.message));
        }
        found.dedup();
        found
    };
    // 2 is an error, 0 is not set.
    assert_eq!(told("call", "operation", "POST /v1/mgmt/role/create"), ["400, status 2 400"]);
    assert_eq!(told("change", "kind", "roles"), ["failed, status 2 failed"]);
    assert_eq!(told("call", "operation", "POST /v1/mgmt/tenant/create"), ["200, status 0 "]);
    assert_eq!(told("change", "kind", "tenants"), ["ok, status 0 "]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_endpoint_or_with_the_switch_nothing_is_sent() {
    let (endpoint, arrived, _serving) = collector().await;
    for variables in [
        vec![],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_SDK_DISABLED", "true")],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
    ] {
        let mut world = World::new().await;
        ask_for(&mut world, &variables);
        world.write("a.yaml", "tenants: [{ id: acme, name: Acme }]\n");
        world.converge().await;
        let (_, log) = world.stop_and_read().await;
        assert!(!log.iter().any(|line| line.contains("trace_id")), "{variables:?}");
        let says = log.iter().any(|line| line.contains("sent as http/protobuf alone"));
        assert_eq!(says, variables.iter().any(|(_, value)| *value == "grpc"));
    }
    assert!(arrived.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_or_is_gone_keeps_neither_work_nor_stop_waiting() {
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [hangs.local_addr().unwrap(), gone] {
        let mut world = World::new().await;
        let endpoint = format!("http://{address}");
        let patience = ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000");
        ask_for(&mut world, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50"), patience]);
        world.write("a.yaml", "tenants: [{ id: acme, name: Acme }]\n");
        world.converge().await;
        world.fresh_pass().await;
        // The world has less patience than the exporter is told to have.
        assert!(world.stop().await.success());
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let made = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
}

/// A collector behind TLS that takes nobody without a certificate of its authority; how many requests it answered.
async fn guarded_collector(folder: &Path) -> (String, Arc<Mutex<Vec<Vec<u8>>>>, JoinSet<()>) {
    openssl(folder, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority");
    for (name, extension) in [("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name} \
                 -addext {extension} -addext basicConstraints=critical,CA:FALSE -CA ca.pem -CAkey ca.key"
            ),
        );
    }
    let pem = |name: &str| CertificateDer::from_pem_file(folder.join(name)).unwrap();
    let mut authorities = RootCertStore::empty();
    authorities.add(pem("ca.pem")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let known =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider)).build().unwrap();
    let settings = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let settings = settings.with_client_cert_verifier(known).with_single_cert(vec![pem("server.pem")], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let kept = Arc::clone(&heads);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = vec![0; 4096];
            let Ok(read) = stream.read(&mut head).await else { continue };
            head.truncate(read);
            kept.lock().unwrap().push(head);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            if stream.write_all(answer).await.is_ok() {
                stream.shutdown().await.ok();
            }
        }
    });
    (format!("https://{address}"), heads, serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_behind_tls_is_trusted_by_its_authority_and_knows_us_by_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, heads, _serving) = guarded_collector(folder.path()).await;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (authority, certificate, key) = (place("ca.pem"), place("client.pem"), place("client.key"));
    let trusted = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority),
    ];
    let known = [("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &*certificate), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key)];
    let mut world = World::new().await;
    ask_for(&mut world, &[&trusted[..], &known].concat());
    world.write("a.yaml", "tenants: [{ id: acme, name: Acme }]\n");
    world.converge().await;
    world.until("spans arrived", async |_| !heads.lock().unwrap().is_empty()).await;
    assert!(world.stop().await.success());
    let before = heads.lock().unwrap().len();
    assert!(heads.lock().unwrap()[0].starts_with(b"POST /v1/traces HTTP/1.1\r\n"));

    // A stranger is told, and works on.
    let mut world = World::new().await;
    ask_for(&mut world, &trusted);
    world.write("a.yaml", "tenants: [{ id: acme, name: Acme }]\n");
    world.converge().await;
    world.until("told", async |world| world.daemon().said("traces do not reach the collector")).await;
    world.stop().await;
    // A file that is not there is named.
    let mut world = World::new().await;
    ask_for(
        &mut world,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/absent.pem")],
    );
    world.write("a.yaml", "tenants: [{ id: acme, name: Acme }]\n");
    world.converge().await;
    let (_, log) = world.stop_and_read().await;
    assert!(log.iter().any(|line| line.contains("OTEL_EXPORTER_OTLP_CERTIFICATE: cannot read /absent.pem")), "{log:?}");
    assert_eq!(heads.lock().unwrap().len(), before);
}
