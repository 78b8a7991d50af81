//! The work of all projects: one slot per resource, one call per slot at a time, the newest plan in force.
//!
//! A newer plan replaces everything that waits; what is in flight finishes first. What fails for now comes back
//! after a growing wait, what is refused stays parked until its cause changes, and what depends on either is
//! blocked meanwhile. Deletes run last. `lane` decides which task may go, `core` whose turn it is; both are
//! pure. [`Queue`] adds the lock, the clock and the waiting.

use crate::backoff::Backoff;
use crate::plan::ProjectName;
use crate::plan::Slot;
use crate::plan::Task;
use crate::resource;
use crate::resource::Key;
use crate::resource::Touched;
use crate::telemetry::clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status::Problem;
use crate::telemetry::status::Turn;
use crate::telemetry::status::Waits;
use core::Core;
use core::Taken;
use entry::Entry;
use lane::After;
use lane::Lane;
use lane::Next;
use nonempty::NonEmpty;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::iter::Sum;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

mod core;
mod entry;
mod lane;
mod problems;
mod waits;

/// One call's worth of tasks, handed to a worker. It goes back with [`Queue::finish`] or [`Queue::finish_split`].
#[derive(Debug, Clone, PartialEq)]
#[must_use = "its slots stay taken until it is finished"]
pub struct Work {
    /// Whose it is.
    pub project: ProjectName,
    /// What to do, in one call.
    pub tasks: NonEmpty<Task>,
    /// Tries of the first task that failed before; 0 on the first try.
    pub attempts: u32,
    /// Why the first task failed last.
    pub last_failure: Option<String>,
    /// How long the first task waited for its turn.
    pub waited: Duration,
    /// An earlier try may have taken effect: look before writing. What a worker sets here holds for the next try
    /// of what it puts back.
    pub verify: bool,
    /// When the last wait after a failure ended: what was planned by an older look is looked at again.
    pub woken_at: Option<Instant>,
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It took effect.
    Done,
    /// It failed for now: again after a growing wait.
    Retry {
        /// Why, for the status.
        message: String,
        /// It was sent, and may have taken effect all the same: what may not be repeated begins its next try with a look.
        ambiguous: bool,
    },
    /// It was refused: again when its cause changes, or where nobody could see that change: [`Queue::ask_again`].
    Park {
        /// Why, for the status.
        message: String,
    },
    /// It is not permitted, and may be one day though nothing of ours changes: [`Queue::ask_again`].
    Forbid {
        /// Why, for the status.
        message: String,
    },
    /// The resource is not what the plan rested on: off the queue, and a pass is asked for.
    Superseded,
    /// Not tried: back on the queue at once, as it was.
    Released,
}

/// Why a project hands out nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PausedBy {
    /// It is suspended.
    Operator,
    /// Descope refuses the management key, or whatever it is asked for.
    Refusal,
    /// There are newer files, and no plan of theirs.
    Files,
    /// A part of it was suspended, and there is no plan that knows of that.
    Parts,
    /// Another replica writes it, or may.
    Lease,
}

/// How many tasks stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting for their turn, or for tasks that go before them.
    pub ready: usize,
    /// Failed for now; another try is scheduled.
    pub delayed: usize,
    /// With a worker.
    pub in_flight: usize,
    /// What they depend on failed.
    pub blocked: usize,
    /// Refused until something changes.
    pub parked: usize,
}

impl Counts {
    /// Nothing happens any more by itself.
    pub fn is_settled(&self) -> bool {
        self.ready + self.delayed + self.in_flight == 0
    }

    /// Everything on the queue.
    pub fn total(&self) -> usize {
        self.ready + self.delayed + self.in_flight + self.blocked + self.parked
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            ready: a.ready + b.ready,
            delayed: a.delayed + b.delayed,
            in_flight: a.in_flight + b.in_flight,
            blocked: a.blocked + b.blocked,
            parked: a.parked + b.parked,
        })
    }
}

