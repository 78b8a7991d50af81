//! What a pass says about ownership: declared and live is owned, gone from both sides is not, and what left the files
//! has been absent since.

use super::Reconciler;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::plan::Hold;
use crate::plan::Plan;
use crate::resource::Action;
use crate::resource::Key;
use crate::state;
use crate::state::Owned;
use std::collections::BTreeMap;
use std::collections::HashMap;
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
            // What is still to be renamed is declared under its new name.
            let mut renamed: HashMap<Key, &Declared> = HashMap::new();
            for declared in desired.resources.values() {
                let Some(name) = &declared.renamed_from else { continue };
                let old = Key { name: name.clone(), ..declared.key.clone() };
                if owned.contains_key(&old) && !self.state.was_renamed(&old, &declared.key)? {
                    renamed.insert(old, declared);
                }
            }
            let declared = |key: &Key| desired.resources.get(key).map(|d| &**d).or_else(|| renamed.get(key).copied());
            // The last declared value of `protected` and `cascadeDelete` counts, whether the resource can be seen or not.
            let flags = owned.iter().filter_map(|(key, before)| {
                let now = ownership(declared(key)?, Some(*before));
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
            let absent = owned.into_keys().filter(|key| declared(key).is_none()).collect();
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
            // What the policy or a suspension holds back was not let go ahead by anybody.
            let is_held_back =
                plan.changes.iter().any(|change| matches!(change.held, Some(Hold::Policy | Hold::Suspended)));
            if first_contact && !is_held_back { self.state.mark_known() } else { Ok(()) }
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

fn ownership(declared: &Declared, before: Option<Owned>) -> Owned {
    let before = before.unwrap_or_default();
    Owned {
        created_at: before.created_at,
        protected: declared.protected.unwrap_or_default(),
        cascade_delete: declared.cascade_delete.unwrap_or_default(),
    }
}
