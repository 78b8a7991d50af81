//! The settings: read from flags, environment and one YAML file, checked, and worded for whoever has to mend them.
//!
//! Reading comes in two steps. [`Config::load`] needs no credentials, so that files can be validated anywhere.
//! [`Config::connections`] then finds out which Descope projects are meant and with which keys, and refuses every
//! combination that could send a key or a change to the wrong place.

use globset::Glob;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod check;
mod connect;
mod error;
mod lines;
mod notifications;
mod raw;
pub mod schema;
mod secret;
mod values;

pub use check::log_format;
pub use connect::Connection;
pub use connect::base_url;
pub use error::Invalid;
pub use error::Problem;
pub use notifications::Form;
pub use notifications::Notice;
pub use notifications::Receiver;
pub use notifications::Sink;
pub use notifications::address;
pub use secret::SecretRef;
pub use secret::SecretSource;
pub use values::span;

/// Reads one environment variable. A parameter everywhere, so that tests bring their own; [`process_env`] is the real
/// one. An empty value counts as unset.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where git-sync and `ConfigMap` mounts are put by convention.
pub const SOURCE_PATH: &str = "/config";
/// An editor's save and most of a `git checkout` fit into it.
pub const SOURCE_DEBOUNCE: Duration = Duration::from_millis(500);
/// Heals drift soon enough, and costs a handful of list calls.
pub const SOURCE_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Three calls for each of 400 tenants, under the limit that Descope documents.
pub const SOURCE_DEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// More than a person deletes by hand in a day, less than a bad merge does.
pub const MAX_DELETES: u32 = 10;
/// Kinds whose deletion takes users, callers or data down with it, or cannot be undone: never without approval.
pub const NEVER_DELETED: [&str; 11] = [
    "tenants",
    "accessKeys",
    "userAttributes",
    "tenantAttributes",
    "accessKeyAttributes",
    "ssoApplicationAttributes",
    "fgaSchema",
    "ssoApplications",
    "inboundApps",
    "outboundApps",
    "flows",
];
/// Of what is owned of a kind.
pub const MAX_DELETE_PERCENT: u8 = 20;
/// More than goes missing by hand in a day, less than a list lacks that was cut off.
pub const MAX_MISSING: u32 = 10;
/// Of what is owned of a kind.
pub const MAX_MISSING_PERCENT: u8 = 20;
/// Longer than any half-finished push or sync.
pub const DELETE_AFTER: Duration = Duration::from_secs(60);
/// An approval that nobody used is forgotten, since the world has moved on.
pub const APPROVAL_EXPIRY: Duration = Duration::from_secs(60 * 60);
/// Ships with every Descope project and carries no marker in the API.
pub const BUILT_IN_ROLES: [&str; 1] = ["Tenant Admin"];
/// What Descope documents for everything not listed elsewhere: 100 requests in 60 s.
pub const RATE_LIMIT: (f64, Duration) = (100.0, Duration::from_secs(60));
/// The documented back-off of that limit.
pub const LOCKOUT: Duration = Duration::from_secs(60);
/// A tenth of the limit is left to others behind the same IP.
pub const RESERVE: f64 = 0.10;
/// Replicas leave through one address unless it is said otherwise: sharing what is not shared costs time, the reverse lockouts.
pub const EGRESS: &str = "default";
/// The original design's numbers.
pub const ADAPTIVE: Adaptive = Adaptive {
    initial_rate: 10.0,
    min_rate: 1.0,
    max_rate: 100.0,
    decrease_factor: 0.5,
    increase_factor: 1.1,
    success_threshold: 50,
};
/// The original design's numbers: 1, 2, 4, 8 s between five attempts.
pub const RETRY: Retry =
    Retry { max_attempts: 5, initial_backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(60) };
/// Descope's own SDKs wait up to 60 s; an answer that takes half of that is as good as lost.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Enough to hide latency at any rate that Descope permits.
pub const CONCURRENCY: usize = 8;
/// A list of 100,000 tenants takes about 50 MB.
pub const MAX_ANSWER_MIB: u32 = 256;
/// Probes and scrapes come from outside the container.
pub const LISTEN: &str = "0.0.0.0:8080";
/// The variable of the API token unless the file names another.
pub const TOKEN_VARIABLE: &str = "DESCOPE_GITOPS_TOKEN";
/// Below the working directory.
pub const STATE_PATH: &str = "./state";
/// A replica that was killed is replaced within half a minute.
pub const LEASE_LIFE: Duration = Duration::from_secs(20);
/// Two may be lost before a lease is.
pub const LEASE_RENEW: Duration = Duration::from_secs(5);
/// Passes, changes, start and stop.
pub const LOG_LEVEL: &str = "info";

/// Every top-level key of the desired state; `maxDeletes` is checked against it.
pub const KINDS: [&str; 19] = [
    "permissions",
    "roles",
    "tenants",
    "flows",
    "theme",
    "fgaSchema",
    "ssoApplications",
    "inboundApps",
    "jwtTemplates",
    "lists",
    "accessKeys",
    "outboundApps",
    "userAttributes",
    "tenantAttributes",
    "accessKeyAttributes",
    "ssoApplicationAttributes",
    "passwordSettings",
    "project",
    "scopeClaimMapping",
];

