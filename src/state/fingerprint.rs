//! Fingerprints of what was sent but cannot be read back: comparable, and worth nothing without the key.

use super::OpenError;
use crate::open;
use crate::resource::Key;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use secrecy::ExposeSecret;
use secrecy::SecretBox;
use secrecy::SecretString;
use serde_json::Value;
use sha2::Sha256;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Of a key, in bytes.
const LENGTH: u64 = 32;

/// HMAC-SHA-256 of a value.
pub type Digest = [u8; 32];

/// Fingerprints of every resource that has some.
pub type Fingerprints = HashMap<Key, ByField>;

/// Fingerprints of one resource, by the path of the field. There are few of each, and of a large project many resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByField(Vec<(Arc<str>, Digest)>);

impl ByField {
    /// That of a field.
    pub fn get(&self, path: &str) -> Option<&Digest> {
        self.0.iter().find(|(of, _)| **of == *path).map(|(_, digest)| digest)
    }

    /// The fields that have one.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(path, _)| &**path)
    }

    /// Of a field that has none yet.
    pub(super) fn add(&mut self, path: Arc<str>, digest: Digest) {
        self.0.reserve_exact(1);
        self.0.push((path, digest));
    }
}

/// The key, in a file of its own so that a copy of the database alone tells nothing.
#[derive(Debug)]
pub(super) struct FingerprintKey {
    key: SecretBox<[u8; 32]>,
    is_passing: bool,
}

impl FingerprintKey {
    /// Makes a key and keeps it. No fingerprint of another one may be compared from then on.
    pub fn make(path: &Path) -> Result<Self, OpenError> {
        let key = Self::random().map_err(|source| OpenError::Unwritable { path: path.to_owned(), source })?;
        key.keep(path)?;
        Ok(key)
    }

    /// Keeps it, as the key of a state that is about to be made.
    pub fn keep(&self, path: &Path) -> Result<(), OpenError> {
        self.store(path).map_err(|source| OpenError::Unwritable { path: path.to_owned(), source })
    }

    /// The key of a setting: 64 hexadecimal digits. Shared by replicas, so that it is in no file of one of them.
    pub fn of_setting(text: &SecretString) -> Option<Self> {
        let text = text.expose_secret().trim().as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut key = Box::new([0; 32]);
        if text.len() != 2 * key.len() {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self { key: SecretBox::new(key), is_passing: false })
    }

    /// Tells keys apart, and nothing of them.
    pub fn mark(&self) -> Digest {
        self.digest(&Value::from("descope-gitops fingerprint key"))
    }

    /// A key for as long as this process looks at a state that has lost its own.
    pub fn passing(path: &Path) -> Result<Self, OpenError> {
        let key = Self::random().map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        Ok(Self { is_passing: true, ..key })
    }

    /// Is it another one than what is known was fingerprinted with?
    pub fn is_passing(&self) -> bool {
        self.is_passing
    }

    /// `None` where there is no key, or a damaged one: what it fingerprinted cannot be compared any more.
    pub fn read(path: &Path) -> Result<Option<Self>, OpenError> {
        let bytes = match open::named(path, LENGTH) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
            Err(source) => return Err(OpenError::File { path: path.to_owned(), source }),
        };
        if let Ok(key) = <[u8; 32]>::try_from(bytes) {
            return Ok(Some(Self { key: SecretBox::new(Box::new(key)), is_passing: false }));
        }
        tracing::error!(path = %path.display(), "the fingerprint key is damaged: it is not one of 32 bytes");
        Ok(None)
    }

    fn random() -> io::Result<Self> {
        let mut key = Box::new([0; 32]);
        getrandom::fill(&mut *key).map_err(io::Error::from)?;
        Ok(Self { key: SecretBox::new(key), is_passing: false })
    }

    fn store(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("key.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(self.key.expose_secret())?;
        file.sync_all()?;
        fs::rename(&new, path)
    }

    pub fn digest(&self, value: &Value) -> Digest {
        // HMAC takes keys of any length.
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.key.expose_secret()).unwrap_or_else(|error| unreachable!("{error}"));
        mac.update(value.to_string().as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FileType;
    use rustix::fs::Mode;

    #[test]
    fn a_key_is_read_as_it_was_kept_and_what_is_none_is_never_read_whole_nor_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        let key = FingerprintKey::make(&path("key")).unwrap();
        fs::write(path("short"), [7; 31]).unwrap();
        fs::write(path("long"), [7; 33]).unwrap();
        fs::File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();

        assert_eq!(FingerprintKey::read(&path("key")).unwrap().unwrap().mark(), key.mark());
        for damaged in ["none", "short", "long", "huge"] {
            assert!(FingerprintKey::read(&path(damaged)).unwrap().is_none(), "{damaged}");
        }
        for other in [path("fifo"), "/dev/zero".into()] {
            let refused = FingerprintKey::read(&other).unwrap_err();
            assert!(matches!(refused, OpenError::File { .. }), "{refused}");
        }
    }
}
