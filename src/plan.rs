//! What has to change: a pure diff of desired and observed state, in dependency order, batched.
//!
//! [`diff`] reads and decides, and sends nothing: a [`Plan`] cannot write. Only [`Plan::take_tasks`] of it, on the queue,
//! become calls.

use crate::descope;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::desired::Place;
use crate::observed::Observed;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Write;
use crate::resource::kind::Preview;
use crate::resource::refer;
use crate::telemetry::status::Why;
use crate::telemetry::traces;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

mod alike;
pub mod compare;
pub mod guards;
pub mod handover;
mod narrow;
pub mod order;
pub mod render;
pub mod ties;
pub mod window;

pub mod write;

pub use guards::Contact;
pub use guards::Guards;
pub use guards::Hold;
pub use guards::Watch;
pub use guards::Window;
pub use ties::Ties;
pub use write::Afresh;
pub use write::afresh;

/// `production`: the name of a project in config, metrics and status.
pub type ProjectName = Arc<str>;

/// One slot of the queue: a resource, and which of its calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The resource.
    pub key: Key,
    /// The calls: a part of its table, by name.
    pub part: &'static str,
}

/// One piece of work for the queue: one write of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Whose slot it takes. For a rename, the new name.
    pub slot: Slot,
    /// What it does, for logs and metrics.
    pub action: Action,
    /// What is sent. Of a part that is read by itself: what would be, as it was when it was planned.
    pub write: Write,
    /// Of such a part: what the write is built from, on what its call shows right before.
    pub declared: Option<Arc<Declared>>,
    /// How many requests it takes, looks apart; those of one batch have them together.
    pub calls: usize,
    /// The id that Descope gave the resource, where it is known by that and lives.
    pub id: Option<Arc<str>>,
    /// Tasks of the same plan that have to be done before.
    pub after: Vec<Slot>,
    /// Of a delete: what of its kind wants what it gives up. That may be refused before it is gone.
    pub frees: Vec<Slot>,
    /// Its place in the order of a pass: creates and updates by kind, then deletes in reverse.
    pub stage: u32,
    /// Tasks with one number go into one call; the planner keeps them within [`Kind::batch_size`].
    pub batch: u32,
    /// Where the YAML declares it; `None` for a prune.
    pub place: Option<Place>,
    /// What the state shall know of the resource once this is done.
    pub ownership: Ownership,
    /// Where the secret is kept that Descope shows when it makes the resource.
    pub secret_file: Option<Arc<str>>,
    /// What an operator approved, by its digest: used up once this is done, and not counted by the guards.
    pub approval: Option<Arc<str>>,
    /// When the observation that it rests on began. If the resource was written after that, the task is void.
    pub observed_at: Instant,
    /// Digest of desired and observed: a parked task gets a new try when this changes.
    pub cause: u64,
    /// Digest of what the YAML writes and of the document that it was compared with; 0 for a prune.
    pub wanted: u64,
    /// Digest of the observed document ([`digest`]) that an overwriting write is built on.
    pub seen: u64,
    /// Tells the observed resource from one of its name that was made anew ([`incarnation`]).
    pub incarnation: u64,
    /// What becomes different, for the audit trail.
    pub fields: Arc<[FieldChange]>,
    /// Why it is done, for the audit trail.
    pub origin: Arc<Origin>,
}

/// What made a plan: kept with every change it leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Of the pass, as in the log.
    pub pass: String,
    /// The trigger of the pass.
    pub trigger: &'static str,
    /// Of the desired state.
    pub revision: String,
    /// That the files were checked out from.
    pub commit: Option<String>,
    /// The span of the pass.
    pub span: traces::Origin,
}

/// Tells observed documents of a kind apart by what they mean: an order, or a value of the server's own, tells nothing.
pub fn digest(kind: &dyn Kind, live: &Document) -> u64 {
    resource::fold::digest(kind.spec(), live)
}

/// What the daemon may do to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Never writes.
    Observe,
    /// Creates what is missing.
    CreateOnly,
    /// Creates, updates and renames.
    UpsertOnly,
    /// Deletes too: what it owns and what left the YAML.
    Sync,
}

impl Policy {
    fn permits(self, action: Action) -> bool {
        match action {
            Action::Create => self >= Self::CreateOnly,
            Action::Update | Action::Rename => self >= Self::UpsertOnly,
            Action::Delete => self == Self::Sync,
        }
    }
}

/// What the state knows of an owned resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Ownership {
    /// Created by us.
    pub created: bool,
    /// Created by us so recently that a list which lacks it proves nothing.
    pub fresh: bool,
    /// It left the YAML, and something of its kind was created since: it may be one resource under a new name.
    pub replaced: bool,
    /// The last declared `protected`.
    pub protected: bool,
    /// The last declared `cascadeDelete`.
    pub cascade_delete: bool,
}

/// What the state knows of a value that the API takes but does not return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// This very value was sent.
    Same,
    /// Another value was sent.
    Different,
    /// Nothing is known.
    Unknown,
}

