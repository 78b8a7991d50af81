//! Windows on a plan: what of it matches, so many at a time, with the counts of all of it.

use super::render::ChangeReport;
use super::render::Forecast;
use super::render::Identity;
use super::render::Pace;
use super::render::ProjectReport;
use super::render::RefusedReport;
use super::render::Word;
use crate::telemetry::status::Wait;
use schemars::JsonSchema;
use serde::Serialize;
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

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProjectWindow {
    #[serde(flatten)]
    report: ProjectReport,
    changes_total: usize,
    held_total: usize,
    refused_total: usize,
    undeclared_total: usize,
    warnings_total: usize,
}

/// What of a plan is not done yet, by kind and identity.
pub type Unfinished = HashSet<(Word, String)>;

impl Window {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { format_version: 1, matching: 0, projects: Vec::new() }
    }

    /// Adds what is left and wanted of one project.
    /// `tell` adds to it what its changes wait for.
    pub fn add(
        &mut self,
        plan: &ProjectReport,
        unfinished: &Unfinished,
        wanted: &Wanted,
        pace: Pace,
        tell: impl FnOnce(&mut ProjectReport),
    ) {
        if wanted.project.as_ref().is_some_and(|name| *name != plan.name) {
            return;
        }
        let search = wanted.search.as_ref().map(|text| text.to_lowercase());
        let (mut changes, mut changes_total, mut held_total) = (Vec::new(), 0, 0);
        let mut calls = BTreeSet::new();
        for change in &plan.changes {
            let is_held = change.held.is_some();
            if !is_held && !unfinished.contains(&(change.kind.clone(), change.id.clone())) {
                continue;
            }
            changes_total += 1;
            held_total += usize::from(is_held);
            if !is_held {
                calls.extend(change.calls.iter().copied());
            }
            if !is_wanted(change, wanted, search.as_deref()) {
                continue;
            }
            if self.matching >= wanted.offset && self.matching - wanted.offset < wanted.limit {
                changes.push(change.clone());
            }
            self.matching += 1;
        }
        let named = |kind: &str, id: &str| is_named(kind, id, wanted, search.as_deref());
        let refused: Vec<RefusedReport> =
            plan.refused.iter().filter(|it| named(&it.kind, &it.id)).take(wanted.limit).cloned().collect();
        let undeclared: Vec<Identity> =
            plan.undeclared.iter().filter(|it| named(&it.kind, &it.id)).take(wanted.limit).cloned().collect();
        let mut report = ProjectReport {
            name: plan.name.clone(),
            fingerprint: plan.fingerprint.clone(),
            held: plan.held.clone(),
            holds: plan.holds.clone(),
            warnings: plan.warnings.iter().take(wanted.limit).cloned().collect(),
            waits: Vec::new(),
            wait_counts: BTreeMap::new(),
            changes,
            refused,
            undeclared,
            forecast: Forecast::new(calls.len(), plan.forecast.reads, pace),
            is_incomplete: plan.is_incomplete,
            is_without_effect: plan.is_without_effect,
            approvable: BTreeMap::new(),
        };
        tell(&mut report);
        let is_shown =
            |wait: &Wait| report.changes.iter().any(|change| (&*change.kind, &change.id) == (&*wait.kind, &wait.id));
        let (shown, others): (Vec<Wait>, Vec<Wait>) = std::mem::take(&mut report.waits).into_iter().partition(is_shown);
        let others = others.into_iter().filter(|wait| named(&wait.kind, &wait.id)).take(wanted.limit);
        report.waits = shown.into_iter().chain(others).collect();
        self.projects.push(ProjectWindow {
            report,
            changes_total,
            held_total,
            refused_total: plan.refused.len(),
            undeclared_total: plan.undeclared.len(),
            warnings_total: plan.warnings.len(),
        });
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

fn is_wanted(change: &ChangeReport, wanted: &Wanted, search: Option<&str>) -> bool {
    wanted.action.as_ref().is_none_or(|action| *action == change.action)
        && wanted.held.is_none_or(|held| held == change.held.is_some())
        && is_named(&change.kind, &change.id, wanted, search)
}

fn is_named(kind: &str, id: &str, wanted: &Wanted, search: Option<&str>) -> bool {
    wanted.kind.as_ref().is_none_or(|wanted| wanted == kind)
        && wanted.id.as_ref().is_none_or(|wanted| wanted == id)
        && search.is_none_or(|text| id.to_lowercase().contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn plan(name: &str, ids: &[(&'static str, &str, Option<&'static str>)]) -> ProjectReport {
        let change = |(kind, id, held): &(&'static str, &str, Option<&'static str>)| ChangeReport {
            kind: (*kind).into(),
            id: (*id).to_owned(),
            action: "update".into(),
            held: held.map(Into::into),
            why: None,
            until: None,
            drift: None,
            is_sent: held.is_none(),
            fields: Vec::new(),
            file: None,
            line: None,
            calls: vec![1],
            more_calls: 0,
        };
        ProjectReport {
            name: name.to_owned(),
            waits: Vec::new(),
            wait_counts: BTreeMap::new(),
            fingerprint: String::new(),
            held: None,
            holds: Vec::new(),
            warnings: Vec::new(),
            changes: ids.iter().map(change).collect(),
            refused: Vec::new(),
            undeclared: (0..1000).map(|n| Identity { kind: "roles".into(), id: format!("u{n}") }).collect(),
            forecast: Forecast { requests: 0, reads: 0, seconds: 0 },
            is_incomplete: false,
            is_without_effect: false,
            approvable: std::collections::BTreeMap::new(),
        }
    }

    fn found(wanted: &Wanted) -> (Value, Vec<String>) {
        let one =
            plan("one", &[("roles", "Editor", None), ("roles", "done", None), ("tenants", "acme", Some("policy"))]);
        let two = plan("two", &[("roles", "editor", Some("max_deletes"))]);
        let unfinished = HashSet::from([("roles".into(), "Editor".to_owned())]);
        let mut window = Window::new();
        for plan in [one, two] {
            window.add(&plan, &unfinished, wanted, Pace::Free, |_| {});
        }
        let json = serde_json::to_value(window).unwrap();
        let projects = json["projects"].as_array().unwrap().iter();
        let changes = projects.flat_map(|project| project["changes"].as_array().unwrap());
        let ids = changes.map(|change| change["id"].as_str().unwrap().to_owned()).collect();
        (json, ids)
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