/// What flags, or the environment in their place, say. `None` and empty: not given.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`.
    pub config: Option<String>,
    /// `--source`.
    pub source: Option<String>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--state`.
    pub state: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
}

/// The settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file they came from; `None` where flags and environment said it all.
    pub file: Option<PathBuf>,
    /// The config repo.
    pub source: Source,
    /// At least one.
    pub projects: Vec<Project>,
    /// Does the file have `projects`? Otherwise the one project is made from the official tools' variables.
    pub declares_projects: bool,
    /// The limiter.
    pub rate_limit: RateLimit,
    /// Within one call.
    pub retry: Retry,
    /// For one HTTP attempt.
    pub request_timeout: Duration,
    /// Bytes of one answer at most.
    pub max_answer: usize,
    /// Workers.
    pub concurrency: NonZeroUsize,
    /// What the daemon serves.
    pub http: Http,
    /// Where the state is.
    pub state: StateAt,
    /// Who is told what.
    pub notifications: Vec<Sink>,
    /// Logging.
    pub log: Log,
    lines: lines::Lines,
}

/// `state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateAt {
    /// The directory of `state.db`.
    Directory(PathBuf),
    /// A database that replicas share.
    Database(Database),
}

/// `state.url`, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Where, with the password.
    pub url: SecretRef,
    /// What fingerprints are keyed with.
    pub fingerprint_key: SecretRef,
    /// How long a project is held without a sign of life.
    pub life: Duration,
    /// How often one is given.
    pub renew: Duration,
}

/// `source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Root of the config repo, as written.
    pub path: PathBuf,
    /// Globs below it, for YAML that is not ours.
    pub exclude: Vec<Glob>,
    /// Quiet time after the last file event.
    pub debounce: Duration,
    /// Between full passes.
    pub interval: Duration,
    /// What costs a call for each resource is seen at least this often, as far as a fifth of the limit allows.
    pub deep_interval: Duration,
}

/// One of `projects`.
#[derive(Debug, Clone)]
pub struct Project {
    /// Label on metrics and status.
    pub name: Arc<str>,
    /// Below `source.path`, normalised; the empty path is the root itself. No two overlap.
    pub paths: Vec<PathBuf>,
    /// What may be written.
    pub policy: Policy,
    /// Names this repo's claim.
    pub owner: Arc<str>,
    /// What happens when live resources exist that we never saw.
    pub first_contact: FirstContact,
    /// What holds changes.
    pub guards: Guards,
    /// What is done about drift.
    pub drift: Drift,
    /// What the repo may refer to.
    pub secrets: Secrets,
    /// Roles that Descope ships without a marker; never touched.
    pub built_in_roles: Vec<String>,
    id: Option<Setting>,
    base_url: Option<Setting>,
    management_key: Option<SecretRef>,
}

/// A value that may be written out or taken from the environment.
#[derive(Clone, PartialEq, Eq)]
enum Setting {
    Literal(String),
    Env(String),
}

/// A base URL that is refused later may hold a password.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal"),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
        }
    }
}

/// `policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Never writes.
    Observe,
    /// Creates what is missing, changes nothing that is there.
    CreateOnly,
    /// Creates and updates, deletes nothing.
    UpsertOnly,
    /// Also deletes what it owns.
    Sync,
}

impl Policy {
    /// As the config writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::CreateOnly => "create-only",
            Self::UpsertOnly => "upsert-only",
            Self::Sync => "sync",
        }
    }
}

/// `firstContact`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstContact {
    /// Held whole until approved.
    Hold,
    /// Nothing special.
    Apply,
}

/// `guards`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guards {
    /// Deletes in 24 hours, for kinds that `max_deletes_by_kind` does not name.
    pub max_deletes: u32,
    /// The same, by kind.
    pub max_deletes_by_kind: BTreeMap<String, u32>,
    /// Of what is owned of a kind; `None`: off.
    pub max_delete_percent: Option<u8>,
    /// How many of what is owned a list may lack and still be believed, for kinds that `max_missing_by_kind` does not
    /// name.
    pub max_missing: u32,
    /// The same by kind.
    pub max_missing_by_kind: BTreeMap<String, u32>,
    /// The same, of what is owned; `None`: off.
    pub max_missing_percent: Option<u8>,
    /// Changes of any sort, of what is declared of a kind; `None`: off.
    pub max_change_percent: Option<u8>,
    /// How long an absence has to stand before it counts.
    pub delete_after: Duration,
    /// How long an approval is good for.
    pub approval_expiry: Duration,
    /// What happens to a change that lowers protection.
    pub weakening: Watch,
    /// What happens to one that may lock people out.
    pub lockout: Watch,
}

/// `drift`: what is done about what somebody else changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// For kinds that `by_kind` does not name.
    pub default: DriftRule,
    /// By kind.
    pub by_kind: BTreeMap<String, DriftRule>,
}

