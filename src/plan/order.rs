//! In which order, and in how many calls: stages, dependencies, batches.
//!
//! Creates and updates go kind by kind in the order of [`resource::ALL`] (tenants parents first), then what lives in a
//! tenant, then kinds that may name that, then the parts with a call of their own; deletes go last and the other way round.

use super::Change;
use super::Differing;
use super::FieldChange;
use super::Live;
use super::Need;
use super::Origin;
use super::Ownership;
use super::Slot;
use super::Task;
use super::digest;
use super::handover;
use super::handover::Claim;
use super::handover::claimed;
use super::incarnation;
use super::reliance;
use super::reliance::Reliance;
use super::write;
use crate::desired::Declared;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Part;
use crate::resource::Write;
use crate::resource::fold;
use crate::resource::refer;
use crate::resource::spec::Read;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use thin_vec::ThinVec;
use tokio::time::Instant;

/// Room between two kinds for parents before children. Descope's tenants nest far less deep.
const DEPTHS: u32 = 1000;

/// Is what a call names there, by the time it is sent?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// It is live, or on its way.
    There,
    /// It is not.
    Missing,
    /// Its kind is not looked at.
    Unseen,
}

/// The tasks of one declared resource; stage, batch and time are filled in by [`arrange`] and [`batch`].
pub fn tasks(
    kind: &dyn Kind,
    declared: &Arc<Declared>,
    live: Option<&Document>,
    action: Action,
    mut writes: Vec<(&'static Part, Write)>,
    (fields, differing): (&[FieldChange], &Differing),
    will_be_there: &dyn Fn(&Key) -> Presence,
) -> ThinVec<Task> {
    let seen = live.map_or(0, |live| digest(kind, live));
    let wanted = fold::digest_of_declared(&declared.fields) ^ seen.rotate_left(1);
    let reliances = reliance::in_turn(kind.spec(), &mut writes, fields);
    let mut before = None;
    let mut is_main_to_come = writes.iter().any(|(part, _)| part.name == MAIN);
    let task = |(part, write): (&'static Part, Write)| {
        let mut after =
            write.body().map_or_else(Vec::new, |body| kind.references(&declared.key, body, Some(part.name)));
        // Another file for the secret is worth another try as well.
        let there = presence(&after, will_be_there);
        let names_unseen = after.iter().any(|key| will_be_there(key) == Presence::Unseen);
        let cause = mixed(wanted, &(there, seen_apart(part, live), &declared.secret_file));
        is_main_to_come &= part.name != MAIN;
        if part.name != MAIN && !is_main_to_come {
            after.push(declared.key.clone());
        }
        let own = write::fields_of(kind, (part, &write), declared, (fields, differing));
        // One after the other: what fails holds up what comes after it.
        let before = before.replace(part.name).map(|part| Slot { key: declared.key.clone(), part });
        // What came in between may be held, and then holds nothing up.
        let needs = needs(&declared.key, part, &reliances);
        let relied = needs.iter().map(|need| need.slot.clone());
        Task {
            slot: Slot { key: declared.key.clone(), part: part.name },
            // A part of its own exists as soon as the resource does: writing it is an update.
            action: if part.name == MAIN { action } else { Action::Update },
            after: after.into_iter().map(|key| Slot { key, part: MAIN }).chain(before).chain(relied).collect(),
            needs,
            names_unseen,
            frees: ThinVec::new(),
            declared: part.carries_unlisted().then(|| Arc::clone(declared)),
            meant: Some(Arc::clone(declared)),
            calls: kind.calls(
                part,
                &write,
                live,
                &own.list().iter().map(|change| change.path.to_string()).collect::<Vec<_>>(),
            ),
            write: write.planned(declared),
            id: live.and_then(|live| kind.server_id(live)).map(Arc::from),
            stage: 0,
            batch: 0,
            ownership: Ownership {
                created: action == Action::Create,
                fresh: action == Action::Create,
                replaced: false,
                replaces: false,
                protected: declared.protected.unwrap_or_default(),
                cascade_delete: declared.cascade_delete.unwrap_or_default(),
                missing_for: None,
            },
            approval: None,
            observed_at: Instant::now(),
            cause,
            wanted,
            seen,
            incarnation: live.map_or(0, |live| incarnation(kind, live)),
            fields: own,
            drifted: None,
            origin: Origin::unknown(),
        }
    };
    writes.into_iter().map(task).collect()
}

fn needs(key: &Key, part: &Part, reliances: &[Reliance]) -> ThinVec<Need> {
    let own = reliances.iter().filter(|reliance| reliance.part == part.name);
    let need = |reliance: &Reliance| Need {
        slot: Slot { key: key.clone(), part: reliance.on },
        why: format!("with {} in the same files it waits for", reliance.switch).into(),
    };
    own.map(need).collect()
}

/// What a part was compared with that no list shows.
fn seen_apart(part: &Part, live: Option<&Document>) -> u64 {
    let Some(live) = live.filter(|_| part.read == Read::Each) else { return 0 };
    let shown =
        part.fields.iter().filter_map(|field| Some((field.name, fold::folded(field.shape, live.get(field.name)?))));
    let mut hasher = DefaultHasher::new();
    shown.for_each(|(name, value)| (name, value.to_string()).hash(&mut hasher));
    hasher.finish()
}

/// A cause that is another one whenever `with` is.
pub fn mixed(cause: u64, with: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (cause, with).hash(&mut hasher);
    hasher.finish()
}

/// What refers to something that was not there is worth another try once it is.
fn presence(references: &[Key], will_be_there: &dyn Fn(&Key) -> Presence) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Whatever their order in an answer was.
    for reference in references.iter().collect::<BTreeSet<&Key>>() {
        (reference, will_be_there(reference)).hash(&mut hasher);
    }
    hasher.finish()
}

