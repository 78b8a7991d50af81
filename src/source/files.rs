//! Says "look again" when the files changed.
//!
//! Events only say *when* to look; whether something changed, and whether it is quiet again, is decided by comparing
//! looks. So editors' swap files, reads, git's own traffic and busy neighbours cause nothing and delay nothing, and
//! a poll with the same comparison replaces events where they do not arrive (network mounts, exhausted watches). Watched are the directories that were looked into and every
//! directory in which a link on the way to them can be swapped, as git-sync and config map mounts do.

use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::source::git::Checkout;
use crate::source::git::Mark;
use crate::source::tree;
use crate::source::tree::Entry;
use crate::source::tree::Reference;
use crate::source::tree::Refused;
use crate::source::tree::Tree;
use crate::telemetry::metrics::Metrics;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

// A tree under steady change must not postpone for ever what stands in it.
const LONGEST_DEBOUNCE: u32 = 10;
// A look costs a stat per file: at ten debounces (5 s by default) that is noise, and faster than any other safety net
// an operator would wait for. Not under two seconds, since idle must stay idle.
const POLL_DEBOUNCES: u32 = 10;
const SHORTEST_POLL: Duration = Duration::from_secs(2);
// On a slow mount, looking takes at most this part of the time.
const POLL_SHARE: u32 = 100;
// The same while something is busy beside the files. What is edited meanwhile waits for the pause and then for its
// debounce, so the pause is a tenth of that.
const NOISE_SHARE: u32 = 20;
const NOISE_PAUSES: u32 = 10;
// Directories that appear while others are being watched are found by looking again; a storm of them by the poll.
const LOOKS: usize = 3;
// A pull writes the index before the branch, which takes moments.
const SETTLED: Duration = Duration::from_secs(10);
// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// One project: the files to look at and whom to tell.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Its files.
    pub tree: Tree,
    /// Its reconciler.
    pub target: TriggerSender,
}

/// The loop. Made before the first load, so that no change falls between the two.
pub struct Files {
    eye: Eye,
    /// What the last look saw, and how long it took.
    last: (Vec<Seen>, Duration),
    events: mpsc::Receiver<()>,
    debounce: Duration,
    poll: Duration,
}

/// What one look at a project's files saw.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Files {
        real_root: PathBuf,
        files: Vec<Entry>,
        named: Vec<(Reference, Result<Entry, String>)>,
        refused: Vec<Refused>,
        /// By these people know the files, also where they are what they were.
        commits: Vec<Option<String>>,
        is_locked: bool,
    },
    Nothing(tree::Error),
}

impl Seen {
    fn is_settled(&self) -> bool {
        match self {
            Self::Files { is_locked, .. } => !is_locked,
            Self::Nothing(error) => *error != tree::Error::Moved,
        }
    }
}

/// Looks and watches; blocks while it does.
struct Eye {
    projects: Vec<Watch>,
    watcher: Option<RecommendedWatcher>,
    /// Watched directories, and what they were when the watch was set: one that was made anew needs a new watch.
    watched: BTreeMap<PathBuf, Identity>,
    /// By the directory of git.
    commits: Commits,
    has_warned: bool,
    poll: Duration,
}

type Commits = HashMap<PathBuf, Head>;

/// The commit of a checkout.
struct Head {
    /// What git's files were when it was read.
    mark: Mark,
    /// Since when they are that.
    since: Instant,
    /// It was read long after that.
    is_settled: bool,
    commit: Option<String>,
}

type Identity = (u64, u64, i64, i64);

