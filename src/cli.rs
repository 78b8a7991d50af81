//! The commands: one file each, and what they have in common.

use crate::config;
use crate::config::Config;
use crate::config::Invalid;
use crate::config::LogFormat;
use crate::config::Overrides;
use crate::daemon;
use crate::source;
use crate::telemetry::logs;
use crate::telemetry::redact::Redactor;
use clap::CommandFactory;
use clap::FromArgMatches;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::parser::ValueSource;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

pub mod apply;
pub mod audit;
pub mod bar;
pub mod completions;
pub mod demo;
pub mod export;
pub mod healthcheck;
pub mod notify_test;
pub mod output;
pub mod plan;
pub mod remote;
pub mod run;
pub mod schema;
pub mod select;
pub mod shutdown;
pub mod simulator;
pub mod since;
pub mod state;
pub mod status;
pub mod validate;

const EXIT_CODES: &str = "\
Exit codes: 0 done or in sync; 1 error; 2 differences (plan --exit-code); 3 the desired state is invalid;
4 apply left something held; 5 apply did only part of it; 64 wrong flags or settings";

const EXAMPLES: &str = "\
Begin with:
  descope-gitops demo                                     see it work, without an account
  descope-gitops export --dir my-config --verify          write a live project as files
  descope-gitops plan --source my-config                  what would change
  descope-gitops apply --source my-config                 change it, once
  descope-gitops run -c descope-gitops.yaml               keep it so";

/// What `--version` says. A test build asks nobody for its commit, so that a commit alone builds nothing anew.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit ",
    env!("DESCOPE_GITOPS_BUILD_COMMIT"),
    "\nbuilt ",
    env!("DESCOPE_GITOPS_BUILD_DATE"),
    "\ntarget ",
    env!("DESCOPE_GITOPS_BUILD_TARGET")
);

/// Keeps Descope projects equal to the YAML in a config repo.
#[derive(Debug, Parser)]
#[command(name = "descope-gitops", version, long_version = LONG_VERSION, max_term_width = 100)]
#[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command, before or after its name. An empty variable counts as unset.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Settings file
    #[arg(short, long, global = true, value_name = "FILE", env = "DESCOPE_GITOPS_CONFIG")]
    pub config: Option<String>,
    /// Root of the config repo [file: source.path]
    #[arg(long, global = true, value_name = "DIR", env = "DESCOPE_GITOPS_SOURCE")]
    pub source: Option<String>,
    /// Address to serve probes, metrics and status on [file: http.listen]
    #[arg(long, global = true, value_name = "ADDRESS:PORT", env = "DESCOPE_GITOPS_LISTEN")]
    pub listen: Option<String>,
    /// Directory of the state [file: state.path]
    #[arg(long, global = true, value_name = "DIR", env = "DESCOPE_GITOPS_STATE")]
    pub state: Option<String>,
    /// auto, json or pretty; auto: pretty on a terminal, JSON elsewhere [file: log.format]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// trace, debug, info, warn, error, or directives such as info,hyper=debug [file: log.level]
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG")]
    pub log_level: Option<String>,
}

impl Global {
    /// As the settings take them.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            source: self.source.clone(),
            listen: self.listen.clone(),
            state: self.state.clone(),
            log_format: self.log_format.clone(),
            log_level: self.log_level.clone(),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(run::RunArgs),
    /// Show what would change
    Plan(plan::PlanArgs),
    /// Make one pass to its end, then exit
    Apply(apply::ApplyArgs),
    /// Show how a running daemon is
    Status(status::StatusArgs),
    /// Let a held plan of a running daemon go ahead
    Approve(remote::ApproveArgs),
    /// Make a running daemon look again now
    Reconcile(remote::ReconcileArgs),
    /// Make a running daemon only observe for a while, all of a project or a part of it
    Suspend(remote::SuspendArgs),
    /// End a suspension
    Resume(remote::ResumeArgs),
    /// Show what was changed, when, why, and how it ended
    Audit(audit::AuditArgs),
    /// Carry the state to another place
    State(state::StateArgs),
    /// Send a test message to everyone in `notifications`
    NotifyTest(notify_test::NotifyTestArgs),
    /// Check the files, without network or credentials
    Validate(validate::ValidateArgs),
    /// Write the live project as files that declare it
    Export(export::ExportArgs),
    /// Print JSON Schema of the files, of the settings, and of the JSON that is printed and answered
    Schema(schema::SchemaArgs),
    /// Serve a stand-in for Descope
    Simulator(simulator::SimulatorArgs),
    /// See it work: simulator and daemon on a throw-away repo, without an account
    Demo(demo::DemoArgs),
    /// Ask a running daemon whether it is alive; for images without a shell
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
}

