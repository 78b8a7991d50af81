//! What a worker writes down: what it is about to send, and what became of it.

use super::Target;
use crate::descope;
use crate::descope::Client;
use crate::plan::Body;
use crate::plan::FieldChange;
use crate::plan::Planned;
use crate::plan::Task;
use crate::plan::drift;
use crate::queue::Work;
use crate::resource;
use crate::resource::Action;
use crate::resource::Answer;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Shape;
use crate::resource::Write;
use crate::resource::fold::folded;
use crate::resource::remember;
use crate::resource::secret;
use crate::resource::spec::Back;
use crate::resource::spec::How;
use crate::resource::spec::Need;
use crate::resource::spec::Omit;
use crate::resource::spec::Read;
use crate::source::Trigger;
use crate::state;
use crate::state::Along;
use crate::state::DELETED;
use crate::state::Digest;
use crate::state::Ending;
use crate::state::Intent;
use crate::state::IntentId;
use crate::state::Landed;
use crate::state::Occasion;
use crate::state::ProjectState;
use crate::state::Remembered;
use crate::state::Settled;
use crate::state::Written;
use nonempty::NonEmpty;
use serde_json::Value;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Tells what is sent apart from what else could be.
pub fn fingerprint(state: &ProjectState, write: &Planned) -> Digest {
    state.fingerprint(&write.body().and_then(Body::read).map_or(Value::Null, Value::Object))
}

/// Was a delete or rename of just this answered as done before, and is there no look yet that shows it?
pub(super) fn was_answered(state: &ProjectState, task: &Task) -> bool {
    let key = &task.slot.key;
    let effect = |path: &str| state.effect(key, path).ok().flatten();
    match &task.write {
        Write::Delete { .. } => {
            effect(DELETED).is_some_and(|effect| effect.before == deleted(state, task.seen, task.incarnation))
        }
        Write::Overwrite { from, .. } => {
            let name = resource::kind(key.kind).and_then(|kind| kind.spec().identity.field).and_then(effect);
            name.is_some_and(|effect| effect.before == state.fingerprint(&Value::from(&**from)))
        }
        Write::Create(_) | Write::Patch(_) => false,
    }
}

/// What a delete was to take away: its content, and which of all that ever had its name. Digests, as of a task.
pub fn deleted(state: &ProjectState, seen: u64, incarnation: u64) -> Digest {
    state.fingerprint(&json!([seen, incarnation]))
}

/// A call that is to be made, of one or more tasks.
pub(super) struct Sending {
    target: Target,
    intents: Arc<[Intent]>,
    /// What has to be known of creates before they are sent.
    along: Along,
    is_repeatable: bool,
    noted: Arc<OnceCell<Noted>>,
}

/// What was written down right before a call was sent.
struct Noted {
    at: Instant,
    /// None where an update went on without; the text says why nothing was sent.
    ids: Result<Arc<[IntentId]>, String>,
}

async fn begin(state: &ProjectState, intents: Arc<[Intent]>, along: Along, is_repeatable: bool) -> Noted {
    let begun = state.begin_with(intents, along).await;
    let ids = match begun {
        // Where replicas share the state, another one may have taken over.
        begun if is_repeatable && !state.is_shared() => {
            let ids = state.or_error(begun, "cannot write the state; updates go on without it");
            Ok(ids.map(Arc::from).unwrap_or_default())
        }
        Ok(ids) => Ok(ids.into()),
        Err(error) if state.is_shared() => Err(format!("nothing is sent meanwhile: {error}")),
        Err(error) => Err(format!("nothing is created, renamed or deleted meanwhile: {error}")),
    };
    Noted { at: Instant::now(), ids }
}

impl Sending {
    pub fn of(target: &Target, tasks: &NonEmpty<&Task>, attempts: u32) -> Self {
        Self {
            intents: tasks.iter().map(|task| intent(target, task, attempts)).collect(),
            along: tasks.iter().filter_map(|task| along_of(&target.state, task)).collect(),
            is_repeatable: tasks.iter().all(|task| task.write.is_repeatable(&task.slot.key)),
            target: target.clone(),
            noted: Arc::default(),
        }
    }

