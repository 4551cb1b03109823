//! The admin listener over a real socket, with raw HTTP, on a registry in memory.

use super::{bind, serve};
use crate::{
    control::tests::support::{Gate, service_in_memory},
    limits::CONTROL_BODY_BYTES_MAX,
    rt::clock,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::Ordering,
    time::Duration,
};

/// Time in which a listener that has nothing else to do sees that a client has gone.
const HANG_UP_SEEN: Duration = Duration::from_millis(300);

/// A listener on a thread of its own.
struct Admin {
    address: SocketAddr,
    control: flume::Sender<fn(&Knobs)>,
    /// Where stations are made.
    gate: Gate,
}

/// What readiness is made of.
struct Knobs {
    draining: std::sync::Arc<std::sync::atomic::AtomicBool>,
    store: std::sync::Arc<crate::metrics::StoreMetrics>,
}

impl Admin {
    fn start() -> Self {
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("free");
        let address = listener.local_addr().expect("an address");
        let (control, turns) = flume::bounded::<fn(&Knobs)>(1);
        let gate = Gate::default();
        let its_gate = gate.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (service, draining, store) = service_in_memory(its_gate);
                let knobs = Knobs { draining, store };
                // Answered once the registry was read.
                service.users().await.expect("users");
                tokio::spawn(serve(listener, service));
                while let Ok(turn) = turns.recv_async().await {
                    turn(&knobs);
                }
            });
        });
        Self { address, control, gate }
    }

    fn turn(&self, knob: fn(&Knobs)) {
        self.control.send(knob).expect("the listener runs");
        // The channel holds one: the second turn is taken after the first has worked.
        self.control.send(|_| {}).expect("the listener runs");
        self.control.send(|_| {}).expect("the listener runs");
    }

    /// Sends bytes, reads until the end.
    fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        // The other side may have closed already, with an answer.
        let _refused_early = stream.write_all(request);
        let mut bytes = Vec::new();
        let _reset = stream.read_to_end(&mut bytes);
        Reply::parse(&bytes)
    }

    fn send(&self, method: &str, path: &str, credentials: Option<&str>, body: Option<&str>) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n");
        if let Some(credentials) = credentials {
            request.extend(["Authorization: Basic ", &STANDARD.encode(credentials), "\r\n"]);
        }
        if let Some(body) = body {
            let length = body.len().to_string();
            request.extend(["Content-Type: application/json\r\nContent-Length: ", &length, "\r\n\r\n", body]);
        } else {
            request += "\r\n";
        }
        self.raw(request.as_bytes())
    }

    fn root(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        self.send(method, path, Some("root:memphis-root"), body)
    }
}

/// An answer, taken apart.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Checks that this is a problem of RFC 9457 and answers its detail.
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        problem["detail"].as_str().expect("a detail").to_owned()
    }
}

#[test]
fn health_readiness_and_metrics_are_open() {
    let admin = Admin::start();
    let healthy = admin.send("GET", "/healthz", None, None);
    assert_eq!((healthy.status, healthy.body.trim_end()), (200, "ok"));
    let ready = admin.send("GET", "/readyz", None, None);
    assert_eq!((ready.status, ready.json()), (200, json!({"ready": true, "reasons": []})));
    let metrics = admin.send("GET", "/metrics", None, None);
    assert_eq!(metrics.status, 200);
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    for line in ["# TYPE sluicegate_requests_total counter\n", "\nsluicegate_shards 1\n", "\nprocess_open_fds "] {
        assert!(metrics.body.contains(line), "{line:?} in {}", metrics.body);
    }
    assert_eq!(admin.send("HEAD", "/healthz", None, None).status, 200);
}

