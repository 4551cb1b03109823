//! Routes of the consumer groups of a station: listed, removed.

use super::{
    exchange::{Named, NamedPart, Paging, encoded, listed},
    openapi::refusals::{Away, Bad, Guarded, Missing},
    problem::Problem,
};
use crate::{
    api::{
        groups::ConsumerGroupView,
        pages::{Page, PageQuery},
    },
    control::AdminService,
};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

/// Lists the consumer groups of a station, by name.
#[utoipa::path(get, path = "/api/v1/stations/{name}/groups", tag = "stations", operation_id = "list_consumer_groups",
    params(("name" = String, Path, description = "The station"), PageQuery),
    responses((status = 200, description = "A page of the list", body = Page<ConsumerGroupView>, headers(
        ("Link" = String, description = "`rel=\"next\"`: the next page, if there is one"))), Bad, Guarded, Missing, Away))]
pub(super) async fn list(
    State(service): State<AdminService>,
    Named(station): Named,
    Paging(ask): Paging,
) -> Result<Response, Problem> {
    let page = service.consumer_groups(&station, &ask).await?;
    let path = format!("/api/v1/stations/{}/groups", encoded(&station));
    Ok(listed(&path, ask.limit, page.next.as_deref(), &page))
}

/// Removes a consumer group and its position in the station.
///
/// The next consume call that names it begins at the first record.
#[utoipa::path(delete, path = "/api/v1/stations/{name}/groups/{group}", tag = "stations", operation_id = "remove_consumer_group",
    params(("name" = String, Path, description = "The station"), ("group" = String, Path, description = "The group")),
    responses((status = 204, description = "Removed"), Bad, Guarded, Missing, Away))]
pub(super) async fn remove(
    State(service): State<AdminService>,
    NamedPart(station, group): NamedPart,
) -> Result<Response, Problem> {
    service.remove_consumer_group(&station, &group).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
