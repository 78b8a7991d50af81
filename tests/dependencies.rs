//! Every dependency is used: what nobody names any more would still be built, shipped and looked after.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::path::Path;

/// Names of the dependencies in one table of the manifest, as code writes them.
fn dependencies(table: &str) -> Vec<String> {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let section = manifest.split(&format!("[{table}]\n")).nth(1).unwrap().split("\n[").next().unwrap();
    let lines = section.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_"))).collect()
}

fn texts(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = entries.map(|path| match path.extension() {
        None if path.is_dir() => texts(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    });
    text.collect()
}

/// Those that no line names, as a path or as an attribute.
fn unused(dependencies: &[String], text: &str) -> Vec<String> {
    let is_named = |name: &str| {
        let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        text.match_indices(&format!("{name}::")).any(|(at, _)| begins(at)) || text.contains(&format!("use {name};"))
    };
    dependencies.iter().filter(|name| !is_named(name)).cloned().collect()
}

#[test]
fn every_dependency_is_used() {
    let (shipped, tests) = (texts(Path::new("src")), texts(Path::new("tests")) + &texts(Path::new("benches")));

    let (normal, of_tests) = (dependencies("dependencies"), dependencies("dev-dependencies"));

    assert!(normal.len() > 30 && of_tests.len() > 5, "{normal:?} {of_tests:?}");
    assert_eq!(unused(&normal, &shipped), Vec::<String>::new());
    assert_eq!(unused(&of_tests, &(shipped + &tests)), Vec::<String>::new());
    assert_eq!(unused(&["once_cell".to_owned()], "use std::once_cell_x::A;"), ["once_cell"]);
}

/// A feature that only a dependency of tests asks for is on in every test and off in what is shipped. This one decides which
/// number an answer holds, and so whether it is the one in the YAML.
#[test]
fn what_is_shipped_reads_numbers_as_tests_do() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let args = ["tree", "--locked", "--offline", "--edges", "features,no-dev", "--invert", "serde_json"];

    let tree = std::process::Command::new(cargo).args(args).output().unwrap();

    let text = String::from_utf8(tree.stdout).unwrap();
    assert!(text.contains("serde_json v"), "{}", String::from_utf8_lossy(&tree.stderr));
    assert!(text.contains("serde_json feature \"float_roundtrip\""), "{text}");
}
