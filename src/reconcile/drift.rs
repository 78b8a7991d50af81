//! Drift: what differs though the files did not change it, and what has to be known to tell that.

use super::Carryover;
use super::Reconciler;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::plan::Change;
use crate::plan::Drift;
use crate::plan::Hold;
use crate::plan::Plan;
use crate::plan::Task;
use crate::plan::drift;
use crate::resource;
use crate::resource::Key;
use crate::source::Trigger;
use crate::state;
use crate::state::Values;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::btree_map::Entry;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

/// Names in one line of the log; the plan has all of them.
const NAMED: usize = 5;

impl Reconciler {
    /// Once converged, whatever was written needs no pass of its own to count as in sync: if it differs at the next
    /// one, it drifted.
    pub(super) fn note_in_sync(&mut self) {
        let Some(desired) = self.memory.load.as_ref().and_then(|load| load.desired.clone()) else { return };
        // What the policy does not permit is no reason not to be converged.
        let is_left = |change: &&Change| change.held.is_some() || !self.was_put_in_force(&desired, &change.key);
        let left = self.memory.plan.iter().flat_map(|plan| &plan.changes).filter(is_left);
        let left: HashSet<&Key> = left.map(|change| &change.key).collect();
        let in_sync: Vec<Key> = desired.resources.keys().filter(|key| !left.contains(key)).cloned().collect();
        self.put_in_sync(&desired, in_sync);
    }

    /// Takes note of what this look showed as declared, and of what drifted.
    pub(super) fn note_drift(&mut self, desired: &Desired, plan: &Plan, trigger: Trigger) {
        let project = self.assessor.project.clone();
        let unfinished = self.queue.unfinished(&project);
        let differing: HashSet<&Key> = plan.changes.iter().map(|change| &change.key).collect();
        let is_landed = |(key, sent): &(&Key, &u64)| {
            let now = desired.resources.get(key).map(|declared| digest(declared));
            let is_done = !unfinished.contains(*key) && now == Some(**sent) && differing.contains(*key);
            is_done && self.was_put_in_force(desired, key)
        };
        let landed: Vec<Key> = self.memory.sent.iter().filter(is_landed).map(|(key, _)| key.clone()).collect();
        let shown = shown_as_declared(desired, plan).cloned();
        let is_new = self.memory.planned.as_ref().is_none_or(|planned| !std::ptr::eq(Arc::as_ptr(planned), desired));
        let in_sync: Vec<Key> = shown.chain(landed).collect();
        self.put_in_sync(desired, in_sync);
        // What comes back into the files comes back as something new.
        self.memory.in_sync.retain(|key, _| desired.resources.contains_key(key));
        if is_new {
            self.said(self.forget_undeclared(desired));
        }
        self.said(self.keep_ages(desired, plan));
        self.show_drift(plan, trigger);
    }

    /// Hands these to the queue, in the place of whatever is left there. They alone are in force once the queue has none of them any
    /// more: what was planned and left out was never sent.
    pub(super) fn hand_over(&mut self, desired: &Desired, tasks: Vec<Box<Task>>, is_fresh: bool) {
        // As large as the new ones may be, and of no use to anybody.
        self.memory.sent = HashMap::new();
        let digest_of = |key: &Key| desired.resources.get(key).map(|declared| digest(declared));
        let sent = tasks.iter().filter_map(|task| Some((task.slot.key.clone(), digest_of(&task.slot.key)?)));
        self.memory.sent = sent.collect();
        self.queue.replace(&self.assessor.project, tasks, is_fresh);
    }

    /// Takes everything out of the queue again.
    pub(super) fn hand_over_nothing(&mut self) {
        self.hand_over(&Desired::default(), Vec::new(), false);
    }

    /// Was all that is declared of it carried out? What is not on the queue any more may have been taken off it.
    fn was_put_in_force(&self, desired: &Desired, key: &Key) -> bool {
        let marks = self.state.applied(key).ok().flatten();
        let Some((marks, (_, values))) = marks.zip(values(desired, key)) else { return false };
        values.iter().all(|(path, value)| self.state.was_applied(&marks, path, value))
    }

    /// What `apply` finds in force: it has one look, and no memory of others.
    pub fn keep_drift(&self, desired: &Desired, plan: &Plan) {
        let keep = || {
            self.state.note_applied(shown_as_declared(desired, plan).filter_map(|key| values(desired, key)))?;
            self.forget_undeclared(desired)?;
            self.keep_ages(desired, plan)
        };
        self.said(keep());
    }

    fn put_in_sync(&mut self, desired: &Desired, keys: Vec<Key>) {
        let of = |key: &Key| desired.resources.get(key).map(|declared| digest(declared));
        let news: Vec<Key> = keys.into_iter().filter(|key| self.memory.in_sync.get(key).copied() != of(key)).collect();
        if news.is_empty() {
            return;
        }
        self.said(self.state.note_applied(news.iter().filter_map(|key| values(desired, key))));
        let digests = news.into_iter().filter_map(|key| of(&key).map(|digest| (key, digest)));
        self.memory.in_sync.extend(digests.collect::<Vec<_>>());
    }

