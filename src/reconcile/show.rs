//! What a pass shows: gauges and the status snapshot.

use super::Carryover;
use super::PassOutcome;
use super::Reconciler;
use super::assess::FRESH;
use super::rfc3339;
use crate::descope;
use crate::desired::Finding;
use crate::plan::Change;
use crate::plan::Contact;
use crate::plan::Hold;
use crate::plan::Plan;
use crate::plan::published::Published;
use crate::plan::render;
use crate::plan::render::HeldReport;
use crate::plan::waits;
use crate::queue::PausedBy;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::source::Trigger;
use crate::source::loader::Load;
use crate::state::Suspended;
use crate::telemetry::clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::DesiredError;
use crate::telemetry::status::DesiredStatus;
use crate::telemetry::status::HeldStatus;
use crate::telemetry::status::Level;
use crate::telemetry::status::NO_ORDERS;
use crate::telemetry::status::ONLY_OBSERVES;
use crate::telemetry::status::Overview;
use crate::telemetry::status::Problem;
use crate::telemetry::status::ProblemState;
use crate::telemetry::status::STANDS_BY;
use crate::telemetry::status::SuspensionStatus;
use crate::telemetry::status::Told;
use crate::telemetry::status::Turn;
use crate::telemetry::status::Waits;
use crate::telemetry::status::Why;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;
use tracing::Span;

const ACTIONS: [Action; 4] = [Action::Create, Action::Update, Action::Rename, Action::Delete];

/// Every outcome, as passes and as changes are counted.
const PASSES: [PassOutcome; 5] =
    [PassOutcome::Noop, PassOutcome::Applied, PassOutcome::Partial, PassOutcome::Held, PassOutcome::Failed];
const RESULTS: [&str; 3] = ["ok", "failed", "superseded"];

/// Why a project is not converged, in a word.
const NOT_CONVERGED: [&str; 11] = [
    "stale_revision",
    "paused",
    "unobserved",
    "parked",
    "blocked",
    "retrying",
    "held",
    "drift_reported",
    "suspended",
    "pending",
    "unconfirmed",
];

/// Starts the series of a project at 0: a counter that appears with its first increase hides that increase from every
/// `increase()`, and an alert on a gauge that is not there never fires.
pub fn start_series(metrics: &Metrics, project: &str) {
    for trigger in Trigger::ALL {
        for outcome in PASSES {
            metrics.passes_total.with_label_values(&[project, trigger.as_str(), outcome.as_str()]);
        }
    }
    for phase in ["load", "observe", "plan", "total"] {
        metrics.pass_duration_seconds.with_label_values(&[project, phase]);
    }
    metrics.convergence_duration_seconds.with_label_values(&[project]);
    for gauge in [
        &metrics.last_attempt_timestamp_seconds,
        &metrics.last_whole_pass_timestamp_seconds,
        &metrics.last_success_timestamp_seconds,
    ] {
        gauge.with_label_values(&[project]).set(0.0);
    }
    for gauge in [&metrics.desired_valid, &metrics.converged, &metrics.suspended] {
        gauge.with_label_values(&[project]).set(0);
    }
    for reason in NOT_CONVERGED {
        metrics.not_converged.with_label_values(&[project, reason]).set(0);
    }
    for hold in Hold::ALL.map(Hold::as_str) {
        metrics.held_changes.with_label_values(&[project, hold]).set(0);
        metrics.guard_trips_total.with_label_values(&[project, hold]);
    }
    for kind in resource::ALL.iter().map(|kind| kind.name()) {
        let gauges = [
            &metrics.desired_resources,
            &metrics.drifted_resources,
            &metrics.undeclared_resources,
            &metrics.suspended_parts,
            &metrics.contested_resources,
        ];
        for gauge in gauges {
            gauge.with_label_values(&[project, kind]).set(0);
        }
        for action in ACTIONS.map(Action::as_str) {
            metrics.plan_changes.with_label_values(&[project, kind, action]).set(0);
            metrics.change_duration_seconds.with_label_values(&[kind, action]);
            for result in RESULTS {
                metrics.changes_total.with_label_values(&[project, kind, action, result]);
            }
        }
    }
}

