//! What the daemon serves: the page, probes and metrics for everybody, status and plan for operators, posts for those with the
//! token.
//!
//! It knows no other part of the daemon: what it shows comes from the board and from closures, what it sets off goes
//! through closures.

use crate::plan::window::Wanted;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::repeats::Spell;
use crate::telemetry::status::Board;
use axum::Extension;
use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::routing::get;
use axum::routing::post;
use connections::Connections;
use events::Feed;
use events::Lasting;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod access;
mod answers;
mod connections;
mod events;
mod head;
mod history;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod limits;
mod page;
mod routes;

pub use answers::Alive;
pub use answers::Ordered;
pub use answers::Ready;
pub use answers::Refused;
pub use history::ChangePage;
pub use history::History;
pub use history::PassPage;
pub use history::Tried;
pub use routes::LONGEST_SUSPENSION;
pub use routes::NO_SUCH_PROJECT;

/// A connection carries one request, and this is all the time it has: for the header, the body, and taking the
/// answer. A slow peer holds nothing for longer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Of the request line and all headers; browsers with many cookies stay below.
const LARGEST_HEADER: usize = 64 * 1024;
/// At the stop, answers under way get this long. They are computed in milliseconds; only a slow peer needs more.
const GRACE: Duration = Duration::from_secs(1);
/// After a failed accept, which mostly means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a post sets off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// A full pass now.
    Reconcile,
    /// The same, and what was refused or waits for its next try is tried as well.
    Retry,
    /// Let the held plan with this fingerprint go ahead.
    Approve(&'a str),
    /// Only observe, for so long; a part of the project or all of it.
    Suspend(Duration, Option<Part<'a>>),
    /// Go on.
    Resume(Option<Part<'a>>),
}

impl<'a> Order<'a> {
    /// What of the project it is about, where that is not all of it.
    pub fn part(&self) -> Option<Part<'a>> {
        match *self {
            Self::Suspend(_, part) | Self::Resume(part) => part,
            Self::Reconcile | Self::Retry | Self::Approve(_) => None,
        }
    }
}

/// A kind, or one resource of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// The YAML key.
    pub kind: &'static str,
    /// The identity; `None` for all of the kind.
    pub id: Option<&'a str>,
}

/// `roles`, or `roles/Editor`.
impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{}/{id}", self.kind),
            None => f.write_str(self.kind),
        }
    }
}

/// What became of an order, per project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is carried out; what there is to say about it, without the project.
    Done(Ordered),
    /// No held plan has this fingerprint: it was used, or what it covers changed.
    Stale,
    /// The same, where some replica has files put aside, which can be approved by their revision: these.
    Aside(String),
    /// It could not be carried out, for this reason.
    Failed(String),
    /// There is nobody who could, or nobody knows of them.
    Nobody(String),
}

/// Carries out an order for one project, or has it carried out, on behalf of whoever asks from this address.
pub type Control = Box<dyn for<'a> Fn(Order<'a>, Option<IpAddr>) -> BoxFuture<'a, Answer> + Send + Sync>;

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

/// Writes the JSON of `/api/v1/plan` out.
pub type WritePlan = dyn Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync;

