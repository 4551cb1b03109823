//! Dead letters: every record that was posted is stored, a dead letter, or was refused and the client told.

use crate::support::{
    PATIENCE,
    admin::{api, dead_letters, done, records_of, station_with_schema},
    eventually,
    gateway::{Gateway, Plan},
    http::Http,
    readback::{Stored, drain, stored, texts},
    setup::Setup,
    unique,
};
use serde_json::{Value, json};
use std::io::Read as _;

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL,
    cluster CLUSTER => [
        what_is_posted_is_stored_or_a_dead_letter_or_refused_and_told,
        a_dead_letter_is_the_record_and_why,
        a_request_that_is_sent_again_has_each_dead_letter_once,
        replay_goes_through_validation_again,
        large_dead_letters_are_all_listed,
        what_is_purged_is_gone_and_nothing_else,
        a_record_that_is_never_acknowledged_becomes_a_dead_letter,
        a_station_without_dead_letters_only_tells,
    ]
);

const OK: &str = "{\"error\":null,\"success\":true}";
const NUMBER: &str = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#;

/// The sum of [`Tally`] over a test's requests must come out as what is there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    posted: u64,
    stored: u64,
    failed: u64,
}

fn post(gateway: &Gateway, station: &str, records: &[Value], headers: &[(&str, &str)], tally: &mut Tally) -> Value {
    let body = serde_json::to_vec(records).unwrap();
    let headers = [&[("Content-Type", "application/json")], headers].concat();
    let response = gateway.post(&format!("/stations/{station}/produce/batch"), &headers, &body);
    let answer = response.json();
    tally.posted += records.len() as u64;
    match response.status {
        200 => tally.stored += records.len() as u64,
        400 => {
            tally.stored += answer["sent"].as_u64().unwrap();
            tally.failed += answer["fail"].as_u64().unwrap();
        }
        // All or nothing, where the broker cannot keep it: refused as a whole.
        501 => tally.failed += records.len() as u64,
        other => panic!("{other}: {answer}"),
    }
    answer
}

fn what_is_posted_is_stored_or_a_dead_letter_or_refused_and_told(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "counted", "json", NUMBER, &[]);
    let mut tally = Tally::default();
    let good = |n: u64| json!({ "n": n });
    let bad = |n: u64| json!({ "n": n.to_string() });
    let huge = json!({"n": 1, "x": "y".repeat(1_100_000)});
    post(&gateway, "counted", &[good(0), good(1)], &[], &mut tally);
    post(&gateway, "counted", &[good(2), bad(3), good(4), bad(5)], &[], &mut tally);
    post(&gateway, "counted", &[bad(6), bad(7)], &[], &mut tally);
    // Valid, and larger than the backend takes: refused and told, and no dead letter either.
    post(&gateway, "counted", &[good(8), huge.clone(), bad(9)], &[], &mut tally);
    // All or nothing: the client has them all, and is told.
    let strict = [("Prefer", "handling=strict")];
    post(&gateway, "counted", &[good(10), bad(11)], &strict, &mut tally);
    let many: Vec<Value> = (0..2_000).map(|n| if n % 3 == 0 { bad(n) } else { good(n) }).collect();
    post(&gateway, "counted", &many, &[], &mut tally);
    let refused_and_told = 1 + 2;
    let letters = dead_letters(&gateway, "counted");
    assert_eq!(stored(&gateway, "counted").len() as u64, tally.stored);
    assert_eq!(records_of(&gateway, "counted"), tally.stored);
    assert_eq!(letters.len() as u64, tally.failed - refused_and_told);
    assert_eq!(tally.posted, tally.stored + letters.len() as u64 + refused_and_told);
    // In the order in which they were posted.
    let numbers: Vec<u64> = letters.iter().map(number_of).collect();
    let expect: Vec<u64> = [3, 5, 6, 7, 9].into_iter().chain((0..2_000).filter(|n| n % 3 == 0)).collect();
    assert_eq!(numbers, expect);
}

fn number_of(letter: &Value) -> u64 {
    let record: Value = serde_json::from_str(letter["message"].as_str().unwrap()).unwrap();
    record["n"].as_str().unwrap().parse().unwrap()
}

