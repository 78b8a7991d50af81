//! Who reads the output is not who does the work: a reader that stalls or goes away stops nothing.

use crate::durability::limit;
use crate::durability::start_limited;
use crate::durability::sync;
use crate::harness::BINARY;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::write_some;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::BufRead;
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

/// The daemon, whose log nobody reads after it listens.
async fn stalled(world: &mut World, level: &str) -> std::sync::mpsc::Sender<()> {
    let (daemon, go_on) = Process::start_stalling(world.command(&["--log-level", level, "run"]), "\"listening\"");
    world.daemon = Some(daemon);
    world.daemon_url().await;
    go_on
}

async fn dropped(world: &World) -> f64 {
    world.metric("log_lines_dropped_total").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reader_that_stalls_stops_neither_work_nor_probes_nor_the_end() {
    for level in ["debug", "trace"] {
        let mut world = World::with(Setup { interval: "20ms", ..Setup::default() }).await;
        write_some(&world, 40, 40, 40);

        let _stalled = stalled(&mut world, level).await;

        // Far more than the pipe and all that waits: the work goes on although lines are lost.
        world.until("converged", async |world| world.is_converged().await).await;
        if level == "trace" {
            world.until("lines are dropped", async |world| dropped(world).await > 0.0).await;
        }
        world.write("permissions.yaml", "permissions: [{ name: later }]");
        world.until("later work", async |world| world.entity("permissions", "later").await.is_some()).await;
        for path in ["/livez", "/readyz", "/healthz"] {
            assert_eq!(world.open(path).await.0, 200, "{level}: {path}");
        }
        assert!(world.stop().await.success(), "{level}: the first SIGTERM");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once_although_the_log_reader_stalls() {
    let setup = Setup { top: vec!["requestTimeout: 10m".to_owned()], ..Setup::default() };
    let mut world = World::with(setup).await;
    world.write("permissions.yaml", "permissions: [{ name: p }]");
    world.faults(json!([{ "fault": "hang", "match": { "method": "POST", "path": "/v1/mgmt/permission/*" } }])).await;
    let _stalled = stalled(&mut world, "trace").await;
    world
        .until("a create under way", async |world| {
            let is_sent = world.metric("api_requests_in_flight").await == Some(1.0);
            is_sent && world.status().await["queue"]["inFlight"] == 1
        })
        .await;

    // The first one waits for the call under way. Two at once may count as one.
    let mut daemon = world.daemon.take().unwrap();
    while !daemon.has_ended() {
        daemon.signal(Signal::TERM);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    assert_eq!(daemon.ended().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_read_again_says_how_much_of_it_is_missing() {
    let mut world = World::with(Setup { interval: "20ms", ..Setup::default() }).await;
    write_some(&world, 20, 20, 20);
    let go_on = stalled(&mut world, "trace").await;
    world.until("lines are dropped", async |world| dropped(world).await > 0.0).await;

    drop(go_on);

    let said = "log lines were dropped: the reader of standard error was too slow";
    let line = world.daemon().wait_for_line("what is missing", |line| line.contains(said)).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["lines"].as_u64().unwrap() > 0, "{line}");
    assert!(world.stop().await.success());
}

/// What became of a command, whose streams may be something else than pipes to here.
async fn end_of(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A standard output that nobody reads.
fn closed() -> OwnedFd {
    let (_, writer) = rustix::pipe::pipe().unwrap();
    writer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_ends_no_command_with_an_error() {
    let mut world = World::new().await;
    write_some(&world, 3, 3, 3);
    world.converge().await;
    let url = world.daemon_url().await;
    write_some(&world, 4, 3, 3);
    world.until("the new permission", async |world| world.entity("permissions", "p3").await.is_some()).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.stop().await;
    // So that there is something to say.
    write_some(&world, 5, 3, 3);
    let cases: &[(&[&str], i32)] = &[
        (&["plan"], 0),
        (&["plan", "--exit-code"], 2),
        (&["plan", "-o", "json"], 0),
        (&["plan", "-o", "markdown"], 0),
        (&["validate"], 0),
        (&["validate", "-o", "json"], 0),
        (&["audit"], 0),
        (&["audit", "-o", "json"], 0),
        (&["apply", "--auto-approve"], 0),
        (&["apply", "--auto-approve", "-o", "json"], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
        (&["--version"], 0),
    ];
    for (args, code) in cases {
        let mut command = world.command(args);
        command.stdout(closed());

        let output = end_of(command).await;

        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {said}");
        assert!(!said.contains("ipe"), "{args:?}: {said}");
    }

    // Those that ask a daemon, and errors to a standard error that nobody reads.
    world.write("broken.yaml", "roles: 7");
    world.start().await;
    let here = world.daemon_url().await;
    for args in [
        &["status"][..],
        &["status", "-o", "json"],
        &["reconcile"],
        &["plan"],
        &["suspend", "--for", "1h"],
        &["resume"],
    ] {
        let mut command = world.command(args);
        command.args(["--url", &here]).stdout(closed());
        let output = end_of(command).await;
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    world.stop().await;
    for (args, code) in [(&["plan"][..], 3), (&["apply", "--auto-approve"], 3), (&["status", "--url", &url], 1)] {
        let mut command = world.command(args);
        command.stdout(closed()).stderr(closed());
        assert_eq!(end_of(command).await.status.code(), Some(code), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_otherwise_is_an_error() {
    let world = World::new().await;
    world.write("permissions.yaml", "permissions: [{ name: p }]");
    let mut command = world.command(&["plan"]);
    command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());

    let output = end_of(command).await;

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output: No space left on device"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_whose_outcome_nobody_reads_ends_with_the_first_signal() {
    let world = World::new().await;
    write_some(&world, 200, 0, 0);
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut command = world.command(&["apply", "--auto-approve", "-o", "json"]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    world.until("applied", async |world| world.entity("permissions", "p199").await.is_some()).await;
    // The outcome begins: the signal meets its writing.
    let mut outcome = BufReader::with_capacity(1, std::fs::File::from(reader));
    outcome.fill_buf().unwrap();

    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();

    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("stopped while nobody read the outcome"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_nobody_watches_any_more_ends_quietly() {
    let mut child = Command::new(BINARY).arg("demo").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    assert!(line.starts_with("descope-gitops demo"), "{line}");

    drop(shown);

    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_unless_a_terminal_reads_them() {
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.top.push("log: { level: info }".to_owned()));
    world.write("permissions.yaml", "permissions: [{ name: p }]");
    let piped = world.run(&["plan"]).await;
    let line = String::from_utf8(piped.stderr).unwrap();
    let line: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert!(line["message"].as_str().unwrap().starts_with("no state here"), "{line}");

    let on_a_terminal = |args: &str| {
        let config = world.path("config.yaml");
        let script = format!("{BINARY} --config {} {args}", config.display());
        let mut command = Command::new("script");
        for (name, value) in world.command(&[]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(["-qec", &script, "/dev/null"]).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    };
    let output = end_of(on_a_terminal("plan")).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let told = text.lines().find(|line| line.contains("no state here")).unwrap();
    assert!(told.trim_start().starts_with("WARN no state here"), "{text}");

    let output = end_of(on_a_terminal("plan --log-format json")).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let told = text.lines().find(|line| line.contains("no state here")).unwrap();
    assert!(serde_json::from_str::<Value>(told.trim()).is_ok(), "{text}");
}

/// A field of a line, its own or that of a span.
fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    let spans = line["spans"].as_array().into_iter().flatten();
    let found = std::iter::once(line).chain(spans).find(|fields| !fields[name].is_null());
    found.map_or(&Value::Null, |fields| &fields[name])
}

fn lines(world: &World) -> Vec<Value> {
    world.daemon().lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pass_leaves_one_line_and_every_line_about_it_names_it() {
    let top = vec!["log: { format: json, level: info }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    write_some(&world, 2, 2, 2);
    world.converge().await;
    world.edit_live("permissions/p0", json!({ "description": "by hand" })).await;
    world.pass().await;
    world.until_live("p0", "permission 0").await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.write("broken.yaml", "roles: [");
    let finished = |lines: &[Value]| {
        let finished = lines.iter().filter(|line| line["message"] == "pass finished");
        finished.map(|line| field(line, "pass").as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    world
        .until("broken, and the pass that saw it over", async |world| {
            let lines = lines(world);
            let seen = lines.iter().find(|line| line["file"] == "broken.yaml");
            seen.is_some_and(|line| finished(&lines).iter().any(|name| field(line, "pass") == name.as_str()))
        })
        .await;
    let passes = world.passes().await;

    let lines = lines(&world);

    let of = |message: &str| lines.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    let finished = of("pass finished");
    assert!(finished.len() as u64 >= passes && passes >= 2);
    let first = finished[0];
    assert_eq!((&first["result"], &first["creates"], &first["updates"]), (&json!("applied"), &json!(6), &json!(0)));
    let names: BTreeSet<&str> = finished.iter().map(|line| field(line, "pass").as_str().unwrap()).collect();
    assert_eq!(names.len(), finished.len(), "each has a name of its own");
    assert_eq!(of("changed").len(), 7);
    let origins = ["descope_gitops::reconcile", "descope_gitops::worker"];
    let is_of_a_pass =
        |line: &&Value| origins.iter().any(|origin| line["target"].as_str().unwrap().starts_with(origin));
    for line in lines.iter().filter(is_of_a_pass) {
        assert_eq!(field(line, "project"), "default", "{line}");
        assert!(names.contains(field(line, "pass").as_str().unwrap()), "{line}");
        assert!(!field(line, "revision").as_str().unwrap().is_empty(), "{line}");
    }
    let story: Vec<&Value> = lines.iter().filter(|line| line["id"] == "p0").collect();
    assert_eq!(story.iter().map(|line| field(line, "action")).collect::<Vec<_>>(), ["create", "update"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_stays_is_told_ever_more_seldom_and_is_news_when_it_comes_back() {
    let top = vec![
        "log: { format: json, level: info }".to_owned(),
        "retry: { maxAttempts: 1, initialBackoff: 10ms, maxBackoff: 20ms }".to_owned(),
    ];
    let mut world = World::with(Setup { interval: "50ms", top, ..Setup::default() }).await;
    write_some(&world, 2, 2, 2);
    world.converge().await;
    let told = |world: &World| {
        let cannot = "cannot be observed; nothing of this kind is changed meanwhile";
        lines(world)
            .into_iter()
            .filter(|line| line["message"] == cannot)
            .map(|line| line["times"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let fault = json!([{ "fault": "status", "status": 503, "match": { "path": "/v1/mgmt/role/all" } }]);

    world.faults(fault.clone()).await;
    world.until("sixteen times", async |world| told(world).contains(&16)).await;
    assert_eq!(told(&world), [1, 2, 4, 8, 16]);
    world.faults(json!([])).await;
    world.until("healed", async |world| world.is_converged().await).await;
    world.faults(fault).await;
    world.until("told anew", async |world| told(world).iter().filter(|times| **times == 1).count() == 2).await;

    // A change that fails: by the attempt, and each new reason.
    world.faults(json!([{ "fault": "status", "status": 503, "match": { "method": "POST", "path": "/v1/mgmt/permission/*" } }])).await;
    world.write("more.yaml", "permissions: [{ name: more }]");
    let attempts = |world: &World| {
        let failed = "change failed; it is tried again";
        lines(world)
            .into_iter()
            .filter(|line| line["message"] == failed)
            .map(|line| line["attempt"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    world.until("eight attempts", async |world| attempts(world).contains(&8)).await;
    assert_eq!(attempts(&world), [1, 2, 4, 8]);
}

/// Each pass said two errors anew, without a count.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_no_line_is_repeated_at_every_pass() {
    let top = vec![
        "log: { format: json, level: info }".to_owned(),
        "retry: { maxAttempts: 1, initialBackoff: 10ms, maxBackoff: 20ms }".to_owned(),
    ];
    let mut world = World::with(Setup { top, ..sync() }).await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: one }\n  - { name: b, description: one }\n");
    start_limited(&mut world);
    world.converge().await;
    let before = lines(&world).len();
    let is_failure = |line: &Value| line["level"] == "ERROR" || line["level"] == "WARN";
    // What each says, less how often it was said.
    let told = |world: &World| {
        let mut told: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for mut line in lines(world).into_iter().skip(before).filter(is_failure) {
            let fields = line.as_object_mut().unwrap();
            let times = ["times", "attempt"].into_iter().find_map(|name| fields.remove(name)).unwrap_or(json!(1));
            fields.retain(|name, _| !["timestamp", "spans", "span"].contains(&name.as_str()));
            told.entry(line.to_string()).or_default().push(times.as_u64().unwrap());
        }
        told
    };

    limit(&world, Some(4096));
    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n  - { name: b, description: one }\n");
    world.write("permissions.yaml", "permissions:\n  - name: new\n");
    world.until("updated", async |world| world.entity("roles", "a").await.unwrap()["description"] == "two").await;
    world.write("roles.yaml", "roles:\n  - { name: a, description: two }\n");
    let what = "cannot write down which";
    world
        .until("said four times", async |world| {
            told(world).iter().any(|(line, times)| line.contains(what) && times.contains(&4))
        })
        .await;

    let told = told(&world);
    assert!(told.keys().any(|line| line.contains("updates go on without it")), "{told:#?}");
    for (line, times) in &told {
        let powers: Vec<u64> = (0..times.len()).map(|power| 1 << power).collect();
        assert_eq!(*times, powers, "{line}");
    }
}

/// The recipes of the documentation stopped at the one line that says why nothing runs.
#[tokio::test(flavor = "multi_thread")]
async fn why_the_daemon_does_not_start_is_a_line_of_the_log_where_its_form_can_be_read() {
    let mut world = World::new().await;
    let said = async |world: &World, args: &[&str]| {
        let output = world.run(&[args, &["run"]].concat()).await;
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let of = |text: &str| -> Vec<(String, String)> {
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(line["level"], "ERROR");
            (line["message"].as_str().unwrap().to_owned(), line["reason"].as_str().unwrap().to_owned())
        };
        text.lines().filter(|line| !line.contains("\"INFO\"")).map(line).collect()
    };
    let settings = "cannot use these settings";

    // One for each setting.
    world.reconfigure(|setup| {
        setup.top = vec!["log: { format: json }".into(), "concurrency: 0".into(), "requestTimeout: x".into()];
    });
    let (code, text) = said(&world, &[]).await;
    let told = of(&text);
    assert_eq!((code, told.len()), (64, 2), "{text}");
    assert!(told.iter().all(|(message, reason)| message == settings && reason.contains("config.yaml:")), "{told:?}");
    // One that nobody knows, and one in the place of a map.
    for wrong in ["colour: red", "http: 8080"] {
        world.reconfigure(|setup| setup.top = vec!["log: { format: json }".into(), wrong.into()]);
        let (code, text) = said(&world, &[]).await;
        assert_eq!((code, of(&text)[0].0.as_str()), (64, settings), "{text}");
    }
    // After the settings.
    let log = "log: { format: json }".to_owned();
    world.reconfigure(|setup| setup.top = vec!["http: { listen: 192.0.2.1:80 }".into(), log]);
    let (code, text) = said(&world, &[]).await;
    assert_eq!((code, of(&text).last().unwrap().0.as_str()), (1, "the daemon ends with an error"), "{text}");
    // For people, and where nobody can tell.
    let (_, text) = said(&world, &["--log-format", "pretty"]).await;
    assert!(text.lines().any(|line| line.starts_with("descope-gitops: ")), "{text}");
    world.reconfigure(|setup| setup.top = vec!["log: { format: json".into()]);
    let (code, text) = said(&world, &[]).await;
    assert!(code == 64 && text.starts_with("descope-gitops: cannot use these settings\n"), "{text}");
    let (_, text) = said(&world, &["--log-format", "json"]).await;
    assert_eq!(of(&text)[0].0, settings, "{text}");
}

/// Each pass told it anew; and one more of many was never named.
#[tokio::test(flavor = "multi_thread")]
async fn drift_that_is_only_reported_is_told_ever_more_seldom_and_more_of_it_is_news() {
    let top = vec!["log: { format: json, level: info }".to_owned()];
    let project = ["firstContact: apply", "drift: { mode: report }"].map(str::to_owned).to_vec();
    let mut world = World::with(Setup { interval: "200ms", top, project, ..Setup::default() }).await;
    write_some(&world, 8, 0, 2);
    world.converge().await;
    let told = |world: &World| {
        let told = lines(world)
            .into_iter()
            .filter(|line| line["message"] == "drift: changed in Descope though the YAML did not");
        told.map(|line| {
            (line["resources"].clone(), line["which"].as_str().unwrap().to_owned(), line["times"].as_u64().unwrap())
        })
        .collect::<Vec<_>>()
    };
    let drift = async |world: &World, numbers: std::ops::Range<usize>| {
        for n in numbers.clone() {
            world.edit_live(&format!("permissions/p{n}"), json!({ "description": "by hand" })).await;
        }
        let all = json!(numbers.end);
        world
            .until("sixteen times", async |world| told(world).iter().any(|(of, _, times)| *of == all && *times == 16))
            .await;
        let of_all: Vec<_> = told(world).into_iter().filter(|(of, ..)| *of == all).collect();
        assert_eq!(of_all.iter().map(|(_, _, times)| *times).collect::<Vec<_>>(), [1, 2, 4, 8, 16], "{of_all:?}");
        of_all[0].1.clone()
    };

    drift(&world, 0..7).await;
    let which = drift(&world, 7..8).await;
    assert!(which.starts_with("permissions/p7, "), "{which}");
}
