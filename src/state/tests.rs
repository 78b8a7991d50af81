//! The state on real files.

use super::*;
use crate::resource::Action;
use crate::resource::Key;
use rusqlite::OpenFlags;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::time::SystemTime;
use tempfile::TempDir;

fn of(state: &State) -> ProjectState {
    state.project("api.descope.com", "P1", "default")
}

fn role(name: &str) -> Key {
    Key::new("roles", name)
}

fn plain(key: &Key) -> (Key, Owned) {
    (key.clone(), Owned::default())
}

fn intent(action: Action, key: &Key) -> Intent {
    Intent { key: key.clone(), action, from: None, digest: [7; 32] }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn message(error: &dyn std::error::Error, dir: &Path) -> String {
    error.to_string().replace(&dir.display().to_string(), "DIR")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn everything_noted_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let created = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let owned = Owned { created_at: Some(created), protected: true, cascade_delete: false };
    let tenant_role = Key::in_tenant("roles", "acme", "Editor");
    let value = json!({ "secret": "s3cret" });
    let digest = {
        let state = State::open(dir.path()).unwrap();
        let project = of(&state);
        assert!(!project.is_known().unwrap());
        project.mark_known().unwrap();
        project.own(&[(tenant_role.clone(), owned), plain(&role("Editor"))]).unwrap();
        project.set_sent(&[(role("Editor"), "secret", project.fingerprint(&value))]).unwrap();
        state.set_limiter_memory("api.descope.com", "{\"limit\":90}").unwrap();
        project.fingerprint(&value)
    };

    let state = State::open(dir.path()).unwrap();
    let project = of(&state);

    assert!(project.is_known().unwrap());
    assert!(!state.was_reset());
    let inventory = project.inventory().unwrap();
    assert_eq!(inventory.len(), 2);
    assert_eq!((inventory[&tenant_role], inventory[&role("Editor")]), (owned, Owned::default()));
    assert_eq!(project.fingerprint(&value), digest);
    assert_eq!(project.sent_digest(&role("Editor"), "secret").unwrap(), Some(digest));
    assert_eq!(project.sent_digest(&role("Editor"), "other").unwrap(), None);
    assert_eq!(state.limiter_memory("api.descope.com").unwrap().as_deref(), Some("{\"limit\":90}"));
    assert_eq!(state.limiter_memory("elsewhere").unwrap(), None);
}

#[test]
fn each_host_project_and_owner_has_an_inventory_of_its_own() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();

    of(&state).own(&[plain(&role("Editor"))]).unwrap();

    for other in [
        state.project("h", "P1", "default"),
        state.project("api.descope.com", "P2", "default"),
        state.project("api.descope.com", "P1", "other"),
    ] {
        assert!(other.inventory().unwrap().is_empty());
        other.disown(&[role("Editor")]).unwrap();
    }
    assert_eq!(of(&state).inventory().unwrap().len(), 1);
}

#[test]
fn owning_again_keeps_the_time_of_creation_and_takes_over_the_rest() {
    let dir = TempDir::new().unwrap();
    let project = of(&State::open(dir.path()).unwrap());
    let created = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    project.own(&[(role("a"), Owned { created_at: created, ..Owned::default() })]).unwrap();

    project.own(&[(role("a"), Owned { created_at: None, protected: true, cascade_delete: true })]).unwrap();

    let expected = Owned { created_at: created, protected: true, cascade_delete: true };
    assert_eq!(project.inventory().unwrap()[&role("a")], expected);
}

#[test]
fn disowning_forgets_what_was_sent() {
    let dir = TempDir::new().unwrap();
    let project = of(&State::open(dir.path()).unwrap());
    project.own(&[plain(&role("a"))]).unwrap();
    project.set_sent(&[(role("a"), "secret", [1; 32])]).unwrap();

    project.disown(&[role("a")]).unwrap();

    assert!(project.inventory().unwrap().is_empty());
    assert_eq!(project.sent_digest(&role("a"), "secret").unwrap(), None);
}

