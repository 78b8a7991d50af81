//! `descope-gitops plan`: what would change.

use crate::cli::Exit;
use crate::config::Config;
use crate::telemetry::redact::Redactor;
use clap::ValueEnum;

/// What to show, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanArgs {
    /// How to write it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: PlanOutput,
    /// Exit with 2 where there are differences
    #[arg(long)]
    pub exit_code: bool,
    /// Only these projects; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub project: Vec<String>,
}

/// How a plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For a comment on a merge request.
    Markdown,
}

/// Shows the plan.
pub async fn run(_config: Config, _args: PlanArgs, _redactor: &Redactor) -> anyhow::Result<Exit> {
    std::future::ready(Err(anyhow::anyhow!("plan is not part of this build"))).await
}
