//! `POST /auth/authenticate` and `POST /auth/refreshToken`.
//!
//! The answer has exactly four keys (a fifth breaks strict readers); lifetimes are milliseconds.

use super::{
    Memphis, decoded,
    fields::{Fields, Invalid},
    reply, route,
};
use crate::{
    auth::{self, Principal},
    dialect::{Reply, Request},
    metrics::Route,
    reject::Reject,
    wire::content_encoding::Codings,
};
use serde_json::json;
use std::time::Duration;

/// The original's answer to a body that does not parse.
const INVALID_FIELDS: &str = "Some of your fields are not valid it is usually because you are missing some fields or you are sending wrong data types, also please notice that account_id field should be sent as a number rather than a string";
/// The account of a user who names none.
const DEFAULT_ACCOUNT: u32 = 1;

/// What a login asks for.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    username: String,
    password: String,
    account: u32,
}

impl Memphis {
    /// A password for a pair of tokens.
    pub(super) async fn authenticate(&self, codings: Codings, request: &Request<'_>, body: &[u8]) -> Reply {
        let fields = match decoded(codings, body) {
            Ok(body) => fields_of(request, &body),
            Err(reject) => return reply::reject(&reject, route::AUTHENTICATE),
        };
        let Ok(fields) = fields else { return invalid_fields() };
        let login = match login_of(&fields, request.head.query.map(|query| query.of(request.bytes))) {
            Ok(Some(login)) => login,
            Ok(None) => return required("Username"),
            Err(Invalid) => return invalid_fields(),
        };
        let Ok(lifetimes) = self.lifetimes(&fields) else { return invalid_fields() };
        let outcome =
            match self.services.directory.login(login.account, &login.username, &login.password, request.peer).await {
                // The password may have changed since it was checked: then it opens nothing any more.
                Ok(version) => self.services.authenticator.borrow_mut().user(login.account, &login.username, version),
                Err(reject) => Err(reject),
            };
        match outcome {
            Ok(principal) => self.issue(&principal, request, lifetimes, route::AUTHENTICATE),
            Err(reject) => reply::reject(&reject, route::AUTHENTICATE),
        }
    }

    /// A refresh token for a new pair.
    pub(super) fn refresh(&self, codings: Codings, request: &Request<'_>, body: &[u8]) -> Reply {
        let reject = |reject: &Reject| reply::reject(reject, route::REFRESH);
        let fields = match decoded(codings, body) {
            Ok(body) => fields_of(request, &body),
            Err(refused) => return reject(&refused),
        };
        let Ok(fields) = fields else { return reject(&Invalid.into()) };
        let (Ok(token), Ok(lifetimes)) = (fields.text("jwt_refresh_token"), self.lifetimes(&fields)) else {
            return reject(&Invalid.into());
        };
        let verify_refresh = self
            .services
            .authenticator
            .borrow_mut()
            .verify_refresh(token.unwrap_or_default().as_bytes(), request.now.unix_s);
        match verify_refresh {
            Ok(principal) => self.issue(&principal, request, lifetimes, route::REFRESH),
            Err(refused) => reject(&refused),
        }
    }

    /// Requested lifetimes of the access and the refresh token, within their bounds.
    fn lifetimes(&self, fields: &Fields) -> Result<(Duration, Duration), Invalid> {
        let access = fields.integer("token_expiry_in_minutes")?;
        let refresh = fields.integer("refresh_token_expiry_in_minutes")?;
        Ok((
            auth::lifetime_from_minutes(access, self.services.access_lifetime),
            auth::lifetime_from_minutes(refresh, self.services.refresh_lifetime),
        ))
    }

    fn issue(
        &self,
        principal: &Principal,
        request: &Request<'_>,
        lifetimes: (Duration, Duration),
        route: Route,
    ) -> Reply {
        match self.services.authenticator.borrow().issue(principal, request.now.unix_s, lifetimes.0, lifetimes.1) {
            Ok(pair) => {
                let body = json!({
                    "expires_in": pair.access_ms,
                    "jwt": pair.access,
                    "jwt_refresh_token": pair.refresh,
                    "refresh_token_expires_in": pair.refresh_ms,
                });
                reply::no_store(reply::json(200, body.to_string().into_bytes(), route))
            }
            Err(reject) => reply::reject(&reject, route),
        }
    }
}

