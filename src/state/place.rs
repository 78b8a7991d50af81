//! Where a state lies: a directory of one process, or a database that replicas share.

use super::Address;
use super::BadAddress;
use super::OpenError;
use super::State;
use super::Store;
use super::fingerprint::FingerprintKey;
use super::server::Server;
use super::server::ServerError;
use super::sql::values;
use secrecy::SecretString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the state of a config lies.
#[derive(Debug, Clone)]
pub enum Place {
    /// One process writes it.
    Directory(PathBuf),
    /// Replicas share it.
    Database(Box<Shared>),
}

/// A database that replicas share.
#[derive(Debug, Clone)]
pub struct Shared {
    address: Address,
    key: Arc<FingerprintKey>,
    /// How long a project is held without a sign of life.
    pub life: Duration,
    /// How often one is given.
    pub renew: Duration,
}

/// Why a setting of a database cannot be used. Nothing of it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// Of the URL.
    #[error("{0}")]
    Url(BadAddress),
    /// Of the key.
    #[error("must be 64 hexadecimal digits; make one with `openssl rand -hex 32`, the same for all replicas")]
    Key,
}

/// A server that is silent for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Shared {
    /// From what the settings refer to.
    pub fn new(url: &SecretString, key: &SecretString, life: Duration, renew: Duration) -> Result<Self, BadSetting> {
        let address = Address::parse(url).map_err(BadSetting::Url)?;
        let key = FingerprintKey::of_setting(key).ok_or(BadSetting::Key)?;
        Ok(Self { address, key: Arc::new(key), life, renew })
    }

    /// A connection of its own. No answer may take so long that a lease is lost by it.
    pub(super) fn connect(&self) -> Server {
        Server::new(self.address.clone(), self.life / 2, self.life)
    }

    /// The same for all else: what is too late for a lease is not written anyway, and short leases are no reason to give up
    /// a server that is busy.
    pub(super) fn connect_patiently(&self) -> Server {
        Server::new(self.address.clone(), (self.life / 2).max(PATIENCE), self.life)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Database(_) => f.write_str("the database of state.url"),
        }
    }
}

impl State {
    /// Opens it to write; makes and migrates what is needed. See [`State::open`].
    pub fn open_at(place: &Place) -> Result<Self, OpenError> {
        match place {
            Place::Directory(dir) => Self::open(dir),
            Place::Database(shared) => {
                let server = shared.connect_patiently();
                server.migrate().map_err(OpenError::Server)?;
                let state = Self::of(Store::Server(Box::new(server)), Arc::clone(&shared.key), false);
                state.check_key(true)?;
                Ok(state)
            }
        }
    }

    /// Opens it to look, beside whoever writes. `None` where there is none. See [`State::open_read_only`].
    pub fn look_at(place: &Place) -> Result<Option<Self>, OpenError> {
        match place {
            Place::Directory(dir) => Self::open_read_only(dir),
            Place::Database(shared) => {
                let server = shared.connect_patiently();
                if !server.has_tables().map_err(OpenError::Server)? {
                    return Ok(None);
                }
                let state = Self::of(Store::Server(Box::new(server)), Arc::clone(&shared.key), false);
                state.check_key(false)?;
                Ok(Some(state))
            }
        }
    }

    /// Fingerprints of another key say nothing, and whoever wrote with both would send every secret again and again.
    fn check_key(&self, is_writer: bool) -> Result<(), OpenError> {
        let mark = self.shared.key.mark();
        let found = || {
            if is_writer {
                let sql = "INSERT INTO fingerprint_key (one, digest) VALUES (1, ?) ON CONFLICT DO NOTHING";
                self.transact(|transaction, _| transaction.execute(sql, &values![mark]))?;
            }
            let sql = "SELECT digest FROM fingerprint_key";
            self.read(|connection| connection.first(sql, &[], |row| row.digest("digest")))
        };
        match found() {
            Ok(Some(Some(found))) if found != mark => Err(OpenError::OtherKey),
            Ok(_) => Ok(()),
            Err(super::Error::Unreachable(error) | super::Error::Server(error)) => Err(OpenError::Server(error)),
            Err(_) => Err(OpenError::Server(ServerError::Unfinished)),
        }
    }
}
