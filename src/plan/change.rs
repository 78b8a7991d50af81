//! What happens to one resource, and what holds it.

use crate::desired::Place;
use crate::plan::Contact;
use crate::plan::Differing;
use crate::plan::Drift;
use crate::plan::Hold;
use crate::plan::Task;
use crate::plan::Ties;
use crate::plan::write::Loss;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Write;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;
use thin_vec::ThinVec;

/// Where in a resource something stands: mostly a field of its table, by the word that the table has for it.
pub type Path = Cow<'static, str>;

/// One field of a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// `description`, `customAttributes.plan`.
    pub path: Path,
    /// What is there; `null` where nothing is, or where it cannot be read back.
    pub from: Value,
    /// What shall be there.
    pub to: Value,
}

/// What happens to one resource.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Change {
    /// The resource; for a rename, its new name.
    pub key: Key,
    /// What is done.
    pub action: Action,
    /// An operator let it go ahead.
    pub is_approved: bool,
    /// It finishes a create of ours, by calls that came with that: it is permitted wherever that was.
    pub completes: bool,
    /// A delete whose time has not come; an approval does not hurry it.
    pub is_early: bool,
    /// Fields that nobody declares or can read, each with the part whose call would reset it.
    pub would_reset: ThinVec<Loss>,
    /// What goes with it though it is no delete, in words; it counts as deleted.
    pub losses: ThinVec<String>,
    /// It would change or clear something live that is seen for the first time.
    pub is_first_contact: bool,
    /// What of it somebody else changed, and no commit.
    pub drift: Option<Box<Drift>>,
    /// Somebody else turns it back again and again.
    pub contest: Option<Box<Contest>>,
    /// What lowers protection or locks people out, and which guard holds that.
    pub dangers: ThinVec<(Hold, String)>,
    /// Of a delete: who refers to it.
    pub ties: Option<Box<Ties>>,
    /// Why it waits; `None` where it goes ahead.
    pub held: Option<Hold>,
    /// What would hold it if that did not: an approval lets go of all of it.
    pub held_beside: ThinVec<Hold>,
    /// What of its kind is too much, or may be one with it, where such a guard holds it.
    pub limit: Option<String>,
    /// What or who holds it, where the word does not say that.
    pub why: Option<String>,
    /// When the time comes that alone releases it, where that is known.
    pub until: Option<SystemTime>,
    /// Identifies it and what it rests on, where it can be or was approved; else empty.
    pub digest: Arc<str>,
    /// What becomes different, by path.
    pub fields: Differing,
    /// Where the YAML declares it; `None` for a prune.
    pub place: Option<Place>,
    /// The writes, main part first; none once they are on the queue.
    pub tasks: ThinVec<Task>,
    /// The calls of those that are there.
    pub queued: Calls,
}

/// The calls that a change takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// Their numbers; changes that share a number share a call.
    pub numbers: Box<[u32]>,
    /// Beyond one for each of these.
    pub more: usize,
}

/// A field that somebody else turns back again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// Which.
    pub path: String,
    /// How often.
    pub times: usize,
    /// The first time.
    pub since: SystemTime,
    /// When what is there now has stood for long enough to be set again.
    pub until: SystemTime,
    /// What is there now is another value than what was turned back last, and nobody turned ours back for it.
    pub is_moved: bool,
    /// Who set what is there now, how and when, where that is known.
    pub actor: Option<String>,
    /// The same of one of the times before.
    pub former: Option<String>,
}

/// Who it was, in a sentence: of this very time where that is known, else beside whom it was before.
pub fn who(actor: Option<&str>, former: Option<&str>) -> String {
    match (actor, former) {
        (Some(actor), _) => actor.to_owned(),
        (None, Some(former)) => format!("somebody else (the last one known was {former})"),
        (None, None) => "somebody else".to_owned(),
    }
}

/// Who did it, and since when it differs. Whoever set what is there now may have done so later than it was first seen.
pub fn differs(actor: Option<&str>, what: &str, since: &str) -> String {
    let then = if actor.is_some() { "; first seen to differ" } else { ", first seen" };
    format!("{} {what}{then} {since}", who(actor, None))
}

impl Change {
    /// Nothing is known of it but what is done to which.
    pub fn new(key: Key, action: Action) -> Self {
        Self {
            key,
            action,
            completes: false,
            is_approved: false,
            is_early: false,
            would_reset: ThinVec::new(),
            losses: ThinVec::new(),
            is_first_contact: false,
            drift: None,
            contest: None,
            dangers: ThinVec::new(),
            ties: None,
            held: None,
            held_beside: ThinVec::new(),
            limit: None,
            why: None,
            until: None,
            digest: Arc::default(),
            fields: Differing::default(),
            place: None,
            tasks: ThinVec::new(),
            queued: Calls::default(),
        }
    }

    /// Takes its tasks, for the queue.
    pub fn take_tasks(&mut self) -> ThinVec<Task> {
        self.queued = self.calls();
        let drifted = self.drift.as_ref().map(|drift| Arc::new(drift.fields.clone()));
        for task in &mut self.tasks {
            task.drifted.clone_from(&drifted);
        }
        std::mem::take(&mut self.tasks)
    }

    /// The calls that it takes, wherever its tasks are.
    pub fn calls(&self) -> Calls {
        if self.tasks.is_empty() {
            return self.queued.clone();
        }
        Calls {
            numbers: self.tasks.iter().map(|task| task.batch).collect(),
            more: self.tasks.iter().map(|task| task.calls.saturating_sub(1)).sum(),
        }
    }

    /// Does it go ahead, the first contact released?
    pub fn is_sent(&self) -> bool {
        matches!(self.held, None | Some(Hold::FirstContact(Contact::Project)))
    }

    /// Its key before the change: that of the old name where it is a rename.
    pub fn old_key(&self) -> Key {
        let old = self.tasks.iter().find_map(|task| match &task.write {
            Write::Overwrite { from, .. } => Some(Key { name: from.clone(), ..self.key.clone() }),
            Write::Create(_) | Write::Patch(_) | Write::Delete { .. } => None,
        });
        old.unwrap_or_else(|| self.key.clone())
    }

    /// Who refers to it, where it is deleted.
    pub fn ties(&self) -> &Ties {
        self.ties.as_deref().unwrap_or(Ties::none())
    }

    /// An update of these fields, with nothing else to it.
    #[cfg(test)]
    pub fn update_of(key: Key, fields: Vec<FieldChange>) -> Self {
        Self { fields: fields.into(), ..Self::new(key, Action::Update) }
    }

    /// Is it held, and could an operator let it go ahead?
    pub fn can_be_approved(&self) -> bool {
        self.held.as_ref().is_some_and(Hold::can_be_approved)
    }

    /// All that holds it, the reason of `held` first; none where it goes ahead. What nobody can approve stands alone: the rest
    /// counts once that is over.
    pub fn holds(&self) -> impl Iterator<Item = Hold> {
        let beside = if self.can_be_approved() { self.held_beside.as_slice() } else { &[] };
        self.held.into_iter().chain(beside.iter().copied())
    }

    /// Lets it go ahead, a delete not before its time.
    pub fn approve(&mut self) {
        self.held_beside.clear();
        self.limit = None;
        self.held = self.is_early.then_some(Hold::DeleteAfter);
        self.is_approved = true;
        for task in &mut self.tasks {
            task.approval = Some(Arc::clone(&self.digest));
        }
    }
}
