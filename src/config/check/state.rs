//! `state`: a directory, or a database that replicas share.

use super::Check;
use super::given;
use super::path;
use crate::config;
use crate::config::Database;
use crate::config::Overrides;
use crate::config::StateAt;
use crate::config::raw::RawState;
use std::path::PathBuf;
use std::time::Duration;

/// With less, a busy machine loses what it holds.
const SHORTEST_LIFE: Duration = Duration::from_secs(2);

impl Check {
    pub(super) fn state(&mut self, raw: &RawState, flags: &Overrides) -> StateAt {
        let directory = self.overridden(
            ("--state (or DESCOPE_GITOPS_STATE)", flags.state.as_ref()),
            ("state.path", raw.path.as_ref()),
            PathBuf::from(config::STATE_PATH),
            path,
        );
        let life = self.positive_duration("state.lease.life", raw.lease.life.as_ref(), config::LEASE_LIFE);
        let renew = self.positive_duration(
            "state.lease.renew",
            raw.lease.renew.as_ref(),
            // A shorter life needs more signs of it.
            config::LEASE_RENEW.min(life / 4),
        );
        let Some(url) = &raw.url else {
            if raw.fingerprint_key.is_some() {
                self.wrong("state.fingerprintKey", "goes with state.url; a state directory has a key of its own");
            }
            return StateAt::Directory(directory);
        };
        // Two places would be two states, and each replica might take another.
        if raw.path.is_some() {
            self.wrong("state.path", "and state.url exclude one another; leave one out");
        }
        if given(flags.state.as_ref()).is_some() {
            self.wrong("state.url", "and --state (or DESCOPE_GITOPS_STATE) exclude one another; leave one out");
        }
        if life < SHORTEST_LIFE {
            self.wrong("state.lease.life", "must be at least 2s");
        }
        if renew > life / 3 {
            self.wrong("state.lease.renew", "must be at most a third of state.lease.life");
        }
        let url = self.secret("state.url", url);
        let key = if let Some(key) = &raw.fingerprint_key {
            self.secret("state.fingerprintKey", key)
        } else {
            let what = "is missing: state.url needs state.fingerprintKey, the same for all replicas; make one with \
                        `openssl rand -hex 32`";
            self.wrong("state.fingerprintKey", what);
            None
        };
        match url.zip(key) {
            Some((url, fingerprint_key)) => StateAt::Database(Database { url, fingerprint_key, life, renew }),
            None => StateAt::Directory(directory),
        }
    }
}
