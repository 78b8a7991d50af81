//! What a git checkout says about itself, read from `.git` without the git binary.
//!
//! Four uses: git holds `index.lock` while it changes the tree, so a tree is whole only if neither the lock nor a new
//! index appeared while it was read; the index says what a whole checkout holds; the commit is a label for people; and what it
//! builds on says which of two is newer.

use crate::source::stat::Stat;
use crate::state::Commit;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

pub mod index;
pub mod label;
pub mod object;
mod refs;

// HEAD, refs, packed-refs and config.
const LARGEST_REF: u64 = 16 * 1024 * 1024;

/// A checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The directory that holds `.git`.
    pub top: PathBuf,
    /// `.git`, or where its `gitdir:` line leads (a linked worktree, a submodule).
    dir: PathBuf,
}

/// What changes whenever git changes the tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// `index.lock` is there.
    pub is_locked: bool,
    index: Option<Stat>,
    head: Option<Stat>,
}

/// What git says where the file system's stats say nothing: content alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// `index.lock` is there.
    pub is_locked: bool,
    head: Option<String>,
    commit: Option<String>,
}

impl Checkout {
    /// The checkout that `real`, a resolved path, belongs to.
    pub fn find(real: &Path) -> Option<Self> {
        real.ancestors().find_map(Self::at)
    }

    /// The checkout whose top this directory is.
    pub fn at(top: &Path) -> Option<Self> {
        let dot = top.join(".git");
        let metadata = fs::metadata(&dot).ok()?;
        if metadata.is_dir() {
            return Some(Self { top: top.to_owned(), dir: dot });
        }
        let text = read(&dot, LARGEST_REF)?;
        let dir = text.strip_prefix("gitdir:")?.trim();
        Some(Self { top: top.to_owned(), dir: top.join(dir) })
    }

    /// The file that git holds while it writes.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("index.lock")
    }

    /// The file that says what the checkout should hold.
    pub fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    /// Looks at the lock and the index.
    pub fn mark(&self) -> Mark {
        let stat = |path: &Path| fs::metadata(path).ok().map(|metadata| Stat::of(&metadata));
        Mark { is_locked: self.is_locked(), index: stat(&self.index()), head: stat(&self.dir.join("HEAD")) }
    }

    /// Looks at the lock and reads HEAD.
    pub fn word(&self) -> Word {
        Word { is_locked: self.is_locked(), head: read(&self.dir.join("HEAD"), LARGEST_REF), commit: self.head() }
    }

    fn is_locked(&self) -> bool {
        fs::symlink_metadata(self.lock()).is_ok()
    }

    /// The directory whose entries change with HEAD, the index and its lock.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What linked worktrees share.
    fn common(&self) -> PathBuf {
        match read(&self.dir.join("commondir"), LARGEST_REF) {
            Some(relative) => self.dir.join(relative.trim()),
            None => self.dir.clone(),
        }
    }

    /// Bytes of the hashes of this repository: 20, or 32 where it was made with SHA-256.
    pub fn hash_len(&self) -> usize {
        let is_sha256 = self.setting("objectformat").is_some_and(|value| value.eq_ignore_ascii_case("sha256"));
        if is_sha256 { 32 } else { 20 }
    }

    /// A value of the `[extensions]` in the repository's own config.
    fn setting(&self, name: &str) -> Option<String> {
        let text = read(&self.common().join("config"), LARGEST_REF)?;
        let mut is_ours = false;
        text.lines().find_map(|line| {
            let line = line.trim();
            if line.starts_with('[') {
                is_ours = line.to_ascii_lowercase().starts_with("[extensions]");
            }
            let (key, value) = line.split_once('=').filter(|_| is_ours)?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// This commit, with what it builds on; `None` where its object cannot be read.
    pub fn commit(&self, id: &str) -> Option<Commit> {
        let (at, ancestors) = object::history(self, id)?;
        Some(Commit { id: id.into(), at, ancestors: ancestors.into_iter().map(Into::into).collect() })
    }

    /// The commit that HEAD names, in hexadecimal.
    pub fn head(&self) -> Option<String> {
        refs::head(self)
    }
}

/// As git writes its hashes.
fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn read(path: &Path, limit: u64) -> Option<String> {
    String::from_utf8(read_bytes(path, limit).ok()?).ok()
}

fn read_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, _) = crate::open::regular(&path.canonicalize()?)?;
    crate::open::read(&file, limit)
}
