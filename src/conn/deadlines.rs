//! Deadlines of connections, without a timer for each.
//!
//! Every connection has one entry: when it must have got further, and what happens otherwise. One sweep every [`SWEEP`]
//! looks at all of them. A deadline that passes shuts the socket down, so the pending read or write *ends*; no future
//! that holds one is ever dropped. The same sweep settles deliveries whose answer has arrived.

use super::deliveries::{Sent, Unconfirmed};
use crate::{
    limits::DELIVERIES_PER_SWEEP_MAX,
    rt,
    transport::{Guard, Transport},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

/// How often deadlines are checked, and so how late a missed one may be noticed.
pub(super) const SWEEP: Duration = Duration::from_millis(100);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For a request; the connection may simply close.
    Idle,
    /// For the rest of a request; an answer can still be written.
    Reading,
    /// For the client to read an answer, or to close.
    Writing,
    /// For nothing from the client: a request is being served.
    Serving,
}

/// The time by which a transfer has to get further. Every byte moves the deadline by its share of the least rate, but
/// never further than to a grace from now. So a client that was quick at first may not be silent for longer, and one
/// that is behind does not get by with a byte now and then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    until: Instant,
    grace: Duration,
    /// Bytes a second; 0: any byte will do.
    rate: u64,
}

impl Pace {
    pub(super) fn new(now: Instant, grace: Duration, rate: u64) -> Self {
        Self { until: now + grace, grace, rate }
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Moves the deadline by so many more bytes.
    pub(super) fn moved(&mut self, now: Instant, bytes: usize) {
        let latest = now + self.grace;
        let earned = (bytes as u64).saturating_mul(1_000_000_000).checked_div(self.rate).map(Duration::from_nanos);
        self.until = earned.map_or(latest, |earned| latest.min(self.until + earned));
    }
}

/// The deadlines of one shard.
#[derive(Debug)]
pub(super) struct Deadlines<T: Transport> {
    entries: RefCell<Entries<T>>,
    expired: Cell<u64>,
    /// Is asked about deliveries, where it answers.
    probe: Option<T::Probe>,
    /// The entry whose delivery the next sweep looks at first.
    next: Cell<usize>,
}

#[derive(Debug)]
struct Entries<T: Transport> {
    slots: Vec<Option<Rc<Entry<T>>>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Entry<T: Transport> {
    guard: T::Guard,
    phase: Cell<Phase>,
    at: Cell<Option<Instant>>,
    expired: Cell<bool>,
    sent: Sent<T>,
}

/// A connection's entry; gone when dropped, which must happen before the socket closes.
#[derive(Debug)]
pub(super) struct DeadlineGuard<T: Transport> {
    deadlines: Rc<Deadlines<T>>,
    entry: Rc<Entry<T>>,
    slot: usize,
}

impl<T: Transport> Deadlines<T> {
    /// A table without connections.
    pub(super) fn new(probe: Option<T::Probe>) -> Self {
        let entries = RefCell::new(Entries { slots: Vec::new(), free: Vec::new() });
        Self { entries, expired: Cell::new(0), probe, next: Cell::new(0) }
    }

    /// Adds a connection. It has no deadline yet.
    pub(super) fn register(self: &Rc<Self>, guard: T::Guard) -> DeadlineGuard<T> {
        let entry = Rc::new(Entry {
            guard,
            phase: Cell::new(Phase::Serving),
            at: Cell::new(None),
            expired: Cell::new(false),
            sent: Sent::new(),
        });
        let mut entries = self.entries.borrow_mut();
        let slot = entries.free.pop().unwrap_or(entries.slots.len());
        match entries.slots.get_mut(slot) {
            Some(free) => *free = Some(Rc::clone(&entry)),
            None => entries.slots.push(Some(Rc::clone(&entry))),
        }
        DeadlineGuard { deadlines: Rc::clone(self), entry, slot }
    }

    /// Returns how many connections were cut off so far.
    pub(super) fn expired(&self) -> u64 {
        self.expired.get()
    }

    /// Returns whether there is no connection.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.borrow().slots.iter().all(Option::is_none)
    }

    /// Shuts down what is overdue.
    pub(super) fn sweep(&self, now: Instant) {
        for entry in self.entries.borrow().slots.iter().flatten() {
            if entry.at.get().is_some_and(|at| at <= now) {
                entry.at.set(None);
                entry.expired.set(true);
                // A keep-alive that runs out is no incident.
                if entry.phase.get() != Phase::Idle {
                    self.expired.set(self.expired.get() + 1);
                }
                entry.end();
            }
        }
        self.sweep_deliveries(now);
    }

    /// Settles deliveries whose answer has arrived, or will not; so many at a time.
    fn sweep_deliveries(&self, now: Instant) {
        let Some(probe) = &self.probe else { return };
        let slots = &self.entries.borrow().slots;
        let first = self.next.get().min(slots.len());
        let (before, from) = slots.split_at(first);
        let mut looks = 0;
        for (count, entry) in from.iter().chain(before).enumerate() {
            let Some(entry) = entry.as_ref().filter(|entry| entry.sent.is_waiting()) else { continue };
            if looks == DELIVERIES_PER_SWEEP_MAX {
                self.next.set((first + count) % slots.len());
                return;
            }
            looks += 1;
            if !entry.sent.sweep(probe, &entry.guard, now) {
                entry.expired.set(true);
                self.expired.set(self.expired.get() + 1);
                entry.guard.shut_down();
            }
        }
    }

