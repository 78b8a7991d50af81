//! What the files said when it was last in force, field by field: what differs from that without a commit is drift. And
//! since when which drift is known.

use super::Digest;
use super::Error;
use super::project::ProjectState;
use super::project::from_millis;
use super::project::key;
use super::project::tenant;
use super::project::text;
use super::project::to_millis;
use super::sql;
use super::sql::Row;
use super::sql::Tx;
use super::sql::values;
use crate::moment::Moment;
use crate::resource::Key;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Half of a [`Mark`].
const HALF: usize = 8;

/// A path, and the value that was in force there: fingerprints of both, cut short.
type Mark = [u8; 2 * HALF];

/// What was in force of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<[u8; HALF], [u8; HALF]>);

/// Paths and their values, as the files have them.
pub type Values = Vec<(String, Value)>;

/// What a call put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landed {
    key: Key,
    /// It was made by that: nothing else is in force.
    is_new: bool,
    marks: Vec<Mark>,
    gone: Vec<[u8; HALF]>,
}

impl Marks {
    fn read(bytes: &[u8]) -> Self {
        let marks = bytes.chunks_exact(2 * HALF);
        let mark = |mark: &[u8]| Some((mark[..HALF].try_into().ok()?, mark[HALF..].try_into().ok()?));
        Self(marks.filter_map(mark).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(path, value)| [*path, *value].concat()).collect()
    }

    fn insert(&mut self, mark: Mark) {
        let (path, value) = mark.split_at(HALF);
        if let (Ok(path), Ok(value)) = (path.try_into(), value.try_into()) {
            self.0.insert(path, value);
        }
    }
}

/// Who did it, by resource and path, with a fingerprint of what was there then.
pub type Actors = BTreeMap<(Key, String), (Option<Digest>, String)>;

impl ProjectState {
    /// Keyed, like every fingerprint: a document may hold what nobody should guess.
    fn path_mark(&self, path: &str) -> [u8; HALF] {
        half(&self.fingerprint(&Value::from(path)))
    }

    fn mark(&self, path: &str, value: &Value) -> Mark {
        let mut mark = [0; 2 * HALF];
        mark[..HALF].copy_from_slice(&self.path_mark(path));
        mark[HALF..].copy_from_slice(&half(&self.fingerprint(&json!([path, value]))));
        mark
    }

