//! `descope-gitops state copy`: carries the state from a directory into a database that replicas share, or back.

use crate::cli::Exit;
use crate::cli::UsageError;
use crate::cli::output;
use crate::config::process_env;
use crate::state;
use crate::state::Counts;
use crate::telemetry::redact::Redactor;
use secrecy::SecretString;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  descope-gitops state copy --from state --to-env DATABASE_URL
  descope-gitops state copy --from-env DATABASE_URL --to state --key-env FINGERPRINT_KEY
  descope-gitops state copy --from state --to backup";

const ABOUT: &str = "\
Carries what a daemon remembers from one place to another: what it owns, fingerprints, approvals, suspensions, audit trail, and what
the rate limiter learned. Nobody may use either side meanwhile: a daemon that runs on the directory, and a replica that holds a
lease, are reasons to refuse. From one directory to another a daemon may go on running: that is a backup. The target must be empty,
and has everything or nothing afterwards; the source stays as it is.";

/// What to do with it.
#[derive(Debug, Clone, clap::Args)]
pub struct StateArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: StateCommand,
}

/// What can be done with a state.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum StateCommand {
    /// Carry it from a directory into a database that replicas share, back, or into another directory as a backup
    Copy(CopyArgs),
}

/// From where to where.
#[derive(Debug, Clone, clap::Args)]
#[command(long_about = ABOUT, after_long_help = EXAMPLES)]
pub struct CopyArgs {
    /// Directory of a daemon; for a copy into a database it is stopped
    #[arg(long, value_name = "DIR", required_unless_present = "from_env")]
    pub from: Option<PathBuf>,
    /// Variable with the URL of an empty database, as of `state.url`
    #[arg(long, value_name = "VARIABLE", conflicts_with_all = ["from_env", "to"])]
    pub to_env: Option<String>,
    /// Variable with the URL of a database whose replicas are stopped
    #[arg(long, value_name = "VARIABLE", requires = "to", requires = "key_env", conflicts_with = "from")]
    pub from_env: Option<String>,
    /// Directory without a state
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Variable with the key of `state.fingerprintKey`; from a directory, to check that it is the key there
    #[arg(long, value_name = "VARIABLE")]
    pub key_env: Option<String>,
}

/// Carries it, and says how much.
pub fn copy(args: &CopyArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let key = args.key_env.as_deref().map(|name| secret("--key-env", name, redactor)).transpose()?;
    let (counts, what) = match (args, &key) {
        (CopyArgs { from: Some(dir), to_env: Some(name), .. }, key) => {
            let url = secret("--to-env", name, redactor)?;
            let counts = state::to_database(dir, &url, key.as_ref())?;
            (counts, format!("from {} into the database of {name}", dir.display()))
        }
        (CopyArgs { from_env: Some(name), to: Some(dir), .. }, Some(key)) => {
            let url = secret("--from-env", name, redactor)?;
            let counts = state::to_directory(&url, key, dir)?;
            (counts, format!("from the database of {name} into {}", dir.display()))
        }
        (CopyArgs { from: Some(from), to: Some(to), .. }, key) => {
            let counts = state::to_other_directory(from, key.as_ref(), to)?;
            (counts, format!("from {} into {}", from.display(), to.display()))
        }
        _ => {
            anyhow::bail!(UsageError(
                "write --from DIR --to-env VARIABLE, --from-env VARIABLE --to DIR, or --from DIR --to DIR".to_owned()
            ))
        }
    };
    let mut out = output::stdout();
    writeln!(out, "copied {what}: {}", told(&counts))?;
    if let (Some(dir), Some(_), None) = (&args.from, &args.to_env, key) {
        writeln!(out, "set state.fingerprintKey of the replicas to the key of the directory: {}", key_of(dir))?;
    }
    Ok(Exit::Done)
}

/// How to get at it, without showing it.
fn key_of(dir: &Path) -> String {
    format!("od -An -v -tx1 {} | tr -d ' \\n'", dir.join("fingerprint.key").display())
}

fn told(counts: &Counts) -> String {
    let some = counts.iter().filter(|(_, count)| *count > 0).map(|(table, count)| format!("{count} {table}"));
    let some: Vec<String> = some.collect();
    if some.is_empty() { "no rows, as there were none".to_owned() } else { format!("rows: {}", some.join(", ")) }
}

fn secret(flag: &str, name: &str, redactor: &Redactor) -> anyhow::Result<SecretString> {
    let value = process_env(name).filter(|value| !value.is_empty()).map(SecretString::from);
    let what = || UsageError(format!("{flag}: the environment variable {name} is not set"));
    let value = value.ok_or_else(what)?;
    redactor.add(&value);
    Ok(value)
}
