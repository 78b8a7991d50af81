//! What the page shows of a project: where each resource stands, how far a drain is, what drifted, what was seen when.

use super::Reconciler;
use super::rfc3339;
use super::unix;
use crate::observed::deep::Coverage;
use crate::plan::Change;
use crate::plan::Drift;
use crate::plan::Hold;
use crate::plan::Plan;
use crate::plan::drift;
use crate::queue::Standing;
use crate::resource;
use crate::resource::Key;
use crate::telemetry::clock;
use crate::telemetry::status::AppliedStatus;
use crate::telemetry::status::CountsStatus;
use crate::telemetry::status::DetailsStatus;
use crate::telemetry::status::DriftStatus;
use crate::telemetry::status::DriftedStatus;
use crate::telemetry::status::KindStatus;
use crate::telemetry::status::Overview;
use crate::telemetry::status::ProgressStatus;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;

/// A queue that is longer than this is counted by resource only now and then: it moves with every change of a drain.
pub(super) const LONG_QUEUE: usize = 5_000;
/// How often a long one is.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// The status names so many drifted resources; the plan has all of them.
const DRIFTED_SHOWN: usize = 50;
/// A rate that was measured for less says little.
const MEASURED_FOR: Duration = Duration::from_secs(10);
/// Of Descope's limit: nor does a part of it say much, where its budget is spent at once and then waited for.
const WINDOW: Duration = Duration::from_secs(60);

/// What is not done when it was to be is not told of more often.
const TOLD_ANEW: Duration = Duration::from_secs(1);

/// What earlier passes left for the overview.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// What the project last equalled.
    pub applied: Option<AppliedStatus>,
    /// When the project last was found, or made, equal to its files.
    success_at: Option<SystemTime>,
    /// That it is so now is news: it was not a moment ago, or a pass looked again.
    is_success_due: bool,
    /// The history was asked for both.
    is_recalled: bool,
    /// The newest look at each kind that was answered.
    pub observed_at: BTreeMap<&'static str, SystemTime>,
    drain: Option<Drain>,
    counted: Option<(Instant, CountsStatus)>,
}

#[derive(Debug)]
struct Drain {
    began: (Instant, SystemTime),
    /// Parked and blocked before.
    stuck: usize,
    /// The most that was left.
    total: usize,
    /// Calls, by its plan.
    calls_a_change: f64,
    /// When it was to be done, as far as was told last.
    ends_at: Option<Instant>,
}

/// What the rate limit allows.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    /// Changes a second.
    rate: f64,
    /// Until the last change that is left may be sent, a pause included.
    due: Duration,
}

impl Drain {
    /// How many calls so many changes are.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "changes of a drain"
    )]
    fn calls(&self, changes: usize) -> usize {
        (changes as f64 * self.calls_a_change).ceil() as usize
    }

    /// About how long `left` changes take, of which none is sent before `pause` is over. As long as the limit has them wait; where less was
    /// done than it allows, as much longer. That is believed less and less after the first window. Pauses that were count, as there
    /// may be others; the present one as a whole from its beginning, so that its end comes no later by waiting for it.
    fn rest(&self, now: Instant, left: usize, allowed: Option<Allowed>, pause: Duration) -> Option<Duration> {
        let took = now.duration_since(self.began.0) + pause;
        #[allow(clippy::cast_precision_loss, reason = "changes of a drain")]
        let (done, left) = (self.total.saturating_sub(left) as f64, left as f64);
        if let Some(Allowed { rate, due }) = allowed {
            // A budget is spent at once, and then waited for.
            let speed = (done + rate * WINDOW.as_secs_f64()) / (took + WINDOW).as_secs_f64();
            let pause = pause.min(due);
            return Some(pause + due.saturating_sub(pause).mul_f64((rate / speed).max(1.0)));
        }
        let speed = if took >= MEASURED_FOR { done / took.as_secs_f64() } else { 0.0 };
        Duration::try_from_secs_f64(left / speed).ok().map(|rest| rest + pause)
    }
}