/// So many warnings of files are logged for one revision.
const MOST_WARNINGS: usize = 30;

impl Reconciler {
    pub(super) fn show_load(&mut self, load: &Load) {
        let project = &*self.assessor.project;
        self.metrics.desired_valid.with_label_values(&[project]).set(i64::from(load.errors.is_empty()));
        for kind in resource::ALL.iter().map(|kind| kind.name()) {
            let count = load.desired.as_ref().map_or(0, |desired| desired.resources.count_of(kind));
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics.desired_resources.with_label_values(&[project, kind]).set(count);
        }
        let Carryover { repeats, is_asked, .. } = &mut self.memory;
        for error in &load.errors {
            if let Some(times) = repeats.met(error.to_string(), *is_asked) {
                tracing::error!(file = &*error.place.file, line = error.place.line, times, "{error}");
            }
        }
        self.warn_of_files(load);
        let Carryover { repeats, is_asked, .. } = &mut self.memory;
        if !load.errors.is_empty()
            && load.desired.is_some()
            && let Some(times) = repeats.met("last good", *is_asked)
        {
            tracing::error!(times, "the files cannot be used; the last good desired state stays in force");
        }
    }

    /// Each warning once a revision.
    fn warn_of_files(&mut self, load: &Load) {
        let (told_for, told) = &mut self.memory.told_of_files;
        if *told_for != load.revision {
            told_for.clone_from(&load.revision);
            told.clear();
        }
        let now: BTreeSet<Finding> = load.remarks().collect();
        let news: Vec<&Finding> = now.difference(told).collect();
        for finding in news.iter().take(MOST_WARNINGS) {
            let (file, line) = (&*finding.place.file, finding.place.line);
            tracing::warn!(file, line, "{finding}");
        }
        if let Some(more) = news.len().checked_sub(MOST_WARNINGS).filter(|more| *more > 0) {
            tracing::warn!(more, "there are more warnings of the files; `descope-gitops validate` shows all of them");
        }
        *told = now;
    }

