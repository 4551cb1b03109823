//! `GET /stations/{s}/tail`: what is stored, as it is stored, for as long as the reader stays.

use crate::{
    records::{numbers, station},
    support::{
        PATIENCE,
        admin::{api, done},
        eventually,
        gateway::{Gateway, Plan},
        http::{Http, once, request},
        setup::Setup,
        sse::{Event, Events},
        unique,
    },
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::Read as _,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

on_every_setup!(
    a_tail_tells_what_is_stored_and_where_to_go_on,
    a_tail_begins_where_it_is_asked_to,
    a_tail_ends_with_its_limit_and_keeps_to_its_partition,
    a_reader_that_comes_back_has_no_gap_and_no_double,
    a_page_of_another_origin_follows_with_its_credential_in_the_url,
    curl_follows_a_station,
);

mod own {
    use super::*;
    on_setups!(
        local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
            who_loses_the_right_is_cut_off_and_told,
            a_gateway_that_stops_ends_its_tails_in_order_and_the_next_one_goes_on,
            what_retention_took_is_told_as_a_gap,
            a_reader_that_does_not_read_is_cut_off,
            a_thousand_tails_of_a_station_cost_one_read_for_each_arrival,
        ]
    );
}

mod broker {
    use super::*;
    on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        another_gateway_goes_on_where_the_first_was_left,
        a_tail_outlives_its_broker,
    ]);
}

const OK: &str = "{\"error\":null,\"success\":true}";

/// Partition and sequence of a record.
fn place(event: &Event) -> (u64, u64) {
    let element = event.json();
    (element["partition"].as_u64().unwrap(), element["sequence"].as_u64().unwrap())
}

fn a_tail_tells_what_is_stored_and_where_to_go_on(gateway: &Gateway) {
    let station = station(gateway, 2);
    gateway.batch(&station, "[1,2]").is_json(200, OK);
    let mut tail = Events::follow(gateway, &station, "", &[]);
    for field in ["Cache-Control: no-store\r\n", "X-Accel-Buffering: no\r\n", "Access-Control-Allow-Origin: *\r\n"] {
        assert!(tail.head.contains(field), "{}", tail.head);
    }
    assert_eq!(tail.next_within(Duration::from_millis(100)), None, "what was there is not new");
    assert_eq!((tail.comments, tail.retry), (1, Some(1_000)), "the reader sees at once that the stream is open");
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k")];
    let stored = gateway.post(&format!("/stations/{station}/produce/single"), &headers, b"{\"a\":\n\"b\"}");
    stored.is_json(200, OK);
    let event = tail.next();
    let element = event.json();
    assert_eq!(element["message"].as_str(), Some("{\"a\":\n\"b\"}"));
    assert_eq!(element["headers"]["Content-Type"].as_str(), Some("application/json"));
    let (partition, sequence) = place(&event);
    let next = |at: u64| if at == partition { sequence + 1 } else { 2 };
    assert_eq!(event.id, format!("0:{},1:{}", next(0), next(1)), "both partitions, also of what did not change");
    let binary =
        gateway.post(&format!("/stations/{station}/produce/single"), &[("Content-Type", "avro/bytes")], &[0xff]);
    binary.is_json(200, OK);
    let element = tail.next().json();
    assert_eq!((element["message"].as_str(), element["encoding"].as_str()), (Some("/w=="), Some("base64")));
    let keys: Vec<_> = element.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["encoding", "headers", "message", "partition", "sequence", "time"]);
    let head = gateway.authorized("HEAD", &format!("/stations/{station}/tail"), &[], b"");
    let mut http = Http::connect(gateway.address());
    http.send(&head);
    let mut answer = [0; 12];
    http.stream().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

