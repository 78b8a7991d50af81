//! `export --update`: the files that are there say what lives, and are otherwise as they were. All of it or nothing.

use crate::cli::Exit;
use crate::cli::export::place;
use crate::cli::export::verify;
use crate::cli::output;
use crate::cli::plan::show_findings;
use crate::cli::select::Selection;
use crate::config;
use crate::config::Config;
use crate::desired::Desired;
use crate::desired::check::Checker;
use crate::desired::edit;
use crate::desired::edit::Lives;
use crate::desired::export;
use crate::desired::export::Export;
use crate::open;
use crate::resource;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::source::loader::LARGEST_FILE;
use crate::source::loader::Settings;
use crate::telemetry::line::one_line;
use anyhow::Context;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What lives, by kind.
pub type ByKind = BTreeMap<&'static str, Vec<Document>>;

/// What is declared below the directory now. Without a value the files are wrong, and that was said.
pub fn declared(config: &Config, project: &config::Project, dir: &Path) -> anyhow::Result<Option<Arc<Desired>>> {
    let load = verify::load(config, project, dir)?;
    if load.errors.is_empty() {
        return Ok(load.desired);
    }
    show_findings(&load.errors)?;
    Ok(None)
}

/// Changes the files.
pub fn run(
    config: &Config,
    project: &config::Project,
    dir: &Path,
    desired: &Desired,
    live: ByKind,
    selection: &Selection,
) -> anyhow::Result<Exit> {
    let settings = verify::settings(config, project, dir)?;
    let update = Update { project, dir, desired, live: &live, selection };
    let found = update.find(&settings)?;
    let mut out = output::stdout();
    if !found.obstacles.is_empty() {
        for obstacle in &found.obstacles {
            writeln!(out, "{}", one_line(obstacle))?;
        }
        let places = if found.obstacles.len() == 1 { "this place" } else { "these places" };
        writeln!(out, "nothing was written: {places} cannot be changed without changing more than they say")?;
        return Ok(Exit::Failed);
    }
    if found.files.is_empty() {
        writeln!(out, "nothing to change: the files say what the project holds")?;
        return Ok(Exit::Done);
    }
    let left = prove(config, project, &settings, &found, live, selection)?;
    if !left.is_empty() {
        for line in &left {
            writeln!(out, "{}", one_line(line))?;
        }
        writeln!(
            out,
            "nothing was written: the changed files would not say what the project holds; change these by hand"
        )?;
        return Ok(Exit::Failed);
    }
    place::write(dir, &found.files, true)?;
    for name in found.files.keys() {
        writeln!(out, "changed {}", dir.join(name).display())?;
    }
    for note in &found.export.notes {
        writeln!(out, "note: {}", one_line(note))?;
    }
    for secret in &found.export.secrets {
        writeln!(
            out,
            "to fill in: {}   {}: {}",
            secret.variable,
            one_line(&secret.key.to_string()),
            one_line(&secret.path)
        )?;
    }
    Ok(Exit::Done)
}

struct Update<'a> {
    project: &'a config::Project,
    dir: &'a Path,
    desired: &'a Desired,
    live: &'a ByKind,
    selection: &'a Selection,
}

/// What is to be written, or why not.
#[derive(Default)]
struct Found {
    files: BTreeMap<String, String>,
    /// What the files name, by its path below the directory.
    documents: BTreeSet<PathBuf>,
    obstacles: Vec<String>,
    export: Export,
}

impl<'a> Update<'a> {
    fn find(&self, settings: &Settings) -> anyhow::Result<Found> {
        let mut found = Found::default();
        let mut names = Vec::new();
        for entry in settings.tree.scan()?.files {
            names.push(entry.path.to_string());
            let path = self.dir.join(&*entry.path);
            let whole = open::regular(&entry.real).and_then(|(file, _)| open::read(&file, LARGEST_FILE));
            let whole = whole.with_context(|| format!("cannot read {}", path.display()))?;
            let whole = String::from_utf8(whole).with_context(|| format!("{} is not UTF-8", path.display()))?;
            let (mark, text) = whole.strip_prefix('\u{feff}').map_or(("", &*whole), |text| ("\u{feff}", text));
            let unix = text.replace("\r\n", "\n");
            let edited = edit::edit(&unix, resource::ALL, &|kind, key, id| self.lives(kind, key, id));
            let obstacles = edited.obstacles.iter().map(|it| {
                let path = if it.path.is_empty() { String::new() } else { format!("{}: ", it.path) };
                format!("{}:{}: {}: {path}{}", entry.path, it.line, it.key, it.why)
            });
            found.obstacles.extend(obstacles);
            if edited.text != unix {
                let text = if unix == text { edited.text } else { edited.text.replace('\n', "\r\n") };
                found.files.insert(entry.path.to_string(), format!("{mark}{text}"));
            }
            self.documents(settings, &entry.path, &unix, &mut found);
        }
        self.add(&names, &mut found);
        Ok(found)
    }

