//! A record that cannot be stored, or is not known to be, is never answered with success.

use crate::support::{
    PATIENCE,
    broker::Broker,
    eventually,
    gateway::{Gateway, Plan},
    http::Http,
    nats::NatsServer,
    proxy::Proxy,
    readback::texts,
    setup::Setup,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

mod any_backend {
    use super::*;
    on_setups!(
        local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
            without_auto_create_an_unknown_station_is_404,
        ]
    );
}

mod any_broker {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL, cluster CLUSTER => [
        a_full_stream_that_discards_new_records_is_503,
        a_record_over_the_streams_own_limit_is_413,
        a_stream_that_was_deleted_is_no_success,
    ]);
}

on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
    a_record_over_max_payload_is_413_and_costs_nobody_the_connection,
    a_stopped_broker_is_503_until_it_is_back,
    acknowledgements_that_never_come_are_503,
    a_broker_lost_between_publish_and_acknowledgement_is_503,
    a_record_with_a_message_id_is_sent_again_and_stored_once,
    a_subject_that_the_broker_forbids_is_no_success,
    a_broker_without_jetstream_is_no_success,
    c14_what_an_operator_took_away_is_503_with_the_reason_and_said_once,
]);

const OK: &str = "{\"error\":null,\"success\":true}";

fn without_auto_create_an_unknown_station_is_404(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\nauto_create = false").start();
    for _ in 0..2 {
        // Twice: the second answer is remembered.
        let text = gateway.single("absent", "text/plain", b"x").is_error(404);
        assert!(text.contains("absent"), "which station: {text}");
        gateway.batch("absent", "[1,2]").is_error(404);
        gateway.consume("absent", "{\"consumer_name\":\"c\"}").is_error(404);
    }
}

fn a_full_stream_that_discards_new_records_is_503(setup: Setup) {
    let gateway = Gateway::start(setup);
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("full", "full", &json!({"max_msgs": 3, "discard": "new"}));
    gateway.single("full", "text/plain", b"1").is_json(200, OK);
    let response = gateway.batch("full", "[2,3,4,5]");
    partial(&response.json(), 2, 2);
    assert_eq!((response.status, response.header("retry-after").is_some()), (503, true));
    gateway.single("full", "text/plain", b"6").is_retryable(503);
    assert_eq!(texts(&gateway, "full"), ["1", "2", "3"]);
    broker.api("STREAM.PURGE.full", &Value::Null);
    gateway.single("full", "text/plain", b"7").is_json(200, OK);
}

fn a_record_over_max_payload_is_413_and_costs_nobody_the_connection(setup: Setup) {
    let gateway = Plan::new(setup).nats_config("max_payload: 65536\n").start();
    let large = "x".repeat(66_000);
    let text = gateway.single("sized", "text/plain", large.as_bytes()).is_error(413);
    assert!(text.contains("65536"), "which limit: {text}");
    // Its headers count: they travel inside the same limit.
    let nearly = "x".repeat(65_500);
    gateway.single("sized", "text/plain", nearly.as_bytes()).is_error(413);
    let response = gateway.batch("sized", &format!("[\"first\",\"{large}\",\"third\",\"{large}\"]"));
    assert_eq!(response.status, 400, "{}", response.text());
    partial(&response.json(), 2, 2);
    gateway.single("sized", "text/plain", b"after").is_json(200, OK);
    assert_eq!(texts(&gateway, "sized"), ["\"first\"", "\"third\"", "after"]);
    let reconnects = "sluicegate_broker_reconnects_total 0";
    assert!(gateway.metrics().contains(reconnects), "the broker closed the connection");
}

fn a_record_over_the_streams_own_limit_is_413(setup: Setup) {
    let gateway = Gateway::start(setup);
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("small", "small", &json!({"max_msg_size": 1_000}));
    gateway.single("small", "text/plain", &[b'x'; 2_000]).is_error(413);
    let response = gateway.batch("small", &format!("[\"{}\",2]", "x".repeat(2_000)));
    assert_eq!(response.status, 400, "{}", response.text());
    partial(&response.json(), 1, 1);
    assert_eq!(texts(&gateway, "small"), ["2"]);
}

fn a_stopped_broker_is_503_until_it_is_back(setup: Setup) {
    let mut gateway = Plan::new(setup).config("[limits]\nhold = \"1s\"").start();
    gateway.single("outage", "text/plain", b"before").is_json(200, OK);
    gateway.nats_mut().stop();
    for station in ["outage", "never-seen"] {
        let start = Instant::now();
        gateway.single(station, "text/plain", b"during").is_retryable(503);
        assert!(start.elapsed() < Duration::from_secs(14), "a bounded hold: {:?}", start.elapsed());
    }
    gateway.batch("outage", "[1,2]").is_retryable(503);
    eventually("readiness is false", PATIENCE, || (gateway.readiness() == Some(503)).then_some(()));
    gateway.nats_mut().restart();
    gateway.wait_ready();
    gateway.single("outage", "text/plain", b"after").is_json(200, OK);
    assert_eq!(texts(&gateway, "outage"), ["before", "after"]);
}

