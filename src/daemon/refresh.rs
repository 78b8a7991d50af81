//! What no loop shows by itself: the state, the queue, the limiters and ages, brought up to date for whoever looks.

use crate::limiter::Limiter;
use crate::observed::Deep;
use crate::plan::ProjectName;
use crate::queue::Counts;
use crate::queue::Queue;
use crate::resource;
use crate::state::State;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::Board;
use crate::telemetry::status::Level;
use crate::telemetry::status::QueueStatus;
use std::sync::Arc;

/// Brings it up to date on the board and in the metrics.
pub fn all(
    board: &Arc<Board>,
    metrics: &Arc<Metrics>,
    queue: &Queue,
    state: &State,
    limiters: Vec<Limiter>,
    deeps: Vec<(ProjectName, Deep)>,
) -> impl Fn() + Send + Sync + use<> {
    let (board, metrics, queue, state) = (Arc::clone(board), Arc::clone(metrics), queue.clone(), state.clone());
    move || {
        show_state(&board, &state);
        let is_writable = !state.is_failing() && !board.is_database_silent();
        metrics.state_writable.set(i64::from(is_writable));
        show_ages(&metrics, &deeps);
        let counts = queue.counts_with_refused();
        let (queue, are_hanging) = (shown(&counts), metrics.unanswered.take_every_worker(counts.in_flight));
        let is_slow = limiters.iter().any(Limiter::is_slow);
        let limiters: Vec<_> = limiters.iter().map(Limiter::status).collect();
        let (level, reason) = if is_slow {
            (Level::Degraded, Some("the database of state.url answers too slowly for requests to go to Descope"))
        } else if limiters.iter().any(|limiter| limiter.paused_until.is_some()) {
            (Level::Degraded, Some("waiting for the rate limit"))
        } else {
            (Level::Ok, None)
        };
        board.component("limiter", None, level, reason);
        board.traffic(queue, limiters, are_hanging);
    }
}

/// Ages grow while nothing happens; what is declared no more has none.
fn show_ages(metrics: &Metrics, deeps: &[(ProjectName, Deep)]) {
    for (project, deep) in deeps {
        metrics.observation_interval_seconds.with_label_values(&[&**project]).set(deep.interval().as_secs_f64());
        let coverage = deep.coverage();
        for kind in resource::ALL.iter().map(|kind| kind.name()) {
            let labels = [&**project, kind];
            match coverage.get(kind) {
                Some(coverage) => {
                    let age = coverage.oldest.elapsed().as_secs_f64();
                    metrics.observation_age_seconds.with_label_values(&labels).set(age);
                }
                // Fails where it had none.
                None => drop(metrics.observation_age_seconds.remove_label_values(&labels)),
            }
        }
    }
}

/// As the status has them.
pub fn shown(counts: &Counts) -> QueueStatus {
    QueueStatus {
        ready: counts.ready as u64,
        delayed: counts.delayed as u64,
        in_flight: counts.in_flight as u64,
        blocked: counts.blocked as u64,
        parked: counts.parked as u64,
    }
}

/// Whether the state can be written, and what became of it.
pub fn show_state(board: &Board, state: &State) {
    let (level, reason) = if state.is_failing() {
        (Level::Degraded, Some("cannot be written"))
    } else if state.was_reset() {
        (Level::Degraded, Some("a damaged database was moved aside"))
    } else {
        (Level::Ok, None)
    };
    board.component_since("state", None, (level, reason), state.failing_since());
}
