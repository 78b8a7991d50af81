//! Where the desired state comes from: reasons to look again, and the files of one consistent revision.
//!
//! [`loader`] joins both sides: it reads a revision and turns it into a checked desired state. The loops
//! ([`files`], [`timer`], [`sighup`]) only say "look again".

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;

pub mod files;
pub mod git;
pub mod loader;
pub mod sighup;
pub mod stat;
pub mod timer;
pub mod tree;
pub mod whole;

/// Why to look again. Ordered by strength: of several that wait together, the strongest names the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// Files changed.
    Watch,
    /// The interval elapsed.
    Interval,
    /// The daemon started.
    Startup,
    /// Somebody asked over HTTP.
    Api,
    /// SIGHUP: as [`TriggerSender::fire_fresh`] does, it also gives parked and waiting resources a fresh try, so it must not be lost by merging.
    Signal,
}

impl Trigger {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Watch, Self::Interval, Self::Startup, Self::Api, Self::Signal];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Interval => "interval",
            Self::Startup => "startup",
            Self::Api => "api",
            Self::Signal => "signal",
        }
    }

    // 0 is the empty place.
    fn rank(self) -> u8 {
        self as u8 + 1
    }

    fn of_rank(rank: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|trigger| trigger.rank() == rank)
    }
}

#[derive(Debug, Default)]
struct Place {
    waiting: AtomicU8,
    arrived: Notify,
    is_doubted: AtomicBool,
    is_fresh: AtomicBool,
}

/// Fires triggers at one receiver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TriggerSender(Arc<Place>);

/// Receives one trigger for all that were fired since the last.
#[derive(Debug)]
pub struct TriggerReceiver(Arc<Place>);

/// A channel with one place. A trigger carries no data, so the one that waits covers every other.
pub fn channel() -> (TriggerSender, TriggerReceiver) {
    let place = Arc::new(Place::default());
    (TriggerSender(Arc::clone(&place)), TriggerReceiver(place))
}

impl TriggerSender {
    /// Asks for one more pass. Never blocks.
    pub fn fire(&self, trigger: Trigger) {
        self.0.waiting.fetch_max(trigger.rank(), Ordering::AcqRel);
        self.0.arrived.notify_one();
    }

    /// Asks for one more pass that gives what is parked or backing off a fresh try. Never blocks.
    pub fn fire_fresh(&self, trigger: Trigger) {
        self.0.is_fresh.store(true, Ordering::Release);
        self.fire(trigger);
    }

    /// Was there a [`TriggerReceiver::doubt`] since this was asked last?
    pub fn is_doubted(&self) -> bool {
        self.0.is_doubted.swap(false, Ordering::AcqRel)
    }
}

impl TriggerReceiver {
    /// Waits for the next trigger. Safe to cancel.
    pub async fn recv(&mut self) -> Trigger {
        loop {
            if let Some(trigger) = self.try_recv() {
                return trigger;
            }
            self.0.arrived.notified().await;
        }
    }

    /// Waits until one more is fired, and leaves it to be received. Safe to cancel.
    pub async fn fired(&mut self) {
        loop {
            self.0.arrived.notified().await;
            // Or it was for one that was received already.
            if self.0.waiting.load(Ordering::Acquire) > 0 {
                return;
            }
        }
    }

    /// Other files were loaded, at a moment that the watcher may have missed: it shall ask for one more load, also where
    /// they are by then as it saw them last.
    pub fn doubt(&self) {
        self.0.is_doubted.store(true, Ordering::Release);
    }

    /// Was there a [`TriggerSender::fire_fresh`] since this was asked last? Merging with other triggers loses none.
    pub fn take_fresh(&self) -> bool {
        self.0.is_fresh.swap(false, Ordering::AcqRel)
    }

    /// Takes the trigger that waits, if one does.
    pub fn try_recv(&mut self) -> Option<Trigger> {
        Trigger::of_rank(self.0.waiting.swap(0, Ordering::AcqRel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn triggers_that_wait_together_become_the_strongest_of_them() {
        let (sender, mut receiver) = channel();
        sender.fire(Trigger::Watch);
        sender.fire(Trigger::Signal);
        sender.clone().fire(Trigger::Interval);
        sender.fire(Trigger::Api);

        assert_eq!(receiver.recv().await, Trigger::Signal);
        assert_eq!(receiver.try_recv(), None);
    }

    #[tokio::test]
    async fn a_fresh_try_is_neither_lost_by_merging_nor_given_twice() {
        let (sender, mut receiver) = channel();
        assert!(!receiver.take_fresh());
        sender.fire_fresh(Trigger::Api);
        sender.fire(Trigger::Signal);

        assert_eq!(receiver.recv().await, Trigger::Signal);
        assert!(receiver.take_fresh());
        assert!(!receiver.take_fresh());
    }

    #[tokio::test]
    async fn triggers_during_a_pass_cause_exactly_one_more() {
        let (sender, mut receiver) = channel();
        sender.fire(Trigger::Startup);
        assert_eq!(receiver.recv().await, Trigger::Startup);

        for _ in 0..50 {
            sender.fire(Trigger::Watch);
        }

        assert_eq!(receiver.recv().await, Trigger::Watch);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), receiver.recv()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_is_noticed_once_and_left_to_be_received() {
        let (sender, mut receiver) = channel();
        let mut is_more =
            async || tokio::time::timeout(std::time::Duration::from_secs(1), receiver.fired()).await.is_ok();
        sender.fire(Trigger::Startup);
        assert_eq!((is_more().await, is_more().await), (true, false));
        sender.fire(Trigger::Watch);
        assert!(is_more().await);

        assert_eq!(receiver.recv().await, Trigger::Startup);
        sender.fire(Trigger::Watch);
        assert_eq!(receiver.recv().await, Trigger::Watch);
        let stale = tokio::time::timeout(std::time::Duration::from_secs(1), receiver.fired()).await;
        assert!(stale.is_err(), "it was received");
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_waits_is_woken() {
        let (sender, mut receiver) = channel();
        let fire = async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            sender.fire(Trigger::Api);
        };

        let (trigger, ()) = tokio::join!(receiver.recv(), fire);

        assert_eq!(trigger, Trigger::Api);
    }

    #[test]
    fn every_label_is_the_metrics_own() {
        let labels = Trigger::ALL.map(Trigger::as_str);

        assert_eq!(labels, ["watch", "interval", "startup", "api", "signal"]);
        assert!(Trigger::ALL.into_iter().all(|t| Trigger::of_rank(t.rank()) == Some(t)));
    }
}