/// How output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How a command ended, as scripts and CI systems read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or in sync.
    Done,
    /// Something went wrong.
    Failed,
    /// `plan --exit-code` found differences.
    Differences,
    /// The desired state is invalid.
    Invalid,
    /// `apply` left something held.
    Held,
    /// Partly applied; beats `Held`.
    Partly,
    /// Wrong flags or settings. Far from the others, so that CI never reads a typo as "differences".
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Differences => 2,
            Exit::Invalid => 3,
            Exit::Held => 4,
            Exit::Partly => 5,
            Exit::Usage => 64,
        })
    }
}

/// Flags that do not fit together, or not this config.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// How a command failed.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    let is_usage = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Invalid>()
            || cause.is::<UsageError>()
            || matches!(cause.downcast_ref(), Some(daemon::Error::Config(_)))
    };
    if error.chain().any(is_usage) { Exit::Usage } else { Exit::Failed }
}

impl Cli {
    /// The command line, and the environment where the command listens to it: a demo must not run into the settings of
    /// a real daemon.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(args)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))?;
        if let (Command::Demo(args), Some((_, given))) = (&mut cli.command, matches.subcommand()) {
            let flag_only = |name: &str, value: &mut Option<String>| {
                value.take_if(|_| given.value_source(name) != Some(ValueSource::CommandLine));
            };
            flag_only("listen", &mut args.listen);
            flag_only("config", &mut cli.global.config);
            flag_only("source", &mut cli.global.source);
            flag_only("state", &mut cli.global.state);
            flag_only("log_format", &mut cli.global.log_format);
            flag_only("log_level", &mut cli.global.log_level);
        }
        Ok(cli)
    }

    /// Does what was asked. Secrets that a command loads go to `redactor`, for the log and for the last error.
    pub async fn execute(self, redactor: &Redactor) -> anyhow::Result<Exit> {
        let overrides = self.global.overrides();
        match self.command {
            Command::Run(args) => {
                // Until the daemon listens itself, which reads all that there is then anyway, it is no reason to end.
                let _early = source::sighup::listen()?;
                run::run(loaded(&overrides, redactor, true)?, args, redactor).await
            }
            Command::Plan(args) if args.url.is_some() => plan::of_daemon(&overrides, &args, redactor).await,
            Command::Plan(args) => plan::run(loaded(&overrides, redactor, false)?, args, redactor).await,
            Command::Status(args) => status::run(&overrides, &args, redactor).await,
            Command::Approve(args) => remote::approve(&overrides, &args, redactor).await,
            Command::Reconcile(args) => remote::reconcile(&overrides, &args, redactor).await,
            Command::Suspend(args) => remote::suspend(&overrides, &args, redactor).await,
            Command::Resume(args) => remote::resume(&overrides, &args, redactor).await,
            Command::Audit(args) => audit::run(&loaded(&overrides, redactor, false)?, &args),
            Command::State(state::StateArgs { command: state::StateCommand::Copy(args) }) => {
                start_logs(&overrides, redactor);
                state::copy(&args, redactor)
            }
            Command::Apply(args) => apply::run(loaded(&overrides, redactor, false)?, args, redactor).await,
            Command::NotifyTest(args) => notify_test::run(&loaded(&overrides, redactor, false)?, &args, redactor).await,
            Command::Validate(args) => validate::run(&loaded(&overrides, redactor, false)?, &args),
            Command::Export(args) => {
                let overrides = export::overrides(overrides, &args);
                export::run(loaded(&overrides, redactor, false)?, args, redactor).await
            }
            Command::Schema(args) => schema::run(args),
            Command::Simulator(args) => {
                start_logs(&overrides, redactor);
                let signals = shutdown::shutdown_on_hangup_too()?;
                simulator::run(args, signals.token()).await.map(|()| Exit::Done)
            }
            Command::Demo(args) => demo::run(args, &self.global, redactor).await,
            Command::Healthcheck(args) => healthcheck::run(&overrides, args).await,
            Command::Completions(args) => completions::run(args),
        }
    }
}

