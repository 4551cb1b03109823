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

const _: () =
    assert!(REQUEST_TIMEOUT.as_secs() <= 2 * HOLD.as_secs() + ACK_TIMEOUT.as_secs(), "no longer than a publish");
