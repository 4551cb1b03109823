//! Consumer groups: finds the group, takes the messages that are there, and settles them when the client has the
//! answer.
//!
//! At least once: a [`Delivery`] that is dropped without having been acknowledged is delivered again. A message that
//! was delivered too often becomes a dead letter instead ([`super::max_deliveries`]).

use super::{OpenDeliveries, Opening};
use crate::{
    backend::{Backend, Delivered, Fetch, Message, Settlement},
    budget::{Budget, Held},
    directory::{Directory, Local},
    limits::{DELIVERY_GRACE, FETCH_BYTES_MAX},
    metrics::ShardMetrics,
    reject::Reject,
    rt::{self, Once, clock},
    station::{Consumer, Name, Station},
    wire::Span,
};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A consume call.
#[derive(Debug, Clone, Copy)]
pub struct Consume<'a> {
    /// The station to read.
    pub station: &'a Name,
    /// Whether the station may be created for this call.
    pub create: bool,
    /// The consumer group; `None` is the default one.
    pub group: Option<&'a Name>,
    /// The principal that groups are counted for.
    pub principal: &'a str,
    /// The most messages to return.
    pub records_max: u32,
    /// How long to wait if no message is there.
    pub wait: Duration,
    /// Whether the client acknowledges the messages itself.
    pub manual_ack: bool,
    /// When the call is handled.
    pub now: Instant,
}

/// The consume service of one shard.
#[derive(Debug)]
pub struct Fetcher {
    /// Stations and groups.
    pub directory: Rc<Directory>,
    /// Where records are stored.
    pub backend: Backend,
    /// Bytes that the shard may hold.
    pub budget: Rc<Budget>,
    /// The counters of the shard.
    pub metrics: Arc<ShardMetrics>,
    /// Set when the shard drains: calls that wait end with what they have.
    pub draining: Rc<Once>,
    /// The deliveries that clients acknowledge themselves.
    pub open: Rc<OpenDeliveries>,
}

/// Messages that were delivered and are not settled yet.
#[derive(Debug)]
pub struct Delivery {
    pub(super) delivered: Delivered,
    /// When they came: the backend counts the time for their acknowledgement from about then.
    pub(super) fetched: Instant,
    pub(super) station: Rc<Local<Station>>,
    pub(super) consumer: Rc<Local<Consumer>>,
    pub(super) backend: Backend,
    settled: bool,
    /// Gives the budget back with the messages.
    pub(super) held: Held,
}

/// The messages of an answer, until the client has all of it. Dropped before that, the messages are delivered again.
#[derive(Debug)]
pub enum Handout {
    /// Acknowledged when the answer has arrived.
    Delivery(Delivery),
    /// Acknowledged by the client itself after the answer has arrived.
    Open(Opening),
}

impl Fetcher {
    /// Takes a batch of messages.
    pub async fn consume(&self, call: &Consume<'_>) -> Result<Delivery, Reject> {
        if call.manual_ack {
            self.open.room(call)?;
        }
        let started = clock::now();
        match self.attempt(call, call.wait).await {
            // The stream or the group was removed under us: look again, once, with the time that is left.
            Err(Reject::NoStream) => {
                self.directory.forget(call.station);
                self.attempt(call, call.wait.saturating_sub(clock::since(started))).await
            }
            outcome => outcome,
        }
    }

    /// Ends the deliveries that are overdue.
    pub fn sweep(&self, now: Instant) {
        self.open.sweep(now);
        self.metrics.open_deliveries.set(self.open.count() as u64);
    }

    /// Fetches until there is a message to deliver or the wait is over: all that came may have become dead letters.
    async fn attempt(&self, call: &Consume<'_>, wait: Duration) -> Result<Delivery, Reject> {
        let until = clock::now() + wait;
        let mut wait = wait;
        loop {
            let mut delivery = self.fetch(call, wait).await?;
            let max = self.deliveries_max(call.station).unwrap_or(u32::MAX);
            let are_exhausted = !delivery.exhausted(max).is_empty();
            if are_exhausted {
                // Boxed because it is rare: a future that holds it inline would be larger for every call.
                Box::pin(self.dead_letter_exhausted(call, &mut delivery, max)).await?;
            }
            if call.manual_ack && self.draining.is_set() {
                // The shard is draining: nobody could acknowledge them here any more.
                delivery.release();
            }
            wait = until.saturating_duration_since(clock::now());
            if !are_exhausted || !delivery.messages().is_empty() || wait.is_zero() || self.draining.is_set() {
                self.metrics.records_out.add(delivery.messages().len() as u64);
                return Ok(delivery);
            }
        }
    }

