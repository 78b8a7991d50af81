//! A world for one test: a simulator, a config repo, a state directory, and the daemon between them.

use crate::outputs;
use reqwest::Method;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

pub const BINARY: &str = env!("CARGO_BIN_EXE_descope-gitops");
pub const PROJECT: &str = "P2blackboxprojectxxxxxxxxx1";
pub const KEY: &str = "K2blackbox-management-key";
pub const TOKEN: &str = "blackbox-token";

/// Longer than anything here takes on a loaded machine. Tests wait for conditions, not for this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a test wants different from the usual.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Flags of `simulator`.
    pub simulator: Vec<String>,
    /// Between full passes. Long, so that nothing happens unless the test makes it.
    pub interval: &'static str,
    /// Lines of the project in the config, e.g. `policy: create-only`.
    pub project: Vec<String>,
    /// Top-level lines of the config, which replace the usual ones of that key.
    pub top: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            simulator: vec!["--rate-limit=none".to_owned()],
            interval: "1h",
            project: vec!["firstContact: apply".to_owned()],
            top: Vec::new(),
        }
    }
}

/// The world. Dropped, it ends every process it started.
pub struct World {
    pub dir: TempDir,
    /// Ends with the world, or before.
    simulator: Process,
    pub api: String,
    pub daemon: Option<Process>,
    /// Variables of every command, beside the usual ones.
    pub environment: Vec<(String, String)>,
    setup: Setup,
    http: reqwest::Client,
}

