//! Publishes all records of a request or none: one atomic batch, which is never cut and never tried singly.
//!
//! A batch that the broker refuses is refused as a whole. If it refuses because message ids are known, the gateway has
//! to find out whether the batch was stored before (its answer was lost, and it is sent again) or only a part of it: it
//! asks for each id with a record that is never stored ([`ASK_BY_SEQUENCE`], [`ASK_BY_ID`]).

use super::{Plan, Scratch};
use crate::{
    backend::{
        Publish,
        nats::{Connection, connection::Server},
    },
    limits::ATOMIC_RECORDS_MAX,
    record::Outcome,
    reject::{Reject, SizeLimit},
    station::{PublishMode, Station},
    wire::{
        Span,
        jetstream::{
            AckOutcome,
            atomic::{DUPLICATE_ID, FIELDS_BYTES},
            errors::{self, WRONG_LAST_ID, WRONG_LAST_SEQUENCE},
        },
    },
};
use std::future::poll_fn;

/// No stream's last sequence is this one, so the broker stores nothing. A stream of several copies looks for the
/// record's own id first, and says where that is. (One of a single copy looks at the sequence first, since 2.12, and
/// says nothing of the id.)
const ASK_BY_SEQUENCE: &[u8] = b"Nats-Expected-Last-Sequence: 9223372036854775807\r\n";
/// The last record of no stream has this id (a client's has no blanks). A stream of a single copy looks for the
/// record's own id first. **Never to be asked of several copies**: they look at this field only when the entry is
/// applied, each of them, and a mismatch there ends the stream for good.
const ASK_BY_ID: &[u8] = b"Nats-Expected-Last-Msg-Id: the gateway only asks\r\n";

const TOO_MANY: &str = "there are more records than can be stored all or nothing at a time";
const TOO_LARGE: &str = "the records are larger than what the gateway may have in flight (limits.window_bytes_max)";
const KNOWN: &str = "the message id is known already, and those of other records are not";

impl Connection {
    /// Publishes records as one atomic batch.
    pub(super) async fn publish_whole(
        &self,
        publish: &Publish<'_>,
        outcomes: &mut Vec<Outcome>,
        scratch: &mut Scratch,
    ) -> Result<(), Reject> {
        let count = publish.records.len();
        if let Some(why) = publish.station.not_atomic {
            return Err(Reject::NotAtomic(why));
        }
        if count > usize::from(ATOMIC_RECORDS_MAX).min(publish.station.atomic_records_max as usize) {
            return Err(Reject::NotAtomic(TOO_MANY));
        }
        let plan = Plan::whole(publish, self.connected().await?);
        outcomes.clear();
        outcomes.resize(count, Outcome::Failed(Reject::BrokerAway));
        scratch.todo.clear();
        scratch.todo.extend((0..).take(count));
        if !plan.all_fit(&scratch.todo, outcomes) {
            return Ok(());
        }
        let bytes = scratch.todo.iter().map(|index| plan.bytes(*index)).sum();
        if !self.jetstream.window.borrow().can_take(count, bytes) {
            return Err(Reject::NotAtomic(TOO_LARGE));
        }
        let key = match self.grant(&plan, scratch, 0, &mut None).await {
            Ok((key, _)) => key,
            Err(why) => {
                settle(outcomes, |_| why.clone());
                return Ok(());
            }
        };
        poll_fn(|context| self.jetstream.window.borrow_mut().poll_batch(key, context)).await;
        let acks = &mut scratch.acks;
        acks.clear();
        self.jetstream.window.borrow_mut().take(key, acks);
        match acks.first() {
            Some(AckOutcome::Stored { .. }) => {
                for ((index, ack), outcome) in (0..).zip(acks.drain(..)).zip(outcomes) {
                    *outcome = plan.outcome(index, &ack);
                }
            }
            Some(AckOutcome::Error { err_code: DUPLICATE_ID, .. }) => {
                Box::pin(self.settle_known(plan.publish, outcomes)).await;
            }
            Some(refused) => {
                let why = errors::of_batch(refused, plan.publish.station.name.as_str(), plan.record_bytes_max as u64);
                let last = outcomes.len().saturating_sub(1);
                // If a record is too large, only the answer to the last record is received.
                let of_one = matches!(why, Reject::TooLarge(..));
                settle(outcomes, |index| if of_one && index < last { Reject::NothingStored } else { why.clone() });
            }
            None => settle(outcomes, |_| Reject::Internal("a batch without an outcome")),
        }
        Ok(())
    }

