//! API keys: how they are created and shown.

use super::texts::PatternText;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A new API key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewKey {
    /// What the key is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1024)]
    pub description: Option<String>,
    /// Patterns of the stations that the key may produce to. If it is absent, the key may produce to none.
    #[schema(value_type = Vec<PatternText>, max_items = 256)]
    pub produce: Vec<String>,
    /// Patterns of the stations that the key may consume from. If it is absent, the key may consume from none.
    #[schema(value_type = Vec<PatternText>, max_items = 256)]
    pub consume: Vec<String>,
    /// Whether the key may use the admin API.
    pub admin: bool,
    /// Seconds until the key expires. If it is absent, the key never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_153_600_000_u64)]
    pub expires_in_s: Option<u64>,
}

/// An API key that was just created. It is shown here and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key itself.
    pub key: String,
    /// What is shown of the key from now on.
    #[serde(flatten)]
    pub view: KeyView,
}

/// What is shown of an API key: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Id of the key. It is also a part of the key, between the first two underscores.
    pub id: String,
    /// What the key is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Patterns of the stations that the key may produce to.
    pub produce: Vec<String>,
    /// Patterns of the stations that the key may consume from.
    pub consume: Vec<String>,
    /// Whether the key may use the admin API.
    pub admin: bool,
    /// When the key was created, in ms since 1970.
    pub created_ms: u64,
    /// When the key expires, in ms since 1970. If it is absent, the key never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Requests with the key that this gateway has served since it started.
    pub requests: u64,
    /// Requests with the key that this gateway has served in the last full minute.
    pub requests_last_minute: u64,
}
