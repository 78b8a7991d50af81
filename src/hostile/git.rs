//! The files of a checkout's `.git`, each after a line `=== PATH`.

use crate::source::git::Checkout;
use crate::source::git::index::Index;
use crate::source::git::object;
use std::fs;
use std::path::Component;
use std::path::Path;

pub fn attempt(bytes: &[u8]) {
    let top = tempfile::tempdir().unwrap();
    let dot = top.path().join(".git");
    fs::create_dir(&dot).unwrap();
    for (path, content) in files(bytes).into_iter().take(10) {
        let path = dot.join(path);
        if fs::create_dir_all(path.parent().unwrap()).is_ok() {
            drop(fs::write(path, content));
        }
    }

    let Some(checkout) = Checkout::at(top.path()) else { return };
    checkout.word();
    let head = checkout.head();
    assert!(head.as_ref().is_none_or(|head| head.bytes().all(|byte| byte.is_ascii_hexdigit())), "{head:?}");
    if let Some(index) = Index::read(&checkout) {
        object::tree_of_index(&index.entries, checkout.hash_len());
    }
    drop(head.map(|head| object::history(&checkout, &head)));
}

/// Path and content, in turn; nothing outside.
fn files(bytes: &[u8]) -> Vec<(&Path, &[u8])> {
    const MARK: &[u8] = b"=== ";
    let starts: Vec<usize> =
        bytes.windows(MARK.len()).enumerate().filter(|(_, four)| *four == MARK).map(|(at, _)| at).collect();
    let ends = starts.iter().copied().skip(1).chain([bytes.len()]);
    let parts = starts.iter().zip(ends).filter_map(|(start, end)| {
        let part = &bytes[start + MARK.len()..end];
        let line = part.iter().position(|byte| *byte == b'\n')?;
        let path = Path::new(std::str::from_utf8(&part[..line]).ok()?);
        let is_inside =
            path.components().all(|one| matches!(one, Component::Normal(_))) && !path.as_os_str().is_empty();
        let is_usable = is_inside && path.as_os_str().len() < 200 && !part[..line].contains(&0);
        is_usable.then(|| (path, &part[line + 1..]))
    });
    parts.collect()
}
