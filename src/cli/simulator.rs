//! `descope-gitops simulator`: serves the built-in stand-in for Descope.

use crate::cli::Exit;
use tokio_util::sync::CancellationToken;

/// How it behaves.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulatorArgs {
    /// Address to listen on; port 0 takes a free one
    // Text, as in the flags of every command: clap reads both as one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8090")]
    pub listen: String,
}

/// Serves until stopped.
pub async fn run(_args: SimulatorArgs, _shutdown: CancellationToken) -> anyhow::Result<Exit> {
    std::future::ready(Err(anyhow::anyhow!("simulator is not part of this build"))).await
}