#[test]
fn a_rename_takes_along_what_is_known_and_is_remembered() {
    let dir = TempDir::new().unwrap();
    let project = of(&State::open(dir.path()).unwrap());
    let owned = Owned { protected: true, ..Owned::default() };
    project.own(&[(role("old"), owned)]).unwrap();
    project.set_sent(&[(role("old"), "secret", [1; 32])]).unwrap();

    project.renamed(&role("old"), &role("new")).unwrap();

    assert_eq!(project.inventory().unwrap().into_iter().collect::<Vec<_>>(), [(role("new"), owned)]);
    assert_eq!(project.sent_digest(&role("new"), "secret").unwrap(), Some([1; 32]));
    assert!(project.was_renamed(&role("old"), &role("new")).unwrap());
    assert!(!project.was_renamed(&role("new"), &role("old")).unwrap());
    let in_tenant = |name| Key::in_tenant("roles", "acme", name);
    assert!(!project.was_renamed(&in_tenant("old"), &in_tenant("new")).unwrap());
}

#[test]
fn intents_that_were_not_settled_are_open_after_a_kill() {
    let dir = TempDir::new().unwrap();
    let create = intent(Action::Create, &role("new"));
    let rename = Intent { from: Some("old".into()), ..intent(Action::Rename, &role("newer")) };
    let delete = intent(Action::Delete, &Key::new("tenants", "gone"));
    let state = State::open(dir.path()).unwrap();
    let ids = of(&state).begin(&[create.clone(), rename.clone(), delete]).unwrap();
    of(&state).settle(&ids[2..], Settled::Done, &[]).unwrap();
    // What a kill leaves: nothing is closed, the log is not folded in.
    let copy = TempDir::new().unwrap();
    for name in names(dir.path()) {
        fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
    }

    let open = of(&State::open(copy.path()).unwrap()).open_intents().unwrap();

    let open: Vec<_> = open.into_iter().map(|open| (open.id, open.intent)).collect();
    assert_eq!(open, [(ids[0], create), (ids[1], rename)]);
}

#[test]
fn a_settled_call_changes_the_inventory_only_if_it_took_effect() {
    let dir = TempDir::new().unwrap();
    let project = of(&State::open(dir.path()).unwrap());
    project.own(&[plain(&role("old")), plain(&role("gone")), plain(&role("stays"))]).unwrap();
    let rename = Intent { from: Some("old".into()), ..intent(Action::Rename, &role("newer")) };
    let done = [intent(Action::Create, &role("new")), rename, intent(Action::Delete, &role("gone"))];
    let not_done = [intent(Action::Create, &role("never")), intent(Action::Delete, &role("stays"))];
    let done = project.begin(&done).unwrap();
    let not_done = project.begin(&not_done).unwrap();

    project.settle(&done, Settled::Done, &[]).unwrap();
    project.settle(&done, Settled::Done, &[]).unwrap();
    project.settle(&not_done, Settled::NotDone, &[]).unwrap();

    let inventory = project.inventory().unwrap();
    assert_eq!(inventory.keys().map(|key| &*key.name).collect::<Vec<_>>(), ["new", "newer", "stays"]);
    let age = inventory[&role("new")].created_at.unwrap().elapsed().unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
    assert!(project.was_renamed(&role("old"), &role("newer")).unwrap());
    assert!(project.open_intents().unwrap().is_empty());
}

