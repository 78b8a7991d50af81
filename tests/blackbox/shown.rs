//! Secrets that Descope shows once: each lands in its file, or its create is never taken for done and never sent again.

use crate::harness::PROJECT;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::read;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const CREATE: &str = "POST /v1/mgmt/accesskey/create";

fn keys(more: &str) -> String {
    format!("accessKeys:\n  - {{ name: ci{more} }}\n")
}

/// With a directory for secrets, and nothing declared yet.
async fn world() -> World {
    let mut world = World::with(Setup::default()).await;
    let secrets = world.path("secrets");
    fs::create_dir(&secrets).unwrap();
    let project = [
        "firstContact: apply".to_owned(),
        "policy: sync".to_owned(),
        format!("secrets: {{ dir: {} }}", secrets.display()),
        "guards: { maxDeletes: 100, maxDeletePercent: off, deleteAfter: 0s }".to_owned(),
    ];
    world.reconfigure(|setup| setup.project = project.to_vec());
    world.write("roles.yaml", "roles: [{ name: other }]\n");
    world
}

impl World {
    fn secret(&self, name: &str) -> PathBuf {
        self.path("secrets").join(name)
    }

    /// The secrets of all keys that live, by the simulator's word.
    async fn secrets_of_keys(&self) -> Vec<String> {
        let live = self.live().await;
        let keys = live["accessKeys"].as_array().cloned().unwrap_or_default();
        keys.iter().map(|key| key["cleartext"].as_str().unwrap().to_owned()).collect()
    }

    async fn creates(&self) -> usize {
        self.writes().await.iter().filter(|(line, _)| line == CREATE).count()
    }

    async fn until_parked(&self, name: &str, part_of_message: &str) -> String {
        self.until(&format!("parked: {part_of_message}"), async |world| {
            let problem = world.problem("accessKeys", name).await;
            problem.is_some_and(|problem| {
                problem["state"] == "parked" && problem["message"].as_str().unwrap().contains(part_of_message)
            })
        })
        .await;
        self.problem("accessKeys", name).await.unwrap()["message"].as_str().unwrap().to_owned()
    }

    /// As if every call that is open had begun long ago. While nobody else has the state.
    fn age_calls(&self) {
        let state = rusqlite::Connection::open(self.path("state/state.db")).unwrap();
        state.execute("UPDATE intent SET begun_at = begun_at - 600000", []).unwrap();
    }

    /// Nothing that leaves the process has it.
    async fn assert_untold(&self, secret: &str) {
        let mut told = self.daemon().lines().join("\n");
        for path in ["/metrics", "/api/v1/status", "/api/v1/plan", "/healthz"] {
            told += &self.ask(reqwest::Method::GET, path).await.1;
        }
        for file in fs::read_dir(self.path("state")).unwrap() {
            told += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
        }
        told += &self.told(&[]).await.iter().map(Value::to_string).collect::<String>();
        assert!(!told.contains(secret), "the secret is told");
    }
}

