//! What the store knows of a station: the document on disk, and the state that its threads share.
//!
//! A partition's numbers are written by the writer thread alone and read by the others; `last` is
//! published after the fsync, so what a reader finds below it is durable. A station's [`Rules`] are written and
//! read in the same way: a change is there for every thread as soon as it is durable.

use crate::{
    limits::LOCAL_PARTITION_IDS_MAX,
    station::{Attributes, DirectGet, Name, Partition, PublishMode, Station, Storage},
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
    /// Its attributes; of those that this store does not have, its own count.
    pub attributes: Attributes,
    /// Consumer groups that nobody uses for this long are removed; `None` keeps them.
    pub group_expiry: Option<Duration>,
}

impl StationDefaults {
    /// Returns the attributes of a station that is made on first use. The store has one copy of it, on disk.
    pub(super) fn attributes(&self) -> Attributes {
        let partitions = self.attributes.partitions.max(1);
        Attributes { partitions, storage: Storage::File, replicas: 1, ..self.attributes.clone() }
    }
}

/// A station on disk. Fields may be added if they have a default; a missing one must not change meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StationDoc {
    /// Ids of its partitions. An id is never used again.
    pub(super) partitions: Vec<u32>,
    #[serde(flatten)]
    pub(super) rules: Rules,
    /// When it was made, ms since the epoch.
    pub(super) created_ms: u64,
}

/// What may be changed of a station, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rules {
    /// Older records go.
    #[serde(rename = "retention_age_ms")]
    pub(super) age_ms: Option<u64>,
    /// Of more records in a partition, the oldest go.
    #[serde(rename = "retention_records")]
    pub(super) records: Option<u64>,
    /// Of more bytes in a partition, the oldest go.
    #[serde(rename = "retention_bytes")]
    pub(super) bytes: Option<u64>,
    /// Records go that every consumer group has acknowledged. While there is no group they stay: on JetStream they would
    /// go at once, and what is produced before the first consumer comes would be acknowledged and lost.
    #[serde(rename = "retention_acknowledged", default)]
    pub(super) acknowledged: bool,
    /// How long a message id is remembered.
    #[serde(rename = "duplicate_window_ms")]
    pub(super) window_ms: u64,
}

impl From<&Attributes> for Rules {
    fn from(attributes: &Attributes) -> Self {
        Self {
            age_ms: attributes.retention_age.map(millis).filter(|limit| *limit != NO_LIMIT),
            records: attributes.retention_records.filter(|limit| *limit != NO_LIMIT),
            bytes: attributes.retention_bytes.filter(|limit| *limit != NO_LIMIT),
            acknowledged: attributes.retention_acknowledged,
            window_ms: millis(attributes.duplicate_window),
        }
    }
}

impl Rules {
    /// Whether anything can make records go.
    pub(super) fn retire_something(&self) -> bool {
        self.age_ms.is_some() || self.records.is_some() || self.bytes.is_some() || self.acknowledged
    }
}

/// How a limit is shared that is none: nothing can exceed it.
const NO_LIMIT: u64 = u64::MAX;

/// [`Rules`] that every thread reads and the writer alone changes. Each value counts by itself.
#[derive(Debug)]
struct SharedRules {
    age_ms: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    acknowledged: AtomicBool,
    window_ms: AtomicU64,
}

impl SharedRules {
    fn new(rules: Rules) -> Self {
        Self {
            age_ms: rules.age_ms.unwrap_or(NO_LIMIT).into(),
            records: rules.records.unwrap_or(NO_LIMIT).into(),
            bytes: rules.bytes.unwrap_or(NO_LIMIT).into(),
            acknowledged: rules.acknowledged.into(),
            window_ms: rules.window_ms.into(),
        }
    }

    fn get(&self) -> Rules {
        let limit = |limit: &AtomicU64| Some(limit.load(Ordering::Relaxed)).filter(|limit| *limit != NO_LIMIT);
        Rules {
            age_ms: limit(&self.age_ms),
            records: limit(&self.records),
            bytes: limit(&self.bytes),
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            window_ms: self.window_ms.load(Ordering::Relaxed),
        }
    }

