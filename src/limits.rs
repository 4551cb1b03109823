//! Every limit of the product, its default, and how the limits relate.
//!
//! [`Limits`] holds the values that run; its `Default` is built from the constants here. What a
//! user may change is a field; what the program itself relies on is a constant only. The relations
//! are asserted at compile time for the defaults and by [`Limits::check`] for what was configured.
//!
//! Memory of one shard under full load is at most the sum that [`Limits::shard_bytes_max`] states.

mod delivery;
mod schema;
#[cfg(test)]
mod tests;

pub use delivery::*;
pub use schema::*;

use std::time::Duration;

/// Bytes of request line and header fields together.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of one request.
pub const HEAD_FIELDS_MAX: usize = 100;
/// Empty lines before a request line: old clients send one after a body (RFC 9112, section 2.2).
pub const HEAD_EMPTY_LINES_MAX: u32 = 2;
/// Bytes of chunk extensions and trailers of one request together. They are read, checked and
/// dropped, so this bounds work, not memory.
pub const CHUNK_EXTRA_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request body as it comes over the wire.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a request body after its `Content-Encoding` is undone.
pub const INFLATED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a request body that is decoded at once, as it comes, and decoded. A larger one is decoded in turns ([`TIME_SLICE`]), by a decoder that
/// can stop.
pub const DECODED_AT_ONCE_BYTES_MAX: usize = 128 * 1024;
/// See [`DECODED_AT_ONCE_BYTES_MAX`].
pub const INFLATED_AT_ONCE_BYTES_MAX: usize = 512 * 1024;
/// Bytes of messages whose consume answer is encoded at once. A larger one is encoded in turns ([`TIME_SLICE`]).
pub const ENCODED_AT_ONCE_BYTES_MAX: usize = 512 * 1024;
/// Records in one batch.
pub const BATCH_RECORDS_MAX: usize = 100_000;
/// Nesting of one JSON value (docs/adr/0008).
pub const JSON_DEPTH_MAX: usize = 1_024;
/// Messages of one consume call (the original's bound).
pub const FETCH_RECORDS_MAX: u32 = 5_000;
/// Payload and header bytes of one consume call: more stays for the next call.
pub const FETCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A consume call waits at most this long, whatever it asks for.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes of stored header fields of one record: they travel with each record of a batch.
pub const RECORD_HEADER_BYTES_MAX: usize = 8 * 1024;
/// Names of header fields of which a shard remembers whether they are stored.
pub const HEADER_NAMES_KNOWN_MAX: usize = 64;
/// Bytes of such a name; a longer one is looked at each time.
pub const HEADER_NAME_KNOWN_BYTES_MAX: usize = 64;
/// Bytes of a message id as it is sent; a blank in it and the number of a batch's record come on top.
pub const MESSAGE_ID_BYTES_MAX: usize = 256;
/// Bytes of a station, group or user name.
pub const NAME_BYTES_MAX: usize = 128;

/// Shards of one process: more than any host of today has cores for.
pub const SHARDS_MAX: u16 = 1_024;
/// Connections of one shard.
pub const CONNECTIONS_PER_SHARD_MAX: usize = 16_384;
/// Connections of one shard that one client network may have: half, so that no network alone can take all.
pub const CONNECTIONS_PER_NETWORK_MAX: usize = CONNECTIONS_PER_SHARD_MAX / 2;
/// Bytes of request bodies, plain and inflated, and of consume answers that one shard holds at a time.
pub const SHARD_BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Requests that have not shown a valid credential hold one part of so many of that, together.
pub const UNVERIFIED_SHARE: usize = 4;
/// Bytes of the read buffer that a connection borrows while it is served. They are its own: what a request needs beyond them is
/// counted as its body.
pub const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Answers to pipelined requests that gather before they are written although more requests are there.
pub const GATHER_BYTES: usize = 64 * 1024;
/// Read buffers that a shard keeps for reuse.
pub const POOLED_BUFFERS_MAX: usize = 256;
/// Bytes of room for answers that a session leaves to the next one, for each read buffer that is kept.
pub const SPARE_ANSWER_BYTES_MAX: usize = 4 * 1024;
/// What an idle connection costs, at most, outside the kernel.
pub const IDLE_CONNECTION_BYTES: usize = 4 * 1024;
/// Bytes that a connection whose requests are small waits for the next one with; most single records fit with their head.
/// Other connections wait without a buffer.
pub const IDLE_READ_BYTES: usize = 1024;

