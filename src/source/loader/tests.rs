//! Against real directories, real links and a real git.

use super::*;
use crate::desired::testing::KINDS;
use crate::source::tree::NamedFiles;
use globset::Glob;
use globset::GlobSet;
use globset::GlobSetBuilder;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::AtomicBool;

type Spoil = Box<dyn Fn(&Path)>;

/// A loader over a temporary directory, with little patience.
fn loader_of(root: &Path) -> Loader {
    let tree = Tree {
        root: root.to_owned(),
        paths: vec![".".into()],
        others: Vec::new(),
        exclude: GlobSet::empty(),
        named: NamedFiles::default(),
    };
    let settings = Settings::new(tree, Fence::default(), KINDS);
    Loader::new(Settings { quiet: Duration::from_millis(20), tries: 8, ..settings })
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

fn keys(load: &Load) -> Vec<String> {
    load.desired.as_ref().unwrap().resources.keys().map(ToString::to_string).collect()
}

#[test]
fn a_load_is_changed_once_and_then_unchanged() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "a.yaml", "roles: [{name: a}]\n");
    write(temp.path(), "deep/er/b.yml", "roles: [{name: b}]\n");
    write(temp.path(), ".hidden/c.yaml", "roles: [{name: c}]\n");
    write(temp.path(), ".d.yaml", "broken: [\n");
    write(temp.path(), "README.md", "roles: [{name: e}]\n");
    let mut loader = loader_of(temp.path());

    let first = loader.load();
    let second = loader.load();
    fs::rename(temp.path().join("a.yaml"), temp.path().join("z.yaml")).unwrap();
    let moved = loader.load();

    assert_eq!((first.result, second.result), (LoadResult::Changed, LoadResult::Unchanged));
    assert_eq!(keys(&first), ["roles/a", "roles/b"]);
    assert!(Arc::ptr_eq(first.desired.as_ref().unwrap(), second.desired.as_ref().unwrap()));
    assert_eq!((first.revision.as_deref().unwrap().len(), first.commit), (16, None));
    assert_eq!(first.revision, second.revision);
    assert_eq!(moved.result, LoadResult::Changed, "places are part of a revision");
    assert_ne!(moved.revision, first.revision);
}

#[test]
fn only_what_changed_is_read_again() {
    let temp = tempfile::tempdir().unwrap();
    for n in 0..40 {
        write(temp.path(), &format!("{n}.yaml"), &format!("roles: [{{name: r{n}}}]\n"));
    }
    let mut loader = loader_of(temp.path());
    let before = loader.load();
    write(temp.path(), "7.yaml", "roles: [{name: seven}]\n");

    let after = loader.load();

    let shared = |key: &str| {
        let of = |load: &Load| {
            load.desired.as_ref().unwrap().resources.get(&crate::resource::Key::new("roles", key)).cloned()
        };
        of(&before).zip(of(&after)).is_some_and(|(a, b)| Arc::ptr_eq(&a, &b))
    };
    assert!((0..40).filter(|n| *n != 7).all(|n| shared(&format!("r{n}"))));
    assert!(keys(&after).contains(&"roles/seven".to_owned()));
    assert_eq!(after.desired.unwrap().resources.len(), 40);
}

