//! Reads one consistent revision of a project's files and turns it into a checked desired state.
//!
//! All or nothing: whatever is wrong, the last good state stays in force. Remembers each file by its signature, so
//! that an edit costs one file and not the tree.

use crate::desired::Desired;
use crate::desired::Finding;
use crate::desired::Place;
use crate::desired::check::Checker;
use crate::desired::check::FileReport;
use crate::desired::merge;
use crate::desired::secrets::Fence;
use crate::open;
use crate::resource::Kind;
use crate::source::git;
use crate::source::tree;
use crate::source::tree::Entry;
use crate::source::tree::Scan;
use crate::source::tree::Stat;
use crate::source::tree::Tree;
use sha2::Digest;
use sha2::Sha256;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// The largest file that is read.
pub const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// What a project is loaded from.
#[derive(Clone)]
pub struct Settings {
    /// Where its files are.
    pub tree: Tree,
    /// What they may refer to.
    pub fence: Fence,
    /// What they may declare: [`crate::resource::ALL`].
    pub kinds: &'static [&'static dyn Kind],
    /// How long a file must have stood still. Longer than a tick of the kernel's clock, of which 100 Hz is the slowest.
    pub quiet: Duration,
    /// How many looks a load may take, each `quiet` apart, before it gives up on a tree that keeps moving.
    pub tries: u32,
}

impl Settings {
    /// Settings with the usual patience: five seconds.
    pub fn new(tree: Tree, fence: Fence, kinds: &'static [&'static dyn Kind]) -> Self {
        Self { tree, fence, kinds, quiet: Duration::from_millis(50), tries: 100 }
    }
}

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoadResult {
    /// Another revision than before is in force.
    Changed,
    /// The same revision as before.
    Unchanged,
    /// The files say something that cannot be.
    Invalid,
    /// The files could not be read as one revision.
    IoError,
}

impl LoadResult {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Invalid => "invalid",
            Self::IoError => "io_error",
        }
    }
}

/// The outcome of one load. `revision`, `commit` and `loaded_at` belong to `desired`.
#[derive(Debug, Clone)]
pub struct Load {
    /// How it ended.
    pub result: LoadResult,
    /// The last good state: this load's, or an earlier one's.
    pub desired: Option<Arc<Desired>>,
    /// Digest of the content.
    pub revision: Option<Arc<str>>,
    /// The commit it was checked out from.
    pub commit: Option<String>,
    /// When this revision was first loaded.
    pub loaded_at: Option<SystemTime>,
    /// Why the newest files are not in force; empty where they are.
    pub errors: Vec<Finding>,
    /// About the newest files.
    pub warnings: Vec<Finding>,
}

/// Loads one project, again and again.
pub struct Loader {
    settings: Settings,
    files: HashMap<Arc<str>, Arc<Read>>,
    good: Option<Good>,
}

struct Good {
    revision: Arc<str>,
    desired: Arc<Desired>,
    commit: Option<String>,
    loaded_at: SystemTime,
    warnings: Vec<Finding>,
}

/// A file as it was read.
struct Read {
    real: PathBuf,
    stat: Stat,
    digest: [u8; 32],
    blob: [u8; 20],
    report: Arc<FileReport>,
}

/// A file by its path below the root.
type Known = (Arc<str>, Arc<Read>);

/// Files that stood still while they were read.
struct Revision {
    scan: Scan,
    files: Vec<Known>,
}

/// Why there is no revision to load, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotARevision {
    /// The reason.
    pub reason: String,
}

