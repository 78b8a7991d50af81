//! Several projects in one daemon: one limiter, fair shares, and no trouble of one is another's.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::git;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::fmt::Write;
use std::fs;
use tokio::time::Instant;

fn id(n: usize) -> String {
    format!("P2blackboxprojectnumberxxx{n}")
}

/// A world whose config has this many projects, `p0` in directory `p0` and so on.
async fn world_of(count: usize, setup: Setup) -> World {
    let mut world = World::with(setup).await;
    let projects = config_of(&world, count);
    world.reconfigure(|setup| setup.top.push(projects));
    world
}

fn config_of(world: &World, count: usize) -> String {
    let mut projects = "projects:".to_owned();
    for n in 0..count {
        let (id, api) = (id(n), &world.api);
        write!(
            projects,
            "\n  - {{ name: p{n}, projectId: {id}, managementKey: {{ env: BLACKBOX_KEY }}, baseUrl: '{api}', \
             path: p{n}, firstContact: apply }}"
        )
        .unwrap();
    }
    projects
}

/// One permission, one role, and so many tenants, whose names begin with `prefix`.
fn declare(world: &World, n: usize, tenants: usize, prefix: &str) {
    let mut text = "permissions: [{ name: p }]\nroles: [{ name: r, permissionNames: [p] }]\ntenants:\n".to_owned();
    for tenant in 0..tenants {
        writeln!(text, "  - {{ id: t{tenant}, name: {prefix} {tenant} }}").unwrap();
    }
    world.write(&format!("p{n}/all.yaml"), &text);
}

async fn live(world: &World, n: usize) -> Value {
    world.sim(Method::GET, &format!("state?project={}", id(n)), None).await
}

/// How many tenants of a project have names that begin so.
async fn tenants(world: &World, n: usize, prefix: &str) -> usize {
    let live = live(world, n).await;
    let tenants = live["tenants"].as_array().unwrap();
    tenants.iter().filter(|tenant| tenant["name"].as_str().unwrap().starts_with(prefix)).count()
}

async fn is_converged(world: &World, n: usize) -> bool {
    world.project_named(&format!("p{n}")).await["converged"] == true
}

async fn converge(world: &World, projects: impl IntoIterator<Item = usize>) {
    for n in projects {
        world.until(&format!("p{n} converged"), async |world| is_converged(world, n).await).await;
    }
}

#[tokio::test]
async fn two_and_five_projects_converge_each_to_its_own_directory() {
    for count in [2, 5] {
        let mut world = world_of(count, Setup::default()).await;
        for n in 0..count {
            declare(&world, n, n + 1, &format!("Of {n}"));
        }

        world.start().await;

        converge(&world, 0..count).await;
        let status = world.status().await;
        let names: Vec<&str> =
            status["projects"].as_array().unwrap().iter().map(|project| project["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"][..count], "in the order of the config");
        assert_eq!(status["limiters"].as_array().unwrap().len(), 1, "one host, one limiter");
        for n in 0..count {
            assert_eq!(tenants(&world, n, &format!("Of {n}")).await, n + 1);
            assert_eq!(live(&world, n).await["tenants"].as_array().unwrap().len(), n + 1);
            for (series, value) in [
                (format!("converged{{project=\"p{n}\"}}"), 1.0),
                (format!("passes_total{{project=\"p{n}\",result=\"applied\",trigger=\"startup\"}}"), 1.0),
                (format!("desired_resources{{kind=\"roles\",project=\"p{n}\"}}"), 1.0),
                (
                    format!("changes_total{{action=\"create\",kind=\"permissions\",project=\"p{n}\",result=\"ok\"}}"),
                    1.0,
                ),
            ] {
                assert_eq!(world.metric(&series).await, Some(value), "{series}");
            }
        }
        assert_eq!(world.writes().await.len(), count * 2 + (1..=count).sum::<usize>());
        let seen = world.log().await.len();
        assert_eq!(world.ask(Method::POST, "/api/v1/reconcile?project=p1").await.0, 202);
        let of_p1 = "passes_total{project=\"p1\",result=\"noop\",trigger=\"api\"}";
        world.until("the pass of p1", async |world| world.metric(of_p1).await == Some(1.0)).await;
        let news = world.log().await.split_off(seen);
        assert!(news.iter().all(|entry| entry["project"] == id(1) && entry["method"] == "GET"), "{news:#?}");
        assert_eq!(news.len(), 3, "{news:#?}");
    }
}