#[test]
fn whatever_breaks_the_last_good_state_stays_in_force() {
    let good = "roles: [{name: a}]\n";
    let cases: Vec<(&str, LoadResult, &str, Spoil)> = vec![
        ("broken", LoadResult::Invalid, "a.yaml:1: is not YAML: ", Box::new(|p| write(p, "a.yaml", "roles: [{}}]"))),
        ("emptied", LoadResult::Invalid, "a.yaml: is empty;", Box::new(|p| write(p, "a.yaml", ""))),
        (
            "only a comment left",
            LoadResult::Invalid,
            ".: no YAML file declares anything;",
            Box::new(|p| write(p, "a.yaml", "# later\n")),
        ),
        (
            "no file left",
            LoadResult::Invalid,
            ".: no YAML file declares anything;",
            Box::new(|p| fs::remove_file(p.join("a.yaml")).unwrap()),
        ),
        ("gone", LoadResult::IoError, ".: the source directory ", Box::new(|p| fs::remove_dir_all(p).unwrap())),
        (
            "a file in its place",
            LoadResult::IoError,
            ".: the source ",
            Box::new(|p| {
                fs::remove_dir_all(p).unwrap();
                fs::write(p, "roles: []\n").unwrap();
            }),
        ),
        (
            "git at work",
            LoadResult::IoError,
            ".: git is changing the files; if no git runs, remove ",
            Box::new(|p| write(p, ".git/index.lock", "")),
        ),
        (
            "not text",
            LoadResult::Invalid,
            "a.yaml: is not UTF-8; save it as UTF-8",
            Box::new(|p| fs::write(p.join("a.yaml"), [b'a', 0xff]).unwrap()),
        ),
        (
            "a link out",
            LoadResult::Invalid,
            "b.yaml: is a symbolic link that leaves the source directory; nothing outside may be read",
            Box::new(|p| symlink("/proc/self/environ", p.join("b.yaml")).unwrap()),
        ),
        (
            "a link to nowhere",
            LoadResult::Invalid,
            "b.yaml: is a symbolic link that leads nowhere; mend or remove it",
            Box::new(|p| symlink("nowhere", p.join("b.yaml")).unwrap()),
        ),
        (
            "a FIFO",
            LoadResult::Invalid,
            "b.yaml: is not a regular file; remove it",
            Box::new(|p| {
                let mode = rustix::fs::Mode::RUSR;
                rustix::fs::mknodat(rustix::fs::CWD, p.join("b.yaml"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }),
        ),
        (
            "too big",
            LoadResult::Invalid,
            "b.yaml: holds more than 64 MiB; split it",
            Box::new(|p| fs::File::create(p.join("b.yaml")).unwrap().set_len(LARGEST_FILE + 1).unwrap()),
        ),
    ];
    for (case, result, message, spoil) in cases {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("repo");
        write(&root, "a.yaml", good);
        let mut loader = loader_of(&root);
        let before = loader.load();
        assert_eq!(before.result, LoadResult::Changed, "{case}: {:?}", before.errors);

        spoil(&root);
        let spoilt = loader.load();

        assert_eq!(spoilt.result, result, "{case}");
        let errors = lines(&spoilt.errors);
        assert!(errors.len() == 1 && errors[0].starts_with(message), "{case}: {errors:?}");
        assert_eq!(keys(&spoilt), ["roles/a"], "{case}");
        assert_eq!(spoilt.revision, before.revision, "{case}");

        if root.is_file() {
            fs::remove_file(&root).unwrap();
        }
        if root.is_dir() {
            fs::remove_dir_all(&root).unwrap();
        }
        write(&root, "a.yaml", good);
        let mended = loader.load();
        assert_eq!((mended.result, mended.errors), (LoadResult::Unchanged, vec![]), "{case}");
    }
}

#[test]
fn links_within_the_root_are_read_and_each_directory_once() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("mount");
    write(&root, "..1/m.yaml", "roles: [{name: one}]\n");
    write(&root, "..2/m.yaml", "roles: [{name: two}]\n");
    write(&root, "real/x.yaml", "permissions: []\n");
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/m.yaml", root.join("m.yaml")).unwrap();
    symlink("real", root.join("alias")).unwrap();
    symlink("real", root.join("alias.yaml")).unwrap();
    symlink(&root, temp.path().join("current")).unwrap();
    let mut loader = loader_of(&temp.path().join("current"));

    let first = loader.load();
    symlink("..2", root.join("..tmp")).unwrap();
    fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
    let second = loader.load();

    assert_eq!((keys(&first), keys(&second)), (vec!["roles/one".to_owned()], vec!["roles/two".to_owned()]));
    assert_eq!(lines(&second.errors), Vec::<String>::new());
}

#[test]
fn a_project_reads_its_own_directories_and_nothing_excluded() {
    let temp = tempfile::tempdir().unwrap();
    for name in ["a/x", "b/x", "c/x", "b/vendor/deep/y", "b/chart.values"] {
        write(temp.path(), &format!("{name}.yaml"), &format!("roles: [{{name: {name}}}]\n"));
    }
    symlink("a", temp.path().join("link")).unwrap();
    let mut exclude = GlobSetBuilder::new();
    for glob in ["**/vendor", "b/*.values.yaml"] {
        exclude.add(Glob::new(glob).unwrap());
    }
    let mut loader = loader_of(temp.path());
    loader.settings.tree.exclude = exclude.build().unwrap();
    loader.settings.tree.paths = vec!["a".into(), "./b".into()];

    assert_eq!(keys(&loader.load()), ["roles/a/x", "roles/b/x"]);

    loader.settings.tree.paths = vec!["missing".into()];
    assert_eq!(loader.load().result, LoadResult::IoError);
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), temp.path().join("out")).unwrap();
    loader.settings.tree.paths = vec!["out".into()];
    let errors = lines(&loader.load().errors);
    assert!(errors[0].contains("through a symbolic link that leaves the source directory"), "{errors:?}");
    loader.settings.tree.paths = vec!["link".into()];
    let load = loader.load();
    assert_eq!((keys(&load), lines(&load.errors)), (vec!["roles/a/x".to_owned()], Vec::new()));
}

