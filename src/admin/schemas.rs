//! Routes of schemas and their versions: added, shown, activated, removed.

use super::{
    access::Caller,
    exchange::{Body, IfMatch, IfNoneMatch, Named, Paging, answer, created, listed, with_tag},
    openapi::refusals::{Away, Bad, Guarded, Missing, Stale, Taken, TakesBody},
    problem::Problem,
};
use crate::{
    api::{
        pages::{Page, PageQuery},
        schemas::{ActivateSchema, AddedSchema, NewSchema, SchemaView},
        texts::{NameText, TagText},
    },
    control::AdminService,
    limits::SCHEMA_BODY_BYTES_MAX,
};
use axum::{Extension, extract::State, http::StatusCode, response::Response};

const SCHEMAS: &str = "/api/v1/schemas";

/// Lists the schemas, by name.
#[utoipa::path(get, path = "/api/v1/schemas", tag = "schemas", operation_id = "list_schemas", params(PageQuery),
    responses((status = 200, description = "A page of the list", body = Page<SchemaView>, headers(
        ("Link" = String, description = "`rel=\"next\"`: the next page, if there is one"))), Bad, Guarded))]
pub(super) async fn list(State(service): State<AdminService>, Paging(ask): Paging) -> Result<Response, Problem> {
    let page = service.schemas(&ask).await?;
    Ok(listed(SCHEMAS, ask.limit, page.next.as_deref(), &page))
}

/// Shows a schema with all its versions.
#[utoipa::path(get, path = "/api/v1/schemas/{name}", tag = "schemas", operation_id = "show_schema",
    params(("name" = NameText, Path, description = "Its name"), ("If-None-Match" = Option<String>, Header, description = "Tags that the client has")),
    responses((status = 200, description = "The schema", body = SchemaView, headers(("ETag" = String, description = "The tag of its state"))),
        (status = 304, description = "The client has the present state", headers(("ETag" = String, description = "Its tag"))), Bad, Guarded, Missing))]
pub(super) async fn show(
    State(service): State<AdminService>,
    Named(name): Named,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    service.schema(&name).await.map(|schema| known.answer(schema)).map_err(Problem::from)
}

/// Adds a schema, or the next version of the schema of this name.
///
/// The first version is active at once, others have to be activated.
#[utoipa::path(post, path = "/api/v1/schemas", tag = "schemas", operation_id = "add_schema", request_body = NewSchema,
    responses((status = 201, description = "Compiled and added", body = AddedSchema, headers(
        ("Location" = String, description = "Its path"), ("ETag" = String, description = "The tag of its state"))),
        TakesBody, Guarded, Taken, Away))]
pub(super) async fn add(
    State(service): State<AdminService>,
    Extension(Caller(caller)): Extension<Caller>,
    Body(new): Body<NewSchema, SCHEMA_BODY_BYTES_MAX>,
) -> Result<Response, Problem> {
    let (added, version) = service.add_schema(new, &caller).await?;
    let body = AddedSchema { version, schema: added.value };
    Ok(with_tag(created(SCHEMAS, &body.schema.name, &body), &added.tag))
}

/// Activates a version, on all gateways.
#[utoipa::path(put, path = "/api/v1/schemas/{name}/active", tag = "schemas", operation_id = "activate_schema", request_body = ActivateSchema,
    params(("name" = NameText, Path, description = "The schema"), ("If-Match" = Option<TagText>, Header, description = "The tag that it must have for the change to be made")),
    responses((status = 200, description = "Active", body = SchemaView, headers(("ETag" = String, description = "Its new tag"))),
        TakesBody, Guarded, Missing, Stale, Away))]
pub(super) async fn activate(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
    Body(ActivateSchema { version }): Body<ActivateSchema>,
) -> Result<Response, Problem> {
    let active = service.activate_schema(&name, version.get(), expected.as_deref()).await;
    active.map(answer).map_err(Problem::from)
}

/// Removes a schema with all its versions. It must not be attached to a station.
#[utoipa::path(delete, path = "/api/v1/schemas/{name}", tag = "schemas", operation_id = "remove_schema",
    params(("name" = NameText, Path, description = "Its name"), ("If-Match" = Option<TagText>, Header, description = "The tag that it must have for the change to be made")),
    responses((status = 204, description = "Removed"), Bad, Guarded, Missing, Taken, Stale, Away))]
pub(super) async fn remove(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let removed = service.remove_schema(&name, expected.as_deref()).await;
    removed.map(|()| StatusCode::NO_CONTENT).map_err(Problem::from)
}
