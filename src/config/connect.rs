//! Which Descope projects are meant, where they live, and with which keys: the step that needs credentials, and that
//! refuses whatever could send a key or a change to the wrong place.

use crate::config::Config;
use crate::config::Env;
use crate::config::Invalid;
use crate::config::Problem;
use crate::config::Project;
use crate::config::SecretRef;
use crate::config::SecretSource;
use crate::config::Setting;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use url::Host;
use url::Url;

/// The official tools' names.
const PROJECT_ID: &str = "DESCOPE_PROJECT_ID";
/// The official tools' name.
pub const MANAGEMENT_KEY: &str = "DESCOPE_MANAGEMENT_KEY";
/// Go's and Python's SDKs differ in this one.
const BASE_URLS: [&str; 2] = ["DESCOPE_BASE_URL", "DESCOPE_BASE_URI"];
/// Project ids of this length or longer carry a region.
const LENGTH_WITH_REGION: usize = 32;

/// How to reach one project.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Of the project at the same place in [`Config::projects`].
    pub project_id: String,
    /// https, or http to loopback; its path is `/` or ends without a slash.
    pub base_url: Url,
    /// Read it before use: a file may have changed.
    pub management_key: SecretSource,
}

impl Connection {
    /// `api.descope.com`, with the port where it is not the scheme's own.
    pub fn host(&self) -> String {
        let host = self.base_url.host_str().unwrap_or_default();
        self.base_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// Where the project lives unless the config says otherwise; `None` where the id cannot be one. A region that is not
/// letters and digits is none: it would become part of the name of the host to which the key goes.
pub fn base_url(project_id: &str) -> Option<String> {
    if project_id.is_empty() || !project_id.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        return None;
    }
    let region = project_id.get(1..5).filter(|region| region.chars().all(|c| c.is_ascii_alphanumeric()));
    Some(match region.filter(|_| project_id.len() >= LENGTH_WITH_REGION) {
        Some(region) => format!("https://api.{}.descope.com", region.to_ascii_lowercase()),
        None => "https://api.descope.com".to_owned(),
    })
}

/// The one project of a config without `projects`.
pub fn from_official_variables(project: Project) -> Project {
    Project {
        id: Some(Setting::Env(PROJECT_ID.to_owned())),
        management_key: Some(SecretRef::Env(MANAGEMENT_KEY.to_owned())),
        ..project
    }
}

impl Config {
    /// One connection per project, in their order. All that is wrong is reported at once.
    pub fn connections(&self, env: Env<'_>) -> Result<Vec<Connection>, Invalid> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let mut problems = self.misplaced_file().into_iter().collect::<Vec<_>>();
        let ambient_url = if self.declares_projects {
            problems.extend(self.unnamed_variables(&env));
            None
        } else {
            ambient_base_url(&env).unwrap_or_else(|problem| {
                problems.push(problem);
                None
            })
        };
        let mut connections = Vec::new();
        let mut seen = BTreeMap::new();
        for (index, project) in self.projects.iter().enumerate() {
            let key = format!("projects[{index}]");
            let connection = match self.connection(&key, project, ambient_url.as_deref(), &env) {
                Ok(connection) => connection,
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            };
            let claim = (connection.host(), connection.project_id.clone(), project.owner.clone());
            if let Some(other) = seen.insert(claim, project.name.clone()) {
                let what = format!(
                    "{key}.projectId is also that of project {other}, with the same owner `{}`; two projects of this \
                     config would undo each other's changes",
                    project.owner
                );
                problems.push(self.problem(&format!("{key}.projectId"), &what));
            }
            connections.push(connection);
        }
        if problems.is_empty() { Ok(connections) } else { Err(Invalid(problems)) }
    }

    fn connection(
        &self,
        key: &str,
        project: &Project,
        ambient_url: Option<&str>,
        env: Env<'_>,
    ) -> Result<Connection, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut wrong = |field: &str, message: String| problems.push(self.problem(&format!("{key}.{field}"), &message));

