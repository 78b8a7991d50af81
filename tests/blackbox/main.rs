//! The real binary against the simulator over loopback: real files, sockets, signals and time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod audit;
mod converge;
mod crash5;
mod durability;
mod guards;
mod harness;
