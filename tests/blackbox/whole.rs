//! Absence is not believed where git, a link or a name explains it: what is not there for such a reason is not deleted.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::git;
use crate::harness::permission;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Deletes at once whatever left the files.
async fn deleting(path: &str) -> World {
    let project =
        ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s, maxDeletes: 100, maxDeletePercent: off }"];
    let mut project: Vec<String> = project.map(str::to_owned).to_vec();
    project.push(format!("path: {path}"));
    World::with(Setup { project, ..Setup::default() }).await
}

async fn errors(world: &World) -> Vec<String> {
    let desired = world.project().await["desired"].clone();
    let line = |error: &Value| format!("{}: {}", error["file"].as_str().unwrap(), error["message"].as_str().unwrap());
    desired["errors"].as_array().unwrap().iter().map(line).collect()
}

/// Waits until the files are no revision for this reason, and sees that this deleted nothing.
async fn assert_refused(world: &World, reason: &str) {
    let is_told = async |world: &World| errors(world).await.iter().any(|error| error.contains(reason));
    world.until(reason, is_told).await;
    world.fresh_pass().await;
    assert!(is_told(world).await, "{:?}", errors(world).await);
    world.assert_nothing_left().await;
    assert!(!world.writes().await.iter().any(|(line, _)| line.contains("delete")), "{:?}", world.writes().await);
    world.until("said in the log", async |world| world.daemon().said(reason)).await;
}

#[tokio::test]
async fn a_directory_that_became_a_link_inside_the_repo_is_followed() {
    let mut world = deleting("production").await;
    world.write("production/a.yaml", &permission("p", "own"));
    world.write("production/team/b.yaml", &permission("q", "team"));
    world.converge().await;
    world.converge_on(2).await;

    // One look may fall between the two steps, as in a checkout; what it sees is not a revision of anybody.
    world.write("common/team/b.yaml", &permission("q", "shared"));
    fs::rename(world.path("repo/production/team"), world.path("old")).unwrap();
    symlink("../common/team", world.path("repo/production/team")).unwrap();
    world.until_live("q", "shared").await;
    world.assert_nothing_left().await;
    assert_eq!(world.project().await["desired"]["resources"], 2);

    // What is behind the link is watched.
    world.write("common/team/b.yaml", &permission("q", "edited"));
    world.until_live("q", "edited").await;
    world.until("the watcher's pass", async |world| world.passes_by("watch").await > 0).await;
}

