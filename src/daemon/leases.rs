//! Keeps the leases of the projects, where replicas share the state, and shows who holds what.

use super::volumes::Seen;
use super::volumes::Sight;
use crate::aside::aside;
use crate::plan::ProjectName;
use crate::queue::PausedBy;
use crate::queue::Queue;
use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::state::Claim;
use crate::state::Holding;
use crate::state::Leases;
use crate::state::ProjectState;
use crate::state::ReplicaStanding;
use crate::state::Standings;
use crate::telemetry::clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::repeats::is_worth_a_line;
use crate::telemetry::status::Board;
use crate::telemetry::status::CheckoutStatus;
use crate::telemetry::status::CheckoutsStatus;
use crate::telemetry::status::DATABASE_SILENT;
use crate::telemetry::status::LeaseStatus;
use crate::telemetry::status::Level;
use crate::telemetry::status::Needs;
use crate::telemetry::status::ProjectStatus;
use crate::telemetry::status::project_option;
use crate::telemetry::status::rfc3339;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What was given back is taken within seconds of a stop.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A project that nobody has written for so long has left the config of all replicas.
const GONE_AFTER: Duration = Duration::from_secs(60 * 60);

/// What was lost is told also where another replica has taken it at once.
const LOST_FOR: Duration = Duration::from_secs(5);

/// A directory of a project that all replicas mount.
pub struct Mount {
    /// Whose.
    pub project: ProjectName,
    /// Where.
    pub dir: PathBuf,
    /// Knows which mark it has to bear.
    pub state: ProjectState,
    /// As far as was told.
    pub is_there: bool,
}

/// A file server that is silent holds up nothing for longer.
const FIRST_LOOK: Duration = Duration::from_secs(1);

const NOT_MOUNTED: &str = "the volume that the replicas share is not mounted at `projects[].secrets.dir`: mount it here as well; where it \
                           was replaced for good, the message of the next resource with a `secretFile` says what to do";

const SILENT: &str = "the file server of `projects[].secrets.dir` does not answer: see to it, or to the mount";

const NOBODY: &str = "a project without a holder; one takes it when the lease before has ended: where that takes longer than a minute, see \
                      to the replicas whose log says that they cannot renew the leases";

const LAGS: &str = "the files here are not those in force: nothing of them is written until this checkout moves on (does what brings it, such as \
                    git-sync, run?); `descope-gitops status` says which they are, which are in force, and who writes the project";

const NOBODY_IN_FORCE: &str = "no replica has the files in force: nothing of the project is written until a checkout moves on, or somebody gives the \
                               order that `descope-gitops status` names, where these files were meant to be gone back to";

/// Why Descope refuses this replica, in words; `None` while it does not.
pub type Refused = Box<dyn Fn() -> Option<&'static str> + Send + Sync>;

/// The loop that asks for leases.
pub struct Keeper {
    /// Of this process.
    pub leases: Leases,
    /// The volumes that are mounted here.
    pub volumes: watch::Receiver<Seen>,
    /// Those that have to be.
    pub mounts: Vec<Mount>,
    /// Of which the files here are other than those in force, as far as was told.
    pub lagging: BTreeMap<ProjectName, Option<String>>,
    /// Held here while other files are in force.
    pub overtaken: BTreeSet<ProjectName>,
    /// Sets a pass off.
    pub triggers: BTreeMap<ProjectName, TriggerSender>,
    /// Says what Descope refuses of a project.
    pub refusals: BTreeMap<ProjectName, Refused>,
    /// All that the config has.
    pub projects: Vec<(ProjectName, Claim)>,
    /// When those were lost that this process did not give back.
    pub lost: BTreeMap<ProjectName, (Instant, SystemTime)>,
    /// Knows what is under way.
    pub queue: Queue,
    /// Where it is shown.
    pub board: Arc<Board>,
    /// Gauges.
    pub metrics: Arc<Metrics>,
}

/// The marks that are seen, and where the secrets of which project go.
fn sights(mounts: &[Mount], seen: &Seen) -> Vec<(Claim, String)> {
    let of = |mount: &Mount| {
        let claim = mount.state.claim();
        seen.marks_in(&mount.dir).into_iter().map(move |mark| (claim.clone(), mark))
    };
    mounts.iter().flat_map(of).collect()
}

