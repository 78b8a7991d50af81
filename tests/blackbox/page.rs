//! The page: what is served, and what a real browser makes of it.

use crate::harness::PROJECT;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::TOKEN;
use crate::harness::World;
use crate::harness::missing;
use crate::harness::write_some;
use crate::postgres::Postgres;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

#[tokio::test]
async fn the_shell_is_open_has_no_data_and_may_load_nothing_from_elsewhere() {
    let mut world = World::new().await;
    world.reconfigure(|setup| {
        setup.top = vec!["http: { listen: '0.0.0.0:0', token: { env: BLACKBOX_TOKEN } }".to_owned()];
    });
    world.write("a.yaml", "permissions: [{ name: zz-permission }]\n");
    world.converge().await;
    let url = world.daemon_url().await.replace("0.0.0.0", "127.0.0.1");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut asked = vec!["/".to_owned()];
    let mut at = 0;
    while at < asked.len() {
        let path = asked[at].clone();
        at += 1;
        let answer = client.get(url.clone() + &path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let headers = answer.headers().clone();
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|other| other == rule), "{path}: {rule} in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
        assert_eq!(
            (header("x-content-type-options"), header("referrer-policy")),
            ("nosniff".to_owned(), "no-referrer".to_owned())
        );
        let kind = header("content-type");
        assert!(["text/html", "text/css", "text/javascript"].iter().any(|known| kind.starts_with(known)), "{kind}");
        let text = answer.text().await.unwrap();
        let bare = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!bare.contains("http://") && !bare.contains("https://") && !bare.contains("zz-permission"), "{path}");
        if path == "/" {
            assert!(!text.contains("<script>") && !text.contains("<style") && !text.contains("style="), "{text}");
            asked.extend(text.split('"').filter(|it| it.starts_with("page/")).map(|it| format!("/{it}")));
        }
        let imports =
            text.lines().filter(|line| line.starts_with("import ")).filter_map(|line| line.split("\"./").nth(1));
        for import in imports.map(|rest| format!("/page/{}", rest.split('"').next().unwrap())) {
            if !asked.contains(&import) {
                asked.push(import);
            }
        }
    }
    assert!(asked.len() > 8, "{asked:?}");
    assert_eq!(client.get(url.clone() + "/page/../Cargo.toml").send().await.unwrap().status(), 404);
    assert_eq!(client.get(url.clone() + "/page/nothing.js").send().await.unwrap().status(), 404);
    assert_eq!(client.get(url + "/api/v1/status").send().await.unwrap().status(), 401);
}

/// A browser, and what drives it.
pub struct Browser {
    tools: PathBuf,
    chromium: PathBuf,
}

/// `PAGE_TOOLS`, or where `.ci/run` puts it: a folder with `node_modules`.
pub fn browser() -> Option<Browser> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-tools/page");
    let tools = std::env::var_os("PAGE_TOOLS").map_or_else(usual, PathBuf::from);
    let found = |name: &str| {
        let paths = std::env::var_os("PATH")?;
        std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|path| path.is_file())
    };
    let has_tools = ["playwright-core", "axe-core"].iter().all(|name| tools.join("node_modules").join(name).is_dir());
    // The shell is the same without windows, and starts in half the time.
    let chromium = found("chromium-headless-shell").or_else(|| found("chromium"));
    let chromium = chromium.filter(|_| has_tools && found("node").is_some());
    if chromium.is_none() {
        missing("no node with playwright-core and axe-core, or no chromium: the page is not looked at");
    }
    Some(Browser { tools, chromium: chromium? })
}

impl Browser {
    async fn start(&self, world: &World, scenario: &str, more: Value) -> Process {
        let url = world.daemon_url().await.replace("0.0.0.0", "127.0.0.1") + "/";
        self.start_at(&url, world, scenario, &more)
    }

    /// At one of several daemons.
    pub fn start_at(&self, url: &str, world: &World, scenario: &str, more: &Value) -> Process {
        let mut spec = json!({ "scenario": scenario, "name": scenario, "url": url, "tools": self.tools, "chromium": self.chromium, "steps": world.path("steps") });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fs::create_dir_all(world.path("steps")).unwrap();
        let mut command = Command::new("node");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/page.mjs")).arg(spec.to_string());
        Process::start(command)
    }

