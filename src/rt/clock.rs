//! The time: the only module that asks the system for it.
//!
//! `clippy.toml` bans the standard library's clocks everywhere else, so that the time is one thing on a thread. Pure code
//! takes it as an argument. Any thread may ask here: shards, the control plane, the writer of the embedded store.
//! In unit tests a thread's time can be virtual (`virtual_time`); the gateway itself has no such switch, and an
//! instant costs it one `clock_gettime`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Returns the monotonic time.
#[inline]
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = super::virtual_time::now() {
        return now;
    }
    Instant::now()
}

/// Returns how long ago `earlier` was; zero if it is not past.
#[inline]
#[must_use]
pub fn since(earlier: Instant) -> Duration {
    now().saturating_duration_since(earlier)
}

/// Returns the time since 1970 by the system's wall clock, which may be set back; zero if the clock is set before 1970.
#[inline]
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn unix_time() -> Duration {
    #[cfg(test)]
    if let Some(time) = super::virtual_time::unix_time() {
        return time;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the same in whole milliseconds.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(unix_time().as_millis()).unwrap_or(u64::MAX)
}
