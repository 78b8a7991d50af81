//! Windows on a status: counts are whole, lists are cut, so that its size does not grow with the project.

use crate::telemetry::status::Board;
use crate::telemetry::status::Component;
use crate::telemetry::status::DesiredStatus;
use crate::telemetry::status::LimiterStatus;
use crate::telemetry::status::Problem;
use crate::telemetry::status::ProblemState;
use crate::telemetry::status::ProjectStatus;
use crate::telemetry::status::QueueStatus;
use crate::telemetry::status::Status;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use std::borrow::Cow;

/// So much of each list is in an event; all of it is in `/api/v1/status`.
pub(super) const SHOWN: usize = 20;

/// What an event says: the status with its lists cut, and how the components are.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    format_version: u32,
    version: &'static str,
    started_at: String,
    can_order: bool,
    projects: Vec<ProjectWindow>,
    queue: QueueStatus,
    limiters: Vec<LimiterStatus>,
    components: Vec<Component>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProjectWindow {
    #[serde(flatten)]
    status: ProjectStatus,
    errors_total: u64,
    problems_total: u64,
}

impl ProjectWindow {
    fn of(project: &ProjectStatus, most: usize) -> Self {
        let first = |problems: &[Problem]| problems.iter().take(most).cloned().collect();
        let desired = DesiredStatus {
            valid: project.desired.valid,
            revision: project.desired.revision.clone(),
            commit: project.desired.commit.clone(),
            loaded_at: project.desired.loaded_at.clone(),
            resources: project.desired.resources,
            errors: project.desired.errors.iter().take(most).cloned().collect(),
        };
        let status = ProjectStatus {
            name: project.name.clone(),
            policy: project.policy,
            converged: project.converged,
            not_converged_because: project.not_converged_because,
            refused_because: project.refused_because.clone(),
            refused_since: project.refused_since.clone(),
            lease: project.lease.clone(),
            checkouts: project.checkouts.clone(),
            suspended_until: project.suspended_until.clone(),
            suspended_by: project.suspended_by.clone(),
            suspensions: project.suspensions.iter().take(most).cloned().collect(),
            desired,
            planned_revision: project.planned_revision.clone(),
            held: project.held.clone(),
            holds: project.holds.clone(),
            contested: project.contested.iter().take(most).cloned().collect(),
            waits: project.waits.iter().take(most).cloned().collect(),
            wait_counts: project.wait_counts.clone(),
            host: project.host.clone(),
            turn: project.turn.clone(),
            last_pass: project.last_pass.clone(),
            undeclared: project.undeclared,
            problems: first(&project.problems),
            overview: project.overview.clone(),
            readiness: project.readiness,
        };
        let (errors, problems) = (project.desired.errors.len(), project.problems.len());
        Self { status, errors_total: errors as u64, problems_total: problems as u64 }
    }
}

/// Which problems to show.
#[derive(Debug, Clone, Default)]
pub struct WhichProblems<'a> {
    /// Of this project.
    pub project: Option<&'a str>,
    /// In this state.
    pub state: Option<&'a str>,
    /// Of this kind.
    pub kind: Option<&'a str>,
    /// With this identity.
    pub id: Option<&'a str>,
    /// How many to pass over.
    pub offset: usize,
    /// How many at the most.
    pub limit: usize,
}

/// A window on the problems of all projects.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemWindow {
    format_version: u32,
    total: u64,
    problems: Vec<ProblemOf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProblemOf {
    project: String,
    #[serde(flatten)]
    problem: Problem,
}

impl Board {
    /// As it is now, cut.
    pub fn snapshot(&self) -> Snapshot {
        let components = self.health().components;
        let status = self.status.borrow();
        let Status { format_version, version, started_at, can_order, projects, queue, limiters, .. } = &*status;
        Snapshot {
            format_version: *format_version,
            version,
            started_at: started_at.clone(),
            can_order: *can_order,
            projects: projects.iter().map(|project| ProjectWindow::of(project, SHOWN)).collect(),
            queue: *queue,
            limiters: limiters.clone(),
            components,
        }
    }

