//! How records are published to NATS: what the gateway learns of the broker, what it makes, what it says of it.

use crate::support::{
    broker::Broker,
    eventually,
    gateway::{Gateway, Plan},
    nats::{NatsServer, version_line},
    ports,
    setup::Setup,
};
use std::{net::SocketAddr, time::Duration};

on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
    the_sync_mode_is_learned_from_the_monitoring_and_shown,
    without_a_monitoring_address_nothing_is_claimed,
    streams_are_made_to_take_batches_where_the_broker_knows_them,
    streams_that_exist_stay_as_they_are,
]);

const OK: &str = "{\"error\":null,\"success\":true}";
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker that syncs so, and where its monitoring listens.
fn monitored(sync_interval: &str) -> (NatsServer, SocketAddr) {
    let http = ports::free();
    let server = NatsServer::with_raw_config(&format!(
        "http: \"{http}\"\njetstream {{\n  store_dir: \"DIR/js\"\n  sync_interval: {sync_interval}\n}}\n"
    ));
    (server, http)
}

/// Whether the broker under test knows atomic batches.
fn knows_batches() -> bool {
    let line = version_line();
    let minor = line.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    minor.unwrap_or_else(|| panic!("{line}")) >= 12
}

fn sync_always(gateway: &Gateway) -> Option<String> {
    let metrics = gateway.metrics();
    metrics.lines().find_map(|line| line.strip_prefix("sluicegate_broker_sync_always ").map(str::to_owned))
}

fn the_sync_mode_is_learned_from_the_monitoring_and_shown(setup: Setup) {
    for (sync, shown, said) in [("always", "1", "before it acknowledges"), ("\"30s\"", "0", "acknowledges before it")] {
        let (server, http) = monitored(sync);
        let config = format!("[nats]\nmonitor_url = \"http://{http}/\"");
        let gateway = Plan::new(setup).nats_url(&server.url()).config(&config).start();
        eventually("it is learned", PATIENCE, || (sync_always(&gateway).as_deref() == Some(shown)).then_some(()));
        let log = gateway.process().stderr();
        assert!(log.contains("durability") && log.contains(said), "{log}");
        gateway.batch("learned", "[1,2,3]").is_json(200, OK);
    }
}

fn without_a_monitoring_address_nothing_is_claimed(setup: Setup) {
    let (server, http) = monitored("always");
    let gateway = Plan::new(setup).nats_url(&server.url()).start();
    gateway.batch("quiet", "[1,2,3]").is_json(200, OK);
    assert_eq!(sync_always(&gateway), None);
    // An address where nobody answers is no obstacle either; it is said once.
    drop(server);
    let silent = Plan::new(setup).config(&format!("[nats]\nmonitor_url = \"http://{http}\"")).start();
    silent.batch("silent", "[1,2,3]").is_json(200, OK);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(sync_always(&silent), None);
    assert_eq!(silent.process().stderr().matches("monitoring cannot be read").count(), 1);
}

fn streams_are_made_to_take_batches_where_the_broker_knows_them(setup: Setup) {
    for (layout, stream) in [("plain", "made"), ("memphis", "made$1")] {
        let gateway = Plan::new(setup).config(&format!("[stations]\nlayout = \"{layout}\"")).start();
        gateway.batch("made", "[1,2,3]").is_json(200, OK);
        let mut broker = Broker::connect(gateway.nats());
        let config = &broker.stream(stream)["config"];
        assert_eq!(config["allow_atomic"].as_bool().unwrap_or(false), knows_batches(), "{config}");
    }
}

fn streams_that_exist_stay_as_they_are(setup: Setup) {
    let server = NatsServer::start();
    let mut broker = Broker::connect(&server);
    broker.create_stream("OLD", "old", &serde_json::json!({}));
    for mode in ["auto", "single", "atomic"] {
        let config = format!("[nats]\npublish_mode = \"{mode}\"");
        let gateway = Plan::new(setup).nats_url(&server.url()).config(&config).start();
        gateway.batch("old", "[1,2,3]").is_json(200, OK);
    }
    assert_eq!(broker.count("OLD"), 9);
    assert!(!broker.stream("OLD")["config"]["allow_atomic"].as_bool().unwrap_or(false));
}
