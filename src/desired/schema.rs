//! The format of the desired state as JSON Schema: what [`super::check`] accepts of one file, for editors and CI.
//!
//! It says what a file may look like. What only shows over several files, or needs the project, no schema can say.

use crate::resource::ALL;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Kind;
use crate::resource::Shape;
use crate::resource::Spec;
use crate::resource::opaque::Source;
use crate::resource::reference;
use crate::resource::spec::Need;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Of the draft that editors know.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

// More would hide what is worth reading.
const EXAMPLES: usize = 3;

/// The schema of one document of a file. `sample` has values for the examples, in the form of such a document.
pub fn document(sample: &Document) -> Value {
    let mut properties = Map::new();
    let version = json!({ "const": 1, "description": "Of this format. May be left out." });
    properties.insert("version".to_owned(), version);
    for kind in ALL {
        let examples = match sample.get(kind.name()) {
            Some(Value::Array(items)) if kind.spec().identity.bare.is_none() => items.iter().collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        };
        properties.insert(kind.name().to_owned(), of_kind(*kind, &examples));
    }
    json!({
        "$schema": DIALECT,
        "title": "Desired state of a Descope project",
        "description": "One document of a file of the config repo. Only what is written is managed.",
        "type": ["object", "null"],
        "properties": properties,
        "patternProperties": { "^x-": { "description": "For anchors; means nothing." } },
        "additionalProperties": false,
        "$defs": { "secret": secret() },
    })
}

fn of_kind(kind: &'static dyn Kind, examples: &[&Value]) -> Value {
    let spec = kind.spec();
    let about = reference::identity(spec);
    if let Some((_, field)) = spec.identity.bare.and_then(|name| spec.field(name)) {
        let mut schema = of_shape(field.shape, examples);
        schema.insert("description".to_owned(), about.into());
        return Value::Object(schema);
    }
    let mut item = of_fields(spec.fields().map(|(_, field)| field), |field| of_field(spec, field, examples));
    directives(spec, &mut item);
    if let Some(required) = item.get_mut("required").and_then(Value::as_array_mut) {
        required.extend(spec.identity.field.map(Value::from));
    }
    let rules = rules(spec);
    if !rules.is_empty() {
        item.insert("allOf".to_owned(), rules.into());
    }
    if spec.is_only() {
        item.insert("description".to_owned(), about.into());
        return Value::Object(item);
    }
    json!({ "type": "array", "description": about, "items": item })
}

/// A field of the resource itself: the identity can never be cleared.
fn of_field(spec: &Spec, field: &Field, examples: &[&Value]) -> Value {
    let mut schema = field_schema(field, examples);
    let remarks = reference::remarks_of(field).into_iter();
    let identity = (spec.identity.field == Some(field.name)).then(|| "its identity".to_owned());
    describe(&mut schema, field, identity.into_iter().chain(remarks));
    if spec.identity.field == Some(field.name) {
        schema.insert("type".to_owned(), "string".into());
        schema.insert("minLength".to_owned(), 1.into());
    } else if spec.identity.tenant == Some(field.name) {
        schema.insert("type".to_owned(), json!(["string", "null"]));
        schema.remove("minLength");
    } else if let Some(start) = (!spec.is_only()).then(|| start(field)).flatten() {
        schema.insert("default".to_owned(), start);
    }
    Value::Object(schema)
}

fn nested_field(field: &Field, examples: &[&Value]) -> Value {
    let mut schema = field_schema(field, examples);
    describe(&mut schema, field, reference::remarks_of(field).into_iter());
    Value::Object(schema)
}

fn describe(schema: &mut Map<String, Value>, field: &Field, remarks: impl Iterator<Item = String>) {
    let text: Vec<String> = [reference::value(field.shape)].into_iter().chain(remarks).collect();
    schema.insert("description".to_owned(), text.join("; ").into());
}