#[test]
fn each_directory_counts_once_and_circles_end() {
    let temp = tempfile::tempdir().unwrap();
    let repo = temp.path().join("repo");
    let write = |file: &str, text: &str| {
        fs::create_dir_all(repo.join(file).parent().unwrap()).unwrap();
        fs::write(repo.join(file), text).unwrap();
    };
    write("a/x.yaml", &permission("x", "one"));
    write("a/deep/y.yaml", &permission("y", "one"));
    write(".hidden/conf/z.yaml", &permission("z", "one"));
    for (target, link) in [
        ("a", "b"),
        ("..", "a/up"),
        (".", "a/self"),
        ("../../b", "a/deep/round"),
        (".hidden/conf", "conf"),
        ("conf", "again"),
        ("a/deep", "c.yaml"),
        ("../notes", "a/notes.txt"),
    ] {
        symlink(target, repo.join(link)).unwrap();
    }
    write("notes", "no YAML");

    assert_eq!(validate(&repo, "[]"), (0, "valid: 3 resources\n".to_owned()));

    fs::create_dir(temp.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", repo.join("out")).unwrap();
    symlink("one", repo.join("two")).unwrap();
    symlink("two", repo.join("one")).unwrap();
    symlink("/nowhere", repo.join("gone")).unwrap();
    let (code, text) = validate(&repo, "[]");
    assert_eq!(code, 3);
    assert_eq!(
        text,
        "gone: is a symbolic link that leads nowhere; mend or remove it
one: is a symbolic link that leads nowhere; mend or remove it
out: is a symbolic link that leaves the source directory; nothing outside may be read
two: is a symbolic link that leads nowhere; mend or remove it
invalid: 4 errors\n"
    );
    assert_eq!(validate(&repo, "[one, two, out, gone]").0, 0, "what is excluded is not looked at");
}

/// `validate` of a repo with these globs excluded.
fn validate(repo: &Path, exclude: &str) -> (i32, String) {
    let config = repo.parent().unwrap().join("config.yaml");
    fs::write(&config, format!("source: {{ path: {}, exclude: {exclude} }}\n", repo.display())).unwrap();
    let mut command = std::process::Command::new(crate::harness::BINARY);
    let output = command.env_clear().args(["validate", "--config"]).arg(config).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn nothing_is_left_out_without_a_word() {
    let temp = tempfile::tempdir().unwrap();
    let repo = temp.path().join("repo");
    for file in
        ["a.yaml", "b.YAML", "c.Yml", "shared/d.yaml", "shared/deep/e.yaml", "vendor/f.yaml", ".g.yaml", "h.txt"]
    {
        fs::create_dir_all(repo.join(file).parent().unwrap()).unwrap();
        fs::write(repo.join(file), permission(&file.replace('/', "-"), "one")).unwrap();
    }

    let (code, text) = validate(&repo, "['shared/*.yaml', vendor]");

    let spelled = "is not read: only names that end in .yaml or .yml, in lower case, count; rename it";
    let excluded = "is not read: `source.exclude` names it";
    assert_eq!(code, 0);
    assert_eq!(
        text,
        format!(
            "warning: b.YAML: {spelled}\nwarning: c.Yml: {spelled}\nwarning: shared/d.yaml: {excluded}\n\
             warning: shared/deep/e.yaml: {excluded}\nwarning: vendor/: {excluded}\nvalid: 1 resource\n"
        )
    );
}

/// A repo `remote` whose submodule `sub` holds a permission, and a clone of it that is the world's config repo.
async fn world_with_submodule(clone: &[&str]) -> World {
    let world = deleting(".").await;
    let dir = world.dir.path();
    for (name, text) in [("module", permission("q", "in the submodule")), ("remote", permission("p", "own"))] {
        fs::create_dir(world.path(name)).unwrap();
        git(&world.path(name), &["init", "-q", "-b", "main"]);
        fs::write(world.path(name).join(format!("{name}.yaml")), text).unwrap();
        git(&world.path(name), &["add", "."]);
        git(&world.path(name), &["commit", "-qm", "one"]);
    }
    let module = world.path("module");
    let allow = "protocol.file.allow=always";
    git(&world.path("remote"), &["-c", allow, "submodule", "add", "-q", module.to_str().unwrap(), "sub"]);
    git(&world.path("remote"), &["commit", "-qm", "two"]);
    fs::remove_dir(world.path("repo")).unwrap();
    let mut args = vec!["-c", allow, "clone", "-q"];
    args.extend(clone);
    args.extend(["remote", "repo"]);
    git(dir, &args);
    world
}

#[tokio::test]
async fn a_submodule_without_its_content_is_no_revision() {
    let mut world = world_with_submodule(&["--recurse-submodules"]).await;
    world.converge().await;
    world.converge_on(2).await;
    let commit = git(&world.path("repo"), &["rev-parse", "HEAD"])[..7].to_owned();
    world.until("labelled clean", async |world| world.project().await["desired"]["commit"] == commit).await;

    git(&world.path("repo"), &["submodule", "deinit", "-q", "--all"]);
    assert_refused(&world, "the submodule sub has no content; run `git submodule update --init`, or exclude it").await;

    git(&world.path("repo"), &["-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init"]);
    world.until("whole again", async |world| errors(world).await.is_empty()).await;
    world.converge_on(2).await;
}

#[tokio::test]
async fn a_submodule_in_the_middle_of_a_checkout_is_no_revision() {
    let mut world = world_with_submodule(&["--recurse-submodules"]).await;
    world.converge().await;
    world.converge_on(2).await;
    let lock = world.path("repo/.git/modules/sub/index.lock");

    fs::write(&lock, "").unwrap();
    fs::remove_file(world.path("repo/sub/module.yaml")).unwrap();
    assert_refused(&world, "modules/sub/index.lock").await;

    fs::write(world.path("repo/sub/module.yaml"), permission("q", "checked out")).unwrap();
    fs::remove_file(lock).unwrap();
    world.until_live("q", "checked out").await;
}

#[tokio::test]
async fn a_clone_without_its_submodules_is_taken_where_the_project_does_not_need_them() {
    let mut world = world_with_submodule(&[]).await;
    fs::create_dir(world.path("repo/production")).unwrap();
    world.write("production/a.yaml", &permission("p", "own"));
    world.reconfigure(|setup| setup.project.retain(|line| !line.starts_with("path:")));
    world.reconfigure(|setup| setup.project.push("path: production".to_owned()));

    world.converge().await;
    world.converge_on(1).await;
}

/// A clone of a monorepo: two projects and an app beside them.
fn monorepo(world: &World) -> PathBuf {
    let (remote, repo) = (world.path("remote"), world.path("repo"));
    fs::create_dir(&remote).unwrap();
    git(&remote, &["init", "-q", "-b", "main"]);
    for (file, text) in [
        ("config/a.yaml", permission("p", "own")),
        ("config/team/b.yaml", permission("q", "team")),
        ("app/deploy.yaml", "replicas: 3\n".to_owned()),
    ] {
        fs::create_dir_all(remote.join(file).parent().unwrap()).unwrap();
        fs::write(remote.join(file), text).unwrap();
    }
    git(&remote, &["add", "."]);
    git(&remote, &["commit", "-qm", "one"]);
    fs::remove_dir(&repo).unwrap();
    git(world.dir.path(), &["clone", "-q", "remote", "repo"]);
    repo
}

#[tokio::test]
async fn a_sparse_checkout_that_holds_what_the_project_needs_is_whole() {
    for sort in ["--no-sparse-index", "--sparse-index"] {
        let mut world = deleting("config").await;
        let repo = monorepo(&world);
        git(&repo, &["sparse-checkout", "set", "--cone", sort, "config"]);
        assert!(!repo.join("app").exists());

        world.converge().await;
        world.converge_on(2).await;
        let commit = git(&repo, &["rev-parse", "HEAD"])[..7].to_owned();
        assert_eq!(world.project().await["desired"]["commit"], commit, "{sort}");
    }
}

#[tokio::test]
async fn what_a_sparse_checkout_leaves_out_is_not_deleted() {
    for sort in ["--no-sparse-index", "--sparse-index"] {
        let mut world = deleting("config").await;
        let repo = monorepo(&world);
        world.converge().await;
        world.converge_on(2).await;

        // `config/a.yaml` and what lies at the top stays, `config/team` goes.
        git(&repo, &["sparse-checkout", "set", "--cone", sort, "app"]);
        fs::create_dir_all(repo.join("config")).unwrap();
        git(&repo, &["sparse-checkout", "set", "--no-cone", "/config/*.yaml", "!/config/team/"]);
        if sort == "--sparse-index" {
            git(&repo, &["sparse-checkout", "set", "--cone", sort, "app", "config/other"]);
        }
        assert!(!repo.join("config/team").exists() && repo.join("config/a.yaml").exists());
        assert_refused(&world, "git's sparse checkout leaves out config/team").await;

        // On disk is whole, whatever the index says.
        world.write("config/team/b.yaml", &permission("q", "put there"));
        world.until_live("q", "put there").await;

        git(&repo, &["sparse-checkout", "disable"]);
        git(&repo, &["checkout", "-q", "-f", "HEAD"]);
        world.until_live("q", "team").await;
    }
}

#[tokio::test]
async fn files_rewritten_with_the_same_bytes_cost_no_request() {
    let mut world = World::new().await;
    world.write("a.yaml", &permission("p", "first"));
    world.write("b.yaml", "broken: [");
    world.start().await;
    world.until("broken", async |world| !errors(world).await.is_empty()).await;
    world.write("b.yaml", &permission("q", "second"));
    world.converge().await;
    world.converge_on(2).await;
    world.fresh_pass().await;
    let (passes, requests) = (world.passes().await, world.log().await.len());
    let events = async |world: &World| world.metric("source_events_total{trigger=\"watch\"}").await.unwrap();

    for n in 1..=5 {
        let before = events(&world).await;
        world.remove("a.yaml");
        world.write("a.yaml", &permission("p", "first"));
        world.until(&format!("rewrite {n} seen"), async |world| events(world).await > before).await;
    }
    let unchanged = "source_loads_total{result=\"unchanged\"}";
    let before = world.metric(unchanged).await.unwrap();
    world.write("a.yaml", &permission("p", "first"));
    world.until("loaded", async |world| world.metric(unchanged).await.unwrap() > before).await;

    assert_eq!((world.passes().await, world.log().await.len()), (passes, requests));
    assert_eq!(world.project().await["converged"], true);
    world.write("a.yaml", &permission("p", "changed"));
    world.until_live("p", "changed").await;
}

/// Puts each file anew every few milliseconds, so that no two looks see one inode or one time, as on file systems that
/// make them up.
struct Restless {
    stop: &'static AtomicBool,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Restless {
    fn over(dir: PathBuf) -> Self {
        let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for file in fs::read_dir(&dir).unwrap().flatten().map(|item| item.path()) {
                    if file.extension().is_some_and(|ends| ends == "yaml") {
                        let new = file.with_extension("new");
                        fs::copy(&file, &new).unwrap();
                        fs::rename(&new, &file).unwrap();
                    }
                }
                #[allow(clippy::disallowed_methods, reason = "a thread of its own, outside the runtime")]
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

#[tokio::test]
async fn where_stats_never_settle_two_equal_reads_are_a_revision() {
    let mut world = deleting(".").await;
    git(&world.path("repo"), &["init", "-q", "-b", "main"]);
    world.write("a.yaml", &permission("p", "first"));
    world.write("b.yaml", &permission("q", "second"));
    let restless = Restless::over(world.path("repo"));

    world.start().await;
    world.converge_on(2).await;

    // What leaves the files there is deleted a minute later at the earliest, whatever the settings say.
    let (a, b) = (world.path("repo/a.yaml"), world.path("repo/b.yaml"));
    drop(restless);
    fs::remove_file(&b).unwrap();
    let _restless = Restless::over(world.path("repo"));
    let held = async |world: &World| {
        let plan: Value = serde_json::from_str(&world.ask(reqwest::Method::GET, "/api/v1/plan").await.1).unwrap();
        plan["projects"][0]["changes"][0]["held"].clone()
    };
    world.until("the delete waits", async |world| held(world).await == json!("delete_after")).await;
    assert!(a.exists() && world.entity("permissions", "q").await.is_some());

    // Git at work stops it as everywhere.
    world.write(".git/index.lock", "");
    world.until("the lock told", async |world| errors(world).await.iter().any(|e| e.contains("index.lock"))).await;
}

/// Only `validate` said what the daemon reads past.
#[tokio::test]
async fn the_daemon_says_once_a_revision_what_is_remarkable_about_the_files() {
    let mut world = World::new().await;
    world.source_at("repo", "debounce: 50ms, interval: 1h, exclude: [vendor]");
    world.write("a.yaml", "permissions:\n  - { name: articles.read }\n");
    world.write("vendor/v.yaml", "roles: [x]\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [articels.read] }\n");
    world.write("b.YAML", "permissions: []\n");
    world.set_live(json!({ "permissions": [{ "name": "articels.read" }] })).await;
    world.converge().await;
    let said = [
        "b.YAML: is not read: only names that end in .yaml or .yml",
        "vendor/: is not read: `source.exclude` names it",
        "roles/r: refers to permissions/articels.read, which is not declared and so must exist in the project already; did you \
         mean `articles.read`?",
    ];
    let times = |world: &World| -> Vec<usize> {
        let lines = world.daemon().lines();
        let warnings: Vec<&String> = lines.iter().filter(|line| line.contains("\"WARN\"")).collect();
        said.map(|text| warnings.iter().filter(|line| line.contains(text)).count()).to_vec()
    };

    world.until("said", async |world| times(world) == [1, 1, 1]).await;
    world.fresh_pass().await;
    world.fresh_pass().await;
    assert_eq!(times(&world), [1, 1, 1]);

    world.write("a.yaml", "permissions:\n  - { name: articles.read, description: new }\n");
    world.until("said of the next revision", async |world| times(world) == [2, 2, 2]).await;
}

/// A clone whose project lies in `config`, and names a file that lies in `docs`: a submodule, or part of the repo.
async fn world_with_a_named_file(is_submodule: bool) -> World {
    let world = deleting("config").await;
    let theme = r#"{ "styles": { "light": { "primary": "one" } } }"#;
    let (remote, module) = (world.path("remote"), world.path("module"));
    for dir in [&remote, &module] {
        fs::create_dir(dir).unwrap();
        git(dir, &["init", "-q", "-b", "main"]);
    }
    fs::create_dir(remote.join("config")).unwrap();
    let yaml = permission("p", "own") + "theme: { file: ../docs/theme.json }\n";
    fs::write(remote.join("config/a.yaml"), yaml).unwrap();
    if is_submodule {
        fs::write(module.join("theme.json"), theme).unwrap();
        git(&module, &["add", "."]);
        git(&module, &["commit", "-qm", "one"]);
        git(&remote, &["-c", ALLOW, "submodule", "add", "-q", module.to_str().unwrap(), "docs"]);
    } else {
        fs::create_dir(remote.join("docs")).unwrap();
        fs::write(remote.join("docs/theme.json"), theme).unwrap();
    }
    git(&remote, &["add", "."]);
    git(&remote, &["commit", "-qm", "one"]);
    fs::remove_dir(world.path("repo")).unwrap();
    git(world.dir.path(), &["-c", ALLOW, "clone", "-q", "--recurse-submodules", "remote", "repo"]);
    world
}

const ALLOW: &str = "protocol.file.allow=always";

async fn primary(world: &World) -> serde_json::Value {
    world.live().await["theme"][0]["styles"]["light"]["primary"].clone()
}

/// Only the git around the project's own directories was asked.
#[tokio::test]
async fn the_git_around_a_file_that_is_named_has_to_be_at_rest() {
    let mut world = world_with_a_named_file(true).await;
    world.converge().await;
    world.converge_on(2).await;
    assert_eq!(primary(&world).await, "one");
    let lock = world.path("repo/.git/modules/docs/index.lock");
    let theme = world.path("repo/docs/theme.json");

    // In the middle of a checkout, with the file changed and then gone.
    fs::write(&lock, "").unwrap();
    fs::write(&theme, r#"{ "styles": { "light": { "primary": "half" } } }"#).unwrap();
    assert_refused(&world, "modules/docs/index.lock").await;
    fs::remove_file(&theme).unwrap();
    assert_refused(&world, "modules/docs/index.lock").await;
    assert_eq!(primary(&world).await, "one");
    fs::write(&theme, r#"{ "styles": { "light": { "primary": "two" } } }"#).unwrap();
    fs::remove_file(&lock).unwrap();
    world.until("two", async |world| primary(world).await == "two").await;

    // Not checked out at all.
    git(&world.path("repo"), &["submodule", "deinit", "-q", "-f", "--all"]);
    assert_refused(&world, "the submodule docs has no content; run `git submodule update --init`").await;
    git(&world.path("repo"), &["-c", ALLOW, "submodule", "update", "-q", "--init"]);
    world.until("one again", async |world| primary(world).await == "one").await;
}

#[tokio::test]
async fn a_file_that_is_named_and_left_out_by_a_sparse_checkout_is_told_as_that() {
    for sort in ["--no-sparse-index", "--sparse-index"] {
        let mut world = world_with_a_named_file(false).await;
        world.converge().await;
        world.converge_on(2).await;

        git(&world.path("repo"), &["sparse-checkout", "set", "--cone", sort, "config"]);
        assert!(!world.path("repo/docs").exists());
        assert_refused(&world, "git's sparse checkout leaves out docs").await;

        // On disk is whole, whatever the index says.
        world.write("docs/theme.json", r#"{ "styles": { "light": { "primary": "put there" } } }"#);
        world.until("put there", async |world| primary(world).await == "put there").await;
        world.until("whole", async |world| errors(world).await.is_empty()).await;
    }
}
