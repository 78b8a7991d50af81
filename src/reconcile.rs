//! The loop: a trigger, one look at both sides, a plan, the queue. One reconciler per project.
//!
//! It is level-triggered: a trigger carries no data. Loading is all or nothing, observing is kind by kind, and
//! whatever could be learned is used: a broken repo leaves the last good desired state in force, a kind that cannot be
//! observed is left alone, and neither ever looks like a deletion.

use crate::aside::aside;
use crate::backoff::Backoff;
use crate::desired::Desired;
use crate::desired::Finding;
use crate::limiter::Priority;
use crate::observed;
use crate::observed::News;
use crate::pause::Pause;
use crate::plan;
use crate::plan::Change;
use crate::plan::Hold;
use crate::plan::Origin;
use crate::plan::Plan;
use crate::plan::Task;
use crate::plan::published::Published;
use crate::plan::render::listed;
use crate::queue::Queue;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::spec::Read;
use crate::source::Trigger;
use crate::source::TriggerReceiver;
use crate::source::loader::Load;
use crate::source::loader::LoadResult;
use crate::source::loader::Loader;
use crate::state;
use crate::state::IntentId;
use crate::state::PassRow;
use crate::state::ProjectState;
use crate::telemetry::clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::repeats::Repeats;
use crate::telemetry::repeats::is_worth_a_line;
use crate::telemetry::status::Board;
use crate::telemetry::status::PassStatus;
use crate::telemetry::status::Problem;
use crate::telemetry::status::ProblemState;
use crate::telemetry::status::Pulse;
use crate::telemetry::status::rfc3339;
use crate::telemetry::traces;
use crate::worker::recent::Unconfirmed;
use assess::Assessment;
use assess::Assessor;
use assess::Sight;
use ending::Ending;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing::Span;
use tracing::field::Empty;

mod actors;
mod approvals;
pub mod assess;
pub mod contest;
mod documents;
mod drift;
mod effect;
mod ending;
mod entry;
mod intents;
mod inventory;
mod lease;
mod overview;
pub mod show;
mod stuck;

/// The status follows the queue at most this often: a drain of thousands of tasks would do little else.
const STATUS_EVERY: Duration = Duration::from_millis(200);

/// The same where it could not be noted since when they wait, as on a full disk.
const UNNOTED_WAIT: Duration = Duration::from_secs(1);

/// Looks at deletes that wait for their time come no closer together than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// The loop of one project.
pub struct Reconciler {
    /// Looks at both sides.
    pub assessor: Assessor,
    /// What the daemon remembers of the project.
    pub state: ProjectState,
    /// The files of the project; `None` only while a load is under way.
    pub loader: Option<Loader>,
    /// Where the changes go.
    pub queue: Queue,
    /// Kinds that the key may not write; forgiven by each pass.
    pub forbidden: watch::Sender<BTreeMap<&'static str, (u32, String)>>,
    /// How often what was not permitted is tried again.
    pub interval: Duration,
    /// Why the project as a whole waits.
    pub pause: Pause,
    /// How long to wait before looking again after a failure.
    pub backoff: Backoff,
    /// Counts and times.
    pub metrics: Arc<Metrics>,
    /// Where the status goes.
    pub board: Arc<Board>,
    /// Beats while the loop turns.
    pub pulse: Pulse,
    /// Where the newest plan goes.
    pub plans: watch::Sender<Option<Published>>,
    /// The term of the lease under which that was made.
    pub planned_under: watch::Sender<Option<i64>>,
    /// What earlier passes left.
    pub memory: Carryover,
}

