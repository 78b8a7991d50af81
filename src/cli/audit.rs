//! `descope-gitops audit`: what was changed, when, why, and how it ended. Reads the state, also beside a daemon.

use crate::cli::Exit;
use crate::cli::Output;
use crate::cli::UsageError;
use crate::cli::output;
use crate::cli::select;
use crate::config;
use crate::config::Config;
use crate::config::process_env;
use crate::daemon::settings;
use crate::http::Tried;
use crate::resource;
use crate::resource::legible::legible;
use crate::state::AuditFilter;
use crate::state::AuditRow;
use crate::state::ORDERS;
use crate::state::State;
use crate::telemetry::line::one_line;
use crate::telemetry::status::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::time::SystemTime;

const EXAMPLES: &str = "\
Examples:
  descope-gitops audit --since 24h                             what happened since yesterday
  descope-gitops audit --kind roles --id Editor                one resource, from the beginning";

/// Which rows, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct AuditArgs {
    /// Of this kind, e.g. roles
    #[arg(long)]
    pub kind: Option<String>,
    /// With this identity: NAME, or TENANT/NAME
    #[arg(long)]
    pub id: Option<String>,
    /// Not before: 2h for two hours ago, or 2026-01-31T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// How to write it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Shows the trail, oldest first.
pub fn run(config: &Config, args: &AuditArgs) -> anyhow::Result<Exit> {
    let since = |now| args.since.as_deref().map(|text| time(text, now)).transpose();
    // What is no time is none of any clock.
    since(SystemTime::now())?;
    if let Some(kind) = args.kind.as_deref().filter(|kind| *kind != ORDERS && resource::kind(kind).is_none()) {
        return Err(select::unknown(kind).into());
    }
    let place = settings::place(config, &process_env)?;
    let rows = match State::look_at(&place)? {
        Some(state) => {
            let since = since(state.now())?;
            state.audit(&AuditFilter { kind: args.kind.clone(), id: args.id.clone(), since })?
        }
        None => anyhow::bail!("no state in {place}; name the daemon's directory with --state"),
    };
    let mut out = BufWriter::new(output::stdout());
    match args.output {
        Output::Text => {
            let is_of_several = rows.windows(2).any(|two| two[0].project_id != two[1].project_id);
            rows.iter().try_for_each(|row| {
                let project = if is_of_several { format!("{} ", legible(&row.project_id)) } else { String::new() };
                writeln!(out, "{project}{}", text(row))
            })?;
        }
        Output::Json => {
            let trail = Trail { format_version: 1, changes: rows.iter().map(Row::of).collect() };
            serde_json::to_writer_pretty(&mut out, &trail).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn time(text: &str, now: SystemTime) -> Result<SystemTime, UsageError> {
    let since = config::span(text).and_then(|ago| now.checked_sub(ago).ok_or_else(|| "is too long ago".to_owned()));
    since.or_else(|what| {
        let wrong = format!("--since: {text} is no time such as 2026-01-31T10:00:00Z, and {what}");
        humantime::parse_rfc3339_weak(text).map_err(|_| UsageError(wrong))
    })
}

fn text(row: &AuditRow) -> String {
    let place = row.file.as_ref().zip(row.line).map_or_else(String::new, |(file, line)| format!(" {file}:{line}"));
    let message = if row.message.is_empty() { String::new() } else { format!(": {}", row.message) };
    let fields: Value = serde_json::from_str(&row.fields).unwrap_or_default();
    let is_drift = fields.as_array().is_some_and(|fields| fields.iter().any(|field| field["drift"] == true));
    let actor = match &row.actor {
        Some(actor) => format!("; before it by {actor}"),
        None if is_drift => "; drift: before it by somebody else".to_owned(),
        None => String::new(),
    };
    let paths: Vec<&str> = fields.as_array().into_iter().flatten().filter_map(|field| field["path"].as_str()).collect();
    let paths = if paths.is_empty() { String::new() } else { format!(" [{}]", paths.join(", ")) };
    let revision = row.revision.get(..12).unwrap_or(&row.revision);
    // An order rests on none.
    let revision = if revision.is_empty() { String::new() } else { format!(" {revision}") };
    one_line(&format!(
        "{} {} {} {}/{}{paths} ({}{revision}, try {}, {} ms){place}{message}{actor}",
        rfc3339(row.at),
        row.outcome,
        row.action,
        row.kind,
        legible(&row.id),
        row.trigger,
        row.attempt,
        row.duration_ms
    ))
}

/// `audit -o json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trail {
    format_version: u32,
    /// The oldest first.
    changes: Vec<Row>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// Of the API.
    host: String,
    /// Descope's id of the project.
    project_id: String,
    /// Whose claim.
    owner: String,
    #[serde(flatten)]
    attempt: Tried,
}

impl Row {
    fn of(row: &AuditRow) -> Self {
        Self {
            host: row.host.clone(),
            project_id: row.project_id.clone(),
            owner: row.owner.clone(),
            attempt: Tried::of(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn since_is_a_duration_or_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);

        assert_eq!(time("2h", now).unwrap(), now - Duration::from_secs(7200));
        assert_eq!(time("1970-01-02T00:00:00Z", now).unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
        assert!(time("yesterday", now).is_err());
    }
}
