//! Drift: what differs though the files did not change it. It is told apart from what a commit changed field by field, and
//! where it is only reported, or too young to be put back, other writes of its resource carry what is live.

use crate::desired::Declared;
use crate::plan::FieldChange;
use crate::plan::Hold;
use crate::plan::Inputs;
use crate::plan::compare::item_path;
use crate::resource::Document;
use crate::resource::Fields;
use crate::resource::Key;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::fold::canonical;
use crate::resource::fold::is_zero;
use crate::resource::opaque;
use crate::resource::secret::item_id;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

/// What stands for a list of items, and for one of them, among what was applied: that it was declared, whatever is in it.
const DECLARED: Value = Value::Bool(true);

/// The path of a resource as a whole, which somebody else deleted.
pub const WHOLE: &str = "";

/// What is done about drift of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftRule {
    /// Is it ever put back?
    pub heals: bool,
    /// How long ago it has to be seen first.
    pub min_age: Duration,
}

/// The same for all kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftRules {
    /// For kinds that `by_kind` does not name.
    pub default: DriftRule,
    /// By kind.
    pub by_kind: BTreeMap<String, DriftRule>,
}

impl DriftRules {
    /// Everything is put back at once.
    pub const HEAL: Self =
        Self { default: DriftRule { heals: true, min_age: Duration::ZERO }, by_kind: BTreeMap::new() };

    fn of(&self, kind: &str) -> DriftRule {
        self.by_kind.get(kind).copied().unwrap_or(self.default)
    }
}

/// Why drift is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Left {
    /// `mode: report`.
    Reported,
    /// It is younger than `minAge`.
    Young,
    /// It is, and what suspends it ends later than that.
    Suspended,
}

/// Was this value in force at this path, of a declaration that was applied?
pub type Applied = Box<dyn Fn(&str, &Value) -> bool>;

/// What is drift of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// When a look showed the first of it.
    pub since: SystemTime,
    /// Which of the fields; [`WHOLE`] where somebody else deleted the resource.
    pub fields: BTreeSet<String>,
    /// Why it is left; `None` where it is put back.
    pub left: Option<Left>,
    /// When it is old enough to be put back, the first of it.
    pub until: Option<SystemTime>,
    /// Who did it, how and when, where that is known.
    pub actor: Option<String>,
}

impl Drift {
    /// Those of its fields that are among `fields`; [`WHOLE`] stands for all of them.
    pub fn shown<'d>(&'d self, fields: &'d [FieldChange]) -> impl Iterator<Item = &'d str> {
        let is_shown = move |path: &&str| *path == WHOLE || fields.iter().any(|field| field.path == *path);
        self.fields.iter().map(String::as_str).filter(is_shown)
    }

    /// What holds the change.
    pub fn hold(&self) -> Option<Hold> {
        self.left.map(Hold::DriftReported)
    }
}

/// What differs of one resource, by what becomes of it.
#[derive(Debug, Default)]
pub struct Split {
    /// What goes on to be written.
    pub sent: Vec<FieldChange>,
    /// What of that is drift.
    pub healed: Option<Drift>,
    /// What is left as it is.
    pub kept: Vec<FieldChange>,
    /// Of that. Nothing is kept without it.
    pub left: Option<Drift>,
}

