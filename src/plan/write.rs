//! From differences to calls: what is created, patched, or overwritten on top of what is there.

use super::FieldChange;
use super::Sent;
use super::compare::folded;
use super::compare::is_zero;
use crate::desired::Declared;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::Rule;
use crate::resource::Shape;
use crate::resource::Write;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The writes that remove `fields`, by part, main first. `old` is the present key where the resource is renamed.
pub fn writes(
    kind: &dyn Kind,
    declared: &Declared,
    live: Option<&Document>,
    old: Option<&Key>,
    fields: &[FieldChange],
    is_unlisted: bool,
) -> Vec<(Part, Write)> {
    let mut writes = Vec::new();
    let changed = |part: Part| {
        kind.fields()
            .iter()
            .any(|field| part_of(field.rule) == part && fields.iter().any(|change| concerns(change, field.name)))
    };
    match live {
        // Created a moment ago and not listed yet: only a part is left to do.
        None if is_unlisted => {}
        None => writes.push((Part::Main, Write::Create(creation(kind, declared)))),
        Some(_) if old.is_none() && !changed(Part::Main) => {}
        Some(live) => writes.push((Part::Main, change(kind, declared, live, old, fields))),
    }
    for field in kind.fields() {
        if let (Rule::Part(part @ Part::DefaultRoles), true) = (field.rule, changed(part_of(field.rule))) {
            let roles = declared.fields.get(field.name).and_then(Value::as_array);
            let names = roles.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
            // A new tenant has none.
            if live.is_some() || !names.is_empty() {
                writes.push((part, Write::DefaultRoles(names)));
            }
        }
    }
    writes
}

/// A part with calls of its own that no try of ours has reached yet: what is missing of a create of ours.
pub fn is_part_that_was_never_sent(
    kind: &dyn Kind,
    declared: &Declared,
    change: &FieldChange,
    sent: &dyn Fn(&Key, &str, &Value) -> Sent,
) -> bool {
    let field = kind.fields().iter().find(|field| concerns(change, field.name));
    field.is_some_and(|field| {
        part_of(field.rule) != Part::Main
            && sent(&declared.key, field.name, &folded(field.shape, &change.to)) == Sent::Unknown
    })
}

/// What this declaration refers to, with whatever call.
pub fn references_of(kind: &dyn Kind, declared: &Declared) -> Vec<Key> {
    let mut document = declared.fields.clone();
    for field in kind.fields() {
        let value = match field.rule {
            Rule::Identity => Some(&declared.key.name),
            Rule::Tenant => declared.key.tenant.as_ref(),
            Rule::Plain | Rule::Required | Rule::CreateOnly | Rule::Unreadable | Rule::Part(_) => None,
        };
        if let Some(value) = value {
            document.insert(field.name.to_owned(), Value::from(&**value));
        }
    }
    let parts = [Part::Main, Part::DefaultRoles].into_iter();
    parts.flat_map(|part| kind.references(&document, part)).collect()
}

/// An overwriting call resets what it does not carry: say so where that may hit a field that nobody can read.
pub fn unreadable_loss(
    kind: &dyn Kind,
    declared: &Declared,
    live: Option<&Document>,
    returned: impl Fn(&str) -> bool,
    writes: &[(Part, Write)],
) -> Option<String> {
    live?;
    let overwrites = writes.iter().any(|(_, write)| matches!(write, Write::Overwrite { .. }));
    let lost = |field: &&Field| {
        field.rule == Rule::Unreadable && !returned(field.name) && !declared.fields.contains_key(field.name)
    };
    let field = kind.fields().iter().find(lost).filter(|_| overwrites && kind.has_patch())?;
    Some(format!(
        "{}: {}: clearing a field takes a call that overwrites the whole, and Descope does not return {}: if it is set \
         there, it is reset; declare it to keep it",
        declared.place, declared.key, field.name
    ))
}

/// What the calls of this part change.
pub fn fields_of(kind: &dyn Kind, part: Part, fields: &[FieldChange]) -> Arc<[FieldChange]> {
    let is_of_part = |change: &&FieldChange| {
        let field = kind.fields().iter().find(|field| concerns(change, field.name));
        field.map_or(Part::Main, |field| part_of(field.rule)) == part
    };
    fields.iter().filter(is_of_part).cloned().collect()
}

fn part_of(rule: Rule) -> Part {
    match rule {
        Rule::Part(part) => part,
        Rule::Identity | Rule::Tenant | Rule::Plain | Rule::Required | Rule::CreateOnly | Rule::Unreadable => {
            Part::Main
        }
    }
}

