//! Where a declared resource differs from the live one, field by field.

use super::FieldChange;
use super::Path;
use super::Sent;
use super::write;
use crate::desired::Declared;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Opaque;
use crate::resource::Shape;
use crate::resource::fold::canonical;
use crate::resource::fold::entry;
use crate::resource::fold::folded;
use crate::resource::fold::is_zero;
use crate::resource::fold::known;
use crate::resource::fold::same;
use crate::resource::fold::same_entry;
use crate::resource::opaque;
use crate::resource::secret;
use crate::resource::secret::item_id;
use crate::resource::spec::Back;
use crate::resource::spec::Need;
use crate::resource::spec::Read;
use serde_json::Value;
use std::collections::BTreeSet;

/// What [`differences`] found.
#[derive(Debug, Default)]
pub struct Differences {
    /// Fields to write, by path.
    pub fields: Vec<FieldChange>,
    /// Differences that no call can remove.
    pub refusals: Vec<String>,
    /// The same of what we never sent: another release may be the first to compare it.
    pub unsent: Vec<(FieldChange, String)>,
    /// What cannot be told.
    pub warnings: Vec<String>,
    /// Parts of it that could not be read yet.
    pub unread: Vec<&'static str>,
    /// Of the fields, those that no answer shows: they differ from what was sent.
    pub unseen: BTreeSet<String>,
}

/// The live side of one resource.
pub struct Reading<'a, F: Fn(&str) -> bool> {
    /// Its document.
    pub live: Option<&'a Document>,
    /// It is there though the list lacks it yet: only parts that were not sent can be told to differ.
    pub is_unlisted: bool,
    /// Does the API return this field?
    pub returned: F,
}

/// What the state knows of what was sent.
pub struct Recall<'a> {
    /// Was this value of this field sent before?
    pub sent: &'a dyn Fn(&Key, &str, &Value) -> Sent,
    /// Is this, the second, what Descope made of the first, a big document in this field, as far as is known?
    pub document: &'a dyn Fn(&Key, &str, &Value, &Value) -> bool,
    /// Was the secret that this refers to?
    pub secret: &'a dyn Fn(&Key, &str, &Value) -> Result<Sent, String>,
}

/// Compares only what the YAML writes. Without a live document every declared field is a difference.
pub fn differences<F: Fn(&str) -> bool>(
    kind: &dyn Kind,
    declared: &Declared,
    reading: &Reading<'_, F>,
    memory: &Recall<'_>,
) -> Differences {
    let mut walk = Walk { key: &declared.key, memory, is_new: reading.live.is_none(), found: Differences::default() };
    for (part, field) in kind.spec().fields().filter(|(_, field)| !kind.spec().is_server_id(field.name)) {
        let Some(to) = declared.fields.get(field.name) else { continue };
        let was_sent = || (memory.sent)(&declared.key, field.name, &folded(field.shape, to));
        let Some(live) = reading.live else {
            if reading.is_unlisted && part.read == Read::Each && part.name != MAIN {
                // Nothing can be built on it before it can be read.
                walk.found.unread.push(part.name);
            } else if reading.is_unlisted {
                if !kind.spec().comes_with_create(part, &declared.fields) {
                    add_unsent_part(field, to, was_sent, &mut walk.found.fields);
                }
            } else if let Some(opaque) = field.opaque() {
                walk.document(field.name, opaque, None, to);
            } else if field.inherits.is_some() {
                walk.inherited(field, to);
            } else {
                // What nothing has to be sent for.
                let start = field.start();
                let from = (part.name != MAIN && !start.is_null()).then_some(&start);
                walk.compare(field.name.into(), field.shape, from, to);
            }
            continue;
        };
        let from = live.get(field.name);
        // Its own call has not answered yet: nothing is known of it.
        if part.read == Read::Each && from.is_none() {
            walk.found.unread.push(part.name);
            continue;
        }
        if let Some(opaque) = field.opaque() {
            walk.document(field.name, opaque, from, to);
            continue;
        }
        match (field.need, field.back) {
            (Need::AtCreation, _) if matches!(field.shape, Shape::Secret) => {
                // One that cannot be read now was for the create alone.
                if let Ok(known) = (memory.secret)(&declared.key, field.name, to) {
                    compare_at_creation(field, None, to, || known, &mut walk.found);
                }
            }
            (Need::AtCreation, _) => compare_at_creation(field, from, to, was_sent, &mut walk.found),
            (_, Back::Computed) => {}
            (_, _) if field.is_defaulted && is_zero(to) => {
                if was_sent() != Sent::Same {
                    walk.found.unseen.insert(field.name.to_owned());
                    walk.found.fields.push(FieldChange { from: from.cloned().unwrap_or_default(), ..whole(field, to) });
                }
            }
            (_, Back::AsWritten) => {
                walk.found.warnings.extend(staying(field, from, to));
                walk.compare(field.name.into(), field.shape, from, to);
            }
            (_, Back::Maybe) if (reading.returned)(field.name) => {
                walk.compare(field.name.into(), field.shape, from, to);
            }
            (_, Back::Maybe | Back::Never) if matches!(field.shape, Shape::Secret) => {
                walk.secret(field.name.into(), to);
            }
            (_, Back::Maybe | Back::Never) => {
                if was_sent() != Sent::Same {
                    walk.found.unseen.insert(field.name.to_owned());
                    walk.found.fields.push(whole(field, to));
                }
            }
        }
    }
    walk.found
}

