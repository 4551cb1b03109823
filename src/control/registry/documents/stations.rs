//! Stations: what only the gateway does with their records (docs/adr/0014), and the attributes that they were made
//! with. As long as a stream is there, its own configuration counts. A station that was made on first use, and never
//! changed, needs no document.

use super::{Document, FORMAT};
use crate::{
    control::streams::Adopted,
    directory::contracts::DELIVERIES_MAX_DEFAULT,
    limits::{DEAD_LETTERS_AGE, RETENTION_AGE_MAX},
    station::{Attributes, Name},
};
use serde::{Deserialize, Serialize};

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
    pub(in crate::control) given: Option<Attributes>,
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
    /// Returns the same document with these attributes.
    pub(in crate::control) fn with(&self, given: Option<Attributes>) -> Self {
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
        if let Some(given) = &self.given {
            given.check()?;
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
    use crate::station::Storage;
    use std::time::Duration;

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
            retention_acknowledged: true,
            storage: Storage::Memory,
            replicas: 3,
            duplicate_window: Duration::from_secs(1),
            ..Attributes::default()
        };
        let document = StationDocument::default().with(Some(attributes.clone()));
        let text = String::from_utf8(document.store().expect("stored")).expect("text");
        let loaded = StationDocument::load(text.as_bytes()).expect("whole");
        assert_eq!((&loaded.given, &loaded), (&Some(attributes), &document));
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
