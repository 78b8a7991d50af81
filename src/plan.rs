//! What has to change: a pure diff of desired and observed state, in dependency order, batched.

use crate::desired::Place;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Part;
use crate::resource::Write;
use std::sync::Arc;
use tokio::time::Instant;

/// One slot of the queue: a resource, and which of its calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The resource.
    pub key: Key,
    /// The calls.
    pub part: Part,
}

/// One piece of work for the queue: one write of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Whose slot it takes. For a rename, the new name.
    pub slot: Slot,
    /// What it does, for logs and metrics.
    pub action: Action,
    /// What is sent.
    pub write: Write,
    /// Tasks of the same plan that have to be done before.
    pub after: Vec<Slot>,
    /// Its place in the order of a pass: creates and updates by kind, then deletes in reverse.
    pub stage: u16,
    /// Tasks with one number go into one call; the planner keeps them within [`crate::resource::Kind::batch_size`].
    pub batch: u32,
    /// Where the YAML declares it; `None` for a prune.
    pub place: Option<Place>,
    /// When the observation that it rests on began. If the resource was written after that, the task is void.
    pub observed_at: Instant,
    /// Digest of desired and observed: a parked task gets a new try when this changes.
    pub cause: u64,
}

/// `production`: the name of a project in config, metrics and status.
pub type ProjectName = Arc<str>;
