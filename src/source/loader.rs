//! Reads one consistent revision of a project's files and turns it into a checked desired state.
//!
//! All or nothing: whatever is wrong, the last good state stays in force. Remembers each file by its signature, so
//! that an edit costs one file and not the tree.

use crate::desired::Desired;
use crate::desired::Finding;
use crate::desired::Findings;
use crate::desired::check::Checker;
use crate::desired::check::FileReport;
use crate::desired::merge;
use crate::desired::secrets::Fence;
use crate::open;
use crate::resource::Kind;
use crate::source::git;
use crate::source::stat::Stat;
use crate::source::tree;
use crate::source::tree::Entry;
use crate::source::tree::Scan;
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
    /// Why the newest files are not in force; empty where they are. Where there are very many, the last one counts
    /// those that are not here.
    pub errors: Vec<Finding>,
    /// How many errors there are.
    pub error_count: usize,
    /// About the newest files, bounded in the same way.
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
    warnings: Findings,
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

impl Loader {
    /// A loader that has loaded nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, files: HashMap::new(), good: None }
    }

    /// The directory that findings' files are below.
    pub fn root(&self) -> &Path {
        &self.settings.tree.root
    }

    /// Digest of the files in force; `None` before the first good load.
    pub fn revision(&self) -> Option<String> {
        self.good.as_ref().map(|good| good.revision.to_string())
    }

    /// The commit that the files in force were checked out from.
    pub fn commit_in_force(&self) -> Option<String> {
        self.good.as_ref()?.commit.clone()
    }

    /// Loads the newest revision. Blocks: it reads files, and waits a little while they move.
    pub fn load(&mut self) -> Load {
        let revision = match self.read() {
            Ok(revision) => revision,
            Err(reason) => {
                let mut errors = Findings::default();
                errors.push(Finding::whole(".", reason));
                return self.kept(LoadResult::IoError, errors, Findings::default());
            }
        };
        let reports: Vec<Arc<FileReport>> = revision.files.iter().map(|(_, read)| Arc::clone(&read.report)).collect();
        let digest = digest(&revision);
        let commit = self.commit(&revision);
        if let Some(good) =
            self.good.as_mut().filter(|good| good.revision == digest && revision.scan.refused.is_empty())
        {
            good.commit = commit;
            let warnings = good.warnings.clone();
            return self.kept(LoadResult::Unchanged, Findings::default(), warnings);
        }
        let mut merged = merge::merge(self.settings.kinds, &reports);
        let refused = revision.scan.refused.iter().map(|refused| Finding::whole(&refused.path, &*refused.reason));
        refused.for_each(|finding| merged.errors.push(finding));
        if merged.errors.is_empty() && merged.desired.kinds.is_empty() {
            let reason = "no YAML file declares anything; to declare that there are none of a kind, write `roles: []`";
            merged.errors.push(Finding::whole(".", reason));
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
        self.kept(LoadResult::Changed, Findings::default(), merged.warnings)
    }

    fn kept(&self, result: LoadResult, errors: Findings, warnings: Findings) -> Load {
        let good = self.good.as_ref();
        Load {
            result,
            desired: good.map(|good| Arc::clone(&good.desired)),
            revision: good.map(|good| Arc::clone(&good.revision)),
            commit: good.and_then(|good| good.commit.clone()),
            loaded_at: good.map(|good| good.loaded_at),
            error_count: errors.count(),
            errors: errors.list("errors"),
            warnings: warnings.list("warnings"),
        }
    }

    /// Reads until one look before and one after agree, and nothing is so young that its times prove nothing. Errs,
    /// in words for the operator, where that does not come about.
    fn read(&mut self) -> Result<Revision, String> {
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
                    if !self.is_locked() {
                        return Err(error.to_string());
                    }
                    reason = error.to_string();
                    steady = None;
                    continue;
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
                    Err(failed) => return Err(failed),
                },
                _ => steady = None,
            }
        }
        Err(reason)
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
        Err(_) if bytes.starts_with(b"\0GITCRYPT\0") => {
            unreadable(&entry.path, "is encrypted by git-crypt; run `git-crypt unlock` in the checkout")
        }
        Err(_) => unreadable(&entry.path, "is not UTF-8; save it as UTF-8"),
    });
    Ok(read)
}

fn unreadable(path: &Arc<str>, message: &str) -> FileReport {
    let mut report = FileReport::default();
    report.errors.push(Finding::whole(path, message));
    report
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
mod tests;
