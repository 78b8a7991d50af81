//! What we wrote a moment ago. Reads of Descope lag behind writes by seconds: a list that shows exactly the value from
//! before proves nothing, and what we sent counts in its place. Any third value counts at once.

use crate::plan;
use crate::plan::FieldChange;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// For so long a list may show what was there before our write.
pub const LAG: Duration = Duration::from_secs(10);

type Documents = HashMap<(Key, String), (Value, Instant)>;

/// The last writes of a project. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    written: Arc<Mutex<HashMap<Key, Vec<Field>>>>,
    /// Big documents by field: what stands for them as they were before, and until when that proves nothing.
    documents: Arc<Mutex<Documents>>,
}

/// One field that was written.
#[derive(Debug, Clone)]
struct Field {
    path: String,
    before: Value,
    sent: Value,
    until: Instant,
}

/// What a list contradicts, though that proves nothing yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The resources, with digests of what is there if our writes hold.
    pub keys: HashMap<Key, u64>,
    /// When a look would prove something for all of them.
    pub until: Option<Instant>,
}

impl Recent {
    /// These were answered just now.
    pub fn note(&self, key: &Key, fields: &[FieldChange]) {
        let now = Instant::now();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        // Many at once, as in a drain, are looked through rarely.
        if written.len().is_power_of_two() {
            let is_old = |field: &Field| now.saturating_duration_since(field.until) > 6 * LAG;
            written.retain(|_, fields| !fields.iter().all(is_old));
        }
        let noted = written.entry(key.clone()).or_default();
        // What stands deeper than an entry is not put in its place.
        for change in fields.iter().filter(|change| !change.path.contains('[')) {
            noted.retain(|field| field.path != change.path);
            let (path, before, sent) = (change.path.clone(), change.from.clone(), change.to.clone());
            noted.push(Field { path, before, sent, until: now + LAG });
        }
    }

    /// The same of a big document, of which the change tells digests alone.
    pub fn note_document(&self, key: &Key, change: &FieldChange) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|_, (_, until)| *until > Instant::now());
        documents.insert((key.clone(), change.path.clone()), (change.from.clone(), Instant::now() + LAG));
    }

    /// When a look proves something of a big document, where one that was asked for then shows it as it was before our write.
    pub fn proves_from(&self, key: &Key, path: &str, shown: &Value, asked_at: Instant) -> Option<Instant> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, until) = documents.get(&(key.clone(), path.to_owned()))?;
        (before == shown && *until > asked_at).then_some(*until)
    }

    /// Puts what we sent in the place of what was there before, where a list that was asked for then shows it still.
    pub fn put_over(&self, kind: &dyn Kind, documents: &mut [Document], asked_at: Instant) -> Unconfirmed {
        let mut unconfirmed = Unconfirmed::default();
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if !written.keys().any(|key| key.kind == kind.name()) {
            return unconfirmed;
        }
        for document in documents {
            let Some(key) = kind.key(document) else { continue };
            let mut is_over = false;
            for field in written.get(&key).into_iter().flatten().filter(|field| field.until > asked_at) {
                if !is_same(at(document, &field.path), &field.before) || is_same(Some(&field.before), &field.sent) {
                    continue;
                }
                put(document, &field.path, field.sent.clone());
                unconfirmed.until = unconfirmed.until.max(Some(field.until));
                is_over = true;
            }
            if is_over {
                unconfirmed.keys.insert(key, plan::digest(kind, document));
            }
        }
        unconfirmed
    }
}

impl Unconfirmed {
    /// Those of another kind as well.
    pub fn add(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.until = self.until.max(other.until);
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
        FieldChange { path: path.to_owned(), from, to }
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
        recent.note(&key, &fields);
        let old =
            document(json!({ "id": "acme", "name": "Old", "selfProvisioningDomains": ["b", "a"], "disabled": true }));
        let shown = |documents: &mut Vec<Document>| recent.put_over(tenants, documents, Instant::now());

        let mut documents = vec![old.clone(), document(json!({ "id": "other", "name": "Old" }))];
        let unconfirmed = shown(&mut documents);

        assert_eq!(unconfirmed.keys, HashMap::from([(key, plan::digest(tenants, &documents[0]))]));
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
