//! A sentinel in every place where a secret can stand, and a look at every byte that leaves the process.

use crate::harness::PROJECT;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::process::Command;
use std::process::Output;

/// Each stands in one place.
const OLD_KEY: &str = "sentinel-old-management-key";
const NEW_KEY: &str = "sentinel-new-management-key";
const TOKEN: &str = "sentinel-http-token";
const WRONG_TOKEN: &str = "sentinel-token-that-a-caller-got-wrong";
const IN_A_QUERY: &str = "sentinel-in-the-query-of-a-request";
const REPO_VARIABLE: &str = "sentinel-variable-the-repo-may-name";
const REPO_FILE: &str = "sentinel-file-the-repo-may-name";
const AMBIENT: &str = "sentinel-variable-nobody-names";
const PROXY: &str = "sentinel-password-of-a-proxy";
const MISPLACED: &str = "sentinel-in-the-wrong-place";

const ALL: [&str; 10] =
    [OLD_KEY, NEW_KEY, TOKEN, WRONG_TOKEN, IN_A_QUERY, REPO_VARIABLE, REPO_FILE, AMBIENT, PROXY, MISPLACED];

fn assert_none_in(text: &str, place: &str) {
    for secret in ALL {
        let at = text.find(secret);
        let before = at.map(|at| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(300)..at]).into_owned());
        assert_eq!(before, None, "{place}: {secret} leaks");
    }
}

fn text_of(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// With every secret that comes by the environment.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(args);
    command.env("REPO_SECRET", REPO_VARIABLE).env("AMBIENT_SECRET", AMBIENT).env("CALLER_TOKEN", TOKEN);
    let proxy = format!("http://user:{PROXY}@127.0.0.1:9");
    command.env("HTTPS_PROXY", &proxy).env("ALL_PROXY", proxy).env("NO_PROXY", "127.0.0.1");
    command
}

async fn world(key: &str) -> World {
    let mut world = World::with(Setup { interval: "300ms", ..Setup::default() }).await;
    let secrets = world.path("secrets");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("of-the-repo"), REPO_FILE).unwrap();
    fs::write(world.path("key"), OLD_KEY.to_owned() + "\n").unwrap();
    fs::write(world.path("token"), TOKEN.to_owned() + "\n").unwrap();
    let (api, dir, token) = (world.api.clone(), secrets.display().to_string(), world.path("token"));
    world.reconfigure(|setup| {
        setup.top = vec![
            format!("http: {{ listen: 127.0.0.1:0, token: {{ file: {} }} }}", token.display()),
            format!(
                "projects:\n  - name: default\n    projectId: {PROJECT}\n    managementKey: {key}\n    baseUrl: {api}\n    \
                 policy: sync\n    guards: {{ maxDeletes: 0, deleteAfter: 0s }}\n    \
                 secrets: {{ env: ['REPO_*'], dir: {dir} }}"
            ),
        ];
    });
    world
}

async fn everything_served(world: &World) -> String {
    let mut text = String::new();
    for path in ["/metrics", "/healthz", "/readyz", "/livez", "/api/v1/status", "/api/v1/plan", "/"] {
        text += &world.ask_as(Some(TOKEN), Method::GET, path, String::new()).await.1;
    }
    text
}

/// Says it is, for a project whose token is not the usual one.
async fn status(world: &World) -> serde_json::Value {
    serde_json::from_str(&world.ask_as(Some(TOKEN), Method::GET, "/api/v1/status", String::new()).await.1).unwrap()
}

/// What the daemon and the commands say of files that quote secrets.
async fn said_of_broken_files(world: &World) -> String {
    let mut everything = String::new();
    for broken in broken_files(NEW_KEY).into_iter().chain(broken_files(TOKEN)).chain(broken_files(MISPLACED)) {
        let before = status(world).await["projects"][0]["desired"]["errors"].clone();
        world.write("more.yaml", &broken);
        world
            .until(&format!("refused: {broken}"), async |world| {
                let errors = status(world).await["projects"][0]["desired"]["errors"].clone();
                errors != json!([]) && errors != before
            })
            .await;
        everything += &everything_served(world).await;
        for args in [&["validate"][..], &["validate", "-o", "json"], &["validate", "-o", "github"], &["plan"]] {
            let output = World::end_of(command(world, args)).await;
            assert_eq!(output.status.code(), Some(3), "{args:?}: {broken}");
            everything += &text_of(&output);
        }
        world.remove("more.yaml");
        world.until("mended", async |world| status(world).await["projects"][0]["desired"]["valid"] == true).await;
    }
    everything
}

