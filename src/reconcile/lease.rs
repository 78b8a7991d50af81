//! Where replicas share the state, only the holder of a project's lease looks and writes. The others have the files loaded, and
//! wait.

use super::Carryover;
use super::Reconciler;
use crate::plan::Task;
use crate::queue::PausedBy;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Touched;
use crate::source::Trigger;
use crate::source::loader::Load;
use crate::state::IntentId;
use crate::state::OpenIntent;
use crate::state::Standing;
use crate::state::Tenure;
use crate::telemetry::clock;
use crate::telemetry::status::NO_ORDERS;
use crate::telemetry::status::project_option;
use crate::telemetry::status::rfc3339;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Files that are not in force are looked at so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What may still arrive of a holder before.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    calls: BTreeSet<IntentId>,
    touched: Touched,
    /// Nobody can tell: it may be anything.
    is_unknown: bool,
    /// Until then it is left alone.
    wait: Duration,
}

impl Carryover {
    /// A pass could not be, or not be ended, for want of the lease. Of several the strongest is made up for.
    pub(super) fn miss(&mut self, trigger: Trigger) {
        self.missed = self.missed.max(Some(trigger));
    }

    /// What makes up for a time without the lease. Where nothing was sent meanwhile, files that say what they said before are no
    /// reason to look at nothing.
    fn after_lapse(&mut self, was_paused: bool) -> Option<Trigger> {
        self.missed.take().max(was_paused.then_some(Trigger::Interval))
    }
}

impl Reconciler {
    /// Takes in whether the lease is held by now. Why a pass has to follow: everything begins anew, or it was not held for a while,
    /// and what fell into that goes on.
    pub(super) fn follow_lease(&mut self) -> Option<Trigger> {
        let project = &self.assessor.project.clone();
        // Whoever follows the queue wakes with every word to it.
        let is_paused = self.queue.paused_by(project).contains(&PausedBy::Lease);
        let Some(Tenure { term, .. }) = self.state.tenure() else {
            if !is_paused {
                self.end_pass();
                self.queue.pause(project, PausedBy::Lease);
                if self.memory.term.is_some() {
                    let lost = self.board.look_at(project, |status| status.lease.as_ref()?.lost_at.clone()).flatten();
                    let since = lost.unwrap_or_else(|| rfc3339(clock::now()));
                    tracing::warn!(project = &**project, since, "the lease is not held any more: nothing is sent");
                }
            }
            return None;
        };
        if self.memory.term == Some(term) {
            if is_paused {
                self.queue.resume(project, PausedBy::Lease);
            }
            return self.memory.after_lapse(is_paused);
        }
        self.end_pass();
        if self.memory.term.is_some() {
            // Others wrote meanwhile: what is remembered here is of before.
            self.hand_over_nothing();
            self.assessor.recent.start_over();
            self.assessor.deep.start_over();
        }
        let before = std::mem::take(&mut self.memory);
        let Carryover { load, .. } = before;
        self.memory = Carryover { load, term: Some(term), ..Carryover::default() };
        if is_paused {
            self.queue.resume(project, PausedBy::Lease);
        }
        if self.state.is_shared() {
            // What was held then may have been approved since, of another replica.
            self.plans.send_replace(None);
            tracing::info!(project = &**project, term, "the lease is held: this replica writes the project");
        }
        self.state.is_shared().then_some(Trigger::Startup)
    }

    /// The term under which a pass begins; `None` while this replica only stands by.
    pub(super) fn term(&self) -> Option<i64> {
        self.state.tenure().map(|tenure| tenure.term).filter(|term| self.memory.term == Some(*term))
    }

    /// Tells which files are loaded here, at once where they or their commit are others than before: the order counts in which
    /// checkouts moved.
    pub(super) fn stand_on(&self, load: &Load) {
        let Some(revision) = &load.revision else { return };
        let is_it = |before: &Load| before.revision.as_ref() == Some(revision) && before.source == load.source;
        if self.memory.load.as_ref().is_some_and(is_it) {
            return;
        }
        let commit = load.source.as_ref().and_then(|(checkout, commit)| checkout.commit(commit));
        if !self.state.is_shared() {
            if let Err(error) = self.state.note_in_force(revision, commit) {
                tracing::debug!(%error, "cannot write down which files are in force");
            }
            return;
        }
        self.state.loaded(revision, commit);
        if let Err(error) = self.state.stand() {
            tracing::debug!(%error, "cannot tell which files are loaded here yet");
        }
    }

