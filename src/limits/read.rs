//! Limits of reads by place and of waits for what comes (docs/adr/0037).

use super::{FETCH_BYTES_MAX, FETCH_RECORDS_MAX, FETCH_WAIT_MAX, REQUEST_TIMEOUT, STATIONS_PER_SHARD_MAX};
use std::time::Duration;

/// Records of one read.
pub const READ_RECORDS_MAX: u32 = FETCH_RECORDS_MAX;
/// Bytes of headers and payload of one read.
pub const READ_BYTES_MAX: usize = FETCH_BYTES_MAX;
/// Reads of one shard that are under way.
pub const READS_PER_SHARD_MAX: usize = 256;
/// A wait for new records lasts at most this long, whatever it asks for.
pub const RECORDS_WAIT_MAX: Duration = FETCH_WAIT_MAX;
/// Stations of one shard that are watched for new records.
pub const WATCHES_PER_SHARD_MAX: usize = 4_096;
/// Waits of one shard for new records. They cost a place in a table: the watch is one for all of a station.
pub const RECORD_WAITERS_PER_SHARD_MAX: usize = 65_536;
/// How long a station is still watched after the last wait on it has ended: who is woken reads, and waits again.
pub const WATCH_LINGER: Duration = Duration::from_secs(5);
/// Watches of all shards in the embedded store.
pub const LOCAL_WATCHES_MAX: usize = 65_536;

/// Records that the broker is asked for at a time.
pub const DIRECT_GET_RECORDS_MAX: u32 = 1_000;
/// Bytes that the broker is asked for at a time. It sends them without regard to how fast they are read; behind more than its
/// `max_pending` (64 MiB) it would end the shard's connection.
pub const DIRECT_GET_BYTES_MAX: usize = 512 * 1024;
/// Bytes that a server adds to each record: the names of its stream and subject, numbers, a time.
pub const DIRECT_GET_PLACE_BYTES_MAX: usize = 2 * 1024;
/// Such requests of one shard that are under way.
pub const DIRECT_GETS_PER_SHARD_MAX: usize = 16;
/// Records of one read where they are asked for one by one.
pub const SINGLE_GETS_PER_READ_MAX: usize = 256;
/// Bytes of what the broker says of a stream, beside one largest record.
pub const STREAM_INFO_BYTES_MAX: usize = 1024 * 1024;
/// How long the broker may take to answer such a request.
pub const DIRECT_GET_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the broker is asked whether something came to a station that is watched: at least so long after it had something,
pub const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// and at most so long when it has been quiet.
pub const WATCH_INTERVAL_MAX: Duration = Duration::from_millis(400);
/// Partitions of one station that the broker is asked about at a time; the others have the next turn.
pub const WATCH_PARTITIONS_AT_ONCE: usize = 16;

const _: () = assert!(WATCHES_PER_SHARD_MAX <= STATIONS_PER_SHARD_MAX && WATCHES_PER_SHARD_MAX <= LOCAL_WATCHES_MAX);
const _: () = assert!(DIRECT_GET_BYTES_MAX <= READ_BYTES_MAX && DIRECT_GET_RECORDS_MAX <= READ_RECORDS_MAX);
const _: () = assert!(
    DIRECT_GETS_PER_SHARD_MAX * DIRECT_GET_BYTES_MAX <= 16 * 1024 * 1024,
    "far below what the broker holds back for a connection"
);
const _: () = assert!(DIRECT_GET_TIMEOUT.as_secs() < REQUEST_TIMEOUT.as_secs());
const _: () = assert!(WATCH_INTERVAL_MIN.as_millis() < WATCH_INTERVAL_MAX.as_millis());
