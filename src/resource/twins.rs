//! One value that several calls of a resource write: each has to carry the same.

use super::Document;
use super::Fields;
use super::spec::Field;
use super::spec::Shape;
use serde_json::Value;

/// Puts what is declared elsewhere in the place of what a body carries along. What it declares itself stays.
pub fn carry(fields: &'static [Field], declared: &dyn Fields, body: &mut Document) {
    for field in fields {
        if let Some(value) = body.get_mut(field.name) {
            inside(field.shape, declared, declared.get(field.name), value);
        }
    }
}

fn inside(shape: Shape, declared: &dyn Fields, own: Option<&Value>, body: &mut Value) {
    match (shape, body) {
        (Shape::Object(fields), Value::Object(body)) => {
            for field in fields {
                let own = own.and_then(|own| own.get(field.name));
                let twin = || field.twins.iter().find_map(|path| at(declared, path));
                if let (None, Some(twin)) = (own, twin()) {
                    let value = if twin.is_null() { Value::Array(Vec::new()) } else { twin.clone() };
                    body.insert(field.name.to_owned(), value);
                } else if let Some(value) = body.get_mut(field.name) {
                    inside(field.shape, declared, own, value);
                }
            }
        }
        (Shape::Items { key, fields, .. }, Value::Array(items)) => {
            for item in items {
                let id = super::secret::item_id(key, item);
                let is_it = |own: &&Value| super::secret::item_id(key, own) == id;
                let own = own.and_then(Value::as_array).and_then(|own| own.iter().find(is_it)).cloned();
                inside(Shape::Object(fields), declared, own.as_ref(), item);
            }
        }
        _ => {}
    }
}

/// What is declared at a path, of a list the first that has it.
pub fn at<'a>(declared: &'a dyn Fields, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = declared.get(first.strip_suffix("[]").unwrap_or(first))?;
    match (value, rest) {
        (value, None) => Some(value),
        (Value::Object(inside), Some(rest)) => at(inside, rest),
        (Value::Array(items), Some(rest)) => items.iter().filter_map(Value::as_object).find_map(|item| at(item, rest)),
        (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SETTINGS: &[Field] = &[Field::set("domains").same_as(&["domains"]), Field::flag("enabled")];
    const ITEM: &[Field] = &[Field::text("id"), Field::set("hosts").same_as(&["sso[].hosts"])];
    const FIELDS: &[Field] = &[Field::object("settings", SETTINGS), Field::items("sso", &["id"], ITEM)];

    #[test]
    fn a_body_carries_what_is_declared_elsewhere_and_keeps_what_is_declared_in_it() {
        let carried = |declared: Value, body: Value| {
            let mut body = body.as_object().unwrap().clone();
            carry(FIELDS, declared.as_object().unwrap(), &mut body);
            Value::Object(body)
        };
        let old = json!({ "settings": { "domains": ["old"], "enabled": true } });
        for (declared, expected) in [
            (json!({}), json!(["old"])),
            (json!({ "domains": ["new"] }), json!(["new"])),
            (json!({ "domains": null }), json!([])),
            (json!({ "domains": ["new"], "settings": { "domains": ["own"] } }), json!(["old"])),
        ] {
            let found = carried(declared.clone(), old.clone());
            assert_eq!(found["settings"], json!({ "domains": expected, "enabled": true }), "{declared}");
        }

        let declared = json!({ "sso": [{ "id": "a" }, { "id": "b", "hosts": ["x"] }] });
        let body = json!({ "sso": [{ "id": "a", "hosts": ["old"] }, { "id": "b", "hosts": ["x"] }, { "id": "c" }] });
        let expected = json!({ "sso": [
            { "id": "a", "hosts": ["x"] }, { "id": "b", "hosts": ["x"] }, { "id": "c", "hosts": ["x"] },
        ]});
        assert_eq!(carried(declared, body), expected);
    }
}