/// What a field may hold, `null` where clearing makes sense.
fn field_schema(field: &Field, items: &[&Value]) -> Map<String, Value> {
    let examples: Vec<&Value> = items.iter().filter_map(|item| item.get(field.name)).collect();
    let mut schema = of_shape(field.shape, &examples);
    if field.is_clearable() {
        allow_null(&mut schema);
    }
    let is_worth_showing = matches!(
        field.shape,
        Shape::Text | Shape::Name | Shape::Integer(..) | Shape::Set | Shape::Reference(_) | Shape::References(_)
    );
    if is_worth_showing {
        let mut shown: Vec<Value> = Vec::new();
        for example in examples {
            if shown.len() < EXAMPLES && !example.is_null() && !shown.contains(example) {
                shown.push(example.clone());
            }
        }
        if !shown.is_empty() {
            schema.insert("examples".to_owned(), shown.into());
        }
    }
    schema
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::String(one)) = schema.get("type").cloned() {
        schema.insert("type".to_owned(), json!([one, "null"]));
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
}

/// What a resource has that leaves the field out when it is made.
fn start(field: &Field) -> Option<Value> {
    if field.need != Need::Optional {
        return None;
    }
    if field.start.is_some() {
        return Some(field.start());
    }
    match field.shape {
        Shape::Flag => Some(Value::Bool(false)),
        Shape::OneOf(words) if words.contains(&"") => Some("".into()),
        Shape::Text => Some("".into()),
        Shape::Set | Shape::References(_) => Some(json!([])),
        Shape::Name
        | Shape::Integer(..)
        | Shape::OneOf(_)
        | Shape::List(_)
        | Shape::Attributes
        | Shape::Map(_)
        | Shape::Object(_)
        | Shape::Items { .. }
        | Shape::Json
        | Shape::Reference(_)
        | Shape::Opaque(_)
        | Shape::Secret => None,
    }
}

fn of_shape(shape: Shape, examples: &[&Value]) -> Map<String, Value> {
    let inside = || -> Vec<&Value> { examples.iter().copied().flat_map(each).collect() };
    let schema = match shape {
        Shape::Text | Shape::Reference(_) => json!({ "type": "string" }),
        Shape::Opaque(opaque) if opaque.source == Source::Inline => json!({ "type": "object" }),
        Shape::Name | Shape::Opaque(_) => json!({ "type": "string", "minLength": 1 }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Integer(least, i64::MAX) => json!({ "type": "integer", "minimum": least }),
        Shape::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::OneOf(words) => json!({ "type": "string", "enum": words }),
        Shape::Set | Shape::References(_) => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1 } })
        }
        Shape::List(shape) => json!({ "type": "array", "items": of_shape(*shape, &inside()) }),
        Shape::Attributes => json!({
            "type": "object",
            "propertyNames": { "minLength": 1 },
            "additionalProperties": {
                "type": ["string", "number", "boolean", "array", "null"],
                "items": { "type": "string" },
            },
        }),
        Shape::Map(shape) => {
            let mut values = of_shape(*shape, &inside());
            allow_null(&mut values);
            json!({ "type": "object", "additionalProperties": values })
        }
        Shape::Object(fields) => return of_fields(fields.iter(), |field| nested_field(field, examples)),
        Shape::Items { fields, .. } => {
            let inside = inside();
            let item = of_fields(fields.iter(), |field| nested_field(field, &inside));
            json!({ "type": "array", "items": item })
        }
        Shape::Json => json!({}),
        Shape::Secret => json!({ "$ref": "#/$defs/secret" }),
    };
    let Value::Object(schema) = schema else { return Map::new() };
    schema
}

fn of_fields<'f>(fields: impl Iterator<Item = &'f Field>, schema: impl Fn(&Field) -> Value) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields.filter(|field| field.is_declarable()) {
        if field.is_needed {
            required.push(field.name);
        }
        properties.insert(field.name.to_owned(), schema(field));
    }
    let mut object = Map::new();
    object.insert("type".to_owned(), "object".into());
    object.insert("properties".to_owned(), properties.into());
    object.insert("required".to_owned(), json!(required));
    object.insert("additionalProperties".to_owned(), false.into());
    object
}