    async fn run(&self, world: &World, scenario: &str, more: Value) {
        end(self.start(world, scenario, more).await, scenario).await;
    }

    async fn look(&self, world: &World, name: &str, expect: &[&str]) {
        self.run(world, "look", json!({ "name": name, "expect": expect })).await;
    }
}

pub async fn end(mut process: Process, what: &str) {
    let status = process.ended_within(Duration::from_secs(300)).await;
    assert!(status.success(), "{what}: {}", process.tail(60));
}

/// The page waits for the other side to have done this.
pub async fn step(world: &World, process: &Process, name: &str, act: impl AsyncFnOnce()) {
    process.wait_for_line(name, |line| line == format!("step {name}")).await;
    act().await;
    fs::write(world.path("steps").join(name), "").unwrap();
}

#[tokio::test]
async fn the_page_shows_a_project_in_sync_and_takes_orders() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    write_some(&world, 3, 2, 4);
    world.converge().await;

    browser
        .look(
            &world,
            "converged",
            &[
                "In sync",
                "9 declared resources equal what is live.",
                "Live",
                "Nothing is held back.",
                "No 429 since the daemon started, less than an hour ago",
                "at the start",
            ],
        )
        .await;
    let page = browser.start(&world, "orders", json!({ "token": TOKEN })).await;
    step(&world, &page, "a pass", async || world.pass().await).await;
    end(page, "orders").await;
}

#[tokio::test]
async fn the_page_asks_for_the_token_and_keeps_it_in_memory_alone() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    world.reconfigure(|setup| {
        setup.top = vec!["http: { listen: '0.0.0.0:0', token: { env: BLACKBOX_TOKEN } }".to_owned()];
    });
    write_some(&world, 1, 0, 0);
    world.converge().await;
    world.delete_live("permissions/p0").await;

    browser.run(&world, "token", json!({ "token": TOKEN, "secret": "default" })).await;
    browser
        .run(&world, "look", json!({ "name": "signed-in", "token": TOKEN, "expect": ["In sync"], "never": [TOKEN] }))
        .await;
}

#[tokio::test]
async fn the_page_shows_what_failed_with_its_cause_and_a_suspension_does_not_hide_it() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    write_some(&world, 2, 0, 3);
    let refusal = json!({ "errorCode": "E1", "errorMessage": "<b>no such luck</b>" });
    world.faults(json!([
        { "match": { "path": "/v1/mgmt/tenant/*", "item": "t0" }, "fault": "status", "status": 400, "body": refusal },
        { "match": { "path": "/v1/mgmt/tenant/*", "item": "t1" }, "fault": "status", "status": 503 },
    ])).await;
    world.start().await;
    world.until("parked", async |world| world.has_problem("tenants", "t0", "parked").await).await;

    let again = format!("descope-gitops reconcile --retry --url {}/", world.daemon_url().await);
    browser
        .look(
            &world,
            "failing",
            &[
                again.as_str(),
                "Failing: somebody has to act",
                "1 resource refused",
                "tenants/t0 was refused",
                "<b>no such luck</b>",
                "tenants.yaml:2",
                "1 refused",
            ],
        )
        .await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=2h").await.0, 200);
    browser
        .look(
            &world,
            "failing-suspended",
            &["Failing, suspended: somebody has to act", "tenants/t0 was refused", "Suspended: it only observes"],
        )
        .await;

    // Nor does the suspension of its kind.
    assert_eq!(world.ask(Method::POST, "/api/v1/resume").await.0, 200);
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=2h&kind=tenants").await.0, 200);
    world.fresh_pass().await;
    let project = world.project().await;
    assert_eq!((&project["counts"]["parked"], &project["counts"]["blocked"]), (&json!(1), &json!(0)), "{project:#}");
    let url = world.daemon_url().await;
    browser
        .run(
            &world,
            "look",
            json!({ "name": "failing-partly-suspended", "never": ["Checking", "kill"], "expect": [
                "Failing, partly suspended: somebody has to act",
                "1 resource refused",
                "tenants/t0 was refused",
                format!("descope-gitops resume --kind tenants --url {url}/"),
            ] }),
        )
        .await;
}

