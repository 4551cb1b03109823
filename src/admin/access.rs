//! Who may use the admin API: root by name and password, or a key with the scope `admin`.

use super::{
    places::{Place, to_its_end},
    problem::Problem,
};
use crate::{control::AdminService, reject::Reject};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// Delay of an answer to wrong credentials. Wrong passwords of root are also counted, as at a login.
const REFUSAL_DELAY: Duration = Duration::from_millis(200);

/// Who makes the request: the name of root, or the id of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(pub(super) String);

/// The credential of a request.
#[derive(Debug, PartialEq, Eq)]
enum Credential {
    /// A name and a password, which may be an API key.
    Basic(String, String),
    /// An API key.
    Bearer(String),
}

/// Serves requests with the root password, or with an API key that may use the admin API, and refuses others.
pub(super) async fn require_admin(State(service): State<AdminService>, mut request: Request, next: Next) -> Response {
    let problem = match caller(&service, credential(request.headers())).await {
        Ok(caller) => {
            if let Some(place) = request.extensions().get::<Arc<Place>>() {
                place.trust();
            }
            request.extensions_mut().insert(caller);
            return to_its_end(request, next).await;
        }
        Err(problem) => problem,
    };
    if request.headers().contains_key(header::AUTHORIZATION) {
        sleep(REFUSAL_DELAY).await;
    }
    problem.into_response()
}

/// Returns who makes the request. A valid key without the right gets 403; anything else gets 401, which does not say
/// what was wrong.
async fn caller(service: &AdminService, credential: Option<Credential>) -> Result<Caller, Problem> {
    let known = match &credential {
        Some(Credential::Basic(_, key) | Credential::Bearer(key)) => service.key_used(key),
        None => Ok(None),
    };
    // Root can log in even while the API keys are not known.
    if let (Ok(None) | Err(_), Some(Credential::Basic(username, password))) = (&known, &credential) {
        match service.login_root(username, password).await {
            Ok(()) => return Ok(Caller(username.to_ascii_lowercase())),
            Err(Reject::Unauthorized) => {}
            Err(refused) => return Err(Problem::of_login(&refused)),
        }
    }
    match known? {
        Some((id, true)) => Ok(Caller(id)),
        Some((_, false)) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "this API key may not use the admin API: use root's password, or a key that was made with admin",
        )),
        None => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "send the root user's name and password (HTTP Basic), or an API key that may use the admin API (Bearer, or as the password)",
        )),
    }
}

/// Returns the credential of a request, Basic (RFC 7617) or Bearer (RFC 6750), if it has exactly one.
fn credential(headers: &HeaderMap) -> Option<Credential> {
    let mut fields = headers.get_all(header::AUTHORIZATION).into_iter();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    let (scheme, rest) = field.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credential::Bearer(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credential::Basic(username.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_or_refused() {
        let basic = |username: &str, password: &str| Some(Credential::Basic(username.to_owned(), password.to_owned()));
        for (fields, expect) in [
            (&["Basic cm9vdDpwYTpzcw=="][..], basic("root", "pa:ss")),
            (&["basic cm9vdDpwYTpzcw=="], basic("root", "pa:ss")),
            (&["Basic  cm9vdDo="], basic("root", "")),
            (&["Bearer sgk_a_b"], Some(Credential::Bearer("sgk_a_b".to_owned()))),
            (&["bearer  sgk_a_b "], Some(Credential::Bearer("sgk_a_b".to_owned()))),
            (&[], None),
            (&["Basic cm9vdDpwYTpzcw==", "Basic cm9vdDpwYTpzcw=="], None),
            (&["Bearer sgk_a_b", "Bearer sgk_a_b"], None),
            (&["Digest cm9vdDpwYTpzcw=="], None),
            (&["Basic"], None),
            (&["Basic !!!"], None),
            (&["Basic cm9vdA=="], None),
            (&["Basic //79"], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::AUTHORIZATION, field.parse().expect("a header value"));
            }
            assert_eq!(credential(&headers), expect, "{fields:?}");
        }
    }
}
