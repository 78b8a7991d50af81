//! The live resources of one kind, as a look showed them: each is a tree only while somebody looks at it.

use super::Document;
use super::Key;
use super::Kind;
use super::Spec;
use crate::descope::Packed;
use std::collections::BTreeSet;

/// Documents with their keys, in the order of the answer.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    all: Vec<(Option<Key>, Packed)>,
    /// Fields of the table that any of them shows.
    shown: BTreeSet<&'static str>,
}

impl Documents {
    /// One more.
    pub fn push(&mut self, spec: &Spec, key: Option<Key>, document: &Document, packed: Packed) {
        let fields = spec.fields().map(|(_, field)| field.name);
        self.shown.extend(fields.filter(|name| document.contains_key(*name)));
        self.all.push((key, packed));
    }

    /// Documents that were made, of one kind.
    pub fn of_kind(kind: &dyn Kind, documents: impl IntoIterator<Item = Document>) -> Self {
        let mut found = Self::default();
        for document in documents {
            found.push(kind.spec(), kind.key(&document), &document, Packed::of(&document));
        }
        found
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Does any of them show this field of the table?
    pub fn shows(&self, field: &str) -> bool {
        self.shown.contains(field)
    }

    /// The keys of all that have one.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.all.iter().filter_map(|(key, _)| key.as_ref())
    }

    /// All that have a key, with it.
    pub fn packed(&self) -> impl Iterator<Item = (&Key, &Packed)> {
        self.all.iter().filter_map(|(key, packed)| Some((key.as_ref()?, packed)))
    }

    /// The same, each read when it is asked for.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, Document)> {
        self.packed().filter_map(|(key, packed)| Some((key, packed.read()?)))
    }

    /// All that have a key, at once: for few.
    pub fn all(&self) -> Vec<Document> {
        self.iter().map(|(_, document)| document).collect()
    }

    /// The one of this key; of several the first.
    pub fn get(&self, key: &Key) -> Option<Document> {
        self.packed().find(|(other, _)| *other == key)?.1.read()
    }

    /// Those of which `is_wanted` holds, each read when it is asked for.
    pub fn of<'d>(&'d self, is_wanted: impl Fn(&Key) -> bool + 'd) -> impl Iterator<Item = (&'d Key, Document)> {
        let wanted = self.packed().filter(move |(key, _)| is_wanted(key));
        wanted.filter_map(|(key, packed)| Some((key, packed.read()?)))
    }

    /// Changes those of which `is_wanted` holds. `change` says whether it did.
    pub fn change(
        &mut self,
        kind: &dyn Kind,
        is_wanted: impl Fn(&Key) -> bool,
        mut change: impl FnMut(&Key, &mut Document) -> bool,
    ) {
        for (key, packed) in &mut self.all {
            let Some(known) = key.as_ref().filter(|key| is_wanted(key)) else { continue };
            let Some(mut document) = packed.read() else { continue };
            if change(known, &mut document) {
                let fields = kind.spec().fields().map(|(_, field)| field.name);
                self.shown.extend(fields.filter(|name| document.contains_key(*name)));
                *packed = Packed::of(&document);
                *key = kind.key(&document);
            }
        }
    }

    /// Takes out those of which `is_wanted` does not hold.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&Key, &Packed) -> bool) {
        self.all.retain(|(key, packed)| key.as_ref().is_none_or(|key| is_wanted(key, packed)));
    }
}