fn a_tail_begins_where_it_is_asked_to(gateway: &Gateway) {
    let station = unique("begin");
    gateway.batch(&station, "[1,2,3]").is_json(200, OK);
    let mut first = Events::follow(gateway, &station, "?from=first", &[]);
    let events: Vec<_> = (0..3).map(|_| first.next()).collect();
    let time = events[2].json()["time"].as_str().unwrap().to_owned();
    assert_eq!(events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["0:2", "0:3", "0:4"]);
    for (query, last_event_id, expect) in [
        ("?from=first", None, &["1", "2", "3"][..]),
        ("?from=-15m", None, &["1", "2", "3"]),
        ("?from=0:3", None, &["3"]),
        ("?from=2020-01-01T00:00:00Z", None, &["1", "2", "3"]),
        (&format!("?from={time}&limit=9"), Some(""), &["1", "2", "3"]),
        ("?from=first", Some("0:3"), &["3"]),
        ("?from=nonsense", Some("0:2"), &["2", "3"]),
    ] {
        let headers: Vec<_> = last_event_id.map(|id| ("Last-Event-ID", id)).into_iter().collect();
        let mut tail = Events::follow(gateway, &station, query, &headers);
        assert_eq!(tail.texts(expect.len()), expect, "{query} {last_event_id:?}");
    }
    let queries = ["", "?from=new", "?from=0:4", "?from=2100-01-01T00:00:00Z"];
    let mut tails = queries.map(|query| Events::follow(gateway, &station, query, &[]));
    gateway.single(&station, "text/plain", b"4").is_json(200, OK);
    for (tail, query) in tails.iter_mut().zip(queries) {
        assert_eq!(tail.texts(1), ["4"], "{query}");
    }
}

fn a_tail_ends_with_its_limit_and_keeps_to_its_partition(gateway: &Gateway) {
    let station = station(gateway, 3);
    gateway.batch(&station, &numbers(0..90)).is_json(200, OK);
    let mut tail = Events::follow(gateway, &station, "?from=first&limit=50", &[]);
    let seen: Vec<_> = (0..50).map(|_| place(&tail.next())).collect();
    assert_eq!(tail.ends(false), "the limit is reached");
    let unique_places: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique_places.len(), 50);
    let mut one = Events::follow(gateway, &station, "?from=first&partition=2&limit=30", &[]);
    let events: Vec<_> = (0..30).map(|_| one.next()).collect();
    assert!(events.iter().zip(1..).all(|(event, sequence)| place(event) == (2, sequence)));
    assert_eq!(events[29].id, "2:31", "a cursor of what was asked for");
    one.ends(false);
    // The connection serves other requests afterwards.
    let mut all = Events::follow(gateway, &station, "?from=first", &[]);
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for _ in 0..90 {
        let (partition, sequence) = place(&all.next());
        assert_eq!(last.insert(partition, sequence).unwrap_or(0) + 1, sequence, "in order within a partition");
    }
}

/// Posts single records until it is told to stop; returns how many are acknowledged.
fn produce_until(stop: &AtomicBool, gateway: (SocketAddr, &str), station: &str) -> u32 {
    let bearer = format!("Bearer {}", gateway.1);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
    let mut http = Http::connect(gateway.0);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/stations/{station}/produce/single");
        http.exchange(&request("POST", &path, &headers, count.to_string().as_bytes())).is_json(200, OK);
        count += 1;
        thread::sleep(Duration::from_millis(1));
    }
    count
}

/// What a reader has seen: the sequences of each partition.
#[derive(Debug, Default)]
struct Seen {
    sequences: BTreeMap<u64, Vec<u64>>,
    id: String,
}

impl Seen {
    /// Takes records until so many have come in all.
    fn take(&mut self, tail: &mut Events, until: usize) {
        while self.count() < until {
            self.note(&tail.next());
        }
    }

    fn note(&mut self, event: &Event) {
        let (partition, sequence) = place(event);
        self.sequences.entry(partition).or_default().push(sequence);
        self.id.clone_from(&event.id);
    }

    fn count(&self) -> usize {
        self.sequences.values().map(Vec::len).sum()
    }

