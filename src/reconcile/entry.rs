//! Which entry of the config a project is known under: this one, this one by another name or path, or another one, as where two
//! `projectId`s were swapped.

use super::assess::Assessor;
use crate::plan::Former;
use crate::state::ProjectState;

impl Assessor {
    /// The entry that the project is known under, where that is not this one.
    pub fn former(&self) -> Option<Former> {
        let now = &self.rules.entry;
        let before = self.known(ProjectState::entry).filter(|before| **before != **now)?;
        let elsewhere = self.known(ProjectState::entries_elsewhere);
        let is_same = is_same(&before, now, self.rules.others.iter().map(|other| &**other), &elsewhere);
        Some(Former { before, now: now.to_string(), is_same })
    }
}

/// Is it one entry that has another name or path by now? Then the two have one of both in common, no other entry of the config
/// took over the rest, and the state knows neither by another project: who has two of them to choose from chose wrong.
fn is_same<'e>(before: &str, now: &str, mut others: impl Iterator<Item = &'e str>, elsewhere: &[String]) -> bool {
    // The root of the files is an empty path.
    let name = |entry: &'_ str| entry.split('\n').next().map(str::to_owned);
    let paths = |entry: &'_ str| entry.split('\n').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let shares_path = |one: &str, other: &str| paths(one).iter().any(|path| paths(other).contains(path));
    let is_alike = |one: &str, other: &str| name(one) == name(other) || shares_path(one, other);
    // Paths of other configs, each with a checkout of its own, mean nothing here.
    let is_elsewhere = |entry: &String| name(entry) == name(before) || name(entry) == name(now);
    is_alike(before, now) && !others.any(|other| is_alike(other, before)) && !elsewhere.iter().any(is_elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_the_same_under_another_name_or_path_where_no_other_one_comes_into_question() {
        for (what, before, now, others, elsewhere, expected) in [
            ("renamed", "a\np", "b\np", &["c\nq"][..], &["c\nq"][..], true),
            ("moved", "a\np", "a\nq", &[], &[], true),
            ("renamed, with all files", "a\n", "b\n", &[], &[], true),
            ("a path more", "a\np", "b\np\nq", &[], &[], true),
            ("both at once", "a\np", "b\nq", &[], &[], false),
            ("ids swapped", "b\nq", "a\np", &["b\nq"], &["a\np"], false),
            ("the other half", "a\np", "b\nq", &["a\np"], &["a\np"], false),
            ("names swapped", "a\np", "b\np", &["a\nq"], &["b\nq"], false),
            ("paths swapped", "a\np", "a\nq", &["b\np"], &["b\nq"], false),
            ("swapped between two configs", "b\n.", "a\n.", &[], &["a\n."], false),
            ("and the other one first", "a\n.", "b\n.", &[], &["a\n."], false),
            ("beside another config", "a\n.", "b\n.", &[], &["c\n."], true),
        ] {
            let elsewhere: Vec<String> = elsewhere.iter().map(|entry| (*entry).to_owned()).collect();
            assert_eq!(is_same(before, now, others.iter().copied(), &elsewhere), expected, "{what}");
        }
    }
}
