//! Does a checkout hold what git's index says, where the project would read it? What git itself left out, or has not
//! fetched yet, must not look like a deletion.

use crate::source::git::Checkout;
use crate::source::git::index::Index;
use crate::source::tree::Scan;
use crate::source::tree::Tree;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// The first thing that is missing, in words for the operator; `None` where the tree is whole. `index` gives the index of
/// a checkout.
pub fn missing(tree: &Tree, scan: &Scan, mut index: impl FnMut(&Checkout) -> Option<Arc<Index>>) -> Option<String> {
    // Files that are named and not there.
    let lost = scan.named.iter().filter(|(_, found)| found.is_err());
    let lost: Vec<PathBuf> = lost.map(|(reference, _)| reference.place(&scan.real_root).0).collect();
    let is_lost = |path: &Path| lost.iter().any(|lost| lost.starts_with(path));
    let shown = |path: &Path| path.strip_prefix(&scan.real_root).unwrap_or(path).display().to_string();
    scan.checkouts.iter().find_map(|(checkout, _)| {
        let index = index(checkout)?;
        // Few are: nearly every entry is passed over by one look.
        let special = index.entries.iter().filter(|entry| entry.is_submodule() || entry.is_skipped);
        special.into_iter().find_map(|entry| {
            let path = checkout.top.join(&entry.path);
            if entry.is_submodule() {
                let is_missing = (tree.looks_into(scan, &path) || is_lost(&path)) && is_hollow(&path);
                return is_missing.then(|| {
                    let path = shown(&path);
                    format!("the submodule {path} has no content; run `git submodule update --init`, or exclude it")
                });
            }
            let is_missing = if entry.is_directory() {
                (tree.looks_into(scan, &path) || is_lost(&path)) && is_hollow(&path)
            } else {
                (tree.counts(scan, &path) || is_lost(&path)) && fs::symlink_metadata(&path).is_err()
            };
            is_missing.then(|| {
                let path = shown(&path);
                format!("git's sparse checkout leaves out {path}, which this project would read; add it, or exclude it")
            })
        })
    })
}

/// Nothing is there, or nothing but the place for a checkout.
fn is_hollow(dir: &Path) -> bool {
    if Checkout::at(dir).is_some_and(|checkout| checkout.index().exists()) {
        return false;
    }
    let Ok(mut items) = fs::read_dir(dir) else { return true };
    !items.any(|item| item.is_ok_and(|item| item.file_name() != ".git"))
}
