//! `GET /stations/{s}/records`: pages of records by place, and the links between them.

use crate::support::{
    PATIENCE,
    admin::api,
    eventually,
    gateway::Gateway,
    http::{Http, Response, once},
    setup::Setup,
    unique,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

on_every_setup!(
    a_page_has_the_records_and_where_to_go_on,
    pages_that_follow_each_other_have_every_record_once,
    a_poller_that_goes_on_from_the_end_misses_nothing,
    what_is_wrong_with_a_request_is_said,
    nothing_is_left_behind_and_no_station_is_made,
);

mod retention {
    use super::*;
    on_setups!(
        local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
            a_page_behind_a_gap_says_so,
        ]
    );
}

const OK: &str = "{\"error\":null,\"success\":true}";

#[track_caller]
fn get(gateway: &Gateway, target: &str) -> Response {
    Http::connect(gateway.address()).exchange(&gateway.authorized("GET", target, &[], b""))
}

/// A page, and the target of the next one.
#[track_caller]
fn page(gateway: &Gateway, target: &str) -> (Vec<Value>, String) {
    let response = get(gateway, target);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    let link = response.header("link").expect("a link");
    let next =
        link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("a link to the next");
    (response.json().as_array().unwrap().clone(), next.to_owned())
}

fn texts(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["message"].as_str().unwrap()).collect()
}

/// A new station of so many partitions.
#[track_caller]
pub(super) fn station(gateway: &Gateway, partitions: u16) -> String {
    let name = unique("read");
    let made = api(gateway, "POST", "/stations", Some(&json!({"name": name, "partitions": partitions})));
    assert_eq!(made.status, 201, "{}", made.text());
    name
}

pub(super) fn numbers(range: std::ops::Range<u32>) -> String {
    format!("[{}]", range.map(|number| number.to_string()).collect::<Vec<_>>().join(","))
}

fn a_page_has_the_records_and_where_to_go_on(gateway: &Gateway) {
    let station = unique("page");
    gateway.batch(&station, "[1,{\"a\":\"b\\nc\"},3]").is_json(200, OK);
    let response = get(gateway, &format!("/stations/{station}/records?from=first&limit=2"));
    let elements = response.json();
    let first = &elements[0];
    assert_eq!((first["message"].as_str(), first["partition"].as_u64()), (Some("1"), Some(0)), "{elements}");
    assert_eq!((first["sequence"].as_u64(), elements[1]["sequence"].as_u64()), (Some(1), Some(2)));
    assert_eq!(first["headers"]["Content-Type"].as_str(), Some("application/json"), "{elements}");
    let time = first["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let link = format!("</stations/{station}/records?from=0:3&limit=2>; rel=\"next\"");
    assert_eq!(response.header("link"), Some(link.as_str()));
    assert_eq!(response.header("sluicegate-gap"), None);
    for (query, expect) in [
        ("", "1 {\"a\":\"b\\nc\"} 3"),
        ("?from=0:2", "{\"a\":\"b\\nc\"} 3"),
        ("?from=-15m&partition=0", "1 {\"a\":\"b\\nc\"} 3"),
        ("?from=2020-01-01T00:00:00Z&limit=1", "1"),
        (&format!("?from={time}&limit=1"), "1"),
        ("?from=2100-01-01T00:00:00%2B01:00", ""),
        ("?from=new", ""),
        ("?from=0:4", ""),
    ] {
        let (records, next) = page(gateway, &format!("/stations/{station}/records{query}"));
        assert_eq!(texts(&records).join(" "), expect, "{query}");
        let end = records.last().map_or(4, |record| record["sequence"].as_u64().unwrap() + 1);
        assert!(next.contains(&format!("?from=0:{end}&limit=")), "{query}: {next}");
    }
    let mut http = Http::connect(gateway.address());
    http.send(&gateway.authorized("HEAD", &format!("/stations/{station}/records"), &[], b""));
    assert_eq!(http.response_to_head().status, 200);
    http.is_alive();
}

fn pages_that_follow_each_other_have_every_record_once(gateway: &Gateway) {
    let station = station(gateway, 3);
    gateway.batch(&station, &numbers(0..1_000)).is_json(200, OK);
    for (more, expect) in [("&limit=70", 1_000), ("&limit=5000", 1_000), ("&limit=100&partition=1", 333)] {
        let mut next = format!("/stations/{station}/records?from=first{more}");
        let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut all = Vec::new();
        loop {
            let (records, link) = page(gateway, &next);
            if records.is_empty() {
                assert_eq!(link, next, "the end is where the next page begins");
                break;
            }
            for record in &records {
                let sequences = seen.entry(record["partition"].as_u64().unwrap()).or_default();
                sequences.push(record["sequence"].as_u64().unwrap());
            }
            all.extend(texts(&records).into_iter().map(|text| text.parse::<u32>().unwrap()));
            next = link;
        }
        assert!(seen.values().all(|sequences| sequences.windows(2).all(|pair| pair[0] < pair[1])), "in order");
        all.sort_unstable();
        all.dedup();
        let count: usize = seen.values().map(Vec::len).sum();
        assert!(count == all.len() && (expect..=expect + 1).contains(&count), "{more}: {count} {}", all.len());
    }
    let (records, _) = page(gateway, &format!("/stations/{station}/records?limit=6"));
    let partitions: Vec<_> = records.iter().map(|record| record["partition"].as_u64().unwrap()).collect();
    assert_eq!(partitions, [0, 0, 1, 1, 2, 2], "none holds up the others");
}

