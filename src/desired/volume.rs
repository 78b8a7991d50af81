//! Secrets that Descope shows once, where replicas share the state: their files are of use on a volume that all mount.
//!
//! What proves that is a mark: an empty file with a name that is made up once, so that it is there or not, whoever else looks or
//! makes one. The database knows which mark it is, and which replicas see it.

use crate::desired::secrets::Secrets;
use crate::state::ProjectState;
use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::accessat;
use rustix::process::geteuid;
use sha2::Digest as _;
use sha2::Sha256;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

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
    read(dir).unwrap_or_default()
}

fn read(dir: &Path) -> io::Result<BTreeSet<String>> {
    let is_mark = |mark: &str| mark.len() == DIGITS && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut marks = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        marks.extend(
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).filter(|mark| is_mark(mark)).map(str::to_owned),
        );
    }
    Ok(marks)
}

fn make(dir: &Path, mark: &str) -> io::Result<()> {
    File::create(dir.join(format!("{PREFIX}{mark}")))?.sync_all()?;
    File::open(dir)?.sync_all()
}

/// The one mark that may take the place of this one. No volume of before bears it: whoever makes it was told to.
fn successor(mark: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(mark).into();
    let number = digest.iter().take(DIGITS / 2).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{number:016x}")
}

/// What is to be done about the mark of the volume before a secret is put on it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is the settled one, and all see it.
    Nothing,
    /// No volume was marked before. The mark is in the directory, or has to be made there.
    Settle(Option<String>),
    /// The first of them is gone for all, and all see the other.
    Replace(String, String),
}

impl Secrets {
    /// May a secret be put on the volume, as far as can be seen without a change to it? The text says why not.
    pub fn look_at_volume(&self, state: &ProjectState) -> Result<(), String> {
        match self.fence.volume {
            Volume::Own => Ok(()),
            Volume::Apart => Err(APART.to_owned()),
            // Whoever holds no lease writes nothing, and may be on another machine.
            Volume::Common if state.tenure().is_none() => Ok(()),
            Volume::Common => self.next_step(state).map(drop),
        }
    }

    /// The same before one is: marks the volume, if none was before. Asked again, it may be answered otherwise.
    pub fn prove_volume(&self, state: &ProjectState) -> Result<(), String> {
        match self.fence.volume {
            Volume::Own => return Ok(()),
            Volume::Apart => return Err(APART.to_owned()),
            Volume::Common => {}
        }
        match self.next_step(state)? {
            Step::Nothing => return Ok(()),
            // In this order: a mark that the database does not know yet does no harm, and the next one who comes takes it.
            Step::Settle(mark) => {
                let mark = mark.map_or_else(|| self.mark(), Ok)?;
                state.settle_volume(&mark).map_err(|error| unknown(&error))?;
            }
            Step::Replace(gone, mark) => {
                state.replace_volume(&gone, &mark).map_err(|error| unknown(&error))?;
                tracing::warn!(gone, mark, "the replicas have a new volume for secrets from now on");
            }
        }
        // What is settled may be another's mark: it is looked for like any.
        match self.next_step(state)? {
            Step::Nothing => Ok(()),
            Step::Settle(_) | Step::Replace(..) => Err("the volume was marked by another replica meanwhile".to_owned()),
        }
    }

    fn mark(&self) -> Result<String, String> {
        let dir = self.volume_dir();
        let mark = format!("{:016x}", fastrand::u64(..));
        make(dir, &mark).map_err(|error| unwritable(dir, &error))?;
        Ok(mark)
    }

    fn volume_dir(&self) -> &Path {
        self.fence.dir.as_deref().unwrap_or(Path::new(""))
    }

    fn next_step(&self, state: &ProjectState) -> Result<Step, String> {
        let dir = self.volume_dir();
        let settled = state.volume().map_err(|error| unknown(&error))?;
        let marks = read(dir).map_err(|error| {
            let why =
                if error.kind() == io::ErrorKind::NotFound { "not found".to_owned() } else { error.kind().to_string() };
            format!(
                "the volume {} cannot be read: {why}; mount it there, or correct `projects[].secrets.dir`",
                dir.display()
            )
        })?;
        let Some(settled) = settled else {
            return self.first_step(state, marks);
        };
        if marks.contains(&settled) {
            self.is_seen_by_all(state, &settled)?;
            return Ok(Step::Nothing);
        }
        let lacks = format!(
            "{} is not the volume that the replicas share: the mark {PREFIX}{settled} is not in it; mount that volume here",
            dir.display()
        );
        let who = state.others_that_see(&settled).map_err(|error| unknown(&error))?;
        if !who.is_empty() {
            return Err(format!("{lacks} as well: {} sees it", who.join(", ")));
        }
        let new = successor(&settled);
        if marks.contains(&new) {
            self.is_seen_by_all(state, &new)?;
            return Ok(Step::Replace(settled, new));
        }
        let file = dir.join(format!("{PREFIX}{new}"));
        Err(format!("{lacks}, or, where all replicas have a new one for good, mark it: `touch {}`", file.display()))
    }

