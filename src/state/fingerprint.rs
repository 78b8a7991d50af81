//! Fingerprints of what was sent but cannot be read back: comparable, and worth nothing without the key.

use super::OpenError;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use secrecy::ExposeSecret;
use secrecy::SecretBox;
use serde_json::Value;
use sha2::Sha256;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// HMAC-SHA-256 of a value.
pub type Digest = [u8; 32];

/// The key, in a file of its own so that a copy of the database alone tells nothing.
#[derive(Debug)]
pub(super) struct FingerprintKey(SecretBox<[u8; 32]>);

impl FingerprintKey {
    /// Reads the key, or makes one. A damaged one is replaced: what it fingerprinted is sent once more.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        let key = Self::random().map_err(|source| OpenError::Unwritable { path: path.to_owned(), source })?;
        key.store(path).map_err(|source| OpenError::Unwritable { path: path.to_owned(), source })?;
        Ok(key)
    }

    /// Reads the key; without one nothing that was sent compares equal.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        match Self::read(path)? {
            Some(key) => Ok(key),
            None => Self::random().map_err(|source| OpenError::File { path: path.to_owned(), source }),
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, OpenError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::File { path: path.to_owned(), source }),
        };
        if let Ok(key) = <[u8; 32]>::try_from(bytes) {
            return Ok(Some(Self(SecretBox::new(Box::new(key)))));
        }
        tracing::error!(path = %path.display(), "the fingerprint key is damaged; secrets will be sent once more");
        Ok(None)
    }

    fn random() -> io::Result<Self> {
        let mut key = Box::new([0; 32]);
        getrandom::fill(&mut *key).map_err(io::Error::from)?;
        Ok(Self(SecretBox::new(key)))
    }

    fn store(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("key.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(self.0.expose_secret())?;
        file.sync_all()?;
        fs::rename(&new, path)
    }

    pub fn digest(&self, value: &Value) -> Digest {
        // HMAC takes keys of any length.
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).unwrap_or_else(|error| unreachable!("{error}"));
        mac.update(value.to_string().as_bytes());
        mac.finalize().into_bytes().into()
    }
}
