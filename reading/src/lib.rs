//! Where most of the time goes while documents are read.
//!
//! Generic code is compiled for the crate that says what it is for. The daemon is built for size; what is named here is
//! compiled here, and this is built for speed. So nothing public is generic.

pub mod dialect;
pub mod events;
pub mod json;
pub mod yaml;
