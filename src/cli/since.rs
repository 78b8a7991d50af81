//! `plan --since REV`: what the files declare differently than they did at another revision of git.

use crate::cli::UsageError;
use crate::cli::plan::desired;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::resource::Key;
use crate::source::loader::Loader;
use crate::source::loader::Settings;
use crate::source::tree::NamedFiles;
use crate::source::tree::Tree;
use anyhow::Context;
use anyhow::bail;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// The files at a revision, in a directory of their own.
pub struct Before {
    dir: tempfile::TempDir,
    revision: String,
}

impl Before {
    /// Asks git for them. `root` is `source.path`.
    pub fn read(root: &Path, revision: &str) -> anyhow::Result<Self> {
        if revision.starts_with('-') {
            return Err(UsageError(format!("--since: {revision} is no revision")).into());
        }
        if !is_there(root, revision)? {
            return Err(UsageError(format!(
                "--since: git knows no revision {revision:?} here; a shallow clone has the newest ones alone"
            ))
            .into());
        }
        let dir = tempfile::tempdir().context("cannot make a directory for the files of the other revision")?;
        let mut archive = Command::new("git");
        archive.arg("-C").arg(root).args(["archive", "--format=tar", revision, "--", "."]).stdin(Stdio::null());
        let mut archive = archive.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run git")?;
        let tar = archive.stdout.take().context("git says nothing")?;
        let unpacked =
            Command::new("tar").arg("-x").arg("-C").arg(dir.path()).stdin(tar).stderr(Stdio::piped()).output();
        let archived = archive.wait_with_output().context("cannot run git")?;
        if !archived.status.success() {
            let said = String::from_utf8_lossy(&archived.stderr).trim().to_owned();
            bail!("git cannot give the files of {revision}: {said}");
        }
        let unpacked = unpacked.context("cannot run tar")?;
        if !unpacked.status.success() {
            bail!("cannot unpack the files of {revision}: {}", String::from_utf8_lossy(&unpacked.stderr).trim());
        }
        Ok(Self { dir, revision: revision.to_owned() })
    }

    /// Everything that one project declares differently now, what it declares no more included.
    pub fn changed(&self, settings: &Settings, now: &Desired) -> anyhow::Result<BTreeSet<Key>> {
        let tree = Tree { root: self.dir.path().to_owned(), named: NamedFiles::default(), ..settings.tree.clone() };
        let before = match desired(&mut Loader::new(Settings { tree, ..settings.clone() })) {
            Ok(before) => before,
            Err(findings) => {
                let first = findings.first().map(ToString::to_string).unwrap_or_default();
                bail!(
                    "the files at {} are no desired state ({first}), so nothing can be compared with them",
                    self.revision
                )
            }
        };
        let keys = before.resources.keys().chain(now.resources.keys());
        let differs = |key: &&Key| match (before.resources.get(key), now.resources.get(key)) {
            (Some(before), Some(now)) => !says_the_same(before, now),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        Ok(keys.filter(differs).cloned().collect())
    }
}

/// Does git know it? Where git cannot tell, asking for its files says why.
fn is_there(root: &Path, revision: &str) -> anyhow::Result<bool> {
    let mut ask = Command::new("git");
    ask.arg("-C").arg(root).args(["rev-parse", "--verify", "--quiet", &format!("{revision}^{{tree}}")]);
    let told = ask.stdin(Stdio::null()).output().context("cannot run git")?;
    // 128 is of what has nothing to do with the revision, as where there is no repository.
    Ok(told.status.code() != Some(1))
}

/// Wherever it stands.
fn says_the_same(before: &Declared, now: &Declared) -> bool {
    Declared { place: now.place.clone(), ..before.clone() } == *now
}
