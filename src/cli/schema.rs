//! `descope-gitops schema`: JSON Schema of what it reads, for editors and for CI, and of the JSON that it writes, for programs.

use crate::cli::Exit;
use crate::cli::apply::Applied;
use crate::cli::audit::Trail;
use crate::cli::demo::SAMPLE;
use crate::cli::output;
use crate::cli::validate;
use crate::config;
use crate::desired;
use crate::http::Alive;
use crate::http::ChangePage;
use crate::http::Ordered;
use crate::http::PassPage;
use crate::http::Ready;
use crate::http::Refused;
use crate::notifications::message::Message;
use crate::plan::render::Report;
use crate::plan::window::Window;
use crate::resource::Document;
use crate::telemetry::status::Health;
use crate::telemetry::status::ProblemWindow;
use crate::telemetry::status::Status;
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
        Of::Plan => written::of_type::<Report<'_>>(of),
        Of::Apply => written::of_type::<Applied>(of),
        Of::Validate => written::of_type::<validate::Document<'_>>(of),
        Of::Status => written::of_type::<Status>(of),
        Of::Audit => written::of_type::<Trail>(of),
        Of::PlanWindow => written::of_type::<Window>(of),
        Of::Event => written::event(),
        Of::Problems => written::of_type::<ProblemWindow>(of),
        Of::Passes => written::of_type::<PassPage>(of),
        Of::Changes => written::of_type::<ChangePage>(of),
        Of::Order => written::of_type::<Ordered>(of),
        Of::Error => written::of_type::<Refused>(of),
        Of::Health => written::of_type::<Health>(of),
        Of::Ready => written::of_type::<Ready>(of),
        Of::Live => written::of_type::<Alive>(of),
        Of::Notification => written::of_type::<Message>(of),
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
