//! Publishing: take room in the window, encode into the connection's buffer, wait for the acknowledgements.
//!
//! A request takes the window in grants, so that a large batch and a small one pass each other. All of its records are
//! sent before the first acknowledgement is waited for, as far as there is room; atomic batches are sent one after the
//! other, so that a refused one keeps its place. A request that is stored all or nothing is published by
//! [`atomic_batch`]. Every record is sent once: the caller decides which may be published again (`retry.rs`).

mod atomic_batch;

use super::connection::{Connection, Server};
use crate::{
    backend::{Publish, Repeats},
    limits::{ATOMIC_RECORDS_MAX, PUBLISH_SPARE_RECORDS_MAX, PUBLISH_SPARES_MAX},
    record::{Outcome, Receipt},
    reject::{Reject, SizeLimit},
    rt::{self, clock},
    wire::{
        Span,
        jetstream::{
            AckOutcome, BatchKey, BatchPlace, Token,
            atomic::{self, FIELDS_BYTES},
            errors,
            window::{AckMode, DueWakers, Grant, Ticket, WindowRequest},
        },
        nats::encode::{self, RecordId, Reply, Template},
    },
};
use std::{
    future::poll_fn,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    time::{Duration, Instant},
};

/// A grant that has been sent: its batch, and its place among the records to send.
#[derive(Debug)]
struct Sent {
    key: BatchKey,
    records: Range<usize>,
}

/// Buffers of a publish, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Records to send.
    todo: Vec<u32>,
    /// Records to send another time.
    again: Vec<u32>,
    sent: Vec<Sent>,
    tokens: Vec<Token>,
    acks: Vec<AckOutcome>,
    template: Template,
    fields: Vec<u8>,
}

impl Connection {
    /// Publishes the records of a request and waits for their outcomes.
    pub async fn publish(&self, publish: &Publish<'_>, outcomes: &mut Vec<Outcome>) -> Result<(), Reject> {
        let mut scratch = self.jetstream.scratch.borrow_mut().pop().unwrap_or_default();
        // A single record is stored or not in any case.
        let result = if publish.atomic && publish.records.len() > 1 {
            Box::pin(self.publish_whole(publish, outcomes, &mut scratch)).await
        } else {
            self.publish_with(publish, outcomes, &mut scratch).await
        };
        let mut kept = self.jetstream.scratch.borrow_mut();
        if kept.len() < PUBLISH_SPARES_MAX && scratch.todo.capacity() <= PUBLISH_SPARE_RECORDS_MAX {
            kept.push(scratch);
        }
        result
    }

    async fn publish_with(
        &self,
        publish: &Publish<'_>,
        outcomes: &mut Vec<Outcome>,
        scratch: &mut Scratch,
    ) -> Result<(), Reject> {
        let mut plan = Plan::new(publish, self.connected().await?);
        outcomes.clear();
        outcomes.resize(publish.records.len(), Outcome::Failed(Reject::BrokerAway));
        scratch.todo.clear();
        scratch.todo.extend((0..).take(outcomes.len()));
        self.pass(&plan, scratch, outcomes).await;
        // A batch that was refused is sent singly, and the records behind it follow.
        if !scratch.again.is_empty() && !publish.is_late() {
            plan.ack_mode = plan.ack_mode_of_singles();
            std::mem::swap(&mut scratch.todo, &mut scratch.again);
            self.pass(&plan, scratch, outcomes).await;
        }
        Ok(())
    }

    /// Sends the records to send, and waits for their outcomes. Leaves those that are to be sent singly.
    async fn pass(&self, plan: &Plan<'_>, scratch: &mut Scratch, outcomes: &mut [Outcome]) {
        plan.drop_oversized(&mut scratch.todo, outcomes);
        scratch.again.clear();
        let stopped = self.send(plan, scratch, outcomes).await;
        self.collect(plan, scratch, outcomes).await;
        if let Some((from, why)) = stopped {
            settle_unsent(scratch.todo.get(from..).unwrap_or_default(), &why, outcomes);
        }
    }

