//! The refusals that routes have in common, for their descriptions.
//!
//! Each type stands for one or more statuses of a route. A route's description names it; it has no values.

use crate::api::problem::PROBLEM_JSON;
use std::collections::BTreeMap;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};

/// Declares types that stand for refusals with the same kind of body.
macro_rules! refusals {
    ($visible:vis, $media_type:expr, $schema:expr => $($(#[$meta:meta])* $name:ident: $($status:literal $text:literal),+;)+) => {$(
        $(#[$meta])*
        $visible enum $name {}

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                $crate::admin::openapi::refusals::describe($media_type, $schema, &[$(($status, $text)),+])
            }
        }
    )+};
}
pub(super) use refusals;

/// Returns responses with these statuses and a body of this schema. 401 says how to log in, 429 and 503 when to try
/// again.
pub(super) fn describe(media_type: &str, schema: &str, statuses: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
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

refusals! { pub(in crate::admin), PROBLEM_JSON, "Problem" =>
    /// Requires a credential.
    Guarded: 401 "Neither the root password nor a valid API key", 403 "An API key that may not use the admin API";
    /// Takes a parameter that may be wrong.
    Bad: 400 "A name, a number or a header field is wrong: the text says which";
    /// Takes a JSON body.
    TakesBody: 400 "The body, or a name, is wrong: the text says what", 413 "The body is too large", 415 "The Content-Type is not JSON, or the body is compressed";
    /// Names something that may not exist.
    Missing: 404 "Nothing of this name exists";
    /// May conflict with the present state.
    Taken: 409 "The present state does not allow it: the text says why";
    /// May be meant for an earlier state.
    Stale: 412 "It no longer has the tag of If-Match";
    /// Needs the registry or the broker.
    Away: 503 "The broker or the registry did not answer: the text says whether something was changed";
}
