//! Where records are kept: NATS JetStream, or the embedded store. One enum, no trait objects.
//!
//! Both take a request's records at once, as spans of its body, and answer one [`Outcome`] a record.
//! An outcome is `Stored` only if the backend has acknowledged that very record.

pub mod local;
pub mod nats;
mod read;
#[cfg(test)]
pub(crate) mod read_contract;

pub use read::{Bounds, Page, PageRecord, Read, Start};

use crate::{
    limits::{Limits, REPUBLISH_HOLDS},
    record::{MessageId, Outcome, Partitions, RecordHeaders},
    reject::Reject,
    rt::clock,
    station::{Consumer, Station},
    wire::Span,
};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Where a shard keeps records.
#[derive(Debug, Clone)]
pub enum Backend {
    /// NATS JetStream, over the shard's own connection.
    Nats(Rc<nats::Connection>),
    /// The embedded store.
    Local(Rc<local::Handle>),
}

impl Backend {
    /// Stores records. `Ok`: one outcome a record, in input order. `Err`: not one was sent.
    pub async fn publish(&self, publish: &Publish<'_>, outcomes: &mut Vec<Outcome>) -> Result<(), Reject> {
        match self {
            Self::Nats(connection) => connection.publish(publish, outcomes).await,
            Self::Local(handle) => handle.publish_in_time(publish, outcomes).await,
        }
    }

    /// How long records may be published again.
    #[must_use]
    pub fn repeats(&self) -> Repeats {
        match self {
            Self::Nats(connection) => Repeats::of(&connection.limits),
            Self::Local(handle) => handle.repeats(),
        }
    }

    /// Delivers messages of a group: what is there, or what comes within the wait.
    pub async fn fetch(&self, fetch: &Fetch<'_>) -> Result<Delivered, Reject> {
        match self {
            Self::Nats(connection) => connection.fetch(fetch).await,
            Self::Local(handle) => handle.fetch(fetch).await,
        }
    }

    /// Reads records by place. Nothing is acknowledged, and nothing is left behind.
    pub async fn read(&self, read: &Read<'_>) -> Result<Page, Reject> {
        match self {
            Self::Nats(connection) => connection.read_page(read).await,
            Self::Local(handle) => handle.read(read).await,
        }
    }

    /// Returns a watch of a station, which does nothing by itself.
    #[must_use]
    pub fn watch(&self, station: Arc<Station>) -> Watch {
        match self {
            Self::Nats(connection) => Watch::Nats(nats::Watch::new(Rc::clone(connection), station)),
            Self::Local(handle) => Watch::Local(local::Watch::new(Rc::clone(handle), station)),
        }
    }

    /// Acknowledges messages or gives them back. If that is lost, they come again. `false`: it cannot be said now.
    #[expect(clippy::must_use_candidate, reason = "most callers have nobody to tell")]
    pub fn settle(
        &self,
        station: &Station,
        consumer: &Consumer,
        delivered: &Delivered,
        settlement: Settlement,
    ) -> bool {
        match self {
            Self::Nats(connection) => connection.settle(delivered, settlement),
            Self::Local(handle) => handle.settle(&station.name, consumer, delivered, settlement),
        }
    }
}

/// A shard's watch of one station for what is appended to it. One serves all who wait: see `consume::read`.
#[derive(Debug)]
pub enum Watch {
    /// Asks the broker now and then.
    Nats(nats::Watch),
    /// Is told by the embedded store.
    Local(local::Watch),
}

impl Watch {
    /// Waits until a partition has a record at or after the sequence that is wanted of it. Returns the partitions that have, and
    /// the newest sequence that each is known to have. May be dropped at any point and called again.
    pub async fn reached(&mut self, wanted: &[(u16, u64)]) -> Result<Vec<(u16, u64)>, Reject> {
        match self {
            Self::Nats(watch) => watch.reached(wanted).await,
            Self::Local(watch) => watch.reached(wanted).await,
        }
    }
}

/// How long records may be published again, from the first time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    /// Those that were refused for the moment.
    pub refused: Duration,
    /// Those that may be stored or not: as long as an answer is waited for.
    pub unknown: Duration,
}

impl Repeats {
    fn of(limits: &Limits) -> Self {
        Self { refused: limits.hold * REPUBLISH_HOLDS, unknown: limits.ack_timeout }
    }

    /// Until when a record that may have been stored `since` then may be sent again to a station that knows ids for so long;
    /// `None`: never.
    ///
    /// Every error is on the safe side. The station counts from when it stored the first copy, which is not before it was sent,
    /// and forgets an id by a timer, which is not before its time. What is sent now may be stored later: for as long as its answer
    /// is waited for it may be on its way, so it is sent no later than that before the id is forgotten. The same time makes up for
    /// clocks that differ: a new leader judges by its own how old the copies are.
    #[must_use]
    pub fn unknown_until(&self, since: Instant, duplicate_window: Duration) -> Option<Instant> {
        duplicate_window.checked_sub(self.unknown).and_then(|rest| since.checked_add(rest))
    }