/// A commit of another project's files was named by this one with its next full pass, up to an interval later.
#[tokio::test]
async fn a_commit_that_says_nothing_new_of_a_project_is_the_one_that_it_is_at() {
    let mut world = world_of(2, Setup::default()).await;
    let repo = world.path("repo");
    git(&repo, &["init", "-q", "-b", "main"]);
    (0..2).for_each(|n| declare(&world, n, 1, "Of"));
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-qm", "first"]);
    world.start().await;
    converge(&world, 0..2).await;
    let head = || git(&repo, &["rev-parse", "--short=7", "HEAD"]);
    let is_at = async |world: &World, n: usize, commit: &str| {
        let project = world.project_named(&format!("p{n}")).await;
        project["desired"]["commit"] == commit && project["applied"]["commit"] == commit
    };
    let passes = world.passes().await;
    let before = world.project_named("p1").await;
    assert!(is_at(&world, 1, &head()).await, "{before:#}");

    declare(&world, 0, 1, "Then");
    git(&repo, &["commit", "-qam", "second"]);

    for n in [0, 1] {
        world.until("at the second", async |world| is_at(world, n, &head()).await).await;
    }
    let after = world.project_named("p1").await;
    for field in ["lastPass", "lastSuccessAt", "counts"] {
        assert_eq!(after[field], before[field], "{field}: there was nothing new to look at");
    }
    assert_eq!(after["desired"]["revision"], before["desired"]["revision"]);
    converge(&world, [0]).await;
    assert!(world.passes().await > passes);
    // One of no project's files.
    world.write("README.md", "Words.");
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-qm", "third"]);
    for n in [0, 1] {
        world.until("at the third", async |world| is_at(world, n, &head()).await).await;
    }
}

#[tokio::test]
async fn the_trouble_of_one_project_is_not_that_of_the_others() {
    let mut world = world_of(5, Setup::default()).await;
    for n in 0..5 {
        declare(&world, n, 3, "First");
    }
    world.write("p3/broken.yaml", "tenants:\n  - { nam: x }\n");
    world
        .faults(json!([
            { "match": { "project": id(1), "path": "/v1/mgmt/role/*" }, "fault": "status", "status": 403 },
            { "match": { "project": id(2) }, "fault": "status", "status": 401 },
        ]))
        .await;

    world.start().await;

    // Two of five are well; one lacks a kind, one its key, one a valid repo.
    converge(&world, [0, 4]).await;
    world.until("the other kinds of p1", async |world| tenants(world, 1, "First").await == 3).await;
    let status = async |n: usize| world.project_named(&format!("p{n}")).await;
    world.until("a problem of p1", async |_| status(1).await["problems"][0]["kind"] == "roles").await;
    assert_eq!(status(1).await["converged"], false);
    let live_roles = live(&world, 1).await["roles"].clone();
    assert!(!live_roles.as_array().unwrap().iter().any(|role| role["name"] == "r"), "{live_roles}");
    world.until("a pass of p2", async |_| status(2).await["lastPass"].is_object()).await;
    assert_eq!(status(2).await["converged"], false);
    assert_eq!(tenants(&world, 2, "").await, 0);
    assert_eq!(status(3).await["desired"]["errors"][0]["file"], "p3/broken.yaml");
    assert_eq!(tenants(&world, 3, "").await, 0);
    let health: Value = serde_json::from_str(&world.open("/healthz").await.1).unwrap();
    let of = |name: &str, project: &str| {
        let components = health["components"].as_array().unwrap();
        let found = components.iter().find(|one| one["name"] == name && one["project"] == project).unwrap();
        (found["status"].clone(), found["reason"].clone())
    };
    assert_eq!(of("descope", "p2"), (json!("failing"), json!("management key refused")));
    assert_eq!(of("descope", "p1"), (json!("degraded"), json!("some kinds cannot be observed")));
    assert_eq!(of("source", "p3"), (json!("failing"), json!("no valid desired state")));
    assert_eq!(of("descope", "p4"), (json!("ok"), Value::Null));

    // They go on: new commits arrive where all is well, and a paused project asks once per pass.
    let seen = world.log().await.len();
    for n in [0, 1, 4] {
        declare(&world, n, 4, "Second");
    }
    converge(&world, [0, 4]).await;
    for n in [0, 1, 4] {
        world.until(&format!("p{n} is new"), async |world| tenants(world, n, "Second").await == 4).await;
    }
    assert_eq!(world.ask(Method::POST, "/api/v1/reconcile?project=p2").await.0, 202);
    let failed = "passes_total{project=\"p2\",result=\"failed\",trigger=\"api\"}";
    world.until("a probe", async |world| world.metric(failed).await == Some(1.0)).await;
    let probes: Vec<Value> =
        world.log().await.split_off(seen).into_iter().filter(|entry| entry["project"] == id(2)).collect();
    assert_eq!(probes.len(), 1, "{probes:#?}");

    // All of it heals.
    world.faults(json!([])).await;
    world.remove("p3/broken.yaml");
    assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
    converge(&world, 0..5).await;
    assert_eq!((tenants(&world, 2, "First").await, tenants(&world, 3, "First").await), (3, 3));
    // A broken repo later leaves the last good state of that project in force, and the others alone.
    world.write("p3/broken.yaml", "tenants: [");
    world.until("p3 is invalid", async |_| status(3).await["desired"]["valid"] == false).await;
    let path = format!("state/tenants/t0?project={}", id(3));
    world.sim(Method::PUT, &path, Some(json!({ "name": "Somebody was here" }))).await;
    declare(&world, 0, 4, "Third");
    assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
    world.until("p0 is new", async |world| tenants(world, 0, "Third").await == 4).await;
    world.until("p3 is healed", async |world| tenants(world, 3, "First").await == 3).await;
}

