//! `descope-gitops plan`: what would change. It sends no write, and only reads the state.

use crate::cli::Exit;
use crate::cli::UsageError;
use crate::cli::output;
use crate::cli::remote::Daemon;
use crate::cli::select;
use crate::cli::select::Selection;
use crate::cli::since::Before;
use crate::cli::status::table;
use crate::cli::status::table::not_compared;
use crate::config::Config;
use crate::config::Overrides;
use crate::config::process_env;
use crate::daemon;
use crate::daemon::settings;
use crate::descope::Client;
use crate::descope::transport::Network;
use crate::desired::Desired;
use crate::desired::Finding;
use crate::limiter::Priority;
use crate::observed::Deep;
use crate::observed::Share;
use crate::plan::render;
use crate::plan::render::ProjectReport;
use crate::plan::render::Report;
use crate::reconcile::assess::Assessment;
use crate::reconcile::assess::Assessor;
use crate::resource::Key;
use crate::source::loader::Loader;
use crate::state::State;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use crate::worker::recent::Recent;
use anyhow::Context;
use clap::ValueEnum;
use reqwest::Method;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use url::Url;

const EXAMPLES: &str = "\
Examples:
  descope-gitops plan --source my-config                       what would change, per field
  descope-gitops plan -c gitops.yaml --exit-code               2 where something would
  descope-gitops plan -c gitops.yaml --since origin/main       what this branch changes
  descope-gitops plan -c gitops.yaml -o markdown > plan.md     for a pull request
  descope-gitops plan --url http://127.0.0.1:8080              what a running daemon is about to do";

/// What to show, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct PlanArgs {
    /// How to write it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: PlanOutput,
    /// Exit with 2 where there are differences, or may be, as a daemon has not compared its files
    #[arg(long)]
    pub exit_code: bool,
    /// Only these projects; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub project: Vec<String>,
    /// Which resources, with what they need; a delete has to be named by --target
    #[command(flatten)]
    pub selection: Selection,
    /// Only what the files declare differently than at this revision of git, what they declare no more included
    #[arg(long, value_name = "REV")]
    pub since: Option<String>,
    /// Ask the daemon with this base URL, whose inventory knows what would be deleted
    #[arg(long)]
    pub url: Option<Url>,
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
pub async fn run(config: Config, args: PlanArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let names = selected(&config, &args.project)?;
    args.selection.kinds()?;
    let before = args.since.as_ref().map(|revision| Before::read(&config.source.path, revision)).transpose()?;
    let connections = config.connections(&process_env)?;
    let place = settings::place(&config, &process_env)?;
    let state = State::look_at(&place)?;
    if state.is_none() {
        tracing::warn!(
            directory = %place,
            "no state here: this plan knows nothing of ownership, of what was sent, and of what the limiter learned"
        );
    }
    let metrics = Arc::new(Metrics::new());
    let limiters = daemon::limiters(&config, &connections, state.as_ref(), &metrics);
    let mut desired_states = Vec::new();
    let mut errors = Vec::new();
    for project in config.projects.iter().filter(|project| names.iter().any(|name| **name == *project.name)) {
        match desired(&mut Loader::new(settings::loader(&config, project))) {
            Ok(desired) => desired_states.push(desired),
            Err(findings) => errors.extend(findings),
        }
    }
    if !errors.is_empty() {
        show_findings(&errors)?;
        return Ok(Exit::Invalid);
    }
    let mut plans = Vec::new();
    let mut sought = args.selection.target.clone();
    let mut is_complete = true;
    let projects = config
        .projects
        .iter()
        .zip(&connections)
        .filter(|(project, _)| names.iter().any(|name| **name == *project.name));
    for ((project, connection), desired) in projects.zip(&desired_states) {
        let host = connection.host();
        let Some(limiter) = limiters.get(&host) else { continue };
        let client = Client::new(
            settings::client(&config, connection, redactor),
            settings::key_source(connection, redactor),
            Arc::new(Network::to(&connection.base_url, config.max_answer)?),
            limiter.clone(),
            Arc::clone(&metrics),
            CancellationToken::new(),
        );
        let assessor = Assessor {
            project: project.name.clone(),
            client,
            state: state.as_ref().map(|state| state.project(&host, &connection.project_id, &project.owner)),
            secrets: settings::secrets(&config, project, redactor),
            deep: Deep::new(Share::ALL),
            rules: settings::rules(&config, project),
            is_by_content: false,
            recent: Recent::default(),
        };
        let assessment = assessor.assess(desired, Priority::Change, &BTreeSet::new()).await;
        let Assessment { mut plan, refusal, .. } = assessment;
        sought.retain(|target| !select::knows(target, desired, &plan));
        if args.selection.is_narrow() || before.is_some() {
            let loader = settings::loader(&config, project);
            let changed = before.as_ref().map(|before| before.changed(&loader, desired)).transpose()?;
            let is_changed = |key: &Key| changed.as_ref().is_none_or(|changed| changed.contains(key));
            let is_named = |key: &Key| args.selection.names(key) || changed.is_some() && args.selection.wants(key);
            let is_wanted = |key: &Key| args.selection.wants(key) && is_changed(key);
            plan.narrow(&is_wanted, &|key| is_named(key) && is_changed(key));
        }
        if let Some(reason) = refusal {
            tracing::error!(project = &*project.name, %reason, "this project is refused; the others go on");
        }
        is_complete &= plan.unobserved.is_empty();
        plans.push((&*project.name, plan));
    }
    if let Some(target) = sought.first() {
        return Err(select::nowhere(target).into());
    }
    // It looks into the plans: a large project is not held once more to be shown.
    let rate = settings::pace(&config);
    let report = Report::new(plans.iter().map(|(name, plan)| ProjectReport::told(name, plan, rate)).collect());
    show(&report, args.output)?;
    Ok(match (is_complete, args.exit_code && report.has_differences()) {
        (false, _) => Exit::Failed,
        (true, true) => Exit::Differences,
        (true, false) => Exit::Done,
    })
}

