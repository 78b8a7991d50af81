//! One value of the YAML against the shape that the table gives its field.

#![allow(clippy::wildcard_enum_match_arm, reason = "a value of any other sort is wrong in the same way")]

use super::pen::Pen;
use super::pen::did_you_mean;
use super::pen::must_be;
use super::pen::short;
use crate::desired::secrets::Fence;
use crate::desired::secrets::Reference;
use crate::desired::secrets::Refusal;
use crate::desired::yaml::At;
use crate::desired::yaml::Entry;
use crate::desired::yaml::Node;
use crate::desired::yaml::Value;
use crate::resource::Field;
use crate::resource::Opaque;
use crate::resource::Shape;
use crate::resource::fold::whole;
use crate::resource::opaque::Source;
use crate::resource::spec::NOTHING;
use serde_json::Map;
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// Reads values. What is wrong is written down, and is no value.
pub(super) struct Reader<'a, 'p> {
    pub fence: &'a Fence,
    pub pen: &'a mut Pen<'p>,
}

impl Reader<'_, '_> {
    /// The canonical value of a field, or `None` where it is wrong and was reported. `path` is the field as findings name
    /// it.
    pub fn field(&mut self, path: &str, field: &Field, at: At, node: Node) -> Option<Json> {
        if node.value == Value::Faulty {
            return None;
        }
        if node.value == Value::Null {
            if field.is_clearable() {
                return Some(cleared(field));
            }
            let message = match (field.stays, field.shape) {
                (Some(why), _) => format!("cannot be cleared: {why}"),
                (None, Shape::Secret) => "is null but must be a reference to a secret".to_owned(),
                (None, Shape::OneOf(words)) if words.contains(&NOTHING) => {
                    format!("is null; write \"{NOTHING}\" to say that there is none")
                }
                (None, _) => "is null but must be a text".to_owned(),
            };
            self.pen.error(at, path, message);
            return None;
        }
        if let (Some(why), Value::List(items)) = (field.stays, &node.value)
            && items.is_empty()
        {
            self.pen.warning(at, path, format!("manages nothing: {why}"));
        }
        self.value(path, field.shape, at, node)
    }

    /// What other clients of the API refuse. The API may take it.
    pub fn unusual(&mut self, field: &Field, at: At, node: &Node) {
        let (Some(usual), Value::Text(text)) = (field.usual, &node.value) else { return };
        let length = text.chars().count();
        let is_odd = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let what = if length > usual.longest {
            format!("has {length} characters, and other clients of the API take {} at the most", usual.longest)
        } else if usual.is_plain && text.contains(is_odd) {
            "has characters that other clients of the API do not take; use letters, digits, `_` and `-`".to_owned()
        } else {
            return;
        };
        self.pen.warning(at, field.name, format!("{what}; Descope may refuse it"));
    }