#[test]
fn all_errors_of_all_files_come_together_by_file_and_line() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "b.yaml", "roles:\n- {name: x, nme: y}\n- {default: 1}\n");
    write(temp.path(), "a.yaml", "roles:\n- {name: x}\nprojekt: {}\n");

    let load = loader_of(temp.path()).load();

    assert_eq!(load.result, LoadResult::Invalid);
    assert_eq!(
        lines(&load.errors),
        [
            "a.yaml:3: `projekt` is not a kind of resource; did you mean `project`?",
            "b.yaml:2: roles/x: is declared twice; the other place is a.yaml:2",
            "b.yaml:2: roles/x: nme: roles have no such field; did you mean `name`?",
            "b.yaml:3: roles: default: must be true or false but is a number",
            "b.yaml:3: roles: name: is missing; it identifies the resource",
        ]
    );
}

/// `git`, without the settings of whoever runs the tests.
fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "gc.auto=0"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("GIT_DIR")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn repo() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    git(temp.path(), &["init", "-q", "-b", "main"]);
    write(temp.path(), "config/a.yaml", "roles: [{name: a}]\n");
    write(temp.path(), "other.yaml", "x");
    git(temp.path(), &["add", "."]);
    git(temp.path(), &["commit", "-qm", "one"]);
    temp
}

#[test]
fn the_commit_is_named_and_marked_dirty_unless_the_files_are_its_own() {
    let temp = repo();
    let root = temp.path();
    let short = |dir: &Path| git(dir, &["rev-parse", "HEAD"])[..7].to_owned();
    let label = |dir: &Path| loader_of(&dir.join("config")).load().commit.unwrap();
    let clean = short(root);
    let dirty = format!("{clean}-dirty");
    assert_eq!(label(root), clean);

    write(root, "config/a.yaml", "roles: [{name: b}]\n");
    assert_eq!(label(root), dirty, "edited, of the same size");
    git(root, &["add", "."]);
    assert_eq!(label(root), dirty, "staged");
    git(root, &["reset", "-q", "--hard"]);
    assert_eq!(label(root), clean, "reset");
    write(root, "config/new.yaml", "permissions: []\n");
    assert_eq!(label(root), dirty, "untracked");
    fs::remove_file(root.join("config/new.yaml")).unwrap();
    write(root, "config/ignored.txt", "");
    write(root, "other.yaml", "y");
    assert_eq!(label(root), clean, "what is not ours does not matter");
    git(root, &["checkout", "-q", "other.yaml"]);

    write(root, "config/b.yaml", "roles: [{name: c}]\n");
    git(root, &["add", "config/b.yaml"]);
    git(root, &["commit", "-qm", "two"]);
    assert_ne!(short(root), clean);
    assert_eq!(label(root), short(root), "committed");
    fs::remove_file(root.join("config/b.yaml")).unwrap();
    assert_eq!(label(root), format!("{}-dirty", short(root)), "deleted");
    git(root, &["checkout", "-q", "config/b.yaml"]);
    git(root, &["pack-refs", "--all"]);
    assert_eq!(label(root), short(root), "packed refs");
    git(root, &["update-index", "--index-version", "4"]);
    assert_eq!(label(root), short(root), "an index of version 4");

    let linked = tempfile::tempdir().unwrap();
    let linked = linked.path().join("tree");
    git(root, &["worktree", "add", "-q", "--detach", linked.to_str().unwrap(), &clean]);
    assert_eq!(label(&linked), clean, "a linked worktree");
}