/// What a plan is made of. Borrowed: nothing here can reach the network.
pub struct Inputs<'a> {
    /// Which project on behalf of which repo: no two share a fingerprint.
    pub scope: &'a str,
    /// The last good desired state.
    pub desired: &'a Desired,
    /// What the API answered, kind by kind.
    pub observed: &'a Observed,
    /// What this daemon owns.
    pub owned: &'a BTreeMap<Key, Ownership>,
    /// The ids that Descope gave to what it owns, as far as they are known.
    pub ids: &'a HashMap<Key, Arc<str>>,
    /// Was this value of this field sent before?
    pub sent: &'a dyn Fn(&Key, &str, &Value) -> Sent,
    /// The same for what this reference to a secret, at this path, leads to; the text says why it leads nowhere.
    pub secret: &'a dyn Fn(&Key, &str, &Value) -> Result<Sent, String>,
    /// Is the second what Descope made of the first, a big document in this field, as far as is known?
    pub document: &'a dyn Fn(&Key, &str, &Value, &Value) -> bool,
    /// What was found out of changes by trying them.
    pub previews: &'a BTreeMap<Key, Result<Preview, descope::Error>>,
    /// Did we do this rename (old, new)?
    pub renamed: &'a dyn Fn(&Key, &Key) -> bool,
    /// What may be done at all.
    pub policy: Policy,
    /// Roles that Descope ships without a marker.
    pub builtin_roles: &'a [String],
    /// The numbers that hold changes.
    pub guards: &'a Guards,
    /// A project never seen before, whose first changes wait for approval.
    pub first_contact: bool,
    /// Do the first changes of a kind or a part of a known project wait for approval?
    pub holds_contact: bool,
    /// Was this field of this kind let go ahead, or found in sync, before?
    pub is_contacted: &'a dyn Fn(&str, &str) -> bool,
    /// What was deleted lately, by kind.
    pub windows: &'a BTreeMap<&'static str, Window>,
    /// Has this owned resource been out of the YAML for long enough?
    pub may_delete: &'a dyn Fn(&Key) -> bool,
    /// Is this change of something that somebody else turns back again and again?
    pub contested: &'a dyn Fn(&Change) -> Option<Contest>,
    /// Made or perhaps made by a create of ours whose secret nobody has: why, and what to do.
    pub lost: &'a BTreeMap<Key, String>,
    /// Was the change with this digest approved?
    pub is_approved: &'a dyn Fn(&str) -> bool,
}

/// One field of a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// `description`, `customAttributes.plan`.
    pub path: String,
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
    /// It finishes a create of ours, so it is permitted wherever that was.
    pub completes: bool,
    /// A delete whose time has not come; an approval does not hurry it.
    pub is_early: bool,
    /// A field that nobody declares or can read, and that the call would reset.
    pub would_reset: Option<&'static str>,
    /// What goes with it though it is no delete, in words; it counts as deleted.
    pub losses: Vec<String>,
    /// It would change or clear something live that is seen for the first time.
    pub is_first_contact: bool,
    /// Somebody else turns it back again and again.
    pub contest: Option<Contest>,
    /// What lowers protection or locks people out, and which guard holds that.
    pub dangers: Vec<(Hold, String)>,
    /// Of a delete: who refers to it.
    pub ties: Ties,
    /// Why it waits; `None` where it goes ahead.
    pub held: Option<Hold>,
    /// What or who holds it, where the word does not say that.
    pub why: Option<String>,
    /// When the time comes that alone releases it, where that is known.
    pub until: Option<SystemTime>,
    /// Identifies it and what it rests on, where it can be or was approved; else empty.
    pub digest: Arc<str>,
    /// What becomes different, by path.
    pub fields: Vec<FieldChange>,
    /// Where the YAML declares it; `None` for a prune.
    pub place: Option<Place>,
    /// The writes, main part first.
    pub tasks: Vec<Task>,
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
}

/// A declaration that cannot be carried out until somebody changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The resource.
    pub key: Key,
    /// What is wrong and what to do instead.
    pub message: String,
    /// Where the YAML declares it; `None` for what is to be deleted.
    pub place: Option<Place>,
}

/// A kind, or one resource, that is only observed for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspendedPart {
    /// The YAML key.
    pub kind: String,
    /// The identity; `None` for all of the kind.
    pub id: Option<String>,
    /// When it ends.
    pub until: SystemTime,
}

impl SuspendedPart {
    /// Does it cover this resource?
    pub fn covers(&self, key: &Key) -> bool {
        self.kind == key.kind && self.id.as_ref().is_none_or(|id| *id == key.id())
    }
}

/// Why a kind could not be observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unobserved {
    /// For the operator.
    pub reason: String,
    /// May it work though nobody changes anything?
    pub is_transient: bool,
    /// Descope refused this list to a key that it knows, and will again.
    pub is_refused: bool,
}

