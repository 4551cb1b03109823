//! Publishing: take room in the window, encode into the connection's buffer, wait for the acknowledgements.
//!
//! A request takes the window in grants, so that a large batch and a small one pass each other. All
//! of its records go out before the first acknowledgement is waited for, as far as there is room.

use super::link::Link;
use crate::{
    backend::{Outcome, Publish, partition},
    limits::PUBLISH_ATTEMPTS_MAX,
    reject::{Reject, SizeLimit},
    rt,
    station::Station,
    wire::{
        Span,
        jetstream::{
            AckOutcome, BatchKey, Token, errors,
            window::{Ask, Naming, Opened, Turn, Wakes},
        },
        nats::encode::{self, RecordId, Reply},
    },
};
use std::{
    future::poll_fn,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    time::Instant,
};

/// A grant that has been sent: its batch, and which of the records to send it was.
struct Sent {
    key: BatchKey,
    records: Range<usize>,
}

/// What a round of sending came to.
#[derive(Default)]
struct Round {
    sent: Vec<Sent>,
    /// Records from here on were not sent, and why.
    stopped: Option<(usize, Reject)>,
}

impl Link {
    /// Publishes the records of a request and waits for what becomes of each.
    pub async fn publish(&self, publish: &Publish<'_>, outcomes: &mut Vec<Outcome>) -> Result<(), Reject> {
        let until = Instant::now() + self.limits.hold;
        let mut plan = Plan::new(publish, self.spread.get(), self.connected(until).await?);
        self.spread.set(self.spread.get().wrapping_add(publish.records.len() as u64));
        outcomes.clear();
        outcomes.resize(publish.records.len(), Outcome::Failed(Reject::BrokerAway));
        let mut todo: Vec<u32> = (0..).take(outcomes.len()).collect();
        for attempt in 1..=PUBLISH_ATTEMPTS_MAX {
            let until = Instant::now() + self.limits.hold;
            if attempt > 1 {
                // The next server may take less.
                let Ok(record_bytes_max) = self.connected(until).await else { return Ok(()) };
                plan.limit(record_bytes_max);
            }
            plan.drop_oversized(&mut todo, outcomes);
            let round = self.send(&plan, &todo, until).await;
            let mut again = self.collect(&plan, &todo, round.sent, outcomes).await;
            if publish.id.is_none() && !again.is_empty() {
                return Ok(());
            }
            if let Some((from, why)) = round.stopped {
                let unsent = todo.get(from..).unwrap_or_default();
                settle_unsent(unsent, &why, outcomes);
                // Nothing of it left: it may go over the next connection, behind what was lost.
                if why == Reject::BrokerAway {
                    again.extend_from_slice(unsent);
                }
            }
            if again.is_empty() {
                return Ok(());
            }
            todo = again;
        }
        Ok(())
    }

    /// Sends as much as the window takes until then.
    async fn send(&self, plan: &Plan<'_>, todo: &[u32], until: Instant) -> Round {
        let mut round = Round::default();
        let mut at = 0;
        while at < todo.len() {
            match self.grant(plan, todo.get(at..).unwrap_or_default(), until).await {
                Ok((key, records)) => {
                    round.sent.push(Sent { key, records: at..at + records });
                    at += records;
                }
                Err(reject) => {
                    round.stopped = Some((at, reject));
                    break;
                }
            }
        }
        round
    }

