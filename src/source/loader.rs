//! Reads one consistent revision of a project's files and turns it into a checked desired state.
//!
//! All or nothing: whatever is wrong, the last good state stays in force. Remembers each file by its signature, so
//! that an edit costs one file and not the tree.

use crate::desired::Desired;
use crate::desired::Finding;
use crate::desired::Findings;
use crate::desired::check::Checker;
use crate::desired::check::FileReport;
use crate::desired::check::Named;
use crate::desired::merge;
use crate::desired::secrets::Fence;
use crate::open;
use crate::resource::Kind;
use crate::source::git;
use crate::source::git::Checkout;
use crate::source::git::index::Indexes;
use crate::source::git::label;
use crate::source::git::label::Label;
use crate::source::stat::Stat;
use crate::source::tree;
use crate::source::tree::Entry;
use crate::source::tree::Reference;
use crate::source::tree::Scan;
use crate::source::tree::Tree;
use crate::source::whole;
use crate::telemetry::clock;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// The largest file that is read.
pub const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// The least time between two reads that prove something by content alone: longer than any tool takes between two files.
pub const APART: Duration = Duration::from_secs(2);

// Stats that never settled before are given as many looks as two that agree need.
const TRIES_OF_THE_UNSETTLED: u32 = 4;

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
    /// How far apart two equal reads of everything must be, where the file system's stats never settle.
    pub apart: Duration,
}

