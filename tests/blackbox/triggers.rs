//! Everything that says "look again", and how such words merge.

use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::git;
use crate::harness::permission;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Converged, with one permission `p` that says `first`.
async fn world_with_one_permission() -> World {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "first"));
    world.converge().await;
    world
}

/// Nothing but the start and the watcher set off a pass so far.
async fn assert_only_watched(world: &World) {
    world.until("the watcher's pass", async |world| world.passes_by("watch").await > 0).await;
    for trigger in ["interval", "signal", "api"] {
        assert_eq!(world.passes_by(trigger).await, 0, "{trigger}");
    }
}

/// How often this was said, whatever became of it.
async fn events(world: &World, trigger: &str) -> Option<f64> {
    world.metric(&format!("source_events_total{{trigger=\"{trigger}\"}}")).await
}

#[tokio::test]
async fn the_start_is_a_trigger_and_every_other_counts_from_zero() {
    let world = world_with_one_permission().await;

    assert_eq!(world.passes_by("startup").await, 1);
    assert_eq!(world.project().await["lastPass"]["trigger"], "startup");
    assert_eq!(events(&world, "startup").await, Some(1.0));
    for trigger in ["watch", "interval", "signal", "api"] {
        assert_eq!(events(&world, trigger).await, Some(0.0), "{trigger}");
    }
}

#[tokio::test]
async fn every_way_to_change_a_file_is_seen() {
    let world = world_with_one_permission().await;

    world.write("a.yaml", &permission("p", "written"));
    world.until_live("p", "written").await;

    // As editors save.
    world.write(".a.yaml.swp", &permission("p", "renamed over"));
    fs::rename(world.path("repo/.a.yaml.swp"), world.path("repo/a.yaml")).unwrap();
    world.until_live("p", "renamed over").await;

    world.write("new/deep/b.yml", &permission("q", "in a new directory"));
    world.until_live("q", "in a new directory").await;

    world.write("new/deep/b.yml", &permission("q", "edited there"));
    world.until_live("q", "edited there").await;

    // As `sed -i` and some editors do: the old one is moved away first.
    fs::rename(world.path("repo/a.yaml"), world.path("repo/a.yaml~")).unwrap();
    world.write("a.yaml", &permission("p", "made anew"));
    world.until_live("p", "made anew").await;

    fs::remove_dir_all(world.path("repo/new")).unwrap();
    world.until("one resource left", async |world| world.project().await["desired"]["resources"] == 1).await;

    fs::write(world.path("c.yaml"), permission("q", "moved in")).unwrap();
    fs::rename(world.path("c.yaml"), world.path("repo/c.yaml")).unwrap();
    world.until_live("q", "moved in").await;
    assert_only_watched(&world).await;
}

#[tokio::test]
async fn an_edit_is_seen_by_events_long_before_the_poll() {
    let world = world_with_one_permission().await;
    let mut fastest = Duration::MAX;

    for n in 0..6 {
        let text = format!("edit {n}");
        let start = Instant::now();
        world.write("a.yaml", &permission("p", &text));
        world.until_live("p", &text).await;
        fastest = fastest.min(start.elapsed());
    }

    // The poll looks two seconds after the look that saw the edit before. One of six is enough: the machine is busy.
    assert!(fastest < Duration::from_millis(1500), "{fastest:?}");
}

#[tokio::test]
async fn an_edit_that_causes_no_event_is_seen_by_the_poll() {
    let world = world_with_one_permission().await;
    // Written through its other name, a file changes without an event in the directories that are watched.
    fs::create_dir(world.path("elsewhere")).unwrap();
    fs::hard_link(world.path("repo/a.yaml"), world.path("elsewhere/a.yaml")).unwrap();
    world.fresh_pass().await;

    fs::write(world.path("elsewhere/a.yaml"), permission("p", "by the back door")).unwrap();

    world.until_live("p", "by the back door").await;
    assert_eq!(world.project().await["lastPass"]["trigger"], "watch");
}

