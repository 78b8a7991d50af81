//! Who refers to what is to be deleted: that decides in which order things go, and what does not go at all.

use super::Inputs;
use super::Live;
use super::Plan;
use super::Slot;
use super::write;
use crate::desired::Declared;
use crate::desired::Place;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::fold::is_zero;
use crate::resource::refer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

/// In place of the part of a call that lets go: drift that is left as it is has none.
pub const LEFT: &str = "drift that is left as it is";

/// Who refers to a resource that is to be deleted. Empty for every other change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ties {
    /// Declarations that name it.
    pub declared: BTreeMap<Key, Place>,
    /// Live and not about to let go: declared nowhere, built in, or declared without the field that names it.
    pub undeclared: BTreeSet<Key>,
    /// Kinds that may refer to it and could not be observed, though they are declared or owned.
    pub unseen: BTreeSet<&'static str>,
    /// What may refer to it and nobody looks at: a part that no file declares, or that was not read yet.
    pub hidden: BTreeSet<Slot>,
    /// Kinds that may refer to it and whose list lacks too much to be believed.
    pub doubted: BTreeSet<&'static str>,
    /// The calls that let go of it, planned or not.
    pub letting_go: BTreeSet<Slot>,
    /// Ours and in no list, though nothing proves that they are gone: nobody knows what they refer to.
    pub unlisted: BTreeSet<Key>,
    /// Deleted by the same plan.
    pub together: BTreeSet<Key>,
}

impl Ties {
    /// Nobody refers to it.
    pub const fn none() -> &'static Self {
        static NONE: Ties = Ties {
            declared: BTreeMap::new(),
            undeclared: BTreeSet::new(),
            unseen: BTreeSet::new(),
            hidden: BTreeSet::new(),
            doubted: BTreeSet::new(),
            letting_go: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            together: BTreeSet::new(),
        };
        &NONE
    }
}

/// Finds the ties of every delete of the plan.
pub fn find(inputs: &Inputs<'_>, live: &Live<'_>, renames: &BTreeMap<Key, Key>, plan: &mut Plan) {
    let deletes = plan.changes.iter().filter(|change| change.action == Action::Delete);
    let mut ties: HashMap<Key, Ties> = deletes.map(|change| (change.key.clone(), Ties::default())).collect();
    if ties.is_empty() {
        return;
    }
    for declared in inputs.desired.resources.values() {
        note_declared(inputs, declared, &mut ties);
    }
    let new_names: HashMap<&Key, &Key> = renames.iter().map(|(new, old)| (old, new)).collect();
    for key in live.keys_but(std::iter::empty()) {
        let (Some(kind), Some(document)) = (resource::kind(key.kind), live.get(key)) else { continue };
        let name = new_names.get(key).copied().unwrap_or(key);
        let is_builtin = kind.is_builtin(&document, inputs.builtin_roles);
        let declared = inputs.desired.resources.get(name).filter(|_| !is_builtin);
        // What is left as it is lets go of nothing.
        let meant = plan.kept.get(name).or(declared).filter(|_| !is_builtin);
        note_hidden(kind, (key, &document), name, plan.unread.get(name), &mut ties);
        note_live(
            kind,
            (key, &document),
            declared.zip(meant).map(|(declared, meant)| (&**declared, &**meant)),
            &mut ties,
        );
    }
    let unseen = |kind: &&&dyn Kind| super::is_managed(inputs, **kind) && !live.is_observed(kind.name());
    let unseen: Vec<&dyn Kind> = resource::ALL.iter().filter(unseen).copied().collect();
    for (key, ties) in &mut ties {
        let may_name = |kind: &dyn Kind| refer::reach(kind.spec()).contains(key.kind);
        ties.unseen.extend(unseen.iter().filter(|kind| may_name(**kind)).map(|kind| kind.name()));
        let doubted = plan.shrunk.iter().filter(|kind| resource::kind(kind).is_some_and(may_name));
        ties.doubted.extend(doubted);
        let unlisted = plan.unlisted.iter().chain(plan.missing.keys());
        let unlisted = unlisted.filter(|other| *other != key && resource::kind(other.kind).is_some_and(may_name));
        ties.unlisted.extend(unlisted.filter(|other| !ties.declared.contains_key(*other)).cloned());
    }
    for change in &mut plan.changes {
        if let Some(ties) = ties.remove(&change.key).filter(|_| change.action == Action::Delete) {
            change.ties = Some(Box::new(ties));
        }
    }
}

