//! Schemas of the JSON that commands print and the daemon answers with, from the types that are written out.
//!
//! They are closed, so that a field that no type declares is found. Of another version an answer may have more.

use crate::cli::schema::Of;
use crate::telemetry::status::Snapshot;
use clap::ValueEnum;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use serde_json::Value;
use serde_json::json;

const GROWS: &str =
    "Closed: exactly what this version writes. Fields are only ever added, so pass over what you do not know.";

/// Of what is written as that type.
pub fn of_type<T: JsonSchema>(of: Of) -> Value {
    titled(of, open::<T>()).to_value()
}

fn open<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// Of an event. The time is put in last, see `http::events`.
pub fn event() -> Value {
    let mut schema = open::<Snapshot>();
    let at = json!({ "type": "string", "description": "When it was sent, RFC 3339." });
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("at".to_owned(), at);
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.push("at".into());
    }
    titled(Of::Event, schema).to_value()
}

fn titled(of: Of, mut schema: Schema) -> Schema {
    close(&mut schema);
    if let Some(value) = of.to_possible_value() {
        let what = value.get_help().map(ToString::to_string).unwrap_or_default();
        schema.insert("title".to_owned(), format!("descope-gitops: {}", value.get_name()).into());
        schema.insert("description".to_owned(), what.into());
    }
    schema.insert("$comment".to_owned(), GROWS.into());
    schema
}

/// An object has the fields that are named, and no other.
fn close(schema: &mut Schema) {
    if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
    transform_subschemas(&mut close, schema);
}
