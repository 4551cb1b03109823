//! Finds the streams of a station.

use super::{
    PartitionStream,
    info::{StreamInfo, stream_info},
    make,
    names::StreamName,
};
use crate::{
    config::Layout,
    control::{
        nats::client::{CallError, NatsClient, codes},
        streams::Adopted,
    },
    limits::PARTITIONS_MAX,
    reject::Reject,
    station::{Attributes, Name},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

/// Calls in flight for one request.
const CALLS_AT_ONCE: usize = 16;

/// Returns the streams of a station, if it exists. A set that has lost a part, or never had it, is completed if it may
/// be.
pub(super) async fn find(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    complete: bool,
) -> Result<Option<Vec<PartitionStream>>, Reject> {
    if let Some(station) = name.dead_letters_of() {
        return letters(broker, layout, &station).await.map(|part| part.map(|part| vec![part]));
    }
    let whole = StreamName::whole(layout, name);
    if let Some(stream) = capturing(broker, &whole).await? {
        let info = stream_info(broker, &stream).await?;
        return Ok(Some(vec![PartitionStream { subject: whole, info }]));
    }
    let first = StreamName::of(layout, name, 1, 2);
    let first_info = match stream_info(broker, &first.stream).await {
        Ok(info) => info,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let count = match first_info.config.partitions() {
        Some(count) => count,
        None => count_streams(broker, layout, name).await?,
    };
    let attributes = first_info.config.attributes(count);
    let like_it = complete.then_some(&attributes);
    let parts = stream::iter(1..=count)
        .map(|at| {
            let first_info = (at == 1).then(|| first_info.clone());
            partition(broker, layout, name, (at, count), first_info, like_it)
        })
        .buffered(CALLS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(Some(parts))
}

/// Describes a set of partitions that has lost its first one, as the second says.
pub(super) async fn survivor(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
) -> Result<Option<Attributes>, CallError> {
    let info = match stream_info(broker, &StreamName::of(layout, name, 2, 2).stream).await {
        Ok(info) => info,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let of_it = info.config.station() == Some(name.as_str());
    Ok(info.config.partitions().filter(|count| of_it && *count > 1).map(|count| info.config.attributes(count)))
}

/// Returns the stream that a station was made of. If that stream has changed, it is an error, and never another stream.
pub(super) async fn adopted(
    broker: &NatsClient,
    name: &Name,
    adopted: &Adopted,
) -> Result<Vec<PartitionStream>, Reject> {
    let Adopted { stream, subject } = adopted;
    let info = match stream_info(broker, stream).await {
        Ok(info) => info,
        Err(error) if error.is_absent() => {
            let text =
                format!("the station {name:?} is the stream {stream:?}, which does not exist", name = name.as_str());
            return Err(Reject::BrokerRefused(codes::STREAM_NOT_FOUND, text.into()));
        }
        Err(error) => return Err(error.into()),
    };
    captures(&info, subject)?;
    Ok(vec![PartitionStream { subject: subject.clone(), info }])
}

/// Returns the stream of a station's dead letters. It is known by its name alone: another stream that captures the
/// subject as well keeps other records.
async fn letters(broker: &NatsClient, layout: Layout, station: &Name) -> Result<Option<PartitionStream>, Reject> {
    let names = StreamName::of_letters(layout, station);
    let Some(first) = names.first() else { return Ok(None) };
    let info = match stream_info(broker, &first.stream).await {
        Ok(info) => info,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match names.iter().find(|stream_name| info.config.captures(&stream_name.publish)) {
        Some(stream_name) => Ok(Some(PartitionStream { subject: stream_name.publish.clone(), info })),
        None => captures(&info, &first.publish).map(|()| None),
    }
}

/// Finds one partition of a set, or makes it like the others (`like_it`) where it is missing.
async fn partition(
    broker: &NatsClient,
    layout: Layout,
    name: &Name,
    (at, count): (u16, u16),
    known: Option<StreamInfo>,
    like_it: Option<&Attributes>,
) -> Result<PartitionStream, Reject> {
    // A set is of the partitioned form even if it has one member.
    let stream_name = StreamName::of(layout, name, at, count.max(2));
    let info = match known {
        Some(info) => info,
        None => match (stream_info(broker, &stream_name.stream).await, like_it) {
            (Err(error), Some(attributes)) if error.is_absent() => {
                tracing::warn!(station = %name, stream = stream_name.stream, "a stream of the station is not there: it is made like the others");
                make::ensure_stream(broker, name, &stream_name, count, attributes).await?
            }
            (Err(error), None) if error.is_absent() => {
                let text = format!(
                    "the station {:?} has {count} streams, and {:?} is not there",
                    name.as_str(),
                    stream_name.stream
                );
                return Err(Reject::BrokerRefused(codes::STREAM_NOT_FOUND, text.into()));
            }
            (other, _) => other?,
        },
    };
    captures(&info, &stream_name.publish)?;
    Ok(PartitionStream { subject: stream_name.publish, info })
}

/// Checks the subject of a stream of this name: without it the stream is somebody else's.
fn captures(info: &StreamInfo, subject: &str) -> Result<(), Reject> {
    if info.config.captures(subject) {
        return Ok(());
    }
    let name = &info.config.name;
    Err(Reject::StationBlocked(match info.config.mirror {
        Some(_) => format!("the stream {name:?} is a mirror: it takes no records but those of its source").into(),
        None => format!("the stream {name:?} exists and does not capture {subject:?}").into(),
    }))
}

/// Returns the stream that listens on this very subject, if there is one. (JetStream allows one at most.)
async fn capturing(broker: &NatsClient, subject: &str) -> Result<Option<String>, CallError> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        streams: Option<Vec<String>>,
    }
    let names: Names = broker.look("STREAM.NAMES", &serde_json::json!({ "subject": subject })).await?;
    Ok(names.streams.unwrap_or_default().into_iter().next())
}

/// Returns how many partitions a set has that somebody else made without writing the number into it.
async fn count_streams(broker: &NatsClient, layout: Layout, name: &Name) -> Result<u16, Reject> {
    let step = u16::try_from(CALLS_AT_ONCE).unwrap_or(1);
    let mut count = 1;
    while count < PARTITIONS_MAX {
        let exist: Vec<bool> = stream::iter(count + 1..=count.saturating_add(step).min(PARTITIONS_MAX))
            .map(|at| async move {
                match stream_info(broker, &StreamName::of(layout, name, at, 2).stream).await {
                    Ok(_) => Ok(true),
                    Err(error) if error.is_absent() => Ok(false),
                    Err(error) => Err(Reject::from(error)),
                }
            })
            .buffered(CALLS_AT_ONCE)
            .try_collect()
            .await?;
        let run = exist.iter().take_while(|exists| **exists).count();
        count += u16::try_from(run).unwrap_or(0);
        if run < exist.len() {
            break;
        }
    }
    Ok(count)
}
