//! (to be written)

pub mod call;
pub mod error;
pub mod transport;

pub use error::Error;

/// A client of one project (placeholder until written).
#[derive(Debug, Clone)]
pub struct Client;
