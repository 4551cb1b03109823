//! The users resource, and who may touch it.

use super::problem::Problem;
use crate::control::{Desk, NewUser, UserView};
use axum::{
    Json,
    extract::{Path, Request, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::sleep;

/// What a wrong password costs: with the bound on connections, guessing stays slow.
const REFUSAL_DELAY: Duration = Duration::from_millis(200);

/// Lets through who knows the root password.
pub(super) async fn require_root(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    if basic(request.headers()).is_some_and(|(username, password)| desk.is_root(&username, &password)) {
        return next.run(request).await;
    }
    if request.headers().contains_key(header::AUTHORIZATION) {
        sleep(REFUSAL_DELAY).await;
    }
    Problem::new(StatusCode::UNAUTHORIZED, "the root user's name and password are needed").into_response()
}

/// Name and password of HTTP Basic (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let mut fields = headers.get_all(header::AUTHORIZATION).into_iter();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    let (scheme, rest) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

/// Answer to `GET /users`.
#[derive(Debug, Serialize)]
pub(super) struct UserList {
    users: Vec<UserView>,
}

pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<UserList>, Problem> {
    Ok(Json(UserList { users: desk.users().await? }))
}

/// Body of `POST /users`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddUser {
    name: String,
    password: Box<str>,
    produce: Option<Vec<String>>,
    consume: Option<Vec<String>>,
}

pub(super) async fn add(
    State(desk): State<Desk>,
    body: Result<Json<AddUser>, JsonRejection>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let Json(AddUser { name, password, produce, consume }) = body?;
    let added = desk.add_user(NewUser { name, password, produce, consume }).await?;
    Ok((StatusCode::CREATED, Json(added)))
}

pub(super) async fn remove(State(desk): State<Desk>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    desk.remove_user(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Body of `PUT /users/{name}/password`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetPassword {
    password: Box<str>,
}

pub(super) async fn set_password(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    body: Result<Json<SetPassword>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(SetPassword { password }) = body?;
    desk.set_password(&name, password).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_read_or_refused() {
        for (fields, expect) in [
            (&["Basic cm9vdDpwYTpzcw=="][..], Some(("root", "pa:ss"))),
            (&["basic cm9vdDpwYTpzcw=="], Some(("root", "pa:ss"))),
            (&["Basic  cm9vdDo="], Some(("root", ""))),
            (&[], None),
            (&["Basic cm9vdDpwYTpzcw==", "Basic cm9vdDpwYTpzcw=="], None),
            (&["Bearer cm9vdDpwYTpzcw=="], None),
            (&["Basic"], None),
            (&["Basic !!!"], None),
            (&["Basic cm9vdA=="], None),
            (&["Basic //79"], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::AUTHORIZATION, field.parse().expect("a header value"));
            }
            let got = basic(&headers);
            let got = got.as_ref().map(|(username, password)| (username.as_str(), password.as_str()));
            assert_eq!(got, expect, "{fields:?}");
        }
    }
}
