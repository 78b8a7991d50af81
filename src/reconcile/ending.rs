//! What a pass came to. The log says so once, and not before what the pass set off is done or has failed: what was refused a
//! moment later was not applied. Status and history follow; a counter cannot, and counts what it came to until it had planned.

use super::PassOutcome;
use super::Reconciler;
use crate::plan::Change;
use crate::plan::Plan;
use crate::queue::PausedBy;
use crate::resource::Action;
use crate::source::Trigger;
use crate::state;
use crate::telemetry::clock;
use crate::telemetry::status::PassStatus;
use crate::telemetry::status::rfc3339;
use std::time::SystemTime;
use tokio::time::Instant;
use tracing::Span;

/// A pass that has looked and planned, until what it set off has an end.
#[derive(Debug)]
pub(super) struct Ending {
    outcome: PassOutcome,
    /// Its row in the history.
    number: Option<i64>,
    /// Around its line in the log.
    span: Span,
    tally: Option<Tally>,
    /// From its beginning to the end of planning.
    seconds: f64,
}

/// What it planned, in numbers: the plan itself is not kept for a line.
#[derive(Debug, Clone, Copy)]
struct Tally {
    changes: usize,
    creates: usize,
    updates: usize,
    renames: usize,
    deletes: usize,
    held: usize,
    refused: usize,
    undeclared: usize,
    unobserved: usize,
}

impl Tally {
    fn of(plan: &Plan) -> Self {
        let of = |action| plan.changes.iter().filter(|change| change.action == action).count();
        Self {
            changes: plan.changes.len(),
            creates: of(Action::Create),
            updates: of(Action::Update),
            renames: of(Action::Rename),
            deletes: of(Action::Delete),
            held: plan.held().count(),
            refused: plan.refused.len(),
            undeclared: plan.undeclared.len(),
            unobserved: plan.unobserved.len(),
        }
    }
}

impl Ending {
    fn log(&self) {
        let (result, seconds) = (self.outcome.as_str(), self.seconds);
        let Some(Tally { changes, creates, updates, renames, deletes, held, refused, undeclared, unobserved }) =
            self.tally
        else {
            self.span.in_scope(|| tracing::info!(result, changes = 0, seconds, "pass finished"));
            return;
        };
        self.span.in_scope(|| {
            tracing::info!(
                result,
                changes,
                creates,
                updates,
                renames,
                deletes,
                held,
                refused,
                undeclared,
                unobserved,
                seconds,
                "pass finished"
            );
        });
    }
}

impl Reconciler {
    /// What a plan came to so far.
    pub(super) fn outcome(&self, plan: &Plan) -> PassOutcome {
        let outcome = self.outcome_for_files(plan);
        // Newer files are not looked at.
        let is_of_older = outcome == PassOutcome::Noop || outcome == PassOutcome::Applied;
        if is_of_older && !self.is_current() { PassOutcome::Partial } else { outcome }
    }

    /// The same for the files that are in force. What was refused before and is not tried again is not applied by having been planned.
    fn outcome_for_files(&self, plan: &Plan) -> PassOutcome {
        let counts = self.queue.counts_of(&self.assessor.project);
        let outcome = PassOutcome::of(plan);
        // While the state cannot be written, only updates go on.
        let is_new = |change: &Change| change.held.is_none() && change.action != Action::Update;
        let is_stuck = outcome == PassOutcome::Applied
            && (counts.parked + counts.blocked > 0 || self.state.is_failing() && plan.changes.iter().any(is_new));
        if is_stuck {
            return PassOutcome::Partial;
        }
        // A suspended project is only observed.
        let is_suspended = self.queue.paused_by(&self.assessor.project).contains(&PausedBy::Operator);
        if outcome == PassOutcome::Applied && is_suspended { PassOutcome::Noop } else { outcome }
    }

    /// A pass has looked and planned. What it set off is on its way.
    pub(super) fn planned(&mut self, trigger: Trigger, outcome: PassOutcome, times: (Instant, SystemTime)) {
        let (started, started_at) = times;
        let tally = self.memory.plan.as_ref().filter(|_| outcome != PassOutcome::Failed).map(|plan| Tally::of(plan));
        let changes = tally.map_or(0, |tally| tally.changes);
        self.memory.last_pass = Some(PassStatus {
            trigger: trigger.as_str().to_owned(),
            started_at: rfc3339(started_at),
            finished_at: rfc3339(clock::now()),
            result: outcome.as_str().to_owned(),
            changes: changes as u64,
        });
        // Beside it stands whether newer files could not be used.
        let plan = self.memory.plan.as_ref().filter(|_| outcome == PassOutcome::Partial);
        let noted = plan.map_or(outcome, |plan| self.outcome_for_files(plan));
        let number = self.note_pass(trigger, noted, started, changes);
        let (span, seconds) = (self.memory.span.clone().unwrap_or_else(Span::none), started.elapsed().as_secs_f64());
        self.memory.ending = Some(Ending { outcome, number, span, tally, seconds });
    }

    /// Takes in what failed of the newest pass so far.
    pub(super) fn follow_failure(&mut self) {
        let Some(ending) = self.memory.ending.as_mut().filter(|ending| ending.outcome == PassOutcome::Applied) else {
            return;
        };
        let counts = self.queue.counts_of(&self.assessor.project);
        if counts.parked + counts.blocked + counts.delayed == 0 {
            return;
        }
        ending.outcome = PassOutcome::Partial;
        let result = ending.outcome.as_str();
        if let Some(pass) = &mut self.memory.last_pass {
            result.clone_into(&mut pass.result);
        }
        match ending.number.map_or(Ok(()), |number| self.state.amend_pass(number, result)) {
            // The row tells by itself what was refused.
            Ok(()) | Err(state::Error::NotHeld) => {}
            Err(error) => self.tell_no_history(&error),
        }
    }

    /// Logs what the newest pass came to, once that is known: something failed, or nothing of it is left to be sent. `is_over`:
    /// nothing more will be known, as another one takes its place. Did the pass end now that is the newest of all?
    pub(super) fn log_ended(&mut self, is_over: bool) -> bool {
        let counts = self.queue.counts_of(&self.assessor.project);
        let is_open = |ending: &Ending| ending.outcome == PassOutcome::Applied && counts.ready + counts.in_flight > 0;
        let Some(ending) = self.memory.ending.take_if(|ending| is_over || !is_open(ending)) else { return false };
        ending.span.record("result", ending.outcome.as_str());
        ending.log();
        self.memory.span.as_ref().is_some_and(|newest| newest.id() == ending.span.id())
    }

    /// Nothing more will be known of the newest pass.
    pub(super) fn end_pass(&mut self) {
        self.follow_failure();
        self.log_ended(true);
    }
}