fn note_declared(inputs: &Inputs<'_>, declared: &Declared, ties: &mut HashMap<Key, Ties>) {
    let Some(kind) = resource::kind(declared.key.kind) else { return };
    let named = write::references_of(kind, declared);
    for key in &named {
        let Some(ties) = ties.get_mut(key) else { continue };
        // A name may mean one of the project or one of a tenant. While the other one is declared, it may well be meant.
        let is_namesake = |other: &&Key| (other.kind, &other.name) == (key.kind, &key.name) && *other != key;
        if named.iter().filter(is_namesake).any(|other| inputs.desired.resources.contains_key(other)) {
            ties.undeclared.insert(declared.key.clone());
        } else {
            ties.declared.insert(declared.key.clone(), declared.place.clone());
        }
    }
}

fn note_live(
    kind: &dyn Kind,
    (key, document): (&Key, &Document),
    declared: Option<(&Declared, &Declared)>,
    ties: &mut HashMap<Key, Ties>,
) {
    let is_deleted = ties.contains_key(key);
    for part in kind.spec().parts.iter().map(|part| part.name) {
        for named in kind.references(key, document, Some(part)) {
            if named == *key {
                continue;
            }
            let Some(ties) = ties.get_mut(&named) else { continue };
            match declared {
                _ if is_deleted => ties.together.extend([key.clone()]),
                None => ties.undeclared.extend([key.clone()]),
                Some((declared, _)) if ties.declared.contains_key(&declared.key) => {}
                Some((declared, meant)) if lets_go(kind, (key, document), declared, &named, part) => {
                    let is_left = !lets_go(kind, (key, document), meant, &named, part);
                    let part = if is_left { LEFT } else { part };
                    ties.letting_go.extend([Slot { key: declared.key.clone(), part }]);
                }
                Some((declared, _)) => ties.undeclared.extend([declared.key.clone()]),
            }
        }
    }
}

/// A part that its list says is there, or that is declared and `unread`, and that this look does not show. What is switched off
/// keeps what it names.
fn note_hidden(
    kind: &dyn Kind,
    (key, document): (&Key, &Document),
    name: &Key,
    unread: Option<&BTreeSet<&'static str>>,
    ties: &mut HashMap<Key, Ties>,
) {
    let spec = kind.spec();
    let is_there = |part: &&Part| {
        let tells = |field: &Field| field.tells_of == Some(part.name) && !is_nothing(document.get(field.name));
        spec.main().fields.iter().any(tells) || unread.is_some_and(|unread| unread.contains(part.name))
    };
    let is_shown = |part: &Part| part.fields.iter().any(|field| document.contains_key(field.name));
    let is_deleted = ties.contains_key(key);
    for part in spec.parts.iter().filter(is_there).filter(|part| !is_shown(part)) {
        let reach = refer::reach_of(part);
        // What lives in a tenant is known there alone.
        let is_in_reach = |gone: &Key| gone.tenant.is_none() || gone.tenant.as_ref() == key.as_tenant();
        for (_, ties) in ties.iter_mut().filter(|(gone, _)| reach.contains(gone.kind) && is_in_reach(gone)) {
            if is_deleted {
                ties.together.insert(key.clone());
            } else if !ties.declared.contains_key(name) {
                ties.hidden.insert(Slot { key: name.clone(), part: part.name });
            }
        }
    }
}

fn is_nothing(told: Option<&Value>) -> bool {
    told.is_none_or(|told| is_zero(told) || told == "none")
}

/// Does what is declared, written over what is there, no longer name it?
fn lets_go(
    kind: &dyn Kind,
    (key, document): (&Key, &Document),
    declared: &Declared,
    named: &Key,
    part: &'static str,
) -> bool {
    let after = write::onto(kind.spec(), declared, document);
    !kind.references(key, &after, Some(part)).contains(named)
}
