//! Secrets that Descope shows once, where replicas share the state: a file on one disk is of no use to whoever takes over.

use crate::harness::PROJECT;
use crate::harness::Process;
use crate::postgres::Postgres;
use crate::readonly::can_be_unprivileged;
use crate::readonly::set_mode;
use crate::readonly::unprivileged;
use crate::replicas::NEVER;
use crate::replicas::Replicas;
use rustix::process::geteuid;
use serde_json::Value;
use std::fs;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const CREATE: &str = "POST /v1/mgmt/accesskey/create";

fn keys(count: usize) -> String {
    let lines: String = (0..count).map(|n| format!("  - {{ name: k{n}, secretFile: k{n}.key }}\n")).collect();
    format!("accessKeys:\n{lines}")
}

/// Of replicas that are told this under `secrets`, where nothing is declared yet but a role.
async fn replicas(server: &Postgres, life: &str, secrets: &str) -> Replicas {
    let mut all = Replicas::with(server, life, &[]).await;
    let secrets = format!("secrets: {secrets}");
    all.world.reconfigure(|setup| {
        // What was mended outside is seen by the next pass.
        setup.interval = "500ms";
        setup.project = vec!["firstContact: apply".to_owned(), secrets];
    });
    all.world.write("roles.yaml", "roles: [{ name: other }]\n");
    all
}

/// The directory that a relative path of the config begins in, for one that starts there, with one for secrets.
fn machine(all: &Replicas, name: &str) -> PathBuf {
    let dir = all.world.path(name);
    fs::create_dir_all(dir.join("secrets")).unwrap();
    dir
}

impl Replicas {
    async fn start_on(&mut self, machine: &str) -> usize {
        let mut command = self.world.command(&["run"]);
        command.current_dir(self.world.path(machine));
        self.start_as(Process::start(command)).await
    }

    async fn creates(&self) -> usize {
        self.world.writes().await.iter().filter(|(line, _)| line == CREATE).count()
    }

    /// How many resources the newest pass found in the files.
    async fn desired(&self, replica: usize) -> Option<u64> {
        self.project(replica).await?["desired"]["resources"].as_u64()
    }

    async fn until_created(&self, key: &str) {
        self.until(&format!("created: {key}"), async |all| all.world.entity("accessKeys", key).await.is_some()).await;
    }

    /// What the holder says of it.
    async fn until_parked(&self, part_of_message: &str) -> String {
        let message = async |all: &Self| {
            let project = all.project(all.holder().await).await?;
            let problems = project["problems"].as_array()?.clone();
            let parked =
                problems.iter().find(|problem| problem["kind"] == "accessKeys" && problem["state"] == "parked")?;
            Some(parked["message"].as_str()?.to_owned())
        };
        self.until(&format!("parked: {part_of_message}"), async |all| {
            message(all).await.is_some_and(|message| message.contains(part_of_message))
        })
        .await;
        message(self).await.unwrap()
    }
}

#[tokio::test]
async fn without_a_volume_that_is_said_to_be_common_no_secret_is_made() {
    let Some(server) = Postgres::start() else { return };
    let mut all = replicas(server, NEVER, "{ dir: secrets }").await;
    machine(&all, "one");
    all.world.write("keys.yaml", &keys(1));
    all.start_on("one").await;

    let message = all.until_parked("secretFile: no secret is made that only one replica would have").await;

    assert!(message.contains("write `secrets: { shared: true }`"), "{message}");
    all.until("the rest is done", async |all| all.world.entity("roles", "other").await.is_some()).await;
    assert_eq!(all.creates().await, 0);
    let checked = all.world.run(&["validate"]).await;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.contains("warning: keys.yaml:2:"), "{said}");
    assert!(said.contains("no secret is made that only one replica would have"), "{said}");
    assert_eq!(fs::read_dir(all.world.path("one/secrets")).unwrap().count(), 0, "nothing was written");
}

