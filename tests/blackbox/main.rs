//! The real binary against the simulator over loopback: real files, sockets, signals and time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod converge;
mod crash;
mod failure;
mod fence;
mod harness;
mod hold;
mod limits;
mod pause;
mod plan;
mod source;
mod triggers;
mod validate;
