//! One function per route.

use crate::http::Alive;
use crate::http::Answer;
use crate::http::Control;
use crate::http::Order;
use crate::http::Ordered;
use crate::http::Part;
use crate::http::Peer;
use crate::http::Ready;
use crate::http::Refused;
use crate::http::Served;
use crate::plan::window::Wanted;
use crate::resource;
use crate::source::Trigger;
use crate::telemetry::status::Level;
use crate::telemetry::status::WhichProblems;
use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::future::join_all;
use futures_util::stream::unfold;
use serde::Deserialize;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

type Shared = State<Arc<Served>>;
type Who = Option<Extension<Peer>>;

/// `{"error": "..."}`.
pub fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(Refused { error: message.to_owned() })).into_response()
}

pub async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not found")
}

pub async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

/// The loops turn. Says nothing about Descope: restarting the daemon does not mend that.
pub async fn livez(State(served): Shared) -> Response {
    if served.board.is_alive() {
        Json(Alive { status: "ok" }).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Alive { status: "stuck" })).into_response()
    }
}

pub async fn readyz(State(served): Shared) -> Response {
    let not_ready = served.board.not_ready();
    if not_ready.is_empty() {
        Json(Ready { status: "ready", projects: not_ready }).into_response()
    } else {
        let body = Ready { status: "not ready", projects: not_ready };
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    }
}

pub async fn healthz(State(served): Shared) -> Response {
    (served.refresh)();
    let health = served.board.health();
    let status = if health.status == Level::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(health)).into_response()
}

pub async fn metrics(State(served): Shared) -> Response {
    (served.refresh)();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], served.metrics.render()).into_response()
}

pub async fn status(State(served): Shared) -> Response {
    written(move || {
        (served.refresh)();
        served.board.status_json()
    })
    .await
}

/// `?project=&kind=&id=&q=&action=&held=true|false&offset=&limit=`; with any of them the answer is a window.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichChanges {
    project: Option<String>,
    kind: Option<String>,
    id: Option<String>,
    q: Option<String>,
    action: Option<String>,
    held: Option<bool>,
    offset: Option<usize>,
    limit: Option<usize>,
}

/// Rows of a window that does not ask for another number, and at the most.
const WINDOW: usize = 50;
const LARGEST_WINDOW: usize = 500;

fn window_size(asked: Option<usize>) -> usize {
    asked.unwrap_or(WINDOW).clamp(1, LARGEST_WINDOW)
}

pub async fn plan(State(served): Shared, which: Result<Query<WhichChanges>, QueryRejection>) -> Response {
    let Ok(Query(which)) = which else {
        let parameters = "the parameters are project, kind, id, q, action, held, offset and limit, each once";
        return error(StatusCode::BAD_REQUEST, parameters);
    };
    if which == WhichChanges::default() {
        return streamed(move |to| (served.plan)(to)).await;
    }
    written(move || {
        let limit = window_size(which.limit);
        let WhichChanges { project, kind, id, q: search, action, held, offset, limit: _ } = which;
        let offset = offset.unwrap_or_default();
        (served.window)(&Wanted { project, kind, id, search, action, held, offset, limit })
    })
    .await
}

/// Large answers that are written out at a time; others wait.
static TURNS: Semaphore = Semaphore::const_new(2);

/// An answer that may be large: 100,000 changes take a while to be written out, and probes do not wait for it.
async fn written(json: impl FnOnce() -> String + Send + 'static) -> Response {
    let _turn = TURNS.acquire().await;
    match tokio::task::spawn_blocking(json).await {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "writing the answer out failed inside the daemon"),
    }
}

/// Answers that are written out while they are taken; others wait. Each costs a thread, for as long as a connection may last.
static STREAMS: Semaphore = Semaphore::const_new(16);

/// What goes out at a time, and at the most waits to.
const PIECE: usize = 64 << 10;
const PIECES: usize = 2;

