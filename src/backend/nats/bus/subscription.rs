//! A subscription: the messages on a subject, in a queue of its own.
//!
//! A subscriber that does not keep up is ended ([`Failure::Slow`]) and not thinned out: whoever has missed a message
//! has to know it, and can begin anew. So it is with one whose connection is lost.

use super::{Failure, fits_a_line, is_pattern};
use crate::{
    backend::nats::connection::{Connection, Incoming, Subscriber},
    limits::{BUS_QUEUE_BYTES_MAX, BUS_QUEUE_MESSAGES_MAX, BUS_QUEUED_BYTES_MAX, BUS_SUBSCRIPTIONS_MAX},
    rt::Notify,
    wire::{Span, nats::encode},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    num::NonZeroU64,
    rc::Rc,
};

/// A message that came for a subscription.
#[derive(Debug)]
pub struct Received {
    bytes: Box<[u8]>,
    subject: Span,
    reply: Span,
    headers: Span,
    payload: Span,
}

impl Received {
    fn new(message: &Incoming<'_>) -> Self {
        let parts = [message.subject, message.reply, message.headers, message.payload];
        let mut at = 0;
        let [subject, reply, headers, payload] = parts.map(|part| {
            let start = at;
            at = u32::try_from(part.len()).map_or(u32::MAX, |bytes| at.saturating_add(bytes));
            Span { start, end: at }
        });
        Self { bytes: parts.concat().into(), subject, reply, headers, payload }
    }

    /// Returns the subject that it was published on.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        self.subject.of(&self.bytes)
    }

    /// Returns where an answer goes; empty if none is wanted.
    #[must_use]
    pub fn reply(&self) -> &[u8] {
        self.reply.of(&self.bytes)
    }

    /// Returns the header block with its version line; empty if there is none.
    #[must_use]
    pub fn headers(&self) -> &[u8] {
        self.headers.of(&self.bytes)
    }

    /// Returns what it says.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload.of(&self.bytes)
    }
}

/// The messages of a subscription that its subscriber has not taken yet.
#[derive(Debug)]
pub(in crate::backend::nats) struct Queue {
    subject: Box<str>,
    messages: RefCell<VecDeque<Received>>,
    /// Their bytes.
    bytes: Cell<usize>,
    /// The bytes in all queues of the connection.
    queued: Rc<Cell<usize>>,
    /// Messages that may still come; `None`: any number.
    left: Cell<Option<u64>>,
    failure: RefCell<Option<Failure>>,
    changed: Notify,
}

impl Queue {
    /// Takes a message. Returns whether more may come.
    pub(in crate::backend::nats) fn receive(&self, message: &Incoming<'_>) -> bool {
        if self.is_over() {
            return false;
        }
        let received = Received::new(message);
        let (bytes, queued) = (received.bytes.len(), self.queued.get() + received.bytes.len());
        let mut messages = self.messages.borrow_mut();
        // One message that is larger than that has the room alone.
        let is_full = messages.len() >= BUS_QUEUE_MESSAGES_MAX
            || (!messages.is_empty() && self.bytes.get() + bytes > BUS_QUEUE_BYTES_MAX)
            || (self.queued.get() > 0 && queued > BUS_QUEUED_BYTES_MAX);
        if is_full {
            self.fail(Failure::Slow);
            return false;
        }
        self.bytes.set(self.bytes.get() + bytes);
        self.queued.set(queued);
        self.left.set(self.left.get().map(|left| left.saturating_sub(1)));
        messages.push_back(received);
        self.changed.notify();
        !self.is_over()
    }

    /// Ends it once the subscriber has taken what came before. The first failure counts.
    pub(in crate::backend::nats) fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
        self.changed.notify();
    }

    /// Returns whether it is on this subject.
    pub(in crate::backend::nats) fn is_on(&self, subject: &str) -> bool {
        *self.subject == *subject
    }

    /// Returns whether nothing more comes.
    fn is_over(&self) -> bool {
        self.left.get() == Some(0) || self.failure.borrow().is_some()
    }

    fn pop(&self) -> Option<Received> {
        let received = self.messages.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get().saturating_sub(received.bytes.len()));
        self.queued.set(self.queued.get().saturating_sub(received.bytes.len()));
        Some(received)
    }
}

/// A subscription; it ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    connection: Rc<Connection>,
    sid: u64,
    queue: Rc<Queue>,
}

impl Subscription {
    /// Waits for the next message. `None`: as many have come as were asked for.
    ///
    /// A failure ends the subscription, behind everything that came before it.
    pub async fn next(&mut self) -> Result<Option<Received>, Failure> {
        loop {
            if let Some(received) = self.queue.pop() {
                return Ok(Some(received));
            }
            if let Some(failure) = &*self.queue.failure.borrow() {
                return Err(failure.clone());
            }
            if self.queue.is_over() {
                return Ok(None);
            }
            self.queue.changed.wait().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.connection.unsubscribe(self.sid);
        while self.queue.pop().is_some() {}
        let bus = &self.connection.bus;
        bus.subscriptions.set(bus.subscriptions.get().saturating_sub(1));
    }
}

impl Connection {
    /// Subscribes to a subject, which may have wildcards, once there is a connection. After `messages_max` messages the
    /// subscription ends by itself.
    ///
    /// What is published after a reply to a request that was sent behind it does come; what is published before that may.
    pub async fn subscribe(
        self: &Rc<Self>,
        subject: &str,
        messages_max: Option<NonZeroU64>,
    ) -> Result<Subscription, Failure> {
        if !is_pattern(subject) || !fits_a_line(&[subject]) {
            return Err(Failure::Subject);
        }
        self.connected_within(self.limits.hold).await.ok_or(Failure::Away)?;
        // No await from here on: what is written while the connection stands is written to it.
        let subscriptions = self.bus.subscriptions.get();
        if subscriptions >= BUS_SUBSCRIPTIONS_MAX || self.out.len() > self.limits.window_bytes_max {
            return Err(Failure::Full);
        }
        let messages_max = messages_max.map(NonZeroU64::get);
        let queue = Rc::new(Queue {
            subject: subject.into(),
            messages: RefCell::default(),
            bytes: Cell::new(0),
            queued: Rc::clone(&self.bus.queued),
            left: Cell::new(messages_max),
            failure: RefCell::default(),
            changed: Notify::default(),
        });
        let subscriber = Subscriber::Queue(Rc::clone(&queue));
        let sid = self.subscriptions.borrow_mut().insert(subscriber).ok_or(Failure::Full)?;
        self.bus.subscriptions.set(subscriptions + 1);
        let mut out = self.out.append();
        encode::sub(&mut out, subject.as_bytes(), None, sid);
        if messages_max.is_some() {
            encode::unsub(&mut out, sid, messages_max);
        }
        drop(out);
        Ok(Subscription { connection: Rc::clone(self), sid, queue })
    }

    /// Ends a subscription that was made on the connection, if it has not ended with it.
    pub(in crate::backend::nats) fn unsubscribe(&self, sid: u64) {
        if self.subscriptions.borrow_mut().remove(sid).is_some() {
            encode::unsub(&mut self.out.append(), sid, None);
        }
    }
}