    fn value(&mut self, path: &str, shape: Shape, at: At, node: Node) -> Option<Json> {
        if self.is_misplaced_reference(path, shape, &node) {
            return None;
        }
        let wrong = match (shape, node.value) {
            (_, Value::Faulty) => return None,
            (Shape::Text | Shape::Reference(_), Value::Text(text)) => return Some(Json::String(text)),
            (Shape::Opaque(opaque), value) => return self.document(path, at, opaque, value),
            (Shape::Name, Value::Text(text)) if !text.is_empty() => return Some(Json::String(text)),
            (Shape::Name, Value::Text(_)) => "is empty".to_owned(),
            (Shape::Flag, Value::Flag(flag)) => return Some(Json::Bool(flag)),
            (Shape::Integer(least, most), Value::Number(number)) => {
                let number = whole(&number);
                if number.as_i64().is_some_and(|number| (least..=most).contains(&number)) {
                    return Some(Json::Number(number));
                }
                format!("must be a whole number from {least} to {most}")
            }
            (Shape::OneOf(allowed), Value::Text(text)) => {
                if allowed.contains(&text.as_str()) {
                    return Some(Json::String(text));
                }
                let names: Vec<String> = allowed.iter().map(|name| format!("\"{name}\"")).collect();
                let hint = did_you_mean(&text, allowed.iter().copied());
                format!("must be one of {}{hint}", names.join(", "))
            }
            (Shape::Set | Shape::References(_), Value::List(items)) => return self.set(path, items),
            (Shape::List(shape), Value::List(items)) => return self.list(path, *shape, items),
            (Shape::Items { key, fields, .. }, Value::List(items)) => return self.items(path, key, fields, items),
            (Shape::Attributes, Value::Map(entries)) => return self.attributes(path, at, entries),
            (Shape::Map(shape), Value::Map(entries)) => return self.map(path, at, *shape, entries),
            (Shape::Object(fields), Value::Map(entries)) => return self.object(path, at, fields, entries),
            (Shape::Json, value) => return Some(json(value)),
            (Shape::Secret, value @ Value::Map(_)) => return self.secret(path, &Node { at: node.at, value }),
            (Shape::Secret, _) => {
                "must be a reference, `{ env: NAME }` or `{ file: PATH }`: the files hold no secrets".to_owned()
            }
            (Shape::Text | Shape::Name | Shape::OneOf(_) | Shape::Reference(_), other) => must_be("a text", &other),
            (Shape::Flag, other) => must_be("true or false", &other),
            (Shape::Integer(..), other) => must_be("a whole number", &other),
            (Shape::Set | Shape::References(_), Value::Text(_)) => {
                "must be a list of texts but is a text; put it in brackets: [ ... ]".to_owned()
            }
            (Shape::Set | Shape::References(_), other) => must_be("a list of texts", &other),
            (Shape::List(_) | Shape::Items { .. }, other) => must_be("a list", &other),
            (Shape::Attributes, other) => must_be("a mapping of attribute names to values", &other),
            (Shape::Map(_), other) => must_be("a mapping of names to values", &other),
            (Shape::Object(_), other) => must_be("a mapping of fields", &other),
        };
        self.pen.error(at, path, wrong);
        None
    }

    /// The document, or the path of the file that holds it.
    fn document(&mut self, path: &str, at: At, opaque: &Opaque, value: Value) -> Option<Json> {
        let wrong = match (opaque.source, value) {
            (Source::Inline, value @ Value::Map(_)) => {
                let document = json(value);
                let Some(wrong) = (opaque.check)(&document) else { return Some(document) };
                wrong
            }
            (Source::Inline, other) => must_be("a mapping", &other),
            (Source::Json | Source::Text, Value::Text(file)) if file.is_empty() => {
                "is empty; write the path of a file".into()
            }
            (Source::Json | Source::Text, Value::Text(file)) if file.starts_with('/') => {
                "is an absolute path; write it relative to this file".into()
            }
            (Source::Json | Source::Text, Value::Text(file)) => return Some(Json::String(file)),
            (Source::Json | Source::Text, other) => must_be("the path of a file", &other),
        };
        self.pen.error(at, path, wrong);
        None
    }

    fn set(&mut self, path: &str, items: Vec<Node>) -> Option<Json> {
        let mut texts = BTreeSet::new();
        let mut is_right = true;
        for item in items {
            match item.value {
                Value::Text(text) if !text.is_empty() => drop(texts.insert(text)),
                Value::Faulty => is_right = false,
                Value::Text(_) => {
                    self.pen.error(item.at, path, "an item of the list is empty");
                    is_right = false;
                }
                other => {
                    self.pen.error(item.at, path, format!("every item of the list {}", must_be("a text", &other)));
                    is_right = false;
                }
            }
        }
        is_right.then(|| Json::Array(texts.into_iter().map(Json::String).collect()))
    }

    fn list(&mut self, path: &str, shape: Shape, items: Vec<Node>) -> Option<Json> {
        let number = items.len();
        let read = items.into_iter().enumerate();
        let values: Vec<Json> =
            read.filter_map(|(n, item)| self.value(&format!("{path}[{n}]"), shape, item.at, item)).collect();
        (values.len() == number).then_some(Json::Array(values))
    }