    /// Are the files here others than those that were in force last, because this checkout stands still? Then nothing is looked at
    /// and nothing sent: what others have put in force stays. The same where that cannot be told; then it is asked again soon.
    pub(super) fn is_behind(&mut self) -> bool {
        let project = self.assessor.project.clone();
        let stands = self.state.stand();
        let Some(standing) = self.state.or_warn(stands, "cannot tell whether these files are the newest; trying again")
        else {
            self.memory.retry_at = Some(Instant::now() + self.next_wait());
            return true;
        };
        // One that is about to follow keeps the lease, and writes nothing by the files that it had.
        let is_stale = standing == Standing::Behind || self.state.is_overtaken();
        let revision: Arc<str> = self.revision().into();
        let put_aside = Some(Arc::clone(&revision)).filter(|revision| is_stale && self.state.is_put_aside(revision));
        let is_older = self.state.is_older();
        if is_stale {
            // Time may release them, and another replica may put the same ones in force.
            self.memory.retry_at = Some(Instant::now() + LOOK_AGAIN);
        }
        let put_aside = put_aside.map(|revision| (revision, is_older));
        if let Some((revision, is_older)) =
            put_aside.as_ref().filter(|aside| Some(*aside) != self.memory.put_aside.as_ref())
        {
            let (project, revision) = (&*project, &**revision);
            let can_order = self.board.can_order();
            let approve = can_order.then(|| format!("descope-gitops approve {} {revision}", project_option(project)));
            let how = if can_order { "run what `approve` says" } else { NO_ORDERS };
            if *is_older {
                tracing::error!(
                    project,
                    revision,
                    approve,
                    "these files are older than those that were in force last: nothing is written until this checkout moves on, or \
                     another replica with the newest files runs; where going back to these is meant: {how}"
                );
            } else {
                tracing::warn!(
                    project,
                    revision,
                    approve,
                    "nobody can tell whether these files are newer than those that were in force last: nothing is written while a \
                     replica has those, or had them within one `lease.life`; to put these in force at once: {how}"
                );
            }
        }
        if is_stale && !self.memory.is_stale {
            self.hand_over_nothing();
        }
        if put_aside.is_some() {
            // It is of files that are not in force, and nothing of it can be approved any more.
            self.plans.send_replace(None);
            self.memory.plan = None;
        }
        self.memory.put_aside = put_aside;
        self.memory.is_stale = is_stale;
        is_stale
    }

    /// What a holder before may have sent, and what may still arrive: what is open of its calls is left alone, and what they are
    /// about, until its requests have timed out.
    pub(super) fn foreign(&self) -> Foreign {
        let Some(tenure) = self.state.tenure().filter(|_| self.state.is_shared()) else { return Foreign::default() };
        let until = tenure.before + self.assessor.client.request_timeout();
        let Ok(wait) = until.duration_since(self.state.now()) else { return Foreign::default() };
        let is_foreign = |open: &OpenIntent| open.begun_at < tenure.since;
        let what = "cannot tell what a holder before may have sent: nothing is sent by this pass";
        let Some(open) = self.state.or_warn(self.state.open_intents(), what) else {
            return Foreign { is_unknown: true, wait: wait.min(LOOK_AGAIN), ..Foreign::default() };
        };
        let open: Vec<OpenIntent> = open.into_iter().filter(is_foreign).collect();
        let touched = open.iter().map(|open| open.intent.touches()).collect();
        Foreign { calls: open.iter().map(|open| open.id).collect(), touched, is_unknown: false, wait }
    }
}

impl Foreign {
    /// Does a look of now say what became of this call?
    pub(super) fn is_over(&self, call: IntentId) -> bool {
        !self.is_unknown && !self.calls.contains(&call)
    }

    /// Leaves out what is about the same resources, by whichever key, and what depends on that. How long to wait and for which,
    /// where there is such a call.
    pub(super) fn leave_out(&self, tasks: &mut Vec<Box<Task>>) -> Option<(Duration, Vec<Key>)> {
        if self.is_unknown {
            tasks.clear();
        } else if self.calls.is_empty() {
            return None;
        }
        let mut left_out = self.touched.clone();
        // What is not made yet may be what is to be deleted, under another name.
        let mut unmade: HashSet<&'static str> = HashSet::new();
        loop {
            let count = tasks.len();
            tasks.retain(|task| {
                let mut rests_on = task.after.iter().chain(task.needs.iter().map(|need| &need.slot));
                let is_left_out = left_out.meets(task.touches())
                    || rests_on.any(|slot| left_out.keys().contains(&slot.key))
                    || task.action == Action::Delete && unmade.contains(task.slot.key.kind);
                if is_left_out {
                    left_out.add(task.touches());
                    unmade.extend(Some(task.slot.key.kind).filter(|_| task.makes()));
                }
                !is_left_out
            });
            if tasks.len() == count {
                break;
            }
        }
        let mut left_out: Vec<Key> = left_out.keys().iter().cloned().collect();
        left_out.sort();
        Some((self.wait, left_out))
    }
}