impl Keeper {
    /// Until `stop`, which comes when nothing is under way any more; then everything is given back.
    pub async fn run(mut self, stop: CancellationToken) {
        let claims: Vec<Claim> = self.projects.iter().map(|(_, claim)| claim.clone()).collect();
        let every = self.leases.renews_every().min(LOOK_EVERY);
        let mut failures = 0;
        let mut is_outdated = false;
        // Whoever starts beside others sees what they see from the beginning.
        if !self.mounts.is_empty() {
            drop(tokio::time::timeout(FIRST_LOOK, self.volumes.changed()).await);
        }
        loop {
            let name = |claim: &Claim| self.projects.iter().find(|(_, other)| other == claim).map(|(name, _)| name);
            let is_busy = |claim: &Claim| name(claim).is_some_and(|name| self.queue.counts_of(name).in_flight > 0);
            self.leases.sees(sights(&self.mounts, &self.volumes.borrow()));
            self.leases.refused(self.refusals());
            let asked = Instant::now();
            let turn = self.leases.turn(&claims, &is_busy);
            match turn.and_then(|held| Ok((held, self.leases.standings()?))) {
                Ok((held, (now, standings))) => {
                    if failures > 0 {
                        tracing::info!("the database of state.url answers again");
                    }
                    failures = 0;
                    self.show(&held, now, &standings, asked);
                    self.follow_files();
                    aside(|| self.show_volumes());
                    if let Some(found) = self.leases.newer() {
                        if !is_outdated {
                            tracing::error!(
                                version = found,
                                "a newer release migrated the database of state.url: this one gives its leases back and \
                                 writes nothing more; run the newer release here as well"
                            );
                        }
                        let reason =
                            Some("a newer release migrated the database of state.url; run that one here as well");
                        self.board.component("lease", None, Level::Degraded, reason);
                    }
                    is_outdated = self.leases.newer().is_some();
                }
                Err(error) => {
                    failures += 1;
                    if is_worth_a_line(failures, false) {
                        tracing::error!(%error, times = failures, "cannot renew the leases; without them nothing is written");
                    }
                    self.board.component("lease", None, Level::Degraded, Some(DATABASE_SILENT));
                    self.show_lost();
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(every) => {}
            }
        }
        if let Err(error) = self.leases.give_all_back(&claims) {
            tracing::warn!(%error, "cannot give the leases back; they end by themselves");
        }
    }

    fn show(&mut self, held: &[Holding], now: SystemTime, standings: &HashMap<Claim, Standings>, asked: Instant) {
        let mut is_whole = true;
        let lost = self.leases.lost();
        let is_foreign = |holding: &Holding| self.projects.iter().all(|(_, claim)| *claim != holding.claim);
        let is_written = |holding: &Holding| holding.holder.is_some() || holding.expires + GONE_AFTER > now;
        self.board.others_write(held.iter().any(|holding| is_foreign(holding) && is_written(holding)));
        for (project, claim) in &self.projects.clone() {
            let holding = held.iter().find(|holding| holding.claim == *claim);
            // What the database says may have been under way for longer than it holds.
            let is_mine = holding.is_some_and(|holding| holding.is_mine) && self.leases.holds(claim);
            is_whole &= holding.is_some_and(|holding| holding.holder.is_some());
            self.metrics.lease_held.with_label_values(&[&**project]).set(i64::from(is_mine));
            let expires = holding.filter(|_| is_mine).map_or(0.0, |holding| unix(holding.expires));
            self.metrics.lease_expires_timestamp_seconds.with_label_values(&[&**project]).set(expires);
            let is_held = holding.is_some_and(|holding| holding.holder.is_some());
            if lost.contains(claim) {
                self.lost.insert(project.clone(), (Instant::now(), clock::now()));
            } else if is_held && self.lost.get(project).is_some_and(|(at, _)| at.elapsed() >= LOST_FOR) {
                self.lost.remove(project);
            }
            let shown = LeaseStatus {
                holder: holding.and_then(|holding| holding.holder.clone()),
                is_mine,
                term: holding.map_or(0, |holding| holding.term),
                since: holding.map(|holding| rfc3339(holding.since)),
                expires: holding.map(|holding| rfc3339(holding.expires)),
                lost_at: self.lost.get(project).map(|(_, at)| rfc3339(*at)),
                read_at: Some(asked),
                ..LeaseStatus::default()
            };
            let holder = holding.filter(|holding| !holding.is_mine).and_then(|holding| holding.holder.clone());
            let checkouts =
                self.checkouts(project, holding, now, standings.get(claim).unwrap_or(&Standings::default()));
            let (mut before, can_order) = (None, self.board.can_order());
            self.board.project(project, |status| {
                status.readiness.stands_by = !is_mine;
                status.checkouts = Some(checkouts);
                status.show_put_aside(can_order);
                before = status.lease.replace(shown).and_then(|before| before.holder);
            });
            if let Some(holder) = holder.filter(|holder| before.as_ref() != Some(holder)) {
                tracing::info!(project = &**project, %holder, "another replica holds the lease: this one stands by");
            }
        }
        let reason = if is_whole { None } else { Some(NOBODY) };
        self.board.component("lease", None, if is_whole { Level::Ok } else { Level::Degraded }, reason);
    }

    /// What Descope refuses here, by project.
    fn refusals(&self) -> HashMap<Claim, &'static str> {
        let refusal = |(project, claim): &(ProjectName, Claim)| Some((claim.clone(), self.refusals.get(project)?()?));
        self.projects.iter().filter_map(refusal).collect()
    }