    pub(super) fn show_plan(&mut self, plan: &Plan) {
        let project = &*self.assessor.project;
        let changes = count(plan.changes.iter().map(|change| (change.key.kind, change.action)));
        let undeclared = count(plan.undeclared.iter().map(|key| key.kind));
        // Held as a whole, with or without anything to change.
        let takeover = plan.awaits_contact().then_some(Hold::FirstContact(Contact::Project));
        let is_said = plan.changes.iter().any(|change| change.held == takeover);
        let holds = || plan.changes.iter().flat_map(Change::holds).chain(takeover.filter(|_| !is_said));
        let held = count(holds().map(Hold::as_str));
        let is_contested = |change: &&Change| change.held == Some(Hold::Contested);
        let contested: BTreeSet<&Key> = plan.changes.iter().filter(is_contested).map(|change| &change.key).collect();
        let contested = count(contested.into_iter().map(|key| key.kind));
        for kind in resource::ALL.iter().map(|kind| kind.name()) {
            for action in ACTIONS {
                let count = changes.get(&(kind, action)).copied().unwrap_or(0);
                self.metrics.plan_changes.with_label_values(&[project, kind, action.as_str()]).set(count);
            }
            let count = contested.get(kind).copied().unwrap_or(0);
            self.metrics.contested_resources.with_label_values(&[project, kind]).set(count);
            let count = undeclared.get(kind).copied().unwrap_or(0);
            self.metrics.undeclared_resources.with_label_values(&[project, kind]).set(count);
        }
        for kind in resource::ALL.iter().filter(|kind| kind.spec().ends.is_some()).map(|kind| kind.name()) {
            let gauge = &self.metrics.credential_expiry_timestamp_seconds;
            match plan.ends.iter().filter(|(key, _)| key.kind == kind).map(|(_, end)| *end).min() {
                Some(end) => gauge.with_label_values(&[project, kind]).set(i64::try_from(end).unwrap_or(i64::MAX)),
                // None known is no series: 0 would be an end.
                None if plan.observed.contains(kind) => drop(gauge.remove_label_values(&[project, kind])),
                None => {}
            }
        }
        let now: BTreeSet<&'static str> = holds().filter(|hold| hold.is_guard()).map(Hold::as_str).collect();
        for hold in Hold::ALL.map(Hold::as_str) {
            let count = held.get(&hold).copied().unwrap_or(0);
            self.metrics.held_changes.with_label_values(&[project, hold]).set(count);
            if now.contains(&hold) && !self.memory.held.contains(&hold) {
                self.metrics.guard_trips_total.with_label_values(&[project, hold]).inc();
            }
        }
        if let Some(HeldReport { fingerprint, reason, changes, deletes, .. }) = HeldReport::of(plan)
            && self.memory.announced != fingerprint
        {
            let what =
                if changes == 0 { "the project is held until approved" } else { "changes are held until approved" };
            let remedy = format!("`descope-gitops approve {fingerprint}`");
            let remedy = if self.board.can_order() { &remedy } else { NO_ORDERS };
            tracing::warn!(fingerprint, reason, changes, deletes, "{what}: {remedy}");
        }
        self.log_held(plan);
        self.memory.held = now;
        self.memory.announced.clone_from(&plan.fingerprint);
        let Carryover { repeats, is_asked, .. } = &mut self.memory;
        for refusal in &plan.refused {
            let (kind, id) = (refusal.key.kind, refusal.key.id());
            let place = refusal.place.as_ref().map(ToString::to_string);
            if let Some(times) = repeats.met((kind, &id, &refusal.message), *is_asked) {
                tracing::error!(kind, id, place, times, "{}", refusal.message);
            }
        }
        for warning in &plan.warnings {
            if let Some(times) = repeats.met(warning, *is_asked) {
                tracing::warn!(times, "{warning}");
            }
        }
        for (kind, unobserved) in &plan.unobserved {
            let reason = &unobserved.reason;
            if let Some(times) = repeats.met((kind, reason), *is_asked) {
                tracing::error!(kind, reason, times, "cannot be observed; nothing of this kind is changed meanwhile");
            }
        }
    }

    /// One line for each change that is held for other reasons than it was, so that the story of one resource has its holds.
    fn log_held(&mut self, plan: &Plan) {
        let before = std::mem::take(&mut self.memory.told_held);
        let mut news = 0_usize;
        for change in plan.held() {
            let reasons: Vec<&str> = change.holds().map(Hold::as_str).collect();
            let mut digest = DefaultHasher::new();
            (&change.key, change.action.as_str(), &reasons, &change.why).hash(&mut digest);
            let digest = digest.finish();
            self.memory.told_held.insert(digest);
            if before.contains(&digest) {
                continue;
            }
            news += 1;
            if news <= MOST_WARNINGS {
                let (kind, id, action, reason) =
                    (change.key.kind, change.key.id(), change.action.as_str(), reasons.join(","));
                let (why, fingerprint) = (change.why.as_deref(), &*plan.fingerprint);
                tracing::warn!(kind, id, action, reason, why, fingerprint, "a change is held until approved");
            }
        }
        if let Some(more) = news.checked_sub(MOST_WARNINGS).filter(|more| *more > 0) {
            tracing::warn!(more, "more changes are held until approved; `descope-gitops plan` shows all of them");
        }
    }

