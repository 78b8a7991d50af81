//! Parses the arguments, calls the command, and turns the outcome into an exit code.

use descope_gitops::cli;
use descope_gitops::cli::Cli;
use descope_gitops::cli::Command;
use descope_gitops::cli::Exit;
use descope_gitops::telemetry::logs;
use descope_gitops::telemetry::redact::Redactor;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::os::unix::process::CommandExt;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::process;
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
    if matches!(cli.command, Command::Run(_)) {
        share_memory();
    }
    let redactor = Redactor::new();
    let _last_words = Flush;
    match execute(cli, &redactor) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = cli::exit_of(&error);
            // Settings have a line for each thing that is wrong, which editors and CI systems link: keep them whole.
            let text = format!("{error:#}");
            let is_usage = exit == Exit::Usage;
            let is_logged = if is_usage {
                text.lines().all(|line| logs::last_words("cannot use these settings", line))
            } else {
                logs::last_words("the daemon ends with an error", &text)
            };
            if is_logged {
                return exit.into();
            }
            let text = redactor.redact(&if is_usage { format!("cannot use these settings\n{text}") } else { text });
            logs::say(format!("descope-gitops: {text}\n"));
            exit.into()
        }
    }
}

/// Begins once more, as the same process, with one pool of memory for all threads, and what is large beside it. glibc gives threads
/// pools of their own, and what a pass lets go of in one serves no other: the daemon of a large project would grow with every
/// commit. And once something large was let go of, it puts the next such thing into the pool, where what comes after it keeps
/// it from being given back. glibc listens to the environment alone, and before anything else runs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn share_memory() {
    // The second is what glibc begins with, in bytes: set, it stays.
    const SETTINGS: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "131072")];
    let unset: Vec<_> = SETTINGS.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    let Ok(program) = std::env::current_exe() else { return };
    if unset.is_empty() {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut again = process::Command::new(program);
    again.envs(unset);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It comes back only where that failed: then the daemon takes more memory.
    drop(again.args(arguments).exec());
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn share_memory() {}

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
