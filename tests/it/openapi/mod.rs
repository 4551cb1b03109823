//! The description of the API is true: every response that it documents has been seen, of every route, and is what
//! it says.
//!
//! One test walks through all of them, because only together they are all: the admin routes here, the data port's in
//! [`data_path`], and in [`crowded`] what takes a crowd or a broker that will not.

mod crowded;
mod data_path;
mod wrong_types;

use crate::support::{
    PATIENCE,
    admin::basic,
    broker::Broker,
    eventually,
    gateway::{Gateway, Plan, ROOT_PASSWORD, ROOT_USER},
    http::{self, Http, Response},
    openapi::{Description, Operation},
    setup::Setup,
};
use serde_json::{Value, json};

/// The largest body, and the largest that adds a schema.
const BODY_BYTES_MAX: usize = 64 * 1024;
const SCHEMA_BODY_BYTES_MAX: usize = 2 * 1024 * 1024 + BODY_BYTES_MAX;

const JSON: (&str, &str) = ("Content-Type", "application/json");
const WRONG_TAG: (&str, &str) = ("If-Match", "\"of-nothing\"");

/// Root's credentials, as the admin listener takes them.
fn root_basic() -> String {
    basic(ROOT_USER, ROOT_PASSWORD)
}

/// A gateway, its description, and who asks.
struct Walk {
    gateway: Gateway,
    description: Description,
    root: String,
}

impl Walk {
    fn start() -> Self {
        let gateway = Plan::new(Setup::NATS_EPOLL).start();
        let description = Description::of(&gateway);
        Self { gateway, description, root: root_basic() }
    }

    /// A request to the admin listener with these fields alone, which must be answered so.
    #[track_caller]
    fn raw(
        &self,
        (method, template): (&str, &str),
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
        status: u16,
    ) -> Response {
        let mut http = Http::connect(self.gateway.admin());
        let fields = [fields, &[("Connection", "close")]].concat();
        // Who refuses a body may close before all of it is there.
        drop(http.try_send(&http::request(method, target, &fields, body)));
        let response = http.response();
        assert_eq!(response.status, status, "{method} {target}: {}", response.text());
        self.description.holds(method, template, &response);
        response
    }

    /// The same as root. `target` is the path; its template comes first.
    #[track_caller]
    fn ask(
        &self,
        operation: (&str, &str),
        target: &str,
        extra: &[(&str, &str)],
        body: &Value,
        status: u16,
    ) -> Response {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut fields = vec![("Authorization", self.root.as_str())];
        fields.extend(extra);
        if !body.is_null() {
            fields.push(JSON);
        }
        self.raw(operation, target, &fields, text.as_bytes(), status)
    }

    /// `GET`, then the same with the tag that came: 304.
    #[track_caller]
    fn show(&self, template: &str, target: &str) -> (Value, String) {
        let response = self.ask(("GET", template), target, &[], &Value::Null, 200);
        let tag = response.header("etag").unwrap().to_owned();
        let again = self.ask(("GET", template), target, &[("If-None-Match", &tag)], &Value::Null, 304);
        assert_eq!(again.header("etag"), Some(tag.as_str()));
        (response.json(), tag)
    }

    fn below_api(&self) -> Vec<Operation> {
        let all = self.description.operations().into_iter();
        all.filter(|operation| operation.path.starts_with("/api/v1/")).collect()
    }
}

const STATIONS: &str = "/api/v1/stations";
const STATION: &str = "/api/v1/stations/{name}";
const ADOPT: &str = "/api/v1/stations/{name}/adopt";
const STATION_SCHEMA: &str = "/api/v1/stations/{name}/schema";
const GROUPS: &str = "/api/v1/stations/{name}/groups";
const GROUP: &str = "/api/v1/stations/{name}/groups/{group}";
const DEAD_LETTERS: &str = "/api/v1/stations/{name}/dead-letters";
const DEAD_LETTER: &str = "/api/v1/stations/{name}/dead-letters/{id}";
const REPLAY: &str = "/api/v1/stations/{name}/dead-letters/replay";
const PURGE: &str = "/api/v1/stations/{name}/dead-letters/purge";
const SCHEMAS: &str = "/api/v1/schemas";
const SCHEMA: &str = "/api/v1/schemas/{name}";
const ACTIVE: &str = "/api/v1/schemas/{name}/active";
const USERS: &str = "/api/v1/users";
const USER: &str = "/api/v1/users/{name}";
const PASSWORD: &str = "/api/v1/users/{name}/password";
const KEYS: &str = "/api/v1/keys";
const KEY: &str = "/api/v1/keys/{id}";