impl Files {
    /// Looks once and begins to watch; blocks while it does. What changes from now on will be told, however much later
    /// the loop runs. `debounce` is the quiet time after the last change.
    pub fn new(projects: Vec<Watch>, debounce: Duration) -> Self {
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Opening and reading say nothing new, and looking does both.
            if event.as_ref().is_ok_and(|event| event.kind.is_access() && !event.need_rescan()) {
                return;
            }
            // A full channel already says what this event would.
            _ = sender.try_send(());
        });
        let poll = (debounce * POLL_DEBOUNCES).max(SHORTEST_POLL);
        Self::with(projects, watcher, events, debounce, poll)
    }

    fn with(
        projects: Vec<Watch>,
        watcher: notify::Result<RecommendedWatcher>,
        events: mpsc::Receiver<()>,
        debounce: Duration,
        poll: Duration,
    ) -> Self {
        let mut eye =
            Eye { projects, watcher: None, watched: BTreeMap::new(), commits: Commits::new(), has_warned: false, poll };
        match watcher {
            Ok(watcher) => eye.watcher = Some(watcher),
            Err(error) => eye.warn(&error),
        }
        let last = eye.timed_look();
        Self { eye, last, events, debounce, poll }
    }

    /// Fires at each project whose files changed, until `shutdown`.
    pub async fn run(self, metrics: Arc<Metrics>, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.watch(&metrics) => {}
        }
    }

    async fn watch(self, metrics: &Metrics) {
        let Self { mut eye, last: (mut last, mut cost), mut events, debounce, poll } = self;
        loop {
            tokio::select! {
                () = next(&mut events) => {}
                () = tokio::time::sleep(poll.max(cost * POLL_SHARE)) => {}
            }
            let mut doubted = eye.doubted();
            let deadline = Instant::now() + debounce * LONGEST_DEBOUNCE;
            let (mut seen, mut since) = (None, Instant::now());
            loop {
                // Whatever came until now, this look covers.
                while events.try_recv().is_ok() {}
                let began = Instant::now();
                let Some((back, now, took)) = look(eye).await else { return };
                (eye, cost) = (back, took);
                let is_same = seen.as_ref() == Some(&now);
                if !is_same {
                    since = began;
                }
                let is_quiet = is_same && since.elapsed() >= debounce && now.iter().all(Seen::is_settled);
                let is_noise = seen.is_none() && now == last && !doubted.contains(&true);
                seen = Some(now);
                if is_quiet || is_noise || Instant::now() >= deadline {
                    break;
                }
                rest(&mut events, since + debounce, debounce, cost).await;
            }
            doubted.iter_mut().zip(eye.doubted()).for_each(|(before, since)| *before |= since);
            let Some(seen) = seen.filter(|seen| doubted.contains(&true) || *seen != last) else {
                tokio::time::sleep(pause_after_noise(debounce, cost)).await;
                continue;
            };
            if seen != last {
                metrics.source_events_total.with_label_values(&[Trigger::Watch.as_str()]).inc();
            }
            let looks = seen.iter().zip(&last).map(|(now, then)| now != then).zip(doubted);
            let changed = eye.projects.iter().zip(looks).filter(|(_, (is_new, is_doubted))| *is_new || *is_doubted);
            changed.for_each(|(project, _)| project.target.fire(Trigger::Watch));
            last = seen;
        }
    }
}

/// Noise beside the files must not keep us busy, nor keep an edit waiting for much longer than its debounce.
fn pause_after_noise(debounce: Duration, cost: Duration) -> Duration {
    (debounce / NOISE_PAUSES).max(cost * NOISE_SHARE).min(debounce)
}

/// Until then, or until a little after the next event: an edit in the meantime has its own debounce, from when it came.
async fn rest(events: &mut mpsc::Receiver<()>, until: Instant, debounce: Duration, cost: Duration) {
    let pause = pause_after_noise(debounce, cost);
    // What does not settle is looked at again after a while, too.
    let until = until.max(Instant::now() + pause);
    tokio::select! {
        () = tokio::time::sleep_until(until) => {}
        () = next(events) => tokio::time::sleep(pause).await,
    }
}

