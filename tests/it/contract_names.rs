//! Station names: the original's rules and sentences, one percent-decoding, and the stream that a
//! name becomes (docs/contract.md, "Station names", and ADR 5).

use crate::support::{
    broker::Broker,
    gateway::{Gateway, Plan},
    readback::texts,
    setup::{Backend, Setup},
    unique,
};
use serde_json::Value;

on_every_setup!(
    a_name_is_lower_cased,
    a_name_is_percent_decoded_once,
    a_name_that_the_rules_refuse_is_400_in_the_words_of_the_original,
    an_empty_name_is_404,
    the_stream_of_a_station_has_the_defaults_of_the_original,
    a_stream_that_already_takes_the_subject_is_used_as_it_is,
);

mod partitioned {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        a_station_with_partitions_has_a_stream_for_each,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";
const CHARACTERS: &str = "Only alphanumeric and the '_', '-', '.' characters are allowed in Station";
const ENDS: &str = "Station name can not start or end with non alphanumeric character";

fn a_name_is_lower_cased(gateway: &Gateway) {
    let station = unique("Mixed.Case_Name");
    for spelled in [station.clone(), station.to_lowercase(), station.to_uppercase()] {
        gateway.single(&spelled, "text/plain", spelled.as_bytes()).is_json(200, OK);
    }
    let expect = [station.clone(), station.to_lowercase(), station.to_uppercase()];
    assert_eq!(texts(gateway, &station), expect);
}

fn a_name_is_percent_decoded_once(gateway: &Gateway) {
    let station = unique("a.b");
    let encoded = station.replace('.', "%2E");
    gateway.single(&encoded, "text/plain", b"1").is_json(200, OK);
    gateway.single(&encoded.to_lowercase(), "text/plain", b"2").is_json(200, OK);
    gateway.single(&station.replace('a', "%61"), "text/plain", b"3").is_json(200, OK);
    assert_eq!(texts(gateway, &station), ["1", "2", "3"]);
    // Decoded a second time it would be `a.b…`; decoded once it holds a `%`.
    gateway.single(&station.replace('.', "%252E"), "text/plain", b"4").is_json(400, &refused(CHARACTERS));
}

fn a_name_that_the_rules_refuse_is_400_in_the_words_of_the_original(gateway: &Gateway) {
    let long = "x".repeat(129);
    for (name, sentence) in [
        ("a%20b", CHARACTERS),
        ("a%24b", CHARACTERS),
        ("a$b", CHARACTERS),
        ("a%23b", CHARACTERS),
        ("a%2Fb", CHARACTERS),
        ("a%2fb", CHARACTERS),
        ("%2F", CHARACTERS),
        ("a%5Cb", CHARACTERS),
        ("a*", CHARACTERS),
        ("%3E", CHARACTERS),
        ("a%00b", CHARACTERS),
        ("a%0D%0Ab", CHARACTERS),
        ("%C3%A9t%C3%A9", CHARACTERS),
        ("%FF", CHARACTERS),
        ("a:b", CHARACTERS),
        ("a,b", CHARACTERS),
        ("a+b", CHARACTERS),
        ("a..b", CHARACTERS),
        (".a", ENDS),
        ("a.", ENDS),
        ("_a", ENDS),
        ("a-", ENDS),
        ("...", ENDS),
        (long.as_str(), "Station should be under 128 characters"),
    ] {
        for route in ["produce/single", "produce/batch", "consume/batch"] {
            let path = format!("/stations/{name}/{route}");
            let body = if route == "produce/batch" { "[1]" } else { "{\"consumer_name\":\"c\"}" };
            let response = gateway.post(&path, &[("Content-Type", "application/json")], body.as_bytes());
            let refused = refused(sentence);
            assert_eq!((response.status, response.text()), (400, refused.as_str()), "{path}");
        }
    }
    let longest = format!("{}{}", unique("n"), "x".repeat(128)).chars().take(128).collect::<String>();
    gateway.single(&longest, "text/plain", b"x").is_json(200, OK);
}

fn an_empty_name_is_404(gateway: &Gateway) {
    for route in ["produce/single", "produce/batch", "consume/batch"] {
        let response = gateway.post(&format!("/stations//{route}"), &[("Content-Type", "application/json")], b"[1]");
        assert_eq!(response.status, 404, "{route}: {}", response.text());
    }
}

fn the_stream_of_a_station_has_the_defaults_of_the_original(gateway: &Gateway) {
    let station = unique("My.Station");
    gateway.single(&station, "text/plain", b"x").is_json(200, OK);
    if gateway.setup().backend == Backend::Local {
        assert_eq!(texts(gateway, &station), ["x"]);
        return;
    }
    let name = station.to_lowercase();
    let info = Broker::connect(gateway.nats()).stream(&name.replace('.', "#"));
    let config = &info["config"];
    for (field, expect) in [
        ("subjects", Value::from(vec![name])),
        ("retention", "limits".into()),
        ("discard", "old".into()),
        ("storage", "file".into()),
        ("max_age", 3_600_000_000_000_u64.into()),
        ("max_msgs", (-1).into()),
        ("max_bytes", (-1).into()),
        ("num_replicas", 1.into()),
        ("duplicate_window", 120_000_000_000_u64.into()),
    ] {
        assert_eq!(config[field], expect, "{field} in {config}");
    }
}

fn a_stream_that_already_takes_the_subject_is_used_as_it_is(gateway: &Gateway) {
    let station = unique("legacy.orders");
    if gateway.setup().backend == Backend::Local {
        // The embedded store has no streams but its own; that a station is found again is all there is to hold.
        gateway.single(&station, "text/plain", b"1").is_json(200, OK);
        gateway.single(&station, "text/plain", b"2").is_json(200, OK);
        assert_eq!(texts(gateway, &station), ["1", "2"]);
        return;
    }
    let stream = unique("ERP");
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream(&stream, &station, &serde_json::json!({"max_msgs": 77}));
    gateway.single(&station, "text/plain", b"x").is_json(200, OK);
    assert_eq!(broker.count(&stream), 1);
    assert_eq!(broker.message(&stream, 1).subject, station);
    assert_eq!(broker.stream(&stream)["config"]["max_msgs"], 77);
    let own = broker.try_api(&format!("STREAM.INFO.{}", station.replace('.', "#")), &Value::Null);
    assert_eq!(own["error"]["code"], 404, "no second stream was made: {own}");
}

fn a_station_with_partitions_has_a_stream_for_each(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\npartitions = 3").start();
    let body: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    gateway.batch("parts.x", &format!("[{}]", body.join(","))).is_json(200, OK);
    let mut broker = Broker::connect(gateway.nats());
    let mut all: Vec<u32> = Vec::new();
    for partition in 1..=3 {
        let stream = format!("parts#x${partition}");
        let messages = broker.messages(&stream);
        assert!(!messages.is_empty(), "{stream} is empty");
        let numbers: Vec<u32> =
            messages.iter().map(|raw| String::from_utf8_lossy(&raw.payload).parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{stream} keeps the order of the batch: {numbers:?}");
        assert!(messages.iter().all(|raw| raw.subject == format!("parts.x.${partition}")), "{messages:?}");
        all.extend(numbers);
    }
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
}

fn refused(sentence: &str) -> String {
    format!("{{\"error\":{},\"success\":false}}", serde_json::to_string(sentence).unwrap())
}
