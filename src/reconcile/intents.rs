//! Calls whose answer was lost, be it with the daemon's last run: settled by what is there.

use super::Reconciler;
use crate::plan::Plan;
use crate::resource::Action;
use crate::resource::Key;
use crate::source::Trigger;
use crate::state;
use crate::state::Attempt;
use crate::state::Intent;
use crate::state::OpenIntent;
use crate::state::Settled;
use crate::worker;
use std::sync::Arc;
use std::time::SystemTime;

impl Reconciler {
    /// Calls whose answer was lost, be it with the daemon's last run, are settled by what was there at `looked_at`.
    pub fn resolve_intents(&self, plan: &Plan, looked_at: SystemTime) {
        let resolve = || -> Result<(), state::Error> {
            let in_flight = self.queue.counts_of(&self.assessor.project).in_flight;
            if in_flight > 0 {
                return Ok(());
            }
            for open in self.state.open_intents()? {
                let OpenIntent { id, intent, begun_at } = open;
                // A call that began after the look is not in it.
                if begun_at > looked_at {
                    continue;
                }
                let Some(is_live) = plan.is_live(&intent.key) else { continue };
                // A list that is not believed settles nothing.
                if plan.shrunk.contains(intent.key.kind) {
                    continue;
                }
                let took_effect = match intent.action {
                    Action::Create => is_live,
                    Action::Rename => is_live && !is_still_there(plan, &intent),
                    Action::Delete => !is_live,
                    Action::Update => !self.is_still_planned(plan, &intent),
                };
                let key = &intent.key;
                tracing::info!(%key, action = intent.action.as_str(), took_effect, "settled a call whose answer was lost");
                let settled = if took_effect { Settled::Done } else { Settled::NotDone };
                let is_news =
                    self.state.settle_one(id, settled, &self.settled_attempt(&intent, begun_at, took_effect))?;
                if is_news && took_effect && intent.action == Action::Delete {
                    self.state.note_deletion(key.kind, SystemTime::now())?;
                }
            }
            Ok(())
        };
        if let Err(error) = resolve() {
            tracing::error!(%error, "cannot settle what was under way when the daemon last ended");
        }
    }

    /// Would the very same call be sent once more? Then it had no effect.
    fn is_still_planned(&self, plan: &Plan, intent: &Intent) -> bool {
        let of_it = plan.changes.iter().filter(|change| change.key == intent.key);
        let mut tasks = of_it.flat_map(|change| &change.tasks);
        tasks.any(|task| worker::fingerprint(&self.state, &task.write) == intent.digest)
    }

    /// The row of the audit trail for a call whose answer nobody lived to see.
    fn settled_attempt(&self, intent: &Intent, begun_at: SystemTime, took_effect: bool) -> Attempt {
        let load = self.memory.load.as_ref();
        let declared = load.and_then(|load| load.desired.as_ref()?.resources.get(&intent.key));
        Attempt {
            at: SystemTime::now(),
            trigger: Trigger::Startup.as_str().to_owned(),
            revision: String::new(),
            place: declared.map(|declared| (declared.place.file.to_string(), declared.place.line)),
            key: intent.key.clone(),
            action: intent.action.as_str().to_owned(),
            fields: "[]".to_owned(),
            attempt: 1,
            outcome: if took_effect { "ok" } else { "failed" }.to_owned(),
            message: "its answer was lost; settled by looking at what is there".to_owned(),
            duration: begun_at.elapsed().unwrap_or_default(),
        }
    }
}

/// Is a renamed resource still live under its old name? Then it was somebody else who made the new one.
fn is_still_there(plan: &Plan, intent: &Intent) -> bool {
    let old = |from: &Arc<str>| Key { name: from.clone(), ..intent.key.clone() };
    intent.from.as_ref().is_some_and(|from| plan.is_live(&old(from)) == Some(true))
}
