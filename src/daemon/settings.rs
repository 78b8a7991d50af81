//! From the checked config to what each part needs: parts never see the whole config.

use super::Parts;
use crate::backoff::Backoff;
use crate::config;
use crate::config::Config;
use crate::config::Connection;
use crate::config::Env;
use crate::config::Invalid;
use crate::descope;
use crate::descope::KeySource;
use crate::desired::secrets::Fence;
use crate::desired::secrets::Secrets;
use crate::desired::volume::Volume;
use crate::limiter;
use crate::limiter::Limiter;
use crate::limiter::memory::Memory;
use crate::notifications;
use crate::notifications::Notifier;
use crate::observed::Deep;
use crate::observed::Share;
use crate::plan::DriftRule;
use crate::plan::DriftRules;
use crate::plan::Guards;
use crate::plan::Policy;
use crate::plan::Watch;
use crate::plan::guards::Most;
use crate::plan::render::Pace;
use crate::reconcile::assess::FirstContact;
use crate::reconcile::assess::Rules;
use crate::reconcile::contest;
use crate::resource;
use crate::source::loader;
use crate::source::tree::NamedFiles;
use crate::source::tree::Tree;
use crate::state::BadSetting;
use crate::state::Place;
use crate::state::SharedPlace;
use crate::state::State;
use crate::telemetry::redact::Redactor;
use crate::telemetry::repeats::is_worth_a_line;
use globset::GlobSet;
use globset::GlobSetBuilder;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What the limiter learned is written at most this often: a kill in between may cost one lockout.
const MEMORY_EVERY: Duration = Duration::from_millis(100);

/// `state`.
pub fn place(config: &Config, env: Env<'_>) -> Result<Place, Invalid> {
    let database = match &config.state {
        config::StateAt::Directory(dir) => return Ok(Place::Directory(dir.clone())),
        config::StateAt::Database(database) => database,
    };
    let url = config.secret("state.url", &database.url, env)?;
    let key = config.secret("state.fingerprintKey", &database.fingerprint_key, env)?;
    SharedPlace::new(&url, &key, database.life, database.renew).map(|shared| Place::Database(Box::new(shared))).map_err(
        |what| {
            let setting = match what {
                BadSetting::Url(_) => "state.url",
                BadSetting::Key => "state.fingerprintKey",
            };
            config.problem(setting, &format!("{setting} {what}")).into()
        },
    )
}

/// `retry`.
pub fn backoff(config: &Config) -> Backoff {
    let config::Retry { max_attempts, initial_backoff, max_backoff } = config.retry;
    Backoff { max_attempts, initial: initial_backoff, max: max_backoff }
}

/// One project's client.
pub fn client(config: &Config, connection: &Connection, redactor: &Redactor) -> descope::Settings {
    descope::Settings {
        project_id: connection.project_id.clone(),
        base_url: connection.base_url.clone(),
        request_timeout: config.request_timeout,
        retry: backoff(config),
        redactor: redactor.clone(),
    }
}

/// Who is told what, one loop each. What was told to those that are no more is forgotten; other replicas may have more of them.
pub fn notifiers(config: &Config, env: Env<'_>, parts: &Parts, redactor: &Redactor) -> Result<Vec<Notifier>, Invalid> {
    let receivers = config.receivers(env)?;
    notifications::start_series(&parts.metrics);
    let names: Vec<&str> = receivers.iter().map(|receiver| receiver.name.as_str()).collect();
    let is_shared = matches!(config.state, config::StateAt::Database(_));
    if !is_shared && let Err(error) = parts.state.keep_receivers(&names) {
        tracing::warn!(%error, "cannot forget what receivers were told that are no more");
    }
    let notifier = |receiver| Notifier {
        receiver,
        state: parts.state.clone(),
        backoff: backoff(config),
        metrics: Arc::clone(&parts.metrics),
        board: Arc::clone(&parts.board),
        redactor: redactor.clone(),
    };
    Ok(receivers.into_iter().map(notifier).collect())
}

/// The management key, read anew where it may change; what was read is redacted from then on.
pub fn key_source(connection: &Connection, redactor: &Redactor) -> KeySource {
    let (source, redactor) = (connection.management_key.clone(), redactor.clone());
    Arc::new(move || {
        let key = source.read()?;
        redactor.add(&key);
        Ok(key)
    })
}

