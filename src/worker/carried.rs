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
    let Write::Overwrite { from, body } = write else { return None };
    let is_refused = |name: &String| refused.iter().any(|(of, field)| *of == kind.name() && field == name);
    let mut left = body.clone();
    for name in unknown(kind, part, body).into_iter().filter(|name| is_refused(name)) {
        take_out(part.fields, &mut left, &name);
    }
    (left != *body).then(|| Write::Overwrite { from: from.clone(), body: left })
}

/// Names in a body that no table knows, at any depth.
fn unknown(kind: &dyn Kind, part: &Part, body: &Document) -> Vec<String> {
    let mut names: Vec<String> = body.keys().filter(|name| kind.spec().field(name).is_none()).cloned().collect();
    for field in part.fields {
        if let Some(value) = body.get(field.name) {
            unknown_inside(field.shape, value, &mut names);
        }
    }
    names
}

fn unknown_inside(shape: Shape, value: &Value, names: &mut Vec<String>) {
    match (shape, value) {
        (Shape::Object(fields), Value::Object(inside)) => {
            for (name, value) in inside {
                match fields.iter().find(|field| field.name == name) {
                    Some(field) => unknown_inside(field.shape, value, names),
                    None => names.push(name.clone()),
                }
            }
        }
        (Shape::Items { fields, .. }, Value::Array(items)) => {
            for item in items {
                unknown_inside(Shape::Object(fields), item, names);
            }
        }
        _ => {}
    }
}

/// Takes an unknown name out wherever it stands.
fn take_out(fields: &'static [Field], body: &mut Document, name: &str) {
    if !fields.iter().any(|field| field.name == name) {
        body.remove(name);
    }
    for field in fields {
        match (field.shape, body.get_mut(field.name)) {
            (Shape::Object(fields), Some(Value::Object(inside))) => take_out(fields, inside, name),
            (Shape::Items { fields, .. }, Some(Value::Array(items))) => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(|item| take_out(fields, item, name));
            }
            _ => {}
        }
    }
}

/// Is it refused for a field that it names as unknown? That is remembered, if it is one that was only carried along. What is declared is never
/// left out: its refusal stands.
pub(super) fn note(target: &Target, kind: &dyn Kind, part: &Part, writes: &[&Write], error: &descope::Error) -> bool {
    let descope::Error::Rejected { message, .. } = error else { return false };
    let bodies = writes.iter().filter_map(|write| match write {
        Write::Overwrite { body, .. } => Some(body),
        Write::Create(_) | Write::Patch(_) | Write::Delete { .. } => None,
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
    let says_unknown =
        ["unknown", "unrecognized", "unexpected"].iter().any(|word| message.to_lowercase().contains(word));
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
}