    /// Sends as much as the window takes within the hold. Returns from which record on nothing was sent, and why.
    ///
    /// Nothing is sent behind a record that was refused for the moment, or given up unanswered: it would overtake it.
    /// Of atomic batches one at a time is in flight, so that records keep their order also where one is refused: then
    /// everything from there on is sent another time.
    async fn send(&self, plan: &Plan<'_>, scratch: &mut Scratch, outcomes: &mut [Outcome]) -> Option<(usize, Reject)> {
        scratch.sent.clear();
        let (mut at, mut until) = (0, None);
        let failures = || (self.jetstream.refusals.get(), self.jetstream.unanswered.get());
        let before = failures();
        while at < scratch.todo.len() {
            // Whoever sends the first has looked at the time.
            if at > 0 && plan.publish.is_late() {
                return Some((at, Reject::WindowFull));
            }
            if at > 0 && failures() != before {
                return Some((at, Reject::NoStream));
            }
            match self.grant(plan, scratch, at, &mut until).await {
                Ok((key, records)) => {
                    scratch.sent.push(Sent { key, records: at..at + records });
                    at += records;
                }
                Err(reject) => return Some((at, reject)),
            }
            if plan.ack_mode == AckMode::PerBatch {
                let last = scratch.todo.get(at - 1).copied();
                self.collect(plan, scratch, outcomes).await;
                if !scratch.again.is_empty() {
                    scratch.again.extend_from_slice(scratch.todo.get(at..).unwrap_or_default());
                    return None;
                }
                let outcome = last.and_then(|index| outcomes.get(index as usize));
                if let Some(Outcome::Failed(why)) = outcome.filter(|_| at < scratch.todo.len()) {
                    let why = if *why == Reject::OutcomeUnknown { Reject::BrokerAway } else { why.clone() };
                    return Some((at, why));
                }
            }
        }
        None
    }

