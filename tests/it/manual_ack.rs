//! What a consume call that asks for `manual_ack` was handed: open until its client says that it is done, and never for nobody.

use crate::support::{
    PATIENCE,
    admin::done,
    broker::Broker,
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response, request},
    setup::{Backend, Setup},
    unique,
};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Barrier,
    thread,
    time::Duration,
};

on_every_setup_and_the_cluster!(
    an_acknowledgement_that_is_sent_again_is_answered_as_the_first_one,
    an_answer_that_did_not_arrive_is_given_back_at_once,
    calls_that_are_sent_ahead_are_deliveries_of_their_own,
    pages_may_read_which_delivery_it_is,
    who_acknowledges_what,
);

mod alone {
    use super::*;
    on_setups!(
        local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
            an_open_delivery_holds_its_answer_only_while_that_is_written,
            an_open_delivery_outlives_its_connection,
            a_gateway_that_shuts_down_gives_open_deliveries_back,
            nobody_takes_all_open_deliveries,
        ]
    );
}

mod deadline {
    use super::*;
    on_setups!(local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING => [
        what_nobody_acknowledges_comes_again_and_then_it_is_too_late,
    ]);
}

mod broker {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        an_acknowledgement_that_the_broker_cannot_be_told_can_be_sent_again,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";
const PASSWORD: &str = "Correct-Horse-9!";

/// A consume call of root that acknowledges by itself; `more` is merged over the body.
fn call(gateway: &Gateway, station: &str, more: &Value) -> Vec<u8> {
    let mut body =
        json!({"consumer_name": "c", "manual_ack": true, "batch_size": 10, "batch_max_wait_time_ms": 10_000});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let path = format!("/stations/{station}/consume/batch");
    gateway.authorized("POST", &path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
}

/// A call that only acknowledges.
fn ack(gateway: &Gateway, station: &str, delivery: &str) -> Vec<u8> {
    call(gateway, station, &json!({"ack": delivery, "batch_size": 0}))
}

fn fill(gateway: &Gateway, station: &str, count: usize) {
    let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    gateway.batch(station, &format!("[{}]", numbers.join(","))).is_json(200, OK);
}

#[track_caller]
fn texts(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", response.text());
    let messages = response.json();
    messages.as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn delivery(response: &Response) -> String {
    response.header("sluicegate-delivery").unwrap_or_else(|| panic!("no delivery: {}", response.head)).to_owned()
}

/// Returns the next `count` messages in any order, acknowledged by their arrival. One call may bring a part of them: a
/// broker takes back what it is given one by one, and a call is answered with what is there.
#[track_caller]
fn next(gateway: &Gateway, station: &str, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = json!({"manual_ack": false, "batch_size": count - all.len()});
        let some = texts(&Http::connect(gateway.address()).exchange(&call(gateway, station, &more)));
        assert!(!some.is_empty(), "{} of {count} came: {all:?}", all.len());
        all.extend(some);
    }
    all.sort();
    all
}

/// Nothing is there for a group: all is done, or in somebody's hands.
#[track_caller]
fn nothing_left(gateway: &Gateway, station: &str) {
    let more = json!({"manual_ack": false, "batch_max_wait_time_ms": 1_000});
    assert_eq!(texts(&Http::connect(gateway.address()).exchange(&call(gateway, station, &more))), [""; 0]);
}

fn an_acknowledgement_that_is_sent_again_is_answered_as_the_first_one(gateway: &Gateway) {
    let station = unique("again");
    fill(gateway, &station, 7);
    let mut http = Http::connect(gateway.address());
    let first = http.exchange(&call(gateway, &station, &json!({"batch_size": 3})));
    assert_eq!(texts(&first), ["0", "1", "2"]);
    let id = delivery(&first);
    // The same bytes sent three times, the last ones ahead: a client that had no answer does that.
    let again = call(gateway, &station, &json!({"batch_size": 2, "ack": id}));
    assert_eq!(texts(&http.exchange(&again)), ["3", "4"]);
    http.send(&[again, ack(gateway, &station, &id)].concat());
    assert_eq!(texts(&http.response()), ["5", "6"]);
    assert_eq!(texts(&http.response()), [""; 0]);
    let other = http.exchange(&call(gateway, &station, &json!({"batch_size": 0, "ack": id, "ack_records": 1})));
    assert!(other.is_error(400).contains("another number"), "{}", other.text());
    // A part that is said again is that part.
    let station = unique("part");
    fill(gateway, &station, 3);
    let id = delivery(&http.exchange(&call(gateway, &station, &json!({}))));
    let part = call(gateway, &station, &json!({"batch_size": 0, "ack": id, "ack_records": 1}));
    for _ in 0..2 {
        http.exchange(&part).is_json(200, "[]");
    }
    http.exchange(&ack(gateway, &station, &id)).is_error(400);
    assert_eq!(next(gateway, &station, 2), ["1", "2"], "the others came again at once");
}

fn an_answer_that_did_not_arrive_is_given_back_at_once(gateway: &Gateway) {
    let station = unique("amid");
    let record = format!("\"{}\"", "x".repeat(350));
    gateway.batch(&station, &format!("[{}]", vec![record; 200].join(","))).is_json(200, OK);
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&call(gateway, &station, &json!({"batch_size": 200}))).unwrap();
    let mut some = [0; 2_000];
    stream.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"));
    drop(stream);
    assert_eq!(next(gateway, &station, 200).len(), 200);
}

fn calls_that_are_sent_ahead_are_deliveries_of_their_own(gateway: &Gateway) {
    let station = unique("ahead");
    fill(gateway, &station, 8);
    let mut http = Http::connect(gateway.address());
    http.send(&call(gateway, &station, &json!({"batch_size": 2})).repeat(4));
    let mut ids = Vec::new();
    for first in [0, 2, 4, 6] {
        let response = http.response();
        assert_eq!(texts(&response), [first.to_string(), (first + 1).to_string()]);
        ids.push(delivery(&response));
    }
    // All but the second, the last first.
    let acks: Vec<Vec<u8>> = [3, 2, 0].map(|index| ack(gateway, &station, &ids[index])).into();
    http.send(&acks.concat());
    for _ in acks {
        http.response().is_json(200, "[]");
    }
    let rest = call(gateway, &station, &json!({"ack": ids[1], "ack_records": 1, "batch_size": 1}));
    let rest = http.exchange(&rest);
    assert_eq!(texts(&rest), ["3"], "what was not acknowledged of the second");
    http.exchange(&ack(gateway, &station, &delivery(&rest))).is_json(200, "[]");
    nothing_left(gateway, &station);
}

fn pages_may_read_which_delivery_it_is(gateway: &Gateway) {
    let station = unique("page");
    fill(gateway, &station, 1);
    let mut http = Http::connect(gateway.address());
    let answer = http.exchange(&call(gateway, &station, &json!({})));
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default().to_owned();
    assert!(exposed.split(", ").any(|name| name == "Sluicegate-Delivery"), "{}", answer.head);
    http.exchange(&ack(gateway, &station, &delivery(&answer))).is_json(200, "[]");
}

/// Twice at the same time, of another station, of nothing.
fn who_acknowledges_what(gateway: &Gateway) {
    let (station, other) = (unique("own"), unique("other"));
    fill(gateway, &station, 2);
    fill(gateway, &other, 1);
    let mut http = Http::connect(gateway.address());
    let id = delivery(&http.exchange(&call(gateway, &station, &json!({}))));
    let nothing = ["", "x", "-1", "+1", "0", "ffffffffffffffff", "10000000000000000", "\u{0}", "5f0c5f0c5f0c5f0c "];
    for unknown in nothing {
        let text = http.exchange(&ack(gateway, &station, unknown)).is_error(400);
        assert!(text.contains("no such delivery"), "{unknown:?}: {text}");
    }
    http.exchange(&ack(gateway, &other, &id)).is_error(400);
    let calls = [call(gateway, &station, &json!({"batch_size": 1, "batch_max_wait_time_ms": 100, "ack": id}))];
    http.send(&calls.concat().repeat(4));
    for _ in 0..4 {
        assert_eq!(texts(&http.response()), [""; 0]);
    }
    nothing_left(gateway, &station);
    assert_eq!(next(gateway, &other, 1), ["0"], "what nobody was handed is untouched");
}

#[track_caller]
fn gauge(gateway: &Gateway, name: &str) -> usize {
    let metrics = gateway.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

/// Bytes of bodies and answers that the gateway holds.
#[track_caller]
fn held(gateway: &Gateway) -> usize {
    gauge(gateway, "sluicegate_body_bytes_held")
}

fn an_open_delivery_holds_its_answer_only_while_that_is_written(setup: Setup) {
    const RECORD: usize = 900_000;
    const RECORDS: usize = 12;
    let gateway = Plan::new(setup).shards(1).start();
    let record = vec![b'x'; RECORD];
    for _ in 0..RECORDS {
        gateway.single("large", "text/plain", &record).is_json(200, OK);
    }
    let mut http = Http::connect(gateway.address());
    http.send(&call(&gateway, "large", &json!({"batch_size": RECORDS})));
    eventually("the answer is being written", PATIENCE, || (held(&gateway) > RECORDS * RECORD).then_some(()));
    // It is larger than what the kernel takes, and nobody reads it.
    thread::sleep(Duration::from_secs(2));
    assert!(held(&gateway) > RECORDS * RECORD, "{} bytes held while the answer is written", held(&gateway));
    let answer = http.response();
    assert_eq!(texts(&answer).len(), RECORDS);
    eventually("its bytes are given back", PATIENCE, || (held(&gateway) < RECORD).then_some(()));
    // Not because its time was over: it is still open.
    assert_eq!(gauge(&gateway, "sluicegate_open_deliveries"), 1);
    http.exchange(&ack(&gateway, "large", &delivery(&answer))).is_json(200, "[]");
    nothing_left(&gateway, "large");
    eventually("nothing is held any more", PATIENCE, || {
        (held(&gateway) + gauge(&gateway, "sluicegate_open_deliveries") == 0).then_some(())
    });
}

fn an_open_delivery_outlives_its_connection(setup: Setup) {
    let gateway = Plan::new(setup).shards(1).start();
    fill(&gateway, "outlived", 2);
    let open = || {
        let mut http = Http::connect(gateway.address());
        delivery(&http.exchange(&call(&gateway, "outlived", &json!({"batch_size": 1}))))
    };
    let ids = [open(), open()];
    nothing_left(&gateway, "outlived");
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for id in ids.iter().chain(&ids) {
            scope.spawn(|| {
                let mut http = Http::connect(gateway.address());
                barrier.wait();
                http.exchange(&ack(&gateway, "outlived", id)).is_json(200, "[]");
            });
        }
    });
    nothing_left(&gateway, "outlived");
}

