//! Timers of a shard. Resolution is a millisecond.

use std::time::Duration;

/// A time between these, so that those who were cut off together do not come back together.
#[must_use]
pub fn jittered(min: Duration, max: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without randomness the wait is the longest one.
    let fraction = getrandom::fill(&mut byte).map_or(255, |()| byte[0]);
    min + max.saturating_sub(min) * u32::from(fraction) / 255
}

/// Any number below `count`; 0 if there is none, or no randomness.
#[must_use]
pub fn chance(count: usize) -> usize {
    let mut bytes = [0_u8; 4];
    let any = getrandom::fill(&mut bytes).map_or(0, |()| u32::from_le_bytes(bytes));
    (any as usize).checked_rem(count).unwrap_or(0)
}

/// A deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Waits.
pub async fn sleep(duration: Duration) {
    #[cfg(test)]
    if let Some(sleep) = super::virtual_time::sleep(duration) {
        return sleep.await;
    }
    monoio::time::sleep(duration).await;
}

/// Runs a future for at most `limit`, then drops it. Only for waits that may be dropped at any
/// point (notifications, answers from other threads): never for I/O.
pub async fn deadline<F: Future>(limit: Duration, wait: F) -> Result<F::Output, Elapsed> {
    #[cfg(test)]
    if let Some(sleep) = super::virtual_time::sleep(limit) {
        return super::unless(sleep, wait).await.ok_or(Elapsed);
    }
    monoio::time::timeout(limit, wait).await.map_err(|_| Elapsed)
}
