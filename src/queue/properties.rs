//! What holds for the queue of a project whatever happens: it is driven beside a model that is too simple to be wrong.

use super::Counts;
use super::Part;
use super::PausedBy;
use super::Verdict;
use super::entry::Entry;
use super::entry::Seen;
use super::entry::Status;
use super::lane::Lane;
use super::lane::Next;
use super::tests::slot;
use crate::backoff::Backoff;
use crate::plan::Differing;
use crate::plan::Slot;
use crate::plan::Task;
use crate::resource::Action;
use crate::resource::Write;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thin_vec::ThinVec;
use tokio::time::Instant;

const BACKOFF: Backoff = Backoff { max_attempts: 5, initial: Duration::from_secs(1), max: Duration::from_secs(8) };
const KINDS: [&str; 3] = ["permissions", "roles", "tenants"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ACTIONS: [Action; 4] = [Action::Create, Action::Update, Action::Rename, Action::Delete];

/// A task of a plan, before it has its place.
#[derive(Debug, Clone)]
struct Draft {
    slot: Slot,
    action: Action,
    begins_batch: bool,
    after: Vec<prop::sample::Index>,
    cause: u64,
    observed: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Take,
    Finish(prop::sample::Index, Vec<Verdict>),
    Split(prop::sample::Index),
    Pass(u64),
    /// A plan, what happens while it takes over, and how many tasks of it do so at a time.
    Replace(Vec<Draft>, bool, Vec<Step>, usize),
    Withdraw(Slot),
    Pause(bool),
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let draft = (
        prop::sample::select(&KINDS[..]),
        prop::sample::select(&NAMES[..]),
        prop::sample::select(&ACTIONS[..]),
        any::<bool>(),
        vec(any::<prop::sample::Index>(), 0..3),
        0..2u64,
        0..4u64,
    );
    let draft = draft.prop_map(|(kind, name, action, begins_batch, after, cause, observed)| Draft {
        slot: slot(kind, name),
        action,
        begins_batch,
        after,
        cause,
        observed,
    });
    vec(draft, 0..12)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Done),
        2 => any::<bool>().prop_map(|ambiguous| Verdict::Retry { message: String::new(), ambiguous }),
        1 => Just(Verdict::Park { message: String::new() }),
        1 => Just(Verdict::Forbid { message: String::new() }),
        1 => Just(Verdict::Superseded),
        1 => Just(Verdict::Released),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let replace = (drafts(), any::<bool>(), vec(small_step(), 0..6), 1..5usize);
    prop_oneof![
        16 => small_step(),
        2 => replace.prop_map(|(drafts, fresh, meanwhile, at_a_time)| Step::Replace(drafts, fresh, meanwhile, at_a_time)),
    ]
}

