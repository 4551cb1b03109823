//! Limits of the embedded store (docs/adr/0009). Where both stores share a limit, it stands with what it bounds.

use super::{
    FETCH_BYTES_MAX, FETCH_RECORDS_MAX, GROUPS_PER_PRINCIPAL_MAX, INFLATED_BYTES_MAX, RECORD_HEADER_BYTES_MAX,
    REGISTRY_DOCUMENT_BYTES_MAX,
};
use std::time::Duration;

/// Bytes of one record (stored headers and payload) in the embedded store: the broker's usual `max_payload`.
pub const LOCAL_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Jobs that wait for the embedded store's writer.
pub const LOCAL_JOBS_MAX: usize = 4_096;
/// Bytes of the jobs that wait for the embedded store's writer.
pub const LOCAL_QUEUE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Records of one commit of the embedded store.
pub const LOCAL_COMMIT_RECORDS_MAX: usize = 16_384;
/// Bytes of one commit of the embedded store; the record that crosses it is the last.
pub const LOCAL_COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Records of one chunk, which is one key of the embedded store. Part of its format: a reader looks this far for the
/// chunk that holds a record.
pub const LOCAL_CHUNK_RECORDS_MAX: usize = 256;
/// Bytes of one chunk, unless it is a single larger record.
pub const LOCAL_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Buffers for chunks that the embedded store's writer keeps for the next ones.
pub const LOCAL_CHUNK_BUFFERS_MAX: usize = 64;
/// Bytes of the message ids that the embedded store remembers; past it the oldest are forgotten before their time.
pub const LOCAL_IDS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Messages from all shards that wait for the embedded store's reader: consume calls, settlements.
pub const LOCAL_REQUESTS_MAX: usize = 4_096;
/// Consume calls that wait in the embedded store for messages to come.
pub const LOCAL_WAITERS_MAX: usize = 4_096;
/// Bytes that waiting consume calls have gathered so far; past it they are answered with what they have.
pub const LOCAL_WAITERS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages that one consumer group has in flight.
pub const LOCAL_IN_FLIGHT_MAX: usize = 131_072;
/// Messages that were delivered to all consumer groups together and are not acknowledged, those to be delivered again
/// included; past it only these are delivered.
pub const LOCAL_OPEN_MAX: usize = 2 * 1024 * 1024;
/// Runs of unacknowledged messages that are saved of a group's place in one partition.
pub const LOCAL_CURSOR_RUNS_MAX: usize = 4_096;
/// Bytes of new records in memory before they are written out sorted.
pub const LOCAL_RECORDS_MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// The same for each of the embedded store's other keyspaces, which are small.
pub const LOCAL_SMALL_MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Memtables of one keyspace that wait to be written out. With one more, the database would stop its writer
/// with no end in sight.
pub const LOCAL_SEALED_MEMTABLES_MAX: usize = 3;
/// Sorted runs that compaction has not merged yet. Ten more, and the database would stop its writer.
pub const LOCAL_RUNS_MAX: usize = 20;
/// Bytes of all keyspaces that lie in memory and are not written out sorted; past it the writer waits.
pub const LOCAL_UNFLUSHED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of complete journals at which what holds on to the oldest is written out. Not a hard bound: what
/// [`LOCAL_UNFLUSHED_BYTES_MAX`] allows comes on top until that is done.
pub const LOCAL_JOURNALS_BYTES: u64 = 256 * 1024 * 1024;
/// Free bytes of the embedded store's device below which it takes no records, beside what it has still to write out:
/// this part of the device, within the two bounds. Merging tables needs room before it gives any back.
pub const LOCAL_RESERVE_PART: u64 = 16;
/// The least that is kept free for the embedded store.
pub const LOCAL_RESERVE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// The most that is kept free for the embedded store, beside what it has still to write out.
pub const LOCAL_RESERVE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of blocks read from the embedded store that are kept in memory.
pub const LOCAL_CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Consumer groups of an embedded store that one principal has made.
pub const LOCAL_GROUPS_PER_PRINCIPAL_MAX: usize = 1_000;
/// Consumer groups of an embedded store.
pub const LOCAL_GROUPS_MAX: usize = 10_000;
/// Partitions of all stations of an embedded store.
pub const LOCAL_PARTITIONS_MAX: usize = 65_536;
/// Bytes of one registry document of the embedded store. The largest holds all versions of a schema.
pub const LOCAL_DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records of one partition of the embedded store that were removed from between others and are remembered one by one:
/// dead letters that were replayed. What retention passes is forgotten.
pub const LOCAL_REMOVED_MAX: usize = 65_536;
/// Bytes of records that are read for their own sake at a time.
pub const LOCAL_READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes that are hashed at most while looking for a valid batch behind an invalid one. It bounds the time that a
/// payload made to look like journal can take.
pub const LOCAL_JOURNAL_SEARCH_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How far the number of a batch behind an invalid one can be ahead.
pub const LOCAL_JOURNAL_SEARCH_AHEAD_MAX: u64 = 1 << 32;
/// Ids of partitions that an embedded store can give out in its life: 67 million.
pub const LOCAL_PARTITION_IDS_MAX: u32 = 8_192 * 8_192;
/// How often the manifest is read because it was replaced while its tables were looked at.
pub const LOCAL_MANIFEST_READS_MAX: usize = 3;
/// How long after a failure the embedded store is opened anew; each failure without a commit between doubles it.
pub const LOCAL_REOPEN_PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest of these waits.
pub const LOCAL_REOPEN_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Failures without a commit between, after which the store is lost.
pub const LOCAL_REOPEN_FAILURES_MAX: u32 = 3;

