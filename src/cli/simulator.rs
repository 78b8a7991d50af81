//! `descope-gitops simulator`: serves the built-in stand-in for Descope.

use crate::cli::Exit;
use tokio_util::sync::CancellationToken;

/// How it behaves.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulatorArgs {}

/// Serves until stopped.
pub async fn run(_args: SimulatorArgs, _shutdown: CancellationToken) -> anyhow::Result<Exit> {
    std::future::ready(Err(anyhow::anyhow!("simulator is not part of this build"))).await
}
