//! What holds for every request: it is counted, and it may not be large.

use crate::http::routes;
use crate::telemetry::metrics::Metrics;
use axum::body::Body;
use axum::body::Bytes;
use axum::body::HttpBody;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::http::Method;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

/// No route has a use for a body; this much is tolerated.
const LARGEST_BODY: usize = 64 * 1024;
/// Of a larger one this much is still read, so that the peer sees the refusal rather than a reset.
const DRAINED: usize = 1024 * 1024;

/// Reads and drops the body, or refuses it.
pub async fn refuse_large_bodies(request: Request, next: Next) -> Response {
    let (parts, mut body) = request.into_parts();
    let mut read = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(frame) = frame else {
            return routes::error(StatusCode::BAD_REQUEST, "the body cannot be read");
        };
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > DRAINED {
            break;
        }
    }
    if read > LARGEST_BODY {
        return routes::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB");
    }
    next.run(Request::from_parts(parts, Body::empty())).await
}

/// Counts by route template and by known methods: what a stranger asks for must not become a label.
pub async fn count(metrics: Arc<Metrics>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |p| p.as_str().to_owned());
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];
    let method = known.into_iter().find(|method| method == request.method());
    let response = next.run(request).await;
    let method = method.as_ref().map_or("other", Method::as_str);
    metrics.http_requests_total.with_label_values(&[&route, method, response.status().as_str()]).inc();
    response
}
