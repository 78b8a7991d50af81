//! Whoever may commit to the config repo learns no secret and reads no file through the daemon.

use crate::harness::KEY;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::permission;
use reqwest::Method;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const OWN: &str = "refers to a credential of the daemon itself, which the config repo may never use";
const NO_FILES: &str = "files are not allowed here; the project's `secrets.dir` must name the directory they are in";
const LEAVES: &str = "is a symbolic link that leaves the source directory; nothing outside may be read";

/// Makes a file that may not be.
type Spoil = Box<dyn Fn(&Path)>;

/// A description that is a reference.
fn refer(reference: &str) -> impl Fn(&Path) {
    let text = format!("permissions:\n  - {{ name: evil, description: {{ {reference} }} }}\n");
    move |file| fs::write(file, &text).unwrap()
}

/// Everything that the daemon and the commands say while the repo is like this.
async fn all_output(world: &World) -> String {
    let mut all = String::new();
    for path in ["/api/v1/status", "/api/v1/plan", "/metrics", "/healthz", "/readyz"] {
        all += &world.ask(Method::GET, path).await.1;
    }
    let commands: [&[&str]; 4] = [
        &["validate", "--log-level", "trace"],
        &["validate", "-o", "json"],
        &["validate", "-o", "github"],
        &["plan", "-o", "json", "--log-level", "trace"],
    ];
    for args in commands {
        let output = world.run(args).await;
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        all += &String::from_utf8_lossy(&output.stdout);
        all += &String::from_utf8_lossy(&output.stderr);
    }
    all
}

