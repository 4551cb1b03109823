//! All or nothing under `kill -9`: of every strict batch all records are stored, or none.

use crate::support::{
    StopOnDrop, alone,
    gateway::{Gateway, Plan},
    http::{Http, request},
    readback::texts,
    report,
    setup::{Backend, Setup},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL => [a_strict_batch_is_whole_after_the_gateway_was_killed]
);
on_setups!(nats_io_uring NATS_IO_URING => [a_strict_batch_is_whole_after_nats_was_killed]);
on_setups!(nats_epoll NATS_EPOLL => [a_strict_batch_is_whole_after_the_gateway_was_killed]);

const PRODUCERS: usize = 8;
const RECORDS: usize = 200;
const CYCLES: usize = 4;
/// Batches acknowledged before each kill.
const LOAD: u64 = 20;

fn a_strict_batch_is_whole_after_the_gateway_was_killed(setup: Setup) {
    whole_after(setup, |gateway| {
        gateway.kill9();
        gateway.restart();
    });
}

fn a_strict_batch_is_whole_after_nats_was_killed(setup: Setup) {
    whole_after(setup, |gateway| {
        gateway.nats_mut().kill9();
        gateway.nats_mut().restart();
        gateway.wait_ready();
    });
}

fn whole_after(setup: Setup, kill: impl Fn(&mut Gateway)) {
    if setup.backend == Backend::Nats && crate::support::nats::version_line().contains("v2.10.") {
        // What such a server answers is asserted in `preferences`.
        return report("strict batches need nats-server 2.12: not run on this one");
    }
    let _turn = alone();
    let config = "[limits]\nhold = \"1s\"\nack_timeout = \"7s\"";
    let mut gateway = Plan::new(setup).config(config).start();
    gateway.token();
    let (mut acknowledged, mut stored) = (0, 0);
    for cycle in 0..CYCLES {
        let station = format!("whole-{cycle}");
        let sent = one_cycle(&mut gateway, &station, &kill);
        let found = batches(&texts(&gateway, &station));
        let torn: Vec<_> = found.iter().filter(|(_, count)| **count != RECORDS).collect();
        assert_eq!(torn, [], "cycle {cycle}: batches of which some records are there");
        let lost: Vec<_> = sent.iter().filter(|id| !found.contains_key(*id)).collect();
        assert_eq!(lost, [""; 0].iter().collect::<Vec<_>>(), "cycle {cycle}: acknowledged and not there");
        acknowledged += sent.len();
        stored += found.len();
    }
    report(&format!("{setup:?}: {CYCLES} kills, batches acknowledged {acknowledged} whole {stored} torn 0"));
}

/// Records of each batch that is there.
fn batches(texts: &[String]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for text in texts {
        let id = text.trim_matches('"').split(' ').next().unwrap().to_owned();
        *found.entry(id).or_default() += 1;
    }
    found
}

/// Produces strict batches through a kill; which were acknowledged.
fn one_cycle(gateway: &mut Gateway, station: &str, kill: impl Fn(&mut Gateway)) -> Vec<String> {
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (address, token) = (gateway.address(), gateway.token().to_owned());
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let (count, stop, token) = (&count, &stop, &token);
                scope.spawn(move || produce(address, token, station, producer, count, stop))
            })
            .collect();
        let stopper = StopOnDrop(&stop);
        wait_for(&count, LOAD);
        kill(gateway);
        wait_for(&count, count.load(Ordering::Relaxed) + LOAD / 2);
        drop(stopper);
        producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
    })
}

fn wait_for(count: &AtomicU64, target: u64) {
    for _ in 0..30_000 {
        if count.load(Ordering::Relaxed) >= target {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("{} of {target} batches acknowledged", count.load(Ordering::Relaxed));
}

fn produce(
    address: std::net::SocketAddr,
    token: &str,
    station: &str,
    producer: usize,
    count: &AtomicU64,
    stop: &AtomicBool,
) -> Vec<String> {
    let bearer = format!("Bearer {token}");
    let target = format!("/stations/{station}/produce/batch");
    let headers =
        [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Prefer", "handling=strict")];
    let (mut acknowledged, mut http) = (Vec::new(), None::<Http>);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{producer}-{number}");
        let records: Vec<String> = (0..RECORDS).map(|record| format!("\"{id} {record}\"")).collect();
        let body = format!("[{}]", records.join(","));
        let Some(open) = http.as_mut() else {
            http = Http::try_connect(address).ok();
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let sent = open.try_send(&request("POST", &target, &headers, body.as_bytes()));
        match sent.and_then(|()| open.try_response(true)).map(|response| response.status) {
            Ok(200) => {
                acknowledged.push(id);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(429 | 503) => thread::sleep(Duration::from_millis(10)),
            Ok(other) => panic!("{other}"),
            Err(_) => http = None,
        }
    }
    acknowledged
}