    fn items(&mut self, path: &str, key: &[&str], fields: &'static [Field], items: Vec<Node>) -> Option<Json> {
        let number = items.len();
        let mut values: Vec<Json> = Vec::with_capacity(number);
        for item in items {
            let (at, id) = (item.at, item_id(key, &item));
            let path = format!("{path}[{}]", id.join(","));
            let Some(value) = self.value(&path, Shape::Object(fields), at, item) else { continue };
            let texts = |value: &Json| -> Vec<String> {
                key.iter().map(|field| value[*field].as_str().unwrap_or_default().to_owned()).collect()
            };
            if values.iter().any(|earlier| texts(earlier) == texts(&value)) {
                self.pen.error(at, &path, "stands in the list twice; take one of the two out");
            } else {
                values.push(value);
            }
        }
        (values.len() == number).then_some(Json::Array(values))
    }

    fn object(&mut self, path: &str, at: At, fields: &'static [Field], entries: Vec<Entry>) -> Option<Json> {
        let is_missing = |field: &&Field| field.is_needed && !entries.iter().any(|entry| entry.key == field.name);
        let mut is_right = true;
        for field in fields.iter().filter(is_missing) {
            self.pen.error(at, &format!("{path}.{}", field.name), "is missing");
            is_right = false;
        }
        let mut object = Map::new();
        for Entry { key, at, node } in entries {
            let Some(field) = fields.iter().find(|field| field.name == key && field.is_declarable()) else {
                let known = fields.iter().filter(|field| field.is_declarable()).map(|field| field.name);
                let message = format!("there is no such field{}", did_you_mean(&key, known));
                self.pen.error(at, &format!("{path}.{}", short(&key)), message);
                is_right = false;
                continue;
            };
            match self.field(&format!("{path}.{key}"), field, at, node) {
                Some(value) => drop(object.insert(key, value)),
                None => is_right = false,
            }
        }
        is_right.then_some(Json::Object(object))
    }

    fn map(&mut self, path: &str, at: At, shape: Shape, entries: Vec<Entry>) -> Option<Json> {
        if entries.is_empty() {
            self.pen.warning(at, path, "manages nothing: entries are managed one by one; `null` clears all of them");
        }
        let mut values = Map::new();
        let mut is_right = true;
        for Entry { key, at, node } in entries {
            let value = match node.value {
                Value::Null => Some(Json::Null),
                _ => self.value(&format!("{path}.{}", short(&key)), shape, at, node),
            };
            match value {
                Some(value) => drop(values.insert(key, value)),
                None => is_right = false,
            }
        }
        is_right.then_some(Json::Object(values))
    }

    fn attributes(&mut self, field: &str, at: At, entries: Vec<Entry>) -> Option<Json> {
        if entries.is_empty() {
            self.pen.warning(
                at,
                field,
                "manages nothing: attributes are managed one by one; `null` clears all of them",
            );
        }
        let mut values = Map::new();
        let mut is_right = true;
        for Entry { key, at, node } in entries {
            let path = format!("{field}.{key}");
            let value = match node.value {
                Value::Null => Json::Null,
                Value::Flag(flag) => Json::Bool(flag),
                Value::Number(number) => Json::Number(whole(&number)),
                Value::Text(text) => Json::String(text),
                Value::List(items) => {
                    let mut texts = Vec::with_capacity(items.len());
                    for item in items {
                        match item.value {
                            Value::Text(text) => texts.push(Json::String(text)),
                            Value::Faulty => is_right = false,
                            other => {
                                self.pen.error(
                                    item.at,
                                    &path,
                                    format!("every item of the list {}", must_be("a text", &other)),
                                );
                                is_right = false;
                            }
                        }
                    }
                    Json::Array(texts)
                }
                Value::Map(_) => {
                    self.pen.error(
                        at,
                        &path,
                        "must be a text, a number, a boolean or a list of texts but is a mapping",
                    );
                    is_right = false;
                    continue;
                }
                Value::Faulty => {
                    is_right = false;
                    continue;
                }
            };
            if key.is_empty() {
                self.pen.error(at, field, "an attribute has an empty name");
                is_right = false;
            }
            values.insert(key, value);
        }
        is_right.then_some(Json::Object(values))
    }

