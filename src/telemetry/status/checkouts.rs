//! Whose files are in force, where replicas share the state and each has a checkout of its own: what is put aside, and whether that
//! needs anybody.

use super::HoldStatus;
use super::NO_ORDERS;
use super::ProjectStatus;
use schemars::JsonSchema;
use serde::Serialize;
use std::borrow::Cow;

/// In plans, status and metrics.
pub const PUT_ASIDE: &str = "stale_revision";

/// The option that names a project in a command to copy: what begins with a dash would be taken for another one.
pub fn project_option(name: &str) -> String {
    if name.starts_with('-') { format!("--project={name}") } else { format!("--project {name}") }
}

/// Digits of a revision in a sentence.
const SHORT: usize = 12;

/// The files of all replicas that run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutsStatus {
    /// Digest of the files that were put in force last; null before any were.
    pub in_force: Option<String>,
    /// RFC 3339, by the clock of the database: since when.
    pub in_force_since: Option<String>,
    /// Does it take anybody to do something?
    pub needs: Needs,
    /// The files that are put aside at the replica that holds the project, and that an approval puts in force; null where there
    /// are none.
    pub approvable: Option<String>,
    /// By name.
    pub replicas: Vec<CheckoutStatus>,
}

/// Does it take anybody?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Needs {
    /// All is well, or will be in a moment.
    #[default]
    Nobody,
    /// The project is written; something of a replica does not go on by itself.
    Look,
    /// Nothing of the project is written until somebody does something.
    Act,
}

/// The files of one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutStatus {
    /// By name.
    pub replica: String,
    /// Is it the one that was asked?
    pub is_mine: bool,
    /// Does it hold the project?
    pub is_holder: bool,
    /// Digest of what is loaded there; null where nothing can be used.
    pub revision: Option<String>,
    /// RFC 3339, by the clock of the database: since when these are other files than those in force; null where they are in force.
    pub put_aside_since: Option<String>,
    /// Is that longer than for the life of a lease? One that just follows a commit is behind for a moment.
    pub lags: bool,
    /// What keeps this replica alone from writing, such as a management key that is refused; null where nothing is known to.
    pub refused: Option<String>,
    /// RFC 3339, by the clock of the database: since when.
    pub refused_since: Option<String>,
}

impl CheckoutStatus {
    fn is_aside(&self) -> bool {
        self.put_aside_since.is_some()
    }

    fn can_write(&self) -> bool {
        self.revision.is_some() && !self.is_aside() && self.refused.is_none()
    }
}

impl CheckoutsStatus {
    /// Of these replicas. `unheld`: has nobody held the project for longer than a take-over takes?
    pub fn of(in_force: Option<(String, String)>, replicas: Vec<CheckoutStatus>, unheld: bool) -> Self {
        let holder = replicas.iter().find(|replica| replica.is_holder);
        let put_aside = holder.filter(|holder| holder.is_aside());
        let is_anybody_able = replicas.iter().any(CheckoutStatus::can_write);
        let is_still = put_aside.is_some_and(|holder| holder.lags)
            && replicas.iter().filter(|replica| replica.is_aside()).all(|replica| replica.lags);
        let needs = if unheld || !is_anybody_able && is_still {
            Needs::Act
        } else if replicas.iter().any(|replica| replica.lags || replica.refused.is_some()) {
            Needs::Look
        } else {
            Needs::Nobody
        };
        let approvable = put_aside.and_then(|holder| holder.revision.clone());
        let (in_force, in_force_since) = in_force.unzip();
        Self { in_force, in_force_since, needs, approvable, replicas }
    }

