//! Takes work off the queue and makes it true, one call at a time: done, tried again, or parked.

use crate::descope;
use crate::descope::Client;
use crate::plan;
use crate::plan::Ownership;
use crate::plan::ProjectName;
use crate::plan::Slot;
use crate::plan::Task;
use crate::plan::compare;
use crate::queue::Queue;
use crate::queue::Verdict;
use crate::queue::Work;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Rule;
use crate::resource::Write;
use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::state;
use crate::state::Attempt;
use crate::state::Digest;
use crate::state::Intent;
use crate::state::IntentId;
use crate::state::Owned;
use crate::state::ProjectState;
use crate::state::Settled;
use crate::telemetry::metrics::Metrics;
use nonempty::NonEmpty;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
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
            Conclusion::Split(message) => {
                tracing::info!(reason = message, "a batch was refused; its halves are tried apart");
                let verdict = Verdict::Park { message: format!("refused with its batch, tried apart: {message}") };
                audit(target, &work, &vec![verdict; work.tasks.len()], started.elapsed());
                self.queue.finish_split(work);
            }
            Conclusion::Each(verdicts) => {
                let verdicts: Vec<Verdict> = verdicts.into_iter().map(|verdict| self.bounded(verdict, &work)).collect();
                for (task, verdict) in work.tasks.iter().zip(&verdicts) {
                    self.record(&work.project, task, verdict, work.attempts);
                }
                audit(target, &work, &verdicts, started.elapsed());
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
    /// The whole was refused because of some part of it.
    Split(String),
}

impl Conclusion {
    fn all(work: &Work, verdict: &Verdict) -> Self {
        Self::Each(vec![verdict.clone(); work.tasks.len()])
    }
}

async fn attempt(target: &Target, kind: &'static dyn Kind, work: &Work) -> Conclusion {
    let started = Instant::now();
    if let Some(message) = target.is_forbidden(kind.name()) {
        return Conclusion::all(work, &Verdict::Park { message });
    }
    let looks = work.verify || work.tasks.iter().any(|task| is_old(target, task));
    let live = if looks {
        match observe(&target.client, kind).await {
            Ok(live) => Some(live),
            Err(error) => return Conclusion::all(work, &after_failed_look(target, &error)),
        }
    } else {
        None
    };
    // What the look already decides: it landed before, or it is not what the plan rested on.
    let decided: Vec<Option<Verdict>> =
        work.tasks.iter().map(|task| live.as_ref().and_then(|live| decide(target, work, task, live))).collect();
    if decided.contains(&Some(Verdict::Done)) {
        tracing::info!("an earlier try had landed though its answer was lost");
        target.look_again.fire(Trigger::Interval);
    }
    let landed = work.tasks.iter().zip(&decided).filter(|(_, decided)| **decided == Some(Verdict::Done));
    let landed: Vec<&Task> = landed.map(|(task, _)| task).collect();
    // It may be somebody else's: then what it holds is not what we would have sent.
    remember(target, kind, &landed, false);
    let row = |task: &&Task| Some(row(task, work.attempts, "ok", LANDED, started.elapsed()));
    let settled: Vec<_> = landed.iter().map(|task| (task.slot.key.clone(), row(task))).collect();
    forget_intents(target, &settled);
    let open = work.tasks.iter().zip(&decided).filter(|(_, decided)| decided.is_none()).map(|(task, _)| task);
    let Some(open) = NonEmpty::from_vec(open.collect::<Vec<&Task>>()) else {
        return Conclusion::Each(decided.into_iter().flatten().collect());
    };
    let verdict = match send(target, kind, &open, work.attempts).await {
        Sent::Each(verdict) => verdict,
        Sent::Refused(message) if open.len() == 1 => Verdict::Park { message },
        Sent::Refused(message) => return Conclusion::Split(message),
    };
    Conclusion::Each(decided.into_iter().map(|decided| decided.unwrap_or_else(|| verdict.clone())).collect())
}

