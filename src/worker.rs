//! Takes work off the queue and makes it true, one call at a time: done, tried again, or parked.

use crate::descope;
use crate::descope::Client;
use crate::plan::ProjectName;
use crate::plan::Slot;
use crate::plan::Task;
use crate::queue::Queue;
use crate::queue::Verdict;
use crate::queue::Work;
use crate::resource;
use crate::resource::Action;
use crate::resource::Kind;
use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::state::ProjectState;
use crate::telemetry::metrics::Metrics;
use nonempty::NonEmpty;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

mod look;
mod record;

use record::Sending;
pub use record::fingerprint;

/// What a worker needs of a project.
#[derive(Clone)]
pub struct Target {
    /// Calls with the priority of changes.
    pub client: Client,
    /// Where ownership, intents and fingerprints are kept.
    pub state: ProjectState,
    /// Asks for another look.
    pub look_again: TriggerSender,
    /// Why the whole project waits, e.g. because Descope refused the management key; `None` while it does not.
    pub paused: watch::Sender<Option<String>>,
    /// Refusals (403) of each kind in a row: after [`FORBIDDEN`] of them nothing more of that kind is sent until a pass
    /// gives it another try.
    pub forbidden: watch::Sender<BTreeMap<&'static str, (u32, String)>>,
    /// An overwriting write that rests on an older observation looks again first.
    pub trusted_for: Duration,
}

/// A feature that the account lacks is refused for every resource alike: this many refusals in a row prove it, and
/// spare the budget the rest.
const FORBIDDEN: u32 = 3;

impl Target {
    fn forgive(&self, kind: &'static str) {
        self.forbidden.send_if_modified(|kinds| kinds.remove(kind).is_some());
    }

    fn note_forbidden(&self, kind: &'static str, message: &str) {
        self.forbidden.send_modify(|kinds| kinds.entry(kind).or_insert((0, message.to_owned())).0 += 1);
    }

    /// Why nothing of this kind is sent.
    fn is_forbidden(&self, kind: &str) -> Option<String> {
        self.forbidden.borrow().get(kind).filter(|(times, _)| *times >= FORBIDDEN).map(|(_, message)| message.clone())
    }
}

/// One of several loops that drain the queue.
#[derive(Clone)]
pub struct Worker {
    /// Where the work comes from.
    pub queue: Queue,
    /// By name.
    pub targets: Arc<HashMap<ProjectName, Target>>,
    /// Counts and times.
    pub metrics: Arc<Metrics>,
    /// Tries of one task before it is parked; `None` never gives up.
    pub give_up_after: Option<u32>,
}

impl Worker {
    /// Works until the queue is closed. What is under way then is finished.
    pub async fn run(self) {
        while let Some(work) = self.queue.take().await {
            self.turn(work).await;
        }
    }

    /// Carries out one piece of work and reports it to the queue.
    pub async fn turn(&self, work: Work) {
        let (Some(target), Some(kind)) =
            (self.targets.get(&work.project), resource::kind(work.tasks.head.slot.key.kind))
        else {
            // The queue only ever holds what a reconciler of these projects put there.
            let verdicts = work.tasks.iter().map(|_| Verdict::Superseded).collect();
            return self.queue.finish(work, verdicts);
        };
        let first = &work.tasks.head;
        let span = tracing::info_span!(
            "change",
            project = &*work.project,
            kind = kind.name(),
            action = first.action.as_str(),
            resources = work.tasks.len(),
        );
        let started = Instant::now();
        let conclusion = attempt(&self.while_wanted(target, &work), kind, &work).instrument(span.clone()).await;
        if target.paused.borrow().is_some() {
            self.queue.pause(&work.project, true);
        }
        let _entered = span.enter();
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.change_duration_seconds.with_label_values(&[kind.name(), first.action.as_str()]).observe(seconds);
        match conclusion {
            Conclusion::Split(message, decided) => {
                tracing::info!(reason = message, "a batch was refused; its halves are tried apart");
                for (task, verdict) in work.tasks.iter().zip(&decided) {
                    if let Some(verdict) = verdict {
                        self.record(&work.project, task, verdict, work.attempts);
                    }
                }
                self.queue.finish_split(work, decided);
            }
            Conclusion::Each(verdicts) => {
                let verdicts: Vec<Verdict> = verdicts.into_iter().map(|verdict| self.bounded(verdict, &work)).collect();
                for (task, verdict) in work.tasks.iter().zip(&verdicts) {
                    self.record(&work.project, task, verdict, work.attempts);
                }
                self.queue.finish(work, verdicts);
            }
        }
    }

