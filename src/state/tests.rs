//! The state on real files.

use super::*;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::MAIN;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use serde_json::json;
use std::collections::BTreeMap;
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

pub(super) fn intent(action: Action, key: &Key) -> Intent {
    let occasion = Occasion {
        trigger: "watch".to_owned(),
        revision: "abc".to_owned(),
        commit: Some("1234567".to_owned()),
        place: Some(("roles.yaml".to_owned(), 3)),
        fields: r#"[{"path":"description","from":null,"to":"x"}]"#.to_owned(),
        attempt: 2,
    };
    Intent {
        key: key.clone(),
        part: MAIN,
        action,
        from: None,
        server_id: None,
        digest: [7; 32],
        seen: u64::MAX,
        protected: false,
        cascade_delete: false,
        approval: None,
        occasion,
    }
}

/// What goes to the disk together with others, by itself.
pub(super) fn wait<T>(write: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(write)
}

fn ending(settled: Settled) -> Ending {
    Ending::of(settled, "so it was", Duration::from_millis(5))
}

/// `action id: outcome`, with the message where there is one.
fn trail(state: &State) -> Vec<String> {
    let rows = state.audit(&AuditFilter::default()).unwrap();
    rows.into_iter().map(|row| format!("{} {}: {} {}", row.action, row.id, row.outcome, row.message)).collect()
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
        project.set_sent(&[(role("Editor"), "secret".into(), project.fingerprint(&value))]).unwrap();
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
    project.set_sent(&[(role("a"), "secret".into(), [1; 32])]).unwrap();

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
    project.set_sent(&[(role("old"), "secret".into(), [1; 32])]).unwrap();

    let rename = Intent { from: Some("old".into()), protected: true, ..intent(Action::Rename, &role("new")) };
    let ids = wait(project.begin([rename])).unwrap();
    wait(project.settle(ids.clone(), ending(Settled::Done))).unwrap();

    assert_eq!(*project.inventory().unwrap(), [(role("new"), owned)].into());
    assert_eq!(project.sent_digest(&role("new"), "secret").unwrap(), Some([1; 32]));
    let (old, new) = (role("old"), role("new"));
    assert!(!project.was_renamed(&old, &new).unwrap(), "answered is not done");
    let pair = [(old.clone(), new.clone())];
    project.note_renames(&pair, &[]).unwrap();
    assert!(project.was_renamed(&old, &new).unwrap());
    assert!(!project.was_renamed(&new, &old).unwrap());
    project.note_renames(&[], &pair).unwrap();
    assert!(project.was_renamed(&old, &new).unwrap(), "whoever has the old name by now is somebody else");
    let in_tenant = |name| Key::in_tenant("roles", "acme", name);
    assert!(!project.was_renamed(&in_tenant("old"), &in_tenant("new")).unwrap());
}