    /// Ends every connection that waits for a request. It shuts down only the reading side: a request that lies in the
    /// kernel's buffer already is still read, served and answered.
    pub(super) fn end_idle(&self) {
        for entry in self.entries.borrow().slots.iter().flatten() {
            if entry.phase.get() == Phase::Idle {
                entry.guard.shut_down_read();
            }
        }
    }
}

impl<T: Transport> Entry<T> {
    fn end(&self) {
        match self.phase.get() {
            Phase::Reading => self.guard.shut_down_read(),
            Phase::Idle | Phase::Writing => self.guard.shut_down(),
            Phase::Serving => {}
        }
    }
}

impl<T: Transport> DeadlineGuard<T> {
    /// Sets the phase of the connection, which has until `at`.
    pub(super) fn arm(&self, phase: Phase, at: Instant) {
        self.entry.phase.set(phase);
        self.entry.at.set(Some(at));
    }

    /// Stops the deadline while a request is served: the request has deadlines of its own.
    pub(super) fn disarm(&self) {
        self.entry.phase.set(Phase::Serving);
        self.entry.at.set(None);
    }

    /// Notes how many bytes the connection has sent so far.
    pub(super) fn sent(&self, bytes: u64) {
        self.entry.sent.sent(bytes);
    }

    /// Notes the same, and that nothing more will be written.
    pub(super) fn finished(&self, bytes: u64) {
        self.entry.sent.finished(bytes);
    }

    /// Returns where to ask whether an answer has arrived; `None` where the kernel does not say.
    pub(super) fn probe(&self) -> Option<&T::Probe> {
        self.deadlines.probe.as_ref()
    }

    /// Keeps a delivery whose answer was written as a whole: it is settled when the answer has arrived. No other may
    /// wait.
    pub(super) fn hand_over(&self, unconfirmed: Unconfirmed<T>) {
        self.entry.sent.wait(unconfirmed);
    }

    /// Notes that the connection was reset: the delivery that waits is given back.
    pub(super) fn give_back(&self) {
        self.entry.sent.give_back();
    }

    /// Waits until no delivery of this connection waits: its client sends more, or has closed its side. The sweep ends
    /// the wait at the latest.
    pub(super) async fn settled(&self) {
        if self.entry.sent.is_waiting() {
            // Boxed because it is rare: an idle connection keeps no room for it.
            Box::pin(self.wait_for_settlement()).await;
        }
    }

    async fn wait_for_settlement(&self) {
        let Some(probe) = self.probe() else { return };
        let mut pause = Duration::from_millis(1);
        loop {
            self.entry.sent.settle(probe, &self.entry.guard);
            if !self.entry.sent.is_waiting() {
                return;
            }
            rt::sleep(pause).await;
            pause = (2 * pause).min(SWEEP);
        }
    }

    /// Returns whether a deadline has passed: then the end of the stream was caused by the gateway.
    pub(super) fn expired(&self) -> bool {
        self.entry.expired.get()
    }
}

impl<T: Transport> Drop for DeadlineGuard<T> {
    fn drop(&mut self) {
        let mut entries = self.deadlines.entries.borrow_mut();
        if let Some(slot) = entries.slots.get_mut(self.slot) {
            *slot = None;
            entries.free.push(self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::clock;

    /// Moves so many bytes every so many milliseconds until that is too slow, or it is clear that it is not. Returns
    /// after how long.
    fn lasts(mut pace: Pace, begun: Instant, bytes: usize, every_ms: u64) -> Option<Duration> {
        let mut now = begun;
        for _ in 0..10_000 {
            now += Duration::from_millis(every_ms);
            if pace.until() <= now {
                return Some(pace.until() - begun);
            }
            pace.moved(now, bytes);
        }
        None
    }

    #[test]
    fn f3_quick_bytes_buy_no_later_silence() {
        let begun = clock::now();
        let grace = Duration::from_secs(10);
        let mut quick = Pace::new(begun, grace, 1_024);
        quick.moved(begun, 16 << 20);
        assert_eq!(quick.until(), begun + grace, "silent from then on");
        // A byte now and then earns a thousandth of a second each.
        let drips = lasts(quick, begun, 1, 1_000).expect("cut off");
        assert!(drips < grace + Duration::from_millis(20), "{drips:?}");
        // Half of the rate uses the grace up, twice the rate never does.
        let half = lasts(Pace::new(begun, grace, 1_024), begun, 512, 1_000).expect("cut off");
        assert!((19..=21).contains(&half.as_secs()), "{half:?}");
        assert_eq!(lasts(Pace::new(begun, grace, 1_024), begun, 2_048, 1_000), None);
        // Without a rate only silence counts.
        assert_eq!(lasts(Pace::new(begun, grace, 0), begun, 1, 9_000), None);
        assert_eq!(lasts(Pace::new(begun, grace, 0), begun, 1, 11_000), Some(grace));
    }
}