    /// Takes room for as many records from `at` on as fit, and encodes them. Returns the batch and how many.
    /// [`Reject::BrokerAway`]: the connection was lost before anything of it was sent.
    async fn grant(
        &self,
        plan: &Plan<'_>,
        scratch: &mut Scratch,
        at: usize,
        until: &mut Option<Instant>,
    ) -> Result<(BatchKey, usize), Reject> {
        // Output that the broker does not read gathers here: nothing more is added until it does.
        if self.out.len() > self.limits.window_bytes_max {
            return Err(Reject::WindowFull);
        }
        let patience = self.patience(plan);
        let Scratch { todo, tokens, .. } = &mut *scratch;
        let records = todo.get(at..).unwrap_or_default();
        let ask = || WindowRequest {
            ack_mode: plan.ack_mode,
            once: plan.once,
            sizes: records.iter().take(usize::from(ATOMIC_RECORDS_MAX)).map(|index| plan.bytes(*index)),
            all: plan.publish.atomic,
            tag: plan.tag,
            deadline_ms: self.jetstream.now_ms() + u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        tokens.clear();
        let at_once = if self.is_up() { self.jetstream.window.borrow_mut().open(ask(), tokens) } else { None };
        let opened = match at_once {
            Some(opened) => opened,
            None if !self.is_up() => return Err(Reject::BrokerAway),
            None => {
                let until = *until.get_or_insert_with(|| clock::now() + self.limits.hold);
                Box::pin(self.wait_for_room(ask, tokens, until)).await?
            }
        };
        // No await between here and the window: a batch that was opened while the connection stands is written to it.
        if !self.is_up() {
            // The window was emptied when the connection was lost; these records were never sent.
            self.jetstream.window.borrow_mut().revoke(opened.key, &mut DueWakers::default());
            return Err(Reject::BrokerAway);
        }
        let is_cut = plan.publish.atomic && opened.records < records.len();
        // However long it waited for a connection and for room: soon the stream may not know the ids any more.
        if is_cut || (plan.publish.again && plan.publish.is_late()) {
            self.jetstream.window.borrow_mut().revoke(opened.key, &mut DueWakers::default());
            return Err(Reject::WindowFull);
        }
        self.encode(plan, scratch, opened.key, at..at + opened.records);
        Ok((opened.key, opened.records))
    }

    /// Returns how long an answer is waited for. A record with an id is published again by the caller, and a cluster
    /// may have lost the first one: if the stream knows ids for long enough.
    fn patience(&self, plan: &Plan<'_>) -> Duration {
        let Publish { id, station, .. } = plan.publish;
        let again = plan.once && id.is_some() && Repeats::of(&self.limits).all_fit(station.duplicate_window);
        if again { self.jetstream.patience.get() } else { self.limits.ack_timeout }
    }

    /// Appends the records of a grant to the output.
    fn encode(&self, plan: &Plan<'_>, scratch: &mut Scratch, key: BatchKey, records: Range<usize>) {
        let Scratch { todo, tokens, template, fields, .. } = scratch;
        let records = todo.get(records).unwrap_or_default();
        let prefix = self.inbox.as_bytes();
        let mut out = self.out.append();
        match (plan.ack_mode, tokens.first()) {
            (AckMode::PerBatch, Some(token)) => {
                let id = self.jetstream.batch_ids.borrow_mut().next_id();
                self.jetstream.window.borrow_mut().call(key, id);
                let text = token.text();
                let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
                for (place, index) in (0..count).zip(records) {
                    let place = BatchPlace { id, index: place, count };
                    fields.clear();
                    place.write_fields(fields);
                    let reply = place.is_last().then(|| Reply { prefix, token: text.as_bytes() });
                    plan.encode_batched(*index, &mut out, reply, fields);
                }
            }
            (AckMode::InOrder, Some(token)) if plan.publish.id.is_none() && plan.publish.record_headers.is_none() => {
                let text = token.text();
                template.set(plan.subject(0), Reply { prefix, token: text.as_bytes() }, plan.publish.headers);
                for index in records {
                    template.write(&mut out, plan.payload(*index));
                }
            }
            _ => {
                // One for each record, or one for all of them.
                for (index, token) in records.iter().zip(tokens.iter().cycle()) {
                    plan.encode(*index, &mut out, Reply { prefix, token: token.text().as_bytes() });
                }
            }
        }
    }

    /// Waits for its place in the window, until then at most.
    async fn wait_for_room<I: Iterator<Item = usize> + Clone>(
        &self,
        ask: impl Fn() -> WindowRequest<I>,
        tokens: &mut Vec<Token>,
        until: Instant,
    ) -> Result<Grant, Reject> {
        let mut place = Place { connection: self, turn: Ticket::default() };
        let wait = poll_fn(|context| {
            let mut wakes = DueWakers::default();
            self.jetstream.window.borrow_mut().poll_open(&mut place.turn, ask(), tokens, &mut wakes, context)
        });
        let Ok(Ok(opened)) = rt::deadline(until.saturating_duration_since(clock::now()), wait).await else {
            self.metrics.window_full.increment();
            return Err(Reject::WindowFull);
        };
        Ok(opened)
    }

    /// Waits for every batch. Fills `again` with the records that are to be sent singly.
    async fn collect(&self, plan: &Plan<'_>, scratch: &mut Scratch, outcomes: &mut [Outcome]) {
        let Scratch { todo, again, sent, acks, .. } = scratch;
        for Sent { key, records } in sent.drain(..) {
            poll_fn(|context| self.jetstream.window.borrow_mut().poll_batch(key, context)).await;
            acks.clear();
            self.jetstream.window.borrow_mut().take(key, acks);
            if plan.ack_mode == AckMode::InOrder && !is_attributable(acks) {
                acks.fill(AckOutcome::TimedOut);
            }
            for (index, ack) in todo.get(records).unwrap_or_default().iter().zip(acks.drain(..)) {
                let singly = plan.goes_singly(&ack);
                if singly {
                    again.push(*index);
                }
                if let Some(outcome) = outcomes.get_mut(*index as usize) {
                    *outcome = if singly { Outcome::Failed(Reject::BrokerBusy) } else { plan.outcome(*index, &ack) };
                }
            }
        }
    }
}

/// Fails the records that were not sent, for this reason.
fn settle_unsent(unsent: &[u32], why: &Reject, outcomes: &mut [Outcome]) {
    for index in unsent {
        if let Some(outcome) = outcomes.get_mut(*index as usize) {
            *outcome = Outcome::Failed(why.clone());
        }
    }
}

/// A place in the queue for room that is left when it is dropped: those behind it must not wait for nobody.
struct Place<'a> {
    connection: &'a Connection,
    turn: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut wakes = DueWakers::default();
        self.connection.jetstream.window.borrow_mut().leave(&mut self.turn, &mut wakes);
    }
}