/// A call whose resource was renamed or deleted before anybody looked what became of it was open for good.
#[test]
fn a_rename_or_a_delete_settles_what_is_open_under_the_key_that_is_left() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    let rename = |old: &str, new: &str| Intent { from: Some(old.into()), ..intent(Action::Rename, &role(new)) };
    let in_tenant = |tenant: &str| intent(Action::Update, &Key::in_tenant("roles", tenant, "r"));
    let open = [
        intent(Action::Create, &role("a")),
        rename("a", "b"),
        intent(Action::Update, &role("b")),
        intent(Action::Delete, &role("b")),
        rename("b", "elsewhere"),
        in_tenant("t"),
        in_tenant("u"),
        intent(Action::Update, &role("c")),
        intent(Action::Update, &Key::new("permissions", "b")),
    ];
    let open = wait(project.begin(open)).unwrap();
    wait(project.note_unclear(&open[2..3], ending(Settled::NotDone))).unwrap();

    let done = [rename("b", "c"), intent(Action::Delete, &Key::new("tenants", "t"))];
    let done = wait(project.begin(done)).unwrap();
    let later = wait(project.begin([intent(Action::Update, &role("b"))])).unwrap();
    wait(project.settle(done, ending(Settled::Done))).unwrap();

    let left: Vec<IntentId> = project.open_intents().unwrap().into_iter().map(|open| open.id).collect();
    assert_eq!(left, [open[6], open[7], open[8], later[0]], "others, or begun later");
    assert!(project.inventory().unwrap().keys().eq([&role("c")]), "created, renamed, and renamed again");
    let mut rows = trail(&state);
    rows.sort();
    let lost = "its answer was lost, and the resource was renamed or deleted since: nobody can tell";
    let found = "its answer was lost; a later call found it so";
    let expected = [
        format!("create a: ok {found}"),
        format!("delete b: failed {found}"),
        "delete t: ok so it was".to_owned(),
        format!("rename b: ok {found}"),
        "rename c: ok so it was".to_owned(),
        format!("rename elsewhere: failed {found}"),
        format!("update b: unknown {lost}"),
        format!("update t/r: unknown {lost}"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_rename_that_was_answered_and_not_done_is_taken_back() {
    let dir = TempDir::new().unwrap();
    let project = of(&State::open(dir.path()).unwrap());
    let (old, new) = (role("old"), role("new"));
    let pair = [(old.clone(), new.clone())];
    project.own(&[plain(&old)]).unwrap();
    project.set_sent(&[(old.clone(), "secret".into(), [1; 32])]).unwrap();
    let rename = Intent { from: Some("old".into()), ..intent(Action::Rename, &new) };
    let ids = wait(project.begin([rename])).unwrap();
    wait(project.settle(ids, ending(Settled::Done))).unwrap();

    project.note_renames(&[], &pair).unwrap();

    assert!(!project.was_renamed(&old, &new).unwrap());
    assert!(project.inventory().unwrap().keys().eq([&old]));
    assert_eq!(project.sent_digest(&old, "secret").unwrap(), Some([1; 32]));
}

#[test]
fn intents_that_were_not_settled_are_open_after_a_kill() {
    let dir = TempDir::new().unwrap();
    let create = intent(Action::Create, &role("new"));
    let rename = Intent { from: Some("old".into()), ..intent(Action::Rename, &role("newer")) };
    let delete = intent(Action::Delete, &Key::new("tenants", "gone"));
    let state = State::open(dir.path()).unwrap();
    let ids = wait(of(&state).begin([create.clone(), rename.clone(), delete])).unwrap();
    wait(of(&state).settle(&ids[2..], ending(Settled::Done))).unwrap();
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
    let done = wait(project.begin(done.clone())).unwrap();
    let not_done = wait(project.begin(not_done.clone())).unwrap();

    wait(project.settle(done.clone(), ending(Settled::Done))).unwrap();
    wait(project.settle(done.clone(), ending(Settled::Done))).unwrap();
    wait(project.settle(not_done.clone(), ending(Settled::NotDone))).unwrap();

    let inventory = project.inventory().unwrap();
    assert_eq!(inventory.keys().map(|key| &*key.name).collect::<Vec<_>>(), ["new", "newer", "stays"]);
    let age = inventory[&role("new")].created_at.unwrap().elapsed().unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
    project.note_renames(&[(role("old"), role("newer"))], &[]).unwrap();
    assert!(project.was_renamed(&role("old"), &role("newer")).unwrap());
    assert!(project.open_intents().unwrap().is_empty());
}

#[test]
fn what_is_created_or_renamed_is_owned_as_its_call_declared_it() {
    let dir = TempDir::new().unwrap();
    let project = of(&State::open(dir.path()).unwrap());
    project.own(&[plain(&role("old")), (role("was"), Owned { protected: true, ..Owned::default() })]).unwrap();
    let declared = |action, name| Intent { protected: true, cascade_delete: true, ..intent(action, &role(name)) };
    let rename = Intent { from: Some("old".into()), ..declared(Action::Rename, "newer") };
    let again = intent(Action::Create, &role("was"));
    let ids = wait(project.begin([declared(Action::Create, "new"), rename, again])).unwrap();

    wait(
        project.settle(
            ids.clone(),
            Ending { sent: vec![(role("new"), "secret".into(), [1; 32])], ..ending(Settled::Done) },
        ),
    )
    .unwrap();

    let inventory = project.inventory().unwrap();
    let flags = |name| (inventory[&role(name)].protected, inventory[&role(name)].cascade_delete);
    assert_eq!((flags("new"), flags("newer")), ((true, true), (true, true)));
    assert_eq!(flags("was"), (true, false), "what was declared meanwhile stays");
    assert_eq!(project.sent_digest(&role("new"), "secret").unwrap(), Some([1; 32]));
}

/// A power cut between the two lost the count, or the ownership.
#[test]
fn a_delete_is_counted_with_its_outcome_unless_it_was_approved() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    let deletes = ["a", "b", "c"].map(|name| intent(Action::Delete, &role(name)));
    project.own(&deletes.clone().map(|delete| plain(&delete.key))).unwrap();
    let [a, b, c] = deletes;
    let ids = wait(project.begin([a, b.clone(), Intent { approval: Some("digest".into()), ..c }])).unwrap();
    // Of another kind: the count of roles begins anew with an approval of theirs.
    project.approve(&BTreeMap::from([("digest".to_owned(), "tenants".into())]), Duration::from_secs(60)).unwrap();
    let counted = || project.ledger().unwrap().lately["roles"].deleted;

    wait(project.settle(&ids[..1], ending(Settled::Done))).unwrap();
    assert_eq!((counted(), project.inventory().unwrap().len()), (1, 2));
    let open = project.open_intents().unwrap().remove(0);
    assert!(project.settle_open(&open, &ending(Settled::Done)).unwrap());
    assert!(!project.settle_open(&open, &ending(Settled::Done)).unwrap(), "once");
    assert_eq!((counted(), project.inventory().unwrap().len()), (2, 1));
    wait(project.settle(&ids[2..], ending(Settled::Done))).unwrap();
    assert_eq!((counted(), project.inventory().unwrap().len()), (2, 0), "approved");
    assert!(project.approved().unwrap().is_empty(), "once");
    assert_eq!(trail(&state), ["delete a: ok so it was", "delete b: ok so it was", "delete c: ok so it was"]);
}

#[test]
fn a_call_has_one_row_whose_outcome_becomes_known_late_and_which_says_why_it_was_sent() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    let (a, b) = (intent(Action::Create, &role("a")), intent(Action::Create, &role("b")));
    let first = wait(project.begin([a.clone(), b.clone()])).unwrap();
    wait(project.note_unclear(first.clone(), ending(Settled::NotDone))).unwrap();
    wait(project.note_unclear(first.clone(), ending(Settled::NotDone))).unwrap();
    assert_eq!(trail(&state), ["create a: failed so it was", "create b: failed so it was"]);

    project.landed(&[(&a.key, MAIN, Action::Create)], "it is there").unwrap();
    let second = wait(project.begin([b.clone()])).unwrap();
    wait(project.settle(second.clone(), ending(Settled::Done))).unwrap();

    assert!(project.open_intents().unwrap().is_empty(), "the first try of b is history");
    assert_eq!(trail(&state), ["create a: ok it is there", "create b: failed so it was", "create b: ok so it was"]);
    let row = state.audit(&AuditFilter::default()).unwrap().remove(0);
    let place = row.file.as_deref().zip(row.line);
    assert_eq!((&*row.trigger, &*row.revision, row.commit.as_deref()), ("watch", "abc", Some("1234567")));
    assert_eq!((place, row.fields, row.attempt), (Some(("roles.yaml", 3)), b.occasion.fields, 2));
}

