//! Says "look again" at an interval, so that drift heals though no file changes.

use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::telemetry::clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::Board;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

// Daemons that started together must not ask together for ever.
const JITTER: f64 = 0.1;

/// Fires at every `interval`, give or take a tenth, until `shutdown`. The board is told when.
pub async fn run(
    interval: Duration,
    targets: Vec<TriggerSender>,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    shutdown: CancellationToken,
) {
    loop {
        let wait = jittered(interval, fastrand::f64());
        board.next_interval(clock::now() + wait);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        metrics.source_events_total.with_label_values(&[Trigger::Interval.as_str()]).inc();
        for target in &targets {
            target.fire(Trigger::Interval);
        }
    }
}

/// `draw` is in `0..1`.
fn jittered(interval: Duration, draw: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * draw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::channel;
    use tokio::time::Instant;

    #[test]
    fn the_jitter_is_a_tenth_to_either_side() {
        let minute = Duration::from_secs(60);
        for (draw, seconds) in [(0.0, 54), (0.5, 60), (1.0, 66)] {
            assert_eq!(jittered(minute, draw), Duration::from_secs(seconds));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_interval_fires_once_to_every_project_and_counts_once() {
        let (first, mut one) = channel();
        let (second, mut two) = channel();
        let metrics = Arc::new(Metrics::new());
        let board = Arc::new(Board::new(Duration::from_secs(60), &[("one", "observe")]));
        let shutdown = CancellationToken::new();
        let start = Instant::now();
        let stop = shutdown.clone();
        let rounds = async {
            for _ in 0..3 {
                assert_eq!((one.recv().await, two.recv().await), (Trigger::Interval, Trigger::Interval));
            }
            stop.cancel();
        };

        tokio::join!(
            run(Duration::from_secs(60), vec![first, second], Arc::clone(&metrics), Arc::clone(&board), shutdown),
            rounds
        );

        assert!((162..=198).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        assert!(board.status().projects[0].overview.next_pass_at.is_some());
        assert_eq!(metrics.source_events_total.with_label_values(&["interval"]).get(), 3);
    }
}
