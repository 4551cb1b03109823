//! Timers of a shard. Resolution is a millisecond.

use std::time::Duration;

/// A deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Waits.
pub async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// Runs a future for at most `limit`, then drops it. Only for waits that may be dropped at any
/// point (notifications, answers from other threads): never for I/O.
pub async fn deadline<F: Future>(limit: Duration, wait: F) -> Result<F::Output, Elapsed> {
    monoio::time::timeout(limit, wait).await.map_err(|_| Elapsed)
}