impl Settings {
    /// Settings with the usual patience: five seconds.
    pub fn new(tree: Tree, fence: Fence, kinds: &'static [&'static dyn Kind]) -> Self {
        Self { tree, fence, kinds, quiet: Duration::from_millis(50), tries: 100, apart: APART }
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

/// The outcome of one load. `revision`, `commit`, `source` and `loaded_at` belong to `desired`.
#[derive(Debug, Clone)]
pub struct Load {
    /// How it ended.
    pub result: LoadResult,
    /// The last good state: this load's, or an earlier one's.
    pub desired: Option<Arc<Desired>>,
    /// Digest of the content.
    pub revision: Option<Arc<str>>,
    /// The commit it was checked out from, as people call it.
    pub commit: Option<String>,
    /// Where it lies, and its whole hash, where the files are its files.
    pub source: Option<(Checkout, String)>,
    /// When this revision was first loaded.
    pub loaded_at: Option<SystemTime>,
    /// Why the newest files are not in force; empty where they are. Where there are very many, the last one counts
    /// those that are not here.
    pub errors: Vec<Finding>,
    /// How many errors there are.
    pub error_count: usize,
    /// About the newest files, bounded in the same way.
    pub warnings: Vec<Finding>,
    /// Files, and directories with a `/` at the end, that `source.exclude` leaves out.
    pub excluded: Vec<Arc<str>>,
    /// The file system's stats prove nothing here: two equal reads did.
    pub is_by_content: bool,
}

impl Load {
    /// Is something else in force than after `before`, or wrong with the files?
    pub fn says_other_than(&self, before: &Self) -> bool {
        self.revision != before.revision || self.errors != before.errors
    }

    /// All that is worth saying about files that are no error: the warnings, and what is left out on purpose.
    pub fn remarks(&self) -> impl Iterator<Item = Finding> {
        let excluded = |path: &Arc<str>| Finding::whole(path, "is not read: `source.exclude` names it");
        self.warnings.iter().cloned().chain(self.excluded.iter().map(excluded))
    }
}

/// Loads one project, again and again.
pub struct Loader {
    settings: Settings,
    files: HashMap<Arc<str>, Arc<Read>>,
    /// By real path.
    named: HashMap<PathBuf, Arc<Read>>,
    indexes: Indexes,
    good: Option<Good>,
    /// What the newest look left out.
    excluded: Vec<Arc<str>>,
    /// The stats of this tree did not settle when it was read last.
    is_by_content: bool,
}

struct Good {
    revision: Arc<str>,
    desired: Arc<Desired>,
    commit: Option<(Checkout, Label)>,
    loaded_at: SystemTime,
    warnings: Findings,
}

/// A file as it was read.
struct Read {
    real: PathBuf,
    stat: Stat,
    digest: [u8; 32],
    report: Arc<FileReport>,
    /// Hashes that git has for this path, and whether they are of this content: asked for once.
    hashes: Mutex<Vec<(Vec<u8>, bool)>>,
}

/// A file by its path below the root.
type Known = (Arc<str>, Arc<Read>);

/// A file that another one names, or why it cannot be read.
type NamedRead = (Reference, Result<Arc<Read>, String>);

/// Files that stood still while they were read.
struct Revision {
    scan: Scan,
    files: Vec<Known>,
    /// What they name.
    named: Vec<NamedRead>,
}

impl Loader {
    /// A loader that has loaded nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            files: HashMap::new(),
            named: HashMap::new(),
            indexes: Indexes::default(),
            good: None,
            excluded: Vec::new(),
            is_by_content: false,
        }
    }

    /// The directory that findings' files are below.
    pub fn root(&self) -> &Path {
        &self.settings.tree.root
    }

    /// What the files may refer to.
    pub fn fence(&self) -> &Fence {
        &self.settings.fence
    }

    /// Digest of the files in force; `None` before the first good load.
    pub fn revision(&self) -> Option<String> {
        self.good.as_ref().map(|good| good.revision.to_string())
    }

    /// The commit that the files in force were checked out from.
    pub fn commit_in_force(&self) -> Option<String> {
        self.good.as_ref()?.commit.as_ref()?.1.short()
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
        let digest = digest(&revision);
        let commit = self.commit(&revision);
        self.excluded.clone_from(&revision.scan.excluded);
        if let Some(good) =
            self.good.as_mut().filter(|good| good.revision == digest && revision.scan.refused.is_empty())
        {
            good.commit = commit;
            let mut warnings = good.warnings.clone();
            passed_over(&revision.scan, &mut warnings);
            return self.kept(LoadResult::Unchanged, Findings::default(), warnings);
        }
        let reports = match filled(&revision) {
            Ok(reports) => reports,
            Err(reason) => {
                let mut errors = Findings::default();
                errors.push(Finding::whole(".", reason));
                return self.kept(LoadResult::IoError, errors, Findings::default());
            }
        };
        let mut merged = merge::merge(self.settings.kinds, &reports);
        let refused = revision.scan.refused.iter().map(|refused| Finding::whole(&refused.path, &*refused.reason));
        refused.for_each(|finding| merged.errors.push(finding));
        let warnings = merged.warnings.clone();
        passed_over(&revision.scan, &mut merged.warnings);
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
            loaded_at: clock::now(),
            warnings,
        });
        self.kept(LoadResult::Changed, Findings::default(), merged.warnings)
    }

    fn kept(&self, result: LoadResult, errors: Findings, warnings: Findings) -> Load {
        let good = self.good.as_ref();
        let commit = good.and_then(|good| good.commit.as_ref());
        Load {
            result,
            desired: good.map(|good| Arc::clone(&good.desired)),
            revision: good.map(|good| Arc::clone(&good.revision)),
            commit: commit.and_then(|(_, label)| label.short()),
            source: commit.filter(|(_, label)| label.is_clean).map(|(at, label)| (at.clone(), label.commit.clone())),
            loaded_at: good.map(|good| good.loaded_at),
            error_count: errors.count(),
            errors: errors.list("errors"),
            warnings: warnings.list("warnings"),
            excluded: self.excluded.clone(),
            is_by_content: self.is_by_content,
        }
    }

    /// The files of one revision. Errs, in words for the operator, where they are none.
    fn read(&mut self) -> Result<Revision, String> {
        let read = match self.read_settled() {
            Ok(revision) => {
                self.is_by_content = false;
                Ok(revision)
            }
            Err(Unread::Moving) => self.read_twice(),
            Err(Unread::For(reason)) => Err(reason),
        };
        let revision = read?;
        let (indexes, quiet) = (&mut self.indexes, self.settings.quiet);
        match whole::missing(&self.settings.tree, &revision.scan, |checkout| indexes.of(checkout, quiet)) {
            Some(missing) => Err(missing),
            None => Ok(revision),
        }
    }

    /// Reads until one look before and one after agree, and nothing is so young that its times prove nothing.
    fn read_settled(&mut self) -> Result<Revision, Unread> {
        let quiet = self.settings.quiet;
        let tries = if self.is_by_content { TRIES_OF_THE_UNSETTLED } else { self.settings.tries };
        let mut reason = Unread::Moving;
        let mut steady: Option<(Scan, Duration)> = None;
        let mut is_at_once = true;
        for _ in 0..tries.max(1) {
            if !std::mem::take(&mut is_at_once) {
                pause(quiet);
            }
            let scan = match self.scan() {
                Ok(scan) => scan,
                Err(Unread::Moving) => {
                    steady = None;
                    continue;
                }
                Err(Unread::For(error)) => {
                    // Between two commits a directory may be gone for a moment; otherwise waiting changes nothing.
                    if !self.is_locked() {
                        return Err(Unread::For(error));
                    }
                    reason = Unread::For(error);
                    steady = None;
                    continue;
                }
            };
            if let Some(lock) = scan.lock() {
                reason = Unread::locked(&lock);
                steady = None;
                continue;
            }
            reason = Unread::Moving;
            let stood = match steady.take() {
                Some((before, stood)) if before == scan => stood + quiet,
                _ => Duration::ZERO,
            };
            if scan.unsettled(SystemTime::now(), quiet).is_some_and(|needed| stood < needed) {
                steady = Some((scan, stood));
                continue;
            }
            let files = self.read_files(&scan, Proof::Stats);
            if let Ok(files) = &files
                && self.settings.tree.named.set(references(files))
            {
                // They name other files than the look looked for.
                self.files = files.iter().cloned().collect();
                is_at_once = true;
                continue;
            }
            let named = self.read_named(&scan, Proof::Stats);
            match self.scan() {
                Ok(after) if after == scan => {
                    let files = files.map_err(Unread::For)?;
                    self.files = files.iter().cloned().collect();
                    return Ok(Revision { scan, files, named: named.map_err(Unread::For)? });
                }
                _ => steady = None,
            }
        }
        Err(reason)
    }

    /// Where identities or times of files never settle (FUSE, some network mounts), two equal reads of everything prove a
    /// revision, with time between them and git at rest and on one commit all along.
    fn read_twice(&mut self) -> Result<Revision, String> {
        let read = |loader: &mut Self| {
            let mut scan = loader.scan()?;
            let mut words: Vec<git::Word> = scan.checkouts.iter().map(|(checkout, _)| checkout.word()).collect();
            if let Some(lock) = scan.lock() {
                return Err(Unread::locked(&lock));
            }
            let files = loader.read_files(&scan, Proof::Content).map_err(Unread::For)?;
            loader.files = files.iter().cloned().collect();
            if loader.settings.tree.named.set(references(&files)) {
                let again = loader.scan()?;
                if let Some(lock) = again.lock() {
                    return Err(Unread::locked(&lock));
                }
                // Where those lie that they name, another git may be at work.
                words.extend(again.checkouts.iter().skip(words.len()).map(|(checkout, _)| checkout.word()));
                (scan.named, scan.checkouts) = (again.named, again.checkouts);
            }
            let named = loader.read_named(&scan, Proof::Content).map_err(Unread::For)?;
            Ok((Revision { scan, files, named }, words))
        };
        let (first, before) = read(self)?;
        pause(self.settings.apart);
        let (second, between) = read(self)?;
        let after: Vec<git::Word> = second.scan.checkouts.iter().map(|(checkout, _)| checkout.word()).collect();
        let is_same = digest(&first) == digest(&second) && first.scan.has_names_of(&second.scan);
        let is_at_rest = before == between && between == after && !after.iter().any(|word| word.is_locked);
        if !(is_same && is_at_rest) {
            return Err(Unread::Moving.into());
        }
        self.is_by_content = true;
        Ok(second)
    }

    fn scan(&self) -> Result<Scan, Unread> {
        self.settings.tree.scan().map_err(|error| match error {
            tree::Error::Moved => Unread::Moving,
            tree::Error::Gone(_) | tree::Error::Io(_) => Unread::For(error.to_string()),
        })
    }

    fn is_locked(&self) -> bool {
        let root = self.settings.tree.root.canonicalize();
        root.ok().and_then(|root| Checkout::find(&root)).is_some_and(|checkout| checkout.mark().is_locked)
    }

    /// Reads and checks what changed since it was last read; one thread per core.
    fn read_files(&self, scan: &Scan, proof: Proof) -> Result<Vec<Known>, String> {
        let known = |entry: &Entry| {
            let read = self.files.get(&entry.path).filter(|_| proof == Proof::Stats)?;
            (read.stat == entry.stat && read.real == entry.real).then(|| (Arc::clone(&entry.path), Arc::clone(read)))
        };
        let unknown: Vec<&Entry> = scan.files.iter().filter(|entry| known(entry).is_none()).collect();
        let checker = Checker { kinds: self.settings.kinds, fence: &self.settings.fence };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut mine = Vec::new();
            while let Some(entry) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                let before = self.files.get(&entry.path);
                let read = read_file(entry, before, proof, checker);
                mine.push(read.map(|read| (Arc::clone(&entry.path), Arc::new(read))));
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

    /// What the files name. Err: read once more. What is wrong with one of them is said where it is named.
    fn read_named(&mut self, scan: &Scan, proof: Proof) -> Result<Vec<NamedRead>, String> {
        let mut known = HashMap::new();
        let mut named = Vec::with_capacity(scan.named.len());
        for (reference, found) in &scan.named {
            let entry = match found {
                Ok(entry) if entry.stat.len <= LARGEST_FILE => entry,
                Ok(_) => {
                    named.push((reference.clone(), Err(format!("{} holds more than 64 MiB", reference.path))));
                    continue;
                }
                Err(reason) => {
                    named.push((reference.clone(), Err(reason.clone())));
                    continue;
                }
            };
            let before = self.named.get(&entry.real).filter(|read| proof == Proof::Stats && read.stat == entry.stat);
            let before = before.or_else(|| known.get(&entry.real));
            let read = match before {
                Some(read) => Arc::clone(read),
                None => Arc::new(read_plain(entry, proof)?),
            };
            known.insert(entry.real.clone(), Arc::clone(&read));
            named.push((reference.clone(), Ok(read)));
        }
        self.named = known;
        Ok(named)
    }

    fn commit(&mut self, revision: &Revision) -> Option<(Checkout, Label)> {
        let scan = &revision.scan;
        let root = scan.checkout.as_ref()?;
        let checkouts: Vec<Checkout> = scan.checkouts.iter().map(|(checkout, _)| checkout.clone()).collect();
        let named = revision.named.iter().filter_map(|(_, read)| read.as_ref().ok());
        let all = revision.files.iter().map(|(_, read)| read).chain(named);
        let reads: HashMap<&Path, &Read> = all.map(|read| (&*read.real, &**read)).collect();
        let files: HashMap<&Path, Stat> = reads.iter().map(|(path, read)| (*path, read.stat)).collect();
        let tree = &self.settings.tree;
        let project = label::Project {
            checkouts: &checkouts,
            files: &files,
            counts: &|path| tree.counts(scan, path),
            looks_into: &|path| tree.looks_into(scan, path),
            has_content: &|path, hash| reads.get(path).is_some_and(|read| read.has_hash(hash)),
        };
        let (indexes, quiet) = (&mut self.indexes, self.settings.quiet);
        let label = label::label(root, &project, |checkout| indexes.of(checkout, quiet))?;
        Some((root.clone(), label))
    }
}

