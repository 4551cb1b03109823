//! Limits of tails and of pages of records (docs/adr/0043).

use super::{
    FETCH_BYTES_MAX, FETCH_RECORDS_MAX, FETCH_WAIT_MAX, IDLE_TIMEOUT, READ_BYTES_MAX, READ_RECORDS_MAX,
    SINGLE_GETS_PER_READ_MAX,
};
use std::time::Duration;

/// Records of one read of a tail.
pub const TAIL_READ_RECORDS_MAX: u32 = 256;
/// Bytes of one read of a tail. So much is held for a reader that is slow; the rest stays in the store.
pub const TAIL_READ_BYTES_MAX: usize = 128 * 1024;
/// A tail on which nothing has come for so long sends a comment, so that nobody between takes it for dead.
pub const TAIL_QUIET: Duration = Duration::from_secs(15);
/// How long a tail asks a backend that fails before it ends.
pub const TAIL_TROUBLE_MAX: Duration = Duration::from_secs(5 * 60);
/// How long it waits before it asks again, at first.
pub const TAIL_PAUSE_MIN: Duration = Duration::from_millis(200);
/// And at most.
pub const TAIL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a browser waits before it opens a tail again, in milliseconds.
pub const TAIL_RETRY_MS: u32 = 1_000;
/// Records of one page of records.
pub const PAGE_RECORDS_MAX: u32 = FETCH_RECORDS_MAX;
/// Records of one page where its reader does not say how many.
pub const PAGE_RECORDS_DEFAULT: u32 = 100;
/// Bytes of headers and payloads of one page of records.
pub const PAGE_BYTES_MAX: usize = FETCH_BYTES_MAX;
/// How long records are gathered for one page, once it has some.
pub const GATHER_TIME_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(TAIL_READ_RECORDS_MAX as usize <= SINGLE_GETS_PER_READ_MAX, "a page that is not full is the end");
const _: () = assert!(TAIL_READ_BYTES_MAX <= READ_BYTES_MAX && TAIL_READ_RECORDS_MAX <= READ_RECORDS_MAX);
const _: () = assert!(PAGE_BYTES_MAX <= READ_BYTES_MAX && PAGE_RECORDS_MAX <= READ_RECORDS_MAX);
const _: () = assert!(PAGE_RECORDS_DEFAULT <= PAGE_RECORDS_MAX);
const _: () = assert!(TAIL_QUIET.as_secs() < IDLE_TIMEOUT.as_secs() / 2, "proxies are as patient as we are");
const _: () = assert!(TAIL_PAUSE_MIN.as_millis() < TAIL_PAUSE_MAX.as_millis());
const _: () = assert!(TAIL_PAUSE_MAX.as_secs() < TAIL_QUIET.as_secs());
const _: () = assert!(GATHER_TIME_MAX.as_secs() < FETCH_WAIT_MAX.as_secs(), "no longer than other calls that read");
