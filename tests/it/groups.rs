//! Consumer groups: listed, removed, and not to be used up by one who may consume.

use crate::support::{
    PATIENCE,
    admin::{api, done},
    broker::Broker,
    eventually,
    gateway::{Gateway, Plan},
    http::{self, Response},
    setup::Setup,
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        f1_one_user_cannot_take_the_groups_of_others,
        f1_a_group_that_was_removed_begins_anew,
    ]
);

mod broker {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        f1_the_brokers_own_limit_says_so_and_is_no_error_of_the_gateway,
        f1_consumers_say_who_made_them_and_go_when_nobody_uses_them,
        f1_the_last_group_that_is_removed_leaves_its_records_kept,
    ]);
}

mod local {
    use super::*;
    on_setups!(local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL => [
        f17_partitions_that_are_used_up_are_not_said_to_come_back,
    ]);
}

const PASSWORD: &str = "Correct-Horse-9!";
/// Groups of a station that one principal may make.
const OF_ONE: usize = 250;
/// Consume calls at a time.
const AT_ONCE: usize = 20;

fn body(group: &str) -> String {
    json!({"consumer_name": "c", "consumer_group": group, "batch_size": 5, "batch_max_wait_time_ms": 100}).to_string()
}

fn consume(gateway: &Gateway, token: &str, station: &str, group: &str) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let path = format!("/stations/{station}/consume/batch");
    http::once(gateway.address(), "POST", &path, &headers, body(group).as_bytes())
}

/// Adds a user who may consume everything; a token of him.
fn user(gateway: &Gateway, name: &str) -> String {
    let new = json!({"name": name, "password": PASSWORD, "produce": [], "consume": ["*"]});
    assert_eq!(api(gateway, "POST", "/users", Some(&new)).status, 201);
    let login = json!({"username": name, "password": PASSWORD}).to_string();
    eventually("the new user may log in", PATIENCE, || {
        let response = gateway.authenticate(&login);
        (response.status == 200).then(|| response.json()["jwt"].as_str().unwrap().to_owned())
    })
}

fn listed(gateway: &Gateway, query: &str) -> Vec<Value> {
    let response = api(gateway, "GET", &format!("/stations/crowded/groups{query}"), None);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["items"].as_array().expect("a list").clone()
}

fn f1_one_user_cannot_take_the_groups_of_others(setup: Setup) {
    let gateway = Gateway::start(setup);
    let (eve, ann) = (user(&gateway, "eve"), user(&gateway, "ann"));
    gateway.single("crowded", "text/plain", b"record").is_json(200, OK);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < OF_ONE
                {
                    let response = consume(&gateway, &eve, "crowded", &format!("g{number}"));
                    assert_eq!(response.status, 200, "{number}: {}", response.text());
                }
            });
        }
    });
    for group in ["one-more", "and-another"] {
        let text = consume(&gateway, &eve, "crowded", group).is_error(409);
        assert!(text.contains("eve on station crowded has 250 consumer groups"), "{text}");
        assert!(text.contains("remove some") && !text.contains("later"), "{text}");
    }
    assert_eq!(consume(&gateway, &eve, "crowded", "g7").status, 200, "what is there can be used");
    assert_eq!(consume(&gateway, &ann, "crowded", "of-ann").status, 200, "others are not affected");
    let all = listed(&gateway, "?limit=1000");
    assert_eq!(all.len(), OF_ONE + 1);
    let of_eve = all.iter().filter(|group| group["principal"] == "eve").count();
    assert_eq!(of_eve, OF_ONE);
    let first = api(&gateway, "GET", "/stations/crowded/groups?limit=2", None);
    assert_eq!(first.json()["next"], "g1");
    assert!(first.header("link").is_some_and(|link| link.contains("after=g1&limit=2")), "{:?}", first.header("link"));
    assert_eq!(api(&gateway, "DELETE", "/stations/crowded/groups/g7", None).status, 204);
    // Of another name: a shard remembers what it was refused for a moment.
    assert_eq!(consume(&gateway, &eve, "crowded", "in-its-place").status, 200, "there is room again");
}

fn f1_a_group_that_was_removed_begins_anew(setup: Setup) {
    let gateway = Gateway::start(setup);
    gateway.batch("crowded", "[1,2,3]").is_json(200, OK);
    let count = |group: &str| {
        let response = gateway.consume("crowded", &body(group));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json().as_array().expect("an array").len()
    };
    assert_eq!((count("Bill.ing"), count("bill.ing")), (3, 0));
    let groups = listed(&gateway, "");
    assert_eq!((groups.len(), &groups[0]["name"], &groups[0]["principal"]), (1, &json!("bill.ing"), &json!("root")));
    assert!(groups[0]["created_ms"].as_u64() > Some(1_700_000_000_000), "{groups:?}");
    assert!(groups[0]["used_ms"].as_u64() >= groups[0]["created_ms"].as_u64(), "{groups:?}");
    let table = done(&gateway, &["station", "groups", "crowded"], "");
    assert!(table.contains("bill.ing") && table.contains("root"), "{table}");
    let removed = done(&gateway, &["station", "groups", "crowded", "--remove", "bill.ing"], "");
    assert_eq!(removed.trim(), "removed bill.ing");
    assert_eq!(listed(&gateway, "").len(), 0);
    let unknown = api(&gateway, "DELETE", "/stations/crowded/groups/bill.ing", None);
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    assert!(unknown.text().contains("no consumer group of this name"), "{}", unknown.text());
    assert_eq!(api(&gateway, "GET", "/stations/nowhere/groups", None).status, 404);
    assert_eq!(api(&gateway, "DELETE", "/stations/nowhere/groups/g", None).status, 404);
    assert_eq!(api(&gateway, "DELETE", "/stations/crowded/groups/a%20b", None).status, 400);
    assert_eq!((count("bill.ing"), count("bill.ing")), (3, 0), "it begins at the first record");
}

