//! What little of git's objects is needed: whether something is staged (the tree of a commit, and the tree that an index makes),
//! and what a commit builds on.

use crate::open;
use crate::source::git::Checkout;
use crate::source::git::hex;
use crate::source::git::index::Entry;
use crate::source::git::read_bytes;
use flate2::read::ZlibDecoder;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

// A loose commit with its message.
const LARGEST_COMMIT: u64 = 1024 * 1024;
/// What comes before the message and any signature: a tree, an author, a committer, and more parents than anybody merges at once.
const LARGEST_HEAD: u64 = 16 * 1024;
/// A checkout that lags behind by more commits has their times to go by.
const FAR_ENOUGH: usize = 100;
/// Hashes and names do not shrink much when they are packed, and grow by less than this.
const PACKED_HEAD: usize = 17 * 1024;
/// Where the hashes of a pack's index begin: behind its head and the table of 256 counts.
const HASHES_AT: u64 = 8 + 256 * 4;
/// The type of a commit in a pack.
const COMMIT: u8 = 1;

/// The hash of an object of this kind and content: SHA-1, or SHA-256 where hashes are that long.
pub fn hash(kind: &str, content: &[u8], hash_len: usize) -> Vec<u8> {
    let algorithm = if hash_len == 32 { &ring::digest::SHA256 } else { &ring::digest::SHA1_FOR_LEGACY_USE_ONLY };
    let mut digest = ring::digest::Context::new(algorithm);
    digest.update(format!("{kind} {}\0", content.len()).as_bytes());
    digest.update(content);
    digest.finish().as_ref().to_vec()
}

/// What a commit says before its message.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// In hexadecimal, as all hashes here.
    pub tree: String,
    /// What it builds on: also what a shallow checkout does not have.
    pub parents: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub at: Option<i64>,
}

/// The head of a commit; `None` where its object cannot be read by simple means.
pub fn head_of(checkout: &Checkout, commit: &str) -> Option<Head> {
    let objects = checkout.common().join("objects");
    let (dir, rest) = commit.split_at_checked(2)?;
    let text = match read_bytes(&objects.join(dir).join(rest), LARGEST_COMMIT) {
        Ok(bytes) => {
            let text = unpacked(&bytes[..])?;
            text.split_once('\0')?.1.to_owned()
        }
        Err(_) => packed(&objects.join("pack"), commit)?,
    };
    head(&text, commit.len())
}

fn head(text: &str, hash_len: usize) -> Option<Head> {
    let is_hash = |hash: &&str| hash.len() == hash_len && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut lines = text.lines();
    let tree = lines.next()?.strip_prefix("tree ").filter(is_hash)?.to_owned();
    let (mut parents, mut at) = (Vec::new(), None);
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(parent) = line.strip_prefix("parent ") {
            parents.push(Some(parent).filter(is_hash)?.to_owned());
        } else if let Some(who) = line.strip_prefix("committer ") {
            // A name, an address, the time and its zone.
            at = who.rsplit(' ').nth(1).and_then(|seconds| seconds.parse().ok());
            break;
        }
    }
    Some(Head { tree, parents, at })
}

/// When a commit was made, and what it builds on, as far as that can be read: its parents first, which may be all that a shallow
/// checkout knows of them.
pub fn history(checkout: &Checkout, commit: &str) -> Option<(i64, Vec<String>)> {
    let head = head_of(checkout, commit)?;
    let at = head.at?;
    let (mut ancestors, mut next) = (head.parents, 0);
    while let Some(older) = ancestors.get(next).filter(|_| ancestors.len() < FAR_ENOUGH) {
        let parents = head_of(checkout, older).map_or_else(Vec::new, |head| head.parents);
        let new: Vec<String> = parents.into_iter().filter(|parent| !ancestors.contains(parent)).collect();
        ancestors.extend(new);
        next += 1;
    }
    Some((at, ancestors))
}