fn a_poller_that_goes_on_from_the_end_misses_nothing(gateway: &Gateway) {
    let station = station(gateway, 2);
    let (records, mut next) = page(gateway, &format!("/stations/{station}/records?from=new"));
    assert!(records.is_empty());
    let mut seen = Vec::new();
    for number in 0..6 {
        gateway.batch(&station, &numbers(number * 3..number * 3 + 3)).is_json(200, OK);
        let (records, link) = page(gateway, &next);
        seen.extend(texts(&records).iter().map(|text| text.parse::<u32>().unwrap()));
        next = link;
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..18).collect::<Vec<_>>());
}

fn what_is_wrong_with_a_request_is_said(gateway: &Gateway) {
    let station = unique("wrong");
    gateway.single(&station, "text/plain", b"x").is_json(200, OK);
    for (query, says) in [
        ("?from=yesterday", "from is new, first"),
        ("?from=15m", "from is new, first"),
        ("?from=0:1,0:2", "a cursor names each partition once"),
        ("?from=17", "a cursor names each partition once"),
        ("?from=1:1", "the cursor names a partition that the station does not have"),
        ("?partition=1", "the station has no such partition"),
        ("?partition=x", "partition is the number of a partition"),
        ("?limit=0", "limit is a number of records"),
        ("?limit=5001", "limit can not be greater than 5000"),
    ] {
        let said = get(gateway, &format!("/stations/{station}/records{query}")).is_error(400);
        assert!(said.contains(says), "{query}: {said}");
        let is_of_pages = query == "?limit=5001";
        if !is_of_pages {
            let said = get(gateway, &format!("/stations/{station}/tail{query}")).is_error(400);
            assert!(said.contains(says), "{query}: {said}");
        }
    }
    for route in ["tail", "records"] {
        let target = format!("/stations/{station}/{route}");
        let anonymous = once(gateway.address(), "GET", &target, &[], b"");
        anonymous.is(401, "{\"message\":\"Unauthorized\"}");
        let posted = gateway.post(&target, &[], b"");
        assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
        let options = once(gateway.address(), "OPTIONS", &target, &[], b"");
        assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    }
}

fn nothing_is_left_behind_and_no_station_is_made(gateway: &Gateway) {
    let nowhere = unique("nowhere");
    for route in ["tail", "records"] {
        let said = get(gateway, &format!("/stations/{nowhere}/{route}")).is_error(404);
        assert!(said.contains(&nowhere), "{said}");
    }
    assert_eq!(api(gateway, "GET", &format!("/stations/{nowhere}"), None).status, 404);
    let station = station(gateway, 1);
    gateway.single(&station, "text/plain", b"x").is_json(200, OK);
    assert_eq!(page(gateway, &format!("/stations/{station}/records")).0.len(), 1);
    let groups = api(gateway, "GET", &format!("/stations/{station}/groups"), None);
    assert_eq!(groups.json()["items"].as_array().map(Vec::len), Some(0), "{}", groups.text());
}

fn a_page_behind_a_gap_says_so(setup: Setup) {
    let gateway = Gateway::start(setup);
    let station = station(&gateway, 1);
    gateway.batch(&station, &numbers(0..20)).is_json(200, OK);
    let change = json!({"retention_records": 5});
    let changed = api(&gateway, "PATCH", &format!("/stations/{station}"), Some(&change));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let target = format!("/stations/{station}/records?from=0:3");
    eventually("retention has taken all but five", PATIENCE, || {
        let response = get(&gateway, &target);
        (response.json().as_array().unwrap().len() == 5).then_some(())
    });
    let response = get(&gateway, &target);
    assert_eq!(response.header("sluicegate-gap"), Some("0:3-15"));
    let elements = response.json();
    assert_eq!((elements[0]["sequence"].as_u64(), elements[0]["message"].as_str()), (Some(16), Some("15")));
    assert_eq!(get(&gateway, &format!("/stations/{station}/records?from=0:16")).header("sluicegate-gap"), None);
}