/// What the server shows and sets off.
pub struct Served {
    /// Counts the requests, and is served.
    pub metrics: Arc<Metrics>,
    /// Status, probes.
    pub board: Arc<Board>,
    /// Called before metrics, health or status are shown: brings those gauges and board entries up to date that
    /// nobody pushes.
    pub refresh: Box<dyn Fn() + Send + Sync>,
    /// The last plan, as the JSON of `/api/v1/plan`.
    pub plan: Box<WritePlan>,
    /// What of it is wanted, with counts of all of it.
    pub window: Box<dyn Fn(&Wanted) -> String + Send + Sync>,
    /// Passes and changes.
    pub history: History,
    /// By project.
    pub controls: BTreeMap<String, Control>,
    /// `None`: nothing but the open routes, and on loopback the reads.
    pub token: Option<SecretString>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

/// The port is taken, or not for us.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen}; choose another address with --listen or http.listen")]
pub struct CannotListen {
    listen: SocketAddr,
    source: io::Error,
}

/// A port that is ours, so that a taken one is known before the daemon does anything.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes the port; port 0 takes a free one. The address goes to the log.
    pub async fn bind(listen: SocketAddr) -> Result<Self, CannotListen> {
        let cannot = |source| CannotListen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        tracing::info!(%address, "listening");
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets answers under way finish.
    pub async fn run(self, served: Served, shutdown: CancellationToken) {
        let served = Arc::new(served);
        let feed = Arc::new(Feed::new(shutdown.clone()));
        let router = router(Arc::clone(&served), &feed, self.address.ip().is_loopback());
        let mut feeding = JoinSet::new();
        feeding.spawn(async move { feed.run(&served).await });
        let mut connections = Connections::new();
        let unaccepted = Spell::default();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(()) = connections.ended() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        unaccepted.over();
                        let lasting = Lasting::default();
                        let peer = Some(Peer(peer.ip().to_canonical()));
                        let served = connection(stream, peer, router.clone(), lasting.clone(), shutdown.clone());
                        connections.open(lasting, served).await;
                    }
                    Err(error) => {
                        if let Some(times) = unaccepted.met() {
                            tracing::warn!(%error, times, "cannot accept a connection");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        let finished = async { while connections.ended().await.is_some() {} };
        if tokio::time::timeout(GRACE, finished).await.is_err() {
            tracing::debug!("cut off peers that were slow to take their answer");
        }
    }
}

/// One request, its answer, and the end.
async fn connection<S>(mut stream: S, peer: Option<Peer>, router: Router, lasting: Lasting, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let told = lasting.clone();
    let served = async {
        let head = tokio::select! {
            // What is there already is answered.
            biased;
            head = head::read(&mut stream) => head?,
            () = shutdown.cancelled() => return Ok(()),
        };
        // Apart: it is far larger than what waits for a head.
        Box::pin(answer(stream, head, peer, router, told, &shutdown)).await.map_err(io::Error::other)
    };
    let deadline = async {
        tokio::time::sleep(DEADLINE).await;
        if lasting.is_set() {
            tokio::time::sleep(events::LIFE).await;
        }
    };
    tokio::select! {
        ended = served => match ended {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "a connection ended early"),
        },
        () = deadline => tracing::debug!("cut off a slow peer, or a stream that was open for long"),
    }
}

/// Answers the request that begins with `head`.
async fn answer<S>(
    stream: S,
    head: Vec<u8>,
    peer: Option<Peer>,
    router: Router,
    told: Lasting,
    shutdown: &CancellationToken,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answering = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(told.clone());
        peer.map(|peer| request.extensions_mut().insert(peer));
        answering.call(request)
    });
    let (rest, to) = tokio::io::split(stream);
    let stream = tokio::io::join(io::Cursor::new(head).chain(rest), to);
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LARGEST_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.as_mut().await
}

/// All routes. `loopback`: only this machine can reach us, so reads need no token.
fn router(served: Arc<Served>, feed: &Arc<Feed>, loopback: bool) -> Router {
    let open = Router::new()
        .route("/", get(page::shell))
        .route("/page/{file}", get(page::part))
        .route("/livez", get(routes::livez))
        .route("/readyz", get(routes::readyz))
        .route("/healthz", get(routes::healthz))
        .route("/metrics", get(routes::metrics));
    let reads = Router::new()
        .route("/api/v1/status", get(routes::status))
        .route("/api/v1/plan", get(routes::plan))
        .route("/api/v1/problems", get(routes::problems))
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/events", get(events::events).layer(Extension(Arc::clone(feed))))
        .route_layer(middleware::from_fn_with_state(access::Access::reads(&served, loopback), access::check));
    let posts = Router::new()
        .route("/api/v1/reconcile", post(routes::reconcile))
        .route("/api/v1/approve", post(routes::approve))
        .route("/api/v1/suspend", post(routes::suspend))
        .route("/api/v1/resume", post(routes::resume))
        .route_layer(middleware::from_fn_with_state(access::Access::posts(&served), access::check));
    let counted = Arc::clone(&served.metrics);
    open.merge(reads)
        .merge(posts)
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .layer(middleware::from_fn(limits::refuse_large_bodies))
        .layer(middleware::from_fn(move |request: Request, next| limits::count(Arc::clone(&counted), request, next)))
        .with_state(served)
}

#[cfg(test)]
mod tests;
