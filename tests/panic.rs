//! What a panic and debug output tell: everything but the secrets. The daemon logs in a process of its own, which
//! panics with secrets in its hands.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and one is about that"
)]

use descope_gitops::config::Config;
use descope_gitops::config::Overrides;
use descope_gitops::descope;
use descope_gitops::desired::secrets::Fence;
use descope_gitops::desired::secrets::Secrets;
use descope_gitops::resource;
use descope_gitops::resource::Answer;
use descope_gitops::resource::Document;
use descope_gitops::resource::Field;
use descope_gitops::resource::Item;
use descope_gitops::resource::Key;
use descope_gitops::resource::Shape;
use descope_gitops::resource::Write;
use descope_gitops::resource::secret;
use descope_gitops::telemetry::logs;
use descope_gitops::telemetry::logs::Format;
use descope_gitops::telemetry::redact::Redactor;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::process::Command;
use tempfile::TempDir;

const BY_VARIABLE: &str = "sentinel-management-key-by-variable";
const BY_FILE: &str = "sentinel-management-key-by-file";
const TOKEN: &str = "sentinel-http-token";
const IN_A_URL: &str = "sentinel-in-a-url";
const OF_A_KIND: &str = "sentinel-of-a-kind";
const SHOWN_ONCE: &str = "sentinel-shown-once";
const ALL: [&str; 6] = [BY_VARIABLE, BY_FILE, TOKEN, IN_A_URL, OF_A_KIND, SHOWN_ONCE];

fn env(name: &str) -> Option<String> {
    match name {
        "KEY" => Some(BY_VARIABLE.to_owned()),
        "TOKEN" => Some(TOKEN.to_owned()),
        _ => None,
    }
}

fn config(dir: &TempDir, base_url: &str) -> Config {
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir_all(at("repo/a")).unwrap();
    fs::create_dir_all(at("repo/b")).unwrap();
    fs::write(at("key"), BY_FILE).unwrap();
    let text = format!(
        "source: {{ path: {} }}\nhttp: {{ token: {{ env: TOKEN }} }}\nprojects:\n  \
         - {{ name: a, path: a, projectId: P1, managementKey: {{ env: KEY }}, baseUrl: '{base_url}' }}\n  \
         - {{ name: b, path: b, projectId: P2, managementKey: {{ file: {} }}, secrets: {{ env: ['*'] }} }}\n",
        at("repo"),
        at("key")
    );
    fs::write(at("config.yaml"), text).unwrap();
    Config::load(&Overrides { config: Some(at("config.yaml")), ..Overrides::default() }).unwrap()
}

/// The fields that hold a secret and nothing else, as a file declares them; `None` where there are none.
fn declared(fields: &[Field]) -> Option<Document> {
    let value = |field: &Field| Some((field.name.to_owned(), declared_as(field.shape)?));
    let found: Document = fields.iter().filter_map(value).collect();
    (!found.is_empty()).then_some(found)
}

#[allow(clippy::wildcard_enum_match_arm, reason = "no other shape holds a field")]
fn declared_as(shape: Shape) -> Option<Value> {
    match shape {
        Shape::Secret => Some(json!({ "file": "of-a-kind" })),
        Shape::Object(fields) => declared(fields).map(Value::Object),
        Shape::Items { fields, .. } => Some(json!([declared(fields)?])),
        Shape::List(shape) => Some(json!([declared_as(*shape)?])),
        Shape::Map(shape) => Some(json!({ "any": declared_as(*shape)? })),
        _ => None,
    }
}

/// What is sent of every part of every kind that holds a secret.
fn bodies(dir: &TempDir, redactor: &Redactor) -> Vec<(Key, Document)> {
    fs::write(dir.path().join("of-a-kind"), OF_A_KIND).unwrap();
    let fence = Fence { dir: Some(dir.path().to_owned()), ..Fence::default() };
    let secrets = Secrets { fence, redactor: redactor.clone() };
    let parts = resource::ALL.iter().flat_map(|kind| kind.spec().parts.iter().map(|part| (kind.name(), part)));
    let resolved = parts.filter_map(|(kind, part)| {
        let document = declared(part.fields)?;
        let body = secret::resolve(part.fields.iter(), &document, &|reference| secrets.read(reference)).unwrap();
        Some((Key::new(kind, "a"), body))
    });
    let resolved: Vec<(Key, Document)> = resolved.collect();
    assert!(resolved.iter().all(|(_, body)| Value::from(body.clone()).to_string().contains(OF_A_KIND)));
    assert!(resolved.len() > 2, "{resolved:?}");
    resolved
}

