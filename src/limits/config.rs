//! Limits of what configures a gateway: its file, its settings, its credentials.

use super::TOKEN_LIFETIME_MAX;
use std::time::Duration;

/// Bytes of a configuration file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The largest size that can be written: keeps sums of sizes far from overflow.
pub const CONFIG_SIZE_MAX: u64 = 1 << 40;
/// The longest time that can be written: keeps sums of times far from overflow.
pub const CONFIG_TIME_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);
/// The longest lifetime of a token that can be written: far from any overflow of an expiry.
pub const CONFIG_LIFETIME_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Bytes of the file of generated credentials.
pub const CREDENTIALS_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a key that signs tokens where other hosts can connect.
pub const SIGNING_KEY_BYTES_MIN: usize = 32;
/// Rules of the allow-list of stored headers.
pub const HEADER_RULES_MAX: usize = 256;

const _: () = assert!(TOKEN_LIFETIME_MAX.as_secs() <= CONFIG_LIFETIME_MAX.as_secs());
