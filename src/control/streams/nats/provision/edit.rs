//! Changes the configuration of a stream that exists: it keeps everything of it that is not to change, whatever that
//! is.

use crate::control::nats::client::{CallError, NatsClient};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};

/// Reads a stream's configuration, and writes it back if `change` makes another of it. Returns whether it did.
pub(in crate::control) async fn edit<E>(
    broker: &NatsClient,
    stream: &str,
    change: impl FnOnce(&mut Map<String, Value>) -> Result<(), E>,
    refused: impl Fn(CallError) -> E,
) -> Result<bool, E> {
    #[derive(Deserialize)]
    struct Info {
        config: Map<String, Value>,
    }
    let Info { config } = broker.call(&format!("STREAM.INFO.{stream}"), &json!({})).await.map_err(&refused)?;
    let mut changed = config.clone();
    change(&mut changed)?;
    if changed == config {
        return Ok(false);
    }
    let _: IgnoredAny = broker.call(&format!("STREAM.UPDATE.{stream}"), &changed).await.map_err(&refused)?;
    Ok(true)
}
