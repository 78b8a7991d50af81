//! Files that are put aside, and replicas that Descope refuses: whichever replica is asked says which, since when, whether that needs
//! anybody, and what ends it.

use crate::clock::library;
use crate::harness::KEY;
use crate::harness::Process;
use crate::harness::missing;
use crate::page::browser;
use crate::page::end;
use crate::postgres::Postgres;
use crate::replicas::NEVER;
use crate::replicas::Replicas;
use crate::replicas::permissions;
use crate::revisions::check_out;
use crate::revisions::is_live;
use crate::revisions::left_behind;
use crate::revisions::lines;
use crate::revisions::say;
use crate::revisions::start;
use crate::revisions::stop;
use crate::revisions::until_all_are_behind;
use crate::revisions::until_behind;
use crate::revisions::until_live;
use serde_json::Value;
use serde_json::json;
use std::cell::RefCell;
use std::time::Duration;

const ASIDE: &str = "stale_revision";

async fn plan(all: &Replicas, replica: usize) -> Value {
    let Some((_, text)) = all.ask(replica, "/api/v1/plan").await else { return Value::Null };
    serde_json::from_str::<Value>(&text).unwrap()["projects"][0].clone()
}

async fn text(all: &Replicas, replica: usize, command: &str) -> String {
    let url = all.running[replica].url.clone();
    let output = all.world.run(&[command, "--url", &url]).await;
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn gauge(all: &Replicas, replica: usize, name: &str) -> bool {
    let line = format!("descope_gitops_{name}{{project=\"default\"}} 1\n");
    all.ask(replica, "/metrics").await.is_some_and(|(_, text)| text.contains(&line))
}

/// The one that is held because files are put aside, as status and plan say alike.
async fn hold(all: &Replicas, replica: usize) -> Option<Value> {
    let of = |project: &Value| {
        let holds =
            project["holds"].as_array()?.iter().filter(|hold| hold["reason"] == ASIDE).cloned().collect::<Vec<_>>();
        assert!(holds.len() <= 1, "{holds:?}");
        holds.into_iter().next()
    };
    let (status, plan) = (all.project(replica).await?, plan(all, replica).await);
    let found = of(&status)?;
    (of(&plan)? == found).then_some(found)
}

async fn needs(all: &Replicas, replica: usize, who: &str) -> bool {
    all.project(replica).await.is_some_and(|project| project["checkouts"]["needs"] == who)
}

fn named(project: &Value, is_it: impl Fn(&Value) -> bool) -> Value {
    let replicas = project["checkouts"]["replicas"].as_array().unwrap();
    replicas.iter().find(|one| is_it(one)).unwrap_or_else(|| panic!("{project:#}")).clone()
}

/// The page called it starting, needed nobody, and neither status nor plan listed a hold.
#[tokio::test]
async fn where_all_are_put_aside_each_replica_says_so_and_names_the_order_that_ends_it() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    left_behind(&mut all).await;
    let holder = until_all_are_behind(&all).await;

    for replica in 0..all.running.len() {
        all.until("said to need somebody", async |all| needs(all, replica, "act").await).await;
        all.until("held", async |all| hold(all, replica).await.is_some()).await;
        let (found, project) = (hold(&all, replica).await.unwrap(), all.project(replica).await.unwrap());
        let (own, in_force) = (named(&project, |one| one["isMine"] == true), &project["checkouts"]["inForce"]);
        let revision = own["revision"].as_str().unwrap();
        assert!(found["since"].is_string() && found["approvable"] == true && found["until"].is_null(), "{found}");
        let why = found["why"].as_str().unwrap();
        for name in
            project["checkouts"]["replicas"].as_array().unwrap().iter().map(|one| one["replica"].as_str().unwrap())
        {
            assert!(why.contains(name), "{why}");
        }
        assert!(why.contains(&revision[..12]) && why.contains(&in_force.as_str().unwrap()[..12]), "{why}");
        let order = format!("descope-gitops approve --project default {revision}");
        assert!(found["endsWith"].as_str().unwrap().contains(&order), "{found}");
        assert_eq!(own["isHolder"], replica == holder, "{project:#}");
        let (status, plan) = (text(&all, replica, "status").await, text(&all, replica, "plan").await);
        for said in [&status, &plan] {
            assert!(said.contains("held") && said.contains(ASIDE) && said.contains(&order), "{said}");
        }
        assert!(!plan.contains("nothing to change") && plan.contains("the files are put aside"), "{plan}");
        assert!(gauge(&all, replica, "checkout_behind").await);
        let (_, health) = all.ask(replica, "/healthz").await.unwrap();
        assert!(health.contains("no replica has the files in force"), "{health}");
    }
    let url = all.running[holder].url.clone();
    let differs = all.world.run(&["plan", "--url", &url, "--exit-code"]).await;
    assert_eq!(differs.status.code(), Some(2), "what nobody looks at may differ");
    let (code, ready) = all.ask(holder, "/readyz").await.unwrap();
    assert!(code == 503 && ready.contains("its files are put aside"), "{ready}");
    let (_, ready) = all.ask(1 - holder, "/readyz").await.unwrap();
    assert!(ready.contains("\"ready\""), "{ready}");
    let revision = all.project(holder).await.unwrap()["checkouts"]["approvable"].as_str().unwrap().to_owned();
    let (code, said) = all.post(1 - holder, &format!("/api/v1/approve?plan={revision}&project=default")).await;
    assert_eq!(code, 200, "{said}");

    until_live(&all, "old").await;

    for replica in 0..all.running.len() {
        all.until("over", async |all| {
            needs(all, replica, "nobody").await
                && hold(all, replica).await.is_none()
                && !gauge(all, replica, "checkout_behind").await
        })
        .await;
    }
}

