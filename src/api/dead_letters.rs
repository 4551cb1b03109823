//! Dead letters: which records become one, how they are selected and shown, and what became of those that were replayed.

use super::typed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What becomes of a station's records that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterSettings {
    /// Records that fail validation are kept.
    pub invalid: bool,
    /// Records that were handed out this often without an acknowledgement are kept and no longer handed out; 0: never.
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
    /// It failed validation.
    Schema,
    /// It was handed out too often without an acknowledgement.
    Deliveries,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// Its number in the station's dead letters.
    pub id: u64,
    /// Why it is one.
    pub kind: DeadLetterKind,
    /// What was wrong with it.
    pub error: String,
    /// Schema that it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// And its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// Consumer group that did not acknowledge it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who posted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// When it became one, ms since 1970.
    pub time_ms: u64,
    /// The record's bytes, if they are UTF-8;
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// else as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_base64: Option<String>,
    /// Header fields that were, or would have been, stored with it.
    pub headers: BTreeMap<String, String>,
}

/// Which dead letters: these, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterSelection {
    /// Their numbers; absent: all that are there now.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "typed::present")]
    #[schema(nullable = false, max_items = 10_000)]
    pub ids: Option<Vec<u64>>,
}

/// What became of dead letters that were replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayReport {
    /// Stored in the station, and no longer dead letters.
    pub replayed: u64,
    /// Not valid now either, or not stored: they stay where they are.
    pub failed: Vec<ReplayFailure>,
}

/// A dead letter that stays one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayFailure {
    /// Its number.
    pub id: u64,
    /// Why.
    pub error: String,
}

/// How many dead letters were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeReport {
    /// So many.
    pub purged: u64,
}