    /// Fails unless each partition has all sequences from 1, in order, once.
    #[track_caller]
    fn is_whole(&self) {
        for (partition, sequences) in &self.sequences {
            let expect: Vec<u64> = (1..=sequences.len() as u64).collect();
            assert_eq!(*sequences, expect, "partition {partition}");
        }
    }
}

fn a_reader_that_comes_back_has_no_gap_and_no_double(gateway: &Gateway) {
    let station = station(gateway, 3);
    let stop = AtomicBool::new(false);
    let mut seen = Seen::default();
    let stored = thread::scope(|scope| {
        let _stop = crate::support::StopOnDrop(&stop);
        let producer = scope.spawn(|| produce_until(&stop, (gateway.address(), gateway.token()), &station));
        for round in 1..=12 {
            // A browser sends the URL again that it began with, and what it has seen.
            let id = seen.id.clone();
            let mut tail = Events::follow(gateway, &station, "?from=first", &[("Last-Event-ID", id.as_str())]);
            seen.take(&mut tail, round * 17);
        }
        stop.store(true, Ordering::Relaxed);
        producer.join().unwrap()
    });
    let mut tail = Events::follow(gateway, &station, &format!("?from={}", seen.id), &[]);
    seen.take(&mut tail, stored as usize);
    seen.is_whole();
    assert_eq!(tail.next_within(Duration::from_millis(100)), None);
}

fn a_page_of_another_origin_follows_with_its_credential_in_the_url(gateway: &Gateway) {
    let station = unique("page");
    gateway.single(&station, "text/plain", b"1").is_json(200, OK);
    let target = format!("/stations/{station}/tail?authorization={}&from=first", gateway.token());
    let headers = [("Origin", "https://page.test"), ("Accept", "text/event-stream"), ("Cache-Control", "no-cache")];
    let mut tail = Events::open(gateway.address(), &request("GET", &target, &headers, b""));
    assert!(tail.head.contains("Access-Control-Allow-Origin: https://page.test\r\n"), "{}", tail.head);
    assert_eq!(tail.texts(1), ["1"]);
    let page = format!("/stations/{station}/records?authorization={}", gateway.token());
    let page = once(gateway.address(), "GET", &page, &headers, b"");
    assert!(!page.header("link").unwrap().contains(gateway.token()), "no credential is handed on");
}

/// A client that others wrote.
fn curl_follows_a_station(gateway: &Gateway) {
    let station = unique("curl");
    gateway.batch(&station, "[1,2]").is_json(200, OK);
    let url = format!("http://{}/stations/{station}/tail?from=first&limit=3", gateway.address());
    let bearer = format!("Authorization: Bearer {}", gateway.token());
    let curl =
        Command::new("curl").args(["-sN", "--max-time", "30", "-H", &bearer, &url]).stdout(Stdio::piped()).spawn();
    let Ok(curl) = curl else {
        crate::support::report("there is no curl here: curl_follows_a_station was not run");
        return;
    };
    gateway.single(&station, "text/plain", b"3").is_json(200, OK);
    let output = curl.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: a body that ends in order", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let records: Vec<_> = text.lines().filter(|line| line.starts_with("data: {\"message\"")).collect();
    assert_eq!(records.len(), 3, "{text}");
}

