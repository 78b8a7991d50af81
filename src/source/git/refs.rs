//! Which commit HEAD names: loose refs, packed ones, and reftables (gitformat-reftable).

use crate::source::git::Checkout;
use crate::source::git::LARGEST_REF;
use crate::source::git::hex;
use crate::source::git::read;
use crate::source::git::read_bytes;
use std::path::Path;

// git follows five.
const MOST_LINKS: usize = 5;

/// What a ref holds.
enum Target {
    Commit(String),
    Ref(String),
}

/// The commit that HEAD names, in hexadecimal.
pub fn head(checkout: &Checkout) -> Option<String> {
    let is_reftable = checkout.setting("refstorage").is_some_and(|value| value.eq_ignore_ascii_case("reftable"));
    let mut name = "HEAD".to_owned();
    for _ in 0..=MOST_LINKS {
        let target = if is_reftable { in_tables(checkout, &name)? } else { in_files(checkout, &name)? };
        match target {
            Target::Commit(hash) => return Some(hash),
            Target::Ref(next) if Path::new(&next).is_absolute() || next.split('/').any(|part| part == "..") => {
                return None;
            }
            Target::Ref(next) => name = next,
        }
    }
    None
}

fn in_files(checkout: &Checkout, name: &str) -> Option<Target> {
    let common = checkout.common();
    let text = read(&checkout.dir().join(name), LARGEST_REF)
        .or_else(|| read(&common.join(name), LARGEST_REF))
        .or_else(|| packed(&common, name))?;
    let text = text.trim();
    if let Some(next) = text.strip_prefix("ref:") {
        return Some(Target::Ref(next.trim().to_owned()));
    }
    let is_hash = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| Target::Commit(text.to_owned()))
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let text = read(&common.join("packed-refs"), LARGEST_REF)?;
    text.lines()
        .find_map(|line| line.split_once(' ').filter(|(_, found)| *found == name).map(|(hash, _)| hash.to_owned()))
}

/// The newest table that knows the ref decides. A worktree's own refs lie in its own tables.
fn in_tables(checkout: &Checkout, name: &str) -> Option<Target> {
    let of = |dir: &Path| {
        let dir = dir.join("reftable");
        let list = read(&dir.join("tables.list"), LARGEST_REF)?;
        let tables = list.lines().rev().filter(|table| !table.contains('/'));
        tables.map(|table| read_bytes(&dir.join(table), LARGEST_REF).ok()).find_map(|table| match table {
            Some(bytes) => Table::of(&bytes)?.find(name.as_bytes()),
            None => None,
        })
    };
    of(checkout.dir()).or_else(|| of(&checkout.common()))
}

/// One reftable.
struct Table<'a> {
    bytes: &'a [u8],
    header: usize,
    block_size: usize,
    hash_len: usize,
}

impl<'a> Table<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let is_table = bytes.get(..4)? == b"REFT";
        let (header, hash_len) = match bytes.get(4)? {
            1 => (24, 20),
            2 => (28, if bytes.get(24..28)? == b"s256" { 32 } else { 20 }),
            _ => return None,
        };
        is_table.then_some(Self { bytes, header, block_size: u24(bytes.get(5..8)?)?, hash_len })
    }

    /// Walks its blocks of refs, which come first.
    fn find(&self, name: &[u8]) -> Option<Target> {
        let mut start = 0;
        loop {
            // The first block begins behind the header, but counts from the start of the file.
            let at = if start == 0 { self.header } else { start };
            if *self.bytes.get(at)? != b'r' {
                return None;
            }
            let len = u24(self.bytes.get(at + 1..at + 4)?)?;
            let end = start.checked_add(len)?;
            let block = self.bytes.get(..end)?;
            let restarts = usize::from(u16::from_be_bytes(block.get(end.checked_sub(2)?..)?.try_into().ok()?));
            let records = end.checked_sub(2 + 3 * restarts)?;
            if let Some(found) = self.in_block(block.get(..records)?, at + 4, name) {
                return found;
            }
            let next = if self.block_size == 0 { end } else { start + self.block_size.max(len) };
            if next <= start {
                return None;
            }
            start = next;
        }
    }

    /// The outer `None`: not here. The inner one: deleted, or not readable.
    #[allow(clippy::option_option, reason = "each says another thing, and only here")]
    fn in_block(&self, block: &[u8], mut at: usize, name: &[u8]) -> Option<Option<Target>> {
        let mut key: Vec<u8> = Vec::new();
        while at < block.len() {
            let prefix = varint(block, &mut at)?;
            let suffix = varint(block, &mut at)?;
            let (suffix, kind) = (suffix >> 3, suffix & 7);
            if prefix > key.len() {
                return Some(None);
            }
            key.truncate(prefix);
            key.extend_from_slice(block.get(at..at.checked_add(suffix)?)?);
            at += suffix;
            varint(block, &mut at)?; // the update's number
            let len = match kind {
                0 => 0,
                1 => self.hash_len,
                2 => 2 * self.hash_len,
                3 => varint(block, &mut at)?,
                _ => return Some(None),
            };
            let value = block.get(at..at.checked_add(len)?)?;
            at += len;
            if key == name {
                return Some(self.target(kind, value));
            }
        }
        None
    }

    fn target(&self, kind: usize, value: &[u8]) -> Option<Target> {
        match kind {
            1 | 2 => Some(Target::Commit(hex(value.get(..self.hash_len)?))),
            3 => Some(Target::Ref(String::from_utf8(value.to_vec()).ok()?)),
            _ => None,
        }
    }
}

fn u24(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [a, b, c] => Some(usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)),
        _ => None,
    }
}

/// Big-endian, seven bits a byte, one added per continuation.
fn varint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value: usize = 0;
    for _ in 0..8 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value = (value << 7) | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
        value += 1;
    }
    None
}
