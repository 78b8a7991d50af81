//! A newer plan takes the place of everything that waits. It is as large as the project, so it is made ready beside the
//! queue, and takes over where the tasks stand a few at a time; what changes meanwhile is noted and taken over in the end.

use super::super::entry::Entry;
use super::super::entry::Status;
use super::After;
use super::Lane;
use super::Written;
use crate::plan::Slot;
use crate::plan::Task;
use std::collections::BTreeSet;
use std::mem;
use tokio::time::Instant;

/// A plan that is not in force yet.
#[derive(Debug)]
pub(in super::super) struct Next {
    lane: Lane,
    /// How many of its tasks are of the plan. The others are in flight, and hold their slots until the answer.
    planned: usize,
    /// When the oldest look began that one of its tasks rests on.
    oldest: Option<Instant>,
    /// Those that the plan before has for the same cause.
    same: BTreeSet<usize>,
    /// How many took over where they stand.
    followed: usize,
    /// What waits or is parked gets a new try.
    fresh: bool,
    now: Instant,
}

impl Lane {
    /// A newer plan begins to take over. What is in flight: that finishes, whatever the new plan says, and holds its slot
    /// until then.
    pub fn begin_next(&mut self, now: Instant) -> Vec<Entry> {
        self.lasting.changed = Some(BTreeSet::new());
        let tasks: Vec<Box<Task>> = self.in_flight().map(|entry| entry.task.clone()).collect();
        // Each in a part of its own: its batch number is of the old plan.
        tasks.into_iter().map(|task| Entry { part: self.next_part(), ..Entry::new(task, now) }).collect()
    }

    /// No task rests on a look before the `oldest`, and none to come on one before the newest: what was written before those is
    /// news to nobody.
    fn forget_seen(&mut self, oldest: Option<Instant>) {
        if let Some(began) = self.lasting.look.as_ref().map(|look| look.began) {
            self.lasting.written.forget_before(oldest.map_or(began, |oldest| oldest.min(began)));
        }
    }

    /// A plan is in force that rests on the newest look. What was written since that look began, and is none of its tasks,
    /// may not have been in it.
    fn settle_look(&mut self, now: Instant) -> After {
        let Some(began) = self.lasting.look.as_ref().map(|look| look.began) else { return After::Nothing };
        self.lasting.stale_since = self.lasting.stale_since.filter(|since| *since > began);
        let is_missed = |(slot, written): (&Slot, &Written)| {
            self.place(slot).is_none() && self.is_of_other_files(written.revision())
        };
        if self.lasting.written.since(began).any(is_missed) { self.stale(now) } else { After::Nothing }
    }
}

impl Next {
    /// Makes it ready. `in_flight`: see [`Lane::begin_next`].
    pub fn new(tasks: Vec<Box<Task>>, in_flight: Vec<Entry>, fresh: bool, now: Instant) -> Self {
        let mut lane = Lane::with_room(tasks.len() + in_flight.len());
        for task in tasks {
            if lane.place(&task.slot).is_some() {
                let (kind, id) = (task.slot.key.kind, task.slot.key.id());
                tracing::error!(kind, id, "a plan has two tasks for one slot; the second waits for the next pass");
                continue;
            }
            lane.add(Entry::new(task, now));
        }
        let planned = lane.entries.len();
        for entry in in_flight {
            if lane.place(&entry.task.slot).is_none() {
                lane.add(entry);
            }
        }
        for index in 0..lane.entries.len() {
            lane.link(index);
            lane.weigh(index, true);
        }
        let oldest = lane.entries.iter().map(|entry| entry.task.observed_at).min();
        Self { lane, planned, oldest, same: BTreeSet::new(), followed: 0, fresh, now }
    }

    /// Takes over where so many more of its tasks stand. False once it has done so with all.
    pub fn follow(&mut self, before: &Lane, at_most: usize) -> bool {
        let part = self.followed..self.followed.saturating_add(at_most).min(self.lane.entries.len());
        self.followed = part.end;
        for index in part {
            self.take_over(index, before);
        }
        self.followed < self.lane.entries.len()
    }

    /// Puts it in force. How many tasks are new in it, whether its look was overtaken by a write that it knows nothing of, and
    /// what was there before: to let that go takes long, and nobody need wait for it.
    pub fn replace(mut self, lane: &mut Lane, now: Instant) -> (usize, After, Lane) {
        let is_known = |entry: &Entry| self.lane.place(&entry.task.slot).is_some();
        if !lane.in_flight().all(is_known) {
            // A worker took meanwhile what this plan does not have. That is rare: what is handed out is mostly still wanted.
            let planned = self.lane.entries.into_iter().take(self.planned).map(|entry| entry.task);
            self = Self::new(planned.collect(), lane.begin_next(now), self.fresh, now);
        }
        while self.follow(lane, usize::MAX) {}
        for slot in lane.lasting.changed.take().unwrap_or_default() {
            if let Some(index) = self.lane.place(&slot) {
                self.take_over(index, lane);
            }
        }
        let Self { lane: mut before, planned, oldest, same, .. } = self;
        mem::swap(lane, &mut before);
        lane.lasting = mem::take(&mut before.lasting);
        lane.lasting.plans = lane.lasting.plans.wrapping_add(1);
        lane.forget_seen(oldest);
        let after = lane.settle_look(now);
        (planned - same.len(), after, before)
    }

    /// Takes over where a task stands in the plan before, whatever was taken over of it already.
    fn take_over(&mut self, index: usize, before: &Lane) {
        // Where nothing is left, the lane was cleared.
        let Some(entry) = self.lane.entries.get(index).filter(|entry| entry.status != Status::Gone) else { return };
        let (now, fresh, is_planned) = (self.now, self.fresh, index < self.planned);
        let before = before.entry(&entry.task.slot);
        if !is_planned && !before.is_some_and(Entry::is_in_flight) {
            return self.lane.remove(index, now);
        }
        let same = before.filter(|before| before.task.cause == entry.task.cause);
        let is_as_new = entry.status == Status::Waiting && !self.same.contains(&index);
        if is_planned && same.is_some() {
            self.same.insert(index)
        } else {
            self.same.remove(&index)
        };
        let (status, since) = match before.map(|before| (&before.status, before.ready_since)) {
            Some((Status::InFlight { cause, .. }, since)) => {
                (Status::InFlight { cause: *cause, wanted: is_planned }, since)
            }
            Some((status @ (Status::Delayed { .. } | Status::Parked { .. }), _)) if same.is_some() && !fresh => {
                (status.clone(), now)
            }
            Some((Status::Waiting, since)) if same.is_some() => (Status::Waiting, since),
            Some((Status::Waiting | Status::Delayed { .. } | Status::Parked { .. } | Status::Gone, _)) | None => {
                (Status::Waiting, now)
            }
        };
        if is_as_new && same.is_none() && status == Status::Waiting {
            return;
        }
        let handed = before.filter(|_| matches!(status, Status::InFlight { .. }));
        self.lane.set(index, now, |entry| {
            if let Some(before) = handed {
                entry.keep_handed(before);
            }
            entry.status = status;
            entry.ready_since = since;
            entry.attempts = same.filter(|_| !fresh).map_or(0, |before| before.attempts);
            entry.last_failure = same.and_then(|before| before.last_failure.clone());
            entry.verify = same.is_some_and(|before| before.verify);
            entry.is_forbidden = same.is_some_and(|before| before.is_forbidden);
            entry.again_at = same.and_then(|before| before.again_at);
            entry.woken_at = same.and_then(|before| before.woken_at);
            entry.queued_at = same.map_or(now, |before| before.queued_at);
        });
    }
}
