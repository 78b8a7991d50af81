//! All JSON that commands print and the daemon answers with, in every test here, is held against the schema that the binary
//! prints for it, by a checker that nobody here wrote.

use crate::harness::BINARY;
use crate::harness::World;
use clap::ValueEnum;
use descope_gitops::cli::schema;
use descope_gitops::cli::schema::Of;
use jsonschema::Validator;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Fails unless `document` is what the schema says.
pub fn check(of: &str, document: &Value) {
    let validator = Arc::clone(VALIDATORS.lock().unwrap().entry(of.to_owned()).or_insert_with(|| {
        let schema = schema::document(Of::from_str(of, false).unwrap());
        Arc::new(jsonschema::draft202012::new(&schema).unwrap())
    }));
    if !validator.is_valid(document) {
        let said: Vec<String> =
            validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
        panic!("this is not what `schema {of}` says: {said:#?}\n{document:#}");
    }
}

/// What a command with these arguments printed, where it was asked for one JSON document.
pub fn check_command<'a>(args: impl Iterator<Item = &'a str>, printed: &[u8]) {
    let args: Vec<&str> = args.collect();
    let is_json = args.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]));
    if !is_json || args.contains(&"--watch") || printed.is_empty() {
        return;
    }
    let commands = ["plan", "apply", "validate", "status", "audit"];
    let of = args.iter().find(|arg| commands.contains(arg)).unwrap_or_else(|| panic!("no schema for {args:?}"));
    check(of, &serde_json::from_slice(printed).unwrap_or_else(|error| panic!("{args:?}: {error}")));
}

/// What the daemon answered.
pub fn check_answer(method: &Method, path: &str, status: u16, body: &str) {
    let (route, query) = path.split_once('?').unwrap_or((path, ""));
    let has = |what: &str| query.split('&').any(|pair| pair == what);
    let of = match (route, status) {
        ("/metrics" | "/", 200) => return,
        (route, 200) if route.starts_with("/page/") => return,
        ("/healthz", 200 | 503) => "health",
        ("/readyz", 200 | 503) => "ready",
        ("/livez", 200 | 503) => "live",
        (_, 300..) => "error",
        (_, _) if *method == Method::POST => "order",
        ("/api/v1/status", _) => "status",
        ("/api/v1/plan", _) if query.is_empty() => "plan",
        ("/api/v1/plan", _) => "plan-window",
        ("/api/v1/problems", _) => "problems",
        ("/api/v1/history", _) if has("of=changes") => "changes",
        ("/api/v1/history", _) => "passes",
        _ => panic!("no schema for {method} {path} with {status}"),
    };
    check(of, &serde_json::from_str(body).unwrap_or_else(|error| panic!("{method} {path}: {status} {error}: {body}")));
}

#[tokio::test]
async fn the_binary_prints_a_schema_for_each_of_its_documents_and_for_nothing_else() {
    for of in Of::value_variants() {
        let name = of.to_possible_value().unwrap().get_name().to_owned();
        let mut command = std::process::Command::new(BINARY);
        command.args(["schema", &name]);
        let output = World::end_of(command).await;
        assert!(output.status.success(), "{name}");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();

        assert_eq!(printed["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert!(jsonschema::draft202012::meta::is_valid(&printed), "{name}");
        assert_eq!(printed, schema::document(*of), "{name}");
    }
}

/// A field that a type lost, or that no type declares, is found.
#[tokio::test]
async fn a_document_with_a_field_more_or_less_is_not_of_its_schema() {
    let mut world = World::new().await;
    world.write("a.yaml", "roles:\n  - name: r\n");
    world.converge().await;
    let status = world.status().await;
    let validator = jsonschema::draft202012::new(&schema::document(Of::Status)).unwrap();
    assert!(validator.is_valid(&status));

    for (place, field) in
        [("", "queue"), ("/projects/0", "waits"), ("/projects/0/desired", "valid"), ("/queue", "ready")]
    {
        let (mut more, mut less) = (status.clone(), status.clone());
        more.pointer_mut(place).unwrap()["another"] = json!(1);
        less.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(field).unwrap();
        assert!(!validator.is_valid(&more) && !validator.is_valid(&less), "{place} {field}");
    }
}
