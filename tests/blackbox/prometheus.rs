//! A real Prometheus scrapes the daemon through a day in its life: the alerts ring and clear, and every panel of the
//! dashboard has something to show.

use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::missing;
use crate::harness::write_some;
use crate::postgres::Postgres;
use crate::replicas::Replicas;
use crate::replicas::permissions;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use url::Url;

/// On the path, or where `.ci/run` unpacks it.
fn prometheus() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-tools/prometheus/usr/bin/prometheus");
    let found = [PathBuf::from("prometheus"), unpacked];
    found.into_iter().find(|tool| Command::new(tool).arg("--version").output().is_ok_and(|done| done.status.success()))
}

/// `for: 10m` as `for: 1s`: nobody waits so long here.
fn hurried(rules: &str) -> String {
    let hurried = rules.lines().map(|line| match line.trim().strip_prefix("for: ") {
        Some(minutes) if minutes.ends_with('m') => {
            let minutes: u32 = minutes.trim_end_matches('m').parse().unwrap();
            line.replace(&format!("{minutes}m"), &format!("{}ms", minutes * 100))
        }
        Some(_) | None => line.to_owned(),
    });
    hurried.collect::<Vec<_>>().join("\n")
}

struct Prometheus {
    url: Url,
    http: reqwest::Client,
    _process: Process,
}

impl Prometheus {
    /// Scrapes the daemon.
    async fn start(tool: &Path, world: &World) -> Self {
        Self::of(tool, world, &[world.daemon_url().await]).await
    }

