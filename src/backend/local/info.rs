//! What a store says of what it holds, and how it refuses: plain data.

use super::format::Mark;
use crate::{
    reject::Reject,
    station::{Attributes, Station},
};
use std::sync::Arc;

/// A station, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationInfo {
    /// The station.
    pub station: Arc<Station>,
    /// What it was made with and changed to.
    pub attributes: Attributes,
    /// When it was made, ms since the epoch.
    pub created_ms: u64,
    /// What each partition holds.
    pub partitions: Vec<PartitionInfo>,
    /// Its consumer groups.
    pub groups: Vec<GroupInfo>,
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Sequence of the oldest record; `last + 1` if there is none.
    pub first: u64,
    /// Sequence of the newest record ever stored; 0 before the first.
    pub last: u64,
    /// Records that are there.
    pub records: u64,
    /// Bytes of headers and payloads.
    pub bytes: u64,
}

impl PartitionInfo {
    /// From a partition's mark, and how many records above it were removed one by one.
    pub(super) fn new(mark: Mark, removed: u64) -> Self {
        let records = (mark.last + 1).saturating_sub(mark.first).saturating_sub(removed);
        Self { first: mark.first, last: mark.last, records, bytes: mark.bytes }
    }
}

/// A consumer group, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its durable name.
    pub durable: Box<str>,
    /// When it was made, ms since the epoch; 0 if an older version made it.
    pub created_ms: u64,
    /// When it was last used, to the hour, ms since the epoch.
    pub used_ms: u64,
    /// Who made it; empty if an older version did.
    pub principal: Box<str>,
}

/// Why a station was not made or changed, or its records were not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StationError {
    /// There is such a station, with other attributes.
    Exists,
    /// There is none.
    Unknown,
    /// This store cannot keep such a station; the text says why.
    Invalid(String),
    /// The store could not.
    Rejected(Reject),
}

impl From<Reject> for StationError {
    fn from(why: Reject) -> Self {
        Self::Rejected(why)
    }
}

/// A registry document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its key.
    pub key: String,
    /// Of its last change; revisions grow over all keys.
    pub revision: u64,
    /// What was put.
    pub value: Vec<u8>,
}

/// Why a registry document was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutError {
    /// It has another revision than expected: this one, 0 if it does not exist. Nothing was written.
    Conflict {
        /// The revision it has.
        found: u64,
    },
    /// The store could not, or the document is too large.
    Rejected(Reject),
}

/// Whether the store takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// The device has no room for records; they are taken again when it has. Which device.
    Full(Box<str>),
    /// A write or its fsync failed: read-only until the store was opened anew, which is tried. Why.
    ReadOnly(Box<str>),
    /// As [`Self::ReadOnly`], and opening it anew has not helped.
    Lost(Box<str>),
    /// A file of it is damaged, whether it takes writes or not: which. No new process helps.
    Damaged(Box<str>),
    /// A thread of it has ended that should not have. Its name; the log says why.
    Failed(&'static str),
    /// It is closing or closed.
    Closed,
}

impl Health {
    /// Whether nothing but another process can help.
    #[must_use]
    pub fn needs_a_new_process(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Failed(_))
    }
}
