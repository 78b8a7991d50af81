//! What stands in the way of a change and lies in another resource: a name or domain that one resource alone may have, and
//! whatever refers to what is to be deleted. Who gives it up goes first, and what was refused for it is tried again when the
//! other changes.

use super::Body;
use super::Change;
use super::Live;
use super::Plan;
use super::Refusal;
use super::Slot;
use super::digest;
use super::order::mixed;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::MAIN;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// A value that one resource of a kind alone may have: kind, field, value.
pub type Claim = (&'static str, &'static str, String);

/// Puts updates that give up a value before what wants it, and refuses those that wait for one another: names in between
/// would be seen by everybody who signs in.
pub fn arrange(plan: &mut Plan, live: &Live<'_>) {
    note_referrers(&mut plan.changes, live);
    // Where nothing is there yet, nothing stands in the way.
    let kinds: HashSet<&str> = plan.changes.iter().map(|change| change.key.kind).collect();
    let kinds: HashSet<&str> =
        kinds.into_iter().filter(|kind| exclusive(kind).next().is_some() && live.has_any(kind)).collect();
    let wanting = plan.changes.iter().filter(|change| kinds.contains(change.key.kind));
    let claims: HashMap<Key, Box<[Claim]>> =
        wanting.map(|change| (change.key.clone(), claims(change))).filter(|(_, c)| !c.is_empty()).collect();
    if claims.is_empty() {
        return;
    }
    let wanted: HashSet<&Claim> = claims.values().flatten().collect();
    let mut holders: HashMap<Claim, &Key> = HashMap::new();
    for kind in &kinds {
        let fields: Vec<&str> = exclusive(kind).map(|field| field.name).collect();
        for (key, document) in live.fields_of(kind, &fields) {
            let held = claimed(key.kind, &document).filter(|claim| wanted.contains(claim));
            holders.extend(held.map(|claim| (claim, key)));
        }
    }
    let bodies: HashMap<&Key, &Body> =
        plan.changes.iter().filter_map(|change| Some((&change.key, body(change)?))).collect();
    // An update gives up what it writes another value over.
    let gives_up: HashSet<(&Key, &Claim)> = holders
        .iter()
        .filter(|(claim, holder)| {
            let body = bodies.get(*holder).and_then(|body| body.read()).filter(|body| body.contains_key(claim.1));
            body.is_some_and(|body| !claimed(claim.0, &body).any(|kept| kept == **claim))
        })
        .map(|(claim, holder)| (*holder, claim))
        .collect();
    let mut waits: BTreeMap<Key, BTreeMap<Key, Claim>> = BTreeMap::new();
    for change in &mut plan.changes {
        let Some(wanted) = claims.get(&change.key) else { continue };
        let obstacles = wanted.iter().filter_map(|claim| Some((claim, *holders.get(claim)?)));
        for (claim, holder) in obstacles.filter(|(_, holder)| **holder != change.key) {
            let Some(kind) = resource::kind(holder.kind) else { continue };
            let seen = live.get(holder).map_or(0, |document| digest(kind, &document));
            for task in change.tasks.iter_mut().filter(|task| task.slot.part == MAIN) {
                task.cause = mixed(task.cause, &(holder, seen));
            }
            if gives_up.contains(&(holder, claim)) {
                waits.entry(change.key.clone()).or_default().insert(holder.clone(), claim.clone());
            }
        }
    }
    refuse_circles(plan, &waits);
    for change in &mut plan.changes {
        let Some(holders) = waits.get(&change.key) else { continue };
        for task in change.tasks.iter_mut().filter(|task| task.slot.part == MAIN) {
            task.after.extend(holders.keys().map(|key| Slot { key: key.clone(), part: MAIN }));
            task.after.sort();
            task.after.dedup();
        }
    }
}

/// Every value that the resource will have once its main call is done, of those that it alone may have.
fn claims(change: &Change) -> Box<[Claim]> {
    let body = body(change).and_then(Body::read);
    body.iter().flat_map(|body| claimed(change.key.kind, body)).collect()
}

/// The fields of a kind whose values one resource alone may have.
fn exclusive(kind: &str) -> impl Iterator<Item = &'static Field> + use<> {
    let fields = resource::kind(kind).into_iter().flat_map(|kind| kind.spec().main().fields);
    fields.filter(|field| field.exclusive)
}

/// What the main call of a change carries.
fn body(change: &Change) -> Option<&Body> {
    change.tasks.iter().find(|task| task.slot.part == MAIN)?.write.body()
}

/// The values of a document that its resource alone may have. Letter case means nothing in a domain.
pub fn claimed(kind: &'static str, document: &Document) -> impl Iterator<Item = Claim> {
    exclusive(kind).flat_map(move |field| {
        let values = match document.get(field.name) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => vec![text.as_str()],
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        };
        let values = values.into_iter().filter(|text| !text.is_empty());
        let meant = |text: &str| if field.is_domains { text.to_lowercase() } else { text.to_owned() };
        values.map(|text| (kind, field.name, meant(text))).collect::<Vec<_>>()
    })
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

/// Updates that wait for one another can never be carried out.
fn refuse_circles(plan: &mut Plan, waits: &BTreeMap<Key, BTreeMap<Key, Claim>>) {
    // What waits for nobody goes, then what waited for that.
    let mut open: BTreeSet<&Key> = waits.keys().collect();
    loop {
        let is_stuck =
            |key: &&Key| waits.get(*key).is_some_and(|holders| holders.keys().any(|holder| open.contains(holder)));
        let stuck: BTreeSet<&Key> = open.iter().copied().filter(|key| is_stuck(key)).collect();
        if stuck.len() == open.len() {
            break;
        }
        open = stuck;
    }
    let reaches_itself = |key: &Key| {
        let mut seen: BTreeSet<&Key> = BTreeSet::new();
        let mut next: Vec<&Key> = waits.get(key).into_iter().flat_map(BTreeMap::keys).collect();
        while let Some(other) = next.pop() {
            if other == key {
                return true;
            }
            if seen.insert(other) {
                next.extend(waits.get(other).into_iter().flat_map(BTreeMap::keys));
            }
        }
        false
    };
    let circle: BTreeSet<Key> = open.into_iter().filter(|key| reaches_itself(key)).cloned().collect();
    if circle.is_empty() {
        return;
    }
    for change in std::mem::take(&mut plan.changes) {
        let place = change.place.clone().filter(|_| circle.contains(&change.key) && change.held.is_none());
        let obstacle =
            waits.get(&change.key).and_then(|holders| holders.iter().find(|(holder, _)| circle.contains(holder)));
        match place.zip(obstacle) {
            Some((place, (holder, (_, field, value)))) => {
                let message = format!(
                    "{field} {value:?} is still that of {holder}, which waits for {} in turn: neither can go first; declare \
                     another {field} for one of them, and the final ones once that is done",
                    change.key
                );
                plan.refused.push(Refusal { key: change.key, message, place: Some(place) });
            }
            None => plan.changes.push(change),
        }
    }
}