/// The body by its `Content-Type`: JSON, also without a type or as text; or a form.
fn fields_of(request: &Request<'_>, body: &[u8]) -> Result<Fields, Invalid> {
    let media_type = super::media_type(request);
    match media_type.as_deref() {
        Some("application/x-www-form-urlencoded") => Fields::from_form(body),
        None => Fields::from_json(body),
        Some(kind) if super::is_json(kind) || kind.starts_with("text/") => Fields::from_json(body),
        Some(_) => Err(Invalid),
    }
}

/// Who logs in. `None`: no user name. The account is the body's, else the query's, else the one in `user$2`, else 1.
fn login_of(fields: &Fields, query: Option<&[u8]>) -> Result<Option<Login>, Invalid> {
    let Some(username) = fields.text("username")?.filter(|name| !name.is_empty()) else { return Ok(None) };
    let password = fields.text("password")?.unwrap_or_default().to_owned();
    let (name, suffix) = match username.split_once('$') {
        Some((name, suffix)) => (name, Some(suffix)),
        None => (username, None),
    };
    let requested = match fields.integer("account_id")? {
        Some(0) | None => match account_in_query(query)? {
            Some(account) => Some(account),
            None => suffix.map(str::parse).transpose().map_err(|_| Invalid)?,
        },
        Some(account) => Some(account),
    };
    let account = u32::try_from(requested.unwrap_or(i64::from(DEFAULT_ACCOUNT))).map_err(|_| Invalid)?;
    Ok(Some(Login { username: name.to_ascii_lowercase(), password, account }))
}

/// `?accountId=<n>`, where it is there and not 0.
fn account_in_query(query: Option<&[u8]>) -> Result<Option<i64>, Invalid> {
    let Some(value) =
        query.and_then(|query| query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"accountId=")))
    else {
        return Ok(None);
    };
    let account: i64 = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Invalid)?;
    Ok(Some(account).filter(|account| *account != 0))
}

/// 400 with the original's answer to wrong types.
fn invalid_fields() -> Reply {
    reply::json(400, json!({"message": INVALID_FIELDS}).to_string().into_bytes(), route::AUTHENTICATE)
}

/// 400 with the original's answer to a missing field.
fn required(field: &str) -> Reply {
    let body = json!({"message": [{"field": field, "reason": "required"}]});
    reply::json(400, body.to_string().into_bytes(), route::AUTHENTICATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_comes_from_the_body_then_the_query_then_the_name() {
        let check = |body: &str, query: Option<&str>, expect: Result<Option<(&str, u32)>, Invalid>| {
            let fields = Fields::from_json(body.as_bytes()).unwrap();
            let login = login_of(&fields, query.map(str::as_bytes));
            let seen = login.as_ref().map(|login| login.as_ref().map(|login| (login.username.as_str(), login.account)));
            assert_eq!(seen.map_err(|_| Invalid), expect, "{body} {query:?}");
        };
        check(r#"{"username":"Root"}"#, None, Ok(Some(("root", 1))));
        check(r#"{"username":"u$7"}"#, None, Ok(Some(("u", 7))));
        check(r#"{"username":"u$7"}"#, Some("accountId=3"), Ok(Some(("u", 3))));
        check(r#"{"username":"u$7","account_id":2}"#, Some("accountId=3"), Ok(Some(("u", 2))));
        check(r#"{"username":"u","account_id":0}"#, Some("x=1&accountId=4"), Ok(Some(("u", 4))));
        check(r#"{"username":"u$x"}"#, None, Err(Invalid));
        check(r#"{"username":"u"}"#, Some("accountId=x"), Err(Invalid));
        check(r#"{"username":"u","account_id":"2"}"#, None, Err(Invalid));
        check(r#"{"username":"u","account_id":-1}"#, None, Err(Invalid));
        check(r#"{"password":"x"}"#, None, Ok(None));
        check(r#"{"username":""}"#, None, Ok(None));
        check(r#"{"username":5}"#, None, Err(Invalid));
    }
}
