//! The simulator against clients nobody here wrote: the recorded requests of the official SDKs, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "simulator/behaviour.rs"]
mod behaviour;
#[path = "simulator/faults.rs"]
mod faults;
#[path = "simulator/harness.rs"]
mod harness;
#[path = "simulator/limits.rs"]
mod limits;
#[path = "simulator/vectors.rs"]
mod vectors;
