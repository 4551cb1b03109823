//! Requests that wait for room, first come, first served.

use super::Room;
use std::{collections::VecDeque, task::Waker};

/// A place in the queue for room; empty at first, and again when the room was taken.
///
/// A ticket that is dropped while it holds a place blocks those behind it: call [`super::Window::leave`] first.
#[derive(Debug, Default)]
pub struct Ticket(Option<u64>);

impl Ticket {
    /// Returns whether it holds a place.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.0.is_some()
    }
}

/// The queue, in the order of tickets, so that one is found by binary search.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    queue: VecDeque<Waiter>,
    /// The last ticket that was given.
    ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// The room that it waits for.
    need: Room,
    /// `None` once it was woken, until it is polled again.
    waker: Option<Waker>,
}

impl Tickets {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether no one stands before the holder of `turn`.
    pub(super) fn is_next(&self, turn: &Ticket) -> bool {
        match self.queue.front() {
            Some(first) => turn.0 == Some(first.ticket),
            None => true,
        }
    }

    /// Waits at the place of `turn`, or at the end of the queue. `false` if the queue is full.
    pub(super) fn wait(&mut self, turn: &mut Ticket, need: Room, waiters_max: usize, waker: &Waker) -> bool {
        if let Some(waiter) = self.place(turn).and_then(|place| self.queue.get_mut(place)) {
            waiter.need = need;
            match &mut waiter.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            return true;
        }
        if self.queue.len() >= waiters_max {
            return false;
        }
        self.ticket += 1;
        turn.0 = Some(self.ticket);
        self.queue.push_back(Waiter { ticket: self.ticket, need, waker: Some(waker.clone()) });
        true
    }

    /// Gives up the place of `turn`.
    pub(super) fn leave(&mut self, turn: &mut Ticket) {
        if let Some(place) = self.place(turn) {
            self.queue.remove(place);
        }
        turn.0 = None;
    }

    /// Returns the room that the first in the queue waits for.
    pub(super) fn first_need(&self) -> Option<Room> {
        self.queue.front().map(|waiter| waiter.need)
    }

    /// Takes the first one's waker, if it was not woken already.
    pub(super) fn take_first_waker(&mut self) -> Option<Waker> {
        self.queue.front_mut().and_then(|waiter| waiter.waker.take())
    }

    fn place(&self, turn: &Ticket) -> Option<usize> {
        let ticket = turn.0?;
        self.queue.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}
