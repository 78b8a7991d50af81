//! The observed documents by key, as they will be once the renames of the plan are done.

use crate::plan::Inputs;
use crate::resource;
use crate::resource::Document;
use crate::resource::Documents;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Packed;
use crate::resource::refer;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// The observed documents by key, their references already in the names that will hold once the renames are done.
#[derive(Debug, Default)]
pub struct Live<'a> {
    documents: HashMap<Key, Found<'a>>,
    pub(super) observed: BTreeSet<&'static str>,
    /// Names that more than one resource has, of which none is known to be meant, with the ids of all.
    pub(super) ambiguous: BTreeMap<Key, BTreeSet<String>>,
    /// Of kinds that Descope knows by ids of its own: who bears which.
    pub(super) bearers: HashMap<&'static str, HashMap<String, Key>>,
    /// Fields that some document of the kind has: the API returns them.
    pub(super) returned: HashMap<&'static str, BTreeSet<&'static str>>,
}

/// A document.
#[derive(Debug)]
enum Found<'a> {
    /// As it was observed.
    Packed(&'a Packed),
    /// With new names in what it refers to.
    Renamed(Document),
}

impl Found<'_> {
    fn read(&self) -> Option<Cow<'_, Document>> {
        match self {
            Self::Packed(packed) => packed.read().map(Cow::Owned),
            Self::Renamed(document) => Some(Cow::Borrowed(document)),
        }
    }

    fn read_only(&self, fields: &[&str]) -> Option<Cow<'_, Document>> {
        match self {
            Self::Packed(packed) => packed.read_only(fields).map(Cow::Owned),
            Self::Renamed(document) => Some(Cow::Borrowed(document)),
        }
    }
}

impl<'a> Live<'a> {
    pub(super) fn add(&mut self, kind: &'static dyn Kind, documents: &'a Documents, inputs: &Inputs<'_>) {
        self.observed.insert(kind.name());
        if kind.spec().identity.server_id.is_some() {
            self.bearers.entry(kind.name()).or_default();
        }
        let fields = kind.spec().fields().map(|(_, field)| field.name);
        self.returned.insert(kind.name(), fields.filter(|name| documents.shows(name)).collect());
        if kind.spec().identity.server_id.is_some() {
            return self.add_by_ids(kind, documents, inputs);
        }
        self.documents.reserve(documents.len());
        self.documents.extend(documents.packed().map(|(key, packed)| (key.clone(), Found::Packed(packed))));
    }

    /// Of what Descope knows by ids of its own, two may bear one name.
    fn add_by_ids(&mut self, kind: &'static dyn Kind, documents: &'a Documents, inputs: &Inputs<'_>) {
        for (key, packed) in documents.packed() {
            let Some(document) = packed.read() else { continue };
            let id = kind.server_id(&document);
            if let Some(id) = id {
                self.bearers.entry(key.kind).or_default().insert(id.to_owned(), key.clone());
            }
            // Two of one name: the one that the YAML means is the one of the id that it says, and what it does not name any
            // more is what the state knows. The others are nobody's.
            if let Some(other) = self.get(key) {
                let wanted = match inputs.desired.resources.get(key) {
                    Some(declared) => declared.id(kind.spec()),
                    None => inputs.ids.get(key).map(|id| &**id),
                };
                let is_it = |live: &Document| wanted.is_some() && kind.server_id(live) == wanted;
                let is_other = is_it(&other);
                let other = kind.server_id(&other).map(str::to_owned);
                if !is_other && !is_it(&document) {
                    let ids = self.ambiguous.entry(key.clone()).or_default();
                    ids.extend(other.into_iter().chain(id.map(str::to_owned)));
                }
                if !is_it(&document) {
                    continue;
                }
                self.ambiguous.remove(key);
            }
            self.documents.insert(key.clone(), Found::Packed(packed));
        }
    }

    /// Who bears this id of Descope's.
    pub(super) fn bearer(&self, kind: &str, id: &str) -> Option<&Key> {
        self.bearers.get(kind)?.get(id)
    }

    /// The live document; `None` where there is none or its kind could not be observed.
    pub fn get(&self, key: &Key) -> Option<Cow<'_, Document>> {
        self.documents.get(key)?.read()
    }

    /// Is anything of this kind there?
    pub fn has_any(&self, kind: &str) -> bool {
        self.documents.keys().any(|key| key.kind == kind)
    }

    /// Is it there?
    pub fn has(&self, key: &Key) -> bool {
        self.documents.contains_key(key)
    }

    /// Those of which `is_wanted` holds, each read when it is asked for.
    pub fn documents(&self, is_wanted: impl Fn(&Key) -> bool) -> impl Iterator<Item = (&Key, Cow<'_, Document>)> {
        let wanted = self.documents.iter().filter(move |(key, _)| is_wanted(key));
        wanted.filter_map(|(key, found)| Some((key, found.read()?)))
    }

    /// These fields of all of a kind, and maybe more of a few.
    pub fn fields_of<'l, 'f>(
        &'l self,
        kind: &'f str,
        fields: &'f [&'f str],
    ) -> impl Iterator<Item = (&'l Key, Cow<'l, Document>)> {
        let of_kind = self.documents.iter().filter(move |(key, _)| key.kind == kind);
        of_kind.filter_map(move |(key, found)| Some((key, found.read_only(fields)?)))
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

    /// All but these, sorted.
    pub fn keys_but<'k>(&self, others: impl Iterator<Item = &'k Key>) -> Vec<&Key> {
        let mut keys: HashSet<&Key> = self.documents.keys().collect();
        for key in others {
            keys.remove(key);
        }
        let mut keys: Vec<&Key> = keys.into_iter().collect();
        keys.sort();
        keys
    }

    /// Descope keeps references by id, so a rename shows in everything that refers to it: expect that already.
    pub(super) fn map_references(&mut self, renames: &BTreeMap<Key, Key>) {
        if renames.is_empty() {
            return;
        }
        for (key, found) in &mut self.documents {
            let (Some(kind), Some(document)) = (resource::kind(key.kind), found.read()) else { continue };
            if refer::refers_to_renamed(kind.spec(), key, &document, renames) {
                let mut document = document.into_owned();
                refer::rename_references(kind.spec(), key, &mut document, renames);
                *found = Found::Renamed(document);
            }
        }
    }
}
