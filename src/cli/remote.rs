//! Commands that talk to a running daemon.

use crate::cli::Exit;
use crate::cli::UsageError;
use crate::cli::healthcheck;
use crate::cli::output;
use crate::config;
use crate::config::Config;
use crate::config::Overrides;
use crate::config::process_env;
use crate::descope::transport;
use crate::http::LONGEST_SUSPENSION;
use crate::http::NO_SUCH_PROJECT;
use crate::resource::legible::legible;
use crate::telemetry::redact::Redactor;
use anyhow::Context;
use anyhow::bail;
use reqwest::Method;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;
use url::Url;

/// The daemon cuts peers off after 30 s, so nothing is worth waiting for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Which daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct RemoteArgs {
    /// Base URL of the daemon [default: where the config says it listens]
    #[arg(long)]
    pub url: Option<Url>,
    /// Only this project [default: all]
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

/// `approve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ApproveArgs {
    /// Of the held plan, as `status` and `plan` show it; or the revision of files that are put aside (`stale_revision`)
    pub fingerprint: String,
    /// Which daemon.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// `reconcile`.
#[derive(Debug, Clone, clap::Args)]
pub struct ReconcileArgs {
    /// Also give what was refused, or waits for its next try, a fresh one
    #[arg(long)]
    pub retry: bool,
    /// Which daemon.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// A part of a project.
#[derive(Debug, Clone, clap::Args)]
pub struct PartArgs {
    /// Only this kind, as the files name it
    #[arg(long, value_name = "KIND", conflicts_with = "target")]
    pub kind: Option<String>,
    /// Only this resource
    #[arg(long, value_name = "KIND/ID")]
    pub target: Option<String>,
}

impl PartArgs {
    fn query(&self) -> impl Iterator<Item = (&str, &str)> {
        let parts = [("kind", self.kind.as_deref()), ("target", self.target.as_deref())];
        parts.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// `resume`.
#[derive(Debug, Clone, clap::Args)]
pub struct ResumeArgs {
    /// What of it.
    #[command(flatten)]
    pub part: PartArgs,
    /// Which daemon.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// `suspend`.
#[derive(Debug, Clone, clap::Args)]
pub struct SuspendArgs {
    /// What of it.
    #[command(flatten)]
    pub part: PartArgs,
    /// For how long, at most 7d; it ends by itself
    #[arg(long = "for", value_name = "DURATION", value_parser = suspension)]
    pub wait: Duration,
    /// Which daemon.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// A running daemon.
pub struct Daemon {
    url: Url,
    token: Option<SecretString>,
    client: reqwest::Client,
}

impl Daemon {
    /// Finds it: `--url`, or where the config or its default says that it listens on this machine. The token comes from
    /// the config, or from `DESCOPE_GITOPS_TOKEN`.
    pub fn find(url: Option<&Url>, overrides: &Overrides, redactor: &Redactor) -> anyhow::Result<Self> {
        let has_config = overrides.config.as_ref().is_some_and(|path| !path.is_empty());
        let config = if has_config { Some(Config::load(overrides)?) } else { None };
        let url = if let Some(url) = url {
            if !url.username().is_empty() || url.password().is_some() {
                let what = "--url must not hold a user or a password: the token comes from the settings or from";
                bail!(UsageError(format!("{what} {}", config::TOKEN_VARIABLE)));
            }
            url.clone()
        } else {
            let listen = healthcheck::listens(overrides)?;
            Url::parse(&format!("http://{}/", healthcheck::reachable(listen)))?
        };
        let token = match &config {
            Some(config) => config.token(&process_env)?,
            None => process_env(config::TOKEN_VARIABLE).filter(|token| !token.is_empty()).map(SecretString::from),
        };
        if let Some(token) = &token {
            redactor.add(token);
        }
        transport::install_tls();
        let client = reqwest::Client::builder()
            .timeout(LONGEST_WAIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot build the HTTP client")?;
        Ok(Self { url, token, client })
    }

    /// One request, which must succeed.
    pub async fn ask(&self, method: Method, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let mut url = below(&self.url, path);
        for (name, value) in query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let response = request.send().await.map_err(reqwest::Error::without_url);
        let response =
            response.with_context(|| format!("cannot reach the daemon at {}; name it with --url", self.url))?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(reqwest::Error::without_url)?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = body["error"].as_str().unwrap_or("no reason given");
        match status {
            200..=299 => Ok(body),
            401 => bail!("the daemon refuses the token; set {} to the daemon's own", config::TOKEN_VARIABLE),
            404 if said == NO_SUCH_PROJECT => bail!(UsageError("--project: the daemon has no such project".to_owned())),
            404 => {
                bail!("the daemon does not serve {path} here: {said}; without a token configured it takes no orders")
            }
            _ => bail!("the daemon answers {status}: {said}"),
        }
    }
}

/// Behind a proxy the daemon may be below a path.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// As long as the daemon takes one.
fn suspension(text: &str) -> Result<Duration, String> {
    let is_taken = |wait: &Duration| !wait.is_zero() && *wait <= LONGEST_SUSPENSION;
    config::span(text).and_then(|wait| {
        Some(wait).filter(is_taken).ok_or_else(|| "must be more than nothing and at most 7d".to_owned())
    })
}

fn of_project(args: &RemoteArgs) -> Vec<(&str, &str)> {
    args.project.iter().map(|name| ("project", name.as_str())).collect()
}

fn say(text: &str) -> anyhow::Result<Exit> {
    writeln!(output::stdout(), "{text}")?;
    Ok(Exit::Done)
}

fn projects(body: &Value) -> String {
    let names = body["projects"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.collect::<Vec<_>>().join(", ")
}

/// Asks for a full pass now.
pub async fn reconcile(overrides: &Overrides, args: &ReconcileArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let daemon = Daemon::find(args.remote.url.as_ref(), overrides, redactor)?;
    let mut query = of_project(&args.remote);
    query.extend(args.retry.then_some(("retry", "true")));
    let body = daemon.ask(Method::POST, "/api/v1/reconcile", &query).await?;
    say(&format!("a full pass is on its way: {}", projects(&body)))
}

/// Lets the held plan with this fingerprint go ahead.
pub async fn approve(overrides: &Overrides, args: &ApproveArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let daemon = Daemon::find(args.remote.url.as_ref(), overrides, redactor)?;
    let mut query = of_project(&args.remote);
    query.push(("plan", &args.fingerprint));
    let body = daemon.ask(Method::POST, "/api/v1/approve", &query).await?;
    warn(&body)?;
    if let Some(revision) = body["inForce"].as_str() {
        return say(&format!("{revision} is in force for {}: what it changes is planned anew", projects(&body)));
    }
    if body["approved"] == 0 {
        return say(&format!("{} goes ahead: nothing of it differed", projects(&body)));
    }
    let changes = if body["approved"] == 1 { "change" } else { "changes" };
    let (are, go) = if body["approved"] == 1 { ("is", "goes") } else { ("are", "go") };
    let (approved, projects) = (&body["approved"], projects(&body));
    let newer = body["newerFiles"].as_str().map(|newer| {
        format!(" as far as the newer files ({}), which are not compared with Descope yet, want it", legible(newer))
    });
    // What is put off in part is told by the warning.
    match (body["waitsUntil"].as_str().filter(|_| body["warning"].is_null()), newer) {
        (Some(until), newer) => say(&format!(
            "{approved} {changes} of {projects} {are} approved, and {go} ahead when the suspension ends: {until}{}",
            newer.map(|newer| format!(",{newer}")).unwrap_or_default()
        )),
        (None, Some(newer)) => {
            say(&format!("{approved} {changes} of {projects} {are} approved, and {go} ahead{newer}"))
        }
        (None, None) => say(&format!("{approved} {changes} of {projects} {go} ahead")),
    }
}

/// Makes the daemon only observe for a while.
pub async fn suspend(overrides: &Overrides, args: &SuspendArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let daemon = Daemon::find(args.remote.url.as_ref(), overrides, redactor)?;
    let wait = format!("{}ms", args.wait.as_millis());
    let mut query = of_project(&args.remote);
    query.push(("for", &wait));
    query.extend(args.part.query());
    let body = daemon.ask(Method::POST, "/api/v1/suspend", &query).await?;
    let until = body["suspendedUntil"].as_str().unwrap_or_default();
    warn(&body)?;
    match body["part"].as_str() {
        Some(part) => say(&format!("{} only observes {part} until {until}", projects(&body))),
        None => say(&format!("{} only observes until {until}", projects(&body))),
    }
}

/// Ends a suspension.
pub async fn resume(overrides: &Overrides, args: &ResumeArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let daemon = Daemon::find(args.remote.url.as_ref(), overrides, redactor)?;
    let mut query = of_project(&args.remote);
    query.extend(args.part.query());
    let body = daemon.ask(Method::POST, "/api/v1/resume", &query).await?;
    if let (Some(false), Some(part)) = (body["wasSuspended"].as_bool(), body["part"].as_str()) {
        return say(&format!("{}: {part} was not suspended by itself", projects(&body)));
    }
    warn(&body)?;
    let left: Vec<&str> = body["stillSuspended"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let left = if left.is_empty() {
        String::new()
    } else {
        format!(", but for {}: see `resume --kind` and `--target`", left.join(", "))
    };
    let goes_on = if body["wasSuspended"] == false { "was not suspended as a whole" } else { "goes on" };
    match body["part"].as_str() {
        Some(part) => say(&format!("{}: {part} goes on", projects(&body))),
        None => say(&format!("{} {goes_on}{left}", projects(&body))),
    }
}

fn warn(body: &Value) -> anyhow::Result<()> {
    if let Some(warning) = body["warning"].as_str() {
        writeln!(output::stderr(), "descope-gitops: {warning}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_proxy_stays() {
        for (base, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/v1/status"),
            ("https://ops.example/gitops/", "https://ops.example/gitops/api/v1/status"),
            ("https://ops.example/a/b?x=1#y", "https://ops.example/a/b/api/v1/status"),
        ] {
            assert_eq!(below(&Url::parse(base).unwrap(), "/api/v1/status").as_str(), expected);
        }
    }
}
