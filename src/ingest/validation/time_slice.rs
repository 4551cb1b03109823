//! How long a shard may validate records before it has to look at its sockets again. Pure.
//!
//! Requests that validate share one allowance: what one uses, the next to come does not have. It fills again while the
//! shard does anything else, four times as quickly as it is used, so that records that are validated quickly never wait
//! for it. A request that finds the allowance spent still gets a little, enough for a small request. A request that
//! goes on stands in line, and the first in line has the next time slice. So however many validate at a time, the shard
//! looks at its sockets in between.

use crate::{
    limits::{TIME_SLICE, TIME_SLICE_MIN, TIME_SLICE_WAITS_MAX},
    reject::Reject,
    rt::clock,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How much faster the allowance fills than it is used.
const FILLS: u32 = 4;

/// The allowance of one shard.
#[derive(Debug, Default)]
pub struct TimeSlices {
    used: Cell<Duration>,
    /// When the allowance was used last.
    at: Cell<Option<Instant>>,
    /// The requests in line, by the number of their ticket.
    line: RefCell<BTreeSet<u64>>,
    tickets: Cell<u64>,
}

/// The place of a request that validates; it leaves the line when it is dropped.
#[derive(Debug)]
pub(in crate::ingest) struct Ticket<'a> {
    slices: &'a TimeSlices,
    /// Its place in line, once it has begun.
    number: Option<u64>,
    /// How often it was the first in line and had to wait.
    waited: u32,
}

impl TimeSlices {
    /// Returns a ticket for a request that begins.
    pub(in crate::ingest) fn ticket(&self) -> Ticket<'_> {
        Ticket { slices: self, number: None, waited: 0 }
    }

    /// Returns what is left of the allowance.
    fn left(&self, now: Instant) -> Duration {
        let idle = self.at.get().map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        self.used.set(self.used.get().saturating_sub(idle.saturating_mul(FILLS)));
        self.at.set(Some(now));
        TIME_SLICE.saturating_sub(self.used.get())
    }
}

impl Ticket<'_> {
    /// Works until the time that `work` is told, if it is this request's turn; `None`: it is another one's.
    pub(in crate::ingest) fn work<R>(
        &mut self,
        work: impl FnOnce(Instant) -> Result<R, Reject>,
    ) -> Result<Option<R>, Reject> {
        let begin = clock::now();
        let Some(time) = self.begin(begin) else { return Ok(None) };
        let result = work(begin + time)?;
        let end = clock::now();
        self.end(end - begin, end);
        Ok(Some(result))
    }

    /// Returns how long a time slice that begins now may take; `None`: it is another request's turn.
    pub(in crate::ingest) fn begin(&mut self, now: Instant) -> Option<Duration> {
        let left = self.slices.left(now);
        if let Some(ticket) = self.number {
            if self.slices.line.borrow().first() != Some(&ticket) {
                return None;
            }
            // Small requests alone may use all of the allowance.
            if left < TIME_SLICE_MIN && self.waited < TIME_SLICE_WAITS_MAX {
                self.waited += 1;
                return None;
            }
        }
        Some(left.max(TIME_SLICE_MIN))
    }

    /// Ends a time slice that took so long. The request's next one comes after those of all that are in line.
    pub(in crate::ingest) fn end(&mut self, took: Duration, now: Instant) {
        let slices = self.slices;
        slices.used.set((slices.used.get() + took).min(TIME_SLICE));
        slices.at.set(Some(now));
        self.leave();
        let ticket = slices.tickets.get();
        slices.tickets.set(ticket + 1);
        slices.line.borrow_mut().insert(ticket);
        (self.number, self.waited) = (Some(ticket), 0);
    }

    fn leave(&mut self) {
        if let Some(ticket) = self.number.take() {
            self.slices.line.borrow_mut().remove(&ticket);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_they_share_an_allowance_that_fills_while_the_shard_does_something_else() {
        let slices = TimeSlices::default();
        let mut now = clock::now();
        let millis = Duration::from_millis;
        let micros = Duration::from_micros;
        let left = |used| TIME_SLICE.saturating_sub(millis(used));
        assert_eq!(slices.ticket().begin(now), Some(TIME_SLICE));
        // Idle before, used, what the next one then has.
        for (idle, took, expect) in [
            (millis(0), millis(1), left(1)),
            (millis(0), millis(2), left(3)),
            (micros(500), millis(0), left(1)),
            (millis(1), millis(0), TIME_SLICE),
            (millis(9), TIME_SLICE + millis(7), TIME_SLICE_MIN),
            (millis(0), TIME_SLICE_MIN, TIME_SLICE_MIN),
            (millis(1), millis(0), TIME_SLICE),
        ] {
            now += idle;
            let mut place = slices.ticket();
            place.begin(now);
            now += took;
            place.end(took, now);
            assert_eq!(slices.ticket().begin(now), Some(expect), "{idle:?} {took:?}");
            assert_eq!(place.begin(now), Some(expect).filter(|left| *left > TIME_SLICE_MIN), "{idle:?} {took:?}");
        }
    }

    /// Requests that never end, all woken at each tick, always in the same order.
    #[test]
    fn a_thousand_at_a_time_leave_the_shard_its_ticks_and_each_has_its_turn() {
        const COUNT: usize = 1_000;
        let slices = TimeSlices::default();
        let mut now = clock::now();
        let mut places: Vec<_> = (0..COUNT).map(|_| (slices.ticket(), 0_u32)).collect();
        for tick in 0..2 * COUNT {
            let begun = now;
            for (place, had) in &mut places {
                if let Some(turn) = place.begin(now) {
                    *had += 1;
                    now += turn;
                    place.end(turn, now);
                }
            }
            // In the first, all come at once.
            assert!(tick == 0 || now - begun <= TIME_SLICE, "{tick}: {:?}", now - begun);
            now += Duration::from_millis(1);
        }
        assert!(places.iter().all(|(_, had)| *had >= 2), "{places:?}");
        drop(places);
        assert_eq!(slices.line.borrow().len(), 0);
    }

    #[test]
    fn who_is_first_goes_on_although_small_requests_use_the_allowance() {
        let slices = TimeSlices::default();
        let now = clock::now();
        let mut large = slices.ticket();
        large.end(TIME_SLICE, now);
        let mut waited = 0;
        while large.begin(now).is_none() {
            assert_eq!(slices.ticket().begin(now), Some(TIME_SLICE_MIN));
            waited += 1;
            assert!(waited <= TIME_SLICE_WAITS_MAX);
        }
        assert_eq!(waited, TIME_SLICE_WAITS_MAX);
    }
}
