//! Flags, environment, exit codes, signals and logs of the real binary.

use crate::harness::BINARY;
use crate::harness::KEY;
use crate::harness::PROJECT;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::read;
use crate::harness::write_some;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::process::Command;
use std::process::Output;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs it to its end, and gives the exit code and both streams.
async fn ended(command: Command) -> (i32, String, String) {
    let output: Output = tokio::process::Command::from(command).output().await.unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Without the config and the credentials that [`World::command`] gives.
fn bare_command(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).current_dir(world.dir.path()).env_clear();
    command
}

#[tokio::test]
async fn without_a_config_the_official_variables_name_the_project() {
    let world = World::new().await;
    write_some(&world, 2, 0, 0);
    let with = |base: &[(&str, &str)]| {
        let mut command = bare_command(&world, &["plan", "-o", "json"]);
        command.arg("--source").arg(world.path("repo"));
        command.env("DESCOPE_PROJECT_ID", PROJECT).env("DESCOPE_MANAGEMENT_KEY", KEY).envs(base.iter().copied());
        command
    };

    for base in [&["DESCOPE_BASE_URL"][..], &["DESCOPE_BASE_URI"], &["DESCOPE_BASE_URL", "DESCOPE_BASE_URI"]] {
        let base: Vec<(&str, &str)> = base.iter().map(|name| (*name, world.api.as_str())).collect();
        let (code, out, err) = ended(with(&base)).await;
        assert_eq!(code, 0, "{err}");
        let plan: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(plan["projects"][0]["name"], "default");
        assert_eq!(plan["projects"][0]["changes"].as_array().unwrap().len(), 2, "{plan}");
    }
    let log = world.log().await;
    assert!(log.iter().any(|entry| entry["project"] == PROJECT), "{log:?}");

    let (code, _, err) =
        ended(with(&[("DESCOPE_BASE_URL", &world.api), ("DESCOPE_BASE_URI", "https://api.descope.com")])).await;
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("DESCOPE_BASE_URL and DESCOPE_BASE_URI"), "{err}");
    let (code, _, err) = ended(with(&[("DESCOPE_BASE_URL", "http://descope.example")])).await;
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("https"), "{err}");
    let (code, _, err) = {
        let mut command = with(&[("DESCOPE_BASE_URL", &world.api)]);
        command.env("DESCOPE_MANAGEMENT_KEY", "");
        ended(command).await
    };
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("DESCOPE_MANAGEMENT_KEY is not set"), "{err}");
}

#[tokio::test]
async fn with_projects_an_official_variable_that_nothing_names_stops_every_command_that_connects() {
    let mut world = World::new().await;
    write_some(&world, 1, 0, 0);
    for args in [&["run"][..], &["plan"], &["apply", "--auto-approve"]] {
        for name in ["DESCOPE_PROJECT_ID", "DESCOPE_BASE_URL", "DESCOPE_BASE_URI"] {
            let mut command = world.command(args);
            command.env(name, "https://elsewhere.example");

            let (code, _, err) = ended(command).await;

            assert_eq!(code, 64, "{args:?} {name}: {err}");
            assert!(err.contains(&format!("{name} is set, but no project names it")), "{err}");
        }
    }
    assert_eq!(world.log().await, Vec::<Value>::new());

    // Named, it counts.
    let projects = "projects:\n  - name: one\n    projectId: { env: DESCOPE_PROJECT_ID }\n    managementKey: \
                    { env: DESCOPE_MANAGEMENT_KEY }\n    baseUrl: { env: DESCOPE_BASE_URL }";
    world.reconfigure(|setup| setup.top = vec![projects.to_owned()]);
    let mut command = world.command(&["plan"]);
    command.env("DESCOPE_PROJECT_ID", PROJECT).env("DESCOPE_MANAGEMENT_KEY", KEY).env("DESCOPE_BASE_URL", &world.api);
    let (code, out, err) = ended(command).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("p0"), "{out}");
}