impl Read {
    /// What it holds, or what is wrong with that. Err: it is not what it was any more.
    fn content(&self) -> Result<Result<String, String>, String> {
        let content = open::regular(&self.real).and_then(|(file, _)| open::read(&file, LARGEST_FILE));
        let content = content.ok().filter(|content| <[u8; 32]>::from(Sha256::digest(content)) == self.digest);
        let Some(content) = content else { return Err(Unread::Moving.into()) };
        Ok(match String::from_utf8(content) {
            Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n")),
            Err(error) if error.as_bytes().starts_with(b"\0GITCRYPT\0") => {
                Err("is encrypted by git-crypt; run `git-crypt unlock` in the checkout".to_owned())
            }
            Err(_) => Err("is not UTF-8; save it as UTF-8".to_owned()),
        })
    }

    /// Does git know this content by that hash? Read once more, where git asks at all.
    fn has_hash(&self, hash: &[u8]) -> bool {
        let mut asked = self.hashes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, known)) = asked.iter().find(|(of, _)| of == hash) {
            return *known;
        }
        let content = open::regular(&self.real).and_then(|(file, _)| open::read(&file, LARGEST_FILE));
        let has = content.is_ok_and(|content| {
            <[u8; 32]>::from(Sha256::digest(&content)) == self.digest && label::is_blob(&content, hash)
        });
        asked.push((hash.to_vec(), has));
        has
    }
}