/// All that a pass found out. It writes nothing.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the order in which they are sent.
    pub changes: Vec<Change>,
    /// The calls of the look that it rests on.
    pub reads: usize,
    /// Live, not in the YAML, and not touched.
    pub undeclared: Vec<Key>,
    /// Declarations that cannot be carried out.
    pub refused: Vec<Refusal>,
    /// What the operator should know; nothing stops for it.
    pub warnings: Vec<String>,
    /// Declared and live: owned from now on.
    pub present: BTreeSet<Key>,
    /// The ids that Descope gave to them, where the state does not say so yet.
    pub ids: BTreeMap<Key, Arc<str>>,
    /// Declared and live, and made for a limited time: when they end, in seconds since 1970.
    pub ends: BTreeMap<Key, u64>,
    /// Created by us a moment ago, and not in the list yet.
    pub unlisted: BTreeSet<Key>,
    /// Perhaps created by us, with a secret that is lost, and not in the list.
    pub in_doubt: BTreeSet<Key>,
    /// Kinds of which changes wait for another kind, which could not be observed this time.
    pub waiting: BTreeSet<&'static str>,
    /// What no list shows and was not read yet, by resource. Its changes wait, and nothing else.
    pub unread: BTreeMap<Key, BTreeSet<&'static str>>,
    /// The resources of these, each with what it waits for.
    pub waits: Vec<(Key, Why, String)>,
    /// Kinds of which a create is among them.
    pub waiting_creates: BTreeSet<&'static str>,
    /// Kinds of which a rename cannot be carried out: what is to be deleted of them may be its other half.
    pub refused_renames: BTreeSet<&'static str>,
    /// Of those that are refused: Descope answered twice that the write was done, and keeps something else.
    pub without_effect: BTreeSet<Key>,
    /// What is declared, observed, and seen for the first time.
    pub unknown_parts: guards::Unknown,
    /// Since when something waits for each reason, as far as it was noted.
    pub held_since: BTreeMap<String, SystemTime>,
    /// Kinds whose list lacks too much of what we own to be believed.
    pub shrunk: BTreeSet<&'static str>,
    /// Kinds that could be observed.
    pub observed: BTreeSet<&'static str>,
    /// Kinds that could not be observed, with the reason.
    pub unobserved: BTreeMap<&'static str, Unobserved>,
    /// Kinds and resources that are only observed for now.
    pub suspended: Vec<SuspendedPart>,
    /// Identifies the held changes and what they rest on; empty while nothing is held.
    pub fingerprint: String,
    /// Of each held change that can be approved.
    pub held_digests: Vec<String>,
    /// Of each change that an approval released.
    pub released_digests: Vec<String>,
}

impl Plan {
    /// Is there nothing more to see for now? What is refused for good is not waited for, unless it is everything.
    pub fn has_seen_all(&self) -> bool {
        let is_refused = self.unobserved.values().all(|unobserved| unobserved.is_refused);
        self.unobserved.is_empty() || is_refused && !self.observed.is_empty()
    }

    /// Takes the tasks of all changes that nothing holds out of the plan: a body is in one place only.
    pub fn take_tasks(&mut self, origin: &Arc<Origin>) -> Vec<Task> {
        let free = self.changes.iter_mut().filter(|change| change.held.is_none());
        let tasks = free.flat_map(|change| std::mem::take(&mut change.tasks));
        tasks.map(|task| Task { origin: Arc::clone(origin), ..task }).collect()
    }

    /// Changes that a guard or the first contact holds. What the policy does not permit is not among them: nobody can
    /// approve it.
    pub fn held(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.can_be_approved())
    }

    /// What an approval of the fingerprint covers: digests of the held changes, each with its kind.
    pub fn approvable(&self) -> BTreeMap<String, &'static str> {
        self.held().map(|change| (change.digest.to_string(), change.key.kind)).collect()
    }

    /// Kinds of which nobody can tell what they want changed: they did not answer, or wait for one that did not.
    pub fn unknown(&self) -> BTreeSet<&str> {
        let unread = self.unread.keys().map(|key| key.kind);
        self.unobserved.keys().chain(&self.waiting).copied().chain(unread).collect()
    }

    /// The number of write requests that applying sends, first contact released.
    pub fn forecast_requests(&self) -> usize {
        let sent = |change: &&Change| matches!(change.held, None | Some(Hold::FirstContact(Contact::Project)));
        let calls = self.changes.iter().filter(sent).flat_map(|change| change.tasks.iter().map(|task| task.batch));
        let tasks = || self.changes.iter().filter(sent).flat_map(|change| &change.tasks);
        let more: usize = tasks().map(|task| task.calls.saturating_sub(1)).sum();
        calls.collect::<BTreeSet<u32>>().len() + more
    }

    /// The number of looks that come right before writes of that.
    pub fn forecast_looks(&self) -> usize {
        let sent = |change: &&Change| matches!(change.held, None | Some(Hold::FirstContact(Contact::Project)));
        let tasks = self.changes.iter().filter(sent).flat_map(|change| &change.tasks);
        tasks.filter(|task| task.declared.is_some()).count()
    }

    /// Lets nothing go ahead; `why` is for the operator.
    pub fn suspend(&mut self, why: String) {
        for change in self.changes.iter_mut().filter(|change| change.held.is_none()) {
            change.held = Some(Hold::Suspended);
        }
        self.warnings.push(why);
    }

    /// Lets nothing of these go ahead, now and whatever is released later.
    pub fn suspend_parts(&mut self, parts: Vec<SuspendedPart>) {
        self.suspended = parts;
        self.hold_suspended();
    }

    fn hold_suspended(&mut self) {
        if self.suspended.is_empty() {
            return;
        }
        for change in self.changes.iter_mut().filter(|change| change.held.is_none()) {
            let old = change.old_key();
            let covers = |part: &&SuspendedPart| part.covers(&change.key) || part.covers(&old);
            if let Some(until) = self.suspended.iter().filter(covers).map(|part| part.until).max() {
                change.held = Some(Hold::Suspended);
                change.until = Some(until);
            }
        }
        guards::settle(&mut self.changes);
    }

    /// Lets held changes go ahead, whatever holds them but the policy.
    pub fn release(&mut self, released: impl Fn(&Hold) -> bool) {
        for change in &mut self.changes {
            if change.held.as_ref().is_some_and(|hold| hold.can_be_approved() && released(hold)) {
                let is_first_contact = matches!(change.held, Some(Hold::FirstContact(_)));
                change.approve();
                if is_first_contact {
                    // That is no word on guards: what is deleted counts for them.
                    change.tasks.iter_mut().for_each(|task| task.approval = None);
                }
            }
        }
        guards::refuse_looked_at(self);
        guards::settle(&mut self.changes);
        self.hold_suspended();
    }
}