fn who_loses_the_right_is_cut_off_and_told(setup: Setup) {
    let gateway = Gateway::start(setup);
    gateway.single("secret", "text/plain", b"1").is_json(200, OK);
    let key = done(&gateway, &["key", "create", "--consume", "secret"], "");
    let key = key.trim_end();
    let bearer = format!("Bearer {key}");
    let call = request("GET", "/stations/secret/tail?from=first", &[("Authorization", bearer.as_str())], b"");
    let mut tails: Vec<_> = (0..4).map(|_| Events::open(gateway.address(), &call)).collect();
    for tail in &mut tails {
        assert_eq!(tail.texts(1), ["1"]);
    }
    let mut others = Events::follow(&gateway, "secret", "", &[]);
    let id = key.split('_').nth(1).unwrap();
    done(&gateway, &["key", "revoke", id], "");
    for tail in &mut tails {
        assert_eq!(tail.ends(false), "Unauthorized");
    }
    gateway.single("secret", "text/plain", b"2").is_json(200, OK);
    assert_eq!(others.texts(1), ["2"], "others go on");
    let other = once(gateway.address(), "GET", "/stations/secret/tail", &[("Authorization", bearer.as_str())], b"");
    assert_eq!(other.status, 401);
    let key = done(&gateway, &["key", "create", "--produce", "secret"], "");
    let bearer = format!("Bearer {}", key.trim_end());
    for route in ["tail", "records"] {
        let target = format!("/stations/secret/{route}");
        let refused = once(gateway.address(), "GET", &target, &[("Authorization", bearer.as_str())], b"");
        assert!(refused.is_error(403).contains("is not allowed to consume from station secret"));
    }
}

fn a_gateway_that_stops_ends_its_tails_in_order_and_the_next_one_goes_on(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    let station = station(&gateway, 2);
    gateway.batch(&station, &numbers(0..50)).is_json(200, OK);
    let mut seen = Seen::default();
    let mut tail = Events::follow(&gateway, &station, "?from=first", &[]);
    seen.take(&mut tail, 50);
    gateway.process().signal("TERM");
    tail.ends(true);
    assert_eq!(gateway.process_mut().wait(Duration::from_secs(20)).code(), Some(0));
    gateway.restart();
    gateway.batch(&station, &numbers(50..80)).is_json(200, OK);
    let mut tail = Events::follow(&gateway, &station, "", &[("Last-Event-ID", seen.id.as_str())]);
    seen.take(&mut tail, 60);
    gateway.kill9();
    gateway.restart();
    let mut tail = Events::follow(&gateway, &station, "", &[("Last-Event-ID", seen.id.clone().as_str())]);
    seen.take(&mut tail, 80);
    seen.is_whole();
}

fn what_retention_took_is_told_as_a_gap(setup: Setup) {
    let gateway = Gateway::start(setup);
    let station = station(&gateway, 1);
    gateway.batch(&station, &numbers(0..20)).is_json(200, OK);
    let changed = api(&gateway, "PATCH", &format!("/stations/{station}"), Some(&json!({"retention_records": 5})));
    assert_eq!(changed.status, 200, "{}", changed.text());
    eventually("retention has taken all but five", PATIENCE, || {
        let described = api(&gateway, "GET", &format!("/stations/{station}"), None).json();
        (described["records"].as_u64() == Some(5)).then_some(())
    });
    let mut tail = Events::follow(&gateway, &station, "?from=0:3", &[]);
    let gap = tail.next();
    assert_eq!((gap.kind.as_str(), gap.id.as_str()), ("gap", "0:16"));
    assert_eq!(gap.json(), json!({"partition": 0, "from": 3, "to": 15}));
    assert_eq!(tail.texts(5), ["15", "16", "17", "18", "19"]);
    let metrics = gateway.metrics();
    assert!(metrics.contains("sluicegate_read_gaps_total 1\n"), "{metrics}");
    assert!(metrics.contains("sluicegate_records_read_total 5\n"));
}

fn a_reader_that_does_not_read_is_cut_off(setup: Setup) {
    let gateway = Plan::new(setup).shards(1).config("[limits]\nwrite_timeout = \"1s\"").start();
    let record = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..20 {
        gateway.batch("heavy", &format!("[{}]", [record.as_str(); 10].join(","))).is_json(200, OK);
    }
    let mut slow = Events::follow(&gateway, "heavy", "?from=first", &[]);
    slow.next();
    let open = |count: u64| gateway.metrics().contains(&format!("sluicegate_open_streams{{route=\"tail\"}} {count}\n"));
    assert!(open(1), "it is open");
    // More is there for it than the kernels between take.
    eventually("it is cut off", PATIENCE, || {
        let mut reader = Events::follow(&gateway, "heavy", "?from=first&limit=20", &[]);
        assert_eq!(reader.texts(20).len(), 20, "others are served meanwhile");
        drop(reader);
        thread::sleep(Duration::from_millis(200));
        open(0).then_some(())
    });
    let mut left = 0;
    while slow.next_within(PATIENCE).is_some() {
        left += 1;
    }
    assert!(!slow.is_complete && left < 199, "it was not ended in order after {left}");
}