    fn secret(&mut self, path: &str, node: &Node) -> Option<Json> {
        let Some(reference) = reference_of(node) else {
            let message = "must be a reference, `{ env: NAME }` or `{ file: PATH }`, and nothing else";
            self.pen.error(node.at, path, message);
            return None;
        };
        if let Err(refusal) = self.fence.check(&reference) {
            self.pen.error(node.at, path, refusal.to_string());
            return None;
        }
        Some(reference.to_json())
    }

    fn is_misplaced_reference(&mut self, path: &str, shape: Shape, node: &Node) -> bool {
        match shape {
            // `{ env: production }` is a fair set of attributes; only the daemon's own credentials are not.
            Shape::Attributes | Shape::Map(_) | Shape::Json | Shape::Object(_) | Shape::Opaque(_) => {
                if reference_of(node).is_some_and(|r| self.fence.check(&r) == Err(Refusal::Own)) {
                    self.refuse_reference(path, node);
                    return true;
                }
                let Value::Map(entries) = &node.value else { return false };
                let is_loose = matches!(shape, Shape::Attributes);
                let references = entries.iter().filter(|entry| is_loose && reference_of(&entry.node).is_some());
                let mut found = false;
                for entry in references {
                    found = true;
                    self.refuse_reference(&format!("{path}.{}", entry.key), &entry.node);
                }
                found
            }
            Shape::Secret => false,
            _ => {
                let is_reference = reference_of(node).is_some();
                if is_reference {
                    self.refuse_reference(path, node);
                }
                is_reference
            }
        }
    }

    /// The fence speaks first: what it forbids is worth more to know than that the field takes no secret.
    pub fn refuse_reference(&mut self, field: &str, node: &Node) {
        let Some(reference) = reference_of(node) else { return };
        let message = match self.fence.check(&reference) {
            Err(refusal) => refusal.to_string(),
            Ok(()) => "takes no secret; write the value itself".to_owned(),
        };
        self.pen.error(node.at, field, message);
    }
}

/// What `null` means: of a mapping it is `null` of each field in it that can be cleared.
fn cleared(field: &Field) -> Json {
    let Shape::Object(fields) = field.shape else { return Json::Null };
    let inside = fields.iter().filter(|field| field.is_declarable() && field.is_clearable());
    Json::Object(inside.map(|field| (field.name.to_owned(), cleared(field))).collect())
}

/// `{ env: NAME }` or `{ file: PATH }`.
pub(super) fn reference_of(node: &Node) -> Option<Reference> {
    let Value::Map(entries) = &node.value else { return None };
    let [Entry { key, node: Node { value: Value::Text(text), .. }, .. }] = entries.as_slice() else { return None };
    match key.as_str() {
        "env" => Some(Reference::Env(text.clone())),
        "file" => Some(Reference::File(text.clone())),
        _ => None,
    }
}

fn item_id(key: &[&str], item: &Node) -> Vec<String> {
    let Value::Map(entries) = &item.value else { return Vec::new() };
    let text = |field: &&str| {
        let entry = entries.iter().find(|entry| entry.key == **field);
        if let Some(Value::Text(text)) = entry.map(|entry| &entry.node.value) { short(text) } else { String::new() }
    };
    key.iter().map(text).collect()
}

/// As it stands. What the parser could not read was reported.
fn json(value: Value) -> Json {
    match value {
        Value::Null | Value::Faulty => Json::Null,
        Value::Flag(flag) => Json::Bool(flag),
        Value::Number(number) => Json::Number(whole(&number)),
        Value::Text(text) => Json::String(text),
        Value::List(items) => items.into_iter().map(|item| json(item.value)).collect(),
        Value::Map(entries) => Json::Object(entries.into_iter().map(|e| (e.key, json(e.node.value))).collect()),
    }
}