#[test]
fn rows_of_kinds_that_this_release_does_not_know_are_skipped_and_kept() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    project.own(&[plain(&role("a"))]).unwrap();
    let sql =
        "INSERT INTO owned SELECT project, 'holograms', tenant, name, created_at, protected, cascade_delete FROM owned";
    state.connection().execute(sql, []).unwrap();

    assert_eq!(project.inventory().unwrap().len(), 1);
    project.disown(&[role("a")]).unwrap();

    let rows: i64 = state.connection().query_row("SELECT count(*) FROM owned", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn only_this_user_can_read_the_files() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path().join("deep/state");

    let state = State::open(&dir).unwrap();
    of(&state).mark_known().unwrap();

    assert_eq!(mode(&dir), 0o700);
    assert_eq!(names(&dir), ["fingerprint.key", "lock", "state.db", "state.db-shm", "state.db-wal"],);
    for name in names(&dir) {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_second_writer_is_told_to_ask_the_first() {
    let dir = TempDir::new().unwrap();
    let first = State::open(dir.path()).unwrap();

    let error = State::open(dir.path()).unwrap_err();

    assert_eq!(
        message(&error, dir.path()),
        "another descope-gitops uses the state directory DIR; ask the running daemon to do it, or stop it first"
    );
    drop(first);
    State::open(dir.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_or_written_is_one_clear_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();

    let error = State::open(&file.join("state")).unwrap_err();
    assert_eq!(
        message(&error, dir.path()),
        "cannot create the state directory DIR/file/state; create it for this user, or name another with --state"
    );

    // A directory in the place of the lock stands for one that this user may not write: root may write all.
    fs::create_dir_all(dir.path().join("state/lock")).unwrap();
    let error = State::open(&dir.path().join("state")).unwrap_err();
    assert_eq!(
        message(&error, dir.path()),
        "cannot write DIR/state/lock; give this user write access to the state directory, or name another with --state"
    );
}

#[test]
fn an_empty_schema_is_migrated() {
    let dir = TempDir::new().unwrap();
    let old = Connection::open(dir.path().join(DATABASE)).unwrap();
    old.execute_batch("PRAGMA application_id = 1; PRAGMA user_version = 0;").unwrap();
    drop(old);

    let state = State::open(dir.path()).unwrap();

    assert!(!state.was_reset());
    assert_eq!(schema::version(&state.connection()).unwrap(), schema::VERSION);
    of(&state).mark_known().unwrap();
}

#[test]
fn a_newer_schema_is_an_error_and_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(DATABASE);
    drop(State::open(dir.path()).unwrap());
    let newer = Connection::open(&path).unwrap();
    newer.execute_batch("CREATE TABLE later (a); PRAGMA user_version = 99;").unwrap();
    drop(newer);
    let before = fs::read(&path).unwrap();
    let expected = format!(
        "DIR/state.db has version 99, this descope-gitops knows up to {}; run the release that wrote it, or a newer one",
        schema::VERSION
    );

    let writing = State::open(dir.path()).unwrap_err();
    let reading = State::open_read_only(dir.path()).unwrap_err();

    assert_eq!(message(&writing, dir.path()), expected);
    assert_eq!(message(&reading, dir.path()), expected);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_damaged_database_is_moved_aside_and_a_fresh_one_begun() {
    let whole = TempDir::new().unwrap();
    let state = State::open(whole.path()).unwrap();
    let rows: Vec<_> = (0..500).map(|n| plain(&role(&format!("role-{n}")))).collect();
    of(&state).own(&rows).unwrap();
    drop(state);
    let whole = fs::read(whole.path().join(DATABASE)).unwrap();
    let mut scratched = whole.clone();
    for byte in scratched.iter_mut().skip(4096).step_by(7) {
        *byte = 0xA5;
    }
    let cases: [(&str, &[u8]); 5] = [
        ("garbage", b"this is no database, and has never been one; it is only long enough to look like something"),
        ("empty", b""),
        ("cut in a page", &whole[..whole.len() - 1000]),
        ("cut in half", &whole[..whole.len() / 2 / 4096 * 4096]),
        ("scratched", &scratched),
    ];
    for (case, bytes) in cases {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(DATABASE), bytes).unwrap();

        let state = State::open(dir.path()).unwrap();

        assert!(state.was_reset(), "{case}");
        assert!(of(&state).inventory().unwrap().is_empty(), "{case}");
        of(&state).mark_known().unwrap();
        let aside = names(dir.path()).into_iter().find(|name| name.starts_with("state.db.corrupt-")).unwrap();
        assert_eq!(fs::read(dir.path().join(aside)).unwrap(), bytes, "{case}");
        drop(state);
        assert!(!State::open(dir.path()).unwrap().was_reset(), "{case}");
    }
}

#[test]
fn a_reader_sees_what_the_daemon_wrote_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let daemon = State::open(dir.path()).unwrap();
    of(&daemon).own(&[plain(&role("a"))]).unwrap();
    let before = names(dir.path());

    let reader = State::open_read_only(dir.path()).unwrap().unwrap();

    assert_eq!(of(&reader).inventory().unwrap().len(), 1);
    of(&daemon).own(&[plain(&role("b"))]).unwrap();
    assert_eq!(of(&reader).inventory().unwrap().len(), 2);
    assert!(matches!(of(&reader).mark_known(), Err(Error::ReadOnly(_))));
    let value = json!("s3cret");
    assert_eq!(reader.fingerprint(&value), daemon.fingerprint(&value));
    drop(reader);
    assert_eq!(names(dir.path()), before);
    of(&daemon).mark_known().unwrap();
}

#[test]
fn a_reader_without_a_daemon_makes_no_file() {
    let dir = TempDir::new().unwrap();
    let strange = dir.path().join("a b?#%20");
    assert!(State::open_read_only(&strange).unwrap().is_none());
    assert!(!strange.exists());
    let state = State::open(&strange).unwrap();
    of(&state).own(&[plain(&role("a"))]).unwrap();
    drop(state);
    let before = names(&strange);

    let reader = State::open_read_only(&strange).unwrap().unwrap();

    assert_eq!(of(&reader).inventory().unwrap().len(), 1);
    assert_eq!(names(&strange), before);
    assert_eq!(before, ["fingerprint.key", "lock", "state.db"]);
}

#[test]
fn a_reader_says_that_a_database_is_damaged_and_leaves_it() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(DATABASE), [b'x'; 5000]).unwrap();

    let error = State::open_read_only(dir.path()).unwrap_err();

    assert_eq!(
        message(&error, dir.path()),
        "DIR/state.db is damaged; the daemon moves it aside at its next start and begins afresh"
    );
    assert_eq!(names(dir.path()), ["state.db"]);
}

