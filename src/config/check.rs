//! From the file as written to the settings as used; collects everything that is wrong on the way.

use crate::config;
use crate::config::Adaptive;
use crate::config::Algorithm;
use crate::config::Config;
use crate::config::FirstContact;
use crate::config::Guards;
use crate::config::Http;
use crate::config::Invalid;
use crate::config::Log;
use crate::config::LogFormat;
use crate::config::Overrides;
use crate::config::Policy;
use crate::config::Problem;
use crate::config::Project;
use crate::config::RateLimit;
use crate::config::Retry;
use crate::config::SecretRef;
use crate::config::Secrets;
use crate::config::Setting;
use crate::config::Shape;
use crate::config::Source;
use crate::config::connect;
use crate::config::lines::Lines;
use crate::config::raw::NumberOrMap;
use crate::config::raw::OneOrMany;
use crate::config::raw::RawAdaptive;
use crate::config::raw::RawConfig;
use crate::config::raw::RawGuards;
use crate::config::raw::RawProject;
use crate::config::raw::RawRateLimit;
use crate::config::raw::RawRetry;
use crate::config::raw::RawSecret;
use crate::config::raw::RawSetting;
use crate::config::raw::RawSource;
use crate::config::raw::Switch;
use crate::config::raw::Text;
use crate::config::values;
use globset::Glob;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Reads the file, if there is one, lays flags and environment over it, and checks the lot.
pub fn load(overrides: &Overrides) -> Result<Config, Invalid> {
    let file = given(overrides.config.as_ref()).map(PathBuf::from);
    let mut check = Check { file: file.clone(), lines: Lines::default(), problems: Vec::new() };
    let raw = match &file {
        Some(path) => check.read(path)?,
        None if given(overrides.source.as_ref()).is_some() => RawConfig::default(),
        None => {
            let message = "no settings: give --config FILE (or DESCOPE_GITOPS_CONFIG), or --source DIR \
                           (or DESCOPE_GITOPS_SOURCE) together with DESCOPE_PROJECT_ID and DESCOPE_MANAGEMENT_KEY";
            return Err(Problem { file: None, line: None, message: message.to_owned() }.into());
        }
    };
    let config = check.config(raw, overrides);
    if check.problems.is_empty() { Ok(config) } else { Err(Invalid(check.problems)) }
}

/// Empty counts as not given, which is what a container platform passes for a variable it was told to leave out.
fn given(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|value| !value.is_empty())
}

struct Check {
    file: Option<PathBuf>,
    lines: Lines,
    problems: Vec<Problem>,
}

impl Check {
    fn read(&mut self, path: &Path) -> Result<RawConfig, Invalid> {
        let problem = |line, message| Invalid::from(Problem { file: Some(path.to_owned()), line, message });
        let text = std::fs::read_to_string(path).map_err(|error| problem(None, format!("cannot read it: {error}")))?;
        let (lines, twice) = Lines::read(&text);
        self.lines = lines;
        if !twice.is_empty() {
            let of = |(key, line)| Problem {
                file: Some(path.to_owned()),
                line: Some(line),
                message: format!("{key} is written twice"),
            };
            return Err(Invalid(twice.into_iter().map(of).collect()));
        }
        serde_yaml::from_str::<Option<RawConfig>>(&text).map(Option::unwrap_or_default).map_err(|error| {
            let line = error.location().map(|location| location.line());
            let text = error.to_string().replace("unknown field", "unknown key");
            let message = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
            problem(line, message.to_owned())
        })
    }

    /// Reports what is wrong with `key`.
    fn wrong(&mut self, key: &str, what: &str) {
        let (file, line) = (self.file.clone(), self.lines.of(key));
        self.problems.push(Problem { file, line, message: format!("{key} {what}") });
    }