/// Tells what differs apart. `key` is the one that the resource has now; what is `unseen` no answer shows.
pub fn split(
    inputs: &Inputs<'_>,
    declared: &Declared,
    (key, parts, live): (&Key, &'static [Part], &Document),
    fields: Vec<FieldChange>,
    unseen: &BTreeSet<String>,
) -> Split {
    let mut split = Split::default();
    let Some(applied) = (inputs.applied)(key).filter(|_| !fields.is_empty()) else {
        return Split { sent: fields, ..split };
    };
    let lists = Lists::of(parts, declared, live, &applied);
    for field in fields {
        let is_drift = !unseen.contains(&*field.path) && lists.is_applied(&field, &applied);
        let (since, left, until) = decide(inputs, &declared.key, &field.path);
        let note = |drift: &mut Option<Drift>| {
            let drift = drift.get_or_insert_with(|| Drift { since, fields: BTreeSet::new(), left, until, actor: None });
            drift.since = drift.since.min(since);
            drift.until = drift.until.min(until);
            drift.fields.insert(field.path.to_string());
        };
        match left {
            _ if !is_drift => split.sent.push(field),
            None => {
                note(&mut split.healed);
                split.sent.push(field);
            }
            Some(_) => {
                note(&mut split.left);
                split.kept.push(field);
            }
        }
    }
    split
}

/// The same of a resource that is not there. That it was declared before means that somebody else deleted it.
pub fn of_missing(inputs: &Inputs<'_>, key: &Key) -> Option<Drift> {
    let _applied = (inputs.applied)(key)?;
    let (since, left, until) = decide(inputs, key, WHOLE);
    Some(Drift { since, fields: [WHOLE.to_owned()].into(), left, until, actor: None })
}

/// Since when it is known, and what becomes of it until when.
fn decide(inputs: &Inputs<'_>, key: &Key, path: &str) -> (SystemTime, Option<Left>, Option<SystemTime>) {
    let rule = inputs.drift.of(key.kind);
    let since = (inputs.drifted_since)(key, path).unwrap_or(inputs.now);
    let due = since + rule.min_age;
    // A clock that was set back proves no age.
    match rule.heals {
        false => (since, Some(Left::Reported), None),
        true if rule.min_age.is_zero() || due <= inputs.now => (since, None, None),
        true => (since, Some(Left::Young), Some(due)),
    }
}

/// Where a declaration has lists of items with a key: what is live in one beyond it has no value of its own in the files.
struct Lists {
    named: Vec<String>,
    items: Vec<String>,
    /// Of these items, those that somebody else took out: a commit to one of them does not put it back.
    gone: Vec<String>,
}

impl Lists {
    fn of(parts: &'static [Part], declared: &Declared, live: &Document, applied: &Applied) -> Self {
        let mut found = Self { named: Vec::new(), items: Vec::new(), gone: Vec::new() };
        for (path, leaf) in parts.iter().flat_map(|part| leaves(part, &declared.fields, Some(live))) {
            match leaf {
                Leaf::List => found.named.push(path),
                Leaf::Item { is_live } => {
                    if !is_live && applied(&path, &DECLARED) {
                        found.gone.push(path.clone());
                    }
                    found.items.push(path);
                }
                Leaf::Value(_) => {}
            }
        }
        found
    }

    fn is_applied(&self, field: &FieldChange, applied: &Applied) -> bool {
        let is_inside =
            |item: &String| field.path.strip_prefix(item.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if self.gone.iter().any(is_inside) {
            return true;
        }
        let is_in = |list: &&String| field.path.strip_prefix(list.as_str()).is_some_and(|rest| rest.starts_with('['));
        let list = self.named.iter().filter(is_in).max_by_key(|list| list.len());
        let is_beyond = |list: &String| {
            let is_of = |item: &String| field.path.starts_with(item.as_str()) && item.starts_with(list.as_str());
            !self.items.iter().any(is_of)
        };
        match list.filter(|list| is_beyond(list)) {
            // One that was declared and is no more left with a commit.
            Some(list) => applied(list, &DECLARED) && !applied(&field.path, &DECLARED),
            None => applied(&field.path, &field.to),
        }
    }
}

/// What stands at a path of a declaration, as a comparison names it.
enum Leaf {
    Value(Value),
    List,
    Item { is_live: bool },
}

/// What a part declares, for the state to know once it is in force: every path with its value.
pub fn declared_values(part: &'static Part, declared: &dyn Fields) -> Vec<(String, Value)> {
    let value = |(path, leaf)| match leaf {
        Leaf::Value(value) => (path, value),
        Leaf::List | Leaf::Item { .. } => (path, DECLARED),
    };
    leaves(part, declared, None).into_iter().map(value).collect()
}

fn leaves(part: &'static Part, declared: &dyn Fields, live: Option<&Document>) -> Vec<(String, Leaf)> {
    let mut found = Vec::new();
    for field in part.fields {
        let Some(value) = declared.get(field.name) else { continue };
        if let Some(opaque) = field.opaque() {
            let value = opaque::in_short(&opaque.against(value, value));
            found.push((field.name.to_owned(), Leaf::Value(value)));
        } else {
            collect(field.name, field.shape, value, live.and_then(|live| live.get(field.name)), &mut found);
        }
    }
    found
}

fn collect(path: &str, shape: Shape, value: &Value, live: Option<&Value>, found: &mut Vec<(String, Leaf)>) {
    match (shape, value) {
        // No answer tells what is there.
        (Shape::Secret, _) => {}
        (Shape::Attributes, Value::Object(wanted)) => {
            let entries = wanted.iter().map(|(name, to)| (format!("{path}.{name}"), Leaf::Value(to.clone())));
            found.extend(entries);
        }
        (Shape::Map(shape), Value::Object(wanted)) => {
            for (name, to) in wanted {
                let path = format!("{path}.{name}");
                if matches!(shape, Shape::Attributes | Shape::Map(_) | Shape::Object(_) | Shape::Items { .. }) {
                    collect(&path, *shape, to, live.and_then(|live| live.get(name)), found);
                }
                // Where nothing is live, the entry differs as a whole.
                found.push((path, Leaf::Value(canonical(*shape, to))));
            }
        }
        (Shape::Object(fields), Value::Object(wanted)) => {
            for field in fields.iter().filter(|field| field.is_declarable()) {
                let Some(to) = wanted.get(field.name) else { continue };
                let live = live.and_then(|live| live.get(field.name));
                collect(&format!("{path}.{}", field.name), field.shape, to, live, found);
            }
        }
        (Shape::Items { key, fields, .. }, Value::Array(wanted)) => {
            found.push((path.to_owned(), Leaf::List));
            for to in wanted {
                let (path, live) = (item_path(path, key, to), same_item(key, to, live));
                collect(&path, Shape::Object(fields), to, live, found);
                found.push((path, Leaf::Item { is_live: live.is_some() }));
            }
        }
        (_, to) => found.push((path.to_owned(), Leaf::Value(canonical(shape, to)))),
    }
}

fn same_item<'a>(key: &[&str], item: &Value, list: Option<&'a Value>) -> Option<&'a Value> {
    let items = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().find(|other| item_id(key, other) == item_id(key, item))
}