impl Loader {
    /// A loader that has loaded nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, files: HashMap::new(), good: None }
    }

    /// The directory that findings' files are below.
    pub fn root(&self) -> &Path {
        &self.settings.tree.root
    }

    /// Loads the newest revision. Blocks: it reads files, and waits a little while they move.
    pub fn load(&mut self) -> Load {
        let revision = match self.read() {
            Ok(revision) => revision,
            Err(NotARevision { reason }) => return self.kept(LoadResult::IoError, vec![whole(reason)], Vec::new()),
        };
        let reports: Vec<Arc<FileReport>> = revision.files.iter().map(|(_, read)| Arc::clone(&read.report)).collect();
        let digest = digest(&revision);
        let commit = self.commit(&revision);
        if let Some(good) =
            self.good.as_mut().filter(|good| good.revision == digest && revision.scan.refused.is_empty())
        {
            good.commit = commit;
            let warnings = good.warnings.clone();
            return self.kept(LoadResult::Unchanged, Vec::new(), warnings);
        }
        let mut merged = merge::merge(self.settings.kinds, &reports);
        merged.errors.extend(revision.scan.refused.iter().map(|refused| Finding {
            place: Place { file: Arc::clone(&refused.path), line: 0 },
            resource: String::new(),
            field: String::new(),
            message: refused.reason.clone(),
        }));
        merged.errors.sort();
        if merged.errors.is_empty() && merged.desired.kinds.is_empty() {
            let reason = "no YAML file declares anything; to declare that there are none of a kind, write `roles: []`";
            merged.errors.push(whole(reason.to_owned()));
        }
        if !merged.errors.is_empty() {
            return self.kept(LoadResult::Invalid, merged.errors, merged.warnings);
        }
        self.good = Some(Good {
            revision: digest,
            desired: Arc::new(merged.desired),
            commit,
            loaded_at: SystemTime::now(),
            warnings: merged.warnings.clone(),
        });
        self.kept(LoadResult::Changed, Vec::new(), merged.warnings)
    }

    fn kept(&self, result: LoadResult, errors: Vec<Finding>, warnings: Vec<Finding>) -> Load {
        let good = self.good.as_ref();
        Load {
            result,
            desired: good.map(|good| Arc::clone(&good.desired)),
            revision: good.map(|good| Arc::clone(&good.revision)),
            commit: good.and_then(|good| good.commit.clone()),
            loaded_at: good.map(|good| good.loaded_at),
            errors,
            warnings,
        }
    }

    /// Reads until one look before and one after agree, and nothing is so young that its times prove nothing.
    fn read(&mut self) -> Result<Revision, NotARevision> {
        let quiet = self.settings.quiet;
        let mut reason = String::from("the files changed while they were read");
        let mut steady: Option<(Scan, Duration)> = None;
        for turn in 0..self.settings.tries.max(1) {
            if turn > 0 {
                pause(quiet);
            }
            let scan = match self.settings.tree.scan() {
                Ok(scan) => scan,
                Err(tree::Error::Moved) => {
                    steady = None;
                    continue;
                }
                Err(error @ (tree::Error::Gone(_) | tree::Error::Io(_))) => {
                    // Between two commits a directory may be gone for a moment; otherwise waiting changes nothing.
                    if self.is_locked() {
                        steady = None;
                        continue;
                    }
                    return Err(NotARevision { reason: error.to_string() });
                }
            };
            if scan.mark.is_locked {
                let lock = scan.checkout.as_ref().map(git::Checkout::lock).unwrap_or_default();
                reason = format!("git is changing the files; if no git runs, remove {}", lock.display());
                steady = None;
                continue;
            }
            "the files changed while they were read".clone_into(&mut reason);
            let stood = match steady.take() {
                Some((before, stood)) if before == scan => stood + quiet,
                _ => Duration::ZERO,
            };
            if scan.unsettled(SystemTime::now(), quiet).is_some_and(|needed| stood < needed) {
                steady = Some((scan, stood));
                continue;
            }
            let files = self.read_files(&scan);
            match self.settings.tree.scan() {
                Ok(after) if after == scan => match files {
                    Ok(files) => {
                        self.files = files.iter().cloned().collect();
                        return Ok(Revision { scan, files });
                    }
                    Err(failed) => return Err(NotARevision { reason: failed }),
                },
                _ => steady = None,
            }
        }
        Err(NotARevision { reason })
    }

    fn is_locked(&self) -> bool {
        let root = self.settings.tree.root.canonicalize();
        root.ok().and_then(|root| git::Checkout::find(&root)).is_some_and(|checkout| checkout.mark().is_locked)
    }

    /// Reads and checks what changed since it was last read; one thread per core.
    fn read_files(&self, scan: &Scan) -> Result<Vec<Known>, String> {
        let known = |entry: &Entry| {
            let read = self.files.get(&entry.path)?;
            (read.stat == entry.stat && read.real == entry.real).then(|| (Arc::clone(&entry.path), Arc::clone(read)))
        };
        let unknown: Vec<&Entry> = scan.files.iter().filter(|entry| known(entry).is_none()).collect();
        let checker = Checker { kinds: self.settings.kinds, fence: &self.settings.fence };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut mine = Vec::new();
            while let Some(entry) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                mine.push(read_file(entry, checker).map(|read| (Arc::clone(&entry.path), Arc::new(read))));
            }
            mine
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let read = std::thread::scope(|scope| {
            // A thread costs more than a few files.
            let others: Vec<_> = (1..cores.min(unknown.len() / 8)).map(|_| scope.spawn(work)).collect();
            let mut read = work();
            for other in others {
                read.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            read
        });
        let fresh: HashMap<Arc<str>, Arc<Read>> = read.into_iter().collect::<Result<_, _>>()?;
        let files = scan.files.iter().filter_map(|entry| {
            known(entry).or_else(|| Some((Arc::clone(&entry.path), Arc::clone(fresh.get(&entry.path)?))))
        });
        Ok(files.collect())
    }

    fn commit(&self, revision: &Revision) -> Option<String> {
        let checkout = revision.scan.checkout.as_ref()?;
        let below_top = revision.scan.real_root.strip_prefix(&checkout.top).ok()?;
        let mut files = HashMap::with_capacity(revision.files.len());
        for (_, read) in &revision.files {
            files.insert(read.real.strip_prefix(&checkout.top).ok()?, (read.stat, read.blob));
        }
        checkout.label(&files, |path| path.strip_prefix(below_top).is_ok_and(|path| self.settings.tree.counts(path)))
    }
}

