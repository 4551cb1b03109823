//! The contract of consume: fields and their defaults, the bare array, the wait, groups, at least
//! once, and bytes that are not text (docs/contract.md).

use crate::support::{
    PATIENCE,
    broker::Broker,
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response},
    readback::{self, drain},
    setup::Setup,
    unique,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

on_every_setup_and_the_cluster!(
    a_message_is_its_text_and_its_headers,
    nothing_there_is_an_empty_array_after_the_wait,
    a_station_that_is_new_is_an_empty_array,
    messages_come_at_once_and_in_order,
    a_consumer_name_is_required,
    a_batch_size_out_of_range_is_400,
    a_body_that_is_no_request_is_400,
    the_batch_size_is_10_unless_said,
    zero_is_the_default,
    a_large_batch_comes_whole,
    every_group_gets_every_message_and_members_share_them,
    a_message_that_was_handed_out_whole_does_not_come_again,
    bytes_that_are_not_text_come_as_base64,
    text_of_every_kind_comes_as_it_is,
    a_message_that_comes_during_the_wait_ends_it_soon,
);

mod partitioned {
    use super::*;
    on_setups!(
        local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL,
        cluster CLUSTER => [
            one_call_reads_all_partitions,
        ]
    );
}

mod foreign {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL, cluster CLUSTER => [
        what_others_published_is_handed_out_as_well,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";
const INVALID: &str = "{\"error\":\"Invalid request body\",\"success\":false}";

/// A consume call that waits briefly; `more` is merged over the body.
#[track_caller]
fn consume(gateway: &Gateway, station: &str, more: &Value) -> Response {
    let mut body = json!({"consumer_name": "c", "batch_max_wait_time_ms": 1_000});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    gateway.consume(station, &body.to_string())
}

#[track_caller]
fn texts(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", response.text());
    let json = response.json();
    json.as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect()
}

fn fill(gateway: &Gateway, station: &str, count: usize) -> Vec<String> {
    let expect: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    gateway.batch(station, &format!("[{}]", expect.join(","))).is_json(200, OK);
    expect
}

fn a_message_is_its_text_and_its_headers(gateway: &Gateway) {
    let station = unique("shape");
    let headers = [("Content-Type", "text/plain"), ("X-Kind", "greeting"), ("Cookie", "no"), ("Idempotency-Key", "k1")];
    gateway.post(&format!("/stations/{station}/produce/single"), &headers, b"Hello \"World\"\n").is_json(200, OK);
    let response = consume(gateway, &station, &json!({}));
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let expect = json!([{
        "message": "Hello \"World\"\n",
        "headers": {"Content-Type": "text/plain", "X-Kind": "greeting"}
    }]);
    let mut got = response.json();
    // The message id belongs to the broker: on NATS it may be shown, and then it is the one that was sent.
    if let Some(id) = got[0]["headers"].as_object_mut().unwrap().remove("Nats-Msg-Id") {
        assert_eq!(id, "k1");
    }
    assert_eq!(got, expect);
}

fn nothing_there_is_an_empty_array_after_the_wait(gateway: &Gateway) {
    let station = unique("nothing");
    fill(gateway, &station, 1);
    assert_eq!(texts(&consume(gateway, &station, &json!({}))).len(), 1);
    for (asked, least) in [(700, 650), (1, 80)] {
        let start = Instant::now();
        consume(gateway, &station, &json!({"batch_max_wait_time_ms": asked})).is_json(200, "[]");
        let took = start.elapsed().as_millis();
        assert!((least..20_000).contains(&took), "asked for {asked} ms, waited {took} ms");
    }
}

fn a_station_that_is_new_is_an_empty_array(gateway: &Gateway) {
    let station = unique("new");
    consume(gateway, &station, &json!({"batch_max_wait_time_ms": 200})).is_json(200, "[]");
    fill(gateway, &station, 2);
    assert_eq!(texts(&consume(gateway, &station, &json!({}))), ["0", "1"]);
}

fn messages_come_at_once_and_in_order(gateway: &Gateway) {
    let station = unique("order");
    let expect = fill(gateway, &station, 5);
    let start = Instant::now();
    let response = consume(gateway, &station, &json!({"batch_size": 5, "batch_max_wait_time_ms": 20_000}));
    assert_eq!(texts(&response), expect);
    assert!(start.elapsed() < Duration::from_secs(15), "a full batch does not wait: {:?}", start.elapsed());
}

fn a_consumer_name_is_required(gateway: &Gateway) {
    let required = "{\"error\":\"Consumer name is required\",\"success\":false}";
    for body in ["{}", "{\"consumer_name\":\"\"}", "{\"consumer_group\":\"g\",\"batch_size\":5}"] {
        gateway.consume("required", body).is_json(400, required);
    }
}

fn a_batch_size_out_of_range_is_400(gateway: &Gateway) {
    let sentence = "{\"error\":\"Batch size can not be greater than 5000 or less than 1\",\"success\":false}";
    for size in [-1, -5_000, 5_001, 1_000_000, i64::from(i32::MAX)] {
        consume(gateway, "range", &json!({"batch_size": size})).is_json(400, sentence);
    }
    for size in [1, 5_000] {
        let body = json!({"batch_size": size, "batch_max_wait_time_ms": 100});
        consume(gateway, &unique("in-range"), &body).is_json(200, "[]");
    }
}

fn a_body_that_is_no_request_is_400(gateway: &Gateway) {
    for body in [
        "",
        "{",
        "nonsense",
        "[]",
        "{\"consumer_name\":5}",
        "{\"consumer_name\":\"c\",\"batch_size\":\"10\"}",
        "{\"consumer_name\":\"c\",\"batch_size\":1.5}",
        "{\"consumer_name\":\"c\",\"consumer_group\":7}",
        "{\"consumer_name\":\"c\",\"batch_max_wait_time_ms\":\"1s\"}",
    ] {
        gateway.consume("invalid", body).is_json(400, INVALID);
    }
}

fn the_batch_size_is_10_unless_said(gateway: &Gateway) {
    let station = unique("ten");
    let expect = fill(gateway, &station, 12);
    assert_eq!(texts(&consume(gateway, &station, &json!({}))), expect[..10]);
    assert_eq!(texts(&consume(gateway, &station, &json!({}))), expect[10..]);
}

fn zero_is_the_default(gateway: &Gateway) {
    let station = unique("zero");
    let expect = fill(gateway, &station, 11);
    let body = json!({"batch_size": 0, "batch_max_wait_time_ms": 0, "consumer_group": ""});
    assert_eq!(texts(&consume(gateway, &station, &body)), expect[..10]);
    assert_eq!(texts(&consume(gateway, &station, &json!({}))), expect[10..], "no group and \"\" are the same group");
}

fn a_large_batch_comes_whole(gateway: &Gateway) {
    let station = unique("large");
    let expect = fill(gateway, &station, 6_000);
    let first = texts(&consume(gateway, &station, &json!({"batch_size": 5_000, "batch_max_wait_time_ms": 10_000})));
    assert_eq!(first, expect[..5_000]);
    let rest = texts(&consume(gateway, &station, &json!({"batch_size": 5_000})));
    assert_eq!(rest, expect[5_000..]);
}

fn every_group_gets_every_message_and_members_share_them(gateway: &Gateway) {
    let station = unique("groups");
    let expect = fill(gateway, &station, 6);
    let read = |name: &str, group: &str, size: u32| {
        texts(&consume(gateway, &station, &json!({"consumer_name": name, "consumer_group": group, "batch_size": size})))
    };
    assert_eq!(read("a", "one", 4), expect[..4]);
    assert_eq!(read("b", "one", 4), expect[4..]);
    // The same consumer name in another group is another reader: the group is read from every request.
    assert_eq!(read("a", "two", 10), expect);
    assert_eq!(texts(&consume(gateway, &station, &json!({"consumer_name": "a"}))), expect, "the default group");
}

fn a_message_that_was_handed_out_whole_does_not_come_again(gateway: &Gateway) {
    let station = unique("once");
    let expect = fill(gateway, &station, 3);
    assert_eq!(texts(&consume(gateway, &station, &json!({}))), expect);
    for _ in 0..3 {
        consume(gateway, &station, &json!({"batch_max_wait_time_ms": 200})).is_json(200, "[]");
    }
}

fn bytes_that_are_not_text_come_as_base64(gateway: &Gateway) {
    let station = unique("binary");
    let rows: [&[u8]; 6] =
        [b"\xff", b"\x08\x96\x01\x00\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"a\x80"];
    for payload in rows {
        gateway.single(&station, "application/octet-stream", payload).is_json(200, OK);
    }
    let response = consume(gateway, &station, &json!({}));
    let messages = response.json();
    let messages = messages.as_array().unwrap();
    assert_eq!(messages.len(), rows.len());
    for (message, payload) in messages.iter().zip(rows) {
        assert_eq!(message["encoding"], "base64", "{message}");
        assert_eq!(readback::message(message).payload, payload);
    }
}

fn text_of_every_kind_comes_as_it_is(gateway: &Gateway) {
    let station = unique("text");
    let rows =
        ["", "żółw ✓ \u{1f600}", "\u{0}\u{1}\u{1f}\u{7f}", "\"\\/\u{8}\u{c}\n\r\t", "\u{2028}\u{2029}\u{feff}", "<>&'"];
    for payload in rows {
        gateway.single(&station, "text/plain", payload.as_bytes()).is_json(200, OK);
    }
    let response = consume(gateway, &station, &json!({}));
    for message in response.json().as_array().unwrap() {
        assert_eq!(message.get("encoding"), None, "{message}");
    }
    assert_eq!(texts(&response), rows);
}

fn a_message_that_comes_during_the_wait_ends_it_soon(gateway: &Gateway) {
    let station = unique("waiting");
    fill(gateway, &station, 1);
    drain(gateway, &station, "g");
    let body = json!({"consumer_name": "c", "consumer_group": "g", "batch_size": 1, "batch_max_wait_time_ms": 20_000});
    let path = format!("/stations/{station}/consume/batch");
    let headers = [("Content-Type", "application/json")];
    let mut waiting = Http::connect(gateway.address());
    waiting.send(&gateway.authorized("POST", &path, &headers, body.to_string().as_bytes()));
    std::thread::sleep(Duration::from_millis(300));
    gateway.single(&station, "text/plain", b"awaited").is_json(200, OK);
    let start = Instant::now();
    assert_eq!(texts(&waiting.response()), ["awaited"]);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

fn one_call_reads_all_partitions(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\npartitions = 3").start();
    let expect: BTreeSet<String> = fill(&gateway, "parts", 60).into_iter().collect();
    let first = consume(&gateway, "parts", &json!({"batch_size": 100, "batch_max_wait_time_ms": 3_000}));
    let got: BTreeSet<String> = texts(&first).into_iter().collect();
    assert_eq!(got, expect);
    consume(&gateway, "parts", &json!({"batch_max_wait_time_ms": 200})).is_json(200, "[]");
}

fn what_others_published_is_handed_out_as_well(setup: Setup) {
    let gateway = Gateway::start(setup);
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("theirs", "theirs", &json!({}));
    broker.publish("theirs", "", b"bare");
    let headers = "NATS/1.0\r\nKind: a\r\nKind: b\r\n$memphis_producedBy: sdk\r\nNats-Msg-Id: 7\r\n\r\n";
    broker.publish("theirs", headers, b"with headers");
    eventually("both are stored", PATIENCE, || (broker.count("theirs") == 2).then_some(()));
    let response = consume(&gateway, "theirs", &json!({}));
    assert_eq!(texts(&response), ["bare", "with headers"]);
    let messages = response.json();
    assert_eq!(messages[0]["headers"], json!({}));
    assert_eq!(messages[1]["headers"]["Kind"], "a", "the first value");
    assert_eq!(messages[1]["headers"].get("$memphis_producedBy"), None);
}
