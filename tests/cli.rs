//! The binary from outside: flags, environment, exit codes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;

const KEY: &str = "K2thisisaverysecretmanagementkey";

/// The binary, with nothing of our own environment.
fn descope_gitops() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_descope-gitops"));
    command.env_clear();
    command
}

fn config(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("settings.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

fn stderr(command: &mut Command, code: i32) -> String {
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap()
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "plan"]] {
        let done = descope_gitops().args(args).assert().code(0);

        assert!(!done.get_output().stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn the_version_says_what_it_was_built_from() {
    let said = |flag: &str| {
        String::from_utf8(descope_gitops().arg(flag).assert().code(0).get_output().stdout.clone()).unwrap()
    };
    let version = env!("CARGO_PKG_VERSION");

    assert_eq!(said("-V"), format!("descope-gitops {version}\n"));
    let long = said("--version");
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[0], format!("descope-gitops {version}"));
    for (line, word) in lines[1..].iter().zip(["commit ", "built ", "target "]) {
        assert!(line.strip_prefix(word).is_some_and(|rest| !rest.is_empty()), "{long}");
    }
    assert_eq!(lines.len(), 4, "{long}");
}

#[test]
fn the_help_of_what_people_begin_with_has_examples() {
    for command in ["plan", "apply", "export", "validate", "status", "audit"] {
        let done = descope_gitops().args([command, "--help"]).assert().code(0);
        let text = String::from_utf8(done.get_output().stdout.clone()).unwrap();

        assert!(text.contains(&format!("Examples:\n  descope-gitops {command} ")), "{text}");
    }
}

#[test]
fn the_help_of_a_command_begins_with_its_own_options() {
    let text = |args: &[&str]| {
        let done = descope_gitops().args(args).assert().code(0);
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    };
    let plan = text(&["plan", "-h"]);

    let (own, common) = plan.split_once("Options of every command:").unwrap();
    assert!(own.contains("--exit-code") && !own.contains("--config"), "{plan}");
    assert!(common.contains("--config") && common.contains("DESCOPE_GITOPS_CONFIG"), "{plan}");
    assert!(text(&["--help"]).contains("64 wrong flags or settings"));
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    for args in [
        &[][..],
        &["pln"],
        &["plan", "--exit-cod"],
        &["plan", "-o", "xml"],
        &["apply", "-o", "markdown"],
        &["healthcheck", "--timeout", "soon"],
        &["completions", "cmd.exe"],
    ] {
        let text = stderr(descope_gitops().args(args), 64);

        assert!(text.contains("Usage") || text.contains("--help"), "{args:?}: {text}");
    }
}

#[test]
fn wrong_settings_are_a_usage_error_that_names_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, "source:\n  interval: never\nlog: { format: xml }\n");

    for command in ["run", "plan", "apply", "validate"] {
        let text = stderr(descope_gitops().args([command, "-c"]).arg(&path), 64);

        assert!(text.contains("settings.yaml:2: source.interval must be a duration"), "{text}");
        assert!(text.contains("settings.yaml:3: log.format must be auto or json or pretty"), "{text}");
    }
}

#[test]
fn no_settings_at_all_is_a_usage_error() {
    let text = stderr(descope_gitops().arg("run"), 64);

    assert!(text.contains("give --config FILE"), "{text}");
}

#[test]
fn a_flag_comes_before_its_variable_and_an_empty_variable_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let good = config(&dir, "log: { format: xml }\n");
    let missing = dir.path().join("missing.yaml");

    let flag =
        stderr(descope_gitops().env("DESCOPE_GITOPS_CONFIG", &missing).args(["validate", "--config"]).arg(&good), 64);
    let variable = stderr(descope_gitops().env("DESCOPE_GITOPS_CONFIG", &missing).arg("validate"), 64);
    let empty = stderr(descope_gitops().env("DESCOPE_GITOPS_CONFIG", "").arg("validate"), 64);

    assert!(flag.contains("log.format"), "{flag}");
    assert!(variable.contains("missing.yaml: cannot read it"), "{variable}");
    assert!(empty.contains("no settings"), "{empty}");
}

#[test]
fn a_key_written_into_the_config_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, &format!("projects:\n  - {{ name: a, projectId: P2abc, managementKey: {KEY} }}\n"));

    let text = stderr(descope_gitops().args(["run", "-c"]).arg(path), 64);

    assert!(text.contains("projects[0].managementKey must be { env: NAME }"), "{text}");
    assert!(!text.contains(KEY), "{text}");
}

#[test]
fn a_demo_takes_no_settings_but_where_to_listen_and_how_fast_to_go() {
    for args in [
        &["--config", "x.yaml"][..],
        &["--source", "x"],
        &["--state", "x"],
        &["--listen", "nowhere"],
        &["--rate-limit", "none"],
        &["--rate-limit", "0/60s"],
    ] {
        let text = stderr(descope_gitops().arg("demo").args(args), 64);

        assert!(text.contains(args[0]), "{text}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let done = descope_gitops().args(["completions", shell]).assert().code(0);

        assert!(String::from_utf8_lossy(&done.get_output().stdout).contains("healthcheck"), "{shell}");
    }
}

/// Answers one request; gives the request line.
fn answer_once(listener: TcpListener, status: &'static str) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}").unwrap();
        String::from_utf8_lossy(&request[..read]).lines().next().unwrap().to_owned()
    })
}

#[test]
fn healthcheck_asks_where_the_daemon_listens() {
    for (status, args, code, asked) in [
        ("200 OK", &[][..], 0, "GET /livez HTTP/1.1"),
        ("503 Service Unavailable", &[], 1, "GET /livez HTTP/1.1"),
        ("200 OK", &["--ready"], 0, "GET /readyz HTTP/1.1"),
        ("2000 Odd", &[], 1, "GET /livez HTTP/1.1"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let daemon = answer_once(listener, status);

        descope_gitops()
            .env("DESCOPE_GITOPS_LISTEN", format!("0.0.0.0:{port}"))
            .arg("healthcheck")
            .args(args)
            .assert()
            .code(code);

        assert_eq!(daemon.join().unwrap(), asked);
    }
}

#[test]
fn healthcheck_takes_the_address_from_the_config_or_a_url() {
    let dir = tempfile::tempdir().unwrap();
    for by_url in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let daemon = answer_once(listener, "200 OK");
        let path = config(&dir, &format!("http: {{ listen: '{address}' }}\n"));
        let mut command = descope_gitops();
        command.arg("healthcheck");
        if by_url {
            command.args(["--url", &format!("http://{address}")]);
        } else {
            command.arg("-c").arg(path);
        }

        command.assert().code(0);

        assert_eq!(daemon.join().unwrap(), "GET /livez HTTP/1.1");
    }
}

#[test]
fn healthcheck_fails_where_nobody_listens_or_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();

    let text = stderr(descope_gitops().args(["healthcheck", "--timeout", "50ms", "--listen", &address]), 1);
    assert!(text.contains("no answer from"), "{text}");

    drop(silent);
    let text = stderr(descope_gitops().args(["healthcheck", "--listen", &address]), 1);
    assert!(text.contains("cannot ask"), "{text}");
}