fn read_file(entry: &Entry, checker: Checker<'_>) -> Result<Read, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", entry.path);
    let (file, metadata) = open::regular(&entry.real).map_err(failed)?;
    let mut read = Read {
        real: entry.real.clone(),
        stat: Stat::of(&metadata),
        digest: [0; 32],
        blob: [0; 20],
        report: Arc::default(),
    };
    if read.stat != entry.stat {
        return Err(format!("{} changed while it was read", entry.path));
    }
    if metadata.len() > LARGEST_FILE {
        read.report = Arc::new(unreadable(&entry.path, "holds more than 64 MiB; split it"));
        return Ok(read);
    }
    let bytes = open::read(&file, LARGEST_FILE).map_err(failed)?;
    read.digest = Sha256::digest(&bytes).into();
    read.blob = git::blob(&bytes);
    read.report = Arc::new(match std::str::from_utf8(&bytes) {
        Ok(text) => checker.check(&entry.path, text),
        Err(_) => unreadable(&entry.path, "is not UTF-8; save it as UTF-8"),
    });
    Ok(read)
}

fn unreadable(path: &Arc<str>, message: &str) -> FileReport {
    let place = Place { file: Arc::clone(path), line: 0 };
    let finding = Finding { place, resource: String::new(), field: String::new(), message: message.to_owned() };
    FileReport { errors: vec![finding], ..FileReport::default() }
}

/// A finding about the tree as a whole.
fn whole(message: String) -> Finding {
    Finding { place: Place { file: ".".into(), line: 0 }, resource: String::new(), field: String::new(), message }
}