    /// What a call put in force: what the files say of a part, and paths of which they say nothing any more.
    pub fn landed_part<'p>(
        &self,
        key: Key,
        is_new: bool,
        values: &[(String, Value)],
        gone: impl Iterator<Item = &'p str>,
    ) -> Landed {
        let marks = values.iter().map(|(path, value)| self.mark(path, value)).collect();
        Landed { key, is_new, marks, gone: gone.map(|path| self.path_mark(path)).collect() }
    }

    /// Was this value in force at this path?
    pub fn was_applied(&self, marks: &Marks, path: &str, value: &Value) -> bool {
        let mark = self.mark(path, value);
        marks.0.get(&mark[..HALF]).is_some_and(|known| *known == mark[HALF..])
    }

    /// Is anything known of what was in force? Nothing is where the key of the fingerprints is lost.
    pub fn knows_applied(&self) -> Result<bool, Error> {
        if self.state.shared.key.is_passing() {
            return Ok(false);
        }
        self.read(|connection, id| connection.exists("SELECT 1 FROM applied WHERE project = ? LIMIT 1", &values![id]))
    }

    /// What was last in force of a resource; `None` where nothing ever was.
    pub fn applied(&self, key: &Key) -> Result<Option<Marks>, Error> {
        let sql = "SELECT marks FROM applied WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
        self.read(|connection, id| {
            let row = values![id, key.kind, tenant(key), key.name];
            connection.first(sql, &row, marks)
        })
    }

    /// These are in force as a whole, and nothing else of these resources is.
    pub fn note_applied<'k>(&self, resources: impl Iterator<Item = (&'k Key, Values)>) -> Result<(), Error> {
        let sql = "INSERT INTO applied (project, kind, tenant, name, marks) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT (project, kind, tenant, name) DO UPDATE SET marks = excluded.marks WHERE applied.marks <> excluded.marks";
        self.write(|transaction, id| {
            transaction.each(
                sql,
                resources.map(|(key, values)| {
                    let mut marks = Marks::default();
                    for (path, value) in &values {
                        marks.insert(self.mark(path, value));
                    }
                    let marks = sql::Value::Blob(marks.bytes().into());
                    values![id, key.kind, tenant(key), key.name, marks]
                }),
            )
        })
    }

    /// Forgets what was in force at paths that the files do not name any more: what comes back is new.
    pub fn forget_paths<'k>(&self, declared: impl Iterator<Item = (&'k Key, Values)>) -> Result<(), Error> {
        let mut left = Vec::new();
        for (key, values) in declared {
            let Some(mut marks) = self.applied(key)? else { continue };
            let before = marks.0.len();
            let named: Vec<[u8; HALF]> = values.iter().map(|(path, _)| self.path_mark(path)).collect();
            marks.0.retain(|path, _| named.contains(path));
            if marks.0.len() < before {
                left.push((key, marks));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let sql = "UPDATE applied SET marks = ? WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
        self.write(|transaction, id| {
            transaction.each(
                sql,
                left.iter().map(|(key, marks)| {
                    let marks = sql::Value::Blob(marks.bytes().into());
                    values![marks, id, key.kind, tenant(key), key.name]
                }),
            )
        })
    }

    /// Forgets the resources that are not `kept`.
    pub fn keep_applied(&self, kept: impl Fn(&Key) -> bool) -> Result<(), Error> {
        self.forget_but("applied", kept)
    }

    fn drift(&self) -> Result<BTreeMap<(Key, String), Known>, Error> {
        self.read(drift)
    }

    /// Who did it, of the fields of which that is known, each with a fingerprint of what was there then. `None` stands for whatever
    /// is there.
    pub fn actors(&self) -> Result<Actors, Error> {
        let named = |(one, Known { live, actor, .. })| Some((one, (live, actor?)));
        Ok(self.drift()?.into_iter().filter_map(named).collect())
    }

    /// Notes who did it, each with the first look that showed it: of the drift of which that is not known, and of what put it back
    /// since.
    pub fn note_actors(&self, actors: &BTreeMap<Key, (SystemTime, String)>) -> Result<(), Error> {
        let of_drift = "UPDATE drifted SET actor = ? WHERE project = ? AND kind = ? AND tenant = ? AND name = ?
                        AND actor IS NULL";
        let of_change = "UPDATE audit SET actor = ? WHERE project = ? AND kind = ? AND tenant = ? AND name = ?
                         AND at >= ? AND actor IS NULL";
        self.write(|transaction, id| {
            for (key, (since, actor)) in actors {
                let row = values![actor, id, key.kind, tenant(key), key.name];
                transaction.execute(of_drift, &row)?;
                let row = values![actor, id, key.kind, tenant(key), key.name, to_millis(*since)];
                transaction.execute(of_change, &row)?;
            }
            Ok(())
        })
    }

    /// When changes of this resource were sent that had an effect, or may have had one.
    pub fn written_at(&self, key: &Key, since: SystemTime) -> Result<Vec<SystemTime>, Error> {
        let sql = "SELECT at FROM audit WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND at >= ?";
        self.read(|connection, id| {
            let row = values![id, key.kind, tenant(key), key.name, to_millis(since)];
            connection.rows(sql, &row, |row| Ok(from_millis(row.integer("at")?)))
        })
    }

    /// Notes the drift that a look showed, each with a fingerprint of what it showed; since when that is known stays as it was,
    /// and who did it, unless something else is there by now. `unseen` says of which resources the look showed nothing: what is known
    /// of those stays. The times are of the clock as it was set at that `moment`.
    pub fn note_drifted(
        &self,
        now: &BTreeMap<(Key, String), (SystemTime, Digest)>,
        moment: Moment,
        unseen: impl Fn(&Key) -> bool,
    ) -> Result<(), Error> {
        let known = self.drift()?;
        let over: Vec<_> = known.keys().filter(|one| !now.contains_key(*one) && !unseen(&one.0)).collect();
        let news: Vec<_> = now.iter().filter(|(one, _)| !known.contains_key(*one)).collect();
        let is_moved = |(one, (_, live)): &(&(Key, String), &(SystemTime, Digest))| {
            known.get(*one).is_some_and(|before| before.live.as_ref() != Some(live))
        };
        let moved: Vec<_> = now.iter().filter(is_moved).collect();
        if over.is_empty() && news.is_empty() && moved.is_empty() {
            return Ok(());
        }
        let named = over.iter().filter_map(|one| {
            let Known { since, actor, .. } = known.get(*one)?;
            Some((&one.0, format!("%{}%", one.1), to_millis(*since), actor.as_ref()?))
        });
        let named: Vec<_> = named.collect();
        self.write(|transaction, id| {
            // What put it back after it was known who did it; `fields` names its paths.
            let sql = "UPDATE audit SET actor = ?1 WHERE actor IS NULL AND fields LIKE ?7 AND id =
                       (SELECT max(id) FROM audit WHERE project = ?2 AND kind = ?3 AND tenant = ?4 AND name = ?5 AND at >= ?6)";
            transaction.each(
                sql,
                named.iter().map(|(key, path, since, actor)| {
                    values![actor, id, key.kind, tenant(key), key.name, since, path]
                }),
            )?;
            let sql = "DELETE FROM drifted WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND path = ?";
            transaction
                .each(sql, over.into_iter().map(|(key, path)| values![id, key.kind, tenant(key), key.name, path]))?;
            // Of an older release, what was there is not known.
            let sql = "UPDATE drifted SET actor = CASE WHEN live IS NULL THEN actor END, live = ?
                       WHERE project = ? AND kind = ? AND tenant = ? AND name = ? AND path = ?";
            transaction.each(
                sql,
                moved
                    .into_iter()
                    .map(|((key, path), (_, live))| values![live, id, key.kind, tenant(key), key.name, path]),
            )?;
            let sql =
                "INSERT INTO drifted (project, kind, tenant, name, path, since, live) VALUES (?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (project, kind, tenant, name, path)
                 DO UPDATE SET since = excluded.since, live = excluded.live, actor = NULL";
            let shift = self.state.set().saturating_sub(moment.set);
            transaction.each(
                sql,
                news.into_iter().map(|((key, path), (since, live))| {
                    let since = to_millis(*since).saturating_add(shift).max(0);
                    values![id, key.kind, tenant(key), key.name, path, since, live]
                }),
            )
        })
    }
}

/// All drift that is known, by resource and path, since the first look that showed it.
pub(super) fn drifted(connection: &Tx<'_>, id: i64) -> sql::Result<BTreeMap<(Key, String), SystemTime>> {
    Ok(drift(connection, id)?.into_iter().map(|(one, known)| (one, known.since)).collect())
}

fn drift(connection: &Tx<'_>, id: i64) -> sql::Result<BTreeMap<(Key, String), Known>> {
    let sql = "SELECT kind, tenant, name, path, since, live, actor FROM drifted WHERE project = ?";
    let rows: Vec<_> = connection.rows(sql, &values![id], |row| {
        let (path, since) = (text(row, "path")?, from_millis(row.integer("since")?));
        let known = Known { since, live: row.digest("live")?, actor: row.text("actor")? };
        Ok(key(row)?.map(|key| ((key, path), known)))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Of one field that drifted.
struct Known {
    since: SystemTime,
    live: Option<Digest>,
    actor: Option<String>,
}

fn half(digest: &[u8; 32]) -> [u8; HALF] {
    let mut half = [0; HALF];
    half.copy_from_slice(&digest[..HALF]);
    half
}

fn marks(row: &Row<'_>) -> sql::Result<Marks> {
    Ok(Marks::read(row.bytes("marks")?.unwrap_or_default()))
}

/// Notes what calls put in force.
pub(super) fn note(transaction: &Tx<'_>, id: i64, landed: &[Landed]) -> sql::Result<()> {
    let select = "SELECT marks FROM applied WHERE project = ? AND kind = ? AND tenant = ? AND name = ?";
    let insert = "INSERT INTO applied (project, kind, tenant, name, marks) VALUES (?, ?, ?, ?, ?)
                  ON CONFLICT (project, kind, tenant, name) DO UPDATE SET marks = excluded.marks";
    for Landed { key, is_new, marks: new, gone } in landed {
        let row = values![id, key.kind, tenant(key), key.name];
        let known = transaction.first(select, &row, marks)?;
        let mut marks = known.filter(|_| !is_new).unwrap_or_default();
        for path in gone {
            marks.0.remove(path);
        }
        for mark in new {
            marks.insert(*mark);
        }
        let marks = marks.bytes();
        let row = values![id, key.kind, tenant(key), key.name, marks];
        transaction.execute(insert, &row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Action;
    use crate::state::Ending;
    use crate::state::Settled;
    use crate::state::State;
    use crate::state::tests::intent;
    use crate::state::tests::wait;
    use std::time::Duration;

    #[test]
    fn what_was_in_force_is_known_by_path_and_value_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap().project("h", "p", "o");
        let key = Key::new("roles", "a");
        let knows = |path: &str, value: Value| {
            let marks = state.applied(&key).unwrap()?;
            Some(state.was_applied(&marks, path, &value))
        };
        assert!(!state.knows_applied().unwrap());
        assert_eq!(knows("description", json!("x")), None);

        let values = vec![("description".to_owned(), json!("x")), ("private".to_owned(), json!(false))];
        state.note_applied([(&key, values.clone())].into_iter()).unwrap();

        assert!(state.knows_applied().unwrap());
        assert_eq!(knows("description", json!("x")), Some(true));
        assert_eq!(knows("description", json!("y")), Some(false));
        assert_eq!(knows("private", json!("x")), Some(false), "a value counts at its path alone");
        state.forget_paths([(&key, values[1..].to_vec())].into_iter()).unwrap();
        assert_eq!(knows("description", json!("x")), Some(false), "its line left the files");
        assert_eq!(knows("private", json!(false)), Some(true));
        state.keep_applied(|_| false).unwrap();
        assert_eq!(knows("private", json!(false)), None);
    }

    #[test]
    fn drift_is_as_old_as_the_first_look_that_showed_it_and_waits_for_a_look_that_shows_it_gone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        let (a, b) = ((Key::new("roles", "a"), "description".to_owned()), (Key::new("roles", "b"), String::new()));
        let project = || State::open(dir.path()).unwrap().project("h", "p", "o");
        let of = |rows: &[(&(Key, String), u64)]| -> BTreeMap<_, _> {
            rows.iter().map(|(one, seconds)| ((*one).clone(), (at(*seconds), [1; 32]))).collect()
        };
        let ages = |rows: &[(&(Key, String), u64)]| -> BTreeMap<_, _> {
            rows.iter().map(|(one, seconds)| ((*one).clone(), at(*seconds))).collect()
        };
        project().note_drifted(&of(&[(&a, 1), (&b, 1)]), Moment::default(), |_| false).unwrap();

        project().note_drifted(&of(&[(&a, 9)]), Moment::default(), |key| *key == b.0).unwrap();
        assert_eq!(
            project().ledger().unwrap().drifted,
            ages(&[(&a, 1), (&b, 1)]),
            "what could not be seen is not over"
        );
        project().note_drifted(&of(&[(&a, 9)]), Moment::default(), |_| false).unwrap();
        assert_eq!(project().ledger().unwrap().drifted, ages(&[(&a, 1)]));
    }

    /// Whoever set it first was told as who set what is there now.
    #[test]
    fn who_did_it_is_known_of_what_was_there_then_alone() {
        let dir = tempfile::tempdir().unwrap();
        let project = State::open(dir.path()).unwrap().project("h", "p", "o");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let (key, paths) = (Key::new("roles", "a"), ["description", "private"]);
        let note = |lives: [u8; 2]| {
            let rows =
                paths.iter().zip(lives).map(|(path, live)| ((key.clone(), (*path).to_owned()), (at, [live; 32])));
            project.note_drifted(&rows.collect(), Moment::default(), |_| false).unwrap();
        };
        let name = |actor: &str| project.note_actors(&[(key.clone(), (at, actor.to_owned()))].into()).unwrap();
        let known = || -> Vec<(String, String)> {
            project.actors().unwrap().into_iter().map(|((_, path), (_, actor))| (path, actor)).collect()
        };
        let told = |path: &str, actor: &str| (path.to_owned(), actor.to_owned());
        note([1, 1]);
        name("jane");
        assert_eq!(known(), [told("description", "jane"), told("private", "jane")]);

        note([2, 1]);

        assert_eq!(known(), [told("private", "jane")]);
        name("joe");
        assert_eq!(known(), [told("description", "joe"), told("private", "jane")]);
        assert_eq!(
            project.ledger().unwrap().drifted.values().collect::<Vec<_>>(),
            [&at, &at],
            "it drifted all the time"
        );
    }

    /// After a fight it was "somebody else" until the next look, though status and page had named who it was.
    #[test]
    fn what_puts_drift_back_says_at_once_who_did_it_where_that_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let project = state.project("h", "p", "o");
        let at = project.now();
        let keys = [Key::new("roles", "a"), Key::new("roles", "b")];
        let drift = keys.iter().map(|key| ((key.clone(), "description".to_owned()), (at, [1; 32])));
        project.note_drifted(&drift.collect(), Moment::default(), |_| false).unwrap();
        project.note_actors(&[(keys[0].clone(), (at, "jane".to_owned()))].into()).unwrap();

        let put_back = |key: &Key, fields: &str| {
            let mut intent = intent(Action::Update, key);
            intent.occasion.fields = fields.into();
            wait(project.note_calls([intent], Ending::of(Settled::Done, "", Duration::ZERO))).unwrap();
            let window = crate::state::Window { limit: 1, ..crate::state::Window::default() };
            state.changes(&window).unwrap().remove(0).1.actor
        };
        let drifted = r#"[{"path":"description","from":"x","to":"y","drift":true}]"#;
        assert_eq!(put_back(&keys[0], drifted).as_deref(), Some("jane"));
        assert_eq!(put_back(&keys[0], r#"[{"path":"description","from":"x","to":"y"}]"#), None, "by a commit");
        assert_eq!(put_back(&keys[0], &drifted.replace("description", "private")), None);
        assert_eq!(put_back(&keys[1], drifted), None);
    }
}