    /// Takes room for as many records as fit and encodes them. Returns the batch and how many.
    /// [`Reject::BrokerAway`]: the link went down before anything of it was sent.
    async fn grant(&self, plan: &Plan<'_>, todo: &[u32], until: Instant) -> Result<(BatchKey, usize), Reject> {
        // What the broker does not read gathers here: no more until it does.
        if self.out.borrow().len() > self.limits.window_bytes_max {
            return Err(Reject::WindowFull);
        }
        let ask = || Ask {
            naming: plan.naming,
            sizes: todo.iter().map(|index| plan.bytes(*index)),
            tag: plan.tag,
            deadline_ms: self.now_ms() + u64::try_from(self.limits.ack_timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let mut tokens = self.tokens.take();
        tokens.clear();
        let at_once = if self.is_up() { self.window.borrow_mut().open(ask(), &mut tokens) } else { None };
        let opened = match at_once {
            Some(opened) => opened,
            None if !self.is_up() => return Err(Reject::BrokerAway),
            None => self.wait_for_room(ask, &mut tokens, until).await?,
        };
        // No await between here and the window: what was opened while the link is up is written to it.
        if !self.is_up() {
            // The window was emptied when the link went down; these records were never sent.
            self.window.borrow_mut().revoke(opened.key, &mut Wakes::default());
            self.tokens.replace(tokens);
            return Err(Reject::BrokerAway);
        }
        let mut out = self.out.borrow_mut();
        match (plan.naming, tokens.first()) {
            (Naming::InOrder, Some(token)) => {
                let token = token.text();
                for index in todo.iter().take(opened.records) {
                    plan.encode(*index, &mut out, self.inbox.as_bytes(), token.as_bytes());
                }
            }
            _ => {
                for (index, token) in todo.iter().zip(&tokens) {
                    plan.encode(*index, &mut out, self.inbox.as_bytes(), token.text().as_bytes());
                }
            }
        }
        drop(out);
        self.tokens.replace(tokens);
        self.flush();
        Ok((opened.key, opened.records))
    }

    /// Waits for a turn in the window, until then at most.
    async fn wait_for_room<I: Iterator<Item = usize>>(
        &self,
        ask: impl Fn() -> Ask<I>,
        tokens: &mut Vec<Token>,
        until: Instant,
    ) -> Result<Opened, Reject> {
        let mut place = Place { link: self, turn: Turn::default() };
        let wait = poll_fn(|context| {
            let mut wakes = Wakes::default();
            self.window.borrow_mut().poll_open(&mut place.turn, ask(), tokens, &mut wakes, context)
        });
        let Ok(Ok(opened)) = rt::deadline(until.saturating_duration_since(Instant::now()), wait).await else {
            self.metrics.window_full.increment();
            return Err(Reject::WindowFull);
        };
        Ok(opened)
    }

    /// Waits for every batch; returns the records that were lost with the connection.
    async fn collect(&self, plan: &Plan<'_>, todo: &[u32], sent: Vec<Sent>, outcomes: &mut [Outcome]) -> Vec<u32> {
        let mut lost = Vec::new();
        let mut acks = Vec::new();
        for Sent { key, records } in sent {
            poll_fn(|context| self.window.borrow_mut().poll_batch(key, context)).await;
            acks.clear();
            self.window.borrow_mut().take(key, &mut acks);
            if plan.naming == Naming::InOrder && !is_attributable(&acks) {
                acks.fill(AckOutcome::TimedOut);
            }
            for (index, ack) in todo.get(records).unwrap_or_default().iter().zip(acks.drain(..)) {
                if ack == AckOutcome::Lost {
                    lost.push(*index);
                }
                let Some(outcome) = outcomes.get_mut(*index as usize) else { continue };
                let news = plan.outcome(*index, &ack);
                // Once it may be stored, only an acknowledgement settles it: a later failure says nothing of the first attempt.
                if !is_unknown(outcome) || matches!(news, Outcome::Stored { .. }) {
                    *outcome = news;
                }
            }
        }
        lost
    }
}

fn is_unknown(outcome: &Outcome) -> bool {
    *outcome == Outcome::Failed(Reject::OutcomeUnknown)
}

/// Records that were not sent this time fail for this reason; what was sent before and got lost stays unknown.
fn settle_unsent(unsent: &[u32], why: &Reject, outcomes: &mut [Outcome]) {
    for index in unsent {
        if let Some(outcome) = outcomes.get_mut(*index as usize).filter(|outcome| !is_unknown(outcome)) {
            *outcome = Outcome::Failed(why.clone());
        }
    }
}

/// A place in the queue for room, left when it is dropped: whoever stands behind it must not wait for nobody.
struct Place<'a> {
    link: &'a Link,
    turn: Turn,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut wakes = Wakes::default();
        self.link.window.borrow_mut().leave(&mut self.turn, &mut wakes);
    }
}

/// A publish, with what holds for each of its records.
struct Plan<'a> {
    publish: &'a Publish<'a>,
    spread: u64,
    record_bytes_max: usize,
    tag: u32,
    naming: Naming,
}

