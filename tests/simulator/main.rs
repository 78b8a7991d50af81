//! The simulator against clients nobody here wrote: the recorded requests of the official SDKs, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod behaviour;
mod faults;
mod harness;
mod kinds;
mod limits;
mod vectors;
