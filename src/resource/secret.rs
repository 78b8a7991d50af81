//! Secrets in a document: references, until right before a call is sent.
//!
//! What is declared, planned, queued and noted holds `{ env: NAME }` or `{ file: PATH }`. [`resolve`] makes the body of
//! one call; nothing keeps it.

use super::Document;
use super::Fields;
use super::spec::Back;
use super::spec::Field;
use super::spec::Omit;
use super::spec::Shape;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;

/// What stands in place of a secret wherever one is shown.
pub const MASK: &str = "(secret)";

/// Where a secret stands in a document, and its reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// As a difference names it: `oidc.clientSecret`, `sso[main].oidc.clientSecret`.
    pub path: String,
    /// As the YAML writes it.
    pub reference: Value,
}

/// Every secret that the document refers to.
pub fn places<'f>(fields: impl Iterator<Item = &'f Field>, document: &dyn Fields) -> Vec<Place> {
    let mut found = Vec::new();
    for field in fields {
        if let Some(value) = document.get(field.name) {
            collect(field.name, field.shape, value, &mut found);
        }
    }
    found
}

/// The document with every secret in place of its reference. Errs with the path and the reason where one cannot be had.
pub fn resolve<'f, E>(
    fields: impl Iterator<Item = &'f Field>,
    document: &Document,
    secret: &dyn Fn(&Value) -> Result<SecretString, E>,
) -> Result<Document, (String, E)> {
    let mut resolved = document.clone();
    for field in fields {
        if let Some(value) = resolved.get_mut(field.name) {
            replace(field.name, field.shape, value, secret)?;
        }
    }
    Ok(resolved)
}

/// Takes out the secrets that the API keeps where they are left out, unless `is_changed`, by path.
pub fn leave_out_kept(fields: &[&Field], document: &mut Document, is_changed: &dyn Fn(&str) -> bool) {
    for field in fields {
        if is_kept(field) {
            if !is_changed(field.name) {
                document.remove(field.name);
            }
        } else if let Some(value) = document.get_mut(field.name) {
            drop_kept(field.name, field.shape, value, is_changed);
        }
    }
}

fn is_kept(field: &Field) -> bool {
    matches!(field.shape, Shape::Secret) && field.omit == Omit::Keeps && field.back != Back::Computed
}

/// Calls `each` on every value inside of a nested one, with its path and shape.
fn inside<T>(
    path: &str,
    shape: Shape,
    value: &mut Value,
    mut each: impl FnMut(&str, &'static Field, &mut Document) -> Result<(), T>,
) -> Result<(), T> {
    match (shape, value) {
        (Shape::Object(fields), Value::Object(object)) => {
            fields.iter().try_for_each(|field| each(&format!("{path}.{}", field.name), field, object))
        }
        (Shape::Items { key, fields, .. }, Value::Array(items)) => items.iter_mut().try_for_each(|item| {
            let path = format!("{path}[{}]", item_id(key, item).join(","));
            let Value::Object(object) = item else { return Ok(()) };
            fields.iter().try_for_each(|field| each(&format!("{path}.{}", field.name), field, object))
        }),
        _ => Ok(()),
    }
}

/// What tells an item of a list from the others.
pub fn item_id<'a>(key: &[&str], item: &'a Value) -> Vec<&'a str> {
    key.iter().map(|field| item.get(field).and_then(Value::as_str).unwrap_or_default()).collect()
}

fn collect(path: &str, shape: Shape, value: &Value, found: &mut Vec<Place>) {
    match (shape, value) {
        (Shape::Secret, Value::Object(_)) => {
            found.push(Place { path: path.to_owned(), reference: value.clone() });
        }
        (Shape::Object(fields), Value::Object(object)) => {
            for field in fields {
                if let Some(value) = object.get(field.name) {
                    collect(&format!("{path}.{}", field.name), field.shape, value, found);
                }
            }
        }
        (Shape::Items { key, fields, .. }, Value::Array(items)) => {
            for item in items {
                let path = format!("{path}[{}]", item_id(key, item).join(","));
                collect(&path, Shape::Object(fields), item, found);
            }
        }
        _ => {}
    }
}

fn replace<E>(
    path: &str,
    shape: Shape,
    value: &mut Value,
    secret: &dyn Fn(&Value) -> Result<SecretString, E>,
) -> Result<(), (String, E)> {
    if matches!(shape, Shape::Secret) {
        if value.is_object() {
            let known = secret(value).map_err(|error| (path.to_owned(), error))?;
            *value = Value::from(known.expose_secret());
        }
        return Ok(());
    }
    inside(path, shape, value, |path, field, object| {
        object.get_mut(field.name).map_or(Ok(()), |value| replace(path, field.shape, value, secret))
    })
}

fn drop_kept(path: &str, shape: Shape, value: &mut Value, is_changed: &dyn Fn(&str) -> bool) {
    let dropped: Result<(), ()> = inside(path, shape, value, |path, field, object| {
        if is_kept(field) {
            if !is_changed(path) {
                object.remove(field.name);
            }
        } else if let Some(value) = object.get_mut(field.name) {
            drop_kept(path, field.shape, value, is_changed);
        }
        Ok(())
    });
    dropped.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OIDC: &[Field] = &[Field::text("clientId"), Field::secret("clientSecret")];
    const FIELDS: &[Field] = &[
        Field::text("name"),
        Field::secret("token").omit_keeps(),
        Field::items("sso", &["ssoId"], &[Field::text("ssoId"), Field::object("oidc", OIDC)]),
    ];

    fn document() -> Document {
        let value = json!({
            "name": "a", "token": { "env": "TOKEN" },
            "sso": [{ "ssoId": "main", "oidc": { "clientId": "c", "clientSecret": { "file": "s" } } }, { "ssoId": "x" }],
        });
        value.as_object().unwrap().clone()
    }

    #[test]
    fn each_is_found_by_its_path_wherever_it_stands() {
        let found: Vec<String> = places(FIELDS.iter(), &document()).into_iter().map(|place| place.path).collect();

        assert_eq!(found, ["token", "sso[main].oidc.clientSecret"]);
    }

    #[test]
    fn a_body_has_the_secret_and_the_document_the_reference() {
        let before = document();

        let secret = |reference: &Value| Ok::<_, ()>(SecretString::from(format!("of {reference}")));
        let body = resolve(FIELDS.iter(), &before, &secret).unwrap();

        assert_eq!(body["token"], json!("of {\"env\":\"TOKEN\"}"));
        assert_eq!(body["sso"][0]["oidc"], json!({ "clientId": "c", "clientSecret": "of {\"file\":\"s\"}" }));
        assert_eq!(before, document());
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let found = resolve(FIELDS.iter(), &document(), &|reference| {
            if reference.get("file").is_some() { Err("is not set") } else { Ok(SecretString::from("s")) }
        });

        assert_eq!(found, Err(("sso[main].oidc.clientSecret".to_owned(), "is not set")));
    }

    #[test]
    fn one_that_the_api_keeps_is_sent_only_when_it_changed() {
        let fields: Vec<&Field> = FIELDS.iter().collect();
        let mut unchanged = document();
        leave_out_kept(&fields, &mut unchanged, &|_| false);
        let mut changed = document();
        leave_out_kept(&fields, &mut changed, &|path| path == "token");

        assert!(!unchanged.contains_key("token") && changed.contains_key("token"));
        assert_eq!(unchanged["sso"], document()["sso"], "an overwriting call would reset it");
    }
}