/// Of a plan whose tasks may be on the queue already.
#[allow(clippy::cast_precision_loss, reason = "changes of a plan")]
fn calls_a_change(plan: &Plan) -> f64 {
    let (mut numbers, mut more, mut changes) = (BTreeSet::new(), 0, 0);
    for sent in plan.changes.iter().filter(|change| change.is_sent()).map(Change::calls) {
        numbers.extend(sent.numbers);
        more += sent.more;
        changes += 1;
    }
    let calls = numbers.len() + more;
    if calls == 0 { 1.0 } else { calls as f64 / f64::from(changes) }
}

impl Earlier {
    /// When a drain is to be told of anew, though nothing moves: it was to be done by then.
    pub fn overdue_at(&self) -> Option<Instant> {
        self.drain.as_ref()?.ends_at
    }

    /// It is told anew.
    pub fn no_longer_overdue(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.ends_at = None;
        }
    }

    /// A pass looked at everything it could: what it found counts from now on.
    pub fn looked(&mut self) {
        self.is_success_due = true;
    }

    /// Takes note of which kinds this plan has seen.
    pub fn note_observed(&mut self, plan: &Plan, at: SystemTime) {
        self.observed_at.extend(plan.observed.iter().map(|kind| (*kind, at)));
    }
}

impl Reconciler {
    /// After a restart, the history says what the last run knew.
    fn recall(&mut self) {
        if std::mem::replace(&mut self.memory.overview.is_recalled, true) {
            return;
        }
        match self.state.last_passes() {
            Ok(last) => {
                self.succeeded(last.success_at);
                self.memory.overview.applied = last.in_sync.map(|(revision, at)| {
                    let commit = last.commit;
                    AppliedStatus { revision, commit, at: rfc3339(at), is_newer: false }
                });
            }
            Err(error) => tracing::warn!(%error, "cannot read the history of passes"),
        }
    }

    pub(super) fn overview(&mut self, is_converged: bool) -> Overview {
        self.recall();
        let counts = self.counts();
        // What the policy does not permit differs, though nothing is left to do.
        let is_equal = is_converged && counts.waiting == 0;
        if is_equal {
            self.note_applied();
        }
        self.name_applied();
        // The last good files are not what the repo says.
        self.note_success(is_equal && self.is_current());
        // What is tried again, or waits for the end of a suspension, is no progress.
        let progress = if counts.changing > 0 { Some(self.progress()) } else { None };
        if progress.is_none() {
            self.memory.overview.drain = None;
        }
        let memory = &self.memory.overview;
        let mut drifted = self.memory.plan.as_deref().map(super::drift::drifted).unwrap_or_default();
        if !drifted.is_empty() {
            // What was put back since the look differs no more.
            let unfinished = self.queue.unfinished(&self.assessor.project);
            let is_left_alone = |key: &Key| self.memory.left_alone.iter().any(|(_, keys)| keys.contains(key));
            drifted.retain(|key, drifts| {
                let is_held = drifts.iter().any(|(change, _)| change.held.is_some());
                is_held || unfinished.contains(*key) || is_left_alone(key)
            });
        }
        self.count_drifted(drifted.keys().copied());
        let total = drifted.len() as u64;
        let drifted = drifted.into_iter().take(DRIFTED_SHOWN).map(|(key, drifts)| drifted_status(key, &drifts));
        let next = [self.memory.retry_at, self.memory.resume_at].into_iter().flatten().min();
        Overview {
            applied: memory.applied.clone().map(|applied| self.against_files(applied)),
            last_success_at: memory.success_at.map(rfc3339),
            next_pass_at: None,
            look: None,
            look_began: None,
            counts,
            progress,
            drift: DriftStatus { total, resources: drifted.collect() },
            kinds: self.kinds(),
            timer_at: None,
            retry_at: next.map(|at| clock::now() + at.saturating_duration_since(Instant::now())),
        }
    }

