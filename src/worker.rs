//! Takes work off the queue and makes it true, one call at a time: done, tried again, or parked.

use crate::descope;
use crate::descope::Client;
use crate::desired::secret_file;
use crate::desired::secrets::Secrets;
use crate::observed::Deep;
use crate::pause::Pause;
use crate::plan::ProjectName;
use crate::plan::Slot;
use crate::plan::Task;
use crate::queue::PausedBy;
use crate::queue::Queue;
use crate::queue::Verdict;
use crate::queue::Work;
use crate::resource;
use crate::resource::Action;
use crate::resource::Answer;
use crate::resource::Document;
use crate::resource::Item;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::Write;
use crate::resource::secret;
use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::state::ProjectState;
use crate::state::Remembered;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::repeats::is_worth_a_line;
use crate::telemetry::traces;
use nonempty::NonEmpty;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::Span;
use tracing::field::Empty;

mod carried;
mod fresh;
pub mod look;
pub mod recent;
mod record;
mod shown;

pub use carried::Refused;
use look::Looks;
use look::Present;
use recent::Recent;
use record::Sending;
pub use record::deleted;
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
    /// What the files refer to: read right before it is sent, and kept nowhere.
    pub secrets: Secrets,
    /// Where it is said that nothing more of the project is to be sent.
    pub pause: Pause,
    /// Refusals (403) of each kind in a row: after [`FORBIDDEN`] of them nothing more of that kind is sent until a pass
    /// gives it another try.
    pub forbidden: watch::Sender<BTreeMap<&'static str, (u32, String)>>,
    /// What was written a moment ago.
    pub recent: Recent,
    /// What calls for single resources showed.
    pub deep: Deep,
    /// Documents were written, and what Descope made of them was not read yet.
    pub unread: watch::Sender<bool>,
    /// Names were changed, and no look shows them yet.
    pub renamed: watch::Sender<bool>,
    /// What was looked at a moment ago.
    pub looks: Looks,
    /// Held by the one that writes the project's settings.
    pub settings_turn: Arc<Mutex<()>>,
    /// What Descope answers and refuses in requests.
    pub refused: watch::Sender<Refused>,
    /// An overwriting write or a delete that rests on an older observation looks again first.
    pub trusted_for: Duration,
}

/// A feature that the account lacks is refused for every resource alike: this many refusals in a row prove it, and
/// spare the budget the rest.
const FORBIDDEN: u32 = 3;