/// What the worker holds of a resource while it is sent, and of what is answered.
fn held(key: &Key, body: &Document) -> Vec<Box<dyn std::fmt::Debug>> {
    let writes = [
        Write::Create(body.clone()),
        Write::Overwrite { from: "a".into(), body: body.clone() },
        Write::Patch(body.clone()),
    ];
    let answer = Answer { id: None, shown_once: Some(SHOWN_ONCE.into()) };
    let mut all: Vec<Box<dyn std::fmt::Debug>> = vec![Box::new(answer)];
    for write in writes {
        let live = Item { live: Some(body), ..Item::new(key, None, &write) };
        all.push(Box::new(format!("{live:?}")));
        all.push(Box::new(write));
    }
    all
}

/// Every public value that has to do with a secret.
fn values(dir: &TempDir, redactor: &Redactor) -> Vec<Box<dyn std::fmt::Debug>> {
    let config = config(dir, "https://api.example.com");
    let connections = config.connections(&env).unwrap();
    let settings = descope::Settings {
        project_id: connections[0].project_id.clone(),
        base_url: connections[0].base_url.clone(),
        request_timeout: config.request_timeout,
        retry: descope_gitops::backoff::Backoff {
            max_attempts: 1,
            initial: config.retry.initial_backoff,
            max: config.retry.max_backoff,
        },
        redactor: redactor.clone(),
    };
    let keys: Vec<SecretString> =
        connections.iter().map(|connection| connection.management_key.read().unwrap()).collect();
    let token = config.token(&env).unwrap();
    for secret in keys.iter().chain(&token) {
        redactor.add(secret);
    }
    let refused = self::config(dir, &format!("https://user:{IN_A_URL}@api.example.com"));
    let error = refused.connections(&env).unwrap_err();
    let own = config.own_credentials();
    let mut held: Vec<Box<dyn std::fmt::Debug>> =
        bodies(dir, redactor).iter().flat_map(|(key, body)| held(key, body)).collect();
    redactor.add(&SHOWN_ONCE.into());
    held.extend::<[Box<dyn std::fmt::Debug>; 10]>([
        Box::new(config),
        Box::new(refused),
        Box::new(error),
        Box::new(own),
        Box::new(connections),
        Box::new(settings),
        Box::new(keys),
        Box::new(token),
        Box::new(redactor.clone()),
        Box::new(Overrides::default()),
    ]);
    held
}

#[test]
fn debug_output_tells_no_secret() {
    let dir = TempDir::new().unwrap();

    for value in values(&dir, &Redactor::new()) {
        for text in [format!("{value:?}"), format!("{value:#?}")] {
            for secret in ALL {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
    }
}

/// Set in the process that panics.
const CHILD: &str = "DESCOPE_GITOPS_TEST_PANICS";

#[test]
fn a_panic_is_one_line_of_the_log_without_secrets() {
    for json in ["json", "pretty"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "in_a_process_of_its_own", "--nocapture"]).env(CHILD, json);
        let output = child.env("RUST_BACKTRACE", "full").output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();

        assert_eq!(text.matches("a part of the daemon panicked; this is a defect").count(), 5, "{json}: {text}");
        assert!(text.contains("the key is (secret)"), "{json}: {text}");
        assert!(text.contains("clientSecret"), "{json}: {text}");
        for secret in ALL {
            assert!(!text.contains(secret), "{json}: {secret}: {text}");
        }
    }
}

#[test]
fn in_a_process_of_its_own() {
    #[derive(Debug)]
    #[allow(dead_code, reason = "it is printed")]
    struct Careless {
        key: String,
        quoted: String,
        bodies: Vec<(Key, Document)>,
        shown: &'static str,
    }
    let Ok(format) = std::env::var(CHILD) else { return };
    let redactor = Redactor::new();
    let format = if format == "json" { Format::Json } else { Format::Pretty };
    logs::init(format, "trace", &redactor);
    let dir = TempDir::new().unwrap();
    let values = values(&dir, &redactor);
    let careless = Careless {
        key: BY_FILE.to_owned(),
        quoted: json!(TOKEN).to_string(),
        bodies: bodies(&dir, &redactor),
        shown: SHOWN_ONCE,
    };

    let message = catch_unwind(|| panic!("the key is {BY_VARIABLE}"));
    let debug = catch_unwind(AssertUnwindSafe(|| panic!("{values:?} {careless:#?}")));
    let refused: fn() -> Result<(), String> = || Err(format!("refused: {BY_FILE}"));
    let unwrapped = catch_unwind(|| refused().unwrap());
    let any = catch_unwind(|| std::panic::panic_any(BY_VARIABLE.to_owned()));
    let thread = std::thread::spawn(|| panic!("{TOKEN} in a thread")).join();

    logs::flush();
    assert!([message, debug, unwrapped, any, thread].iter().all(Result::is_err));
}
