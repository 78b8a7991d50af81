//! What little of git's objects tells whether something is staged: the tree of a commit, and the tree that an index makes.

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

// A loose commit with its message; the tree stands in its first line.
const LARGEST_COMMIT: u64 = 1024 * 1024;
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

/// The tree of a commit, in hexadecimal; `None` where its object cannot be read by simple means.
pub fn tree_of(checkout: &Checkout, commit: &str) -> Option<String> {
    let objects = checkout.common().join("objects");
    let (dir, rest) = commit.split_at_checked(2)?;
    let text = match read_bytes(&objects.join(dir).join(rest), LARGEST_COMMIT) {
        Ok(bytes) => {
            let text = first_line(&bytes[..])?;
            text.split_once('\0')?.1.to_owned()
        }
        Err(_) => packed(&objects.join("pack"), commit)?,
    };
    let tree = text.strip_prefix("tree ")?;
    (tree.len() == commit.len() && tree.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| tree.to_owned())
}

/// Of what is packed in these bytes.
fn first_line(packed: impl Read) -> Option<String> {
    let mut start = Vec::new();
    // Longer than the line is with the longest hash.
    ZlibDecoder::new(packed).take(256).read_to_end(&mut start).ok()?;
    let end = start.iter().position(|byte| *byte == b'\n')?;
    start.truncate(end);
    String::from_utf8(start).ok()
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

/// The first line of a commit that is stored whole.
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
    // More than the first line takes.
    let mut start = vec![0; 1024];
    let read = pack.read_at(&mut start, at + 1).ok()?;
    first_line(start.get(..read)?)
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