/// The task that removes what is live.
pub fn deletion(key: &Key, live: &Document, cascade: bool) -> Task {
    let kind = resource::kind(key.kind);
    let seen = kind.map_or(0, |kind| digest(kind, live));
    let id = kind.and_then(|kind| kind.server_id(live)).map(Arc::from);
    Task {
        slot: Slot { key: key.clone(), part: MAIN },
        action: Action::Delete,
        write: Write::Delete { cascade },
        id,
        after: ThinVec::new(),
        needs: ThinVec::new(),
        names_unseen: false,
        frees: ThinVec::new(),
        declared: None,
        meant: None,
        calls: 1,
        stage: 0,
        batch: 0,
        ownership: Ownership::default(),
        approval: None,
        observed_at: Instant::now(),
        cause: seen,
        wanted: 0,
        seen,
        incarnation: kind.map_or(0, |kind| incarnation(kind, live)),
        fields: Differing::default(),
        drifted: None,
        origin: Origin::unknown(),
    }
}

/// Settles stages and dependencies, and sorts the changes into the order in which they are sent.
pub fn arrange(changes: &mut [Change], observed_at: Instant, live: &Live<'_>) {
    let depths = depths(changes);
    let claims = claims(changes);
    let deletes = tasks_of(changes).filter(|task| task.action == Action::Delete);
    let deletes: HashMap<Key, u32> = deletes.map(|task| (task.slot.key.clone(), stage(task, &depths))).collect();
    let mut needs: HashMap<Slot, Vec<Need>> = HashMap::new();
    for change in changes.iter_mut().filter(|change| change.action == Action::Delete) {
        let after = releases(change, deletes.get(&change.key).copied().unwrap_or_default(), &deletes);
        let heirs = heirs(change, live, &claims);
        for (heir, claim) in &heirs {
            let slot = Slot { key: change.key.clone(), part: MAIN };
            needs.entry(heir.clone()).or_default().push(handover::need(slot, claim));
        }
        let heirs: ThinVec<Slot> = heirs.into_keys().collect();
        for task in &mut change.tasks {
            (task.after, task.frees) = (after.clone(), heirs.clone());
        }
    }
    if !needs.is_empty() {
        for task in changes.iter_mut().flat_map(|change| &mut change.tasks) {
            task.needs.extend(needs.remove(&task.slot).unwrap_or_default());
        }
    }
    for change in changes.iter_mut() {
        let mut first = 0;
        for task in &mut change.tasks {
            // One after the other, also where the order of the table is not theirs.
            task.stage = stage(task, &depths).max(first);
            first = task.stage;
        }
    }
    let named: HashSet<&Slot> = tasks_of(changes).flat_map(|task| &task.after).collect();
    let planned = tasks_of(changes).map(|task| &task.slot).filter(|slot| named.contains(slot));
    let planned: HashSet<Slot> = planned.cloned().collect();
    for task in changes.iter_mut().flat_map(|change| &mut change.tasks) {
        task.observed_at = observed_at;
        let own = task.slot.clone();
        task.after.retain(|slot| *slot != own && planned.contains(slot));
        task.after.sort();
        task.after.dedup();
    }
    let turn = |change: &Change| change.tasks.first().map(|task| task.stage);
    // A new project's are, as they are declared: nothing as large as they are is made to sort them.
    if !changes.is_sorted_by(|one, next| (turn(one), &one.key) <= (turn(next), &next.key)) {
        changes.sort_by_cached_key(|change| (turn(change), change.key.clone()));
    }
}

fn tasks_of(changes: &[Change]) -> impl Iterator<Item = &Task> {
    changes.iter().flat_map(|change| &change.tasks)
}

/// What has to go before this delete: all that lets go of it, and what refers to it and is deleted as well. Of two that
/// refer to one another, as a tenant and what lives in it, the one that is first by stage goes first.
fn releases(change: &Change, stage: u32, deletes: &HashMap<Key, u32>) -> ThinVec<Slot> {
    let is_earlier = |key: &&Key| deletes.get(*key).is_some_and(|other| *other <= stage);
    let together = change.ties().together.iter().filter(is_earlier);
    let together = together.map(|key| Slot { key: key.clone(), part: MAIN });
    change.ties().letting_go.iter().cloned().chain(together).collect()
}

