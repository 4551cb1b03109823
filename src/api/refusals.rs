//! Describes refusals in `/openapi.json`: which statuses they have, and with which body.

use super::problem::PROBLEM_JSON;
use std::collections::BTreeMap;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};

/// Declares types that stand for refusals with the same kind of body.
macro_rules! refusals {
    ($visible:vis, $media_type:expr, $schema:expr => $($(#[$meta:meta])* $name:ident: $($status:literal $text:literal),+;)+) => {$(
        $(#[$meta])*
        $visible enum $name {}

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                $crate::api::refusals::describe($media_type, $schema, &[$(($status, $text)),+])
            }
        }
    )+};
}
pub(crate) use refusals;

/// Returns responses with these statuses and a body of this schema. 401 says how to log in, 429 and 503 when to try
/// again.
pub(crate) fn describe(media_type: &str, schema: &str, statuses: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let one = |(status, text): &(u16, &str)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
        let mut response = ResponseBuilder::new().description(*text).content(media_type, content);
        let header = |text: &str| HeaderBuilder::new().description(Some(text)).build();
        if *status == 401 && media_type == PROBLEM_JSON {
            response = response.header("WWW-Authenticate", header("Basic"));
        }
        if matches!(*status, 429 | 503) {
            response = response.header("Retry-After", header("Seconds after which the same request may be sent again"));
        }
        (status.to_string(), response.build().into())
    };
    statuses.iter().map(one).collect()
}
