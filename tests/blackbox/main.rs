//! The real binary against the simulator over loopback: real files, sockets, signals and time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod commands;
mod converge;
mod crash;
mod failure;
mod fence;
mod harness;
mod hold;
mod http;
mod limits;
mod metrics;
mod pause;
mod plan;
mod projects;
mod source;
mod triggers;
mod validate;