/// Over the sorted paths and their content, so that it depends on nothing else.
fn digest(revision: &Revision) -> Arc<str> {
    let mut all = Sha256::new();
    for (path, read) in &revision.files {
        all.update((path.len() as u64).to_be_bytes());
        all.update(path.as_bytes());
        all.update(read.digest);
    }
    // 64 bits: enough to never see two alike, short enough to say aloud.
    let mut text = String::with_capacity(16);
    for byte in all.finalize().iter().take(8) {
        // Writing to a String cannot fail.
        _ = write!(text, "{byte:02x}");
    }
    text.into()
}

fn pause(time: Duration) {
    #[allow(clippy::disallowed_methods, reason = "a load blocks its thread by contract; it runs outside the runtime")]
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::testing::KINDS;
    use globset::Glob;
    use globset::GlobSet;
    use globset::GlobSetBuilder;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;
    use std::sync::atomic::AtomicBool;

    type Spoil = Box<dyn Fn(&Path)>;

    /// A loader over a temporary directory, with little patience.
    fn loader_of(root: &Path) -> Loader {
        let tree = Tree { root: root.to_owned(), paths: vec![".".into()], exclude: GlobSet::empty() };
        let settings = Settings::new(tree, Fence::default(), KINDS);
        Loader::new(Settings { quiet: Duration::from_millis(20), tries: 8, ..settings })
    }

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn lines(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    fn keys(load: &Load) -> Vec<String> {
        load.desired.as_ref().unwrap().resources.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_load_is_changed_once_and_then_unchanged() {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), "a.yaml", "roles: [{name: a}]\n");
        write(temp.path(), "deep/er/b.yml", "roles: [{name: b}]\n");
        write(temp.path(), ".hidden/c.yaml", "roles: [{name: c}]\n");
        write(temp.path(), ".d.yaml", "broken: [\n");
        write(temp.path(), "README.md", "roles: [{name: e}]\n");
        let mut loader = loader_of(temp.path());

        let first = loader.load();
        let second = loader.load();
        fs::rename(temp.path().join("a.yaml"), temp.path().join("z.yaml")).unwrap();
        let moved = loader.load();

        assert_eq!((first.result, second.result), (LoadResult::Changed, LoadResult::Unchanged));
        assert_eq!(keys(&first), ["roles/a", "roles/b"]);
        assert!(Arc::ptr_eq(first.desired.as_ref().unwrap(), second.desired.as_ref().unwrap()));
        assert_eq!((first.revision.as_deref().unwrap().len(), first.commit), (16, None));
        assert_eq!(first.revision, second.revision);
        assert_eq!(moved.result, LoadResult::Changed, "places are part of a revision");
        assert_ne!(moved.revision, first.revision);
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let temp = tempfile::tempdir().unwrap();
        for n in 0..40 {
            write(temp.path(), &format!("{n}.yaml"), &format!("roles: [{{name: r{n}}}]\n"));
        }
        let mut loader = loader_of(temp.path());
        let before = loader.load();
        write(temp.path(), "7.yaml", "roles: [{name: seven}]\n");

        let after = loader.load();

        let shared = |key: &str| {
            let of = |load: &Load| {
                load.desired.as_ref().unwrap().resources.get(&crate::resource::Key::new("roles", key)).cloned()
            };
            of(&before).zip(of(&after)).is_some_and(|(a, b)| Arc::ptr_eq(&a, &b))
        };
        assert!((0..40).filter(|n| *n != 7).all(|n| shared(&format!("r{n}"))));
        assert!(keys(&after).contains(&"roles/seven".to_owned()));
        assert_eq!(after.desired.unwrap().resources.len(), 40);
    }

    #[test]
    fn whatever_breaks_the_last_good_state_stays_in_force() {
        let good = "roles: [{name: a}]\n";
        let cases: Vec<(&str, LoadResult, &str, Spoil)> = vec![
            (
                "broken",
                LoadResult::Invalid,
                "a.yaml:1: is not YAML: ",
                Box::new(|p| write(p, "a.yaml", "roles: [{}}]")),
            ),
            ("emptied", LoadResult::Invalid, "a.yaml: is empty;", Box::new(|p| write(p, "a.yaml", ""))),
            (
                "only a comment left",
                LoadResult::Invalid,
                ".: no YAML file declares anything;",
                Box::new(|p| write(p, "a.yaml", "# later\n")),
            ),
            (
                "no file left",
                LoadResult::Invalid,
                ".: no YAML file declares anything;",
                Box::new(|p| fs::remove_file(p.join("a.yaml")).unwrap()),
            ),
            ("gone", LoadResult::IoError, ".: the source directory ", Box::new(|p| fs::remove_dir_all(p).unwrap())),
            (
                "a file in its place",
                LoadResult::IoError,
                ".: the source ",
                Box::new(|p| {
                    fs::remove_dir_all(p).unwrap();
                    fs::write(p, "roles: []\n").unwrap();
                }),
            ),
            (
                "git at work",
                LoadResult::IoError,
                ".: git is changing the files; if no git runs, remove ",
                Box::new(|p| write(p, ".git/index.lock", "")),
            ),
            (
                "not text",
                LoadResult::Invalid,
                "a.yaml: is not UTF-8; save it as UTF-8",
                Box::new(|p| fs::write(p.join("a.yaml"), [b'a', 0xff]).unwrap()),
            ),
            (
                "a link out",
                LoadResult::Invalid,
                "b.yaml: is a symbolic link that leaves the source directory; nothing outside may be read",
                Box::new(|p| symlink("/proc/self/environ", p.join("b.yaml")).unwrap()),
            ),
            (
                "a link to nowhere",
                LoadResult::Invalid,
                "b.yaml: is a symbolic link that leads nowhere; mend or remove it",
                Box::new(|p| symlink("nowhere", p.join("b.yaml")).unwrap()),
            ),
            (
                "a FIFO",
                LoadResult::Invalid,
                "b.yaml: is not a regular file; remove it",
                Box::new(|p| {
                    let mode = rustix::fs::Mode::RUSR;
                    rustix::fs::mknodat(rustix::fs::CWD, p.join("b.yaml"), rustix::fs::FileType::Fifo, mode, 0)
                        .unwrap();
                }),
            ),
            (
                "too big",
                LoadResult::Invalid,
                "b.yaml: holds more than 64 MiB; split it",
                Box::new(|p| fs::File::create(p.join("b.yaml")).unwrap().set_len(LARGEST_FILE + 1).unwrap()),
            ),
        ];
        for (case, result, message, spoil) in cases {
            let temp = tempfile::tempdir().unwrap();
            let root = temp.path().join("repo");
            write(&root, "a.yaml", good);
            let mut loader = loader_of(&root);
            let before = loader.load();
            assert_eq!(before.result, LoadResult::Changed, "{case}: {:?}", before.errors);

            spoil(&root);
            let spoilt = loader.load();

            assert_eq!(spoilt.result, result, "{case}");
            let errors = lines(&spoilt.errors);
            assert!(errors.len() == 1 && errors[0].starts_with(message), "{case}: {errors:?}");
            assert_eq!(keys(&spoilt), ["roles/a"], "{case}");
            assert_eq!(spoilt.revision, before.revision, "{case}");

            if root.is_file() {
                fs::remove_file(&root).unwrap();
            }
            if root.is_dir() {
                fs::remove_dir_all(&root).unwrap();
            }
            write(&root, "a.yaml", good);
            let mended = loader.load();
            assert_eq!((mended.result, mended.errors), (LoadResult::Unchanged, vec![]), "{case}");
        }
    }

    #[test]
    fn links_within_the_root_are_read_and_directory_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("mount");
        write(&root, "..1/m.yaml", "roles: [{name: one}]\n");
        write(&root, "..2/m.yaml", "roles: [{name: two}]\n");
        write(&root, "real/x.yaml", "permissions: []\n");
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/m.yaml", root.join("m.yaml")).unwrap();
        symlink("real", root.join("alias")).unwrap();
        symlink("real", root.join("alias.yaml")).unwrap();
        symlink(&root, temp.path().join("current")).unwrap();
        let mut loader = loader_of(&temp.path().join("current"));

        let first = loader.load();
        symlink("..2", root.join("..tmp")).unwrap();
        fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
        let second = loader.load();

        assert_eq!((keys(&first), keys(&second)), (vec!["roles/one".to_owned()], vec!["roles/two".to_owned()]));
        assert_eq!(lines(&second.errors), Vec::<String>::new());
    }

    #[test]
    fn a_project_reads_its_own_directories_and_nothing_excluded() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["a/x", "b/x", "c/x", "b/vendor/deep/y", "b/chart.values"] {
            write(temp.path(), &format!("{name}.yaml"), &format!("roles: [{{name: {name}}}]\n"));
        }
        symlink("a", temp.path().join("link")).unwrap();
        let mut exclude = GlobSetBuilder::new();
        for glob in ["**/vendor", "b/*.values.yaml"] {
            exclude.add(Glob::new(glob).unwrap());
        }
        let mut loader = loader_of(temp.path());
        loader.settings.tree.exclude = exclude.build().unwrap();
        loader.settings.tree.paths = vec!["a".into(), "./b".into()];

        assert_eq!(keys(&loader.load()), ["roles/a/x", "roles/b/x"]);

        loader.settings.tree.paths = vec!["missing".into()];
        assert_eq!(loader.load().result, LoadResult::IoError);
        loader.settings.tree.paths = vec!["link".into()];
        let errors = lines(&loader.load().errors);
        assert!(errors[0].ends_with("is reached through a symbolic link, which is not followed"), "{errors:?}");
    }

    #[test]
    fn all_errors_of_all_files_come_together_by_file_and_line() {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), "b.yaml", "roles:\n- {name: x, nme: y}\n- {default: 1}\n");
        write(temp.path(), "a.yaml", "roles:\n- {name: x}\nflows: []\n");

        let load = loader_of(temp.path()).load();

        assert_eq!(load.result, LoadResult::Invalid);
        assert_eq!(
            lines(&load.errors),
            [
                "a.yaml:3: flows: this version does not manage this kind yet; take it out",
                "b.yaml:2: roles/x: is declared twice; the other place is a.yaml:2",
                "b.yaml:2: roles/x: nme: roles have no such field; did you mean `name`?",
                "b.yaml:3: roles: default: must be true or false but is a number",
                "b.yaml:3: roles: name: is missing; it identifies the resource",
            ]
        );
    }

    #[test]
    fn a_tree_that_never_stands_still_is_not_a_revision() {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), "a.yaml", "roles: []\n");
        let stop = AtomicBool::new(false);

        let load = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    write(temp.path(), ".new", &format!("# {n}\nroles: []\n"));
                    fs::rename(temp.path().join(".new"), temp.path().join("a.yaml")).unwrap();
                }
            });
            let mut loader = loader_of(temp.path());
            // Longer than a busy machine keeps the writer from its turn.
            (loader.settings.quiet, loader.settings.tries) = (Duration::from_millis(500), 4);
            let load = loader.load();
            stop.store(true, Ordering::Relaxed);
            load
        });

        assert_eq!(load.result, LoadResult::IoError);
        assert_eq!(lines(&load.errors), [".: the files changed while they were read"]);
    }

    /// `git`, without the settings of whoever runs the tests.
    fn git(dir: &Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(dir)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "gc.auto=0"])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn repo() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        git(temp.path(), &["init", "-q", "-b", "main"]);
        write(temp.path(), "config/a.yaml", "roles: [{name: a}]\n");
        write(temp.path(), "other.yaml", "x");
        git(temp.path(), &["add", "."]);
        git(temp.path(), &["commit", "-qm", "one"]);
        temp
    }

    #[test]
    fn the_commit_is_named_and_marked_dirty_unless_the_files_are_its_own() {
        let temp = repo();
        let root = temp.path();
        let short = |dir: &Path| git(dir, &["rev-parse", "HEAD"])[..7].to_owned();
        let label = |dir: &Path| loader_of(&dir.join("config")).load().commit.unwrap();
        let clean = short(root);
        let dirty = format!("{clean}-dirty");
        assert_eq!(label(root), clean);

        write(root, "config/a.yaml", "roles: [{name: b}]\n");
        assert_eq!(label(root), dirty, "edited, of the same size");
        git(root, &["add", "."]);
        assert_eq!(label(root), dirty, "staged");
        git(root, &["reset", "-q", "--hard"]);
        assert_eq!(label(root), clean, "reset");
        write(root, "config/new.yaml", "permissions: []\n");
        assert_eq!(label(root), dirty, "untracked");
        fs::remove_file(root.join("config/new.yaml")).unwrap();
        write(root, "config/ignored.txt", "");
        write(root, "other.yaml", "y");
        assert_eq!(label(root), clean, "what is not ours does not matter");
        git(root, &["checkout", "-q", "other.yaml"]);

        write(root, "config/b.yaml", "roles: [{name: c}]\n");
        git(root, &["add", "config/b.yaml"]);
        git(root, &["commit", "-qm", "two"]);
        assert_ne!(short(root), clean);
        assert_eq!(label(root), short(root), "committed");
        fs::remove_file(root.join("config/b.yaml")).unwrap();
        assert_eq!(label(root), format!("{}-dirty", short(root)), "deleted");
        git(root, &["checkout", "-q", "config/b.yaml"]);
        git(root, &["pack-refs", "--all"]);
        assert_eq!(label(root), short(root), "packed refs");
        git(root, &["update-index", "--index-version", "4"]);
        assert_eq!(label(root), short(root), "an index of version 4");

        let linked = tempfile::tempdir().unwrap();
        let linked = linked.path().join("tree");
        git(root, &["worktree", "add", "-q", "--detach", linked.to_str().unwrap(), &clean]);
        assert_eq!(label(&linked), clean, "a linked worktree");
    }

    #[test]
    fn a_checkout_under_way_is_never_taken_for_a_revision() {
        const FILES: usize = 60;
        const CHECKOUTS: usize = 200;
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        git(root, &["init", "-q", "-b", "one"]);
        for (branch, letter) in [("one", "a"), ("two", "b")] {
            git(root, &["checkout", "-q", "-B", branch]);
            for n in 0..FILES {
                write(root, &format!("{n:02}.yaml"), &format!("roles: [{{name: r{n}, description: {letter}}}]\n"));
            }
            git(root, &["add", "."]);
            git(root, &["commit", "-qm", branch]);
        }
        let mut seen: HashMap<String, (usize, Option<Arc<str>>)> = HashMap::new();
        let done = AtomicBool::new(false);

        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..CHECKOUTS {
                    git(root, &["checkout", "-q", ["one", "two"][n % 2]]);
                    // A random rest, so that some loads find room and others are caught in the middle.
                    pause(Duration::from_millis(fastrand::u64(0..60)));
                }
                done.store(true, Ordering::Relaxed);
            });
            let mut loader = loader_of(root);
            loader.settings.quiet = Duration::from_millis(10);
            while !done.load(Ordering::Relaxed) {
                let load = loader.load();
                assert_ne!(load.result, LoadResult::Invalid, "{:?}", load.errors);
                let Some(desired) = &load.desired else { continue };
                assert_eq!(desired.resources.len(), FILES);
                let mut letters: Vec<_> =
                    desired.resources.values().map(|role| role.fields["description"].as_str().unwrap()).collect();
                letters.dedup();
                assert_eq!(letters.len(), 1, "a mixed tree");
                let entry = seen.entry(letters[0].to_owned()).or_insert((0, load.revision.clone()));
                entry.0 += usize::from(load.result == LoadResult::Changed);
                assert_eq!(entry.1, load.revision, "one branch, one revision");
            }
        });

        assert!(seen.len() == 2 && seen.values().all(|(changes, _)| *changes > 0), "{seen:?}");
    }
}