/// What wants what this delete gives up: a value that one resource of the kind alone may have.
fn heirs(change: &Change, live: &Live<'_>, claims: &HashMap<Claim, Vec<Slot>>) -> BTreeMap<Slot, Claim> {
    let Some(document) = live.get(&change.key) else { return BTreeMap::new() };
    let claimed = claimed(change.key.kind, &document);
    let by_claim = claimed.filter_map(|claim| Some((claims.get(&claim)?, claim)));
    by_claim.flat_map(|(heirs, claim)| heirs.iter().map(move |heir| (heir.clone(), claim.clone()))).collect()
}

/// What is asked for of kinds of which something is deleted.
fn claims(changes: &[Change]) -> HashMap<Claim, Vec<Slot>> {
    let losing: HashSet<&str> =
        changes.iter().filter(|change| change.action == Action::Delete).map(|change| change.key.kind).collect();
    let mut claims: HashMap<Claim, Vec<Slot>> = HashMap::new();
    for task in tasks_of(changes).filter(|task| losing.contains(task.slot.key.kind)) {
        for claim in handover::claims(task) {
            claims.entry(claim).or_default().push(task.slot.clone());
        }
    }
    claims
}

/// How many of a resource's ancestors, of its own kind, are created in this plan.
fn depths(changes: &[Change]) -> HashMap<Key, u32> {
    let parents: HashMap<&Key, &Key> = tasks_of(changes)
        .filter(|task| task.action == Action::Create)
        .filter_map(|task| {
            let parent = task.after.iter().find(|slot| slot.key.kind == task.slot.key.kind)?;
            Some((&task.slot.key, &parent.key))
        })
        .collect();
    let depth = |key: &Key| {
        let ancestors = std::iter::successors(parents.get(key), |parent| parents.get(**parent));
        u32::try_from(ancestors.take(DEPTHS as usize - 1).count()).unwrap_or(DEPTHS - 1)
    };
    parents.keys().map(|key| ((*key).clone(), depth(key))).collect()
}

fn stage(task: &Task, depths: &HashMap<Key, u32>) -> u32 {
    let kinds = u32::try_from(resource::ALL.len()).unwrap_or(u32::MAX);
    let position = resource::ALL.iter().position(|kind| kind.name() == task.slot.key.kind);
    let position = position.and_then(|position| u32::try_from(position).ok()).unwrap_or(kinds);
    let spec = resource::kind(task.slot.key.kind).map(Kind::spec);
    let rank = match (task.slot.part, &task.slot.key.tenant) {
        (MAIN, None) if spec.is_some_and(|spec| refer::may_name_inhabitants(spec.main())) => 2 * kinds + position,
        (MAIN, None) => position,
        (MAIN, Some(_)) => kinds + position,
        (part, _) => {
            let parts = spec.map_or(&[][..], |spec| spec.parts);
            let turn = parts.iter().position(|each| each.name == part).and_then(|turn| u32::try_from(turn).ok());
            3 * kinds + turn.unwrap_or_default()
        }
    };
    let forward = rank * DEPTHS + depths.get(&task.slot.key).copied().unwrap_or(0);
    if task.action == Action::Delete { u32::MAX - forward } else { forward }
}

/// Puts what can go together into one call.
pub fn batch(changes: &mut [Change]) {
    let mut open: BTreeMap<(u32, bool, &str, Sort), (u32, usize)> = BTreeMap::new();
    let mut next = 0;
    for change in changes {
        let is_sent = change.held.is_none();
        for task in &mut change.tasks {
            let size = resource::kind(task.slot.key.kind)
                .map_or(1, |kind| kind.batch_size(task.slot.part, &task.write.with(|_| ())));
            let (number, room) = open.entry((task.stage, is_sent, task.slot.part, Sort::of(task))).or_insert((0, 0));
            if *room == 0 {
                (*number, *room) = (next, size);
                next += 1;
            }
            task.batch = *number;
            *room -= 1;
        }
    }
}

/// What the writes of one call have in common. Renames go by themselves: they are not repeatable, updates are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Create,
    Overwrite { is_repeatable: bool },
    Patch,
    Delete { tenant: Option<Arc<str>>, cascade: bool },
}

impl Sort {
    fn of(task: &Task) -> Self {
        match &task.write {
            Write::Create(_) => Self::Create,
            Write::Overwrite { .. } => Self::Overwrite { is_repeatable: task.write.is_repeatable(&task.slot.key) },
            Write::Patch(_) => Self::Patch,
            Write::Delete { cascade } => Self::Delete { tenant: task.slot.key.tenant.clone(), cascade: *cascade },
        }
    }
}
