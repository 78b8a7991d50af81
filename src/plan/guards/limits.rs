//! The numbers: how much of a kind may go, change or be missing at once.

use super::Hold;
use super::NewName;
use super::Watch;
use super::has_rename;
use crate::desired::Desired;
use crate::plan::Change;
use crate::plan::Inputs;
use crate::plan::Ownership;
use crate::plan::Plan;
use crate::plan::Policy;
use crate::plan::is_over;
use crate::plan::missing;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::spec::Read;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// The numbers of `guards` in the config.
#[derive(Debug, Clone, PartialEq)]
pub struct Guards {
    /// How many may be deleted in a day.
    pub deletes: Most,
    /// How many of what is owned a list may lack and still be believed.
    pub missing: Most,
    /// Of what is owned, how many may be updated or renamed by one plan; `None`: off. Counts from
    /// [`PERCENT_COUNTS_FROM`] on.
    pub max_change_percent: Option<f64>,
    /// For what lowers protection.
    pub weakening: Watch,
    /// For what may lock people out.
    pub lockout: Watch,
}

/// How many of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Most {
    /// For kinds that `by_kind` does not name.
    pub default: usize,
    /// By kind.
    pub by_kind: BTreeMap<String, usize>,
    /// Of what is owned, from 0; counts from [`PERCENT_COUNTS_FROM`] owned resources on.
    pub percent: f64,
}

/// Below this many owned resources a percentage says nothing: one of three is a third.
pub const PERCENT_COUNTS_FROM: usize = 5;

impl Most {
    fn is_exceeded_in_number(&self, kind: &str, part: usize) -> bool {
        part > self.of(kind)
    }

    fn of(&self, kind: &str) -> usize {
        self.by_kind.get(kind).copied().unwrap_or(self.default)
    }

    fn is_exceeded_in_share(&self, part: usize, owned: usize) -> bool {
        exceeds(self.percent, part, owned)
    }
}

impl Guards {
    /// Which guard, if any, says that deleting `gone` of `owned` resources of this kind is too much at once?
    pub fn against(&self, kind: &str, gone: usize, owned: usize) -> Option<Hold> {
        if self.deletes.is_exceeded_in_number(kind, gone) {
            Some(Hold::MaxDeletes)
        } else if self.deletes.is_exceeded_in_share(gone, owned) {
            Some(Hold::MaxDeletePercent)
        } else {
            None
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of resources are far below 2^52")]
fn exceeds(percent: f64, part: usize, owned: usize) -> bool {
    owned >= PERCENT_COUNTS_FROM && part as f64 * 100.0 > percent * owned as f64
}

/// What was deleted of one kind in the trailing 24 hours, since the last approval, without what was approved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Deletes done.
    pub deleted: usize,
    /// How many of the owned resources of now were created since the window began.
    pub created: usize,
    /// How many of those that were deleted had been, too.
    pub passing: usize,
    /// How many more were owned at some moment since than when the window began.
    pub rise: usize,
}

/// Kinds whose list lacks so much of what we own that it is not believed, with how much. Ask once more before you
/// hold them.
pub fn shrunk(
    owned: &BTreeMap<Key, Ownership>,
    desired: &Desired,
    live: impl Fn(&Key) -> Option<bool>,
    renamed: &dyn Fn(&Key, &Key) -> bool,
    policy: Policy,
    guards: &Guards,
) -> Vec<(&'static str, usize)> {
    let other_names = other_names(owned, desired, renamed);
    // What both sides no longer have, nobody misses; what leaves the files just now may well be there, and be lost for good.
    let is_leaving = |key: &Key, ownership: Ownership| {
        let is_proven = ownership.missing_for.is_some_and(|time| time >= missing::MANY_PROVEN_AFTER);
        !is_proven && missing::is_leaving(policy, desired, key, ownership)
    };
    let is_declared = |key: &Key| {
        let declared = |key: &Key| desired.resources.contains_key(key);
        declared(key) || other_names.get(key).is_some_and(declared)
    };
    let mut counts: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    // Where each is asked for by its name there is no list that could be too short.
    let asked_by_name = resource::ALL.iter().filter(|kind| kind.spec().main().read == Read::ByName);
    let asked_by_name: Vec<&str> = asked_by_name.map(|kind| kind.name()).collect();
    for (key, ownership) in owned.iter().filter(|(key, _)| !asked_by_name.contains(&key.kind)) {
        let Some(is_live) = live(key) else { continue };
        let is_live = is_live || other_names.get(key).and_then(&live).unwrap_or_default();
        let (gone, all) = counts.entry(key.kind).or_default();
        *all += 1;
        let is_missed = is_declared(key) || is_leaving(key, *ownership);
        *gone += usize::from(!is_live && !ownership.fresh && is_missed);
    }
    let is_too_much = |(kind, (gone, all)): &(&'static str, (usize, usize))| {
        let most = &guards.missing;
        most.is_exceeded_in_number(kind, *gone) || most.is_exceeded_in_share(*gone, *all)
    };
    counts.into_iter().filter(is_too_much).map(|(kind, (gone, _))| (kind, gone)).collect()
}

/// Either name of each rename that is not over, by the other: of one that is under way, or was cut off, it is not known
/// which is owned and which is live.
fn other_names(
    owned: &BTreeMap<Key, Ownership>,
    desired: &Desired,
    renamed: &dyn Fn(&Key, &Key) -> bool,
) -> BTreeMap<Key, Key> {
    let pairs = desired.resources.values().filter_map(|declared| {
        let old = Key { name: declared.renamed_from.clone()?, ..declared.key.clone() };
        (!is_over(owned, renamed, &old, &declared.key)).then(|| (declared.key.clone(), old))
    });
    pairs.flat_map(|(new, old)| [(new.clone(), old.clone()), (old, new)]).collect()
}

/// What the guards say about one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limited {
    deletes: Option<Hold>,
    updates: Option<Hold>,
    losses: Option<Hold>,
    /// What would be gone within 24 hours, and what would be changed at once.
    numbers: [usize; 2],
    /// Of how many that are owned, that the share of each is too large.
    of: [usize; 2],
}

impl Limited {
    pub fn on(self, change: &Change, owned: &BTreeMap<Key, Ownership>) -> Option<Hold> {
        match change.action {
            Action::Create => None,
            Action::Update | Action::Rename => {
                let losses = self.losses.filter(|_| !change.losses.is_empty());
                self.updates.into_iter().chain(losses).min()
            }
            Action::Delete => {
                let replaced = owned.get(&change.key).is_some_and(|ownership| ownership.replaced);
                let replaced = (replaced && has_rename(&change.key)).then_some(Hold::MaybeRename(NewName::Made));
                self.deletes.into_iter().chain(replaced).min()
            }
        }
    }

