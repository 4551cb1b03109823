//! Responses to the byte.

use super::super::{CONTINUE, Response, date};

const HEAD: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

#[track_caller]
fn check(response: &Response<'_>, expect: &str) {
    let mut out = b"before".to_vec();
    response.write(&mut out, &date(784_111_777));
    assert_eq!(String::from_utf8_lossy(&out), format!("before{}", expect.replace("DATE\r\n", HEAD)));
}

#[test]
fn responses_to_the_byte() {
    let ok = Response { content_type: Some("application/json"), body: b"{}", ..Response::default() };
    for (response, expect) in [
        (ok, "HTTP/1.1 200 OK\r\nDATE\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        (Response::new(404), "HTTP/1.1 404 Not Found\r\nDATE\r\nContent-Length: 0\r\n\r\n"),
        (
            Response { close: true, ..ok },
            "HTTP/1.1 200 OK\r\nDATE\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        ),
        (
            Response { keep_alive_10: true, body: b"", content_type: None, ..ok },
            "HTTP/1.1 200 OK\r\nDATE\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        ),
        (
            Response { keep_alive_10: true, close: true, ..Response::new(400) },
            "HTTP/1.1 400 Bad Request\r\nDATE\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (
            Response { head_only: true, ..ok },
            "HTTP/1.1 200 OK\r\nDATE\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        ),
        (
            Response { retry_after: Some(10), ..Response::new(503) },
            "HTTP/1.1 503 Service Unavailable\r\nDATE\r\nContent-Length: 0\r\nRetry-After: 10\r\n\r\n",
        ),
        (
            Response { allow: Some("POST, OPTIONS"), ..Response::new(405) },
            "HTTP/1.1 405 Method Not Allowed\r\nDATE\r\nContent-Length: 0\r\nAllow: POST, OPTIONS\r\n\r\n",
        ),
        (
            Response { extra: b"A: b\r\nC: d\r\n", ..Response::new(204) },
            "HTTP/1.1 204 No Content\r\nDATE\r\nA: b\r\nC: d\r\n\r\n",
        ),
        // No body where there cannot be one.
        (Response { status: 204, content_type: None, ..ok }, "HTTP/1.1 204 No Content\r\nDATE\r\n\r\n"),
        (Response { status: 304, content_type: None, ..ok }, "HTTP/1.1 304 Not Modified\r\nDATE\r\n\r\n"),
        (Response::new(501), "HTTP/1.1 501 Not Implemented\r\nDATE\r\nContent-Length: 0\r\n\r\n"),
        (Response::new(599), "HTTP/1.1 599 \r\nDATE\r\nContent-Length: 0\r\n\r\n"),
    ] {
        check(&response, expect);
    }
    assert_eq!(CONTINUE, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn a_head_alone_announces_the_body_that_the_caller_writes() {
    let mut out = Vec::new();
    Response::new(200).write_head(&mut out, &date(784_111_777), 16_000_000);
    let expect = format!("HTTP/1.1 200 OK\r\n{HEAD}Content-Length: 16000000\r\n\r\n");
    assert_eq!(String::from_utf8_lossy(&out), expect);
}

#[test]
fn every_status_line_has_the_code_it_is_asked_for() {
    for status in 200..=599 {
        let mut out = Vec::new();
        Response::new(status).write(&mut out, &date(0));
        assert!(out.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{}", out.escape_ascii());
    }
}

#[test]
#[cfg(debug_assertions)]
fn a_value_that_would_break_out_of_its_field_stops_a_debug_build() {
    for response in [
        Response { content_type: Some("a\r\nb: c"), ..Response::new(200) },
        Response { allow: Some("GET\n"), ..Response::new(405) },
        Response { extra: b"a: b", ..Response::new(200) },
        Response { extra: b"a: b\r\n\r\n", ..Response::new(200) },
        Response { extra: b"a: b\nc: d\r\n", ..Response::new(200) },
        Response { extra: b": b\r\n", ..Response::new(200) },
        Response { extra: b"a b\r\n", ..Response::new(200) },
        Response { status: 99, ..Response::new(200) },
    ] {
        let write = || response.write(&mut Vec::new(), &date(0));
        assert!(std::panic::catch_unwind(write).is_err(), "{response:?}");
    }
}