fn is_old(target: &Target, task: &Task) -> bool {
    // A patch that carries a map sends the entries that it does not change along.
    let overwrites = match &task.write {
        Write::Overwrite { .. } => true,
        Write::Patch(body) => body.values().any(Value::is_object),
        Write::Create(_) | Write::DefaultRoles(_) | Write::Delete { .. } => false,
    };
    overwrites && task.observed_at.elapsed() > target.trusted_for
}

/// What is there decides: `None` leaves it to the call.
fn decide(target: &Target, work: &Work, task: &Task, live: &HashMap<Key, u64>) -> Option<Verdict> {
    if work.verify && has_landed(task, live) {
        return Some(Verdict::Done);
    }
    // Under the name of what was to be deleted there may be something new by now.
    let is_delete = matches!(task.write, Write::Delete { .. });
    if (is_delete || is_old(target, task)) && live.get(&present_key(task)) != Some(&task.seen) {
        return Some(Verdict::Superseded);
    }
    None
}

/// The key under which the resource is live before the write.
fn present_key(task: &Task) -> Key {
    match &task.write {
        Write::Overwrite { from, .. } => Key { name: from.clone(), ..task.slot.key.clone() },
        Write::Create(_) | Write::Patch(_) | Write::DefaultRoles(_) | Write::Delete { .. } => task.slot.key.clone(),
    }
}

enum Sent {
    /// The same for every task of the call.
    Each(Verdict),
    /// The API refused something in it.
    Refused(String),
}

async fn send(target: &Target, kind: &'static dyn Kind, tasks: &NonEmpty<&Task>, attempts: u32) -> Sent {
    let intents = match begin(target, tasks) {
        Ok(intents) => intents,
        Err(message) => return Sent::Each(Verdict::Retry { message, ambiguous: false }),
    };
    let started = Instant::now();
    let writes = tasks.as_ref().map(|task| (&task.slot.key, &task.write));
    let result = kind.send(&target.client, &writes).await;
    let is_unclear = result.as_ref().is_err_and(descope::Error::may_have_taken_effect);
    if result.is_ok() {
        let rows: Vec<Attempt> = tasks.iter().map(|task| row(task, attempts, "ok", "", started.elapsed())).collect();
        // First: a settled create knows nothing yet of what was sent.
        settle(target, &intents, Settled::Done, &rows);
        remember(target, kind, &tasks.iter().copied().collect::<Vec<_>>(), true);
        target.forgive(kind.name());
    } else if !is_unclear {
        settle(target, &intents, Settled::NotDone, &[]);
    }
    if !is_unclear {
        let keys: Vec<_> = tasks.iter().map(|task| (task.slot.key.clone(), None)).collect();
        forget_intents(target, &keys);
    }
    match result {
        Ok(()) => Sent::Each(Verdict::Done),
        Err(error) => judge(target, kind, tasks, attempts, error).await,
    }
}

async fn judge(
    target: &Target,
    kind: &'static dyn Kind,
    tasks: &NonEmpty<&Task>,
    attempts: u32,
    error: descope::Error,
) -> Sent {
    let message = error.to_string();
    if matches!(error, descope::Error::Stopping) || pauses(target, &error) {
        return Sent::Each(Verdict::Released);
    }
    if error.is_transient() {
        let is_unrepeatable = tasks.iter().any(|task| !task.write.is_repeatable(&task.slot.key));
        return Sent::Each(Verdict::Retry { message, ambiguous: is_unrepeatable && error.may_have_taken_effect() });
    }
    if matches!(error, descope::Error::Forbidden { .. }) {
        target.note_forbidden(kind.name(), &message);
        return Sent::Refused(message);
    }
    let is_rejected = matches!(error, descope::Error::Rejected { .. });
    match (is_rejected, tasks.len()) {
        (true, 1) if tasks.head.action == Action::Create => {
            judge_refused_create(target, kind, tasks.head, attempts, message).await
        }
        (true, _) => Sent::Refused(message),
        // A call that cannot be made: splitting changes nothing.
        (false, _) => Sent::Each(Verdict::Park { message }),
    }
}