    /// That a project equals its files is a success once a pass, and at the moment at which what one set off is done.
    fn note_success(&mut self, is_equal: bool) {
        let is_due = &mut self.memory.overview.is_success_due;
        if !is_equal {
            *is_due = true;
        } else if std::mem::take(is_due) {
            self.succeeded(Some(clock::now()));
        }
    }

    fn succeeded(&mut self, at: Option<SystemTime>) {
        self.memory.overview.success_at = at;
        if let Some(at) = at {
            let gauge = &self.metrics.last_success_timestamp_seconds;
            gauge.with_label_values(&[&*self.assessor.project]).set(unix(at));
        }
    }

    /// The same files have the same name, also after a restart.
    fn name_applied(&mut self) {
        let (Some(load), Some(applied)) = (&self.memory.load, &mut self.memory.overview.applied) else { return };
        if load.revision.as_deref() == Some(&*applied.revision) && load.commit.is_some() {
            applied.commit.clone_from(&load.commit);
        }
    }

    /// Files that are put aside as older ones wait for nothing that would put them in the place of what is applied.
    fn against_files(&self, applied: AppliedStatus) -> AppliedStatus {
        let is_older = |(aside, is_older): &(Arc<str>, bool)| *is_older && **aside != applied.revision;
        AppliedStatus { is_newer: self.memory.put_aside.as_ref().is_some_and(is_older), ..applied }
    }

    fn note_applied(&mut self) {
        let Some(load) = &self.memory.load else { return };
        let Some(revision) = load.revision.as_deref() else { return };
        let applied = &mut self.memory.overview.applied;
        match applied {
            Some(applied) if applied.revision == revision => {}
            Some(_) | None => {
                let at = rfc3339(clock::now());
                let (revision, commit) = (revision.to_owned(), load.commit.clone());
                *applied = Some(AppliedStatus { revision, commit, at, is_newer: false });
            }
        }
    }

