//! Messages that were delivered too often: they become dead letters and are not delivered again.
//!
//! The backend counts how often it has delivered each message. The gateway looks at the count of every message, so that
//! nothing depends on notices that may be lost. A message is acknowledged only after its dead letter is. The dead
//! letter's message id says which message and which group it is of, so that a message whose acknowledgement gets lost
//! is dead-lettered once all the same.
//!
//! If the dead letters cannot be stored, the messages are given back and not delivered; a call that would deliver
//! nothing else says so. A message that is too large to be a dead letter is delivered as before: too often is better
//! than never.

use super::{Consume, Delivery, Fetcher};
use crate::{
    backend::{Delivered, Message, Settlement},
    dead_letters::{
        DeadLetterBatch,
        fields::{DeadLetterFields, Kind},
    },
    limits::PRODUCE_TIMEOUT,
    reject::Reject,
    rt::clock,
    station::Name,
    wire::Span,
};

/// The group of a client that names none, as clients know it.
const GROUP_DEFAULT: &str = "rest-gateway";

impl Fetcher {
    /// Returns how often a message of this station is delivered at most. What the registry says of it may not be known
    /// yet.
    pub(super) fn deliveries_max(&self, station: &Name) -> Option<u32> {
        let contracts = self.directory.contracts();
        contracts.complete.then(|| contracts.of(station).deliveries_max).flatten()
    }

    /// Dead-letters the messages that were delivered more often than `max` times, and takes them out of the delivery.
    pub(super) async fn dead_letter_exhausted(
        &self,
        call: &Consume<'_>,
        delivery: &mut Delivery,
        max: u32,
    ) -> Result<(), Reject> {
        let over = delivery.exhausted(max);
        let Err(reject) = self.keep_letters(call, delivery, &over).await else { return Ok(()) };
        let over = delivery.exhausted(max);
        let given_back = take(&mut delivery.delivered, &over);
        delivery.settle_taken(&given_back, Settlement::Redeliver);
        if delivery.messages().is_empty() {
            return Err(reject);
        }
        let (station, count) = (call.station, given_back.messages.len());
        tracing::warn!(%station, count, %reject, "records delivered too often could not be kept as dead letters");
        Ok(())
    }

    async fn keep_letters(&self, call: &Consume<'_>, delivery: &mut Delivery, over: &[usize]) -> Result<(), Reject> {
        let mut done = Vec::with_capacity(over.len());
        let bytes = delivery.held.bytes();
        let until = clock::now() + PRODUCE_TIMEOUT;
        let mut letters = DeadLetterBatch::new(&delivery.delivered.arena, until);
        let mut from = 0;
        let mut failed = None;
        while from < over.len() && failed.is_none() {
            let start = from;
            while let Some(message) = over.get(from).and_then(|index| delivery.messages().get(*index)) {
                let why = DeadLetterFields {
                    kind: Kind::Deliveries,
                    error: format!("delivered {} times without an acknowledgement", message.deliveries - 1).into(),
                    schema: None,
                    time_ms: letters.time_ms(),
                    principal: None,
                    group: Some(call.group.map_or(GROUP_DEFAULT, Name::as_str).into()),
                };
                let stored = message.headers.of(&delivery.delivered.arena);
                letters.add(message.payload, &[stored], &why, delivery.letter_id(message));
                from += 1;
                if letters.is_full() {
                    break;
                }
            }
            let room = delivery.held.grow_to(bytes + letters.bytes());
            let keeping = async {
                room?;
                letters.keep(call.station, &self.directory, &self.backend, &self.metrics).await
            };
            match keeping.await {
                Ok(kept) => {
                    let of_these = over.iter().skip(start).zip(kept);
                    done.extend(of_these.filter(|(_, kept)| *kept).map(|(index, _)| *index));
                }
                Err(reject) => failed = Some(reject),
            }
        }
        drop(letters);
        delivery.held.shrink_to(bytes);
        let kept = take(&mut delivery.delivered, &done);
        delivery.settle_taken(&kept, Settlement::Acknowledge);
        failed.map_or(Ok(()), Err)
    }
}

impl Delivery {
    /// Returns the indexes of the messages that were delivered more often than `max` times, in their order.
    pub(super) fn exhausted(&self, max: u32) -> Vec<usize> {
        let over = |(index, message): (usize, &Message)| (message.deliveries > max).then_some(index);
        self.messages().iter().enumerate().filter_map(over).collect()
    }

    /// Returns the message id of the dead letter that a message becomes: which message of which stream, and for which
    /// group.
    fn letter_id(&self, message: &Message) -> Option<String> {
        let stream = &self.station.partitions.get(usize::from(message.partition))?.stream;
        let (sequence, durable) = (message.sequence, &self.consumer.durable);
        // Without its number nothing tells two messages apart.
        (sequence > 0).then(|| format!("{stream}:{sequence}:{durable}"))
    }

    pub(super) fn settle_taken(&self, taken: &Delivered, settlement: Settlement) {
        if !taken.messages.is_empty() {
            self.backend.settle(&self.station, &self.consumer, taken, settlement);
        }
    }
}

/// Takes messages out, to be settled by themselves. A settled message needs nothing but the address of its
/// acknowledgement.
pub(super) fn take(delivered: &mut Delivered, indexes: &[usize]) -> Delivered {
    let mut taken = Delivered::default();
    let mut wanted = indexes.iter().copied().peekable();
    let Delivered { arena, messages } = delivered;
    let mut index = 0;
    messages.retain(|message| {
        let is_taken = wanted.next_if_eq(&index).is_some();
        index += 1;
        if is_taken {
            let reply = Span::append(&mut taken.arena, message.reply.of(arena));
            taken.messages.push(Message { headers: Span::default(), payload: Span::default(), reply, ..*message });
        }
        !is_taken
    });
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_message_is_taken_or_left_with_its_own_reply(wanted in prop::collection::vec(any::<bool>(), 0..30)) {
            let mut delivered = Delivered::default();
            for number in 0..wanted.len() {
                let mut keep = |text: String| Span::append(&mut delivered.arena, text.as_bytes());
                let (headers, payload, reply) = (keep(format!("h{number}")), keep(format!("p{number}")), keep(format!("r{number}")));
                let sequence = number as u64;
                delivered.messages.push(Message { headers, payload, reply, partition: 1, sequence, deliveries: 2 });
            }
            let indexes: Vec<usize> = (0..wanted.len()).filter(|index| wanted[*index]).collect();
            let taken = take(&mut delivered, &indexes);
            let replies = |of: &Delivered| -> Vec<(u64, String)> {
                let text = |message: &Message| String::from_utf8(message.reply.of(&of.arena).to_vec()).unwrap();
                of.messages.iter().map(|message| (message.sequence, text(message))).collect()
            };
            let expect = |is: bool| -> Vec<(u64, String)> {
                (0..wanted.len()).filter(|index| wanted[*index] == is).map(|index| (index as u64, format!("r{index}"))).collect()
            };
            prop_assert_eq!(replies(&taken), expect(true));
            prop_assert_eq!(replies(&delivered), expect(false));
        }
    }
}