#[test]
fn the_row_of_a_refused_batch_gives_way_to_that_of_the_smaller_call() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    let both = [intent(Action::Create, &role("a")), intent(Action::Create, &role("b"))];
    let ids = wait(project.begin(both.clone())).unwrap();

    wait(project.settle(ids.clone(), ending(Settled::Apart))).unwrap();
    assert_eq!(trail(&state), ["create a: failed so it was", "create b: failed so it was"]);
    let ids = wait(project.begin(&both[..1])).unwrap();
    wait(project.settle(ids.clone(), ending(Settled::Done))).unwrap();

    assert_eq!(trail(&state), ["create b: failed so it was", "create a: ok so it was"]);
}

/// A part of it took effect, and was told as failed.
#[test]
fn what_became_of_each_in_a_refused_batch_is_told_one_by_one() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    let all = ["done", "alone", "left"].map(|name| intent(Action::Create, &role(name)));
    let ids = wait(project.begin(all.clone())).unwrap();
    wait(project.note_unclear(ids.clone(), ending(Settled::Apart))).unwrap();
    assert_eq!(project.open_intents().unwrap().len(), 3, "nobody knows yet");

    project.landed(&[(&all[0].key, MAIN, Action::Create)], "carried out").unwrap();
    let halves = wait(project.begin(&all[1..])).unwrap();
    wait(project.note_unclear(halves.clone(), ending(Settled::Apart))).unwrap();
    let single = wait(project.begin(&all[1..2])).unwrap();
    wait(project.settle(single.clone(), ending(Settled::NotDone))).unwrap();
    project.close_apart(&all[1..2]).unwrap();

    let open = project.open_intents().unwrap();
    assert!(open.iter().all(|open| open.intent == all[2]), "{open:?}");
    // Found by a later look: one row for all its calls.
    assert!(project.settle_open(open.last().unwrap(), &ending(Settled::Done)).unwrap());
    assert!(project.open_intents().unwrap().is_empty());
    let expected = ["create done: ok carried out", "create left: ok so it was", "create alone: failed so it was"];
    assert_eq!(trail(&state), expected);
    let created: Vec<String> = project.inventory().unwrap().keys().map(|key| key.name.to_string()).collect();
    assert_eq!(created, ["done", "left"]);
}

