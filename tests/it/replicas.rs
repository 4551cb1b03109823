//! Two gateways on one broker: what is changed on one holds on the other within a second, under load, and also if the
//! other could not hear of it meanwhile.

use crate::support::{
    PATIENCE, StopOnDrop,
    admin::{add_schema, api, done},
    cluster::Cluster,
    eventually,
    gateway::{Gateway, Plan},
    http::{Http, Response, request},
    nats::NatsServer,
    proxy::Proxy,
    setup::Setup,
    unloaded,
};
use serde_json::json;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

// What is promised in seconds takes seconds: each once, and on the newest server alone.
on_setups!(
    broker_io_uring NATS_IO_URING => [
        a_change_holds_on_the_other_within_a_second_under_load,
        no_record_is_held_against_an_old_version_while_the_watch_is_away,
    ]
);
on_setups!(
    cluster_epoll NATS_EPOLL => [c4_c5_a_gateway_at_a_server_that_has_lost_its_cluster_hears_of_a_revoked_key]
);
on_setups!(broker_epoll NATS_EPOLL => [a_change_that_was_missed_holds_within_a_second_of_coming_back]);

/// The promise.
const SECOND: Duration = Duration::from_secs(1);
const VERSION: &str = r#"{"type":"object","required":["v"],"properties":{"v":{"const":1}}}"#;

/// One NATS, a gateway at it, and another that hears it through a proxy.
#[derive(Debug)]
struct Pair {
    here: Gateway,
    there: Gateway,
    proxy: Proxy,
    _nats: NatsServer,
}

impl Pair {
    fn start(setup: Setup) -> Self {
        let nats = NatsServer::start();
        let proxy = Proxy::start(nats.address());
        let here = Plan::new(setup).nats_url(&nats.url()).start();
        let there = Plan::new(setup).nats_url(&proxy.url()).start();
        add_schema(&here, "versions", "json", VERSION, &[]);
        add_schema(&here, "versions", "json", &VERSION.replace('1', "2"), &[]);
        done(&here, &["station", "create", "watched"], "");
        done(&here, &["station", "attach", "watched", "--schema", "versions"], "");
        Self { here, there, proxy, _nats: nats }
    }

    fn activate(&self, version: u32) {
        done(&self.here, &["schema", "activate", "versions", &version.to_string()], "");
    }
}

/// A request's fate: when it was sent, which record, and what came of it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    sent: Instant,
    version: u32,
    status: u16,
}

/// Requests to a gateway, one after the other on a few connections, of records that only version 1 or only version 2 takes.
fn load<T>(gateway: &Gateway, during: impl FnOnce(&Mutex<Vec<Seen>>) -> T) -> (T, Vec<Seen>) {
    let (seen, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| one_connection(gateway, &seen, &stop));
        }
        let stopper = StopOnDrop(&stop);
        let result = during(&seen);
        drop(stopper);
        result
    });
    (result, seen.into_inner().unwrap())
}

fn one_connection(gateway: &Gateway, seen: &Mutex<Vec<Seen>>, stop: &AtomicBool) {
    let mut http = Http::connect(gateway.address());
    let path = "/stations/watched/produce/single";
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let version = 1 + turn % 2;
        let body = format!("{{\"v\":{version}}}");
        let headers = [("Content-Type", "application/json")];
        let sent = Instant::now();
        let response = http.exchange(&gateway.authorized("POST", path, &headers, body.as_bytes()));
        seen.lock().unwrap().push(Seen { sent, version, status: response.status });
        thread::sleep(Duration::from_millis(1));
    }
}

/// Fails if a request that was sent at or after `from` (and before `until`) was judged by another version.
#[track_caller]
fn judged_by(seen: &[Seen], version: u32, from: Instant, until: Instant) -> usize {
    let of_then: Vec<&Seen> = seen.iter().filter(|one| one.sent >= from && one.sent < until).collect();
    for one in &of_then {
        let right = if one.version == version { 200 } else { 400 };
        assert!(
            one.status == right || one.status == 503,
            "{:?} after {version} had to hold, {one:?}",
            one.sent.saturating_duration_since(from)
        );
    }
    of_then.iter().filter(|one| one.status != 503).count()
}

fn a_change_holds_on_the_other_within_a_second_under_load(setup: Setup) {
    let _turn = unloaded();
    let pair = Pair::start(setup);
    let key = done(&pair.here, &["key", "create", "--produce", "keyed"], "").trim().to_owned();
    let id = key.split('_').nth(1).unwrap();
    let by_key = || by_key(&pair.there, &key);
    eventually("the key is known there", PATIENCE, || (by_key() == 200).then_some(()));
    add_user(&pair);
    let user = eventually("the user is known there", PATIENCE, || login(&pair.there));
    eventually("the right holds there", PATIENCE, || (as_user(&pair.there, &user) == 200).then_some(()));
    let (marks, seen) = load(&pair.there, |_| {
        let mut marks = Vec::new();
        for version in [2, 1, 2, 1] {
            pair.activate(version);
            marks.push((version, Instant::now()));
            thread::sleep(2 * SECOND);
        }
        done(&pair.here, &["key", "revoke", id], "");
        thread::sleep(SECOND);
        assert_eq!(by_key(), 401, "revoked a second ago");
        let rights = json!({"produce": ["nothing.of.this"]});
        assert_eq!(api(&pair.here, "PATCH", "/users/clerk", Some(&rights)).status, 200);
        thread::sleep(SECOND);
        assert_eq!(as_user(&pair.there, &user), 403, "forbidden a second ago");
        done(&pair.here, &["station", "detach", "watched"], "");
        thread::sleep(SECOND);
        let detached = Instant::now();
        thread::sleep(SECOND);
        (marks, detached)
    });
    let (marks, detached) = marks;
    for (index, (version, changed)) in marks.iter().enumerate() {
        let until =
            marks.get(index + 1).map_or(*changed + 2 * SECOND, |(_, next)| next.checked_sub(SECOND / 4).unwrap());
        let judged = judged_by(&seen, *version, *changed + SECOND, until);
        assert!(judged > 20, "{judged} requests were judged by version {version}");
    }
    let after: Vec<&Seen> = seen.iter().filter(|one| one.sent > detached).collect();
    assert!(after.len() > 20 && after.iter().all(|one| one.status == 200), "detached: {after:?}");
}

