//! `descope-gitops schema`: JSON Schema of what it reads, for editors and for CI, and of the JSON that it writes, for programs.

use crate::cli::Exit;
use crate::cli::demo::SAMPLE;
use crate::cli::output;
use crate::config;
use crate::desired;
use crate::resource::Document;
use serde::Deserialize;
use serde_json::Value;
use std::io::Write;
use std::path::Path;

mod written;

const EXAMPLES: &str = "\
Examples:
  descope-gitops schema desired > .desired.schema.json         completes and explains in an editor
  descope-gitops schema plan > plan.schema.json                types for a program that reads `plan -o json`";

/// Of what there is a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Of {
    /// The files of a config repo
    Desired,
    /// The settings file
    Config,
    /// `plan -o json` and `GET /api/v1/plan`
    Plan,
    /// `apply -o json`
    Apply,
    /// `validate -o json`
    Validate,
    /// `status -o json` and `GET /api/v1/status`
    Status,
    /// `audit -o json`
    Audit,
    /// `GET /api/v1/plan` with `limit` or another parameter
    PlanWindow,
    /// An event of `GET /api/v1/events`
    Event,
    /// `GET /api/v1/problems`
    Problems,
    /// `GET /api/v1/history`
    Passes,
    /// `GET /api/v1/history?of=changes`
    Changes,
    /// `POST` of reconcile, approve, suspend and resume
    Order,
    /// Any answer of the API that is not 2xx
    Error,
    /// `GET /healthz`
    Health,
    /// `GET /readyz`
    Ready,
    /// `GET /livez`
    Live,
    /// What a webhook of `notifications` gets
    Notification,
}

/// Which schema to print.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct SchemaArgs {
    /// Of what
    pub of: Of,
}

/// Prints it.
pub fn run(args: SchemaArgs) -> anyhow::Result<Exit> {
    writeln!(output::stdout(), "{}", serde_json::to_string_pretty(&document(args.of))?)?;
    Ok(Exit::Done)
}

/// The schema.
pub fn document(of: Of) -> Value {
    match of {
        Of::Desired => desired::schema::document(&sample()),
        Of::Config => config::schema::document(),
        written => written::document(written),
    }
}
/// What the sample repo declares, as if it were one document.
fn sample() -> Document {
    let mut all = Document::new();
    for (_, text) in SAMPLE.iter().filter(|(name, _)| Path::new(name).extension().is_some_and(|end| end == "yaml")) {
        for document in serde_yaml::Deserializer::from_str(text) {
            // A test holds every file of the sample against the schema, so none is skipped here.
            let Ok(Value::Object(document)) = Value::deserialize(document) else { break };
            for (kind, value) in document {
                match (all.get_mut(&kind), value) {
                    (Some(Value::Array(items)), Value::Array(more)) => items.extend(more),
                    (_, value) => drop(all.insert(kind, value)),
                }
            }
        }
    }
    all
}
