//! Dead letters: which records become one, how they are selected and shown, and what became of those that were
//! replayed.

use super::typed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Which records of a station become dead letters, and how long those are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterSettings {
    /// Whether records that fail validation become dead letters.
    pub invalid: bool,
    /// Deliveries without an acknowledgement after which a record becomes a dead letter and is no longer delivered; 0
    /// for no limit.
    #[schema(maximum = 4_294_967_295_u64)]
    pub deliveries_max: u32,
    /// Seconds that dead letters are kept; 0 for ever.
    #[schema(maximum = 3_153_600_000_u64)]
    pub retention_age_s: u64,
}

/// Why a record is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeadLetterKind {
    /// The record failed validation.
    Schema,
    /// The record was delivered too often without an acknowledgement.
    Deliveries,
}

/// A dead letter: a record that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// Number of the dead letter among those of its station.
    pub id: u64,
    /// Why the record is a dead letter.
    pub kind: DeadLetterKind,
    /// What was wrong with the record.
    pub error: String,
    /// Name of the schema that the record failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Version of that schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// Consumer group that did not acknowledge the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// User or API key that produced the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// When the record became a dead letter, in ms since 1970.
    pub time_ms: u64,
    /// Payload of the record, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Payload of the record in base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_base64: Option<String>,
    /// Header fields that were, or would have been, stored with the record.
    pub headers: BTreeMap<String, String>,
}

/// A selection of dead letters: these, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterSelection {
    /// Numbers of the dead letters. If it is absent, all that exist now are selected.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::present")]
    #[schema(nullable = false, max_items = 10_000)]
    pub ids: Option<Vec<u64>>,
}

/// The result of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayReport {
    /// Number of records that were stored in the station and are no longer dead letters.
    pub replayed: u64,
    /// Dead letters that are still not valid, or could not be stored. They stay dead letters.
    pub failed: Vec<ReplayFailure>,
}

/// A dead letter that could not be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayFailure {
    /// Number of the dead letter.
    pub id: u64,
    /// Why it could not be replayed.
    pub error: String,
}

/// The result of a purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeReport {
    /// Number of dead letters that were removed.
    pub purged: u64,
}