#[test]
fn readiness_names_what_is_missing() {
    let admin = Admin::start();
    admin.turn(|knobs| knobs.draining.store(true, Ordering::Relaxed));
    let draining = admin.send("GET", "/readyz", None, None);
    assert_eq!((draining.status, draining.json()), (503, json!({"ready": false, "reasons": ["draining"]})));
    admin.turn(|knobs| {
        knobs.draining.store(false, Ordering::Relaxed);
        knobs.store.read_only.set(1);
    });
    assert_eq!(admin.send("GET", "/readyz", None, None).json()["reasons"], json!(["store read-only"]));
    // Dead it is not.
    assert_eq!(admin.send("GET", "/healthz", None, None).status, 200);
}

#[test]
fn the_api_wants_root() {
    let admin = Admin::start();
    for credentials in [None, Some("root:wrong"), Some("ann:memphis-root"), Some(":"), Some("root")] {
        for (method, path) in [
            ("GET", "/api/v1/users"),
            ("POST", "/api/v1/users"),
            ("DELETE", "/api/v1/users/ann"),
            ("PUT", "/api/v1/users/ann/password"),
            ("GET", "/api/v1/nothing"),
        ] {
            let refused = admin.send(method, path, credentials, None);
            refused.problem(401);
            assert!(refused.head.contains("www-authenticate: basic realm="), "{refused:?}");
        }
    }
    assert_eq!(admin.send("GET", "/api/v1/users", Some("ROOT:memphis-root"), None).status, 200);
    admin.root("GET", "/api/v1/nothing", None).problem(404);
    admin.send("GET", "/nothing", None, None).problem(404);
    admin.send("DELETE", "/metrics", None, None).problem(405);
    let wrong_method = admin.root("DELETE", "/api/v1/users", None);
    wrong_method.problem(405);
    assert!(wrong_method.head.contains("allow: get"), "{wrong_method:?}");
}

