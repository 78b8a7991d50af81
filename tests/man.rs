//! The man pages under deploy/man say what `--help` says.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use clap::CommandFactory;
use descope_gitops::cli::Cli;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn pages(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let pages = entries.map(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap();
        // roff takes blanks at the end of a line for nothing.
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        (entry.file_name().to_str().unwrap().to_owned(), lines.join("\n") + "\n")
    });
    pages.collect()
}

#[test]
fn they_are_fresh() {
    let (fresh, kept) = (tempfile::tempdir().unwrap(), Path::new("deploy/man"));
    // Of which build it is, the binary says itself.
    let command = Cli::command().long_version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    clap_mangen::generate_to(command, fresh.path()).unwrap();
    let expected = pages(fresh.path());

    if std::env::var_os("UPDATE_MAN").is_some() {
        fs::remove_dir_all(kept).unwrap();
        fs::create_dir_all(kept).unwrap();
        for (name, text) in expected {
            fs::write(kept.join(name), text).unwrap();
        }
        return;
    }
    let found = pages(kept);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, text) in expected {
        assert!(
            found[&name] == text,
            "deploy/man/{name} is not what the commands say; UPDATE_MAN=1 cargo test --test man writes it anew"
        );
    }
}
