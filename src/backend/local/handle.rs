//! What a shard holds: publish, fetch, settle. Copies, sends, awaits; never blocks, never touches the disk.

use super::chunk::RECORD_HEAD;
use super::format::ID_FIELD;
use super::messages::{FetchRequest, GroupName, Job, OwnedFields, OwnedId, PlannedRecord, PublishJob, Request, Shared};
use crate::{
    backend::{Delivered, Fetch, Publish, Repeats, Settlement},
    limits::{
        FETCH_BYTES_MAX, FETCH_RECORDS_MAX, FETCH_WAIT_MAX, LOCAL_COMMIT_BYTES_MAX, LOCAL_COMMIT_RECORDS_MAX,
        LOCAL_QUEUE_BYTES_MAX, LOCAL_RECORD_BYTES_MAX,
    },
    record::{MessageId, Outcome, Placement},
    reject::{Reject, SizeLimit},
    rt,
    station::{Consumer, Name, Station},
    wire::Span,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What `-<i>` and the line's end add to a message id, at most.
const NUMBER_BYTES: usize = 22;

/// A shard's way to the store. Clones share nothing that is written per record.
#[derive(Debug, Clone)]
pub struct Handle {
    writer: flume::Sender<Job>,
    pub(super) reader: flume::Sender<Request>,
    pub(super) shared: Arc<Shared>,
    repeats: Repeats,
    /// Numbers deliveries; the upper half is the handle's own.
    deliveries: Arc<AtomicU64>,
}

impl Handle {
    pub(super) fn new(
        writer: flume::Sender<Job>,
        reader: flume::Sender<Request>,
        shared: Arc<Shared>,
        repeats: Repeats,
        number: u64,
    ) -> Self {
        let deliveries = Arc::new(AtomicU64::new(number << 32));
        Self { writer, reader, shared, repeats, deliveries }
    }

    /// How long records may be published again.
    pub(in crate::backend) fn repeats(&self) -> Repeats {
        self.repeats
    }

    /// How long a caller waits for what was sent before its outcome counts as unknown.
    #[must_use]
    pub fn ack_timeout(&self) -> Duration {
        self.repeats.unknown
    }

    /// Stores records and answers one outcome for each, in their order, after the fsync. `Err`: none was
    /// stored. A request that is whole is one commit. A caller that goes away leaves the records to be stored or not.
    pub async fn publish(&self, publish: &Publish<'_>, outcomes: &mut Vec<Outcome>) -> Result<(), Reject> {
        if publish.records.is_empty() {
            return Ok(());
        }
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
        }
        if publish.atomic
            && let Some(refused) = refuse_whole(publish)?
        {
            outcomes.extend(refused);
            return Ok(());
        }
        let answer = self.send(publish)?;
        match answer.recv_async().await {
            Ok(answered) => outcomes.extend(answered),
            // The writer ended in the middle of it.
            Err(flume::RecvError::Disconnected) => outcomes.extend(unknown(publish)),
        }
        Ok(())
    }

    /// Stores one record (header fields and payload) under a message id, and returns when it is stored. It goes to the
    /// partition that the data path would choose: a record that is sent there under this id meets the same duplicate
    /// window.
    pub async fn publish_one(&self, station: &Station, record: (&[u8], &[u8]), id: &str) -> Result<(), Reject> {
        let (headers, payload) = record;
        let records = [Span { start: 0, end: u32::try_from(payload.len()).unwrap_or(u32::MAX) }];
        let id = Some(MessageId { base: id, numbered: None });
        let mut list = Vec::new();
        let partitions = Placement::Auto.choose(id, 1, 0, station.partitions.len(), &mut list);
        let publish = Publish { headers, id, partitions, ..Publish::of(station, payload, &records) };
        let mut outcomes = Vec::new();
        self.publish(&publish, &mut outcomes).await?;
        match outcomes.pop() {
            Some(Outcome::Stored(_)) => Ok(()),
            Some(Outcome::Failed(why)) => Err(why),
            None => Err(Reject::OutcomeUnknown),
        }
    }

    /// [`Self::publish`] that waits at most for the limit on acknowledgements: past it, what was sent may be stored or
    /// not. Only on a shard.
    pub async fn publish_in_time(&self, publish: &Publish<'_>, outcomes: &mut Vec<Outcome>) -> Result<(), Reject> {
        let before = outcomes.len();
        if let Ok(result) = rt::deadline(self.repeats.unknown, self.publish(publish, outcomes)).await {
            return result;
        }
        outcomes.truncate(before);
        outcomes.extend(unknown(publish));
        Ok(())
    }

    /// Takes messages for a group: what is there at once, or, if nothing is, what comes until the batch is
    /// full or the wait is over. Dropping the future puts back what it was to get.
    pub async fn fetch(&self, fetch: &Fetch<'_>) -> Result<Delivered, Reject> {
        let (reply, answer) = flume::bounded(1);
        let group = name(&fetch.station.name, fetch.consumer);
        let delivery = self.deliveries.fetch_add(1, Ordering::Relaxed);
        let request = FetchRequest {
            group: group.clone(),
            delivery,
            ack_wait: fetch.consumer.ack_wait,
            records_max: fetch.records_max.clamp(1, FETCH_RECORDS_MAX),
            bytes_max: fetch.bytes_max.min(FETCH_BYTES_MAX),
            wait: fetch.wait.min(FETCH_WAIT_MAX),
            reply,
        };
        self.shared.send(&self.reader, Request::Fetch(request))?;
        let mut waiting = Waiting { handle: self, cancel: Some((group, delivery)) };
        let answer = answer.recv_async().await;
        waiting.cancel = None;
        answer.map_err(|_| self.shared.gone())?
    }

    /// Says what became of messages that were delivered. Never blocks; if it is lost, they are delivered again.
    /// `false`: it cannot be said now.
    pub fn settle(&self, station: &Name, consumer: &Consumer, delivered: &Delivered, settlement: Settlement) -> bool {
        let Some(first) = delivered.messages.first() else { return true };
        let number = first.reply.of(&delivered.arena);
        let Some(delivery) = number.try_into().ok().map(u64::from_be_bytes) else { return false };
        let messages = delivered.messages.iter().map(|message| (message.partition, message.sequence)).collect();
        let group = name(station, consumer);
        self.shared.send(&self.reader, Request::Settle { group, delivery, settlement, messages }).is_ok()
    }

    /// Copies the records into a job and sends it.
    fn send(&self, publish: &Publish<'_>) -> Result<flume::Receiver<Vec<Outcome>>, Reject> {
        let count = publish.records.len();
        let payload_bytes: usize = publish.records.iter().map(|span| span.len()).sum();
        let own_bytes = publish.record_headers.map_or(0, |own| own.block.len() + size_of_val(own.spans));
        let bytes = payload_bytes + own_bytes + publish.headers.len() + count * size_of::<PlannedRecord>();
        let share = self.shared.share(bytes, LOCAL_QUEUE_BYTES_MAX)?;
        let common = common_bytes(publish);
        let mut payloads = Vec::with_capacity(payload_bytes);
        let mut records = Vec::with_capacity(count);
        for (index, span) in publish.records.iter().enumerate() {
            let fits = record_bytes(publish, index, *span, common) <= LOCAL_RECORD_BYTES_MAX;
            let start = offset(payloads.len())?;
            if fits {
                payloads.extend_from_slice(span.of(publish.body));
            }
            let payload = Span { start, end: offset(payloads.len())? };
            let (place, partition) = (publish.place(index), publish.partition(index));
            records.push(PlannedRecord { payload, place, partition, fits });
        }
        let (reply, answer) = flume::bounded(1);
        let job = PublishJob {
            station: publish.station.name.clone(),
            headers: publish.headers.to_vec(),
            payloads,
            records,
            id: publish.id.map(|MessageId { base, numbered }| OwnedId { base: base.into(), numbered }),
            own: publish.record_headers.map(|own| OwnedFields { block: own.block.to_vec(), spans: own.spans.to_vec() }),
            whole: publish.atomic.then(|| commit_bytes(publish, common)),
            reply,
            share,
        };
        self.writer.try_send(Job::Publish(job)).map_err(|error| match error {
            flume::TrySendError::Full(_) => Reject::Overloaded("the embedded store's queue"),
            flume::TrySendError::Disconnected(_) => self.shared.gone(),
        })?;
        Ok(answer)
    }
}

