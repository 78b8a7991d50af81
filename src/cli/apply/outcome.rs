//! What became of each change.

use crate::cli::Exit;
use crate::daemon::Project;
use crate::plan::render;
use crate::plan::render::ChangeReport;
use crate::plan::render::Forecast;
use crate::plan::render::HeldReport;
use crate::plan::render::Identity;
use crate::plan::render::ProjectReport;
use crate::plan::render::RefusedReport;
use crate::plan::render::Report;
use crate::queue::Queue;
use crate::resource::legible::legible;
use crate::telemetry::line::one_line;
use crate::telemetry::status::HoldStatus;
use crate::telemetry::status::Problem;
use crate::telemetry::status::ProblemState;
use schemars::JsonSchema;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map::Entry;

/// `apply -o json`: the plan, with a result per change.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    format_version: u32,
    projects: Vec<ProjectOutcome>,
    totals: Totals,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProjectOutcome {
    name: String,
    fingerprint: String,
    held: Option<HeldReport>,
    /// All that waits, by reason.
    holds: Vec<HoldStatus>,
    warnings: Vec<String>,
    changes: Vec<ChangeOutcome>,
    refused: Vec<RefusedReport>,
    undeclared: Vec<Identity>,
    forecast: Forecast,
    totals: Totals,
    #[serde(skip)]
    is_incomplete: bool,
    #[serde(skip)]
    is_without_effect: bool,
    #[serde(skip)]
    doubted: usize,
    /// Some call was made and answered, perhaps of a resource of which another one failed.
    #[serde(skip)]
    is_begun: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ChangeOutcome {
    #[serde(flatten)]
    change: ChangeReport,
    result: ChangeResult,
    message: Option<String>,
}

/// Nothing supersedes here: one pass, one plan, one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum ChangeResult {
    Ok,
    Failed,
    Blocked,
    Held,
}

impl ChangeResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::Blocked => "BLOCKED",
            Self::Held => "held",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Totals {
    ok: usize,
    failed: usize,
    blocked: usize,
    held: usize,
}

impl Totals {
    fn of<'a>(outcomes: impl Iterator<Item = &'a ChangeOutcome>) -> Self {
        let mut totals = Self::default();
        for outcome in outcomes {
            *match outcome.result {
                ChangeResult::Ok => &mut totals.ok,
                ChangeResult::Failed => &mut totals.failed,
                ChangeResult::Blocked => &mut totals.blocked,
                ChangeResult::Held => &mut totals.held,
            } += 1;
        }
        totals
    }
}

impl Applied {
    /// Reads off the queue what is left of the plans; `projects` in the order of the report.
    /// `tasks`: how many each was given.
    pub fn of(report: Report<'_>, projects: &[Project], tasks: &[usize], queue: &Queue) -> Self {
        let outcome = |(plan, (project, tasks)): (ProjectReport<'_>, (&Project, &usize))| {
            let paused = project.reconciler.pause.refusal().map(|reason| reason.to_string());
            let outcome = ProjectOutcome::of(plan, &Left::of(queue, &project.name, paused));
            ProjectOutcome { is_begun: *tasks > queue.counts_of(&project.name).total(), ..outcome }
        };
        let projects = report.projects.into_iter().zip(projects.iter().zip(tasks)).map(outcome);
        let projects: Vec<ProjectOutcome> = projects.collect();
        let totals = Totals::of(projects.iter().flat_map(|project| &project.changes));
        Self { format_version: 1, projects, totals }
    }

    /// How the command ended: partly applied beats held.
    pub fn exit(&self) -> Exit {
        let Totals { ok, failed, blocked, .. } = self.totals;
        let is_short = |project: &ProjectOutcome| project.is_incomplete || !project.refused.is_empty();
        let is_bad = failed + blocked > 0 || self.projects.iter().any(is_short);
        // What was answered as done is done in part.
        let is_partly = ok > 0 || self.projects.iter().any(|project| project.is_without_effect || project.is_begun);
        match (is_bad, is_partly) {
            (true, true) => Exit::Partly,
            (true, false) => Exit::Failed,
            (false, _) if self.projects.iter().any(ProjectOutcome::has_held) => Exit::Held,
            (false, _) => Exit::Done,
        }
    }

    /// For a terminal or a log.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for project in &self.projects {
            project.write(&mut out);
        }
        out
    }
}

impl ProjectOutcome {
    /// Does something wait: for an approval, for its time, or for a policy that permits it?
    fn has_held(&self) -> bool {
        self.doubted > 0 || self.held.is_some() || self.changes.iter().any(|outcome| outcome.change.held.is_some())
    }

