//! What holds a change back: the policy, the first contact, lists that answer too little, and deletes that look like
//! an accident.
//!
//! A guard never stops the whole: it marks the dangerous changes, and the safe ones go ahead. What it marks can be
//! approved by fingerprint, except what only time or the config can release.

use super::Change;
use super::Inputs;
use super::Live;
use super::Ownership;
use super::Plan;
use super::Policy;
use super::Slot;
use crate::desired::Desired;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Write;
use crate::resource::fold;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
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
    /// The same for updates and renames of one plan; `None`: off.
    pub max_change_percent: Option<f64>,
}

/// Below this many owned resources a percentage says nothing: one of three is a third.
pub const PERCENT_COUNTS_FROM: usize = 5;

impl Guards {
    /// Which guard, if any, says that losing `gone` of `owned` resources of this kind is too much at once?
    pub fn against(&self, kind: &str, gone: usize, owned: usize) -> Option<Hold> {
        let most = self.max_deletes.get(kind).copied().unwrap_or(self.default_max_deletes);
        if gone > most {
            Some(Hold::MaxDeletes)
        } else if exceeds(self.max_delete_percent, gone, owned) {
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

/// Why a change waits. The earlier one wins where several apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// The policy does not permit it; nobody can approve it.
    Policy,
    /// The list of this kind lacks more of what we own than the guards allow to disappear.
    ObservationShrank,
    /// The YAML declares none of this kind any more, or does not name it.
    KindEmptied,
    /// Something of this kind is created as well, or a rename of it refused: it may be one resource under a new name.
    MaybeRename,
    /// More deletes in 24 hours than `maxDeletes`.
    MaxDeletes,
    /// More deletes in 24 hours than `maxDeletePercent`.
    MaxDeletePercent,
    /// More updates in one plan than `maxChangePercent`.
    MaxChangePercent,
    /// The call would reset a field that nobody declares or can read. An approval counts for one write.
    WouldReset,
    /// The project was never seen before and is not empty. What a guard holds is held by that: to let the first contact
    /// go ahead is no word on guards.
    FirstContact,
    /// It left the YAML less than `deleteAfter` ago. Time alone releases it.
    DeleteAfter,
    /// The project only observes for now. Of an `apply` alone: a daemon keeps the changes of a suspended project waiting.
    Suspended,
}

impl Hold {
    /// All of a daemon, for metrics that start at 0.
    pub const ALL: [Self; 10] = [
        Self::Policy,
        Self::ObservationShrank,
        Self::KindEmptied,
        Self::MaybeRename,
        Self::MaxDeletes,
        Self::MaxDeletePercent,
        Self::MaxChangePercent,
        Self::WouldReset,
        Self::FirstContact,
        Self::DeleteAfter,
    ];

    /// The word in plan, status and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::FirstContact => "first_contact",
            Self::ObservationShrank => "observation_shrank",
            Self::KindEmptied => "kind_emptied",
            Self::MaybeRename => "maybe_rename",
            Self::MaxDeletes => "max_deletes",
            Self::MaxDeletePercent => "max_delete_percent",
            Self::MaxChangePercent => "max_change_percent",
            Self::WouldReset => "would_reset",
            Self::DeleteAfter => "delete_after",
            Self::Suspended => "suspended",
        }
    }

    /// Can an operator let it go ahead?
    pub fn can_be_approved(&self) -> bool {
        match self {
            Self::Policy | Self::DeleteAfter | Self::Suspended => false,
            Self::FirstContact
            | Self::ObservationShrank
            | Self::KindEmptied
            | Self::MaybeRename
            | Self::MaxDeletes
            | Self::MaxDeletePercent
            | Self::MaxChangePercent
            | Self::WouldReset => true,
        }
    }
}

/// What was deleted of one kind in the trailing 24 hours, since the last approval, without what was approved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Deletes done.
    pub deleted: usize,
    /// How many of the owned resources of now were created since the window began.
    pub created: usize,
}

