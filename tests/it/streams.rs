//! Streams that are not as the gateway would make them, and streams that do not stay: what is kept until a group has read it,
//! groups of several stations on one stream, stations whose stream was lost, and streams that cannot serve.

use crate::support::{
    admin::{api, records_of},
    broker::Broker,
    eventually,
    gateway::{Gateway, Plan},
    readback::drain,
    setup::Setup,
};
use serde_json::{Value, json};
use std::time::Duration;

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        r1_a_record_is_there_until_the_first_group_has_read_it,
    ]
);

mod broker {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        r1_records_stay_when_the_last_group_was_deleted,
        r1_an_adopted_stream_of_interest_keeps_what_nobody_reads_yet,
        r1_where_no_interest_can_be_kept_nothing_is_called_stored,
        r4_a_group_reads_each_station_of_one_stream,
        r4_durable_consumers_that_are_there_go_on_being_used,
        r4_two_stations_on_one_subject_share_no_group,
        r5_a_station_whose_stream_was_lost_is_made_as_it_was,
        r5_partitions_that_were_lost_are_made_as_they_were,
        r5_a_change_is_kept_too,
        r5_a_lost_station_is_made_anew_where_stations_are_not_made_by_themselves,
        r5_an_adopted_stream_that_is_gone_is_503_and_no_other_is_made,
        r12_a_work_queue_has_one_group_and_says_so,
        r12_streams_that_cannot_serve_are_refused_when_they_are_adopted,
        r12_streams_that_cannot_serve_are_not_the_gateways_fault,
        r12_a_limit_of_consumers_is_named,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";
/// Longer than it takes until the gateway sees that a group has come or gone.
const A_WHILE: Duration = Duration::from_secs(60);

fn consume(gateway: &Gateway, station: &str, group: &str) -> (u16, String) {
    let body = json!({"consumer_name": "c", "consumer_group": group, "batch_max_wait_time_ms": 300});
    let response = gateway.consume(station, &body.to_string());
    (response.status, response.text().to_owned())
}

fn texts(gateway: &Gateway, station: &str, group: &str) -> Vec<String> {
    drain(gateway, station, group).iter().map(|record| record.text().to_owned()).collect()
}

#[track_caller]
fn make(gateway: &Gateway, body: &Value) {
    let made = api(gateway, "POST", "/stations", Some(body));
    assert_eq!(made.status, 201, "{}", made.text());
}

#[track_caller]
fn adopt(gateway: &Gateway, station: &str, stream: &str, subject: &str) {
    let adopted = try_to_adopt(gateway, station, stream, subject);
    assert_eq!(adopted.0, 201, "{}", adopted.1);
}

fn try_to_adopt(gateway: &Gateway, station: &str, stream: &str, subject: &str) -> (u16, String) {
    let body = json!({"stream": stream, "subject": subject});
    let adopted = api(gateway, "POST", &format!("/stations/{station}/adopt"), Some(&body));
    (adopted.status, adopted.text().to_owned())
}

fn taken_again(gateway: &Gateway, station: &str, body: &str) {
    eventually("records are taken again", A_WHILE, || {
        let response = gateway.batch(station, body);
        if response.status != 200 {
            println!("{station}: {} {}", response.status, response.text());
        }
        (response.status == 200).then_some(())
    });
}

/// What a station is like, without what changes by itself.
#[track_caller]
fn shown(gateway: &Gateway, station: &str) -> Value {
    let response = api(gateway, "GET", &format!("/stations/{station}"), None);
    assert_eq!(response.status, 200, "{}", response.text());
    let mut station = response.json();
    for changing in ["records", "bytes"] {
        station[changing] = Value::Null;
    }
    station
}

fn r1_a_record_is_there_until_the_first_group_has_read_it(setup: Setup) {
    let gateway = Plan::new(setup).start();
    for (station, partitions) in [("acks", 1), ("parts", 3)] {
        make(&gateway, &json!({"name": station, "retention_acknowledged": true, "partitions": partitions}));
        gateway.batch(station, "[1,2,3,4,5,6]").is_json(200, OK);
        assert_eq!(records_of(&gateway, station), 6, "{station}: nobody has read them");
        let mut read = texts(&gateway, station, "first");
        read.sort();
        assert_eq!(read, ["1", "2", "3", "4", "5", "6"], "{station}");
        eventually("what every group has acknowledged goes", A_WHILE, || {
            (records_of(&gateway, station) == 0).then_some(())
        });
        gateway.batch(station, "[7]").is_json(200, OK);
        assert_eq!(texts(&gateway, station, "second"), ["7"], "{station}: a group begins with what is there");
        assert_eq!(records_of(&gateway, station), 1, "{station}: the first group has not read it");
        assert_eq!(texts(&gateway, station, "first"), ["7"], "{station}");
    }
}

fn r1_records_stay_when_the_last_group_was_deleted(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    make(&gateway, &json!({"name": "acks", "retention_acknowledged": true}));
    gateway.batch("acks", "[1]").is_json(200, OK);
    assert_eq!(texts(&gateway, "acks", "g"), ["1"]);
    eventually("the group alone keeps records", A_WHILE, || (records_of(&gateway, "acks") == 0).then_some(()));
    broker.api("CONSUMER.DELETE.acks.g-rest-gateway", &Value::Null);
    eventually("somebody keeps records again", A_WHILE, || {
        let names = broker.api("CONSUMER.NAMES.acks", &Value::Null);
        names["consumers"].as_array().is_some_and(|names| !names.is_empty()).then_some(())
    });
    gateway.batch("acks", "[2]").is_json(200, OK);
    assert_eq!(texts(&gateway, "acks", "h"), ["2"]);
}

fn r1_an_adopted_stream_of_interest_keeps_what_nobody_reads_yet(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("FAMILY", "family.>", &json!({"retention": "interest"}));
    // Somebody else's interest is in other records.
    let config = json!({"durable_name": "other", "ack_policy": "explicit", "filter_subject": "family.b"});
    let body = json!({"stream_name": "FAMILY", "config": config});
    broker.api("CONSUMER.DURABLE.CREATE.FAMILY.other", &body);
    adopt(&gateway, "kept", "FAMILY", "family.a");
    gateway.batch("kept", "[1,2]").is_json(200, OK);
    // The station is found under its subject as well, without a word from anybody.
    gateway.batch("family.c", "[3]").is_json(200, OK);
    assert_eq!(broker.count("FAMILY"), 3);
    assert_eq!(texts(&gateway, "kept", "g"), ["1", "2"]);
    assert_eq!(texts(&gateway, "family.c", "g"), ["3"]);
    eventually("what every group has acknowledged goes", A_WHILE, || (broker.count("FAMILY") == 0).then_some(()));
}

fn r1_where_no_interest_can_be_kept_nothing_is_called_stored(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("NARROW", "narrow.>", &json!({"retention": "interest", "max_consumers": 1}));
    let config = json!({"durable_name": "other", "ack_policy": "explicit", "filter_subject": "narrow.b"});
    let body = json!({"stream_name": "NARROW", "config": config});
    broker.api("CONSUMER.DURABLE.CREATE.NARROW.other", &body);
    adopt(&gateway, "narrow", "NARROW", "narrow.a");
    let refused = gateway.batch("narrow", "[1]");
    let text = refused.is_error(409);
    assert!(text.contains("NARROW") && text.contains("max_consumers"), "{text}");
    assert_eq!(broker.count("NARROW"), 0);
}

fn r4_a_group_reads_each_station_of_one_stream(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("ORDERS", "orders.>", &json!({}));
    let long = "l".repeat(128);
    for (station, subject) in [("orders-eu", "orders.eu"), ("orders-us", "orders.us"), (&*long, "orders.long")] {
        adopt(&gateway, station, "ORDERS", subject);
    }
    let stations = ["orders-eu", "orders-us", &*long, "orders.found"];
    for station in stations {
        gateway.single(station, "text/plain", station.as_bytes()).is_json(200, OK);
    }
    let long_group = "g".repeat(128);
    for group in ["one", "two", &*long_group] {
        for station in stations {
            assert_eq!(texts(&gateway, station, group), [station], "{group}: its own record, and no other");
        }
    }
    let (status, text) = consume(&gateway, "orders-us", "one");
    assert_eq!((status, text.as_str()), (200, "[]"), "what was acknowledged does not come again");
}

fn r4_durable_consumers_that_are_there_go_on_being_used(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("ORDERS", "orders.>", &json!({}));
    for (group, subject) in [("g-rest-gateway", "orders.eu"), ("rest-gateway", "orders.us")] {
        let config = json!({"durable_name": group, "ack_policy": "explicit", "filter_subject": subject});
        let body = json!({"stream_name": "ORDERS", "config": config});
        broker.api(&format!("CONSUMER.DURABLE.CREATE.ORDERS.{group}"), &body);
    }
    for region in ["eu", "us"] {
        let station = format!("orders-{region}");
        adopt(&gateway, &station, "ORDERS", &format!("orders.{region}"));
        gateway.single(&station, "text/plain", region.as_bytes()).is_json(200, OK);
        for group in ["g", "rest-gateway"] {
            assert_eq!(texts(&gateway, &station, group), [region], "{group}");
        }
    }
    let mut delivered = |durable: &str| {
        let info = broker.api(&format!("CONSUMER.INFO.ORDERS.{durable}"), &Value::Null);
        info["delivered"]["consumer_seq"].as_u64()
    };
    assert_eq!(
        ["g-rest-gateway", "rest-gateway"].map(&mut delivered),
        [Some(1), Some(1)],
        "each has served its station"
    );
    let names = broker.api("CONSUMER.NAMES.ORDERS", &Value::Null);
    assert_eq!(names["consumers"].as_array().map(Vec::len), Some(4), "{names}");
}

fn r4_two_stations_on_one_subject_share_no_group(setup: Setup) {
    let gateway = Plan::new(setup).start();
    gateway.single("orders", "text/plain", b"x").is_json(200, OK);
    adopt(&gateway, "alias", "orders", "orders");
    for station in ["orders", "alias"] {
        assert_eq!(
            texts(&gateway, station, "g"),
            ["x"],
            "{station}: each group gets every record of each of its stations"
        );
    }
}

/// All that a station can be given, other than by default.
fn peculiar(name: &str, partitions: u16) -> Value {
    json!({
        "name": name, "partitions": partitions, "storage": "memory", "retention_age_s": 604_800, "retention_records": 1_000,
        "retention_bytes": 1_048_576, "retention_acknowledged": true, "idempotency_window_ms": 600_000,
        "dead_letters": {"invalid": false, "deliveries_max": 3, "retention_age_s": 60},
    })
}

fn r5_a_station_whose_stream_was_lost_is_made_as_it_was(setup: Setup) {
    let mut gateway = Plan::new(setup).start();
    make(&gateway, &peculiar("mem", 1));
    make(&gateway, &peculiar("mem.parts", 3));
    make(&gateway, &json!({"name": "read", "storage": "memory", "retention_age_s": 604_800}));
    let before = ["mem", "mem.parts", "read"].map(|station| shown(&gateway, station));
    gateway.batch("mem", "[1]").is_json(200, OK);
    gateway.nats_mut().kill9();
    gateway.nats_mut().restart();
    gateway.wait_ready();
    for station in ["mem", "mem.parts"] {
        taken_again(&gateway, station, "[2]");
        assert_eq!(
            texts(&gateway, station, "g"),
            ["2"],
            "{station}: what was in memory is gone, what was acknowledged since is not"
        );
    }
    eventually("it can be read again", A_WHILE, || (consume(&gateway, "read", "g").0 == 200).then_some(()));
    assert_eq!(["mem", "mem.parts", "read"].map(|station| shown(&gateway, station)), before);
}

fn r5_partitions_that_were_lost_are_made_as_they_were(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    make(&gateway, &peculiar("parts", 3));
    // Made on first use, by a gateway whose configuration may say something else by now.
    let config = json!({
        "max_age": 7_200_000_000_000_u64, "metadata": {"sluicegate.station": "old", "sluicegate.partitions": "3"},
    });
    for partition in 1..=3 {
        broker.create_stream(&format!("old${partition}"), &format!("old.${partition}"), &config);
    }
    for station in ["parts", "old"] {
        let before = shown(&gateway, station);
        for lost in [3, 2, 1] {
            broker.api(&format!("STREAM.DELETE.{station}${lost}"), &Value::Null);
            // Records take turns.
            eventually("the stream is there again", A_WHILE, || {
                gateway.batch(station, "[1]");
                broker
                    .try_api(&format!("STREAM.INFO.{station}${lost}"), &Value::Null)
                    .get("error")
                    .is_none()
                    .then_some(())
            });
            let config = broker.stream(&format!("{station}${lost}"))["config"].clone();
            let like = broker.stream(&format!("{station}${}", if lost == 2 { 3 } else { 2 }))["config"].clone();
            for key in ["max_age", "max_msgs", "max_bytes", "retention", "storage", "duplicate_window"] {
                assert_eq!(config[key], like[key], "{station}${lost}: {key}");
            }
        }
        let metadata = broker.stream(&format!("{station}$1"))["config"]["metadata"].clone();
        assert_eq!(metadata["sluicegate.partitions"], "3", "{station}");
        assert_eq!(shown(&gateway, station), before);
    }
}

fn r5_a_change_is_kept_too(setup: Setup) {
    let mut gateway = Plan::new(setup).config("[stations]\nstorage = \"memory\"").start();
    make(&gateway, &json!({"name": "made", "retention_age_s": 7_200}));
    gateway.single("first-use", "text/plain", b"x").is_json(200, OK);
    for station in ["made", "first-use"] {
        let change = json!({"retention_age_s": 604_800, "retention_records": 9});
        let changed = api(&gateway, "PATCH", &format!("/stations/{station}"), Some(&change));
        assert_eq!(changed.status, 200, "{}", changed.text());
    }
    let before = ["made", "first-use"].map(|station| shown(&gateway, station));
    gateway.nats_mut().kill9();
    gateway.nats_mut().restart();
    gateway.wait_ready();
    for station in ["made", "first-use"] {
        taken_again(&gateway, station, "[2]");
    }
    assert_eq!(["made", "first-use"].map(|station| shown(&gateway, station)), before);
}

fn r5_a_lost_station_is_made_anew_where_stations_are_not_made_by_themselves(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\nauto_create = false").start();
    let mut broker = Broker::connect(gateway.nats());
    make(&gateway, &json!({"name": "made", "retention_age_s": 604_800}));
    let before = shown(&gateway, "made");
    gateway.batch("made", "[1]").is_json(200, OK);
    broker.api("STREAM.DELETE.made", &Value::Null);
    taken_again(&gateway, "made", "[2]");
    assert_eq!(shown(&gateway, "made"), before);
    assert_eq!(gateway.batch("unknown", "[2]").status, 404, "nobody has said anything of this one");
    // One that was removed does not come back.
    assert_eq!(api(&gateway, "DELETE", "/stations/made", None).status, 204);
    assert_eq!(gateway.batch("made", "[3]").status, 404);
    assert_eq!(broker.try_api("STREAM.INFO.made", &Value::Null)["error"]["err_code"], 10_059);
}

fn r5_an_adopted_stream_that_is_gone_is_503_and_no_other_is_made(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("THEIRS", "theirs", &json!({}));
    adopt(&gateway, "mine", "THEIRS", "theirs");
    gateway.batch("mine", "[1]").is_json(200, OK);
    broker.api("STREAM.DELETE.THEIRS", &Value::Null);
    let text = gateway.batch("mine", "[2]").is_retryable(503);
    assert!(text.contains("THEIRS") && !text.contains("code"), "{text}");
    let (status, text) = consume(&gateway, "mine", "g");
    assert!(status == 503 && text.contains("THEIRS"), "{status} {text}");
    let names = broker.api("STREAM.NAMES", &Value::Null);
    assert!(
        names["streams"].as_array().unwrap().iter().all(|name| name.as_str().unwrap().starts_with("KV_")),
        "{names}"
    );
    broker.create_stream("THEIRS", "theirs", &json!({}));
    taken_again(&gateway, "mine", "[3]");
    // One that has become another hides no other station, and can be given up.
    broker.api("STREAM.DELETE.THEIRS", &Value::Null);
    broker.create_stream("THEIRS", "elsewhere", &json!({}));
    // A refusal is remembered for a moment.
    eventually("the station says what its stream is now", A_WHILE, || {
        gateway.batch("mine", "[4]").is_retryable(503).contains("does not capture").then_some(())
    });
    assert_eq!(api(&gateway, "GET", "/stations", None).status, 200);
    assert_eq!(api(&gateway, "DELETE", "/stations/mine", None).status, 204);
    broker.stream("THEIRS");
}

fn r12_a_work_queue_has_one_group_and_says_so(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("WQ", "wq.>", &json!({"retention": "workqueue"}));
    adopt(&gateway, "wq", "WQ", "wq.x");
    adopt(&gateway, "wq2", "WQ", "wq.y");
    for station in ["wq", "wq2"] {
        gateway.batch(station, "[1]").is_json(200, OK);
        assert_eq!(texts(&gateway, station, "g1"), ["1"], "the first group reads");
        let (status, text) = consume(&gateway, station, "g2");
        assert_eq!(status, 409, "{text}");
        assert!(text.contains("work queue") && text.contains("one"), "{text}");
        assert!(!text.contains("refused the record") && !text.contains("code"), "{text}");
    }
    // A consumer of another tool that reads everything is the one as well.
    broker.create_stream("TAKEN", "taken", &json!({"retention": "workqueue"}));
    let body = json!({"stream_name": "TAKEN", "config": {"durable_name": "worker", "ack_policy": "explicit"}});
    broker.api("CONSUMER.DURABLE.CREATE.TAKEN.worker", &body);
    let (status, text) = consume(&gateway, "taken", "g");
    assert!(status == 409 && text.contains("work queue"), "{status} {text}");
}

/// Streams that cannot serve a station in any way, with a word that the reason has.
fn useless() -> [(&'static str, Value, &'static str); 2] {
    let transform = json!({"src": "moved", "dest": "elsewhere.moved"});
    [
        ("NOACK", json!({"no_ack": true}), "no_ack"),
        ("MOVED", json!({"subject_transform": transform}), "subject_transform"),
    ]
}

fn r12_streams_that_cannot_serve_are_refused_when_they_are_adopted(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    let check = |stream: &str, subject: &str, expect: &str| {
        let (status, text) = try_to_adopt(&gateway, "any", stream, subject);
        assert!(status == 400 && text.contains(expect) && text.contains(stream), "{stream}: {status} {text}");
    };
    for (stream, config, expect) in useless() {
        let subject = stream.to_ascii_lowercase();
        broker.create_stream(stream, &subject, &config);
        check(stream, &subject, expect);
    }
    // Since 2.12; servers before do not know the word.
    let counter = json!({"name": "COUNTER", "subjects": ["counter"], "allow_msg_counter": true, "storage": "file"});
    if broker.try_api("STREAM.CREATE.COUNTER", &counter)["config"]["allow_msg_counter"] == true {
        check("COUNTER", "counter", "allow_msg_counter");
    }
    broker.create_stream("SOURCE", "source", &json!({}));
    broker.api("STREAM.CREATE.MIRROR", &json!({"name": "MIRROR", "mirror": {"name": "SOURCE"}, "storage": "file"}));
    check("MIRROR", "source", "mirror");
    let mut sealed = broker.stream("SOURCE")["config"].clone();
    sealed["sealed"] = json!(true);
    broker.api("STREAM.UPDATE.SOURCE", &sealed);
    check("SOURCE", "source", "sealed");
    check("MISSING", "source", "does not exist");
    // One that moves other subjects only serves.
    let config =
        json!({"subjects": ["fine", "moved.*"], "subject_transform": {"src": "moved.*", "dest": "x.{{wildcard(1)}}"}});
    broker.create_stream("FINE", "fine", &config);
    adopt(&gateway, "fine", "FINE", "fine");
    gateway.batch("fine", "[1]").is_json(200, OK);
    assert_eq!(texts(&gateway, "fine", "g"), ["1"]);
}

fn r12_streams_that_cannot_serve_are_not_the_gateways_fault(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    for (stream, config, expect) in useless() {
        let station = stream.to_ascii_lowercase();
        broker.create_stream(stream, &station, &config);
        let text = gateway.batch(&station, "[1]").is_retryable(503);
        assert!(text.contains(expect) && !text.contains("code 0"), "{stream}: {text}");
    }
    // The station's own stream has the name and not the subject.
    broker.create_stream("taken", "elsewhere", &json!({}));
    let text = gateway.batch("taken", "[1]").is_retryable(503);
    assert!(text.contains("taken") && !text.contains("refused the record"), "{text}");
    // A consumer that delivers to somebody else.
    gateway.batch("pushed", "[1]").is_json(200, OK);
    let config = json!({"durable_name": "g-rest-gateway", "ack_policy": "explicit", "deliver_subject": "somewhere"});
    let body = json!({"stream_name": "pushed", "config": config});
    broker.api("CONSUMER.DURABLE.CREATE.pushed.g-rest-gateway", &body);
    let (status, text) = consume(&gateway, "pushed", "g");
    assert!(status == 409 && text.contains("push consumer") && !text.contains("code"), "{status} {text}");
    assert_eq!(texts(&gateway, "pushed", "other"), ["1"]);
}

fn r12_a_limit_of_consumers_is_named(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("few", "few", &json!({"max_consumers": 1}));
    gateway.batch("few", "[1]").is_json(200, OK);
    assert_eq!(texts(&gateway, "few", "first"), ["1"]);
    let (status, text) = consume(&gateway, "few", "second");
    assert!(status == 409 && text.contains("max_consumers"), "{status} {text}");
    // What the stream allows a consumer at most is what a group gets.
    let limits = json!({"consumer_limits": {"max_ack_pending": 50}});
    broker.create_stream("slow", "slow", &limits);
    gateway.batch("slow", "[1]").is_json(200, OK);
    assert_eq!(texts(&gateway, "slow", "g"), ["1"]);
}
