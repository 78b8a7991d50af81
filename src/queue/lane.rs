//! The queue of one project: which task may go, kept up to date with every answer.
//!
//! Every change of an entry goes through [`Lane::set`], which keeps the counters and tells the dependents. So a
//! question costs a look at a counter, and an answer costs what depends on it.

use super::Counts;
use super::PausedBy;
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

mod next;
mod slots;
mod writes;

pub(super) use next::Next;
use slots::Slots;
use smallvec::SmallVec;
use writes::Outdated;
use writes::Writes;
use writes::Written;

/// Beyond so many creates and renames of a kind, what gives up a value waits for all of them like any other delete.
const MOST_MAKES: usize = 256;

/// So many of what was refused for something that nobody here sees are tried again with a pass.
const MOST_AGAIN: usize = 8;

/// What was refused for that many times waits no longer than this for the next try, as a multiple of the longest wait after a
/// failure: about an hour.
const LONGEST_AGAIN: u32 = 64;

/// No sooner than this, however short the waits after a failure are: what is refused is refused for good, as a rule.
const LEAST_AGAIN: Duration = Duration::from_secs(30);

/// How long what was refused waits for what nobody here sees.
fn again_after(backoff: &Backoff, attempts: u32) -> Duration {
    backoff.max.max(LEAST_AGAIN).saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)).min(LONGEST_AGAIN))
}

/// What tasks can depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Node {
    /// Another task.
    Entry(usize),
    /// Another task, to what gives up a value that it wants: once it is refused, nothing is left to wait for.
    Heir(usize),
    /// The creates and renames of a kind: its deletes wait while one of them fails.
    Makes(&'static str),
}

/// The state of one [`Group`].
#[derive(Debug, Default)]
struct Members {
    /// Everything that ever belonged to it, mostly one; some may be gone, or in another part now.
    entries: SmallVec<[usize; 2]>,
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
    pub last_failure: Option<String>,
    pub waited: Duration,
    pub verify: bool,
    pub woken_at: Option<Instant>,
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

/// A look at a project, and the files that it is made for.
#[derive(Debug)]
struct Look {
    began: Instant,
    revision: String,
}

/// The queue of one project.
#[derive(Debug, Default)]
pub(super) struct Lane {
    entries: Vec<Entry>,
    by_slot: Slots,
    dependents: HashMap<Node, Vec<usize>>,
    groups: HashMap<Group, Members>,
    ready: BTreeSet<Group>,
    delayed: BTreeSet<(Instant, usize)>,
    counts: Counts,
    /// Tasks that are worth waiting for, by stage; deletes after everything else.
    open: BTreeMap<(bool, u32), usize>,
    /// Creates and renames that failed, by kind.
    failed_makes: HashMap<&'static str, BTreeSet<usize>>,
    /// What a worker has.
    in_flight: BTreeSet<usize>,
    /// Of that, what may be known by another key.
    wide_in_flight: BTreeSet<usize>,
    /// What waits for more than its turn.
    stuck: BTreeSet<usize>,
    deletes: BTreeSet<usize>,
    lasting: Lasting,
}

/// What outlives a plan.
#[derive(Debug, Default)]
struct Lasting {
    written: Writes,
    /// The newest, which the next plan rests on.
    look: Option<Look>,
    /// Since when a look that begins after is needed.
    stale_since: Option<Instant>,
    parts: u32,
    /// How many there were.
    plans: u64,
    /// What changed since a newer plan began to take over; `None` while none does.
    changed: Option<BTreeSet<Slot>>,
    /// What is done with. To let that go takes long, and nobody need wait for it.
    emptied: Vec<Lane>,
    /// While there is one, nothing is handed out.
    paused_by: BTreeSet<PausedBy>,
    /// Resources that the plan refused by itself, so that nothing of them is here.
    refused: usize,
}

impl Lane {
    /// For so many tasks.
    fn with_room(tasks: usize) -> Self {
        Self { entries: Vec::with_capacity(tasks), by_slot: Slots::with_capacity(tasks), ..Self::default() }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When a call about this ended last.
    pub fn written_at(&self, slot: &Slot) -> Option<Instant> {
        self.lasting.written.get(slot).map(|written| written.at)
    }

    /// So many resources were refused before anything of them got here.
    pub fn note_refused(&mut self, count: usize) {
        self.lasting.refused = count;
    }

    /// What stands where, with those.
    pub fn counts_with_refused(&self) -> Counts {
        Counts { parked: self.counts.parked + self.lasting.refused, ..self.counts }
    }

    /// One more reason to hand out nothing.
    pub fn pause(&mut self, by: PausedBy) {
        self.lasting.paused_by.insert(by);
    }

    /// One less.
    pub fn resume(&mut self, by: PausedBy) {
        self.lasting.paused_by.remove(&by);
    }

    /// Why it hands out nothing.
    pub fn paused_by(&self) -> &BTreeSet<PausedBy> {
        &self.lasting.paused_by
    }

    /// Does it hand out nothing?
    pub fn is_paused(&self) -> bool {
        !self.lasting.paused_by.is_empty()
    }

    /// A look at the project begins, for this revision of its files; the next plan rests on it.
    pub fn begin_look(&mut self, revision: &str, now: Instant) {
        self.lasting.look = Some(Look { began: now, revision: revision.to_owned() });
    }

    /// It is for newer files by now.
    pub fn look_for(&mut self, revision: &str) {
        if let Some(look) = &mut self.lasting.look {
            revision.clone_into(&mut look.revision);
        }
    }

    /// Is something there that no look has seen yet? Then nobody can say that all is as it should be.
    pub fn awaits_look(&self) -> bool {
        self.lasting.stale_since.is_some()
    }

    fn stale(&mut self, now: Instant) -> After {
        self.lasting.stale_since = Some(now);
        After::Stale
    }

    /// Did other files ask for this than those of the newest look? What a plan of the same files no longer wants, its
    /// look saw done.
    fn is_of_other_files(&self, revision: &str) -> bool {
        self.lasting.look.as_ref().is_none_or(|look| look.revision != revision)
    }

    /// The tasks on the queue.
    #[cfg(test)]
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.status != Status::Gone)
    }

