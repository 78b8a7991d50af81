//! When each slot was written last: a plan that rests on an older look knows nothing of that.

use crate::plan::Origin;
use crate::plan::Slot;
use crate::plan::Task;
use crate::resource::Action;
use crate::resource::Key;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::Instant;

/// When a slot was written last, or may have been.
#[derive(Debug)]
pub(super) struct Written {
    pub at: Instant,
    /// By which task, where that is of another slot: a rename writes what bears the old name as well.
    by: Option<Box<Slot>>,
    /// When the look began that this rested on.
    observed_at: Instant,
    /// With which wish.
    wanted: u64,
    /// The resource is as wished: what was deleted may be back, and an unclear answer proves nothing.
    is_sure: bool,
    /// What asked for it.
    origin: Arc<Origin>,
}

/// A task that was planned by a look before the last write.
pub(super) enum Outdated {
    /// The very change that was made.
    Done,
    /// What is there has to be looked at.
    Unknown,
}

impl Written {
    /// Of the files that asked for it.
    pub fn revision(&self) -> &str {
        &self.origin.revision
    }

    /// What it means, of its slot, for a task that was planned by an older look.
    fn outdates(&self, slot: &Slot, task: &Task) -> Option<Outdated> {
        if task.observed_at >= self.at {
            return None;
        }
        if *self.by.as_deref().unwrap_or(slot) != task.slot {
            // Those of one plan know of one another.
            return (self.observed_at != task.observed_at).then_some(Outdated::Unknown);
        }
        match (self.wanted == task.wanted, self.is_sure) {
            (true, true) => Some(Outdated::Done),
            // The same call again does no harm.
            (true, false) if task.write.is_repeatable(&task.slot.key) => None,
            (true | false, _) => Some(Outdated::Unknown),
        }
    }
}

/// Those that a task on the queue, or one to come, may know nothing of.
#[derive(Debug, Default)]
pub(super) struct Writes {
    by_slot: HashMap<Arc<Slot>, Written>,
    /// The same slots, the oldest first.
    by_time: BTreeSet<(Instant, Arc<Slot>)>,
}

impl Writes {
    pub fn get(&self, slot: &Slot) -> Option<&Written> {
        self.by_slot.get(slot)
    }

    /// This task was carried out, or may have been.
    pub fn note(&mut self, task: &Task, is_done: bool, now: Instant) {
        let is_own = |key: &Key| task.action == Action::Rename || *key == task.slot.key;
        for key in task.touches().keys().filter(is_own) {
            let slot = Arc::new(Slot { key, ..task.slot });
            let written = Written {
                at: now,
                by: (*slot != task.slot).then(|| Box::new(task.slot.clone())),
                observed_at: task.observed_at,
                wanted: task.wanted,
                is_sure: is_done && task.action != Action::Delete,
                origin: Arc::clone(&task.origin),
            };
            if let Some(before) = self.by_slot.insert(Arc::clone(&slot), written) {
                self.by_time.remove(&(before.at, Arc::clone(&slot)));
            }
            self.by_time.insert((now, slot));
        }
    }

    /// What writes of the resource mean for a task that was planned by an older look.
    pub fn outdates(&self, task: &Task) -> Option<Outdated> {
        let slots = task.touches().keys().map(|key| Slot { key, ..task.slot });
        slots.into_iter().find_map(|slot| self.by_slot.get(&slot)?.outdates(&slot, task))
    }

    /// Those after this moment.
    pub fn since(&self, began: Instant) -> impl Iterator<Item = (&Slot, &Written)> {
        let slots = self.by_time.iter().rev().take_while(move |(at, _)| *at > began).map(|(_, slot)| slot);
        slots.filter_map(|slot| Some((&**slot, self.by_slot.get(slot)?)))
    }

    /// Forgets what every look since this moment has seen.
    pub fn forget_before(&mut self, moment: Instant) {
        while let Some((_, slot)) = self.by_time.first().filter(|(at, _)| *at < moment) {
            self.by_slot.remove(slot);
            self.by_time.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::update;
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_planned_before_the_write_is_outdated_and_what_was_planned_by_then_is_not() {
        let (mut writes, start) = (Writes::default(), Instant::now());
        let seen = |seconds: u64| Task { observed_at: start + Duration::from_secs(seconds), ..update("a", 1) };
        writes.note(&seen(0), true, start + Duration::from_secs(5));
        let outdates = |seconds: u64| writes.outdates(&seen(seconds)).is_some();

        assert_eq!([4, 5, 6].map(outdates), [true, false, false]);
    }

    #[test]
    fn the_last_write_of_a_slot_counts_and_none_that_every_look_has_seen() {
        let (mut writes, start) = (Writes::default(), Instant::now());
        let at = |hours: u64| start + Duration::from_secs(hours * 3600);
        for (name, hours) in [("a", 0), ("b", 1), ("a", 2), ("c", 3)] {
            writes.note(&update(name, 1), true, at(hours));
        }
        let names = |writes: &Writes, hours: u64| -> Vec<String> {
            writes.since(at(hours)).map(|(slot, _)| slot.key.name.to_string()).collect()
        };

        assert_eq!(names(&writes, 0), ["c", "a", "b"], "the newest first");
        assert_eq!(names(&writes, 2), ["c"]);
        writes.forget_before(at(2));
        assert_eq!(names(&writes, 0), ["c", "a"]);
        assert_eq!(writes.get(&update("b", 1).slot).map(|written| written.at), None);
        assert_eq!(writes.get(&update("a", 1).slot).map(|written| written.at), Some(at(2)));
    }
}