    /// Puts what is known now on the board. Also called when only the queue moved.
    pub(super) fn publish(&mut self) {
        self.follow_failure();
        let is_over = self.log_ended(false);
        let project = self.assessor.project.clone();
        let problems = self.problems();
        self.note_stuck(&problems);
        let because = self.not_converged_because(&problems);
        let is_converged = because.is_none();
        self.metrics.converged.with_label_values(&[&*project]).set(i64::from(is_converged));
        for reason in NOT_CONVERGED {
            let is_it = i64::from(because == Some(reason));
            self.metrics.not_converged.with_label_values(&[&*project, reason]).set(is_it);
        }
        if is_converged && let Some(seen) = self.memory.revision_seen.take() {
            let seconds = seen.elapsed().as_secs_f64();
            self.metrics.convergence_duration_seconds.with_label_values(&[&*project]).observe(seconds);
            let of_pass = || tracing::info!(seconds, "converged: the project equals the config repo");
            self.memory.span.as_ref().unwrap_or(&Span::none()).in_scope(of_pass);
            self.note_in_sync();
        }
        if is_over {
            // What holds it is what it lasts by.
            self.memory.span = None;
        }
        let suspended_until = self.pause.suspended_until();
        let overview = self.overview(is_converged);
        self.metrics.suspended.with_label_values(&[&*project]).set(i64::from(suspended_until.is_some()));
        self.show_end("", suspended_until);
        let contested = self.contested();
        let turn = self.turn_of_tasks(suspended_until);
        let waits = self.waits(&turn);
        let host = self.assessor.client.limits().host;
        let plan = self.memory.plan.as_deref();
        let put_aside = self.memory.is_stale.then_some("its files are put aside");
        let load = self.memory.load.as_ref();
        // Read last: an order that came meanwhile is on the board already, and must not leave it again.
        let suspensions = self.show_suspensions();
        let until = self.pause.suspended_until().map(rfc3339);
        let by = until.as_ref().and_then(|_| self.pause.suspended_by());
        let can_order = self.board.can_order();
        // Of the plan that is shown.
        let of_it =
            |published: &Published| self.memory.plan.as_ref().is_some_and(|plan| Arc::ptr_eq(plan, &published.plan));
        let is_approved =
            self.plans.borrow().as_ref().is_some_and(|published| of_it(published) && published.is_approved());
        let refused_because = self.pause.refusal().map(|error| error.to_string());
        let refused_since = self.refused_since().map(rfc3339);
        self.board.project(&project, |status| {
            status.converged = is_converged;
            status.not_converged_because = because;
            // One that a call met, and no pass, is noted with the next one.
            let since = || refused_since.or(status.refused_since.take()).unwrap_or_else(|| rfc3339(clock::now()));
            status.refused_since = refused_because.as_ref().map(|_| since());
            status.refused_because = refused_because;
            status.holds = plan.map(render::holds).unwrap_or_default();
            status.show_put_aside(can_order);
            status.wait_counts = waits.counts();
            status.waits = waits.rows();
            self.memory.stuck.tell(&mut status.waits);
            status.host = host;
            status.turn = turn;
            status.suspended_until = until;
            status.suspended_by = by;
            status.suspensions = suspensions;
            status.contested = contested;
            status.desired = load.map(desired_status).unwrap_or_default();
            status.held = plan.and_then(HeldReport::of).map(|held| HeldStatus {
                fingerprint: held.fingerprint,
                reason: held.reason,
                changes: held.changes as u64,
                deletes: held.deletes as u64,
            });
            if is_approved {
                status.show_approved();
            }
            status.last_pass.clone_from(&self.memory.last_pass);
            status.undeclared = plan.map_or(0, |plan| plan.undeclared.len() as u64);
            status.problems = problems;
            let Overview { look, look_began, timer_at, .. } = std::mem::take(&mut status.overview);
            status.overview = Overview { look, look_began, timer_at, ..overview };
            status.overview.schedule();
            status.readiness.unobserved_because = put_aside;
            status.readiness.desired_loaded = load.is_some_and(|load| load.desired.is_some());
            status.readiness.observed |= plan.is_some_and(|plan| !plan.observed.is_empty());
        });
        self.show_health(load);
    }

