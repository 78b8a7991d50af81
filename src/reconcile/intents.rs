//! Calls whose answer was lost, be it with the daemon's last run: settled by what is there.

use super::Reconciler;
use super::assess;
use super::assess::Assessment;
use crate::observed::Observed;
use crate::plan;
use crate::plan::Plan;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::spec::Read;
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

/// The same where a look cannot tell.
const CANNOT_TELL: &str = "its answer was lost, and the resource was changed again since: nobody can tell";

impl Reconciler {
    /// Calls that a look can settle which begins after this: they are over, though nobody knows how they ended. What is
    /// under way or begins later may or may not be in it.
    pub fn lost_calls(&self) -> BTreeSet<IntentId> {
        // In this order: what ends in between is settled, or over.
        let open = self.state.open_intents();
        let open = self.state.or_error(open, "cannot read what was under way when the daemon last ended");
        let in_flight = self.queue.in_flight(&self.assessor.project);
        open.into_iter().flatten().filter(|open| !in_flight.meets(open.intent.touches())).map(|open| open.id).collect()
    }

    /// Settles `lost` calls by a look that began after they were. True where something is owned now that no file
    /// declares, or may be made that was in doubt, so that it has to be looked at again.
    pub fn resolve(&self, lost: &BTreeSet<IntentId>, found: &Assessment) -> bool {
        let resolve = || -> Result<bool, state::Error> {
            // As they are noted by now: a clock that was set during the look moved them along.
            let (open, now) = self.state.open_intents_by_clock()?;
            let lost: Vec<OpenIntent> = open.into_iter().filter(|open| lost.contains(&open.id)).collect();
            let live = live(&lost, &found.observed);
            // What begins after this is not in the look.
            let in_flight = self.queue.in_flight(&self.assessor.project);
            let mut newer = HashSet::new();
            let mut is_news = false;
            // The newest first: what took effect once is not told twice.
            for open in lost.into_iter().rev() {
                let OpenIntent { intent, begun_at, .. } = &open;
                let key = &intent.key;
                let is_newest = newer.insert((key.clone(), intent.part, intent.action));
                // A newer call may be what the look saw; and a list that is not believed settles nothing.
                if in_flight.meets(intent.touches()) || found.plan.shrunk.contains(key.kind) {
                    continue;
                }
                let Some(settled) = self.fate(found, &live, intent) else { continue };
                // It may still arrive, and lists lag behind; and a worker that tries again looks for itself, and settles
                // the newest by what it finds. The others are not kept for it: every try of a long outage leaves one.
                let may_still_land =
                    assess::is_fresh(*begun_at, now) || is_newest && self.queue.will_look(&self.assessor.project, key);
                if settled != Settled::Done && may_still_land {
                    continue;
                }
                let duration = now.duration_since(*begun_at).unwrap_or_default();
                let message = if settled == Settled::Unknown { CANNOT_TELL } else { LOOKED_UP };
                let kept: Vec<_> = found.shown.filled.get(key).cloned().into_iter().collect();
                let ending = Ending { kept, ..Ending::of(settled, message, duration) };
                if self.state.settle_open(&open, &ending)? {
                    let action = intent.action.as_str();
                    let (kind, id, outcome) = (key.kind, key.id(), settled.outcome());
                    tracing::info!(kind, id, action, outcome, "settled a call whose answer was lost");
                    let makes = matches!(intent.action, Action::Create | Action::Rename);
                    is_news |= settled == Settled::Done && makes && !found.plan.present.contains(key);
                    // It was refused as long as it was in doubt.
                    is_news |= found.shown.lost.contains_key(key);
                }
            }
            Ok(is_news)
        };
        let resolved = resolve();
        self.state.or_error(resolved, "cannot settle what was under way when the daemon last ended").unwrap_or_default()
    }

    /// `None` where that is left to another look: its kind could not be observed, or one list alone lacks it.
    fn fate(&self, found: &Assessment, live: &Digests, intent: &Intent) -> Option<Settled> {
        let Intent { key, action, from, seen, .. } = intent;
        let live = live.get(key.kind)?;
        let is_gone = found.gone.contains(key);
        let Some(now) = live.get(key) else {
            return match action {
                Action::Create | Action::Rename => is_gone.then_some(Settled::NotDone),
                Action::Delete => is_gone.then_some(Settled::Done),
                Action::Update => Some(Settled::Unknown),
            };
        };
        // Where it is live under its old name as well, it was somebody else who made the new one.
        let is_still_there =
            from.as_ref().is_some_and(|from| live.contains_key(&Key { name: from.clone(), ..key.clone() }));
        Some(match action {
            Action::Create if found.shown.lost.contains_key(key) => return None,
            Action::Create => Settled::Done,
            Action::Rename => {
                if is_still_there {
                    Settled::NotDone
                } else {
                    Settled::Done
                }
            }
            Action::Delete => Settled::NotDone,
            // What is there tells nothing of what no list shows.
            Action::Update if now == seen && is_listed(intent) => Settled::NotDone,
            Action::Update => self.fate_of_update(&found.plan, intent),
        })
    }

    /// Of one whose resource is not what it was before.
    fn fate_of_update(&self, plan: &Plan, intent: &Intent) -> Settled {
        let key = &intent.key;
        let of_it = plan.changes.iter().filter(|change| change.key == *key);
        let mut tasks = of_it.flat_map(|change| &change.tasks).filter(|task| task.slot.part == intent.part).peekable();
        let is_compared = plan.present.contains(key)
            && !plan.waiting.contains(key.kind)
            && !plan.unread.get(key).is_some_and(|parts| parts.contains(intent.part))
            && !plan.refused.iter().any(|refusal| refusal.key == *key);
        if tasks.peek().is_none() && is_compared {
            Settled::Done
        } else if tasks.any(|task| worker::fingerprint(&self.state, &task.write) == intent.digest) {
            // The very same call would be sent once more.
            Settled::NotDone
        } else {
            Settled::Unknown
        }
    }
}

fn is_listed(intent: &Intent) -> bool {
    let part = resource::kind(intent.key.kind).and_then(|kind| kind.spec().part(intent.part));
    part.is_some_and(|part| part.read == Read::List)
}

/// Digests of what is there of that, by kind; kinds that could not be observed are left out.
type Digests = BTreeMap<&'static str, HashMap<Key, u64>>;

fn live(lost: &[OpenIntent], observed: &Observed) -> Digests {
    let kinds: BTreeSet<&'static str> = lost.iter().map(|open| open.intent.key.kind).collect();
    let asked: HashSet<Key> = lost.iter().flat_map(|open| open.intent.touches().keys()).collect();
    let documents = |name: &'static str| {
        let (kind, documents) = (resource::kind(name)?, observed.kinds.get(name)?.as_ref().ok()?);
        let documents = documents.of(|key| asked.contains(key));
        let digests = documents.map(|(key, document)| (key.clone(), plan::digest(kind, &document)));
        Some((name, digests.collect()))
    };
    kinds.into_iter().filter_map(documents).collect()
}