const _: () = assert!(
    INFLATED_BYTES_MAX + RECORD_HEADER_BYTES_MAX <= LOCAL_QUEUE_BYTES_MAX,
    "one largest request fits the embedded store's queue"
);
const _: () = assert!(LOCAL_RECORD_BYTES_MAX <= LOCAL_COMMIT_BYTES_MAX);
const _: () = assert!(
    LOCAL_COMMIT_BYTES_MAX as u64 <= LOCAL_RESERVE_BYTES_MIN / 2,
    "a commit that gives space back finds room where one of records does not"
);
const _: () = assert!(LOCAL_RESERVE_BYTES_MIN <= LOCAL_RESERVE_BYTES_MAX);
const _: () = assert!(LOCAL_CHUNK_RECORDS_MAX <= LOCAL_COMMIT_RECORDS_MAX);
const _: () = assert!(LOCAL_CHUNK_BYTES_MAX <= LOCAL_COMMIT_BYTES_MAX);
const _: () = assert!(LOCAL_RECORD_BYTES_MAX <= FETCH_BYTES_MAX);
const _: () = assert!(LOCAL_DOCUMENT_BYTES_MAX <= LOCAL_COMMIT_BYTES_MAX, "a document is a commit of its own");
const _: () = assert!(LOCAL_RECORD_BYTES_MAX <= LOCAL_READ_BYTES_MAX);
const _: () = assert!(FETCH_RECORDS_MAX as usize <= LOCAL_IN_FLIGHT_MAX);
const _: () = assert!(LOCAL_IN_FLIGHT_MAX <= LOCAL_OPEN_MAX);
const _: () = assert!(LOCAL_GROUPS_PER_PRINCIPAL_MAX < LOCAL_GROUPS_MAX, "nor those of the store");
const _: () = assert!(GROUPS_PER_PRINCIPAL_MAX <= LOCAL_GROUPS_PER_PRINCIPAL_MAX);
const _: () = assert!(
    LOCAL_RECORDS_MEMTABLE_BYTES + 3 * LOCAL_SMALL_MEMTABLE_BYTES < LOCAL_UNFLUSHED_BYTES_MAX,
    "what is too small to be written out does not make the writer wait"
);
const _: () = assert!(REGISTRY_DOCUMENT_BYTES_MAX < LOCAL_DOCUMENT_BYTES_MAX);
const _: () = assert!(LOCAL_PARTITIONS_MAX <= LOCAL_PARTITION_IDS_MAX as usize);
const _: () = assert!(LOCAL_REOPEN_PAUSE_MIN.as_millis() <= LOCAL_REOPEN_PAUSE_MAX.as_millis());
