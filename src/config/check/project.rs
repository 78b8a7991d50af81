//! `projects`: what each one is, and that no two get in each other's way.

use crate::config;
use crate::config::Drift;
use crate::config::DriftMode;
use crate::config::DriftRule;
use crate::config::FirstContact;
use crate::config::Guards;
use crate::config::Policy;
use crate::config::Project;
use crate::config::Secrets;
use crate::config::Setting;
use crate::config::Watch;
use crate::config::check::Check;
use crate::config::check::path;
use crate::config::connect;
use crate::config::raw::NumberOrMap;
use crate::config::raw::OneOrMany;
use crate::config::raw::RawDrift;
use crate::config::raw::RawDriftRule;
use crate::config::raw::RawGuards;
use crate::config::raw::RawProject;
use crate::config::raw::RawSecrets;
use crate::config::raw::RawSetting;
use crate::config::raw::Switch;
use crate::config::raw::Text;
use crate::config::values;
use std::collections::BTreeMap;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

impl Check {
    pub fn projects(&mut self, raw: Option<Vec<RawProject>>) -> Vec<Project> {
        let Some(raw) = raw else {
            return vec![connect::from_official_variables(self.project("projects[0]", RawProject::default()))];
        };
        if raw.is_empty() {
            self.wrong("projects", "must hold at least one project");
        }
        let mut projects: Vec<Project> = Vec::new();
        for (index, raw) in raw.into_iter().enumerate() {
            let key = format!("projects[{index}]");
            if raw.name.is_none() {
                self.wrong(&format!("{key}.name"), "is missing");
            }
            if raw.project_id.is_none() {
                self.wrong(&format!("{key}.projectId"), "is missing");
            }
            if raw.management_key.is_none() {
                self.wrong(&format!("{key}.managementKey"), "is missing; write { env: NAME } or { file: PATH }");
            }
            let named = raw.name.is_some();
            let project = self.project(&key, raw);
            for other in &projects {
                if named && other.name == project.name {
                    self.wrong(&format!("{key}.name"), &format!("`{}` is taken by another project", project.name));
                }
                if let Some((mine, theirs)) = overlap(&project.paths, &other.paths) {
                    let what = format!(
                        "`{}` overlaps `{}` of project {}; give each project directories of its own",
                        shown(mine),
                        shown(theirs),
                        other.name
                    );
                    self.wrong(&format!("{key}.path"), &what);
                }
            }
            projects.push(project);
        }
        projects
    }

    pub fn project(&mut self, key: &str, raw: RawProject) -> Project {
        let at = |field: &str| format!("{key}.{field}");
        let policies = [Policy::Observe, Policy::CreateOnly, Policy::UpsertOnly, Policy::Sync];
        let policies = policies.map(|policy| (policy.as_str(), policy));
        let contacts = [("hold", FirstContact::Hold), ("apply", FirstContact::Apply)];
        let name = |text: &str| values::name(text).map(|()| text.into());
        Project {
            name: self.value(&at("name"), raw.name.as_ref(), "default".into(), name),
            paths: self.paths(&at("path"), raw.path),
            policy: self
                .value(&at("policy"), raw.policy.as_ref(), Policy::UpsertOnly, |t| values::choice(t, &policies)),
            owner: self.value(&at("owner"), raw.owner.as_ref(), "default".into(), name),
            first_contact: self.value(&at("firstContact"), raw.first_contact.as_ref(), FirstContact::Hold, |t| {
                values::choice(t, &contacts)
            }),
            guards: self.guards(&at("guards"), raw.guards),
            drift: self.drift(&at("drift"), raw.drift),
            secrets: self.secrets(&at("secrets"), &raw.secrets),
            built_in_roles: match raw.built_in_roles {
                Some(names) => names.into_iter().map(|name| name.0).collect(),
                None => config::BUILT_IN_ROLES.map(str::to_owned).to_vec(),
            },
            id: raw.project_id.and_then(|setting| self.setting(&at("projectId"), setting)),
            base_url: raw.base_url.and_then(|setting| self.setting(&at("baseUrl"), setting)),
            management_key: raw.management_key.and_then(|secret| self.secret(&at("managementKey"), &secret)),
        }
    }

