//! The publish window: the records in flight, and their outcomes.
//!
//! A *batch* is one request, or as much of one as fits at a time. Opening it takes room for each of its records,
//! counted in messages and in bytes, and gives each a [`Token`] (or all of them one, see [`AckMode`]) that travels in
//! the reply subject and comes back with the acknowledgement. A record's room is free again when it is acknowledged,
//! timed out, lost or refused; its outcome is kept until the requester takes the batch's outcomes, all at once.
//!
//! Invariants: a record gets one outcome. A batch is complete when each of its records has one; then its waker is
//! woken, once. Requests that wait for room get it in the order of asking, and none passes the queue.
//!
//! Slots are made at construction, as many as the window has messages. Outcomes that nobody has taken yet keep theirs,
//! so the slab grows beyond that only while requests hold complete batches and open more; slots are used again and
//! never given back. Nothing is allocated for a record.
//!
//! Deliberately absent: the clock (every deadline is in milliseconds of a clock of the caller's), sending
//! again (the requester opens a new batch for what is [`AckOutcome::Lost`]), and any knowledge of payloads.

mod batches;
mod slots;
mod tickets;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use super::{
    atomic::{BatchId, first_sequence},
    token::Token,
};
use batches::{Batches, State};
use slots::{Completed, List, Manner, Slots};
use std::task::{Context, Poll, Waker};
use tickets::Tickets;

pub use batches::BatchKey;
pub use tickets::Ticket;

/// What a window may hold. Each is at least 1; 0 is taken as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// Records in flight.
    pub messages: usize,
    /// Their bytes, as the broker counts them.
    pub bytes: usize,
    /// Records that one batch may have: what a request takes before others get room.
    pub grant_messages: usize,
    /// Requests that wait for room.
    pub waiters: usize,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckOutcome {
    /// In the stream.
    Stored {
        /// Its sequence.
        sequence: u64,
        /// Its message id was known: the sequence is that of the record stored before.
        duplicate: bool,
    },
    /// The broker refused it, see [`super::errors`]. Not stored.
    Error {
        /// Class of the error, as in HTTP.
        code: u16,
        /// JetStream's own number.
        err_code: u32,
        /// The broker's words.
        description: Box<str>,
    },
    /// No stream listens on the subject. Not stored.
    NoResponders,
    /// No answer within the deadline: stored or not.
    TimedOut,
    /// The connection went away before the answer: stored or not.
    Lost,
    /// The broker's permissions forbid the subject. Not stored.
    Refused,
}

/// Whether the answers to the records of a batch say which record they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// Each record has a token of its own.
    PerRecord,
    /// All have the batch's token: answers come in the order of the records. Only for a stream that answers so, and to
    /// be read with care where an answer says that something failed out of order.
    InOrder,
    /// All have the batch's token, and there is one answer: an atomic batch.
    PerBatch,
}

/// A request for room for records.
#[derive(Debug)]
pub struct WindowRequest<I> {
    /// How answers find their records.
    pub ack_mode: AckMode,
    /// Whether these tokens are not used again, because more than one answer to a record may come: where several
    /// servers keep a stream, two of them may answer. Elsewhere the tokens are used again as they are.
    pub once: bool,
    /// Bytes of each record, in order, as the broker counts them.
    pub sizes: I,
    /// Whether all of them get room or none, and not as many as fit.
    pub all: bool,
    /// The tag by which [`Window::fail_subject`] names the subject.
    pub tag: u32,
    /// When the records are given up, in milliseconds of the caller's clock.
    pub deadline_ms: u64,
}

/// The room without which a request cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    messages: usize,
    bytes: usize,
}

impl Room {
    /// Returns the room of the first record, or of all. `None`: there are no records.
    fn of(ask: &WindowRequest<impl Iterator<Item = usize> + Clone>) -> Option<Self> {
        let mut sizes = ask.sizes.clone();
        let first = Self { messages: 1, bytes: sizes.next()? };
        if !ask.all {
            return Some(first);
        }
        let add = |sum: Self, bytes| Self { messages: sum.messages + 1, bytes: sum.bytes.saturating_add(bytes) };
        Some(sizes.fold(first, add))
    }
}

/// Room that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The batch, to be taken or abandoned by whoever opened it.
    pub key: BatchKey,
    /// Records in it: the first ones of those that were asked for.
    pub records: usize,
}

