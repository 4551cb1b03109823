//! Stores dead letters: they are published to the station that keeps those of a station, and acknowledged, before
//! anything else happens to the record.

pub(crate) mod fields;

use crate::{
    backend::{Backend, Publish},
    directory::{Directory, Local},
    limits::DEAD_LETTERS_AT_A_TIME,
    metrics::ShardMetrics,
    record::{MessageId, Outcome, Placement, RecordHeaders},
    reject::Reject,
    retry::Publisher,
    rt::clock,
    station::{Name, Station},
    wire::Span,
};
use futures_util::future::join_all;
use std::{rc::Rc, time::Instant};

/// Dead letters with a message id of their own that are published at a time.
const IDS_AT_A_TIME: usize = 128;

/// A record that becomes a dead letter.
#[derive(Debug)]
struct Entry {
    /// Its payload, in the body.
    payload: Span,
    /// Message id: a dead letter that is stored twice under one id is kept once.
    id: Option<String>,
}

/// Records of one station that become dead letters together.
#[derive(Debug)]
pub(crate) struct DeadLetterBatch<'a> {
    /// The body that the payloads are in.
    body: &'a [u8],
    entries: Vec<Entry>,
    /// The fields of each entry, in `block`.
    fields: Vec<Span>,
    block: Vec<u8>,
    time_ms: u64,
    /// No publish is begun after that.
    until: Instant,
}

impl<'a> DeadLetterBatch<'a> {
    /// An empty batch for records in `body`, of a request that begins nothing new after `until`.
    pub(crate) fn new(body: &'a [u8], until: Instant) -> Self {
        let time_ms = clock::unix_ms();
        Self { body, entries: Vec::new(), fields: Vec::new(), block: Vec::new(), time_ms, until }
    }

    /// Returns when the records become dead letters, ms since 1970.
    pub(crate) fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Adds a record. `stored`: the blocks of header fields that it has, or would have; of those only its own are kept.
    pub(crate) fn add(
        &mut self,
        payload: Span,
        stored: &[&[u8]],
        why: &fields::DeadLetterFields<'_>,
        id: Option<String>,
    ) {
        let start = self.block.len();
        for block in stored {
            fields::append_own_fields(block, &mut self.block);
        }
        why.append_to(&mut self.block);
        // A block is of `DEAD_LETTERS_AT_A_TIME` records: far below what a span holds.
        self.fields.push(Span::between(start, self.block.len()));
        self.entries.push(Entry { payload, id });
    }

    /// Returns whether the batch holds as many records as are published together.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= DEAD_LETTERS_AT_A_TIME
    }

    /// Returns the bytes that the batch takes beside the body.
    pub(crate) fn bytes(&self) -> usize {
        let ids: usize = self.entries.iter().filter_map(|entry| entry.id.as_ref()).map(String::capacity).sum();
        self.block.capacity() + ids + self.entries.capacity() * (size_of::<Entry>() + size_of::<Span>())
    }

    /// Stores the records with the dead letters of `station`, and empties the batch. Returns for each whether it is
    /// kept: one that is too large with its fields is not. Any other failure is one of all: [`Reject::DeadLetters`].
    pub(crate) async fn keep(
        &mut self,
        station: &Name,
        directory: &Rc<Directory>,
        backend: &Backend,
        metrics: &ShardMetrics,
    ) -> Result<Vec<bool>, Reject> {
        if self.entries.is_empty() {
            return Ok(Vec::new());
        }
        let outcomes = self.publish(&station.dead_letters(), directory, backend).await;
        let outcomes = outcomes.map_err(|reject| Reject::DeadLetters(Box::new(reject)))?;
        let mut kept = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome {
                Outcome::Stored(_) => kept.push(true),
                Outcome::Failed(Reject::TooLarge(..)) => kept.push(false),
                Outcome::Failed(reject) => return Err(Reject::DeadLetters(Box::new(reject))),
            }
        }
        metrics.dead_letters.add(kept.iter().filter(|kept| **kept).count() as u64);
        self.entries.clear();
        self.fields.clear();
        self.block.clear();
        Ok(kept)
    }

    async fn publish(&self, name: &Name, directory: &Rc<Directory>, backend: &Backend) -> Result<Vec<Outcome>, Reject> {
        let mut station = directory.station(name, true, self.in_time()?).await?;
        let publisher = Publisher { directory, backend, name, create: true, placement: Placement::Auto, turn: 0 };
        self.publish_to(&mut station, publisher).await
    }

    /// Returns the time now, if a publish may still be begun.
    fn in_time(&self) -> Result<Instant, Reject> {
        let now = clock::now();
        if now < self.until { Ok(now) } else { Err(Reject::WindowFull) }
    }

    async fn publish_to(
        &self,
        station: &mut Rc<Local<Station>>,
        publisher: Publisher<'_>,
    ) -> Result<Vec<Outcome>, Reject> {
        let Self { body, entries, fields, block, until, .. } = self;
        let first = Rc::clone(station);
        let publish = Publish { headers: &[], deadline: Some(*until), ..Publish::of(&first, body, &[]) };
        if entries.iter().all(|entry| entry.id.is_none()) {
            self.in_time()?;
            let records: Vec<Span> = entries.iter().map(|entry| entry.payload).collect();
            let own = Some(RecordHeaders { block, spans: fields });
            let mut outcomes = Vec::new();
            publisher
                .publish(&Publish { records: &records, record_headers: own, ..publish }, station, &mut outcomes)
                .await?;
            return Ok(outcomes);
        }
        // The ids are not consecutive numbers, so each dead letter is a publish of its own. They are under way
        // together, in their order.
        let mut all = Vec::with_capacity(entries.len());
        for (entries, fields) in entries.chunks(IDS_AT_A_TIME).zip(fields.chunks(IDS_AT_A_TIME)) {
            self.in_time()?;
            let calls = entries.iter().zip(fields).map(|(entry, fields)| {
                let mut station = Rc::clone(station);
                async move {
                    let id = entry.id.as_deref().map(|base| MessageId { base, numbered: None });
                    // Only its own part of the block: the embedded store copies and counts what a publish points to.
                    let block = fields.of(block);
                    let whole = [Span { start: 0, end: fields.end - fields.start }];
                    let own = Some(RecordHeaders { block, spans: &whole });
                    let records = std::slice::from_ref(&entry.payload);
                    let (mut outcomes, mut list) = (Vec::new(), Vec::new());
                    let partitions =
                        publisher.placement.choose(id, 1, publisher.turn, station.partitions.len(), &mut list);
                    let publish = Publish { records, id, partitions, record_headers: own, ..publish };
                    publisher.publish(&publish, &mut station, &mut outcomes).await?;
                    outcomes.pop().ok_or(Reject::Internal("a publish without an outcome"))
                }
            });
            for outcome in join_all(calls).await {
                all.push(outcome?);
            }
        }
        Ok(all)
    }
}