impl Change {
    /// Its key before the change: that of the old name where it is a rename.
    pub fn old_key(&self) -> Key {
        let old = self.tasks.iter().find_map(|task| match &task.write {
            Write::Overwrite { from, .. } => Some(Key { name: from.clone(), ..self.key.clone() }),
            Write::Create(_) | Write::Patch(_) | Write::Delete { .. } => None,
        });
        old.unwrap_or_else(|| self.key.clone())
    }

    /// An update of these fields, with nothing else to it.
    #[cfg(test)]
    pub fn update_of(key: Key, fields: Vec<FieldChange>) -> Self {
        Self {
            key,
            action: Action::Update,
            completes: false,
            is_approved: false,
            is_early: false,
            would_reset: None,
            is_first_contact: false,
            contest: None,
            dangers: Vec::new(),
            losses: Vec::new(),
            ties: Ties::default(),
            held: None,
            why: None,
            until: None,
            digest: Arc::default(),
            fields,
            place: None,
            tasks: Vec::new(),
        }
    }

    /// Is it held, and could an operator let it go ahead?
    pub fn can_be_approved(&self) -> bool {
        self.held.as_ref().is_some_and(Hold::can_be_approved)
    }

    /// Lets it go ahead, a delete not before its time.
    fn approve(&mut self) {
        self.held = self.is_early.then_some(Hold::DeleteAfter);
        self.is_approved = true;
        for task in &mut self.tasks {
            task.approval = Some(Arc::clone(&self.digest));
        }
    }
}

/// Digest of what only a new resource of the same name has another value of; 0 where Descope tells nothing of that sort.
pub fn incarnation(kind: &dyn Kind, document: &Document) -> u64 {
    let told = kind.incarnation(document);
    if told.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    Value::Object(told).to_string().hash(&mut hasher);
    hasher.finish()
}

/// Compares both sides. Deterministic: the same inputs give the same plan.
pub fn diff(inputs: &Inputs<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut live = Live::default();
    for kind in resource::ALL.iter().copied().filter(|kind| is_managed(inputs, *kind)) {
        match inputs.observed.kinds.get(kind.name()) {
            Some(Ok(documents)) => live.add(kind, documents, inputs),
            Some(Err(error)) => {
                let (reason, is_transient) = (error.to_string(), error.is_transient());
                let is_refused = error.is_forbidden() || matches!(error, descope::Error::Rejected { .. });
                plan.unobserved.insert(kind.name(), Unobserved { reason, is_transient, is_refused });
            }
            // A kind that was not asked for is left alone like one that did not answer.
            None => {}
        }
    }
    let renames = find_renames(inputs, &live, &mut plan);
    live.map_references(&renames);
    let refused: BTreeSet<Key> = plan.refused.iter().map(|refusal| refusal.key.clone()).collect();
    let mut absent = BTreeSet::new();
    for declared in inputs.desired.resources.values() {
        plan_declared(inputs, declared, &live, &renames, &refused, &mut absent, &mut plan);
    }
    wait_along(absent, &mut plan);
    plan_undeclared(inputs, &live, &renames, &mut plan);
    guards::doubt(inputs, &live, &mut plan);
    ties::find(inputs, &live, &renames, &mut plan);
    alike::warn(&mut plan);
    order::arrange(&mut plan.changes, inputs.observed.began, &live);
    handover::arrange(&mut plan, &live);
    guards::hold(inputs, &live, &mut plan);
    guards::refuse_looked_at(&mut plan);
    order::batch(&mut plan.changes);
    plan.observed.clone_from(&live.observed);
    plan.fingerprint = guards::fingerprint(&plan.changes);
    let released = plan.changes.iter().filter(|change| change.is_approved);
    plan.released_digests = released.map(|change| change.digest.to_string()).collect();
    plan.held_digests = plan.held().map(|change| change.digest.to_string()).collect();
    plan
}

fn is_managed(inputs: &Inputs<'_>, kind: &dyn Kind) -> bool {
    inputs.desired.kinds.contains(kind.name()) || inputs.owned.keys().any(|key| key.kind == kind.name())
}

/// The observed documents by key, their references already in the names that will hold once the renames are done.
#[derive(Debug, Default)]
pub struct Live<'a> {
    documents: HashMap<Key, Cow<'a, Document>>,
    observed: BTreeSet<&'static str>,
    /// Names that more than one resource has, of which none is known to be meant, with the ids of all.
    ambiguous: BTreeMap<Key, BTreeSet<&'a str>>,
    /// Of kinds that Descope knows by ids of its own: who bears which.
    bearers: HashMap<&'static str, HashMap<&'a str, Key>>,
    /// Fields that some document of the kind has: the API returns them.
    returned: HashMap<&'static str, BTreeSet<&'static str>>,
}