    /// So many tasks from this place on, of which some may be gone, and where the next ones begin; `None` where none are left.
    pub fn part(&self, from: usize, at_most: usize) -> Option<(Vec<&Entry>, usize)> {
        let rest = self.entries.get(from..).filter(|rest| !rest.is_empty())?;
        let part = rest.iter().take(at_most).filter(|entry| entry.status != Status::Gone);
        Some((part.collect(), from + at_most))
    }

    /// The same of those that wait for more than their turn.
    pub fn stuck_part(&self, from: usize, at_most: usize) -> Option<(Vec<&Entry>, usize)> {
        let part: Vec<usize> = self.stuck.range(from..).take(at_most).copied().collect();
        let last = part.last()?;
        Some((part.iter().map(|&index| &self.entries[index]).collect(), last + 1))
    }

    /// The same as long as no other plan replaced this one.
    pub fn plan(&self) -> u64 {
        self.lasting.plans
    }

    /// Those that a worker has.
    pub fn in_flight(&self) -> impl Iterator<Item = &Entry> {
        self.in_flight.iter().map(|&index| &self.entries[index])
    }

    /// Those that wait for more than their turn.
    #[cfg(test)]
    pub fn stuck(&self) -> impl Iterator<Item = &Entry> {
        self.stuck.iter().map(|&index| &self.entries[index])
    }

    /// Those that delete.
    #[cfg(test)]
    pub fn deletes(&self) -> impl Iterator<Item = &Entry> {
        self.deletes.iter().map(|&index| &self.entries[index])
    }

    /// Takes out what is done with, to be let go of once nobody waits.
    pub fn take_emptied(&mut self) -> Vec<Self> {
        mem::take(&mut self.lasting.emptied)
    }

