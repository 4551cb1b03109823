//! What the store knows of a station: the document on disk, and the state that its threads share.
//!
//! A partition's numbers are written by the writer thread alone and read by the others; `last` is
//! published after the fsync, so what a reader finds below it is durable.

use crate::{
    config::StationSettings,
    station::{Name, Partition, PublishMode, Station},
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How a station is made on first use.
#[derive(Debug, Clone)]
pub struct StationDefaults {
    /// Partitions, at least one.
    pub partitions: u16,
    /// Records older than this go; `None` keeps them.
    pub retention_age: Option<Duration>,
    /// More records than this in a partition, and the oldest go.
    pub retention_records: Option<u64>,
    /// More bytes than this (headers and payload) in a partition, and the oldest go.
    pub retention_bytes: Option<u64>,
    /// How long a message id is remembered.
    pub duplicate_window: Duration,
}

impl From<&StationSettings> for StationDefaults {
    fn from(settings: &StationSettings) -> Self {
        Self {
            partitions: settings.partitions,
            retention_age: settings.retention_age,
            retention_records: settings.retention_records,
            retention_bytes: settings.retention_bytes,
            duplicate_window: settings.duplicate_window,
        }
    }
}

/// A station on disk. Fields may be added if they have a default; a missing one must not change meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StationDoc {
    /// Ids of its partitions. An id is never used again.
    pub(super) partitions: Vec<u32>,
    pub(super) retention_age_ms: Option<u64>,
    pub(super) retention_records: Option<u64>,
    pub(super) retention_bytes: Option<u64>,
    pub(super) duplicate_window_ms: u64,
    /// When it was made, ms since the epoch.
    pub(super) created_ms: u64,
}

impl StationDoc {
    /// A station that is made now; its partitions' ids begin at `first_id`.
    pub(super) fn new(defaults: &StationDefaults, first_id: u32, created_ms: u64) -> Self {
        Self {
            partitions: (first_id..).take(usize::from(defaults.partitions.max(1))).collect(),
            retention_age_ms: defaults.retention_age.map(millis),
            retention_records: defaults.retention_records,
            retention_bytes: defaults.retention_bytes,
            duplicate_window_ms: millis(defaults.duplicate_window),
            created_ms,
        }
    }
}

/// A station, as the store's threads share it.
#[derive(Debug)]
pub(super) struct StationState {
    pub(super) station: Arc<Station>,
    pub(super) doc: StationDoc,
    pub(super) partitions: Box<[PartitionState]>,
    /// Set once, when the station is deleted.
    pub(super) deleted: AtomicBool,
}

/// The numbers of one partition.
#[derive(Debug)]
pub(super) struct PartitionState {
    pub(super) id: u32,
    first: AtomicU64,
    last: AtomicU64,
    bytes: AtomicU64,
}