fn small_step() -> impl Strategy<Value = Step> {
    let withdrawn = (prop::sample::select(&KINDS[..]), prop::sample::select(&NAMES[..]));
    prop_oneof![
        8 => Just(Step::Take),
        6 => (any::<prop::sample::Index>(), vec(verdict(), 0..5)).prop_map(|(which, verdicts)| Step::Finish(which, verdicts)),
        1 => any::<prop::sample::Index>().prop_map(Step::Split),
        2 => (0..5u64).prop_map(Step::Pass),
        1 => withdrawn.prop_map(|(kind, name)| Step::Withdraw(slot(kind, name))),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

/// No two tasks want the same: a stale one is always reported.
fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A plan as the planner makes it: deletes last, a slot once, dependencies in earlier batches.
fn plan(drafts: Vec<Draft>, now: Instant) -> Vec<Task> {
    let (deletes, changes): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|draft| draft.action == Action::Delete);
    let mut tasks: Vec<Task> = Vec::new();
    let mut batch = 0;
    for draft in changes.into_iter().chain(deletes) {
        if tasks.iter().any(|task| task.slot == draft.slot) {
            continue;
        }
        let deletes_begin =
            tasks.last().is_some_and(|task| task.action != Action::Delete) && draft.action == Action::Delete;
        batch += u32::from(draft.begins_batch || deletes_begin);
        let earlier: Vec<&Slot> = tasks.iter().filter(|task| task.batch < batch).map(|task| &task.slot).collect();
        let after = if earlier.is_empty() {
            ThinVec::new()
        } else {
            draft.after.iter().map(|index| (*index.get(&earlier)).clone()).collect()
        };
        tasks.push(Task {
            slot: draft.slot,
            action: draft.action,
            write: Write::Delete { cascade: false },
            declared: None,
            meant: None,
            calls: 1,
            id: None,
            after,
            needs: ThinVec::new(),
            names_unseen: false,
            frees: ThinVec::new(),
            stage: batch / 2,
            batch,
            ownership: crate::plan::Ownership::default(),
            approval: None,
            observed_at: now.checked_sub(Duration::from_secs(draft.observed)).unwrap(),
            cause: draft.cause,
            wanted: unique(),
            seen: 0,
            incarnation: 0,
            fields: Differing::default(),
            drifted: None,
            origin: Arc::default(),
        });
    }
    tasks
}

#[derive(Debug, Clone)]
struct Twin {
    task: Task,
    status: Status,
    attempts: u32,
    verify: bool,
}

/// The same queue, without a counter or an index.
#[derive(Debug, Default)]
struct Model {
    twins: BTreeMap<Slot, Twin>,
    written: BTreeMap<Slot, Instant>,
}

impl Model {
    fn failed(&self, twin: &Twin) -> bool {
        match twin.status {
            Status::Delayed { .. } | Status::Parked { .. } => true,
            Status::InFlight { .. } | Status::Gone => false,
            Status::Waiting => {
                twin.task.after.iter().filter_map(|slot| self.twins.get(slot)).any(|other| self.failed(other))
                    || (twin.task.action == Action::Delete
                        && self.twins.values().any(|other| {
                            other.task.slot.key.kind == twin.task.slot.key.kind
                                && matches!(other.task.action, Action::Create | Action::Rename)
                                && self.failed(other)
                        }))
            }
        }
    }

    fn is_open(&self, twin: &Twin) -> bool {
        !self.failed(twin)
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for twin in self.twins.values() {
            *match twin.status {
                Status::Waiting if self.failed(twin) => &mut counts.blocked,
                Status::Waiting => &mut counts.ready,
                Status::InFlight { .. } => &mut counts.in_flight,
                Status::Delayed { .. } => &mut counts.delayed,
                Status::Parked { .. } => &mut counts.parked,
                Status::Gone => panic!("nothing gone is kept"),
            } += 1;
        }
        counts
    }

    fn replace(&mut self, tasks: &[Task], fresh: bool) {
        let old = std::mem::take(&mut self.twins);
        for task in tasks {
            let mut twin = Twin { task: task.clone(), status: Status::Waiting, attempts: 0, verify: false };
            if let Some(before) = old.get(&task.slot) {
                let same = before.task.cause == task.cause;
                if same {
                    twin.attempts = if fresh { 0 } else { before.attempts };
                    twin.verify = before.verify;
                }
                match before.status {
                    Status::InFlight { cause, .. } => twin.status = Status::InFlight { cause, wanted: true },
                    Status::Waiting | Status::Delayed { .. } | Status::Parked { .. } | Status::Gone => {
                        if same && !fresh {
                            twin.status = before.status.clone();
                        }
                    }
                }
            }
            self.twins.insert(task.slot.clone(), twin);
        }
        for (slot, before) in old {
            if let Status::InFlight { cause, .. } = before.status {
                let status = Status::InFlight { cause, wanted: false };
                let attempts = if fresh { 0 } else { before.attempts };
                self.twins.entry(slot).or_insert(Twin { status, attempts, ..before });
            }
        }
    }

    fn withdraw(&mut self, slot: &Slot) {
        let Some(twin) = self.twins.get_mut(slot) else { return };
        match &mut twin.status {
            Status::InFlight { wanted, .. } => *wanted = false,
            Status::Waiting | Status::Delayed { .. } => drop(self.twins.remove(slot)),
            Status::Parked { .. } | Status::Gone => {}
        }
    }

    fn wake(&mut self, now: Instant) {
        for twin in self.twins.values_mut() {
            if matches!(twin.status, Status::Delayed { until, .. } if until <= now) {
                twin.status = Status::Waiting;
            }
        }
    }

    /// What was not done settles no delete.
    fn drop_after(&mut self, slot: &Slot) {
        let is_after = |twin: &Twin| {
            let is_waiting = !matches!(twin.status, Status::InFlight { .. });
            twin.task.action == Action::Delete && is_waiting && twin.task.after.contains(slot)
        };
        let after: Vec<Slot> =
            self.twins.values().filter(|twin| is_after(twin)).map(|twin| twin.task.slot.clone()).collect();
        for slot in after {
            self.twins.remove(&slot);
            self.drop_after(&slot);
        }
    }

    fn finish(&mut self, slot: &Slot, verdict: &Verdict, verify: bool, now: Instant) {
        if matches!(verdict, Verdict::Done | Verdict::Retry { ambiguous: true, .. }) {
            self.written.insert(slot.clone(), now);
        }
        let twin = self.twins.get_mut(slot).expect("what is in flight is in the model");
        let Status::InFlight { cause, wanted } = twin.status else { panic!("{slot:?} is in flight") };
        if wanted && twin.task.cause != cause {
            twin.status = Status::Waiting;
            return;
        }
        match verdict {
            _ if !wanted => drop(self.twins.remove(slot)),
            Verdict::Done => drop(self.twins.remove(slot)),
            Verdict::Superseded => {
                self.twins.remove(slot);
                self.drop_after(slot);
            }
            Verdict::Retry { message, ambiguous } => {
                twin.attempts += 1;
                twin.verify |= *ambiguous || verify;
                let until = now + BACKOFF.delay(twin.attempts, 0.0);
                twin.status = Status::Delayed { until, message: message.clone() };
            }
            Verdict::Park { message } | Verdict::Forbid { message } => {
                twin.status = Status::Parked { message: message.clone() }
            }
            Verdict::Released => {
                twin.verify |= verify;
                twin.status = Status::Waiting;
            }
        }
    }
}

/// Both, and the clock.
struct Pair {
    lane: Lane,
    model: Model,
    now: Instant,
    in_flight: Vec<(Vec<Task>, bool)>,
}

impl Pair {
    fn take(&mut self) -> bool {
        self.model.wake(self.now);
        let mut dropped = Vec::new();
        let handed = self.lane.take(self.now, &mut dropped);
        for task in dropped {
            let twin = self.model.twins.remove(&task.slot).expect("what is dropped was there");
            assert!(twin.status == Status::Waiting && !twin.verify, "{twin:?}");
            assert!(task.observed_at < self.model.written[&task.slot], "only a stale task is dropped");
            self.model.drop_after(&task.slot);
        }
        let Some(handed) = handed else { return false };
        for task in &handed.tasks {
            let twin = &self.model.twins[&task.slot];
            assert_eq!(twin.status, Status::Waiting, "one call per slot, and what waits is the newest plan");
            assert_eq!(&twin.task, task);
            assert!(!self.model.failed(twin), "blocked: {task:?}");
            assert!(task.after.iter().all(|slot| !self.model.twins.contains_key(slot)), "too early: {task:?}");
            assert_eq!((task.batch, task.stage), (handed.tasks[0].batch, handed.tasks[0].stage));
            let stage = |task: &Task| (task.action == Action::Delete, task.stage);
            let before = |other: &&Twin| stage(&other.task) < stage(task);
            let open = self.model.twins.values().filter(before).find(|other| self.model.is_open(other));
            assert!(open.is_none(), "{task:?} before {open:?}");
        }
        assert_eq!(handed.verify, handed.tasks.iter().any(|task| self.model.twins[&task.slot].verify));
        for task in &handed.tasks {
            let twin = self.model.twins.get_mut(&task.slot).expect("checked above");
            twin.status = Status::InFlight { cause: task.cause, wanted: true };
        }
        self.in_flight.push((handed.tasks, handed.verify));
        true
    }

    fn finish(&mut self, which: usize, verdicts: &[Verdict]) {
        let (tasks, verify) = self.in_flight.swap_remove(which);
        for (n, task) in tasks.iter().enumerate() {
            let verdict = verdicts.get(n).unwrap_or(&Verdict::Done);
            self.lane.finish(task, verdict.clone(), verify, (self.now, &BACKOFF, 0.0));
            self.model.finish(&task.slot, verdict, verify, self.now);
        }
    }

    fn split(&mut self, which: usize) {
        let (tasks, verify) = self.in_flight.swap_remove(which);
        let (left, right) = tasks.split_at(tasks.len().div_ceil(2));
        for half in [left, right] {
            self.lane.put_back_apart(half, verify, self.now);
            for task in half {
                if verify {
                    self.model.written.insert(task.slot.clone(), self.now);
                }
                self.model.finish(&task.slot, &Verdict::Released, verify, self.now);
            }
        }
    }

    /// What is found at once is what a look at every task finds.
    fn check_indexes(&self) {
        let slots = |entries: &mut dyn Iterator<Item = &Entry>| -> Vec<Slot> {
            entries.map(|entry| entry.task.slot.clone()).collect()
        };
        let all = || self.lane.entries();
        assert_eq!(slots(&mut self.lane.in_flight()), slots(&mut all().filter(|entry| entry.is_in_flight())));
        assert_eq!(slots(&mut self.lane.stuck()), slots(&mut all().filter(|entry| entry.is_stuck())));
        assert_eq!(slots(&mut self.lane.deletes()), slots(&mut all().filter(|entry| entry.is_delete())));
        for kind in KINDS {
            let is_failed = |entry: &&Entry| entry.makes() && entry.seen() == Seen::Failed;
            let failed = all().filter(is_failed).find(|entry| entry.task.slot.key.kind == kind);
            assert_eq!(self.lane.failed_make(kind).map(|entry| &entry.task.slot), failed.map(|entry| &entry.task.slot));
        }
        let parts = |part: Part| {
            let (mut found, mut from) = (Vec::new(), 0);
            while let Some((some, rest)) = part(&self.lane, from, 3) {
                found.extend(some.into_iter().map(|entry| entry.task.slot.clone()));
                from = rest;
            }
            found
        };
        assert_eq!(parts(Lane::part), slots(&mut all()));
        assert_eq!(parts(Lane::stuck_part), slots(&mut self.lane.stuck()));
    }

    fn step(&mut self, step: Step) {
        let count = self.in_flight.len();
        match step {
            Step::Take => drop(self.take()),
            Step::Finish(which, verdicts) if count > 0 => self.finish(which.index(count), &verdicts),
            Step::Split(which) if count > 0 => self.split(which.index(count)),
            Step::Finish(..) | Step::Split(_) => {}
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
            Step::Replace(drafts, fresh, meanwhile, at_a_time) => {
                let tasks = plan(drafts, self.now);
                let in_flight = self.lane.begin_next(self.now);
                let mut next = Next::new(tasks.iter().cloned().map(Box::new).collect(), in_flight, fresh, self.now);
                for step in meanwhile {
                    next.follow(&self.lane, at_a_time);
                    self.step(step);
                }
                self.lane.take_emptied();
                self.model.replace(&tasks, fresh);
                next.replace(&mut self.lane, self.now);
            }
            Step::Withdraw(slot) => {
                self.lane.withdraw(std::slice::from_ref(&slot), self.now);
                self.model.withdraw(&slot);
            }
            Step::Pause(true) => self.lane.pause(PausedBy::Operator),
            Step::Pause(false) => self.lane.resume(PausedBy::Operator),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_slots_and_counts_hold_and_everything_ends(first in drafts(), steps in vec(step(), 0..60)) {
        let start = Instant::now() + Duration::from_secs(60);
        let mut pair = Pair { lane: Lane::default(), model: Model::default(), now: start, in_flight: Vec::new() };
        pair.step(Step::Replace(first, false, Vec::new(), 1));
        for step in steps {
            pair.step(step);
            prop_assert_eq!(pair.lane.counts(), pair.model.counts());
            pair.check_indexes();
        }

        // From here on everything works.
        pair.lane.resume(PausedBy::Operator);
        let mut turns = 0;
        loop {
            turns += 1;
            prop_assert!(turns < 500, "it does not end");
            if pair.take() {
                continue;
            }
            prop_assert_eq!(pair.lane.counts(), pair.model.counts());
            if !pair.in_flight.is_empty() {
                pair.finish(0, &[]);
            } else if let Some(due) = pair.lane.next_due() {
                pair.now = due;
            } else {
                break;
            }
        }

        let left = pair.lane.counts();
        prop_assert!(left.is_settled(), "{:?}", left);
        prop_assert!(left.blocked == 0 || left.parked > 0, "blocked by nothing: {:?}", left);
        prop_assert_eq!(pair.lane.entries().count(), left.total());
    }
}