#[tokio::test]
async fn settings_that_could_do_harm_are_usage_errors_with_file_and_line() {
    let world = World::new().await;
    write_some(&world, 1, 0, 0);
    let good = read(&world.path("config.yaml"));
    let line_of = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    let cases = [
        ("concurrency_: 3\n".to_owned() + &good, "concurrency_", "concurrency_"),
        (good.replace("baseUrl: http://127.0.0.1", "baseUrl: http://descope.example"), "baseUrl", "must be https"),
        (good.replace("baseUrl: http://", "baseUrl: http://me:pass@"), "baseUrl", "must not hold a user or password"),
        (good.replace("{ env: BLACKBOX_KEY }", KEY), "managementKey", "must be { env: NAME }"),
        (good.replace("{ env: BLACKBOX_TOKEN }", TOKEN), "http:", "must be { env: NAME }"),
        (good.replace("firstContact: apply", "policy: delete-everything"), "policy", "policy must be"),
    ];
    for (text, place, message) in cases {
        fs::write(world.path("config.yaml"), &text).unwrap();

        let (code, out, err) = ended(world.command(&["run"])).await;

        assert_eq!(code, 64, "{message}: {err}");
        assert!(err.contains(&format!("config.yaml:{}: ", line_of(&text, place))), "{message}: {err}");
        assert!(err.contains(message), "{message}: {err}");
        for secret in [KEY, TOKEN, "pass@"] {
            assert!(!err.contains(secret) && !out.contains(secret), "{err}");
        }
    }
    // Whoever commits to the repo must not choose where the key goes.
    fs::write(world.path("repo/config.yaml"), &good).unwrap();
    let mut moved = bare_command(&world, &["run"]);
    moved.arg("--config").arg(world.path("repo/config.yaml")).env("BLACKBOX_KEY", KEY);
    let (code, _, err) = ended(moved).await;
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("must not lie below source.path"), "{err}");
    assert_eq!(world.log().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_flag_comes_before_its_variable_and_that_before_the_file() {
    let world = World::new().await;
    write_some(&world, 1, 0, 0);
    for (dir, items) in [("two", "{ name: a }, { name: b }"), ("three", "{ name: a }, { name: b }, { name: c }")] {
        fs::create_dir(world.path(dir)).unwrap();
        fs::write(world.path(dir).join("p.yaml"), format!("permissions: [{items}]\n")).unwrap();
    }
    let found = async |flag: bool, variable: bool| {
        let mut command = world.command(&["validate"]);
        if flag {
            command.arg("--source").arg(world.path("three"));
        }
        if variable {
            command.env("DESCOPE_GITOPS_SOURCE", world.path("two"));
        }
        ended(command).await.1
    };
    assert_eq!(found(false, false).await, "valid: 1 resource\n");
    assert_eq!(found(false, true).await, "valid: 2 resources\n");
    assert_eq!(found(true, true).await, "valid: 3 resources\n");

    // `plan` warns where there is no state; the file's level lets debug through.
    let warns = async |flag: Option<&str>, variable: Option<&str>| {
        let mut command = world.command(&["plan"]);
        command.args(flag.map(|level| format!("--log-level={level}")));
        command.envs(variable.map(|level| ("RUST_LOG", level)));
        ended(command).await.2.contains("no state here")
    };
    assert!(warns(None, None).await);
    assert!(!warns(None, Some("error")).await);
    assert!(warns(None, Some("")).await, "an empty variable is none");
    assert!(warns(Some("warn"), Some("error")).await);
    assert!(!warns(Some("error"), Some("warn")).await);
    assert!(!warns(Some("warn,descope_gitops=error"), None).await, "directives");

    let daemon = |state: Option<&str>, variable: Option<&str>| {
        let mut command = world.command(&["run"]);
        command.args(state.map(|dir| format!("--state={}", world.path(dir).display())));
        command.envs(variable.map(|dir| ("DESCOPE_GITOPS_STATE", world.path(dir))));
        Process::start(command)
    };
    let by_variable = daemon(None, Some("state-of-variable"));
    let by_flag = daemon(Some("state-of-flag"), Some("state-of-variable"));
    for daemon in [&by_variable, &by_flag] {
        daemon.wait_for_line("a pass", |line| line.contains("pass finished")).await;
    }
    assert!(world.path("state-of-variable/state.db").exists() && world.path("state-of-flag/state.db").exists());
    assert!(!world.path("state").exists());
}

#[tokio::test]
async fn a_hangup_is_a_full_pass_that_gives_parked_changes_a_fresh_try() {
    let mut world = World::new().await;
    write_some(&world, 0, 0, 2);
    world.faults(json!([{ "match": { "item": "t1" }, "fault": "status", "status": 400 }])).await;
    world.start().await;
    world.until("parked", async |world| world.project().await["problems"][0]["state"] == "parked").await;
    world.faults(json!([])).await;
    world.edit_live("tenants/t0", json!({ "name": "Somebody was here" })).await;

    world.daemon().signal(Signal::HUP);

    world.converge().await;
    assert_eq!(world.entity("tenants", "t0").await.unwrap()["name"], "Tenant 0");
    assert!(world.entity("tenants", "t1").await.is_some());
    let passes = world.metric("source_events_total{trigger=\"signal\"}").await;
    assert_eq!(passes, Some(1.0));
    let status = world.stop().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn every_line_of_the_log_is_json_and_no_secret_is_in_it_at_trace_level() {
    let top = vec!["log: { format: json, level: trace }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    write_some(&world, 2, 1, 3);
    world.write("bad.yaml", "tenants: [{ id: bad, name: Bad }]\n");
    let echo = json!({ "errorCode": "E1", "errorDescription": format!("no such key {KEY}"), "message": KEY });
    world
        .faults(json!([
            { "match": { "item": "t1", "times": 1 }, "fault": "echo_request" },
            { "match": { "item": "bad" }, "fault": "status", "status": 400, "body": echo },
            { "match": { "path": "/v1/mgmt/role/all", "times": 1 }, "fault": "reset_before" },
        ]))
        .await;
    world.start().await;
    world.until("parked", async |world| world.project().await["problems"][0]["state"] == "parked").await;
    world.pass().await;
    world.until("parked", async |world| world.project().await["problems"][0]["state"] == "parked").await;
    let pid = world.daemon().id();
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let served = [
        world.open("/api/v1/status").await.1,
        world.open("/api/v1/plan").await.1,
        world.open("/metrics").await.1,
        world.open("/healthz").await.1,
    ];

    let (status, lines) = world.stop_and_read().await;

    assert_eq!(status.code(), Some(0));
    for line in &lines {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(json["timestamp"].is_string() && json["level"].is_string() && json["target"].is_string(), "{line}");
    }
    assert!(lines.iter().any(|line| line.contains("\"level\":\"TRACE\"")), "nothing at trace level");
    assert!(lines.iter().any(|line| line.contains("no such key (secret)")), "the API's message was not logged");
    assert!(served[0].contains("no such key (secret)"), "{}", served[0]);
    for secret in [KEY, TOKEN] {
        let found = lines.iter().chain(&served).find(|line| line.contains(secret));
        assert_eq!(found, None);
        assert!(!String::from_utf8_lossy(&arguments).contains(secret));
    }
    assert!(!files_below(&world).iter().any(|content| content.contains(KEY) || content.contains(TOKEN)));
}

/// What the state directory holds.
fn files_below(world: &World) -> Vec<String> {
    let entries: Vec<_> = fs::read_dir(world.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!entries.is_empty());
    entries.iter().map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()).collect()
}

#[tokio::test]
async fn pretty_logs_are_for_people() {
    let world = World::new().await;
    write_some(&world, 1, 0, 0);

    let daemon = Process::start(world.command(&["run", "--log-format", "pretty"]));

    daemon.wait_for_line("a finished pass", |line| line.contains("pass finished")).await;
    let lines = daemon.lines();
    assert!(lines.iter().all(|line| !line.starts_with('{') && !line.contains('\u{1b}')), "{lines:#?}");
}

#[tokio::test]
async fn healthcheck_tells_alive_from_ready_and_from_gone() {
    let top = vec!["requestTimeout: 200ms".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    write_some(&world, 1, 0, 0);
    world.faults(json!([{ "match": { "method": "GET" }, "fault": "hang" }])).await;
    world.start().await;
    let url = world.daemon_url().await;
    let listen = url.strip_prefix("http://").unwrap();
    let check = async |args: &[&str]| {
        let mut command = bare_command(&world, &["healthcheck"]);
        command.args(args);
        ended(command).await.0
    };

    assert_eq!(check(&["--listen", listen]).await, 0);
    assert_eq!(check(&["--url", &url]).await, 0);
    assert_eq!(check(&["--listen", listen, "--ready"]).await, 1);

    world.faults(json!([])).await;
    world.until("ready", async |world| world.open("/readyz").await.0 == 200).await;
    assert_eq!(check(&["--listen", listen, "--ready"]).await, 0);

    world.daemon().signal(Signal::TERM);
    assert_eq!(check(&["--listen", "127.0.0.1:1"]).await, 1);
    assert_eq!(check(&["--listen", "nonsense"]).await, 1);
    assert_eq!(check(&["--url", "https://127.0.0.1:1"]).await, 1);
}

#[tokio::test]
async fn a_taken_port_ends_the_daemon_with_an_error_that_names_it() {
    let mut world = World::new().await;
    write_some(&world, 1, 0, 0);
    world.converge().await;
    let taken = world.daemon_url().await.replace("http://", "");

    let mut command = world.command(&["run", "--listen", &taken]);
    command.arg("--state").arg(world.path("other-state"));
    let (code, _, err) = ended(command).await;

    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&format!("cannot listen on {taken}")), "{err}");
    assert_eq!(world.ask(Method::GET, "/livez").await.0, 200, "the first one goes on");
}

/// It wrote to a project that an operator had suspended, only because no daemon ran.
#[tokio::test]
async fn apply_sends_nothing_to_a_suspended_project_and_says_what_to_do() {
    let mut world = World::new().await;
    world.write("roles.yaml", "roles:\n  - name: a\n");
    world.converge().await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=2h").await.0, 200);
    world.until("suspended", async |world| world.project().await["suspendedUntil"].is_string()).await;
    let until = world.project().await["suspendedUntil"].as_str().map(str::to_owned);
    world.stop().await;
    world.write("roles.yaml", "roles:\n  - name: a\n  - name: b\n");

    let outcome = world.run_json(&["apply", "--auto-approve", "-o", "json"], 4).await;
    let text = world.run(&["apply", "--auto-approve"]).await;

    let project = &outcome["projects"][0];
    assert_eq!((&project["changes"][0]["held"], &project["totals"]["held"]), (&json!("suspended"), &json!(1)));
    let said = project["warnings"][0].as_str().unwrap();
    assert!(said.contains(&format!("suspended until {}", until.unwrap())) && said.contains("resume"), "{said}");
    assert_eq!(text.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&text.stdout).contains(said), "{text:?}");
    assert_eq!(world.writes().await.len(), 1, "none but the first create");

    world.start().await;
    assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);
    world.until("created", async |world| world.entity("roles", "b").await.is_some()).await;
    world.stop().await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: new }\n  - name: b\n");
    assert_eq!(world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await["totals"]["ok"], 1);
}

