//! `simulator --seed-from`: what the files declare lives already. It is applied to a simulator of its own, by this very program, and
//! what that holds then is where the one that was asked for begins.

use crate::config::Config;
use crate::config::Overrides;
use crate::daemon::settings;
use crate::descope::transport;
use crate::desired::Desired;
use crate::desired::secrets::Fence;
use crate::desired::secrets::Reference;
use crate::resource;
use crate::resource::secret;
use crate::simulator::Options;
use crate::simulator::Simulator;
use crate::source::loader::Loader;
use crate::source::loader::Settings;
use crate::source::tree::NamedFiles;
use crate::source::tree::Tree;
use anyhow::Context;
use anyhow::bail;
use globset::Glob;
use globset::GlobSet;
use globset::GlobSetBuilder;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;

// Nobody knows what the secrets of the files are, and no answer ever shows them.
const SECRET: &str = "seeded";
const KEY: &str = "K2seed";

/// What lives in the project once the files are applied to it, as `Options::projects` takes it.
pub async fn state(dir: &Path, project: &str) -> anyhow::Result<Value> {
    let place = tempfile::tempdir().context("cannot make a directory for the seed")?;
    let simulator = Simulator::start(Options::default()).await.context("cannot start a simulator for the seed")?;
    let config = write_settings(&place, dir, project, &simulator.url())?;
    let variables = secrets(&config, &place)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut apply = Command::new(program);
    apply.args(["apply", "--auto-approve", "-o", "json", "--config"]).arg(place.path().join("settings.yaml"));
    apply.env_clear().envs(variables).stdin(Stdio::null());
    let done = tokio::task::spawn_blocking(move || apply.output()).await?.context("cannot apply the seed")?;
    if !done.status.success() {
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        bail!("{} could not be applied to an empty project:\n{}", dir.display(), said.trim());
    }
    let url = format!("{}/_sim/state?project={project}", simulator.url());
    transport::install_tls();
    let text = reqwest::get(url).await.context("cannot ask the simulator")?.text().await?;
    simulator.stop().await;
    serde_json::from_str(&text).context("the simulator's state is no JSON")
}

fn write_settings(place: &TempDir, dir: &Path, project: &str, url: &str) -> anyhow::Result<Config> {
    let dir = dir.canonicalize().with_context(|| format!("cannot read {}", dir.display()))?;
    let secrets = place.path().join("secrets");
    fs::create_dir(&secrets)?;
    // JSON is YAML.
    let settings = json!({
        "source": { "path": dir },
        "projects": [{
            "name": "seed",
            "projectId": project,
            "managementKey": { "env": "SEED_KEY" },
            "baseUrl": url,
            "firstContact": "apply",
            "guards": { "weakening": "off", "lockout": "off" },
            "secrets": { "env": ["*"], "dir": secrets },
        }],
        "rateLimit": { "limit": null },
        "state": { "path": place.path().join("state") },
        "log": { "level": "error" },
    });
    let path = place.path().join("settings.yaml");
    fs::write(&path, settings.to_string())?;
    let config = Some(path.to_string_lossy().into_owned());
    Ok(Config::load(&Overrides { config, ..Overrides::default() })?)
}

/// Something for every secret that the files refer to: variables, and files that are made here.
fn secrets(config: &Config, place: &TempDir) -> anyhow::Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::from([("SEED_KEY".to_owned(), KEY.to_owned())]);
    for reference in references(&declared(config, place)?) {
        match reference {
            Reference::Env(name) => drop(variables.insert(name, SECRET.to_owned())),
            Reference::File(file) => {
                let path = place.path().join("secrets").join(file.trim_start_matches('/'));
                path.parent().map(fs::create_dir_all).transpose()?;
                fs::write(path, SECRET)?;
            }
        }
    }
    Ok(variables)
}

fn declared(config: &Config, place: &TempDir) -> anyhow::Result<Desired> {
    let project = config.projects.first().context("the settings of the seed have no project")?;
    let usual = settings::loader(config, project);
    let env: GlobSet = GlobSetBuilder::new().add(Glob::new("*")?).build()?;
    let fence = Fence { env, dir: Some(place.path().join("secrets")), ..Fence::default() };
    let tree = Tree { exclude: GlobSet::empty(), named: NamedFiles::default(), ..usual.tree.clone() };
    let load = Loader::new(Settings { tree, fence, ..usual }).load();
    if let Some(error) = load.errors.first() {
        bail!("the files to seed from are invalid; `descope-gitops validate` says all: {error}");
    }
    let desired = load.desired.context("the files to seed from declare nothing")?;
    Ok(Desired::clone(&desired))
}

fn references(desired: &Desired) -> Vec<Reference> {
    let mut found = Vec::new();
    for kind in resource::ALL {
        for one in desired.of_kind(kind.name()) {
            let fields = kind.spec().parts.iter().flat_map(|part| part.fields);
            let places = secret::places(fields, &one.fields);
            found.extend(places.iter().filter_map(|place| Reference::from_json(&place.reference)));
        }
    }
    found
}