    fn kinds(&self) -> Vec<KindStatus> {
        let desired = self.memory.load.as_ref().and_then(|load| load.desired.as_ref());
        let plan = self.memory.plan.as_ref();
        let coverage = self.assessor.deep.coverage();
        let details = |of: &Coverage| DetailsStatus {
            parts: of.parts as u64,
            unread: of.unread as u64,
            oldest_at: rfc3339(clock::now().checked_sub(of.oldest.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)),
        };
        let kind = |kind: &'static str| {
            let observed_at = self.memory.overview.observed_at.get(kind);
            let error = plan.and_then(|plan| plan.unobserved.get(kind)).map(|unobserved| unobserved.reason.clone());
            KindStatus {
                kind: kind.to_owned(),
                is_managed: desired.is_some_and(|desired| desired.kinds.contains(kind))
                    || plan.is_some_and(|plan| plan.observed.contains(kind) || plan.unobserved.contains_key(kind)),
                resources: desired.map_or(0, |desired| desired.resources.count_of(kind) as u64),
                observed_at: observed_at.copied().map(rfc3339),
                error,
                details: coverage.get(kind).map(details),
            }
        };
        resource::ALL.iter().map(|each| kind(each.name())).collect()
    }

    fn progress(&mut self) -> ProgressStatus {
        let counts = self.queue.counts_of(&self.assessor.project);
        let stuck = counts.parked + counts.blocked;
        let now = (Instant::now(), clock::now());
        let limits = self.assessor.client.limits();
        let opens = limits.paused_until.as_deref().and_then(|until| humantime::parse_rfc3339(until).ok());
        let pause = opens.and_then(|opens| opens.duration_since(now.1).ok()).unwrap_or_default();
        let plan = self.memory.plan.as_ref();
        let drain = self.memory.overview.drain.get_or_insert_with(|| {
            let calls_a_change = plan.map_or(1.0, |plan| calls_a_change(plan));
            Drain { began: now, stuck, total: 0, calls_a_change, ends_at: None }
        });
        // What fails on the way is left, too.
        let left = counts.total().saturating_sub(drain.stuck);
        drain.total = drain.total.max(left);
        // What the others send meanwhile is of the same budget.
        let between = self.queue.tasks_between(&self.board.beside(&self.assessor.project), left);
        let allowed = limits.requests_per_second.filter(|rate| *rate > 0.0).and_then(|rate| {
            let due = self.assessor.client.due(drain.calls(left + between))?;
            Some(Allowed { rate: rate / drain.calls_a_change, due })
        });
        let rest = drain.rest(now.0, left, allowed, pause);
        drain.ends_at = rest.map(|rest| now.0 + rest.max(TOLD_ANEW));
        ProgressStatus {
            since: rfc3339(drain.began.1),
            total: drain.total as u64,
            left: left as u64,
            seconds_left: rest.map(|rest| rest.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
            ends_at: rest.map(|rest| rfc3339(now.1 + rest)),
        }
    }

    fn counts(&mut self) -> CountsStatus {
        let project = self.assessor.project.clone();
        let size = self.queue.counts_of(&project).total();
        let is_due = |at: Instant| size <= LONG_QUEUE || at.elapsed() >= COUNT_EVERY;
        if let Some((at, counts)) = self.memory.overview.counted
            && !is_due(at)
        {
            return counts;
        }
        let is_paused = self.pause.suspended_until().is_some() || self.pause.refusal().is_some();
        let counts = self.count(&self.queue.standings(&project), is_paused);
        self.memory.overview.counted = Some((Instant::now(), counts));
        counts
    }

    fn count(&self, standings: &HashMap<Key, Standing>, is_paused: bool) -> CountsStatus {
        let mut counts = CountsStatus::default();
        let desired = self.memory.load.as_ref().and_then(|load| load.desired.as_ref());
        let declared = desired.map_or(0, |desired| desired.resources.len() as u64);
        let Some(plan) = &self.memory.plan else {
            return CountsStatus { unknown: declared, ..counts };
        };
        let is_declared = |key: &Key| desired.is_some_and(|desired| desired.resources.contains_key(key));
        let is_unseen = |kind: &str| !plan.observed.contains(kind) || plan.shrunk.contains(kind);
        // Of each resource what is worst of it.
        let mut others = 0;
        for (key, standing) in standings {
            others += u64::from(is_declared(key));
            *match standing {
                Standing::Parked => &mut counts.parked,
                Standing::Blocked => &mut counts.blocked,
                Standing::Retrying => &mut counts.retrying,
                Standing::Changing if is_paused => &mut counts.suspended,
                Standing::Changing => &mut counts.changing,
            } += 1;
        }
        let mut seen: HashSet<&Key> = HashSet::new();
        for refusal in &plan.refused {
            if !standings.contains_key(&refusal.key) && seen.insert(&refusal.key) {
                counts.parked += 1;
                others += u64::from(is_declared(&refusal.key));
            }
        }
        // A suspension takes what was refused off the queue, and it stays refused.
        for key in self.memory.suspended_problems.keys() {
            if !standings.contains_key(key) && seen.insert(key) {
                counts.parked += 1;
                others += u64::from(is_declared(key));
            }
        }
        for change in plan.changes.iter().filter(|change| change.held.is_some()) {
            if !standings.contains_key(&change.key) && seen.insert(&change.key) {
                let can_be_approved = change.can_be_approved();
                let is_suspended = change.held == Some(Hold::Suspended);
                *match (can_be_approved, is_suspended) {
                    (true, _) => &mut counts.held,
                    (false, true) => &mut counts.suspended,
                    (false, false) => &mut counts.waiting,
                } += 1;
                others += u64::from(is_declared(&change.key));
            }
        }
        // Sent, and no list has shown it yet: nobody knows whether it is so.
        let unconfirmed = plan.unlisted.iter().chain(self.memory.unconfirmed.keys.keys());
        for key in unconfirmed {
            if !standings.contains_key(key) && is_declared(key) && seen.insert(key) {
                counts.unconfirmed += 1;
                others += 1;
            }
        }
        if let Some(desired) = desired
            && desired.kinds.iter().any(|kind| is_unseen(kind))
        {
            let unseen = desired.resources.keys().filter(|key| is_unseen(key.kind));
            let unseen = unseen.filter(|key| !standings.contains_key(*key) && !seen.contains(*key));
            counts.unknown = unseen.count() as u64;
        }
        counts.in_sync = declared.saturating_sub(others + counts.unknown);
        counts
    }
}