/// Shows the last plan of a running daemon.
pub async fn of_daemon(overrides: &Overrides, args: &PlanArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let daemon = Daemon::find(args.url.as_ref(), overrides, redactor)?;
    let body = daemon.ask(Method::GET, "/api/v1/plan", &[]).await?;
    let mut report: Report<'_> = serde_json::from_value(body).context("the daemon's plan is of another form")?;
    let status = daemon.ask(Method::GET, "/api/v1/status", &[]).await.unwrap_or_default();
    for project in &mut report.projects {
        if let Some(held) = &mut project.held {
            held.nobody_may = status["canOrder"] == false;
        }
    }
    if !args.project.is_empty() {
        report.projects.retain(|project| args.project.contains(&project.name));
    }
    let without = without_plan(&status, &report, &args.project);
    for line in &without {
        writeln!(output::stderr(), "descope-gitops: {line}")?;
    }
    let mut is_unknown = !without.is_empty();
    for project in &mut report.projects {
        let unknown = unheld(&status, &project.name).or_else(|| of_older_files(&status, &project.name));
        is_unknown |= unknown.is_some() || project.is_incomplete;
        project.warnings.splice(0..0, unknown.map(Cow::Owned));
    }
    if args.since.is_some() {
        return Err(
            UsageError("--since compares files, which a daemon elsewhere has not; leave --url out".to_owned()).into()
        );
    }
    args.selection.kinds()?;
    for project in &mut report.projects {
        let all = std::mem::take(&mut project.changes).into_rendered().into_iter();
        project.changes = all.filter(|change| args.selection.wants_id(&change.kind, &change.id)).collect();
        project.waits.retain(|wait| args.selection.wants_id(&wait.kind, &wait.id));
        project.refused.retain(|refused| args.selection.wants_id(&refused.kind, &refused.id));
        project.undeclared.retain(|one| args.selection.wants_id(&one.kind, &one.id));
    }
    show(&report, args.output)?;
    // What nobody has compared may differ.
    Ok(if args.exit_code && (is_unknown || report.has_differences()) { Exit::Differences } else { Exit::Done })
}

/// Of each project that was asked for and has no plan yet.
fn without_plan(status: &Value, report: &Report<'_>, asked: &[String]) -> Vec<String> {
    let names = status["projects"].as_array().into_iter().flatten().filter_map(|project| project["name"].as_str());
    let is_asked = |name: &&str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let without = names.filter(is_asked).filter(|name| report.projects.iter().all(|project| project.name != *name));
    let told = |name: &str| {
        let why = unheld(status, name).or_else(|| of_older_files(status, name));
        let why = why.map_or_else(String::new, |why| format!("; {why}"));
        format!("{name}: there is no plan yet: what differs is not known{why}")
    };
    without.map(told).collect()
}

/// That no replica holds the project, so that nobody knows how it is now.
fn unheld(status: &Value, project: &str) -> Option<String> {
    let project = status["projects"].as_array()?.iter().find(|it| it["name"] == project)?;
    let cause = table::unheld(project)?;
    Some(format!("NOT KNOWN WHAT DIFFERS NOW: {cause}; this plan is of before, if there is one"))
}

/// What the plan of a running daemon does not know of: newer files that cannot be used, or were not compared yet.
fn of_older_files(status: &Value, project: &str) -> Option<String> {
    let project = status["projects"].as_array()?.iter().find(|it| it["name"] == project)?;
    if let Some((newer, older)) = not_compared(project) {
        return Some(format!("NEWER FILES ARE NOT COMPARED YET: {newer}; this plan is of {older}"));
    }
    let desired = &project["desired"];
    let error = desired["errors"].as_array().filter(|_| desired["valid"] == false)?.first()?;
    let [file, message] = ["file", "message"].map(|name| error[name].as_str().unwrap_or_default());
    let (line, revision) =
        (&error["line"], desired["revision"].as_str().map(|revision| revision.get(..12).unwrap_or(revision)));
    let of = revision.map_or_else(String::new, |revision| format!(" this plan is of the last good ones, {revision};"));
    Some(format!("THE NEWEST FILES CANNOT BE USED:{of} {file}:{line}: {message}"))
}