/// What is live of a list, and not named in it: it stays, which who took it out would not guess.
fn staying(field: &Field, from: Option<&Value>, to: &Value) -> Option<String> {
    let (Some(why), Shape::Items { key, .. }) = (field.stays, field.shape) else { return None };
    let wanted = to.as_array().map_or(&[][..], Vec::as_slice);
    let is_wanted = |item: &&Value| wanted.iter().any(|to| item_id(key, to) == item_id(key, item));
    let left = from.and_then(Value::as_array).into_iter().flatten().filter(|item| !is_wanted(item));
    let left: Vec<String> = left.map(|item| item_path(field.name, key, item)).collect();
    (!left.is_empty()).then(|| format!("{} is live, not declared here, and left as it is: {why}", left.join(", ")))
}

/// A part of its own that no list shows yet.
fn add_unsent_part(field: &Field, to: &Value, was_sent: impl Fn() -> Sent, found: &mut Vec<FieldChange>) {
    let is_as_new = is_zero(to) || field.start() == *to;
    if was_sent() != Sent::Same && !is_as_new {
        found.push(whole(field, to));
    }
}

fn whole(field: &Field, to: &Value) -> FieldChange {
    FieldChange { path: field.name.into(), from: Value::Null, to: masked(field.shape, to) }
}

/// One resource, compared from the outermost fields inwards.
struct Walk<'a> {
    key: &'a Key,
    memory: &'a Recall<'a>,
    /// It is not there yet, and nothing was ever sent to it.
    is_new: bool,
    found: Differences,
}

