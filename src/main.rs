//! Parses the arguments, calls the command, and turns the outcome into an exit code.

use descope_gitops::cli;
use descope_gitops::cli::Cli;
use descope_gitops::cli::Exit;
use descope_gitops::telemetry::logs;
use descope_gitops::telemetry::redact::Redactor;
use std::process::ExitCode;
use std::time::Duration;

const LONGEST_END: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too, but go to stdout.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return match error.print() {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Exit::Failed.into(),
                Ok(()) | Err(_) => exit.into(),
            };
        }
    };
    let redactor = Redactor::new();
    let _last_words = Flush;
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
            logs::say(format!("descope-gitops: {text}\n"));
            exit.into()
        }
    }
}

/// Also when a panic ends the process.
struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        logs::flush();
    }
}

fn execute(cli: Cli, redactor: &Redactor) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(cli.execute(redactor));
    // What tasks hold is dropped, so that the state is closed and nobody's work is torn. A thread that still reads a file
    // or a terminal must not keep the process alive.
    runtime.shutdown_timeout(LONGEST_END);
    result
}
