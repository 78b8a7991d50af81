//! A plan of less: what somebody asked for, and what that needs.

use super::Change;
use super::Hold;
use super::Plan;
use super::Slot;
use crate::resource::Action;
use crate::resource::Key;
use std::collections::BTreeSet;
use std::collections::HashMap;

impl Plan {
    /// Keeps the changes of what is `wanted` and those that have to be done before them. A delete stays only where it is
    /// `named`.
    pub fn narrow(&mut self, wanted: &dyn Fn(&Key) -> bool, named: &dyn Fn(&Key) -> bool) {
        let slots: HashMap<&Slot, usize> = self
            .changes
            .iter()
            .enumerate()
            .flat_map(|(at, change)| change.tasks.iter().map(move |task| (&task.slot, at)))
            .collect();
        let may_stay = |change: &Change| change.action != Action::Delete || named(&change.key);
        let is_asked = |change: &Change| wanted(&change.key) && may_stay(change);
        let mut todo: Vec<usize> =
            self.changes.iter().enumerate().filter(|(_, change)| is_asked(change)).map(|(at, _)| at).collect();
        let mut kept: BTreeSet<usize> = todo.iter().copied().collect();
        let (mut missing, mut blocked) = (BTreeSet::new(), BTreeSet::new());
        while let Some(change) = todo.pop().and_then(|at| self.changes.get(at)) {
            let slots_of = |task: &'_ super::Task| {
                task.after.iter().chain(task.needs.iter().map(|need| &need.slot)).cloned().collect::<Vec<_>>()
            };
            for slot in &change.tasks.iter().flat_map(slots_of).collect::<Vec<_>>() {
                let Some((at, needed)) = slots.get(slot).and_then(|at| Some((*at, self.changes.get(*at)?))) else {
                    continue;
                };
                if !may_stay(needed) {
                    missing
                        .insert(format!("{} waits for the delete of {}, which is not named", change.key, needed.key));
                    blocked.insert(change.key.clone());
                } else if kept.insert(at) {
                    todo.push(at);
                }
            }
        }
        let mut at = 0;
        self.changes.retain(|_| {
            at += 1;
            kept.contains(&(at - 1))
        });
        self.block(blocked);
        self.refused.retain(|refusal| wanted(&refusal.key));
        self.undeclared.retain(|key| wanted(key));
        self.waits.retain(|(key, ..)| wanted(key));
        self.missing.retain(|key, _| wanted(key));
        self.warnings.extend(missing);
        self.identify();
    }

    /// Holds these, and what comes after them.
    fn block(&mut self, mut blocked: BTreeSet<Key>) {
        loop {
            let before = blocked.len();
            for change in &self.changes {
                if change.tasks.iter().flat_map(|task| &task.after).any(|slot| blocked.contains(&slot.key)) {
                    blocked.insert(change.key.clone());
                }
            }
            if blocked.len() == before {
                break;
            }
        }
        for change in self.changes.iter_mut().filter(|change| blocked.contains(&change.key)) {
            change.held = change.held.or(Some(Hold::Blocked));
        }
    }
}