/// What proves that a file is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Stats,
    Content,
}

/// Why there is no revision.
enum Unread {
    /// No two looks agree.
    Moving,
    /// In words for the operator.
    For(String),
}

impl Unread {
    fn locked(lock: &Path) -> Self {
        Self::For(format!("git is changing the files; if no git runs, remove {}", lock.display()))
    }
}

impl From<Unread> for String {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Moving => "the files changed while they were read".to_owned(),
            Unread::For(reason) => reason,
        }
    }
}

fn passed_over(scan: &Scan, warnings: &mut Findings) {
    scan.passed_over.iter().for_each(|one| warnings.push(Finding::whole(&one.path, &*one.reason)));
}

fn read_file(entry: &Entry, before: Option<&Arc<Read>>, proof: Proof, checker: Checker<'_>) -> Result<Read, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", entry.path);
    let (file, metadata) = open::regular(&entry.real).map_err(failed)?;
    let mut read = Read {
        real: entry.real.clone(),
        stat: Stat::of(&metadata),
        digest: [0; 32],
        report: Arc::default(),
        hashes: Mutex::default(),
    };
    if proof == Proof::Stats && read.stat != entry.stat {
        return Err(format!("{} changed while it was read", entry.path));
    }
    if metadata.len() > LARGEST_FILE {
        read.report = Arc::new(unreadable(&entry.path, "holds more than 64 MiB; split it"));
        return Ok(read);
    }
    let bytes = match open::read(&file, LARGEST_FILE) {
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            read.report = Arc::new(unreadable(&entry.path, "holds more than 64 MiB; split it"));
            return Ok(read);
        }
        bytes => bytes.map_err(failed)?,
    };
    read.digest = Sha256::digest(&bytes).into();
    if let Some(before) = before.filter(|before| before.digest == read.digest) {
        read.report = Arc::clone(&before.report);
        return Ok(read);
    }
    read.report = Arc::new(match std::str::from_utf8(&bytes) {
        Ok(text) => checker.check(&entry.path, text),
        Err(_) if bytes.starts_with(b"\0GITCRYPT\0") => {
            unreadable(&entry.path, "is encrypted by git-crypt; run `git-crypt unlock` in the checkout")
        }
        Err(_) => unreadable(&entry.path, "is not UTF-8; save it as UTF-8"),
    });
    Ok(read)
}

