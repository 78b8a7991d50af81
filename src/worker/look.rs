//! What a look before a write decides: it landed already, it is not what the plan rested on, or it is still to be done.

use super::Target;
use crate::descope;
use crate::descope::Client;
use crate::plan;
use crate::plan::Task;
use crate::queue::Verdict;
use crate::queue::Work;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Write;
use serde_json::Value;
use std::collections::HashMap;

pub(super) fn is_old(target: &Target, task: &Task) -> bool {
    // A patch that carries a map sends the entries that it does not change along.
    let overwrites = match &task.write {
        Write::Overwrite { .. } => true,
        Write::Patch(body) => body.values().any(Value::is_object),
        Write::Create(_) | Write::DefaultRoles(_) | Write::Delete { .. } => false,
    };
    overwrites && task.observed_at.elapsed() > target.trusted_for
}

/// What is there decides: `None` leaves it to the call.
pub(super) fn decide(target: &Target, work: &Work, task: &Task, live: &HashMap<Key, u64>) -> Option<Verdict> {
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
pub(super) fn present_key(task: &Task) -> Key {
    match &task.write {
        Write::Overwrite { from, .. } => Key { name: from.clone(), ..task.slot.key.clone() },
        Write::Create(_) | Write::Patch(_) | Write::DefaultRoles(_) | Write::Delete { .. } => task.slot.key.clone(),
    }
}

/// A look before a write. A list may lack what is there: where something would count as done for that, it is asked for
/// once more, and what either has is live.
pub(super) async fn before(target: &Target, kind: &dyn Kind, work: &Work) -> Result<HashMap<Key, u64>, descope::Error> {
    let mut live = observe(&target.client, kind).await?;
    let rests_on_absence = |task: &Task| matches!(task.action, Action::Delete | Action::Rename);
    if work.verify && work.tasks.iter().any(|task| rests_on_absence(task) && has_landed(task, &live)) {
        let first = std::mem::replace(&mut live, observe(&target.client, kind).await?);
        for (key, digest) in first {
            live.entry(key).or_insert(digest);
        }
    }
    Ok(live)
}

/// Every live resource of a kind, with the digest of its document.
pub(super) async fn observe(client: &Client, kind: &dyn Kind) -> Result<HashMap<Key, u64>, descope::Error> {
    let documents = kind.list(client).await?;
    Ok(documents.iter().filter_map(|document| Some((kind.key(document)?, plan::digest(document)))).collect())
}

/// Is the task already true? Asked before a write that may not be repeated blindly.
pub(super) fn has_landed(task: &Task, live: &HashMap<Key, u64>) -> bool {
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
