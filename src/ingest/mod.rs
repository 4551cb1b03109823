//! Produce, in any dialect: records → validated records → outcomes.
//!
//! A dialect hands over [`Records`]: decoded, split, with the header fields to store, the message id and the partitions
//! that its request names ([`body`] helps with the first two). They are validated by the station's schema if it has one
//! ([`validation`]), and passed to the backend, each with its partition. Nothing is copied or re-encoded on the way
//! (but what the schema transcodes), and nothing here knows HTTP.

mod body;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod typed;
mod validation;

pub use crate::schema::Encoding;
pub use body::Form;
pub use validation::TimeSlices;

use crate::{
    backend::{Backend, Publish},
    budget::{Budget, Held},
    directory::{Directory, Local},
    limits::{Limits, PRODUCE_TIMEOUT, RECEIPT_BYTES, RECORD_OVERHEAD_BYTES},
    metrics::ShardMetrics,
    record::{MessageId, Outcome, Placement, RecordHeaders, Records, headers::HeaderPolicy},
    reject::Reject,
    retry::Publisher,
    rt::{self, clock},
    schema::Scratch,
    station::{Name, Station},
    wire::Span,
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use typed::Typed;

/// What holds for a produce call beside its records.
#[derive(Debug, Clone, Copy)]
pub struct Produce<'a> {
    /// The station to store them in.
    pub station: &'a Name,
    /// Whether the station may be created for it.
    pub create: bool,
    /// How the records are written.
    pub encoding: Encoding,
    /// All records are stored, or none.
    pub strict: bool,
    /// Whether the answer says of each record where it is stored: room for that is taken before anything is stored.
    pub receipts: bool,
    /// Who sends them, as dead letters say it.
    pub principal: &'a str,
    /// When it is handled.
    pub now: Instant,
}

/// The result of a produce call.
#[derive(Debug)]
pub struct Produced {
    /// One outcome for each record, in input order.
    pub outcomes: Vec<Outcome>,
    /// Where the records are that were stored.
    pub station: Rc<Local<Station>>,
    /// What is held for the call, until its answer has left.
    pub held: Held,
}

/// What holds for all records of a call while they are published.
#[derive(Debug, Clone, Copy)]
struct Terms<'a> {
    /// The index of each of the call's records in the request, if others of it are not among them.
    indexes: Option<&'a [u32]>,
    /// Header fields to store.
    headers: &'a [u8],
    /// Header fields of single records besides these.
    record_headers: Option<RecordHeaders<'a>>,
    id: Option<MessageId<'a>>,
    placement: Placement<'a>,
    atomic: bool,
    /// No publish is begun after that.
    deadline: Instant,
}

/// Records of a call that are published together.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    /// What the payloads point into.
    bytes: &'a [u8],
    payloads: &'a [Span],
    /// The index of each in the request, if they are not all of it.
    indexes: Option<&'a [u32]>,
}

/// The produce service of one shard.
#[derive(Debug)]
pub struct Ingest {
    /// Stations.
    pub directory: Rc<Directory>,
    /// Where records are stored.
    pub backend: Backend,
    /// Which headers are stored.
    pub policy: HeaderPolicy,
    /// Every limit.
    pub limits: Limits,
    /// Bytes that the shard may hold.
    pub budget: Rc<Budget>,
    /// The counters of the shard.
    pub metrics: Arc<ShardMetrics>,
    /// The scratch of validation.
    pub scratch: RefCell<Scratch>,
    /// How long the shard may validate at a time.
    pub time_slices: TimeSlices,
    /// How many records were published: records without a message id are spread over partitions by it.
    pub turn: Cell<u64>,
}

impl Ingest {
    /// Does long work in time slices, so that the shard looks at its sockets in between. `turn` works until its
    /// argument says that its time is over, and returns whether all is done.
    pub async fn in_time_slices(
        &self,
        mut turn: impl FnMut(&dyn Fn() -> bool) -> Result<bool, Reject>,
    ) -> Result<(), Reject> {
        let mut place = self.time_slices.ticket();
        while place.work(|until| turn(&|| clock::now() >= until))? != Some(true) {
            next_tick().await;
        }
        Ok(())
    }