/// An outage left no trace.
#[test]
fn what_could_not_be_sent_has_one_row_whatever_the_tries() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    let attempt = |attempt: u32, action: Action, settled: Settled| {
        let usual = intent(action, &role("a"));
        let intent = Intent { occasion: Occasion { attempt, ..usual.occasion.clone() }, ..usual };
        let ids = wait(project.begin([intent.clone()])).unwrap();
        wait(project.settle(ids.clone(), ending(settled))).unwrap();
    };
    let told = || -> Vec<(u32, String)> {
        let rows = state.audit(&AuditFilter::default()).unwrap();
        rows.into_iter().map(|row| (row.attempt, format!("{} {}: {}", row.action, row.outcome, row.message))).collect()
    };

    attempt(1, Action::Update, Settled::NotDone);
    attempt(2, Action::Update, Settled::NotSent);
    attempt(3, Action::Update, Settled::NotSent);
    attempt(1, Action::Delete, Settled::NotSent);
    let row = |attempt: u32, text: &str| (attempt, text.to_owned());
    let first = row(1, "update failed: so it was");
    let delete = row(1, "delete failed: not sent: so it was");
    assert_eq!(told(), [first.clone(), row(3, "update failed: not sent: so it was"), delete.clone()]);
    project.not_tried_apart(&[&role("a")]).unwrap();
    attempt(4, Action::Update, Settled::Done);

    assert_eq!(told(), [first, delete, row(4, "update ok: so it was")]);
    assert!(project.open_intents().unwrap().is_empty());
}

#[test]
fn calls_of_one_part_say_nothing_of_another_and_what_was_not_sent_leaves_no_trace() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    let tenant = Key::new("tenants", "t");
    let main = intent(Action::Update, &tenant);
    let roles = Intent { part: "defaultRoles", ..main.clone() };
    let unclear = wait(project.begin([main.clone()])).unwrap();
    wait(project.note_unclear(unclear.clone(), ending(Settled::NotDone))).unwrap();

    let ids = wait(project.begin([roles, main.clone()])).unwrap();
    wait(project.settle(&ids[..1], ending(Settled::Done))).unwrap();
    wait(project.drop_calls(&ids[1..])).unwrap();

    let open: Vec<Intent> = project.open_intents().unwrap().into_iter().map(|open| open.intent).collect();
    assert_eq!(open, [main]);
    assert_eq!(trail(&state), ["update t: failed so it was", "update t: ok so it was"]);
}

