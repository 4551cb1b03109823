//! What is stored, and what consumers were handed.

use crate::{
    load::{self, Load},
    support::{
        cluster::Cluster,
        http::{Http, request},
    },
    verdict::Key,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// What was handed to somebody who is gone comes again after half a minute, and may then be in another's way.
const CONSUMED: Duration = Duration::from_secs(180);

/// Every stream of the stations, and the names of its records in its order.
pub fn stored(cluster: &Cluster) -> BTreeMap<String, Vec<Key>> {
    let mut broker = cluster.broker();
    let streams = broker.api("STREAM.NAMES", &Value::Null)["streams"].clone();
    let names = streams.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    let mut stored = BTreeMap::new();
    for name in names.filter(|name| !name.starts_with("KV_")) {
        let mut keys = Vec::new();
        broker.each_message(&name, |message| keys.extend(load::key(&message.payload)));
        stored.insert(name, keys);
    }
    stored
}

/// Waits until consumers have been handed everything, or as long as that may take.
pub fn wait_until_consumed(cluster: &Cluster, streams: &[String]) {
    let start = Instant::now();
    let left = |stream: &String| -> Option<u64> {
        let answer = cluster.ask("", &format!("$JS.API.CONSUMER.LIST.{stream}"), &Value::Null)?;
        let consumers =
            answer["consumers"].as_array()?.iter().filter(|consumer| consumer["config"]["ack_policy"] != "none");
        consumers.map(|consumer| Some(consumer["num_pending"].as_u64()? + consumer["num_ack_pending"].as_u64()?)).sum()
    };
    while start.elapsed() < CONSUMED && streams.iter().any(|stream| left(stream) != Some(0)) {
        thread::sleep(Duration::from_millis(500));
    }
}

/// Consumes a station until told to stop; what came in whole answers.
pub fn consume(load: &Load, station: &str, stop: &AtomicBool) -> HashSet<Key> {
    let mut got = HashSet::new();
    let (mut gateway, mut http) = (0, None);
    while !stop.load(Ordering::Relaxed) {
        if let Some(messages) = one_call(load, load.gateways[gateway], station, &mut http) {
            got.extend(messages);
        } else {
            http = None;
            gateway = (gateway + 1) % load.gateways.len();
            thread::sleep(Duration::from_millis(200));
        }
    }
    got
}

fn one_call(load: &Load, address: SocketAddr, station: &str, http: &mut Option<Http>) -> Option<Vec<Key>> {
    if http.is_none() {
        *http = Http::try_connect(address).ok();
    }
    let ask = json!({"consumer_name": "c", "consumer_group": "g", "batch_size": 500, "batch_max_wait_time_ms": 1_000});
    let bearer = format!("Bearer {}", load.token);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let path = format!("/stations/{station}/consume/batch");
    let http = http.as_mut()?;
    http.try_send(&request("POST", &path, &headers, ask.to_string().as_bytes())).ok()?;
    let answer = http.try_response(true).ok()?;
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    let messages = json.as_array().filter(|_| answer.status == 200)?;
    Some(messages.iter().filter_map(|one| load::key(one["message"].as_str()?.as_bytes())).collect())
}
