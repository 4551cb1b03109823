//! Limits of connections, requests and the memory that both take: what any client can reach before anyone knows who it
//! is.

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
/// Bytes of a request body that is decoded at once, as it comes, and decoded. A larger one is decoded in turns
/// ([`TIME_SLICE`](super::TIME_SLICE)), by a decoder that can stop.
pub const DECODED_AT_ONCE_BYTES_MAX: usize = 128 * 1024;
/// See [`DECODED_AT_ONCE_BYTES_MAX`].
pub const INFLATED_AT_ONCE_BYTES_MAX: usize = 512 * 1024;
/// Connections of one shard.
pub const CONNECTIONS_PER_SHARD_MAX: usize = 16_384;
/// Connections of one shard that one client network may have: half, so that no network alone can take all.
pub const CONNECTIONS_PER_NETWORK_MAX: usize = CONNECTIONS_PER_SHARD_MAX / 2;
/// Bytes of request bodies, plain and inflated, and of consume answers that one shard holds at a time.
pub const SHARD_BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Requests that have not shown a valid credential hold one part of so many of that, together.
pub const UNVERIFIED_SHARE: usize = 4;
/// Bytes of the read buffer that a connection borrows while it is served. They are its own: what a request needs beyond
/// them is counted as its body.
pub const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Answers to pipelined requests that gather before they are written although more requests are there.
pub const GATHER_BYTES: usize = 64 * 1024;
/// Bytes that a body which comes in pieces may be ahead of whoever reads it, in each direction: of the call that a
/// request's body is for, and of the client that a reply's body is for.
pub const STREAM_BUFFER_BYTES: usize = 64 * 1024;
/// Read buffers that a shard keeps for reuse.
pub const POOLED_BUFFERS_MAX: usize = 256;
/// Bytes of room for answers that a session leaves to the next one, for each read buffer that is kept.
pub const SPARE_ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Routes that requests are counted by, of all dialects together.
pub const METRIC_ROUTES_MAX: usize = 32;
/// What an idle connection costs, at most, outside the kernel.
pub const IDLE_CONNECTION_BYTES: usize = 4 * 1024;
/// Bytes that a connection whose requests are small waits for the next one with; most single records fit with their
/// head. Other connections wait without a buffer.
pub const IDLE_READ_BYTES: usize = 1024;
/// Bytes of an `/auth/*` or consume request's body.
pub const CONTROL_BODY_BYTES_MAX: usize = 64 * 1024;
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

/// Refused connections whose answer is sent in full at a time; more are closed without an answer.
pub const REFUSED_AT_ONCE_MAX: usize = 256;
/// A body that was refused is read and dropped up to this size, to keep the connection.
pub const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// Codings that one body may have on top of each other, `identity` not counted.
pub const CODINGS_MAX: usize = 2;
/// Places that look like the end of a gzip member and are tried before the member is called corrupt. Chance makes none
/// and an empty member one; the bound keeps crafted bodies from being decoded over and over.
pub const GZIP_ENDS_TRIED_MAX: usize = 4;
/// The most that the decoded size that a body claims is believed at first, in multiples of the body.
pub const INFLATED_CLAIM_FACTOR_MAX: usize = 32;

const _: () = assert!(READ_BUFFER_BYTES >= HEAD_BYTES_MAX, "a whole head fits the buffer of one read");
const _: () = assert!(2 * IDLE_READ_BYTES <= IDLE_CONNECTION_BYTES && IDLE_READ_BYTES <= READ_BUFFER_BYTES);
const _: () = assert!(CHUNK_EXTRA_BYTES_MAX <= HEAD_BYTES_MAX, "what is dropped is no larger than what is kept");
const _: () = assert!(
    STREAM_BUFFER_BYTES > READ_BUFFER_BYTES && STREAM_BUFFER_BYTES <= GATHER_BYTES,
    "a piece is worth a write, and its buffer is kept for the next one"
);
const _: () = assert!(BODY_BYTES_MAX <= INFLATED_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX + INFLATED_BYTES_MAX <= SHARD_BODY_BYTES_MAX, "one largest request fits a shard");
const _: () = assert!(
    HEAD_BYTES_MAX + CONTROL_BODY_BYTES_MAX <= SHARD_BODY_BYTES_MAX / UNVERIFIED_SHARE,
    "a login fits what those have who have not logged in"
);
const _: () = assert!(INFLATED_BYTES_MAX < u32::MAX as usize, "spans are u32");
