//! The contract that every route shares (docs/contract.md, "Every route"): routing, methods, CORS,
//! status, errors, keep-alive.

use crate::contract_produce::compressed;
use crate::support::{
    admin::basic,
    gateway::{Gateway, ROOT_PASSWORD, ROOT_USER},
    http::{self, Http, Response, request},
    unique,
};
use serde_json::json;

on_both_drivers!(
    the_status_route_says_ok_to_everybody,
    the_root_is_not_found_in_plain_text,
    without_a_token_every_other_path_is_unauthorized,
    with_a_token_an_unknown_path_is_not_found,
    a_wrong_method_is_told_the_right_one,
    a_preflight_is_answered_without_a_token,
    r8_what_is_compressed_is_decoded_on_every_route_that_takes_a_body,
    r9_a_415_by_a_coding_says_which_codings_are_taken,
    r11_a_page_is_let_in_with_the_credential_of_its_url_and_with_no_other,
    f13_tokens_and_health_are_not_to_be_stored,
    f16_options_lists_the_methods_and_pages_may_read_what_they_need,
    every_answer_allows_every_origin_and_has_a_date,
    paths_are_found_in_any_case_and_with_a_slash,
    a_body_over_the_limit_is_refused_with_the_limit_before_it_is_read,
    a_head_over_the_limit_is_refused,
    a_connection_is_kept_and_closed_as_asked,
    head_is_answered_without_a_body,
);

const OK: &str = "{\"error\":null,\"success\":true}";
const UNAUTHORIZED: &str = "{\"message\":\"Unauthorized\"}";

fn the_status_route_says_ok_to_everybody(gateway: &Gateway) {
    for target in ["/monitoring/status", "/monitoring/status/", "/Monitoring/Status", "/monitoring/status?x=y"] {
        http::get(gateway.address(), target).is_json(200, "{\"status\":\"ok\"}");
    }
}

fn the_root_is_not_found_in_plain_text(gateway: &Gateway) {
    let response = http::get(gateway.address(), "/");
    response.is(404, "Cannot GET /");
    assert_eq!(media_type(&response), "text/plain");
}

fn without_a_token_every_other_path_is_unauthorized(gateway: &Gateway) {
    for (method, target) in [
        ("GET", "/nothing/here"),
        ("POST", "/stations"),
        ("POST", "/stations/a/produce/single"),
        ("GET", "/stations/a/produce/single"),
        ("POST", "/stations/a/produce/batch"),
        ("POST", "/stations/a/consume/batch"),
        ("DELETE", "/stations/a"),
        ("PUT", "/auth"),
        ("GET", "/metrics"),
    ] {
        http::once(gateway.address(), method, target, &[], b"").is_json(401, UNAUTHORIZED);
    }
}

fn with_a_token_an_unknown_path_is_not_found(gateway: &Gateway) {
    for (method, target) in [
        ("GET", "/nothing/here"),
        ("POST", "/stations"),
        ("POST", "/stations/a"),
        ("POST", "/stations/a/produce"),
        ("POST", "/stations/a/produce/single/more"),
        ("POST", "/stations//produce/single"),
        ("POST", "/stations/a/produce/everything"),
        ("GET", "/metrics"),
    ] {
        let response = Http::connect(gateway.address()).exchange(&gateway.authorized(method, target, &[], b""));
        assert_eq!(response.status, 404, "{method} {target}: {}", response.text());
    }
}

fn a_wrong_method_is_told_the_right_one(gateway: &Gateway) {
    for (method, target, allow) in [
        ("GET", "/stations/a/produce/single", "POST"),
        ("PUT", "/stations/a/produce/batch", "POST"),
        ("DELETE", "/stations/a/consume/batch", "POST"),
        ("PATCH", "/auth/authenticate", "POST"),
        ("GET", "/auth/refreshToken", "POST"),
    ] {
        let response = Http::connect(gateway.address()).exchange(&gateway.authorized(method, target, &[], b""));
        response.is(405, "Method Not Allowed");
        assert_eq!(media_type(&response), "text/plain", "{method} {target}");
        assert_eq!(response.header("allow"), Some(allow), "{method} {target}");
    }
    let response =
        Http::connect(gateway.address()).exchange(&gateway.authorized("POST", "/monitoring/status", &[], b""));
    assert_eq!(response.status, 405);
    assert!(response.header("allow").is_some_and(|allow| allow.contains("GET")), "{}", response.head);
}