    fn show_suspensions(&self) -> Vec<SuspensionStatus> {
        let parts = self.pause.parts();
        let counts = count(parts.iter().map(|part| part.kind.as_str()));
        for kind in resource::ALL.iter().map(|kind| kind.name()) {
            let count = counts.get(kind).copied().unwrap_or(0);
            self.metrics.suspended_parts.with_label_values(&[&*self.assessor.project, kind]).set(count);
            self.show_end(kind, parts.iter().filter(|part| part.kind == kind).map(|part| part.until).max());
        }
        parts.into_iter().map(suspension).collect()
    }

    /// Of what is not suspended there is no series: 0 would be an end.
    fn show_end(&self, kind: &str, until: Option<SystemTime>) {
        let gauge = &self.metrics.suspended_until_timestamp_seconds;
        let of = [&*self.assessor.project, kind];
        let since = until.and_then(|until| until.duration_since(SystemTime::UNIX_EPOCH).ok());
        match since.and_then(|since| i64::try_from(since.as_secs()).ok()) {
            Some(seconds) => gauge.with_label_values(&of).set(seconds),
            None => drop(gauge.remove_label_values(&of)),
        }
    }

    /// The open `/healthz`: reasons from a closed set, no messages.
    fn show_health(&self, load: Option<&Load>) {
        let project = Some(&*self.assessor.project);
        let (level, reason) = match load {
            None => (Level::Starting, None),
            Some(load) if load.desired.is_none() => (Level::Failing, Some("no valid desired state")),
            Some(load) if !load.errors.is_empty() => (Level::Degraded, Some("newest files not in force")),
            Some(_) => (Level::Ok, None),
        };
        self.board.component("source", project, level, reason);
        let paused = self.pause.refusal().as_ref().map(pause);
        let (level, reason) = match &self.memory.plan {
            _ if paused.is_some() => (Level::Failing, paused),
            None if self.state.is_shared() && self.term().is_none() => (Level::Ok, Some(STANDS_BY)),
            None if self.memory.is_stale => (Level::Ok, Some("not looked at: the files here are not those in force")),
            None => (Level::Starting, None),
            Some(plan) if plan.observed.is_empty() && !plan.unobserved.is_empty() => {
                (Level::Failing, Some("cannot be observed"))
            }
            Some(plan) if !plan.unobserved.is_empty() => (Level::Degraded, Some("some kinds cannot be observed")),
            Some(_) => (Level::Ok, None),
        };
        let since = self.refused_since().filter(|_| paused.is_some());
        self.board.component_since("descope", project, (level, reason), since);
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.queue.problems(&self.assessor.project);
        let Some(plan) = &self.memory.plan else { return problems };
        problems.extend(plan.refused.iter().map(|refusal| Problem {
            kind: refusal.key.kind.to_owned(),
            id: refusal.key.id(),
            state: ProblemState::Parked,
            message: refusal.message.clone(),
            attempts: 0,
            next_attempt_at: None,
            file: refusal.place.as_ref().map(|place| place.file.to_string()),
            line: refusal.place.as_ref().map(|place| place.line),
        }));
        problems.extend(self.memory.suspended_problems.values().cloned());
        // A kind as a whole has no identity.
        problems.extend(plan.unobserved.iter().map(|(kind, unobserved)| Problem {
            kind: (*kind).to_owned(),
            id: String::new(),
            state: if unobserved.is_transient { ProblemState::Retrying } else { ProblemState::Parked },
            message: unobserved.reason.clone(),
            attempts: self.memory.failures,
            next_attempt_at: self.memory.retry_at.map(|at| rfc3339(wall(at))),
            file: None,
            line: None,
        }));
        problems.sort_by(|a, b| (&a.kind, &a.id).cmp(&(&b.kind, &b.id)));
        each_once(problems)
    }

    /// Is anything on the queue?
    pub(super) fn is_at_work(&self) -> bool {
        self.queue.counts_of(&self.assessor.project).total() > 0
    }

