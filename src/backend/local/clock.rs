//! The store's only source of time, so that tests can move it: its threads have no runtime whose time could be virtual.
//!
//! Two readings: wall time is stored with records and decides about their age; monotonic time decides
//! about deadlines and the duplicate window, so that a correction of the system's clock neither expires
//! nor prolongs one.

use crate::rt::clock;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Monotonic time at the process's beginning: 35 years.
const BEFORE_MS: u64 = 1 << 40;

/// Where the store reads the time.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The system's clocks; the instant is where monotonic time begins.
    System(Instant),
    /// Milliseconds that a test sets; both readings are the same.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self::System(clock::now())
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        match self {
            Self::System(_) => clock::unix_ms(),
            Self::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since an arbitrary beginning, long before the process began, so that what happened earlier
    /// can be named; never goes back.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        match self {
            Self::System(origin) => {
                BEFORE_MS + u64::try_from(clock::since(*origin).as_millis()).unwrap_or(u64::MAX / 2)
            }
            Self::Manual(now) => now.load(Ordering::Relaxed),
        }
    }
}
