//! `/metrics`, `/healthz` and `/readyz`: what is counted is exactly what was done.

use crate::support::{
    PATIENCE, eventually,
    gateway::{Gateway, Plan},
    http::{self, Http, request},
    setup::{Backend, Setup},
};
use std::collections::{BTreeMap, BTreeSet};

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        counters_move_by_exactly_what_was_done,
        the_text_is_what_prometheus_reads,
        the_admin_port_serves_health_and_nothing_of_the_data_port,
    ]
);

const OK: &str = "{\"error\":null,\"success\":true}";

/// Samples by name and labels.
type Samples = BTreeMap<String, f64>;

fn samples(text: &str) -> Samples {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|error| panic!("{error}: {line}")))
        })
        .collect()
}

/// The sum over all label sets of a metric that hold every one of `labels`.
fn sum(samples: &Samples, name: &str, labels: &[&str]) -> f64 {
    let own = |key: &str| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    samples
        .iter()
        .filter(|(key, _)| own(key) && labels.iter().all(|label| key.contains(label)))
        .map(|(_, value)| value)
        .sum()
}

fn counters_move_by_exactly_what_was_done(setup: Setup) {
    let gateway = Gateway::start(setup);
    gateway.token();
    let before = samples(&gateway.metrics());
    let mut http = Http::connect(gateway.address());
    let single = "/stations/counted/produce/single";
    let batch = "/stations/counted/produce/batch";
    let (text, json) = (("Content-Type", "text/plain"), ("Content-Type", "application/json"));
    for _ in 0..3 {
        http.exchange(&gateway.authorized("POST", single, &[text], b"0123456789")).is_json(200, OK);
    }
    http.exchange(&gateway.authorized("POST", batch, &[json], b"[1,22,333]")).is_json(200, OK);
    http.exchange(&gateway.authorized("POST", batch, &[json], b"[1,")).is_error(400);
    http.exchange(&gateway.authorized("POST", single, &[("Content-Type", "image/png")], b"x")).is_error(415);
    http.exchange(&request("POST", single, &[text], b"x")).is(401, "{\"message\":\"Unauthorized\"}");
    let consume = b"{\"consumer_name\":\"c\",\"batch_size\":6,\"batch_max_wait_time_ms\":5000}";
    let messages = http.exchange(&gateway.authorized("POST", "/stations/counted/consume/batch", &[json], consume));
    assert_eq!(messages.json().as_array().map(Vec::len), Some(6));
    let after = samples(&gateway.metrics());
    let moved = |name: &str, labels: &[&str]| sum(&after, name, labels) - sum(&before, name, labels);
    for (name, labels, expect) in [
        ("sluicegate_records_in_total", &[][..], 6.0),
        ("sluicegate_record_bytes_in_total", &[], 36.0),
        ("sluicegate_records_out_total", &[], 6.0),
        ("sluicegate_acknowledgement_seconds_count", &[], 6.0),
        ("sluicegate_requests_total", &[], 8.0),
        ("sluicegate_requests_total", &["status=\"200\""], 5.0),
        ("sluicegate_requests_total", &["status=\"400\""], 1.0),
        ("sluicegate_requests_total", &["status=\"401\""], 1.0),
        ("sluicegate_requests_total", &["status=\"415\""], 1.0),
        ("sluicegate_connections_accepted_total", &[], 1.0),
        ("sluicegate_window_full_total", &[], 0.0),
        ("sluicegate_acknowledgements_unmatched_total", &[], 0.0),
        ("sluicegate_broker_reconnects_total", &[], 0.0),
    ] {
        assert!((moved(name, labels) - expect).abs() < 0.5, "{name}{labels:?}: {} not {expect}", moved(name, labels));
    }
    tokens_are_verified_once(&gateway, &before);
    let buckets = sum(&after, "sluicegate_acknowledgement_seconds_bucket", &["le=\"+Inf\""]);
    assert!((buckets - sum(&after, "sluicegate_acknowledgement_seconds_count", &[])).abs() < 0.5);
    // Gauges are copied every tenth of a second.
    eventually("nothing is in flight", PATIENCE, || {
        let now = samples(&gateway.metrics());
        let idle = ["sluicegate_window_messages", "sluicegate_window_bytes", "sluicegate_body_bytes_held"];
        idle.iter().all(|name| sum(&now, name, &[]).abs() < 0.5).then_some(())
    });
    assert!((sum(&after, "sluicegate_broker_links_up", &[]) - 2.0).abs() < 0.5, "both shards are up");
}

/// One connection is one shard: it verifies a token once. What caches count is copied now and then.
fn tokens_are_verified_once(gateway: &Gateway, before: &Samples) {
    let (misses, hits) = ("sluicegate_token_cache_misses_total", "sluicegate_token_cache_hits_total");
    eventually("the cache's counters move", PATIENCE, || {
        let now = samples(&gateway.metrics());
        let moved = |name: &str| sum(&now, name, &[]) - sum(before, name, &[]);
        assert!(moved(misses) < 1.5 && moved(hits) < 7.5, "{} verified, {} known", moved(misses), moved(hits));
        (moved(misses) + moved(hits) > 6.5).then_some(())
    });
}

fn the_text_is_what_prometheus_reads(setup: Setup) {
    let gateway = Plan::new(setup).shards(1).start();
    gateway.single("told", "text/plain", b"x").is_json(200, OK);
    let response = http::get(gateway.admin(), "/metrics");
    assert!(response.header("content-type").is_some_and(|value| value.starts_with("text/plain; version=0.0.4")));
    let text = response.text();
    let (mut helped, mut typed, mut seen) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(helped.insert(rest.split(' ').next().unwrap()), "helped twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(typed.insert(name, kind).is_none(), "typed twice: {line}");
        } else {
            let key = line.rsplit_once(' ').unwrap().0;
            assert!(seen.insert(key), "sampled twice: {line}");
            let name = key.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let kind = typed.get(name).or_else(|| typed.get(base));
            assert!(kind.is_some(), "a sample without a type: {line}");
            assert_eq!(kind == Some(&"counter"), name.ends_with("_total"), "{line}");
        }
    }
    assert!(text.ends_with('\n'));
    let local = setup.backend == Backend::Local;
    assert_eq!(sum(&samples(text), "sluicegate_store_commits_total", &[]) >= 1.0, local, "the embedded store commits");
}

fn the_admin_port_serves_health_and_nothing_of_the_data_port(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::get(gateway.admin(), path).status, 200, "{path}");
    }
    for path in ["/stations/a/produce/single", "/auth/authenticate"] {
        assert_eq!(http::once(gateway.admin(), "POST", path, &[("Connection", "close")], b"{}").status, 404, "{path}");
    }
    assert_ne!(http::get(gateway.address(), "/metrics").status, 200, "the data port tells nobody");
    if setup.backend == Backend::Nats {
        gateway.nats_mut().stop();
        eventually("not ready", PATIENCE, || (gateway.readiness() == Some(503)).then_some(()));
        assert_eq!(http::get(gateway.admin(), "/healthz").status, 200, "alive, and not ready");
        assert_eq!(http::get(gateway.address(), "/monitoring/status").status, 200);
    }
}