/// As much of what is packed in these bytes as the head of a commit takes. What is cut off, or no text, ends it.
fn unpacked(packed: impl Read) -> Option<String> {
    let mut start = Vec::new();
    // What is packed may end in the middle.
    let read = ZlibDecoder::new(packed).take(LARGEST_HEAD).read_to_end(&mut start);
    if read.is_err() && start.is_empty() {
        return None;
    }
    // Names are in whatever coding.
    Some(String::from_utf8_lossy(&start).into_owned())
}

fn packed(dir: &Path, commit: &str) -> Option<String> {
    let packs = std::fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|item| item.path());
    let mut indexes = packs.filter(|path| path.extension().is_some_and(|extension| extension == "idx"));
    indexes.find_map(|path| {
        let of_pack = |path: &Path| open::regular(&path.canonicalize().ok()?).ok().map(|(file, _)| file);
        let at = offset(&of_pack(&path)?, commit)?;
        in_pack(&of_pack(&path.with_extension("pack"))?, at)
    })
}

/// Where an object begins in the pack of this index (gitformat-pack, version 2).
fn offset(index: &File, object: &str) -> Option<u64> {
    let number = |at: u64| -> Option<u64> {
        let mut bytes = [0; 4];
        index.read_exact_at(&mut bytes, at).ok()?;
        Some(u64::from(u32::from_be_bytes(bytes)))
    };
    if number(0)? != 0xff74_4f63 || number(4)? != 2 {
        return None;
    }
    let hash_len = object.len() as u64 / 2;
    let first = u64::from_str_radix(object.get(..2)?, 16).ok()?;
    let below = |byte: u64| if byte == 0 { Some(0) } else { number(8 + (byte - 1) * 4) };
    let (mut low, mut high, count) = (below(first)?, below(first + 1)?, below(256)?);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut found = vec![0; object.len() / 2];
        index.read_exact_at(&mut found, HASHES_AT + middle * hash_len).ok()?;
        match hex(&found).as_str().cmp(object) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => {
                let offsets = HASHES_AT + count * (hash_len + 4);
                // The highest bit marks a pack beyond 2 GiB, with offsets of their own.
                return number(offsets + middle * 4).filter(|at| at >> 31 == 0);
            }
        }
    }
    None
}

/// The beginning of a commit that is stored whole.
fn in_pack(pack: &File, mut at: u64) -> Option<String> {
    let mut byte = [0];
    pack.read_exact_at(&mut byte, at).ok()?;
    if byte[0] >> 4 & 7 != COMMIT {
        return None;
    }
    while byte[0] & 0x80 != 0 {
        at += 1;
        pack.read_exact_at(&mut byte, at).ok()?;
    }
    let mut start = vec![0; PACKED_HEAD];
    let read = pack.read_at(&mut start, at + 1).ok()?;
    unpacked(start.get(..read)?)
}

/// The tree that these entries of an index make, in hexadecimal.
pub fn tree_of_index(entries: &[Entry], hash_len: usize) -> String {
    hex(&tree(entries, 0, hash_len))
}

/// Of entries in one directory, whose path is so long.
fn tree(entries: &[Entry], above: usize, hash_len: usize) -> Vec<u8> {
    let mut content = Vec::new();
    let mut rest = entries;
    while let Some(entry) = rest.first() {
        let path = entry.path.get(above..).unwrap_or_default();
        let (name, mode, of, count) = match path.split_once('/') {
            None => (path, entry.mode, entry.hash.clone(), 1),
            // A directory that a sparse checkout leaves out whole.
            Some((name, "")) => (name, entry.mode, entry.hash.clone(), 1),
            Some((name, _)) => {
                let below = above + name.len() + 1;
                let dir = entry.path.get(..below).unwrap_or_default();
                let count = rest.iter().take_while(|other| other.path.starts_with(dir)).count();
                (name, 0o040_000, tree(&rest[..count], below, hash_len), count)
            }
        };
        content.extend_from_slice(format!("{mode:o} {name}\0").as_bytes());
        content.extend_from_slice(&of);
        rest = &rest[count..];
    }
    hash("tree", &content, hash_len)
}