#[test]
fn a_checkout_under_way_is_never_taken_for_a_revision() {
    const FILES: usize = 60;
    const CHECKOUTS: usize = 200;
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    git(root, &["init", "-q", "-b", "one"]);
    for (branch, letter) in [("one", "a"), ("two", "b")] {
        git(root, &["checkout", "-q", "-B", branch]);
        for n in 0..FILES {
            write(root, &format!("{n:02}.yaml"), &format!("roles: [{{name: r{n}, description: {letter}}}]\n"));
        }
        git(root, &["add", "."]);
        git(root, &["commit", "-qm", branch]);
    }
    let mut seen: HashMap<String, (usize, Option<Arc<str>>)> = HashMap::new();
    let done = AtomicBool::new(false);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..CHECKOUTS {
                git(root, &["checkout", "-q", ["one", "two"][n % 2]]);
                // A random rest, so that some loads find room and others are caught in the middle.
                pause(Duration::from_millis(fastrand::u64(0..60)));
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut loader = loader_of(root);
        loader.settings.quiet = Duration::from_millis(10);
        while !done.load(Ordering::Relaxed) {
            let load = loader.load();
            assert_ne!(load.result, LoadResult::Invalid, "{:?}", load.errors);
            let Some(desired) = &load.desired else { continue };
            assert_eq!(desired.resources.len(), FILES);
            let mut letters: Vec<_> = desired
                .resources
                .values()
                .map(|role| role.fields.get("description").unwrap().as_str().unwrap())
                .collect();
            letters.dedup();
            assert_eq!(letters.len(), 1, "a mixed tree");
            let entry = seen.entry(letters[0].to_owned()).or_insert((0, load.revision.clone()));
            entry.0 += usize::from(load.result == LoadResult::Changed);
            assert_eq!(entry.1, load.revision, "one branch, one revision");
        }
    });

    assert!(seen.len() == 2 && seen.values().all(|(changes, _)| *changes > 0), "{seen:?}");
}

/// Does something at the moment when a file that names it is being checked.
struct Meddler(std::sync::Mutex<Box<dyn FnMut() + Send>>);

/// A loader of a file `b.yaml` that makes the meddler do this whenever its content is news.
fn meddled(root: &Path, act: impl FnMut() + Send + 'static) -> Loader {
    write(root, "b.yaml", "meddlers: {}\n");
    let meddler: &'static Meddler = Box::leak(Box::new(Meddler(std::sync::Mutex::new(Box::new(act)))));
    let mut loader = loader_of(root);
    loader.settings.kinds = Vec::leak(KINDS.iter().copied().chain([meddler as &dyn Kind]).collect());
    loader.settings.apart = Duration::from_millis(20);
    loader
}

static MEDDLERS: crate::resource::Spec = crate::resource::Spec {
    name: "meddlers",
    identity: crate::resource::spec::Identity::one(),
    ..crate::resource::Spec::BASE
};

#[async_trait::async_trait]
impl Kind for Meddler {
    fn name(&self) -> &'static str {
        "meddlers"
    }
    fn spec(&self) -> &'static crate::resource::Spec {
        (self.0.lock().unwrap())();
        &MEDDLERS
    }
    fn listing(&self) -> crate::descope::Call {
        KINDS[0].listing()
    }
    async fn send(
        &self,
        _client: &crate::descope::Client,
        _part: &'static crate::resource::Part,
        _items: &nonempty::NonEmpty<crate::resource::Item<'_>>,
    ) -> Result<Vec<crate::resource::Answer>, crate::descope::Error> {
        Ok(Vec::new())
    }
}

#[test]
fn a_file_that_changes_after_it_was_read_is_read_again() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().to_owned();
    put(&root, "roles: [{name: one}]\n");
    let mut times = 0;

    let load = meddled(temp.path(), move || {
        times += 1;
        if times == 1 {
            write(&root, "a.yaml", "roles: [{name: two}]\n");
        }
    })
    .load();

    assert_eq!((load.result, load.is_by_content), (LoadResult::Changed, false));
    assert!(keys(&load).contains(&"roles/two".to_owned()), "{:?}", keys(&load));
}

