//! Files that the daemon writes: a secret that Descope shows once lands in one, below the project's `secrets.dir`.
//!
//! The place is proven before the call that makes the secret: a file beside it is written, of more bytes than a secret has.
//! What takes its place is that file, whole. What somebody else put there is never overwritten.

use crate::desired::secrets::LARGEST;
use crate::desired::secrets::Refusal;
use crate::desired::secrets::Secrets;
use crate::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// Bytes that are written to prove that a secret has room. The longest known is a tenth of it.
const ROOM: usize = 4096;

/// What an operator can do about a resource whose secret was lost, made by a call that is never sent again. `id` is what
/// Descope gave it.
pub fn lost(name: &str, id: &str) -> String {
    format!(
        "it exists in Descope with the id `{id}`, and the secret that it showed once did not get into the file {name}: make \
         Descope show another one (rotate) and put that into the file, or delete it in Descope to have it created anew, or \
         take the `secretFile` line out to go on without; it is never created a second time"
    )
}

/// The same while nobody can tell whether it was made.
pub fn in_doubt(name: &str) -> String {
    format!(
        "the answer to its create was lost, and with it the secret for the file {name}, if it was made: it is not sent again \
         before two minutes have passed and Descope still does not show it"
    )
}

/// How the file is called that is written beside the one that it becomes.
const DRAFT: &str = ".new";

/// A place that a secret fits into, with a file that waits to be moved there. Dropped, it leaves nothing behind, unless it
/// holds a secret.
#[derive(Debug)]
pub struct Reserved {
    path: PathBuf,
    draft: PathBuf,
    file: File,
    holds_secret: bool,
}

/// What is in such a file.
#[derive(Debug)]
pub struct Kept {
    /// Where it is, links resolved.
    pub path: String,
    /// `None` where there is no file, or nothing in it.
    pub secret: Option<SecretString>,
}

impl Secrets {
    /// What is in the file that the YAML names so.
    pub fn kept(&self, name: &str) -> Result<Kept, String> {
        let target = self.target(name)?;
        let path = target.to_string_lossy().into_owned();
        let unreadable = |error: &io::Error| format!("the file {name} cannot be read: {}", error.kind());
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept { path, secret: None }),
            Err(error) => return Err(unreadable(&error)),
            Ok(metadata) if !metadata.is_file() => return Err(format!("the file {name} is not a regular file")),
            Ok(_) => {}
        }
        let (file, _) = open::regular(&target).map_err(|error| unreadable(&error))?;
        let bytes = open::read(&file, LARGEST).map_err(|error| unreadable(&error))?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\r', '\n']);
        let secret = (!text.is_empty()).then(|| SecretString::from(text.to_owned()));
        if let Some(secret) = &secret {
            self.redactor.add(secret);
        }
        Ok(Kept { path, secret })
    }

    /// Proves that a secret can be written there. `is_ours` says of what is in the file of this path whether it was put
    /// there for that.
    pub fn reserve(&self, name: &str, is_ours: impl Fn(&str, &SecretString) -> bool) -> Result<Reserved, String> {
        let Kept { path, secret } = self.kept(name)?;
        if secret.is_some_and(|secret| !is_ours(&path, &secret)) {
            return Err(format!(
                "the file {name} holds something that this daemon did not put there; move it away, or name another file"
            ));
        }
        let target = PathBuf::from(&path);
        let draft = beside(&target).ok_or_else(|| format!("{name} is no name of a file"))?;
        let file = prove(&draft).map_err(|error| format!("the file {name} cannot be written: {}", error.kind()))?;
        Ok(Reserved { path: target, draft, file, holds_secret: false })
    }

    /// Where the file is, or would be.
    fn target(&self, path: &str) -> Result<PathBuf, String> {
        self.fence.target(path).map_err(|refusal| match refusal {
            Refusal::Unset => format!("the directory of {path} does not exist below the project's `secrets.dir`"),
            refusal @ (Refusal::Own
            | Refusal::EnvNotAllowed(_)
            | Refusal::NoDirectory
            | Refusal::Outside
            | Refusal::NotRegular
            | Refusal::TooLarge
            | Refusal::NotText
            | Refusal::Unreadable(_)) => format!("{path}: {refusal}"),
        })
    }
}

impl Reserved {
    /// Where it is going to be.
    pub fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Puts the secret there. After an error it may be in the file beside, which then stays.
    pub fn keep(mut self, secret: &SecretString) -> io::Result<()> {
        self.holds_secret = true;
        self.file.rewind()?;
        self.file.write_all(secret.expose_secret().as_bytes())?;
        self.file.write_all(b"\n")?;
        self.file.set_len(secret.expose_secret().len() as u64 + 1)?;
        self.file.sync_all()?;
        fs::rename(&self.draft, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.holds_secret {
            // The next one begins by removing it, too.
            drop(fs::remove_file(&self.draft));
        }
    }
}

fn beside(target: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name()?);
    name.push(DRAFT);
    Some(target.with_file_name(name))
}

fn prove(draft: &Path) -> io::Result<File> {
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(draft, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&[0; ROOM])?;
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::secrets::Fence;

    #[test]
    fn a_secret_lands_in_the_place_that_was_told_before() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let secrets = Secrets { fence: Fence { dir: Some(dir.clone()), ..Fence::default() }, ..Secrets::default() };

        let reserved = secrets.reserve("key", |_, _| false).unwrap();
        let told = reserved.path();
        reserved.keep(&SecretString::from("s3cret")).unwrap();

        assert_eq!(told, dir.join("key").to_string_lossy());
        assert_eq!(fs::read_to_string(told).unwrap(), "s3cret\n");
        let kept = secrets.kept("key").unwrap();
        assert_eq!(kept.secret.unwrap().expose_secret(), "s3cret");
    }

    #[test]
    fn what_somebody_else_put_there_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key"), "theirs").unwrap();
        let secrets =
            Secrets { fence: Fence { dir: Some(dir.path().to_owned()), ..Fence::default() }, ..Secrets::default() };

        let refused = secrets.reserve("key", |_, _| false).unwrap_err();

        assert!(refused.contains("holds something that this daemon did not put there"), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(secrets.reserve("key", |_, _| true).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("key")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