/// Kinds whose list lacks so much of what we own that it is not believed, with how much. Ask once more before you
/// hold them.
pub fn shrunk(
    owned: &BTreeMap<Key, Ownership>,
    desired: &Desired,
    live: impl Fn(&Key) -> Option<bool>,
    renamed: &dyn Fn(&Key, &Key) -> bool,
    guards: &Guards,
) -> Vec<(&'static str, usize)> {
    let other_names = other_names(owned, desired, renamed);
    // What both sides no longer have, nobody misses.
    let is_declared = |key: &Key| {
        let declared = |key: &Key| desired.resources.contains_key(key);
        declared(key) || other_names.get(key).is_some_and(declared)
    };
    let mut counts: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    for (key, ownership) in owned {
        let Some(is_live) = live(key) else { continue };
        let is_live = is_live || other_names.get(key).and_then(&live).unwrap_or_default();
        let (gone, all) = counts.entry(key.kind).or_default();
        *all += 1;
        *gone += usize::from(!is_live && !ownership.fresh && is_declared(key));
    }
    let is_too_much =
        |(kind, (gone, all)): &(&'static str, (usize, usize))| guards.against(kind, *gone, *all).is_some();
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
        (!super::is_over(owned, renamed, &old, &declared.key)).then(|| (declared.key.clone(), old))
    });
    pairs.flat_map(|(new, old)| [(new.clone(), old.clone()), (old, new)]).collect()
}

/// Marks what may not go ahead, and says what deletes drag along.
pub fn hold(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    let is_live = |key: &Key| live.is_observed(key.kind).then(|| live.get(key).is_some());
    for (kind, gone) in shrunk(inputs.owned, inputs.desired, is_live, inputs.renamed, inputs.guards) {
        plan.warnings.push(format!(
            "Descope's list of {kind} lacks {gone} that this daemon owns; nothing of {kind} is changed until that is \
             approved"
        ));
        plan.shrunk.insert(kind);
    }
    let is_held_whole = inputs.first_contact && may_be_filled(inputs, live, plan);
    let verdicts = verdicts(inputs, plan);
    for change in &mut plan.changes {
        let first_contact = is_held_whole.then_some(Hold::FirstContact);
        change.held = if !is_permitted(inputs.policy, change) {
            Some(Hold::Policy)
        } else if plan.shrunk.contains(change.key.kind) {
            Some(Hold::ObservationShrank)
        } else {
            let verdict = verdicts.get(change.key.kind).and_then(|verdict| verdict.on(change, inputs.owned));
            let would_reset = change.would_reset.map(|_| Hold::WouldReset);
            // The earlier reason wins.
            verdict.into_iter().chain(would_reset).chain(first_contact).min()
        };
        // An approval begins a new count, which may leave nothing to hold the delete that it was for.
        let may_be_approved = match &change.held {
            Some(hold) => hold.can_be_approved() || change.is_early,
            None => change.action == Action::Delete,
        };
        if may_be_approved {
            change.digest = digest(inputs.scope, change, live, &plan.shrunk).into();
            if (inputs.is_approved)(&change.digest) {
                change.approve();
            }
        }
    }
    hold_tenants(&mut plan.changes);
    hold_dependents(&mut plan.changes);
    for change in &mut plan.changes {
        if change.can_be_approved() && change.digest.is_empty() {
            change.digest = digest(inputs.scope, change, live, &plan.shrunk).into();
        }
    }
    if inputs.policy == Policy::Sync {
        plan.warnings.extend(consequences(&plan.changes, live));
        plan.warnings.extend(rename_remedies(plan));
    }
}

fn is_permitted(policy: Policy, change: &Change) -> bool {
    policy.permits(change.action) || change.completes && policy.permits(Action::Create)
}

/// Does the project hold anything that Descope did not put there? A kind that did not answer may hold anything, one that
/// is refused for good as well: somebody has to say once that this is fine, for what it holds is changed without asking
/// should it answer later.
fn may_be_filled(inputs: &Inputs<'_>, live: &Live<'_>, plan: &Plan) -> bool {
    let is_builtin = |key: &Key| {
        let (kind, document) = (resource::kind(key.kind), live.get(key));
        kind.zip(document)
            .is_none_or(|(kind, document)| kind.is_builtin(document, inputs.builtin_roles) || kind.is_unset(document))
    };
    !plan.unobserved.is_empty() || !live.keys().into_iter().all(is_builtin)
}

