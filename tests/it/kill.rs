//! `kill -9` while 64 connections produce: afterwards every acknowledged record is there, once, in
//! the order of its connection.
//!
//! Half of the connections name their records (`Idempotency-Key`) and send the same request again
//! until it is acknowledged; the other half do not name them and never send one twice. Records of the
//! first kind may not be doubled by that, records of the second kind not by anybody.

use crate::support::{
    StopOnDrop, alone,
    gateway::{Gateway, Plan},
    http::{Http, request},
    readback::{Stored, stored},
    report,
    setup::{Backend, Setup},
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        what_was_acknowledged_survives_kill_9_once_and_in_order,
    ]
);

const CONNECTIONS: usize = 64;
const CYCLES: usize = 10;
/// Acknowledgements that must come before a kill: a cycle that stored nothing would prove nothing.
const LOAD: u64 = 1_000;

/// What came of one cycle.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    acknowledged: usize,
    stored: usize,
    lost: usize,
    duplicated: usize,
    misplaced: usize,
}

fn what_was_acknowledged_survives_kill_9_once_and_in_order(setup: Setup) {
    let _turn = alone();
    let config = "[limits]\nhold = \"1s\"\nack_timeout = \"7s\"";
    let mut gateway = Plan::new(setup).config(config).start();
    gateway.token();
    let mut total = Verdict::default();
    for cycle in 0..CYCLES {
        let verdict = one_cycle(&mut gateway, cycle);
        assert_eq!((verdict.lost, verdict.duplicated, verdict.misplaced), (0, 0, 0), "cycle {cycle}: {verdict:?}");
        total.acknowledged += verdict.acknowledged;
        total.stored += verdict.stored;
    }
    report(&format!(
        "{setup:?}: {CYCLES} cycles, {CONNECTIONS} connections: acknowledged {} stored {} lost {} duplicated {}",
        total.acknowledged, total.stored, total.lost, total.duplicated
    ));
    // What the first cycle stored has survived the nine kills after it as well.
    assert!(!stored(&gateway, "kill-0").is_empty());
}

fn one_cycle(gateway: &mut Gateway, cycle: usize) -> Verdict {
    let station = format!("kill-{cycle}");
    let load = Load { acknowledged: AtomicU64::new(0), stop: AtomicBool::new(false) };
    let (address, token) = (gateway.address(), gateway.token().to_owned());
    let acknowledged: Vec<Vec<u64>> = thread::scope(|scope| {
        let producers: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let producer = Producer { address, token: &token, station: &station, connection, load: &load };
                scope.spawn(move || producer.run())
            })
            .collect();
        // A failure here must not leave the producers running: the scope would wait for them for ever.
        let stop = StopOnDrop(&load.stop);
        load.wait_for(LOAD);
        // Not at the same point of the load each time.
        thread::sleep(Duration::from_millis(37 * cycle as u64 % 150));
        kill_and_restart(gateway);
        // The load goes on through the kill and after it: what is sent again then must not be doubled.
        load.wait_for(load.count() + LOAD / 2);
        drop(stop);
        producers.into_iter().map(|producer| producer.join().unwrap()).collect()
    });
    judge(&acknowledged, &stored(gateway, &station))
}

fn kill_and_restart(gateway: &mut Gateway) {
    if gateway.setup().backend == Backend::Local {
        gateway.kill9();
        gateway.restart();
    } else {
        gateway.nats_mut().kill9();
        gateway.nats_mut().restart();
        gateway.wait_ready();
    }
}

#[derive(Debug)]
struct Load {
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn wait_for(&self, count: u64) {
        let start = Instant::now();
        while self.count() < count {
            assert!(start.elapsed() < Duration::from_secs(60), "{} of {count} acknowledged", self.count());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// One connection's worth of load.
#[derive(Debug)]
struct Producer<'a> {
    address: SocketAddr,
    token: &'a str,
    station: &'a str,
    connection: usize,
    load: &'a Load,
}

impl Producer<'_> {
    /// Produces until told to stop, and returns the numbers that were acknowledged.
    fn run(&self) -> Vec<u64> {
        let named = self.connection.is_multiple_of(2);
        let mut http: Option<Http> = None;
        let mut acknowledged = Vec::new();
        let mut number = 0;
        while !self.load.stop.load(Ordering::Relaxed) {
            let Some(open) = http.as_mut() else {
                http = Http::try_connect(self.address).ok();
                if http.is_none() {
                    thread::sleep(Duration::from_millis(10));
                }
                continue;
            };
            match self.send(open, number, named) {
                Some(200) => {
                    acknowledged.push(number);
                    self.load.acknowledged.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
                answer => {
                    assert!(matches!(answer, None | Some(429 | 503)), "{answer:?}");
                    // No answer, or none that says what became of it.
                    http = answer.and(http.take());
                    number += u64::from(!named);
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        acknowledged
    }

    fn send(&self, http: &mut Http, number: u64, named: bool) -> Option<u16> {
        let bearer = format!("Bearer {}", self.token);
        let id = format!("{}-{}-{number}", self.station, self.connection);
        let mut headers = vec![("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
        if named {
            headers.push(("Idempotency-Key", id.as_str()));
        }
        let body = format!("{} {number}", self.connection);
        let target = format!("/stations/{}/produce/single", self.station);
        http.try_send(&request("POST", &target, &headers, body.as_bytes())).ok()?;
        http.try_response(true).ok().map(|response| response.status)
    }
}

/// Compares what was acknowledged, by connection, with what is stored, in stream order.
fn judge(acknowledged: &[Vec<u64>], stored: &[Stored]) -> Verdict {
    let mut by_connection: Vec<Vec<u64>> = vec![Vec::new(); acknowledged.len()];
    for record in stored {
        let (connection, number) = record.text().split_once(' ').unwrap();
        by_connection[connection.parse::<usize>().unwrap()].push(number.parse().unwrap());
    }
    let mut verdict = Verdict { stored: stored.len(), ..Verdict::default() };
    for (acknowledged, stored) in acknowledged.iter().zip(&by_connection) {
        let mut sorted = stored.clone();
        sorted.sort_unstable();
        verdict.acknowledged += acknowledged.len();
        verdict.lost += acknowledged.iter().filter(|number| sorted.binary_search(number).is_err()).count();
        verdict.duplicated += sorted.windows(2).filter(|pair| pair[0] == pair[1]).count();
        verdict.misplaced += stored.windows(2).filter(|pair| pair[0] > pair[1]).count();
    }
    verdict
}

#[test]
fn the_judge_sees_a_loss_a_double_and_a_swap() {
    let record = |text: &str| Stored { headers: std::collections::BTreeMap::new(), payload: text.as_bytes().to_vec() };
    let acknowledged = [vec![0, 1, 2], vec![0, 1]];
    let stored = ["0 0", "0 2", "1 1", "1 0", "1 0", "0 3"].map(record);
    let expect = Verdict { acknowledged: 5, stored: 6, lost: 1, duplicated: 1, misplaced: 1 };
    assert_eq!(judge(&acknowledged, &stored), expect);
}
