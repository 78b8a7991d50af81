//! What a git checkout says about itself, read from `.git` without the git binary.
//!
//! Two uses: git holds `index.lock` while it changes the tree, so a tree is whole only if neither the lock nor a new
//! index appeared while it was read; and the commit is a label for people.

use crate::source::stat::Stat;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

// An index of a million files has about 100 MB.
const LARGEST_INDEX: u64 = 256 * 1024 * 1024;
// HEAD, refs and packed-refs.
const LARGEST_REF: u64 = 16 * 1024 * 1024;

/// A checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The directory that holds `.git`.
    pub top: PathBuf,
    /// `.git`, or where its `gitdir:` line leads (a linked worktree).
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

impl Checkout {
    /// The checkout that `real`, a resolved path, belongs to.
    pub fn find(real: &Path) -> Option<Self> {
        real.ancestors().find_map(|top| {
            let dot = top.join(".git");
            let metadata = fs::metadata(&dot).ok()?;
            if metadata.is_dir() {
                return Some(Self { top: top.to_owned(), dir: dot });
            }
            let text = read(&dot, LARGEST_REF)?;
            let dir = text.strip_prefix("gitdir:")?.trim();
            Some(Self { top: top.to_owned(), dir: top.join(dir) })
        })
    }

    /// The file that git holds while it writes.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("index.lock")
    }

    /// Looks at the lock and the index.
    pub fn mark(&self) -> Mark {
        let stat = |name: &str| fs::metadata(self.dir.join(name)).ok().map(|metadata| Stat::of(&metadata));
        Mark { is_locked: fs::symlink_metadata(self.lock()).is_ok(), index: stat("index"), head: stat("HEAD") }
    }

    /// The directory whose entries change with HEAD, the index and its lock.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The short hash of the commit that HEAD names, with `-dirty` unless the files are known to be the commit's.
    /// `files` are the files that count, by path below [`Self::top`]; `counts` says which of git's paths should be
    /// among them.
    pub fn label(&self, files: &HashMap<&Path, (Stat, [u8; 20])>, counts: impl Fn(&Path) -> bool) -> Option<String> {
        let hash = self.head()?;
        let is_clean = self.is_clean(&hash, files, counts).unwrap_or(false);
        // What git itself shows.
        let short = hash.get(..7)?;
        Some(if is_clean { short.to_owned() } else { format!("{short}-dirty") })
    }

    fn head(&self) -> Option<String> {
        let common = match read(&self.dir.join("commondir"), LARGEST_REF) {
            Some(relative) => self.dir.join(relative.trim()),
            None => self.dir.clone(),
        };
        let mut text = read(&self.dir.join("HEAD"), LARGEST_REF)?;
        // A symbolic ref may name another one; git follows five.
        for _ in 0..5 {
            let Some(name) = text.trim().strip_prefix("ref:").map(|name| name.trim().to_owned()) else { break };
            if Path::new(&name).is_absolute() || name.split('/').any(|part| part == "..") {
                return None;
            }
            text = read(&self.dir.join(&name), LARGEST_REF)
                .or_else(|| read(&common.join(&name), LARGEST_REF))
                .or_else(|| packed(&common, &name))?;
        }
        let hash = text.trim();
        (matches!(hash.len(), 40 | 64) && hash.bytes().all(|b| b.is_ascii_hexdigit())).then(|| hash.to_owned())
    }

    /// `None` where it cannot be told.
    fn is_clean(
        &self,
        head: &str,
        files: &HashMap<&Path, (Stat, [u8; 20])>,
        counts: impl Fn(&Path) -> bool,
    ) -> Option<bool> {
        let path = self.dir.join("index");
        let written = Stat::of(&fs::metadata(&path).ok()?);
        let bytes = read_bytes(&path, LARGEST_INDEX).ok()?;
        let index = Index::parse(&bytes, head.len() / 2)?;
        // Something is staged: the index is not HEAD's tree.
        if !index.is_a_tree {
            return Some(false);
        }
        let mut seen = 0;
        for entry in &index.entries {
            let path = Path::new(&entry.path);
            let Some((stat, blob)) = files.get(path) else {
                if counts(path) && !entry.is_skipped {
                    return Some(false);
                }
                continue;
            };
            seen += 1;
            let is_same = entry.size == (stat.len & 0xffff_ffff) && entry.mtime == stat.mtime_32();
            // Written in the same tick as the index: the time proves nothing, as in git itself.
            let is_racy = stat.mtime >= written.mtime;
            if (!is_same || is_racy) && entry.hash != blob.as_slice() {
                return Some(false);
            }
        }
        Some(seen == files.len())
    }
}

