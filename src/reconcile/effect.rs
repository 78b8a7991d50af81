//! Answered is not done: what Descope says it wrote, and does not keep, is told instead of sent for ever.

use super::assess::Assessor;
use crate::plan::Change;
use crate::plan::FieldChange;
use crate::plan::Plan;
use crate::plan::Refusal;
use crate::resource::Action;
use crate::state::ProjectState;
use serde_json::Value;

/// So often the same write is answered before it is believed to have no effect.
const TRIES: u32 = 2;

/// Of a value in a message.
const LONGEST_VALUE: usize = 120;

impl Assessor {
    /// Takes out of the plan what was sent twice already, and answered, without becoming what it is to be. As soon as either
    /// side changes it is in it again.
    pub(super) fn refuse_without_effect(&self, plan: &mut Plan) {
        let Some(state) = &self.state else { return };
        for change in std::mem::take(&mut plan.changes) {
            match change.place.clone().filter(|_| is_without_effect(state, &change)) {
                Some(place) => {
                    plan.without_effect.insert(change.key.clone());
                    plan.refused.push(Refusal { message: message(&change.fields), key: change.key, place });
                }
                None => plan.changes.push(change),
            }
        }
    }
}

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
    change.action == Action::Update && change.held.is_none() && change.fields.iter().all(is_kept)
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