/// A publish, with what holds for each of its records.
struct Plan<'a> {
    publish: &'a Publish<'a>,
    record_bytes_max: usize,
    tag: u32,
    ack_mode: AckMode,
    /// More than one server may answer, so reply subjects are not used again.
    once: bool,
}

impl<'a> Plan<'a> {
    fn new(publish: &'a Publish<'a>, server: Server) -> Self {
        // With several partitions a batch has several subjects, and a violation of one says nothing of the others.
        let tag = match &*publish.station.partitions {
            [only] => tag_of(&only.subject),
            _ => TAG_OF_NONE,
        };
        let (record_bytes_max, ack_mode) = (server.record_bytes_max, AckMode::PerRecord);
        let mut plan = Self { publish, record_bytes_max, tag, ack_mode, once: true };
        plan.goes_to(server);
        plan.ack_mode = plan.ack_mode_of_singles();
        if plan.fits_a_batch() {
            plan.ack_mode = AckMode::PerBatch;
        }
        plan
    }

    /// Returns what the broker and the stream take at the most, and whether one server alone answers.
    fn goes_to(&mut self, server: Server) {
        let station = self.publish.station;
        let stream_max = station.record_bytes_max.map_or(usize::MAX, |max| max as usize);
        self.record_bytes_max = server.record_bytes_max.min(stream_max);
        // A station of several partitions may be on a server that is alone; what it says of itself tells.
        let elsewhere = station.partitions.len() == 1 && !station.answers_in_order;
        self.once = server.clustered || station.replicas > 1 || elsewhere;
    }

    /// Returns how the answers to records that are published singly find them.
    fn ack_mode_of_singles(&self) -> AckMode {
        if self.publish.station.answers_in_order && !self.once { AckMode::InOrder } else { AckMode::PerRecord }
    }

    /// Returns whether the request is sent as atomic batches: into one partition, as the station's mode says, every
    /// record with room for a batch's fields.
    fn fits_a_batch(&self) -> bool {
        let records = self.publish.records.len();
        let id_bytes = self.publish.id.map_or(0, |id| id.base.len() + NUMBER_BYTES);
        let rest = encode::record_bytes(self.publish.headers.len() + FIELDS_BYTES, id_bytes, 0);
        !self.publish.again
            && self.publish.station.publish_mode.is_atomic(records)
            && self.publish.station.partitions.len() == 1
            && (0..)
                .zip(self.publish.records)
                .all(|(index, record)| rest + self.own(index).len() + record.len() <= self.record_bytes_max)
    }

    /// Returns whether this answer is a batch's, and its records are to be published singly: nothing of it is stored.
    fn goes_singly(&self, ack: &AckOutcome) -> bool {
        self.ack_mode == AckMode::PerBatch
            && matches!(ack, AckOutcome::Error { err_code, .. } if atomic::may_go_singly(*err_code))
    }

