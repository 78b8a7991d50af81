//! One task on the queue, and what it looks like to those that wait for it.

use super::Standing;
use crate::plan::Task;
use crate::resource::Action;
use crate::resource::Touch;
use tokio::time::Instant;

/// Where a task stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Status {
    /// Its turn comes when what it depends on is settled.
    Waiting,
    /// A worker has it.
    InFlight {
        /// Of the task that the worker has: a newer plan may have changed [`Entry::task`] since.
        cause: u64,
        /// False once a newer plan no longer wants the slot: then nothing is left to do after the answer.
        wanted: bool,
    },
    /// Failed for now.
    Delayed {
        /// The next try.
        until: Instant,
        /// Why it failed.
        message: String,
    },
    /// Refused until its cause changes.
    Parked {
        /// Why it was refused.
        message: String,
    },
    /// Done, dropped or superseded.
    Gone,
}

/// What a task is to those that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing left to wait for.
    Settled,
    /// Worth waiting for.
    Open,
    /// Did not work out, at least for now.
    Failed,
}

/// Tasks that go out in one call. Ordered as they are handed out: deletes last, then by stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    pub delete: bool,
    pub stage: u32,
    pub batch: u32,
    /// 0, or the number that a split of the batch gave.
    pub part: u32,
}

/// One slot of the queue.
#[derive(Debug)]
pub(super) struct Entry {
    /// In a place of its own: it stays there on its way from the plan through the queue.
    pub task: Box<Task>,
    /// What a worker has of it, where a newer plan has something else.
    pub handed: Option<Box<Task>>,
    pub status: Status,
    /// Tries that ended without success.
    pub attempts: u32,
    /// Why the last of them failed; kept while the next one is under way.
    pub last_failure: Option<String>,
    /// Parked since it was not permitted.
    pub is_forbidden: bool,
    /// Parked, and to be tried again then: what it names may be there, and nobody here would see it.
    pub again_at: Option<Instant>,
    /// An earlier try may have taken effect.
    pub verify: bool,
    /// When the last wait after a failure ended.
    pub woken_at: Option<Instant>,
    /// See [`Group::part`].
    pub part: u32,
    /// Dependencies that are [`Seen::Open`].
    pub open: usize,
    /// Dependencies that are [`Seen::Failed`].
    pub failed: usize,
    /// Since when nothing but its turn holds it back; meaningless before.
    pub ready_since: Instant,
    /// Since when it is on the queue, over all plans that wanted the same.
    pub queued_at: Instant,
}

impl Entry {
    pub fn new(task: Box<Task>, now: Instant) -> Self {
        Self {
            task,
            handed: None,
            status: Status::Waiting,
            attempts: 0,
            last_failure: None,
            is_forbidden: false,
            again_at: None,
            verify: false,
            woken_at: None,
            part: 0,
            open: 0,
            failed: 0,
            ready_since: now,
            queued_at: now,
        }
    }

    /// A worker has what it is by now.
    pub fn hand_out(&mut self) {
        self.handed = None;
        self.status = Status::InFlight { cause: self.task.cause, wanted: true };
    }

    /// A worker has what it was in the plan before.
    pub fn keep_handed(&mut self, before: &Self) {
        self.handed = Some(before.handed.clone().unwrap_or_else(|| before.task.clone()));
    }

    /// What a call that is under way is about.
    pub fn under_way(&self) -> Touch<'_> {
        self.handed.as_deref().unwrap_or(&self.task).touches()
    }

    pub fn group(&self) -> Group {
        Group {
            delete: self.task.action == Action::Delete,
            stage: self.task.stage,
            batch: self.task.batch,
            part: self.part,
        }
    }

    pub fn seen(&self) -> Seen {
        match self.status {
            Status::Gone => Seen::Settled,
            Status::InFlight { .. } => Seen::Open,
            Status::Waiting if self.failed == 0 => Seen::Open,
            Status::Waiting | Status::Delayed { .. } | Status::Parked { .. } => Seen::Failed,
        }
    }

    /// The same to a delete that gives up what this one wants: what was refused for it is not waited for.
    pub fn seen_by_what_frees_it(&self) -> Seen {
        if matches!(self.status, Status::Parked { .. }) { Seen::Settled } else { self.seen() }
    }

    /// Waits for its turn, maybe for dependencies, but not in vain.
    pub fn is_active(&self) -> bool {
        self.status == Status::Waiting && self.failed == 0
    }

    pub fn is_ready(&self) -> bool {
        self.is_active() && self.open == 0
    }

    /// Failed before, and its next try is under way or about to be.
    pub fn is_tried_again(&self) -> bool {
        self.attempts > 0 && (self.is_active() || matches!(self.status, Status::InFlight { wanted: true, .. }))
    }

    /// Waits for more than its turn.
    pub fn is_stuck(&self) -> bool {
        self.seen() == Seen::Failed || self.is_tried_again()
    }

    pub fn standing(&self) -> Standing {
        match self.status {
            Status::Parked { .. } => Standing::Parked,
            Status::Delayed { .. } => Standing::Retrying,
            Status::Waiting if self.failed > 0 => Standing::Blocked,
            Status::Waiting | Status::InFlight { .. } if self.is_tried_again() => Standing::Retrying,
            Status::Waiting | Status::InFlight { .. } | Status::Gone => Standing::Changing,
        }
    }

    pub fn is_in_flight(&self) -> bool {
        matches!(self.status, Status::InFlight { .. })
    }

    /// On the queue, to delete something.
    pub fn is_delete(&self) -> bool {
        self.task.action == Action::Delete && self.status != Status::Gone
    }

    /// A try is to come, and it begins with a look.
    pub fn will_look(&self) -> bool {
        self.verify && matches!(self.status, Status::Waiting | Status::Delayed { .. } | Status::InFlight { .. })
    }

    pub fn is_blocked(&self) -> bool {
        self.status == Status::Waiting && self.failed > 0
    }

    /// A create or rename: while one fails, nothing of its kind is deleted.
    pub fn makes(&self) -> bool {
        self.task.makes()
    }

    /// Takes note that a dependency changed.
    pub fn shift(&mut self, from: Seen, to: Seen) {
        match from {
            Seen::Settled => {}
            Seen::Open => self.open = self.open.saturating_sub(1),
            Seen::Failed => self.failed = self.failed.saturating_sub(1),
        }
        match to {
            Seen::Settled => {}
            Seen::Open => self.open += 1,
            Seen::Failed => self.failed += 1,
        }
    }
}
