//! Looking for the streams of a station.

use super::{
    Part,
    info::{StreamInfo, stream_info},
    make,
    slot::Slot,
};
use crate::{
    config::Layout,
    control::{
        broker::{Broker, CallError, codes},
        streams::Adopted,
    },
    reject::Reject,
    station::{Attributes, Name, PARTITIONS_MAX},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

/// Calls in flight for one question.
const CALLS_AT_ONCE: usize = 16;

/// The streams of a station, if it exists. A set that was left incomplete is completed if it may be created.
pub(super) async fn find(
    broker: &Broker,
    layout: Layout,
    name: &Name,
    create: Option<&Attributes>,
) -> Result<Option<Vec<Part>>, Reject> {
    if let Some(station) = name.letters_of() {
        return letters(broker, layout, &station).await.map(|part| part.map(|part| vec![part]));
    }
    let whole = Slot::whole(layout, name);
    if let Some(stream) = capturing(broker, &whole).await? {
        let info = stream_info(broker, &stream).await?;
        return Ok(Some(vec![Part { subject: whole, info }]));
    }
    let first = Slot::of(layout, name, 1, 2);
    let first_info = match stream_info(broker, &first.stream).await {
        Ok(info) => info,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let count = match first_info.config.partitions() {
        Some(count) => count,
        None => count_streams(broker, layout, name).await?,
    };
    let parts = stream::iter(1..=count)
        .map(|at| {
            let first_info = (at == 1).then(|| first_info.clone());
            partition(broker, layout, name, (at, count), first_info, create)
        })
        .buffered(CALLS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(Some(parts))
}

/// The stream that a station was made of. That it is not as it was is an error, and never another stream.
pub(super) async fn adopted(broker: &Broker, name: &Name, adopted: &Adopted) -> Result<Vec<Part>, Reject> {
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
    Ok(vec![Part { subject: subject.clone(), info }])
}

/// The stream of a station's dead letters. It is known by its name alone: a stream that captures the subject as well
/// keeps other things.
async fn letters(broker: &Broker, layout: Layout, station: &Name) -> Result<Option<Part>, Reject> {
    let slots = Slot::of_letters(layout, station);
    let Some(first) = slots.first() else { return Ok(None) };
    let info = match stream_info(broker, &first.stream).await {
        Ok(info) => info,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match slots.iter().find(|slot| info.config.captures(&slot.publish)) {
        Some(slot) => Ok(Some(Part { subject: slot.publish.clone(), info })),
        None => captures(&info, &first.publish).map(|()| None),
    }
}

/// One partition of a set: found, or made where the set was left incomplete.
async fn partition(
    broker: &Broker,
    layout: Layout,
    name: &Name,
    (at, count): (u16, u16),
    known: Option<StreamInfo>,
    create: Option<&Attributes>,
) -> Result<Part, Reject> {
    // A set is of the partitioned form even if it has one member.
    let slot = Slot::of(layout, name, at, count.max(2));
    let info = match known {
        Some(info) => info,
        None => match (stream_info(broker, &slot.stream).await, create) {
            (Err(error), Some(attributes)) if error.is_absent() => {
                make::ensure_stream(broker, name, &slot, count, attributes).await?
            }
            (other, _) => other?,
        },
    };
    captures(&info, &slot.publish)?;
    Ok(Part { subject: slot.publish, info })
}

/// A stream that has the name and not the subject is somebody else's.
fn captures(info: &StreamInfo, subject: &str) -> Result<(), Reject> {
    if info.config.captures(subject) {
        return Ok(());
    }
    let text = format!("the stream {:?} exists and does not capture {subject:?}", info.config.name);
    Err(Reject::BrokerRefused(codes::STREAM_NAME_IN_USE, text.into()))
}

/// The stream that listens on this very subject, if there is one. (JetStream allows one at most.)
async fn capturing(broker: &Broker, subject: &str) -> Result<Option<String>, CallError> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        streams: Option<Vec<String>>,
    }
    let names: Names = broker.look("STREAM.NAMES", &serde_json::json!({ "subject": subject })).await?;
    Ok(names.streams.unwrap_or_default().into_iter().next())
}

/// How many partitions there are of a set that somebody else made and left no number in.
async fn count_streams(broker: &Broker, layout: Layout, name: &Name) -> Result<u16, Reject> {
    let step = u16::try_from(CALLS_AT_ONCE).unwrap_or(1);
    let mut count = 1;
    while count < PARTITIONS_MAX {
        let exist: Vec<bool> = stream::iter(count + 1..=count.saturating_add(step).min(PARTITIONS_MAX))
            .map(|at| async move {
                match stream_info(broker, &Slot::of(layout, name, at, 2).stream).await {
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
