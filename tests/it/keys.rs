//! API keys: how they are made, every way to show one, what they may, and that none is ever seen again.

use crate::support::{
    PATIENCE,
    admin::{api, basic, dead_letters, done, run, station_with_schema},
    broker::Broker,
    eventually,
    gateway::{Gateway, Plan, ROOT_USER, bare_command, with_input},
    http::{self, Http, Response, request},
    readback::{Stored, stored, texts},
    setup::{Backend, Setup},
};
use serde_json::{Value, json};
use std::{
    process::Output,
    time::{SystemTime, UNIX_EPOCH},
};

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        a_key_is_printed_alone_and_opens_what_it_may_in_every_form,
        a_key_expires,
        a_key_is_shown_once_and_its_uses_are_counted,
        a_revoked_key_opens_nothing_at_once_on_any_shard,
        a_key_with_the_scope_uses_the_admin_api_and_another_does_not,
        a_key_is_no_login,
        a_key_stands_in_no_log_metric_or_record,
    ]
);

const OK: &str = "{\"error\":null,\"success\":true}";
const UNAUTHORIZED: &str = "{\"message\":\"Unauthorized\"}";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const CONSUME: &str = "{\"consumer_name\":\"c\",\"batch_max_wait_time_ms\":100}";

/// Makes a key by the command.
#[track_caller]
fn create(gateway: &Gateway, scope: &[&str]) -> String {
    let printed = done(gateway, &[&["key", "create"], scope].concat(), "");
    printed.strip_suffix('\n').expect("one line").to_owned()
}