    /// Says whose files are put aside, before their replica is needed. How they all stand.
    fn checkouts(
        &mut self,
        project: &ProjectName,
        holding: Option<&Holding>,
        now: SystemTime,
        standings: &Standings,
    ) -> CheckoutsStatus {
        let holder = holding.and_then(|holding| holding.holder.as_deref());
        let checkout = |standing: &ReplicaStanding| CheckoutStatus {
            replica: standing.name.clone(),
            is_mine: standing.is_mine,
            is_holder: holder == Some(&*standing.name),
            revision: standing.revision.clone(),
            put_aside_since: standing.aside.map(rfc3339),
            lags: standing.lags,
            refused: standing.refused.as_ref().map(|(what, _)| what.clone()),
            refused_since: standing.refused.as_ref().map(|(_, since)| rfc3339(*since)),
        };
        let in_force = standings.in_force.clone().map(|(revision, since)| (revision, rfc3339(since)));
        // Whoever takes over does so within a life and a turn.
        let is_late = |holding: &Holding| holding.holder.is_none() && holding.expires + self.leases.life() * 2 < now;
        let unheld = holding.is_some_and(is_late);
        let checkouts = CheckoutsStatus::of(in_force, standings.replicas.iter().map(checkout).collect(), unheld);
        let here = checkouts.replicas.iter().find(|checkout| checkout.is_mine);
        let lags = here.is_some_and(|checkout| checkout.lags);
        self.metrics.checkout_behind.with_label_values(&[&**project]).set(i64::from(lags));
        let is_refused = here.is_some_and(|checkout| checkout.refused.is_some());
        self.metrics.replica_refused.with_label_values(&[&**project]).set(i64::from(is_refused));
        if lags {
            let reason = if checkouts.needs == Needs::Act { NOBODY_IN_FORCE } else { LAGS };
            self.board.component("checkout", Some(&**project), Level::Degraded, Some(reason));
            let revision = here.and_then(|checkout| checkout.revision.clone());
            if self.lagging.insert(project.clone(), revision.clone()).as_ref() != Some(&revision) {
                let revision = revision.filter(|_| self.board.can_order());
                let approve =
                    revision.map(|revision| format!("descope-gitops approve {} {revision}", project_option(project)));
                tracing::warn!(project = &**project, approve, "{LAGS}");
            }
        } else if self.lagging.remove(project).is_some() {
            self.board.component("checkout", Some(&**project), Level::Ok, None);
            tracing::info!(project = &**project, "the files here are those in force again");
        }
        checkouts
    }

