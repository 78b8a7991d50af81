//! (to be written)

pub mod simulator;
