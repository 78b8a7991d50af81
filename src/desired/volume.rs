//! Secrets that Descope shows once, where replicas share the state: their files are of use on a volume that all mount.
//!
//! What proves that is a mark: an empty file with a name that is made up once, so that it is there or not, whoever else looks or
//! makes one. The database knows which mark it is, and which replicas see it.

use crate::desired::secrets::Secrets;
use crate::state::ProjectState;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;

/// What `secrets.dir` of a project is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Volume {
    /// Of one process: whatever disk it is on.
    #[default]
    Own,
    /// Of replicas, and nobody said that they see the same.
    Apart,
    /// Of replicas, and said to be one and the same (`secrets.shared`).
    Common,
}

/// Why nothing is put on it where nobody said that replicas see the same.
pub const APART: &str = "no secret is made that only one replica would have: with `state.url`, put the project's \
                         `secrets.dir` on a volume that all replicas mount, and write `secrets: { shared: true }`";

/// How a mark is called: this, and its digits.
const PREFIX: &str = ".descope-gitops-volume-";

const DIGITS: usize = 16;

/// The marks in this directory; none, where it cannot be read.
pub fn marks(dir: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_mark = |mark: &str| mark.len() == DIGITS && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
    names.filter_map(|name| Some(name.strip_prefix(PREFIX)?.to_owned()).filter(|mark| is_mark(mark))).collect()
}

fn make(dir: &Path, mark: &str) -> io::Result<()> {
    File::create(dir.join(format!("{PREFIX}{mark}")))?.sync_all()?;
    File::open(dir)?.sync_all()
}

impl Secrets {
    /// May a secret be put on the volume, as far as can be seen without a change to it? The text says why not.
    pub fn look_at_volume(&self, state: &ProjectState) -> Result<(), String> {
        match self.fence.volume {
            Volume::Own => Ok(()),
            Volume::Apart => Err(APART.to_owned()),
            // Whoever holds no lease writes nothing, and may be on another machine.
            Volume::Common if state.tenure().is_none() => Ok(()),
            Volume::Common => match known(state)? {
                Some(mark) => self.check(state, &mark),
                None => Ok(()),
            },
        }
    }

    /// The same before one is: marks the volume, if none was before. Asked again, it may be answered otherwise.
    pub fn prove_volume(&self, state: &ProjectState) -> Result<(), String> {
        match self.fence.volume {
            Volume::Own => Ok(()),
            Volume::Apart => Err(APART.to_owned()),
            Volume::Common => {
                let mark = match known(state)? {
                    Some(mark) => mark,
                    None => self.settle(state)?,
                };
                self.check(state, &mark)
            }
        }
    }

    /// In this order: a mark that the database does not know yet does no harm, and the next one who comes takes it.
    fn settle(&self, state: &ProjectState) -> Result<String, String> {
        let dir = self.fence.dir.as_deref().unwrap_or(Path::new(""));
        let mark = if let Some(mark) = marks(dir).pop_first() {
            mark
        } else {
            let mark = format!("{:016x}", fastrand::u64(..));
            make(dir, &mark).map_err(|error| {
                format!("the volume {} cannot be marked as the common one: {}", dir.display(), error.kind())
            })?;
            mark
        };
        state.settle_volume(&mark).map_err(|error| unknown(&error))
    }

    fn check(&self, state: &ProjectState, mark: &str) -> Result<(), String> {
        let dir = self.fence.dir.as_deref().unwrap_or(Path::new(""));
        let file = dir.join(format!("{PREFIX}{mark}"));
        if !marks(dir).contains(mark) {
            return Err(format!(
                "{} is not the volume that the replicas share: the mark {PREFIX}{mark} is not in it; mount that volume here, or, \
                 where all replicas have a new one for good, mark it: `touch {}`",
                dir.display(),
                file.display()
            ));
        }
        let blind = state.blind_to(mark).map_err(|error| unknown(&error))?;
        if blind.is_empty() {
            return Ok(());
        }
        Err(format!(
            "not every replica sees the same volume: {} without the mark {} in `secrets.dir`; mount the volume there as well",
            blind.join(", "),
            file.display()
        ))
    }
}

fn known(state: &ProjectState) -> Result<Option<String>, String> {
    state.volume().map_err(|error| unknown(&error))
}

fn unknown(error: &crate::state::Error) -> String {
    format!("nobody can tell whether the replicas see the same volume: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_what_a_mark_is_called_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = ("0123456789abcdef", "fedcba9876543210");
        for mark in [one, other, one] {
            make(dir.path(), mark).unwrap();
        }
        for name in ["ci.key", ".descope-gitops-volume-", ".descope-gitops-volume-0123 456789abcde", "0123456789abcdef"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }

        assert_eq!(marks(dir.path()), BTreeSet::from([one.to_owned(), other.to_owned()]));
        assert_eq!(marks(&dir.path().join("none")), BTreeSet::new());
        assert!(make(&dir.path().join("none"), one).is_err());
    }
}
