//! A power cut in the middle of the first drain of `config/sample`, which has every kind and every part: nothing is made
//! twice, and no secret that Descope shows once is lost unsaid.

use super::world_where;
use crate::harness::World;
use crate::harness::read;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What Descope shows a secret of, by name and file.
const SHOWN: [(&str, &str, &str); 3] = [
    ("accessKeys", "nightly-export", "nightly-export.key"),
    ("accessKeys", "acme-upload", "acme-upload.key"),
    ("inboundApps", "Partner sync", "partner-sync.secret"),
];

fn copy_sample(world: &World, folder: &Path, below: &str) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            copy_sample(world, &path, &format!("{name}/"));
        } else {
            world.write(&name, &read(&path));
        }
    }
}

/// Nothing is left but what a person has to decide: a secret that was shown to nobody.
async fn is_settled(world: &World) -> bool {
    let status = world.status().await;
    let (project, queue) = (&status["projects"][0], &status["queue"]);
    let is_idle = ["ready", "delayed", "inFlight"].iter().all(|place| queue[*place] == 0);
    let problems = project["problems"].as_array().unwrap();
    let is_lost = |problem: &Value| {
        problem["state"] == "parked"
            && SHOWN.iter().any(|(kind, name, _)| problem["kind"] == *kind && problem["id"] == *name)
    };
    // Parked is said before what else keeps a project from being converged, and only the counts tell that nothing does.
    let counts = project["counts"].as_object().unwrap();
    let is_rest_done = counts.iter().all(|(name, count)| ["inSync", "parked"].contains(&&**name) || count == 0);
    project["converged"] == true
        || is_idle
            && is_rest_done
            && project["notConvergedBecause"] == "parked"
            && !problems.is_empty()
            && problems.iter().all(is_lost)
}

/// Each is there once, and its secret in its file, or said to be lost.
async fn assert_made_once(world: &World, place: &str) {
    let live = world.live().await;
    for (kind, rows) in live.as_object().unwrap() {
        let Some(rows) = rows.as_array() else { continue };
        let names: Vec<String> = rows
            .iter()
            .map(|row| {
                json!([row["tenantId"], row["ssoId"], row["id"].as_str().filter(|_| kind == "flows"), row["name"]])
                    .to_string()
            })
            .collect();
        let different: BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{place}: {kind} has {names:?}");
    }
    let writes = world.writes().await;
    for (kind, name, file) in SHOWN {
        let created = writes.iter().filter(|(line, body)| line.ends_with("/create") && body["name"] == name).count();
        assert!(created <= 1, "{place}: {kind}/{name} was created {created} times");
        // Cut off before the call went out, it looks the same to the daemon as after it.
        if world.has_problem(kind, name, "parked").await {
            continue;
        }
        let rows = live[kind].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        let secret = row["cleartext"].as_str().or(row["clientSecret"].as_str()).unwrap();
        let kept = fs::read_to_string(world.path("secrets").join(file)).unwrap_or_default();
        assert_eq!(kept.trim(), secret, "{place}: the secret of {kind}/{name} is lost");
    }
}

async fn killed_after(writes: &[usize]) {
    for &count in writes {
        let place = format!("killed after {count} writes");
        let mut world = world_where(&["latency=10ms"]).await;
        copy_sample(&world, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/sample")), "");
        world.start().await;
        world.until("in the middle", async |world| world.writes().await.len() >= count).await;
        world.kill().await;
        world.start().await;
        world.until("settled", is_settled).await;
        assert_made_once(&world, &place).await;
        world.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn early_in_the_drain_of_every_kind() {
    killed_after(&[1, 6, 11, 16]).await;
}

#[tokio::test]
async fn in_the_middle_of_the_drain_of_every_kind() {
    killed_after(&[20, 24, 28, 32]).await;
}

/// The answer to the create itself is lost with the daemon.
#[tokio::test]
async fn while_a_secret_is_shown() {
    for (path, kind, name) in [
        ("/v1/mgmt/accesskey/create", "accessKeys", "nightly-export"),
        ("/v2/mgmt/thirdparty/app/create", "inboundApps", "Partner sync"),
    ] {
        let mut world = world_where(&[]).await;
        copy_sample(&world, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/sample")), "");
        let lost = json!({ "match": { "path": path, "item": name }, "fault": "hang", "effect": true });
        world.faults(json!([lost])).await;
        world.start().await;
        world.until("asked for", async |world| world.entity(kind, name).await.is_some()).await;
        world.kill().await;
        world.faults(json!([])).await;
        world.start().await;

        world.until("told", async |world| world.has_problem(kind, name, "parked").await).await;
        world.until("the rest", is_settled).await;
        assert_made_once(&world, name).await;
        world.assert_nothing_left().await;
    }
}
