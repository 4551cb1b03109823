//! Stations: what only the gateway does with their records (docs/adr/0014), and the attributes that they were made
//! with. As long as a stream is there, its own configuration counts. A station that was made on first use, and never
//! changed, needs no document.

use super::{Document, FORMAT};
use crate::{
    control::streams::Adopted,
    directory::contracts::DELIVERIES_MAX_DEFAULT,
    limits::{DEAD_LETTERS_AGE, RETENTION_AGE_MAX},
    station::{Attributes, Name, Storage},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the registry says of a station, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct StationDocument {
    pub(in crate::control) format: u32,
    /// The schema that its records are validated by.
    pub(in crate::control) schema: Option<Name>,
    pub(in crate::control) dead_letters: DeadLetters,
    /// The stream that it is, where the station's own layout does not say it.
    pub(in crate::control) adopted: Option<Adopted>,
    /// The attributes that its streams are made with if they were lost. Absent in documents that an older gateway
    /// wrote.
    #[serde(default, rename = "attributes", skip_serializing_if = "Option::is_none")]
    pub(in crate::control) given: Option<Given>,
}

/// A station's attributes as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Given {
    partitions: u16,
    /// `None` keeps records whatever their age.
    retention_age_ms: Option<u64>,
    retention_records: Option<u64>,
    retention_bytes: Option<u64>,
    retention_acknowledged: bool,
    storage: Storage,
    replicas: u8,
    idempotency_window_ms: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&Attributes> for Given {
    fn from(attributes: &Attributes) -> Self {
        Self {
            partitions: attributes.partitions,
            retention_age_ms: attributes.retention_age.map(millis),
            retention_records: attributes.retention_records,
            retention_bytes: attributes.retention_bytes,
            retention_acknowledged: attributes.retention_acknowledged,
            storage: attributes.storage,
            replicas: attributes.replicas,
            idempotency_window_ms: millis(attributes.duplicate_window),
        }
    }
}

impl From<&Given> for Attributes {
    fn from(given: &Given) -> Self {
        Self {
            partitions: given.partitions,
            retention_age: given.retention_age_ms.map(Duration::from_millis),
            retention_records: given.retention_records,
            retention_bytes: given.retention_bytes,
            retention_acknowledged: given.retention_acknowledged,
            storage: given.storage,
            replicas: given.replicas,
            duplicate_window: Duration::from_millis(given.idempotency_window_ms),
        }
    }
}

/// What becomes of records that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct DeadLetters {
    /// Records that fail validation are kept.
    pub(in crate::control) invalid: bool,
    /// Records that were delivered this often without an acknowledgement are kept and no longer delivered; 0: never.
    pub(in crate::control) deliveries_max: u32,
    /// Seconds; 0 for ever.
    pub(in crate::control) retention_age_s: u64,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { invalid: true, deliveries_max: DELIVERIES_MAX_DEFAULT, retention_age_s: DEAD_LETTERS_AGE.as_secs() }
    }
}

/// A station that was never configured.
impl Default for StationDocument {
    fn default() -> Self {
        Self { format: FORMAT, schema: None, dead_letters: DeadLetters::default(), adopted: None, given: None }
    }
}

impl StationDocument {
    /// Returns the attributes that the station's streams are made with if they were lost.
    pub(in crate::control) fn attributes(&self) -> Option<Attributes> {
        self.given.as_ref().map(Attributes::from)
    }

    /// Returns the same document with these attributes.
    pub(in crate::control) fn with(&self, given: Option<Given>) -> Self {
        Self { given, ..self.clone() }
    }
}

impl Document for StationDocument {
    const PREFIX: &'static str = "stations.";
    const WHAT: &'static str = "Station";

    fn check(&self) -> Result<(), String> {
        if self.dead_letters.retention_age_s > RETENTION_AGE_MAX.as_secs() {
            return Err(format!("dead letters: a retention of more than {} s", RETENTION_AGE_MAX.as_secs()));
        }
        if let Some(attributes) = self.attributes() {
            attributes.check()?;
        }
        match &self.adopted {
            Some(_) if self.given.is_some() => Err("an adopted station has the attributes of its stream".to_owned()),
            Some(adopted) if adopted.stream.is_empty() || adopted.subject.is_empty() => {
                Err("an adopted station needs a stream and a subject".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_that_are_whole_load() {
        let name = Name::parse("prices").expect("a name");
        let adopted = Some(Adopted { stream: "S".to_owned(), subject: "a.b".to_owned() });
        let document = StationDocument { schema: Some(name), adopted, ..StationDocument::default() };
        let text = String::from_utf8(document.store().expect("stored")).expect("text");
        assert_eq!(StationDocument::load(text.as_bytes()), Ok(document));
        for (from, to, expect) in [
            ("\"prices\"", "\"a b\"", "wrong type"),
            ("\"S\"", "\"\"", "needs a stream"),
            ("\"subject\"", "\"subjekt\"", "unknown"),
            ("604800", "99999999999", "retention"),
            ("\"invalid\":true,", "", "missing"),
        ] {
            let reason = StationDocument::load(text.replace(from, to).as_bytes()).expect_err("a fault");
            assert!(reason.contains(expect), "{to}: {reason}");
        }
    }

    #[test]
    fn r5_what_a_station_was_given_comes_back_and_is_checked() {
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
        let document = StationDocument::default().with(Some(Given::from(&attributes)));
        let text = String::from_utf8(document.store().expect("stored")).expect("text");
        let loaded = StationDocument::load(text.as_bytes()).expect("whole");
        assert_eq!((loaded.attributes(), &loaded), (Some(attributes), &document));
        for (from, to, expect) in [
            ("\"partitions\":3", "\"partitions\":0", "partitions"),
            ("\"replicas\":3", "\"replicas\":6", "replicas"),
            ("\"idempotency_window_ms\":1000", "\"idempotency_window_ms\":1501", "longer than"),
            ("\"storage\":\"memory\"", "\"storage\":\"tape\"", "wrong type"),
            ("\"adopted\":null", "\"adopted\":{\"stream\":\"S\",\"subject\":\"s\"}", "adopted"),
        ] {
            let reason = StationDocument::load(text.replace(from, to).as_bytes()).expect_err("a fault");
            assert!(reason.contains(expect), "{to}: {reason}");
        }
        // As it was written before attributes were kept.
        let old = String::from_utf8(StationDocument::default().store().expect("stored")).expect("text");
        assert!(!old.contains("attributes"), "{old}");
        assert_eq!(StationDocument::load(old.as_bytes()), Ok(StationDocument::default()));
    }
}