#[test]
fn what_is_declared_while_a_call_is_under_way_counts() {
    let dir = TempDir::new().unwrap();
    let project = of(&State::open(dir.path()).unwrap());
    let ids = wait(project.begin([intent(Action::Create, &role("a"))])).unwrap();

    project.redeclare_calls(&[(role("a"), OwnedAs { protected: true, ..OwnedAs::default() })]).unwrap();
    wait(project.settle(ids.clone(), ending(Settled::Done))).unwrap();

    assert!(project.inventory().unwrap()[&role("a")].protected);
}

#[test]
fn rows_of_kinds_that_this_release_does_not_know_are_skipped_and_kept() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    project.own(&[plain(&role("a"))]).unwrap();
    let sql =
        "INSERT INTO owned SELECT project, 'holograms', tenant, name, created_at, protected, cascade_delete, NULL, NULL
               FROM owned";
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

/// As a power cut left it just before the release that notes more.
#[test]
fn an_older_state_is_brought_up_to_date_with_what_was_under_way() {
    let dir = TempDir::new().unwrap();
    let mut old = Connection::open(dir.path().join(DATABASE)).unwrap();
    schema::migrate_to(&mut old, 2).unwrap();
    old.execute_batch(
        "INSERT INTO project (id, host, project_id, owner, known) VALUES (1, 'api.descope.com', 'P1', 'default', 1);
         INSERT INTO owned VALUES (1, 'roles', '', 'mine', 5, 1, 0);
         INSERT INTO intent (project, kind, tenant, name, action, digest, begun_at)
             VALUES (1, 'roles', '', 'cut off', 'create', zeroblob(32), 7);
         INSERT INTO approved VALUES (1, 'digest', 9000000000000);
         INSERT INTO deletion VALUES (1, 'roles', 8);
         INSERT INTO audit (project, at, trigger, revision, kind, tenant, name, action, fields, attempt, outcome,
             message, duration_ms) VALUES (1, 7, 'watch', 'abc', 'roles', '', 'mine', 'create', '[]', 1, 'ok', '', 12);",
    )
    .unwrap();
    drop(old);

    let state = State::open(dir.path()).unwrap();

    assert!(!state.was_reset());
    let project = of(&state);
    assert!(project.is_known().unwrap() && project.inventory().unwrap()[&role("mine")].protected);
    assert!(project.approved().unwrap().contains("digest"));
    let open = project.open_intents().unwrap().remove(0);
    assert_eq!((&open.intent.key, open.intent.part, open.intent.seen), (&role("cut off"), MAIN, 0));
    assert!(project.settle_open(&open, &ending(Settled::Done)).unwrap());
    assert_eq!(trail(&state), ["create mine: ok ", "create cut off: ok so it was"]);
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
                    let ids = wait(project.begin([intent(Action::Create, &role(&format!("{thread}-{n}")))])).unwrap();
                    wait(project.settle(ids.clone(), ending(Settled::Done))).unwrap();
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

/// It is read once and kept: as long as nobody writes, this process or another.
#[test]
fn what_is_owned_is_read_again_once_anything_was_written() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    project.own(&[plain(&role("a"))]).unwrap();
    let reader = State::open_read_only(dir.path()).unwrap().unwrap();
    let names = |project: &ProjectState| project.inventory().unwrap().keys().map(Key::id).collect::<Vec<_>>();

    let first = project.inventory().unwrap();
    assert!(Arc::ptr_eq(&first, &project.inventory().unwrap()), "nothing was written");
    assert_eq!(names(&of(&reader)), ["a"]);
    project.own(&[plain(&role("b"))]).unwrap();

    assert_eq!((names(&project), project.ledger().unwrap().owned.len()), (vec!["a".to_owned(), "b".to_owned()], 2));
    assert_eq!(names(&of(&reader)), ["a", "b"]);
    project.disown(&[role("a")]).unwrap();
    assert_eq!((names(&project), names(&of(&reader))), (vec!["b".to_owned()], vec!["b".to_owned()]));
    assert!(state.project("api.descope.com", "P2", "default").inventory().unwrap().is_empty(), "another project");
}

