//! Errors of the admin API: RFC 9457, and the one place where an error gets its status.

use crate::{control::DeskError, reject::Reject};
use axum::{
    extract::rejection::JsonRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// An error as the client sees it.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    fn later(status: StatusCode, detail: &str, seconds: u64) -> Self {
        Self { status, detail: detail.to_owned(), retry_after: Some(seconds) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Basic realm=\"sluicegate admin\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        const ROOT: &str = "the root user comes from the configuration and is not changed here";
        match error {
            DeskError::Invalid(detail) => Self::new(StatusCode::BAD_REQUEST, detail),
            DeskError::Exists(what) => {
                Self::new(StatusCode::CONFLICT, format!("there is a {} of this name", what.word()))
            }
            DeskError::Unknown(what) => {
                Self::new(StatusCode::NOT_FOUND, format!("there is no {} of this name", what.word()))
            }
            DeskError::Conflict(detail) => Self::new(StatusCode::CONFLICT, detail),
            DeskError::Changed => {
                Self::new(StatusCode::PRECONDITION_FAILED, "it is not as it was when its tag was read")
            }
            DeskError::Root => Self::new(StatusCode::CONFLICT, ROOT),
            DeskError::Contended => Self::new(StatusCode::CONFLICT, "it was changed by others at the same time"),
            DeskError::Overloaded => {
                Self::later(StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being checked", 1)
            }
            DeskError::Backend(Reject::BrokerAway) => {
                Self::later(StatusCode::SERVICE_UNAVAILABLE, "the broker is away; nothing was changed", 2)
            }
            DeskError::Backend(reject) => {
                tracing::warn!(?reject, "admin: the registry failed");
                Self::later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the registry did not confirm: the change may have been made, look before you repeat it",
                    2,
                )
            }
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        // A body that is JSON and does not fit is 422 in axum; here it is a 400 as everything else that is wrong.
        let status = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self::new(status, rejection.body_text())
    }
}