/// How one project is compared.
pub fn rules(config: &Config, project: &config::Project) -> Rules {
    let guards = &project.guards;
    let number = |most: u32| usize::try_from(most).unwrap_or(usize::MAX);
    let most = |default: u32, by_kind: &BTreeMap<String, u32>, percent: Option<u8>| Most {
        default: number(default),
        by_kind: by_kind.iter().map(|(kind, most)| (kind.clone(), number(*most))).collect(),
        // In a day more can go than was owned at its start, when some of it comes back in between.
        percent: percent.map_or(f64::INFINITY, f64::from),
    };
    Rules {
        entry: entry(project),
        others: config.projects.iter().filter(|other| other.name != project.name).map(entry).collect(),
        owner: Arc::clone(&project.owner),
        policy: match project.policy {
            config::Policy::Observe => Policy::Observe,
            config::Policy::CreateOnly => Policy::CreateOnly,
            config::Policy::UpsertOnly => Policy::UpsertOnly,
            config::Policy::Sync => Policy::Sync,
        },
        guards: Guards {
            deletes: most(guards.max_deletes, &guards.max_deletes_by_kind, guards.max_delete_percent),
            missing: most(guards.max_missing, &guards.max_missing_by_kind, guards.max_missing_percent),
            max_change_percent: guards.max_change_percent.map(f64::from),
            weakening: watch(guards.weakening),
            lockout: watch(guards.lockout),
        },
        drift: drift(&project.drift),
        delete_after: guards.delete_after,
        approval_expiry: guards.approval_expiry,
        contest_window: contest::window(config.source.interval),
        builtin_roles: project.built_in_roles.clone(),
        first_contact: match project.first_contact {
            config::FirstContact::Hold => FirstContact::Hold,
            config::FirstContact::Apply => FirstContact::Apply,
        },
    }
}

fn drift(drift: &config::Drift) -> DriftRules {
    let rule = |rule: config::DriftRule| DriftRule {
        heals: match rule.mode {
            config::DriftMode::Heal => true,
            config::DriftMode::Report => false,
        },
        min_age: rule.min_age,
    };
    let by_kind = drift.by_kind.iter().map(|(kind, of_kind)| (kind.clone(), rule(*of_kind)));
    DriftRules { default: rule(drift.default), by_kind: by_kind.collect() }
}

fn watch(watch: config::Watch) -> Watch {
    match watch {
        config::Watch::Hold => Watch::Hold,
        config::Watch::Warn => Watch::Warn,
        config::Watch::Off => Watch::Off,
    }
}

/// What the state binds a project to: the entry's name, and where its files lie.
fn entry(project: &config::Project) -> Arc<str> {
    let mut paths: Vec<String> = project.paths.iter().map(|path| path.display().to_string()).collect();
    paths.sort();
    format!("{}\n{}", project.name, paths.join("\n")).into()
}

/// `rateLimit`.
pub fn limiter(config: &Config) -> limiter::Settings {
    let settings = &config.rate_limit;
    limiter::Settings {
        algorithm: match settings.algorithm {
            config::Algorithm::Budget => limiter::Algorithm::Budget,
            config::Algorithm::Adaptive => limiter::Algorithm::Adaptive,
        },
        limit: settings.limit,
        lockout: settings.lockout,
        reserve: settings.reserve,
        probe: settings.probe,
        shape: match settings.shape {
            config::Pacing::Auto => limiter::Pacing::Auto,
            config::Pacing::Paced => limiter::Pacing::Paced,
        },
        adaptive: adaptive(settings.adaptive),
    }
}

fn adaptive(settings: config::Adaptive) -> limiter::AdaptiveSettings {
    let config::Adaptive { initial_rate, min_rate, max_rate, decrease_factor, increase_factor, success_threshold } =
        settings;
    limiter::AdaptiveSettings { initial_rate, min_rate, max_rate, decrease_factor, increase_factor, success_threshold }
}

/// For the forecast of a plan.
pub fn pace(config: &Config) -> Pace {
    let settings = &config.rate_limit;
    match (settings.algorithm, settings.limit) {
        (config::Algorithm::Adaptive, _) => Pace::Rate(settings.adaptive.initial_rate),
        (config::Algorithm::Budget, Some((n, window))) => {
            Pace::Window((n * (1.0 - settings.reserve)).floor(), window.as_secs_f64())
        }
        (config::Algorithm::Budget, None) => Pace::Free,
    }
}

