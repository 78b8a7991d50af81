//! Windows on a plan: what of it matches, so many at a time, with the counts of all of it.

use super::Change;
use super::published::Published;
use super::render;
use super::render::ChangeReport;
use super::render::Changes;
use super::render::Forecast;
use super::render::Identity;
use super::render::Pace;
use super::render::ProjectReport;
use super::render::RefusedReport;
use super::waits::Rows;
use crate::resource::Key;
use crate::telemetry::status::HoldStatus;
use crate::telemetry::status::PUT_ASIDE;
use crate::telemetry::status::Wait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

/// Which changes to show, over all projects.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this project.
    pub project: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this resource.
    pub id: Option<String>,
    /// Of resources whose identity contains this, whatever the case.
    pub search: Option<String>,
    /// `create`, `update`, `rename` or `delete`.
    pub action: Option<String>,
    /// Only what is held, or only what is not.
    pub held: Option<bool>,
    /// How many to pass over.
    pub offset: usize,
    /// How many at the most; of every other list of a project, too.
    pub limit: usize,
}

/// A window on the plans of all projects.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    format_version: u32,
    /// Changes that match, in the window or not.
    matching: usize,
    projects: Vec<ProjectWindow>,
}

/// What is known of the one resource that was asked for by kind and identity, beside the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceReport {
    /// Does a file declare it?
    declared: bool,
    /// Which one.
    file: Option<String>,
    /// From 1.
    line: Option<u32>,
    /// Did the last look at its kind show it as it is declared, and is nothing known that could have changed that since? When that
    /// look was, the status says.
    in_sync: bool,
}

impl ResourceReport {
    fn of(published: &Published, kind: &str, id: &str, unfinished: &HashSet<Key>, waits: &[Wait]) -> Self {
        let Some(declared) = published.declared(kind, id) else {
            return Self { declared: false, file: None, line: None, in_sync: false };
        };
        let is_waiting = waits.iter().any(|wait| wait.kind == kind && wait.id == id);
        Self {
            declared: true,
            file: Some(declared.place.file.to_string()),
            line: Some(declared.place.line),
            in_sync: !is_waiting && published.is_in_sync(&declared.key, unfinished),
        }
    }
}

/// What of the plan of one project is shown, and how much there is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectWindow {
    #[serde(flatten)]
    report: ProjectReport<'static>,
    changes_total: usize,
    held_total: usize,
    refused_total: usize,
    undeclared_total: usize,
    warnings_total: usize,
    /// Where one was asked for by kind and identity, at the replica that writes the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<ResourceReport>,
}

impl Window {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { format_version: 1, matching: 0, projects: Vec::new() }
    }

    /// Adds what is left and wanted of one project.
    /// `tell` says what its changes wait for.
    pub fn add(
        &mut self,
        published: &Published,
        unfinished: &HashSet<Key>,
        wanted: &Wanted,
        pace: Pace,
        tell: impl FnOnce(&ProjectReport<'_>) -> Rows,
    ) {
        if wanted.project.as_ref().is_some_and(|name| **name != *published.name) {
            return;
        }
        let plan = &*published.plan;
        let search = wanted.search.as_ref().map(|text| text.to_lowercase());
        let (mut changes, mut changes_total, mut held_total) = (Vec::new(), 0, 0);
        let mut calls = BTreeSet::new();
        for change in &plan.changes {
            if !Published::is_left(change, unfinished) {
                continue;
            }
            let is_held = change.held.is_some();
            changes_total += 1;
            held_total += usize::from(is_held);
            if !is_held {
                calls.extend(change.calls().numbers);
            }
            if !is_wanted(change, wanted, search.as_deref()) {
                continue;
            }
            if self.matching >= wanted.offset && self.matching - wanted.offset < wanted.limit {
                changes.push(ChangeReport::new(change));
            }
            self.matching += 1;
        }
        let is_named = |key: &Key| is_named(key, wanted, search.as_deref());
        let refused = plan.refused.iter().filter(|refusal| is_named(&refusal.key)).take(wanted.limit);
        let undeclared = plan.undeclared.iter().filter(|key| is_named(key)).take(wanted.limit);
        let warnings = render::warnings(plan).take(wanted.limit).map(|warning| Cow::Owned(warning.into_owned()));
        let mut report = ProjectReport {
            name: published.name.to_string(),
            fingerprint: published.fingerprint.clone(),
            held: published.held.clone(),
            holds: published.holds(),
            warnings: warnings.collect(),
            waits: Vec::new(),
            wait_counts: BTreeMap::new(),
            changes: Changes::Rendered(changes),
            refused: refused.map(RefusedReport::new).collect(),
            undeclared: undeclared.map(Identity::new).collect(),
            forecast: Forecast::new(calls.len(), plan.reads, pace),
            is_incomplete: false,
            is_without_effect: false,
            doubted: 0,
        };
        let rows = tell(&report);
        (report.waits, report.wait_counts) = (rows.rows, rows.counts);
        report.holds.extend(rows.holds);
        let is_shown = |wait: &Wait| {
            report.changes.iter().any(|change| (change.kind(), &*change.id()) == (&*wait.kind, &*wait.id))
        };
        let (shown, others): (Vec<Wait>, Vec<Wait>) = std::mem::take(&mut report.waits).into_iter().partition(is_shown);
        let named = |wait: &Wait| is_called(&wait.kind, &wait.id, wanted, search.as_deref());
        let others = others.into_iter().filter(named).take(wanted.limit);
        report.waits = shown.into_iter().chain(others).collect();
        let resource = wanted.kind.as_deref().zip(wanted.id.as_deref());
        let resource = resource.map(|(kind, id)| ResourceReport::of(published, kind, id, unfinished, &report.waits));
        self.projects.push(ProjectWindow {
            report,
            changes_total,
            held_total,
            refused_total: plan.refused.len(),
            undeclared_total: plan.undeclared.len(),
            warnings_total: render::warnings(plan).count(),
            resource,
        });
    }
}