/// Writes by project: when the first and the last landed, as places in the log.
async fn landed(world: &World, count: usize) -> Vec<(usize, usize)> {
    let log = world.log().await;
    let of = |n: usize| {
        let mut places =
            log.iter().enumerate().filter(|(_, entry)| entry["project"] == id(n) && entry["effect"] == true);
        let first = places.next().unwrap().0;
        (first, places.next_back().unwrap().0)
    };
    (0..count).map(of).collect()
}

#[tokio::test]
async fn projects_share_a_low_limit_fairly_and_no_more_is_refused_than_with_one() {
    // The one that is ready first cannot finish before a window later, when all of them are.
    for (count, each) in [(1, 72), (3, 24)] {
        let setup = Setup {
            simulator: ["--rate-limit=20/1s", "--lockout=1s"].map(str::to_owned).to_vec(),
            top: vec!["rateLimit: { limit: 20/1s, reserve: 10% }".to_owned()],
            ..Setup::default()
        };
        let mut world = world_of(count, setup).await;
        for n in 0..count {
            declare(&world, n, each, "Of");
        }

        world.start().await;

        converge(&world, 0..count).await;
        let landed = landed(&world, count).await;
        let last_first = landed.iter().map(|(first, _)| first).max().unwrap();
        let first_last = landed.iter().map(|(_, last)| last).min().unwrap();
        assert!(last_first < first_last, "{landed:?}");
        let stats = world.sim(Method::GET, "stats", None).await;
        assert_eq!((&stats["throttled"], &stats["duringLockout"]), (&json!(0), &json!(0)), "{count} projects: {stats}");
    }
}

#[tokio::test]
async fn one_refusal_closes_the_gate_for_every_project_and_all_of_them_converge() {
    let simulator = ["--rate-limit=15/1s", "--lockout=1s"].map(str::to_owned).to_vec();
    // The window is known, the number is not.
    let top = vec!["rateLimit: { limit: 60/1s, lockout: 1s }".to_owned()];
    let mut world = world_of(5, Setup { simulator, top, ..Setup::default() }).await;
    for n in 0..5 {
        declare(&world, n, 6, "Of");
    }

    world.start().await;

    converge(&world, 0..5).await;
    let stats = world.sim(Method::GET, "stats", None).await;
    let throttled = stats["throttled"].as_u64().unwrap();
    assert!(throttled > 0, "the limit was never hit: {stats}");
    // Those that were under way when the gate closed, and no others: 5 lists at once or 8 workers, a few times over.
    assert!(throttled <= 24, "{stats}");
    for n in 0..5 {
        assert_eq!(tenants(&world, n, "Of").await, 6);
        let failed = format!("changes_total{{action=\"create\",kind=\"tenants\",project=\"p{n}\",result=\"failed\"}}");
        assert_eq!(world.metric(&failed).await, Some(0.0), "a refusal by the limit is no failure");
    }
    let start = Instant::now();
    assert!(world.stop().await.success());
    assert!(start.elapsed().as_secs() < 10);
}