    /// What is held back by it: the files of the replica that holds the project, and those of others that do not just follow.
    /// `can_order`: whether the daemon takes the order that ends it.
    pub fn holds(&self, project: &str, can_order: bool) -> Vec<HoldStatus> {
        let mut groups: Vec<(&str, Vec<&CheckoutStatus>)> = Vec::new();
        for replica in self.replicas.iter().filter(|replica| replica.is_aside()) {
            let Some(revision) = replica.revision.as_deref() else { continue };
            match groups.iter_mut().find(|(known, _)| *known == revision) {
                Some((_, group)) => group.push(replica),
                None => groups.push((revision, vec![replica])),
            }
        }
        let is_shown = |(_, group): &(&str, Vec<&CheckoutStatus>)| group.iter().any(|one| one.is_holder || one.lags);
        let hold = |revision: &str, group: &[&CheckoutStatus]| {
            let project = project_option(project);
            let order = if can_order {
                format!("`descope-gitops approve {project} {revision}`")
            } else {
                format!("an approval ({NO_ORDERS})")
            };
            self.hold(revision, group, &order)
        };
        let mut holds: Vec<HoldStatus> =
            groups.into_iter().filter(is_shown).map(|(revision, group)| hold(revision, &group)).collect();
        holds.sort_by_key(|hold| !hold.stops_project);
        holds
    }

    fn hold(&self, revision: &str, group: &[&CheckoutStatus], order: &str) -> HoldStatus {
        let is_held = group.iter().any(|replica| replica.is_holder);
        let names: Vec<&str> = group.iter().map(|replica| &*replica.replica).collect();
        let names = format!("{} {}", if names.len() == 1 { "the replica" } else { "the replicas" }, names.join(", "));
        let in_force =
            self.in_force.as_deref().map_or_else(String::new, |in_force| format!("; in force: {}", short(in_force)));
        let effect = if is_held { "nothing of the project is written" } else { "nothing of them is written" };
        let why = format!(
            "the files of {} at {names} are put aside, as they are older than those in force or nobody knows that they are newer: \
             {effect}{in_force}",
            short(revision)
        );
        let ends_with: Cow<'static, str> = if is_held {
            format!(
                "a checkout that moves on, a replica that has the files in force, or, where going back to these files is meant, \
                 {order}"
            )
            .into()
        } else {
            format!(
                "the checkout of {names} moving on (does what brings it, such as git-sync, run?), with that replica, or, where these \
                 files are meant to be in force, {order}"
            )
            .into()
        };
        HoldStatus {
            reason: PUT_ASIDE.into(),
            since: group.iter().filter_map(|replica| replica.put_aside_since.clone()).min(),
            // Where another replica writes the project, with other files.
            approvable: true,
            until: None,
            changes: 0,
            ends_with,
            why: Some(why),
            revision: Some(revision.to_owned()),
            stops_project: is_held,
            needs_a_person: is_held && self.needs == Needs::Act,
            things: Vec::new(),
        }
    }

    /// Are the files of the replica that was asked put aside, for longer than one is that follows, or at the one that holds the project?
    pub fn is_put_aside_here(&self) -> bool {
        self.replicas.iter().any(|one| one.is_mine && one.is_aside() && (one.lags || one.is_holder))
    }
}

impl ProjectStatus {
    /// Brings `holds` up to date with how the files of the replicas stand.
    pub fn show_put_aside(&mut self, can_order: bool) {
        self.holds.retain(|hold| hold.reason != PUT_ASIDE);
        self.holds.extend(self.put_aside(can_order));
    }

    /// What is held back because files are put aside.
    pub fn put_aside(&self, can_order: bool) -> Vec<HoldStatus> {
        self.checkouts.as_ref().map(|checkouts| checkouts.holds(&self.name, can_order)).unwrap_or_default()
    }
}

