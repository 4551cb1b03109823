//! A gateway at a cluster of three nats-servers: what it makes has three copies, and what servers and the network
//! between them do to it.

use crate::support::{
    PATIENCE,
    broker::Broker,
    cluster::{Cluster, SERVERS},
    eventually,
    gateway::Plan,
    proxy::Way,
    readback::texts,
    setup::Setup,
};
use serde_json::{Value, json};
use std::time::Duration;

const OK: &str = "{\"error\":null,\"success\":true}";

#[test]
fn what_is_made_has_three_copies() {
    let gateway = Setup::CLUSTER.shared();
    gateway.single("copied", "text/plain", b"x").is_json(200, OK);
    gateway.consume("copied", r#"{"consumer_name":"c","batch_max_wait_time_ms":1000}"#);
    let mut broker = Broker::connect(gateway.nats());
    for stream in ["copied", "KV_sluicegate"] {
        assert_eq!(broker.stream(stream)["config"]["num_replicas"], SERVERS, "{stream}");
    }
    let consumers = broker.api("CONSUMER.LIST.copied", &Value::Null)["consumers"].clone();
    assert_eq!(consumers[0]["cluster"]["replicas"].as_array().map(Vec::len), Some(SERVERS - 1), "{consumers}");
    assert_eq!(texts(gateway, "copied"), ["x"]);
}

/// A consumer of three copies says that a request is over before it sends what it has counted. Taken for "nothing is
/// there", the messages were asked for twice and given back, and came again in another order.
#[test]
fn c17_the_end_of_a_pull_does_not_overtake_its_messages() {
    let gateway = Setup::CLUSTER.shared();
    gateway.batch("overtaken", "[0,1,2,3,4,5,6,7,8,9,10,11]").is_json(200, OK);
    let mut broker = Broker::connect(gateway.nats());
    for group in ["a", "b", "c", "d"] {
        let body = format!(r#"{{"consumer_name":"c","consumer_group":"{group}","batch_max_wait_time_ms":5000}}"#);
        let read = || {
            let messages = gateway.consume("overtaken", &body).json();
            messages
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["message"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(read(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "{group}");
        assert_eq!(read(), ["10", "11"], "{group}");
    }
    let consumers = broker.api("CONSUMER.LIST.overtaken", &Value::Null)["consumers"].clone();
    for consumer in consumers.as_array().unwrap() {
        assert_eq!(consumer["delivered"]["consumer_seq"], 12, "each was handed out once: {consumer}");
    }
}

#[test]
fn a_gateway_goes_on_behind_slow_links_and_without_a_server() {
    let mut cluster = Cluster::start_behind_proxies();
    let gateway = Plan::new(Setup::CLUSTER).nats_url(&cluster.url()).start();
    // What was refused for the moment may be stored all the same: sent again, it may be there twice.
    let store = |record: &[u8]| {
        eventually("a record is acknowledged", 4 * PATIENCE, || {
            (gateway.single("s", "text/plain", record).status == 200).then_some(())
        });
    };
    store(b"1");
    for link in cluster.links() {
        link.delay(Duration::from_millis(20));
    }
    store(b"2");
    for link in cluster.links() {
        link.heal();
    }
    let meta = eventually("JetStream has a leader", PATIENCE, || cluster.meta_leader());
    cluster.kill9(meta);
    cluster.client_link(meta).cut(true);
    store(b"3");
    cluster.client_link(meta).cut(false);
    cluster.restart(meta);
    cluster.wait_for_all();
    let other = (meta + 1) % SERVERS;
    cluster.route_link(meta, other).cut(false);
    cluster.wait_for_copies("s");
    let mut stored: Vec<_> = cluster.broker().messages("s").into_iter().map(|message| message.payload).collect();
    stored.dedup();
    assert_eq!(stored, [b"1", b"2", b"3"]);
}

/// What the tests of clusters stand on.
#[test]
fn a_cluster_loses_one_server_in_any_way_and_goes_on() {
    let mut cluster = Cluster::start_behind_proxies();
    cluster.create_stream("S", "s", &json!({}));
    cluster.wait_for_copies("S");
    cluster.make_leader("S", 1);
    assert!(cluster.meta_step_down());
    cluster.wait_for_all();
    let faults: [fn(&mut Cluster, usize); 5] =
        [Cluster::kill9, Cluster::stop, Cluster::freeze, |cluster, index| cluster.lame_duck(index), cut_off];
    for (number, fault) in faults.into_iter().enumerate() {
        let leader = cluster.wait_for_leader("S");
        fault(&mut cluster, leader);
        eventually("another server leads", 3 * PATIENCE, || {
            let other = (leader + 1) % SERVERS;
            (led_as_seen_by(&cluster, other)? != leader).then_some(())
        });
        if number == 3 {
            cluster.wait_for_its_end(leader);
        }
        for link in cluster.route_links_of(leader) {
            link.heal();
        }
        cluster.thaw(leader);
        if !cluster.server(leader).runs() {
            cluster.restart(leader);
        }
        cluster.wait_for_all();
        cluster.wait_for_copies("S");
    }
}

/// Nothing passes between this server and the others.
fn cut_off(cluster: &mut Cluster, index: usize) {
    for link in cluster.route_links_of(index) {
        link.silence(&[Way::Up, Way::Down]);
    }
}

fn led_as_seen_by(cluster: &Cluster, index: usize) -> Option<usize> {
    let mut broker = Broker::try_connect(cluster.server(index).address(), "", Duration::from_secs(2)).ok()?;
    let info: Value = serde_json::from_slice(&broker.try_request("$JS.API.STREAM.INFO.S", b"").ok()?).ok()?;
    cluster.index_of(info["cluster"]["leader"].as_str()?)
}
