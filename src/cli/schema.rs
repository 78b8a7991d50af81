//! `descope-gitops schema`: JSON Schema for editors and for CI.

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

/// Which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Of {
    /// The files of a config repo.
    Desired,
    /// The settings file.
    Config,
}

/// Which schema to print.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct SchemaArgs {
    /// Of which files
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