/// The next event; never, where there is no watcher to send one.
async fn next(events: &mut mpsc::Receiver<()>) {
    if events.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Looks on a thread that may block. `None` if that thread panicked.
async fn look(mut eye: Eye) -> Option<(Eye, Vec<Seen>, Duration)> {
    let looked = tokio::task::spawn_blocking(move || {
        let (seen, took) = eye.timed_look();
        (eye, seen, took)
    });
    looked.await.inspect_err(|error| tracing::error!(%error, "the file watcher failed")).ok()
}

impl Eye {
    /// For each project: may it have loaded what no look saw?
    fn doubted(&self) -> Vec<bool> {
        self.projects.iter().map(|project| project.target.is_doubted()).collect()
    }

    fn timed_look(&mut self) -> (Vec<Seen>, Duration) {
        let start = Instant::now();
        let seen = self.look();
        (seen, start.elapsed())
    }

    fn look(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for _ in 0..LOOKS {
            let mut dirs = BTreeMap::new();
            let Self { projects, commits, .. } = self;
            seen = projects.iter().map(|watch| see(&watch.tree, &mut dirs, commits)).collect();
            commits.retain(|dir, _| dirs.contains_key(dir));
            if !self.watch(dirs) {
                break;
            }
        }
        seen
    }

    /// Watches exactly these. True if one is new: what happened in it before went unseen.
    fn watch(&mut self, dirs: BTreeMap<PathBuf, Identity>) -> bool {
        let Some(watcher) = self.watcher.as_mut() else { return false };
        let mut has_new = false;
        let mut failed = None;
        for gone in self.watched.keys().filter(|dir| !dirs.contains_key(*dir)) {
            // It fails where the directory itself is gone, which is fine.
            _ = watcher.unwatch(gone);
        }
        let mut kept = BTreeMap::new();
        for (dir, identity) in dirs {
            let old = self.watched.get(&dir);
            if old != Some(&identity) {
                match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                    Ok(()) => has_new |= old.is_none(),
                    Err(error) => {
                        let is_gone = matches!(error.kind, notify::ErrorKind::PathNotFound);
                        failed = failed.or((!is_gone).then_some(error));
                        continue;
                    }
                }
            }
            kept.insert(dir, identity);
        }
        self.watched = kept;
        if let Some(error) = failed {
            self.warn(&error);
        }
        has_new
    }

    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.has_warned, true) {
            let poll_ms = u64::try_from(self.poll.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(%error, poll_ms, "cannot watch every directory for changes; some are only polled");
        }
    }
}

/// Looks at one tree and notes which directories tell when it changes.
fn see(tree: &Tree, dirs: &mut BTreeMap<PathBuf, Identity>, commits: &mut Commits) -> Seen {
    let mut note = |dir: &Path| {
        if !dirs.contains_key(dir)
            && let Ok(metadata) = fs::metadata(dir)
        {
            let identity = (metadata.ino(), metadata.dev(), metadata.ctime(), metadata.ctime_nsec());
            dirs.insert(dir.to_owned(), identity);
        }
    };
    for path in &tree.paths {
        for dir in way(&tree.root.join(path)) {
            note(&dir);
        }
    }
    match tree.scan() {
        Ok(scan) => {
            scan.dirs.iter().for_each(|dir| note(dir));
            scan.files.iter().filter_map(|file| file.real.parent()).for_each(&mut note);
            scan.checkouts.iter().for_each(|(checkout, _)| note(checkout.dir()));
            scan.links.iter().flat_map(|link| way(link)).for_each(|dir| note(&dir));
            let named = scan.named.iter().flat_map(|(reference, _)| way(&reference.from(&tree.root)));
            named.for_each(|dir| note(&dir));
            let is_locked = scan.lock().is_some();
            let commits = scan.checkouts.iter().map(|(checkout, mark)| commit(checkout, mark, commits)).collect();
            Seen::Files {
                real_root: scan.real_root,
                files: scan.files,
                named: scan.named,
                refused: scan.refused,
                commits,
                is_locked,
            }
        }
        Err(error) => Seen::Nothing(error),
    }
}

/// What this checkout has checked out: read while git may be at work, and when it was.
fn commit(checkout: &Checkout, mark: &Mark, known: &mut Commits) -> Option<String> {
    let new = || Head { mark: mark.clone(), since: Instant::now(), is_settled: false, commit: None };
    let head = known.entry(checkout.dir().to_owned()).or_insert_with(new);
    if head.mark != *mark {
        *head = new();
    }
    if !head.is_settled {
        // In this order: what git writes after it is read is read again.
        head.is_settled = head.since.elapsed() >= SETTLED;
        head.commit = checkout.head();
    }
    head.commit.clone()
}

