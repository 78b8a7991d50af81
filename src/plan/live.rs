//! The observed documents by key, as they will be once the renames of the plan are done.

use crate::plan::Inputs;
use crate::resource;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::refer;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

/// The observed documents by key, their references already in the names that will hold once the renames are done.
#[derive(Debug, Default)]
pub struct Live<'a> {
    pub(super) documents: HashMap<Key, Cow<'a, Document>>,
    pub(super) observed: BTreeSet<&'static str>,
    /// Names that more than one resource has, of which none is known to be meant, with the ids of all.
    pub(super) ambiguous: BTreeMap<Key, BTreeSet<&'a str>>,
    /// Of kinds that Descope knows by ids of its own: who bears which.
    pub(super) bearers: HashMap<&'static str, HashMap<&'a str, Key>>,
    /// Fields that some document of the kind has: the API returns them.
    pub(super) returned: HashMap<&'static str, BTreeSet<&'static str>>,
}

impl<'a> Live<'a> {
    pub(super) fn add(&mut self, kind: &'static dyn Kind, documents: &'a [Document], inputs: &Inputs<'_>) {
        self.observed.insert(kind.name());
        if kind.spec().identity.server_id.is_some() {
            self.bearers.entry(kind.name()).or_default();
        }
        let fields = kind.spec().fields().map(|(_, field)| field.name);
        let is_returned = |name: &&str| documents.iter().any(|document| document.contains_key(*name));
        self.returned.insert(kind.name(), fields.filter(is_returned).collect());
        self.documents.reserve(documents.len());
        for document in documents {
            let Some(key) = kind.key(document) else { continue };
            if let Some(id) = kind.server_id(document) {
                self.bearers.entry(key.kind).or_default().insert(id, key.clone());
            }
            // Two of one name: the one that the YAML means is the one of the id that it says, and what it does not name any
            // more is what the state knows. The others are nobody's.
            if let Some(other) = self.documents.get(&key) {
                let wanted = match inputs.desired.resources.get(&key) {
                    Some(declared) => declared.id(kind.spec()),
                    None => inputs.ids.get(&key).map(|id| &**id),
                };
                let is_it = |live: &Document| wanted.is_some() && kind.server_id(live) == wanted;
                if !is_it(other) && !is_it(document) {
                    let ids = self.ambiguous.entry(key.clone()).or_default();
                    if let Cow::Borrowed(other) = other {
                        ids.extend(kind.server_id(other));
                    }
                    ids.extend(kind.server_id(document));
                }
                if !is_it(document) {
                    continue;
                }
                self.ambiguous.remove(&key);
            }
            self.documents.insert(key, Cow::Borrowed(document));
        }
    }

    /// Who bears this id of Descope's.
    pub(super) fn bearer(&self, kind: &str, id: &str) -> Option<&Key> {
        self.bearers.get(kind)?.get(id)
    }

    /// The live document; `None` where there is none or its kind could not be observed.
    pub fn get(&self, key: &Key) -> Option<&Document> {
        self.documents.get(key).map(Cow::as_ref)
    }

    /// All of them, in no order.
    pub fn documents(&self) -> impl Iterator<Item = (&Key, &Document)> {
        self.documents.iter().map(|(key, document)| (key, document.as_ref()))
    }

    /// Did this kind answer?
    pub fn is_observed(&self, kind: &str) -> bool {
        self.observed.contains(kind)
    }

    /// Does the API return this field of this kind, as far as the list shows?
    pub fn returned(&self, kind: &str) -> impl Fn(&str) -> bool + Copy + use<'_> {
        let fields = self.returned.get(kind);
        move |field: &str| fields.is_some_and(|fields| fields.contains(field))
    }

    /// All of them, sorted.
    pub fn keys(&self) -> Vec<&Key> {
        let mut keys: Vec<&Key> = self.documents.keys().collect();
        keys.sort();
        keys
    }

    /// Descope keeps references by id, so a rename shows in everything that refers to it: expect that already.
    pub(super) fn map_references(&mut self, renames: &BTreeMap<Key, Key>) {
        if renames.is_empty() {
            return;
        }
        for (key, document) in &mut self.documents {
            let Some(kind) = resource::kind(key.kind) else { continue };
            if refer::refers_to_renamed(kind.spec(), key, document, renames) {
                refer::rename_references(kind.spec(), key, document.to_mut(), renames);
            }
        }
    }
}