    /// What is not at rest.
    fn waits(&self, turn: &Turn) -> Waits {
        let mut waits = Waits::first();
        let Some(plan) = &self.memory.plan else { return waits };
        if let Some(published) = &*self.plans.borrow() {
            published.add_held(&mut waits);
        }
        let since = |key: &Key| self.memory.waits.get(key).copied();
        waits::unplanned(plan, &since, self.memory.retry_at.map(wall), &mut waits);
        self.unconfirmed(plan, &mut waits);
        self.queue.waits(&self.assessor.project, turn, &|_| true, &mut waits);
        waits
    }

    /// What was written a moment ago and is not shown yet, by this process or by a holder before.
    fn unconfirmed(&self, plan: &Plan, waits: &mut Waits) {
        let mut tell = |why: Why, key: &Key, what: &str, until: Option<SystemTime>| {
            let since = self.memory.waits.get(key).copied().map(rfc3339);
            let until = until.map(rfc3339);
            waits.add(why, key.kind, || Told { id: key.id(), what: what.to_owned(), since, until });
        };
        for key in &plan.unlisted {
            let until = self.memory.waits.get(key).map(|since| *since + FRESH);
            tell(Why::Unconfirmed, key, "created a moment ago; Descope's list lacks it yet", until);
        }
        for (key, missing) in plan.missing.iter().filter(|(_, missing)| missing.is_leaving) {
            let what = "left the files; Descope's list lacks it, which does not prove yet that it is gone";
            tell(Why::Unconfirmed, key, what, Some(missing.until));
        }
        if let Some((until, keys)) = &self.memory.left_alone {
            for key in keys {
                let what = "a call of the replica that held the project before may still be under way";
                tell(Why::Handover, key, what, Some(wall(*until)));
            }
        }
        let confirm_at = self.memory.unconfirmed.until.map(wall);
        let unconfirmed: BTreeSet<&Key> = self.memory.unconfirmed.keys.keys().collect();
        for key in unconfirmed {
            tell(Why::Unconfirmed, key, "written a moment ago; Descope's list shows what was there before", confirm_at);
        }
    }

    /// What a task waits for that nothing keeps back but its turn.
    fn turn_of_tasks(&self, suspended_until: Option<SystemTime>) -> Turn {
        if let Some(until) = suspended_until {
            let why = Why::Held(Hold::Suspended.as_str());
            return Turn { why, what: ONLY_OBSERVES, until: Some(rfc3339(until)) };
        }
        if let Some(error) = self.pause.refusal() {
            return Turn { why: Why::Paused, what: pause(&error), until: None };
        }
        let paused_by = self.queue.paused_by(&self.assessor.project);
        if paused_by.contains(&PausedBy::Files) {
            return Turn { why: Why::Paused, what: "there are newer files, which are planned first", until: None };
        }
        if paused_by.contains(&PausedBy::Parts) {
            return Turn {
                why: Why::Paused,
                what: "a part was suspended, and what is left is planned first",
                until: None,
            };
        }
        let are_hanging = self.metrics.unanswered.take_every_worker(self.queue.counts().in_flight);
        Turn::of_traffic(self.assessor.client.limits().paused_until, are_hanging)
    }

