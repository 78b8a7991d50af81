//! One attempt of a call: permit, headers, send, report.

use super::Client;
use super::Error;
use super::Settings;
use super::Shared;
use super::answer;
use super::answer::Answer;
use super::call::Call;
use super::license;
use super::rate_headers::quota;
use super::retry_after::retry_after;
use super::transport::Request;
use super::transport::Response;
use super::transport::TransportError;
use crate::limiter::Outcome;
use crate::limiter::Permit;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces;
use crate::telemetry::unanswered::Waiting;
use reqwest::header::AUTHORIZATION;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

const TOO_MANY_REQUESTS: u16 = 429;

/// Between looks whether there is room again.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(50);

/// What came of one attempt.
pub(super) enum Attempt {
    Answered(Answer),
    Throttled,
    Failed(Error),
}

impl Client {
    /// Waits for a permit, sends once, and reports what came of it.
    pub(super) async fn attempt(&self, call: &Call) -> Attempt {
        let Shared { settings, metrics, shutdown, blame, .. } = &*self.shared;
        let (mut permit, license, deadline, patience) = loop {
            if self.room().is_none() {
                if !self.is_wanted() {
                    return Attempt::Failed(Error::Stopping);
                }
                tokio::time::sleep(LOOK_FOR_ROOM).await;
                continue;
            }
            let permit = match self.reserved() {
                Some(permit) => Some(permit),
                None => shutdown.run_until_cancelled(self.permit()).await,
            };
            let Some(permit) = permit.filter(|_| self.is_wanted()) else { return Attempt::Failed(Error::Stopping) };
            let license = match shutdown.run_until_cancelled(self.license()).await {
                None => return Attempt::Failed(Error::Stopping),
                Some(Ok(license)) => license,
                Some(Err(refusal)) => {
                    permit.finish(refusal);
                    return Attempt::Throttled;
                }
            };
            // That takes a moment, as it may write to the disk.
            if let Some(begin) = &self.begin
                && !(begin().await && self.is_wanted())
            {
                return Attempt::Failed(Error::Stopping);
            }
            // In this order: a process that is stopped in between has no more time for it.
            let now = Instant::now();
            if permit.is_current()
                && let Some(room) = self.room()
            {
                let patience = settings.request_timeout.min(room);
                break (permit, license, after(now, patience), patience);
            }
        };
        // Read only now: the key may have changed while we waited.
        let key = match self.key() {
            Ok(key) => key,
            Err(error) => return Attempt::Failed(error),
        };
        let request = match self.request(call, &key, license) {
            Ok(request) => request,
            Err(error) => return Attempt::Failed(error),
        };
        permit.sending();
        let sent = self.exchange(call, request, deadline).await;
        if let Some(quota) = sent.as_ref().ok().and_then(|response| quota(&response.headers)) {
            permit.told(quota);
        }
        permit.finish(outcome(&sent));
        let (code, attempt) = match sent {
            Ok(response) if response.status == TOO_MANY_REQUESTS => ("429".into(), Attempt::Throttled),
            Ok(response) => {
                let status = response.status;
                match answer::read(call, &settings.project_id, &settings.redactor, response).await {
                    Ok(answer) => (status.to_string(), Attempt::Answered(answer)),
                    Err(error @ Error::Undocumented { .. }) if status < 300 => {
                        ("malformed".into(), Attempt::Failed(error))
                    }
                    Err(error) => {
                        if matches!(error, Error::Unauthorized { .. } | Error::Forbidden { .. }) {
                            blame.refused(&key);
                        }
                        (status.to_string(), Attempt::Failed(error))
                    }
                }
            }
            Err(error) => (network_code(&error).into(), Attempt::Failed(self.network_error(call, &error, patience))),
        };
        metrics.api_requests_total.with_label_values(&[call.operation(), &code]).inc();
        attempt
    }

    fn room(&self) -> Option<Duration> {
        self.room.as_ref().map_or(Some(Duration::MAX), |room| room())
    }

    /// Is the call still to be made?
    fn is_wanted(&self) -> bool {
        !self.shared.shutdown.is_cancelled() && self.wanted.as_ref().is_none_or(|wanted| wanted())
    }

    /// Leave to send that was waited for before; none that was overtaken by a refusal.
    fn reserved(&self) -> Option<Permit> {
        let reserved = self.reserved.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take();
        reserved.filter(Permit::is_current)
    }

    /// Leave to send now; one that was overtaken by a refusal is given back.
    pub(super) async fn permit(&self) -> Permit {
        loop {
            let permit = self.shared.limiter.acquire(self.priority).await;
            if permit.is_current() {
                return permit;
            }
        }
    }

    /// One request and its answer, or what came instead.
    async fn exchange(&self, call: &Call, request: Request, deadline: Instant) -> Result<Response, TransportError> {
        let span = tracing::debug_span!("call", operation = call.operation(), code = Empty);
        let sent = self.exchanged(call, request, deadline).instrument(span.clone()).await;
        match &sent {
            Ok(response) => span.record("code", response.status),
            Err(error) => span.record("code", network_code(error)),
        };
        match &sent {
            Ok(response) if response.status < 400 => {}
            Ok(response) => traces::failed(&span, response.status.to_string()),
            Err(error) => traces::failed(&span, network_code(error)),
        }
        sent
    }