impl Window {
    /// The same of what another replica left of its plan: what is wanted of that, with its counts.
    pub fn add_window(&mut self, left: &ProjectWindow, wanted: &Wanted) {
        let report = left.report();
        if wanted.project.as_ref().is_some_and(|name| *name != report.name) {
            return;
        }
        let search = wanted.search.as_ref().map(|text| text.to_lowercase());
        let called = |kind: &str, id: &str| is_called(kind, id, wanted, search.as_deref());
        let is_it = |change: &ChangeReport| {
            wanted.action.as_ref().is_none_or(|action| *action == change.action)
                && wanted.held.is_none_or(|held| held == change.held.is_some())
                && called(&change.kind, &change.id)
        };
        let matching: Vec<ChangeReport> = report.changes.into_rendered().into_iter().filter(is_it).collect();
        let (before, count) = (wanted.offset.saturating_sub(self.matching), matching.len());
        let room = (wanted.offset + wanted.limit).saturating_sub(self.matching.max(wanted.offset));
        self.matching += count;
        let shown = ProjectReport {
            changes: matching.into_iter().skip(before).take(room).collect(),
            refused: report.refused.into_iter().filter(|it| called(&it.kind, &it.id)).take(wanted.limit).collect(),
            undeclared: report
                .undeclared
                .into_iter()
                .filter(|it| called(&it.kind, &it.id))
                .take(wanted.limit)
                .collect(),
            waits: report.waits.into_iter().filter(|wait| called(&wait.kind, &wait.id)).take(wanted.limit).collect(),
            ..report
        };
        self.projects.push(ProjectWindow { report: shown, ..left.clone() });
    }

    /// The first of the projects that were added.
    pub fn into_first(self) -> Option<ProjectWindow> {
        self.projects.into_iter().next()
    }
}

impl ProjectWindow {
    /// The same, with these files put aside instead of those that were when it was left.
    #[must_use]
    pub fn with_put_aside(&self, put_aside: Vec<HoldStatus>) -> Self {
        let mut window = self.clone();
        window.report.holds.retain(|hold| hold.reason != PUT_ASIDE);
        window.report.holds.extend(put_aside);
        window
    }

    /// As a plan of its own; where it lacks something, it says so.
    pub fn report(&self) -> ProjectReport<'static> {
        let mut report = self.report.clone();
        let (shown, all) = (report.changes.len(), self.changes_total);
        if shown < all {
            report.warnings.push(Cow::Owned(format!(
                "only the first {shown} of {all} changes are known here; the replica that writes the project has all of them"
            )));
        }
        report
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

fn is_wanted(change: &Change, wanted: &Wanted, search: Option<&str>) -> bool {
    wanted.action.as_ref().is_none_or(|action| *action == change.action.as_str())
        && wanted.held.is_none_or(|held| held == change.held.is_some())
        && is_named(&change.key, wanted, search)
}

fn is_named(key: &Key, wanted: &Wanted, search: Option<&str>) -> bool {
    // Nobody asks for one by name, mostly.
    let is_any = wanted.id.is_none() && search.is_none();
    let id = if is_any { String::new() } else { key.id() };
    is_called(key.kind, &id, wanted, search)
}

fn is_called(kind: &str, id: &str, wanted: &Wanted, search: Option<&str>) -> bool {
    wanted.kind.as_ref().is_none_or(|wanted| wanted == kind)
        && wanted.id.as_ref().is_none_or(|wanted| wanted == id)
        && search.is_none_or(|text| id.to_lowercase().contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Calls;
    use crate::plan::Hold;
    use crate::plan::Plan;
    use crate::resource::Action;
    use serde_json::Value;
    use std::sync::Arc;

    fn plan(name: &'static str, ids: &[(&'static str, &str, Option<Hold>)]) -> Published {
        let change = |(kind, id, held): &(&'static str, &str, Option<Hold>)| {
            // What is held is no call yet.
            let numbers = if held.is_some() { [2, 3].into() } else { [1].into() };
            let queued = Calls { numbers, more: 0 };
            Change { held: *held, queued, ..Change::new(Key::new(kind, id), Action::Update) }
        };
        let undeclared = (0..1000).map(|n| Key::new("roles", &format!("u{n}")));
        let changes = ids.iter().map(change).collect();
        let plan = Plan { changes, undeclared: undeclared.collect(), ..Plan::default() };
        Published::new(&name.into(), Arc::new(plan), Arc::default())
    }

