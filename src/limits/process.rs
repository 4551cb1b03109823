//! Limits of the process: its shards, its log, its end.

use super::NATS_STOP_WRITE_TIMEOUT;
use std::time::Duration;

/// Shards of one process: more than any host of today has cores for.
pub const SHARDS_MAX: u16 = 1_024;
/// From SIGTERM to exit: orchestrators kill after 10 s, or later. The steps of stopping follow each other, and this is
/// more than all of them together.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the process looks for signals, and whether its threads live.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// What the requests in flight have to be finished when the process stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(7);
/// Lines of the log that wait to be written; past it they are dropped.
pub const LOG_QUEUE_LINES_MAX: usize = 8_192;
/// Bytes of the lines of the log that wait to be written.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the end of the process waits for whoever reads its log.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// What the embedded store has to finish its last commit.
pub const STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the control plane's thread waits for its blocking threads when it ends.
pub const CONTROL_STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// Threads of the control plane for password hashes, compiling schemas and calls of the embedded store.
pub const BLOCKING_THREADS_MAX: usize = 6;
/// Schemas that are compiled at a time: fewer than there are such threads, which passwords need too.
pub const SCHEMAS_COMPILED_AT_ONCE_MAX: usize = 3;

const _: () = assert!(
    WATCH_INTERVAL.as_millis()
        + DRAIN_TIMEOUT.as_millis()
        + NATS_STOP_WRITE_TIMEOUT.as_millis()
        + CONTROL_STOP_TIMEOUT.as_millis()
        + STORE_CLOSE_TIMEOUT.as_millis()
        + LOG_FLUSH_TIMEOUT.as_millis()
        + 500
        <= STOP_TIMEOUT.as_millis(),
    "all steps of stopping fit, with half a second for a machine that is busy"
);
const _: () = assert!(SCHEMAS_COMPILED_AT_ONCE_MAX < BLOCKING_THREADS_MAX, "schemas leave threads for passwords");
