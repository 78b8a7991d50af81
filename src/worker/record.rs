//! What a worker writes down: what it is about to send, what became of it, and what that means.

use super::Target;
use crate::plan::Ownership;
use crate::plan::Task;
use crate::plan::compare;
use crate::queue::Verdict;
use crate::queue::Work;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Rule;
use crate::resource::Write;
use crate::state;
use crate::state::Attempt;
use crate::state::Digest;
use crate::state::Intent;
use crate::state::IntentId;
use crate::state::Owned;
use crate::state::ProjectState;
use crate::state::Settled;
use nonempty::NonEmpty;
use serde_json::Value;
use std::time::Duration;
use std::time::SystemTime;

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
pub(super) fn begin(target: &Target, tasks: &NonEmpty<&Task>) -> Result<Vec<IntentId>, String> {
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

pub(super) fn settle(target: &Target, intents: &[IntentId], settled: Settled, rows: &[Attempt]) {
    if let Err(error) = target.state.settle(intents, settled, rows) {
        tracing::error!(%error, "cannot write the state; the next start looks again at what was just done");
    }
}

/// What an earlier try with a lost answer left open is settled by now, with the row of the audit trail for it.
pub(super) fn forget_intents(target: &Target, settled: &[(Key, Option<Attempt>)]) {
    if !settled.is_empty()
        && let Err(error) = target.state.forget_intents(settled)
    {
        tracing::error!(%error, "cannot write the state; the next start looks again at what was just done");
    }
}

/// Keeps what finished writes mean: ownership, done renames, and, where it was certainly this write that took effect,
/// the fingerprints of what cannot be read back.
pub(super) fn remember(target: &Target, kind: &dyn Kind, tasks: &[&Task], is_certain: bool) {
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
pub(super) fn unreadable(
    target: &Target,
    kind: &dyn Kind,
    key: &Key,
    body: &Document,
) -> Vec<(Key, &'static str, Digest)> {
    let is_unreadable = |rule| matches!(rule, Rule::CreateOnly | Rule::Unreadable | Rule::Part(_));
    let fields = kind.fields().iter().filter(|field| is_unreadable(field.rule));
    let digest = |field: &'static Field| {
        let digest = target.state.fingerprint(&compare::folded(field.shape, body.get(field.name)?));
        Some((key.clone(), field.name, digest))
    };
    fields.filter_map(digest).collect()
}

pub(super) fn owned(ownership: Ownership) -> Owned {
    Owned {
        created_at: Some(SystemTime::now()),
        protected: ownership.protected,
        cascade_delete: ownership.cascade_delete,
    }
}

/// The message of a row for a try that turned out to have worked.
pub(super) const LANDED: &str = "its answer was lost; it is there";

/// One row per change attempted that is not done: those are written as they become true.
pub(super) fn audit(target: &Target, work: &Work, verdicts: &[Verdict], duration: Duration) {
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

pub(super) fn note(target: &Target, rows: &[Attempt]) {
    if !rows.is_empty()
        && let Err(error) = target.state.note_attempts(rows)
    {
        tracing::error!(%error, "cannot write the audit trail");
    }
}

pub(super) fn row(task: &Task, attempts: u32, outcome: &str, message: &str, duration: Duration) -> Attempt {
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
