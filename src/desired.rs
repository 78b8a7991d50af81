//! The desired state: what the YAML of one project says, typed and checked, with the place of every statement.

use crate::resource::Key;
use crate::resource::Spec;
use crate::resource::Written;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub mod alike;
pub mod check;
pub mod edit;
pub mod export;
pub mod findings;
pub mod merge;
mod remarks;
pub mod resources;
#[cfg(test)]
mod roundtrip;
pub mod schema;
pub mod secret_file;
pub mod secrets;
#[cfg(test)]
pub mod testing;
pub mod volume;

pub use descope_gitops_reading::yaml;
pub use findings::Finding;
pub use findings::Findings;
pub use resources::Resources;
use yaml::At;

/// Where something stands in the config repo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Path below `source.path`, with `/`.
    pub file: Arc<str>,
    /// From 1; 0 for a whole file or directory.
    pub line: u32,
    /// In characters, from 1; 0 where it is not known.
    pub column: u32,
}

impl Place {
    /// A place in this file.
    pub fn new(file: &Arc<str>, at: At) -> Self {
        Self { file: Arc::clone(file), line: at.line, column: at.column }
    }
}

/// One declared resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// What it is.
    pub key: Key,
    /// The fields that the YAML writes, in their canonical form (sets sorted, duplicates folded), without the
    /// identity and the directives below. A field that is not here is not managed. `null` is a value: it clears.
    pub fields: Written,
    /// `protected: true|false`; `None` where the YAML does not say.
    pub protected: Option<bool>,
    /// `renamedFrom: OLD`, in the same tenant.
    pub renamed_from: Option<Arc<str>>,
    /// `cascadeDelete: true|false`; `None` where the YAML does not say.
    pub cascade_delete: Option<bool>,
    /// `secretFile: PATH`: where the secret is kept that Descope shows when it makes the resource.
    pub secret_file: Option<Arc<str>>,
    /// Where the resource begins.
    pub place: Place,
}

impl Declared {
    /// One of which nothing is known yet but who it is.
    pub fn new(key: Key, place: Place) -> Self {
        let fields = Written::default();
        Self { key, fields, protected: None, renamed_from: None, cascade_delete: None, secret_file: None, place }
    }

    /// The id that Descope gave it, where the YAML says which of several of one name is meant.
    pub fn id(&self, spec: &Spec) -> Option<&str> {
        self.fields.get(spec.identity.server_id?)?.as_str().filter(|id| !id.is_empty())
    }
}

/// The desired state of one project at one revision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// Kinds that some file mentions, also those declared empty (`roles: []`).
    pub kinds: BTreeSet<&'static str>,
    /// Everything declared.
    pub resources: Resources,
}

impl Desired {
    /// Those of one kind, in the order of their keys.
    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Arc<Declared>> {
        self.resources.of_kind(kind)
    }
}

/// `roles/editor.yaml:12`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
