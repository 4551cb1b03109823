//! What a server must do with bytes that are malformed, ambiguous, or odd and right.
//!
//! Behind every malformed request stands a second, well-formed one: if it is answered too, two
//! requests were read out of what one sender meant as one (or the reverse), which is how requests
//! are smuggled. So: exactly one response, with the verdict, and the connection closes.

use crate::{
    framing_cases::{MALFORMED, Malformed},
    support::{
        gateway::Gateway,
        http::{Http, request},
        readback::texts,
        unique,
    },
};

// What a connection does with bytes in every cut and order is for `conn::tests`, without sockets; this is that it does so behind one.
on_both_drivers!(
    a_malformed_request_gets_one_verdict_and_the_connection_closes,
    absolute_form_is_a_path,
    options_for_the_server_is_answered,
    lower_case_fields_are_fields,
    ten_pipelined_requests_get_ten_answers_in_order,
    an_upgrade_to_h2c_is_ignored_and_the_body_is_read,
    expect_100_continue_is_answered_after_authentication_and_the_size_check,
    white_space_around_values_is_not_part_of_them,
    unknown_methods_are_405_and_not_an_end,
);

const OK: &str = "{\"error\":null,\"success\":true}";
const STATUS: &str = "{\"status\":\"ok\"}";

#[test]
fn the_table_is_as_large_as_promised_and_names_each_row_once() {
    assert!(MALFORMED.len() >= 60, "{}", MALFORMED.len());
    for (index, row) in MALFORMED.iter().enumerate() {
        assert!(!MALFORMED[..index].iter().any(|other| other.name == row.name), "{} twice", row.name);
    }
}

/// The row's bytes: `{auth}` is a bearer token, `{station}` a station.
fn bytes_of(row: &Malformed, gateway: &Gateway, station: &str) -> Vec<u8> {
    let auth = format!("Authorization: Bearer {}", gateway.token());
    let mut bytes = Vec::new();
    let mut rest = row.bytes;
    while let Some(at) = memchr::memchr(b'{', rest) {
        bytes.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(b"{auth}") {
            bytes.extend_from_slice(auth.as_bytes());
            rest = after;
        } else if let Some(after) = rest.strip_prefix(b"{station}") {
            bytes.extend_from_slice(station.as_bytes());
            rest = after;
        } else {
            bytes.push(b'{');
            rest = &rest[1..];
        }
    }
    bytes.extend_from_slice(rest);
    bytes
}

