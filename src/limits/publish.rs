//! Limits of a produce call, from the split batch to the acknowledged record: the publish window, and what is published
//! again (docs/adr/0018).

use std::time::Duration;

/// Records in one batch.
pub const BATCH_RECORDS_MAX: usize = 100_000;
/// Nesting of one JSON value (docs/adr/0008).
pub const JSON_DEPTH_MAX: usize = 1_024;
/// Bytes of stored header fields of one record: they travel with each record of a batch.
pub const RECORD_HEADER_BYTES_MAX: usize = 8 * 1024;
/// Names of header fields of which a shard remembers whether they are stored.
pub const HEADER_NAMES_KNOWN_MAX: usize = 64;
/// Bytes of such a name; a longer one is looked at each time.
pub const HEADER_NAME_KNOWN_BYTES_MAX: usize = 64;
/// Bytes of a message id as it is sent; a blank in it and the number of a batch's record come on top.
pub const MESSAGE_ID_BYTES_MAX: usize = 256;
/// Publishes in flight of the process, shared out among its shards. JetStream drops what exceeds 10,000
/// messages (2.11) or 100,000 (later) queued on a stream.
pub const WINDOW_MESSAGES_MAX: usize = 8_192;
/// Bytes in flight of the process, shared out among its shards. JetStream drops what exceeds 128 MB queued on a stream.
pub const WINDOW_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What one request may take of the window before others have had their turn.
pub const WINDOW_GRANT_MESSAGES: usize = 1_024;
/// How long records are published again that were refused for the moment, in holds: an election takes 4 to 9 s after a
/// server was lost, and next to nothing when a leader hands over (docs/adr/0018).
pub const REPUBLISH_HOLDS: u32 = 2;
/// How long to wait before records are published again that were refused for the moment, at least and at most.
pub const REPUBLISH_PAUSE_MIN: Duration = Duration::from_millis(100);
/// See [`REPUBLISH_PAUSE_MIN`].
pub const REPUBLISH_PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long a record with a message id waits for its answer from a cluster before it is published again, at least:
/// longer where the broker is slow.
pub const REPUBLISH_AFTER: Duration = Duration::from_millis(1_500);
/// Work space of publishes that a shard keeps for reuse, and how many records one of it may have been for.
pub const PUBLISH_SPARES_MAX: usize = 64;
/// See [`PUBLISH_SPARES_MAX`].
pub const PUBLISH_SPARE_RECORDS_MAX: usize = 2_048;
/// What is kept beside each record of a batch while it is stored: its span, outcome, place in the window.
pub const RECORD_OVERHEAD_BYTES: usize = 128;
/// Requests that wait for room in the window.
pub const WINDOW_WAITERS_MAX: usize = 1_024;
/// From publish to acknowledgement; past it the outcome is unknown.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits for room in the window, or for a broker that is away, before it is refused.
pub const HOLD: Duration = Duration::from_secs(5);
/// A produce call begins nothing new so long after it is there: no look at the control plane, no publish or part or
/// repetition of one, dead letters included. What is under way by then comes to its end by its own limit.
pub const PRODUCE_TIMEOUT: Duration = Duration::from_secs(35);
/// Errors that the answer to a batch lists; more are counted.
pub const ERRORS_LISTED_MAX: usize = 1_000;
/// Bytes of the errors that the answer to a batch lists; the one that crosses it is the last.
pub const ERRORS_LISTED_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a receipt in the answer, beside the name of its stream. Room for all of them is taken before anything is
/// stored.
pub const RECEIPT_BYTES: usize = 96;
/// Message ids are remembered at least so long and at most so long (the original's bounds).
pub const DUPLICATE_WINDOW_MIN: Duration = Duration::from_millis(100);
/// How long they are remembered unless a user sets another time.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// See [`DUPLICATE_WINDOW_MIN`].
pub const DUPLICATE_WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const _: () = assert!(WINDOW_BYTES_MAX < 64 * 1024 * 1024, "stays under half of a stream's ingest queue");
const _: () = assert!(WINDOW_MESSAGES_MAX < 10_000, "one gateway stays under the smallest ingest queue");
const _: () = assert!(WINDOW_GRANT_MESSAGES <= WINDOW_MESSAGES_MAX);
const _: () = assert!(REPUBLISH_PAUSE_MIN.as_millis() < REPUBLISH_PAUSE_MAX.as_millis());
const _: () = assert!(
    4 * REPUBLISH_AFTER.as_millis() < ACK_TIMEOUT.as_millis(),
    "what is not answered goes again several times before its outcome is unknown"
);
const _: () = assert!(REPUBLISH_HOLDS as u64 * HOLD.as_secs() > 9, "longer than an election");
const _: () = assert!(
    2 * ACK_TIMEOUT.as_millis() <= DUPLICATE_WINDOW.as_millis(),
    "a record may go again until its answer is due, and be on its way for as long: its id is known all the time"
);
const _: () = assert!(DUPLICATE_WINDOW_MIN.as_millis() <= DUPLICATE_WINDOW.as_millis());
const _: () = assert!(DUPLICATE_WINDOW.as_secs() <= DUPLICATE_WINDOW_MAX.as_secs());
const _: () = assert!(
    PRODUCE_TIMEOUT.as_secs() + 2 * HOLD.as_secs() + ACK_TIMEOUT.as_secs() < 60,
    "Debezium gives up after 60 s; the last thing that begins may wait for the broker, for room, and for its acknowledgement",
);
const _: () = assert!(2 * HOLD.as_secs() <= ACK_TIMEOUT.as_secs(), "a refusal of the store's writer comes in time");