    fn of(plan: ProjectReport<'_>, left: &Left) -> Self {
        let mut changes: Vec<ChangeOutcome> =
            plan.changes.into_rendered().into_iter().map(|change| left.outcome(change)).collect();
        // It was answered as done, and then refused for what Descope made of it.
        let refusal = |change: &ChangeReport| {
            plan.refused.iter().find(|refused| (&refused.kind, &refused.id) == (&change.kind, &change.id))
        };
        for outcome in changes.iter_mut().filter(|outcome| plan.is_without_effect && outcome.result == ChangeResult::Ok)
        {
            if let Some(refused) = refusal(&outcome.change) {
                (outcome.result, outcome.message) = (ChangeResult::Failed, Some(refused.message.clone()));
            }
        }
        let totals = Totals::of(changes.iter());
        Self {
            name: plan.name,
            fingerprint: plan.fingerprint,
            held: plan.held,
            holds: plan.holds,
            warnings: plan.warnings.into_iter().map(Cow::into_owned).collect(),
            changes,
            refused: plan.refused,
            undeclared: plan.undeclared,
            forecast: plan.forecast,
            totals,
            is_incomplete: plan.is_incomplete,
            is_without_effect: plan.is_without_effect,
            doubted: plan.doubted,
            is_begun: false,
        }
    }

    fn write(&self, out: &mut String) {
        line(out, format_args!("project {}", self.name));
        for warning in &self.warnings {
            line(out, format_args!("  ! {warning}"));
        }
        for refused in &self.refused {
            line(out, format_args!("  {refused}"));
        }
        for ChangeOutcome { change, result, message } in &self.changes {
            let message = message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
            let why = change.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            // Nothing runs on that would see to it.
            let again = change.until.as_ref().map_or_else(String::new, |until| format!("; apply again after {until}"));
            line(
                out,
                format_args!(
                    "  {} {} {}/{}{message}{why}{again}",
                    result.as_str(),
                    change.action,
                    change.kind,
                    legible(&change.id)
                ),
            );
        }
        let Totals { ok, failed, blocked, held } = self.totals;
        if self.changes.is_empty() && self.refused.is_empty() && self.held.is_some() {
            line(out, format_args!("  nothing differs, and the project is held nevertheless"));
        } else if self.changes.is_empty() && self.refused.is_empty() {
            line(out, format_args!("  nothing to change"));
        } else {
            line(out, format_args!("  {ok} ok, {failed} failed, {blocked} blocked, {held} held"));
        }
        if let Some(held) = &self.held {
            line(out, format_args!("  {}", render::how_to_release(held)));
        }
    }
}

/// What the queue still holds of a project.
struct Left {
    problems: HashMap<(String, String), Problem>,
    unfinished: HashSet<(String, String)>,
    paused: Option<String>,
}

impl Left {
    fn of(queue: &Queue, project: &str, paused: Option<String>) -> Self {
        let unfinished = queue.unfinished(project).into_iter();
        let mut problems: HashMap<(String, String), Problem> = HashMap::new();
        for problem in queue.problems(project) {
            // Of the calls of one resource, the one that failed says more than those that wait for it.
            match problems.entry((problem.kind.clone(), problem.id.clone())) {
                Entry::Occupied(mut known) if known.get().state == ProblemState::Blocked => drop(known.insert(problem)),
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => drop(place.insert(problem)),
            }
        }
        Self { problems, unfinished: unfinished.map(|key| (key.kind.to_owned(), key.id())).collect(), paused }
    }

    fn outcome(&self, change: ChangeReport) -> ChangeOutcome {
        let key = (change.kind.to_string(), change.id.clone());
        let (result, message) = match (&change.held, self.problems.get(&key)) {
            (Some(reason), _) => (ChangeResult::Held, Some(reason.to_string())),
            (None, Some(problem)) if problem.state == ProblemState::Blocked => {
                (ChangeResult::Blocked, Some(problem.message.clone()))
            }
            (None, Some(problem)) => (ChangeResult::Failed, Some(problem.message.clone())),
            (None, None) if self.unfinished.contains(&key) => {
                let reason = self.paused.clone().unwrap_or_else(|| "not tried: stopped before its turn".to_owned());
                (ChangeResult::Failed, Some(reason))
            }
            (None, None) => (ChangeResult::Ok, None),
        };
        ChangeOutcome { change, result, message }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.push_str(&one_line(&text.to_string()));
    out.push('\n');
}
