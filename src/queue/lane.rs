//! The queue of one project: which task may go, kept up to date with every answer.
//!
//! Every change of an entry goes through [`Lane::set`], which keeps the counters and tells the dependents. So a
//! question costs a look at a counter, and an answer costs what depends on it.

use super::Counts;
use super::Verdict;
use super::entry::Entry;
use super::entry::Group;
use super::entry::Seen;
use super::entry::Status;
use crate::backoff::Backoff;
use crate::plan::Slot;
use crate::plan::Task;
use crate::resource::Action;
use crate::resource::Key;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::mem;
use std::time::Duration;
use tokio::time::Instant;

/// How long the time of a write is remembered. No observation that a plan rests on is older.
const WRITES_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What tasks can depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    /// Another task.
    Entry(usize),
    /// The creates and renames of a kind: its deletes wait while one of them fails.
    Makes(&'static str),
}

/// The state of one [`Group`].
#[derive(Debug, Default)]
struct Members {
    /// Everything that ever belonged to it; some may be gone, or in another part now.
    entries: Vec<usize>,
    /// Of those, waiting and not in vain.
    active: usize,
    /// Of those, held back for a dependency or by a call in flight.
    held: usize,
}

impl Members {
    fn is_ready(&self) -> bool {
        self.active > 0 && self.held == 0
    }
}

/// What a worker gets of one project.
#[derive(Debug)]
pub(super) struct Handed {
    pub tasks: Vec<Task>,
    pub attempts: u32,
    pub waited: Duration,
    pub verify: bool,
}

/// What an answer led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The task is off the queue, or stays as a newer plan left it.
    Nothing,
    /// Put back, for this reason (a metric label).
    Requeued(&'static str),
    /// The resource has to be looked at again.
    Stale,
}

/// The queue of one project.
#[derive(Debug, Default)]
pub(super) struct Lane {
    entries: Vec<Entry>,
    by_slot: HashMap<Slot, usize>,
    dependents: HashMap<Node, Vec<usize>>,
    groups: HashMap<Group, Members>,
    ready: BTreeSet<Group>,
    delayed: BTreeSet<(Instant, usize)>,
    counts: Counts,
    /// Tasks that are worth waiting for, by stage; deletes after everything else.
    open: BTreeMap<(bool, u16), usize>,
    /// Creates and renames that failed, by kind.
    failed_makes: HashMap<&'static str, usize>,
    /// When each slot was last written, and with which wish where that is certain.
    written: HashMap<Slot, (Instant, Option<u64>)>,
    parts: u32,
    /// Hands out nothing.
    pub paused: bool,
}

impl Lane {
    pub fn counts(&self) -> Counts {
        self.counts
    }

    #[cfg(test)]
    pub fn written_at(&self, slot: &Slot) -> Option<Instant> {
        self.written.get(slot).map(|(at, _)| *at)
    }