#[tokio::test]
async fn projects_that_would_fight_each_other_do_not_start() {
    let mut world = World::new().await;
    let two = |world: &World, change: fn(String) -> String| {
        let config = config_of(world, 2);
        let changed = change(config.clone());
        assert_ne!(changed, config);
        changed
    };
    declare(&world, 0, 1, "Of");
    declare(&world, 1, 1, "Of");
    for (change, line, message) in [
        ((|text| text.replace(&id(1), &id(0))) as fn(String) -> String, "name: p1", "is also that of project p0"),
        (|text| text.replace("path: p1", "path: p0/below"), "name: p1", "overlaps `p0` of project p0"),
        (|text| text.replace("path: p0", "path: ."), "name: p1", "overlaps `.` of project p0"),
        (|text| text.replace("name: p1", "name: p0"), "path: p1", "`p0` is taken by another project"),
    ] {
        let projects = two(&world, change);
        world.reconfigure(|setup| setup.top = vec![projects]);
        for command in [&["run"][..], &["plan"]] {
            let output = world.run(command).await;

            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{message}: {err}");
            let text = fs::read_to_string(world.path("config.yaml")).unwrap();
            let line = text.lines().position(|text| text.contains(line)).unwrap() + 1;
            assert!(err.contains(message) && err.contains(&format!("config.yaml:{line}: ")), "{message}: {err}");
        }
    }
    assert_eq!(world.log().await, Vec::<Value>::new());

    // Two claims on one project are fine where they are told apart.
    let projects =
        two(&world, |text| text.replace(&format!("projectId: {}", id(1)), &format!("owner: b, projectId: {}", id(0))));
    world.reconfigure(|setup| setup.top = vec![projects]);
    assert_eq!(world.run(&["plan"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn plan_and_apply_can_be_told_which_project() {
    let world = world_of(3, Setup::default()).await;
    for n in 0..3 {
        declare(&world, n, 1, "Of");
    }
    let asked = async |world: &World| {
        let log = world.log().await;
        let mut projects: Vec<String> = log.iter().map(|entry| entry["project"].as_str().unwrap().to_owned()).collect();
        projects.sort();
        projects.dedup();
        projects
    };

    let plan = world.run_json(&["plan", "--project", "p1", "-o", "json"], 0).await;
    assert_eq!(plan["projects"].as_array().unwrap().len(), 1);
    assert_eq!((&plan["projects"][0]["name"], &plan["projects"][0]["forecast"]["requests"]), (&json!("p1"), &json!(3)));
    assert_eq!(asked(&world).await, [id(1)]);
    assert_eq!(world.writes().await, []);

    let done =
        world.run_json(&["apply", "--project", "p1", "--project", "p2", "--auto-approve", "-o", "json"], 0).await;
    assert_eq!(done["projects"].as_array().unwrap().len(), 2, "{done}");
    assert_eq!(asked(&world).await, [id(1), id(2)]);
    assert_eq!((tenants(&world, 1, "Of").await, tenants(&world, 2, "Of").await), (1, 1));

    // Equal lines of two projects could not be told apart.
    let trail = String::from_utf8(world.run(&["audit", "--kind", "roles"]).await.stdout).unwrap();
    let mut of: Vec<&str> = trail.lines().filter_map(|line| line.split(' ').next()).collect();
    of.sort_unstable();
    assert_eq!(of, [id(1), id(2)], "{trail}");

    let all = world.run_json(&["plan", "-o", "json", "--exit-code"], 2).await;
    let left: Vec<usize> =
        all["projects"].as_array().unwrap().iter().map(|one| one["changes"].as_array().unwrap().len()).collect();
    assert_eq!(left, [3, 0, 0]);
    for command in [&["plan"][..], &["apply", "--auto-approve"]] {
        let output = world.run(&[command, &["--project", "p9"]].concat()).await;
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{err}");
        assert!(err.contains("no project p9; it has p0, p1, p2"), "{err}");
    }
}

/// The command that `status` named under one project ended the suspension of the others, too.
#[tokio::test]
async fn the_command_that_ends_a_suspension_is_of_one_project() {
    let mut world = world_of(2, Setup::default()).await;
    declare(&world, 0, 1, "Of");
    declare(&world, 1, 1, "Of");
    world.start().await;
    converge(&world, 0..2).await;
    let url = world.daemon_url().await;
    for name in ["p0", "p1"] {
        let output = world.run(&["suspend", "--for", "1h", "--project", name, "--url", &url]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let status = String::from_utf8(world.run(&["status", "--url", &url]).await.stdout).unwrap();
    let told = status.lines().filter_map(|line| line.split_once(": `descope-gitops ")?.1.split_once("` ends it"));
    let commands: Vec<&str> = told.map(|(command, _)| command).collect();
    assert_eq!(commands, ["resume --project p0", "resume --project p1"], "{status}");

    let command: Vec<&str> = commands[1].split(' ').chain(["--url", &url]).collect();
    assert!(world.run(&command).await.status.success());

    let until = async |name| world.project_named(name).await["suspendedUntil"].is_string();
    assert_eq!((until("p0").await, until("p1").await), (true, false));
}

/// Equal plans had one fingerprint: approving what staging held released production's as well.
#[tokio::test]
async fn an_approval_is_of_one_project() {
    let mut world = world_of(2, Setup::default()).await;
    let projects = config_of(&world, 2).replace(", firstContact: apply", "");
    world.reconfigure(|setup| setup.top = vec![projects]);
    for n in 0..2 {
        let live = json!({ "permissions": [{ "name": "live" }] });
        world.sim(Method::PUT, &format!("state?project={}", id(n)), Some(live)).await;
        declare(&world, n, 1, "T");
    }
    world.start().await;
    let mut fingerprints = Vec::new();
    for name in ["p0", "p1"] {
        world.until("held", async |world| world.project_named(name).await["held"] != Value::Null).await;
        fingerprints.push(world.project_named(name).await["held"]["fingerprint"].as_str().unwrap().to_owned());
    }

    assert_eq!(world.ask(Method::POST, &format!("/api/v1/approve?plan={}", fingerprints[0])).await.0, 200);

    converge(&world, [0]).await;
    assert_ne!(fingerprints[0], fingerprints[1]);
    assert_eq!(world.project_named("p1").await["held"]["fingerprint"], *fingerprints[1]);
}

/// Each had the files of the other, and said nothing.
#[tokio::test(flavor = "multi_thread")]
async fn two_projects_do_not_share_a_directory_through_a_link() {
    let world = world_of(2, Setup::default()).await;
    declare(&world, 0, 1, "T");
    for (at, to) in [("p1", "p0"), ("p1", "p0/below"), ("p1", ".")] {
        fs::create_dir_all(world.path("repo/p0/below")).unwrap();
        std::os::unix::fs::symlink(world.path("repo").join(to), world.path("repo").join(at)).unwrap();
        let ended = world.run(&["validate"]).await;
        let told = String::from_utf8(ended.stderr).unwrap() + &String::from_utf8(ended.stdout).unwrap();
        assert_ne!(ended.status.code(), Some(0), "{told}");
        assert!(told.contains("`p0` overlaps `p1` of project p1, as the links among them are"), "{told}");
        assert_ne!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(0));
        fs::remove_file(world.path("repo").join(at)).unwrap();
    }
    assert!(world.writes().await.is_empty());

    // What no project is of its own both may link to.
    world.write("p1/more.yaml", "roles: [{ name: own }]\n");
    world.write("common/all.yaml", "permissions: [{ name: shared }]\n");
    for project in ["p0", "p1"] {
        let link = world.path("repo").join(project).join("common");
        std::os::unix::fs::symlink(world.path("repo/common"), link).unwrap();
    }
    assert_eq!(world.run(&["apply", "--auto-approve"]).await.status.code(), Some(0));
}