    /// Why the project is not as the files want it, in a word; `None` where it is.
    fn not_converged_because(&self, problems: &[Problem]) -> Option<&'static str> {
        let has_passed = self.memory.last_pass.as_ref().is_some_and(|pass| pass.result != PassOutcome::Failed.as_str());
        if self.memory.is_stale {
            return Some("stale_revision");
        }
        let Some(plan) = &self.memory.plan else { return Some("pending") };
        let has_problem = |state: ProblemState| problems.iter().any(|problem| problem.state == state);
        let is_suspended = |change: &Change| change.held == Some(Hold::Suspended);
        let is_drift = |change: &Change| matches!(change.held, Some(Hold::DriftReported(_)));
        let is_other = |change: &Change| !is_suspended(change) && !is_drift(change);
        let is_left = |change: &Change| change.held.is_some_and(|hold| !hold.is_rest()) && is_other(change);
        let is_queued = self.is_at_work() || self.memory.left_alone.is_some();
        let is_leaving = plan.missing.values().any(|missing| missing.is_leaving);
        let is_unseen = self.queue.awaits_look(&self.assessor.project);
        // Newer files are looked at.
        let newest = self.memory.load.as_ref().and_then(|load| load.desired.as_ref());
        let is_unplanned = newest.zip(self.memory.planned.as_ref()).is_some_and(|(new, old)| !Arc::ptr_eq(new, old));
        // What a suspension took off the queue is in no plan yet.
        let is_withdrawn = self.queue.paused_by(&self.assessor.project).contains(&PausedBy::Parts);
        let is_unplanned = is_unplanned || is_withdrawn;
        let reasons = [
            (self.pause.refusal().is_some(), "paused"),
            (!plan.unobserved.is_empty(), "unobserved"),
            (has_problem(ProblemState::Parked) || !plan.refused.is_empty(), "parked"),
            (has_problem(ProblemState::Blocked), "blocked"),
            (has_problem(ProblemState::Retrying), "retrying"),
            (plan.awaits_contact() || !plan.shrunk.is_empty() || plan.changes.iter().any(is_left), "held"),
            (plan.changes.iter().any(is_drift), "drift_reported"),
            (plan.changes.iter().any(is_suspended), "suspended"),
            (
                !has_passed || is_queued || is_unplanned || !plan.waiting.is_empty() || !plan.unread.is_empty(),
                "pending",
            ),
            (
                !plan.unlisted.is_empty() || is_leaving || !self.memory.unconfirmed.keys.is_empty() || is_unseen,
                "unconfirmed",
            ),
        ];
        reasons.into_iter().find(|(is_so, _)| *is_so).map(|(_, reason)| reason)
    }
}

/// Two calls of a resource may be stuck for one and the same reason. They are sorted by resource.
fn each_once(problems: Vec<Problem>) -> Vec<Problem> {
    let mut kept: Vec<Problem> = Vec::with_capacity(problems.len());
    for problem in problems {
        let of_same = kept.iter_mut().rev().take_while(|it| (&it.kind, &it.id) == (&problem.kind, &problem.id));
        let mut of_same = of_same.filter(|it| (it.state, &it.message) == (problem.state, &problem.message));
        match of_same.next() {
            Some(same) => same.attempts = same.attempts.max(problem.attempts),
            None => kept.push(problem),
        }
    }
    kept
}

/// As the status has it.
pub fn suspension(part: Suspended) -> SuspensionStatus {
    let (since, until) = (rfc3339(part.since), rfc3339(part.until));
    SuspensionStatus { kind: part.kind, id: part.id, since, until, by: Some(part.by).filter(|by| !by.is_empty()) }
}

/// A moment to come, on the clock of the machine.
fn wall(at: Instant) -> SystemTime {
    clock::now() + at.saturating_duration_since(Instant::now())
}

/// Why the project is paused, for everybody.
pub fn pause(error: &descope::Error) -> &'static str {
    if matches!(error, descope::Error::Blocked { .. }) {
        "refused on the way to Descope"
    } else {
        "management key refused"
    }
}

fn desired_status(load: &Load) -> DesiredStatus {
    let error = |finding: &Finding| DesiredError {
        file: finding.place.file.to_string(),
        line: finding.place.line,
        message: finding.without_place(),
    };
    DesiredStatus {
        valid: load.desired.is_some() && load.errors.is_empty(),
        revision: load.revision.as_deref().map(str::to_owned),
        commit: load.commit.clone(),
        loaded_at: load.loaded_at.map(rfc3339),
        resources: load.desired.as_ref().map_or(0, |desired| desired.resources.len() as u64),
        errors: load.errors.iter().map(error).collect(),
    }
}

pub(super) fn count<T: std::hash::Hash + Eq>(items: impl Iterator<Item = T>) -> HashMap<T, i64> {
    let mut counts = HashMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}
