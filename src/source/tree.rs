//! The YAML files below a project's directories, looked at without reading them.
//!
//! A [`Scan`] is a signature: two that are equal, far enough apart, prove that nothing moved between them. The root
//! is resolved through links anew each time, so a swapped link is simply another tree. Links to directories inside the
//! root are followed, after everything that needs no link: each real directory counts once.

use crate::source::git;
use crate::source::git::Checkout;
use crate::source::stat::Stat;
use globset::GlobSet;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;

/// Which files a project is made of.
#[derive(Debug, Clone)]
pub struct Tree {
    /// `source.path`, links and all.
    pub root: PathBuf,
    /// Directories below it; `.` is the root itself.
    pub paths: Vec<PathBuf>,
    /// The directories of the other projects, each with the name of its project. They may be none of these, nor lie in one.
    pub others: Vec<(Arc<str>, PathBuf)>,
    /// `source.exclude`: globs over paths below the root.
    pub exclude: GlobSet,
    /// Files that those of YAML name.
    pub named: NamedFiles,
}

/// A file that another one names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The file that names it, below the root.
    pub by: Arc<str>,
    /// As it is written there.
    pub path: Arc<str>,
}

impl Reference {
    /// Where it leads, links not followed.
    pub fn from(&self, root: &Path) -> PathBuf {
        let by = root.join(&*self.by);
        by.parent().unwrap_or(root).join(&*self.path)
    }

    /// The same with links followed as far as there is something, and what there is of it.
    pub fn place(&self, root: &Path) -> (PathBuf, PathBuf) {
        let path = self.from(root);
        let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
        let (part, there) = there.unwrap_or((root, root.to_owned()));
        let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
        (if rest.as_os_str().is_empty() { there.clone() } else { there.join(rest) }, there)
    }
}

/// The files that those of a tree name: only reading tells. Clones share them, so that who watches knows what who reads found.
#[derive(Debug, Clone, Default)]
pub struct NamedFiles(Arc<watch::Sender<BTreeSet<Reference>>>);

impl NamedFiles {
    /// As they were found last.
    pub fn get(&self) -> BTreeSet<Reference> {
        self.0.borrow().clone()
    }

    /// From now on it is these. False where it was before.
    pub fn set(&self, named: BTreeSet<Reference>) -> bool {
        self.0.send_if_modified(|known| {
            let is_new = *known != named;
            *known = named;
            is_new
        })
    }
}

/// One file that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the root, with `/`.
    pub path: Arc<str>,
    /// Path without links.
    pub real: PathBuf,
    /// Of the file, not of a link to it.
    pub stat: Stat,
}

/// Something that is not read although nobody said that it should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Path below the root.
    pub path: Arc<str>,
    /// Why not.
    pub reason: String,
}

/// One look at the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The root without links.
    pub real_root: PathBuf,
    root_stat: (u64, u64),
    /// The checkout that the root belongs to, where it does.
    pub checkout: Option<Checkout>,
    /// Every checkout in which something of the project lies, that of the root first, and what git says in each.
    pub checkouts: Vec<(Checkout, git::Mark)>,
    /// Sorted by path.
    pub files: Vec<Entry>,
    /// What they name, as far as it was known before the look. Sorted.
    pub named: Vec<(Reference, Result<Entry, String>)>,
    /// What makes the tree invalid. Sorted by path.
    pub refused: Vec<Refused>,
    /// What is left out, and looks as if it should not be. Sorted by path.
    pub passed_over: Vec<Refused>,
    /// Files of YAML, and whole directories (with `/` at the end), that `exclude` leaves out. Sorted.
    pub excluded: Vec<Arc<str>>,
    /// Every directory that was looked into.
    pub dirs: Vec<PathBuf>,
    /// Where the look began: a project's directory, or what a link led to, and its path below the root.
    pub starts: Vec<(PathBuf, PathBuf)>,
    /// Links to directories that were followed.
    pub links: Vec<PathBuf>,
}

/// Why there is nothing to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The root, or a project's directory, is not there.
    #[error("{0}")]
    Gone(String),
    /// Something vanished between two looks.
    #[error("the files changed while they were read")]
    Moved,
    /// The file system refused.
    #[error("{0}")]
    Io(String),
}