fn id_of(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

/// Whether this is a key, and nothing beside it.
fn is_a_key(text: &str) -> bool {
    let rest = text.strip_prefix("sgk_").and_then(|rest| rest.split_once('_'));
    rest.is_some_and(|(id, secret)| {
        let id = id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let secret =
            secret.len() == 43 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        id && secret
    })
}

fn call(gateway: &Gateway, target: &str, authorization: Option<&str>, body: &str) -> Response {
    let mut headers = vec![JSON];
    headers.extend(authorization.map(|value| ("Authorization", value)));
    http::once(gateway.address(), "POST", target, &headers, body.as_bytes())
}

fn bearer(gateway: &Gateway, key: &str, target: &str, body: &str) -> Response {
    call(gateway, target, Some(&format!("Bearer {key}")), body)
}

/// Runs a client of the admin API with nothing but a key.
fn with_key(gateway: &Gateway, key: &str, arguments: &[&str]) -> Output {
    let mut command = bare_command(gateway.dir());
    command.args(arguments).args(["--url", &format!("http://{}", gateway.admin())]);
    command.env("SLUICEGATE_PASSWORD", key);
    with_input(command, "")
}

fn a_key_is_printed_alone_and_opens_what_it_may_in_every_form(setup: Setup) {
    let gateway = Gateway::start(setup);
    let scope = ["--produce", "prod.*", "--produce", "both", "--consume", "both", "--expires", "90d"];
    let key = create(&gateway, &scope);
    assert!(is_a_key(&key), "{key:?}");
    let produce = "/stations/prod.a/produce/single";
    let forms = [
        format!("Bearer {key}"),
        format!("bearer {key}"),
        format!("Bearer: {key}"),
        basic("anything", &key),
        basic("", &key),
        basic(ROOT_USER, &key),
    ];
    for form in &forms {
        call(&gateway, produce, Some(form), "1").is_json(200, OK);
    }
    call(&gateway, &format!("{produce}?authorization={key}"), None, "1").is_json(200, OK);
    assert_eq!(texts(&gateway, "prod.a").len(), forms.len() + 1);
    for (path, body, status) in [
        ("/stations/PROD.b/produce/batch", "[2]", 200),
        ("/stations/both/produce/single", "1", 200),
        ("/stations/both/consume/batch", CONSUME, 200),
        ("/stations/prod/produce/single", "1", 403),
        ("/stations/other/produce/batch", "[1]", 403),
        ("/stations/prod.a/consume/batch", CONSUME, 403),
    ] {
        let response = bearer(&gateway, &key, path, body);
        assert_eq!(response.status, status, "{path}: {}", response.text());
        let who = format!("\"API key {} is not allowed to ", id_of(&key));
        assert_eq!(response.text().contains(&who), status == 403, "{path}: {}", response.text());
    }
    // The same length and form, the same id, another secret; and what is a key no longer.
    let last = if key.ends_with('A') { 'B' } else { 'A' };
    for wrong in [format!("{}{last}", &key[..key.len() - 1]), format!("{key}A"), key[..key.len() - 1].to_owned()] {
        bearer(&gateway, &wrong, produce, "1").is_json(401, UNAUTHORIZED);
        call(&gateway, produce, Some(&basic("anything", &wrong)), "1").is_json(401, UNAUTHORIZED);
        call(&gateway, &format!("{produce}?authorization={wrong}"), None, "1").is_json(401, UNAUTHORIZED);
    }
    // In Basic, and under the name that the key is known by, only a key opens.
    call(&gateway, produce, Some(&basic(id_of(&key), "no key")), "1").is_json(401, UNAUTHORIZED);
}

fn a_key_expires(setup: Setup) {
    let gateway = Gateway::start(setup);
    let made = api(&gateway, "POST", "/keys", Some(&json!({"produce": ["brief"], "admin": true, "expires_in_s": 3})));
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(made["expires_ms"].as_u64().unwrap() - made["created_ms"].as_u64().unwrap(), 3_000);
    let first = bearer(&gateway, key, "/stations/brief/produce/single", "1");
    if now_ms() + 1_000 < made["expires_ms"].as_u64().unwrap() {
        first.is_json(200, OK);
    }
    // Each shard looks at its own clock, and sees the second change a moment before or after the others.
    eventually("the key is good no longer, on any shard", PATIENCE, || {
        let refused = || bearer(&gateway, key, "/stations/brief/produce/single", "2").status == 401;
        (0..8).all(|_| refused()).then_some(())
    });
    assert!(now_ms() + 1_000 > made["expires_ms"].as_u64().unwrap(), "not before its time");
    for _ in 0..8 {
        bearer(&gateway, key, "/stations/brief/produce/single", "3").is_json(401, UNAUTHORIZED);
    }
    eventually("nor for the admin API", PATIENCE, || {
        let output = with_key(&gateway, key, &["key", "list"]);
        (output.status.code() == Some(77)).then_some(())
    });
    for wrong in [json!(0), json!(u64::MAX), json!(-1), json!("90d")] {
        let refused = api(&gateway, "POST", "/keys", Some(&json!({"produce": ["x"], "expires_in_s": wrong})));
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.text());
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn a_key_is_shown_once_and_its_uses_are_counted(setup: Setup) {
    let gateway = Gateway::start(setup);
    let key = create(&gateway, &["--produce", "counted", "--description", "the till's"]);
    let other = create(&gateway, &["--consume", "counted"]);
    let (id, secret) = (id_of(&key), key.rsplit_once(id_of(&key)).unwrap().1);
    for _ in 0..9 {
        bearer(&gateway, &key, "/stations/counted/produce/single", "1").is_json(200, OK);
    }
    bearer(&gateway, &key, "/stations/forbidden/produce/single", "1").is_error(403);
    let shown = api(&gateway, "GET", &format!("/keys/{id}"), None);
    let listed = done(&gateway, &["key", "list", "--json"], "");
    for text in
        [shown.text(), &listed, &done(&gateway, &["key", "list"], ""), api(&gateway, "GET", "/keys", None).text()]
    {
        assert!(text.contains(id), "{text}");
        assert!(!text.contains(&secret[1..]) && !text.contains("hash"), "{text}");
    }
    let shown = shown.json();
    assert_eq!(shown["description"], "the till's");
    assert_eq!(
        (&shown["produce"], &shown["consume"], &shown["admin"]),
        (&json!(["counted"]), &json!([]), &json!(false))
    );
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let uses = |id: &str| {
        let mut of = listed["items"].as_array().unwrap().iter().filter(|key| key["id"] == id);
        of.next().unwrap()["requests"].as_u64().unwrap()
    };
    assert_eq!((uses(id), uses(id_of(&other))), (10, 0), "{listed}");
    let metrics = gateway.metrics();
    assert!(metrics.contains(&format!("sluicegate_key_requests_total{{key=\"{id}\"}} 10\n")), "{metrics}");
    assert!(metrics.contains(&format!("sluicegate_key_requests_total{{key=\"{}\"}} 0\n", id_of(&other))), "{metrics}");
}

fn a_revoked_key_opens_nothing_at_once_on_any_shard(setup: Setup) {
    let gateway = Plan::new(setup).shards(3).start();
    let key = create(&gateway, &["--produce", "ended", "--admin"]);
    let bearer_key = format!("Bearer {key}");
    let headers = [("Authorization", bearer_key.as_str()), JSON];
    let post = request("POST", "/stations/ended/produce/single", &headers, b"1");
    // Enough connections that every shard has some, and has verified the key before.
    let mut open: Vec<Http> = (0..24).map(|_| Http::connect(gateway.address())).collect();
    for connection in &mut open {
        connection.exchange(&post).is_json(200, OK);
    }
    done(&gateway, &["key", "revoke", id_of(&key)], "");
    for connection in &mut open {
        connection.exchange(&post).is_json(401, UNAUTHORIZED);
    }
    for _ in 0..24 {
        http::once(gateway.address(), "POST", "/stations/ended/produce/single", &headers, b"1")
            .is_json(401, UNAUTHORIZED);
    }
    assert_eq!(with_key(&gateway, &key, &["key", "list"]).status.code(), Some(77));
    assert_eq!(texts(&gateway, "ended").len(), 24);
    let again = run(&gateway, &["key", "revoke", id_of(&key)], "");
    assert_eq!(again.status.code(), Some(1), "there is none to revoke");
    assert_eq!(api(&gateway, "GET", &format!("/keys/{}", id_of(&key)), None).status, 404);
    assert!(!gateway.metrics().contains(id_of(&key)), "what is no more is counted no more");
}

fn a_key_with_the_scope_uses_the_admin_api_and_another_does_not(setup: Setup) {
    let gateway = Gateway::start(setup);
    let (admin, plain) = (create(&gateway, &["--admin"]), create(&gateway, &["--produce", "*", "--consume", "*"]));
    let get = |authorization: &str| {
        http::once(gateway.admin(), "GET", "/api/v1/keys", &[("Authorization", authorization)], b"").status
    };
    for (key, status) in [(&admin, 200), (&plain, 403)] {
        assert_eq!(get(&format!("Bearer {key}")), status);
        assert_eq!(get(&basic("whoever", key)), status);
    }
    assert_eq!(get(&format!("Bearer {}x", &admin[..admin.len() - 1])), 401);
    assert_eq!(get(&format!("Bearer {}", gateway.token())), 401, "a token of the data port opens nothing here");
    // The admin port takes no credential from the query: it would be in every log.
    let query = http::once(gateway.admin(), "GET", &format!("/api/v1/keys?authorization={admin}"), &[], b"");
    assert_eq!(query.status, 401);
    let made = with_key(&gateway, &admin, &["station", "create", "by-key", "--json"]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let refused = with_key(&gateway, &plain, &["station", "create", "by-other", "--json"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(77), 0));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("403"), "it says why");
    assert_eq!(api(&gateway, "GET", "/stations/by-other", None).status, 404);
    // The scope is the admin API's alone: it is no right to stations.
    bearer(&gateway, &admin, "/stations/by-key/produce/single", "1").is_error(403);
    // What it is used for here counts too: two requests each by hand, one by a command, and one of the data port.
    let uses = |key: &str| api(&gateway, "GET", &format!("/keys/{}", id_of(key)), None).json()["requests"].clone();
    assert_eq!((uses(&admin), uses(&plain)), (json!(4), json!(3)));
    // Who asks for nothing gets no admin key.
    let made = api(&gateway, "POST", "/keys", Some(&json!({}))).json();
    assert_eq!((&made["admin"], &made["produce"]), (&json!(false), &json!([])));
}

fn a_key_is_no_login(setup: Setup) {
    let gateway = Gateway::start(setup);
    let key = create(&gateway, &["--produce", "*", "--consume", "*", "--admin"]);
    for user in [ROOT_USER, id_of(&key), "anything"] {
        let body = json!({"username": user, "password": key}).to_string();
        gateway.authenticate(&body).is_json(401, UNAUTHORIZED);
    }
    let body = json!({"jwt_refresh_token": key}).to_string();
    let refreshed = call(&gateway, "/auth/refreshToken", None, &body);
    assert_eq!(refreshed.status, 401, "{}", refreshed.text());
    let refreshed = call(&gateway, "/auth/refreshToken", Some(&format!("Bearer {key}")), &body);
    assert_eq!(refreshed.status, 401, "{}", refreshed.text());
}

fn a_key_stands_in_no_log_metric_or_record(setup: Setup) {
    let gateway = Plan::new(setup).config("[log]\nfilter = \"info,sluicegate=trace\"\nformat = \"json\"").start();
    let key = create(&gateway, &["--produce", "*", "--consume", "*", "--admin"]);
    let (id, secret) = (id_of(&key), &key[key.len() - 43..]);
    station_with_schema(&gateway, "seen", "json", r#"{"type":"integer"}"#, &[]);
    let target = format!("/stations/seen/produce/single?authorization={key}");
    let mut answers = vec![
        bearer(&gateway, &key, "/stations/seen/produce/single", "1"),
        bearer(&gateway, &key, "/stations/seen/produce/single", "\"no number\""),
        call(&gateway, &target, None, "2"),
        call(&gateway, &target, Some(&basic("x", &key)), "\"nor this\""),
        call(&gateway, "/stations/seen/produce/batch", Some(&basic("x", &key)), "[3,\"x\"]"),
        bearer(&gateway, &key, "/stations/seen/consume/batch", CONSUME),
        bearer(&gateway, &key, "/stations/b%20ad/produce/single", "1"),
        bearer(&gateway, &key, "/nothing/here", "1"),
        call(&gateway, &format!("/nothing?authorization={key}"), None, "1"),
    ];
    // A header that is stored is the producer's own affair; the credential is not.
    let headers = [("Authorization", format!("Bearer {key}")), ("X-Own", "kept".to_owned())];
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).chain([JSON]).collect();
    answers.push(http::once(gateway.address(), "POST", "/stations/seen/produce/single", &headers, b"4"));
    let own = [("Authorization", format!("Bearer {key}"))];
    let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    answers.push(http::once(gateway.admin(), "GET", "/api/v1/keys", &own, b""));
    answers.push(http::once(gateway.admin(), "GET", "/api/v1/nothing", &own, b""));
    let letters = dead_letters(&gateway, "seen");
    assert_eq!(letters.len(), 3);
    for letter in &letters {
        assert_eq!(letter["principal"], json!(format!("key:{id}")), "{letter}");
    }
    let records = stored(&gateway, "seen");
    assert_eq!(records.iter().map(Stored::text).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    if setup.backend == Backend::Nats {
        let registry = Broker::connect(gateway.nats()).messages("KV_sluicegate");
        let of_key = registry.iter().filter(|document| document.subject.ends_with(id)).count();
        assert_eq!(of_key, 1, "it is there");
        assert!(registry.iter().all(|document| !String::from_utf8_lossy(&document.payload).contains(secret)));
    }
    done(&gateway, &["key", "revoke", id], "");
    bearer(&gateway, &key, "/stations/seen/produce/single", "1").is_json(401, UNAUTHORIZED);
    let log = gateway.process().stderr() + &gateway.process().stdout();
    assert!(log.contains(id), "what is done with a key is logged under its id");
    let everything = format!("{log}{}{letters:?}{records:?}{answers:?}", gateway.metrics());
    assert!(!everything.contains(secret), "{everything}");
}

#[test]
fn what_is_no_key_is_told_from_one() {
    let key = format!("sgk_abcdefghij09_{}", "a_-".repeat(14) + "a");
    assert!(is_a_key(&key));
    for wrong in [format!("{key}\n"), format!("key: {key}"), key.replace("sgk", "SGK"), key[1..].to_owned()] {
        assert!(!is_a_key(&wrong), "{wrong}");
    }
}
