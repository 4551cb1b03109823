//! The admin listener: health, readiness, metrics, and the API of stations, schemas, dead letters, users and keys.
//!
//! It runs on the control thread, apart from everything that serves records, and by default on the loopback address.
//! Health, readiness, metrics and the description of the API are open to whoever can reach the port. Everything below
//! `/api/` requires root's name and password (HTTP Basic), or an API key that may use the admin API. Errors are
//! `application/problem+json` (RFC 9457).
//!
//! Deliberately absent: TLS and CORS. A body must have the media type of JSON, so that a web page of another origin has
//! to ask the browser's preflight request first, which is not answered.

mod access;
mod dead_letters;
mod exchange;
mod groups;
mod keys;
mod openapi;
mod places;
mod problem;
mod process;
mod schemas;
mod server;
mod stations;
mod users;

pub use server::{bind, serve};

use crate::{
    api::health::Readiness,
    control::AdminService,
    limits::{ADMIN_API_REQUESTS_MAX, CONTROL_BODY_BYTES_MAX, SCHEMA_BODY_BYTES_MAX},
    metrics::CONTENT_TYPE,
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use problem::Problem;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The prefix of the paths of the API.
const API: &str = "/api/v1";
/// For answers that are true only now, or meant only for the client that asked.
const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

fn router(service: AdminService) -> Router {
    let api = stations_router()
        .merge(others_router())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(service.clone(), access::require_admin))
        .layer(middleware::from_fn_with_state(
            Arc::new(Semaphore::new(ADMIN_API_REQUESTS_MAX)),
            places::one_of_the_api,
        ));
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(description))
        .nest(API, api)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(CONTROL_BODY_BYTES_MAX))
        .layer(middleware::from_fn(server::deadline))
        .with_state(service)
}

fn stations_router() -> Router<AdminService> {
    let letters = "/stations/{name}/dead-letters";
    Router::new()
        .route("/stations", get(stations::list).post(stations::create))
        .route("/stations/{name}", get(stations::show).patch(stations::change).delete(stations::remove))
        .route("/stations/{name}/adopt", post(stations::adopt))
        .route("/stations/{name}/schema", put(stations::attach).delete(stations::detach))
        .route("/stations/{name}/groups", get(groups::list))
        .route("/stations/{name}/groups/{group}", delete(groups::remove))
        .route(letters, get(dead_letters::list).delete(dead_letters::purge_all))
        .route(&format!("{letters}/replay"), post(dead_letters::replay))
        .route(&format!("{letters}/purge"), post(dead_letters::purge))
        .route(&format!("{letters}/{{id}}"), get(dead_letters::show))
}

fn others_router() -> Router<AdminService> {
    let add_schema = post(schemas::add).layer(DefaultBodyLimit::max(SCHEMA_BODY_BYTES_MAX));
    Router::new()
        .route("/schemas", get(schemas::list).merge(add_schema))
        .route("/schemas/{name}", get(schemas::show).delete(schemas::remove))
        .route("/schemas/{name}/active", put(schemas::activate).post(schemas::activate))
        .route("/users", get(users::list).post(users::add))
        .route("/users/{name}", get(users::show).patch(users::change).delete(users::remove))
        .route("/users/{name}/password", put(users::set_password))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{id}", get(keys::show).delete(keys::revoke))
}

/// Says whether the process is alive. It is 503, with the reason, where only a restart helps (embedded store only).
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "health", security(()),
    responses((status = 200, description = "It is alive", body = String, content_type = "text/plain")))]
async fn healthy(State(service): State<AdminService>) -> impl IntoResponse {
    let (status, text) = match service.reason_not_alive() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    };
    (status, NO_STORE, text)
}

/// Says whether the gateway can serve requests, and why not.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "readiness", security(()),
    responses((status = 200, description = "It can", body = Readiness), (status = 503, description = "It cannot", body = Readiness)))]
async fn ready(State(service): State<AdminService>) -> Response {
    let reasons = service.reasons_not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, NO_STORE, Json(Readiness { ready: reasons.is_empty(), reasons })).into_response()
}

/// All metrics, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "metrics", security(()),
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
async fn metrics(State(service): State<AdminService>) -> Response {
    (NO_STORE, [(header::CONTENT_TYPE, CONTENT_TYPE)], service.metrics_text(process::read())).into_response()
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "health", operation_id = "description", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::text()).into_response()
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such path: /openapi.json lists the paths")
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not support the method: Allow lists those that it supports",
    )
}

#[cfg(test)]
mod tests;
