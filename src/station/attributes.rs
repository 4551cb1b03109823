//! What a station is made with, and what of it may be changed. Pure.

use crate::limits::{DUPLICATE_WINDOW_MAX, DUPLICATE_WINDOW_MIN, PARTITIONS_MAX, REPLICAS_MAX, RETENTION_AGE_MAX};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// On disk.
    File,
    /// In memory: gone when the server ends.
    Memory,
}

/// All attributes of a station, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// 1 to [`PARTITIONS_MAX`]; fixed once the station exists.
    pub partitions: u16,
    /// Records older than this go; `None` keeps them.
    pub retention_age: Option<Duration>,
    /// More records than this in a partition, and the oldest go.
    pub retention_records: Option<u64>,
    /// More bytes than this in a partition, and the oldest go.
    pub retention_bytes: Option<u64>,
    /// Records go when every consumer group has acknowledged them (the original's `ack_based`).
    pub retention_acknowledged: bool,
    /// Where records are kept; fixed once the station exists.
    pub storage: Storage,
    /// Copies.
    pub replicas: u8,
    /// How long a message id is remembered.
    pub duplicate_window: Duration,
}

impl Attributes {
    /// Returns the attributes of the dead letters of stations that are made with these by default: one partition and an
    /// age of its own, for they are few, and read long after their time.
    #[must_use]
    pub fn of_dead_letters(&self, retention_age: Option<Duration>) -> Self {
        Self {
            partitions: 1,
            retention_age,
            retention_records: None,
            retention_bytes: None,
            // A broker refuses a duplicate window that is longer than the records live.
            duplicate_window: retention_age.map_or(self.duplicate_window, |age| age.min(self.duplicate_window)),
            ..self.clone()
        }
    }

    /// Whether a station can be made with these; the text says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let window = self.duplicate_window;
        let age_max = RETENTION_AGE_MAX.as_secs();
        let rules = [
            (
                (1..=PARTITIONS_MAX).contains(&self.partitions),
                format!("a station has 1 to {PARTITIONS_MAX} partitions"),
            ),
            ((1..=REPLICAS_MAX).contains(&self.replicas), format!("a station has 1 to {REPLICAS_MAX} replicas")),
            (
                self.retention_age.is_none_or(|age| age <= RETENTION_AGE_MAX),
                format!("records are kept for at most {age_max} s, or for ever (0)"),
            ),
            (
                (DUPLICATE_WINDOW_MIN..=DUPLICATE_WINDOW_MAX).contains(&window),
                format!(
                    "the idempotency window is {} to {} ms",
                    DUPLICATE_WINDOW_MIN.as_millis(),
                    DUPLICATE_WINDOW_MAX.as_millis()
                ),
            ),
            (
                self.retention_age.is_none_or(|age| window <= age),
                "the idempotency window must not be longer than records are kept".to_owned(),
            ),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, text)| Err(text))
    }
}

/// What is to become of a station's attributes: `None` leaves one as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributesChange {
    /// `Some(None)` removes the limit.
    pub retention_age: Option<Option<Duration>>,
    /// `Some(None)` removes the limit.
    pub retention_records: Option<Option<u64>>,
    /// `Some(None)` removes the limit.
    pub retention_bytes: Option<Option<u64>>,
    /// Copies.
    pub replicas: Option<u8>,
    /// How long a message id is remembered.
    pub duplicate_window: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_kept_in_one_partition_with_an_age_of_their_own() {
        let own = Attributes {
            partitions: 5,
            retention_age: Some(Duration::from_secs(3_600)),
            retention_records: Some(7),
            retention_bytes: None,
            retention_acknowledged: false,
            storage: Storage::File,
            replicas: 3,
            duplicate_window: Duration::from_secs(120),
        };
        let week = Some(Duration::from_secs(7 * 24 * 60 * 60));
        let expect = Attributes { partitions: 1, retention_age: week, retention_records: None, ..own.clone() };
        assert_eq!(own.of_dead_letters(week), expect);
        let brief = Some(Duration::from_secs(1));
        assert_eq!(own.of_dead_letters(brief).duplicate_window, Duration::from_secs(1));
        assert_eq!(own.of_dead_letters(None).duplicate_window, own.duplicate_window);
    }
}