/// What one pass leaves for the next.
#[derive(Debug, Default)]
pub struct Carryover {
    load: Option<Load>,
    plan: Option<Arc<Plan>>,
    /// What the queue works off.
    planned: Option<Arc<Desired>>,
    last_pass: Option<PassStatus>,
    /// Digests of declarations that were in sync, which the state knows field by field.
    in_sync: HashMap<Key, u64>,
    /// What the last look showed to differ: until one shows it as declared, nobody turned it back.
    differing: HashSet<Key>,
    /// Digests of those that the queue is to bring in sync.
    sent: HashMap<Key, u64>,
    /// When the revision that is not converged yet was first seen.
    revision_seen: Option<Instant>,
    /// Who changed what drifted.
    questions: actors::Questions,
    /// For the page.
    overview: overview::Earlier,
    /// The newest pass, while what it set off is under way.
    ending: Option<Ending>,
    failures: u32,
    /// Probes while paused.
    probes: usize,
    retry_at: Option<Instant>,
    /// When a suspension ends.
    resume_at: Option<Instant>,
    /// What was refused before it was suspended: maintenance hides no failure.
    suspended_problems: BTreeMap<Key, Problem>,
    /// When what was not permitted was tried again last.
    asked_again_at: Option<Instant>,
    /// What is parked or backs off gets a fresh try with the next plan.
    is_fresh: bool,
    held: BTreeSet<&'static str>,
    /// Under which it was gathered; `None` while another replica writes.
    term: Option<i64>,
    /// What asked for a pass that could not be, or not be ended, for want of the lease.
    missed: Option<Trigger>,
    /// The files here are not those that are in force last.
    is_stale: bool,
    /// Those that somebody may put in force nevertheless, and whether they are known to be older, as far as was told.
    put_aside: Option<(Arc<str>, bool)>,
    /// Passes in a row that could not read or write all of the state.
    unwritten: u32,
    /// How often in a row the history could not be written.
    history_failed: u64,
    /// What a holder before may still send is left alone, though it differs: until when, and what.
    left_alone: Option<(Instant, Vec<Key>)>,
    /// Since when what is refused or blocked is.
    stuck: stuck::Stuck,
    /// Since when what no hold keeps back waits.
    waits: HashMap<Key, SystemTime>,
    /// What the last look contradicts, though that proves nothing yet.
    unconfirmed: Unconfirmed,
    /// Of the held plan that was last announced.
    announced: String,
    /// Digests of what is held and why, as it was logged.
    told_held: HashSet<u64>,
    /// The last pass, as the log calls it.
    pass: String,
    /// Around what is logged about it, also later.
    span: Option<Span>,
    /// As the span has it.
    shown_revision: String,
    /// Somebody did something and waits for what comes of this pass.
    is_asked: bool,
    /// Failures that were told.
    repeats: Repeats,
    /// Warnings of the files that were told, and for which revision.
    told_of_files: (Option<Arc<str>>, BTreeSet<Finding>),
}

/// A name for a pass or an `apply`: ties the lines of the log together.
pub fn new_pass() -> String {
    format!("{:08x}", fastrand::u32(..))
}

/// How a pass went; a closed set of metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassOutcome {
    /// Nothing differs.
    Noop,
    /// Everything that differs is on its way.
    Applied,
    /// Some of it is: a kind could not be observed, or a declaration cannot be carried out.
    Partial,
    /// All or part of it waits for approval.
    Held,
    /// Nothing could be compared.
    Failed,
}

impl PassOutcome {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Applied => "applied",
            Self::Partial => "partial",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }

    fn of(plan: &Plan) -> Self {
        if plan.unobserved.keys().len() > 0 && plan.changes.is_empty() && plan.present.is_empty() {
            Self::Failed
        } else if plan.awaits_contact() || plan.changes.iter().any(|change| change.held.is_some_and(Hold::is_guard)) {
            Self::Held
        } else if !plan.unobserved.is_empty() || !plan.refused.is_empty() {
            Self::Partial
        } else if plan.changes.iter().all(|change| change.held.is_some()) {
            Self::Noop
        } else {
            Self::Applied
        }
    }
}

/// What a pass found, before it is in force.
struct Weighed {
    plan: Arc<Plan>,
    tasks: Vec<Box<Task>>,
    is_refused: bool,
    /// When the comparison was over.
    started: Instant,
}

impl Reconciler {
    /// Runs one pass per trigger, never two at once, until `shutdown`. Waiting is alive, however long; a thread that
    /// never comes back is not.
    pub async fn run(self, triggers: TriggerReceiver, shutdown: CancellationToken) {
        let pulse = self.pulse.clone();
        Box::pin(pulse.during(self.turns_to_the_end(triggers, shutdown))).await;
    }

    async fn turns_to_the_end(mut self, triggers: TriggerReceiver, shutdown: CancellationToken) {
        self.turns(triggers, shutdown).await;
        self.end_pass();
    }

