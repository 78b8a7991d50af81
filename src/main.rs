//! Parses the arguments, calls the command, and turns the outcome into an exit code.

use descope_gitops::cli;
use descope_gitops::cli::Cli;
use descope_gitops::cli::Exit;
use descope_gitops::telemetry::redact::Redactor;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too, but go to stdout.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return if error.print().is_ok() { exit.into() } else { Exit::Failed.into() };
        }
    };
    let redactor = Redactor::new();
    match execute(cli, &redactor) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = cli::exit_of(&error);
            // Settings have a line for each thing that is wrong, which editors and CI systems link: keep them whole.
            let text = if exit == Exit::Usage {
                format!("cannot use these settings\n{error:#}")
            } else {
                format!("{error:#}")
            };
            let text = redactor.redact(&text);
            // Where stderr is gone, the exit code still tells.
            writeln!(std::io::stderr(), "descope-gitops: {text}").unwrap_or_default();
            exit.into()
        }
    }
}

fn execute(cli: Cli, redactor: &Redactor) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(cli.execute(redactor));
    // A thread that still reads a file or a terminal must not keep the process alive.
    runtime.shutdown_background();
    result
}
