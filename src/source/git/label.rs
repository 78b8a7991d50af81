//! The commit that the files are of, and as people call it: its short hash, with `-dirty` unless the files are known to be the
//! commit's. Says what `git status` says of the files that count.

use crate::source::git::Checkout;
use crate::source::git::hex;
use crate::source::git::index::Index;
use crate::source::git::object;
use crate::source::stat::Stat;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What a project read, as git may know it.
pub struct Project<'a> {
    /// Every checkout in which its files lie, and the one of the root, which gives the hash.
    pub checkouts: &'a [Checkout],
    /// Its files, by path without links.
    pub files: &'a HashMap<&'a Path, Stat>,
    /// Should a file at this path be among them, if it existed?
    pub counts: &'a dyn Fn(&Path) -> bool,
    /// Does it look into this directory, if that exists?
    pub looks_into: &'a dyn Fn(&Path) -> bool,
    /// Does this file have the content of this hash?
    pub has_content: &'a dyn Fn(&Path, &[u8]) -> bool,
}

/// The commit that a checkout has checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its hash, in hexadecimal.
    pub commit: String,
    /// The files are its files.
    pub is_clean: bool,
}

impl Label {
    /// What git itself shows.
    pub fn short(&self) -> Option<String> {
        let short = self.commit.get(..7)?;
        Some(if self.is_clean { short.to_owned() } else { format!("{short}-dirty") })
    }
}

/// The label of the commit that `root` has checked out. `index` gives the index of a checkout.
pub fn label(
    root: &Checkout,
    project: &Project<'_>,
    mut index: impl FnMut(&Checkout) -> Option<Arc<Index>>,
) -> Option<Label> {
    let commit = root.head()?;
    let is_clean = project.checkouts.iter().all(|checkout| {
        let index = index(checkout).filter(|_| checkout.head().is_some());
        index.is_some_and(|index| project.is_clean(checkout, &index))
    });
    let is_known = project.files.keys().all(|path| project.owner(path).is_some());
    Some(Label { commit, is_clean: is_clean && is_known })
}

impl Project<'_> {
    /// The innermost checkout that holds this path.
    fn owner(&self, path: &Path) -> Option<&Checkout> {
        let holders = self.checkouts.iter().filter(|checkout| path.starts_with(&checkout.top));
        holders.max_by_key(|checkout| checkout.top.as_os_str().len())
    }

    fn is_clean(&self, checkout: &Checkout, index: &Index) -> bool {
        // Something is staged: the index is not HEAD's tree.
        let written = std::fs::metadata(checkout.index()).ok().filter(|_| is_committed(checkout, index));
        let Some(written) = written else { return false };
        let written = Stat::of(&written);
        let mut seen = 0;
        for entry in &index.entries {
            let path = checkout.top.join(&entry.path);
            if entry.is_submodule() {
                let is_at = |hash: &[u8]| {
                    let head = Checkout::at(&path).and_then(|submodule| submodule.head());
                    head.is_none_or(|head| head == hex(hash))
                };
                if (self.looks_into)(&path) && !is_at(&entry.hash) {
                    return false;
                }
                continue;
            }
            let Some(stat) = self.files.get(&*path) else {
                if (self.counts)(&path) && !entry.is_skipped {
                    return false;
                }
                continue;
            };
            seen += 1;
            let is_same = entry.size == (stat.len & 0xffff_ffff) && entry.mtime == stat.mtime_32();
            // Written in the same tick as the index: the time proves nothing, as in git itself.
            let is_racy = stat.mtime >= written.mtime;
            if (!is_same || is_racy) && !(self.has_content)(&path, &entry.hash) {
                return false;
            }
        }
        let own = self.files.keys().filter(|path| self.owner(path).is_some_and(|owner| owner.top == checkout.top));
        seen == own.count()
    }
}

/// Is the index what HEAD's commit holds? Where that commit cannot be read, one that git wrote as a whole tree is.
fn is_committed(checkout: &Checkout, index: &Index) -> bool {
    let Some(object::Head { tree, .. }) = checkout.head().and_then(|head| object::head_of(checkout, &head)) else {
        return index.tree.is_some();
    };
    match &index.tree {
        Some(written) => hex(written) == tree,
        None => object::tree_of_index(&index.entries, tree.len() / 2) == tree,
    }
}

/// The hash that git gives to a file of this content: SHA-1, or SHA-256 where the hash is that long.
pub fn blob(content: &[u8], hash_len: usize) -> Vec<u8> {
    object::hash("blob", content, hash_len)
}

/// Is this what a commit holds under this hash? Line ends may have been changed on the way out, as git is often told to.
pub fn is_blob(content: &[u8], hash: &[u8]) -> bool {
    if blob(content, hash.len()) == hash {
        return true;
    }
    let has_windows_ends = content.windows(2).any(|pair| pair == b"\r\n");
    has_windows_ends && {
        let mut unix = Vec::with_capacity(content.len());
        for (at, byte) in content.iter().enumerate() {
            if *byte != b'\r' || content.get(at + 1) != Some(&b'\n') {
                unix.push(*byte);
            }
        }
        blob(&unix, hash.len()) == hash
    }
}
