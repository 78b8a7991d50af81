//! Who may ask for what.

use crate::http::Served;
use crate::http::routes;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::Response;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// The rule of a group of routes.
#[derive(Debug, Clone)]
pub struct Access {
    /// This machine needs no token.
    open_here: bool,
    /// `None`: there is nothing to bring, so elsewhere the route does not exist.
    token: Option<SecretString>,
}

impl Access {
    /// Reads are open while only this machine can reach us. Elsewhere they take the token.
    pub fn reads(served: &Served, loopback: bool) -> Self {
        Self { open_here: loopback, token: served.token.clone() }
    }

    /// Posts always take the token: a web page in a browser on this machine can post to loopback too.
    pub fn posts(served: &Served) -> Self {
        Self { open_here: false, token: served.token.clone() }
    }
}

/// Lets the request through, or answers in its place.
pub async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    if access.open_here && names_this_machine(request.headers()) {
        return next.run(request).await;
    }
    match &access.token {
        Some(token) if brings(request.headers(), token) => next.run(request).await,
        Some(_) => {
            let mut response = routes::error(StatusCode::UNAUTHORIZED, "the token is missing or wrong");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        None => routes::error(StatusCode::NOT_FOUND, "not available: no http.token is configured"),
    }
}

/// Was the request addressed to a number or to `localhost`? Any other name may have been made to point here: by a page
/// in a browser on this machine, or by a proxy that lets strangers in.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok()) else { return false };
    let host = authority.host();
    let number = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || number.parse::<IpAddr>().is_ok()
}

/// Compares in constant time, so that a wrong token cannot be mended byte by byte.
fn brings(headers: &HeaderMap, token: &SecretString) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return false };
    let Some((scheme, given)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.ct_eq(token.expose_secret().as_bytes()))
}
