//! Limits of streams: requests that go on for as long as their client wants.

use super::{CONNECTIONS_PER_SHARD_MAX, READ_BUFFER_BYTES, STREAM_BUFFER_BYTES};
use std::time::Duration;

/// Streams of one shard that are open.
pub const OPEN_STREAMS_PER_SHARD_MAX: usize = 8_192;
/// Of these, those of one user or API key.
pub const OPEN_STREAMS_OF_PRINCIPAL_MAX: usize = 2_048;
/// How long a stream's client may send nothing.
pub const STREAM_IDLE: Duration = Duration::from_secs(75);

/// Bytes that a stream of records may hold, beside its buffers in the connection and its records in the publish window.
pub const PRODUCE_STREAM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one line. A station may take less.
pub const STREAM_LINE_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Bytes of lines that are stored together; the line that crosses it is the last. What comes meanwhile is stored next.
pub const STREAM_BATCH_BYTES_MAX: usize = 512 * 1024;
/// Records that are stored together.
pub const STREAM_BATCH_RECORDS_MAX: usize = 4_096;
/// Bytes, as sent, that are read while records are stored; the piece that crosses it is the last.
pub const STREAM_AHEAD_BYTES_MAX: usize = 512 * 1024;
/// Receipts that gather before they are written although more lines are settled.
pub const STREAM_RECEIPTS_BYTES: usize = 16 * 1024;

const _: () = assert!(OPEN_STREAMS_OF_PRINCIPAL_MAX < OPEN_STREAMS_PER_SHARD_MAX, "no principal takes all");
const _: () = assert!(OPEN_STREAMS_PER_SHARD_MAX < CONNECTIONS_PER_SHARD_MAX, "other requests find a connection");
/// What was read ahead, and the text that it is appended to: a line, and lines before it. While the text grows it is there twice,
/// the first time with two thirds of its room.
const TEXT_BYTES: usize = STREAM_LINE_BYTES_MAX + STREAM_BATCH_BYTES_MAX + 2 * STREAM_BUFFER_BYTES;
const AHEAD_BYTES: usize = 2 * (STREAM_AHEAD_BYTES_MAX + STREAM_BUFFER_BYTES + READ_BUFFER_BYTES);
const _: () = assert!(TEXT_BYTES + TEXT_BYTES / 3 * 2 + 2 * AHEAD_BYTES <= PRODUCE_STREAM_BYTES_MAX);
const _: () = assert!(STREAM_RECEIPTS_BYTES <= STREAM_BUFFER_BYTES);
