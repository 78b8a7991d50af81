//! What a file writes of a resource, held for as long as the file is in force. A map of `serde_json` takes hundreds of bytes
//! whatever is in it; of a hundred thousand resources that is most of what they weigh.

use super::Document;
use super::spec::Part;
use super::spec::Spec;
use serde::Serialize;
use serde::Serializer;
use serde_json::Value;

/// What has values by the names of fields: an answer, the body of a call, what a file writes.
pub trait Fields: Sync {
    /// The value of this field.
    fn get(&self, name: &str) -> Option<&Value>;
}

impl Fields for Document {
    fn get(&self, name: &str) -> Option<&Value> {
        Self::get(self, name)
    }
}

/// Fields of a table with the values that a file writes, each once, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Hash)]
pub struct Written(Box<[(&'static str, Value)]>);

impl Written {
    /// Those of the document that the table has.
    pub fn of(spec: &Spec, document: Document) -> Self {
        let named = document.into_iter().filter_map(|(name, value)| Some((spec.field(&name)?.1.name, value)));
        named.collect()
    }

    /// The value of this field; `null` is one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Does the file write this field?
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Those of one part.
    #[must_use]
    pub fn of_part(&self, part: &Part) -> Self {
        let own = self.iter().filter(|(name, _)| part.fields.iter().any(|field| field.name == *name));
        own.map(|(name, value)| (name, value.clone())).collect()
    }

    /// As a document of its own.
    pub fn to_document(&self) -> Document {
        self.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }
}

impl Fields for Written {
    fn get(&self, name: &str) -> Option<&Value> {
        Self::get(self, name)
    }
}

impl FromIterator<(&'static str, Value)> for Written {
    fn from_iter<T: IntoIterator<Item = (&'static str, Value)>>(fields: T) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by_key(|(name, _)| *name);
        Self(fields.into_boxed_slice())
    }
}

/// Like the document that it is.
impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
impl From<Document> for Written {
    /// Of fields that no table has to have.
    fn from(document: Document) -> Self {
        document.into_iter().map(|(name, value)| (&*name.leak(), value)).collect()
    }
}
