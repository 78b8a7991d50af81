//! Git's index: what a checkout should hold. The format of gitformat-index(5), versions 2 to 4, split ones included.

use crate::source::git::Checkout;
use crate::source::git::hex;
use crate::source::git::read_bytes;
use crate::source::stat::Stat;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

// An index of a million files has about 100 MB.
const LARGEST: u64 = 256 * 1024 * 1024;
// Version 4 writes what a path has in common with the one before it only once.
const MOST_GROWTH: usize = 16;
const GITLINK: u32 = 0o160_000;
const DIRECTORY: u32 = 0o040_000;

/// What git's index says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// By path.
    pub entries: Vec<Entry>,
    /// The tree object that the whole index is known to equal; `None` since something was added to it.
    pub tree: Option<Vec<u8>>,
}

/// One path that git tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below the top of the checkout; with U+FFFD where it is not UTF-8.
    pub path: String,
    /// As the file system said when git wrote it; the low 32 bits.
    pub mtime: (u32, u32),
    /// The low 32 bits.
    pub size: u64,
    /// Of the content, or of a submodule's commit.
    pub hash: Vec<u8>,
    /// Skip-worktree: a sparse checkout leaves it out.
    pub is_skipped: bool,
    /// As in a tree object.
    pub mode: u32,
}

impl Entry {
    /// A submodule.
    pub fn is_submodule(&self) -> bool {
        self.mode & 0o170_000 == GITLINK
    }

    /// A whole directory that a sparse checkout leaves out.
    pub fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == DIRECTORY
    }
}

/// One file of an index: a split one names another.
struct Part {
    entries: Vec<Entry>,
    tree: Option<Vec<u8>>,
    link: Option<Link>,
}

/// What a split index changes in the one that it shares.
struct Link {
    base: Vec<u8>,
    deleted: Vec<bool>,
    replaced: Vec<bool>,
}

impl Index {
    /// Reads the index of a checkout; `None` where there is none, or none that this understands.
    pub fn read(checkout: &Checkout) -> Option<Self> {
        let hash_len = checkout.hash_len();
        let file = |path: &Path| parse(&read_bytes(path, LARGEST).ok()?, hash_len);
        let Part { entries, tree, link } = file(&checkout.index())?;
        let Some(Link { base, deleted, replaced }) = link else { return Some(Self { entries, tree }) };
        if base.iter().all(|byte| *byte == 0) {
            return Some(Self { entries, tree });
        }
        let name = hex(&base);
        let shared = file(&checkout.dir().join(format!("sharedindex.{name}")))?;
        let mut own = entries.into_iter();
        let mut all = Vec::new();
        for (at, entry) in shared.entries.into_iter().enumerate() {
            let is = |bits: &[bool]| bits.get(at).copied().unwrap_or(false);
            if is(&replaced) {
                let new = own.next()?;
                all.push(Entry { path: entry.path, ..new });
            } else if !is(&deleted) {
                all.push(entry);
            }
        }
        all.extend(own);
        all.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Some(Self { entries: all, tree })
    }
}

/// Indexes that were read, each until it changes.
#[derive(Default)]
pub struct Indexes(HashMap<PathBuf, (Stat, Option<Arc<Index>>)>);

impl Indexes {
    /// The index of a checkout; `None` where there is none, or none that this understands. `quiet` is how long a file
    /// must have stood still before its stats prove anything.
    pub fn of(&mut self, checkout: &Checkout, quiet: Duration) -> Option<Arc<Index>> {
        let path = checkout.index();
        let stat = Stat::of(&fs::metadata(&path).ok()?);
        if let Some((_, known)) = self.0.get(&path).filter(|(of, _)| *of == stat) {
            return known.clone();
        }
        let index = Index::read(checkout).map(Arc::new);
        if stat.is_older_than_its_tick(SystemTime::now(), quiet) {
            self.0.insert(path, (stat, index.clone()));
        }
        index
    }
}

/// A place in bytes from which numbers are read, big-endian.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Up to the next NUL, which is taken as well.
    fn text(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        self.at += end + 1;
        rest.get(..end)
    }

    /// The offset encoding of git's pack format: seven bits a byte, one added per continuation.
    fn varint(&mut self) -> Option<usize> {
        let mut value: usize = 0;
        for _ in 0..8 {
            let byte = *self.take(1)?.first()?;
            value = (value << 7) | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some(value);
            }
            value += 1;
        }
        None
    }
}

fn parse(bytes: &[u8], hash_len: usize) -> Option<Part> {
    let mut cursor = Cursor { bytes, at: 0 };
    let is_index = cursor.take(4)? == b"DIRC";
    let version = cursor.u32()?;
    if !is_index || !(2..=4).contains(&version) {
        return None;
    }
    let count = cursor.u32()? as usize;
    let mut entries = Vec::with_capacity(count.min(bytes.len() / 62));
    let mut path: Vec<u8> = Vec::new();
    let mut room = bytes.len().saturating_mul(MOST_GROWTH);
    for _ in 0..count {
        entries.push(entry(&mut cursor, version, hash_len, &mut path)?);
        room = room.checked_sub(path.len())?;
    }
    let mut part = Part { entries, tree: None, link: None };
    while cursor.at + hash_len + 8 <= bytes.len() {
        let name = cursor.take(4)?;
        let len = cursor.u32()? as usize;
        let content = cursor.take(len)?;
        match name {
            b"TREE" => part.tree = root(content, hash_len),
            b"link" => part.link = Some(link(content, hash_len)?),
            _ => {}
        }
    }
    Some(part)
}