/// Puts the file anew: another inode and other times.
fn put(root: &Path, text: &str) {
    write(root, "a.new", text);
    fs::rename(root.join("a.new"), root.join("a.yaml")).unwrap();
}

#[test]
fn a_tree_that_never_stands_still_is_not_a_revision() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().to_owned();
    let mut times = 0;

    let load = meddled(temp.path(), move || {
        times += 1;
        write(&root, "b.yaml", &format!("meddlers: {{}} # {times}\n"));
    })
    .load();

    assert_eq!((load.result, load.desired), (LoadResult::IoError, None));
    assert_eq!(lines(&load.errors), [".: the files changed while they were read"]);
}

#[test]
fn where_stats_never_settle_equal_content_is_a_revision_while_git_is_at_rest() {
    let load = |more: fn(&Path)| {
        let temp = repo();
        let root = temp.path().to_owned();
        let mut loader = meddled(&temp.path().join("config"), move || {
            put(&root.join("config"), "roles: [{name: a}]\n");
            more(&root);
        });
        (loader.load(), loader.load())
    };

    let (first, rested) = load(|_| ());
    assert_eq!((first.result, first.is_by_content, first.errors), (LoadResult::Changed, true, vec![]));
    assert_eq!((rested.result, rested.is_by_content), (LoadResult::Unchanged, false));

    let (moved, _) = load(|root| drop(git(root, &["commit", "-q", "--allow-empty", "-m", "more"])));
    assert_eq!(lines(&moved.errors), [".: the files changed while they were read"], "HEAD moves");
    let (locked, _) = load(|root| write(root, ".git/index.lock", ""));
    assert!(lines(&locked.errors)[0].starts_with(".: git is changing the files;"), "{:?}", locked.errors);
}

