//! Publishing: take room in the window, encode into the connection's buffer, wait for the acknowledgements.
//!
//! A request takes the window in grants, so that a large batch and a small one pass each other. All
//! of its records go out before the first acknowledgement is waited for, as far as there is room.

use super::link::Link;
use crate::{
    backend::{Outcome, Publish, partition},
    reject::{Reject, SizeLimit},
    rt,
    wire::{
        Span,
        jetstream::{
            AckOutcome, BatchKey, Token, errors,
            window::{Ask, Opened, Turn, Wakes},
        },
        nats::encode::{self, RecordId, Reply},
    },
};
use std::{
    future::poll_fn,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

/// How often records with a message id are sent again after a lost connection.
const ATTEMPTS_MAX: u32 = 3;

/// A grant that has been sent: its batch, and which of the records to send it was.
struct Sent {
    key: BatchKey,
    records: Range<usize>,
}

impl Link {
    /// Publishes the records of a request and waits for what becomes of each.
    pub async fn publish(&self, publish: &Publish<'_>, outcomes: &mut Vec<Outcome>) -> Result<(), Reject> {
        let record_bytes_max = self.connected().await?;
        let plan = Plan::new(publish, self.spread.get(), record_bytes_max);
        self.spread.set(self.spread.get().wrapping_add(publish.records.len() as u64));
        outcomes.clear();
        outcomes.resize(publish.records.len(), Outcome::Failed(Reject::BrokerAway));
        let mut todo = plan.sendable(outcomes);
        for attempt in 1..=ATTEMPTS_MAX {
            let sent = self.send(&plan, &todo, outcomes).await;
            let lost = self.collect(&plan, &todo, sent, outcomes).await;
            if lost.is_empty() || publish.id.is_none() || attempt == ATTEMPTS_MAX {
                return Ok(());
            }
            todo = lost;
        }
        Ok(())
    }

    /// Sends as much as the window takes within the hold; what it does not take gets its reject.
    async fn send(&self, plan: &Plan<'_>, todo: &[u32], outcomes: &mut [Outcome]) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut at = 0;
        while at < todo.len() {
            let rest = todo.get(at..).unwrap_or_default();
            match self.grant(plan, rest).await {
                Ok((key, records)) => {
                    sent.push(Sent { key, records: at..at + records });
                    at += records;
                }
                Err(reject) => {
                    // A record that was sent before and got lost stays unknown: it may be stored.
                    for index in rest {
                        let outcome = outcomes.get_mut(*index as usize);
                        if let Some(outcome) =
                            outcome.filter(|outcome| **outcome != Outcome::Failed(Reject::OutcomeUnknown))
                        {
                            *outcome = Outcome::Failed(reject.clone());
                        }
                    }
                    break;
                }
            }
        }
        sent
    }

    /// Takes room for as many records as fit and encodes them. Returns the batch and how many.
    async fn grant(&self, plan: &Plan<'_>, todo: &[u32]) -> Result<(BatchKey, usize), Reject> {
        self.connected().await?;
        let ask = || Ask {
            sizes: todo.iter().map(|index| plan.bytes(*index)),
            tag: plan.tag,
            deadline_ms: self.now_ms() + u64::try_from(self.limits.ack_timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let mut tokens = self.tokens.take();
        tokens.clear();
        let at_once = self.window.borrow_mut().open(ask(), &mut tokens);
        let opened = match at_once {
            Some(opened) => opened,
            None => self.wait_for_room(ask, &mut tokens).await?,
        };
        // No await between here and the window: what was opened while the link is up is written to it.
        if !self.is_up() {
            // The window was emptied when the link went down; these records were never sent.
            let mut wakes = Wakes::default();
            for token in &tokens {
                self.window.borrow_mut().complete(*token, AckOutcome::Lost, &mut wakes);
            }
            self.window.borrow_mut().abandon(opened.key);
            self.tokens.replace(tokens);
            return Err(Reject::BrokerAway);
        }
        let mut out = self.out.borrow_mut();
        for (index, token) in todo.iter().zip(&tokens) {
            plan.encode(*index, &mut out, self.inbox.as_bytes(), token.text().as_bytes());
        }
        drop(out);
        self.tokens.replace(tokens);
        self.flush();
        Ok((opened.key, opened.records))
    }

    /// Waits for a turn in the window, at most the hold.
    async fn wait_for_room<I: Iterator<Item = usize>>(
        &self,
        ask: impl Fn() -> Ask<I>,
        tokens: &mut Vec<Token>,
    ) -> Result<Opened, Reject> {
        let mut place = Place { link: self, turn: Turn::default() };
        let wait = poll_fn(|context| {
            let mut wakes = Wakes::default();
            self.window.borrow_mut().poll_open(&mut place.turn, ask(), tokens, &mut wakes, context)
        });
        let Ok(Ok(opened)) = rt::deadline(self.limits.hold, wait).await else {
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
            for (index, ack) in todo.get(records).unwrap_or_default().iter().zip(acks.drain(..)) {
                if ack == AckOutcome::Lost {
                    lost.push(*index);
                }
                if let Some(outcome) = outcomes.get_mut(*index as usize) {
                    *outcome = plan.outcome(*index, &ack);
                }
            }
        }
        lost
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
}

impl<'a> Plan<'a> {
    fn new(publish: &'a Publish<'a>, spread: u64, broker_max: usize) -> Self {
        let stream_max = publish.station.record_bytes_max.map_or(usize::MAX, |max| max as usize);
        let tag = tag_of_station(publish.station.name.as_str());
        Self { publish, spread, record_bytes_max: broker_max.min(stream_max), tag }
    }

    /// The records that are small enough; the others get their reject.
    fn sendable(&self, outcomes: &mut [Outcome]) -> Vec<u32> {
        let mut todo = Vec::with_capacity(outcomes.len());
        for (index, outcome) in (0_u32..).zip(outcomes) {
            if self.bytes(index) > self.record_bytes_max {
                *outcome = Outcome::Failed(Reject::TooLarge(SizeLimit::Record, self.record_bytes_max as u64));
            } else {
                todo.push(index);
            }
        }
        todo
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

/// The tag that all records of a station carry in the window.
fn tag_of_station(name: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    // Any 32 bits will do: a collision costs a record its answer until its deadline.
    (hasher.finish() >> 32) as u32
}

/// The tag of the station that a subject belongs to: `orders`, `orders.$2` and `orders$2.final` are all of `orders`.
pub(super) fn tag_of_subject(subject: &str) -> u32 {
    let lower = subject.to_ascii_lowercase();
    let plain = lower.rsplit_once(".$").filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some((name, _)) = plain {
        return tag_of_station(name);
    }
    let memphis = lower.strip_suffix(".final").and_then(|rest| rest.rsplit_once('$'));
    match memphis {
        Some((name, _)) => tag_of_station(&name.replace('#', ".")),
        None => tag_of_station(&lower),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_leads_back_to_its_station() {
        for subject in ["a.b", "a.b.$1", "a.b.$12", "a#b$3.final", "A.B"] {
            assert_eq!(tag_of_subject(subject), tag_of_station("a.b"), "{subject}");
        }
        assert_ne!(tag_of_subject("a.c"), tag_of_station("a.b"));
    }
}