#[tokio::test]
async fn the_page_says_what_of_a_project_at_rest_is_suspended() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    write_some(&world, 2, 0, 2);
    world.converge().await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=2h&kind=tenants").await.0, 200);
    world.fresh_pass().await;
    browser
        .look(
            &world,
            "rest-partly-suspended",
            &["In sync, but tenants is suspended until", "In sync, partly suspended"],
        )
        .await;

    let tenants = crate::harness::read(&world.path("repo/tenants.yaml"));
    world.write("tenants.yaml", &tenants.replace("name: Tenant 0", "name: Other"));
    world.until("put off", async |world| world.project().await["counts"]["suspended"] == 1).await;
    let never = ["Checking"];
    let expect = ["tenants is suspended until", "the rest is in sync", "1 change put off", "Partly suspended"];
    browser.run(&world, "look", json!({ "name": "partly-suspended", "never": never, "expect": expect })).await;
}

#[tokio::test]
async fn the_page_suspends_a_kind_and_a_resource_and_resumes_them() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    write_some(&world, 2, 2, 0);
    world.converge().await;
    world.fresh_pass().await;
    browser.run(&world, "parts", json!({ "token": TOKEN })).await;
    let trail = world.run_json(&["audit", "-o", "json", "--kind", "operator"], 0).await;
    let rows = trail["changes"].as_array().unwrap();
    let told: Vec<String> = rows
        .iter()
        .filter(|row| row["action"] != "reconcile")
        .map(|row| {
            let message = row["message"].as_str().unwrap();
            format!("{} {}", row["action"].as_str().unwrap(), message.split([',', ';']).next().unwrap())
        })
        .collect();
    let expected = ["suspend permissions/p0 for 30m", "resume permissions/p0", "suspend roles for 8h", "resume roles"];
    assert_eq!(told, expected);
}

/// Each event closed it while somebody typed.
#[tokio::test]
async fn the_field_for_the_token_stays_open_whatever_arrives() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    write_some(&world, 1, 0, 0);
    world.converge().await;
    let page = browser.start(&world, "gate", json!({ "token": TOKEN })).await;
    for name in ["a pass", "another pass"] {
        step(&world, &page, name, async || world.pass().await).await;
    }
    end(page, "gate").await;
}

#[tokio::test]
async fn a_second_press_never_orders_what_came_after_the_first() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    let files = |least: u32, disabled: bool| {
        format!(
            "passwordSettings: {{ enabled: true, minLength: {least} }}\n\
             tenants: [{{ id: globex, name: Globex, disabled: {disabled} }}]\n"
        )
    };
    world.write("a.yaml", &files(12, false));
    world.converge().await;
    let fingerprint = async || world.project().await["held"]["fingerprint"].clone();

    let page = browser.start(&world, "armed", json!({ "token": TOKEN })).await;
    for place in ["needs", "held"] {
        step(&world, &page, &format!("weaken {place}"), async || {
            world.write("a.yaml", &files(8, false));
            let is_weakening = async |world: &World| world.project().await["held"]["reason"] == "weakening";
            world.until("held", is_weakening).await;
        })
        .await;
        let first = fingerprint().await;
        step(&world, &page, &format!("lock out {place}"), async || {
            world.write("a.yaml", &files(12, true));
            let is_lockout = async |world: &World| world.project().await["held"]["reason"] == "lockout";
            world.until("another one held", is_lockout).await;
        })
        .await;
        let second = fingerprint().await;
        assert_ne!(first, second);
        step(&world, &page, &format!("look {place}"), async || {
            world.fresh_pass().await;
            assert_eq!(fingerprint().await, second, "nobody approved it");
            let globex = world.entity("tenants", "globex").await.unwrap();
            assert_ne!(globex["disabled"], true, "{globex}");
        })
        .await;
    }
    step(&world, &page, "suspend", async || {
        assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=3h").await.0, 200);
        // Whoever reads the status after the answer finds what was ordered.
        assert!(world.project().await["suspendedUntil"].is_string());
    })
    .await;
    step(&world, &page, "look at the suspension", async || {
        assert!(world.project().await["suspendedUntil"].is_string(), "nobody ended it");
    })
    .await;
    end(page, "armed").await;
}

