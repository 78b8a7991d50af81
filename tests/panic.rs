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
use descope_gitops::telemetry::logs;
use descope_gitops::telemetry::logs::Format;
use descope_gitops::telemetry::redact::Redactor;
use secrecy::SecretString;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::process::Command;
use tempfile::TempDir;

const BY_VARIABLE: &str = "sentinel-management-key-by-variable";
const BY_FILE: &str = "sentinel-management-key-by-file";
const TOKEN: &str = "sentinel-http-token";
const IN_A_URL: &str = "sentinel-in-a-url";

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
    vec![
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
    ]
}

#[test]
fn debug_output_tells_no_secret() {
    let dir = TempDir::new().unwrap();

    for value in values(&dir, &Redactor::new()) {
        for text in [format!("{value:?}"), format!("{value:#?}")] {
            for secret in [BY_VARIABLE, BY_FILE, TOKEN, IN_A_URL] {
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
        for secret in [BY_VARIABLE, BY_FILE, TOKEN, IN_A_URL] {
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
    }
    let Ok(format) = std::env::var(CHILD) else { return };
    let redactor = Redactor::new();
    let format = if format == "json" { Format::Json } else { Format::Pretty };
    logs::init(format, "trace", &redactor);
    let dir = TempDir::new().unwrap();
    let values = values(&dir, &redactor);
    let careless = Careless { key: BY_FILE.to_owned(), quoted: serde_json::json!(TOKEN).to_string() };

    let message = catch_unwind(|| panic!("the key is {BY_VARIABLE}"));
    let debug = catch_unwind(AssertUnwindSafe(|| panic!("{values:?} {careless:#?}")));
    let refused: fn() -> Result<(), String> = || Err(format!("refused: {BY_FILE}"));
    let unwrapped = catch_unwind(|| refused().unwrap());
    let any = catch_unwind(|| std::panic::panic_any(BY_VARIABLE.to_owned()));
    let thread = std::thread::spawn(|| panic!("{TOKEN} in a thread")).join();

    logs::flush();
    assert!([message, debug, unwrapped, any, thread].iter().all(Result::is_err));
}
