//! Routes of the dead letters of a station: listed, shown, replayed, removed.

use super::{
    exchange::{Body, Named, NamedPart, Paging, encoded, listed},
    openapi::refusals::{Away, Bad, Guarded, Missing, TakesBody},
    problem::Problem,
};
use crate::{
    api::{
        dead_letters::{DeadLetterSelection, DeadLetterView, PurgeReport, ReplayReport},
        pages::{DeadLetterQuery, Page},
        texts::{NameText, NumberText},
    },
    control::AdminService,
};
use axum::{Json, extract::State, response::Response};

/// Lists the dead letters of a station, oldest first.
#[utoipa::path(get, path = "/api/v1/stations/{name}/dead-letters", tag = "dead letters", operation_id = "list_dead_letters",
    params(("name" = NameText, Path, description = "The station"), DeadLetterQuery),
    responses((status = 200, description = "A page of the list", body = Page<DeadLetterView>, headers(
        ("Link" = String, description = "`rel=\"next\"`: the next page, if there is one"))), Bad, Guarded, Missing, Away))]
pub(super) async fn list(
    State(service): State<AdminService>,
    Named(station): Named,
    Paging(ask): Paging,
) -> Result<Response, Problem> {
    let page = service.dead_letters(&station, &ask).await?;
    let path = format!("/api/v1/stations/{}/dead-letters", encoded(&station));
    Ok(listed(&path, ask.limit, page.next.as_deref(), &page))
}

/// Shows a dead letter.
#[utoipa::path(get, path = "/api/v1/stations/{name}/dead-letters/{id}", tag = "dead letters", operation_id = "show_dead_letter",
    params(("name" = NameText, Path, description = "The station"), ("id" = NumberText, Path, description = "Its number")),
    responses((status = 200, description = "The dead letter", body = DeadLetterView), Bad, Guarded, Missing, Away))]
pub(super) async fn show(
    State(service): State<AdminService>,
    NamedPart(station, id): NamedPart,
) -> Result<Json<DeadLetterView>, Problem> {
    let id = id
        .parse()
        .map_err(|_| Problem::bad("a dead letter is named by its number: the list shows those that exist"))?;
    service.dead_letter(&station, id).await.map(Json).map_err(Problem::from)
}

/// Replays dead letters. Those that are valid now are stored in their station and are no longer dead letters.
#[utoipa::path(post, path = "/api/v1/stations/{name}/dead-letters/replay", tag = "dead letters", operation_id = "replay_dead_letters",
    params(("name" = NameText, Path, description = "The station")), request_body = DeadLetterSelection,
    responses((status = 200, description = "The result", body = ReplayReport), TakesBody, Guarded, Missing, Away))]
pub(super) async fn replay(
    State(service): State<AdminService>,
    Named(station): Named,
    Body(which): Body<DeadLetterSelection>,
) -> Result<Json<ReplayReport>, Problem> {
    service.replay_dead_letters(&station, which).await.map(Json).map_err(Problem::from)
}

/// Removes dead letters: those that the body names, or with `{}` all that exist now.
///
/// An empty list removes none; null is refused.
#[utoipa::path(post, path = "/api/v1/stations/{name}/dead-letters/purge", tag = "dead letters", operation_id = "purge_dead_letters",
    params(("name" = NameText, Path, description = "The station")), request_body = DeadLetterSelection,
    responses((status = 200, description = "How many were removed", body = PurgeReport), TakesBody, Guarded, Missing, Away))]
pub(super) async fn purge(
    State(service): State<AdminService>,
    Named(station): Named,
    Body(which): Body<DeadLetterSelection>,
) -> Result<Json<PurgeReport>, Problem> {
    service.purge_dead_letters(&station, which).await.map(Json).map_err(Problem::from)
}

/// Removes all dead letters of a station.
#[utoipa::path(delete, path = "/api/v1/stations/{name}/dead-letters", tag = "dead letters", operation_id = "purge_all_dead_letters",
    params(("name" = NameText, Path, description = "The station")),
    responses((status = 200, description = "How many were removed", body = PurgeReport), Bad, Guarded, Missing, Away))]
pub(super) async fn purge_all(
    State(service): State<AdminService>,
    Named(station): Named,
) -> Result<Json<PurgeReport>, Problem> {
    let purged = service.purge_dead_letters(&station, DeadLetterSelection::default()).await;
    purged.map(Json).map_err(Problem::from)
}
