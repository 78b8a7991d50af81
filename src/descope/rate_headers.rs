//! Reads what an answer says of the rate limit: `RateLimit` and `RateLimit-Policy` as the IETF's drafts have them, and
//! `RateLimit-Limit`, `-Remaining`, `-Reset` with or without an X before them. Descope documents none of them.

use crate::limiter::quota::Quota;
use reqwest::header::DATE;
use reqwest::header::HeaderMap;
use std::time::Duration;
use std::time::SystemTime;

/// What APIs and gateways put before `limit`, `remaining` and `reset`.
const PREFIXES: [&str; 3] = ["ratelimit-", "x-ratelimit-", "x-rate-limit-"];

/// A reset from here on is no number of seconds but a Unix time.
const EPOCH: f64 = 1e9;

/// And from here on a Unix time in milliseconds.
const EPOCH_MS: f64 = 1e12;

/// A longer window or reset is not believed.
const LONGEST: f64 = 24.0 * 3600.0;

/// The tightest limit that is told, or `None` where nothing, or nothing usable, is.
pub fn quota(headers: &HeaderMap) -> Option<Quota> {
    newer(headers).or_else(|| older(headers)).or_else(|| PREFIXES.iter().find_map(|prefix| separate(headers, prefix)))
}

/// `RateLimit: "default";r=5;t=30`, each item beside its policy.
fn newer(headers: &HeaderMap) -> Option<Quota> {
    let told = items(headers, "ratelimit").filter_map(|item| {
        let policy = items(headers, "ratelimit-policy").find(|policy| policy.name == item.name);
        Some(Quota {
            limit: policy.as_ref().and_then(|policy| policy.number("q")),
            window: policy.and_then(|policy| policy.window()),
            remaining: item.number("r")?,
            reset: duration(item.number("t")?)?,
        })
    });
    told.min_by(|a, b| a.remaining.total_cmp(&b.remaining))
}

/// `RateLimit: limit=100, remaining=5, reset=30` beside `RateLimit-Policy: 100;w=60`.
fn older(headers: &HeaderMap) -> Option<Quota> {
    let of = |key| items(headers, "ratelimit").find_map(|item| item.value(key));
    let limit = of("limit");
    let window = window(headers, "ratelimit-policy", limit);
    Some(Quota { limit, window, remaining: of("remaining")?, reset: duration(of("reset")?)? })
}

/// `RateLimit-Remaining: 5` and `RateLimit-Reset: 30` beside `RateLimit-Limit: 100, 100;w=60`.
fn separate(headers: &HeaderMap, prefix: &str) -> Option<Quota> {
    let name = |last: &str| format!("{prefix}{last}");
    let first = |last: &str| items(headers, &name(last)).find_map(|item| number(item.name));
    let reset = match first("reset")? {
        seconds if seconds < EPOCH => seconds,
        unix if unix < EPOCH_MS => (unix - clock(headers)).max(0.0),
        unix_ms => (unix_ms / 1000.0 - clock(headers)).max(0.0),
    };
    let limit = first("limit");
    let window = window(headers, &name("limit"), limit).or_else(|| window(headers, &name("policy"), limit));
    Some(Quota { limit, window, remaining: first("remaining")?, reset: duration(reset)? })
}

/// The window of the policy that has this limit.
fn window(headers: &HeaderMap, header: &str, limit: Option<f64>) -> Option<Duration> {
    items(headers, header).filter(|item| limit.is_none() || number(item.name) == limit).find_map(|item| item.window())
}

/// One item of a list: `100;w=60`, `"default";q=100;w=60`, `limit=100`.
struct Item<'a> {
    name: &'a str,
    parameters: &'a str,
}

impl Item<'_> {
    fn number(&self, key: &str) -> Option<f64> {
        self.parameters.split(';').find_map(|parameter| value(parameter, key))
    }

    fn window(&self) -> Option<Duration> {
        duration(self.number("w").or_else(|| self.number("window"))?)
    }

    fn value(&self, key: &str) -> Option<f64> {
        value(self.name, key)
    }
}

fn items<'a>(headers: &'a HeaderMap, header: &str) -> impl Iterator<Item = Item<'a>> {
    let lines = headers.get_all(header).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|item| {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        Item { name: name.trim(), parameters }
    })
}

fn value(text: &str, key: &str) -> Option<f64> {
    let (name, value) = text.split_once('=')?;
    (name.trim().eq_ignore_ascii_case(key)).then(|| number(value.trim()))?
}

/// Nothing negative, nothing endless.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

fn duration(seconds: f64) -> Option<Duration> {
    (seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

/// The answer's own clock, so that an error of ours does not matter; ours where it has none.
fn clock(headers: &HeaderMap) -> f64 {
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?.trim()).ok());
    let since = date.unwrap_or_else(SystemTime::now).duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderName;
    use reqwest::header::HeaderValue;

    /// Limit, window, remaining and reset.
    type Read = Option<(Option<f64>, Option<u64>, f64, u64)>;

    fn read(lines: &[&str]) -> Read {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        quota(&headers).map(|quota| {
            (quota.limit, quota.window.map(|window| window.as_secs()), quota.remaining, quota.reset.as_secs())
        })
    }

    #[test]
    fn every_form_that_is_seen_is_read() {
        let date = "Date: Sun, 29 Nov 2026 08:49:37 GMT";
        let cases: [(&[&str], Read); 14] = [
            (
                &["RateLimit-Policy: \"default\";q=100;w=60", "RateLimit: \"default\";r=5;t=30"],
                Some((Some(100.0), Some(60), 5.0, 30)),
            ),
            (
                &[
                    "RateLimit-Policy: \"hour\";q=1000;w=3600, \"minute\"; q=100; w=60",
                    "RateLimit: \"hour\";r=300;t=1800",
                    "RateLimit: \"minute\"; r=7; t=20",
                ],
                Some((Some(100.0), Some(60), 7.0, 20)),
            ),
            (&["RateLimit: \"default\";r=5;t=30"], Some((None, None, 5.0, 30))),
            (
                &["RateLimit: limit=100, remaining=5, reset=30", "RateLimit-Policy: 10;w=1, 100;w=60"],
                Some((Some(100.0), Some(60), 5.0, 30)),
            ),
            (
                &["RateLimit-Limit: 100, 100;w=60;burst=200", "RateLimit-Remaining: 5", "RateLimit-Reset: 30"],
                Some((Some(100.0), Some(60), 5.0, 30)),
            ),
            (
                &[
                    "RateLimit-Limit: 100",
                    "RateLimit-Policy: 100;w=60",
                    "RateLimit-Remaining: 5",
                    "RateLimit-Reset: 30",
                ],
                Some((Some(100.0), Some(60), 5.0, 30)),
            ),
            (
                &["X-RateLimit-Limit: 100", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 30"],
                Some((Some(100.0), None, 0.0, 30)),
            ),
            (&[date, "X-RateLimit-Remaining: 4", "X-RateLimit-Reset: 1795942207"], Some((None, None, 4.0, 30))),
            (&[date, "X-Rate-Limit-Remaining: 4", "X-Rate-Limit-Reset: 1795942100"], Some((None, None, 4.0, 0))),
            (&["X-RateLimit-Remaining: 4", "X-RateLimit-Reset: 99999999999999"], None),
            (&["X-RateLimit-Remaining: 4"], None),
            (&["RateLimit: \"default\";r=-5;t=30"], None),
            (&["RateLimit: \"default\";r=5;t=1e300", "RateLimit-Limit: many"], None),
            (&["Content-Type: application/json"], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }
}
