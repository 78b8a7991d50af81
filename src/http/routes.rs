//! One function per route.

use crate::http::Served;
use crate::source::Trigger;
use crate::telemetry::status::Level;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

type Shared = State<Arc<Served>>;

/// `{"error": "..."}`.
pub fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

pub async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not found")
}

pub async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

/// The loops turn. Says nothing about Descope: restarting the daemon does not mend that.
pub async fn livez(State(served): Shared) -> Response {
    if served.board.is_alive() {
        Json(json!({ "status": "ok" })).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "stuck" }))).into_response()
    }
}

pub async fn readyz(State(served): Shared) -> Response {
    let not_ready = served.board.not_ready();
    if not_ready.is_empty() {
        Json(json!({ "status": "ready" })).into_response()
    } else {
        let body = json!({ "status": "not ready", "projects": not_ready });
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    }
}

pub async fn healthz(State(served): Shared) -> Response {
    (served.refresh)();
    let health = served.board.health();
    let status = if health.status == Level::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(health)).into_response()
}

pub async fn metrics(State(served): Shared) -> Response {
    (served.refresh)();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], served.metrics.render()).into_response()
}

pub async fn status(State(served): Shared) -> Response {
    (served.refresh)();
    Json(served.board.status()).into_response()
}

pub async fn plan(State(served): Shared) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], (served.plan)()).into_response()
}

/// `?project=NAME`; nothing else, so that a typo does not set off everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    project: Option<String>,
}

pub async fn reconcile(State(served): Shared, which: Result<Query<Which>, QueryRejection>) -> Response {
    let Ok(Query(Which { project })) = which else {
        return error(StatusCode::BAD_REQUEST, "the only parameter is project, once");
    };
    let chosen: Vec<&String> = match &project {
        Some(name) => match served.reconcile.get_key_value(name) {
            Some((name, _)) => vec![name],
            None => return error(StatusCode::NOT_FOUND, "no such project"),
        },
        None => served.reconcile.keys().collect(),
    };
    served.metrics.source_events_total.with_label_values(&[Trigger::Api.as_str()]).inc();
    for name in &chosen {
        if let Some(reconcile) = served.reconcile.get(*name) {
            reconcile();
        }
    }
    (StatusCode::ACCEPTED, Json(json!({ "projects": chosen }))).into_response()
}