/// A counter, by name.
fn counter(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

fn a_thousand_tails_of_a_station_cost_one_read_for_each_arrival(setup: Setup) {
    const TAILS: usize = 1_000;
    const ARRIVALS: u64 = 5;
    let _alone = crate::support::alone();
    let gateway = Plan::new(setup).shards(1).start();
    gateway.single("watched", "text/plain", b"before").is_json(200, OK);
    let mut tails: Vec<_> = (0..TAILS).map(|_| Events::follow(&gateway, "watched", "", &[])).collect();
    let before = counter(&gateway, "sluicegate_reads_total");
    for arrival in 0..ARRIVALS {
        let text = arrival.to_string();
        gateway.single("watched", "text/plain", text.as_bytes()).is_json(200, OK);
        for (number, tail) in tails.iter_mut().enumerate() {
            let event = tail.next_within(2 * PATIENCE).unwrap_or_else(|| panic!("tail {number} has nothing"));
            assert_eq!((event.text(), event.id), (text.clone(), format!("0:{}", arrival + 3)), "tail {number}");
        }
    }
    let reads = counter(&gateway, "sluicegate_reads_total") - before;
    crate::support::report(&format!("{setup:?}: {TAILS} tails, {ARRIVALS} arrivals, {reads} reads"));
    assert!(reads <= 4 * ARRIVALS, "{reads} reads of {ARRIVALS} arrivals");
    assert_eq!(counter(&gateway, "sluicegate_records_read_total"), TAILS as u64 * ARRIVALS);
    gateway.single("watched", "text/plain", b"after").is_json(200, OK);
}

fn another_gateway_goes_on_where_the_first_was_left(setup: Setup) {
    let first = Gateway::start(setup);
    let second = Plan::new(setup).nats_url(&first.nats().url()).start();
    let station = station(&first, 3);
    let stop = AtomicBool::new(false);
    let mut seen = Seen::default();
    let stored = thread::scope(|scope| {
        let _stop = crate::support::StopOnDrop(&stop);
        let producer = scope.spawn(|| produce_until(&stop, (first.address(), first.token()), &station));
        for (round, gateway) in (1..=10).zip([&first, &second].into_iter().cycle()) {
            let mut tail =
                Events::follow(gateway, &station, "?from=first", &[("Last-Event-ID", seen.id.clone().as_str())]);
            seen.take(&mut tail, round * 23);
        }
        stop.store(true, Ordering::Relaxed);
        producer.join().unwrap()
    });
    let mut tail = Events::follow(&second, &station, "", &[("Last-Event-ID", seen.id.clone().as_str())]);
    seen.take(&mut tail, stored as usize);
    seen.is_whole();
}

fn a_tail_outlives_its_broker(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    gateway.single("kept", "text/plain", b"1").is_json(200, OK);
    let mut waiting = Events::follow(&gateway, "kept", "", &[]);
    let mut reading = Events::follow(&gateway, "kept", "?from=first", &[]);
    assert_eq!(reading.texts(1), ["1"]);
    gateway.nats_mut().kill9();
    thread::sleep(Duration::from_secs(1));
    gateway.nats_mut().restart();
    eventually("the broker takes records again", 2 * PATIENCE, || {
        (gateway.single("kept", "text/plain", b"2").status == 200).then_some(())
    });
    for tail in [&mut waiting, &mut reading] {
        // A produce call whose outcome was unknown may have stored its record as well.
        assert_eq!(tail.next_within(2 * PATIENCE).map(|event| event.text()).as_deref(), Some("2"));
    }
}