    /// Writes down what is sent when it is sent, and not before: it may wait long for the rate limit. After a crash the
    /// next start knows what to look for. A state that cannot be written stops creates, renames and deletes; the
    /// others are safe to repeat.
    pub fn client(&self) -> Client {
        let (state, intents, along) = (self.target.state.clone(), Arc::clone(&self.intents), Arc::clone(&self.along));
        let (noted, is_repeatable) = (Arc::clone(&self.noted), self.is_repeatable);
        self.target.client.begun_by(move || {
            let (state, intents, noted) = (state.clone(), Arc::clone(&intents), Arc::clone(&noted));
            let along = Arc::clone(&along);
            async move { noted.get_or_init(|| begin(&state, intents, along, is_repeatable)).await.ids.is_ok() }
        })
    }

    /// Why it was not sent, where that is the state's fault.
    pub fn obstacle(&self) -> Option<&String> {
        self.noted.get()?.ids.as_ref().err()
    }

    /// It took effect: with that, what is owned, the ids that Descope gave it, and the fingerprints of what cannot be read
    /// back.
    pub async fn done(
        &self,
        kind: &dyn Kind,
        tasks: &NonEmpty<&Task>,
        answers: &[Answer],
        secrets: Vec<Remembered>,
        kept: Vec<(String, Digest)>,
    ) {
        let sent = tasks.iter().flat_map(|task| unreadable(&self.target, kind, task)).chain(secrets).collect();
        let reset = tasks.iter().flat_map(|task| [reset(kind, task), landed_along(kind, task)].concat()).collect();
        let written = tasks.iter().flat_map(|task| written(&self.target, task)).collect();
        for task in tasks {
            self.target.recent.note(task, task.fields.list().iter().filter(|change| is_listed(kind, change)));
            if !matches!(task.action, Action::Create | Action::Delete) {
                for change in documents(kind, task) {
                    self.target.recent.note_document(&task.slot.key, &change);
                }
            }
        }
        let landed = tasks.iter().filter_map(|task| landed_of(&self.target.state, kind, task)).collect();
        let made = tasks.iter().zip(answers).filter(|(task, _)| task.action == Action::Create);
        let ids = made.filter_map(|(task, answer)| Some((task.slot.key.clone(), answer.id.clone()?))).collect();
        let ending = Ending { written, sent, reset, ids, landed, kept, ..self.ending(Settled::Done, "") };
        let is_repeated = self.end(ending).await;
        // What was read of it before is of before.
        tasks.iter().for_each(|task| self.target.deep.forget(&task.slot.key, task.slot.part));
        // Whether Descope kept a new name shows in a look.
        if tasks.head.action == Action::Rename {
            self.target.renamed.send_replace(true);
        }
        // What Descope made of a document is what it shows after the drain.
        if tasks.iter().any(|task| !documents(kind, task).is_empty()) {
            self.target.unread.send_replace(true);
        }
        // Was it answered and not kept, or changed back since? A look soon after tells.
        if matches!(tasks.head.action, Action::Update | Action::Rename | Action::Delete) && is_repeated {
            self.target.look_again.fire(Trigger::Interval);
        }
    }

    /// It was sent and not carried out, or not answered: then whether it took effect is found out later.
    pub async fn failed(&self, error: &descope::Error) {
        let is_batch = self.intents.len() > 1;
        let is_in_doubt = is_batch && matches!(error, descope::Error::Rejected { .. });
        let is_apart = is_in_doubt || is_batch && error.is_forbidden();
        let (settled, message) = if is_apart {
            (Settled::Apart, format!("refused with its batch, tried apart: {error}"))
        } else {
            (Settled::NotDone, error.to_string())
        };
        let ending = self.ending(settled, message);
        match self.noted.get().map(|noted| &noted.ids) {
            // An outage: the trail says that it was tried.
            Some(Ok(_)) if !error.was_sent() && error.is_transient() => {
                self.end(self.ending(Settled::NotSent, error.to_string())).await;
            }
            Some(Ok(ids)) if !error.was_sent() => {
                said(&self.target, self.target.state.drop_calls(Arc::clone(ids)).await);
            }
            Some(Ok(ids)) if (is_in_doubt || error.may_have_taken_effect()) && !ids.is_empty() => {
                said(&self.target, self.target.state.note_unclear(Arc::clone(ids), ending).await);
            }
            Some(Ok(_)) => drop(self.end(ending).await),
            Some(Err(_)) | None => {}
        }
    }

