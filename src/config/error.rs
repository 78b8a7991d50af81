//! What is wrong with the settings, all of it at once.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The config file; `None` where a flag or the environment is meant.
    pub file: Option<PathBuf>,
    /// From 1, where known.
    pub line: Option<usize>,
    /// Names the key and the remedy.
    pub message: String,
}

/// `FILE:LINE: MESSAGE`, as editors and CI systems link it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: {}", file.display(), self.message),
            (Some(file), None) => write!(f, "{}: {}", file.display(), self.message),
            (None, _) => f.write_str(&self.message),
        }
    }
}

/// The settings cannot be used. Never empty; the message has one line for each problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Invalid(pub Vec<Problem>);

impl From<Problem> for Invalid {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