fn a_malformed_request_gets_one_verdict_and_the_connection_closes(gateway: &Gateway) {
    let mut wrong = Vec::new();
    for row in MALFORMED {
        let mut http = Http::connect(gateway.address());
        let mut bytes = bytes_of(row, gateway, "smuggled");
        bytes.extend_from_slice(b"GET /monitoring/status HTTP/1.1\r\nHost: t\r\n\r\n");
        http.send(&bytes);
        match http.try_response(true) {
            Ok(response) if !row.verdict.contains(&response.status) => {
                wrong.push(format!("{}: {} {}, not {:?}", row.name, response.status, response.text(), row.verdict));
            }
            Ok(_) => {
                let closed = std::panic::catch_unwind(move || http.closes());
                if closed.is_err() {
                    wrong.push(format!("{}: the connection did not just close after the answer", row.name));
                }
            }
            Err(error) => wrong.push(format!("{}: no answer: {error}", row.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), MALFORMED.len(), wrong.join("\n"));
}

fn absolute_form_is_a_path(gateway: &Gateway) {
    let mut http = Http::connect(gateway.address());
    for target in ["http://gateway.test/monitoring/status", "HTTP://gateway.test:4444/monitoring/status?x"] {
        http.exchange(format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n").as_bytes()).is(200, STATUS);
    }
    let station = unique("absolute");
    let target = format!("http://gateway.test/stations/{station}/produce/single");
    http.exchange(&gateway.authorized("POST", &target, &[("Content-Type", "text/plain")], b"x")).is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["x"]);
}

fn options_for_the_server_is_answered(gateway: &Gateway) {
    let mut http = Http::connect(gateway.address());
    let response = http.exchange(b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(matches!(response.status, 200 | 204), "{}", response.head);
    http.is_alive();
}

fn lower_case_fields_are_fields(gateway: &Gateway) {
    let station = unique("lower");
    let mut http = Http::connect(gateway.address());
    for (host, length, auth) in
        [("host", "content-length", "authorization"), ("HOST", "CONTENT-LENGTH", "AUTHORIZATION")]
    {
        let head = format!(
            "POST /stations/{station}/produce/single HTTP/1.1\r\n{host}: t\r\n{auth}: bearer {}\r\n\
             content-type: text/plain\r\n{length}: 1\r\n\r\nx",
            gateway.token()
        );
        http.exchange(head.as_bytes()).is_json(200, OK);
    }
    assert_eq!(texts(gateway, &station), ["x", "x"]);
}

fn chunked(gateway: &Gateway, station: &str, coding: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST /stations/{station}/produce/single HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n\
         Content-Type: text/plain\r\nTransfer-Encoding: {coding}\r\n\r\n{body}",
        gateway.token()
    );
    head.into_bytes()
}

fn ten_pipelined_requests_get_ten_answers_in_order(gateway: &Gateway) {
    let station = unique("pipelined");
    let path = format!("/stations/{station}/produce/single");
    let mut bytes = Vec::new();
    for number in 0..10 {
        let body = number.to_string();
        bytes.extend(match number {
            3 => request("GET", "/monitoring/status", &[], b""),
            5 => gateway.authorized("POST", &path, &[("Content-Type", "image/png")], b"xyz"),
            7 => chunked(gateway, &station, "chunked", "1\r\n7\r\n0\r\n\r\n"),
            _ => gateway.authorized("POST", &path, &[("Content-Type", "text/plain")], body.as_bytes()),
        });
    }
    let mut http = Http::connect(gateway.address());
    http.send(&bytes);
    for number in 0..10 {
        let response = http.response();
        match number {
            3 => drop(response.is(200, STATUS).clone()),
            5 => drop(response.is_error(415)),
            _ => drop(response.is_json(200, OK).clone()),
        }
    }
    http.is_alive();
    assert_eq!(texts(gateway, &station), ["0", "1", "2", "4", "6", "7", "8", "9"]);
}

fn an_upgrade_to_h2c_is_ignored_and_the_body_is_read(gateway: &Gateway) {
    // What the best-known producer sends with every clear-text request.
    let station = unique("h2c");
    let mut http = Http::connect(gateway.address());
    let headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQBAAAAAAIAAAAA"),
        ("Content-Type", "application/json"),
    ];
    let path = format!("/stations/{station}/produce/single");
    for _ in 0..2 {
        http.exchange(&gateway.authorized("POST", &path, &headers, b"{\"op\":\"c\"}")).is_json(200, OK);
    }
    http.is_alive();
    assert_eq!(texts(gateway, &station), ["{\"op\":\"c\"}", "{\"op\":\"c\"}"]);
}

fn expect_100_continue_is_answered_after_authentication_and_the_size_check(gateway: &Gateway) {
    let station = unique("expect");
    let head = |auth: &str, length: usize| {
        format!(
            "POST /stations/{station}/produce/single HTTP/1.1\r\nHost: t\r\n{auth}Content-Type: text/plain\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let auth = format!("Authorization: Bearer {}\r\n", gateway.token());
    let mut http = Http::connect(gateway.address());
    for expect in ["100-continue", "100-CONTINUE"] {
        let response = http.exchange(head(&auth, 4).replace("100-continue", expect).as_bytes());
        assert_eq!((response.status, response.head.contains("Content-Length")), (100, false), "{}", response.head);
        http.exchange(b"body").is_json(200, OK);
    }
    // The body comes without waiting: an interim answer may be given or not.
    http.send(&[head(&auth, 4).as_bytes(), b"fast"].concat());
    let mut response = http.response();
    if response.status == 100 {
        response = http.response();
    }
    response.is_json(200, OK);
    http.is_alive();
    Http::connect(gateway.address()).exchange(head("", 4).as_bytes()).is(401, "{\"message\":\"Unauthorized\"}");
    let large = 16 * 1_024 * 1_024 + 1;
    Http::connect(gateway.address()).exchange(head(&auth, large).as_bytes()).is_error(413);
    assert_eq!(texts(gateway, &station), ["body", "body", "fast"]);
}

fn white_space_around_values_is_not_part_of_them(gateway: &Gateway) {
    let station = unique("white");
    let head = format!(
        "POST /stations/{station}/produce/single HTTP/1.1\r\nHost:t\r\nAuthorization: \t Bearer {} \t\r\n\
         Content-Type:text/plain\r\nContent-Length: \t3  \r\nX-Padded: \t a b \t \r\n\r\nabc",
        gateway.token()
    );
    let mut http = Http::connect(gateway.address());
    http.exchange(head.as_bytes()).is_json(200, OK);
    http.is_alive();
    let records = crate::support::readback::stored(gateway, &station);
    assert_eq!(records[0].headers.get("X-Padded").map(String::as_str), Some("a b"));
}

fn unknown_methods_are_405_and_not_an_end(gateway: &Gateway) {
    let mut http = Http::connect(gateway.address());
    for method in ["BREW", "get", "PROPFIND", "M-SEARCH", "A!#$%&'*+-.^_`|~0"] {
        let response = http.exchange(&gateway.authorized(method, "/stations/a/produce/single", &[], b""));
        assert!(matches!(response.status, 405 | 501), "{method}: {} {}", response.status, response.text());
    }
    http.is_alive();
}