/// Publishes in flight of the process, shared out among its shards. JetStream drops what exceeds 10,000
/// messages (2.11) or 100,000 (later) queued on a stream.
pub const WINDOW_MESSAGES_MAX: usize = 8_192;
/// Bytes in flight of the process, shared out among its shards. JetStream drops what exceeds 128 MB queued on a stream.
pub const WINDOW_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What one request may take of the window before others have had their turn.
pub const WINDOW_GRANT_MESSAGES: usize = 1_024;
/// How long records are published again that were refused for the moment, in holds: an election takes 4 to 9 s after a server was
/// lost, and next to nothing when a leader hands over (docs/adr/0018).
pub const REPUBLISH_HOLDS: u32 = 2;
/// How long to wait before records are published again that were refused for the moment, at least and at most.
pub const REPUBLISH_PAUSE_MIN: Duration = Duration::from_millis(100);
/// See [`REPUBLISH_PAUSE_MIN`].
pub const REPUBLISH_PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long a record with a message id waits for its answer from a cluster before it is published again, at least: longer where
/// the broker is slow.
pub const REPUBLISH_AFTER: Duration = Duration::from_millis(1_500);
/// How often the control plane is asked about a station that records are published to again.
pub const STATION_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Work space of publishes that a shard keeps for reuse, and how many records one of it may have been for.
pub const PUBLISH_SPARES_MAX: usize = 64;
/// See [`PUBLISH_SPARES_MAX`].
pub const PUBLISH_SPARE_RECORDS_MAX: usize = 2_048;
/// What is kept beside each record of a batch while it is stored: its span, outcome, place in the window.
pub const RECORD_OVERHEAD_BYTES: usize = 128;
/// Requests that wait for room in the window.
pub const WINDOW_WAITERS_MAX: usize = 1_024;

/// Bytes of one control line from the broker, `INFO` apart. Twice what the broker takes from its own
/// clients: a delivered line carries a stored subject and the broker's own reply subject beside it.
pub const NATS_LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an `INFO` line: it names every server of a cluster.
pub const NATS_INFO_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the name of a stream or consumer.
pub const NATS_NAME_BYTES_MAX: usize = 255;
/// Bytes of headers and payload of one message from the broker: the most that its `max_payload` can be set to.
pub const NATS_PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Stations that a shard remembers.
pub const STATIONS_PER_SHARD_MAX: usize = 65_536;
/// Verified tokens that a shard remembers.
pub const TOKENS_PER_SHARD_MAX: usize = 131_072;
/// Bytes of a token. A longer one is refused before any work is done on it.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a `Basic` credential, decoded: an API key and any user name that one would put before it. It is decoded on the
/// stack; a multiple of 3, so that it holds a full one.
pub const BASIC_BYTES_MAX: usize = 384;
/// Bytes of the verified tokens that a shard remembers, with their bookkeeping.
pub const TOKEN_CACHE_BYTES_MAX: usize = TOKENS_PER_SHARD_MAX * 1_024;
/// A token lives at most this long, whatever is asked for: ten years.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Bytes of a password that is set anew.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// Bytes of a password; a longer one is not even hashed.
pub const PASSWORD_BYTES_MAX: usize = 128;
/// Requests of one shard that the control plane has not answered.
pub const REQUESTS_PER_SHARD_MAX: usize = 1_024;
/// Logins that wait for a password to be hashed; each takes tens of milliseconds of a core.
pub const LOGINS_WAITING_MAX: usize = 256;
/// Those among them of one name from one network (an IPv4 address, 64 bits of an IPv6 address), and of one network: others
/// have their share whoever guesses.
pub const LOGINS_HASHED_PER_NAME_AND_NETWORK: usize = 64;
/// See [`LOGINS_HASHED_PER_NAME_AND_NETWORK`].
pub const LOGINS_HASHED_PER_NETWORK: usize = 128;
/// Logins under way, those included whose answer is held back because they were wrong too often.
pub const LOGIN_PLACES_MAX: usize = 512;
/// Those among them of one name from networks where the right password has not come from.
pub const LOGIN_PLACES_PER_NAME: usize = 256;
/// Those among them of one network.
pub const LOGIN_PLACES_PER_NETWORK: usize = 256;
/// Those among them of one name from one network. With [`LOGIN_DELAY_MAX`] it bounds guesses: 32 a second.
pub const LOGIN_PLACES_PER_NAME_AND_NETWORK: usize = 160;
/// Failures in a row of one name from one network that are answered at once.
pub const LOGIN_FAILURES_FREE: u32 = 10;
/// Failures of one name from anywhere, after which networks wait where the right password has not come from (NIST SP 800-63B,
/// section 5.2.2).
pub const LOGIN_NAME_FAILURES_FREE: u32 = 100;
/// How long the answer to the first failure beyond [`LOGIN_FAILURES_FREE`] is held back; it doubles with each.
pub const LOGIN_DELAY_MIN: Duration = Duration::from_millis(100);
/// And at most so long.
pub const LOGIN_DELAY_MAX: Duration = Duration::from_secs(5);
/// How long failures count.
pub const LOGIN_FAILURES_REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Names, networks and both together whose failures are remembered; past it those that were not used for longest are forgotten.
pub const LOGIN_TRACKED_MAX: usize = 32_768;
/// Passwords that were found right and are recognised without a hash.
pub const LOGIN_PASSWORDS_KNOWN_MAX: usize = 16_384;
/// Bytes of an `/auth/*` or consume request's body.
pub const CONTROL_BODY_BYTES_MAX: usize = 64 * 1024;
/// Body of a request that adds a schema: 1 MiB of text with every byte escaped, and the rest as any.
pub const SCHEMA_BODY_BYTES_MAX: usize = 2 * 1024 * 1024 + CONTROL_BODY_BYTES_MAX;

