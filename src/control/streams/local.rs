//! Stations of the embedded store.

use super::{Description, Letter, StreamsError};
use crate::{
    backend::{
        MessageId, Outcome, Publish,
        local::{Records, StationError, StationInfo, Store, StoredRecord},
    },
    reject::Reject,
    station::{Attributes, AttributesChange, Name},
    wire::Span,
};
use std::sync::Arc;

impl From<StationError> for StreamsError {
    fn from(error: StationError) -> Self {
        match error {
            StationError::Exists => Self::Exists,
            StationError::Unknown => Self::Unknown,
            StationError::Invalid(text) => Self::Invalid(text),
            StationError::Rejected(why) => Self::Failed(why),
        }
    }
}

impl From<StationInfo> for Description {
    fn from(info: StationInfo) -> Self {
        Self {
            name: info.station.name.clone(),
            records: info.partitions.iter().map(|partition| partition.records).sum(),
            bytes: info.partitions.iter().map(|partition| partition.bytes).sum(),
            attributes: info.attributes,
        }
    }
}

impl From<StoredRecord> for Letter {
    fn from(record: StoredRecord) -> Self {
        let StoredRecord { sequence, time_ms, headers, payload } = record;
        Self { sequence, time_ms, headers, payload }
    }
}

pub(super) async fn create(store: &Arc<Store>, name: &Name, attributes: &Attributes) -> Result<(), StreamsError> {
    Ok(store.create_station(name, attributes).await?)
}

pub(super) async fn describe(store: &Arc<Store>, name: &Name) -> Result<Description, StreamsError> {
    let info = store.describe_station(name).await.map_err(StreamsError::Failed)?;
    info.map(Description::from).ok_or(StreamsError::Unknown)
}

pub(super) async fn list(store: &Arc<Store>) -> Result<Vec<Description>, StreamsError> {
    let stations = store.stations().await.map_err(StreamsError::Failed)?;
    let own = |info: &StationInfo| info.station.name.letters_of().is_none();
    Ok(stations.into_iter().filter(own).map(Description::from).collect())
}

pub(super) async fn change(store: &Arc<Store>, name: &Name, change: &AttributesChange) -> Result<(), StreamsError> {
    Ok(store.change_station(name, change).await?)
}

pub(super) async fn remove(store: &Arc<Store>, name: &Name) -> Result<(), StreamsError> {
    store.delete_station(name).await.map(drop).map_err(StreamsError::Failed)
}

/// What one answer holds is bounded in bytes as well: it may be fewer than `limit`, but is empty only at the end.
pub(super) async fn read(
    store: &Arc<Store>,
    name: &Name,
    after: u64,
    limit: usize,
) -> Result<Vec<Letter>, StreamsError> {
    let Some(records) = store.records(name).await.map_err(StreamsError::Failed)? else { return Ok(Vec::new()) };
    let read = on_disk(records, move |records| records.read(after, limit)).await?;
    Ok(read.into_iter().map(Letter::from).collect())
}

pub(super) async fn discard(store: &Arc<Store>, name: &Name, sequences: Option<&[u64]>) -> Result<u64, StreamsError> {
    let Some(records) = store.records(name).await.map_err(StreamsError::Failed)? else { return Ok(0) };
    let found = match sequences.map(<[u64]>::to_vec) {
        None => None,
        Some(sequences) => Some(on_disk(records.clone(), move |records| records.find(&sequences)).await?),
    };
    Ok(store.discard(&records, found).await?)
}

/// Reads the disk on a thread that may wait for it.
async fn on_disk<T: Send + 'static>(
    records: Records,
    read: impl FnOnce(&Records) -> Result<T, Reject> + Send + 'static,
) -> Result<T, StreamsError> {
    let read = tokio::task::spawn_blocking(move || read(&records)).await;
    read.map_err(|_| StreamsError::Failed(Reject::Internal("a read of the store was given up")))?
        .map_err(StreamsError::Failed)
}

pub(super) async fn store(
    store: &Arc<Store>,
    name: &Name,
    headers: &[u8],
    payload: &[u8],
    id: &str,
) -> Result<(), StreamsError> {
    let station = store.station(name, false).await.map_err(|why| match why {
        Reject::StationUnknown(_) => StreamsError::Unknown,
        why => StreamsError::Failed(why),
    })?;
    let end = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let publish = Publish {
        station: &station,
        body: payload,
        records: &[Span { start: 0, end }],
        headers,
        id: Some(MessageId { base: id, numbered: false }),
        own: None,
        whole: false,
    };
    let mut outcomes = Vec::new();
    let handle = store.handle();
    let answered = tokio::time::timeout(handle.ack_timeout(), handle.publish(&publish, &mut outcomes)).await;
    answered.unwrap_or(Err(Reject::OutcomeUnknown)).map_err(StreamsError::Failed)?;
    match outcomes.pop() {
        Some(Outcome::Stored { .. }) => Ok(()),
        Some(Outcome::Failed(why)) => Err(StreamsError::Failed(why)),
        None => Err(StreamsError::Failed(Reject::OutcomeUnknown)),
    }
}
