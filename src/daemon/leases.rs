//! Keeps the leases of the projects, where replicas share the state, and shows who holds what.

use super::volumes::Seen;
use super::volumes::Sight;
use crate::aside::aside;
use crate::plan::ProjectName;
use crate::queue::Queue;
use crate::state::Claim;
use crate::state::Holding;
use crate::state::Leases;
use crate::state::ProjectState;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::repeats::is_worth_a_line;
use crate::telemetry::status::Board;
use crate::telemetry::status::LeaseStatus;
use crate::telemetry::status::Level;
use crate::telemetry::status::rfc3339;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
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
                    git-sync, run?); where they were rolled back on purpose at all replicas, the log of the one that holds the project names \
                    the order that puts them in force";

/// The loop that asks for leases.
pub struct Keeper {
    /// Of this process.
    pub leases: Leases,
    /// The volumes that are mounted here.
    pub volumes: watch::Receiver<Seen>,
    /// Those that have to be.
    pub mounts: Vec<Mount>,
    /// Of which the files here are other than those in force, as far as was told.
    pub lagging: BTreeSet<ProjectName>,
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
            match self.leases.turn(&claims, &is_busy) {
                Ok(held) => {
                    if failures > 0 {
                        tracing::info!("the database of state.url answers again");
                    }
                    failures = 0;
                    self.show(&held);
                    self.show_lags();
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
                    let reason = Some("the database of state.url does not answer");
                    self.board.component("lease", None, Level::Degraded, reason);
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

    fn show(&mut self, held: &[Holding]) {
        let mut is_whole = true;
        let lost = self.leases.lost();
        let is_foreign = |holding: &Holding| self.projects.iter().all(|(_, claim)| *claim != holding.claim);
        let now = SystemTime::now();
        let is_written = |holding: &Holding| holding.holder.is_some() || holding.expires + GONE_AFTER > now;
        self.board.others_write(held.iter().any(|holding| is_foreign(holding) && is_written(holding)));
        for (project, claim) in &self.projects {
            let holding = held.iter().find(|holding| holding.claim == *claim);
            let is_mine = holding.is_some_and(|holding| holding.is_mine);
            is_whole &= holding.is_some_and(|holding| holding.holder.is_some());
            self.metrics.lease_held.with_label_values(&[&**project]).set(i64::from(is_mine));
            let expires = holding.filter(|_| is_mine).map_or(0.0, |holding| unix(holding.expires));
            self.metrics.lease_expires_timestamp_seconds.with_label_values(&[&**project]).set(expires);
            let is_held = holding.is_some_and(|holding| holding.holder.is_some());
            if lost.contains(claim) {
                self.lost.insert(project.clone(), (Instant::now(), SystemTime::now()));
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
                ..LeaseStatus::default()
            };
            let holder = shown.holder.clone().filter(|_| !is_mine);
            let mut before = None;
            self.board.project(project, |status| {
                status.readiness.stands_by = !is_mine;
                before = status.lease.replace(shown).and_then(|before| before.holder);
            });
            if let Some(holder) = holder.filter(|holder| before.as_ref() != Some(holder)) {
                tracing::info!(project = &**project, %holder, "another replica holds the lease: this one stands by");
            }
        }
        let reason = if is_whole { None } else { Some(NOBODY) };
        self.board.component("lease", None, if is_whole { Level::Ok } else { Level::Degraded }, reason);
    }

    /// Says where a checkout stands still, before its replica is needed.
    fn show_lags(&mut self) {
        for (project, claim) in &self.projects {
            if self.leases.lags(claim) {
                self.board.component("checkout", Some(&**project), Level::Degraded, Some(LAGS));
                if self.lagging.insert(project.clone()) {
                    tracing::warn!(project = &**project, "{LAGS}");
                }
            } else if self.lagging.remove(project) {
                self.board.component("checkout", Some(&**project), Level::Ok, None);
                tracing::info!(project = &**project, "the files here are those in force again");
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
            let is_mine =
                self.board.look_at(project, |status| status.lease.as_ref().is_some_and(|lease| lease.is_mine));
            if is_mine == Some(true) && !self.leases.holds(claim) {
                self.metrics.lease_held.with_label_values(&[&**project]).set(0);
                let now = SystemTime::now();
                self.lost.insert(project.clone(), (Instant::now(), now));
                self.board.project(project, |status| {
                    if let Some(lease) = &mut status.lease {
                        (lease.is_mine, lease.holder, lease.lost_at) = (false, None, Some(rfc3339(now)));
                    }
                });
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
