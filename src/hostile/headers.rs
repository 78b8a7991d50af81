//! What an answer's headers say of the rate limit: a line each, `name: value`.

use crate::descope::rate_headers;
use crate::descope::retry_after::retry_after;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn attempt(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let (name, value) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()));
        let (Ok(name), Ok(value)) = (name, value) else { continue };
        headers.append(name, value);
    }

    assert!(retry_after(&headers).is_none_or(|wait| wait <= DAY));
    if let Some(quota) = rate_headers::quota(&headers) {
        assert!(quota.remaining.is_finite() && quota.remaining >= 0.0, "{quota:?}");
        assert!(quota.reset <= DAY && quota.window.is_none_or(|window| window <= DAY), "{quota:?}");
        assert!(quota.limit.is_none_or(|limit| limit.is_finite() && limit >= 0.0), "{quota:?}");
    }
}
