//! Since when something is refused or blocked: neither a restart nor another try that fails as well begins a new time.

use super::Reconciler;
use super::overview::LONG_QUEUE;
use super::rfc3339;
use crate::plan::Plan;
use crate::state;
use crate::telemetry::status::Problem;
use crate::telemetry::status::ProblemState;
use crate::telemetry::status::Wait;
use crate::telemetry::status::Why;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::SystemTime;

/// So many are kept; the status names fewer of one reason.
const MOST: usize = 200;
/// What tells them apart from the reasons for which something is held, beside which the state keeps them.
const MARK: &str = "stuck ";

/// The project as a whole.
const REFUSED: &str = "refused";

/// By resource.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    since: BTreeMap<String, SystemTime>,
    is_recalled: bool,
}

impl Stuck {
    /// What the state knows now.
    fn take_in(&mut self, since: BTreeMap<String, SystemTime>) {
        self.since = since.into_iter().filter(|(reason, _)| reason.starts_with(MARK)).collect();
    }

    /// Says it of what waits.
    pub fn tell(&self, waits: &mut [Wait]) {
        let is_stuck = |wait: &&mut Wait| [Why::Parked, Why::Dependency].iter().any(|why| why.as_str() == wait.word());
        for wait in waits.iter_mut().filter(is_stuck) {
            if let Some(since) = self.since.get(&reason(&wait.kind, &wait.id)) {
                wait.since = Some(rfc3339(*since));
            }
        }
    }
}

fn reason(kind: &str, id: &str) -> String {
    format!("{MARK}{kind}/{id}")
}

impl Reconciler {
    /// By what the state keeps that Descope refuses the project.
    pub(super) fn refused_reason(&self) -> Option<&'static str> {
        self.pause.refusal().map(|_| REFUSED)
    }

    /// Since when that is so, as far as it was noted.
    pub(super) fn refused_since(&self) -> Option<SystemTime> {
        self.memory.plan.as_ref().and_then(|plan| plan.held_since.get(self.refused_reason()?).copied())
    }

    /// What the state keeps them by.
    pub(super) fn stuck_reasons(&self) -> Vec<String> {
        if self.memory.stuck.is_recalled {
            return self.memory.stuck.since.keys().cloned().collect();
        }
        let known = self.state.held_since().unwrap_or_default();
        known.into_keys().filter(|reason| reason.starts_with(MARK)).collect()
    }

    /// Takes over what an earlier run noted, or another replica.
    fn recall_stuck(&mut self) {
        if std::mem::replace(&mut self.memory.stuck.is_recalled, true) {
            return;
        }
        let since = self.state.or_warn(self.state.held_since(), "cannot read since when something is refused");
        self.memory.stuck.take_in(since.unwrap_or_default());
    }

    /// Notes what is refused or blocked now, and forgets what has gone ahead.
    pub(super) fn note_stuck(&mut self, problems: &[Problem]) {
        // Before the first plan nobody knows what has.
        let Some(plan) = self.memory.plan.clone() else { return };
        self.recall_stuck();
        let is_stuck = |problem: &&Problem| {
            !problem.id.is_empty() && matches!(problem.state, ProblemState::Parked | ProblemState::Blocked)
        };
        let stuck = problems.iter().filter(is_stuck).take(MOST);
        let mut now: BTreeSet<String> = stuck.map(|problem| reason(&problem.kind, &problem.id)).collect();
        let left = self.still_unfinished(&plan, &now);
        now.extend(left);
        if now.iter().eq(self.memory.stuck.since.keys()) {
            return;
        }
        let refused = self.refused_reason();
        let reasons = plan.held_reasons().chain(now.iter().map(String::as_str)).chain(refused).collect();
        match self.state.note_held(&reasons) {
            Ok(since) => self.memory.stuck.take_in(since),
            Err(state::Error::NotHeld) => {}
            // The state says so itself.
            Err(_) => {
                let (known, at) = (std::mem::take(&mut self.memory.stuck.since), self.state.now());
                let since = |reason: String| {
                    let since = known.get(&reason).copied().unwrap_or(at);
                    (reason, since)
                };
                self.memory.stuck.since = now.into_iter().map(since).collect();
            }
        }
    }

    /// Those that were stuck, are not `now`, and are not done either: they are tried again, or held.
    fn still_unfinished(&self, plan: &Plan, now: &BTreeSet<String>) -> Vec<String> {
        let gone: BTreeSet<&String> = self.memory.stuck.since.keys().filter(|reason| !now.contains(*reason)).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let project = &self.assessor.project;
        if self.queue.counts_of(project).total() > LONG_QUEUE {
            return gone.into_iter().cloned().collect();
        }
        let unfinished = self.queue.unfinished(project);
        let held = plan.changes.iter().filter(|change| change.held.is_some()).map(|change| &change.key);
        let left = unfinished.iter().chain(held).map(|key| reason(key.kind, &key.id()));
        left.filter(|reason| gone.contains(reason)).collect()
    }
}
