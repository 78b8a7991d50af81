//! Secrets by reference: from the environment or from a file, never written out.

use crate::config::Env;
use crate::open;
use secrecy::SecretString;
use std::io;
use std::path::PathBuf;

/// Far above any key, far below what a mistaken path could hold.
const LONGEST: u64 = 64 * 1024;

/// Where a secret comes from, as the config says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// A variable.
    Env(String),
    /// A file.
    File(PathBuf),
}

impl SecretRef {
    /// Looks the variable up; `None` where it is unset or empty.
    pub fn resolve(&self, env: Env<'_>) -> Option<SecretSource> {
        match self {
            Self::Env(name) => {
                let value = env(name).map(without_newline).filter(|value| !value.is_empty())?;
                Some(SecretSource::Value(value.into()))
            }
            Self::File(path) => Some(SecretSource::File(path.clone())),
        }
    }
}

/// Where a secret can be read now.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// From the environment, which does not change.
    Value(SecretString),
    /// From a file, which does: a rotated key takes effect at the next read.
    File(PathBuf),
}

impl SecretSource {
    /// The secret as it is now, without its trailing newline. The error never quotes it.
    pub fn read(&self) -> Result<SecretString, String> {
        let value = match self {
            Self::Value(value) => return check(value.clone()),
            Self::File(path) => {
                let bytes = open::named(path, LONGEST).map_err(|error| {
                    if error.kind() == io::ErrorKind::FileTooLarge {
                        return format!("{} is larger than a secret can be", path.display());
                    }
                    format!("cannot read {}: {error}", path.display())
                })?;
                let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
                let value = without_newline(text);
                if value.is_empty() {
                    return Err(format!("{} is empty", path.display()));
                }
                value
            }
        };
        check(value.into())
    }
}

/// A header takes neither; a key with one inside is two keys, or a key and a comment.
fn check(value: SecretString) -> Result<SecretString, String> {
    if secrecy::ExposeSecret::expose_secret(&value).starts_with('\u{feff}') {
        return Err("the secret begins with a byte order mark (BOM); store it as plain UTF-8 without one".to_owned());
    }
    if secrecy::ExposeSecret::expose_secret(&value).chars().any(char::is_control) {
        return Err("the secret holds a line break or another control character".to_owned());
    }
    Ok(value)
}

fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn from_file(content: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, content).unwrap();
        let read = SecretRef::File(path.clone()).resolve(&|_| None).unwrap().read();
        read.map(|secret| secret.expose_secret().to_owned()).map_err(|e| e.replace(path.to_str().unwrap(), "KEY"))
    }

    #[test]
    fn a_trailing_newline_is_dropped_and_nothing_else() {
        assert_eq!(from_file("K2abc\n"), Ok("K2abc".to_owned()));
        assert_eq!(from_file("K2abc\r\n"), Ok("K2abc".to_owned()));
        assert_eq!(from_file(" K2abc "), Ok(" K2abc ".to_owned()));
    }

    #[test]
    fn a_file_that_cannot_be_a_secret_is_an_error_that_does_not_quote_it() {
        assert_eq!(from_file("\n"), Err("KEY is empty".to_owned()));
        assert_eq!(
            from_file("K2abc\nK2def\n"),
            Err("the secret holds a line break or another control character".into())
        );
        assert_eq!(
            from_file("\u{feff}K2abc\n"),
            Err("the secret begins with a byte order mark (BOM); store it as plain UTF-8 without one".into())
        );
        assert_eq!(from_file(&"x".repeat(70_000)), Err("KEY is larger than a secret can be".to_owned()));
    }

    #[test]
    fn a_file_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "old").unwrap();
        let source = SecretRef::File(path.clone()).resolve(&|_| None).unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), "old");

        std::fs::write(&path, "new").unwrap();

        assert_eq!(source.read().unwrap().expose_secret(), "new");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let secret = SecretRef::Env("KEY".to_owned());

        assert!(secret.resolve(&|_| Some(String::new())).is_none());
        assert!(secret.resolve(&|_| Some("\n".to_owned())).is_none());
        assert!(secret.resolve(&|_| None).is_none());
        let debug = format!("{:?}", secret.resolve(&|_| Some("K2abc".to_owned())));
        assert!(!debug.contains("K2abc"), "{debug}");
    }
}
