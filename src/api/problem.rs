//! The body of an error: a problem of RFC 9457.

use serde::Serialize;
use utoipa::ToSchema;

/// The media type of an error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The body of an error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The status code.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What was wrong, and what to do about it.
    pub detail: &'a str,
}
