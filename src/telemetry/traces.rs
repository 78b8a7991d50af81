//! Traces: spans to a collector over OTLP (HTTP, protobuf), where OpenTelemetry's own variables ask for it. Off otherwise,
//! and then free.
//!
//! Spans alone go out, with fields from closed sets, names of passes and revisions; no event, so no message and no error
//! text. What finds no room in the queue is dropped: a slow collector keeps no work and no stop waiting.

use crate::open;
use crate::telemetry::repeats::is_worth_a_line;
use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::Bytes;
use opentelemetry_http::HttpClient;
use opentelemetry_http::HttpError;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_otlp::WithHttpConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::Metadata;
use tracing::Span;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

/// OpenTelemetry's default for `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The end of the process waits no longer for a collector.
const LONGEST_FLUSH: Duration = Duration::from_millis(1_500);

/// A bundle of all public authorities has a quarter of a megabyte.
const LARGEST_PEM: u64 = 16 * 1024 * 1024;

/// Where our own spans come from.
const OURS: &str = env!("CARGO_CRATE_NAME");

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// A span that another one came from, perhaps in another trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin(Option<SpanContext>);

/// What of the environment is asked for; a parameter for tests.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Sends spans from now on where the environment asks for it. Must be called within the runtime. The error is for the
/// operator: what was asked for cannot be had, and there are no traces.
pub fn layer<S>(env: Env<'_>) -> Result<Option<impl Layer<S> + use<S>>, String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if !is_wanted(env)? {
        return Ok(None);
    }
    let client = Client::new(env)?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|error| format!("cannot send traces: {error}; there are none now"))?;
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let is_named = given(env, "OTEL_SERVICE_NAME").is_some()
        || given(env, "OTEL_RESOURCE_ATTRIBUTES")
            .is_some_and(|list| list.split(',').any(|pair| pair.trim().starts_with("service.name=")));
    if !is_named {
        resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
    }
    let provider = SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
    let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
    if PROVIDER.set(provider).is_err() {
        return Ok(None);
    }
    let is_ours = |metadata: &Metadata<'_>| metadata.is_span() && metadata.target().split("::").next() == Some(OURS);
    let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
    Ok(Some(layer.with_tracked_inactivity(false).with_target(false).with_filter(FilterFn::new(is_ours))))
}

/// Empty is as good as not set.
fn given(env: Env<'_>, name: &str) -> Option<String> {
    env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// A setting of the exporter and the variable that gave it: the one for traces alone, or else the one for all.
fn of_traces(env: Env<'_>, name: &str) -> Option<(String, String)> {
    let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
    names.into_iter().find_map(|name| given(env, &name).map(|value| (name, value)))
}

/// Do the standard variables ask for traces?
fn is_wanted(env: Env<'_>) -> Result<bool, String> {
    let is_off = given(env, "OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || given(env, "OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    if is_off || of_traces(env, "ENDPOINT").is_none() {
        return Ok(false);
    }
    match of_traces(env, "PROTOCOL") {
        Some((name, other)) if other != "http/protobuf" => Err(format!(
            "{name} is {other}, and traces are sent as http/protobuf alone: unset it, and let the endpoint name the collector's \
             HTTP port (4318); there are no traces now"
        )),
        _ => Ok(true),
    }
}

fn file(name: &str, path: &str) -> Result<Vec<u8>, String> {
    open::named(Path::new(path), LARGEST_PEM)
        .map_err(|error| format!("{name}: cannot read {path}: {error}; there are no traces now"))
}

fn no_pem(name: &str, path: &str) -> String {
    format!("{name}: {path} holds no usable certificate or key in PEM form; there are no traces now")
}

/// Sends what is left, for a moment at the most.
pub async fn finish() {
    let Some(provider) = PROVIDER.get().cloned() else { return };
    let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LONGEST_FLUSH));
    // What does not get out in time is lost: nobody waits for a collector.
    let is_sent = matches!(tokio::time::timeout(LONGEST_FLUSH, flush).await, Ok(Ok(Ok(()))));
    if !is_sent {
        tracing::debug!("some traces were not sent before the end");
    }
}

/// Writes the id of its trace into the span, so that the lines of the log have it.
pub fn show(span: &Span) {
    if PROVIDER.get().is_some() {
        let context = span.context();
        span.record("trace_id", tracing::field::display(context.span().span_context().trace_id()));
    }
}

