//! Consumer groups, as shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A consumer group of a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsumerGroupView {
    /// Name of the group.
    pub name: String,
    /// When the group was created, in ms since 1970. It is absent if an older version of the gateway created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// When the group was last used, in ms since 1970. The embedded store knows the hour; JetStream knows it exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_ms: Option<u64>,
    /// Who created the group: the name of a user, or `key:` and the id of an API key. It is absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}
