//! What we wrote a moment ago. Reads of Descope lag behind writes by seconds: a list that shows exactly the value from
//! before proves nothing, and what we sent counts in its place. Any third value counts at once.

use crate::plan;
use crate::plan::FieldChange;
use crate::plan::Task;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Documents;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Write;
use crate::resource::refer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// For so long a list may show what was there before our write.
pub const LAG: Duration = Duration::from_secs(10);

type BigOnes = HashMap<(Key, String), (Value, Instant)>;

/// The last writes of a project. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    kept: Arc<Mutex<Kept>>,
    /// Big documents by field: what stands for them as they were before, and until when that proves nothing.
    documents: Arc<Mutex<BigOnes>>,
}

#[derive(Debug, Default)]
struct Kept {
    written: HashMap<Key, Vec<Field>>,
    /// By the new name.
    renamed: HashMap<Key, Renamed>,
    deleted: HashMap<Key, Before>,
}

/// One field that was written.
#[derive(Debug, Clone)]
struct Field {
    path: String,
    before: Value,
    sent: Value,
    until: Instant,
}

#[derive(Debug)]
struct Renamed {
    old: Key,
    before: Before,
}

/// What a list shows that lags behind.
#[derive(Debug, Clone, Copy)]
struct Before {
    seen: u64,
    incarnation: u64,
    until: Instant,
}

impl Before {
    fn of(task: &Task, until: Instant) -> Self {
        Self { seen: task.seen, incarnation: task.incarnation, until }
    }

    fn is(&self, kind: &dyn Kind, document: &Document) -> bool {
        self.seen == plan::digest(kind, document) && self.incarnation == plan::incarnation(kind, document)
    }
}

/// What a list contradicts, though that proves nothing yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The resources, with digests of what is there if our writes hold; `None`: nothing.
    pub keys: HashMap<Key, Option<u64>>,
    /// When a look would prove something for all of them.
    pub until: Option<Instant>,
}

impl Recent {
    /// Somebody else wrote since: nothing of it counts any more.
    pub fn start_over(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// This was answered just now; `listed` are its fields that a list shows.
    pub fn note<'a>(&self, task: &Task, listed: impl Iterator<Item = &'a FieldChange>) {
        let now = Instant::now();
        let until = now + LAG;
        let key = &task.slot.key;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget_old(now);
        match (task.action, &task.write) {
            (Action::Create, _) => {
                kept.deleted.remove(key);
            }
            (Action::Delete, _) => {
                kept.written.remove(key);
                kept.renamed.remove(key);
                kept.deleted.insert(key.clone(), Before::of(task, until));
            }
            (Action::Rename, Write::Overwrite { from, .. }) => {
                let old = Key { name: from.clone(), ..key.clone() };
                kept.written.remove(&old);
                kept.deleted.remove(key);
                kept.renamed.insert(key.clone(), Renamed { old, before: Before::of(task, until) });
                kept.write(key, listed, until);
            }
            (Action::Rename | Action::Update, _) => kept.write(key, listed, until),
        }
    }

    /// The same of a big document, of which the change tells digests alone.
    pub fn note_document(&self, key: &Key, change: &FieldChange) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|_, (_, until)| until.elapsed() < 6 * LAG);
        documents.insert((key.clone(), change.path.to_string()), (change.from.clone(), Instant::now() + LAG));
    }

    /// When a look proves something of a big document, where one that was asked for then shows it as it was before our write.
    pub fn proves_from(&self, key: &Key, path: &str, shown: &Value, asked_at: Instant) -> Option<Instant> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, until) = documents.get(&(key.clone(), path.to_owned()))?;
        (before == shown && *until > asked_at).then_some(*until)
    }

    /// Puts what we sent in the place of what was there before, where a list that was asked for then shows it still.
    pub fn put_over(&self, kind: &dyn Kind, documents: &mut Documents, asked_at: Instant) -> Unconfirmed {
        let mut over = Unconfirmed::default();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take_deleted(kind, documents, asked_at, &mut over);
        kept.rename(kind, documents, asked_at, &mut over);
        kept.put_fields(kind, documents, asked_at, &mut over);
        over
    }
}

impl Kept {
    /// Many at once, as in a drain, are looked through rarely.
    fn forget_old(&mut self, now: Instant) {
        let is_old = |until: Instant| now.saturating_duration_since(until) > 6 * LAG;
        if self.written.len().is_power_of_two() {
            self.written.retain(|_, fields| !fields.iter().all(|field| is_old(field.until)));
        }
        if self.renamed.len().is_power_of_two() {
            self.renamed.retain(|_, renamed| !is_old(renamed.before.until));
        }
        if self.deleted.len().is_power_of_two() {
            self.deleted.retain(|_, before| !is_old(before.until));
        }
    }

