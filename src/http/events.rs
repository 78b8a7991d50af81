//! `GET /api/v1/events`: what changes, as server-sent events, for as long as somebody listens.
//!
//! Each event is one JSON document that says everything anew: whoever missed some, or met another run of the daemon,
//! is right again with the next one.

use crate::http::Served;
use crate::http::routes;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::response::sse::KeepAlive;
use futures_util::stream::Stream;
use futures_util::stream::unfold;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::telemetry::clock;
use crate::telemetry::status::rfc3339;

/// More than any team has open; each costs a connection.
const STREAMS: usize = 64;
/// A stream ends after this time, and whoever still listens asks again: a peer that went away without a word holds
/// nothing for longer.
pub const LIFE: Duration = Duration::from_secs(10 * 60);
/// Events come no closer together: a drain would send hundreds a second.
const GAP: Duration = Duration::from_millis(400);
/// What nobody announces, such as the budget in use, is looked at this often while somebody listens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Shows a listener that the daemon is there though nothing changes.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What a browser's own client waits before it asks again.
const RETRY: Duration = Duration::from_secs(2);

/// Set for a connection that may last longer than a request.
#[derive(Debug, Clone, Default)]
pub struct Lasting(Arc<AtomicBool>);

impl Lasting {
    /// It is one from now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Is an event stream what it serves?
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all streams send.
#[derive(Debug)]
pub struct Feed {
    newest: watch::Sender<Arc<str>>,
    listened: Notify,
    seats: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Feed {
    /// Streams end with `stop`.
    pub fn new(stop: CancellationToken) -> Self {
        let seats = Arc::new(Semaphore::new(STREAMS));
        Self { newest: watch::Sender::new("".into()), listened: Notify::new(), seats, stop }
    }

    /// Looks after the streams until the stop; idle while nobody listens.
    pub async fn run(&self, served: &Served) {
        let mut changes = served.board.subscribe();
        loop {
            if self.newest.receiver_count() == 0 {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.listened.notified() => {}
                }
            }
            changes.borrow_and_update();
            self.look(served);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(GAP) => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY.saturating_sub(GAP)) => {}
            }
        }
    }

    fn look(&self, served: &Served) {
        (served.refresh)();
        let now = served.board.snapshot_json();
        self.newest.send_if_modified(|before| {
            let is_new = **before != *now;
            if is_new {
                *before = now.into();
            }
            is_new
        });
    }

    fn listen(&self, seat: OwnedSemaphorePermit) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let mut newest = self.newest.subscribe();
        newest.mark_changed();
        self.listened.notify_one();
        unfold((newest, self.stop.clone(), seat), move |(mut newest, stop, seat)| async move {
            tokio::select! {
                () = stop.cancelled() => return None,
                changed = newest.changed() => changed.ok()?,
            }
            let status = Arc::clone(&newest.borrow_and_update());
            let event = Event::default().event("status").retry(RETRY).data(document(&status, clock::now()));
            Some((Ok(event), (newest, stop, seat)))
        })
    }
}

/// The time is put in last: by itself it is no news.
fn document(status: &str, now: SystemTime) -> String {
    let rest = status.strip_prefix('{').unwrap_or("}");
    format!(r#"{{"at":"{}",{rest}"#, rfc3339(now))
}

/// A stream, or 503 where there are too many.
pub async fn events(
    State(served): State<Arc<Served>>,
    Extension(feed): Extension<Arc<Feed>>,
    lasting: Option<Extension<Lasting>>,
) -> Response {
    let Ok(seat) = Arc::clone(&feed.seats).try_acquire_owned() else {
        return routes::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many event streams are open; close one, or ask /api/v1/status",
        );
    };
    if let Some(Extension(lasting)) = lasting {
        lasting.set();
    }
    feed.look(&served);
    let stream = feed.listen(seat);
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Else nginx collects the events before it passes them on.
    response.headers_mut().insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_when() {
        let at = SystemTime::UNIX_EPOCH;

        let document: serde_json::Value = serde_json::from_str(&document(r#"{"a":1}"#, at)).unwrap();

        assert_eq!(document, serde_json::json!({ "at": "1970-01-01T00:00:00Z", "a": 1 }));
    }
}
