//! The tests of the state on a server: the same that run on files, on a real `PostgreSQL` of this machine's.

use super::Leases;
use super::Owned;
use super::Place;
use super::ProjectState;
use super::SharedPlace;
use super::State;
use super::Store;
use super::server::schema::KNOWN;
use crate::resource::Key;
use postgres::Postgres;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::runtime::Runtime;

#[path = "../../tests/blackbox/postgres.rs"]
mod postgres;

/// Where the tests of a child of [`the_same_suite_runs_on_a_server`] have their databases.
const SERVER: &str = "DESCOPE_GITOPS_TEST_SERVER";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// What lies on the server, by the directory that it stands for.
static PLACES: Mutex<Vec<(PathBuf, Place)>> = Mutex::new(Vec::new());

/// Where a state was opened, by the id of its holder.
static HOLDERS: Mutex<BTreeMap<String, Place>> = Mutex::new(BTreeMap::new());

pub(super) fn runtime() -> Handle {
    RUNTIME.handle().clone()
}

/// What stands for this directory, where the tests are run on a server.
pub(super) fn on_a_server(dir: &Path) -> Option<State> {
    let server = std::env::var(SERVER).ok()?;
    let place = place(dir, &server);
    let state = State::open_at(&place).unwrap();
    if let Store::Server(server) = &state.shared.store {
        HOLDERS.lock().unwrap().insert(server.holder.to_string(), place);
    }
    Some(state)
}

fn place(dir: &Path, server: &str) -> Place {
    let mut places = PLACES.lock().unwrap();
    if let Some((_, place)) = places.iter().find(|(known, _)| known == dir) {
        return place.clone();
    }
    let url = Postgres::at(server).database();
    let place = at(&url);
    places.push((dir.to_owned(), place.clone()));
    place
}

fn at(url: &str) -> Place {
    let key = "07".repeat(32);
    let life = Duration::from_secs(60);
    Place::Database(Box::new(SharedPlace::new(&url.into(), &key.into(), life, life / 4).unwrap()))
}

/// A database without tables; `None`, with a word, where there is no server.
pub(super) fn database() -> Option<secrecy::SecretString> {
    Postgres::start().map(|server| server.database().into())
}

/// Takes the lease of a project of these tests.
pub(super) fn hold(project: &ProjectState) {
    let Store::Server(server) = &project.state.shared.store else { return };
    let Some(place) = HOLDERS.lock().unwrap().get(&*server.holder).cloned() else { return };
    if project.tenure().is_some() {
        return;
    }
    let mut leases = Leases::of(&project.state, &place, "test").unwrap();
    leases.seize(&project.claim());
}

fn name_of(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

#[test]
fn of_many_that_open_an_empty_database_at_once_one_migrates_it() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database();
    let place = at(&url);

    let opened: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| State::open_at(&place).map(drop))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });

    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    let versions = server.sql(name_of(&url), "SELECT count(*), max(version) FROM schema_version");
    assert_eq!(versions, format!("{KNOWN}|{KNOWN}"));
}

/// It went on writing with what it knew, however old that was.
#[test]
fn one_that_is_older_than_the_tables_gives_back_what_it_holds_once_nothing_is_under_way() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database();
    let (place, database) = (at(&url), name_of(&url));
    let state = State::open_at(&place).unwrap();
    let project = state.project("api.example.com", "P1", "default");
    let claims = [project.claim()];
    let mut leases = Leases::of(&state, &place, "test").unwrap();
    let is_mine = |leases: &mut Leases, is_busy: bool| {
        leases.turn(&claims, &|_| is_busy).unwrap().iter().any(|holding| holding.is_mine)
    };
    let others = || server.sql(database, "SELECT count(*) FROM replica");
    assert!(is_mine(&mut leases, false) && project.mark_known().is_ok());

    server.sql(database, "INSERT INTO schema_version (version) VALUES (1000)");
    let while_busy = is_mine(&mut leases, true);
    assert!(project.tenure().is_none() && project.mark_known().is_err(), "nothing more is begun");
    let after = is_mine(&mut leases, false);

    assert_eq!((while_busy, after, leases.newer()), (true, false, Some(1000)));
    assert_eq!(others(), "0", "those of the newer release share everything among themselves");
    assert!(State::open_at(&place).is_err() && State::look_at(&place).is_ok(), "it may look");
    // As after a restore.
    server.sql(database, "DELETE FROM schema_version WHERE version = 1000");
    assert!(is_mine(&mut leases, false) && leases.newer().is_none());
    assert_eq!(others(), "1");
}

/// It was read anew each time, several times in a pass.
#[test]
fn what_is_owned_is_kept_by_whoever_holds_the_project_and_by_nobody_else() {
    let Some(server) = Postgres::start() else { return };
    let place = at(&server.database());
    let replica = |name: &str| {
        let state = State::open_at(&place).unwrap();
        (state.project("api.example.com", "P1", "default"), Leases::of(&state, &place, name).unwrap())
    };
    let ((here, mut leases), (there, mut their_leases)) = (replica("here"), replica("there"));
    let claim = here.claim();
    let key = |name: &str| Key::new("roles", name);
    let own = |name: &str| here.own(&[(key(name), Owned::default())]);
    let names = |project: &ProjectState| project.inventory().unwrap().keys().map(Key::id).collect::<Vec<_>>();
    let is_kept = |project: &ProjectState| {
        let before = project.inventory().unwrap();
        Arc::ptr_eq(&before, &project.ledger().unwrap().owned) && Arc::ptr_eq(&before, &project.inventory().unwrap())
    };

    leases.seize(&claim);
    own("a").unwrap();
    assert!(is_kept(&here));
    assert!(!is_kept(&there), "the other may write at any time");
    own("b").unwrap();
    assert_eq!(
        (names(&here), names(&there)),
        (vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    let before = here.inventory().unwrap();
    here.mark_known().unwrap();
    assert!(Arc::ptr_eq(&before, &here.inventory().unwrap()), "that wrote nothing of it");

    leases.give_all_back(std::slice::from_ref(&claim)).unwrap();
    their_leases.seize(&claim);
    there.disown(&[key("a")]).unwrap();
    assert!(own("c").is_err(), "it is not held");
    assert_eq!(names(&here), ["b"]);
    their_leases.give_all_back(std::slice::from_ref(&claim)).unwrap();
    leases.seize(&claim);
    assert_eq!((names(&here), is_kept(&here)), (vec!["b".to_owned()], true));
}

/// What is no matter of files is true of both.
#[test]
fn the_same_suite_runs_on_a_server() {
    let Some(server) = Postgres::start() else { return };
    // Of a disk, its files and its clock, or of what only the one writer of a directory does.
    let of_files = [
        "state::sweep",
        "state::clock",
        "state::together",
        "state::testing",
        "state::copy",
        "state::open",
        "rows_of_kinds_that_this_release_does_not_know",
        "only_this_user",
        "a_second_writer",
        "a_directory_that_cannot",
        "an_empty_schema",
        "an_older_state",
        "a_newer_schema",
        "a_damaged_database",
        "a_reader_",
        "a_full_disk",
        "a_damaged_key",
        "history_is_bounded",
        "a_year_of_passes",
        "intents_that_were_not_settled",
        "fingerprints_depend_on_the_key",
        "what_is_owned_is_read_again",
    ];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("state::").args(["--test-threads", "2"]).env(SERVER, server.url());
    for module in of_files {
        command.args(["--skip", module]);
    }

    let ran = command.output().unwrap();

    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(!said.contains("running 0 tests"), "{said}");
}
