//! No API at all: every request is read whole and answered the same, without asking or storing anything.
//!
//! The laboratory measures with it what HTTP alone costs (`perf/src/bin/null-server.rs`): the connections, the parser
//! and the runtime are the gateway's own, and the reply is byte for byte that of a produce call whose records are
//! stored. The gateway itself never serves it.

use super::Reply;
use crate::{limits::BODY_BYTES_MAX, metrics::Route, reject::Reject};
use std::borrow::Cow;

/// What the gateway takes unless it is told otherwise.
pub(super) const BODY_MAX: u64 = BODY_BYTES_MAX as u64;

/// The answer to every request.
pub(super) fn reply() -> Reply {
    Reply {
        status: 200,
        content_type: Some("application/json"),
        body: Cow::Borrowed(br#"{"error":null,"success":true}"#),
        retry_after: None,
        allow: None,
        extra: Cow::Borrowed(b"Access-Control-Allow-Origin: *\r\nVary: Origin\r\n"),
        close: false,
        handout: None,
        held: None,
        route: Route::Other,
    }
}

/// The answer to what could not be read: what was wrong with it is of no interest here.
pub(super) fn reject(reject: &Reject) -> Reply {
    Reply { status: 400, body: Cow::Borrowed(b""), close: reject.closes(), ..reply() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_refused() {
        let refused = reject(&Reject::HeadTooLarge);
        assert_eq!((refused.status, refused.close), (400, Reject::HeadTooLarge.closes()));
    }
}
