//! API keys: how they are created and shown.

use super::texts::PatternText;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A key that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewKey {
    /// What it is for, in the owner's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1024)]
    pub description: Option<String>,
    /// Patterns of stations it may produce to; absent together with `consume`: none of either.
    #[schema(value_type = Vec<PatternText>, max_items = 256)]
    pub produce: Vec<String>,
    /// Patterns of stations it may consume from.
    #[schema(value_type = Vec<PatternText>, max_items = 256)]
    pub consume: Vec<String>,
    /// Whether it may use the admin API.
    pub admin: bool,
    /// Seconds until it is no longer good; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_153_600_000_u64)]
    pub expires_in_s: Option<u64>,
}

/// A key that was just made: the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key itself.
    pub key: String,
    /// What is shown of it from now on.
    #[serde(flatten)]
    pub view: KeyView,
}

/// A key, as shown: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// What it is called; the beginning of the key says it too.
    pub id: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Patterns of stations it may produce to.
    pub produce: Vec<String>,
    /// Patterns of stations it may consume from.
    pub consume: Vec<String>,
    /// Whether it may use the admin API.
    pub admin: bool,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
    /// When it is no longer good, ms since 1970; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Requests that this gateway has served with it since it started.
    pub requests: u64,
    /// The same within the last minute that is over.
    pub requests_last_minute: u64,
}