impl<'a> Plan<'a> {
    fn new(publish: &'a Publish<'a>, spread: u64, broker_max: usize) -> Self {
        // With several partitions a batch has several subjects, and a violation of one says nothing of the others.
        let tag = match &*publish.station.partitions {
            [only] => tag_of(&only.subject),
            _ => TAG_OF_NONE,
        };
        let naming = if answers_in_order(publish.station) { Naming::InOrder } else { Naming::Each };
        let mut plan = Self { publish, spread, record_bytes_max: broker_max, tag, naming };
        plan.limit(broker_max);
        plan
    }

    /// What the broker and the stream take at the most.
    fn limit(&mut self, broker_max: usize) {
        let stream_max = self.publish.station.record_bytes_max.map_or(usize::MAX, |max| max as usize);
        self.record_bytes_max = broker_max.min(stream_max);
    }

    /// Leaves the records that are small enough; the others get their reject.
    fn drop_oversized(&self, todo: &mut Vec<u32>, outcomes: &mut [Outcome]) {
        todo.retain(|index| {
            let fits = self.bytes(*index) <= self.record_bytes_max;
            if !fits && let Some(outcome) = outcomes.get_mut(*index as usize).filter(|outcome| !is_unknown(outcome)) {
                *outcome = Outcome::Failed(Reject::TooLarge(SizeLimit::Record, self.record_bytes_max as u64));
            }
            fits
        });
    }

    /// Bytes of a record as the broker counts them.
    fn bytes(&self, index: u32) -> usize {
        let id = self.id(index).map_or(0, |id| id.len());
        encode::record_bytes(self.publish.headers.len(), id, self.span(index).len())
    }

    fn span(&self, index: u32) -> Span {
        self.publish.records.get(index as usize).copied().unwrap_or_default()
    }

    fn id(&self, index: u32) -> Option<RecordId<'a>> {
        let id = self.publish.id?;
        Some(RecordId { base: id.base.as_bytes(), index: id.numbered.then_some(index) })
    }

    fn partition(&self, index: u32) -> usize {
        let partitions = self.publish.station.partitions.len();
        if partitions <= 1 {
            return 0;
        }
        partition::choose(self.publish.id, index as usize, self.spread, partitions).into()
    }

    fn encode(&self, index: u32, out: &mut Vec<u8>, prefix: &[u8], token: &[u8]) {
        let partition = self.publish.station.partitions.get(self.partition(index));
        let subject = partition.map(|partition| partition.subject.as_bytes()).unwrap_or_default();
        let payload = self.span(index).of(self.publish.body);
        encode::hpub_record(out, subject, Reply { prefix, token }, self.publish.headers, self.id(index), payload);
    }

    fn outcome(&self, index: u32, ack: &AckOutcome) -> Outcome {
        if let AckOutcome::Stored { sequence, duplicate } = *ack {
            let partition = u16::try_from(self.partition(index)).unwrap_or(u16::MAX);
            return Outcome::Stored { partition, sequence, duplicate };
        }
        let subject = self.publish.station.name.as_str();
        let failure = errors::of_outcome(ack, subject, self.record_bytes_max as u64);
        Outcome::Failed(failure.unwrap_or(Reject::Internal("an acknowledgement of no kind")))
    }
}

/// Whether the answers to records that were published one after the other come in that order: one stream, and one
/// server that stores and answers.
fn answers_in_order(station: &Station) -> bool {
    station.partitions.len() == 1 && station.replicas == 1
}

/// Whether these answers, which came in order, say of each record what became of it. What the broker refuses at the
/// door it answers at once, past what it has still to store: among other answers it could be any record's.
fn is_attributable(acks: &[AckOutcome]) -> bool {
    let at_the_door = |ack: &AckOutcome| {
        matches!(ack, AckOutcome::NoResponders | AckOutcome::Error { err_code: errors::TOO_MANY_REQUESTS, .. })
    };
    !acks.iter().any(at_the_door) || acks.iter().all(at_the_door)
}

/// The tag of records that no permissions violation is attributed to.
const TAG_OF_NONE: u32 = 0;

/// The tag that the records of a subject carry in the window.
pub(super) fn tag_of(subject: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    // Any 32 bits will do: a collision costs a record its answer until its deadline.
    ((hasher.finish() >> 32) as u32).max(TAG_OF_NONE + 1)
}
