//! What stands in the way of a change and lies in another resource: a name or domain that one resource alone may have, and
//! whatever refers to what is to be deleted. Who gives it up goes first, and what was refused for it is tried again when the
//! other changes.

use super::Body;
use super::Change;
use super::Live;
use super::Need;
use super::Plan;
use super::Refusal;
use super::Slot;
use super::Task;
use super::digest;
use super::order::mixed;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Shape;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// A value that one resource of a kind alone may have: kind, field, value.
pub type Claim = (&'static str, &'static str, String);

/// What a document says of such values.
#[derive(Debug, Default)]
struct Said {
    /// The fields that it has, maybe with no value.
    fields: Box<[&'static str]>,
    /// Their values.
    claims: Box<[Claim]>,
}

impl Said {
    /// Of what stands in these fields of a kind.
    fn of(kind: &'static str, fields: &'static [Field], document: &Document) -> Self {
        let mut found = BTreeMap::new();
        collect(fields, document, &mut found);
        let values = |(field, values): (&'static str, BTreeSet<String>)| {
            values.into_iter().map(move |value| (kind, field, value))
        };
        Self { fields: found.keys().copied().collect(), claims: found.into_iter().flat_map(values).collect() }
    }

    /// It sets this field, and to something else.
    fn gives_up(&self, claim: &Claim) -> bool {
        self.fields.contains(&claim.1) && !self.claims.contains(claim)
    }
}

/// Values that calls of a plan set, as good as all of a project's: no more is kept of them than what finds those that are
/// among them, and perhaps one that is not.
#[derive(Debug, Default)]
struct Wanted {
    fields: HashSet<(&'static str, &'static str)>,
    hashes: HashSet<u64>,
}

impl Wanted {
    /// Is any of them of this field?
    fn has_field(&self, kind: &str, field: &str) -> bool {
        self.fields.contains(&(kind, field))
    }

    fn may_have(&self, claim: &Claim) -> bool {
        self.hashes.contains(&hash(claim))
    }
}

impl FromIterator<Claim> for Wanted {
    fn from_iter<I: IntoIterator<Item = Claim>>(claims: I) -> Self {
        let mut wanted = Self::default();
        for claim in claims {
            wanted.fields.insert((claim.0, claim.1));
            wanted.hashes.insert(hash(&claim));
        }
        wanted
    }
}

fn hash(claim: &Claim) -> u64 {
    mixed(0, claim)
}

/// What waits until others gave up a value.
type Waits = BTreeMap<Slot, BTreeMap<Slot, Claim>>;

/// Puts updates that give up a value before what wants it, and refuses those that wait for one another: names in between
/// would be seen by everybody who signs in.
pub fn arrange(plan: &mut Plan, live: &Live<'_>) {
    note_referrers(&mut plan.changes, live);
    // Where nothing is there yet, nothing stands in the way.
    let kinds: HashSet<&str> = plan.changes.iter().map(|change| change.key.kind).collect();
    let kinds: HashSet<&str> =
        kinds.into_iter().filter(|kind| !exclusive(kind).is_empty() && live.has_any(kind)).collect();
    let of_them = plan.changes.iter().filter(|change| kinds.contains(change.key.kind));
    let said = of_them.flat_map(|change| &change.tasks).map(|task| (&task.slot, said_by(task)));
    // As a rule nobody has what is wanted: only what somebody does is kept.
    let wanted: Wanted = said.clone().flat_map(|(_, said)| said.claims).collect();
    let holders = holders(&kinds, &wanted, live);
    if holders.is_empty() {
        return;
    }
    let holding: HashSet<&Key> = holders.values().flatten().copied().collect();
    let is_held = |(slot, said): &(&Slot, Said)| {
        holding.contains(&slot.key) || said.claims.iter().any(|claim| holders.contains_key(claim))
    };
    let said: BTreeMap<Slot, Said> = said.filter(is_held).map(|(slot, said)| (slot.clone(), said)).collect();
    let mut waits = Waits::new();
    for change in &mut plan.changes {
        for task in &mut change.tasks {
            for claim in said.get(&task.slot).into_iter().flat_map(|said| &said.claims) {
                // What it has already nobody takes from it, and what two have is not theirs alone.
                let Some([holder]) = holders.get(claim).map(Vec::as_slice).filter(|all| **all != [&change.key]) else {
                    continue;
                };
                let seen = resource::kind(holder.kind).zip(live.get(holder));
                let seen = seen.map_or(0, |(kind, document)| digest(kind, &document));
                task.cause = mixed(task.cause, &(holder, seen, claim));
                if let Some(slot) = gives_up(holder, claim, &said) {
                    waits.entry(task.slot.clone()).or_default().insert(slot, claim.clone());
                }
            }
        }
    }
    refuse_circles(plan, &waits);
    let mut frees: HashMap<&Slot, Vec<Slot>> = HashMap::new();
    for (slot, holders) in &waits {
        for holder in holders.keys() {
            frees.entry(holder).or_default().push(slot.clone());
        }
    }
    for task in plan.changes.iter_mut().flat_map(|change| &mut change.tasks) {
        if let Some(holders) = waits.get(&task.slot) {
            task.needs.extend(holders.iter().map(|(slot, claim)| need(slot.clone(), claim)));
            task.after.extend(holders.keys().cloned());
            task.after.sort();
            task.after.dedup();
        }
        // Held for long, it frees what was refused meanwhile.
        task.frees.extend(frees.remove(&task.slot).unwrap_or_default());
    }
}

/// Of what wants a value that the call of `slot` gives up.
pub fn need(slot: Slot, (_, field, value): &Claim) -> Need {
    Need { slot, why: format!("its {field} {value:?} is still that of").into() }
}

/// Who has what is wanted.
fn holders<'l>(kinds: &HashSet<&str>, wanted: &Wanted, live: &'l Live<'_>) -> HashMap<Claim, Vec<&'l Key>> {
    let mut holders: HashMap<Claim, Vec<&Key>> = HashMap::new();
    for kind in kinds {
        let fields: Vec<&str> = exclusive(kind).into_iter().filter(|field| wanted.has_field(kind, field)).collect();
        for (key, document) in live.fields_of(kind, &fields) {
            for claim in claimed(key.kind, &document).filter(|claim| wanted.may_have(claim)) {
                holders.entry(claim).or_default().push(key);
            }
        }
    }
    holders
}

/// The call that writes another value over what its resource has.
fn gives_up(holder: &Key, claim: &Claim, said: &BTreeMap<Slot, Said>) -> Option<Slot> {
    let parts = resource::kind(holder.kind)?.spec().parts;
    let mut slots = parts.iter().map(|part| Slot { key: holder.clone(), part: part.name });
    slots.find(|slot| said.get(slot).is_some_and(|said| said.gives_up(claim)))
}

/// The fields of a kind whose values one resource alone may have, as its list shows them.
fn exclusive(kind: &str) -> Vec<&'static str> {
    let fields = resource::kind(kind).into_iter().flat_map(|kind| kind.spec().main().fields);
    fields.filter(|field| field.exclusive).map(|field| field.name).collect()
}