#[test]
fn users_come_and_go() {
    let admin = Admin::start();
    let root = json!({"name": "root", "account": 1, "produce": ["*"], "consume": ["*"], "root": true});
    assert_eq!(admin.root("GET", "/api/v1/users", None).json(), json!({ "users": [root] }));
    let added = admin.root(
        "POST",
        "/api/v1/users",
        Some(r#"{"name":"Ann","password":"long enough","produce":["Prod.*"],"consume":[]}"#),
    );
    let ann = json!({"name": "ann", "account": 1, "produce": ["prod.*"], "consume": [], "root": false});
    assert_eq!((added.status, added.json()), (201, ann.clone()));
    let bob = admin.root("POST", "/api/v1/users", Some(r#"{"name":"b.ob","password":"long enough"}"#));
    let bob_view = json!({"name": "b.ob", "account": 1, "produce": ["*"], "consume": ["*"], "root": false});
    assert_eq!((bob.status, bob.json()), (201, bob_view.clone()));
    let listed = admin.root("GET", "/api/v1/users", None);
    assert_eq!(listed.json(), json!({ "users": [root, ann, bob_view] }));
    assert!(!listed.body.contains("argon2"));
    let again = admin.root("POST", "/api/v1/users", Some(r#"{"name":"ANN","password":"long enough"}"#));
    assert!(again.problem(409).contains("there is a user"));
    let changed = admin.root("PUT", "/api/v1/users/ann/password", Some(r#"{"password":"other password"}"#));
    assert_eq!((changed.status, changed.body.as_str()), (204, ""));
    assert_eq!(admin.root("DELETE", "/api/v1/users/b%2Eob", None).status, 204);
    admin.root("DELETE", "/api/v1/users/b.ob", None).problem(404);
    admin.root("PUT", "/api/v1/users/b.ob/password", Some(r#"{"password":"other password"}"#)).problem(404);
    assert_eq!(admin.root("GET", "/api/v1/users", None).json(), json!({ "users": [root, ann] }));
    assert!(admin.root("DELETE", "/api/v1/users/Root", None).problem(409).contains("configuration"));
    let changed = admin.root("PUT", "/api/v1/users/root/password", Some(r#"{"password":"other password"}"#));
    assert!(changed.problem(409).contains("configuration"));
    let taken = admin.root("POST", "/api/v1/users", Some(r#"{"name":"root","password":"long enough"}"#));
    assert!(taken.problem(409).contains("configuration"));
}

#[test]
fn a_users_rights_change_if_the_user_is_what_was_seen() {
    let admin = Admin::start();
    let ann = Some(r#"{"name":"ann","password":"long enough","produce":["a"],"consume":["b"]}"#);
    let added = admin.root("POST", "/api/v1/users", ann);
    assert!(added.head.contains("\r\nlocation: /api/v1/users/ann"), "{added:?}");
    let tag_of = |reply: &Reply| {
        let at = reply.head.split("\r\netag: ").nth(1).expect("a tag");
        at.split("\r\n").next().expect("a line").to_owned()
    };
    let with = |method: &str, path: &str, field: &str, body: &str| {
        let length = body.len();
        admin.raw(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Basic cm9vdDptZW1waGlzLXJvb3Q=\r\n\
                 {field}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )
    };
    let path = "/api/v1/users/ann";
    let shown = admin.root("GET", path, None);
    assert_eq!((shown.status, shown.json()["consume"].clone()), (200, json!(["b"])));
    let seen = tag_of(&shown);
    let again = with("GET", path, &format!("If-None-Match: {seen}"), "");
    assert_eq!((again.status, again.body.as_str(), tag_of(&again)), (304, "", seen.clone()));
    let changed = with("PATCH", path, &format!("If-Match: {seen}"), r#"{"produce":["A.*"]}"#);
    assert_eq!(
        (changed.status, &changed.json()["produce"], &changed.json()["consume"]),
        (200, &json!(["a.*"]), &json!(["b"]))
    );
    assert_ne!(tag_of(&changed), seen);
    for (method, path, body) in [
        ("PATCH", path, "{}"),
        ("DELETE", path, ""),
        ("PUT", "/api/v1/users/ann/password", r#"{"password":"long enough"}"#),
    ] {
        with(method, path, &format!("If-Match: {seen}"), body).problem(412);
    }
    with("DELETE", path, "If-Match: nonsense", "").problem(400);
    admin.root("PATCH", path, Some(r#"{"admin":true}"#)).problem(400);
    admin.root("PATCH", path, Some(r#"{"produce":["a b"]}"#)).problem(400);
    admin.root("PATCH", "/api/v1/users/root", Some("{}")).problem(409);
    admin.root("PATCH", "/api/v1/users/nobody", Some("{}")).problem(404);
    admin.root("GET", "/api/v1/users/%FF", None).problem(400);
    assert_eq!(with("DELETE", path, &format!("If-Match: {}", tag_of(&changed)), "").status, 204);
}

#[test]
fn a_change_is_made_to_its_end_although_its_client_hangs_up() {
    let admin = Admin::start();
    let is_there = || admin.root("GET", "/api/v1/stations/orders", None).status == 200;
    let closed = admin.gate.close();
    let mut client = TcpStream::connect(admin.address).expect("a connection");
    let request = b"POST /api/v1/stations HTTP/1.1\r\nHost: a\r\nAuthorization: Basic cm9vdDptZW1waGlzLXJvb3Q=\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"name\":\"orders\"}";
    client.write_all(request).expect("sent");
    // The registry says what the station is; its stream is not made yet.
    eventually(|| admin.gate.came() == 1);
    drop(client);
    std::thread::sleep(HANG_UP_SEEN);
    assert!(!is_there());
    drop(closed);
    eventually(is_there);
}

/// Waits until something holds.
fn eventually(holds: impl Fn() -> bool) {
    let began = clock::now();
    while !holds() {
        assert!(clock::since(began) < Duration::from_secs(30), "not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_description_is_open_and_served_whole() {
    let admin = Admin::start();
    let description = admin.send("GET", "/openapi.json", None, None);
    assert_eq!(description.status, 200);
    assert!(description.head.contains("content-type: application/json"), "{}", description.head);
    assert!(description.json()["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let admin = Admin::start();
    let long = format!(r#"{{"name":"ann","password":"{}"}}"#, "x".repeat(129));
    let many = format!(r#"{{"name":"ann","password":"long enough","produce":[{}"a"]}}"#, "\"a\",".repeat(300));
    for (body, expect) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "invalid"),
        (r#"{"password":"long enough"}"#, "name"),
        (r#"{"name":"ann"}"#, "password"),
        (r#"{"name":"ann","password":7}"#, "string"),
        (r#"{"name":"ann","password":"short"}"#, "at least 8"),
        (r#"{"name":"ann.bee","password":"Ann.Bee"}"#, "at least 8"),
        (r#"{"name":"long.enough","password":"Long.Enough"}"#, "must not be the user's name"),
        (long.as_str(), "at most 128"),
        (r#"{"name":"","password":"long enough"}"#, "can not be empty"),
        (r#"{"name":"a b","password":"long enough"}"#, "Only alphanumeric"),
        (r#"{"name":"-ann","password":"long enough"}"#, "start or end"),
        (r#"{"name":"ann","password":"long enough","produce":["a b"]}"#, "produce: station pattern"),
        (r#"{"name":"ann","password":"long enough","consume":"*"}"#, "sequence"),
        (r#"{"name":"ann","password":"long enough","admin":true}"#, "admin"),
        (many.as_str(), "at most"),
    ] {
        let detail = admin.root("POST", "/api/v1/users", Some(body)).problem(400);
        assert!(detail.contains(expect), "{body}: {detail}");
    }
    assert_eq!(admin.root("GET", "/api/v1/users", None).json()["users"].as_array().map(Vec::len), Some(1));
    // Without a media type a browser would send it for any page.
    let form = b"POST /api/v1/users HTTP/1.1\r\nHost: a\r\nAuthorization: Basic cm9vdDptZW1waGlzLXJvb3Q=\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    admin.raw(form).problem(415);
}

#[test]
fn heads_and_bodies_are_bounded() {
    let admin = Admin::start();
    let huge = format!(r#"{{"name":"ann","password":"{}"}}"#, "x".repeat(CONTROL_BODY_BYTES_MAX));
    admin.root("POST", "/api/v1/users", Some(&huge)).problem(413);
    // A schema may be larger: this one is read, and is none of a language that there is.
    let schema = format!(r#"{{"name":"s","type":"none","schema":"{}"}}"#, "x".repeat(CONTROL_BODY_BYTES_MAX));
    admin.root("POST", "/api/v1/schemas", Some(&schema)).problem(400);
    let head = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(admin.raw(head.as_bytes()).status, 431);
    let fields = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(70));
    assert_eq!(admin.raw(fields.as_bytes()).status, 431);
    assert_eq!(admin.raw(b"garbage\r\n\r\n").status, 400);
    assert_eq!(admin.send("GET", "/healthz", None, None).status, 200);
}

/// More than there are places, each with the beginning of a request that does not go on.
fn crowd(admin: &Admin, begun: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(admin.address).expect("a connection");
        stream.write_all(begun).expect("sent");
        stream
    };
    (0..100).map(connect).collect()
}

#[test]
fn f9_heads_that_do_not_come_keep_nobody_from_health() {
    let admin = Admin::start();
    let slow = crowd(&admin, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ");
    let began = clock::now();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(admin.send("GET", path, None, None).status, 200);
    }
    assert!(clock::since(began) < Duration::from_secs(5), "no deadline had to pass: {:?}", clock::since(began));
    drop(slow);
}

#[test]
fn f9_bodies_that_do_not_come_keep_nobody_from_health() {
    let admin = Admin::start();
    let half = b"POST /api/v1/users HTTP/1.1\r\nHost: a\r\nAuthorization: Basic cm9vdDptZW1waGlzLXJvb3Q=\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let slow = crowd(&admin, half);
    let began = clock::now();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(admin.send("GET", path, None, None).status, 200);
    }
    let crowded = admin.root("GET", "/api/v1/users", None);
    assert!(clock::since(began) < Duration::from_secs(10), "no deadline had to pass: {:?}", clock::since(began));
    crowded.problem(503);
    drop(slow);
}
