//! From the file as written to the settings as used; collects everything that is wrong on the way.

use crate::config;
use crate::config::Config;
use crate::config::Http;
use crate::config::Invalid;
use crate::config::Log;
use crate::config::LogFormat;
use crate::config::Overrides;
use crate::config::Problem;
use crate::config::RateLimit;
use crate::config::SecretRef;
use crate::config::Source;
use crate::config::lines::Lines;
use crate::config::raw::RawConfig;
use crate::config::raw::RawSecret;
use crate::config::raw::RawSource;
use crate::config::raw::Text;
use crate::config::values;
use crate::dialect;
use crate::open;
use globset::Glob;
use std::num::NonZeroUsize;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

mod notifications;
mod project;
mod rate;
mod state;

/// As they are written.
const FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("pretty", LogFormat::Pretty)];

/// Far above the settings of a thousand projects.
const LARGEST: u64 = 4 * 1024 * 1024;

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

/// How the log is to look, however wrong other settings are; `None` where that cannot be read.
pub fn log_format(overrides: &Overrides) -> Option<LogFormat> {
    let chosen = |text: &str| values::choice(text, &FORMATS).ok();
    if let Some(flag) = given(overrides.log_format.as_ref()) {
        return chosen(flag);
    }
    let Some(file) = given(overrides.config.as_ref()) else { return Some(LogFormat::Auto) };
    let bytes = open::named(Path::new(file), LARGEST).ok()?;
    let settings: serde_yaml::Value = serde_yaml::from_slice(&bytes).ok()?;
    settings.get("log").and_then(|log| log.get("format")).map_or(Some(LogFormat::Auto), |text| chosen(text.as_str()?))
}

/// Empty counts as not given, which is what a container platform passes for a variable it was told to leave out.
fn given(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|value| !value.is_empty())
}

/// `invalid type: string "K2...", expected a map`: what stands there instead of a map may be a secret.
fn without_quoted_text(message: &str) -> String {
    let (Some(start), Some(end)) = (message.find(": string \""), message.rfind("\", expected")) else {
        return message.to_owned();
    };
    format!("{}: string{}", &message[..start], message.get(end + 1..).unwrap_or_default())
}

struct Check {
    file: Option<PathBuf>,
    lines: Lines,
    problems: Vec<Problem>,
}

impl Check {
    fn read(&mut self, path: &Path) -> Result<RawConfig, Invalid> {
        let problem = |line, message| Invalid::from(Problem { file: Some(path.to_owned()), line, message });
        let bytes = open::named(path, LARGEST).map_err(|error| problem(None, format!("cannot read it: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| problem(None, "is not UTF-8; save it as UTF-8".to_owned()))?;
        if let Some((line, message)) = dialect::obstacle(&text) {
            return Err(problem(Some(line), message));
        }
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
            let text = without_quoted_text(&error.to_string()).replace("unknown field", "unknown key");
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
        // A bare word that is no level would be a target, and all others would be silent.
        let is_level = |word: &str| word.parse::<LevelFilter>().is_ok() || word.contains(['=', '[']);
        let level = |text: &str| match EnvFilter::try_new(text) {
            Ok(_) if text.split(',').map(str::trim).all(is_level) => Ok(text.to_owned()),
            Ok(_) | Err(_) => {
                Err("must be trace, debug, info, warn or error, or directives as RUST_LOG takes them".to_owned())
            }
        };
        let token = raw.http.token.as_ref().map(|token| self.secret("http.token", token));
        let state = self.state(&raw.state, flags);
        let egress = self.egress(&raw.rate_limit, &state);
        Config {
            source: self.source(&raw.source, flags),
            declares_projects: raw.projects.is_some(),
            projects: self.projects(raw.projects),
            rate_limit: RateLimit { egress, ..self.rate_limit(&raw.rate_limit) },
            retry: self.retry(&raw.retry),
            request_timeout: self.positive_duration(
                "requestTimeout",
                raw.request_timeout.as_ref(),
                config::REQUEST_TIMEOUT,
            ),
            max_answer: {
                let parse = |text: &str| values::whole(text, 1, 1 << 16);
                let mib = self.value("maxAnswerMiB", raw.max_answer.as_ref(), config::MAX_ANSWER_MIB, parse);
                (mib as usize).saturating_mul(1 << 20)
            },
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
            state,
            notifications: self.notifications(&raw.notifications),
            log: Log {
                format: self.overridden(
                    ("--log-format", flags.log_format.as_ref()),
                    ("log.format", raw.log.format.as_ref()),
                    LogFormat::Auto,
                    |text| values::choice(text, &FORMATS),
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
            deep_interval: self.positive_duration(
                "source.deepInterval",
                raw.deep_interval.as_ref(),
                config::SOURCE_DEEP_INTERVAL,
            ),
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