impl<'a> Live<'a> {
    fn add(&mut self, kind: &'static dyn Kind, documents: &'a [Document], inputs: &Inputs<'_>) {
        self.observed.insert(kind.name());
        if kind.spec().identity.server_id.is_some() {
            self.bearers.entry(kind.name()).or_default();
        }
        let fields = kind.spec().fields().map(|(_, field)| field.name);
        let is_returned = |name: &&str| documents.iter().any(|document| document.contains_key(*name));
        self.returned.insert(kind.name(), fields.filter(is_returned).collect());
        self.documents.reserve(documents.len());
        for document in documents {
            let Some(key) = kind.key(document) else { continue };
            if let Some(id) = kind.server_id(document) {
                self.bearers.entry(key.kind).or_default().insert(id, key.clone());
            }
            // Two of one name: the one that the YAML means is the one of the id that it says, and what it does not name any
            // more is what the state knows. The others are nobody's.
            if let Some(other) = self.documents.get(&key) {
                let wanted = match inputs.desired.resources.get(&key) {
                    Some(declared) => declared.id(kind.spec()),
                    None => inputs.ids.get(&key).map(|id| &**id),
                };
                let is_it = |live: &Document| wanted.is_some() && kind.server_id(live) == wanted;
                if !is_it(other) && !is_it(document) {
                    let ids = self.ambiguous.entry(key.clone()).or_default();
                    if let Cow::Borrowed(other) = other {
                        ids.extend(kind.server_id(other));
                    }
                    ids.extend(kind.server_id(document));
                }
                if !is_it(document) {
                    continue;
                }
                self.ambiguous.remove(&key);
            }
            self.documents.insert(key, Cow::Borrowed(document));
        }
    }

    /// Who bears this id of Descope's.
    fn bearer(&self, kind: &str, id: &str) -> Option<&Key> {
        self.bearers.get(kind)?.get(id)
    }

    /// The live document; `None` where there is none or its kind could not be observed.
    pub fn get(&self, key: &Key) -> Option<&Document> {
        self.documents.get(key).map(Cow::as_ref)
    }

    /// All of them, in no order.
    pub fn documents(&self) -> impl Iterator<Item = (&Key, &Document)> {
        self.documents.iter().map(|(key, document)| (key, document.as_ref()))
    }

    /// Did this kind answer?
    pub fn is_observed(&self, kind: &str) -> bool {
        self.observed.contains(kind)
    }

    /// Does the API return this field of this kind, as far as the list shows?
    pub fn returned(&self, kind: &str) -> impl Fn(&str) -> bool + Copy + use<'_> {
        let fields = self.returned.get(kind);
        move |field: &str| fields.is_some_and(|fields| fields.contains(field))
    }

    /// All of them, sorted.
    pub fn keys(&self) -> Vec<&Key> {
        let mut keys: Vec<&Key> = self.documents.keys().collect();
        keys.sort();
        keys
    }

    /// Descope keeps references by id, so a rename shows in everything that refers to it: expect that already.
    fn map_references(&mut self, renames: &BTreeMap<Key, Key>) {
        if renames.is_empty() {
            return;
        }
        for (key, document) in &mut self.documents {
            let Some(kind) = resource::kind(key.kind) else { continue };
            if refer::refers_to_renamed(kind.spec(), key, document, renames) {
                refer::rename_references(kind.spec(), key, document.to_mut(), renames);
            }
        }
    }
}

/// We did this rename, and the old name did not become ours again: whoever bears it now is somebody else.
pub fn is_over(owned: &BTreeMap<Key, Ownership>, renamed: &dyn Fn(&Key, &Key) -> bool, old: &Key, new: &Key) -> bool {
    !owned.contains_key(old) && renamed(old, new)
}

/// Declared, observed, and known to Descope by ids of its own.
fn of_server_ids<'a>(inputs: &Inputs<'a>, live: &'a Live<'_>) -> impl Iterator<Item = &'a Arc<Declared>> {
    inputs.desired.resources.values().filter(|declared| live.bearers.contains_key(declared.key.kind))
}

/// Whichever of two resources of one name were changed, it might be the wrong one; and so might be whatever bears the name
/// with another id than the YAML says.
fn refuse_ambiguous(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    for declared in of_server_ids(inputs, live) {
        let key = &declared.key;
        let Some(kind) = resource::kind(key.kind) else { continue };
        let Some(field) = kind.spec().identity.server_id else { continue };
        let declared_id = declared.id(kind.spec());
        let message = if let Some(ids) = live.ambiguous.get(key) {
            let ours = inputs.ids.get(key).filter(|id| ids.contains(&***id));
            let ours = ours.map(|id| format!("; this daemon made or adopted `{id}`")).unwrap_or_default();
            let ids = ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
            format!(
                "more than one has this name in Descope ({ids}{ours}); write `{field}: ID` of the one that is meant"
            )
        } else if let Some(id) = declared_id {
            match live.get(key).and_then(|live| kind.server_id(live)) {
                Some(found) if found == id => continue,
                Some(other) => format!(
                    "{field}: the one of this name has the id `{other}` in Descope, and not `{id}`; write that one, or take \
                     the line out"
                ),
                None if live.bearer(key.kind, id).is_some() => continue,
                None => format!(
                    "{field}: none in Descope has the id `{id}`, and nobody can choose one; take the line out to have \
                     {key} created"
                ),
            }
        } else {
            continue;
        };
        plan.refused.push(Refusal { key: key.clone(), message, place: Some(declared.place.clone()) });
    }
}

/// What is ours by its id and bears another name by now, which nobody declares: somebody else renamed it. Made anew, there
/// would be two of it.
fn find_renamed_elsewhere(inputs: &Inputs<'_>, live: &Live<'_>, renames: &mut BTreeMap<Key, Key>) {
    for declared in of_server_ids(inputs, live) {
        let key = &declared.key;
        let Some(kind) = resource::kind(key.kind).filter(|kind| kind.has_rename()) else { continue };
        let id = declared.id(kind.spec()).or(inputs.ids.get(key).map(|id| &**id));
        let bearer = id.and_then(|id| live.bearer(key.kind, id)).filter(|_| live.get(key).is_none());
        let is_free = |old: &&Key| {
            !inputs.desired.resources.contains_key(*old)
                && !live.ambiguous.contains_key(*old)
                && !renames.values().any(|other| other == *old)
        };
        if let Some(old) = bearer.filter(is_free).filter(|_| !renames.contains_key(key)) {
            renames.insert(key.clone(), old.clone());
        }
    }
}

