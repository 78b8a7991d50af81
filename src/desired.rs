//! The desired state: what the YAML of one project says, typed and checked, with the place of every statement.

use crate::resource::Document;
use crate::resource::Key;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where something stands in the config repo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Path below `source.path`, with `/`.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
}

/// One declared resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// What it is.
    pub key: Key,
    /// The fields that the YAML writes, in their canonical form (sets sorted, duplicates folded), without the
    /// identity and the directives below. A field that is not here is not managed. `null` is a value: it clears.
    pub fields: Document,
    /// `protected: true|false`; `None` where the YAML does not say.
    pub protected: Option<bool>,
    /// `renamedFrom: OLD`, in the same tenant.
    pub renamed_from: Option<Arc<str>>,
    /// `cascadeDelete: true|false`; `None` where the YAML does not say.
    pub cascade_delete: Option<bool>,
    /// Where the resource begins.
    pub place: Place,
}

/// The desired state of one project at one revision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// Kinds that some file mentions, also those declared empty (`roles: []`).
    pub kinds: BTreeSet<&'static str>,
    /// Everything declared.
    pub resources: BTreeMap<Key, Declared>,
}

/// One thing that is wrong with, or remarkable about, the files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where; line 0 for a whole file or directory.
    pub place: Place,
    /// `roles/Editor`; empty where it is about no resource.
    pub resource: String,
    /// `permissionNames`; empty where it is about no field.
    pub field: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// `roles/editor.yaml:12`.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
