//! Produce, in any dialect: body → records → validated batch → outcomes.
//!
//! The body is decoded if it was compressed, split into spans (a batch) or taken as one (a single record), validated by
//! the station's schema if it has one ([`validation`]), and passed to the backend with the headers to store. Nothing is
//! copied or re-encoded on the way (but what the schema transcodes), and nothing here knows an HTTP status.

mod decode;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod validation;

pub use crate::schema::Encoding;
pub use validation::TimeSlices;

use crate::{
    backend::{Backend, Publish},
    budget::{Budget, Held},
    directory::{Directory, Local},
    limits::{Limits, PRODUCE_TIMEOUT, RECEIPT_BYTES, RECORD_OVERHEAD_BYTES},
    metrics::ShardMetrics,
    record::{MessageId, Outcome, Placement, RecordHeaders, headers::HeaderPolicy, message_id},
    reject::Reject,
    retry::Publisher,
    rt::{self, clock},
    schema::Scratch,
    station::{Name, Station},
    wire::{
        Span,
        content_encoding::Codings,
        http1::Head,
        json::{self, SplitLimits},
    },
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// How a body holds records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The whole body is one record, whatever it is.
    Single,
    /// A JSON array; each element is a record.
    Batch,
}

/// A produce call.
#[derive(Debug, Clone, Copy)]
pub struct Produce<'a> {
    /// The station to store them in.
    pub station: &'a Name,
    /// Whether the station may be created for it.
    pub create: bool,
    /// How the body holds records.
    pub form: Form,
    /// How the body is compressed.
    pub codings: Codings,
    /// How the records are written.
    pub encoding: Encoding,
    /// All records are stored, or none.
    pub strict: bool,
    /// Whether the answer says of each record where it is stored: room for that is taken before anything is stored.
    pub receipts: bool,
    /// Who sends them, as dead letters say it.
    pub principal: &'a str,
    /// The request's head,
    pub head: &'a Head,
    /// and the bytes that it points into.
    pub head_bytes: &'a [u8],
    /// The body, without its framing.
    pub body: &'a [u8],
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

/// The settings that hold for all records of a call.
#[derive(Debug, Clone, Copy)]
struct Terms<'a> {
    /// Header fields to store.
    headers: &'a [u8],
    /// Header fields of single records besides these.
    own: Option<RecordHeaders<'a>>,
    id: Option<MessageId<'a>>,
    whole: bool,
    /// No publish is begun after that.
    until: Instant,
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

    /// Stores the records of a request. `Ok` carries one outcome a record, in input order; `Err`
    /// means that not one of them was sent.
    pub async fn produce(&self, call: &Produce<'_>) -> Result<Produced, Reject> {
        let is_batch = call.form == Form::Batch;
        let base = message_id::of_fields(|name| call.head.field(call.head_bytes, name))?;
        let id = base.as_deref().map(|base| MessageId { base, numbered: is_batch });
        let mut header_block = Vec::new();
        self.policy.select(&call.head.fields(call.head_bytes), is_batch, &mut header_block)?;

        let mut held = self.budget.hold();
        let decoded = if call.codings.is_identity() {
            None
        } else {
            // Boxed: a body that is not compressed keeps no room for it.
            Some(Box::pin(self.decode(call, &mut held)).await?)
        };
        let decoded_bytes = held.bytes();
        let body = decoded.as_deref().unwrap_or(call.body);
        let records = self.split(call.form, body)?;
        held.grow_to(decoded_bytes + records.len() * RECORD_OVERHEAD_BYTES)?;
        let mut station = self.directory.station(call.station, call.create, call.now).await?;
        if records.is_empty() {
            return Ok(Produced { outcomes: Vec::new(), station, held });
        }
        let (whole, until) = (call.strict && records.len() > 1, call.now + PRODUCE_TIMEOUT);
        let terms = Terms { headers: &header_block, own: None, id, whole, until };
        terms.check(&station, records.len())?;
        if call.receipts {
            held.grow_to(held.bytes() + receipts_bytes(&station, records.len()))?;
        }
        if self.is_checked(call.station) {
            // Boxed: a station without a schema keeps no room for it.
            return Box::pin(self.produce_checked(call, station, body, records, terms, held)).await;
        }
        let outcomes = self.publish(call, &mut station, (body, &records, None), terms).await?;
        Ok(Produced { outcomes, station, held })
    }

    /// Publishes records, of which it says where in a body they are and, if they are not all of the request, which.
    async fn publish(
        &self,
        call: &Produce<'_>,
        station: &mut Rc<Local<Station>>,
        (body, records, places): (&[u8], &[Span], Option<&[u32]>),
        terms: Terms<'_>,
    ) -> Result<Vec<Outcome>, Reject> {
        let begun = clock::now();
        if begun >= terms.until {
            return Err(Reject::WindowFull);
        }
        let (mut outcomes, mut list) = (Vec::new(), Vec::new());
        let Self { directory, backend, .. } = self;
        let turn = self.turn.replace(self.turn.get().wrapping_add(records.len() as u64));
        let publisher =
            Publisher { directory, backend, name: call.station, create: call.create, placement: Placement::Auto, turn };
        let first = Rc::clone(station);
        let mut publish = Publish { indexes: places, ..terms.publish(&first, body, records) };
        publish.partitions =
            publisher.placement.choose(terms.id, publish.index_end(), turn, first.partitions.len(), &mut list);
        if let Err(reject) = publisher.publish(&publish, station, &mut outcomes).await {
            self.metrics.publish_failed(&reject, records.len() as u64);
            return Err(reject);
        }
        self.count(&outcomes, records, clock::since(begun));
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

    fn split(&self, form: Form, body: &[u8]) -> Result<Vec<Span>, Reject> {
        let mut records = Vec::new();
        match form {
            Form::Single => {
                let end = u32::try_from(body.len()).map_err(|_| Reject::Internal("a body over the span limit"))?;
                records.push(Span { start: 0, end });
            }
            Form::Batch => {
                let limits = SplitLimits {
                    records_max: self.limits.batch_records_max,
                    depth_max: crate::limits::JSON_DEPTH_MAX,
                };
                json::split(body, &limits, &mut records)?;
            }
        }
        Ok(records)
    }
}

/// What the receipts of so many records take, twice: in the body of the answer and in what is written.
fn receipts_bytes(station: &Station, records: usize) -> usize {
    let stream = station.partitions.iter().map(|partition| partition.stream.len()).max().unwrap_or_default();
    2 * records * (RECEIPT_BYTES + stream)
}

impl<'a> Terms<'a> {
    /// Whether the station can keep them, for so many records.
    fn check(&self, station: &Station, records: usize) -> Result<(), Reject> {
        match station.not_atomic {
            _ if !self.whole => Ok(()),
            Some(why) => Err(Reject::NotAtomic(why)),
            None if records > station.atomic_records_max as usize => {
                Err(Reject::TooManyForWhole(station.atomic_records_max))
            }
            None => Ok(()),
        }
    }

    fn publish<'b>(&self, station: &'b Station, body: &'b [u8], records: &'b [Span]) -> Publish<'b>
    where
        'a: 'b,
    {
        let Self { headers, own, id, whole, until } = *self;
        Publish {
            headers,
            record_headers: own,
            id,
            atomic: whole,
            deadline: Some(until),
            ..Publish::of(station, body, records)
        }
    }
}

/// Waits until the next tick of the timer: the runtime looks at sockets, timers and other threads only when every task
/// waits.
async fn next_tick() {
    rt::sleep(Duration::ZERO).await;
}