#[tokio::test]
async fn a_git_checkout_of_another_branch_is_applied() {
    let mut world = World::new().await;
    let repo = world.path("repo");
    git(&repo, &["init", "-q", "-b", "one"]);
    world.write("a.yaml", &permission("p", "branch one"));
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-qm", "one"]);
    git(&repo, &["checkout", "-q", "-b", "two"]);
    world.write("a.yaml", &permission("p", "branch two"));
    world.write("only/in/two.yaml", &permission("q", "branch two"));
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-qm", "two"]);
    git(&repo, &["checkout", "-q", "one"]);
    world.converge().await;
    world.until_live("p", "branch one").await;

    git(&repo, &["checkout", "-q", "two"]);
    world.until_live("p", "branch two").await;
    world.until_live("q", "branch two").await;
    git(&repo, &["checkout", "-q", "one"]);
    world.until_live("p", "branch one").await;
    world.until("branch one alone", async |world| world.project().await["desired"]["resources"] == 1).await;
    git(&repo, &["merge", "-q", "two"]);
    world.until_live("p", "branch two").await;
    git(&repo, &["reset", "-q", "--hard", "HEAD~1"]);
    world.until_live("p", "branch one").await;

    assert_only_watched(&world).await;
}

/// Points a link somewhere else, as git-sync and Kubernetes do: never is there no link.
fn swap(target: &str, link: &Path) {
    let new = link.with_extension("new");
    symlink(target, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

/// A change may land before the status of its pass is shown.
async fn until_commit(world: &World, commit: &str) {
    world.until(commit, async |world| world.project().await["desired"]["commit"] == *commit).await;
}

#[tokio::test]
async fn a_swapped_link_as_git_sync_does_is_followed_and_watched() {
    let mut world = World::new().await;
    world.source_at("current", "debounce: 50ms, interval: 1h");
    let repo = world.path("repo");
    git(&repo, &["init", "-q", "-b", "main"]);
    for text in ["one", "two"] {
        world.write("a.yaml", &permission("p", text));
        git(&repo, &["add", "."]);
        git(&repo, &["commit", "-qm", text]);
        git(&repo, &["worktree", "add", "-q", "--detach", &format!("../worktrees/{text}")]);
    }
    let label = |name: &str| git(&world.path(&format!("worktrees/{name}")), &["rev-parse", "HEAD"])[..7].to_owned();
    let (one, two) = (label("one"), label("two"));
    symlink("worktrees/one", world.path("current")).unwrap();
    world.converge().await;
    world.until_live("p", "one").await;
    assert_eq!(world.project().await["desired"]["commit"], one);

    swap("worktrees/two", &world.path("current"));
    world.until_live("p", "two").await;
    until_commit(&world, &two).await;
    fs::remove_dir_all(world.path("worktrees/one")).unwrap();

    fs::write(world.path("worktrees/two/a.yaml"), permission("p", "edited behind the link")).unwrap();
    world.until_live("p", "edited behind the link").await;
    until_commit(&world, &format!("{two}-dirty")).await;
    assert_only_watched(&world).await;
}

#[tokio::test]
async fn a_config_map_update_is_followed() {
    let mut world = World::new().await;
    let mount = world.path("repo");
    world.write("..2026_1/a.yaml", &permission("p", "one"));
    symlink("..2026_1", mount.join("..data")).unwrap();
    symlink("..data/a.yaml", mount.join("a.yaml")).unwrap();
    world.converge().await;
    world.until_live("p", "one").await;

    for (n, text) in [(2, "two"), (3, "three")] {
        world.write(&format!("..2026_{n}/a.yaml"), &permission("p", text));
        symlink(format!("..2026_{n}"), mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        fs::remove_dir_all(mount.join(format!("..2026_{}", n - 1))).unwrap();
        world.until_live("p", text).await;
    }

    assert_only_watched(&world).await;
}

#[tokio::test]
async fn a_source_directory_that_comes_back_is_loaded_and_watched_again() {
    let world = world_with_one_permission().await;

    for round in ["second", "third"] {
        fs::remove_dir_all(world.path("repo")).unwrap();
        world.until("the loss is told", async |world| world.project().await["desired"]["valid"] == false).await;
        fs::create_dir(world.path("repo")).unwrap();
        world.write("a.yaml", &permission("p", round));
        world.until_live("p", round).await;
    }
    world.until("the return is told", async |world| world.project().await["desired"]["valid"] == true).await;
    let before = world.passes_by("watch").await;
    world.write("a.yaml", &permission("p", "edited afterwards"));
    world.until_live("p", "edited afterwards").await;

    world.until("a pass of the watcher", async |world| world.passes_by("watch").await > before).await;
}

#[tokio::test]
async fn the_interval_is_a_trigger() {
    let mut world = World::with(Setup { interval: "200ms", ..Setup::default() }).await;
    world.write("a.yaml", &permission("p", "first"));
    world.converge().await;

    world.until("four intervals", async |world| world.passes_by("interval").await >= 4).await;

    assert!(events(&world, "interval").await >= Some(4.0));
    assert_eq!(world.passes_by("startup").await, 1);
    assert_eq!(world.passes_by("watch").await, 0);
    assert_eq!(world.project().await["lastPass"]["trigger"], "interval");
}

#[tokio::test]
async fn a_hangup_gives_a_parked_resource_a_fresh_try() {
    let mut world = World::new().await;
    world
        .faults(json!([{ "match": { "method": "POST", "item": "bad" }, "fault": "status", "status": 400,
            "body": { "errorCode": "E011002", "errorDescription": "not today" } }]))
        .await;
    world.write("bad.yaml", &permission("bad", "refused"));
    world.start().await;
    world
        .until("bad parked", async |world| {
            world.project().await["problems"].as_array().unwrap().iter().any(|problem| {
                problem["kind"] == "permissions" && problem["id"] == "bad" && problem["state"] == "parked"
            })
        })
        .await;
    world.faults(json!([])).await;
    // Parked means that a pass alone does not send it again.
    world.write("good.yaml", &permission("good", "fine"));
    world.until_live("good", "fine").await;
    assert_eq!(world.entity("permissions", "bad").await, None);

    world.daemon().signal(Signal::HUP);

    world.until_live("bad", "refused").await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.passes_by("signal").await, 1);
    assert_eq!(events(&world, "signal").await, Some(1.0));
    assert_eq!(world.project().await["problems"], json!([]));
}

#[tokio::test]
async fn a_post_asks_for_a_pass_of_all_projects_or_of_one() {
    let world = world_with_one_permission().await;
    let post = async |query: &str| world.ask(Method::POST, &format!("/api/v1/reconcile{query}")).await;

    for (n, query) in [(1, ""), (2, "?project=default")] {
        let (code, body) = post(query).await;
        assert_eq!(code, 202, "{query}: {body}");
        assert!(serde_json::from_str::<Value>(&body).unwrap().is_object(), "{body}");
        world.until("a pass", async |world| world.passes_by("api").await == n).await;
    }
    for (query, expected) in [("?project=nobody", 404), ("?projekt=default", 400)] {
        let (code, body) = post(query).await;
        assert_eq!(code, expected, "{query}: {body}");
        assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string(), "{body}");
    }
    assert_eq!(world.ask(Method::GET, "/api/v1/reconcile").await.0, 405);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = world.daemon_url().await + "/api/v1/reconcile";
    assert_eq!(client.post(&url).send().await.unwrap().status(), 401);
    assert_eq!(client.post(&url).bearer_auth("wrong").send().await.unwrap().status(), 401);

    // One more that is asked for is one more that is counted: those refused set nothing off.
    world.fresh_pass().await;
    assert_eq!(world.passes_by("api").await, 3);
    assert_eq!(events(&world, "api").await, Some(3.0));
}

#[tokio::test]
async fn fifty_touches_in_a_second_cause_one_or_two_passes_and_the_edit_among_them_counts() {
    let mut world = World::new().await;
    world.source_at("repo", "interval: 1h");
    world.write("a.yaml", &permission("p", "first"));
    world.converge().await;
    let before = world.passes().await;

    for n in 0..50 {
        let text = if n < 25 { "first" } else { "the edit" };
        world.write("a.yaml", &permission("p", text));
        tokio::time::sleep(Duration::from_millis(15)).await;
    }

    world.until_live("p", "the edit").await;
    // Whatever else the touches set off comes before this.
    world.write("a.yaml", &permission("p", "last"));
    world.until_live("p", "last").await;
    world.fresh_pass().await;
    let touched = world.passes().await - before - 2;
    assert!((1..=2).contains(&touched), "{touched} passes");
}

#[tokio::test]
async fn triggers_during_a_pass_cause_exactly_one_more() {
    let world = world_with_one_permission().await;
    let before = world.passes().await;
    let slow = json!([{ "match": { "method": "GET", "path": "/v1/mgmt/permission/all", "times": 1 },
        "fault": "delay", "delay": "4s" }]);
    world.faults(slow).await;
    let fire = async || assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
    fire().await;
    world.until("a pass under way", async |world| world.metric("api_requests_in_flight").await == Some(1.0)).await;

    world.write("a.yaml", &permission("p", "during the pass"));
    for _ in 0..10 {
        fire().await;
        world.daemon().signal(Signal::HUP);
    }
    world.until("the edit seen", async |world| events(world, "watch").await == Some(1.0)).await;
    assert_eq!(world.passes().await, before, "the pass is still under way");
    world.until_live("p", "during the pass").await;
    world.until("both passes", async |world| world.passes().await >= before + 2).await;

    // Of several that wait together, the strongest names the pass.
    assert_eq!(world.passes_by("signal").await, 1);
    world.fresh_pass().await;
    assert_eq!(world.passes().await, before + 3);
}

#[tokio::test]
async fn a_hangup_cuts_the_wait_of_a_backoff_short() {
    let mut world = World::new().await;
    world.reconfigure(|setup| {
        setup.top.push("retry: { maxAttempts: 1, initialBackoff: 10m, maxBackoff: 10m }".to_owned());
    });
    world.faults(json!([{ "match": { "method": "POST" }, "fault": "status", "status": 503 }])).await;
    world.write("a.yaml", &permission("p", "late"));
    world.start().await;
    world.until("delayed", async |world| world.status().await["queue"]["delayed"] == 1).await;
    world.faults(json!([])).await;

    world.daemon().signal(Signal::HUP);

    world.until_live("p", "late").await;
    world.until("converged", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn a_post_for_one_project_leaves_the_others_alone() {
    let mut world = World::new().await;
    let project = |name: &str| {
        format!(
            "  - {{ name: {name}, projectId: P2{name}, path: {name}, baseUrl: '{}', firstContact: apply,
      managementKey: {{ env: BLACKBOX_KEY }} }}",
            world.api
        )
    };
    let projects = format!("projects:\n{}\n{}", project("one"), project("two"));
    world.reconfigure(|setup| setup.top.push(projects));
    for name in ["one", "two"] {
        world.write(&format!("{name}/a.yaml"), &permission("p", name));
    }
    world.start().await;
    let count = async |world: &World, project: &str| {
        let text = world.ask(Method::GET, "/metrics").await.1;
        let label = format!("project=\"{project}\",");
        let lines = text.lines().filter(|l| l.starts_with("descope_gitops_passes_total{") && l.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    world
        .until("both converged", async |world| {
            world.status().await["projects"].as_array().unwrap().iter().all(|project| project["converged"] == true)
        })
        .await;
    let (one, two) = (count(&world, "one").await, count(&world, "two").await);

    let (code, body) = world.ask(Method::POST, "/api/v1/reconcile?project=two").await;
    assert_eq!(code, 202, "{body}");
    world.until("a pass of two", async |world| count(world, "two").await == two + 1).await;
    assert_eq!(count(&world, "one").await, one);

    // An edit concerns its project alone.
    world.write("one/a.yaml", &permission("p", "edited"));
    world.until("a pass of one", async |world| count(world, "one").await == one + 1).await;
    assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
    world.until("a pass of both", async |world| count(world, "two").await == two + 2).await;
    world.until("a pass of both", async |world| count(world, "one").await == one + 2).await;
    // What concerns two projects was still said once.
    assert_eq!(events(&world, "startup").await, Some(1.0));
    assert_eq!(events(&world, "api").await, Some(2.0));
}

/// It had ended the daemon: whoever tells it to look again may not know that it was just started.
#[tokio::test]
async fn a_hangup_while_the_settings_are_read_is_no_reason_to_end() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "first"));
    let config = world.path("config.yaml");
    let text = fs::read(&config).unwrap();
    fs::remove_file(&config).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &config, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let mut pipe = fs::File::options().read(true).write(true).open(&config).unwrap();
    pipe.write_all(&text[..1]).unwrap();
    world.daemon = Some(Process::start(world.command(&["run"])));
    world.until("it reads", async |_| rustix::io::ioctl_fionread(&pipe).unwrap() == 0).await;

    world.daemon().signal(Signal::HUP);

    pipe.write_all(&text[1..]).unwrap();
    drop(pipe);
    world.converge().await;
}