    /// Where no volume was marked yet.
    fn first_step(&self, state: &ProjectState, mut marks: BTreeSet<String>) -> Result<Step, String> {
        let dir = self.volume_dir();
        // Of a state that was carried here, or of before replicas shared it.
        let kept = state.all_kept().map_err(|error| unknown(&error))?;
        let missing = kept.first().filter(|_| !kept.iter().any(|kept| is_below(dir, Path::new(kept))));
        // Another volume may have a mark as well: what takes the place of one that is gone is told, and counts alone.
        let told = missing.map(|one| successor(one));
        let found = match &told {
            Some(told) => marks.take(told),
            None => marks.pop_first(),
        };
        if let Some(mark) = found {
            self.is_seen_by_all(state, &mark)?;
            return Ok(Step::Settle(Some(mark)));
        }
        if let Some((one, told)) = missing.zip(told) {
            let file = dir.join(format!("{PREFIX}{told}"));
            return Err(format!(
                "no secret that was put into `secrets.dir` before is in {} ({} is missing): mount the volume that has them, or, \
                 where they are gone for good, mark this one: `touch {}`",
                dir.display(),
                Path::new(one).file_name().unwrap_or_default().display(),
                file.display()
            ));
        }
        accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|error| unwritable(dir, &error.into()))?;
        Ok(Step::Settle(None))
    }

    fn is_seen_by_all(&self, state: &ProjectState, mark: &str) -> Result<(), String> {
        let blind = state.blind_to(mark).map_err(|error| unknown(&error))?;
        if blind.is_empty() {
            return Ok(());
        }
        Err(format!(
            "not every replica sees the same volume: {} without the mark {} in `secrets.dir`; mount the volume there as well, \
             and say `secrets: {{ shared: true }}` there",
            blind.join(", "),
            self.volume_dir().join(format!("{PREFIX}{mark}")).display()
        ))
    }
}

/// Is the file there, by whatever path the directory had when it was written?
fn is_below(dir: &Path, file: &Path) -> bool {
    let parts: Vec<_> = file.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    (0..parts.len()).any(|from| dir.join(parts.iter().skip(from).collect::<PathBuf>()).is_file())
}

fn unwritable(dir: &Path, error: &io::Error) -> String {
    format!(
        "the volume {} cannot be marked as the common one: {}; let user {} write to it, or correct `projects[].secrets.dir`",
        dir.display(),
        error.kind(),
        geteuid().as_raw()
    )
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

    #[test]
    fn a_file_is_found_wherever_the_directory_was_when_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/ci.key"), "").unwrap();
        let is_found = |file: &str| is_below(dir.path(), Path::new(file));

        assert!(is_found("/elsewhere/secrets/sub/ci.key") && is_found("sub/ci.key"));
        assert!(!is_found("/elsewhere/secrets/ci.key") && !is_found("/elsewhere/sub") && !is_found(""));
    }

    #[test]
    fn who_cannot_write_to_the_volume_is_told_who_that_is() {
        let told = unwritable(Path::new("/secrets"), &io::ErrorKind::PermissionDenied.into());

        let expected = "the volume /secrets cannot be marked as the common one: permission denied; let user ";
        assert!(told.starts_with(expected), "{told}");
        let user = geteuid().as_raw().to_string();
        assert_eq!(
            told[expected.len()..].split_once(' '),
            Some((&*user, "write to it, or correct `projects[].secrets.dir`"))
        );
    }

    #[test]
    fn a_mark_has_one_successor_that_no_mark_before_it_was() {
        let mut marks = vec!["0123456789abcdef".to_owned()];
        for n in 0..8 {
            marks.push(successor(&marks[n]));
        }

        assert!(marks.iter().all(|mark| mark.len() == DIGITS), "{marks:?}");
        assert_eq!(marks.iter().collect::<BTreeSet<_>>().len(), 9);
        assert_eq!(successor(&marks[0]), marks[1]);
    }
}