impl Target {
    /// Sends only under the term that the right to write is held in now, and nothing that may outlast it.
    fn in_term(self, queue: &Queue, project: &ProjectName) -> Self {
        if !self.state.is_shared() {
            return self;
        }
        let term = self.state.tenure().map(|tenure| tenure.term);
        if term.is_none() {
            // It goes on when the lease is held again.
            queue.pause(project, PausedBy::Lease);
        }
        let (state, known) = (self.state.clone(), self.state.clone());
        let is_ours = move || term.is_some() && state.tenure().map(|tenure| tenure.term) == term;
        let client = self.client.only_while(is_ours).within(move || known.tenure().and_then(|tenure| tenure.room()));
        Self { client, ..self }
    }

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
    pub async fn turn(&self, mut work: Work) {
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
            pass = first.origin.pass.as_str(),
            revision = first.origin.revision.as_str(),
            kind = kind.name(),
            action = first.action.as_str(),
            resources = work.tasks.len(),
            commit = first.origin.commit.as_deref(),
            result = Empty,
            trace_id = Empty,
        );
        traces::follow(&span, &first.origin.span, first.origin.commit.as_deref());
        traces::show(&span);
        let project = work.project.clone();
        let started = Instant::now();
        let conclusion = attempt(&self.while_wanted(target, &work), kind, &work).instrument(span.clone()).await;
        let _entered = span.enter();
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.change_duration_seconds.with_label_values(&[kind.name(), first.action.as_str()]).observe(seconds);
        match conclusion {
            Conclusion::Split { message, decided, verify } => {
                tracing::info!(reason = message, "a batch was refused; its halves are tried apart");
                for (task, verdict) in work.tasks.iter().zip(&decided) {
                    if let Some(verdict) = verdict {
                        self.record(&work, task, verdict);
                    }
                }
                span.record("result", "split");
                traces::failed(&span, "split");
                work.verify |= verify;
                self.queue.finish_split(work, decided);
            }
            Conclusion::Each(verdicts) => {
                let verdicts: Vec<Verdict> = verdicts.into_iter().map(|verdict| self.bounded(verdict, &work)).collect();
                for (task, verdict) in work.tasks.iter().zip(&verdicts) {
                    self.record(&work, task, verdict);
                }
                tell(&span, &verdicts);
                // Before the queue lets go of the last work: whoever waits for that finds the look asked for.
                self.read_back(target, &project, work.tasks.len());
                self.queue.finish(work, verdicts);
            }
        }
    }

    /// One look for all documents and names that were written, once nothing more is sent but what is `done`: it may take a call
    /// for each. Names alone are left to the next command by one that ends.
    fn read_back(&self, target: &Target, project: &ProjectName, done: usize) {
        let counts = self.queue.counts_of(project);
        if counts.ready + counts.in_flight > done {
            return;
        }
        let is_unread = target.unread.send_if_modified(std::mem::take);
        let is_renamed = target.renamed.send_if_modified(std::mem::take) && self.give_up_after.is_none();
        if is_unread || is_renamed {
            target.look_again.fire(Trigger::Interval);
        }
    }

    /// While a call waits for the rate limit a newer plan may drop it, or an operator suspend the project.
    fn while_wanted(&self, target: &Target, work: &Work) -> Target {
        let (queue, project) = (self.queue.clone(), work.project.clone());
        let slots: Vec<Slot> = work.tasks.iter().map(|task| task.slot.clone()).collect();
        let client = target.client.only_while(move || queue.is_wanted(&project, &slots));
        Target { client, ..target.clone() }.in_term(&self.queue, &work.project)
    }

    fn bounded(&self, verdict: Verdict, work: &Work) -> Verdict {
        match (verdict, self.give_up_after) {
            (Verdict::Retry { message, .. }, Some(most)) if work.attempts + 1 >= most => {
                Verdict::Park { message: format!("gave up after {most} tries: {message}") }
            }
            (verdict, _) => verdict,
        }
    }

    fn record(&self, work: &Work, task: &Task, verdict: &Verdict) {
        let (kind, action) = (task.slot.key.kind, task.action.as_str());
        let id = task.slot.key.id();
        let attempt = work.attempts + 1;
        let result = match verdict {
            Verdict::Done => {
                tracing::info!(id, "changed");
                "ok"
            }
            Verdict::Retry { message, .. } => {
                let is_news = work.last_failure.as_ref() != Some(message);
                if is_worth_a_line(u64::from(attempt), is_news) {
                    tracing::warn!(id, attempt, reason = message, "change failed; it is tried again");
                }
                "failed"
            }
            Verdict::Park { message } => {
                tracing::error!(id, attempt, reason = message, "change refused; it waits until something changes");
                "failed"
            }
            Verdict::Forbid { message } => {
                if work.attempts == 0 {
                    tracing::error!(id, attempt, reason = message, "change not permitted; it is asked for again");
                }
                "failed"
            }
            Verdict::Superseded => "superseded",
            Verdict::Released => return,
        };
        self.metrics.changes_total.with_label_values(&[&*work.project, kind, action, result]).inc();
    }
}

/// What became of a change, in its span: of a batch, the worst.
fn tell(span: &Span, verdicts: &[Verdict]) {
    let is_failed =
        |verdict: &Verdict| matches!(verdict, Verdict::Retry { .. } | Verdict::Park { .. } | Verdict::Forbid { .. });
    if verdicts.iter().any(is_failed) {
        span.record("result", "failed");
        traces::failed(span, "failed");
    } else if verdicts.contains(&Verdict::Done) {
        span.record("result", "ok");
    } else {
        span.record("result", "superseded");
    }
}

enum Conclusion {
    /// One verdict per task, in order.
    Each(Vec<Verdict>),
    /// What was sent was refused because of some part of it. The rest is tried apart.
    Split {
        /// The refusal.
        message: String,
        /// Of tasks that were not among it, or took effect all the same.
        decided: Vec<Option<Verdict>>,
        /// Nobody could see what took effect, so that the parts look first.
        verify: bool,
    },
}