/// Wakes with every change of the lease, and when it ends by itself; never where there is none.
pub(super) async fn changed(tenures: &mut Option<watch::Receiver<Option<Tenure>>>) {
    let Some(tenures) = tenures else { return std::future::pending().await };
    let left = tenures.borrow().and_then(|tenure| tenure.left()).filter(|left| !left.is_zero());
    let ended = async {
        match left {
            Some(left) => tokio::time::sleep(left + Duration::from_millis(1)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = ended => {}
        news = tenures.changed() => if news.is_err() { std::future::pending::<()>().await },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Need;
    use crate::plan::Slot;
    use crate::plan::order::deletion;
    use crate::resource::Document;
    use crate::resource::MAIN;
    use crate::resource::Touch;
    use crate::resource::Write;
    use thin_vec::thin_vec;

    fn task(action: Action, key: &Key) -> Task {
        Task { action, ..deletion(key, &Document::new(), false) }
    }

    fn rename(old: &str, key: &Key) -> Task {
        let write = Write::Overwrite { from: old.into(), body: Document::new() }.pack();
        Task { write, ..task(Action::Rename, key) }
    }

    /// What is left of these tasks while calls that touch this may still arrive.
    fn left(open: &[Touch<'_>], tasks: Vec<Task>) -> Vec<String> {
        let calls = (0..open.len()).map(|_| IntentId::default()).collect();
        let foreign = Foreign { calls, touched: open.iter().copied().collect(), ..Foreign::default() };
        let mut tasks = tasks.into_iter().map(Box::new).collect();
        foreign.leave_out(&mut tasks);
        tasks.into_iter().map(|task| task.slot.key.to_string()).collect()
    }

    /// A rename went out while an update of the same list, under its old name, could still arrive.
    #[test]
    fn what_may_still_arrive_is_waited_for_by_whatever_is_about_the_same_resource() {
        let list = |name: &str| Key::new("lists", name);
        let old = list("old");
        let open = [Touch::new(Action::Update, &old, None, None)];
        let needy = |name: &str, of: &str| {
            let need = Need { slot: Slot { key: list(of), part: MAIN }, why: "it is taken".into() };
            Task { needs: thin_vec![need], ..task(Action::Update, &list(name)) }
        };
        let after = |name: &str, of: &str| Task {
            after: thin_vec![Slot { key: list(of), part: MAIN }],
            ..task(Action::Update, &list(name))
        };

        let tasks = vec![
            task(Action::Update, &list("other")),
            needy("first", "second"),
            after("second", "new"),
            rename("old", &list("new")),
            task(Action::Delete, &list("deleted")),
            task(Action::Delete, &Key::new("permissions", "deleted")),
        ];

        assert_eq!(left(&open, tasks.clone()), ["lists/other", "permissions/deleted"]);
        assert_eq!(left(&[], tasks.clone()).len(), tasks.len());
    }

    #[test]
    fn nothing_of_a_tenant_is_written_while_its_delete_may_still_arrive_and_the_other_way_round() {
        let (tenant, role) = (Key::new("tenants", "t"), Key::in_tenant("roles", "t", "r"));
        let touch = |action, key| Touch::new(action, key, None, None);
        let both = || vec![task(Action::Update, &role), task(Action::Delete, &tenant)];

        assert_eq!(left(&[touch(Action::Delete, &tenant)], both()), [""; 0]);
        assert_eq!(left(&[touch(Action::Update, &role)], both()), [""; 0]);
        let updates = vec![task(Action::Update, &role), task(Action::Update, &tenant)];
        assert_eq!(left(&[touch(Action::Update, &tenant)], updates), ["roles/t/r"]);
    }

    #[test]
    fn where_nobody_can_tell_what_may_still_arrive_nothing_is_sent() {
        let foreign = Foreign { is_unknown: true, ..Foreign::default() };
        let mut tasks = vec![Box::new(task(Action::Update, &Key::new("lists", "a")))];

        assert!(foreign.leave_out(&mut tasks).is_some() && tasks.is_empty());
        assert!(!foreign.is_over(IntentId::default()));
    }

    #[test]
    fn the_strongest_of_what_fell_into_a_lapse_is_made_up_for_once() {
        let after = |missed: &[Trigger], was_paused| {
            let mut memory = Carryover::default();
            for trigger in missed {
                memory.miss(*trigger);
            }
            (memory.after_lapse(was_paused), memory.after_lapse(false))
        };

        assert_eq!(after(&[Trigger::Signal, Trigger::Interval], true), (Some(Trigger::Signal), None));
        assert_eq!(after(&[Trigger::Watch, Trigger::Api, Trigger::Watch], false), (Some(Trigger::Api), None));
        assert_eq!(after(&[Trigger::Watch], true), (Some(Trigger::Interval), None));
        assert_eq!(after(&[Trigger::Watch], false), (Some(Trigger::Watch), None));
        assert_eq!((after(&[], true), after(&[], false)), ((Some(Trigger::Interval), None), (None, None)));
    }
}