#[test]
fn the_id_that_descope_gave_goes_with_its_resource() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let project = of(&state);
    let list = |name: &str| Key::new("lists", name);
    let id = |id: &str| Some(Arc::<str>::from(id));
    let call = intent(Action::Create, &list("a"));
    let ids = wait(project.begin([call.clone()])).unwrap();

    wait(project.settle(ids.clone(), Ending { ids: vec![(list("a"), "L1".into())], ..ending(Settled::Done) })).unwrap();

    assert_eq!(project.server_id(&list("a")).unwrap(), id("L1"));
    let rename = Intent { from: Some("a".into()), ..intent(Action::Rename, &list("b")) };
    wait(project.note_calls([rename], ending(Settled::Done))).unwrap();
    assert_eq!((project.server_id(&list("a")).unwrap(), project.server_id(&list("b")).unwrap()), (None, id("L1")));
    project.note_ids([(&list("b"), &"L2".into()), (&list("nobody's"), &"L3".into())]).unwrap();
    assert_eq!(project.server_ids().unwrap(), [(list("b"), "L2".into())].into());
    // Made anew, it has another one, which nobody knows yet.
    wait(project.note_calls([intent(Action::Create, &list("b"))], ending(Settled::Done))).unwrap();
    assert_eq!(project.server_id(&list("b")).unwrap(), None);
    project.disown(&[list("b")]).unwrap();
    assert_eq!(project.server_ids().unwrap(), [].into());
}

/// A small write that found room on a full disk began the failure anew, and what had not been written down before was not said.
#[test]
fn a_write_that_finds_room_does_not_begin_a_failure_anew() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    assert_eq!(state.failing_since(), None);

    state.noted::<()>(Err(Error::Gone)).unwrap_err();
    let since = state.failing_since().unwrap();
    state.noted(Ok(())).unwrap();
    assert_eq!((state.is_failing(), state.failing_since()), (false, None));
    state.noted::<()>(Err(Error::Gone)).unwrap_err();
    assert_eq!(state.failing_since(), Some(since));
    state.noted::<()>(Err(Error::Gone)).unwrap_err();
    assert_eq!(state.failing_since(), Some(since));
}

/// What went out on a full disk, and what was ordered, was missing without a word once there was room again.
#[test]
fn a_state_that_could_not_be_written_says_so_in_the_trail_of_each_project_once_it_can_be() {
    let dir = TempDir::new().unwrap();
    let state = State::open(dir.path()).unwrap();
    let [one, other] = ["P1", "P2"].map(|id| state.project("api.example.com", id, "default"));
    let write = |project: &ProjectState| project.own(&[(role("r"), Owned::default())]).unwrap();
    write(&one);
    write(&other);
    let gaps = || -> Vec<String> {
        let rows = state.changes(&Window { kind: Some(ORDERS.to_owned()), limit: 10, ..Window::default() }).unwrap();
        rows.into_iter().map(|(_, row)| format!("{} {} {}", row.action, row.outcome, row.message)).collect()
    };

    state.noted::<()>(Err(Error::Gone)).unwrap_err();
    write(&one);
    assert_eq!(gaps(), [""; 0], "it may not be over: a small write finds room on a full disk");
    let wait = || {
        let mut spell = state.shared.spell.lock().unwrap();
        let trouble = spell.as_mut().unwrap();
        trouble.newest = trouble.newest.checked_sub(TOLD_AFTER).unwrap();
    };
    wait();
    write(&other);

    let told = gaps();
    // Without a database that serves several nothing is sent.
    assert_eq!(told.len(), if state.is_shared() { 0 } else { 2 }, "{told:?}");
    assert!(
        told.iter().all(|row| row.starts_with("gap unknown the state could not always be written from ")),
        "{told:?}"
    );
    write(&one);
    assert_eq!(gaps(), told, "once");
    // It was not over: it is one gap all the same.
    state.noted::<()>(Err(Error::Gone)).unwrap_err();
    state.noted(Ok(())).unwrap();
    assert_eq!(one.gap_due_at().is_some(), !state.is_shared());
    one.tell_gap().unwrap();
    assert_eq!(gaps(), told, "not yet");
    wait();
    one.tell_gap().unwrap();
    assert_eq!((gaps().len(), one.gap_due_at()), (told.len(), None));
}
