//! The status that `/api/v1/status` serves and the probes judge by. Field names are a contract: additions only.
//!
//! The loops write into the [`Board`], HTTP reads from it; neither knows the other.

use crate::telemetry::clock;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::time::Instant;

/// Why nothing is known of Descope here where another replica looks at it.
pub const STANDS_BY: &str = "stands by for another replica";

/// Why nobody can renew or read a lease.
pub const DATABASE_SILENT: &str = "the database of state.url does not answer";

mod checkouts;
mod elsewhere;
mod health;
mod overview;
mod wait;
mod window;

pub use checkouts::CheckoutStatus;
pub use checkouts::CheckoutsStatus;
pub use checkouts::Needs;
pub use checkouts::PUT_ASIDE;
pub use checkouts::project_option;
pub use elsewhere::Elsewhere;
pub use elsewhere::Said;
pub use health::Component;
pub use health::Health;
pub use health::Level;
pub use health::NotReady;
pub use health::Pulse;
pub use health::Readiness;
pub use overview::AppliedStatus;
pub use overview::CountsStatus;
pub use overview::DetailsStatus;
pub use overview::DriftStatus;
pub use overview::DriftedStatus;
pub use overview::KindStatus;
pub use overview::LookStatus;
pub use overview::Overview;
pub use overview::ProgressStatus;
pub use wait::Told;
pub use wait::Turn;
pub use wait::Wait;
pub use wait::Waits;
pub use wait::Why;
pub use window::ProblemWindow;
pub use window::Snapshot;
pub use window::WhichProblems;

/// The last moment that RFC 3339 can write.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// What ends the hold of what is approved, while no plan knows of that.
pub const APPROVED: &str = "the next look at Descope: it is approved";

/// What waits for the end of a suspension of the whole project.
pub const ONLY_OBSERVES: &str = "the project only observes";

/// What there is to say in the place of an order where nobody may give one: see [`Status::can_order`].
pub const NO_ORDERS: &str = "the daemon takes no orders, as http.token is not set: set it and restart the daemon";

const HOLDER_UNKNOWN: &str = "not known which replica holds the project";

/// RFC 3339 in UTC, whole seconds. What it cannot write counts as the nearest moment that it can.
pub fn rfc3339(time: SystemTime) -> String {
    let time = time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// All of `/api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// 1.
    pub format_version: u32,
    /// Of the binary.
    pub version: &'static str,
    /// RFC 3339.
    pub started_at: String,
    /// Does the daemon take orders (reconcile, approve, suspend, resume)? Not without `http.token`.
    pub can_order: bool,
    /// In the config's order.
    pub projects: Vec<ProjectStatus>,
    /// All projects together.
    pub queue: QueueStatus,
    /// One per API host.
    pub limiters: Vec<LimiterStatus>,
    /// How the parts of the daemon are, as in `/healthz`.
    pub components: Vec<Component>,
    /// A replica writes projects that this config does not have, or may.
    #[serde(skip)]
    pub others_write: bool,
    /// Replicas share a database that does not answer.
    #[serde(skip)]
    pub is_database_silent: bool,
}