/// Too many requests wait for room already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// Wakers that are due, to be woken when the window is no longer borrowed. Those that were not woken by
/// [`DueWakers::wake`] are woken on drop, so that no wake-up is ever lost.
#[derive(Debug, Default)]
pub struct DueWakers(Vec<Waker>);

impl DueWakers {
    /// Wakes all of them, once.
    pub fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }

    /// Returns how many are due.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether none is due.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for DueWakers {
    fn drop(&mut self) {
        self.wake();
    }
}

/// The publish window of one shard.
#[derive(Debug)]
pub struct Window {
    limits: WindowLimits,
    /// Records without an outcome.
    messages: usize,
    /// Their bytes.
    bytes: usize,
    slots: Slots,
    batches: Batches,
    turns: Tickets,
    stale: u64,
    answered: u64,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        let limits = WindowLimits {
            messages: limits.messages.clamp(1, super::token::SLOTS),
            bytes: limits.bytes.max(1),
            grant_messages: limits.grant_messages.max(1),
            waiters: limits.waiters.max(1),
        };
        Self {
            limits,
            messages: 0,
            bytes: 0,
            slots: Slots::with_capacity(limits.messages),
            batches: Batches::default(),
            turns: Tickets::default(),
            stale: 0,
            answered: 0,
        }
    }

    /// Returns how many messages and bytes still fit.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        (self.limits.messages.saturating_sub(self.messages), self.limits.bytes.saturating_sub(self.bytes))
    }

    /// Returns the messages and bytes in flight.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        (self.messages, self.bytes)
    }

    /// Marks what is in flight, to tell it from what is opened later.
    pub fn mark_in_flight(&mut self) {
        self.batches.mark();
    }

    /// Returns how many of the records are in flight that were when they were last marked. Looks at those batches only.
    #[must_use]
    pub fn marked_in_flight(&self) -> usize {
        self.batches.marked_in_flight()
    }

    /// Returns the number of requests that wait for room.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.turns.len()
    }

    /// Returns the number of acknowledgements that belonged to no record in flight: late, twice, or not ours.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Returns the number of answers to records in flight.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Returns whether records of so many bytes in all can be in flight at the same time.
    #[must_use]
    pub fn can_take(&self, messages: usize, bytes: usize) -> bool {
        messages <= self.limits.messages.min(self.limits.grant_messages) && bytes <= self.limits.bytes
    }

    /// Takes room for as many records as fit, at most a grant's worth, or none: `None` if not even the first fits (of
    /// [`WindowRequest::all`]: not all of them), or others wait. Appends a token for each to `tokens`, in order; or one
    /// for all, see [`AckMode`].
    ///
    /// A record larger than the whole window fits when nothing else is in flight.
    pub fn open(
        &mut self,
        ask: WindowRequest<impl Iterator<Item = usize> + Clone>,
        tokens: &mut Vec<Token>,
    ) -> Option<Grant> {
        match Room::of(&ask) {
            Some(need) if !self.turns.is_empty() || !self.fits(need) => None,
            _ => Some(self.admit(ask, tokens)),
        }
    }

    /// Does the same as [`Window::open`], and waits in the queue if need be.
    ///
    /// While it is pending, `turn` holds a place in the queue, which others wait behind: a caller that stops polling
    /// must [`Window::leave`]. A request that wants more after its grant asks again with the same (now empty) ticket,
    /// and stands at the end.
    pub fn poll_open(
        &mut self,
        turn: &mut Ticket,
        ask: WindowRequest<impl Iterator<Item = usize> + Clone>,
        tokens: &mut Vec<Token>,
        wakes: &mut DueWakers,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Grant, QueueFull>> {
        if let Some(need) = Room::of(&ask)
            && !(self.turns.is_next(turn) && self.fits(need))
        {
            let waits = self.turns.wait(turn, need, self.limits.waiters, cx.waker());
            return if waits { Poll::Pending } else { Poll::Ready(Err(QueueFull)) };
        }
        self.turns.leave(turn);
        let opened = self.admit(ask, tokens);
        self.wake_next(wakes);
        Poll::Ready(Ok(opened))
    }

    /// Gives up a place in the queue for room. Does nothing if `turn` holds none.
    pub fn leave(&mut self, turn: &mut Ticket, wakes: &mut DueWakers) {
        self.turns.leave(turn);
        self.wake_next(wakes);
    }

    /// Completes a record with its answer. Returns whether the record was in flight; other answers are counted and
    /// ignored.
    pub fn complete(&mut self, token: Token, outcome: AckOutcome, wakes: &mut DueWakers) -> bool {
        let completed = match self.batches.shared(token) {
            Some((batch, AckMode::PerBatch)) => {
                // The answer of a broker that knows no batches says nothing of the others.
                let stored = matches!(outcome, AckOutcome::Stored { .. });
                self.answered += u64::from(self.batches.in_flight(batch));
                self.answer_all(batch, if stored { &AckOutcome::TimedOut } else { &outcome }, wakes);
                return true;
            }
            Some((batch, _)) => {
                let completed = self.slots.complete_at(self.batches.unanswered(batch), outcome);
                self.batches.answered_up_to(batch, completed.map_or(slots::NONE, |completed| completed.next));
                completed
            }
            None if token.is_shared() => None,
            None => self.slots.complete(token, outcome),
        };
        let Some(Completed { batch, bytes, .. }) = completed else {
            self.stale += 1;
            return false;
        };
        self.answered += 1;
        self.release(1, bytes);
        if self.batches.record_done(batch) {
            self.whole(batch, wakes);
        }
        self.wake_next(wakes);
        true
    }

    /// Sets the id of an atomic batch. Only an answer that names it is an answer to the batch.
    pub fn call(&mut self, key: BatchKey, id: BatchId) {
        self.batches.call(key, id);
    }

    /// Completes the atomic batch `id` of `count` records: it is stored, the last record at `sequence`. Returns whether
    /// it is the one in flight with this token. If it had another number of records, their outcome is unknown.
    pub fn committed(&mut self, token: Token, id: &[u8], (sequence, count): (u64, u32), wakes: &mut DueWakers) -> bool {
        let known = self.batches.shared(token).filter(|(batch, _)| self.batches.is_called(*batch, id));
        let Some((batch, AckMode::PerBatch)) = known else {
            self.stale += 1;
            return false;
        };
        self.answered += u64::from(self.batches.in_flight(batch));
        let sent = u16::try_from(self.batches.in_flight(batch)).unwrap_or(u16::MAX);
        let Some(first) = first_sequence(sequence, Some(count), sent) else {
            self.answer_all(batch, &AckOutcome::TimedOut, wakes);
            return true;
        };
        self.answer_all(batch, &AckOutcome::Stored { sequence: first, duplicate: false }, wakes);
        true
    }

    /// Gives up the records whose deadline has come. Returns how many. Looks at every batch in flight.
    pub fn expire(&mut self, now_ms: u64, wakes: &mut DueWakers) -> usize {
        let before = self.messages;
        let mut next = self.batches.oldest();
        while let Some(batch) = next {
            next = self.batches.younger(batch);
            if self.batches.deadline_ms(batch).is_some_and(|deadline_ms| deadline_ms <= now_ms) {
                self.fail(batch, &AckOutcome::TimedOut, wakes);
            }
        }
        self.wake_next(wakes);
        before - self.messages
    }

    /// Gives every record in flight the outcome `Lost`: the connection is gone, and none will be answered. Returns how
    /// many there were.
    pub fn lose_all(&mut self, wakes: &mut DueWakers) -> usize {
        let before = self.messages;
        while let Some(batch) = self.batches.oldest() {
            self.fail(batch, &AckOutcome::Lost, wakes);
        }
        self.wake_next(wakes);
        before - self.messages
    }

    /// Gives the records of a subject the outcome `Refused`: the broker forbids the subject, and drops what was
    /// published on it without an answer. Returns how many records there were.
    pub fn fail_subject(&mut self, tag: u32, wakes: &mut DueWakers) -> usize {
        let before = self.messages;
        let mut next = self.batches.oldest();
        while let Some(batch) = next {
            next = self.batches.younger(batch);
            if self.batches.tag(batch) == Some(tag) {
                self.fail(batch, &AckOutcome::Refused, wakes);
            }
        }
        self.wake_next(wakes);
        before - self.messages
    }

    /// Waits until each record of the batch has its outcome. A batch that is not there (taken or abandoned) is ready
    /// too: there is nothing to wait for.
    pub fn poll_batch(&mut self, key: BatchKey, cx: &mut Context<'_>) -> Poll<()> {
        self.batches.poll(key, cx.waker())
    }

    /// Appends the outcomes of a complete batch to `outcomes`, in the order of its records, and frees the batch.
    /// Returns `false`, and does nothing, if the batch is not complete or not there.
    pub fn take(&mut self, key: BatchKey, outcomes: &mut Vec<AckOutcome>) -> bool {
        let Some((records, State::Whole)) = self.batches.find(key) else { return false };
        self.batches.free(key.index());
        self.slots.free(records, |outcome| outcomes.push(outcome));
        true
    }

    /// Abandons a batch: its requester went away. Its records in flight keep their room until they are answered or
    /// expire (the broker still works on them); then the room is free, and the outcomes are dropped.
    pub fn abandon(&mut self, key: BatchKey) {
        match self.batches.find(key) {
            Some((records, State::Whole)) => {
                self.batches.free(key.index());
                self.slots.free(records, drop);
            }
            Some((_, State::Open)) => self.batches.abandon(key.index()),
            Some((_, State::Abandoned | State::Free)) | None => {}
        }
    }

    /// Takes back a batch of which nothing was sent. Does nothing if it is not there.
    pub fn revoke(&mut self, key: BatchKey, wakes: &mut DueWakers) {
        if let Some((_, State::Open)) = self.batches.find(key) {
            self.fail(key.index(), &AckOutcome::Lost, wakes);
            self.wake_next(wakes);
        }
        self.abandon(key);
    }

    fn fits(&self, need: Room) -> bool {
        let fits = self.messages.saturating_add(need.messages) <= self.limits.messages
            && self.bytes.saturating_add(need.bytes) <= self.limits.bytes;
        (fits || self.messages == 0) && self.slots.has_room() && self.batches.has_room()
    }

    /// Opens a batch with the records that fit.
    fn admit(&mut self, ask: WindowRequest<impl Iterator<Item = usize>>, tokens: &mut Vec<Token>) -> Grant {
        let key = self.batches.open(ask.tag, ask.deadline_ms);
        let (mut list, mut records) = (List::EMPTY, 0);
        for bytes in ask.sizes.take(self.limits.grant_messages) {
            // Sizes are under 4 GiB; a larger one would count as that, when it is taken and when it is freed.
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            if !ask.all && !self.fits(Room { messages: 1, bytes: bytes as usize }) {
                break;
            }
            let named = ask.ack_mode == AckMode::PerRecord;
            let manner = Manner { named, once: named && ask.once };
            let Some(token) = self.slots.open(key.index(), bytes, manner, &mut list) else { break };
            if named {
                tokens.push(token);
            }
            self.messages += 1;
            self.bytes += bytes as usize;
            records += 1;
        }
        if ask.ack_mode != AckMode::PerRecord {
            tokens.extend(self.batches.token(key.index()));
        }
        self.batches.opened(key.index(), list, records, (ask.ack_mode, ask.once));
        Grant { key, records: records as usize }
    }

    /// Gives every record of a batch that has none this outcome, unanswered.
    fn fail(&mut self, batch: u32, outcome: &AckOutcome, wakes: &mut DueWakers) {
        self.batches.give_up(batch);
        self.slots.give_up(self.batches.records(batch));
        self.answer_all(batch, outcome, wakes);
    }

    /// Gives every record of a batch that has none this outcome; stored records get consecutive sequences.
    fn answer_all(&mut self, batch: u32, outcome: &AckOutcome, wakes: &mut DueWakers) {
        let (count, bytes) = self.slots.answer(self.batches.records(batch), outcome);
        self.release(count, bytes);
        self.whole(batch, wakes);
    }

    /// Completes a batch: its last record has its outcome.
    fn whole(&mut self, batch: u32, wakes: &mut DueWakers) {
        match self.batches.whole(batch) {
            Ok(waker) => wakes.0.extend(waker),
            Err(abandoned) => self.slots.free(abandoned, drop),
        }
    }

    fn release(&mut self, messages: usize, bytes: usize) {
        debug_assert!(self.messages >= messages && self.bytes >= bytes, "only what was taken is given back");
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Wakes the first request in the queue, if there is room for its first record.
    fn wake_next(&mut self, wakes: &mut DueWakers) {
        if let Some(need) = self.turns.first_need()
            && self.fits(need)
        {
            wakes.0.extend(self.turns.take_first_waker());
        }
    }
}