type Act = (&'static str, fn(&Path));

/// As tools write it that are not git: the same entries, and none of its cache of trees.
fn without_trees(root: &Path) {
    let entries = git(root, &["ls-files", "-s"]);
    fs::remove_file(root.join(".git/index")).unwrap();
    let mut update = Command::new("git");
    update.current_dir(root).args(["update-index", "--index-info"]).stdin(std::process::Stdio::piped());
    let mut update = update.spawn().unwrap();
    std::io::Write::write_all(update.stdin.as_mut().unwrap(), (entries + "\n").as_bytes()).unwrap();
    assert!(update.wait().unwrap().success());
    git(root, &["update-index", "-q", "--refresh"]);
}

/// What people and tools do to a checkout. Each begins where the one before ended.
const ACTS: &[Act] = &[
    ("nothing", |_| ()),
    ("new times", |root| put(root, &fs::read_to_string(root.join("a.yaml")).unwrap())),
    ("an edit", |root| put(root, "roles: [{name: edited}]\n")),
    ("staged", |root| drop(git(root, &["add", "."]))),
    ("committed", |root| drop(git(root, &["commit", "-qm", "more"]))),
    ("a new file", |root| write(root, "new.yaml", "permissions: []\n")),
    ("added", |root| drop(git(root, &["add", "."]))),
    ("committed too", |root| drop(git(root, &["commit", "-qm", "more"]))),
    ("removed", |root| fs::remove_file(root.join("new.yaml")).unwrap()),
    ("removed for good", |root| drop(git(root, &["commit", "-qam", "less"]))),
    ("a split index", |root| drop(git(root, &["update-index", "--split-index"]))),
    ("an edit beside it", |root| put(root, "roles: [{name: edited again}]\n")),
    ("committed to it", |root| drop(git(root, &["commit", "-qam", "more"]))),
    ("a file less in it", |root| drop(git(root, &["rm", "-q", "7.yaml"]))),
    ("committed without it", |root| drop(git(root, &["commit", "-qm", "less"]))),
    ("a file more in it", |root| {
        write(root, "6b.yaml", "permissions: []\n");
        git(root, &["add", "."]);
        git(root, &["commit", "-qm", "more"]);
    }),
    ("one index again", |root| drop(git(root, &["update-index", "--no-split-index"]))),
    ("detached", |root| drop(git(root, &["checkout", "-q", "--detach", "HEAD~1"]))),
    ("back on the branch", |root| drop(git(root, &["checkout", "-q", "main"]))),
    ("packed", |root| drop(git(root, &["pack-refs", "--all"]))),
    ("staged, and written as a tree", |root| {
        put(root, "roles: [{name: staged}]\n");
        git(root, &["add", "."]);
        git(root, &["write-tree"]);
    }),
    ("taken back", |root| drop(git(root, &["reset", "-q", "--hard"]))),
    ("an index without trees", without_trees),
    ("staged in it", |root| {
        write(root, "deep/er/x.yaml", "permissions: []\n");
        git(root, &["add", "."]);
        without_trees(root);
    }),
    ("committed from it", |root| {
        git(root, &["commit", "-qm", "deep"]);
        without_trees(root);
    }),
    ("objects packed", |root| drop(git(root, &["repack", "-qad"]))),
    ("staged beside a pack", |root| {
        put(root, "roles: [{name: staged}]\n");
        git(root, &["add", "."]);
        without_trees(root);
    }),
    ("taken back too", |root| drop(git(root, &["reset", "-q", "--hard"]))),
    ("line ends of Windows", |root| {
        git(root, &["config", "core.autocrlf", "true"]);
        fs::remove_file(root.join("a.yaml")).unwrap();
        git(root, &["checkout", "-q", "a.yaml"]);
        assert!(fs::read_to_string(root.join("a.yaml")).unwrap().contains("\r\n"));
    }),
];

#[test]
fn a_label_agrees_with_git_status_in_every_sort_of_repository() {
    // An older git lacks some.
    for sort in ["--object-format=sha1", "--object-format=sha256", "--ref-format=reftable"] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let init = Command::new("git").current_dir(root).args(["init", "-q", "-b", "main", sort]).output().unwrap();
        if !init.status.success() {
            eprintln!("skipped: this git has no {sort}");
            continue;
        }
        for n in 0..20 {
            write(root, &format!("{n}.yaml"), &format!("roles: [{{name: r{n}}}]\n"));
        }
        put(root, "roles: [{name: a}]\n");
        git(root, &["add", "."]);
        git(root, &["commit", "-qm", "one"]);
        // More than fit into one block.
        for n in 0..60 {
            git(root, &["branch", &format!("{n}/{}", "long".repeat(40))]);
        }
        let mut kept = loader_of(root);
        for (act, carry_out) in ACTS {
            carry_out(root);

            let hash = git(root, &["rev-parse", "HEAD"])[..7].to_owned();
            // A look that does not refresh the index, as ours.
            let is_clean = git(root, &["--no-optional-locks", "status", "--porcelain"]).is_empty();
            let expected = if is_clean { hash } else { format!("{hash}-dirty") };
            assert_eq!(kept.load().commit.as_ref(), Some(&expected), "{sort}: {act}");
            assert_eq!(loader_of(root).load().commit, Some(expected), "{sort}: {act}, loaded first");
        }
    }
}

/// The one flow that is declared, as it was loaded.
fn flow(load: &Load) -> serde_json::Value {
    let desired = load.desired.as_ref().unwrap();
    desired.resources[&crate::resource::Key::new("flows", "f")].fields.get("file").cloned().unwrap()
}

#[test]
fn a_file_that_is_named_is_part_of_the_revision() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    write(root, "sub/a.yaml", "flows:\n  - id: f\n    file: ../docs/f.json\nfgaSchema: { file: s.fga }\n");
    write(root, "docs/f.json", "\u{feff}{\r\n \"a\": 1 }");
    write(root, "sub/s.fga", "model AuthZ 1.0\r\ntype user\r\n");
    let mut loader = loader_of(root);

    let first = loader.load();
    assert_eq!(
        (first.result, flow(&first)),
        (LoadResult::Changed, serde_json::json!({ "a": 1 })),
        "{:?}",
        first.errors
    );
    let schema = first.desired.as_ref().unwrap().resources[&crate::resource::Key::only("fgaSchema")]
        .fields
        .get("file")
        .cloned()
        .unwrap();
    assert_eq!(schema, "model AuthZ 1.0\ntype user\n");
    assert_eq!(loader.load().result, LoadResult::Unchanged);

    write(root, "docs/f.json", "{ \"a\": 2 }");
    let second = loader.load();
    assert_eq!((second.result, flow(&second)), (LoadResult::Changed, serde_json::json!({ "a": 2 })));
    assert_ne!(second.revision, first.revision);

    // The same bytes are the same revision, and another one that is named is looked at with the very load.
    write(root, "docs/f.json", "{ \"a\": 2 }");
    assert_eq!(loader.load().result, LoadResult::Unchanged);
    write(root, "docs/g.json", "{ \"a\": 3 }");
    write(root, "sub/a.yaml", "flows: [{ id: f, file: ../docs/g.json }]\n");
    assert_eq!(flow(&loader.load()), serde_json::json!({ "a": 3 }));
}

