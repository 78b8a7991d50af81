//! `descope-gitops completions`: for shells.

use crate::cli::Cli;
use crate::cli::Exit;
use crate::cli::output;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

/// Which shell.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Writes them to stdout.
pub fn run(args: CompletionsArgs) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics where the pipe it writes to is closed.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "descope-gitops", &mut text);
    output::stdout().write_all(&text)?;
    Ok(Exit::Done)
}
