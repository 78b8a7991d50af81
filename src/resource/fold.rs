//! The one form of a value. What it means to the API decides: its backend is protobuf, so absent, `null`, `""`, `[]`,
//! `false` and `0` are one; sets have no order. Entries of a map are no protobuf fields: there only `null` and absent are
//! one.

use super::Document;
use super::Written;
use super::spec::Back;
use super::spec::Field;
use super::spec::Read;
use super::spec::Shape;
use super::spec::Spec;
use serde_json::Number;
use serde_json::Value;
use std::borrow::Cow;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

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

/// What a table knows of a live value. The items of a list without keys are compared as they are, so what Descope answers
/// beyond that is no difference.
pub fn known(shape: Shape, live: &Value) -> Cow<'_, Value> {
    let (Shape::List(&Shape::Object(fields)), Value::Array(items)) = (shape, live) else { return Cow::Borrowed(live) };
    let is_known = |name: &str| fields.iter().any(|field| field.name == name);
    let item = |item: &Value| match item {
        Value::Object(object) => {
            let known = object.iter().filter(|(name, _)| is_known(name));
            Value::Object(known.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => item.clone(),
    };
    Cow::Owned(items.iter().map(item).collect())
}

/// The one form of a value: sets sorted, without duplicates.
pub fn canonical(shape: Shape, value: &Value) -> Value {
    match (shape, value) {
        (Shape::Set | Shape::References(_), Value::Array(items)) => sorted(items.iter().cloned()),
        (Shape::List(shape), Value::Array(items)) => items.iter().map(|item| canonical(*shape, item)).collect(),
        (Shape::Items { fields, .. }, Value::Array(items)) => sorted(items.iter().map(|item| object(fields, item))),
        (Shape::Object(fields), value) => object(fields, value),
        (Shape::Map(shape), Value::Object(entries)) => present(entries, |value| canonical(*shape, value)),
        (Shape::Attributes, Value::Object(entries)) => present(entries, entry),
        (Shape::Integer(..), Value::String(text)) => text.parse::<i64>().map_or_else(|_| value.clone(), Value::from),
        (Shape::Json, value) => json(value),
        (Shape::Opaque(opaque), value) => opaque.canonical(value),
        (_, value) => value.clone(),
    }
}

/// The form that is fingerprinted: canonical, and every empty value the same.
pub fn folded(shape: Shape, value: &Value) -> Value {
    if is_zero(value) { Value::Null } else { canonical(shape, value) }
}

/// Equal entries of a map of attributes?
pub fn same_entry(from: &Value, to: &Value) -> bool {
    entry(from) == entry(to)
}

/// The one form of an observed document: what means nothing is not in it, and nothing in it has an order that means
/// nothing.
pub fn document(spec: &Spec, live: &Document) -> Value {
    let known = |name: &str| spec.field(name).map(|(_, field)| field);
    fold_fields(live, known)
}

/// Tells observed documents of a kind apart by what its list shows.
pub fn digest(spec: &Spec, live: &Document) -> u64 {
    let has_call = |name: &str| spec.field(name).is_some_and(|(part, _)| part.read == Read::Each);
    let mut canonical = document(spec, live);
    if let Value::Object(fields) = &mut canonical {
        fields.retain(|name, _| !has_call(name));
    }
    hash(&canonical)
}

/// Tells apart what is declared, which is canonical already.
pub fn digest_of_declared(declared: &Written) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(declared).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

fn hash(canonical: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    // A map of `serde_json` is sorted, so its text is canonical.
    canonical.to_string().hash(&mut hasher);
    hasher.finish()
}

fn object(fields: &'static [Field], value: &Value) -> Value {
    let Value::Object(document) = value else { return value.clone() };
    fold_fields(document, |name| fields.iter().find(|field| field.name == name))
}

fn fold_fields(document: &Document, known: impl Fn(&str) -> Option<&'static Field>) -> Value {
    let fold = |(name, value): (&String, &Value)| {
        let field = known(name);
        if field.is_some_and(|field| field.back == Back::Computed) {
            return None;
        }
        let folded = field.map_or_else(|| unknown(value), |field| canonical(field.shape, value));
        (!is_zero(&folded)).then(|| (name.clone(), folded))
    };
    Value::Object(document.iter().filter_map(fold).collect())
}

/// Nobody knows whether an order in it means something. That it changes alone is not worth a difference.
fn unknown(value: &Value) -> Value {
    match value {
        Value::Array(items) => sorted(items.iter().map(unknown)),
        Value::Object(document) => fold_fields(document, |_| None),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn present(entries: &Document, form: impl Fn(&Value) -> Value) -> Value {
    let present = entries.iter().filter(|(_, value)| !value.is_null());
    Value::Object(present.map(|(name, value)| (name.clone(), form(value))).collect())
}

/// The one form of an attribute: 25 and 25.0 are the same number, and lists have no order.
pub fn entry(value: &Value) -> Value {
    match value {
        Value::Array(items) => sorted(items.iter().cloned()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => json(value),
    }
}

fn json(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(number)),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Object(entries) => Value::Object(entries.iter().map(|(k, v)| (k.clone(), json(v))).collect()),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// `1.0` and `1` are one number to JSON, and Descope answers with the shorter one.
pub fn whole(number: &Number) -> Number {
    // Up to here a float holds every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => {
            #[allow(clippy::cast_possible_truncation, reason = "it is whole and within the bounds of i64")]
            let whole = float as i64;
            whole.into()
        }
        _ => number.clone(),
    }
}

fn sorted(items: impl Iterator<Item = Value>) -> Value {
    let mut items: Vec<Value> = items.collect();
    items.sort_by_cached_key(ToString::to_string);
    items.dedup();
    Value::Array(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;
    use serde_json::json;

    fn folded_document(kind: &str, value: Value) -> Value {
        let Value::Object(live) = value else { panic!("not an object") };
        document(resource::kind(kind).unwrap().spec(), &live)
    }

    #[test]
    fn entries_are_equal_whatever_the_order_of_a_list_and_however_a_number_is_written() {
        for (one, other, is_same) in [
            (json!(["a", "b"]), json!(["b", "a"]), true),
            (json!(["a"]), json!(["a", "b"]), false),
            (json!(25), json!(25.0), true),
            (json!(25), json!("25"), false),
            (json!(true), json!(false), false),
        ] {
            assert_eq!(same_entry(&one, &other), is_same, "{one} {other}");
        }
    }

    #[test]
    fn neither_order_nor_emptiness_nor_what_the_server_sets_tells_documents_apart() {
        for (kind, one, other) in [
            (
                "roles",
                json!({ "name": "a", "permissionNames": ["p", "q"], "description": "", "createdTime": 1, "id": "R1" }),
                json!({ "name": "a", "permissionNames": ["q", "p"], "createdTime": 2, "default": false }),
            ),
            (
                "tenants",
                json!({ "id": "a", "name": "A", "selfProvisioningDomains": ["x", "y"], "successors": ["b", "c"],
                    "domains": ["d", "e"], "customAttributes": { "l": ["1", "2"], "n": 25, "gone": null } }),
                json!({ "id": "a", "name": "A", "selfProvisioningDomains": ["y", "x"], "successors": ["c"],
                    "domains": ["e", "d"], "customAttributes": { "l": ["2", "1"], "n": 25.0 }, "parent": null }),
            ),
            (
                "roles",
                json!({ "name": "a", "later": { "deep": [{ "a": 1 }, { "b": [] }], "zero": 0 } }),
                json!({ "name": "a", "later": { "deep": [{}, { "a": 1 }] } }),
            ),
        ] {
            assert_eq!(folded_document(kind, one), folded_document(kind, other));
        }
    }

    #[test]
    fn what_means_something_does() {
        for (kind, one, other) in [
            ("roles", json!({ "name": "a", "permissionNames": ["p"] }), json!({ "name": "a" })),
            ("roles", json!({ "name": "a", "later": 1 }), json!({ "name": "a", "later": 2 })),
            (
                "tenants",
                json!({ "id": "a", "customAttributes": { "plan": "" } }),
                json!({ "id": "a", "customAttributes": {} }),
            ),
        ] {
            assert_ne!(folded_document(kind, one), folded_document(kind, other));
        }
    }
}