    /// While a call waits for the rate limit a newer plan may drop it, or an operator suspend the project.
    fn while_wanted(&self, target: &Target, work: &Work) -> Target {
        let (queue, project) = (self.queue.clone(), work.project.clone());
        let slots: Vec<Slot> = work.tasks.iter().map(|task| task.slot.clone()).collect();
        let client = target.client.only_while(move || queue.is_wanted(&project, &slots));
        Target { client, ..target.clone() }
    }

    fn bounded(&self, verdict: Verdict, work: &Work) -> Verdict {
        match (verdict, self.give_up_after) {
            (Verdict::Retry { message, .. }, Some(most)) if work.attempts + 1 >= most => {
                Verdict::Park { message: format!("gave up after {most} tries: {message}") }
            }
            (verdict, _) => verdict,
        }
    }

    fn record(&self, project: &ProjectName, task: &Task, verdict: &Verdict, attempts: u32) {
        let (kind, action) = (task.slot.key.kind, task.action.as_str());
        let id = task.slot.key.id();
        let attempt = attempts + 1;
        let result = match verdict {
            Verdict::Done => {
                tracing::info!(id, "changed");
                "ok"
            }
            Verdict::Retry { message, .. } => {
                tracing::warn!(id, attempt, reason = message, "change failed; it is tried again");
                "failed"
            }
            Verdict::Park { message } => {
                tracing::error!(id, attempt, reason = message, "change refused; it waits until something changes");
                "failed"
            }
            Verdict::Superseded => "superseded",
            Verdict::Released => return,
        };
        self.metrics.changes_total.with_label_values(&[project, kind, action, result]).inc();
    }
}

enum Conclusion {
    /// One verdict per task, in order.
    Each(Vec<Verdict>),
    /// What was sent was refused because of some part of it; the verdicts are of tasks that were not among it.
    Split(String, Vec<Option<Verdict>>),
}

impl Conclusion {
    fn all(work: &Work, verdict: &Verdict) -> Self {
        Self::Each(vec![verdict.clone(); work.tasks.len()])
    }
}

async fn attempt(target: &Target, kind: &'static dyn Kind, work: &Work) -> Conclusion {
    if let Some(message) = target.is_forbidden(kind.name()) {
        record::blocked(target, &work.tasks);
        return Conclusion::all(work, &Verdict::Park { message });
    }
    let looks = work.verify || work.tasks.iter().any(|task| look::is_old(target, task));
    let live = if looks {
        match look::before(target, kind, work).await {
            Ok(live) => Some(live),
            Err(error) => return Conclusion::all(work, &after_failed_look(target, &error)),
        }
    } else {
        None
    };
    // What the look already decides: it landed before, or it is not what the plan rested on.
    let decided: Vec<Option<Verdict>> =
        work.tasks.iter().map(|task| live.as_ref().and_then(|live| look::decide(target, work, task, live))).collect();
    if decided.contains(&Some(Verdict::Done)) {
        tracing::info!("an earlier try had landed though its answer was lost");
        target.look_again.fire(Trigger::Interval);
    }
    let landed = work.tasks.iter().zip(&decided).filter(|(_, decided)| **decided == Some(Verdict::Done));
    record::landed(target, &landed.map(|(task, _)| task).collect::<Vec<&Task>>());
    let open = work.tasks.iter().zip(&decided).filter(|(_, decided)| decided.is_none()).map(|(task, _)| task);
    let Some(open) = NonEmpty::from_vec(open.collect::<Vec<&Task>>()) else {
        return Conclusion::Each(decided.into_iter().flatten().collect());
    };
    let verdict = match send(target, kind, &open, work.attempts).await {
        Sent::Each(verdict) => verdict,
        Sent::Refused(message) if open.len() == 1 => Verdict::Park { message },
        Sent::Refused(message) => return Conclusion::Split(message, decided),
    };
    Conclusion::Each(decided.into_iter().map(|decided| decided.unwrap_or_else(|| verdict.clone())).collect())
}

