//! The settings file as JSON Schema: its keys come from the types that parse it, what they mean and their defaults from
//! the commented sample.

use crate::config;
use crate::config::lines::Lines;
use crate::config::raw::RawConfig;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use schemars::json_schema;
use serde_json::Map;
use serde_json::Value;
use std::borrow::Cow;

/// Every key, its default, and what it means.
const SAMPLE: &str = include_str!("../../config/descope-gitops.yaml");

/// The schema of a settings file.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<RawConfig>();
    schema.insert("title".to_owned(), "Settings of descope-gitops".into());
    schema.insert("description".to_owned(), "Flags come before environment variables, those before this file.".into());
    let mut schema = schema.to_value();
    let sample = serde_yaml::from_str(SAMPLE).unwrap_or_default();
    Notes { lines: SAMPLE.lines().collect(), places: Lines::read(SAMPLE).0 }.add("", &mut schema, &sample);
    schema
}

/// What the sample says of each key.
struct Notes<'a> {
    lines: Vec<&'a str>,
    places: Lines,
}

impl Notes<'_> {
    /// Adds descriptions and defaults to every key below `path`.
    fn add(&self, path: &str, schema: &mut Value, sample: &Value) {
        if let Some(items) = schema.get_mut("items") {
            self.add(&format!("{path}[0]"), items, sample.get(0).unwrap_or(&Value::Null));
        }
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
        for (key, property) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let value = sample.get(key);
            self.add(&path, property, value.unwrap_or(&Value::Null));
            let Some(property) = property.as_object_mut() else { continue };
            let about = self.about(&path);
            let is_required = about.as_ref().is_some_and(|text| text.starts_with("required"));
            if let Some(text) = about {
                property.insert("description".to_owned(), text.into());
            }
            let (word, value) = match value {
                Some(example) if is_required => ("examples", Value::from(vec![example.clone()])),
                Some(default) if !is_section(property) => ("default", default.clone()),
                Some(_) | None => continue,
            };
            property.insert(word.to_owned(), value);
        }
    }

    /// The comment behind a key and below it, else the one above.
    fn about(&self, path: &str) -> Option<String> {
        let at = self.places.exactly(path)?.checked_sub(1)?;
        let comment = |line: &str| line.trim_start().strip_prefix('#').map(|text| text.trim().to_owned());
        let behind = self.lines.get(at).and_then(|line| line.split_once(" # "));
        let text: Vec<String> = if let Some((_, first)) = behind {
            let more = self.lines.iter().skip(at + 1).map_while(|line| comment(line));
            [first.trim().to_owned()].into_iter().chain(more).collect()
        } else {
            let above = self.lines.iter().take(at).rev().map_while(|line| comment(line));
            let mut above: Vec<String> = above.collect();
            above.reverse();
            above
        };
        (!text.is_empty()).then(|| text.join(" "))
    }
}

/// Does it hold keys of its own?
fn is_section(property: &Map<String, Value>) -> bool {
    property.contains_key("properties") || property.get("items").is_some_and(|items| items.get("properties").is_some())
}

