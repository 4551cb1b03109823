//! The admin listener: health, readiness, metrics, and the users of the gateway.
//!
//! It runs on the control thread, beside nothing that serves records, and by default on the loopback
//! address. Health, readiness and metrics are open to whoever can reach it; everything below `/api/`
//! wants the root user's name and password (HTTP Basic). Errors are `application/problem+json` (RFC 9457).
//!
//! Deliberately absent: TLS and CORS. Bodies must say that they are JSON, so that no foreign web page
//! can post one without asking first, and asking is not answered.

mod problem;
mod process;
mod server;
mod users;

pub use server::{bind, serve};

use crate::{control::Desk, metrics::CONTENT_TYPE};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing,
};
use problem::Problem;

/// Bytes of a request body.
const BODY_BYTES_MAX: usize = crate::limits::CONTROL_BODY_BYTES_MAX;

fn router(desk: Desk) -> Router {
    let api = Router::new()
        .route("/users", routing::get(users::list).post(users::add))
        .route("/users/{name}", routing::delete(users::remove))
        .route("/users/{name}/password", routing::put(users::set_password))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(desk.clone(), users::require_root));
    Router::new()
        .route("/healthz", routing::get(async || "ok\n"))
        .route("/readyz", routing::get(ready))
        .route("/metrics", routing::get(metrics))
        .nest("/api/v1", api)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(server::deadline))
        .with_state(desk)
}

async fn ready(State(desk): State<Desk>) -> Response {
    let reasons = desk.reasons_not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(State(desk): State<Desk>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], desk.metrics_text(process::read())).into_response()
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here")
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not supported here")
}

#[cfg(test)]
mod tests;
