//! Records of a station read for their own sake, outside of any consumer group: dead letters, which are looked at and
//! removed one by one. From the disk, so not for shards.
//!
//! What is removed from between others is remembered by its sequence ([`super::control`]) and passed over here. Consumer
//! groups do not look at that: a station whose records are removed one by one has a name that no client can say.

use super::{
    StationError, Store,
    catalog::StationState,
    disk::Disk,
    format::Record,
    messages::{Control, Discard},
};
use crate::{limits::LOCAL_READ_BYTES_MAX, reject::Reject, station::Name};
use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

/// The records of a station's first partition.
#[derive(Debug, Clone)]
pub struct Records {
    disk: Disk,
    station: Arc<StationState>,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in the partition.
    pub sequence: u64,
    /// When it was stored, ms since the epoch.
    pub time_ms: u64,
    /// Header fields, `Name: value\r\n` each.
    pub headers: Vec<u8>,
    /// What was posted.
    pub payload: Vec<u8>,
}

/// Records that were found and may be removed: sequence and bytes of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found(pub(super) Vec<(u64, u64)>);

impl Store {
    /// The records of a station's first partition; `None` if there is no such station.
    pub async fn records(&self, name: &Name) -> Result<Option<Records>, Reject> {
        let state = self.ask(|reply| Control::State { name: name.clone(), reply }).await?;
        let Some(station) = state else { return Ok(None) };
        let disk = self.ask(|reply| Control::Disk { reply }).await?;
        Ok(Some(Records { disk, station }))
    }

    /// Removes these records of a station, or all that there are by then, and syncs that; how many there were. At
    /// most [`crate::limits::LOCAL_REMOVED_MAX`] can be removed from between others that stay.
    pub async fn discard(&self, records: &Records, found: Option<Found>) -> Result<u64, StationError> {
        let which = found.map_or(Discard::All, |Found(records)| Discard::These(records));
        let station = Arc::clone(&records.station);
        self.ask(|reply| Control::Discard { station, which, reply }).await?
    }
}

impl Records {
    /// Records with sequences after this one, oldest first: at most so many, and fewer only if there are no more or if the
    /// next one would make them more than [`LOCAL_READ_BYTES_MAX`]. Blocks.
    pub fn read(&self, after: u64, limit: usize) -> Result<Vec<StoredRecord>, Reject> {
        let mut found = Vec::new();
        let mut bytes = 0;
        if limit == 0 {
            return Ok(found);
        }
        self.show(after.saturating_add(1), u64::MAX, |time_ms, sequence, record| {
            bytes += record.headers.len() + record.payload.len();
            if bytes > LOCAL_READ_BYTES_MAX && !found.is_empty() {
                return ControlFlow::Break(());
            }
            let (headers, payload) = (record.headers.to_vec(), record.payload.to_vec());
            found.push(StoredRecord { sequence, time_ms, headers, payload });
            if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Which of these records there are. Blocks.
    pub fn find(&self, sequences: &[u64]) -> Result<Found, Reject> {
        let mut found = Vec::new();
        for sequence in sequences.iter().copied().collect::<BTreeSet<u64>>() {
            self.show(sequence, sequence, |_, _, record| {
                found.push((sequence, (record.headers.len() + record.payload.len()) as u64));
                ControlFlow::Break(())
            })?;
        }
        Ok(Found(found))
    }

    /// Shows the records of `from..=to` that are there.
    fn show(
        &self,
        from: u64,
        to: u64,
        mut show: impl FnMut(u64, u64, Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), Reject> {
        let Some(state) = self.station.partitions.first() else { return Ok(()) };
        let mark = state.mark();
        let (from, to) = (from.max(mark.first), to.min(mark.last));
        if from > to || self.station.is_deleted() {
            return Ok(());
        }
        let mut read = || {
            let removed = self.disk.removed(state.id, from, to)?;
            self.disk.scan(state.id, from, to, |time_ms, sequence, body| {
                if removed.contains_key(&sequence) {
                    return ControlFlow::Continue(());
                }
                // A body that does not parse cannot come from the writer; its bytes are shown rather than hidden.
                show(time_ms, sequence, Record::parse(body).unwrap_or(Record { headers: b"", payload: body }))
            })
        };
        read().map_err(|error| self.disk.unreadable(&error))
    }
}
