//! Which management key was of no use, so that another one is tried as soon as there is one.

use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The key that was refused last, or that none could be read.
#[derive(Debug, Default)]
pub(super) struct Blame {
    last: Mutex<Option<Blamed>>,
    hashes: RandomState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blamed {
    /// By its hash, which says nothing outside this process.
    Refused(u64),
    Unreadable,
}

impl Blame {
    /// The API refused this one, be it for one call alone.
    pub fn refused(&self, key: &SecretString) {
        self.set(Some(Blamed::Refused(self.hash(key))));
    }

    /// There was none.
    pub fn unreadable(&self) {
        self.set(Some(Blamed::Unreadable));
    }

    /// Nobody is to blame any more, until the next failure.
    pub fn forgive(&self) {
        self.set(None);
    }

    /// Would a call with what can be read now be a new try? Not where nothing failed.
    pub fn is_worth_a_try(&self, key: &Result<SecretString, String>) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_usable = |key: &&SecretString| !key.expose_secret().is_empty();
        match (last, key.as_ref().ok().filter(is_usable)) {
            (None, _) | (_, None) => false,
            (Some(Blamed::Unreadable), Some(_)) => true,
            (Some(Blamed::Refused(hash)), Some(key)) => hash != self.hash(key),
        }
    }

    fn hash(&self, key: &SecretString) -> u64 {
        self.hashes.hash_one(key.expose_secret())
    }

    fn set(&self, blamed: Option<Blamed>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = blamed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_key_than_the_refused_one_is_worth_a_try() {
        let blame = Blame::default();
        let key = |text: &str| Ok(SecretString::from(text));
        assert!(!blame.is_worth_a_try(&key("new")), "nothing failed");

        blame.refused(&SecretString::from("old"));
        assert!(blame.is_worth_a_try(&key("new")));
        assert!(!blame.is_worth_a_try(&key("old")));
        assert!(!blame.is_worth_a_try(&key("")), "half written");
        assert!(!blame.is_worth_a_try(&Err("gone".to_owned())));

        blame.unreadable();
        assert!(blame.is_worth_a_try(&key("old")));
        blame.forgive();
        assert!(!blame.is_worth_a_try(&key("new")));
    }
}
