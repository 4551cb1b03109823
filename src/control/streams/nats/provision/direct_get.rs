//! Has streams allow reads by place that were made before the gateway asked for it.

use super::edit;
use crate::{
    control::nats::client::{CallError, NatsClient},
    station::{DirectGet, Partition},
};
use serde_json::{Map, Value};

/// What a stream's configuration calls it.
const ALLOW_DIRECT: &str = "allow_direct";

/// Changes the streams of a station, all of which were made for it. Returns how they can be read then: what the broker
/// does not allow now is asked for again when the station is looked up the next time.
pub(in crate::control) async fn allow_direct_get(broker: &NatsClient, partitions: &[Partition]) -> DirectGet {
    for partition in partitions {
        if let Err(error) = allow(broker, &partition.stream).await {
            tracing::warn!(stream = %partition.stream, ?error, "the stream cannot be made to allow direct reads: its leader is asked for each record");
            return DirectGet::Denied;
        }
    }
    DirectGet::Allowed
}

/// Changes one stream.
async fn allow(broker: &NatsClient, stream: &str) -> Result<(), CallError> {
    let set = |config: &mut Map<String, Value>| {
        config.insert(ALLOW_DIRECT.to_owned(), true.into());
        Ok(())
    };
    if edit(broker, stream, set, CallError::from).await? {
        tracing::info!(stream, "the stream allows direct reads from now on");
    }
    Ok(())
}
