//! Files that the daemon writes: a secret that Descope shows once lands in one, below the project's `secrets.dir`.
//!
//! The place is proven before the call that makes the secret: a file beside it is written, of more bytes than a secret has.
//! What takes its place is that file, whole. What somebody else put there, before or meanwhile, is never overwritten: the
//! secret stays in the file beside then, which nobody removes.

use crate::desired::secrets::LARGEST;
use crate::desired::secrets::Refusal;
use crate::desired::secrets::Secrets;
use crate::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::fs;
use std::fs::File;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::io;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
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

/// What to do about a secret that waits in a file beside the one that the YAML names.
pub fn waits(name: &str, draft: &Path) -> String {
    format!(
        "a secret that did not get into the file {name} is in {}: move it to a file of its own below `secrets.dir`, and name that \
         one as `secretFile`",
        draft.display()
    )
}

/// What to do about a file that is another project's.
pub fn of_another(name: &str) -> String {
    format!("the file {name} holds the secret of another project; name another file as `secretFile`")
}

/// Why the daemon may not be told to write a file of this name: it calls its own so. `None` where it may.
pub fn not_for_secrets(path: &str) -> Option<String> {
    let name = Path::new(path).file_name()?.to_str()?;
    (name.starts_with(MARK) || draft_of(name).is_some())
        .then(|| format!("{name} is a name that the daemon gives to files of its own; name another file"))
}

/// How the file is called that is written beside the one that it becomes: a dot, its name, a dot, digits, and this.
const DRAFT: &str = ".new";

const DIGITS: usize = 16;

/// How marks of volumes begin.
const MARK: &str = ".descope-gitops-volume-";

/// A place that a secret fits into, with a file that waits to be moved there. Dropped, it leaves nothing behind, unless it
/// holds a secret.
#[derive(Debug)]
pub struct Reserved {
    /// As the YAML writes it.
    name: String,
    path: PathBuf,
    /// What may be replaced: ours, or empty.
    before: Option<Stamp>,
    draft: PathBuf,
    file: File,
    holds_secret: bool,
}

/// Tells a file from one that took its place, or was written meanwhile.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(file) => Ok(Some(Self {
                device: file.dev(),
                inode: file.ino(),
                size: file.size(),
                modified: (file.mtime(), file.mtime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
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
        let unwritable = |error: io::Error| format!("the file {name} cannot be written: {}", error.kind());
        // In this order: what is put there during the look is not what was looked at.
        let target = self.target(name)?;
        let before = Stamp::of(&target).map_err(unwritable)?;
        let Kept { path, secret } = self.kept(name)?;
        if secret.is_some_and(|secret| !is_ours(&path, &secret)) {
            return Err(format!(
                "the file {name} holds something that this daemon did not put there; move it away, or name another file"
            ));
        }
        let draft = beside(&target).ok_or_else(|| format!("{name} is no name of a file"))?;
        let file = prove(&draft).map_err(unwritable)?;
        Ok(Reserved { name: name.to_owned(), path: target, before, draft, file, holds_secret: false })
    }

    /// What can be seen of the place of that file: another number once something in its way may be gone. It writes nothing.
    pub fn look_at_place(&self, name: &str) -> u64 {
        let target = self.target(name);
        let dir = target.as_ref().ok().and_then(|target| target.parent()).map(fs::metadata);
        let dir = dir.map(|dir| dir.map(|dir| (dir.dev(), dir.ino(), dir.mode(), dir.uid(), dir.gid())));
        let there = target.as_ref().ok().map(|target| Stamp::of(target).map_err(|error| error.kind()));
        let mut hasher = DefaultHasher::new();
        (&target, dir.map(|dir| dir.map_err(|error| error.kind())), there).hash(&mut hasher);
        hasher.finish()
    }

    /// Files beside this one with a secret that found no place. `is_old` says of one whether it was replaced.
    pub fn waiting(&self, name: &str, is_old: impl Fn(&SecretString) -> bool) -> Vec<PathBuf> {
        let Ok(target) = self.target(name) else { return Vec::new() };
        let entries = target.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten();
        let is_of = |path: &Path| {
            let own = path.file_name().and_then(|draft| draft_of(draft.to_str()?));
            own.is_some() && own == target.file_name().and_then(|name| name.to_str())
        };
        let holds_secret = |path: &Path| {
            let bytes = open::regular(path).and_then(|(file, _)| open::read(&file, LARGEST)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end_matches(['\0', '\r', '\n']);
            let secret = (!text.is_empty()).then(|| SecretString::from(text.to_owned()));
            secret.is_some_and(|secret| {
                self.redactor.add(&secret);
                !is_old(&secret)
            })
        };
        let mut drafts: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        drafts.retain(|path| is_of(path) && holds_secret(path));
        drafts.sort();
        drafts
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

    /// Puts the secret there. After an error it may be in the file beside, which then stays; the text says so.
    pub fn keep(mut self, secret: &SecretString) -> Result<(), String> {
        self.holds_secret = true;
        let beside = || waits(&self.name, &self.draft);
        self.write(secret).map_err(|error| {
            format!(
                "the secret could not be written: {}; what was written of it is in {}",
                error.kind(),
                self.draft.display()
            )
        })?;
        self.put().map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                format!("something else was put into the file {} meanwhile, and stays; {}", self.name, beside())
            } else {
                format!("the secret could not be put into its place: {}; {}", error.kind(), beside())
            }
        })?;
        let synced = self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all());
        synced.map_err(|error| {
            format!("the secret is in {}, perhaps not for good: {}", self.path.display(), error.kind())
        })
    }

    fn write(&self, secret: &SecretString) -> io::Result<()> {
        let mut file = &self.file;
        file.rewind()?;
        file.write_all(secret.expose_secret().as_bytes())?;
        file.write_all(b"\n")?;
        file.set_len(secret.expose_secret().len() as u64 + 1)?;
        file.sync_all()
    }

    /// Moves the draft there, whole, in place of nothing but what might be replaced.
    fn put(&self) -> io::Result<()> {
        let Some(before) = &self.before else { return put_new(&self.draft, &self.path) };
        let is_before = |path: &Path| Ok::<_, io::Error>(Stamp::of(path)?.as_ref() == Some(before));
        match rename(&self.draft, &self.path, RenameFlags::EXCHANGE) {
            // Another's secret may have got there between a look and a rename. What came out is what was there.
            Ok(()) if is_before(&self.draft)? => {
                drop(fs::remove_file(&self.draft));
                Ok(())
            }
            Ok(()) => {
                rename(&self.draft, &self.path, RenameFlags::EXCHANGE)?;
                Err(io::ErrorKind::AlreadyExists.into())
            }
            Err(Errno::NOENT) => put_new(&self.draft, &self.path),
            Err(error) if cannot(error) && is_before(&self.path)? => fs::rename(&self.draft, &self.path),
            Err(error) if cannot(error) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.holds_secret {
            // What stays behind has no secret in it.
            drop(fs::remove_file(&self.draft));
        }
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags)
}