/// It was shown in sync without a word, as the holder was.
#[tokio::test]
async fn one_whose_checkout_stands_still_is_named_at_every_replica_and_one_that_follows_is_not() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    say(&all, &["a", "b"], "old");
    start(&mut all, "a").await;
    all.converge().await;
    start(&mut all, "b").await;
    all.until("ready", async |all| all.ask(1, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    assert!(needs(&all, 1, "nobody").await && hold(&all, 1).await.is_none());

    say(&all, &["a"], "new");
    until_live(&all, "new").await;
    all.converge().await;

    for replica in [0, 1] {
        let seen = RefCell::new(None);
        // Which checkout is behind a replica tells by itself, and whether the project is converged as the holder said last.
        all.until("seen", async |all| {
            let (found, project) = (hold(all, replica).await, all.project(replica).await);
            let is_it = |project: &Value| project["checkouts"]["needs"] == "look" && project["converged"] == true;
            seen.replace(found.zip(project).filter(|(_, project)| is_it(project)));
            seen.borrow().is_some()
        })
        .await;
        let (found, project) = seen.take().unwrap();
        let own = named(&project, |one| one["isHolder"] == false);
        let name = own["replica"].as_str().unwrap();
        assert_eq!(found["approvable"], true, "{project:#}");
        assert_eq!(
            (&found["stopsProject"], &found["revision"]),
            (&Value::Null, &own["revision"]),
            "the project is written"
        );
        assert!(
            found["why"].as_str().unwrap().contains(name) && found["endsWith"].as_str().unwrap().contains(name),
            "{found}"
        );
        assert!(found["endsWith"].as_str().unwrap().contains("git-sync"), "{found}");
        let said = text(&all, replica, "status").await;
        assert!(said.contains(name) && said.contains(ASIDE), "{said}");
        assert_eq!(gauge(&all, replica, "checkout_behind").await, replica == 1);
    }
    say(&all, &["b"], "new");
    for replica in [0, 1] {
        all.until("over", async |all| needs(all, replica, "nobody").await && hold(all, replica).await.is_none()).await;
    }

    // Or somebody means them: they are approvable wherever they lie.
    say(&all, &["a"], "newest");
    until_live(&all, "newest").await;
    all.until("seen", async |all| hold(all, 0).await.is_some()).await;
    let revision = hold(&all, 0).await.unwrap()["revision"].as_str().unwrap().to_owned();
    let (code, said) = all.post(0, &format!("/api/v1/approve?project=default&plan={revision}")).await;
    assert_eq!((code, &said["inForce"]), (200, &json!(revision)));
    until_live(&all, "new").await;
}

/// It kept its lease and paused the project for ever, though the other could write it.
#[tokio::test]
async fn a_replica_with_a_wrong_key_leaves_the_project_to_another_and_is_named() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &["--management-key", KEY]).await;
    all.world.write("some.yaml", &permissions(2));
    let mut wrong = all.world.command(&["run"]);
    wrong.env("BLACKBOX_KEY", "K2wrong");
    all.start_as(Process::start(wrong)).await;
    all.until("paused", async |all| {
        all.project(0).await.is_some_and(|project| project["notConvergedBecause"] == "paused")
    })
    .await;

    all.start().await;

    all.converge_on(2).await;
    all.until("said", async |all| gauge(all, 0, "replica_refused").await).await;
    assert!(all.is_holder(1).await, "{}", all.tails());
    for replica in [0, 1] {
        all.until("named", async |all| needs(all, replica, "look").await).await;
        let project = all.project(replica).await.unwrap();
        let refused = named(&project, |one| one["refused"].is_string());
        assert_eq!((&refused["refused"], &refused["isHolder"]), (&json!("management key refused"), &json!(false)));
        assert!(refused["refusedSince"].is_string() && refused["isMine"] == (replica == 0), "{project:#}");
        let said = text(&all, replica, "status").await;
        assert!(said.contains(&format!("REFUSED at the replica {}", refused["replica"].as_str().unwrap())), "{said}");
    }
    all.world.write("more.yaml", "permissions: [{ name: more, description: d }]\n");
    all.until("created", async |all| all.world.entity("permissions", "more").await.is_some()).await;
    assert_eq!(lines(&all, "giving a lease back"), 1, "to and fro: {}", all.tails());
    let Some(browser) = browser() else { return };
    let name =
        named(&all.project(1).await.unwrap(), |one| one["refused"].is_string())["replica"].as_str().unwrap().to_owned();
    let expect = [
        &*format!("Descope refuses the replica {name}"),
        "another replica writes the project",
        "In sync, but Descope refuses a replica",
    ];
    for replica in [0, 1] {
        let url = all.running[replica].url.clone() + "/";
        let more = json!({ "expect": expect, "name": format!("key-refused-at-one-{replica}") });
        end(browser.start_at(&url, &all.world, "look", &more), "look").await;
    }
}