    fn secrets(&mut self, key: &str, raw: &RawSecrets) -> Secrets {
        let at = |field: &str| format!("{key}.{field}");
        let secrets = Secrets {
            env: self.globs(&at("env"), &raw.env),
            dir: raw.dir.as_ref().map(|dir| self.value(&at("dir"), Some(dir), PathBuf::new(), path)),
            shared: self.value(&at("shared"), raw.shared.as_ref(), false, values::flag),
        };
        if secrets.shared && secrets.dir.is_none() {
            let what = format!("needs {}, the directory of the volume that all replicas mount", at("dir"));
            self.wrong(&at("shared"), &what);
        }
        secrets
    }

    /// Directories below `source.path`, without `.` and, so that none leaves it, without `..`.
    fn paths(&mut self, key: &str, raw: Option<OneOrMany>) -> Vec<PathBuf> {
        let raw = raw.map_or_else(|| Some(vec![".".to_owned()]), |paths| paths.0);
        let Some(raw) = raw else {
            self.wrong(key, "must be a directory or a list of directories");
            return Vec::new();
        };
        if raw.is_empty() {
            self.wrong(key, "must name at least one directory");
        }
        let mut paths: Vec<PathBuf> = Vec::new();
        for text in raw {
            let mut path = PathBuf::new();
            let stays = !text.is_empty()
                && Path::new(&text).components().all(|component| match component {
                    Component::CurDir => true,
                    Component::Normal(name) => {
                        path.push(name);
                        true
                    }
                    Component::ParentDir | Component::RootDir | Component::Prefix(_) => false,
                });
            if !stays {
                self.wrong(key, &format!("must be relative to source.path and stay below it, not `{text}`"));
            } else if let Some((mine, theirs)) = overlap(std::slice::from_ref(&path), &paths) {
                let what = format!("names `{}` and `{}`, of which one holds the other", shown(theirs), shown(mine));
                self.wrong(key, &what);
            } else {
                paths.push(path);
            }
        }
        paths
    }

    fn guards(&mut self, key: &str, raw: RawGuards) -> Guards {
        let at = |field: &str| format!("{key}.{field}");
        let never: BTreeMap<String, u32> = config::NEVER_DELETED.into_iter().map(|kind| (kind.to_owned(), 0)).collect();
        let (max_deletes, max_deletes_by_kind) =
            self.numbers(&at("maxDeletes"), raw.max_deletes, config::MAX_DELETES, never);
        let mut max_missing = raw.max_missing;
        let share = match &mut max_missing {
            Some(NumberOrMap::Map(map)) => map.remove("percent"),
            Some(NumberOrMap::Number(_) | NumberOrMap::Other) | None => None,
        };
        let share = match share {
            None => Switch::Unwritten,
            Some(None) => Switch::Off,
            Some(Some(text)) if text == "off" => Switch::Off,
            Some(Some(text)) => Switch::Text(Text(text)),
        };
        let (max_missing, max_missing_by_kind) =
            self.numbers(&at("maxMissing"), max_missing, config::MAX_MISSING, BTreeMap::new());
        let watches = [("hold", Watch::Hold), ("warn", Watch::Warn), ("off", Watch::Off)];
        let mut watch = |field: &str, text: Option<&Text>| {
            self.value(&at(field), text, Watch::Hold, |text| values::choice(text, &watches))
        };
        let (weakening, lockout) = (watch("weakening", raw.weakening.as_ref()), watch("lockout", raw.lockout.as_ref()));
        let mut percent = |field: &str, raw: Switch, default: Option<u8>| match raw {
            Switch::Unwritten => default,
            Switch::Off => None,
            Switch::Text(text) => self.value(&at(field), Some(&text), default, |text| values::percent(text).map(Some)),
        };
        Guards {
            weakening,
            lockout,
            max_deletes,
            max_deletes_by_kind,
            max_missing,
            max_missing_by_kind,
            max_missing_percent: percent("maxMissing.percent", share, Some(config::MAX_MISSING_PERCENT)),
            max_delete_percent: percent("maxDeletePercent", raw.max_delete_percent, Some(config::MAX_DELETE_PERCENT)),
            max_change_percent: percent("maxChangePercent", raw.max_change_percent, None),
            delete_after: self.value(
                &at("deleteAfter"),
                raw.delete_after.as_ref(),
                config::DELETE_AFTER,
                values::duration,
            ),
            approval_expiry: self.positive_duration(
                &at("approvalExpiry"),
                raw.approval_expiry.as_ref(),
                config::APPROVAL_EXPIRY,
            ),
        }
    }

