//! Responses to the byte.

use super::super::{BodyEnd, CONTINUE, Response, date};
use crate::wire::http::Fields;

const HEAD: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

#[track_caller]
fn check(response: &Response<'_>, expect: &str) {
    let mut out = b"before".to_vec();
    response.write(&mut out, &date(784_111_777));
    assert_eq!(String::from_utf8_lossy(&out), format!("before{}", expect.replace("DATE\r\n", HEAD)));
}

#[test]
fn responses_to_the_byte() {
    let (none, json) = (Fields::default(), Fields::of("Content-Type: application/json\r\n"));
    let (retry, allow) = (Fields::of("Retry-After: 10\r\n"), Fields::of("Allow: POST, OPTIONS\r\n"));
    let others = Fields::of("A: b\r\nC: d\r\n");
    let ok = Response { body: b"{}", ..Response::new(200, &json) };
    for (response, expect) in [
        (ok, "HTTP/1.1 200 OK\r\nDATE\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        (Response::new(404, &none), "HTTP/1.1 404 Not Found\r\nDATE\r\nContent-Length: 0\r\n\r\n"),
        (
            Response { close: true, ..ok },
            "HTTP/1.1 200 OK\r\nDATE\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        ),
        (
            Response { keep_alive_10: true, ..Response::new(200, &none) },
            "HTTP/1.1 200 OK\r\nDATE\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        ),
        (
            Response { keep_alive_10: true, close: true, ..Response::new(400, &none) },
            "HTTP/1.1 400 Bad Request\r\nDATE\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (
            Response { head_only: true, ..ok },
            "HTTP/1.1 200 OK\r\nDATE\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        ),
        (
            Response::new(503, &retry),
            "HTTP/1.1 503 Service Unavailable\r\nDATE\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            Response::new(405, &allow),
            "HTTP/1.1 405 Method Not Allowed\r\nDATE\r\nAllow: POST, OPTIONS\r\nContent-Length: 0\r\n\r\n",
        ),
        (Response::new(204, &others), "HTTP/1.1 204 No Content\r\nDATE\r\nA: b\r\nC: d\r\n\r\n"),
        // No body where there cannot be one.
        (Response { status: 204, fields: &none, ..ok }, "HTTP/1.1 204 No Content\r\nDATE\r\n\r\n"),
        (Response { status: 304, fields: &none, ..ok }, "HTTP/1.1 304 Not Modified\r\nDATE\r\n\r\n"),
        (Response::new(501, &none), "HTTP/1.1 501 Not Implemented\r\nDATE\r\nContent-Length: 0\r\n\r\n"),
        (Response::new(599, &none), "HTTP/1.1 599 \r\nDATE\r\nContent-Length: 0\r\n\r\n"),
    ] {
        check(&response, expect);
    }
    assert_eq!(CONTINUE, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn a_head_alone_announces_the_body_that_the_caller_writes() {
    for (status, end, expect) in [
        (200, BodyEnd::Length(16_000_000), "200 OK\r\nDATEContent-Length: 16000000\r\n\r\n"),
        (200, BodyEnd::Chunked, "200 OK\r\nDATETransfer-Encoding: chunked\r\n\r\n"),
        (200, BodyEnd::Close, "200 OK\r\nDATE\r\n"),
        (204, BodyEnd::Chunked, "204 No Content\r\nDATE\r\n"),
    ] {
        let mut out = Vec::new();
        Response::new(status, &Fields::default()).write_head(&mut out, &date(784_111_777), end);
        assert_eq!(String::from_utf8_lossy(&out), format!("HTTP/1.1 {}", expect.replace("DATE", HEAD)));
    }
}

#[test]
fn every_status_line_has_the_code_it_is_asked_for() {
    for status in 200..=599 {
        let mut out = Vec::new();
        Response::new(status, &Fields::default()).write(&mut out, &date(0));
        assert!(out.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{}", out.escape_ascii());
    }
}

#[test]
#[cfg(debug_assertions)]
fn a_status_that_is_not_final_stops_a_debug_build() {
    let write = || Response::new(99, &Fields::default()).write(&mut Vec::new(), &date(0));
    assert!(std::panic::catch_unwind(write).is_err());
}
