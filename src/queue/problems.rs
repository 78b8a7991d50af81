//! What does not go ahead, in words for the status.

use super::entry::Entry;
use super::entry::Seen;
use super::entry::Status;
use super::lane::Lane;
use crate::telemetry::status::Problem;
use crate::telemetry::status::ProblemState;
use crate::telemetry::status::rfc3339;
use std::time::SystemTime;
use tokio::time::Instant;

/// What is wrong with a task, where it waits for more than its turn. `now` and `wall` are the same moment on both clocks.
pub(super) fn of(lane: &Lane, entry: &Entry, (now, wall): (Instant, SystemTime)) -> Option<Problem> {
    let at = |until: Option<Instant>| wall.checked_add(until?.saturating_duration_since(now)).map(rfc3339);
    let (state, message, next) = match &entry.status {
        // A problem stays one until a try succeeds: else it would come and go with each try.
        Status::Waiting | Status::InFlight { .. } if entry.is_tried_again() => {
            (ProblemState::Retrying, entry.last_failure.clone()?, None)
        }
        // What is wrong with its resource is told once, by the part that it waits for.
        Status::Waiting if lane.waits_for_itself(entry) => return None,
        Status::Waiting => (ProblemState::Blocked, blocked(lane, entry), None),
        Status::Delayed { until, message } => (ProblemState::Retrying, message.clone(), at(Some(*until))),
        // With the pass after that.
        Status::Parked { message } => (ProblemState::Parked, message.clone(), at(entry.again_at)),
        Status::InFlight { .. } | Status::Gone => return None,
    };
    let task = &entry.task;
    Some(Problem {
        kind: task.slot.key.kind.to_owned(),
        id: task.slot.key.id(),
        state,
        message,
        attempts: entry.attempts,
        next_attempt_at: next,
        file: task.place().map(|place| place.file.to_string()),
        line: task.place().map(|place| place.line),
    })
}

/// For whom it waits in vain.
pub(super) fn blocked(lane: &Lane, entry: &Entry) -> String {
    let on = entry.task.after.iter().filter_map(|slot| lane.entry(slot)).find(|other| other.seen() == Seen::Failed);
    if let Some(other) = on {
        return format!("waits for {}, which {}", whom(entry, other), plight(other));
    }
    match lane.failed_make(entry.task.slot.key.kind) {
        Some(other) => {
            let key = &other.task.slot.key;
            format!(
                "nothing of {} is deleted before the {} of {key}, which {}",
                key.kind,
                other.task.action.as_str(),
                plight(other)
            )
        }
        None => "waits for another change".to_owned(),
    }
}

/// In words: the resource that `other` writes, or where that is its own, what is done first.
pub(super) fn whom(entry: &Entry, other: &Entry) -> String {
    if other.task.slot.key == entry.task.slot.key {
        return format!("its own {}", other.task.action.as_str());
    }
    other.task.slot.key.to_string()
}

fn plight(entry: &Entry) -> &'static str {
    match entry.status {
        Status::Parked { .. } => "is parked",
        Status::Delayed { .. } => "failed and is tried again later",
        Status::Waiting | Status::InFlight { .. } | Status::Gone => "is blocked itself",
    }
}