/// From the first byte of a request to the end of its head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence of a sender of a body, and what it may be behind the minimum rate.
pub const BODY_GRACE: Duration = Duration::from_secs(10);
/// Bytes a second below which a sender of a body is cut off.
pub const BODY_RATE_MIN: u64 = 1_024;
/// A keep-alive connection without a request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Bytes a second below which the reader of a large response is cut off.
pub const WRITE_RATE_MIN: u64 = 16 * 1024;
/// A response of which the client reads nothing.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client whose kernel has the whole answer to a consume call may still hang up without having read it, and is
/// handed the messages again.
pub const DELIVERY_GRACE: Duration = Duration::from_millis(500);
/// Deliveries that one sweep asks the kernel about; each costs two calls of it.
pub const DELIVERIES_PER_SWEEP_MAX: usize = 512;
/// From publish to acknowledgement; past it the outcome is unknown.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits for room in the window, or for a broker that is away, before it is refused.
pub const HOLD: Duration = Duration::from_secs(5);
/// A produce call begins nothing new so long after it is there: no look at the control plane, no publish or part or repetition of
/// one, dead letters included. What is under way by then comes to its end by its own limit.
pub const PRODUCE_TIMEOUT: Duration = Duration::from_secs(35);
/// How often the broker is asked the same again while nobody answers: an election may be under way. The earlier
/// requests stay open, at most one for each of these in the hold.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(400);
/// How long a request waits for the control plane.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How old the knowledge of what the registry says may be when a record is validated by a schema.
pub const CONTRACTS_AGE_MAX: Duration = Duration::from_millis(900);
/// How long "there is no such station" is remembered.
pub const STATION_ABSENT_TTL: Duration = Duration::from_secs(2);
/// A message that was delivered and not acknowledged is delivered again after this time.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
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
/// Free bytes of the embedded store's device below which it takes no records, beside what it has still to write out: this part of
/// the device, within the two bounds. Merging tables needs room before it gives any back.
pub const LOCAL_RESERVE_PART: u64 = 16;
/// The least that is kept free for the embedded store.
pub const LOCAL_RESERVE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// The most that is kept free for the embedded store, beside what it has still to write out.
pub const LOCAL_RESERVE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of blocks read from the embedded store that are kept in memory.
pub const LOCAL_CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// How long a consumer group is kept that nobody uses, unless a user sets another time: what reads once a month keeps its place.
pub const GROUP_EXPIRY: Duration = Duration::from_secs(35 * 86_400);
/// Consumer groups of one station, on either store.
pub const GROUPS_PER_STATION_MAX: usize = 1_000;
/// Consumer groups of one station that one principal has made, on either store.
pub const GROUPS_PER_PRINCIPAL_MAX: usize = 250;
/// Consumer groups of an embedded store that one principal has made.
pub const LOCAL_GROUPS_PER_PRINCIPAL_MAX: usize = 1_000;
/// Consumer groups of an embedded store.
pub const LOCAL_GROUPS_MAX: usize = 10_000;
/// Partitions of all stations of an embedded store.
pub const LOCAL_PARTITIONS_MAX: usize = 65_536;
/// Bytes of one value that a dead letter says of itself.
pub const DEAD_LETTER_VALUE_BYTES_MAX: usize = VIOLATION_BYTES_MAX;
/// Dead letters that are published at a time: their header fields lie in memory until they are stored.
pub const DEAD_LETTERS_AT_A_TIME: usize = 1_000;
/// Errors that the answer to a batch lists; more are counted.
pub const ERRORS_LISTED_MAX: usize = 1_000;
/// Bytes of the errors that the answer to a batch lists; the one that crosses it is the last.
pub const ERRORS_LISTED_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a receipt in the answer, beside the name of its stream. Room for all of them is taken before anything is stored.
pub const RECEIPT_BYTES: usize = 96;
/// Bytes of one registry document of the embedded store. The largest holds all versions of a schema.
pub const LOCAL_DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records of one partition of the embedded store that were removed from between others and are remembered one by one:
/// dead letters that were replayed. What retention passes is forgotten.
pub const LOCAL_REMOVED_MAX: usize = 65_536;
/// Bytes of records that are read for their own sake at a time.
pub const LOCAL_READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Documents of the registry: more are not read.
pub const REGISTRY_DOCUMENTS_MAX: usize = 100_000;
/// Bytes of all documents of the registry: every gateway holds them in memory.
pub const REGISTRY_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bytes of one document of the registry: a schema with all its versions. The broker's usual `max_payload`, with room for header fields.
pub const REGISTRY_DOCUMENT_BYTES_MAX: usize = 960 * 1024;
/// Patterns in one allow-list.
pub const PATTERNS_MAX: usize = 256;
/// Bytes of what somebody says about an API key.
pub const KEY_DESCRIPTION_BYTES_MAX: usize = 1_024;
/// How long dead letters are kept unless their station says otherwise: whoever repairs a schema or a consumer has a week.
pub const DEAD_LETTERS_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Dead letters that are read at a time.
pub const DEAD_LETTERS_PAGE: usize = 100;
/// Dead letters that one call may name or replay.
pub const DEAD_LETTERS_PER_CALL_MAX: usize = 10_000;
/// Records and API keys live at most this long, unless for ever: a hundred years, within what a broker counts in nanoseconds.
pub const RETENTION_AGE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// Message ids are remembered at least so long and at most so long (the original's bounds).
pub const DUPLICATE_WINDOW_MIN: Duration = Duration::from_millis(100);
/// How long they are remembered unless a user sets another time.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// See [`DUPLICATE_WINDOW_MIN`].
pub const DUPLICATE_WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Copies of a stream: what JetStream can have.
pub const REPLICAS_MAX: u8 = 5;
/// How often the registry is asked whether there is news. Three requests fit into [`CONTRACTS_AGE_MAX`], so that one
/// lost answer is no outage.
pub const CONFIRM_INTERVAL: Duration = Duration::from_millis(250);
/// How long an answer to that may take.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the leader of the registry may not have heard of those whom it leads before what it says is not believed: they send each other
/// a sign of life each second.
pub const REGISTRY_PEER_SILENT_MAX: Duration = Duration::from_millis(2_500);
/// How often the control plane looks whether JetStream answers.
pub const BROKER_PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long the answer to that may take.
pub const BROKER_PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long JetStream may give no good answer through a server that is left for another one then.
pub const BROKER_SILENT_MAX: Duration = Duration::from_millis(1_500);
/// How long JetStream may give no good answer before the gateway is not ready: longer than a planned change of leader takes.
pub const BROKER_UNSERVED_MAX: Duration = Duration::from_secs(3);
/// How long users and API keys are taken for true though the registry has not confirmed them. Past it the gateway is not ready.
pub const REGISTRY_AGE_MAX: Duration = Duration::from_secs(30);
/// How long a record that is to be validated by a schema waits for the registry to confirm it: longer than an election
/// of the registry's leader takes.
pub const REGISTRY_HOLD: Duration = Duration::from_secs(10);
/// From SIGTERM to exit.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);
/// Lines of the log that wait to be written; past it they are dropped.
pub const LOG_QUEUE_LINES_MAX: usize = 8_192;
/// Bytes of the lines of the log that wait to be written.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the end of the process waits for whoever reads its log.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes of records that the control plane reads from a stream at a time (the record that crosses it is the last): they
/// are shown, so all are in memory.
pub const DEAD_LETTERS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Streams that are looked after because they drop what nobody is interested in: more are looked at once only, when their
/// station is found.
pub const INTEREST_STREAMS_MAX: usize = 65_536;
/// Consumers of one stream that are looked through.
pub const CONSUMERS_LISTED_MAX: usize = 25_600;
/// Streams of a broker that are looked through for stations.
pub const STREAMS_LISTED_MAX: usize = 100_000;

