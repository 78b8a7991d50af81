//! Drift: what differs though the YAML did not change.

use super::Reconciler;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::plan::Plan;
use crate::resource;
use crate::resource::Key;
use crate::source::Trigger;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

/// Names in one line of the log; the plan has all of them.
const NAMED: usize = 5;

impl Reconciler {
    /// Once converged, whatever was written needs no pass of its own to count as in sync: if it differs at the next
    /// one, it drifted.
    pub(super) fn note_in_sync(&mut self) {
        let Some(desired) = self.memory.load.as_ref().and_then(|load| load.desired.clone()) else { return };
        let digests = desired.resources.iter().map(|(key, declared)| (key.clone(), digest(declared)));
        self.memory.in_sync.extend(digests);
    }

    pub(super) fn note_drift(&mut self, desired: &Desired, plan: &Plan, trigger: Trigger) {
        let project = self.assessor.project.clone();
        let unfinished = self.queue.unfinished(&project);
        let landed = std::mem::take(&mut self.memory.sent).into_iter().filter(|(key, _)| !unfinished.contains(key));
        self.memory.in_sync.extend(landed);
        let differing: HashSet<&Key> = plan.changes.iter().map(|change| &change.key).collect();
        let mut drifted: HashMap<&'static str, i64> = HashMap::new();
        let mut unknown = 0;
        let mut drifted_keys = Vec::new();
        for (key, declared) in &desired.resources {
            let digest = digest(declared);
            if !differing.contains(key) {
                if plan.present.contains(key) {
                    self.memory.in_sync.insert(key.clone(), digest);
                }
            } else if self.memory.in_sync.get(key) == Some(&digest) {
                *drifted.entry(key.kind).or_default() += 1;
                drifted_keys.push(key.clone());
            }
            unknown += usize::from(!self.memory.in_sync.contains_key(key));
        }
        let which = drifted_keys.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.memory.overview.note_drifted(drifted_keys);
        // What comes back into the files comes back as something new.
        if desired.resources.len() < self.memory.in_sync.len() + unknown {
            self.memory.in_sync.retain(|key, _| desired.resources.contains_key(key));
        }
        let sent = plan.changes.iter().filter(|change| change.held.is_none());
        let sent = sent.filter_map(|change| Some((change.key.clone(), digest(desired.resources.get(&change.key)?))));
        self.memory.sent = sent.collect();
        for kind in resource::ALL {
            let count = drifted.get(kind.name()).copied().unwrap_or(0);
            self.metrics.drifted_resources.with_label_values(&[&*project, kind.name()]).set(count);
        }
        let total: i64 = drifted.values().sum();
        if total > 0 {
            tracing::info!(
                resources = total,
                which,
                trigger = trigger.as_str(),
                "drift: changed in Descope though the YAML did not"
            );
        }
    }
}

pub(super) fn digest(declared: &Declared) -> u64 {
    let mut hasher = DefaultHasher::new();
    declared.fields.hash(&mut hasher);
    hasher.finish()
}
