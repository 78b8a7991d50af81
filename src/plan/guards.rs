//! What holds a change back: the policy, the first contact, and lists that answer too little.

use super::Change;
use super::Inputs;
use super::Live;
use super::Plan;
use super::Slot;
use crate::desired::Desired;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// The numbers of `guards` in the config.
#[derive(Debug, Clone, PartialEq)]
pub struct Guards {
    /// For kinds that `max_deletes` does not name.
    pub default_max_deletes: usize,
    /// By kind.
    pub max_deletes: BTreeMap<String, usize>,
    /// Of what is owned, 0 to 100; counts from [`PERCENT_COUNTS_FROM`] owned resources on.
    pub max_delete_percent: f64,
}

/// Below this many owned resources a percentage says nothing: one of three is a third.
pub const PERCENT_COUNTS_FROM: usize = 5;

impl Guards {
    /// Would losing `gone` of `owned` resources of this kind be too many at once?
    #[allow(clippy::cast_precision_loss, reason = "counts of resources are far below 2^52")]
    pub fn forbid(&self, kind: &str, gone: usize, owned: usize) -> bool {
        let most = self.max_deletes.get(kind).copied().unwrap_or(self.default_max_deletes);
        let percent = gone as f64 * 100.0;
        gone > most || (owned >= PERCENT_COUNTS_FROM && percent > self.max_delete_percent * owned as f64)
    }
}

/// Why a change waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// The policy does not permit it; nobody can approve it.
    Policy,
    /// The project was never seen before and is not empty.
    FirstContact,
    /// The list of this kind lacks more of what we own than the guards allow to disappear.
    ObservationShrank,
}

impl Hold {
    /// The word in plan, status and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::FirstContact => "first_contact",
            Self::ObservationShrank => "observation_shrank",
        }
    }

    /// Can an operator let it go ahead?
    pub fn can_be_approved(&self) -> bool {
        match self {
            Self::Policy => false,
            Self::FirstContact | Self::ObservationShrank => true,
        }
    }
}

/// Kinds whose list lacks so much of what we own that it is not believed, with how much. Ask once more before you
/// hold them.
pub fn shrunk(
    owned: &BTreeMap<Key, super::Ownership>,
    desired: &Desired,
    live: impl Fn(&Key) -> Option<bool>,
    guards: &Guards,
) -> Vec<(&'static str, usize)> {
    let other_names = other_names(desired);
    let mut counts: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    for (key, ownership) in owned {
        let Some(is_live) = live(key) else { continue };
        let is_live = is_live || other_names.get(key).and_then(&live).unwrap_or_default();
        let (gone, all) = counts.entry(key.kind).or_default();
        *all += 1;
        *gone += usize::from(!is_live && !ownership.fresh);
    }
    counts
        .into_iter()
        .filter(|(kind, (gone, all))| guards.forbid(kind, *gone, *all))
        .map(|(kind, (gone, _))| (kind, gone))
        .collect()
}

/// Either name of each rename, by the other: of one that is under way, or was cut off, it is not known which is owned
/// and which is live.
fn other_names(desired: &Desired) -> BTreeMap<Key, Key> {
    let renames = desired.resources.values().filter_map(|declared| {
        let old = Key { name: declared.renamed_from.clone()?, ..declared.key.clone() };
        Some((declared.key.clone(), old))
    });
    renames.flat_map(|(new, old)| [(new.clone(), old.clone()), (old, new)]).collect()
}

/// Marks what may not go ahead.
pub fn hold(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    let is_live = |key: &Key| live.is_observed(key.kind).then(|| live.get(key).is_some());
    let shrunk = shrunk(inputs.owned, inputs.desired, is_live, inputs.guards);
    for (kind, gone) in &shrunk {
        plan.warnings.push(format!(
            "Descope's list of {kind} lacks {gone} that this daemon owns; nothing of {kind} is changed until that is approved"
        ));
    }
    let is_new_and_filled = inputs.first_contact
        && live.keys().into_iter().any(|key| {
            let (kind, document) = (resource::kind(key.kind), live.get(key));
            kind.zip(document).is_some_and(|(kind, document)| !kind.is_builtin(document, inputs.builtin_roles))
        });
    for change in &mut plan.changes {
        change.held = if !inputs.policy.permits(change.action) {
            Some(Hold::Policy)
        } else if is_new_and_filled {
            Some(Hold::FirstContact)
        } else if shrunk.iter().any(|(kind, _)| *kind == change.key.kind) {
            Some(Hold::ObservationShrank)
        } else {
            None
        };
    }
    hold_dependents(&mut plan.changes);
}

/// What refers to a resource that is not created or renamed yet waits with it. Changes are in dependency order, but for
/// parts with calls of their own, so this repeats until nothing moves.
fn hold_dependents(changes: &mut [Change]) {
    loop {
        let absent: HashMap<Key, Hold> = changes
            .iter()
            .filter(|change| matches!(change.action, Action::Create | Action::Rename))
            .filter_map(|change| Some((change.key.clone(), change.held?)))
            .collect();
        let waits = |change: &Change| {
            let after = |slot: &Slot| absent.get(&slot.key).copied();
            change.tasks.iter().flat_map(|task| &task.after).find_map(after)
        };
        let mut moved = false;
        for change in changes.iter_mut().filter(|change| change.held.is_none() && change.action != Action::Delete) {
            change.held = waits(change);
            moved |= change.held.is_some();
        }
        if !moved {
            return;
        }
    }
}

/// Identifies the held changes and the observed bodies of those resources. An approval of it is void as soon as either
/// differs.
pub fn fingerprint(changes: &[Change], live: &Live<'_>) -> String {
    let mut digest = Sha256::new();
    let mut is_empty = true;
    for change in changes.iter().filter(|change| change.held.as_ref().is_some_and(Hold::can_be_approved)) {
        is_empty = false;
        digest.update(format!("{}\n{}\n", change.key, change.action.as_str()));
        for field in &change.fields {
            digest.update(format!("{} {}\n", field.path, field.to));
        }
        let body = live.get(&change.key).map(|document| serde_json::to_string(document).unwrap_or_default());
        digest.update(format!("{body:?}\n"));
    }
    if is_empty {
        return String::new();
    }
    let digest = digest.finalize();
    let half: [u8; 8] = std::array::from_fn(|n| digest[n]);
    format!("{:016x}", u64::from_be_bytes(half))
}
