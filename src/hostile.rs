//! What comes from outside, as bytes: whatever they are, they end in an answer or an error, without a panic, a hang or
//! memory without bound.
//!
//! Each of [`TARGETS`] takes any bytes. `cargo test hostile` replays `tests/corpus/NAME`, as it is and spoilt in many ways;
//! `fuzz/run NAME` looks for more, guided by what code is reached.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "what goes wrong here is the find")]

mod answers;
mod config;
mod desired;
mod git;
mod headers;
mod limits;
mod replicas;
mod requests;
mod writes;

/// One way in.
#[derive(Debug)]
pub struct Target {
    /// Of its folder in `tests/corpus`.
    pub name: &'static str,
    /// Lets the bytes in; panics where something does not hold.
    pub attempt: fn(&[u8]),
}

/// All ways in.
pub const TARGETS: &[Target] = &[
    Target { name: "desired", attempt: desired::attempt },
    Target { name: "config", attempt: config::attempt },
    Target { name: "answers", attempt: answers::attempt },
    Target { name: "writes", attempt: writes::attempt },
    Target { name: "headers", attempt: headers::attempt },
    Target { name: "limiter", attempt: limits::attempt },
    Target { name: "replicas", attempt: replicas::attempt },
    Target { name: "git", attempt: git::attempt },
    Target { name: "requests", attempt: requests::attempt },
];

/// Runs what has to be waited for, on this thread alone.
fn wait_for(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

#[cfg(test)]
mod tests;
