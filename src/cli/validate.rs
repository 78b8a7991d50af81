//! `descope-gitops validate`: checks the files without network or credentials.

use crate::cli::Exit;
use crate::cli::output;
use crate::config;
use crate::config::Config;
use crate::daemon::settings;
use crate::desired::Desired;
use crate::desired::Finding;
use crate::desired::Place;
use crate::desired::merge;
use crate::desired::secrets::Fence;
use crate::source::loader::Loader;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

mod excerpt;

use excerpt::Excerpts;

/// How the findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// A line per finding, as compilers write them.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// Annotations of GitHub Actions.
    Github,
}

const EXAMPLES: &str = "\
Examples:
  descope-gitops validate --source my-config
  descope-gitops validate -c gitops.yaml -o github             annotations of a pull request";

/// How the findings are shown.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ValidateArgs {
    /// How to write the findings
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Checks the files of all projects.
pub fn run(config: &Config, args: &ValidateArgs) -> anyhow::Result<Exit> {
    let loader = |project: &config::Project| (project.name.to_string(), Loader::new(settings::loader(config, project)));
    let mut projects: Vec<(String, Loader)> = config.projects.iter().map(loader).collect();
    let report = validate(&mut projects);
    let mut out = BufWriter::new(output::stdout());
    report.write(args.output, &mut out)?;
    out.flush()?;
    // The process ends here: giving back what a hundred thousand resources hold, piece by piece, is a tenth of the time.
    std::mem::forget(projects);
    Ok(report.exit())
}

/// What was found in the files of all projects.
#[derive(Debug, Default)]
pub struct Report {
    /// `source.path`: findings name files below it.
    root: PathBuf,
    errors: Vec<Finding>,
    /// Those included that `errors` only counts.
    error_count: usize,
    warnings: Vec<Finding>,
    resources: usize,
}

/// Loads every project once.
pub fn validate(projects: &mut [(String, Loader)]) -> Report {
    let mut report = Report::default();
    let mut claims = HashMap::new();
    for (name, loader) in projects.iter_mut() {
        loader.root().clone_into(&mut report.root);
        let load = loader.load();
        // Two projects may both lack a directory; a file belongs to one project only and needs no name.
        let named = |mut finding: Finding| {
            if finding.place.line == 0 && &*finding.place.file == "." {
                finding.message = format!("project {name}: {}", finding.message);
            }
            finding
        };
        report.error_count += load.error_count;
        report.warnings.extend(load.remarks().map(named));
        report.errors.extend(load.errors.into_iter().map(named));
        if let Some(desired) = load.desired {
            report.resources += desired.resources.len();
            let again = secret_files(name, loader.fence(), &desired, &mut claims);
            report.error_count += again.len();
            report.errors.extend(again);
        }
    }
    report.errors.sort();
    report.warnings.sort();
    report
}

/// By where it is, the project and the place that first declared it.
type Claims = HashMap<PathBuf, (String, Place)>;

/// Of the secrets of two projects in one file, one would not get there.
fn secret_files(project: &str, fence: &Fence, desired: &Desired, claims: &mut Claims) -> Vec<Finding> {
    let mut found = Vec::new();
    for one in desired.resources.values() {
        let Some(name) = one.secret_file.as_deref() else { continue };
        let Some(path) = fence.target(name).ok().or_else(|| Some(fence.dir.as_ref()?.join(name))) else { continue };
        match claims.get(&path) {
            Some((first, place)) if first != project => {
                let message = format!(
                    "{name} is also the file of a secret of project {first}, at {}; name another one, or give each project a \
                     `secrets.dir` of its own",
                    merge::at(place)
                );
                found.push(merge::about(one, "secretFile", message));
            }
            Some(_) => {}
            None => drop(claims.insert(path, (project.to_owned(), one.place.clone()))),
        }
    }
    found
}

impl Report {
    /// Done where everything is right; warnings do not count.
    pub fn exit(&self) -> Exit {
        if self.errors.is_empty() { Exit::Done } else { Exit::Invalid }
    }

    /// Writes the report.
    pub fn write(&self, output: Output, to: &mut impl Write) -> io::Result<()> {
        match output {
            Output::Text => self.write_text(to),
            Output::Json => {
                serde_json::to_writer_pretty(&mut *to, &self.document())?;
                writeln!(to)
            }
            Output::Github => self.write_github(to),
        }
    }

