//! Builds every part, starts every loop, and stops them in order.
//!
//! A loop that ends by itself stops the daemon with an error: better restarted than half dead.

use crate::aside::aside;
use crate::config::Config;
use crate::config::Connection;
use crate::config::Env;
use crate::config::Invalid;
use crate::config::process_env;
use crate::descope::Client;
use crate::descope::transport::Network;
use crate::descope::transport::TransportError;
use crate::http::CannotListen;
use crate::http::History;
use crate::http::Served;
use crate::http::Server;
use crate::limiter::Limiter;
use crate::limiter::Priority;
use crate::notifications::Notifier;
use crate::pause::Pause;
use crate::plan::ProjectName;
use crate::queue::Queue;
use crate::reconcile::Carryover;
use crate::reconcile::Reconciler;
use crate::reconcile::assess::Assessor;
use crate::reconcile::show;
use crate::resource;
use crate::source;
use crate::source::Trigger;
use crate::source::TriggerReceiver;
use crate::source::TriggerSender;
use crate::source::files::Files;
use crate::source::files::Watch;
use crate::source::loader::Loader;
use crate::source::tree::Tree;
use crate::state;
use crate::state::Egress;
use crate::state::Leases;
use crate::state::Place;
use crate::state::Relay;
use crate::state::State;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use crate::telemetry::status::Board;
use crate::worker::Target;
use crate::worker::Worker;
use crate::worker::look::Looks;
use crate::worker::recent::Recent;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod control;
mod installations;
mod leases;
mod mirror;
mod refresh;
mod relay;
pub mod settings;
mod told;
mod volumes;

/// What an older look showed may be somebody's work by now.
const TRUSTED: Duration = Duration::from_secs(60);

