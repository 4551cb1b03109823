//! A publisher without a gateway, through the same proxies: what it feels is the broker's own outage.

use crate::{load::Load, support::broker::Broker};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

/// How long it waits for an acknowledgement before it tries another server.
const ANSWER: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

/// When each of its messages was acknowledged, since the start.
pub fn publish(load: &Load, subject: &str, servers: &[SocketAddr]) -> Vec<Duration> {
    let mut acknowledged = Vec::new();
    let (mut broker, mut next) = (None, 0);
    while !load.stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        if broker.is_none() {
            broker = Broker::try_connect(servers[next % servers.len()], "", ANSWER).ok();
            next += 1;
        }
        let answer = broker.as_mut().and_then(|broker| broker.try_request(subject, b"native").ok());
        let answer: Option<Value> = answer.and_then(|answer| serde_json::from_slice(&answer).ok());
        match answer {
            Some(answer) if answer.get("error").is_none() => acknowledged.push(load.start.elapsed()),
            // Nobody leads, or this server hears nothing: another one may know more.
            _ => {
                broker = None;
                thread::sleep(PAUSE.saturating_sub(begun.elapsed()));
            }
        }
        thread::sleep(PAUSE);
    }
    acknowledged
}