    fn write_text(&self, to: &mut impl Write) -> io::Result<()> {
        let mut excerpts = Excerpts::of(&self.root);
        for error in &self.errors {
            writeln!(to, "{error}")?;
            if let Some(excerpt) = excerpts.at(&error.place) {
                writeln!(to, "{excerpt}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(to, "warning: {warning}")?;
        }
        if self.errors.is_empty() {
            return writeln!(to, "valid: {}", counted(self.resources, "resource"));
        }
        writeln!(to, "invalid: {}", counted(self.error_count, "error"))
    }

    fn document(&self) -> Document<'_> {
        Document {
            format_version: 1,
            errors: self.errors.iter().map(Item::of).collect(),
            warnings: self.warnings.iter().map(Item::of).collect(),
        }
    }

    fn write_github(&self, to: &mut impl Write) -> io::Result<()> {
        // GitHub shows an annotation at the file only where the path is the repository's.
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
        let root = root.strip_prefix(&here).unwrap_or(&root);
        let sorts = [("error", &self.errors), ("warning", &self.warnings)];
        for (level, finding) in sorts.into_iter().flat_map(|(level, all)| all.iter().map(move |one| (level, one))) {
            writeln!(to, "{}", annotation(level, root, finding))?;
        }
        Ok(())
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// The workflow commands of GitHub Actions, with their escapes.
fn annotation(level: &str, root: &Path, finding: &Finding) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let file = if &*finding.place.file == "." { root.to_owned() } else { root.join(&*finding.place.file) };
    let file = property(&file.to_string_lossy());
    let numbers = [("line", finding.place.line), ("col", finding.place.column)];
    let numbers: Vec<String> = numbers.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!(",{name}={n}")).collect();
    let numbers = numbers.concat();
    let parts = [&finding.resource, &finding.field, &finding.message];
    let text: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect();
    format!("::{level} file={file}{numbers}::{}", data(&text.join(": ")))
}

/// `validate -o json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    format_version: u8,
    errors: Vec<Item<'a>>,
    warnings: Vec<Item<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Item<'a> {
    /// Below `source.path`; `.` for all of it.
    file: &'a str,
    /// From 1; 0 for a whole file.
    line: u32,
    /// In characters, from 1; 0 for a whole line.
    column: u32,
    /// `KIND/ID`; may be empty.
    resource: &'a str,
    /// May be empty.
    field: &'a str,
    /// What is wrong, and what to do.
    message: &'a str,
}

impl<'a> Item<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            file: &finding.place.file,
            line: finding.place.line,
            column: finding.place.column,
            resource: &finding.resource,
            field: &finding.field,
            message: &finding.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::secrets::Fence;
    use crate::desired::testing::KINDS;
    use crate::source::loader::Settings;
    use crate::source::tree::NamedFiles;
    use crate::source::tree::Tree;
    use globset::GlobSet;
    use std::fs;

    fn written(report: &Report, output: Output) -> String {
        let mut text = Vec::new();
        report.write(output, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn project(name: &str, root: &Path, path: &str) -> (String, Loader) {
        let tree = Tree {
            root: root.to_owned(),
            paths: vec![path.into()],
            others: Vec::new(),
            exclude: GlobSet::empty(),
            named: NamedFiles::default(),
        };
        (name.to_owned(), Loader::new(Settings::new(tree, Fence::default(), KINDS)))
    }

    #[test]
    fn errors_of_every_project_are_written_in_each_form() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("one")).unwrap();
        fs::write(
            temp.path().join("one/a,b.yaml"),
            "roles:\n- {name: \"50%\", x: 1, permissionNames: [q]}\npermissions: []\n",
        )
        .unwrap();

        let report = validate(&mut [project("one", temp.path(), "one"), project("two", temp.path(), "two")]);

        let root = temp.path().canonicalize().unwrap();
        let root = root.display();
        assert_eq!(report.exit(), Exit::Invalid);
        assert_eq!(
            written(&report, Output::Text),
            format!(
                ".: project two: the project's directory {root}/two does not exist
one/a,b.yaml:2: roles/50%: x: roles have no such field
  --> one/a,b.yaml:2:17
   2 | - {{name: …, x: 1, permissionNames: [q]}}
     |             ^
warning: one/a,b.yaml:2: roles/50%: refers to permissions/q, which is not declared and so must exist in the project already
invalid: 2 errors
"
            )
        );
        assert_eq!(
            written(&report, Output::Github),
            format!(
                "::error file={root}::project two: the project's directory {root}/two does not exist
::error file={root}/one/a%2Cb.yaml,line=2,col=17::roles/50%25: x: roles have no such field
::warning file={root}/one/a%2Cb.yaml,line=2,col=3::roles/50%25: refers to permissions/q, which is not declared and so must exist in the project already
"
            )
        );
        let json: serde_json::Value = serde_json::from_str(&written(&report, Output::Json)).unwrap();
        assert_eq!(json["formatVersion"], 1);
        assert_eq!(
            json["errors"][1],
            serde_json::json!({ "file": "one/a,b.yaml", "line": 2, "column": 17, "resource": "roles/50%", "field": "x",
                "message": "roles have no such field" })
        );
        assert_eq!(json["warnings"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_valid_repo_says_how_much_it_declares() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a.yaml"), "roles: [{name: a}]\n").unwrap();

        let report = validate(&mut [project("one", temp.path(), ".")]);

        assert_eq!((report.exit(), written(&report, Output::Text)), (Exit::Done, "valid: 1 resource\n".to_owned()));
        assert_eq!(written(&report, Output::Github), "");
    }
}
