//! What the config repo may refer to, and never the daemon's own credentials.
//!
//! Whoever may commit to the repo chooses these references, so they are untrusted input: the fence decides before
//! anything is read, and no message repeats a value.

use crate::desired::volume::Volume;
use crate::open;
use crate::telemetry::redact::Redactor;
use globset::GlobSet;
use secrecy::SecretString;
use std::ffi::OsString;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// Credentials of the daemon that are out of bounds whatever the config says.
const OWN: &[&str] = &["DESCOPE_MANAGEMENT_KEY", "DESCOPE_GITOPS_TOKEN"];

/// Bytes of one: they are keys and certificates.
pub const LARGEST: u64 = 1024 * 1024;

// Their files are views of the process and the machine, not secrets that somebody put there.
const SYSTEM: &[&str] = &["/proc", "/sys", "/dev"];

/// A secret as the YAML names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `{ env: NAME }`
    Env(String),
    /// `{ file: PATH }`
    File(String),
}

impl Reference {
    /// As [`Self::to_json`] wrote it.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        text("env").map(Self::Env).or_else(|| text("file").map(Self::File))
    }

    /// As the YAML writes it.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Env(name) => serde_json::json!({ "env": name }),
            Self::File(path) => serde_json::json!({ "file": path }),
        }
    }
}

/// Reads the secrets that a project's files refer to, each time anew: a file may have changed.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// What may be referred to.
    pub fence: Fence,
    /// Learns each, so that no text that leaves the process repeats it.
    pub redactor: Redactor,
}

impl Secrets {
    /// What this reference of a declared document leads to. The text says why there is nothing.
    pub fn read(&self, reference: &serde_json::Value) -> Result<SecretString, String> {
        let reference = Reference::from_json(reference).ok_or("is no reference to a secret")?;
        let named = match &reference {
            Reference::Env(name) => format!("the environment variable {name}"),
            Reference::File(path) => format!("the file {path}"),
        };
        let secret = self.fence.resolve(&reference, |name| std::env::var_os(name));
        let secret = secret.map_err(|refusal| match refusal {
            Refusal::Unset | Refusal::Unreadable(_) => format!("{named} {refusal}"),
            Refusal::Own
            | Refusal::EnvNotAllowed(_)
            | Refusal::NoDirectory
            | Refusal::Outside
            | Refusal::NotRegular
            | Refusal::TooLarge
            | Refusal::NotText => refusal.to_string(),
        })?;
        self.redactor.add(&secret);
        Ok(secret)
    }
}

/// Why a reference is not followed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Never allowed.
    #[error("refers to a credential of the daemon itself, which the config repo may never use")]
    Own,
    /// No glob of the project matches.
    #[error("the environment variable {0} is not allowed here; the project's `secrets.env` must name it")]
    EnvNotAllowed(String),
    /// The project has no directory for secrets.
    #[error("files are not allowed here; the project's `secrets.dir` must name the directory they are in")]
    NoDirectory,
    /// The path leads elsewhere.
    #[error("the file is not below the project's `secrets.dir`")]
    Outside,
    /// A directory, a FIFO, a device.
    #[error("is not a regular file")]
    NotRegular,
    /// Too much for a secret.
    #[error("holds more than 1 MiB")]
    TooLarge,
    /// Not text.
    #[error("is not UTF-8")]
    NotText,
    /// Not there yet; empty counts as unset.
    #[error("is not set")]
    Unset,
    /// There, but not readable.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

impl Refusal {
    /// May the same reference succeed later though the config repo does not change?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unset | Self::Unreadable(_) => true,
            Self::Own
            | Self::EnvNotAllowed(_)
            | Self::NoDirectory
            | Self::Outside
            | Self::NotRegular
            | Self::TooLarge
            | Self::NotText => false,
        }
    }
}

/// What one project's YAML may refer to. The default allows nothing.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    /// Globs of variable names (`secrets.env`).
    pub env: GlobSet,
    /// The one directory (`secrets.dir`).
    pub dir: Option<PathBuf>,
    /// Variables that hold credentials of the daemon, beside the well-known ones.
    pub own_env: Vec<String>,
    /// Files that hold credentials of the daemon.
    pub own_files: Vec<PathBuf>,
    /// Who sees what is written into the directory.
    pub volume: Volume,
}

impl Fence {
    /// May the repo refer to this? Looks at names and paths only; nothing is opened.
    pub fn check(&self, reference: &Reference) -> Result<(), Refusal> {
        match reference {
            Reference::Env(name) => self.check_env(name),
            Reference::File(path) => match self.real_path(path) {
                Ok(_) | Err(Refusal::Unset | Refusal::Unreadable(_)) => Ok(()),
                Err(refusal) => Err(refusal),
            },
        }
    }

