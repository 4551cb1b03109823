//! What is read when a store opens: the catalog, and the message ids that the windows still hold.

use super::{
    catalog::{LowWatermarks, StationDoc, StationState},
    clock::Clock,
    disk::{Disk, OpenError},
    duplicate_window::Ids,
    format::{self, Mark, Record},
    groups::Groups,
};
use crate::{limits::LOCAL_IDS_BYTES_MAX, station::Name};
use fjall::PersistMode;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// What the writer begins with.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) stations: Vec<Arc<StationState>>,
    pub(super) ids: Ids,
    pub(super) groups: Groups,
    pub(super) next_partition: u32,
    pub(super) revision: u64,
}

impl Loaded {
    /// Reads and checks the catalog of a store that was just opened.
    pub(super) fn read(dir: &Path, disk: &Disk, clock: &Clock, floors: &LowWatermarks) -> Result<Self, OpenError> {
        let failed = |error| OpenError::of_database(dir, error);
        let damaged = |what: String| OpenError::Damaged(dir.into(), what);
        let number = |key| disk.catalog.get(key).map_err(failed);
        let next_partition = number(format::NEXT_PARTITION)?
            .and_then(|value| format::parse_u32(&value))
            .ok_or_else(|| damaged("the catalog does not say which partition comes next".to_owned()))?;
        let revision = number(format::REVISION)?.and_then(|value| format::parse_u64(&value)).unwrap_or(0);
        let mut stations = Vec::new();
        let removed = removed(disk).map_err(failed)?;
        for item in disk.catalog.prefix(b"s") {
            let (key, value) = item.into_inner().map_err(failed)?;
            let station = station(dir, disk, &key, &value)?;
            for partition in &station.partitions {
                partition.set_removed(removed.get(&partition.id).copied().unwrap_or(0));
            }
            stations.push(Arc::new(station));
        }
        let mut groups = Groups::default();
        for item in disk.catalog.prefix(b"g") {
            let (key, value) = item.into_inner().map_err(failed)?;
            groups.load(&key, &value, (clock.wall_ms(), clock.monotonic_ms()));
        }
        let mut loaded = Self { stations, ids: Ids::new(LOCAL_IDS_BYTES_MAX), groups, next_partition, revision };
        loaded.read_ids(disk, clock).map_err(failed)?;
        loaded.bury(disk, floors).map_err(failed)?;
        Ok(loaded)
    }

    /// Reads back the ids that the windows still hold, newest records first. Their ages are by wall time, the
    /// only one that outlives a process; from here on they are counted in monotonic time.
    fn read_ids(&mut self, disk: &Disk, clock: &Clock) -> Result<(), fjall::Error> {
        let (wall_ms, now_ms) = (clock.wall_ms(), clock.monotonic_ms());
        for station in &self.stations {
            let window_ms = station.rules().window_ms;
            for partition in &station.partitions {
                let mark = partition.mark();
                let range = format::record_key(partition.id, mark.first)..=format::record_key(partition.id, mark.last);
                for item in disk.records.range(range).rev() {
                    let (key, value) = item.into_inner()?;
                    let chunk = Disk::chunk(&key, &value)?;
                    // A record from the future, by a clock that was wrong, counts as new.
                    let age_ms = wall_ms.saturating_sub(chunk.time_ms);
                    if age_ms >= window_ms || self.ids.is_full() {
                        break;
                    }
                    let stored_ms = now_ms.saturating_sub(age_ms);
                    let records: Vec<(u64, &[u8])> = chunk.records().collect();
                    for (sequence, body) in records.into_iter().rev().take_while(|(one, _)| *one >= mark.first) {
                        if let Some(id) = Record::parse(body).and_then(|record| record.id())
                            && !self.ids.is_full()
                        {
                            self.ids.insert(partition.id, id, sequence, stored_ms, window_ms);
                        }
                    }
                }
            }
        }
        self.ids.sort();
        Ok(())
    }

    /// Marks dead what belongs to no station: partitions that were deleted, and cursors into them.
    fn bury(&self, disk: &Disk, floors: &LowWatermarks) -> Result<(), fjall::Error> {
        let partitions = self.stations.iter().flat_map(|station| &station.partitions);
        let live: BTreeSet<u32> = partitions.map(|partition| partition.id).collect();
        for partition in 0..self.next_partition {
            if !live.contains(&partition) {
                floors.raise(partition, u64::MAX);
            }
        }
        for partition in self.stations.iter().flat_map(|station| &station.partitions) {
            floors.raise(partition.id, partition.mark().first);
        }
        let mut batch = disk.database.batch();
        for item in disk.cursors.iter() {
            let key = item.key()?;
            let partition = key.get(..4).and_then(format::parse_u32);
            if partition.is_none_or(|partition| !live.contains(&partition)) {
                batch.remove(&disk.cursors, key);
            }
        }
        batch.durability(Some(PersistMode::SyncData)).commit()
    }
}

/// One station, checked against its records.
fn station(dir: &Path, disk: &Disk, key: &[u8], value: &[u8]) -> Result<StationState, OpenError> {
    let failed = |error| OpenError::of_database(dir, error);
    let text = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
    let damaged = |what: &str| OpenError::Damaged(dir.into(), format!("station {text}: {what}"));
    let name = station_name(&text).ok_or_else(|| damaged("its name is no name"))?;
    let doc: StationDoc = serde_json::from_slice(value).map_err(|_| damaged("its document cannot be read"))?;
    let mut marks = Vec::with_capacity(doc.partitions.len());
    for id in &doc.partitions {
        let mark = disk.catalog.get(format::mark_key(*id)).map_err(failed)?;
        let mark = mark.and_then(|value| Mark::parse(&value)).ok_or_else(|| damaged("a partition has no mark"))?;
        let range = format::record_key(*id, 0)..=format::record_key(*id, u64::MAX);
        let newest = match disk.records.range(range).next_back() {
            Some(item) => format::parse_record_key(&item.key().map_err(failed)?).map(|(_, sequence)| sequence),
            None => None,
        };
        // Marks and records are written together: that they differ means that something was lost below us.
        let expected =
            if mark.first > mark.last { newest.unwrap_or(0) <= mark.last } else { newest == Some(mark.last) };
        if !expected {
            return Err(damaged(&format!(
                "its newest record should be number {}, and the newest one there is {newest:?}",
                mark.last
            )));
        }
        marks.push(mark);
    }
    Ok(StationState::new(name, &doc, &marks))
}

/// A station's name as it was stored: one that a client may say, or that of the dead letters of such a station.
fn station_name(text: &str) -> Option<Name> {
    let of_letters = || Some(Name::parse(text.rsplit_once('$')?.0).ok()?.dead_letters());
    Name::parse(text).ok().or_else(of_letters).filter(|name| name.as_str() == text)
}

/// How many records of each partition were removed one by one.
fn removed(disk: &Disk) -> Result<BTreeMap<u32, u64>, fjall::Error> {
    let mut removed = BTreeMap::new();
    for item in disk.catalog.prefix([format::REMOVED]) {
        if let Some((partition, _)) = format::parse_removed_key(&item.key()?) {
            *removed.entry(partition).or_default() += 1;
        }
    }
    Ok(removed)
}