const NOTHING: Value = Value::Null;

#[test]
fn every_documented_response_of_every_route_is_seen_and_is_what_it_says() {
    let mut walk = Walk::start();
    open_routes(&walk);
    let key = users_and_keys(&walk);
    refusals(&walk, &key);
    schemas(&walk);
    stations(&walk);
    adopted(&walk);
    groups(&walk);
    dead_letters(&walk);
    data_path::walk(&walk.gateway, &walk.description);
    crowded::walk(&walk.gateway, &walk.description);
    without_broker(&mut walk);
    let unseen = walk.description.unseen();
    assert!(unseen.is_empty(), "documented and never seen: {unseen:#?}");
}

fn open_routes(walk: &Walk) {
    for path in ["/healthz", "/readyz", "/metrics"] {
        walk.raw(("GET", path), path, &[], b"", 200);
    }
}

/// Leaves a key behind that may not use the admin API.
fn users_and_keys(walk: &Walk) -> String {
    let ann = json!({"name": "ann", "password": "long enough", "produce": ["a.*"], "consume": []});
    let added = walk.ask(("POST", USERS), USERS, &[], &ann, 201);
    assert_eq!(added.header("location"), Some("/api/v1/users/ann"));
    walk.ask(("POST", USERS), USERS, &[], &ann, 409);
    let first = walk.ask(("GET", USERS), "/api/v1/users?limit=1", &[], &NOTHING, 200);
    assert_eq!(first.header("link"), Some("</api/v1/users?after=root&limit=1>; rel=\"next\""));
    let (_, tag) = walk.show(USER, "/api/v1/users/ann");
    let rights = json!({"consume": ["b"]});
    walk.ask(("PATCH", USER), "/api/v1/users/ann", &[WRONG_TAG], &rights, 412);
    let changed = walk.ask(("PATCH", USER), "/api/v1/users/ann", &[("If-Match", &tag)], &rights, 200);
    assert_eq!((&changed.json()["produce"], &changed.json()["consume"]), (&json!(["a.*"]), &json!(["b"])));
    walk.ask(("PATCH", USER), "/api/v1/users/root", &[], &rights, 409);
    let password = json!({"password": "long enough too"});
    let of_ann = "/api/v1/users/ann/password";
    walk.ask(("PUT", PASSWORD), of_ann, &[WRONG_TAG], &password, 412);
    walk.ask(("PUT", PASSWORD), of_ann, &[], &password, 204);
    walk.ask(("PUT", PASSWORD), "/api/v1/users/root/password", &[], &password, 409);
    walk.ask(("DELETE", USER), "/api/v1/users/root", &[], &NOTHING, 409);
    walk.ask(("DELETE", USER), "/api/v1/users/ann", &[WRONG_TAG], &NOTHING, 412);
    walk.ask(("DELETE", USER), "/api/v1/users/ann", &[], &NOTHING, 204);

    let made = walk.ask(("POST", KEYS), KEYS, &[], &json!({"produce": ["*"], "description": "of a test"}), 201).json();
    let doomed = walk.ask(("POST", KEYS), KEYS, &[], &json!({"admin": true, "expires_in_s": 3_600}), 201).json();
    walk.ask(("GET", KEYS), KEYS, &[], &NOTHING, 200);
    let path = format!("{KEYS}/{}", doomed["id"].as_str().unwrap());
    let (shown, tag) = walk.show(KEY, &path);
    assert_eq!((&shown["admin"], shown.get("key")), (&json!(true), None));
    let bearer = format!("Bearer {}", doomed["key"].as_str().unwrap());
    walk.raw(("GET", KEYS), KEYS, &[("Authorization", &bearer)], b"", 200);
    walk.ask(("DELETE", KEY), &path, &[WRONG_TAG], &NOTHING, 412);
    walk.ask(("DELETE", KEY), &path, &[("If-Match", &tag)], &NOTHING, 204);
    walk.raw(("GET", KEYS), KEYS, &[("Authorization", &bearer)], b"", 401);
    made["key"].as_str().unwrap().to_owned()
}