impl Scan {
    /// The longest time that some file must still stand still before its times prove anything.
    pub fn unsettled(&self, now: SystemTime, quiet: Duration) -> Option<Duration> {
        let named = self.named.iter().filter_map(|(_, found)| found.as_ref().ok());
        let young = self.files.iter().chain(named).filter(|file| !file.stat.is_older_than_its_tick(now, quiet));
        young.map(|file| file.stat.tick(quiet)).max()
    }

    /// The lock of a git that is at work.
    pub fn lock(&self) -> Option<PathBuf> {
        self.checkouts.iter().find(|(_, mark)| mark.is_locked).map(|(checkout, _)| checkout.lock())
    }

    /// Is there something to look at where it should be, in the same places as in the other look, by names alone?
    pub fn has_names_of(&self, other: &Self) -> bool {
        let names =
            |scan: &Self| scan.files.iter().map(|file| (file.path.clone(), file.real.clone())).collect::<Vec<_>>();
        let references = |scan: &Self| -> Vec<_> {
            let real =
                |found: &Result<Entry, String>| found.as_ref().map(|entry| entry.real.clone()).map_err(Clone::clone);
            scan.named.iter().map(|(reference, found)| (reference.clone(), real(found))).collect()
        };
        names(self) == names(other)
            && references(self) == references(other)
            && self.refused == other.refused
            && self.real_root == other.real_root
    }
}

impl Tree {
    /// Looks at everything once. Costs a `stat` per file and reads no content.
    pub fn scan(&self) -> Result<Scan, Error> {
        let real_root = self.root.canonicalize().map_err(|error| gone("the source directory", &self.root, &error))?;
        let metadata = fs::metadata(&real_root).map_err(|error| gone("the source directory", &self.root, &error))?;
        if !metadata.is_dir() {
            return Err(Error::Gone(format!("the source {} is not a directory", self.root.display())));
        }
        let mut walk = Walk {
            tree: self,
            scan: Scan {
                root_stat: (metadata.ino(), metadata.dev()),
                checkout: Checkout::find(&real_root),
                checkouts: Vec::new(),
                files: Vec::new(),
                named: Vec::new(),
                refused: Vec::new(),
                passed_over: Vec::new(),
                excluded: Vec::new(),
                dirs: Vec::new(),
                starts: Vec::new(),
                links: Vec::new(),
                real_root,
            },
            seen: HashSet::new(),
            links: BTreeMap::new(),
        };
        walk.checkout(walk.scan.checkout.clone());
        for path in &self.paths {
            walk.project(path)?;
        }
        while let Some((below, (link, real))) = walk.links.pop_first() {
            walk.follow(&link, &real, &below)?;
        }
        for reference in self.named.get() {
            let found = walk.named(&reference);
            walk.scan.named.push((reference, found));
        }
        Ok(walk.done())
    }

    /// Would a file at this path count, if it existed? The path is real, as are the starts.
    pub fn counts(&self, scan: &Scan, path: &Path) -> bool {
        let is_named = || scan.named.iter().any(|(_, found)| found.as_ref().is_ok_and(|entry| entry.real == path));
        is_yaml(path) && self.looks_into(scan, path) || is_named()
    }

    /// Is this directory looked into, if it exists? The path is real, as are the starts.
    pub fn looks_into(&self, scan: &Scan, path: &Path) -> bool {
        scan.starts.iter().any(|(start, below)| {
            path.strip_prefix(start).is_ok_and(|rest| {
                let is_hidden = rest.components().any(|part| is_hidden(part.as_os_str().as_encoded_bytes()));
                !is_hidden && !below.join(rest).ancestors().any(|part| self.exclude.is_match(part))
            })
        })
    }
}

/// A look under way.
struct Walk<'a> {
    tree: &'a Tree,
    scan: Scan,
    /// Real directories that were looked into.
    seen: HashSet<PathBuf>,
    /// Links to directories, by their path below the root, with themselves and where they lead: not followed yet.
    links: BTreeMap<PathBuf, (PathBuf, PathBuf)>,
}