    /// The tasks on the queue, each with its place in it.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.status != Status::Gone)
    }

    /// The task in a slot.
    pub fn entry(&self, slot: &Slot) -> Option<&Entry> {
        self.by_slot.get(slot).map(|&index| &self.entries[index])
    }

    /// Puts a newer plan in the place of everything that waits. How many tasks are new in it.
    pub fn replace(&mut self, tasks: Vec<Task>, fresh: bool, now: Instant) -> usize {
        self.written.retain(|_, (at, _)| now.saturating_duration_since(*at) < WRITES_KEPT);
        let mut old =
            Self { written: mem::take(&mut self.written), parts: self.parts, paused: self.paused, ..Self::default() };
        mem::swap(self, &mut old);

        for task in tasks {
            if self.by_slot.contains_key(&task.slot) {
                tracing::error!(key = %task.slot.key, "a plan has two tasks for one slot; the second waits for the next pass");
                continue;
            }
            self.add(Entry::new(task, now));
        }
        // A call in flight finishes, whatever the new plan says, and holds its slot until then.
        let planned = self.entries.len();
        for entry in &old.entries {
            if matches!(entry.status, Status::InFlight { .. }) && !self.by_slot.contains_key(&entry.task.slot) {
                // In a part of its own: its batch number is of the old plan.
                let part = self.next_part();
                self.add(Entry { part, ..Entry::new(entry.task.clone(), now) });
            }
        }
        for index in 0..self.entries.len() {
            self.link(index);
            self.weigh(index, true);
        }

        let mut added = planned;
        for index in 0..self.entries.len() {
            let Some(before) = old.entry(&self.entries[index].task.slot) else { continue };
            let same = before.task.cause == self.entries[index].task.cause;
            let (status, since) = match &before.status {
                Status::InFlight { cause, .. } => {
                    (Status::InFlight { cause: *cause, wanted: index < planned }, before.ready_since)
                }
                Status::Delayed { .. } | Status::Parked { .. } if same && !fresh => (before.status.clone(), now),
                Status::Waiting if same => (Status::Waiting, before.ready_since),
                Status::Waiting | Status::Delayed { .. } | Status::Parked { .. } | Status::Gone => {
                    (Status::Waiting, now)
                }
            };
            added -= usize::from(index < planned && same);
            self.set(index, now, |entry| {
                entry.status = status;
                entry.ready_since = since;
                if same {
                    entry.attempts = if fresh { 0 } else { before.attempts };
                    entry.last_failure.clone_from(&before.last_failure);
                    entry.verify = before.verify;
                }
            });
        }
        added
    }

    /// Takes tasks off the queue. One that a worker has is no longer wanted: it is not sent any more, unless it was. What
    /// backs off or is parked stays, but for deletes: its wait and what is known of it count for what replaces it.
    pub fn withdraw(&mut self, which: impl Fn(&Key, Action) -> bool, now: Instant) {
        let is_meant = |entry: &Entry| {
            let may_go = match entry.status {
                Status::Waiting | Status::InFlight { .. } => true,
                Status::Delayed { .. } | Status::Parked { .. } | Status::Gone => entry.task.action == Action::Delete,
            };
            may_go && which(&entry.task.slot.key, entry.task.action)
        };
        let slots: Vec<Slot> = self.entries.iter().filter(|e| is_meant(e)).map(|e| e.task.slot.clone()).collect();
        for slot in slots {
            let Some(&index) = self.by_slot.get(&slot) else { continue };
            match self.entries[index].status {
                Status::InFlight { cause, .. } => {
                    self.set(index, now, |entry| entry.status = Status::InFlight { cause, wanted: false });
                }
                Status::Waiting | Status::Delayed { .. } | Status::Parked { .. } | Status::Gone => {
                    self.remove(index, now);
                }
            }
        }
    }

    /// Is what was handed out of this slot still what the newest plan wants?
    pub fn is_wanted(&self, slot: &Slot) -> bool {
        self.entry(slot).is_some_and(|entry| match entry.status {
            Status::InFlight { cause, wanted } => wanted && cause == entry.task.cause,
            Status::Waiting | Status::Delayed { .. } | Status::Parked { .. } | Status::Gone => false,
        })
    }

    /// What may go now, in one call; tasks whose resource was written after they were planned are `dropped`.
    pub fn take(&mut self, now: Instant, dropped: &mut Vec<Task>) -> Option<Handed> {
        self.wake(now);
        if self.paused {
            return None;
        }
        loop {
            let group = self.next()?;
            let members: Vec<usize> = self.groups.get(&group)?.entries.clone();
            let mut handed: Option<Handed> = None;
            for index in members {
                // Dropping the last task clears the lane.
                let Some(entry) = self.entries.get(index) else { continue };
                if !entry.is_active() || entry.group() != group {
                    continue;
                }
                // After an unclear answer the worker looks before it writes, so that task cannot be stale.
                let written = self.written.get(&entry.task.slot).filter(|(at, _)| entry.task.observed_at < *at);
                if let (false, Some((_, wanted))) = (entry.verify, written) {
                    // The very change that was made: the plan was merely made of an older look.
                    if *wanted != Some(entry.task.wanted) {
                        dropped.push(entry.task.clone());
                    }
                    self.remove(index, now);
                    continue;
                }
                let waited = now.saturating_duration_since(entry.ready_since);
                let handed = handed.get_or_insert_with(|| Handed {
                    tasks: Vec::new(),
                    attempts: entry.attempts,
                    waited,
                    verify: false,
                });
                handed.verify |= entry.verify;
                handed.tasks.push(entry.task.clone());
                self.set(index, now, |entry| {
                    entry.status = Status::InFlight { cause: entry.task.cause, wanted: true };
                });
            }
            if handed.is_some() {
                return handed;
            }
        }
    }

    /// When the next delayed task is due.
    pub fn next_due(&self) -> Option<Instant> {
        if self.paused { None } else { self.delayed.first().map(|&(until, _)| until) }
    }

    /// What became of one task that was handed out. `random` is between 0 and 1.
    pub fn finish(&mut self, task: &Task, verdict: Verdict, verify: bool, times: (Instant, &Backoff, f64)) -> After {
        let (now, backoff, random) = times;
        if matches!(verdict, Verdict::Done | Verdict::Retry { ambiguous: true, .. }) {
            let wanted = (verdict == Verdict::Done && task.action != Action::Delete).then_some(task.wanted);
            self.written.insert(task.slot.clone(), (now, wanted));
        }
        let Some(&index) = self.by_slot.get(&task.slot) else { return After::Nothing };
        let entry = &self.entries[index];
        let Status::InFlight { cause, wanted } = entry.status else { return After::Nothing };
        if !wanted {
            self.remove(index, now);
            // The look that no longer asked for it may have been too early to see what it did.
            let may_have_landed = matches!(verdict, Verdict::Done | Verdict::Retry { .. });
            return if may_have_landed { After::Stale } else { After::Nothing };
        }
        if entry.task.cause != cause {
            self.set(index, now, |entry| entry.status = Status::Waiting);
            return After::Nothing;
        }
        match verdict {
            Verdict::Done => {
                self.remove(index, now);
                After::Nothing
            }
            Verdict::Superseded => {
                self.remove(index, now);
                After::Stale
            }
            Verdict::Retry { message, ambiguous } => {
                self.set(index, now, |entry| {
                    entry.attempts = entry.attempts.saturating_add(1);
                    entry.verify |= ambiguous || verify;
                    entry.last_failure = Some(message.clone());
                    entry.status = Status::Delayed { until: now + backoff.delay(entry.attempts, random), message };
                });
                After::Requeued("retry")
            }
            Verdict::Park { message } => {
                self.set(index, now, |entry| {
                    entry.attempts = entry.attempts.saturating_add(1);
                    entry.status = Status::Parked { message };
                });
                After::Nothing
            }
            Verdict::Released => {
                self.set(index, now, |entry| {
                    entry.verify |= verify;
                    entry.status = Status::Waiting;
                });
                After::Requeued("release")
            }
        }
    }

    /// Puts a part of a refused batch back, to go out in a call of its own. How many tasks.
    pub fn put_back_apart(&mut self, tasks: &[Task], verify: bool, now: Instant) -> usize {
        let part = self.next_part();
        let mut count = 0;
        for task in tasks {
            let Some(&index) = self.by_slot.get(&task.slot) else { continue };
            let Status::InFlight { cause, wanted } = self.entries[index].status else { continue };
            if !wanted {
                self.remove(index, now);
                continue;
            }
            let same = self.entries[index].task.cause == cause;
            self.set(index, now, |entry| {
                entry.status = Status::Waiting;
                if same {
                    entry.part = part;
                    entry.verify |= verify;
                }
            });
            if same {
                let group = self.entries[index].group();
                self.groups.entry(group).or_default().entries.push(index);
                count += 1;
            }
        }
        count
    }

    /// The group whose turn it is.
    fn next(&self) -> Option<Group> {
        if let Some(&group) = self.ready.first() {
            // Stage by stage, deletes last. What failed for now holds nobody up: it is not worth waiting for.
            let first_open = self.open.first_key_value().map(|(&stage, _)| stage);
            if first_open == Some((group.delete, group.stage)) {
                return Some(group);
            }
        }
        // Tasks that wait though nothing is on its way wait for one another: an order that runs in a circle.
        if self.counts.ready > 0 && self.counts.in_flight == 0 && self.counts.delayed == 0 {
            tracing::warn!("the tasks of a plan wait for one another; going on in plan order");
            return self.groups.iter().filter(|(_, members)| members.active > 0).map(|(&group, _)| group).min();
        }
        None
    }

    /// Delayed tasks that are due wait for their turn again.
    fn wake(&mut self, now: Instant) {
        while let Some(&(until, index)) = self.delayed.first() {
            if until > now {
                return;
            }
            self.set(index, now, |entry| entry.status = Status::Waiting);
        }
    }

    fn next_part(&mut self) -> u32 {
        self.parts = self.parts.wrapping_add(1).max(1);
        self.parts
    }

    fn add(&mut self, entry: Entry) {
        let index = self.entries.len();
        self.by_slot.insert(entry.task.slot.clone(), index);
        self.groups.entry(entry.group()).or_default().entries.push(index);
        self.entries.push(entry);
    }

    /// Notes what a task depends on. Tasks of one call cannot wait for one another.
    fn link(&mut self, index: usize) {
        let entry = &self.entries[index];
        let after: BTreeSet<usize> = entry
            .task
            .after
            .iter()
            .filter_map(|slot| self.by_slot.get(slot).copied())
            .filter(|&other| self.entries[other].group() != entry.group())
            .collect();
        if entry.task.action == Action::Delete {
            self.dependents.entry(Node::Makes(entry.task.slot.key.kind)).or_default().push(index);
        }
        self.entries[index].open = after.len();
        for other in after {
            self.dependents.entry(Node::Entry(other)).or_default().push(index);
        }
    }

    fn remove(&mut self, index: usize, now: Instant) {
        self.set(index, now, |entry| entry.status = Status::Gone);
        self.by_slot.remove(&self.entries[index].task.slot);
        if self.by_slot.is_empty() {
            *self = Self {
                written: mem::take(&mut self.written),
                parts: self.parts,
                paused: self.paused,
                ..Self::default()
            };
        }
    }

    /// Changes an entry, and everything that follows from it.
    fn set(&mut self, index: usize, now: Instant, change: impl FnOnce(&mut Entry)) {
        let mut shifts = Vec::new();
        self.alter(index, now, change, &mut shifts);
        while let Some((node, from, to)) = shifts.pop() {
            let Some(dependents) = self.dependents.get_mut(&node).map(mem::take) else { continue };
            for &dependent in &dependents {
                self.alter(dependent, now, |entry| entry.shift(from, to), &mut shifts);
            }
            self.dependents.insert(node, dependents);
        }
    }

    fn alter(
        &mut self,
        index: usize,
        now: Instant,
        change: impl FnOnce(&mut Entry),
        shifts: &mut Vec<(Node, Seen, Seen)>,
    ) {
        let kind = self.entries[index].task.slot.key.kind;
        let (was, was_ready, makes) = (self.entries[index].seen(), self.entries[index].is_ready(), self.makes(kind));
        self.weigh(index, false);
        change(&mut self.entries[index]);
        self.weigh(index, true);
        let entry = &mut self.entries[index];
        if entry.is_ready() && !was_ready {
            entry.ready_since = now;
        }
        if entry.seen() != was {
            shifts.push((Node::Entry(index), was, entry.seen()));
        }
        if self.makes(kind) != makes {
            shifts.push((Node::Makes(kind), makes, self.makes(kind)));
        }
    }

    /// What the creates and renames of a kind are to its deletes.
    fn makes(&self, kind: &str) -> Seen {
        if self.failed_makes.contains_key(kind) { Seen::Failed } else { Seen::Settled }
    }

    /// Adds an entry to the counters and indexes, or takes it out.
    fn weigh(&mut self, index: usize, add: bool) {
        let entry = &self.entries[index];
        let group = entry.group();
        let shift = |count: &mut usize| *count = if add { *count + 1 } else { count.saturating_sub(1) };

        match &entry.status {
            Status::Waiting if entry.is_blocked() => shift(&mut self.counts.blocked),
            Status::Waiting => shift(&mut self.counts.ready),
            Status::InFlight { .. } => shift(&mut self.counts.in_flight),
            Status::Delayed { until, .. } => {
                shift(&mut self.counts.delayed);
                if add {
                    self.delayed.insert((*until, index))
                } else {
                    self.delayed.remove(&(*until, index))
                };
            }
            Status::Parked { .. } => shift(&mut self.counts.parked),
            Status::Gone => {}
        }
        match entry.seen() {
            Seen::Open => {
                let stage = (group.delete, group.stage);
                let count = self.open.entry(stage).or_default();
                shift(count);
                if *count == 0 {
                    self.open.remove(&stage);
                }
            }
            Seen::Failed if entry.makes() => {
                let count = self.failed_makes.entry(entry.task.slot.key.kind).or_default();
                shift(count);
                if *count == 0 {
                    self.failed_makes.remove(entry.task.slot.key.kind);
                }
            }
            Seen::Settled | Seen::Failed => {}
        }
        let members = self.groups.entry(group).or_default();
        if entry.is_active() {
            shift(&mut members.active);
        }
        if matches!(entry.status, Status::InFlight { .. }) || (entry.is_active() && entry.open > 0) {
            shift(&mut members.held);
        }
        if members.is_ready() {
            self.ready.insert(group)
        } else {
            self.ready.remove(&group)
        };
    }
}
