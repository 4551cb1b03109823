//! Limits of dead letters: what they say of themselves, and how many are read and replayed at a time.

use super::VIOLATION_BYTES_MAX;
use std::time::Duration;

/// Bytes of one value that a dead letter says of itself.
pub const DEAD_LETTER_VALUE_BYTES_MAX: usize = VIOLATION_BYTES_MAX;
/// Dead letters that are published at a time: their header fields lie in memory until they are stored.
pub const DEAD_LETTERS_AT_A_TIME: usize = 1_000;
/// How long dead letters are kept unless their station says otherwise: whoever repairs a schema or a consumer has a
/// week.
pub const DEAD_LETTERS_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Dead letters that are read at a time.
pub const DEAD_LETTERS_PAGE: usize = 100;
/// Dead letters that one call may name or replay.
pub const DEAD_LETTERS_PER_CALL_MAX: usize = 10_000;
/// Bytes of records that the control plane reads from a stream at a time (the record that crosses it is the last): they
/// are shown, so all are in memory.
pub const DEAD_LETTERS_BYTES_MAX: usize = 16 * 1024 * 1024;
