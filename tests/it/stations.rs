//! What the settings of new stations do: retention, the duplicate window, the original's layout; and
//! that a group's place outlives the process.

use crate::support::{
    PATIENCE, broker::Broker, eventually, gateway::Plan, http::Http, nats::NatsServer, proxy::Proxy, readback::drain,
    setup::Setup,
};
use std::time::Duration;

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        retention_by_count_keeps_the_newest,
        retention_by_bytes_keeps_the_newest,
        retention_by_age_lets_records_go,
        a_message_id_is_forgotten_after_its_window,
        what_a_group_has_not_read_is_read_after_kill_9,
    ]
);

mod broker {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        the_layout_of_the_original_has_its_names,
        a_full_window_is_429_after_the_hold,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";

fn payloads(gateway: &crate::support::gateway::Gateway, station: &str, group: &str) -> Vec<String> {
    drain(gateway, station, group).iter().map(|record| record.text().to_owned()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> String {
    format!("[{}]", range.map(|number| number.to_string()).collect::<Vec<_>>().join(","))
}

fn retention_by_count_keeps_the_newest(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\nretention_records = 5").start();
    gateway.batch("few", &numbers(0..20)).is_json(200, OK);
    let mut round = 0;
    eventually("only the newest five are left", PATIENCE, || {
        round += 1;
        let left = payloads(&gateway, "few", &format!("g{round}"));
        assert!(left.ends_with(&["15", "16", "17", "18", "19"].map(str::to_owned)), "{left:?}");
        (left.len() == 5).then_some(())
    });
}

fn retention_by_bytes_keeps_the_newest(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\nretention_bytes = \"64KiB\"").start();
    for number in 0..20 {
        let payload = format!("{number} {}", "x".repeat(10_000));
        gateway.single("heavy", "text/plain", payload.as_bytes()).is_json(200, OK);
    }
    let mut round = 0;
    eventually("no more than 64 KiB are left", PATIENCE, || {
        round += 1;
        let left = payloads(&gateway, "heavy", &format!("g{round}"));
        assert!(left.last().is_some_and(|text| text.starts_with("19 ")), "the newest stays");
        (left.len() <= 6).then(|| assert!(left.len() >= 4, "{}", left.len()))
    });
}

fn retention_by_age_lets_records_go(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\nretention_age = \"2s\"").start();
    gateway.batch("brief", "[1,2]").is_json(200, OK);
    assert_eq!(payloads(&gateway, "brief", "early"), ["1", "2"]);
    std::thread::sleep(Duration::from_secs(2));
    let mut round = 0;
    eventually("nothing is left", PATIENCE, || {
        round += 1;
        payloads(&gateway, "brief", &format!("late{round}")).is_empty().then_some(())
    });
    gateway.single("brief", "text/plain", b"3").is_json(200, OK);
    assert_eq!(payloads(&gateway, "brief", "early"), ["3"], "the group's place holds");
}

fn a_message_id_is_forgotten_after_its_window(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\nduplicate_window = \"1s\"").start();
    let headers = [("Content-Type", "text/plain"), ("Idempotency-Key", "again")];
    let post = |body: &[u8]| gateway.post("/stations/window/produce/single", &headers, body).is_json(200, OK).status;
    post(b"1");
    post(b"2");
    std::thread::sleep(Duration::from_millis(2_500));
    post(b"3");
    assert_eq!(payloads(&gateway, "window", "g"), ["1", "3"]);
}

fn what_a_group_has_not_read_is_read_after_kill_9(setup: Setup) {
    let mut gateway = Plan::new(setup).start();
    gateway.batch("resumed", &numbers(0..6)).is_json(200, OK);
    let body = "{\"consumer_name\":\"c\",\"consumer_group\":\"g\",\"batch_size\":3}";
    assert_eq!(gateway.consume("resumed", body).json().as_array().map(Vec::len), Some(3));
    // The acknowledgement of the first three is on its way: it may be lost, and then they come again.
    std::thread::sleep(Duration::from_millis(500));
    gateway.kill9();
    gateway.restart();
    let rest = payloads(&gateway, "resumed", "g");
    assert_eq!(rest, ["3", "4", "5"], "what was not read comes, and what was acknowledged long ago does not");
}

fn the_layout_of_the_original_has_its_names(setup: Setup) {
    let gateway = Plan::new(setup).config("[stations]\nlayout = \"memphis\"").start();
    gateway.single("My.Orders", "text/plain", b"x").is_json(200, OK);
    let mut broker = Broker::connect(gateway.nats());
    let message = broker.message("my#orders$1", 1);
    assert_eq!((message.subject.as_str(), message.payload.as_slice()), ("my#orders$1.final", &b"x"[..]));
    assert_eq!(payloads(&gateway, "my.orders", "g"), ["x"]);
}

fn a_full_window_is_429_after_the_hold(setup: Setup) {
    let server = NatsServer::start();
    let proxy = Proxy::start(server.address());
    let config = "[limits]\nwindow_messages_max = 2\nhold = \"500ms\"\nack_timeout = \"7s\"";
    let gateway = Plan::new(setup).nats_url(&proxy.url()).config(config).shards(1).start();
    gateway.single("narrow", "text/plain", b"0").is_json(200, OK);
    let request =
        gateway.authorized("POST", "/stations/narrow/produce/single", &[("Content-Type", "text/plain")], b"1");
    proxy.swallow_answers();
    let mut holders: Vec<Http> = (0..2).map(|_| Http::connect(gateway.address())).collect();
    for http in &mut holders {
        http.send(&request);
    }
    let mut broker = Broker::connect(&server);
    eventually("the window is full", PATIENCE, || (broker.count("narrow") == 3).then_some(()));
    Http::connect(gateway.address()).exchange(&request).is_retryable(429);
    for http in &mut holders {
        http.response().is_retryable(503);
    }
    assert_eq!(broker.count("narrow"), 3, "what was refused was not sent");
    proxy.cut(false);
    eventually("there is room again", PATIENCE, || {
        (gateway.single("narrow", "text/plain", b"2").status == 200).then_some(())
    });
}