fn a_gateway_that_shuts_down_gives_open_deliveries_back(setup: Setup) {
    let mut gateway = Plan::new(setup).shards(1).start();
    fill(&gateway, "drained", 2);
    let mut http = Http::connect(gateway.address());
    let first = http.exchange(&call(&gateway, "drained", &json!({"batch_size": 1})));
    http.exchange(&call(&gateway, "drained", &json!({"batch_size": 1, "ack": delivery(&first)})));
    // One is done, one is open, and somebody has two of the three that it waits for.
    let mut waiting = Http::connect(gateway.address());
    waiting.send(&call(&gateway, "drained", &json!({"batch_size": 3, "batch_max_wait_time_ms": 60_000})));
    thread::sleep(Duration::from_millis(500));
    gateway.batch("drained", "[2,3]").is_json(200, OK);
    thread::sleep(Duration::from_millis(500));
    let (status, _) = gateway.terminate();
    assert!(status.success(), "{status}");
    let answer = waiting.response();
    assert_eq!((texts(&answer).len(), answer.header("sluicegate-delivery")), (0, None), "nobody could acknowledge it");
    gateway.restart();
    assert_eq!(next(&gateway, "drained", 3), ["1", "2", "3"]);
}

fn nobody_takes_all_open_deliveries(setup: Setup) {
    const OF_GROUP: usize = 64;
    const OF_PRINCIPAL: usize = 256;
    let gateway = Plan::new(setup).shards(1).start();
    done(&gateway, &["user", "add", "ada", "--password-stdin"], &format!("{PASSWORD}\n"));
    fill(&gateway, "many", OF_GROUP + 2);
    let mut http = Http::connect(gateway.address());
    let mut open = |group: usize, more: Value| {
        let mut wanted = json!({"batch_size": 1, "consumer_group": format!("g{group}")});
        for (key, value) in more.as_object().unwrap() {
            wanted[key] = value.clone();
        }
        http.exchange(&call(&gateway, "many", &wanted))
    };
    let mut first = None;
    for number in 0..OF_PRINCIPAL {
        let answer = open(number / OF_GROUP, json!({}));
        assert_eq!(texts(&answer).len(), 1, "{number}");
        first.get_or_insert(delivery(&answer));
    }
    let of_group = open(0, json!({})).is_retryable(429);
    assert!(of_group.contains("64") && of_group.contains("group"), "{of_group}");
    let of_principal = open(9, json!({})).is_retryable(429);
    assert!(of_principal.contains("256") && of_principal.contains("user or API key"), "{of_principal}");
    // Another one finds room, and so does this one once something is done.
    let token = eventually("the user may log in", PATIENCE, || {
        let body = json!({"username": "ada", "password": PASSWORD}).to_string();
        let response = gateway.authenticate(&body);
        (response.status == 200).then(|| response.json()["jwt"].as_str().unwrap().to_owned())
    });
    let bearer = format!("Bearer {token}");
    let body = json!({"consumer_name": "c", "consumer_group": "ada", "manual_ack": true, "batch_size": 1}).to_string();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let own = request("POST", "/stations/many/consume/batch", &headers, body.as_bytes());
    assert_eq!(texts(&Http::connect(gateway.address()).exchange(&own)).len(), 1);
    let id = first.unwrap();
    assert_eq!(texts(&open(0, json!({"ack": id}))), [OF_GROUP.to_string()], "what was refused was not handed out");
    // Who has the id may acknowledge: said again by another, it is the same.
    let body = json!({"consumer_name": "c", "ack": id, "batch_size": 0}).to_string();
    let other = request("POST", "/stations/many/consume/batch", &headers, body.as_bytes());
    Http::connect(gateway.address()).exchange(&other).is_json(200, "[]");
}