/// Is that something that this file system has not?
fn cannot(error: Errno) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].contains(&error)
}

/// Where nothing is.
fn put_new(draft: &Path, path: &Path) -> io::Result<()> {
    match rename(draft, path, RenameFlags::NOREPLACE) {
        Err(error) if cannot(error) => link(draft, path),
        done => Ok(done?),
    }
}

/// The same on network file systems that know no other rename than the one which replaces.
fn link(draft: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(draft, path)?;
    drop(fs::remove_file(draft));
    Ok(())
}

/// One of these for each reservation: two of one target know nothing of each other.
fn beside(target: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name()?);
    name.push(format!(".{:016x}{DRAFT}", fastrand::u64(..)));
    Some(target.with_file_name(name))
}

/// The name of the file that this one was to become.
fn draft_of(draft: &str) -> Option<&str> {
    let (name, digits) = draft.strip_prefix('.')?.strip_suffix(DRAFT)?.rsplit_once('.')?;
    let is_ours = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_ours && !name.is_empty()).then_some(name)
}

fn prove(draft: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(draft, flags, Mode::RUSR | Mode::WUSR)?);
    let proven = file.write_all(&[0; ROOM]).and_then(|()| file.sync_all());
    if proven.is_err() {
        drop(fs::remove_file(draft));
    }
    proven.map(|()| file)
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

    #[test]
    fn a_place_looks_otherwise_once_what_was_in_the_way_is_gone_and_not_by_our_own_look() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = of(&dir);
        let mut seen = vec![secrets.look_at_place("sub/k")];
        fs::create_dir(dir.path().join("sub")).unwrap();
        seen.push(secrets.look_at_place("sub/k"));
        fs::write(dir.path().join("sub/k"), "of somebody else").unwrap();
        seen.push(secrets.look_at_place("sub/k"));
        assert!(secrets.reserve("sub/k", |_, _| false).is_err());
        assert_eq!(secrets.look_at_place("sub/k"), seen[2]);
        fs::remove_file(dir.path().join("sub/k")).unwrap();
        drop(secrets.reserve("sub/k", |_, _| false).unwrap());

        assert_eq!(secrets.look_at_place("sub/k"), seen[1]);
        assert!(seen[0] != seen[1] && seen[1] != seen[2]);
    }

    #[test]
    fn a_draft_is_always_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (there, link) = (dir.path().join("there"), dir.path().join("link"));
        fs::write(&there, "theirs").unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();

        for draft in [&there, &link] {
            assert_eq!(prove(draft).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{}", draft.display());
        }

        assert_eq!(fs::read_to_string(there).unwrap(), "theirs");
        assert!(!dir.path().join("elsewhere").exists());
    }

    fn of(dir: &tempfile::TempDir) -> Secrets {
        let dir = dir.path().canonicalize().unwrap();
        Secrets { fence: Fence { dir: Some(dir), ..Fence::default() }, ..Secrets::default() }
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn of_two_at_once_for_one_file_no_secret_is_lost_and_the_second_says_where_its_own_is() {
        for empty in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            if empty {
                fs::write(dir.path().join("key"), "").unwrap();
            }
            let (one, other) = (of(&dir), of(&dir));
            let first = one.reserve("key", |_, _| false).unwrap();
            let second = other.reserve("key", |_, _| false).unwrap();

            second.keep(&SecretString::from("second")).unwrap();
            let said = first.keep(&SecretString::from("first")).unwrap_err();

            assert_eq!(fs::read_to_string(dir.path().join("key")).unwrap(), "second\n");
            let waiting = one.waiting("key", |_| false);
            assert_eq!(waiting.len(), 1);
            assert!(said.contains(&waits("key", &waiting[0])), "{said}");
            assert_eq!(fs::read_to_string(&waiting[0]).unwrap(), "first\n");
            assert!(one.waiting("key", |secret| secret.expose_secret() == "first").is_empty());
            assert!(one.waiting("other", |_| false).is_empty());
            assert_eq!(names(&dir).len(), 2);
            drop(one.reserve("key", |_, _| true).unwrap());
            assert_eq!(names(&dir).len(), 2, "the next one leaves it alone");
        }
    }

    #[test]
    fn what_came_in_between_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (secrets, path) = (of(&dir), dir.path().join("key"));
        for before in [None, Some("ours\n")] {
            if let Some(text) = before {
                fs::write(&path, text).unwrap();
            }
            let reserved = secrets.reserve("key", |_, _| true).unwrap();
            fs::remove_file(&path).ok();
            fs::write(&path, "by hand\n").unwrap();

            let said = reserved.keep(&SecretString::from("s3cret")).unwrap_err();

            assert!(said.contains("something else was put into the file key meanwhile"), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "by hand\n");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_place_that_nobody_can_look_at_is_no_empty_one() {
        let dir = tempfile::tempdir().unwrap();

        assert!(of(&dir).kept("key").unwrap().secret.is_none());
        let too_long = "x".repeat(300);
        let said = of(&dir).kept(&too_long).unwrap_err();

        assert!(said.starts_with(&format!("the file {too_long} cannot be read: ")), "{said}");
    }

    #[test]
    fn ours_is_replaced_and_one_that_was_taken_away_needs_no_replacing() {
        let dir = tempfile::tempdir().unwrap();
        let (secrets, path) = (of(&dir), dir.path().join("key"));
        for is_taken_away in [false, true] {
            fs::write(&path, "ours\n").unwrap();
            let reserved = secrets.reserve("key", |_, _| true).unwrap();
            if is_taken_away {
                fs::remove_file(&path).unwrap();
            }
            reserved.keep(&SecretString::from("next")).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
            assert_eq!(names(&dir), ["key"]);
        }
    }

    #[test]
    fn where_no_rename_spares_what_is_there_a_link_does() {
        let dir = tempfile::tempdir().unwrap();
        let (draft, path) = (dir.path().join("draft"), dir.path().join("key"));
        fs::write(&draft, "one").unwrap();
        link(&draft, &path).unwrap();
        fs::write(&draft, "two").unwrap();
        assert_eq!(link(&draft, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (fs::read_to_string(&draft).unwrap(), fs::read_to_string(&path).unwrap()),
            ("two".into(), "one".into())
        );
    }

    #[test]
    fn a_file_beside_that_is_somebodys_own_survives() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = [".key.new", ".key.0123456789abcdef.new"];
        for name in theirs {
            fs::write(dir.path().join(name), "theirs").unwrap();
        }
        of(&dir).reserve("key", |_, _| false).unwrap().keep(&SecretString::from("s3cret")).unwrap();
        for name in theirs {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "theirs");
        }
    }

    #[test]
    fn names_of_files_of_our_own_are_not_for_secrets() {
        let mark = format!("{MARK}0123456789abcdef");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(&mark), "").unwrap();
        assert_eq!(crate::desired::volume::marks(dir.path()).len(), 1);
        for name in
            [".k.0123456789abcdef.new", "sub/.k.0.0123456789abcdef.new", mark.as_str(), ".descope-gitops-volume-x"]
        {
            assert!(not_for_secrets(name).is_some(), "{name}");
        }
        for name in
            ["k", ".k.new", ".k0.key.new", "k.0123456789abcdef.new", ".0123456789abcdef.new", ".k.0123456789abcdeg.new"]
        {
            assert_eq!(not_for_secrets(name), None, "{name}");
        }
        let draft = beside(Path::new("/secrets/k.key")).unwrap();
        assert_eq!(draft_of(draft.file_name().unwrap().to_str().unwrap()), Some("k.key"));
    }
}