#[test]
fn what_is_wrong_with_a_file_that_is_named_is_said_where_it_is_named() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f.json"), "{}").unwrap();
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    fs::create_dir(root.join("dir")).unwrap();
    symlink(outside.path().join("f.json"), root.join("link.json")).unwrap();
    symlink("good.json", root.join("inward.json")).unwrap();
    write(root, "good.json", "{ \"a\": 1 }");
    fs::write(root.join("latin.json"), b"{ \"a\": \"\xe4\" }").unwrap();
    write(root, "broken.json", "{ \"a\": ");
    write(root, "answer.json", "{ \"flow\": { \"contents\": {} } }");
    write(root, "lfs.json", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n");
    fs::File::create(root.join("large.json")).unwrap().set_len(LARGEST_FILE + 1).unwrap();
    let mut loader = loader_of(root);
    write(root, "a.yaml", "flows:\n  - id: f\n    file: good.json\n");
    loader.load();

    for (path, expected) in [
        ("none.json", "there is no file none.json; its path is relative to this one"),
        ("dir", "dir is not a regular file"),
        ("link.json", "link.json leads out of the source directory; nothing outside may be read"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("/etc/passwd", "is an absolute path; write it relative to this file"),
        ("''", "is empty; write the path of a file"),
        ("[]", "must be the path of a file but is a list"),
        ("latin.json", "latin.json is not UTF-8; save it as UTF-8"),
        ("broken.json", "broken.json is no JSON: "),
        ("answer.json", "answer.json holds the whole answer of an export; keep the value of its `flow` alone"),
        ("lfs.json", "lfs.json is a pointer of git LFS"),
        ("large.json", "large.json holds more than 64 MiB"),
        ("{ env: HOME }", ""),
    ] {
        write(root, "a.yaml", &format!("flows:\n  - id: f\n    file: {path}\n"));
        let load = loader.load();
        let found = lines(&load.errors);
        assert_eq!((load.result, found.len()), (LoadResult::Invalid, 1), "{path}: {found:?}");
        assert!(found[0].starts_with(&format!("a.yaml:3: flows/f: file: {expected}")), "{path}: {found:?}");
        assert_eq!(flow(&load), serde_json::json!({ "a": 1 }), "the last good one stays in force");
    }
    write(root, "a.yaml", "flows:\n  - id: f\n    file: inward.json\n");
    assert_eq!(flow(&loader.load()), serde_json::json!({ "a": 1 }));
}

#[test]
fn a_label_is_dirty_for_a_file_that_is_named() {
    let temp = repo();
    let root = &temp.path().join("config");
    write(root, "f.json", "{ \"a\": 1 }");
    write(root, "other.json", "{}");
    write(root, "flows.yaml", "flows: [{ id: f, file: f.json }]\n");
    git(root, &["add", "."]);
    git(root, &["commit", "-qm", "flows"]);
    let mut loader = loader_of(root);
    let clean = loader.load().commit.unwrap();
    assert!(!clean.ends_with("-dirty"), "{clean}");

    write(root, "other.json", "{ \"b\": 1 }");
    assert_eq!(loader.load().commit.unwrap(), clean, "nobody reads it");
    write(root, "f.json", "{ \"a\": 2 }");
    assert_eq!(loader.load().commit.unwrap(), format!("{clean}-dirty"));
}

#[test]
fn a_named_file_is_read_where_stats_never_settle() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    write(root, "a.yaml", "flows: [{ id: f, file: f.json }]\n");
    write(root, "f.json", "{ \"a\": 1 }");
    let mut loader = loader_of(root);
    loader.settings.apart = Duration::from_millis(1);

    let revision = loader.read_twice().unwrap();

    assert_eq!(revision.named.len(), 1);
    assert!(revision.named[0].1.is_ok());
}