/// A gateway behind a proxy whose broker the test runs itself, with a station that both know.
fn behind_proxy(setup: Setup) -> (Gateway, NatsServer, Proxy) {
    let server = NatsServer::start();
    let proxy = Proxy::start(server.address());
    let config = "[limits]\nack_timeout = \"7s\"\nhold = \"3s\"";
    let gateway = Plan::new(setup).nats_url(&proxy.url()).config(config).shards(1).start();
    gateway.single("cut", "text/plain", b"before").is_json(200, OK);
    (gateway, server, proxy)
}

fn count_becomes(server: &NatsServer, stream: &str, count: u64) {
    let mut broker = Broker::connect(server);
    eventually("the broker has the record", PATIENCE, || (broker.count(stream) == count).then_some(()));
}

fn acknowledgements_that_never_come_are_503(setup: Setup) {
    let (gateway, server, proxy) = behind_proxy(setup);
    proxy.swallow_answers();
    let text = gateway.single("cut", "text/plain", b"unknown").is_retryable(503);
    assert!(!text.is_empty());
    count_becomes(&server, "cut", 2);
    proxy.cut(false);
}

fn a_broker_lost_between_publish_and_acknowledgement_is_503(setup: Setup) {
    let (gateway, server, proxy) = behind_proxy(setup);
    for (route, body, expect) in [("single", "2", 2), ("batch", "[3,4]", 4)] {
        proxy.swallow_answers();
        let path = format!("/stations/cut/produce/{route}");
        let headers = [("Content-Type", "application/json")];
        let mut http = Http::connect(gateway.address());
        http.send(&gateway.authorized("POST", &path, &headers, body.as_bytes()));
        count_becomes(&server, "cut", expect);
        proxy.cut(false);
        http.response().is_retryable(503);
        eventually("the gateway is connected again", PATIENCE, || (gateway.readiness() == Some(200)).then_some(()));
    }
    let payloads: Vec<Vec<u8>> =
        Broker::connect(&server).messages("cut").into_iter().map(|message| message.payload).collect();
    let expect: [&[u8]; 4] = [b"before", b"2", b"3", b"4"];
    assert_eq!(payloads, expect, "a record without a message id is not sent a second time");
}

fn a_record_with_a_message_id_is_sent_again_and_stored_once(setup: Setup) {
    let (gateway, server, proxy) = behind_proxy(setup);
    proxy.swallow_answers();
    let headers = [("Content-Type", "text/plain"), ("Idempotency-Key", "resent")];
    let request = gateway.authorized("POST", "/stations/cut/produce/single", &headers, b"resent");
    let mut http = Http::connect(gateway.address());
    http.send(&request);
    count_becomes(&server, "cut", 2);
    proxy.cut(false);
    let response = http.response();
    if response.status != 200 {
        response.is_retryable(503);
    }
    // Whatever the first answer was, the same request sent again succeeds and stores nothing.
    eventually("the same request succeeds", PATIENCE, || {
        (Http::connect(gateway.address()).exchange(&request).status == 200).then_some(())
    });
    assert_eq!(Broker::connect(&server).count("cut"), 2);
}

fn a_subject_that_the_broker_forbids_is_no_success(setup: Setup) {
    let users = "authorization { users: [\n\
                 { user: \"gateway\", password: \"secret\",\n\
                   permissions: { publish: { deny: [\"denied\", \"denied.>\"] }, subscribe: \">\" } },\n\
                 { user: \"admin\", password: \"secret\" }\n] }\n";
    let server = NatsServer::with_config(users);
    let mut broker = Broker::connect_as(&server, "\"user\":\"admin\",\"pass\":\"secret\",");
    broker.create_stream("denied", "denied", &json!({}));
    broker.create_stream("granted", "granted", &json!({}));
    let url = format!("nats://gateway:secret@{}", server.address());
    let gateway = Plan::new(setup).nats_url(&url).config("[limits]\nhold = \"3s\"\nack_timeout = \"7s\"").start();
    for response in [gateway.single("denied", "text/plain", b"x"), gateway.batch("denied", "[1,2]")] {
        // An operator can give the permission, and the record is safest with its client until then (C14).
        let text = response.is_retryable(503);
        assert!(text.contains("denied"), "{text}");
        assert!(!response.text().contains("secret"), "{}", response.text());
    }
    gateway.single("granted", "text/plain", b"x").is_json(200, OK);
    assert_eq!((broker.count("denied"), broker.count("granted")), (0, 1));
}