impl World {
    /// A simulator and an empty config repo; no daemon yet.
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("repo")).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["simulator", "--listen", "127.0.0.1:0"]).args(&setup.simulator);
        let simulator = Process::start(command);
        let line = simulator
            .wait_for_line("the simulator's address", |line| line.starts_with("simulator listening on "))
            .await;
        let api = line.rsplit(' ').next().unwrap().to_owned();
        // Every test of this process installs it; one is the first.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let world = Self { dir, simulator, api, daemon: None, environment: Vec::new(), setup, http };
        world.write_config();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the config repo.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path("repo").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path("repo").join(file)).unwrap();
    }

    /// Changes the setup for the next start of the daemon or command.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        self.write_config();
    }

    fn write_config(&self) {
        let Setup { interval, project, top, .. } = &self.setup;
        let usual = [
            (
                "source",
                format!("source: {{ path: {}, debounce: 50ms, interval: {interval} }}", self.path("repo").display()),
            ),
            ("rateLimit", "rateLimit: { limit: null }".to_owned()),
            ("retry", "retry: { initialBackoff: 20ms, maxBackoff: 200ms }".to_owned()),
            ("requestTimeout", "requestTimeout: 5s".to_owned()),
            ("http", "http: { listen: 127.0.0.1:0, token: { env: BLACKBOX_TOKEN } }".to_owned()),
            ("state", format!("state: {{ path: {} }}", self.path("state").display())),
            ("log", "log: { format: json, level: debug }".to_owned()),
            ("projects", self.usual_project(project)),
        ];
        let is_replaced = |key: &str| top.iter().any(|line| line.starts_with(&format!("{key}:")));
        let mut lines: Vec<&str> =
            usual.iter().filter(|(key, _)| !is_replaced(key)).map(|(_, line)| line.as_str()).collect();
        lines.extend(top.iter().map(String::as_str));
        fs::write(self.path("config.yaml"), lines.join("\n") + "\n").unwrap();
    }

    fn usual_project(&self, extra: &[String]) -> String {
        let mut lines = vec![
            "projects:".to_owned(),
            "  - name: default".to_owned(),
            format!("    projectId: {PROJECT}"),
            "    managementKey: { env: BLACKBOX_KEY }".to_owned(),
            format!("    baseUrl: {}", self.api),
        ];
        lines.extend(extra.iter().map(|line| format!("    {line}")));
        lines.join("\n")
    }

    /// The binary with this world's config and credentials, and nothing else of ours in its environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(self.path("config.yaml")).args(args).current_dir(self.dir.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DESCOPE_")) {
            command.env_remove(name);
        }
        command.env_remove("RUST_LOG").env("BLACKBOX_KEY", KEY).env("BLACKBOX_TOKEN", TOKEN).stdin(Stdio::null());
        command.envs(self.environment.iter().cloned());
        command
    }

    /// The same, started by another program, e.g. `["setpriv", "--bounding-set=-all"]`.
    pub fn command_under(&self, program: &[&str], args: &[&str]) -> Command {
        let usual = self.command(args);
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(usual.get_program()).args(usual.get_args());
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, value) in usual.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        Self::end_of(self.command(args)).await
    }

    /// What became of a command that ends by itself.
    pub async fn end_of(command: Command) -> Output {
        let args: Vec<String> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let mut command = tokio::process::Command::from(command);
        let ended = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
        let output = ended.expect("the command ends").unwrap();
        outputs::check_command(args.iter().map(String::as_str), &output.stdout);
        output
    }

    /// Runs a command that prints JSON, and expects this exit code.
    pub async fn run_json(&self, args: &[&str], code: i32) -> Value {
        let output = self.run(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {stderr}"))
    }

    /// What the audit trail tells of changes, oldest first. Orders of operators have rows of their own.
    pub async fn told(&self, args: &[&str]) -> Vec<Value> {
        let trail = self.run_json(&[&["audit", "-o", "json"], args].concat(), 0).await;
        let is_change = |row: &&Value| row["kind"] != "operator";
        trail["changes"].as_array().unwrap().iter().filter(is_change).cloned().collect()
    }

    /// Starts the daemon and waits until it listens.
    pub async fn start(&mut self) {
        assert!(self.daemon.is_none(), "it runs already");
        self.daemon = Some(Process::start(self.command(&["run"])));
        self.daemon_url().await;
    }

    /// Starts it and waits until the project equals the repo.
    pub async fn converge(&mut self) {
        if self.daemon.is_none() {
            self.start().await;
        }
        self.until("converged", async |world| world.is_converged().await).await;
    }

    pub fn daemon(&self) -> &Process {
        self.daemon.as_ref().expect("the daemon runs")
    }

    pub async fn daemon_url(&self) -> String {
        let line = self.daemon().wait_for_line("the daemon's address", |line| line.contains("\"listening\"")).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        format!("http://{}", line["address"].as_str().unwrap())
    }

    /// Ends the daemon as an orchestrator does.
    pub async fn stop(&mut self) -> ExitStatus {
        self.daemon().signal(Signal::TERM);
        self.wait_for_end().await
    }

    /// Ends the daemon as a power cut does.
    pub async fn kill(&mut self) {
        self.daemon().signal(Signal::KILL);
        self.wait_for_end().await;
    }

    /// From now on nothing answers.
    pub async fn end_simulator(&mut self) {
        self.simulator.signal(Signal::KILL);
        self.simulator.ended().await;
    }

    pub async fn wait_for_end(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let start = Instant::now();
        loop {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the daemon does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a condition; fails with what the daemon said last.
    pub async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self).await {
            if start.elapsed() > PATIENCE {
                let log = self.daemon.as_ref().map(|daemon| daemon.tail(40)).unwrap_or_default();
                let is_up = self.daemon.as_ref().is_some_and(|daemon| daemon.said("\"listening\""));
                let status = if is_up { self.ask(Method::GET, "/api/v1/status").await.1 } else { String::new() };
                panic!("never {what}; the status is {status}; the daemon's log ends:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Any request to the daemon; with the token.
    pub async fn ask(&self, method: Method, path: &str) -> (u16, String) {
        self.ask_as(Some(TOKEN), method, path, String::new()).await
    }

    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.ask(Method::GET, "/api/v1/status").await.1).unwrap()
    }

    /// The status of the first project.
    pub async fn project(&self) -> Value {
        self.status().await["projects"][0].clone()
    }

    pub async fn is_converged(&self) -> bool {
        self.project().await["converged"] == true
    }

    /// The value of a series, written as Prometheus does: `name{label="x"}` without the prefix.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.ask(Method::GET, "/metrics").await.1;
        let series = format!("descope_gitops_{series} ");
        text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    }

    /// Passes that have finished, whatever set them off.
    pub async fn passes(&self) -> u64 {
        let text = self.ask(Method::GET, "/metrics").await.1;
        let counts = text.lines().filter(|line| line.starts_with("descope_gitops_passes_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// One more full pass, finished.
    pub async fn pass(&self) {
        let before = self.passes().await;
        assert_eq!(self.ask(Method::POST, "/api/v1/reconcile").await.0, 202);
        self.until("another pass", async |world| world.passes().await > before).await;
    }

    /// Proves the absence of writes: a full pass after what happened so far sends none.
    pub async fn assert_nothing_left(&self) {
        let before = self.writes().await.len();
        self.pass().await;
        self.until("idle", async |world| {
            let queue = &world.status().await["queue"];
            queue["ready"] == 0 && queue["delayed"] == 0 && queue["inFlight"] == 0
        })
        .await;
        let writes = self.writes().await;
        assert_eq!(writes.len(), before, "unexpected: {:#?}", &writes[before..]);
    }

    /// A request to the simulator's own interface.
    pub async fn sim(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method.clone(), format!("{}/_sim/{path}", self.api));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{method} /_sim/{path}: {status} {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// What the simulator holds of the project.
    pub async fn live(&self) -> Value {
        self.sim(Method::GET, &format!("state?project={PROJECT}"), None).await
    }

    /// Replaces what the simulator holds of the project.
    pub async fn set_live(&self, state: Value) {
        self.sim(Method::PUT, &format!("state?project={PROJECT}"), Some(state)).await;
    }

    /// Changes one live entity behind the daemon's back; `what` is `tenants/acme`.
    pub async fn edit_live(&self, what: &str, fields: Value) {
        self.sim(Method::PUT, &format!("state/{what}?project={PROJECT}"), Some(fields)).await;
    }

    pub async fn delete_live(&self, what: &str) {
        self.sim(Method::DELETE, &format!("state/{what}?project={PROJECT}"), None).await;
    }

    pub async fn faults(&self, rules: Value) {
        self.sim(Method::PUT, "faults", Some(rules)).await;
    }

    /// Every API request so far.
    pub async fn log(&self) -> Vec<Value> {
        match self.sim(Method::GET, "log", None).await {
            Value::Array(log) => log,
            Value::Object(mut object) => object.remove("log").and_then(|log| log.as_array().cloned()).unwrap(),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => panic!("{other}"),
        }
    }

    /// Every API request so far that is no read, as `METHOD PATH`, with its body.
    pub async fn writes(&self) -> Vec<(String, Value)> {
        let is_write = |entry: &&Value| {
            // Questions that take a body.
            let asks = ["/get", "/search", "/load", "/list", "/export", "/dryrun", "/validate"];
            let path = entry["path"].as_str().unwrap();
            entry["method"] != "GET" && !asks.iter().any(|end| path.ends_with(end))
        };
        let line = |entry: &Value| format!("{} {}", entry["method"].as_str().unwrap(), entry["path"].as_str().unwrap());
        self.log().await.iter().filter(is_write).map(|entry| (line(entry), entry["body"].clone())).collect()
    }

    /// One live entity by kind and id or name.
    pub async fn entity(&self, kind: &str, name: &str) -> Option<Value> {
        let live = self.live().await;
        live[kind].as_array()?.iter().find(|entity| entity["id"] == name || entity["name"] == name).cloned()
    }
}

/// Permissions `p0..`, roles `r0..` that grant them, tenants `t0..`: one file each.
pub fn write_some(world: &World, permissions: usize, roles: usize, tenants: usize) {
    let list = |n: usize, item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<String>();
    let permission = |n: usize| format!("  - {{ name: p{n}, description: permission {n} }}\n");
    let role = |n: usize| format!("  - {{ name: r{n}, permissionNames: [p{}] }}\n", n % permissions.max(1));
    let tenant = |n: usize| format!("  - {{ id: t{n}, name: Tenant {n} }}\n");
    for (kind, text) in [
        ("permissions", list(permissions, &permission)),
        ("roles", list(roles, &role)),
        ("tenants", list(tenants, &tenant)),
    ] {
        if !text.is_empty() {
            world.write(&format!("{kind}.yaml"), &format!("{kind}:\n{text}"));
        }
    }
}

/// The passes of a project that have finished.
#[derive(Debug, Clone, Copy, Default)]
struct Finished {
    passes: f64,
    /// All of them together, in seconds.
    lasted: f64,
    /// When the newest ended, in seconds.
    at: f64,
}

/// A process of ours and all that it said, on both streams.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        }
        Self { child, lines }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn tail(&self, most: usize) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(most)..].join("\n")
    }

    /// Has it said something that contains this?
    pub fn said(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(text))
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub async fn wait_for_line(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| is_it(line)) {
                return line.clone();
            }
            assert!(start.elapsed() < PATIENCE, "never saw {what}; it said:\n{}", self.tail(40));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Process {
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.ended_within(PATIENCE).await
    }

    /// Waits so long for its end.
    pub async fn ended_within(&mut self, patience: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < patience, "it does not end; it said:\n{}", self.tail(40));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a test cannot do without is not here: fatal in CI, a line elsewhere.
pub fn missing(what: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what}");
    eprintln!("skipped: {what}");
}

/// The text of a file, or nothing.
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Beyond the usual: what tests of triggers and of the source ask for.
impl World {
    /// Passes that have finished and were set off by this trigger.
    pub async fn passes_by(&self, trigger: &str) -> u64 {
        let text = self.ask(Method::GET, "/metrics").await.1;
        let label = format!("trigger=\"{trigger}\"");
        let counts = text.lines().filter(|l| l.starts_with("descope_gitops_passes_total{") && l.contains(&label));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// One more full pass of every project that began after this call, whatever else was asked for or under way. The
    /// daemon's clock must be ours.
    pub async fn fresh_pass(&self) {
        let before = self.finished().await;
        // Not sooner: what ended before it was counted must not pass for a short one.
        let asked = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        for project in self.ask_for_passes().await {
            self.until(&format!("a fresh pass of {project}"), async |world| {
                let now = world.finished().await;
                let [now, before] = [&now, &before].map(|all| all.get(&project).copied().unwrap_or_default());
                let began = now.at - (now.lasted - before.lasted);
                // One can have been under way; what ends next began after that.
                now.passes >= before.passes + 2.0 || now.passes > before.passes && began > asked
            })
            .await;
        }
    }

    /// Asks all projects that there are, and names them.
    async fn ask_for_passes(&self) -> Vec<String> {
        let (code, text) = self.ask(Method::POST, "/api/v1/reconcile").await;
        assert_eq!(code, 202, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["projects"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// The passes of each project so far.
    async fn finished(&self) -> BTreeMap<String, Finished> {
        let text = self.ask(Method::GET, "/metrics").await.1;
        let mut projects = BTreeMap::<String, Finished>::new();
        for line in text.lines() {
            let Some((series, value)) = line.strip_prefix("descope_gitops_").and_then(|line| line.rsplit_once(' '))
            else {
                continue;
            };
            let Some((_, project)) = series.split_once("project=\"") else { continue };
            let of = |name: &str| series.starts_with(&format!("{name}{{"));
            let [counts, sum, end] =
                ["passes_total", "pass_duration_seconds_sum", "last_attempt_timestamp_seconds"].map(of);
            if !(counts || end || sum && series.contains("phase=\"total\"")) {
                continue;
            }
            let value: f64 = value.parse().unwrap();
            let finished = projects.entry(project.split('"').next().unwrap().to_owned()).or_default();
            if counts {
                finished.passes += value;
            } else if sum {
                finished.lasted = value;
            } else {
                finished.at = value;
            }
        }
        projects
    }

    /// Waits until a live permission has this description.
    pub async fn until_live(&self, permission: &str, description: &str) {
        let is_there = async |world: &Self| {
            world.entity("permissions", permission).await.is_some_and(|live| live["description"] == description)
        };
        self.until(&format!("{permission} live with {description:?}"), is_there).await;
    }

    /// Puts the source somewhere else below the world; for the next start.
    pub fn source_at(&mut self, path: &str, more: &str) {
        let path = self.path(path);
        self.reconfigure(|setup| setup.top.push(format!("source: {{ path: {}, {more} }}", path.display())));
    }
}

/// One permission in a file of its own.
pub fn permission(name: &str, description: &str) -> String {
    format!("permissions:\n  - {{ name: {name}, description: {description} }}\n")
}

/// `git`, without the settings of whoever runs the tests.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "gc.auto=0"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("GIT_DIR")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What the failure tests ask for.
impl World {
    /// Waits until a revision with so many resources is in force and the project equals it.
    pub async fn converge_on(&self, resources: usize) {
        self.until("converged on the new revision", async |world| {
            let project = world.project().await;
            project["desired"]["resources"] == resources && project["converged"] == true
        })
        .await;
    }

    /// The simulator's counters.
    pub async fn stats(&self) -> Value {
        self.sim(Method::GET, "stats", None).await
    }

    /// One problem of the first project.
    pub async fn problem(&self, kind: &str, id: &str) -> Option<Value> {
        let problems = self.project().await["problems"].as_array().cloned().unwrap_or_default();
        problems.into_iter().find(|problem| problem["kind"] == kind && problem["id"] == id)
    }

    /// Is there a problem with that resource, in that state?
    pub async fn has_problem(&self, kind: &str, id: &str, state: &str) -> bool {
        self.problem(kind, id).await.is_some_and(|problem| problem["state"] == state)
    }

    /// Every API request after `seq` that the limit counts.
    pub async fn requests_since(&self, seq: u64) -> Vec<Value> {
        let counts = |entry: &Value| entry["path"] != "/v1/mgmt/license" && entry["seq"].as_u64().unwrap() > seq;
        self.log().await.into_iter().filter(counts).collect()
    }

    /// The number of the newest request.
    pub async fn newest_seq(&self) -> u64 {
        self.log().await.last().map_or(0, |entry| entry["seq"].as_u64().unwrap())
    }
}

/// How often each resource was really created, by `kind/name`, and how often a create of it was refused.
pub fn creates(log: &[Value]) -> BTreeMap<String, (usize, usize)> {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for entry in log {
        let Some((kind, "create" | "create/batch")) =
            entry["path"].as_str().and_then(|path| path.strip_prefix("/v1/mgmt/")?.split_once('/'))
        else {
            continue;
        };
        let body = &entry["body"];
        let batch = ["permissions", "roles"].into_iter().find_map(|list| body[list].as_array());
        let items = batch.map_or_else(|| vec![body.clone()], Clone::clone);
        for item in items {
            let name = item["id"].as_str().or(item["name"].as_str()).unwrap();
            let tenant = item["tenantId"].as_str().unwrap_or_default();
            let count = counts.entry(format!("{kind}/{tenant}/{name}")).or_default();
            count.0 += usize::from(entry["effect"] == true);
            count.1 += usize::from(entry["status"] == 400);
        }
    }
    counts
}

impl World {
    /// Any request to the daemon, with this token or none, and this body.
    pub async fn ask_as(&self, token: Option<&str>, method: Method, path: &str, body: String) -> (u16, String) {
        let mut request = self.http.request(method.clone(), self.daemon_url().await + path).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        outputs::check_answer(&method, path, status, &text);
        (status, text)
    }

    /// What anybody gets.
    pub async fn open(&self, path: &str) -> (u16, String) {
        self.ask_as(None, Method::GET, path, String::new()).await
    }

    /// Ends the daemon as an orchestrator does, and gives everything it ever said.
    pub async fn stop_and_read(&mut self) -> (ExitStatus, Vec<String>) {
        let lines = Arc::clone(&self.daemon().lines);
        let status = self.stop().await;
        let is_whole = || lines.lock().unwrap().iter().any(|line| line.contains("\"stopped\""));
        self.until("the last line", async |_| is_whole()).await;
        let lines = lines.lock().unwrap().clone();
        (status, lines)
    }

    /// The status of one project.
    pub async fn project_named(&self, name: &str) -> Value {
        let status = self.status().await;
        let projects = status["projects"].as_array().unwrap();
        projects.iter().find(|project| project["name"] == name).unwrap().clone()
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Process {
    /// Its standard error is the smallest pipe there is, and is read up to a line that contains `last`. What comes
    /// then is read once the sender is dropped.
    pub fn start_stalling(mut command: Command, last: &'static str) -> (Self, std::sync::mpsc::Sender<()>) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
        let child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        // Ours of the writing end, or the pipe would never end.
        drop(command);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (go_on, stalled) = std::sync::mpsc::channel::<()>();
        let seen = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(fs::File::from(reader)).lines().map_while(Result::ok) {
                let is_last = line.contains(last);
                seen.lock().unwrap().push(line);
                if is_last {
                    stalled.recv().unwrap_or_default();
                }
            }
        });
        (Self { child, lines }, go_on)
    }
}
