//! Stations: how they are created, changed, adopted and shown.

use super::{
    dead_letters::DeadLetterSettings,
    texts::{NameText, StreamText, SubjectText},
    typed,
};
use crate::station;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The attributes of a station that is to be made: what is absent is as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewStation {
    /// Its name.
    #[schema(value_type = NameText, required = true)]
    pub name: String,
    /// 1 to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub partitions: Option<u16>,
    /// Seconds; 0 keeps records whatever their age.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 3_153_600_000_u64)]
    pub retention_age_s: Option<u64>,
    /// Records of a partition; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_records: Option<u64>,
    /// Bytes of a partition; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_bytes: Option<u64>,
    /// Records go when every consumer group has acknowledged them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_acknowledged: Option<bool>,
    /// Where records are kept.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::word_or_null")]
    pub storage: Option<StorageKind>,
    /// Copies, 1 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5)]
    pub replicas: Option<u8>,
    /// Milliseconds, 100 to 86,400,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, maximum = 86_400_000)]
    pub idempotency_window_ms: Option<u64>,
    /// What becomes of records that fail.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::object")]
    pub dead_letters: Option<DeadLetterSettings>,
    /// A schema to attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<NameText>)]
    pub schema: Option<String>,
}

/// What is to become of a station; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeStation {
    /// Seconds; 0 keeps records whatever their age.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 3_153_600_000_u64)]
    pub retention_age_s: Option<u64>,
    /// Records of a partition; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_records: Option<u64>,
    /// Bytes of a partition; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    pub retention_bytes: Option<u64>,
    /// Copies, 1 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5)]
    pub replicas: Option<u8>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, maximum = 86_400_000)]
    pub idempotency_window_ms: Option<u64>,
    /// What becomes of records that fail.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::object")]
    pub dead_letters: Option<DeadLetterSettings>,
    /// Fixed when the station is made: naming another number is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub partitions: Option<u16>,
    /// Fixed when the station is made: naming another is an error.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::word_or_null")]
    pub storage: Option<StorageKind>,
}

/// An existing stream that becomes a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptStation {
    /// The stream.
    #[schema(value_type = StreamText)]
    pub stream: String,
    /// A subject without wildcards that it listens on.
    #[schema(value_type = SubjectText)]
    pub subject: String,
}

/// A station, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StationView {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u16,
    /// Seconds; 0: for ever.
    pub retention_age_s: u64,
    /// Records of a partition; 0: no limit.
    pub retention_records: u64,
    /// Bytes of a partition; 0: no limit.
    pub retention_bytes: u64,
    /// Records go when every consumer group has acknowledged them.
    pub retention_acknowledged: bool,
    /// Where records are kept.
    pub storage: StorageKind,
    /// Copies.
    pub replicas: u8,
    /// Milliseconds that a message id is remembered.
    pub idempotency_window_ms: u64,
    /// What becomes of records that fail.
    pub dead_letters: DeadLetterSettings,
    /// The schema that is attached.
    pub schema: Option<String>,
    /// The stream and subject that it was adopted with.
    pub adopted: Option<AdoptStation>,
    /// Records that are there.
    pub records: u64,
    /// Bytes that are there.
    pub bytes: u64,
}

/// Which schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachSchema {
    /// Its name; the version is the one that is active.
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
    /// In memory: gone when the server ends.
    Memory,
}

impl StorageKind {
    /// Returns the word for it in JSON and on the command line.
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
