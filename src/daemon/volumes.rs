//! Looks which of the volumes that replicas share are mounted here, for the others to know.

use super::settings;
use crate::config::Config;
use crate::desired::volume;
use crate::desired::volume::Volume;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Somebody mends it and waits for the next pass.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was seen longer ago counts no more.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is mounted of a project, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Nobody has looked yet.
    Unknown,
    /// It bears the mark, or does not.
    Mounted(bool),
    /// Whoever looks gets no answer.
    Silent,
}

/// What the last look showed.
#[derive(Debug, Clone)]
pub struct Seen {
    at: Instant,
    marks: Option<BTreeMap<PathBuf, BTreeSet<String>>>,
}

impl Seen {
    fn is_silent(&self) -> bool {
        self.at.elapsed() > PATIENCE
    }

    /// The marks in this directory.
    pub fn marks_in(&self, dir: &Path) -> BTreeSet<String> {
        let marks = self.marks.as_ref().filter(|_| !self.is_silent());
        marks.and_then(|marks| marks.get(dir)).cloned().unwrap_or_default()
    }

    /// Does this directory bear this mark?
    pub fn bears(&self, dir: &Path, mark: &str) -> Sight {
        match &self.marks {
            _ if self.is_silent() => Sight::Silent,
            None => Sight::Unknown,
            Some(marks) => Sight::Mounted(marks.get(dir).is_some_and(|marks| marks.contains(mark))),
        }
    }
}

/// The directory of the project, where all replicas are said to mount it.
pub fn dir_of(config: &Config, project: &str) -> Option<PathBuf> {
    let project = config.projects.iter().find(|known| &*known.name == project)?;
    let fence = settings::fence(config, project);
    fence.dir.filter(|_| fence.volume == Volume::Common)
}

/// Looks again and again, until nobody wants to know. On a thread of its own that nobody waits for: a file server may be silent
/// for as long as it likes, and costs neither a lease, nor a start, nor a stop.
#[allow(clippy::disallowed_methods, reason = "the thread is its own; the runtime would wait for it")]
pub fn watch(dirs: BTreeSet<PathBuf>) -> watch::Receiver<Seen> {
    let (sender, seen) = watch::channel(Seen { at: Instant::now(), marks: None });
    let look = move || {
        loop {
            let marks = dirs.iter().map(|dir| (dir.clone(), volume::marks(dir))).collect();
            if sender.send(Seen { at: Instant::now(), marks: Some(marks) }).is_err() {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    };
    drop(thread::Builder::new().name("volumes".to_owned()).spawn(look));
    seen
}
