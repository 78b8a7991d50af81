//! Is an answer of the form that its table says? What is not is no observation: written back, it would lose what it hides.

use super::Document;
use super::Documents;
use super::Key;
use super::Packed;
use super::opaque::Source;
use super::spec::Back;
use super::spec::Field;
use super::spec::Read;
use super::spec::Shape;
use super::spec::Spec;
use serde_json::Value;
use std::collections::HashSet;

/// Keeps what is of this kind, and errs with what is wrong: a value of the wrong sort, or one identity twice. `null` and
/// absent are one.
pub fn sift(
    spec: &Spec,
    items: impl IntoIterator<Item = Packed>,
    key: impl Fn(&Document) -> Option<Key>,
) -> Result<Documents, String> {
    let mut found = Documents::default();
    let mut identities = HashSet::new();
    for packed in items {
        let document = packed.read().ok_or("an item that is not JSON")?;
        if spec.foreign.is_some_and(|field| is_set(document.get(field))) {
            continue;
        }
        let listed = spec.parts.iter().filter(|part| matches!(part.read, Read::List | Read::ByName));
        for field in listed.flat_map(|part| part.fields) {
            check(field, &document).map_err(|what| format!("{what} of {}", shown(&id(spec, &document))))?;
        }
        let (tenant, name) = id(spec, &document);
        if !identities.insert((tenant.map(Box::<str>::from), name.map(Box::<str>::from))) {
            return Err(format!("{} is in it twice", shown(&(tenant, name))));
        }
        found.push(spec, key(&document), &document, packed);
    }
    Ok(found)
}

/// The same for one document that a call of its own has read.
pub fn check_part(fields: &'static [Field], document: &Document) -> Result<(), String> {
    fields.iter().try_for_each(|field| check(field, document))
}

type Id<'a> = (Option<&'a str>, Option<&'a str>);

/// What tells it from all others: its key, or the id that Descope gave it.
fn id<'a>(spec: &Spec, document: &'a Document) -> Id<'a> {
    let text = |name: Option<&str>| document.get(name?)?.as_str();
    match spec.identity.server_id {
        Some(id) => (None, text(Some(id))),
        None => (text(spec.identity.tenant).filter(|tenant| !tenant.is_empty()), text(spec.identity.field)),
    }
}

fn shown((tenant, name): &Id<'_>) -> String {
    // It came from outside and goes into a message.
    let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(80).collect::<String>();
    let name = short(name.unwrap_or_default());
    tenant.map_or_else(|| format!("`{name}`"), |tenant| format!("`{}/{name}`", short(tenant)))
}

fn is_set(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !super::fold::is_zero(value))
}

fn check(field: &Field, document: &Document) -> Result<(), String> {
    let value = match document.get(field.name) {
        None | Some(Value::Null) => return Ok(()),
        Some(value) => value,
    };
    // The server's own values are looked at by nobody.
    if field.back == Back::Computed || fits(field.shape, value) {
        return Ok(());
    }
    Err(format!("the answer has {} in `{}`, which is {}", sort(value), field.name, expected(field.shape)))
}

fn fits(shape: Shape, value: &Value) -> bool {
    match shape {
        Shape::Text | Shape::Name | Shape::OneOf(_) | Shape::Reference(_) | Shape::Secret => value.is_string(),
        Shape::Flag => value.is_boolean(),
        // Numbers of 64 bits come as texts.
        Shape::Integer(..) => value.is_i64() || value.as_str().is_some_and(|text| text.parse::<i64>().is_ok()),
        Shape::Set | Shape::References(_) => is_array_of(value, Value::is_string),
        Shape::List(shape) => is_array_of(value, |item| fits(*shape, item)),
        Shape::Map(shape) => value.as_object().is_some_and(|entries| entries.values().all(|value| fits(*shape, value))),
        Shape::Object(fields) => is_object_of(fields, value),
        Shape::Items { fields, .. } => is_array_of(value, |item| is_object_of(fields, item)),
        Shape::Json => true,
        Shape::Opaque(opaque) if opaque.source == Source::Text => value.is_string(),
        Shape::Attributes | Shape::Opaque(_) => value.is_object(),
    }
}