/// After `requestTimeout`, for what still has to be written down.
const GRACE: Duration = Duration::from_secs(5);

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] Invalid),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] state::OpenError),
    /// The HTTP client cannot be built.
    #[error("cannot build the HTTP client: {0}")]
    Transport(#[from] TransportError),
    /// The listen address cannot be used.
    #[error(transparent)]
    Bind(#[from] CannotListen),
    /// The signal cannot be caught.
    #[error("cannot listen for SIGHUP: {0}")]
    Signal(#[source] std::io::Error),
    /// A loop ended though nobody asked it to.
    #[error("the {0} loop ended by itself; the log says why")]
    LoopEnded(&'static str),
}

/// Everything of one project.
pub struct Project {
    /// As in the config.
    pub name: ProjectName,
    /// Its loop.
    pub reconciler: Reconciler,
    /// Wakes the loop.
    pub trigger: TriggerSender,
    /// The other end.
    pub triggers: TriggerReceiver,
    /// Its files, to be watched.
    pub tree: Tree,
}

/// The parts, built and not yet running. `apply` drives them by hand.
pub struct Parts {
    /// Per project, in the order of the config.
    pub projects: Vec<Project>,
    /// Shared by all.
    pub queue: Queue,
    /// One of the workers; the others are clones.
    pub worker: Worker,
    /// By API host.
    pub limiters: BTreeMap<String, Limiter>,
    /// What is remembered.
    pub state: State,
    /// Where.
    pub place: Place,
    /// Counts and times.
    pub metrics: Arc<Metrics>,
    /// The status.
    pub board: Arc<Board>,
}

impl Parts {
    /// Opens the state, takes its lock, and builds everything else. `stop` cuts waits short.
    pub fn build(config: &Config, env: Env<'_>, redactor: &Redactor, stop: &CancellationToken) -> Result<Self, Error> {
        let connections = config.connections(env)?;
        let place = settings::place(config, env)?;
        let state = State::open_at(&place)?;
        let metrics = Arc::new(Metrics::new());
        let queue = Queue::new(settings::backoff(config), Arc::clone(&metrics));
        let limiters = if config.rate_limit.egress.is_some() {
            shared_limiters(config, &connections, &metrics)
        } else {
            limiters(config, &connections, Some(&state), &metrics)
        };
        let names: Vec<(&str, &'static str)> =
            config.projects.iter().map(|project| (&*project.name, project.policy.as_str())).collect();
        let board = Arc::new(Board::new(config.source.interval, &names));
        // Until they say it, nobody knows.
        board.others_write(matches!(place, Place::Database(_)));
        refresh::show_state(&board, &state);
        aside(|| installations::warn(config, &connections, &state));
        let mut projects = Vec::new();
        let mut targets = HashMap::new();
        for (settings, connection) in config.projects.iter().zip(&connections) {
            let host = connection.host();
            let Some(limiter) = limiters.get(&host) else { continue };
            let client = Client::new(
                settings::client(config, connection, redactor),
                settings::key_source(connection, redactor),
                Arc::new(Network::to(&connection.base_url, config.max_answer)?),
                limiter.clone(),
                Arc::clone(&metrics),
                stop.clone(),
            );
            // Every pass begins with them.
            client.foresee(resource::ALL.iter().map(|kind| kind.listing()));
            let project_state = state.project(&host, &connection.project_id, &settings.owner);
            let (trigger, triggers) = source::channel();
            let pause = Pause::new(&settings.name, &project_state, &queue);
            let forbidden = watch::Sender::default();
            let recent = Recent::default();
            let deep = settings::deep(config);
            targets.insert(
                settings.name.clone(),
                Target {
                    client: client.with_priority(Priority::Change),
                    state: project_state.clone(),
                    look_again: trigger.clone(),
                    pause: pause.clone(),
                    recent: recent.clone(),
                    deep: deep.clone(),
                    unread: watch::Sender::new(false),
                    renamed: watch::Sender::new(false),
                    looks: Looks::default(),
                    settings_turn: Arc::default(),
                    trusted_for: config.source.interval.min(TRUSTED),
                    forbidden: forbidden.clone(),
                    secrets: settings::secrets(config, settings, redactor),
                    refused: watch::Sender::default(),
                },
            );
            show::start_series(&metrics, &settings.name);
            let files = settings::loader(config, settings);
            let tree = files.tree.clone();
            let reconciler = Reconciler {
                assessor: Assessor {
                    project: settings.name.clone(),
                    client,
                    secrets: settings::secrets(config, settings, redactor),
                    deep,
                    state: Some(project_state.clone()),
                    rules: settings::rules(config, settings),
                    is_by_content: false,
                    recent,
                },
                state: project_state,
                loader: Some(Loader::new(files)),
                queue: queue.clone(),
                pause,
                forbidden,
                interval: config.source.interval,
                backoff: settings::backoff(config),
                metrics: Arc::clone(&metrics),
                board: Arc::clone(&board),
                pulse: board.pulse(),
                plans: watch::Sender::new(None),
                planned_under: watch::Sender::new(None),
                memory: Carryover::default(),
            };
            projects.push(Project { name: settings.name.clone(), reconciler, trigger, triggers, tree });
        }
        let ask: HashMap<ProjectName, TriggerSender> =
            projects.iter().map(|project| (project.name.clone(), project.trigger.clone())).collect();
        queue.on_stale(move |project| {
            if let Some(trigger) = ask.get(project) {
                trigger.fire(Trigger::Interval);
            }
        });
        let worker = Worker {
            queue: queue.clone(),
            targets: Arc::new(targets),
            metrics: Arc::clone(&metrics),
            give_up_after: None,
        };
        Ok(Self { projects, queue, worker, limiters, state, place, metrics, board })
    }
}

/// One limiter per API host: Descope counts by the caller's address, whatever the project.
pub fn limiters(
    config: &Config,
    connections: &[Connection],
    state: Option<&State>,
    metrics: &Arc<Metrics>,
) -> BTreeMap<String, Limiter> {
    let mut limiters = BTreeMap::new();
    for host in connections.iter().map(Connection::host) {
        limiters.entry(host.clone()).or_insert_with(|| {
            let memory = state.and_then(|state| settings::limiter_memory(state, &host));
            Limiter::new(&host, settings::limiter(config), memory, Arc::clone(metrics))
        });
    }
    limiters
}

/// The same where replicas share the budget. What they learned is in the database.
fn shared_limiters(config: &Config, connections: &[Connection], metrics: &Arc<Metrics>) -> BTreeMap<String, Limiter> {
    // No other process, and no other life of this one, has the same.
    let replica = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let shared = |host: String| {
        let limiter = Limiter::shared(&host, settings::limiter(config), replica.clone(), Arc::clone(metrics));
        (host, limiter)
    };
    connections.iter().map(|connection| shared(connection.host())).collect()
}

/// Runs until `shutdown`, which takes no new task, lets calls in flight end, and writes the state.
pub async fn run(config: Config, redactor: &Redactor, shutdown: CancellationToken) -> Result<(), Error> {
    Daemon::new(config, &process_env, redactor, shutdown).await?.run().await
}

/// A daemon that has its port and its state, and does nothing yet.
pub struct Daemon {
    config: Config,
    parts: Parts,
    server: Server,
    token: Option<SecretString>,
    notifiers: Vec<Notifier>,
    hangup: Signal,
    redactor: Redactor,
    shutdown: CancellationToken,
}

impl Daemon {
    /// Builds every part. What the settings refer to is looked up in `env`.
    pub async fn new(
        config: Config,
        env: Env<'_>,
        redactor: &Redactor,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let hangup = source::sighup::listen().map_err(Error::Signal)?;
        let parts = Parts::build(&config, env, redactor, &shutdown)?;
        let token = config.token(env)?;
        if let Some(token) = &token {
            redactor.add(token);
        }
        parts.board.let_order(token.is_some());
        let notifiers = settings::notifiers(&config, env, &parts, redactor)?;
        let server = Server::bind(config.http.listen).await?;
        let redactor = redactor.clone();
        Ok(Self { config, parts, server, token, notifiers, hangup, redactor, shutdown })
    }

    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.parts.metrics)
    }

    /// What it knows.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.parts.board)
    }

    /// Runs until the shutdown.
    pub async fn run(self) -> Result<(), Error> {
        let Self { config, parts, server, token, notifiers, hangup, redactor, shutdown } = self;
        let Parts { projects, queue, worker, limiters, state, place, metrics, board } = parts;
        let http_stop = CancellationToken::new();
        let triggers: BTreeMap<String, TriggerSender> =
            projects.iter().map(|project| (project.name.to_string(), project.trigger.clone())).collect();
        let relay = Relay::of(&state, &place, &leases::name());
        let levers: Vec<_> = projects.iter().map(|project| Arc::new(control::Levers::of(project))).collect();
        let controlled = |levers: &Arc<control::Levers>| {
            (levers.name().to_string(), relay::control(Arc::clone(levers), relay.clone()))
        };
        let controls = levers.iter().map(controlled).collect();
        let plans = told::Told::of(&projects, &queue, &board, settings::pace(&config));
        let (planned, windowed) = (plans.clone(), plans.clone());
        let deeps =
            projects.iter().map(|project| (project.name.clone(), project.reconciler.assessor.deep.clone())).collect();
        let claims =
            projects.iter().map(|project| (project.name.to_string(), project.reconciler.state.claim())).collect();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            projects = projects.len(),
            source = %config.source.path.display(),
            "starting"
        );

        let mut http_loop = JoinSet::new();
        let limits = limiters.values().cloned().collect();
        let refresh = refresh::all(&board, &metrics, &queue, &state, limits, deeps);
        let shown = Served {
            metrics: Arc::clone(&metrics),
            board: Arc::clone(&board),
            refresh: Box::new(refresh),
            plan: Box::new(move |to| planned.write(to)),
            window: Box::new(move |wanted| windowed.window(wanted)),
            history: History::new(place.clone(), claims),
            controls,
            token,
        };
        http_loop.spawn(server.run(shown, http_stop.clone()));

        let mut workers = JoinSet::new();
        metrics.unanswered.set_workers(config.concurrency.get());
        for _ in 0..config.concurrency.get() {
            workers.spawn(worker.clone().run());
        }

        let mut loops = Loops::new();
        let senders: Vec<TriggerSender> = triggers.into_values().collect();
        watch_files(&mut loops, &config, &projects, &metrics, &shutdown).await?;
        start_triggers(&mut loops, hangup, config.source.interval, &senders, &metrics, &board, &shutdown);
        for notifier in notifiers {
            let (status, stop) = (board.subscribe(), shutdown.clone());
            loops.spawn(async move {
                notifier.run(status, stop).await;
                "notifications"
            });
        }
        keep_limiters(&mut loops, &limiters, config.rate_limit.egress.as_deref(), &place, &state, &shutdown);
        hand_over(&mut loops, relay, &place, levers, (plans, &queue, &board), redactor, &shutdown);
        let lease_stop = CancellationToken::new();
        let mut lease_loop = keep_leases(&config, &projects, (&state, &place), &queue, &board, &metrics, &lease_stop);
        for project in projects {
            let stop = shutdown.clone();
            loops.spawn(async move {
                Box::pin(project.reconciler.run(project.triggers, stop)).await;
                "reconcile"
            });
        }
        metrics.source_events_total.with_label_values(&[Trigger::Startup.as_str()]).inc();
        for sender in &senders {
            sender.fire(Trigger::Startup);
        }

        let ended = tokio::select! {
            // First: a loop that ends because it was asked to is no failure.
            biased;
            () = shutdown.cancelled() => None,
            ended = loops.join_next() => Some(ended.and_then(Result::ok).unwrap_or("reconcile")),
            _ = workers.join_next() => Some("worker"),
            _ = http_loop.join_next() => Some("HTTP"),
            Some(_) = lease_loop.join_next() => Some("lease"),
        };
        tracing::info!("stopping: no new changes; what is under way is finished");
        shutdown.cancel();
        queue.close();
        let finish = async {
            while workers.join_next().await.is_some() {}
            while loops.join_next().await.is_some() {}
        };
        if tokio::time::timeout(config.request_timeout + GRACE, finish).await.is_err() {
            tracing::warn!("some calls did not end in time; the next start looks at what became of them");
        }
        write_last(&config, &limiters, &state);
        // Nothing of ours is under way any more: another replica may begin at once.
        lease_stop.cancel();
        while lease_loop.join_next().await.is_some() {}
        http_stop.cancel();
        while http_loop.join_next().await.is_some() {}
        tracing::info!("stopped");
        match ended {
            Some(name) => Err(Error::LoopEnded(name)),
            None => Ok(()),
        }
    }
}

