//! `descope-gitops validate`: checks the files, without network or credentials.

use crate::cli::Exit;
use crate::config::Config;
use clap::ValueEnum;

/// How the findings are shown.
#[derive(Debug, Clone, clap::Args)]
pub struct ValidateArgs {
    /// How to write the findings
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: ValidateOutput,
}

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ValidateOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// As annotations of a GitHub workflow.
    Github,
}

/// Checks.
pub fn run(_config: Config, _args: ValidateArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("validate is not part of this build")
}
