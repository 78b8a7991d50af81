//! `descope-gitops`: keeps Descope projects equal to the YAML in a config repo.
//!
//! Data flows one way, and imports point the same way (`tests/layers.rs` holds us to it):
//!
//! ```text
//! triggers -> source -> desired + observed -> plan -> queue -> worker -> client -> limiter -> Descope
//! beside: state (SQLite), telemetry (tracing, Prometheus), http (axum)
//! ```

pub mod cli;
mod daemon;

// Loops: own a task, `run` until shutdown.
mod http;
mod notifications;
mod reconcile;
pub mod source;
mod worker;

// Parts: own no task.
pub mod desired;
mod observed;
mod pause;
pub mod plan;
mod queue;
mod state;

// Descope.
pub mod backoff;
pub mod descope;
pub mod limiter;
pub mod resource;

// Side: any file may use these.
mod aside;
pub mod config;
mod moment;
mod open;
pub mod telemetry;
// Compiled for speed, apart from all the rest: `reading/`.
use descope_gitops_reading::dialect;

// Apart: the other side of the wire.
pub mod simulator;

// What tests let in at every door.
#[cfg(any(test, fuzzing))]
pub mod hostile;
