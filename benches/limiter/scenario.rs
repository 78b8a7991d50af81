//! The scenario file: every field of the scenarios' description, and nothing else.

#![allow(clippy::struct_field_names, reason = "the names are those of the file")]

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use descope_gitops::simulator::rate_headers::Honesty;
use descope_gitops::simulator::rate_limit::Kind;
use descope_gitops::simulator::rate_limit::RetryAfter;
use descope_gitops::simulator::rate_limit::Spec;
use serde::Deserialize;
use serde::Serialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[allow(dead_code, reason = "there is one version")]
    version: Option<u32>,
    scenarios: Vec<Scenario>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub documented: Documented,
    pub server: Server,
    pub latency: Latency,
    pub workers: usize,
    pub load: Load,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Neighbours>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<(f64, f64)>,
    #[serde(default)]
    pub err_5xx: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage: Option<Interval>,
    #[serde(default)]
    pub timeout: f64,
    #[serde(default)]
    pub warm_used: usize,
    /// Whether the client looks for more than is documented. Not a field of the shared description.
    #[serde(default = "yes")]
    pub probe: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oracle: Option<Oracle>,
    /// The client is told no limit at all.
    #[serde(skip)]
    pub limit_null: bool,
    /// Every answer says what is left, truly or not.
    #[serde(skip)]
    pub rate_headers: Option<Honesty>,
}

#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Documented {
    pub n: f64,
    pub window_s: f64,
    #[serde(default)]
    pub lockout_s: f64,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub kind: ServerKind,
    pub n: f64,
    pub window_s: f64,
    #[serde(default)]
    pub lockout_s: f64,
    #[serde(default)]
    pub extending: bool,
    #[serde(default)]
    pub retry_after: Header,
    #[serde(default)]
    pub clock_skew_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<f64>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    FixedWindow,
    SlidingLog,
    SlidingCounter,
    TokenBucket,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Header {
    #[default]
    Seconds,
    Floor,
    Absent,
    Short,
    Date,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    pub median_s: f64,
    #[serde(default)]
    pub sigma: f64,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Load {
    Batch { tasks: usize },
    Trickle { tasks: usize, rate_per_s: f64 },
    Waves { tasks: usize, size: usize, every_s: f64 },
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbours {
    pub rate_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_s: Option<f64>,
}

fn yes() -> bool {
    true
}

/// Two forms are seen for an interval: a pair, and named ends.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Interval {
    Pair(f64, f64),
    Named { from: f64, to: f64 },
    Seconds { from_s: f64, to_s: f64 },
    Start { start_s: f64, end_s: f64 },
    Length { at_s: f64, for_s: f64 },
}

impl Interval {
    pub fn holds(self, at: Duration) -> bool {
        let (from, to) = match self {
            Self::Pair(from, to)
            | Self::Named { from, to }
            | Self::Seconds { from_s: from, to_s: to }
            | Self::Start { start_s: from, end_s: to } => (from, to),
            Self::Length { at_s, for_s } => (at_s, at_s + for_s),
        };
        (from..to).contains(&at.as_secs_f64())
    }
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Oracle {
    #[serde(default)]
    pub goodput_per_s: f64,
    pub makespan_s: f64,
    pub p95_s: f64,
}

impl Load {
    pub fn tasks(&self) -> usize {
        match *self {
            Self::Batch { tasks } | Self::Trickle { tasks, .. } | Self::Waves { tasks, .. } => tasks,
        }
    }

    /// When each task is handed in, in order.
    pub fn times(&self, rng: &mut fastrand::Rng) -> Vec<Duration> {
        let mut at = 0.0;
        (0..self.tasks())
            .map(|task| match *self {
                Self::Batch { .. } => Duration::ZERO,
                Self::Trickle { rate_per_s, .. } => {
                    at -= (1.0 - rng.f64()).ln() / rate_per_s;
                    seconds(at)
                }
                Self::Waves { size, every_s, .. } => {
                    seconds(every_s) * u32::try_from(task / size.max(1)).unwrap_or(u32::MAX)
                }
            })
            .collect()
    }
}

impl Scenario {
    pub fn spec(&self) -> Spec {
        let server = &self.server;
        Spec {
            kind: match server.kind {
                ServerKind::FixedWindow => Kind::FixedWindow,
                ServerKind::SlidingLog => Kind::SlidingLog,
                ServerKind::SlidingCounter => Kind::SlidingCounter,
                ServerKind::TokenBucket => Kind::TokenBucket { burst: server.burst.unwrap_or(server.n) },
            },
            n: server.n,
            window: seconds(server.window_s),
            lockout: seconds(server.lockout_s),
            extending: server.extending,
            retry_after: match server.retry_after {
                Header::Seconds => RetryAfter::Seconds,
                Header::Floor => RetryAfter::Floor,
                Header::Absent => RetryAfter::Absent,
                Header::Short => RetryAfter::Short,
                Header::Date => RetryAfter::Date,
            },
            #[allow(clippy::cast_possible_truncation, reason = "whole seconds")]
            clock_skew: server.clock_skew_s as i64,
        }
    }

    /// Whether the documentation is right and nobody else is there.
    pub fn is_as_documented(&self) -> bool {
        let server = &self.server;
        let truth = Documented { n: server.n, window_s: server.window_s, lockout_s: server.lockout_s };
        self.documented == truth && self.background.is_none() && self.steps.is_empty()
    }
}

pub fn load(path: &Path) -> anyhow::Result<Vec<Scenario>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: File = serde_yaml::from_str(&text).with_context(|| format!("cannot use {}", path.display()))?;
    Ok(file.scenarios)
}

pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
}