impl Conclusion {
    fn all(work: &Work, verdict: &Verdict) -> Self {
        Self::Each(vec![verdict.clone(); work.tasks.len()])
    }
}

async fn attempt(target: &Target, kind: &'static dyn Kind, work: &Work) -> Conclusion {
    if let Some(message) = target.is_forbidden(kind.name()) {
        record::blocked(target, &work.tasks);
        return Conclusion::all(work, &Verdict::Forbid { message });
    }
    let part = kind.spec().part(work.tasks.head.slot.part).unwrap_or_else(|| kind.spec().main());
    if fresh::is_needed(part, work) {
        return Box::pin(fresh::attempt(target, kind, part, work)).await;
    }
    let mut looks = work.tasks.iter().any(|task| look::is_old(target, work, task));
    // What comes between a look and its write, the answer or the rate limit, may take longer each time, so it grows.
    let mut trusted_for = target.trusted_for;
    let mut since = work.woken_at;
    loop {
        let mut writer = None;
        // What the look already decides: it landed before, or it is not what the plan rested on.
        let (decided, seen_at): (Vec<Option<Verdict>>, _) = if work.verify {
            match look::twice_where_needed(target, kind, work.tasks.iter(), look::has_landed).await {
                Ok(look) => {
                    let decide = |task| look::decide(target, kind, work, task, &look.live);
                    (work.tasks.iter().map(decide).collect(), Some(look.at))
                }
                Err(error) => return unseen(target, work, &error).await,
            }
        } else if looks {
            match target.looks.one(target, kind, since, &work.tasks.iter().collect::<Vec<_>>()).await {
                Ok((seen, leave)) => {
                    writer = leave;
                    (work.tasks.iter().map(|task| seen.decide(target, work, task)).collect(), Some(seen.at))
                }
                Err(error) => return unseen(target, work, &error).await,
            }
        } else {
            (vec![None; work.tasks.len()], None)
        };
        if decided.contains(&Some(Verdict::Done)) {
            tracing::info!("an earlier try had landed though its answer was lost");
            target.look_again.fire(Trigger::Interval);
        }
        let landed = work.tasks.iter().zip(&decided).filter(|(_, decided)| **decided == Some(Verdict::Done));
        record::landed(target, &landed.map(|(task, _)| task).collect::<Vec<&Task>>(), record::LANDED);
        let open = work.tasks.iter().zip(&decided).filter(|(_, decided)| decided.is_none()).map(|(task, _)| task);
        let Some(open) = NonEmpty::from_vec(open.collect::<Vec<&Task>>()) else {
            return Conclusion::Each(decided.into_iter().flatten().collect());
        };
        let young = Young::of(&open, seen_at, trusted_for);
        let client = writer.unwrap_or_else(|| target.client.clone());
        let target_now = young.only(&Target { client, ..target.clone() });
        let verdict = match send(&target_now, kind, &open, work.attempts, None).await {
            Upshot::Each(Verdict::Released) if young.is_over() => {
                if seen_at.is_some() {
                    trusted_for = trusted_for.saturating_mul(2);
                }
                looks = true;
                since = seen_at.max(since);
                continue;
            }
            Upshot::Each(verdict) => verdict,
            Upshot::Refused(message) if open.len() == 1 => Verdict::Park { message },
            Upshot::Refused(message) => return Conclusion::Split { message, decided, verify: false },
            Upshot::InDoubt(message) => return after_refused_batch(target, kind, work, decided, message).await,
        };
        return Conclusion::Each(
            decided.into_iter().map(|decided| decided.unwrap_or_else(|| verdict.clone())).collect(),
        );
    }
}

/// Until when a call may be sent that rests on a look: the rate limit may hold it for longer.
#[derive(Clone, Copy)]
struct Young {
    until: Option<Instant>,
}

impl Young {
    fn of(tasks: &NonEmpty<&Task>, seen_at: Option<Instant>, trusted_for: Duration) -> Self {
        let resting = tasks.iter().filter(|task| look::rests_on_a_look(task));
        let since = resting.map(|task| seen_at.unwrap_or(task.observed_at)).min();
        Self { until: since.and_then(|since| since.checked_add(trusted_for)) }
    }