    async fn exchanged(&self, call: &Call, request: Request, deadline: Instant) -> Result<Response, TransportError> {
        let Shared { transport, metrics, .. } = &*self.shared;
        let operation = call.operation();
        let started = Instant::now();
        let in_flight = InFlight::begin(metrics);
        let sent = transport.send(request, deadline).await;
        drop(in_flight);
        let elapsed = started.elapsed();
        metrics.api_request_duration_seconds.with_label_values(&[operation]).observe(elapsed.as_secs_f64());
        match &sent {
            Ok(response) => tracing::trace!(operation, status = response.status, ?elapsed, "answered"),
            Err(error) => tracing::trace!(operation, %error, ?elapsed, "not answered"),
        }
        sent
    }

    /// The rate limit tier, asked for at first use. The call is exempt from the rate limit, so it takes no permit of its own,
    /// and is made while the one of another call is there: not while the gate is closed. Without an answer we do as well as
    /// without the header. Err where the limit refuses it all the same.
    async fn license(&self) -> Result<Option<HeaderValue>, Outcome> {
        let mut refusal = None;
        let ask = async || {
            let call = Call::license();
            let request = self.request(&call, &self.key().ok()?, None).ok()?;
            let sent = self.exchange(&call, request, after(Instant::now(), license::TIMEOUT)).await;
            let code = match &sent {
                Ok(response) => response.status.to_string(),
                Err(error) => network_code(error).to_owned(),
            };
            self.shared.metrics.api_requests_total.with_label_values(&[call.operation(), &code]).inc();
            refusal = Some(outcome(&sent)).filter(|outcome| matches!(outcome, Outcome::Throttled { .. }));
            let tier = sent.ok().filter(|r| (200..300).contains(&r.status)).and_then(|r| license::read(&r.body));
            if tier.is_none() {
                tracing::debug!(code, "the license call gave no rate limit tier");
            }
            tier
        };
        let tier = self.shared.license.tier(ask).await;
        refusal.map_or(Ok(tier), Err)
    }

    fn key(&self) -> Result<SecretString, Error> {
        let Shared { settings, key, blame, .. } = &*self.shared;
        let unusable = |reason: String| {
            blame.unreadable();
            Error::KeyUnavailable { reason }
        };
        let key = key().map_err(|reason| unusable(answer::clean(&reason, 300, &settings.redactor)))?;
        if key.expose_secret().is_empty() {
            return Err(unusable("it is empty".to_owned()));
        }
        settings.redactor.add(&key);
        Ok(key)
    }

    fn request(&self, call: &Call, key: &SecretString, license: Option<HeaderValue>) -> Result<Request, Error> {
        let Settings { project_id, base_url, .. } = &self.shared.settings;
        let unusable = |reason: String| Error::KeyUnavailable { reason };
        let header = |text: &str| {
            let value = HeaderValue::from_bytes(text.as_bytes());
            value.map_err(|_| unusable("it or the project id holds a character that a header cannot carry".to_owned()))
        };
        let mut authorization = header(&format!("Bearer {project_id}:{}", key.expose_secret()))?;
        authorization.set_sensitive(true);

        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-descope-project-id", header(project_id)?);
        headers.insert("x-descope-sdk-name", HeaderValue::from_static(env!("CARGO_PKG_NAME")));
        headers.insert("x-descope-sdk-version", HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
        if let Some(license) = license {
            headers.insert("x-descope-license", license);
        }
        let mut url = base_url.clone();
        url.set_path(&format!("{}{}", base_url.path().trim_end_matches('/'), call.path()));
        if !call.query().is_empty() {
            url.query_pairs_mut().extend_pairs(call.query());
        }
        Ok(Request { method: call.method().clone(), url, headers, body: call.body().map(|b| b.to_string().into()) })
    }

    fn network_error(&self, call: &Call, error: &TransportError, patience: Duration) -> Error {
        let Settings { base_url, request_timeout, redactor, .. } = &self.shared.settings;
        let operation = call.operation();
        let cause = answer::clean(&error.to_string(), 300, redactor);
        match error {
            TransportError::Connect(_) => {
                Error::Unreachable { host: base_url.host_str().unwrap_or_default().to_owned(), cause }
            }
            TransportError::Timeout(_) => {
                let is_cut = patience < *request_timeout;
                // Nobody reads nanoseconds.
                let tenths = Duration::from_millis(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX) / 100 * 100);
                Error::Timeout { operation, after: if is_cut { tenths } else { patience }, is_cut }
            }
            TransportError::Reset(_) => Error::Reset { operation, cause },
            TransportError::TooLarge(_) => Error::TooLarge { operation, what: cause },
        }
    }
}

/// What is too far away for the clock is no wait at all.
fn after(now: Instant, timeout: Duration) -> Instant {
    now.checked_add(timeout).unwrap_or(now)
}

fn outcome(sent: &Result<Response, TransportError>) -> Outcome {
    match sent {
        Ok(response) if response.status == TOO_MANY_REQUESTS => {
            Outcome::Throttled { retry_after: retry_after(&response.headers) }
        }
        Ok(_) => Outcome::Answered,
        Err(_) => Outcome::Failed,
    }
}

/// The `code` label where there is no status.
fn network_code(error: &TransportError) -> &'static str {
    match error {
        TransportError::Connect(_) => "connect",
        TransportError::Timeout(_) => "timeout",
        TransportError::Reset(_) => "reset",
        TransportError::TooLarge(_) => "malformed",
    }
}

/// Counts a request as under way until it is dropped, answered or not.
struct InFlight<'a> {
    metrics: &'a Metrics,
    _unanswered: Waiting<'a>,
}

impl<'a> InFlight<'a> {
    fn begin(metrics: &'a Metrics) -> Self {
        metrics.api_requests_in_flight.inc();
        Self { metrics, _unanswered: metrics.unanswered.begin() }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.api_requests_in_flight.dec();
    }
}
