//! Makes the streams of a station.

use super::{
    PartitionStream,
    attributes::AttributeFields,
    info::{METADATA_PARTITIONS, METADATA_STATION, StreamInfo, stream_info},
    names::StreamName,
};
use crate::{
    config::Layout,
    control::nats::{
        client::{CallError, NatsClient, codes},
        publish_mode::Version,
    },
    limits::PARTITIONS_MAX,
    station::{Attributes, Name},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::collections::BTreeMap;

/// Calls in flight for one station.
const CALLS_AT_ONCE: usize = 16;

/// Makes all streams of a station, the first one last: a set that can be seen is whole.
pub(super) async fn make(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    attributes: &Attributes,
) -> Result<Vec<PartitionStream>, CallError> {
    if let Some(station) = name.dead_letters_of() {
        return letters(broker, layout, name, &station, attributes).await.map(|part| vec![part]);
    }
    let count = attributes.partitions.clamp(1, PARTITIONS_MAX);
    let make_one = |at| async move {
        let stream_name = StreamName::of(layout, name, at, count);
        let info = ensure_stream(broker, name, &stream_name, count, attributes).await?;
        Ok::<_, CallError>(PartitionStream { subject: stream_name.publish, info })
    };
    let mut made: Vec<PartitionStream> =
        stream::iter((2..=count).rev()).map(make_one).buffered(CALLS_AT_ONCE).try_collect().await?;
    made.push(make_one(1).await?);
    made.reverse();
    tracing::info!(station = %name, partitions = count, "created station");
    Ok(made)
}

/// Makes the stream of a station's dead letters, on the first subject that no other stream has.
async fn letters(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    station: &Name,
    attributes: &Attributes,
) -> Result<PartitionStream, CallError> {
    let mut result = Err(CallError::Unreadable("a station without a subject".into()));
    for stream_name in StreamName::of_letters(layout, station) {
        result = ensure_stream(broker, name, &stream_name, 1, attributes)
            .await
            .map(|info| PartitionStream { subject: stream_name.publish, info });
        if !matches!(result, Err(CallError::Refused(codes::SUBJECT_OVERLAP, _))) {
            break;
        }
    }
    if result.is_ok() {
        tracing::info!(%station, "created the station's dead letters");
    }
    result
}

/// Creates a stream, or takes the one that has the name if it captures the subject all the same.
pub(super) async fn ensure_stream(
    broker: &NatsClient,
    name: &Name,
    stream_name: &StreamName,
    count: u16,
    attributes: &Attributes,
) -> Result<StreamInfo, CallError> {
    match create_stream(broker, name, stream_name, count, attributes).await {
        Err(error) if error.is_taken() => match stream_info(broker, &stream_name.stream).await {
            Ok(info) if info.config.captures(&stream_name.publish) => Ok(info),
            _ => Err(error),
        },
        other => other,
    }
}

/// The request that creates a stream: only fields that every supported server knows, or that this one does.
#[derive(Debug, Serialize)]
struct NewStream<'a> {
    name: &'a str,
    description: String,
    subjects: [&'a str; 1],
    #[serde(flatten)]
    fields: AttributeFields,
    discard: &'static str,
    max_consumers: i64,
    max_msg_size: i64,
    /// Batches cost nothing where they are not used, and a stream that allows them can be published to in either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_atomic: Option<bool>,
    /// Reads by place are answered by any server that has the stream, and not by its leader's API.
    allow_direct: bool,
    metadata: BTreeMap<&'static str, String>,
}

async fn create_stream(
    broker: &NatsClient,
    name: &Name,
    stream_name: &StreamName,
    count: u16,
    attributes: &Attributes,
) -> Result<StreamInfo, CallError> {
    let body = NewStream {
        name: &stream_name.stream,
        description: match name.dead_letters_of() {
            Some(station) => format!("Dead letters of station {station}"),
            None => format!("Station {name}"),
        },
        subjects: [&stream_name.captures],
        fields: attributes.into(),
        discard: "old",
        max_consumers: -1,
        max_msg_size: -1,
        allow_atomic: broker.version().is_some_and(Version::knows_atomic).then_some(true),
        allow_direct: true,
        metadata: BTreeMap::from([
            (METADATA_STATION, name.as_str().to_owned()),
            (METADATA_PARTITIONS, count.to_string()),
        ]),
    };
    broker.call(&format!("STREAM.CREATE.{}", stream_name.stream), &body).await
}
