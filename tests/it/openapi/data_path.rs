//! The data port's routes, by the same description.

use crate::support::{
    PATIENCE, eventually,
    gateway::{Gateway, Plan, ROOT_PASSWORD, ROOT_USER},
    http::{self, Http, Response},
    openapi::Description,
    ports,
    sse::Events,
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

const SINGLE: &str = "/stations/{name}/produce/single";
const BATCH: &str = "/stations/{name}/produce/batch";
const STREAM: &str = "/stations/{name}/produce/stream";
const CONSUME: &str = "/stations/{name}/consume/batch";
const AUTHENTICATE: &str = "/auth/authenticate";
const REFRESH: &str = "/auth/refreshToken";
const TAIL: &str = "/stations/{name}/tail";
const RECORDS: &str = "/stations/{name}/records";
const STATUS: &str = "/monitoring/status";

const JSON: (&str, &str) = ("Content-Type", "application/json");
const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");

/// Everything but what needs the broker to be away.
pub(super) fn walk(gateway: &Gateway, description: &Description) {
    login(gateway, description);
    methods(gateway, description);
    produced(gateway, description);
    consumed(gateway, description);
    read_by_place(gateway, description);
    refused(gateway, description);
    bounded(gateway, description);
    unknown_users(gateway, description);
}

#[track_caller]
fn ask(
    gateway: &Gateway,
    description: &Description,
    (method, template): (&str, &str),
    station: &str,
    fields: &[(&str, &str)],
    body: &[u8],
    status: u16,
) -> Response {
    let target = template.replace("{name}", station);
    let response = http::once(gateway.address(), method, &target, fields, body);
    assert_eq!(response.status, status, "{method} {target}: {}", response.text());
    description.holds(method, template, &response);
    response
}

/// Produces as root; `route` is `single`, `batch` or `stream`. A stream is to be refused.
#[track_caller]
pub(super) fn produce(
    gateway: &Gateway,
    description: &Description,
    station: &str,
    route: &str,
    fields: &[(&str, &str)],
    body: &str,
    status: u16,
) -> Response {
    let bearer = format!("Bearer {}", gateway.token());
    let mut all = vec![("Authorization", bearer.as_str())];
    all.extend(fields);
    if !fields.iter().any(|(name, _)| *name == "Content-Type") {
        all.push(if route == "stream" { NDJSON } else { JSON });
    }
    let template = match route {
        "single" => SINGLE,
        "stream" => STREAM,
        _ => BATCH,
    };
    ask(gateway, description, ("POST", template), station, &all, body.as_bytes(), status)
}

/// Consumes as root.
#[track_caller]
pub(super) fn consume(
    gateway: &Gateway,
    description: &Description,
    station: &str,
    body: &str,
    status: u16,
) -> Response {
    let bearer = format!("Bearer {}", gateway.token());
    let fields = [("Authorization", bearer.as_str()), JSON];
    ask(gateway, description, ("POST", CONSUME), station, &fields, body.as_bytes(), status)
}

fn login(gateway: &Gateway, description: &Description) {
    let post = |path: &str, body: &str, status| {
        ask(gateway, description, ("POST", path), "", &[JSON], body.as_bytes(), status)
    };
    let good = json!({"username": ROOT_USER, "password": ROOT_PASSWORD}).to_string();
    let pair = post(AUTHENTICATE, &good, 200).json();
    post(AUTHENTICATE, "{}", 400);
    post(AUTHENTICATE, "{\"username\":7}", 400);
    post(AUTHENTICATE, "{\"username\":\"root\",\"password\":\"wrong\"}", 401);
    let refresh = json!({"jwt_refresh_token": pair["jwt_refresh_token"]}).to_string();
    post(REFRESH, &refresh, 200);
    post(REFRESH, "[]", 400);
    post(REFRESH, "{\"jwt_refresh_token\":\"x\"}", 401);
    let large = format!("{{\"username\":\"{}\"}}", "x".repeat(64 * 1024));
    post(AUTHENTICATE, &large, 413);
    post(REFRESH, &large, 413);
    for path in [AUTHENTICATE, REFRESH] {
        ask(gateway, description, ("POST", path), "", &[JSON, ("Content-Encoding", "br")], b"{}", 415);
    }
    for _ in 0..10 {
        post(AUTHENTICATE, "{\"username\":\"guessed\",\"password\":\"guess\"}", 401);
    }
    post(AUTHENTICATE, "{\"username\":\"guessed\",\"password\":\"guess\"}", 429);
}

fn methods(gateway: &Gateway, description: &Description) {
    ask(gateway, description, ("GET", STATUS), "", &[], b"", 200);
    let bearer = format!("Bearer {}", gateway.token());
    for template in [AUTHENTICATE, REFRESH, SINGLE, BATCH, STREAM, CONSUME, TAIL, RECORDS, STATUS] {
        let target = template.replace("{name}", "kept");
        let reads = [TAIL, RECORDS, STATUS].contains(&template);
        let (wrong, documented) = if reads { ("DELETE", "GET") } else { ("GET", "POST") };
        let response = http::once(gateway.address(), wrong, &target, &[("Authorization", &bearer)], b"");
        assert_eq!(response.status, 405, "{wrong} {target}");
        description.holds(documented, template, &response);
    }
}

fn produced(gateway: &Gateway, description: &Description) {
    let receipts = ("Prefer", "return=representation");
    produce(gateway, description, "described", "single", &[], "1", 200);
    produce(gateway, description, "described", "batch", &[], "[1,2]", 200);
    let one = produce(gateway, description, "described", "single", &[receipts], "1", 200);
    let many = produce(gateway, description, "described", "batch", &[receipts, ("Idempotency-Key", "k")], "[1,2]", 200);
    for (response, records) in [(one, 1), (many, 2)] {
        assert!(response.header("preference-applied").is_some(), "{}", response.head);
        assert_eq!(response.json()["receipts"].as_array().map(Vec::len), Some(records));
    }
    produce(gateway, description, "a%20b", "single", &[], "1", 400);
    produce(gateway, description, "described", "batch", &[], "[1,", 400);
    let image = [("Content-Type", "image/png")];
    produce(gateway, description, "described", "single", &image, "1", 415);
    produce(gateway, description, "described", "batch", &image, "[1]", 415);
    produce(gateway, description, "described", "stream", &image, "1", 415);
    produce(gateway, description, "a%20b", "stream", &[], "1", 400);
    streamed(gateway, description);
    let large = "x".repeat(9 * 1024);
    for (route, body) in [("single", "1"), ("batch", "[1]"), ("stream", "1")] {
        produce(gateway, description, "described", route, &[("X-Large", &large)], body, 431);
    }
}

/// The answer to a stream has no length: a client of HTTP/1.0 reads it up to the end of the connection.
fn streamed(gateway: &Gateway, description: &Description) {
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    let head =
        format!("POST /stations/described/produce/stream HTTP/1.0\r\nAuthorization: Bearer {}\r\n", gateway.token());
    write!(stream, "{head}Content-Length: 4\r\n\r\n1\nx\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.lines().count(), 3, "{answer}");
    let response = Response { status: 200, head: format!("{head}\r\n\r\n"), body: body.into() };
    assert!(response.head.starts_with("HTTP/1.1 200 "), "{answer}");
    description.holds("POST", STREAM, &response);
}

fn consumed(gateway: &Gateway, description: &Description) {
    let all =
        consume(gateway, description, "described", "{\"consumer_name\":\"c\",\"batch_max_wait_time_ms\":500}", 200);
    assert!(!all.json().as_array().unwrap().is_empty());
    consume(gateway, description, "described", "{}", 400);
    let bearer = format!("Bearer {}", gateway.token());
    let coded = [("Authorization", bearer.as_str()), JSON, ("Content-Encoding", "br")];
    ask(gateway, description, ("POST", CONSUME), "described", &coded, b"{}", 415);
    consume(gateway, description, "described", &format!("{{\"consumer_name\":\"{}\"}}", "x".repeat(64 * 1024)), 413);
}

/// Asks for what is read by place, as root.
#[track_caller]
pub(super) fn read(
    gateway: &Gateway,
    description: &Description,
    template: &str,
    target: &str,
    status: u16,
) -> Response {
    let bearer = format!("Bearer {}", gateway.token());
    let response = http::once(gateway.address(), "GET", target, &[("Authorization", bearer.as_str())], b"");
    assert_eq!(response.status, status, "GET {target}: {}", response.text());
    description.holds("GET", template, &response);
    response
}

/// What a gateway without its broker answers.
pub(super) fn read_without_broker(gateway: &Gateway, description: &Description) {
    for template in [TAIL, RECORDS] {
        read(gateway, description, template, &template.replace("{name}", "kept"), 503);
    }
}

fn read_by_place(gateway: &Gateway, description: &Description) {
    let page = read(gateway, description, RECORDS, "/stations/described/records", 200);
    assert!(!page.json().as_array().unwrap().is_empty());
    let mut tail = Events::follow(gateway, "described", "?from=first&limit=1", &[]);
    let event = tail.next();
    let body = format!("id: {}\ndata: {}\n\n", event.id, event.data).into_bytes();
    description.holds("GET", TAIL, &Response { status: 200, head: tail.head.clone(), body });
    for template in [TAIL, RECORDS] {
        let of = |station: &str| template.replace("{name}", station);
        read(gateway, description, template, &format!("{}?from=yesterday", of("described")), 400);
        read(gateway, description, template, &of("never.made"), 404);
    }
}

/// Who may not, and what is not there.
fn refused(gateway: &Gateway, description: &Description) {
    let posts = [(SINGLE, "1"), (BATCH, "[1]"), (STREAM, "1"), (CONSUME, "{\"consumer_name\":\"c\"}")];
    for (template, body) in posts {
        ask(gateway, description, ("POST", template), "described", &[JSON], body.as_bytes(), 401);
    }
    for template in [TAIL, RECORDS] {
        ask(gateway, description, ("GET", template), "described", &[], b"", 401);
    }
    let made = |rights: Value| {
        let root = super::root_basic();
        let fields = [("Authorization", root.as_str()), JSON];
        let made = http::once(gateway.admin(), "POST", "/api/v1/keys", &fields, rights.to_string().as_bytes());
        assert_eq!(made.status, 201, "{}", made.text());
        format!("Bearer {}", made.json()["key"].as_str().unwrap())
    };
    let elsewhere = made(json!({"produce": ["elsewhere"], "consume": ["elsewhere"]}));
    for (template, body) in posts {
        let fields = [("Authorization", elsewhere.as_str()), JSON];
        ask(gateway, description, ("POST", template), "described", &fields, body.as_bytes(), 403);
    }
    for template in [TAIL, RECORDS] {
        let fields = [("Authorization", elsewhere.as_str())];
        ask(gateway, description, ("GET", template), "described", &fields, b"", 403);
    }
    // Who may not produce may not make the station by consuming either.
    let reader = made(json!({"consume": ["*"]}));
    let fields = [("Authorization", reader.as_str()), JSON];
    ask(gateway, description, ("POST", CONSUME), "never.made", &fields, b"{\"consumer_name\":\"c\"}", 404);
}

/// A gateway that has not reached its broker yet does not know who there is.
fn unknown_users(gateway: &Gateway, description: &Description) {
    let mut blind = Plan::new(gateway.setup()).nats_url(&format!("nats://{}", ports::free())).prepare();
    blind.restart_without_waiting();
    eventually("the data port is open", PATIENCE, || Http::try_connect(blind.address()).ok());
    ask(&blind, description, ("POST", AUTHENTICATE), "", &[JSON], b"{\"username\":\"nobody\",\"password\":\"x\"}", 503);
}

/// What a gateway with narrower settings answers, by the same description.
fn bounded(gateway: &Gateway, description: &Description) {
    let strict = ("Prefer", "handling=strict");
    let split = Plan::new(gateway.setup()).config("stations.partitions = 2").start();
    produce(&split, description, "split", "batch", &[strict], "[1,2,3]", 501);
    drop(split);
    let narrow =
        Plan::new(gateway.setup()).config("stations.auto_create = false\nlimits.body_bytes_max = 65536").start();
    let large = format!("[{}]", "1,".repeat(40_000));
    for (route, body) in [("single", "1"), ("batch", "[1]")] {
        produce(&narrow, description, "never-made", route, &[], body, 404);
        produce(&narrow, description, "never-made", route, &[], &large, 413);
    }
    produce(&narrow, description, "never-made", "stream", &[], "1", 404);
    drop(narrow);
    let taken = Plan::new(gateway.setup()).config("limits.streams_per_principal_max = 1").shards(1).start();
    let mut stream = TcpStream::connect(taken.address()).unwrap();
    let head = format!("POST /stations/taken/produce/stream HTTP/1.1\r\nAuthorization: Bearer {}\r\n", taken.token());
    write!(stream, "{head}Host: t\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    produce(&taken, description, "taken", "stream", &[], "1", 429);
}
