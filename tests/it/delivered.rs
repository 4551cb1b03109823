//! When what a consume call was handed is done: once the client has the answer, and not when it was written.

use crate::support::{PATIENCE, eventually, gateway::Gateway, http::Http, setup::Setup, unique};
use serde_json::json;
use std::{
    io::Read as _,
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

on_every_setup!(
    r6_a_client_that_has_closed_its_sending_side_gets_its_answer,
    c9_a_client_that_goes_away_amid_the_answer_loses_nothing,
    c9_a_client_that_has_gone_before_the_answer_loses_nothing,
    c9_calls_one_after_the_other_wait_for_nothing,
    c9_calls_that_are_sent_ahead_are_answered_in_order,
);

mod idle {
    use super::*;
    on_setups!(local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL => [
        c9_what_an_idle_client_has_is_done,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";

fn fill(gateway: &Gateway, station: &str, count: usize, bytes: usize) {
    let record = format!("\"{}\"", "x".repeat(bytes));
    gateway.batch(station, &format!("[{}]", vec![record; count].join(","))).is_json(200, OK);
}

fn call(gateway: &Gateway, station: &str, count: usize, wait_ms: u64, close: bool) -> Vec<u8> {
    let body = json!({"consumer_name": "c", "batch_size": count, "batch_max_wait_time_ms": wait_ms}).to_string();
    let connection = if close { "close" } else { "keep-alive" };
    let headers = [("Content-Type", "application/json"), ("Connection", connection)];
    gateway.authorized("POST", &format!("/stations/{station}/consume/batch"), &headers, body.as_bytes())
}

/// How many messages there are to be had.
#[track_caller]
fn left(gateway: &Gateway, station: &str) -> usize {
    let mut all = 0;
    loop {
        let response = Http::connect(gateway.address()).exchange(&call(gateway, station, 1_000, 2_000, true));
        match response.json().as_array().unwrap().len() {
            0 => return all,
            some => all += some,
        }
    }
}

fn r6_a_client_that_has_closed_its_sending_side_gets_its_answer(gateway: &Gateway) {
    for close in [true, false] {
        let station = unique("half-closed");
        fill(gateway, &station, 3, 10);
        let mut http = Http::connect(gateway.address());
        http.send(&call(gateway, &station, 10, 1_000, close));
        http.stream().shutdown(Shutdown::Write).unwrap();
        let response = http.response();
        assert_eq!(response.json().as_array().map(Vec::len), Some(3), "{}", response.text());
        http.closes();
        assert_eq!(left(gateway, &station), 0, "what it has does not come again");
    }
}

fn c9_a_client_that_goes_away_amid_the_answer_loses_nothing(gateway: &Gateway) {
    for close in [true, false] {
        let station = unique("amid");
        fill(gateway, &station, 200, 350);
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Write::write_all(&mut stream, &call(gateway, &station, 200, 3_000, close)).unwrap();
        let mut some = [0; 2_000];
        stream.read_exact(&mut some).unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200"));
        drop(stream);
        assert_eq!(left(gateway, &station), 200, "close: {close}");
    }
}

fn c9_a_client_that_has_gone_before_the_answer_loses_nothing(gateway: &Gateway) {
    let station = unique("before");
    fill(gateway, &station, 1, 10);
    assert_eq!(left(gateway, &station), 1);
    let mut http = Http::connect(gateway.address());
    http.send(&call(gateway, &station, 10, 1_500, false));
    thread::sleep(Duration::from_millis(300));
    drop(http);
    fill(gateway, &station, 1, 10);
    eventually("it comes again", PATIENCE, || (left(gateway, &station) == 1).then_some(()));
}

/// Each call says that the one before has arrived: if it waited for that to be found out, this would take 25 s.
fn c9_calls_one_after_the_other_wait_for_nothing(gateway: &Gateway) {
    const CALLS: usize = 50;
    let station = unique("series");
    fill(gateway, &station, CALLS, 10);
    let mut http = Http::connect(gateway.address());
    let begun = Instant::now();
    for _ in 0..CALLS {
        let response = http.exchange(&call(gateway, &station, 1, 3_000, false));
        assert_eq!(response.json().as_array().map(Vec::len), Some(1));
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(http);
    assert_eq!(left(gateway, &station), 0);
}

fn c9_calls_that_are_sent_ahead_are_answered_in_order(gateway: &Gateway) {
    let station = unique("ahead");
    gateway.batch(&station, "[1,2,3,4,5,6,7,8]").is_json(200, OK);
    let mut http = Http::connect(gateway.address());
    http.send(&call(gateway, &station, 2, 3_000, false).repeat(4));
    for first in [1, 3, 5, 7] {
        let response = http.response();
        let messages = response.json();
        assert_eq!(messages[0]["message"], first.to_string(), "{messages}");
        assert_eq!(messages[1]["message"], (first + 1).to_string(), "{messages}");
    }
    drop(http);
    assert_eq!(left(gateway, &station), 0);
}

fn c9_what_an_idle_client_has_is_done(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    fill(&gateway, "idle", 5, 10);
    let mut http = Http::connect(gateway.address());
    let response = http.exchange(&call(&gateway, "idle", 10, 1_000, false));
    assert_eq!(response.json().as_array().map(Vec::len), Some(5));
    // It says nothing more, and does not close. A gateway that is killed knows what was done.
    thread::sleep(Duration::from_secs(5));
    gateway.kill9();
    gateway.restart();
    assert_eq!(left(&gateway, "idle"), 0);
}