#[tokio::test]
async fn it_lands_in_its_file_and_nowhere_else() {
    let mut world = world().await;
    world.reconfigure(|setup| setup.top.push("log: { format: json, level: trace }".to_owned()));
    world.write("a.yaml", &keys(", secretFile: ci.key, status: inactive"));
    world.converge().await;

    let secrets = world.secrets_of_keys().await;
    assert_eq!(secrets.len(), 1);
    assert_eq!(read(&world.secret("ci.key")).trim_end(), secrets[0]);
    assert_eq!(fs::metadata(world.secret("ci.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(world.path("secrets")).unwrap().count(), 1, "nothing is left beside it");
    world.assert_untold(&secrets[0]).await;
    world.assert_nothing_left().await;
    // The part of its own went to the id that the answer told, though no list had shown it.
    assert_eq!(world.entity("accessKeys", "ci").await.unwrap()["status"], "inactive");
    let writes: Vec<String> = world.writes().await.into_iter().map(|(line, _)| line).collect();
    assert_eq!(writes.iter().filter(|line| line.contains("accesskey")).count(), 2, "{writes:?}");
}

#[tokio::test]
async fn without_a_place_for_it_nothing_is_created() {
    let mut world = world().await;
    fs::create_dir(world.secret("folder")).unwrap();
    world.reconfigure(|setup| setup.interval = "300ms");
    world.write("a.yaml", &keys(""));
    world.start().await;
    for (more, expected) in [
        ("", "secretFile: is missing"),
        (", secretFile: none/ci.key", "the directory of none/ci.key does not exist"),
        (", secretFile: folder", "is not a regular file"),
    ] {
        world.write("a.yaml", &keys(more));
        world.until_parked("ci", expected).await;
    }
    fs::write(world.secret("taken"), "of somebody else\n").unwrap();
    world.write("a.yaml", &keys(", secretFile: taken"));
    world.until_parked("ci", "holds something that this daemon did not put there").await;

    assert_eq!(world.creates().await, 0);
    assert_eq!(read(&world.secret("taken")), "of somebody else\n");
    let roles = world.entity("roles", "other").await;
    assert!(roles.is_some(), "the rest goes on");
    // Moved away: the next pass sees it.
    fs::remove_file(world.secret("taken")).unwrap();
    world.until("made", async |world| world.is_converged().await).await;
    assert_eq!(read(&world.secret("taken")).trim_end(), world.secrets_of_keys().await[0]);
}

#[tokio::test]
async fn the_files_are_checked_for_it() {
    let mut world = world().await;
    world.write("a.yaml", &keys(""));
    let said = world.run_json(&["validate", "-o", "json"], 0).await;
    let warnings = said["warnings"].to_string();
    assert!(warnings.contains("secretFile") && warnings.contains("is missing"), "{warnings}");

    for (text, expected) in [
        (keys(", secretFile: ../ci.key"), "the file is not below the project's `secrets.dir`"),
        (keys(", secretFile: /etc/ci.key"), "the file is not below the project's `secrets.dir`"),
        (keys(", secretFile: { env: X }"), "must be a text but is a mapping"),
        (
            keys(", secretFile: a.key") + "  - { name: two, secretFile: ./a.key }\n",
            "`a.key` is also the file of accessKeys/ci",
        ),
        (keys(", secretFile: .k.0123456789abcdef.new"), "is a name that the daemon gives to files of its own"),
        (keys(", secretFile: .descope-gitops-volume-x"), "is a name that the daemon gives to files of its own"),
        ("roles: [{ name: r, secretFile: a.key }]\n".to_owned(), "Descope shows no secret of roles"),
    ] {
        world.write("a.yaml", &text);
        let said = world.run_json(&["validate", "-o", "json"], 3).await;
        assert!(said["errors"].to_string().contains(expected), "{expected}: {said}");
    }
    world.reconfigure(|setup| setup.project.retain(|line| !line.starts_with("secrets")));
    world.write("a.yaml", &keys(", secretFile: ci.key"));
    let said = world.run_json(&["validate", "-o", "json"], 0).await;
    assert!(said["warnings"].to_string().contains("secrets.dir"), "{said}");
    world.start().await;
    world.until_parked("ci", "secrets.dir").await;
    assert_eq!(world.creates().await, 0);
}

/// The answer is lost after the key was made. Returns the message that it is parked with.
async fn lose_the_answer(world: &mut World, fault: Value) -> String {
    world.faults(json!([fault])).await;
    world.write("a.yaml", &keys(", secretFile: ci.key"));
    world.start().await;
    let message = world.until_parked("ci", "never created a second time").await;
    let id = world.entity("accessKeys", "ci").await.unwrap()["id"].as_str().unwrap().to_owned();
    assert!(message.contains(&id), "{message}");
    message
}

fn lost() -> Value {
    json!({ "match": { "path": "/v1/mgmt/accesskey/create", "times": 1 }, "fault": "status", "status": 503, "effect": true })
}

async fn parks_it_for_good(fault: Value) {
    let mut world = world().await;
    lose_the_answer(&mut world, fault).await;

    world.pass().await;
    world.daemon().signal(rustix::process::Signal::HUP);
    world.fresh_pass().await;
    world.kill().await;
    world.age_calls();
    world.start().await;
    world.until_parked("ci", "never created a second time").await;
    world.fresh_pass().await;

    assert_eq!(world.creates().await, 1);
    assert!(!world.is_converged().await);
    let trail = world.told(&["--kind", "accessKeys"]).await;
    assert!(trail.iter().all(|row| row["outcome"] != "ok"), "{trail:?}");
    assert!(!world.secret("ci.key").exists());
}

#[tokio::test]
async fn an_answer_of_503_parks_it_for_good_and_it_is_never_sent_again() {
    parks_it_for_good(lost()).await;
}

#[tokio::test]
async fn a_reset_after_the_create_parks_it_for_good_and_it_is_never_sent_again() {
    let fault = json!({ "match": { "path": "/v1/mgmt/accesskey/create", "times": 1 }, "fault": "reset_after" });
    parks_it_for_good(fault).await;
}

#[tokio::test]
async fn an_empty_answer_parks_it_for_good_and_it_is_never_sent_again() {
    let fault =
        json!({ "match": { "path": "/v1/mgmt/accesskey/create", "times": 1 }, "fault": "empty200", "effect": true });
    parks_it_for_good(fault).await;
}

/// A filter that reads answers, and lets none with a secret through.
#[tokio::test]
async fn an_answer_that_a_filter_replaced_parks_it_for_good_and_it_is_never_sent_again() {
    let fault =
        json!({ "match": { "path": "/v1/mgmt/accesskey/create", "times": 1 }, "fault": "html", "effect": true });
    parks_it_for_good(fault).await;
}

#[tokio::test]
async fn a_secret_by_hand_ends_it() {
    let mut world = world().await;
    lose_the_answer(&mut world, lost()).await;
    fs::write(world.secret("ci.key"), "rotated-by-hand\n").unwrap();
    world.fresh_pass().await;
    world.until("converged with it", async |world| world.is_converged().await).await;
    assert_eq!((world.creates().await, read(&world.secret("ci.key"))), (1, "rotated-by-hand\n".to_owned()));
    world.assert_untold("rotated-by-hand").await;
}

/// The rename went ahead, and nobody ever heard of the secret again.
#[tokio::test]
async fn a_rename_does_not_end_it() {
    let mut world = world().await;
    lose_the_answer(&mut world, lost()).await;

    world.write("a.yaml", "accessKeys: [{ name: other, renamedFrom: ci, secretFile: ci.key }]\n");

    world.until_parked("other", "never created a second time").await;
    assert!(world.entity("accessKeys", "ci").await.is_some());
    fs::write(world.secret("ci.key"), "rotated-by-hand\n").unwrap();
    world.fresh_pass().await;
    world.until("converged with it", async |world| world.is_converged().await).await;
    assert!(world.entity("accessKeys", "other").await.is_some());
    assert_eq!((world.creates().await, read(&world.secret("ci.key"))), (1, "rotated-by-hand\n".to_owned()));
}

#[tokio::test]
async fn no_file_at_all_ends_it() {
    let mut world = world().await;
    lose_the_answer(&mut world, lost()).await;
    world.write("a.yaml", &keys(""));
    world.until("converged without it", async |world| world.is_converged().await).await;
    assert_eq!(world.creates().await, 1);
}

#[tokio::test]
async fn another_one_in_its_place_ends_it() {
    let mut world = world().await;
    lose_the_answer(&mut world, lost()).await;
    world.stop().await;
    world.age_calls();
    let id = world.entity("accessKeys", "ci").await.unwrap()["id"].as_str().unwrap().to_owned();
    world.delete_live(&format!("accessKeys/{id}")).await;
    world.converge().await;
    assert_eq!(world.creates().await, 2);
    assert_eq!(read(&world.secret("ci.key")).trim_end(), world.secrets_of_keys().await[0]);
}

/// It may be there, and no list shows it yet.
#[tokio::test]
async fn a_create_without_effect_is_sent_again_once_that_is_certain() {
    let mut world = world().await;
    let fault =
        json!({ "match": { "path": "/v1/mgmt/accesskey/create", "times": 1 }, "fault": "status", "status": 503 });
    world.faults(json!([fault])).await;
    world.write("a.yaml", &keys(", secretFile: ci.key"));
    world.start().await;
    world.until_parked("ci", "the answer to its create was lost").await;
    world.fresh_pass().await;
    assert_eq!(world.creates().await, 1);

    world.stop().await;
    world.age_calls();
    world.converge().await;

    assert_eq!(world.creates().await, 2);
    assert_eq!(read(&world.secret("ci.key")).trim_end(), world.secrets_of_keys().await[0]);
}

/// Between the effect and the answer, and with an answer that nobody was there to write down.
#[tokio::test]
async fn a_kill_in_between_neither_doubles_it_nor_loses_it_silently() {
    let mut world = world().await;
    let fault =
        json!({ "match": { "path": "/v1/mgmt/accesskey/create", "times": 1 }, "fault": "delay", "delay": "3s" });
    world.faults(json!([fault])).await;
    world.write("a.yaml", &keys(", secretFile: ci.key"));
    world.start().await;
    world.until("made", async |world| world.entity("accessKeys", "ci").await.is_some()).await;
    world.kill().await;

    world.start().await;
    let message = world.until_parked("ci", "never created a second time").await;

    assert!(message.contains("ci.key"), "{message}");
    assert_eq!(world.creates().await, 1);
    assert!(!world.secret("ci.key").exists());
}

#[tokio::test]
async fn one_that_is_made_anew_has_its_new_secret_in_the_same_file() {
    let mut world = world().await;
    let with = keys(", secretFile: ci.key") + "  - { name: stays, secretFile: stays.key }\n";
    world.write("a.yaml", &with);
    world.converge().await;
    let first = read(&world.secret("ci.key"));

    world.write("a.yaml", "accessKeys:\n  - { name: stays, secretFile: stays.key }\n");
    world.until("gone", async |world| world.entity("accessKeys", "ci").await.is_none()).await;
    world.write("a.yaml", &with);
    world.until("made anew", async |world| world.entity("accessKeys", "ci").await.is_some()).await;
    world.until("converged", async |world| world.is_converged().await).await;

    let second = read(&world.secret("ci.key"));
    assert_ne!(first, second);
    assert!(world.secrets_of_keys().await.contains(&second.trim_end().to_owned()));
    assert_eq!(fs::metadata(world.secret("ci.key")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_key_that_ends_soon_is_warned_of() {
    let mut world = world().await;
    let in_days = |days: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        now + days * 24 * 3600
    };
    let (soon, late) = (in_days(3), in_days(300));
    world.write(
        "a.yaml",
        &format!(
            "accessKeys:\n  - {{ name: soon, secretFile: a, expireTime: {soon} }}\n  - {{ name: late, secretFile: b, expireTime: \
             {late} }}\n  - {{ name: never, secretFile: c, expireTime: 0 }}\n"
        ),
    );
    world.converge().await;
    world.pass().await;

    let series = "credential_expiry_timestamp_seconds{kind=\"accessKeys\",project=\"default\"}";
    assert_eq!(world.metric(series).await.map(|end| format!("{end:.0}")), Some(soon.to_string()));
    let plan = world.run_json(&["plan", "-o", "json"], 0).await;
    let warnings = plan["projects"][0]["warnings"].to_string();
    assert!(warnings.contains("accessKeys/soon ends on"), "{warnings}");
    assert!(!warnings.contains("late") && !warnings.contains("never"), "{warnings}");
    assert!(world.daemon().said("accessKeys/soon ends on"));

    world.write("a.yaml", "accessKeys:\n  - { name: never, secretFile: c, expireTime: 0 }\n");
    world.until("no key that ends", async |world| world.metric(series).await.is_none()).await;
}

/// Two projects with one directory for secrets, each with a key of that file.
async fn two_projects(file_of_two: &str) -> World {
    let mut world = world().await;
    let entry = |name: &str| {
        format!(
            "  - {{ name: {name}, projectId: {PROJECT}, managementKey: {{ env: BLACKBOX_KEY }}, baseUrl: \"{}\", owner: {name}, \
             path: {name}, firstContact: apply, secrets: {{ dir: \"{}\" }} }}",
            world.api,
            world.path("secrets").display()
        )
    };
    let projects = format!("projects:\n{}\n{}", entry("one"), entry("two"));
    world.reconfigure(|setup| setup.top.push(projects));
    world.write("one/a.yaml", "accessKeys:\n  - { name: first, secretFile: ci.key }\n");
    world.write("two/a.yaml", &format!("accessKeys:\n  - {{ name: second, secretFile: {file_of_two} }}\n"));
    world
}

async fn both_converged(world: &World) -> bool {
    world.project_named("one").await["converged"] == true && world.project_named("two").await["converged"] == true
}

/// Problems of both that say this.
async fn parked(world: &World, part: &str) -> Vec<String> {
    let mut all = Vec::new();
    for name in ["one", "two"] {
        let problems = world.project_named(name).await["problems"].as_array().cloned().unwrap_or_default();
        let messages = problems.iter().filter_map(|problem| problem["message"].as_str().map(str::to_owned));
        all.extend(messages.filter(|message| message.contains(part)));
    }
    all
}

/// Both creates are under way before either is answered.
#[tokio::test]
async fn of_two_projects_with_one_file_neither_loses_a_secret_and_one_says_where_it_is() {
    let mut world = two_projects("ci.key").await;
    world
        .faults(
            json!([{ "match": { "path": "/v1/mgmt/accesskey/create", "times": 2 }, "fault": "delay", "delay": "2s" }]),
        )
        .await;
    world.start().await;
    world
        .until("one of them parked", async |world| !parked(world, "a secret that did not get into").await.is_empty())
        .await;
    world.fresh_pass().await;

    let messages = parked(&world, "a secret that did not get into").await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("never created a second time"), "{messages:?}");
    let files: Vec<PathBuf> = fs::read_dir(world.path("secrets")).unwrap().map(|file| file.unwrap().path()).collect();
    let draft = files.iter().find(|file| messages[0].contains(&*file.to_string_lossy())).unwrap();
    let mut written: Vec<String> = files.iter().map(|file| read(file).trim_end().to_owned()).collect();
    let mut shown = world.secrets_of_keys().await;
    written.sort();
    shown.sort();
    assert_eq!((written, world.creates().await), (shown, 2));
    assert!(!both_converged(&world).await);

    // What the message says to do.
    let is_first = world.project_named("one").await["problems"].to_string().contains("did not get into");
    let (file, key) = if is_first { ("one/a.yaml", "first") } else { ("two/a.yaml", "second") };
    fs::rename(draft, world.secret("own.key")).unwrap();
    world.write(file, &format!("accessKeys:\n  - {{ name: {key}, secretFile: own.key }}\n"));
    world.until("converged", async |world| both_converged(world).await).await;
    assert_eq!(world.creates().await, 2);
}

/// The answer of one was lost; what the other has in the file is not the secret of that.
#[tokio::test]
async fn the_secret_of_another_project_is_not_taken_for_one_put_there_by_hand() {
    let mut world = two_projects("ci.key").await;
    world.remove("two/a.yaml");
    world.write("two/a.yaml", "roles: [{ name: other }]\n");
    world.start().await;
    world.until("the first", async |world| both_converged(world).await && world.secret("ci.key").exists()).await;
    let first = read(&world.secret("ci.key"));
    world.write("two/a.yaml", "accessKeys:\n  - { name: second, secretFile: ci.key }\n");
    world.until("refused", async |world| !parked(world, "holds the secret of another project").await.is_empty()).await;
    assert_eq!(world.creates().await, 1);

    world.faults(json!([lost()])).await;
    world.write("two/a.yaml", "accessKeys:\n  - { name: second, secretFile: own.key }\n");
    world.until("lost", async |world| !parked(world, "never created a second time").await.is_empty()).await;
    world.write("two/a.yaml", "accessKeys:\n  - { name: second, secretFile: ci.key }\n");
    world
        .until("both", async |world| {
            let said = parked(world, "holds the secret of another project").await;
            said.iter().any(|message| message.contains("never created a second time"))
        })
        .await;
    world.fresh_pass().await;

    assert_eq!((world.creates().await, read(&world.secret("ci.key"))), (2, first));
    assert!(!both_converged(&world).await);
}

#[tokio::test]
async fn one_file_for_two_projects_is_an_error_of_the_files() {
    let world = two_projects("./ci.key").await;
    let said = world.run_json(&["validate", "-o", "json"], 3).await;
    let error = &said["errors"][0];
    assert_eq!(said["errors"].as_array().unwrap().len(), 1, "{said}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("ci.key is also the file of a secret of project one, at one/a.yaml:2"), "{message}");
    assert!(error.to_string().contains("two/a.yaml"), "{error}");

    world.write("two/a.yaml", "accessKeys:\n  - { name: second, secretFile: other.key }\n");
    world.run_json(&["validate", "-o", "json"], 0).await;
}

#[tokio::test]
async fn a_file_of_somebody_that_looks_like_a_draft_survives() {
    let mut world = world().await;
    fs::write(world.secret(".ci.key.new"), "theirs").unwrap();
    world.write(
        "a.yaml",
        &(keys(", secretFile: ci.key") + "  - { name: two, secretFile: .two.new }\n  - { name: t, secretFile: two }\n"),
    );
    world.converge().await;
    assert_eq!(read(&world.secret(".ci.key.new")), "theirs");
    let mut written: Vec<String> =
        ["ci.key", ".two.new", "two"].iter().map(|name| read(&world.secret(name)).trim_end().to_owned()).collect();
    let mut shown = world.secrets_of_keys().await;
    written.sort();
    shown.sort();
    assert_eq!(written, shown);
}