impl Walk<'_> {
    fn compare(&mut self, path: Path, shape: Shape, from: Option<&Value>, to: &Value) {
        let entries = from.and_then(Value::as_object);
        match (shape, to) {
            (Shape::Secret, to) => self.secret(path, to),
            (Shape::Attributes, Value::Object(wanted)) => {
                for (name, to) in wanted {
                    let from = entries.and_then(|present| present.get(name)).unwrap_or(&Value::Null);
                    if !same_entry(from, to) {
                        let path = format!("{path}.{name}").into();
                        self.found.fields.push(FieldChange { path, from: entry(from), to: to.clone() });
                    }
                }
            }
            (Shape::Map(shape), Value::Object(wanted)) => {
                for (name, to) in wanted {
                    let from = entries.and_then(|present| present.get(name));
                    let path = Path::from(format!("{path}.{name}"));
                    match (from, to.is_null()) {
                        (None, true) => {}
                        (Some(_), false) => self.compare(path, *shape, from, to),
                        (None, false) | (Some(_), true) => self.found.fields.push(changed(path, *shape, from, to)),
                    }
                }
            }
            (Shape::Object(fields), Value::Object(wanted)) => self.object(&path, fields, from, wanted),
            (Shape::Items { key, fields, keeps }, Value::Array(wanted)) => {
                let present = from.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                for to in wanted {
                    let from = present.iter().find(|from| item_id(key, from) == item_id(key, to));
                    self.compare(item_path(&path, key, to).into(), Shape::Object(fields), from, to);
                }
                let is_wanted = |item: &Value| wanted.iter().any(|to| item_id(key, to) == item_id(key, item));
                for item in present.iter().filter(|item| !keeps && !is_wanted(item)) {
                    let path = item_path(&path, key, item).into();
                    self.found.fields.push(changed(path, Shape::Object(fields), Some(item), &Value::Null));
                }
            }
            (_, to) => {
                let from = from.map(|from| known(shape, from));
                if !same(shape, from.as_deref(), to) {
                    self.found.fields.push(changed(path, shape, from.as_deref(), to));
                }
            }
        }
    }

    fn object(&mut self, path: &str, fields: &'static [Field], from: Option<&Value>, wanted: &Document) {
        for field in fields.iter().filter(|field| field.is_declarable()) {
            let Some(to) = wanted.get(field.name) else { continue };
            let (path, from) =
                (Path::from(format!("{path}.{}", field.name)), from.and_then(|present| present.get(field.name)));
            let is_unseen = field.back == Back::Never || field.back == Back::Maybe && from.is_none();
            if is_unseen && !self.is_new && !matches!(field.shape, Shape::Secret) {
                if (self.memory.sent)(self.key, &path, &folded(field.shape, to)) != Sent::Same {
                    self.found.unseen.insert(path.to_string());
                    self.found.fields.push(changed(path, field.shape, None, to));
                }
            } else {
                self.compare(path, field.shape, from, to);
            }
        }
    }

    /// Nobody knows what it will be before it was written: what is declared as empty is not so by itself.
    fn inherited(&mut self, field: &Field, to: &Value) {
        let (Shape::Object(fields), Value::Object(wanted)) = (field.shape, to) else {
            return self.compare(field.name.into(), field.shape, None, to);
        };
        for inside in fields.iter().filter(|inside| inside.is_declarable()) {
            let Some(to) = wanted.get(inside.name) else { continue };
            let path = format!("{}.{}", field.name, inside.name).into();
            let to = if to.is_null() { write::empty(inside.shape) } else { canonical(inside.shape, to) };
            self.found.fields.push(FieldChange { path, from: Value::Null, to });
        }
    }

    /// What Descope made of our last write is no difference.
    fn document(&mut self, field: &'static str, opaque: &Opaque, from: Option<&Value>, to: &Value) {
        let from = from.map_or(Value::Null, |from| opaque.against(to, from));
        let to = opaque.against(to, to);
        let is_same = from == to || is_zero(&from) && is_zero(&to);
        if !is_same && (self.is_new || !(self.memory.document)(self.key, field, &to, &from)) {
            let (from, to) = (opaque::in_short(&from), opaque::in_short(&to));
            self.found.fields.push(FieldChange { path: field.into(), from, to });
        }
    }

    /// No answer tells what is there, so what was sent decides. What is shown is that, and not what.
    fn secret(&mut self, path: Path, to: &Value) {
        let known = (self.memory.secret)(self.key, &path, to);
        match known {
            Err(why) => self.found.refusals.push(format!("{path}: {why}")),
            Ok(Sent::Same) if !self.is_new => {}
            Ok(Sent::Same | Sent::Different | Sent::Unknown) => {
                let to = Value::from(secret::MASK);
                self.found.unseen.insert(path.to_string());
                self.found.fields.push(FieldChange { path, from: Value::Null, to });
            }
        }
    }
}

/// The value as it may be shown.
fn masked(shape: Shape, to: &Value) -> Value {
    if matches!(shape, Shape::Secret) { Value::from(secret::MASK) } else { to.clone() }
}

fn changed(path: Path, shape: Shape, from: Option<&Value>, to: &Value) -> FieldChange {
    FieldChange { path, from: canonical(shape, from.unwrap_or(&Value::Null)), to: canonical(shape, to) }
}

/// How a difference names an item of a list.
pub fn item_path(path: &str, key: &[&str], item: &Value) -> String {
    format!("{path}[{}]", item_id(key, item).join(","))
}

fn compare_at_creation(
    field: &Field,
    from: Option<&Value>,
    to: &Value,
    was_sent: impl Fn() -> Sent,
    found: &mut Differences,
) {
    let name = field.name;
    let known = match from {
        Some(from) if same(field.shape, Some(from), to) => Sent::Same,
        Some(_) => Sent::Different,
        None => was_sent(),
    };
    match known {
        Sent::Same => {}
        Sent::Different => {
            let message = format!(
                "{name} can be set only when the resource is created, and it exists with another value; put the old \
                 value back, or delete the resource in Descope to have it created anew"
            );
            match from.filter(|_| was_sent() == Sent::Unknown) {
                Some(from) => found.unsent.push((changed(name.into(), field.shape, Some(from), to), message)),
                None => found.refusals.push(message),
            }
        }
        Sent::Unknown => found.warnings.push(format!(
            "{name} is unverified: the API does not return it, and this daemon did not create the resource"
        )),
    }
}