/// What the limiter of this host had learned; a record that cannot be read is as good as none, and so is what cannot be
/// right in one.
pub fn limiter_memory(state: &State, host: &str) -> Option<Memory> {
    let text = state.limiter_memory(host).unwrap_or_else(|error| {
        tracing::warn!(%error, host, "cannot read what the limiter had learned; it starts from the configured limit");
        None
    })?;
    let memory = serde_json::from_str(&text);
    let Ok(mut memory): Result<Memory, _> = memory else {
        tracing::warn!(host, "what the limiter had learned is damaged; it starts from the configured limit");
        return None;
    };
    for dropped in drop_nonsense(&mut memory) {
        tracing::warn!(host, dropped, "what the limiter had learned cannot be right in part; that part is dropped");
    }
    Some(memory)
}

/// A window holds whole requests, and no API lets so many through.
const REQUESTS: RangeInclusive<f64> = 1.0..=1e6;

/// Seconds.
const WINDOWS: RangeInclusive<f64> = 1e-3..=DAY;

/// Requests per second. Slower than once an hour is not learned, it is damage.
const RATES: RangeInclusive<f64> = 1.0 / 3600.0..=1e6;

/// No refusal lasts longer.
const DAY: f64 = 24.0 * 3600.0;

/// Until when RFC 3339 can write a time.
const TIMES: RangeInclusive<f64> = 0.0..=253_402_300_799.0;

/// What was dropped.
fn drop_nonsense(memory: &mut Memory) -> Vec<&'static str> {
    let mut dropped = Vec::new();
    let mut check = |name, is_right: bool| {
        if !is_right {
            dropped.push(name);
        }
        is_right
    };
    if !check("savedAt", TIMES.contains(&memory.saved_at)) {
        // Every other time counts from it.
        *memory = Memory {
            n: memory.n,
            window: memory.window,
            limit: memory.limit,
            rate: memory.rate,
            floor: memory.floor,
            ..Memory::default()
        };
    }
    memory.n = memory.n.filter(|n| check("n", REQUESTS.contains(n)));
    memory.window = memory.window.filter(|window| check("window", WINDOWS.contains(window)));
    memory.rate = memory.rate.filter(|rate| check("rate", RATES.contains(rate)));
    let saved_at = memory.saved_at;
    let is_near = |at: f64| (at - saved_at).abs() <= DAY;
    memory.paused_until = memory.paused_until.filter(|until| check("pausedUntil", is_near(*until)));
    if !check("floor", (0.0..=DAY).contains(&memory.floor)) {
        memory.floor = 0.0;
    }
    if !check("done", memory.done.len() <= 1_000_000 && memory.done.iter().all(|at| is_near(*at))) {
        memory.done = Vec::new();
    }
    dropped
}

/// Writes down what the limiter learns, so that a restart in the middle of a lockout sends nothing into it.
pub async fn keep_limiter_memory(host: String, limiter: Limiter, state: State, stop: CancellationToken) {
    let mut changed = limiter.changed();
    let mut failed = 0;
    limiter.keep();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            change = changed.changed() => if change.is_err() { break },
        }
        let was_closed = is_closed(&limiter);
        let memory = save(&host, &limiter, &state, &mut failed);
        limiter.kept(&memory);
        if !memory.busy {
            continue; // the next request begins something, and that is written at once
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(MEMORY_EVERY) => {}
            // A refusal does not wait its turn: killed before it is written, the next start would send into it.
            () = closing(&limiter, was_closed) => {}
        }
    }
    limiter.forget();
    save(&host, &limiter, &state, &mut failed);
}

/// Waits until the gate closes; one that `was_closed` already has to open first.
async fn closing(limiter: &Limiter, mut was_closed: bool) {
    let mut changed = limiter.changed();
    loop {
        let is_closed = is_closed(limiter);
        if is_closed && !was_closed || changed.changed().await.is_err() {
            return;
        }
        was_closed = is_closed;
    }
}

fn is_closed(limiter: &Limiter) -> bool {
    limiter.status().paused_until.is_some()
}

/// Writes it once; gives what was written. `failed`: how often in a row it could not be, by now.
pub fn save(host: &str, limiter: &Limiter, state: &State, failed: &mut u64) -> Memory {
    let memory = limiter.memory();
    let written = serde_json::to_string(&memory)
        .map_err(|error| error.to_string())
        .and_then(|text| state.set_limiter_memory(host, &text).map_err(|error| error.to_string()));
    let Err(error) = written else {
        *failed = 0;
        return memory;
    };
    *failed += 1;
    if is_worth_a_line(*failed, false) {
        let times = *failed;
        tracing::warn!(error, host, times, "cannot write what the limiter learned; a restart may run into a lockout");
    }
    memory
}