fn has_rename(key: &Key) -> bool {
    resource::kind(key.kind).is_some_and(Kind::has_rename)
}

/// What the guards say about one kind.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    deletes: Option<Hold>,
    updates: Option<Hold>,
}

impl Verdict {
    fn on(self, change: &Change, owned: &BTreeMap<Key, Ownership>) -> Option<Hold> {
        match change.action {
            Action::Create => None,
            Action::Update | Action::Rename => self.updates,
            Action::Delete => {
                let replaced = owned.get(&change.key).is_some_and(|ownership| ownership.replaced);
                let replaced = (replaced && has_rename(&change.key)).then_some(Hold::MaybeRename);
                // The earlier reason wins.
                let guard = self.deletes.into_iter().chain(replaced).min();
                guard.or_else(|| change.is_early.then_some(Hold::DeleteAfter))
            }
        }
    }
}

fn verdicts(inputs: &Inputs<'_>, plan: &Plan) -> HashMap<&'static str, Verdict> {
    let mut verdicts = HashMap::new();
    for kind in resource::ALL {
        let name = kind.name();
        let count = |actions: &[Action]| {
            plan.changes.iter().filter(|change| change.key.kind == name && actions.contains(&change.action)).count()
        };
        let deletes = count(&[Action::Delete]);
        let updates = count(&[Action::Update, Action::Rename]);
        if deletes + updates == 0 {
            continue;
        }
        let owned = inputs.owned.keys().filter(|key| key.kind == name).count();
        let window = inputs.windows.get(name).copied().unwrap_or_default();
        // A project that was filled today owned next to nothing before: there the share is of what is owned now.
        let with_new = owned + window.deleted;
        let owned_then = with_new.saturating_sub(window.created);
        let is_emptied = !inputs.desired.resources.keys().any(|key| key.kind == name);
        let verdict = Verdict {
            deletes: if deletes == 0 {
                None
            } else if is_emptied {
                Some(Hold::KindEmptied)
            } else if plan.refused_renames.contains(name)
                || kind.has_rename() && (count(&[Action::Create]) > 0 || plan.waiting_creates.contains(name))
            {
                Some(Hold::MaybeRename)
            } else {
                let against = |owned| inputs.guards.against(name, window.deleted + deletes, owned);
                against(owned_then).or_else(|| against(with_new))
            },
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

/// What keeps a role keeps its tenant, with which it would go. The earlier reason wins here as well.
fn hold_tenants(changes: &mut [Change]) {
    let mut kept: HashMap<Key, Hold> = HashMap::new();
    for change in changes.iter().filter(|change| change.action == Action::Delete) {
        if let Some((tenant, hold)) = change.key.home().zip(change.held) {
            let earliest = kept.entry(tenant).or_insert(hold);
            *earliest = hold.min(*earliest);
        }
    }
    for change in changes.iter_mut().filter(|change| change.action == Action::Delete) {
        change.held = change.held.into_iter().chain(kept.get(&change.key).copied()).min();
    }
}

/// What refers to a resource that is not created or renamed yet waits with it. Changes are in dependency order, but for
/// parts with calls of their own, so this repeats until nothing moves.
pub(super) fn hold_dependents(changes: &mut [Change]) {
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

/// Names in one warning; the rest is a number.
const NAMED: usize = 5;

/// What hangs on the resources that are deleted, as far as what was observed can tell.
fn consequences(changes: &[Change], live: &Live<'_>) -> Vec<String> {
    let deleted: BTreeSet<&Key> =
        changes.iter().filter(|change| change.action == Action::Delete).map(|change| &change.key).collect();
    if deleted.is_empty() {
        return Vec::new();
    }
    let mut hanging: BTreeMap<(&Key, bool), Vec<String>> = BTreeMap::new();
    for key in live.keys() {
        let (Some(kind), Some(document)) = (resource::kind(key.kind), live.get(key)) else { continue };
        for reference in kind.references(key, document, None).into_iter().collect::<BTreeSet<Key>>() {
            if let Some(gone) = deleted.get(&reference)
                && !deleted.contains(key)
            {
                let lives_in_it = key.home().as_ref() == Some(*gone);
                hanging.entry((*gone, lives_in_it)).or_default().push(key.to_string());
            }
        }
    }
    let sentence = |((key, lives_in_it), by): ((&Key, bool), Vec<String>)| {
        let more = by.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = by[..by.len().min(NAMED)].join(", ") + &more;
        if lives_in_it {
            format!("deleting {key} takes {named} along, which no file declares and this daemon does not own")
        } else {
            format!("deleting {key} takes it away from {named}")
        }
    };
    hanging.into_iter().map(sentence).collect()
}

fn rename_remedies(plan: &Plan) -> Vec<String> {
    let changes = &plan.changes;
    let held = changes.iter().filter(|change| change.held == Some(Hold::MaybeRename));
    let kinds: BTreeSet<&str> = held.map(|change| change.key.kind).collect();
    let names = |kind: &str, action: Action| {
        let of = changes.iter().filter(|change| change.key.kind == kind && change.action == action);
        of.map(|change| change.key.id()).take(NAMED).collect::<Vec<_>>().join(", ")
    };
    let sentence = |kind: &str| {
        let (deleted, created) = (names(kind, Action::Delete), names(kind, Action::Create));
        if plan.refused_renames.contains(kind) {
            return format!(
                "{kind}: {deleted} would be deleted beside a rename that cannot be carried out; settle that first, or \
                 approve the deletes"
            );
        }
        if created.is_empty() {
            return format!(
                "{kind}: {deleted} left the YAML and would be deleted, and another one was created since; if that is \
                 a rename, delete the new one in Descope and write `renamedFrom: OLD` on it, which keeps ids and \
                 assignments; if not, approve the deletes"
            );
        }
        format!(
            "{kind}: {deleted} would be deleted and {created} created; if that is a rename, write `renamedFrom: OLD` \
             on the new one, which keeps ids and assignments; if not, approve the deletes"
        )
    };
    kinds.into_iter().map(sentence).collect()
}

/// Identifies a change of this project and the observed body of its resource: an approval of it is void as soon as
/// either differs.
fn digest(scope: &str, change: &Change, live: &Live<'_>, shrunk: &BTreeSet<&'static str>) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{scope:?}\n"));
    // To accept a loss is another decision than to let a change go.
    if shrunk.contains(change.key.kind) {
        digest.update(Hold::ObservationShrank.as_str());
    }
    // Quoted: a project role `t/own` reads like the role `own` of the tenant `t`.
    digest.update(format!("{:?}\n{}\n", change.key, change.action.as_str()));
    for field in &change.fields {
        digest.update(format!("{:?} {}\n", field.path, field.to));
    }
    // What hangs on it goes as well: that was not approved with a plain delete.
    if change.tasks.iter().any(|task| matches!(task.write, Write::Delete { cascade: true })) {
        digest.update("cascade\n");
    }
    let present = change.tasks.iter().find_map(|task| match &task.write {
        Write::Overwrite { from, .. } => Some(Key { name: from.clone(), ..change.key.clone() }),
        Write::Create(_) | Write::Patch(_) | Write::Delete { .. } => None,
    });
    let body = live.get(present.as_ref().unwrap_or(&change.key)).zip(resource::kind(change.key.kind));
    // Of what it means: the order in which Descope answers is no other body.
    let body = body.map(|(document, kind)| fold::document(kind.spec(), document).to_string());
    digest.update(format!("{body:?}\n"));
    shortened(&digest)
}

/// Identifies all held changes that can be approved; empty where there is none.
pub fn fingerprint(changes: &[Change]) -> String {
    let mut digest_of_all = Sha256::new();
    let mut is_empty = true;
    for change in changes.iter().filter(|change| change.can_be_approved()) {
        is_empty = false;
        digest_of_all.update(&*change.digest);
    }
    if is_empty { String::new() } else { shortened(&digest_of_all) }
}

/// 64 bits in hex: enough to tell plans apart, short enough to copy.
fn shortened(digest: &Sha256) -> String {
    let digest = digest.clone().finalize();
    let half: [u8; 8] = std::array::from_fn(|n| digest[n]);
    format!("{:016x}", u64::from_be_bytes(half))
}