fn a_dead_letter_is_the_record_and_why(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "told", "json", NUMBER, &[]);
    let posted = "{ \"n\" :\t9007199254740993.5 , \"ü\": 1 }";
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Trace", "t-1"),
        ("X-Api-Key", "must-not-be-kept"),
        ("Cookie", "must-not-be-kept"),
    ];
    let response = gateway.post("/stations/told/produce/single", &headers, posted.as_bytes());
    let text = response.is_error(400);
    assert!(text.starts_with("Schema validation has failed: '/n': "), "{text}");
    let [letter] = &dead_letters(&gateway, "told")[..] else { panic!("one letter") };
    assert_eq!(letter["message"], posted, "byte for byte");
    assert_eq!(letter["kind"], "schema");
    assert_eq!((&letter["schema"], &letter["schema_version"]), (&json!("told-schema"), &json!(1)));
    assert_eq!(letter["principal"], "root");
    assert!(text.ends_with(letter["error"].as_str().unwrap()), "{text} / {letter}");
    assert_eq!(letter["headers"], json!({"Content-Type": "application/json", "X-Trace": "t-1"}));
    assert!(letter["time_ms"].as_u64().is_some_and(|ms| ms > 1_700_000_000_000));
    assert!(!letter.to_string().contains("must-not-be-kept"));
    let id = &letter["id"];
    let one = api(&gateway, "GET", &format!("/stations/told/dead-letters/{id}"), None);
    assert_eq!((one.status, &one.json()), (200, letter));
    // By the command, as programs read it.
    let listed: Value =
        serde_json::from_str(&done(&gateway, &["station", "dead-letters", "told", "--json"], "")).unwrap();
    assert_eq!(&listed["items"][0], letter);
    // What is not UTF-8 is not mangled.
    gateway.single("told", "application/json", &[0xff, 0xfe]).is_error(400);
    let letters = dead_letters(&gateway, "told");
    assert_eq!((&letters[1]["message"], &letters[1]["message_base64"]), (&Value::Null, &json!("//4=")));
}

fn a_request_that_is_sent_again_has_each_dead_letter_once(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "again", "json", NUMBER, &[]);
    let records = [json!({"n": 1}), json!({"n": "2"}), json!({"n": 3})];
    let id = [("Idempotency-Key", "one-request")];
    let mut tally = Tally::default();
    let first = post(&gateway, "again", &records, &id, &mut tally);
    let second = post(&gateway, "again", &records, &id, &mut tally);
    assert_eq!(first, second);
    assert_eq!(texts(&gateway, "again"), [r#"{"n":1}"#, r#"{"n":3}"#]);
    assert_eq!(dead_letters(&gateway, "again").len(), 1);
}

fn replay_goes_through_validation_again(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "replayed", "json", NUMBER, &[]);
    let mut tally = Tally::default();
    post(&gateway, "replayed", &[json!({"n": "1"}), json!({"n": null}), json!({"n": "3"})], &[], &mut tally);
    let ids: Vec<u64> =
        dead_letters(&gateway, "replayed").iter().map(|letter| letter["id"].as_u64().unwrap()).collect();
    let replay = |body: &Value| api(&gateway, "POST", "/stations/replayed/dead-letters/replay", Some(body));
    // Nothing has changed: nothing is valid.
    let report = replay(&json!({})).json();
    assert_eq!(
        (report["replayed"].as_u64(), report["failed"].as_array().map(Vec::len)),
        (Some(0), Some(3)),
        "{report}"
    );
    assert_eq!(dead_letters(&gateway, "replayed").len(), 3);
    // The next version takes text too.
    let wider = NUMBER.replace("\"integer\"", "[\"integer\",\"string\"]");
    crate::support::admin::add_schema(&gateway, "replayed-schema", "json", &wider, &[]);
    done(&gateway, &["schema", "activate", "replayed-schema", "2"], "");
    let report = replay(&json!({ "ids": [ids[0], ids[1]] })).json();
    assert_eq!(report["replayed"], 1, "{report}");
    assert_eq!(report["failed"][0]["id"], ids[1], "{report}");
    assert_eq!(texts(&gateway, "replayed"), [r#"{"n":"1"}"#]);
    let left: Vec<u64> =
        dead_letters(&gateway, "replayed").iter().map(|letter| letter["id"].as_u64().unwrap()).collect();
    assert_eq!(left, [ids[1], ids[2]]);
    // A replayed record is as it was sent: nothing of the dead letter is in it.
    let headers = &stored(&gateway, "replayed")[0].headers;
    assert!(headers.keys().all(|name| !name.starts_with("Sluicegate-")), "{headers:?}");
}

/// So large together that they are read a few at a time.
fn large_dead_letters_are_all_listed(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "large", "json", NUMBER, &[]);
    let posted: Vec<String> = (0..20).map(|n| format!("{{\"n\":\"{n} {}\"}}", "x".repeat(900_000))).collect();
    for record in &posted {
        gateway.single("large", "application/json", record.as_bytes()).is_error(400);
    }
    let listed = dead_letters(&gateway, "large");
    assert_eq!(listed.iter().map(|letter| letter["message"].as_str().unwrap()).collect::<Vec<_>>(), posted);
    let all: Value =
        serde_json::from_str(&done(&gateway, &["station", "dead-letters", "large", "--json"], "")).unwrap();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(posted.len()));
}