    async fn fetch(&self, call: &Consume<'_>, wait: Duration) -> Result<Delivery, Reject> {
        let station = self.directory.station(call.station, call.create, call.now).await?;
        let consumer = self.directory.consumer(&station, call.group, call.principal, call.now).await?;
        let mut held = self.budget.hold();
        // The answer holds each message about twice: in the arena and encoded.
        let bytes_max = FETCH_BYTES_MAX.min(self.budget.left() / 4);
        let wait = if self.draining.is_set() { Duration::ZERO } else { wait };
        let fetch = Fetch { station: &station, consumer: &consumer, records_max: call.records_max, bytes_max, wait };
        let fetching = self.backend.fetch(&fetch);
        let delivered = match &self.backend {
            // A call of the embedded store may be dropped: what it had goes back.
            Backend::Local(_) => {
                rt::unless(self.draining.wait(), fetching).await.unwrap_or(Ok(Delivered::default()))?
            }
            Backend::Nats(_) => fetching.await?,
        };
        let room = held.grow_to(2 * delivered.arena.len());
        let backend = self.backend.clone();
        let delivery = Delivery { delivered, fetched: clock::now(), station, consumer, backend, settled: false, held };
        // Without room for it, the delivery goes back when it is dropped here.
        room?;
        Ok(delivery)
    }
}

/// Counts an encoded answer beside the messages that it is made of: it is held until it has left.
#[derive(Debug)]
pub struct AnswerRoom<'a> {
    held: &'a mut Held,
    beside: usize,
}

impl<'a> AnswerRoom<'a> {
    /// The room in `held`, which counts `beside` bytes of messages already.
    pub(crate) fn new(beside: usize, held: &'a mut Held) -> Self {
        Self { held, beside }
    }

    /// Makes it so many bytes large; what it takes it keeps.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Reject> {
        self.held.grow_to(self.beside + 2 * bytes)
    }
}

impl Delivery {
    /// Returns the messages.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.delivered.messages
    }

    /// Returns the messages, the bytes that their spans point into, and the room for the answer that is made of them.
    pub fn to_encode(&mut self) -> (&[Message], &[u8], AnswerRoom<'_>) {
        let room = AnswerRoom::new(self.bytes(), &mut self.held);
        (&self.delivered.messages, &self.delivered.arena, room)
    }

    /// Returns how many bytes the delivery holds in memory.
    fn bytes(&self) -> usize {
        self.delivered.arena.len() + self.delivered.messages.len() * size_of::<Message>()
    }

    /// The answer is written: releases everything but what settles the messages.
    pub fn answered(&mut self) {
        let Delivered { arena, messages } = &mut self.delivered;
        let mut replies = Vec::new();
        for message in messages.iter_mut() {
            message.reply = Span::append(&mut replies, message.reply.of(arena));
            (message.headers, message.payload) = (Span::default(), Span::default());
        }
        replies.shrink_to_fit();
        *arena = replies;
        messages.shrink_to_fit();
        self.held.shrink_to(self.bytes());
    }

    /// The answer is encoded, in so many bytes: releases everything but what settles the messages. Returns what is held
    /// for the answer itself until it has left.
    pub(super) fn part_from_answer(&mut self, answer_bytes: usize) -> Held {
        let own = self.held.bytes().saturating_sub(2 * answer_bytes);
        let answer = self.held.split_off(own);
        self.answered();
        answer
    }

    /// Acknowledges all messages: the client has the answer.
    pub fn acknowledge(mut self) {
        self.settle(Settlement::Acknowledge);
    }

    /// Acknowledges the first `count` messages and gives the others back, to be delivered again. If the backend cannot be
    /// reached, nothing has changed.
    pub fn acknowledge_through(&mut self, count: usize) -> Result<(), Reject> {
        let others = self.delivered.messages.split_off(count.min(self.delivered.messages.len()));
        if !self.backend.settle(&self.station, &self.consumer, &self.delivered, Settlement::Acknowledge) {
            self.delivered.messages.extend(others);
            return Err(match self.backend {
                Backend::Nats(_) => Reject::BrokerFailed("no connection to pass the acknowledgement on".into()),
                Backend::Local(_) => Reject::Overloaded("the embedded store's queue"),
            });
        }
        self.delivered.messages = others;
        self.settle(Settlement::Redeliver);
        Ok(())
    }

    /// Gives all messages back, to be delivered again.
    pub fn release(&mut self) {
        self.settle(Settlement::Redeliver);
        self.delivered = Delivered::default();
    }

    fn settle(&mut self, settlement: Settlement) {
        if !self.settled && !self.delivered.messages.is_empty() {
            self.backend.settle(&self.station, &self.consumer, &self.delivered, settlement);
        }
        self.settled = true;
    }
}

impl Handout {
    /// Returns whether it holds no message at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Delivery(delivery) if delivery.messages().is_empty())
    }

    /// The answer is written.
    pub fn answered(&mut self) {
        match self {
            Self::Delivery(delivery) => delivery.answered(),
            // It holds nothing of the answer.
            Self::Open(_) => {}
        }
    }

    /// The client has the answer.
    pub fn arrived(self) {
        match self {
            Self::Delivery(delivery) => delivery.acknowledge(),
            Self::Open(opening) => opening.arrived(),
        }
    }

    /// Returns how long a client whose kernel has the answer may still hang up without having read it and get the
    /// messages again.
    #[must_use]
    pub fn grace(&self) -> Duration {
        match self {
            Self::Delivery(_) => DELIVERY_GRACE,
            // The client says itself what it has read.
            Self::Open(_) => Duration::ZERO,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(Settlement::Redeliver);
    }
}