impl Walk<'_> {
    fn project(&mut self, path: &Path) -> Result<(), Error> {
        let below: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let dir = self.scan.real_root.join(&below);
        let real = dir.canonicalize().map_err(|error| gone("the project's directory", &dir, &error))?;
        if !real.starts_with(&self.scan.real_root) {
            let message = "the project's directory {} is reached through a symbolic link that leaves the source directory; \
                           nothing outside may be read";
            return Err(Error::Gone(message.replace("{}", &dir.display().to_string())));
        }
        if !real.is_dir() {
            return Err(Error::Gone(format!("the project's {} is not a directory", dir.display())));
        }
        self.check_apart(&below, &real)?;
        if real != dir {
            return self.follow(&dir, &real, &below);
        }
        self.start(&dir, &below)
    }

    /// Links may lead two projects into one directory, which the config alone does not show.
    fn check_apart(&self, below: &Path, real: &Path) -> Result<(), Error> {
        let shown = |path: &Path| if path.as_os_str().is_empty() { ".".to_owned() } else { path.display().to_string() };
        for (project, path) in &self.tree.others {
            // One that is not there is the matter of its own project.
            let Ok(theirs) = self.scan.real_root.join(path).canonicalize() else { continue };
            if real.starts_with(&theirs) || theirs.starts_with(real) {
                return Err(Error::Gone(format!(
                    "the project's directory `{}` overlaps `{}` of project {project}, as the links among them are: they \
                     lead to {} and {}; give each project directories of its own",
                    shown(below),
                    shown(path),
                    real.display(),
                    theirs.display()
                )));
            }
        }
        Ok(())
    }

    fn follow(&mut self, link: &Path, real: &Path, below: &Path) -> Result<(), Error> {
        let is_excluded = real.strip_prefix(&self.scan.real_root).is_ok_and(|path| {
            path.ancestors().any(|part| !part.as_os_str().is_empty() && self.tree.exclude.is_match(part))
        });
        if is_excluded {
            self.exclude(below, true);
            return Ok(());
        }
        self.scan.links.push(link.to_owned());
        self.start(real, below)
    }

    fn start(&mut self, real: &Path, below: &Path) -> Result<(), Error> {
        self.checkout(Checkout::find(real));
        self.scan.starts.push((real.to_owned(), below.to_owned()));
        self.dir(real, below)
    }

    /// Notes what git says, before anything in the checkout is looked at.
    fn checkout(&mut self, found: Option<Checkout>) {
        let Some(checkout) = found else { return };
        if !self.scan.checkouts.iter().any(|(known, _)| known.top == checkout.top) {
            let mark = checkout.mark();
            self.scan.checkouts.push((checkout, mark));
        }
    }

    fn dir(&mut self, dir: &Path, below: &Path) -> Result<(), Error> {
        if !self.seen.insert(dir.to_owned()) {
            return Ok(());
        }
        self.scan.dirs.push(dir.to_owned());
        for item in fs::read_dir(dir).map_err(|error| trouble(dir, &error))? {
            let item = item.map_err(|error| trouble(dir, &error))?;
            let name = item.file_name();
            let path = below.join(&name);
            if name == ".git" {
                self.checkout(Checkout::at(dir));
            }
            if is_hidden(name.as_encoded_bytes()) {
                continue;
            }
            let sort = item.file_type().map_err(|error| trouble(&item.path(), &error))?;
            if self.tree.exclude.is_match(&path) {
                let is_dir = sort.is_dir() || sort.is_symlink() && item.path().is_dir();
                if is_dir || is_yaml(&path) {
                    self.exclude(&path, is_dir);
                }
            } else if sort.is_dir() {
                self.dir(&item.path(), &path)?;
            } else if sort.is_symlink() {
                self.link(&item.path(), &path)?;
            } else if is_yaml(&path) {
                let metadata = fs::symlink_metadata(item.path()).map_err(|error| trouble(&item.path(), &error))?;
                self.file(item.path(), &path, &metadata);
            } else {
                self.other(&path);
            }
        }
        Ok(())
    }

    fn link(&mut self, link: &Path, below: &Path) -> Result<(), Error> {
        let target = link.canonicalize().and_then(|real| fs::metadata(&real).map(|metadata| (real, metadata)));
        let (real, metadata) = match target {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(trouble(link, &error)),
            Err(_) => {
                self.refuse(below, "is a symbolic link that leads nowhere; mend or remove it");
                return Ok(());
            }
        };
        if !metadata.is_dir() && !is_yaml(below) {
            self.other(below);
        } else if !real.starts_with(&self.scan.real_root) {
            self.refuse(below, "is a symbolic link that leaves the source directory; nothing outside may be read");
        } else if metadata.is_dir() {
            self.links.insert(below.to_owned(), (link.to_owned(), real));
        } else {
            self.checkout(real.parent().and_then(Checkout::find));
            self.file(real, below, &metadata);
        }
        Ok(())
    }

    fn file(&mut self, real: PathBuf, below: &Path, metadata: &fs::Metadata) {
        let Some(path) = below.to_str().map(Arc::<str>::from) else {
            return self.refuse(below, "has a name that is not UTF-8; rename it");
        };
        if metadata.is_file() {
            self.scan.files.push(Entry { path, real, stat: Stat::of(metadata) });
        } else {
            self.refuse(below, "is not a regular file; remove it");
        }
    }

    /// A file that another one names. Whatever is wrong with it is said where it is named.
    fn named(&mut self, reference: &Reference) -> Result<Entry, String> {
        let shown = &reference.path;
        let path = reference.from(&self.scan.real_root);
        // Also where it is not there yet: git may be about to bring it.
        let (_, there) = reference.place(&self.scan.real_root);
        self.checkout(
            Some(there).filter(|there| there.starts_with(&self.scan.real_root)).and_then(|at| Checkout::find(&at)),
        );
        let real = path.canonicalize().map_err(|error| {
            let is_absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
            if is_absent {
                format!("there is no file {shown}; its path is relative to this one")
            } else {
                format!("cannot look at {shown}: {error}")
            }
        })?;
        let Ok(below) = real.strip_prefix(&self.scan.real_root) else {
            return Err(format!("{shown} leads out of the source directory; nothing outside may be read"));
        };
        let below: Arc<str> = below.to_string_lossy().into();
        let metadata = fs::symlink_metadata(&real).map_err(|error| format!("cannot look at {shown}: {error}"))?;
        if !metadata.is_file() {
            return Err(format!("{shown} is not a regular file"));
        }
        Ok(Entry { path: below, real, stat: Stat::of(&metadata) })
    }

    /// A file that is none of ours, unless its name only looks so.
    fn other(&mut self, below: &Path) {
        let ends = below.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if ["yaml", "yml"].iter().any(|yaml| ends.trim().eq_ignore_ascii_case(yaml)) {
            let reason =
                "is not read: only names that end in .yaml or .yml, in lower case, count; rename it".to_owned();
            self.scan.passed_over.push(Refused { path: below.to_string_lossy().into(), reason });
        }
    }

    fn refuse(&mut self, below: &Path, reason: &str) {
        let path = below.to_string_lossy().into();
        self.scan.refused.push(Refused { path, reason: reason.to_owned() });
    }

    fn exclude(&mut self, below: &Path, is_dir: bool) {
        let end = if is_dir { "/" } else { "" };
        self.scan.excluded.push(format!("{}{end}", below.display()).into());
    }

    fn done(mut self) -> Scan {
        let scan = &mut self.scan;
        scan.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        scan.files.dedup_by(|a, b| a.path == b.path);
        for found in [&mut scan.refused, &mut scan.passed_over] {
            found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            found.dedup_by(|a, b| a.path == b.path);
        }
        scan.excluded.sort_unstable();
        scan.dirs.sort_unstable();
        self.scan
    }
}

fn is_hidden(name: &[u8]) -> bool {
    name.first() == Some(&b'.')
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn gone(what: &str, path: &Path, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory {
        Error::Gone(format!("{what} {} does not exist", path.display()))
    } else {
        Error::Io(format!("cannot look at {what} {}: {error}", path.display()))
    }
}

fn trouble(path: &Path, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory {
        return Error::Moved;
    }
    Error::Io(format!("cannot read {}: {error}", path.display()))
}