/// One project.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// Of the config.
    pub name: String,
    /// As the config writes it.
    pub policy: &'static str,
    /// The last pass left nothing that the policy permits.
    pub converged: bool,
    /// Why it is not, in a word of a closed set; null where it is.
    pub not_converged_because: Option<&'static str>,
    /// What Descope answers, or something on the way to it, that refuses the project as a whole: nothing of it is sent meanwhile.
    /// Null where it is not refused.
    pub refused_because: Option<String>,
    /// RFC 3339: since when, restarts included; null where it is not refused.
    pub refused_since: Option<String>,
    /// Who writes it, where replicas share the state; null where there is one.
    pub lease: Option<LeaseStatus>,
    /// Whose files are in force, where replicas share the state; null where there is one, and before they were looked at.
    pub checkouts: Option<CheckoutsStatus>,
    /// RFC 3339.
    pub suspended_until: Option<String>,
    /// Who suspended it: the address that gave the order, and with replicas the one that it was given to; null where it is not
    /// suspended, or nobody knows.
    pub suspended_by: Option<String>,
    /// Parts of it that are suspended by themselves.
    pub suspensions: Vec<SuspensionStatus>,
    /// The YAML.
    pub desired: DesiredStatus,
    /// Digest of the files that plan and counts are of; another than that of `desired` while newer files are not compared
    /// with Descope yet. Null before the first plan of this run.
    pub planned_revision: Option<String>,
    /// What waits for an approval.
    pub held: Option<HeldStatus>,
    /// All that waits, by reason.
    pub holds: Vec<HoldStatus>,
    /// What somebody else turns back again and again, the first of it.
    pub contested: Vec<ContestedStatus>,
    /// null before the first pass.
    pub last_pass: Option<PassStatus>,
    /// Live resources of declared kinds that no file declares.
    pub undeclared: u64,
    /// What is not at rest, the first of each reason.
    pub waits: Vec<Wait>,
    /// How many wait for each reason.
    pub wait_counts: BTreeMap<&'static str, u64>,
    /// Of `limiters`; not part of the answer.
    #[serde(skip)]
    pub host: String,
    /// What a change waits for that nothing keeps back but its turn; not part of the answer.
    #[serde(skip)]
    pub turn: Turn,
    /// What does not go ahead.
    pub problems: Vec<Problem>,
    /// Counts, progress, drift.
    #[serde(flatten)]
    pub overview: Overview,
    /// What `/readyz` judges by; not part of the answer.
    #[serde(skip)]
    pub readiness: Readiness,
}

impl ProjectStatus {
    /// The newest files, by their commit or revision, where plan and counts are of older ones: no look at Descope is of them yet.
    /// What is put aside is told as that.
    pub fn not_compared(&self) -> Option<String> {
        let (newer, older) = (self.desired.revision.as_ref()?, self.planned_revision.as_ref()?);
        let is_aside = self.holds.iter().any(|hold| hold.stops_project && hold.reason == "stale_revision");
        let named = self.desired.commit.as_deref().or(newer.get(..12)).unwrap_or(newer);
        (newer != older && !is_aside).then(|| named.to_owned())
    }

    /// All that can be approved is, and no plan knows of that yet.
    pub fn show_approved(&mut self) {
        self.held = None;
        self.holds.iter_mut().for_each(HoldStatus::approve);
    }
}

/// Who writes a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseStatus {
    /// By name; null while nobody does.
    pub holder: Option<String>,
    /// Is it the replica that was asked?
    pub is_mine: bool,
    /// Each holder's is larger than the one before.
    pub term: i64,
    /// RFC 3339, by the clock of the database: since when.
    pub since: Option<String>,
    /// RFC 3339, by the clock of the database: until when, unless it is renewed.
    pub expires: Option<String>,
    /// RFC 3339, by the clock of the database: when the replica that was asked lost the lease without having given it back; null once a
    /// replica has it again, some seconds later.
    pub lost_at: Option<String>,
    /// Which replica says all the rest of this project, by name; null where it is the one that was asked.
    pub status_of: Option<String>,
    /// RFC 3339, by the clock of the database: when that was so.
    pub status_at: Option<String>,
    /// How long ago that is; null also in events.
    pub status_age_seconds: Option<u64>,
    /// RFC 3339: since when the replica that was asked cannot tell who holds it, as the database of `state.url` does not answer;
    /// null where it can.
    pub unknown_since: Option<String>,
    /// When the replica that was asked began to read all that; not part of the answer.
    #[serde(skip)]
    pub read_at: Option<Instant>,
}

impl LeaseStatus {
    /// Did nobody hold it when it was looked at, or is that not known?
    pub fn is_unheld(&self) -> bool {
        self.holder.is_none()
    }

    /// Is it a life or more since the leases could be read? Whoever held it then has renewed it unseen, or holds it no more. Where
    /// nobody did, that is not known any more after half of that.
    pub fn is_outdated(&self, life: Duration) -> bool {
        let longest = if self.is_unheld() { life / 2 } else { life };
        !self.is_mine && self.unknown_since.is_none() && self.read_at.is_some_and(|at| at.elapsed() >= longest)
    }
}

