//! The attributes of a station: what it is made with, and what of it may be changed. Pure.
//!
//! One type goes from the settings and the admin API to the streams and the embedded store, and into the registry
//! (docs/adr/0041). Its defaults, its rules and its stored form are here. A new attribute with a default for documents
//! that do not have it (`serde(default)`) can be read from what older gateways wrote.

use crate::limits::{
    DUPLICATE_WINDOW, DUPLICATE_WINDOW_MAX, DUPLICATE_WINDOW_MIN, PARTITIONS_MAX, REPLICAS_MAX, RETENTION_AGE_MAX,
};
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

/// All attributes of a station, complete. As JSON they are what the registry stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// 1 to [`PARTITIONS_MAX`]; fixed once the station exists.
    pub partitions: u16,
    /// Records older than this go; `None` keeps them.
    #[serde(rename = "retention_age_ms", with = "millis_or_none", default)]
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
    #[serde(rename = "idempotency_window_ms", with = "millis")]
    pub duplicate_window: Duration,
}

/// What a station has where nobody says otherwise, as in the original.
impl Default for Attributes {
    fn default() -> Self {
        Self {
            partitions: 1,
            retention_age: Some(Duration::from_secs(3_600)),
            retention_records: None,
            retention_bytes: None,
            retention_acknowledged: false,
            storage: Storage::File,
            replicas: 1,
            duplicate_window: DUPLICATE_WINDOW,
        }
    }
}

impl Attributes {
    /// Returns the attributes of the dead letters of stations that are made with these by default: one partition and an
    /// age of its own, for they are few, and read long after their time.
    #[must_use]
    pub fn of_dead_letters(&self, retention_age: Option<Duration>) -> Self {
        let own = Self { partitions: 1, retention_age, retention_records: None, retention_bytes: None, ..self.clone() };
        own.with_possible_window()
    }

    /// Returns the same attributes with a duplicate window that is no longer than records live: a broker refuses a
    /// longer one.
    #[must_use]
    pub fn with_possible_window(self) -> Self {
        let duplicate_window = self.retention_age.map_or(self.duplicate_window, |age| age.min(self.duplicate_window));
        Self { duplicate_window, ..self }
    }

    /// Returns the attributes as they are when they were stored and loaded: in whole milliseconds.
    #[must_use]
    pub fn in_whole_millis(&self) -> Self {
        let whole = |duration: Duration| Duration::from_millis(millis::of(duration));
        Self {
            retention_age: self.retention_age.map(whole),
            duplicate_window: whole(self.duplicate_window),
            ..self.clone()
        }
    }

    /// Returns what the attributes become.
    #[must_use]
    pub fn changed(&self, change: &AttributesChange) -> Self {
        Self {
            retention_age: change.retention_age.unwrap_or(self.retention_age),
            retention_records: change.retention_records.unwrap_or(self.retention_records),
            retention_bytes: change.retention_bytes.unwrap_or(self.retention_bytes),
            replicas: change.replicas.unwrap_or(self.replicas),
            duplicate_window: change.duplicate_window.unwrap_or(self.duplicate_window),
            ..self.clone()
        }
    }

