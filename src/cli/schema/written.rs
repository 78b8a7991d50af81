//! Schemas of the JSON that commands print and the daemon answers with, from the types that are written out.
//!
//! They are closed, so that a field that no type declares is found. Of another version an answer may have more.

use crate::cli::apply::Applied;
use crate::cli::audit::Trail;
use crate::cli::schema::Of;
use crate::cli::validate::Document;
use crate::http::Alive;
use crate::http::Changes;
use crate::http::Ordered;
use crate::http::Passes;
use crate::http::Ready;
use crate::http::Refused;
use crate::notifications::message::Message;
use crate::plan::render::Report;
use crate::plan::window::Window;
use crate::telemetry::status::Health;
use crate::telemetry::status::ProblemWindow;
use crate::telemetry::status::Snapshot;
use crate::telemetry::status::Status;
use clap::ValueEnum;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use serde_json::Value;
use serde_json::json;

const GROWS: &str =
    "Closed: exactly what this version writes. Fields are only ever added, so pass over what you do not know.";

/// The schema of what is written under that name; true, which takes anything, for what is only read.
pub fn document(of: Of) -> Value {
    let schema = match of {
        Of::Desired | Of::Config => return Value::Bool(true),
        Of::Plan => of_type::<Report>(),
        Of::Apply => of_type::<Applied>(),
        Of::Validate => of_type::<Document<'_>>(),
        Of::Status => of_type::<Status>(),
        Of::Audit => of_type::<Trail>(),
        Of::PlanWindow => of_type::<Window>(),
        Of::Event => event(),
        Of::Problems => of_type::<ProblemWindow>(),
        Of::Passes => of_type::<Passes>(),
        Of::Changes => of_type::<Changes>(),
        Of::Order => of_type::<Ordered>(),
        Of::Error => of_type::<Refused>(),
        Of::Health => of_type::<Health>(),
        Of::Ready => of_type::<Ready>(),
        Of::Live => of_type::<Alive>(),
        Of::Notification => of_type::<Message>(),
    };
    titled(of, schema).to_value()
}

fn of_type<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// The time and whether posts are possible are put in last, see `http::events`.
fn event() -> Schema {
    let mut schema = of_type::<Snapshot>();
    let at = json!({ "type": "string", "description": "When it was sent, RFC 3339." });
    let can_order = json!({ "type": "boolean", "description": "Are posts possible, with the token?" });
    for (name, property) in [("at", at), ("canOrder", can_order)] {
        schema.ensure_object();
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(name.to_owned(), property);
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.push(name.into());
        }
    }
    schema
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