impl ProjectStatus {
    /// Nothing says any more who holds it.
    pub fn forget_holder(&mut self) {
        if let Some(lease) = &mut self.lease {
            (lease.is_mine, lease.holder) = (false, None);
        }
        for replica in self.checkouts.iter_mut().flat_map(|checkouts| &mut checkouts.replicas) {
            replica.is_holder = false;
        }
    }
}

/// A kind, or one resource of it, that is only observed for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspensionStatus {
    /// The YAML key.
    pub kind: String,
    /// The identity; null for all of the kind.
    pub id: Option<String>,
    /// RFC 3339.
    pub since: String,
    /// RFC 3339.
    pub until: String,
    /// Who gave the order: an address, and with replicas the one that it was given to; null where nobody knows.
    pub by: Option<String>,
}

/// What is known of the YAML.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DesiredStatus {
    /// Is the newest revision in force?
    pub valid: bool,
    /// Digest of the content in force.
    pub revision: Option<String>,
    /// Label from git, `abc-dirty`.
    pub commit: Option<String>,
    /// RFC 3339.
    pub loaded_at: Option<String>,
    /// Declared.
    pub resources: u64,
    /// Of the newest revision.
    pub errors: Vec<DesiredError>,
}

/// One thing wrong with the YAML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DesiredError {
    /// Below `source.path`.
    pub file: String,
    /// From 1; 0 for a whole file.
    pub line: u32,
    /// What to do about it.
    pub message: String,
}

/// Changes that wait for an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldStatus {
    /// What an approval names.
    pub fingerprint: String,
    /// Of a closed set.
    pub reason: String,
    /// All of them.
    pub changes: u64,
    /// Those that delete.
    pub deletes: u64,
}

/// Changes that wait for one reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldStatus {
    /// Of a closed set.
    pub reason: Cow<'static, str>,
    /// Since when something waits for it, RFC 3339; null before anybody noted that.
    pub since: Option<String>,
    /// Can an approval end it?
    pub approvable: bool,
    /// When time ends it for the first of them, RFC 3339; null where it does not.
    pub until: Option<String>,
    /// How many changes.
    pub changes: usize,
    /// What ends it.
    pub ends_with: Cow<'static, str>,
    /// What is held, where it is no changes that were planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Of files that are put aside: their digest, which an approval names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Is nothing of the project written for it? Left out where something may be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stops_project: bool,
    /// Does it take somebody to do something? Not part of the answer.
    #[serde(skip)]
    pub needs_a_person: bool,
    /// The first of them. Not part of the answer, whose changes name their reason.
    #[serde(skip)]
    pub things: Vec<HeldThing>,
}

impl HoldStatus {
    /// It is approved, and no plan knows of that yet.
    pub fn approve(&mut self) {
        if std::mem::take(&mut self.approvable) {
            self.ends_with = APPROVED.into();
            self.needs_a_person = false;
        }
    }
}

/// A resource, or a part of one, that is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldThing {
    /// `KIND/ID`, with the part where it is not the main one.
    pub name: String,
    /// For people.
    pub why: Option<String>,
    /// A digest of what is to be done to it.
    pub what: String,
}

/// One resource that somebody else turns back again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContestedStatus {
    /// The YAML key.
    pub kind: String,
    /// The identity.
    pub id: String,
    /// The field.
    pub path: String,
    /// What the files say, as JSON, shortened.
    pub declared: String,
    /// What somebody else sets.
    pub live: String,
    /// How often.
    pub times: u64,
    /// RFC 3339: the first time.
    pub since: String,
    /// RFC 3339: when it is set again unless it is touched before.
    pub until: String,
    /// Who set that, how and when, where it is known.
    pub actor: Option<String>,
    /// The same of one of the times before, where it is not.
    pub former_actor: Option<String>,
    /// Is Descope's audit trail still to be asked who it was? Not part of the answer.
    #[serde(skip)]
    pub is_asked: bool,
}

/// One pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassStatus {
    /// `startup`, `watch`, `interval`, `signal` or `api`.
    pub trigger: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// `noop`, `applied`, `partial`, `held` or `failed`.
    pub result: String,
    /// Planned.
    pub changes: u64,
}

/// The queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// May go now.
    pub ready: u64,
    /// Wait for their backoff.
    pub delayed: u64,
    /// Are being sent.
    pub in_flight: u64,
    /// What they depend on failed.
    pub blocked: u64,
    /// Refused until something changes.
    pub parked: u64,
}

