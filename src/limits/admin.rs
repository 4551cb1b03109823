//! Limits of the admin listener.

use super::CONTROL_BODY_BYTES_MAX;

/// Body of a request that adds a schema: 1 MiB of text with every byte escaped, and the rest as any.
pub const SCHEMA_BODY_BYTES_MAX: usize = 2 * 1024 * 1024 + CONTROL_BODY_BYTES_MAX;
