//! Who may ask for what.

use crate::http::Served;
use crate::http::routes;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use subtle::ConstantTimeEq;

/// The rule of a group of routes.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everybody who can reach us.
    Open,
    /// Whoever brings the token.
    Token(SecretString),
    /// Nobody: there is no token to bring, so the route does not exist.
    Closed,
}

impl Access {
    /// Reads are open to this machine. Elsewhere they take the token.
    pub fn reads(served: &Served, loopback: bool) -> Self {
        if loopback { Self::Open } else { Self::posts(served) }
    }

    /// Posts always take the token: a web page in a browser on this machine can post to loopback too.
    pub fn posts(served: &Served) -> Self {
        served.token.clone().map_or(Self::Closed, Self::Token)
    }
}

/// Lets the request through, or answers in its place.
pub async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access {
        Access::Open => next.run(request).await,
        Access::Token(token) if brings(request.headers(), &token) => next.run(request).await,
        Access::Token(_) => {
            let mut response = routes::error(StatusCode::UNAUTHORIZED, "the token is missing or wrong");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Access::Closed => routes::error(StatusCode::NOT_FOUND, "not available: no http.token is configured"),
    }
}

/// Compares in constant time, so that a wrong token cannot be mended byte by byte.
fn brings(headers: &HeaderMap, token: &SecretString) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return false };
    let Some((scheme, given)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.ct_eq(token.expose_secret().as_bytes()))
}