/// The root's entry of git's cache of trees: an empty path, how many files and trees it covers, and its hash; -1 files
/// where something was staged.
fn root(content: &[u8], hash_len: usize) -> Option<Vec<u8>> {
    let counts = content.strip_prefix(b"\0").filter(|counts| counts.first() != Some(&b'-'))?;
    let end = counts.iter().position(|byte| *byte == b'\n')?;
    counts.get(end + 1..end + 1 + hash_len).map(<[u8]>::to_vec)
}

fn entry(cursor: &mut Cursor<'_>, version: u32, hash_len: usize, path: &mut Vec<u8>) -> Option<Entry> {
    let start = cursor.at;
    cursor.take(8)?;
    let mtime = (cursor.u32()?, cursor.u32()?);
    cursor.take(8)?;
    let mode = cursor.u32()?;
    cursor.take(8)?;
    let size = u64::from(cursor.u32()?);
    let hash = cursor.take(hash_len)?.to_vec();
    let is_extended = cursor.u16()? & 0x4000 != 0;
    let is_skipped = is_extended && cursor.u16()? & 0x4000 != 0;
    if version == 4 {
        let strip = cursor.varint()?;
        path.truncate(path.len().checked_sub(strip)?);
    } else {
        path.clear();
    }
    path.extend_from_slice(cursor.text()?);
    if version != 4 {
        // Padded with NULs to a multiple of eight, at least one.
        cursor.at = start + (cursor.at - start).div_ceil(8) * 8;
    }
    let path = String::from_utf8_lossy(path).into_owned();
    Some(Entry { path, mtime, size, hash, is_skipped, mode })
}

fn link(content: &[u8], hash_len: usize) -> Option<Link> {
    let mut cursor = Cursor { bytes: content, at: 0 };
    let base = cursor.take(hash_len)?.to_vec();
    // An index that shares all of its base has no bitmaps.
    if cursor.at == content.len() {
        return Some(Link { base, deleted: Vec::new(), replaced: Vec::new() });
    }
    Some(Link { base, deleted: bitmap(&mut cursor)?, replaced: bitmap(&mut cursor)? })
}

/// An EWAH bitmap: words of 64 bits, of which a marker says how many alike follow, and how many that are written out.
fn bitmap(cursor: &mut Cursor<'_>) -> Option<Vec<bool>> {
    let bits = cursor.u32()? as usize;
    let words = cursor.u32()? as usize;
    // A million files; more would be a bitmap of nothing but runs, made to fill the memory.
    if bits > 1 << 24 {
        return None;
    }
    let mut all = Vec::with_capacity(bits);
    let mut read = 0;
    while read < words {
        let marker = cursor.u64()?;
        read += 1;
        let run = usize::try_from((marker >> 1) & 0xffff_ffff).ok()?.checked_mul(64)?;
        let room = bits.saturating_sub(all.len());
        all.extend(std::iter::repeat_n(marker & 1 == 1, run.min(room)));
        for _ in 0..usize::try_from(marker >> 33).ok()? {
            let word = cursor.u64()?;
            read += 1;
            let room = bits.saturating_sub(all.len());
            all.extend((0..room.min(64)).map(|bit| word >> bit & 1 == 1));
        }
    }
    cursor.u32()?;
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn git(dir: &Path, args: &[&str]) {
        let mut command = Command::new("git");
        command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        assert!(command.args(args).output().unwrap().status.success(), "git {args:?}");
    }

    #[test]
    fn a_spoilt_index_is_read_or_not_and_never_grows() {
        let temp = tempfile::tempdir().unwrap();
        git(temp.path(), &["init", "-q"]);
        let mut files = Vec::new();
        let mut random = fastrand::Rng::with_seed(7);
        for version in ["2", "4"] {
            for n in 0..20 {
                std::fs::write(temp.path().join(format!("{version}-{n}.yaml")), "x").unwrap();
            }
            git(temp.path(), &["update-index", "--index-version", version]);
            git(temp.path(), &["add", "."]);
            git(temp.path(), &["write-tree"]);
            files.push(std::fs::read(temp.path().join(".git/index")).unwrap());
            git(temp.path(), &["update-index", "--split-index"]);
            std::fs::write(temp.path().join(format!("{version}-more.yaml")), "x").unwrap();
            git(temp.path(), &["add", "."]);
            files.push(std::fs::read(temp.path().join(".git/index")).unwrap());
            git(temp.path(), &["update-index", "--no-split-index"]);
        }

        for file in files {
            assert!(parse(&file, 20).is_some());
            for _ in 0..3000 {
                let mut spoilt = file.clone();
                for _ in 0..random.usize(1..6) {
                    let at = random.usize(0..spoilt.len());
                    match random.u8(0..4) {
                        0 => spoilt.truncate(at.max(1)),
                        1 => spoilt[at] = 0xff,
                        _ => spoilt[at] = random.u8(..),
                    }
                }
                let read = parse(&spoilt, 20);
                let paths: usize = read.iter().flat_map(|part| &part.entries).map(|entry| entry.path.len()).sum();
                // What is not UTF-8 becomes three bytes each.
                assert!(paths <= 3 * MOST_GROWTH * spoilt.len());
            }
        }
    }
}
