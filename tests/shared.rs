//! Shared code names no kind, no part and no field: a new kind is one file. This reads the sources and says where one does.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use descope_gitops::resource;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What handles resources of every kind.
const SHARED: [&str; 7] =
    ["src/plan", "src/queue", "src/worker", "src/observed", "src/reconcile", "src/desired", "src/state"];

/// The part of `src/resource` that every kind is made with.
const LANGUAGE: [&str; 10] = ["fold", "form", "key", "kind", "opaque", "refer", "remember", "risk", "secret", "spec"];

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
const EXCEPTIONS: [(&str, &str, &str); 4] = [
    ("src/resource/key.rs", "tenants", "a tenant is part of the identity of whatever lives in one"),
    ("src/resource/kind.rs", "createdTime", "Descope calls so when it made something, of whatever kind"),
    ("src/desired/schema.rs", "minLength", "JSON Schema calls so how long a text is"),
    ("src/desired/schema.rs", "number", "JSON Schema calls so one of its types"),
];

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

#[test]
fn shared_code_names_no_kind_no_part_and_no_field() {
    let mut words: BTreeSet<&str> = BTreeSet::new();
    for spec in resource::ALL.iter().map(|kind| kind.spec()) {
        words.insert(spec.name);
        words.extend(spec.parts.iter().map(|part| part.name).filter(|name| !name.is_empty()));
        words.extend(spec.fields().map(|(_, field)| field.name));
    }
    words.retain(|word| !EVERYDAY.contains(word));
    let mut files = Vec::new();
    for folder in SHARED {
        sources(Path::new(folder), &mut files);
        files.push(Path::new(folder).with_extension("rs"));
    }
    files.extend(LANGUAGE.iter().map(|name| Path::new("src/resource").join(name).with_extension("rs")));
    files.retain(|path| {
        let path = path.to_str().unwrap();
        !path.contains("/tests")
            && !["testing.rs", "roundtrip.rs", "properties.rs"].iter().any(|end| path.ends_with(end))
    });

    let mut found = Vec::new();
    for path in &files {
        let code = code(&fs::read_to_string(path).unwrap());
        let path = path.to_str().unwrap();
        for word in words.iter().filter(|word| code.contains(&format!("\"{word}\""))) {
            if !EXCEPTIONS.iter().any(|(file, meant, _)| *file == path && meant == word) {
                found.push(format!("{path} names \"{word}\""));
            }
        }
    }

    assert!(files.len() > 30, "the walk found only {files:?}");
    assert_eq!(found, Vec::<String>::new());
}
