//! Why each task of a project is not done yet, for the status.

use super::entry::Entry;
use super::entry::Seen;
use super::entry::Status;
use super::lane::Lane;
use super::problems;
use crate::telemetry::status::Told;
use crate::telemetry::status::Turn;
use crate::telemetry::status::Waits;
use crate::telemetry::status::Why;
use crate::telemetry::status::rfc3339;
use std::time::SystemTime;
use tokio::time::Instant;

/// Adds a task. `now` and `wall` are the same moment on both clocks.
pub(super) fn add(lane: &Lane, entry: &Entry, turn: &Turn, (now, wall): (Instant, SystemTime), waits: &mut Waits) {
    let why = why(lane, entry, turn);
    waits.add(why, entry.task.slot.key.kind, || {
        let what = match (&entry.status, why) {
            (Status::Parked { message } | Status::Delayed { message, .. }, _) => message.clone(),
            (_, Why::Dependency) if entry.failed > 0 => problems::blocked(lane, entry),
            (_, Why::Dependency) => first(lane, entry),
            (Status::InFlight { .. }, Why::Answer) => "its call is under way, and not answered yet".to_owned(),
            (Status::InFlight { .. }, Why::Budget) => "its call is under way, or goes out next".to_owned(),
            (_, _) => turn.what.to_owned(),
        };
        let until = match &entry.status {
            Status::Delayed { until, .. } => wall.checked_add(until.saturating_duration_since(now)).map(rfc3339),
            Status::Waiting | Status::InFlight { .. } if why == turn.why => turn.until.clone(),
            Status::Waiting | Status::InFlight { .. } | Status::Parked { .. } | Status::Gone => None,
        };
        let since = wall.checked_sub(now.saturating_duration_since(entry.queued_at)).map(rfc3339);
        Told { id: entry.task.slot.key.id(), what, since, until }
    });
}

fn why(lane: &Lane, entry: &Entry, turn: &Turn) -> Why {
    match entry.status {
        Status::Parked { .. } => Why::Parked,
        Status::Delayed { .. } => Why::Backoff,
        Status::Waiting if lane.is_paused() => turn.why,
        Status::Waiting if entry.failed > 0 || entry.open > 0 || lane.is_preceded(entry) => Why::Dependency,
        Status::Waiting | Status::InFlight { .. } | Status::Gone => turn.why,
    }
}

/// Who goes before it.
fn first(lane: &Lane, entry: &Entry) -> String {
    let on = entry.task.after.iter().filter_map(|slot| lane.entry(slot)).find(|other| other.seen() == Seen::Open);
    on.map_or_else(
        || "what the plan does before it".to_owned(),
        |other| format!("{} goes first", problems::whom(entry, other)),
    )
}