/// The same for one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriftRule {
    /// Is it ever put back?
    pub mode: DriftMode,
    /// How old it has to be before it is.
    pub min_age: Duration,
}

/// `drift.mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DriftMode {
    /// It is put back.
    #[default]
    Heal,
    /// It is shown and left as it is.
    Report,
}

/// What a guard does where it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The change waits for an approval.
    Hold,
    /// The plan says so.
    Warn,
    /// Nothing.
    Off,
}

/// `secrets` of a project: what the repo may refer to. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Globs over variable names.
    pub env: Vec<Glob>,
    /// One directory.
    pub dir: Option<PathBuf>,
    /// It is on a volume that all replicas mount.
    pub shared: bool,
}

/// `rateLimit`.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Which limiter.
    pub algorithm: Algorithm,
    /// Requests in a window; `None`: free until the first 429.
    pub limit: Option<(f64, Duration)>,
    /// Back-off where a 429 does not say and nothing was learned.
    pub lockout: Duration,
    /// Share of the limit left to others, 0 up to but without 1.
    pub reserve: f64,
    /// Look for more than `limit`?
    pub probe: bool,
    /// How the server counts.
    pub shape: Pacing,
    /// Settings of [`Algorithm::Adaptive`].
    pub adaptive: Adaptive,
    /// The address that replicas with the same name here leave through, and share the limit of; `None` without `state.url`.
    pub egress: Option<String>,
}

/// `rateLimit.algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Spends and learns the window's budget.
    Budget,
    /// The original design.
    Adaptive,
}

/// `rateLimit.shape`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// Find out.
    Auto,
    /// Known to be a token bucket.
    Paced,
}

/// `rateLimit.adaptive`; rates are requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    /// At start.
    pub initial_rate: f64,
    /// Never slower.
    pub min_rate: f64,
    /// Never faster.
    pub max_rate: f64,
    /// On a 429; between 0 and 1.
    pub decrease_factor: f64,
    /// After enough successes; above 1.
    pub increase_factor: f64,
    /// Successes on end.
    pub success_threshold: u32,
}

/// `retry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries within one call, the first included; at least 1.
    pub max_attempts: u32,
    /// Wait after the first failure.
    pub initial_backoff: Duration,
    /// No wait is longer.
    pub max_backoff: Duration,
}

/// `http`.
#[derive(Debug, Clone)]
pub struct Http {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    token: SecretRef,
}

/// `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// A level, or directives as in `RUST_LOG`.
    pub level: String,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people where stderr is a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// The daemon's own credentials: a config repo may never refer to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnCredentials {
    /// Variable names.
    pub variables: BTreeSet<String>,
    /// Files.
    pub files: BTreeSet<PathBuf>,
}

impl Config {
    /// Reads and checks everything that needs no credentials. All that is wrong is reported at once.
    pub fn load(overrides: &Overrides) -> Result<Self, Invalid> {
        check::load(overrides)
    }

    /// The token of the HTTP API; `None` where it is not set.
    pub fn token(&self, env: Env<'_>) -> Result<Option<secrecy::SecretString>, Invalid> {
        let read = self.http.token.resolve(env).map(|source| source.read()).transpose();
        read.map_err(|message| self.problem("http.token", &format!("http.token: {message}")).into())
    }

    /// Names and files of every credential that is the daemon's own.
    pub fn own_credentials(&self) -> OwnCredentials {
        let mut own = OwnCredentials::default();
        own.variables.extend([connect::MANAGEMENT_KEY.to_owned(), TOKEN_VARIABLE.to_owned()]);
        let keys = self.projects.iter().filter_map(|project| project.management_key.as_ref());
        let sinks = self.notifications.iter().flat_map(Sink::secrets);
        let database = match &self.state {
            StateAt::Directory(_) => Vec::new(),
            StateAt::Database(Database { url, fingerprint_key, .. }) => vec![url, fingerprint_key],
        };
        for secret in keys.chain([&self.http.token]).chain(sinks).chain(database) {
            match secret {
                SecretRef::Env(name) => own.variables.insert(name.clone()),
                SecretRef::File(path) => own.files.insert(path.clone()),
            };
        }
        own
    }

    /// A secret that a setting refers to. The error names the setting, and never quotes the secret.
    pub fn secret(&self, key: &str, secret: &SecretRef, env: Env<'_>) -> Result<secrecy::SecretString, Invalid> {
        let found = secret.resolve(env).ok_or_else(|| match secret {
            SecretRef::Env(name) => format!("{name} is not set; {key} names it"),
            SecretRef::File(path) => format!("{} cannot be used; {key} names it", path.display()),
        });
        let read = found.and_then(|source| source.read().map_err(|what| format!("{key}: {what}")));
        read.map_err(|message| self.problem(key, &message).into())
    }

    /// Something is wrong with a setting, told with its place.
    pub fn problem(&self, key: &str, message: &str) -> Problem {
        Problem { file: self.file.clone(), line: self.lines.of(key), message: message.to_owned() }
    }
}

/// The address that `listen` means: `ADDRESS:PORT`, or `localhost:PORT`.
pub fn listen_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests;
