//! `descope-gitops export`: the live project as files that declare it.

use crate::cli::Exit;
use crate::cli::UsageError;
use crate::cli::bar::Bar;
use crate::cli::output;
use crate::cli::plan::selected;
use crate::cli::schema;
use crate::cli::select::Selection;
use crate::cli::shutdown::shutdown_on_hangup_too;
use crate::config;
use crate::config::Config;
use crate::config::Overrides;
use crate::config::process_env;
use crate::daemon;
use crate::daemon::settings;
use crate::descope::Client;
use crate::descope::transport::Network;
use crate::desired::export;
use crate::desired::export::Export;
use crate::desired::export::SCHEMA_FILE;
use crate::limiter::Priority;
use crate::observed;
use crate::resource;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::state::State;
use crate::telemetry::line::one_line;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use anyhow::Context;
use anyhow::bail;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

mod place;
mod update;
mod verify;

const EXAMPLES: &str = "\
Examples:
  descope-gitops export --dir my-config --verify               the whole project, proven
  descope-gitops export --dir roles --kind roles --kind permissions
  descope-gitops export --update my-config                     keep what somebody changed in the console";

/// What to write, and where.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ExportArgs {
    /// Directory to write into; made where there is none
    #[arg(long, value_name = "DIR", required_unless_present = "update")]
    pub dir: Option<PathBuf>,
    /// Change the files of this directory where they differ from the project, and nothing else in them: comments, order, quotes
    /// and anchors stay. What lives of their kinds and stands in no file is added. All of it or nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dir", "force", "verify"])]
    pub update: Option<PathBuf>,
    /// Overwrite files that are there
    #[arg(long)]
    pub force: bool,
    /// Plan the result against the project, and fail unless nothing but secrets differs
    #[arg(long)]
    pub verify: bool,
    /// Which resources
    #[command(flatten)]
    pub selection: Selection,
    /// The project, where the settings have more than one
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

/// A first export needs no files, and so no place where they are.
pub fn overrides(overrides: Overrides, args: &ExportArgs) -> Overrides {
    let is_given = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    if is_given(&overrides.config) || is_given(&overrides.source) {
        return overrides;
    }
    let dir = args.update.as_ref().or(args.dir.as_ref());
    Overrides { source: dir.map(|dir| dir.display().to_string()), ..overrides }
}

/// Exports.
pub async fn run(config: Config, args: ExportArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let mut names = selected(&config, args.project.as_slice())?;
    if names.len() > 1 {
        let message = format!("export writes one project; say which with --project: {}", names.join(", "));
        return Err(UsageError(message).into());
    }
    let name = names.pop().context("the config has no project")?;
    let kinds = args.selection.kinds()?;
    if let Some(dir) = &args.update {
        return update_files(&config, &name, dir, &kinds, &args.selection, redactor).await;
    }
    let dir = args.dir.as_deref().context("--dir is missing")?;
    place::refuse_to_mix(dir, args.force)?;
    let signals = shutdown_on_hangup_too()?;
    let stop = signals.token();
    let (project, client) = connect(&config, &name, redactor, &stop)?;
    let live = read(&client, &kinds, &args.selection, &stop).await?;
    let export = export::export(&live.documents, &project.built_in_roles, &|key| args.selection.wants(key), &[]);
    if export.resources == 0 && args.selection.is_narrow() {
        bail!("nothing in the project is what --kind and --target ask for");
    }
    let mut files = export.files.clone();
    let schema = serde_json::to_string_pretty(&schema::document(schema::Of::Desired))?;
    files.insert(SCHEMA_FILE.to_owned(), schema + "\n");
    place::write(dir, &files, args.force)?;
    say(dir, &export, &live.left_out)?;
    if !args.verify {
        return Ok(Exit::Done);
    }
    let again = read(&client, &kinds, &args.selection, &stop).await?;
    verify::run(&config, project, dir, again.documents, &export)
}