    /// Sends nothing after it.
    fn only(self, target: &Target) -> Target {
        Target { client: target.client.only_while(move || !self.is_over()), ..target.clone() }
    }

    fn is_over(self) -> bool {
        self.until.is_some_and(|until| Instant::now() > until)
    }
}

/// Descope documents a batch as all or nothing, which no source proves. What took effect all the same is done, by us; the
/// rest is tried apart.
async fn after_refused_batch(
    target: &Target,
    kind: &'static dyn Kind,
    work: &Work,
    mut decided: Vec<Option<Verdict>>,
    message: String,
) -> Conclusion {
    let is_done = |task: &Task, live: &Present| look::is_as_sent(kind, task, live);
    let open = work.tasks.iter().zip(&decided).filter(|(_, decided)| decided.is_none()).map(|(task, _)| task);
    let look = match look::twice_where_needed(target, kind, open, is_done).await {
        Ok(look) => look,
        Err(error) => {
            tracing::warn!(%error, "cannot see whether a part of a refused batch took effect; its halves look first");
            return Conclusion::Split { message, decided, verify: true };
        }
    };
    let mut landed = Vec::new();
    for (task, decided) in work.tasks.iter().zip(&mut decided) {
        if decided.is_none() && is_done(task, &look.live) {
            *decided = Some(Verdict::Done);
            landed.push(task);
        }
    }
    if !landed.is_empty() {
        tracing::warn!(resources = landed.len(), "a part of a refused batch took effect all the same");
        target.look_again.fire(Trigger::Interval);
        record::landed(target, &landed, record::DONE_THOUGH_REFUSED);
    }
    Conclusion::Split { message, decided, verify: false }
}

enum Upshot {
    /// The same for every task of the call.
    Each(Verdict),
    /// The API refused something in it, and nothing of it took effect.
    Refused(String),
    /// The same, and what of it took effect nobody knows.
    InDoubt(String),
}

async fn send(
    target: &Target,
    kind: &'static dyn Kind,
    tasks: &NonEmpty<&Task>,
    attempts: u32,
    live: Option<&Document>,
) -> Upshot {
    let sending = Sending::of(target, tasks, attempts);
    let part = kind.spec().part(tasks.head.slot.part).unwrap_or_else(|| kind.spec().main());
    let resolved = tasks.iter().map(|task| with_secrets(target, part, task)).collect::<Result<Vec<_>, _>>();
    let resolved = match resolved {
        Ok(resolved) => resolved,
        // The next pass refuses the resource by itself and says the same.
        Err(message) => return Upshot::Refused(message),
    };
    if let Err(message) = shown::prove_volume(target, kind, tasks.head) {
        // The next pass refuses the resource by itself, unless it was mended.
        return Upshot::Each(Verdict::Retry { message, ambiguous: false });
    }
    let mut place = match shown::reserve(target, kind, tasks.head) {
        Ok(place) => place,
        Err(message) => return Upshot::Refused(message),
    };
    let (mut writes, secrets): (Vec<Write>, Vec<_>) = resolved.into_iter().unzip();
    let ids: Vec<Option<Arc<str>>> = tasks.iter().map(|task| id_of(target, kind, task)).collect();
    let paths = |task: &&Task| task.fields.list().iter().map(|change| change.path.to_string()).collect::<Vec<String>>();
    let changed: Vec<Vec<String>> = tasks.iter().map(paths).collect();
    let turn = if kind.spec().has_one_writer() { Some(target.settings_turn.lock().await) } else { None };
    let error = loop {
        for write in &mut writes {
            if let Some(less) = carried::without_refused(target, kind, part, write) {
                *write = less;
            }
        }
        let items = tasks.iter().zip(&writes).zip(ids.iter().zip(&changed));
        let items = items.map(|((task, write), (id, changed))| Item {
            key: &task.slot.key,
            id: id.as_deref(),
            write,
            live,
            changed,
        });
        let Some(items) = NonEmpty::from_vec(items.collect()) else { return Upshot::Each(Verdict::Superseded) };
        let error = match kind.send(&sending.client(), part, &items).await {
            Ok(answers) => {
                let kept = place.take().map(|place| (place.name.clone(), shown::keep(target, place, answers.first())));
                let kept = match kept {
                    Some((name, Err(why))) => return lost(target, &sending, tasks.head, &name, &answers, &why).await,
                    Some((_, Ok(kept))) => vec![kept],
                    None => Vec::new(),
                };
                let secrets = secrets.into_iter().flatten().collect();
                sending.done(kind, tasks, &answers, secrets, kept).await;
                target.forgive(kind.name());
                return Upshot::Each(Verdict::Done);
            }
            Err(error) => error,
        };
        // Each turn leaves out one field more.
        if !carried::note(target, kind, part, &items.iter().map(|item| item.write).collect::<Vec<_>>(), &error) {
            break error;
        }
    };
    drop(turn);
    sending.failed(&error).await;
    if let Some(place) = place.filter(|_| error.may_have_taken_effect()) {
        // Never again, and never taken for done: the next pass sees whether it was made.
        target.look_again.fire(Trigger::Interval);
        return Upshot::Refused(format!("{}: {error}", secret_file::in_doubt(&place.name)));
    }
    let sent = match sending.obstacle() {
        Some(message) => Upshot::Each(Verdict::Retry { message: message.clone(), ambiguous: false }),
        None => judge(target, kind, tasks, error).await,
    };
    if matches!(sent, Upshot::Refused(_)) && tasks.len() == 1 {
        sending.refused_alone();
    }
    sent
}