    /// It took effect, and what its answer was for is lost. It stays open, so that it is never sent again.
    pub async fn lost(&self, key: &Key, id: Option<&Arc<str>>, why: &str) {
        let ids = id.map(|id| (key.clone(), Arc::clone(id))).into_iter().collect();
        let ending = Ending { ids, ..self.ending(Settled::NotDone, why) };
        if let Some(Ok(open)) = self.noted.get().map(|noted| &noted.ids) {
            said(&self.target, self.target.state.note_unclear(Arc::clone(open), ending).await);
        }
    }

    /// It was refused by itself: what was left open of it with a batch had no effect either.
    pub fn refused_alone(&self) {
        said(&self.target, self.target.state.close_apart(&self.intents));
    }

    fn ending(&self, settled: Settled, message: impl Into<String>) -> Ending {
        let duration = self.noted.get().map_or(Duration::ZERO, |noted| noted.at.elapsed());
        Ending::of(settled, message, duration)
    }

    /// True where what was written was written before, and no look has shown it since.
    async fn end(&self, ending: Ending) -> bool {
        let written = match self.noted.get().map(|noted| &noted.ids) {
            Some(Ok(ids)) if !ids.is_empty() => self.target.state.settle(Arc::clone(ids), ending).await,
            Some(_) | None => self.target.state.note_calls(Arc::clone(&self.intents), ending).await,
        };
        said(&self.target, written)
    }
}

/// These are not sent. The rows of those that were refused with their batch stand.
pub(super) fn blocked(target: &Target, tasks: &NonEmpty<Task>) {
    let keys: Vec<&Key> = tasks.iter().map(|task| &task.slot.key).collect();
    said(target, target.state.not_tried_apart(&keys));
}

/// The look that has to come before these failed: the trail says that they were to be sent.
pub(super) async fn not_sent(target: &Target, work: &Work, message: &str) {
    let intents: Vec<Intent> = work.tasks.iter().map(|task| intent(target, task, work.attempts)).collect();
    let ending = Ending::of(Settled::NotSent, message, Duration::ZERO);
    said(target, target.state.note_calls(intents, ending).await);
}

/// A look found these done by an earlier try.
pub(super) fn landed(target: &Target, tasks: &[&Task], message: &str) {
    if !tasks.is_empty() {
        let calls: Vec<_> = tasks.iter().map(|task| (&task.slot.key, task.slot.part, task.action)).collect();
        said(target, target.state.landed(&calls, message));
    }
}

/// What of the files is in force once this is done. Drift that is left as it is was before.
fn landed_of(state: &ProjectState, kind: &dyn Kind, task: &Task) -> Option<Landed> {
    let (part, meant) = (kind.spec().part(task.slot.part)?, task.meant.as_ref()?);
    let fields = task.fields.list();
    let gone = fields.iter().filter(|change| change.to.is_null()).map(|change| &*change.path);
    let values = drift::declared_values(part, &meant.fields);
    Some(state.landed_part(task.slot.key.clone(), task.action == Action::Create, &values, gone))
}

/// The message of a row for a try that turned out to have worked.
pub(super) const LANDED: &str = "its answer was lost; it is there";

/// The same for a try that was refused.
pub(super) const DONE_THOUGH_REFUSED: &str = "refused with its batch, and carried out all the same";

