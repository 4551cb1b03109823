//! The `Date` field's value. Time is an argument: whoever has a clock asks for it once a second.

use std::{
    io::Write,
    time::{Duration, UNIX_EPOCH},
};

/// Bytes of an IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const DATE_BYTES: usize = 29;

/// The last second of the year 9999, past which the format has no room.
const LAST_SECOND: u64 = 253_402_300_799;

/// The IMF-fixdate (RFC 9110, section 5.6.7) of a Unix time in seconds.
#[must_use]
pub fn date(unix_secs: u64) -> [u8; DATE_BYTES] {
    let time = UNIX_EPOCH + Duration::from_secs(unix_secs.min(LAST_SECOND));
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let mut unwritten = &mut text[..];
    let written = write!(unwritten, "{}", httpdate::HttpDate::from(time));
    debug_assert!(written.is_ok() && unwritten.is_empty(), "an IMF-fixdate has 29 bytes");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdates() {
        for (unix_secs, expect) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_164_799, "Wed, 28 Feb 2024 23:59:59 GMT"),
            (4_294_967_296, "Sun, 07 Feb 2106 06:28:16 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(String::from_utf8_lossy(&date(unix_secs)), expect, "{unix_secs}");
        }
    }
}