/// A body that an operation takes.
fn good_body(operation: &Operation) -> Value {
    match (operation.method.as_str(), operation.path.as_str()) {
        ("POST", STATIONS) => json!({"name": "nobody"}),
        ("PATCH", STATION) => json!({"retention_age_s": 60}),
        (_, ADOPT) => json!({"stream": "NOTHING", "subject": "nothing"}),
        ("PUT", STATION_SCHEMA) => json!({"schema": "nothing"}),
        (_, REPLAY | PURGE) => json!({}),
        ("POST", SCHEMAS) => json!({"name": "nobody", "type": "json", "schema": "{\"type\":\"array\"}"}),
        (_, ACTIVE) => json!({"version": 1}),
        ("POST", USERS) => json!({"name": "nobody", "password": "long enough"}),
        ("PATCH", USER) => json!({"produce": []}),
        (_, PASSWORD) => json!({"password": "long enough"}),
        ("POST", KEYS) => json!({"produce": ["nobody"]}),
        (method, path) => {
            assert!(!operation.has_body, "{method} {path}: which body?");
            NOTHING
        }
    }
}

/// What every operation refuses in the same way.
fn refusals(walk: &Walk, key: &str) {
    let bearer = format!("Bearer {key}");
    let root = [("Authorization", walk.root.as_str())];
    for operation in walk.below_api() {
        let called = (operation.method.as_str(), operation.path.as_str());
        let target = operation.path.replace("{name}", "nobody").replace("{id}", "77").replace("{group}", "g");
        walk.raw(called, &target, &[], b"", 401);
        walk.raw(called, &target, &[("Authorization", &bearer)], b"", 403);
        if operation.has_body {
            let with_type = [root[0], JSON];
            walk.raw(called, &target, &root, b"{}", 415);
            walk.raw(called, &target, &with_type, b"{\"", 400);
            let most = if called == ("POST", SCHEMAS) { SCHEMA_BODY_BYTES_MAX } else { BODY_BYTES_MAX };
            walk.raw(called, &target, &with_type, format!("\"{}\"", "x".repeat(most - 1)).as_bytes(), 413);
        } else if operation.query.iter().any(|name| name == "limit") {
            walk.raw(called, &format!("{target}?limit=0"), &root, b"", 400);
        } else {
            let wrong = operation.path.replace("{name}", "a%20b").replace("{id}", "a%20b").replace("{group}", "a%20b");
            walk.raw(called, &wrong, &root, b"", 400);
        }
        // A list of names that are not there, and what makes something, have no name to be unknown.
        if operation.statuses.contains(&404) && operation.path.contains('{') {
            walk.ask(called, &target, &[], &good_body(&operation), 404);
        }
    }
    let unknown_schema = json!({"name": "nobody", "schema": "nothing"});
    walk.ask(("POST", STATIONS), STATIONS, &[], &unknown_schema, 404);
}

fn schemas(walk: &Walk) {
    let version = |text: &str| json!({"name": "numbers", "type": "json", "schema": text});
    let first = walk.ask(("POST", SCHEMAS), SCHEMAS, &[], &version("{\"type\":\"integer\"}"), 201);
    assert_eq!(first.header("location"), Some("/api/v1/schemas/numbers"));
    assert_eq!((&first.json()["version"], &first.json()["active_version"]), (&json!(1), &json!(1)));
    let second = walk.ask(("POST", SCHEMAS), SCHEMAS, &[], &version("{\"type\":\"number\"}"), 201);
    assert_eq!((&second.json()["version"], &second.json()["active_version"]), (&json!(2), &json!(1)));
    walk.ask(("POST", SCHEMAS), SCHEMAS, &[], &version("{\"type\":\"number\"}"), 409);
    let refused = walk.ask(("POST", SCHEMAS), SCHEMAS, &[], &version("{\"type\":7}"), 400);
    assert!(!refused.json()["detail"].as_str().unwrap().is_empty());
    walk.ask(("GET", SCHEMAS), SCHEMAS, &[], &NOTHING, 200);
    let (_, tag) = walk.show(SCHEMA, "/api/v1/schemas/numbers");
    let active = "/api/v1/schemas/numbers/active";
    for (method, number) in [("PUT", 2), ("POST", 1)] {
        walk.ask((method, ACTIVE), active, &[WRONG_TAG], &json!({"version": number}), 412);
        let schema = walk.ask((method, ACTIVE), active, &[], &json!({"version": number}), 200).json();
        assert_eq!(schema["active_version"], number);
        walk.ask((method, ACTIVE), active, &[], &json!({"version": 9}), 404);
    }
    let other = json!({"name": "doomed", "type": "graphql", "schema": "type Query { a: Int }"});
    walk.ask(("POST", SCHEMAS), SCHEMAS, &[], &other, 201);
    walk.ask(("DELETE", SCHEMA), "/api/v1/schemas/doomed", &[("If-Match", &tag)], &NOTHING, 412);
    walk.ask(("DELETE", SCHEMA), "/api/v1/schemas/doomed", &[], &NOTHING, 204);
}

