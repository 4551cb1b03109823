//! Limits of stations, and of what a shard knows of them.

use super::{ACK_TIMEOUT, HOLD};
use std::time::Duration;

/// Bytes of a station, group or user name.
pub const NAME_BYTES_MAX: usize = 128;
/// How often the control plane is asked about a station that records are published to again.
pub const STATION_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Stations that a shard remembers.
pub const STATIONS_PER_SHARD_MAX: usize = 65_536;
/// Requests of one shard that the control plane has not answered.
pub const REQUESTS_PER_SHARD_MAX: usize = 1_024;
/// How long a request waits for the control plane.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long "there is no such station" is remembered.
pub const STATION_ABSENT_TTL: Duration = Duration::from_secs(2);
/// Records and API keys live at most this long, unless for ever: a hundred years, within what a broker counts in
/// nanoseconds.
pub const RETENTION_AGE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Partitions of one station (the original's bound).
pub const PARTITIONS_MAX: u16 = 10_000;
/// Updates for one shard that are no answers and may stand in its queue beside them.
pub const UPDATES_PER_SHARD_MAX: usize = 64;
/// How long a shard may take to take an update: it is busy with one turn of its loop at the most.
pub const UPDATE_TAKEN_TIMEOUT: Duration = Duration::from_millis(500);
/// Requests of shards for which the backend is asked at a time.
pub const RESOLVED_AT_ONCE_MAX: usize = 64;
/// How long the control plane works on such a request: it ends before the shard stops waiting for the answer.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(9);

const _: () =
    assert!(REQUEST_TIMEOUT.as_secs() <= 2 * HOLD.as_secs() + ACK_TIMEOUT.as_secs(), "no longer than a publish");
const _: () = assert!(RESOLVE_TIMEOUT.as_secs() < REQUEST_TIMEOUT.as_secs(), "the answer finds its shard waiting");
