//! `demo` as a process: whoever copies what it prints gets what it promises.

use crate::harness::BINARY;
use crate::harness::Process;
use rustix::process::Signal;
use serde_json::Value;
use std::net::TcpListener;
use std::process::Command;
use tempfile::TempDir;

/// A demo with a temporary directory of its own, so that what it leaves can be seen.
struct Demo {
    tmp: TempDir,
    process: Process,
    http: reqwest::Client,
}

impl Demo {
    fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let tmp = TempDir::new().unwrap();
        let mut command = Command::new(BINARY);
        command.arg("demo").args(args).env("TMPDIR", tmp.path()).envs(env.iter().copied());
        rustls::crypto::ring::default_provider().install_default().ok();
        Self { tmp, process: Process::start(command), http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// Waits until it has said all about itself.
    async fn is_ready(&self) {
        self.process.wait_for_line("the end of the guide", |line| line == "Ctrl-C ends it.").await;
    }

    /// Everything so far; commands that go over several lines in one.
    fn text(&self) -> String {
        self.process.lines().join("\n").replace("\\\n       ", "")
    }

    /// The printed command that begins and goes on like this.
    fn command(&self, name: &str, part: &str) -> String {
        let text = self.text();
        let is_it = |line: &&str| line.trim_start().starts_with(name) && line.contains(part);
        let line = text.lines().filter(|line| line.starts_with("   ")).find(is_it);
        line.unwrap_or_else(|| panic!("no {name} with {part}:\n{text}")).trim().to_owned()
    }

    /// Types it.
    fn shell(&self, name: &str, part: &str) -> String {
        let command = self.command(name, part);
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Does what curl would; a bare machine has none.
    async fn curl(&self, part: &str) -> String {
        let command = self.command("curl", part);
        let command = command.split(" | ").next().unwrap();
        let url = command.split(' ').find(|word| word.starts_with("http://")).unwrap();
        let quoted = |flag: &str| command.split_once(flag).and_then(|(_, rest)| rest.split('\'').nth(1));
        let method = command.split_once("-X ").map_or("GET", |(_, rest)| rest.split(' ').next().unwrap());
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some((name, value)) = quoted("-H ").and_then(|header| header.split_once(": ")) {
            request = request.header(name, value);
        }
        if let Some(body) = quoted("-d ") {
            request = request.body(body.to_owned());
        }
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{command}: {}", response.status());
        response.text().await.unwrap()
    }

    /// How often it has said something with this in it.
    fn count(&self, text: &str) -> usize {
        self.process.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until it says this once more than before.
    async fn says(&self, text: &str, before: usize) {
        let start = tokio::time::Instant::now();
        while self.count(text) <= before {
            assert!(start.elapsed().as_secs() < 180, "never said `{text}` again:\n{}", self.text());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Waits for the next pass that is told, whatever set it off.
    async fn is_looking(&self) {
        let before = self.count("looked at both sides");
        let start = tokio::time::Instant::now();
        while self.count("looked at both sides") == before && start.elapsed().as_secs() < 5 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The live description of the permission that the guide plays with.
    async fn description(&self) -> String {
        let api = self.command("curl", "/_sim/stats").split(' ').next_back().unwrap().replace("stats", "state");
        let state = self.http.get(api).send().await.unwrap().text().await.unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        let permissions = state["projects"]["P2demo"]["permissions"].as_array().unwrap().clone();
        let billing = permissions.iter().find(|permission| permission["name"] == "billing:read").unwrap();
        billing["description"].as_str().unwrap().to_owned()
    }

    /// Ctrl-C; nothing stays behind.
    async fn end(mut self) {
        self.process.signal(Signal::INT);
        let status = self.process.ended().await;

        assert_eq!(status.code(), Some(0), "{}", self.text());
        self.process.wait_for_line("what was removed", |line| line.ends_with("is removed.")).await;
        assert_eq!(std::fs::read_dir(self.tmp.path()).unwrap().count(), 0);
    }
}

/// Nothing waits for the next window of the limit.
const AT_ONCE: &str = "--rate-limit=2000/60s";

#[tokio::test]
async fn it_converges_in_spite_of_the_settings_of_a_real_daemon_and_says_what_it_did() {
    let demo = Demo::start(
        &[],
        &[
            ("DESCOPE_PROJECT_ID", "P2real"),
            ("DESCOPE_MANAGEMENT_KEY", "K2real"),
            ("DESCOPE_BASE_URL", "https://api.example.com"),
            ("DESCOPE_GITOPS_CONFIG", "/nowhere.yaml"),
            ("DESCOPE_GITOPS_LISTEN", "203.0.113.1:1"),
            ("DESCOPE_GITOPS_SOURCE", "/nowhere"),
            ("DESCOPE_GITOPS_STATE", "/nowhere"),
            ("DESCOPE_GITOPS_TOKEN", "real"),
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            ("RUST_LOG", "trace"),
        ],
    );
    demo.is_ready().await;
    let text = demo.text();
    for said in ["Converged: 36 resources in ", "renamed  roles/Author", "created  tenants/acme-labs", "Intern"] {
        assert!(text.contains(said), "no {said} in:\n{text}");
    }
    assert!(!text.contains("\"timestamp\""), "raw logs:\n{text}");
    let status: Value = serde_json::from_str(&demo.curl("/api/v1/status").await).unwrap();
    assert_eq!(status["projects"][0]["undeclared"], 5, "with the stock flows");
    demo.end().await;
}

#[tokio::test]
async fn a_file_that_is_changed_and_a_pass_that_is_asked_for_do_what_it_says() {
    let demo = Demo::start(&[AT_ONCE], &[]);
    demo.is_ready().await;

    demo.shell("sed", "permissions.yaml");
    demo.says("updated  permissions/billing:read", 0).await;
    assert_eq!(demo.description().await, "Look at invoices");

    // Asked again where the pass under way had covered it.
    while !demo.process.said("looked at both sides (SIGHUP): nothing to do") {
        demo.shell("kill", "-HUP");
        demo.is_looking().await;
    }
    while !demo.process.said("looked at both sides (HTTP): nothing to do") {
        demo.curl("/api/v1/reconcile").await;
        demo.is_looking().await;
    }

    assert!(serde_json::from_str::<Value>(&demo.curl("/_sim/stats").await).unwrap()["writes"].as_u64() > Some(8));
    demo.end().await;
}

/// It heals by itself, which takes up to the interval that is told.
#[tokio::test]
async fn drift_heals_and_goes_on_healing_while_a_file_is_broken() {
    let demo = Demo::start(&[AT_ONCE], &[]);
    demo.is_ready().await;

    demo.curl("/_sim/state/permissions/").await;
    demo.says("drift: ", 0).await;
    demo.says("updated  permissions/billing:read", 0).await;
    assert_eq!(demo.description().await, "See invoices");

    demo.shell("echo", "broken.yaml");
    demo.says("the files cannot be used; the last good desired state stays in force", 0).await;
    assert_eq!(demo.count("broken.yaml:1: "), 1);
    demo.curl("/_sim/state/permissions/").await;
    demo.shell("kill", "-HUP");
    demo.says("drift: ", 1).await;
    demo.says("updated  permissions/billing:read", 1).await;
    demo.shell("rm", "broken.yaml");
    demo.says("the files are valid again", 0).await;
    demo.end().await;
}

#[tokio::test]
async fn a_limit_that_is_lowered_closes_the_gate_and_opens_it_again() {
    let demo = Demo::start(&[AT_ONCE], &[]);
    demo.is_ready().await;

    demo.curl("\"n\": 2,").await;
    demo.shell("kill", "-HUP");
    demo.says("429: the gate is closed", 0).await;
    let metrics = demo.curl("/metrics").await;
    let series = |name: &str| metrics.lines().find(|line| line.starts_with(name)).unwrap().rsplit(' ').next().unwrap();
    assert_ne!(series("descope_gitops_limiter_throttled_total"), "0");
    assert_ne!(series("descope_gitops_limiter_paused_until_timestamp_seconds"), "0");
    demo.curl("\"n\": 2000, \"window\": \"1m\",").await;
    demo.says("the gate is open again", 0).await;
    demo.end().await;
}

#[tokio::test]
async fn the_plan_beside_it_agrees_and_a_port_can_be_asked_for() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let demo = Demo::start(&["--listen", &format!("localhost:{port}"), AT_ONCE], &[]);
    demo.is_ready().await;

    let plan = demo.shell(BINARY, "plan");

    assert!(plan.contains("nothing to change"), "{plan}");
    assert!(demo.command("curl", "/api/v1/status").contains(&format!("http://127.0.0.1:{port}/")));
    demo.end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_and_leaves_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut demo = Demo::start(&["--listen", &taken.local_addr().unwrap().to_string()], &[]);

    let status = demo.process.ended().await;

    assert_eq!(status.code(), Some(1));
    demo.process.wait_for_line("the reason", |line| line.contains("cannot listen on 127.0.0.1")).await;
    assert_eq!(std::fs::read_dir(demo.tmp.path()).unwrap().count(), 0);
}
