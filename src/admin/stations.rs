//! Routes of stations: created, shown, changed, removed, adopted; and the schema that their records are validated by.

use super::{
    exchange::{Body, IfMatch, IfNoneMatch, Named, Paging, answer, created, listed, with_tag},
    openapi::refusals::{Away, Bad, Guarded, Missing, Stale, Taken, TakesBody},
    problem::Problem,
};
use crate::{
    api::{
        pages::{Page, PageQuery},
        stations::{AdoptStation, AttachSchema, ChangeStation, NewStation, StationView},
        texts::{NameText, TagText},
    },
    control::AdminService,
};
use axum::{extract::State, http::StatusCode, response::Response};

const STATIONS: &str = "/api/v1/stations";

/// Lists the stations by name, also those that were created on first use.
#[utoipa::path(get, path = "/api/v1/stations", tag = "stations", operation_id = "list_stations", params(PageQuery),
    responses((status = 200, description = "A page of the list", body = Page<StationView>, headers(
        ("Link" = String, description = "`rel=\"next\"`: the next page, if there is one"))), Bad, Guarded, Away))]
pub(super) async fn list(State(service): State<AdminService>, Paging(ask): Paging) -> Result<Response, Problem> {
    let page = service.stations(&ask).await?;
    Ok(listed(STATIONS, ask.limit, page.next.as_deref(), &page))
}

/// Shows a station.
#[utoipa::path(get, path = "/api/v1/stations/{name}", tag = "stations", operation_id = "show_station",
    params(("name" = NameText, Path, description = "Its name"), ("If-None-Match" = Option<String>, Header, description = "Tags that the client has")),
    responses((status = 200, description = "The station", body = StationView, headers(("ETag" = String, description = "The tag of its state"))),
        (status = 304, description = "The client has the present state", headers(("ETag" = String, description = "Its tag"))), Bad, Guarded, Missing, Away))]
pub(super) async fn show(
    State(service): State<AdminService>,
    Named(name): Named,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    service.station(&name).await.map(|station| known.answer(station)).map_err(Problem::from)
}

/// Creates a station. The configuration has the value of each attribute that the body leaves out.
#[utoipa::path(post, path = "/api/v1/stations", tag = "stations", operation_id = "create_station", request_body = NewStation,
    responses((status = 201, description = "Created", body = StationView, headers(
        ("Location" = String, description = "Its path"), ("ETag" = String, description = "The tag of its state"))),
        TakesBody, Guarded, Missing, Taken, Away))]
pub(super) async fn create(
    State(service): State<AdminService>,
    Body(new): Body<NewStation>,
) -> Result<Response, Problem> {
    let made = service.create_station(new).await?;
    Ok(with_tag(created(STATIONS, &made.value.name, &made.value), &made.tag))
}

/// Makes a station of an existing stream.
#[utoipa::path(post, path = "/api/v1/stations/{name}/adopt", tag = "stations", operation_id = "adopt_station", request_body = AdoptStation,
    params(("name" = NameText, Path, description = "The name of the new station")),
    responses((status = 201, description = "Created", body = StationView, headers(
        ("Location" = String, description = "Its path"), ("ETag" = String, description = "The tag of its state"))),
        TakesBody, Guarded, Taken, Away))]
pub(super) async fn adopt(
    State(service): State<AdminService>,
    Named(name): Named,
    Body(adopt): Body<AdoptStation>,
) -> Result<Response, Problem> {
    let made = service.adopt_station(&name, adopt).await?;
    Ok(with_tag(created(STATIONS, &made.value.name, &made.value), &made.tag))
}

/// Changes a station. What the body leaves out stays as it is.
#[utoipa::path(patch, path = "/api/v1/stations/{name}", tag = "stations", operation_id = "change_station", request_body = ChangeStation,
    params(("name" = NameText, Path, description = "Its name"), ("If-Match" = Option<TagText>, Header, description = "The tag that it must have for the change to be made")),
    responses((status = 200, description = "Changed", body = StationView, headers(("ETag" = String, description = "Its new tag"))),
        TakesBody, Guarded, Missing, Stale, Away))]
pub(super) async fn change(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
    Body(change): Body<ChangeStation>,
) -> Result<Response, Problem> {
    let changed = service.change_station(&name, change, expected.as_deref()).await;
    changed.map(answer).map_err(Problem::from)
}

/// Removes a station with its records and dead letters. The stream of an adopted station stays.
#[utoipa::path(delete, path = "/api/v1/stations/{name}", tag = "stations", operation_id = "remove_station",
    params(("name" = NameText, Path, description = "Its name"), ("If-Match" = Option<TagText>, Header, description = "The tag that it must have for the change to be made")),
    responses((status = 204, description = "Removed"), Bad, Guarded, Missing, Stale, Away))]
pub(super) async fn remove(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let removed = service.remove_station(&name, expected.as_deref()).await;
    removed.map(|()| StatusCode::NO_CONTENT).map_err(Problem::from)
}

/// Attaches a schema. From now on all gateways validate the records of the station by it.
#[utoipa::path(put, path = "/api/v1/stations/{name}/schema", tag = "stations", operation_id = "attach_schema", request_body = AttachSchema,
    params(("name" = NameText, Path, description = "The station"), ("If-Match" = Option<TagText>, Header, description = "The tag that the station must have for the change to be made")),
    responses((status = 200, description = "Attached", body = StationView, headers(("ETag" = String, description = "The station's new tag"))),
        TakesBody, Guarded, Missing, Stale, Away))]
pub(super) async fn attach(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
    Body(AttachSchema { schema }): Body<AttachSchema>,
) -> Result<Response, Problem> {
    let attached = service.attach_schema(&name, &schema, expected.as_deref()).await;
    attached.map(answer).map_err(Problem::from)
}

/// Detaches the schema. From now on the records of the station are not validated.
#[utoipa::path(delete, path = "/api/v1/stations/{name}/schema", tag = "stations", operation_id = "detach_schema",
    params(("name" = NameText, Path, description = "The station"), ("If-Match" = Option<TagText>, Header, description = "The tag that the station must have for the change to be made")),
    responses((status = 200, description = "Detached, or there was none", body = StationView, headers(("ETag" = String, description = "The station's new tag"))),
        Bad, Guarded, Missing, Stale, Away))]
pub(super) async fn detach(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
) -> Result<Response, Problem> {
    let detached = service.detach_schema(&name, expected.as_deref()).await;
    detached.map(answer).map_err(Problem::from)
}