enum Sent {
    /// The same for every task of the call.
    Each(Verdict),
    /// The API refused something in it.
    Refused(String),
}

async fn send(target: &Target, kind: &'static dyn Kind, tasks: &NonEmpty<&Task>, attempts: u32) -> Sent {
    let sending = Sending::of(target, tasks, attempts);
    let writes = tasks.as_ref().map(|task| (&task.slot.key, &task.write));
    let error = match kind.send(&sending.client(), &writes).await {
        Ok(()) => {
            sending.done(kind, tasks);
            target.forgive(kind.name());
            return Sent::Each(Verdict::Done);
        }
        Err(error) => error,
    };
    sending.failed(&error);
    match sending.obstacle() {
        Some(message) => Sent::Each(Verdict::Retry { message: message.clone(), ambiguous: false }),
        None => judge(target, kind, tasks, error).await,
    }
}

async fn judge(target: &Target, kind: &'static dyn Kind, tasks: &NonEmpty<&Task>, error: descope::Error) -> Sent {
    let message = error.to_string();
    if matches!(error, descope::Error::Stopping) || pauses(target, &error) {
        return Sent::Each(Verdict::Released);
    }
    if error.is_transient() {
        return Sent::Each(Verdict::Retry { message, ambiguous: error.may_have_taken_effect() });
    }
    if matches!(error, descope::Error::Forbidden { .. }) {
        target.note_forbidden(kind.name(), &message);
        return Sent::Refused(message);
    }
    let is_rejected = matches!(error, descope::Error::Rejected { .. });
    match (is_rejected, tasks.len()) {
        (true, 1) if tasks.head.action == Action::Create => {
            judge_refused_create(target, kind, tasks.head, message).await
        }
        (true, _) => Sent::Refused(message),
        // A call that cannot be made: splitting changes nothing.
        (false, _) => Sent::Each(Verdict::Park { message }),
    }
}

/// No source says how Descope words "already exists", so any refused create is followed by a look: what is there was
/// created by somebody else meanwhile, or by an earlier try of ours.
async fn judge_refused_create(target: &Target, kind: &'static dyn Kind, task: &Task, message: String) -> Sent {
    match look::observe(&target.client, kind).await {
        Ok(live) if look::has_landed(task, &live) => {
            // An earlier try of ours that was late, or somebody else. The next pass compares it, and owns it.
            record::landed(target, &[task]);
            target.look_again.fire(Trigger::Interval);
            Sent::Each(Verdict::Done)
        }
        Ok(_) => Sent::Refused(message),
        Err(error) => Sent::Each(after_failed_look(target, &error)),
    }
}

fn after_failed_look(target: &Target, error: &descope::Error) -> Verdict {
    if matches!(error, descope::Error::Stopping) || pauses(target, error) {
        return Verdict::Released;
    }
    Verdict::Retry { message: error.to_string(), ambiguous: true }
}

/// A refused key stops the whole project; other projects go on.
fn pauses(target: &Target, error: &descope::Error) -> bool {
    let is_refused = matches!(error, descope::Error::Unauthorized { .. });
    if is_refused {
        tracing::error!(%error, "the project is paused; one request per interval asks again");
        target.paused.send_replace(Some(error.to_string()));
    }
    is_refused
}