/// What callers get, right and wrong ones.
async fn said_to_callers(world: &World) -> String {
    let mut everything = String::new();
    let url = world.daemon_url().await;
    let path = format!("/api/v1/status?token={IN_A_QUERY}");
    for token in [None, Some(WRONG_TOKEN), Some(TOKEN)] {
        for (method, path) in
            [(Method::GET, path.as_str()), (Method::POST, "/api/v1/resume"), (Method::GET, "/api/v1/plan")]
        {
            everything += &world.ask_as(token, method, path, format!("{{\"token\": {IN_A_QUERY:?}}}")).await.1;
        }
    }
    for args in [
        &["status"][..],
        &["status", "-o", "json"],
        &["plan"],
        &["reconcile"],
        &["suspend", "--for", "1s"],
        &["resume"],
        &["approve", "0123456789abcdef"],
        &["healthcheck"],
    ] {
        let args = [args, &["--url", &url, "--log-level", "trace"]].concat();
        everything += &text_of(&World::end_of(command(world, &args)).await);
        let mut wrong = command(world, &args);
        wrong.env("DESCOPE_GITOPS_TOKEN", WRONG_TOKEN).env_remove("DESCOPE_GITOPS_CONFIG");
        everything += &text_of(&World::end_of(wrong).await);
    }
    everything
}

/// It was created never, and the message went on that the secret is not there.
#[tokio::test]
async fn what_waits_for_its_secret_is_created_once_that_is_there() {
    let mut world = world("{ file: key }").await;
    world.write(
        "all.yaml",
        "outboundApps:\n  - { id: o, name: O, clientSecret: { file: late } }\ntenants:\n  - { id: t, name: T, sso: [{ ssoId: s, oidc: { \
         clientId: c, userDataUrl: u, userAttrMapping: {}, clientSecret: { file: late } } }] }\n",
    );
    world.daemon = Some(Process::start(command(&world, &["run"])));
    world.daemon_url().await;
    let problems =
        async |world: &World| status(world).await["projects"][0]["problems"].as_array().cloned().unwrap_or_default();
    world.until("one problem each", async |world| problems(world).await.len() == 2).await;
    world.until("the rest goes on", async |world| world.entity("tenants", "t").await.is_some()).await;
    assert_eq!(problems(&world).await.len(), 2);
    assert!(world.entity("outboundApps", "o").await.is_none());

    fs::write(world.path("secrets/.late"), REPO_FILE).unwrap();
    fs::rename(world.path("secrets/.late"), world.path("secrets/late")).unwrap();

    world.until("created", async |world| world.entity("outboundApps", "o").await.is_some()).await;
    world.until("converged", async |world| status(world).await["projects"][0]["converged"] == true).await;
}