    /// The first create or rename of a kind that failed: nothing of the kind is deleted meanwhile.
    pub fn failed_make(&self, kind: &str) -> Option<&Entry> {
        self.failed_makes.get(kind)?.first().map(|&index| &self.entries[index])
    }

    /// Does everything wait for something that goes before this one?
    pub fn is_preceded(&self, entry: &Entry) -> bool {
        let Group { delete, stage, .. } = entry.group();
        self.open.first_key_value().is_some_and(|(&first, _)| first < (delete, stage))
    }

    /// Is all that it waits for in vain of its own resource?
    pub fn waits_for_itself(&self, entry: &Entry) -> bool {
        let key = &entry.task.slot.key;
        let own: BTreeSet<&Slot> = entry.task.after.iter().filter(|slot| slot.key == *key).collect();
        let is_failed = |slot: &&&Slot| self.entry(slot).is_some_and(|other| other.seen() == Seen::Failed);
        entry.is_blocked() && own.iter().filter(is_failed).count() == entry.failed
    }

    fn place(&self, slot: &Slot) -> Option<usize> {
        self.by_slot.get(&self.entries, slot)
    }

    /// The task in a slot.
    pub fn entry(&self, slot: &Slot) -> Option<&Entry> {
        self.place(slot).map(|index| &self.entries[index])
    }

    /// Takes deletes off the queue. One that a worker has is no longer wanted: it is not sent any more, unless it was.
    pub fn withdraw_deletes(&mut self, which: impl Fn(&Key) -> bool, now: Instant) {
        let meant: Vec<usize> =
            self.deletes.iter().copied().filter(|&index| which(&self.entries[index].task.slot.key)).collect();
        for index in meant {
            // Dropping the last task clears the lane.
            let Some(entry) = self.entries.get(index) else { continue };
            match entry.status {
                Status::InFlight { cause, .. } => {
                    self.set(index, now, |entry| entry.status = Status::InFlight { cause, wanted: false });
                }
                Status::Waiting | Status::Delayed { .. } | Status::Parked { .. } | Status::Gone => {
                    self.remove(index, now);
                }
            }
        }
    }