fn said<T: Default>(target: &Target, result: Result<T, state::Error>) -> T {
    let said = target.state.or_error(result, "cannot write the state; what was just done is looked up again");
    said.unwrap_or_else(|| {
        // Not with the next interval alone: until then the trail lacks it, and so does the inventory.
        target.look_again.fire(Trigger::Interval);
        T::default()
    })
}

fn intent(target: &Target, task: &Task, attempts: u32) -> Intent {
    Intent {
        key: task.slot.key.clone(),
        part: task.slot.part,
        action: task.action,
        from: match &task.write {
            Write::Overwrite { from, .. } => Some(from.clone()),
            Write::Create(_) | Write::Patch(_) | Write::Delete { .. } => None,
        },
        server_id: resource::kind(task.slot.key.kind).and_then(|kind| super::id_of(target, kind, task)),
        digest: fingerprint(&target.state, &task.write),
        seen: task.seen,
        protected: task.ownership.protected,
        cascade_delete: task.ownership.cascade_delete,
        approval: task.approval.clone(),
        occasion: Occasion {
            trigger: task.origin.trigger.to_owned(),
            revision: task.origin.revision.clone(),
            commit: task.origin.commit.clone(),
            place: task.place().map(|place| (place.file.to_string(), place.line)),
            fields: told(&target.state, task),
            attempt: attempts + 1,
        },
    }
}

/// A value of more bytes is told by its digest and size.
const LONGEST_VALUE: usize = 4096;

/// What the audit trail says of a change: no value enters it but through here. Secrets are masked, and big documents told by
/// digest and size.
fn told(state: &ProjectState, task: &Task) -> String {
    let spec = resource::kind(task.slot.key.kind).map(Kind::spec);
    let shape = |path: &str| {
        let name = path.split(['.', '[']).next().unwrap_or_default();
        spec.and_then(|spec| spec.field(name)).map(|(_, field)| field.shape)
    };
    let fields = task.fields.list();
    let fields = fields.iter().map(|change| {
        let value = |value: &Value| match shape(&change.path) {
            Some(Shape::Secret) if !value.is_null() => Value::from("(secret)"),
            _ if value.to_string().len() > LONGEST_VALUE => in_short(state, value),
            _ => value.clone(),
        };
        let mut told = json!({ "path": change.path, "from": value(&change.from), "to": value(&change.to) });
        let is_drift = |all: &Arc<BTreeSet<String>>| all.contains(&*change.path) || all.contains(drift::WHOLE);
        if task.drifted.as_ref().is_some_and(is_drift) {
            told["drift"] = Value::Bool(true);
        }
        told
    });
    Value::Array(fields.collect()).to_string()
}

/// The digest is keyed, so that it tells nothing about the value.
fn in_short(state: &ProjectState, value: &Value) -> Value {
    let mut head = [0; 16];
    head.copy_from_slice(&state.fingerprint(value)[..16]);
    json!({ "digest": format!("{:032x}", u128::from_be_bytes(head)), "size": value.to_string().len() })
}

/// What a look has to show: of a delete, that what was there is gone. A create is told by its texts and lists: what is not kept of it was made something else of.
fn written(target: &Target, task: &Task) -> Vec<Written> {
    if task.action == Action::Delete {
        let key = task.slot.key.clone();
        let sent = target.state.fingerprint(&Value::Null);
        return vec![Written {
            key,
            path: DELETED.to_owned(),
            sent,
            before: deleted(&target.state, task.seen, task.incarnation),
        }];
    }
    let identity = resource::kind(task.slot.key.kind).and_then(|kind| kind.spec().identity.field);
    let is_told = |change: &&FieldChange| match (task.action, &change.to) {
        (Action::Create, Value::String(_) | Value::Array(_)) => Some(&*change.path) != identity,
        (Action::Update | Action::Rename, _) => true,
        (Action::Create | Action::Delete, _) => false,
    };
    // What is shown in place of a secret tells nothing of it.
    let is_told = |change: &&FieldChange| is_told(change) && change.to.as_str() != Some(secret::MASK);
    let written = |change: &FieldChange| Written {
        key: task.slot.key.clone(),
        path: change.path.to_string(),
        sent: target.state.fingerprint(&change.to),
        before: target.state.fingerprint(&change.from),
    };
    task.fields.list().iter().filter(is_told).map(written).collect()
}

