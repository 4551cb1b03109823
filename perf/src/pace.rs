//! The open loop: when messages are due, and waking at such a time.

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

/// Message number n is due at `begin` + n / `rate`.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// When number 0 is due.
    pub begin: Instant,
    /// Messages a second, positive.
    pub rate: f64,
}

impl Pace {
    /// When message `number` is due.
    #[must_use]
    pub fn due(&self, number: u64) -> Instant {
        self.begin + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many are due at or before `now`; once due, a message stays so.
    #[must_use]
    pub fn due_by(&self, now: Instant) -> u64 {
        let Some(since) = now.checked_duration_since(self.begin) else { return 0 };
        (since.as_secs_f64() * self.rate) as u64 + 1
    }
}

/// Wakes a poll at a time finer than the milliseconds that it counts in.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that `registry` knows by `token`. Its count need not be read: each firing is an edge of its own.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(fd))
    }

    /// Fires at `due`, or at once if that is over.
    pub fn wake_at(&mut self, due: Instant) -> io::Result<()> {
        let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let value = Timespec::try_from(wait).map_err(io::Error::other)?;
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: value })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_at_its_time_and_not_before() {
        let pace = Pace { begin: Instant::now(), rate: 1_000.0 };
        let after = |micros| pace.due_by(pace.begin + Duration::from_micros(micros));
        assert_eq!((after(0), after(999), after(1_001), after(10_500)), (1, 1, 2, 11));
        assert_eq!(pace.due(3), pace.begin + Duration::from_millis(3));
        assert!(pace.begin.checked_sub(Duration::from_secs(1)).is_none_or(|early| pace.due_by(early) == 0));
    }
}
