//! A connection without a network, for tests that send anything.

use super::Answer;
use super::Control;
use super::History;
use super::Order;
use super::Ordered;
use super::Served;
use super::connection;
use super::events::Feed;
use super::events::Lasting;
use super::router;
use crate::state::Place;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::Board;
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

/// What the token is.
pub const TOKEN: &str = "token";

/// All that comes back when this is sent and then no more. A stream of events ends at once.
pub async fn answer(sent: &[u8]) -> Vec<u8> {
    let shutdown = CancellationToken::new();
    let feed = Arc::new(Feed::new(shutdown.clone()));
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let served = connection(ours, None, router(Arc::new(served()), &feed, true), Lasting::default(), shutdown.clone());
    let mut answer = Vec::new();
    let asked = async {
        let sending = async {
            // The other side may have had enough.
            drop(theirs.write_all(sent).await);
            drop(theirs.shutdown().await);
        };
        sending.await;
        shutdown.cancel();
        drop(theirs.read_to_end(&mut answer).await);
    };
    tokio::join!(served, asked);
    answer
}

fn served() -> Served {
    let control: Control = Box::new(|order, _| {
        let answer = match order {
            Order::Reconcile | Order::Retry | Order::Suspend(..) => Answer::Done(Ordered::default()),
            Order::Approve(_) => Answer::Stale,
            Order::Resume(_) => Answer::Failed("the disk is full".to_owned()),
        };
        Box::pin(ready(answer))
    });
    Served {
        metrics: Arc::new(Metrics::new()),
        board: Arc::new(Board::new(Duration::from_secs(60), &[("one", "sync")])),
        refresh: Box::new(|| ()),
        plan: Box::new(|to| to.write_all(br#"{"formatVersion":1,"projects":[]}"#)),
        window: Box::new(|wanted| format!("{{\"limit\":{}}}", wanted.limit)),
        history: History::new(Place::Directory("nowhere".into()), BTreeMap::new()),
        controls: BTreeMap::from([("one".to_owned(), control)]),
        token: Some(TOKEN.into()),
    }
}
