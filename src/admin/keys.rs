//! Routes of API keys: created and shown once, listed without their secret, revoked.

use super::{
    NO_STORE,
    exchange::{Body, IfMatch, IfNoneMatch, Named, Paging, created, listed},
    openapi::refusals::{Away, Bad, Guarded, Missing, Stale, TakesBody},
    problem::Problem,
};
use crate::{
    api::{
        keys::{CreatedKey, KeyView, NewKey},
        pages::{Page, PageQuery},
        texts::{KeyIdText, TagText},
    },
    control::AdminService,
};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

const KEYS: &str = "/api/v1/keys";

/// Lists the API keys by id, never the keys themselves.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", operation_id = "list_keys", params(PageQuery),
    responses((status = 200, description = "A page of the list", body = Page<KeyView>, headers(
        ("Link" = String, description = "`rel=\"next\"`: the next page, if there is one"))), Bad, Guarded))]
pub(super) async fn list(State(service): State<AdminService>, Paging(ask): Paging) -> Result<Response, Problem> {
    let page = service.keys(&ask).await?;
    Ok(listed(KEYS, ask.limit, page.next.as_deref(), &page))
}

/// Shows what a key may do and how often it was used, never the key itself.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "show_key",
    params(("id" = KeyIdText, Path, description = "Its id"), ("If-None-Match" = Option<String>, Header, description = "Tags that the client has")),
    responses((status = 200, description = "The key", body = KeyView, headers(("ETag" = String, description = "The tag of its rights"))),
        (status = 304, description = "The client has the present state", headers(("ETag" = String, description = "Its tag"))), Bad, Guarded, Missing))]
pub(super) async fn show(
    State(service): State<AdminService>,
    Named(id): Named,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    service.key(&id).await.map(|key| known.answer(key)).map_err(Problem::from)
}

/// Creates a key. Only this answer shows it.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", operation_id = "create_key", request_body = NewKey,
    responses((status = 201, description = "Created", body = CreatedKey, headers(
        ("Location" = String, description = "The path of what is shown of it"), ("Cache-Control" = String, description = "`no-store`"))),
        TakesBody, Guarded, Away))]
pub(super) async fn create(State(service): State<AdminService>, Body(new): Body<NewKey>) -> Result<Response, Problem> {
    let made = service.create_key(new).await?;
    Ok((NO_STORE, created(KEYS, &made.view.id, &made)).into_response())
}

/// Revokes a key, at once and on all gateways.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(("id" = KeyIdText, Path, description = "Its id"), ("If-Match" = Option<TagText>, Header, description = "The tag that it must have for the change to be made")),
    responses((status = 204, description = "Revoked"), Bad, Guarded, Missing, Stale, Away))]
pub(super) async fn revoke(
    State(service): State<AdminService>,
    Named(id): Named,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let revoked = service.revoke_key(&id, expected.as_deref()).await;
    revoked.map(|()| StatusCode::NO_CONTENT).map_err(Problem::from)
}
