//! Which files are the newest, where each replica has a checkout of its own.

use crate::harness::Process;
use crate::harness::git;
use crate::harness::permission;
use crate::postgres::Postgres;
use crate::replicas::Replicas;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;
use tokio::time::Instant;

const BEHIND: &str = "stale_revision";

/// As git-sync leaves it: another one is put in its place.
pub fn check_out(all: &Replicas, checkout: &str, text: &str) {
    let dir = all.world.path(checkout);
    fs::create_dir_all(&dir).unwrap();
    let (new, file) = (all.world.path(&format!("{checkout}.new")), dir.join("p.yaml"));
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

pub fn say(all: &Replicas, checkouts: &[&str], description: &str) {
    for checkout in checkouts {
        check_out(all, checkout, &permission("p", description));
    }
}

pub async fn start(all: &mut Replicas, checkout: &str) -> usize {
    let source = all.world.path(checkout);
    let process = Process::start(all.world.command(&["--source", source.to_str().unwrap(), "run"]));
    all.start_as(process).await
}

/// Gives back what it holds.
pub async fn stop(all: &mut Replicas, replica: usize) {
    let mut gone = all.running.remove(replica);
    gone.process.signal(Signal::TERM);
    gone.process.ended().await;
}

pub async fn is_live(all: &Replicas, description: &str) -> bool {
    all.world.entity("permissions", "p").await.is_some_and(|one| one["description"] == description)
}

pub async fn until_live(all: &Replicas, description: &str) {
    all.until(description, async |all| is_live(all, description).await).await;
}

/// Other files than before were loaded there so many times. Its status is that of the holder.
async fn has_loaded(all: &Replicas, replica: usize, times: usize) -> bool {
    let line = format!("source_loads_total{{result=\"changed\"}} {times}\n");
    all.ask(replica, "/metrics").await.is_some_and(|(_, text)| text.contains(&line))
}

/// Some replica holds the project and writes nothing, since its files are older.
pub async fn until_behind(all: &Replicas) -> usize {
    let started = Instant::now();
    loop {
        let holder = all.holder().await;
        let project = all.project(holder).await.unwrap_or_default();
        if project["lease"]["isMine"] == true && project["notConvergedBecause"] == BEHIND {
            return holder;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "none is behind: {}", all.tails());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// And so are the others.
pub async fn until_all_are_behind(all: &Replicas) -> usize {
    let holder = until_behind(all).await;
    for replica in 0..all.running.len() {
        all.until("behind", async |all| {
            let health = all.ask(replica, "/healthz").await;
            let health: Option<Value> = health.and_then(|(_, text)| serde_json::from_str(&text).ok());
            let is_it = |component: &Value| component["name"] == "checkout" && component["status"] == "degraded";
            health.is_some_and(|health| health["components"].as_array().is_some_and(|all| all.iter().any(is_it)))
        })
        .await;
    }
    holder
}

pub fn lines(all: &Replicas, text: &str) -> usize {
    all.running.iter().map(|one| one.process.lines().iter().filter(|line| line.contains(text)).count()).sum()
}

/// The two of `checkouts` run at `old`, and `new` is in force.
pub async fn left_behind(all: &mut Replicas) {
    say(all, &["a", "b", "c"], "old");
    start(all, "a").await;
    all.converge().await;
    for checkout in ["b", "c"] {
        let standby = start(all, checkout).await;
        all.until("ready", async |all| all.ask(standby, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    }
    say(all, &["a"], "new");
    until_live(all, "new").await;
    all.kill(0).await;
}

/// Each gave back what it had not, again and again, and nobody wrote for ever.
#[tokio::test]
async fn where_all_were_behind_whoever_moves_on_writes() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    left_behind(&mut all).await;
    until_all_are_behind(&all).await;
    assert!(is_live(&all, "new").await, "{}", all.tails());

    say(&all, &["b", "c"], "new");
    all.converge().await;
    say(&all, &["b", "c"], "newest");

    until_live(&all, "newest").await;
    assert!(lines(&all, "giving a lease back") <= 2, "{}", all.tails());
}

/// What was in force and written was called an older one by a replica whose own files were older.
#[tokio::test]
async fn what_is_applied_is_newer_than_files_that_are_behind() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    say(&all, &["a", "b"], "old");
    start(&mut all, "a").await;
    all.converge().await;
    let standby = start(&mut all, "b").await;
    all.until("ready", async |all| all.ask(standby, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    let old = all.project(0).await.unwrap()["desired"]["revision"].clone();
    say(&all, &["a"], "new");
    all.until("applied", async |all| {
        all.project(0).await.is_some_and(|it| it["converged"] == true && it["applied"]["revision"] != old)
    })
    .await;
    let new = all.project(0).await.unwrap()["applied"].clone();
    assert_eq!(new["isNewer"], false, "{new}");
    all.kill(0).await;

    let behind = until_all_are_behind(&all).await;
    let shown = all.project(behind).await.unwrap();
    assert_eq!((&shown["desired"]["revision"], &shown["applied"]["revision"]), (&old, &new["revision"]), "{shown:#}");
    assert_eq!(shown["applied"]["isNewer"], true, "{shown:#}");
    say(&all, &["b"], "new");
    all.converge().await;
    assert_eq!(all.project(behind).await.unwrap()["applied"]["isNewer"], false);
}

#[tokio::test]
async fn of_those_that_were_behind_one_that_skips_what_was_in_force_writes() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    left_behind(&mut all).await;
    let behind = until_all_are_behind(&all).await;
    let other = ["c", "b"][behind];

    // The one that stands by.
    say(&all, &[other], "newest");

    until_live(&all, "newest").await;
    assert!(!all.is_holder(behind).await, "{}", all.tails());
}

/// It had moved to these files from those that are in force again, before they were.
#[tokio::test]
async fn a_move_of_before_turns_no_rollback_back() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    say(&all, &["a", "b"], "old");
    start(&mut all, "a").await;
    all.converge().await;
    let other = start(&mut all, "b").await;
    all.until("loaded", async |all| has_loaded(all, other, 1).await).await;
    say(&all, &["a", "b"], "new");
    until_live(&all, "new").await;
    all.until("moved", async |all| has_loaded(all, 0, 2).await && has_loaded(all, other, 2).await).await;
    let holder = all.holder().await;
    let back = ["a", "b"][holder];
    say(&all, &[back], "old");
    until_live(&all, "old").await;
    all.kill(holder).await;

    until_behind(&all).await;

    assert!(is_live(&all, "old").await, "{}", all.tails());
    let again = start(&mut all, back).await;
    all.until("taken over", async |all| all.is_holder(again).await).await;
    all.converge().await;
    assert!(is_live(&all, "old").await, "{}", all.tails());
}

#[tokio::test]
async fn files_that_were_rolled_back_while_nothing_ran_go_ahead_when_they_are_approved() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    say(&all, &["a", "b"], "old");
    start(&mut all, "a").await;
    all.converge().await;
    let old = all.project(0).await.unwrap()["desired"]["revision"].as_str().unwrap().to_owned();
    say(&all, &["a"], "new");
    until_live(&all, "new").await;
    stop(&mut all, 0).await;
    say(&all, &["a"], "old");

    start(&mut all, "a").await;
    start(&mut all, "b").await;
    let holder = until_behind(&all).await;

    assert!(is_live(&all, "new").await, "{}", all.tails());
    let advice = format!("descope-gitops approve --project default {old}");
    all.until("said", async |all| lines(all, &advice) > 0).await;
    // It waited for a plan that never came, and said that there was nobody who could.
    let asked = Instant::now();
    let (code, said) = all.post(1 - holder, &format!("/api/v1/approve?plan={}", &old[..7])).await;
    let known = said["error"].as_str().is_some_and(|what| what.contains(&advice));
    assert!(code == 409 && known && asked.elapsed() < Duration::from_secs(20), "{:?}: {said}", asked.elapsed());
    // At the other.
    let (code, said) = all.post(1 - holder, &format!("/api/v1/approve?plan={old}")).await;
    assert_eq!((code, &said["inForce"], &said["approved"]), (200, &Value::from(old.clone()), &Value::Null), "{said}");
    until_live(&all, "old").await;
    all.converge().await;
    let (code, said) = all.post(holder, &format!("/api/v1/approve?plan={old}")).await;
    assert_eq!(code, 409, "it counts once: {said}");
}

/// The holder's checkout stood still, and all was well as far as anybody could see.
#[tokio::test]
async fn what_only_one_that_stands_by_has_lands() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    say(&all, &["a", "b"], "old");
    start(&mut all, "a").await;
    all.converge().await;
    let other = start(&mut all, "b").await;
    all.until("ready", async |all| all.ask(other, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;

    say(&all, &["b"], "new");

    until_live(&all, "new").await;
    all.converge().await;
    assert!(all.is_holder(other).await && !all.is_holder(0).await, "{}", all.tails());
    let said = "does what brings it, such as git-sync, run?";
    all.until("said", async |all| all.ask(0, "/healthz").await.is_some_and(|(_, text)| text.contains(said))).await;
    assert_eq!(lines(&all, "giving a lease back"), 1, "{}", all.tails());
    // It follows, and nobody hands anything over.
    say(&all, &["a"], "new");
    all.until("well", async |all| all.ask(0, "/healthz").await.is_some_and(|(_, text)| !text.contains(said))).await;
    assert!(all.is_holder(other).await, "{}", all.tails());
}

#[tokio::test]
async fn one_that_began_with_files_nobody_knows_waits_for_whoever_has_those_in_force() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    say(&all, &["a"], "old");
    say(&all, &["b"], "unknown");
    start(&mut all, "a").await;
    all.converge().await;
    let other = start(&mut all, "b").await;
    let said = "does what brings it, such as git-sync, run?";
    all.until("said", async |all| all.ask(other, "/healthz").await.is_some_and(|(_, text)| text.contains(said))).await;
    assert!(all.is_holder(0).await && is_live(&all, "old").await, "{}", all.tails());

    stop(&mut all, 0).await;

    until_live(&all, "unknown").await;
}

/// It held the project for ever, and had nothing to write.
#[tokio::test]
async fn one_without_files_that_can_be_used_gives_the_lease_to_one_that_has_some() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    say(&all, &["a"], "old");
    check_out(&all, "b", "roles: [");
    start(&mut all, "a").await;
    all.converge().await;
    start(&mut all, "b").await;
    all.kill(0).await;
    all.until("taken over", async |all| all.is_holder(0).await).await;

    say(&all, &["a"], "new");
    let healthy = start(&mut all, "a").await;

    until_live(&all, "new").await;
    assert!(all.is_holder(healthy).await && !all.is_holder(0).await, "{}", all.tails());
}

/// A repo of commits with these descriptions, the first one first, each a minute after the one before. Their hashes.
fn commits(all: &Replicas, descriptions: &[&str]) -> Vec<String> {
    let repo = all.world.path("repo");
    fs::create_dir_all(&repo).unwrap();
    git(&repo, &["init", "-q", "-b", "main"]);
    git(&repo, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let commit = |(at, description): (usize, &&str)| {
        fs::write(repo.join("p.yaml"), permission("p", description)).unwrap();
        git(&repo, &["add", "-A"]);
        let tree = git(&repo, &["write-tree"]);
        let parent = if at == 0 { String::new() } else { format!("parent {}\n", git(&repo, &["rev-parse", "HEAD"])) };
        let who = format!("t <t@example.com> {} +0000", 1_700_000_000 + at * 60);
        let text = format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{description}\n");
        fs::write(repo.join(".git/commit"), text).unwrap();
        let hash = git(&repo, &["hash-object", "-t", "commit", "-w", ".git/commit"]);
        git(&repo, &["update-ref", "HEAD", &hash]);
        hash
    };
    descriptions.iter().enumerate().map(commit).collect()
}

/// As git-sync does: beside the one before, with no history, and a link to it.
fn fetch(all: &Replicas, checkout: &str, commit: &str) {
    let (dir, link) = (all.world.path(&format!("{checkout}-{commit}")), all.world.path(&format!("{checkout}.new")));
    fs::create_dir_all(&dir).unwrap();
    git(&dir, &["init", "-q", "-b", "main"]);
    let url = format!("file://{}", all.world.path("repo").display());
    git(&dir, &["fetch", "-q", "--depth=1", &url, commit]);
    git(&dir, &["reset", "-q", "--hard", commit]);
    symlink(&dir, &link).unwrap();
    fs::rename(link, all.world.path(checkout)).unwrap();
}

/// With all of it.
fn clone(all: &Replicas, checkout: &str, commit: &str) {
    let (dir, repo) = (all.world.path(checkout), all.world.path("repo"));
    git(all.world.path(".").as_path(), &["clone", "-q", repo.to_str().unwrap(), dir.to_str().unwrap()]);
    git(&dir, &["reset", "-q", "--hard", commit]);
}

async fn is_at(all: &Replicas, replica: usize, commit: &str) -> bool {
    all.project(replica).await.is_some_and(|project| project["desired"]["commit"] == commit[..7])
}

/// Nothing else than these was ever written.
async fn assert_written(all: &Replicas, descriptions: &[&str]) {
    let log = serde_json::to_string(&all.world.log().await).unwrap();
    let written = ["one", "two", "three", "four"].into_iter().filter(|text| log.contains(&format!("{text}-of-repo")));
    assert_eq!(written.collect::<Vec<_>>(), descriptions, "{log}");
}

/// The replica of checkout `a` has moved on from the first commit to the third; that of `b`, which is named, is at the first.
async fn one_at_the_third(all: &mut Replicas, descriptions: &[&str]) -> (Vec<String>, usize) {
    let hashes = commits(all, descriptions);
    fetch(all, "a", &hashes[0]);
    fetch(all, "b", &hashes[0]);
    start(all, "a").await;
    all.converge().await;
    let late = start(all, "b").await;
    all.until("loaded", async |all| has_loaded(all, late, 1).await).await;
    fetch(all, "a", &hashes[2]);
    all.until("moved", async |all| is_at(all, 0, &hashes[2]).await).await;
    until_live(all, descriptions[2]).await;
    (hashes, late)
}

/// It was put in force when it had stood there for one life, and those with the newer one were told to be behind.
#[tokio::test]
async fn a_commit_that_the_others_skipped_is_not_in_force_when_it_comes_late() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    let [one, two, three, four] = ["one-of-repo", "two-of-repo", "three-of-repo", "four-of-repo"];
    let (hashes, late) = one_at_the_third(&mut all, &[one, two, three, four]).await;

    fetch(&all, "b", &hashes[1]);
    all.until("loaded", async |all| has_loaded(all, late, 2).await).await;
    all.kill(0).await;
    until_behind(&all).await;
    let said = "these files are older than those that were in force last";
    all.until("said", async |all| lines(all, said) > 0).await;

    assert!(is_live(&all, three).await, "{}", all.tails());
    fetch(&all, "b", &hashes[3]);
    until_live(&all, four).await;
    all.converge().await;
    assert_written(&all, &["one", "three", "four"]).await;
}

/// The files of the third commit are those of the first: whoever moved from there came from the newest, it seemed.
#[tokio::test]
async fn a_commit_that_was_reverted_is_not_in_force_when_it_comes_late() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    let [one, two, four] = ["one-of-repo", "two-of-repo", "four-of-repo"];
    let (hashes, late) = one_at_the_third(&mut all, &[one, two, one, four]).await;

    fetch(&all, "b", &hashes[1]);
    let said = "does what brings it, such as git-sync, run?";
    all.until("said", async |all| all.ask(late, "/healthz").await.is_some_and(|(_, text)| text.contains(said))).await;

    assert!(is_live(&all, one).await, "{}", all.tails());
    fetch(&all, "b", &hashes[3]);
    until_live(&all, four).await;
    assert_written(&all, &["one", "four"]).await;
}

