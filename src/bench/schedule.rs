//! When requests begin. Pure: time comes in, as nanoseconds since the run's beginning.
//!
//! In the closed loop a request begins when a connection is free. In the open loop it is *due* at a time that depends
//! on nothing but its number, and keeps that time as its beginning however late it is sent.

use super::args::Extent;
use std::time::Duration;

/// Nanoseconds since the run began.
pub(super) type Nanos = u64;

/// When one thread's requests begin, and which of them are measured.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    warmup: Nanos,
    /// A request that begins (is due) at this time or later is not made.
    end: Nanos,
    /// Measured requests still to begin.
    left: u64,
    due: Option<Due>,
    stopped: bool,
}

/// The open loop: request number n of all threads is due at n / rate.
#[derive(Debug, Clone)]
struct Due {
    rate: f64,
    /// Number of this thread's next request.
    number: u64,
    /// Threads that take turns.
    step: u64,
}

/// A request that is to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// When it began, for its latency: now, or when it was due.
    pub(super) at: Nanos,
    /// Belongs to the measured part.
    pub(super) measured: bool,
}

impl Schedule {
    /// The part of thread number `thread` of `threads`.
    pub(super) fn new(warmup: Duration, extent: Extent, rate: Option<f64>, thread: u64, threads: u64) -> Self {
        let warmup = nanos(warmup);
        let (end, left) = match extent {
            Extent::Time(time) => (warmup.saturating_add(nanos(time)), u64::MAX),
            Extent::Requests(count) => (Nanos::MAX, count / threads + u64::from(thread < count % threads)),
        };
        let due = rate.map(|rate| Due { rate, number: thread, step: threads });
        Self { warmup, end, left, due, stopped: false }
    }

    /// The next request, if one is to begin at or before `now`.
    pub(super) fn next(&mut self, now: Nanos) -> Option<Start> {
        let at = match &self.due {
            None => now,
            Some(due) => due.at(),
        };
        if self.is_over(at) || at > now {
            return None;
        }
        if let Some(due) = &mut self.due {
            due.number += due.step;
        }
        let measured = at >= self.warmup;
        if measured {
            self.left -= 1;
        }
        Some(Start { at, measured })
    }

    /// No request will begin any more, although one that was due may not have been taken yet.
    pub(super) fn is_finished(&self, now: Nanos) -> bool {
        self.is_over(self.due.as_ref().map_or(now, Due::at))
    }

    /// When to look again: in the open loop, when the next request is due.
    pub(super) fn wake_at(&self) -> Option<Nanos> {
        let at = self.due.as_ref()?.at();
        (!self.is_over(at)).then_some(at)
    }

    /// When the last request is due, if that can be said beforehand.
    pub(super) fn horizon(&self) -> Option<Nanos> {
        match &self.due {
            _ if self.end < Nanos::MAX => Some(self.end),
            Some(due) => Some(self.warmup.saturating_add(due.time_of(self.left.saturating_mul(due.step)))),
            None => None,
        }
    }

    /// Ends the run early: nothing begins after this, and what was due and not taken is dropped.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    fn is_over(&self, at: Nanos) -> bool {
        self.stopped || self.left == 0 || at >= self.end
    }
}

impl Due {
    fn at(&self) -> Nanos {
        self.time_of(self.number)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; `as` saturates")]
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 requests")]
    fn time_of(&self, number: u64) -> Nanos {
        (number as f64 / self.rate * 1e9) as Nanos
    }
}

/// A duration on this scale; more than five centuries are as good as for ever.
pub(super) fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn open(rate: f64, warmup_ms: u64, extent: Extent, thread: u64, threads: u64) -> Schedule {
        Schedule::new(Duration::from_millis(warmup_ms), extent, Some(rate), thread, threads)
    }

    #[test]
    fn an_open_loop_keeps_the_times_at_which_requests_were_due() {
        let mut schedule = open(1_000.0, 2, Extent::Time(Duration::from_millis(3)), 0, 1);
        assert_eq!(schedule.next(0), Some(Start { at: 0, measured: false }));
        assert_eq!(schedule.next(0), None);
        assert_eq!(schedule.wake_at(), Some(MS));
        // Nobody had time until 100 ms: all that was due comes, each with its own time, and no more.
        let late: Vec<Start> = std::iter::from_fn(|| schedule.next(100 * MS)).collect();
        let expect = [(1, false), (2, true), (3, true), (4, true)];
        assert_eq!(late, expect.map(|(ms, measured)| Start { at: ms * MS, measured }));
        assert!(schedule.is_finished(0));
        assert_eq!(schedule.wake_at(), None);
    }

    #[test]
    fn threads_share_the_rate_without_gap_or_overlap() {
        let whole = |threads: u64| {
            let mut times = Vec::new();
            for thread in 0..threads {
                let mut schedule = open(7_777.0, 0, Extent::Time(Duration::from_secs(1)), thread, threads);
                times.extend(std::iter::from_fn(|| schedule.next(u64::MAX)).map(|start| start.at));
            }
            times.sort_unstable();
            times
        };
        assert_eq!(whole(1).len(), 7_777);
        assert_eq!(whole(1), whole(3));
    }

    #[test]
    fn a_closed_loop_begins_at_once_until_its_time_is_over() {
        let extent = Extent::Time(Duration::from_millis(10));
        let mut schedule = Schedule::new(Duration::from_millis(5), extent, None, 0, 1);
        for (now, expect) in [(0, Some(false)), (5 * MS - 1, Some(false)), (5 * MS, Some(true)), (15 * MS, None)] {
            assert_eq!(schedule.next(now), expect.map(|measured| Start { at: now, measured }));
        }
        assert!(!schedule.is_finished(15 * MS - 1));
        assert!(schedule.is_finished(15 * MS));
    }

    #[test]
    fn a_number_of_requests_counts_the_measured_ones_over_all_threads() {
        let total: usize = (0..4)
            .map(|thread| {
                let mut schedule = Schedule::new(Duration::from_nanos(10), Extent::Requests(10), None, thread, 4);
                assert!(schedule.next(9).is_some_and(|start| !start.measured));
                std::iter::from_fn(|| schedule.next(10)).count()
            })
            .sum();
        assert_eq!(total, 10);
    }

    #[test]
    fn a_stopped_schedule_begins_nothing() {
        let mut schedule = open(1_000.0, 0, Extent::Requests(5), 0, 1);
        schedule.stop();
        assert_eq!(schedule.next(u64::MAX), None);
        assert!(schedule.is_finished(0));
    }
}
