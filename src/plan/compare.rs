//! Where a declared resource differs from the live one, field by field.
//!
//! What the API answers folds: absent, `null`, `""`, `[]`, `false` and `0` are one (its backend is protobuf). Sets have
//! no order. Entries of a map are no protobuf fields: there only `null` and absent are one.

use super::FieldChange;
use super::Sent;
use crate::desired::Declared;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Rule;
use crate::resource::Shape;
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
    let live = reading.live;
    let mut found = Differences::default();
    for field in kind.fields() {
        let Some(to) = declared.fields.get(field.name) else { continue };
        let from = live.and_then(|live| live.get(field.name));
        let is_readable = (reading.returned)(field.name);
        match (live, field.rule) {
            (_, Rule::Identity | Rule::Tenant) => {}
            (None, Rule::Part(_)) if reading.is_unlisted => {
                if sent(&declared.key, field.name, &folded(field.shape, to)) != Sent::Same && !is_zero(to) {
                    let change = FieldChange { path: field.name.to_owned(), from: Value::Null, to: to.clone() };
                    found.fields.push(change);
                }
            }
            (None, _) if reading.is_unlisted => {}
            (None, _) => compare(field, None, to, &mut found.fields),
            (Some(_), Rule::Plain | Rule::Required) => compare(field, from, to, &mut found.fields),
            (Some(_), Rule::CreateOnly) => compare_create_only(field, declared, from, to, sent, &mut found),
            (Some(_), Rule::Part(_) | Rule::Unreadable) if is_readable => compare(field, from, to, &mut found.fields),
            (Some(_), Rule::Part(_) | Rule::Unreadable) => {
                if sent(&declared.key, field.name, &folded(field.shape, to)) != Sent::Same {
                    let change = FieldChange { path: field.name.to_owned(), from: Value::Null, to: to.clone() };
                    found.fields.push(change);
                }
            }
        }
    }
    found
}

fn compare(field: &Field, from: Option<&Value>, to: &Value, found: &mut Vec<FieldChange>) {
    match (field.shape, to) {
        (Shape::Attributes, Value::Object(wanted)) => {
            let present = from.and_then(Value::as_object);
            for (name, to) in wanted {
                let from = present.and_then(|present| present.get(name)).unwrap_or(&Value::Null);
                if !same_entry(from, to) {
                    let path = format!("{}.{name}", field.name);
                    found.push(FieldChange { path, from: from.clone(), to: to.clone() });
                }
            }
        }
        (Shape::Attributes | Shape::Text | Shape::Name | Shape::Flag | Shape::OneOf(_) | Shape::Set, to) => {
            if !same(field.shape, from, to) {
                let from = canonical(field.shape, from.unwrap_or(&Value::Null));
                found.push(FieldChange { path: field.name.to_owned(), from, to: canonical(field.shape, to) });
            }
        }
    }
}

fn compare_create_only(
    field: &Field,
    declared: &Declared,
    from: Option<&Value>,
    to: &Value,
    sent: &dyn Fn(&Key, &str, &Value) -> Sent,
    found: &mut Differences,
) {
    let name = field.name;
    let known = match from {
        Some(from) if same(field.shape, Some(from), to) => Sent::Same,
        Some(_) => Sent::Different,
        None => sent(&declared.key, name, &folded(field.shape, to)),
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

/// Equal under the folding rules?
pub fn same(shape: Shape, from: Option<&Value>, to: &Value) -> bool {
    let from = from.unwrap_or(&Value::Null);
    is_zero(from) && is_zero(to) || canonical(shape, from) == canonical(shape, to)
}

/// `null`, `""`, `[]`, `{}`, `false` or `0`.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

/// The one form of a value: sets sorted, without duplicates.
pub fn canonical(shape: Shape, value: &Value) -> Value {
    match (shape, value) {
        (Shape::Set, Value::Array(items)) => sorted(items),
        (Shape::Set | Shape::Text | Shape::Name | Shape::Flag | Shape::OneOf(_) | Shape::Attributes, value) => {
            value.clone()
        }
    }
}

/// The form that is fingerprinted: canonical, and every empty value the same.
pub fn folded(shape: Shape, value: &Value) -> Value {
    if is_zero(value) { Value::Null } else { canonical(shape, value) }
}

fn sorted(items: &[Value]) -> Value {
    let mut items: Vec<&Value> = items.iter().collect();
    items.sort_by_cached_key(ToString::to_string);
    items.dedup();
    items.into_iter().cloned().collect()
}

/// Entries of a map: lists without order, 25 and 25.0 the same number, nothing else folded but `null`.
fn same_entry(from: &Value, to: &Value) -> bool {
    match (from, to) {
        (Value::Array(from), Value::Array(to)) => sorted(from) == sorted(to),
        (Value::Number(from), Value::Number(to)) => from == to || from.as_f64() == to.as_f64(),
        (from, to) => from == to,
    }
}