/// The projects to look at: those that were named, or all.
pub fn selected(config: &Config, names: &[String]) -> anyhow::Result<Vec<String>> {
    let known: Vec<String> = config.projects.iter().map(|project| project.name.to_string()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(anyhow::Error::new(crate::cli::UsageError(format!(
            "--project: the config has no project {unknown}; it has {}",
            known.join(", ")
        ))));
    }
    Ok(if names.is_empty() { known } else { names.to_vec() })
}

/// What the files say now; an earlier state would not do here.
pub fn desired(loader: &mut Loader) -> Result<Arc<Desired>, Vec<Finding>> {
    let load = loader.load();
    for warning in &load.warnings {
        tracing::warn!("{warning}");
    }
    match load.desired {
        Some(desired) if load.errors.is_empty() => Ok(desired),
        Some(_) | None => Err(load.errors),
    }
}

/// What is wrong with the files, as `validate` says it.
pub fn show_findings(findings: &[Finding]) -> io::Result<()> {
    let mut err = BufWriter::new(output::stderr());
    for finding in findings {
        writeln!(err, "{finding}")?;
    }
    err.flush()
}

fn show(report: &Report<'_>, output: PlanOutput) -> anyhow::Result<()> {
    // A plan is as long as the project is large: it is written as it is told.
    let mut out = BufWriter::new(output::stdout());
    match output {
        PlanOutput::Text => render::write_text(report, output::style(), &mut out)?,
        PlanOutput::Markdown => out.write_all(render::markdown(report).as_bytes())?,
        PlanOutput::Json => {
            serde_json::to_writer_pretty(&mut out, report).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The old plan was shown without a word.
    #[test]
    fn the_plan_of_a_daemon_whose_newest_files_cannot_be_used_says_so() {
        let desired = |valid, errors| json!({ "projects": [{ "name": "beta", "desired": { "valid": valid, "revision": "0123456789abcdef", "errors": errors } }] });
        let errors = json!([{ "file": "beta/bad.yaml", "line": 3, "message": "is not YAML" }]);
        let expected = "THE NEWEST FILES CANNOT BE USED: this plan is of the last good ones, 0123456789ab; beta/bad.yaml:3: is not YAML";

        assert_eq!(of_older_files(&desired(false, errors.clone()), "beta").as_deref(), Some(expected));
        assert_eq!(of_older_files(&desired(true, json!([])), "beta"), None);
        assert_eq!(of_older_files(&desired(false, errors), "alpha"), None);
        assert_eq!(of_older_files(&Value::Null, "beta"), None);
    }

    /// It said that nothing differs, of files that nobody had compared.
    #[test]
    fn the_plan_of_a_daemon_that_has_not_compared_its_newest_files_says_so() {
        let status = |planned: Value, holds: Value| {
            let desired = json!({ "valid": true, "revision": "fedcba9876543210", "commit": "a8db519", "errors": [] });
            json!({ "projects": [{ "name": "beta", "desired": desired, "plannedRevision": planned, "holds": holds }] })
        };
        let aside = json!([{ "reason": "stale_revision", "stopsProject": true }]);
        let of = |planned: &str, holds: &Value| of_older_files(&status(json!(planned), holds.clone()), "beta");

        let expected = "NEWER FILES ARE NOT COMPARED YET: a8db519 (fedcba987654); this plan is of 0123456789ab";
        assert_eq!(of("0123456789abcdef", &json!([])).as_deref(), Some(expected));
        assert_eq!(of("fedcba9876543210", &json!([])), None);
        assert_eq!(of("0123456789abcdef", &aside), None, "that is told as a hold");
        assert_eq!(of_older_files(&status(Value::Null, json!([])), "beta"), None, "no plan was made, and none is told");
    }

    /// It was left out.
    #[test]
    fn a_project_of_which_the_daemon_has_no_plan_is_told_with_why() {
        let report = Report::new(Vec::new());
        let invalid = json!([{ "file": "a.yaml", "line": 3, "message": "no such field" }]);
        let desired = json!({ "valid": false, "revision": null, "errors": invalid });
        let status = json!({ "projects": [{ "name": "a", "desired": desired }, { "name": "b" }] });

        let said = without_plan(&status, &report, &[]);

        let none = "there is no plan yet: what differs is not known";
        assert_eq!(
            said,
            [format!("a: {none}; THE NEWEST FILES CANNOT BE USED: a.yaml:3: no such field"), format!("b: {none}")]
        );
    }

    /// It said that there is nothing to change, and nobody looked.
    #[test]
    fn the_plan_of_a_project_that_no_replica_holds_says_so() {
        let of = |lease: Value| unheld(&json!({ "projects": [{ "name": "beta", "lease": lease }] }), "beta");

        assert_eq!(of(Value::Null), None, "without replicas");
        assert_eq!(of(json!({ "holder": "one" })), None);
        assert!(of(json!({ "holder": null })).unwrap().contains("no replica holds it"));
        let gone = json!({ "holder": null, "unknownSince": "2026-01-01T00:00:00Z" });
        assert!(of(gone).unwrap().contains("the database of state.url does not answer"));
    }
}