/// Tells the reader when a consume call is dropped before it has its answer.
struct Waiting<'a> {
    handle: &'a Handle,
    cancel: Option<(GroupName, u64)>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some((group, delivery)) = self.cancel.take() {
            // If it is lost, the messages come again after the acknowledgement wait.
            self.handle.shared.send(&self.handle.reader, Request::Cancel { group, delivery }).ok();
        }
    }
}

/// Bytes of headers that every record of a request has, at most.
fn common_bytes(publish: &Publish<'_>) -> usize {
    publish.headers.len() + publish.id.map_or(0, |id| ID_FIELD.len() + id.base.len() + NUMBER_BYTES)
}

/// Bytes of a record's headers and payload, at most.
fn record_bytes(publish: &Publish<'_>, index: usize, payload: Span, common: usize) -> usize {
    common + publish.own_headers(index).len() + payload.len()
}

/// Bytes of a commit that the records of a request take, at most.
fn commit_bytes(publish: &Publish<'_>, common: usize) -> usize {
    let records = publish.records.iter().enumerate();
    records.map(|(index, span)| RECORD_HEAD + record_bytes(publish, index, *span, common)).sum()
}

/// What becomes of the records of a request that is stored whole or not at all, if one of them is too large. `Err`: they
/// are more than one commit takes.
fn refuse_whole(publish: &Publish<'_>) -> Result<Option<Vec<Outcome>>, Reject> {
    if publish.records.len() > LOCAL_COMMIT_RECORDS_MAX {
        return Err(Reject::NotAtomic("these are more records than the embedded store takes all or none"));
    }
    let common = common_bytes(publish);
    let fits = |index, span| record_bytes(publish, index, span, common) <= LOCAL_RECORD_BYTES_MAX;
    if publish.records.iter().enumerate().all(|(index, span)| fits(index, *span)) {
        return if commit_bytes(publish, common) > LOCAL_COMMIT_BYTES_MAX {
            Err(Reject::NotAtomic("these are more bytes than the embedded store takes all or none (8 MiB)"))
        } else {
            Ok(None)
        };
    }
    let outcome = |(index, span): (usize, &Span)| {
        Outcome::Failed(if fits(index, *span) {
            Reject::NothingStored
        } else {
            Reject::TooLarge(SizeLimit::Record, LOCAL_RECORD_BYTES_MAX as u64)
        })
    };
    Ok(Some(publish.records.iter().enumerate().map(outcome).collect()))
}

