//! What answers say of the limit, truly or not: `RateLimit`, `RateLimit-Remaining`, `X-RateLimit-Reset` and the like.

use super::rate_limit::RateLimit;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// Whether what answers say of the limit is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Honesty {
    /// What is left
    #[default]
    True,
    /// Always everything left
    Full,
    /// Always nothing left
    Zero,
    /// What was left up to half a window ago
    Stale,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderForm {
    /// `RateLimit: "default";r=5;t=30` beside `RateLimit-Policy: "default";q=100;w=60`
    Ietf,
    /// `RateLimit-Limit: 100, 100;w=60`, `RateLimit-Remaining: 5` and `RateLimit-Reset: 30`
    Separate,
    /// The same with an X before them, and the reset in seconds
    XSeconds,
    /// The same with the reset as Unix time
    XEpoch,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// Requests per window.
    pub limit: f64,
    /// The window.
    pub window: Duration,
    /// Requests left.
    pub remaining: f64,
    /// Time until there are more.
    pub reset: Duration,
}

/// Says it, as honestly as it was told to.
#[derive(Debug, Clone, Default)]
pub struct Teller {
    honesty: Honesty,
    last: Option<(Duration, Told)>,
}

impl Teller {
    /// One per limit.
    pub fn new(honesty: Honesty) -> Self {
        Self { honesty, last: None }
    }

    /// What the answer to a request says that arrived `now` and was counted already.
    pub fn tell(&mut self, now: Duration, server: &mut RateLimit) -> Told {
        let (limit, window) = (server.limit(), server.window());
        let (remaining, reset) = server.room(now);
        let truth = Told { limit, window, remaining, reset };
        match self.honesty {
            Honesty::True => truth,
            Honesty::Full => Told { remaining: limit, reset: window, ..truth },
            Honesty::Zero => Told { remaining: 0.0, reset: window, ..truth },
            Honesty::Stale => match self.last {
                Some((at, told)) if now < at + window / 2 => told,
                _ => {
                    self.last = Some((now, truth));
                    truth
                }
            },
        }
    }
}

impl HeaderForm {
    /// Names and values. `unix` is the server's time in seconds.
    pub fn headers(self, told: Told, unix: i64) -> Vec<(&'static str, String)> {
        let (limit, left) = (told.limit.floor(), told.remaining.floor());
        let (window, reset) = (told.window.as_secs_f64().ceil(), told.reset.as_secs_f64().ceil());
        #[allow(clippy::cast_possible_truncation, reason = "whole seconds")]
        let due = unix.saturating_add(reset as i64);
        match self {
            Self::Ietf => vec![
                ("ratelimit-policy", format!("\"default\";q={limit};w={window}")),
                ("ratelimit", format!("\"default\";r={left};t={reset}")),
            ],
            Self::Separate => vec![
                ("ratelimit-limit", format!("{limit}, {limit};w={window}")),
                ("ratelimit-remaining", left.to_string()),
                ("ratelimit-reset", reset.to_string()),
            ],
            Self::XSeconds | Self::XEpoch => vec![
                ("x-ratelimit-limit", limit.to_string()),
                ("x-ratelimit-remaining", left.to_string()),
                ("x-ratelimit-reset", if self == Self::XEpoch { due.to_string() } else { reset.to_string() }),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::rate_limit::Kind;
    use crate::simulator::rate_limit::RetryAfter;
    use crate::simulator::rate_limit::Spec;

    fn server(kind: Kind) -> RateLimit {
        let (window, lockout) = (Duration::from_secs(10), Duration::ZERO);
        let retry_after = RetryAfter::Seconds;
        RateLimit::new(Spec { kind, n: 10.0, window, lockout, extending: false, retry_after, clock_skew: 0 }, 1)
    }

    #[test]
    fn what_is_left_counts_down_and_is_what_is_admitted() {
        for kind in [Kind::FixedWindow, Kind::SlidingLog, Kind::SlidingCounter, Kind::TokenBucket { burst: 10.0 }] {
            let mut server = server(kind);
            let mut teller = Teller::new(Honesty::True);
            for sent in 0..10 {
                let told = teller.tell(Duration::ZERO, &mut server);
                assert!((told.remaining - f64::from(10 - sent)).abs() < f64::EPSILON, "{kind:?}: {told:?}");
                server.request(Duration::ZERO);
            }
            let told = teller.tell(Duration::ZERO, &mut server);
            assert!(told.remaining < 1.0 && !told.reset.is_zero(), "{kind:?}: {told:?}");
            let later = teller.tell(told.reset + Duration::from_millis(10), &mut server);
            assert!(later.remaining >= 1.0 || kind == Kind::SlidingCounter, "{kind:?}: {later:?}");
        }
    }

    #[test]
    fn lies_are_told_as_promised() {
        let left = |honesty: Honesty, seconds: u64| {
            let mut server = server(Kind::SlidingLog);
            let mut teller = Teller::new(honesty);
            teller.tell(Duration::ZERO, &mut server);
            for _ in 0..4 {
                server.request(Duration::ZERO);
            }
            teller.tell(Duration::from_secs(seconds), &mut server).remaining.to_string()
        };

        let all =
            [(Honesty::True, 1), (Honesty::Full, 1), (Honesty::Zero, 1), (Honesty::Stale, 1), (Honesty::Stale, 6)];
        assert_eq!(all.map(|(honesty, seconds)| left(honesty, seconds)), ["6", "10", "0", "10", "6"]);
    }

    #[test]
    fn every_form_is_written_as_it_is_seen() {
        let told = Told {
            limit: 100.0,
            window: Duration::from_secs(60),
            remaining: 5.0,
            reset: Duration::from_millis(29_500),
        };
        let lines = |form: HeaderForm| {
            let headers = form.headers(told, 1000);
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
        };

        assert_eq!(
            lines(HeaderForm::Ietf),
            "ratelimit-policy: \"default\";q=100;w=60\nratelimit: \"default\";r=5;t=30"
        );
        assert_eq!(
            lines(HeaderForm::Separate),
            "ratelimit-limit: 100, 100;w=60\nratelimit-remaining: 5\nratelimit-reset: 30"
        );
        assert_eq!(
            lines(HeaderForm::XEpoch),
            "x-ratelimit-limit: 100\nx-ratelimit-remaining: 5\nx-ratelimit-reset: 1030"
        );
    }
}
