//! What the daemon takes for a revision, and what it does meanwhile when there is none.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::git;
use crate::harness::permission;
use crate::harness::write_some;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

async fn desired(world: &World) -> Value {
    world.project().await["desired"].clone()
}

async fn until_valid(world: &World, is_valid: bool) {
    world.until(&format!("valid: {is_valid}"), async |world| desired(world).await["valid"] == is_valid).await;
}

fn messages(desired: &Value) -> Vec<String> {
    let one = |error: &Value| format!("{}:{}: {}", error["file"], error["line"], error["message"]).replace('"', "");
    desired["errors"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn a_broken_file_leaves_the_last_good_state_in_force_and_drift_still_heals() {
    let mut world = World::new().await;
    write_some(&world, 2, 1, 1);
    world.converge().await;
    let before = desired(&world).await;
    let valid = "desired_valid{project=\"default\"}";
    assert_eq!((before["valid"].clone(), world.metric(valid).await), (json!(true), Some(1.0)));

    world
        .write("roles.yaml", "roles:\n  - { name: r0 }\n  - { name: new, permisionNames: [p0] }\n  - { default: 1 }\n");
    until_valid(&world, false).await;

    let now = desired(&world).await;
    assert_eq!(
        messages(&now),
        [
            "roles.yaml:3: roles/new: permisionNames: roles have no such field; did you mean `permissionNames`?",
            "roles.yaml:4: roles: default: must be true or false but is a number",
            "roles.yaml:4: roles: name: is missing; it identifies the resource",
        ]
    );
    for field in ["revision", "commit", "loadedAt", "resources"] {
        assert_eq!(now[field], before[field], "{field}");
    }
    assert_eq!(world.metric(valid).await, Some(0.0));
    assert_eq!(world.metric("source_loads_total{result=\"invalid\"}").await, Some(1.0));
    let is_told = |line: &String| {
        serde_json::from_str::<Value>(line).is_ok_and(|line| {
            line["level"] == "ERROR" && line["file"] == "roles.yaml" && line["line"] == 3 && line["message"].is_string()
        })
    };
    assert!(world.daemon().lines().iter().any(is_told));
    assert_eq!(world.ask(Method::GET, "/readyz").await.0, 200, "the last good state does its work");

    world.edit_live("permissions/p1", json!({ "description": "somebody was here" })).await;
    world.fresh_pass().await;
    world.until_live("p1", "permission 1").await;
    assert_eq!(world.entity("roles", "new").await, None);
    assert!(world.entity("roles", "r0").await.unwrap()["permissionNames"] == json!(["p0"]));
    assert_eq!(desired(&world).await["valid"], false);

    world.write("roles.yaml", "roles:\n  - { name: r0 }\n  - { name: new, permissionNames: [p0] }\n");
    world.until("mended", async |world| world.entity("roles", "new").await.is_some()).await;
    until_valid(&world, true).await;
    assert_eq!(desired(&world).await["errors"], json!([]));
    assert_ne!(desired(&world).await["revision"], before["revision"]);
    assert_eq!(world.metric(valid).await, Some(1.0));
}

#[tokio::test]
async fn a_repo_that_is_broken_at_the_start_changes_nothing_until_it_is_mended() {
    let mut world = World::new().await;
    world.set_live(json!({ "permissions": [{ "name": "p", "description": "live" }] })).await;
    world.write("a.yaml", "permissions:\n  - { name: p, description: [] }\n");
    world.start().await;
    world.until("told", async |world| !desired(world).await["errors"].as_array().unwrap().is_empty()).await;

    let now = desired(&world).await;
    assert_eq!(messages(&now), ["a.yaml:2: permissions/p: description: must be a text but is a list"]);
    assert_eq!((&now["valid"], &now["revision"], &now["loadedAt"]), (&json!(false), &Value::Null, &Value::Null));
    assert_eq!(now["resources"], 0);
    assert_eq!(world.project().await["converged"], false);
    assert_eq!(world.ask(Method::GET, "/readyz").await.0, 503);
    world.fresh_pass().await;
    assert_eq!(world.writes().await, []);

    world.write("a.yaml", &permission("p", "mended"));
    world.until_live("p", "mended").await;
}

type Step = fn(&Path);

#[tokio::test]
async fn whatever_becomes_of_the_directory_nothing_is_deleted_or_changed() {
    fn rewrite(repo: &Path, text: &str) {
        fs::write(repo.join("tenants.yaml"), text).unwrap();
    }
    fn empty(repo: &Path) {
        for file in fs::read_dir(repo).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
    let cases: [(&str, &str, Step); 9] = [
        ("truncated", "tenants.yaml:0: is empty; ", |repo| rewrite(repo, "")),
        ("half-written", "tenants.yaml:2: is not YAML: ", |repo| rewrite(repo, "tenants:\n  - { id: t0, na")),
        ("cut before its value", "tenants.yaml:1: tenants: has nothing after it; ", |repo| rewrite(repo, "tenants:\n")),
        ("full of NULs", "tenants.yaml:1: holds a NUL byte: ", |repo| rewrite(repo, "\0\0\0\0")),
        ("emptied", ".:0: no YAML file declares anything; ", empty),
        ("removed", ".:0: the source directory ", |repo| fs::remove_dir_all(repo).unwrap()),
        ("moved", ".:0: the source directory ", |repo| fs::rename(repo, repo.with_extension("moved")).unwrap()),
        ("a file now", ".:0: the source ", |repo| {
            fs::remove_dir_all(repo).unwrap();
            fs::write(repo, "tenants: []\n").unwrap();
        }),
        ("only comments left", ".:0: no YAML file declares anything; ", |repo| {
            empty(repo);
            rewrite(repo, "# tenants:\n#   - { id: t0 }\n");
        }),
    ];
    let mut world = World::with(Setup {
        project: vec!["firstContact: apply".to_owned(), "policy: upsert-only".to_owned()],
        ..Setup::default()
    })
    .await;
    write_some(&world, 3, 2, 4);
    world.converge().await;
    let (live, good, writes) = (world.live().await, desired(&world).await, world.writes().await.len());

    for (case, reason, spoil) in cases {
        spoil(&world.path("repo"));
        until_valid(&world, false).await;

        let now = desired(&world).await;
        let errors = messages(&now);
        assert!(errors.len() == 1 && errors[0].starts_with(reason), "{case}: {errors:?}");
        assert_eq!((&now["resources"], &now["revision"]), (&good["resources"], &good["revision"]), "{case}");
        world.assert_nothing_left().await;
        assert_eq!(world.live().await, live, "{case}");

        let repo = world.path("repo");
        if repo.is_file() {
            fs::remove_file(&repo).unwrap();
        }
        fs::create_dir_all(&repo).unwrap();
        write_some(&world, 3, 2, 4);
        until_valid(&world, true).await;
    }

    world.assert_nothing_left().await;
    assert_eq!(world.writes().await.len(), writes);
    // The daemon is not asleep.
    world.write("permissions.yaml", "permissions:\n  - { name: p0, description: awake }\n");
    world.until_live("p0", "awake").await;
}

/// Another trigger loaded what came and went between two looks of the watcher: to it, nothing had changed.
#[tokio::test]
async fn what_comes_and_goes_between_two_looks_is_told_also_where_it_was_broken() {
    let mut world = World::new().await;
    world.source_at("repo", "debounce: 2s, interval: 1h");
    write_some(&world, 1, 1, 1);
    world.write("../aside/b.yaml", "permissions: [");
    world.converge().await;
    let (aside, inside) = (world.path("aside"), world.path("repo/inside"));
    let reconcile = async || assert_eq!(world.ask(Method::POST, "/api/v1/reconcile").await.0, 202);

    fs::rename(&aside, &inside).unwrap();
    reconcile().await;
    until_valid(&world, false).await;
    fs::rename(&inside, &aside).unwrap();
    until_valid(&world, true).await;

    fs::rename(&aside, &inside).unwrap();
    until_valid(&world, false).await;
    fs::rename(&inside, &aside).unwrap();
    reconcile().await;
    until_valid(&world, true).await;
    fs::rename(&aside, &inside).unwrap();
    until_valid(&world, false).await;
}

#[tokio::test]
async fn what_left_the_yaml_is_listed_as_undeclared_and_left_alone() {
    let mut world = World::new().await;
    write_some(&world, 3, 2, 4);
    world.write("team/tenants.yaml", "tenants:\n  - { id: u0, name: U0 }\n  - { id: u1, name: U1 }\n");
    world.converge().await;
    let live = world.live().await;
    assert_eq!(world.project().await["undeclared"], 0);

    // A directory that was moved out, and a file cut at the end of a line: both are whole in their way.
    fs::rename(world.path("repo/team"), world.path("team")).unwrap();
    world.write("tenants.yaml", "tenants:\n  - { id: t0, name: Tenant 0 }\n");
    world.until("five undeclared", async |world| world.project().await["undeclared"] == 5).await;

    let now = desired(&world).await;
    assert_eq!((&now["valid"], &now["resources"], &now["errors"]), (&json!(true), &json!(6), &json!([])));
    assert_eq!(world.metric("undeclared_resources{kind=\"tenants\",project=\"default\"}").await, Some(5.0));
    world.assert_nothing_left().await;
    assert_eq!(world.live().await, live);
}

#[tokio::test]
async fn a_tree_that_git_has_locked_is_not_a_revision_until_the_lock_is_gone() {
    let mut world = World::new().await;
    let repo = world.path("repo");
    git(&repo, &["init", "-q", "-b", "main"]);
    world.write("a.yaml", &permission("p", "first"));
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-qm", "first"]);
    world.converge().await;

    world.write(".git/index.lock", "");
    world.write("a.yaml", &permission("p", "while git writes"));
    world
        .until("the lock is told", async |world| {
            let lock = repo.canonicalize().unwrap().join(".git/index.lock");
            let expected = format!(".:0: git is changing the files; if no git runs, remove {}", lock.display());
            messages(&desired(world).await) == [expected]
        })
        .await;
    assert_eq!(world.entity("permissions", "p").await.unwrap()["description"], "first");
    assert!(world.metric("source_loads_total{result=\"io_error\"}").await.unwrap() >= 1.0);
    // The lock stops the files, not the healing.
    world.edit_live("permissions/p", json!({ "description": "drift" })).await;
    world.fresh_pass().await;
    world.until_live("p", "first").await;

    world.remove(".git/index.lock");
    world.until_live("p", "while git writes").await;
    until_valid(&world, true).await;
}

/// Do so many live permissions have this description?
async fn are_live(world: &World, description: &str, count: usize) -> bool {
    let live = world.live().await;
    live["permissions"].as_array().unwrap().iter().filter(|p| p["description"] == description).count() == count
}

/// How many batches had each description: every batch holds all permissions, and one description in all of them.
async fn batches_of_one_sort(world: &World, count: usize) -> BTreeMap<String, usize> {
    let mut batches: BTreeMap<String, usize> = BTreeMap::new();
    for (line, body) in world.writes().await {
        assert!(line.starts_with("POST /v1/mgmt/permission/"), "{line}");
        let items = body["permissions"].as_array().unwrap_or_else(|| panic!("{line}: {body}"));
        let said: BTreeSet<&str> = items.iter().map(|item| item["description"].as_str().unwrap()).collect();
        assert_eq!((said.len(), items.len()), (1, count), "a mixture: {line}: {body}");
        *batches.entry((*said.first().unwrap()).to_owned()).or_default() += 1;
    }
    batches
}

#[tokio::test]
async fn hundreds_of_checkouts_under_load_never_mix_two_branches() {
    const FILES: usize = 30;
    const CHECKOUTS: usize = 200;
    let branches = ["one", "two"];
    let mut world = World::new().await;
    world.source_at("repo", "debounce: 20ms, interval: 20ms");
    let repo = world.path("repo");
    git(&repo, &["init", "-q", "-b", "one"]);
    world.write(".gitattributes", "*.yaml filter=slow\n");
    for branch in branches {
        git(&repo, &["checkout", "-q", "-B", branch]);
        for n in 0..FILES {
            // One permission stands in another file on the other branch: a mixture has it twice, or not at all.
            let wanders = n == if branch == "one" { 0 } else { FILES - 1 };
            let more =
                if wanders { format!("  - {{ name: wanderer, description: {branch} }}\n") } else { String::new() };
            world.write(&format!("{n:02}.yaml"), &(permission(&format!("p{n}"), branch) + &more));
        }
        git(&repo, &["add", "."]);
        git(&repo, &["commit", "-qm", branch]);
    }
    world.converge().await;

    let mut branch = "two";
    for n in 0..CHECKOUTS {
        branch = branches[n % 2];
        // Some take ten milliseconds a file, so that loads fall into the middle of them.
        let filter = if n % 9 == 4 { "filter.slow.smudge=sleep 0.01; cat" } else { "filter.slow.smudge=" };
        git(&repo, &["-c", filter, "checkout", "-q", branch]);
        if n % 25 == 24 {
            world.until(&format!("{branch} live"), async |world| are_live(world, branch, FILES + 1).await).await;
        } else {
            // A random rest: some loads find room, others are caught in the middle.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        }
    }
    world.until("the last one live", async |world| are_live(world, branch, FILES + 1).await).await;
    world.until("converged", async |world| world.is_converged().await).await;

    let batches = batches_of_one_sort(&world, FILES + 1).await;
    assert!(branches.iter().all(|branch| batches[*branch] >= 4), "{batches:?}");
    assert_eq!(world.metric("source_loads_total{result=\"invalid\"}").await, Some(0.0));
    let now = desired(&world).await;
    assert_eq!((&now["valid"], &now["resources"]), (&json!(true), &json!(FILES + 1)));
    // Git moves HEAD last: the load that found the files may have been too early for it, the next one is not.
    let commit = git(&repo, &["rev-parse", "HEAD"])[..7].to_owned();
    world.until("labelled", async |world| desired(world).await["commit"] == commit).await;
}

#[tokio::test]
async fn hundreds_of_config_map_updates_never_mix_two_of_them() {
    const FILES: usize = 30;
    let mut world = World::new().await;
    world.source_at("repo", "debounce: 10ms, interval: 10ms");
    let mount = world.path("repo");
    let generations = ["one", "two"];
    for n in 0..FILES {
        for generation in generations {
            world.write(&format!("..{generation}/{n:02}.yaml"), &permission(&format!("p{n}"), generation));
        }
        symlink(format!("..data/{n:02}.yaml"), mount.join(format!("{n:02}.yaml"))).unwrap();
    }
    symlink("..one", mount.join("..data")).unwrap();
    world.converge().await;

    for n in 1..=300 {
        let generation = generations[n % 2];
        symlink(format!("..{generation}"), mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        if n % 25 == 0 {
            world.until(generation, async |world| are_live(world, generation, FILES).await).await;
        } else {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..25))).await;
        }
    }

    world.until("the last one live", async |world| are_live(world, "one", FILES).await).await;
    let batches = batches_of_one_sort(&world, FILES).await;
    assert!(generations.iter().all(|generation| batches[*generation] >= 4), "{batches:?}");
    assert_eq!(world.metric("source_loads_total{result=\"invalid\"}").await, Some(0.0));
}

#[tokio::test]
async fn what_is_excluded_is_not_read() {
    let mut world = World::new().await;
    world.source_at("repo", "debounce: 50ms, interval: 1h, exclude: ['vendor', '**/*.values.yaml']");
    world.write("a.yaml", &permission("p", "first"));
    world.write("vendor/chart.yaml", "broken: [");
    world.write("deep/x.values.yaml", "also: [broken");
    world.converge().await;
    assert_eq!(desired(&world).await["resources"], 1);

    world.write("vendor/new.yaml", "replicas: 3\n");
    world.write("a.yaml", &permission("p", "second"));
    world.until_live("p", "second").await;

    assert_eq!(desired(&world).await["valid"], true);
}

#[tokio::test]
async fn the_status_tells_revision_commit_and_time_of_what_is_in_force() {
    let mut world = World::new().await;
    let repo = world.path("repo");
    world.write("a.yaml", &permission("p", "first"));
    world.converge().await;
    let plain = desired(&world).await;
    let keys: BTreeSet<&str> = plain.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["valid", "revision", "commit", "loadedAt", "resources", "errors"]));
    assert_eq!((&plain["valid"], &plain["resources"]), (&json!(true), &json!(1)));
    assert_eq!((&plain["commit"], &plain["errors"]), (&Value::Null, &json!([])));
    let loaded_at = plain["loadedAt"].as_str().unwrap();
    assert!(loaded_at.ends_with('Z') && humantime::parse_rfc3339(loaded_at).is_ok(), "{loaded_at}");

    // The same content in a new file, at another time: the same revision, loaded when it first was.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.remove("a.yaml");
    world.write("a.yaml", &permission("p", "first"));
    world.fresh_pass().await;
    assert_eq!(desired(&world).await, plain);

    git(&repo, &["init", "-q", "-b", "main"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-qm", "one"]);
    let commit = git(&repo, &["rev-parse", "HEAD"])[..7].to_owned();
    world.fresh_pass().await;
    let committed = desired(&world).await;
    assert_eq!((&committed["revision"], &committed["commit"]), (&plain["revision"], &json!(commit)));

    world.write("a.yaml", &permission("p", "other"));
    world.until_live("p", "other").await;
    world.fresh_pass().await;
    let edited = desired(&world).await;
    assert_ne!(edited["revision"], plain["revision"]);
    assert_ne!(edited["loadedAt"], plain["loadedAt"]);
    assert_eq!(edited["commit"], format!("{commit}-dirty"));

    git(&repo, &["checkout", "-q", "a.yaml"]);
    world.until_live("p", "first").await;
    world.fresh_pass().await;
    let back = desired(&world).await;
    assert_eq!((&back["revision"], &back["commit"]), (&plain["revision"], &json!(commit)));
}
