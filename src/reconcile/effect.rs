//! Answered is not done: what Descope says it wrote, and does not keep, is told instead of sent for ever.

use super::assess::Assessor;
use super::assess::still_to_pass;
use crate::desired::Desired;
use crate::observed::Observed;
use crate::plan;
use crate::plan::Change;
use crate::plan::FieldChange;
use crate::plan::Plan;
use crate::plan::Refusal;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::state::ProjectState;
use crate::worker;
use crate::worker::recent::LAG;
use crate::worker::recent::Unconfirmed;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// So often the same write is answered before it is believed to have no effect.
const TRIES: u32 = 2;

/// Of a value in a message.
const LONGEST_VALUE: usize = 120;

impl Assessor {
    /// Takes out of the plan what was sent twice already, and answered, without becoming what it is to be. As soon as either
    /// side changes it is in it again.
    pub(super) fn refuse_without_effect(&self, plan: &mut Plan, undone: &BTreeMap<Key, u32>) {
        let Some(state) = &self.state else { return };
        plan.changes.retain(|change| {
            let message = if undone.get(&change.key).is_some_and(|times| *times >= TRIES) && is_delete(change) {
                STILL_THERE.to_owned()
            } else if is_without_effect(state, change) {
                message(&change.fields.list())
            } else {
                return true;
            };
            plan.without_effect.insert(change.key.clone());
            plan.refused.push(Refusal { message, key: change.key.clone(), place: change.place.clone() });
            false
        });
    }

    /// What is there although its delete was answered, as it was and not made anew, and how often that was sent: it is ours
    /// still.
    pub(super) fn undone(
        &self,
        desired: &Desired,
        observed: &Observed,
        unconfirmed: &mut Unconfirmed,
    ) -> BTreeMap<Key, u32> {
        let Some(state) = &self.state else { return BTreeMap::new() };
        let in_doubt = self.known(ProjectState::deletes_in_doubt);
        let mut undone = BTreeMap::new();
        let kinds: BTreeSet<&str> = in_doubt.keys().map(|key| key.kind).collect();
        for kind in kinds.into_iter().filter_map(resource::kind) {
            let Some(Ok(documents)) = observed.kinds.get(kind.name()) else { continue };
            let is_in_doubt = |key: &Key| in_doubt.contains_key(key) && !desired.resources.contains_key(key);
            for (key, document) in documents.of(is_in_doubt) {
                let Some(effect) = in_doubt.get(key) else { continue };
                let now = worker::deleted(state, plan::digest(kind, &document), plan::incarnation(kind, &document));
                if effect.before != now {
                    continue;
                }
                // Lists lag behind, also behind what another process wrote.
                let lag = self.known(|state| state.deleted_at(key)).and_then(|at| still_to_pass(at, LAG, state.now()));
                match lag {
                    None => drop(undone.insert(key.clone(), effect.times)),
                    Some(lag) => unconfirmed.note(Some((key.clone(), None, Instant::now() + lag))),
                }
            }
        }
        undone
    }
}

fn is_delete(change: &Change) -> bool {
    change.action == Action::Delete && change.held.is_none()
}

const STILL_THERE: &str = "was deleted twice, each time answered as done, and is there as it was; it is not deleted again until it \
                           changes: delete it in Descope, or declare it";

fn is_without_effect(state: &ProjectState, change: &Change) -> bool {
    let is_kept = |field: &FieldChange| {
        let effect = state.effect(&change.key, &field.path).ok().flatten();
        effect.is_some_and(|effect| {
            effect.times >= TRIES
                && effect.sent == state.fingerprint(&field.to)
                && effect.before == state.fingerprint(&field.from)
        })
    };
    // One that is held is told as that.
    matches!(change.action, Action::Update | Action::Rename)
        && change.held.is_none()
        && change.fields.list().iter().all(is_kept)
}

fn message(fields: &[FieldChange]) -> String {
    let told = |field: &FieldChange| {
        format!("{}: sent {}, Descope keeps {}", field.path, brief(&field.to), brief(&field.from))
    };
    let told: Vec<String> = fields.iter().take(5).map(told).collect();
    format!(
        "{}; it was written twice and answered as done, so it is not sent again until one of them changes; declare what Descope keeps, \
         or find out what changes it there",
        told.join("; ")
    )
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
