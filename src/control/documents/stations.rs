//! Stations: what only the gateway does with their records (docs/adr/0014). What a stream does stands in the stream, so a
//! station that was made on first use needs no document.

use super::{Document, FORMAT};
use crate::{
    control::streams::Adopted,
    directory::contracts::DELIVERIES_MAX_DEFAULT,
    limits::{DEAD_LETTERS_AGE, RETENTION_AGE_MAX},
    station::Name,
};
use serde::{Deserialize, Serialize};

/// What the registry says of a station, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct StationDocument {
    pub(in super::super) format: u32,
    /// What its records are held against.
    pub(in super::super) schema: Option<Name>,
    pub(in super::super) dead_letters: DeadLetters,
    /// The stream that it is, where the station's own layout does not say it.
    pub(in super::super) adopted: Option<Adopted>,
}

/// What becomes of records that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct DeadLetters {
    /// Records that fail validation are kept.
    pub(in super::super) invalid: bool,
    /// Records that were handed out this often without an acknowledgement are kept and handed out no more; 0: never.
    pub(in super::super) deliveries_max: u32,
    /// Seconds; 0 for ever.
    pub(in super::super) retention_age_s: u64,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { invalid: true, deliveries_max: DELIVERIES_MAX_DEFAULT, retention_age_s: DEAD_LETTERS_AGE.as_secs() }
    }
}

/// A station of which nothing was ever said.
impl Default for StationDocument {
    fn default() -> Self {
        Self { format: FORMAT, schema: None, dead_letters: DeadLetters::default(), adopted: None }
    }
}

impl Document for StationDocument {
    const PREFIX: &'static str = "stations.";
    const WHAT: &'static str = "Station";

    fn check(&self) -> Result<(), String> {
        if self.dead_letters.retention_age_s > RETENTION_AGE_MAX.as_secs() {
            return Err(format!("dead letters: a retention of more than {} s", RETENTION_AGE_MAX.as_secs()));
        }
        match &self.adopted {
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
}