    fn lives(&self, kind: &'static dyn Kind, key: &Key, id: Option<&str>) -> Lives<'a> {
        let Some(documents) = self.live.get(kind.name()).filter(|_| self.selection.wants(key)) else {
            return Lives::Unseen;
        };
        let is_it = |live: &&Document| match id {
            Some(id) => kind.server_id(live) == Some(id),
            None => kind.key(live).as_ref() == Some(key),
        };
        let mut all = documents.iter().filter(is_it);
        match (all.next(), all.next()) {
            (None, _) => Lives::No,
            (Some(live), None) => Lives::As(live),
            // Which of them is meant, the plan says that it cannot tell.
            (Some(_), Some(_)) => Lives::Unseen,
        }
    }

    /// The files that this one names, where what they hold lives otherwise.
    fn documents(&self, settings: &Settings, file: &Arc<str>, text: &str, found: &mut Found) {
        let checker = Checker { kinds: resource::ALL, fence: &settings.fence };
        let report = checker.check(file, text);
        let folder = Path::new(&**file).parent().unwrap_or(Path::new(""));
        for named in &report.named {
            let path = folder.join(&*named.path);
            found.documents.insert(path.clone());
            let Some(key) = report.resources.get(named.resource).map(|one| &one.key) else { continue };
            let Some(kind) = resource::kind(key.kind) else { continue };
            let opaque = kind.spec().field(named.field).and_then(|(_, field)| field.opaque());
            let wanted = self.desired.resources.get(key).and_then(|one| one.fields.get(named.field));
            let (Some(opaque), Some(wanted), Lives::As(live)) = (opaque, wanted, self.lives(kind, key, None)) else {
                continue;
            };
            let Some(lives) = live.get(named.field) else { continue };
            if opaque.against(wanted, lives) != opaque.against(wanted, wanted) {
                found.files.insert(path.to_string_lossy().into_owned(), export::document_text(opaque, lives));
            }
        }
    }

    /// What lives and stands nowhere, of the kinds that the files are about.
    fn add(&self, names: &[String], found: &mut Found) {
        let builtin = &self.project.built_in_roles;
        let mut new: BTreeSet<Key> = BTreeSet::new();
        for kind in
            resource::ALL.iter().filter(|kind| !kind.spec().is_only() && self.desired.kinds.contains(kind.name()))
        {
            let documents = self.live.get(kind.name()).map_or(&[][..], Vec::as_slice);
            let ids: BTreeSet<&str> = self.desired.of_kind(kind.name()).filter_map(|one| one.id(kind.spec())).collect();
            let is_new = |live: &&Document| !kind.server_id(live).is_some_and(|id| ids.contains(id));
            let keys = documents.iter().filter(is_new).filter_map(|live| kind.key(live));
            new.extend(keys.filter(|key| self.selection.wants(key) && !self.desired.resources.contains_key(key)));
        }
        found.export = export::export(self.live, builtin, &|key| new.contains(key), names);
        found.files.extend(found.export.files.clone());
    }
}

/// What would still differ once these files are in place. They are laid out elsewhere, beside copies of the others.
fn prove(
    config: &Config,
    project: &config::Project,
    settings: &Settings,
    found: &Found,
    live: ByKind,
    selection: &Selection,
) -> anyhow::Result<Vec<String>> {
    let stage = tempfile::tempdir().context("cannot make a directory to try the changed files in")?;
    let root = &settings.tree.root;
    let files = settings.tree.scan()?.files.into_iter().map(|entry| (PathBuf::from(&*entry.path), entry.real));
    let documents = found.documents.iter().map(|path| (path.clone(), root.join(path)));
    for (path, real) in files.chain(documents) {
        let to = stage.path().join(path);
        fs::create_dir_all(to.parent().unwrap_or(stage.path()))?;
        fs::copy(&real, &to).with_context(|| format!("cannot copy {}", real.display()))?;
    }
    place::write(stage.path(), &found.files, true)?;
    let load = verify::load(config, project, stage.path())?;
    let Some(desired) = load.desired.filter(|_| load.errors.is_empty()) else {
        return Ok(load.errors.iter().map(ToString::to_string).collect());
    };
    let plan = verify::plan(project, &desired, live);
    let changes = plan.changes.iter().filter(|change| selection.wants(&change.key));
    let differing = changes.map(|change| {
        let place = change.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let fields = change.fields.list();
        let fields: Vec<&str> = fields.iter().map(|field| &*field.path).collect();
        format!("{place}{}: {}", change.key, fields.join(", "))
    });
    let undeclared = plan.undeclared.iter().filter(|key| selection.wants(key));
    let refused = plan.refused.iter().filter(|refusal| selection.wants(&refusal.key));
    let refused = refused.map(|refusal| format!("{}: {}", refusal.key, refusal.message));
    Ok(differing.chain(undeclared.map(|key| format!("{key}: is not declared"))).chain(refused).collect())
}