    /// What of a kind that is held so is too much, with the limit; `None` where no number and no other resource holds it.
    /// `newer`: who was created meanwhile.
    pub fn said(self, hold: Hold, kind: &str, guards: &Guards, newer: impl FnOnce() -> String) -> Option<String> {
        let ([gone, changed], [owned_of_gone, owned]) = (self.numbers, self.of);
        let said = match hold {
            Hold::MaxDeletes => {
                let most = guards.deletes.of(kind);
                format!("{gone} of {kind} would be gone within 24 hours, and `guards.maxDeletes` lets {most} go")
            }
            Hold::MaxDeletePercent => {
                let most = guards.deletes.percent;
                format!(
                    "{gone} of {owned_of_gone} {kind} would be gone within 24 hours, and `guards.maxDeletePercent` lets \
                     {most} % go"
                )
            }
            Hold::MaxChangePercent => {
                let most = guards.max_change_percent?;
                format!(
                    "{changed} of {owned} {kind} would be changed at once, and `guards.maxChangePercent` lets {most} % be"
                )
            }
            Hold::KindEmptied => format!("the files have none of {kind} any more"),
            Hold::MaybeRename(NewName::Refused) => format!("it may be renamed: a rename of {kind} is refused"),
            Hold::MaybeRename(NewName::Planned) => {
                format!("it may be renamed: another one of {kind} is created beside it")
            }
            Hold::MaybeRename(NewName::Made) => {
                format!("it may be renamed: {} created since it left the files", newer())
            }
            Hold::Policy
            | Hold::DriftReported(_)
            | Hold::ObservationShrank
            | Hold::StillDeclared
            | Hold::StillReferenced(_)
            | Hold::WouldReset
            | Hold::Weakening
            | Hold::Lockout
            | Hold::Contested
            | Hold::FirstContact(_)
            | Hold::Blocked
            | Hold::DeleteAfter
            | Hold::Suspended => return None,
        };
        Some(said)
    }
}

pub(super) fn verdicts(inputs: &Inputs<'_>, plan: &Plan) -> HashMap<&'static str, Limited> {
    let mut verdicts = HashMap::new();
    for kind in resource::ALL {
        let name = kind.name();
        // What is left as it is moves nothing.
        let is_sent = |change: &&Change| change.drift.as_ref().is_none_or(|drift| drift.left.is_none());
        let count = |actions: &[Action]| {
            let of_kind = plan.changes.iter().filter(|change| change.key.kind == name);
            of_kind.filter(is_sent).filter(|change| actions.contains(&change.action)).count()
        };
        let deletes = count(&[Action::Delete]);
        let of_kind = plan.changes.iter().filter(|change| change.key.kind == name);
        let losses = of_kind.map(|change| change.losses.len()).sum::<usize>();
        let updates = count(&[Action::Update, Action::Rename]);
        if deletes + updates == 0 {
            continue;
        }
        let owned = inputs.owned.keys().filter(|key| key.kind == name).count();
        let window = inputs.windows.get(name).copied().unwrap_or_default();
        // A project that was filled today owned next to nothing before: there the share is of what it owned at most.
        let owned_then = (owned + window.deleted).saturating_sub(window.created + window.passing);
        let at_most = owned_then + window.rise;
        let gone = window.deleted + deletes;
        let is_emptied = !inputs.desired.resources.keys().any(|key| key.kind == name);
        let verdict = Limited {
            deletes: if deletes == 0 {
                None
            } else if is_emptied {
                Some(Hold::KindEmptied)
            } else if plan.refused_renames.contains(name) {
                Some(Hold::MaybeRename(NewName::Refused))
            } else if kind.has_rename() && (count(&[Action::Create]) > 0 || plan.waiting_creates.contains(name)) {
                Some(Hold::MaybeRename(NewName::Planned))
            } else {
                let against = |owned| inputs.guards.against(name, gone, owned);
                against(owned_then).or_else(|| against(at_most))
            },
            losses: (losses > 0).then(|| inputs.guards.against(name, gone + losses, owned)).flatten(),
            numbers: [gone + losses, updates],
            of: [
                if losses > 0 {
                    owned
                } else if inputs.guards.deletes.is_exceeded_in_share(gone, owned_then) {
                    owned_then
                } else {
                    at_most
                },
                owned,
            ],
            updates: inputs
                .guards
                .max_change_percent
                .filter(|percent| exceeds(*percent, updates, owned))
                .map(|_| Hold::MaxChangePercent),
        };
        verdicts.insert(name, verdict);
    }
    verdicts
}
