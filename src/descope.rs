//! The Descope client: permit, send, report, retry if transient.
//!
//! Every attempt takes a permit of the [`Limiter`] and reports what came of it. A 429 never surfaces: the limiter
//! closes its gate, and the call waits there for another permit without losing an attempt. What may have taken effect
//! and must not happen twice (creates, renames, deletes) is returned at once, for the caller to look first.

use crate::backoff::Backoff;
use crate::limiter::Limiter;
use crate::limiter::Permit;
use crate::limiter::Priority;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use crate::telemetry::status::LimiterStatus;
use reqwest::Method;
use secrecy::SecretString;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

mod address;
mod answer;
mod attempt;
mod audit;
mod blame;
pub mod call;
pub mod error;
mod license;
mod packed;
pub mod rate_headers;
pub mod retry_after;
#[cfg(test)]
pub mod script;
pub mod transport;

pub use address::base_url;
pub use audit::Event;
pub use call::Call;
pub use call::Document;
pub use call::Name;
pub use error::Error;
pub use packed::Packed;

use answer::Answer;
use attempt::Attempt;
use blame::Blame;
use call::Form;
use license::License;
use transport::Transport;

/// Gives the management key whenever one is needed; it may have changed since. The text says why there is none.
pub type KeySource = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// What a client needs to know of its project.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Goes into the authorization beside the key.
    pub project_id: String,
    /// From [`base_url`].
    pub base_url: Url,
    /// For one attempt, from sending to the last byte of the answer.
    pub request_timeout: Duration,
    /// Between the attempts of one call.
    pub retry: Backoff,
    /// Learns the management key, and cleans what the API says.
    pub redactor: Redactor,
}

/// How often a key that was of no use is compared with the one that can be read.
const KEY_CHECK: Duration = Duration::from_secs(1);

/// A client of one project. Clones share everything but the priority.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    priority: Priority,
    wanted: Option<Arc<Wanted>>,
    begin: Option<Arc<Begin>>,
    room: Option<Arc<Room>>,
    calls: Option<Arc<AtomicUsize>>,
    /// For the next attempt.
    reserved: Option<Arc<Mutex<Option<Permit>>>>,
}

/// Is a call still to be made?
type Wanted = dyn Fn() -> bool + Send + Sync;

/// What has to be done right before a request is sent; false where it could not be.
type Begin = dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync;

/// How long a request may take that is sent now; `None` where that is too short for any, for now.
type Room = dyn Fn() -> Option<Duration> + Send + Sync;

struct Shared {
    settings: Settings,
    key: KeySource,
    transport: Arc<dyn Transport>,
    limiter: Limiter,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    license: License,
    blame: Blame,
}

impl Client {
    /// Sends nothing yet. Waits end when `shutdown` is cancelled; a request under way ends by itself.
    pub fn new(
        settings: Settings,
        key: KeySource,
        transport: Arc<dyn Transport>,
        limiter: Limiter,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let license = License::default();
        let blame = Blame::default();
        let shared = Shared { settings, key, transport, limiter, metrics, shutdown, license, blame };
        Self {
            shared: Arc::new(shared),
            priority: Priority::Observation,
            wanted: None,
            begin: None,
            room: None,
            calls: None,
            reserved: None,
        }
    }

    /// Which project it speaks to, on which host.
    pub fn target(&self) -> (&str, &str) {
        let Settings { project_id, base_url, .. } = &self.shared.settings;
        (base_url.as_str(), project_id)
    }

    /// How the rate limit stands that all its calls go by.
    pub fn limits(&self) -> LimiterStatus {
        self.shared.limiter.status()
    }

    /// About how long it is until the rate limit lets the last of so many calls go; `None` while none is known.
    pub fn due(&self, calls: usize) -> Option<Duration> {
        self.shared.limiter.due(calls)
    }

    /// Wakes when that may have changed: with every request.
    pub fn limits_changed(&self) -> watch::Receiver<()> {
        self.shared.limiter.changed()
    }

    /// The same client for calls of another priority; a new one observes.
    #[must_use]
    pub fn with_priority(&self, priority: Priority) -> Self {
        Self { priority, ..self.clone() }
    }

    /// The same for calls that may have lost their point by the time the rate limit lets them go: asked right before
    /// each is sent, beside earlier conditions, and where the answer is no, it is not sent and ends with
    /// [`Error::Stopping`].
    #[must_use]
    pub fn only_while(&self, wanted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let before = self.wanted.clone();
        let both = move || before.as_ref().is_none_or(|before| before()) && wanted();
        Self { wanted: Some(Arc::new(both)), ..self.clone() }
    }

    /// The same for calls before which something has to be done, like writing down that they are sent: once each has leave
    /// to be sent and is wanted still, which it has to be after that, too. Where it could not be done, the call is not sent
    /// and ends with [`Error::Stopping`].
    #[must_use]
    pub fn begun_by<F>(&self, begin: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        Self { begin: Some(Arc::new(move || Box::pin(begin()))), ..self.clone() }
    }

    /// The same for calls that must have ended by some time, which may be put off again and again: none is sent while it is
    /// too near.
    #[must_use]
    pub fn within(&self, room: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { room: Some(Arc::new(room)), ..self.clone() }
    }

    /// For one attempt, from sending to the last byte of the answer.
    pub fn request_timeout(&self) -> Duration {
        self.shared.settings.request_timeout
    }