/// An answer of any length, of which there is never more than a few pieces at a time.
async fn streamed(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Response {
    let turn = STREAMS.acquire().await;
    let (sender, pieces) = mpsc::channel(PIECES);
    let writing = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut to = BufWriter::with_capacity(PIECE, Pieces(sender));
        write(&mut to)?;
        to.flush()
    });
    let body = unfold((pieces, Some(writing)), |(mut pieces, writing)| async move {
        if let Some(piece) = pieces.recv().await {
            return Some((Ok(piece), (pieces, writing)));
        }
        // What ends too early must not look whole.
        let is_whole = writing?.await.is_ok_and(|written| written.is_ok());
        (!is_whole).then(|| (Err(io::Error::other("writing the answer out failed inside the daemon")), (pieces, None)))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

/// Waits for whoever takes the answer, and fails once nobody does.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `?project=&state=&kind=&id=&offset=&limit=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichProblem {
    project: Option<String>,
    state: Option<String>,
    kind: Option<String>,
    id: Option<String>,
    offset: Option<usize>,
    limit: Option<usize>,
}

pub async fn problems(State(served): Shared, which: Result<Query<WhichProblem>, QueryRejection>) -> Response {
    let Ok(Query(which)) = which else {
        let parameters = "the parameters are project, state, kind, id, offset and limit, each once";
        return error(StatusCode::BAD_REQUEST, parameters);
    };
    let problems = served.board.problems(&WhichProblems {
        project: which.project.as_deref(),
        state: which.state.as_deref(),
        kind: which.kind.as_deref(),
        id: which.id.as_deref(),
        offset: which.offset.unwrap_or_default(),
        limit: window_size(which.limit),
    });
    Json(problems).into_response()
}

/// `?project=NAME&retry=true`; nothing else, so that a typo does not set off everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    project: Option<String>,
    retry: Option<bool>,
}

/// `?plan=FINGERPRINT&project=NAME`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichPlan {
    plan: String,
    project: Option<String>,
}

/// `?for=2h&project=NAME&kind=KIND` or `&target=KIND/ID`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForHowLong {
    r#for: String,
    project: Option<String>,
    kind: Option<String>,
    target: Option<String>,
}

/// `?project=NAME&kind=KIND` or `&target=KIND/ID`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichPart {
    project: Option<String>,
    kind: Option<String>,
    target: Option<String>,
}

/// What of a project is meant; `None`: all of it.
fn part<'a>(kind: Option<&str>, target: Option<&'a str>) -> Result<Option<Part<'a>>, String> {
    let (name, id) = match (kind, target) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err("write kind=KIND or target=KIND/ID, not both".to_owned()),
        (Some(kind), None) => (kind, None),
        (None, Some(target)) => match target.split_once('/').filter(|(_, id)| !id.is_empty()) {
            Some((kind, id)) => (kind, Some(id)),
            None => return Err("target must be KIND/ID, such as tenants/acme".to_owned()),
        },
    };
    match resource::kind(name) {
        Some(kind) => Ok(Some(Part { kind: kind.name(), id })),
        None => Err("there is no such kind; kinds are named as in the files, such as tenants".to_owned()),
    }
}

/// What the answer to an order for another project says.
pub const NO_SUCH_PROJECT: &str = "no such project";

/// A suspension that nobody remembers must end by itself.
pub const LONGEST_SUSPENSION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub async fn reconcile(State(served): Shared, peer: Who, which: Result<Query<Which>, QueryRejection>) -> Response {
    let Ok(Query(Which { project, retry })) = which else {
        return error(StatusCode::BAD_REQUEST, "the parameters are project, and retry=true, each once");
    };
    let order = if retry == Some(true) { Order::Retry } else { Order::Reconcile };
    carry_out(&served, peer, project.as_deref(), order, StatusCode::ACCEPTED).await
}

pub async fn approve(State(served): Shared, peer: Who, which: Result<Query<WhichPlan>, QueryRejection>) -> Response {
    let Ok(Query(WhichPlan { plan, project })) = which else {
        return error(StatusCode::BAD_REQUEST, "write ?plan=FINGERPRINT, and project=NAME for one project");
    };
    carry_out(&served, peer, project.as_deref(), Order::Approve(&plan), StatusCode::OK).await
}

