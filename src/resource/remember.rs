//! What has to be remembered of a call, for no answer tells it: by path, in the form that is fingerprinted.

use super::Fields;
use super::Written;
use super::fold::folded;
use super::secret;
use super::secret::item_id;
use super::spec::Back;
use super::spec::Field;
use super::spec::Need;
use super::spec::Shape;
use super::spec::Spec;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What a call that carried this body made of fields that may not be read back. Secrets are none of them: what is in the
/// body is a reference.
pub fn sent(fields: &'static [Field], body: &dyn Fields, is_creation: bool) -> Vec<(Cow<'static, str>, Value)> {
    let mut found = Vec::new();
    for field in fields.iter().filter(|field| !matches!(field.shape, Shape::Secret)) {
        // What can be set only by the create, and was not, is known to be empty.
        let is_empty = is_creation && field.need == Need::AtCreation;
        let Some(value) = body.get(field.name).or(is_empty.then_some(&Value::Null)) else { continue };
        if field.is_remembered() {
            found.push((field.name.into(), folded(field.shape, value)));
        }
        inside(field.name, field.shape, value, &mut found);
    }
    found
}

/// Where it is remembered that a field which another call writes was declared when its resource was made: that call is a part
/// of the create until it landed. No field is called so.
pub fn along(field: &str) -> String {
    format!("{field}{ALONG}")
}

/// How such a path ends.
pub const ALONG: &str = ".@";

/// What the other calls of a create have to write, each field by its own path.
pub fn come_along(spec: &Spec, declared: &dyn Fields) -> Vec<(String, Value)> {
    let others = spec.fields().filter(|(part, _)| !spec.comes_with_create(part, declared));
    let declared = others.filter_map(|(_, field)| Some((field, declared.get(field.name)?)));
    declared.map(|(field, value)| (along(field.name), folded(field.shape, value))).collect()
}

/// The paths of which something may be remembered for as long as this is declared.
pub fn declared(spec: &Spec, declared: &Written) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = declared.iter().flat_map(|(name, _)| [name.to_owned(), along(name)]).collect();
    for part in spec.parts {
        paths.extend(sent(part.fields, declared, false).into_iter().map(|(path, _)| path.into_owned()));
        paths.extend(secret::places(part.fields.iter(), declared).into_iter().map(|place| place.path));
    }
    paths
}

fn inside(path: &str, shape: Shape, value: &Value, found: &mut Vec<(Cow<'static, str>, Value)>) {
    match (shape, value) {
        (Shape::Object(fields), Value::Object(object)) => {
            for field in fields.iter().filter(|field| !matches!(field.shape, Shape::Secret)) {
                let Some(value) = object.get(field.name) else { continue };
                let path = format!("{path}.{}", field.name);
                inside(&path, field.shape, value, found);
                if matches!(field.back, Back::Never | Back::Maybe) {
                    found.push((path.into(), folded(field.shape, value)));
                }
            }
        }
        (Shape::Items { key, fields, .. }, Value::Array(items)) => {
            for item in items {
                let path = format!("{path}[{}]", item_id(key, item).join(","));
                inside(&path, Shape::Object(fields), item, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_no_answer_tells_is_remembered_wherever_it_stands() {
        const INSIDE: &[Field] =
            &[Field::name("id"), Field::flag("hidden").never_returned(), Field::secret("key"), Field::text("seen")];
        const FIELDS: &[Field] = &[
            Field::set("apps").maybe_returned(),
            Field::text("seen"),
            Field::object("settings", INSIDE),
            Field::items("sso", &["id"], INSIDE),
        ];
        let inside = json!({ "id": "a", "hidden": true, "key": { "env": "K" }, "seen": "s" });
        let body = json!({ "apps": ["b", "a"], "seen": "s", "settings": inside, "sso": [inside] });

        let found = sent(FIELDS, body.as_object().unwrap(), false);

        let expected: Vec<(Cow<'static, str>, Value)> = vec![
            ("apps".into(), json!(["a", "b"])),
            ("settings.hidden".into(), json!(true)),
            ("sso[a].hidden".into(), json!(true)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_create_left_out_that_no_later_call_takes_is_known_to_be_empty() {
        const FIELDS: &[Field] = &[Field::text("once").at_creation(), Field::text("hidden").never_returned()];
        let nothing = serde_json::Map::new();

        assert_eq!(sent(FIELDS, &nothing, true), [("once".into(), Value::Null)]);
        assert!(sent(FIELDS, &nothing, false).is_empty());
    }
}
