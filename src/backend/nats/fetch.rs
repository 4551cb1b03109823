//! Consuming: pull requests to the durable consumers of a group, one for each partition.
//!
//! The messages that are there come first: every partition is asked without waiting, in rounds, until the batch is full
//! or all are empty. Only if nothing came, all are asked to wait. Each pull has a subscription of its own, since a
//! delivered message carries the subject that it was published on, not the one that it is sent to.
//!
//! A message that arrives after its call is over, or beyond the batch, is given back at once.

use super::connection::{Connection, Incoming, Subscriber};
use crate::{
    backend::{Delivered, Fetch, Message, Settlement},
    limits::{FETCH_BYTES_MAX, FETCH_ROUND_TIMEOUT},
    reject::Reject,
    rt::{self, Notify, clock},
    station::{Consumer, Partition},
    wire::{
        Span,
        jetstream::pull::{self, Closing, Request, Status},
        nats::{encode, headers},
    },
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

/// Subject, reply and the broker's own headers, beside what `max_payload` counts.
const PULL_SLACK_BYTES: usize = 8 * 1024;
/// How long the broker's word that the wait is over may take.
const EXPIRY_SLACK: Duration = Duration::from_millis(100);

/// The pull of one partition, as the reader sees it.
#[derive(Debug, Clone)]
pub(super) struct Pull {
    buffer: Rc<FetchBuffer>,
    partition: usize,
}

/// What a consume call has gathered so far.
#[derive(Debug)]
struct FetchBuffer {
    delivered: RefCell<Delivered>,
    pulls: RefCell<Vec<Progress>>,
    round: Cell<u32>,
    records_max: usize,
    bytes_max: usize,
    changed: Notify,
    /// Whether nothing was there, and the call waits for messages to come.
    waits: Cell<bool>,
    lost: Cell<bool>,
    ended: Cell<bool>,
}

/// The state of a partition's pull.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Subscription; 0: none yet.
    sid: u64,
    /// Messages asked for in this round that have not come and may come.
    open: u32,
    /// How the last request ended, if the broker ended it.
    closed: Option<Closing>,
}

impl Pull {
    /// Takes a message that came for this pull. `false`: the batch is full.
    pub(super) fn receive(&self, message: &Incoming<'_>) -> bool {
        let Incoming { subject, reply, headers, payload } = *message;
        match Status::of(headers) {
            Some(Status::Heartbeat) => true,
            Some(Status::Closed(closing)) => {
                self.buffer.closed(self.partition, subject, closing, Status::undelivered(headers));
                true
            }
            None => self.buffer.add(self.partition, reply, headers, payload),
        }
    }

    /// Ends the call with what it has.
    pub(super) fn end(&self) {
        self.buffer.ended.set(true);
        self.buffer.changed.notify();
    }

    /// Ends the call with what it has, if nothing was there and it waits.
    pub(super) fn end_wait(&self) {
        if self.buffer.waits.get() {
            self.end();
        }
    }

    /// Ends the call: the connection is gone.
    pub(super) fn lost(&self) {
        self.buffer.lost.set(true);
        self.buffer.changed.notify();
    }
}

impl FetchBuffer {
    fn add(&self, partition: usize, reply: &[u8], headers: &[u8], payload: &[u8]) -> bool {
        let mut delivered = self.delivered.borrow_mut();
        let bytes = delivered.arena.len() + headers.len() + payload.len() + reply.len();
        let full = delivered.messages.len() >= self.records_max || bytes > self.bytes_max;
        if reply.is_empty() || (full && !delivered.messages.is_empty()) {
            return false;
        }
        if let Some(progress) = self.pulls.borrow_mut().get_mut(partition) {
            progress.open = progress.open.saturating_sub(1);
        }
        let fields = headers::field_lines(headers).of(headers);
        // A subject of another form (of a future broker) says nothing: the message is delivered all the same.
        let delivery = pull::Delivery::parse(reply);
        let sequence = delivery.map_or(0, |delivery| delivery.stream_sequence);
        let deliveries = delivery.map_or(1, |delivery| u32::try_from(delivery.delivered).unwrap_or(u32::MAX));
        let arena = &mut delivered.arena;
        let mut keep = |bytes: &[u8]| Span::append(arena, bytes);
        let (headers, payload, reply) = (keep(fields), keep(payload), keep(reply));
        let partition = u16::try_from(partition).unwrap_or(u16::MAX);
        delivered.messages.push(Message { headers, payload, reply, partition, sequence, deliveries });
        self.changed.notify();
        true
    }