#[tokio::test]
async fn no_secret_leaves_the_daemon_wherever_it_stood_and_whatever_goes_wrong() {
    let mut world = world("{ file: key }").await;
    world.write(
        "all.yaml",
        "roles:\n  - { name: a, description: one }\n  - name: b\ntenants:\n  - { id: t, name: T }\n",
    );
    // The API quotes what it was sent, in every form.
    let said = |key: &str| json!({ "errorCode": "E1", "errorMessage": format!("bad key {key}"), "errorDescription": format!("Bearer {PROJECT}:{key}, token {TOKEN}") });
    world
        .faults(json!([
            { "match": { "path": "/v1/mgmt/tenant/create", "times": 1 }, "fault": "echo_request" },
            { "match": { "path": "/v1/mgmt/role/create*", "times": 1 }, "fault": "status", "status": 400, "body": said(OLD_KEY) },
            { "match": { "path": "/v1/mgmt/role/create*", "times": 1 }, "fault": "status", "status": 503, "body": said(OLD_KEY) },
            { "match": { "path": "/v1/mgmt/role/update*", "times": 1 }, "fault": "status", "status": 400, "body": said(NEW_KEY) },
            { "match": { "path": "/v1/mgmt/tenant/patch*", "times": 1 }, "fault": "malformed_json" },
            { "match": { "path": "/v1/mgmt/tenant/patch*", "times": 1 }, "fault": "redirect" },
        ]))
        .await;
    world.daemon = Some(Process::start(command(&world, &["run", "--log-level", "trace"])));
    world.daemon_url().await;
    world
        .until("created", async |world| {
            world.daemon().signal(Signal::HUP);
            world.entity("roles", "a").await.is_some() && world.entity("tenants", "t").await.is_some()
        })
        .await;
    let mut everything = everything_served(&world).await;

    // The key is refused, rotated, and the new one quoted; the files quote secrets that are loaded.
    world
        .faults(json!([{ "match": { "path": "/v1/mgmt/role/all", "times": 4 }, "fault": "status", "status": 401, "body": said(OLD_KEY) },
                       { "match": { "path": "/v1/mgmt/role/update*", "times": 1 }, "fault": "status", "status": 400, "body": said(NEW_KEY) }]))
        .await;
    world.until("refused", async |world| world.daemon().said("Descope refused the management key")).await;
    everything += &everything_served(&world).await;
    fs::write(world.path("key"), NEW_KEY).unwrap();
    world.write(
        "all.yaml",
        "roles:\n  - { name: a, description: two }\n  - name: b\ntenants:\n  - { id: t, name: T2 }\n",
    );
    world
        .until("updated", async |world| {
            world.daemon().signal(Signal::HUP);
            world.entity("roles", "a").await.is_some_and(|role| role["description"] == "two")
        })
        .await;
    world.write("all.yaml", "roles:\n  - { name: a, description: two }\ntenants:\n  - { id: t, name: T2 }\n");
    world.until("held", async |world| status(world).await["projects"][0]["held"]["reason"] == "max_deletes").await;
    everything += &everything_served(&world).await;

    everything += &said_of_broken_files(&world).await;
    everything += &said_to_callers(&world).await;
    for args in [
        &["plan"][..],
        &["plan", "-o", "json"],
        &["plan", "-o", "markdown"],
        &["audit"],
        &["audit", "-o", "json"],
        &["validate"],
        &["schema", "config"],
        &["apply", "--auto-approve"],
    ] {
        let args = [args, &["--log-level", "trace"]].concat();
        everything += &text_of(&World::end_of(command(&world, &args)).await);
    }
    everything += &world.daemon().lines().join("\n");
    for file in fs::read_dir(world.path("state")).unwrap() {
        everything += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }
    let (_, lines) = world.stop_and_read().await;
    everything += &lines.join("\n");
    for args in [&["apply", "--auto-approve"][..], &["apply", "--auto-approve", "-o", "json"]] {
        let args = [args, &["--log-level", "trace"]].concat();
        everything += &text_of(&World::end_of(command(&world, &args)).await);
    }
    for file in fs::read_dir(world.path("state")).unwrap() {
        everything += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }

    for quoted in ["bad key (secret)", "Descope refused the management key", "takes no secret"] {
        assert!(everything.contains(quoted), "there was nothing to leak from: {quoted}");
    }
    assert!(world.daemon.is_none() && lines.iter().any(|line| line.contains("\"TRACE\"")), "nothing was traced");
    assert_none_in(&everything, "the daemon and its commands");
    for line in lines.iter().filter(|line| line.starts_with('{')) {
        assert_eq!(line.matches("\"message\":").count(), 1, "no tool reads a key that is there twice: {line}");
    }
}

/// Files that cannot be used, each with a secret in the way, and references to secrets where none is taken.
fn broken_files(secret: &str) -> Vec<String> {
    let role = |line: &str| format!("roles:\n  - name: x\n    {line}\n");
    vec![
        role(&format!("secret: {secret}")),
        role(&format!("description: [{secret}]")),
        role(&format!("permissionNames: {secret}")),
        role(&format!("protected: {secret}")),
        role(&format!("description: \"{secret}")),
        role(&format!("description: {secret}: {secret}")),
        role(&format!("description: {{ {secret} }}")),
        role(&format!("description: *{secret}")),
        role(&format!("description: one\n    description: {secret}")),
        role("description: { env: REPO_SECRET }"),
        role("description: { file: of-the-repo }"),
        format!("roles: {secret}\n"),
        format!("- {secret}\n"),
        format!("{secret}\n"),
        format!("roles:\n\t- name: {secret}\n"),
    ]
}

