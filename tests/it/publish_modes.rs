//! How records are published to NATS: what the gateway learns of the broker, what it makes, what it says of it.

use crate::support::{
    broker::{Broker, Raw},
    cluster::Cluster,
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response},
    nats::{NatsServer, version_line},
    ports,
    setup::Setup,
};
use serde_json::json;
use std::{collections::BTreeSet, net::SocketAddr, ops::Range, time::Duration};

mod load;
mod outages;

on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
    the_sync_mode_is_learned_from_the_monitoring_and_shown,
    without_a_monitoring_address_nothing_is_claimed,
    what_is_too_little_for_a_batch_goes_singly,
    streams_that_exist_stay_as_they_are,
]);

mod any_broker {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL, cluster CLUSTER => [
        streams_are_made_to_take_batches_where_the_broker_knows_them,
        batches_are_stored_whole_in_order_and_byte_for_byte,
        consumers_do_not_see_that_a_record_came_in_a_batch,
        the_same_batch_with_ids_is_stored_once,
        what_is_missing_of_a_batch_with_ids_is_stored_and_nothing_twice,
        of_a_batch_that_a_stream_has_no_room_for_the_first_records_are_stored,
        of_several_batches_each_record_gets_its_own_answer,
        each_record_gets_its_own_answer_among_known_ids_and_a_full_stream,
        each_record_gets_its_own_answer_among_records_that_the_stream_finds_too_large,
        a_batch_with_ids_that_the_window_has_no_room_for_is_stored_in_order,
        of_several_batches_what_is_stored_is_stored_in_order,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker that syncs so, and where its monitoring listens.
fn monitored(sync_interval: &str) -> (NatsServer, SocketAddr) {
    let http = ports::free();
    let server = NatsServer::with_raw_config(&format!(
        "http: \"{http}\"\njetstream {{\n  store_dir: \"@DIR@/js\"\n  sync_interval: {sync_interval}\n}}\n"
    ));
    (server, http)
}

/// Minor version of the broker under test, all of which are 2.
fn minor() -> u32 {
    let line = version_line();
    let minor = line.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    minor.unwrap_or_else(|| panic!("{line}"))
}

/// Whether the broker under test knows atomic batches.
fn knows_batches() -> bool {
    minor() >= 12
}

/// How records go to the broker, and how it syncs meanwhile.
#[derive(Debug, Clone, Copy)]
struct Way {
    mode: &'static str,
    sync: &'static str,
}

const WAYS: [Way; 4] = [
    Way { mode: "single", sync: "\"2m\"" },
    Way { mode: "single", sync: "always" },
    Way { mode: "atomic", sync: "\"2m\"" },
    Way { mode: "atomic", sync: "always" },
];

/// The ways that are to be told apart: how the shared cluster syncs is the same for all.
fn ways(setup: Setup) -> impl Iterator<Item = Way> {
    WAYS.into_iter().filter(move |way| !setup.replicated || way.sync != "always")
}

impl Way {
    fn server(self, setup: Setup) -> NatsServer {
        if setup.replicated {
            return Cluster::shared().account();
        }
        NatsServer::with_raw_config(&format!(
            "jetstream {{\n  store_dir: \"@DIR@/js\"\n  sync_interval: {}\n}}\n",
            self.sync
        ))
    }

    /// A gateway that publishes so to the broker at `url`, with these limits.
    fn gateway(self, setup: Setup, url: &str, limits: &str) -> Gateway {
        let config = format!("[nats]\npublish_mode = \"{}\"\n[limits]\n{limits}", self.mode);
        Plan::new(setup).nats_url(url).config(&config).shards(1).start()
    }

    /// Whether batches are atomic this way.
    fn is_atomic(self) -> bool {
        self.mode == "atomic" && knows_batches()
    }
}

/// A stream that takes so many records and no more.
fn create_full_at(server: &NatsServer, stream: &str, room: u32) -> Broker {
    let mut config = json!({"max_msgs": room, "discard": "new"});
    if knows_batches() {
        config["allow_atomic"] = true.into();
    }
    let mut broker = Broker::connect(server);
    broker.create_stream(stream, stream, &config);
    broker
}

fn purge(broker: &mut Broker, stream: &str) {
    broker.api(&format!("STREAM.PURGE.{stream}"), &serde_json::Value::Null);
}

/// The JSON array of these numbers.
fn array(numbers: Range<u32>) -> String {
    format!("[{}]", numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(","))
}

fn texts(messages: &[Raw]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8(message.payload.clone()).unwrap()).collect()
}

fn stored(server: &NatsServer, stream: &str) -> Vec<String> {
    texts(&Broker::connect(server).messages(stream))
}

fn strings(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

/// A header field of a stored message.
fn field(message: &Raw, name: &str) -> Option<String> {
    message.fields().into_iter().find_map(|(field, value)| (field == name).then_some(value))
}

/// The ids of the atomic batches that these messages came in.
fn batch_ids(messages: &[Raw]) -> BTreeSet<String> {
    messages.iter().filter_map(|message| field(message, "Nats-Batch-Id")).collect()
}

#[track_caller]
fn keyed(gateway: &Gateway, station: &str, key: &str, body: &str) -> Response {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    gateway.post(&format!("/stations/{station}/produce/batch"), &headers, body.as_bytes())
}

/// What the broker says of a stream that takes no more.
const FULL: &str = "maximum messages exceeded";

/// Sends a batch whose answer is read later.
fn send_batch(gateway: &Gateway, station: &str, more: &[(&str, &str)], body: &str) -> Http {
    let headers = [&[("Content-Type", "application/json")], more].concat();
    let path = format!("/stations/{station}/produce/batch");
    let mut http = Http::connect(gateway.address());
    http.send(&gateway.authorized("POST", &path, &headers, body.as_bytes()));
    http
}

/// The records that a partial result names, and what it says of each.
fn named_in(response: &Response) -> Vec<(u32, String)> {
    let result = response.json();
    let errors = result["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap());
    errors
        .map(|error| {
            let (number, text) = error.strip_prefix("record ").unwrap().split_once(": ").unwrap();
            (number.parse().unwrap(), text.to_owned())
        })
        .collect()
}

/// Fails unless it is the partial result of a batch of `records`, of which these failed, each for a reason with this in it.
#[track_caller]
fn failed(way: Way, response: &Response, records: usize, numbers: &[u32], reason: &str) {
    // A stream that is full is no fault of the records.
    let status = if reason == FULL { 503 } else { 400 };
    assert_eq!(response.status, status, "{way:?} {}", response.text());
    assert_eq!(response.header("retry-after").is_some(), status == 503);
    let result = response.json();
    let named = named_in(response);
    let all_say_so = named.iter().all(|(_, text)| text.contains(reason));
    assert!(all_say_so && named.iter().map(|(number, _)| number).eq(numbers), "{way:?} {result}");
    assert_eq!(result["fail"].as_u64(), Some(numbers.len() as u64), "{way:?} {result}");
    assert_eq!(result["sent"].as_u64(), Some((records - numbers.len()) as u64), "{way:?} {result}");
    assert_eq!(result["success"], false, "{way:?} {result}");
}

fn count_becomes(server: &NatsServer, stream: &str, count: u64) {
    let mut broker = Broker::connect(server);
    eventually("the broker has the records", PATIENCE, || (broker.count(stream) == count).then_some(()));
}

fn sync_always(gateway: &Gateway) -> Option<String> {
    let metrics = gateway.metrics();
    metrics.lines().find_map(|line| line.strip_prefix("sluicegate_broker_sync_always ").map(str::to_owned))
}

fn the_sync_mode_is_learned_from_the_monitoring_and_shown(setup: Setup) {
    for (sync, shown, said) in [("always", "1", "before it acknowledges"), ("\"30s\"", "0", "acknowledges before it")] {
        let (server, http) = monitored(sync);
        let config = format!("[nats]\nmonitor_url = \"http://{http}/\"");
        let gateway = Plan::new(setup).nats_url(&server.url()).config(&config).start();
        eventually("it is learned", PATIENCE, || (sync_always(&gateway).as_deref() == Some(shown)).then_some(()));
        let log = gateway.process().stderr();
        assert!(log.contains("durability") && log.contains(said), "{log}");
        gateway.batch("learned", "[1,2,3]").is_json(200, OK);
    }
}

fn without_a_monitoring_address_nothing_is_claimed(setup: Setup) {
    let (server, http) = monitored("always");
    let gateway = Plan::new(setup).nats_url(&server.url()).start();
    gateway.batch("quiet", "[1,2,3]").is_json(200, OK);
    assert_eq!(sync_always(&gateway), None);
    // An address where nobody answers is no obstacle either; it is said once.
    drop(server);
    let silent = Plan::new(setup).config(&format!("[nats]\nmonitor_url = \"http://{http}\"")).start();
    silent.batch("silent", "[1,2,3]").is_json(200, OK);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(sync_always(&silent), None);
    assert_eq!(silent.process().stderr().matches("monitoring cannot be read").count(), 1);
}

fn streams_are_made_to_take_batches_where_the_broker_knows_them(setup: Setup) {
    for (layout, stream) in [("plain", "made"), ("memphis", "made$1")] {
        let gateway = Plan::new(setup).config(&format!("[stations]\nlayout = \"{layout}\"")).start();
        gateway.batch("made", "[1,2,3]").is_json(200, OK);
        let mut broker = Broker::connect(gateway.nats());
        let config = &broker.stream(stream)["config"];
        assert_eq!(config["allow_atomic"].as_bool().unwrap_or(false), knows_batches(), "{config}");
    }
}

fn streams_that_exist_stay_as_they_are(setup: Setup) {
    let server = NatsServer::start();
    let mut broker = Broker::connect(&server);
    broker.create_stream("OLD", "old", &serde_json::json!({}));
    for mode in ["auto", "single", "atomic"] {
        let config = format!("[nats]\npublish_mode = \"{mode}\"");
        let gateway = Plan::new(setup).nats_url(&server.url()).config(&config).start();
        gateway.batch("old", "[1,2,3]").is_json(200, OK);
    }
    assert_eq!(broker.count("OLD"), 9);
    assert!(!broker.stream("OLD")["config"]["allow_atomic"].as_bool().unwrap_or(false));
}

fn batches_are_stored_whole_in_order_and_byte_for_byte(setup: Setup) {
    let gateway = Plan::new(setup).config("[nats]\npublish_mode = \"atomic\"").start();
    for (station, count, batches) in [("two", 2, 1), ("thousand", 1_000, 1), ("more", 2_500, 3)] {
        let elements: Vec<String> = (0..count)
            .map(|number| format!("{{\"n\" : {number}, \"text\":\"\\u00e9 \u{e9} {}\" }}", "x".repeat(number % 97)))
            .collect();
        gateway.batch(station, &format!("[ {} ]", elements.join(" ,\n"))).is_json(200, OK);
        let messages = Broker::connect(gateway.nats()).messages(station);
        assert_eq!(texts(&messages), elements);
        let sequences: Vec<u64> = messages.iter().map(|message| message.sequence).collect();
        assert_eq!(sequences, (1..=count as u64).collect::<Vec<_>>());
        assert_eq!(batch_ids(&messages).len(), if knows_batches() { batches } else { 0 }, "{station}");
        let batched = messages.iter().filter(|message| message.headers.contains("\r\nNats-Batch-Id: ")).count();
        assert_eq!(batched, if knows_batches() { count } else { 0 }, "{station}");
        let types =
            messages.iter().filter(|message| message.headers.contains("\r\nContent-Type: application/json\r\n"));
        assert_eq!(types.count(), count);
    }
}

fn what_is_too_little_for_a_batch_goes_singly(setup: Setup) {
    let (server, http) = monitored("always");
    let forced = Plan::new(setup).nats_url(&server.url()).config("[nats]\npublish_mode = \"atomic\"").start();
    forced.single("forced", "text/plain", b"0").is_json(200, OK);
    forced.batch("forced", "[1]").is_json(200, OK);
    forced.batch("forced", "[2,3]").is_json(200, OK);
    let config = format!("[nats]\nmonitor_url = \"http://{http}/\"");
    let auto = Plan::new(setup).nats_url(&server.url()).config(&config).start();
    eventually("it is learned", PATIENCE, || (sync_always(&auto).as_deref() == Some("1")).then_some(()));
    auto.batch("auto", &array(0..49)).is_json(200, OK);
    auto.batch("auto", &array(49..99)).is_json(200, OK);
    for (station, count, first_batched, since) in [("forced", 4, 2, 12), ("auto", 99, 49, 15)] {
        let messages = Broker::connect(&server).messages(station);
        assert_eq!(texts(&messages), strings(0..count));
        for (number, message) in messages.iter().enumerate() {
            let expect = minor() >= since && number >= first_batched;
            assert_eq!(field(message, "Nats-Batch-Id").is_some(), expect, "{station} {number}");
        }
    }
}

fn consumers_do_not_see_that_a_record_came_in_a_batch(setup: Setup) {
    let gateway = Plan::new(setup).config("[nats]\npublish_mode = \"atomic\"").start();
    keyed(&gateway, "seen", "k", "[1,2,3]").is_json(200, OK);
    let messages = Broker::connect(gateway.nats()).messages("seen");
    assert_eq!(batch_ids(&messages).len(), usize::from(knows_batches()));
    let response = gateway.consume("seen", "{\"consumer_name\":\"c\",\"batch_max_wait_time_ms\":1000}");
    let shown = |number: u32| {
        let headers = json!({"Content-Type": "application/json", "Nats-Msg-Id": format!("k {}", number - 1)});
        json!({"message": number.to_string(), "headers": headers})
    };
    assert_eq!(response.json(), json!([shown(1), shown(2), shown(3)]));
}

fn the_same_batch_with_ids_is_stored_once(setup: Setup) {
    for way in ways(setup) {
        let server = way.server(setup);
        let gateway = way.gateway(setup, &server.url(), "");
        for (station, count, batches) in [("few", 6, 1), ("many", 1_000, 1), ("most", 1_500, 2)] {
            for _ in 0..3 {
                keyed(&gateway, station, "key", &array(0..count)).is_json(200, OK);
            }
            let messages = Broker::connect(&server).messages(station);
            assert_eq!(texts(&messages), strings(0..count), "{way:?}");
            assert_eq!(batch_ids(&messages).len(), if way.is_atomic() { batches } else { 0 }, "{way:?}");
        }
    }
}

fn what_is_missing_of_a_batch_with_ids_is_stored_and_nothing_twice(setup: Setup) {
    for way in ways(setup) {
        let server = way.server(setup);
        let gateway = way.gateway(setup, &server.url(), "");
        keyed(&gateway, "head", "key", &array(0..3)).is_json(200, OK);
        keyed(&gateway, "head", "key", &array(0..6)).is_json(200, OK);
        assert_eq!(stored(&server, "head"), strings(0..6), "{way:?}");
        keyed(&gateway, "head", "key", &array(0..900)).is_json(200, OK);
        assert_eq!(stored(&server, "head"), strings(0..900), "{way:?}");
        // Known are some in its middle.
        gateway.batch("middle", "[\"first\"]").is_json(200, OK);
        let mut broker = Broker::connect(&server);
        for known in [1, 4] {
            broker.publish("middle", &format!("NATS/1.0\r\nNats-Msg-Id: key {known}\r\n\r\n"), b"known");
        }
        count_becomes(&server, "middle", 3);
        keyed(&gateway, "middle", "key", &array(0..6)).is_json(200, OK);
        assert_eq!(stored(&server, "middle"), ["\"first\"", "known", "known", "0", "2", "3", "5"], "{way:?}");
    }
}

fn of_a_batch_that_a_stream_has_no_room_for_the_first_records_are_stored(setup: Setup) {
    for way in ways(setup) {
        let server = way.server(setup);
        let mut broker = create_full_at(&server, "small", 4);
        create_full_at(&server, "large", 700);
        let gateway = way.gateway(setup, &server.url(), "");
        gateway.batch("small", "[0,1]").is_json(200, OK);
        failed(way, &gateway.batch("small", "[2,3,4,5,6]"), 5, &[2, 3, 4], FULL);
        assert_eq!(stored(&server, "small"), strings(0..4), "{way:?}");
        gateway.batch("small", "[7,8]").is_retryable(503);
        let refused: Vec<u32> = (700..1_000).collect();
        failed(way, &gateway.batch("large", &array(0..1_000)), 1_000, &refused, FULL);
        assert_eq!(stored(&server, "large"), strings(0..700), "{way:?}");
        for stream in ["small", "large"] {
            purge(&mut broker, stream);
            gateway.batch(stream, "[10,11]").is_json(200, OK);
            let messages = broker.messages(stream);
            assert_eq!(texts(&messages), ["10", "11"], "{way:?}");
            assert_eq!(batch_ids(&messages).len(), usize::from(way.is_atomic()), "{way:?}");
        }
    }
}

fn of_several_batches_each_record_gets_its_own_answer(setup: Setup) {
    for way in ways(setup) {
        for room in [1_500, 1_700, 2_300] {
            let server = way.server(setup);
            create_full_at(&server, "several", room);
            let gateway = way.gateway(setup, &server.url(), "");
            let response = gateway.batch("several", &array(0..2_500));
            let result = response.json();
            let sent = u32::try_from(result["sent"].as_u64().unwrap()).unwrap();
            // A cluster that is busy counts some of what is under way twice, and is full a little sooner.
            let least = if setup.replicated { room - 50 } else { room };
            assert!(response.status == 503 && (least..=room).contains(&sent), "{way:?} {result}");
            let refused: BTreeSet<u32> = named_in(&response).into_iter().map(|(number, _)| number).collect();
            let messages = stored(&server, "several");
            let found: BTreeSet<u32> = messages.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(
                (messages.len(), found.len()),
                (sent as usize, sent as usize),
                "{way:?} something is stored twice"
            );
            assert_eq!(found, (0..2_500).filter(|number| !refused.contains(number)).collect(), "{way:?}");
        }
    }
}

fn each_record_gets_its_own_answer_among_known_ids_and_a_full_stream(setup: Setup) {
    for way in ways(setup) {
        let server = way.server(setup);
        let mut broker = create_full_at(&server, "mixed", 4);
        for known in [1, 3, 6] {
            broker.publish("mixed", &format!("NATS/1.0\r\nNats-Msg-Id: key {known}\r\n\r\n"), b"known");
        }
        count_becomes(&server, "mixed", 3);
        let gateway = way.gateway(setup, &server.url(), "");
        for refused in [[2, 4, 5, 7], [2, 4, 5, 7]] {
            let response = keyed(&gateway, "mixed", "key", &array(0..8));
            failed(way, &response, 8, &refused, FULL);
        }
        assert_eq!(stored(&server, "mixed"), ["known", "known", "known", "0"], "{way:?}");
    }
}

fn each_record_gets_its_own_answer_among_records_that_the_stream_finds_too_large(setup: Setup) {
    for way in ways(setup) {
        let server = way.server(setup);
        let gateway = way.gateway(setup, &server.url(), "");
        gateway.batch("shrunk", "[0]").is_json(200, OK);
        // The gateway has learned the stream's limit, and does not know that it was lowered.
        let mut broker = Broker::connect(&server);
        let mut config = broker.stream("shrunk")["config"].clone();
        config["max_msg_size"] = 500.into();
        broker.api("STREAM.UPDATE.shrunk", &config);
        let large = [1, 2, 5, 40, 41, 99];
        let elements = (0..100).map(|number: u32| {
            let text = if large.contains(&number) { "x".repeat(600) } else { String::new() };
            format!("\"{number} {text}\"")
        });
        let elements: Vec<String> = elements.collect();
        let response = gateway.batch("shrunk", &format!("[{}]", elements.join(",")));
        failed(way, &response, 100, &large, "larger than");
        let small = elements.into_iter().filter(|element| element.len() < 500);
        assert_eq!(
            stored(&server, "shrunk"),
            std::iter::once("0".to_owned()).chain(small).collect::<Vec<_>>(),
            "{way:?}"
        );
    }
}

fn a_batch_with_ids_that_the_window_has_no_room_for_is_stored_in_order(setup: Setup) {
    for way in ways(setup) {
        let server = way.server(setup);
        let gateway = way.gateway(setup, &server.url(), "window_messages_max = 100");
        keyed(&gateway, "narrow", "key", &array(0..50)).is_json(200, OK);
        keyed(&gateway, "narrow", "key", &array(0..300)).is_json(200, OK);
        assert_eq!(stored(&server, "narrow"), strings(0..300), "{way:?}");
    }
}

fn of_several_batches_what_is_stored_is_stored_in_order(setup: Setup) {
    for way in ways(setup) {
        let server = way.server(setup);
        create_full_at(&server, "ordered", 1_700);
        let gateway = way.gateway(setup, &server.url(), "");
        assert_eq!(gateway.batch("ordered", &array(0..2_500)).status, 503);
        let stored: Vec<u32> = stored(&server, "ordered").iter().map(|text| text.parse().unwrap()).collect();
        let misplaced = stored.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(misplaced, None, "{way:?}");
    }
}