/// What is known once nothing is under way any more.
fn write_last(config: &Config, limiters: &BTreeMap<String, Limiter>, state: &State) {
    // Calls that ended while stopping taught the limiter as well.
    for (host, limiter) in limiters.iter().filter(|_| config.rate_limit.egress.is_none()) {
        settings::save(host, limiter, state, &mut 0);
    }
    state.tell_gap();
}

/// Loops that end by themselves stop the daemon, by this name.
type Loops = JoinSet<&'static str>;

/// Asks for the leases of the projects, where replicas share the state. It ends last: what is under way needs them.
fn keep_leases(
    config: &Config,
    projects: &[Project],
    (state, place): (&State, &Place),
    queue: &Queue,
    board: &Arc<Board>,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut lease_loop = JoinSet::new();
    if let Some(leases) = Leases::of(state, place, &leases::name()) {
        let mounts = projects.iter().filter_map(|project| {
            let dir = volumes::dir_of(config, &project.name)?;
            let state = project.reconciler.state.clone();
            Some(leases::Mount { project: project.name.clone(), dir, state, is_there: true })
        });
        let mounts: Vec<_> = mounts.collect();
        let volumes = volumes::watch(mounts.iter().map(|mount| mount.dir.clone()).collect());
        let refusal = |project: &Project| {
            let pause = project.reconciler.pause.clone();
            let refused: leases::Refused = Box::new(move || pause.refusal().as_ref().map(show::pause));
            (project.name.clone(), refused)
        };
        let refusals = projects.iter().map(refusal).collect();
        let triggers = projects.iter().map(|project| (project.name.clone(), project.trigger.clone())).collect();
        let of = |project: &Project| (project.name.clone(), project.reconciler.state.clone());
        let ends = leases::Ends {
            life: leases.life(),
            projects: projects.iter().map(of).collect(),
            board: Arc::clone(board),
            metrics: Arc::clone(metrics),
        };
        let projects =
            projects.iter().map(|project| (project.name.clone(), project.reconciler.state.claim())).collect();
        let (queue, board, metrics) = (queue.clone(), Arc::clone(board), Arc::clone(metrics));
        let keeper = leases::Keeper {
            leases,
            volumes,
            mounts,
            lagging: BTreeMap::new(),
            overtaken: BTreeSet::new(),
            triggers,
            refusals,
            projects,
            lost: BTreeMap::new(),
            queue,
            board,
            metrics,
        };
        lease_loop.spawn(keeper.run(stop.clone()));
        lease_loop.spawn(ends.run(stop.clone()));
    }
    lease_loop
}

