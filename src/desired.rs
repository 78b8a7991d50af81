//! The desired state: what the YAML of one project says, typed and checked, with the place of every statement.

use crate::resource::Document;
use crate::resource::Key;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub mod check;
pub mod merge;
#[cfg(test)]
mod roundtrip;
pub mod secrets;
#[cfg(test)]
pub mod testing;
pub mod yaml;

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
    /// Everything declared. Shared with the loader's memory of each file, so that a load of a hundred thousand
    /// resources holds them once.
    pub resources: BTreeMap<Key, Arc<Declared>>,
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
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Finding {
    /// `RESOURCE: FIELD: message`, for where the place stands beside it.
    pub fn without_place(&self) -> String {
        let parts = [&self.resource, &self.field, &self.message];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).map(|part| plain(part)).collect();
        parts.join(": ")
    }
}

/// `FILE:LINE: RESOURCE: FIELD: message`, on one line whatever the repo holds.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", plain(&self.place.file))?;
        if self.place.line > 0 {
            write!(f, "{}:", self.place.line)?;
        }
        write!(f, " {}", self.without_place())
    }
}

fn plain(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let finding = |file: &str, line, resource: &str, field: &str| Finding {
            place: Place { file: file.into(), line },
            resource: resource.to_owned(),
            field: field.to_owned(),
            message: "is wrong".to_owned(),
        };
        for (finding, expected) in [
            (finding("a.yaml", 3, "roles/A", "description"), "a.yaml:3: roles/A: description: is wrong"),
            (finding("a.yaml", 3, "roles/A\nB", ""), "a.yaml:3: roles/A\u{fffd}B: is wrong"),
            (finding("a.yaml", 3, "", ""), "a.yaml:3: is wrong"),
            (finding(".", 0, "", ""), ".: is wrong"),
        ] {
            assert_eq!(finding.to_string(), expected);
            assert!(expected.ends_with(&format!(": {}", finding.without_place())), "{expected}");
            assert!(!finding.without_place().contains("a.yaml"), "{expected}");
        }
    }
}