#[tokio::test]
async fn on_one_volume_whoever_holds_the_project_makes_secrets_and_takes_over() {
    let Some(server) = Postgres::start() else { return };
    let mut all = replicas(server, "4s", "{ dir: secrets, shared: true }").await;
    let (one, other) = (machine(&all, "one"), machine(&all, "other"));
    fs::remove_dir(other.join("secrets")).unwrap();
    symlink(one.join("secrets"), other.join("secrets")).unwrap();
    all.world.write("keys.yaml", &keys(1));
    all.start_on("one").await;
    all.until_created("k0").await;
    all.start_on("other").await;
    all.world.write("keys.yaml", &keys(2));
    all.until_created("k1").await;
    // Killed before the answer is there, it would leave a key whose secret is lost.
    all.until("kept", async |_| one.join("secrets/k1.key").is_file()).await;

    let holder = all.holder().await;
    all.kill(holder).await;
    all.until("taken over", async |all| all.is_holder(0).await).await;
    all.world.write("keys.yaml", &keys(3));
    all.until_created("k2").await;

    assert_eq!(all.creates().await, 3);
    all.until("kept", async |_| (0..3).all(|n| one.join(format!("secrets/k{n}.key")).is_file())).await;
}

#[tokio::test]
async fn with_a_volume_each_no_secret_is_made_until_they_have_a_common_one() {
    let Some(server) = Postgres::start() else { return };
    let mut all = replicas(server, NEVER, "{ dir: secrets, shared: true }").await;
    let (one, other) = (machine(&all, "one"), machine(&all, "other"));
    all.start_on("one").await;
    all.converge().await;
    all.start_on("other").await;
    all.until("two replicas", async |all| all.ask(1, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;

    all.world.write("keys.yaml", &keys(1));
    let message = all.until_parked("not every replica sees the same volume").await;

    assert!(message.contains("mount the volume there as well"), "{message}");
    assert_eq!(all.creates().await, 0);
    fs::remove_dir_all(other.join("secrets")).unwrap();
    symlink(one.join("secrets"), other.join("secrets")).unwrap();
    all.until_created("k0").await;
    assert_eq!(all.creates().await, 1);
}

#[tokio::test]
async fn a_volume_that_was_replaced_is_not_written_before_it_has_the_mark() {
    let Some(server) = Postgres::start() else { return };
    let mut all = replicas(server, NEVER, "{ dir: secrets, shared: true }").await;
    let one = machine(&all, "one");
    all.world.write("keys.yaml", &keys(1));
    all.start_on("one").await;
    all.until_created("k0").await;
    all.converge().await;

    fs::rename(one.join("secrets"), one.join("gone")).unwrap();
    fs::create_dir(one.join("secrets")).unwrap();
    all.world.write("keys.yaml", &keys(2));
    let message = all.until_parked("is not the volume that the replicas share").await;

    assert_eq!(all.creates().await, 1);
    File::create(one.join(touched(&message))).unwrap();
    all.until_created("k1").await;
    all.until("kept", async |_| one.join("secrets/k1.key").is_file()).await;

    fs::rename(one.join("secrets"), one.join("new")).unwrap();
    fs::rename(one.join("gone"), one.join("secrets")).unwrap();
    all.world.write("keys.yaml", &keys(3));
    all.until_parked("is not the volume that the replicas share").await;
    assert_eq!(all.creates().await, 2, "the one of before has a mark, which is none of today");
    fs::rename(one.join("secrets"), one.join("gone")).unwrap();
    fs::rename(one.join("new"), one.join("secrets")).unwrap();
    all.until_created("k2").await;
}

/// The path that the message says to mark.
fn touched(message: &str) -> &str {
    message.split_once(": `touch ").unwrap().1.split_once('`').unwrap().0
}

#[tokio::test]
async fn a_volume_is_not_replaced_while_a_replica_has_the_one_of_before_or_no_new_one() {
    let Some(server) = Postgres::start() else { return };
    let mut all = replicas(server, NEVER, "{ dir: secrets, shared: true }").await;
    let (one, other) = (machine(&all, "one"), machine(&all, "other"));
    fs::remove_dir(other.join("secrets")).unwrap();
    symlink(one.join("secrets"), other.join("secrets")).unwrap();
    all.world.write("keys.yaml", &keys(1));
    all.start_on("one").await;
    all.until_created("k0").await;
    all.start_on("other").await;
    all.until("two replicas", async |all| all.ask(1, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;

    // A link of its own, so that each machine is changed by itself.
    fs::rename(one.join("secrets"), all.world.path("old")).unwrap();
    fs::remove_file(other.join("secrets")).unwrap();
    symlink(all.world.path("old"), other.join("secrets")).unwrap();
    fs::create_dir(one.join("secrets")).unwrap();
    all.world.write("keys.yaml", &keys(2));
    let message = all.until_parked("mount that volume here as well: ").await;
    assert!(!message.contains("touch"), "{message}");

    fs::remove_file(other.join("secrets")).unwrap();
    let message = all.until_parked("mark it: `touch ").await;
    File::create(one.join(touched(&message))).unwrap();
    let message = all.until_parked("not every replica sees the same volume").await;
    assert!(message.contains("and say `secrets: { shared: true }` there"), "{message}");
    assert_eq!(all.creates().await, 1);
    symlink(one.join("secrets"), other.join("secrets")).unwrap();
    all.until_created("k1").await;
    assert_eq!(all.creates().await, 2);
}

#[tokio::test]
async fn a_directory_that_is_missing_or_cannot_be_written_is_said_to_be_and_seen_when_it_is_mended() {
    let Some(server) = Postgres::start() else { return };
    if !can_be_unprivileged() {
        return;
    }
    let mut all = replicas(server, NEVER, "{ dir: secrets, shared: true }").await;
    let one = machine(&all, "one");
    let secrets = one.join("secrets");
    fs::remove_dir(&secrets).unwrap();
    all.world.write("keys.yaml", &keys(1));
    let mut command = unprivileged(&all.world, &["run"]);
    command.current_dir(&one);
    all.start_as(Process::start(command)).await;

    let message = all.until_parked("cannot be read: not found").await;
    assert!(message.contains("correct `projects[].secrets.dir`") && !message.contains("touch"), "{message}");
    fs::create_dir(&secrets).unwrap();
    set_mode(&secrets, 0o500);
    // Between the two it may have been marked.
    for entry in fs::read_dir(&secrets).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let message = all.until_parked("cannot be marked as the common one: permission denied").await;
    assert!(message.contains(&format!("let user {} write to it", geteuid().as_raw())), "{message}");
    set_mode(&secrets, 0o000);
    all.until_parked("cannot be read: permission denied").await;
    assert_eq!(all.creates().await, 0);

    set_mode(&secrets, 0o700);
    all.until_created("k0").await;
}

/// What a state that was carried knows of secrets is not on the volume: it is another one.
#[tokio::test]
async fn a_volume_without_the_secrets_of_before_is_not_marked_by_itself() {
    let Some(server) = Postgres::start() else { return };
    let mut all = replicas(server, NEVER, "{ dir: secrets, shared: true }").await;
    let one = machine(&all, "one");
    all.world.write("keys.yaml", &keys(1));
    all.start_on("one").await;
    all.until_created("k0").await;
    all.converge().await;

    let url = all.world.environment[0].1.clone();
    let database = url.rsplit_once('/').unwrap().1;
    server.sql(database, "DELETE FROM volume");
    fs::rename(one.join("secrets"), one.join("before")).unwrap();
    fs::create_dir(one.join("secrets")).unwrap();
    all.world.write("keys.yaml", &keys(2));
    let message = all.until_parked("no secret that was put into `secrets.dir` before is in ").await;

    assert!(message.contains("(k0.key is missing)"), "{message}");
    assert_eq!((all.creates().await, fs::read_dir(one.join("secrets")).unwrap().count()), (1, 0));
    // As the volume of something else may have: the first that is found.
    File::create(one.join("secrets/.descope-gitops-volume-0000000000000000")).unwrap();
    all.world.write("keys.yaml", &keys(3));
    all.until("the pass sees it", async |all| all.desired(0).await == Some(4)).await;
    assert_eq!(all.until_parked("no secret that was put into `secrets.dir` before is in ").await, message);
    assert_eq!(all.creates().await, 1);
    File::create(one.join(touched(&message))).unwrap();
    all.until_created("k1").await;
    let mark = server.sql(database, "SELECT mark FROM volume");
    assert!(touched(&message).ends_with(&format!("-{mark}")), "{mark} was not told: {message}");
}

/// Each volume is there, but each at the place of the other.
#[tokio::test]
async fn a_replica_that_has_the_volume_of_another_project_in_its_place_does_not_see_it() {
    let Some(server) = Postgres::start() else { return };
    let mut all = replicas(server, NEVER, "{ dir: secrets, shared: true }").await;
    let api = all.world.api.clone();
    let project = |name: &str, id: &str, dir: &str| {
        format!(
            "\n  - {{ name: {name}, projectId: {id}, managementKey: {{ env: BLACKBOX_KEY }}, baseUrl: '{api}', path: {dir}, \
             firstContact: apply, secrets: {{ dir: {dir}, shared: true }} }}"
        )
    };
    let both = [project("default", PROJECT, "a"), project("second", "P2blackboxprojectxxxxxxxxx2", "b")].concat();
    all.world.reconfigure(|setup| setup.top.push(format!("projects:{both}")));
    let places: [(&str, [&str; 2]); 2] = [("one", ["a", "b"]), ("other", ["b", "a"])];
    for volume in ["a", "b"] {
        fs::create_dir(all.world.path(volume)).unwrap();
        all.world.write(&format!("{volume}/keys.yaml"), &keys(1));
    }
    for (machine, volumes) in places {
        let dir = all.world.path(&format!("machines/{machine}"));
        fs::create_dir_all(&dir).unwrap();
        volumes
            .iter()
            .zip(["a", "b"])
            .for_each(|(volume, dir_of)| symlink(all.world.path(volume), dir.join(dir_of)).unwrap());
    }
    all.start_on("machines/one").await;
    all.until("both are marked", async |all| all.creates().await == 2).await;
    all.start_on("machines/other").await;
    all.until("two replicas", async |all| all.ask(1, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;

    all.world.write("a/keys.yaml", &keys(2));
    let message = all.until_parked("not every replica sees the same volume").await;

    assert_eq!(all.creates().await, 2, "{message}");
    for (volume, dir) in [("a", "machines/other/a"), ("b", "machines/other/b")] {
        let dir = all.world.path(dir);
        fs::remove_file(&dir).unwrap();
        symlink(all.world.path(volume), dir).unwrap();
    }
    all.until_created("k1").await;
}

#[tokio::test]
async fn a_replica_that_stands_by_without_the_volume_says_so_until_it_has_it() {
    let Some(server) = Postgres::start() else { return };
    let mut all = replicas(server, NEVER, "{ dir: secrets, shared: true }").await;
    let (one, other) = (machine(&all, "one"), machine(&all, "other"));
    all.world.write("keys.yaml", &keys(1));
    all.start_on("one").await;
    all.until_created("k0").await;
    all.start_on("other").await;
    let volume = async |all: &Replicas, replica: usize| {
        let health = all.ask(replica, "/healthz").await?.1;
        let health: Value = serde_json::from_str(&health).ok()?;
        health["components"].as_array()?.iter().find(|component| component["name"] == "volume").cloned()
    };

    all.until("told", async |all| volume(all, 1).await.is_some_and(|volume| volume["status"] == "degraded")).await;

    let told = volume(&all, 1).await.unwrap();
    assert!(told["reason"].as_str().unwrap().contains("mount it here as well"), "{told}");
    all.until("well", async |all| volume(all, 0).await.is_some_and(|volume| volume["status"] == "ok")).await;
    fs::remove_dir_all(other.join("secrets")).unwrap();
    symlink(one.join("secrets"), other.join("secrets")).unwrap();
    all.until("mended", async |all| volume(all, 1).await.is_some_and(|volume| volume["status"] == "ok")).await;
}
