//! The batches of a window: a slab, and a list of the open ones in the order of opening.

use super::{
    AckMode,
    slots::{List, NONE},
};
use crate::wire::jetstream::{
    atomic::BatchId,
    token::{SLOTS, Token},
};
use std::task::{Poll, Waker};

/// Names a batch until it is taken or abandoned, and no other one afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchKey {
    index: u32,
    generation: u32,
}

impl BatchKey {
    pub(super) fn index(self) -> u32 {
        self.index
    }
}

/// Where a batch is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// Records are in flight.
    Open,
    /// Records are in flight, and no requester waits for them.
    Abandoned,
    /// Every record has its outcome, and the requester is to take them.
    Whole,
}

#[derive(Debug)]
pub(super) struct Batches {
    slab: Vec<Batch>,
    /// First of the free batches.
    free: u32,
    /// Ends of the list of batches with records in flight.
    oldest: u32,
    youngest: u32,
}

#[derive(Debug)]
struct Batch {
    generation: u32,
    state: State,
    records: List,
    in_flight: u32,
    tag: u32,
    deadline_ms: u64,
    waker: Option<Waker>,
    /// How its records are answered.
    ack_mode: AckMode,
    /// The slot that the next answer to the batch's own token is for.
    unanswered: u32,
    /// Changes when the batch is given up with records unanswered, and with every use that is once: an answer that
    /// comes later is recognised by it.
    turn: u32,
    /// Whether nobody else may have the batch's token.
    once: bool,
    /// Whether it was in flight when those in flight were marked.
    marked: bool,
    /// The id of an atomic batch: the answer to its commit names it.
    id: Option<BatchId>,
    older: u32,
    /// Also the next of the free batches.
    younger: u32,
}

impl Default for Batches {
    fn default() -> Self {
        Self { slab: Vec::new(), free: NONE, oldest: NONE, youngest: NONE }
    }
}

impl Batches {
    /// Opens a batch without records. [`Batches::opened`] must follow.
    pub(super) fn open(&mut self, tag: u32, deadline_ms: u64) -> BatchKey {
        let index = self.unused();
        let generation = self.at(index).map_or(0, |batch| batch.generation);
        if let Some(batch) = self.at_mut(index) {
            *batch = Batch { state: State::Open, tag, deadline_ms, ..Batch::free(generation, batch.turn, NONE) };
        }
        BatchKey { index, generation }
    }

    /// Sets the records of a batch that are in flight. Without any, the batch is complete from the start.
    pub(super) fn opened(&mut self, index: u32, records: List, in_flight: u32, (ack_mode, once): (AckMode, bool)) {
        let youngest = self.youngest;
        let Some(batch) = self.at_mut(index) else { return };
        (batch.records, batch.in_flight, batch.ack_mode, batch.once) = (records, in_flight, ack_mode, once);
        batch.unanswered = records.first();
        if in_flight == 0 {
            batch.state = State::Whole;
            return;
        }
        batch.older = youngest;
        match self.at_mut(youngest) {
            Some(older) => older.younger = index,
            None => self.oldest = index,
        }
        self.youngest = index;
    }

    /// Returns the records of a batch.
    pub(super) fn records(&self, index: u32) -> List {
        self.at(index).map_or(List::EMPTY, |batch| batch.records)
    }

    /// Returns whether another batch can be opened: as many can as there can be records.
    pub(super) fn has_room(&self) -> bool {
        self.free != NONE || self.slab.len() < SLOTS
    }

    /// Returns the oldest batch with records in flight.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Returns when the records of a batch are given up.
    pub(super) fn deadline_ms(&self, index: u32) -> Option<u64> {
        self.at(index).map(|batch| batch.deadline_ms)
    }

    /// Returns the next younger batch with records in flight.
    pub(super) fn younger(&self, index: u32) -> Option<u32> {
        self.at(index).map(|batch| batch.younger).filter(|younger| *younger != NONE)
    }

    /// Marks the batches with records in flight.
    pub(super) fn mark(&mut self) {
        let mut next = self.oldest();
        while let Some(index) = next {
            next = self.younger(index);
            if let Some(batch) = self.at_mut(index) {
                batch.marked = true;
            }
        }
    }

    /// Returns the number of records without an outcome in batches that are marked: the oldest ones.
    pub(super) fn marked_in_flight(&self) -> usize {
        let oldest = std::iter::successors(self.at(self.oldest), |batch| self.at(batch.younger));
        oldest.take_while(|batch| batch.marked).map(|batch| batch.in_flight as usize).sum()
    }

    pub(super) fn tag(&self, index: u32) -> Option<u32> {
        self.at(index).map(|batch| batch.tag)
    }

    /// Returns the records of the batch that the key names, and its state.
    pub(super) fn find(&self, key: BatchKey) -> Option<(List, State)> {
        let batch = self.at(key.index).filter(|batch| batch.generation == key.generation)?;
        Some((batch.records, batch.state))
    }

    /// Returns the token of all records of a batch.
    pub(super) fn token(&self, index: u32) -> Option<Token> {
        self.at(index).map(|batch| Token::of_batch(index, batch.turn))
    }

    /// Returns the batch that a token of all its records names, and how it is answered. `None` if it names none in
    /// flight.
    pub(super) fn shared(&self, token: Token) -> Option<(u32, AckMode)> {
        let index = u32::try_from(token.index()).ok().filter(|_| token.is_shared())?;
        let batch = self.at(index).filter(|batch| batch.turn == token.generation())?;
        let in_flight = matches!(batch.state, State::Open | State::Abandoned) && batch.ack_mode != AckMode::PerRecord;
        in_flight.then_some((index, batch.ack_mode))
    }