/// It was made, and the secret that its answer showed is not where it belongs.
async fn lost(target: &Target, sending: &Sending, task: &Task, name: &str, answers: &[Answer], why: &str) -> Upshot {
    let id = answers.first().and_then(|answer| answer.id.clone());
    sending.lost(&task.slot.key, id.as_ref(), why).await;
    target.look_again.fire(Trigger::Interval);
    let remedies = id.map_or_else(|| secret_file::in_doubt(name), |id| secret_file::lost(name, &id));
    Upshot::Refused(format!("{why}; {remedies}"))
}

/// The id by which Descope knows it. Of what was created a moment ago no list has to tell it: the answer did.
fn id_of(target: &Target, kind: &dyn Kind, task: &Task) -> Option<Arc<str>> {
    if task.id.is_some() || task.action == Action::Create || kind.spec().identity.server_id.is_none() {
        return task.id.clone();
    }
    let what = "cannot read the state; the id of what was just created is not known";
    target.state.or_error(target.state.server_id(&task.slot.key), what).flatten()
}

/// The write as it is sent, with its secrets in place of the references. Nothing of it outlives the call. The fingerprints of
/// the secrets go with it.
fn with_secrets(target: &Target, part: &'static Part, task: &Task) -> Result<(Write, Vec<Remembered>), String> {
    let write = task.write.unpack();
    let Some(body) = write.body() else { return Ok((write, Vec::new())) };
    let places = secret::places(part.fields.iter(), body);
    if places.is_empty() {
        return Ok((write, Vec::new()));
    }
    // Each is read once: what is fingerprinted is what is sent.
    let mut known = Vec::with_capacity(places.len());
    let mut prints = Vec::with_capacity(places.len());
    for secret::Place { path, reference } in places {
        let read = target.secrets.read(&reference).map_err(|why| format!("{path}: {why}"))?;
        prints.push((task.slot.key.clone(), path.into(), target.state.fingerprint_secret(&read)));
        known.push((reference, read));
    }
    let read = |reference: &serde_json::Value| {
        known.iter().find(|(of, _)| of == reference).map(|(_, secret)| secret.clone()).ok_or("is not known")
    };
    let body = secret::resolve(part.fields.iter(), body, &read).map_err(|(path, why)| format!("{path}: {why}"))?;
    Ok((write.with(|_| body), prints))
}

