//! Whether a gateway can serve requests.

use serde::Serialize;
use utoipa::ToSchema;

/// Whether the gateway can serve requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// Why it cannot; empty if it can.
    pub reasons: Vec<&'static str>,
}