/// Each tries once, and whoever has it then keeps it.
#[tokio::test]
async fn where_every_replica_is_refused_the_lease_does_not_go_to_and_fro() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &["--management-key", "K2another"]).await;
    all.world.reconfigure(|setup| {
        setup.top.push("retry: { maxAttempts: 1, initialBackoff: 20ms, maxBackoff: 200ms }".to_owned());
    });
    all.world.write("some.yaml", &permissions(2));
    all.start().await;
    all.start().await;
    for replica in [0, 1] {
        all.until("refused", async |all| gauge(all, replica, "replica_refused").await).await;
    }
    let before = lines(&all, "giving a lease back");

    // It would go away with the next renewal, or the one after it.
    all.keep_their_lease_for(server, Duration::from_secs(6)).await;

    assert!(before <= 1 && lines(&all, "giving a lease back") == before, "{}", all.tails());
}

/// What had announced newer files was gone before anybody had them, and all that was queued by the older ones went out.
#[tokio::test]
async fn newer_files_that_were_announced_stop_the_queue_though_whoever_had_them_is_gone() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, "4s", &["--latency=300ms"]).await;
    all.world.reconfigure(|setup| setup.top.push("concurrency: 1".to_owned()));
    all.world.write("p.yaml", "");
    for checkout in ["a", "b"] {
        check_out(&all, checkout, &permissions(1));
    }
    start(&mut all, "a").await;
    all.converge_on(1).await;
    let other = start(&mut all, "b").await;
    all.until("ready", async |all| all.ask(other, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    // Each is a call of its own.
    let tenants: String = (0..60).map(|n| format!("  - {{ id: t{n}, name: t{n} }}\n")).collect();
    let work = format!("{}tenants:\n{tenants}", permissions(1));
    for checkout in ["a", "b"] {
        check_out(&all, checkout, &work);
    }
    let made = async |all: &Replicas| all.world.live().await["tenants"].as_array().map_or(0, Vec::len);
    all.until("at work", async |all| made(all).await > 4).await;

    let newer = permissions(1) + "  - { name: newer, description: newer }\n";
    check_out(&all, "b", &newer);
    let database = all.database();
    all.until("announced", async |_| server.sql(&database, "SELECT count(*) FROM revision").trim() == "3").await;
    stop(&mut all, other).await;

    until_behind(&all).await;
    let idle = "descope_gitops_queue_depth{state=\"in_flight\"} 0\n";
    all.until("idle", async |all| all.ask(0, "/metrics").await.is_some_and(|(_, text)| text.contains(idle))).await;
    let count = made(&all).await;
    // Twelve calls, where the queue goes on.
    all.keep_their_lease_for(server, Duration::from_secs(4)).await;
    assert_eq!(made(&all).await, count, "{}", all.tails());
    assert!(count < 50, "{count}");
    check_out(&all, "a", &newer);
    all.until("in force", async |all| all.world.entity("permissions", "newer").await.is_some()).await;
}

/// Some times were the holder's, others the database's.
#[tokio::test]
async fn all_times_that_are_shown_are_of_one_clock() {
    let Some(server) = Postgres::start() else { return };
    let Some(library) = library() else { return missing("no libfaketime: no clock differs") };
    let mut all = Replicas::with(server, NEVER, &[]).await;
    all.world.write("some.yaml", &permissions(2));
    let ahead = Process::start(all.with_clock(&library, "+2h"));
    all.start_as(ahead).await;
    all.converge_on(2).await;
    let behind = Process::start(all.with_clock(&library, "-2h"));
    let other = all.start_as(behind).await;
    all.until("heard", async |all| {
        let is_whole =
            |project: Value| project["lease"]["statusOf"].is_string() && project["applied"]["at"].is_string();
        all.project(other).await.is_some_and(is_whole)
    })
    .await;

    let now = std::time::SystemTime::now();
    let is_near = |time: &Value| {
        let time = humantime::parse_rfc3339(time.as_str().unwrap_or_else(|| panic!("{time}"))).unwrap();
        let far = now.duration_since(time).unwrap_or_else(|error| error.duration());
        far < Duration::from_secs(600)
    };
    for replica in [0, other] {
        let project = all.project(replica).await.unwrap();
        let pass = &project["lastPass"];
        for time in
            [&pass["startedAt"], &pass["finishedAt"], &project["lastSuccessAt"], &project["desired"]["loadedAt"]]
        {
            assert!(is_near(time), "{replica}: {time}: {project:#}");
        }
        for time in [&project["applied"]["at"], &project["lease"]["since"]] {
            assert!(is_near(time), "{replica}: {time}: {project:#}");
        }
        // The interval is an hour.
        let next = humantime::parse_rfc3339(project["nextPassAt"].as_str().unwrap()).unwrap();
        assert!(next > now && next < now + Duration::from_secs(80 * 60), "{project:#}");
        let (_, passes) = all.ask(replica, "/api/v1/history?since=1h").await.unwrap();
        let passes: Value = serde_json::from_str(&passes).unwrap();
        assert!(passes["passes"].as_array().unwrap().iter().all(|pass| is_near(&pass["finishedAt"])), "{passes}");
        assert!(!passes["passes"].as_array().unwrap().is_empty(), "an hour before now there was no pass");
    }
    let at = all.project(other).await.unwrap()["lease"]["statusAt"].clone();
    assert!(is_near(&at), "{at}");
}

/// It was a project that starts.
#[tokio::test]
async fn a_project_that_no_replica_takes_is_said_to_need_somebody() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    all.world.write("some.yaml", &permissions(2));
    all.start().await;
    all.converge_on(2).await;
    let other = all.start().await;
    all.until("ready", async |all| all.ask(other, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    let database = all.database();

    // Of a release that all of these are older than.
    server.sql(&database, "INSERT INTO schema_version (version) VALUES (1000)");

    for replica in [0, other] {
        all.until("said", async |all| needs(all, replica, "act").await).await;
        let project = all.project(replica).await.unwrap();
        assert!(project["lease"]["holder"].is_null() && hold(&all, replica).await.is_none(), "{project:#}");
        let said = text(&all, replica, "status").await;
        assert!(said.contains("NO REPLICA HOLDS IT"), "{said}");
    }
    let Some(browser) = browser() else { return };
    for replica in [0, other] {
        let url = all.running[replica].url.clone() + "/";
        let expect = ["No replica writes it: somebody has to act", "See to the log of each replica"];
        let more = json!({ "expect": expect, "never": ["Starting"], "name": format!("unheld-{replica}") });
        end(browser.start_at(&url, &all.world, "look", &more), "look").await;
    }
}

/// In each state, in each view.
#[tokio::test]
async fn the_page_shows_files_that_are_put_aside_and_never_a_start_that_does_not_end() {
    let Some(browser) = browser() else { return };
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    let look = async |all: &Replicas, replica: usize, name: &str, expect: &[&str], never: &[&str]| {
        let url = all.running[replica].url.clone() + "/";
        let more = json!({ "expect": expect, "never": never, "name": name });
        end(browser.start_at(&url, &all.world, "look", &more), name).await;
    };
    say(&all, &["a", "b", "c"], "old");
    start(&mut all, "a").await;
    all.converge().await;
    for checkout in ["b", "c"] {
        let standby = start(&mut all, checkout).await;
        all.until("ready", async |all| all.ask(standby, "/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    }
    say(&all, &["a"], "new");
    until_live(&all, "new").await;
    all.converge().await;
    for replica in [0, 1] {
        all.until("seen", async |all| needs(all, replica, "look").await && hold(all, replica).await.is_some()).await;
    }
    look(
        &all,
        0,
        "aside-others",
        &[
            "In sync, but a checkout stands still",
            "A checkout stands still",
            "Files of 2 replicas are put aside",
            "git-sync",
        ],
        &["Starting", "`"],
    )
    .await;
    look(
        &all,
        1,
        "aside-here",
        &["In sync, but a checkout stands still", "The files of this replica ("],
        &["Starting"],
    )
    .await;

    all.kill(0).await;
    let holder = until_all_are_behind(&all).await;
    for replica in [0, 1] {
        all.until("seen", async |all| needs(all, replica, "act").await && hold(all, replica).await.is_some()).await;
    }
    let revision = all.project(holder).await.unwrap()["checkouts"]["approvable"].as_str().unwrap().to_owned();
    let order = format!("descope-gitops approve --project default {revision}");
    let expect = [
        "Files put aside: somebody has to act",
        "Nothing is written: the files are put aside",
        &order,
        "stale_revision",
    ];
    for replica in [0, 1] {
        let name = ["aside-all-holder", "aside-all-standby"][usize::from(replica != holder)];
        look(&all, replica, name, &expect, &["Starting", "Nothing. What differs"]).await;
    }
    assert!(is_live(&all, "new").await);
}