fn what_is_purged_is_gone_and_nothing_else(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "purged", "json", NUMBER, &[]);
    let mut tally = Tally::default();
    let bad: Vec<Value> = (0..5).map(|n| json!({"n": n.to_string()})).collect();
    post(&gateway, "purged", &bad, &[], &mut tally);
    post(&gateway, "purged", &[json!({"n": 1})], &[], &mut tally);
    let ids = |gateway: &Gateway| -> Vec<u64> {
        dead_letters(gateway, "purged").iter().map(|letter| letter["id"].as_u64().unwrap()).collect()
    };
    let before = ids(&gateway);
    let purge = |body: &Value| api(&gateway, "POST", "/stations/purged/dead-letters/purge", Some(body)).json();
    assert_eq!(purge(&json!({"ids": [before[1], before[3]]})), json!({"purged": 2}));
    assert_eq!(ids(&gateway), [before[0], before[2], before[4]]);
    assert_eq!(purge(&json!({})), json!({"purged": 3}));
    assert_eq!(ids(&gateway), [0; 0]);
    assert_eq!(texts(&gateway, "purged"), [r#"{"n":1}"#]);
    post(&gateway, "purged", &bad[..1], &[], &mut tally);
    assert_eq!(ids(&gateway).len(), 1, "the next one is kept again");
}

fn a_record_that_is_never_acknowledged_becomes_a_dead_letter(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let settings = json!({"invalid": true, "deliveries_max": 2, "retention_age_s": 3600});
    let body = json!({"name": "poison", "dead_letters": settings});
    let made = api(&gateway, "POST", "/stations", Some(&body));
    assert_eq!(made.status, 201, "{}", made.text());
    // So large together that no socket takes them all while nobody reads.
    let large: Vec<String> = (0..8).map(|number| format!("{number} {}", "x".repeat(1_000_000))).collect();
    for text in &large {
        gateway.single("poison", "text/plain", text.as_bytes()).is(200, OK);
    }
    let group = unique("g");
    for _ in 0..2 {
        take_and_vanish(&gateway, "poison", &group);
    }
    gateway.single("poison", "text/plain", b"the last").is(200, OK);
    let rest = eventually("the last comes", PATIENCE, || {
        let rest = drain(&gateway, "poison", &group);
        (!rest.is_empty()).then_some(rest)
    });
    let rest: Vec<&str> = rest.iter().map(Stored::text).collect();
    assert_eq!(rest, ["the last"], "the others were handed out twice");
    let letters = dead_letters(&gateway, "poison");
    assert_eq!(letters.iter().map(|letter| letter["message"].as_str().unwrap()).collect::<Vec<_>>(), large);
    for letter in letters {
        assert_eq!(letter["kind"], "deliveries");
        assert!(letter["group"].as_str().is_some_and(|said| said.starts_with(&group)), "{}", letter["group"]);
    }
}

/// A client that asks for messages, sees the answer begin, and is gone.
fn take_and_vanish(gateway: &Gateway, station: &str, group: &str) {
    let ask = json!({"consumer_name": "c", "consumer_group": group, "batch_size": 8, "batch_max_wait_time_ms": 5_000});
    let path = format!("/stations/{station}/consume/batch");
    let headers = [("Content-Type", "application/json")];
    let mut http = Http::connect(gateway.address());
    http.send(&gateway.authorized("POST", &path, &headers, ask.to_string().as_bytes()));
    let mut begun = [0; 12];
    http.stream().read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
}

fn a_station_without_dead_letters_only_tells(setup: Setup) {
    let gateway = Gateway::start(setup);
    station_with_schema(&gateway, "silent", "json", NUMBER, &[]);
    let off = json!({"dead_letters": {"invalid": false, "deliveries_max": 0, "retention_age_s": 3600}});
    assert_eq!(api(&gateway, "PATCH", "/stations/silent", Some(&off)).status, 200);
    let mut tally = Tally::default();
    let answer = post(&gateway, "silent", &[json!({"n": 1}), json!({"n": "2"})], &[], &mut tally);
    assert_eq!((&answer["sent"], &answer["fail"]), (&json!(1), &json!(1)));
    assert_eq!(dead_letters(&gateway, "silent").len(), 0);
    assert_eq!(texts(&gateway, "silent"), [r#"{"n":1}"#]);
}
