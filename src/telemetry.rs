//! What operators see: logs, metrics, status. Any file may use these; they import nothing of ours.

pub mod clock;
pub mod events;
pub mod line;
pub mod logs;
pub mod lossy;
pub mod metrics;
pub mod redact;
pub mod repeats;
pub mod status;
pub mod traces;
pub mod unanswered;