    /// Returns the change that leads to what is asked for: what is so already is left out, and a duplicate window that
    /// is not named follows a shorter retention. The error says what is wrong.
    pub fn change_to(&self, asked: &AttributesChange) -> Result<AttributesChange, String> {
        fn other<T: PartialEq>(asked: Option<T>, known: &T) -> Option<T> {
            asked.filter(|asked| asked != known)
        }
        let mut then = self.changed(asked);
        if asked.duplicate_window.is_none() {
            then = then.with_possible_window();
        }
        let retention_age = other(asked.retention_age, &self.retention_age);
        // What somebody else gave a stream may break the rules, as long as nothing is asked about it.
        if asked.duplicate_window.is_some() || asked.replicas.is_some() || retention_age.is_some() {
            then.check()?;
        }
        Ok(AttributesChange {
            retention_age,
            retention_records: other(asked.retention_records, &self.retention_records),
            retention_bytes: other(asked.retention_bytes, &self.retention_bytes),
            replicas: other(asked.replicas, &self.replicas),
            duplicate_window: other(Some(then.duplicate_window), &self.duplicate_window),
        })
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

/// Durations in stored documents: whole milliseconds.
mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn of(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(of(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// The same, where there may be none.
mod millis_or_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(super::millis::of).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    #[test]
    fn dead_letters_are_kept_in_one_partition_with_an_age_of_their_own() {
        let own = Attributes { partitions: 5, retention_records: Some(7), replicas: 3, ..Attributes::default() };
        let expect = Attributes { partitions: 1, retention_age: Some(WEEK), retention_records: None, ..own.clone() };
        assert_eq!(own.of_dead_letters(Some(WEEK)), expect);
        let brief = Some(Duration::from_secs(1));
        assert_eq!(own.of_dead_letters(brief).duplicate_window, Duration::from_secs(1));
        assert_eq!(own.of_dead_letters(None).duplicate_window, own.duplicate_window);
    }

    #[test]
    fn the_defaults_follow_the_rules() {
        assert_eq!(Attributes::default().check(), Ok(()));
    }

    /// As gateways have written them since attributes are stored.
    const STORED: &str = r#"{"partitions":3,"retention_age_ms":1500,"retention_records":5,"retention_bytes":null,"#;
    const STORED_REST: &str =
        r#""retention_acknowledged":true,"storage":"memory","replicas":3,"idempotency_window_ms":1000}"#;

    #[test]
    fn what_earlier_gateways_stored_is_read_and_is_still_written_so() {
        let text = [STORED, STORED_REST].concat();
        let attributes = Attributes {
            partitions: 3,
            retention_age: Some(Duration::from_millis(1_500)),
            retention_records: Some(5),
            retention_bytes: None,
            retention_acknowledged: true,
            storage: Storage::Memory,
            replicas: 3,
            duplicate_window: Duration::from_secs(1),
        };
        assert_eq!(serde_json::from_str::<Attributes>(&text).expect("attributes"), attributes);
        assert_eq!(serde_json::to_string(&attributes).expect("text"), text);
        let for_ever = text.replace("1500", "null");
        assert_eq!(serde_json::from_str::<Attributes>(&for_ever).expect("attributes").retention_age, None);
        assert!(serde_json::from_str::<Attributes>(&text.replace("replicas", "copies")).is_err());
        let fine = Attributes { duplicate_window: Duration::from_micros(1_000_999), ..attributes.clone() };
        assert_eq!(fine.in_whole_millis(), attributes);
    }

    #[test]
    fn a_change_names_what_is_another_and_can_be() {
        let known = Attributes::default();
        let none = AttributesChange::default;
        let window = |secs| Some(Duration::from_secs(secs));
        let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
        for (asked, expect) in [
            (none(), Ok(none())),
            (
                AttributesChange {
                    retention_age: Some(Some(hour)),
                    replicas: Some(1),
                    retention_bytes: Some(None),
                    duplicate_window: window(120),
                    ..none()
                },
                Ok(none()),
            ),
            // The window goes with a shorter retention, unless it is named.
            (
                AttributesChange { retention_age: Some(Some(minute)), retention_records: Some(Some(5)), ..none() },
                Ok(AttributesChange {
                    retention_age: Some(Some(minute)),
                    retention_records: Some(Some(5)),
                    duplicate_window: window(60),
                    ..none()
                }),
            ),
            (
                AttributesChange { retention_age: Some(Some(minute)), duplicate_window: window(61), ..none() },
                Err("longer than"),
            ),
            (
                AttributesChange { retention_age: Some(None), ..none() },
                Ok(AttributesChange { retention_age: Some(None), ..none() }),
            ),
            (AttributesChange { replicas: Some(6), ..none() }, Err("1 to 5 replicas")),
        ] {
            match (known.change_to(&asked), expect) {
                (Ok(change), Ok(expect)) => assert_eq!(change, expect, "{asked:?}"),
                (Err(text), Err(part)) => assert!(text.contains(part), "{asked:?}: {text}"),
                (found, _) => panic!("{asked:?}: {found:?}"),
            }
        }
        // A stream that somebody else made, which knows no ids: what is not asked about is not looked at.
        let foreign = Attributes { duplicate_window: Duration::ZERO, ..known };
        let asked = AttributesChange { retention_records: Some(Some(5)), ..none() };
        assert_eq!(foreign.change_to(&asked), Ok(asked.clone()));
        assert!(foreign.change_to(&AttributesChange { replicas: Some(3), ..none() }).is_err());
    }
}