    /// The secret, without its trailing newline. `env` looks a variable up; production passes `std::env::var_os`.
    pub fn resolve(
        &self,
        reference: &Reference,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<SecretString, Refusal> {
        let mut text = match reference {
            Reference::Env(name) => {
                self.check_env(name)?;
                env(name).ok_or(Refusal::Unset)?.into_string().map_err(|_| Refusal::NotText)?
            }
            Reference::File(path) => {
                let real = self.real_path(path)?;
                let (file, _) = open::regular(&real).map_err(|error| refusal_of(&error))?;
                let bytes = open::read(&file, LARGEST).map_err(|error| refusal_of(&error))?;
                String::from_utf8(bytes).map_err(|_| Refusal::NotText)?
            }
        };
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() { Err(Refusal::Unset) } else { Ok(SecretString::from(text)) }
    }

    fn check_env(&self, name: &str) -> Result<(), Refusal> {
        let own = OWN.iter().copied().chain(self.own_env.iter().map(String::as_str));
        // Some systems look variables up without regard to case.
        if own.into_iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Err(Refusal::Own);
        }
        if self.env.is_match(name) { Ok(()) } else { Err(Refusal::EnvNotAllowed(name.to_owned())) }
    }

    /// May the daemon write a secret there? Looks at the path only.
    pub fn check_target(&self, path: &str) -> Result<(), Refusal> {
        match self.target(path) {
            Ok(_) | Err(Refusal::Unset | Refusal::Unreadable(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// The one way to write the path of a file that the daemon writes: relative to the directory.
    pub fn name_of(&self, path: &str) -> String {
        let path: PathBuf = Path::new(path).components().filter(|part| *part != Component::CurDir).collect();
        let below = self.dir.as_deref().and_then(|dir| path.strip_prefix(dir).ok());
        below.unwrap_or(&path).to_string_lossy().into_owned()
    }

    /// The path of a file that the daemon writes, which need not be there, in a directory that is.
    pub fn target(&self, path: &str) -> Result<PathBuf, Refusal> {
        let (dir, joined) = self.joined(path)?;
        let name = joined.file_name().filter(|_| joined != dir && !path.ends_with('/')).ok_or(Refusal::NotRegular)?;
        let parent = joined.parent().unwrap_or(&dir).canonicalize().map_err(|error| refusal_of(&error))?;
        self.fenced(&dir, parent.join(name))
    }

    /// The path that the reference leads to, once it is known to stay below the directory.
    fn real_path(&self, path: &str) -> Result<PathBuf, Refusal> {
        let (dir, joined) = self.joined(path)?;
        let real = joined.canonicalize().map_err(|error| refusal_of(&error))?;
        let real = self.fenced(&dir, real)?;
        let metadata = real.metadata().map_err(|error| refusal_of(&error))?;
        if metadata.is_file() { Ok(real) } else { Err(Refusal::NotRegular) }
    }

    /// The directory, and what the path says below it.
    fn joined(&self, path: &str) -> Result<(PathBuf, PathBuf), Refusal> {
        let asked = Path::new(path);
        if self.own_files.iter().any(|own| own == asked) {
            return Err(Refusal::Own);
        }
        let dir = self.dir.clone().ok_or(Refusal::NoDirectory)?;
        let joined = dir.join(asked);
        if asked.components().any(|part| part == Component::ParentDir) || !joined.starts_with(&dir) {
            return Err(Refusal::Outside);
        }
        Ok((dir, joined))
    }

    /// What links make of it has to stay below the directory as well.
    fn fenced(&self, dir: &Path, real: PathBuf) -> Result<PathBuf, Refusal> {
        let real_dir = dir.canonicalize().map_err(|error| refusal_of(&error))?;
        let own = self.own_files.iter().filter_map(|own| own.canonicalize().ok());
        if own.into_iter().any(|own| own == real) {
            return Err(Refusal::Own);
        }
        let is_system = SYSTEM.iter().any(|system| real.starts_with(system));
        if !real.starts_with(&real_dir) || is_system { Err(Refusal::Outside) } else { Ok(real) }
    }
}

fn refusal_of(error: &io::Error) -> Refusal {
    #[allow(clippy::wildcard_enum_match_arm, reason = "ErrorKind is open: every other sort is told as it is")]
    match error.kind() {
        io::ErrorKind::NotFound => Refusal::Unset,
        io::ErrorKind::FileTooLarge => Refusal::TooLarge,
        io::ErrorKind::InvalidInput => Refusal::NotRegular,
        kind => Refusal::Unreadable(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use globset::Glob;
    use globset::GlobSetBuilder;
    use secrecy::ExposeSecret;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn globs(patterns: &[&str]) -> GlobSet {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(Glob::new(pattern).unwrap());
        }
        set.build().unwrap()
    }

    fn env(name: &str) -> Reference {
        Reference::Env(name.to_owned())
    }

    fn file(path: &str) -> Reference {
        Reference::File(path.to_owned())
    }

    #[test]
    fn what_is_not_there_yet_may_come_and_what_is_forbidden_stays_so() {
        let may_come = [Refusal::Unset, Refusal::Unreadable(std::io::ErrorKind::PermissionDenied)];
        let stays = [Refusal::Own, Refusal::EnvNotAllowed("A".to_owned()), Refusal::NoDirectory, Refusal::Outside]
            .into_iter()
            .chain([Refusal::NotRegular, Refusal::TooLarge, Refusal::NotText]);

        assert!(may_come.iter().all(Refusal::is_transient));
        assert!(!stays.into_iter().any(|refusal| refusal.is_transient()));
    }

    #[test]
    fn a_variable_is_read_only_where_a_glob_names_it_and_never_if_it_is_the_daemons_own() {
        let fence = Fence { env: globs(&["APP_*", "DESCOPE_*", "*KEY*"]), ..Fence::default() };
        let own = Fence { own_env: vec!["PROD_KEY".to_owned()], ..fence.clone() };
        let not_allowed = |name: &str| Err(Refusal::EnvNotAllowed(name.to_owned()));
        for (fence, name, verdict) in [
            (&fence, "APP_SECRET", Ok(())),
            (&fence, "HOME", not_allowed("HOME")),
            (&fence, "app_secret", not_allowed("app_secret")),
            (&fence, "DESCOPE_MANAGEMENT_KEY", Err(Refusal::Own)),
            (&fence, "descope_management_key", Err(Refusal::Own)),
            (&fence, "DESCOPE_GITOPS_TOKEN", Err(Refusal::Own)),
            (&fence, "PROD_KEY", Ok(())),
            (&own, "PROD_KEY", Err(Refusal::Own)),
            (&Fence::default(), "APP_SECRET", not_allowed("APP_SECRET")),
        ] {
            assert_eq!(fence.check(&env(name)), verdict, "{name}");
        }
    }

    #[test]
    fn a_forbidden_variable_is_not_even_looked_up() {
        let fence = Fence { env: globs(&["*"]), ..Fence::default() };

        let answer = fence.resolve(&env("DESCOPE_MANAGEMENT_KEY"), |_| panic!("it was looked up"));

        assert_eq!(answer.unwrap_err(), Refusal::Own);
    }

    #[test]
    fn a_secret_loses_its_trailing_newline_and_an_empty_one_is_unset() {
        let fence = Fence { env: globs(&["APP_*"]), ..Fence::default() };
        for (value, expected) in [
            (Some("s3cret\n"), Ok("s3cret")),
            (Some("s3cret\r\n"), Ok("s3cret")),
            (Some("two\n\n"), Ok("two\n")),
            (Some("\n"), Err(Refusal::Unset)),
            (Some(""), Err(Refusal::Unset)),
            (None, Err(Refusal::Unset)),
        ] {
            let answer = fence.resolve(&env("APP_A"), |_| value.map(OsString::from));

            assert_eq!(answer.as_ref().map(ExposeSecret::expose_secret), expected.as_ref().copied());
        }
    }

    #[test]
    fn a_file_is_read_only_below_the_directory_whatever_links_say() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("secrets");
        fs::create_dir_all(dir.join("deep")).unwrap();
        fs::write(dir.join("deep/token"), "s3cret\n").unwrap();
        fs::write(temp.path().join("outside"), "other").unwrap();
        fs::write(dir.join("key"), "the daemon's own").unwrap();
        fs::write(dir.join("big"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
        fs::write(dir.join("binary"), [0xff, 0xfe]).unwrap();
        symlink("deep/token", dir.join("inward")).unwrap();
        symlink("../outside", dir.join("outward")).unwrap();
        symlink("/proc/self", dir.join("self")).unwrap();
        symlink("key", dir.join("alias")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        let fence = Fence { dir: Some(dir.clone()), own_files: vec![dir.join("key")], ..Fence::default() };
        let absolute = dir.join("deep/token");
        for (path, expected) in [
            ("deep/token", Ok("s3cret")),
            (absolute.to_str().unwrap(), Ok("s3cret")),
            ("inward", Ok("s3cret")),
            ("missing", Err(Refusal::Unset)),
            ("outward", Err(Refusal::Outside)),
            ("../outside", Err(Refusal::Outside)),
            ("deep/../../outside", Err(Refusal::Outside)),
            ("/etc/passwd", Err(Refusal::Outside)),
            ("/proc/self/environ", Err(Refusal::Outside)),
            ("self/environ", Err(Refusal::Outside)),
            ("key", Err(Refusal::Own)),
            ("alias", Err(Refusal::Own)),
            ("deep", Err(Refusal::NotRegular)),
            ("fifo", Err(Refusal::NotRegular)),
            ("big", Err(Refusal::TooLarge)),
            ("binary", Err(Refusal::NotText)),
        ] {
            let answer = fence.resolve(&file(path), |_| None);

            assert_eq!(answer.as_ref().map(ExposeSecret::expose_secret), expected.as_ref().copied(), "{path}");
        }
        assert_eq!(fence.check(&file("missing")), Ok(()), "what is not there yet may come");
        assert_eq!(Fence::default().check(&file("deep/token")), Err(Refusal::NoDirectory));
    }

    #[test]
    fn the_process_itself_is_out_of_bounds_even_as_the_directory() {
        let fence = Fence { dir: Some("/proc/self".into()), ..Fence::default() };

        assert_eq!(fence.check(&file("environ")), Err(Refusal::Outside));
    }
}