/// On NATS the group is a durable of somebody else who waits for less than the gateway's own do: it must be too late there as well.
fn what_nobody_acknowledges_comes_again_and_then_it_is_too_late(setup: Setup) {
    let gateway = Plan::new(setup).shards(1).start();
    fill(&gateway, "late", 1);
    if setup.backend == Backend::Nats {
        let wait_ns = 12_000_000_000_u64;
        let config = json!({"durable_name": "g-rest-gateway", "ack_policy": "explicit", "ack_wait": wait_ns});
        let body = json!({"stream_name": "late", "config": config});
        Broker::connect(gateway.nats()).api("CONSUMER.DURABLE.CREATE.late.g-rest-gateway", &body);
    }
    let mut http = Http::connect(gateway.address());
    let id = delivery(&http.exchange(&call(&gateway, "late", &json!({"consumer_group": "g"}))));
    let mut other = Http::connect(gateway.address());
    let again = json!({"consumer_group": "g", "batch_size": 1, "batch_max_wait_time_ms": 60_000});
    let again = other.exchange(&call(&gateway, "late", &again));
    assert_eq!(texts(&again), ["0"]);
    http.exchange(&ack(&gateway, "late", &id)).is_error(400);
    http.exchange(&ack(&gateway, "late", &delivery(&again))).is_json(200, "[]");
}

fn an_acknowledgement_that_the_broker_cannot_be_told_can_be_sent_again(setup: Setup) {
    let mut gateway = Plan::new(setup).shards(1).start();
    fill(&gateway, "away", 2);
    let mut http = Http::connect(gateway.address());
    let id = delivery(&http.exchange(&call(&gateway, "away", &json!({"batch_size": 1}))));
    gateway.nats_mut().stop();
    eventually("the broker is missed", PATIENCE, || {
        gateway.metrics().contains("sluicegate_broker_links_up 0").then_some(())
    });
    let done = ack(&gateway, "away", &id);
    http.exchange(&done).is_retryable(503);
    gateway.nats_mut().restart();
    eventually("the broker is back", PATIENCE, || (http.exchange(&done).status == 200).then_some(()));
    assert_eq!(next(&gateway, "away", 1), ["1"]);
}