    /// Handles the end of a request by the broker; that of an earlier round does not count. A consumer of several
    /// copies reports the end before it sends the messages that it has counted. The call waits for those on their way:
    /// else they would be asked for twice, given back, and delivered again in another order.
    fn closed(&self, partition: usize, subject: &[u8], closing: Closing, undelivered: Option<u32>) {
        let round = subject.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        if round != self.round.get().to_string().as_bytes() {
            return;
        }
        if let Some(progress) = self.pulls.borrow_mut().get_mut(partition) {
            progress.open = undelivered.map_or(0, |undelivered| progress.open.saturating_sub(undelivered));
            progress.closed = Some(closing);
        }
        if closing == Closing::Moved && self.waits.get() {
            // Nobody waits for that partition any more, and the other ones may be quiet for long.
            self.ended.set(true);
        }
        self.changed.notify();
    }

    fn len(&self) -> usize {
        self.delivered.borrow().messages.len()
    }

    /// Returns whether nothing more will come in this round.
    fn is_settled(&self) -> bool {
        self.lost.get()
            || self.ended.get()
            || self.len() >= self.records_max
            || self.pulls.borrow().iter().all(|pull| pull.open == 0)
    }

    /// Waits until the round is settled or the time is up.
    async fn settled(&self, until: Instant) {
        while !self.is_settled() {
            let left = until.saturating_duration_since(clock::now());
            if rt::deadline(left, self.changed.wait()).await.is_err() {
                return;
            }
        }
    }

    /// Returns the pulls that the broker has not answered at all: asking again may help, taking them for "empty" would
    /// not. Messages that it said it had sent and that did not come are delivered again later.
    fn give_up_open_pulls(&self) {
        for pull in self.pulls.borrow_mut().iter_mut().filter(|pull| pull.open > 0) {
            pull.open = 0;
            pull.closed.get_or_insert(Closing::Busy);
        }
    }

    /// Returns the reject of the first pull that ended because something is wrong.
    fn failure(&self) -> Option<Reject> {
        if self.lost.get() {
            return Some(Reject::BrokerAway);
        }
        self.pulls.borrow().iter().find_map(|pull| match pull.closed? {
            Closing::Served => None,
            Closing::Gone => Some(Reject::NoStream),
            // Nothing was there when the wait began: it ends early, and the next call finds the new leader.
            Closing::Moved if self.waits.get() => None,
            Closing::Moved | Closing::Busy => Some(Reject::BrokerBusy),
            // What others hold of the shard's memory comes back.
            Closing::BytesMax if self.bytes_max < FETCH_BYTES_MAX => Some(Reject::Overloaded("memory for answers")),
            Closing::BytesMax => Some(Reject::Conflict(
                format!(
                    "the group's next message is larger than an answer may be ({FETCH_BYTES_MAX} bytes): acknowledge it by other \
                    means"
                )
                .into(),
            )),
            Closing::Refused(_) => Some(Reject::Conflict(
                "the group's consumer does not allow such a call (max_batch, max_expires or max_bytes): ask for less, or change \
                the consumer"
                    .into(),
            )),
        })
    }
}

