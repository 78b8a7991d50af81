//! `descope-gitops apply`: one pass to its end.

use crate::cli::Exit;
use crate::cli::Output;
use crate::config::Config;
use crate::telemetry::redact::Redactor;

/// What may go ahead, and how the outcome is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct ApplyArgs {
    /// Do not ask; releases a first contact, but no guard
    #[arg(long)]
    pub auto_approve: bool,
    /// Release the held plan with this fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub approve: Option<String>,
    /// How to write the outcome
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
    /// Only these projects; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub project: Vec<String>,
}

/// Applies.
pub async fn run(_config: Config, _args: ApplyArgs, _redactor: &Redactor) -> anyhow::Result<Exit> {
    std::future::ready(Err(anyhow::anyhow!("apply is not part of this build"))).await
}