/// Where replicas share the state: takes up their orders for what is held here, and shows at all of them what the holder knows.
fn hand_over(
    loops: &mut Loops,
    relay: Option<Relay>,
    place: &Place,
    levers: Vec<Arc<control::Levers>>,
    (plans, queue, board): (told::Told, &Queue, &Arc<Board>),
    redactor: Redactor,
    shutdown: &CancellationToken,
) {
    let (Some(relay), Place::Database(shared)) = (relay, place) else { return };
    let named = levers.iter().map(|levers| (levers.claim(), levers.name().clone())).collect();
    let mirror = mirror::Mirror::new(relay.clone(), named, Arc::clone(board), queue.clone(), plans, redactor);
    let stop = shutdown.clone();
    loops.spawn(async move {
        mirror.run(stop).await;
        "mirror"
    });
    let projects = levers.into_iter().map(|levers| (levers.claim(), levers)).collect();
    let (clerk, stop) = (relay::Clerk { relay, projects, every: shared.renew }, shutdown.clone());
    loops.spawn(async move {
        clerk.run(stop).await;
        "orders"
    });
}

/// Looks at the files once, so that no later change is missed, and begins to watch them.
async fn watch_files(
    loops: &mut Loops,
    config: &Config,
    projects: &[Project],
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let watches = projects.iter().map(|project| Watch { tree: project.tree.clone(), target: project.trigger.clone() });
    let (watches, debounce) = (watches.collect(), config.source.debounce);
    let files = tokio::task::spawn_blocking(move || Files::new(watches, debounce));
    let files = files.await.map_err(|_| Error::LoopEnded("watcher"))?;
    let (metrics, stop) = (Arc::clone(metrics), stop.clone());
    loops.spawn(async move {
        files.run(metrics, stop).await;
        "watcher"
    });
    Ok(())
}

