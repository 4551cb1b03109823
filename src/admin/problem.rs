//! Errors of the admin API (RFC 9457). This is the one place where an error gets its status.

use crate::{
    api::problem::{PROBLEM_JSON, ProblemBody},
    control::{AdminError, What},
    reject::Reject,
};
use axum::{
    extract::rejection::JsonRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::borrow::Cow;

/// An error as the client sees it.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    retry_after: Option<u64>,
    /// Value of `Accept-Encoding`, where the content coding was the problem.
    codings: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), retry_after: None, codings: None }
    }

    pub(super) fn bad(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    fn later(status: StatusCode, detail: impl Into<Cow<'static, str>>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(status, detail) }
    }

    /// Returns the answer to a request that comes while the API serves as many as it may.
    pub(super) fn crowded() -> Self {
        Self::later(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time: nothing was done, try again", 1)
    }

    /// Returns the answer to a request that takes too long, because its body does not come or the registry does not
    /// answer.
    pub(super) fn too_long() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the request took too long: look at what was done, then try again")
    }

    /// Returns the answer to a change that ended with a panic.
    pub(super) fn broken() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the gateway failed while it made the change: look at what was done, and report this with the gateway's log",
        )
    }

    /// Returns the answer where a name and password were not checked, or were wrong too often.
    pub(super) fn of_login(refused: &Reject) -> Self {
        let seconds = refused.retry_after().map_or(1, |wait| wait.as_secs());
        match refused {
            Reject::TooManyLogins(_) => Self::later(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests with a wrong password: send the right one after a while",
                seconds,
            ),
            _ => Self::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many passwords are being checked: send the request again",
                seconds,
            ),
        }
    }

    /// Returns the answer where the registry or the broker failed.
    fn of_backend(reject: Reject) -> Self {
        match reject {
            Reject::BrokerAway => Self::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "the broker is away; nothing was changed: try again when it is back",
                2,
            ),
            Reject::UsersUnknown => Self::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "API keys cannot be checked, because the registry does not confirm them: try again, or use the root password",
                1,
            ),
            Reject::Conflict(text) => Self::new(StatusCode::CONFLICT, text.into_string()),
            Reject::StoreReadOnly(why) => {
                Self::later(StatusCode::SERVICE_UNAVAILABLE, format!("{why}: nothing was changed, try again later"), 10)
            }
            Reject::Overloaded(what) => Self::later(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("too busy, {what} is full: nothing was changed, try again"),
                1,
            ),
            Reject::BrokerForbidden(_) => {
                tracing::warn!(%reject, "admin: the broker forbids what was asked for");
                Self::later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("{reject}: give it the permission, then try again"),
                    10,
                )
            }
            Reject::BrokerRefused(..) | Reject::Internal(_) => {
                tracing::warn!(%reject, "admin: the registry failed");
                let detail = format!(
                    "{reject}: look at the present state, and send the request again only after the cause was removed"
                );
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
            _ => {
                tracing::warn!(%reject, "admin: the registry failed");
                Self::later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the registry did not confirm: the change may have been made, look at the present state before you send it again",
                    2,
                )
            }
        }
    }

    /// Returns the answer to a compressed body.
    pub(super) fn of_coding() -> Self {
        let detail = "a compressed body is not supported: send it without Content-Encoding";
        Self { codings: Some("identity"), ..Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail) }
    }

    /// Returns the answer to a body that cannot be read; `bytes_max` is its limit.
    pub(super) fn of_body(rejection: &JsonRejection, bytes_max: usize) -> Self {
        match rejection.status() {
            // JSON of the wrong type is 422 in axum; here it is 400, like everything else that is wrong.
            StatusCode::UNPROCESSABLE_ENTITY => Self::bad(rejection.body_text()),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON and say so: send Content-Type: application/json",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {bytes_max} bytes"))
            }
            status => Self::new(status, rejection.body_text()),
        }
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        const ROOT: &str = "the root user comes from the configuration: change it there, and start the gateway again";
        match error {
            AdminError::Invalid(detail) => Self::bad(detail),
            AdminError::Exists(What::Station) => Self::new(
                StatusCode::CONFLICT,
                "there is a station of this name with other attributes: change it, or choose another name",
            ),
            AdminError::Exists(what) => {
                Self::new(StatusCode::CONFLICT, format!("there is a {} of this name: choose another", what.word()))
            }
            AdminError::Unknown(What::SchemaVersion) => {
                Self::new(StatusCode::NOT_FOUND, "the schema has no such version: show the schema to see its versions")
            }
            AdminError::Unknown(What::DeadLetter) => Self::new(
                StatusCode::NOT_FOUND,
                "there is no dead letter of this number: the list shows those that exist",
            ),
            AdminError::Unknown(what) => {
                let what = what.word();
                Self::new(
                    StatusCode::NOT_FOUND,
                    format!("there is no {what} of this name: the list shows those that exist"),
                )
            }
            AdminError::Conflict(detail) => Self::new(StatusCode::CONFLICT, detail),
            AdminError::Changed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "it no longer has the tag of If-Match: read it again, then decide",
            ),
            AdminError::Root => Self::new(StatusCode::CONFLICT, ROOT),
            AdminError::Contended => {
                Self::new(StatusCode::CONFLICT, "others changed it at the same time: read it again, then decide")
            }
            AdminError::Overloaded => {
                Self::later(StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being checked: try again", 1)
            }
            AdminError::Backend(reject) => Self::of_backend(reject),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(codings) = self.codings {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(codings));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Basic realm=\"sluicegate admin\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_says_what_to_do() {
        let unknown = [
            What::User,
            What::Station,
            What::Schema,
            What::SchemaVersion,
            What::Key,
            What::DeadLetter,
            What::ConsumerGroup,
        ];
        let others = [
            (AdminError::Exists(What::Station), 409),
            (AdminError::Exists(What::User), 409),
            (AdminError::Changed, 412),
            (AdminError::Root, 409),
            (AdminError::Contended, 409),
            (AdminError::Overloaded, 503),
            (AdminError::Backend(Reject::BrokerAway), 503),
            (AdminError::Backend(Reject::OutcomeUnknown), 503),
            (AdminError::Backend(Reject::BrokerForbidden("$JS.API.STREAM.LIST".into())), 503),
            // Repeated, these would fail again.
            (AdminError::Backend(Reject::BrokerRefused(10_005, "no suitable peers".into())), 500),
            (AdminError::Backend(Reject::Internal("no random numbers")), 500),
            (AdminError::Backend(Reject::Overloaded("the embedded store's queue")), 503),
            (AdminError::Backend(Reject::StoreReadOnly("no space left on the device of /data".into())), 503),
            (AdminError::Backend(Reject::Conflict("there are 10 of 10: remove some".into())), 409),
        ];
        for (error, status) in unknown.map(|what| (AdminError::Unknown(what), 404)).into_iter().chain(others) {
            let said = format!("{error:?}");
            let problem = Problem::from(error);
            assert_eq!(problem.status.as_u16(), status, "{said}");
            assert_eq!(problem.retry_after.is_some(), status == 503, "{said}");
            let way_out = problem.detail.split_once([':', ',']).map(|(_, way_out)| way_out.trim());
            assert!(way_out.is_some_and(|text| text.len() >= 9), "{said}: {}", problem.detail);
        }
        for unsure in [Reject::StoreFailed("x".into()), Reject::OutcomeUnknown, Reject::ControlTimeout] {
            assert!(
                Problem::from(AdminError::Backend(unsure.clone())).detail.contains("may have been made"),
                "{unsure:?}"
            );
        }
        for never in [Reject::Overloaded("x"), Reject::StoreReadOnly("x".into()), Reject::Conflict("x".into())] {
            let problem = Problem::from(AdminError::Backend(never.clone()));
            assert!(!problem.detail.contains("may have been"), "f7, f17: {never:?}: {}", problem.detail);
        }
        let nameless = Problem::from(AdminError::Unknown(What::DeadLetter));
        assert!(nameless.detail.contains("number"), "{}", nameless.detail);
    }

    #[test]
    fn the_log_says_in_words_why_the_registry_failed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = std::sync::Arc::new(file.reopen().unwrap());
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(log, || {
            for reject in [Reject::OutcomeUnknown, Reject::BrokerRefused(10_005, "no suitable peers".into())] {
                let _problem = Problem::from(AdminError::Backend(reject));
            }
        });
        let said = std::fs::read_to_string(file.path()).unwrap();
        assert!(said.contains("no acknowledgement came") && said.contains("no suitable peers (code 10005)"), "{said}");
        assert!(!said.contains("OutcomeUnknown") && !said.contains("BrokerRefused"), "{said}");
    }
}