    async fn turns(&mut self, mut triggers: TriggerReceiver, shutdown: CancellationToken) {
        self.publish();
        let mut changes = self.queue.changes();
        let mut limits = self.assessor.client.limits_changed();
        let mut publish_at = None;
        let mut tenures = self.state.tenures();
        loop {
            if let Some(trigger) = self.follow_lease() {
                self.turn_or_stop(trigger, &mut triggers, &shutdown).await;
            }
            if self.loader.is_none() {
                // The log says why; a restart begins anew.
                return;
            }
            let (retry_at, resume_at) = (self.memory.retry_at, self.memory.resume_at);
            let client = self.assessor.client.clone();
            let confirm_at = self.memory.unconfirmed.until;
            if self.term().is_none() {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = lease::changed(&mut tenures) => {}
                    trigger = triggers.recv() => self.turn_or_stop(trigger, &mut triggers, &shutdown).await,
                    () = until(retry_at) => self.turn_or_stop(Trigger::Interval, &mut triggers, &shutdown).await,
                    () = client.another_key(), if self.pause.refusal().is_some() => {
                        self.turn_or_stop(Trigger::Interval, &mut triggers, &shutdown).await;
                    }
                }
                continue;
            }
            let is_paused = self.pause.refusal().is_some();
            let deep_at = if is_paused { None } else { self.assessor.deep.due_at() };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = lease::changed(&mut tenures) => {}
                trigger = triggers.recv() => self.turn_or_stop(trigger, &mut triggers, &shutdown).await,
                () = until(retry_at) => self.turn_or_stop(Trigger::Interval, &mut triggers, &shutdown).await,
                () = until(resume_at) => self.turn_or_stop(Trigger::Interval, &mut triggers, &shutdown).await,
                () = until(confirm_at) => {
                    if !self.confirm().await {
                        self.turn_or_stop(Trigger::Interval, &mut triggers, &shutdown).await;
                    }
                    self.publish();
                }
                () = until(deep_at) => {
                    let span = self.ahead();
                    if self.read_ahead(&mut triggers, &shutdown).instrument(span).await {
                        self.turn_or_stop(Trigger::Interval, &mut triggers, &shutdown).await;
                    }
                }
                () = until(self.state.gap_due_at()) => {
                    let told = aside(|| self.state.tell_gap());
                    self.state.or_error(told, "cannot write the state; what its history lacks is told later");
                }
                () = until(self.memory.questions.at) => {
                    let span = self.ahead();
                    self.ask_who(&mut triggers, &shutdown).instrument(span).await;
                }
                () = client.another_key() => {
                    let project = &*self.assessor.project;
                    tracing::info!(project, "there is another management key: it is tried at once");
                    self.memory.is_fresh = true;
                    self.turn_or_stop(Trigger::Interval, &mut triggers, &shutdown).await;
                }
                () = until(self.memory.overview.overdue_at()), if publish_at.is_none() => self.tell_drain_anew(),
                () = until(publish_at) => {
                    publish_at = None;
                    changes.borrow_and_update();
                    limits.borrow_and_update();
                    aside(|| self.publish());
                }
                news = changes.changed(), if publish_at.is_none() => {
                    if news.is_err() { return }
                    publish_at = Some(Instant::now() + STATUS_EVERY);
                }
                // What waits may wait for something else by now.
                news = limits.changed(), if publish_at.is_none() && self.is_at_work() => {
                    if news.is_err() { return }
                    publish_at = Some(Instant::now() + STATUS_EVERY);
                }
            }
        }
    }

    /// Reads in rotation what no list shows, until nothing is due or somebody wants a pass. True where there is something new
    /// to compare.
    async fn read_ahead(&mut self, more: &mut TriggerReceiver, shutdown: &CancellationToken) -> bool {
        let (deep, client) = (self.assessor.deep.clone(), self.assessor.client.clone());
        let (mut is_other, mut is_first) = (false, false);
        while let Some((one, is_urgent)) = deep.next() {
            let client = client.with_priority(if is_urgent { Priority::Change } else { Priority::Rotation });
            let read = async {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => None,
                    // The pass that comes sees what was read by now.
                    () = more.fired() => None,
                    read = observed::read(&client, &one) => Some(read),
                }
            };
            let Some(read) = self.while_shown(read).await else { return false };
            match observed::take_in(&deep, &one, read) {
                News::Other => is_other = true,
                News::First => {
                    is_first = true;
                    is_other |= is_urgent;
                }
                News::None => {}
            }
        }
        deep.survey();
        // What is read for the first time, a few with each turn of the share, is compared in the passes that come anyway.
        is_other || is_first && !deep.has_unread()
    }

    /// What is read ahead, and asked, belongs to the pass before it, whose plan it may change.
    fn ahead(&self) -> Span {
        let (project, pass, revision) = (&*self.assessor.project, self.memory.pass.as_str(), self.revision());
        let span = tracing::info_span!("observation", project, pass, revision, trace_id = Empty);
        traces::show(&span);
        span
    }

    async fn turn_or_stop(&mut self, trigger: Trigger, more: &mut TriggerReceiver, shutdown: &CancellationToken) {
        let before = self.memory.pass.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.turn(trigger, more) => return,
        }
        if let Some(span) = self.memory.span.as_ref().filter(|_| self.memory.pass != before) {
            span.in_scope(|| tracing::info!("pass cut short: the daemon stops"));
        }
    }

    /// One pass, and its traces in logs, metrics and status.
    pub async fn turn(&mut self, trigger: Trigger, more: &mut TriggerReceiver) {
        let project = self.assessor.project.clone();
        let started = Instant::now();
        let started_at = clock::now();
        let pass = new_pass();
        let span = tracing::info_span!(
            "pass",
            project = &*project,
            trigger = trigger.as_str(),
            pass,
            revision = Empty,
            commit = Empty,
            result = Empty,
            trace_id = Empty
        );
        traces::show(&span);
        let memory = &mut self.memory;
        let (pass, around) = (std::mem::replace(&mut memory.pass, pass), memory.span.replace(span.clone()));
        memory.shown_revision.clear();
        memory.is_asked = trigger != Trigger::Interval;
        let Some(outcome) = Box::pin(self.pass(trigger, more)).instrument(span.clone()).await else {
            span.in_scope(|| tracing::debug!("there is nothing new to look at, or another replica does: no pass"));
            // What is said from here on is of the one before.
            (self.memory.pass, self.memory.span) = (pass, around);
            return self.publish();
        };
        self.end_pass();
        if let Some(commit) = self.memory.load.as_ref().and_then(|load| load.commit.as_deref()) {
            span.record("commit", commit);
        }
        let lasted = started.elapsed();
        self.metrics.last_attempt_timestamp_seconds.with_label_values(&[&*project]).set(unix(clock::now()));
        self.board.project(&project, |status| status.readiness.passed(outcome == PassOutcome::Failed, Instant::now()));
        let is_whole = self.memory.plan.as_ref().is_some_and(|plan| plan.unobserved.is_empty())
            && self.memory.load.as_ref().is_some_and(|load| load.errors.is_empty());
        if !matches!(outcome, PassOutcome::Failed) && is_whole {
            self.metrics.last_whole_pass_timestamp_seconds.with_label_values(&[&*project]).set(unix(clock::now()));
        }
        if outcome != PassOutcome::Failed {
            self.memory.overview.looked();
        }
        self.planned(trigger, outcome, (started, started_at));
        self.memory.repeats.end_round();
        aside(|| self.publish());
        let total = self.metrics.pass_duration_seconds.with_label_values(&[&project, "total"]);
        total.observe(lasted.as_secs_f64());
        // Only now: whoever counts passes finds what this one found.
        self.metrics.passes_total.with_label_values(&[&project, trigger.as_str(), outcome.as_str()]).inc();
    }

    /// The number of its row.
    fn note_pass(&mut self, trigger: Trigger, outcome: PassOutcome, started: Instant, changes: usize) -> Option<i64> {
        // By this machine's clock, as all of history is handed over.
        let finished_at = SystemTime::now();
        let row = PassRow {
            started_at: finished_at.checked_sub(started.elapsed()).unwrap_or(finished_at),
            finished_at,
            trigger: trigger.as_str().to_owned(),
            revision: self.origin(trigger).revision.clone(),
            result: outcome.as_str().to_owned(),
            changes,
            is_invalid: !self.is_current(),
        };
        match self.state.note_pass(&row) {
            Ok(number) => {
                self.memory.history_failed = 0;
                Some(number)
            }
            // One that stands by and cannot read its files has no history.
            Err(state::Error::NotHeld) => None,
            Err(error) => {
                self.tell_no_history(&error);
                None
            }
        }
    }

    /// Told ever more seldom while it stays.
    fn tell_no_history(&mut self, error: &state::Error) {
        self.memory.history_failed += 1;
        let times = self.memory.history_failed;
        if is_worth_a_line(times, false) {
            let of_pass = || tracing::error!(%error, times, "cannot write the history of passes");
            self.memory.span.as_ref().unwrap_or(&Span::none()).in_scope(of_pass);
        }
    }

    /// `None` where the files were looked at for nothing: what they say did not change.
    async fn pass(&mut self, trigger: Trigger, more: &mut TriggerReceiver) -> Option<PassOutcome> {
        let started = Instant::now();
        let retry_at = self.memory.retry_at.take();
        let was_usable = self.memory.load.as_ref().map(|load| load.errors.is_empty());
        let Some((desired, is_new)) = self.load(more).await else { return Some(PassOutcome::Failed) };
        let is_usable = self.memory.load.as_ref().map(|load| load.errors.is_empty());
        let is_planned = self.memory.planned.as_ref().is_some_and(|planned| Arc::ptr_eq(planned, &desired));
        if trigger == Trigger::Watch && is_planned && was_usable == is_usable {
            self.memory.retry_at = [retry_at, self.memory.retry_at].into_iter().flatten().min();
            return None;
        }
        self.observe_phase("load", started);
        // The others have the files ready, and look at nothing.
        let Some(term) = self.term() else {
            // Refused, it gave the lease away: it has to ask by itself whether it could hold it again.
            if self.pause.refusal().is_some() && trigger != Trigger::Watch && self.probe(&desired).await {
                self.pause.answered();
            }
            self.memory.miss(trigger);
            return None;
        };
        if aside(|| self.is_behind()) {
            return None;
        }
        let started = Instant::now();
        aside(|| self.take_in(&desired));
        if is_new {
            // From here on it is not what the files say, however soon the queue has worked it off.
            aside(|| self.publish());
        }
        let priority = if is_new { Priority::Change } else { Priority::Observation };
        self.memory.is_fresh |= more.take_fresh() || trigger == Trigger::Signal;
        if matches!(trigger, Trigger::Signal | Trigger::Api) {
            self.assessor.deep.ask();
        }
        let is_paused = self.pause.refusal().is_some();
        // A commit says nothing about the key: it waits for the next probe.
        if is_paused && (trigger == Trigger::Watch || !self.probe(&desired).await) {
            self.memory.resume_at = self.pause.settle();
            return Some(PassOutcome::Failed);
        }
        let failures = self.state.failures();
        let foreign = aside(|| self.foreign());
        let mut lost = aside(|| self.lost_calls());
        lost.retain(|id| foreign.is_over(*id));
        let observation = tracing::debug_span!("observation");
        self.board.looks(&self.assessor.project, Some(clock::now()));
        let (desired, sight) = self.look(desired, priority, &lost, more).instrument(observation).await;
        self.board.looks(&self.assessor.project, None);
        if self.term() != Some(term) {
            // Others may have written since the look.
            self.memory.miss(trigger);
            return Some(PassOutcome::Failed);
        }
        // What came meanwhile may be older.
        if aside(|| self.is_behind()) {
            return None;
        }
        let mut weighed = aside(|| self.weigh(&desired, sight, &lost, trigger, started));
        let left_alone = foreign.leave_out(&mut weighed.tasks);
        let wait = left_alone.as_ref().map(|(wait, _)| *wait);
        self.memory.left_alone = left_alone.map(|(wait, keys)| (Instant::now() + wait, keys));
        let has_deletes = weighed.tasks.iter().any(|task| task.action == Action::Delete);
        let is_outdated = has_deletes && !self.is_still(&desired, more).await;
        if self.term() != Some(term) {
            self.memory.miss(trigger);
            return Some(PassOutcome::Failed);
        }
        let outcome = aside(|| self.put_in_force(desired, weighed, is_outdated));
        if let Some(wait) = wait {
            let at = Instant::now() + wait + SHORTEST_WAIT;
            self.memory.retry_at = Some(self.memory.retry_at.map_or(at, |retry_at| retry_at.min(at)));
        }
        self.catch_up(self.state.failures() > failures);
        Some(outcome)
    }

    /// What a pass could not read or write of the state is left to one that follows, and not to the next interval.
    fn catch_up(&mut self, is_needed: bool) {
        if !is_needed {
            self.memory.unwritten = 0;
            return;
        }
        self.memory.unwritten = self.memory.unwritten.saturating_add(1);
        let at = Instant::now() + self.backoff.delay(self.memory.unwritten, fastrand::f64()).max(SHORTEST_WAIT);
        self.memory.retry_at = Some(self.memory.retry_at.map_or(at, |retry_at| retry_at.min(at)));
    }

    /// Compares what the look showed with the files, and writes down what that says of ownership, holds and drift.
    fn weigh(
        &mut self,
        desired: &Arc<Desired>,
        sight: Sight,
        lost: &BTreeSet<IntentId>,
        trigger: Trigger,
        started: Instant,
    ) -> Weighed {
        self.renew_approvals();
        let is_reverted = |key: &Key| self.is_reverted(desired, key);
        let is_written = |key: &Key, began| self.queue.is_written_since(&self.assessor.project, key, began);
        let assessment = self.assessor.plan(desired, self.is_current(), sight, &is_reverted, &is_written);
        self.observe_phase("observe", started);
        let started = Instant::now();
        if self.resolve(lost, &assessment) {
            self.memory.retry_at = Some(Instant::now() + SHORTEST_WAIT);
        }
        let Assessment { mut plan, observed, gone, refusal, first_contact, unconfirmed, outlived, .. } = assessment;
        // As large as the project: nothing from here on looks at it.
        drop(observed);
        let is_refused = refusal.is_some();
        match refusal {
            Some(reason) => self.pause.refused(reason),
            None if self.pause.refusal().is_some() => tracing::info!("Descope answers again; the project goes on"),
            None => {}
        }
        if self.adopt(desired, &plan, &gone, first_contact) {
            self.memory.retry_at = Some(Instant::now() + SHORTEST_WAIT);
        }
        // What the state knows is of other files, where they wait for the project.
        let is_ours = !plan.awaits_contact();
        if is_ours {
            self.note_effects(desired, &plan, &unconfirmed);
            self.note_renames(desired, &plan, &unconfirmed);
            self.note_outlived(&outlived);
        }
        self.memory.unconfirmed = unconfirmed;
        self.note_held(&mut plan);
        self.keep_problems(&plan);
        if is_ours {
            self.note_reversions(desired, &plan);
            self.note_drift(desired, &plan, trigger);
        }
        self.note_questions(&plan);
        self.name_former(&mut plan);
        self.memory.overview.note_observed(&plan, clock::now() - started.elapsed());
        self.forbidden.send_replace(BTreeMap::new());
        let tasks = plan.take_tasks(&self.origin(trigger));
        let plan = Arc::new(plan);
        let published = Published::new(&self.assessor.project, Arc::clone(&plan), Arc::clone(desired));
        self.plans.send_replace(Some(published));
        let revision = self.revision().to_owned();
        self.board.project(&self.assessor.project, |status| status.planned_revision = Some(revision));
        self.planned_under.send_replace(self.memory.term);
        Weighed { plan, tasks, is_refused, started }
    }

    /// Hands the plan to the queue, or, where it is outdated, has it made again.
    fn put_in_force(&mut self, desired: Arc<Desired>, weighed: Weighed, is_outdated: bool) -> PassOutcome {
        let Weighed { plan, tasks, is_refused, started } = weighed;
        let is_fresh = std::mem::take(&mut self.memory.is_fresh);
        if is_outdated {
            tracing::info!(
                "the files changed during the look: it is planned again, and nothing sent by the older ones"
            );
            self.pause.outdated();
            self.schedule_retry(&plan);
            self.memory.retry_at = Some(Instant::now() + SHORTEST_WAIT);
            self.memory.plan = Some(Arc::clone(&plan));
        } else {
            self.end_pass();
            // As large as the project, as is what the queue makes ready: the one before makes room for that.
            self.memory.plan = Some(Arc::clone(&plan));
            // Before the new tasks, of which a worker may take one at once.
            self.pause.take_in();
            self.pause.take_in_parts(&plan);
            self.hand_over(&desired, tasks, is_fresh);
            let refused: BTreeSet<&Key> = plan.refused.iter().map(|refusal| &refusal.key).collect();
            self.queue.note_refused(&self.assessor.project, refused.len());
            self.ask_again();
            self.memory.planned = Some(desired);
            // Only now: what waited was of an older plan.
            let is_known = self.pause.planned(&plan);
            if !is_refused {
                self.pause.answered();
            }
            self.memory.resume_at = self.pause.settle();
            self.schedule_retry(&plan);
            if !is_known {
                self.memory.retry_at = Some(Instant::now() + SHORTEST_WAIT);
            }
        }
        let outcome = self.outcome(&plan);
        self.note_waits(&plan);
        self.show_plan(&plan);
        self.assessor.deep.survey();
        self.observe_phase("plan", started);
        outcome
    }

    /// While files that say something else are in force than those that the queue works off, nothing is handed out until
    /// they are planned: what they take back is not sent, nor what depends on it. What they declare again, or broken ones
    /// may declare, is not deleted.
    fn take_in(&mut self, desired: &Arc<Desired>) {
        self.note_absences(desired, &|_| true);
        let is_current = self.is_current();
        // A tenant takes the roles in it along.
        let homes: BTreeSet<Key> = desired.resources.keys().filter_map(Key::home).collect();
        let is_kept = |key: &Key| !is_current || desired.resources.contains_key(key) || homes.contains(key);
        self.queue.withdraw_deletes(&self.assessor.project, is_kept);
        if self.memory.planned.as_ref().is_some_and(|planned| !Arc::ptr_eq(planned, desired)) {
            self.pause.outdated();
        }
    }

    /// Looks at Descope. That may wait long for the rate limit, so what is committed meanwhile counts at once: the look is
    /// for the newest files.
    async fn look(
        &mut self,
        mut desired: Arc<Desired>,
        priority: Priority,
        lost: &BTreeSet<IntentId>,
        more: &mut TriggerReceiver,
    ) -> (Arc<Desired>, Sight) {
        let assessor = self.assessor.clone();
        loop {
            self.queue.begin_look(&self.assessor.project, self.revision());
            let asked = Arc::clone(&desired);
            let mut look = std::pin::pin!(assessor.look(&asked, priority, lost));
            let sight = loop {
                let looking = async {
                    tokio::select! {
                        biased;
                        sight = &mut look => Some(sight),
                        () = more.fired() => None,
                    }
                };
                if let Some(sight) = self.while_shown(looking).await {
                    break sight;
                }
                if let Some((newest, _)) = self.load(more).await {
                    self.take_in(&newest);
                    self.queue.look_for(&self.assessor.project, self.revision());
                    desired = newest;
                }
            };
            // A kind that only the newest files mention was not asked for.
            if desired.kinds.iter().all(|kind| sight.observed.kinds.contains_key(kind)) {
                return (desired, sight);
            }
        }
    }

    /// Waits for what may wait long for the rate limit itself, while the status goes on to follow the queue. What changed there
    /// right before is shown, too.
    async fn while_shown<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut changes = self.queue.changes();
        changes.mark_changed();
        let mut work = std::pin::pin!(work);
        loop {
            let news = async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(STATUS_EVERY).await;
            };
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = until(self.memory.overview.overdue_at()) => self.tell_drain_anew(),
                () = news => {
                    changes.borrow_and_update();
                    aside(|| self.publish());
                }
            }
        }
    }

    /// It takes longer than was told, and nothing that moves says so.
    fn tell_drain_anew(&mut self) {
        self.memory.overview.no_longer_overdue();
        aside(|| self.publish());
    }

    /// The look may have waited long for the rate limit. Do the files still say what it was made for?
    async fn is_still(&mut self, desired: &Arc<Desired>, more: &TriggerReceiver) -> bool {
        let newest = self.load(more).await;
        newest.is_some_and(|(newest, is_new)| !is_new && Arc::ptr_eq(&newest, desired)) && self.is_current()
    }

    /// The desired state in force, and whether it is new. `None` while there never was a good one.
    async fn load(&mut self, more: &TriggerReceiver) -> Option<(Arc<Desired>, bool)> {
        let mut loader = self.loader.take()?;
        let started = Instant::now();
        let read = tokio::task::spawn_blocking(move || {
            let load = loader.load();
            (loader, load)
        });
        let (loader, load) = match read.await {
            Ok(both) => both,
            Err(error) => {
                tracing::error!(%error, "reading the files failed inside the daemon");
                return None;
            }
        };
        self.loader = Some(loader);
        self.metrics.source_load_duration_seconds.observe(started.elapsed().as_secs_f64());
        let is_new = load.result == LoadResult::Changed;
        self.assessor.is_by_content = load.is_by_content;
        self.metrics.source_loads_total.with_label_values(&[load.result.as_str()]).inc();
        if is_new {
            self.memory.revision_seen = Some(Instant::now());
        }
        if load.result == LoadResult::IoError {
            // No file event need follow, e.g. when git lets go of its lock.
            self.memory.retry_at = Some(Instant::now() + self.next_wait());
        }
        let desired = load.desired.clone();
        if let Some(revision) = load.revision.as_deref().filter(|revision| *revision != self.memory.shown_revision) {
            Span::current().record("revision", revision);
            revision.clone_into(&mut self.memory.shown_revision);
        }
        self.show_load(&load);
        let is_news = self.memory.load.as_ref().is_some_and(|before| load.says_other_than(before));
        if is_news {
            more.doubt();
        }
        aside(|| self.stand_on(&load));
        self.memory.load = Some(load);
        if is_news {
            // The look that follows may take long, and the gauges say it already.
            aside(|| self.publish());
        }
        desired.map(|desired| (desired, is_new))
    }

    /// While the project is paused, one request asks whether that is still so.
    async fn probe(&mut self, desired: &Desired) -> bool {
        let has_list = |kind: &&&dyn Kind| kind.spec().main().read != Read::ByName;
        let declared = resource::ALL.iter().filter(|kind| desired.kinds.contains(kind.name()));
        let kinds: Vec<_> = declared.filter(has_list).collect();
        // One kind may stay forbidden while the others are not, so they take turns.
        let turn = self.memory.probes.checked_rem(kinds.len()).unwrap_or_default();
        self.memory.probes = self.memory.probes.wrapping_add(1);
        let Some(kind) = kinds.get(turn) else { return true };
        match kind.list(&self.assessor.client).await {
            Ok(_) => true,
            Err(error) => {
                if let Some(times) = self.memory.repeats.met(("paused", error.to_string()), self.memory.is_asked) {
                    tracing::error!(%error, times, "the project is still paused");
                }
                false
            }
        }
    }

    /// A look at the kinds of which the last one contradicted our writes, now that it proves something. False where that is
    /// still so, or cannot be told.
    async fn confirm(&mut self) -> bool {
        let Unconfirmed { keys, .. } = std::mem::take(&mut self.memory.unconfirmed);
        let kinds: BTreeSet<&str> = keys.keys().map(|key| key.kind).collect();
        for kind in kinds.into_iter().filter_map(resource::kind) {
            let Ok(documents) = kind.list(&self.assessor.client).await else { return false };
            let documents = documents.of(|key| keys.contains_key(key));
            let shown: HashMap<&Key, u64> =
                documents.map(|(key, document)| (key, plan::digest(kind, &document))).collect();
            let mut expected = keys.iter().filter(|(key, _)| key.kind == kind.name());
            if !expected.all(|(key, digest)| shown.get(key) == digest.as_ref()) {
                return false;
            }
        }
        true
    }

    /// Are the newest files in force?
    pub(super) fn is_current(&self) -> bool {
        self.memory.load.as_ref().is_none_or(|load| load.errors.is_empty())
    }

    /// Why the changes of this pass are made.
    fn origin(&self, trigger: Trigger) -> Arc<Origin> {
        let commit = self.memory.load.as_ref().and_then(|load| load.commit.clone());
        Arc::new(Origin {
            pass: self.memory.pass.clone(),
            trigger: trigger.as_str(),
            revision: self.revision().to_owned(),
            commit,
            span: traces::origin(),
        })
    }

    /// Of the desired state in force.
    fn revision(&self) -> &str {
        self.memory.load.as_ref().and_then(|load| load.revision.as_deref()).unwrap_or_default()
    }

    /// What was not permitted may be by now, and nothing but a try tells: one an interval, not one a pass.
    fn ask_again(&mut self) {
        let now = Instant::now();
        // The timer strays a little.
        let is_time = self.memory.asked_again_at.is_none_or(|at| now.duration_since(at) >= self.interval / 2);
        if is_time {
            self.memory.asked_again_at = Some(now);
        }
        self.queue.ask_again(&self.assessor.project, is_time);
    }

    /// A kind that failed for now is asked for again before the next interval; a refused one waits for it. What left the
    /// files is looked at again when it may be deleted.
    fn schedule_retry(&mut self, plan: &Plan) {
        // What waits for another kind waits for one that failed, or that was refused for good.
        let is_unseen = !plan.unlisted.is_empty() || !plan.in_doubt.is_empty();
        let failed_for_now = is_unseen || plan.unobserved.values().any(|failure| failure.is_transient);
        if failed_for_now {
            self.memory.retry_at = Some(Instant::now() + self.next_wait());
        } else if self.memory.retry_at.is_none() {
            self.memory.failures = 0;
        }
        let waits = [self.next_due_delete(plan), drift::next_due(plan), next_proof(plan)];
        if let Some(wait) = waits.into_iter().flatten().min() {
            let due = Instant::now() + wait.max(SHORTEST_WAIT);
            self.memory.retry_at = Some(self.memory.retry_at.map_or(due, |at| at.min(due)));
        }
        self.end_approvals(plan);
    }

    /// How long until the next delete of this plan may go ahead; `None` where no time alone releases one.
    fn next_due_delete(&self, plan: &Plan) -> Option<Duration> {
        let waiting = plan.changes.iter().filter(|change| change.held == Some(Hold::DeleteAfter));
        let mut waiting: Vec<&Key> = waiting.map(|change| &change.key).collect();
        // A tenant waits for the roles in it, and may have been due for long.
        let homes: BTreeSet<Key> = waiting.iter().filter_map(|key| key.home()).collect();
        waiting.retain(|key| !homes.contains(*key));
        if waiting.is_empty() || !self.is_current() {
            return None;
        }
        let absent_for = self.state.absent_for().unwrap_or_default();
        // What is owned since this look only, or could not be noted, begins its wait with the next load.
        let noted: Option<Vec<Duration>> = waiting.iter().map(|key| absent_for.get(*key).copied()).collect();
        let Some(noted) = noted else { return Some(self.assessor.delete_after().max(UNNOTED_WAIT)) };
        Some(self.assessor.delete_after().saturating_sub(noted.into_iter().max()?).max(SHORTEST_WAIT))
    }

    /// Since when something waits for each reason. The plan is of all files: what it does not hold waits no more.
    pub fn note_held(&self, plan: &mut Plan) {
        let stuck = self.stuck_reasons();
        let refused = self.refused_reason();
        let reasons = plan.held_reasons().chain(stuck.iter().map(String::as_str)).chain(refused).collect();
        let noted = self.state.note_held(&reasons);
        let what = "cannot write the state; since when something waits is not noted";
        if let Some(since) = self.state.or_error(noted, what) {
            plan.held_since = since;
        }
    }

    /// What is suspended leaves the queue with the next plan, what is wrong with it does not.
    fn keep_problems(&mut self, plan: &Plan) {
        let is_suspended = |change: &&Change| change.held == Some(Hold::Suspended);
        let suspended: BTreeSet<&Key> = plan.changes.iter().filter(is_suspended).map(|change| &change.key).collect();
        let mut kept = std::mem::take(&mut self.memory.suspended_problems);
        if !suspended.is_empty() {
            let problems = self.queue.problems(&self.assessor.project);
            for problem in problems.into_iter().filter(|problem| problem.state == ProblemState::Parked) {
                let is_it = |key: &&&Key| key.kind == problem.kind && key.id() == problem.id;
                if let Some(key) = suspended.iter().find(is_it) {
                    kept.insert((*key).clone(), problem);
                }
            }
        }
        kept.retain(|key, _| suspended.contains(key));
        self.memory.suspended_problems = kept;
    }

    fn note_waits(&mut self, plan: &Plan) {
        let now = self.state.now();
        let waiting = plan.waits.iter().map(|(key, _, _)| key).chain(&plan.unlisted);
        let waiting = waiting.chain(plan.refused.iter().map(|refusal| &refusal.key));
        let waiting = waiting.chain(self.memory.unconfirmed.keys.keys()).chain(plan.missing.keys());
        let since = |key: &Key| self.memory.waits.get(key).copied().unwrap_or(now);
        self.memory.waits = waiting.map(|key| (key.clone(), since(key))).collect();
    }

    fn next_wait(&mut self) -> Duration {
        self.memory.failures = self.memory.failures.saturating_add(1);
        self.backoff.delay(self.memory.failures, fastrand::f64())
    }

    fn observe_phase(&self, phase: &str, started: Instant) {
        let labels = [&*self.assessor.project, phase];
        self.metrics.pass_duration_seconds.with_label_values(&labels).observe(started.elapsed().as_secs_f64());
    }
}

/// How long until it may be proven that something is gone that would be deleted.
fn next_proof(plan: &Plan) -> Option<Duration> {
    let until = plan.missing.values().filter(|missing| missing.is_leaving).map(|missing| missing.until).min()?;
    Some(plan.moment.until(until))
}

/// For ever where there is nothing to wait for.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |age| age.as_secs_f64())
}