    /// Scrapes these five times a second, under a job named as the operator does it.
    async fn of(tool: &Path, world: &World, urls: &[String]) -> Self {
        let targets: Vec<String> =
            urls.iter().map(|url| format!("'{}'", url.strip_prefix("http://").unwrap())).collect();
        let targets = targets.join(", ");
        fs::write(world.path("alerts.yaml"), hurried(include_str!("../../deploy/prometheus/alerts.yaml"))).unwrap();
        let config = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms }}\n\
             rule_files: [alerts.yaml]\n\
             scrape_configs:\n  - job_name: monitoring/descope-gitops\n    static_configs: [{{ targets: [{targets}] }}]\n"
        );
        fs::write(world.path("prometheus.yaml"), config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(tool);
        command
            .arg(format!("--config.file={}", world.path("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", world.path("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::start(command);
        process.wait_for_line("Prometheus", |line| line.contains("Server is ready to receive web requests")).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url: format!("http://127.0.0.1:{port}").parse().unwrap(), http, _process: process }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = Url::parse_with_params(self.url.join(path).unwrap().as_str(), query).unwrap();
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {text}");
        answer["data"].clone()
    }

    /// Names of the alerts that ring.
    async fn ringing(&self) -> Vec<String> {
        let alerts = self.get("/api/v1/alerts", &[]).await["alerts"].as_array().unwrap().clone();
        let is_firing = |alert: &Value| alert["state"] == "firing";
        let name = |alert: Value| alert["labels"]["alertname"].as_str().unwrap().to_owned();
        alerts.into_iter().filter(is_firing).map(name).collect()
    }

    /// Has the query given anything since the start?
    async fn has_data(&self, query: &str) -> bool {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let (start, end) = ((now - 300).to_string(), (now + 1).to_string());
        let range = [("query", query), ("start", &start), ("end", &end), ("step", "1")];
        let series = self.get("/api/v1/query_range", &range).await["result"].as_array().unwrap().clone();
        series.iter().any(|series| !series["values"].as_array().unwrap().is_empty())
    }
}

/// Queries of the dashboard that only replicas have something for.
fn is_of_replicas(query: &str) -> bool {
    // Others leave out by it what a replica that stands by knew.
    query.replace("unless on (job, instance, project) descope_gitops_lease_held", "").contains("descope_gitops_lease_")
}

/// Every query of the dashboard, with its variables filled in.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(include_str!("../../deploy/grafana/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let query = |target: &Value| target["expr"].as_str().unwrap().to_owned();
    let filled = |query: String| query.replace("$__rate_interval", "1m").replace("$__range", "5m");
    targets.map(query).map(|query| filled(query).replace("$job", ".*").replace("$project", ".*")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_ring_and_clear_and_every_panel_shows_something() {
    let Some(tool) = prometheus() else {
        return missing("no prometheus: nothing scrapes the daemon");
    };
    let guards = "guards: { maxDeletes: 0, maxDeletePercent: off, deleteAfter: 0s }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    let top = vec!["rateLimit: { limit: 100/2s, lockout: 1s }".to_owned()];
    let mut world = World::with(Setup { interval: "500ms", project, top, ..Setup::default() }).await;
    write_some(&world, 3, 3, 3);
    world.write("details.yaml", "tenants: [{ id: details, name: Details, settings: { enabled: true } }]\n");
    world.start().await;
    let prometheus = Prometheus::start(&tool, &world).await;

    // In sync: nothing rings.
    world.until("converged", async |world| world.is_converged().await).await;
    let converged = "descope_gitops_converged == 1";
    world.until("scraped", async |_| prometheus.has_data(converged).await).await;
    world.until("quiet", async |_| prometheus.ringing().await.is_empty()).await;
    // Drift that heals.
    world.edit_live("permissions/p0", json!({ "description": "edited by hand" })).await;
    world.until_live("p0", "permission 0").await;
    world.until("drift is seen", async |_| prometheus.has_data("descope_gitops_drifted_resources > 0").await).await;
    // Held: the alert rings, and so does that of a project that is not converged.
    write_some(&world, 3, 2, 3);
    world.until("held", async |_| prometheus.ringing().await.contains(&"DescopeGitopsHeld".to_owned())).await;
    world
        .until("not converged", async |_| prometheus.ringing().await.contains(&"DescopeGitopsNotConverged".to_owned()))
        .await;
    // Approved: it clears by itself.
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(Method::POST, &format!("/api/v1/approve?plan={fingerprint}")).await.0, 200);
    world.until("gone", async |world| world.entity("roles", "r2").await.is_none()).await;
    world.until("cleared", async |_| prometheus.ringing().await.is_empty()).await;
    // A lower limit than the daemon knows of.
    world.sim(Method::PUT, "rate-limit", Some(json!({ "n": 2, "window": "2s", "lockout": "1s" }))).await;
    world.until("429", async |_| prometheus.has_data("descope_gitops_limiter_throttled_total > 0").await).await;
    world.sim(Method::PUT, "rate-limit", Some(json!({ "n": 1000, "window": "1s", "lockout": "0s" }))).await;
    // A failure that is repeated.
    let fault = json!({ "fault": "status", "status": 503, "match": { "path": "/v1/mgmt/role/all", "times": 3 } });
    world.faults(json!([fault])).await;
    world.until("retried", async |_| prometheus.has_data("descope_gitops_api_retries_total > 0").await).await;

    let all: Vec<String> = queries().into_iter().filter(|query| !is_of_replicas(query)).collect();
    assert!(all.len() > 25, "{all:#?}");
    for query in all {
        world.until(&format!("data for {query}"), async |_| prometheus.has_data(&query).await).await;
    }
    assert!(world.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panels_of_replicas_say_who_holds_what_and_that_one_does() {
    let Some(tool) = prometheus() else {
        return missing("no prometheus: nothing scrapes the daemon");
    };
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::with(server, "6s", &[]).await;
    all.world.write("some.yaml", &permissions(2));
    all.start().await;
    all.converge_on(2).await;
    all.start().await;
    let urls: Vec<String> = all.running.iter().map(|replica| replica.url.clone()).collect();
    let prometheus = Prometheus::of(&tool, &all.world, &urls).await;

    let queries: Vec<String> = queries().into_iter().filter(|query| is_of_replicas(query)).collect();
    assert!(queries.len() > 2, "{queries:#?}");
    for query in queries {
        all.until(&format!("data for {query}"), async |_| prometheus.has_data(&query).await).await;
    }
    let says = async |query: &str| prometheus.has_data(query).await;
    all.until("two run", async |_| says("count by (job) (descope_gitops_build_info) == 2").await).await;
    all.until("one holds", async |_| says("sum by (project) (descope_gitops_lease_held) == 1").await).await;
    assert!(!says("sum by (project) (descope_gitops_lease_held) > 1").await);
    let holder = urls[0].strip_prefix("http://").unwrap();
    assert!(says(&format!("descope_gitops_lease_held{{instance=\"{holder}\"}} == 1")).await);

    // Whoever comes first holds it after the other is gone, and that one is on the panel.
    let other = urls[1].strip_prefix("http://").unwrap();
    all.kill(0).await;
    all.until("taken over", async |_| says(&format!("descope_gitops_lease_held{{instance=\"{other}\"}} == 1")).await)
        .await;
}