fn start_triggers(
    loops: &mut Loops,
    hangup: Signal,
    interval: Duration,
    targets: &[TriggerSender],
    metrics: &Arc<Metrics>,
    board: &Arc<Board>,
    stop: &CancellationToken,
) {
    let board = Arc::clone(board);
    let parts = || (targets.to_vec(), Arc::clone(metrics), stop.clone());
    let (targets, counted, stopped) = parts();
    loops.spawn(async move {
        source::timer::run(interval, targets, counted, board, stopped).await;
        "timer"
    });
    let (targets, counted, stopped) = parts();
    loops.spawn(async move {
        source::sighup::run(hangup, targets, counted, stopped).await;
        "SIGHUP"
    });
}

/// Keeps what the limiters know: each for itself, or together with the replicas that leave through the same address.
fn keep_limiters(
    loops: &mut Loops,
    limiters: &BTreeMap<String, Limiter>,
    egress: Option<&str>,
    place: &Place,
    state: &State,
    shutdown: &CancellationToken,
) {
    for (host, limiter) in limiters.clone() {
        let (stop, state) = (shutdown.clone(), state.clone());
        if let Some(store) = egress.and_then(|egress| Egress::at(place, &host, egress)) {
            loops.spawn(async move {
                limiter.serve(&store, stop).await;
                "shared rate limit"
            });
            continue;
        }
        loops.spawn(async move {
            settings::keep_limiter_memory(host, limiter, state, stop).await;
            "limiter memory"
        });
    }
}

#[cfg(test)]
mod tests;