fn is_array_of(value: &Value, is_item: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(is_item))
}

fn is_object_of(fields: &'static [Field], value: &Value) -> bool {
    value.as_object().is_some_and(|object| check_part(fields, object).is_ok())
}

fn expected(shape: Shape) -> &'static str {
    match shape {
        Shape::Text | Shape::Name | Shape::OneOf(_) | Shape::Reference(_) | Shape::Secret => "a text",
        Shape::Flag => "true or false",
        Shape::Integer(..) => "a whole number",
        Shape::Set | Shape::References(_) => "a list of texts",
        Shape::List(_) => "a list",
        Shape::Attributes | Shape::Map(_) | Shape::Object(_) => "an object",
        Shape::Items { .. } => "a list of objects",
        Shape::Json | Shape::Opaque(_) => "a document",
    }
}

/// The value itself may be anything, a secret too.
fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list of something else",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;
    use serde_json::json;

    fn sifted(kind: &str, items: &Value) -> Result<Vec<Value>, String> {
        let kind = resource::kind(kind).unwrap();
        let items = items.as_array().unwrap().iter().map(|item| Packed::of(item.as_object().unwrap()));
        let kept = sift(kind.spec(), items, |live| kind.key(live))?;
        Ok(kept.all().into_iter().map(Value::Object).collect())
    }

    #[test]
    fn what_is_of_the_wrong_sort_is_no_observation() {
        for (kind, item, expected) in [
            (
                "tenants",
                json!({ "id": "a", "customAttributes": "x" }),
                "a text in `customAttributes`, which is an object",
            ),
            ("tenants", json!({ "id": "a", "enforceSSO": "yes" }), "a text in `enforceSSO`, which is true or false"),
            (
                "tenants",
                json!({ "id": "a", "defaultRoles": [7] }),
                "a list of something else in `defaultRoles`, which is a list of texts",
            ),
            ("tenants", json!({ "id": "a", "parent": 7 }), "a number in `parent`, which is a text"),
            (
                "roles",
                json!({ "name": "a", "permissionNames": true }),
                "a boolean in `permissionNames`, which is a list of texts",
            ),
            (
                "roles",
                json!({ "name": "a", "permissionNames": {} }),
                "an object in `permissionNames`, which is a list of texts",
            ),
            (
                "permissions",
                json!({ "name": "a", "description": ["x"] }),
                "a list of something else in `description`, which is a text",
            ),
        ] {
            assert_eq!(sifted(kind, &json!([item])), Err(format!("the answer has {expected} of `a`")));
        }
    }

    #[test]
    fn one_identity_twice_is_no_observation() {
        let role = |tenant: Value| json!({ "name": "a", "tenantId": tenant });

        assert_eq!(sifted("roles", &json!([role(json!("")), role(Value::Null)])), Err("`a` is in it twice".to_owned()));
        assert_eq!(
            sifted("roles", &json!([role(json!("t")), role(json!("t"))])),
            Err("`t/a` is in it twice".to_owned())
        );
        assert_eq!(sifted("roles", &json!([role(json!("t")), role(json!(""))])).map(|kept| kept.len()), Ok(2));
    }

    #[test]
    fn null_is_absent_and_what_belongs_to_an_application_is_not_ours() {
        let items = json!([
            { "name": "a", "permissionNames": null, "appId": "" },
            { "name": "a", "permissionNames": true, "appId": "SA1" },
            { "name": "b", "later": { "any": 1 } },
        ]);

        assert_eq!(sifted("roles", &items), Ok(vec![items[0].clone(), items[2].clone()]));
    }
}