    /// What the files do not name any more, or another way, is in force no more.
    fn forget_undeclared(&self, desired: &Desired) -> Result<(), state::Error> {
        // What is still to be renamed is declared under its new name.
        let renamed: HashSet<Key> = desired
            .resources
            .values()
            .filter_map(|declared| Some(Key { name: declared.renamed_from.clone()?, ..declared.key.clone() }))
            .collect();
        self.state.keep_applied(|key| desired.resources.contains_key(key) || renamed.contains(key))?;
        if !self.state.knows_applied()? {
            return Ok(());
        }
        let is_news =
            |(key, declared): &(&Key, &Arc<Declared>)| self.memory.in_sync.get(*key).copied() != Some(digest(declared));
        let news = desired.resources.iter().filter(is_news).filter_map(|(key, _)| values(desired, key));
        self.state.forget_paths(news)
    }

    /// Since when which drift is known.
    fn keep_ages(&self, desired: &Desired, plan: &Plan) -> Result<(), state::Error> {
        let mut now = BTreeMap::new();
        for change in &plan.changes {
            let Some(Drift { since, fields, .. }) = change.drift.as_deref() else { continue };
            let listed = change.fields.list();
            for path in fields {
                let one = (change.key.clone(), path.clone());
                let field = listed.iter().find(|field| field.path == *path);
                let live = || self.state.fingerprint(field.map_or(&Value::Null, |field| &field.from));
                // The same drift may be of several changes, of which one has the field.
                match now.entry(one) {
                    Entry::Vacant(vacant) => drop(vacant.insert((*since, live()))),
                    Entry::Occupied(mut known) if field.is_some() => drop(known.insert((*since, live()))),
                    Entry::Occupied(_) => {}
                }
            }
        }
        let waits: HashSet<&Key> = plan.waits.iter().map(|(key, ..)| key).collect();
        self.state.note_drifted(&now, plan.moment, |key| {
            let is_unseen = !plan.observed.contains(key.kind) || waits.contains(key);
            desired.resources.contains_key(key) && is_unseen
        })
    }

    fn show_drift(&mut self, plan: &Plan, trigger: Trigger) {
        let drifted = drifted(plan);
        self.count_drifted(drifted.keys().copied());
        let resources = drifted.len();
        if resources > 0 {
            let Carryover { repeats, is_asked, .. } = &mut self.memory;
            // What drifted since the last look is what the line is about, however many there were before.
            let is_new = |key: &&&Key| repeats.met(("drifted", *key), false) == Some(1);
            let (new, old): (Vec<&Key>, Vec<&Key>) = drifted.keys().partition(is_new);
            let which = new.into_iter().chain(old).take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let trigger = trigger.as_str();
            if let Some(times) = repeats.met(("drift", drifted.keys().collect::<Vec<_>>()), *is_asked) {
                tracing::info!(resources, which, trigger, times, "drift: changed in Descope though the YAML did not");
            }
        }
    }

    fn said(&self, noted: Result<(), state::Error>) {
        self.state.or_error(
            noted,
            "cannot write the state; what drifted may be taken for what the files changed, and its age is not kept",
        );
    }

    /// These differ, and no others: what a look showed, less what was put back since.
    pub(super) fn count_drifted<'k>(&self, drifted: impl Iterator<Item = &'k Key>) {
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for key in drifted {
            *counts.entry(key.kind).or_default() += 1;
        }
        for kind in resource::ALL.iter().map(|kind| kind.name()) {
            let count = counts.get(kind).copied().unwrap_or(0);
            self.metrics.drifted_resources.with_label_values(&[&*self.assessor.project, kind]).set(count);
        }
    }
}

/// How long until the next drift is old enough to be put back; `None` where there is none that time alone releases.
pub(super) fn next_due(plan: &Plan) -> Option<Duration> {
    let is_young = |change: &&Change| matches!(change.held, Some(Hold::DriftReported(_)));
    let due = plan.changes.iter().filter(is_young).filter_map(|change| change.until).min()?;
    Some(plan.moment.until(due))
}

/// What drifted, each resource once.
pub(super) fn drifted(plan: &Plan) -> BTreeMap<&Key, Vec<(&Change, &Drift)>> {
    let mut drifted: BTreeMap<&Key, Vec<(&Change, &Drift)>> = BTreeMap::new();
    for change in &plan.changes {
        if let Some(drift) = &change.drift {
            drifted.entry(&change.key).or_default().push((change, drift));
        }
    }
    drifted
}

/// What a look showed as it is declared, all of it.
fn shown_as_declared<'d>(desired: &'d Desired, plan: &Plan) -> impl Iterator<Item = &'d Key> {
    let waits = plan.waits.iter().map(|(key, ..)| key).chain(plan.unread.keys()).chain(&plan.unlisted);
    let refused = plan.refused.iter().map(|refusal| &refusal.key);
    let others = plan.changes.iter().map(|change| &change.key).chain(waits).chain(refused);
    let others: HashSet<Key> = others.cloned().collect();
    let is_shown = move |key: &&Key| plan.present.contains(*key) && !others.contains(*key);
    let shown: Vec<&Key> = desired.resources.keys().filter(is_shown).collect();
    shown.into_iter()
}

fn values<'k>(desired: &Desired, key: &'k Key) -> Option<(&'k Key, Values)> {
    let (kind, declared) = (resource::kind(key.kind)?, desired.resources.get(key)?);
    let parts = kind.spec().parts.iter();
    Some((key, parts.flat_map(|part| drift::declared_values(part, &declared.fields)).collect()))
}

pub(super) fn digest(declared: &Declared) -> u64 {
    let mut hasher = DefaultHasher::new();
    declared.fields.hash(&mut hasher);
    hasher.finish()
}
