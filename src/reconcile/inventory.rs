//! What a pass says about ownership: declared and live is owned, gone from both sides is not, and what left the files
//! has been absent since.

use super::Reconciler;
use super::assess;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::plan::Change;
use crate::plan::Contact;
use crate::plan::Hold;
use crate::plan::Plan;
use crate::plan::Policy;
use crate::plan::guards;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Kind;
use crate::state;
use crate::state::Load;
use crate::state::Outlived;
use crate::state::Owned;
use crate::state::OwnedAs;
use crate::worker::recent::Unconfirmed;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

impl Reconciler {
    /// What is owned and declared nowhere may be deleted once that has stood for long enough. Only a revision that is
    /// in force counts. Of what is not `asked` for no absence begins; what is back in the files is absent no more, whatever
    /// was asked for.
    pub fn note_absences(&self, desired: &Desired, asked: &dyn Fn(&Key) -> bool) {
        // What another entry of the config owns, its files speak of.
        if !self.is_current() || self.assessor.former().is_some() {
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
            let all = owned.iter().zip(desired.resources.beside(owned.keys())).map(|((key, before), (_, declared))| {
                let declared = declared.map(|declared| &**declared).or_else(|| renamed.get(key).copied());
                Sighting { key, before: *before, declared }
            });
            let all: Vec<Sighting<'_>> = all.collect();
            let before: BTreeSet<Key> = self.state.absent_for()?.into_keys().collect();
            let flags = redeclared(&all, &before);
            let calls = self.state.open_intents()?.into_iter().map(|open| open.intent);
            let news = calls.filter_map(|intent| {
                let now = ownership(desired.resources.get(&intent.key)?, None);
                let is_same = (now.protected, now.cascade_delete) == (intent.protected, intent.cascade_delete);
                (!is_same).then_some((intent.key, now.again()))
            });
            let news: Vec<(Key, OwnedAs)> = news.collect();
            if !news.is_empty() {
                self.state.redeclare_calls(&news)?;
            }
            // What left before another one said to be it has still left: a rename that cannot be carried out is none.
            let has_left = |one: &&Sighting<'_>| match one.declared {
                Some(declared) => declared.key != *one.key && before.contains(one.key),
                None => asked(one.key) || before.contains(one.key),
            };
            let absent: BTreeSet<Key> = all.iter().filter(has_left).map(|one| one.key.clone()).collect();
            let mut missing = self.state.missing()?;
            missing.retain(|key| !desired.resources.contains_key(key));
            self.state.note_load(&Load { owned: &flags, absent: &absent, missing: &missing })
        };
        self.state.or_error(note(), "cannot write down what left the files; nothing is deleted");
    }

    /// Declared and live is owned from now on; `gone` and declared nowhere is not, once that is proven. A project whose first
    /// contact is held is left as it is, and so is one that the state knows under another entry of the config, until somebody
    /// said that this one may have it, or the config says that nobody is asked. True where a loss was accepted by this, so that
    /// the list is believed with the next plan.
    pub fn adopt(&self, desired: &Desired, plan: &Plan, gone: &HashSet<Key>, first_contact: bool) -> bool {
        let whole = Some(Hold::FirstContact(Contact::Project));
        let is_held = plan.awaits_contact() || plan.held().any(|change| change.held == whole);
        if is_held || first_contact && !plan.has_seen_all() {
            return false;
        }
        let entry = &*self.assessor.rules.entry;
        let is_let_go = is_let_go(plan, self.assessor.rules.policy);
        let takeover = plan.takeover.as_ref();
        let may_have = takeover.is_none_or(|takeover| takeover.is_approved || takeover.is_same || is_let_go);
        // The plan may be of a moment in which nobody could tell.
        if !may_have || takeover.is_none() && self.assessor.former().is_some() {
            return false;
        }
        let unknown_kinds: HashSet<&str> = guards::unknown_kinds(plan);
        let adopt = || -> Result<bool, state::Error> {
            match takeover {
                Some(takeover) if takeover.is_same => self.state.bind(entry)?,
                Some(_) => self.state.take_over(entry)?,
                None => {}
            }
            if let Some(takeover) = takeover {
                tracing::warn!(is_same = takeover.is_same, "{}; from now on it is this one's", takeover.why);
            }
            let known = self.state.inventory()?;
            let owned = |(key, declared): (&Key, Option<&Arc<Declared>>)| {
                let before = known.get(key).copied();
                let after = ownership(declared?, before);
                (before != Some(after)).then(|| (key.clone(), after.again()))
            };
            let present = plan.present.iter().filter(|key| !unknown_kinds.contains(key.kind));
            let news: Vec<(Key, OwnedAs)> = desired.resources.beside(present).filter_map(owned).collect();
            if !news.is_empty() {
                self.state.note_owned(&news)?;
            }
            if !plan.ids.is_empty() {
                self.state.note_ids(&plan.ids)?;
            }
            let is_accepted = self.disown_lost(desired, plan, gone, &known)?;
            if !first_contact || is_let_go {
                self.state.note_contacted(&guards::contacted(plan))?;
            }
            if first_contact && is_let_go {
                self.state.mark_known()?;
            }
            if (!first_contact || is_let_go) && self.state.entry()?.is_none() {
                self.state.bind(entry)?;
            }
            Ok(is_accepted)
        };
        self.state.or_error(adopt(), "cannot write down what is owned").unwrap_or_default()
    }

    /// What a look shows is missing no more, whatever was asked for.
    pub fn note_shown(&self, plan: &Plan) {
        let note = || {
            let mut missing = self.state.missing()?;
            missing.retain(|key| !plan.observed.contains(key.kind) || plan.missing.contains_key(key));
            self.state.note_missing(&missing)
        };
        let noted: Result<(), state::Error> = note();
        self.state.or_error(noted, "cannot write down what is missing");
    }

    /// A fingerprint ends with what it speaks of.
    pub fn note_outlived(&self, outlived: &Outlived) {
        self.state.or_error(self.state.outlive(outlived), "cannot write down which fingerprints are void");
    }

    /// What this look shows as it was sent needs no more watching.
    pub fn note_effects(&self, desired: &Desired, plan: &Plan, unconfirmed: &Unconfirmed) {
        let changed: HashSet<&Key> = plan.changes.iter().map(|change| &change.key).collect();
        let refused: HashSet<&Key> = plan.refused.iter().map(|refusal| &refusal.key).collect();
        let is_open = |key: &Key| {
            let is_missing = desired.resources.contains_key(key) && !plan.present.contains(key);
            let is_unread = plan.unread.contains_key(key) || self.assessor.deep.is_unseen(key);
            let is_unseen = is_unread || !plan.observed.contains(key.kind) || plan.waiting.contains(key.kind);
            changed.contains(key)
                || refused.contains(key)
                || unconfirmed.keys.contains_key(key)
                || is_missing
                || is_unseen
        };
        self.state.or_error(self.state.keep_effects(is_open), "cannot write down which writes took effect");
    }

    /// Which of the renames that were answered this look shows to be done, and which not.
    pub fn note_renames(&self, desired: &Desired, plan: &Plan, unconfirmed: &Unconfirmed) {
        let is_seen = |new: &Key| {
            let is_believed = !plan.shrunk.contains(new.kind) && !plan.waiting.contains(new.kind);
            is_believed && plan.present.contains(new) && !unconfirmed.keys.contains_key(new)
        };
        let renames = desired.resources.values().filter_map(|declared| {
            Some((Key { name: declared.renamed_from.clone()?, ..declared.key.clone() }, declared.key.clone()))
        });
        let done: Vec<(Key, Key)> = renames.filter(|(old, new)| is_seen(new) && !plan.present.contains(old)).collect();
        let noted = self.state.note_renames(&done, &plan.rivals);
        self.state.or_error(noted, "cannot write down which renames took effect");
    }

    /// What is gone from Descope and from the files is owned no more, once no look has shown it for long enough. An
    /// approval of what was held because the list lacks too much is one of the loss as well.
    fn disown_lost(
        &self,
        desired: &Desired,
        plan: &Plan,
        gone: &HashSet<Key>,
        known: &BTreeMap<Key, Owned>,
    ) -> Result<bool, state::Error> {
        let is_accepted = |kind: &str| plan.changes.iter().any(|change| change.key.kind == kind && change.is_approved);
        let is_proven = |key: &Key| {
            if plan.shrunk.contains(key.kind) { is_accepted(key.kind) } else { !plan.missing.contains_key(key) }
        };
        let is_left = |key: &&Key| {
            known.contains_key(*key)
                && !desired.resources.contains_key(key)
                && !plan.unlisted.contains(key)
                && !plan.changes.iter().any(|change| change.action == Action::Rename && change.key.kind == key.kind)
        };
        let (lost, missing): (Vec<Key>, Vec<Key>) =
            gone.iter().filter(is_left).cloned().partition(|key| is_proven(key));
        // A look that failed shows nothing and proves nothing.
        let unseen = self.state.missing()?.into_iter().filter(|key| !plan.observed.contains(key.kind));
        // What is too new to be forgotten is missing as well.
        let mut new = BTreeSet::new();
        if !plan.missing.is_empty() {
            new = self.state.created_within(assess::FRESH)?;
            new.retain(|key| plan.missing.contains_key(key));
        }
        self.state.note_missing(&missing.into_iter().chain(unseen).chain(new).collect())?;
        if lost.is_empty() {
            return Ok(false);
        }
        tracing::info!(resources = lost.len(), "gone from Descope and from the files: no longer owned");
        self.state.disown(&lost)?;
        Ok(lost.iter().any(|key| plan.shrunk.contains(key.kind)))
    }
}

