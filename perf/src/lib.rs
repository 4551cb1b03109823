//! What the measuring programs share.

pub mod machine;
pub mod nats;
pub mod outcome;
pub mod pace;

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CPU that this process has used, by the kernel's account.
#[must_use]
pub fn own_cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}
