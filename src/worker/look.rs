//! What a look before a write decides: it landed already, it is not what the plan rested on, or it is still to be done.

use super::Target;
use super::shown;
use crate::descope;
use crate::descope::Client;
use crate::observed;
use crate::plan;
use crate::plan::Task;
use crate::queue::Verdict;
use crate::queue::Work;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Documents;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Write;
use crate::resource::fold;
use crate::resource::spec::Back;
use crate::resource::spec::Need;
use crate::resource::spec::Read;
use serde_json::Value;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What is live of what was asked about.
pub(super) type Present = HashMap<Key, Document>;

/// A look at a kind.
pub(super) struct Look {
    /// Of what the tasks are about.
    pub live: Present,
    /// All of the kind.
    documents: Documents,
    /// When it was sent: what is there is at least as young.
    pub at: Instant,
}

/// Does it destroy what somebody else may have changed since it was planned?
pub(super) fn rests_on_a_look(task: &Task) -> bool {
    match &task.write {
        // Its list has the whole of such a part, and it carries no more; one that has no list looks for itself.
        Write::Overwrite { .. } if task.slot.part != MAIN => false,
        Write::Overwrite { .. } | Write::Delete { .. } => true,
        // A patch that carries a map sends the entries that it does not change along.
        Write::Patch(body) => body.read().is_some_and(|body| body.values().any(Value::is_object)),
        Write::Create(_) => false,
    }
}

/// Does it rest on a look that may be outdated by now: one of long ago, or of before a wait after a failure?
pub(super) fn is_old(target: &Target, work: &Work, task: &Task) -> bool {
    let is_woken = work.woken_at.is_some_and(|at| task.observed_at < at);
    rests_on_a_look(task) && (is_woken || task.observed_at.elapsed() > target.trusted_for)
}

/// What a look showed, without the documents: kept for the other tasks that wait.
#[derive(Debug)]
pub(super) struct Seen {
    digests: HashMap<Key, u64>,
    /// As in [`Look`].
    pub at: Instant,
}

impl Seen {
    /// What is not as it was when it was planned is planned again.
    pub fn decide(&self, target: &Target, work: &Work, task: &Task) -> Option<Verdict> {
        let is_as_seen = || self.digests.get(&present_key(task)) == Some(&task.seen);
        let is_delete = matches!(task.write, Write::Delete { .. });
        ((is_delete || is_old(target, work, task)) && !is_as_seen()).then_some(Verdict::Superseded)
    }
}

/// The last look at each kind. One serves all tasks that wait for one.
#[derive(Debug, Clone, Default)]
pub struct Looks {
    last: Arc<tokio::sync::Mutex<HashMap<&'static str, Arc<Seen>>>>,
}

impl Looks {
    /// A look that began after `since` and is young enough to write by. Where there is none, one is made, and comes with a
    /// client that may write at once: it waited for leave to do so before, so that a full budget does not age the look.
    pub(super) async fn one(
        &self,
        target: &Target,
        kind: &'static dyn Kind,
        since: Option<Instant>,
        tasks: &[&Task],
    ) -> Result<(Arc<Seen>, Option<Client>), descope::Error> {
        // One at a time: two that each hold leave for a write and wait for leave to look would wait for one another.
        let mut last = self.last.lock().await;
        let is_usable = |seen: &&Arc<Seen>| {
            let is_after = since.is_none_or(|since| seen.at >= since);
            // Without a list it shows what it was asked for, and no other.
            let is_of_all = kind.spec().main().read != Read::ByName;
            is_of_all && is_after && seen.at.elapsed() < target.trusted_for / 2
        };
        if let Some(seen) = last.get(kind.name()).filter(is_usable) {
            return Ok((Arc::clone(seen), None));
        }
        let (reader, writer) = leave(target).await?;
        let look = once(&Target { client: reader, ..target.clone() }, kind, tasks).await?;
        let mut digests = HashMap::with_capacity(look.documents.len());
        for (key, live) in look.documents.iter() {
            digests.entry(key.clone()).or_insert_with(|| plan::digest(kind, &live));
        }
        digests.extend(look.live.iter().map(|(key, live)| (key.clone(), plan::digest(kind, live))));
        let seen = Arc::new(Seen { digests, at: look.at });
        last.insert(kind.name(), Arc::clone(&seen));
        Ok((seen, writer))
    }

    /// Clients for a look and for the write that follows it. Where leave for the second is not to be had, without that.
    pub(super) async fn leave(&self, target: &Target) -> Result<(Client, Option<Client>), descope::Error> {
        // One at a time: two that each hold leave for a write and wait for leave to look would wait for one another.
        let _last = self.last.lock().await;
        leave(target).await
    }
}

async fn leave(target: &Target) -> Result<(Client, Option<Client>), descope::Error> {
    let first = target.client.reserve().await.ok_or(descope::Error::Stopping)?;
    // While the gate waits for its one trial there is no second one before that is sent.
    let second = tokio::time::timeout(PATIENCE.min(target.trusted_for / 2), target.client.reserve()).await;
    Ok(match second {
        Ok(second) => (second.ok_or(descope::Error::Stopping)?, Some(first)),
        Err(_) => (first, None),
    })
}