pub async fn suspend(State(served): Shared, peer: Who, which: Result<Query<ForHowLong>, QueryRejection>) -> Response {
    let Ok(Query(ForHowLong { r#for: text, project, kind, target })) = which else {
        let what = "write ?for=2h, project=NAME for one project, and kind=KIND or target=KIND/ID for a part of it";
        return error(StatusCode::BAD_REQUEST, what);
    };
    let part = match part(kind.as_deref(), target.as_deref()) {
        Ok(part) => part,
        Err(what) => return error(StatusCode::BAD_REQUEST, &what),
    };
    match crate::config::span(&text) {
        Ok(wait) if !wait.is_zero() && wait <= LONGEST_SUSPENSION => {
            carry_out(&served, peer, project.as_deref(), Order::Suspend(wait, part), StatusCode::OK).await
        }
        Ok(_) => error(StatusCode::BAD_REQUEST, "for must be a duration such as 2h, at most 7d"),
        Err(what) => error(StatusCode::BAD_REQUEST, &format!("for {what}")),
    }
}

pub async fn resume(State(served): Shared, peer: Who, which: Result<Query<WhichPart>, QueryRejection>) -> Response {
    let Ok(Query(WhichPart { project, kind, target })) = which else {
        return error(StatusCode::BAD_REQUEST, "the parameters are project, and kind or target, each once");
    };
    match part(kind.as_deref(), target.as_deref()) {
        Ok(part) => carry_out(&served, peer, project.as_deref(), Order::Resume(part), StatusCode::OK).await,
        Err(what) => error(StatusCode::BAD_REQUEST, &what),
    }
}

/// For each project at the same time: where another replica is to do it, that takes a while.
async fn carry_out(
    served: &Served,
    peer: Who,
    project: Option<&str>,
    order: Order<'_>,
    success: StatusCode,
) -> Response {
    let chosen: Vec<(&String, &Control)> = match project {
        Some(name) => match served.controls.get_key_value(name) {
            Some(entry) => vec![entry],
            None => return error(StatusCode::NOT_FOUND, NO_SUCH_PROJECT),
        },
        None => served.controls.iter().collect(),
    };
    served.metrics.source_events_total.with_label_values(&[Trigger::Api.as_str()]).inc();
    let mut body = Ordered::default();
    let mut failed: Option<(StatusCode, Vec<String>)> = None;
    let mut aside = Vec::new();
    let by = peer.map(|Extension(Peer(address))| address);
    let answers = join_all(chosen.iter().map(|(_, control)| control(order, by))).await;
    for ((name, _), answer) in chosen.into_iter().zip(answers) {
        let (status, reason) = match answer {
            Answer::Done(news) => {
                body.add(name, news);
                continue;
            }
            // A fingerprint is of one project; the others know nothing of it.
            Answer::Stale => continue,
            Answer::Aside(what) => {
                aside.push(what);
                continue;
            }
            Answer::Failed(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason),
            Answer::Nobody(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        };
        let (_, reasons) = failed.get_or_insert((status, Vec::new()));
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    // The project that a fingerprint is of was found: whatever the others would have said, it is not theirs.
    let is_found = matches!(order, Order::Approve(_)) && !body.projects.is_empty();
    let is_said = |status: StatusCode| !is_found || status != StatusCode::SERVICE_UNAVAILABLE;
    if let Some((status, reasons)) = failed.filter(|(status, _)| is_said(*status)) {
        let done = body.projects.join(", ");
        let and = if done.is_empty() { String::new() } else { format!("; it was carried out for {done}") };
        return error(status, &format!("{}{and}", reasons.join("; ")));
    }
    if body.projects.is_empty() {
        let what = "no held plan has this fingerprint: it was approved already, or what it covers changed";
        let what: Vec<&str> = std::iter::once(what).chain(aside.iter().map(String::as_str)).collect();
        return error(StatusCode::CONFLICT, &what.join("; "));
    }
    (success, Json(body)).into_response()
}
