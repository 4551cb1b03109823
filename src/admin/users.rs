//! Routes of users: added, shown, changed, removed.

use super::{
    exchange::{Body, IfMatch, IfNoneMatch, Named, Paging, answer, created, listed},
    openapi::refusals::{Away, Bad, Guarded, Missing, Stale, Taken, TakesBody},
    problem::Problem,
};
use crate::{
    api::{
        pages::{PageQuery, PageRequest},
        texts::{NameText, TagText},
        users::{AddUser, ChangeUser, SetPassword, UserList, UserView},
    },
    control::AdminService,
};
use axum::{extract::State, http::StatusCode, response::Response};

const USERS: &str = "/api/v1/users";

/// Lists the users and what they may do.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", operation_id = "list_users", params(PageQuery),
    responses((status = 200, description = "A page of the list", body = UserList, headers(
        ("Link" = String, description = "`rel=\"next\"`: the next page, if there is one"))), Bad, Guarded))]
pub(super) async fn list(State(service): State<AdminService>, Paging(ask): Paging) -> Result<Response, Problem> {
    let users = service.users().await?;
    let part = part(users, &ask);
    Ok(listed(USERS, ask.limit, part.next.as_deref(), &part))
}

/// Returns the requested page. Root is first, whatever its name is, so it comes before every name.
fn part(users: Vec<UserView>, ask: &PageRequest) -> UserList {
    let root_name = users.first().filter(|user| user.root).map(|user| user.name.clone());
    let behind = |user: &UserView| match &ask.after {
        None => true,
        Some(after) if root_name.as_ref() == Some(after) => !user.root,
        Some(after) => !user.root && user.name > *after,
    };
    let mut users: Vec<UserView> = users.into_iter().filter(behind).collect();
    let more = users.len() > ask.limit;
    users.truncate(ask.limit);
    let next = users.last().filter(|_| more).map(|user| user.name.clone());
    UserList { users, next }
}

/// Shows a user.
#[utoipa::path(get, path = "/api/v1/users/{name}", tag = "users", operation_id = "show_user",
    params(("name" = NameText, Path, description = "Its name"), ("If-None-Match" = Option<String>, Header, description = "Tags that the client has")),
    responses((status = 200, description = "The user", body = UserView, headers(("ETag" = String, description = "The tag of its state"))),
        (status = 304, description = "The client has the present state", headers(("ETag" = String, description = "Its tag"))), Bad, Guarded, Missing))]
pub(super) async fn show(
    State(service): State<AdminService>,
    Named(name): Named,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    service.user(&name).await.map(|user| known.answer(user)).map_err(Problem::from)
}

/// Adds a user.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", operation_id = "add_user", request_body = AddUser,
    responses((status = 201, description = "Added", body = UserView, headers(("Location" = String, description = "Its path"))),
        TakesBody, Guarded, Taken, Away))]
pub(super) async fn add(State(service): State<AdminService>, Body(new): Body<AddUser>) -> Result<Response, Problem> {
    let added = service.add_user(new).await;
    added.map(|user| created(USERS, &user.name, &user)).map_err(Problem::from)
}

/// Changes what a user may do. What the body leaves out stays as it is.
#[utoipa::path(patch, path = "/api/v1/users/{name}", tag = "users", operation_id = "change_user", request_body = ChangeUser,
    params(("name" = NameText, Path, description = "Its name"), ("If-Match" = Option<TagText>, Header, description = "The tag that it must have for the change to be made")),
    responses((status = 200, description = "Changed", body = UserView, headers(("ETag" = String, description = "Its new tag"))),
        TakesBody, Guarded, Missing, Taken, Stale, Away))]
pub(super) async fn change(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
    Body(change): Body<ChangeUser>,
) -> Result<Response, Problem> {
    let changed = service.change_user(&name, change, expected.as_deref()).await;
    changed.map(answer).map_err(Problem::from)
}

/// Removes a user. Its tokens are no longer valid, on any gateway.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "users", operation_id = "remove_user",
    params(("name" = NameText, Path, description = "Its name"), ("If-Match" = Option<TagText>, Header, description = "The tag that it must have for the change to be made")),
    responses((status = 204, description = "Removed"), Bad, Guarded, Missing, Taken, Stale, Away))]
pub(super) async fn remove(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    service.remove_user(&name, expected.as_deref()).await.map(|()| StatusCode::NO_CONTENT).map_err(Problem::from)
}

/// Sets the password of a user. Tokens that were issued before are no longer valid, on any gateway.
#[utoipa::path(put, path = "/api/v1/users/{name}/password", tag = "users", operation_id = "set_password", request_body = SetPassword,
    params(("name" = NameText, Path, description = "The user"), ("If-Match" = Option<TagText>, Header, description = "The tag that the user must have for the change to be made")),
    responses((status = 204, description = "Changed"), TakesBody, Guarded, Missing, Taken, Stale, Away))]
pub(super) async fn set_password(
    State(service): State<AdminService>,
    Named(name): Named,
    IfMatch(expected): IfMatch,
    Body(SetPassword { password }): Body<SetPassword>,
) -> Result<StatusCode, Problem> {
    let set = service.set_password(&name, password, expected.as_deref()).await;
    set.map(|()| StatusCode::NO_CONTENT).map_err(Problem::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_list_are_the_list() {
        let user = |name: &str, root| UserView {
            name: name.to_owned(),
            account: 1,
            produce: Vec::new(),
            consume: Vec::new(),
            root,
        };
        let all = vec![user("root", true), user("ann", false), user("bob", false), user("zoe", false)];
        for limit in 1..=5 {
            let (mut got, mut after, mut parts) = (Vec::new(), None, 0);
            loop {
                let part = part(all.clone(), &PageRequest { after, limit });
                assert!(part.users.len() <= limit);
                got.extend(part.users);
                parts += 1;
                after = part.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!((got.as_slice(), parts), (all.as_slice(), all.len().div_ceil(limit)), "{limit}");
        }
        // Nobody is left out because the user before was removed meanwhile.
        let rest = part(all, &PageRequest { after: Some("anne".to_owned()), limit: 9 });
        assert_eq!(rest.users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["bob", "zoe"]);
    }
}
