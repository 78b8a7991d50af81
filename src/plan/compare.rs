//! Where a declared resource differs from the live one, field by field.

use super::FieldChange;
use super::Sent;
use crate::desired::Declared;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::fold::canonical;
use crate::resource::fold::folded;
use crate::resource::fold::is_zero;
use crate::resource::fold::same;
use crate::resource::fold::same_entry;
use crate::resource::spec::Back;
use crate::resource::spec::Need;
use serde_json::Value;

/// What [`differences`] found.
#[derive(Debug, Default)]
pub struct Differences {
    /// Fields to write, by path.
    pub fields: Vec<FieldChange>,
    /// Differences that no call can remove.
    pub refusals: Vec<String>,
    /// What cannot be told.
    pub warnings: Vec<String>,
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

/// Compares only what the YAML writes. Without a live document every declared field is a difference.
pub fn differences<F: Fn(&str) -> bool>(
    kind: &dyn Kind,
    declared: &Declared,
    reading: &Reading<'_, F>,
    sent: &dyn Fn(&Key, &str, &Value) -> Sent,
) -> Differences {
    let mut found = Differences::default();
    for (part, field) in kind.spec().fields().filter(|(_, field)| !kind.spec().is_server_id(field.name)) {
        let Some(to) = declared.fields.get(field.name) else { continue };
        let was_sent = || sent(&declared.key, field.name, &folded(field.shape, to));
        let Some(live) = reading.live else {
            if reading.is_unlisted {
                add_unsent_part(part, field, to, was_sent, &mut found.fields);
            } else {
                compare(field.name, field.shape, None, to, &mut found.fields);
            }
            continue;
        };
        let from = live.get(field.name);
        match (field.need, field.back) {
            (Need::AtCreation, _) => compare_at_creation(field, from, to, was_sent, &mut found),
            (_, Back::Computed) => {}
            (_, Back::AsWritten) => compare(field.name, field.shape, from, to, &mut found.fields),
            (_, Back::Maybe) if (reading.returned)(field.name) => {
                compare(field.name, field.shape, from, to, &mut found.fields);
            }
            (_, Back::Maybe | Back::Never) => {
                if was_sent() != Sent::Same {
                    found.fields.push(whole(field, to));
                }
            }
        }
    }
    found
}

/// A part of its own that no list shows yet.
fn add_unsent_part(part: &Part, field: &Field, to: &Value, was_sent: impl Fn() -> Sent, found: &mut Vec<FieldChange>) {
    if part.name != MAIN && was_sent() != Sent::Same && !is_zero(to) {
        found.push(whole(field, to));
    }
}

fn whole(field: &Field, to: &Value) -> FieldChange {
    FieldChange { path: field.name.to_owned(), from: Value::Null, to: to.clone() }
}

fn compare(path: &str, shape: Shape, from: Option<&Value>, to: &Value, found: &mut Vec<FieldChange>) {
    let entries = from.and_then(Value::as_object);
    match (shape, to) {
        (Shape::Attributes, Value::Object(wanted)) => {
            for (name, to) in wanted {
                let from = entries.and_then(|present| present.get(name)).unwrap_or(&Value::Null);
                if !same_entry(from, to) {
                    found.push(FieldChange { path: format!("{path}.{name}"), from: from.clone(), to: to.clone() });
                }
            }
        }
        (Shape::Map(shape), Value::Object(wanted)) => {
            for (name, to) in wanted {
                let from = entries.and_then(|present| present.get(name));
                let path = format!("{path}.{name}");
                match (from, to.is_null()) {
                    (None, true) => {}
                    (Some(_), false) => compare(&path, *shape, from, to, found),
                    (None, false) | (Some(_), true) => found.push(changed(path, *shape, from, to)),
                }
            }
        }
        (Shape::Object(fields), Value::Object(wanted)) => {
            for field in fields.iter().filter(|field| field.is_declarable()) {
                if let Some(to) = wanted.get(field.name) {
                    let from = entries.and_then(|present| present.get(field.name));
                    compare(&format!("{path}.{}", field.name), field.shape, from, to, found);
                }
            }
        }
        (Shape::Items { key, fields, keeps }, Value::Array(wanted)) => {
            let present = from.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            compare_items(path, shape, key, fields, present, wanted, found);
            let is_wanted = |item: &Value| wanted.iter().any(|to| item_id(key, to) == item_id(key, item));
            for item in present.iter().filter(|item| !keeps && !is_wanted(item)) {
                found.push(changed(item_path(path, key, item), shape, Some(item), &Value::Null));
            }
        }
        (_, to) => {
            if !same(shape, from, to) {
                found.push(changed(path.to_owned(), shape, from, to));
            }
        }
    }
}

fn compare_items(
    path: &str,
    shape: Shape,
    key: &[&str],
    fields: &'static [Field],
    present: &[Value],
    wanted: &[Value],
    found: &mut Vec<FieldChange>,
) {
    for to in wanted {
        let path = item_path(path, key, to);
        match present.iter().find(|from| item_id(key, from) == item_id(key, to)) {
            Some(from) => compare(&path, Shape::Object(fields), Some(from), to, found),
            None => found.push(changed(path, shape, None, to)),
        }
    }
}

fn changed(path: String, shape: Shape, from: Option<&Value>, to: &Value) -> FieldChange {
    FieldChange { path, from: canonical(shape, from.unwrap_or(&Value::Null)), to: canonical(shape, to) }
}

/// What tells an item of a list from the others.
pub fn item_id<'a>(key: &[&str], item: &'a Value) -> Vec<&'a str> {
    key.iter().map(|field| item.get(field).and_then(Value::as_str).unwrap_or_default()).collect()
}

fn item_path(path: &str, key: &[&str], item: &Value) -> String {
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
        Sent::Different => found.refusals.push(format!(
            "{name} can be set only when the resource is created, and it exists with another value; \
             put the old value back, or delete the resource in Descope to have it created anew"
        )),
        Sent::Unknown => found.warnings.push(format!(
            "{name} is unverified: the API does not return it, and this daemon did not create the resource"
        )),
    }
}