/// The files of one project.
pub fn loader(config: &Config, project: &config::Project) -> loader::Settings {
    let others = config.projects.iter().filter(|other| other.name != project.name);
    let paths = |other: &config::Project| {
        let name: Arc<str> = Arc::from(&*other.name);
        other.paths.clone().into_iter().map(move |path| (Arc::clone(&name), path))
    };
    let tree = Tree {
        root: config.source.path.clone(),
        paths: project.paths.clone(),
        others: others.flat_map(paths).collect(),
        exclude: globs(&config.source.exclude),
        named: NamedFiles::default(),
    };
    let apart = config.source.debounce.max(loader::APART);
    loader::Settings { apart, ..loader::Settings::new(tree, fence(config, project), resource::ALL) }
}

/// So many parts a pass reads itself, before it compares anything: more would keep the rest of a commit waiting.
const READS_OF_A_PASS: usize = 20;

/// How much of what takes a call for each resource is read, and how often.
pub fn deep(config: &Config) -> Deep {
    // A fifth of what the limit allows; without a limit there is nothing to spare.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float beyond usize saturates")]
    let share = |(requests, window): (f64, Duration)| {
        let fifth = (requests / 5.0) as usize;
        // One for each five windows, where that is less.
        if fifth > 0 { (fifth, window) } else { (1, window.mul_f64(5.0 / requests.max(f64::MIN_POSITIVE))) }
    };
    Deep::new(Share {
        refused: config.source.interval,
        interval: config.source.deep_interval,
        most: config.rate_limit.limit.map(share),
        at_once: READS_OF_A_PASS,
    })
}

/// What its files may refer to, and are read for.
pub fn secrets(config: &Config, project: &config::Project, redactor: &Redactor) -> Secrets {
    Secrets { fence: fence(config, project), redactor: redactor.clone() }
}

/// What its files may refer to.
pub fn fence(config: &Config, project: &config::Project) -> Fence {
    let credentials = config.own_credentials();
    Fence {
        env: globs(&project.secrets.env),
        dir: project.secrets.dir.clone(),
        own_env: credentials.variables.into_iter().collect(),
        own_files: credentials.files.into_iter().collect(),
        volume: match config.state {
            config::StateAt::Directory(_) => Volume::Own,
            config::StateAt::Database(_) if project.secrets.shared => Volume::Common,
            config::StateAt::Database(_) => Volume::Apart,
        },
    }
}

fn globs(globs: &[globset::Glob]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    // Each glob was compiled when the config was read.
    set.build().unwrap_or_else(|_| GlobSet::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_was_learned_only_what_can_be_right_is_believed() {
        let now = 1_700_000_000.0;
        let good = Memory {
            saved_at: now,
            limit: Some((100.0, 60.0)),
            n: Some(42.0),
            window: Some(20.0),
            rate: Some(0.5),
            floor: 30.0,
            paused_until: Some(now + 60.0),
            done: vec![now - 1.0],
            paced: true,
            busy: true,
        };
        let mut same = good.clone();
        assert_eq!((drop_nonsense(&mut same), &same), (vec![], &good));
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e-4, 1e30];
        for value in odd {
            let is_small = (0.0..1.0).contains(&value);
            let mut memory = Memory {
                n: Some(value),
                window: Some(value),
                rate: Some(value),
                paused_until: Some(value),
                floor: if is_small { -1.0 } else { value },
                done: vec![now, value],
                ..good.clone()
            };
            assert_eq!(drop_nonsense(&mut memory), ["n", "window", "rate", "pausedUntil", "floor", "done"], "{value}");
            let expected = Memory {
                n: None,
                window: None,
                rate: None,
                paused_until: None,
                floor: 0.0,
                done: vec![],
                ..good.clone()
            };
            assert_eq!(memory, expected, "{value}");
            let mut memory = Memory { saved_at: value, ..good.clone() };
            if !is_small {
                assert_eq!(drop_nonsense(&mut memory), ["savedAt"], "{value}");
                assert_eq!((memory.n, memory.saved_at, memory.busy), (good.n, 0.0, false), "{value}");
            }
        }
    }

    /// The config imports nothing of the limiter and the limiter nothing of the config, so both say them.
    #[test]
    fn the_limiter_starts_by_default_from_what_the_config_says_by_default() {
        let limiter = limiter::Settings::default();

        assert_eq!(limiter.adaptive, adaptive(config::ADAPTIVE));
        assert_eq!((limiter.limit, limiter.lockout), (Some(config::RATE_LIMIT), config::LOCKOUT));
    }
}
