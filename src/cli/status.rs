//! `descope-gitops status`: how a running daemon is, to be read in five seconds.

use crate::cli::Exit;
use crate::cli::Output;
use crate::cli::UsageError;
use crate::cli::output;
use crate::cli::remote::Daemon;
use crate::cli::remote::RemoteArgs;
use crate::cli::shutdown::shutdown_on_hangup_too;
use crate::config::Overrides;
use crate::telemetry::redact::Redactor;
use reqwest::Method;
use serde_json::Value;
use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;
use std::time::SystemTime;

pub mod table;

/// Often enough to see something happen, and no burden on anybody.
const PAUSE: Duration = Duration::from_secs(2);

/// To the upper left, with nothing below.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

const EXAMPLES: &str = "\
Examples:
  descope-gitops status --url http://127.0.0.1:8080
  descope-gitops status --watch
  descope-gitops status --watch --exit-code                    until everything is converged";

/// How to show it, and of which daemon.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct StatusArgs {
    /// How to write it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
    /// Show it again and again, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Exit with 2 where a project is not converged; with --watch, end as soon as all are
    #[arg(long)]
    pub exit_code: bool,
    /// Which daemon.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Shows it.
pub async fn run(overrides: &Overrides, args: &StatusArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let daemon = Daemon::find(args.remote.url.as_ref(), overrides, redactor)?;
    if !args.watch {
        let status = ask(&daemon, args).await?;
        show(&status, args)?;
        return Ok(exit(&status, args));
    }
    let signals = shutdown_on_hangup_too()?;
    let stop = signals.token();
    let is_screen = std::io::stdout().is_terminal() && args.output == Output::Text;
    loop {
        let Some(status) = stop.run_until_cancelled(ask(&daemon, args)).await else { return Ok(Exit::Done) };
        let status = status?;
        if is_screen {
            output::stdout().write_all(CLEAR.as_bytes())?;
        }
        show(&status, args)?;
        if args.exit_code && is_converged(&status) {
            return Ok(Exit::Done);
        }
        if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
            return Ok(exit(&status, args));
        }
        if !is_screen && args.output == Output::Text {
            writeln!(output::stdout())?;
        }
    }
}

async fn ask(daemon: &Daemon, args: &StatusArgs) -> anyhow::Result<Value> {
    let mut status = daemon.ask(Method::GET, "/api/v1/status", &[]).await?;
    if let (Some(name), Some(projects)) = (&args.remote.project, status["projects"].as_array_mut()) {
        projects.retain(|project| project["name"] == name.as_str());
        if projects.is_empty() {
            return Err(UsageError(format!("--project: the daemon has no project {name}")).into());
        }
    }
    Ok(status)
}

fn show(status: &Value, args: &StatusArgs) -> anyhow::Result<()> {
    let text = match args.output {
        // One document a line, where there are many.
        Output::Json if args.watch => status.to_string() + "\n",
        Output::Json => serde_json::to_string_pretty(status)? + "\n",
        Output::Text => table::text(status, SystemTime::now(), output::style()),
    };
    output::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn is_converged(status: &Value) -> bool {
    status["projects"].as_array().is_some_and(|projects| projects.iter().all(is_known_converged))
}

/// Of what no replica holds nobody knows.
fn is_known_converged(project: &Value) -> bool {
    project["converged"] == true && table::unheld(project).is_none()
}

fn exit(status: &Value, args: &StatusArgs) -> Exit {
    if args.exit_code && !is_converged(status) { Exit::Differences } else { Exit::Done }
}