#[tokio::test]
async fn a_screen_reader_hears_news_alone_and_the_keyboard_keeps_its_place() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    let files = |one: &str, two: &str| {
        format!("permissions: [{{ name: p0, description: {one} }}, {{ name: p1, description: {two} }}]\n")
    };
    world.write("a.yaml", &files("first", "first"));
    world.converge().await;
    world.fresh_pass().await;

    let page = browser.start(&world, "quiet", json!({})).await;
    let order = async |path: &str| assert_eq!(world.ask(Method::POST, path).await.0, 200);
    step(&world, &page, "suspend and differ", async || {
        order("/api/v1/suspend?for=1h").await;
        world.write("a.yaml", &files("second", "first"));
    })
    .await;
    step(&world, &page, "differ more", async || world.write("a.yaml", &files("second", "second"))).await;
    step(&world, &page, "resume", async || order("/api/v1/resume").await).await;
    step(&world, &page, "differ again", async || {
        order("/api/v1/suspend?for=1h").await;
        world.write("a.yaml", &files("third", "second"));
    })
    .await;
    end(page, "quiet").await;
}

#[tokio::test]
async fn the_page_calls_a_kind_that_is_refused_failing_and_a_part_that_waits_for_its_own_create_not_blocked() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    world.write("a.yaml", "roles: [{ name: r }]\ntenants: [{ id: acme, name: Acme, defaultRoles: [r] }]\n");
    let busy = json!([{ "match": { "path": "/v1/mgmt/tenant/create" }, "fault": "status", "status": 503 }]);
    world.faults(busy).await;
    world.start().await;
    world.until("failed", async |world| world.has_problem("tenants", "acme", "retrying").await).await;
    let project = world.project().await;
    assert_eq!((&project["counts"]["retrying"], &project["counts"]["blocked"]), (&json!(1), &json!(0)), "{project:#}");
    assert_eq!(project["problems"].as_array().unwrap().len(), 1, "{project:#}");
    let url = world.daemon_url().await;
    let status = world.run(&["status", "--url", &url]).await;
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("retrying: tenants/acme") && !status.contains("blocked: "), "{status}");

    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/*" }, "fault": "status", "status": 403 }])).await;
    world.pass().await;
    let is_parked = async |world: &World| world.has_problem("roles", "", "parked").await;
    world.until("the kind is refused", is_parked).await;
    browser.look(&world, "kind-refused", &["Failing: somebody has to act", "roles cannot be read"]).await;
    let status = world.run(&["status", "--url", &url]).await;
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("cannot be read: roles: ") && !status.contains("roles/:"), "{status}");
}

#[tokio::test]
async fn what_was_created_a_moment_ago_and_is_not_listed_is_not_in_sync() {
    let mut world = World::new().await;
    write_some(&world, 3, 0, 0);
    world.converge().await;
    assert_eq!(world.project().await["counts"]["inSync"], 3);
    world.delete_live("permissions/p0").await;
    world.fresh_pass().await;

    let project = world.project().await;
    assert_eq!(project["notConvergedBecause"], "unconfirmed", "{project:#}");
    assert_eq!(
        (&project["counts"]["inSync"], &project["counts"]["unconfirmed"]),
        (&json!(2), &json!(1)),
        "{project:#}"
    );
    if let Some(browser) = browser() {
        browser.look(&world, "unconfirmed", &["Confirming", "2 in sync", "1 not confirmed"]).await;
    }
}

#[tokio::test]
async fn before_any_file_could_be_read_the_page_claims_to_know_none() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    world.write("a.yaml", "roles: [\n");
    world.start().await;
    world.until("invalid", async |world| world.project().await["desired"]["errors"][0].is_object()).await;
    let expect = ["Files invalid", "What is declared is not known", "Which kinds the files mention is not known"];
    let never = ["Nothing is declared", "Not managed"];
    browser.run(&world, "look", json!({ "name": "never-valid", "never": never, "expect": expect })).await;
}

#[tokio::test]
async fn where_no_token_can_exist_the_page_asks_for_none() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    world.reconfigure(|setup| {
        setup.top = vec!["http: { listen: '0.0.0.0:0', token: { env: BLACKBOX_NO_TOKEN } }".to_owned()];
    });
    write_some(&world, 1, 0, 0);
    world.start().await;
    let (expect, never) = (["No token is configured", "none is configured"], ["Use it", "Enter token"]);
    browser.run(&world, "look", json!({ "name": "no-token", "never": never, "expect": expect })).await;
}

#[tokio::test]
async fn the_page_shows_what_is_held_and_releases_it() {
    let Some(browser) = browser() else { return };
    let project = ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s }"].map(str::to_owned).to_vec();
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    write_some(&world, 1, 0, 3);
    world.converge().await;
    world.write("tenants.yaml", "tenants: []\n");
    world.until("held", async |world| world.project().await["held"].is_object()).await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();

    browser
        .look(
            &world,
            "held",
            &[
                "Held: not everything goes ahead",
                "3 changes held for approval, 3 of them deletes",
                "kind_emptied",
                &format!("descope-gitops approve {fingerprint}"),
                "an earlier one",
            ],
        )
        .await;
    browser.run(&world, "approve", json!({ "token": TOKEN })).await;
}

#[tokio::test]
async fn the_page_is_right_again_after_a_restart() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    write_some(&world, 2, 0, 0);
    world.converge().await;
    let address = world.daemon_url().await.trim_start_matches("http://").to_owned();
    world.stop().await;
    world.reconfigure(|setup| {
        setup.top = vec![format!("http: {{ listen: '{address}', token: {{ env: BLACKBOX_TOKEN }} }}")];
    });
    world.converge().await;

    let page = browser.start(&world, "reconnect", json!({})).await;
    page.wait_for_line("stop", |line| line == "step stop").await;
    world.kill().await;
    fs::write(world.path("steps/stop"), "").unwrap();
    page.wait_for_line("start", |line| line == "step change and start").await;
    world.write("more.yaml", "permissions: [{ name: late }]\n");
    world.converge().await;
    fs::write(world.path("steps/change and start"), "").unwrap();
    end(page, "reconnect").await;
}

#[tokio::test]
async fn the_page_shows_drift_by_itself_and_a_link_to_it_survives_a_reload() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    write_some(&world, 2, 0, 1);
    world.converge().await;

    let page = browser.start(&world, "resource", json!({})).await;
    step(&world, &page, "drift", async || {
        assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=2h").await.0, 200);
        world.edit_live("permissions/p0", json!({ "description": "changed by hand" })).await;
        world.pass().await;
    })
    .await;
    end(page, "resource").await;
    browser
        .look(
            &world,
            "suspended-drift",
            &["Suspended: nothing is changed", "1 change put off", "1 drifted", "by console@example.com (U2console)"],
        )
        .await;
}

#[tokio::test]
async fn the_page_shows_files_that_cannot_be_used_and_a_key_that_is_refused() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    write_some(&world, 2, 0, 0);
    world.converge().await;
    world.write("broken.yaml", "roles:\n  - { nme: x }\n");
    world.until("invalid", async |world| world.project().await["desired"]["valid"] == false).await;
    browser
        .look(
            &world,
            "invalid",
            &[
                "Files invalid: somebody has to act",
                "The newest files cannot be used",
                "broken.yaml:2",
                "descope-gitops validate",
                "the newest files are not in force",
            ],
        )
        .await;

    world.remove("broken.yaml");
    world.faults(json!([{ "match": {}, "fault": "status", "status": 401 }])).await;
    world.pass().await;
    browser.look(&world, "key-refused", &["Failing: somebody has to act", "Descope refuses the management key"]).await;
}

#[tokio::test]
async fn the_page_says_that_the_database_does_not_answer_and_not_that_all_is_well() {
    let Some(browser) = browser() else { return };
    let Some(server) = Postgres::fresh() else { return };
    let state = "state: { url: { env: BLACKBOX_DATABASE }, fingerprintKey: { env: BLACKBOX_FINGERPRINTS }, \
                 lease: { life: 2s, renew: 500ms } }";
    let top = vec![state.to_owned(), "requestTimeout: 2s".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    world.environment = vec![
        ("BLACKBOX_DATABASE".to_owned(), server.database()),
        ("BLACKBOX_FINGERPRINTS".to_owned(), "0123456789abcdef".repeat(4)),
    ];
    write_some(&world, 2, 0, 0);
    world.start().await;
    world.converge().await;

    server.kill();

    let silent = "the database of state.url does not answer";
    world.until("noticed", async |world| world.project().await["lease"]["isMine"] == false).await;
    let lease = format!("The lease: {silent}");
    let verdict = format!("Nothing is written: {silent}.");
    let next = "See that PostgreSQL runs and that every replica reaches it.";
    let history = "the history cannot be read; the daemon's log says why.";
    browser.look(&world, "no-database", &["Not known which replica holds it", &lease, &verdict, next, history]).await;
}

#[tokio::test]
async fn the_page_shows_a_pause_with_its_chart_and_several_projects() {
    let Some(browser) = browser() else { return };
    let simulator = vec!["--rate-limit=10/60s".to_owned(), "--lockout=60s".to_owned()];
    let mut world = World::with(Setup { simulator, ..Setup::default() }).await;
    let api = world.api.clone();
    world.reconfigure(|setup| {
        let project = |name: &str, id: &str, path: &str, policy: &str| {
            format!("  - {{ name: {name}, projectId: {id}, managementKey: {{ env: BLACKBOX_KEY }}, baseUrl: '{api}', path: {path}, policy: {policy}, firstContact: apply }}")
        };
        let other = format!("{}2", &PROJECT[..PROJECT.len() - 1]);
        setup.top = vec![format!("projects:\n{}\n{}", project("production", PROJECT, "one", "upsert-only"), project("sandbox", &other, "two", "observe"))];
    });
    let tenants: String = (0..40).map(|n| format!("  - {{ id: t{n}, name: Tenant {n} }}\n")).collect();
    world.write("one/a.yaml", &format!("tenants:\n{tenants}"));
    world.write("two/a.yaml", "permissions: [{ name: p }]\n");
    world.start().await;
    world.until("paused", async |world| world.status().await["limiters"][0]["pausedUntil"].is_string()).await;

    browser
        .look(
            &world,
            "paused",
            &[
                "Waiting for Descope's rate limit",
                "nothing is sent until",
                "with 429 since the daemon started, less than an hour ago",
                "production",
                "sandbox",
                // Of how many depends on what was done before the first count.
                " changes done, about",
            ],
        )
        .await;
}

/// A project of a status, at rest but for `more`.
fn standing(name: &str, more: &Value) -> Value {
    let mut project = json!({
        "name": name, "policy": "sync", "converged": true, "notConvergedBecause": null, "lease": null, "checkouts": null,
        "suspendedUntil": null, "suspensions": [], "held": null, "holds": [], "contested": [], "waits": [], "problems": [], "problemsTotal": 0,
        "desired": { "valid": true, "revision": "r", "errors": [] }, "lastPass": { "result": "noop" }, "progress": null,
        "drift": { "total": 0, "resources": [] },
        "counts": { "inSync": 3, "changing": 0, "retrying": 0, "blocked": 0, "parked": 0, "held": 0, "waiting": 0, "suspended": 0, "unconfirmed": 0, "unknown": 0 },
    });
    for (name, value) in more.as_object().unwrap() {
        match (name.as_str(), value) {
            ("counts", Value::Object(counts)) => project["counts"].as_object_mut().unwrap().extend(counts.clone()),
            _ => project[name] = value.clone(),
        }
    }
    project
}

/// One project of two was called suspended where a kind of it was, and none of them by its name.
#[tokio::test]
async fn the_verdict_over_several_projects_names_those_that_it_is_about() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    world.start().await;
    let end = "2026-01-01T00:00:00Z";
    let roles = json!([{ "kind": "roles", "id": null, "since": end, "until": end, "by": null }]);
    let off = json!({ "suspensions": roles, "converged": false, "counts": { "suspended": 1 } });
    let whole = json!({ "suspendedUntil": end });
    let held = json!({ "converged": false, "held": { "fingerprint": "f", "reason": "weakening", "changes": 2, "deletes": 0 } });
    let refused = json!({ "converged": false, "counts": { "parked": 2 } });
    let at_work = json!({ "converged": false, "counts": { "changing": 2 } });
    let none = json!({});
    let case = |a: &Value, b: &Value, expect: Value| {
        let status = json!({ "projects": [standing("a", a), standing("b", b)], "components": [], "limiters": [] });
        json!({ "status": status, "expect": expect })
    };
    let titled = |a: &Value, b: &Value, title: &str| case(a, b, json!({ "title": title }));
    let mut cases = vec![
        titled(&none, &none, "All 2 projects in sync"),
        titled(&whole, &none, "Suspended: a (1 project of 2)"),
        titled(&off, &whole, "Suspended or partly suspended: a, b (2 projects of 2)"),
        titled(&at_work, &none, "Applying: a (1 project of 2)"),
        case(&none, &held, json!({ "title": "Held: b (1 project of 2)", "detail": "2 changes held; 3 in sync." })),
        titled(&none, &refused, "Failing: b (1 project of 2)"),
        titled(&whole, &refused, "Failing: b (1 project of 2)"),
    ];
    let two = json!({ "converged": false, "counts": { "retrying": 1 } });
    let detail = "a: 1 failed for now; 3 in sync. b: 2 changes held; 3 in sync.";
    cases.push(case(&two, &held, json!({ "title": "Not going ahead: a, b (2 projects of 2)", "detail": detail })));
    // When it ends is told as the browser's place tells it.
    let detail = "1 change put off until the suspension ends; 3 in sync. Only observed for now: roles of b.";
    cases.push(case(&none, &off, json!({ "tone": "off", "detail": detail })));
    // A key that one replica has wrong is one cause.
    let replica = json!({ "replica": "x/1", "isMine": true, "isHolder": false, "refused": "management key refused", "refusedSince": end });
    let wrong_key = json!({ "checkouts": { "needs": "nobody", "inForce": "r", "replicas": [replica] } });
    let mut wrong = case(&wrong_key, &none, json!({ "needs": ["Descope refuses the replica x/1"] }));
    wrong["status"]["components"] = json!([{ "name": "descope", "project": "a", "status": "failing", "reason": "management key refused", "since": end }]);
    cases.push(wrong.clone());
    wrong["status"]["projects"][0]["checkouts"] = Value::Null;
    wrong["expect"] = json!({ "needs": ["Descope refuses the management key"] });
    cases.push(wrong);
    browser.run(&world, "verdicts", json!({ "cases": cases })).await;
}

#[tokio::test]
async fn what_is_ordered_of_one_of_several_projects_names_it_before_the_second_press() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    let api = world.api.clone();
    world.reconfigure(|setup| {
        let project = |name: &str, id: &str| {
            format!("  - {{ name: {name}, projectId: {id}, managementKey: {{ env: BLACKBOX_KEY }}, baseUrl: '{api}', path: {name}, firstContact: apply }}")
        };
        let other = format!("{}2", &PROJECT[..PROJECT.len() - 1]);
        setup.top = vec![format!("projects:\n{}\n{}", project("production", PROJECT), project("sandbox", &other))];
    });
    let files =
        |least: u32| format!("passwordSettings: {{ enabled: true, minLength: {least} }}\nroles: [{{ name: r }}]\n");
    for project in ["production", "sandbox"] {
        world.write(&format!("{project}/a.yaml"), &files(12));
    }
    world.converge().await;
    world.write("sandbox/a.yaml", &files(8));
    world.until("held", async |world| !world.status().await["projects"][1]["held"].is_null()).await;
    browser.run(&world, "several", json!({ "token": TOKEN })).await;
}

#[tokio::test]
async fn a_large_project_does_not_make_the_page_large() {
    let Some(browser) = browser() else { return };
    let mut world = World::with(Setup { project: vec!["policy: observe".to_owned()], ..Setup::default() }).await;
    write_some(&world, 0, 0, 20_000);
    world.start().await;
    world.until("planned", async |world| world.project().await["counts"]["waiting"] == 20_000).await;

    browser.run(&world, "large", json!({ "expect": ["20,000 differences, 1 to 20", "1 difference of 20,000"] })).await;
}

#[tokio::test]
async fn the_page_says_why_each_thing_is_held_or_waits_and_what_ends_it() {
    let Some(browser) = browser() else { return };
    let mut world = World::new().await;
    let files = |least: u32, name: &str| {
        format!("passwordSettings: {{ enabled: true, minLength: {least} }}\ntenants: [{{ id: acme, name: {name} }}]\n")
    };
    world.write("a.yaml", &files(12, "Acme"));
    world.converge().await;
    assert_eq!(world.ask(Method::POST, "/api/v1/suspend?for=2h&target=tenants/acme").await.0, 200);
    world.write("a.yaml", &files(8, "New"));
    world.until("held", async |world| !world.project().await["held"].is_null()).await;

    let expect = [
        "held for approval",
        "it lowers protection compared with what is live",
        "Suspended: tenants/acme is only observed",
        "by 127.0.0.1",
        "descope-gitops resume --target tenants/acme",
        "Only observed for now: tenants/acme",
    ];
    let never = ["`", "until in"];
    let look = json!({ "name": "held-and-suspended", "expect": expect, "never": never });
    browser.run(&world, "look", look).await;
}
