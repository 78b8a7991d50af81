//! What has to change: a pure diff of desired and observed state, in dependency order, batched.
//!
//! [`diff`] reads and decides, and sends nothing: a [`Plan`] cannot write. Only [`Plan::take_tasks`] of it, on the queue,
//! become calls.

use crate::descope;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::desired::Place;
use crate::moment::Moment;
use crate::observed::Observed;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::kind::Preview;
use crate::state::Covered;
use crate::telemetry::status::Why;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

mod alike;
mod change;
pub mod compare;
mod declared;
mod differing;
pub mod drift;
pub mod guards;
pub mod handover;
mod live;
pub mod missing;
mod narrow;
pub mod order;
pub mod published;
mod reliance;
mod renames;
pub mod render;
mod takeover;
mod task;
pub mod ties;
mod undeclared;
pub mod waits;
pub mod window;
pub mod write;

pub use change::Calls;
pub use change::Change;
pub use change::Contest;
pub use change::FieldChange;
pub use change::Path;
pub use change::differs;
pub use change::who;
pub use differing::Differing;
pub use drift::Applied;
pub use drift::Drift;
pub use drift::DriftRule;
pub use drift::DriftRules;
pub use drift::Left;
pub use guards::Contact;
pub use guards::Guards;
pub use guards::Hold;
pub use guards::NewName;
pub use guards::Watch;
pub use guards::Window;
pub use live::Live;
pub use missing::Missing;
pub use renames::is_over;
pub use takeover::Former;
pub use takeover::Takeover;
pub use task::Body;
pub use task::Need;
pub use task::Origin;
pub use task::Planned;
pub use task::Slot;
pub use task::Task;
pub use task::digest;
pub use task::incarnation;
pub use ties::Ties;
pub use write::Afresh;
pub use write::afresh;

/// `production`: the name of a project in config, metrics and status.
pub type ProjectName = Arc<str>;

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
    /// Created by us since something of its kind left the YAML: it may be that one under a new name.
    pub replaces: bool,
    /// The last declared `protected`.
    pub protected: bool,
    /// The last declared `cascadeDelete`.
    pub cascade_delete: bool,
    /// For how long every look has lacked it though it is declared nowhere; `None` where the last one showed it, or none
    /// was made.
    pub missing_for: Option<Duration>,
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
    /// The entry of the config that the project is known under, where it is another one. Then it counts as never seen.
    pub former: Option<&'a Former>,
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
    /// What is done about what somebody else changed.
    pub drift: &'a DriftRules,
    /// What the files said of this resource when it was last in force; `None` where it never was.
    pub applied: &'a dyn Fn(&Key) -> Option<Applied>,
    /// When a look first showed this drift.
    pub drifted_since: &'a dyn Fn(&Key, &str) -> Option<SystemTime>,
    /// The time that ages count by.
    pub now: SystemTime,
    /// Made or perhaps made by a create of ours whose secret nobody has: why, and what to do.
    pub lost: &'a BTreeMap<Key, String>,
    /// Why no file that holds a secret may be written.
    pub volume: &'a dyn Fn() -> Option<String>,
    /// What the place looks like where this file with a secret is to be: a number that is another one when that changes.
    pub place: &'a dyn Fn(&str) -> u64,
    /// Was the change with this digest approved?
    pub is_approved: &'a dyn Fn(&str) -> bool,
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
    /// On whose behalf; empty where nobody knows.
    pub by: String,
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
#[derive(Debug, Clone, Default)]
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
    /// Owned, declared nowhere and in no list, which does not prove yet that it is gone.
    pub missing: BTreeMap<Key, Missing>,
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
    /// Renames (old, new) of which both names are there.
    pub rivals: Vec<(Key, Key)>,
    /// Of those that are refused: Descope answered twice that the write was done, and keeps something else.
    pub without_effect: BTreeSet<Key>,
    /// What is declared, observed, and seen for the first time.
    pub unknown_parts: guards::Unknown,
    /// Since when something waits for each reason, as far as it was noted.
    pub held_since: BTreeMap<String, SystemTime>,
    /// What is written of those of which drift is left as it is: their declarations without that.
    pub kept: BTreeMap<Key, Arc<Declared>>,
    /// Kinds whose list lacks too much of what we own to be believed.
    pub shrunk: BTreeSet<&'static str>,
    /// Kinds that could be observed.
    pub observed: BTreeSet<&'static str>,
    /// Kinds that could not be observed, with the reason.
    pub unobserved: BTreeMap<&'static str, Unobserved>,
    /// Kinds and resources that are only observed for now.
    pub suspended: Vec<SuspendedPart>,
    /// Until when the project as a whole is. Whoever carries the plan out sees to that.
    pub suspended_until: Option<SystemTime>,
    /// The project is known under another entry of the config.
    pub takeover: Option<Takeover>,
    /// Identifies the held changes and what they rest on; empty while nothing is held.
    pub fingerprint: String,
    /// Of each held change that can be approved.
    pub held_digests: Vec<String>,
    /// Of each change that an approval released.
    pub released_digests: Vec<String>,
    /// When that was: its times are of this one's clock.
    pub moment: Moment,
}

