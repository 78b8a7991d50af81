//! Takes work off the queue and makes it true, one call at a time: done, tried again, or parked.

use crate::descope;
use crate::descope::Client;
use crate::plan::Ownership;
use crate::plan::ProjectName;
use crate::plan::Task;
use crate::plan::compare;
use crate::queue::Queue;
use crate::queue::Verdict;
use crate::queue::Work;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Rule;
use crate::resource::Write;
use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::state;
use crate::state::Intent;
use crate::state::IntentId;
use crate::state::Owned;
use crate::state::ProjectState;
use crate::state::Settled;
use crate::telemetry::metrics::Metrics;
use nonempty::NonEmpty;
use serde_json::Value;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

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
        let conclusion = attempt(target, kind, &work).instrument(span.clone()).await;
        if target.paused.borrow().is_some() {
            self.queue.pause(&work.project, true);
        }
        let _entered = span.enter();
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.change_duration_seconds.with_label_values(&[kind.name(), first.action.as_str()]).observe(seconds);
        match conclusion {
            Conclusion::Split => {
                tracing::info!("a batch was refused; its halves are tried apart");
                self.queue.finish_split(work);
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
                tracing::warn!(id, attempt, message, "change failed; it is tried again");
                "failed"
            }
            Verdict::Park { message } => {
                tracing::error!(id, attempt, message, "change refused; it waits until something changes");
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
    /// The whole was refused because of some part of it.
    Split,
}

impl Conclusion {
    fn all(work: &Work, verdict: &Verdict) -> Self {
        Self::Each(vec![verdict.clone(); work.tasks.len()])
    }
}

async fn attempt(target: &Target, kind: &'static dyn Kind, work: &Work) -> Conclusion {
    let landed = if work.verify {
        match landed(&target.client, kind, &work.tasks).await {
            Ok(landed) => landed,
            Err(error) => return Conclusion::all(work, &after_failed_look(&error)),
        }
    } else {
        vec![false; work.tasks.len()]
    };
    let open: Vec<&Task> =
        work.tasks.iter().zip(&landed).filter(|(_, landed)| !**landed).map(|(task, _)| task).collect();
    if landed.contains(&true) {
        tracing::info!("an earlier try had landed though its answer was lost");
        target.look_again.fire(Trigger::Interval);
        for task in work.tasks.iter().zip(&landed).filter(|(_, landed)| **landed).map(|(task, _)| task) {
            remember(target, kind, task);
        }
    }
    let Some(open) = NonEmpty::from_vec(open) else { return Conclusion::all(work, &Verdict::Done) };
    let verdict = match send(target, kind, &open).await {
        Sent::Each(verdict) => verdict,
        Sent::Refused(message) if open.len() == 1 => Verdict::Park { message },
        Sent::Refused(_) => return Conclusion::Split,
    };
    let verdicts = landed.into_iter().map(|landed| if landed { Verdict::Done } else { verdict.clone() });
    Conclusion::Each(verdicts.collect())
}

enum Sent {
    /// The same for every task of the call.
    Each(Verdict),
    /// The API refused something in it.
    Refused(String),
}

async fn send(target: &Target, kind: &'static dyn Kind, tasks: &NonEmpty<&Task>) -> Sent {
    let intents = match begin(target, tasks) {
        Ok(intents) => intents,
        Err(message) => return Sent::Each(Verdict::Retry { message, ambiguous: false }),
    };
    let writes = tasks.as_ref().map(|task| (&task.slot.key, &task.write));
    let result = kind.send(&target.client, &writes).await;
    let is_unclear = result.as_ref().is_err_and(descope::Error::may_have_taken_effect);
    if result.is_ok() {
        for task in tasks {
            remember(target, kind, task);
        }
    }
    if !is_unclear {
        settle(target, &intents, result.is_ok());
    }
    match result {
        Ok(()) => Sent::Each(Verdict::Done),
        Err(error) => judge(target, kind, tasks, error).await,
    }
}

async fn judge(target: &Target, kind: &'static dyn Kind, tasks: &NonEmpty<&Task>, error: descope::Error) -> Sent {
    let message = error.to_string();
    if matches!(error, descope::Error::Stopping) {
        return Sent::Each(Verdict::Released);
    }
    if matches!(error, descope::Error::Unauthorized { .. }) {
        tracing::error!(message, "the project is paused; one request per interval asks again");
        target.paused.send_replace(Some(message));
        return Sent::Each(Verdict::Released);
    }
    if error.is_transient() {
        let is_unrepeatable = tasks.iter().any(|task| !task.write.is_repeatable(&task.slot.key));
        return Sent::Each(Verdict::Retry { message, ambiguous: is_unrepeatable && error.may_have_taken_effect() });
    }
    let is_about_one = matches!(error, descope::Error::Rejected { .. });
    match (is_about_one, tasks.len()) {
        (true, 1) if tasks.head.action == Action::Create => {
            judge_refused_create(target, kind, tasks.head, message).await
        }
        (true, _) => Sent::Refused(message),
        // A feature that the plan of the account lacks, or a call that cannot be made: splitting changes nothing.
        (false, _) => Sent::Each(Verdict::Park { message }),
    }
}

/// No source says how Descope words "already exists", so any refused create is followed by a look: what is there was
/// created by somebody else meanwhile, or by an earlier try of ours.
async fn judge_refused_create(target: &Target, kind: &'static dyn Kind, task: &Task, message: String) -> Sent {
    match landed(&target.client, kind, &NonEmpty::new(task.clone())).await {
        Ok(landed) if landed == [true] => {
            remember(target, kind, task);
            target.look_again.fire(Trigger::Interval);
            Sent::Each(Verdict::Done)
        }
        Ok(_) => Sent::Refused(message),
        Err(error) => Sent::Each(after_failed_look(&error)),
    }
}

fn after_failed_look(error: &descope::Error) -> Verdict {
    if matches!(error, descope::Error::Stopping) {
        return Verdict::Released;
    }
    Verdict::Retry { message: error.to_string(), ambiguous: true }
}

/// Which of the tasks are already true? Asked before a write that may not be repeated blindly.
async fn landed(client: &Client, kind: &dyn Kind, tasks: &NonEmpty<Task>) -> Result<Vec<bool>, descope::Error> {
    let live: HashSet<Key> = kind.list(client).await?.iter().filter_map(|document| kind.key(document)).collect();
    let is_true = |task: &Task| {
        let key = &task.slot.key;
        match &task.write {
            Write::Create(_) => live.contains(key),
            Write::Delete { .. } => !live.contains(key),
            Write::Overwrite { from, .. } if *from != key.name => {
                live.contains(key) && !live.contains(&Key { name: from.clone(), ..key.clone() })
            }
            Write::Overwrite { .. } | Write::Patch(_) | Write::DefaultRoles(_) => false,
        }
    };
    Ok(tasks.iter().map(is_true).collect())
}

/// Writes down what may not be repeated blindly, before it is sent: after a crash the next start knows what to look
/// for.
fn begin(target: &Target, tasks: &NonEmpty<&Task>) -> Result<Vec<IntentId>, String> {
    let intents: Vec<Intent> = tasks
        .iter()
        .filter(|task| !task.write.is_repeatable(&task.slot.key))
        .map(|task| Intent {
            key: task.slot.key.clone(),
            action: task.action,
            from: match &task.write {
                Write::Overwrite { from, .. } => Some(from.clone()),
                Write::Create(_) | Write::Patch(_) | Write::DefaultRoles(_) | Write::Delete { .. } => None,
            },
            digest: target.state.fingerprint(&match &task.write {
                Write::Create(body) | Write::Overwrite { body, .. } => Value::Object(body.clone()),
                Write::Patch(_) | Write::DefaultRoles(_) | Write::Delete { .. } => Value::Null,
            }),
        })
        .collect();
    target.state.begin(&intents).map_err(|error| format!("nothing is created, renamed or deleted meanwhile: {error}"))
}

fn settle(target: &Target, intents: &[IntentId], took_effect: bool) {
    let settled = if took_effect { Settled::Done } else { Settled::NotDone };
    if let Err(error) = target.state.settle(intents, settled) {
        tracing::error!(%error, "cannot write the state; the next start looks again at what was just done");
    }
}

/// Keeps what a finished write means: ownership, done renames, and the fingerprints of what cannot be read back.
fn remember(target: &Target, kind: &dyn Kind, task: &Task) {
    let key = &task.slot.key;
    let kept = match &task.write {
        Write::Create(body) => target
            .state
            .own(&[(key.clone(), created(task.ownership))])
            .and_then(|()| remember_sent(target, kind, key, body)),
        Write::Overwrite { from, body } if *from != key.name => {
            let old = Key { name: from.clone(), ..key.clone() };
            target.state.renamed(&old, key).and_then(|()| remember_sent(target, kind, key, body))
        }
        Write::Overwrite { body, .. } | Write::Patch(body) => remember_sent(target, kind, key, body),
        Write::DefaultRoles(names) => {
            let body = [("defaultRoles".to_owned(), Value::from(names.clone()))].into_iter().collect();
            remember_sent(target, kind, key, &body)
        }
        Write::Delete { .. } => target.state.disown(std::slice::from_ref(key)),
    };
    if let Err(error) = kept {
        tracing::error!(%error, "cannot write the state; what was just done is looked up again");
    }
}

fn created(ownership: Ownership) -> Owned {
    Owned {
        created_at: Some(SystemTime::now()),
        protected: ownership.protected,
        cascade_delete: ownership.cascade_delete,
    }
}

fn remember_sent(target: &Target, kind: &dyn Kind, key: &Key, body: &Document) -> Result<(), state::Error> {
    let is_unreadable = |rule| matches!(rule, Rule::CreateOnly | Rule::Unreadable | Rule::Part(_));
    let sent: Vec<_> = kind
        .fields()
        .iter()
        .filter(|field| is_unreadable(field.rule))
        .filter_map(|field| {
            let digest = target.state.fingerprint(&compare::folded(field.shape, body.get(field.name)?));
            Some((key.clone(), field.name, digest))
        })
        .collect();
    if sent.is_empty() { Ok(()) } else { target.state.set_sent(&sent) }
}