fn drifted_status(key: &Key, drifts: &[(&Change, &Drift)]) -> DriftedStatus {
    let fields: BTreeSet<&String> = drifts.iter().flat_map(|(_, drift)| &drift.fields).collect();
    let is_deleted = fields.iter().any(|path| path.as_str() == drift::WHOLE);
    // Not put back for now, whatever rule says so.
    let left = drifts.iter().map(|(change, _)| change).find(|change| change.held.is_some());
    DriftedStatus {
        kind: key.kind.to_owned(),
        id: key.id(),
        since: drifts.iter().map(|(_, drift)| drift.since).min().map(rfc3339).unwrap_or_default(),
        until: left.and_then(|change| change.until).map(rfc3339),
        held: left.and_then(|change| change.held).map(|hold| hold.as_str().to_owned()),
        ends_with: left.and_then(|change| change.held).map(|hold| hold.ends_with().to_owned()),
        is_deleted,
        fields: fields.into_iter().filter(|_| !is_deleted).cloned().collect(),
        actor: drifts.iter().find_map(|(_, drift)| drift.actor.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_was_done_for_its_share() {
        let drain = Drain {
            began: (Instant::now(), SystemTime::UNIX_EPOCH),
            stuck: 0,
            total: 30,
            calls_a_change: 1.0,
            ends_at: None,
        };
        let of = |drain: &Drain, seconds, left, allowed: Option<(f64, u64)>, pause| {
            let (now, pause) = (drain.began.0 + Duration::from_secs(seconds), Duration::from_secs(pause));
            let allowed = allowed.map(|(rate, due)| Allowed { rate, due: Duration::from_secs(due) });
            drain.rest(now, left, allowed, pause).map(|rest| rest.as_secs_f64().round())
        };

        assert_eq!(of(&drain, 5, 20, None, 0), None, "too young");
        assert_eq!(of(&drain, 30, 30, None, 0), None, "nothing was done");
        assert_eq!(of(&drain, 30, 20, None, 0), Some(60.0));
        assert_eq!(of(&drain, 0, 30, Some((0.5, 60)), 0), Some(60.0));
        let drain = Drain { total: 400, ..drain };
        // A budget that was spent in a moment says nothing of the rest, nor that it is waited for.
        assert_eq!(of(&drain, 5, 310, Some((1.5, 240)), 0), Some(240.0));
        assert_eq!(of(&drain, 59, 310, Some((1.5, 186)), 0), Some(186.0));
        // Who does a fifth of what is allowed needs nearly five times as long.
        assert_eq!(of(&drain, 600, 220, Some((1.5, 147)), 0), Some(539.0));
        // While the gate is closed the end stays where it is.
        let end = |waited: u64| {
            let left = 50 - waited;
            let rest = of(&drain, 40 + waited, 340, Some((1.0, left + 340)), left);
            f64::from(u32::try_from(40 + waited).unwrap()) + rest.unwrap_or_default()
        };
        let ends: Vec<f64> = (0..=50).step_by(10).map(end).collect();
        assert!(ends.iter().all(|end| (end - ends[0]).abs() <= 1.0), "{ends:?}");
        assert!(ends[0] >= 340.0 + 90.0, "{ends:?}");
    }
}