/// A file that another one names: its content is read again once it is needed.
fn read_plain(entry: &Entry, proof: Proof) -> Result<Read, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", entry.path);
    let (file, metadata) = open::regular(&entry.real).map_err(failed)?;
    let stat = Stat::of(&metadata);
    if proof == Proof::Stats && stat != entry.stat {
        return Err(format!("{} changed while it was read", entry.path));
    }
    let digest = Sha256::digest(open::read(&file, LARGEST_FILE).map_err(failed)?).into();
    let (report, hashes) = (Arc::default(), Mutex::default());
    Ok(Read { real: entry.real.clone(), stat, digest, report, hashes })
}

/// What the files name.
fn references(files: &[Known]) -> BTreeSet<Reference> {
    let named = |(path, read): &Known| -> Vec<Reference> {
        let of = |named: &Named| Reference { by: Arc::clone(path), path: Arc::clone(&named.path) };
        read.report.named.iter().map(of).collect()
    };
    files.iter().flat_map(named).collect()
}

/// What the files declare, with the content of what they name in its place.
fn filled(revision: &Revision) -> Result<Vec<Arc<FileReport>>, String> {
    let named: HashMap<&Reference, &Result<Arc<Read>, String>> =
        revision.named.iter().map(|(reference, read)| (reference, read)).collect();
    let mut reports = Vec::with_capacity(revision.files.len());
    for (path, read) in &revision.files {
        if read.report.named.is_empty() {
            reports.push(Arc::clone(&read.report));
            continue;
        }
        let mut report = FileReport::clone(&read.report);
        for one in &read.report.named {
            let content = match named.get(&Reference { by: Arc::clone(path), path: Arc::clone(&one.path) }) {
                Some(Ok(read)) => read.content()?,
                Some(Err(reason)) => Err(reason.clone()),
                None => return Err(Unread::Moving.into()),
            };
            report.fill(path, one, content);
        }
        report.errors.settle();
        reports.push(Arc::new(report));
    }
    Ok(reports)
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
    for (reference, read) in &revision.named {
        for text in [&reference.by, &reference.path] {
            all.update((text.len() as u64).to_be_bytes());
            all.update(text.as_bytes());
        }
        match read {
            Ok(read) => all.update(read.digest),
            Err(reason) => all.update(reason),
        }
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