/// The hash that git gives to a file of this content.
pub fn blob(content: &[u8]) -> [u8; 20] {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(format!("blob {}\0", content.len()).as_bytes());
    digest.update(content);
    let mut hash = [0; 20];
    hash.copy_from_slice(digest.finish().as_ref());
    hash
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let text = read(&common.join("packed-refs"), LARGEST_REF)?;
    text.lines()
        .find_map(|line| line.split_once(' ').filter(|(_, found)| *found == name).map(|(hash, _)| hash.to_owned()))
}

fn read(path: &Path, limit: u64) -> Option<String> {
    String::from_utf8(read_bytes(path, limit).ok()?).ok()
}

fn read_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, _) = crate::open::regular(&path.canonicalize()?)?;
    crate::open::read(&file, limit)
}

struct Index {
    entries: Vec<IndexEntry>,
    /// The whole index is known to equal one tree object.
    is_a_tree: bool,
}

struct IndexEntry {
    path: String,
    mtime: (u32, u32),
    size: u64,
    hash: Vec<u8>,
    is_skipped: bool,
}

impl Index {
    /// The format of gitformat-index(5), versions 2 to 4. Paths that are not UTF-8 are left out.
    fn parse(bytes: &[u8], hash_len: usize) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u16_at = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let version = u32_at(4)?;
        if bytes.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
            return None;
        }
        let count = u32_at(8)? as usize;
        let mut entries = Vec::with_capacity(count.min(bytes.len() / 62));
        let mut at = 12;
        let mut previous: Vec<u8> = Vec::new();
        for _ in 0..count {
            let start = at;
            let mtime = (u32_at(at + 8)?, u32_at(at + 12)?);
            let size = u64::from(u32_at(at + 36)?);
            let hash = bytes.get(at + 40..at + 40 + hash_len)?.to_vec();
            let flags = u16_at(at + 40 + hash_len)?;
            at += 42 + hash_len;
            let mut is_skipped = false;
            if flags & 0x4000 != 0 {
                is_skipped = u16_at(at)? & 0x4000 != 0;
                at += 2;
            }
            if version == 4 {
                let (strip, used) = varint(bytes.get(at..)?)?;
                at += used;
                previous.truncate(previous.len().checked_sub(strip)?);
            } else {
                previous.clear();
            }
            let rest = bytes.get(at..)?;
            let end = rest.iter().position(|byte| *byte == 0)?;
            previous.extend_from_slice(&rest[..end]);
            at += end + 1;
            if version != 4 {
                // Padded with NULs to a multiple of eight, at least one.
                at = start + (at - start).div_ceil(8) * 8;
            }
            if let Ok(path) = String::from_utf8(previous.clone()) {
                entries.push(IndexEntry { path, mtime, size, hash, is_skipped });
            }
        }
        let mut is_a_tree = false;
        while at + hash_len + 8 <= bytes.len() {
            let len = u32_at(at + 4)? as usize;
            let content = bytes.get(at + 8..(at + 8).checked_add(len)?)?;
            match bytes.get(at..at + 4)? {
                // The root's entry: an empty path, then how many files it covers, -1 where something was staged.
                b"TREE" => is_a_tree = content.first() == Some(&0) && content.get(1) != Some(&b'-'),
                // A split index keeps most entries elsewhere.
                b"link" => return None,
                _ => {}
            }
            at += 8 + len;
        }
        Some(Self { entries, is_a_tree })
    }
}

/// The offset encoding of git's pack format: big-endian, seven bits a byte, one added per continuation.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value: usize = 0;
    for (n, byte) in bytes.iter().enumerate().take(8) {
        value = (value << 7) | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
        value += 1;
    }
    None
}