    fn found(wanted: &Wanted) -> (Value, Vec<String>) {
        let one =
            plan("one", &[("roles", "Editor", None), ("roles", "done", None), ("tenants", "acme", Some(Hold::Policy))]);
        let two = plan("two", &[("roles", "editor", Some(Hold::MaxDeletes))]);
        let unfinished = HashSet::from([Key::new("roles", "Editor")]);
        let mut window = Window::new();
        for plan in [one, two] {
            window.add(&plan, &unfinished, wanted, Pace::Free, |_| Rows::default());
        }
        let json = serde_json::to_value(window).unwrap();
        let projects = json["projects"].as_array().unwrap().iter();
        let changes = projects.flat_map(|project| project["changes"].as_array().unwrap());
        let ids = changes.map(|change| change["id"].as_str().unwrap().to_owned()).collect();
        (json, ids)
    }

    #[test]
    fn what_another_replica_left_is_shown_like_a_plan_of_ones_own_and_says_what_it_lacks() {
        let mut window = Window::new();
        let changes: Vec<String> = (0..30).map(|n| format!("r{n}")).collect();
        let changes: Vec<_> = changes.iter().map(|id| ("roles", id.as_str(), Some(Hold::Policy))).collect();
        let cut = Wanted { limit: 20, ..Wanted::default() };
        window.add(&plan("one", &changes), &HashSet::new(), &cut, Pace::Free, |_| Rows {
            counts: BTreeMap::from([("policy".into(), 30)]),
            ..Rows::default()
        });
        let left = serde_json::to_string(&window.into_first().unwrap()).unwrap();
        let left: ProjectWindow = serde_json::from_str(&left).unwrap();

        let mut shown = Window::new();
        shown.add_window(&left, &Wanted { search: Some("R7".to_owned()), limit: 5, ..Wanted::default() });

        let json = serde_json::to_value(shown).unwrap();
        let one = &json["projects"][0];
        assert_eq!((&json["matching"], &one["changes"][0]["id"]), (&Value::from(1), &Value::from("r7")));
        assert_eq!((&one["changesTotal"], &one["heldTotal"]), (&Value::from(30), &Value::from(30)));
        assert_eq!(one["undeclaredTotal"], 1000);
        assert_eq!(one["waitCounts"]["policy"], 30);
        let warning =
            "only the first 20 of 30 changes are known here; the replica that writes the project has all of them";
        assert_eq!(left.report().warnings, [warning]);
        assert_eq!(one["warnings"][0], warning);
    }

    #[test]
    fn a_window_goes_over_all_projects_and_counts_what_it_leaves_out() {
        let usual = Wanted { limit: 2, ..Wanted::default() };

        let (json, ids) = found(&usual);
        assert_eq!((ids, &json["matching"]), (vec!["Editor".to_owned(), "acme".to_owned()], &Value::from(3)));
        assert_eq!(json["projects"][0]["changesTotal"], 2);
        assert_eq!(json["projects"][0]["heldTotal"], 1);
        assert_eq!(json["projects"][0]["undeclaredTotal"], 1000);
        assert_eq!(json["projects"][0]["undeclared"].as_array().unwrap().len(), 2);
        assert_eq!(json["projects"][0]["forecast"]["requests"], 1);
        assert_eq!(found(&Wanted { offset: 2, ..usual.clone() }).1, ["editor"]);
        assert_eq!(found(&Wanted { search: Some("EDIT".to_owned()), ..usual.clone() }).1, ["Editor", "editor"]);
        assert_eq!(found(&Wanted { held: Some(true), ..usual.clone() }).1, ["acme", "editor"]);
        assert_eq!(found(&Wanted { kind: Some("tenants".to_owned()), ..usual.clone() }).1, ["acme"]);
        assert_eq!(found(&Wanted { project: Some("two".to_owned()), ..usual.clone() }).1, ["editor"]);
        assert!(found(&Wanted { action: Some("delete".to_owned()), ..usual }).1.is_empty());
    }
}