    /// Whether a station that knows ids for so long knows them whenever a record is sent again. If not, an answer is waited for as
    /// if its record had none.
    #[must_use]
    pub fn all_fit(&self, duplicate_window: Duration) -> bool {
        duplicate_window >= self.unknown.saturating_mul(2)
    }
}

/// Records of one request, ready to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Where to.
    pub station: &'a Station,
    /// The decoded body.
    pub body: &'a [u8],
    /// The payload of each record, in `body`, in input order.
    pub records: &'a [Span],
    /// Header fields stored with every record: `Name: value\r\n` each, without the message id.
    pub headers: &'a [u8],
    /// The request's message id, if it has one.
    pub id: Option<MessageId<'a>>,
    /// Header fields that single records have beside these, by their index in the request.
    pub record_headers: Option<RecordHeaders<'a>>,
    /// The index of each record in the request, if others of it are not among them. Message ids are numbered by it.
    pub indexes: Option<&'a [u32]>,
    /// The partition of each record, by its index in the request.
    pub partitions: Partitions<'a>,
    /// They were published before: what was refused or lost as an atomic batch does not go as one again, unless that is
    /// asked for.
    pub again: bool,
    /// All records are stored, or none. A station that cannot do it ([`Station::not_atomic`]) is refused before.
    pub atomic: bool,
    /// Nothing is begun after that, and of what is published again nothing sent; `None`: the limits on single waits are enough.
    pub deadline: Option<Instant>,
}

impl<'a> Publish<'a> {
    /// Returns records as they are, with nothing beside them, which go to the station's partitions in turns.
    #[must_use]
    pub fn of(station: &'a Station, body: &'a [u8], records: &'a [Span]) -> Self {
        Self {
            station,
            body,
            records,
            headers: b"",
            id: None,
            record_headers: None,
            indexes: None,
            partitions: Partitions::in_turns(0, station.partitions.len()),
            again: false,
            atomic: false,
            deadline: None,
        }
    }

    /// Returns the index in the request of record `index`.
    #[must_use]
    pub fn place(&self, index: usize) -> usize {
        self.indexes.and_then(|places| places.get(index)).map_or(index, |place| *place as usize)
    }

    /// Returns the partition that record `index` goes to.
    #[must_use]
    pub fn partition(&self, index: usize) -> u16 {
        self.partitions.of(self.place(index))
    }

    /// Returns the index in the request behind the last of these records.
    #[must_use]
    pub fn index_end(&self) -> usize {
        self.records.len().checked_sub(1).map_or(0, |last| self.place(last) + 1)
    }

    /// Returns whether the station has the partition of each record.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let there = |partition: u16| usize::from(partition) < self.station.partitions.len();
        match self.partitions {
            Partitions::All(partition) => there(partition),
            Partitions::InTurns { count, .. } => there(count.saturating_sub(1)),
            Partitions::Each(_) => (0..self.records.len()).all(|index| there(self.partition(index))),
        }
    }

    /// Returns the header fields that record `index` has besides those of all.
    #[must_use]
    pub fn own_headers(&self, index: usize) -> &'a [u8] {
        self.record_headers.map_or(&[], |own| own.of(self.place(index)))
    }

    /// Whether the time to send something is over.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|until| clock::now() >= until)
    }
}

/// A consume call.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// Where from.
    pub station: &'a Station,
    /// The group.
    pub consumer: &'a Consumer,
    /// At most this many messages.
    pub records_max: u32,
    /// At most this many bytes of headers and payload (one message may exceed it alone).
    pub bytes_max: usize,
    /// How long to wait for the batch to fill if nothing is there at once.
    pub wait: Duration,
}

/// One message that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Header fields, `Name: value\r\n` each, in the arena.
    pub headers: Span,
    /// Payload, in the arena.
    pub payload: Span,
    /// Where its acknowledgement goes, in the arena (NATS: subject; embedded store: the delivery's number).
    pub reply: Span,
    /// Index of the partition.
    pub partition: u16,
    /// Sequence in the partition's stream; 0 where the backend does not say.
    pub sequence: u64,
    /// How often it has been delivered, this time included.
    pub deliveries: u32,
}

/// Messages of one consume call: one arena, and spans into it.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Headers, payloads and reply subjects.
    pub arena: Vec<u8>,
    /// The messages, partition by partition in stream order.
    pub messages: Vec<Message>,
}

/// What becomes of messages that were delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The client has the whole response: they are done.
    Acknowledge,
    /// It has not: hand them out again at once.
    Redeliver,
}