fn stations(walk: &Walk) {
    let new = json!({"name": "Counted", "partitions": 2, "retention_age_s": 3_600, "storage": "memory"});
    let made = walk.ask(("POST", STATIONS), STATIONS, &[], &new, 201);
    assert_eq!(made.header("location"), Some("/api/v1/stations/counted"));
    let other = json!({"name": "counted", "partitions": 3});
    walk.ask(("POST", STATIONS), STATIONS, &[], &other, 409);
    walk.ask(("POST", STATIONS), STATIONS, &[], &json!({"name": "kept", "schema": "numbers"}), 201);
    let part = walk.ask(("GET", STATIONS), "/api/v1/stations?limit=1", &[], &NOTHING, 200);
    assert_eq!(part.header("link"), Some("</api/v1/stations?after=counted&limit=1>; rel=\"next\""));
    let (shown, tag) = walk.show(STATION, "/api/v1/stations/counted");
    assert_eq!((&shown["partitions"], &shown["storage"]), (&json!(2), &json!("memory")));
    let change = json!({"retention_age_s": 7_200});
    walk.ask(("PATCH", STATION), "/api/v1/stations/counted", &[WRONG_TAG], &change, 412);
    let changed = walk.ask(("PATCH", STATION), "/api/v1/stations/counted", &[("If-Match", &tag)], &change, 200);
    assert_eq!(changed.json()["retention_age_s"], 7_200);
    let schema = "/api/v1/stations/counted/schema";
    let attach = json!({"schema": "numbers"});
    walk.ask(("PUT", STATION_SCHEMA), schema, &[WRONG_TAG], &attach, 412);
    let attached = walk.ask(("PUT", STATION_SCHEMA), schema, &[], &attach, 200);
    assert_eq!(attached.json()["schema"], "numbers");
    walk.ask(("DELETE", SCHEMA), "/api/v1/schemas/numbers", &[], &NOTHING, 409);
    walk.ask(("DELETE", STATION_SCHEMA), schema, &[WRONG_TAG], &NOTHING, 412);
    let detached = walk.ask(("DELETE", STATION_SCHEMA), schema, &[], &NOTHING, 200);
    assert_eq!(detached.json()["schema"], NOTHING);
    walk.ask(("DELETE", STATION), "/api/v1/stations/counted", &[WRONG_TAG], &NOTHING, 412);
    walk.ask(("DELETE", STATION), "/api/v1/stations/counted", &[], &NOTHING, 204);
}

fn adopted(walk: &Walk) {
    Broker::connect(walk.gateway.nats()).create_stream("LEGACY", "legacy.>", &json!({}));
    let adopt = json!({"stream": "LEGACY", "subject": "legacy.orders"});
    let made = walk.ask(("POST", ADOPT), "/api/v1/stations/heir/adopt", &[], &adopt, 201);
    assert_eq!((made.header("location"), &made.json()["adopted"]), (Some("/api/v1/stations/heir"), &adopt));
    walk.ask(("POST", ADOPT), "/api/v1/stations/kept/adopt", &[], &adopt, 409);
}

fn groups(walk: &Walk) {
    for group in ["Bill.ing", "audit"] {
        let call = json!({"consumer_name": "c", "consumer_group": group, "batch_max_wait_time_ms": 100});
        walk.gateway.consume("kept", &call.to_string());
    }
    let list = "/api/v1/stations/kept/groups";
    let part = walk.ask(("GET", GROUPS), &format!("{list}?limit=1"), &[], &NOTHING, 200);
    assert_eq!(part.header("link"), Some("</api/v1/stations/kept/groups?after=audit&limit=1>; rel=\"next\""));
    let all = walk.ask(("GET", GROUPS), list, &[], &NOTHING, 200).json();
    assert_eq!((&all["items"][1]["name"], &all["items"][1]["principal"]), (&json!("bill.ing"), &json!("root")));
    walk.ask(("DELETE", GROUP), &format!("{list}/BILL.ing"), &[], &NOTHING, 204);
    walk.ask(("DELETE", GROUP), &format!("{list}/bill.ing"), &[], &NOTHING, 404);
}

