//! What the queue does of a plan: one write of one resource, and what it rests on.

use crate::desired::Declared;
use crate::desired::Place;
use crate::plan::Differing;
use crate::plan::Ownership;
use crate::plan::write;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Packed;
use crate::resource::Touch;
use crate::resource::Write;
use crate::resource::write::Shown;
use crate::telemetry::traces;
use serde_json::Value;
use std::collections::BTreeSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::LazyLock;
use thin_vec::ThinVec;
use tokio::time::Instant;

/// One slot of the queue: a resource, and which of its calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The resource.
    pub key: Key,
    /// The calls: a part of its table, by name.
    pub part: &'static str,
}

/// A write that waits for its turn: what it carries becomes a tree when it is sent.
pub type Planned = Write<Body>;

/// A task of the same plan without which another one may not go: where that is held or dropped, so is this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The task.
    pub slot: Slot,
    /// Why, up to its name.
    pub why: Arc<str>,
}

/// What such a write carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Of a create: all that is declared.
    Whole(Arc<Declared>),
    /// Any other body.
    Packed(Packed),
}

impl Body {
    /// As it is sent.
    pub fn read(&self) -> Option<Document> {
        match self {
            Self::Whole(declared) => Some(write::creation(resource::kind(declared.key.kind)?.spec(), declared)),
            Self::Packed(packed) => packed.read(),
        }
    }
}

impl Shown for Body {
    fn fields(&self) -> Vec<String> {
        self.read().as_ref().map(Shown::fields).unwrap_or_default()
    }
}

impl Write {
    /// For as long as it waits. It was made of what is `declared`.
    pub fn planned(&self, declared: &Arc<Declared>) -> Planned {
        match self {
            Self::Create(_) => Write::Create(Body::Whole(Arc::clone(declared))),
            Self::Overwrite { .. } | Self::Patch(_) | Self::Delete { .. } => self.pack(),
        }
    }

    /// The same of one that was made of something else.
    pub fn pack(&self) -> Planned {
        self.with(|body| Body::Packed(Packed::of(body)))
    }
}

impl Planned {
    /// As it is sent.
    pub fn unpack(&self) -> Write {
        self.with(|body| body.read().unwrap_or_default())
    }
}

/// One piece of work for the queue: one write of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Whose slot it takes. For a rename, the new name.
    pub slot: Slot,
    /// What it does, for logs and metrics.
    pub action: Action,
    /// What is sent. Of a part that is read by itself: what would be, as it was when it was planned.
    pub write: Planned,
    /// Of such a part: what the write is built from, on what its call shows right before.
    pub declared: Option<Arc<Declared>>,
    /// What of the files is in force once this is done; `None` for a delete.
    pub meant: Option<Arc<Declared>>,
    /// How many requests it takes, looks apart; those of one batch have them together.
    pub calls: usize,
    /// The id that Descope gave the resource, where it is known by that and lives.
    pub id: Option<Arc<str>>,
    /// Tasks of the same plan that have to be done before.
    pub after: ThinVec<Slot>,
    /// Tasks of the same plan without which it may not go, done before or after.
    pub needs: ThinVec<Need>,
    /// It names something of a kind that nobody asks for: no look shows when that is there, so that only another try tells.
    pub names_unseen: bool,
    /// What of its kind wants what it gives up. That may be refused before this is done, and is tried again then.
    pub frees: ThinVec<Slot>,
    /// Its place in the order of a pass: creates and updates by kind, then deletes in reverse.
    pub stage: u32,
    /// Tasks with one number go into one call; the planner keeps them within [`Kind::batch_size`].
    pub batch: u32,
    /// What the state shall know of the resource once this is done.
    pub ownership: Ownership,
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
    pub fields: Differing,
    /// Which of that somebody else changed, and no commit; [`WHOLE`](super::drift::WHOLE) where somebody else deleted the resource.
    pub drifted: Option<Arc<BTreeSet<String>>>,
    /// Why it is done, for the audit trail.
    pub origin: Arc<Origin>,
}

impl Task {
    /// Where the YAML declares it; `None` for a prune.
    pub fn place(&self) -> Option<&Place> {
        self.meant.as_ref().map(|declared| &declared.place)
    }

    /// Where the secret is kept that Descope shows when it makes the resource.
    pub fn secret_file(&self) -> Option<&Arc<str>> {
        self.meant.as_ref()?.secret_file.as_ref()
    }

    /// A create or rename: while one fails, nothing of its kind is deleted.
    pub fn makes(&self) -> bool {
        matches!(self.action, Action::Create | Action::Rename)
    }

    /// What it is about. What is made may be there already under the name that it is to be renamed from, or be about to come.
    pub fn touches(&self) -> Touch<'_> {
        let declared = self.meant.as_ref().filter(|_| self.makes());
        let old = match &self.write {
            Write::Overwrite { from, .. } if *from != self.slot.key.name => Some(from),
            Write::Create(_) | Write::Overwrite { .. } | Write::Patch(_) | Write::Delete { .. } => {
                declared.and_then(|declared| declared.renamed_from.as_ref())
            }
        };
        Touch::new(self.action, &self.slot.key, old, self.id.as_ref())
    }
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

impl Origin {
    /// Of what is not on the queue yet.
    pub fn unknown() -> Arc<Self> {
        static UNKNOWN: LazyLock<Arc<Origin>> = LazyLock::new(Arc::default);
        Arc::clone(&UNKNOWN)
    }
}

/// Tells observed documents of a kind apart by what they mean: an order, or a value of the server's own, tells nothing.
pub fn digest(kind: &dyn Kind, live: &Document) -> u64 {
    resource::fold::digest(kind.spec(), live)
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