    /// Takes off the queue what waits in these slots. What is refused stays, and is told; what a worker has is no longer
    /// wanted.
    pub fn withdraw(&mut self, slots: &[Slot], now: Instant) {
        for slot in slots {
            let Some(index) = self.place(slot) else { continue };
            match self.entries[index].status {
                Status::InFlight { cause, .. } => {
                    self.set(index, now, |entry| entry.status = Status::InFlight { cause, wanted: false });
                }
                Status::Waiting | Status::Delayed { .. } => self.remove(index, now),
                Status::Parked { .. } | Status::Gone => {}
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
        if self.is_paused() {
            return None;
        }
        loop {
            let group = self.next()?;
            let members = self.groups.get(&group)?.entries.clone();
            let mut handed: Option<Handed> = None;
            for index in members {
                // Dropping the last task clears the lane.
                let Some(entry) = self.entries.get(index) else { continue };
                if !entry.is_active() || entry.group() != group {
                    continue;
                }
                // After an unclear answer the worker looks before it writes, so that task cannot be stale.
                let outdated = if entry.verify { None } else { self.lasting.written.outdates(&entry.task) };
                match outdated {
                    Some(Outdated::Unknown) => {
                        dropped.push((*entry.task).clone());
                        self.stale(now);
                        self.drop_undone(index, now);
                        continue;
                    }
                    Some(Outdated::Done) => {
                        self.remove(index, now);
                        continue;
                    }
                    None => {}
                }
                let waited = now.saturating_duration_since(entry.ready_since);
                let handed = handed.get_or_insert_with(|| Handed {
                    tasks: Vec::new(),
                    attempts: entry.attempts,
                    last_failure: entry.last_failure.clone(),
                    waited,
                    verify: false,
                    woken_at: None,
                });
                handed.verify |= entry.verify;
                handed.woken_at = handed.woken_at.max(entry.woken_at);
                handed.tasks.push((*entry.task).clone());
                self.set(index, now, Entry::hand_out);
            }
            if handed.is_some() {
                return handed;
            }
        }
    }

    /// When the next delayed task is due.
    pub fn next_due(&self) -> Option<Instant> {
        if self.is_paused() { None } else { self.delayed.first().map(|&(until, _)| until) }
    }

    /// What became of one task that was handed out. `random` is between 0 and 1.
    pub fn finish(&mut self, task: &Task, verdict: Verdict, verify: bool, times: (Instant, &Backoff, f64)) -> After {
        let (now, backoff, random) = times;
        let may_have_landed = matches!(verdict, Verdict::Done | Verdict::Retry { ambiguous: true, .. });
        if may_have_landed {
            self.lasting.written.note(task, verdict == Verdict::Done, now);
        }
        let Some(index) = self.place(&task.slot) else { return After::Nothing };
        let entry = &self.entries[index];
        let Status::InFlight { cause, wanted } = entry.status else { return After::Nothing };
        if !wanted {
            self.remove(index, now);
            // The look that no longer wants it was over before it landed.
            let is_missed = may_have_landed && self.is_of_other_files(&task.origin.revision);
            return if is_missed { self.stale(now) } else { After::Nothing };
        }
        if entry.task.cause != cause {
            self.set(index, now, |entry| entry.status = Status::Waiting);
            return After::Nothing;
        }
        let is_forbidden = matches!(verdict, Verdict::Forbid { .. });
        match verdict {
            Verdict::Done => {
                for slot in &task.frees {
                    self.try_again(slot, now);
                }
                self.remove(index, now);
                After::Nothing
            }
            Verdict::Superseded => {
                self.drop_undone(index, now);
                self.stale(now)
            }
            Verdict::Retry { message, ambiguous } => {
                self.set(index, now, |entry| {
                    entry.attempts = entry.attempts.saturating_add(1);
                    // What may be repeated is merely sent again.
                    entry.verify |= verify || ambiguous && !task.write.is_repeatable(&task.slot.key);
                    entry.last_failure = Some(message.clone());
                    entry.status = Status::Delayed { until: now + backoff.delay(entry.attempts, random), message };
                });
                After::Requeued("retry")
            }
            Verdict::Park { message } | Verdict::Forbid { message } => {
                self.set(index, now, |entry| {
                    entry.attempts = entry.attempts.saturating_add(1);
                    entry.is_forbidden = is_forbidden;
                    let may_be_there = task.names_unseen && !is_forbidden;
                    entry.again_at = may_be_there.then(|| now + again_after(backoff, entry.attempts));
                    entry.status = Status::Parked { message };
                });
                // What it waited for is done, though Descope may not know it yet: a look tells whether that is so by then.
                if self.is_news_of_what_was_before(task) { self.stale(now) } else { After::Nothing }
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

    /// Puts a part of a refused batch back, to go out in a call of its own. How many tasks. `verify`: it may have taken
    /// effect all the same.
    pub fn put_back_apart(&mut self, tasks: &[Task], verify: bool, now: Instant) -> (usize, After) {
        let part = self.next_part();
        let (mut count, mut after) = (0, After::Nothing);
        for task in tasks {
            if verify {
                self.lasting.written.note(task, false, now);
            }
            let Some(index) = self.place(&task.slot) else { continue };
            let Status::InFlight { cause, wanted } = self.entries[index].status else { continue };
            if !wanted {
                self.remove(index, now);
                if verify && self.is_of_other_files(&task.origin.revision) {
                    after = self.stale(now);
                }
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
        (count, after)
    }

    /// The group whose turn it is.
    fn next(&self) -> Option<Group> {
        // Stage by stage, deletes last. What failed for now holds nobody up: it is not worth waiting for.
        let first_open = self.open.first_key_value().map(|(&stage, _)| stage);
        let mut first = self.ready.iter().take_while(|group| first_open == Some((group.delete, group.stage)));
        if let Some(group) = first.find(|group| !self.is_met(group)) {
            return Some(*group);
        }
        // Tasks that wait though nothing is on its way wait for one another: a tenant and its default role that go
        // together do. Descope takes either order.
        if self.counts.ready > 0 && self.counts.in_flight == 0 && self.counts.delayed == 0 {
            tracing::debug!("the tasks of a plan wait for one another; going on in plan order");
            return self.groups.iter().filter(|(_, members)| members.active > 0).map(|(&group, _)| group).min();
        }
        None
    }

    /// Is a call under way that is about the same resource as one of these, by whichever key? An older plan may have sent it.
    fn is_met(&self, group: &Group) -> bool {
        let members = self.groups.get(group).into_iter().flat_map(|members| &members.entries);
        let members = members.map(|&index| &self.entries[index]);
        members.filter(|entry| entry.is_active() && entry.group() == *group).any(|entry| {
            let touch = entry.task.touches();
            let others = if touch.is_wide() { &self.in_flight } else { &self.wide_in_flight };
            others.iter().any(|&other| touch.meets(self.entries[other].under_way()))
        })
    }

    /// Delayed tasks that are due wait for their turn again.
    fn wake(&mut self, now: Instant) {
        while let Some(&(until, index)) = self.delayed.first() {
            if until > now {
                return;
            }
            self.set(index, now, |entry| {
                entry.status = Status::Waiting;
                entry.woken_at = Some(now);
            });
        }
    }

    /// Was something written that had to come before this one, after the look that it rests on?
    fn is_news_of_what_was_before(&self, task: &Task) -> bool {
        let was_there = !matches!(task.action, Action::Create);
        let is_written = |slot: &Slot| {
            let written = self.lasting.written.get(slot).filter(|_| slot.key != task.slot.key);
            written.is_some_and(|written| written.at >= task.observed_at)
        };
        was_there && task.after.iter().any(is_written)
    }

    /// What it was refused for is gone.
    fn try_again(&mut self, slot: &Slot, now: Instant) {
        let Some(index) = self.place(slot) else { return };
        if matches!(self.entries[index].status, Status::Parked { .. } | Status::Delayed { .. }) {
            self.set(index, now, |entry| entry.status = Status::Waiting);
        }
    }

    /// What was not permitted gets a new try, where it `is_time` for that, and some of what was refused for something that
    /// nobody here sees, once its wait is over.
    pub fn ask_again(&mut self, is_time: bool, now: Instant) {
        // What is parked is stuck.
        let mut due = Vec::new();
        for index in self.stuck.iter().copied().collect::<Vec<usize>>() {
            let entry = &self.entries[index];
            match (&entry.status, entry.again_at) {
                (Status::Parked { .. }, _) if is_time && entry.is_forbidden => self.try_parked(index, now),
                (Status::Parked { .. }, Some(at)) if at <= now => due.push((at, index)),
                _ => {}
            }
        }
        due.sort_unstable();
        due.truncate(MOST_AGAIN);
        for (_, index) in due {
            self.try_parked(index, now);
        }
    }

    fn try_parked(&mut self, index: usize, now: Instant) {
        let Status::Parked { message } = &self.entries[index].status else { return };
        let message = message.clone();
        self.set(index, now, |entry| {
            entry.last_failure = Some(message);
            entry.status = Status::Waiting;
        });
    }

    /// Takes a task off that was not done, and what comes after it and is a delete, or may not go without it: to those it is
    /// not settled. They come back with the next plan.
    fn drop_undone(&mut self, index: usize, now: Instant) {
        let mut undone = vec![index];
        let mut seen: BTreeSet<usize> = BTreeSet::from([index]);
        while let Some(&next) = undone.last() {
            let dependents = self.dependents.get(&Node::Entry(next)).cloned().unwrap_or_default();
            let undone_slot = &self.entries[next].task.slot;
            let is_lost = |&&dependent: &&usize| {
                let entry = &self.entries[dependent];
                let is_needy = || entry.task.needs.iter().any(|need| need.slot == *undone_slot);
                let goes_along = entry.task.action == Action::Delete || is_needy();
                goes_along && entry.status != Status::Gone && !entry.is_in_flight()
            };
            let more = dependents.iter().filter(is_lost).copied().find(|dependent| seen.insert(*dependent));
            if let Some(dependent) = more {
                undone.push(dependent);
            } else {
                undone.pop();
                // What comes after goes first, so that nothing ever looks settled.
                self.remove(next, now);
            }
        }
    }

    fn next_part(&mut self) -> u32 {
        self.lasting.parts = self.lasting.parts.wrapping_add(1).max(1);
        self.lasting.parts
    }

    fn add(&mut self, entry: Entry) {
        let index = self.entries.len();
        self.groups.entry(entry.group()).or_default().entries.push(index);
        self.entries.push(entry);
        self.by_slot.insert(&self.entries, index);
    }

    /// Notes what a task depends on. Tasks of one call cannot wait for one another.
    fn link(&mut self, index: usize) {
        let entry = &self.entries[index];
        let after: BTreeSet<usize> = entry
            .task
            .after
            .iter()
            .filter_map(|slot| self.place(slot))
            .filter(|&other| self.entries[other].group() != entry.group())
            .collect();
        let kind = entry.task.slot.key.kind;
        let mut nodes: BTreeSet<Node> = after.into_iter().map(Node::Entry).collect();
        if entry.task.action == Action::Delete {
            match self.heirs(index) {
                Some(heirs) => nodes.extend(heirs),
                None => self.dependents.entry(Node::Makes(kind)).or_default().push(index),
            }
        }
        self.entries[index].open = nodes.len();
        for node in nodes {
            self.dependents.entry(node).or_default().push(index);
        }
    }

    /// The creates and renames of its kind, where this delete gives up what some of them want.
    fn heirs(&self, index: usize) -> Option<Vec<Node>> {
        let task = &self.entries[index].task;
        if task.frees.is_empty() {
            return None;
        }
        let is_make = |entry: &Entry| entry.makes() && entry.task.slot.key.kind == task.slot.key.kind;
        let makes = self.entries.iter().enumerate().filter(|(_, entry)| is_make(entry));
        let node = |(other, entry): (usize, &Entry)| {
            if task.frees.contains(&entry.task.slot) { Node::Heir(other) } else { Node::Entry(other) }
        };
        let makes: Vec<Node> = makes.map(node).take(MOST_MAKES + 1).collect();
        (makes.len() <= MOST_MAKES).then_some(makes)
    }

    fn remove(&mut self, index: usize, now: Instant) {
        self.set(index, now, |entry| entry.status = Status::Gone);
        self.by_slot.remove(&self.entries, &self.entries[index].task.slot);
        if self.by_slot.is_empty() {
            let mut emptied = mem::take(self);
            self.lasting = mem::take(&mut emptied.lasting);
            self.lasting.emptied.push(emptied);
        }
    }

    /// Changes an entry, and everything that follows from it.
    fn set(&mut self, index: usize, now: Instant, change: impl FnOnce(&mut Entry)) {
        if let Some(changed) = &mut self.lasting.changed {
            changed.insert(self.entries[index].task.slot.clone());
        }
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
        let was_heir = self.entries[index].seen_by_what_frees_it();
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
        if entry.seen_by_what_frees_it() != was_heir {
            shifts.push((Node::Heir(index), was_heir, entry.seen_by_what_frees_it()));
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
        let note = |indexes: &mut BTreeSet<usize>, is_so: bool| {
            let is_it = is_so && add;
            if is_it {
                indexes.insert(index)
            } else {
                indexes.remove(&index)
            };
        };

        note(&mut self.in_flight, entry.is_in_flight());
        note(&mut self.wide_in_flight, entry.is_in_flight() && entry.under_way().is_wide());
        note(&mut self.stuck, entry.is_stuck());
        note(&mut self.deletes, entry.is_delete());
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
                let failed = self.failed_makes.entry(entry.task.slot.key.kind).or_default();
                note(failed, true);
                if failed.is_empty() {
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