    /// Returns the time, as [`Produce::now`] wants it of a call that is not handled as a request by itself.
    #[must_use]
    pub fn now(&self) -> Instant {
        clock::now()
    }

    /// Stores the records of a request. `Ok` carries one outcome a record, in input order; `Err`
    /// means that not one of them was sent. `held` counts the bytes of records that do not lie in the request's body.
    pub async fn produce(&self, call: &Produce<'_>, records: Records<'_>, mut held: Held) -> Result<Produced, Reject> {
        let Records { bytes, payloads, indexes, headers, record_headers, id, placement } = records;
        held.grow_to(held.bytes() + payloads.len() * RECORD_OVERHEAD_BYTES)?;
        let mut station = self.directory.station(call.station, call.create, call.now).await?;
        if payloads.is_empty() {
            return Ok(Produced { outcomes: Vec::new(), station, held });
        }
        let (atomic, deadline) = (call.strict && payloads.len() > 1, call.now + PRODUCE_TIMEOUT);
        let typed = match record_headers {
            Some(own) => {
                let in_request = indexes.and_then(<[u32]>::last).map_or(payloads.len(), |last| *last as usize + 1);
                Typed::one_each(headers, own, in_request, &mut held)?
            }
            None => None,
        };
        let (headers, record_headers) = match &typed {
            Some(typed) => (typed.common(headers), typed.own(record_headers)),
            None => (headers, record_headers),
        };
        let terms = Terms { indexes, headers, record_headers, id, placement, atomic, deadline };
        terms.check(&station, payloads.len())?;
        if call.receipts {
            held.grow_to(held.bytes() + receipts_bytes(&station, payloads.len()))?;
        }
        if self.is_checked(call.station) {
            // Boxed: a station without a schema keeps no room for it.
            return Box::pin(self.produce_checked(call, station, (bytes, payloads), terms, held)).await;
        }
        let all = Part { bytes, payloads: &payloads, indexes };
        let outcomes = self.publish(call, &mut station, all, terms).await?;
        Ok(Produced { outcomes, station, held })
    }

    /// Publishes records whose partition is there, and fails the others.
    async fn publish(
        &self,
        call: &Produce<'_>,
        station: &mut Rc<Local<Station>>,
        part: Part<'_>,
        terms: Terms<'_>,
    ) -> Result<Vec<Outcome>, Reject> {
        if terms.placement.missing(station.partitions.len()).is_some() {
            // Boxed: it is a client's mistake, and rare.
            return Box::pin(self.publish_rest(call, station, part, terms)).await;
        }
        self.publish_all(call, station, part, terms).await
    }