    /// Other files are in force than those of which the queue works off the changes, though whoever has them may be gone by
    /// now: what was noted counts. What is planned next decides.
    fn follow_files(&mut self) {
        for (project, claim) in &self.projects {
            let is_overtaken = self.leases.holds(claim) && self.leases.is_behind(claim);
            if is_overtaken == self.overtaken.contains(project) {
                continue;
            }
            if is_overtaken {
                self.overtaken.insert(project.clone());
                self.queue.pause(project, PausedBy::Files);
            } else {
                self.overtaken.remove(project);
            }
            if let Some(trigger) = self.triggers.get(project) {
                trigger.fire(Trigger::Interval);
            }
        }
    }

    /// Says where the volume of the others is not mounted, before a secret is looked for in vain.
    fn show_volumes(&mut self) {
        let seen = self.volumes.borrow().clone();
        for Mount { project, dir, state, is_there } in &mut self.mounts {
            let Ok(Some(mark)) = state.volume() else { continue };
            let reason = match seen.bears(dir, &mark) {
                Sight::Unknown => continue,
                Sight::Mounted(true) => None,
                Sight::Mounted(false) => Some(NOT_MOUNTED),
                Sight::Silent => Some(SILENT),
            };
            let level = if reason.is_none() { Level::Ok } else { Level::Degraded };
            self.board.component("volume", Some(&**project), level, reason);
            if *is_there == reason.is_none() {
                continue;
            }
            *is_there = reason.is_none();
            let (project, dir) = (&**project, dir.display());
            if let Some(reason) = reason {
                tracing::warn!(project, %dir, mark, "{reason}");
            } else {
                tracing::info!(project, %dir, "the volume that the replicas share is mounted here again");
            }
        }
    }

    fn show_lost(&mut self) {
        for (project, claim) in &self.projects {
            if !self.leases.holds(claim) && show_ended(project, &self.board, &self.metrics) {
                self.lost.insert(project.clone(), (Instant::now(), clock::now()));
            }
        }
    }
}

/// Says of a lease that it is held no more; false where that was not said before.
fn show_ended(project: &ProjectName, board: &Board, metrics: &Metrics) -> bool {
    let is_mine = board.look_at(project, |status| status.lease.as_ref().is_some_and(|lease| lease.is_mine));
    if is_mine != Some(true) {
        return false;
    }
    metrics.lease_held.with_label_values(&[&**project]).set(0);
    metrics.lease_expires_timestamp_seconds.with_label_values(&[&**project]).set(0.0);
    board.project(project, |status| {
        status.forget_holder();
        if let Some(lease) = &mut status.lease {
            lease.lost_at = Some(rfc3339(clock::now()));
        }
    });
    true
}

/// Says of a lease that nobody knows who holds it, where it is so long ago that it could be looked at.
fn show_unknown(project: &ProjectName, board: &Board, life: Duration) {
    let is_outdated = |status: &ProjectStatus| status.lease.as_ref().is_some_and(|lease| lease.is_outdated(life));
    if board.look_at(project, is_outdated) != Some(true) {
        return;
    }
    board.project(project, |status| {
        // It may have been read meanwhile.
        if is_outdated(status) {
            status.forget_holder();
            if let Some(lease) = &mut status.lease {
                lease.unknown_since = Some(rfc3339(clock::now()));
            }
        }
    });
}

/// Says when a lease ends by itself, and when nobody knows who holds it, whether the database answers or not: a look at that may
/// take for longer.
pub struct Ends {
    /// Of a lease.
    pub life: Duration,
    /// All that the config has.
    pub projects: Vec<(ProjectName, ProjectState)>,
    /// Where it is shown.
    pub board: Arc<Board>,
    /// Gauges.
    pub metrics: Arc<Metrics>,
}

/// What is held no more is shown to be within that time.
const SHOWN_WITHIN: Duration = Duration::from_millis(250);

impl Ends {
    /// Until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let mut wait = SHOWN_WITHIN;
            for (project, state) in &self.projects {
                if let Some(tenure) = state.tenure() {
                    wait = tenure.left().map_or(wait, |left| wait.min(left));
                } else {
                    show_ended(project, &self.board, &self.metrics);
                    show_unknown(project, &self.board, self.life);
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// As the others see this process: where it runs, and which of those there it is.
pub fn name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}/{}", std::process::id())
}