const _: () = assert!(READ_BUFFER_BYTES >= HEAD_BYTES_MAX, "a whole head fits the buffer of one read");
const _: () = assert!(2 * IDLE_READ_BYTES <= IDLE_CONNECTION_BYTES && IDLE_READ_BYTES <= READ_BUFFER_BYTES);
const _: () = assert!(CHUNK_EXTRA_BYTES_MAX <= HEAD_BYTES_MAX, "what is dropped is no larger than what is kept");
const _: () = assert!(BODY_BYTES_MAX <= INFLATED_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX + INFLATED_BYTES_MAX <= SHARD_BODY_BYTES_MAX, "one largest request fits a shard");
const _: () = assert!(
    HEAD_BYTES_MAX + CONTROL_BODY_BYTES_MAX <= SHARD_BODY_BYTES_MAX / UNVERIFIED_SHARE,
    "a login fits what those have who have not logged in"
);
const _: () = assert!(INFLATED_BYTES_MAX < u32::MAX as usize, "spans are u32");
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
const _: () = assert!(NATS_LINE_BYTES_MAX <= NATS_INFO_BYTES_MAX);
const _: () = assert!(NATS_INFO_BYTES_MAX + NATS_PAYLOAD_BYTES_MAX < u32::MAX as usize, "spans are u32");
const _: () = assert!(TOKEN_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(BASIC_BYTES_MAX > 2 * NAME_BYTES_MAX && BASIC_BYTES_MAX.is_multiple_of(3));
const _: () = assert!(TOKEN_BYTES_MAX < TOKEN_CACHE_BYTES_MAX);
const _: () = assert!(LOGIN_PLACES_PER_NAME_AND_NETWORK < LOGIN_PLACES_PER_NAME);
const _: () = assert!(LOGIN_PLACES_PER_NAME < LOGIN_PLACES_MAX && LOGIN_PLACES_PER_NETWORK < LOGIN_PLACES_MAX);
const _: () = assert!(2 * LOGIN_PLACES_MAX <= REQUESTS_PER_SHARD_MAX, "guesses leave room for other questions");
const _: () = assert!(3 * LOGIN_PLACES_MAX < LOGIN_TRACKED_MAX, "logins under way are always tracked");
const _: () = assert!(LOGINS_HASHED_PER_NETWORK < LOGINS_WAITING_MAX && LOGINS_WAITING_MAX <= LOGIN_PLACES_MAX);
const _: () =
    assert!(2 * LOGIN_DELAY_MAX.as_secs() <= REQUEST_TIMEOUT.as_secs(), "the answer comes while it is waited for");
const _: () = assert!(PASSWORD_BYTES_MIN < PASSWORD_BYTES_MAX && PASSWORD_BYTES_MAX < CONTROL_BODY_BYTES_MAX);
const _: () = assert!(ENCODED_AT_ONCE_BYTES_MAX < FETCH_BYTES_MAX && FETCH_BYTES_MAX <= SHARD_BODY_BYTES_MAX);
const _: () = assert!(
    PRODUCE_TIMEOUT.as_secs() + 2 * HOLD.as_secs() + ACK_TIMEOUT.as_secs() < 60,
    "Debezium gives up after 60 s; the last thing that begins may wait for the broker, for room, and for its acknowledgement",
);
const _: () = assert!(10 * LOOK_INTERVAL.as_millis() <= HOLD.as_millis(), "an election is met by several questions");
const _: () =
    assert!(REQUEST_TIMEOUT.as_secs() <= 2 * HOLD.as_secs() + ACK_TIMEOUT.as_secs(), "no longer than a publish");
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
const _: () =
    assert!(GROUPS_PER_PRINCIPAL_MAX < GROUPS_PER_STATION_MAX, "one principal does not take a station's groups");
const _: () = assert!(LOCAL_GROUPS_PER_PRINCIPAL_MAX < LOCAL_GROUPS_MAX, "nor those of the store");
const _: () = assert!(GROUPS_PER_PRINCIPAL_MAX <= LOCAL_GROUPS_PER_PRINCIPAL_MAX);
const _: () = assert!(
    LOCAL_RECORDS_MEMTABLE_BYTES + 3 * LOCAL_SMALL_MEMTABLE_BYTES < LOCAL_UNFLUSHED_BYTES_MAX,
    "what is too small to be written out does not make the writer wait"
);
const _: () = assert!(2 * HOLD.as_secs() <= ACK_TIMEOUT.as_secs(), "a refusal of the store's writer comes in time");
const _: () = assert!(FETCH_WAIT_MAX.as_secs() < IDLE_TIMEOUT.as_secs());
const _: () = assert!(DELIVERY_GRACE.as_secs() < ACK_WAIT.as_secs() && WRITE_TIMEOUT.as_secs() <= ACK_WAIT.as_secs());
const _: () = assert!(VIOLATION_BYTES_MIN <= RECORD_OVERHEAD_BYTES, "what is kept beside each record");

const _: () = assert!(
    DRAIN_TIMEOUT.as_millis() + LOG_FLUSH_TIMEOUT.as_millis() < 10_000,
    "orchestrators kill after 10 s, or later"
);
const _: () =
    assert!(BROKER_PROBE_INTERVAL.as_millis() + BROKER_PROBE_TIMEOUT.as_millis() < BROKER_SILENT_MAX.as_millis());
const _: () = assert!(
    CONFIRM_INTERVAL.as_millis() <= BROKER_PROBE_INTERVAL.as_millis(),
    "in quiet times the registry's confirmations are evidence enough"
);
const _: () = assert!(
    BROKER_UNSERVED_MAX.as_secs() < REGISTRY_HOLD.as_secs() && CONTRACTS_AGE_MAX.as_secs() < REGISTRY_AGE_MAX.as_secs()
);
const _: () =
    assert!(REGISTRY_HOLD.as_secs() < PRODUCE_TIMEOUT.as_secs(), "there is time left to store what was checked");
const _: () = assert!(REGISTRY_DOCUMENT_BYTES_MAX < LOCAL_DOCUMENT_BYTES_MAX);
const _: () = assert!(CONFIRM_INTERVAL.as_millis() + 2 * CONFIRM_TIMEOUT.as_millis() < CONTRACTS_AGE_MAX.as_millis());

/// The limits that a user may set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// See [`HEAD_FIELDS_MAX`].
    pub head_fields_max: usize,
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// See [`INFLATED_BYTES_MAX`].
    pub inflated_bytes_max: usize,
    /// See [`BATCH_RECORDS_MAX`].
    pub batch_records_max: usize,
    /// See [`CONNECTIONS_PER_SHARD_MAX`].
    pub connections_per_shard_max: usize,
    /// See [`CONNECTIONS_PER_NETWORK_MAX`]; 0: no bound.
    pub connections_per_network_max: usize,
    /// See [`SHARD_BODY_BYTES_MAX`].
    pub shard_body_bytes_max: usize,
    /// See [`WINDOW_MESSAGES_MAX`].
    pub window_messages_max: usize,
    /// See [`WINDOW_BYTES_MAX`].
    pub window_bytes_max: usize,
    /// See [`HEAD_TIMEOUT`].
    pub head_timeout: Duration,
    /// See [`BODY_GRACE`].
    pub body_grace: Duration,
    /// See [`BODY_RATE_MIN`].
    pub body_rate_min: u64,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// See [`WRITE_TIMEOUT`].
    pub write_timeout: Duration,
    /// See [`ACK_TIMEOUT`].
    pub ack_timeout: Duration,
    /// See [`HOLD`].
    pub hold: Duration,
    /// See [`REGISTRY_HOLD`].
    pub registry_hold: Duration,
    /// See [`REGISTRY_AGE_MAX`].
    pub registry_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: HEAD_BYTES_MAX,
            head_fields_max: HEAD_FIELDS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            inflated_bytes_max: INFLATED_BYTES_MAX,
            batch_records_max: BATCH_RECORDS_MAX,
            connections_per_shard_max: CONNECTIONS_PER_SHARD_MAX,
            connections_per_network_max: CONNECTIONS_PER_NETWORK_MAX,
            shard_body_bytes_max: SHARD_BODY_BYTES_MAX,
            window_messages_max: WINDOW_MESSAGES_MAX,
            window_bytes_max: WINDOW_BYTES_MAX,
            head_timeout: HEAD_TIMEOUT,
            body_grace: BODY_GRACE,
            body_rate_min: BODY_RATE_MIN,
            idle_timeout: IDLE_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            ack_timeout: ACK_TIMEOUT,
            hold: HOLD,
            registry_hold: REGISTRY_HOLD,
            registry_age: REGISTRY_AGE_MAX,
        }
    }
}

