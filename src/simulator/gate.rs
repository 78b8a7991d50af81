//! The rate limit as settings, and the buckets in which requests are counted.

use super::options::text_duration;
use super::rate_headers::HeaderForm;
use super::rate_headers::Honesty;
use super::rate_headers::Teller;
use super::rate_limit::Background;
use super::rate_limit::Header;
use super::rate_limit::Kind;
use super::rate_limit::RateLimit;
use super::rate_limit::RetryAfter;
use super::rate_limit::Ruling;
use super::rate_limit::Spec;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;
use std::time::SystemTime;

/// A rate limit as it is written in `PUT /_sim/rate-limit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limit {
    /// How requests are counted.
    pub kind: LimitKind,
    /// Requests per window.
    pub n: f64,
    /// The window.
    #[serde(with = "text_duration")]
    pub window: Duration,
    /// Everything is refused so long after a request over the limit; `0s`: only what is over.
    #[serde(with = "text_duration")]
    pub lockout: Duration,
    /// Tokens that a bucket stores; `n` where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<f64>,
    /// A refused request starts the lockout anew.
    pub extending: bool,
    /// What a 429 says.
    pub retry_after: RetryAfterForm,
    /// The server's clock minus ours, in seconds; seen where a 429 carries dates.
    pub clock_skew: i64,
    /// Other callers of the same limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Neighbours>,
    /// How every answer says what is left; where not given, none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_headers: Option<HeaderForm>,
    /// Whether that is true.
    pub rate_headers_say: Honesty,
}

/// How requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// Per aligned window of random phase
    FixedWindow,
    /// In any trailing window
    SlidingLog,
    /// This aligned window and the rest of the last
    SlidingCounter,
    /// Tokens that come at a steady rate
    TokenBucket,
}

/// What `Retry-After` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RetryAfterForm {
    /// Seconds, rounded up
    Seconds,
    /// Seconds, rounded down
    Floor,
    /// Nothing
    Absent,
    /// A fifth of the truth
    Short,
    /// An HTTP date
    Date,
}

/// Other callers of the same limit: Poisson, silent during a lockout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Neighbours {
    /// Requests per second.
    pub rate: f64,
    /// They send only during the first part of every `on` and `off`; both zero: always.
    #[serde(with = "text_duration", default)]
    pub on: Duration,
    /// The silent part.
    #[serde(with = "text_duration", default)]
    pub off: Duration,
}

impl Default for Limit {
    /// What Descope documents.
    fn default() -> Self {
        Self {
            kind: LimitKind::FixedWindow,
            n: 100.0,
            window: Duration::from_secs(60),
            lockout: Duration::from_secs(60),
            burst: None,
            extending: false,
            retry_after: RetryAfterForm::Seconds,
            clock_skew: 0,
            background: None,
            rate_headers: None,
            rate_headers_say: Honesty::True,
        }
    }
}

impl Limit {
    /// Errs with what makes no sense.
    pub fn check(&self) -> Result<(), String> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.n) || !self.burst.is_none_or(positive) {
            return Err("n and burst must be more than 0".to_owned());
        }
        if self.window.is_zero() {
            return Err("the window must be more than 0".to_owned());
        }
        if self.background.is_some_and(|background| !background.rate.is_finite() || background.rate < 0.0) {
            return Err("the rate of the background must be 0 or more".to_owned());
        }
        Ok(())
    }

    fn spec(&self) -> Spec {
        let kind = match self.kind {
            LimitKind::FixedWindow => Kind::FixedWindow,
            LimitKind::SlidingLog => Kind::SlidingLog,
            LimitKind::SlidingCounter => Kind::SlidingCounter,
            LimitKind::TokenBucket => Kind::TokenBucket { burst: self.burst.unwrap_or(self.n) },
        };
        let retry_after = match self.retry_after {
            RetryAfterForm::Seconds => RetryAfter::Seconds,
            RetryAfterForm::Floor => RetryAfter::Floor,
            RetryAfterForm::Absent => RetryAfter::Absent,
            RetryAfterForm::Short => RetryAfter::Short,
            RetryAfterForm::Date => RetryAfter::Date,
        };
        let (n, window, lockout, extending) = (self.n, self.window, self.lockout, self.extending);
        Spec { kind, n, window, lockout, extending, retry_after, clock_skew: self.clock_skew }
    }
}

