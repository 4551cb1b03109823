//! What a station holds, whichever backend keeps it: from the broker itself, or, for the embedded
//! store, through a consumer group of its own.

use super::{broker::Broker, gateway::Gateway, setup::Backend, unique};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Header fields; on NATS the message id is taken out, for the embedded store keeps it apart.
    pub headers: BTreeMap<String, String>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Stored {
    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

/// The JetStream stream of a station with one partition.
pub fn stream_of(station: &str) -> String {
    station.to_ascii_lowercase().replace('.', "#")
}

/// All records of a station with one partition, in stream order.
pub fn stored(gateway: &Gateway, station: &str) -> Vec<Stored> {
    match gateway.setup().backend {
        Backend::Nats => Broker::connect(gateway.nats())
            .messages(&stream_of(station))
            .into_iter()
            .map(|raw| {
                let mut headers: BTreeMap<String, String> = raw.fields().into_iter().collect();
                headers.remove("Nats-Msg-Id");
                Stored { headers, payload: raw.payload }
            })
            .collect(),
        Backend::Local => drain(gateway, station, &unique("readback")),
    }
}

/// The payloads of a station as text, in stream order.
pub fn texts(gateway: &Gateway, station: &str) -> Vec<String> {
    stored(gateway, station).iter().map(|record| record.text().to_owned()).collect()
}

/// Everything that a consumer group has still to get.
pub fn drain(gateway: &Gateway, station: &str, group: &str) -> Vec<Stored> {
    let body = json!({
        "consumer_name": group, "consumer_group": group, "batch_size": 5_000, "batch_max_wait_time_ms": 300
    });
    let mut records = Vec::new();
    loop {
        let response = gateway.consume(station, &body.to_string());
        assert_eq!(response.status, 200, "{}", response.text());
        let messages = response.json();
        let messages = messages.as_array().unwrap();
        if messages.is_empty() {
            return records;
        }
        records.extend(messages.iter().map(message));
    }
}

/// One element of a consume answer.
pub fn message(value: &Value) -> Stored {
    let text = value["message"].as_str().unwrap();
    let payload = match value.get("encoding").and_then(Value::as_str) {
        None => text.as_bytes().to_vec(),
        Some("base64") => STANDARD.decode(text).unwrap(),
        Some(other) => panic!("encoding {other}"),
    };
    let field = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
    Stored { headers: value["headers"].as_object().unwrap().iter().map(field).collect(), payload }
}
