//! What a pass says about ownership: declared and live is owned, gone from both sides is not, and what left the files
//! has been absent since.

use super::Reconciler;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::plan::Change;
use crate::plan::Hold;
use crate::plan::Plan;
use crate::plan::Policy;
use crate::resource::Action;
use crate::resource::Key;
use crate::state;
use crate::state::Owned;
use std::collections::BTreeMap;
use std::collections::HashSet;

impl Reconciler {
    /// What is owned and declared nowhere may be deleted once that has stood for long enough. Only a revision that is
    /// in force counts.
    pub fn note_absences(&self, desired: &Desired) {
        if !self.is_current() {
            return;
        }
        let note = || -> Result<(), state::Error> {
            let owned = self.state.inventory()?;
            // The last declared value of `protected` and `cascadeDelete` counts, whether the resource can be seen or not.
            let flags = owned.iter().filter_map(|(key, before)| {
                let now = ownership(desired.resources.get(key)?, Some(*before));
                (now != *before).then(|| (key.clone(), now))
            });
            let flags: Vec<(Key, Owned)> = flags.collect();
            if !flags.is_empty() {
                self.state.own(&flags)?;
            }
            let calls = self.state.open_intents()?.into_iter().map(|open| open.intent);
            let redeclared = calls.filter_map(|intent| {
                let now = ownership(desired.resources.get(&intent.key)?, None);
                let is_same = (now.protected, now.cascade_delete) == (intent.protected, intent.cascade_delete);
                (!is_same).then_some((intent.key, now))
            });
            let redeclared: Vec<(Key, Owned)> = redeclared.collect();
            if !redeclared.is_empty() {
                self.state.redeclare_calls(&redeclared)?;
            }
            let absent = owned.into_keys().filter(|key| !desired.resources.contains_key(key)).collect();
            self.state.note_absent(&absent, self.state.now()).map(drop)
        };
        if let Err(error) = note() {
            tracing::error!(%error, "cannot write down what left the files; nothing is deleted");
        }
    }

    /// Declared and live is owned from now on; `gone` and declared nowhere is not. A project whose first contact is held is
    /// left as it is.
    pub fn adopt(&self, desired: &Desired, plan: &Plan, gone: &HashSet<Key>, first_contact: bool) {
        if plan.held().any(|change| change.held == Some(Hold::FirstContact)) || first_contact && !plan.has_seen_all() {
            return;
        }
        let adopt = || -> Result<(), state::Error> {
            let known = self.state.inventory()?;
            let owned = |key: &Key| {
                let before = known.get(key).copied();
                let declared = desired.resources.get(key)?;
                let after = ownership(declared, before);
                (before != Some(after)).then(|| (key.clone(), after))
            };
            let news: Vec<(Key, Owned)> = plan.present.iter().filter_map(owned).collect();
            if !news.is_empty() {
                self.state.own(&news)?;
            }
            self.disown_lost(desired, plan, gone, &known)?;
            if first_contact && is_let_go(plan, self.assessor.rules.policy) { self.state.mark_known() } else { Ok(()) }
        };
        if let Err(error) = adopt() {
            tracing::error!(%error, "cannot write down what is owned");
        }
    }

    /// What is gone from Descope and from the files is owned no more, unless so much is gone that the list is not
    /// believed. An approval of what that held is one of the loss as well.
    fn disown_lost(
        &self,
        desired: &Desired,
        plan: &Plan,
        gone: &HashSet<Key>,
        known: &BTreeMap<Key, Owned>,
    ) -> Result<(), state::Error> {
        let is_accepted = |kind: &str| plan.changes.iter().any(|change| change.key.kind == kind && change.is_approved);
        let is_lost = |key: &&Key| {
            let is_believed = !plan.shrunk.contains(key.kind) || is_accepted(key.kind);
            is_believed
                && known.contains_key(*key)
                && !desired.resources.contains_key(*key)
                && !plan.changes.iter().any(|change| change.action == Action::Rename && change.key.kind == key.kind)
        };
        let lost: Vec<Key> = gone.iter().filter(is_lost).cloned().collect();
        if lost.is_empty() {
            return Ok(());
        }
        tracing::info!(resources = lost.len(), "gone from Descope and from the files: no longer owned");
        self.state.disown(&lost)
    }
}

/// Was the first contact let go ahead, or is there nothing to let go? What the policy, a guard or a suspension holds
/// back is no word on it, and where nothing is ever written, nobody was asked.
fn is_let_go(plan: &Plan, policy: Policy) -> bool {
    let is_released = |change: &Change| change.held.is_none() || change.is_approved;
    policy != Policy::Observe && (plan.changes.is_empty() || plan.changes.iter().any(is_released))
}

fn ownership(declared: &Declared, before: Option<Owned>) -> Owned {
    let before = before.unwrap_or_default();
    Owned {
        created_at: before.created_at,
        protected: declared.protected.unwrap_or_default(),
        cascade_delete: declared.cascade_delete.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Key;
    use std::sync::Arc;

    fn plan(holds: &[(Option<Hold>, bool)]) -> Plan {
        let change = |(held, is_approved): &(Option<Hold>, bool)| Change {
            key: Key::new("roles", "r"),
            action: Action::Create,
            is_approved: *is_approved,
            completes: false,
            is_early: false,
            held: *held,
            digest: Arc::default(),
            fields: Vec::new(),
            place: None,
            tasks: Vec::new(),
        };
        Plan { changes: holds.iter().map(change).collect(), ..Plan::default() }
    }

    /// One drifted field under `create-only` had the first contact held again with every create.
    #[test]
    fn a_project_is_known_once_something_went_ahead_or_nothing_had_to() {
        let policy = (Some(Hold::Policy), false);
        for (holds, writes, expected) in [
            (&[][..], Policy::CreateOnly, true),
            (&[], Policy::Observe, false),
            (&[policy], Policy::Observe, false),
            (&[policy], Policy::CreateOnly, false),
            (&[policy, (None, false)], Policy::CreateOnly, true),
            (&[(Some(Hold::Suspended), false)], Policy::Sync, false),
            (&[(Some(Hold::KindEmptied), false)], Policy::Sync, false),
            (&[(Some(Hold::KindEmptied), false), (None, true)], Policy::Sync, true),
            (&[(Some(Hold::DeleteAfter), true)], Policy::Sync, true),
        ] {
            assert_eq!(is_let_go(&plan(holds), writes), expected, "{writes:?} {holds:?}");
        }
    }
}