/// Implements [`JsonSchema`] for a word that stands for a way to write a value.
macro_rules! written {
    ($($(#[$doc:meta])* $name:ident = $schema:tt;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

written! {
    /// A text that stands for itself.
    Words = { "type": ["string", "number", "boolean"] };
    /// `500ms`, `1h30m`; days at most.
    Span = { "type": "string", "pattern": "^\\s*(0|([0-9]+\\s*(nsec|ns|usec|us|µs|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w)\\s*)+)$" };
    /// 0 to 100, with or without `%`.
    Percent = { "type": ["integer", "string"], "minimum": 0, "maximum": 100, "pattern": "^([0-9]{1,2}|100)\\s*%?$" };
    /// The same, or none.
    PercentOrOff = { "type": ["integer", "string", "null"], "minimum": 0, "maximum": 100, "pattern": "^(off|([0-9]{1,2}|100)\\s*%?)$" };
    /// `100/60s`, or none.
    Limit = { "type": ["string", "null"], "pattern": "^(off|\\s*0*[1-9][0-9]*\\s*/\\s*[0-9].*)$" };
    /// Above zero.
    Positive = { "type": ["number", "string"], "exclusiveMinimum": 0, "pattern": "^[0-9.eE+]+$" };
    /// How many.
    Count = { "type": ["integer", "string"], "minimum": 1, "pattern": "^0*[1-9][0-9]*$" };
    /// `true` or `false`.
    Flag = { "enum": [true, false, "true", "false"] };
    /// Of a project or an owner.
    Name = { "type": ["string", "number", "boolean"], "pattern": "^[A-Za-z0-9._-]{1,63}$" };
    /// The version of the format.
    Version = { "enum": [1, "1"] };
    /// `ADDRESS:PORT`.
    Listen = { "type": "string", "pattern": ":[0-9]{1,5}$" };
    /// A text that is not empty.
    Path = { "type": ["string", "number", "boolean"], "minLength": 1 };
    /// One directory, or some.
    Paths = {
        "type": ["string", "number", "boolean", "array"],
        "minLength": 1,
        "items": { "type": "string", "minLength": 1 },
        "minItems": 1,
    };
    /// Written out, or from a variable.
    Setting = {
        "anyOf": [
            { "type": ["string", "number"] },
            {
                "type": "object",
                "properties": { "env": { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" } },
                "required": ["env"],
                "additionalProperties": false,
            },
        ],
    };
    /// By reference: a settings file holds no secrets.
    Secret = {
        "type": "object",
        "properties": {
            "env": { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "description": "Name of an environment variable." },
            "file": { "type": "string", "minLength": 1, "description": "Path of a file; read again when it changes." },
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
    };
    /// What may be done.
    Policy = { "enum": ["observe", "create-only", "upsert-only", "sync"] };
    /// What is done with a project never seen.
    FirstContact = { "enum": ["hold", "apply"] };
    /// How the limit is kept.
    Algorithm = { "enum": ["budget", "adaptive"] };
    /// What sort of limit it is.
    LimitShape = { "enum": ["auto", "paced"] };
    /// What a guard does.
    Watch = { "enum": ["hold", "warn", "off"] };
    /// What a receiver understands.
    SinkType = { "enum": ["webhook", "slack"] };
    /// What a receiver is told.
    Notice = { "enum": ["held", "failing", "contested", "lease_lost", "recovered"] };
    /// How logs are written.
    LogFormat = { "enum": ["auto", "json", "pretty"] };
}

/// One number for all kinds, or a map by kind; `more` are keys beside the kinds.
fn numbers(more: &[(&str, Value)]) -> Schema {
    let number = serde_json::json!({ "type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+$" });
    let names = config::KINDS.into_iter().chain(["default"]).map(|kind| (kind.to_owned(), number.clone()));
    let properties: Map<String, Value> =
        names.chain(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone()))).collect();
    json_schema!({
        "type": ["integer", "string", "object", "null"],
        "minimum": 0,
        "pattern": "^[0-9]+$",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// `drift`: one rule for all kinds, or rules by kind.
#[derive(Debug)]
pub struct Drift;

impl JsonSchema for Drift {
    fn schema_name() -> Cow<'static, str> {
        "Drift".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mode = serde_json::json!({
            "enum": ["heal", "report", null],
            "description": "heal: it is put back; report: it is shown and left as it is.",
        });
        let mut age = Span::json_schema(generator);
        age.insert("type".to_owned(), serde_json::json!(["string", "null"]));
        age.insert("description".to_owned(), "How old it has to be before it is put back.".into());
        let rule = serde_json::json!({ "mode": mode, "minAge": age });
        let of_kind = serde_json::json!({
            "type": ["object", "null"],
            "properties": rule,
            "additionalProperties": false,
        });
        let kinds = config::KINDS.into_iter().chain(["default"]).map(|kind| (kind.to_owned(), of_kind.clone()));
        let kinds: Map<String, Value> = kinds.collect();
        json_schema!({
            "anyOf": [
                { "type": ["object", "null"], "properties": rule, "additionalProperties": false },
                { "type": "object", "properties": kinds, "additionalProperties": false },
            ],
        })
    }
}

/// `guards.maxDeletes`.
#[derive(Debug)]
pub struct ByKind;

impl JsonSchema for ByKind {
    fn schema_name() -> Cow<'static, str> {
        "ByKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        numbers(&[])
    }
}

/// `guards.maxMissing`.
#[derive(Debug)]
pub struct ByKindAndPercent;

impl JsonSchema for ByKindAndPercent {
    fn schema_name() -> Cow<'static, str> {
        "ByKindAndPercent".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        numbers(&[("percent", PercentOrOff::json_schema(generator).to_value())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            // Kinds stand for themselves.
            if property.get("description").is_none() && !config::KINDS.contains(&key.as_str()) {
                found.push(path.clone());
            }
            undescribed(&path, property, found);
            undescribed(&path, &property["items"], found);
        }
    }

    #[test]
    fn every_key_is_explained_and_what_may_be_left_out_has_its_default() {
        let schema = document();

        let mut found = Vec::new();
        undescribed("", &schema, &mut found);
        // The keys of these two are explained where they stand.
        found.retain(|path| !path.contains(".maxDeletes.") && !path.contains(".maxMissing."));
        assert_eq!(found, Vec::<String>::new(), "config/descope-gitops.yaml has no comment on these");
        let project = &schema["properties"]["projects"]["items"]["properties"];
        assert_eq!(project["policy"]["default"], "upsert-only");
        assert_eq!(project["name"].get("default"), None);
        assert_eq!(schema["properties"]["retry"]["properties"]["maxAttempts"]["default"], 5);
        assert!(
            project["policy"]["description"].as_str().is_some_and(|text| text.starts_with("observe (never writes)"))
        );
    }
}