    /// The broker knows message ids of the batch. If it knows all of them, the batch is stored; if it knows some, it
    /// cannot be.
    async fn settle_known(&self, publish: &Publish<'_>, outcomes: &mut [Outcome]) {
        if publish.is_late() {
            return settle(outcomes, |_| Reject::OutcomeUnknown);
        }
        let is_known = |outcome: &Outcome| matches!(outcome, Outcome::Stored(_));
        let is_absent = |outcome: &Outcome| {
            matches!(outcome, Outcome::Failed(Reject::BrokerRefused(WRONG_LAST_SEQUENCE | WRONG_LAST_ID, _)))
        };
        let mut found = Vec::new();
        if let Err(why) = self.ask(publish, ASK_BY_SEQUENCE, &mut found).await {
            return settle(outcomes, |_| why.clone());
        }
        // The harmless request comes first whatever is known of the copies, which somebody may have changed: an answer
        // that knows an id says that there are several.
        if publish.station.replicas <= 1
            && found.iter().all(is_absent)
            && let Err(why) = self.ask(publish, ASK_BY_ID, &mut found).await
        {
            return settle(outcomes, |_| why.clone());
        }
        let unclear = found.iter().find_map(|outcome| match outcome {
            Outcome::Failed(why) if !is_absent(outcome) => Some(why.clone()),
            _ => None,
        });
        if let Some(why) = unclear {
            settle(outcomes, |_| why.clone());
        } else if found.iter().all(is_known) {
            outcomes.clone_from_slice(&found);
        } else if found.iter().any(is_known) {
            let known = |index| found.get(index).is_some_and(is_known);
            settle(outcomes, |index| if known(index) { Reject::MessageId(KNOWN) } else { Reject::NothingStored });
        } else {
            // They were known a moment ago: evicted since, or being stored by somebody else.
            settle(outcomes, |_| Reject::OutcomeUnknown);
        }
    }
}

impl Connection {
    /// Asks for the message id of each record, with records that are not stored because of a header field.
    async fn ask(&self, publish: &Publish<'_>, field: &[u8], found: &mut Vec<Outcome>) -> Result<(), Reject> {
        let station = Station { publish_mode: PublishMode::Single, ..publish.station.clone() };
        let records = vec![Span::default(); publish.records.len()];
        let Publish { indexes, partitions, deadline, id, .. } = *publish;
        let ask = Publish { headers: field, indexes, partitions, deadline, id, ..Publish::of(&station, &[], &records) };
        self.publish_with(&ask, found, &mut Scratch::default()).await
    }
}

/// Returns the reject of a batch of which nothing was stored, for this reason.
fn settle(outcomes: &mut [Outcome], why: impl Fn(usize) -> Reject) {
    for (index, outcome) in outcomes.iter_mut().enumerate() {
        *outcome = Outcome::Failed(why(index));
    }
}

impl<'a> Plan<'a> {
    /// The plan of a publish that is one batch.
    fn whole(publish: &'a Publish<'a>, server: Server) -> Self {
        let mut plan = Self::new(publish, server);
        plan.ack_mode = super::AckMode::PerBatch;
        plan
    }

    /// Checks whether every record is small enough. If not, those that are not get that reject, and the others that
    /// nothing was stored.
    fn all_fit(&self, todo: &[u32], outcomes: &mut [Outcome]) -> bool {
        let fits = |index: u32| self.bytes(index) <= self.record_bytes_max;
        let all = todo.iter().all(|index| fits(*index));
        if !all {
            let max = self.record_bytes_max.saturating_sub(FIELDS_BYTES) as u64;
            let too_large = Reject::TooLarge(SizeLimit::Record, max);
            let fits = |index| u32::try_from(index).is_ok_and(fits);
            settle(outcomes, |index| if fits(index) { Reject::NothingStored } else { too_large.clone() });
        }
        all
    }
}
