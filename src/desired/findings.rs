//! What is wrong with, or remarkable about, the files: bounded, whatever they hold.
//!
//! A file that is wrong throughout says the same thing over and over, and what it quotes may be as long as the file. The
//! first findings are kept, the rest is counted.

use crate::desired::Place;
use crate::desired::yaml;
use std::cmp::Ordering;
use std::fmt;

/// So many findings are kept, the first by file and line; nobody reads more at once.
pub const MOST: usize = yaml::MOST;
// Characters. Longer than any name that Descope takes, and than any message that quotes a few of them.
const LONGEST_NAME: usize = 160;
const LONGEST_MESSAGE: usize = 1000;

/// One thing that is wrong with, or remarkable about, the files.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl Finding {
    /// About a file, or the tree (`.`), as a whole.
    pub fn whole(file: &str, message: impl Into<String>) -> Self {
        let place = Place { file: file.into(), line: 0, column: 0 };
        Self { place, resource: String::new(), field: String::new(), message: message.into() }
    }

    /// `RESOURCE: FIELD: message`, for where the place stands beside it.
    pub fn without_place(&self) -> String {
        let parts = [&self.resource, &self.field, &self.message];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).map(|part| plain(part)).collect();
        parts.join(": ")
    }
}

/// By line. On one line, what is about the text comes first, and then what is about the same resource stands together.
impl Ord for Finding {
    fn cmp(&self, other: &Self) -> Ordering {
        fn order(one: &Finding) -> (&str, u32, &str, &str, &str, u32) {
            (&one.place.file, one.place.line, &one.resource, &one.field, &one.message, one.place.column)
        }
        order(self).cmp(&order(other))
    }
}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
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

/// A name as findings show it, cut where it is too long.
pub fn bounded(name: String) -> String {
    cut(name, LONGEST_NAME)
}

fn cut(mut text: String, longest: usize) -> String {
    // A byte count says enough for nearly all.
    if text.len() > longest
        && let Some((end, _)) = text.char_indices().nth(longest)
    {
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// The first findings, by file and line, and how many there are beside them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    kept: Vec<Finding>,
    more: usize,
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        let Finding { place, resource, field, message } = finding;
        let (resource, field) = (bounded(resource), bounded(field));
        self.kept.push(Finding { place, resource, field, message: cut(message, LONGEST_MESSAGE) });
        // Now and then, so that each costs next to nothing.
        if self.kept.len() >= 2 * MOST {
            self.settle();
        }
    }

    /// Adds all of another's.
    pub fn add(&mut self, others: &Self) {
        others.kept.iter().for_each(|finding| self.push(finding.clone()));
        self.more += others.more;
    }

    /// Counts what is not shown.
    pub fn add_uncounted(&mut self, more: usize) {
        self.more += more;
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.more == 0
    }

    /// How many there are, those that are not kept included.
    pub fn count(&self) -> usize {
        self.kept.len() + self.more
    }

    /// Those that are kept, by file and line, and in the end how many are not. `what` names them: `errors`.
    pub fn list(mut self, what: &str) -> Vec<Finding> {
        self.settle();
        if self.more > 0 {
            let message = format!("{} more {what} are not shown; mend these first", self.more);
            self.kept.push(Finding::whole(".", message));
        }
        self.kept
    }

    /// Sorts them, and drops what is too much.
    pub fn settle(&mut self) {
        self.kept.sort();
        self.more += self.kept.len().saturating_sub(MOST);
        self.kept.truncate(MOST);
    }
}

impl std::ops::Deref for Findings {
    type Target = [Finding];

    fn deref(&self) -> &[Finding] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let finding = |file: &str, line, resource: &str, field: &str| Finding {
            place: Place { file: file.into(), line, column: 0 },
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

    #[test]
    fn the_first_are_kept_and_the_rest_is_counted() {
        let mut findings = Findings::default();
        for line in (0..1000).rev() {
            let place = Place { file: "a.yaml".into(), line, column: 1 };
            findings.push(Finding { place, ..Finding::whole("", "é".repeat(5000)) });
        }
        let mut all = Findings::default();
        all.add(&findings);
        all.push(Finding::whole("0.yaml", "first of all"));

        assert_eq!(all.count(), 1001);
        let mut more = all.clone();
        more.add_uncounted(2);
        assert_eq!(more.count(), 1003);
        let list = all.list("errors");
        assert_eq!((list.len(), list[0].to_string()), (301, "0.yaml: first of all".to_owned()));
        assert_eq!((list[1].place.line, list[299].place.line), (0, 298));
        assert_eq!(list[299].message.chars().count(), 1001);
        assert_eq!(list[300].to_string(), ".: 701 more errors are not shown; mend these first");
    }
}