    /// Keeps the records that are small enough; the others get their reject.
    fn drop_oversized(&self, todo: &mut Vec<u32>, outcomes: &mut [Outcome]) {
        todo.retain(|index| {
            let fits = self.bytes(*index) <= self.record_bytes_max;
            if !fits && let Some(outcome) = outcomes.get_mut(*index as usize) {
                *outcome = Outcome::Failed(Reject::TooLarge(SizeLimit::Record, self.record_bytes_max as u64));
            }
            fits
        });
    }

    /// Returns the bytes of a record as the broker counts them.
    fn bytes(&self, index: u32) -> usize {
        let id = self.id(index).map_or(0, |id| id.len());
        let fields = if self.ack_mode == AckMode::PerBatch { FIELDS_BYTES } else { 0 };
        encode::record_bytes(self.publish.headers.len() + self.own(index).len() + fields, id, self.span(index).len())
    }

    fn span(&self, index: u32) -> Span {
        self.publish.records.get(index as usize).copied().unwrap_or_default()
    }

    /// Returns the header fields that the record has besides those of all.
    fn own(&self, index: u32) -> &'a [u8] {
        self.publish.own_headers(index as usize)
    }

    fn id(&self, index: u32) -> Option<RecordId<'a>> {
        let id = self.publish.id?;
        let number = id.number(self.publish.place(index as usize));
        Some(RecordId { base: id.base.as_bytes(), index: number })
    }

    fn partition(&self, index: u32) -> usize {
        self.publish.partition(index as usize).into()
    }

    fn subject(&self, partition: usize) -> &'a [u8] {
        self.publish.station.partitions.get(partition).map(|partition| partition.subject.as_bytes()).unwrap_or_default()
    }

    fn payload(&self, index: u32) -> &'a [u8] {
        self.span(index).of(self.publish.body)
    }

    fn encode(&self, index: u32, out: &mut Vec<u8>, reply: Reply<'_>) {
        let (subject, id) = (self.subject(self.partition(index)), self.id(index));
        let blocks = [self.publish.headers, self.own(index)];
        encode::hpub_own(out, subject, reply, blocks, id, self.payload(index));
    }

    fn encode_batched(&self, index: u32, out: &mut Vec<u8>, reply: Option<Reply<'_>>, fields: &[u8]) {
        let (subject, id) = (self.subject(self.partition(index)), self.id(index));
        let blocks = [self.publish.headers, self.own(index), fields];
        encode::hpub_batched(out, subject, reply, blocks, id, self.payload(index));
    }

    fn outcome(&self, index: u32, ack: &AckOutcome) -> Outcome {
        if let AckOutcome::Stored { sequence, duplicate } = *ack {
            let partition = u16::try_from(self.partition(index)).unwrap_or(u16::MAX);
            return Outcome::Stored(Receipt { partition, sequence, duplicate });
        }
        let subject = self.publish.station.name.as_str();
        let failure = errors::of_outcome(ack, subject, self.record_bytes_max as u64);
        Outcome::Failed(failure.unwrap_or(Reject::Internal("an acknowledgement of no kind")))
    }
}

/// Returns whether these answers, which came in order, say the outcome of each record. A record that the broker refuses
/// without storing is answered at once, before earlier ones that it has still to store: among other answers that one
/// could be any record's.
fn is_attributable(acks: &[AckOutcome]) -> bool {
    let at_the_door = |ack: &AckOutcome| {
        matches!(ack, AckOutcome::NoResponders | AckOutcome::Error { err_code: errors::TOO_MANY_REQUESTS, .. })
    };
    !acks.iter().any(at_the_door) || acks.iter().all(at_the_door)
}

/// Digits and separator of a record's number in a message id.
const NUMBER_BYTES: usize = 21;
/// The tag of records that no permissions violation is attributed to.
const TAG_OF_NONE: u32 = 0;

/// The tag that the records of a subject carry in the window.
pub(super) fn tag_of(subject: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    // Any 32 bits will do: a collision costs a record its answer until its deadline.
    ((hasher.finish() >> 32) as u32).max(TAG_OF_NONE + 1)
}
