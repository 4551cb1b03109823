//! The refusals that routes have in common, as their descriptions name them.
//!
//! Every type stands for one or more statuses of a route: it is named in the route's description and never made.

use crate::api::problem::PROBLEM_JSON;
use std::collections::BTreeMap;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};

/// Describes types that stand for refusals with a body of one kind.
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

/// Responses with these statuses and bodies of this schema. 401 says how to log in, 429 and 503 when to come again.
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
    /// Wants to know who asks.
    Guarded: 401 "Neither root's password nor a key that is good", 403 "An API key that may not use the admin API";
    /// Takes something that may be wrong.
    Bad: 400 "A name, a number or a header field is wrong: the text says which";
    /// Takes a JSON body.
    TakesBody: 400 "The body, or a name, is wrong: the text says what", 413 "The body is too large", 415 "The body does not say that it is JSON, or is compressed";
    /// May name what is not there.
    Missing: 404 "There is none of this name";
    /// May collide with what is there.
    Taken: 409 "What is there forbids it: the text says what";
    /// May be meant for what was there before.
    Stale: 412 "It is no longer what If-Match says";
    /// Needs the registry or the broker.
    Away: 503 "The broker or the registry did not answer: the text says whether something was changed";
}