/// Does the list of its kind show what was written, at this path?
fn is_listed(kind: &dyn Kind, change: &FieldChange) -> bool {
    let (part, field) = kind.spec().field_at(&change.path).unzip();
    let is_shown = part.is_some_and(|part| part.read == Read::List)
        && field.is_some_and(|field| field.opaque().is_none() && matches!(field.back, Back::AsWritten | Back::Maybe));
    is_shown && !change.path.contains('[') && change.path.matches('.').count() <= 1
}

/// The big documents that a write changes.
fn documents(kind: &dyn Kind, task: &Task) -> Vec<FieldChange> {
    let part = kind.spec().part(task.slot.part);
    let opaque: Vec<&Field> =
        part.into_iter().flat_map(|part| part.fields).filter(|field| field.opaque().is_some()).collect();
    if opaque.is_empty() {
        return Vec::new();
    }
    let is_document = |change: &&FieldChange| opaque.iter().any(|field| field.name == change.path);
    task.fields.list().iter().filter(is_document).cloned().collect()
}

/// Fields that an overwriting call resets because it does not carry them.
fn reset(kind: &dyn Kind, task: &Task) -> Vec<(Key, Cow<'static, str>)> {
    let Write::Overwrite { body, .. } = &task.write else { return Vec::new() };
    let part = kind.spec().part(task.slot.part).filter(|part| part.how != How::Patch);
    let Some((part, body)) = part.zip(body.read()) else { return Vec::new() };
    let is_reset = |field: &&Field| {
        let is_changeable = field.need != Need::AtCreation && field.omit == Omit::Resets;
        field.is_remembered() && is_changeable && !body.contains_key(field.name)
    };
    part.fields.iter().filter(is_reset).map(|field| (task.slot.key.clone(), field.name.into())).collect()
}

/// What this was to finish of a create is finished.
fn landed_along(kind: &dyn Kind, task: &Task) -> Vec<(Key, Cow<'static, str>)> {
    let part = kind.spec().part(task.slot.part).filter(|part| part.name != MAIN);
    let fields = part.into_iter().flat_map(|part| part.fields);
    fields.map(|field| (task.slot.key.clone(), remember::along(field.name).into())).collect()
}

/// What other calls have to write of what this creates; none where there is nothing of that.
fn along_of(state: &ProjectState, task: &Task) -> Option<(Key, Vec<Remembered>)> {
    let meant = task.meant.as_ref().filter(|_| task.action == Action::Create)?;
    let come_along = remember::come_along(resource::kind(meant.key.kind)?.spec(), &meant.fields);
    let key = &task.slot.key;
    let along = come_along.into_iter().map(|(path, value)| (key.clone(), path.into(), state.fingerprint(&value)));
    Some((key.clone(), along.collect())).filter(|(_, along): &(_, Vec<_>)| !along.is_empty())
}

/// Fingerprints of the fields that a write carries and the API may not return.
fn unreadable(target: &Target, kind: &dyn Kind, task: &Task) -> Vec<Remembered> {
    let Some(body) = task.write.body().and_then(Body::read) else { return Vec::new() };
    let Some(part) = kind.spec().part(task.slot.part) else { return Vec::new() };
    let is_creation = task.action == Action::Create;
    // That something was sent to a part which no list shows: nobody else's, from then on.
    let whole =
        part.fields.iter().filter(|field| part.name != MAIN && part.read == Read::Each && !field.is_remembered());
    let whole = whole.filter_map(|field| Some((Cow::Borrowed(field.name), folded(field.shape, body.get(field.name)?))));
    let sent = remember::sent(part.fields, &body, is_creation).into_iter().chain(whole);
    let documents = documents(kind, task).into_iter().map(|change| (change.path, change.to));
    let sent = sent.chain(documents);
    sent.map(|(path, value)| (task.slot.key.clone(), path, target.state.fingerprint(&value))).collect()
}