fn a_preflight_is_answered_without_a_token(gateway: &Gateway) {
    let asked = "content-type, authorization,X-Custom";
    for target in ["/stations/a/produce/single", "/auth/authenticate", "/nothing/here", "/"] {
        let headers = [
            ("Origin", "https://example.org"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", asked),
        ];
        let response = http::once(gateway.address(), "OPTIONS", target, &headers, b"");
        assert_eq!((response.status, response.text()), (204, ""), "{target}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(response.header("access-control-allow-methods"), Some("GET,POST,HEAD,PUT,DELETE,PATCH"));
        assert_eq!(response.header("access-control-allow-headers"), Some(asked));
        assert_eq!(response.header("access-control-max-age"), Some("7200"), "a browser need not ask each time");
        assert_eq!(response.header("access-control-allow-credentials"), None);
    }
    let bare = http::once(gateway.address(), "OPTIONS", "/stations/a/produce/batch", &[], b"");
    assert_eq!(bare.status, 204);
    assert_eq!(bare.header("access-control-allow-headers"), None, "nothing was asked for");
}

fn r8_what_is_compressed_is_decoded_on_every_route_that_takes_a_body(gateway: &Gateway) {
    let station = unique("compressed");
    gateway.single(&station, "text/plain", b"x").is_json(200, OK);
    let login = json!({"username": ROOT_USER, "password": ROOT_PASSWORD}).to_string();
    let pair = gateway.authenticate(&login).json();
    let refresh = json!({"jwt_refresh_token": pair["jwt_refresh_token"]}).to_string();
    let consume = json!({"consumer_name": "c", "batch_max_wait_time_ms": 100}).to_string();
    let routes = [
        ("/auth/authenticate".to_owned(), login),
        ("/auth/refreshToken".to_owned(), refresh),
        (format!("/stations/{station}/consume/batch"), consume),
        (format!("/stations/{station}/produce/batch"), "[1]".to_owned()),
    ];
    for (path, body) in &routes {
        for coding in ["gzip", "deflate"] {
            let headers = [("Content-Type", "application/json"), ("Content-Encoding", coding)];
            let response = gateway.post(path, &headers, &compressed(coding, body.as_bytes()));
            assert_eq!(response.status, 200, "{coding} {path}: {}", response.text());
            let broken = gateway.post(path, &headers, body.as_bytes()).is_error(400);
            assert!(broken.contains("Content-Encoding"), "{coding} {path}: {broken}");
        }
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", "identity")];
        assert_eq!(gateway.post(path, &headers, body.as_bytes()).status, 200, "{path}");
    }
    // Small when compressed, and larger than such a body may be.
    let bomb = compressed("gzip", format!("{{\"consumer_name\":\"{}\"}}", "c".repeat(1 << 20)).as_bytes());
    for (path, _) in routes.iter().take(3) {
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
        gateway.post(path, &headers, &bomb).is_error(413);
    }
}

fn r9_a_415_by_a_coding_says_which_codings_are_taken(gateway: &Gateway) {
    let json_type = ("Content-Type", "application/json");
    for path in [
        "/auth/authenticate",
        "/auth/refreshToken",
        "/stations/a/consume/batch",
        "/stations/a/produce/batch",
        "/stations/a/produce/single",
    ] {
        for coding in ["zstd", "br", "gzip, br", "gzip, gzip, gzip"] {
            let response = gateway.post(path, &[json_type, ("Content-Encoding", coding)], b"{}");
            response.is_error(415);
            assert_eq!(response.header("accept-encoding"), Some("gzip, deflate"), "{coding} {path}");
        }
    }
    // What is wrong there is the type, and no coding would help.
    assert_eq!(gateway.single("a", "image/png", b"x").header("accept-encoding"), None);
    // The admin API reads bodies as they are, and says so.
    let credentials = basic(ROOT_USER, ROOT_PASSWORD);
    for coding in ["gzip", "br"] {
        let headers = [("Authorization", credentials.as_str()), json_type, ("Content-Encoding", coding)];
        let response = http::once(gateway.admin(), "POST", "/api/v1/keys", &headers, &compressed("gzip", b"{}"));
        assert_eq!(
            (response.status, response.header("accept-encoding")),
            (415, Some("identity")),
            "{}",
            response.text()
        );
    }
}

fn r11_a_page_is_let_in_with_the_credential_of_its_url_and_with_no_other(gateway: &Gateway) {
    let (origin, station) = (("Origin", "https://app.example"), unique("beacon"));
    let path = format!("/stations/{station}/produce/single");
    let with_token = format!("{path}?authorization={}", gateway.token());
    let shared = |response: &Response| {
        let values = ["access-control-allow-origin", "access-control-allow-credentials"];
        let vary = response.header("vary").unwrap_or_default().to_ascii_lowercase();
        assert!(vary.contains("origin"), "{}", response.head);
        values.map(|name| response.header(name).map(str::to_owned))
    };
    let (page, everybody) =
        ([Some("https://app.example".to_owned()), Some("true".to_owned())], [Some("*".to_owned()), None]);
    let asks = [origin, ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "content-type")];
    let preflight = http::once(gateway.address(), "OPTIONS", &with_token, &asks, b"");
    assert_eq!((preflight.status, shared(&preflight)), (204, page.clone()));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type"));
    assert!(!preflight.header("access-control-allow-methods").unwrap().contains('*'));
    assert_eq!(shared(&http::once(gateway.address(), "OPTIONS", &path, &asks, b"")), everybody);

    let json_type = ("Content-Type", "application/json");
    let sent = |target: &str, more: &[(&str, &str)]| {
        http::once(gateway.address(), "POST", target, &[&[origin, json_type], more].concat(), b"{}")
    };
    let good = sent(&with_token, &[]);
    good.is_json(200, OK);
    assert_eq!(shared(&good), page);
    // Whatever becomes of it: a page that may not read the answer does not learn what was wrong.
    let wrong = sent(&format!("{path}?authorization=wrong"), &[]);
    assert_eq!((wrong.status, shared(&wrong)), (401, page.clone()));
    let large = [origin, json_type, ("Content-Length", "99999999")];
    let large = Http::connect(gateway.address()).exchange(&request("PUT", &with_token, &large, b""));
    assert_eq!((large.status, shared(&large)), (405, page.clone()));
    let headers = format!("Origin: {}\r\nContent-Type: application/json\r\nContent-Length: 99999999", origin.1);
    let large = format!("POST {with_token} HTTP/1.1\r\nHost: t\r\n{headers}\r\n\r\n");
    let large = Http::connect(gateway.address()).exchange(large.as_bytes());
    assert_eq!((large.status, shared(&large)), (413, page.clone()));
    // The browser adds what it holds for the gateway: that must not help a page that knows no credential.
    let held = format!("Bearer {}", gateway.token());
    let confused = sent(&format!("{path}?authorization=wrong"), &[("Authorization", &held)]);
    assert_eq!((confused.status, shared(&confused)), (401, page.clone()));
    let basic_held = basic("any", "nothing");
    assert_eq!(sent(&with_token, &[("Authorization", &basic_held)]).status, 200);
    // Everywhere else: without credentials.
    let by_header = sent(&path, &[("Authorization", &held)]);
    assert_eq!((by_header.status, shared(&by_header)), (200, everybody.clone()));
    let no_page = http::once(gateway.address(), "POST", &with_token, &[json_type], b"{}");
    assert_eq!((no_page.status, shared(&no_page)), (200, everybody));
    // A sandboxed page's origin is the word null.
    let null = http::once(gateway.address(), "POST", &with_token, &[("Origin", "null"), json_type], b"{}");
    assert_eq!(null.header("access-control-allow-origin"), Some("null"));
}

fn f13_tokens_and_health_are_not_to_be_stored(gateway: &Gateway) {
    let login = json!({"username": ROOT_USER, "password": ROOT_PASSWORD}).to_string();
    let pair = gateway.authenticate(&login);
    let refresh = json!({"jwt_refresh_token": pair.json()["jwt_refresh_token"]}).to_string();
    let renewed = gateway.post("/auth/refreshToken", &[("Content-Type", "application/json")], refresh.as_bytes());
    assert_eq!((pair.status, renewed.status), (200, 200));
    let status = http::get(gateway.address(), "/monitoring/status");
    let admin = ["/healthz", "/readyz", "/metrics"].map(|path| http::get(gateway.admin(), path));
    for response in [pair, renewed, status].iter().chain(&admin) {
        assert_eq!(response.header("cache-control"), Some("no-store"), "{}", response.head);
    }
}

fn f16_options_lists_the_methods_and_pages_may_read_what_they_need(gateway: &Gateway) {
    for (target, allow) in [
        ("/stations/a/produce/single", "POST, OPTIONS"),
        ("/stations/a/consume/batch", "POST, OPTIONS"),
        ("/auth/authenticate", "POST, OPTIONS"),
        ("/monitoring/status", "GET, HEAD, OPTIONS"),
        ("/nothing", "OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
    ] {
        let response = http::once(gateway.address(), "OPTIONS", target, &[], b"");
        assert_eq!((response.status, response.header("allow")), (204, Some(allow)), "{target}");
    }
    let exposed = |response: &Response, field: &str| {
        assert!(!response.headers(field).is_empty(), "no {field} in {}", response.head);
        let list = response.header("access-control-expose-headers").unwrap_or_default();
        assert!(list.split(", ").any(|name| name.eq_ignore_ascii_case(field)), "{field} in {}", response.head);
    };
    let path = format!("/stations/{}/produce/single", unique("exposed"));
    let text = ("Content-Type", "text/plain");
    exposed(&http::once(gateway.address(), "POST", &path, &[text], b"x"), "www-authenticate");
    exposed(&gateway.post(&path, &[text, ("Content-Encoding", "br")], b"x"), "accept-encoding");
    exposed(&gateway.post(&path, &[text, ("Prefer", "return=representation")], b"x"), "preference-applied");
    exposed(&Http::connect(gateway.address()).exchange(&gateway.authorized("GET", &path, &[], b"")), "allow");
}

fn every_answer_allows_every_origin_and_has_a_date(gateway: &Gateway) {
    let station = unique("cors");
    let origin = ("Origin", "https://example.org");
    let json_type = ("Content-Type", "application/json");
    let path = format!("/stations/{station}/produce/single");
    let mut http = Http::connect(gateway.address());
    for (status, bytes) in [
        (200, gateway.authorized("POST", &path, &[origin, json_type], b"{}")),
        (200, request("GET", "/monitoring/status", &[origin], b"")),
        (401, request("POST", &path, &[origin, json_type], b"{}")),
        (404, request("GET", "/", &[origin], b"")),
        (415, gateway.authorized("POST", &path, &[origin, ("Content-Type", "image/png")], b"{}")),
        (405, gateway.authorized("GET", &path, &[origin], b"")),
    ] {
        let response = http.exchange(&bytes);
        assert_eq!(response.status, status, "{}", response.text());
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{status}");
        let date = response.header("date").unwrap_or_else(|| panic!("no Date in {}", response.head));
        let age = httpdate::parse_http_date(date).unwrap().elapsed().unwrap_or_default();
        assert!(age.as_secs() <= 15, "Date: {date}");
    }
    let mut http = Http::connect(gateway.address());
    let malformed = http.exchange(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n");
    assert_eq!(malformed.status, 400);
    assert!(malformed.header("date").is_some(), "{}", malformed.head);
}

fn paths_are_found_in_any_case_and_with_a_slash(gateway: &Gateway) {
    let station = unique("paths");
    for path in [
        format!("/stations/{station}/produce/single"),
        format!("/STATIONS/{station}/PRODUCE/single"),
        format!("/Stations/{}/Produce/Single", station.to_uppercase()),
        format!("/stations/{station}/produce/single/"),
        format!("/stations/{station}/produce/single?partition=1"),
    ] {
        gateway.post(&path, &[("Content-Type", "text/plain")], b"x").is_json(200, OK);
    }
    for path in [format!("/stations/{station}/Produce/BATCH"), format!("/stations/{station}/produce/batch/")] {
        gateway.post(&path, &[("Content-Type", "application/json")], b"[1]").is_json(200, OK);
    }
    let body = json!({"consumer_name": "c", "batch_size": 100, "batch_max_wait_time_ms": 1_000}).to_string();
    let path = format!("/Stations/{station}/CONSUME/batch/");
    let response = gateway.post(&path, &[("Content-Type", "application/json")], body.as_bytes());
    assert_eq!(response.json().as_array().map(Vec::len), Some(7), "{}", response.text());
}

fn a_body_over_the_limit_is_refused_with_the_limit_before_it_is_read(gateway: &Gateway) {
    let limit = 16 * 1_024 * 1_024;
    let bearer = format!("Authorization: Bearer {}", gateway.token());
    let mut http = Http::connect(gateway.address());
    let response = http.exchange(
        format!(
            "POST /stations/a/produce/single HTTP/1.1\r\nHost: t\r\n{bearer}\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n",
            limit + 1
        )
        .as_bytes(),
    );
    let text = response.is_error(413);
    assert!(text.contains(&limit.to_string()), "which limit: {text}");
    http.closes();
}

fn a_head_over_the_limit_is_refused(gateway: &Gateway) {
    let long = "x".repeat(17 * 1_024);
    let many = "X-Field: v\r\n".repeat(101);
    for request in [
        format!("GET /monitoring/status HTTP/1.1\r\nHost: t\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /monitoring/status HTTP/1.1\r\nHost: t\r\n{many}\r\n"),
        format!("GET /monitoring/status?{long} HTTP/1.1\r\nHost: t\r\n\r\n"),
    ] {
        let mut http = Http::connect(gateway.address());
        let response = http.exchange(request.as_bytes());
        assert_eq!(response.status, 431, "{}", response.text());
        http.closes();
    }
    let fits = "X-Field: v\r\n".repeat(99);
    let request = format!("GET /monitoring/status HTTP/1.1\r\nHost: t\r\n{fits}\r\n");
    Http::connect(gateway.address()).exchange(request.as_bytes()).is(200, "{\"status\":\"ok\"}");
}

fn a_connection_is_kept_and_closed_as_asked(gateway: &Gateway) {
    let mut http = Http::connect(gateway.address());
    let path = "/stations/kept/produce/single";
    for _ in 0..3 {
        http.exchange(&gateway.authorized("POST", path, &[("Content-Type", "text/plain")], b"x")).is_json(200, OK);
        // What the client did wrong in HTTP's eyes well does not cost it the connection.
        http.exchange(&gateway.authorized("POST", path, &[("Content-Type", "image/png")], b"x")).is_error(415);
        http.exchange(&request("POST", path, &[("Content-Type", "text/plain")], b"x")).is(401, UNAUTHORIZED);
        http.exchange(&gateway.authorized("GET", path, &[], b"")).is(405, "Method Not Allowed");
    }
    let headers = [("Content-Type", "text/plain"), ("Connection", "close")];
    let response = http.exchange(&gateway.authorized("POST", path, &headers, b"x"));
    response.is_json(200, OK);
    assert_eq!(response.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
    http.closes();
}

fn head_is_answered_without_a_body(gateway: &Gateway) {
    let mut http = Http::connect(gateway.address());
    http.send(&request("HEAD", "/monitoring/status", &[], b""));
    let response = http.response_to_head();
    assert_eq!(response.status, 200, "{}", response.head);
    http.is_alive();
    http.send(&request("HEAD", "/nothing", &[], b""));
    assert_eq!(http.response_to_head().status, 401);
    http.is_alive();
}

fn media_type(response: &Response) -> &str {
    let value = response.header("content-type").unwrap_or_default();
    value.split(';').next().unwrap_or_default()
}