    /// Publishes the records whose partition is there. The others fail by themselves; where all or nothing was asked
    /// for, nothing is stored because of them.
    async fn publish_rest(
        &self,
        call: &Produce<'_>,
        station: &mut Rc<Local<Station>>,
        part: Part<'_>,
        terms: Terms<'_>,
    ) -> Result<Vec<Outcome>, Reject> {
        let partitions = station.partitions.len();
        let (mut payloads, mut indexes, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for (at, payload) in part.payloads.iter().enumerate() {
            let index = part.index(at);
            let named = terms.placement.named(index as usize);
            let why = if let Some(missing) = named.filter(|named| usize::from(*named) >= partitions) {
                Reject::PartitionUnknown(missing)
            } else {
                payloads.push(*payload);
                indexes.push(index);
                Reject::NothingStored
            };
            outcomes.push(Outcome::Failed(why));
        }
        self.metrics.publish_failed(&Reject::PartitionUnknown(0), (outcomes.len() - payloads.len()) as u64);
        if terms.atomic || payloads.is_empty() {
            return Ok(outcomes);
        }
        let rest = Part { payloads: &payloads, indexes: Some(&indexes), ..part };
        let mut published = self.publish_all(call, station, rest, terms).await?.into_iter();
        for outcome in outcomes.iter_mut().filter(|outcome| **outcome == Outcome::Failed(Reject::NothingStored)) {
            *outcome = published.next().unwrap_or(Outcome::Failed(Reject::Internal("a record without an outcome")));
        }
        Ok(outcomes)
    }

    /// Publishes records, of which each has its partition.
    async fn publish_all(
        &self,
        call: &Produce<'_>,
        station: &mut Rc<Local<Station>>,
        part: Part<'_>,
        terms: Terms<'_>,
    ) -> Result<Vec<Outcome>, Reject> {
        let begun = clock::now();
        if begun >= terms.deadline {
            return Err(Reject::WindowFull);
        }
        let (mut outcomes, mut list) = (Vec::new(), Vec::new());
        let Self { directory, backend, .. } = self;
        let count = part.payloads.len() as u64;
        let turn = self.turn.replace(self.turn.get().wrapping_add(count));
        let Terms { placement, id, .. } = terms;
        let publisher = Publisher { directory, backend, name: call.station, create: call.create, placement, turn };
        let first = Rc::clone(station);
        let mut publish = terms.publish(&first, part);
        publish.partitions = placement.choose(id, publish.index_end(), turn, first.partitions.len(), &mut list);
        if let Err(reject) = publisher.publish(&publish, station, &mut outcomes).await {
            self.metrics.publish_failed(&reject, count);
            return Err(reject);
        }
        self.count(&outcomes, part.payloads, clock::since(begun));
        Ok(outcomes)
    }

    fn count(&self, outcomes: &[Outcome], records: &[Span], elapsed: Duration) {
        let (mut count, mut bytes) = (0, 0);
        for (outcome, record) in outcomes.iter().zip(records) {
            match outcome {
                Outcome::Stored(_) => {
                    count += 1;
                    bytes += record.len() as u64;
                }
                Outcome::Failed(reject) => self.metrics.publish_failed(reject, 1),
            }
        }
        self.metrics.records_in.add(count);
        self.metrics.record_bytes_in.add(bytes);
        self.metrics.acknowledgement.observe_many(elapsed, count);
    }
}

/// What the receipts of so many records take, twice: in the body of the answer and in what is written.
fn receipts_bytes(station: &Station, records: usize) -> usize {
    let stream = station.partitions.iter().map(|partition| partition.stream.len()).max().unwrap_or_default();
    2 * records * (RECEIPT_BYTES + stream)
}

impl Part<'_> {
    /// Returns the index in the request of the record `at` this place.
    fn index(&self, at: usize) -> u32 {
        let index = self.indexes.and_then(|indexes| indexes.get(at)).copied();
        // A request has fewer records than a span holds.
        index.unwrap_or_else(|| u32::try_from(at).unwrap_or(u32::MAX))
    }
}

impl<'a> Terms<'a> {
    /// Returns the index in the request of the record `at` this place in the call.
    fn index(&self, at: usize) -> usize {
        self.indexes.and_then(|indexes| indexes.get(at)).map_or(at, |index| *index as usize)
    }

    /// Checks whether the station can keep them, for so many records.
    fn check(&self, station: &Station, records: usize) -> Result<(), Reject> {
        if let Placement::All(partition) = self.placement
            && self.placement.missing(station.partitions.len()).is_some()
        {
            return Err(Reject::PartitionUnknown(partition));
        }
        match station.not_atomic {
            _ if !self.atomic => Ok(()),
            Some(why) => Err(Reject::NotAtomic(why)),
            None if records > station.atomic_records_max as usize => {
                Err(Reject::TooManyForWhole(station.atomic_records_max))
            }
            None => Ok(()),
        }
    }

    fn publish<'b>(&self, station: &'b Station, part: Part<'b>) -> Publish<'b>
    where
        'a: 'b,
    {
        let Self { headers, record_headers, id, atomic, deadline, .. } = *self;
        let Part { bytes, payloads, indexes } = part;
        Publish {
            headers,
            record_headers,
            id,
            indexes,
            atomic,
            deadline: Some(deadline),
            ..Publish::of(station, bytes, payloads)
        }
    }
}

/// Waits until the next tick of the timer: the runtime looks at sockets, timers and other threads only when every task
/// waits.
async fn next_tick() {
    rt::sleep(Duration::ZERO).await;
}
