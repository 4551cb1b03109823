//! Batches of many connections at once: each gets its own answers, also past what the broker can take, and through
//! `kill -9`.

use super::{OK, WAYS, Way, array, create_full_at, knows_batches, named_in, send_batch, stored};
use crate::support::{
    StopOnDrop, alone,
    broker::Broker,
    gateway::Gateway,
    http::{Http, Response},
    nats::NatsServer,
    setup::Setup,
};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
    batches_of_many_connections_do_not_mix_up_their_answers,
    a_broker_that_cannot_keep_up_is_never_taken_for_one_that_stored,
    acknowledged_batches_survive_kill_9_once_and_in_order,
]);

const CONNECTIONS: u32 = 32;
const BATCHES: u32 = 8;

/// Records of the batch that begins at `first`, a multiple of 100: from 1 to 60.
fn length(first: u32) -> u32 {
    1 + first / 100 * 13 % 60
}

fn batches_of_many_connections_do_not_mix_up_their_answers(setup: Setup) {
    for way in WAYS {
        let server = way.server(setup);
        // It fills up under the load, and the window is too small for it: every kind of answer occurs.
        create_full_at(&server, "load", 5_000);
        let gateway = way.gateway(setup, &server.url(), "window_messages_max = 1500");
        gateway.token();
        let answers: Vec<(u32, Response)> = thread::scope(|scope| {
            let producers: Vec<_> = (0..CONNECTIONS)
                .map(|connection| {
                    let gateway = &gateway;
                    let firsts = (connection * BATCHES..(connection + 1) * BATCHES).map(|batch| batch * 100);
                    scope.spawn(move || firsts.map(|first| (first, produce(gateway, first))).collect::<Vec<_>>())
                })
                .collect();
            producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
        });
        let stored: Vec<u32> = stored(&server, "load").iter().map(|text| text.parse().unwrap()).collect();
        for (first, response) in answers {
            let found: Vec<u32> = stored.iter().copied().filter(|number| number / 100 == first / 100).collect();
            let refused: BTreeSet<u32> = match response.status {
                200 => BTreeSet::new(),
                503 if response.json()["errors"].is_array() => {
                    named_in(&response).into_iter().map(|(number, _)| number).collect()
                }
                _ => {
                    assert!(response.is_retryable(503).contains("the station is full"), "{way:?} {}", response.text());
                    (0..length(first)).collect()
                }
            };
            let expect = (0..length(first)).filter(|number| !refused.contains(number)).map(|number| first + number);
            assert_eq!(found, expect.collect::<Vec<_>>(), "{way:?} {}", response.text());
        }
    }
}

/// Every other batch has ids.
fn produce(gateway: &Gateway, first: u32) -> Response {
    let key = format!("key{first}");
    let more: &[(&str, &str)] = if first.is_multiple_of(200) { &[("Idempotency-Key", &key)] } else { &[] };
    send_batch(gateway, "load", more, &array(first..first + length(first))).response()
}

fn a_broker_that_cannot_keep_up_is_never_taken_for_one_that_stored(setup: Setup) {
    for way in WAYS {
        // What comes while twenty records wait to be stored is refused at once, before those are answered. (Brokers
        // before 2.12 may not know the setting.)
        let queue = if knows_batches() { "max_buffered_msgs: 20" } else { "" };
        let server = NatsServer::with_raw_config(&format!(
            "jetstream {{\n  store_dir: \"@DIR@/js\"\n  sync_interval: {}\n  {queue}\n}}\n",
            way.sync
        ));
        let gateway = way.gateway(setup, &server.url(), "ack_timeout = \"7s\"\nhold = \"3s\"");
        gateway.batch("busy", "[0]").is_json(200, OK);
        for first in [1_000, 2_000, 3_000] {
            let response = gateway.batch("busy", &array(first..first + 1_000));
            let thousand = |text: &&String| text.parse::<u32>().unwrap() / 1_000 == first / 1_000;
            let count = stored(&server, "busy").iter().filter(thousand).count();
            match response.status {
                200 => assert_eq!(count, 1_000, "{way:?}"),
                429 => assert_eq!(count, 0, "{way:?}"),
                _ => drop(response.is_retryable(503)),
            }
        }
        // One after the other they fit.
        for number in 0..30 {
            gateway.batch("rest", &format!("[{number}]")).is_json(200, OK);
        }
    }
}