/// No source says how Descope words "already exists", so any refused create is followed by a look: what is there was
/// created by somebody else meanwhile, or by an earlier try of ours.
async fn judge_refused_create(
    target: &Target,
    kind: &'static dyn Kind,
    task: &Task,
    attempts: u32,
    message: String,
) -> Sent {
    match observe(&target.client, kind).await {
        Ok(live) if has_landed(task, &live) => {
            // Somebody else made it meanwhile: the next pass compares it, and owns it.
            target.look_again.fire(Trigger::Interval);
            note(target, &[row(task, attempts, "superseded", &message, Duration::ZERO)]);
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

/// Every live resource of a kind, with the digest of its document.
async fn observe(client: &Client, kind: &dyn Kind) -> Result<HashMap<Key, u64>, descope::Error> {
    let documents = kind.list(client).await?;
    Ok(documents.iter().filter_map(|document| Some((kind.key(document)?, plan::digest(document)))).collect())
}

/// Is the task already true? Asked before a write that may not be repeated blindly.
fn has_landed(task: &Task, live: &HashMap<Key, u64>) -> bool {
    let key = &task.slot.key;
    match &task.write {
        Write::Create(_) => live.contains_key(key),
        Write::Delete { .. } => !live.contains_key(key),
        Write::Overwrite { from, .. } if *from != key.name => {
            live.contains_key(key) && !live.contains_key(&present_key(task))
        }
        Write::Overwrite { .. } | Write::Patch(_) | Write::DefaultRoles(_) => false,
    }
}

/// Tells what is sent apart from what else could be.
pub fn fingerprint(state: &ProjectState, write: &Write) -> Digest {
    state.fingerprint(&match write {
        Write::Create(body) | Write::Overwrite { body, .. } | Write::Patch(body) => Value::Object(body.clone()),
        Write::DefaultRoles(names) => Value::from(names.clone()),
        Write::Delete { .. } => Value::Null,
    })
}

/// Writes down what is about to be sent: after a crash the next start knows what to look for. A state that cannot be
/// written stops creates, renames and deletes; the others are safe to repeat.
fn begin(target: &Target, tasks: &NonEmpty<&Task>) -> Result<Vec<IntentId>, String> {
    let intent = |task: &&Task| Intent {
        key: task.slot.key.clone(),
        action: task.action,
        from: match &task.write {
            Write::Overwrite { from, .. } => Some(from.clone()),
            Write::Create(_) | Write::Patch(_) | Write::DefaultRoles(_) | Write::Delete { .. } => None,
        },
        digest: fingerprint(&target.state, &task.write),
    };
    let intents: Vec<Intent> = tasks.iter().map(intent).collect();
    let is_repeatable = tasks.iter().all(|task| task.write.is_repeatable(&task.slot.key));
    match target.state.begin(&intents) {
        Ok(ids) => Ok(ids),
        Err(error) if is_repeatable => {
            tracing::error!(%error, "cannot write the state; updates go on without it");
            Ok(Vec::new())
        }
        Err(error) => Err(format!("nothing is created, renamed or deleted meanwhile: {error}")),
    }
}

fn settle(target: &Target, intents: &[IntentId], settled: Settled, rows: &[Attempt]) {
    if let Err(error) = target.state.settle(intents, settled, rows) {
        tracing::error!(%error, "cannot write the state; the next start looks again at what was just done");
    }
}

/// What an earlier try with a lost answer left open is settled by now, with the row of the audit trail for it.
fn forget_intents(target: &Target, settled: &[(Key, Option<Attempt>)]) {
    if !settled.is_empty()
        && let Err(error) = target.state.forget_intents(settled)
    {
        tracing::error!(%error, "cannot write the state; the next start looks again at what was just done");
    }
}

/// Keeps what finished writes mean: ownership, done renames, and, where it was certainly this write that took effect,
/// the fingerprints of what cannot be read back.
fn remember(target: &Target, kind: &dyn Kind, tasks: &[&Task], is_certain: bool) {
    let mut created = Vec::new();
    let mut deleted = Vec::new();
    let mut renamed = Vec::new();
    let mut sent = Vec::new();
    for task in tasks {
        let key = &task.slot.key;
        match &task.write {
            Write::Create(body) => {
                created.push((key.clone(), owned(task.ownership)));
                sent.extend(unreadable(target, kind, key, body));
            }
            Write::Overwrite { from, body } => {
                if *from != key.name {
                    renamed.push((Key { name: from.clone(), ..key.clone() }, key.clone()));
                }
                sent.extend(unreadable(target, kind, key, body));
            }
            Write::Patch(body) => sent.extend(unreadable(target, kind, key, body)),
            Write::DefaultRoles(names) => {
                let body = [("defaultRoles".to_owned(), Value::from(names.clone()))].into_iter().collect();
                sent.extend(unreadable(target, kind, key, &body));
            }
            Write::Delete { .. } => deleted.push(key.clone()),
        }
    }
    let uncounted = tasks.iter().filter(|task| task.action == Action::Delete && !task.is_approved);
    let keep = || -> Result<(), state::Error> {
        if !created.is_empty() {
            target.state.created(&created)?;
        }
        renamed.iter().try_for_each(|(old, new)| target.state.renamed(old, new))?;
        if !deleted.is_empty() {
            target.state.disown(&deleted)?;
        }
        uncounted.clone().try_for_each(|task| target.state.note_deletion(task.slot.key.kind, SystemTime::now()))?;
        if is_certain && !sent.is_empty() { target.state.set_sent(&sent) } else { Ok(()) }
    };
    if let Err(error) = keep() {
        tracing::error!(%error, "cannot write the state; what was just done is looked up again");
    }
}

/// Fingerprints of the fields in `body` that the API may not return.
fn unreadable(target: &Target, kind: &dyn Kind, key: &Key, body: &Document) -> Vec<(Key, &'static str, Digest)> {
    let is_unreadable = |rule| matches!(rule, Rule::CreateOnly | Rule::Unreadable | Rule::Part(_));
    let fields = kind.fields().iter().filter(|field| is_unreadable(field.rule));
    let digest = |field: &'static Field| {
        let digest = target.state.fingerprint(&compare::folded(field.shape, body.get(field.name)?));
        Some((key.clone(), field.name, digest))
    };
    fields.filter_map(digest).collect()
}

fn owned(ownership: Ownership) -> Owned {
    Owned {
        created_at: Some(SystemTime::now()),
        protected: ownership.protected,
        cascade_delete: ownership.cascade_delete,
    }
}

/// The message of a row for a try that turned out to have worked.
const LANDED: &str = "its answer was lost; it is there";

/// One row per change attempted that is not done: those are written as they become true.
fn audit(target: &Target, work: &Work, verdicts: &[Verdict], duration: Duration) {
    let row = |(task, verdict): (&Task, &Verdict)| {
        let (outcome, message) = match verdict {
            Verdict::Retry { message, .. } | Verdict::Park { message } => ("failed", message.as_str()),
            Verdict::Superseded => ("superseded", ""),
            // Written before, or not tried.
            Verdict::Done | Verdict::Released => return None,
        };
        Some(row(task, work.attempts, outcome, message, duration))
    };
    note(target, &work.tasks.iter().zip(verdicts).filter_map(row).collect::<Vec<_>>());
}

fn note(target: &Target, rows: &[Attempt]) {
    if !rows.is_empty()
        && let Err(error) = target.state.note_attempts(rows)
    {
        tracing::error!(%error, "cannot write the audit trail");
    }
}

fn row(task: &Task, attempts: u32, outcome: &str, message: &str, duration: Duration) -> Attempt {
    Attempt {
        at: SystemTime::now(),
        trigger: task.origin.trigger.to_owned(),
        revision: task.origin.revision.clone(),
        place: task.place.as_ref().map(|place| (place.file.to_string(), place.line)),
        key: task.slot.key.clone(),
        action: task.action.as_str().to_owned(),
        fields: serde_json::to_string(&*task.fields).unwrap_or_default(),
        attempt: attempts + 1,
        outcome: outcome.to_owned(),
        message: message.to_owned(),
        duration,
    }
}
