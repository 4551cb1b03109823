//! Limits of streams: requests that go on for as long as their client wants.

use super::CONNECTIONS_PER_SHARD_MAX;

/// Streams of one shard that are open.
pub const OPEN_STREAMS_PER_SHARD_MAX: usize = 8_192;
/// Of these, those of one user or API key.
pub const OPEN_STREAMS_OF_PRINCIPAL_MAX: usize = 2_048;

const _: () = assert!(OPEN_STREAMS_OF_PRINCIPAL_MAX < OPEN_STREAMS_PER_SHARD_MAX, "no principal takes all");
const _: () = assert!(OPEN_STREAMS_PER_SHARD_MAX < CONNECTIONS_PER_SHARD_MAX, "other requests find a connection");