/// Where a resource stands, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Waits for its turn, or is under way.
    Changing,
    /// Failed for now; another try is scheduled.
    Retrying,
    /// What it depends on failed.
    Blocked,
    /// Refused until something changes.
    Parked,
}

/// The queue of the whole daemon. Cheap to clone; all clones are one queue.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

/// Tasks that are looked at in one go, while nobody else can get at the queue.
const AT_A_TIME: usize = 1_000;

type AskForPass = dyn Fn(&ProjectName) + Send + Sync;

/// Some tasks from a place on, and where the next ones begin.
type Part = fn(&Lane, usize, usize) -> Option<(Vec<&Entry>, usize)>;

struct Shared {
    state: Mutex<State>,
    /// Counts changes, so that waiting for one cannot miss it.
    changes: watch::Sender<u64>,
    /// Held by the worker that takes, or waits for something to take.
    turn: tokio::sync::Mutex<()>,
    /// Held while a plan takes over: no two may do so at once.
    replacing: Mutex<()>,
    metrics: Arc<Metrics>,
}

struct State {
    core: Core,
    on_stale: Option<Arc<AskForPass>>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Queue {
    /// An empty queue. `backoff` is the wait between tries of one task.
    pub fn new(backoff: Backoff, metrics: Arc<Metrics>) -> Self {
        let state = State { core: Core::new(backoff), on_stale: None };
        let (changes, _) = watch::channel(0);
        let (state, replacing) = (Mutex::new(state), Mutex::default());
        let shared = Shared { state, changes, turn: tokio::sync::Mutex::default(), replacing, metrics };
        Self { shared: Arc::new(shared) }
    }

    /// Whom to ask for a pass when a task turns out to rest on an observation that is older than the last write.
    pub fn on_stale(&self, ask: impl Fn(&ProjectName) + Send + Sync + 'static) {
        self.lock().on_stale = Some(Arc::new(ask));
    }

    /// Puts `tasks` in the place of everything that waits for this project. What is in flight finishes, and its
    /// slot's new task waits for that. A task with the same cause as before keeps its attempts and its wait, or stays
    /// parked; `fresh` gives those a new try at once.
    pub fn replace(&self, project: &ProjectName, tasks: Vec<impl Into<Box<Task>>>, fresh: bool) {
        let _only = self.shared.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let in_flight = self.lock().core.lane_mut(project).begin_next(Instant::now());
        // As large as the project: workers do not wait while it is made ready.
        let tasks = tasks.into_iter().map(Into::into).collect();
        let mut next = Next::new(tasks, in_flight, fresh, Instant::now());
        while next.follow(self.lock().core.lane_mut(project), AT_A_TIME) {}
        let mut state = self.lock();
        let (added, after, before) = next.replace(state.core.lane_mut(project), Instant::now());
        self.count_added("plan", added);
        self.changed_and(state, project, after == After::Stale);
        drop(before);
    }

    /// What was not permitted gets a new try where it `is_time` for that, as if it had changed; what was refused and names
    /// something that no look shows gets one after a wait that grows.
    pub fn ask_again(&self, project: &ProjectName, is_time: bool) {
        let mut state = self.lock();
        state.core.lane_mut(project).ask_again(is_time, Instant::now());
        self.changed_and(state, project, false);
    }

    /// A look at a project begins, for this revision of its files; the next [`Queue::replace`] brings the plan that rests
    /// on it. A call of other files that lands after this, and that the plan knows nothing of, asks for one more.
    pub fn begin_look(&self, project: &ProjectName, revision: &str) {
        self.lock().core.lane_mut(project).begin_look(revision, Instant::now());
    }

    /// The look that is under way is for newer files by now.
    pub fn look_for(&self, project: &ProjectName, revision: &str) {
        self.lock().core.lane_mut(project).look_for(revision);
    }

    /// Was something written, or dropped, that needs a look which has not begun yet?
    pub fn awaits_look(&self, project: &str) -> bool {
        self.lock().core.lane(project).is_some_and(Lane::awaits_look)
    }

    /// Waits for something to do; `None` once the queue is closed. Dropping the future loses nothing.
    pub async fn take(&self) -> Option<Work> {
        // One waits for news, and the next in line when that one has work: else each change would wake every worker.
        let _turn = self.shared.turn.lock().await;
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.borrow_and_update();
            match self.try_take() {
                Taken::Work(work) => return Some(*work),
                Taken::Closed => return None,
                Taken::Wait(due) => {
                    let due = async {
                        match due {
                            Some(due) => tokio::time::sleep_until(due).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = due => {}
                        // The sender lives as long as `self`.
                        _ = changes.changed() => {}
                    }
                }
            }
        }
    }

    fn try_take(&self) -> Taken {
        let mut state = self.lock();
        let mut dropped = Vec::new();
        let taken = state.core.take(Instant::now(), &mut dropped);
        for (project, task) in &dropped {
            let labels = [project, task.slot.key.kind, task.action.as_str(), "superseded"];
            self.shared.metrics.changes_total.with_label_values(&labels).inc();
        }
        if let Taken::Work(work) = &taken {
            for _ in &work.tasks {
                self.shared.metrics.queue_wait_seconds.observe(work.waited.as_secs_f64());
            }
        }
        let ask = state.on_stale.clone();
        if matches!(taken, Taken::Work(_)) || !dropped.is_empty() {
            self.changed(state);
        } else {
            drop(state);
        }
        if let Some(ask) = ask {
            let mut projects: Vec<ProjectName> = dropped.into_iter().map(|(project, _)| project).collect();
            projects.dedup();
            for project in &projects {
                ask(project);
            }
        }
        taken
    }

    /// Takes `work` back with one verdict per task, in order.
    pub fn finish(&self, work: Work, verdicts: Vec<Verdict>) {
        let project = work.project.clone();
        let mut state = self.lock();
        let after = state.core.finish(work, verdicts, Instant::now(), fastrand::f64());
        for outcome in &after {
            if let After::Requeued(reason) = outcome {
                self.count_added(reason, 1);
            }
        }
        self.changed_and(state, &project, after.contains(&After::Stale));
    }

    /// Takes back a batch that was refused as a whole: the halves of what has no verdict yet go out at once, each in a
    /// call of its own, so that the bad task in it will stand alone in the end.
    pub fn finish_split(&self, work: Work, decided: Vec<Option<Verdict>>) {
        let project = work.project.clone();
        let mut state = self.lock();
        let (count, after) = state.core.finish_split(work, decided, Instant::now(), fastrand::f64());
        self.count_added("split", count);
        self.changed_and(state, &project, after.contains(&After::Stale));
    }

    /// A project hands out nothing while there is a reason.
    pub fn pause(&self, project: &ProjectName, by: PausedBy) {
        let mut state = self.lock();
        state.core.lane_mut(project).pause(by);
        self.changed(state);
    }

    /// This reason is over; there may be others.
    pub fn resume(&self, project: &ProjectName, by: PausedBy) {
        let mut state = self.lock();
        state.core.lane_mut(project).resume(by);
        self.changed(state);
    }

    /// Why a project hands out nothing.
    pub fn paused_by(&self, project: &str) -> BTreeSet<PausedBy> {
        self.lock().core.lane(project).map(|lane| lane.paused_by().clone()).unwrap_or_default()
    }

    /// Hands out nothing any more, for good.
    pub fn close(&self) {
        let mut state = self.lock();
        state.core.close();
        self.changed(state);
    }

    /// How many tasks stand where, over all projects.
    pub fn counts(&self) -> Counts {
        self.lock().core.counts()
    }

    /// The same, where a resource that the plan refused by itself counts as parked.
    pub fn counts_with_refused(&self) -> Counts {
        self.lock().core.counts_with_refused()
    }

    /// The plan of a project refused so many resources by itself.
    pub fn note_refused(&self, project: &ProjectName, count: usize) {
        let mut state = self.lock();
        state.core.lane_mut(project).note_refused(count);
        self.changed(state);
    }

    /// How many tasks of one project stand where.
    pub fn counts_of(&self, project: &str) -> Counts {
        self.lock().core.lane(project).map(Lane::counts).unwrap_or_default()
    }

    /// How many tasks of these other projects go before the last of so many of one: each project has its turn.
    pub fn tasks_between(&self, others: &[String], count: usize) -> usize {
        let state = self.lock();
        let lanes = others.iter().filter_map(|name| state.core.lane(name)).filter(|lane| !lane.is_paused());
        lanes.map(|lane| lane.counts().ready.min(count)).sum()
    }

    /// Tasks of a project that are neither done nor parked; blocked ones are among them.
    #[cfg(test)]
    pub fn outstanding(&self, project: &str) -> usize {
        let counts = self.counts_of(project);
        counts.total() - counts.parked
    }

    /// Nothing of this project happens any more by itself: the queue holds parked and blocked tasks at the most.
    pub fn is_settled(&self, project: &str) -> bool {
        self.counts_of(project).is_settled()
    }

    /// Waits until [`Queue::is_settled`]: for good, while the project is paused or the queue closed with work left.
    #[cfg(test)]
    pub async fn settled(&self, project: &str) {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if self.is_settled(project) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// What does not go ahead in a project, in the order of the keys.
    pub fn problems(&self, project: &str) -> Vec<Problem> {
        let now = (Instant::now(), clock::now());
        let mut problems = self.gather(project, Lane::stuck_part, &Vec::new(), |problems, lane, entry| {
            problems.extend(problems::of(lane, entry, now).map(|problem| (entry.task.slot.clone(), problem)));
        });
        problems.sort_by(|(a, _), (b, _)| a.cmp(b));
        problems.into_iter().map(|(_, problem)| problem).collect()
    }

    /// Adds every task of a project that is not done and of a resource that is `wanted`, with the reason. `turn`: what those wait for that
    /// only wait for that.
    pub fn waits(&self, project: &str, turn: &Turn, wanted: &dyn Fn(&Key) -> bool, waits: &mut Waits) {
        let now = (Instant::now(), clock::now());
        let before = waits.clone();
        *waits = self.gather(project, Lane::part, &before, |waits, lane, entry| {
            if wanted(&entry.task.slot.key) {
                waits::add(lane, entry, turn, now, waits);
            }
        });
    }

    /// Takes deletes that wait off the queue; the next plan says whether they come back.
    pub fn withdraw_deletes(&self, project: &ProjectName, which: impl Fn(&Key) -> bool) {
        let mut state = self.lock();
        state.core.lane_mut(project).withdraw_deletes(which, Instant::now());
        self.changed(state);
    }

    /// Takes what waits of these resources off the queue; the next plan says whether it comes back.
    pub fn withdraw(&self, project: &ProjectName, which: impl Fn(&Key) -> bool) {
        let meant = self.gather(project, Lane::part, &Vec::new(), |slots, _, entry| {
            if which(&entry.task.slot.key) {
                slots.push(entry.task.slot.clone());
            }
        });
        for slots in meant.chunks(AT_A_TIME) {
            let mut state = self.lock();
            state.core.lane_mut(project).withdraw(slots, Instant::now());
            self.changed(state);
        }
    }

    /// Is what was handed out of these slots still to be done? Asked again after a long wait for the rate limit.
    pub fn is_wanted(&self, project: &str, slots: &[Slot]) -> bool {
        let state = self.lock();
        state.core.lane(project).is_some_and(|lane| !lane.is_paused() && slots.iter().all(|slot| lane.is_wanted(slot)))
    }

    /// What the calls of a project are about that are under way.
    pub fn in_flight(&self, project: &str) -> Touched {
        let state = self.lock();
        let entries = state.core.lane(project).into_iter().flat_map(Lane::in_flight);
        entries.map(Entry::under_way).collect()
    }

    /// Does the next try of this resource begin with a look, as an earlier one may have taken effect?
    pub fn will_look(&self, project: &str, key: &Key) -> bool {
        let state = self.lock();
        let Some((lane, kind)) = state.core.lane(project).zip(resource::kind(key.kind)) else { return false };
        let mut slots = kind.spec().parts.iter().map(|part| Slot { key: key.clone(), part: part.name });
        slots.any(|slot| lane.entry(&slot).is_some_and(Entry::will_look))
    }

    /// Is a call about this resource under way, or did one end after a look `began`? Of that the look says nothing.
    pub fn is_written_since(&self, project: &str, key: &Key, began: Instant) -> bool {
        let state = self.lock();
        let Some((lane, kind)) = state.core.lane(project).zip(resource::kind(key.kind)) else { return false };
        let mut slots = kind.spec().parts.iter().map(|part| Slot { key: key.clone(), part: part.name });
        lane.in_flight().any(|entry| entry.under_way().keys().any(|one| one == *key))
            || slots.any(|slot| lane.written_at(&slot).is_some_and(|at| at >= began))
    }

    /// Every resource of a project of which something is not done yet.
    pub fn unfinished(&self, project: &str) -> HashSet<Key> {
        self.gather(project, Lane::part, &HashSet::new(), |keys, _, entry| {
            keys.insert(entry.task.slot.key.clone());
        })
    }

    /// Where each resource of a project stands of which something is not done yet: where the worst part of it does.
    pub fn standings(&self, project: &str) -> HashMap<Key, Standing> {
        self.gather(project, Lane::part, &HashMap::new(), |standings, lane, entry| {
            // The part that it waits for says how its resource stands.
            let standing = if lane.waits_for_itself(entry) { Standing::Changing } else { entry.standing() };
            let worst = standings.entry(entry.task.slot.key.clone()).or_insert(standing);
            *worst = standing.max(*worst);
        })
    }

    /// What `look` adds of each of these tasks of a project to what there is, some tasks at a time: workers do not wait while a hundred
    /// thousand are looked at. All are of one plan; where another one replaces it meanwhile, it begins anew.
    fn gather<T: Clone>(&self, project: &str, of: Part, begin: &T, look: impl Fn(&mut T, &Lane, &Entry)) -> T {
        let (mut gathered, mut plan, mut from) = (begin.clone(), None, 0);
        loop {
            let state = self.lock();
            let Some(lane) = state.core.lane(project) else { return gathered };
            if plan.replace(lane.plan()).is_some_and(|before| before != lane.plan()) {
                (gathered, from) = (begin.clone(), 0);
            }
            let Some((part, rest)) = of(lane, from, AT_A_TIME) else { return gathered };
            for entry in part {
                look(&mut gathered, lane, entry);
            }
            from = rest;
        }
    }

    /// When a slot was last written, or may have been; `None` where every look that counts knows of it.
    #[cfg(test)]
    pub fn written_at(&self, project: &str, slot: &Slot) -> Option<Instant> {
        self.lock().core.lane(project)?.written_at(slot)
    }

    /// Says that something on the queue changed, so that whoever shows it can look again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_added(&self, reason: &str, count: usize) {
        self.shared.metrics.queue_adds_total.with_label_values(&[reason]).inc_by(count as u64);
    }

    /// The same, and where that is stale, asks for a pass.
    fn changed_and(&self, state: MutexGuard<'_, State>, project: &ProjectName, is_stale: bool) {
        let ask = state.on_stale.clone().filter(|_| is_stale);
        self.changed(state);
        if let Some(ask) = ask {
            ask(project);
        }
    }

    /// Lets go of the lock and tells everybody.
    fn changed(&self, mut state: MutexGuard<'_, State>) {
        let counts = state.core.own_counts();
        let emptied = state.core.take_emptied();
        for (label, count) in [
            ("ready", counts.ready),
            ("delayed", counts.delayed),
            ("in_flight", counts.in_flight),
            ("blocked", counts.blocked),
            ("parked", counts.parked),
        ] {
            let depth = i64::try_from(count).unwrap_or(i64::MAX);
            self.shared.metrics.queue_depth.with_label_values(&[label]).set(depth);
        }
        drop(state);
        self.shared.changes.send_modify(|count| *count = count.wrapping_add(1));
        drop(emptied);
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
