//! The Memphis API's replies: every way to fail has one status and one body, decided here.
//!
//! Three families, as clients of the original know them: `{"message":"Unauthorized"}` for who asks,
//! plain text for routes that do not exist, `{"error":"…","success":false}` for everything else.

use super::route;
use crate::{
    dialect::{Body, Reply},
    limits::NAME_BYTES_MAX,
    metrics::Route,
    reject::{Reject, SizeLimit},
    wire::http::Fields,
};
use serde_json::json;

/// Fields of an answer in JSON. Every answer is allowed for every origin, as in the original: without credentials, which a
/// browser may hold for the gateway and every page could then use. What carries its credential in the URL is shared by
/// [`shared_with`].
const JSON: Fields = Fields::of("Content-Type: application/json\r\nAccess-Control-Allow-Origin: *\r\nVary: Origin\r\n");
/// Fields of an answer in lines of JSON.
const NDJSON: Fields =
    Fields::of("Content-Type: application/x-ndjson\r\nAccess-Control-Allow-Origin: *\r\nVary: Origin\r\n");
/// Fields of an answer in text.
const TEXT: Fields =
    Fields::of("Content-Type: text/plain; charset=utf-8\r\nAccess-Control-Allow-Origin: *\r\nVary: Origin\r\n");
/// How one logs in. Two fields and not one list: not every client finds the second scheme of a list.
const CHALLENGES: Fields = Fields::of(
    "WWW-Authenticate: Bearer realm=\"sluicegate\"\r\nWWW-Authenticate: Basic realm=\"sluicegate\", charset=\"UTF-8\"\r\n",
);
/// Codings that are undone ([`crate::wire::content_encoding`]).
const ACCEPT_ENCODING: Fields = Fields::of("Accept-Encoding: gzip, deflate\r\n");
/// Tokens are for whoever has asked, and what is true now is not true later.
const NO_STORE: Fields = Fields::of("Cache-Control: no-store\r\n");
/// What a page may read besides what every page may of any answer (Fetch, "CORS-safelisted response-header name"). One list, so that no
/// field is forgotten; on every answer but the plain ones, which have none of these.
pub(super) const EXPOSED: Fields = Fields::of(
    "Access-Control-Expose-Headers: Accept-Encoding, Allow, Link, Preference-Applied, Retry-After, \
    Sluicegate-Delivery, Sluicegate-Gap, Sluicegate-Idempotency-Window, WWW-Authenticate\r\n",
);
/// Fields of every answer to a preflight, with how long a browser need not ask again, in seconds: the most that any heeds.
const PREFLIGHT: Fields = Fields::of(
    "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Allow-Methods: GET,POST,HEAD,PUT,DELETE,PATCH\r\n\
    Access-Control-Max-Age: 7200\r\n",
);
const UNAUTHORIZED: &[u8] = br#"{"message":"Unauthorized"}"#;
const STORED: &[u8] = br#"{"error":null,"success":true}"#;

/// Returns a reply with a JSON body.
pub(super) fn json(status: u16, body: impl Into<Body>, route: Route) -> Reply {
    Reply { body: body.into(), ..Reply::new(status, JSON, route) }
}

/// Returns the reply to a stream of lines, without its body.
pub(super) fn ndjson(route: Route) -> Reply {
    with(no_store(Reply::new(200, NDJSON, route)), &EXPOSED)
}

/// Returns a reply with a text.
fn text(status: u16, body: impl Into<Body>, route: Route) -> Reply {
    Reply { body: body.into(), ..Reply::new(status, TEXT, route) }
}

/// Returns the answer to a produce call whose records are all stored.
#[must_use]
pub fn stored(route: Route) -> Reply {
    json(200, STORED, route)
}