/// Renames to do: new key to old key. A rename that cannot be told from two resources is refused.
fn find_renames(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) -> BTreeMap<Key, Key> {
    let mut renames = BTreeMap::new();
    refuse_ambiguous(inputs, live, plan);
    for declared in inputs.desired.resources.values() {
        let Some(old_name) = &declared.renamed_from else { continue };
        let new = &declared.key;
        let old = Key { name: old_name.clone(), ..new.clone() };
        let Some(document) = live.get(&old).filter(|_| !is_over(inputs.owned, inputs.renamed, &old, new)) else {
            continue;
        };
        let is_builtin = resource::kind(old.kind).is_some_and(|kind| kind.is_builtin(document, inputs.builtin_roles));
        let mut refuse = |message: String| {
            plan.refused.push(Refusal { key: new.clone(), message, place: Some(declared.place.clone()) });
            plan.refused_renames.insert(new.kind);
        };
        if is_builtin {
            refuse(format!(
                "renamedFrom: {old} is built into Descope and never renamed; remove the line to have {new} beside it"
            ));
        } else if live.get(new).is_none() {
            renames.insert(new.clone(), old);
        } else if !(inputs.renamed)(&old, new) {
            refuse(format!(
                "renamedFrom: both {old} and {new} exist in Descope; delete one there, or remove the renamedFrom line to keep both"
            ));
        }
    }
    find_renamed_elsewhere(inputs, live, &mut renames);
    renames
}

const NO_SECRET_FILE: &str = "secretFile: is missing, and Descope shows the secret of a new one once, so that it is not \
                              created; name a file below the project's `secrets.dir`";

/// What the comparison found beside differences: remarks, what no call can do, what is not read yet.
fn tell(inputs: &Inputs<'_>, declared: &Declared, differences: &mut compare::Differences, plan: &mut Plan) {
    let key = &declared.key;
    plan.warnings.extend(differences.warnings.iter().map(|warning| format!("{}: {key}: {warning}", declared.place)));
    plan.refused.extend(std::mem::take(&mut differences.refusals).into_iter().map(|message| Refusal {
        key: key.clone(),
        message,
        place: Some(declared.place.clone()),
    }));
    for (field, message) in std::mem::take(&mut differences.unsent) {
        guards::look_at_once(inputs, declared, field, message, plan);
    }
    wait_for_parts(inputs, declared, &differences.unread, plan);
}

fn plan_declared(
    inputs: &Inputs<'_>,
    declared: &Arc<Declared>,
    live: &Live<'_>,
    renames: &BTreeMap<Key, Key>,
    refused: &BTreeSet<Key>,
    absent: &mut BTreeSet<Key>,
    plan: &mut Plan,
) {
    let key = &declared.key;
    let Some(kind) = resource::kind(key.kind) else { return };
    if !live.is_observed(key.kind) || refused.contains(key) {
        return;
    }
    let old = renames.get(key);
    let document = live.get(old.unwrap_or(key));
    if let Some(document) = document {
        if kind.is_builtin(document, inputs.builtin_roles) {
            plan.warnings.push(format!(
                "{}: {key} is built into Descope and never changed; remove it from the YAML",
                declared.place
            ));
            return;
        }
        // A rename that is still to come owns nothing: what it renames is owned already.
        if old.is_none() {
            note_present(inputs, kind, key, document, plan);
        }
    }
    let ownership = inputs.owned.get(key).copied().unwrap_or_default();
    let is_unlisted = document.is_none() && ownership.fresh;
    if let Some(message) = no_place_for_secret(inputs, kind, declared, document.is_none() && !is_unlisted, plan) {
        plan.refused.push(Refusal { key: key.clone(), message, place: Some(declared.place.clone()) });
        return;
    }
    if is_unlisted {
        plan.present.insert(key.clone());
        plan.unlisted.insert(key.clone());
        plan.warnings.push(format!(
            "{}: {key} was created within the last two minutes, and the list does not show it yet",
            declared.place
        ));
    }
    let reading = compare::Reading { live: document, is_unlisted, returned: live.returned(key.kind) };
    let memory = compare::Memory { sent: inputs.sent, document: inputs.document, secret: inputs.secret };
    let mut differences = compare::differences(kind, declared, &reading, &memory);
    tell(inputs, declared, &mut differences, plan);
    let action = match (document, old) {
        (None, _) if is_unlisted && differences.fields.is_empty() => return,
        (None, _) if is_unlisted => Action::Update,
        (None, _) => Action::Create,
        (Some(_), Some(_)) => Action::Rename,
        (Some(_), None) if differences.fields.is_empty() => return,
        (Some(_), None) => Action::Update,
    };
    let losses =
        wait_for_references(inputs, kind, declared, live, plan).and_then(|()| previewed(inputs, declared, plan));
    let Ok(losses) = losses else {
        if document.is_none() {
            plan.waiting_creates.insert(key.kind);
        }
        if matches!(action, Action::Create | Action::Rename) {
            absent.insert(key.clone());
        }
        return;
    };
    let mut fields = std::mem::take(&mut differences.fields);
    let completes = document.is_some()
        && old.is_none()
        && ownership.created
        && fields.iter().all(|field| write::is_part_that_was_never_sent(kind, declared, field, inputs.sent));
    if let Some(old) = old {
        fields.insert(
            0,
            FieldChange {
                path: kind.spec().identity.field.unwrap_or_default().to_owned(),
                from: Value::from(&*old.name),
                to: Value::from(&*key.name),
            },
        );
    }
    let writes = write::writes(kind, declared, document, old, &fields, is_unlisted);
    // Live, or on its way: then the order of the plan sees to it.
    let is_declared = |key: &Key| live.is_observed(key.kind) && inputs.desired.resources.contains_key(key);
    let will_be_there = |key: &Key| live.get(key).is_some() || is_declared(key);
    let would_reset = write::unreadable_loss(declared, document, live.returned(key.kind), &writes, &fields);
    plan.changes.push(Change {
        key: key.clone(),
        action,
        completes,
        is_approved: false,
        is_early: false,
        would_reset,
        losses,
        is_first_contact: false,
        contest: None,
        dangers: Vec::new(),
        ties: Ties::default(),
        held: None,
        why: None,
        until: None,
        digest: Arc::default(),
        tasks: order::tasks(kind, declared, document, action, writes, &fields, &will_be_there),
        fields,
        place: Some(declared.place.clone()),
    });
}