    /// One rule for all kinds, or by kind with `default` for the others, and for what one of a kind leaves out.
    fn drift(&mut self, key: &str, raw: RawDrift) -> Drift {
        let RawDrift { all, mut by_kind } = raw;
        if !by_kind.is_empty() && (all.mode.is_some() || all.min_age.is_some()) {
            self.wrong(key, "must be one rule { mode, minAge } for all kinds, or rules by kind, not both");
        }
        let default = self.drift_rule(key, &all, DriftRule::default());
        let default = match by_kind.remove("default") {
            Some(rule) => self.drift_rule(&format!("{key}.default"), &rule, default),
            None => default,
        };
        let mut rules = BTreeMap::new();
        for (kind, rule) in by_kind {
            let key = format!("{key}.{kind}");
            let rule = self.drift_rule(&key, &rule, default);
            if self.is_kind(&key, &kind) {
                rules.insert(kind, rule);
            }
        }
        Drift { default, by_kind: rules }
    }

    fn drift_rule(&mut self, key: &str, raw: &RawDriftRule, default: DriftRule) -> DriftRule {
        let modes = [("heal", DriftMode::Heal), ("report", DriftMode::Report)];
        let mode = |text: &str| values::choice(text, &modes);
        DriftRule {
            mode: self.value(&format!("{key}.mode"), raw.mode.as_ref(), default.mode, mode),
            min_age: self.value(&format!("{key}.minAge"), raw.min_age.as_ref(), default.min_age, values::duration),
        }
    }

    /// Says what is wrong where it is not one.
    fn is_kind(&mut self, key: &str, kind: &str) -> bool {
        if config::KINDS.contains(&kind) {
            return true;
        }
        let near = config::KINDS.into_iter().find(|known| strsim::levenshtein(known, kind) <= 2);
        let hint = near.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
        self.wrong(key, &format!("is no kind of resource{hint}"));
        false
    }

    /// One number for all kinds, or by kind with `default` for the others.
    fn numbers(
        &mut self,
        key: &str,
        raw: Option<NumberOrMap>,
        mut default: u32,
        mut by_kind: BTreeMap<String, u32>,
    ) -> (u32, BTreeMap<String, u32>) {
        let number = |text: &str| values::whole(text, 0, u32::MAX);
        match raw {
            None => {}
            Some(NumberOrMap::Other) => self.wrong(key, "must be a number, or a map by kind"),
            Some(NumberOrMap::Number(text)) => {
                by_kind.clear();
                default = self.value(key, Some(&Text(text)), default, number);
            }
            Some(NumberOrMap::Map(map)) => {
                for (kind, text) in map {
                    let key = format!("{key}.{kind}");
                    let count = self.value(&key, Some(&Text(text.unwrap_or_default())), 0, number);
                    if kind == "default" {
                        default = count;
                    } else if self.is_kind(&key, &kind) {
                        by_kind.insert(kind, count);
                    }
                }
            }
        }
        (default, by_kind)
    }

    fn setting(&mut self, key: &str, raw: RawSetting) -> Option<Setting> {
        match raw {
            RawSetting::Literal(text) => Some(Setting::Literal(text)),
            RawSetting::Env(name) => {
                self.variable(key, &name);
                Some(Setting::Env(name))
            }
            RawSetting::Other => {
                self.wrong(key, "must be a value, or { env: NAME }");
                None
            }
        }
    }
}

/// A pair of directories of which one holds the other.
fn overlap<'a>(mine: &'a [PathBuf], theirs: &'a [PathBuf]) -> Option<(&'a Path, &'a Path)> {
    let pairs = mine.iter().flat_map(|a| theirs.iter().map(move |b| (a.as_path(), b.as_path())));
    pairs.into_iter().find(|(a, b)| a.starts_with(b) || b.starts_with(a))
}

fn shown(path: &Path) -> std::path::Display<'_> {
    if path.as_os_str().is_empty() { Path::new(".").display() } else { path.display() }
}
