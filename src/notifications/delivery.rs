//! One message to one receiver: signed, without redirects, and with an end.

use crate::config::Receiver;
use crate::config::address;
use crate::descope::retry_after::retry_after;
use crate::descope::transport::Network;
use crate::descope::transport::Request;
use crate::descope::transport::Transport;
use crate::telemetry::line::one_line;
use crate::telemetry::redact::Redactor;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use sha2::Sha256;
use std::fmt::Write;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;

/// Whoever takes longer to say that it got a message hardly will.
const PATIENCE: Duration = Duration::from_secs(10);

/// A receiver that asks for more is asked again all the same: what it is to hear of is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// Nobody reads what a receiver answers.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Seconds since 1970, as signed.
pub const TIMESTAMP: &str = "x-descope-gitops-timestamp";
/// `sha256=` and the HMAC of timestamp, dot and body.
pub const SIGNATURE: &str = "x-descope-gitops-signature";

/// Why a message did not arrive, or is not known to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For the operator; names no address, which may be a secret.
    pub reason: String,
    /// The receiver asks for this.
    pub wait: Option<Duration>,
}

/// Sends it. Again is safe: what is told has a key by which a receiver knows it.
pub async fn deliver(receiver: &Receiver, body: Vec<u8>, now: SystemTime, redactor: &Redactor) -> Result<(), Failure> {
    let failed = |reason: String| Failure { reason: one_line(&redactor.redact(&reason)), wait: None };
    let secret = |source: &crate::config::SecretSource| {
        let secret = source.read().map_err(failed)?;
        redactor.add(&secret);
        Ok(secret)
    };
    let url = secret(&receiver.url)?;
    let url = address(url.expose_secret()).map_err(|what| failed(format!("the address {what}")))?;
    let timestamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let header = |text: &str| HeaderValue::from_str(text).map_err(|error| failed(error.to_string()));
    headers.insert(TIMESTAMP, header(&timestamp)?);
    if let Some(key) = &receiver.hmac_key {
        let key = secret(key)?;
        headers.insert(SIGNATURE, header(&signature(key.expose_secret().as_bytes(), &timestamp, &body))?);
    }
    // Made for each message: they are rare, and the address may be another by now.
    let network = Network::to(&url, LARGEST_ANSWER).map_err(|error| failed(error.to_string()))?;
    let request = Request { method: Method::POST, url, headers, body: Some(body) };
    let sent = network.send(request, Instant::now() + PATIENCE);
    match tokio::time::timeout(PATIENCE, sent).await {
        Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
        Ok(Err(error)) => Err(failed(format!("cannot be reached: {error}"))),
        Ok(Ok(response)) if (200..300).contains(&response.status) => Ok(()),
        Ok(Ok(response)) => Err(Failure {
            wait: retry_after(&response.headers).map(|wait| wait.min(LONGEST_WAIT)),
            ..failed(format!("it answers {}", response.status))
        }),
    }
}

fn signature(key: &[u8], timestamp: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|error| unreachable!("{error}"));
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_timestamp_and_body() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let expected = "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";

        assert_eq!(signature(b"key", "1700000000", br#"{"a":1}"#), expected);
    }
}
