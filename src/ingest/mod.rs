//! Produce, whatever the dialect: body → records → checked batch → outcomes.
//!
//! The body is decoded if it was compressed, split into spans (a batch) or taken whole (a single
//! record), and handed to the backend with the headers to store. Nothing is copied or re-encoded
//! on the way, and nothing here knows an HTTP status.

mod headers;

pub use headers::HeaderPolicy;

use crate::{
    backend::{Backend, Outcome, Publish},
    budget::Budget,
    directory::Directory,
    limits::{Limits, RECORD_OVERHEAD_BYTES},
    metrics::ShardMetrics,
    reject::Reject,
    station::Name,
    wire::{
        Span,
        content::Codings,
        http1::Head,
        json::{self, SplitLimits},
    },
};
use std::{
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
    /// Where to.
    pub station: &'a Name,
    /// Whether the station may be created for it.
    pub create: bool,
    /// How the body holds records.
    pub form: Form,
    /// How the body is compressed.
    pub codings: Codings,
    /// The request's head,
    pub head: &'a Head,
    /// and the bytes that it points into.
    pub head_bytes: &'a [u8],
    /// The body, without its framing.
    pub body: &'a [u8],
    /// When it is handled.
    pub now: Instant,
}

/// The produce service of one shard.
#[derive(Debug)]
pub struct Ingest {
    /// Stations.
    pub directory: Rc<Directory>,
    /// Where records go.
    pub backend: Backend,
    /// Which headers are stored.
    pub policy: HeaderPolicy,
    /// Every limit.
    pub limits: Limits,
    /// Bytes that the shard may hold.
    pub budget: Rc<Budget>,
    /// Counters.
    pub metrics: Arc<ShardMetrics>,
}

impl Ingest {
    /// Stores the records of a request. `Ok` carries one outcome a record, in input order; `Err`
    /// means that not one of them was sent.
    pub async fn produce(&self, call: &Produce<'_>) -> Result<Vec<Outcome>, Reject> {
        let numbered = call.form == Form::Batch;
        let id = headers::message_id(|name| call.head.field(call.head_bytes, name), numbered)?;
        let mut header_block = Vec::new();
        self.policy.select(call.head.fields(call.head_bytes), &mut header_block)?;

        let mut held = self.budget.hold();
        let decoded = self.decode(call)?;
        let decoded_bytes = decoded.as_ref().map_or(0, Vec::capacity);
        held.grow_to(decoded_bytes)?;
        let body = decoded.as_deref().unwrap_or(call.body);
        let records = self.split(call.form, body)?;
        held.grow_to(decoded_bytes + records.len() * RECORD_OVERHEAD_BYTES)?;
        let station = self.directory.station(call.station, call.create, call.now).await?;
        let mut outcomes = Vec::new();
        if records.is_empty() {
            return Ok(outcomes);
        }
        let publish =
            Publish { station: &station, body, records: &records, headers: &header_block, id, own: None, whole: false };
        let begun = Instant::now();
        self.publish(call, publish, &mut outcomes).await?;
        self.count(&outcomes, &records, begun.elapsed());
        Ok(outcomes)
    }

    /// Publishes; once more with a fresh look at the station if its stream has gone.
    async fn publish(
        &self,
        call: &Produce<'_>,
        publish: Publish<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Reject> {
        self.backend.publish(&publish, outcomes).await?;
        if !outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed(Reject::NoStream))) {
            return Ok(());
        }
        self.directory.forget(call.station);
        let again = async {
            let station = self.directory.station(call.station, call.create, Instant::now()).await?;
            outcomes.clear();
            self.backend.publish(&Publish { station: &station, ..publish }, outcomes).await
        };
        // Boxed, as whatever comes seldom.
        Box::pin(again).await
    }

    fn count(&self, outcomes: &[Outcome], records: &[Span], elapsed: Duration) {
        let stored = outcomes.iter().zip(records).filter(|(outcome, _)| matches!(outcome, Outcome::Stored { .. }));
        let (count, bytes) =
            stored.fold((0, 0), |(count, bytes), (_, record)| (count + 1, bytes + record.len() as u64));
        self.metrics.records_in.add(count);
        self.metrics.record_bytes_in.add(bytes);
        self.metrics.acknowledgement.observe_many(elapsed, count);
    }

    /// The body without its `Content-Encoding`, if it has one.
    fn decode(&self, call: &Produce<'_>) -> Result<Option<Vec<u8>>, Reject> {
        if call.codings.is_identity() {
            return Ok(None);
        }
        let mut decoded = Vec::new();
        call.codings.decode(call.body, self.limits.inflated_bytes_max, &mut decoded)?;
        Ok(Some(decoded))
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
