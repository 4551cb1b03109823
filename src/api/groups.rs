//! Consumer groups, as shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A consumer group of a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsumerGroupView {
    /// Its name.
    pub name: String,
    /// When it was made, ms since 1970; absent if an older version made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// When it was last used, ms since 1970: to the hour in the embedded store, as JetStream knows it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_ms: Option<u64>,
    /// Who made it: a user's name, or `key:` and the key's id; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}