fn c14_what_an_operator_took_away_is_503_with_the_reason_and_said_once(setup: Setup) {
    let users = "authorization { users: [\n\
                 { user: \"gateway\", password: \"secret\",\n\
                   permissions: { publish: { deny: [\"denied\"] }, subscribe: \">\" } },\n\
                 { user: \"admin\", password: \"secret\" }\n] }\n";
    let server = NatsServer::with_config(users);
    let mut broker = Broker::connect_as(&server, "\"user\":\"admin\",\"pass\":\"secret\",");
    let url = format!("nats://gateway:secret@{}", server.address());
    let gateway = Plan::new(setup).nats_url(&url).shards(1).start();
    for stream in ["denied", "sealed", "moved"] {
        broker.create_stream(stream, stream, &json!({}));
    }
    for station in ["sealed", "moved"] {
        gateway.single(station, "text/plain", b"x").is_json(200, OK);
    }
    let mut config = broker.stream("sealed")["config"].clone();
    config["sealed"] = true.into();
    broker.api("STREAM.UPDATE.sealed", &config);
    let mut config = broker.stream("moved")["config"].clone();
    config["subjects"] = json!(["elsewhere"]);
    broker.api("STREAM.UPDATE.moved", &config);
    for (station, reason) in [("denied", "denied"), ("sealed", "sealed"), ("moved", "does not capture")] {
        let text = gateway.single(station, "text/plain", b"x").is_retryable(503);
        assert!(text.contains(reason), "{text}");
        let text = gateway.batch(station, "[1,2]").is_retryable(503);
        assert!(text.contains(reason), "{text}");
    }
    for _ in 0..50 {
        gateway.single("denied", "text/plain", b"x").is_retryable(503);
    }
    let log = gateway.process().stderr();
    let said = log.lines().filter(|line| line.contains("forbid the gateway this subject")).count();
    assert!((1..10).contains(&said), "one line a subject and ten seconds: {said}");
}

fn a_stream_that_was_deleted_is_no_success(setup: Setup) {
    let gateway = Plan::new(setup).config("[limits]\nhold = \"3s\"\nack_timeout = \"7s\"").start();
    gateway.single("deleted", "text/plain", b"x").is_json(200, OK);
    let mut broker = Broker::connect(gateway.nats());
    broker.api("STREAM.DELETE.deleted", &Value::Null);
    // It may be made anew and the record stored, or refused; it may not be lost with a 200.
    let mut acknowledged = 0;
    for _ in 0..3 {
        let response = gateway.single("deleted", "text/plain", b"y");
        match response.status {
            200 => acknowledged += 1,
            404 | 503 => {}
            status => panic!("{status} {}", response.text()),
        }
    }
    assert_eq!(broker.count("deleted"), acknowledged);
    eventually("the station is made anew", PATIENCE, || {
        (gateway.single("deleted", "text/plain", b"z").status == 200).then_some(())
    });
}

fn a_broker_without_jetstream_is_no_success(setup: Setup) {
    let server = NatsServer::with_raw_config("");
    let config = "[limits]\nhold = \"1s\"\nack_timeout = \"7s\"";
    let mut gateway = Plan::new(setup).nats_url(&server.url()).config(config).prepare();
    gateway.restart_without_waiting();
    eventually("the admin port answers", PATIENCE, || gateway.readiness());
    let body = json!({"username": "root", "password": crate::support::gateway::ROOT_PASSWORD}).to_string();
    let login = eventually("the data port answers", PATIENCE, || {
        Http::try_connect(gateway.address()).ok().map(|_| gateway.authenticate(&body))
    });
    if login.status == 200 {
        let response = gateway.single("nowhere", "text/plain", b"x");
        assert!((500..600).contains(&response.status), "{} {}", response.status, response.text());
    } else {
        login.is_retryable(503);
    }
}

/// Fails unless it is the partial result of a batch: so many stored, so many refused, each with its reason.
#[track_caller]
fn partial(result: &Value, sent: u64, fail: u64) {
    assert_eq!((result["sent"].as_u64(), result["fail"].as_u64()), (Some(sent), Some(fail)), "{result}");
    assert_eq!(result["success"], false, "{result}");
    let errors = result["errors"].as_array().unwrap();
    assert_eq!(errors.len() as u64, fail, "{result}");
    assert!(errors.iter().all(|error| error.as_str().is_some_and(|text| !text.is_empty())), "{result}");
    // If the others may be stored another time, it says why they are not.
    let fields = 4 + usize::from(result.get("error").is_some());
    assert_eq!(result.as_object().unwrap().len(), fields, "{result}");
}
