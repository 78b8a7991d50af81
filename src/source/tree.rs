//! The YAML files below a project's directories, looked at without reading them.
//!
//! A [`Scan`] is a signature: two that are equal, far enough apart, prove that nothing moved between them. The root
//! is resolved through links anew each time, so a swapped link is simply another tree.

use crate::source::git;
use crate::source::git::Checkout;
use crate::source::stat::Stat;
use globset::GlobSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

/// Which files a project is made of.
#[derive(Debug, Clone)]
pub struct Tree {
    /// `source.path`, links and all.
    pub root: PathBuf,
    /// Directories below it; `.` is the root itself.
    pub paths: Vec<PathBuf>,
    /// `source.exclude`: globs over paths below the root.
    pub exclude: GlobSet,
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

/// Something with the name of a YAML file that may not be read.
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
    /// The checkout that the root belongs to.
    pub checkout: Option<Checkout>,
    /// What git says.
    pub mark: git::Mark,
    /// Sorted by path.
    pub files: Vec<Entry>,
    /// Sorted by path.
    pub refused: Vec<Refused>,
    /// Every directory that was looked into.
    pub dirs: Vec<PathBuf>,
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
        let young = self.files.iter().filter(|file| !file.stat.is_older_than_its_tick(now, quiet));
        young.map(|file| file.stat.tick(quiet)).max()
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
        let checkout = Checkout::find(&real_root);
        let before = checkout.as_ref().map(Checkout::mark).unwrap_or_default();
        let mut scan = Scan {
            root_stat: (metadata.ino(), metadata.dev()),
            checkout,
            mark: before,
            files: Vec::new(),
            refused: Vec::new(),
            dirs: Vec::new(),
            real_root,
        };
        for path in &self.paths {
            let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
            let dir = scan.real_root.join(&plain);
            let real = dir.canonicalize().map_err(|error| gone("the project's directory", &dir, &error))?;
            if real != dir {
                let message = "the project's directory {} is reached through a symbolic link, which is not followed";
                return Err(Error::Gone(message.replace("{}", &dir.display().to_string())));
            }
            if !dir.is_dir() {
                return Err(Error::Gone(format!("the project's {} is not a directory", dir.display())));
            }
            self.walk(&mut scan, &dir, &plain)?;
        }
        let after = scan.checkout.as_ref().map(Checkout::mark).unwrap_or_default();
        if after != scan.mark {
            return Err(Error::Moved);
        }
        scan.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        scan.files.dedup_by(|a, b| a.path == b.path);
        scan.refused.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        scan.refused.dedup_by(|a, b| a.path == b.path);
        scan.dirs.sort_unstable();
        Ok(scan)
    }

    /// Would a file at this path below the root count, if it existed?
    pub fn counts(&self, path: &Path) -> bool {
        let is_hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().first() == Some(&b'.');
        let in_project = |dir: &PathBuf| {
            let plain: PathBuf = dir.components().filter(|part| *part != Component::CurDir).collect();
            path.strip_prefix(plain).is_ok_and(|below| !below.components().any(is_hidden))
        };
        is_yaml(path) && self.paths.iter().any(in_project) && !path.ancestors().any(|part| self.exclude.is_match(part))
    }

    fn walk(&self, scan: &mut Scan, dir: &Path, below: &Path) -> Result<(), Error> {
        scan.dirs.push(dir.to_owned());
        for item in fs::read_dir(dir).map_err(|error| trouble(dir, &error))? {
            let item = item.map_err(|error| trouble(dir, &error))?;
            let name = item.file_name();
            let path = below.join(&name);
            if name.as_encoded_bytes().first() == Some(&b'.') || self.exclude.is_match(&path) {
                continue;
            }
            let sort = item.file_type().map_err(|error| trouble(&item.path(), &error))?;
            if sort.is_dir() {
                self.walk(scan, &item.path(), &path)?;
            } else if is_yaml(&path) {
                self.file(scan, &item.path(), &path)?;
            }
        }
        Ok(())
    }

    #[allow(clippy::unused_self, reason = "reads as a step of the walk")]
    fn file(&self, scan: &mut Scan, full: &Path, below: &Path) -> Result<(), Error> {
        let Some(path) = below.to_str().map(Arc::<str>::from) else {
            let reason = "has a name that is not UTF-8; rename it".to_owned();
            scan.refused.push(Refused { path: below.to_string_lossy().into(), reason });
            return Ok(());
        };
        let mut refuse =
            |reason: &str| scan.refused.push(Refused { path: Arc::clone(&path), reason: reason.to_owned() });
        let link = fs::symlink_metadata(full).map_err(|error| trouble(full, &error))?;
        let (real, metadata) = if link.is_symlink() {
            let target = full.canonicalize().and_then(|real| fs::metadata(&real).map(|metadata| (real, metadata)));
            match target {
                Ok(target) => target,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(trouble(full, &error)),
                Err(_) => {
                    refuse("is a symbolic link that leads nowhere; mend or remove it");
                    return Ok(());
                }
            }
        } else {
            (full.to_owned(), link)
        };
        if !real.starts_with(&scan.real_root) {
            refuse("is a symbolic link that leaves the source directory; nothing outside may be read");
        } else if metadata.is_dir() {
            // A link to a directory: not followed.
        } else if metadata.is_file() {
            scan.files.push(Entry { path, real, stat: Stat::of(&metadata) });
        } else {
            refuse("is not a regular file; remove it");
        }
        Ok(())
    }
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