/// The settings; logging is on from here.
fn loaded(overrides: &Overrides, redactor: &Redactor, is_daemon: bool) -> anyhow::Result<Config> {
    let config = Config::load(overrides).inspect_err(|_| {
        // What is wrong is a line of the log, too, where that much can be read.
        if let Some(chosen) = config::log_format(overrides).filter(|_| is_daemon) {
            logs::init_with_traces(format(chosen, true), config::LOG_LEVEL, redactor);
        }
    })?;
    let format = format(config.log.format, is_daemon);
    if is_daemon {
        logs::init_with_traces(format, &config.log.level, redactor);
    } else {
        // What is routine stands in what the command itself says.
        let is_usual = config.log.level == config::LOG_LEVEL && overrides.log_level.is_none();
        let level = if is_usual && format == logs::Format::Words { "warn" } else { &config.log.level };
        logs::init(format, level, redactor);
    }
    Ok(config)
}

/// For commands that take no settings but have something to log.
fn start_logs(overrides: &Overrides, redactor: &Redactor) {
    let level = overrides.log_level.as_deref().filter(|level| !level.is_empty()).unwrap_or(config::LOG_LEVEL);
    let chosen = match overrides.log_format.as_deref() {
        Some("json") => LogFormat::Json,
        Some("pretty") => LogFormat::Pretty,
        Some(_) | None => LogFormat::Auto,
    };
    logs::init(format(chosen, true), level, redactor);
}

/// Who sits at a terminal and waits for a command wants to be told, not to read a log.
fn format(chosen: LogFormat, is_daemon: bool) -> logs::Format {
    match chosen {
        LogFormat::Json => logs::Format::Json,
        LogFormat::Pretty => logs::Format::Pretty,
        LogFormat::Auto if !std::io::stderr().is_terminal() => logs::Format::Json,
        LogFormat::Auto if is_daemon => logs::Format::Pretty,
        LogFormat::Auto => logs::Format::Words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        let before = Cli::try_parse_from(["x", "-c", "a.yaml", "--listen", "127.0.0.1:1", "run"]).unwrap();
        let after = Cli::try_parse_from(["x", "run", "--listen", "127.0.0.1:1", "--config", "a.yaml"]).unwrap();

        for cli in [before, after] {
            assert_eq!(cli.global.config.as_deref(), Some("a.yaml"));
            assert_eq!(cli.global.listen.as_deref(), Some("127.0.0.1:1"));
        }
    }

    #[test]
    fn the_simulator_has_a_place_of_its_own_to_listen() {
        let listens = |args: &[&str]| {
            let Command::Simulator(args) = Cli::try_parse_from(args).unwrap().command else { panic!("{args:?}") };
            args.listen
        };

        assert_eq!(listens(&["x", "simulator"]), "127.0.0.1:8090");
        assert_eq!(listens(&["x", "simulator", "--listen", "127.0.0.1:0"]), "127.0.0.1:0");
        assert_eq!(listens(&["x", "--listen", "127.0.0.1:0", "simulator"]), "127.0.0.1:0");
    }

    #[test]
    fn settings_that_cannot_be_used_are_a_usage_error_however_deep_they_hide() {
        let invalid = Config::load(&Overrides::default()).unwrap_err();

        assert_eq!(exit_of(&anyhow::Error::from(invalid).context("cannot start")), Exit::Usage);
        assert_eq!(exit_of(&anyhow::anyhow!("no network")), Exit::Failed);
    }
}