fn f1_the_brokers_own_limit_says_so_and_is_no_error_of_the_gateway(setup: Setup) {
    let gateway = Gateway::start(setup);
    Broker::connect(gateway.nats()).create_stream("crowded", "crowded", &json!({"max_consumers": 2}));
    for group in ["a", "b"] {
        assert_eq!(gateway.consume("crowded", &body(group)).status, 200);
    }
    let text = gateway.consume("crowded", &body("c")).is_error(409);
    assert!(text.contains("consumer") && text.contains("remove"), "{text}");
}

/// On a stream that drops what nobody is interested in.
fn f1_the_last_group_that_is_removed_leaves_its_records_kept(setup: Setup) {
    let gateway = Plan::new(setup).start();
    let mut broker = Broker::connect(gateway.nats());
    let station = json!({"name": "acks", "retention_acknowledged": true});
    assert_eq!(api(&gateway, "POST", "/stations", Some(&station)).status, 201);
    assert_eq!(gateway.batch("acks", "[1]").status, 200);
    assert_eq!(consume(&gateway, gateway.token(), "acks", "g").status, 200);
    eventually("the group alone keeps records", Duration::from_secs(60), || {
        let names = broker.api("CONSUMER.NAMES.acks", &Value::Null);
        (names["consumers"] == json!(["g-rest-gateway"])).then_some(())
    });
    assert_eq!(api(&gateway, "DELETE", "/stations/acks/groups/g", None).status, 204);
    // As another gateway publishes, which does not look at the station again.
    let before = broker.count("acks");
    let subject = broker.stream("acks")["config"]["subjects"][0].as_str().unwrap().to_owned();
    assert!(broker.request(&subject, b"2").starts_with(b"{\"stream\":\"acks\""));
    assert_eq!(broker.count("acks"), before + 1, "acknowledged, and kept");
    assert!(consume(&gateway, gateway.token(), "acks", "h").text().contains('2'));
}

fn f1_consumers_say_who_made_them_and_go_when_nobody_uses_them(setup: Setup) {
    for (config, expect) in
        [("", json!(35 * 86_400 * 1_000_000_000_u64)), ("group_expiry = \"unlimited\"", Value::Null)]
    {
        let gateway = Plan::new(setup).config(&format!("[stations]\n{config}")).start();
        gateway.single("crowded", "text/plain", b"record").is_json(200, OK);
        assert_eq!(gateway.consume("crowded", &body("g")).status, 200);
        let info = Broker::connect(gateway.nats()).api("CONSUMER.INFO.crowded.g-rest-gateway", &json!({}));
        assert_eq!(info["config"]["inactive_threshold"], expect, "{info}");
        assert_eq!(info["config"]["metadata"]["sluicegate-principal"], "root", "{info}");
        // Where nobody is interested in what comes, JetStream drops it: such a group stays.
        let kept = json!({"name": "kept", "retention_acknowledged": true});
        assert_eq!(api(&gateway, "POST", "/stations", Some(&kept)).status, 201);
        assert_eq!(gateway.consume("kept", &body("g")).status, 200);
        let info = Broker::connect(gateway.nats()).api("CONSUMER.INFO.kept.g-rest-gateway", &json!({}));
        assert_eq!(info["config"]["inactive_threshold"], Value::Null, "{info}");
    }
}

fn f17_partitions_that_are_used_up_are_not_said_to_come_back(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\npartitions = 6000").start();
    for number in 0..6 {
        let new = json!({"name": format!("s{number}"), "partitions": 10_000});
        assert_eq!(api(&gateway, "POST", "/stations", Some(&new)).status, 201);
    }
    let refused = api(&gateway, "POST", "/stations", Some(&json!({"name": "one.more", "partitions": 10_000})));
    assert_eq!((refused.status, refused.header("retry-after")), (409, None), "{}", refused.text());
    let text = refused.text();
    assert!(text.contains("65536 partitions") && !text.contains("may have been") && !text.contains("later"), "{text}");
    let text = gateway.single("on.first.use", "text/plain", b"record").is_error(409);
    assert!(text.contains("65536 partitions") && text.contains("remove stations"), "{text}");
    assert_eq!(api(&gateway, "DELETE", "/stations/s0", None).status, 204);
    eventually("there is room again", PATIENCE, || {
        (gateway.single("on.first.use", "text/plain", b"record").status == 200).then_some(())
    });
}

const OK: &str = "{\"error\":null,\"success\":true}";
