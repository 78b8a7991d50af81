//! (to be written)

pub mod validate;