    fn set(&self, rules: Rules) {
        self.age_ms.store(rules.age_ms.unwrap_or(NO_LIMIT), Ordering::Relaxed);
        self.records.store(rules.records.unwrap_or(NO_LIMIT), Ordering::Relaxed);
        self.bytes.store(rules.bytes.unwrap_or(NO_LIMIT), Ordering::Relaxed);
        self.acknowledged.store(rules.acknowledged, Ordering::Relaxed);
        self.window_ms.store(rules.window_ms, Ordering::Relaxed);
    }
}

/// A station, as the store's threads share it.
#[derive(Debug)]
pub(super) struct StationState {
    /// As it was when it was loaded or made.
    pub(super) station: Arc<Station>,
    /// When it was made, ms since the epoch.
    pub(super) created_ms: u64,
    rules: SharedRules,
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
    /// Records between the two that were removed one by one.
    removed: AtomicU64,
}

impl StationState {
    /// From a station's document and the marks of its partitions, in order.
    pub(super) fn new(name: Name, doc: &StationDoc, marks: &[super::format::Mark]) -> Self {
        let stream = name.internal();
        let subject = name.dead_letters_of().map_or_else(|| name.to_string(), |station| format!("{station}.$dls"));
        let many = doc.partitions.len() > 1;
        let partitions = (1..=doc.partitions.len())
            .map(|number| Partition {
                stream: if many { format!("{stream}${number}") } else { stream.clone() }.into(),
                subject: if many { format!("{subject}.${number}") } else { subject.clone() }.into(),
            })
            .collect();
        let states = doc.partitions.iter().zip(marks).map(|(id, mark)| PartitionState {
            id: *id,
            first: AtomicU64::new(mark.first),
            last: AtomicU64::new(mark.last),
            bytes: AtomicU64::new(mark.bytes),
            removed: AtomicU64::new(0),
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
                duplicate_window: Duration::from_millis(doc.rules.window_ms),
                direct_get: DirectGet::Allowed,
            }),
            created_ms: doc.created_ms,
            rules: SharedRules::new(doc.rules),
            partitions: states.collect(),
            deleted: AtomicBool::new(false),
        }
    }

    /// As the shards are to know it: like [`Self::station`], with what was changed since.
    pub(super) fn as_it_is(&self) -> Arc<Station> {
        let duplicate_window = Duration::from_millis(self.rules().window_ms);
        if duplicate_window == self.station.duplicate_window {
            return Arc::clone(&self.station);
        }
        Arc::new(Station { duplicate_window, ..Station::clone(&self.station) })
    }

    /// By what it lives now.
    pub(super) fn rules(&self) -> Rules {
        self.rules.get()
    }

    /// Only the writer calls this, after the commit.
    pub(super) fn set_rules(&self, rules: Rules) {
        self.rules.set(rules);
    }

    /// Its document, with these rules.
    pub(super) fn doc(&self, rules: Rules) -> StationDoc {
        let partitions = self.partitions.iter().map(|one| one.id).collect();
        StationDoc { partitions, rules, created_ms: self.created_ms }
    }

    /// What it is, as whoever made it said.
    pub(super) fn attributes(&self) -> Attributes {
        let rules = self.rules();
        Attributes {
            partitions: u16::try_from(self.partitions.len()).unwrap_or(u16::MAX),
            retention_age: rules.age_ms.map(Duration::from_millis),
            retention_records: rules.records,
            retention_bytes: rules.bytes,
            retention_acknowledged: rules.acknowledged,
            storage: Storage::File,
            replicas: 1,
            duplicate_window: Duration::from_millis(rules.window_ms),
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

    /// How many of the records between first and last were removed one by one.
    pub(super) fn removed(&self) -> u64 {
        self.removed.load(Ordering::Acquire)
    }

    /// Only the writer calls this, after the commit; and whoever opens the store.
    pub(super) fn set_removed(&self, count: u64) {
        self.removed.store(count, Ordering::Release);
    }
}

/// For each partition id, the sequence below which everything is dead: the compaction filter reads it,
/// the retention thread writes it. Grows by blocks and never shrinks; a block is 64 KiB for 8,192 ids.
#[derive(Debug)]
pub(super) struct LowWatermarks {
    blocks: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

/// Ids in a block.
const BLOCK: usize = 8_192;

impl LowWatermarks {
    /// Nothing is dead.
    pub(super) fn new() -> Self {
        Self { blocks: (0..LOCAL_PARTITION_IDS_MAX as usize / BLOCK).map(|_| OnceLock::new()).collect() }
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

    /// Raises the low watermark of a partition. `u64::MAX`: the partition is gone.
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

    #[test]
    fn streams_and_subjects_are_named_as_on_jetstream() {
        let name = Name::parse("My.Station").expect("a name");
        for (name, partitions, expect) in [
            (name.clone(), 1, vec![("my#station", "my.station")]),
            (name.clone(), 2, vec![("my#station$1", "my.station.$1"), ("my#station$2", "my.station.$2")]),
            (name.dead_letters(), 1, vec![("my#station$dls", "my.station.$dls")]),
        ] {
            let doc = document((5..5 + partitions).collect(), Rules::from(&attributes()), 0);
            let marks = vec![Mark::EMPTY; doc.partitions.len()];
            let state = StationState::new(name, &doc, &marks);
            let names: Vec<(&str, &str)> =
                state.station.partitions.iter().map(|one| (&*one.stream, &*one.subject)).collect();
            assert_eq!(names, expect);
            assert_eq!(state.partitions.len(), expect.len());
        }
    }

    fn attributes() -> Attributes {
        Attributes {
            retention_age: Some(Duration::from_secs(60)),
            retention_records: Some(0),
            retention_acknowledged: true,
            ..Attributes::default()
        }
    }

    fn document(partitions: Vec<u32>, rules: Rules, created_ms: u64) -> StationDoc {
        StationDoc { partitions, rules, created_ms }
    }

    #[test]
    fn attributes_come_back_from_the_document_and_what_has_no_bound_is_no_limit() {
        let unbounded = Attributes { retention_records: Some(u64::MAX), retention_age: None, ..attributes() };
        for (made, expect) in
            [(attributes(), attributes()), (unbounded.clone(), Attributes { retention_records: None, ..unbounded })]
        {
            let doc = document(vec![3], Rules::from(&made), 77);
            let state = StationState::new(Name::parse("a").expect("a name"), &doc, &[Mark::EMPTY]);
            assert_eq!(state.attributes(), expect);
            assert_eq!(state.doc(state.rules()), doc);
        }
    }

    #[test]
    fn a_document_of_before_says_what_it_said() {
        let text = r#"{"partitions":[4],"retention_age_ms":5000,"retention_records":null,"retention_bytes":7,
            "duplicate_window_ms":120000,"created_ms":1}"#;
        let doc: StationDoc = serde_json::from_str(text).expect("a document");
        let rules =
            Rules { age_ms: Some(5_000), records: None, bytes: Some(7), acknowledged: false, window_ms: 120_000 };
        assert_eq!(doc, document(vec![4], rules, 1));
        // And as it is written since.
        let text = r#"{"partitions":[4],"retention_age_ms":5000,"retention_records":null,"retention_bytes":7,"#;
        let rest = r#""retention_acknowledged":false,"duplicate_window_ms":120000,"created_ms":1}"#;
        assert_eq!(serde_json::to_string(&doc).expect("text"), [text, rest].concat());
    }

    #[test]
    fn a_floor_only_rises() {
        let floors = LowWatermarks::new();
        for (partition, raise, expect) in [(0, 5, 5), (0, 3, 5), (8_191, 1, 1), (8_192, 2, 2), (0, u64::MAX, u64::MAX)]
        {
            floors.raise(partition, raise);
            assert_eq!(floors.get(partition), expect);
        }
        floors.raise(u32::MAX, 1);
        assert_eq!((floors.get(1), floors.get(u32::MAX)), (0, 0));
    }
}
