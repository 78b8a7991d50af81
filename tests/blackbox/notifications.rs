//! Notifications, as a real receiver gets them.

use crate::harness::PROJECT;
use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::missing;
use crate::outputs;
use crate::postgres::Postgres;
use crate::replicas::Replicas;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::process::Command;

/// A process that is told things.
pub struct Receiver {
    process: Process,
    pub url: String,
    answer: std::path::PathBuf,
}

impl Receiver {
    /// `None` where nothing can run it.
    pub async fn start(world: &World) -> Option<Self> {
        if Command::new("node").arg("--version").output().is_err() {
            missing("no node: nobody receives notifications");
            return None;
        }
        let answer = world.path("answer");
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receiver.mjs"));
        command.env("RECEIVER_KEY", "hmac-key-of-the-receiver").env("RECEIVER_ANSWER", &answer);
        let process = Process::start(command);
        let line = process.wait_for_line("the receiver's address", |line| line.starts_with("listening on ")).await;
        let url = line.rsplit(' ').next().unwrap().to_owned();
        Some(Self { process, url, answer })
    }

    fn answers(&self, status: &str) {
        fs::write(&self.answer, status).unwrap();
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Value> {
        self.process.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What it was told at this path and took, as `EVENT: SUBJECT...`.
    fn told(&self, path: &str) -> Vec<String> {
        let requests =
            self.requests().into_iter().filter(|request| request["url"] == path && request["status"] == "200");
        let line = |request: Value| {
            if request["body"]["blocks"].is_null() {
                outputs::check("notification", &request["body"]);
            }
            let items = request["body"]["items"].as_array().unwrap().clone();
            let subjects: Vec<&str> = items.iter().map(|item| item["subject"].as_str().unwrap()).collect();
            format!("{}: {}", request["body"]["event"].as_str().unwrap(), subjects.join(" "))
        };
        requests.map(line).collect()
    }
}

const HOOK: &str = "/hook?token=zz-token-of-the-hook";
const SLACK: &str = "/services/T0/B0/zz-token-of-slack";

/// A daemon that tells both sorts of receiver; `None` where none can run.
async fn told_world(on: &str) -> Option<(World, Receiver)> {
    let mut world = World::with(Setup {
        project: vec![
            "policy: sync".into(),
            "firstContact: apply".into(),
            "guards: { deleteAfter: 0s, maxDeletes: 0 }".into(),
        ],
        ..Setup::default()
    })
    .await;
    let receiver = Receiver::start(&world).await?;
    world.environment.push(("HOOK_URL".to_owned(), receiver.url.clone() + HOOK));
    world.environment.push(("HOOK_KEY".to_owned(), "hmac-key-of-the-receiver".to_owned()));
    fs::write(world.path("slack-url"), receiver.url.clone() + SLACK + "\n").unwrap();
    let slack = world.path("slack-url");
    world.reconfigure(|setup| {
        setup.top.push(format!(
            "notifications:\n  - {{ type: webhook, url: {{ env: HOOK_URL }}, hmacKey: {{ env: HOOK_KEY }}, on: [{on}] }}\n  \
             - {{ type: slack, url: {{ file: {} }} }}",
            slack.display()
        ));
    });
    Some((world, receiver))
}

/// A project with a role whose delete is held.
async fn hold(world: &mut World) {
    world.write("a.yaml", "roles: [{ name: keep }, { name: zz-goes }]\n");
    world.converge().await;
    world.write("a.yaml", "roles: [{ name: keep }]\n");
    world.until("held", async |world| !world.project().await["held"].is_null()).await;
}

#[tokio::test]
async fn what_is_held_is_told_once_signed_and_so_is_its_end() {
    let Some((mut world, receiver)) = told_world("held, failing, recovered").await else { return };
    hold(&mut world).await;
    world.until("both told", async |_| receiver.requests().len() == 2).await;

    let requests = receiver.requests();
    let of = |path: &str| requests.iter().find(|request| request["url"] == path).unwrap();
    let hook = of(HOOK);
    assert_eq!((&hook["isSigned"], &hook["isRecent"], &hook["method"]), (&json!(true), &json!(true), &json!("POST")));
    let fingerprint = world.project().await["held"]["fingerprint"].clone();
    let item = &hook["body"]["items"][0];
    assert_eq!((&hook["body"]["event"], &hook["body"]["project"]), (&json!("held"), &json!("default")));
    assert_eq!((&item["key"], &item["fingerprint"]), (&json!("default/held/max_deletes/roles/zz-goes"), &fingerprint));
    let slack = of(SLACK);
    assert_eq!(slack["hasSignature"], false);
    let text = slack["body"]["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(
        text.contains("max_deletes") && text.contains(&format!("approve {}", fingerprint.as_str().unwrap())),
        "{text}"
    );

    // Held as before, in more passes and after a restart.
    world.pass().await;
    world.stop().await;
    world.start().await;
    world.until("held again", async |world| !world.project().await["held"].is_null()).await;
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(Method::POST, &format!("/api/v1/approve?plan={fingerprint}")).await.0, 200);
    world.until("the end told", async |_| receiver.requests().len() == 4).await;
    assert_eq!(receiver.told(HOOK), ["held: max_deletes/roles/zz-goes", "recovered: max_deletes/roles/zz-goes"]);
    let end = receiver.requests().into_iter().rfind(|request| request["url"] == HOOK).unwrap();
    assert_eq!(end["body"]["items"][0]["since"], item["since"]);
    assert!(end["body"]["items"][0]["until"].is_string());

    let (_, log) = world.stop_and_read().await;
    let log = log.join("\n");
    assert!(log.contains("\"a receiver was notified\""), "{log}");
    let is_its_hold =
        |line: &&str| line.contains("\"a change is held until approved\"") && line.contains("\"zz-goes\"");
    // Once for each start: neither a pass nor the look of a moment says it again.
    assert_eq!(log.lines().filter(is_its_hold).count(), 1, "{log}");
    for secret in ["zz-token-of", "hmac-key-of-the-receiver"] {
        assert!(!log.contains(secret), "{secret} in the log");
        let state = fs::read(world.path("state/state.db")).unwrap();
        assert!(!String::from_utf8_lossy(&state).contains(secret), "{secret} in the state");
    }
    let sent: Vec<Value> = receiver.requests();
    assert!(sent.iter().all(|request| !request["body"].to_string().contains("zz-token-of")));
}

/// Everything but the page named a command that the daemon refuses.
#[tokio::test]
async fn where_the_daemon_takes_no_orders_everything_says_so_in_the_place_of_a_command() {
    const WHY: &str = "the daemon takes no orders, as http.token is not set: set it and restart the daemon";
    let Some((mut world, receiver)) = told_world("held").await else { return };
    world.reconfigure(|setup| setup.top.push("http: { listen: 127.0.0.1:0 }".to_owned()));
    hold(&mut world).await;
    world.until("both told", async |_| receiver.requests().len() == 2).await;

    let url = world.daemon_url().await;
    let said = async |world: &World, arguments: &[&str]| {
        String::from_utf8(world.run(&[arguments, &["--url", &url]].concat()).await.stdout).unwrap()
    };
    let mut told = Vec::new();
    for arguments in [&["status"][..], &["plan"], &["plan", "-o", "markdown"]] {
        told.push(said(&world, arguments).await);
    }
    let requests = receiver.requests();
    told.extend(requests.iter().map(|request| request["body"].to_string()));
    for text in &told {
        assert!(text.contains(WHY) && text.contains("ends with") && !text.contains("descope-gitops approve"), "{text}");
    }
    let hook = requests.iter().find(|request| request["url"] == HOOK).unwrap();
    assert_eq!(hook["body"]["items"][0]["fingerprint"], Value::Null);
    assert_eq!(world.status().await["canOrder"], false);

    let (_, log) = world.stop_and_read().await;
    let log = log.join("\n");
    assert!(log.contains(&format!("changes are held until approved: {WHY}")), "{log}");
    world.reconfigure(|setup| drop(setup.top.pop()));
    world.start().await;
    world.until("held again", async |world| world.project().await["held"].is_object()).await;
    assert_eq!(world.status().await["canOrder"], true);
    let url = world.daemon_url().await;
    for command in ["status", "plan"] {
        let text = String::from_utf8(world.run(&[command, "--url", &url]).await.stdout).unwrap();
        assert!(text.contains("descope-gitops approve") && !text.contains(WHY), "{text}");
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_told_later_and_nothing_waits_for_it() {
    let Some((mut world, receiver)) = told_world("failing, recovered").await else { return };
    world.reconfigure(|setup| setup.top.push("retry: { maxBackoff: 2s }".to_owned()));
    receiver.answers("503");
    world.write("a.yaml", "roles: [{ name: keep }]\n");
    world.converge().await;
    world.write("b.yaml", "roles: [\n");
    world
        .until("tried again", async |world| {
            world.metric("notifications_total{result=\"failed\",type=\"webhook\"}").await.is_some_and(|n| n >= 3.0)
        })
        .await;
    // What is in force is not what the newest files say.
    world.until("not well", async |world| world.project().await["lastPass"]["result"] == "partial").await;
    // Whoever looks sees that nobody is told, and that the plan is of older files.
    let component = async |world: &World| {
        let components = world.status().await["components"].as_array().cloned().unwrap_or_default();
        components.into_iter().find(|it| it["name"] == "notifications").map(|it| it["status"].clone())
    };
    world.until("said", async |world| component(world).await == Some(json!("degraded"))).await;
    let url = world.daemon_url().await;
    let said = async |world: &World, command: &str| {
        String::from_utf8(world.run(&[command, "--url", &url]).await.stdout).unwrap()
    };
    let text = said(&world, "status").await;
    assert!(text.contains("NOTIFICATIONS: not delivered, since "), "{text}");
    let text = said(&world, "plan").await;
    assert!(text.contains("THE NEWEST FILES CANNOT BE USED: this plan is of the last good ones"), "{text}");
    // Neither a hanging nor a redirecting one keeps a pass waiting.
    receiver.answers("307");
    let before = receiver.requests().len();
    world.until("redirected", async |_| receiver.requests().len() > before + 2).await;
    assert!(receiver.requests().iter().all(|request| request["url"] != "/elsewhere"), "a redirect was followed");
    receiver.answers("hang");
    let hangs = |receiver: &Receiver| receiver.requests().iter().filter(|request| request["status"] == "hang").count();
    world.until("both hang", async |_| hangs(&receiver) >= 2).await;
    world.pass().await;
    // Stopped in the middle of a try, it says so in time, and the next start tells it.
    let stopping = tokio::time::Instant::now();
    world.stop().await;
    // One that answers has ten.
    assert!(stopping.elapsed() < std::time::Duration::from_secs(8), "the stop waited for a receiver");
    receiver.answers("200");
    world.start().await;
    world.until("told", async |_| receiver.told(HOOK).len() == 1).await;
    assert_eq!(receiver.told(HOOK), ["failing: files"]);
    // The receiver knows before the daemon that it was told.
    let sent = async |world: &World| world.metric("notifications_total{result=\"sent\",type=\"webhook\"}").await;
    world.until("counted", async |world| sent(world).await == Some(1.0)).await;

    world.remove("b.yaml");
    world.until("the end told", async |_| receiver.told(HOOK).len() == 2).await;
    assert_eq!(receiver.told(HOOK), ["failing: files", "recovered: files"]);
    assert_eq!(component(&world).await, Some(json!("ok")));
}

#[tokio::test]
async fn an_outage_after_a_restart_is_not_taken_for_the_end_of_what_was_told() {
    let Some((mut world, receiver)) = told_world("held, recovered").await else { return };
    hold(&mut world).await;
    world.until("told", async |_| receiver.told(HOOK).len() == 1).await;
    world.stop().await;
    world.faults(json!([{ "fault": "status", "status": 503 }])).await;
    world.start().await;
    world
        .until("failing", async |world| {
            receiver.requests().iter().any(|request| request["url"] == SLACK && request.to_string().contains("/roles"))
                || world.project().await["lastPass"]["result"] == "failed"
        })
        .await;
    world.faults(json!([])).await;
    world.until("held again", async |world| !world.project().await["held"].is_null()).await;
    // The positive: the end of something that really is over.
    world.write("a.yaml", "roles: [{ name: keep }, { name: zz-goes }]\n");
    world.until("the end told", async |_| receiver.told(HOOK).len() == 2).await;
    assert_eq!(receiver.told(HOOK), ["held: max_deletes/roles/zz-goes", "recovered: max_deletes/roles/zz-goes"]);
}

#[tokio::test]
async fn notify_test_says_of_each_receiver_whether_a_message_arrives() {
    let Some((world, receiver)) = told_world("held").await else { return };
    let output = world.run(&["notify-test"]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.matches("the message arrived").count(), 2, "{text}");
    world.until("both printed", async |_| receiver.requests().len() == 2).await;
    let requests = receiver.requests();
    assert_eq!((&requests[0]["body"]["event"], &requests[0]["isSigned"]), (&json!("test"), &json!(true)));

    receiver.answers("404");
    let output = world.run(&["notify-test"]).await;
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("webhook HOOK_URL: it answers 404") && !text.contains("zz-token"), "{text}");
}

#[tokio::test]
async fn settings_that_would_tell_nobody_stop_the_start_and_repeat_no_secret() {
    let mut world = World::new().await;
    world.environment.push(("HOOK_URL".to_owned(), "http://hooks.example.com/hunter2".to_owned()));
    let cases = [
        ("[{ type: webhook, url: { env: HOOK_URL } }]", "notifications[0].url must be https"),
        ("[{ type: webhook, url: { env: NOT_SET } }]", "NOT_SET is not set"),
        ("[{ type: slack, url: { file: /nowhere/url } }]", "cannot read /nowhere/url"),
        ("[{ type: webhook, url: https://hunter2.example.com }]", "notifications[0].url must be { env: NAME }"),
        ("[{ type: mail, url: { env: HOOK_URL } }]", "notifications[0].type must be webhook or slack, not `mail`"),
        ("[{ url: { env: HOOK_URL } }]", "notifications[0].type is missing"),
        (
            "[{ type: slack, url: { env: HOOK_URL }, on: [recovered] }]",
            "notifications[0].on must name something besides",
        ),
        ("[{ type: slack, url: { env: HOOK_URL }, on: [broken] }]", "notifications[0].on[0] must be held or"),
        ("[{ type: slack, url: { env: HOOK_URL }, to: me }]", "unknown key"),
        (
            "[{ type: slack, url: { env: HOOK_URL } }, { type: slack, url: { env: HOOK_URL } }]",
            "notifications[1] has the type and the address of another one",
        ),
    ];
    for (value, what) in cases {
        world.reconfigure(|setup| setup.top = vec![format!("notifications: {value}")]);
        for command in ["run", "notify-test"] {
            let output = world.run(&[command]).await;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(64), "{value}: {text}");
            assert!(text.contains(what) && !text.contains("hunter2"), "{value}: {text}");
        }
    }
    // What the repo may refer to never includes them.
    world.reconfigure(|setup| {
        setup.top = vec!["notifications: [{ type: slack, url: { env: HOOK_URL } }]".to_owned()];
        setup.project.push("secrets: { env: ['*'] }".to_owned());
    });
    world.write("a.yaml", "outboundApps: [{ id: a, name: a, clientId: x, clientSecret: { env: HOOK_URL } }]\n");
    let output = world.run(&["validate"]).await;
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(text.contains("clientSecret: refers to a credential of the daemon itself"), "{text}");
    assert_eq!(output.status.code(), Some(3), "{text}");
}

/// Replicas that all tell one receiver; `None` where it, or the database, cannot run.
async fn told_replicas(server: &Postgres, life: &str, on: &str) -> Option<(Replicas, Receiver)> {
    let mut all = Replicas::with(server, life, &[]).await;
    let receiver = Receiver::start(&all.world).await?;
    all.world.environment.push(("HOOK_URL".to_owned(), receiver.url.clone() + HOOK));
    all.world.environment.push(("HOOK_KEY".to_owned(), "hmac-key-of-the-receiver".to_owned()));
    all.world.reconfigure(|setup| {
        setup.project = vec![
            "policy: sync".into(),
            "firstContact: apply".into(),
            "guards: { deleteAfter: 0s, maxDeletes: 0 }".into(),
        ];
        setup.top.push(format!(
            "notifications:\n  - {{ type: webhook, url: {{ env: HOOK_URL }}, hmacKey: {{ env: HOOK_KEY }}, on: [{on}] }}"
        ));
    });
    Some((all, receiver))
}

#[tokio::test]
async fn a_lease_that_was_not_given_back_is_told_by_the_one_that_lost_it_and_so_is_its_end() {
    let Some(server) = Postgres::start() else { return };
    let Some((mut all, receiver)) = told_replicas(server, "2s", "held, lease_lost, recovered").await else { return };
    all.start().await;
    all.holder().await;
    let other = all.start().await;
    all.running[0].process.signal(Signal::STOP);
    all.until("taken over", async |all| all.is_holder(other).await).await;
    all.running[0].process.signal(Signal::CONT);

    all.until("told", async |_| receiver.told(HOOK).len() == 2).await;
    assert_eq!(receiver.told(HOOK), ["lease_lost: lease", "recovered: lease"]);
    let text = receiver.requests()[0]["body"].to_string();
    assert!(text.contains("writes the project now") && text.contains("default/lease_lost/lease"), "{text}");
    // One that is given back is not lost.
    all.running[other].process.signal(Signal::TERM);
    all.until("back", async |all| all.is_holder(0).await).await;
    all.until("nothing of it", async |all| all.project(0).await.is_some_and(|it| it["lease"]["lostAt"].is_null()))
        .await;
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn a_replica_whose_config_lacks_a_project_does_not_say_that_it_is_well() {
    let Some(server) = Postgres::start() else { return };
    let Some((mut all, receiver)) = told_replicas(server, "2s", "held, lease_lost, recovered").await else { return };
    all.world.write("a.yaml", "roles: [{ name: keep }, { name: zz-goes }]\n");
    all.start().await;
    all.converge().await;
    all.world.write("a.yaml", "roles: [{ name: keep }]\n");
    all.until("told", async |_| receiver.told(HOOK).len() == 1).await;

    // As in the middle of a rollout that adds the project.
    let config = fs::read_to_string(all.world.path("config.yaml")).unwrap();
    let older = config.replace("name: default", "name: other").replace(PROJECT, "P2other");
    assert_ne!(config, older);
    fs::write(all.world.path("config.yaml"), older).unwrap();
    let other = all.start().await;
    all.until("it writes its own", async |all| all.is_holder(other).await).await;
    all.world.write("b.yaml", "roles: [{ name: zz-too }]\n");
    all.until("both roles", async |all| {
        all.project(other).await.is_some_and(|it| it["desired"]["resources"] == 2 && it["converged"] == true)
    })
    .await;
    // What it tells of its own comes later than what it would have told of the project that it does not know.
    all.world.write("b.yaml", "roles: []\n");
    all.until("its own told", async |_| receiver.told(HOOK).len() == 2).await;
    assert_eq!(receiver.told(HOOK), ["held: max_deletes/roles/zz-goes", "held: max_deletes/roles/zz-too"]);

    let fingerprint = all.project(0).await.unwrap()["held"]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(all.post(0, &format!("/api/v1/approve?plan={fingerprint}")).await.0, 200);
    all.until("the end told", async |_| receiver.told(HOOK).len() == 3).await;
    assert_eq!(receiver.told(HOOK)[2], "recovered: max_deletes/roles/zz-goes");
}

/// What was told while the database was away was forgotten, so that its end was never told.
#[tokio::test]
async fn what_was_told_while_the_database_was_away_has_its_end() {
    let Some(server) = Postgres::fresh() else { return };
    let Some((mut all, receiver)) = told_replicas(&server, "2s", "failing, lease_lost, recovered").await else {
        return;
    };
    all.world.write("a.yaml", "roles: [{ name: keep }]\n");
    all.start().await;
    all.converge().await;
    let told = |receiver: &Receiver| receiver.told(HOOK);
    server.kill();
    all.until("told", async |_| told(&receiver).contains(&"lease_lost: lease".to_owned())).await;
    let health = async |all: &Replicas, status: &str| {
        let (_, text) = all.ask(0, "/healthz").await.unwrap();
        let health: Value = serde_json::from_str(&text).unwrap();
        let components = health["components"].as_array().unwrap().iter();
        components.filter(|one| one["status"] == status).map(|one| one["name"].clone()).collect::<Vec<_>>()
    };
    // The state cannot be written either: one database is one cause, wherever it is told.
    all.until("not written", async |all| health(all, "starting").await.contains(&json!("state"))).await;
    assert_eq!(health(&all, "degraded").await, ["lease"]);
    let since = all.project(0).await.unwrap()["lease"]["lostAt"].clone();
    let line = all.running[0].process.wait_for_line("the end", |line| line.contains("is not held any more")).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["since"].is_string() && since.is_string(), "{line}");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await; // what there is to tell settles
    assert_eq!(told(&receiver), ["lease_lost: lease"]);
    server.run();
    all.until("the end told", async |_| told(&receiver).contains(&"recovered: lease".to_owned())).await;
    all.converge().await;
    assert_eq!(told(&receiver), ["lease_lost: lease", "recovered: lease"]);
}

/// An idle replica wrote nothing, so that its receiver heard with the next interval.
#[tokio::test]
async fn whoever_hears_of_no_lease_hears_once_that_the_database_is_gone_and_when_it_is_back() {
    let Some(server) = Postgres::fresh() else { return };
    let Some((mut all, receiver)) = told_replicas(&server, "2s", "failing, recovered").await else { return };
    all.world.reconfigure(|setup| setup.interval = "1h");
    all.world.write("a.yaml", "roles: [{ name: keep }]\n");
    all.start().await;
    all.converge().await;

    server.kill();
    all.until("told", async |_| receiver.told(HOOK).len() == 1).await;
    all.until("lost", async |all| !all.is_holder(0).await).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await; // what there is to tell settles
    assert_eq!(receiver.told(HOOK), ["failing: state"]);
    // Nor does the log say the same at every turn.
    let lines = all.running[0].process.lines();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_failure = |line: &Value| line["level"] == "ERROR" || line["level"] == "WARN";
    let told = lines.filter(|line| is_failure(line) && line["times"].is_null() && line["attempt"].is_null());
    let told: Vec<String> = told.map(|line| format!("{}: {}", line["message"], line["error"])).collect();
    let once: std::collections::BTreeSet<&String> = told.iter().collect();
    assert_eq!(told.len(), once.len(), "{told:#?}");
    server.run();
    all.until("the end told", async |_| receiver.told(HOOK).len() == 2).await;
    all.converge().await;
    assert_eq!(receiver.told(HOOK), ["failing: state", "recovered: state"]);
}

/// The second went unnoticed while the first was held, and one under another hold was not called by its name.
#[tokio::test]
async fn each_weakening_is_told_whatever_else_holds_it() {
    let Some((mut world, receiver)) = told_world("held, recovered").await else { return };
    let files = |length: u32, of_tenant: u32| {
        format!(
            "passwordSettings: {{ enabled: true, minLength: {length}, lock: true, lockAttempts: 4 }}\n\
             tenants: [{{ id: acme, name: A, passwordSettings: {{ enabled: true, minLength: {of_tenant} }} }}]\n"
        )
    };
    world.write("a.yaml", &files(12, 12));
    world.converge().await;
    world.write("a.yaml", &files(11, 12));
    world.until("told", async |_| receiver.told(HOOK).len() == 1).await;
    world.write("a.yaml", &files(11, 6));
    world.until("the second told", async |_| receiver.told(HOOK).len() == 2).await;
    assert!(receiver.told(HOOK)[1].contains("weakening/tenants/acme"), "{:?}", receiver.told(HOOK));
    let held = world.project().await["held"]["reason"].as_str().unwrap().to_owned();
    assert!(held.split(',').any(|reason| reason == "weakening"), "{held}");
    let count = world.metric("held_changes{project=\"default\",reason=\"weakening\"}").await;
    assert!(count.is_some_and(|count| count > 1.5), "{count:?}");

    // And a second one of the same part, once.
    world.write("a.yaml", &files(10, 6));
    world.until("the third told", async |_| receiver.told(HOOK).len() == 3).await;
    let third = receiver.told(HOOK)[2].clone();
    assert!(third.starts_with("held: ") && third.contains("weakening/passwordSettings"), "{third}");
    let requests = receiver.requests();
    let text = requests.iter().rfind(|request| request["url"] == HOOK).unwrap()["body"].to_string();
    assert!(text.contains("from 12 to 10"), "{text}");
    for _ in 0..3 {
        world.fresh_pass().await;
    }
    world.stop().await;
    world.start().await;
    world.fresh_pass().await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await; // what there is to tell settles
    assert_eq!(receiver.told(HOOK).len(), 3, "{:?}", receiver.told(HOOK));
}

/// The message said "somebody else", and the trail told who a moment later.
#[tokio::test]
async fn who_turns_back_what_is_contested_is_in_the_message_about_it() {
    let Some((mut world, receiver)) = told_world("contested, recovered").await else { return };
    world.write("a.yaml", "roles: [{ name: r, description: ours }]\n");
    world.converge().await;
    let mut before = std::time::SystemTime::now();
    for n in 0..5 {
        before = std::time::SystemTime::now();
        crate::contest::turn_back(&world, &format!("theirs {n}")).await;
    }
    world.until("told", async |_| !receiver.told(HOOK).is_empty()).await;

    let contested = world.project().await["contested"][0].clone();
    let actor = contested["actor"].as_str().unwrap_or_default().to_owned();
    assert!(actor.starts_with("console@example.com (U2console)"), "{contested}");
    let requests = receiver.requests();
    let text = requests.iter().rfind(|request| request["url"] == HOOK).unwrap()["body"].to_string();
    assert!(text.contains("console@example.com (U2console)") && text.contains("theirs 4"), "{text}");
    // Value, time and actor are of one edit, the last.
    assert!(text.contains(&actor), "{text}");
    assert!(crate::actors::moment(&actor) + std::time::Duration::from_secs(1) > before, "{actor}");
}
