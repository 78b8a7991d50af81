//! What the page makes of a status, in words: the tables of `tests/browser/words.mjs`, without a browser.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_words_of_the_page_are_what_the_tables_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(node) = Command::new("node").arg("--version").output() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no node");
        eprintln!("skipped: no node");
        return;
    };
    assert!(node.status.success());
    // As modules, which the page's files are to a browser.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("package.json"), r#"{ "type": "module" }"#).unwrap();
    for file in fs::read_dir(root.join("src/http/page")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }

    let ended = Command::new("node").arg(root.join("tests/browser/words.mjs")).arg(dir.path()).output().unwrap();

    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ended.status.success(), "{said}");
}