/// Says that what the span is about failed. `why`: a status, or a word of a closed set; no message leaves by this way.
pub fn failed(span: &Span, why: impl Into<Cow<'static, str>>) {
    if PROVIDER.get().is_some() {
        span.set_status(Status::error(why));
    }
}

/// The span that is current now, for what it leads to.
pub fn origin() -> Origin {
    let is_valid = |context: &SpanContext| context.is_valid();
    Origin(PROVIDER.get().map(|_| Span::current().context().span().span_context().clone()).filter(is_valid))
}

/// Says what the span came from, and the commit that asked for it.
pub fn follow(span: &Span, origin: &Origin, commit: Option<&str>) {
    if let Some(context) = &origin.0 {
        let commit = commit.map(|commit| KeyValue::new("commit", commit.to_owned()));
        span.add_link_with_attributes(context.clone(), commit.into_iter().collect());
    }
}

/// The HTTP client that is here anyway, for the thread of the exporter.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
    failures: AtomicU64,
}

impl Client {
    fn new(env: Env<'_>) -> Result<Self, String> {
        // Fails only where another part installed it first, which serves as well.
        rustls::crypto::ring::default_provider().install_default().ok();
        let timeout = of_traces(env, "TIMEOUT").and_then(|(_, value)| value.parse().ok());
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout.map_or(TIMEOUT, Duration::from_millis));
        if of_traces(env, "ENDPOINT").is_some_and(|(_, endpoint)| endpoint.starts_with("http:")) {
            // Without TLS there is no need for root certificates, which a bare container lacks.
            builder = builder.tls_certs_only([]);
        } else if let Some((name, path)) = of_traces(env, "CERTIFICATE") {
            let trusted = reqwest::Certificate::from_pem_bundle(&file(&name, &path)?).ok();
            let trusted = trusted.filter(|trusted| !trusted.is_empty()).ok_or_else(|| no_pem(&name, &path))?;
            builder = builder.tls_certs_only(trusted);
        }
        if let (Some((_, key)), Some((name, path))) =
            (of_traces(env, "CLIENT_KEY"), of_traces(env, "CLIENT_CERTIFICATE"))
        {
            let pem = [file("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key)?, file(&name, &path)?].join(&b"\n"[..]);
            builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(|_| no_pem(&name, &path))?);
        }
        let http = builder.build().map_err(|error| format!("cannot send traces: {error}; there are none now"))?;
        Ok(Self { http, runtime: tokio::runtime::Handle::current(), failures: AtomicU64::new(0) })
    }

    fn told(&self, reason: &str) {
        let times = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if is_worth_a_line(times, false) {
            tracing::warn!(reason, times, "traces do not reach the collector");
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let request: reqwest::Request = request.try_into()?;
        let http = self.http.clone();
        // The exporter has a thread of its own, without a runtime.
        let sent = self.runtime.spawn(async move {
            let response = http.execute(request).await.map_err(reqwest::Error::without_url)?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
        });
        match sent.await? {
            Ok((status, headers, body)) => {
                if status.is_success() {
                    self.failures.store(0, Ordering::Relaxed);
                } else {
                    self.told(status.as_str());
                }
                let mut response = http::Response::new(body);
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                Ok(response)
            }
            Err(error) => {
                self.told(if error.is_timeout() { "it does not answer in time" } else { "it cannot be reached" });
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_turns_traces_on_and_each_standard_switch_turns_them_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        let wanted = |variables: &[(&str, &str)]| {
            is_wanted(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };

        assert_eq!(wanted(&[]), Ok(false));
        assert_eq!(wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(false));
        assert_eq!(wanted(&[endpoint]), Ok(true));
        assert_eq!(wanted(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")]), Ok(true));
        assert_eq!(wanted(&[endpoint, ("OTEL_SDK_DISABLED", "True")]), Ok(false));
        assert_eq!(wanted(&[endpoint, ("OTEL_SDK_DISABLED", "false")]), Ok(true));
        assert_eq!(wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        assert_eq!(wanted(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]), Ok(true));
        let grpc = wanted(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(grpc.contains("is grpc") && grpc.contains("http/protobuf"), "{grpc}");
        let ours = [
            endpoint,
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ];
        assert_eq!(wanted(&ours), Ok(true));
    }
}