    /// As it is now of one project, each list cut to so much, as JSON.
    pub fn excerpt(&self, project: &str, most: usize) -> Option<Map<String, Value>> {
        let window = self.look_at(project, |project| ProjectWindow::of(project, most))?;
        match serde_json::to_value(window) {
            Ok(Value::Object(fields)) => Some(fields),
            _ => None,
        }
    }

    /// Those problems that were asked for, in the order of the projects.
    pub fn problems(&self, which: &WhichProblems<'_>) -> ProblemWindow {
        let status = self.status.borrow();
        let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        let projects = status.projects.iter().filter(|project| is(which.project, &project.name));
        let known: Vec<(&ProjectStatus, Cow<'_, [Problem]>)> = projects
            .map(|project| {
                let said = self.problems_elsewhere(project);
                (project, said.map_or(Cow::Borrowed(&*project.problems), Cow::Owned))
            })
            .collect();
        let problems =
            known.iter().flat_map(|(project, problems)| problems.iter().map(move |problem| (project, problem)));
        let wanted = problems.filter(|(_, problem)| {
            is(which.state, problem.state.as_str()) && is(which.kind, &problem.kind) && is(which.id, &problem.id)
        });
        let (mut total, mut shown) = (0, Vec::new());
        for (project, problem) in wanted {
            if total >= which.offset && shown.len() < which.limit {
                shown.push(ProblemOf { project: project.name.clone(), problem: problem.clone() });
            }
            total += 1;
        }
        ProblemWindow { format_version: 1, total: total as u64, problems: shown }
    }
}

impl ProblemState {
    /// As the JSON says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Blocked => "blocked",
            Self::Retrying => "retrying",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn problem(id: usize, state: ProblemState) -> Problem {
        Problem {
            kind: "roles".to_owned(),
            id: format!("r{id}"),
            state,
            message: "m".to_owned(),
            attempts: 1,
            next_attempt_at: None,
            file: None,
            line: None,
        }
    }

    fn board(problems: usize) -> Board {
        let board = Board::new(Duration::from_secs(60), &[("one", "observe"), ("two", "sync")]);
        let state = |n| if n % 2 == 0 { ProblemState::Parked } else { ProblemState::Retrying };
        board.project("two", |project| project.problems = (0..problems).map(|n| problem(n, state(n))).collect());
        board
    }

    #[test]
    fn a_snapshot_does_not_grow_with_the_project_and_says_what_it_leaves_out() {
        let size = |problems| serde_json::to_string(&board(problems).snapshot()).unwrap().len();

        let snapshot = serde_json::to_value(board(1000).snapshot()).unwrap();

        assert_eq!(snapshot["projects"][1]["problemsTotal"], 1000);
        assert_eq!(snapshot["projects"][1]["problems"].as_array().unwrap().len(), SHOWN);
        assert!(size(100_000) < size(SHOWN) + 200);
    }

    #[test]
    fn problems_are_found_by_project_state_kind_and_identity() {
        let board = board(10);
        let found = |which: WhichProblems<'_>| {
            let found = serde_json::to_value(board.problems(&which)).unwrap();
            let ids = found["problems"].as_array().unwrap().iter().map(|problem| problem["id"].clone());
            (found["total"].clone(), ids.collect::<Vec<_>>())
        };
        let usual = WhichProblems { limit: 2, ..WhichProblems::default() };

        assert_eq!(found(usual.clone()), (json!(10), vec![json!("r0"), json!("r1")]));
        assert_eq!(found(WhichProblems { offset: 9, ..usual.clone() }), (json!(10), vec![json!("r9")]));
        assert_eq!(found(WhichProblems { state: Some("parked"), ..usual.clone() }).0, json!(5));
        assert_eq!(found(WhichProblems { project: Some("one"), ..usual.clone() }).0, json!(0));
        assert_eq!(found(WhichProblems { id: Some("r3"), ..usual.clone() }), (json!(1), vec![json!("r3")]));
        assert_eq!(found(WhichProblems { kind: Some("tenants"), ..usual }).0, json!(0));
    }
}