    /// The value of `key`, or its default where it is not written, or not fit.
    fn value<T>(
        &mut self,
        key: &str,
        text: Option<&Text>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        match text.map(|text| parse(&text.0)) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(what)) => {
                self.wrong(key, &what);
                default
            }
        }
    }

    fn positive_duration(&mut self, key: &str, text: Option<&Text>, default: Duration) -> Duration {
        let parse = |text: &str| match values::duration(text) {
            Ok(Duration::ZERO) => Err("must be longer than zero".to_owned()),
            other => other,
        };
        self.value(key, text, default, parse)
    }

    /// A value of which the flag or its variable comes before the file.
    fn overridden<T>(
        &mut self,
        flag: (&str, Option<&String>),
        file: (&str, Option<&Text>),
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let from_file = self.value(file.0, file.1, default, &parse);
        match given(flag.1).map(&parse) {
            None => from_file,
            Some(Ok(value)) => value,
            Some(Err(what)) => {
                self.problems.push(Problem { file: None, line: None, message: format!("{} {what}", flag.0) });
                from_file
            }
        }
    }

    fn config(&mut self, raw: RawConfig, flags: &Overrides) -> Config {
        if raw.version.as_ref().is_some_and(|version| version.0 != "1") {
            self.wrong("version", "must be 1, the only version there is");
        }
        let listen = |text: &str| {
            let wrong = || format!("must be ADDRESS:PORT such as {}, not `{text}`", config::LISTEN);
            config::listen_address(text).ok_or_else(wrong)
        };
        let default_listen = std::net::SocketAddr::from(([0, 0, 0, 0], 8080));
        let formats = [("json", LogFormat::Json), ("pretty", LogFormat::Pretty)];
        let level = |text: &str| match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("must be trace, debug, info, warn or error, or directives as RUST_LOG takes them".to_owned()),
        };
        let token = raw.http.token.as_ref().map(|token| self.secret("http.token", token));
        Config {
            source: self.source(&raw.source, flags),
            declares_projects: raw.projects.is_some(),
            projects: self.projects(raw.projects),
            rate_limit: self.rate_limit(&raw.rate_limit),
            retry: self.retry(&raw.retry),
            request_timeout: self.positive_duration(
                "requestTimeout",
                raw.request_timeout.as_ref(),
                config::REQUEST_TIMEOUT,
            ),
            concurrency: {
                // Far above what any rate that Descope permits can keep busy.
                let parse = |text: &str| values::whole(text, 1, 1000).map(|n| n as usize);
                let n = self.value("concurrency", raw.concurrency.as_ref(), config::CONCURRENCY, parse);
                NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
            },
            http: Http {
                listen: self.overridden(
                    ("--listen (or DESCOPE_GITOPS_LISTEN)", flags.listen.as_ref()),
                    ("http.listen", raw.http.listen.as_ref()),
                    default_listen,
                    listen,
                ),
                token: token.flatten().unwrap_or_else(|| SecretRef::Env(config::TOKEN_VARIABLE.to_owned())),
            },
            state: self.overridden(
                ("--state (or DESCOPE_GITOPS_STATE)", flags.state.as_ref()),
                ("state.path", raw.state.path.as_ref()),
                PathBuf::from(config::STATE_PATH),
                path,
            ),
            log: Log {
                format: self.overridden(
                    ("--log-format", flags.log_format.as_ref()),
                    ("log.format", raw.log.format.as_ref()),
                    LogFormat::Json,
                    |text| values::choice(text, &formats),
                ),
                level: self.overridden(
                    ("--log-level (or RUST_LOG)", flags.log_level.as_ref()),
                    ("log.level", raw.log.level.as_ref()),
                    config::LOG_LEVEL.to_owned(),
                    level,
                ),
            },
            file: self.file.clone(),
            lines: self.lines.clone(),
        }
    }

    fn source(&mut self, raw: &RawSource, flags: &Overrides) -> Source {
        Source {
            path: self.overridden(
                ("--source (or DESCOPE_GITOPS_SOURCE)", flags.source.as_ref()),
                ("source.path", raw.path.as_ref()),
                PathBuf::from(config::SOURCE_PATH),
                path,
            ),
            exclude: self.globs("source.exclude", &raw.exclude),
            debounce: self.value("source.debounce", raw.debounce.as_ref(), config::SOURCE_DEBOUNCE, values::duration),
            interval: self.positive_duration("source.interval", raw.interval.as_ref(), config::SOURCE_INTERVAL),
        }
    }

    fn globs(&mut self, key: &str, raw: &[Text]) -> Vec<Glob> {
        let mut globs = Vec::new();
        for (index, text) in raw.iter().enumerate() {
            match Glob::new(&text.0) {
                Ok(glob) => globs.push(glob),
                Err(error) => self.wrong(&format!("{key}[{index}]"), &format!("must be a glob: {}", error.kind())),
            }
        }
        globs
    }

    fn projects(&mut self, raw: Option<Vec<RawProject>>) -> Vec<Project> {
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

    fn project(&mut self, key: &str, raw: RawProject) -> Project {
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
            secrets: Secrets {
                env: self.globs(&at("secrets.env"), &raw.secrets.env),
                dir: raw
                    .secrets
                    .dir
                    .as_ref()
                    .map(|dir| self.value(&at("secrets.dir"), Some(dir), PathBuf::new(), path)),
            },
            built_in_roles: match raw.built_in_roles {
                Some(names) => names.into_iter().map(|name| name.0).collect(),
                None => config::BUILT_IN_ROLES.map(str::to_owned).to_vec(),
            },
            id: raw.project_id.and_then(|setting| self.setting(&at("projectId"), setting)),
            base_url: raw.base_url.and_then(|setting| self.setting(&at("baseUrl"), setting)),
            management_key: raw.management_key.and_then(|secret| self.secret(&at("managementKey"), &secret)),
        }
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
        let number = |text: &str| values::whole(text, 0, u32::MAX);
        let mut max_deletes = config::MAX_DELETES;
        let mut by_kind: BTreeMap<String, u32> =
            config::NEVER_DELETED.into_iter().map(|kind| (kind.to_owned(), 0)).collect();
        match raw.max_deletes {
            None => {}
            Some(NumberOrMap::Other) => self.wrong(&at("maxDeletes"), "must be a number, or a map by kind"),
            Some(NumberOrMap::Number(text)) => {
                by_kind.clear();
                max_deletes = self.value(&at("maxDeletes"), Some(&Text(text)), max_deletes, number);
            }
            Some(NumberOrMap::Map(map)) => {
                for (kind, text) in map {
                    let key = format!("{key}.maxDeletes.{kind}");
                    let count = self.value(&key, Some(&Text(text.unwrap_or_default())), 0, number);
                    if kind == "default" {
                        max_deletes = count;
                    } else if config::KINDS.contains(&kind.as_str()) {
                        by_kind.insert(kind, count);
                    } else {
                        let near = config::KINDS.into_iter().filter(|known| strsim::levenshtein(known, &kind) <= 2);
                        let hint = near.map(|known| format!("; did you mean `{known}`?")).next().unwrap_or_default();
                        self.wrong(&key, &format!("is no kind of resource{hint}"));
                    }
                }
            }
        }
        let mut percent = |field: &str, raw: Switch, default: Option<u8>| match raw {
            Switch::Unwritten => default,
            Switch::Off => None,
            Switch::Text(text) => self.value(&at(field), Some(&text), default, |text| values::percent(text).map(Some)),
        };
        Guards {
            max_deletes,
            max_deletes_by_kind: by_kind,
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

    fn rate_limit(&mut self, raw: &RawRateLimit) -> RateLimit {
        let algorithms = [("budget", Algorithm::Budget), ("adaptive", Algorithm::Adaptive)];
        let shapes = [("auto", Shape::Auto), ("paced", Shape::Paced)];
        let reserve = |text: &str| match values::percent(text)? {
            100 => Err("must be less than 100%, or nothing is left for this daemon".to_owned()),
            percent => Ok(f64::from(percent) / 100.0),
        };
        RateLimit {
            algorithm: self.value("rateLimit.algorithm", raw.algorithm.as_ref(), Algorithm::Budget, |text| {
                values::choice(text, &algorithms)
            }),
            limit: match &raw.limit {
                Switch::Unwritten => Some(config::RATE_LIMIT),
                Switch::Off => None,
                Switch::Text(text) => {
                    self.value("rateLimit.limit", Some(text), Some(config::RATE_LIMIT), |t| values::limit(t).map(Some))
                }
            },
            lockout: self.value("rateLimit.lockout", raw.lockout.as_ref(), config::LOCKOUT, values::duration),
            reserve: self.value("rateLimit.reserve", raw.reserve.as_ref(), config::RESERVE, reserve),
            probe: self.value("rateLimit.probe", raw.probe.as_ref(), false, |text| {
                values::choice(text, &[("true", true), ("false", false)])
            }),
            shape: self.value("rateLimit.shape", raw.shape.as_ref(), Shape::Auto, |t| values::choice(t, &shapes)),
            adaptive: self.adaptive(&raw.adaptive),
        }
    }

    fn adaptive(&mut self, raw: &RawAdaptive) -> Adaptive {
        let default = config::ADAPTIVE;
        let below_one = |text: &str| {
            let number = values::positive(text).ok().filter(|n| *n < 1.0);
            number.ok_or_else(|| format!("must be a number between 0 and 1, not `{text}`"))
        };
        let above_one = |text: &str| {
            let number = values::positive(text).ok().filter(|n| *n > 1.0);
            number.ok_or_else(|| format!("must be a number above 1, not `{text}`"))
        };
        let at = |field: &str| format!("rateLimit.adaptive.{field}");
        let adaptive = Adaptive {
            initial_rate: self.value(
                &at("initialRate"),
                raw.initial_rate.as_ref(),
                default.initial_rate,
                values::positive,
            ),
            min_rate: self.value(&at("minRate"), raw.min_rate.as_ref(), default.min_rate, values::positive),
            max_rate: self.value(&at("maxRate"), raw.max_rate.as_ref(), default.max_rate, values::positive),
            decrease_factor: self.value(
                &at("decreaseFactor"),
                raw.decrease_factor.as_ref(),
                default.decrease_factor,
                below_one,
            ),
            increase_factor: self.value(
                &at("increaseFactor"),
                raw.increase_factor.as_ref(),
                default.increase_factor,
                above_one,
            ),
            success_threshold: self.value(
                &at("successThreshold"),
                raw.success_threshold.as_ref(),
                default.success_threshold,
                |text| values::whole(text, 1, u32::MAX),
            ),
        };
        if adaptive.max_rate < adaptive.min_rate {
            self.wrong(&at("maxRate"), "must be at least rateLimit.adaptive.minRate");
        } else if !(adaptive.min_rate..=adaptive.max_rate).contains(&adaptive.initial_rate) {
            self.wrong(
                &at("initialRate"),
                "must lie between rateLimit.adaptive.minRate and rateLimit.adaptive.maxRate",
            );
        }
        adaptive
    }

    fn retry(&mut self, raw: &RawRetry) -> Retry {
        let default = config::RETRY;
        let retry = Retry {
            max_attempts: self.value("retry.maxAttempts", raw.max_attempts.as_ref(), default.max_attempts, |text| {
                values::whole(text, 1, 100)
            }),
            initial_backoff: self.positive_duration(
                "retry.initialBackoff",
                raw.initial_backoff.as_ref(),
                default.initial_backoff,
            ),
            max_backoff: self.positive_duration("retry.maxBackoff", raw.max_backoff.as_ref(), default.max_backoff),
        };
        if retry.max_backoff < retry.initial_backoff {
            self.wrong("retry.maxBackoff", "must be at least retry.initialBackoff");
        }
        retry
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

    /// A secret by reference. Neither a literal nor a name that may be one is repeated.
    fn secret(&mut self, key: &str, raw: &RawSecret) -> Option<SecretRef> {
        match raw {
            RawSecret::Env(name) => {
                self.variable(key, name);
                Some(SecretRef::Env(name.clone()))
            }
            RawSecret::File(path) if !path.is_empty() => Some(SecretRef::File(path.into())),
            RawSecret::File(_) | RawSecret::Other => {
                self.wrong(key, "must be { env: NAME } or { file: PATH }; a secret is never written into the config");
                None
            }
        }
    }

    fn variable(&mut self, key: &str, name: &str) {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            self.wrong(&format!("{key}.env"), "must be the name of a variable: letters, digits and underscores");
        }
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.into()) }
}

/// A pair of directories of which one holds the other.
fn overlap<'a>(mine: &'a [PathBuf], theirs: &'a [PathBuf]) -> Option<(&'a Path, &'a Path)> {
    let pairs = mine.iter().flat_map(|a| theirs.iter().map(move |b| (a.as_path(), b.as_path())));
    pairs.into_iter().find(|(a, b)| a.starts_with(b) || b.starts_with(a))
}

fn shown(path: &Path) -> std::path::Display<'_> {
    if path.as_os_str().is_empty() { Path::new(".").display() } else { path.display() }
}