    /// Sets the id of the batch that the key names.
    pub(super) fn call(&mut self, key: BatchKey, id: BatchId) {
        if let Some(batch) = self.at_mut(key.index).filter(|batch| batch.generation == key.generation) {
            batch.id = Some(id);
        }
    }

    /// Returns whether the batch has this id.
    pub(super) fn is_called(&self, index: u32, id: &[u8]) -> bool {
        self.at(index).and_then(|batch| batch.id.as_ref()).is_some_and(|own| own.as_bytes() == id)
    }

    /// Returns the slot that the next answer to the batch's own token is for.
    pub(super) fn unanswered(&self, index: u32) -> u32 {
        self.at(index).map_or(NONE, |batch| batch.unanswered)
    }

    /// Returns the number of records without an outcome.
    pub(super) fn in_flight(&self, index: u32) -> u32 {
        self.at(index).map_or(0, |batch| batch.in_flight)
    }

    /// Sets the slot that the next answer to the batch's own token is for.
    pub(super) fn answered_up_to(&mut self, index: u32, next: u32) {
        if let Some(batch) = self.at_mut(index) {
            batch.unanswered = next;
        }
    }

    /// Gives up the records of a batch that have no outcome.
    pub(super) fn give_up(&mut self, index: u32) {
        if let Some(batch) = self.at_mut(index) {
            batch.turn = batch.turn.wrapping_add(1);
        }
    }

    /// Counts one more record that has its outcome. Returns whether it was the last.
    pub(super) fn record_done(&mut self, index: u32) -> bool {
        let Some(batch) = self.at_mut(index) else { return false };
        debug_assert!(batch.in_flight > 0, "a record in flight is of a batch with records in flight");
        batch.in_flight = batch.in_flight.saturating_sub(1);
        batch.in_flight == 0
    }

    /// Completes a batch, every record of which has its outcome. Returns the waker of the requester that waits, or the
    /// records of a batch that was abandoned (it is free now).
    pub(super) fn whole(&mut self, index: u32) -> Result<Option<Waker>, List> {
        self.unlink(index);
        let Some(batch) = self.at_mut(index) else { return Ok(None) };
        batch.in_flight = 0;
        if batch.state == State::Abandoned {
            let records = batch.records;
            self.free(index);
            return Err(records);
        }
        batch.state = State::Whole;
        Ok(batch.waker.take())
    }

    pub(super) fn poll(&mut self, key: BatchKey, waker: &Waker) -> Poll<()> {
        match self.at_mut(key.index) {
            Some(batch) if batch.generation == key.generation && batch.state == State::Open => {
                match &mut batch.waker {
                    Some(known) => known.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    pub(super) fn abandon(&mut self, index: u32) {
        if let Some(batch) = self.at_mut(index) {
            batch.state = State::Abandoned;
            batch.waker = None;
        }
    }

    /// Frees a batch that is not in the list of open ones.
    pub(super) fn free(&mut self, index: u32) {
        let free = self.free;
        if let Some(batch) = self.at_mut(index) {
            let turn = batch.turn.wrapping_add(u32::from(batch.once));
            *batch = Batch::free(batch.generation.wrapping_add(1), turn, free);
            self.free = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some((older, younger)) = self.at(index).map(|batch| (batch.older, batch.younger)) else { return };
        match self.at_mut(older) {
            Some(batch) => batch.younger = younger,
            None => self.oldest = younger,
        }
        match self.at_mut(younger) {
            Some(batch) => batch.older = older,
            None => self.youngest = older,
        }
        if let Some(batch) = self.at_mut(index) {
            (batch.older, batch.younger) = (NONE, NONE);
        }
    }

    /// Takes a batch from the free ones, or makes one.
    fn unused(&mut self) -> u32 {
        let free = self.free;
        if let Some(batch) = self.at(free) {
            self.free = batch.younger;
            return free;
        }
        let index = u32::try_from(self.slab.len()).unwrap_or(NONE);
        self.slab.push(Batch::free(0, 0, NONE));
        index
    }

    fn at(&self, index: u32) -> Option<&Batch> {
        self.slab.get(index as usize)
    }

    fn at_mut(&mut self, index: u32) -> Option<&mut Batch> {
        self.slab.get_mut(index as usize)
    }
}

impl Batch {
    fn free(generation: u32, turn: u32, next: u32) -> Self {
        Self {
            generation,
            turn,
            once: false,
            marked: false,
            id: None,
            ack_mode: AckMode::PerRecord,
            unanswered: NONE,
            state: State::Free,
            records: List::EMPTY,
            in_flight: 0,
            tag: 0,
            deadline_ms: 0,
            waker: None,
            older: NONE,
            younger: next,
        }
    }
}

#[cfg(test)]
impl Batches {
    /// Returns the numbers of batches, of free ones, and of those in the list with records in flight; panics if the
    /// lists do not hold together.
    pub(super) fn audit(&self) -> (usize, usize, usize) {
        let (mut free, mut index) = (0, self.free);
        while let Some(batch) = self.at(index) {
            assert_eq!(batch.state, State::Free);
            free += 1;
            assert!(free <= self.slab.len(), "the free list has a ring");
            index = batch.younger;
        }
        let (mut open, mut index, mut older) = (0, self.oldest, NONE);
        while let Some(batch) = self.at(index) {
            assert!(matches!(batch.state, State::Open | State::Abandoned));
            assert!(batch.in_flight > 0 && batch.older == older);
            open += 1;
            assert!(open <= self.slab.len(), "the list of open batches has a ring");
            (older, index) = (index, batch.younger);
        }
        assert_eq!(self.youngest, older);
        (self.slab.len(), free, open)
    }
}