impl Connection {
    /// Delivers messages of a group.
    pub async fn fetch(&self, fetch: &Fetch<'_>) -> Result<Delivered, Reject> {
        let record_bytes_max = self.connected().await?.record_bytes_max;
        let partitions = &fetch.station.partitions;
        let buffer = Rc::new(FetchBuffer {
            delivered: RefCell::default(),
            pulls: RefCell::new(vec![Progress::default(); partitions.len()]),
            round: Cell::new(0),
            records_max: fetch.records_max as usize,
            bytes_max: fetch.bytes_max,
            changed: Notify::default(),
            waits: Cell::new(false),
            lost: Cell::new(false),
            ended: Cell::new(false),
        });
        let pull_bytes_min = record_bytes_max.saturating_add(PULL_SLACK_BYTES);
        let call = Call { connection: self, fetch, buffer: &buffer, pull_bytes_min };
        call.take_what_is_there().await;
        // On a connection that is being left nothing is waited for: what came then would not come over the next one.
        if buffer.len() == 0 && call.may_go_on() && !fetch.wait.is_zero() && self.is_up() {
            call.wait_for_more().await;
        }
        call.unsubscribe();
        let delivered = buffer.delivered.take();
        match buffer.failure() {
            Some(reject) if delivered.messages.is_empty() => Err(reject),
            _ => Ok(delivered),
        }
    }

    /// Acknowledges messages, or gives them back. If that is lost with the connection, they are only delivered again.
    pub fn settle(&self, delivered: &Delivered, settlement: Settlement) -> bool {
        // Also to a server that is being left: what is written still goes there.
        if !self.is_connected() {
            return false;
        }
        let word = match settlement {
            Settlement::Acknowledge => pull::ACK,
            Settlement::Redeliver => pull::NAK,
        };
        let mut out = self.out.append();
        for message in &delivered.messages {
            encode::pub_(&mut out, message.reply.of(&delivered.arena), None, word);
        }
        true
    }
}

/// One consume call.
struct Call<'a> {
    connection: &'a Connection,
    fetch: &'a Fetch<'a>,
    buffer: &'a Rc<FetchBuffer>,
    /// A pull that allowed less than the largest record would never be served.
    pull_bytes_min: usize,
}

impl Call<'_> {
    /// Makes rounds of requests that do not wait: partitions that gave all they were asked for are asked again.
    async fn take_what_is_there(&self) {
        let mut asked = self.partitions();
        while !asked.is_empty() && self.buffer.len() < self.buffer.records_max && self.may_go_on() {
            let room = self.buffer.records_max - self.buffer.len();
            let later = asked.split_off(asked.len().min(room).min(self.pulls_that_fit()));
            self.request(&asked, room, None);
            self.buffer.settled(clock::now() + FETCH_ROUND_TIMEOUT).await;
            self.buffer.give_up_open_pulls();
            let pulls = self.buffer.pulls.borrow();
            asked.retain(|partition| pulls.get(*partition).is_some_and(|pull| pull.closed.is_none()));
            drop(pulls);
            if self.bytes_left() < self.pull_bytes_min && self.buffer.len() > 0 {
                return;
            }
            // Partitions not asked yet come before those that may have more.
            asked.splice(0..0, later);
        }
    }

    /// Asks as many partitions as the batch has room for, until it is full or the time is up.
    async fn wait_for_more(&self) {
        let mut asked = self.partitions();
        asked.truncate(self.buffer.records_max.min(self.pulls_that_fit()));
        self.buffer.waits.set(true);
        self.request(&asked, self.buffer.records_max, Some(self.fetch.wait));
        self.buffer.settled(clock::now() + self.fetch.wait + EXPIRY_SLACK).await;
    }

    /// Asks all partitions. Every call begins with another one, so that a small batch does not always come from the
    /// first.
    fn partitions(&self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.fetch.station.partitions.len()).collect();
        let first = usize::try_from(self.connection.jetstream.count_call()).unwrap_or(0) % all.len().max(1);
        all.rotate_left(first);
        all
    }

    fn may_go_on(&self) -> bool {
        self.buffer.failure().is_none() && !self.buffer.ended.get()
    }

    /// Asks partitions for `records` messages in all: exactly shared out, since a message beyond them is given back.
    fn request(&self, partitions: &[usize], records: usize, expires: Option<Duration>) {
        let buffer = self.buffer;
        buffer.round.set(buffer.round.get() + 1);
        let count = partitions.len().max(1);
        let bytes = (self.bytes_left() / count).max(self.pull_bytes_min);
        let mut out = self.connection.out.append();
        let mut pulls = buffer.pulls.borrow_mut();
        let mut payload = Vec::new();
        for (place, index) in partitions.iter().enumerate() {
            let (Some(progress), Some(partition)) = (pulls.get_mut(*index), self.fetch.station.partitions.get(*index))
            else {
                continue;
            };
            let share = records / count + usize::from(place < records % count);
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            if progress.sid == 0 {
                let pull = Subscriber::Pull(Pull { buffer: Rc::clone(buffer), partition: *index });
                let Some(sid) = self.connection.subscriptions.borrow_mut().insert(pull) else {
                    progress.closed = Some(Closing::Busy);
                    continue;
                };
                progress.sid = sid;
                let subject = format!("{}f.{}.*", self.connection.inbox, progress.sid);
                encode::sub(&mut out, subject.as_bytes(), None, progress.sid);
            }
            progress.open = share;
            progress.closed = None;
            let max_bytes = u64::try_from(bytes).ok();
            let request =
                Request { batch: share, expires, no_wait: expires.is_none(), max_bytes, idle_heartbeat: None };
            payload.clear();
            pull::request_payload(&mut payload, &request);
            let reply = format!("{}f.{}.{}", self.connection.inbox, progress.sid, buffer.round.get());
            encode::pub_(&mut out, &next_subject(partition, self.fetch.consumer), Some(reply.as_bytes()), &payload);
        }
    }

    /// Returns the bytes that the answer may still take.
    fn bytes_left(&self) -> usize {
        self.fetch.bytes_max.saturating_sub(self.buffer.delivered.borrow().arena.len())
    }

    /// Returns how many pulls can be under way at once without more messages coming than the answer may hold.
    fn pulls_that_fit(&self) -> usize {
        (self.bytes_left() / self.pull_bytes_min.max(1)).max(1)
    }

    fn unsubscribe(&self) {
        let mut out = self.connection.out.append();
        for progress in self.buffer.pulls.borrow().iter().filter(|progress| progress.sid != 0) {
            if self.connection.subscriptions.borrow_mut().remove(progress.sid).is_some() {
                encode::unsub(&mut out, progress.sid, None);
            }
        }
    }
}

