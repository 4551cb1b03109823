//! The records of a window: a slab of slots, and lists of them in the order of a batch.

use super::AckOutcome;
use crate::wire::jetstream::token::{SLOTS, Token};

/// "No slot" in a list. Larger than any index: no token names such a slot.
pub(super) const NONE: u32 = u32::MAX;

/// A list of slots, linked through the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };

    /// Returns the slot of the first record.
    pub(super) fn first(self) -> u32 {
        self.first
    }
}

/// A record that has got its outcome.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completed {
    pub(super) batch: u32,
    pub(super) bytes: usize,
    /// The slot of the batch's next record.
    pub(super) next: u32,
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Cell>,
    /// First of the free slots.
    free: u32,
}

#[derive(Debug)]
struct Cell {
    /// Changes when a record is given up unanswered, and with every use that is once: an answer that comes later is
    /// recognised by it.
    generation: u32,
    /// Next of the batch, or of the free slots.
    next: u32,
    batch: u32,
    bytes: u32,
    /// Whether the record has a token of its own.
    named: bool,
    /// Whether nobody else may have that token.
    once: bool,
    state: State,
}

/// How a record is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// It has a token of its own.
    pub(super) named: bool,
    /// Nobody else may have that token.
    pub(super) once: bool,
}

#[derive(Debug)]
enum State {
    Free,
    InFlight,
    Done(AckOutcome),
}

impl Slots {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { slots: Vec::with_capacity(capacity), free: NONE }
    }

    /// Opens a slot in flight, at the end of `list`. `None` only if tokens cannot name another slot.
    pub(super) fn open(&mut self, batch: u32, bytes: u32, manner: Manner, list: &mut List) -> Option<Token> {
        let index = self.unused()?;
        let slot = self.at(index)?;
        let generation = slot.generation;
        let Manner { named, once } = manner;
        *slot = Cell { generation, next: NONE, batch, bytes, named, once, state: State::InFlight };
        match self.at(list.last) {
            Some(last) => last.next = index,
            None => list.first = index,
        }
        list.last = index;
        Some(Token::of_slot(index, generation))
    }

    /// Returns whether another record can be opened: tokens can name only so many.
    pub(super) fn has_room(&self) -> bool {
        self.free != NONE || self.slots.len() < SLOTS
    }

    /// Gives a record in flight its outcome. `None` if the token names none.
    pub(super) fn complete(&mut self, token: Token, outcome: AckOutcome) -> Option<Completed> {
        let index = u32::try_from(token.index()).ok()?;
        self.at(index).filter(|slot| slot.named && slot.generation == token.generation())?;
        self.complete_at(index, outcome)
    }

    /// Gives the record in this slot its outcome. `None` if none is in flight there.
    pub(super) fn complete_at(&mut self, index: u32, outcome: AckOutcome) -> Option<Completed> {
        let slot = self.at(index)?;
        if !matches!(slot.state, State::InFlight) {
            return None;
        }
        slot.state = State::Done(outcome);
        Some(Completed { batch: slot.batch, bytes: slot.bytes as usize, next: slot.next })
    }

    /// Changes the generation of each record of the list that is in flight: an answer that comes for it from now on is
    /// late.
    pub(super) fn give_up(&mut self, list: List) {
        let mut index = list.first;
        while let Some(slot) = self.at(index) {
            if matches!(slot.state, State::InFlight) {
                slot.generation = slot.generation.wrapping_add(1);
            }
            index = slot.next;
        }
    }

    /// Gives each record of the list that is in flight this outcome, and consecutive sequences to stored ones. Returns
    /// how many there were, and their bytes.
    pub(super) fn answer(&mut self, list: List, outcome: &AckOutcome) -> (usize, usize) {
        let (mut count, mut bytes, mut index) = (0, 0, list.first);
        while let Some(slot) = self.at(index) {
            if matches!(slot.state, State::InFlight) {
                let outcome = match outcome {
                    AckOutcome::Stored { sequence, duplicate } => {
                        AckOutcome::Stored { sequence: sequence + count as u64, duplicate: *duplicate }
                    }
                    other => other.clone(),
                };
                slot.state = State::Done(outcome);
                count += 1;
                bytes += slot.bytes as usize;
            }
            index = slot.next;
        }
        (count, bytes)
    }

    /// Frees the slots of a complete batch and passes their outcomes to `each`, in order.
    pub(super) fn free(&mut self, list: List, mut each: impl FnMut(AckOutcome)) {
        let mut index = list.first;
        while let Some(slot) = self.at(index) {
            match std::mem::replace(&mut slot.state, State::Free) {
                State::Done(outcome) => each(outcome),
                State::InFlight | State::Free => debug_assert!(false, "the batch is whole"),
            }
            slot.generation = slot.generation.wrapping_add(u32::from(slot.once));
            index = slot.next;
        }
        // The whole list goes in front of the free slots as it is.
        let free = self.free;
        if let Some(last) = self.at(list.last) {
            last.next = free;
            self.free = list.first;
        }
    }

    /// Takes a slot from the free ones, or makes one.
    fn unused(&mut self) -> Option<u32> {
        let free = self.free;
        if let Some(slot) = self.at(free) {
            self.free = slot.next;
            return Some(free);
        }
        let index = u32::try_from(self.slots.len()).ok().filter(|index| (*index as usize) < SLOTS)?;
        self.slots.push(Cell {
            generation: 0,
            next: NONE,
            batch: NONE,
            bytes: 0,
            named: false,
            once: false,
            state: State::Free,
        });
        Some(index)
    }

    fn at(&mut self, index: u32) -> Option<&mut Cell> {
        self.slots.get_mut(index as usize)
    }
}

#[cfg(test)]
impl Slots {
    /// Returns the number of slots, and of free ones; panics if the free list holds one that is not free, or one twice.
    pub(super) fn audit(&self) -> (usize, usize) {
        let (mut free, mut index) = (0, self.free);
        while let Some(slot) = self.slots.get(index as usize) {
            assert!(matches!(slot.state, State::Free));
            free += 1;
            assert!(free <= self.slots.len(), "the free list has a ring");
            index = slot.next;
        }
        assert_eq!(index, NONE);
        assert_eq!(free, self.slots.iter().filter(|slot| matches!(slot.state, State::Free)).count());
        (self.slots.len(), free)
    }

    /// Changes the generations of all slots, as if each had been given up `times`.
    pub(super) fn age(&mut self, times: u32) {
        self.slots.iter_mut().for_each(|slot| slot.generation = slot.generation.wrapping_add(times));
    }
}