    fn write<'a>(&mut self, key: &Key, listed: impl Iterator<Item = &'a FieldChange>, until: Instant) {
        // What stands deeper than an entry is not put in its place.
        let mut listed = listed.filter(|change| !change.path.contains('[')).peekable();
        if listed.peek().is_none() {
            return;
        }
        let noted = self.written.entry(key.clone()).or_default();
        for change in listed {
            noted.retain(|field| field.path != change.path);
            let (path, before, sent) = (change.path.to_string(), change.from.clone(), change.to.clone());
            noted.push(Field { path, before, sent, until });
        }
    }

    fn take_deleted(&self, kind: &dyn Kind, documents: &mut Documents, asked_at: Instant, over: &mut Unconfirmed) {
        documents.retain(|key, packed| {
            let Some(before) = self.deleted.get(key).filter(|before| before.until > asked_at) else { return true };
            let is_it = packed.read().is_some_and(|document| before.is(kind, &document));
            over.note(is_it.then(|| (key.clone(), None, before.until)));
            !is_it
        });
    }

    /// What bears its old name still, and what refers to it by that.
    fn rename(&self, kind: &dyn Kind, documents: &mut Documents, asked_at: Instant, over: &mut Unconfirmed) {
        let recent: Vec<(&Key, &Renamed)> =
            self.renamed.iter().filter(|(_, renamed)| renamed.before.until > asked_at).collect();
        if recent.is_empty() {
            return;
        }
        let spec = kind.spec();
        let renames: BTreeMap<Key, Key> =
            recent.iter().map(|(new, renamed)| ((*new).clone(), renamed.old.clone())).collect();
        let until = recent.iter().map(|(_, renamed)| renamed.before.until).max();
        let there: HashSet<Key> = documents.keys().cloned().collect();
        documents.change(
            kind,
            |_| true,
            |key, document| {
                let is_it = |(new, renamed): &&(&Key, &Renamed)| {
                    renamed.old == *key && !there.contains(*new) && renamed.before.is(kind, document)
                };
                let of_old_name = recent.iter().find(is_it).zip(spec.identity.field);
                let refers = refer::refers_to_renamed(spec, key, document, &renames);
                if let Some(((new, _), field)) = of_old_name {
                    document.insert(field.to_owned(), Value::from(&*new.name));
                }
                if refers {
                    refer::rename_references(spec, key, document, &renames);
                }
                let is_changed = refers || of_old_name.is_some();
                if is_changed {
                    let now = kind.key(document).unwrap_or_else(|| key.clone());
                    over.note(until.map(|until| (now, Some(plan::digest(kind, document)), until)));
                }
                is_changed
            },
        );
    }

    fn put_fields(&self, kind: &dyn Kind, documents: &mut Documents, asked_at: Instant, over: &mut Unconfirmed) {
        documents.change(
            kind,
            |key| self.written.contains_key(key),
            |key, document| {
                let mut until = None;
                for field in self.written.get(key).into_iter().flatten().filter(|field| field.until > asked_at) {
                    if !is_same(at(document, &field.path), &field.before) || is_same(Some(&field.before), &field.sent) {
                        continue;
                    }
                    put(document, &field.path, field.sent.clone());
                    until = until.max(Some(field.until));
                }
                over.note(until.map(|until| (key.clone(), Some(plan::digest(kind, document)), until)));
                until.is_some()
            },
        );
    }
}

impl Unconfirmed {
    /// Those of another kind as well.
    pub fn add(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.until = self.until.max(other.until);
    }

    /// One more.
    pub fn note(&mut self, one: Option<(Key, Option<u64>, Instant)>) {
        let Some((key, digest, until)) = one else { return };
        self.keys.insert(key, digest);
        self.until = self.until.max(Some(until));
    }
}

/// A path is a field, or a field and the name of an entry.
fn split<'a>(document: &Document, path: &'a str) -> (&'a str, Option<&'a str>) {
    match path.split_once('.') {
        Some((field, entry)) if !document.contains_key(path) => (field, Some(entry)),
        Some(_) | None => (path, None),
    }
}

fn at<'a>(document: &'a Document, path: &str) -> Option<&'a Value> {
    let (field, entry) = split(document, path);
    let value = document.get(field)?;
    entry.map_or(Some(value), |entry| value.get(entry))
}

fn put(document: &mut Document, path: &str, value: Value) {
    let (field, entry) = split(document, path);
    let Some(entry) = entry else {
        document.insert(field.to_owned(), value);
        return;
    };
    let entries = document.entry(field).or_insert_with(|| Value::Object(Document::new()));
    if let Value::Object(entries) = entries {
        if value.is_null() {
            entries.remove(entry);
        } else {
            entries.insert(entry.to_owned(), value);
        }
    }
}

