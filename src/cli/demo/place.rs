//! What a demo needs to exist: the repo, the settings, and a project with a little in it.

use crate::config::Config;
use crate::config::Overrides;
use crate::simulator::Limit;
use crate::simulator::Options;
use crate::simulator::Switches;
use serde_json::json;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Drift heals while one is still looking.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// Enough to see that requests take time.
const LATENCY: Duration = Duration::from_millis(20);
const PROJECT: &str = "P2demo";

/// An installed binary has no `config/sample` beside it.
pub const SAMPLE: &[(&str, &str)] = &[
    ("README.md", include_str!("../../../config/sample/README.md")),
    ("access-keys.yaml", include_str!("../../../config/sample/access-keys.yaml")),
    ("applications/inbound.yaml", include_str!("../../../config/sample/applications/inbound.yaml")),
    ("applications/outbound.yaml", include_str!("../../../config/sample/applications/outbound.yaml")),
    ("applications/sso.yaml", include_str!("../../../config/sample/applications/sso.yaml")),
    ("attributes.yaml", include_str!("../../../config/sample/attributes.yaml")),
    ("authorization.yaml", include_str!("../../../config/sample/authorization.yaml")),
    ("documents.fga", include_str!("../../../config/sample/documents.fga")),
    ("flows.yaml", include_str!("../../../config/sample/flows.yaml")),
    ("flows/welcome.json", include_str!("../../../config/sample/flows/welcome.json")),
    ("lists.yaml", include_str!("../../../config/sample/lists.yaml")),
    ("passwords.yaml", include_str!("../../../config/sample/passwords.yaml")),
    ("permissions.yaml", include_str!("../../../config/sample/permissions.yaml")),
    ("project.yaml", include_str!("../../../config/sample/project.yaml")),
    ("roles/customers.yaml", include_str!("../../../config/sample/roles/customers.yaml")),
    ("roles/staff.yaml", include_str!("../../../config/sample/roles/staff.yaml")),
    ("scopes.yaml", include_str!("../../../config/sample/scopes.yaml")),
    ("tenants/acme.yaml", include_str!("../../../config/sample/tenants/acme.yaml")),
    ("tenants/globex.yaml", include_str!("../../../config/sample/tenants/globex.yaml")),
    ("theme.json", include_str!("../../../config/sample/theme.json")),
    ("theme.yaml", include_str!("../../../config/sample/theme.yaml")),
    ("tokens.yaml", include_str!("../../../config/sample/tokens.yaml")),
];

/// A directory that goes with it.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    /// For the posts.
    pub token: String,
}

impl Place {
    /// The repo and the two secrets, on disk.
    pub fn create() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("descope-gitops-demo-").tempdir()?;
        let place = Self { dir, token: format!("demo-{:08x}", fastrand::u32(..)) };
        for (name, text) in SAMPLE {
            let path = place.repo().join(name);
            path.parent().map(fs::create_dir_all).transpose()?;
            fs::write(path, text)?;
        }
        fs::create_dir(place.path("secrets"))?;
        fs::write(place.path("management-key"), "K2demo-not-a-real-key")?;
        fs::write(place.path("token"), &place.token)?;
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The config repo.
    pub fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    /// The settings file.
    pub fn config(&self) -> PathBuf {
        self.path("descope-gitops.yaml")
    }

    /// Writes the settings and reads them as any command does.
    pub fn settings(
        &self,
        simulator: &str,
        listen: Option<String>,
        (n, window): (u32, Duration),
    ) -> anyhow::Result<Config> {
        // JSON is YAML, and quotes whatever a temporary directory may be called.
        let quoted = |path: &Path| json!(path.to_string_lossy()).to_string();
        let text = format!(
            "# Written by `descope-gitops demo`, for as long as it runs. What is not here has its default.\n\
             source:\n  path: {repo}\n  debounce: 200ms\n  interval: {interval}\n\
             projects:\n  - name: demo\n    projectId: {PROJECT}\n    managementKey: {{ file: {key} }}\n    \
             baseUrl: {simulator}\n    firstContact: apply\n    secrets: {{ dir: {secrets} }}\n\
             http:\n  listen: 127.0.0.1:0\n  token: {{ file: {token} }}\n\
             state:\n  path: {state}\n\
             rateLimit:\n  limit: {n}/{window}\n\
             log:\n  format: pretty\n  level: warn\n",
            repo = quoted(&self.repo()),
            interval = humantime::format_duration(INTERVAL),
            window = humantime::format_duration(window),
            secrets = quoted(&self.path("secrets")),
            key = quoted(&self.path("management-key")),
            token = quoted(&self.path("token")),
            state = quoted(&self.path("state")),
        );
        fs::write(self.config(), text)?;
        let config = Some(self.config().to_string_lossy().into_owned());
        Ok(Config::load(&Overrides { config, listen, ..Overrides::default() })?)
    }

    /// Removes everything; says what was removed.
    pub fn remove(self) -> io::Result<PathBuf> {
        let path = self.dir.path().to_owned();
        self.dir.close()?;
        Ok(path)
    }
}

/// A project that somebody has clicked together: an old description, two old names, and a role nobody wrote down.
pub fn simulator((n, window): (u32, Duration)) -> Options {
    let live = json!({
        "permissions": [
            { "name": "document:read", "description": "Open documents" },
            { "name": "document:publish", "description": "Hand a document to somebody outside the tenant" },
        ],
        "roles": [
            { "name": "Editor", "description": "Edits", "permissionNames": ["document:read", "document:publish"] },
            { "name": "Intern", "description": "Made in the console", "permissionNames": ["document:read"] },
        ],
    });
    Options {
        limit: Some(Limit { n: f64::from(n), window, ..Limit::default() }),
        switches: Switches { latency: LATENCY, ..Switches::default() },
        projects: [(PROJECT.to_owned(), live)].into_iter().collect(),
        ..Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn files(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else {
                found.insert(path.clone(), fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn the_binary_holds_the_whole_sample() {
        let mut expected = BTreeMap::new();
        files(Path::new("config/sample"), &mut expected);

        let held = SAMPLE.iter().map(|(name, text)| (Path::new("config/sample").join(name), (*text).to_owned()));

        assert_eq!(held.collect::<BTreeMap<_, _>>(), expected);
    }

    #[test]
    fn the_settings_can_be_used_without_any_environment_and_everything_goes_in_the_end() {
        let place = Place::create().unwrap();

        let config =
            place.settings("http://127.0.0.1:1", Some("127.0.0.1:2".to_owned()), (7, Duration::from_secs(90))).unwrap();

        assert_eq!(config.connections(&|_| None).unwrap()[0].base_url.as_str(), "http://127.0.0.1:1/");
        assert!(config.token(&|_| None).unwrap().is_some());
        assert_eq!(config.http.listen.port(), 2);
        assert_eq!(config.rate_limit.limit, Some((7.0, Duration::from_secs(90))));
        let dir = place.remove().unwrap();
        assert!(!dir.exists());
    }
}