/// An `M` was taken for months: five of them for `suspend --for 5M`.
#[tokio::test]
async fn months_and_years_are_refused_wherever_a_duration_is_given() {
    let mut world = World::new().await;
    write_some(&world, 1, 0, 0);
    world.converge().await;
    for (text, what) in [("5M", "months"), ("1M", "months"), ("1y", "years"), ("2months", "months")] {
        let remedy = "write `m` for minutes, or days, such as 30d";
        let (code, body) = world.ask(Method::POST, &format!("/api/v1/suspend?for={text}")).await;
        assert_eq!(code, 400, "{text}: {body}");
        assert!(body.contains(&format!("for must not count in {what}")) && body.contains(remedy), "{body}");
        let flags: [&[&str]; 6] = [
            &["suspend", "--for", text],
            &["audit", "--since", text],
            &["healthcheck", "--timeout", text],
            &["simulator", "--lockout", text],
            &["simulator", "--rate-limit", &format!("100/{text}")],
            &["simulator", "--latency", text],
        ];
        for flags in flags {
            let output = world.run(flags).await;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{flags:?}: {said}");
            assert!(said.contains(what) && said.contains(remedy), "{flags:?}: {said}");
        }
    }
    assert!(world.project().await["suspendedUntil"].is_null());
    let (code, body) = world.ask(Method::GET, "/api/v1/history?since=5M").await;
    assert_eq!(code, 400, "{body}");
}

/// With a pool for each thread, memory grew with each commit to a large repo.
#[tokio::test]
async fn all_threads_of_the_daemon_share_one_pool_of_memory() {
    let mut world = World::new().await;
    world.start().await;
    let pid = world.daemon().id();

    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();

    for setting in ["MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=131072"] {
        assert!(environment.split(|byte| *byte == 0).any(|variable| variable == setting.as_bytes()), "{setting}");
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name.trim_end(), "descope-gitops", "as whoever looks for it knows it");
}