#[test]
fn a_full_disk_is_told_apart_and_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    project.own(&[plain(&role("a"))]).unwrap();
    state.connection().query_row("PRAGMA max_page_count = 1", [], |_| Ok(())).unwrap();
    let rows: Vec<_> = (0..5000).map(|n| plain(&role(&format!("role-{n}")))).collect();

    let error = project.own(&rows).unwrap_err();

    assert!(matches!(error, Error::Full(_)), "{error:?}");
    assert_eq!(error.to_string(), "the disk of the state directory is full");
    assert_eq!(project.inventory().unwrap().len(), 1);
    state.connection().query_row("PRAGMA max_page_count = 100000", [], |_| Ok(())).unwrap();
    project.own(&rows).unwrap();
    assert_eq!(project.inventory().unwrap().len(), 5001);
}

#[test]
fn fingerprints_depend_on_the_key_and_not_on_the_order_of_fields() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let state = State::open(one.path()).unwrap();
    let a: Value = serde_json::from_str(r#"{ "a": 1, "b": { "c": 2, "d": 3 } }"#).unwrap();
    let b: Value = serde_json::from_str(r#"{ "b": { "d": 3, "c": 2 }, "a": 1 }"#).unwrap();

    assert_eq!(state.fingerprint(&a), state.fingerprint(&b));
    assert_ne!(state.fingerprint(&a), state.fingerprint(&json!({ "a": 1 })));
    assert_ne!(state.fingerprint(&a), State::open(other.path()).unwrap().fingerprint(&a));
}

#[test]
fn a_damaged_key_is_replaced() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(KEY), "short").unwrap();

    let first = State::open(dir.path()).unwrap();
    let digest = first.fingerprint(&json!("s3cret"));
    drop(first);

    assert_eq!(State::open(dir.path()).unwrap().fingerprint(&json!("s3cret")), digest);
    assert_eq!(mode(&dir.path().join(KEY)), 0o600);
    assert_eq!(names(dir.path()), ["fingerprint.key", "lock", "state.db"]);
}

#[test]
fn writers_from_many_threads_do_not_disturb_one_another() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();

    std::thread::scope(|scope| {
        for thread in 0..4 {
            let project = of(&state);
            scope.spawn(move || {
                for n in 0..20 {
                    let ids = project.begin(&[intent(Action::Create, &role(&format!("{thread}-{n}")))]).unwrap();
                    project.settle(&ids, Settled::Done, &[]).unwrap();
                }
            });
        }
    });

    assert_eq!(of(&state).inventory().unwrap().len(), 80);
}

#[test]
fn a_reader_that_holds_a_snapshot_does_not_stop_the_daemon() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    of(&state).own(&[plain(&role("a"))]).unwrap();
    let reader = Connection::open_with_flags(dir.path().join(DATABASE), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM owned;").unwrap();

    of(&state).own(&[plain(&role("b"))]).unwrap();

    assert_eq!(of(&state).inventory().unwrap().len(), 2);
}