/// The directories whose entries decide where `path` leads: that of every link on the way, the one in which it ends,
/// and where it ends nowhere, the deepest that exists.
fn way(path: &Path) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    let mut todo: Vec<PathBuf> = vec![std::path::absolute(path).unwrap_or_else(|_| path.to_owned())];
    let mut links = 0;
    while let Some(path) = todo.pop() {
        let mut at = PathBuf::new();
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            let parent = at.clone();
            if part == std::path::Component::ParentDir {
                at = at.canonicalize().unwrap_or(at);
                at.pop();
                continue;
            }
            at.push(part);
            let Ok(metadata) = fs::symlink_metadata(&at) else {
                dirs.push(parent);
                break;
            };
            if metadata.is_symlink() && links < MAX_LINKS {
                links += 1;
                if let Ok(target) = fs::read_link(&at) {
                    todo.push(parent.join(target).join(parts.as_path()));
                }
                // Every part of the target is walked in its turn.
                dirs.push(parent);
                break;
            }
        }
        // Where it ends: the directory in which it can vanish and come back.
        dirs.extend(at.parent().map(Path::to_owned));
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TriggerReceiver;
    use crate::source::channel;
    use crate::source::tree::NamedFiles;
    use globset::GlobSet;
    use std::os::unix::fs::symlink;

    const DEBOUNCE: Duration = Duration::from_millis(40);
    // Only a test that fails waits so long. The poll would answer after two seconds, so less than that proves events.
    const BY_EVENT: Duration = Duration::from_millis(1800);

    type Step = Box<dyn Fn(&World)>;

    struct World {
        temp: tempfile::TempDir,
        receiver: TriggerReceiver,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
        running: tokio::task::JoinSet<()>,
    }

    impl World {
        /// Makes a directory `repo` with one file, then whatever `arrange` does to it; watches `root`.
        fn new(root: &str, arrange: impl FnOnce(&Path)) -> Self {
            let temp = tempfile::tempdir().unwrap();
            fs::create_dir(temp.path().join("repo")).unwrap();
            fs::write(temp.path().join("repo/a.yaml"), "roles: []\n").unwrap();
            arrange(temp.path());
            let tree = Tree {
                root: temp.path().join(root),
                paths: vec![".".into()],
                others: Vec::new(),
                exclude: GlobSet::empty(),
                named: NamedFiles::default(),
            };
            let (target, receiver) = channel();
            Self::start(temp, receiver, Files::new(vec![Watch { tree, target }], DEBOUNCE))
        }

        fn start(temp: tempfile::TempDir, receiver: TriggerReceiver, files: Files) -> Self {
            let metrics = Arc::new(Metrics::new());
            let shutdown = CancellationToken::new();
            let mut running = tokio::task::JoinSet::new();
            running.spawn(files.run(Arc::clone(&metrics), shutdown.clone()));
            Self { temp, receiver, metrics, shutdown, running }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.temp.path().join(name)
        }

        async fn fires(&mut self, within: Duration) -> bool {
            tokio::time::timeout(within, self.receiver.recv()).await.is_ok()
        }

        /// Changes a file until the watcher, which starts beside the test, has seen one of the changes.
        async fn wait_until_it_watches(&mut self, file: &str) {
            for n in 0..100 {
                fs::write(self.path(file), format!("# {n}\nroles: []\n")).unwrap();
                if self.fires(DEBOUNCE * 3).await {
                    // An earlier one may still be on its way.
                    while self.fires(DEBOUNCE * 10).await {}
                    return;
                }
            }
            panic!("the watcher never saw a change");
        }

        async fn stop(mut self) {
            self.shutdown.cancel();
            tokio::time::timeout(Duration::from_secs(5), self.running.join_next()).await.unwrap();
        }
    }

    // The loop used to look first when it ran: a change after the first load and before that look went untold.
    #[tokio::test]
    async fn what_changes_before_the_loop_runs_is_seen() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a.yaml"), "roles: []\n").unwrap();
        let tree = Tree {
            root: temp.path().to_owned(),
            paths: vec![".".into()],
            others: Vec::new(),
            exclude: GlobSet::empty(),
            named: NamedFiles::default(),
        };
        let (target, receiver) = channel();
        let files = Files::new(vec![Watch { tree, target }], DEBOUNCE);
        fs::write(temp.path().join("a.yaml"), "roles: [{name: a}]\n").unwrap();

        let mut world = World::start(temp, receiver, files);

        assert!(world.fires(BY_EVENT).await);
        world.stop().await;
    }

    // What another trigger loaded in between stayed in force: to the watcher nothing had changed.
    #[tokio::test]
    async fn files_that_are_again_as_the_watcher_knows_them_are_told_after_a_load_of_others() {
        let mut world = World::new("repo", |_| ());
        world.wait_until_it_watches("repo/a.yaml").await;

        world.receiver.doubt();
        fs::write(world.path("repo/.noise"), "").unwrap();

        assert!(world.fires(BY_EVENT).await);
        fs::write(world.path("repo/.noise"), "more").unwrap();
        assert!(!world.fires(DEBOUNCE * 10).await, "once");
        world.stop().await;
    }

    #[tokio::test]
    async fn changes_of_every_sort_are_seen_by_events() {
        let mut world = World::new("repo", |_| ());
        world.wait_until_it_watches("repo/a.yaml").await;

        let steps: Vec<(&str, Step)> = vec![
            ("write", Box::new(|w| fs::write(w.path("repo/a.yaml"), "roles: [{name: a}]\n").unwrap())),
            (
                "rename and replace",
                Box::new(|w| {
                    fs::write(w.path("repo/.a.yaml.swp"), "roles: [{name: b}]\n").unwrap();
                    fs::rename(w.path("repo/.a.yaml.swp"), w.path("repo/a.yaml")).unwrap();
                }),
            ),
            (
                "new directory",
                Box::new(|w| {
                    fs::create_dir_all(w.path("repo/x/y")).unwrap();
                    fs::write(w.path("repo/x/y/b.yml"), "roles: []\n").unwrap();
                }),
            ),
            ("write in it", Box::new(|w| fs::write(w.path("repo/x/y/b.yml"), "permissions: []\n").unwrap())),
            ("rename it", Box::new(|w| fs::rename(w.path("repo/x/y"), w.path("repo/x/z")).unwrap())),
            ("delete", Box::new(|w| fs::remove_file(w.path("repo/x/z/b.yml")).unwrap())),
            ("root gone", Box::new(|w| fs::remove_dir_all(w.path("repo")).unwrap())),
            (
                "root back",
                Box::new(|w| {
                    fs::create_dir(w.path("repo")).unwrap();
                    fs::write(w.path("repo/a.yaml"), "roles: []\n").unwrap();
                }),
            ),
            ("write in the new root", Box::new(|w| fs::write(w.path("repo/a.yaml"), "tenants: []\n").unwrap())),
        ];
        for (step, act) in steps {
            act(&world);

            assert!(world.fires(BY_EVENT).await, "{step}");
            assert!(!world.fires(DEBOUNCE * 4).await, "{step} fired twice");
        }
        world.stop().await;
    }

    #[tokio::test]
    async fn a_swapped_link_to_the_root_is_seen_and_so_is_what_it_leads_to() {
        let mut world = World::new("current/config", |temp| {
            for name in ["one", "two"] {
                fs::create_dir_all(temp.join(name).join("config")).unwrap();
                fs::write(temp.join(name).join("config/a.yaml"), "roles: []\n").unwrap();
            }
            symlink("one", temp.join("current")).unwrap();
        });
        world.wait_until_it_watches("one/config/a.yaml").await;

        symlink("two", world.path("next")).unwrap();
        fs::rename(world.path("next"), world.path("current")).unwrap();
        assert!(world.fires(BY_EVENT).await, "the swap");

        fs::write(world.path("two/config/a.yaml"), "tenants: []\n").unwrap();
        assert!(world.fires(BY_EVENT).await, "a change behind the new link");
        world.stop().await;
    }

    #[tokio::test]
    async fn a_config_maps_swap_of_its_data_is_seen() {
        let mut world = World::new("repo", |temp| {
            let repo = temp.join("repo");
            for name in ["..1", "..2"] {
                fs::create_dir(repo.join(name)).unwrap();
                fs::write(repo.join(name).join("m.yaml"), "roles: []\n").unwrap();
            }
            symlink("..1", repo.join("..data")).unwrap();
            symlink("..data/m.yaml", repo.join("m.yaml")).unwrap();
        });
        world.wait_until_it_watches("repo/a.yaml").await;

        symlink("..2", world.path("repo/..data_tmp")).unwrap();
        fs::rename(world.path("repo/..data_tmp"), world.path("repo/..data")).unwrap();

        assert!(world.fires(BY_EVENT).await);
        world.stop().await;
    }

    #[tokio::test]
    async fn what_does_not_count_causes_nothing_and_fifty_touches_cause_one_or_two() {
        let mut world = World::new("repo", |temp| fs::create_dir(temp.join("repo/.git")).unwrap());
        world.wait_until_it_watches("repo/a.yaml").await;

        for name in ["repo/.a.yaml.swp", "repo/README.md", "repo/.git/config", "repo/.git/index"] {
            fs::write(world.path(name), "x").unwrap();
        }
        fs::read(world.path("repo/a.yaml")).unwrap();
        assert!(!world.fires(DEBOUNCE * 6).await);

        let before = world.metrics.source_events_total.with_label_values(&["watch"]).get();
        for n in 0..50 {
            fs::write(world.path("repo/a.yaml"), format!("# {n}\nroles: []\n")).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while world.fires(DEBOUNCE * 6).await {}
        let fired = world.metrics.source_events_total.with_label_values(&["watch"]).get() - before;
        assert!((1..=2).contains(&fired), "{fired}");
        world.stop().await;
    }

    #[tokio::test]
    async fn a_steady_stream_of_changes_does_not_postpone_for_ever() {
        let mut world = World::new("repo", |_| ());
        world.wait_until_it_watches("repo/a.yaml").await;

        let start = Instant::now();
        let mut n = 0;
        while world.receiver.try_recv().is_none() {
            n += 1;
            fs::write(world.path("repo/a.yaml"), format!("# {n}\nroles: []\n")).unwrap();
            tokio::time::sleep(DEBOUNCE / 8).await;
            assert!(start.elapsed() < Duration::from_secs(20));
        }

        assert!(start.elapsed() >= DEBOUNCE * 2, "it was debounced at all");
        world.stop().await;
    }

    #[tokio::test]
    async fn a_lock_of_git_delays_and_its_end_is_a_change() {
        let mut world = World::new("repo", |temp| fs::create_dir(temp.join("repo/.git")).unwrap());
        world.wait_until_it_watches("repo/a.yaml").await;
        fs::write(world.path("repo/.git/index.lock"), "").unwrap();
        fs::write(world.path("repo/a.yaml"), "tenants: []\n").unwrap();

        assert!(!world.fires(DEBOUNCE * 5).await, "git was at work");
        fs::remove_file(world.path("repo/.git/index.lock")).unwrap();

        assert!(world.fires(BY_EVENT).await);
        world.stop().await;
    }

    #[tokio::test]
    async fn without_events_the_poll_sees_it_and_only_the_project_that_changed_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let mut projects = Vec::new();
        let mut receivers = Vec::new();
        for name in ["one", "two"] {
            fs::create_dir(temp.path().join(name)).unwrap();
            fs::write(temp.path().join(name).join("a.yaml"), "roles: []\n").unwrap();
            let (target, receiver) = channel();
            let tree = Tree {
                root: temp.path().to_owned(),
                paths: vec![name.into()],
                others: Vec::new(),
                exclude: GlobSet::empty(),
                named: NamedFiles::default(),
            };
            projects.push(Watch { tree, target });
            receivers.push(receiver);
        }
        let (_, events) = mpsc::channel(1);
        let no_watcher = Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        let files = Files::with(projects, no_watcher, events, Duration::from_millis(10), Duration::from_millis(50));
        let (two, one) = (receivers.pop().unwrap(), receivers.pop().unwrap());
        let mut world = World::start(temp, two, files);
        let mut one = one;
        world.wait_until_it_watches("two/a.yaml").await;

        assert_eq!(one.try_recv(), None);
        world.stop().await;
    }

    const HALF_A_SECOND: Duration = Duration::from_millis(500);

    /// One that is told of events by hand, in a time of its own.
    fn told_by_hand() -> (World, mpsc::Sender<()>) {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a.yaml"), "roles: []\n").unwrap();
        let tree = Tree {
            root: temp.path().to_owned(),
            paths: vec![".".into()],
            others: Vec::new(),
            exclude: GlobSet::empty(),
            named: NamedFiles::default(),
        };
        let (target, receiver) = channel();
        let (told, events) = mpsc::channel(1);
        let no_watcher = Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        let poll = Duration::from_secs(3600);
        let files = Files::with(vec![Watch { tree, target }], no_watcher, events, HALF_A_SECOND, poll);
        (World::start(temp, receiver, files), told)
    }

    async fn edited_waits_for_one_debounce(world: &mut World, told: &mpsc::Sender<()>) {
        fs::write(world.path("a.yaml"), "tenants: []\n").unwrap();
        told.send(()).await.unwrap();
        let edited = Instant::now();

        assert!(world.fires(HALF_A_SECOND * 4).await);
        let waited = edited.elapsed();
        assert!(waited >= HALF_A_SECOND, "it was debounced: {waited:?}");
        assert!(waited <= HALF_A_SECOND + HALF_A_SECOND / 5, "{waited:?}");
    }

    // It waited for the rest of a whole debounce, and then for its own.
    #[tokio::test(start_paused = true)]
    async fn an_edit_right_after_noise_waits_for_one_debounce_and_little_more() {
        let (mut world, told) = told_by_hand();

        told.send(()).await.unwrap();
        // The clock stands still during a look, so this ends in the pause after it.
        tokio::time::sleep(Duration::from_millis(1)).await;

        edited_waits_for_one_debounce(&mut world, &told).await;
        world.stop().await;
    }

    // It waited for the rest of the other's debounce, and then for its own.
    #[tokio::test(start_paused = true)]
    async fn an_edit_in_the_debounce_of_another_waits_for_its_own_and_little_more() {
        for after in [1, 100, 300, 499] {
            let (mut world, told) = told_by_hand();

            fs::write(world.path("b.yaml"), "roles: []\n").unwrap();
            told.send(()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(after)).await;

            edited_waits_for_one_debounce(&mut world, &told).await;
            world.stop().await;
        }
    }

    #[test]
    fn noise_costs_a_look_a_pause_and_the_pause_is_never_longer_than_the_debounce() {
        let ms = Duration::from_millis;
        for (debounce, cost, expected) in [(500, 0, 50), (500, 2, 50), (500, 5, 100), (500, 25, 500), (500, 400, 500)] {
            assert_eq!(pause_after_noise(ms(debounce), ms(cost)), ms(expected), "{debounce} {cost}");
        }
    }

    #[test]
    fn the_way_to_a_path_names_every_place_where_it_can_be_bent() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("store/v1/config")).unwrap();
        fs::create_dir(base.join("links")).unwrap();
        symlink("../store/v1", base.join("links/current")).unwrap();

        let dirs = way(&base.join("links/current/config"));
        for expected in ["links", "store/v1"] {
            assert!(dirs.iter().any(|dir| dir.canonicalize().unwrap() == base.join(expected)), "{expected}: {dirs:?}");
        }

        assert!(way(&base.join("not/there/yet")).contains(&base));
    }
}