        let project_id = match project.id.as_ref().map(|setting| lookup(setting, env)) {
            Some(Ok(id)) => Some(id),
            Some(Err(name)) => {
                wrong("projectId", format!("{name} is not set; it holds the id of project {}", project.name));
                None
            }
            None => None,
        };
        let derived = project_id.as_deref().and_then(base_url);
        if project_id.is_some() && derived.is_none() {
            wrong(
                "projectId",
                format!(
                    "{key}.projectId must be letters, digits, dashes and underscores, such as P2abcdefghijklmnopqrstuvwxyz"
                ),
            );
        }
        let text = match project.base_url.as_ref().map(|setting| lookup(setting, env)) {
            Some(Ok(url)) => Some(url),
            Some(Err(name)) => {
                wrong("baseUrl", format!("{name} is not set; it holds the base URL of project {}", project.name));
                None
            }
            None => ambient_url.map(str::to_owned).or(derived),
        };
        let url = text.and_then(|text| match checked_url(&text) {
            Ok(url) => Some(url),
            Err(what) => {
                let named = if ambient_url.is_some() { "the base URL" } else { &format!("{key}.baseUrl") };
                wrong("baseUrl", format!("{named} {what}"));
                None
            }
        });
        let secret = match project.management_key.as_ref().map(|secret| (secret, secret.resolve(env))) {
            Some((_, Some(source))) => match source.read() {
                Ok(_) => Some(source),
                Err(what) => {
                    wrong("managementKey", format!("{key}.managementKey: {what}"));
                    None
                }
            },
            Some((SecretRef::Env(name), None)) => {
                // Whoever pasted the key itself in place of a name does not want to read it in a log.
                let shown = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
                let name = if shown { name.as_str() } else { "the variable that it names" };
                wrong(
                    "managementKey",
                    format!("{name} is not set; it holds the management key of project {}", project.name),
                );
                None
            }
            Some((SecretRef::File(_), None)) | None => None,
        };
        match (project_id, url, secret) {
            (Some(project_id), Some(base_url), Some(management_key)) if problems.is_empty() => {
                Ok(Connection { project_id, base_url, management_key })
            }
            _ => Err(problems),
        }
    }

    /// Whoever may commit to the repo must not choose where the key is sent.
    fn misplaced_file(&self) -> Option<Problem> {
        let source = self.source.path.canonicalize().ok()?;
        leads_through(self.file.as_ref()?, &source).then(|| Problem {
            file: self.file.clone(),
            line: None,
            message: format!(
                "the config file must not lie below source.path ({}): whoever may commit there could choose where the \
                 management key is sent",
                self.source.path.display()
            ),
        })
    }

    fn unnamed_variables(&self, env: Env<'_>) -> Vec<Problem> {
        let settings = self.projects.iter().flat_map(|project| [&project.id, &project.base_url]);
        let named: Vec<&str> = settings
            .filter_map(|setting| match setting {
                Some(Setting::Env(name)) => Some(name.as_str()),
                Some(Setting::Literal(_)) | None => None,
            })
            .collect();
        let stray = [PROJECT_ID].into_iter().chain(BASE_URLS).filter(|name| env(name).is_some());
        stray
            .filter(|name| !named.contains(name))
            .map(|name| {
                let field = if name == PROJECT_ID { "projectId" } else { "baseUrl" };
                self.problem(
                    "projects",
                    &format!("{name} is set, but no project names it; unset it, or write {field}: {{ env: {name} }}"),
                )
            })
            .collect()
    }
}

/// Does the way to this file, through all links, lead through that directory? Whoever may write there decides then where
/// it ends.
fn leads_through(file: &Path, dir: &Path) -> bool {
    // As many links as the kernel follows.
    const MOST_LINKS: usize = 40;
    let Ok(mut rest) = std::path::absolute(file) else { return false };
    for _ in 0..=MOST_LINKS {
        let mut at = PathBuf::new();
        let mut parts = rest.components();
        let link = loop {
            let Some(part) = parts.next() else { return false };
            if part == Component::ParentDir {
                at.pop();
                continue;
            }
            let parent = at.clone();
            at.push(part);
            if at.starts_with(dir) {
                return true;
            }
            if let Ok(target) = at.read_link() {
                break parent.join(target).join(parts.as_path());
            }
        };
        rest = link;
    }
    false
}

/// The official tools differ in the name; both at once are fine where they agree.
fn ambient_base_url(env: Env<'_>) -> Result<Option<String>, Problem> {
    match BASE_URLS.map(env) {
        [Some(url), Some(uri)] if url.trim_end_matches('/') != uri.trim_end_matches('/') => Err(Problem {
            file: None,
            line: None,
            message: "DESCOPE_BASE_URL and DESCOPE_BASE_URI are both set and differ; keep one".to_owned(),
        }),
        [url, uri] => Ok(url.or(uri)),
    }
}

/// The value, or the name of the variable that is missing.
fn lookup(setting: &Setting, env: Env<'_>) -> Result<String, String> {
    match setting {
        Setting::Literal(text) => Ok(text.clone()),
        Setting::Env(name) => env(name).map(|value| value.trim().to_owned()).ok_or_else(|| name.clone()),
    }
}

/// A URL to which a key may be sent. The message does not repeat it: its user info may be a password.
fn checked_url(text: &str) -> Result<Url, &'static str> {
    let mut url = Url::parse(text).map_err(|_| "must be a URL such as https://api.descope.com")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not hold a query or fragment");
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => return Err("must name a host"),
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        return Err("must be https, or http to this machine: the management key would travel in the clear");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}