fn directives(spec: &Spec, item: &mut Map<String, Value>) {
    let Some(properties) = item.get_mut("properties").and_then(Value::as_object_mut) else { return };
    let flag = |about: &str| json!({ "type": "boolean", "default": false, "description": about });
    properties.insert("protected".to_owned(), flag("Never deleted, also after it left the files."));
    if spec.verbs.cascade {
        properties.insert("cascadeDelete".to_owned(), flag("Its delete takes users along."));
    }
    if spec.verbs.rename {
        let about = "The name that it had: it is renamed in place, so that ids and assignments stay.";
        properties.insert("renamedFrom".to_owned(), json!({ "type": "string", "minLength": 1, "description": about }));
    }
    if spec.shows_secret {
        let about = "Where the secret goes that Descope shows once, below the project's secrets.dir.";
        properties.insert("secretFile".to_owned(), json!({ "type": "string", "minLength": 1, "description": about }));
    }
}

fn secret() -> Value {
    let one = |field: &str, about: &str| {
        json!({
            "type": "object",
            "properties": { field: { "type": "string", "description": about } },
            "required": [field],
            "additionalProperties": false,
        })
    };
    json!({
        "description": "A reference to a secret: the files hold none.",
        "oneOf": [one("env", "Name of an environment variable."), one("file", "Path below `secrets.dir`.")],
        "examples": [{ "env": "APP_SECRET" }],
    })
}

/// What the kind's own check says of a field under one word of another and not under all of them: an application of one
/// type has no fields of another.
fn rules(spec: &Spec) -> Vec<Value> {
    let mut rules = Vec::new();
    let fields = || spec.fields().map(|(_, field)| field).filter(|field| field.is_declarable());
    for chooser in fields() {
        let Shape::OneOf(words) = chooser.shape else { continue };
        for word in words {
            let mut properties = Map::new();
            for field in fields().filter(|field| field.name != chooser.name) {
                let takes = |word: &str, value: &Value| {
                    let mut declared = Document::new();
                    declared.insert(chooser.name.to_owned(), word.into());
                    declared.insert(field.name.to_owned(), value.clone());
                    (spec.check)(&declared).iter().all(|(wrong, _)| *wrong != field.name)
                };
                let is_of_the_word =
                    |value: &Value| !takes(word, value) && words.iter().any(|other| takes(other, value));
                let refused: Vec<Value> = probes(field.shape).into_iter().filter(is_of_the_word).collect();
                if let Some(rule) = rule(field.shape, &refused) {
                    properties.insert(field.name.to_owned(), rule);
                }
            }
            if !properties.is_empty() {
                rules.push(json!({
                    "if": { "properties": { chooser.name: { "const": word } }, "required": [chooser.name] },
                    "then": { "properties": properties },
                }));
            }
        }
    }
    rules
}

/// A value of each sort that the shape takes.
fn probes(shape: Shape) -> Vec<Value> {
    let mut probes = vec![Value::Null];
    match shape {
        Shape::Json => probes.extend([json!(true), json!(1), json!("x"), json!([]), json!({})]),
        Shape::Items { .. } => probes.extend([json!([]), json!([{}])]),
        Shape::Text
        | Shape::Name
        | Shape::Flag
        | Shape::Integer(..)
        | Shape::OneOf(_)
        | Shape::Set
        | Shape::List(_)
        | Shape::Attributes
        | Shape::Map(_)
        | Shape::Object(_)
        | Shape::Reference(_)
        | Shape::References(_)
        | Shape::Opaque(_)
        | Shape::Secret => {}
    }
    probes
}

fn rule(shape: Shape, refused: &[Value]) -> Option<Value> {
    if refused.is_empty() {
        return None;
    }
    if refused.contains(&Value::Null) {
        return Some(false.into());
    }
    if matches!(shape, Shape::Json) {
        let sort = |value: &Value| match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let taken: Vec<&str> = probes(shape).iter().filter(|probe| !refused.contains(probe)).map(sort).collect();
        return Some(json!({ "type": taken }));
    }
    Some(json!({ "maxItems": 0 }))
}

/// The values inside of a list or a mapping; of anything else none.
fn each(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(entries) => entries.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_examples_are_shown_each_once_and_no_null() {
        let items: Vec<Value> = [json!("b"), json!(null), json!("b"), json!("a"), json!("c"), json!("d")]
            .map(|one| json!({ "text": one }))
            .into();

        let schema = field_schema(&Field::text("text"), &items.iter().collect::<Vec<_>>());

        assert_eq!(schema["examples"], json!(["b", "a", "c"]));
    }
}