/// Its commits said that they are newer, and it waited for as long as the other one ran.
#[tokio::test]
async fn a_new_replica_goes_ahead_beside_one_whose_checkout_stands_still() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    let [one, two, three, four] = ["one-of-repo", "two-of-repo", "three-of-repo", "four-of-repo"];
    let hashes = commits(&all, &[one, two, three, four]);
    clone(&all, "a", &hashes[0]);
    clone(&all, "b", &hashes[2]);
    start(&mut all, "a").await;
    all.converge().await;

    let healthy = start(&mut all, "b").await;

    until_live(&all, three).await;
    all.until("taken over", async |all| all.is_holder(healthy).await).await;
    assert_written(&all, &["one", "three"]).await;
}

/// They took over while the one with those in force was started anew.
#[tokio::test]
async fn files_that_nobody_knows_wait_while_the_holder_is_started_anew() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, "15s", &[]).await;
    say(&all, &["a"], "old");
    say(&all, &["b"], "unknown");
    start(&mut all, "a").await;
    all.converge().await;
    let other = start(&mut all, "b").await;
    all.until("loaded", async |all| has_loaded(all, other, 1).await).await;

    stop(&mut all, 0).await;
    all.until("taken over", async |all| all.is_holder(0).await).await;
    let again = start(&mut all, "a").await;
    all.until("taken back", async |all| all.is_holder(again).await).await;
    all.converge().await;

    let log = serde_json::to_string(&all.world.log().await).unwrap();
    assert!(is_live(&all, "old").await && !log.contains("unknown"), "{}", all.tails());
    // They are nobody's for ever: somebody may say so.
    let (_, said) = all.post(again, "/api/v1/approve?plan=none").await;
    let what = said["error"].as_str().unwrap().to_owned();
    let revision =
        what.split("--project default ").nth(1).and_then(|rest| rest.get(..16)).unwrap_or_default().to_owned();
    let (code, said) = all.post(again, &format!("/api/v1/approve?plan={revision}")).await;
    assert_eq!(code, 200, "{said} after {what}");
    until_live(&all, "unknown").await;
}
