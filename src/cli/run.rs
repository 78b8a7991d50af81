//! `descope-gitops run`: the daemon.

use crate::cli::Exit;
use crate::cli::shutdown::shutdown_on_signal;
use crate::config::Config;
use crate::daemon;
use crate::telemetry::redact::Redactor;
use crate::telemetry::traces;

/// None of its own.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {}

/// Runs until a signal stops it.
pub async fn run(config: Config, _args: RunArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let signals = shutdown_on_signal()?;
    let ended = daemon::run(config, redactor, signals.token()).await;
    traces::finish().await;
    ended?;
    Ok(Exit::Done)
}
