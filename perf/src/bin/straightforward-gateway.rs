//! What a user would otherwise have: the same contract, written in a day by a good engineer with the usual crates.
//!
//! axum on a multi-threaded tokio, async-nats, jsonwebtoken, a batch split by serde_json's `RawValue` without copying.
//! Every record is acknowledged before 200, and every request's token is checked. Left out, because they are not
//! measured: refresh tokens, users, consumption, schemas, limits, metrics.

use async_nats::{
    HeaderMap,
    jetstream::{self, context::PublishAckFuture, stream},
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap as HttpHeaders, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use clap::Parser;
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, sync::RwLock};

#[derive(Debug, Parser)]
struct Args {
    #[arg(long, default_value = "127.0.0.1:4444")]
    listen: SocketAddr,
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    nats: String,
    #[arg(long, env = "ROOT_PASSWORD", hide_env_values = true)]
    password: String,
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    jwt_secret: String,
}

#[derive(Clone)]
struct Gateway(Arc<Inner>);

struct Inner {
    jetstream: jetstream::Context,
    password: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    stations: RwLock<HashSet<String>>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    exp: u64,
}

#[derive(Deserialize)]
struct Login {
    username: String,
    password: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let client = async_nats::connect(&args.nats).await?;
    let gateway = Gateway(Arc::new(Inner {
        jetstream: jetstream::new(client),
        password: args.password,
        encoding: EncodingKey::from_secret(args.jwt_secret.as_bytes()),
        decoding: DecodingKey::from_secret(args.jwt_secret.as_bytes()),
        validation: Validation::new(Algorithm::HS256),
        stations: RwLock::default(),
    }));
    let router = Router::new()
        .route("/monitoring/status", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/auth/authenticate", post(authenticate))
        .route("/stations/{station}/produce/single", post(produce_single))
        .route("/stations/{station}/produce/batch", post(produce_batch))
        .layer(DefaultBodyLimit::max(16 * 1024 * 1024))
        .with_state(gateway);
    let listener = TcpListener::bind(args.listen).await?;
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), router).await?;
    Ok(())
}

async fn authenticate(State(Gateway(gateway)): State<Gateway>, Json(login): Json<Login>) -> Response {
    if login.username != "root" || login.password != gateway.password {
        return unauthorized();
    }
    let lifetime = Duration::from_secs(15 * 60);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims = Claims { username: login.username, exp: (now + lifetime).as_secs() };
    match encode(&Header::new(Algorithm::HS256), &claims, &gateway.encoding) {
        Ok(token) => Json(json!({
            "jwt": token, "jwt_refresh_token": "", "expires_in": lifetime.as_millis() as u64,
            "refresh_token_expires_in": 0,
        }))
        .into_response(),
        Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "Server error"),
    }
}

async fn produce_single(
    State(Gateway(gateway)): State<Gateway>,
    Path(station): Path<String>,
    headers: HttpHeaders,
    body: Bytes,
) -> Response {
    match gateway.admit(&station, &headers).await {
        Ok(stored) => gateway.publish(station, stored, vec![body]).await,
        Err(response) => response,
    }
}

async fn produce_batch(
    State(Gateway(gateway)): State<Gateway>,
    Path(station): Path<String>,
    headers: HttpHeaders,
    body: Bytes,
) -> Response {
    let stored = match gateway.admit(&station, &headers).await {
        Ok(stored) => stored,
        Err(response) => return response,
    };
    let records = match serde_json::from_slice::<Vec<&RawValue>>(&body) {
        Ok(list) => list.into_iter().map(|record| body.slice_ref(record.get().as_bytes())).collect(),
        Err(error) => return failed(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    gateway.publish(station, stored, records).await
}

impl Inner {
    /// Checks the token, finds or creates the stream, and chooses the headers to store.
    async fn admit(&self, station: &str, headers: &HttpHeaders) -> Result<HeaderMap, Response> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(unauthorized)?;
        decode::<Claims>(token, &self.decoding, &self.validation).map_err(|_| unauthorized())?;
        if !self.stations.read().await.contains(station) {
            let config = stream::Config {
                name: station.to_owned(),
                subjects: vec![station.to_owned()],
                max_age: Duration::from_secs(3_600),
                duplicate_window: Duration::from_secs(120),
                ..stream::Config::default()
            };
            self.jetstream.get_or_create_stream(config).await.map_err(unavailable)?;
            self.stations.write().await.insert(station.to_owned());
        }
        let mut stored = HeaderMap::new();
        if let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
            stored.insert("Content-Type", kind);
        }
        Ok(stored)
    }

    /// Publishes all, then waits for all acknowledgements.
    async fn publish(&self, station: String, headers: HeaderMap, records: Vec<Bytes>) -> Response {
        let total = records.len();
        let mut acknowledgements: Vec<PublishAckFuture> = Vec::with_capacity(total);
        for record in records {
            match self.jetstream.publish_with_headers(station.clone(), headers.clone(), record).await {
                Ok(acknowledgement) => acknowledgements.push(acknowledgement),
                Err(error) => return unavailable(error),
            }
        }
        let outcomes = join_all(acknowledgements.into_iter().map(IntoFuture::into_future)).await;
        let errors: Vec<String> =
            outcomes.into_iter().filter_map(|outcome| outcome.err()).map(|error| error.to_string()).collect();
        if errors.is_empty() {
            return Json(json!({ "error": null, "success": true })).into_response();
        }
        let (fail, sent) = (errors.len(), total - errors.len());
        let body = json!({ "errors": errors, "fail": fail, "sent": sent, "success": false });
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    }
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, Json(json!({ "message": "Unauthorized" }))).into_response()
}

fn unavailable(error: impl std::fmt::Display) -> Response {
    failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
}

fn failed(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text, "success": false }))).into_response()
}