/// What a list shows that the resource alone may have.
pub fn claimed(kind: &'static str, live: &Document) -> impl Iterator<Item = Claim> {
    let kind = resource::kind(kind);
    let said = kind.map(|kind| Said::of(kind.name(), kind.spec().main().fields, live)).unwrap_or_default();
    said.claims.into_iter()
}

/// Every value that the resource will have once this is done, of those that it alone may have.
pub fn claims(task: &Task) -> impl Iterator<Item = Claim> {
    said_by(task).claims.into_iter()
}

/// What a call says of them.
fn said_by(task: &Task) -> Said {
    let kind = resource::kind(task.slot.key.kind);
    let part = kind.zip(kind.and_then(|kind| kind.spec().part(task.slot.part)));
    let Some((kind, part)) = part.filter(|(_, part)| has_exclusive(part.fields)) else { return Said::default() };
    let body = task.write.body().and_then(Body::read);
    body.map(|body| Said::of(kind.name(), part.fields, &body)).unwrap_or_default()
}

fn has_exclusive(fields: &'static [Field]) -> bool {
    let inside = |shape| matches!(shape, Shape::Object(fields) | Shape::Items { fields, .. } if has_exclusive(fields));
    fields.iter().any(|field| field.exclusive || inside(field.shape))
}

/// Fields of one name are one, wherever they stand. Letter case means nothing in a domain.
fn collect(fields: &'static [Field], document: &Document, found: &mut BTreeMap<&'static str, BTreeSet<String>>) {
    for field in fields {
        match (field.shape, document.get(field.name)) {
            (Shape::Object(inside), Some(Value::Object(object))) => collect(inside, object, found),
            (Shape::Items { fields: inside, .. }, Some(Value::Array(items))) => {
                items.iter().filter_map(Value::as_object).for_each(|item| collect(inside, item, found));
            }
            (_, Some(value)) if field.exclusive => {
                let texts = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let meant = |text: &str| if field.is_domains { text.to_lowercase() } else { text.to_owned() };
                let texts = texts.iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
                found.entry(field.name).or_default().extend(texts.map(meant));
            }
            _ => {}
        }
    }
}