/// For leave to send a second request.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is there decides, where an earlier try may have taken effect: `None` leaves it to the call.
pub(super) fn decide(target: &Target, kind: &dyn Kind, work: &Work, task: &Task, live: &Present) -> Option<Verdict> {
    if has_landed(task, live) {
        // With the secret of a create that nobody saw the answer of, nothing of it is done.
        let is_lost = shown::shows_secret(kind, &task.write);
        return Some(if is_lost { Verdict::Superseded } else { Verdict::Done });
    }
    // Under the name of what was to be deleted there may be something new by now.
    let is_delete = matches!(task.write, Write::Delete { .. });
    let is_as_seen = || live.get(&present_key(task)).is_some_and(|live| plan::digest(kind, live) == task.seen);
    if (is_delete || is_old(target, work, task)) && !is_as_seen() {
        return Some(Verdict::Superseded);
    }
    None
}

/// The key under which the resource is live before the write.
pub(super) fn present_key(task: &Task) -> Key {
    match &task.write {
        Write::Overwrite { from, .. } => Key { name: from.clone(), ..task.slot.key.clone() },
        Write::Create(_) | Write::Patch(_) | Write::Delete { .. } => task.slot.key.clone(),
    }
}

/// A look before a write, or after one that was refused. A list may lack what is there: where something would count as
/// done for that, it is asked for once more, and what either has is live.
pub(super) async fn twice_where_needed<'a>(
    target: &Target,
    kind: &'static dyn Kind,
    tasks: impl Iterator<Item = &'a Task>,
    is_done: impl Fn(&Task, &Present) -> bool,
) -> Result<Look, descope::Error> {
    let tasks: Vec<&Task> = tasks.collect();
    let mut look = once(target, kind, &tasks).await?;
    let rests_on_absence = |task: &&&Task| matches!(task.action, Action::Delete | Action::Rename);
    if tasks.iter().filter(rests_on_absence).any(|task| is_done(task, &look.live)) {
        let second = once(target, kind, &tasks).await?.live;
        let first = std::mem::replace(&mut look.live, second);
        for (key, document) in first {
            look.live.entry(key).or_insert(document);
        }
    }
    Ok(look)
}

/// One look. Of a kind without a list it shows what the tasks are about.
pub(super) async fn once(target: &Target, kind: &'static dyn Kind, tasks: &[&Task]) -> Result<Look, descope::Error> {
    let (sent, at) = watch::channel(Instant::now());
    // It may wait long for the rate limit.
    let client = target.client.begun_by(move || {
        sent.send_replace(Instant::now());
        std::future::ready(true)
    });
    let names: BTreeSet<Key> = tasks.iter().flat_map(|task| [present_key(task), task.slot.key.clone()]).collect();
    let mut documents = observed::all(&client, kind, &names.iter().cloned().collect::<Vec<_>>()).await?;
    let at = *at.borrow();
    target.recent.put_over(kind, &mut documents, at);
    let mut live = Present::new();
    for (key, document) in documents.of(|key| names.contains(key)) {
        // Of two that bear one name, the one that is to be changed.
        let is_another = live.contains_key(key)
            && !tasks.iter().any(|task| present_key(task) == *key && kind.server_id(&document) == task.id.as_deref());
        if !is_another {
            live.insert(key.clone(), document);
        }
    }
    Ok(Look { live, documents, at })
}

/// Is the task already true? Asked before a write that may not be repeated blindly.
pub(super) fn has_landed(task: &Task, live: &Present) -> bool {
    let key = &task.slot.key;
    match &task.write {
        Write::Create(_) => live.contains_key(key),
        Write::Delete { .. } => !live.contains_key(key),
        Write::Overwrite { from, .. } if *from != key.name => {
            live.contains_key(key) && !live.contains_key(&present_key(task))
        }
        Write::Overwrite { .. } | Write::Patch(_) => false,
    }
}

/// Is it as if a call that was refused had been carried out? What somebody else made may bear the same name.
pub(super) fn is_as_sent(kind: &dyn Kind, task: &Task, live: &Present) -> bool {
    let body = match &task.write {
        Write::Create(body) => body,
        Write::Overwrite { from, body } if *from == task.slot.key.name || has_landed(task, live) => body,
        Write::Delete { .. } => return has_landed(task, live),
        Write::Overwrite { .. } | Write::Patch(_) => return false,
    };
    let (Some(live), Some(body)) = (live.get(&task.slot.key), body.read()) else { return false };
    let Some(part) = kind.spec().part(task.slot.part) else { return false };
    let mut fields = part.fields.iter();
    let is_plain = |field: &&Field| field.back == Back::AsWritten && field.need != Need::AtCreation;
    let mut fields = fields.by_ref().filter(is_plain).filter(|field| !kind.spec().is_identity(field.name));
    fields.all(|field| body.get(field.name).is_none_or(|to| fold::same(field.shape, live.get(field.name), to)))
}
