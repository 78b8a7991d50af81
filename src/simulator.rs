//! (to be written)

pub mod rate_limit;