fn dead_letters(walk: &Walk) {
    for record in ["\"one\"", "\"two\"", "\"three\""] {
        walk.gateway.single("kept", "application/json", record.as_bytes()).is_error(400);
    }
    let list = "/api/v1/stations/kept/dead-letters";
    let letters = eventually("three dead letters", PATIENCE, || {
        let page = walk.ask(("GET", DEAD_LETTERS), list, &[], &NOTHING, 200).json();
        let letters = page["items"].as_array().unwrap().clone();
        (letters.len() == 3).then_some(letters)
    });
    let id = letters[0]["id"].as_u64().unwrap();
    let shown = walk.ask(("GET", DEAD_LETTER), &format!("{list}/{id}"), &[], &NOTHING, 200).json();
    assert_eq!(
        (&shown["message"], &shown["kind"], &shown["schema"]),
        (&json!("\"one\""), &json!("schema"), &json!("numbers"))
    );
    // Still invalid: it stays.
    let report = walk.ask(("POST", REPLAY), &format!("{list}/replay"), &[], &json!({"ids": [id]}), 200).json();
    assert_eq!((&report["replayed"], &report["failed"][0]["id"]), (&json!(0), &json!(id)));
    let purged = walk.ask(("POST", PURGE), &format!("{list}/purge"), &[], &json!({"ids": [id]}), 200).json();
    assert_eq!(purged, json!({"purged": 1}));
    walk.ask(("DELETE", STATION_SCHEMA), "/api/v1/stations/kept/schema", &[], &NOTHING, 200);
    let last = letters[2]["id"].as_u64().unwrap();
    let report = walk.ask(("POST", REPLAY), &format!("{list}/replay"), &[], &json!({"ids": [last]}), 200).json();
    assert_eq!(report, json!({"replayed": 1, "failed": []}));
    let rest = walk.ask(("DELETE", DEAD_LETTERS), list, &[], &NOTHING, 200).json();
    assert_eq!(rest, json!({"purged": 1}));
}

/// 503 of everything that needs the broker, all at once: each waits for it in its own way.
fn without_broker(walk: &mut Walk) {
    let attach = json!({"schema": "numbers"});
    walk.ask(("POST", USERS), USERS, &[], &json!({"name": "eve", "password": "long enough"}), 201);
    let key = walk.ask(("POST", KEYS), KEYS, &[], &json!({"produce": ["x"]}), 201).json();
    walk.gateway.nats_mut().stop();
    let walk = &*walk;
    eventually("the gateway is not ready", PATIENCE, || (walk.gateway.readiness() == Some(503)).then_some(()));
    walk.raw(("GET", "/readyz"), "/readyz", &[], b"", 503);
    std::thread::scope(|scope| {
        let needing = walk.below_api().into_iter().filter(|operation| operation.statuses.contains(&503));
        for operation in needing {
            let id = key["id"].as_str().unwrap();
            let (attach, name) = (&attach, if operation.path.starts_with(USERS) { "eve" } else { "kept" });
            let name = if operation.path.starts_with(SCHEMAS) { "numbers" } else { name };
            let id = if operation.path.starts_with(KEYS) { id } else { "1" };
            let target = operation.path.replace("{name}", name).replace("{id}", id).replace("{group}", "g");
            scope.spawn(move || {
                let called = (operation.method.as_str(), operation.path.as_str());
                let body = match called {
                    ("PUT", STATION_SCHEMA) => attach.clone(),
                    (_, ACTIVE) => json!({"version": 2}),
                    _ => good_body(&operation),
                };
                walk.ask(called, &target, &[], &body, 503);
            });
        }
        for (route, body) in [("single", "1"), ("batch", "[1]")] {
            scope.spawn(move || data_path::produce(&walk.gateway, &walk.description, "kept", route, &[], body, 503));
        }
        scope.spawn(move || data_path::read_without_broker(&walk.gateway, &walk.description));
        scope.spawn(move || data_path::produce(&walk.gateway, &walk.description, "fresh", "stream", &[], "1", 503));
        scope.spawn(move || {
            data_path::consume(&walk.gateway, &walk.description, "fresh", "{\"consumer_name\":\"c\"}", 503)
        });
    });
}
