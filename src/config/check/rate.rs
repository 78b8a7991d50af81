//! `rateLimit` and `retry`.

use crate::config;
use crate::config::Adaptive;
use crate::config::Algorithm;
use crate::config::Pacing;
use crate::config::RateLimit;
use crate::config::Retry;
use crate::config::StateAt;
use crate::config::check::Check;
use crate::config::raw::RawAdaptive;
use crate::config::raw::RawRateLimit;
use crate::config::raw::RawRetry;
use crate::config::raw::Switch;
use crate::config::values;

impl Check {
    pub fn rate_limit(&mut self, raw: &RawRateLimit) -> RateLimit {
        let algorithms = [("budget", Algorithm::Budget), ("adaptive", Algorithm::Adaptive)];
        let shapes = [("auto", Pacing::Auto), ("paced", Pacing::Paced)];
        let reserve = |text: &str| match values::percent(text)? {
            100 => Err("must be less than 100%, or nothing is left for this daemon".to_owned()),
            percent => Ok(f64::from(percent) / 100.0),
        };
        RateLimit {
            algorithm: self.value("rateLimit.algorithm", raw.algorithm.as_ref(), Algorithm::Budget, |text| {
                values::choice(text, &algorithms)
            }),
            limit: match &raw.limit {
                Switch::Unwritten => Some(config::RATE_LIMIT),
                Switch::Off => None,
                Switch::Text(text) => {
                    self.value("rateLimit.limit", Some(text), Some(config::RATE_LIMIT), |t| values::limit(t).map(Some))
                }
            },
            lockout: self.value("rateLimit.lockout", raw.lockout.as_ref(), config::LOCKOUT, values::duration),
            reserve: self.value("rateLimit.reserve", raw.reserve.as_ref(), config::RESERVE, reserve),
            probe: self.value("rateLimit.probe", raw.probe.as_ref(), false, values::flag),
            shape: self.value("rateLimit.shape", raw.shape.as_ref(), Pacing::Auto, |t| values::choice(t, &shapes)),
            adaptive: self.adaptive(&raw.adaptive),
            egress: None,
        }
    }

    /// `rateLimit.egress`: replicas share one address unless they say otherwise.
    pub fn egress(&mut self, raw: &RawRateLimit, state: &StateAt) -> Option<String> {
        let parse = |text: &str| values::name(text).map(|()| text.to_owned());
        let name = self.value("rateLimit.egress", raw.egress.as_ref(), config::EGRESS.to_owned(), parse);
        match state {
            StateAt::Database(_) => Some(name),
            StateAt::Directory(_) => {
                if raw.egress.is_some() {
                    let what = "goes with state.url; without it there is one process, which has the limit to itself";
                    self.wrong("rateLimit.egress", what);
                }
                None
            }
        }
    }

    fn adaptive(&mut self, raw: &RawAdaptive) -> Adaptive {
        let default = config::ADAPTIVE;
        let below_one = |text: &str| {
            let number = values::positive(text).ok().filter(|n| *n < 1.0);
            number.ok_or_else(|| format!("must be a number between 0 and 1, not `{text}`"))
        };
        let above_one = |text: &str| {
            let number = values::positive(text).ok().filter(|n| *n > 1.0);
            number.ok_or_else(|| format!("must be a number above 1, not `{text}`"))
        };
        let at = |field: &str| format!("rateLimit.adaptive.{field}");
        let adaptive = Adaptive {
            initial_rate: self.value(
                &at("initialRate"),
                raw.initial_rate.as_ref(),
                default.initial_rate,
                values::positive,
            ),
            min_rate: self.value(&at("minRate"), raw.min_rate.as_ref(), default.min_rate, values::positive),
            max_rate: self.value(&at("maxRate"), raw.max_rate.as_ref(), default.max_rate, values::positive),
            decrease_factor: self.value(
                &at("decreaseFactor"),
                raw.decrease_factor.as_ref(),
                default.decrease_factor,
                below_one,
            ),
            increase_factor: self.value(
                &at("increaseFactor"),
                raw.increase_factor.as_ref(),
                default.increase_factor,
                above_one,
            ),
            success_threshold: self.value(
                &at("successThreshold"),
                raw.success_threshold.as_ref(),
                default.success_threshold,
                |text| values::whole(text, 1, u32::MAX),
            ),
        };
        if adaptive.max_rate < adaptive.min_rate {
            self.wrong(&at("maxRate"), "must be at least rateLimit.adaptive.minRate");
        } else if !(adaptive.min_rate..=adaptive.max_rate).contains(&adaptive.initial_rate) {
            self.wrong(
                &at("initialRate"),
                "must lie between rateLimit.adaptive.minRate and rateLimit.adaptive.maxRate",
            );
        }
        adaptive
    }

    pub fn retry(&mut self, raw: &RawRetry) -> Retry {
        let default = config::RETRY;
        let retry = Retry {
            max_attempts: self.value("retry.maxAttempts", raw.max_attempts.as_ref(), default.max_attempts, |text| {
                values::whole(text, 1, 100)
            }),
            initial_backoff: self.positive_duration(
                "retry.initialBackoff",
                raw.initial_backoff.as_ref(),
                default.initial_backoff,
            ),
            max_backoff: self.positive_duration("retry.maxBackoff", raw.max_backoff.as_ref(), default.max_backoff),
        };
        if retry.max_backoff < retry.initial_backoff {
            self.wrong("retry.maxBackoff", "must be at least retry.initialBackoff");
        }
        retry
    }
}
