//! Limits of the admin listener.

use super::CONTROL_BODY_BYTES_MAX;
use std::time::Duration;

/// Body of a request that adds a schema: 1 MiB of text with every byte escaped, and the rest as any.
pub const SCHEMA_BODY_BYTES_MAX: usize = 2 * 1024 * 1024 + CONTROL_BODY_BYTES_MAX;
/// Entries of one page of a list.
pub const PAGE_MAX: usize = 1_000;
/// Connections of the admin listener.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Requests of the admin API at a time; the other connections are left to health, readiness and metrics.
pub const ADMIN_API_REQUESTS_MAX: usize = ADMIN_CONNECTIONS_MAX * 3 / 4;
/// From the end of a response of the admin listener (or the accept) to the end of the next head.
pub const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a head on the admin listener.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a head on the admin listener.
pub const ADMIN_HEAD_FIELDS_MAX: usize = 64;
/// From the end of such a head to the answer, the body included.
pub const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The same for a request that goes through all dead letters of a station. What it has done by then stays done.
pub const ADMIN_SWEEP_TIMEOUT: Duration = Duration::from_secs(100);
/// Age at which a connection of the admin listener is closed, after the request that it serves.
pub const ADMIN_CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Time that a connection then has to write its last answer.
pub const ADMIN_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(ADMIN_API_REQUESTS_MAX < ADMIN_CONNECTIONS_MAX, "health and metrics have places of their own");
const _: () = assert!(
    ADMIN_REQUEST_TIMEOUT.as_secs() < ADMIN_SWEEP_TIMEOUT.as_secs()
        && ADMIN_SWEEP_TIMEOUT.as_secs() < ADMIN_CONNECTION_TIMEOUT.as_secs()
);