/// What the gate says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// It came during a lockout.
    pub in_lockout: bool,
    /// The headers of the 429; `None`: admitted.
    pub refused: Option<Vec<(&'static str, String)>>,
    /// What any answer says of the limit.
    pub headers: Vec<(&'static str, String)>,
}

/// The limit and its buckets, one per source.
#[derive(Debug)]
pub struct Gate {
    limit: Option<Limit>,
    seed: u64,
    buckets: HashMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    limit: RateLimit,
    background: Option<Background>,
    teller: Teller,
}

impl Gate {
    /// Every bucket is drawn from the seed.
    pub fn new(limit: Option<Limit>, seed: u64) -> Self {
        Self { limit, seed, buckets: HashMap::new() }
    }

    /// The settings.
    pub fn limit(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }

    /// Changes the limit. Where only `n` differs, what was counted stays; otherwise counting starts anew.
    pub fn set(&mut self, now: Duration, limit: Option<Limit>) {
        let only_n =
            matches!((&self.limit, &limit), (Some(old), Some(new)) if Limit { n: new.n, ..old.clone() } == *new);
        match &limit {
            Some(limit) if only_n => {
                for bucket in self.buckets.values_mut() {
                    bucket.limit.set_limit(now, limit.n);
                }
            }
            Some(_) | None => self.buckets.clear(),
        }
        self.limit = limit;
    }

    /// One request from `source` arrives.
    pub fn request(&mut self, now: Duration, source: &str) -> Pass {
        let Some(limit) = &self.limit else {
            return Pass { in_lockout: false, refused: None, headers: Vec::new() };
        };
        let seed = self.seed ^ super::hash(source);
        let bucket = self.buckets.entry(source.to_owned()).or_insert_with(|| Bucket {
            limit: RateLimit::new(limit.spec(), seed),
            background: limit.background.map(|background| {
                let always = background.on.is_zero() || background.off.is_zero();
                let on_off = (!always).then_some((background.on, background.off));
                Background::new(background.rate, on_off, seed.wrapping_add(1))
            }),
            teller: Teller::new(limit.rate_headers_say),
        });
        if let Some(background) = &mut bucket.background {
            background.advance(now, &mut bucket.limit);
        }
        let in_lockout = bucket.limit.locked_out(now);
        let refused = match bucket.limit.request(now) {
            Ruling::Admitted => None,
            Ruling::Refused { header: None } => Some(Vec::new()),
            Ruling::Refused { header: Some(Header::Seconds(seconds)) } => {
                Some(vec![("retry-after", seconds.to_string())])
            }
            Ruling::Refused { header: Some(Header::Date { retry_at, date }) } => {
                // The model's clock starts at a time of its own; on the wire it is today's, off by the skew.
                let today = unix_seconds() + limit.clock_skew;
                #[allow(clippy::cast_possible_truncation, reason = "a wait in whole seconds")]
                let wait = (retry_at - date) as i64;
                Some(vec![("retry-after", http_date(today + wait)), ("date", http_date(today))])
            }
        };
        let headers = limit.rate_headers.map_or_else(Vec::new, |form| {
            form.headers(bucket.teller.tell(now, &mut bucket.limit), unix_seconds() + limit.clock_skew)
        });
        Pass { in_lockout, refused, headers }
    }

    /// Requests of the other callers so far: arrived and served.
    pub fn background(&self) -> (u64, u64) {
        let all = self.buckets.values().filter_map(|bucket| bucket.background.as_ref());
        all.fold((0, 0), |(arrived, served), one| (arrived + one.arrived, served + one.served))
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn http_date(unix: i64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(n: f64) -> Limit {
        Limit { kind: LimitKind::SlidingLog, n, ..Limit::default() }
    }

    fn admitted(gate: &mut Gate, seconds: u64, source: &str, asked: usize) -> usize {
        let now = Duration::from_secs(seconds);
        (0..asked).filter(|_| gate.request(now, source).refused.is_none()).count()
    }

    #[test]
    fn sources_are_counted_apart() {
        let mut gate = Gate::new(Some(limit(3.0)), 1);

        assert_eq!(admitted(&mut gate, 0, "a", 5), 3);
        assert_eq!(admitted(&mut gate, 0, "b", 5), 3);
    }

    #[test]
    fn a_new_n_keeps_what_was_counted_and_a_new_window_does_not() {
        let mut gate = Gate::new(Some(Limit { lockout: Duration::ZERO, ..limit(3.0) }), 1);
        assert_eq!(admitted(&mut gate, 0, "a", 5), 3);

        gate.set(Duration::ZERO, Some(Limit { lockout: Duration::ZERO, ..limit(5.0) }));
        assert_eq!(admitted(&mut gate, 0, "a", 5), 2);

        gate.set(Duration::ZERO, Some(Limit { window: Duration::from_secs(5), ..limit(5.0) }));
        assert_eq!(admitted(&mut gate, 0, "a", 9), 5);
    }

    #[test]
    fn the_lockout_is_marked_and_its_end_announced() {
        let mut gate = Gate::new(Some(limit(1.0)), 1);
        gate.request(Duration::ZERO, "a");

        let trips = gate.request(Duration::from_secs(1), "a");
        let during = gate.request(Duration::from_secs(11), "a");

        assert_eq!(
            trips,
            Pass { in_lockout: false, refused: Some(vec![("retry-after", "60".into())]), headers: vec![] }
        );
        assert_eq!(
            during,
            Pass { in_lockout: true, refused: Some(vec![("retry-after", "50".into())]), headers: vec![] }
        );
    }

    #[test]
    fn every_answer_says_what_is_left_where_it_is_told_to() {
        let mut gate = Gate::new(Some(Limit { rate_headers: Some(HeaderForm::XSeconds), ..limit(2.0) }), 1);

        let left = [0, 1, 2].map(|second| gate.request(Duration::from_secs(second), "a").headers[1].1.clone());

        assert_eq!(left, ["1", "0", "0"]);
        assert!(Gate::new(Some(limit(2.0)), 1).request(Duration::ZERO, "a").headers.is_empty());
    }

    #[test]
    fn dates_are_http_dates() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn neighbours_use_up_the_limit() {
        let background = Some(Neighbours { rate: 10.0, on: Duration::ZERO, off: Duration::ZERO });
        let mut gate = Gate::new(Some(Limit { background, ..limit(5.0) }), 1);
        gate.request(Duration::ZERO, "a");

        let pass = gate.request(Duration::from_secs(10), "a");

        assert!(pass.in_lockout);
        assert!(gate.background().0 > 50);
    }
}