    /// The same, and how many calls it makes; one that is repeated counts once.
    #[must_use]
    pub fn counted(&self) -> (Self, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        (Self { calls: Some(Arc::clone(&calls)), ..self.clone() }, calls)
    }

    /// Waits for leave to send, and gives a client whose next attempt needs no more; `None` where nothing more is sent.
    /// Dropped unused, it is given back.
    pub async fn reserve(&self) -> Option<Self> {
        let permit = self.shared.shutdown.run_until_cancelled(self.permit()).await?;
        Some(Self { reserved: Some(Arc::new(Mutex::new(Some(permit)))), ..self.clone() })
    }

    /// Waits until there is another management key than the one that was refused, or one where none could be read. For
    /// good where no call failed for that.
    pub async fn another_key(&self) {
        let Shared { key, blame, .. } = &*self.shared;
        loop {
            tokio::time::sleep(KEY_CHECK).await;
            if blame.is_worth_a_try(&key()) {
                return blame.forgive();
            }
        }
    }

    /// Makes a call that changes nothing. The answer is of the documented form.
    pub async fn read(&self, call: &Call) -> Result<Document, Error> {
        object(call, self.send(call).await?)
    }

    /// Has the counters of these calls at 0 before the first of them: one that appears with its first increase hides that
    /// increase from an alert.
    pub fn foresee(&self, calls: impl IntoIterator<Item = Call>) {
        let metrics = &self.shared.metrics;
        for call in calls {
            for code in ["200", "401", "429"] {
                metrics.api_requests_total.with_label_values(&[call.operation(), code]);
            }
            for reason in ["throttled", "status", "timeout", "connect"] {
                metrics.api_retries_total.with_label_values(&[call.operation(), reason]);
            }
        }
    }

    /// Makes a call that changes something. Repeated by itself only where [`Call::is_repeatable`], or where nothing
    /// was sent; the error of the last attempt tells whether that [may have taken
    /// effect](Error::may_have_taken_effect). The answer may be empty.
    pub async fn write(&self, call: &Call) -> Result<Document, Error> {
        object(call, self.send(call).await?)
    }

    /// The items of a list call. An answer without them is an error, never an empty list.
    pub async fn list(&self, call: &Call) -> Result<Vec<Packed>, Error> {
        let operation = call.operation();
        if !matches!(call.form(), Form::List { .. }) {
            return Err(Error::Unsendable { operation, what: "it lists nothing".to_owned() });
        }
        match self.send(call).await? {
            Answer::List(items) => Ok(items),
            Answer::Object(_) => Err(Error::Undocumented { operation, what: "no list".to_owned() }),
        }
    }

    /// The same as documents, for few.
    pub async fn documents(&self, call: &Call) -> Result<Vec<Document>, Error> {
        let items = self.list(call).await?;
        let documents: Option<Vec<Document>> = items.iter().map(Packed::read).collect();
        documents.ok_or_else(|| Error::Undocumented { operation: call.operation(), what: "not JSON".to_owned() })
    }

    async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let Shared { settings, metrics, shutdown, .. } = &*self.shared;
        if let Some(calls) = &self.calls {
            calls.fetch_add(1, Ordering::Relaxed);
        }
        let count = |reason| metrics.api_retries_total.with_label_values(&[call.operation(), reason]).inc();
        let mut failures = 0;
        // Where nothing more is sent, what an earlier attempt may have done is still what the caller must know.
        let is_write = call.method() != Method::GET;
        let mut unclear = None;
        loop {
            let error = match self.attempt(call).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Throttled => {
                    count("throttled");
                    continue;
                }
                Attempt::Failed(Error::Stopping) => return Err(unclear.unwrap_or(Error::Stopping)),
                Attempt::Failed(error) => error,
            };
            failures += 1;
            let is_safe = call.is_repeatable() || !error.may_have_taken_effect();
            // A key that cannot be read will hardly come back within these waits.
            let is_hopeless = !error.is_transient() || matches!(error, Error::KeyUnavailable { .. });
            if failures >= settings.retry.max_attempts || is_hopeless || !is_safe {
                return Err(if error.was_sent() { error } else { unclear.unwrap_or(error) });
            }
            let delay = settings.retry.delay(failures, fastrand::f64());
            tracing::debug!(operation = call.operation(), %error, attempt = failures, ?delay, "repeating a call");
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    let is_unclear = is_write && error.may_have_taken_effect();
                    return Err(if is_unclear { error } else { unclear.unwrap_or(Error::Stopping) });
                }
                () = tokio::time::sleep(delay) => count(error.reason()),
            }
            if is_write && error.may_have_taken_effect() {
                unclear = Some(error);
            }
        }
    }
}

/// Names the project, never the key.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { project_id, base_url, .. } = &self.shared.settings;
        let mut debug = f.debug_struct("Client");
        debug.field("project_id", project_id).field("base_url", &base_url.as_str());
        debug.field("priority", &self.priority).finish_non_exhaustive()
    }
}

fn object(call: &Call, answer: Answer) -> Result<Document, Error> {
    match answer {
        Answer::Object(document) => Ok(document),
        Answer::List(_) => Err(Error::Unsendable { operation: call.operation(), what: "it is a list".to_owned() }),
    }
}

#[cfg(test)]
mod tests;
