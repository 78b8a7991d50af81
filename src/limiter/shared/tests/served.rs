//! Whole limiters around a store in memory, on a paused clock.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::refused;
use super::settings;
use crate::limiter::Limiter;
use crate::limiter::Outcome;
use crate::limiter::Priority;
use crate::limiter::shared::row::BLOCKS;
use crate::limiter::shared::row::LIFE;
use crate::limiter::shared::store::InMemory;
use crate::limiter::shared::store::Read;
use crate::limiter::shared::store::Store;
use crate::limiter::shared::store::Unreachable;
use crate::limiter::shared::store::Written;

/// A store that can be cut off, and takes a moment.
struct Wire {
    store: InMemory,
    is_cut: AtomicBool,
}

impl Wire {
    fn new() -> Arc<Self> {
        Arc::new(Self { store: InMemory::new(), is_cut: AtomicBool::new(false) })
    }

    async fn pass(&self) -> Result<(), Unreachable> {
        tokio::time::sleep(Duration::from_millis(3)).await;
        if self.is_cut.load(Ordering::Relaxed) { Err(Unreachable("cut".to_owned())) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl Store for Wire {
    async fn read(&self) -> Result<Read, Unreachable> {
        self.pass().await?;
        self.store.read().await
    }

    async fn glance(&self) -> Result<Option<Duration>, Unreachable> {
        self.pass().await?;
        self.store.glance().await
    }

    async fn write(&self, row: Written) -> Result<bool, Unreachable> {
        self.pass().await?;
        self.store.write(row).await
    }
}

struct Replica {
    limiter: Limiter,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Replica {
    fn starts(name: &str, n: f64, wire: &Arc<Wire>) -> Self {
        let limiter = Limiter::shared("api.descope.com", settings(n), name.to_owned(), Arc::default());
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (serving, wire, stopped) = (limiter.clone(), wire.clone(), stop.clone());
        tasks.spawn(async move { serving.serve(&*wire, stopped).await });
        Self { limiter, stop, tasks }
    }

    async fn send(&self, outcome: Outcome) {
        let mut permit = self.limiter.acquire(Priority::Change).await;
        assert!(permit.is_current());
        permit.sending();
        tokio::time::sleep(Duration::from_millis(20)).await;
        permit.finish(outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_spend_one_budget_together() {
    let wire = Wire::new();
    let (first, second) = (Replica::starts("first", 30.0, &wire), Replica::starts("second", 30.0, &wire));
    let start = Instant::now();

    for _ in 0..15 {
        tokio::join!(first.send(Outcome::Answered), second.send(Outcome::Answered));
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!((first.limiter.status().used, second.limiter.status().used), (30, 30));
    tokio::join!(first.send(Outcome::Answered), second.send(Outcome::Answered));

    assert!(start.elapsed() >= Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(62), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_closes_the_gate_for_all_and_one_of_them_tries() {
    let wire = Wire::new();
    let (first, second) = (Replica::starts("first", 30.0, &wire), Replica::starts("second", 30.0, &wire));
    for _ in 0..10 {
        second.send(Outcome::Answered).await;
    }
    let late = second.limiter.acquire(Priority::Change).await;
    assert!(late.is_current());

    first.send(refused(30)).await;
    tokio::time::sleep(Duration::from_millis(250)).await;

    assert!(!late.is_current());
    drop(late);
    let start = Instant::now();
    let (mut one, other) = tokio::select! {
        trial = first.limiter.acquire(Priority::Change) => (trial, &second),
        trial = second.limiter.acquire(Priority::Change) => (trial, &first),
    };
    assert!(start.elapsed() > Duration::from_secs(30));
    one.sending();
    let blocked = tokio::time::timeout(Duration::from_secs(3), other.limiter.acquire(Priority::Change)).await;
    assert!(blocked.is_err());
    one.finish(Outcome::Answered);
    other.send(Outcome::Answered).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_cut_off_nothing_goes() {
    let wire = Wire::new();
    let replica = Replica::starts("only", 30.0, &wire);
    replica.send(Outcome::Answered).await;

    wire.is_cut.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let blocked = tokio::time::timeout(Duration::from_secs(20), replica.limiter.acquire(Priority::Change)).await;
    assert!(blocked.is_err());

    wire.is_cut.store(false, Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(2), replica.send(Outcome::Answered)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stops_gives_back_what_it_did_not_use_and_tells_what_it_did() {
    let wire = Wire::new();
    let mut first = Replica::starts("first", 30.0, &wire);
    first.send(Outcome::Answered).await;
    let mut under_way = first.limiter.acquire(Priority::Change).await;
    under_way.sending();

    first.stop.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    under_way.finish(Outcome::Answered);
    tokio::time::timeout(Duration::from_secs(1), first.tasks.join_next()).await.unwrap();

    let second = Replica::starts("second", 30.0, &wire);
    let start = Instant::now();
    for _ in 0..28 {
        second.send(Outcome::Answered).await;
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    second.send(Outcome::Answered).await;
    assert!(start.elapsed() > Duration::from_secs(50), "{:?}", start.elapsed());
}

/// How many requests are answered before one has to wait for the next window.
async fn spent_at_once(replica: &Replica) -> u32 {
    let mut spent = 0;
    while tokio::time::timeout(Duration::from_secs(30), replica.send(Outcome::Answered)).await.is_ok() {
        spent += 1;
    }
    spent
}

/// What nobody can spend in the window of the kill is what the dead one held, and one window after it was missed there is nothing
/// less than before.
#[tokio::test(start_paused = true)]
async fn a_replica_that_is_killed_in_mid_window_costs_at_most_its_block() {
    const N: u32 = 100;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a tenth of the limit")]
    let block = (f64::from(N) / BLOCKS).ceil() as u32;
    let mut most = 0;
    for sent in [1, 5, 9, 10, 11, 18, 37, 63] {
        let wire = Wire::new();
        let (mut first, second) =
            (Replica::starts("first", f64::from(N), &wire), Replica::starts("second", f64::from(N), &wire));
        for _ in 0..sent {
            first.send(Outcome::Answered).await;
        }

        // From here on it tells nobody anything.
        first.tasks.shutdown().await;
        let killed = Instant::now();
        let lost = N - sent - spent_at_once(&second).await;

        assert!(lost <= block, "after {sent} sent, {lost} were lost; a block is {block}");
        assert!(killed.elapsed() < Duration::from_secs(60), "all of it was one window");
        most = most.max(lost);
        tokio::time::sleep_until(killed + LIFE + Duration::from_secs(60 + 5)).await;
        let back = spent_at_once(&second).await;
        assert_eq!(back, N, "after {sent} sent");
    }
    assert!(most > 0, "none was killed with anything in its hands");
}
