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
}

/// Requests a second, as Descope's limit allows.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    /// None while no limit is known.
    now: Option<f64>,
    /// After a cut: so long from now they are so many again.
    back: Option<(Duration, f64)>,
}

impl Drain {
    /// About how long `left` changes take, of which none is sent before `pause` is over. What is `allowed` is what is believed before anything was done, and less and less after the first window. Pauses that were count,
    /// as there may be others; the present one as a whole from its beginning, so that its end comes no later by waiting for it.
    fn rest(&self, now: Instant, left: usize, allowed: Allowed, pause: Duration) -> Option<Duration> {
        let took = now.duration_since(self.began.0) + pause;
        #[allow(clippy::cast_precision_loss, reason = "changes of a drain")]
        let (done, left) = (self.total.saturating_sub(left) as f64, left as f64);
        let rate = allowed.now.filter(|rate| *rate > 0.0);
        let speed = match rate {
            Some(rate) => {
                let speed = (done + rate * WINDOW.as_secs_f64()) / (took + WINDOW).as_secs_f64();
                // A budget is spent at once, and then waited for; batches are quicker for longer.
                if took < WINDOW { speed.min(rate) } else { speed }
            }
            None if took >= MEASURED_FOR => done / took.as_secs_f64(),
            None => 0.0,
        };
        let seconds = match rate.zip(allowed.back) {
            Some((rate, (back, later))) => {
                let back = back.saturating_sub(pause).as_secs_f64();
                // What goes slower than is allowed goes so later, too.
                let later = speed.max(later * (speed / rate).min(1.0));
                if left > speed * back { back + (left - speed * back) / later } else { left / speed }
            }
            None => left / speed,
        };
        Duration::try_from_secs_f64(seconds).ok().map(|rest| rest + pause)
    }
}

impl Earlier {
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
        let drain = self.memory.overview.drain.get_or_insert(Drain { began: now, stuck, total: 0 });
        // What fails on the way is left, too.
        let left = counts.total().saturating_sub(drain.stuck);
        drain.total = drain.total.max(left);
        let back = limits.way_back.as_ref().and_then(|back| {
            let at = humantime::parse_rfc3339(&back.at).ok()?;
            Some((at.duration_since(now.1).unwrap_or_default(), back.requests_per_second))
        });
        let rest = drain.rest(now.0, left, Allowed { now: limits.requests_per_second, back }, pause);
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
        let drain = Drain { began: (Instant::now(), SystemTime::UNIX_EPOCH), stuck: 0, total: 30 };
        let of = |drain: &Drain, seconds, left, rate, pause| {
            let (now, pause) = (drain.began.0 + Duration::from_secs(seconds), Duration::from_secs(pause));
            let allowed = Allowed { now: rate, back: None };
            drain.rest(now, left, allowed, pause).map(|rest| rest.as_secs_f64().round())
        };

        assert_eq!(of(&drain, 5, 20, None, 0), None, "too young");
        assert_eq!(of(&drain, 30, 30, None, 0), None, "nothing was done");
        assert_eq!(of(&drain, 30, 20, None, 0), Some(60.0));
        assert_eq!(of(&drain, 0, 30, Some(0.5), 0), Some(60.0));
        let drain = Drain { total: 400, ..drain };
        // A budget that was spent in a moment says nothing of the rest, and batches say it in time.
        assert_eq!(of(&drain, 5, 310, Some(1.5), 0), Some(207.0));
        assert_eq!(of(&drain, 540, 200, Some(0.1), 0), Some(583.0));
        // While the gate is closed the end stays where it is: it came later with every second.
        let end = |waited: u32| {
            let rest = of(&drain, 40 + u64::from(waited), 340, Some(1.0), 50 - u64::from(waited));
            f64::from(40 + waited) + rest.unwrap_or_default()
        };
        let ends: Vec<f64> = (0..=50).step_by(10).map(end).collect();
        assert!(ends.iter().all(|end| (end - ends[0]).abs() <= 1.0), "{ends:?}");
        assert!(ends[0] > 340.0 + 90.0, "{ends:?}");
    }

    /// A budget of 1 a minute after a neighbour's burst made it three hours; the way back took five minutes.
    #[test]
    fn what_the_limit_is_to_be_again_counts_from_then_on() {
        let drain = Drain { began: (Instant::now(), SystemTime::UNIX_EPOCH), stuck: 0, total: 200 };
        let of = |seconds, left, back, pause| {
            let (now, pause) = (drain.began.0 + Duration::from_secs(seconds), Duration::from_secs(pause));
            let back = Some((Duration::from_secs(back), 100.0 / 60.0));
            let allowed = Allowed { now: Some(1.0 / 60.0), back };
            drain.rest(now, left, allowed, pause).map(|rest| rest.as_secs_f64().round())
        };

        assert_eq!(of(0, 200, 240, 0), Some(240.0 + 118.0));
        // A pause is no part of it twice, and may come again.
        let paused = of(0, 200, 240, 30).unwrap();
        assert!((358.0..=430.0).contains(&paused), "{paused}");
        assert_eq!(of(0, 1, 240, 0), Some(60.0), "done before");
        assert!(of(180, 197, 60, 0).unwrap() < 240.0);
        assert_eq!(of(0, 200, 0, 0), Some(120.0));
    }
}
