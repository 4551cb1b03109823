//! Deadlines of connections, without a timer each.
//!
//! Every connection has one entry: when it must have got further, and what happens otherwise. One
//! sweep every [`SWEEP`] looks at all of them. A deadline that passes shuts the socket down, so the
//! pending read or write *ends*; no future that holds one is ever dropped.

use crate::rt::Guard;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

/// How often deadlines are looked at, and so how late they may be noticed.
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

/// The deadlines of one shard.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    entries: RefCell<Entries>,
    expired: Cell<u64>,
}

#[derive(Debug, Default)]
struct Entries {
    slots: Vec<Option<Rc<Entry>>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    guard: Guard,
    phase: Cell<Phase>,
    at: Cell<Option<Instant>>,
    expired: Cell<bool>,
}

/// A connection's entry; gone when dropped, which must happen before the socket closes.
#[derive(Debug)]
pub(super) struct Armed {
    deadlines: Rc<Deadlines>,
    entry: Rc<Entry>,
    slot: usize,
}

impl Deadlines {
    /// Adds a connection. It has no deadline yet.
    pub(super) fn register(self: &Rc<Self>, guard: Guard) -> Armed {
        let entry =
            Rc::new(Entry { guard, phase: Cell::new(Phase::Serving), at: Cell::new(None), expired: Cell::new(false) });
        let mut entries = self.entries.borrow_mut();
        let slot = entries.free.pop().unwrap_or(entries.slots.len());
        match entries.slots.get_mut(slot) {
            Some(free) => *free = Some(Rc::clone(&entry)),
            None => entries.slots.push(Some(Rc::clone(&entry))),
        }
        Armed { deadlines: Rc::clone(self), entry, slot }
    }

    /// Connections cut off so far.
    pub(super) fn expired(&self) -> u64 {
        self.expired.get()
    }

    /// Ends what is overdue.
    pub(super) fn sweep(&self, now: Instant) {
        for entry in self.entries.borrow().slots.iter().flatten() {
            if entry.at.get().is_some_and(|at| at <= now) {
                entry.at.set(None);
                entry.expired.set(true);
                // Keep-alive running out is no incident.
                if entry.phase.get() != Phase::Idle {
                    self.expired.set(self.expired.get() + 1);
                }
                entry.end();
            }
        }
    }

    /// Ends every connection that waits for a request. Only its reading side: a request that lies in the kernel's
    /// buffer already is still read, served and answered.
    pub(super) fn end_idle(&self) {
        for entry in self.entries.borrow().slots.iter().flatten() {
            if entry.phase.get() == Phase::Idle {
                entry.guard.shut_down_read();
            }
        }
    }
}

impl Entry {
    fn end(&self) {
        match self.phase.get() {
            Phase::Reading => self.guard.shut_down_read(),
            Phase::Idle | Phase::Writing => self.guard.shut_down(),
            Phase::Serving => {}
        }
    }
}

impl Armed {
    /// From now on the connection is in `phase`, and has until `at`.
    pub(super) fn arm(&self, phase: Phase, at: Instant) {
        self.entry.phase.set(phase);
        self.entry.at.set(Some(at));
    }

    /// A request is being served: its own deadlines count.
    pub(super) fn disarm(&self) {
        self.entry.phase.set(Phase::Serving);
        self.entry.at.set(None);
    }

    /// Whether a deadline has passed: the end of stream that was seen is ours.
    pub(super) fn expired(&self) -> bool {
        self.entry.expired.get()
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        let mut entries = self.deadlines.entries.borrow_mut();
        if let Some(slot) = entries.slots.get_mut(self.slot) {
            *slot = None;
            entries.free.push(self.slot);
        }
    }
}