impl Limits {
    /// The relations between limits that hold for any configuration. The error says which one is broken.
    pub fn check(&self) -> Result<(), String> {
        let rules: [(bool, &str); 10] = [
            (self.head_bytes_max >= 1_024, "limits.head_bytes_max must be at least 1024"),
            (self.head_bytes_max <= 1024 * 1024, "limits.head_bytes_max must be at most 1 MiB"),
            ((1..=1_000).contains(&self.head_fields_max), "limits.head_fields_max must be from 1 to 1000"),
            (
                self.body_bytes_max <= self.inflated_bytes_max,
                "limits.body_bytes_max must not exceed limits.inflated_bytes_max",
            ),
            (
                self.body_bytes_max.saturating_add(self.inflated_bytes_max) <= self.shard_body_bytes_max,
                "limits.shard_body_bytes_max must hold one largest request: body_bytes_max + inflated_bytes_max",
            ),
            (self.shard_body_bytes_max < u32::MAX as usize, "limits.shard_body_bytes_max must be under 4 GiB"),
            ((1..=65_536).contains(&self.window_messages_max), "limits.window_messages_max must be from 1 to 65536"),
            (self.connections_per_shard_max >= 1, "limits.connections_per_shard_max must be at least 1"),
            (
                self.hold.saturating_mul(REPUBLISH_HOLDS) <= self.ack_timeout,
                "limits.ack_timeout must be at least twice limits.hold: records are published again for two holds, and none for longer \
                 than its answer is waited for",
            ),
            (
                REPUBLISH_AFTER.saturating_mul(4) < self.ack_timeout,
                "limits.ack_timeout must be more than 6s: a record that is not answered is published again every 1.5s, several times \
                 before its outcome is unknown",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, broken)) => Err((*broken).to_owned()),
        }
    }

    /// These limits for one of `shards` shards: what the whole process may have in flight is shared out.
    #[must_use]
    pub fn of_shard(&self, shards: u16) -> Self {
        let share = |whole: usize, least: usize| (whole / usize::from(shards.max(1))).max(least.min(whole));
        Self {
            window_messages_max: share(self.window_messages_max, WINDOW_GRANT_MESSAGES),
            window_bytes_max: share(self.window_bytes_max, 2 * 1024 * 1024),
            ..self.clone()
        }
    }

    /// Upper bound of what one shard holds in memory at a time.
    #[must_use]
    pub fn shard_bytes_max(&self) -> usize {
        self.connections_per_shard_max * (IDLE_CONNECTION_BYTES + 2 * READ_BUFFER_BYTES + GATHER_BYTES)
            + POOLED_BUFFERS_MAX * (READ_BUFFER_BYTES + SPARE_ANSWER_BYTES_MAX)
            + PUBLISH_SPARES_MAX * PUBLISH_SPARE_RECORDS_MAX * RECORD_OVERHEAD_BYTES
            + self.shard_body_bytes_max
            + 2 * self.window_bytes_max
            + TOKEN_CACHE_BYTES_MAX
            + STATIONS_PER_SHARD_MAX * 512
            + (OPEN_DELIVERIES_PER_SHARD_MAX + ACKNOWLEDGED_PER_SHARD_MAX) * 512
    }
}
