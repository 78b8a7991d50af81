//! Shared code names no kind, no part and no field: a new kind is one file. This reads the sources and says where one does.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use descope_gitops::config;
use descope_gitops::resource;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What handles resources of every kind, and so their fields.
const SHARED: [&str; 7] =
    ["src/plan", "src/queue", "src/worker", "src/observed", "src/reconcile", "src/desired", "src/state"];

/// The part of `src/resource` that every kind is made with.
const LANGUAGE: [&str; 15] = [
    "fold",
    "form",
    "key",
    "kind",
    "legible",
    "once",
    "opaque",
    "refer",
    "reference",
    "remember",
    "risk",
    "secret",
    "spec",
    "twins",
    "write",
];

/// Where kinds are named: each has one line in these lists, or tells its story with the sample.
const LISTS: [&str; 4] = ["src/resource.rs", "src/config.rs", "src/simulator/kinds.rs", "src/cli/demo"];

/// Words that are a field of some kind and stand for something else as well: columns and files of the state, fields of the status,
/// and how the API addresses whatever has a name.
const EVERYDAY: [&str; 15] = [
    "source",
    "name",
    "id",
    "type",
    "data",
    "description",
    "default",
    "private",
    "disabled",
    "parent",
    "settings",
    "file",
    "version",
    "lock",
    "project",
];

/// Where a name is meant all the same: file, word, reason.
const EXCEPTIONS: [(&str, &str, &str); 6] = [
    ("src/resource/write.rs", "lowercase", "serde calls so how a word is written"),
    ("src/descope/audit.rs", "tenants", "an event says in it whom it concerned"),
    ("src/resource/key.rs", "tenants", "a tenant is part of the identity of whatever lives in one"),
    ("src/resource/kind.rs", "createdTime", "Descope calls so when it made something, of whatever kind"),
    ("src/desired/schema.rs", "minLength", "JSON Schema calls so how long a text is"),
    ("src/desired/schema.rs", "number", "JSON Schema calls so one of its types"),
];

/// Calls that are of no kind: the license and the audit trail.
const CALLS: [&str; 2] = ["src/descope/call.rs", "src/descope/audit.rs"];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

/// Without comments, and without what is compiled for tests only.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Files of tests alone.
fn is_of_tests(path: &Path) -> bool {
    let text = path.to_str().unwrap();
    let ends = ["testing.rs", "roundtrip.rs", "properties.rs", "script.rs", "hostile.rs"];
    text.contains("/tests") || text.contains("/hostile/") || ends.iter().any(|end| text.ends_with(end))
}

/// The code of these files and folders, by path.
fn read<'a>(paths: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut files = Vec::new();
    for path in paths {
        sources(Path::new(path), &mut files);
        sources(&Path::new(path).with_extension("rs"), &mut files);
    }
    files.retain(|path| path.exists() && !is_of_tests(path));
    let code = |path: &PathBuf| code(&fs::read_to_string(path).unwrap());
    files.iter().map(|path| (path.to_str().unwrap().to_owned(), code(path))).collect()
}

/// Where a file has one of the words in quotes.
fn named(files: &BTreeMap<String, String>, words: &BTreeSet<&str>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, code) in files {
        for word in words.iter().filter(|word| code.contains(&format!("\"{word}\""))) {
            if !EXCEPTIONS.iter().any(|(file, meant, _)| file == path && meant == word) {
                found.push(format!("{path} names \"{word}\""));
            }
        }
    }
    found
}

/// The files of `src/resource` that are one kind each, as modules.
fn modules_of_kinds() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(Path::new("src/resource"), &mut files);
    let direct = files.iter().filter(|path| path.parent() == Some(Path::new("src/resource")));
    let names = direct.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| !LANGUAGE.contains(&&**name)).collect()
}

/// What knows no kind: everything but the kinds themselves, on both sides, and the lists.
fn everything_else() -> BTreeMap<String, String> {
    let kinds = modules_of_kinds();
    let is_one = |path: &str| {
        let of_resource = path.strip_prefix("src/resource/").and_then(|rest| rest.split(['/', '.']).next());
        of_resource.is_some_and(|name| kinds.contains(name)) || path.starts_with("src/simulator/kinds/")
    };
    let mut files = read(["src"]);
    files.retain(|path, _| !is_one(path) && !LISTS.iter().any(|list| path.starts_with(list)));
    files
}

#[test]
fn shared_code_names_no_kind_no_part_and_no_field() {
    let mut words: BTreeSet<&str> = BTreeSet::new();
    for spec in resource::ALL.iter().map(|kind| kind.spec()) {
        words.insert(spec.name);
        words.extend(spec.parts.iter().map(|part| part.name).filter(|name| !name.is_empty()));
        words.extend(spec.fields().map(|(_, field)| field.name));
    }
    words.retain(|word| !EVERYDAY.contains(word));
    let language: Vec<String> = LANGUAGE.iter().map(|name| format!("src/resource/{name}.rs")).collect();

    let files = read(SHARED.into_iter().chain(language.iter().map(String::as_str)));

    assert!(files.len() > 100, "the walk found only {:?}", files.keys());
    assert_eq!(named(&files, &words), Vec::<String>::new());
}

/// Commands, the page, notifications, metrics and the client were not looked at.
#[test]
fn nothing_but_the_kinds_and_the_lists_names_a_kind() {
    let mut words: BTreeSet<&str> = resource::ALL.iter().map(|kind| kind.name()).collect();
    words.retain(|word| !EVERYDAY.contains(word));

    let files = everything_else();

    assert!(files.len() > 200, "the walk found only {:?}", files.keys());
    assert_eq!(named(&files, &words), Vec::<String>::new());
}

/// A name in quotes is not the only way to know one.
#[test]
fn nothing_but_the_kinds_reaches_into_the_file_of_a_kind() {
    let kinds = modules_of_kinds();
    assert!(kinds.contains("tenant") && kinds.contains("theme"), "{kinds:?}");

    let mut found = Vec::new();
    for (path, code) in everything_else() {
        let reaches = |kind: &&String| {
            code.contains(&format!("resource::{kind}::"))
                || path.starts_with("src/resource/") && code.contains(&format!("super::{kind}::"))
        };
        found.extend(kinds.iter().filter(reaches).map(|kind| format!("{path} reaches into `{kind}`")));
        // The calls of a kind are made by its file.
        if !path.starts_with("src/simulator")
            && !CALLS.contains(&&*path)
            && code.contains("/v1/mgmt/") | code.contains("/v2/mgmt/")
        {
            found.push(format!("{path} makes a call"));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

/// Settings stand below the kinds, and cannot ask them.
#[test]
fn the_settings_know_every_kind() {
    let kinds: BTreeSet<&str> = resource::ALL.iter().map(|kind| kind.name()).collect();
    let deleted =
        resource::ALL.iter().filter(|kind| kind.spec().verbs.delete || kind.spec().has_preview).map(|kind| kind.name());

    assert_eq!(BTreeSet::from(config::KINDS), kinds);
    assert_eq!(BTreeSet::from(config::NEVER_DELETED).difference(&deleted.collect()).count(), 0);
}