/// What the producers of one run share.
#[derive(Debug, Default)]
struct Run {
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Run {
    fn wait_for_more(&self, batches: u64) {
        let (start, count) = (Instant::now(), self.acknowledged.load(Ordering::Relaxed) + batches);
        while self.acknowledged.load(Ordering::Relaxed) < count {
            assert!(start.elapsed() < Duration::from_secs(60), "no load");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends batches of 60 until told to stop; returns the first numbers of those that were acknowledged. One with
    /// ids is sent until it is; one without is sent once.
    fn produce(&self, gateway: &Gateway, connection: u32) -> Vec<u32> {
        let named = connection.is_multiple_of(2);
        let (mut acknowledged, mut batch) = (Vec::new(), 0);
        while !self.stop.load(Ordering::Relaxed) {
            let first = connection * 1_000_000 + batch * 100;
            let key = format!("key{first}");
            let headers = [("Content-Type", "application/json"), ("Idempotency-Key", &key)];
            let headers = if named { &headers[..] } else { &headers[..1] };
            let body = array(first..first + 60);
            let request = gateway.authorized("POST", "/stations/kill/produce/batch", headers, body.as_bytes());
            let response = Http::connect(gateway.address()).exchange(&request);
            if response.status == 200 {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                acknowledged.push(first);
            } else {
                assert!(matches!(response.status, 429 | 503), "{}", response.text());
                thread::sleep(Duration::from_millis(10));
            }
            batch += u32::from(response.status == 200 || !named);
        }
        acknowledged
    }
}

/// Ends the run also when the test fails: the scope would wait for the producers for ever.
fn acknowledged_batches_survive_kill_9_once_and_in_order(setup: Setup) {
    let _turn = alone();
    for way in WAYS {
        let mut server = way.server(setup);
        let gateway = way.gateway(setup, &server.url(), "ack_timeout = \"7s\"\nhold = \"1s\"");
        gateway.token();
        let run = Run::default();
        let acknowledged: Vec<u32> = thread::scope(|scope| {
            let (run, gateway) = (&run, &gateway);
            let producers: Vec<_> =
                (0..16).map(|connection| scope.spawn(move || run.produce(gateway, connection))).collect();
            let stop = StopOnDrop(&run.stop);
            for pause in [0, 7, 23] {
                run.wait_for_more(40);
                thread::sleep(Duration::from_millis(pause));
                server.kill9();
                server.restart();
            }
            run.wait_for_more(40);
            drop(stop);
            producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
        });
        judge(way, &acknowledged, &server);
    }
}

/// Fails unless everything that was acknowledged is stored, nothing twice, and each connection's in its order.
fn judge(way: Way, acknowledged: &[u32], server: &NatsServer) {
    let stored: Vec<u32> = stored(server, "kill").iter().map(|text| text.parse().unwrap()).collect();
    let found: BTreeSet<u32> = stored.iter().copied().collect();
    let lost = acknowledged.iter().flat_map(|first| *first..first + 60).find(|number| !found.contains(number));
    assert_eq!(lost, None, "{way:?} lost");
    for connection in 0..16 {
        let of_it: Vec<u32> = stored.iter().copied().filter(|number| number / 1_000_000 == connection).collect();
        let wrong = of_it.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(wrong, None, "{way:?} twice or out of place");
    }
    // The mode was really used.
    let batched = super::batch_ids(&Broker::connect(server).messages("kill")).len();
    assert_eq!(batched > 0, way.is_atomic(), "{way:?}");
}