/// `GET /monitoring/status`.
pub(super) fn status() -> Reply {
    no_store(json(200, br#"{"status":"ok"}"#.as_slice(), route::STATUS))
}

/// Returns the same reply, which nobody may keep.
pub(super) fn no_store(reply: Reply) -> Reply {
    with(reply, &NO_STORE)
}

/// Returns the answer to `OPTIONS`, which needs no token: what the target takes, and what a browser asks before it sends.
pub(super) fn preflight(allows: &'static str, requested_headers: Option<&[u8]>) -> Reply {
    let mut fields = PREFLIGHT;
    fields.push("Allow", allows.as_bytes());
    if let Some(headers) = requested_headers.filter(|headers| !headers.is_empty()) {
        fields.push("Access-Control-Allow-Headers", headers);
    }
    Reply::new(204, fields, Route::OTHER)
}

/// Returns the same reply, for the page of this origin and with its credentials (Fetch, "CORS check"): a request that carries
/// its own credential in its URL needs none that the browser holds, and a beacon cannot be sent without.
pub(super) fn shared_with(origin: &[u8], mut reply: Reply) -> Reply {
    const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
    if reply.fields.get(ALLOW_ORIGIN) == Some(b"*") {
        reply.fields.remove(ALLOW_ORIGIN);
        reply.fields.push(ALLOW_ORIGIN, origin);
        reply.fields.push("Access-Control-Allow-Credentials", b"true");
    }
    reply
}

/// There is nothing at this path.
pub(super) fn not_found(method: &[u8], path: &[u8]) -> Reply {
    let shown = path.get(..path.len().min(2 * NAME_BYTES_MAX)).unwrap_or_default();
    let body = format!("Cannot {} {}", String::from_utf8_lossy(method), escape_html(&String::from_utf8_lossy(shown)));
    text(404, body.into_bytes(), Route::OTHER)
}

/// The original escaped the path it shows: a browser must not read it as markup.
fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}

/// The reply to a request that failed as a whole.
pub(super) fn reject(reject: &Reject, route: Route) -> Reply {
    let status = status_of(reject);
    let mut reply = match reject {
        Reject::Unauthorized => with(json(status, UNAUTHORIZED, route), &CHALLENGES),
        Reject::ContentEncoding => with(failure(reject, status, route), &ACCEPT_ENCODING),
        Reject::MethodNotAllowed(allow) => {
            let mut reply = text(status, b"Method Not Allowed".as_slice(), route);
            reply.fields.push("Allow", allow.as_bytes());
            reply
        }
        _ => failure(reject, status, route),
    };
    if let Some(wait) = reject.retry_after() {
        reply.fields.push_number("Retry-After", wait.as_secs().max(1));
    }
    reply.close = reject.closes();
    with(reply, &EXPOSED)
}

/// Returns the same reply with further fields.
fn with(mut reply: Reply, fields: &Fields) -> Reply {
    reply.fields.extend(fields);
    reply
}

fn failure(reject: &Reject, status: u16, route: Route) -> Reply {
    json(status, json!({"error": reject.to_string(), "success": false}).to_string().into_bytes(), route)
}

/// The status of a failure.
fn status_of(reject: &Reject) -> u16 {
    match reject {
        Reject::Malformed(_)
        | Reject::CorruptEncoding(_)
        | Reject::Json { .. }
        | Reject::Body(_)
        | Reject::Field(_)
        | Reject::Name(..)
        | Reject::MessageId(_)
        | Reject::Schema(_)
        | Reject::NothingStored => 400,
        Reject::Line(_, why) => status_of(why),
        Reject::Unauthorized => 401,
        Reject::Forbidden(..) => 403,
        Reject::StationUnknown(_) | Reject::PartitionUnknown(_) => 404,
        Reject::MethodNotAllowed(_) => 405,
        Reject::RequestTimeout => 408,
        Reject::Conflict(_) => 409,
        Reject::TooLarge(SizeLimit::RecordHeaders, _) | Reject::HeadTooLarge => 431,
        Reject::TooLarge(_, _) => 413,
        Reject::MediaType | Reject::ContentEncoding => 415,
        Reject::Expectation => 417,
        Reject::WindowFull
        | Reject::TooManyLogins(_)
        | Reject::TooManyOpen(..)
        | Reject::TooManyStreams(_)
        | Reject::BrokerBusy => 429,
        Reject::BrokerRefused(..) | Reject::Internal(_) => 500,
        Reject::TransferCoding | Reject::NotAtomic(_) | Reject::TooManyForWhole(_) => 501,
        Reject::Overloaded(_)
        | Reject::StreamFull(_)
        | Reject::BrokerForbidden(_)
        | Reject::BrokerAway
        | Reject::BrokerFailed(_)
        | Reject::OutcomeUnknown
        | Reject::NoStream
        | Reject::StoreFailed(_)
        | Reject::StoreReadOnly(_)
        | Reject::ControlTimeout
        | Reject::UsersUnknown
        | Reject::ContractsUnknown
        | Reject::StationBlocked(_)
        | Reject::DeadLetters(_)
        | Reject::Draining => 503,
        Reject::Version => 505,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::{Fault, NameFault};

    fn every_reject() -> Vec<Reject> {
        vec![
            Reject::Malformed("x"),
            Reject::Version,
            Reject::TransferCoding,
            Reject::HeadTooLarge,
            Reject::Expectation,
            Reject::RequestTimeout,
            Reject::MethodNotAllowed("POST"),
            Reject::TooLarge(SizeLimit::Body, 1),
            Reject::TooLarge(SizeLimit::RecordHeaders, 1),
            Reject::MediaType,
            Reject::ContentEncoding,
            Reject::CorruptEncoding("x"),
            Reject::Json { offset: 1, reason: "x" },
            Reject::Body("x"),
            Reject::Line(1, Box::new(Reject::Json { offset: 1, reason: "x" })),
            Reject::Field("x"),
            Reject::Name("Station", NameFault::Empty),
            Reject::MessageId("x"),
            Reject::Schema("x".into()),
            Reject::NotAtomic("x"),
            Reject::TooManyForWhole(1),
            Reject::NothingStored,
            Reject::ContractsUnknown,
            Reject::StationBlocked("x".into()),
            Reject::DeadLetters(Box::new(Reject::NoStream)),
            Reject::Unauthorized,
            Reject::Forbidden("user ann is not allowed to produce to station s".into()),
            Reject::StationUnknown("s".into()),
            Reject::PartitionUnknown(1),
            Reject::Conflict("x".into()),
            Reject::WindowFull,
            Reject::TooManyLogins(1),
            Reject::TooManyOpen("x", 1),
            Reject::TooManyStreams(1),
            Reject::Overloaded("x"),
            Reject::StreamFull("x".into()),
            Reject::BrokerBusy,
            Reject::BrokerAway,
            Reject::OutcomeUnknown,
            Reject::NoStream,
            Reject::BrokerForbidden("x".into()),
            Reject::BrokerRefused(1, "x".into()),
            Reject::BrokerFailed("x".into()),
            Reject::StoreFailed("x".into()),
            Reject::StoreReadOnly("x".into()),
            Reject::ControlTimeout,
            Reject::UsersUnknown,
            Reject::Draining,
            Reject::Internal("x"),
        ]
    }

    #[test]
    fn the_clients_fault_is_4xx_and_ours_is_not() {
        for failure in every_reject() {
            let reply = reject(&failure, Route::OTHER);
            let expect = match failure.fault() {
                Fault::Client => matches!(reply.status, 400..=499 | 501 | 505),
                Fault::Policy => matches!(reply.status, 401 | 403),
                Fault::Overload => matches!(reply.status, 429 | 503),
                Fault::Upstream => matches!(reply.status, 500 | 503),
                Fault::Bug => reply.status == 500,
            };
            assert!(expect, "{failure:?} is {}", reply.status);
        }
    }

    #[test]
    fn full_and_unknown_say_when_to_come_again() {
        for failure in every_reject() {
            let reply = reject(&failure, Route::OTHER);
            assert_eq!(matches!(reply.status, 429 | 503), reply.fields.get("Retry-After").is_some(), "{failure:?}");
        }
    }

    #[test]
    fn bodies_are_the_originals() {
        let body = |failure: &Reject| String::from_utf8(reject(failure, Route::OTHER).body.bytes().to_vec()).unwrap();
        assert_eq!(body(&Reject::Unauthorized), r#"{"message":"Unauthorized"}"#);
        assert_eq!(
            body(&Reject::Field("Consumer name is required")),
            r#"{"error":"Consumer name is required","success":false}"#
        );
        assert_eq!(
            body(&Reject::Name("Station", NameFault::Ends)),
            r#"{"error":"Station name can not start or end with non alphanumeric character","success":false}"#
        );
        assert_eq!(
            body(&Reject::Schema("'/n': \"x\" is not of type \"integer\"".into())),
            r#"{"error":"Schema validation has failed: '/n': \"x\" is not of type \"integer\"","success":false}"#
        );
        assert_eq!(not_found(b"GET", b"/<x>").body.bytes(), b"Cannot GET /&lt;x&gt;");
    }
}