impl StationState {
    /// From a station's document and the marks of its partitions, in order.
    pub(super) fn new(name: Name, doc: StationDoc, marks: &[super::format::Mark]) -> Self {
        let stream = name.internal();
        let many = doc.partitions.len() > 1;
        let partitions = (1..=doc.partitions.len())
            .map(|number| Partition {
                stream: if many { format!("{stream}${number}") } else { stream.clone() }.into(),
                subject: if many { format!("{name}.${number}") } else { name.as_str().to_owned() }.into(),
            })
            .collect();
        let states = doc.partitions.iter().zip(marks).map(|(id, mark)| PartitionState {
            id: *id,
            first: AtomicU64::new(mark.first),
            last: AtomicU64::new(mark.last),
            bytes: AtomicU64::new(mark.bytes),
        });
        Self {
            station: Arc::new(Station {
                name,
                partitions,
                record_bytes_max: u32::try_from(crate::limits::LOCAL_RECORD_BYTES_MAX).ok(),
                replicas: 1,
                publish_mode: PublishMode::Single,
                answers_in_order: true,
                not_atomic: None,
                atomic_records_max: u32::try_from(crate::limits::LOCAL_COMMIT_RECORDS_MAX).unwrap_or(u32::MAX),
            }),
            partitions: states.collect(),
            doc,
            deleted: AtomicBool::new(false),
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }
}

impl PartitionState {
    /// Oldest and newest sequence and the bytes between, as of the last commit.
    pub(super) fn mark(&self) -> super::format::Mark {
        // `last` first: a record that it names is durable, and `first` may only have moved on since.
        let last = self.last.load(Ordering::Acquire);
        let first = self.first.load(Ordering::Acquire);
        super::format::Mark { first, last, bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Only the writer calls this, after the commit.
    pub(super) fn publish(&self, mark: super::format::Mark) {
        self.bytes.store(mark.bytes, Ordering::Relaxed);
        self.first.store(mark.first, Ordering::Release);
        self.last.store(mark.last, Ordering::Release);
    }
}

/// For each partition id, the sequence below which everything is dead: the compaction filter reads it,
/// the retention thread writes it. Grows by blocks and never shrinks; a block is 64 KiB for 8,192 ids.
#[derive(Debug)]
pub(super) struct Floors {
    blocks: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

/// Ids in a block.
const BLOCK: usize = 8_192;
/// Ids that a store can give out in its life: 67 million.
pub(super) const PARTITION_IDS_MAX: u32 = 8_192 * 8_192;

impl Floors {
    /// Nothing is dead.
    pub(super) fn new() -> Self {
        Self { blocks: (0..PARTITION_IDS_MAX as usize / BLOCK).map(|_| OnceLock::new()).collect() }
    }

    /// Below which sequence everything of a partition is dead; 0 if nothing is.
    pub(super) fn get(&self, partition: u32) -> u64 {
        let at = partition as usize;
        self.blocks
            .get(at / BLOCK)
            .and_then(OnceLock::get)
            .and_then(|block| block.get(at % BLOCK))
            .map_or(0, |floor| floor.load(Ordering::Acquire))
    }

    /// Raises a floor. `u64::MAX`: the partition is gone.
    pub(super) fn raise(&self, partition: u32, floor: u64) {
        let at = partition as usize;
        let Some(block) = self.blocks.get(at / BLOCK) else { return };
        let block = block.get_or_init(|| (0..BLOCK).map(|_| AtomicU64::new(0)).collect());
        if let Some(slot) = block.get(at % BLOCK) {
            slot.fetch_max(floor, Ordering::AcqRel);
        }
    }
}

/// Milliseconds of a duration.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::local::format::Mark;

    fn defaults(partitions: u16) -> StationDefaults {
        StationDefaults {
            partitions,
            retention_age: None,
            retention_records: None,
            retention_bytes: None,
            duplicate_window: Duration::from_secs(120),
        }
    }

    #[test]
    fn streams_and_subjects_are_named_as_on_jetstream() {
        for (partitions, expect) in [
            (1, vec![("my#station", "my.station")]),
            (2, vec![("my#station$1", "my.station.$1"), ("my#station$2", "my.station.$2")]),
            (0, vec![("my#station", "my.station")]),
        ] {
            let doc = StationDoc::new(&defaults(partitions), 5, 0);
            let marks = vec![Mark::EMPTY; doc.partitions.len()];
            let state = StationState::new(Name::parse("My.Station").expect("a name"), doc, &marks);
            let names: Vec<(&str, &str)> =
                state.station.partitions.iter().map(|one| (&*one.stream, &*one.subject)).collect();
            assert_eq!(names, expect);
            assert_eq!(state.partitions.len(), expect.len());
        }
    }

    #[test]
    fn a_floor_only_rises() {
        let floors = Floors::new();
        for (partition, raise, expect) in [(0, 5, 5), (0, 3, 5), (8_191, 1, 1), (8_192, 2, 2), (0, u64::MAX, u64::MAX)]
        {
            floors.raise(partition, raise);
            assert_eq!(floors.get(partition), expect);
        }
        floors.raise(u32::MAX, 1);
        assert_eq!((floors.get(1), floors.get(u32::MAX)), (0, 0));
    }
}