fn next_subject(partition: &Partition, consumer: &Consumer) -> Vec<u8> {
    let mut subject = Vec::with_capacity(96);
    pull::request_subject(&mut subject, pull::API_PREFIX, &partition.stream, &consumer.durable);
    subject
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_a_consumer_that_moves_ends_a_wait_for_messages_and_fails_a_look_at_those_that_are_there() {
        let closed = |closing| Progress { closed: Some(closing), ..Progress::default() };
        for (closing, waits, expect) in [
            (Closing::Served, false, None),
            (Closing::Moved, false, Some(Reject::BrokerBusy)),
            (Closing::Moved, true, None),
            (Closing::Busy, true, Some(Reject::BrokerBusy)),
            (Closing::Gone, true, Some(Reject::NoStream)),
        ] {
            let pulls = RefCell::new(vec![Progress::default(), closed(closing)]);
            let buffer = FetchBuffer { pulls, ..waiting(waits) };
            assert_eq!(buffer.failure(), expect, "{closing:?}, waits: {waits}");
        }
    }

    #[test]
    fn c6_a_wait_for_several_partitions_ends_when_one_of_them_moves() {
        let open = || Progress { open: 1, ..Progress::default() };
        for (closing, waits, expect) in
            [(Closing::Moved, true, true), (Closing::Moved, false, false), (Closing::Served, true, false)]
        {
            let buffer = FetchBuffer { pulls: RefCell::new(vec![open(), open()]), ..waiting(waits) };
            buffer.closed(0, b"inbox.f.7.1", closing, None);
            assert_eq!(buffer.is_settled(), expect, "{closing:?}, waits: {waits}");
        }
    }

    /// A call for one record in its first round.
    fn waiting(waits: bool) -> FetchBuffer {
        FetchBuffer {
            delivered: RefCell::default(),
            pulls: RefCell::default(),
            round: Cell::new(1),
            records_max: 1,
            bytes_max: FETCH_BYTES_MAX,
            changed: Notify::default(),
            waits: Cell::new(waits),
            lost: Cell::new(false),
            ended: Cell::new(false),
        }
    }
}