/// Declared and live.
fn note_present(inputs: &Inputs<'_>, kind: &dyn Kind, key: &Key, document: &Document, plan: &mut Plan) {
    plan.present.insert(key.clone());
    let news = kind.server_id(document).filter(|id| inputs.ids.get(key).is_none_or(|known| **known != **id));
    plan.ids.extend(news.map(|id| (key.clone(), id.into())));
    let end = kind.spec().ends.and_then(|field| document.get(field)).and_then(Value::as_u64);
    plan.ends.extend(end.filter(|end| *end > 0).map(|end| (key.clone(), end)));
}

/// Why it may not be touched: the secret that Descope shows once is lost, or would be.
fn no_place_for_secret(
    inputs: &Inputs<'_>,
    kind: &dyn Kind,
    declared: &Declared,
    is_missing: bool,
    plan: &mut Plan,
) -> Option<String> {
    if let Some(message) = inputs.lost.get(&declared.key) {
        if is_missing {
            plan.in_doubt.insert(declared.key.clone());
        }
        return Some(message.clone());
    }
    let is_nowhere = is_missing && kind.spec().shows_secret && declared.secret_file.is_none();
    is_nowhere.then(|| NO_SECRET_FILE.to_owned())
}

/// A kind that failed for now and holds something that this resource refers to: sent without it, the change might be
/// refused and parked for nothing.
fn wait_for_references(
    inputs: &Inputs<'_>,
    kind: &dyn Kind,
    declared: &Declared,
    live: &Live<'_>,
    plan: &mut Plan,
) -> Result<(), ()> {
    let is_transient = |kind: &str| plan.unobserved.get(kind).is_some_and(|unobserved| unobserved.is_transient);
    let references = write::references_of(kind, declared);
    let waits_for = references.iter().find(|reference| {
        is_transient(reference.kind)
            && !live.is_observed(reference.kind)
            && inputs.desired.resources.contains_key(*reference)
    });
    let Some(unobserved) = waits_for.map(|reference| reference.kind) else { return Ok(()) };
    let Declared { key, place, .. } = declared;
    let why = format!("{unobserved} could not be observed this time");
    plan.warnings.push(format!("{place}: {key} waits: {why}"));
    plan.waits.push((key.clone(), Why::Unobserved, why));
    plan.waiting.insert(key.kind);
    Err(())
}

/// What goes with the change of what is declared. Err where it would be refused, or nobody could tell; that is in the plan then.
fn previewed(inputs: &Inputs<'_>, declared: &Declared, plan: &mut Plan) -> Result<Vec<String>, ()> {
    let Declared { key, place, .. } = declared;
    let refusal = match inputs.previews.get(key) {
        None => return Ok(Vec::new()),
        Some(Ok(Preview { losses, refusal: None })) => return Ok(losses.clone()),
        Some(Ok(Preview { refusal: Some(message), .. })) => message.clone(),
        Some(Err(error)) if error.is_transient() => {
            let why = format!("a dry run of it failed: {error}");
            plan.warnings.push(format!("{place}: {key} waits: {why}"));
            plan.waits.push((key.clone(), Why::Unobserved, why));
            plan.waiting.insert(key.kind);
            return Err(());
        }
        Some(Err(error)) => error.to_string(),
    };
    let message = format!("a dry run says that it would be refused: {refusal}");
    plan.refused.push(Refusal { key: key.clone(), message, place: Some(place.clone()) });
    Err(())
}

/// What no list shows is compared once its own call has answered.
fn wait_for_parts(inputs: &Inputs<'_>, declared: &Declared, unread: &[&'static str], plan: &mut Plan) {
    for part in unread {
        let Declared { key, place, .. } = declared;
        let reason = inputs.observed.unread.get(&(key.clone(), part)).and_then(Option::as_ref);
        let why = match reason {
            Some(reason) => format!("its {part} could not be read: {reason}"),
            None => format!("its {part} could not be read yet"),
        };
        if plan.unread.len() < UNREAD_NAMED || reason.is_some() {
            plan.warnings.push(format!("{place}: {key} waits: {why}"));
        }
        plan.waits.push((key.clone(), Why::Unobserved, why));
        plan.unread.entry(key.clone()).or_default().insert(part);
    }
}

/// Beyond so many resources with unread parts, a warning for each tells no more.
const UNREAD_NAMED: usize = 5;

