//! Whether a gateway can serve requests.

use serde::Serialize;
use utoipa::ToSchema;

/// Whether requests can be served.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    #[expect(missing_docs, reason = "its doc comment would be part of the description")]
    pub ready: bool,
    /// What is missing.
    pub reasons: Vec<&'static str>,
}
