//! Big documents: read from files of their own, compared with what Descope made of them, and shown by digest and size alone.

use crate::guards::approve;
use crate::guards::held;
use crate::guards::plan;
use crate::harness::Setup;
use crate::harness::World;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

const FILES: [(&str, &str); 5] = [
    (
        "a.yaml",
        "flows:\n  - { id: sign-in, file: sign-in.json }\n  - { id: own, file: own.json }\n\
         theme: { file: theme.json }\nfgaSchema: { file: schema.fga }\n",
    ),
    ("sign-in.json", r#"{ "metadata": { "name": "Sign in" }, "contents": { "text": " hello " }, "screens": [] }"#),
    ("own.json", r#"{ "contents": { "text": "own" }, "screens": [{ "screenId": "0" }] }"#),
    ("theme.json", r#"{ "styles": { "light": { "primary": " blue " } } }"#),
    ("schema.fga", "model AuthZ 1.0\n\ntype user\n\n\ntype doc\n    relation owner: user\n"),
];

async fn world(simulator: &[&str], project: &[&str]) -> World {
    let mut setup = Setup::default();
    setup.simulator.extend(simulator.iter().map(|flag| format!("--set={flag}")));
    setup.project.extend(project.iter().map(|line| (*line).to_owned()));
    World::with(setup).await
}

fn write_all(world: &World) {
    for (file, text) in FILES {
        world.write(file, text);
    }
}

/// Sets switches of the simulator while it runs.
async fn switch(world: &World, switches: Value) {
    world.sim(Method::PUT, "options", Some(switches)).await;
}

async fn flow(world: &World, id: &str) -> Value {
    world.entity("flows", id).await.unwrap()["v2"].clone()
}

async fn only(world: &World, kind: &str, field: &str) -> Value {
    world.live().await[kind][0][field].clone()
}

/// Changes one document behind the daemon's back.
async fn edit(world: &World, kind: &str, id: &str, field: &str, value: Value) {
    let mut state = world.live().await;
    let rows = state[kind].as_array_mut().unwrap();
    let row = rows.iter_mut().find(|row| id.is_empty() || row["id"] == id).unwrap();
    row[field] = value;
    world.set_live(state).await;
}

/// Nothing is left, however often one looks; and what somebody else writes is put back in one call.
async fn holds_and_heals(mut world: World) {
    write_all(&world);
    world.converge().await;
    world.assert_nothing_left().await;
    world.stop().await;
    world.start().await;
    world.until("converged again", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;

    let before = world.writes().await.len();
    let own = json!({ "contents": { "text": "foreign" }, "screens": [{ "screenId": "0" }] });
    edit(&world, "flows", "own", "v2", own).await;
    let mut styles = only(&world, "theme", "styles").await;
    styles["light"] = json!({ "primary": "red" });
    styles["brand-dark"] = json!({ "primary": "black" });
    edit(&world, "theme", "", "styles", styles).await;
    edit(&world, "fgaSchema", "", "dsl", json!("model AuthZ 1.0\n\ntype user\n")).await;
    world.pass().await;
    world
        .until("healed", async |world| {
            flow(world, "own").await["contents"] == json!({ "text": "own" })
                && only(world, "theme", "styles").await["light"] == json!({ "primary": " blue " })
                && only(world, "fgaSchema", "dsl").await.as_str().unwrap().contains("relation owner: user")
        })
        .await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.writes().await.len() - before, 3);
    assert_eq!(
        only(&world, "theme", "styles").await["brand-dark"],
        json!({ "primary": "black" }),
        "nobody declared it"
    );
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn what_descope_answers_as_it_was_written_holds_and_heals() {
    holds_and_heals(world(&[], &[]).await).await;
}

#[tokio::test]
async fn what_descope_rewrites_is_no_drift_and_a_foreign_edit_is() {
    holds_and_heals(world(&["reformats=true"], &[]).await).await;
}

#[tokio::test]
async fn versions_that_rise_with_every_write_are_no_drift() {
    holds_and_heals(world(&["componentsRise=true", "flowVersions=true"], &[]).await).await;
}

#[tokio::test]
async fn an_import_that_replaces_the_theme_takes_no_style_that_nobody_declared() {
    holds_and_heals(world(&["themeReplaces=true", "reformats=true"], &[]).await).await;
}

/// What is read within seconds may be of before the write: taken for what Descope made of it, the real one would be drift.
#[tokio::test]
async fn a_read_that_lags_behind_says_nothing_of_what_was_written() {
    let mut world = world(&["reformats=true"], &[]).await;
    write_all(&world);
    world.converge().await;
    switch(&world, json!({ "readDelay": "2s" })).await;
    let before = world.writes().await.len();

    world.write("own.json", r#"{ "contents": { "text": " new " }, "screens": [] }"#);
    world.write(
        "schema.fga",
        "model AuthZ 1.0\n\ntype user\n\ntype doc\n  relation reader: user\n  relation owner: user\n",
    );
    world.until("written", async |world| flow(world, "own").await["contents"] == json!({ "text": " new " })).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;

    let writes = world.writes().await;
    assert_eq!(writes.len() - before, 2, "{:#?}", &writes[before..]);
}

/// Where nothing is known, what is declared is compared: one write, and it is known again.
#[tokio::test]
async fn a_lost_state_costs_one_write_of_what_descope_rewrote() {
    let mut world = world(&["reformats=true"], &[]).await;
    write_all(&world);
    world.converge().await;
    world.stop().await;
    std::fs::remove_dir_all(world.path("state")).unwrap();
    let before = world.writes().await.len();

    world.converge().await;
    world.assert_nothing_left().await;

    let writes = world.writes().await;
    let lines: Vec<&str> = writes[before..].iter().map(|(line, _)| line.as_str()).collect();
    // A text in which blanks mean nothing is equal as it is.
    assert_eq!(lines.iter().filter(|line| **line == "POST /v2/mgmt/flow/import").count(), 2, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| **line == "POST /v2/mgmt/theme/import").count(), 1, "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[tokio::test]
async fn plan_and_audit_tell_digest_and_size_and_nothing_of_what_is_inside() {
    let mut world = world(&[], &[]).await;
    write_all(&world);
    world.write("own.json", r#"{ "contents": { "text": "sentinel-inside" } }"#);
    let planned = world.run_json(&["plan", "-o", "json"], 0).await;
    world.converge().await;
    let told = world.told(&["--kind", "flows"]).await;

    let change =
        planned["projects"][0]["changes"].as_array().unwrap().iter().find(|change| change["id"] == "own").unwrap();
    let to = &change["fields"][0]["to"];
    assert_eq!((&change["fields"][0]["path"], &to["size"]), (&json!("file"), &json!(39)), "{change}");
    assert_eq!(to["digest"].as_str().unwrap().len(), 16);
    let row = told.iter().find(|row| row["id"] == "own").unwrap();
    assert_eq!(row["fields"][0]["to"], *to, "{row}");
    let said = planned.to_string() + &json!(told).to_string() + &world.status().await.to_string();
    let said = said + &world.daemon().lines().join("\n");
    assert!(!said.contains("sentinel-inside"));
}

#[tokio::test]
async fn a_change_of_the_file_alone_is_a_new_revision_and_is_sent() {
    let mut world = world(&[], &[]).await;
    write_all(&world);
    world.converge().await;
    let revision = world.project().await["desired"]["revision"].clone();

    world.write("own.json", r#"{ "contents": { "text": "next" } }"#);
    world.until("sent", async |world| flow(world, "own").await["contents"] == json!({ "text": "next" })).await;
    assert_ne!(world.project().await["desired"]["revision"], revision);
    world.until("converged", async |world| world.is_converged().await).await;

    // A broken one leaves the last good one in force.
    world.write("own.json", "{ \"contents\": ");
    world.until("invalid", async |world| world.project().await["desired"]["valid"] == false).await;
    let error = world.project().await["desired"]["errors"][0].clone();
    assert_eq!((&error["file"], &error["line"]), (&json!("a.yaml"), &json!(3)), "{error}");
    world.assert_nothing_left().await;
}

/// One that is known does not speak for the next: the second would replace a live flow unasked.
#[tokio::test]
async fn each_document_by_itself_is_held_once_where_it_would_change_a_live_one() {
    let mut world = world(&[], &[]).await;
    world.reconfigure(|setup| setup.project = vec!["firstContact: hold".to_owned()]);
    write_all(&world);
    world.write("a.yaml", "roles: [{ name: r }]");
    world.converge().await;

    world.write(
        "a.yaml",
        "roles: [{ name: r }]\nflows: [{ id: sign-in, file: sign-in.json }, { id: own, file: own.json }]",
    );
    let fingerprint = held(&world, "first_contact").await;
    world.until("creates go ahead", async |world| world.entity("flows", "own").await.is_some()).await;
    assert_ne!(flow(&world, "sign-in").await["contents"], json!({ "text": " hello " }));
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("let go", async |world| flow(world, "sign-in").await["contents"] == json!({ "text": " hello " })).await;
    world.until("converged", async |world| world.is_converged().await).await;

    world.write(
        "a.yaml",
        "roles: [{ name: r }]\nflows: [{ id: sign-in, file: sign-in.json }, { id: own, file: own.json }, { id: step-up, file: own.json }]\n\
         fgaSchema: { file: schema.fga }",
    );
    world.write("sign-in.json", r#"{ "contents": { "text": "known" } }"#);
    held(&world, "first_contact").await;
    world.until("known ones go on", async |world| flow(world, "sign-in").await["contents"]["text"] == "known").await;
    world.until("a schema where there was none", async |world| only(world, "fgaSchema", "dsl").await.is_string()).await;
    let waiting = async |world: &World| -> Vec<Value> {
        plan(world).await["changes"].as_array().unwrap().iter().map(|change| change["id"].clone()).collect()
    };
    world.until("a plan that has nothing else left", async |world| waiting(world).await == ["step-up"]).await;
}

#[tokio::test]
async fn a_stock_flow_that_left_the_files_is_never_deleted() {
    let setup = ["policy: sync", "guards: { maxDeletes: 100, maxDeletePercent: off, deleteAfter: 0s }"];
    let mut world = world(&["protectedBuiltIns=false"], &setup).await;
    write_all(&world);
    world.converge().await;
    world.write("a.yaml", "flows: [{ id: step-up, file: own.json }]\ntheme: { file: theme.json }");
    world.until("the other is gone", async |world| world.entity("flows", "own").await.is_none()).await;
    world.assert_nothing_left().await;

    assert_eq!(flow(&world, "sign-in").await["contents"], json!({ "text": " hello " }));
}

#[tokio::test]
async fn what_leaves_the_schema_counts_as_deleted() {
    let mut world = world(&[], &[]).await;
    write_all(&world);
    world.converge().await;

    world.write("schema.fga", "model AuthZ 1.0\n\ntype user\n\ntype folder\n");
    let fingerprint = held(&world, "max_deletes").await;
    world.assert_nothing_left().await;
    let change = plan(&world).await["changes"][0].clone();
    let limit = "2 of fgaSchema would be gone within 24 hours, and `guards.maxDeletes` lets 0 go";
    assert_eq!(change["why"], format!("would take along what it leaves out: type doc, relation doc#owner; {limit}"));
    assert!(only(&world, "fgaSchema", "dsl").await.as_str().unwrap().contains("doc"));
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("let go", async |world| !only(world, "fgaSchema", "dsl").await.as_str().unwrap().contains("doc")).await;
    world.until("converged", async |world| world.is_converged().await).await;

    // Additions take nothing along.
    world.write("schema.fga", "model AuthZ 1.0\n\ntype user\n\ntype folder\n  relation owner: user\n");
    world.until("added", async |world| only(world, "fgaSchema", "dsl").await.as_str().unwrap().contains("owner")).await;
    world.until("converged", async |world| world.is_converged().await).await;

    // An empty text is the call that deletes it.
    world.write("schema.fga", "");
    let fingerprint = held(&world, "max_deletes").await;
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("deleted", async |world| world.live().await["fgaSchema"].as_array().is_none_or(Vec::is_empty)).await;
    world.until("converged", async |world| world.is_converged().await).await;
    world.assert_nothing_left().await;
    let writes = world.writes().await;
    assert_eq!(writes.last().unwrap().0, "POST /v1/mgmt/authz/schema/delete");
}

#[tokio::test]
async fn a_schema_that_would_be_refused_parks_alone_and_is_not_sent() {
    let mut world = world(&[], &[]).await;
    write_all(&world);
    world.write("schema.fga", "model AuthZ 1.0\n\nnonsense\n");
    world.start().await;
    world
        .until("parked", async |world| {
            let problems = world.project().await["problems"].clone();
            problems.as_array().unwrap().iter().any(|problem| {
                problem["kind"] == "fgaSchema"
                    && problem["message"].as_str().unwrap().contains("cannot be read at: nonsense")
            })
        })
        .await;
    world
        .until("the others", async |world| {
            let writes = world.writes().await;
            writes.iter().filter(|(line, _)| line.ends_with("/import")).count() == 3
        })
        .await;
    world.assert_nothing_left().await;

    assert!(!world.writes().await.iter().any(|(line, _)| line == "POST /v1/mgmt/fga/schema"));
}

/// Names are resolved when a flow is imported.
#[tokio::test]
async fn roles_that_a_flow_names_are_there_before_it() {
    let mut world = world(&[], &[]).await;
    write_all(&world);
    world.write("own.json", r#"{ "contents": {}, "references": { "roles": ["Late"] } }"#);
    let output = world.run(&["validate"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).is_empty() || output.status.success());
    world.write("b.yaml", "roles: [{ name: Late }]");
    world.converge().await;

    let writes = world.writes().await;
    let at =
        |line: &str| writes.iter().position(|(found, body)| found.contains(line) && body.to_string().contains("Late"));
    assert!(at("role/create").unwrap() < at("flow/import").unwrap(), "{writes:#?}");
}

/// A power cut in mid-drain: what was sent is sent once more at the most, and nothing is held or drifts for it.
#[tokio::test]
async fn a_kill_in_mid_drain_converges_to_the_same() {
    let mut world = world(&["reformats=true", "latency=20ms"], &[]).await;
    write_all(&world);
    world.start().await;
    world.until("something is written", async |world| !world.writes().await.is_empty()).await;
    world.kill().await;
    world.converge().await;
    world.assert_nothing_left().await;

    assert_eq!(flow(&world, "own").await["contents"], json!({ "text": "own" }));
    let writes = world.writes().await;
    let imports = writes.iter().filter(|(line, _)| line == "POST /v2/mgmt/flow/import").count();
    assert!(imports <= 4, "{writes:#?}");
}

#[tokio::test]
async fn claims_that_descope_would_refuse_park_alone_and_are_not_sent() {
    let mut world = world(&[], &[]).await;
    let text = |claim: &str| {
        format!(
            "jwtTemplates:\n  - {{ name: bad, type: user, template: {{ a: '{claim}' }} }}\n  - {{ name: good, type: user, template: {{ a: '1' }} }}"
        )
    };
    world.write("a.yaml", &text("{{user.id"));
    world.start().await;
    world
        .until("parked", async |world| {
            let problems = world.project().await["problems"].clone();
            let says = "template.a opens braces that it does not close";
            problems
                .as_array()
                .unwrap()
                .iter()
                .any(|problem| problem["id"] == "bad" && problem["message"].as_str().unwrap().contains(says))
        })
        .await;
    world.until("the other", async |world| world.entity("jwtTemplates", "good").await.is_some()).await;
    world.assert_nothing_left().await;
    let writes = world.writes().await;
    assert_eq!(writes.len(), 1, "{writes:#?}");

    world.write("a.yaml", &text("{{user.id}}"));
    world.converge().await;
    world.assert_nothing_left().await;
}