/// What refers to something that waits to be created or renamed, `absent` for now, waits as well.
fn wait_along(mut absent: BTreeSet<Key>, plan: &mut Plan) {
    loop {
        let missing = |change: &Change| {
            let after = change.tasks.iter().flat_map(|task| &task.after);
            after.map(|slot| &slot.key).find(|key| **key != change.key && absent.contains(*key)).cloned()
        };
        let (kept, waiting): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut plan.changes).into_iter().partition(|change| missing(change).is_none());
        plan.changes = kept;
        if waiting.is_empty() {
            return;
        }
        for change in &waiting {
            plan.waiting.insert(change.key.kind);
            if let (Some(place), Some(missing)) = (&change.place, missing(change)) {
                plan.warnings.push(format!("{place}: {} waits for {missing}", change.key));
                let why = format!("{missing} is not there yet");
                plan.waits.push((change.key.clone(), Why::Dependency, why));
            }
        }
        let made = waiting.into_iter().filter(|change| matches!(change.action, Action::Create | Action::Rename));
        for change in made {
            if change.action == Action::Create {
                plan.waiting_creates.insert(change.key.kind);
            }
            absent.insert(change.key);
        }
    }
}

/// What is live and not declared: pruned where we own it and may, listed otherwise.
fn plan_undeclared(inputs: &Inputs<'_>, live: &Live<'_>, renames: &BTreeMap<Key, Key>, plan: &mut Plan) {
    let mut being_renamed: BTreeSet<Key> = renames.values().cloned().collect();
    // A rename that is refused still speaks of the old name: whether it goes is not decided.
    being_renamed.extend(inputs.desired.resources.values().filter_map(|declared| {
        let name = declared.renamed_from.clone()?;
        let is_open = plan.refused.iter().any(|refusal| refusal.key == declared.key);
        is_open.then(|| Key { name, ..declared.key.clone() })
    }));
    let inhabited = inhabited(inputs, live);
    for key in live.keys() {
        let (Some(kind), Some(document)) = (resource::kind(key.kind), live.get(key)) else { continue };
        // The only one of its kind is nothing that could be left over.
        if kind.spec().is_only() {
            continue;
        }
        let is_ours_to_leave = inputs.desired.resources.contains_key(key)
            || being_renamed.contains(key)
            || kind.is_builtin(document, inputs.builtin_roles);
        if is_ours_to_leave {
            continue;
        }
        let is_stock = kind.spec().stock.contains(&&*key.name);
        // What bears its name with another id is not what we own.
        let is_it = inputs.ids.get(key).is_none_or(|id| kind.server_id(document) == Some(id));
        let can_be_told = kind.spec().verbs.delete && is_it && !is_stock && !live.ambiguous.contains_key(key);
        let prunes = |ownership: &&Ownership| inputs.policy == Policy::Sync && !ownership.protected && can_be_told;
        let Some(ownership) = inputs.owned.get(key).filter(prunes) else {
            plan.undeclared.push(key.clone());
            continue;
        };
        let inhabitants = inhabited.get(key).copied().unwrap_or_default();
        if let Some(role) = inhabitants.staying {
            plan.warnings.push(format!("{key} left the YAML and stays: {role}, which would go with it, is protected"));
            plan.undeclared.push(key.clone());
            continue;
        }
        if let Some(role) = inhabitants.unseen {
            let why = format!("{role}, which goes with it, could not be observed this time");
            plan.warnings.push(format!("{key} waits: {why}"));
            plan.waits.push((key.clone(), Why::Unobserved, why));
            plan.waiting.insert(key.kind);
            continue;
        }
        plan.changes.push(Change {
            key: key.clone(),
            action: Action::Delete,
            completes: false,
            is_approved: false,
            is_early: inhabitants.is_early || !(inputs.may_delete)(key),
            would_reset: None,
            losses: Vec::new(),
            is_first_contact: false,
            contest: None,
            dangers: Vec::new(),
            ties: Ties::default(),
            held: None,
            why: None,
            until: None,
            digest: Arc::default(),
            fields: Vec::new(),
            place: None,
            tasks: vec![order::deletion(key, document, ownership.cascade_delete)],
        });
    }
    // What goes with its tenant is not left alone; a warning names it.
    let deleted: HashSet<&Key> = plan.changes.iter().filter(|c| c.action == Action::Delete).map(|c| &c.key).collect();
    plan.undeclared.retain(|key| !key.home().is_some_and(|tenant| deleted.contains(&tenant)));
}

/// What is known of the roles in a tenant, all of which Descope deletes with it.
#[derive(Debug, Clone, Copy, Default)]
struct Inhabitants<'a> {
    /// One that must not go: it was declared as protected, and by now nowhere.
    staying: Option<&'a Key>,
    /// One of ours of which nobody knows whether it is there.
    unseen: Option<&'a Key>,
    /// The time of one has not come.
    is_early: bool,
}

fn inhabited<'a>(inputs: &Inputs<'a>, live: &Live<'_>) -> HashMap<Key, Inhabitants<'a>> {
    let mut inhabited: HashMap<Key, Inhabitants<'a>> = HashMap::new();
    // What is declared speaks for itself: it refers to its tenant.
    for (key, ownership) in inputs.owned.iter().filter(|(key, _)| !inputs.desired.resources.contains_key(key)) {
        let Some(tenant) = key.home() else { continue };
        let inhabitants = inhabited.entry(tenant).or_default();
        if ownership.protected {
            inhabitants.staying = Some(key);
        }
        if !live.is_observed(key.kind) {
            inhabitants.unseen = Some(key);
        }
        inhabitants.is_early |= live.get(key).is_some() && !(inputs.may_delete)(key);
    }
    inhabited
}

#[cfg(test)]
mod tests;