impl Plan {
    /// Is there nothing more to see for now? What is refused for good is not waited for, unless it is everything.
    pub fn has_seen_all(&self) -> bool {
        let is_refused = self.unobserved.values().all(|unobserved| unobserved.is_refused);
        self.unobserved.is_empty() || is_refused && !self.observed.is_empty()
    }

    /// Could something not be observed, so that nobody knows whether it differs?
    pub fn is_incomplete(&self) -> bool {
        !self.unobserved.is_empty() || !self.unread.is_empty()
    }

    /// Takes the tasks of all changes that nothing holds out of the plan: a body is in one place only.
    pub fn take_tasks(&mut self, origin: &Arc<Origin>) -> Vec<Box<Task>> {
        let free = self.changes.iter_mut().filter(|change| change.held.is_none());
        let tasks = free.flat_map(Change::take_tasks);
        tasks.map(|task| Box::new(Task { origin: Arc::clone(origin), ..task })).collect()
    }

    /// Changes that a guard or the first contact holds. What the policy does not permit is not among them: nobody can
    /// approve it.
    pub fn held(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.can_be_approved())
    }

    /// What an approval of the fingerprint covers: digests of the held changes, each with what it is of.
    pub fn approvable(&self) -> BTreeMap<String, Covered> {
        let takeover = self.takeover.as_ref().filter(|takeover| takeover.is_held);
        let takeover = takeover.map(|takeover| (takeover.digest.clone(), Covered::from("")));
        let covered = |key: &Key| Covered { kind: key.kind, resource: key.named() };
        self.held().map(|change| (change.digest.to_string(), covered(&change.key))).chain(takeover).collect()
    }

    /// All reasons for which something waits, in their words, some more than once.
    pub fn held_reasons(&self) -> impl Iterator<Item = &str> {
        let takeover = self.awaits_contact().then_some(Hold::FirstContact(Contact::Project));
        self.changes.iter().flat_map(Change::holds).chain(takeover).map(|hold| -> &str { hold.as_str() })
    }

    /// Kinds of which nobody can tell what they want changed: they did not answer, or wait for one that did not.
    pub fn unknown(&self) -> BTreeSet<&str> {
        let unread = self.unread.keys().map(|key| key.kind);
        self.unobserved.keys().chain(&self.waiting).copied().chain(unread).collect()
    }

    /// Names what is held, and what an approval released.
    fn identify(&mut self) {
        let takeover = self.takeover.as_ref().filter(|takeover| takeover.is_held);
        self.fingerprint = guards::fingerprint(&self.changes, takeover.map(|takeover| &*takeover.digest));
        let held = self.held().map(|change| change.digest.to_string());
        self.held_digests = held.chain(takeover.map(|takeover| takeover.digest.clone())).collect();
        let released = self.changes.iter().filter(|change| change.is_approved);
        let takeover = self.takeover.as_ref().filter(|takeover| takeover.is_approved);
        let takeover = takeover.map(|takeover| takeover.digest.clone());
        self.released_digests = released.map(|change| change.digest.to_string()).chain(takeover).collect();
    }

    /// The number of write requests that applying sends, first contact released.
    pub fn forecast_requests(&self) -> usize {
        let sent = |change: &&Change| change.is_sent();
        let calls = self.changes.iter().filter(sent).flat_map(|change| change.tasks.iter().map(|task| task.batch));
        let tasks = || self.changes.iter().filter(sent).flat_map(|change| &change.tasks);
        let more: usize = tasks().map(|task| task.calls.saturating_sub(1)).sum();
        calls.collect::<BTreeSet<u32>>().len() + more
    }

    /// The number of looks that come right before writes of that.
    pub fn forecast_looks(&self) -> usize {
        let sent = |change: &&Change| change.is_sent();
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

    /// Lets nothing of these go ahead, now and whatever is released later. `whole`: as in [`Plan::suspended_until`].
    pub fn suspend_parts(&mut self, parts: Vec<SuspendedPart>, whole: Option<SystemTime>) {
        (self.suspended, self.suspended_until) = (parts, whole);
        self.hold_suspended();
    }

    fn hold_suspended(&mut self) {
        if self.suspended.is_empty() && self.suspended_until.is_none() {
            return;
        }
        let part_of = |change: &Change| {
            let old = change.old_key();
            let covers = |part: &&SuspendedPart| part.covers(&change.key) || part.covers(&old);
            self.suspended.iter().filter(covers).max_by_key(|part| part.until)
        };
        // Time puts it back, and not before both are over.
        for change in self.changes.iter_mut().filter(|change| matches!(change.held, Some(Hold::DriftReported(_)))) {
            let end = part_of(change).map(|part| part.until).max(self.suspended_until);
            if change.until.is_some_and(|until| end.is_some_and(|end| until < end)) {
                (change.held, change.until) = (Some(Hold::DriftReported(Left::Suspended)), end);
            }
        }
        let mut held = HashMap::new();
        for (n, change) in self.changes.iter_mut().enumerate().filter(|(_, change)| change.held.is_none()) {
            if let Some(part) = part_of(change) {
                change.held = Some(Hold::Suspended);
                change.until = Some(part.until);
                held.insert(n, part);
            }
        }
        guards::settle(&mut self.changes);
        // After what else there is to say of them.
        for (n, part) in held {
            let Some(change) = self.changes.get_mut(n) else { continue };
            let by = (!part.by.is_empty()).then(|| match part.id {
                Some(_) => format!("by {}", part.by),
                None => format!("with all of {}, by {}", part.kind, part.by),
            });
            let approved = change.is_approved.then(|| "it is approved, and goes ahead then".to_owned());
            let all: Vec<String> = by.into_iter().chain(approved).chain(change.why.take()).collect();
            change.why = (!all.is_empty()).then(|| all.join("; "));
        }
    }

    /// Says who did what drifted, and who sets what is contested, wherever it is told: `actor` knows that of a field with what is
    /// there now, `former` of a resource in a fight before.
    pub fn name_actors(
        &mut self,
        actor: impl Fn(&Key, &str, &Value) -> Option<String>,
        former: impl Fn(&Key) -> Option<String>,
    ) {
        for change in self.changes.iter_mut().filter(|change| change.drift.is_some() || change.contest.is_some()) {
            let before = guards::of_others(change);
            let Change { key, fields, drift, contest, .. } = change;
            let fields = fields.list();
            let of = |path: &str| {
                let field = fields.iter().find(|field| field.path == path);
                actor(key, path, field.map_or(&Value::Null, |field| &field.from))
            };
            if let Some(drift) = drift {
                let all: Option<BTreeSet<String>> = drift.shown(&fields).map(of).collect();
                let all = all.filter(|all| !all.is_empty());
                drift.actor = all.map(|all| all.into_iter().collect::<Vec<_>>().join("; "));
            }
            if let Some(contest) = contest {
                contest.actor = of(&contest.path);
                contest.former = former(key).filter(|_| contest.actor.is_none());
            }
            let after = guards::of_others(change);
            if let Some(why) = &mut change.why {
                for (before, after) in before.iter().zip(&after).filter(|(before, after)| before != after) {
                    *why = why.replace(before, after);
                }
            }
        }
    }

    /// Lets held changes go ahead, whatever holds them but the policy.
    pub fn release(&mut self, released: impl Fn(&Hold) -> bool) {
        self.release_takeover(&released);
        let mut gone = HashSet::new();
        let told = guards::explanations(&self.changes);
        for change in &mut self.changes {
            if change.held.as_ref().is_some_and(|hold| hold.can_be_approved() && released(hold)) {
                gone.extend(change.tasks.iter().map(|task| task.slot.clone()));
                let is_first_contact = matches!(change.held, Some(Hold::FirstContact(_)));
                change.approve();
                if is_first_contact {
                    // That is no word on guards: what is deleted counts for them.
                    change.tasks.iter_mut().for_each(|task| task.approval = None);
                }
            }
        }
        guards::refuse_looked_at(self);
        guards::settle_after(&mut self.changes, gone);
        self.hold_suspended();
        let left = guards::explanations(&self.changes);
        self.warnings.retain(|warning| !told.contains(warning) || left.contains(warning));
    }
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
    let renames = renames::find(inputs, &live, &mut plan);
    live.map_references(&renames);
    let refused: BTreeSet<Key> = plan.refused.iter().map(|refusal| refusal.key.clone()).collect();
    let mut absent = BTreeSet::new();
    // What is not there is made, as a rule. To grow to that would take as much again.
    plan.changes.reserve(inputs.desired.resources.keys().filter(|key| !live.has(key)).count());
    for declared in inputs.desired.resources.values() {
        declared::compare_one(inputs, declared, &live, &renames, &refused, &mut absent, &mut plan);
    }
    declared::wait_along(absent, &mut plan);
    undeclared::prune(inputs, &live, &renames, &mut plan);
    guards::doubt(inputs, &live, &mut plan);
    missing::find(inputs, &live, &mut plan);
    ties::find(inputs, &live, &renames, &mut plan);
    alike::warn(&mut plan);
    order::arrange(&mut plan.changes, inputs.observed.began, &live);
    handover::arrange(&mut plan, &live);
    plan.takeover = Takeover::of(inputs);
    plan.warnings.extend(plan.takeover.as_ref().and_then(Takeover::warning));
    guards::hold(inputs, &live, &mut plan);
    guards::refuse_looked_at(&mut plan);
    order::batch(&mut plan.changes);
    plan.changes.shrink_to_fit();
    plan.observed.clone_from(&live.observed);
    plan.identify();
    plan
}

fn is_managed(inputs: &Inputs<'_>, kind: &dyn Kind) -> bool {
    inputs.desired.kinds.contains(kind.name()) || inputs.owned.keys().any(|key| key.kind == kind.name())
}

#[cfg(test)]
mod tests;
