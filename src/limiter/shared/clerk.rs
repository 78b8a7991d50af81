//! Carries between a limiter's desk and the store, one call at a time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limiter::Limiter;
use crate::limiter::ORIGIN;
use crate::limiter::Priority;
use crate::limiter::Shared;
use crate::limiter::State;
use crate::limiter::lane;
use crate::limiter::shared::desk::Desk;
use crate::limiter::shared::desk::FRESH;
use crate::limiter::shared::desk::Todo;
use crate::limiter::shared::row::Want;
use crate::limiter::shared::store::Store;
use crate::limiter::shared::store::Unreachable;
use crate::limiter::source::Source;

/// It is said where a store was this slow so often in a row.
const SLOW: u32 = 5;

/// A store that gives no answer for so long gives none.
const PATIENCE: Duration = Duration::from_secs(3);

impl Limiter {
    /// Keeps a shared budget until `stop`, and until what is under way then has been told. Nothing is sent while nobody does.
    pub async fn serve(&self, store: &dyn Store, stop: CancellationToken) {
        let shared = &self.shared;
        let mut is_away = false;
        let mut slow = 0;
        loop {
            let woken = shared.work.notified();
            let is_stopping = stop.is_cancelled();
            let Some(todo) = shared.with_desk(|desk, want, now| {
                if is_stopping {
                    desk.close(now);
                }
                (!desk.is_done()).then(|| desk.todo(want, now))
            }) else {
                return;
            };
            let began = Instant::now();
            let outcome = match todo {
                Todo::Rest(until) => {
                    let until = shared.start + until.saturating_sub(ORIGIN).min(Duration::from_secs(3600));
                    tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(until) => {}
                        () = stop.cancelled(), if !is_stopping => {}
                    }
                    continue;
                }
                Todo::Glance => shared.glances(store).await,
                Todo::Read => shared.turns(store).await,
            };
            match &outcome {
                Err(error) => {
                    shared.tells(Desk::unreachable);
                    if !is_away {
                        tracing::warn!(%error, "no request is sent to Descope until the shared rate limit can be read again");
                    }
                    if is_stopping {
                        return; // what we hold comes back by itself
                    }
                }
                Ok(()) if is_away => tracing::info!("the shared rate limit can be read again: requests go out"),
                Ok(()) => {}
            }
            is_away = outcome.is_err();
            slow = if outcome.is_ok() && began.elapsed() > FRESH { slow + 1 } else { 0 };
            if slow == SLOW {
                tracing::warn!(
                    took_ms = began.elapsed().as_millis(),
                    "the database of state.url answers too slowly: what it says of the rate limit must be no older than 250 ms when a \
                     request goes to Descope, so hardly any goes; run the database nearer to the replicas"
                );
            }
            shared.slow.store(slow >= SLOW, Ordering::Relaxed);
            shared.change(|_, _| ());
        }
    }
}

impl Shared {
    async fn glances(&self, store: &dyn Store) -> Result<(), Unreachable> {
        let began = self.now();
        let closed_at = patiently(store.glance()).await?;
        self.tells(|desk, now| desk.glanced(closed_at, began, now));
        Ok(())
    }

    async fn turns(&self, store: &dyn Store) -> Result<(), Unreachable> {
        let began = self.now();
        let read = patiently(store.read()).await?;
        let Some(row) = self.with_desk(|desk, want, now| desk.read(&read, want, began, now)) else { return Ok(()) };
        let is_written = patiently(store.write(row)).await?;
        self.tells(|desk, now| desk.wrote(is_written, now));
        Ok(())
    }

    fn tells(&self, what: impl FnOnce(&mut Desk, Duration)) {
        let told = self.with_desk(|desk, _, now| {
            what(desk, now);
            Some(())
        });
        debug_assert!(told.is_some(), "nobody serves a budget of his own");
    }

    /// `None` as well where the budget is our own.
    fn with_desk<T>(&self, act: impl FnOnce(&mut Desk, Option<Want>, Duration) -> Option<T>) -> Option<T> {
        let now = self.now();
        let mut state = self.state();
        let want = state.want();
        match &mut state.source {
            Source::Shared(desk) => act(desk, want, now),
            Source::Own(_) => None,
        }
    }
}

impl State {
    /// What waits here for a slot.
    fn want(&self) -> Option<Want> {
        let first = self.turn()?;
        let asked = self.asked[lane(first)]?;
        let last = first == Priority::Rotation;
        Some(Want { count: self.waiting.iter().sum(), age: Instant::now().saturating_duration_since(asked), last })
    }
}

async fn patiently<T>(answer: impl Future<Output = Result<T, Unreachable>>) -> Result<T, Unreachable> {
    let late = || Unreachable(format!("no answer within {}", humantime::format_duration(PATIENCE)));
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(late()))
}
