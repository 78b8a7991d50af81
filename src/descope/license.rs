//! The license handshake: which rate limit tier our calls are counted in.

use reqwest::header::HeaderValue;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// As the SDKs have it.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The SDKs ask once per process; a daemon that started before its network did would send without the tier for ever.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What is known of the tier.
#[derive(Debug, Default)]
pub struct License {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tier: Option<HeaderValue>,
    failed_at: Option<Instant>,
}

impl License {
    /// The value of `x-descope-license`; `ask` is called where nothing is known, and a failure is remembered for a
    /// while. Callers that come meanwhile wait for the one that asks.
    pub async fn tier(&self, ask: impl AsyncFnOnce() -> Option<HeaderValue>) -> Option<HeaderValue> {
        let mut known = self.known.lock().await;
        if known.tier.is_none() && known.failed_at.is_none_or(|at| at.elapsed() >= AGAIN_AFTER) {
            known.tier = ask().await;
            known.failed_at = known.tier.is_none().then(Instant::now);
        }
        known.tier.clone()
    }
}

/// The tier of an answer; `None` where it has none that fits into a header.
pub fn read(body: &[u8]) -> Option<HeaderValue> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let tier = answer.get("rateLimitTier")?.as_str()?;
    let is_token = !tier.is_empty() && tier.len() <= 64 && tier.bytes().all(|b| b.is_ascii_graphic());
    HeaderValue::from_str(tier).ok().filter(|_| is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_token_becomes_a_header() {
        assert_eq!(read(br#"{"rateLimitTier":"tier2"}"#).unwrap(), "tier2");
        for body in ["", "[]", "{}", r#"{"rateLimitTier":""}"#, r#"{"rateLimitTier":2}"#, r#"{"rateLimitTier":"a\nb"}"#]
        {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_handshake_is_not_repeated_in_a_loop_but_later() {
        let license = License::default();
        assert_eq!(license.tier(async || None).await, None);
        assert_eq!(license.tier(async || unreachable!("asked again at once")).await, None);

        tokio::time::advance(AGAIN_AFTER).await;

        let tier = HeaderValue::from_static("tier3");
        assert_eq!(license.tier(async || Some(tier.clone())).await, Some(tier.clone()));
        assert_eq!(license.tier(async || unreachable!("it is known")).await, Some(tier));
    }
}
