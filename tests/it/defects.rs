//! The defects of the original that Sluicegate must not repeat, with the numbers of docs/contract.md: a
//! test for each that can be tested over HTTP, named after it.
//!
//! Not here: 3, 5 and 6 (its cache of broker connections, which has no counterpart here), 18 (schemas:
//! `schemas.rs`), 21 (costs, which benchmarks measure).

use crate::support::{
    PATIENCE,
    broker::Broker,
    eventually,
    gateway::{ACCESS_SECRET, Gateway, Plan, ROOT_PASSWORD, bare_command, with_input},
    http::{self, Http, request},
    nats::NatsServer,
    readback::{drain, stored, texts},
    scratch,
    setup::{Backend, Setup},
    token, unique,
};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

on_every_setup!(
    defect_02_crash_under_concurrency,
    defect_08_password_in_the_token_and_token_in_the_stream,
    defect_10_client_headers_obeyed_by_jetstream,
    defect_14_batch_stops_at_first_and_re_serialises,
    defect_15_corrupt_gzip_stored_with_200,
    defect_16_settings_frozen_per_consumer_name,
    defect_16_lossy_utf_8,
    defect_23_encoded_slash_misroutes,
);

mod before_the_store {
    use super::*;
    on_both_drivers!(
        defect_07_panic_by_a_token_without_claims,
        defect_09_token_without_username_is_root,
        defect_11_expiry_arithmetic,
        defect_12_client_mistakes_as_500,
        defect_13_content_type_matched_by_text,
        defect_17_error_text_rewritten_in_user_data,
        defect_23_trailing_slash_is_unauthorized,
        defect_24_account_parsing_ignores_errors,
    );
}

mod own_gateway {
    use super::*;
    on_setups!(
        local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
            defect_16_acknowledged_before_delivery,
            defect_20_head_of_4_kib,
        ]
    );
}