fn concerns(change: &FieldChange, field: &str) -> bool {
    change.path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn creation(kind: &dyn Kind, declared: &Declared) -> Document {
    let mut body = Document::new();
    for field in kind.fields() {
        let value = match field.rule {
            Rule::Identity => Some(Value::from(&*declared.key.name)),
            Rule::Tenant => declared.key.tenant.as_deref().map(Value::from),
            Rule::Plain | Rule::Required | Rule::CreateOnly | Rule::Unreadable => {
                declared.fields.get(field.name).map(without_nulls).filter(|value| !value.is_null())
            }
            Rule::Part(_) => None,
        };
        if let Some(value) = value {
            body.insert(field.name.to_owned(), value);
        }
    }
    body
}

fn change(kind: &dyn Kind, declared: &Declared, live: &Document, old: Option<&Key>, fields: &[FieldChange]) -> Write {
    if kind.has_patch() && !fields.iter().any(|change| clears(kind, change)) {
        return Write::Patch(patch(kind, declared, live, fields));
    }
    let mut body = live.clone();
    for name in kind.computed() {
        body.remove(*name);
    }
    for field in kind.fields() {
        match field.rule {
            // Unreadable fields go along unchanged: an overwriting call resets what it does not carry.
            Rule::Plain | Rule::Required | Rule::Unreadable => {
                if let Some(value) = declared.fields.get(field.name) {
                    body.insert(field.name.to_owned(), merged(field.shape, live.get(field.name), value));
                }
            }
            Rule::Identity | Rule::Tenant | Rule::CreateOnly | Rule::Part(_) => {}
        }
    }
    if kind.has_rename() {
        body.insert("newName".to_owned(), Value::from(&*declared.key.name));
        body.insert("name".to_owned(), Value::from(&*old.unwrap_or(&declared.key).name));
    }
    let from: Arc<str> = old.unwrap_or(&declared.key).name.clone();
    Write::Overwrite { from, body }
}

/// Patch calls are known to set what is present and not empty. Whether they clear a list, a text or one entry of a map
/// is not known, so clearing takes the overwriting call.
fn clears(kind: &dyn Kind, change: &FieldChange) -> bool {
    kind.fields().iter().filter(|field| concerns(change, field.name)).any(|field| {
        match (field.shape, part_of(field.rule)) {
            (_, Part::DefaultRoles) | (Shape::Flag, Part::Main) => false,
            (Shape::Attributes, Part::Main) => change.to.is_null(),
            (Shape::Text | Shape::Name | Shape::OneOf(_) | Shape::Set, Part::Main) => is_zero(&change.to),
        }
    })
}

fn patch(kind: &dyn Kind, declared: &Declared, live: &Document, fields: &[FieldChange]) -> Document {
    let mut body = Document::new();
    for field in kind.fields() {
        match field.rule {
            Rule::Identity => {
                body.insert(field.name.to_owned(), Value::from(&*declared.key.name));
            }
            Rule::Plain | Rule::Required | Rule::Unreadable => {
                let value = declared
                    .fields
                    .get(field.name)
                    .filter(|_| fields.iter().any(|change| concerns(change, field.name)));
                if let Some(value) = value {
                    body.insert(field.name.to_owned(), merged(field.shape, live.get(field.name), value));
                }
            }
            Rule::Tenant | Rule::CreateOnly | Rule::Part(_) => {}
        }
    }
    body
}

/// The value to send: maps keep the entries that the YAML does not name; `null` becomes the empty value.
fn merged(shape: Shape, live: Option<&Value>, declared: &Value) -> Value {
    match (shape, declared) {
        (Shape::Attributes, Value::Object(wanted)) => {
            let mut entries = live.and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, value) in wanted {
                if value.is_null() {
                    entries.remove(name);
                } else {
                    entries.insert(name.clone(), value.clone());
                }
            }
            Value::Object(entries)
        }
        (Shape::Attributes, Value::Null) => Value::Object(Document::new()),
        (Shape::Set, Value::Null) => Value::Array(Vec::new()),
        (Shape::Text | Shape::Name | Shape::OneOf(_), Value::Null) => Value::from(""),
        (Shape::Flag, Value::Null) => Value::from(false),
        (_, value) => value.clone(),
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(entries) => {
            Value::Object(entries.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value.clone(),
    }
}

/// Where documents name other resources: field, kind of what is named, and may it be of this very tenant.
const REFERENCES: [(&str, &str, bool); 2] =
    [("permissionNames", "permissions", false), ("defaultRoles", "roles", true)];

/// Does `document` name something by its old name?
pub fn refers_to_renamed(key: &Key, document: &Document, renames: &BTreeMap<Key, Key>) -> bool {
    REFERENCES.iter().any(|(field, kind, in_tenant)| {
        let names = document.get(*field).and_then(Value::as_array);
        names.into_iter().flatten().any(|name| new_name(name, key, kind, *in_tenant, renames).is_some())
    })
}

/// Replaces old names in what `document` refers to.
pub fn rename_references(key: &Key, document: &mut Document, renames: &BTreeMap<Key, Key>) {
    for (field, kind, in_tenant) in REFERENCES {
        let Some(Value::Array(names)) = document.get_mut(field) else { continue };
        for name in names {
            if let Some(new) = new_name(name, key, kind, in_tenant, renames) {
                *name = Value::from(&**new);
            }
        }
    }
}

fn new_name<'a>(
    name: &Value,
    key: &Key,
    kind: &str,
    in_tenant: bool,
    renames: &'a BTreeMap<Key, Key>,
) -> Option<&'a Arc<str>> {
    let name = name.as_str()?;
    let is_named = |old: &Key| {
        let is_in_reach = old.tenant.is_none() || (in_tenant && old.tenant.as_ref() == Some(&key.name));
        old.kind == kind && is_in_reach && *old.name == *name
    };
    renames.iter().find(|(_, old)| is_named(old)).map(|(new, _)| &new.name)
}
