//! What the data port answers to a crowd, and when the broker will not.

use super::data_path::{consume, produce};
use crate::support::{
    broker::Broker,
    gateway::{Gateway, Plan},
    openapi::Description,
};
use serde_json::json;
use std::{thread, time::Duration};

pub(super) fn walk(gateway: &Gateway, description: &Description) {
    full_window(gateway, description);
    open_deliveries(gateway, description);
    refusing_broker(gateway, description);
}

/// One record has all the room there is, and the broker says nothing.
fn full_window(gateway: &Gateway, description: &Description) {
    let limits = "[limits]\nwindow_messages_max = 1\nhold = \"300ms\"\nack_timeout = \"7s\"";
    let narrow = Plan::new(gateway.setup()).config(limits).shards(1).start();
    produce(&narrow, description, "narrow", "single", &[], "1", 200);
    narrow.nats().signal("STOP");
    thread::scope(|scope| {
        let first = scope.spawn(|| produce(&narrow, description, "narrow", "single", &[], "2", 503));
        thread::sleep(Duration::from_millis(500));
        produce(&narrow, description, "narrow", "single", &[], "3", 429);
        produce(&narrow, description, "narrow", "batch", &[], "[4]", 429);
        first.join().unwrap();
    });
    narrow.nats().signal("CONT");
}

/// Nobody acknowledges.
fn open_deliveries(gateway: &Gateway, description: &Description) {
    const OF_GROUP: usize = 64;
    let single = Plan::new(gateway.setup()).shards(1).start();
    let records = format!("{:?}", [1; OF_GROUP]);
    produce(&single, description, "open", "batch", &[], &records, 200);
    let wanted = json!({"consumer_name": "c", "manual_ack": true, "batch_size": 1}).to_string();
    for _ in 0..OF_GROUP {
        let answer = consume(&single, description, "open", &wanted, 200);
        assert!(answer.header("sluicegate-delivery").is_some(), "{}", answer.head);
    }
    consume(&single, description, "open", &wanted, 429);
}

/// Streams that their owner has closed, or bounded.
fn refusing_broker(gateway: &Gateway, description: &Description) {
    let mut broker = Broker::connect(gateway.nats());
    broker.create_stream("SEALED", "sealed", &json!({}));
    let mut config = broker.stream("SEALED")["config"].clone();
    config["sealed"] = true.into();
    broker.api("STREAM.UPDATE.SEALED", &config);
    produce(gateway, description, "sealed", "single", &[], "1", 503);
    produce(gateway, description, "sealed", "batch", &[], "[1,2]", 503);
    broker.create_stream("BOUNDED", "bounded", &json!({"max_consumers": 1}));
    let ask =
        |group: &str| json!({"consumer_name": "c", "consumer_group": group, "batch_max_wait_time_ms": 100}).to_string();
    consume(gateway, description, "bounded", &ask("one"), 200);
    consume(gateway, description, "bounded", &ask("two"), 409);
    broker.create_stream("OCCUPIED", "occupied.>", &json!({"retention": "interest", "max_consumers": 1}));
    let config = json!({"durable_name": "other", "ack_policy": "explicit", "filter_subject": "occupied.b"});
    let body = json!({"stream_name": "OCCUPIED", "config": config});
    broker.api("CONSUMER.DURABLE.CREATE.OCCUPIED.other", &body);
    produce(gateway, description, "occupied.a", "single", &[], "1", 409);
    produce(gateway, description, "occupied.a", "batch", &[], "[1,2]", 409);
    produce(gateway, description, "occupied.a", "stream", &[], "1", 409);
}
