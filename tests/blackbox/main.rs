//! The real binary against the simulator over loopback: real files, sockets, signals and time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::float_cmp, reason = "counters are whole numbers")]
#![allow(clippy::format_collect, clippy::similar_names, reason = "YAML is made line by line; words are what they are")]

mod actors;
mod answers;
mod approvals;
mod aside;
mod audit;
mod batches;
mod bounded;
mod budget;
mod carried;
mod chaos;
mod cleared;
mod clock;
mod commands;
mod contact;
mod contest;
mod converge;
mod crash;
mod dangers;
mod demo;
mod documents;
mod drain;
mod drift;
mod durability;
mod effect;
mod egress;
mod enforced;
mod events;
mod exits;
mod export;
mod failure;
mod fence;
mod fingerprints;
mod forbidden;
mod forget;
mod golden;
mod guards;
mod handover;
mod harness;
mod hold;
mod http;
mod identity;
mod ids;
mod kept;
mod kinds;
mod lapse;
mod late;
mod limits;
mod link;
mod logs;
mod metrics;
mod midway;
mod moving;
mod narrow;
mod notifications;
mod odd;
mod one_writer;
mod open;
mod order;
mod orders;
mod outputs;
mod page;
mod partly;
mod parts;
mod pause;
mod peers;
mod plan;
mod postgres;
mod power;
mod projects;
mod prometheus;
mod readonly;
mod recommit;
mod referenced;
mod renamed;
mod replicas;
mod revisions;
mod said;
mod sealed;
mod secrets;
mod shown;
mod source;
mod stale;
mod terminal;
mod terms;
mod traces;
mod triggers;
mod update;
mod validate;
mod volume;
mod waits;
mod walk;
mod whole;

// The bench's virtual time, for what it predicts of a run in real time.
#[allow(dead_code, reason = "the bench uses more of it")]
#[path = "../../benches/limiter/oracle.rs"]
mod oracle;
#[allow(dead_code, reason = "the bench uses more of it")]
#[path = "../../benches/limiter/rivals.rs"]
mod rivals;
#[allow(dead_code, reason = "the bench uses more of it")]
#[path = "../../benches/limiter/scenario.rs"]
mod scenario;
#[allow(dead_code, reason = "the bench uses more of it")]
#[path = "../../benches/limiter/world.rs"]
mod world;
