//! Requests to Descope that wait for an answer: while a host hangs they take every worker, and what waits for one of those does
//! not wait for the rate limit.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// An answer takes a fraction of a second.
const LONG: Duration = Duration::from_secs(2);

/// Of all projects.
#[derive(Debug, Default)]
pub struct Unanswered {
    workers: AtomicUsize,
    since: Mutex<Begun>,
}

#[derive(Debug, Default)]
struct Begun {
    next: u64,
    by_number: BTreeMap<u64, Instant>,
}

/// Counts a request until it is dropped.
#[derive(Debug)]
pub struct Waiting<'a> {
    of: &'a Unanswered,
    number: u64,
}

impl Unanswered {
    /// So many calls go out at a time.
    pub fn set_workers(&self, workers: usize) {
        self.workers.store(workers, Ordering::Relaxed);
    }

    /// A request is sent.
    pub fn begin(&self) -> Waiting<'_> {
        let mut begun = self.begun();
        let number = begun.next;
        begun.next += 1;
        begun.by_number.insert(number, Instant::now());
        Waiting { of: self, number }
    }

    /// Is that why nothing more goes out? Every worker has a call, and half of them have waited for long.
    pub fn take_every_worker(&self, in_flight: usize) -> bool {
        let workers = self.workers.load(Ordering::Relaxed);
        let long = || self.begun().by_number.values().filter(|since| since.elapsed() >= LONG).count();
        workers > 0 && in_flight >= workers && long() * 2 >= workers
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.of.begun().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn workers_are_taken_where_all_have_a_call_and_half_of_those_hang() {
        let unanswered = Unanswered::default();
        let first = [unanswered.begin(), unanswered.begin()];
        tokio::time::advance(LONG).await;
        assert!(!unanswered.take_every_worker(4), "nobody said how many there are");
        unanswered.set_workers(4);
        let _others = [unanswered.begin(), unanswered.begin()];
        assert!(unanswered.take_every_worker(4));
        assert!(!unanswered.take_every_worker(3), "one has nothing to do");
        drop(first);
        assert!(!unanswered.take_every_worker(4));
    }
}