/// `--update`.
async fn update_files(
    config: &Config,
    name: &str,
    dir: &Path,
    kinds: &[&'static dyn Kind],
    selection: &Selection,
    redactor: &Redactor,
) -> anyhow::Result<Exit> {
    let signals = shutdown_on_hangup_too()?;
    let stop = signals.token();
    let (project, client) = connect(config, name, redactor, &stop)?;
    let Some(desired) = update::declared(config, project, dir)? else { return Ok(Exit::Invalid) };
    // Of what no call lists, nobody knows what is gone.
    let is_listed = |kind: &&'static dyn Kind| kind.spec().main().read != resource::spec::Read::ByName;
    let kinds = kinds.iter().copied().filter(|kind| desired.kinds.contains(kind.name()));
    let kinds: Vec<&'static dyn Kind> = kinds.filter(is_listed).collect();
    if kinds.is_empty() {
        bail!("the files in {} declare nothing of what --kind and --target ask for", dir.display());
    }
    let live = read(&client, &kinds, selection, &stop).await?;
    update::run(config, project, dir, &desired, live.documents, selection)
}

/// The one project to be exported, and calls of it.
fn connect<'c>(
    config: &'c Config,
    name: &str,
    redactor: &Redactor,
    stop: &CancellationToken,
) -> anyhow::Result<(&'c config::Project, Client)> {
    let connections = config.connections(&process_env)?;
    let state = State::look_at(&settings::place(config, &process_env)?)?;
    let metrics = Arc::new(Metrics::new());
    let limiters = daemon::limiters(config, &connections, state.as_ref(), &metrics);
    let found = config.projects.iter().zip(&connections).find(|(project, _)| *project.name == *name);
    let (project, connection) = found.with_context(|| format!("the config has no project {name}"))?;
    let limiter = limiters.get(&connection.host()).context("the project has no rate limiter")?;
    let client = Client::new(
        settings::client(config, connection, redactor),
        settings::key_source(connection, redactor),
        Arc::new(Network::to(&connection.base_url, config.max_answer)?),
        limiter.clone(),
        metrics,
        stop.clone(),
    );
    Ok((project, client.with_priority(Priority::Change)))
}

/// What lives, and what could not be asked for.
struct Whole {
    documents: BTreeMap<&'static str, Vec<Document>>,
    left_out: Vec<String>,
}

/// Reads everything that was asked for. What the project's plan lacks is left out; whatever else fails, fails all: an
/// export that silently lacks something is worse than none.
async fn read(
    client: &Client,
    kinds: &[&'static dyn Kind],
    selection: &Selection,
    stop: &CancellationToken,
) -> anyhow::Result<Whole> {
    let bar = Bar::start("calls");
    let wants = |key: &Key| selection.wants(key);
    let progress = |done, total| bar.show(done, total, String::new());
    let answers = stop.run_until_cancelled(observed::everything(client, kinds, &wants, &progress)).await;
    bar.finish();
    let Some(answers) = answers else { bail!("stopped; nothing was written") };
    let mut live = Whole { documents: BTreeMap::new(), left_out: Vec::new() };
    let refused = answers.refused.iter().map(|((kind, part), error)| format!("{part} of {kind}: {error}"));
    live.left_out.extend(refused);
    for (name, answer) in answers.kinds {
        match answer {
            Ok(documents) => drop(live.documents.insert(name, documents)),
            Err(error) if error.is_forbidden() => live.left_out.push(format!("{name}: {error}")),
            Err(error) => {
                let message = format!("{name} could not be read, so nothing was written; leave them out with --kind");
                return Err(anyhow::Error::new(error).context(message));
            }
        }
    }
    for kind in resource::ALL.iter().filter(|kind| kind.spec().main().read == resource::spec::Read::ByName) {
        if kinds.iter().any(|wanted| wanted.name() == kind.name()) {
            let found = live.documents.get(kind.name()).map_or(0, Vec::len);
            live.left_out.push(format!(
                "{}: no call lists them, so only those are here that something has a value of ({found}); declare others that \
                 you want to manage",
                kind.name()
            ));
        }
    }
    if live.documents.is_empty() {
        bail!("nothing could be read: {}", live.left_out.join("; "));
    }
    Ok(live)
}

/// What was written, and what is left to do.
fn say(dir: &Path, export: &Export, left_out: &[String]) -> std::io::Result<()> {
    let mut out = output::stdout();
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (resources, files) = (plural(export.resources, "resource"), plural(export.files.len(), "file"));
    writeln!(out, "exported {resources} to {files} in {}", dir.display())?;
    for left_out in left_out {
        writeln!(out, "left out: {}", one_line(left_out))?;
    }
    for note in &export.notes {
        writeln!(out, "note: {}", one_line(note))?;
    }
    if export.has_secret_files {
        writeln!(
            out,
            "\n`secretFile` says where the secret goes of what is made anew; in another project it takes, in the settings:\n  \
             secrets: {{ dir: DIRECTORY }}"
        )?;
    }
    if export.secrets.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{} that no call shows. The files refer to variables; set each, or take its line out where there is none or it \
         shall stay as it is:",
        plural(export.secrets.len(), "secret")
    )?;
    for secret in &export.secrets {
        writeln!(out, "  {}   {}: {}", secret.variable, one_line(&secret.key.to_string()), one_line(&secret.path))?;
    }
    writeln!(
        out,
        "and let the project read them, in the settings:\n  secrets: {{ env: [\"{}*\"] }}",
        export::SECRET_PREFIX
    )
}