#[tokio::test]
async fn what_the_repo_may_not_name_is_an_error_and_nothing_leaks() {
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.top.push("log: { format: json, level: trace }".to_owned()));
    world.write("a.yaml", &permission("p", "first"));
    fs::write(world.path("outside.yaml"), permission("p", "from-outside")).unwrap();
    world.converge().await;
    let (outside, config) = (world.path("outside.yaml"), world.path("config.yaml"));
    let linked = |to: &str| {
        let to = to.to_owned();
        Box::new(move |file: &Path| symlink(&to, file).unwrap()) as Spoil
    };
    let not_allowed = "the environment variable HOME is not allowed here; the project's `secrets.env` must name it";
    let cases: Vec<(&str, Spoil, &str)> = vec![
        ("the key by its usual name", Box::new(refer("env: DESCOPE_MANAGEMENT_KEY")), OWN),
        ("the key by its name here", Box::new(refer("env: BLACKBOX_KEY")), OWN),
        ("the token", Box::new(refer("env: BLACKBOX_TOKEN")), OWN),
        ("a variable", Box::new(refer("env: HOME")), not_allowed),
        ("the environment", Box::new(refer("file: /proc/self/environ")), NO_FILES),
        ("a file beside the repo", Box::new(refer("file: ../config.yaml")), NO_FILES),
        ("a link to the environment", linked("/proc/self/environ"), LEAVES),
        ("a link out", linked("../outside.yaml"), LEAVES),
        ("an absolute link out", linked(outside.to_str().unwrap()), LEAVES),
        ("a link to the settings", linked(config.to_str().unwrap()), LEAVES),
        ("a link to a directory outside", linked("/etc"), LEAVES),
        ("a link to nowhere", linked("nowhere.yaml"), "is a symbolic link that leads nowhere; mend or remove it"),
        (
            "a FIFO",
            Box::new(|file| {
                let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
                rustix::fs::mknodat(rustix::fs::CWD, file, fifo, mode, 0).unwrap();
            }),
            "is not a regular file; remove it",
        ),
        (
            "a file of 65 MiB",
            Box::new(|file| fs::File::create(file).unwrap().set_len(65 * 1024 * 1024).unwrap()),
            "holds more than 64 MiB; split it",
        ),
    ];
    let mut all = String::new();
    let is_valid = async |world: &World| world.project().await["desired"]["valid"] == true;

    for (case, spoil, expected) in cases {
        spoil(&world.path("repo/evil.yaml"));
        world.until(case, async |world| !is_valid(world).await).await;

        let errors = world.project().await["desired"]["errors"].clone();
        assert_eq!(errors.as_array().unwrap().len(), 1, "{case}: {errors}");
        assert_eq!(errors[0]["file"], "evil.yaml", "{case}");
        let message = errors[0]["message"].as_str().unwrap();
        assert!(message.ends_with(expected), "{case}: {message}");
        all += &all_output(&world).await;

        world.remove("evil.yaml");
        world.until("mended", is_valid).await;
    }

    assert_eq!(world.entity("permissions", "p").await.unwrap()["description"], "first");
    assert_eq!(world.entity("permissions", "evil").await, None);
    all += &world.daemon().lines().join("\n");
    for file in fs::read_dir(world.path("state")).unwrap() {
        all += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }
    for expected in
        ["\"level\":\"TRACE\"", "evil.yaml", "/v1/mgmt/permission/all", "descope_gitops_build_info", "SQLite format"]
    {
        assert!(all.contains(expected), "nothing is searched: {expected} is missing");
    }
    for secret in [KEY, TOKEN, "from-outside"] {
        let line = all.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

#[tokio::test]
async fn the_fence_holds_however_much_the_project_allows() {
    let mut world = World::new().await;
    let dir = world.path("secrets");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("ours"), "not-for-descriptions").unwrap();
    symlink("/proc/self/environ", dir.join("environ")).unwrap();
    fs::write(dir.join("key"), KEY).unwrap();
    world.reconfigure(|setup| {
        setup.project.push("managementKey: { file: KEYFILE }".replace("KEYFILE", dir.join("key").to_str().unwrap()));
        setup.project.push(format!("secrets: {{ env: ['*'], dir: {} }}", dir.display()));
    });
    let text = fs::read_to_string(world.path("config.yaml")).unwrap();
    fs::write(world.path("config.yaml"), text.replace("    managementKey: { env: BLACKBOX_KEY }\n", "")).unwrap();
    let outside = "the file is not below the project's `secrets.dir`";
    let cases = [
        ("env: DESCOPE_MANAGEMENT_KEY", OWN),
        ("env: descope_gitops_token", OWN),
        ("env: BLACKBOX_TOKEN", OWN),
        ("file: key", OWN),
        ("file: environ", outside),
        ("file: /proc/self/environ", outside),
        ("file: ../config.yaml", outside),
        ("file: ours", "takes no secret; write the value itself"),
        ("env: HOME", "takes no secret; write the value itself"),
    ];
    for (n, (reference, _)) in cases.iter().enumerate() {
        world.write(
            &format!("{n}.yaml"),
            &format!("permissions:\n  - {{ name: p{n}, description: {{ {reference} }} }}\n"),
        );
    }

    let report = world.run_json(&["validate", "-o", "json", "--log-level", "trace"], 3).await;

    let messages: Vec<&str> =
        report["errors"].as_array().unwrap().iter().map(|e| e["message"].as_str().unwrap()).collect();
    assert_eq!(messages, cases.map(|(_, expected)| expected));
    assert!(!report.to_string().contains("not-for-descriptions") && !report.to_string().contains(KEY));
}

#[tokio::test]
async fn links_to_directories_are_followed_once_and_never_out_of_the_repo() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "first"));
    fs::create_dir(world.path("elsewhere")).unwrap();
    fs::write(world.path("elsewhere/b.yaml"), permission("q", "from elsewhere")).unwrap();
    world.write("real/c.yaml", &permission("r", "once"));
    symlink("../elsewhere", world.path("repo/out")).unwrap();
    symlink("real", world.path("repo/alias")).unwrap();
    symlink(".", world.path("repo/loop")).unwrap();

    world.start().await;
    let is_refused = async |world: &World| {
        let errors = world.project().await["desired"]["errors"].clone();
        let is_it = |error: &Value| error["file"] == "out" && error["message"].as_str().unwrap().contains("leaves");
        errors.as_array().is_some_and(|errors| errors.len() == 1 && is_it(&errors[0]))
    };
    world.until("refused", is_refused).await;
    assert_eq!(world.writes().await, []);
    world.remove("out");
    world.converge_on(2).await;

    assert_eq!(world.entity("permissions", "q").await, None);
    world.assert_nothing_left().await;
}