/// Absent, null and zero are one, and a list that is a set has no order.
fn is_same(found: Option<&Value>, value: &Value) -> bool {
    let form = |value: &Value| match value {
        Value::Array(items) => {
            let mut items: Vec<String> = items.iter().map(ToString::to_string).collect();
            items.sort();
            items.dedup();
            items.join(",")
        }
        Value::Null | Value::Bool(false) => String::new(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => value.to_string(),
    };
    form(found.unwrap_or(&Value::Null)) == form(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::document;
    use crate::resource::kind;
    use serde_json::json;

    fn change(path: &str, from: Value, to: Value) -> FieldChange {
        FieldChange { path: path.to_owned().into(), from, to }
    }

    /// A task on a resource that is live under this key, or, to be renamed, under `old`.
    fn written(action: Action, key: &Key, before: &Document) -> Task {
        let kind = kind(key.kind).unwrap();
        let mut task = plan::order::deletion(key, before, false);
        task.action = action;
        if action == Action::Rename {
            let from = kind.key(before).unwrap().name;
            task.write = Write::Overwrite { from, body: Document::new() }.pack();
        }
        task
    }

    #[tokio::test(start_paused = true)]
    async fn a_rename_and_a_delete_hold_against_a_list_that_shows_exactly_what_was_before() {
        let (permissions, roles) = (kind("permissions").unwrap(), kind("roles").unwrap());
        let live = |name: &str, description: &str| document(json!({ "name": name, "description": description }));
        let granted = |name: &str| document(json!({ "name": "r", "permissionNames": [name] }));
        let key = |name: &str| Key::new("permissions", name);
        let recent = Recent::default();
        let shown = |kind: &'static dyn Kind, documents: &[Document]| {
            let mut shown = Documents::of_kind(kind, documents.to_vec());
            let over = recent.put_over(kind, &mut shown, Instant::now());
            let documents = shown.all();
            let mut keys: Vec<String> = over.keys.keys().map(ToString::to_string).collect();
            keys.sort();
            (documents, keys)
        };
        recent.note(&written(Action::Rename, &key("new"), &live("old", "one")), [].iter());
        recent.note(&written(Action::Delete, &key("gone"), &live("gone", "one")), [].iter());

        let (documents, keys) = shown(permissions, &[live("old", "one"), live("gone", "one")]);
        assert_eq!(
            (documents, keys),
            (vec![live("new", "one")], vec!["permissions/gone".into(), "permissions/new".into()])
        );
        let (documents, keys) = shown(roles, &[granted("old")]);
        assert_eq!((documents, keys), (vec![granted("new")], vec!["roles/r".into()]), "who refers to it is as late");
        // Anything else counts as it is.
        for third in [vec![live("old", "two"), live("gone", "two")], vec![live("old", "one"), live("new", "one")]] {
            assert_eq!(shown(permissions, &third), (third, Vec::new()));
        }
        recent.note(&written(Action::Create, &key("gone"), &Document::new()), [].iter());
        assert_eq!(shown(permissions, &[live("gone", "one")]).1, Vec::<String>::new(), "made anew");
        tokio::time::advance(LAG).await;
        assert_eq!(shown(permissions, &[live("old", "one")]), (vec![live("old", "one")], Vec::new()));
        assert_eq!(shown(roles, &[granted("old")]), (vec![granted("old")], Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_shows_the_value_from_before_proves_nothing_for_ten_seconds() {
        let recent = Recent::default();
        let key = Key::new("tenants", "acme");
        let tenants = kind("tenants").unwrap();
        let fields = [
            change("name", json!("Old"), json!("New")),
            change("customAttributes.plan", Value::Null, json!("gold")),
            change("selfProvisioningDomains", json!(["a", "b"]), json!([])),
        ];
        recent.note(&written(Action::Update, &key, &Document::new()), fields.iter());
        let old =
            document(json!({ "id": "acme", "name": "Old", "selfProvisioningDomains": ["b", "a"], "disabled": true }));
        let shown = |documents: &mut Vec<Document>| {
            let mut shown = Documents::of_kind(tenants, documents.clone());
            let over = recent.put_over(tenants, &mut shown, Instant::now());
            *documents = shown.all();
            over
        };

        let mut documents = vec![old.clone(), document(json!({ "id": "other", "name": "Old" }))];
        let unconfirmed = shown(&mut documents);

        assert_eq!(unconfirmed.keys, HashMap::from([(key, Some(plan::digest(tenants, &documents[0])))]));
        assert_eq!(unconfirmed.until, Some(Instant::now() + LAG));
        let expected = json!({
            "id": "acme", "name": "New", "selfProvisioningDomains": [], "disabled": true,
            "customAttributes": { "plan": "gold" },
        });
        assert_eq!(documents, [document(expected), document(json!({ "id": "other", "name": "Old" }))]);

        // What we sent, and any third value, count as they are.
        for name in ["New", "Third"] {
            let third = document(json!({ "id": "acme", "name": name, "customAttributes": { "plan": "gold" } }));
            let mut documents = vec![third.clone()];
            assert_eq!((shown(&mut documents), documents), (Unconfirmed::default(), vec![third]), "{name}");
        }
        tokio::time::advance(LAG).await;
        let mut documents = vec![old.clone()];
        assert_eq!((shown(&mut documents), documents), (Unconfirmed::default(), vec![old]));
    }
}
