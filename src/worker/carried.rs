//! Fields that an overwriting call carries along because they were observed, and that no table knows: the API may refuse
//! in a request what it gave in an answer.

use super::Target;
use crate::descope;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::Write;
use serde_json::Value;
use std::collections::BTreeSet;

/// Fields that Descope refused by name, with their kind.
pub type Refused = BTreeSet<(&'static str, String)>;

/// The write without what Descope was seen to refuse; `None` where nothing of that is in it.
pub(super) fn without_refused(target: &Target, kind: &dyn Kind, part: &Part, write: &Write) -> Option<Write> {
    let refused = target.refused.borrow();
    let (Write::Overwrite { body, .. } | Write::Patch(body)) = write else { return None };
    let is_refused = |name: &String| refused.iter().any(|(of, field)| *of == kind.name() && field == name);
    let mut left = body.clone();
    for name in unknown(kind, part, body).into_iter().filter(|name| is_refused(name)) {
        take_out(part.fields, &mut left, &name);
    }
    (left != *body).then(|| match write {
        Write::Overwrite { from, .. } => Write::Overwrite { from: from.clone(), body: left },
        Write::Patch(_) | Write::Create(_) | Write::Delete { .. } => Write::Patch(left),
    })
}

/// Names in a body that no table knows, at any depth. What lies inside of another such comes last.
fn unknown(kind: &dyn Kind, part: &Part, body: &Document) -> Vec<String> {
    let (mut names, mut deeper) = (Vec::new(), Vec::new());
    for (name, value) in body {
        match part.fields.iter().find(|field| field.name == name) {
            Some(field) => unknown_inside(field.shape, value, &mut names, &mut deeper),
            None if kind.spec().field(name).is_some() => {}
            None => {
                names.push(name.clone());
                all_inside(value, &mut deeper);
            }
        }
    }
    names.append(&mut deeper);
    names
}

fn unknown_inside(shape: Shape, value: &Value, names: &mut Vec<String>, deeper: &mut Vec<String>) {
    match (shape, value) {
        (Shape::Object(fields), Value::Object(inside)) => {
            for (name, value) in inside {
                if let Some(field) = fields.iter().find(|field| field.name == name) {
                    unknown_inside(field.shape, value, names, deeper);
                } else {
                    names.push(name.clone());
                    all_inside(value, deeper);
                }
            }
        }
        (Shape::Items { fields, .. }, Value::Array(items)) => {
            for item in items {
                unknown_inside(Shape::Object(fields), item, names, deeper);
            }
        }
        (Shape::List(shape), Value::Array(items)) => {
            for item in items {
                unknown_inside(*shape, item, names, deeper);
            }
        }
        (Shape::Map(shape), Value::Object(entries)) => {
            for entry in entries.values() {
                unknown_inside(*shape, entry, names, deeper);
            }
        }
        _ => {}
    }
}

fn all_inside(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(inside) => {
            names.extend(inside.keys().cloned());
            for value in inside.values() {
                all_inside(value, names);
            }
        }
        Value::Array(items) => {
            for item in items {
                all_inside(item, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Takes an unknown name out wherever it stands.
fn take_out(fields: &'static [Field], body: &mut Document, name: &str) {
    body.retain(|key, _| key != name || fields.iter().any(|field| field.name == key));
    for (key, value) in body.iter_mut() {
        match fields.iter().find(|field| field.name == key) {
            Some(field) => take_out_of(field.shape, value, name),
            None => take_out_all(value, name),
        }
    }
}

fn take_out_of(shape: Shape, value: &mut Value, name: &str) {
    match (shape, value) {
        (Shape::Object(fields), Value::Object(inside)) => take_out(fields, inside, name),
        (Shape::Items { fields, .. }, Value::Array(items)) => {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                take_out(fields, item, name);
            }
        }
        (Shape::List(shape), Value::Array(items)) => {
            for item in items {
                take_out_of(*shape, item, name);
            }
        }
        (Shape::Map(shape), Value::Object(entries)) => {
            for entry in entries.values_mut() {
                take_out_of(*shape, entry, name);
            }
        }
        _ => {}
    }
}

fn take_out_all(value: &mut Value, name: &str) {
    match value {
        Value::Object(inside) => {
            inside.remove(name);
            for value in inside.values_mut() {
                take_out_all(value, name);
            }
        }
        Value::Array(items) => {
            for item in items {
                take_out_all(item, name);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Is it refused for a field that it names as unknown? That is remembered, if it is one that was only carried along. What is declared is never
/// left out: its refusal stands.
pub(super) fn note(target: &Target, kind: &dyn Kind, part: &Part, writes: &[&Write], error: &descope::Error) -> bool {
    let descope::Error::Rejected { message, .. } = error else { return false };
    let bodies = writes.iter().filter_map(|write| match write {
        Write::Overwrite { body, .. } | Write::Patch(body) => Some(body),
        Write::Create(_) | Write::Delete { .. } => None,
    });
    let Some(field) = bodies.into_iter().find_map(|body| refused_by_name(kind, part, body, message)) else {
        return false;
    };
    let is_news = target.refused.send_if_modified(|refused| refused.insert((kind.name(), field.clone())));
    if is_news {
        let kind = kind.name();
        tracing::warn!(
            kind,
            field,
            "Descope answers this field and takes it in no request; it is left out from now on"
        );
    }
    true
}

fn refused_by_name(kind: &dyn Kind, part: &Part, body: &Document, message: &str) -> Option<String> {
    // As gateways and validators of JSON put it.
    let words = [
        "unknown",
        "unrecogni",
        "not recogni",
        "unexpected",
        "no such field",
        "cannot find field",
        "additional propert",
    ];
    let message_in_lower_case = message.to_lowercase();
    let says_unknown = words.iter().any(|word| message_in_lower_case.contains(word));
    let is_named = |field: &str| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        message.match_indices(field).any(|(at, _)| {
            let (before, after) = (&message[..at], &message[at + field.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
    };
    unknown(kind, part, body).into_iter().filter(|_| says_unknown).find(|name| is_named(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;
    use serde_json::json;

    #[test]
    fn only_what_is_carried_along_and_named_as_unknown_is_left_out() {
        let kind = resource::kind("roles").unwrap();
        let body = json!({ "name": "a", "description": "", "later": 1, "late": 2 }).as_object().unwrap().clone();
        for (message, expected) in [
            ("Request is malformed: unknown field \"later\"", Some("later")),
            ("proto: (line 1:40): unknown field \"late\"", Some("late")),
            ("Unknown field late", Some("late")),
            ("unknown field \"latest\"", None),
            ("unknown field \"description\"", None),
            ("the later the better", None),
            ("unknown permission p", None),
        ] {
            assert_eq!(refused_by_name(kind, kind.spec().main(), &body, message).as_deref(), expected, "{message}");
        }
    }

    #[test]
    fn it_is_left_out_at_any_depth_and_what_a_table_knows_stays() {
        let kind = resource::kind("ssoApplications").unwrap();
        let fields = kind.spec().main().fields;
        let mut body = json!({
            "id": "a", "later": { "of": [{ "deep": 1 }] },
            "groupsMapping": [{ "name": "g", "later": 1, "roles": [{ "name": "r", "later": 1 }] }],
            "jwtBearerSettings": { "issuers": { "i": { "jwksUri": "u", "later": 1 } }, "later": 1 },
            "customAttributes": { "later": "an attribute" },
        });
        let Value::Object(body) = &mut body else { unreachable!() };

        assert_eq!(
            refused_by_name(kind, kind.spec().main(), body, "unknown field \"deep\"").as_deref(),
            Some("deep"),
            "inside of what is unknown"
        );
        take_out(fields, body, "deep");
        assert_eq!(body["later"], json!({ "of": [{}] }));
        take_out(fields, body, "later");
        take_out(fields, body, "name");

        let expected = json!({
            "id": "a", "groupsMapping": [{ "name": "g", "roles": [{ "name": "r" }] }],
            "jwtBearerSettings": { "issuers": { "i": { "jwksUri": "u" } } }, "customAttributes": { "later": "an attribute" },
        });
        assert_eq!(Value::Object(body.clone()), expected);
        let scopes = resource::kind("scopeClaimMapping").unwrap();
        let body = json!({ "mappings": [{ "scope": "s", "later": 1 }] }).as_object().unwrap().clone();
        let named = refused_by_name(scopes, scopes.spec().main(), &body, "Unknown name \"later\": Cannot find field");
        assert_eq!(named.as_deref(), Some("later"), "in a list");
    }
}
