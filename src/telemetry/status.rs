//! The status that `/api/v1/status` serves: one snapshot, replaced as a whole. Field names are a contract.

use serde::Serialize;

/// One thing that does not go ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The YAML key.
    pub kind: String,
    /// The identity.
    pub id: String,
    /// `parked`, `blocked` or `retrying`.
    pub state: ProblemState,
    /// What the operator should know.
    pub message: String,
    /// Tries so far.
    pub attempts: u32,
    /// RFC 3339; `None` where nothing is scheduled.
    pub next_attempt_at: Option<String>,
    /// Where the YAML declares it.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
}

/// Why a resource does not go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemState {
    /// Refused for good until something changes.
    Parked,
    /// What it depends on failed.
    Blocked,
    /// Failed for now; another try is scheduled.
    Retrying,
}