/// An outcome for each record that says that nothing is known.
fn unknown(publish: &Publish<'_>) -> impl Iterator<Item = Outcome> {
    std::iter::repeat_n(Outcome::Failed(Reject::OutcomeUnknown), publish.records.len())
}

fn name(station: &Name, consumer: &Consumer) -> GroupName {
    GroupName { station: station.clone(), durable: consumer.durable.clone() }
}

fn offset(len: usize) -> Result<u32, Reject> {
    u32::try_from(len).map_err(|_| Reject::Overloaded("the embedded store's queue"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::local::{
            catalog::{Rules, StationDoc},
            format::Mark,
        },
        station::Station,
    };
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    fn station() -> Arc<Station> {
        let rules = Rules { age_ms: None, records: None, bytes: None, acknowledged: false, window_ms: 0 };
        let doc = StationDoc { partitions: vec![1], rules, created_ms: 0 };
        let name = Name::parse("orders").expect("a name");
        crate::backend::local::catalog::StationState::new(name, &doc, &[Mark::EMPTY]).station
    }

    #[test]
    fn a_writer_that_does_not_answer_leaves_the_outcome_unknown() {
        let (writer, jobs) = flume::bounded(4);
        let (reader, _requests) = flume::bounded(4);
        let handle = Handle::new(
            writer,
            reader,
            Arc::default(),
            Repeats { refused: Duration::ZERO, unknown: Duration::from_millis(20) },
            0,
        );
        let station = station();
        let records = [Span { start: 0, end: 1 }; 2];
        let publish = Publish::of(&station, b"a", &records);
        let unknown = vec![Outcome::Failed(Reject::OutcomeUnknown); 2];

        let mut outcomes = Vec::new();
        let result = rt::run(rt::Flavor::Epoll, || handle.publish_in_time(&publish, &mut outcomes));
        assert_eq!(result.expect("a runtime"), Ok(()));
        assert_eq!(outcomes, unknown, "too late");

        let mut outcomes = Vec::new();
        {
            let mut call = pin!(handle.publish(&publish, &mut outcomes));
            let mut context = Context::from_waker(Waker::noop());
            assert!(call.as_mut().poll(&mut context).is_pending());
            drop(jobs.drain());
            assert_eq!(call.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        }
        assert_eq!(outcomes, unknown, "dropped unanswered");
    }
}