/// Something owned, and what this load says of it.
struct Sighting<'a> {
    key: &'a Key,
    before: Owned,
    declared: Option<&'a Declared>,
}

/// Of what is owned and declared, what this load says otherwise. The last declared value of `protected` and
/// `cascadeDelete` counts, whether the resource can be seen or not. What comes back into the files with the load that
/// another one leaves, as when a rollback is undone, is as new as if it were created: the other may be it under its old
/// name.
fn redeclared(all: &[Sighting<'_>], absent: &BTreeSet<Key>) -> Vec<(Key, OwnedAs)> {
    let leaves = |one: &&Sighting<'_>| one.declared.is_none() && !absent.contains(one.key);
    let losing: HashSet<&str> = all.iter().filter(leaves).map(|one| one.key.kind).collect();
    let may_replace = |key: &Key| {
        absent.contains(key) && losing.contains(key.kind) && resource::kind(key.kind).is_some_and(Kind::has_rename)
    };
    let flags = all.iter().filter_map(|Sighting { key, before, declared }| {
        let now = ownership((*declared)?, Some(*before));
        let is_new = now.created_at.is_some() && may_replace(key);
        (is_new || now != *before).then(|| ((*key).clone(), OwnedAs { is_new, ..now.again() }))
    });
    flags.collect()
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
    use crate::desired::Place;
    use std::time::Duration;
    use std::time::SystemTime;

    fn plan(holds: &[(Option<Hold>, bool)]) -> Plan {
        let change = |(held, is_approved): &(Option<Hold>, bool)| Change {
            is_approved: *is_approved,
            held: *held,
            ..Change::new(Key::new("roles", "r"), Action::Create)
        };
        Plan { changes: holds.iter().map(change).collect(), ..Plan::default() }
    }

    /// A rollback and a roll-forward made what was created in place of another look older than the other's leaving.
    #[test]
    fn what_comes_back_as_another_one_leaves_is_as_new_as_what_is_created() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let role = |name: &str| Key::new("roles", name);
        let declared = |key: &Key| Declared {
            key: key.clone(),
            fields: resource::Written::default(),
            protected: None,
            renamed_from: None,
            cascade_delete: None,
            secret_file: None,
            place: Place { file: "a.yaml".into(), line: 1, column: 1 },
        };
        let created = |key: &Key| Owned { created_at: (*key.name != *"adopted").then_some(at), ..Owned::default() };
        let changed = |leaves: &[Key]| {
            let back = [role("back"), role("adopted"), Key::new("tenants", "back")];
            let stays = [role("stays"), Key::new("tenants", "stays")];
            let desired = back.iter().chain(&stays).map(|key| Arc::new(declared(key)));
            let desired = Desired { kinds: ["roles", "tenants"].into(), resources: desired.collect() };
            let owned: BTreeMap<Key, Owned> =
                back.iter().chain(&stays).chain(leaves).map(|key| (key.clone(), created(key))).collect();
            let mut absent: BTreeSet<Key> = back.into();
            absent.insert(role("long gone"));
            let declared = |key| desired.resources.get(key).map(|declared| &**declared);
            let all = owned.iter().map(|(key, before)| Sighting { key, before: *before, declared: declared(key) });
            redeclared(&all.collect::<Vec<_>>(), &absent)
        };

        let anew = OwnedAs { is_new: true, ..OwnedAs::default() };
        assert_eq!(changed(&[role("leaves"), Key::new("tenants", "leaves")]), [(role("back"), anew)]);
        assert_eq!(changed(&[role("long gone")]), [], "nothing leaves with that load");
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
