//! Looks which of the volumes that replicas share are mounted here, for the others to know.

use super::settings;
use crate::aside::aside;
use crate::config::Config;
use crate::desired::volume;
use crate::desired::volume::Volume;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Somebody mends it and waits for the next pass.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The loop that looks. Apart from the leases: a file server that is silent must not cost one.
#[derive(Debug)]
pub struct Volumes {
    dirs: Vec<PathBuf>,
    seen: watch::Sender<BTreeSet<String>>,
}

impl Volumes {
    /// Those of the projects. Looks once: who starts beside others sees what they see from the beginning.
    pub fn of(config: &Config) -> Self {
        let fences = config.projects.iter().map(|project| settings::fence(config, project));
        let dirs = fences.filter(|fence| fence.volume == Volume::Common).filter_map(|fence| fence.dir).collect();
        let volumes = Self { dirs, seen: watch::Sender::default() };
        volumes.look();
        volumes
    }

    /// The marks of those that are mounted.
    pub fn seen(&self) -> watch::Receiver<BTreeSet<String>> {
        self.seen.subscribe()
    }

    /// Until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            if !self.dirs.is_empty() {
                aside(|| self.look());
            }
        }
    }

    fn look(&self) {
        self.seen.send_replace(self.dirs.iter().flat_map(|dir| volume::marks(dir)).collect());
    }
}