async fn judge(target: &Target, kind: &'static dyn Kind, tasks: &NonEmpty<&Task>, error: descope::Error) -> Upshot {
    let message = error.to_string();
    if matches!(error, descope::Error::Stopping) || pauses(target, &error) {
        return Upshot::Each(Verdict::Released);
    }
    if error.is_transient() {
        return Upshot::Each(Verdict::Retry { message, ambiguous: error.may_have_taken_effect() });
    }
    // What it was built on is not what is there any more.
    if error.is_version_conflict() {
        return Upshot::Each(Verdict::Retry { message, ambiguous: true });
    }
    if error.is_forbidden() {
        target.note_forbidden(kind.name(), &message);
        return if tasks.len() == 1 { Upshot::Each(Verdict::Forbid { message }) } else { Upshot::Refused(message) };
    }
    let is_rejected = matches!(error, descope::Error::Rejected { .. });
    match (is_rejected, tasks.len()) {
        // What bears its name by now is not taken for it: its secret is not here.
        (true, 1) if shown::shows_secret(kind, &tasks.head.write) => {
            target.look_again.fire(Trigger::Interval);
            Upshot::Refused(message)
        }
        (true, 1) if tasks.head.action == Action::Create => {
            judge_refused_create(target, kind, tasks.head, message).await
        }
        (true, 1) if matches!(tasks.head.action, Action::Delete | Action::Rename) => {
            judge_refused_removal(target, kind, tasks.head, message).await
        }
        (true, 1) => Upshot::Refused(message),
        (true, _) => Upshot::InDoubt(message),
        // A call that cannot be made: splitting changes nothing.
        (false, _) => Upshot::Each(Verdict::Park { message }),
    }
}

/// No source says how Descope words "already exists", so any refused create is followed by a look: what is there was
/// created by somebody else meanwhile, or by an earlier try of ours.
async fn judge_refused_create(target: &Target, kind: &'static dyn Kind, task: &Task, message: String) -> Upshot {
    match look::once(target, kind, &[task]).await {
        Ok(look) if look::has_landed(task, &look.live) => {
            // An earlier try of ours that was late, or somebody else. The next pass compares it, and owns it.
            record::landed(target, &[task], record::LANDED);
            target.look_again.fire(Trigger::Interval);
            Upshot::Each(Verdict::Done)
        }
        Ok(_) => Upshot::Refused(message),
        Err(error) => Upshot::Each(after_failed_look(target, &error, true)),
    }
}

/// Nor how it words "not found", so a refused delete or rename is followed by a look as well. What is gone, or bears its new
/// name, is done. What the list shows still, though a call of just that was answered before, is looked at again and again:
/// lists lag behind.
async fn judge_refused_removal(target: &Target, kind: &'static dyn Kind, task: &Task, message: String) -> Upshot {
    match look::twice_where_needed(target, kind, std::iter::once(task), look::has_landed).await {
        Ok(look) if look::has_landed(task, &look.live) => {
            target.look_again.fire(Trigger::Interval);
            Upshot::Each(Verdict::Done)
        }
        Ok(_) if record::was_answered(&target.state, task) => {
            let message = format!("{message}; the same call was answered as done before, so the list may lag behind");
            Upshot::Each(Verdict::Retry { message, ambiguous: true })
        }
        Ok(_) => Upshot::Refused(message),
        Err(error) => Upshot::Each(after_failed_look(target, &error, true)),
    }
}

/// Nothing is sent without the look that has to come before it.
async fn unseen(target: &Target, work: &Work, error: &descope::Error) -> Conclusion {
    let verdict = after_failed_look(target, error, false);
    if let Verdict::Retry { message, .. } = &verdict {
        record::not_sent(target, work, message).await;
    }
    Conclusion::all(work, &verdict)
}

/// `ambiguous`: the look was for a call that was sent.
fn after_failed_look(target: &Target, error: &descope::Error, ambiguous: bool) -> Verdict {
    if matches!(error, descope::Error::Stopping) || pauses(target, error) {
        return Verdict::Released;
    }
    Verdict::Retry { message: error.to_string(), ambiguous }
}

/// A refused key stops the whole project; other projects go on.
fn pauses(target: &Target, error: &descope::Error) -> bool {
    let is_refused = matches!(error, descope::Error::Unauthorized { .. });
    if is_refused {
        target.pause.refused(error.clone());
    }
    is_refused
}