/// One limiter.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimiterStatus {
    /// Of the API.
    pub host: String,
    /// `budget` or `adaptive`.
    pub algorithm: &'static str,
    /// null while no limit is known.
    pub requests_per_second: Option<f64>,
    /// Requests a window may hold.
    pub budget: Option<f64>,
    /// Of those, in use.
    pub used: usize,
    /// RFC 3339.
    pub paused_until: Option<String>,
    /// RFC 3339: when one of the requests in use may be used again, where something waits for that, for want of a pause; not part of
    /// the answer.
    #[serde(skip)]
    pub free_at: Option<String>,
    /// What refusals took of the budget, back at the latest; null where they took nothing.
    pub way_back: Option<WayBackStatus>,
    /// 429 answers.
    pub throttled_total: u64,
    /// 429 answers in each minute of the last hour, the current one last.
    pub throttled_by_minute: Vec<u32>,
    /// Requests that ended in each of those minutes, refused ones included.
    pub requests_by_minute: Vec<u32>,
    /// null for the other algorithm.
    pub adaptive: Option<AdaptiveStatus>,
}

/// What a budget is again, unless something is refused before.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WayBackStatus {
    /// RFC 3339: at the latest.
    pub at: String,
    /// Requests a window may hold then.
    pub budget: f64,
    /// The same as a rate.
    pub requests_per_second: f64,
}

impl LimiterStatus {
    /// In a few words, for a line that says other things as well.
    pub fn in_words(&self, now: SystemTime) -> String {
        let opens = self.paused_until.as_deref().and_then(|until| humantime::parse_rfc3339(until).ok());
        if let Some(opens) = opens {
            let seconds = opens.duration_since(now).unwrap_or_default().as_secs();
            return format!("Descope's rate limit is reached: nothing is sent for {seconds} s");
        }
        match (self.budget, self.requests_per_second) {
            (Some(budget), _) => of_window(self.used as u64, budget),
            (None, Some(rate)) => format!("{} requests a second", rounded(rate)),
            (None, None) => "no rate limit is known".to_owned(),
        }
    }
}

/// How much of a budget is used; what was sent before it shrank still counts.
#[allow(clippy::cast_precision_loss, reason = "requests of a window")]
pub fn of_window(used: u64, budget: f64) -> String {
    if used as f64 > budget {
        return format!("all {} requests of the window used", rounded(budget.floor()));
    }
    format!("{used} of {} requests of the window used", rounded(budget))
}

/// A limit that is learned is seldom whole.
pub fn rounded(number: f64) -> String {
    format!("{number:.1}").trim_end_matches(".0").to_owned()
}

/// What the original design shows of its limiter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdaptiveStatus {
    /// Requests per second.
    pub current_rate: f64,
    /// Requests per second.
    pub min_rate: f64,
    /// Requests per second.
    pub max_rate: f64,
    /// Successes since the last change of the rate.
    pub success_count: u32,
}

/// One thing that does not go ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The YAML key.
    pub kind: String,
    /// The identity.
    pub id: String,
    /// `parked`, `blocked` or `retrying`.
    pub state: ProblemState,
    /// What the operator should know.
    pub message: String,
    /// Tries so far.
    pub attempts: u32,
    /// RFC 3339; null where nothing is scheduled.
    pub next_attempt_at: Option<String>,
    /// Where the YAML declares it.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
}

/// Why a resource does not go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ProblemState {
    /// Refused for good until something changes.
    Parked,
    /// What it depends on failed.
    Blocked,
    /// Failed for now; another try is scheduled.
    Retrying,
}

/// Where the loops leave what they know.
#[derive(Debug)]
pub struct Board {
    status: watch::Sender<Status>,
    /// What replicas say that write projects which this one does not.
    others: watch::Sender<elsewhere::Others>,
    interval: Duration,
    pulses: Mutex<Vec<Pulse>>,
    components: Mutex<Vec<Component>>,
    /// Receivers of notifications that are not told.
    untold: Mutex<BTreeSet<String>>,
}

