//! What can go wrong between us and Descope, worded for an operator.

/// (to be written)
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// (to be written)
    #[error("stopping")]
    Stopping,
}
