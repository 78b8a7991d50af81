//! Writes down what is wrong with one file, and in which words.

use crate::desired::Finding;
use crate::desired::Place;
use crate::desired::check::FileReport;
use crate::desired::findings::bounded;
use crate::desired::yaml::At;
use crate::desired::yaml::Node;
use crate::desired::yaml::Value;
use crate::resource::Key;
use std::cell::OnceCell;
use std::sync::Arc;

// No field's name is longer, so what is has none that is near.
const LONGEST_FIELD: usize = 64;

impl About {
    pub fn resource(key: &Key) -> Self {
        Self::Resource(key.clone(), OnceCell::new())
    }
}

/// Writes findings about one file.
pub(super) struct Pen<'a> {
    pub file: &'a Arc<str>,
    pub report: FileReport,
    /// Whom the findings are about.
    pub about: About,
}

/// Whom findings are about. It becomes a text only where there is one.
#[derive(Debug, Default)]
pub(super) enum About {
    /// The file.
    #[default]
    Nobody,
    /// A resource of this kind that has no identity.
    Kind(&'static str),
    /// This one, and its name once it was asked for: it may be as long as the file.
    Resource(Key, OnceCell<String>),
}

impl Pen<'_> {
    fn finding(&self, at: At, field: &str, message: String) -> Finding {
        let place = Place::new(self.file, at);
        let resource = match &self.about {
            About::Nobody => String::new(),
            About::Kind(kind) => (*kind).to_owned(),
            About::Resource(key, name) => name.get_or_init(|| bounded(key.to_string())).clone(),
        };
        Finding { place, resource, field: field.to_owned(), message }
    }

    pub fn error(&mut self, at: At, field: &str, message: impl Into<String>) {
        let finding = self.finding(at, field, message.into());
        self.report.errors.push(finding);
    }

    pub fn warning(&mut self, at: At, field: &str, message: impl Into<String>) {
        let finding = self.finding(at, field, message.into());
        self.report.warnings.push(finding);
    }

    pub fn flag(&mut self, at: At, field: &str, node: &Node) -> Option<bool> {
        if let Value::Flag(flag) = node.value {
            return Some(flag);
        }
        self.error(at, field, must_be("true or false", &node.value));
        None
    }
}

/// A key that nobody expected, as the field of a finding.
pub(super) fn short(key: &str) -> String {
    key.chars().take(80).collect()
}

/// Never quotes the value: it might be a secret in the wrong place.
pub(super) fn must_be(what: &str, got: &Value) -> String {
    let remedy = match got {
        Value::Flag(_) | Value::Number(_) if what == "a text" => "; put it in quotes",
        Value::Text(_) if what == "true or false" => "; write it without quotes",
        _ => "",
    };
    format!("must be {what} but is {}{remedy}", got.sort())
}

/// `; did you mean X?`, or nothing.
pub(super) fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    if word.len() > LONGEST_FIELD {
        return String::new();
    }
    let lower = word.to_lowercase();
    let distance = |candidate: &str| strsim::osa_distance(&lower, &candidate.to_lowercase());
    let near = known.filter(|candidate| !candidate.is_empty()).map(|candidate| (distance(candidate), candidate)).min();
    match near {
        // A third of the word wrong is a typo; more is another word.
        Some((distance, candidate)) if distance <= (word.chars().count() / 3).max(1) => {
            format!("; did you mean `{candidate}`?")
        }
        _ => String::new(),
    }
}
