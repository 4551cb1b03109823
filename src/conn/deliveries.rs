//! Deliveries whose answer is written, until the client has it.
//!
//! Written bytes first lie in this host's kernel, and would be lost with the connection. So messages are acknowledged
//! once the client's kernel has acknowledged the whole answer *and* one of these holds: the client sends more on the
//! same connection; it has closed its side in order, which no kernel does for a program that left something unread; or
//! a grace is over and it has not hung up. They are given back if the connection is reset before that, or if the
//! client's kernel takes too long. A client that acknowledges by itself does so later: its delivery is open once its
//! kernel has the answer, and no connection matters to the delivery any more.
//!
//! Bounds: a connection has one at most, and serves no further consume call while it waits; what it holds is counted in
//! the shard's budget.

use crate::{
    dialect::Handout,
    rt::Unacknowledged,
    transport::{Guard, Probe, Transport},
};
use std::{
    cell::{Cell, RefCell},
    time::Instant,
};

/// A delivery that waits.
#[derive(Debug)]
pub(super) struct Unconfirmed<T: Transport> {
    pub(super) handout: Handout,
    pub(super) id: <T::Probe as Probe>::Id,
    /// When its answer was written.
    pub(super) written: Instant,
    /// When it is given back.
    pub(super) until: Instant,
}

/// The bytes that a connection has written, and the delivery that waits for them to arrive.
#[derive(Debug)]
pub(super) struct Sent<T: Transport> {
    /// Bytes sent so far, as the transport counts them.
    bytes: Cell<u64>,
    is_finished: Cell<bool>,
    waiting: RefCell<Option<Box<Waiting<T>>>>,
}

#[derive(Debug)]
struct Waiting<T: Transport> {
    unconfirmed: Unconfirmed<T>,
    /// Bytes sent up to the end of its answer.
    end: u64,
}

/// What the kernel knows of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// The client's kernel has not acknowledged all of it.
    UnderWay,
    /// The client's kernel has acknowledged all of it.
    There,
    /// It will never be acknowledged.
    Lost,
}

impl<T: Transport> Sent<T> {
    /// Nothing sent, and nothing that waits.
    pub(super) fn new() -> Self {
        Self { bytes: Cell::new(0), is_finished: Cell::new(false), waiting: RefCell::new(None) }
    }

    /// Notes how many bytes were sent so far.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes.set(bytes);
    }

    /// Notes the same, and that nothing more will be written.
    pub(super) fn finished(&self, bytes: u64) {
        self.bytes.set(bytes);
        self.is_finished.set(true);
    }

    /// Keeps a delivery whose answer was written as a whole.
    pub(super) fn wait(&self, unconfirmed: Unconfirmed<T>) {
        *self.waiting.borrow_mut() = Some(Box::new(Waiting { unconfirmed, end: self.bytes.get() }));
    }

    /// Returns whether a delivery waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.borrow().is_some()
    }

    /// Gives back the delivery that waits.
    pub(super) fn give_back(&self) {
        self.waiting.take();
    }

    /// Settles the delivery that waits, if it can be settled: the client sends more, or has closed its side.
    pub(super) fn settle(&self, probe: &T::Probe, guard: &T::Guard) {
        match self.arrival(probe, guard) {
            Arrival::UnderWay => {}
            Arrival::There => self.arrived(),
            Arrival::Lost => self.give_back(),
        }
    }

    /// Does the same for a client that sends nothing. `false`: its time is over.
    pub(super) fn sweep(&self, probe: &T::Probe, guard: &T::Guard, now: Instant) -> bool {
        let times = self.waiting.borrow().as_ref().map(|waiting| {
            let Unconfirmed { handout, written, until, .. } = &waiting.unconfirmed;
            (*written + handout.grace(), *until)
        });
        let Some((read, until)) = times else { return true };
        match self.arrival(probe, guard) {
            Arrival::There if now >= read => self.arrived(),
            Arrival::Lost => self.give_back(),
            Arrival::There => {}
            Arrival::UnderWay if now < until => {}
            Arrival::UnderWay => {
                self.give_back();
                return false;
            }
        }
        true
    }

    fn arrival(&self, probe: &T::Probe, guard: &T::Guard) -> Arrival {
        let waiting = self.waiting.borrow();
        let Some(Waiting { unconfirmed, end }) = waiting.as_deref() else { return Arrival::There };
        match probe.unacknowledged(&unconfirmed.id) {
            Unacknowledged::Bytes(bytes) if self.bytes.get().saturating_sub(bytes.into()) >= *end => Arrival::There,
            Unacknowledged::Bytes(_) | Unacknowledged::Unknown => Arrival::UnderWay,
            // Both sides have closed, so the client's kernel has acknowledged our end of the stream and all before it.
            Unacknowledged::Closed if self.is_finished.get() && !guard.has_error() => Arrival::There,
            Unacknowledged::Closed => Arrival::Lost,
        }
    }

    fn arrived(&self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.unconfirmed.handout.arrived();
        }
    }
}
