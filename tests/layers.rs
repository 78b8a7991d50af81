//! Imports point down: a file may import only from files below it in `ORDER`, so that nothing knows what stands above.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::path::Path;

/// The parts in the direction in which data flows: the loops, what they drive, Descope.
const ORDER: &[&str] = &[
    // Tests alone: it knocks at every door.
    "hostile",
    "cli",
    "daemon",
    "http",
    "notifications",
    "reconcile",
    "worker",
    "source",
    "pause",
    "queue",
    "plan",
    "observed",
    "desired",
    "state",
    "resource",
    "descope",
    "limiter",
    "backoff",
];
/// Any part may use these; they import nothing of ours but what reads text and files.
const SIDE: &[&str] = &["aside", "config", "dialect", "moment", "open", "telemetry"];
/// What reads text and files.
const READERS: &[&str] = &["dialect", "open"];
/// The other side of the wire: shares nothing with the client but the side parts.
const APART: &str = "simulator";

/// May code of the part `from` name the part `to`?
fn may_import(from: &str, to: &str) -> bool {
    let rank = |part: &str| ORDER.iter().position(|name| *name == part);
    match (rank(from), rank(to)) {
        _ if from == to => true,
        (Some(from), Some(to)) => from < to,
        (Some(_), None) if to == APART => from == "cli",
        (Some(_), None) => SIDE.contains(&to),
        (None, _) => from == APART && SIDE.contains(&to) || SIDE.contains(&from) && READERS.contains(&to),
    }
}

/// Every `crate::part` that the text names outside comments and which the part `from` may not.
fn violations(from: &str, text: &str) -> Vec<String> {
    let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(at, line)| line.split("crate::").skip(1).map(move |rest| (at + 1, rest)))
        .map(|(line, rest)| (line, rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()))
        .filter(|(_, to)| !may_import(from, to))
        .map(|(line, to)| match to {
            "" => format!("{line}: one `use` a line, and nothing else than `crate::part`"),
            _ => format!("{line}: {from} must not import {to}"),
        })
        .collect()
}

/// Every source file below the folder, with the part it belongs to.
fn sources(folder: &Path, part: Option<&str>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let part = part.unwrap_or(&stem);
        match path.extension() {
            None if path.is_dir() => found.extend(sources(&path, Some(part))),
            Some(extension) if extension == "rs" => found.push((path.to_str().unwrap().to_owned(), part.to_owned())),
            _ => {}
        }
    }
    found
}

#[test]
fn no_import_points_up() {
    let sources = sources(Path::new("src"), None);

    let found: Vec<String> = sources
        .iter()
        .filter(|(_, part)| !["lib", "main"].contains(&part.as_str()))
        .flat_map(|(path, part)| {
            let known = ORDER.contains(&part.as_str()) || SIDE.contains(&part.as_str()) || part == APART;
            let unknown = (!known).then(|| "0: this part has no place in the order".to_owned());
            let found = violations(part, &fs::read_to_string(path).unwrap());
            unknown.into_iter().chain(found).map(move |violation| format!("{path}:{violation}"))
        })
        .collect();

    assert!(sources.len() > 10, "the walk found only {sources:?}");
    assert_eq!(found, Vec::<String>::new(), "imports point down, see `src/lib.rs`");
}

#[test]
fn main_knows_only_the_commands() {
    let main = fs::read_to_string("src/main.rs").unwrap();

    let mut named = main.split("descope_gitops::").skip(1).map(|rest| rest.split([':', ';']).next().unwrap());

    assert!(named.all(|part| part == "cli" || SIDE.contains(&part)), "{main}");
}

#[test]
fn an_import_that_points_up_is_found() {
    let table: &[(&str, &str, &[&str])] = &[
        ("worker", "use crate::queue::Queue;\nuse crate::telemetry::metrics::Metrics;", &[]),
        ("queue", "use crate::plan::Task;\nuse crate::worker::run;", &["2: queue must not import worker"]),
        ("descope", "fn f() { crate::resource::kind(\"roles\"); }", &["1: descope must not import resource"]),
        ("descope", "pub(crate) use crate::desired;", &["1: descope must not import desired"]),
        ("plan", "    use crate::plan::order;", &[]),
        ("plan", "/// Runs after [`crate::reconcile`].\n//! crate::daemon", &[]),
        ("plan", "use crate::{resource, queue};", &["1: one `use` a line, and nothing else than `crate::part`"]),
        ("simulator", "use crate::config::Rate;\nuse crate::simulator::Clock;", &[]),
        ("simulator", "use crate::descope::Error;", &["1: simulator must not import descope"]),
        ("telemetry", "use crate::resource::Key;", &["1: telemetry must not import resource"]),
        ("config", "use crate::telemetry::logs;", &["1: config must not import telemetry"]),
        ("worker", "use crate::simulator;", &["1: worker must not import simulator"]),
        ("cli", "use crate::simulator;\nuse crate::daemon;", &[]),
    ];

    for (part, text, expected) in table {
        assert_eq!(violations(part, text), *expected, "{part}: {text}");
    }
}

/// A reader that has seen enough, or has stalled, is dealt with in one place for each stream.
#[test]
fn nothing_is_printed_but_through_the_two_places_that_know_their_readers() {
    let allowed = ["src/cli/output.rs", "src/telemetry/logs.rs"];
    // Asking what a stream is, or taking a descriptor of one's own, prints nothing.
    let prints = |line: &&str| {
        let names_it =
            ["io::stdout()", "io::stderr()", "println!", "eprint!", "print!("].iter().any(|word| line.contains(word));
        names_it
            && !line.contains(".is_terminal()")
            && !line.contains(".as_fd()")
            && !line.trim_start().starts_with("//")
    };

    let found: Vec<String> = sources(Path::new("src"), None)
        .into_iter()
        .filter(|(path, _)| !allowed.contains(&path.as_str()) && !path.ends_with("tests.rs"))
        .flat_map(|(path, _)| {
            let text = fs::read_to_string(&path).unwrap();
            text.lines().filter(prints).map(|line| format!("{path}: {}", line.trim())).collect::<Vec<_>>()
        })
        .collect();

    assert_eq!(found, Vec::<String>::new());
}