#[tokio::test]
async fn settings_that_cannot_be_used_do_not_repeat_a_secret() {
    let world = World::new().await;
    let host = world.api.trim_start_matches("http://").to_owned();
    let project = |line: &str| format!("projects:\n  - name: default\n    projectId: P1\n    {line}\n");
    let with_key = |line: &str| project(&format!("managementKey: {{ env: BLACKBOX_KEY }}\n    {line}"));
    let cases = [
        project(&format!("managementKey: {MISPLACED}")),
        project(&format!("managementKey: [{MISPLACED}]")),
        project(&format!("managementKey: {{ value: {MISPLACED} }}")),
        project(&format!("managementKey: {{ env: BLACKBOX_KEY, file: {MISPLACED} }}")),
        project(&format!("managementKey: !secret {MISPLACED}")),
        project(&format!("managementKey: \"{MISPLACED}")),
        project(&format!("managementKey: {MISPLACED}: x")),
        project(&format!("managementkey: {MISPLACED}")),
        with_key(&format!("managementKey: {MISPLACED}")),
        with_key(&format!("baseUrl: https://user:{MISPLACED}@api.example.com")),
        with_key(&format!("baseUrl: https://{MISPLACED}@api.example.com")),
        with_key(&format!("baseUrl: https://api.example.com/?key={MISPLACED}")),
        with_key(&format!("baseUrl: https://api.example.com/#{MISPLACED}")),
        with_key(&format!("baseUrl: 'user:{MISPLACED}@api.example.com'")),
        with_key(&format!("secrets: {MISPLACED}")),
        format!("http: {{ token: {MISPLACED} }}\n"),
        format!("http: {MISPLACED}\n"),
        format!("{MISPLACED}\n"),
        format!("\thttp: {MISPLACED}\n"),
    ];
    for case in cases {
        let usual = format!("source: {{ path: {} }}\n", world.path("repo").display());
        let state = format!("state: {{ path: {} }}\n", world.path("state").display());
        fs::write(world.path("config.yaml"), usual + &state + &case).unwrap();
        for args in [&["run"][..], &["plan"], &["apply"], &["validate"], &["audit"], &["status"]] {
            let args = [args, &["--log-level", "trace"]].concat();
            let output = World::end_of(command(&world, &args)).await;
            let text = text_of(&output);
            // Some commands need less of it; the daemon needs it all.
            assert!(args[0] != "run" || output.status.code() == Some(64), "{case}: {text}");
            assert_none_in(&text, &format!("{args:?} with {case}"));
        }
    }
    fs::remove_file(world.path("config.yaml")).unwrap();
    for (name, value) in [
        ("DESCOPE_BASE_URL", format!("http://user:{MISPLACED}@{host}")),
        ("DESCOPE_BASE_URI", format!("https://api.example.com/?key={MISPLACED}")),
        ("DESCOPE_BASE_URL", format!("user:{MISPLACED}")),
        ("DESCOPE_MANAGEMENT_KEY", format!("{MISPLACED}\nsecond line")),
    ] {
        let mut plan = Command::new(crate::harness::BINARY);
        plan.args(["plan", "--log-level", "trace", "--source"]).arg(world.path("repo"));
        plan.env("DESCOPE_PROJECT_ID", PROJECT).env("DESCOPE_MANAGEMENT_KEY", OLD_KEY).env(name, &value);
        plan.env("DESCOPE_GITOPS_STATE", world.path("none")).current_dir(world.dir.path());
        if name == "DESCOPE_BASE_URI" {
            plan.env("DESCOPE_BASE_URL", "https://api.example.org");
        }
        if name == "DESCOPE_MANAGEMENT_KEY" {
            plan.env("DESCOPE_BASE_URL", &world.api);
            world.write("roles.yaml", "roles:\n  - name: a\n");
        }
        let output = World::end_of(plan).await;
        assert_ne!(output.status.code(), Some(0), "{name}={value}");
        assert_none_in(&text_of(&output), &format!("{name}={value}"));
    }
    for command in ["status", "reconcile", "healthcheck"] {
        let url = format!("http://user:{MISPLACED}@127.0.0.1:1/");
        let output = world.run(&[command, "--url", &url, "--config", ""]).await;
        assert_ne!(output.status.code(), Some(0), "{command}");
        assert_none_in(&text_of(&output), command);
    }
}