/// The declaration without what is left as it is: a write that is built on it carries what is live there.
pub fn without(parts: &'static [Part], declared: &Declared, live: &Document, left: &Drift) -> Arc<Declared> {
    let shape = |name: &str| parts.iter().flat_map(|part| part.fields).find(|field| field.name == name);
    let kept = declared.fields.iter().filter_map(|(name, value)| {
        let mut value = value.clone();
        let is_left =
            shape(name).is_some_and(|field| take_out(&mut value, name, field.shape, live.get(name), &left.fields));
        (!is_left).then_some((name, value))
    });
    Arc::new(Declared { fields: kept.collect(), ..declared.clone() })
}

/// Takes out of a value what of it is `left`, and says whether that is all of it.
fn take_out(value: &mut Value, path: &str, shape: Shape, live: Option<&Value>, left: &BTreeSet<String>) -> bool {
    let was_empty = is_zero(value);
    take_out_inside(path, shape, value, live, left);
    // All of it is gone on the other side: sent empty, it would come back.
    left.contains(path) || live.is_none() && !was_empty && is_zero(value)
}

fn take_out_inside(path: &str, shape: Shape, value: &mut Value, live: Option<&Value>, left: &BTreeSet<String>) {
    match (shape, value) {
        (Shape::Attributes, Value::Object(wanted)) => {
            wanted.retain(|name, _| !left.contains(&format!("{path}.{name}")));
        }
        (Shape::Map(shape), Value::Object(wanted)) => {
            wanted.retain(|name, value| {
                let live = live.and_then(|live| live.get(name));
                !take_out(value, &format!("{path}.{name}"), *shape, live, left)
            });
        }
        (Shape::Object(fields), Value::Object(wanted)) => {
            wanted.retain(|name, value| {
                let (path, live) = (format!("{path}.{name}"), live.and_then(|live| live.get(name)));
                !fields.iter().any(|field| field.name == name && take_out(value, &path, field.shape, live, left))
            });
        }
        (Shape::Items { key, fields, .. }, Value::Array(wanted)) => {
            let is_left =
                |item: &str| left.iter().any(|path| path.strip_prefix(item).is_some_and(|rest| rest.starts_with('.')));
            wanted.retain(|item| same_item(key, item, live).is_some() || !is_left(&item_path(path, key, item)));
            for item in wanted.iter_mut() {
                let id = item_of(key, item);
                let path = item_path(path, key, item);
                take_out_inside(&path, Shape::Object(fields), item, same_item(key, &id, live), left);
                // What it is known by stays.
                if let (Value::Object(item), Value::Object(id)) = (item, id) {
                    item.extend(id);
                }
            }
            // One that somebody added stays, as it is.
            let present = live.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let added = present.iter().filter(|live| left.contains(&item_path(path, key, live)));
            wanted.extend(added.map(|live| item_of(key, live)));
        }
        _ => {}
    }
}

/// No more of an item than what it is known by.
fn item_of(key: &[&str], item: &Value) -> Value {
    let id = key.iter().filter_map(|name| Some(((*name).to_owned(), item.get(*name)?.clone())));
    Value::Object(id.collect())
}