fn short(revision: &str) -> &str {
    revision.get(..SHORT).unwrap_or(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, revision: &str) -> CheckoutStatus {
        CheckoutStatus { replica: name.to_owned(), revision: Some(revision.to_owned()), ..CheckoutStatus::default() }
    }

    fn aside(name: &str, revision: &str, lags: bool) -> CheckoutStatus {
        CheckoutStatus { put_aside_since: Some("2026-01-01T00:00:00Z".to_owned()), lags, ..replica(name, revision) }
    }

    fn holding(replica: CheckoutStatus) -> CheckoutStatus {
        CheckoutStatus { is_holder: true, ..replica }
    }

    fn refused(replica: CheckoutStatus) -> CheckoutStatus {
        let (what, since) = ("management key refused", "2026-01-01T00:00:00Z");
        CheckoutStatus { refused: Some(what.to_owned()), refused_since: Some(since.to_owned()), ..replica }
    }

    fn status(replicas: Vec<CheckoutStatus>, unheld: bool) -> CheckoutsStatus {
        let in_force = ("new".to_owned(), "2026-01-01T00:00:00Z".to_owned());
        CheckoutsStatus::of(Some(in_force), replicas, unheld)
    }

    #[test]
    fn who_is_needed_follows_from_what_keeps_the_project_from_being_written() {
        let cases = [
            ("all have them", vec![holding(replica("a", "new")), replica("b", "new")], false, Needs::Nobody, 0),
            ("one follows", vec![holding(replica("a", "new")), aside("b", "old", false)], false, Needs::Nobody, 0),
            ("one lags", vec![holding(replica("a", "new")), aside("b", "old", true)], false, Needs::Look, 1),
            ("taken over a moment ago", vec![holding(aside("a", "old", false))], false, Needs::Nobody, 1),
            ("nobody has them", vec![holding(aside("a", "old", true)), aside("b", "old", true)], false, Needs::Act, 1),
            ("each has others", vec![holding(aside("a", "old", true)), aside("b", "odd", true)], false, Needs::Act, 2),
            ("one may follow", vec![holding(aside("a", "old", true)), aside("b", "odd", false)], false, Needs::Look, 1),
            ("one takes over", vec![holding(aside("a", "old", true)), replica("b", "new")], false, Needs::Look, 1),
            ("its key", vec![holding(replica("a", "new")), refused(replica("b", "new"))], false, Needs::Look, 0),
            ("a take-over", vec![replica("a", "new")], false, Needs::Nobody, 0),
            ("nobody holds it", vec![replica("a", "new")], true, Needs::Act, 0),
        ];
        for (what, replicas, unheld, needs, holds) in cases {
            let status = status(replicas, unheld);

            assert_eq!((status.needs, status.holds("p", true).len()), (needs, holds), "{what}");
        }
    }

    #[test]
    fn a_hold_says_which_files_where_what_is_in_force_and_what_ends_it() {
        let all = status(vec![holding(aside("a/1", "old", true)), aside("b/2", "old", true)], false);

        assert_eq!(
            all.holds("p", true)[0].why.as_deref(),
            Some(
                "the files of old at the replicas a/1, b/2 are put aside, as they are older than those in force or nobody knows that \
                 they are newer: nothing of the project is written; in force: new"
            )
        );
        assert_eq!(
            all.holds("p", true)[0].ends_with,
            "a checkout that moves on, a replica that has the files in force, or, where going back to these files is meant, \
             `descope-gitops approve --project p old`"
        );
        assert!(all.holds("-p", true)[0].ends_with.ends_with("`descope-gitops approve --project=-p old`"));
        let without = &all.holds("p", false)[0].ends_with;
        assert!(
            without.ends_with(&format!("an approval ({NO_ORDERS})")) && !without.contains("descope-gitops approve")
        );
        let holds = all.holds("p", true);
        assert!(holds[0].approvable && holds[0].needs_a_person && all.approvable.as_deref() == Some("old"));
        let one = status(vec![holding(replica("a/1", "new")), refused(aside("b/2", "old", true))], false);
        let holds = one.holds("p", true);
        // An approval takes these as well, though nothing waits for one.
        assert!(holds[0].approvable && !holds[0].stops_project && !holds[0].needs_a_person && one.approvable.is_none());
        let why = holds[0].why.as_deref().unwrap();
        assert!(
            why.contains("at the replica b/2 are put aside") && why.contains("nothing of them is written"),
            "{why}"
        );
        assert!(holds[0].ends_with.contains("the checkout of the replica b/2 moving on"), "{}", holds[0].ends_with);
    }
}