/// A refused delete is worth another try when something else refers to it than before.
fn note_referrers(changes: &mut [Change], live: &Live<'_>) {
    let deleted: HashSet<Key> =
        changes.iter().filter(|change| change.action == Action::Delete).map(|change| change.key.clone()).collect();
    if deleted.is_empty() {
        return;
    }
    let mut referrers: HashMap<Key, BTreeSet<&Key>> = HashMap::new();
    for (key, document) in live.documents(|_| true) {
        let Some(kind) = resource::kind(key.kind) else { continue };
        for reference in kind.references(key, &*document, None).into_iter().filter(|to| deleted.contains(to)) {
            referrers.entry(reference).or_default().insert(key);
        }
    }
    for change in changes.iter_mut().filter(|change| change.action == Action::Delete) {
        let referrers = referrers.get(&change.key);
        for task in &mut change.tasks {
            task.cause = referrers.map_or(task.cause, |referrers| mixed(task.cause, referrers));
        }
    }
}

/// Updates that wait for one another can never be carried out. What else is to be done of their resources is.
fn refuse_circles(plan: &mut Plan, waits: &Waits) {
    let circle = circle(plan, waits);
    if circle.is_empty() {
        return;
    }
    for mut change in std::mem::take(&mut plan.changes) {
        let obstacle = |task: &Task| {
            let holders = waits.get(&task.slot).filter(|_| circle.contains(&task.slot))?;
            holders.iter().find(|(holder, _)| circle.contains(holder))
        };
        let refused = change.tasks.iter().find_map(obstacle);
        let Some((place, (holder, (_, field, value)))) = change.place.clone().zip(refused) else {
            plan.changes.push(change);
            continue;
        };
        let message = format!(
            "{field} {value:?} is still that of {}, which waits for {} in turn, so that none of them can go first; declare \
             another {field} for one of them, and the final ones once that is done",
            holder.key, change.key
        );
        plan.refused.push(Refusal { key: change.key.clone(), message, place: Some(place) });
        change.tasks.retain(|task| obstacle(task).is_none());
        if !change.tasks.is_empty() {
            change.fields = change.tasks.iter().flat_map(|task| task.fields.list().into_owned()).collect();
            plan.changes.push(change);
        }
    }
}

/// The calls that come round to themselves, by what they want or by what goes before them anyway.
fn circle(plan: &Plan, waits: &Waits) -> BTreeSet<Slot> {
    let tasks = plan.changes.iter().flat_map(|change| &change.tasks);
    let tasks: HashMap<&Slot, &Task> =
        if waits.is_empty() { HashMap::new() } else { tasks.map(|task| (&task.slot, task)).collect() };
    let before = |slot: &Slot| {
        let wanted = waits.get(slot).into_iter().flat_map(BTreeMap::keys);
        let after = tasks.get(slot).into_iter().flat_map(|task| &task.after);
        wanted.chain(after).filter_map(|slot| Some(tasks.get(slot)?.slot.clone())).collect::<BTreeSet<Slot>>()
    };
    // What waits for nobody goes, then what waited for that.
    let mut open: HashMap<Slot, BTreeSet<Slot>> = HashMap::new();
    let mut followers: HashMap<Slot, Vec<Slot>> = HashMap::new();
    let mut next: Vec<Slot> = waits.keys().cloned().collect();
    while let Some(slot) = next.pop() {
        if open.contains_key(&slot) {
            continue;
        }
        let before = before(&slot);
        for other in &before {
            followers.entry(other.clone()).or_default().push(slot.clone());
        }
        next.extend(before.iter().cloned());
        open.insert(slot, before);
    }
    let mut free: Vec<Slot> =
        open.iter().filter(|(_, before)| before.is_empty()).map(|(slot, _)| slot.clone()).collect();
    while let Some(slot) = free.pop() {
        open.remove(&slot);
        for follower in followers.remove(&slot).unwrap_or_default() {
            if let Some(before) = open.get_mut(&follower)
                && before.remove(&slot)
                && before.is_empty()
            {
                free.push(follower);
            }
        }
    }
    let reaches_itself = |slot: &&Slot| {
        let mut seen: BTreeSet<&Slot> = BTreeSet::new();
        let mut next: Vec<&Slot> = open.get(*slot).into_iter().flatten().collect();
        while let Some(other) = next.pop() {
            if other == *slot {
                return true;
            }
            if seen.insert(other) {
                next.extend(open.get(other).into_iter().flatten());
            }
        }
        false
    };
    open.keys().filter(reaches_itself).cloned().collect()
}