impl Board {
    /// Projects by name and policy, in the config's order. `interval` is the time between full passes.
    pub fn new(interval: Duration, projects: &[(&str, &'static str)]) -> Self {
        let project = |(name, policy): &(&str, &'static str)| ProjectStatus {
            name: (*name).to_owned(),
            policy,
            converged: false,
            not_converged_because: Some("pending"),
            refused_because: None,
            refused_since: None,
            lease: None,
            checkouts: None,
            suspended_until: None,
            suspended_by: None,
            suspensions: Vec::new(),
            desired: DesiredStatus::default(),
            planned_revision: None,
            held: None,
            holds: Vec::new(),
            contested: Vec::new(),
            last_pass: None,
            undeclared: 0,
            waits: Vec::new(),
            wait_counts: BTreeMap::new(),
            host: String::new(),
            turn: Turn::of_traffic(None, false),
            problems: Vec::new(),
            overview: Overview::default(),
            readiness: Readiness::default(),
        };
        let status = Status {
            format_version: 1,
            version: env!("CARGO_PKG_VERSION"),
            started_at: rfc3339(clock::now()),
            can_order: false,
            projects: projects.iter().map(project).collect(),
            queue: QueueStatus::default(),
            limiters: Vec::new(),
            components: Vec::new(),
            others_write: false,
            is_database_silent: false,
        };
        Self {
            status: watch::Sender::new(status),
            others: watch::Sender::default(),
            interval,
            pulses: Mutex::default(),
            components: Mutex::default(),
            untold: Mutex::default(),
        }
    }

    /// Changes what is known of a project; nothing happens for a name that the config does not have.
    pub fn project(&self, name: &str, change: impl FnOnce(&mut ProjectStatus)) {
        self.status.send_if_modified(|status| {
            let project = status.projects.iter_mut().find(|project| project.name == name);
            project.map(change).is_some()
        });
    }

    /// Is there a token, without which nobody may give orders?
    pub fn let_order(&self, is_so: bool) {
        self.status.send_if_modified(|status| std::mem::replace(&mut status.can_order, is_so) != is_so);
    }

    /// May anybody give orders?
    pub fn can_order(&self) -> bool {
        self.status.borrow().can_order
    }

    /// Does a replica write projects that this config does not have?
    pub fn others_write(&self, is_so: bool) {
        self.status.send_if_modified(|status| std::mem::replace(&mut status.others_write, is_so) != is_so);
    }

    /// When the timer sets off the next full pass of every project.
    pub fn next_interval(&self, at: SystemTime) {
        self.status.send_modify(|status| {
            for project in &mut status.projects {
                project.overview.timer_at = Some(at);
                project.overview.schedule();
            }
        });
    }

    /// Replaces what is known of the queue and the limiters, and what waits for those, or for calls that hang; nobody is told
    /// where nothing is new.
    pub fn traffic(&self, queue: QueueStatus, limiters: Vec<LimiterStatus>, are_hanging: bool) {
        self.status.send_if_modified(|status| {
            let mut is_new = status.queue != queue || status.limiters != limiters;
            for project in &mut status.projects {
                let Some(limiter) = limiters.iter().find(|limiter| limiter.host == project.host) else { continue };
                is_new |=
                    project.overview.tell_look(limiter.paused_until.as_ref(), limiter.free_at.as_ref(), clock::now());
                let turn = Turn::of_traffic(limiter.paused_until.clone(), are_hanging);
                is_new |= project.turn.is_of_limiter() && project.turn != turn;
                turn.retell(&mut project.waits, &mut project.wait_counts);
                if project.turn.is_of_limiter() {
                    project.turn = turn;
                }
            }
            status.queue = queue;
            status.limiters = limiters;
            is_new
        });
    }

    /// A look of this project began then, or is over. It is told only where it takes long.
    pub fn looks(&self, project: &str, began: Option<SystemTime>) {
        self.status.send_if_modified(|status| {
            let project = status.projects.iter_mut().find(|known| known.name == project);
            project.is_some_and(|project| {
                project.overview.look_began = began;
                project.overview.look.take().is_some()
            })
        });
    }

    /// Looks at what is known of a project; `None` for a name that the config does not have.
    pub fn look_at<T>(&self, project: &str, look: impl FnOnce(&ProjectStatus) -> T) -> Option<T> {
        self.status.borrow().projects.iter().find(|known| known.name == project).map(look)
    }

    /// The other projects that send to the same host as this one.
    pub fn beside(&self, project: &str) -> Vec<String> {
        let status = self.status.borrow();
        let host = |name: &str| status.projects.iter().find(|known| known.name == name).map(|known| &known.host);
        let own = host(project);
        let others = status.projects.iter().filter(|known| known.name != project && Some(&known.host) == own);
        others.map(|known| known.name.clone()).collect()
    }

    /// As it is now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Sees every change from now on, the latest at any rate.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// A loop that promises to turn. It is alive from now on until it falls silent.
    pub fn pulse(&self) -> Pulse {
        let pulse = Pulse::new();
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(pulse.clone());
        pulse
    }

    /// Do all loops turn?
    pub fn is_alive(&self) -> bool {
        let now = Instant::now();
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|pulse| pulse.is_alive(now))
    }

    /// Which projects are not ready, and why; empty when all are.
    pub fn not_ready(&self) -> Vec<NotReady> {
        let now = Instant::now();
        let status = self.status.borrow();
        let reason = |project: &ProjectStatus| {
            let reason = project.readiness.reason(now, self.interval)?;
            Some(NotReady { project: project.name.clone(), reason })
        };
        status.projects.iter().filter_map(reason).collect()
    }

    /// Says how a component is; it keeps its time while its level and reason stay.
    pub fn component(&self, name: &'static str, project: Option<&str>, level: Level, reason: Option<&'static str>) {
        self.component_since(name, project, (level, reason), None);
    }

    /// The same of what knows better than this board since when it is so.
    pub fn component_since(
        &self,
        name: &'static str,
        project: Option<&str>,
        (level, reason): (Level, Option<&'static str>),
        since: Option<SystemTime>,
    ) {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Component {
            name,
            project: project.map(str::to_owned),
            status: level,
            reason,
            since: rfc3339(since.unwrap_or_else(clock::now)),
        };
        match components.iter_mut().find(|old| old.name == new.name && old.project == new.project) {
            Some(old) if (old.status, old.reason) == (level, reason) => {}
            Some(old) => *old = new,
            None => components.push(new),
        }
        drop(components);
        let is_so = self.is_database_silent();
        self.status.send_if_modified(|status| std::mem::replace(&mut status.is_database_silent, is_so) != is_so);
    }

    /// Does this receiver of notifications get them?
    pub fn delivered(&self, receiver: &str, is_so: bool) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if is_so {
            untold.remove(receiver);
        } else {
            untold.insert(receiver.to_owned());
        }
        let (level, reason) =
            if untold.is_empty() { (Level::Ok, None) } else { (Level::Degraded, Some("not delivered")) };
        self.component("notifications", None, level, reason);
    }

    /// All components, and the worst of them.
    pub fn health(&self) -> Health {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Whoever stands by does not know by itself whether there is anybody to stand by for.
        for component in components.iter_mut().filter(|component| component.reason == Some(STANDS_BY)) {
            let project = component.project.as_deref().unwrap_or_default();
            let unheld = |status: &ProjectStatus| {
                let lease = status.lease.as_ref().filter(|lease| lease.is_unheld())?;
                Some(if lease.unknown_since.is_some() { HOLDER_UNKNOWN } else { "no replica holds the project" })
            };
            if let Some(reason) = self.look_at(project, unheld).flatten() {
                (component.status, component.reason) = (Level::Starting, Some(reason));
            }
        }
        // One database, one cause, which is told once.
        if components.iter().any(is_silent) {
            for state in components.iter_mut().filter(|it| it.name == "state" && it.status == Level::Degraded) {
                (state.status, state.reason) = (Level::Starting, Some("not known: see lease"));
            }
        }
        Health::of(components)
    }

    /// Do replicas share a database that does not answer?
    pub fn is_database_silent(&self) -> bool {
        self.components.lock().unwrap_or_else(PoisonError::into_inner).iter().any(is_silent)
    }
}

fn is_silent(component: &Component) -> bool {
    component.name == "lease" && component.reason == Some(DATABASE_SILENT)
}

#[cfg(test)]
mod tests;
