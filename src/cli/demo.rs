//! `descope-gitops demo`: the simulator and the daemon on a throw-away copy of `config/sample`.
//!
//! One command and no account. It reads no settings, neither files nor environment, and talks to nobody but its own
//! simulator; all it writes is below one temporary directory, which goes when it ends.

use crate::cli::Exit;
use crate::cli::Global;
use crate::cli::UsageError;
use crate::cli::healthcheck::reachable;
use crate::cli::shutdown::shutdown_on_signal;
use crate::cli::simulator;
use crate::daemon::Daemon;
use crate::simulator::Simulator;
use crate::telemetry::events;
use crate::telemetry::lossy::Lossy;
use crate::telemetry::lossy::News;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use crate::telemetry::status::Status;
use anyhow::Context;
use guide::Guide;
use place::Place;
pub use place::SAMPLE;
use prometheus::IntCounter;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Duration;
use story::Story;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod guide;
mod place;
mod story;

/// Flags of `descope-gitops demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Address of the daemon's probes, metrics and status [default: a free port of this machine]
    // Text, as in the flags of every command: clap reads both as one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Requests per window that the simulator answers and the daemon keeps to; more show the same in less time
    #[arg(long, value_name = "N/WINDOW", default_value = "100/60s", value_parser = parse_limit)]
    pub rate_limit: (u32, Duration),
}

fn parse_limit(text: &str) -> Result<(u32, Duration), String> {
    simulator::parse_limit(text)?.ok_or_else(|| "a demo of no limit would show too little: write N/WINDOW".to_owned())
}

/// At the end, for a reader that stalls.
const LONGEST_FLUSH: Duration = Duration::from_millis(500);

/// Runs until a signal ends it.
pub async fn run(args: DemoArgs, global: &Global, redactor: &Redactor) -> anyhow::Result<Exit> {
    refuse_settings(global)?;
    let signals = shutdown_on_signal()?;
    let started = Instant::now();
    let mut events = events::init();
    let place = Place::create().context("cannot write the demo's files")?;
    let mut simulator =
        Simulator::start(place::simulator(args.rate_limit)).await.context("cannot start the simulator")?;
    let config = place.settings(&simulator.url(), args.listen, args.rate_limit)?;
    // Nothing of the environment: it may hold the settings of a real daemon.
    let daemon = Daemon::new(config, &|_| None, redactor, signals.token()).await?;
    let (metrics, mut status) = (daemon.metrics(), daemon.board().subscribe());
    let guide = Guide {
        repo: place.repo().display().to_string(),
        config: place.config().display().to_string(),
        token: place.token.clone(),
        simulator: simulator.url(),
        daemon: format!("http://{}", reachable(daemon.address())),
        reads_need_token: !daemon.address().ip().is_loopback(),
        program: std::env::args().next().unwrap_or_default(),
        pid: std::process::id(),
        interval: place::INTERVAL,
        rate_limit: args.rate_limit,
    };
    let mut story = Story::new(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let said = teller(&signals.token()).context("cannot write to standard output")?;
    said.write(guide.opening());

    let mut running = JoinSet::new();
    running.spawn(daemon.run());
    let mut is_new = true;
    let ended = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => said.write(story.tell(started.elapsed(), &event)),
            Some(ended) = running.join_next() => break ended,
            converged = converged(&mut status), if is_new => {
                is_new = false;
                said.write(guide.converged(&converged, requests(&metrics), started.elapsed()));
            }
            () = simulator.ended() => anyhow::bail!("the simulator ended by itself"),
        }
    };
    while let Ok(event) = events.try_recv() {
        said.write(story.tell(started.elapsed(), &event));
    }
    ended.context("the daemon ended by a defect")??;
    simulator.stop().await;
    let gone = place.remove().context("cannot remove the demo's directory")?;
    said.write(format!("\nStopped. {} is removed.\n", gone.display()));
    said.flush(LONGEST_FLUSH);
    Ok(Exit::Done)
}

/// Variables of a real daemon are passed over; whoever types a flag wants something that a demo does not do.
fn refuse_settings(global: &Global) -> Result<(), UsageError> {
    let Global { config, source, listen: _, state, log_format, log_level } = global;
    let given = [
        ("--config", config),
        ("--source", source),
        ("--state", state),
        ("--log-format", log_format),
        ("--log-level", log_level),
    ];
    match given.iter().find(|(_, value)| value.is_some()) {
        Some((flag, _)) => Err(UsageError(format!("demo brings its own settings and takes no {flag}; see `run`"))),
        None => Ok(()),
    }
}

/// Standard output, which holds up nothing where its reader stalls. Where nobody reads any more, the demo is over.
fn teller(stop: &CancellationToken) -> anyhow::Result<Lossy> {
    let stream = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let stop = stop.clone();
    let tell = move |news| match news {
        News::Recovered(_) => {}
        News::Gone => stop.cancel(),
    };
    Ok(Lossy::new(stream, IntCounter::new("unread", "Texts that nobody read")?, tell))
}

/// The first status in which the project equals the repo.
async fn converged(status: &mut watch::Receiver<Status>) -> Status {
    match status.wait_for(|status| status.projects.iter().all(|project| project.converged)).await {
        Ok(status) => status.clone(),
        // The daemon is gone, which is somebody else's to notice.
        Err(_) => std::future::pending().await,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn requests(metrics: &Metrics) -> u64 {
    metrics.requests() as u64
}

/// `0.4 s`.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
