//! Reads `Retry-After`, which tells how long a 429 means.

use reqwest::header::DATE;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::RETRY_AFTER;
use std::time::Duration;
use std::time::SystemTime;

/// A longer wait is not believed: it is a mistake of somebody, and nothing would be written until it ends.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long from now, or `None` where the header is missing or unreadable. Descope documents whole seconds; proxies
/// may send a date, which counts from the answer's own `Date` so that a wrong clock on our side does not matter.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = text.parse().map(Duration::from_secs).ok().or_else(|| {
        let until = httpdate::parse_http_date(text).ok()?;
        let from = date(headers, &DATE).unwrap_or_else(SystemTime::now);
        Some(until.duration_since(from).unwrap_or_default())
    })?;
    Some(wait.min(LONGEST))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn read(value: &str, date: Option<&'static str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_static(date));
        }
        retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_read_and_garbage_is_nothing() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let cases = [
            ("30", None, Some(30)),
            (" 30 ", None, Some(30)),
            ("0", None, Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", date, Some(60)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", date, Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", None, Some(0)),
            ("18446744073709551615", None, Some(86_400)),
            ("99999999999999999999999", None, None),
            ("-1", None, None),
            ("1.5", None, None),
            ("soon", None, None),
            ("", None, None),
            ("\u{e9}", None, None),
        ];
        for (value, date, expected) in cases {
            assert_eq!(read(value, date), expected, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
