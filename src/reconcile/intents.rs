//! Calls whose answer was lost, be it with the daemon's last run: settled by what is there.

use super::Reconciler;
use super::assess;
use crate::observed::Observed;
use crate::plan;
use crate::plan::Plan;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::state;
use crate::state::Ending;
use crate::state::Intent;
use crate::state::IntentId;
use crate::state::OpenIntent;
use crate::state::Settled;
use crate::worker;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// The message of a row of the audit trail for a call whose answer nobody lived to see.
const LOOKED_UP: &str = "its answer was lost; settled by looking at what is there";

impl Reconciler {
    /// Calls that a look can settle which begins after this: they are over, though nobody knows how they ended. What is
    /// under way or begins later may or may not be in it.
    pub fn lost_calls(&self) -> BTreeSet<IntentId> {
        // In this order: what ends in between is settled, or over.
        let open = self.state.open_intents().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read what was under way when the daemon last ended");
            Vec::new()
        });
        let in_flight = self.queue.in_flight(&self.assessor.project);
        open.into_iter().filter(|open| !in_flight.contains(&open.intent.key)).map(|open| open.id).collect()
    }

    /// Settles `lost` calls by a look that began after they were. True where something is owned now that no file
    /// declares, so that it has to be looked at again.
    pub fn resolve(&self, lost: &BTreeSet<IntentId>, plan: &Plan, observed: &Observed) -> bool {
        let resolve = || -> Result<bool, state::Error> {
            // As they are noted by now: a clock that was set during the look moved them along.
            let now = self.state.now();
            let lost: Vec<OpenIntent> =
                self.state.open_intents()?.into_iter().filter(|open| lost.contains(&open.id)).collect();
            let live = live(&lost, observed);
            // What begins after this is not in the look.
            let in_flight = self.queue.in_flight(&self.assessor.project);
            let mut newer = HashSet::new();
            let mut is_undeclared = false;
            // The newest first: what took effect once is not told twice.
            for open in lost.into_iter().rev() {
                let OpenIntent { intent, begun_at, .. } = &open;
                let key = &intent.key;
                let is_newest = newer.insert((key.clone(), intent.part, intent.action));
                // A newer call may be what the look saw; and a list that is not believed settles nothing.
                if in_flight.contains(key) || plan.shrunk.contains(key.kind) {
                    continue;
                }
                let Some(took_effect) = self.took_effect(plan, &live, intent) else { continue };
                // It may still arrive, and lists lag behind; and a worker that tries again looks for itself, and settles
                // the newest by what it finds. The others are not kept for it: every try of a long outage leaves one.
                let may_still_land =
                    assess::is_fresh(*begun_at, now) || is_newest && self.queue.will_look(&self.assessor.project, key);
                if !took_effect && may_still_land {
                    continue;
                }
                let settled = if took_effect { Settled::Done } else { Settled::NotDone };
                let duration = now.duration_since(*begun_at).unwrap_or_default();
                let ending = Ending { settled, message: LOOKED_UP, duration };
                if self.state.settle_open(&open, &ending)? {
                    let action = intent.action.as_str();
                    tracing::info!(%key, action, took_effect, "settled a call whose answer was lost");
                    let makes = matches!(intent.action, Action::Create | Action::Rename);
                    is_undeclared |= took_effect && makes && !plan.present.contains(key);
                }
            }
            Ok(is_undeclared)
        };
        resolve().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot settle what was under way when the daemon last ended");
            false
        })
    }

    /// `None` where its kind could not be observed.
    fn took_effect(&self, plan: &Plan, live: &Live, intent: &Intent) -> Option<bool> {
        let Intent { key, action, from, seen, .. } = intent;
        let live = live.get(key.kind)?;
        let now = live.get(key);
        // Where it is live under its old name as well, it was somebody else who made the new one.
        let is_still_there =
            from.as_ref().is_some_and(|from| live.contains_key(&Key { name: from.clone(), ..key.clone() }));
        Some(match action {
            Action::Create => now.is_some(),
            Action::Rename => now.is_some() && !is_still_there,
            Action::Delete => now.is_none(),
            Action::Update => now.is_some_and(|now| now != seen) && !self.is_still_planned(plan, intent),
        })
    }

    /// Would the very same call be sent once more? Then it had no effect.
    fn is_still_planned(&self, plan: &Plan, intent: &Intent) -> bool {
        let of_it = plan.changes.iter().filter(|change| change.key == intent.key);
        let mut tasks = of_it.flat_map(|change| &change.tasks);
        tasks.any(|task| worker::fingerprint(&self.state, &task.write) == intent.digest)
    }
}

/// Digests of what is there, by kind; kinds that could not be observed are left out.
type Live = BTreeMap<&'static str, HashMap<Key, u64>>;

fn live(lost: &[OpenIntent], observed: &Observed) -> Live {
    let kinds: BTreeSet<&'static str> = lost.iter().map(|open| open.intent.key.kind).collect();
    let documents = |name: &'static str| {
        let (kind, documents) = (resource::kind(name)?, observed.kinds.get(name)?.as_ref().ok()?);
        let digests = documents.iter().filter_map(|document| Some((kind.key(document)?, plan::digest(document))));
        Some((name, digests.collect()))
    };
    kinds.into_iter().filter_map(documents).collect()
}