fn add_user(pair: &Pair) {
    done(&pair.here, &["user", "add", "clerk", "--password-stdin", "--produce", "keyed"], "Correct-Horse-9!\n");
}

fn login(gateway: &Gateway) -> Option<String> {
    let response = gateway.authenticate(r#"{"username":"clerk","password":"Correct-Horse-9!"}"#);
    (response.status == 200).then(|| response.json()["jwt"].as_str().unwrap().to_owned())
}

fn as_user(gateway: &Gateway, jwt: &str) -> u16 {
    call(gateway, &format!("Bearer {jwt}")).status
}

fn by_key(gateway: &Gateway, key: &str) -> u16 {
    call(gateway, &format!("Bearer {key}")).status
}

fn call(gateway: &Gateway, authorization: &str) -> Response {
    let headers = [("Authorization", authorization), ("Content-Type", "application/json")];
    Http::connect(gateway.address()).exchange(&request("POST", "/stations/keyed/produce/single", &headers, b"1"))
}

fn a_change_that_was_missed_holds_within_a_second_of_coming_back(setup: Setup) {
    let _turn = unloaded();
    let pair = Pair::start(setup);
    let key = done(&pair.here, &["key", "create", "--produce", "keyed"], "").trim().to_owned();
    eventually("the key is known there", PATIENCE, || (by_key(&pair.there, &key) == 200).then_some(()));
    let (back, seen) = load(&pair.there, |_| {
        pair.proxy.cut(true);
        thread::sleep(Duration::from_secs(5));
        pair.activate(2);
        done(&pair.here, &["key", "revoke", key.split('_').nth(1).unwrap()], "");
        thread::sleep(Duration::from_secs(5));
        pair.proxy.cut(false);
        let back = Instant::now();
        thread::sleep(SECOND);
        assert_eq!(by_key(&pair.there, &key), 401, "back since a second");
        thread::sleep(2 * SECOND);
        back
    });
    let judged = judged_by(&seen, 2, back + SECOND, back + 3 * SECOND);
    assert!(judged > 20, "{judged} requests were judged");
}

fn no_record_is_held_against_an_old_version_while_the_watch_is_away(setup: Setup) {
    let _turn = unloaded();
    let pair = Pair::start(setup);
    let ((changed, back), seen) = load(&pair.there, |seen| {
        eventually("records are stored there", PATIENCE, || {
            seen.lock().unwrap().iter().any(|one| one.status == 200).then_some(())
        });
        // The data path of the other keeps its connections; only its control plane hears nothing.
        pair.proxy.cut_off("sluicegate-control");
        thread::sleep(Duration::from_millis(300));
        pair.activate(2);
        let changed = Instant::now();
        thread::sleep(Duration::from_secs(10));
        pair.proxy.let_back();
        let back = Instant::now();
        thread::sleep(3 * SECOND);
        (changed, back)
    });
    judged_by(&seen, 2, changed + SECOND, back);
    let judged = judged_by(&seen, 2, back + SECOND, back + 3 * SECOND);
    assert!(judged > 20, "{judged} requests were judged after the watch was back");
}

/// Server 0 is cut off from the others and goes on answering its clients. The first gateway is told of it first, the other of the rest.
fn c4_c5_a_gateway_at_a_server_that_has_lost_its_cluster_hears_of_a_revoked_key(setup: Setup) {
    let _turn = unloaded();
    let cluster = Cluster::start_behind_proxies();
    let addresses = cluster.addresses();
    let url = |order: [usize; 2]| order.map(|index| format!("nats://{}", addresses[index])).join(",");
    let config = "[stations]\nreplicas = 3";
    let there = Plan::new(setup).nats_url(&url([0, 1])).config(config).start();
    let here = Plan::new(setup).nats_url(&url([2, 1])).config(config).start();
    let key = done(&here, &["key", "create", "--produce", "keyed"], "").trim().to_owned();
    eventually("the key is known there", PATIENCE, || (by_key(&there, &key) != 401).then_some(()));
    for link in cluster.route_links_of(0) {
        link.cut(true);
    }
    // The others elect a leader of what was led at the one that is gone.
    eventually("the key is revoked", 3 * PATIENCE, || {
        let path = format!("/keys/{}", key.split('_').nth(1).unwrap());
        matches!(api(&here, "DELETE", &path, None).status, 204 | 404).then_some(())
    });
    let begun = Instant::now();
    while by_key(&there, &key) != 401 {
        let log = there.process().stderr();
        assert!(begun.elapsed() < 2 * PATIENCE, "a key that was revoked goes on working there:\n{log}");
    }
    let log = there.process().stderr();
    assert!(log.contains("this server is left for the next"), "{log}");
}
