//! Does the export say what lives? The files are read as the daemon reads them, and planned against a look of their own.

use crate::cli::Exit;
use crate::cli::output;
use crate::cli::plan::show_findings;
use crate::config;
use crate::config::Config;
use crate::daemon::settings;
use crate::desired::Desired;
use crate::desired::export::Export;
use crate::desired::export::SECRET_PREFIX;
use crate::desired::secrets::Fence;
use crate::observed::Observed;
use crate::plan;
use crate::plan::DriftRules;
use crate::plan::Guards;
use crate::plan::Inputs;
use crate::plan::Plan;
use crate::plan::Policy;
use crate::plan::Sent;
use crate::plan::Watch;
use crate::plan::guards::Most;
use crate::plan::render;
use crate::plan::render::Pace;
use crate::plan::render::ProjectReport;
use crate::plan::render::Report;
use crate::resource;
use crate::resource::Document;
use crate::resource::Documents;
use crate::source::loader::Load;
use crate::source::loader::Loader;
use crate::source::loader::Settings;
use crate::source::tree::NamedFiles;
use crate::source::tree::Tree;
use globset::Glob;
use globset::GlobSet;
use globset::GlobSetBuilder;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;
use tokio::time::Instant;

/// As the daemon reads the files, below this directory and with every variable that an export may name.
pub fn settings(config: &Config, project: &config::Project, dir: &Path) -> anyhow::Result<Settings> {
    let usual = settings::loader(config, project);
    let mut env = GlobSetBuilder::new();
    env.add(Glob::new(&format!("{SECRET_PREFIX}*"))?);
    for glob in &project.secrets.env {
        env.add(glob.clone());
    }
    let fence = Fence { env: env.build()?, ..usual.fence.clone() };
    let (exclude, named) = (GlobSet::empty(), NamedFiles::default());
    let tree = Tree { root: dir.to_owned(), paths: vec![".".into()], others: Vec::new(), exclude, named };
    Ok(Settings { tree, fence, ..usual })
}

/// Reads the files.
pub fn load(config: &Config, project: &config::Project, dir: &Path) -> anyhow::Result<Load> {
    Ok(Loader::new(settings(config, project, dir)?).load())
}

/// Done where nothing but secrets could differ.
pub fn run(
    config: &Config,
    project: &config::Project,
    dir: &Path,
    live: BTreeMap<&'static str, Vec<Document>>,
    export: &Export,
) -> anyhow::Result<Exit> {
    let load = load(config, project, dir)?;
    let Some(desired) = load.desired.filter(|_| load.errors.is_empty()) else {
        show_findings(&load.errors)?;
        return Ok(Exit::Invalid);
    };
    let plan = plan(project, &desired, live);
    let mut out = output::stdout();
    if plan.changes.is_empty() && plan.refused.is_empty() {
        let secrets = export.secrets.len();
        let plural = if secrets == 1 { "" } else { "s" };
        let but = match secrets {
            0 => String::new(),
            _ => format!(", but for {secrets} secret{plural}, which nobody can read"),
        };
        writeln!(out, "\nverified: the files say what the project holds{but}")?;
        return Ok(Exit::Done);
    }
    let report = Report::new(vec![ProjectReport::new(&project.name, &plan, Pace::Free)]);
    writeln!(out, "\nnot verified: the files say something else than the project holds")?;
    out.write_all(render::text(&report, output::style()).as_bytes())?;
    Ok(Exit::Failed)
}

/// What an apply would change but for secrets, which nobody can compare. Nothing is held.
pub fn plan(project: &config::Project, desired: &Desired, live: BTreeMap<&'static str, Vec<Document>>) -> Plan {
    let most = || Most { default: usize::MAX, by_kind: BTreeMap::new(), percent: f64::INFINITY };
    let packed = |(name, documents): (&'static str, Vec<Document>)| {
        Some((name, Ok(Documents::of_kind(resource::kind(name)?, documents))))
    };
    let observed = Observed {
        began: Instant::now(),
        unread: BTreeMap::new(),
        kinds: live.into_iter().filter_map(packed).collect(),
    };
    plan::diff(&Inputs {
        scope: "",
        desired,
        observed: &observed,
        owned: &BTreeMap::new(),
        ids: &HashMap::new(),
        // What no answer shows cannot differ from what it shows.
        sent: &|_, _, _| Sent::Same,
        secret: &|_, _, _| Ok(Sent::Same),
        document: &|_, _, _, _| false,
        previews: &BTreeMap::new(),
        renamed: &|_, _| false,
        policy: Policy::UpsertOnly,
        builtin_roles: &project.built_in_roles,
        guards: &Guards {
            deletes: most(),
            missing: most(),
            max_change_percent: None,
            weakening: Watch::Off,
            lockout: Watch::Off,
        },
        first_contact: false,
        former: None,
        holds_contact: false,
        is_contacted: &|_, _| true,
        windows: &BTreeMap::new(),
        drift: &DriftRules::HEAL,
        applied: &|_| None,
        drifted_since: &|_, _| None,
        now: SystemTime::UNIX_EPOCH,
        lost: &BTreeMap::new(),
        volume: &|| None,
        place: &|_| 0,
        may_delete: &|_| false,
        contested: &|_| None,
        is_approved: &|_| false,
    })
}
