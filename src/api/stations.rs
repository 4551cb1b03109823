//! Stations: how they are created, changed, adopted and shown.

use super::{
    dead_letters::DeadLetterSettings,
    texts::{NameText, StreamText, SubjectText},
    typed,
};
use crate::station::{self, Attributes, AttributesChange, Name};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// The attributes of a new station. The configuration has the value of each that is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewStation {
    /// Name of the station.
    #[schema(value_type = NameText, required = true)]
    pub name: String,
    /// Number of partitions, 1 to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub partitions: Option<u16>,
    /// Seconds that records are kept; 0 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 3_153_600_000_u64)]
    pub retention_age_s: Option<u64>,
    /// Records that a partition keeps; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_records: Option<u64>,
    /// Bytes that a partition keeps; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_bytes: Option<u64>,
    /// Whether records are removed once every consumer group has acknowledged them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_acknowledged: Option<bool>,
    /// Where records are kept.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::word_or_null")]
    pub storage: Option<StorageKind>,
    /// Number of replicas, 1 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5)]
    pub replicas: Option<u8>,
    /// Milliseconds that a message id is remembered, 100 to 86,400,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, maximum = 86_400_000)]
    pub idempotency_window_ms: Option<u64>,
    /// Which records become dead letters, and how long those are kept.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::object")]
    pub dead_letters: Option<DeadLetterSettings>,
    /// Schema to attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<NameText>)]
    pub schema: Option<String>,
}

/// A change of a station. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeStation {
    /// Seconds that records are kept; 0 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 3_153_600_000_u64)]
    pub retention_age_s: Option<u64>,
    /// Records that a partition keeps; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_records: Option<u64>,
    /// Bytes that a partition keeps; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_bytes: Option<u64>,
    /// Number of replicas, 1 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5)]
    pub replicas: Option<u8>,
    /// Milliseconds that a message id is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, maximum = 86_400_000)]
    pub idempotency_window_ms: Option<u64>,
    /// Which records become dead letters, and how long those are kept.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::object")]
    pub dead_letters: Option<DeadLetterSettings>,
    /// Number of partitions. It is fixed when the station is created; another number is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub partitions: Option<u16>,
    /// Where records are kept. It is fixed when the station is created; another value is an error.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::word_or_null")]
    pub storage: Option<StorageKind>,
}

/// An existing stream that is to become a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptStation {
    /// Name of the stream.
    #[schema(value_type = StreamText)]
    pub stream: String,
    /// Subject without wildcards that the stream listens on.
    #[schema(value_type = SubjectText)]
    pub subject: String,
}

/// A station, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StationView {
    /// Name of the station.
    pub name: String,
    /// Number of partitions.
    pub partitions: u16,
    /// Seconds that records are kept; 0 for ever.
    pub retention_age_s: u64,
    /// Records that a partition keeps; 0 for no limit.
    pub retention_records: u64,
    /// Bytes that a partition keeps; 0 for no limit.
    pub retention_bytes: u64,
    /// Whether records are removed once every consumer group has acknowledged them.
    pub retention_acknowledged: bool,
    /// Where records are kept.
    pub storage: StorageKind,
    /// Number of replicas.
    pub replicas: u8,
    /// Milliseconds that a message id is remembered.
    pub idempotency_window_ms: u64,
    /// Which records become dead letters, and how long those are kept.
    pub dead_letters: DeadLetterSettings,
    /// Schema that is attached.
    pub schema: Option<String>,
    /// The stream that the station was made of, if it was adopted.
    pub adopted: Option<AdoptStation>,
    /// Records that are stored now.
    pub records: u64,
    /// Bytes that are stored now.
    pub bytes: u64,
}

/// The schema that is to be attached to a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachSchema {
    /// Name of the schema. Records are validated by its active version.
    #[schema(value_type = NameText)]
    pub schema: String,
}

/// Where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Storage)]
pub enum StorageKind {
    /// On disk.
    File,
    /// In memory: lost when the server stops.
    Memory,
}

impl StorageKind {
    /// Returns its name in JSON and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
        }
    }
}

impl From<station::Storage> for StorageKind {
    fn from(storage: station::Storage) -> Self {
        match storage {
            station::Storage::File => Self::File,
            station::Storage::Memory => Self::Memory,
        }
    }
}

impl From<StorageKind> for station::Storage {
    fn from(kind: StorageKind) -> Self {
        match kind {
            StorageKind::File => Self::File,
            StorageKind::Memory => Self::Memory,
        }
    }
}

impl NewStation {
    /// Returns all attributes of the new station; what is absent is as `defaults` has it. Whether a station can have
    /// them is not checked.
    #[must_use]
    pub fn attributes(&self, defaults: &Attributes) -> Attributes {
        let attributes = Attributes {
            partitions: self.partitions.unwrap_or(defaults.partitions),
            retention_age: self.retention_age_s.map_or(defaults.retention_age, age),
            retention_records: self.retention_records.map_or(defaults.retention_records, limit),
            retention_bytes: self.retention_bytes.map_or(defaults.retention_bytes, limit),
            retention_acknowledged: self.retention_acknowledged.unwrap_or(defaults.retention_acknowledged),
            storage: self.storage.map_or(defaults.storage, station::Storage::from),
            replicas: self.replicas.unwrap_or(defaults.replicas),
            duplicate_window: defaults.duplicate_window,
        };
        match self.idempotency_window_ms {
            Some(window) => Attributes { duplicate_window: Duration::from_millis(window), ..attributes },
            // The default never stands in the way of a short retention.
            None => attributes.with_possible_window(),
        }
    }
}

impl ChangeStation {
    /// Returns the attributes that are asked for, as far as they can be changed.
    #[must_use]
    pub fn attributes(&self) -> AttributesChange {
        AttributesChange {
            retention_age: self.retention_age_s.map(age),
            retention_records: self.retention_records.map(limit),
            retention_bytes: self.retention_bytes.map(limit),
            replicas: self.replicas,
            duplicate_window: self.idempotency_window_ms.map(Duration::from_millis),
        }
    }

    /// Returns which fixed attribute is asked to be another than it is, if one is.
    #[must_use]
    pub fn other_than_fixed(&self, known: &Attributes) -> Option<&'static str> {
        if self.partitions.is_some_and(|partitions| partitions != known.partitions) {
            return Some("the number of partitions");
        }
        self.storage.is_some_and(|storage| storage != known.storage.into()).then_some("the storage")
    }
}

impl StationView {
    /// Returns the view of a station with these attributes, and with no record.
    #[must_use]
    pub fn of(name: &Name, attributes: &Attributes, dead_letters: DeadLetterSettings) -> Self {
        Self {
            name: name.to_string(),
            partitions: attributes.partitions,
            retention_age_s: attributes.retention_age.map_or(0, |age| age.as_secs()),
            retention_records: attributes.retention_records.unwrap_or(0),
            retention_bytes: attributes.retention_bytes.unwrap_or(0),
            retention_acknowledged: attributes.retention_acknowledged,
            storage: attributes.storage.into(),
            replicas: attributes.replicas,
            idempotency_window_ms: u64::try_from(attributes.duplicate_window.as_millis()).unwrap_or(u64::MAX),
            dead_letters,
            schema: None,
            adopted: None,
            records: 0,
            bytes: 0,
        }
    }
}

/// Returns an age that is given in seconds; 0 is for ever.
fn age(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Returns a limit; 0 is none.
fn limit(limit: u64) -> Option<u64> {
    (limit > 0).then_some(limit)
}
