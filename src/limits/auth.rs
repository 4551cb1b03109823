//! Limits of credentials and logins: tokens, passwords, and what guessing them costs.

use super::{CONTROL_BODY_BYTES_MAX, HEAD_BYTES_MAX, NAME_BYTES_MAX, REQUEST_TIMEOUT, REQUESTS_PER_SHARD_MAX};
use std::time::Duration;

/// Verified tokens that a shard remembers.
pub const TOKENS_PER_SHARD_MAX: usize = 131_072;
/// Bytes of a token. A longer one is refused before any work is done on it.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a `Basic` credential, decoded: an API key and any user name that one would put before it. It is decoded on
/// the stack; a multiple of 3, so that it holds a full one.
pub const BASIC_BYTES_MAX: usize = 384;
/// Bytes of the verified tokens that a shard remembers, with their bookkeeping.
pub const TOKEN_CACHE_BYTES_MAX: usize = TOKENS_PER_SHARD_MAX * 1_024;
/// A token lives at most this long, whatever is asked for: ten years.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Bytes of a password that is set anew.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// Bytes of a password; a longer one is not even hashed.
pub const PASSWORD_BYTES_MAX: usize = 128;
/// Logins that wait for a password to be hashed; each takes tens of milliseconds of a core.
pub const LOGINS_WAITING_MAX: usize = 256;
/// Those among them of one name from one network (an IPv4 address, 64 bits of an IPv6 address), and of one network:
/// others have their share whoever guesses.
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
/// Failures of one name from anywhere, after which networks wait where the right password has not come from (NIST SP
/// 800-63B, section 5.2.2).
pub const LOGIN_NAME_FAILURES_FREE: u32 = 100;
/// How long the answer to the first failure beyond [`LOGIN_FAILURES_FREE`] is held back; it doubles with each.
pub const LOGIN_DELAY_MIN: Duration = Duration::from_millis(100);
/// And at most so long.
pub const LOGIN_DELAY_MAX: Duration = Duration::from_secs(5);
/// How long failures count.
pub const LOGIN_FAILURES_REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Names, networks and both together whose failures are remembered; past it those that were not used for longest are
/// forgotten.
pub const LOGIN_TRACKED_MAX: usize = 32_768;
/// Passwords that were found right and are recognised without a hash.
pub const LOGIN_PASSWORDS_KNOWN_MAX: usize = 16_384;

/// Entries of the cache of verified tokens that are looked at before one is evicted: bounds the time of one insertion.
pub const TOKEN_CACHE_SWEEP_MAX: usize = 64;

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
