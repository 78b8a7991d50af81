//! Loading 100,000 tenants in 1,000 files: from nothing, unchanged, and with one file edited.
//!
//! `cargo bench --bench load`. The budgets are in the design: under 1.5 s, and far under 300 ms for an edit.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use descope_gitops::desired::secrets::Fence;
use descope_gitops::resource;
use descope_gitops::source::loader::Load;
use descope_gitops::source::loader::Loader;
use descope_gitops::source::loader::Settings;
use descope_gitops::source::tree::NamedFiles;
use descope_gitops::source::tree::Tree;
use globset::GlobSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

const FILES: usize = 1_000;
const TENANTS_A_FILE: usize = 100;

fn main() {
    // `cargo test --benches` runs this too: prove that it works, and leave measuring to `cargo bench`.
    let files = if std::env::args().any(|argument| argument == "--bench") { FILES } else { 10 };
    let temp = match tempfile::tempdir() {
        Ok(temp) => temp,
        Err(error) => return println!("no temporary directory: {error}"),
    };
    let bytes: usize = (0..files).map(|file| write(temp.path(), file, "gold")).sum();
    println!("{} tenants in {files} files, {:.1} MB", files * TENANTS_A_FILE, megabytes(bytes));
    let tree = Tree {
        root: temp.path().to_owned(),
        paths: vec![".".into()],
        others: Vec::new(),
        exclude: GlobSet::empty(),
        named: NamedFiles::default(),
    };
    let mut loader = Loader::new(Settings::new(tree, Fence::default(), resource::ALL));
    println!("resident before: {:.0} MiB", resident());
    // Else the first load waits for the files to be old enough to trust their times.
    settle();
    measure("first load", || loader.load());
    println!("resident after: {:.0} MiB", resident());
    for _ in 0..3 {
        measure("unchanged", || loader.load());
        write(temp.path(), files / 2, "silver");
        settle();
        measure("one file edited", || loader.load());
        write(temp.path(), files / 2, "gold");
        settle();
        measure("and back", || loader.load());
    }
    println!("resident after edits: {:.0} MiB, peak {:.0} MiB", resident(), status("VmHWM:"));
}

fn write(root: &Path, file: usize, tier: &str) -> usize {
    let mut text = String::from("tenants:\n");
    for n in 0..TENANTS_A_FILE {
        let written = write!(
            text,
            "  - id: tenant-{file:04}-{n:03}
    name: Tenant {n} of file {file}
    selfProvisioningDomains: [t{n}.f{file}.example.com]
    customAttributes: {{ tier: {tier}, seats: {n} }}
    enforceSSO: true
"
        );
        assert!(written.is_ok());
    }
    assert!(fs::write(root.join(format!("{file:04}.yaml")), &text).is_ok());
    text.len()
}

fn measure(what: &str, load: impl FnOnce() -> Load) {
    let start = Instant::now();
    let load = load();
    let took = start.elapsed();
    let resources = load.desired.map_or(0, |desired| desired.resources.len());
    println!("{what}: {:.1} ms, {:?}, {resources} resources", took.as_secs_f64() * 1000.0, load.result);
    for error in load.errors.iter().take(3) {
        println!("  {error}");
    }
}

fn settle() {
    #[allow(clippy::disallowed_methods, reason = "a benchmark without a runtime")]
    std::thread::sleep(Duration::from_millis(120));
}

#[allow(clippy::cast_precision_loss, reason = "for the eye")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn resident() -> f64 {
    status("VmRSS:")
}

/// A field of `/proc/self/status` in MiB.
fn status(field: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or_default() / 1024.0
}