mod broker {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        defect_01_200_before_durable_ack,
        defect_04_every_login_leaks_a_broker_connection,
        defect_19_health_check_lies_and_port_waits_for_the_broker,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";
const UNAUTHORIZED: &str = "{\"message\":\"Unauthorized\"}";

fn defect_01_200_before_durable_ack(setup: Setup) {
    let gateway = Plan::new(setup).config("[limits]\nhold = \"1s\"\nack_timeout = \"7s\"").start();
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("acked", "acked", &json!({"max_msgs": 5, "discard": "new"}));
    let answers: Vec<u16> =
        (0..8).map(|number: u32| gateway.single("acked", "text/plain", number.to_string().as_bytes()).status).collect();
    assert_eq!(answers, [200, 200, 200, 200, 200, 503, 503, 503]);
    assert_eq!(broker.count("acked"), 5);
    broker.api("STREAM.DELETE.acked", &Value::Null);
    // The original said 200 to a stream that is not there.
    let response = gateway.single("acked", "text/plain", b"x");
    assert_eq!(u64::from(response.status == 200), broker.count("acked"), "{}", response.text());
}

fn defect_02_crash_under_concurrency(gateway: &Gateway) {
    let prefix = unique("crowd");
    let stop = Instant::now() + Duration::from_secs(1);
    gateway.token();
    thread::scope(|scope| {
        for producer in 0..32 {
            let prefix = &prefix;
            scope.spawn(move || {
                let mut http = Http::connect(gateway.address());
                let mut number = 0;
                while Instant::now() < stop {
                    // Stations that nobody has seen before, as well as one that all share.
                    let station =
                        if number % 4 == 0 { format!("{prefix}-{producer}-{}", number % 16) } else { prefix.clone() };
                    let path = format!("/stations/{station}/produce/single");
                    let bytes = gateway.authorized("POST", &path, &[("Content-Type", "text/plain")], b"x");
                    http.exchange(&bytes).is_json(200, OK);
                    number += 1;
                }
            });
        }
        for _ in 0..16 {
            scope.spawn(|| {
                while Instant::now() < stop {
                    let body = json!({"username": "root", "password": ROOT_PASSWORD}).to_string();
                    let response = gateway.authenticate(&body);
                    if response.status != 200 {
                        // Passwords are slow to hash: so many at a time, and no more.
                        assert!(matches!(response.status, 429 | 503), "{}", response.text());
                        assert!(response.header("retry-after").is_some(), "{}", response.head);
                    }
                }
            });
        }
    });
    gateway.single(&prefix, "text/plain", b"still here").is_json(200, OK);
}

fn defect_04_every_login_leaks_a_broker_connection(setup: Setup) {
    let server = NatsServer::with_config("http: \"127.0.0.1:-1\"\nmax_connections: 12\n");
    let gateway = Plan::new(setup).nats_url(&server.url()).start();
    for user in ["root", "ROOT", "Root", "root$1"].iter().cycle().take(30) {
        gateway.login(user, ROOT_PASSWORD);
    }
    // With one connection a login, the broker would have run out of them.
    drop(Broker::connect(&server));
    gateway.single("leak", "text/plain", b"x").is_json(200, OK);
}

fn defect_07_panic_by_a_token_without_claims(gateway: &Gateway) {
    let good = gateway.token();
    let names: Vec<String> = token::claims(good).as_object().unwrap().keys().cloned().collect();
    let wrong = [json!(null), json!(5), json!("5"), json!(1.5), json!([]), json!({}), json!(true)];
    for name in names {
        let without = token::forge(good, ACCESS_SECRET, |claims| drop(claims.as_object_mut().unwrap().remove(&name)));
        unauthorized_unless_harmless(gateway, &without, &name);
        for value in &wrong {
            let jwt = token::forge(good, ACCESS_SECRET, |claims| claims[&name] = value.clone());
            unauthorized_unless_harmless(gateway, &jwt, &name);
        }
    }
    let exp = json!(4_000_000_000_u64);
    for claims in [
        json!({"exp": exp}),
        json!({"exp": exp, "username": "root"}),
        json!({"exp": exp, "connection_token": "x", "token_exp": exp}),
        json!({"exp": exp, "username": "root", "password": ROOT_PASSWORD}),
        json!({"exp": exp, "username": null, "password": null, "account_id": null}),
    ] {
        let jwt = token::sign(Algorithm::HS256, &claims, ACCESS_SECRET);
        produce(gateway, &jwt).is_json(401, UNAUTHORIZED);
    }
    gateway.single("claims", "text/plain", b"still here").is_json(200, OK);
}

/// A claim that says nothing about who asks (when it was issued, its id) may be missing or odd.
fn unauthorized_unless_harmless(gateway: &Gateway, jwt: &str, claim: &str) {
    let response = produce(gateway, jwt);
    if !matches!(claim, "iat" | "nbf" | "jti" | "iss") {
        assert_eq!((response.status, response.text()), (401, UNAUTHORIZED), "{claim}: {}", token::claims(jwt));
    }
    assert!(matches!(response.status, 200 | 401), "{claim}");
}

fn produce(gateway: &Gateway, jwt: &str) -> http::Response {
    let bearer = format!("Bearer {jwt}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
    http::once(gateway.address(), "POST", "/stations/claims/produce/single", &headers, b"x")
}

fn defect_08_password_in_the_token_and_token_in_the_stream(gateway: &Gateway) {
    let body = json!({"username": "root", "password": ROOT_PASSWORD}).to_string();
    let answer = gateway.authenticate(&body).json();
    for key in ["jwt", "jwt_refresh_token"] {
        let claims = token::claims(answer[key].as_str().unwrap()).to_string();
        for secret in [ROOT_PASSWORD, ACCESS_SECRET, "password", "connection_token"] {
            assert!(!claims.contains(secret), "{secret} in {claims}");
        }
    }
    let station = unique("leaky");
    gateway.single(&station, "text/plain", b"x").is_json(200, OK);
    let target = format!("/stations/{station}/produce/single?authorization={}", gateway.token());
    http::once(gateway.address(), "POST", &target, &[("Content-Type", "text/plain")], b"x").is_json(200, OK);
    let consumed = gateway.consume(&station, "{\"consumer_name\":\"c\",\"batch_size\":2}");
    let stored = format!("{:?}{}", stored(gateway, &station), consumed.text());
    assert!(!stored.to_lowercase().contains("authorization") && !stored.contains(gateway.token()), "{stored}");
}

fn defect_09_token_without_username_is_root(gateway: &Gateway) {
    for claims in [json!({"exp": 4_000_000_000_u64}), json!({"exp": 4_000_000_000_u64, "account_id": 1})] {
        produce(gateway, &token::sign(Algorithm::HS256, &claims, ACCESS_SECRET)).is_json(401, UNAUTHORIZED);
    }
    for secret in ["", " ", "JWT_TEST_PURPOSE", "secret"] {
        let jwt = token::sign(Algorithm::HS256, &token::claims(gateway.token()), secret);
        produce(gateway, &jwt).is_json(401, UNAUTHORIZED);
    }
}

#[test]
fn defect_09_empty_jwt_secret_accepted() {
    let dir = scratch("empty-secret");
    let mut command = bare_command(dir.path());
    command.args(["config", "check"]).env("ROOT_PASSWORD", ROOT_PASSWORD);
    command.env("JWT_SECRET", "").env("REFRESH_JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let output = with_input(command, "");
    assert_eq!(output.status.code(), Some(64), "{}", String::from_utf8_lossy(&output.stderr));
}

fn defect_10_client_headers_obeyed_by_jetstream(gateway: &Gateway) {
    let station = unique("obeyed");
    let path = format!("/stations/{station}/produce/single");
    gateway.single(&station, "text/plain", b"0").is_json(200, OK);
    for (number, (name, value)) in [
        ("Nats-Rollup", "all"),
        ("Nats-Expected-Stream", "elsewhere"),
        ("Nats-Expected-Last-Sequence", "4711"),
        ("Nats-Expected-Last-Subject-Sequence", "4711"),
        ("Nats-Expected-Last-Msg-Id", "nobody"),
        ("Nats-TTL", "1s"),
        ("nats-ttl", "never"),
        ("Nats-Marker-Reason", "Purge"),
        ("Nats-Incr", "+1"),
        ("Nats-Batch-Id", "b"),
        ("Nats-Schedule", "@at 2030-01-01T00:00:00Z"),
        ("Connection", "x-hop"),
        ("Keep-Alive", "timeout=1"),
        ("TE", "trailers"),
    ]
    .iter()
    .enumerate()
    {
        let headers = [("Content-Type", "text/plain"), (*name, *value)];
        gateway.post(&path, &headers, (number + 1).to_string().as_bytes()).is_json(200, OK);
    }
    let records = stored(gateway, &station);
    let expect: Vec<String> = (0..15).map(|number| number.to_string()).collect();
    assert_eq!(records.iter().map(|record| record.text().to_owned()).collect::<Vec<_>>(), expect);
    assert!(records.iter().all(|record| record.headers.keys().eq(["Content-Type"])), "{records:?}");
}

fn defect_11_expiry_arithmetic(gateway: &Gateway) {
    for minutes in [153_722_867_u64, 153_722_868, 9_223_372_036_854_775, u64::from(u32::MAX), i64::MAX as u64] {
        let body = json!({
            "username": "root", "password": ROOT_PASSWORD,
            "token_expiry_in_minutes": minutes, "refresh_token_expiry_in_minutes": minutes
        });
        let response = gateway.authenticate(&body.to_string());
        if response.status == 400 {
            continue;
        }
        assert_eq!(response.status, 200, "{minutes}: {}", response.text());
        let answer = response.json();
        assert!(answer["expires_in"].as_i64().is_some_and(|ms| ms > 0), "{minutes}: {answer}");
        produce(gateway, answer["jwt"].as_str().unwrap()).is_json(200, OK);
    }
    let body = json!({"username": "root", "password": ROOT_PASSWORD, "token_expiry_in_minutes": 1}).to_string();
    let answer = gateway.authenticate(&body).json();
    assert_eq!((&answer["expires_in"], &answer["refresh_token_expires_in"]), (&json!(60_000), &json!(18_000_000)));
}

fn defect_12_client_mistakes_as_500(gateway: &Gateway) {
    gateway.single("mistakes", "image/png", b"x").is_error(415);
    gateway.batch("mistakes", "{}").is_error(400);
    gateway.batch("mistakes", "nonsense").is_error(400);
    gateway.single("-mistakes", "text/plain", b"x").is_error(400);
    let headers = [("Content-Type", "application/json")];
    for body in ["nonsense", "", "[1]", "{\"jwt_refresh_token\":5}"] {
        let response = http::once(gateway.address(), "POST", "/auth/refreshToken", &headers, body.as_bytes());
        assert_eq!(response.status, 400, "{body:?}: {}", response.text());
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
}

fn defect_13_content_type_matched_by_text(gateway: &Gateway) {
    let path = "/stations/matched/produce/batch";
    gateway.post(path, &[("Content-Type", "application/json; charset=utf-8")], b"[1]").is_json(200, OK);
    for content_type in ["application/context", "image/x-text", "application/jsonp", "application/json-seq", "context"]
    {
        gateway.single("matched", content_type, b"x").is_error(415);
    }
}

fn defect_14_batch_stops_at_first_and_re_serialises(gateway: &Gateway) {
    let station = unique("exact");
    let elements =
        ["{\"z\":1,\"a\":9007199254740993,\"z\":1.0}", "[ 1e21 ]", "\"<&>\"", "7", "{\"lsn\": 18446744073709551615 }"];
    gateway.batch(&station, &format!("[{}]", elements.join(","))).is_json(200, OK);
    assert_eq!(texts(gateway, &station), elements);
    if gateway.setup().backend == Backend::Nats {
        // One record in the middle cannot be stored; those behind it are tried all the same.
        let large = unique("middle");
        let mut broker = Broker::connect(gateway.nats());
        broker.create_stream(&large, &large, &json!({"max_msg_size": 500}));
        let response = gateway.batch(&large, &format!("[1,\"{}\",3]", "x".repeat(600)));
        assert_eq!(response.status, 400);
        let result = response.json();
        assert_eq!(
            (&result["sent"], &result["fail"], &result["success"]),
            (&json!(2), &json!(1), &json!(false)),
            "{result}"
        );
        assert!(response.text().starts_with("{\"errors\":[\""), "{}", response.text());
        assert_eq!(texts(gateway, &large), ["1", "3"]);
    }
}

fn defect_15_corrupt_gzip_stored_with_200(gateway: &Gateway) {
    let station = unique("gzip");
    let path = format!("/stations/{station}/produce/single");
    let headers = [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")];
    let whole = crate::contract_produce::compressed("gzip", b"the message");
    gateway.post(&path, &headers, &whole[..whole.len() - 4]).is_error(400);
    gateway.post(&path, &headers, &whole).is_json(200, OK);
    let records = stored(gateway, &station);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].text(), "the message");
    assert!(records[0].headers.keys().eq(["Content-Type"]), "{records:?}");
}

fn defect_16_acknowledged_before_delivery(setup: Setup) {
    let gateway = Gateway::start(setup);
    // The group exists, and has read all there is.
    gateway.single("delivered", "text/plain", b"0").is_json(200, OK);
    drain(&gateway, "delivered", "g");
    // A client asks, waits, and is gone before the message comes.
    let body = b"{\"consumer_name\":\"g\",\"consumer_group\":\"g\",\"batch_size\":1,\"batch_max_wait_time_ms\":3000}";
    let headers = [("Content-Type", "application/json")];
    for _ in 0..3 {
        let mut gone = Http::connect(gateway.address());
        gone.send(&gateway.authorized("POST", "/stations/delivered/consume/batch", &headers, body));
        thread::sleep(Duration::from_millis(200));
        socket2::SockRef::from(gone.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    }
    gateway.single("delivered", "text/plain", b"1").is_json(200, OK);
    let again = eventually("the message comes to somebody who is there", Duration::from_secs(45), || {
        let got = drain(&gateway, "delivered", "g");
        (!got.is_empty()).then_some(got)
    });
    assert_eq!(again.iter().map(|record| record.text().to_owned()).collect::<Vec<_>>(), ["1"]);
}

fn defect_16_settings_frozen_per_consumer_name(gateway: &Gateway) {
    let station = unique("frozen");
    gateway.batch(&station, "[1,2]").is_json(200, OK);
    let read = |group: &str, wait: u32| {
        let body = json!({"consumer_name": "same", "consumer_group": group, "batch_max_wait_time_ms": wait});
        let start = Instant::now();
        let count = gateway.consume(&station, &body.to_string()).json().as_array().unwrap().len();
        (count, start.elapsed())
    };
    assert_eq!((read("one", 500).0, read("two", 500).0), (2, 2));
    let (short, long) = (read("one", 200).1, read("one", 3_000).1);
    assert!(short < long && long > Duration::from_millis(2_900), "{short:?} {long:?}");
}

fn defect_16_lossy_utf_8(gateway: &Gateway) {
    let station = unique("lossy");
    gateway.single(&station, "application/octet-stream", b"\x00\xff\xfe").is_json(200, OK);
    let message = gateway.consume(&station, "{\"consumer_name\":\"c\",\"batch_size\":1}").json();
    assert_eq!((&message[0]["message"], &message[0]["encoding"]), (&json!("AP/+"), &json!("base64")));
}

fn defect_17_error_text_rewritten_in_user_data(gateway: &Gateway) {
    let response = gateway.batch("natschema", "[nats]");
    let text = response.is_error(400);
    assert!(!text.contains("memphis"), "{text}");
    for text in [text, gateway.single("nats-nats-", "text/plain", b"x").is_error(400)] {
        assert!(!text.contains("memphis") && !text.contains("/src/") && !text.contains("file://"), "{text}");
    }
}

#[test]
fn defect_17_error_text_rewritten_in_station_names() {
    let gateway = Plan::new(Setup::LOCAL_EPOLL).config("[stations]\nauto_create = false").start();
    let text = gateway.single("natschema", "text/plain", b"x").is_error(404);
    assert!(text.contains("natschema"), "{text}");
}

fn defect_19_health_check_lies_and_port_waits_for_the_broker(setup: Setup) {
    let mut server = NatsServer::not_yet_started();
    let mut gateway = Plan::new(setup).nats_url(&server.url()).config("[limits]\nhold = \"500ms\"").prepare();
    gateway.restart_without_waiting();
    let status = eventually("the port is open without a broker", PATIENCE, || {
        Http::try_connect(gateway.address())
            .ok()
            .map(|mut http| http.exchange(&request("GET", "/monitoring/status", &[], b"")))
    });
    status.is(200, "{\"status\":\"ok\"}");
    assert_eq!(gateway.readiness(), Some(503), "and says that it is not ready");
    server.restart();
    gateway.wait_ready();
    gateway.single("late", "text/plain", b"1").is_json(200, OK);
    // Twice, and the second time for longer than one attempt.
    for (number, pause) in [(2, 100), (3, 6_000)] {
        server.kill9();
        eventually("not ready", PATIENCE, || (gateway.readiness() == Some(503)).then_some(()));
        thread::sleep(Duration::from_millis(pause));
        server.restart();
        gateway.wait_ready();
        gateway.single("late", "text/plain", number.to_string().as_bytes()).is_json(200, OK);
    }
    assert_eq!(Broker::connect(&server).count("late"), 3);
}

fn defect_20_head_of_4_kib(setup: Setup) {
    let gateway = Gateway::start(setup);
    let padding = "x".repeat(14_000);
    let headers = [("Content-Type", "text/plain"), ("Cookie", padding.as_str())];
    gateway.post("/stations/fat/produce/single", &headers, b"x").is_json(200, OK);
}

#[test]
fn defect_22_quoted_booleans_are_false_and_a_missing_file_disables_the_environment() {
    let dir = scratch("environment");
    let check = |action: &str, variables: &[(&str, &str)]| {
        let mut command = bare_command(dir.path());
        command.args(["config", action]).envs(variables.iter().copied());
        let output = with_input(command, "");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for value in ["true", "\"true\"", "'true'", "TRUE", "1"] {
        let (code, text) = check("check", &[("USER_PASS_BASED_AUTH", value)]);
        assert_eq!(code, Some(0), "{value}: {text}");
    }
    for value in ["false", "\"false\"", "perhaps"] {
        let (code, text) = check("check", &[("USER_PASS_BASED_AUTH", value)]);
        assert_eq!(code, Some(64), "{value}: {text}");
    }
    // No configuration file anywhere near, and a broker whose port is not 6666.
    let variables = [("HTTP_PORT", "4455"), ("MEMPHIS_HOST", "broker.test:4223"), ("JWT_EXPIRES_IN_MINUTES", "\"30\"")];
    let (code, text) = check("print", &variables);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(":4455") && text.contains("broker.test:4223") && text.contains("30m"), "{text}");
}

fn defect_23_encoded_slash_misroutes(gateway: &Gateway) {
    let station = unique("misrouted");
    for escaped in ["%2Fb", "%2fb", "%2Fproduce%2Fsingle"] {
        gateway.single(&format!("{station}{escaped}"), "text/plain", b"astray").is_error(400);
    }
    gateway.single(&station, "text/plain", b"its own").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["its own"]);
}

fn defect_23_trailing_slash_is_unauthorized(gateway: &Gateway) {
    let body = json!({"username": "root", "password": ROOT_PASSWORD}).to_string();
    let headers = [("Content-Type", "application/json")];
    let response = http::once(gateway.address(), "POST", "/auth/authenticate/", &headers, body.as_bytes());
    assert_eq!(response.status, 200, "{}", response.text());
}

fn defect_24_account_parsing_ignores_errors(gateway: &Gateway) {
    let headers = [("Content-Type", "application/json")];
    let login = |query: &str, body: &Value| {
        let target = format!("/auth/authenticate{query}");
        http::once(gateway.address(), "POST", &target, &headers, body.to_string().as_bytes())
    };
    for user in ["root$x", "root$", "root$1x", "root$-1", "root$1$2", "root$99999999999999999999"] {
        let response = login("", &json!({"username": user, "password": ROOT_PASSWORD}));
        assert!(matches!(response.status, 400 | 401), "{user}: {}", response.status);
    }
    for account in [json!(1.5), json!(-1), json!(1e300), json!("1"), json!(true)] {
        let body = json!({"username": "root", "password": ROOT_PASSWORD, "account_id": account});
        let response = login("", &body);
        assert!(matches!(response.status, 400 | 401), "{account}: {}", response.status);
    }
    for query in ["?accountId=x", "?accountId=1x", "?accountId=-1", "?accountId=99999999999999999999"] {
        let response = login(query, &json!({"username": "root", "password": ROOT_PASSWORD}));
        assert!(matches!(response.status, 400 | 401), "{query}: {}", response.status);
    }
}
