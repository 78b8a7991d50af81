//! The socket: reads requests, waits out the latency, and answers, closes or stays silent.

use super::control;
use super::exchange::Request;
use super::exchange::Store;
use super::fault::Ending;
use super::reply::Outgoing;
use super::reply::Reply;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A state of 100,000 tenants fits.
const LARGEST_BODY: usize = 256 << 20;
/// Requests in flight may take this long once the simulator stops.
const GRACE: Duration = Duration::from_secs(2);

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    memory: Mutex<Store>,
    started: Instant,
    shutdown: CancellationToken,
}

impl Shared {
    /// Starts the clock.
    pub fn new(memory: Store, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { memory: Mutex::new(memory), started: Instant::now(), shutdown })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Store, Duration) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: the limit's clock must not go back.
        act(&mut memory, self.started.elapsed())
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct Closed;

/// Accepts until the shutdown, then lets what is in flight end.
pub async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(stream, peer.ip(), Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of descriptors: some must close first.
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let ended = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        connections.shutdown().await;
    }
}

async fn serve(stream: TcpStream, source: IpAddr, shared: Arc<Shared>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let answered = AtomicU64::new(0);
    let service = service_fn(|request| {
        let before = answered.fetch_add(1, Ordering::Relaxed);
        exchange(&shared, source, before, request)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shared.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection closed");
    }
}

async fn exchange(
    shared: &Shared,
    source: IpAddr,
    before: u64,
    request: hyper::Request<Incoming>,
) -> Result<Response<Outgoing>, Closed> {
    let Some(request) = read(source, request).await else {
        return Ok(Reply::text(413, "").into_response());
    };
    if request.path.starts_with(control::PREFIX) {
        return Ok(shared.with(|memory, now| control::answer(memory, now, &request)).into_response());
    }
    // A gateway with a mind of its own: nothing of the request arrives behind it.
    if shared.with(|memory, _| memory.switches.answers_per_connection).is_some_and(|most| before >= most) {
        return Err(Closed);
    }
    let (arrival, latency) = shared.with(|memory, _| {
        let mut arrival = memory.arrive(&request);
        let latency = memory.latency(&mut arrival.rng);
        (arrival, latency)
    });
    wait(latency / 2).await;
    let (ending, delay) = shared.with(|memory, now| memory.take(now, &request, arrival));
    wait(delay).await;
    match ending {
        Ending::Answer(reply) => {
            wait(latency / 2).await;
            Ok(reply.into_response())
        }
        Ending::Drop => Err(Closed),
        Ending::Hang => {
            shared.shutdown.cancelled().await;
            Err(Closed)
        }
    }
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// `None`: the body is too large or broke off.
async fn read(source: IpAddr, request: hyper::Request<Incoming>) -> Option<Request> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_BODY).collect().await.ok()?.to_bytes().to_vec();
    let query = head.uri.query().unwrap_or_default();
    let authorization = head.headers.get(hyper::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    Some(Request {
        source,
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        authorization: authorization.map(str::to_owned),
        body,
    })
}
